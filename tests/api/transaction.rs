//! FHIR transaction. Spec: <https://hl7.org/fhir/R4/http.html#transaction>, <https://hl7.org/fhir/R4/http.html#trules>,
//! <https://hl7.org/fhir/R4/bundle.html#references>.

use crate::support::http::Answer;
use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;

pub fn entry(method: &str, url: &str, resource: Value) -> Value {
    json!({"resource": resource, "request": {"method": method, "url": url}})
}

pub fn named(full_url: &str, method: &str, url: &str, resource: Value) -> Value {
    json!({"fullUrl": full_url, "resource": resource, "request": {"method": method, "url": url}})
}

pub fn bare(method: &str, url: &str) -> Value {
    json!({"request": {"method": method, "url": url}})
}

fn transaction(entries: Vec<Value>) -> Answer {
    shared().bundle("transaction", entries)
}

fn observation(code: &str, subject: Value) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "urn:test", "code": code}]}, "subject": subject})
}

fn identified(value: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "urn:test:mrn", "value": value}]})
}

/// Statuses of the entries, as numbers.
pub fn statuses(bundle: &Value) -> Vec<u16> {
    let entries = bundle["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .map(|e| e["response"]["status"].as_str().unwrap()[..3].parse().unwrap())
        .collect()
}

/// `Type/id` of an entry, from its location.
pub fn place(bundle: &Value, entry: usize) -> String {
    let location = bundle["entry"][entry]["response"]["location"]
        .as_str()
        .unwrap_or_else(|| panic!("{bundle}"));
    let path = location.split_once("/fhir/").map_or(location, |(_, path)| path);
    path.split("/_history/").next().unwrap().to_owned()
}

#[test]
fn entries_are_answered_in_the_order_of_the_request() {
    let server = shared();
    let (kept, gone, new) = (unique(), unique(), unique());
    server
        .put(&format!("/Patient/{kept}"), &json!({"resourceType": "Patient", "id": kept}))
        .expect(201);
    server
        .put(&format!("/Patient/{gone}"), &json!({"resourceType": "Patient", "id": gone}))
        .expect(201);
    let answer = transaction(vec![
        bare("GET", &format!("Patient/{new}")),
        entry(
            "PUT",
            &format!("Patient/{new}"),
            json!({"resourceType": "Patient", "id": new, "active": true}),
        ),
        entry("POST", "Patient", identified(&unique())),
        bare("DELETE", &format!("Patient/{gone}")),
        entry(
            "PUT",
            &format!("Patient/{kept}"),
            json!({"resourceType": "Patient", "id": kept, "active": false}),
        ),
    ]);
    let bundle = answer.expect(200).json();
    assert_eq!(bundle["type"], "transaction-response");
    assert_eq!(statuses(&bundle), [200, 201, 201, 204, 200]);
    // Reads come last: this one sees what the transaction wrote.
    assert_eq!(bundle["entry"][0]["resource"]["active"], true);
    assert_eq!(bundle["entry"][4]["response"]["etag"], "W/\"2\"");
    assert_eq!(place(&bundle, 1), format!("Patient/{new}"));
    assert!(bundle["entry"][1]["response"]["lastModified"].is_string());
    assert!(bundle["entry"][1].get("resource").is_none(), "minimal by default");
    server.get(&format!("/Patient/{gone}")).refused(410);
}

#[test]
fn deletes_come_before_creates_and_these_before_updates() {
    let server = shared();
    let mrn = unique();
    let old = server.create(&identified(&mrn));
    let bundle = transaction(vec![
        json!({"resource": identified(&mrn), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier={mrn}")}}),
        bare("DELETE", &format!("Patient/{old}")),
    ]);
    if bundle.status != 200 {
        // An overlap of identities may be refused, but then as a whole.
        assert!(matches!(bundle.status, 400 | 409 | 412), "{} {}", bundle.status, bundle.text());
        server.get(&format!("/Patient/{old}")).expect(200);
        return;
    }
    let bundle = bundle.json();
    assert_eq!(statuses(&bundle), [201, 204]);
    server.get(&format!("/{}", place(&bundle, 0))).expect(200);
}

#[test]
fn links_to_entries_become_the_ids_that_they_were_given() {
    let server = shared();
    let (uuid, code, organization) = (uuid::Uuid::new_v4(), unique(), unique());
    let urn = format!("urn:uuid:{uuid}");
    let absolute = format!("http://elsewhere.example/fhir/Organization/{organization}");
    let mut about = observation(&code, json!({"reference": urn, "display": urn}));
    about["performer"] = json!([{"reference": absolute}]);
    about["extension"] = json!([{"url": "urn:x", "valueUri": urn}, {"url": "urn:y", "valueReference": {"reference": urn}}]);
    about["note"] = json!([{"text": format!("not a link: {urn}")}]);
    let bundle = transaction(vec![
        named("urn:uuid:0c0c9a3d-8d3c-4f6f-9a3b-000000000001", "POST", "Observation", about),
        named(
            &urn,
            "POST",
            "Patient",
            json!({"resourceType": "Patient", "managingOrganization": {"reference": format!("Organization/{organization}")}}),
        ),
        named(
            &absolute,
            "POST",
            "Organization",
            json!({"resourceType": "Organization", "name": "x"}),
        ),
    ]);
    let bundle = bundle.expect(200).json();
    let (patient, organization) = (place(&bundle, 1), place(&bundle, 2));
    let stored = server.get(&format!("/{}", place(&bundle, 0))).json();
    assert_eq!(stored["subject"], json!({"reference": patient, "display": urn}));
    assert_eq!(stored["performer"], json!([{"reference": organization}]));
    assert_eq!(
        stored["extension"],
        json!([{"url": "urn:x", "valueUri": patient}, {"url": "urn:y", "valueReference": {"reference": patient}}])
    );
    assert_eq!(stored["note"][0]["text"], format!("not a link: {urn}"));
    // Relative to the same base as the fullUrl of an entry.
    assert_eq!(
        server.get(&format!("/{patient}")).json()["managingOrganization"]["reference"],
        organization
    );
    assert_eq!(server.count(&format!("Observation?subject={patient}&code={code}")), 1);
    assert_eq!(server.count(&format!("Observation?patient={patient}&performer={organization}")), 1);
}

#[test]
fn references_to_what_is_not_in_the_bundle_stay_as_they_are() {
    let server = shared();
    let id = server.create(&identified(&unique()));
    for reference in [
        format!("Patient/{id}"),
        format!("{}/Patient/{id}", server.base()),
        "http://elsewhere.example/fhir/Patient/1".to_owned(),
    ] {
        let bundle = transaction(vec![entry(
            "POST",
            "Observation",
            observation("x", json!({"reference": reference})),
        )])
        .expect(200)
        .json();
        let stored = server.get(&format!("/{}", place(&bundle, 0))).json();
        let kept = stored["subject"]["reference"].as_str().unwrap();
        assert!(kept == reference || kept == format!("Patient/{id}"), "{kept}");
    }
}

#[test]
fn two_resources_may_refer_to_each_other() {
    let server = shared();
    let (one, two) = (
        format!("urn:uuid:{}", uuid::Uuid::new_v4()),
        format!("urn:uuid:{}", uuid::Uuid::new_v4()),
    );
    let part_of = |target: &str| json!({"resourceType": "Organization", "name": "x", "partOf": {"reference": target}});
    let bundle = transaction(vec![
        named(&one, "POST", "Organization", part_of(&two)),
        named(&two, "POST", "Organization", part_of(&one)),
    ]);
    let bundle = bundle.expect(200).json();
    let part_of = |i: usize| server.get(&format!("/{}", place(&bundle, i))).json()["partOf"]["reference"].clone();
    assert_eq!([part_of(0), part_of(1)], [json!(place(&bundle, 1)), json!(place(&bundle, 0))]);
}

#[test]
fn a_conditional_reference_needs_exactly_one_match() {
    let server = shared();
    let (mrn, code) = (unique(), unique());
    let refer = || {
        transaction(vec![entry(
            "POST",
            "Observation",
            observation(&code, json!({"reference": format!("Patient?identifier=urn:test:mrn|{mrn}")})),
        )])
    };
    refer().refused(412);
    let id = server.create(&identified(&mrn));
    let bundle = refer().expect(200).json();
    assert_eq!(
        server.get(&format!("/{}", place(&bundle, 0))).json()["subject"]["reference"],
        format!("Patient/{id}")
    );
    server.create(&identified(&mrn));
    refer().refused(412);
    assert_eq!(server.count(&format!("Observation?code={code}")), 1);
    for wrong in ["Patient?nosuch=1", "Nothing?identifier=1", "Patient?"] {
        let answer = transaction(vec![entry("POST", "Observation", observation(&code, json!({"reference": wrong})))]);
        assert!(matches!(answer.status, 400 | 404 | 412 | 422), "{wrong}: {}", answer.status);
    }
}

#[test]
fn a_link_to_a_conditional_entry_leads_to_its_match() {
    let server = shared();
    let mrn = unique();
    let existing = server.create(&identified(&mrn));
    let urn = format!("urn:uuid:{}", uuid::Uuid::new_v4());
    for (conditional, expected) in [
        (
            json!({"fullUrl": urn, "resource": identified(&mrn), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier={mrn}")}}),
            200,
        ),
        (
            json!({"fullUrl": urn, "resource": identified(&mrn), "request": {"method": "PUT", "url": format!("Patient?identifier={mrn}")}}),
            200,
        ),
    ] {
        let bundle = transaction(vec![
            conditional,
            entry("POST", "Observation", observation("x", json!({"reference": urn}))),
        ])
        .expect(200)
        .json();
        assert_eq!(statuses(&bundle), [expected, 201]);
        assert_eq!(place(&bundle, 0), format!("Patient/{existing}"));
        assert_eq!(
            server.get(&format!("/{}", place(&bundle, 1))).json()["subject"]["reference"],
            format!("Patient/{existing}")
        );
    }
}

#[test]
fn one_bad_entry_stores_nothing() {
    let server = shared();
    let mrn = unique();
    let existing = server.create(&identified(&mrn));
    let version = "W/\"7\"";
    let id = unique();
    let bad = [
        (
            "invalid resource",
            entry("POST", "Patient", json!({"resourceType": "Patient", "gender": "strange"})),
            422,
        ),
        (
            "unknown element",
            entry("POST", "Patient", json!({"resourceType": "Patient", "nosuch": 1})),
            422,
        ),
        ("no request", json!({"resource": identified("x")}), 400),
        ("no resource", bare("POST", "Patient"), 400),
        ("wrong method", entry("BREW", "Patient", identified("x")), 400),
        ("another type", entry("POST", "Observation", identified("x")), 400),
        (
            "another id",
            entry("PUT", "Patient/other", json!({"resourceType": "Patient", "id": "x"})),
            400,
        ),
        ("unknown type", bare("DELETE", "Nothing/1"), 404),
        ("no url", json!({"request": {"method": "DELETE"}}), 400),
        (
            "a stale version",
            json!({"resource": {"resourceType": "Patient", "id": existing}, "request": {"method": "PUT", "url": format!("Patient/{existing}"), "ifMatch": version}}),
            412,
        ),
        ("a read of nothing", bare("GET", "Patient/no-such-patient"), 404),
        ("a search that is wrong", bare("GET", "Patient?nosuch=1"), 400),
    ];
    for (what, bad, expected) in bad {
        let good = json!({"resourceType": "Patient", "id": id, "identifier": [{"system": "urn:test:atomic", "value": mrn}]});
        let about = observation("x", json!({"reference": "Patient?identifier=urn:test:mrn|no-such-mrn-at-all"}));
        let answer = transaction(vec![
            entry("PUT", &format!("Patient/{id}"), good),
            bad,
            entry("POST", "Observation", about),
        ]);
        let status = answer.status;
        // Where entries are wrong in several ways, any of them may be told. Validation may find the structure wrong first.
        assert!(
            status == expected || matches!(status, 400 | 412 | 422),
            "{what}: {status} {}",
            answer.text()
        );
        answer.refused(status);
        let read = server.get(&format!("/Patient/{id}")).status;
        assert_eq!(read, 404, "{what}");
    }
    assert_eq!(server.count(&format!("Patient?identifier=urn:test:atomic|{mrn}")), 0);
}

#[test]
fn a_failing_entry_alone_undoes_the_others_too() {
    let server = shared();
    let (mrn, id) = (unique(), unique());
    let good = json!({"resourceType": "Patient", "id": id});
    for (what, bad, expected) in [
        ("GET of nothing", bare("GET", "Patient/no-such-patient"), 404),
        ("GET of a wrong search", bare("GET", "Patient?nosuch=1"), 400),
        ("GET of a wrong type", bare("GET", "Nothing/1"), 404),
    ] {
        let answer = transaction(vec![entry("PUT", &format!("Patient/{id}"), good.clone()), bad]);
        assert_eq!(answer.status, expected, "{what}");
        assert_eq!(server.get(&format!("/Patient/{id}")).status, 404, "{what}: nothing may be stored");
    }
    server.create(&identified(&mrn));
    server.create(&identified(&mrn));
    let several = entry("PUT", &format!("Patient?identifier={mrn}"), identified(&mrn));
    let refused = transaction(vec![entry("PUT", &format!("Patient/{id}"), good), several]);
    assert!(refused.refused(412).len() > 10);
    server.get(&format!("/Patient/{id}")).refused(404);
}

#[test]
fn the_failure_names_the_entry() {
    let answer = transaction(vec![
        entry("POST", "Patient", identified("x")),
        entry("POST", "Patient", json!({"resourceType": "Patient", "gender": "strange"})),
    ]);
    let outcome = answer.expect(422).json();
    let expression = outcome["issue"][0]["expression"][0].as_str().unwrap();
    assert!(
        expression.starts_with("Bundle.entry[1]") && expression.ends_with("gender"),
        "{expression}"
    );
}

#[test]
fn one_resource_may_be_written_once_only() {
    let server = shared();
    let (id, mrn) = (unique(), unique());
    server
        .put(
            &format!("/Patient/{id}"),
            &json!({"resourceType": "Patient", "id": id, "identifier": [{"system": "urn:test:mrn", "value": mrn}]}),
        )
        .expect(201);
    let put = |active: bool| {
        entry(
            "PUT",
            &format!("Patient/{id}"),
            json!({"resourceType": "Patient", "id": id, "active": active}),
        )
    };
    let conditional = entry(
        "PUT",
        &format!("Patient?identifier=urn:test:mrn|{mrn}"),
        json!({"resourceType": "Patient", "active": true, "identifier": [{"system": "urn:test:mrn", "value": mrn}]}),
    );
    for (what, pair) in [
        ("twice by id", vec![put(true), put(false)]),
        ("update and delete", vec![put(true), bare("DELETE", &format!("Patient/{id}"))]),
        ("by id and by criteria", vec![put(true), conditional]),
    ] {
        let answer = transaction(pair);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    }
    assert_eq!(server.get(&format!("/Patient/{id}")).json()["meta"]["versionId"], "1");
}

#[test]
fn two_entries_with_one_full_url_are_refused() {
    let urn = format!("urn:uuid:{}", uuid::Uuid::new_v4());
    let mrn = unique();
    transaction(vec![
        named(&urn, "POST", "Patient", identified(&mrn)),
        named(&urn, "POST", "Patient", identified(&mrn)),
    ])
    .refused(400);
    assert_eq!(shared().count(&format!("Patient?identifier={mrn}")), 0);
}

#[test]
fn if_match_and_if_none_match_hold_inside() {
    let server = shared();
    let id = unique();
    server
        .put(&format!("/Patient/{id}"), &json!({"resourceType": "Patient", "id": id}))
        .expect(201);
    let write = |condition: (&str, &str), active: bool| {
        let mut entry = entry(
            "PUT",
            &format!("Patient/{id}"),
            json!({"resourceType": "Patient", "id": id, "active": active}),
        );
        entry["request"][condition.0] = json!(condition.1);
        transaction(vec![entry])
    };
    assert_eq!(statuses(&write(("ifMatch", "W/\"1\""), true).expect(200).json()), [200]);
    write(("ifMatch", "W/\"1\""), false).refused(412);
    write(("ifNoneMatch", "*"), false).refused(412);
    let mut delete = bare("DELETE", &format!("Patient/{id}"));
    delete["request"]["ifMatch"] = json!("W/\"1\"");
    transaction(vec![delete]).refused(412);
    assert_eq!(server.get(&format!("/Patient/{id}")).json()["active"], true);
}

#[test]
fn a_transaction_can_read_search_and_be_empty() {
    let server = shared();
    let mrn = unique();
    let id = server.create(&identified(&mrn));
    let bundle = transaction(vec![
        bare("GET", &format!("Patient/{id}")),
        bare("GET", &format!("Patient?identifier=urn:test:mrn%7C{mrn}")),
        bare("GET", &format!("Patient/{id}/_history/1")),
    ]);
    let bundle = bundle.expect(200).json();
    assert_eq!(statuses(&bundle), [200, 200, 200]);
    assert_eq!(bundle["entry"][0]["resource"]["id"], id.as_str());
    assert_eq!(bundle["entry"][1]["resource"]["type"], "searchset");
    assert_eq!(bundle["entry"][1]["resource"]["entry"][0]["resource"]["id"], id.as_str());
    assert_eq!(bundle["entry"][2]["resource"]["meta"]["versionId"], "1");
    let empty = server
        .post("", &json!({"resourceType": "Bundle", "type": "transaction"}))
        .expect(200)
        .json();
    assert_eq!((empty["type"].as_str(), empty.get("entry")), (Some("transaction-response"), None));
}

#[test]
fn prefer_representation_gives_the_resources() {
    let server = shared();
    let body = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry("POST", "Patient", identified("x"))]});
    let bundle = server
        .fhir("POST", "")
        .header("prefer", "return=representation")
        .json(&body)
        .send()
        .expect(200)
        .json();
    assert_eq!(bundle["entry"][0]["resource"]["identifier"][0]["value"], "x");
    assert_eq!(bundle["entry"][0]["resource"]["meta"]["versionId"], "1");
}

#[test]
fn the_address_with_a_final_slash_is_the_same() {
    let body = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry("POST", "Patient", identified("x"))]});
    shared().post("/", &body).expect(200);
}

