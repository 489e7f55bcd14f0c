//! Codes by value sets and hierarchies: `:in`, `:not-in`, `:above`, `:below`. Spec: <https://hl7.org/fhir/R4/search.html#token>,
//! <https://hl7.org/fhir/R4/valueset.html>, <https://hl7.org/fhir/R4/codesystem.html#subsumption>.

use crate::support::database;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::world::World;
use serde_json::Value;
use serde_json::json;

fn coded(code: &str) -> Value {
    json!({"resourceType": "Basic", "code": {"coding": [{"system": "urn:~animals", "code": code}]}})
}

fn animals() -> Value {
    json!({"resourceType": "CodeSystem", "status": "active", "content": "complete", "url": "urn:~animals", "hierarchyMeaning": "is-a",
        "property": [{"code": "legs", "type": "integer"}, {"code": "kind-of", "uri": "http://hl7.org/fhir/concept-properties#parent", "type": "code"}],
        "concept": [
            {"code": "animal", "concept": [
                {"code": "dog", "property": [{"code": "legs", "valueInteger": 4}], "concept": [{"code": "spaniel"}]},
                {"code": "bird", "property": [{"code": "legs", "valueInteger": 2}]}]},
            {"code": "pet"},
            {"code": "cat", "property": [{"code": "legs", "valueInteger": 4}, {"code": "kind-of", "valueCode": "animal"}, {"code": "subsumedBy", "valueCode": "pet"}]}]})
}

fn value_set(url: &str, compose: Value) -> Value {
    json!({"resourceType": "ValueSet", "status": "active", "url": url, "compose": compose})
}

/// Each animal, one with a code of another system, and one without a code of a system.
fn zoo() -> World {
    let world = World::new();
    let mut resources = vec![
        ("animals", animals()),
        (
            "other",
            json!({"resourceType": "Basic", "code": {"coding": [{"system": "urn:~other", "code": "dog"}]}}),
        ),
        (
            "text",
            json!({"resourceType": "Basic", "code": {"coding": [{"code": "dog"}], "text": "dog"}}),
        ),
    ];
    for code in ["animal", "dog", "spaniel", "bird", "pet", "cat"] {
        resources.push((code, coded(code)));
    }
    world.load(resources);
    world
}

/// "Tests whether the coding in a resource is subsumed by the specified search code ... and this includes the coding itself"; `:above` the other way.
#[test]
fn below_and_above_follow_the_hierarchy_of_a_stored_code_system() {
    let world = zoo();
    world.check(&[
        ("Basic?code:below=urn:~animals|animal", &["animal", "bird", "cat", "dog", "spaniel"]),
        ("Basic?code:below=urn:~animals|dog", &["dog", "spaniel"]),
        ("Basic?code:below=urn:~animals|pet", &["cat", "pet"]),
        ("Basic?code:below=urn:~animals|spaniel", &["spaniel"]),
        ("Basic?code:above=urn:~animals|spaniel", &["animal", "dog", "spaniel"]),
        ("Basic?code:above=urn:~animals|cat", &["animal", "cat", "pet"]),
        ("Basic?code:below=urn:~animals|bird,urn:~animals|pet", &["bird", "cat", "pet"]),
        ("Basic?code:below=urn:~animals|animal&code:below=urn:~animals|pet", &["cat"]),
    ]);
    // The hierarchy as it is now.
    let mut changed = animals();
    changed["concept"][1]["concept"] = json!([{"code": "spaniel"}]);
    world.put("animals", changed).expect(200);
    world.check(&[("Basic?code:below=urn:~animals|pet", &["cat", "pet", "spaniel"])]);
    for (search, told) in [
        ("Basic?code:below=dog", "system|code"),
        ("Basic?code:below=urn:~animals|", "system|code"),
        ("Basic?code:below=|dog", "system|code"),
        ("Basic?code:above=urn:~unknown|dog", "neither in FHIR R4 nor stored"),
        ("Basic?code:below=urn:~animals|horse", "does not have the code"),
        ("Patient?identifier:below=urn:a|b", ":of-type"),
    ] {
        let text = world.search(search).refused(400);
        assert!(text.contains(told), "{search}: {text}");
    }
    let mut parts = animals();
    parts["hierarchyMeaning"] = json!("part-of");
    world.put("animals", parts).expect(200);
    let told = world.search("Basic?code:below=urn:~animals|dog").refused(400);
    assert!(told.contains("a kind of"), "{told}");
    world.server.delete(&world.name("/CodeSystem/~animals")).expect(204);
    let told = world.search("Basic?code:below=urn:~animals|dog").refused(400);
    assert!(told.contains("neither in FHIR R4 nor stored"), "{told}");
}

