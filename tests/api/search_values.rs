//! Search by token, string, uri and reference, with their modifiers. Spec: <https://hl7.org/fhir/R4/search.html#token>,
//! <https://hl7.org/fhir/R4/search.html#string>, <https://hl7.org/fhir/R4/search.html#uri>, <https://hl7.org/fhir/R4/search.html#reference>,
//! <https://hl7.org/fhir/R4/search.html#modifiers>, <https://hl7.org/fhir/R4/search.html#combining>, <https://hl7.org/fhir/R4/search.html#escaping>.

use crate::support::world::World;
use serde_json::json;

fn people() -> World {
    let world = World::new();
    world.load(vec![
        (
            "anna",
            json!({"resourceType": "Patient", "active": true, "gender": "female",
                "identifier": [{"system": "urn:oid:2.16.840.1.113883.2.9.4.3.2", "value": "RSSNNA80A41H501X"}, {"system": "urn:a", "value": "1"}],
                "name": [{"family": "Rossi", "given": ["Anna", "Maria"], "prefix": ["Dott."]}],
                "telecom": [{"system": "phone", "value": "06123", "use": "home"}, {"system": "email", "value": "anna@example.org"}],
                "address": [{"city": "Forlì", "line": ["Via dell'Olmo 1"], "postalCode": "47121"}],
                "maritalStatus": {"coding": [{"system": "urn:m", "code": "M"}, {"system": "urn:n", "code": "S"}]}}),
        ),
        (
            "bruno",
            json!({"resourceType": "Patient", "active": false, "gender": "male", "deceasedBoolean": false,
                "identifier": [{"system": "http://hl7.it/sid/codiceFiscale", "value": "RSSBRN80A01H501Y"}, {"system": "urn:b", "value": "1"}],
                "name": [{"family": "De Rossi", "given": ["Bruno"]}, {"use": "nickname", "text": "Il Rosso"}],
                "address": [{"city": "FORLI", "text": "Piazza 1, Forlì"}],
                "maritalStatus": {"coding": [{"code": "M"}]}}),
        ),
        (
            "carla",
            json!({"resourceType": "Patient", "deceasedDateTime": "2020-01-01", "identifier": [{"value": "1"}, {"system": "urn:c"}],
                "name": [{"family": "D’Angelo-Straße", "given": ["Carla", "ÉLODIE"]}], "maritalStatus": {"text": "M"}}),
        ),
        ("dario", json!({"resourceType": "Patient", "gender": "male", "name": [{"family": "100% a_b\\c, d|e $f"}], "active": true})),
        ("enzo", json!({"resourceType": "Patient", "gender": "unknown", "_active": {"extension": [{"url": "urn:x", "valueString": "?"}]}})),
    ]);
    world
}

#[test]
fn tokens_match_by_system_and_code_in_all_their_forms() {
    people().check(&[
        ("Patient?identifier=1", &["anna", "bruno", "carla"]),
        ("Patient?identifier=urn:a|1", &["anna"]),
        ("Patient?identifier=urn:b|1", &["bruno"]),
        ("Patient?identifier=|1", &["carla"]),
        ("Patient?identifier=urn:a|", &["anna"]),
        ("Patient?identifier=urn:c|", &["carla"]),
        ("Patient?identifier=urn:none|", &[]),
        ("Patient?identifier=urn:a|2", &[]),
        ("Patient?identifier=urn:a|1,urn:b|1", &["anna", "bruno"]),
        ("Patient?identifier=urn:a|1&identifier=urn:b|1", &[]),
        ("Patient?identifier=urn:a|1&identifier=RSSNNA80A41H501X", &["anna"]),
        ("Patient?gender=male", &["bruno", "dario"]),
        ("Patient?gender=http://hl7.org/fhir/administrative-gender|male", &["bruno", "dario"]),
        ("Patient?gender=urn:other|male", &[]),
        ("Patient?gender=male,female", &["anna", "bruno", "dario"]),
        ("Patient?active=true", &["anna", "dario"]),
        ("Patient?active=false", &["bruno"]),
        ("Patient?deceased=true", &["carla"]),
        ("Patient?telecom=06123", &["anna"]),
        ("Patient?phone=06123", &["anna"]),
        ("Patient?email=06123", &[]),
        ("Patient?email=anna@example.org", &["anna"]),
        // No prefix search on tokens.
        ("Patient?identifier=RSSNNA", &[]),
    ]);
}

