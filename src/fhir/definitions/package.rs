//! Value sets and code systems as the binary brings them: each resource's text with what expansions need. Part of `build.rs`; the server does not
//! contain it.

use serde_json::Map;
use serde_json::Value;

use crate::model::Terminology;
use crate::model::TerminologyEntry;

/// Members that are kept, at any depth: what people read (displays, definitions, designations) is left out, and so are properties that no filter asks for.
const KEPT: &[&str] = &[
    "resourceType",
    "url",
    "version",
    "content",
    "hierarchyMeaning",
    "property",
    "uri",
    "code",
    "concept",
    "compose",
    "inactive",
    "include",
    "exclude",
    "system",
    "valueSet",
    "filter",
    "op",
    "value",
    "valueCode",
    "valueBoolean",
    "valueString",
    "valueInteger",
    "valueDecimal",
    "valueCoding",
];

pub fn terminology(resources: &[Value]) -> Terminology {
    let mut entries: Vec<TerminologyEntry> = resources.iter().filter_map(entry).collect();
    entries.sort_by(|a, b| (&a.resource_type, &a.url).cmp(&(&b.resource_type, &b.url)));
    Terminology { entries }
}

fn entry(resource: &Value) -> Option<TerminologyEntry> {
    let text = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
    let resource_type = text("resourceType");
    if !matches!(resource_type.as_str(), "ValueSet" | "CodeSystem") || text("url").is_empty() {
        return None;
    }
    let mut kept = kept(resource);
    if resource_type == "CodeSystem" {
        // Names the value set of all its codes, and the filters that it has: neither is what an expansion is made of.
        let members = kept.as_object_mut()?;
        members.remove("valueSet");
        members.remove("filter");
        // Nobody may take the codes of an example for all.
        if text("content") != "complete" {
            members.remove("concept");
        }
    }
    Some(TerminologyEntry {
        resource_type,
        url: text("url"),
        version: text("version"),
        json: kept.to_string(),
    })
}

fn kept(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().filter(|item| is_wanted(item)).map(kept).collect()),
        Value::Object(members) => {
            let wanted = members.iter().filter(|(name, _)| KEPT.contains(&name.as_str()));
            let wanted: Map<String, Value> = wanted.map(|(name, value)| (name.clone(), kept(value))).collect();
            Value::Object(wanted)
        }
        other => other.clone(),
    }
}

/// A property without a value that is kept (a date of deprecation) says nothing.
fn is_wanted(item: &Value) -> bool {
    item.get("valueDateTime").is_none()
}
