//! Search on the whole system, on several types, and on all of a compartment. Spec: <https://hl7.org/fhir/R4/http.html#search>,
//! <https://hl7.org/fhir/R4/search.html#all>, <https://hl7.org/fhir/R4/compartmentdefinition.html>.

use crate::support::http::encoded;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::world::World;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// A patient with an encounter and two observations, and another patient's observation.
fn ward() -> World {
    let world = World::new();
    let observation = |subject: &str, date: Option<&str>| {
        let mut observation =
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": subject}});
        if let Some(date) = date {
            observation["effectiveDateTime"] = json!(date);
        }
        observation
    };
    let encounter = json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/~anna"},
        "period": {"start": "2024-03-01", "end": "2024-03-02"}});
    for (name, resource) in [
        ("anna", json!({"resourceType": "Patient", "name": [{"family": "Rossi"}]})),
        ("bruno", json!({"resourceType": "Patient", "name": [{"family": "Bianchi"}]})),
        ("o1", observation("Patient/~anna", Some("2024-03-05"))),
        ("e1", encounter),
        ("o2", observation("Patient/~anna", None)),
        ("o3", observation("Patient/~bruno", Some("2024-01-01"))),
    ] {
        world.put(name, resource).expect(201);
    }
    world
}

/// Names of each page.
fn pages(world: &World, search: &str) -> Vec<Vec<String>> {
    world
        .server
        .pages(&world.path(search))
        .iter()
        .map(|page| world.names(page, "match"))
        .collect()
}

#[test]
fn a_search_without_a_type_finds_resources_of_every_type() {
    let world = ward();
    // The newest first, whatever their types.
    assert_eq!(world.ordered("?_sort=-_lastUpdated"), ["o3", "o2", "e1", "o1", "bruno", "anna"]);
    assert_eq!(world.find(""), ["anna", "bruno", "e1", "o1", "o2", "o3"]);
    world.check(&[
        ("?_type=Patient", &["anna", "bruno"]),
        ("?_type=Patient,Encounter", &["anna", "bruno", "e1"]),
        ("?_type=Observation,Encounter&patient=Patient/~anna", &["e1", "o1", "o2"]),
        ("?_type=Observation,Encounter&date=ge2024-02-01", &["e1", "o1"]),
        ("?_type=Observation,Encounter&patient.family=rossi", &["e1", "o1", "o2"]),
        ("?_type=Patient&family=rossi", &["anna"]),
        ("?_id=~o1,~anna", &["anna", "o1"]),
        ("?_type=Patient,Group&_has:Encounter:subject:status=finished", &["anna"]),
    ]);
    let total = world.search("?_summary=count").expect(200).json()["total"].clone();
    assert_eq!(total, 6);
    let accurate = world
        .search("?_type=Observation,Patient&_total=accurate&_count=1")
        .expect(200)
        .json();
    assert_eq!(accurate["total"], 5);
}

#[test]
fn a_form_asks_the_system_the_same() {
    let world = ward();
    let form = format!("_type=Patient,Encounter&_tag=urn:test:world|{}", world.tag);
    let post = |path: &str, form: &str| {
        let answer = world
            .server
            .fhir("POST", path)
            .body("application/x-www-form-urlencoded", form)
            .send();
        let mut names = world.names(&answer.expect(200).json(), "match");
        names.sort();
        names
    };
    assert_eq!(post("/_search", &encoded(&form)), ["anna", "bruno", "e1"]);
    let tag = encoded(&format!("_tag=urn:test:world|{}", world.tag));
    assert_eq!(post(&world.name("/Patient/~anna/Observation/_search"), &tag), ["o1", "o2"]);
    assert_eq!(post(&world.name("/Patient/~anna/*/_search?_type=Encounter"), &tag), ["e1"]);
}

#[test]
fn the_pages_of_several_types_have_one_order_and_hold_every_match_once() {
    let world = ward();
    for (search, expected) in [
        ("?_sort=_lastUpdated", "anna bruno o1 e1 o2 o3"),
        ("?_sort=-_lastUpdated", "o3 o2 e1 o1 bruno anna"),
        ("?_sort=_id", "anna bruno e1 o1 o2 o3"),
        ("?_sort=-_id", "o3 o2 o1 e1 bruno anna"),
        ("?_type=Observation,Encounter&_sort=date", "o3 e1 o1 o2"),
        ("?_type=Observation,Encounter&_sort=-date", "o1 e1 o3 o2"),
        ("?_type=Observation,Encounter&_sort=-date,_id", "o1 e1 o3 o2"),
    ] {
        let expected: Vec<&str> = expected.split(' ').collect();
        for count in 1..=7 {
            let pages = pages(&world, &format!("{search}&_count={count}"));
            assert_eq!(pages.concat(), expected, "{search} in pages of {count}");
            assert!(
                pages[..pages.len() - 1].iter().all(|page| page.len() == count),
                "{search} in pages of {count}"
            );
        }
    }
    let all: BTreeSet<String> = pages(&world, "?_count=2").concat().into_iter().collect();
    assert_eq!(all.len(), 6);
}