#[test]
fn not_finds_what_does_not_have_the_value_and_what_has_none() {
    people().check(&[
        ("Patient?gender:not=male", &["anna", "carla", "enzo"]),
        ("Patient?gender:not=male,female", &["carla", "enzo"]),
        ("Patient?gender:not=male&gender:not=unknown", &["anna", "carla"]),
        ("Patient?identifier:not=urn:a|1", &["bruno", "carla", "dario", "enzo"]),
        ("Patient?active:not=true", &["bruno", "carla", "enzo"]),
        ("Patient?gender:not=male&active=true", &["anna"]),
    ]);
}

#[test]
fn missing_finds_what_has_no_value() {
    people().check(&[
        ("Patient?gender:missing=true", &["carla"]),
        ("Patient?gender:missing=false", &["anna", "bruno", "dario", "enzo"]),
        ("Patient?name:missing=true", &["enzo"]),
        ("Patient?identifier:missing=true", &["dario", "enzo"]),
        ("Patient?birthdate:missing=true", &["anna", "bruno", "carla", "dario", "enzo"]),
        ("Patient?birthdate:missing=false", &[]),
        (
            "Patient?organization:missing=true&active:missing=false",
            &["anna", "bruno", "dario"],
        ),
        // An extension without a value is no value.
        ("Patient?active:missing=true", &["carla", "enzo"]),
    ]);
}

#[test]
fn strings_match_from_their_beginning_without_case_and_accents() {
    people().check(&[
        ("Patient?family=ross", &["anna"]),
        ("Patient?family=ROSSI", &["anna"]),
        ("Patient?name=ross", &["anna"]),
        ("Patient?name=maria", &["anna"]),
        ("Patient?name=dott", &["anna"]),
        ("Patient?name=il rosso", &["bruno"]),
        ("Patient?given=élodie", &["carla"]),
        ("Patient?given=Elodie", &["carla"]),
        ("Patient?family=de ros", &["bruno"]),
        ("Patient?family=de  ros", &["bruno"]),
        ("Patient?address=forli", &["anna", "bruno"]),
        ("Patient?address-city=FORLÌ", &["anna", "bruno"]),
        ("Patient?address-city=for", &["anna", "bruno"]),
        ("Patient?address=via dell'olmo", &["anna"]),
        ("Patient?address-postalcode=471", &["anna"]),
        ("Patient?family=ross,de", &["anna", "bruno"]),
        ("Patient?name=anna&name=maria", &["anna"]),
        ("Patient?name=anna&name=bruno", &[]),
        ("Patient?family=ossi", &[]),
    ]);
}

#[test]
fn contains_finds_parts_and_exact_the_whole_as_it_is() {
    people().check(&[
        ("Patient?family:contains=oss", &["anna", "bruno"]),
        ("Patient?family:contains=OSSI", &["anna", "bruno"]),
        ("Patient?name:contains=ODI", &["carla"]),
        ("Patient?name:contains=ross", &["anna", "bruno"]),
        ("Patient?address:contains=olmo", &["anna"]),
        ("Patient?family:exact=Rossi", &["anna"]),
        ("Patient?family:exact=rossi", &[]),
        ("Patient?family:exact=Ross", &[]),
        ("Patient?given:exact=ÉLODIE", &["carla"]),
        ("Patient?given:exact=Élodie", &[]),
        ("Patient?address-city:exact=Forlì", &["anna"]),
        ("Patient?address-city:exact=FORLI", &["bruno"]),
    ]);
}