/// "The search parameter is a URI (relative or absolute) that identifies a value set, and the search parameter tests whether the coding is in the
/// specified value set." `:not-in`: "tests whether the coding is not in the specified value set".
#[test]
fn in_takes_the_codes_of_a_value_set_by_all_ways_of_composing_it() {
    let world = zoo();
    let system = world.name("urn:~animals");
    let all = json!({"system": system});
    let filter =
        |property: &str, op: &str, value: &str| json!({"system": system, "filter": [{"property": property, "op": op, "value": value}]});
    let listed = |codes: &[&str]| json!({"system": system, "concept": codes.iter().map(|code| json!({"code": code})).collect::<Vec<_>>()});
    let other = json!({"system": world.name("urn:~other"), "concept": [{"code": "dog"}]});
    let nested = |names: &[&str]| json!({"valueSet": names.iter().map(|name| world.name(&format!("urn:~vs-{name}"))).collect::<Vec<_>>()});
    let mut of_nested = nested(&["listed"]);
    of_nested["system"] = json!(system);
    of_nested["filter"] = json!([{"property": "legs", "op": "=", "value": "4"}]);
    let sets = [
        ("all", json!({"include": [all]})),
        ("listed", json!({"include": [listed(&["dog", "bird", "nothing"])]})),
        ("two", json!({"include": [listed(&["bird"]), other]})),
        ("is-a", json!({"include": [filter("concept", "is-a", "dog")]})),
        ("below", json!({"include": [filter("concept", "descendent-of", "animal")]})),
        ("not-a", json!({"include": [filter("concept", "is-not-a", "animal")]})),
        ("legs", json!({"include": [filter("legs", "=", "4")]})),
        ("in", json!({"include": [filter("code", "in", "cat,pet")]})),
        (
            "both-filters",
            json!({"include": [{"system": system, "filter": [
            {"property": "legs", "op": "=", "value": "4"}, {"property": "concept", "op": "is-a", "value": "pet"}]}]}),
        ),
        (
            "exclude",
            json!({"include": [all], "exclude": [filter("concept", "is-a", "animal")]}),
        ),
        ("nested", json!({"include": [nested(&["listed"]), listed(&["pet"])]})),
        ("intersection", json!({"include": [nested(&["listed", "is-a"])]})),
        ("of-nested", json!({"include": [of_nested]})),
        ("exclude-nested", json!({"include": [all], "exclude": [nested(&["below"])]})),
    ];
    let named: Vec<(String, Value)> = sets
        .iter()
        .map(|(name, compose)| {
            (
                format!("vs-{name}"),
                value_set(&world.name(&format!("urn:~vs-{name}")), compose.clone()),
            )
        })
        .collect();
    world.load(named.iter().map(|(name, value)| (name.as_str(), value.clone())).collect());
    world.check(&[
        ("Basic?code:in=urn:~vs-all", &["animal", "bird", "cat", "dog", "pet", "spaniel"]),
        ("Basic?code:in=urn:~vs-listed", &["bird", "dog"]),
        ("Basic?code:in=urn:~vs-two", &["bird", "other"]),
        ("Basic?code:in=urn:~vs-is-a", &["dog", "spaniel"]),
        ("Basic?code:in=urn:~vs-below", &["bird", "cat", "dog", "spaniel"]),
        ("Basic?code:in=urn:~vs-not-a", &["pet"]),
        ("Basic?code:in=urn:~vs-legs", &["cat", "dog"]),
        ("Basic?code:in=urn:~vs-in", &["cat", "pet"]),
        ("Basic?code:in=urn:~vs-both-filters", &["cat"]),
        ("Basic?code:in=urn:~vs-exclude", &["pet"]),
        ("Basic?code:in=urn:~vs-nested", &["bird", "dog", "pet"]),
        ("Basic?code:in=urn:~vs-intersection", &["dog"]),
        ("Basic?code:in=urn:~vs-of-nested", &["dog"]),
        ("Basic?code:in=urn:~vs-exclude-nested", &["animal", "pet"]),
        // By its place, relative and absolute.
        ("Basic?code:in=ValueSet/~vs-legs", &["cat", "dog"]),
        (&format!("Basic?code:in={}/ValueSet/~vs-legs", world.server.base()), &["cat", "dog"]),
        ("Basic?code:in=urn:~vs-is-a,urn:~vs-in", &["cat", "dog", "pet", "spaniel"]),
        ("Basic?code:in=urn:~vs-below&code:in=urn:~vs-legs", &["cat", "dog"]),
        // Reversed, like :not: what has no code is not in it.
        ("Basic?code:not-in=urn:~vs-below", &["animal", "other", "pet", "text"]),
        ("Basic?code:not-in=urn:~vs-below,urn:~vs-two", &["animal", "pet", "text"]),
        ("Basic?_filter=code in urn:~vs-legs", &["cat", "dog"]),
        (
            "Basic?_filter=code ni urn:~vs-below and not (code eq pet)",
            &["animal", "other", "text"],
        ),
        ("Basic?_filter=code ss urn:~animals|dog", &["dog", "spaniel"]),
        ("Basic?_filter=code sb urn:~animals|dog", &["animal", "dog"]),
    ]);
}

