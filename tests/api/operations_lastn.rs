//! `Observation/$lastn`. Spec: <https://hl7.org/fhir/R4/observation-operation-lastn.html>.

use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::server::shared;
use crate::support::world::World;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;

fn coded(patient: &str, codes: &[(&str, &str)], date: Option<&str>, category: &str) -> Value {
    let codings: Vec<Value> = codes.iter().map(|(system, code)| json!({"system": system, "code": code})).collect();
    let mut observation = json!({
        "resourceType": "Observation", "status": "final", "code": {"coding": codings}, "subject": {"reference": format!("Patient/~{patient}")},
        "category": [{"coding": [{"code": category}]}],
    });
    if let Some(date) = date {
        observation["effectiveDateTime"] = json!(date);
    }
    observation
}

fn in_words(text: &str, date: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": text}, "subject": {"reference": "Patient/~anna"}, "effectiveDateTime": date})
}

const LOINC: &str = "http://loinc.org";

fn world() -> World {
    let world = World::new();
    let of = |code: &str, date: &str| coded("anna", &[(LOINC, code)], Some(date), "vital-signs");
    world.load(vec![
        (
            "anna",
            json!({"resourceType": "Patient", "identifier": [{"system": "urn:lastn", "value": world.tag}]}),
        ),
        ("bruno", json!({"resourceType": "Patient"})),
        ("h1", of("8867-4", "2024-01-01")),
        ("h2", of("8867-4", "2024-01-02T08:00:00Z")),
        ("h3", of("8867-4", "2024-01-02T09:00:00Z")),
        ("h4", of("8867-4", "2024-02")),
        ("t1", of("8310-5", "2024-01-05")),
        ("t2", of("8310-5", "2023-01-05")),
        // The same code of another system is another code.
        ("l1", coded("anna", &[("urn:local", "8310-5")], Some("2024-01-06"), "laboratory")),
        ("l2", coded("anna", &[("urn:local", "8310-5")], Some("2024-01-07"), "laboratory")),
        ("b1", coded("bruno", &[(LOINC, "8867-4")], Some("2024-03-01"), "vital-signs")),
        ("senza-data", coded("anna", &[(LOINC, "8310-5")], None, "vital-signs")),
        ("w1", in_words("Dolore al ginocchio", "2024-01-01")),
        ("w2", in_words("dolore al  ginocchio", "2024-01-02")),
        ("w3", in_words("Altro", "2020-01-01")),
    ]);
    world
}

#[track_caller]
fn found(world: &World, query: &str) -> Vec<String> {
    let bundle = world
        .server
        .get(&world.name(&format!("/Observation/$lastn?{query}")))
        .expect(200)
        .json();
    assert_eq!(bundle["type"], "searchset");
    assert_eq!(bundle["total"], bundle["entry"].as_array().map_or(0, Vec::len));
    world.names(&bundle, "match")
}

#[test]
fn the_newest_of_each_code_come_newest_first() {
    // "The lastn query returns only the last N resource grouped by code." "If no value is provided ... max = 1".
    let world = world();
    assert_eq!(found(&world, "patient=Patient/~anna"), ["h4", "l2", "t1", "w2", "w3"]);
    assert_eq!(
        found(&world, "patient=Patient/~anna&max=3"),
        ["h4", "l2", "l1", "t1", "h3", "h2", "w2", "w1", "t2", "w3", "senza-data"]
    );
    // "Fetch the last 3 results for all vitals for a patient".
    assert_eq!(
        found(&world, "subject=Patient/~anna&category=vital-signs&max=3"),
        ["h4", "t1", "h3", "h2", "t2", "senza-data"]
    );
    assert_eq!(
        found(&world, "patient=Patient/~anna&code=http://loinc.org|8867-4&max=2"),
        ["h4", "h3"]
    );
    assert_eq!(
        found(&world, "patient=Patient/~anna&code=8867-4,8310-5&date=lt2024-01-03"),
        ["h3", "t2"]
    );
    // For several patients, of each.
    assert_eq!(found(&world, "patient=~anna,~bruno&code=8867-4"), ["b1", "h4"]);
    assert_eq!(
        found(&world, &format!("patient.identifier=urn:lastn|{}&code=8867-4", world.tag)),
        ["h4"]
    );
    assert_eq!(found(&world, "patient=nobody"), Vec::<String>::new());
    let parameters = json!({"resourceType": "Parameters", "parameter": [
        {"name": "max", "valuePositiveInt": 2}, {"name": "patient", "valueString": world.name("Patient/~anna")}, {"name": "code", "valueString": "8867-4"},
    ]});
    let posted = world.server.post("/Observation/$lastn", &parameters).expect(200).json();
    assert_eq!(world.names(&posted, "match"), ["h4", "h3"]);
}

#[test]
fn wrong_calls_are_told() {
    let server = shared();
    for (query, told) in [
        ("", "patient"),
        ("?code=1", "patient"),
        ("?patient=x&max=0", "max"),
        ("?patient=x&max=x", "max"),
        ("?patient=x&nosuch=1", "nosuch"),
        ("?patient=x&_sort=date", "_sort"),
    ] {
        let text = server.get(&format!("/Observation/$lastn{query}")).refused(400);
        assert!(text.contains(told), "{query}: {text}");
    }
    server.get("/Patient/$lastn?patient=x").refused(400);
}

#[test]
fn what_is_hidden_is_no_newest() {
    let server = shared();
    let prefix = unique();
    server.post("", &referto(&prefix)).expect(200);
    let path = format!("/Observation/$lastn?patient.identifier={prefix}CF");
    let before = server.get(&path).expect(200).json();
    assert_eq!(before["total"], 1);
    rule(server, &prefix, "P99");
    assert_eq!(server.get(&path).expect(200).json()["total"], 0);
    rule(server, &prefix, "P00");
    assert_eq!(server.get(&path).expect(200).json()["entry"], before["entry"]);
}
