//! `GET /openapi.json`: the OpenAPI document, made from the table of routes, that of operations, and the registry of search parameters. Without
//! parameters it has every address, with `{type}` where any type may stand; `?type=Patient` has what there is of one type, with all its search parameters.
//! Spec: <https://spec.openapis.org/oas/v3.0.3>.

use crate::fhir::definitions::model::Compartment;
use crate::http::Gateway;
use crate::http::codec::base;
use crate::http::codec::failure;
use crate::http::methods::Method;
use crate::http::routes;
use crate::http::told::Gives;
use crate::http::told::HEADERS;
use crate::http::told::Query;
use crate::http::told::Takes;
use crate::interaction::Service;
use crate::interaction::capability::SEARCH_PARAMETERS;
use crate::interaction::capability::is_searched;
use crate::interaction::operation::OPERATIONS;
use crate::interaction::operation::Operation;
use crate::interaction::pairs;
use crate::outcome::Outcome;
use crate::search::parameters::Parameter;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use crate::search::parse::RESULT_PARAMETERS;
use crate::search::value::modifiers;
use crate::search::value::shown;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// What parameters of the URL say that are no search parameters.
const PARAMETERS: &[(&str, &str)] = &[
    ("_sort", "Search parameters, with - before those of descending order"),
    (
        "_count",
        "Entries of a page; of a conditional delete, the matches that may be deleted",
    ),
    ("_total", "none, estimate or accurate"),
    ("_summary", "true, text, data, count or false"),
    ("_elements", "Names of elements, with commas: the others are left out"),
    (
        "_include",
        "[type]:[reference parameter], with :[target type]; [type]:* or *: what the matches refer to",
    ),
    ("_revinclude", "As _include: what refers to the matches"),
    ("_include:iterate", "As _include, of what has been included too"),
    ("_revinclude:iterate", "As _revinclude, of what has been included too"),
    ("_cursor", "Where a page begins: it stands in the links of the page before"),
    ("_format", "json or xml, or a media type: instead of Accept"),
    ("_pretty", "true: with line breaks"),
    ("_contained", "true or both: also among contained resources; false"),
    (
        "_containedType",
        "container (what contains a match) or contained (the match itself)",
    ),
    ("_asOf", "An instant or a date: what was there then"),
    (
        "_explain",
        "true: the statements and their plans instead of the matches, where that is granted",
    ),
    ("_since", "An instant: versions made then or later"),
    ("_at", "A date or time: versions that were current within it"),
    ("_cascade", "delete: what refers to it is deleted too"),
    ("type", "A resource type"),
];
/// In every answer of FHIR.
const FORM: [&str; 2] = ["_format", "_pretty"];

/// `GET /openapi.json`. Errors: 400 for parameters that it does not have; 404 for what is no type.
pub async fn openapi(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    let run = async { document_for(&gateway, &request) };
    match gateway.admitted(run).await {
        Ok(document) => HttpResponse::Ok().json(document),
        Err(outcome) => failure(&outcome),
    }
}

fn document_for(gateway: &Gateway, request: &HttpRequest) -> Result<Value, Outcome> {
    let mut type_name = None;
    for (name, value) in pairs(request.query_string()) {
        if name != "type" || type_name.is_some() {
            let text = format!("The document has no parameter {} here: it has type, once", shown(&name));
            return Err(Outcome::not_supported(text));
        }
        gateway.service.type_number(&value)?;
        type_name = Some(value);
    }
    let base = base(gateway, request);
    let server = base.strip_suffix("/fhir").unwrap_or(&base);
    let registry = gateway.service.store.registry();
    let writer = Writer {
        service: &gateway.service,
        registry: &registry,
        of: type_name.as_deref().and_then(|name| registry.of(name)),
    };
    Ok(writer.document(server))
}

struct Writer<'a> {
    service: &'a Service,
    registry: &'a Registry,
    /// The type that the document is about; `None`: all.
    of: Option<&'a TypeParameters>,
}