#[test]
fn a_value_set_is_what_it_is_now_and_in_the_version_that_is_asked_for() {
    let world = zoo();
    let system = world.name("urn:~animals");
    let of = |version: Option<&str>, code: &str| {
        let mut set = value_set(
            &world.name("urn:~vs"),
            json!({"include": [{"system": system, "concept": [{"code": code}]}]}),
        );
        if let Some(version) = version {
            set["version"] = json!(version);
        }
        set
    };
    world.load(vec![
        ("v9", of(Some("2.9"), "dog")),
        ("v10", of(Some("2.10"), "cat")),
        ("none", of(None, "bird")),
    ]);
    world.check(&[
        ("Basic?code:in=urn:~vs", &["cat"]),
        ("Basic?code:in=urn:~vs|2.9", &["dog"]),
        ("Basic?code:in=urn:~vs|2.10", &["cat"]),
    ]);
    world.put("v11", of(Some("2.11"), "pet")).expect(201);
    world.check(&[("Basic?code:in=urn:~vs", &["pet"]), ("Basic?code:in=urn:~vs|2.10", &["cat"])]);
    world.put("v11", of(Some("2.11"), "spaniel")).expect(200);
    world.check(&[("Basic?code:in=urn:~vs", &["spaniel"])]);
    world.server.delete(&world.name("/ValueSet/~v11")).expect(204);
    world.check(&[("Basic?code:in=urn:~vs", &["cat"])]);
    let told = world.search("Basic?code:in=urn:~vs|3").refused(400);
    assert!(told.contains("neither in FHIR R4 nor stored"), "{told}");
}

/// What cannot be told is refused, with what is missing, and never an empty result.
#[test]
fn what_is_not_known_here_is_told() {
    let world = zoo();
    let set = |name: &str, compose: Value| (name.to_owned(), value_set(&world.name(&format!("urn:~{name}")), compose));
    let mut given = value_set(
        &world.name("urn:~given"),
        json!({"include": [{"system": "http://snomed.info/sct", "filter": [
        {"property": "concept", "op": "is-a", "value": "1"}]}]}),
    );
    given["expansion"] = json!({"timestamp": "2024-01-01", "contains": [{"system": world.name("urn:~animals"), "code": "animal", "abstract": true,
        "contains": [{"system": world.name("urn:~animals"), "code": "dog"}]}]});
    let mut cut = given.clone();
    cut["url"] = json!(world.name("urn:~cut"));
    cut["expansion"]["total"] = json!(50);
    let mut only = given.clone();
    only["url"] = json!(world.name("urn:~only"));
    only.as_object_mut().unwrap().remove("compose");
    let sets = [
        set(
            "snomed",
            json!({"include": [{"system": "http://snomed.info/sct", "filter": [{"property": "concept", "op": "is-a", "value": "1"}]}]}),
        ),
        set("far", json!({"include": [{"valueSet": ["http://example.org/far"]}]})),
        set("self", json!({"include": [{"valueSet": [world.name("urn:~self")]}]})),
        set(
            "filter",
            json!({"include": [{"system": world.name("urn:~animals"), "filter": [{"property": "wings", "op": "=", "value": "2"}]}]}),
        ),
        set(
            "version",
            json!({"include": [{"system": world.name("urn:~animals"), "version": "7"}]}),
        ),
        set("fragment", json!({"include": [{"system": world.name("urn:~fragment")}]})),
        ("given".to_owned(), given),
        ("cut".to_owned(), cut),
        ("only".to_owned(), only),
        (
            "cs".to_owned(),
            json!({"resourceType": "CodeSystem", "status": "active", "content": "fragment", "url": "urn:~fragment", "concept": [{"code": "x"}]}),
        ),
    ];
    world.load(sets.iter().map(|(name, set)| (name.as_str(), set.clone())).collect());
    for (name, told) in [
        ("nothing", "neither in FHIR R4 nor stored"),
        ("snomed", "http://snomed.info/sct"),
        ("far", "http://example.org/far"),
        ("self", "deep"),
        ("filter", "wings"),
        ("version", "|7"),
        ("fragment", "not complete"),
        ("cut", "http://snomed.info/sct"),
    ] {
        for modifier in ["in", "not-in"] {
            let text = world.search(&format!("Basic?code:{modifier}=urn:~{name}")).refused(400);
            assert!(text.contains(told), "{name}: {text}");
        }
    }
    // An expansion that is whole tells what the composition cannot.
    world.check(&[("Basic?code:in=urn:~given", &["dog"]), ("Basic?code:in=urn:~only", &["dog"])]);
    let told = world.search("Basic?code:in=ValueSet/nothing").refused(400);
    assert!(told.contains("neither"), "{told}");
    for search in [
        "Patient?birthdate:in=urn:x",
        "Patient?identifier:in=urn:x",
        "Patient?family:not-in=urn:x",
        "Patient?telecom:in=urn:x",
    ] {
        world.search(search).refused(400);
    }
}

