//! `$expunge`: what is erased, what stays, and that feed, regions and documents miss nothing by it.

use crate::crud::patient_with_id;
use crate::delivery::assist;
use crate::delivery::patient;
use crate::delivery::settings;
use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::http::Answer;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::free_port;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;

const ALLOWED: (&str, &str) = ("EDS_OPERATION_EXPUNGE", "true");

fn asked(server: &Server, path: &str, parameters: &[(&str, Value)]) -> Answer {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|(name, value)| match value.is_boolean() {
            true => json!({"name": name, "valueBoolean": value}),
            false => json!({"name": name, "valueInteger": value}),
        })
        .collect();
    server.post(
        &format!("{path}/$expunge"),
        &json!({"resourceType": "Parameters", "parameter": parameters}),
    )
}

#[track_caller]
fn expunged(server: &Server, path: &str, what: &[&str]) -> i64 {
    let flags: Vec<(&str, Value)> = what.iter().map(|name| (*name, json!(true))).collect();
    let answer = asked(server, path, &flags).expect(200).json();
    assert_eq!(answer["parameter"][0]["name"], "count");
    answer["parameter"][0]["valueInteger"].as_i64().unwrap()
}

const VERSIONS: &str = "expungePreviousVersions";
const DELETED: &str = "expungeDeletedResources";

