//! What goes with a code, and what its modifiers ask. Spec: <https://hl7.org/fhir/R4/search.html#token>, <https://hl7.org/fhir/R4/search.html#modifiers>.

use crate::support::database;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::world::World;
use serde_json::Value;
use serde_json::json;
use std::process::Command;

fn coded(code: Value) -> Value {
    json!({"resourceType": "Condition", "subject": {"reference": "Patient/~p"}, "code": code})
}

fn conditions() -> World {
    let world = World::new();
    let icd = |code: &str, display: &str| json!({"system": "http://hl7.org/fhir/sid/icd-10", "code": code, "display": display});
    world.load(vec![
        ("p", json!({"resourceType": "Patient", "gender": "female"})),
        (
            "asthma",
            coded(json!({"coding": [icd("J45", "Asma bronchiale")], "text": "Asma da sforzo"})),
        ),
        (
            "headache",
            coded(json!({"coding": [icd("R51", "Cefàlea"), icd("G44", "Altre sindromi da cefalea")]})),
        ),
        ("text", coded(json!({"text": "  CEFALEA  a grappolo"}))),
        ("display", coded(json!({"coding": [{"display": "Ascesso"}]}))),
        (
            "code",
            coded(json!({"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "A"}]})),
        ),
        ("none", json!({"resourceType": "Condition", "subject": {"reference": "Patient/~p"}})),
    ]);
    world
}

/// "The search parameter is processed as a string that searches text associated with the code/value - either CodeableConcept.text,
/// Coding.display, or Identifier.type.text." A string begins with the value, whatever its case and accents.
#[test]
fn text_finds_the_text_of_a_code_from_its_beginning() {
    conditions().check(&[
        ("Condition?code:text=asma", &["asthma"]),
        ("Condition?code:text=ASMA BRON", &["asthma"]),
        ("Condition?code:text=asma da", &["asthma"]),
        ("Condition?code:text=cefalea", &["headache", "text"]),
        ("Condition?code:text=cefàlea", &["headache", "text"]),
        ("Condition?code:text=cefalea  a", &["text"]),
        ("Condition?code:text=altre", &["headache"]),
        ("Condition?code:text=as", &["asthma", "display"]),
        ("Condition?code:text=a", &["asthma", "display", "headache"]),
        ("Condition?code:text=altre,ascesso", &["display", "headache"]),
        ("Condition?code:text=altre&code:text=cefalea", &["headache"]),
        ("Condition?code:text=altre&code=R51", &["headache"]),
        // Neither inside, nor the code, nor another path.
        ("Condition?code:text=bronchiale", &[]),
        ("Condition?code:text=J45", &[]),
        ("Condition?severity:text=asma", &[]),
        ("Condition?code:text=asma%", &[]),
        // Through links.
        ("Patient?_has:Condition:patient:code:text=ascesso", &["p"]),
        (
            "Condition?subject:Patient._has:Condition:patient:code:text=altre&code:text=ascesso",
            &["display"],
        ),
        (
            "Condition?subject:Patient._has:Condition:patient:code:text=zzz&code:text=ascesso",
            &[],
        ),
        ("?_type=Basic,Condition&code:text=asma", &["asthma"]),
        // A text is a value: the element is there.
        ("Condition?code:missing=true", &["none"]),
        ("Condition?code:not=J45", &["code", "display", "headache", "none", "text"]),
    ]);
}

#[test]
fn text_finds_the_text_of_an_identifiers_type() {
    let world = World::new();
    let patient = |kind: Value| json!({"resourceType": "Patient", "identifier": [{"system": "urn:s", "value": "~v", "type": kind}]});
    world.load(vec![
        ("text", patient(json!({"text": "Tessera Sanitaria"}))),
        (
            "display",
            patient(json!({"coding": [{"system": "urn:t", "code": "TS", "display": "Tessera"}]})),
        ),
    ]);
    world.check(&[
        ("Patient?identifier:text=tessera", &["text"]),
        ("Patient?identifier:text=sanitaria", &[]),
        ("Patient?identifier:text=~v", &[]),
    ]);
}

#[test]
fn a_text_is_found_as_it_is_now() {
    let world = conditions();
    world.put("asthma", coded(json!({"text": "Bronchite"}))).expect(200);
    world.check(&[("Condition?code:text=asma", &[]), ("Condition?code:text=bronchite", &["asthma"])]);
    world.server.delete(&world.name("/Condition/~asthma")).expect(204);
    world.check(&[
        ("Condition?code:text=bronchite", &[]),
        ("Condition?code:text=ascesso", &["display"]),
    ]);
}

#[test]
fn a_text_that_stands_for_too_much_is_refused_by_the_name_of_the_limit() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_SEARCH_EXPANSION_CODES_MAX", "2")]);
    for text in ["aa", "ab", "ac"] {
        server.create(&json!({"resourceType": "Basic", "code": {"text": text}}));
    }
    assert_eq!(server.count("Basic?code:text=aa"), 1);
    let told = server.get("/Basic?code:text=a").refused(400);
    assert!(told.contains("search.expansion_codes_max"), "{told}");
}

/// An index of an older version has neither the terms nor what they mean.
#[test]
fn a_reindex_makes_the_vocabulary() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    server.create(&json!({"resourceType": "Basic", "code": {"coding": [{"system": "urn:s", "code": "a"}], "text": "Asma"}, "meta": {"profile": ["urn:p/q"]}}));
    database::Session::open(&dir)
        .execute("truncate vocabulary; update resource set terms = terms[1:reference_terms]; update repository set index_version = 4");
    assert_eq!(server.count("Basic?code:text=asma"), 0);
    server.stop();
    let mut command = Command::new(env!("CARGO_BIN_EXE_eds"));
    let done = command
        .args(["reindex", "--data-dir"])
        .arg(dir.data())
        .output()
        .expect("the program starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let server = Server::start(&dir, &[]);
    for search in ["code:text=asma", "_profile:below=urn:p", "code=a"] {
        assert_eq!(server.count(&format!("Basic?{search}")), 1, "{search}");
    }
}

/// "The search parameter has the format system|code|value, where the system and code refer to a Identifier.type.coding.system and .code, and match
/// if any of the type codes match. All 3 parts must be present."
#[test]
fn of_type_finds_an_identifier_by_its_type_and_value() {
    let world = World::new();
    let mr =
        json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}, {"system": "urn:t", "code": "x"}]});
    world.load(vec![
        ("a", json!({"resourceType": "Patient", "identifier": [{"type": mr, "system": "urn:s", "value": "446053"}]})),
        // The type of one identifier and the value of another.
        ("b", json!({"resourceType": "Patient", "identifier": [{"type": mr, "value": "1"}, {"type": {"coding": [{"code": "MR"}]}, "value": "446053"}]})),
    ]);
    let v2 = "http://terminology.hl7.org/CodeSystem/v2-0203";
    world.check(&[
        (&format!("Patient?identifier:of-type={v2}|MR|446053"), &["a"]),
        ("Patient?identifier:of-type=urn:t|x|446053", &["a"]),
        (&format!("Patient?identifier:of-type={v2}|MR|1"), &["b"]),
        (&format!("Patient?identifier:of-type={v2}|x|446053"), &[]),
        (&format!("Patient?identifier:of-type={v2}|MR|1,urn:t|x|446053"), &["a", "b"]),
        ("Patient?identifier:of-type=MR|MR|446053", &[]),
    ]);
    for value in ["446053", "MR|446053", "|MR|446053", "urn:t||446053", "urn:t|x|", "a|b|c|d"] {
        let told = world.search(&format!("Patient?identifier:of-type={value}")).refused(400);
        assert!(told.contains("system|code|value"), "{value}: {told}");
    }
}

