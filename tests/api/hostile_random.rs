//! Bad input: two thousand requests made of odd parts.
//! A 4xx with an OperationOutcome, in bounded time, and nothing stored; never a 5xx.
//! Spec: <https://hl7.org/fhir/R4/http.html#Status-Codes>, <https://hl7.org/fhir/R4/json.html>.

use crate::support::http::Answer;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::unique;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;

/// A request made of odd parts.
fn odd(server: &Server, rng: &mut StdRng, marker: &str) -> Option<Answer> {
    let words = [
        "Patient",
        "Observation",
        "_search",
        "_history",
        "$validate",
        "$changes",
        "metadata",
        "1",
        "x",
        "..",
        "%2f",
        "%00",
        "é",
        "'",
        "_id",
        "Bundle",
        "",
        "*",
        "-1",
        "1e9",
        "a b",
        "Basic",
    ];
    let names = [
        "name",
        "identifier",
        "_sort",
        "_include",
        "_has:Observation:patient:code",
        "birthdate",
        "code",
        "value-quantity",
        "_count",
        "_cursor",
        "_elements",
        "_summary",
        "date",
        "subject:Patient.name",
        "_lastUpdated",
        "url:below",
        "gender:not",
        "_tag",
        "_format",
        "_total",
        "family:exact",
        "_since",
        "region",
        "after",
        "nosuch",
        "",
    ];
    let values = [
        "",
        "x",
        "1",
        "-",
        ",",
        "|",
        "||",
        "$",
        "\\",
        "ge2024",
        "2024-13",
        "1e400",
        "null",
        "true",
        "Patient:organization",
        "*",
        "*:*",
        "a|b|c",
        "urn:x|",
        "'",
        "%",
        "_",
        "\u{0}",
        "é",
        "json",
        "xml",
        "ap",
        "gtgt",
        "5.4||mg",
        "~",
        "9999999999999999999999",
        "-0",
        "2024-01-01T00:00:00+99:00",
        "Patient/1/_history/2",
        "http://",
        "Patient/",
        "/",
    ];
    let pick = |rng: &mut StdRng, from: &[&str]| (*from.choose(rng).unwrap()).to_owned();
    let mut path: Vec<String> = vec![pick(rng, &["Patient", "Observation", "Basic", "ValueSet", ""])];
    path.extend((0..rng.random_range(0..3)).map(|_| pick(rng, &words)));
    let mut query = form_urlencoded::Serializer::new(String::new());
    for _ in 0..rng.random_range(0..4) {
        query.append_pair(
            &pick(rng, &names),
            &(0..rng.random_range(1..3)).map(|_| pick(rng, &values)).collect::<String>(),
        );
    }
    let path: String = path
        .join("/")
        .chars()
        .map(|c| if c == ' ' { "%20".to_owned() } else { c.to_string() })
        .collect();
    let target = format!(
        "/{}/{path}?{}",
        pick(rng, &["fhir", "fhir", "fhir", "rda", "regions", "v1"]),
        query.finish()
    );
    let mut request = server.request(
        &pick(rng, &["GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]),
        &target,
    );
    for (name, value) in [
        ("if-match", "W/\"1\""),
        ("if-match", "x"),
        ("if-none-match", "*"),
        ("if-none-exist", "identifier=x"),
        ("if-none-exist", "'"),
        ("prefer", "handling=lenient"),
        ("accept", "text/html"),
        ("accept", "*/*"),
        ("content-encoding", "gzip"),
    ] {
        if rng.random_bool(0.1) {
            request = request.header(name, value);
        }
    }
    if rng.random_bool(0.6) {
        request = request.body(
            &pick(
                rng,
                &[
                    "application/fhir+json",
                    "application/json",
                    "text/plain",
                    "application/x-www-form-urlencoded",
                    "x",
                ],
            ),
            body(rng, marker),
        );
    }
    request.try_send().ok()
}

/// A valid resource with some of its bytes changed, dropped or doubled, or one that is wrong in its structure.
fn body(rng: &mut StdRng, marker: &str) -> Vec<u8> {
    let whole = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "identifier": [{"value": marker}], "name": [{"family": marker, "given": ["x"]}], "nosuch": 1}, "request": {"method": "POST", "url": "Patient"}},
        {"resource": {"resourceType": "Observation", "status": "wrong", "subject": {"reference": "urn:uuid:1"}}, "request": {"method": "PUT", "url": "Observation?identifier=x"}}]});
    let mut bytes = if rng.random_bool(0.5) {
        whole.to_string()
    } else {
        whole["entry"][0]["resource"].to_string()
    }
    .into_bytes();
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..4) {
            0 => bytes[at] = rng.random(),
            1 => bytes.truncate(at.max(1)),
            2 => bytes.insert(at, *b"{}[]\",:\\0".choose(rng).unwrap()),
            _ => {
                let end = (at + rng.random_range(1..40)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

#[test]
fn two_thousand_odd_requests_get_no_5xx_and_store_nothing() {
    let server = shared();
    let seed: u64 = rand::random();
    let marker = unique();
    let rng = &mut StdRng::seed_from_u64(seed);
    for i in 0..2_000 {
        let Some(answer) = odd(server, rng, &marker) else { continue };
        // What is not there yet says so.
        assert!(
            answer.status < 500 || answer.status == 501,
            "seed {seed}, request {i}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        if answer.status >= 400 && !answer.body.is_empty() && answer.header("content-type").is_some_and(|t| t.contains("fhir")) {
            assert!(answer.text().contains("OperationOutcome"), "seed {seed}, request {i}");
        }
    }
    assert_eq!(server.count(&format!("Patient?identifier={marker}")), 0, "seed {seed}");
    assert_eq!(server.count(&format!("Patient?family={marker}")), 0, "seed {seed}");
    server.get("/metadata").expect(200);
}
