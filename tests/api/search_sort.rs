//! `_sort` by every type of parameter. Spec: <https://hl7.org/fhir/R4/search.html#sort>.

use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::world::World;
use serde_json::Value;
use serde_json::json;

fn observation(name: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": name}})
}

fn sortable(world: &World) {
    let with = |name: &str, members: Value| {
        let mut resource = observation(name);
        for (member, value) in members.as_object().unwrap() {
            resource[member.as_str()] = value.clone();
        }
        resource
    };
    let coding = |system: &str, code: &str| json!({"system": system, "code": code});
    // One after the other: of equal ones the newest comes first.
    for (name, members) in [
        (
            "a",
            json!({"code": {"coding": [coding("urn:s", "m"), coding("urn:s", "b")]}, "subject": {"reference": "Patient/~2"}, "valueQuantity": {"value": 10}}),
        ),
        (
            "b",
            json!({"code": {"coding": [coding("urn:t", "c")]}, "subject": {"reference": "Patient/~1"}, "status": "amended", "valueQuantity": {"value": 9}}),
        ),
        (
            "c",
            json!({"code": {"coding": [coding("urn:s", "c")]}, "subject": {"reference": "Group/~9"}, "valueQuantity": {"value": 100}}),
        ),
        ("d", json!({"effectiveDateTime": "2024-01-01"})),
        (
            "e",
            json!({"effectiveDateTime": "2023-01-01", "subject": {"reference": "Patient/~1"}}),
        ),
    ] {
        world.put(name, with(name, members));
    }
}

#[track_caller]
fn check(world: &World, sort: &str, expected: &str) {
    let search = format!("Observation?_sort={sort}");
    assert_eq!(world.ordered(&search).concat(), expected, "{sort}");
    // The same, a page after the other.
    for count in [1, 2] {
        let pages = world.server.pages(&world.path(&format!("{search}&_count={count}")));
        let names: Vec<String> = pages.iter().flat_map(|page| world.names(page, "match")).collect();
        assert_eq!(names.concat(), expected, "{sort} by {count}");
    }
}

#[test]
fn every_type_of_parameter_gives_an_order_with_missing_values_last() {
    let world = World::new();
    sortable(&world);
    for (sort, expected) in [
        // By code and then system; of several the smallest, or the largest: "the first/last value for the resource".
        ("code", "acbed"),
        ("-code", "abced"),
        ("status", "bedca"),
        ("-status", "edcab"),
        ("subject", "cebad"),
        ("-subject", "aebcd"),
        // References to other types do not count for patient.
        ("patient", "ebadc"),
        ("value-quantity", "baced"),
        ("-value-quantity", "cabed"),
        ("date", "edcba"),
        ("-date", "decba"),
        ("_id", "abcde"),
        ("-_id", "edcba"),
        ("-_lastUpdated", "edcba"),
        // Several keys, of several kinds.
        ("status,value-quantity", "baced"),
        ("status,-value-quantity", "bcaed"),
        ("-status,-code", "acedb"),
        ("patient,date", "ebadc"),
        ("date,code", "edacb"),
        ("_tag,_id", "abcde"),
        ("_profile,-_id", "edcba"),
    ] {
        check(&world, sort, expected);
    }
}

#[test]
fn identifiers_and_uris_give_an_order_too() {
    let world = World::new();
    for (name, identifier) in [("a", "30"), ("b", "1"), ("c", "2")] {
        let number = |value: &str| json!([{"system": "urn:i", "value": value}]);
        world.put(
            name,
            json!({"resourceType": "Patient", "identifier": number(identifier), "active": name != "b"}),
        );
    }
    world.put("d", json!({"resourceType": "Patient"}));
    world.put("v", json!({"resourceType": "ValueSet", "status": "draft", "url": "http://b"}));
    world.put("w", json!({"resourceType": "ValueSet", "status": "draft", "url": "http://a"}));
    assert_eq!(world.ordered("Patient?_sort=identifier"), ["b", "c", "a", "d"]);
    assert_eq!(world.ordered("Patient?_sort=-identifier"), ["a", "c", "b", "d"]);
    assert_eq!(world.ordered("Patient?_sort=active,-identifier"), ["b", "a", "c", "d"]);
    assert_eq!(world.ordered("ValueSet?_sort=url"), ["w", "v"]);
    assert_eq!(world.ordered("ValueSet?_sort=-url"), ["v", "w"]);
}

#[test]
fn several_types_have_one_order_by_what_has_no_index() {
    let world = World::new();
    let tagged = |mut resource: Value, tag: &str| {
        resource["meta"] = json!({"tag": [{"system": "a", "code": tag}]});
        resource
    };
    world.load(vec![
        ("o2", tagged(observation("1"), "2")),
        ("p1", tagged(json!({"resourceType": "Patient"}), "1")),
        ("p3", tagged(json!({"resourceType": "Patient"}), "3")),
        ("o4", tagged(observation("1"), "4")),
    ]);
    assert_eq!(world.ordered("?_type=Observation,Patient&_sort=_tag"), ["p1", "o2", "p3", "o4"]);
    let pages = world.server.pages(&world.path("?_type=Patient,Observation&_sort=_tag&_count=1"));
    let paged: Vec<String> = pages.iter().flat_map(|page| world.names(page, "match")).collect();
    assert_eq!(paged, ["p1", "o2", "p3", "o4"]);
}

#[test]
fn too_many_matches_are_not_sorted_by_what_has_no_order_and_the_setting_is_named() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_SEARCH_SORT_ROWS_MAX", "3")]);
    for i in 0..4 {
        server.create(&observation(&i.to_string()));
    }
    let answer = server.get("/Observation?_sort=status").refused(400);
    assert!(answer.contains("search.sort_rows_max"), "{answer}");
    server.get("/Observation?_sort=status&_id=none").expect(200);
    server.get("/Observation?_sort=-date").expect(200);
}

#[test]
fn what_is_no_order_is_refused() {
    let server = crate::support::server::shared();
    for sort in [
        "date,-",
        ",,",
        "",
        "-",
        "-__x'",
        "--date",
        "date,",
        "nothing",
        "code-value-quantity",
        "_score",
        "-_score",
        "date;drop",
        "date,date,date,date,date",
        "_text",
    ] {
        server.get(&format!("/Observation?_sort={sort}")).refused(400);
    }
    server.get("/Location?_sort=near").refused(400);
    server.get("/?_type=Observation,Patient&_sort=gender").refused(400);
}
