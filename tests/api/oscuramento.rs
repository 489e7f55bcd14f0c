//! Oscuramento: what a document owns cannot be found, and nobody can notice that it was hidden. docs/adr/0007-oscuramento.md.

use crate::ministry::referto;
use crate::support::http::Answer;
use crate::support::server::Server;
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
fn rule(server: &Server, prefix: &str, code: &str) {
    let text = json!({"body": {"attiCliniciRegoleAccesso": [code]}}).to_string();
    let body = json!({"identifier": identifier(prefix), "jsonString": text});
    server
        .request("PUT", "/v1/document/metadata")
        .body("application/json", body.to_string())
        .send()
        .expect(200);
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
