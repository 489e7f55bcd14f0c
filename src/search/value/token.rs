//! Tokens: `code`, `system|code`, `|code`, `system|`. Spec: <https://hl7.org/fhir/R4/search.html#token>.

use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::Parameter;
use crate::search::term::Token;
use crate::search::term::term;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_token;

/// `code`, `system|code`, `|code`, `system|`.
pub fn token(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let (system, code) = split_token(text);
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
    let forms = parameter
        .has_codings
        .then_some(form)
        .into_iter()
        .chain(is_plain.then_some(Token::Plain(&code)));
    Ok(Condition::Terms(terms(parameter, forms)))
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
