//! The CapabilityStatement is true: what it lists works, and what it does not list does not.
//! Spec: <https://hl7.org/fhir/R4/http.html#capabilities>, <https://hl7.org/fhir/R4/capabilitystatement.html>.

use crate::crud::patient;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

fn statement() -> Value {
    shared().get("/metadata").expect(200).json()
}

fn of_type(statement: &Value, name: &str) -> Value {
    let resources = statement["rest"][0]["resource"].as_array().unwrap();
    resources
        .iter()
        .find(|r| r["type"] == name)
        .unwrap_or_else(|| panic!("{name} is not listed"))
        .clone()
}

fn codes(list: &Value, member: &str) -> BTreeSet<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|i| i[member].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn it_is_a_capability_statement_of_this_server() {
    let server = shared();
    let statement = statement();
    eds_answers::check_capability_statement(&statement).unwrap();
    assert_eq!(statement["resourceType"], "CapabilityStatement");
    assert_eq!(statement["fhirVersion"], "4.0.1");
    assert_eq!(statement["kind"], "instance");
    assert_eq!(statement["implementation"]["url"], server.base());
    assert_eq!(statement["rest"][0]["mode"], "server");
    assert_eq!(
        statement["rest"][0]["resource"].as_array().unwrap().len(),
        146,
        "every concrete type of R4"
    );
    let issues = server.post("/CapabilityStatement/$validate", &statement).json();
    let errors: Vec<&Value> = issues["issue"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|i| i["severity"] == "error")
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Does the interaction once; the status.
fn carry_out(server: &Server, code: &str, id: &str) -> u16 {
    let basic = json!({"resourceType": "Basic", "id": id, "code": {"text": unique()}});
    match code {
        "read" => server.get(&format!("/Basic/{id}")).status,
        "vread" => server.get(&format!("/Basic/{id}/_history/1")).status,
        "update" => server.put(&format!("/Basic/{id}"), &basic).status,
        "patch" => {
            server
                .fhir("PATCH", &format!("/Basic/{id}"))
                .body("application/json-patch+json", "[]")
                .send()
                .status
        }
        "delete" => server.delete(&format!("/Basic/{}", server.create(&basic))).status,
        "history-instance" => server.get(&format!("/Basic/{id}/_history")).status,
        "history-type" => server.get("/Basic/_history").status,
        "create" => server.post("/Basic", &basic).status,
        "search-type" => server.get("/Basic").status,
        "transaction" | "batch" => server.post("", &json!({"resourceType": "Bundle", "type": code})).status,
        "history-system" => server.get("/_history").status,
        "search-system" => server.get("?_type=Basic").status,
        other => panic!("{other} is not known to this test"),
    }
}

#[test]
fn interactions_work_when_and_only_when_they_are_listed() {
    let server = shared();
    let statement = statement();
    let id = server.create(&json!({"resourceType": "Basic", "code": {"text": "x"}}));
    let listed = codes(&of_type(&statement, "Basic")["interaction"], "code");
    for code in [
        "read",
        "vread",
        "update",
        "patch",
        "delete",
        "history-instance",
        "history-type",
        "create",
        "search-type",
    ] {
        let status = carry_out(server, code, &id);
        assert_eq!(listed.contains(code), status < 300, "{code}: {status}");
    }
    let listed = codes(&statement["rest"][0]["interaction"], "code");
    for code in ["transaction", "batch", "history-system", "search-system"] {
        let status = carry_out(server, code, &id);
        assert_eq!(listed.contains(code), status < 300, "{code}: {status}");
    }
}

#[test]
fn conditional_interactions_work_as_they_are_listed() {
    let server = shared();
    let listed = of_type(&statement(), "Patient");
    assert_eq!(listed["updateCreate"], true);
    let id = unique();
    let with = |id: &str| json!({"resourceType": "Patient", "id": id, "identifier": [{"system": "urn:m", "value": id}]});
    server.put(&format!("/Patient/{id}"), &with(&id)).expect(201);
    assert_eq!(listed["conditionalCreate"], true);
    server
        .fhir("POST", "/Patient")
        .header("if-none-exist", &format!("identifier={id}"))
        .json(&with(&id))
        .send()
        .expect(200);
    assert_eq!(listed["conditionalUpdate"], true);
    server.put(&format!("/Patient?identifier={id}"), &with(&id)).expect(200);
    assert_eq!(listed["conditionalRead"], "full-support");
    server
        .fhir("GET", &format!("/Patient/{id}"))
        .header("if-none-match", "W/\"1\"")
        .send()
        .expect(304);
    assert_eq!(listed["conditionalDelete"], "single");
    server.delete(&format!("/Patient?identifier={id}")).expect(204);
    assert_eq!(listed["operation"][0]["name"], "validate");
    server.post("/Patient/$validate", &patient("x")).expect(200);
}

/// A value of the right form for a parameter of this type.
fn value_of(kind: &str) -> &'static str {
    match kind {
        "number" | "quantity" => "1",
        "date" => "2024",
        "string" => "x",
        "token" => "x",
        "reference" => "Patient/x",
        "uri" => "urn:x",
        "composite" => "x$x",
        other => panic!("{other} is not known to this test"),
    }
}

