//! References. Spec: <https://hl7.org/fhir/R4/search.html#reference>.

use crate::fhir::identity::is_id;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::reference_hash;
use crate::fhir::identity::self_hash;
use crate::fhir::identity::without_version;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::Parameter;
use crate::search::term::Token;
use crate::search::term::reference_term;
use crate::search::value::Context;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_token;
use crate::search::value::split::unescape;
use crate::search::value::token::terms;

pub fn reference(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let only = match modifier {
        Some("identifier") => {
            let (system, value) = split_token(text);
            let token = match &system {
                Some(system) => Token::IdentifierSystemAndValue(system, &value),
                None => Token::IdentifierValue(&value),
            };
            return Ok(Condition::Terms(terms(parameter, std::iter::once(token))));
        }
        Some(name) if context.registry.of(name).is_some() => Some(name),
        Some(modifier) => return Err(bad_modifier(parameter, modifier)),
        None => None,
    };
    let text = unescape(text);
    let relative = text
        .strip_prefix(context.base_url)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|_| !context.base_url.is_empty());
    let reference = without_version(relative.unwrap_or(&text));
    let targets: Vec<i64> = if let Some(local) = local_reference(reference) {
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
        vec![reference_hash(reference)]
    };
    let terms = targets
        .iter()
        .flat_map(|target| parameter.salts.iter().map(|salt| reference_term(*salt, *target)));
    Ok(Condition::Terms(terms.collect()))
}