#[test]
fn absolute_urls_of_this_server_are_its_own() {
    let server = shared();
    let id = unique();
    let url = format!("{}/Patient/{id}", server.base());
    transaction(vec![named(&url, "PUT", &url, json!({"resourceType": "Patient", "id": id}))]).expect(200);
    server.get(&format!("/Patient/{id}")).expect(200);
}

/// The author of a document is its legal authenticator too: one person, twice in the Bundle.
#[test]
fn two_entries_with_one_criterion_are_one_resource() {
    let server = shared();
    for round in 0..2 {
        let mrn = unique();
        if round == 1 {
            server.create(&identified(&mrn));
        }
        let url = format!("Patient?identifier=urn:test:mrn|{mrn}");
        let (one, two) = (
            format!("urn:uuid:{}", uuid::Uuid::new_v4()),
            format!("urn:uuid:{}", uuid::Uuid::new_v4()),
        );
        let answer = transaction(vec![
            named(&one, "PUT", &url, identified(&mrn)),
            entry("POST", "Observation", observation("a", json!({"reference": one}))),
            named(&two, "PUT", &url, identified(&mrn)),
            entry("POST", "Observation", observation("a", json!({"reference": two}))),
        ]);
        let answer = answer.expect(200).json();
        assert_eq!(place(&answer, 0), place(&answer, 2), "round {round}");
        assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 1);
        assert_eq!(server.count(&format!("Observation?subject={}", place(&answer, 0))), 2);
        // Saying different things of one resource is a mistake, and nothing is stored.
        let mut other = identified(&mrn);
        other["active"] = json!(true);
        let refused = transaction(vec![entry("PUT", &url, identified(&mrn)), entry("PUT", &url, other)]).refused(400);
        assert!(refused.contains("entry 0"), "{refused}");
    }
    let mrn = unique();
    let create = || {
        let mut create = entry("POST", "Patient", identified(&mrn));
        create["request"]["ifNoneExist"] = json!(format!("identifier={mrn}"));
        create
    };
    let answer = transaction(vec![create(), create()]).expect(200).json();
    assert_eq!(place(&answer, 0), place(&answer, 1));
    assert_eq!(server.count(&format!("Patient?identifier={mrn}")), 1);
}

