//! The CapabilityStatement, generated from the tables that route and search: what it says is what the server does.
//! Spec: <https://hl7.org/fhir/R4/capabilitystatement.html>.

use crate::clock::instant;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::interaction::Service;
use crate::interaction::operation;
use crate::interaction::operation::Level;
use crate::search::full_text::FullText;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use crate::search::value::modifiers;
use arc_swap::ArcSwapOption;
use chrono::DateTime;
use chrono::Utc;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// What may be done with a resource of any type; the routes of `http` are these.
pub const TYPE_INTERACTIONS: &[&str] = &[
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
];
pub const SYSTEM_INTERACTIONS: &[&str] = &["transaction", "batch", "history-system", "search-system"];

/// What a client might look for and does not find; told in the statement.
const NOT_SUPPORTED: &[&str] = &[
    "_content unless the setting search.full_text is \"content\"",
    "functional lists ($current-...)",
];
/// Search parameters that are no element of a resource: they stand in every search.
pub const SEARCH_PARAMETERS: &[(&str, &str, &str)] = &[
    (
        "_filter",
        "special",
        "An expression, see <https://hl7.org/fhir/R4/search_filter.html>",
    ),
    ("_list", "special", "What a stored List names"),
    (
        "_type",
        "special",
        "The types of a search on the system, or on all (*) of a compartment",
    ),
];

/// The statement, made when it is first asked for, and anew when parameters of one's own come or go.
#[derive(Default)]
pub struct Capability {
    made: ArcSwapOption<(i64, String)>,
}

impl Capability {
    /// As JSON text, with `{base}` where the address of FHIR belongs.
    pub fn now(&self, service: &Service) -> String {
        let generation = service.store.registry().generation();
        if let Some(made) = self.made.load().as_deref().filter(|made| made.0 == generation) {
            return made.1.clone();
        }
        let (generation, text) = made(service);
        self.made.store(Some(Arc::new((generation, text.clone()))));
        text
    }
}

fn made(service: &Service) -> (i64, String) {
    let generation = service.store.registry().generation();
    (generation, statement(service, service.store.clock.now()))
}

/// The statement as JSON text, with `{base}` where the address of FHIR belongs. That it is one to others too is tested with the types of an
/// independent library.
fn statement(service: &Service, started: DateTime<Utc>) -> String {
    let registry = &service.store.registry();
    let names = registry.definitions.resource_types();
    let resources: Vec<Value> = names
        .iter()
        .filter_map(|name| registry.of(name))
        .map(|of| resource(service, of))
        .collect();
    let interactions = |codes: &[&str]| codes.iter().map(|code| json!({"code": code})).collect::<Vec<_>>();
    let statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(started),
        "kind": "instance",
        "software": {"name": "eds", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": "Data repository of the Ecosistema Dati Sanitari", "url": "{base}"},
        "fhirVersion": "4.0.1",
        "format": ["json", "application/fhir+json", "xml", "application/fhir+xml"],
        "patchFormat": ["application/json-patch+json", "application/fhir+json", "application/fhir+xml"],
        "rest": [{
            "mode": "server",
            "documentation": documentation(service),
            "security": {"description": "This release does not verify tokens: it serves in development mode, on a loopback address only"},
            "resource": resources,
            "searchParam": SEARCH_PARAMETERS.iter().map(|(name, kind, text)| json!({"name": name, "type": kind, "documentation": text})).collect::<Vec<_>>(),
            "interaction": interactions(SYSTEM_INTERACTIONS),
            "operation": operations(service, &[Level::System], None),
            "compartment": compartments(service),
        }],
    });
    statement.to_string()
}

fn documentation(service: &Service) -> String {
    let named = service.limits.named_queries.iter().map(|query| {
        let parameters = query.parameters().join(", ");
        format!(" {} on {} ({parameters})", query.name, query.type_name)
    });
    let named: Vec<String> = named.collect();
    format!(
        "Unknown search parameters are refused (Prefer: handling=lenient reports them instead). PATCH takes JSON Patch and FHIRPath Patch, also with \
            criteria. Writes take X-Provenance, deletes X-Cascade: delete and, with criteria, _count. Histories take _since, _at and _sort. Not supported yet: {}. Named queries (_query):{}. \
            _sort also takes _score, with _text or _content, and near, where it is searched by. \
            Extensions: _asOf=[instant or date] on a read or a search answers as of then; _explain=true on a search answers its statements \
            and plans, where that is granted. /openapi.json, beside /fhir, says all this as an OpenAPI document.",
        NOT_SUPPORTED.join(", "),
        if named.is_empty() { " none".to_owned() } else { named.join(",") }
    )
}

