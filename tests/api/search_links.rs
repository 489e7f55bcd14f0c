//! Search across references: chains, `_has`, `_include`, `_revinclude`, compartments. Spec: <https://hl7.org/fhir/R4/search.html#chaining>,
//! <https://hl7.org/fhir/R4/search.html#has>, <https://hl7.org/fhir/R4/search.html#include>, <https://hl7.org/fhir/R4/compartmentdefinition.html>.

use crate::support::world::World;
use serde_json::Value;
use serde_json::json;

fn reference(to: &str) -> Value {
    json!({"reference": to})
}

fn observation(subject: &str, code: &str, encounter: Option<&str>, performer: &[&str]) -> Value {
    let mut observation = json!({"resourceType": "Observation", "status": "final", "subject": reference(subject),
        "code": {"coding": [{"system": "urn:code", "code": code}]}});
    if let Some(encounter) = encounter {
        observation["encounter"] = reference(encounter);
    }
    if !performer.is_empty() {
        observation["performer"] = performer.iter().map(|p| reference(p)).collect();
    }
    observation
}

/// Two hospitals of one group, two patients of one and one of the other, their doctor, encounters and observations.
fn hospital() -> World {
    let world = World::new();
    let organization = |name: &str, part_of: Option<&str>| {
        let mut organization = json!({"resourceType": "Organization", "name": name});
        if let Some(part_of) = part_of {
            organization["partOf"] = reference(part_of);
        }
        organization
    };
    let patient = |family: &str, organization: &str, doctor: Option<&str>| {
        let mut patient = json!({"resourceType": "Patient", "name": [{"family": family}], "managingOrganization": reference(organization)});
        if let Some(doctor) = doctor {
            patient["generalPractitioner"] = json!([reference(doctor)]);
        }
        patient
    };
    let encounter = |subject: &str, class: &str| json!({"resourceType": "Encounter", "status": "finished", "class": {"system": "urn:class", "code": class}, "subject": reference(subject)});
    world.load(vec![
        ("group", organization("Gruppo", None)),
        ("north", organization("Nord", Some("Organization/~group"))),
        ("south", organization("Sud", Some("Organization/~group"))),
        ("doctor", json!({"resourceType": "Practitioner", "name": [{"family": "Medici"}]})),
        ("anna", patient("Rossi", "Organization/~north", Some("Practitioner/~doctor"))),
        ("bruno", patient("Bianchi", "Organization/~north", None)),
        ("carla", patient("Rossi", "Organization/~south", Some("Practitioner/~doctor"))),
        (
            "device",
            json!({"resourceType": "Device", "deviceName": [{"name": "Rossi", "type": "other"}]}),
        ),
        ("e1", encounter("Patient/~anna", "AMB")),
        ("e2", encounter("Patient/~carla", "IMP")),
        (
            "o1",
            observation("Patient/~anna", "pressure", Some("Encounter/~e1"), &["Practitioner/~doctor"]),
        ),
        (
            "o2",
            observation("Patient/~anna", "weight", None, &["Patient/~anna", "Organization/~north"]),
        ),
        ("o3", observation("Patient/~bruno", "pressure", None, &[])),
        (
            "o4",
            observation("Patient/~carla", "weight", Some("Encounter/~e2"), &["Practitioner/~doctor"]),
        ),
        ("o5", observation("Device/~device", "weight", None, &[])),
        (
            "broken",
            observation("Patient/~nobody", "pressure", None, &["Practitioner/~nobody"]),
        ),
    ]);
    world
}

#[test]
fn chains_follow_one_link_and_two_with_and_without_types() {
    hospital().check(&[
        ("Observation?subject:Patient.name=rossi", &["o1", "o2", "o4"]),
        ("Observation?patient.name=rossi", &["o1", "o2", "o4"]),
        ("Observation?subject.name=rossi", &["o1", "o2", "o4"]),
        ("Observation?patient.name:exact=rossi", &[]),
        ("Observation?patient.name:contains=ianch", &["o3"]),
        ("Observation?subject:Device.device-name=rossi", &["o5"]),
        ("Observation?patient.organization.name=nord", &["o1", "o2", "o3"]),
        ("Observation?patient.organization:Organization.name=sud", &["o4"]),
        ("Observation?subject:Patient.organization.name=nord", &["o1", "o2", "o3"]),
        ("Observation?patient.organization.partof.name=gruppo", &["o1", "o2", "o3", "o4"]),
        (
            "Observation?patient.general-practitioner:Practitioner.family=medici",
            &["o1", "o2", "o4"],
        ),
        ("Observation?patient.name=rossi,bianchi", &["o1", "o2", "o3", "o4"]),
        ("Observation?patient.name=rossi&code=weight", &["o2", "o4"]),
        ("Observation?patient.name=rossi&patient.organization.name=sud", &["o4"]),
        ("Observation?patient.name=rossi&patient.name=bianchi", &[]),
        ("Observation?encounter.class=AMB", &["o1"]),
        ("Observation?encounter.class=AMB,IMP", &["o1", "o4"]),
        ("Observation?encounter.patient.name=rossi", &["o1", "o4"]),
        ("Observation?performer:Practitioner.name=medici", &["o1", "o4"]),
        ("Observation?performer:Organization.name=nord", &["o2"]),
        ("Observation?patient._id=~anna", &["o1", "o2"]),
        ("Observation?patient.gender:missing=true", &["o1", "o2", "o3", "o4"]),
        ("Observation?patient.name=nobody", &[]),
        ("Patient?organization.name=nord", &["anna", "bruno"]),
        (
            "Patient?organization:missing=false&organization.partof=~group",
            &["anna", "bruno", "carla"],
        ),
    ]);
}

