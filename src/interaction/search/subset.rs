//! Parts of resources: `_elements` and `_summary`. What is left out is marked: the resource is tagged SUBSETTED.
//! Spec: <https://hl7.org/fhir/R4/search.html#elements>, <https://hl7.org/fhir/R4/search.html#summary>.

use crate::fhir::json::quote_into;
use crate::interaction::Service;
use crate::interaction::parse_json;
use crate::outcome::Outcome;
use crate::search::parse::Query;
use crate::search::parse::Summary;
use std::fmt::Write;

const SUBSETTED: &str = r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}"#;

/// The query asks for whole resources.
pub fn is_whole(query: &Query) -> bool {
    query.elements.is_empty() && matches!(query.summary, Summary::False | Summary::Count)
}

/// Appends the part of the resource that the query asks for.
pub fn push(service: &Service, query: &Query, type_name: &str, json: &str, out: &mut String) -> Result<(), Outcome> {
    let document = parse_json(json.as_bytes())?;
    let mut is_first = true;
    let mut is_tagged = false;
    out.push('{');
    for (name, value) in document.root().members() {
        if !is_wanted(service, query, type_name, &name) {
            continue;
        }
        if !is_first {
            out.push(',');
        }
        is_first = false;
        quote_into(&name, out);
        out.push(':');
        match name.as_ref() {
            "meta" => {
                is_tagged = true;
                push_tagged(value, out);
            }
            _ => out.push_str(value.raw()),
        }
    }
    // A contained resource may have no `meta`.
    if !is_tagged {
        let _ = write!(out, "{}\"meta\":{{\"tag\":[{SUBSETTED}]}}", if is_first { "" } else { "," });
    }
    out.push('}');
    Ok(())
}

fn is_wanted(service: &Service, query: &Query, type_name: &str, member: &str) -> bool {
    if matches!(member, "resourceType" | "id" | "meta") {
        return true;
    }
    let definitions = service.store.registry().definitions;
    let shape = definitions.shape_of(type_name);
    let Some(element) = shape.and_then(|shape| definitions.member(shape, member)).map(|m| m.element) else {
        return false;
    };
    let is_named = |wanted: &String| {
        let wanted = wanted
            .strip_prefix(type_name)
            .and_then(|rest| rest.strip_prefix('.'))
            .unwrap_or(wanted);
        wanted == element.name || wanted == member
    };
    if !query.elements.is_empty() {
        return element.min > 0 || query.elements.iter().any(is_named);
    }
    match query.summary {
        Summary::Data => element.name != "text",
        Summary::Text => element.name == "text" || element.min > 0,
        Summary::True => element.is_summary || element.min > 0,
        Summary::False | Summary::Count => true,
    }
}

/// `meta` with the tag SUBSETTED added.
fn push_tagged(meta: crate::fhir::json::Value<'_>, out: &mut String) {
    out.push('{');
    let mut has_tags = false;
    let mut is_empty = true;
    for (name, value) in meta.members() {
        if !is_empty {
            out.push(',');
        }
        is_empty = false;
        quote_into(&name, out);
        out.push(':');
        if name == "tag" {
            has_tags = true;
            out.push('[');
            for tag in value.items() {
                out.push_str(tag.raw());
                out.push(',');
            }
            out.push_str(SUBSETTED);
            out.push(']');
        } else {
            out.push_str(value.raw());
        }
    }
    if !has_tags {
        out.push_str(if is_empty { "" } else { "," });
        out.push_str("\"tag\":[");
        out.push_str(SUBSETTED);
        out.push(']');
    }
    out.push('}');
}
