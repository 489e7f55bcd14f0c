//! Tokens: `code`, `system|code`, `|code`, `system|`, and what their modifiers ask. Spec: <https://hl7.org/fhir/R4/search.html#token>.

use crate::fhir::terminology::expand::Asked;
use crate::outcome::Outcome;
use crate::search::condition::CodesOf;
use crate::search::condition::Condition;
use crate::search::condition::Lookup;
use crate::search::parameters::Parameter;
use crate::search::term::Token;
use crate::search::term::term;
use crate::search::value::Context;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_token;
use crate::search::value::split::split_unescaped;
use crate::search::value::split::unescape;
use crate::search::value::text::normal;

pub fn token(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    match modifier {
        Some("in") => in_value_set(context, parameter, text),
        Some(modifier @ ("above" | "below")) => related(parameter, modifier, text),
        None => code(context, parameter, text),
        Some("text") => token_text(parameter, text),
        Some("of-type") => of_type(parameter, text),
        Some(modifier) => Err(bad_modifier(parameter, modifier)),
    }
}

/// `code`, `system|code`, `|code`, `system|`.
fn code(context: &Context<'_>, parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    let (system, code) = system_and_code(parameter, text)?;
    let form = match (&system, code.as_str()) {
        (Some(system), "") if system.is_empty() => return Err(Outcome::invalid(format!("{} needs a code or a system", parameter.code))),
        (Some(system), "") => Token::System(system),
        (Some(system), code) if system.is_empty() => Token::CodeWithoutSystem(code),
        (Some(system), code) => Token::SystemAndCode(system, code),
        (None, code) => Token::Code(code),
    };
    // A plain code has the system that its definition implies, or none.
    let is_implied = |system: &String| system.is_empty() || parameter.implied_systems.contains(system);
    let is_plain = parameter.has_plain_codes && !code.is_empty() && system.as_ref().is_none_or(is_implied);
    // "If the underlying datatype is string then the search is not case sensitive": a string has no system.
    let lower = code.to_lowercase();
    let is_without_case = parameter.has_codes_without_case && !code.is_empty() && system.as_ref().is_none_or(String::is_empty);
    let forms = [
        parameter.has_codings.then_some(form),
        is_plain.then_some(Token::Plain(&code)),
        is_without_case.then_some(Token::WithoutCase(&lower)),
    ];
    let forms = forms.into_iter().flatten();
    let terms = Condition::Terms(terms(parameter, forms));
    match &system {
        Some(system) if code.is_empty() && parameter.has_plain_codes => {
            Ok(Condition::any(vec![terms, all_of_system(context, parameter, system)?]))
        }
        _ => Ok(terms),
    }
}

/// `system|` where codes are plain: their system is that of the definition, so all have it or none has.
fn all_of_system(context: &Context<'_>, parameter: &Parameter, system: &String) -> Result<Condition, Outcome> {
    let systems = &parameter.implied_systems;
    if !systems.contains(system) {
        return Ok(Condition::nothing());
    }
    if parameter.has_codings || systems.iter().any(|other| other != system) {
        return Err(Outcome::not_supported(format!(
            "{} reads codes of several systems, which do not say theirs: search by system|code",
            parameter.code
        )));
    }
    Ok(Condition::negated(Condition::Missing(context.of.number, 1i64 << parameter.bit)))
}

fn system_and_code(parameter: &Parameter, text: &str) -> Result<(Option<String>, String), Outcome> {
    let mut parts = split_unescaped(text, '|');
    match parts.len() {
        1 => Ok((None, parts.remove(0))),
        2 => Ok((Some(parts.remove(0)), parts.remove(0))),
        _ => Err(Outcome::invalid(format!(
            "{} is code, system|code, |code or system|; a | that is part of a value is written \\|",
            parameter.code
        ))),
    }
}

/// `:text`: a string search on CodeableConcept.text, Coding.display and Identifier.type.text. <https://hl7.org/fhir/R4/search.html#token>
fn token_text(parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    if !parameter.has_concepts && !parameter.has_identifiers {
        return Err(Outcome::not_supported(format!(
            "{}:text: its values have no text beside the code",
            parameter.code
        )));
    }
    Ok(Condition::Lookup(Lookup::Texts {
        keys: parameter.keys.clone(),
        start: normal(parameter, &unescape(text))?,
    }))
}

/// `:of-type`: `system|code|value` of Identifier.type.coding and Identifier.value. <https://hl7.org/fhir/R4/search.html#token>
fn of_type(parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    if !parameter.has_identifiers {
        return Err(bad_modifier(parameter, "of-type"));
    }
    match split_unescaped(text, '|').as_slice() {
        [system, code, value] if !system.is_empty() && !code.is_empty() && !value.is_empty() => {
            let token = Token::OfType(system, code, value);
            Ok(Condition::Terms(terms(parameter, std::iter::once(token))))
        }
        _ => Err(Outcome::invalid(format!(
            "{}:of-type is system|code|value: the system and code of the identifier's type, and its value",
            parameter.code
        ))),
    }
}

/// `:in`: a value set, by its canonical URL or where it is on this server. <https://hl7.org/fhir/R4/search.html#token>
fn in_value_set(context: &Context<'_>, parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    let text = unescape(text);
    let relative = text
        .strip_prefix(context.base_url)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|_| !context.base_url.is_empty());
    codes_of(parameter, "in", Asked::ValueSet(relative.unwrap_or(&text).to_owned()))
}

/// `:above` and `:below`: codes that subsume a code, and those that it subsumes. <https://hl7.org/fhir/R4/search.html#token>
fn related(parameter: &Parameter, modifier: &str, text: &str) -> Result<Condition, Outcome> {
    let (system, code) = system_and_code(parameter, text)?;
    let implied = match parameter.implied_systems.as_slice() {
        [system] if !parameter.has_codings => Some(system.clone()),
        _ => None,
    };
    let system = system.or(implied).filter(|system| !system.is_empty() && !code.is_empty());
    let Some(system) = system else {
        return Err(Outcome::invalid(format!(
            "{}:{modifier} is system|code: a code of a code system",
            parameter.code
        )));
    };
    let asked = if modifier == "above" {
        Asked::Above(system, code)
    } else {
        Asked::Below(system, code)
    };
    codes_of(parameter, modifier, asked)
}

fn codes_of(parameter: &Parameter, modifier: &str, asked: Asked) -> Result<Condition, Outcome> {
    if !has_code_systems(parameter) {
        return Err(bad_modifier(parameter, modifier));
    }
    Ok(Condition::Lookup(Lookup::Codes(CodesOf {
        asked,
        salts: parameter.salts.clone(),
        has_concepts: parameter.has_concepts,
        plain_systems: parameter.implied_systems.clone(),
    })))
}

/// Whether its codes are of code systems: those of identifiers and of plain texts are not.
pub fn has_code_systems(parameter: &Parameter) -> bool {
    parameter.has_concepts || !parameter.implied_systems.is_empty()
}

/// The term of a token's code, whatever its system; `None` if it names none, or the parameter reads several paths.
pub fn code_term(parameter: &Parameter, text: &str) -> Option<i64> {
    let (_, code) = split_token(text);
    match parameter.salts.as_slice() {
        [salt] if !code.is_empty() => Some(term(*salt, Token::Code(&code))),
        _ => None,
    }
}

/// The terms of these forms under each of the parameter's paths.
pub fn terms<'a>(parameter: &Parameter, forms: impl Iterator<Item = Token<'a>>) -> Vec<i64> {
    forms
        .flat_map(|form| parameter.salts.iter().map(move |salt| term(*salt, form)))
        .collect()
}
