//! Oscuramento: what a document owns cannot be found, and nobody can notice that it was hidden. docs/adr/0007-oscuramento.md.

use crate::ministry::referto;
use crate::support::http::Answer;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::entry;
use crate::transaction::named;
use crate::transaction::place;
use crate::transaction::statuses;
use serde_json::Value;
use serde_json::json;

fn identifier(prefix: &str) -> String {
    format!("2.16.840.1.113883.2.9.2.120.4.4^{prefix}DOC")
}

/// P99 hides, P00 shows.
pub fn rule(server: &Server, prefix: &str, code: &str) {
    rule_of(server, &identifier(prefix), code);
}

fn rule_of(server: &Server, identifier: &str, code: &str) {
    let text = json!({"body": {"attiCliniciRegoleAccesso": [code]}}).to_string();
    let body = json!({"identifier": identifier, "jsonString": text});
    server
        .request("PUT", "/v1/document/metadata")
        .body("application/json", body.to_string())
        .send()
        .expect(200);
}

/// Takes a document in as the Broker sends it; its final status.
fn ingest(server: &Server, master: &str, bundle: &Value) -> String {
    let wii = unique();
    let body = json!({"identifier": master, "jsonString": bundle.to_string()});
    server
        .request("POST", &format!("/v1/document/workflowinstanceid/{wii}"))
        .body("application/json", body.to_string())
        .send()
        .expect(201);
    let status = || server.request("GET", &format!("/v1/status/{wii}")).send().expect(200).json()["status"].clone();
    eventually("the operation ends", || status() != "ASYNC_RETRY");
    status().as_str().unwrap().to_owned()
}

fn remove(server: &Server, prefix: &str) {
    let path = format!("/v1/document/identifier/{}", identifier(prefix).replace('^', "%5E"));
    server.request("DELETE", &path).send().expect(200);
}

/// The entries' statuses and which of them have an outcome: what may not differ between a document that is hidden and one that never was.
fn shape(answer: &Value) -> Vec<(u16, bool, String)> {
    let entries = answer["entry"].as_array().unwrap().iter();
    let of = |(entry, status): (&Value, u16)| {
        let response = &entry["response"];
        let etag = response["etag"].as_str().unwrap_or_default().to_owned();
        (status, response.get("outcome").is_some(), etag)
    };
    entries.zip(statuses(answer)).map(of).collect()
}

/// Places of what a document owns: not those of Patient, Practitioner, Organization and Location.
fn owned(answer: &Value) -> Vec<String> {
    (0..10)
        .map(|i| place(answer, i))
        .filter(|p| {
            !["Patient/", "Practitioner/", "Organization/", "Location/"]
                .iter()
                .any(|t| p.starts_with(t))
        })
        .collect()
}

#[test]
fn a_hidden_document_that_is_sent_again_stays_hidden_and_is_answered_as_a_new_one() {
    let server = shared();
    let (prefix, other) = (unique(), unique());
    let first = server.post("", &referto(&prefix)).expect(200).json();
    rule(server, &prefix, "P99");
    // As it looks when the document never was, but its patient, doctors and organizations were.
    server.post("", &referto(&other)).expect(200);
    remove(server, &other);
    let expected = server.post("", &referto(&other)).expect(200).json();
    for title in ["REFERTO DI LABORATORIO", "REFERTO CORRETTO"] {
        let mut bundle = referto(&prefix);
        bundle["entry"][2]["resource"]["title"] = json!(title);
        let again = server.post("", &bundle).expect(200).json();
        assert_eq!(shape(&again), shape(&expected), "{title}");
        assert_eq!(owned(&again).len(), 5);
        for path in owned(&again) {
            assert!(!first.to_string().contains(&path), "{path} is of the hidden document");
            let hidden = server.get(&format!("/{path}")).refused(404);
            assert!(!hidden.contains("hidden") && !hidden.contains("oscur"));
        }
        assert_eq!(server.count(&format!("Composition?identifier={prefix}DOC")), 0);
        assert_eq!(server.count(&format!("Observation?patient.identifier={prefix}CF")), 0);
    }
    // Shown again it is there once, as it was sent last.
    rule(server, &prefix, "P00");
    let shown = server.get(&format!("/Composition?identifier={prefix}DOC")).expect(200).json();
    assert_eq!(shown["entry"].as_array().unwrap().len(), 1);
    assert_eq!(shown["entry"][0]["resource"]["title"], "REFERTO CORRETTO");
    assert_eq!(server.count(&format!("Observation?patient.identifier={prefix}CF")), 1);
}

