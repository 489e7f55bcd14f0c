//! `:above` and `:below` of references. Spec: <https://hl7.org/fhir/R4/search.html#recursive>, <https://hl7.org/fhir/R4/references.html#circular>.

use crate::ministry::referto_with_encounter;
use crate::oscuramento::rule;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::world::World;
use crate::support::world::unique;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;

fn location(part_of: Option<&str>) -> Value {
    let mut location = json!({"resourceType": "Location"});
    if let Some(part_of) = part_of {
        location["partOf"] = json!({"reference": format!("Location/~{part_of}")});
    }
    location
}

fn encounter(part_of: Option<&str>, location: &str) -> Value {
    let mut encounter = json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"},
        "location": [{"location": {"reference": format!("Location/~{location}")}}]});
    if let Some(part_of) = part_of {
        encounter["partOf"] = json!({"reference": format!("Encounter/~{part_of}")});
    }
    encounter
}

/// A hospital with a department, which has two wards; and a house without any.
fn world() -> World {
    let world = World::new();
    world.load(vec![
        ("hospital", location(None)),
        ("department", location(Some("hospital"))),
        ("ward", location(Some("department"))),
        ("other-ward", location(Some("department"))),
        ("house", location(None)),
        ("stay", encounter(None, "hospital")),
        ("visit", encounter(Some("stay"), "ward")),
        ("call", encounter(Some("visit"), "house")),
        (
            "pressure",
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "encounter": {"reference": "Encounter/~visit"}}),
        ),
        (
            "pulse",
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "encounter": {"reference": "Encounter/~stay"}}),
        ),
    ]);
    world
}

#[test]
fn below_finds_what_refers_to_the_resource_or_to_what_is_part_of_it_and_above_the_reverse() {
    // "This search returns not only all procedures that occurred at location with id 42, but also any procedures that occurred in locations that are part of
    // location with id 42"; "during encounter with id 21 or during any 'parent' encounter of that encounter".
    let world = world();
    world.check(&[
        ("Encounter?location:below=Location/~hospital", &["stay", "visit"]),
        ("Encounter?location:below=~hospital", &["stay", "visit"]),
        ("Encounter?location:below=Location/~department", &["visit"]),
        ("Encounter?location:below=Location/~ward", &["visit"]),
        ("Encounter?location:below=Location/~house", &["call"]),
        ("Encounter?location:below=Location/~nowhere", &[]),
        ("Encounter?location:above=Location/~ward", &["stay", "visit"]),
        ("Encounter?location:above=Location/~hospital", &["stay"]),
        ("Encounter?location:below=Location/~house,Location/~ward", &["call", "visit"]),
        ("Location?partof:below=Location/~hospital", &["department", "other-ward", "ward"]),
        ("Location?partof:below=~department", &["other-ward", "ward"]),
        ("Location?partof:above=~department", &["department", "other-ward", "ward"]),
        ("Observation?encounter:above=Encounter/~call", &["pressure", "pulse"]),
        ("Observation?encounter:above=Encounter/~visit", &["pressure", "pulse"]),
        ("Observation?encounter:above=Encounter/~stay", &["pulse"]),
        ("Observation?encounter:below=Encounter/~stay", &["pressure", "pulse"]),
        // Also where a chain ends, or begins, there.
        ("Observation?encounter.location:below=Location/~department", &["pressure"]),
        ("Location?_has:Encounter:location:part-of:below=Encounter/~stay", &["house", "ward"]),
    ]);
}

#[test]
fn a_circle_ends_and_what_is_gone_is_no_part() {
    let world = world();
    world.put("hospital", location(Some("ward"))).expect(200);
    world.check(&[
        ("Location?partof:below=~hospital", &["department", "hospital", "other-ward", "ward"]),
        ("Encounter?location:above=~hospital", &["stay", "visit"]),
    ]);
    world.put("ward", location(None)).expect(200);
    world.check(&[
        ("Encounter?location:below=~hospital", &["stay"]),
        ("Encounter?location:below=~ward", &["stay", "visit"]),
    ]);
}

#[test]
fn other_references_and_values_are_refused_with_what_would_be_right() {
    let world = world();
    for (search, said) in [
        ("Encounter?subject:below=Patient/1", "takes :identifier"),
        ("Observation?subject:below=Patient/1", "Location"),
        (
            "Encounter?location:below=http://elsewhere.example/fhir/Location/1",
            "of this server",
        ),
        ("Encounter?location:above=x|1", "of this server"),
    ] {
        let text = world.search(search).refused(400);
        assert!(text.contains(said), "{search}: {text}");
    }
    world
        .server
        .fhir("PUT", "/Location?partof:below=1")
        .json(&location(None))
        .send()
        .refused(400);
}

