//! References. Spec: <https://hl7.org/fhir/R4/search.html#reference>.

use crate::fhir::identity::is_id;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::own_reference;
use crate::fhir::identity::reference_hash;
use crate::fhir::identity::referenced_type;
use crate::fhir::identity::self_hash;
use crate::fhir::identity::without_version;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::Parameter;
use crate::search::term::Token;
use crate::search::term::identifier_salt;
use crate::search::term::reference_term;
use crate::search::term::term;
use crate::search::value::Context;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_token;
use crate::search::value::split::unescape;

pub fn reference(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let only = match modifier {
        Some("identifier") => return identifier(parameter, text),
        Some(name) if context.registry.of(name).is_some() => {
            if !parameter.targets.is_empty() && !parameter.targets.iter().any(|target| target == name) {
                let targets = parameter.targets.join(", ");
                return Err(Outcome::invalid(format!("{} references {targets}, not {name}", parameter.code)));
            }
            Some(name)
        }
        Some(modifier) => return Err(bad_modifier(parameter, modifier)),
        // A parameter that is filtered by a type shares its terms with the path without the filter.
        None => parameter.target_filter.as_deref(),
    };
    let text = unescape(text);
    let reference = without_version(own_reference(&text, context.base_url));
    let mut targets: Vec<i64> = if let Some(local) = local_reference(reference) {
        if only.is_some_and(|only| only != local.type_name) {
            return Ok(Condition::nothing());
        }
        vec![self_hash(local.type_name, local.id)]
    } else if is_id(reference) {
        let types: Vec<&str> = match only {
            Some(only) => vec![only],
            None => parameter.targets.iter().map(String::as_str).collect(),
        };
        types.iter().map(|t| self_hash(t, reference)).collect()
    } else {
        // A URN does not tell its type.
        if only.is_some_and(|only| referenced_type(reference).is_some_and(|other| other != only)) {
            return Ok(Condition::nothing());
        }
        vec![reference_hash(reference)]
    };
    if reference.len() < without_version(&text).len() {
        // As it stands where the address of the server is not set, and hence not known to the index.
        targets.push(reference_hash(without_version(&text)));
    }
    let terms = targets
        .iter()
        .flat_map(|target| parameter.salts.iter().map(|salt| reference_term(*salt, *target)));
    Ok(Condition::Terms(terms.collect()))
}

/// `:identifier`: Reference.identifier, in the forms of a token. <https://hl7.org/fhir/R4/search.html#reference>
fn identifier(parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    let (system, value) = split_token(text);
    let token = match (&system, value.as_str()) {
        (None, "") => return Err(needs_identifier(parameter)),
        (Some(system), "") if system.is_empty() => return Err(needs_identifier(parameter)),
        (Some(system), "") => Token::IdentifierSystem(system),
        (Some(system), value) if system.is_empty() => Token::IdentifierWithoutSystem(value),
        (Some(system), value) => Token::IdentifierSystemAndValue(system, value),
        (None, value) => Token::IdentifierValue(value),
    };
    let target = parameter.target_filter.as_deref();
    let salts = parameter.salts.iter().map(|salt| identifier_salt(*salt, target));
    Ok(Condition::Terms(salts.map(|salt| term(salt, token)).collect()))
}

fn needs_identifier(parameter: &Parameter) -> Outcome {
    Outcome::invalid(format!("{}:identifier is value, system|value, |value or system|", parameter.code))
}
