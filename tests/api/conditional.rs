//! Conditional create, update, delete and read.
//! Spec: <https://hl7.org/fhir/R4/http.html#ccreate>, <https://hl7.org/fhir/R4/http.html#cond-update>, <https://hl7.org/fhir/R4/http.html#3.1.0.7.1>,
//! <https://hl7.org/fhir/R4/http.html#cread>.

use crate::crud::without_meta;
use crate::support::http::Answer;
use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;

fn identified(value: &str, family: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "urn:test:mrn", "value": value}], "name": [{"family": family}]})
}

fn create_unless(criteria: &str, body: &Value) -> Answer {
    shared()
        .fhir("POST", "/Patient")
        .header("if-none-exist", criteria)
        .json(body)
        .send()
}

#[test]
fn conditional_create_answers_the_one_that_is_there() {
    let server = shared();
    let mrn = unique();
    let criteria = format!("identifier=urn:test:mrn|{mrn}");
    let first = create_unless(&criteria, &identified(&mrn, "Rossi")).expect(201).json();
    let again = create_unless(&criteria, &identified(&mrn, "Verdi")).expect(200);
    assert_eq!(again.json(), first);
    assert_eq!(again.header("etag"), Some("W/\"1\""));
    let location = format!("{}/Patient/{}/_history/1", server.base(), first["id"].as_str().unwrap());
    assert_eq!(again.header("location"), Some(location.as_str()));
    assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 1);
}

#[test]
fn conditional_create_with_several_matches_answers_412() {
    let server = shared();
    let mrn = unique();
    server.create(&identified(&mrn, "Rossi"));
    server.create(&identified(&mrn, "Verdi"));
    create_unless(&format!("identifier={mrn}"), &identified(&mrn, "Neri")).refused(412);
    create_unless(&format!("identifier=urn:test:mrn|{mrn}&family=Neri"), &identified(&mrn, "Neri")).expect(201);
    assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 3);
}

#[test]
fn conditional_create_does_not_see_what_was_deleted() {
    let server = shared();
    let mrn = unique();
    let criteria = format!("identifier={mrn}");
    let id = create_unless(&criteria, &identified(&mrn, "Rossi")).expect(201).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    server.delete(&format!("/Patient/{id}")).expect(204);
    let second = create_unless(&criteria, &identified(&mrn, "Rossi")).expect(201).json();
    assert_ne!(second["id"], id.as_str());
}

#[test]
fn criteria_that_are_wrong_or_empty_are_refused_and_nothing_is_stored() {
    let server = shared();
    let mrn = unique();
    for criteria in [
        "",
        "nosuch=1",
        "birthdate=no-date",
        "identifier=",
        "identifier",
        "_count=1",
        "_sort=family",
        "identifier:nosuch=x",
        "=",
    ] {
        let status = create_unless(criteria, &identified(&mrn, "Rossi")).status;
        assert!(matches!(status, 400 | 412), "{criteria}: {status}");
    }
    assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 0);
}

#[test]
fn sixteen_conditional_creates_at_once_make_one_resource() {
    let server = shared();
    for round in 0..5 {
        let mrn = unique();
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let create = || create_unless(&format!("identifier=urn:test:mrn|{mrn}"), &identified(&mrn, "Rossi"));
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 1, "round {round}");
        assert_eq!(answers.iter().filter(|a| a.status == 200).count(), 15, "round {round}");
        assert!(answers.iter().all(|a| a.json()["id"] == answers[0].json()["id"]));
        assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 1);
    }
}

#[test]
fn conditional_update_creates_then_updates_then_refuses_several() {
    let server = shared();
    let mrn = unique();
    let path = format!("/Patient?identifier=urn:test:mrn|{mrn}");
    let created = server.put(&path, &identified(&mrn, "Uno")).expect(201).json();
    let updated = server.put(&path, &identified(&mrn, "Due")).expect(200);
    assert_eq!(updated.json()["id"], created["id"]);
    assert_eq!(updated.header("etag"), Some("W/\"2\""));
    assert_eq!(without_meta(updated.json()), identified(&mrn, "Due"));
    let same = server.put(&path, &identified(&mrn, "Due")).expect(200);
    assert_eq!(same.header("etag"), Some("W/\"2\""));
    server.create(&identified(&mrn, "Tre"));
    server.put(&path, &identified(&mrn, "Quattro")).refused(412);
    assert_eq!(server.count(&format!("Patient?identifier={mrn}&family=Quattro")), 0);
}

/// <https://hl7.org/fhir/R4/http.html#cond-update>: the four cases, and the fifth that R5 adds to them.
#[test]
fn conditional_update_uses_the_id_of_the_body_to_create_and_refuses_another_than_that_of_the_match() {
    let server = shared();
    let (mrn, id, other) = (unique(), unique(), unique());
    let with_id = |id: &str, family: &str| {
        let mut body = identified(&mrn, family);
        body["id"] = json!(id);
        body
    };
    let path = format!("/Patient?identifier={mrn}");
    assert_eq!(server.put(&path, &with_id(&id, "Uno")).expect(201).json()["id"], id);
    assert_eq!(server.put(&path, &with_id(&id, "Due")).expect(200).json()["id"], id);
    server.put(&path, &with_id(&unique(), "Tre")).refused(400);
    assert_eq!(server.get(&format!("/Patient/{id}")).json()["name"][0]["family"], "Due");
    // No match, and the id is another patient's, or was.
    server
        .put(
            &format!("/Patient/{other}"),
            &json!({"resourceType": "Patient", "id": other, "active": true}),
        )
        .expect(201);
    let elsewhere = format!("/Patient?identifier={}", unique());
    server.put(&elsewhere, &with_id(&other, "Quattro")).refused(409);
    assert_eq!(server.get(&format!("/Patient/{other}")).json()["active"], true);
    server.delete(&format!("/Patient/{other}")).expect(204);
    assert_eq!(
        server.put(&elsewhere, &with_id(&other, "Quattro")).expect(201).json()["meta"]["versionId"],
        "3"
    );
    assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 2);
}

