//! What GET answers, an entry of a batch or transaction answers too. Spec: <https://hl7.org/fhir/R4/http.html#transaction>.

use crate::support::server::shared;
use crate::support::world::World;
use crate::transaction::bare;
use crate::transaction::entry;
use crate::transaction::statuses;
use serde_json::Value;
use serde_json::json;

/// A patient with an observation and an encounter, the patient in two versions.
fn world() -> World {
    let world = World::new();
    world.load(vec![
        ("anna", json!({"resourceType": "Patient"})),
        (
            "pressure",
            json!({"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
                "subject": {"reference": "Patient/~anna"}, "effectiveDateTime": "2024-01-01"}),
        ),
        (
            "visit",
            json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/~anna"}}),
        ),
    ]);
    world.put("anna", json!({"resourceType": "Patient", "active": true})).expect(200);
    world
}

/// Without what differs between two answers to the same question: ids and times of Bundles, and cursors, which are sealed anew.
fn comparable(mut answer: Value) -> Value {
    if answer["resourceType"] == "Bundle" {
        for name in ["id", "link"] {
            answer.as_object_mut().unwrap().remove(name);
        }
        answer["meta"].take();
    }
    answer
}

#[test]
fn an_entry_is_answered_as_the_request_that_it_names() {
    let world = world();
    let tag = format!("_tag=urn:test:world|{}", world.tag);
    let reads = [
        format!("?_type=Patient,Observation&{tag}"),
        format!("Observation?code=8480-6&{tag}"),
        world.name("Patient/~anna/Observation?code=8480-6"),
        world.name("Patient/~anna/*"),
        world.name("Patient/~anna/_history"),
        "Patient/_history?_count=2".to_owned(),
        "_history?_count=1".to_owned(),
        world.name("Patient/~anna/_history/1"),
        world.name("Patient/~anna"),
        world.name("Patient/~anna/$everything"),
        world.name("Observation/$lastn?patient=Patient/~anna"),
        world.name("Patient/~anna/$meta"),
        "metadata".to_owned(),
    ];
    for bundle_type in ["batch", "transaction"] {
        let entries = reads.iter().map(|url| bare("GET", url)).collect();
        let answer = shared().bundle(bundle_type, entries).expect(200).json();
        for (i, url) in reads.iter().enumerate() {
            assert_eq!(answer["entry"][i]["response"]["status"], "200 OK", "{url}: {}", answer["entry"][i]);
            // Others write at the same time, and so change these.
            if url.starts_with('_') || url.starts_with("Patient/_history") {
                assert_eq!(answer["entry"][i]["resource"]["type"], "history", "{url}");
                continue;
            }
            let alone = shared().get(&format!("/{url}")).expect(200).json();
            assert_eq!(comparable(answer["entry"][i]["resource"].clone()), comparable(alone), "{url}");
        }
    }
}

#[test]
fn an_address_that_names_nothing_is_refused_with_its_entry() {
    let refused = [
        ("Patient/1/Observation/2/3", 404),
        ("Patient/1/Nothing", 400),
        ("Nothing/_history", 404),
        ("Patient/_search?name=x", 405),
        ("Patient/1/_history/1/$meta", 400),
        ("$changes", 400),
        ("$nothing", 404),
        ("Patient/1/$meta-add", 405),
        ("_history?_count=x", 400),
    ];
    let entries = refused.iter().map(|(url, _)| bare("GET", url)).collect();
    let answer = shared().bundle("batch", entries).expect(200).json();
    let wanted: Vec<u16> = refused.iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses(&answer), wanted, "{answer}");
    for (i, (url, status)) in refused.iter().enumerate() {
        let outcome = &answer["entry"][i]["response"]["outcome"]["issue"][0];
        assert_eq!(outcome["expression"][0], format!("Bundle.entry[{i}]"), "{url}");
        // Nothing is written beside a read that will fail.
        let both = vec![
            bare("GET", url),
            entry("POST", "Basic", json!({"resourceType": "Basic", "code": {"text": "x"}})),
        ];
        shared().bundle("transaction", both).refused(*status);
    }
}

#[test]
fn a_read_after_the_write_of_its_transaction_sees_what_was_written() {
    let world = World::new();
    let id = world.name("~carla");
    let patient = json!({"resourceType": "Patient", "id": id});
    let answer = shared().bundle(
        "transaction",
        vec![
            bare("GET", &format!("Patient/{id}/_history")),
            bare("GET", &format!("Patient/{id}/$everything")),
            bare("GET", &format!("Patient/{id}/$meta")),
            bare("GET", &format!("Patient/{id}/*")),
            entry("PUT", &format!("Patient/{id}"), patient),
        ],
    );
    let answer = answer.expect(200).json();
    assert_eq!(statuses(&answer), [200, 200, 200, 200, 201], "{answer}");
    assert_eq!(answer["entry"][0]["resource"]["entry"][0]["resource"]["id"], id);
    assert_eq!(answer["entry"][1]["resource"]["entry"][0]["resource"]["id"], id);
}

#[test]
fn a_conditional_read_answers_304_for_what_the_reader_has_already() {
    let world = world();
    let url = world.name("Patient/~anna");
    let read = |request: Value| json!({"request": request});
    let entries = vec![
        read(json!({"method": "GET", "url": url, "ifNoneMatch": "W/\"2\""})),
        read(json!({"method": "GET", "url": url, "ifNoneMatch": "W/\"1\""})),
        read(json!({"method": "GET", "url": url, "ifModifiedSince": "2100-01-01T00:00:00Z"})),
        read(json!({"method": "GET", "url": url, "ifModifiedSince": "2000-01-01T00:00:00Z"})),
        read(json!({"method": "GET", "url": url, "ifModifiedSince": "yesterday"})),
    ];
    let answer = shared().bundle("batch", entries).expect(200).json();
    assert_eq!(statuses(&answer), [304, 200, 304, 200, 400], "{answer}");
    assert!(answer["entry"][0].get("resource").is_none());
    assert_eq!(answer["entry"][0]["response"]["etag"], "W/\"2\"");
}
