//! FHIR create, read, vread, update and delete.
//! Spec: <https://hl7.org/fhir/R4/http.html#create>, <https://hl7.org/fhir/R4/http.html#read>, <https://hl7.org/fhir/R4/http.html#vread>,
//! <https://hl7.org/fhir/R4/http.html#update>, <https://hl7.org/fhir/R4/http.html#delete>.

use crate::support::http::Answer;
use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;

/// The resource without what the server adds.
pub fn without_meta(mut resource: Value) -> Value {
    let object = resource.as_object_mut().unwrap();
    object.remove("id");
    object.remove("meta");
    resource
}

pub fn patient(family: &str) -> Value {
    json!({"resourceType": "Patient", "name": [{"family": family}]})
}

pub fn patient_with_id(id: &str, family: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": family}]})
}

fn is_instant(text: &str) -> bool {
    chrono::DateTime::parse_from_rfc3339(text).is_ok()
}

fn is_http_date(text: &str) -> bool {
    text.ends_with(" GMT") && chrono::DateTime::parse_from_rfc2822(text).is_ok()
}

/// Version and instant in headers and body are the same.
#[track_caller]
fn check_version(answer: &Answer, id: &str, version: u64) {
    let body = answer.json();
    assert_eq!(body["id"], id);
    assert_eq!(body["meta"]["versionId"], version.to_string());
    assert_eq!(answer.header("etag"), Some(format!("W/\"{version}\"").as_str()));
    let updated = body["meta"]["lastUpdated"].as_str().unwrap();
    assert!(is_instant(updated), "{updated}");
    let (in_body, in_header) = (
        chrono::DateTime::parse_from_rfc3339(updated).unwrap(),
        answer.header("last-modified").unwrap(),
    );
    assert!(is_http_date(in_header), "{in_header}");
    assert_eq!(
        chrono::DateTime::parse_from_rfc2822(in_header).unwrap().timestamp(),
        in_body.timestamp()
    );
}

#[test]
fn create_answers_201_with_location_version_and_the_resource_as_sent() {
    let server = shared();
    let sent = json!({"resourceType": "Patient", "active": true, "name": [{"family": "Rossi", "given": ["Anna", "Maria"]}]});
    let created = server.post("/Patient", &sent).expect(201);
    let body = created.json();
    let id = body["id"].as_str().unwrap();
    check_version(&created, id, 1);
    assert_eq!(
        created.header("location"),
        Some(format!("{}/Patient/{id}/_history/1", server.base()).as_str())
    );
    assert_eq!(created.header("content-type"), Some("application/fhir+json; charset=utf-8"));
    assert_eq!(without_meta(body.clone()), sent);
    let read = server.get(&format!("/Patient/{id}")).expect(200);
    check_version(&read, id, 1);
    assert_eq!(read.json(), body);
}

#[test]
fn create_gives_an_id_of_its_own_and_ignores_id_and_version_of_the_body() {
    let server = shared();
    let asked = unique();
    let sent = json!({"resourceType": "Patient", "id": asked, "meta": {"versionId": "77", "lastUpdated": "2001-01-01T00:00:00Z", "source": "urn:x"}});
    let body = server.post("/Patient", &sent).expect(201).json();
    assert_ne!(body["id"], asked);
    assert_eq!(body["meta"]["versionId"], "1");
    assert_ne!(body["meta"]["lastUpdated"], "2001-01-01T00:00:00Z");
    assert_eq!(body["meta"]["source"], "urn:x");
    server.get(&format!("/Patient/{asked}")).refused(404);
}

#[test]
fn what_was_sent_is_served_byte_for_byte_but_for_id_and_meta() {
    let server = shared();
    // Order of members, decimals, escapes, and null twins survive; white space between tokens need not.
    let fields = r#""status":"final","code":{"text":"caff\u00e8 \"nero\" \/ è 🦀"},"valueQuantity":{"value":107.50,"unit":"mg"},"component":[{"code":{"text":"a"},"valueQuantity":{"value":1.0e-3}},{"code":{"text":"b"},"valueQuantity":{"value":-0.0}}]"#;
    let created = server
        .fhir("POST", "/Observation")
        .fhir(format!("{{\"resourceType\":\"Observation\",{fields}}}"))
        .send()
        .expect(201)
        .json();
    let read = server.get(&format!("/Observation/{}", created["id"].as_str().unwrap())).expect(200);
    assert!(read.text().contains(fields), "{}", read.text());
}