#[test]
fn a_chain_does_not_follow_to_what_was_deleted() {
    let world = hospital();
    world.check(&[
        ("Observation?patient.name=bianchi", &["o3"]),
        ("Patient?_has:Observation:patient:code=pressure", &["anna", "bruno"]),
    ]);
    let deletion = world
        .server
        .fhir("DELETE", &world.name("/Patient/~bruno"))
        .header("x-referrers", "stay");
    deletion.send().expect(204);
    world.check(&[
        ("Observation?patient.name=bianchi", &[]),
        ("Patient?_has:Observation:patient:code=pressure", &["anna"]),
    ]);
    world.server.delete(&world.name("/Observation/~o1")).expect(204);
    world.check(&[("Patient?_has:Observation:patient:code=pressure", &[])]);
}

#[test]
fn has_finds_what_others_refer_to() {
    hospital().check(&[
        ("Patient?_has:Observation:patient:code=pressure", &["anna", "bruno"]),
        ("Patient?_has:Observation:subject:code=urn:code|weight", &["anna", "carla"]),
        ("Patient?_has:Observation:patient:code=weight,pressure", &["anna", "bruno", "carla"]),
        (
            "Patient?_has:Observation:patient:code=weight&_has:Observation:patient:code=pressure",
            &["anna"],
        ),
        ("Patient?_has:Observation:patient:code=none", &[]),
        ("Patient?_has:Encounter:patient:class=IMP", &["carla"]),
        ("Patient?_has:Encounter:patient:_has:Observation:encounter:code=pressure", &["anna"]),
        ("Encounter?_has:Observation:encounter:code=weight", &["e2"]),
        ("Organization?_has:Patient:organization:name=rossi", &["north", "south"]),
        (
            "Organization?_has:Patient:organization:_has:Observation:patient:code=weight",
            &["north", "south"],
        ),
        ("Organization?_has:Organization:partof:name=nord", &["group"]),
        ("Practitioner?_has:Observation:performer:code=pressure", &["doctor"]),
        ("Patient?_has:Observation:performer:code=weight", &["anna"]),
        ("Patient?_has:Observation:patient:encounter.class=AMB", &["anna"]),
        ("Observation?patient._has:Encounter:patient:class=IMP", &["o4"]),
        ("Device?_has:Observation:subject:code=weight", &["device"]),
    ]);
}

#[test]
fn include_adds_what_matches_refer_to_once() {
    let world = hospital();
    for (search, included) in [
        ("Observation?code=pressure&_include=Observation:subject", vec!["anna", "bruno"]),
        ("Observation?code=pressure&_include=Observation:patient", vec!["anna", "bruno"]),
        (
            "Observation?code=weight&_include=Observation:subject",
            vec!["anna", "carla", "device"],
        ),
        ("Observation?code=weight&_include=Observation:subject:Device", vec!["device"]),
        (
            "Observation?code=weight&_include=Observation:subject:Patient",
            vec!["anna", "carla"],
        ),
        ("Observation?code=weight&_include=Observation:subject:Group", vec![]),
        (
            "Observation?_id=~o1&_include=Observation:subject&_include=Observation:encounter",
            vec!["anna", "e1"],
        ),
        ("Observation?_id=~o1&_include=Observation:*", vec!["anna", "doctor", "e1"]),
        ("Observation?_id=~o2&_include=Observation:performer", vec!["anna", "north"]),
        ("Observation?_id=~broken&_include=Observation:*", vec![]),
        // Not further without :iterate.
        (
            "Observation?_id=~o1&_include=Observation:patient&_include:iterate=Observation:encounter",
            vec!["anna", "e1"],
        ),
        (
            "Observation?_id=~o1&_include=Observation:patient&_include:iterate=Patient:organization",
            vec!["anna", "north"],
        ),
        (
            "Observation?_id=~o1&_include=Observation:patient&_include:iterate=Patient:organization&_include:iterate=Organization:partof",
            vec!["anna", "group", "north"],
        ),
        ("Organization?_id=~north&_include=Organization:partof", vec!["group"]),
        ("Patient?name=rossi&_revinclude=Observation:patient", vec!["o1", "o2", "o4"]),
        (
            "Patient?_id=~anna&_revinclude=Observation:patient&_revinclude=Encounter:patient",
            vec!["e1", "o1", "o2"],
        ),
        ("Patient?_id=~anna&_revinclude=Observation:*", vec!["o1", "o2"]),
        ("Patient?_id=~anna&_revinclude=Observation:performer", vec!["o2"]),
        (
            "Patient?_id=~anna&_revinclude=Encounter:patient&_revinclude:iterate=Observation:encounter",
            vec!["e1", "o1"],
        ),
        (
            "Organization?_id=~group&_revinclude:iterate=Organization:partof&_revinclude:iterate=Patient:organization",
            vec!["anna", "bruno", "carla", "north", "south"],
        ),
        (
            "Patient?_id=~anna&_include=Patient:organization&_revinclude=Observation:patient",
            vec!["north", "o1", "o2"],
        ),
    ] {
        assert_eq!(world.included(search), included, "{search}");
    }
    // A match is not included again.
    let both = world.search("Organization?_include=Organization:partof").expect(200).json();
    assert_eq!(world.names(&both, "include"), Vec::<String>::new());
    assert_eq!(world.names(&both, "match").len(), 3);
}

