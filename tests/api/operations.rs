//! Operations in general: where they are, how they are asked, and what is told of those that are not there.
//! Spec: <https://hl7.org/fhir/R4/operations.html>.

use crate::crud::patient;
use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;

#[test]
fn an_operation_that_is_not_known_is_refused_by_its_name_and_never_taken_for_a_type_or_an_id() {
    let server = shared();
    let id = server.create(&patient("Operazioni"));
    for path in [
        "/$nosuch".to_owned(),
        "/Patient/$nosuch".to_owned(),
        format!("/Patient/{id}/$nosuch"),
    ] {
        for method in ["GET", "POST"] {
            let text = server.fhir(method, &path).send().refused(404);
            assert!(text.contains("$nosuch") && text.contains("$meta"), "{method} {path}: {text}");
        }
    }
    // As it is written percent-encoded, too.
    let text = server.request("GET", &format!("/fhir/Patient/{id}/%24nosuch")).send().refused(404);
    assert!(text.contains("$nosuch"), "{text}");
    for path in ["/$graphql".to_owned(), format!("/Patient/{id}/$graphql")] {
        let text = server.fhir("POST", &path).send().refused(404);
        assert!(text.contains("GraphQL") && text.contains("_include"), "{text}");
    }
    server.get("/$").refused(404);
    server.get("/Nothing/$meta").refused(404);
    let text = server.get(&format!("/Patient/{id}/_history/1/$meta")).refused(400);
    assert!(text.contains("$meta"), "{text}");
}

#[test]
fn an_operation_at_a_wrong_place_is_told_where_it_is() {
    let server = shared();
    for (path, place) in [
        ("/Patient/$changes", "/$changes"),
        ("/Patient/$diff", "/[type]/[id]/$diff"),
        ("/$validate", "/[type]/$validate"),
    ] {
        let text = server.get(path).refused(400);
        assert!(text.contains(place), "{path}: {text}");
    }
}

#[test]
fn what_changes_state_is_asked_by_post_alone() {
    // "Operations that have affectsState = true SHALL be invoked using POST".
    let server = shared();
    let id = server.create(&patient("Operazioni"));
    for (method, name) in [
        ("GET", "$meta-add"),
        ("GET", "$meta-delete"),
        ("GET", "$validate"),
        ("PUT", "$meta"),
        ("DELETE", "$meta"),
    ] {
        server.fhir(method, &format!("/Patient/{id}/{name}")).send().refused(405);
    }
    let read = server.get(&format!("/Patient/{id}")).expect(200).json();
    assert_eq!(read["meta"]["versionId"], "1");
}

#[test]
fn parameters_come_in_the_url_and_in_parameters_and_unknown_ones_are_refused() {
    let server = shared();
    let id = server.create(&patient("Operazioni"));
    let path = format!("/Patient/{id}/$diff");
    let by_get = server.get(&format!("{path}?includeMeta=true")).expect(200).json();
    let parameters = json!({"resourceType": "Parameters", "parameter": [{"name": "includeMeta", "valueBoolean": true}]});
    assert_eq!(server.post(&path, &parameters).expect(200).json(), by_get);
    assert_eq!(
        server.fhir("POST", &format!("{path}?includeMeta=true")).send().expect(200).json(),
        by_get
    );
    for (parameters, status, told) in [
        (json!({"resourceType": "Patient"}), 400, "Parameters"),
        (
            json!({"resourceType": "Parameters", "parameter": [{"name": "nosuch", "valueString": "x"}]}),
            400,
            "includeMeta",
        ),
        (
            json!({"resourceType": "Parameters", "parameter": [{"name": "includeMeta"}]}),
            400,
            "value",
        ),
        (
            json!({"resourceType": "Parameters", "parameter": [{"name": "includeMeta", "valueString": "yes"}]}),
            400,
            "true or false",
        ),
        (json!({"resourceType": "Parameters", "parameter": {}}), 422, ""),
        (json!({"resourceType": "Parameters", "other": 1}), 422, ""),
    ] {
        let text = server.post(&path, &parameters).refused(status);
        assert!(text.contains(told), "{parameters}: {text}");
    }
    server.get(&format!("{path}?nosuch=1")).refused(400);
    server.get(&format!("{path}?includeMeta=true&includeMeta=false")).refused(400);
    server.get(&format!("{path}?includeMeta=1")).refused(400);
    server.fhir("POST", &path).body("text/plain", "x").send().refused(415);
    server.fhir("POST", &path).fhir("{").send().refused(400);
}

#[test]
fn every_listed_operation_answers_and_names_its_definition() {
    let server = shared();
    let statement = server.get("/metadata").expect(200).json();
    let rest = &statement["rest"][0];
    let listed = |operations: &Value| -> Vec<String> {
        let operations = operations.as_array().cloned().unwrap_or_default();
        operations
            .iter()
            .map(|o| {
                assert!(o["definition"].as_str().unwrap().starts_with("http"), "{o}");
                o["name"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    // Asked without what it needs it says so: anything but that it is not known.
    let mut asked = 0;
    let mut check = |name: &str, paths: &[String]| {
        let is_known = |path: &String| {
            let answer = server.post(path, &json!({"resourceType": "Parameters"}));
            let is_unknown = answer.status == 404 && answer.text().contains("is no operation");
            !is_unknown && !answer.text().contains("cannot be asked here")
        };
        assert!(paths.iter().any(is_known), "{name} is listed");
        asked += 1;
    };
    for name in listed(&rest["operation"]) {
        check(&name, &[format!("/${name}")]);
    }
    let id = unique();
    for resource in rest["resource"].as_array().unwrap() {
        let type_name = resource["type"].as_str().unwrap();
        if !["Patient", "Encounter", "Observation", "Composition", "Basic"].contains(&type_name) {
            continue;
        }
        for name in listed(&resource["operation"]) {
            check(&name, &[format!("/{type_name}/${name}"), format!("/{type_name}/{id}/${name}")]);
        }
    }
    assert!(asked > 10);
}

#[test]
fn operations_that_read_are_entries_of_a_bundle_too() {
    let server = shared();
    let id = server.create(&patient("Operazioni"));
    let entry = |method: &str, url: &str| json!({"request": {"method": method, "url": url}});
    let entries = vec![
        entry("GET", &format!("Patient/{id}/$everything?_count=1")),
        entry("GET", &format!("Patient/{id}/$nosuch")),
        entry("GET", "$changes?region=120"),
        entry("GET", &format!("Patient/{id}/$meta-add")),
        entry("POST", &format!("Patient/{id}/$meta-add")),
    ];
    let answer = server.bundle("batch", entries).expect(200).json();
    let status = |i: usize| answer["entry"][i]["response"]["status"].as_str().unwrap()[..3].to_owned();
    assert_eq!([0, 1, 2, 3, 4].map(status), ["200", "404", "400", "405", "400"]);
    assert_eq!(answer["entry"][0]["resource"]["entry"][0]["resource"]["id"], id);
    let alone = server
        .bundle("transaction", vec![entry("GET", &format!("Patient/{id}/$meta"))])
        .expect(200)
        .json();
    assert_eq!(alone["entry"][0]["resource"]["parameter"][0]["valueMeta"]["versionId"], "1");
}
