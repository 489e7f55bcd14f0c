//! Delete of what others refer to, with and without a cascade; conditional delete of one and of several.
//! Spec: <https://hl7.org/fhir/R4/http.html#delete>, <https://hl7.org/fhir/R4/http.html#3.1.0.7.1>.

use crate::ministry::referto;
use crate::support::http::Answer;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::World;
use crate::support::world::unique;
use crate::transaction::bare;
use crate::transaction::place;
use serde_json::json;

/// A patient, an encounter of the patient, an observation of both, and one of the encounter alone.
fn family() -> World {
    let world = World::new();
    world.load(vec![
        ("p", json!({"resourceType": "Patient"})),
        ("e", json!({"resourceType": "Encounter", "status": "planned", "class": {"code": "AMB"}, "subject": {"reference": "Patient/~p"}})),
        (
            "o1",
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/~p"}, "encounter": {"reference": "Encounter/~e"}}),
        ),
        ("o2", json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "encounter": {"reference": "Encounter/~e"}})),
    ]);
    world
}

fn delete(world: &World, path: &str) -> Answer {
    world.server.delete(&world.name(path))
}

fn cascade(world: &World, path: &str) -> Answer {
    world.server.fhir("DELETE", &world.name(path)).header("x-cascade", "delete").send()
}

#[test]
fn what_others_refer_to_is_not_deleted_and_they_are_named() {
    let world = family();
    let told = delete(&world, "/Patient/~p").refused(409);
    assert!(
        told.contains(&world.name("Patient/~p is referred to by Encounter/~e, Observation/~o1:")),
        "{told}"
    );
    assert_eq!(
        world.server.get(&world.name("/Patient/~p")).expect(200).header("etag"),
        Some("W/\"1\"")
    );
    // An update that no longer refers to it lets it go.
    delete(&world, "/Observation/~o1").expect(204);
    delete(&world, "/Patient/~p").refused(409);
    world
        .put(
            "e",
            json!({"resourceType": "Encounter", "status": "planned", "class": {"code": "AMB"}}),
        )
        .expect(200);
    delete(&world, "/Patient/~p").expect(204);
    // What is deleted already is deleted as before.
    delete(&world, "/Patient/~p").expect(204);
}

#[test]
fn many_referrers_are_named_in_part() {
    let world = World::new();
    let mut resources = vec![("p", json!({"resourceType": "Patient"}))];
    let names: Vec<String> = (0..30).map(|i| format!("o{i:02}")).collect();
    let observation =
        json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/~p"}});
    resources.extend(names.iter().map(|name| (name.as_str(), observation.clone())));
    world.load(resources);
    let told = delete(&world, "/Patient/~p").refused(409);
    assert_eq!(told.matches("Observation/").count(), 10, "{told}");
    assert!(told.contains("and others"), "{told}");
}

