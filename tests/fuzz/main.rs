//! Fuzzing: requests made from the definitions, sent to a real server, and the seeds of the fuzz targets (`fuzz/`).
//!
//! `make test` sends a few, always the same; `make test-long` sends 20,000 with a new seed and writes `target/faults/grammar-fuzzer.json`.
//! A failure prints seed, client and step: `FUZZ_SEED=... FUZZ_CLIENT=...` repeats that client's requests alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/lib.rs"]
mod bodies;
mod check;
mod requests;
mod resources;
mod run;
mod searches;
mod seeds;
mod services;
#[allow(dead_code, reason = "the harness of tests/api, of which this needs a part")]
#[path = "../support/mod.rs"]
mod support;
mod tree;
mod values;
mod xml;

use crate::requests::Call;
use crate::run::Plan;
use crate::run::Report;
use crate::run::run;
use crate::run::server;
use crate::support::database::Session;
use crate::support::http::Answer;
use serde_json::json;
use std::time::Duration;

/// The gate of every change sends the same requests each time: what it finds is of the change.
const SHORT_SEED: u64 = 20_261_125;
const SHORT_REQUESTS: usize = 1_500;
const LONG_REQUESTS: usize = 20_000;
/// Most memory that the server may ever hold: far above what it needs, far below what would say that it keeps what it should not.
const MEMORY_KB_MAX: u64 = 1_500_000;

#[expect(clippy::disallowed_methods, reason = "how a person repeats a run")]
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn fuzz(seed: u64, requests: usize) -> (u64, Report) {
    let seed = number("FUZZ_SEED").unwrap_or(seed);
    let plan = Plan {
        seed,
        requests,
        only_client: number("FUZZ_CLIENT").map(|client| client as usize),
    };
    let (server, dir) = server();
    let report = run(&server, &dir, &plan);
    println!("{:#}\n{:?}", report.figures(seed), report.by_kind);
    (seed, report)
}

fn assert_clean(report: &Report) {
    assert!(
        report.violations.is_empty(),
        "{} violations:\n{}",
        report.violations.len(),
        report.violations.join("\n")
    );
    assert!(
        report.memory_peak_kb > 0 && report.memory_peak_kb < MEMORY_KB_MAX,
        "{} kB",
        report.memory_peak_kb
    );
}

#[test]
fn requests_made_from_the_definitions_are_answered_and_never_with_a_server_failure() {
    let (_, report) = fuzz(SHORT_SEED, SHORT_REQUESTS);
    assert_clean(&report);
    // A fuzzer whose requests are all refused at the door tells nothing.
    let accepted = report.with_status(|status| status < 300);
    assert!(accepted * 3 > report.requests, "{accepted} of {} accepted", report.requests);
    assert!(report.read_back > 100, "{} read back", report.read_back);
}

#[test]
#[ignore = "minutes: make test-long"]
fn twenty_thousand_requests_made_from_the_definitions_find_nothing() {
    let (seed, report) = fuzz(rand::random(), LONG_REQUESTS);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/faults");
    std::fs::create_dir_all(folder).unwrap();
    let figures = json!({"name": "grammar-fuzzer", "figures": report.figures(seed)});
    std::fs::write(format!("{folder}/grammar-fuzzer.json"), format!("{figures:#}\n")).unwrap();
    assert_clean(&report);
}

#[test]
fn a_server_whose_statements_fail_is_reported() {
    let (server, dir) = server();
    Session::open(&dir).execute("alter table string_index rename to string_index_gone");
    let plan = Plan {
        seed: SHORT_SEED,
        requests: 200,
        only_client: None,
    };
    let report = run(&server, &dir, &plan);
    for sign in ["status 500", "database error 42"] {
        assert!(
            report.violations.iter().any(|v| v.contains(sign)),
            "{sign}: {:?}",
            report.violations
        );
    }
}

