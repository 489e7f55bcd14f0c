//! `integrity.on_write = "refuse"`: what is referred to must be here. Spec: <https://hl7.org/fhir/R4/references.html>, "referential integrity";
//! docs/adr/0017-references-on-write.md.

use crate::ministry::referto_with_encounter;
use crate::oscuramento::rule;
use crate::support::http::Answer;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::bare;
use crate::transaction::entry;
use crate::transaction::named;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;
use std::sync::OnceLock;

const BASE: &str = "https://eds.example";

fn server() -> &'static Server {
    static SERVER: OnceLock<(DataDir, Server)> = OnceLock::new();
    let (_, server) = SERVER.get_or_init(|| {
        let dir = DataDir::new();
        let settings = [
            ("EDS_INTEGRITY_ON_WRITE", "refuse"),
            ("EDS_INTEGRITY_ON_DELETE", "allow"),
            ("EDS_BASE_URL", BASE),
        ];
        let server = Server::start(&dir, &settings);
        (dir, server)
    });
    server
}

fn observation(subject: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": subject}})
}

fn patient() -> String {
    format!("Patient/{}", server().create(&json!({"resourceType": "Patient"})))
}

/// The places that a refusal names.
#[track_caller]
fn places(answer: Answer) -> Vec<String> {
    let outcome = answer.expect(422).json();
    let issues = outcome["issue"].as_array().unwrap().clone();
    let place = |issue: &Value| {
        let text = issue["diagnostics"].as_str().unwrap_or_default();
        assert!(text.contains("integrity.on_write"), "{issue}");
        issue["expression"][0].as_str().unwrap().to_owned()
    };
    issues.iter().map(place).collect()
}

#[test]
fn a_reference_to_what_is_not_here_is_refused_with_its_place() {
    let patient = patient();
    let mut resource = observation("Patient/none");
    assert_eq!(places(server().post("/Observation", &resource)), ["Observation.subject"]);
    resource["subject"]["reference"] = json!(patient);
    resource["performer"] = json!([{"reference": patient}, {"reference": "Organization/none/_history/2"}]);
    resource["extension"] = json!([{"url": "urn:x", "valueReference": {"reference": format!("{BASE}/fhir/Basic/none")}}]);
    assert_eq!(
        places(server().post("/Observation", &resource)),
        ["Observation.performer[1]", "Observation.extension[0].valueReference"]
    );
    let id = unique();
    resource["id"] = json!(id);
    places(server().put(&format!("/Observation/{id}"), &resource));
    server().get(&format!("/Observation/{id}")).refused(404);
}

#[test]
fn what_leads_elsewhere_or_within_is_not_looked_for() {
    let patient = patient();
    for reference in [
        patient.as_str(),
        &format!("{patient}/_history/1"),
        &format!("{BASE}/fhir/{patient}"),
        "https://other.example/fhir/Patient/none",
        "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
        "#p",
    ] {
        let mut resource = observation(reference);
        resource["contained"] = json!([{"resourceType": "Patient", "id": "p"}]);
        server().post("/Observation", &resource).expect(201);
    }
    let logical = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"identifier": {"value": "1"}, "display": "x"}});
    server().post("/Observation", &logical).expect(201);
    // A resource may refer to itself.
    let id = unique();
    let mut organization = json!({"resourceType": "Organization", "id": id, "name": "x"});
    organization["partOf"] = json!({"reference": format!("Organization/{id}")});
    server().put(&format!("/Organization/{id}"), &organization).expect(201);
}

#[test]
fn what_was_deleted_is_answered_as_what_never_was() {
    let patient = patient();
    server().delete(&format!("/{patient}")).expect(204);
    let deleted = server().post("/Observation", &observation(&patient)).refused(422);
    let never = server().post("/Observation", &observation("Patient/never")).refused(422);
    assert_eq!(deleted.replace(&patient, "X"), never.replace("Patient/never", "X"));
}

#[test]
fn entries_of_a_transaction_count_and_what_it_deletes_does_not() {
    let (id, old) = (unique(), patient());
    let new = json!({"resourceType": "Patient", "id": id});
    let urn = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e1";
    server()
        .bundle(
            "transaction",
            vec![
                entry("POST", "Observation", observation(&format!("Patient/{id}"))),
                entry("POST", "Observation", observation(urn)),
                named(urn, "POST", "Patient", json!({"resourceType": "Patient"})),
                entry("PUT", &format!("Patient/{id}"), new),
            ],
        )
        .expect(200);
    let code = unique();
    let tagged = json!({"resourceType": "Basic", "code": {"text": "x"}, "identifier": [{"value": code}]});
    let refused = server().bundle(
        "transaction",
        vec![
            entry("POST", "Basic", tagged.clone()),
            entry("POST", "Observation", observation("Patient/none")),
        ],
    );
    assert_eq!(places(refused), ["Bundle.entry[1].resource.subject"]);
    assert_eq!(server().count(&format!("Basic?identifier={code}")), 0);
    let refused = server().bundle(
        "transaction",
        vec![bare("DELETE", &old), entry("POST", "Observation", observation(&old))],
    );
    assert_eq!(places(refused), ["Bundle.entry[1].resource.subject"]);
    server().get(&format!("/{old}")).expect(200);
    // A conditional reference finds what is here.
    server().post("/Basic", &tagged).expect(201);
    let mut list = json!({"resourceType": "List", "status": "current", "mode": "working", "entry": [{"item": {"reference": format!("Basic?identifier={code}")}}]});
    server()
        .bundle("transaction", vec![entry("POST", "List", list.clone())])
        .expect(200);
    // In a batch each entry is by itself.
    list["entry"][0]["item"]["reference"] = json!("Basic/none");
    let batch = server().bundle(
        "batch",
        vec![
            entry("POST", "List", list),
            entry("POST", "Patient", json!({"resourceType": "Patient"})),
        ],
    );
    let batch = batch.expect(200).json();
    assert_eq!(batch["entry"][0]["response"]["status"], "422 Unprocessable Entity");
    assert_eq!(
        batch["entry"][0]["response"]["outcome"]["issue"][0]["expression"][0],
        "Bundle.entry[0].List.entry[0].item"
    );
    assert_eq!(batch["entry"][1]["response"]["status"], "201 Created");
}