fn history(server: &Server, path: &str) -> Vec<String> {
    let entries = server.get(&format!("{path}/_history?_count=1000")).expect(200).json()["entry"].clone();
    let entries = entries.as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|e| {
            format!(
                "{} {}",
                e["request"]["method"].as_str().unwrap(),
                e["response"]["etag"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn it_is_forbidden_unless_the_settings_allow_it() {
    let server = shared();
    let id = server.create(&json!({"resourceType": "Patient"}));
    for path in ["", "/Patient", &format!("/Patient/{id}")] {
        let text = asked(server, path, &[(VERSIONS, json!(true))]).refused(403);
        assert!(text.contains("operation.expunge"), "{text}");
    }
    let statement = server.get("/metadata").expect(200).text().to_owned();
    assert!(!statement.contains("expunge"));
}

#[test]
fn past_versions_and_deleted_resources_are_erased() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[ALLOWED]);
    let write = |id: &str, name: &str| server.put(&format!("/Patient/{id}"), &patient_with_id(id, name));
    for name in ["Uno", "Due", "Tre"] {
        write("a", name);
        write("b", name);
    }
    server.delete("/Patient/b").expect(204);
    let other = server.create(&json!({"resourceType": "Basic", "code": {"text": "x"}}));
    assert_eq!(history(&server, "").len(), 8);
    // One resource.
    assert_eq!(expunged(&server, "/Patient/a", &[VERSIONS]), 2);
    assert_eq!(expunged(&server, "/Patient/a", &[VERSIONS]), 0, "nothing is left");
    server.get("/Patient/a/_history/2").refused(404);
    assert_eq!(server.get("/Patient/a").expect(200).json()["meta"]["versionId"], "3");
    assert_eq!(history(&server, "/Patient/a"), ["PUT W/\"3\""]);
    assert_eq!(history(&server, "/Patient").len(), 5, "b has its four, a its last");
    asked(&server, "/Patient/a", &[(DELETED, json!(true))]).refused(409);
    // A type; so many at a time.
    let limited = asked(&server, "/Patient", &[(VERSIONS, json!(true)), ("limit", json!(2))])
        .expect(200)
        .json();
    assert_eq!(limited["parameter"][0]["valueInteger"], 2);
    assert_eq!(
        expunged(&server, "/Patient", &[VERSIONS, DELETED]),
        2,
        "a version and the deleted resource"
    );
    server.get("/Patient/b").refused(404);
    server.get("/Patient/b/_history").refused(404);
    assert_eq!(history(&server, "").len(), 2);
    server.get(&format!("/Basic/{other}")).expect(200);
    // It may come again, as what never was.
    assert_eq!(write("b", "Quattro").expect(201).json()["meta"]["versionId"], "1");
    assert_eq!(write("a", "Quattro").expect(200).json()["meta"]["versionId"], "4", "versions go on");
    assert_eq!(expunged(&server, "", &[VERSIONS]), 1);
    for (parameters, told) in [
        (vec![("limit", json!(5))], "expungePreviousVersions"),
        (vec![("expungeEverything", json!(true))], "expungeDeletedResources"),
        (vec![(VERSIONS, json!(true)), ("limit", json!(0))], "limit"),
        (vec![(VERSIONS, json!(true)), ("limit", json!(1_000_000))], "limit"),
        (vec![("nosuch", json!(true))], "nosuch"),
    ] {
        let text = asked(&server, "", &parameters).refused(400);
        assert!(text.contains(told), "{text}");
    }
    asked(&server, "/Patient/nobody", &[(VERSIONS, json!(true))]).refused(404);
    server.get("/$expunge?expungePreviousVersions=true").refused(405);
    assert!(server.get("/metadata").expect(200).text().contains("OperationDefinition/expunge"));
}

#[test]
fn a_region_that_has_not_taken_a_deletion_still_gets_it() {
    let (dirs, port) = ([DataDir::new(), DataDir::new()], free_port());
    let listen = format!("127.0.0.1:{port}");
    let regions = format!(r#"[{{code="120",url="http://{listen}/fhir"}}]"#);
    let mut with = settings(&regions);
    with.push(ALLOWED);
    let national = Server::start(&dirs[0], &with);
    let region = Server::start_at(&dirs[1], &listen, &[]);
    let cf = unique().to_uppercase();
    assist(&national, &cf, "120");
    national.put("/Patient/p", &patient("p", &cf)).expect(201);
    let observation = |text: &str| json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": text}, "subject": {"reference": "Patient/p"}});
    national.put("/Observation/o", &observation("uno")).expect(201);
    national.put("/Observation/o", &observation("due")).expect(200);
    eventually("the region has it", || region.get("/Observation/o").text().contains("due"));
    assert_eq!(expunged(&national, "/Observation/o", &[VERSIONS]), 1);
    region.stop();
    national.delete("/Observation/o").expect(204);
    // Its content goes at once; that it is gone is still to be told.
    assert_eq!(expunged(&national, "/Observation/o", &[DELETED]), 1);
    assert_eq!(expunged(&national, "", &[DELETED]), 0);
    national.get("/Observation/o/_history/2").refused(404);
    national.get("/Observation/o").refused(410);
    let region = Server::start_at(&dirs[1], &listen, &[]);
    eventually("the region takes the deletion", || region.get("/Observation/o").status == 410);
    eventually("the row goes when nothing needs it", || {
        expunged(&national, "/Observation", &[DELETED]) == 1
    });
    national.get("/Observation/o").refused(404);
    // What never reached a region, and comes and goes before anybody looks.
    national.put("/Observation/q", &observation_named("q")).expect(201);
    national.delete("/Observation/q").expect(204);
    expunged(&national, "", &[DELETED]);
    // The feed goes on without a gap, and the same id arrives anew.
    national.put("/Observation/o", &observation("tre")).expect(201);
    eventually("the region has the new one", || region.get("/Observation/o").text().contains("tre"));
    let q = region.get("/Observation/q").status;
    assert!([404, 410].contains(&q), "{q}");
    let state = || national.request("GET", "/regions").send().expect(200).json()[0].clone();
    eventually("nothing waits", || state()["backlog"] == 0);
    assert_eq!(state()["parked"], 0);
}

fn observation_named(id: &str) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/p"}})
}

#[test]
fn what_a_document_has_keeps_its_place_and_what_is_hidden_is_not_touched() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[ALLOWED, ("EDS_INTEGRITY_ON_DELETE", "allow")]);
    let prefix = unique();
    let bundle = referto(&prefix);
    let answer = server.post("", &bundle).expect(200).json();
    let (observation, composition) = (place(&answer, 4), place(&answer, 2));
    server.delete(&format!("/{observation}")).expect(204);
    assert_eq!(expunged(&server, "", &[DELETED]), 1, "its version");
    server.get(&format!("/{observation}")).refused(410);
    // The same document again is known, entry by entry.
    let again = server.post("", &bundle).expect(200).json();
    assert_eq!(again["entry"].as_array().unwrap().len(), answer["entry"].as_array().unwrap().len());
    assert_eq!(place(&again, 2), composition);
    // Hidden, it has past versions that only its feeder knows of.
    let mut stored = server.get(&format!("/{composition}")).expect(200).json();
    stored.as_object_mut().unwrap().remove("meta");
    rule(&server, &prefix, "P99");
    stored["title"] = json!("while it is hidden");
    server.put(&format!("/{composition}"), &stored).expect(201);
    for path in ["", "/Composition"] {
        assert_eq!(expunged(&server, path, &[VERSIONS, DELETED]), 0, "{path}");
    }
    asked(&server, &format!("/{composition}"), &[(VERSIONS, json!(true))]).refused(404);
    rule(&server, &prefix, "P00");
    server.get(&format!("/{composition}/_history/1")).expect(200);
    assert_eq!(expunged(&server, "", &[VERSIONS]), 1);
}