/// "Reverse the code matching ...: return all resources that do not have a matching item. Note that this includes resources that have no value."
#[test]
fn not_reverses_all_its_alternatives_together() {
    conditions().check(&[
        ("Condition?code:not=J45,R51", &["code", "display", "none", "text"]),
        ("Condition?code:not=R51&code:not=J45", &["code", "display", "none", "text"]),
        ("Condition?code:not=R51&code:missing=false", &["asthma", "code", "display", "text"]),
        ("Condition?code:not=R51&code:missing=true", &["none"]),
        ("Condition?_id:not=~asthma,~none", &["code", "display", "headache", "text"]),
        ("Condition?subject:Patient.gender:not=male&code=R51", &["headache"]),
        ("Condition?subject:Patient.gender:not=male,female&code=R51", &[]),
    ]);
}

/// <https://hl7.org/fhir/R4/search.html#token>, the table of datatypes: what a code or a boolean implies is its system.
#[test]
fn a_plain_code_has_the_system_of_its_definition() {
    let world = World::new();
    world.load(vec![
        ("a", json!({"resourceType": "Patient", "gender": "male", "active": true})),
        ("b", json!({"resourceType": "Patient"})),
    ]);
    world.check(&[
        ("Patient?gender=http://hl7.org/fhir/administrative-gender|", &["a"]),
        ("Patient?gender=urn:other|", &[]),
        ("Patient?gender=|male", &["a"]),
        ("Patient?active=http://terminology.hl7.org/CodeSystem/special-values|true", &["a"]),
        ("Patient?active=http://terminology.hl7.org/CodeSystem/special-values|false", &[]),
        ("Patient?gender:not=http://hl7.org/fhir/administrative-gender|", &["b"]),
    ]);
}

