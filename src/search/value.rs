//! One value of a search parameter: what it asks. One function for each type of parameter.
//! Spec: <https://hl7.org/fhir/R4/search.html#ptypes>.

use crate::fhir::datetime;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::is_id;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::reference_hash;
use crate::fhir::identity::self_hash;
use crate::fhir::identity::without_version;
use crate::fhir::strings::normalise;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::condition::Prefix;
use crate::search::condition::QuantityCondition;
use crate::search::condition::Unit;
use crate::search::index::Token;
use crate::search::index::reference_term;
use crate::search::index::term;
use crate::search::index::unit_code_hash;
use crate::search::index::unit_hash;
use crate::search::index::uri_ancestors;
use crate::search::parameters::Parameter;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use chrono::DateTime;

pub struct Context<'a> {
    pub registry: &'a Registry,
    pub of: &'a TypeParameters,
    pub base_url: &'a str,
}

/// The condition of one alternative. Errors: 400, naming the parameter and the form that a value has.
pub fn condition(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    match (parameter.code.as_str(), parameter.kind) {
        ("_id", _) => id(context, parameter, modifier, text),
        ("_lastUpdated", _) => last_updated(context, parameter, modifier, text),
        (_, SearchParameterKind::Token) => token(parameter, modifier, text),
        (_, SearchParameterKind::Reference) => reference(context, parameter, modifier, text),
        (_, SearchParameterKind::String) => string(parameter, modifier, text),
        (_, SearchParameterKind::Uri) => uri(parameter, modifier, text),
        (_, SearchParameterKind::Date) => date(context, parameter, modifier, text),
        (_, SearchParameterKind::Number) => number(parameter, modifier, text),
        (_, SearchParameterKind::Quantity) => quantity(parameter, modifier, text),
        (_, SearchParameterKind::Composite) => composite(context, parameter, modifier, text),
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

fn last_updated(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let (prefix, range) = date_value(parameter, text)?;
    let instant = |micros| DateTime::from_timestamp_micros(micros).ok_or_else(|| date_error(parameter));
    Ok(Condition::LastUpdated(
        context.of.number,
        prefix,
        instant(range.low)?,
        instant(range.high)?,
    ))
}

/// `code`, `system|code`, `|code`, `system|`.
fn token(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
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
fn terms<'a>(parameter: &Parameter, forms: impl Iterator<Item = Token<'a>>) -> Vec<i64> {
    forms
        .flat_map(|form| parameter.salts.iter().map(move |salt| term(*salt, form)))
        .collect()
}

fn reference(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
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

fn string(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let text = unescape(text);
    let normal = normalise(&text);
    if normal.is_empty() {
        return Err(Outcome::invalid(format!("{} has an empty value", parameter.code)));
    }
    match modifier {
        None => Ok(Condition::StringStart(parameter.keys.clone(), normal)),
        Some("contains") => Ok(Condition::StringPart(parameter.keys.clone(), normal)),
        Some("exact") => Ok(Condition::Terms(terms(parameter, std::iter::once(Token::Exact(&text))))),
        Some(modifier) => Err(bad_modifier(parameter, modifier)),
    }
}

/// `:above` finds what the value lies below, `:below` what lies below the value.
fn uri(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let text = unescape(text);
    let terms = match modifier {
        None => terms(parameter, std::iter::once(Token::Uri(&text))),
        Some("below") if parameter.code == "_profile" => return Err(bad_modifier(parameter, "below")),
        Some("below") => terms(parameter, std::iter::once(Token::UriBelow(text.trim_end_matches('/')))),
        Some("above") => terms(parameter, uri_ancestors(&text).map(Token::Uri)),
        Some(modifier) => return Err(bad_modifier(parameter, modifier)),
    };
    Ok(Condition::Terms(terms))
}

fn date(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let (prefix, range) = date_value(parameter, text)?;
    Ok(match parameter.is_primary_date {
        true => Condition::PrimaryDate(context.of.number, prefix, range),
        false => Condition::Date(parameter.keys.clone(), prefix, range),
    })
}

fn date_value(parameter: &Parameter, text: &str) -> Result<(Prefix, datetime::Range), Outcome> {
    let (prefix, text) = split_prefix(text);
    let mut range = datetime::range(text).ok_or_else(|| date_error(parameter))?;
    if prefix == Prefix::Ap {
        let slack = (range.high - range.low).max(86_400_000_000) / 10;
        range = datetime::Range {
            low: range.low - slack,
            high: range.high + slack,
        };
    }
    Ok((prefix, range))
}

fn date_error(parameter: &Parameter) -> Outcome {
    Outcome::invalid(format!(
        "{} needs a date: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz, with an optional prefix such as ge",
        parameter.code
    ))
}

fn number(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let number = number_value(parameter, text)?;
    Ok(Condition::Quantity(number_condition(parameter, Unit::Any, number)))
}

/// `5.4`, `5.4|system|code`, `5.4||unit`.
fn quantity(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let parts = split_unescaped(text, '|');
    let number = number_value(parameter, &parts[0])?;
    let unit = match parts.as_slice() {
        [_] => Unit::Any,
        [_, system, code] if system.is_empty() => Unit::Code(unit_code_hash(code)),
        [_, system, code] => Unit::SystemAndCode(unit_hash(system, code)),
        _ => {
            return Err(Outcome::invalid(format!(
                "{} is written number, number|system|code or number||unit",
                parameter.code
            )));
        }
    };
    Ok(Condition::Quantity(number_condition(parameter, unit, number)))
}

fn number_condition(parameter: &Parameter, unit: Unit, number: Number) -> QuantityCondition {
    let Number { prefix, value, low, high } = number;
    QuantityCondition {
        keys: parameter.keys.clone(),
        unit,
        prefix,
        value,
        low,
        high,
    }
}

/// A number and the bounds of its implicit precision: half of its last digit below and above. The bounds are read from their own decimal
/// text, so that 5.35 is inside 5.4 as the specification says, whatever binary fractions make of it.
struct Number {
    prefix: Prefix,
    value: f64,
    low: f64,
    high: f64,
}

fn number_value(parameter: &Parameter, text: &str) -> Result<Number, Outcome> {
    let (prefix, text) = split_prefix(text);
    let error = || {
        Outcome::invalid(format!(
            "{} needs a number of at most 30 digits, with an optional prefix such as ge",
            parameter.code
        ))
    };
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let unsigned = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let is_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if text.len() > 40 || unsigned.len() + decimals.len() > 30 || unsigned.is_empty() || !is_digits(unsigned) || !is_digits(decimals) {
        return Err(error());
    }
    let value: f64 = text.parse().map_err(|_| error())?;
    let mantissa: i128 = format!("{whole}{decimals}").parse().map_err(|_| error())?;
    let exponent: i32 = exponent.parse().map_err(|_| error())?;
    // One digit more than was written, to have room for the half.
    let place = exponent.saturating_sub(decimals.len() as i32).saturating_sub(1);
    let bound = |mantissa: i128| format!("{mantissa}e{place}").parse::<f64>().map_err(|_| error());
    let number = Number {
        prefix,
        value,
        low: bound(mantissa * 10 - 5)?,
        high: bound(mantissa * 10 + 5)?,
    };
    if value.is_finite() && number.low.is_finite() && number.high.is_finite() {
        Ok(number)
    } else {
        Err(error())
    }
}

/// `value$value`, on the resource itself: each part must hold, and each is single-valued there.
fn composite(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let parts = split_unescaped_keeping(text, '$');
    if parts.len() != parameter.components.len() {
        return Err(Outcome::invalid(format!(
            "{} has {} values joined by $",
            parameter.code,
            parameter.components.len()
        )));
    }
    let mut conditions = Vec::new();
    for (url, part) in parameter.components.iter().zip(&parts) {
        let component = context.of.parameters.iter().find(|p| p.url == *url);
        let component = component.ok_or_else(|| Outcome::not_supported(format!("{}: a part of it is not known", parameter.code)))?;
        conditions.push(condition(context, component, None, part)?);
    }
    Ok(Condition::all(conditions))
}

fn split_prefix(text: &str) -> (Prefix, &str) {
    let prefix = match text.get(..2) {
        Some("eq") => Prefix::Eq,
        Some("ne") => Prefix::Ne,
        Some("gt") => Prefix::Gt,
        Some("lt") => Prefix::Lt,
        Some("ge") => Prefix::Ge,
        Some("le") => Prefix::Le,
        Some("sa") => Prefix::Sa,
        Some("eb") => Prefix::Eb,
        Some("ap") => Prefix::Ap,
        _ => return (Prefix::Eq, text),
    };
    (prefix, &text[2..])
}

/// System (if there is a `|`) and code, unescaped.
pub fn split_token(text: &str) -> (Option<String>, String) {
    let mut parts = split_unescaped(text, '|');
    match parts.len() {
        1 => (None, parts.remove(0)),
        _ => {
            let system = parts.remove(0);
            (Some(system), parts.join("|"))
        }
    }
}

fn split_unescaped(text: &str, separator: char) -> Vec<String> {
    split_unescaped_keeping(text, separator).iter().map(|part| unescape(part)).collect()
}

/// Splits where the separator is not escaped; the parts keep their escapes.
fn split_unescaped_keeping(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut current, mut is_escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if c == separator && !is_escaped {
            parts.push(std::mem::take(&mut current));
            continue;
        }
        is_escaped = c == '\\' && !is_escaped;
        current.push(c);
    }
    parts.push(current);
    parts
}

fn unescape(text: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

pub fn bad_modifier(parameter: &Parameter, modifier: &str) -> Outcome {
    Outcome::not_supported(format!(
        "The modifier :{} is not supported for {} ({:?})",
        shown(modifier),
        parameter.code,
        parameter.kind
    ))
}

/// A name of the client's own making, cut short: what is echoed stays small and on one line.
pub fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// The alternatives of a value; `\,` is a comma. Other escapes stay for the parts of the value.
pub fn split_values(text: &str) -> Vec<String> {
    let (mut values, mut current, mut chars) = (Vec::new(), String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(',') => current.push(','),
                Some(other) => current.extend(['\\', other]),
                None => current.push('\\'),
            },
            ',' => values.push(std::mem::take(&mut current)),
            _ => current.push(c),
        }
    }
    values.push(current);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_split_at_the_first_bar_that_is_not_escaped() {
        assert_eq!(split_token("a|b"), (Some("a".into()), "b".into()));
        assert_eq!(split_token(r"a\|b"), (None, "a|b".into()));
        assert_eq!(split_token("|b"), (Some(String::new()), "b".into()));
        assert_eq!(split_token(r"a|b\$c"), (Some("a".into()), "b$c".into()));
        assert_eq!(split_unescaped_keeping(r"a\$b$c", '$'), [r"a\$b", "c"]);
    }
}