/// Conditional references are resolved last. <https://hl7.org/fhir/R4/http.html#trules>
#[test]
fn a_conditional_reference_sees_what_its_own_transaction_does() {
    let server = shared();
    let mrn = unique();
    let subject = || json!({"reference": format!("Patient?identifier=urn:test:mrn|{mrn}")});
    let answer = transaction(vec![
        entry("POST", "Observation", observation("a", subject())),
        entry("POST", "Patient", identified(&mrn)),
    ]);
    let answer = answer.expect(200).json();
    let stored = server.get(&format!("/{}", place(&answer, 0))).expect(200).json();
    assert_eq!(stored["subject"]["reference"], place(&answer, 1));
    // So it is when many refer to many.
    let mrns: Vec<String> = (0..200).map(|_| unique()).collect();
    let mut entries: Vec<Value> = mrns.iter().map(|mrn| entry("POST", "Patient", identified(mrn))).collect();
    entries.extend(mrns.iter().map(|mrn| {
        let subject = json!({"reference": format!("Patient?identifier=urn:test:mrn|{mrn}")});
        entry("POST", "Observation", observation("a", subject))
    }));
    let many = transaction(entries).expect(200).json();
    let last = server.get(&format!("/{}", place(&many, 399))).expect(200).json();
    assert_eq!(last["subject"]["reference"], place(&many, 199));
    // What the transaction deletes is no match.
    let refused = transaction(vec![
        bare("DELETE", &place(&answer, 1)),
        entry("POST", "Observation", observation("a", subject())),
    ]);
    refused.refused(412);
    server.get(&format!("/{}", place(&answer, 1))).expect(200);
}

#[test]
fn an_error_names_the_entry_of_the_request() {
    let server = shared();
    let id = server.create(&identified(&unique()));
    let mut late = entry("PUT", &format!("Patient/{id}"), json!({"resourceType": "Patient", "id": id}));
    late["request"]["ifMatch"] = json!("W/\"7\"");
    let answer = transaction(vec![
        late,
        entry("POST", "Patient", identified(&unique())),
        bare("DELETE", &format!("Patient/{}", unique())),
    ]);
    let outcome = answer.expect(412).json();
    assert_eq!(outcome["issue"][0]["expression"], json!(["Bundle.entry[0]"]), "{outcome}");
}