#[test]
fn a_document_that_says_it_is_obscured_is_never_shown() {
    let server = shared();
    let prefix = unique();
    let mut bundle = referto(&prefix);
    bundle["entry"][9]["resource"]["context"]["event"] =
        json!([{"coding": [{"system": "urn:oid:2.16.840.1.113883.2.9.3.3.6.1.3", "code": "P99"}]}]);
    let answer = server.post("", &bundle).expect(200).json();
    for path in owned(&answer) {
        server.get(&format!("/{path}")).refused(404);
        server.get(&format!("/{path}/_history")).refused(404);
    }
    assert_eq!(server.count(&format!("Patient?identifier={prefix}CF")), 1, "the patient is shared");
    rule(server, &prefix, "P00");
    assert_eq!(server.count(&format!("Composition?identifier={prefix}DOC")), 1);
}

/// An answer without what differs by nature: ids and times.
fn told(answer: &Answer, id: &str) -> (u16, Option<String>, Option<String>, String) {
    let header = |name: &str| answer.header(name).map(|v| v.replace(id, "[id]"));
    let mut body = answer.text().replace(id, "[id]");
    if let Some(at) = body.find("\"lastUpdated\":\"") {
        body.replace_range(at..at + 40, "");
    }
    (answer.status, header("etag"), header("location"), body)
}

#[test]
fn a_write_to_a_hidden_id_is_answered_as_one_to_an_id_that_never_was() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let hidden = place(&answer, 4).split_once('/').unwrap().1.to_owned();
    let stored = server.get(&format!("/Observation/{hidden}")).expect(200).json();
    rule(server, &prefix, "P99");
    let never = unique();
    let write = |id: &str, header: Option<(&str, &str)>, text: Option<&str>| {
        let mut body = stored.clone();
        body["id"] = json!(id);
        body.as_object_mut().unwrap().remove("meta");
        if let Some(text) = text {
            body["code"] = json!({"text": text});
        }
        let request = server.fhir("PUT", &format!("/Observation/{id}"));
        let request = header
            .into_iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        request.json(&body).send()
    };
    let as_never = |header: Option<(&str, &str)>, text: Option<&str>| {
        let (here, there) = (write(&hidden, header, text), write(&never, header, text));
        assert_eq!(told(&here, &hidden), told(&there, &never), "{header:?} {text:?}");
        // What was written under the other id goes again: the next write meets what never was.
        if there.status == 201 {
            server.get(&format!("/Observation/{hidden}")).refused(404);
        }
    };
    as_never(Some(("if-match", "W/\"1\"")), Some("x"));
    as_never(None, None);
    let answer = write(&hidden, None, Some("changed"));
    assert_eq!((answer.status, answer.header("etag")), (201, Some("W/\"1\"")));
    write(&hidden, Some(("if-none-match", "*")), Some("changed again")).expect(201);
    // As an entry of a Bundle, too.
    let mut body = stored.clone();
    body["code"] = json!({"text": "changed in a Bundle"});
    let answer = server.bundle("transaction", vec![entry("PUT", &format!("Observation/{hidden}"), body)]);
    let answer = answer.expect(200).json();
    assert_eq!(shape(&answer), [(201, false, "W/\"1\"".to_owned())]);
    server.fhir("DELETE", &format!("/Observation/{hidden}")).send().expect(204);
    server.get(&format!("/Observation/{hidden}")).refused(404);
    let found = server
        .get(&format!("/Observation?patient.identifier={prefix}CF"))
        .expect(200)
        .json();
    let found: Vec<&Value> = found["entry"].as_array().unwrap().iter().map(|e| &e["resource"]["id"]).collect();
    assert_eq!(found, [&json!(never)]);
}

