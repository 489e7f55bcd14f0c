//! The OpenAPI document is one, and says what the server does: every address and method that it has is there, and no other.
//! Spec: <https://spec.openapis.org/oas/v3.0.3>.

use crate::support::server::shared;
use openapiv3::OpenAPI;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
const TYPES: [&str; 6] = ["Patient", "Observation", "Location", "DocumentReference", "Composition", "ValueSet"];

fn document(query: &str) -> Value {
    let answer = shared().request("GET", &format!("/openapi.json{query}")).send().expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// The parameter, or what it refers to.
fn followed<'d>(document: &'d Value, item: &'d Value) -> &'d Value {
    match item["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference} is not in the document")),
        None => item,
    }
}

fn check_references(document: &Value, at: &Value) {
    match at {
        Value::Object(members) => {
            followed(document, at);
            members.values().for_each(|member| check_references(document, member));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(document, item)),
        _ => {}
    }
}

/// `(path, method, operation)` of everything in the document.
fn operations(document: &Value) -> Vec<(&str, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item)| -> Vec<(&str, String, &Value)> {
        let item: &Value = item;
        let methods = item.as_object().unwrap().iter();
        methods
            .map(|(method, operation)| (str::as_ref(path), method.to_uppercase(), operation))
            .collect()
    };
    paths.iter().flat_map(|(path, item)| of_path((path.as_str(), item))).collect()
}

fn check_is_a_document(document: &Value) {
    serde_json::from_value::<OpenAPI>(document.clone()).unwrap();
    check_references(document, document);
    let mut ids = BTreeSet::new();
    let mut shapes = BTreeSet::new();
    for path in document["paths"].as_object().unwrap().keys() {
        let shape: Vec<&str> = path
            .split('/')
            .map(|part| if part.starts_with('{') { "{}" } else { part })
            .collect();
        assert!(shapes.insert(shape.join("/")), "{path} is the same as another");
    }
    for (path, method, operation) in operations(document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} stands twice");
        let parameters: Vec<&Value> = operation["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| followed(document, p))
            .collect();
        let named = |place: &str| -> Vec<&str> {
            parameters
                .iter()
                .filter(|p| p["in"] == place)
                .map(|p| p["name"].as_str().unwrap())
                .collect()
        };
        let of_path: Vec<&str> = path.split('{').skip(1).map(|rest| rest.split_once('}').unwrap().0).collect();
        assert_eq!(named("path"), of_path, "{method} {path}");
        let distinct: BTreeSet<(&str, &str)> = parameters
            .iter()
            .map(|p| (p["in"].as_str().unwrap(), p["name"].as_str().unwrap()))
            .collect();
        assert_eq!(distinct.len(), parameters.len(), "{method} {path}: a parameter stands twice");
        assert!(operation["responses"]["default"].is_object(), "{method} {path}");
    }
}

#[test]
fn the_document_is_an_openapi_document_in_whole_and_of_each_type() {
    let whole = document("");
    check_is_a_document(&whole);
    let types = whole["components"]["parameters"]["of_type"]["schema"]["enum"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(types.len(), 146);
    for name in &types {
        check_is_a_document(&document(&format!("?type={}", name.as_str().unwrap())));
    }
}

/// The path with something in each place.
fn filled(path: &str) -> String {
    let path = path
        .replace("{type}", "Basic")
        .replace("{compartment}", "Patient")
        .replace("{id}", "none")
        .replace("{version}", "1")
        .replace("{wii}", "none")
        .replace("{identifier}", "none%5Enone")
        .replace("{code}", "999");
    assert!(!path.contains('{'), "{path} has a place that is not known to this test");
    path
}

fn walk(document: &Value) {
    let server = shared();
    let all = operations(document);
    for path in document["paths"].as_object().unwrap().keys() {
        let documented: BTreeSet<&str> = all.iter().filter(|(p, _, _)| p == path).map(|(_, m, _)| m.as_str()).collect();
        for method in METHODS {
            let answer = server.request(method, &filled(path)).send();
            assert!(
                !answer.text().contains("There is nothing at this address"),
                "{method} {path}: there is nothing"
            );
            assert!(answer.status < 500, "{method} {path}: {}", answer.status);
            assert_eq!(
                answer.status != 405,
                documented.contains(method),
                "{method} {path}: {} {}",
                answer.status,
                answer.text()
            );
            if let Some(allow) = answer.header("allow") {
                let allowed: BTreeSet<&str> = allow.split(", ").filter(|m| METHODS.contains(m)).collect();
                assert_eq!(allowed, documented, "{path}");
            }
        }
    }
}

#[test]
fn every_documented_method_of_every_address_is_answered_and_no_other_is() {
    walk(&document(""));
    walk(&document("?type=Patient"));
    walk(&document("?type=Composition"));
}

#[test]
fn the_document_has_the_interactions_and_operations_of_the_capability_statement() {
    let document = document("");
    let all = operations(&document);
    let statement = shared().get("/metadata").expect(200).json();
    let rest = &statement["rest"][0];
    let types = rest["resource"].as_array().unwrap();
    let of = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["code"].as_str().unwrap().to_owned())
            .collect()
    };
    for code in of(&types[0]["interaction"]).into_iter().chain(of(&rest["interaction"])) {
        let id = if code == "batch" { "transaction" } else { &code };
        assert!(all.iter().any(|(_, _, o)| o["operationId"] == id), "{code}");
    }
    let ends = |path: &&str, name: &str| path.rsplit_once("/$").is_some_and(|(_, last)| last == name);
    for resource in types {
        for operation in resource["operation"].as_array().unwrap() {
            let (type_name, name) = (resource["type"].as_str().unwrap(), operation["name"].as_str().unwrap());
            let places: Vec<&str> = all.iter().map(|(path, _, _)| *path).filter(|path| ends(path, name)).collect();
            let is_here = |path: &&str| path.starts_with("/fhir/{type}/") || path.starts_with(&format!("/fhir/{type_name}/"));
            assert!(places.iter().any(is_here), "{type_name} ${name}: {places:?}");
        }
    }
}

