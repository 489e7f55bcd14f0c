//! docs/conformance.md is what the binary prints, and what it says of search is so.

use crate::support::server::shared;
use std::process::Command;

#[test]
fn the_page_is_what_the_binary_makes_of_its_tables() {
    let printed = Command::new(env!("CARGO_BIN_EXE_eds")).arg("conformance").output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let printed = String::from_utf8(printed.stdout).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/conformance.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let differs = printed.lines().zip(committed.lines()).find(|(a, b)| a != b);
    assert!(
        printed == committed,
        "docs/conformance.md is not what the tables say: run `make conformance` and commit it. First: {differs:?}"
    );
}

#[test]
fn every_request_of_the_page_is_answered_as_it_says() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/conformance.md")).unwrap();
    let mut tried = 0;
    for line in page.lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [what, answer, request, ..] = cells.as_slice() else { continue };
        let Some(path) = request.strip_prefix("`GET ").and_then(|rest| rest.strip_suffix('`')) else {
            continue;
        };
        tried += 1;
        let got = shared().request("GET", &format!("/fhir{path}")).send();
        let right = if *answer == "no" { 400..500 } else { 200..201 };
        assert!(right.contains(&got.status), "{what}: {path}: {} {}", got.status, got.text());
    }
    assert!(tried > 25, "{tried} requests");
}