#[test]
fn what_two_documents_share_is_hidden_when_only_a_hidden_one_is_left() {
    let server = shared();
    let (one, two, common) = (unique(), unique(), unique());
    let document = |prefix: &str, other: &str| {
        let mut bundle = referto(prefix);
        let name = bundle["entry"][6]["fullUrl"].as_str().unwrap().to_owned();
        let observation = json!({"resourceType": "Observation", "id": common, "status": "final", "code": {"text": "shared"}, "subject": {"reference": name}});
        let url = format!("Observation/{common}");
        // Both bring the same patient.
        let entry = named(&format!("https://example/{url}"), "PUT", &url, observation);
        bundle["entry"].as_array_mut().unwrap().push(entry);
        serde_json::from_str::<Value>(&bundle.to_string().replace(&format!("{prefix}CF"), &format!("{other}CF"))).unwrap()
    };
    server.post("", &document(&one, &one)).expect(200);
    server.post("", &document(&two, &one)).expect(200);
    rule(server, &one, "P99");
    server.get(&format!("/Observation/{common}")).expect(200);
    // The other document goes: now only the hidden one has it.
    remove(server, &two);
    server.get(&format!("/Observation/{common}")).refused(404);
    server.get(&format!("/Observation/{common}/_history")).refused(404);
    rule(server, &one, "P00");
    server.get(&format!("/Observation/{common}")).expect(200);
    // And hidden with both, it is shown with one.
    server.post("", &document(&two, &one)).expect(200);
    rule(server, &one, "P99");
    rule(server, &two, "P99");
    server.get(&format!("/Observation/{common}")).refused(404);
    rule(server, &two, "P00");
    server.get(&format!("/Observation/{common}")).expect(200);
}

#[test]
fn a_hidden_document_that_comes_by_another_way_keeps_all_its_names() {
    let server = shared();
    let prefix = unique();
    let (bundle, master) = (referto(&prefix), format!("2.16.840.1.113883.2.9.2.120.4.4^{prefix}MASTER"));
    assert_eq!(ingest(server, &master, &bundle), "SUCCESS");
    rule_of(server, &master, "P99");
    server.post("", &bundle).expect(200);
    let mut corrected = bundle.clone();
    corrected["entry"][2]["resource"]["title"] = json!("REFERTO CORRETTO");
    assert_eq!(
        ingest(server, &master, &corrected),
        "BLOCKING_ERROR",
        "it is there, and replacing it is another operation"
    );
    assert_eq!(server.count(&format!("Composition?identifier={prefix}DOC")), 0);
    rule_of(server, &master, "P00");
    assert_eq!(server.count(&format!("Composition?identifier={prefix}DOC")), 1);
    rule(server, &prefix, "P99");
    assert_eq!(
        server.count(&format!("Composition?identifier={prefix}DOC")),
        0,
        "by its other name too"
    );
}

#[test]
fn a_document_that_once_was_shown_is_not_shown_by_being_sent_again() {
    let server = shared();
    let prefix = unique();
    let mut bundle = referto(&prefix);
    bundle["entry"][9]["resource"]["context"]["event"] = json!([{"coding": [{"code": "P00"}]}]);
    server.post("", &bundle).expect(200);
    rule(server, &prefix, "P99");
    server.post("", &bundle).expect(200);
    assert_eq!(server.count(&format!("Composition?identifier={prefix}DOC")), 0);
}

#[test]
fn what_was_deleted_before_is_hidden_with_its_document_and_leaves_no_trace() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let observation = place(&answer, 4);
    server.delete(&format!("/{observation}")).expect(204);
    rule(server, &prefix, "P99");
    for path in ["", "/_history", "/_history/1"] {
        server.get(&format!("/{observation}{path}")).refused(404);
    }
    let id = observation.split_once('/').unwrap().1;
    let history = server.get("/Observation/_history?_count=1000").expect(200);
    assert!(!history.text().contains(id));
    rule(server, &prefix, "P00");
    server.get(&format!("/{observation}")).refused(410);
}

#[test]
fn that_a_document_was_hidden_cannot_be_read_when_it_is_shown_again() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let before: Vec<Value> = owned(&answer)
        .iter()
        .map(|p| server.get(&format!("/{p}/_history")).expect(200).json()["entry"].clone())
        .collect();
    rule(server, &prefix, "P99");
    rule(server, &prefix, "P00");
    let after: Vec<Value> = owned(&answer)
        .iter()
        .map(|p| server.get(&format!("/{p}/_history")).expect(200).json()["entry"].clone())
        .collect();
    assert_eq!(after, before, "no version more, and nothing of P99");
}

#[test]
fn a_document_reference_that_is_obscured_does_not_come_without_its_document() {
    let server = shared();
    let event = json!([{"coding": [{"system": "urn:oid:2.16.840.1.113883.2.9.3.3.6.1.3", "code": "P99"}]}]);
    let reference = json!({"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": {"title": "x"}}], "context": {"event": event}});
    server.post("/DocumentReference", &reference).refused(422);
    server
        .bundle("transaction", vec![entry("POST", "DocumentReference", reference.clone())])
        .refused(422);
    let batch = server
        .bundle("batch", vec![entry("POST", "DocumentReference", reference)])
        .expect(200)
        .json();
    assert_eq!(statuses(&batch), [422]);
}