#[test]
fn more_parts_or_levels_than_the_limits_allow_are_refused_by_name() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_SEARCH_EXPANSION_CODES_MAX", "60")]);
    let part = |i: usize, of: Option<String>| {
        let mut location = json!({"resourceType": "Location", "id": format!("l{i}")});
        if let Some(of) = of {
            location["partOf"] = json!({"reference": of});
        }
        json!({"resource": location, "request": {"method": "PUT", "url": format!("Location/l{i}")}})
    };
    let deep = (0..55).map(|i| part(i, (i > 0).then(|| format!("Location/l{}", i - 1)))).collect();
    server.bundle("transaction", deep).expect(200);
    let text = server.get("/Location?partof:below=l0").refused(400);
    assert!(text.contains("HIERARCHY_LEVELS_MAX"), "{text}");
    server.get("/Location?partof:below=l10").expect(200);
    let wide = (100..170).map(|i| part(i, Some("Location/l54".to_owned()))).collect();
    server.bundle("transaction", wide).expect(200);
    let text = server.get("/Location?partof:below=l54").refused(400);
    assert!(text.contains("search.expansion_codes_max"), "{text}");
}

/// What is hidden is no part of a hierarchy: neither is what lies beyond it.
#[test]
fn what_is_hidden_leads_nowhere() {
    let world = World::new();
    let prefix = unique();
    let answer = world.server.post("", &referto_with_encounter(&prefix)).expect(200).json();
    let hidden = place(&answer, answer["entry"].as_array().unwrap().len() - 1);
    world.load(vec![
        ("stay", encounter(None, "hospital")),
        ("visit", json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "partOf": {"reference": hidden}})),
        (
            "pressure",
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "encounter": {"reference": "Encounter/~visit"}}),
        ),
    ]);
    // The document's encounter becomes a part of the stay.
    let mut of_document = world.server.get(&format!("/{hidden}")).expect(200).json();
    of_document["partOf"] = json!({"reference": world.name("Encounter/~stay")});
    world.server.put(&format!("/{hidden}"), &of_document).expect(200);
    world.check(&[
        ("Observation?encounter:below=Encounter/~stay", &["pressure"]),
        ("Encounter?part-of:above=Encounter/~visit", &["visit"]),
    ]);
    rule(world.server, &prefix, "P99");
    world.check(&[
        ("Observation?encounter:below=Encounter/~stay", &[]),
        ("Encounter?part-of:above=Encounter/~visit", &[]),
        (&format!("Observation?encounter:below={hidden}"), &["pressure"]),
    ]);
    rule(world.server, &prefix, "P00");
    eventually("it is shown again", || {
        world.find("Observation?encounter:below=Encounter/~stay") == ["pressure"]
    });
}

/// `:below` of canonical URLs. Spec: <https://hl7.org/fhir/R4/search.html#versions>.
#[test]
fn below_a_canonical_url_are_the_versions_that_begin_with_its_own() {
    let world = World::new();
    let plan = |canonical: &str| json!({"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": {"display": "x"}, "instantiatesCanonical": [canonical]});
    world.load(vec![
        ("bare", plan("http://acme.com/~p")),
        ("one", plan("http://acme.com/~p|1")),
        ("one-nought", plan("http://acme.com/~p|1.0")),
        ("one-one", plan("http://acme.com/~p|1.1")),
        ("ten", plan("http://acme.com/~p|10.0")),
        ("two", plan("http://acme.com/~p|2.0")),
        ("longer", plan("http://acme.com/~p1|1.0")),
    ]);
    let all = ["bare", "one", "one-nought", "one-one", "ten", "two"];
    world.check(&[
        ("CarePlan?instantiates-canonical:below=http://acme.com/~p", &all),
        ("CarePlan?instantiates-canonical=http://acme.com/~p", &all),
        (
            "CarePlan?instantiates-canonical:below=http://acme.com/~p|1",
            &["one", "one-nought", "one-one"],
        ),
        ("CarePlan?instantiates-canonical:below=http://acme.com/~p|1.1", &["one-one"]),
        (
            "CarePlan?instantiates-canonical:below=http://acme.com/~p|1,http://acme.com/~p|2",
            &["one", "one-nought", "one-one", "two"],
        ),
        ("CarePlan?instantiates-canonical:below=http://acme.com/~p|3", &[]),
        ("CarePlan?instantiates-canonical=http://acme.com/~p|1", &["one"]),
    ]);
    world
        .search("CarePlan?instantiates-canonical:above=http://acme.com/~p|1")
        .refused(400);
}