#[test]
fn includes_belong_to_the_page_and_do_not_count() {
    let world = hospital();
    let page = world
        .search("Observation?code=pressure&_count=1&_include=Observation:patient&_total=accurate&_sort=_id")
        .expect(200)
        .json();
    assert_eq!(world.names(&page, "match").len(), 1);
    assert_eq!(page["total"], 3);
    assert!(world.names(&page, "include").len() <= 1);
    let modes: Vec<&str> = page["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["search"]["mode"].as_str().unwrap())
        .collect();
    assert_eq!(modes[0], "match");
}

#[test]
fn cycles_of_includes_end() {
    let world = World::new();
    let part_of = |target: &str| json!({"resourceType": "Organization", "name": "x", "partOf": reference(target)});
    world.load(vec![
        ("a", part_of("Organization/~b")),
        ("b", part_of("Organization/~c")),
        ("c", part_of("Organization/~a")),
        ("self", part_of("Organization/~self")),
    ]);
    assert_eq!(
        world.included("Organization?_id=~a&_include:iterate=Organization:partof"),
        ["b", "c"]
    );
    assert_eq!(
        world.included("Organization?_id=~a&_revinclude:iterate=Organization:partof"),
        ["b", "c"]
    );
    assert_eq!(
        world.included("Organization?_id=~self&_include:iterate=Organization:*&_revinclude:iterate=Organization:*"),
        Vec::<String>::new()
    );
}

#[test]
fn a_compartment_holds_what_is_linked_to_its_owner() {
    let world = hospital();
    let find = |path: &str| {
        let mut names = world.names(&world.server.get(&world.name(path)).expect(200).json(), "match");
        names.sort();
        names
    };
    assert_eq!(find("/Patient/~anna/Observation"), ["o1", "o2"]);
    assert_eq!(find("/Patient/~anna/Observation?code=weight"), ["o2"]);
    assert_eq!(find("/Patient/~anna/Encounter"), ["e1"]);
    assert_eq!(find("/Patient/~nobody/Encounter"), Vec::<String>::new());
    assert_eq!(find("/Practitioner/~doctor/Observation"), ["o1", "o4"]);
    assert_eq!(find("/Encounter/~e1/Observation"), ["o1"]);
    assert_eq!(find("/Device/~device/Observation"), ["o5"]);
    let self_link = world.server.get(&world.name("/Patient/~anna/Observation?code=weight")).json()["link"][0]["url"].clone();
    assert_eq!(
        self_link,
        format!("{}{}", world.server.base(), world.name("/Patient/~anna/Observation?code=weight"))
    );
    for path in [
        "/Patient/~anna/Nothing",
        "/Nothing/~anna/Observation",
        "/Organization/~north/Patient",
        "/Patient/~anna/Organization",
        "/Patient/~anna/Observation?nosuch=1",
    ] {
        let status = world.server.get(&world.name(path)).status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
}

#[test]
fn chains_and_alternatives_have_limits_that_are_told() {
    let server = crate::support::server::shared();
    let long = "partof.".repeat(20);
    let nested = "_has:Organization:partof:".repeat(10);
    let values = vec!["a"; 10_000].join(",");
    let parameters = "name=a&".repeat(200);
    for query in [
        format!("{long}name=x"),
        format!("{nested}name=x"),
        format!("name={values}"),
        parameters,
    ] {
        let told = server.get(&format!("/Organization?{query}")).refused(400);
        assert!(told.contains("at most"), "{told}");
    }
}