#[test]
fn a_reference_that_was_there_before_stays_and_a_new_one_is_looked_for() {
    let (kept, other) = (patient(), patient());
    let id = server().create(&observation(&kept));
    let path = format!("/Observation/{id}");
    server().delete(&format!("/{kept}")).expect(204);
    let mut resource = observation(&kept);
    resource["id"] = json!(id);
    resource["code"]["text"] = json!("another");
    server().put(&path, &resource).expect(200);
    resource["performer"] = json!([{"reference": "Practitioner/none"}]);
    assert_eq!(places(server().put(&path, &resource)), ["Observation.performer[0]"]);
    let patch = |value: &str| {
        let patch = json!([{"op": "replace", "path": "/subject/reference", "value": value}]);
        server()
            .fhir("PATCH", &path)
            .body("application/json-patch+json", patch.to_string())
            .send()
    };
    assert_eq!(places(patch("Patient/none")), ["Observation.subject"]);
    patch(&other).expect(200);
    let patch = |value: &str| {
        let part = |name: &str, value: Value| json!({"name": name, value.as_object().unwrap().keys().next().unwrap(): value.as_object().unwrap().values().next().unwrap()});
        let parameters = json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
            part("type", json!({"valueCode": "add"})), part("path", json!({"valueString": "Observation"})), part("name", json!({"valueString": "encounter"})),
            part("value", json!({"valueReference": {"reference": value}}))]}]});
        server().fhir("PATCH", &path).json(&parameters).send()
    };
    assert_eq!(places(patch("Encounter/none")), ["Observation.encounter"]);
    let provenance =
        json!({"resourceType": "Provenance", "recorded": "2024-01-01T00:00:00Z", "agent": [{"who": {"reference": "Practitioner/none"}}]});
    let answer = server()
        .fhir("POST", "/Patient")
        .header("x-provenance", &provenance.to_string())
        .json(&json!({"resourceType": "Patient"}))
        .send();
    assert_eq!(places(answer), ["X-Provenance.agent[0].who"]);
}

/// Who refers to what is hidden must not learn from the answer that it is here; who has referred to it before must not either.
#[test]
fn what_is_hidden_is_answered_as_what_never_was() {
    let prefix = unique();
    let bundle = referto_with_encounter(&prefix);
    let answer = server().post("", &bundle).expect(200).json();
    let hidden = place(&answer, answer["entry"].as_array().unwrap().len() - 1);
    let with_encounter = |reference: &str| json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "encounter": {"reference": reference}});
    let before = server().create(&with_encounter(&hidden));
    rule(server(), &prefix, "P99");
    let refused = server().post("/Observation", &with_encounter(&hidden)).refused(422);
    let never = server().post("/Observation", &with_encounter("Encounter/never")).refused(422);
    assert_eq!(refused.replace(&hidden, "X"), never.replace("Encounter/never", "X"));
    let mut resource = with_encounter(&hidden);
    resource["id"] = json!(before);
    resource["code"]["text"] = json!("another");
    server().put(&format!("/Observation/{before}"), &resource).expect(200);
    // What is written to its id is hidden with it, and whoever writes both at once is answered as if it were new.
    let (_, id) = hidden.split_once('/').unwrap();
    let encounter = json!({"resourceType": "Encounter", "id": id, "status": "finished", "class": {"code": "AMB"}});
    let both = vec![
        entry("PUT", &hidden, encounter),
        entry("POST", "Observation", with_encounter(&hidden)),
    ];
    let both = server().bundle("transaction", both).expect(200).json();
    assert_eq!(both["entry"][0]["response"]["status"], "201 Created");
    // The document itself may come again.
    server().post("", &bundle).expect(200);
    rule(server(), &prefix, "P00");
}

#[test]
fn of_a_deletion_and_a_reference_that_meet_one_is_refused() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_INTEGRITY_ON_WRITE", "refuse")]);
    let policy = server.get("/metadata").expect(200).json()["rest"][0]["resource"][0]["referencePolicy"].clone();
    assert!(policy.as_array().unwrap().contains(&json!("enforced")), "{policy}");
    for _ in 0..25 {
        let id = server.create(&json!({"resourceType": "Patient"}));
        let (deleted, stored) = std::thread::scope(|scope| {
            let deletion = scope.spawn(|| server.delete(&format!("/Patient/{id}")).status);
            let reference = scope.spawn(|| server.post("/Observation", &observation(&format!("Patient/{id}"))).status);
            (deletion.join().unwrap(), reference.join().unwrap())
        });
        assert!(matches!((deleted, stored), (204, 422) | (409, 201)), "{deleted} {stored}");
    }
}

#[test]
fn unless_it_is_set_nothing_is_looked_for() {
    shared().post("/Observation", &observation("Patient/none")).expect(201);
    let policy = shared().get("/metadata").expect(200).json()["rest"][0]["resource"][0]["referencePolicy"].clone();
    assert!(!policy.as_array().unwrap().contains(&json!("enforced")), "{policy}");
}
