//! `$diff`: two versions, or two resources, as a FHIRPath Patch. Spec of the form: <https://hl7.org/fhir/R4/fhirpatch.html>.

use crate::crud::patient_with_id;
use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;

/// `type path value` of each operation.
fn told(parameters: &Value) -> Vec<String> {
    assert_eq!(parameters["resourceType"], "Parameters");
    let operations = parameters["parameter"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |operation: &Value| {
        assert_eq!(operation["name"], "operation");
        let part = |name: &str| operation["part"].as_array().unwrap().iter().find(|p| p["name"] == name).cloned();
        let kind = part("type").unwrap()["valueCode"].as_str().unwrap().to_owned();
        let path = part("path").unwrap()["valueString"].as_str().unwrap().to_owned();
        let value = part("value").map(|mut value| {
            value.as_object_mut().unwrap().remove("name");
            value.to_string().replace('"', "'")
        });
        format!("{kind} {path} {}", value.unwrap_or_default())
    };
    operations.iter().map(line).collect()
}

#[test]
fn a_version_is_compared_with_the_one_before_it_or_the_one_that_is_named() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    server.put(&path, &patient_with_id(&id, "Uno")).expect(201);
    let only = server.get(&format!("{path}/$diff")).expect(200).json();
    assert!(
        told(&only)[0].starts_with("insert Patient {'resource'"),
        "there was nothing before: {only}"
    );
    server.put(&path, &patient_with_id(&id, "Due")).expect(200);
    let mut third = patient_with_id(&id, "Tre");
    third["active"] = json!(false);
    server.put(&path, &third).expect(200);
    let diff = |query: &str| told(&server.get(&format!("{path}/$diff{query}")).expect(200).json());
    let replaced = "replace Patient.name[0].family {'valueString':'Tre'}";
    let added = "add Patient {'valueBoolean':false}";
    let mut to_third = diff("");
    to_third.sort();
    assert_eq!(to_third, [added, replaced]);
    assert_eq!(diff("?fromVersion=1").len(), 2);
    assert_eq!(diff("?fromVersion=3"), Vec::<String>::new());
    let with_meta = diff("?includeMeta=true");
    assert!(
        with_meta.iter().any(|line| line.starts_with("replace Patient.meta.versionId")),
        "{with_meta:?}"
    );
    server.get(&format!("{path}/$diff?fromVersion=9")).refused(404);
    server.get(&format!("{path}/$diff?fromVersion=x")).refused(404);
    let values = server.get(&format!("{path}/$diff?fromVersion=1")).expect(200).json().to_string();
    assert!(values.contains(r#"{"name":"previousValue","valueString":"Uno"}"#), "{values}");
    server.delete(&path).expect(204);
    server.get(&format!("{path}/$diff")).refused(410);
}

#[test]
fn two_resources_of_a_type_are_compared() {
    let server = shared();
    let (one, two) = (unique(), unique());
    server.put(&format!("/Patient/{one}"), &patient_with_id(&one, "Uno")).expect(201);
    server.put(&format!("/Patient/{two}"), &patient_with_id(&two, "Due")).expect(201);
    let diff = |from: &str, to: &str| server.get(&format!("/$diff?from={from}&to={to}"));
    let found = told(
        &diff(&format!("Patient/{one}"), &format!("Patient/{two}/_history/1"))
            .expect(200)
            .json(),
    );
    assert_eq!(found.len(), 2, "id and family: {found:?}");
    let absolute = format!("{}/Patient/{one}", server.base());
    assert_eq!(
        told(&diff(&absolute, &format!("Patient/{one}")).expect(200).json()),
        Vec::<String>::new()
    );
    diff(&format!("Patient/{one}"), "Patient/nosuch-id").refused(404);
    diff(&format!("Patient/{one}"), "Observation/nosuch-id").refused(404);
    diff(&format!("Patient/{one}"), "Patient").refused(400);
    diff(&format!("Patient/{one}"), "https://elsewhere.example/Patient/1").refused(400);
    server.get(&format!("/$diff?from=Patient/{one}")).refused(400);
}

#[test]
fn a_version_that_was_hidden_is_no_version() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let observation = place(&answer, 4);
    let path = format!("/{observation}");
    let stored = server.get(&path).expect(200).json();
    let write = |text: &str| {
        let mut body = stored.clone();
        body.as_object_mut().unwrap().remove("meta");
        body["code"] = json!({"text": text});
        server.put(&path, &body)
    };
    rule(server, &prefix, "P99");
    server.get(&format!("{path}/$diff")).refused(404);
    server.get(&format!("/$diff?from={observation}&to={observation}")).refused(404);
    write("hidden once").expect(201);
    write("hidden twice").expect(201);
    rule(server, &prefix, "P00");
    // Version 3 is shown; 2 came and went while it was hidden, so what came before is 1.
    let found = server.get(&format!("{path}/$diff")).expect(200).json();
    assert!(!found.to_string().contains("hidden once"), "{found}");
    server.get(&format!("{path}/$diff?fromVersion=2")).refused(404);
}

#[test]
fn a_difference_applied_as_a_patch_makes_the_second_of_the_first() {
    let server = shared();
    let pairs = [
        (
            json!({"resourceType": "Patient", "name": [{"family": "A", "given": ["x", "y", "z"]}, {"family": "B"}], "gender": "male", "birthDate": "1970"}),
            json!({"resourceType": "Patient", "name": [{"family": "B", "use": "old"}, {"family": "C", "given": ["z", "w"]}, {"text": "D"}], "active": true}),
        ),
        (
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueString": "a", "note": [{"text": "1"}, {"text": "2"}, {"text": "3"}]}),
            json!({"resourceType": "Observation", "status": "amended", "code": {"coding": [{"system": "urn:s", "code": "c"}]},
                "valueQuantity": {"value": 1.50, "unit": "mg"}, "note": [{"text": "0"}, {"text": "2"}, {"text": "4"}, {"text": "5"}]}),
        ),
        (
            json!({"resourceType": "Patient", "contact": [{"name": {"family": "A"}, "gender": "male"}], "extension": [{"url": "urn:e", "valueString": "a"}]}),
            json!({"resourceType": "Patient", "contact": [{"name": {"family": "A", "given": ["g"]}}, {"name": {"family": "N"}, "telecom": [{"system": "phone", "value": "1"}]}],
                "extension": [{"url": "urn:e", "valueString": "b"}]}),
        ),
        (
            json!({"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "Patient/1"}}),
            json!({"resourceType": "Basic", "code": {"text": "x"}, "created": "2024-01-01", "author": {"reference": "Practitioner/1", "display": "D"}}),
        ),
    ];
    let without_meta = |mut resource: Value| {
        resource.as_object_mut().unwrap().remove("meta");
        resource
    };
    for (from, to) in &pairs {
        for (from, to) in [(from, to), (to, from)] {
            let path = format!("/{}/{}", from["resourceType"].as_str().unwrap(), unique());
            let put = |resource: &Value| {
                let mut resource = resource.clone();
                resource["id"] = json!(path.rsplit('/').next().unwrap());
                server.put(&path, &resource)
            };
            put(from).expect(201);
            let wanted = without_meta(put(to).expect(200).json());
            let patch = server.get(&format!("{path}/$diff")).expect(200).json();
            put(from).expect(200);
            let patched = server.fhir("PATCH", &path).json(&patch).send();
            assert_eq!(patched.status, 200, "{patch}\n{}", patched.text());
            assert_eq!(without_meta(patched.json()), wanted, "{patch}");
        }
    }
}