#[test]
fn every_listed_search_parameter_searches_and_others_do_not() {
    let server = shared();
    let statement = statement();
    let types = [
        "Patient",
        "Observation",
        "Composition",
        "DocumentReference",
        "Encounter",
        "MedicationRequest",
        "ValueSet",
        "RiskAssessment",
        "Organization",
        "Basic",
    ];
    let all: BTreeSet<String> = types
        .iter()
        .flat_map(|t| codes(&of_type(&statement, t)["searchParam"], "name"))
        .collect();
    assert!(all.len() > 100);
    let mut wrong = Vec::new();
    for type_name in types {
        let resource = of_type(&statement, type_name);
        let listed = codes(&resource["searchParam"], "name");
        for parameter in resource["searchParam"].as_array().unwrap() {
            let (name, kind) = (parameter["name"].as_str().unwrap(), parameter["type"].as_str().unwrap());
            if kind == "composite" {
                // Its parts have types of their own: any answer but "unknown" tells that it is there.
                let answer = server.get(&format!("/{type_name}?{name}=x"));
                if answer.status == 400 && answer.text().contains("no search parameter") {
                    wrong.push(format!("{type_name}?{name}: not known"));
                }
                continue;
            }
            for query in [format!("{name}={}", value_of(kind)), format!("{name}:missing=true")] {
                let status = server.get(&format!("/{type_name}?{query}&_summary=count")).status;
                let is_never_missing = query.contains(":missing") && matches!(name, "_id" | "_lastUpdated" | "_text");
                if (status == 200) == is_never_missing {
                    wrong.push(format!("{type_name}?{query}: {status}"));
                }
            }
        }
        for name in all.iter().filter(|n| !listed.contains(*n)) {
            let status = server.get(&format!("/{type_name}?{name}=1")).status;
            if status != 400 {
                wrong.push(format!("{type_name}?{name} is not listed: {status}"));
            }
        }
        for (parameter, member) in [("_include", "searchInclude"), ("_revinclude", "searchRevInclude")] {
            for include in resource[member].as_array().into_iter().flatten().take(25) {
                let status = server
                    .get(&format!("/{type_name}?{parameter}={}&_count=1", include.as_str().unwrap()))
                    .status;
                if status != 200 {
                    wrong.push(format!("{type_name}?{parameter}={include}: {status}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_type_that_is_listed_can_be_searched_and_no_other() {
    let server = shared();
    let statement = statement();
    let listed = codes(&statement["rest"][0]["resource"], "type");
    for type_name in &listed {
        server.get(&format!("/{type_name}?_summary=count")).expect(200);
    }
    for other in [
        "Element",
        "Resource",
        "DomainResource",
        "MetadataResource",
        "Identifier",
        "patient",
        "SubscriptionTopic",
        "Extension",
    ] {
        assert!(!listed.contains(other), "{other}");
        server.get(&format!("/{other}")).refused(404);
    }
}

#[test]
fn every_listed_compartment_can_be_searched() {
    let server = shared();
    for url in statement()["rest"][0]["compartment"].as_array().unwrap() {
        let code = url.as_str().unwrap().rsplit('/').next().unwrap().to_lowercase();
        let (name, member) = match code.as_str() {
            "patient" => ("Patient", "Observation"),
            "encounter" => ("Encounter", "Observation"),
            "practitioner" => ("Practitioner", "Observation"),
            "relatedperson" => ("RelatedPerson", "Observation"),
            "device" => ("Device", "Observation"),
            other => panic!("{other} is not known to this test"),
        };
        server.get(&format!("/{name}/x/{member}")).expect(200);
    }
}
