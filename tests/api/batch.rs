//! FHIR batch: each entry for itself. Spec: <https://hl7.org/fhir/R4/http.html#transaction>, <https://hl7.org/fhir/R4/http.html#brules>.

use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::bare;
use crate::transaction::entry;
use crate::transaction::place;
use crate::transaction::statuses;
use serde_json::Value;
use serde_json::json;

fn identified(value: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "urn:test:mrn", "value": value}]})
}

#[test]
fn each_entry_is_carried_out_by_itself_and_answered_in_its_place() {
    let server = shared();
    let (id, mrn) = (unique(), unique());
    let old = server.create(&identified(&mrn));
    let bundle = server.bundle(
        "batch",
        vec![
            entry("POST", "Patient", identified(&unique())),
            entry("POST", "Patient", json!({"resourceType": "Patient", "gender": "strange"})),
            entry("PUT", &format!("Patient/{id}"), json!({"resourceType": "Patient", "id": id})),
            bare("GET", &format!("Patient/{old}")),
            bare("GET", "Patient/no-such-patient"),
            bare("GET", &format!("Patient?identifier={mrn}")),
            bare("GET", "Patient?nosuch=1"),
            bare("DELETE", "Patient/no-such-patient"),
            json!({"resource": identified(&mrn), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier={mrn}")}}),
            entry("PUT", &format!("Patient?identifier={mrn}"), json!({"resourceType": "Patient", "active": true, "identifier": [{"system": "urn:test:mrn", "value": mrn}]})),
            json!({"resource": {"resourceType": "Patient", "id": "x1"}, "request": {"method": "PUT", "url": "Patient/x1", "ifMatch": "W/\"99\""}}),
            json!({"resource": identified("x")}),
            bare("PATCH", "Patient/x1"),
            bare("GET", "Nothing/1"),
            bare("DELETE", "Patient"),
        ],
    );
    let bundle = bundle.expect(200).json();
    assert_eq!(bundle["type"], "batch-response");
    let statuses = statuses(&bundle);
    assert_eq!(statuses[..7], [201, 422, 201, 200, 404, 200, 400], "{bundle}");
    assert!(matches!(statuses[7], 200 | 204 | 404));
    assert_eq!(statuses[8..11], [200, 200, 412], "{bundle}");
    assert!(statuses[11..].iter().all(|s| (400..500).contains(s)), "{statuses:?}");
    for (i, status) in statuses.iter().enumerate() {
        let response = &bundle["entry"][i]["response"];
        if *status >= 400 {
            assert_eq!(response["outcome"]["resourceType"], "OperationOutcome", "{i}");
            let expression = response["outcome"]["issue"][0]["expression"][0].as_str().unwrap_or_default();
            assert!(expression.starts_with(&format!("Bundle.entry[{i}]")), "{i}: {response}");
        }
    }
    assert_eq!(place(&bundle, 8), format!("Patient/{old}"));
    server.get(&format!("/Patient/{id}")).expect(200);
}

#[test]
fn an_entry_may_be_no_resource_at_all_and_the_others_go_on() {
    let server = shared();
    let mrn = unique();
    let bundle = server.bundle(
        "batch",
        vec![
            entry("POST", "Patient", json!({"nonsense": true})),
            entry("POST", "Patient", json!({"resourceType": "Nothing"})),
            entry("POST", "Patient", json!([])),
            json!({}),
            entry("POST", "Patient", identified(&mrn)),
        ],
    );
    let bundle = bundle.expect(200).json();
    let statuses = statuses(&bundle);
    assert!(statuses[..4].iter().all(|s| (400..500).contains(s)), "{statuses:?}");
    assert_eq!(statuses[4], 201);
    assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 1);
}

#[test]
fn entries_that_are_no_list_are_refused_as_a_whole() {
    for entry in [
        json!({"request": {"method": "GET", "url": "Patient"}}),
        json!("x"),
        json!(1),
        json!(null),
    ] {
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": entry});
        assert!(shared().post("", &batch).refused(400).contains("entry is a list"), "{batch}");
    }
}

#[test]
fn an_empty_batch_is_answered_with_an_empty_bundle() {
    let server = shared();
    for body in [
        json!({"resourceType": "Bundle", "type": "batch"}),
        json!({"resourceType": "Bundle", "type": "batch", "entry": []}),
    ] {
        let answer = server.post("", &body);
        // An empty array is no FHIR: it may be refused, but not fail.
        assert!(
            answer.status == 200 || body.get("entry").is_some() && matches!(answer.status, 400 | 422),
            "{}",
            answer.text()
        );
        if answer.status == 200 {
            assert_eq!(answer.json()["type"], "batch-response");
        }
    }
}

#[test]
fn other_bundles_are_no_requests() {
    let server = shared();
    for kind in [
        "document",
        "collection",
        "searchset",
        "history",
        "message",
        "batch-response",
        "nonsense",
        "",
    ] {
        let answer = server.post("", &json!({"resourceType": "Bundle", "type": kind}));
        assert!(matches!(answer.status, 400 | 422), "{kind}: {}", answer.status);
    }
    for body in [
        json!({"resourceType": "Bundle"}),
        json!({"resourceType": "Patient"}),
        json!({}),
        json!([]),
        json!(null),
        json!("Bundle"),
    ] {
        let status = server.post("", &body).status;
        assert!(matches!(status, 400 | 422), "{body}: {status}");
    }
}

/// What a batch answers is bounded as a whole, not only page by page.
#[test]
fn a_batch_whose_answers_grow_too_large_refuses_the_rest_of_its_reads() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_BUNDLE_ANSWER_BYTES_MAX", "1000000")]);
    let text = "x".repeat(10_000);
    for _ in 0..20 {
        server.create(&json!({"resourceType": "Basic", "code": {"text": text}}));
    }
    let mut entries: Vec<Value> = (0..50).map(|_| bare("GET", "Basic?_count=20")).collect();
    entries.push(entry(
        "POST",
        "Basic",
        json!({"resourceType": "Basic", "code": {"text": "written all the same"}}),
    ));
    let answer = server.bundle("batch", entries).expect(200);
    // One page over, for each search that ran at the same time.
    assert!(answer.body.len() < 1_000_000 + 17 * 250_000, "{}", answer.body.len());
    let statuses = statuses(&answer.json());
    assert_eq!(statuses[0], 200);
    assert!(statuses.contains(&413), "{statuses:?}");
    assert_eq!(statuses[50], 201);
    assert_eq!(server.count("Basic"), 21);
}

#[test]
fn prefer_operation_outcome_tells_of_each_write_and_gives_no_resources() {
    let server = shared();
    for bundle_type in ["batch", "transaction"] {
        let old = server.create(&identified(&unique()));
        let entries = json!({"resourceType": "Bundle", "type": bundle_type, "entry": [
            entry("POST", "Patient", identified(&unique())),
            bare("DELETE", &format!("Patient/{old}")),
            bare("GET", "Patient?_count=1"),
        ]});
        let answer = server
            .fhir("POST", "")
            .header("prefer", "return=OperationOutcome")
            .json(&entries)
            .send()
            .expect(200)
            .json();
        for i in 0..2 {
            let entry = &answer["entry"][i];
            assert_eq!(entry["response"]["outcome"]["issue"][0]["severity"], "information", "{answer}");
            assert!(entry.get("resource").is_none(), "{answer}");
        }
        assert_eq!(answer["entry"][2]["resource"]["resourceType"], "Bundle", "{answer}");
    }
}