impl Writer<'_> {
    fn document(&self, server: &str) -> Value {
        let mut paths = Map::new();
        for (prefix, tag, addresses) in [
            ("/fhir", "FHIR", routes::fhir()),
            ("/v1", "EDS", routes::eds()),
            ("", "Server", routes::others()),
        ] {
            // The base with a final slash is the base.
            for address in addresses.into_iter().filter(|address| address.path != "/") {
                let Some(path) = self.place(&format!("{prefix}{}", address.path)) else {
                    continue;
                };
                let operations = address
                    .methods
                    .iter()
                    .map(|m| (m.name().to_lowercase(), self.method(&path, tag, m)));
                paths.insert(path.clone(), Value::Object(operations.collect()));
            }
        }
        for operation in OPERATIONS.iter().filter(|o| o.is_allowed(self.service)) {
            for place in operation.places() {
                let place = format!("/fhir{}", place.replace("[type]", "{type}").replace("[id]", "{id}"));
                if let Some(path) = self.place(&place) {
                    paths.insert(path.clone(), self.operation(&path, operation));
                }
            }
        }
        let about = self.of.map_or_else(
            || "GET /openapi.json?type=[type] has all search parameters of a type.".to_owned(),
            |of| format!("What there is of {}; GET /openapi.json has the rest.", of.name),
        );
        json!({
            "openapi": "3.0.3",
            "info": {
                "title": "eds: data repository of the Ecosistema Dati Sanitari, HL7 FHIR R4",
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "EUPL-1.2"},
                "description": format!("{about} GET /fhir/metadata says the same in FHIR's words."),
            },
            "servers": [{"url": server}],
            "paths": paths,
            "components": self.components(),
        })
    }

    /// The address in this document; `None` if it is not of its type.
    fn place(&self, path: &str) -> Option<String> {
        let Some(of) = self.of else { return Some(path.to_owned()) };
        if path.contains("{compartment}") && self.compartments().is_empty() {
            return None;
        }
        let is_of_type = path.contains("{type}") || path.starts_with(&format!("/fhir/{}/", of.name));
        is_of_type.then(|| path.replace("{type}", &of.name))
    }

    /// The compartments that the type can be in.
    fn compartments(&self) -> Vec<&str> {
        let has = |c: &&Compartment| {
            let is_member = |of: &TypeParameters| c.members.iter().any(|(name, codes)| *name == of.name && !codes.is_empty());
            self.of.is_none_or(is_member)
        };
        let all = self.registry.definitions.model().compartments.iter();
        all.filter(has).map(|c| c.code.as_str()).collect()
    }

    fn method(&self, path: &str, tag: &str, method: &Method) -> Value {
        let told = method.told;
        let mut parameters = of_path(path);
        // A form has its search parameters in the body.
        parameters.extend(self.query(if told.takes == Takes::Form { Query::None } else { told.query }));
        if path != "/fhir" {
            parameters.retain(|parameter| *parameter != of_query("_type"));
        }
        if tag == "FHIR" {
            parameters.extend(FORM.map(of_query));
        }
        parameters.extend(told.headers.iter().map(|name| reference("parameters", name)));
        let mut responses = Map::new();
        for (status, gives) in told.gives {
            responses.insert(status.to_string(), self.gives(*gives));
        }
        let refusal = if tag == "EDS" || path == "/status" {
            "Problem"
        } else {
            "OperationOutcome"
        };
        responses.insert("default".to_owned(), reference("responses", refusal));
        let mut operation = json!({
            "operationId": told.id,
            "summary": told.summary,
            "tags": [tag],
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = self.takes(told.takes) {
            operation["requestBody"] = body;
        }
        operation
    }

    fn operation(&self, path: &str, operation: &Operation) -> Value {
        let described = |method: &str| {
            let mut parameters = of_path(path);
            for name in operation.parameters.unwrap_or_default() {
                // What is a resource or a part of one stands in a body alone.
                parameters.push(json!({"name": name, "in": "query", "schema": {"type": "string"}}));
            }
            if operation.parameters.is_none() {
                parameters.extend(self.query(Query::Criteria(&[])).into_iter().filter(|p| *p != of_query("_type")));
            }
            parameters.extend(FORM.map(of_query));
            let mut seen = Vec::new();
            parameters.retain(|parameter| {
                let is_new = !seen.contains(parameter);
                seen.push(parameter.clone());
                is_new
            });
            json!({
                "operationId": format!("{method}-{}", path.trim_start_matches("/fhir/").replace(['{', '}', '$'], "").replace('/', "-")),
                "summary": format!("${}: {}", operation.name, operation.definition),
                "tags": ["Operations"],
                "parameters": parameters,
                "responses": {"200": self.gives(Gives::Of("Resource")), "default": reference("responses", "OperationOutcome")},
            })
        };
        let mut methods = Map::new();
        if !operation.affects_state && !operation.needs_body {
            methods.insert("get".to_owned(), described("get"));
        }
        let mut post = described("post");
        let asked = if operation.needs_body { "Resource" } else { "Parameters" };
        post["requestBody"] = json!({"required": operation.needs_body, "content": fhir_content(asked)});
        methods.insert("post".to_owned(), post);
        Value::Object(methods)
    }

    fn query(&self, query: Query) -> Vec<Value> {
        match query {
            Query::None => Vec::new(),
            Query::Only(names) => names.iter().copied().map(of_query).collect(),
            Query::Criteria(names) => self
                .search_parameters()
                .into_iter()
                .chain(names.iter().copied().map(of_query))
                .collect(),
            Query::Search => {
                let results = RESULT_PARAMETERS.iter().copied().filter(|name| !FORM.contains(name));
                self.search_parameters().into_iter().chain(results.map(of_query)).collect()
            }
        }
    }

    /// Those that the type can be searched by.
    fn of_type(&self) -> impl Iterator<Item = &Parameter> {
        self.of
            .into_iter()
            .flat_map(move |of| of.parameters.iter().filter(move |p| is_searched(of, p)))
    }

    /// Those of the type, and the rest: chains, `_has`, modifiers, and without a type all.
    fn search_parameters(&self) -> Vec<Value> {
        let mut found: Vec<Value> = self.of_type().map(search_parameter).collect();
        found.extend(SEARCH_PARAMETERS.iter().map(|(name, _, _)| reference("parameters", name)));
        found.push(reference("parameters", "criteria"));
        found
    }

    fn takes(&self, takes: Takes) -> Option<Value> {
        let content = match takes {
            Takes::Nothing => return None,
            Takes::Resource => fhir_content("Resource"),
            Takes::Bundle => fhir_content("Bundle"),
            Takes::Patch => {
                let mut content = fhir_content("Parameters");
                content["application/json-patch+json"] = json!({"schema": reference("schemas", "JsonPatch")});
                content
            }
            Takes::Form => {
                let mut properties = Map::new();
                for parameter in self.of_type() {
                    properties.insert(
                        parameter.code.clone(),
                        json!({"type": "string", "description": described(parameter)}),
                    );
                }
                for name in RESULT_PARAMETERS {
                    properties.insert((*name).to_owned(), json!({"type": "string", "description": said(name)}));
                }
                let schema = json!({"type": "object", "properties": properties, "additionalProperties": {"type": "string"}});
                json!({"application/x-www-form-urlencoded": {"schema": schema}})
            }
            Takes::Json(name) => json!({"application/json": {"schema": reference("schemas", name)}}),
        };
        Some(json!({"required": true, "content": content}))
    }

    fn gives(&self, gives: Gives) -> Value {
        match gives {
            Gives::Nothing => json!({"description": "Done"}),
            Gives::Resource => {
                let headers = json!({
                    "ETag": {"description": "The version, as W/\"1\"", "schema": {"type": "string"}},
                    "Last-Modified": {"schema": {"type": "string"}},
                });
                json!({"description": "The resource", "headers": headers, "content": fhir_content("Resource")})
            }
            Gives::Of(name) => json!({"description": name, "content": fhir_content(name)}),
            Gives::Json(name) => json!({"description": name, "content": {"application/json": {"schema": reference("schemas", name)}}}),
        }
    }

    fn components(&self) -> Value {
        let text = |description: &str| json!({"type": "string", "description": description});
        let mut parameters = Map::new();
        let mut put = |name: &str, place: &str, schema: Value, description: &str| {
            let parameter = json!({"name": name, "in": place, "required": place == "path", "description": description, "schema": schema});
            parameters.insert(key(name), parameter);
        };
        for (name, description) in PARAMETERS {
            put(name, "query", json!({"type": "string"}), description);
        }
        for (name, _, description) in SEARCH_PARAMETERS {
            put(name, "query", json!({"type": "string"}), description);
        }
        for (name, description) in HEADERS {
            put(name, "header", json!({"type": "string"}), description);
        }
        let types = self.registry.definitions.resource_types();
        let id = json!({"type": "string", "pattern": "^[A-Za-z0-9\\-.]{1,64}$"});
        put("id", "path", id, "The resource's id");
        parameters.insert(
            "of_type".to_owned(),
            json!({"name": "type", "in": "path", "required": true, "schema": {"type": "string", "enum": types}}),
        );
        let mut put = |name: &str, schema: Value, description: &str| {
            let parameter = json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema});
            parameters.insert(key(name), parameter);
        };
        put("version", json!({"type": "integer", "minimum": 1}), "The number of a version");
        put(
            "compartment",
            json!({"type": "string", "enum": self.compartments()}),
            "Whose compartment",
        );
        put("wii", json!({"type": "string", "maxLength": 256}), "The workflowInstanceId");
        put(
            "identifier",
            json!({"type": "string"}),
            "The master identifier of a document; of a citizen, the codice fiscale",
        );
        put(
            "code",
            json!({"type": "string", "pattern": "^[0-9]{3}$"}),
            "The three digits of a region",
        );
        parameters.insert(
            "criteria".to_owned(),
            json!({
                "name": "[parameter]", "in": "query", "style": "form", "explode": true,
                "description": "Any search parameter of the type by its own name, with modifiers (name:exact), chains (subject:Patient.name) and _has",
                "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            }),
        );
        let object = |description: &str| json!({"type": "object", "description": description});
        let resource = |name: &str| {
            json!({"type": "object", "required": ["resourceType"], "properties": {"resourceType": {"type": "string", "enum": [name]}},
                "externalDocs": {"url": format!("https://hl7.org/fhir/R4/{}.html", name.to_lowercase())}})
        };
        let resource_type = match self.of {
            Some(of) => json!({"type": "string", "enum": [of.name]}),
            None => json!({"type": "string", "enum": types}),
        };
        json!({
            "parameters": parameters,
            "schemas": {
                "Resource": {"type": "object", "required": ["resourceType"],
                    "properties": {"resourceType": resource_type, "id": {"type": "string"}, "meta": {"type": "object"}},
                    "externalDocs": {"url": "https://hl7.org/fhir/R4/resource.html"}},
                "Bundle": resource("Bundle"),
                "Parameters": resource("Parameters"),
                "OperationOutcome": resource("OperationOutcome"),
                "CapabilityStatement": resource("CapabilityStatement"),
                "JsonPatch": {"type": "array", "items": {"type": "object", "required": ["op", "path"],
                    "properties": {"op": {"type": "string", "enum": ["add", "remove", "replace", "move", "copy", "test"]}, "path": {"type": "string"}}},
                    "externalDocs": {"url": "https://www.rfc-editor.org/rfc/rfc6902"}},
                "Document": document_schema(),
                "Accepted": {"type": "object", "required": ["traceID", "spanID", "result"],
                    "properties": {"traceID": text("of the request"), "spanID": text("of the request"), "result": {"type": "boolean"}}},
                "WorkflowStatus": object("workflowInstanceId, type, insertionDate, status, rde"),
                "Health": {"type": "object", "properties": {"status": {"type": "string", "enum": ["UP"]}}},
                "Problem": {"type": "object", "required": ["type", "title", "detail", "status"],
                    "properties": {"traceID": text("of the request"), "spanID": text("of the request"), "type": text("the kind of error"), "title": text("the same in words"),
                        "detail": text("what is wrong, and what would be right"), "status": {"type": "integer"}, "instance": text("the kind of error")},
                    "externalDocs": {"url": "https://www.rfc-editor.org/rfc/rfc9457"}},
                "Assistance": {"type": "object", "required": ["region"], "properties": {"region": {"type": "string", "pattern": "^[0-9]{3}$"}}, "additionalProperties": false},
                "Regions": {"description": "The state of each region's stream"},
                "Retried": {"description": "What is sent once more"},
                "OpenApi": object("A document as this one"),
            },
            "responses": {
                "OperationOutcome": {"description": "Where what is wrong, and what would be right", "content": fhir_content("OperationOutcome")},
                "Problem": {"description": "What is wrong, and what would be right", "content": {"application/problem+json": {"schema": reference("schemas", "Problem")}}},
            },
        })
    }
}

/// The schema that bodies are checked against, without what OpenAPI 3.0 does not know.
fn document_schema() -> Value {
    let mut schema: Value = serde_json::from_str(include_str!("schemas/document.json")).expect("a constant schema");
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
    }
    schema
}