#[test]
fn references_of_themselves_of_provenance_and_of_what_is_deleted_do_not_count() {
    let world = World::new();
    world.load(vec![
        ("p", json!({"resourceType": "Patient", "link": [{"other": {"reference": "Patient/~p"}, "type": "seealso"}]})),
        (
            "provenance",
            json!({"resourceType": "Provenance", "target": [{"reference": "Patient/~p"}], "recorded": "2026-01-01T00:00:00Z", "agent": [{"who": {"display": "x"}}]}),
        ),
        ("o", json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/~p"}})),
    ]);
    delete(&world, "/Observation/~o").expect(204);
    delete(&world, "/Patient/~p").expect(204);
}

#[test]
fn a_transaction_is_looked_at_when_all_of_it_is_done() {
    let world = family();
    let bundle = |names: &[&str]| {
        let entries = names.iter().map(|name| bare("DELETE", &world.name(name))).collect();
        world.server.bundle("transaction", entries)
    };
    let refused = bundle(&["Observation/~o1", "Patient/~p"]).expect(409).json();
    let issue = &refused["issue"][0];
    assert_eq!(issue["expression"][0], "Bundle.entry[1]", "{refused}");
    assert!(issue["diagnostics"].as_str().unwrap().contains("Encounter/"), "{refused}");
    assert!(!issue["diagnostics"].as_str().unwrap().contains("Observation/"), "{refused}");
    world.server.get(&world.name("/Observation/~o1")).expect(200);
    // One that brings a new referrer, and one that takes the reference away.
    let encounter = |subject: serde_json::Value| {
        let mut encounter = world.resource(
            "e",
            json!({"resourceType": "Encounter", "status": "planned", "class": {"code": "AMB"}}),
        );
        if !subject.is_null() {
            encounter["subject"] = subject;
        }
        json!({"resource": encounter, "request": {"method": "PUT", "url": world.name("Encounter/~e")}})
    };
    let deletions = || {
        vec![
            bare("DELETE", &world.name("Observation/~o1")),
            bare("DELETE", &world.name("Patient/~p")),
        ]
    };
    let mut entries = deletions();
    entries.push(encounter(json!({"reference": world.name("Patient/~p")})));
    world.server.bundle("transaction", entries).refused(409);
    let mut entries = deletions();
    entries.push(encounter(json!(null)));
    world.server.bundle("transaction", entries).expect(200);
    world.server.get(&world.name("/Patient/~p")).refused(410);
}

#[test]
fn a_cascade_takes_what_refers_to_it_and_what_refers_to_that_at_once() {
    for by_header in [true, false] {
        let world = family();
        let answer = match by_header {
            true => cascade(&world, "/Patient/~p"),
            false => delete(&world, "/Patient/~p?_cascade=delete"),
        };
        let outcome = answer.expect(200).json();
        assert_eq!(outcome["issue"][0]["diagnostics"], "4 resources were deleted", "{outcome}");
        let mut deleted = Vec::new();
        for path in ["Patient/~p", "Encounter/~e", "Observation/~o1", "Observation/~o2"] {
            world.server.get(&world.name(&format!("/{path}"))).refused(410);
            // A change of its own each, at one time.
            let history = world.server.get(&world.name(&format!("/{path}/_history"))).expect(200).json();
            assert_eq!(history["entry"][0]["request"]["method"], "DELETE");
            deleted.push(history["entry"][0]["response"]["lastModified"].clone());
        }
        assert!(deleted.iter().all(|at| *at == deleted[0]), "{deleted:?}");
    }
}

#[test]
fn a_cascade_in_a_transaction_leaves_to_each_entry_what_is_its_own() {
    let world = family();
    let encounter = world.resource(
        "e",
        json!({"resourceType": "Encounter", "status": "planned", "class": {"code": "AMB"}}),
    );
    let entries = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        bare("DELETE", &world.name("Patient/~p")),
        bare("DELETE", &world.name("Observation/~o1")),
        {"resource": encounter, "request": {"method": "PUT", "url": world.name("Encounter/~e")}},
    ]});
    world
        .server
        .fhir("POST", "")
        .header("x-cascade", "delete")
        .json(&entries)
        .send()
        .expect(200);
    world.server.get(&world.name("/Patient/~p")).refused(410);
    world.server.get(&world.name("/Observation/~o1")).refused(410);
    assert_eq!(
        world.server.get(&world.name("/Encounter/~e")).expect(200).header("etag"),
        Some("W/\"2\"")
    );
    world
        .server
        .fhir("DELETE", "/Patient/x")
        .header("x-cascade", "perhaps")
        .send()
        .refused(400);
}

#[test]
fn a_conditional_delete_takes_several_only_when_it_is_asked_to_and_never_a_part() {
    let world = World::new();
    let observation = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}});
    let names: Vec<String> = (0..5).map(|i| format!("o{i}")).collect();
    world.load(names.iter().map(|name| (name.as_str(), observation.clone())).collect());
    let path = world.path("Observation?status=final");
    world.server.delete(&path).refused(412);
    let told = world.server.delete(&format!("{path}&_count=4")).refused(412);
    assert!(told.contains("more than 4 resources"), "{told}");
    assert_eq!(world.find("Observation").len(), 5);
    let told = world.server.delete(&format!("{path}&_count=101")).refused(400);
    assert!(told.contains("1 to 100 (delete.matches_max)"), "{told}");
    for wrong in ["0", "-1", "x", ""] {
        world.server.delete(&format!("{path}&_count={wrong}")).refused(400);
    }
    let outcome = world.server.delete(&format!("{path}&_count=5")).expect(200).json();
    assert_eq!(outcome["issue"][0]["diagnostics"], "5 resources were deleted");
    assert_eq!(outcome["issue"][0]["severity"], "information");
    assert_eq!(world.find("Observation").len(), 0);
    let outcome = world.server.delete(&format!("{path}&_count=5")).expect(200).json();
    assert_eq!(outcome["issue"][0]["diagnostics"], "There was nothing to delete");
    // Without _count: none and one are 204, and Prefer asks for words.
    world.server.delete(&path).expect(204);
    let answer = world
        .server
        .fhir("DELETE", &path)
        .header("prefer", "return=OperationOutcome")
        .send()
        .expect(200);
    assert_eq!(answer.json()["issue"][0]["diagnostics"], "There was nothing to delete");
    // A criterion is needed however many may go.
    world.server.delete("/Observation?_count=5").refused(412);
}

