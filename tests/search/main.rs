//! Searches made at random, answered by the server and by a second, slow evaluator over the JSON: they must agree.
//!
//! `make test` runs 20,000 searches, always the same; `make test-long` 200,000 with a new seed. A failure prints its seed, the smallest search that
//! shows it, and the resources on which the two differ; `SEARCH_SEED=n` repeats the run. Each disagreement that was found is a case in `named.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod codes;
mod contained;
mod evaluator;
mod features;
mod fhirpath;
mod filter;
mod filters;
mod named;
mod near;
mod population;
mod queries;
mod ranges;
mod results;
mod run;
mod scopes;
mod spelling;
#[allow(dead_code, reason = "the harness of tests/api, of which this needs a part")]
#[path = "../support/mod.rs"]
mod support;
mod terminology;
mod values;
mod words;

use crate::run::Plan;
use crate::run::Report;
use crate::run::run;

/// The gate of every change asks the same each time: what it finds is of the change.
const SHORT_SEED: u64 = 20_261_125;
const SHORT: usize = 20_000;
const LONG: usize = 200_000;
/// Searches on one population.
const OF_POPULATION: usize = 5_000;

#[expect(clippy::disallowed_methods, reason = "how a person repeats a run")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn agree(seed: u64, searches: usize) {
    let plan = Plan {
        seed: number("SEARCH_SEED").unwrap_or(seed),
        populations: (searches / OF_POPULATION).max(1),
        searches,
    };
    let report = run(&plan);
    report.print(plan.seed);
    check(&report, plan.seed);
}

fn check(report: &Report, seed: u64) {
    assert!(
        report.disagreements.is_empty(),
        "seed {seed}: {} of {} searches disagree:\n{}",
        report.disagreements.len(),
        report.searches,
        report.disagreements[..report.disagreements.len().min(400)].join("\n")
    );
    // Of searches that find nothing, or of resources that are not there, an agreement tells nothing.
    assert!(
        report.without_result * 100 < report.searches * 60,
        "{} without result",
        report.without_result
    );
    assert!(
        report.refused.len() * 20 < report.resources,
        "{} resources refused, such as {}",
        report.refused.len(),
        report.refused[0]
    );
    let lacking = report.counts.too_few(report.searches);
    assert!(lacking.is_empty(), "too few searches of a kind:\n{}", lacking.join("\n"));
}

#[test]
fn random_searches_find_what_the_evaluator_finds() {
    agree(SHORT_SEED, number("SEARCH_COUNT").map_or(SHORT, |count| count as usize));
}

#[test]
#[ignore = "minutes: make test-long"]
fn two_hundred_thousand_random_searches_find_what_the_evaluator_finds() {
    agree(rand::random(), LONG);
}
