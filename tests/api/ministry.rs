//! Bundles in the shape in which the ministry's gateway sends documents to EDS: ours, small, with every awkward point of the real ones.
//! Source: ministry samples `it-fse-support/doc/esempi/FHIR`; the real ones are loaded in `corpus.rs`.

use crate::support::http::Answer;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::place;
use crate::transaction::statuses;
use serde_json::Value;
use serde_json::json;

const REFERTO: &str = include_str!("../fixtures/ministry/referto.json");

/// The same with an encounter, which is then its last entry.
pub fn referto_with_encounter(prefix: &str) -> Value {
    let mut bundle = referto(prefix);
    let encounter = json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}});
    let entries = bundle["entry"].as_array_mut().unwrap();
    entries.push(json!({"resource": encounter, "request": {"method": "POST", "url": "Encounter"}}));
    bundle
}

/// The document with identifiers under this prefix (`~`) and fresh random ids (`$0` to `$6`), as each sending of it has.
pub fn referto(prefix: &str) -> Value {
    let mut text = REFERTO.replace('~', prefix);
    for i in 0..=6 {
        text = text.replace(&format!("${i}"), &uuid::Uuid::new_v4().to_string());
    }
    serde_json::from_str(&text).unwrap()
}

fn load(bundle: &Value) -> Answer {
    shared().post("", bundle)
}

fn position(bundle: &Value, type_name: &str) -> usize {
    let entries = bundle["entry"].as_array().unwrap();
    entries.iter().position(|e| e["resource"]["resourceType"] == type_name).unwrap()
}

/// Ids of what a search finds.
fn ids(search: &str) -> Vec<String> {
    let found = shared().get(&format!("/{search}")).expect(200).json();
    let entries = found["entry"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|e| e["resource"]["id"].as_str().unwrap().to_owned()).collect()
}

fn counts(prefix: &str) -> Vec<u64> {
    let searches = [
        "Patient?identifier=~CF",
        "Organization?identifier=~ORG",
        "Practitioner?identifier=~MED",
        "Location?identifier=~LOC",
        "Composition?identifier=~DOC",
    ];
    searches.iter().map(|s| shared().count(&s.replace('~', prefix))).collect()
}

#[test]
fn a_document_is_taken_as_it_is_and_its_links_lead_to_what_was_stored() {
    let server = shared();
    let prefix = unique();
    let document = referto(&prefix);
    let answer = load(&document).expect(200).json();
    assert_eq!(statuses(&answer), [201; 10]);
    let place = |type_name: &str| place(&answer, position(&document, type_name));
    let read = |type_name: &str| server.get(&format!("/{}", place(type_name))).expect(200).json();
    let composition = read("Composition");
    assert_eq!(composition["subject"]["reference"], place("Patient"));
    assert_eq!(
        composition["section"][0]["section"][0]["entry"][0]["reference"],
        place("Observation")
    );
    assert_eq!(
        composition["section"][0]["section"][0]["text"]["div"],
        document["entry"][2]["resource"]["section"][0]["section"][0]["text"]["div"]
    );
    assert_eq!(
        read("DocumentReference")["context"]["related"][0]["reference"],
        place("Composition")
    );
    assert_eq!(read("PractitionerRole")["practitioner"]["reference"], place("Practitioner"));
    for type_name in ["Composition", "Observation", "Specimen", "DocumentReference", "PractitionerRole"] {
        assert!(!read(type_name).to_string().contains("https://example/"), "{type_name}");
    }
    assert_eq!(ids(&format!("Observation?patient.identifier={prefix}CF")).len(), 1);
    assert_eq!(
        ids(&format!("Composition?patient:Patient.identifier={prefix}CF&type=11502-2")).len(),
        1
    );
}

#[test]
fn the_same_value_under_two_systems_is_two_organizations() {
    let server = shared();
    let prefix = unique();
    for round in 0..2 {
        load(&referto(&prefix)).expect(200);
        assert_eq!(ids(&format!("Organization?identifier={prefix}ORG")).len(), 2, "round {round}");
        for (system, name) in [("1", "Azienda sanitaria di prova"), ("2", "Ospedale di prova")] {
            let found = ids(&format!(
                "Organization?identifier=urn:oid:2.16.840.1.113883.2.9.4.1.{system}|{prefix}ORG"
            ));
            assert_eq!(found.len(), 1, "round {round}, system {system}");
            assert_eq!(server.get(&format!("/Organization/{}", found[0])).json()["name"], name);
        }
    }
    // The role belongs to the first, the custody to the second.
    let role = ids(&format!(
        "PractitionerRole?organization.identifier=urn:oid:2.16.840.1.113883.2.9.4.1.1|{prefix}ORG"
    ));
    assert_eq!(role.len(), 1);
    let kept = ids(&format!(
        "DocumentReference?custodian.identifier=urn:oid:2.16.840.1.113883.2.9.4.1.2|{prefix}ORG"
    ));
    assert_eq!(kept.len(), 1);
}

