//! Bad input: JSON that is none, that is no FHIR, and Bundles that are broken.
//! A 4xx with an OperationOutcome, in bounded time, and nothing stored; never a 5xx.
//! Spec: <https://hl7.org/fhir/R4/http.html#Status-Codes>, <https://hl7.org/fhir/R4/json.html>.

use crate::support::http::Answer;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::bare;
use crate::transaction::entry;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

fn post(path: &str, body: impl Into<Vec<u8>>) -> Answer {
    shared().fhir("POST", path).fhir(body).send()
}

#[test]
fn json_that_is_none_is_refused_and_names_the_place() {
    let deep = |open: &str, depth: usize| format!("{{\"resourceType\":\"Patient\",\"x\":{}", open.repeat(depth));
    let begin = Instant::now();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("deep objects", deep("{\"a\":", 100_000).into_bytes()),
        ("deep arrays", deep("[", 100_000).into_bytes()),
        (
            "deep and closed",
            format!("{}1{}}}", deep("[", 100_000), "]".repeat(100_000)).into_bytes(),
        ),
        ("deep from the start", "[".repeat(1_000_000).into_bytes()),
        ("deep closing", "]".repeat(100_000).into_bytes()),
        (
            "duplicate keys",
            br#"{"resourceType":"Patient","gender":"male","gender":"female"}"#.to_vec(),
        ),
        (
            "duplicate type",
            br#"{"resourceType":"Patient","resourceType":"Observation"}"#.to_vec(),
        ),
        (
            "duplicate keys by escapes",
            br#"{"resourceType":"Patient","gender":"male","g\u0065nder":"female"}"#.to_vec(),
        ),
        (
            "NUL escaped",
            br#"{"resourceType":"Patient","name":[{"family":"a\u0000b"}]}"#.to_vec(),
        ),
        (
            "NUL raw",
            b"{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"a\0b\"}]}".to_vec(),
        ),
        (
            "control character",
            b"{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"a\x01b\"}]}".to_vec(),
        ),
        (
            "lone surrogate",
            br#"{"resourceType":"Patient","name":[{"family":"\ud800"}]}"#.to_vec(),
        ),
        (
            "surrogates reversed",
            br#"{"resourceType":"Patient","name":[{"family":"\udc00\ud800"}]}"#.to_vec(),
        ),
        (
            "invalid UTF-8",
            b"{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"\xff\xfe\"}]}".to_vec(),
        ),
        (
            "overlong UTF-8",
            b"{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"\xc0\xaf\"}]}".to_vec(),
        ),
        (
            "UTF-16",
            "{\"resourceType\":\"Patient\"}".encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        ("byte order mark", b"\xef\xbb\xbf{\"resourceType\":\"Patient\"}".to_vec()),
        ("empty", Vec::new()),
        ("white space", b" \n\t ".to_vec()),
        ("cut short", br#"{"resourceType":"Patient","name":[{"fam"#.to_vec()),
        ("two values", br#"{"resourceType":"Patient"}{"resourceType":"Patient"}"#.to_vec()),
        ("trailing comma", br#"{"resourceType":"Patient",}"#.to_vec()),
        ("single quotes", br#"{'resourceType':'Patient'}"#.to_vec()),
        ("NaN", br#"{"resourceType":"Patient","x":NaN}"#.to_vec()),
        ("leading zero", br#"{"resourceType":"Patient","multipleBirthInteger":01}"#.to_vec()),
        ("comment", br#"{"resourceType":"Patient"/* */}"#.to_vec()),
        ("null", b"null".to_vec()),
        ("number", b"1e1000000000".to_vec()),
        ("array", br#"[{"resourceType":"Patient"}]"#.to_vec()),
        ("no type", br#"{"name":[{"family":"x"}]}"#.to_vec()),
        ("type is no string", br#"{"resourceType":1}"#.to_vec()),
        ("another type", br#"{"resourceType":"Observation"}"#.to_vec()),
        ("XML", b"<Patient xmlns=\"http://hl7.org/fhir\"/>".to_vec()),
    ];
    for (what, body) in cases {
        let told = post("/Patient", body.clone()).refused(400);
        assert!(told.len() < 400, "{what}: {told}");
        let status = post("", body.clone()).status;
        assert!(matches!(status, 400 | 422), "{what} as a Bundle: {status}");
        let status = shared().fhir("PUT", "/Patient/hostile").fhir(body).send().status;
        assert!(matches!(status, 400 | 422), "{what} as an update: {status}");
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    shared().get("/Patient/hostile").refused(404);
}

#[test]
fn numbers_beyond_all_bounds_are_refused_and_never_expanded() {
    let value = |number: &str| {
        format!(
            "{{\"resourceType\":\"Observation\",\"status\":\"final\",\"code\":{{\"text\":\"x\"}},\"valueQuantity\":{{\"value\":{number}}}}}"
        )
    };
    for number in [
        "1e1000000000",
        "-1e1000000000",
        "1e-1000000000",
        "1e99999999999999999999",
        &"9".repeat(1_000_000),
        &format!("0.{}", "1".repeat(1_000_000)),
    ] {
        let answer = post("/Observation", value(number));
        // A decimal of any length is FHIR; what is stored must come back.
        assert!(
            matches!(answer.status, 201 | 400 | 422),
            "{}: {}",
            &number[..20.min(number.len())],
            answer.status
        );
        if answer.status == 201 {
            let id = answer.json()["id"].as_str().unwrap().to_owned();
            assert!(shared().get(&format!("/Observation/{id}")).expect(200).text().contains(number));
        }
    }
    for (member, number) in [
        ("multipleBirthInteger", "2147483648"),
        ("multipleBirthInteger", "1.5"),
        ("multipleBirthInteger", "1e2"),
        ("multipleBirthInteger", "\"1\""),
    ] {
        let body = format!("{{\"resourceType\":\"Patient\",\"{member}\":{number}}}");
        assert!(matches!(post("/Patient", body).status, 400 | 422), "{number}");
    }
}

#[test]
fn resources_that_are_not_fhir_are_refused_with_the_element_named() {
    for (body, element) in [
        (json!({"resourceType": "Patient", "nosuch": 1}), "Patient.nosuch"),
        (json!({"resourceType": "Patient", "name": "Rossi"}), "Patient.name"),
        (
            json!({"resourceType": "Patient", "name": [{"family": ["x"]}]}),
            "Patient.name[0].family",
        ),
        (json!({"resourceType": "Patient", "gender": "strange"}), "Patient.gender"),
        (json!({"resourceType": "Patient", "birthDate": "yesterday"}), "Patient.birthDate"),
        (json!({"resourceType": "Patient", "active": "true"}), "Patient.active"),
        (json!({"resourceType": "Patient", "name": []}), "Patient.name"),
        (json!({"resourceType": "Patient", "name": [null]}), "Patient.name[0]"),
        (json!({"resourceType": "Patient", "gender": ""}), "Patient.gender"),
        (json!({"resourceType": "Patient", "gender": null}), "Patient.gender"),
        (
            json!({"resourceType": "Patient", "deceasedBoolean": true, "deceasedDateTime": "2020"}),
            "Patient.deceased",
        ),
        (
            json!({"resourceType": "Patient", "managingOrganization": {"reference": "Patient/1"}}),
            "Patient.managingOrganization",
        ),
        (
            json!({"resourceType": "Patient", "contained": [{"nosuch": 1}]}),
            "Patient.contained[0]",
        ),
        (json!({"resourceType": "Patient", "_gender": {"nosuch": 1}}), "Patient.gender"),
        (
            json!({"resourceType": "Patient", "extension": [{"valueString": "x"}]}),
            "Patient.extension[0].url",
        ),
    ] {
        let answer = post("/Patient", body.to_string());
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        let outcome = answer.json();
        let expressions: Vec<&str> = outcome["issue"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|i| i["expression"][0].as_str())
            .collect();
        assert!(
            expressions.iter().any(|e| e.starts_with(element)),
            "{body}: {expressions:?} is not {element}"
        );
        assert!(!outcome.to_string().contains("Rossi"), "no value is told");
    }
    // Cardinality: status and code are mandatory.
    let outcome = post("/Observation", r#"{"resourceType":"Observation"}"#).expect(422).json();
    assert_eq!(outcome["issue"].as_array().unwrap().len(), 2, "{outcome}");
}

#[test]
fn deep_but_legal_resources_are_refused_beyond_a_limit_and_taken_below() {
    let nested = |depth: usize| {
        let (open, close) = (r#"{"url":"urn:x","extension":["#.repeat(depth), "]}".repeat(depth));
        format!(r#"{{"resourceType":"Patient","extension":[{open}{{"url":"urn:x","valueBoolean":true}}{close}]}}"#)
    };
    post("/Patient", nested(20)).expect(201);
    post("/Patient", nested(10_000)).refused(400);
}

#[test]
fn broken_bundles_are_refused_whole() {
    let server = shared();
    let mrn = unique();
    let good = || {
        entry(
            "POST",
            "Patient",
            json!({"resourceType": "Patient", "identifier": [{"system": "urn:broken", "value": mrn}]}),
        )
    };
    for (what, bad) in [
        ("a string for an entry", json!("x")),
        ("null for an entry", json!(null)),
        ("an array for an entry", json!([])),
        ("request is a string", json!({"request": "POST Patient"})),
        (
            "url with a host",
            entry("POST", "http://evil.example/fhir/Patient", json!({"resourceType": "Patient"})),
        ),
        ("url with dots", bare("DELETE", "Patient/../Patient/1")),
        ("url of the whole", bare("DELETE", "")),
        ("url with NUL", bare("DELETE", "Patient/\u{0}")),
        ("url with SQL", bare("DELETE", "Patient/1'; drop table resource; --")),
        (
            "criteria with NUL",
            entry("PUT", "Patient?identifier=\u{0}", json!({"resourceType": "Patient"})),
        ),
        (
            "criteria unknown",
            entry("PUT", "Patient?nosuch=1", json!({"resourceType": "Patient"})),
        ),
        (
            "ifNoneExist unknown",
            json!({"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient", "ifNoneExist": "nosuch=1"}}),
        ),
        (
            "id too long",
            entry(
                "PUT",
                &format!("Patient/{}", "a".repeat(65)),
                json!({"resourceType": "Patient", "id": "a".repeat(65)}),
            ),
        ),
        ("method in lower case", entry("post", "Patient", json!({"resourceType": "Patient"}))),
        (
            "resource is null",
            json!({"resource": null, "request": {"method": "POST", "url": "Patient"}}),
        ),
        (
            "unknown member",
            json!({"nosuch": 1, "request": {"method": "DELETE", "url": "Patient/1"}}),
        ),
        (
            "Bundle in Bundle unknown",
            entry("POST", "Bundle", json!({"resourceType": "Bundle", "type": "nonsense"})),
        ),
    ] {
        let answer = server.bundle("transaction", vec![good(), bad]);
        assert!(
            matches!(answer.status, 400 | 404 | 412 | 413 | 422),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert_eq!(server.count(&format!("Patient?identifier=urn:broken|{mrn}")), 0);
    let many: Vec<_> = (0..10_001).map(|_| bare("DELETE", "Basic/none")).collect();
    let answer = server.bundle("transaction", many);
    assert!(matches!(answer.status, 413 | 422), "{}", answer.status);
    let entry_is_object = server.post("", &json!({"resourceType": "Bundle", "type": "transaction", "entry": {}}));
    assert!(matches!(entry_is_object.status, 400 | 422));
}