#[test]
fn a_match_is_recognised_however_its_identifier_is_escaped() {
    let server = shared();
    for (mrn, escaped) in [
        (format!("A{}", unique()), "\\u0041"),
        (format!("/{}", unique()), "\\/"),
        (format!("\u{e0}{}", unique()), "\\u00e0"),
        (format!("\"{}", unique()), "\\\""),
    ] {
        let rest: String = mrn.chars().skip(1).collect();
        let body = format!(r#"{{"resourceType":"Patient","identifier":[{{"system":"urn:test:mrn","value":"{escaped}{rest}"}}]}}"#);
        let created = server.fhir("POST", "/Patient").fhir(body).send().expect(201).json();
        let criteria: String = form_urlencoded::byte_serialize(format!("urn:test:mrn|{mrn}").as_bytes()).collect();
        let again = create_unless(&format!("identifier={criteria}"), &identified(&mrn, "Rossi"))
            .expect(200)
            .json();
        assert_eq!(again["id"], created["id"], "{escaped}");
    }
}

#[test]
fn conditional_delete_takes_the_one_match() {
    let server = shared();
    let mrn = unique();
    let path = format!("/Patient?identifier=urn:test:mrn|{mrn}");
    let none = server.delete(&path).status;
    assert!(matches!(none, 200 | 204 | 404), "{none}");
    let id = server.create(&identified(&mrn, "Uno"));
    server.delete(&path).expect(204);
    server.get(&format!("/Patient/{id}")).refused(410);
    server.create(&identified(&mrn, "Due"));
    server.create(&identified(&mrn, "Tre"));
    server.delete(&path).refused(412);
    assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 2);
}

#[test]
fn conditional_delete_and_update_without_criteria_touch_nothing() {
    let server = shared();
    let id = server.create(&identified(&unique(), "Uno"));
    for path in ["/Patient", "/Patient?", "/Patient?nosuch=1", "/Patient?_count=1"] {
        let status = server.delete(path).status;
        assert!(matches!(status, 400 | 405 | 412), "DELETE {path}: {status}");
        let status = server.put(path, &identified("x", "Due")).status;
        assert!(matches!(status, 400 | 405 | 412), "PUT {path}: {status}");
    }
    server.get(&format!("/Patient/{id}")).expect(200);
}

#[test]
fn conditional_update_with_if_match_holds_the_version_of_the_match() {
    let server = shared();
    let mrn = unique();
    let path = format!("/Patient?identifier={mrn}");
    server.put(&path, &identified(&mrn, "Uno")).expect(201);
    let write = |version: &str, family: &str| {
        server
            .fhir("PUT", &path)
            .header("if-match", version)
            .json(&identified(&mrn, family))
            .send()
    };
    write("W/\"2\"", "Due").refused(412);
    write("W/\"1\"", "Due").expect(200);
}

#[test]
fn a_read_of_what_the_client_has_answers_304() {
    let server = shared();
    let id = server.create(&identified(&unique(), "Uno"));
    let path = format!("/Patient/{id}");
    let current = server.get(&path).expect(200);
    let modified = current.header("last-modified").unwrap().to_owned();
    let read = |name: &str, value: &str| server.fhir("GET", &path).header(name, value).send();
    for (name, value) in [
        ("if-none-match", "W/\"1\""),
        ("if-none-match", "W/\"7\", W/\"1\""),
        ("if-none-match", "*"),
        ("if-modified-since", &modified),
    ] {
        let answer = read(name, value).expect(304);
        assert!(answer.body.is_empty(), "{name}: {value}");
        assert_eq!(answer.header("etag"), Some("W/\"1\""), "{name}: {value}");
    }
    for (name, value) in [
        ("if-none-match", "W/\"2\""),
        ("if-none-match", "nonsense"),
        ("if-modified-since", "Thu, 01 Jan 2015 00:00:00 GMT"),
        ("if-modified-since", "nonsense"),
    ] {
        assert_eq!(read(name, value).expect(200).json()["id"], id.as_str(), "{name}: {value}");
    }
    // If-None-Match decides when both are there.
    let both = server
        .fhir("GET", &path)
        .header("if-none-match", "W/\"2\"")
        .header("if-modified-since", &modified)
        .send();
    both.expect(200);
    // What is gone or never was is not "not modified".
    server.delete(&path).expect(204);
    read("if-none-match", "W/\"1\"").refused(410);
    read("if-none-match", "*").refused(410);
}

#[test]
fn more_identifiers_than_can_be_locked_are_refused_in_words() {
    let server = shared();
    let identifiers: Vec<Value> = (0..20_001)
        .map(|i| json!({"system": "urn:test:many", "value": i.to_string()}))
        .collect();
    let body = json!({"resourceType": "Patient", "identifier": identifiers});
    let create = server
        .fhir("POST", "/Patient")
        .header("if-none-exist", &format!("identifier=urn:test:many|{}", unique()));
    let why = create.json(&body).send().refused(400);
    assert!(why.contains("at most 20000 criteria and identifiers"), "{why}");
}
