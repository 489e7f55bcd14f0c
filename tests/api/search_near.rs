//! `near`: Locations within a distance. Spec: <https://hl7.org/fhir/R4/location.html#search>.

use crate::support::world::World;
use serde_json::Value;
use serde_json::json;

fn location(latitude: f64, longitude: f64) -> Value {
    json!({"resourceType": "Location", "position": {"latitude": latitude, "longitude": longitude}})
}

/// Great-circle distances from Rome, Termini (41.9010, 12.5020), by the law of cosines: our own reckoning.
fn kilometres(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (a, b) = ((a.0.to_radians(), a.1.to_radians()), (b.0.to_radians(), b.1.to_radians()));
    (a.0.sin() * b.0.sin() + a.0.cos() * b.0.cos() * (a.1 - b.1).cos()).min(1.0).acos() * 6371.0088
}

const PLACES: [(&str, (f64, f64)); 8] = [
    ("termini", (41.9010, 12.5020)),
    ("vatican", (41.9022, 12.4539)),
    ("ostia", (41.7320, 12.2790)),
    ("naples", (40.8518, 14.2681)),
    ("milan", (45.4642, 9.1900)),
    ("suva", (-18.1416, 178.4419)),
    ("taveuni", (-16.8333, -179.9667)),
    ("north", (89.9, -100.0)),
];

#[test]
fn locations_are_found_within_a_distance_on_the_sphere() {
    let world = World::new();
    let mut places: Vec<(&str, Value)> = PLACES.iter().map(|(name, at)| (*name, location(at.0, at.1))).collect();
    places.push(("nowhere", json!({"resourceType": "Location", "name": "x"})));
    world.load(places);
    let mut wrong = Vec::new();
    for (_, center) in PLACES {
        for distance in [0.5, 4.1, 30.0, 250.0, 700.0, 9000.0, 20000.0, 25000.0] {
            let mut expected: Vec<&str> = PLACES
                .iter()
                .filter(|(_, at)| kilometres(center, *at) <= distance)
                .map(|(name, _)| *name)
                .collect();
            expected.sort_unstable();
            let found = world.find(&format!("Location?near={}|{}|{distance}|km", center.0, center.1));
            if found != expected {
                wrong.push(format!("{center:?} {distance}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_distance_has_a_unit_and_both_may_be_left_out() {
    let world = World::new();
    world.load(PLACES.iter().map(|(name, at)| (*name, location(at.0, at.1))).collect());
    world.put("moved", location(41.9010, 12.5020));
    world.check(&[
        ("Location?near=41.9010|12.5020|5000|m", &["moved", "termini", "vatican"]),
        ("Location?near=41.9010|12.5020|3|[mi_us]", &["moved", "termini", "vatican"]),
        ("Location?near=41.9010|12.5020|2|[mi_us]", &["moved", "termini"]),
        // "If the units are omitted, then kms should be assumed."
        ("Location?near=41.9010|12.5020|30", &["moved", "ostia", "termini", "vatican"]),
        ("Location?near=41.9010|12.5020||m", &["moved", "termini"]),
        // Ten kilometres when no distance is told.
        ("Location?near=41.9010|12.5020", &["moved", "termini", "vatican"]),
        ("Location?near=41.9010|12.5020|0|km", &["moved", "termini"]),
        (
            "Location?near=41.9010|12.5020|1|km,45.4642|9.19|1|km",
            &["milan", "moved", "termini"],
        ),
        ("Location?near:missing=true", &[]),
    ]);
    world.put("moved", location(45.4642, 9.1900));
    world.check(&[
        ("Location?near=41.9010|12.5020|1|km", &["termini"]),
        ("Location?near=45.4642|9.19|1|km", &["milan", "moved"]),
    ]);
}

#[test]
fn near_is_found_through_chains() {
    let world = World::new();
    world.load(vec![
        ("rome", location(41.9010, 12.5020)),
        ("milan", location(45.4642, 9.1900)),
        (
            "e1",
            json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "location": [{"location": {"reference": "Location/~rome"}}]}),
        ),
        (
            "e2",
            json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "location": [{"location": {"reference": "Location/~milan"}}]}),
        ),
    ]);
    world.check(&[
        ("Encounter?location.near=41.9|12.5|10|km", &["e1"]),
        ("Encounter?location:Location.near=45.46|9.19|10|km", &["e2"]),
    ]);
}

#[test]
fn what_is_no_place_is_refused() {
    let server = crate::support::server::shared();
    for near in [
        "",
        "41.9",
        "41.9|",
        "|12.5",
        "x|12.5",
        "91|12.5",
        "41.9|181",
        "NaN|12.5",
        "41.9|12.5|-1|km",
        "41.9|12.5|x|km",
        "41.9|12.5|1|kg",
        "41.9|12.5|1|miles",
        "41.9|12.5|1|km|x",
        "inf|0",
        "41.9|12.5|1e400|km|",
    ] {
        server.get(&format!("/Location?near={near}")).refused(400);
    }
    server.get("/Location?near:exact=41.9|12.5").refused(400);
    server.get("/Location?near=41.9|12.5|1e300|km").expect(200);
}

#[test]
fn the_nearest_come_first_when_they_are_sorted_so() {
    let world = World::new();
    world.load(PLACES.iter().map(|(name, at)| (*name, location(at.0, at.1))).collect());
    let by_distance = |center: (f64, f64)| {
        let mut names = PLACES.to_vec();
        names.sort_by(|a, b| kilometres(center, a.1).total_cmp(&kilometres(center, b.1)));
        names.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()
    };
    for (_, center) in PLACES {
        let search = format!("Location?near={}|{}|25000|km", center.0, center.1);
        let mut expected = by_distance(center);
        assert_eq!(world.ordered(&format!("{search}&_sort=near")), expected, "{search}");
        expected.reverse();
        assert_eq!(world.ordered(&format!("{search}&_sort=-near")), expected, "{search}");
    }
    // Page by page; of several places the nearest counts.
    let pages = world
        .server
        .pages(&world.path("Location?near=41.9010|12.5020|25000|km&_sort=near&_count=3"));
    let paged: Vec<String> = pages.iter().flat_map(|page| world.names(page, "match")).collect();
    assert_eq!(paged, by_distance((41.9010, 12.5020)));
    assert_eq!(
        world.ordered("Location?near=41.9022|12.4539|40|km,45.4642|9.19|40|km&_sort=near,_id"),
        ["milan", "vatican", "termini", "ostia"]
    );
    for search in [
        "Location?_sort=near",
        "Location?near:missing=false&_sort=near",
        "?_type=Location,Patient&_sort=near",
    ] {
        world.search(search).refused(400);
    }
}