/// "identifier: ... where the referenced resource is known by its identifier": in the forms of a token, also at the end of a chain.
#[test]
fn references_are_found_by_the_identifier_in_them() {
    let world = World::new();
    let about = |subject: Value| json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject});
    world.load(vec![
        ("e", json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"identifier": {"system": "urn:s", "value": "~1"}}})),
        ("system", about(json!({"identifier": {"system": "urn:s", "value": "~1"}, "type": "Patient"}))),
        ("value", about(json!({"identifier": {"value": "~1"}}))),
        ("group", about(json!({"identifier": {"system": "urn:s", "value": "~1"}, "type": "Group"}))),
        ("only-system", about(json!({"identifier": {"system": "~urn:only"}}))),
        ("far", about(json!({"reference": "http://far.example/fhir/Group/~g", "identifier": {"value": "~2"}}))),
        ("literal", about(json!({"reference": "Patient/~p", "identifier": {"value": "~3"}}))),
        ("p", json!({"resourceType": "Patient"})),
        (
            "in-encounter",
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "encounter": {"reference": "Encounter/~e"}}),
        ),
    ]);
    world.check(&[
        ("Observation?subject:identifier=~1", &["group", "system", "value"]),
        ("Observation?subject:identifier=urn:s|~1", &["group", "system"]),
        ("Observation?subject:identifier=|~1", &["value"]),
        ("Observation?subject:identifier=~urn:only|", &["only-system"]),
        ("Observation?subject:identifier=urn:x|~1", &[]),
        // The parameter `patient` reads references to patients alone.
        ("Observation?patient:identifier=~1", &["system"]),
        ("Observation?patient:identifier=~2", &[]),
        ("Observation?patient:identifier=~3", &["literal"]),
        ("Observation?encounter.subject:identifier=urn:s|~1", &["in-encounter"]),
        ("Observation?encounter:Encounter.subject:identifier=~2", &[]),
        ("Observation?subject:Group=http://far.example/fhir/Group/~g", &["far"]),
        ("Observation?subject:Patient=http://far.example/fhir/Group/~g", &[]),
        ("Observation?subject:Patient=Patient/~p", &["literal"]),
        ("Observation?patient=http://far.example/fhir/Group/~g", &[]),
        ("Observation?subject:missing=true", &["in-encounter"]),
    ]);
}

