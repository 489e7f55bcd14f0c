//! PATCH by JSON Patch and by FHIRPath Patch, alone, conditional and in Bundles.
//! Spec: <https://hl7.org/fhir/R4/http.html#patch>, <https://hl7.org/fhir/R4/fhirpatch.html>. What the patches themselves do is tabled in
//! `src/fhir/patch/tests.rs`.

use crate::ministry::referto;
use crate::support::http::Answer;
use crate::support::http::Request;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::place;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

fn json_patch(server: &Server, path: &str, patch: &Value) -> Request {
    server.fhir("PATCH", path).body("application/json-patch+json", patch.to_string())
}

/// A FHIRPath Patch of one operation, with its parts as they stand.
fn parameters(parts: Value) -> Value {
    json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]})
}

fn replace(path: &str, value: Value) -> Value {
    let mut part = value;
    part["name"] = json!("value");
    parameters(json!([{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": path}, part]))
}

fn binary(patch: &Value) -> Value {
    json!({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": STANDARD.encode(patch.to_string())})
}

fn observation(server: &Server) -> String {
    let text = r#"{"resourceType":"Observation","status":"final","code":{"text":"Via \u0052oma"},"valueQuantity":{"value":1.10,"unit":"mg"},"note":[{"text":"a"}]}"#;
    let created = server.fhir("POST", "/Observation").fhir(text).send().expect(201);
    format!("/Observation/{}", created.json()["id"].as_str().unwrap())
}

#[test]
fn both_forms_change_what_they_name_and_nothing_else() {
    let server = shared();
    let path = observation(server);
    let patched = json_patch(server, &path, &json!([{"op": "replace", "path": "/status", "value": "amended"}]))
        .send()
        .expect(200);
    assert_eq!(patched.header("etag"), Some("W/\"2\""));
    assert!(patched.header("location").unwrap().ends_with(&format!("{path}/_history/2")));
    assert!(patched.header("last-modified").is_some());
    let rest = r#""status":"amended","code":{"text":"Via \u0052oma"},"valueQuantity":{"value":1.10,"unit":"mg"},"note":[{"text":"a"}]}"#;
    assert!(patched.text().ends_with(rest), "{}", patched.text());
    let change = replace("Observation.note[0].text", json!({"valueString": "b"}));
    let patched = server.fhir("PATCH", &path).json(&change).send().expect(200);
    assert_eq!(patched.header("etag"), Some("W/\"3\""));
    let rest = rest.replace(r#""text":"a""#, r#""text":"b""#);
    assert!(patched.text().ends_with(&rest), "{}", patched.text());
    assert_eq!(server.get(&path).expect(200).text(), patched.text());
    // The history has every version, and searches find the newest.
    let history = server.get(&format!("{path}/_history")).expect(200).json();
    assert_eq!(history["entry"].as_array().unwrap().len(), 3);
    assert_eq!(history["entry"][0]["request"]["method"], "PUT");
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(server.count(&format!("Observation?_id={id}&status=amended")), 1);
    assert_eq!(server.count(&format!("Observation?_id={id}&status=final")), 0);
}

#[test]
fn a_patch_that_changes_nothing_is_no_version() {
    let server = shared();
    let path = observation(server);
    let before = server.get(&path).expect(200);
    for patch in [
        json!([]),
        json!([{"op": "test", "path": "/status", "value": "final"}]),
        json!([{"op": "replace", "path": "/valueQuantity/value", "value": 1.10}]),
    ] {
        // What serde_json writes of 1.10 is 1.1.
        let text = patch.to_string().replace("1.1}", "1.10}");
        let answer = server
            .fhir("PATCH", &path)
            .body("application/json-patch+json", text)
            .send()
            .expect(200);
        assert_eq!(answer.header("etag"), Some("W/\"1\""));
        assert_eq!(answer.text(), before.text());
    }
    let none = json!({"resourceType": "Parameters"});
    server.fhir("PATCH", &path).json(&none).send().expect(200);
    assert_eq!(server.get(&path).expect(200).text(), before.text());
}

#[test]
fn what_cannot_be_patched_is_refused_and_stays_as_it_was() {
    let server = shared();
    let path = observation(server);
    let before = server.get(&path).expect(200);
    let cases = [
        (json!({"op": "test"}), 400, "list of operations"),
        (json!([{"op": "replace", "path": "/status"}]), 400, "needs a \"value\""),
        (
            json!([{"op": "test", "path": "/status", "value": "amended"}]),
            422,
            "The test fails",
        ),
        (json!([{"op": "remove", "path": "/nosuch"}]), 422, "nothing at step 1"),
        (json!([{"op": "remove", "path": "/status"}]), 422, "status"),
        (json!([{"op": "replace", "path": "/status", "value": "nosuch"}]), 422, "status"),
        (json!([{"op": "add", "path": "/colour", "value": "red"}]), 422, "no such element"),
        (
            json!([{"op": "replace", "path": "/id", "value": "another"}]),
            422,
            "cannot change the id",
        ),
        (json!([{"op": "remove", "path": "/id"}]), 422, "cannot change the id"),
        (
            json!([{"op": "replace", "path": "/resourceType", "value": "Patient"}]),
            422,
            "cannot change the type",
        ),
        (json!([{"op": "replace", "path": "", "value": 1}]), 422, "cannot change the type"),
        (
            json!([{"op": "add", "path": "/meta/tag", "value": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}]}]),
            422,
            "SUBSETTED",
        ),
        (
            json!([{"op": "replace", "path": "/status", "value": "amended"}, {"op": "remove", "path": "/nosuch"}]),
            422,
            "nothing at step 1",
        ),
    ];
    for (patch, status, expected) in cases {
        let told = json_patch(server, &path, &patch).send().refused(status);
        assert!(told.contains(expected), "{patch}: {told}");
    }
    let cases = [
        (json!({"resourceType": "Patient"}), 400, "Parameters"),
        (
            parameters(json!([{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Observation.children()"}])),
            400,
            "children() is not supported",
        ),
        (replace("Observation.status", json!({"valueString": "nosuch"})), 422, "status"),
        (
            replace("Observation.value.value", json!({"valueString": "much"})),
            422,
            "expected a number",
        ),
        (
            replace("Observation.id", json!({"valueId": "another"})),
            422,
            "cannot change the id",
        ),
        (
            replace("Observation.subject", json!({"valueReference": {"reference": "Patient/1"}})),
            422,
            "selects nothing",
        ),
    ];
    for (patch, status, expected) in cases {
        let told = server.fhir("PATCH", &path).json(&patch).send().refused(status);
        assert!(told.contains(expected), "{patch}: {told}");
    }
    for (media_type, body) in [
        ("application/xml-patch+xml", "<diff/>"),
        ("text/plain", "[]"),
        ("application/merge-patch+json", "{}"),
    ] {
        let answer = server.fhir("PATCH", &path).body(media_type, body).send();
        assert_eq!(
            answer.header("accept-patch"),
            Some("application/json-patch+json, application/fhir+json, application/fhir+xml")
        );
        answer.refused(415);
    }
    assert_eq!(server.get(&path).expect(200).text(), before.text());
}

#[test]
fn a_patch_needs_something_that_is_there_and_if_match_holds_it() {
    let server = shared();
    let patch = json!([{"op": "replace", "path": "/status", "value": "amended"}]);
    json_patch(server, &format!("/Observation/{}", unique()), &patch)
        .send()
        .refused(404);
    json_patch(server, "/Nosuch/1", &patch).send().refused(404);
    let path = observation(server);
    json_patch(server, &path, &patch).header("if-match", "W/\"7\"").send().refused(412);
    json_patch(server, &path, &patch).header("if-match", "W/\"1\"").send().expect(200);
    server.delete(&path).expect(204);
    json_patch(server, &path, &patch).send().refused(410);
    let minimal = observation(server);
    let answer = json_patch(server, &minimal, &patch)
        .header("prefer", "return=minimal")
        .send()
        .expect(200);
    assert_eq!((answer.text(), answer.header("etag")), ("", Some("W/\"2\"")));
    let answer = json_patch(server, &minimal, &json!([]))
        .header("prefer", "return=OperationOutcome")
        .send()
        .expect(200);
    assert_eq!(answer.json()["resourceType"], "OperationOutcome");
}

#[test]
fn a_conditional_patch_changes_the_one_match() {
    let server = shared();
    let mrn = unique();
    let patient = json!({"resourceType": "Patient", "identifier": [{"system": "urn:test:mrn", "value": mrn}]});
    let path = format!("/Patient?identifier=urn:test:mrn|{mrn}");
    let patch = json!([{"op": "add", "path": "/active", "value": true}]);
    json_patch(server, &path, &patch).send().refused(404);
    let id = server.create(&patient);
    let patched = json_patch(server, &path, &patch).send().expect(200);
    assert_eq!((&patched.json()["id"], &patched.json()["active"]), (&json!(id), &json!(true)));
    json_patch(server, &path, &patch).header("if-match", "W/\"1\"").send().refused(412);
    let change = replace("Patient.active", json!({"valueBoolean": false}));
    let patched = server.fhir("PATCH", &path).json(&change).send().expect(200);
    assert_eq!(patched.header("etag"), Some("W/\"3\""));
    server.create(&patient);
    json_patch(server, &path, &patch).send().refused(412);
    json_patch(server, "/Patient", &patch).send().refused(412);
    assert_eq!(server.count(&format!("Patient?identifier={mrn}&active=false")), 1);
}

#[test]
fn patches_in_bundles_are_binaries_or_parameters() {
    let server = shared();
    for bundle_type in ["transaction", "batch"] {
        let (one, two) = (observation(server), observation(server));
        let entries = vec![
            json!({"resource": binary(&json!([{"op": "replace", "path": "/status", "value": "amended"}])), "request": {"method": "PATCH", "url": &one[1..]}}),
            json!({"resource": replace("Observation.status", json!({"valueCode": "cancelled"})), "request": {"method": "PATCH", "url": &two[1..], "ifMatch": "W/\"1\""}}),
        ];
        let answer = server.bundle(bundle_type, entries).expect(200).json();
        for (i, (path, status)) in [(&one, "amended"), (&two, "cancelled")].into_iter().enumerate() {
            assert!(
                answer["entry"][i]["response"]["status"].as_str().unwrap().starts_with("200"),
                "{answer}"
            );
            assert_eq!(answer["entry"][i]["response"]["etag"], "W/\"2\"");
            assert_eq!(server.get(path).expect(200).json()["status"], status);
        }
    }
}

#[test]
fn a_patch_in_a_transaction_is_one_with_the_rest_and_its_links_lead_there() {
    let server = shared();
    let path = observation(server);
    let subject = json!({"reference": "urn:uuid:6f0d2f5e-8a3a-4a52-9a9b-0d2f6f2b7c11"});
    let mrn = unique();
    server.create(&json!({"resourceType": "Practitioner", "identifier": [{"system": "urn:test:mrn", "value": mrn}]}));
    let patient =
        json!({"fullUrl": subject["reference"], "resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}});
    let patch = binary(&json!([
        {"op": "add", "path": "/subject", "value": subject},
        {"op": "add", "path": "/performer", "value": [{"reference": format!("Practitioner?identifier=urn:test:mrn|{mrn}")}]},
    ]));
    let patch = json!({"resource": patch, "request": {"method": "PATCH", "url": &path[1..]}});
    // One that fails takes the others with it.
    let failing = json!({"resource": binary(&json!([{"op": "remove", "path": "/nosuch"}])), "request": {"method": "PATCH", "url": &observation(server)[1..]}});
    let refused = server
        .bundle("transaction", vec![patient.clone(), patch.clone(), failing])
        .expect(422)
        .json();
    assert!(
        refused["issue"][0]["expression"][0]
            .as_str()
            .unwrap()
            .starts_with("Bundle.entry[2]"),
        "{refused}"
    );
    assert_eq!(server.get(&path).expect(200).header("etag"), Some("W/\"1\""));
    let answer = server.bundle("transaction", vec![patient, patch]).expect(200).json();
    let patched = server.get(&path).expect(200).json();
    assert_eq!(patched["subject"]["reference"], place(&answer, 0));
    assert!(
        patched["performer"][0]["reference"].as_str().unwrap().starts_with("Practitioner/"),
        "{patched}"
    );
    let twice = json!({"resource": binary(&json!([{"op": "replace", "path": "/status", "value": "amended"}])), "request": {"method": "PATCH", "url": &path[1..]}});
    server.bundle("transaction", vec![twice.clone(), twice]).refused(400);
    for (resource, expected) in [
        (json!({"resourceType": "Patient"}), "a Binary with contentType"),
        (
            json!({"resourceType": "Binary", "contentType": "text/plain", "data": "W10="}),
            "application/json-patch+json",
        ),
        (
            json!({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "/w=="}),
            "UTF-8",
        ),
    ] {
        let told = server
            .bundle(
                "transaction",
                vec![json!({"resource": resource, "request": {"method": "PATCH", "url": &path[1..]}})],
            )
            .refused(400);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn patches_at_once_lose_none() {
    let server = shared();
    let path = observation(server);
    let append = |i: usize| json!([{"op": "add", "path": "/note/-", "value": {"text": format!("n{i}")}}]);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..32)
            .map(|i| {
                let path = &path;
                scope.spawn(move || json_patch(server, path, &append(i)).send())
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|a| a.status == 200));
    let after = server.get(&path).expect(200);
    assert_eq!(after.header("etag"), Some("W/\"33\""));
    assert_eq!(after.json()["note"].as_array().unwrap().len(), 33);
}

#[test]
fn a_patch_of_what_is_hidden_is_answered_as_one_of_what_never_was() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let hidden = (0..10).map(|i| place(&answer, i)).find(|p| p.starts_with("Composition/")).unwrap();
    let text = json!({"body": {"attiCliniciRegoleAccesso": ["P99"]}}).to_string();
    let rule = |code: &str| {
        let body = json!({"identifier": format!("2.16.840.1.113883.2.9.2.120.4.4^{prefix}DOC"), "jsonString": text.replace("P99", code)});
        server
            .request("PUT", "/v1/document/metadata")
            .body("application/json", body.to_string())
            .send()
            .expect(200);
    };
    rule("P99");
    let patch = json!([{"op": "replace", "path": "/title", "value": "changed"}]);
    let never = format!("Composition/{}", unique());
    let (of_hidden, of_never) = (
        json_patch(server, &format!("/{hidden}"), &patch).send().refused(404),
        json_patch(server, &format!("/{never}"), &patch).send().refused(404),
    );
    assert_eq!(of_hidden.replace(&hidden, ""), of_never.replace(&never, ""));
    json_patch(server, &format!("/Composition?identifier={prefix}DOC"), &patch)
        .send()
        .refused(404);
    rule("P00");
    assert_ne!(server.get(&format!("/{hidden}")).expect(200).json()["title"], "changed");
}

/// Attack A15.
#[test]
fn patches_without_measure_are_refused_and_name_the_limit() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_PATCH_OPERATIONS_MAX", "50"), ("EDS_BODY_BYTES_MAX", "2000000")]);
    let path = observation(&server);
    let many = json!(vec![json!({"op": "replace", "path": "/status", "value": "final"}); 20_000]);
    let told = json_patch(&server, &path, &many).send().refused(413);
    assert!(told.contains("50 operations (patch.operations_max)"), "{told}");
    let mut doubling = vec![json!({"op": "add", "path": "/note/-", "value": {"text": "x".repeat(1000)}})];
    doubling.extend((0..40).map(|_| json!({"op": "copy", "from": "/note", "path": "/note/-"})));
    let told = json_patch(&server, &path, &json!(doubling)).send().refused(413);
    assert!(told.contains("server.body_bytes_max"), "{told}");
    let nested: Vec<Value> = (0..50)
        .map(|i| json!({"op": "add", "path": "/a".repeat(2 * i + 1), "value": {"a": {}}}))
        .collect();
    json_patch(&server, &path, &json!(nested)).send().refused(422);
    assert_eq!(server.get(&path).expect(200).header("etag"), Some("W/\"1\""));
}