#[test]
fn read_of_what_never_was_answers_404() {
    let server = shared();
    assert_eq!(
        server.get("/Patient/no-such-patient").refused(404),
        "Patient/no-such-patient is not known"
    );
    server.get("/Patient/no-such-patient/_history/1").refused(404);
    server.get("/Patient/no-such-patient/_history").refused(404);
    server.get("/Nothing/1").refused(404);
    // An id of one type is no id of another.
    let id = server.create(&patient("Rossi"));
    server.get(&format!("/Practitioner/{id}")).refused(404);
}

#[test]
fn vread_gives_every_version_and_404_for_others() {
    let server = shared();
    let id = unique();
    for family in ["Uno", "Due", "Tre"] {
        let status = if family == "Uno" { 201 } else { 200 };
        server.put(&format!("/Patient/{id}"), &patient_with_id(&id, family)).expect(status);
    }
    for (version, family) in [(1, "Uno"), (2, "Due"), (3, "Tre")] {
        let answer = server.get(&format!("/Patient/{id}/_history/{version}")).expect(200);
        check_version(&answer, &id, version);
        assert_eq!(answer.json()["name"][0]["family"], family);
    }
    for version in ["0", "4", "-1", "x", "99999999999999999999"] {
        let status = server.get(&format!("/Patient/{id}/_history/{version}")).status;
        assert!(matches!(status, 400 | 404), "{version}: {status}");
    }
}

#[test]
fn update_replaces_the_resource_and_counts_the_version() {
    let server = shared();
    let created = server
        .post("/Patient", &json!({"resourceType": "Patient", "active": true, "gender": "female"}))
        .expect(201)
        .json();
    let id = created["id"].as_str().unwrap();
    let updated = server.put(&format!("/Patient/{id}"), &patient_with_id(id, "Verdi")).expect(200);
    check_version(&updated, id, 2);
    assert_eq!(
        updated.header("location"),
        Some(format!("{}/Patient/{id}/_history/2", server.base()).as_str())
    );
    assert_eq!(without_meta(updated.json()), patient("Verdi"));
    assert!(updated.json()["meta"]["lastUpdated"].as_str() >= created["meta"]["lastUpdated"].as_str());
    assert_eq!(server.get(&format!("/Patient/{id}")).json(), updated.json());
}

#[test]
fn update_of_an_id_that_is_free_creates_the_resource_there() {
    let server = shared();
    let id = format!("{}.A-9", unique());
    let created = server.put(&format!("/Patient/{id}"), &patient_with_id(&id, "Bianchi")).expect(201);
    check_version(&created, &id, 1);
    assert_eq!(
        created.header("location"),
        Some(format!("{}/Patient/{id}/_history/1", server.base()).as_str())
    );
}

#[test]
fn update_with_the_same_content_keeps_the_version() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    let first = server.put(&path, &patient_with_id(&id, "Neri")).expect(201).json();
    let again = server.put(&path, &patient_with_id(&id, "Neri")).expect(200);
    check_version(&again, &id, 1);
    assert_eq!(again.json(), first);
    // What was read can be written back: versionId and lastUpdated are not content.
    let back = server.put(&path, &first).expect(200).json();
    assert_eq!(back, first);
    let history = server.get(&format!("{path}/_history")).expect(200).json();
    assert_eq!(history["entry"].as_array().unwrap().len(), 1);
}

#[test]
fn update_needs_the_same_id_in_the_body() {
    let server = shared();
    let id = unique();
    server
        .put(&format!("/Patient/{id}"), &patient_with_id("another", "Rossi"))
        .refused(400);
    server.put(&format!("/Patient/{id}"), &patient("Rossi")).refused(400);
    server
        .put(&format!("/Patient/{id}"), &json!({"resourceType": "Practitioner", "id": id}))
        .refused(400);
    server.get(&format!("/Patient/{id}")).refused(404);
}

#[test]
fn ids_have_the_form_that_the_specification_gives_them() {
    let server = shared();
    let longest = "a".repeat(64 - 13) + &unique();
    assert_eq!(longest.len(), 64);
    server
        .put(&format!("/Patient/{longest}"), &patient_with_id(&longest, "Rossi"))
        .expect(201);
    for id in [format!("{longest}a"), "a_b".to_owned(), "a b".to_owned(), "à".to_owned()] {
        let path = format!("/fhir/Patient/{}", id.replace(' ', "%20").replace('à', "%C3%A0"));
        let answer = server.request("PUT", &path).json(&patient_with_id(&id, "Rossi")).send();
        assert!(matches!(answer.status, 400 | 404 | 422), "{id}: {}", answer.status);
        let status = server.request("GET", &path).send().status;
        assert!(matches!(status, 400 | 404), "{id}: {status}");
    }
}

