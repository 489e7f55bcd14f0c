//! The header X-Provenance. Spec: <https://hl7.org/fhir/R4/provenance.html#header>.

use crate::support::http::Request;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::bare;
use crate::transaction::entry;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;

fn provenance(reason: &str) -> Value {
    json!({"resourceType": "Provenance", "recorded": "2026-01-01T00:00:00.00Z", "reason": [{"text": "Città"}], "activity": {"coding": [{"code": reason}]}, "agent": [{"who": {"display": "x"}}]})
}

/// The Provenances of an activity that no other test has.
fn found(server: &Server, reason: &str) -> Vec<Value> {
    let all = server.get("/Provenance?_count=1000&_sort=-_lastUpdated").expect(200).json();
    let resources = all["entry"]
        .as_array()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .map(|e| e["resource"].clone());
    resources.filter(|r| r["activity"]["coding"][0]["code"] == reason).collect()
}

fn targets(provenance: &Value) -> Vec<&str> {
    provenance["target"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["reference"].as_str().unwrap())
        .collect()
}

fn with(request: Request, reason: &str) -> Request {
    request.header("x-provenance", &provenance(reason).to_string())
}

#[test]
fn each_write_stores_the_provenance_with_the_version_that_it_makes() {
    let server = shared();
    let (id, reason) = (unique(), unique());
    let path = format!("/Patient/{id}");
    let patient = |active: bool| json!({"resourceType": "Patient", "id": id, "active": active});
    with(server.fhir("PUT", &path).json(&patient(true)), &reason).send().expect(201);
    // What changes nothing leaves none.
    with(server.fhir("PUT", &path).json(&patient(true)), &reason).send().expect(200);
    with(server.fhir("PUT", &path).json(&patient(false)), &reason).send().expect(200);
    let patch = r#"[{"op":"replace","path":"/active","value":true}]"#;
    with(server.fhir("PATCH", &path).body("application/json-patch+json", patch), &reason)
        .send()
        .expect(200);
    with(server.fhir("DELETE", &path), &reason).send().expect(204);
    with(server.fhir("DELETE", &path), &reason).send().expect(204);
    let created = with(server.fhir("POST", "/Patient").json(&json!({"resourceType": "Patient"})), &reason)
        .send()
        .expect(201)
        .json();
    let all = found(server, &reason);
    let mut told: Vec<&str> = all.iter().flat_map(targets).collect();
    told.sort_unstable();
    let mut expected: Vec<String> = (1..=4).map(|version| format!("Patient/{id}/_history/{version}")).collect();
    expected.push(format!("Patient/{}/_history/1", created["id"].as_str().unwrap()));
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert_eq!(all[0]["reason"][0]["text"], "Città");
    // It is found by its target, whichever version.
    assert_eq!(server.count(&format!("Provenance?target=Patient/{id}")), 4);
}

#[test]
fn a_transaction_has_one_provenance_of_all_that_it_changes() {
    let server = shared();
    let reason = unique();
    let old = server.create(&json!({"resourceType": "Patient"}));
    let agent = json!({"reference": "urn:uuid:0a8a1c7e-4f0d-4c52-9e15-7e6d0f9b1c11"});
    let mut told = provenance(&reason);
    told["agent"][0]["who"] = agent.clone();
    let mut doctor = entry("POST", "Practitioner", json!({"resourceType": "Practitioner"}));
    doctor["fullUrl"] = agent["reference"].clone();
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        doctor,
        bare("DELETE", &format!("Patient/{old}")),
        bare("GET", "Practitioner?_count=1"),
    ]});
    let answer = server
        .fhir("POST", "")
        .header("x-provenance", &told.to_string())
        .json(&bundle)
        .send()
        .expect(200)
        .json();
    assert_eq!(answer["entry"].as_array().unwrap().len(), 3, "{answer}");
    let all = found(server, &reason);
    let doctor = place(&answer, 0);
    let mut expected = [format!("Patient/{old}/_history/2"), format!("{doctor}/_history/1")];
    expected.sort_unstable();
    let mut told = targets(&all[0]);
    told.sort_unstable();
    assert_eq!(told, expected);
    assert_eq!(
        all[0]["agent"][0]["who"]["reference"], doctor,
        "links to entries are links of the Provenance too"
    );
    assert_eq!(all.len(), 1);
    // Nothing is stored with what fails.
    let failing = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry("PUT", "Patient/x", json!({"resourceType": "Patient", "id": "y"}))]});
    with(server.fhir("POST", "").json(&failing), &reason).send().refused(400);
    assert_eq!(found(server, &reason).len(), 1);
}

#[test]
fn a_header_that_is_no_provenance_is_named_and_nothing_is_stored() {
    let server = shared();
    let mut with_target = provenance("x");
    with_target["target"] = json!([{"reference": "Patient/1"}]);
    let mut without_agent = provenance("x");
    without_agent.as_object_mut().unwrap().remove("agent");
    for (header, status) in [
        ("{".to_owned(), 400),
        ("[]".to_owned(), 400),
        (json!({"resourceType": "Patient"}).to_string(), 400),
        (with_target.to_string(), 400),
        (without_agent.to_string(), 422),
    ] {
        let id = unique();
        let path = format!("/Patient/{id}");
        let patient = json!({"resourceType": "Patient", "id": id});
        let answer = server
            .fhir("PUT", &path)
            .header("x-provenance", &header)
            .json(&patient)
            .send()
            .expect(status);
        let expression = answer.json()["issue"][0]["expression"][0].as_str().unwrap_or_default().to_owned();
        assert!(expression.starts_with("X-Provenance"), "{header}: {}", answer.text());
        server.get(&path).refused(404);
    }
    let twice = with(
        with(server.fhir("POST", "/Patient").json(&json!({"resourceType": "Patient"})), "x"),
        "x",
    );
    assert!(twice.send().refused(400).contains("given twice"));
    let batch = json!({"resourceType": "Bundle", "type": "batch"});
    assert!(
        with(server.fhir("POST", "").json(&batch), "x")
            .send()
            .refused(400)
            .contains("X-Provenance")
    );
}
