//! What a SearchParameter resource says, as far as the server acts on it. <https://hl7.org/fhir/R4/searchparameter.html>

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::json::Value;
use crate::outcome::Category;
use crate::outcome::Outcome;
use serde::Deserialize;
use serde::Serialize;

/// Longest code of a parameter: it stands in URLs.
const CODE_CHARS_MAX: usize = 64;
/// Base types that stand for all of their kind.
const ABSTRACT_BASES: &[&str] = &["Resource", "DomainResource"];

/// An active SearchParameter. It is kept with the parameter's state, so it is read back by servers of later versions too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    pub url: String,
    pub code: String,
    pub kind: SearchParameterKind,
    /// As the resource names them; `Resource` and `DomainResource` stand for all.
    pub base: Vec<String>,
    pub expression: String,
    pub target: Vec<String>,
    pub multiple_or: bool,
    pub multiple_and: bool,
    /// Prefixes that it allows; empty: all.
    pub comparator: Vec<String>,
    /// Modifiers that it allows; empty: all that its type has.
    pub modifier: Vec<String>,
    /// Parameters that may be chained; empty: all.
    pub chain: Vec<String>,
}

/// 422, at an element of the SearchParameter.
pub fn refused(element: &str, text: impl Into<String>) -> Outcome {
    let outcome = Outcome::new(Category::Unprocessable, "business-rule", text);
    outcome.at(&format!("SearchParameter.{element}"))
}

impl Definition {
    /// `None` unless it is active: a draft is kept and not used. Errors: 422 at the element that cannot be acted on.
    pub fn read(definitions: &Definitions, resource: Value<'_>) -> Result<Option<Definition>, Outcome> {
        if resource.get_str("status").as_deref() != Some("active") {
            return Ok(None);
        }
        let text = |name: &str| match resource.get_str(name) {
            Some(text) if !text.is_empty() => Ok(text.into_owned()),
            _ => Err(refused(name, format!("an active SearchParameter needs {name}"))),
        };
        let list = |name: &str| -> Vec<String> {
            let items = resource.get(name).into_iter().flat_map(|list| list.items());
            items.filter_map(|item| item.as_str().map(|s| s.into_owned())).collect()
        };
        let definition = Definition {
            url: text("url")?,
            code: code(text("code")?)?,
            kind: kind(&text("type")?)?,
            base: list("base"),
            expression: text("expression")?,
            target: list("target"),
            multiple_or: resource.get("multipleOr").and_then(|v| v.as_bool()) != Some(false),
            multiple_and: resource.get("multipleAnd").and_then(|v| v.as_bool()) != Some(false),
            comparator: list("comparator"),
            modifier: list("modifier"),
            chain: list("chain"),
        };
        if definition.base.is_empty() {
            return Err(refused(
                "base",
                "an active SearchParameter needs base: the resource types that have it",
            ));
        }
        let is_base = |name: &String| definitions.is_resource(name) || ABSTRACT_BASES.contains(&name.as_str());
        if let Some(i) = definition.base.iter().position(|name| !is_base(name)) {
            return Err(refused(&format!("base[{i}]"), "this is no resource type of FHIR R4"));
        }
        if let Some(i) = definition.target.iter().position(|name| !definitions.is_resource(name)) {
            return Err(refused(&format!("target[{i}]"), "this is no resource type of FHIR R4"));
        }
        if definition.kind != SearchParameterKind::Reference && !definition.target.is_empty() {
            return Err(refused("target", "only a reference parameter has targets"));
        }
        if definition.kind != SearchParameterKind::Reference && !definition.chain.is_empty() {
            return Err(refused("chain", "only a reference parameter is chained"));
        }
        Ok(Some(definition))
    }

    /// The concrete types that have it.
    pub fn types<'d>(&self, definitions: &'d Definitions) -> Vec<&'d str> {
        let has = |name: &&String| {
            let is_domain = || definitions.type_named(name).is_some_and(|t| t.base == "DomainResource");
            self.base
                .iter()
                .any(|base| base == *name || base == "Resource" || base == "DomainResource" && is_domain())
        };
        definitions.resource_types().iter().filter(has).map(String::as_str).collect()
    }

    /// Whether it finds the same values in the same resources as another: then what is indexed stays right.
    pub fn reads_as(&self, other: &Definition) -> bool {
        self.url == other.url && self.kind == other.kind && self.base == other.base && self.expression == other.expression
    }
}

fn code(code: String) -> Result<String, Outcome> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if code.starts_with('_') {
        return Err(refused("code", "codes that begin with _ are those of the specification"));
    }
    match code.len() <= CODE_CHARS_MAX && code.chars().all(is_name) {
        true => Ok(code),
        false => Err(refused(
            "code",
            format!("a code is written in URLs: letters, digits, - and _, at most {CODE_CHARS_MAX}"),
        )),
    }
}

fn kind(name: &str) -> Result<SearchParameterKind, Outcome> {
    use SearchParameterKind as K;
    match name {
        "number" => Ok(K::Number),
        "date" => Ok(K::Date),
        "string" => Ok(K::String),
        "token" => Ok(K::Token),
        "reference" => Ok(K::Reference),
        "quantity" => Ok(K::Quantity),
        "uri" => Ok(K::Uri),
        "composite" => Err(refused(
            "type",
            "composites of one's own are not supported: search by their components",
        )),
        _ => Err(refused(
            "type",
            "this type is not supported: number, date, string, token, reference, quantity and uri are",
        )),
    }
}
