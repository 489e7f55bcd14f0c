//! The seeds of the fuzz targets, and what they have found before, as ordinary tests. `make test-long` also tries a good many random changes of
//! them, on any compiler; what follows the branches of the program is `make fuzz`.

use crate::bodies;
use crate::number;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

type Body = fn(&[u8]);

const TARGETS: [(&str, Body); 8] = [
    ("json", bodies::json::run),
    ("search", bodies::search::run),
    ("date", bodies::date::run),
    ("fhirpath", bodies::fhirpath::run),
    ("cursor", bodies::cursor::run),
    ("bundle", bodies::bundle::run),
    ("xml", bodies::xml::run),
    ("patch", bodies::patch::run),
];
/// Time for the random changes of each target's seeds.
const LONG: Duration = Duration::from_secs(20);

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{target} has {} seeds", files.len());
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Runs a body; a panic tells the bytes that caused it.
fn run(target: &str, body: Body, bytes: &[u8]) {
    let outcome = std::panic::catch_unwind(|| body(bytes));
    assert!(outcome.is_ok(), "{target}: {:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn every_seed_of_every_fuzz_target_holds_and_so_does_a_part_of_it() {
    for (target, body) in TARGETS {
        for bytes in seeds(target) {
            run(target, body, &bytes);
            for at in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
                run(target, body, &bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 0x15;
                run(target, body, &changed);
            }
        }
    }
}

#[test]
#[ignore = "minutes: make test-long"]
fn random_changes_of_the_seeds_hold() {
    let seed = number("FUZZ_SEED").unwrap_or_else(rand::random);
    for (target, body) in TARGETS {
        let (seeds, begin, mut count) = (seeds(target), Instant::now(), 0);
        let rng = &mut StdRng::seed_from_u64(seed);
        while begin.elapsed() < LONG {
            run(target, body, &changed(rng, &seeds));
            count += 1;
        }
        println!("{target}: {count} inputs, FUZZ_SEED={seed}");
    }
}

/// A seed with some bytes changed, taken away, or put in from another.
fn changed(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).unwrap().clone();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(0..12)).min(bytes.len());
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] = rng.random(),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, *b"{}[]\",:\\0-.|$()=&+eTZ <>/;#'!?".choose(rng).unwrap()),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let other = seeds.choose(rng).unwrap();
                let from = rng.random_range(0..=other.len());
                let part = other[from..(from + rng.random_range(0..60)).min(other.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}