#[test]
fn every_check_of_an_answer_can_fail() {
    let call = |kind: &'static str, target: &str| Call {
        kind,
        method: "GET",
        target: target.to_owned(),
        headers: Vec::new(),
        body: Some(br#"{"entry":[1,2]}"#.to_vec()),
        writes: None,
    };
    let answer = |status: u16, media_type: &str, body: &str| Answer {
        status,
        headers: vec![("content-type".to_owned(), media_type.to_owned())],
        body: body.as_bytes().to_vec(),
    };
    let fhir = "application/fhir+json; charset=utf-8";
    let outcome = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error"}]}"#;
    let found = r#"{"resourceType":"Bundle","entry":[{"search":{"mode":"match"},"resource":{"resourceType":"Basic"}}]}"#;
    let quick = Duration::from_millis(1);
    for (call, answer, took, wrong) in [
        (call("read", "/fhir/Patient/1"), answer(500, fhir, outcome), quick, "status 500"),
        (call("read", "/fhir/Patient/1"), answer(503, fhir, outcome), quick, "status 503"),
        (
            call("read", "/fhir/Patient/1"),
            answer(404, fhir, outcome),
            Duration::from_secs(21),
            "it took",
        ),
        (
            call("read", "/fhir/Patient/1"),
            answer(404, "text/plain", "not found"),
            quick,
            "no JSON",
        ),
        (call("read", "/fhir/Patient/1"), answer(404, fhir, "{}"), quick, "a failure with a"),
        (
            call("read", "/fhir/Patient/1"),
            answer(404, fhir, r#"{"resourceType":"OperationOutcome"}"#),
            quick,
            "without an issue",
        ),
        (
            call("read", "/fhir/Patient/1"),
            answer(200, fhir, "{}"),
            quick,
            "without a resourceType",
        ),
        (
            call("read", "/fhir/Patient/1"),
            answer(200, "application/fhir+xml", "<Patient"),
            quick,
            "no XML",
        ),
        (
            call("read", "/fhir/Patient/1"),
            answer(
                404,
                "application/fhir+xml",
                "<Basic xmlns=\"http://hl7.org/fhir\"><id value=\"a\"/></Basic>",
            ),
            quick,
            "a failure with a Basic",
        ),
        (
            call("read", "/fhir/Patient/1"),
            answer(200, "text/html", "{}"),
            quick,
            "FHIR as text/html",
        ),
        (
            call("ingestion status", "/v1/status/1"),
            answer(404, fhir, outcome),
            quick,
            "a failure as",
        ),
        (
            call("ingestion status", "/v1/status/1"),
            answer(404, "application/problem+json", "{\"status\":400}"),
            quick,
            "a problem with status 400",
        ),
        (
            call("changed cursor", "/fhir/Patient?_cursor=x"),
            answer(200, fhir, found),
            quick,
            "cursor is accepted",
        ),
        (
            call("search", "/fhir/Patient?name=x"),
            answer(200, fhir, found),
            quick,
            "a search on Patient finds",
        ),
        (
            call("transaction", "/fhir"),
            answer(200, fhir, found),
            quick,
            "1 answers to 2 entries",
        ),
    ] {
        let told = check::answer(&call, &answer, took);
        assert!(told.iter().any(|t| t.contains(wrong)), "{wrong}: {told:?}");
    }
    let sent = r#"{"resourceType":"Basic","id":"a","code":{"text":"x"},"meta":{"versionId":"7"},"extension":[{"valueDecimal":1.0}]}"#;
    for (got, wrong) in [
        (answer(404, fhir, outcome), "answered with 404"),
        (answer(200, fhir, &sent.replace("\"x\"", "\"y\"")), "reads otherwise"),
        (answer(200, fhir, &sent.replace("1.0", "1.00")), "another text"),
    ] {
        let told = check::stored(sent, &got);
        assert!(told.iter().any(|t| t.contains(wrong)), "{wrong}: {told:?}");
    }
    assert_eq!(check::stored(sent, &answer(200, fhir, sent)), [""; 0]);
    for line in [
        "thread 'x' panicked at",
        "2026 ERROR request failed",
        "database error 22P02",
        "search for quattrocchi",
    ] {
        assert_eq!(check::log(line).len(), 1, "{line}");
    }
    assert_eq!(check::log("2026-11-25 INFO eds: started"), [""; 0]);
}
