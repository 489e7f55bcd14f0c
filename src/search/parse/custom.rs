//! What parameters of one's own allow: nothing until they are complete, and then what their SearchParameter says.
//! <https://hl7.org/fhir/R4/searchparameter-definitions.html#SearchParameter.multipleOr>

use crate::fhir::definitions::model::SearchParameterKind;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::search::condition::Prefix;
use crate::search::contained::Asked;
use crate::search::contained::CONTAINED;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use crate::search::parse::AS_OF;
use crate::search::value::bad_modifier;
use crate::search::value::shown;
use crate::search::value::split::split_prefix;

/// The code of a search that could only find a part.
const INCOMPLETE: &str = "incomplete";

/// Errors: 400 while what was there before is not yet indexed, and for a search as of an instant, since superseded versions are not; also under lenient
/// handling: a part of what there is would be found.
pub fn check_complete(parameter: &Parameter, is_past: bool) -> Result<(), Outcome> {
    match &parameter.custom {
        Some(_) if is_past => {
            let text = format!(
                "{} cannot be searched by as of an instant: superseded versions are not indexed by parameters of one's own; leave it or {AS_OF} out",
                parameter.code
            );
            Err(Outcome::new(Category::Invalid, INCOMPLETE, text))
        }
        Some(reading) if !reading.custom.is_complete => {
            let text = format!(
                "{} cannot be searched by yet: {} % of what was here before it is indexed; GET SearchParameter/{}/$status tells how it goes on",
                parameter.code,
                reading.custom.percent(),
                reading.custom.id
            );
            Err(Outcome::new(Category::Invalid, INCOMPLETE, text))
        }
        _ => Ok(()),
    }
}

/// Errors: 400 for a search among contained resources, which are indexed by the standard parameters alone; also under lenient handling.
pub fn check_contained(parameter: &Parameter, asked: Asked) -> Result<(), Outcome> {
    if parameter.custom.is_none() || !asked.is_contained() {
        return Ok(());
    }
    let text = format!(
        "{} does not go with {CONTAINED}: contained resources are not indexed by parameters of one's own; leave one of both out",
        parameter.code
    );
    Err(Outcome::new(Category::Invalid, INCOMPLETE, text))
}

/// Whether a search was refused by [`check_complete`] or [`check_contained`].
pub fn is_incomplete(outcome: &Outcome) -> bool {
    outcome.issues.iter().any(|issue| issue.code == INCOMPLETE)
}

/// Errors: 400 for a modifier that the SearchParameter does not list, if it lists any.
pub fn check_modifier(parameter: &Parameter, modifier: Option<&str>) -> Result<(), Outcome> {
    let (Some(reading), Some(modifier)) = (&parameter.custom, modifier) else {
        return Ok(());
    };
    let allowed = &reading.custom.definition.modifier;
    let is_type = modifier.starts_with(|c: char| c.is_ascii_uppercase());
    match allowed.is_empty() || allowed.iter().any(|m| m == modifier || is_type && m == "type") {
        true => Ok(()),
        false => Err(bad_modifier(parameter, modifier)),
    }
}

/// Errors: 400 for several values, or a prefix, that the SearchParameter does not allow.
pub fn check_values(parameter: &Parameter, values: &[String]) -> Result<(), Outcome> {
    use SearchParameterKind as K;
    let Some(reading) = &parameter.custom else { return Ok(()) };
    let definition = &reading.custom.definition;
    if !definition.multiple_or && values.len() > 1 {
        return Err(not_allowed(parameter, "several values joined by a comma (multipleOr)"));
    }
    if definition.comparator.is_empty() || !matches!(definition.kind, K::Date | K::Number | K::Quantity) {
        return Ok(());
    }
    // Without a prefix values are compared as with eq, which is always allowed.
    let is_allowed = |value: &String| {
        let (prefix, _) = split_prefix(value);
        prefix == Prefix::Eq || definition.comparator.iter().any(|c| value.starts_with(c.as_str()))
    };
    match values.iter().all(is_allowed) {
        true => Ok(()),
        false => Err(not_allowed(parameter, "other comparators than it lists (comparator)")),
    }
}

/// Errors: 400 for a parameter that stands more than once though the SearchParameter does not allow it.
pub fn check_repeated(of: &TypeParameters, pairs: &[(String, String)]) -> Result<(), Outcome> {
    for reading in of.readings.iter().filter(|r| !r.custom.definition.multiple_and) {
        let code = &reading.custom.definition.code;
        let is_it = |name: &str| name.split([':', '.']).next() == Some(code.as_str());
        if pairs.iter().filter(|(name, _)| is_it(name)).count() > 1
            && let Some(parameter) = of.get(code)
        {
            return Err(not_allowed(parameter, "to stand more than once (multipleAnd)"));
        }
    }
    Ok(())
}

/// Errors: 400 for a chained parameter that the SearchParameter does not list, if it lists any.
pub fn check_chain(parameter: &Parameter, rest: &str) -> Result<(), Outcome> {
    let Some(reading) = &parameter.custom else { return Ok(()) };
    let allowed = &reading.custom.definition.chain;
    let chained = rest.split([':', '.']).next().unwrap_or(rest);
    match allowed.is_empty() || allowed.iter().any(|c| c == chained) {
        true => Ok(()),
        false => Err(not_allowed(parameter, &format!("a chain to {} (chain)", shown(chained)))),
    }
}

fn not_allowed(parameter: &Parameter, what: &str) -> Outcome {
    Outcome::not_supported(format!("The SearchParameter {} does not allow {what}", parameter.code))
}
