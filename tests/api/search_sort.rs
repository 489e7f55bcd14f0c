//! `_sort` by every type of parameter. Spec: <https://hl7.org/fhir/R4/search.html#sort>.

use crate::support::none_wrong;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::ids_of;
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
    let server = Server::start(&dir, &FEW);
    for i in 0..4 {
        server.create(&observation(&i.to_string()));
    }
    // Also where the first page could be put in order, and a later one not.
    for sort in [
        "subject",
        "identifier",
        "_profile",
        "date,status",
        "status,subject",
        "status,date,code",
    ] {
        let answer = server.get(&format!("/Observation?_sort={sort}")).refused(400);
        assert!(answer.contains("search.sort_rows_max"), "{sort}: {answer}");
    }
    let several = server.get("/?_type=Observation,Patient&_sort=_tag").refused(400);
    assert!(several.contains("search.sort_rows_max"), "{several}");
    server.get("/Observation?_sort=subject&_id=none").expect(200);
    server.get("/Observation?_sort=-date").expect(200);
}

/// So many matches are read to be sorted.
const FEW: [(&str, &str); 1] = [("EDS_SEARCH_SORT_ROWS_MAX", "3")];

/// With one code, several, one that only text tells, and none.
fn coded(i: usize) -> Value {
    let mut resource = json!({"resourceType": "Observation", "id": format!("o{i:02}"), "status": (["final", "amended", "final", "registered"][i % 4]),
        "code": {"text": "x"}, "subject": {"reference": format!("Patient/p{}", i % 5)}});
    let coding = |system: usize, code: usize| json!({"system": format!("urn:s{system}"), "code": format!("c{code}")});
    resource["code"]["coding"] = match i % 7 {
        0 => Value::Null,
        1 => json!([{"display": "only a display"}]),
        2 => json!([{"code": format!("c{}", i % 9)}]),
        3 => json!([coding(1, i % 9), coding(0, (i + 4) % 9)]),
        _ => json!([coding(i % 2, i % 9)]),
    };
    if i.is_multiple_of(7) {
        resource["code"].as_object_mut().unwrap().remove("coding");
    }
    if !i.is_multiple_of(3) {
        resource["category"] =
            json!([{"coding": [{"system": "urn:c", "code": format!("k{}", i % 4)}]}, {"coding": [{"system": "urn:c", "code": "vital"}]}]);
    }
    if !i.is_multiple_of(4) {
        resource["effectiveDateTime"] = json!(format!("2024-{:02}-01", i % 12 + 1));
    }
    resource
}

#[test]
fn codes_order_more_matches_than_are_read_to_be_sorted_and_as_those_are() {
    let dirs = [DataDir::new(), DataDir::new()];
    let few = Server::start(&dirs[0], &FEW);
    let many = Server::start(&dirs[1], &[]);
    for server in [&few, &many] {
        let put = |i: usize| json!({"resource": coded(i), "request": {"method": "PUT", "url": format!("Observation/o{i:02}")}});
        server.bundle("transaction", (0..60).map(put).collect()).expect(200);
        for i in [7, 22] {
            server.delete(&format!("/Observation/o{i:02}")).expect(204);
        }
        for i in [3, 14, 30] {
            let mut other = coded(i + 1);
            other["id"] = json!(format!("o{i:02}"));
            server.put(&format!("/Observation/o{i:02}"), &other).expect(200);
        }
        for i in 0..8_usize {
            let mut patient = json!({"resourceType": "Patient", "id": format!("p{i}")});
            if !i.is_multiple_of(3) {
                patient["deceasedBoolean"] = json!(i % 3 == 1);
            }
            server.put(&format!("/Patient/p{i}"), &patient).expect(201);
        }
    }
    // The first page could be put in order, and a later one not.
    few.get("/Observation?_sort=code,date,status&_count=1").refused(400);
    let mut wrong = Vec::new();
    let mut cases = 0;
    for search in [
        "Observation?_sort=status",
        "Observation?_sort=-status",
        "Observation?_sort=status,-date",
        "Observation?_sort=-status,date,_id",
        "Observation?_sort=code",
        "Observation?_sort=-code",
        "Observation?_sort=code,status",
        "Observation?_sort=category,-code,date",
        "Observation?_sort=-category",
        "Observation?_sort=combo-code,-_lastUpdated",
        "Observation?_sort=-code,-_id&status=final",
        "Observation?_sort=category&date=ge2024-05",
        "Observation?_sort=code&patient=Patient/p1",
        "Observation?_sort=_tag,-_id",
        "Patient?_sort=deceased",
        "Patient?_sort=-deceased,-_id",
    ] {
        for count in [1, 4, 100] {
            cases += 1;
            let ids = |server: &Server| ids_of(&server.pages(&format!("/{search}&_count={count}")));
            let (found, expected) = (ids(&few), ids(&many));
            if found != expected || found.len() < 7 {
                wrong.push(format!("{search} by {count}: {found:?}, expected {expected:?}"));
            }
        }
    }
    none_wrong(&wrong, cases);
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