fn resource(service: &Service, of: &TypeParameters) -> Value {
    let supported: Vec<&str> = service
        .validator
        .profiles()
        .filter(|(_, name, _)| *name == of.name)
        .map(|(url, _, _)| url)
        .collect();
    let parameters: Vec<Value> = of.parameters.iter().filter(|p| is_searched(of, p)).map(parameter).collect();
    let references = |p: &&Parameter| p.kind == SearchParameterKind::Reference && p.is_searchable();
    let includes: Vec<String> = of
        .parameters
        .iter()
        .filter(references)
        .map(|p| format!("{}:{}", of.name, p.code))
        .collect();
    let mut resource = json!({
        "type": of.name,
        "interaction": TYPE_INTERACTIONS.iter().map(|code| json!({"code": code})).collect::<Vec<_>>(),
        "versioning": "versioned-update",
        "readHistory": true,
        "updateCreate": true,
        "conditionalCreate": true,
        "conditionalRead": "full-support",
        "conditionalUpdate": true,
        "conditionalDelete": if service.delete_rules.is_multiple { "multiple" } else { "single" },
        "referencePolicy": reference_policy(service),
        "searchParam": parameters,
        "operation": operations(service, &[Level::Type, Level::Instance], Some(&of.name)),
    });
    if !supported.is_empty() {
        resource["supportedProfile"] = json!(supported);
    }
    if !includes.is_empty() {
        resource["searchInclude"] = json!(includes);
    }
    let reverse = reverse_includes(service, &of.name);
    if !reverse.is_empty() {
        resource["searchRevInclude"] = json!(reverse);
    }
    resource
}

/// Enforced, where what is referred to must be here, and stays.
fn reference_policy(service: &Service) -> Vec<&'static str> {
    let mut policy = vec!["literal", "logical", "local"];
    if service.store.checks_targets && service.delete_rules.refuses_referrers {
        policy.push("enforced");
    }
    policy
}

fn operations(service: &Service, levels: &[Level], type_name: Option<&str>) -> Vec<Value> {
    let found = operation::of_level(service, levels, type_name);
    found
        .into_iter()
        .map(|o| json!({"name": o.name, "definition": o.definition}))
        .collect()
}

/// Parameters of the text are there if their text is indexed.
pub fn is_searched(of: &TypeParameters, parameter: &Parameter) -> bool {
    let needed = match parameter.code.as_str() {
        "_text" => FullText::Narrative,
        "_content" => FullText::Content,
        _ => FullText::Off,
    };
    parameter.is_searchable() && of.full_text >= needed
}

fn reverse_includes(service: &Service, target: &str) -> Vec<String> {
    let registry = &service.store.registry();
    let mut found = Vec::new();
    for name in registry.definitions.resource_types() {
        let Some(of) = registry.of(name) else { continue };
        let links = of
            .parameters
            .iter()
            .filter(|p| p.kind == SearchParameterKind::Reference && p.is_searchable() && p.targets.iter().any(|t| t == target));
        found.extend(links.map(|p| format!("{name}:{}", p.code)));
    }
    found
}

fn parameter(parameter: &Parameter) -> Value {
    let kind = format!("{:?}", parameter.kind).to_lowercase();
    let modifiers = modifiers(parameter);
    if modifiers.is_empty() {
        return json!({"name": parameter.code, "type": kind, "definition": parameter.url});
    }
    let documentation = format!("Modifiers: :{}", modifiers.join(", :"));
    json!({"name": parameter.code, "type": kind, "definition": parameter.url, "documentation": documentation})
}

fn compartments(service: &Service) -> Vec<String> {
    let codes = service.store.registry().definitions.model().compartments.iter();
    codes
        .map(|c| format!("http://hl7.org/fhir/CompartmentDefinition/{}", c.code.to_lowercase()))
        .collect()
}