/// The value sets and hierarchies of R4 itself; plain codes have the system that their definition implies.
#[test]
fn the_terminology_of_r4_is_known() {
    let world = World::new();
    let condition = |status: &str, kind: &str| {
        json!({"resourceType": "Condition", "subject": {"reference": "Patient/~p"}, "clinicalStatus": {"coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": status}]}, "verificationStatus": {"coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": kind}]}})
    };
    let related = |code: &str| {
        json!({"resourceType": "RelatedPerson", "patient": {"reference": "Patient/~p"},
            "relationship": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": code}]}]})
    };
    world.load(vec![
        ("p", json!({"resourceType": "Patient", "gender": "male", "active": true})),
        ("q", json!({"resourceType": "Patient"})),
        ("active", condition("active", "confirmed")),
        ("relapse", condition("relapse", "differential")),
        ("resolved", condition("resolved", "refuted")),
        ("mother", related("MTH")),
        ("brother", related("BRO")),
        ("friend", related("FRND")),
    ]);
    let clinical = "http://terminology.hl7.org/CodeSystem/condition-clinical";
    let roles = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";
    world.check(&[
        ("Patient?gender:in=http://hl7.org/fhir/ValueSet/administrative-gender", &["p"]),
        ("Patient?gender:not-in=http://hl7.org/fhir/ValueSet/administrative-gender", &["q"]),
        ("Patient?gender:in=http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1", &["p"]),
        ("Patient?gender:in=http://hl7.org/fhir/ValueSet/condition-clinical", &[]),
        ("Patient?gender:below=male", &["p"]),
        ("Patient?gender:below=http://hl7.org/fhir/administrative-gender|male", &["p"]),
        (
            "Condition?clinical-status:in=http://hl7.org/fhir/ValueSet/condition-clinical",
            &["active", "relapse", "resolved"],
        ),
        (
            &format!("Condition?clinical-status:below={clinical}|active"),
            &["active", "relapse"],
        ),
        (
            &format!("Condition?clinical-status:above={clinical}|relapse"),
            &["active", "relapse"],
        ),
        (&format!("Condition?clinical-status:below={clinical}|inactive"), &["resolved"]),
        (&format!("RelatedPerson?relationship:below={roles}|PRN"), &["mother"]),
        (&format!("RelatedPerson?relationship:below={roles}|FAMMEMB"), &["brother", "mother"]),
        // Through links.
        (
            &format!("Patient?_has:RelatedPerson:patient:relationship:below={roles}|FAMMEMB"),
            &["p"],
        ),
        (
            "Condition?subject:Patient.gender:in=http://hl7.org/fhir/ValueSet/administrative-gender&clinical-status=active",
            &["active"],
        ),
    ]);
}

/// Thousands of codes of which few are in use; and one more than the limit.
#[test]
fn large_value_sets_are_searched_up_to_the_limit() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_SEARCH_EXPANSION_CODES_MAX", "3000")]);
    let world_system = "urn:large";
    let concepts = |count: usize| (0..count).map(|i| json!({"code": format!("c{i}")})).collect::<Vec<_>>();
    let system = |url: &str, count: usize| json!({"resourceType": "CodeSystem", "status": "active", "content": "complete", "url": url, "concept": concepts(count)});
    server.create(&system(world_system, 3000));
    server.create(&system("urn:larger", 3001));
    server.create(&value_set("urn:large-set", json!({"include": [{"system": world_system}]})));
    server.create(&value_set("urn:larger-set", json!({"include": [{"system": "urn:larger"}]})));
    let basic = |code: &str| json!({"resource": {"resourceType": "Basic", "code": {"coding": [{"system": world_system, "code": code}]}}, "request": {"method": "POST", "url": "Basic"}});
    // More codes in use than one scan of the index looks for; the same value set twice is as many codes again.
    let mut entries: Vec<Value> = (0..700).map(|i| basic(&format!("c{i}"))).collect();
    entries.push(basic("other"));
    server.bundle("transaction", entries).expect(200);
    assert_eq!(server.count("Basic?code:in=urn:large-set"), 700);
    assert_eq!(server.count("Basic?code:not-in=urn:large-set"), 1);
    assert_eq!(server.count("Basic?code:in=urn:large-set&code=c5"), 1);
    assert_eq!(server.count("Basic?code:in=urn:large-set&code=other"), 0);
    let pages = server.pages("/Basic?code:in=urn:large-set&_count=300&_sort=_lastUpdated");
    assert_eq!(pages.len(), 3);
    for search in [
        "code:in=urn:larger-set",
        "code:in=urn:large-set,urn:large-set",
        "code:in=urn:large-set&code:text=a&code:below=urn:large|c1",
    ] {
        let told = server.get(&format!("/Basic?{search}")).refused(400);
        assert!(told.contains("search.expansion_codes_max"), "{search}: {told}");
    }
}