#[test]
fn characters_with_a_meaning_are_escaped_and_others_stand_for_themselves() {
    people().check(&[
        ("Patient?family=100%", &["dario"]),
        ("Patient?family=%", &[]),
        ("Patient?family=_", &[]),
        ("Patient?family=100_", &[]),
        ("Patient?family:contains=a_b", &["dario"]),
        ("Patient?family:contains=a%b", &[]),
        ("Patient?family:contains=\\\\c\\, d\\|e \\$f", &["dario"]),
        ("Patient?family:exact=100% a_b\\\\c\\, d\\|e \\$f", &["dario"]),
        ("Patient?family=100% a_b\\\\c\\, d", &["dario"]),
        ("Patient?family=nothing\\,ross", &[]),
        ("Patient?family=nothing,ross", &["anna"]),
    ]);
    let world = World::new();
    let code = |code: &str| json!({"resourceType": "Basic", "code": {"coding": [{"system": "urn:s", "code": code}]}});
    world.load(vec![
        ("comma", code("a,b")),
        ("bar", code("a|b")),
        ("dollar", code("a$b")),
        ("back", code("a\\b")),
        ("plain", code("a")),
    ]);
    world.check(&[
        ("Basic?code=a\\,b", &["comma"]),
        ("Basic?code=urn:s|a\\,b", &["comma"]),
        ("Basic?code=a\\|b", &["bar"]),
        ("Basic?code=urn:s|a\\|b", &["bar"]),
        ("Basic?code=a\\$b", &["dollar"]),
        ("Basic?code=a\\\\b", &["back"]),
        ("Basic?code=a,b", &["plain"]),
        ("Basic?code=a\\,b,a", &["comma", "plain"]),
    ]);
}

#[test]
fn systems_that_mean_the_same_are_one() {
    let world = people();
    for system in ["urn:oid:2.16.840.1.113883.2.9.4.3.2", "http://hl7.it/sid/codiceFiscale"] {
        let both = format!("{system}|RSSNNA80A41H501X,{system}|RSSBRN80A01H501Y");
        assert_eq!(world.find(&format!("Patient?identifier={both}")), ["anna", "bruno"], "{system}");
        assert_eq!(world.find(&format!("Patient?identifier={system}|")), ["anna", "bruno"], "{system}");
    }
    // What is stored keeps its own spelling.
    let stored = world.server.get(&world.name("/Patient/~bruno")).json();
    assert_eq!(stored["identifier"][0]["system"], "http://hl7.it/sid/codiceFiscale");
}

#[test]
fn codes_are_found_by_each_of_their_codings() {
    people().check(&[
        ("Patient?_tag:not=urn:x|x", &["anna", "bruno", "carla", "dario", "enzo"]),
        ("Patient?identifier=RSSNNA80A41H501X,RSSBRN80A01H501Y", &["anna", "bruno"]),
    ]);
    let world = World::new();
    world.load(vec![
        (
            "both",
            json!({"resourceType": "Basic", "code": {"coding": [{"system": "urn:s", "code": "x"}, {"system": "urn:t", "code": "y"}]}}),
        ),
        ("text", json!({"resourceType": "Basic", "code": {"text": "x"}})),
        (
            "display",
            json!({"resourceType": "Basic", "code": {"coding": [{"system": "urn:s", "display": "x"}]}}),
        ),
        (
            "case",
            json!({"resourceType": "Basic", "code": {"coding": [{"system": "urn:s", "code": "X"}]}}),
        ),
    ]);
    world.check(&[
        ("Basic?code=x", &["both"]),
        ("Basic?code=urn:t|y", &["both"]),
        ("Basic?code=urn:s|y", &[]),
        ("Basic?code=urn:s|x&code=urn:t|y", &["both"]),
    ]);
}

#[test]
fn uris_match_whole_and_above_and_below_by_their_segments() {
    let world = World::new();
    let value_set = |url: &str| json!({"resourceType": "ValueSet", "status": "active", "url": world.name(url)});
    world.load(vec![
        ("root", value_set("http://~x.org/fhir")),
        ("child", value_set("http://~x.org/fhir/vs")),
        ("leaf", value_set("http://~x.org/fhir/vs/1")),
        ("sibling", value_set("http://~x.org/fhirs")),
        ("oid", value_set("urn:oid:1.2.~3".replace('~', "").as_str())),
        ("case", value_set("http://~x.org/FHIR")),
    ]);
    world.check(&[
        ("ValueSet?url=http://~x.org/fhir", &["root"]),
        ("ValueSet?url=http://~x.org/FHIR", &["case"]),
        ("ValueSet?url=http://~x.org/fhir/", &[]),
        ("ValueSet?url=http://~x.org", &[]),
        ("ValueSet?url=urn:oid:1.2.3", &["oid"]),
        ("ValueSet?url:below=http://~x.org/fhir", &["child", "leaf", "root"]),
        ("ValueSet?url:below=http://~x.org/fhir/", &["child", "leaf", "root"]),
        ("ValueSet?url:below=http://~x.org", &["case", "child", "leaf", "root", "sibling"]),
        ("ValueSet?url:below=http://~x.org/fhir/v", &[]),
        ("ValueSet?url:above=http://~x.org/fhir/vs/1", &["child", "leaf", "root"]),
        ("ValueSet?url:above=http://~x.org/fhir/vs/2/3", &["child", "root"]),
        ("ValueSet?url:above=http://~x.org/fhirs", &["sibling"]),
        ("ValueSet?url=http://~x.org/fhir,urn:oid:1.2.3", &["oid", "root"]),
    ]);
}

