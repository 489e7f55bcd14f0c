//! `_filter`, `_list`, `_query`. Spec: <https://hl7.org/fhir/R4/search_filter.html>, <https://hl7.org/fhir/R4/search.html#list>,
//! <https://hl7.org/fhir/R4/search.html#query>.

use crate::support::world::World;
use serde_json::Value;
use serde_json::json;

fn practice() -> World {
    let world = World::new();
    let patient = |family: &str, given: &[&str], born: &str, active: bool| {
        json!({"resourceType": "Patient", "name": [{"family": family, "given": given}], "birthDate": born, "active": active,
            "identifier": [{"system": "urn:filter", "value": family}]})
    };
    let observation = |subject: &str, code: &str, value: Option<f64>, date: Value| {
        let mut observation = json!({"resourceType": "Observation", "status": "final", "subject": {"reference": subject},
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]}});
        if let Some(value) = value {
            observation["valueQuantity"] = json!({"value": value, "system": "urn:unit", "code": "mg"});
        }
        observation.as_object_mut().unwrap().extend(date.as_object().unwrap().clone());
        observation
    };
    world.load(vec![
        ("anna", patient("Rossi", &["Anna", "Maria"], "1980-05-01", true)),
        ("bruno", patient("De Rossi", &["Bruno"], "1990", false)),
        ("carla", patient("Bianchi, \"Carla\"", &["Carla"], "2014-10-10", true)),
        ("dario", json!({"resourceType": "Patient"})),
        (
            "o1",
            observation("Patient/~anna", "8480-6", Some(120.0), json!({"effectiveDateTime": "2024-03-05"})),
        ),
        (
            "o2",
            observation(
                "Patient/~anna",
                "8462-4",
                Some(80.0),
                json!({"effectivePeriod": {"start": "2024-01-01", "end": "2024-06-30"}}),
            ),
        ),
        ("o3", observation("Patient/~bruno", "8480-6", None, json!({}))),
        (
            "list",
            json!({"resourceType": "List", "status": "current", "mode": "working",
            "entry": [{"item": {"reference": "Patient/~anna"}}, {"item": {"reference": "Observation/~o1"}}]}),
        ),
        (
            "other",
            json!({"resourceType": "List", "status": "current", "mode": "working", "entry": [{"item": {"reference": "Patient/~bruno"}}]}),
        ),
    ]);
    world
}