#[test]
fn all_of_a_compartment_is_found_at_once() {
    let world = ward();
    world.check(&[
        ("Patient/~anna/*", &["anna", "e1", "o1", "o2"]),
        ("Patient/~anna/*?_type=Encounter,Observation", &["e1", "o1", "o2"]),
        ("Patient/~bruno/*", &["bruno", "o3"]),
        ("Patient/~nobody/*", &[]),
        ("Encounter/~e1/*", &["e1"]),
    ]);
    for count in 1..=4 {
        let pages = pages(&world, &format!("Patient/~anna/*?_sort=_id&_count={count}"));
        assert_eq!(pages.concat(), ["anna", "e1", "o1", "o2"], "{count}");
    }
}

#[test]
fn includes_go_out_from_matches_of_every_type() {
    let world = ward();
    let with = |search: &str| world.included(search);
    assert_eq!(
        with("?_type=Observation,Encounter&_id=~o1,~e1&_include=Observation:subject"),
        ["anna"]
    );
    assert_eq!(with("?_type=Observation,Encounter&_id=~o3,~e1&_include=*"), ["anna", "bruno"]);
    assert_eq!(with("?_type=Patient&_id=~anna&_revinclude=*"), ["e1", "o1", "o2"]);
    assert_eq!(with("Encounter?_id=~e1&_include=*&_revinclude:iterate=*"), ["anna", "o1", "o2"]);
    assert_eq!(with("Observation?_id=~o1&_include=Observation:*:Patient"), ["anna"]);
    assert_eq!(with("Observation?_id=~o1&_include=Observation:*:Encounter"), Vec::<String>::new());
}

#[test]
fn what_cannot_be_searched_together_is_refused_with_the_reason() {
    let world = ward();
    for (search, text) in [
        ("?family=rossi", "has no search parameter family"),
        (
            "?_type=Patient,Observation&family=rossi",
            "Observation has no search parameter family",
        ),
        ("?_type=Patient,Nothing", "_type: Nothing is not a resource type"),
        ("?_type=", "_type:  is not a resource type"),
        ("?_type=Patient,Observation&_sort=birthdate", "has no search parameter birthdate"),
        ("Patient?_type=Patient", "has no search parameter _type"),
        (
            "?_type=Patient,Encounter&_include=Observation:subject",
            "the search is on Patient, not on Observation",
        ),
        ("?_include=a:b:c:d", "_include: it is written"),
        ("Nothing/~anna/*", "Compartment Nothing is not known"),
        ("Patient/~anna/Organization", "Organization is not part of the Patient compartment"),
    ] {
        let answer = world.search(search);
        assert!(matches!(answer.status, 400 | 404), "{search}: {}", answer.status);
        let outcome: Value = answer.json();
        let told = outcome["issue"][0]["details"]["text"].as_str().unwrap();
        assert!(told.contains(text), "{search}: {told}");
    }
    // Under lenient handling it is left out for all types, and reported.
    let path = world.path("?_type=Patient,Observation&family=rossi");
    let answer = world
        .server
        .fhir("GET", &path)
        .header("Prefer", "handling=lenient")
        .send()
        .expect(200)
        .json();
    assert_eq!(world.names(&answer, "match").len(), 5);
    let outcome = answer["entry"].as_array().unwrap().last().unwrap();
    assert_eq!(outcome["search"]["mode"], "outcome");
}

#[test]
fn an_empty_repository_answers_with_nothing() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    for search in ["", "?_summary=count", "?_sort=-_lastUpdated", "/Patient/1/*"] {
        let answer = server.get(search).expect(200).json();
        assert_eq!(answer["entry"], Value::Null, "{search}");
    }
    // What is withdrawn is neither found nor counted, on the way of several types either.
    server.put("/Patient/1", &json!({"resourceType": "Patient", "id": "1"})).expect(201);
    server
        .put(
            "/Group/1",
            &json!({"resourceType": "Group", "id": "1", "type": "person", "actual": true}),
        )
        .expect(201);
    assert_eq!(server.get("?_summary=count").expect(200).json()["total"], 2);
    server.delete("/Group/1");
    assert_eq!(server.get("?_summary=count").expect(200).json()["total"], 1);
    assert_eq!(server.get("").expect(200).json()["entry"].as_array().unwrap().len(), 1);
}
