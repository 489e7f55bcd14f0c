//! Composites. Spec: <https://hl7.org/fhir/R4/search.html#composite>.

use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::condition::Joint;
use crate::search::parameters::Parameter;
use crate::search::parameters::composite::Composite;
use crate::search::parameters::composite::Joined;
use crate::search::parameters::composite::Part;
use crate::search::term::Token;
use crate::search::term::joint_term;
use crate::search::term::system_hash;
use crate::search::term::term;
use crate::search::value::Context;
use crate::search::value::condition;
use crate::search::value::number::comparison;
use crate::search::value::number::quantity_condition;
use crate::search::value::split::split_token;
use crate::search::value::split::split_unescaped_keeping;

/// `value$value`, of one of the elements that the parameter names. "Modifiers are not used on composite parameters."
pub fn composite(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if modifier.is_some() {
        return Err(Outcome::invalid(format!("{} is a composite: it has no modifiers", parameter.code)));
    }
    let texts = split_unescaped_keeping(text, '$');
    let count = parameter.composites.first().map_or(0, |composite| composite.parts.len());
    if texts.len() != count || texts.iter().any(String::is_empty) {
        return Err(Outcome::invalid(format!("{} has {count} values joined by $", parameter.code)));
    }
    let alternatives: Result<Vec<Condition>, Outcome> = parameter.composites.iter().map(|c| element(context, c, &texts)).collect();
    Ok(merged(alternatives?))
}

fn element(context: &Context<'_>, composite: &Composite, texts: &[String]) -> Result<Condition, Outcome> {
    let mut conditions = Vec::new();
    let mut inner: Vec<(&Part, &str)> = Vec::new();
    for (part, text) in composite.parts.iter().zip(texts) {
        match part.is_inner && composite.joined != Joined::Apart {
            true => inner.push((part, text)),
            false => conditions.push(condition(context, &part.parameter, None, text)?),
        }
    }
    if let [(one, first), (other, second)] = inner.as_slice() {
        let (one, other) = (&one.parameter, &other.parameter);
        conditions.push(match &composite.joined {
            Joined::Quantity { salt, keys } => {
                let mut quantity = quantity_condition(other, second)?;
                quantity.keys = keys.clone();
                quantity.joint = Some(joint(context, one, *salt, first)?);
                Condition::Quantity(Box::new(quantity))
            }
            Joined::Numbers(key) => Condition::NumberPair(vec![*key], Box::new((comparison(one, first)?, comparison(other, second)?))),
            Joined::Terms | Joined::Apart => {
                let (first, second) = (terms(context, one, first)?, terms(context, other, second)?);
                Condition::Terms(first.iter().flat_map(|a| second.iter().map(|b| joint_term(*a, *b))).collect())
            }
        });
    }
    Ok(Condition::all(conditions))
}

/// The terms of a token or a reference.
fn terms(context: &Context<'_>, parameter: &Parameter, text: &str) -> Result<Vec<i64>, Outcome> {
    match condition(context, parameter, None, text)? {
        Condition::Terms(terms) => Ok(terms),
        Condition::Any(none) if none.is_empty() => Ok(Vec::new()),
        _ => Err(Outcome::not_supported(format!(
            "{}: what it asks for here has no term of its own, and cannot stand in a composite",
            parameter.code
        ))),
    }
}

fn joint(context: &Context<'_>, parameter: &Parameter, salt: i64, text: &str) -> Result<Joint, Outcome> {
    // What a token may be is told by its own reading.
    condition(context, parameter, None, text)?;
    let (system, code) = split_token(text);
    let codes = match code.is_empty() {
        true => Vec::new(),
        false => vec![term(salt, Token::Code(&code))],
    };
    Ok(Joint {
        codes,
        system: system.map(|system| system_hash(Some(system.as_str()).filter(|s| !s.is_empty()))),
    })
}

/// Quantities of several elements that differ in the place only are one look into the index.
fn merged(conditions: Vec<Condition>) -> Condition {
    let mut merged: Vec<Condition> = Vec::new();
    for condition in conditions {
        match (merged.last_mut(), condition) {
            (Some(Condition::Quantity(all)), Condition::Quantity(more)) if all.unit == more.unit && all.comparison == more.comparison => {
                all.keys.extend(more.keys);
                if let (Some(all), Some(more)) = (&mut all.joint, more.joint) {
                    all.codes.extend(more.codes);
                }
            }
            (_, condition) => merged.push(condition),
        }
    }
    Condition::any(merged)
}