#[test]
fn references_match_in_all_their_spellings() {
    let world = World::new();
    let about =
        |subject: serde_json::Value| json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject});
    world.load(vec![
        ("p", json!({"resourceType": "Patient"})),
        ("q", json!({"resourceType": "Patient"})),
        ("p", json!({"resourceType": "Device"})),
        ("of-p", about(json!({"reference": "Patient/~p"}))),
        ("of-q", about(json!({"reference": "Patient/~q/_history/1"}))),
        ("of-device", about(json!({"reference": "Device/~p"}))),
        ("far", about(json!({"reference": "http://far.example/fhir/Patient/~p"}))),
        (
            "logical",
            about(json!({"type": "Patient", "identifier": {"system": "urn:oid:2.16.840.1.113883.2.9.4.3.2", "value": "~cf"}})),
        ),
        ("both", about(json!({"reference": "Patient/~p", "identifier": {"value": "~v"}}))),
        ("none", about(json!({"display": "someone"}))),
    ]);
    world.check(&[
        ("Observation?subject=Patient/~p", &["both", "of-p"]),
        ("Observation?subject=~p", &["both", "of-device", "of-p"]),
        ("Observation?subject:Patient=~p", &["both", "of-p"]),
        ("Observation?subject:Device=~p", &["of-device"]),
        ("Observation?subject:Group=~p", &[]),
        ("Observation?subject=Device/~p", &["of-device"]),
        ("Observation?patient=~p", &["both", "of-p"]),
        ("Observation?patient=Patient/~p", &["both", "of-p"]),
        ("Observation?subject=Patient/~q", &["of-q"]),
        ("Observation?subject=http://far.example/fhir/Patient/~p", &["far"]),
        ("Observation?subject=Patient/~p,Patient/~q", &["both", "of-p", "of-q"]),
        ("Observation?subject=Patient/~p&subject=Patient/~q", &[]),
        (
            "Observation?subject:identifier=urn:oid:2.16.840.1.113883.2.9.4.3.2|~cf",
            &["logical"],
        ),
        ("Observation?subject:identifier=http://hl7.it/sid/codiceFiscale|~cf", &["logical"]),
        ("Observation?subject:identifier=~cf", &["logical"]),
        ("Observation?subject:identifier=~v", &["both"]),
        ("Observation?subject:identifier=urn:x|~v", &[]),
        // A display alone is nothing to search for, but the element is there.
        ("Observation?subject:missing=true", &[]),
        ("Observation?encounter:missing=true&subject=~q", &["of-q"]),
        ("Observation?subject=Patient/nothing", &[]),
    ]);
    let base = world.server.base();
    assert_eq!(
        world.find(&format!("Observation?subject={base}/Patient/~p")),
        ["both", "of-p"],
        "an absolute URL of this server"
    );
}