#[test]
fn a_filter_finds_what_its_expression_says() {
    practice().check(&[
        // The examples of the specification.
        (r#"Patient?_filter=given eq "anna" and birthdate ge 1980-01-01"#, &["anna"]),
        ("Patient?_filter=name co rossi", &["anna", "bruno"]),
        // Strings: without case and accents; whole, its part, its beginning, its end.
        ("Patient?_filter=family eq rossi", &["anna"]),
        ("Patient?_filter=family eq ROSSÍ", &["anna"]),
        ("Patient?_filter=family ne rossi", &["bruno", "carla"]),
        ("Patient?_filter=family sw \"de\"", &["bruno"]),
        ("Patient?_filter=family ew ossi", &["anna", "bruno"]),
        ("Patient?_filter=given co ari", &["anna"]),
        (r#"Patient?_filter=family eq "bianchi, \"carla\"""#, &["carla"]),
        (r#"Patient?_filter=family sw "bianchi, ""#, &["carla"]),
        // Presence.
        ("Patient?_filter=family pr false", &["dario"]),
        ("Patient?_filter=family pr true and active eq true", &["anna", "carla"]),
        // Dates.
        ("Patient?_filter=birthdate eq 1990", &["bruno"]),
        ("Patient?_filter=birthdate lt 1990", &["anna"]),
        ("Patient?_filter=birthdate sa 1990", &["carla"]),
        ("Patient?_filter=birthdate eb 2014", &["anna", "bruno"]),
        ("Patient?_filter=birthdate ne 1990", &["anna", "carla"]),
        ("Observation?_filter=date po 2024-03", &["o1", "o2"]),
        ("Observation?_filter=date po 2024-06-30", &["o2"]),
        ("Observation?_filter=date po 2024-07", &[]),
        // Tokens, quantities, references.
        ("Observation?_filter=code eq http://loinc.org|8480-6", &["o1", "o3"]),
        ("Observation?_filter=code ne 8480-6", &["o2"]),
        ("Observation?_filter=value-quantity gt 100", &["o1"]),
        ("Observation?_filter=value-quantity le 80|urn:unit|mg", &["o2"]),
        ("Observation?_filter=subject re Patient/~anna", &["o1", "o2"]),
        ("Observation?_filter=subject eq Patient/~bruno", &["o3"]),
        ("Observation?_filter=_id eq ~o1 or _id eq ~o3", &["o1", "o3"]),
        // Chains, and what is asked of one target together.
        ("Observation?_filter=subject.name co bruno", &["o3"]),
        ("Observation?_filter=patient.family eq rossi and code eq 8462-4", &["o2"]),
        ("Observation?_filter=patient[active eq true].given eq maria", &["o1", "o2"]),
        ("Observation?_filter=patient[active eq false].given eq maria", &[]),
        // Logic: from left to right, with brackets and not.
        ("Patient?_filter=given eq bruno or given eq anna and active eq true", &["anna"]),
        (
            "Patient?_filter=given eq bruno or (given eq anna and active eq true)",
            &["anna", "bruno"],
        ),
        ("Patient?_filter=not (family co rossi)", &["carla", "dario"]),
        ("Patient?_filter=not (not (family co rossi))", &["anna", "bruno"]),
        // Beside other parameters, and in a chain.
        ("Patient?_filter=family co rossi&active=false", &["bruno"]),
        ("Observation?patient._filter=family eq rossi&code=8480-6", &["o1"]),
        // Lists.
        ("Patient?_list=~list", &["anna"]),
        ("Observation?_list=~list", &["o1"]),
        ("Patient?_list=~list,~other", &["anna", "bruno"]),
        ("?_list=~list", &["anna", "o1"]),
        ("Patient?_list=~nothing", &[]),
        ("Observation?patient._list=~other", &["o3"]),
        ("Patient?_filter=_list eq ~other", &["bruno"]),
    ]);
}

#[test]
fn what_is_no_filter_or_list_is_refused_with_its_place() {
    let world = practice();
    for (search, text) in [
        ("Patient?_filter=", "at character 1 it needs the name"),
        ("Patient?_filter=given", "at character 6 it needs an operator"),
        ("Patient?_filter=given eq", "at character 9 it needs a value"),
        ("Patient?_filter=(given eq a", "at character 12 it needs `)`"),
        ("Patient?_filter=given eq a xor given eq b", "at character 12 it needs the end"),
        ("Patient?_filter=given gt a", "given is not compared by gt"),
        ("Patient?_filter=birthdate co 1980", "birthdate is not compared by co"),
        ("Patient?_filter=colour eq red", "has no search parameter colour"),
        ("Patient?_filter=birthdate eq yesterday", "birthdate needs a date"),
        ("Patient?_filter=given pr maybe", "true or false"),
        ("Patient?_filter=name.family eq rossi", "name is not a reference"),
        ("Patient?_list=$current-allergies", "functional lists"),
        ("Patient?_list=not an id", "the id of a List"),
        ("Patient?_query=nothing", "has no named query nothing"),
        ("?_type=Patient,Observation&_query=latest-of-code", "_query"),
        ("Observation?_query=latest-of-code&code=8480-6", "needs its parameter patient once"),
    ] {
        let answer = world.search(search).expect(400).json();
        let told = answer["issue"][0]["details"]["text"].as_str().unwrap();
        assert!(told.contains(text), "{search}: {told}");
    }
    let nested = format!("Patient?_filter={}given eq a{}", "(".repeat(5_000), ")".repeat(5_000));
    let answer = world.search(&nested).expect(400);
    assert!(answer.text().contains("nested at most 32 times (NESTING_MAX)"));
}

#[test]
fn a_named_query_is_the_search_that_was_written_down_for_it() {
    let world = practice();
    let search = "Observation?_query=latest-of-code&patient=Patient/~anna&code=8480-6,8462-4";
    // The value stands for itself: a comma is no alternative.
    assert_eq!(world.ordered(search), Vec::<String>::new());
    world.check(&[("Observation?_query=latest-of-code&patient=Patient/~anna&code=8480-6", &["o1"])]);
    assert_eq!(
        world.ordered("Observation?_query=latest-of-code&patient=Patient/~anna&code=http://loinc.org|8462-4&status=final"),
        ["o2"]
    );
}