#[test]
fn a_deleted_resource_is_gone_keeps_its_history_and_comes_back_by_update() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    server.put(&path, &patient_with_id(&id, "Gialli")).expect(201);
    let deleted = server.delete(&path).expect(204);
    assert_eq!(deleted.header("etag"), Some("W/\"2\""));
    assert!(deleted.body.is_empty());
    server.get(&path).refused(410);
    assert_eq!(
        server.get(&format!("{path}/_history/1")).expect(200).json()["name"][0]["family"],
        "Gialli"
    );
    server.get(&format!("{path}/_history/2")).refused(410);
    // Deleting again changes nothing.
    let again = server.delete(&path).status;
    assert!(matches!(again, 200 | 204), "{again}");
    let back = server.put(&path, &patient_with_id(&id, "Verdi")).expect(201);
    check_version(&back, &id, 3);
    server.get(&path).expect(200);
    server.get(&format!("{path}/_history/2")).refused(410);
}

#[test]
fn deletion_of_what_never_was_is_no_error() {
    let server = shared();
    let status = server.delete(&format!("/Patient/{}", unique())).status;
    assert!(matches!(status, 200 | 204 | 404), "{status}");
}

#[test]
fn an_undeleted_resource_with_its_old_content_is_a_new_version() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    server.put(&path, &patient_with_id(&id, "Viola")).expect(201);
    server.delete(&path).expect(204);
    let back = server.put(&path, &patient_with_id(&id, "Viola")).expect(201);
    check_version(&back, &id, 3);
    assert_eq!(server.get(&path).expect(200).json()["name"][0]["family"], "Viola");
}

#[test]
fn if_match_lets_one_of_two_writers_win() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    server.put(&path, &patient_with_id(&id, "Uno")).expect(201);
    let write = |version: &str, family: &str| {
        server
            .fhir("PUT", &path)
            .header("if-match", version)
            .json(&patient_with_id(&id, family))
            .send()
    };
    check_version(&write("W/\"1\"", "Due").expect(200), &id, 2);
    write("W/\"1\"", "Tre").refused(412);
    write("W/\"3\"", "Tre").refused(412);
    write("nonsense", "Tre").refused(412);
    assert_eq!(server.get(&path).json()["name"][0]["family"], "Due");
    server.fhir("DELETE", &path).header("if-match", "W/\"1\"").send().refused(412);
    server.get(&path).expect(200);
    server.fhir("DELETE", &path).header("if-match", "W/\"2\"").send().expect(204);
    server.get(&path).refused(410);
    // A version of what is not there cannot match.
    let absent = unique();
    let created = server
        .fhir("PUT", &format!("/Patient/{absent}"))
        .header("if-match", "W/\"1\"")
        .json(&patient_with_id(&absent, "X"))
        .send();
    created.refused(412);
    server.get(&format!("/Patient/{absent}")).refused(404);
}

#[test]
fn if_none_match_star_creates_and_never_overwrites() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    let write = |family: &str| {
        server
            .fhir("PUT", &path)
            .header("if-none-match", "*")
            .json(&patient_with_id(&id, family))
            .send()
    };
    write("Uno").expect(201);
    write("Due").refused(412);
    assert_eq!(server.get(&path).json()["name"][0]["family"], "Uno");
}

#[test]
fn many_writers_with_if_match_lose_no_update() {
    let server = shared();
    let id = unique();
    let path = format!("/Basic/{id}");
    let body = |count: u64| json!({"resourceType": "Basic", "id": id, "code": {"text": count.to_string()}});
    server.put(&path, &body(0)).expect(201);
    let add_one = || {
        let current = server.get(&path).expect(200);
        let count: u64 = current.json()["code"]["text"].as_str().unwrap().parse().unwrap();
        let etag = current.header("etag").unwrap().to_owned();
        let status = server
            .fhir("PUT", &path)
            .header("if-match", &etag)
            .json(&body(count + 1))
            .send()
            .status;
        assert!(matches!(status, 200 | 412), "{status}");
        u64::from(status == 200)
    };
    let won: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..10).map(|_| add_one()).sum::<u64>())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    let last = server.get(&path).json();
    assert_eq!(last["code"]["text"], won.to_string());
    assert_eq!(last["meta"]["versionId"], (won + 1).to_string());
}