#[test]
fn a_conditional_delete_of_several_in_a_transaction_tells_how_many_and_looks_at_references() {
    let world = family();
    let observations = world.name("Observation?encounter=Encounter/~e&_count=10");
    let encounters = world.name("Encounter?subject=Patient/~p&_count=10");
    world.server.bundle("transaction", vec![bare("DELETE", &encounters)]).refused(409);
    let answer = world
        .server
        .bundle("transaction", vec![bare("DELETE", &observations), bare("DELETE", &encounters)])
        .expect(200)
        .json();
    assert_eq!(
        answer["entry"][0]["response"]["outcome"]["issue"][0]["diagnostics"], "2 resources were deleted",
        "{answer}"
    );
    assert_eq!(answer["entry"][1]["response"]["status"], "204 No Content");
    delete(&world, "/Patient/~p").expect(204);
}

/// docs/adr/0007-oscuramento.md: as if they were not there.
#[test]
fn hidden_resources_hold_nothing_and_are_not_named() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let patient = (0..10).map(|i| place(&answer, i)).find(|p| p.starts_with("Patient/")).unwrap();
    let rule = |code: &str| {
        let text = json!({"body": {"attiCliniciRegoleAccesso": [code]}}).to_string();
        let body = json!({"identifier": format!("2.16.840.1.113883.2.9.2.120.4.4^{prefix}DOC"), "jsonString": text});
        server
            .request("PUT", "/v1/document/metadata")
            .body("application/json", body.to_string())
            .send()
            .expect(200);
    };
    let told = server.delete(&format!("/{patient}")).refused(409);
    assert!(told.contains("Composition/"), "{told}");
    let note =
        server.create(&json!({"resourceType": "Flag", "status": "active", "code": {"text": "x"}, "subject": {"reference": patient}}));
    rule("P99");
    let told = server.delete(&format!("/{patient}")).refused(409);
    assert!(told.contains(&format!("is referred to by Flag/{note}:")), "{told}");
    server.delete(&format!("/Flag/{note}")).expect(204);
    // A cascade takes nothing that is hidden, and does not count it.
    let outcome = server
        .fhir("DELETE", &format!("/{patient}"))
        .header("x-cascade", "delete")
        .send()
        .expect(200)
        .json();
    assert_eq!(outcome["issue"][0]["diagnostics"], "1 resource was deleted");
    rule("P00");
    assert_eq!(server.count(&format!("Composition?identifier={prefix}DOC")), 1);
    server.get(&format!("/{patient}")).refused(410);
    // And the document can still be deleted by those who fed it.
    let path = format!("/v1/document/identifier/2.16.840.1.113883.2.9.2.120.4.4%5E{prefix}DOC");
    server.request("DELETE", &path).send().expect(200);
    assert_eq!(server.count(&format!("Composition?identifier={prefix}DOC")), 0);
}

#[test]
fn what_may_be_deleted_is_set() {
    let dir = DataDir::new();
    let settings = [
        ("EDS_DELETE_CONDITIONAL", "multiple"),
        ("EDS_DELETE_MATCHES_MAX", "3"),
        ("EDS_DELETE_CASCADE_MAX", "2"),
        ("EDS_INTEGRITY_ON_DELETE", "allow"),
    ];
    let server = Server::start(&dir, &settings);
    let patient = server.create(&json!({"resourceType": "Patient"}));
    let observation = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": format!("Patient/{patient}")}});
    let ids: Vec<String> = (0..4).map(|_| server.create(&observation)).collect();
    let path = "/Observation?status=final";
    let told = server.delete(path).refused(412);
    assert!(told.contains("more than 3 resources"), "{told}");
    let told = server
        .fhir("DELETE", &format!("/Patient/{patient}"))
        .header("x-cascade", "delete")
        .send()
        .refused(409);
    assert!(
        told.contains("More than 2 resources would be deleted with it (delete.cascade_max)"),
        "{told}"
    );
    assert_eq!(server.count("Observation?status=final"), 4);
    server.delete(&format!("/Observation/{}", ids[0])).expect(204);
    server.delete(&format!("/Patient/{patient}")).expect(204);
    let outcome = server.delete(path).expect(200).json();
    assert_eq!(outcome["issue"][0]["diagnostics"], "3 resources were deleted");
    let statement = server.get("/metadata").expect(200).json();
    assert_eq!(statement["rest"][0]["resource"][0]["conditionalDelete"], "multiple");
}
