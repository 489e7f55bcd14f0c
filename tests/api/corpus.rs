//! Other people's material, when it is on this machine: the ministry's Bundles, Synthea's, and HL7's examples, from `../shared/data`.
//! Spec: <https://hl7.org/fhir/R4/http.html>; what is sent comes back as it was.

use crate::crud::without_meta;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::statuses;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

/// The JSON files of a folder; says so when there is none.
pub fn files(folder: &str) -> Vec<(String, Value)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(folder);
    // A worktree lies one level deeper.
    let deeper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(folder);
    let Some(entries) = [path, deeper].iter().find_map(|p| std::fs::read_dir(p).ok()) else {
        println!("../shared/data/{folder} is not on this machine: nothing is tested");
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    };
    paths.iter().map(read).collect()
}

/// Number of resources of each of these types.
fn counts(server: &Server, types: &BTreeSet<String>) -> BTreeMap<String, u64> {
    types.iter().map(|t| (t.clone(), server.count(t))).collect()
}

fn types(bundles: &[(String, Value)]) -> BTreeSet<String> {
    let entries = bundles.iter().flat_map(|(_, b)| b["entry"].as_array().unwrap());
    entries
        .map(|e| e["resource"]["resourceType"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_ministrys_bundles_are_taken_unchanged_and_known_the_second_time() {
    let bundles = files("fse/bundles");
    if bundles.is_empty() {
        return;
    }
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let types = types(&bundles);
    let load = |name: &str, bundle: &Value| {
        let answer = server.post("", bundle);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        answer.json()
    };
    let first: Vec<Value> = bundles.iter().map(|(name, b)| load(name, b)).collect();
    let before = counts(&server, &types);
    println!("{before:?}");
    for ((name, bundle), first) in bundles.iter().zip(&first) {
        let again = load(name, bundle);
        assert!(statuses(&again).iter().all(|s| *s == 200), "{name}");
        let locations = |answer: &Value| {
            answer["entry"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e["fullUrl"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(locations(&again), locations(first), "{name}");
        for (i, entry) in bundle["entry"].as_array().unwrap().iter().enumerate() {
            check_stored(&server, name, &entry["resource"], &first["entry"][i]);
        }
    }
    assert_eq!(counts(&server, &types), before);
    // Two Organizations for one bare value under two systems.
    assert_eq!(server.count("Organization?identifier=urn:oid:2.16.840.1.113883.2.9.4.1.1|XXX"), 1);
    assert_eq!(server.count("Organization?identifier=urn:oid:2.16.840.1.113883.2.9.4.1.2|XXX"), 1);
    let criteria = bundles
        .iter()
        .flat_map(|(_, b)| b["entry"].as_array().unwrap())
        .map(|e| e["request"]["url"].as_str().unwrap());
    let patients: BTreeSet<&str> = criteria.filter(|url| url.starts_with("Patient?")).collect();
    assert_eq!(server.count("Patient"), patients.len() as u64);
}

/// What is stored is what was sent, but for id, meta and links; shared resources may have been updated by a later document.
#[track_caller]
fn check_stored(server: &Server, name: &str, sent: &Value, answered: &Value) {
    let place = answered["response"]["location"]
        .as_str()
        .unwrap()
        .split("/fhir/")
        .nth(1)
        .unwrap()
        .to_owned();
    let stored = server.get(&format!("/{place}")).expect(200).json();
    assert!(
        !stored.to_string().contains("\"https://example/"),
        "{name}: {place} still has a link to the Bundle"
    );
    let plain = |mut resource: Value| {
        blank_references(&mut resource);
        without_meta(resource)
    };
    assert_eq!(plain(stored), plain(sent.clone()), "{name}: {place}");
}

fn blank_references(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "reference" => *member = Value::Null,
                    _ => blank_references(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blank_references),
        _ => {}
    }
}

#[test]
fn synthea_bundles_are_taken_and_their_links_hold() {
    let bundles = files("synthea");
    if bundles.is_empty() {
        return;
    }
    let server = shared();
    for (name, bundle) in bundles.iter().take(6) {
        let answer = server.post("", bundle);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let answer = answer.json();
        let sent = bundle["entry"].as_array().unwrap();
        assert_eq!(answer["entry"].as_array().unwrap().len(), sent.len(), "{name}");
        let patient = sent.iter().position(|e| e["resource"]["resourceType"] == "Patient").unwrap();
        let place = crate::transaction::place(&answer, patient);
        let of_patient = |type_name: &str| sent.iter().filter(|e| e["resource"]["resourceType"] == type_name).count() as u64;
        for type_name in [
            "Observation",
            "Condition",
            "Encounter",
            "Procedure",
            "Immunization",
            "MedicationRequest",
        ] {
            assert_eq!(
                server.count(&format!("{type_name}?patient={place}")),
                of_patient(type_name),
                "{name}: {type_name}"
            );
            assert_eq!(
                server.count(&format!("{place}/{type_name}")),
                of_patient(type_name),
                "{name}: compartment {type_name}"
            );
        }
        for (entry, answered) in sent.iter().zip(answer["entry"].as_array().unwrap()).step_by(17) {
            check_stored_links(server, &entry["resource"], answered);
        }
    }
}

#[track_caller]
fn check_stored_links(server: &Server, sent: &Value, answered: &Value) {
    let place = answered["response"]["location"]
        .as_str()
        .unwrap()
        .split("/fhir/")
        .nth(1)
        .unwrap()
        .to_owned();
    let stored = server.get(&format!("/{place}")).expect(200).json();
    assert!(
        !stored.to_string().contains("urn:uuid:")
            || sent.to_string().matches("urn:uuid:").count() > stored.to_string().matches("urn:uuid:").count()
    );
    let plain = |mut resource: Value| {
        blank_references(&mut resource);
        without_meta(resource)
    };
    assert_eq!(plain(stored), plain(sent.clone()), "{place}");
}

#[test]
fn hl7s_examples_come_back_as_they_were_sent() {
    let server = shared();
    let examples = files("r4-examples");
    let prefix = unique();
    let (mut stored, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for (i, (name, example)) in examples.iter().enumerate() {
        let type_name = example["resourceType"].as_str().unwrap();
        let mut example = example.clone();
        // Half are created, half updated to an id of ours.
        let answer = match i % 2 {
            0 => server.post(&format!("/{type_name}"), &example),
            _ => {
                let id = format!("{prefix}-{i}");
                example["id"] = json!(id);
                server.put(&format!("/{type_name}/{id}"), &example)
            }
        };
        if answer.status != 201 {
            assert!(matches!(answer.status, 400 | 422), "{name}: {} {}", answer.status, answer.text());
            refused.push(name.clone());
            continue;
        }
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let read = server.get(&format!("/{type_name}/{id}")).expect(200).json();
        let meta = |resource: &Value| {
            let mut meta = resource["meta"].clone();
            if let Some(meta) = meta.as_object_mut() {
                meta.retain(|name, _| name != "versionId" && name != "lastUpdated");
            }
            meta.as_object().filter(|m| !m.is_empty()).cloned()
        };
        stored += 1;
        if without_meta(read.clone()) != without_meta(example.clone()) || meta(&read) != meta(&example) {
            wrong.push(name.clone());
        }
    }
    println!("{stored} of {} examples stored; refused: {refused:?}", examples.len());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(
        refused.len() * 50 <= examples.len(),
        "more than 2 % of HL7's own examples are refused: {refused:?}"
    );
}

#[test]
fn hl7s_invalid_examples_are_refused() {
    let server = shared();
    for (name, example) in files("r4-examples-invalid") {
        let type_name = example["resourceType"].as_str().unwrap();
        let answer = server.post(&format!("/{type_name}"), &example);
        assert!(matches!(answer.status, 400 | 422), "{name}: {} {}", answer.status, answer.text());
    }
}