/// "url:below=http://acme.org/fhir/ ... :above": as they are for `_profile` and `_source`. <https://hl7.org/fhir/R4/search.html#uri>
#[test]
fn profiles_and_sources_are_found_above_and_below() {
    let world = World::new();
    let basic = |profile: &str, source: &str| json!({"resourceType": "Basic", "code": {"text": "x"}, "meta": {"profile": [profile], "source": source}});
    let deep = format!("http://s.example{}", "/x".repeat(20));
    world.load(vec![
        ("root", basic("http://~p.example/fhir", "http://s.example/a/b#c")),
        ("one", basic("http://~p.example/fhir/one", "http://s.example/a")),
        ("two", basic("http://~p.example/fhir/one/two|2.0", "urn:s")),
        ("other", basic("http://~p.example/fhirs", &deep)),
    ]);
    world.check(&[
        ("Basic?_profile:below=http://~p.example/fhir", &["one", "root", "two"]),
        ("Basic?_profile:below=http://~p.example/fhir/", &["one", "root", "two"]),
        ("Basic?_profile:below=http://~p.example/fhir/one", &["one", "two"]),
        ("Basic?_profile:below=http://~p.example/fhir/o", &[]),
        ("Basic?_profile:below=http://~p.example", &["one", "other", "root", "two"]),
        ("Basic?_profile:above=http://~p.example/fhir/one/three", &["one", "root"]),
        ("Basic?_profile=http://~p.example/fhir/one/two", &["two"]),
        ("Basic?_source:below=http://s.example/a", &["one", "root"]),
        ("Basic?_source:below=http://s.example", &["one", "other", "root"]),
        ("Basic?_source:above=http://s.example/a/b", &["one"]),
        (&format!("Basic?_source={deep}"), &["other"]),
    ]);
    let told = world.search(&format!("Basic?_source:below={deep}")).refused(400);
    assert!(told.contains("segments"), "{told}");
}

/// What has no index is refused, not scanned.
#[test]
fn parts_of_strings_need_three_letters() {
    let world = World::new();
    world.load(vec![(
        "a",
        json!({"resourceType": "Patient", "name": [{"family": "Dell'Orto-Rossi"}]}),
    )]);
    world.check(&[
        ("Patient?family:contains=ORT", &["a"]),
        ("Patient?family:contains=l'o", &["a"]),
        ("Patient?family:contains=o-r", &["a"]),
        ("Patient?family:contains=o-x", &[]),
    ]);
    for part in ["o", "or", "è", "--", "-.-", "r-", "%"] {
        let told = world.search(&format!("Patient?family:contains={part}")).refused(400);
        assert!(told.contains("three"), "{part}: {told}");
    }
    let long = "x".repeat(500);
    let told = world.search(&format!("Patient?family={long}")).refused(400);
    assert!(told.contains("500"), "{told}");
}

/// Each modifier with a parameter that does not take it: refused, with what would be right.
#[test]
fn modifiers_that_do_not_fit_are_refused() {
    let world = World::new();
    for (search, told) in [
        ("Patient?gender:text=male", "no text"),
        ("Patient?telecom:text=x", "no text"),
        ("Patient?gender:of-type=a|b|c", ":not"),
        ("Patient?identifier:exact=x", ":of-type"),
        ("Patient?family:text=x", ":contains"),
        ("Patient?family:not=x", ":exact"),
        ("Patient?birthdate:not=2020", ":missing"),
        ("Patient?birthdate:contains=2020", ":missing"),
        ("Patient?_id:text=x", ":not"),
        ("Patient?_id:missing=true", "never"),
        ("Patient?_lastUpdated:missing=true", "never"),
        ("Patient?general-practitioner:text=x", ":identifier"),
        ("Patient?general-practitioner:contains=x", ":[type]"),
        ("Patient?general-practitioner:Group=x", "Practitioner"),
        ("Patient?general-practitioner:identifier=|", "system|value"),
        ("ValueSet?url:contains=x", ":below"),
        ("Observation?value-quantity:exact=1", ":missing"),
        ("Observation?code-value-quantity:missing=true", "no modifiers"),
        ("Observation?code-value-quantity:not=a$1", "no modifiers"),
        ("Patient?gender:missing=maybe", "true or false"),
        ("Patient?identifier=|", "code or a system"),
        ("Patient?identifier=a|b|c", "system|code"),
        ("Patient?identifier=||", "system|code"),
        ("Patient?identifier:nonsense=a", ":of-type"),
        ("Patient?identifier:not:text=a", ":of-type"),
    ] {
        let answer = world.search(search);
        let text = answer.refused(400);
        assert!(text.contains(told), "{search}: {text}");
    }
    let told = world
        .server
        .fhir("POST", "/Basic")
        .header("if-none-exist", "code:text=x")
        .json(&json!({"resourceType": "Basic", "code": {"text": "x"}}))
        .send()
        .refused(400);
    assert!(told.contains("conditional"), "{told}");
}