/// Operations that search look value sets and texts up, too.
#[test]
fn operations_take_value_sets() {
    let world = World::new();
    let about = |code: &str| json!({"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/~p"}, "code": {"text": code, "coding": [{"system": "urn:~s", "code": code}]}});
    world.load(vec![
        ("p", json!({"resourceType": "Patient"})),
        ("a", about("a")),
        ("b", about("b")),
        (
            "vs",
            value_set("urn:~vs", json!({"include": [{"system": "urn:~s", "concept": [{"code": "a"}]}]})),
        ),
    ]);
    for search in ["code:in=urn:~vs", "code:text=A"] {
        let path = world.name(&format!("/Observation/$lastn?patient=Patient/~p&{search}"));
        let found = world.server.get(&path).expect(200).json();
        assert_eq!(world.names(&found, "match"), ["a"], "{search}");
    }
}

/// Expansions are kept while what they are made of is the same: a write on one server, and a withdrawal, are seen by the other at once.
#[test]
fn what_another_server_writes_or_withdraws_is_seen_at_once() {
    let dirs = [DataDir::new(), DataDir::new()];
    let one = Server::start(&dirs[0], &[]);
    let url = database::url(&dirs[0]);
    let two = Server::start(&dirs[1], &[("EDS_DATABASE_URL", &url)]);
    for code in ["a", "b"] {
        one.create(&json!({"resourceType": "Basic", "code": {"coding": [{"system": "urn:s", "code": code, "display": code}]}}));
    }
    let set = |code: &str| {
        let mut set = value_set("urn:vs", json!({"include": [{"system": "urn:s", "concept": [{"code": code}]}]}));
        set["id"] = json!("one");
        set
    };
    let found = |code: &str| two.count(&format!("Basic?code:in=urn:vs&code={code}"));
    one.put("/ValueSet/one", &set("a")).expect(201);
    assert_eq!((found("a"), found("b")), (1, 0));
    one.put("/ValueSet/one", &set("b")).expect(200);
    assert_eq!((found("a"), found("b")), (0, 1));
    // A text that the first server has written is found by the second, and written by both.
    assert_eq!(two.count("Basic?code:text=a"), 1);
    two.create(&json!({"resourceType": "Basic", "code": {"text": "A"}}));
    assert_eq!(one.count("Basic?code:text=a"), 2);
    let mut session = database::Session::open(&dirs[0]);
    let unknown = two.get("/Basic?code:in=urn:none").refused(400);
    session.execute("update resource set state = 2 where id = 'one'");
    assert_eq!(two.get("/Basic?code:in=urn:vs").refused(400), unknown, "as one that never was");
}