fn fhir_content(schema: &str) -> Value {
    let schema = json!({"schema": reference("schemas", schema)});
    json!({"application/fhir+json": schema, "application/fhir+xml": {"schema": {"type": "string"}}})
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{}", key(name))})
}

/// Keys of components have letters, digits, `.`, `-` and `_` alone.
fn key(name: &str) -> String {
    name.replace(':', ".")
}

/// The parameters of an address, in order.
fn of_path(path: &str) -> Vec<Value> {
    let names = path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name);
    // A parameter of the URL has the name `type` too.
    names
        .map(|name| reference("parameters", if name == "type" { "of_type" } else { name }))
        .collect()
}

fn of_query(name: &str) -> Value {
    reference("parameters", name)
}

fn said(name: &str) -> &'static str {
    let known = PARAMETERS.iter().find(|(known, _)| *known == name);
    known.map_or("", |(_, description)| description)
}

fn search_parameter(parameter: &Parameter) -> Value {
    json!({
        "name": parameter.code,
        "in": "query",
        "description": described(parameter),
        "schema": {"type": "string"},
    })
}

fn described(parameter: &Parameter) -> String {
    let kind = format!("{:?}", parameter.kind).to_lowercase();
    match modifiers(parameter).as_slice() {
        [] => kind,
        taken => format!("{kind}, with :{}", taken.join(", :")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_the_url_is_described() {
        let named = routes::fhir()
            .into_iter()
            .chain(routes::others())
            .flat_map(|address| address.methods);
        let of_routes = named.flat_map(|method| match method.told.query {
            Query::Only(names) | Query::Criteria(names) => names.to_vec(),
            Query::None | Query::Search => Vec::new(),
        });
        for name in of_routes.chain(RESULT_PARAMETERS.iter().copied()) {
            assert!(!said(name).is_empty(), "{name} is not in PARAMETERS");
        }
    }

    #[test]
    fn every_header_of_a_route_is_described() {
        let all = [routes::fhir(), routes::eds(), routes::others()];
        for method in all.into_iter().flatten().flat_map(|address| address.methods) {
            for header in method.told.headers {
                assert!(HEADERS.iter().any(|(name, _)| name == header), "{header}");
            }
        }
    }
}