#[test]
fn a_document_does_not_own_what_was_here_before_and_is_of_no_patient() {
    let server = shared();
    let prefix = unique();
    let medication =
        json!({"resourceType": "Medication", "identifier": [{"system": "urn:test:aic", "value": prefix}], "code": {"text": "x"}});
    let id = server.create(&medication);
    let mut bundle = referto(&prefix);
    let name = format!("https://example/Medication/{prefix}");
    let found = named(&name, "PUT", &format!("Medication?identifier=urn:test:aic|{prefix}"), medication);
    bundle["entry"].as_array_mut().unwrap().push(found);
    let answer = server.post("", &bundle).expect(200).json();
    assert_eq!(place(&answer, 10), format!("Medication/{id}"));
    rule(server, &prefix, "P99");
    server.get(&format!("/Medication/{id}")).expect(200);
    rule(server, &prefix, "P00");
    remove(server, &prefix);
    server.get(&format!("/Medication/{id}")).expect(200);
}

#[test]
fn a_known_document_is_answered_entry_by_entry_with_what_is_left_of_it() {
    let server = shared();
    let prefix = unique();
    let old = server.create(&json!({"resourceType": "Basic", "code": {"text": "x"}}));
    let mut bundle = referto(&prefix);
    let entries = bundle["entry"].as_array_mut().unwrap();
    entries.insert(0, json!({"request": {"method": "DELETE", "url": format!("Basic/{old}")}}));
    let first = server.post("", &bundle).expect(200).json();
    server.delete(&format!("/{}", place(&first, 5))).expect(204);
    let again = server.post("", &bundle).expect(200).json();
    let mut expected = [200; 11];
    expected[5] = 204;
    assert_eq!(statuses(&again), expected);
    for i in (1..11).filter(|i| *i != 5) {
        assert_eq!(place(&again, i), place(&first, i), "entry {i}");
    }
}

#[test]
fn a_version_that_was_public_before_stays_readable_after() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let reference = place(&answer, 9);
    let first = server.get(&format!("/{reference}")).expect(200).json();
    rule(server, &prefix, "P99");
    let text = json!({"body": {"tipoDocumentoLivAlto": "REF"}}).to_string();
    let body = json!({"identifier": identifier(&prefix), "jsonString": text});
    server
        .request("PUT", "/v1/document/metadata")
        .body("application/json", body.to_string())
        .send()
        .expect(200);
    rule(server, &prefix, "P00");
    assert_eq!(server.get(&format!("/{reference}/_history/1")).expect(200).json(), first);
    let history = server.get(&format!("/{reference}/_history")).expect(200).json();
    assert_eq!(history["entry"].as_array().unwrap().len(), 2);
}

#[test]
fn a_replacement_that_shows_the_document_shows_all_of_it() {
    let server = shared();
    let (prefix, id) = (unique(), unique());
    let document = |code: &str| {
        let mut bundle = referto(&prefix);
        let url = format!("Observation/{id}");
        let subject = bundle["entry"][6]["fullUrl"].clone();
        let observation =
            json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": code}, "subject": {"reference": subject}});
        let entries = bundle["entry"].as_array_mut().unwrap();
        entries.push(named(&format!("https://example/{url}"), "PUT", &url, observation));
        entries[9]["resource"]["context"]["event"] = json!([{"coding": [{"code": code}]}]);
        bundle
    };
    assert_eq!(ingest(server, &identifier(&prefix), &document("P99")), "SUCCESS");
    server.get(&format!("/Observation/{id}")).refused(404);
    let wii = unique();
    let body = json!({"identifier": identifier(&prefix), "jsonString": document("P00").to_string()});
    server
        .request("PUT", &format!("/v1/document/workflowinstanceid/{wii}"))
        .body("application/json", body.to_string())
        .send()
        .expect(200);
    eventually("it is shown", || server.count(&format!("Composition?identifier={prefix}DOC")) == 1);
    assert_eq!(server.get(&format!("/Observation/{id}")).expect(200).json()["code"]["text"], "P00");
    let found = server.get(&format!("/DocumentReference?patient.identifier={prefix}CF")).expect(200);
    assert!(
        !found.text().contains("\"P00\"") && !found.text().contains("\"P99\""),
        "{}",
        found.text()
    );
}
