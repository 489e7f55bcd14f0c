//! `Composition/[id]/$document`. Spec: <https://hl7.org/fhir/R4/composition-operation-document.html>, <https://hl7.org/fhir/R4/documents.html>.

use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::World;
use crate::support::world::unique;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;

fn composition(entries: &[&str]) -> Value {
    let entries: Vec<Value> = entries.iter().map(|reference| json!({"reference": reference})).collect();
    json!({
        "resourceType": "Composition", "status": "final", "type": {"text": "x"}, "date": "2024-01-01", "title": "x",
        "subject": {"reference": "Patient/~anna"}, "author": [{"reference": "Practitioner/~medico"}],
        "section": [{"title": "s", "entry": entries}],
    })
}

fn world() -> World {
    let world = World::new();
    world.load(vec![
        ("anna", json!({"resourceType": "Patient", "managingOrganization": {"reference": "Organization/~asl"}})),
        ("medico", json!({"resourceType": "Practitioner"})),
        ("asl", json!({"resourceType": "Organization", "name": "A", "partOf": {"reference": "Organization/~regione"}})),
        ("regione", json!({"resourceType": "Organization", "name": "R"})),
        ("o", json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/~anna"}, "hasMember": [{"reference": "Observation/~nessuno"}]})),
        ("altro", json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/~anna"}})),
        ("c", composition(&["Observation/~o", "https://elsewhere.example/fhir/Observation/1", "urn:uuid:0b9b3b9e-5b1c-4b67-9f0d-7d8d1c1c1c1c"])),
    ]);
    world
}

/// Names of the entries, in order.
fn names(world: &World, bundle: &Value) -> Vec<String> {
    let prefix = format!("{}-", world.tag);
    let entries = bundle["entry"].as_array().unwrap().iter();
    entries
        .map(|e| e["resource"]["id"].as_str().unwrap().replace(&prefix, ""))
        .collect()
}

#[test]
fn a_document_has_its_composition_first_and_then_all_that_is_referred_to() {
    // "The document bundle SHALL include only: The Composition resource, and any resources directly or indirectly (e.g. recursively) referenced
    // from it"; "The first resource SHALL be the Composition".
    let world = world();
    let server = world.server;
    let bundle = server.get(&world.name("/Composition/~c/$document")).expect(200).json();
    assert_eq!(names(&world, &bundle), ["c", "anna", "medico", "o", "asl", "regione"]);
    assert_eq!(bundle["type"], "document");
    let identifier = &bundle["identifier"];
    assert_eq!(identifier["system"], "urn:ietf:rfc:3986");
    assert!(identifier["value"].as_str().unwrap().starts_with("urn:uuid:"));
    assert!(bundle["timestamp"].is_string());
    assert_eq!(
        bundle["entry"][0]["fullUrl"],
        world.name(&format!("{}/Composition/~c", server.base()))
    );
    let issues = server.post("/Bundle/$validate", &bundle).json();
    let issues = issues["issue"].as_array().unwrap();
    assert!(issues.iter().all(|i| i["severity"] != "error"), "{issues:?}");
    let again = server.get(&world.name("/Composition/~c/$document")).expect(200).json();
    assert_ne!(again["identifier"], bundle["identifier"], "each is a document of its own");
    // "GET [base]/Composition/[id]/$document is identical in meaning to GET [base]/Composition/$document?id=[id]".
    for id in [
        world.name("~c"),
        world.name("Composition/~c"),
        world.name(&format!("{}/Composition/~c", server.base())),
    ] {
        let by_id = server.get(&format!("/Composition/$document?id={id}")).expect(200).json();
        assert_eq!(by_id["entry"], bundle["entry"], "{id}");
    }
    let parameters = json!({"resourceType": "Parameters", "parameter": [{"name": "persist", "valueBoolean": false}]});
    let posted = server
        .post(&world.name("/Composition/~c/$document"), &parameters)
        .expect(200)
        .json();
    assert_eq!(posted["entry"], bundle["entry"]);
}

#[test]
fn what_cannot_be_made_is_told_and_never_cut() {
    let world = world();
    let server = world.server;
    world
        .put("lacks", composition(&["Observation/~o", "Observation/~nessuno"]))
        .expect(201);
    let text = server.get(&world.name("/Composition/~lacks/$document")).refused(422);
    assert!(text.contains(&world.name("Observation/~nessuno")), "{text}");
    // "the id parameter SHALL NOT be used if the operation is requested on a particular composition".
    server.get(&world.name("/Composition/~c/$document?id=~c")).refused(400);
    server.get("/Composition/$document").refused(400);
    server
        .get("/Composition/$document?id=https://elsewhere.example/fhir/Composition/1")
        .refused(400);
    server.get("/Composition/nosuch-id/$document").refused(404);
    server.get("/Patient/x/$document").refused(400);
    for query in ["persist=true", "graph=http://example.org/GraphDefinition/1", "persist=x"] {
        server.get(&world.name(&format!("/Composition/~c/$document?{query}"))).refused(400);
    }
}

#[test]
fn a_document_has_a_named_limit() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_OPERATION_DOCUMENT_ENTRIES_MAX", "3")]);
    for i in 0..3 {
        let body = json!({"resourceType": "Patient", "id": format!("p{i}")});
        server.put(&format!("/Patient/p{i}"), &body).expect(201);
    }
    let of = |patients: &[&str]| {
        let mut body = composition(patients);
        body["subject"] = json!({"reference": "Patient/p0"});
        body["author"] = json!([{"reference": "Patient/p0"}]);
        server.create(&body)
    };
    let two = of(&["Patient/p1"]);
    let three = of(&["Patient/p1", "Patient/p2"]);
    let entries = server.get(&format!("/Composition/{two}/$document")).expect(200).json()["entry"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 3);
    let text = server.get(&format!("/Composition/{three}/$document")).refused(422);
    assert!(text.contains("operation.document_entries_max"), "{text}");
}

#[test]
fn what_is_hidden_is_in_no_document() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let places: Vec<String> = (0..10).map(|i| place(&answer, i)).collect();
    let find = |type_name: &str| places.iter().find(|p| p.starts_with(type_name)).unwrap().clone();
    let (composition_place, observation, patient) = (find("Composition/"), find("Observation/"), find("Patient/"));
    let document = server.get(&format!("/{composition_place}/$document")).expect(200).json();
    let ids = document.to_string();
    assert!(ids.contains(observation.split_once('/').unwrap().1));
    // Another Composition refers to what the document owns.
    let mut other = composition(&[&observation]);
    other["subject"] = json!({"reference": patient});
    other["author"] = json!([{"reference": patient}]);
    let visible = server.create(&other);
    other["section"][0]["entry"][0]["reference"] = json!("Observation/never-was");
    let never = server.create(&other);
    server.get(&format!("/Composition/{visible}/$document")).expect(200);
    rule(server, &prefix, "P99");
    server.get(&format!("/{composition_place}/$document")).refused(404);
    let hidden = server.get(&format!("/Composition/{visible}/$document")).refused(422);
    let absent = server.get(&format!("/Composition/{never}/$document")).refused(422);
    assert_eq!(hidden.replace(&observation, "X"), absent.replace("Observation/never-was", "X"));
}
