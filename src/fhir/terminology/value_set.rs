//! A value set as it is written: what it includes and excludes, or the expansion that it brings. Spec: <https://hl7.org/fhir/R4/valueset.html#compositions>.

use crate::fhir::json::Value;
use crate::fhir::terminology::Canonical;

#[derive(Debug, Default)]
pub struct ValueSet {
    pub url: String,
    pub version: Option<String>,
    pub include: Vec<Include>,
    pub exclude: Vec<Include>,
    /// `compose.inactive` is false.
    pub is_active_only: bool,
    /// System and code of all that its expansion holds, if it has a whole one.
    pub expansion: Option<Vec<(String, String)>>,
}

#[derive(Debug, Default)]
pub struct Include {
    pub system: Option<Canonical>,
    pub concepts: Vec<String>,
    pub filters: Vec<Filter>,
    pub value_sets: Vec<Canonical>,
}

#[derive(Debug)]
pub struct Filter {
    pub property: String,
    pub op: String,
    pub value: String,
}

impl ValueSet {
    pub fn read(resource: Value<'_>) -> ValueSet {
        let compose = resource.get("compose");
        let parts = |name: &str| -> Vec<Include> {
            let parts = compose.and_then(|compose| compose.get(name));
            parts.into_iter().flat_map(|list| list.items()).map(include).collect()
        };
        ValueSet {
            url: text(resource, "url").unwrap_or_default(),
            version: text(resource, "version"),
            include: parts("include"),
            exclude: parts("exclude"),
            is_active_only: compose.and_then(|c| c.get("inactive")).and_then(|i| i.as_bool()) == Some(false),
            expansion: resource.get("expansion").and_then(expansion),
        }
    }
}

fn text(of: Value<'_>, name: &str) -> Option<String> {
    of.get_str(name).map(|text| text.into_owned())
}

fn include(part: Value<'_>) -> Include {
    let list = |name: &str| part.get(name).into_iter().flat_map(|list| list.items());
    let filter = |filter: Value<'_>| Filter {
        property: text(filter, "property").unwrap_or_default(),
        op: text(filter, "op").unwrap_or_default(),
        value: text(filter, "value").unwrap_or_default(),
    };
    Include {
        system: part
            .get_str("system")
            .map(|system| Canonical::of_system(&system, part.get_str("version").as_deref())),
        concepts: list("concept").filter_map(|concept| text(concept, "code")).collect(),
        filters: list("filter").map(filter).collect(),
        value_sets: list("valueSet").filter_map(|url| Some(Canonical::read(&url.as_str()?))).collect(),
    }
}

/// `None` if it is a page or was cut short: what it does not show is not known.
fn expansion(expansion: Value<'_>) -> Option<Vec<(String, String)>> {
    let mut codes = Vec::new();
    let mut entries = 0;
    let mut open: Vec<Value<'_>> = vec![expansion];
    while let Some(of) = open.pop() {
        for entry in of.get("contains").into_iter().flat_map(|list| list.items()) {
            entries += 1;
            let is_group = entry.get("abstract").and_then(|a| a.as_bool()) == Some(true);
            if let (Some(system), Some(code), false) = (entry.get_str("system"), entry.get_str("code"), is_group) {
                codes.push((system.into_owned(), code.into_owned()));
            }
            open.push(entry);
        }
    }
    let number = |name: &str| expansion.get(name).and_then(|n| n.as_number()?.parse::<usize>().ok());
    let is_whole = number("offset").unwrap_or(0) == 0 && number("total").is_none_or(|total| total <= entries.max(codes.len()));
    let is_limited = expansion
        .get("extension")
        .into_iter()
        .flat_map(|list| list.items())
        .any(|extension| extension.get_str("url").is_some_and(|url| url.ends_with("valueset-toocostly")));
    (is_whole && !is_limited).then_some(codes)
}