/// A value of the right form for what the document says of a parameter.
fn value_of(name: &str, description: &str) -> &'static str {
    match (name, description.split(',').next().unwrap()) {
        ("near", _) => "45.4|9.2|10|km",
        (_, "number" | "quantity") => "1",
        (_, "date") => "2024",
        (_, "string" | "token") => "xyz",
        (_, "reference") => "Patient/x",
        (_, "uri") => "urn:x",
        (_, "composite") => "",
        ("_sort", _) => "_id",
        ("_count", _) => "1",
        ("_total" | "_summary", _) => {
            if name == "_total" {
                "none"
            } else {
                "count"
            }
        }
        ("_elements", _) => "id",
        ("_include" | "_revinclude" | "_include:iterate" | "_revinclude:iterate", _) => "*",
        ("_format", _) => "json",
        ("_pretty", _) => "true",
        ("_asOf", _) => "2020-01-01",
        ("_explain", _) => "false",
        ("_contained", _) => "both",
        ("_containedType", _) => "contained&_contained=true",
        ("_filter", _) => "_id eq x",
        ("_list", _) => "none",
        ("_type", _) => "Basic",
        other => panic!("{other:?} is not known to this test"),
    }
}

#[test]
fn every_documented_search_parameter_of_a_type_is_accepted() {
    let server = shared();
    let mut wrong = Vec::new();
    for type_name in TYPES {
        let document = document(&format!("?type={type_name}"));
        let search = &document["paths"][format!("/fhir/{type_name}")]["get"]["parameters"];
        let mut tried = 0;
        for parameter in search.as_array().unwrap().iter().map(|p| followed(&document, p)) {
            let name = parameter["name"].as_str().unwrap();
            if parameter["in"] != "query" || matches!(name, "[parameter]" | "_cursor") {
                continue;
            }
            tried += 1;
            let value = value_of(name, parameter["description"].as_str().unwrap_or_default());
            let answer = server.get(&format!("/{type_name}?{name}={value}"));
            // The parts of a composite have types of their own: any answer but that it is not known tells that it is there.
            let is_right = match value {
                "" => !answer.text().contains("no search parameter"),
                _ => answer.status == 200,
            };
            if !is_right {
                wrong.push(format!("{type_name}?{name}={value}: {} {}", answer.status, answer.text()));
            }
        }
        assert!(tried > 20, "{type_name} has {tried} parameters");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_document_of_what_is_no_type_is_refused() {
    let get = |query: &str| shared().request("GET", &format!("/openapi.json?{query}")).send();
    get("type=Paziente").refused(404);
    get("type=Element").refused(404);
    get("tipo=Patient").refused(400);
    get("type=Patient&type=Basic").refused(400);
}

#[test]
fn the_document_names_the_address_that_it_was_asked_at_and_nothing_internal() {
    let server = shared();
    let document = document("");
    assert_eq!(document["servers"], json!([{"url": server.base().trim_end_matches("/fhir")}]));
    let text = document.to_string();
    for internal in ["postgres", "redis", "src/", "eds::", "metrics", "/tmp", "sqlx"] {
        assert!(!text.to_lowercase().contains(internal), "{internal}");
    }
}