#[test]
fn nulls_in_arrays_and_their_twins_are_kept_byte_for_byte() {
    let server = shared();
    let prefix = unique();
    load(&referto(&prefix)).expect(200);
    let id = &ids(&format!("Patient?identifier={prefix}CF"))[0];
    let text = server.get(&format!("/Patient/{id}")).expect(200).text().to_owned();
    let extension = r#"{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/iso21090-ADXP-censusTract","valueString":"058091"}]}"#;
    assert!(
        text.contains(&format!(r#""line":[null,"Via di prova 12"],"_line":[{extension},null]"#)),
        "{text}"
    );
    assert!(text.contains(&format!(r#""line":[null],"_line":[{extension}]"#)), "{text}");
    assert_eq!(ids(&format!("Patient?identifier={prefix}CF&address=via di")).len(), 1);
}

#[test]
fn decimals_keep_their_precision_and_instants_their_zone() {
    let server = shared();
    let prefix = unique();
    load(&referto(&prefix)).expect(200);
    let id = &ids(&format!("Observation?patient.identifier={prefix}CF"))[0];
    let text = server.get(&format!("/Observation/{id}")).text().to_owned();
    assert!(
        text.contains(r#""value":20.0"#) && text.contains(r#""effectiveDateTime":"2026-03-09T08:00:00+01:00""#),
        "{text}"
    );
}

#[test]
fn the_same_document_again_is_recognised_and_changes_nothing() {
    let server = shared();
    let prefix = unique();
    let first = load(&referto(&prefix)).expect(200).json();
    let before = counts(&prefix);
    assert_eq!(before, [1, 2, 1, 1, 1]);
    // Other random ids, the same document.
    let again = load(&referto(&prefix)).expect(200).json();
    assert_eq!(statuses(&again), [200; 10]);
    for i in 0..10 {
        assert_eq!(place(&again, i), place(&first, i));
        assert_eq!(again["entry"][i]["response"]["etag"], "W/\"1\"");
        assert_eq!(again["entry"][i]["response"]["outcome"]["issue"][0]["code"], "duplicate");
    }
    assert_eq!(counts(&prefix), before);
    let history = server.get(&format!("/{}/_history", place(&first, 6))).expect(200).json();
    assert_eq!(history["entry"].as_array().unwrap().len(), 1);
}

#[test]
fn the_same_identifier_with_another_content_is_refused_and_changes_nothing() {
    let prefix = unique();
    load(&referto(&prefix)).expect(200);
    let mut other = referto(&prefix);
    other["entry"][4]["resource"]["valueQuantity"]["value"] = json!(21);
    other["entry"][6]["resource"]["gender"] = json!("male");
    load(&other).refused(409);
    assert_eq!(counts(&prefix), [1, 2, 1, 1, 1]);
    assert_eq!(ids(&format!("Patient?identifier={prefix}CF&gender=male")), Vec::<String>::new());
}

#[test]
fn another_document_of_the_same_patient_shares_patient_and_organizations() {
    let server = shared();
    let prefix = unique();
    let first = load(&referto(&prefix)).expect(200).json();
    let text = referto(&prefix)
        .to_string()
        .replace(&format!("{prefix}DOC"), &format!("{prefix}DOC2"));
    let mut second: Value = serde_json::from_str(&text).unwrap();
    second["entry"][6]["resource"]["address"][0]["line"][1] = json!("Via Nuova 1");
    let answer = load(&second).expect(200).json();
    assert_eq!(place(&answer, 6), place(&first, 6));
    assert_eq!(statuses(&answer), [201, 200, 201, 201, 201, 200, 200, 200, 200, 201]);
    let patient = server.get(&format!("/{}", place(&first, 6))).expect(200).json();
    assert_eq!(
        (patient["meta"]["versionId"].as_str(), patient["address"][0]["line"][1].as_str()),
        (Some("2"), Some("Via Nuova 1"))
    );
    assert_eq!(counts(&prefix)[..4], [1, 2, 1, 1]);
    assert_eq!(server.count(&format!("Composition?patient.identifier={prefix}CF")), 2);
}

#[test]
fn eight_loads_of_the_same_new_document_at_once_make_one() {
    let prefix = unique();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| load(&referto(&prefix)))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let all: Vec<Value> = answers.into_iter().map(|a| a.expect(200).json()).collect();
    assert_eq!(all.iter().filter(|a| statuses(a) == [201; 10]).count(), 1);
    assert!(all.iter().all(|a| place(a, 6) == place(&all[0], 6)));
    assert_eq!(counts(&prefix), [1, 2, 1, 1, 1]);
}

#[test]
fn many_documents_of_one_patient_at_once_never_double_the_patient() {
    let prefix = unique();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let prefix = &prefix;
            scope.spawn(move || {
                let text = referto(prefix)
                    .to_string()
                    .replace(&format!("{prefix}DOC"), &format!("{prefix}D{i}"));
                load(&serde_json::from_str(&text).unwrap()).expect(200);
            });
        }
    });
    assert_eq!(counts(&prefix)[..4], [1, 2, 1, 1]);
    assert_eq!(shared().count(&format!("Composition?patient.identifier={prefix}CF")), 8);
}