#[test]
fn resources_are_found_by_what_stands_in_their_meta() {
    let world = World::new();
    world.load(vec![
        ("a", json!({"resourceType": "Basic", "code": {"text": "x"}, "meta": {"profile": ["http://p.example/one", "http://p.example/two|1.0"],
            "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}], "tag": [{"system": "urn:t", "code": "x"}], "source": "urn:s:1"}})),
        ("b", json!({"resourceType": "Basic", "code": {"text": "x"}, "meta": {"tag": [{"code": "x"}], "source": "urn:s:2"}})),
    ]);
    world.check(&[
        ("Basic?_id=~a", &["a"]),
        ("Basic?_id=~a,~b,nothing", &["a", "b"]),
        ("Basic?_id=~a&_id=~b", &[]),
        ("Basic?_profile=http://p.example/one", &["a"]),
        ("Basic?_profile=http://p.example/two", &["a"]),
        ("Basic?_profile=http://p.example/three", &[]),
        ("Basic?_security=R", &["a"]),
        ("Basic?_security=http://terminology.hl7.org/CodeSystem/v3-Confidentiality|R", &["a"]),
        ("Basic?_security:not=R", &["b"]),
        ("Basic?_tag=urn:t|x", &["a"]),
        ("Basic?_tag=|x", &["b"]),
        ("Basic?_source=urn:s:1", &["a"]),
        ("Basic?_lastUpdated=gt2020", &["a", "b"]),
        ("Basic?_lastUpdated=lt2020", &[]),
        ("Basic?_lastUpdated=gt2020&_lastUpdated=lt2999-01-01", &["a", "b"]),
        ("Basic?_lastUpdated=ge2999", &[]),
        ("Basic?_lastUpdated=ne2020-01-01", &["a", "b"]),
    ]);
    let updated = world.server.get(&world.name("/Basic/~a")).json()["meta"]["lastUpdated"]
        .as_str()
        .unwrap()
        .to_owned();
    for (prefix, finds) in [
        ("", true),
        ("eq", true),
        ("ge", true),
        ("le", true),
        ("gt", false),
        ("lt", false),
        ("ne", false),
        ("sa", false),
        ("eb", false),
    ] {
        let found = world.find(&format!("Basic?_id=~a&_lastUpdated={prefix}{updated}"));
        assert_eq!(found == ["a"], finds, "{prefix}{updated}");
    }
}

#[test]
fn what_was_deleted_or_changed_is_no_longer_found() {
    let world = World::new();
    let named =
        |family: &str| json!({"resourceType": "Patient", "name": [{"family": family}], "identifier": [{"system": "urn:x", "value": "~1"}]});
    world.load(vec![("a", named("Uno")), ("b", named("Due"))]);
    world.check(&[("Patient?identifier=urn:x|~1", &["a", "b"]), ("Patient?family=uno", &["a"])]);
    world.put("a", named("Tre")).expect(200);
    world.check(&[
        ("Patient?family=uno", &[]),
        ("Patient?family=tre", &["a"]),
        ("Patient?family:exact=Uno", &[]),
    ]);
    world.server.delete(&world.name("/Patient/~a")).expect(204);
    world.check(&[
        ("Patient?identifier=urn:x|~1", &["b"]),
        ("Patient?family=tre", &[]),
        ("Patient?_id=~a", &[]),
    ]);
    assert_eq!(world.server.count(&world.name("Patient?identifier=urn:x|~1")), 1);
    world.put("a", named("Uno")).expect(201);
    world.check(&[("Patient?identifier=urn:x|~1", &["a", "b"])]);
}

#[test]
fn searches_that_are_wrong_are_refused_and_say_what_is_right() {
    let server = crate::support::server::shared();
    for query in [
        "identifier=|",
        "identifier=",
        "gender=male,",
        "gender=,male",
        "family:nosuch=x",
        "family:not=x",
        "family=",
        "gender:exact=male",
        "gender:contains=m",
        "birthdate:exact=2000",
        "active:missing=maybe",
        "active:missing=",
        "_id:missing=true",
        "_id:exact=x",
        "general-practitioner:Nothing=1",
        "_lastUpdated=x",
        "_tag=",
        "nosuch=1",
        "Name=x",
        "name:=x",
        "_text:exact=x",
        "_content=x",
        "_filter=name xx x",
        "_list=$current-problems",
        "_query=x",
        "_type=Patient",
        "_count=-1",
        "_count=x",
        "_total=maybe",
        "_summary=maybe",
        "_sort=nosuch",
        "_sort=",
        "_sort=,",
        "_sort=-",
        "_sort=name,-",
        "_include=Patient",
        "_include=Patient:nosuch",
        "_include=Nothing:x",
        "_include=Patient:name",
        "_include=Observation:subject",
        "_revinclude=Observation",
        "_include=Patient:organization:Nothing",
        "_has=x",
        "_has:Observation=x",
        "_has:Observation:patient=x",
        "_has:Observation:code:code=x",
        "_has:Nothing:patient:code=x",
        "_cursor=x",
        "name.family=x",
        "organization.=x",
        ".name=x",
        "organization..name=x",
    ] {
        let answer = server.get(&format!("/Patient?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert!(answer.refused(400).len() > 15, "{query}");
    }
}
