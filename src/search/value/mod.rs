//! One value of a search parameter: what it asks. One function for each type of parameter.
//! Spec: <https://hl7.org/fhir/R4/search.html#ptypes>.

pub mod composite;
pub mod date;
pub mod near;
pub mod number;
pub mod reference;
pub mod split;
pub mod text;
pub mod token;

use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::is_id;
use crate::fhir::identity::self_hash;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::full_text;
use crate::search::parameters::Parameter;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use crate::search::value::composite::composite;
use crate::search::value::date::date;
use crate::search::value::date::last_updated;
use crate::search::value::near::near;
use crate::search::value::number::number;
use crate::search::value::number::quantity;
use crate::search::value::reference::is_hierarchical;
use crate::search::value::reference::reference;
use crate::search::value::text::string;
use crate::search::value::text::uri;
use crate::search::value::token::has_code_systems;
use crate::search::value::token::token;
use chrono::DateTime;
use chrono::Utc;

pub struct Context<'a> {
    pub registry: &'a Registry,
    pub of: &'a TypeParameters,
    pub base_url: &'a str,
    /// What is approximately a date depends on how far it lies back.
    pub now: DateTime<Utc>,
}

/// The condition of one alternative. Errors: 400, naming the parameter and the form that a value has.
pub fn condition(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    match (parameter.code.as_str(), parameter.kind) {
        ("_id", _) => id(context, parameter, modifier, text),
        ("_text" | "_content", _) => full_text::condition(context.of.full_text, parameter, modifier, text),
        ("_lastUpdated", _) => last_updated(context, parameter, modifier, text),
        (_, SearchParameterKind::Token) => token(context, parameter, modifier, text),
        (_, SearchParameterKind::Reference) => reference(context, parameter, modifier, text),
        (_, SearchParameterKind::String) => string(parameter, modifier, text),
        (_, SearchParameterKind::Uri) => uri(parameter, modifier, text),
        (_, SearchParameterKind::Date) => date(context, parameter, modifier, text),
        (_, SearchParameterKind::Number) => number(parameter, modifier, text),
        (_, SearchParameterKind::Quantity) => quantity(parameter, modifier, text),
        (_, SearchParameterKind::Composite) => composite(context, parameter, modifier, text),
        ("near", SearchParameterKind::Special) => near(parameter, modifier, text),
        (code, SearchParameterKind::Special) => Err(Outcome::not_supported(format!("{code} is not supported"))),
    }
}

fn id(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    match modifier {
        None if is_id(text) => Ok(Condition::Ids(vec![self_hash(&context.of.name, text)])),
        None => Ok(Condition::nothing()),
        Some(modifier) => Err(bad_modifier(parameter, modifier)),
    }
}

pub fn bad_modifier(parameter: &Parameter, modifier: &str) -> Outcome {
    let taken = match modifiers(parameter) {
        taken if taken.is_empty() => "no modifiers".to_owned(),
        taken => format!(":{}", taken.join(", :")),
    };
    Outcome::not_supported(format!(
        "The modifier :{} is not supported for {}, which is a {:?} and takes {taken}",
        shown(modifier),
        parameter.code,
        parameter.kind
    ))
}

/// The modifiers that a parameter takes. <https://hl7.org/fhir/R4/search.html#modifiers>
pub fn modifiers(parameter: &Parameter) -> Vec<&'static str> {
    if parameter.code == "_id" {
        return vec!["not"];
    }
    if matches!(parameter.code.as_str(), "_lastUpdated" | "_text" | "_content") || parameter.unsupported.is_some() {
        return Vec::new();
    }
    let mut taken = match parameter.kind {
        SearchParameterKind::Composite | SearchParameterKind::Special => return Vec::new(),
        SearchParameterKind::Token => vec!["not"],
        SearchParameterKind::Reference if is_hierarchical(parameter) => vec!["identifier", "[type]", "above", "below"],
        SearchParameterKind::Reference if parameter.has_canonicals => vec!["identifier", "[type]", "below"],
        SearchParameterKind::Reference => vec!["identifier", "[type]"],
        SearchParameterKind::String => vec!["contains", "exact"],
        SearchParameterKind::Uri => vec!["above", "below"],
        SearchParameterKind::Date | SearchParameterKind::Number | SearchParameterKind::Quantity => Vec::new(),
    };
    if has_code_systems(parameter) {
        taken.extend(["in", "not-in", "above", "below"]);
    }
    if parameter.has_concepts || parameter.has_identifiers {
        taken.push("text");
    }
    if parameter.has_identifiers {
        taken.push("of-type");
    }
    taken.push("missing");
    taken
}

/// A name of the client's own making, cut short: what is echoed stays small and on one line.
pub fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}
