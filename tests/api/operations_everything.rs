//! `Patient/[id]/$everything`, `Patient/$everything`, `Encounter/[id]/$everything`.
//! Spec: <https://hl7.org/fhir/R4/patient-operation-everything.html>, <https://hl7.org/fhir/R4/encounter-operation-everything.html>.

use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::ids_of;
use crate::support::server::next_of;
use crate::support::server::shared;
use crate::support::world::World;
use crate::support::world::unique;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

fn observation(date: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "code": {"text": "x"}, "effectiveDateTime": date,
        "subject": {"reference": "Patient/~anna"}, "performer": [{"reference": "PractitionerRole/~role"}],
    })
}

/// Anna, with all kinds of members and what these refer to; Bruno, who is somebody else.
fn world() -> World {
    let world = World::new();
    world.load(vec![
        ("anna", json!({"resourceType": "Patient", "generalPractitioner": [{"reference": "Practitioner/~medico"}], "link": [{"other": {"reference": "Patient/~bruno"}, "type": "seealso"}]})),
        ("bruno", json!({"resourceType": "Patient"})),
        ("medico", json!({"resourceType": "Practitioner"})),
        ("role", json!({"resourceType": "PractitionerRole", "organization": {"reference": "Organization/~reparto"}})),
        ("reparto", json!({"resourceType": "Organization", "name": "R", "partOf": {"reference": "Organization/~ospedale"}})),
        ("ospedale", json!({"resourceType": "Organization", "name": "O"})),
        ("altro", json!({"resourceType": "Organization", "name": "Nobody refers to it"})),
        ("visita", json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/~anna"}, "period": {"start": "2024-03-01", "end": "2024-03-05"}, "diagnosis": [{"condition": {"reference": "Condition/~diagnosi"}}]})),
        ("diagnosi", json!({"resourceType": "Condition", "subject": {"reference": "Patient/~anna"}, "recordedDate": "2024-03-02"})),
        ("o1", observation("2023-01-01")),
        ("o2", observation("2024-03-01T10:00:00Z")),
        ("o3", observation("2025-01-01")),
        ("nella-visita", json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/~anna"}, "encounter": {"reference": "Encounter/~visita"}, "effectiveDateTime": "2024-03-03"})),
        ("senza-data", json!({"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/~anna"}})),
        ("farmaco", json!({"resourceType": "Medication"})),
        ("terapia", json!({"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": {"reference": "Patient/~anna"}, "medicationReference": {"reference": "Medication/~farmaco"}, "authoredOn": "2024-06-01"})),
        // Linked otherwise than as its first reference: an author, one of several, a performer.
        ("scritto-da-lei", json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/~bruno"}, "performer": [{"reference": "Patient/~anna"}]})),
        ("appuntamento", json!({"resourceType": "Appointment", "status": "booked", "participant": [{"actor": {"reference": "Patient/~bruno"}, "status": "accepted"}, {"actor": {"reference": "Patient/~anna"}, "status": "accepted"}], "start": "2024-04-01T10:00:00Z", "end": "2024-04-01T11:00:00Z"})),
        ("madre", json!({"resourceType": "RelatedPerson", "patient": {"reference": "Patient/~anna"}, "birthDate": "1950-01-01"})),
        ("di-bruno", json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/~bruno"}})),
    ]);
    world
}

const MEMBERS: [&str; 12] = [
    "anna",
    "appuntamento",
    "diagnosi",
    "madre",
    "nella-visita",
    "o1",
    "o2",
    "o3",
    "scritto-da-lei",
    "senza-data",
    "terapia",
    "visita",
];
const LINKED: [&str; 5] = ["farmaco", "medico", "ospedale", "reparto", "role"];

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn members() -> Vec<String> {
    MEMBERS
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| (*name).to_owned())
        .collect()
}

#[track_caller]
fn everything(world: &World, path: &str) -> Vec<Value> {
    world.server.pages(&world.name(path))
}

fn names(world: &World, pages: &[Value], mode: &str) -> Vec<String> {
    sorted(pages.iter().flat_map(|page| world.names(page, mode)).collect())
}

#[test]
fn it_has_the_compartment_and_what_that_refers_to_and_nothing_of_others() {
    // "At a minimum, the patient resource itself is returned, along with any other resources that the server has that are related to the
    // patient ... The server also returns whatever resources are needed to support the records - e.g. linked practitioners, medications,
    // locations, organizations etc."
    let world = world();
    let pages = everything(&world, "/Patient/~anna/$everything?_count=1000");
    assert_eq!(pages.len(), 1);
    let bundle = &pages[0];
    assert_eq!((&bundle["resourceType"], &bundle["type"]), (&json!("Bundle"), &json!("searchset")));
    assert_eq!(world.names(bundle, "match")[0], "anna", "the patient comes first");
    assert_eq!(names(&world, &pages, "match"), members());
    assert_eq!(names(&world, &pages, "include"), LINKED);
    let entry = &bundle["entry"][0];
    assert_eq!(entry["fullUrl"], world.name(&format!("{}/Patient/~anna", world.server.base())));
    let parameters = json!({"resourceType": "Parameters", "parameter": [{"name": "_count", "valueInteger": 1000}]});
    let posted = world
        .server
        .post(&world.name("/Patient/~anna/$everything"), &parameters)
        .expect(200)
        .json();
    assert_eq!(names(&world, &[posted], "match"), members());
}

#[test]
fn pages_have_every_member_once_while_others_write() {
    let world = world();
    for count in [1, 2, 3, 5, 12, 13] {
        let pages = everything(&world, &format!("/Patient/~anna/$everything?_count={count}"));
        assert_eq!(names(&world, &pages, "match"), members(), "_count={count}");
        assert!(pages.iter().all(|page| world.names(page, "match").len() <= count));
        // What a page's members refer to stands on the same page.
        for page in &pages {
            let matches = world.names(page, "match");
            let is_there = world.names(page, "include").contains(&"medico".to_owned());
            assert_eq!(matches.contains(&"anna".to_owned()), is_there);
        }
    }
    let mut page = world
        .server
        .get(&world.name("/Patient/~anna/$everything?_count=2"))
        .expect(200)
        .json();
    let mut seen = world.names(&page, "match");
    let mut step = 0;
    while let Some(next) = next_of(&page) {
        step += 1;
        // Before and behind where the pages are: inserted, updated, deleted.
        world.put(&format!("neu{step}"), observation("2020-01-01")).expect(201);
        world.put("o1", observation(&format!("2020-01-{:02}", step + 1))).expect(200);
        if step == 2 {
            world.server.delete(&world.name("/MedicationRequest/~terapia")).expect(204);
        }
        page = world.server.request("GET", &next).send().expect(200).json();
        seen.extend(world.names(&page, "match"));
        assert!(step < 100);
    }
    seen.retain(|name| !name.starts_with("neu") && name != "terapia");
    let mut expected = members();
    expected.retain(|name| name != "terapia");
    assert_eq!(sorted(seen), expected);
}

#[test]
fn parameters_select_by_date_type_and_update() {
    let world = world();
    let find = |query: &str| names(&world, &everything(&world, &format!("/Patient/~anna/$everything?{query}")), "match");
    // "The date range relates to care dates, not record currency dates": what has no such date is within every period, a birth date is none.
    let undated = ["anna", "madre", "scritto-da-lei", "senza-data"];
    let with = |dated: &[&str]| sorted(undated.iter().chain(dated).map(|name| (*name).to_owned()).collect());
    assert_eq!(
        find("start=2024-03-01&end=2024-03-31"),
        with(&["diagnosi", "nella-visita", "o2", "visita"])
    );
    // "If no start date is provided, all records prior to the end date are in scope", and the other way round.
    assert_eq!(find("end=2023-12-31"), with(&["o1"]));
    assert_eq!(find("start=2024-05-01"), with(&["o3", "terapia"]));
    // A period that began before and has not ended then.
    assert_eq!(find("start=2024-03-04&end=2024-03-04"), with(&["visita"]));
    for count in [1, 2] {
        assert_eq!(find(&format!("start=2024-03-01&end=2024-03-31&_count={count}")).len(), 8);
    }
    // "Resources updated after this period will be included".
    let updated = world.put("o2", observation("2024-03-02")).expect(200).json();
    let since = updated["meta"]["lastUpdated"].as_str().unwrap();
    assert_eq!(find(&format!("_since={since}")), ["o2"]);
    // "One or more parameters, each containing one or more comma-delimited FHIR resource types".
    let pages = everything(
        &world,
        "/Patient/~anna/$everything?_type=Observation,Organization&_type=PractitionerRole",
    );
    assert_eq!(names(&world, &pages, "match"), ["nella-visita", "o1", "o2", "o3", "scritto-da-lei"]);
    assert_eq!(names(&world, &pages, "include"), ["ospedale", "reparto", "role"]);
    assert_eq!(find("_type=Patient"), ["anna"]);
}

#[test]
fn an_encounter_has_its_compartment_its_patient_and_its_diagnoses() {
    let world = world();
    for count in [1, 20] {
        let pages = everything(&world, &format!("/Encounter/~visita/$everything?_count={count}"));
        assert_eq!(names(&world, &pages, "match"), ["nella-visita", "visita"]);
        assert_eq!(names(&world, &pages, "include"), ["anna", "diagnosi", "medico"]);
    }
}

#[test]
fn wrong_calls_are_told() {
    let world = world();
    let get = |path: &str| world.server.get(&world.name(path));
    for (query, told) in [
        ("_type=Paziente", "_type"),
        ("_count=0", "_count"),
        ("_since=yesterday", "_since"),
        ("start=2024-13", "start"),
        ("end=x", "end"),
        ("nosuch=1", "_since"),
        ("_cursor=x", "_cursor"),
    ] {
        let text = get(&format!("/Patient/~anna/$everything?{query}")).refused(400);
        assert!(text.contains(told), "{query}: {text}");
    }
    get("/Patient/~nobody/$everything").refused(404);
    get("/Observation/~o1/$everything").refused(400);
    get("/Encounter/$everything").refused(400);
    // A cursor is for the patient and the filter that it was given for.
    let page = get("/Patient/~anna/$everything?_count=1").expect(200).json();
    let next = next_of(&page).unwrap();
    let other = next.replace(&world.name("~anna"), &world.name("~bruno"));
    world.server.request("GET", &other).send().refused(400);
    world
        .server
        .request("GET", &format!("{next}&_type=Observation"))
        .send()
        .refused(400);
    let cascade = world
        .server
        .fhir("DELETE", &world.name("/Patient/~anna"))
        .header("x-cascade", "delete")
        .send();
    assert!(cascade.status < 300, "{}", cascade.text());
    get("/Patient/~anna/$everything").refused(410);
    world.server.request("GET", &next).send().refused(410);
}

#[test]
fn all_patients_and_everything_of_theirs() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let mut expected = BTreeSet::new();
    for i in 0..7 {
        let patient = server.create(&json!({"resourceType": "Patient"}));
        for _ in 0..i {
            let body = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": format!("Patient/{patient}")}});
            expected.insert(server.create(&body));
        }
        expected.insert(patient);
    }
    // Of nobody, or of somebody who is not there.
    server.create(&json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}}));
    server.create(
        &json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/nobody"}}),
    );
    server
        .create(&json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Group/some"}}));
    server.create(&json!({"resourceType": "Organization", "name": "x"}));
    for count in [1, 4, 1000] {
        let ids = ids_of(&server.pages(&format!("/Patient/$everything?_count={count}")));
        assert_eq!(ids.len(), expected.len(), "_count={count}");
        assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    assert_eq!(ids_of(&server.pages("/Patient/$everything?_type=Patient&_count=3")).len(), 7);
}

#[test]
fn what_is_hidden_is_not_there() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let patient = (0..10).map(|i| place(&answer, i)).find(|p| p.starts_with("Patient/")).unwrap();
    let all = |query: &str| ids_of(&server.pages(&format!("/{patient}/$everything?{query}")));
    let shown = all("_count=2");
    assert!(shown.len() > 5);
    rule(server, &prefix, "P99");
    for query in ["_count=1", "_count=1000", "start=1900-01-01", "_since=2000-01-01T00:00:00Z"] {
        let ids = all(query);
        assert!(ids.contains(&patient.split_once('/').unwrap().1.to_owned()));
        for place in (0..10).map(|i| place(&answer, i)) {
            let (type_name, id) = place.split_once('/').unwrap();
            let is_shared = ["Patient", "Practitioner", "Organization", "Location"].contains(&type_name);
            assert!(is_shared || !ids.contains(&id.to_owned()), "{query}: {place}");
        }
    }
    rule(server, &prefix, "P00");
    eventually("it is shown again", || all("_count=2") == shown);
}
