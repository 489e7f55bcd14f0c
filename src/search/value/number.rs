//! Numbers and quantities. Spec: <https://hl7.org/fhir/R4/search.html#number>, <https://hl7.org/fhir/R4/search.html#quantity>.

use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::condition::Prefix;
use crate::search::condition::QuantityCondition;
use crate::search::condition::Unit;
use crate::search::parameters::Parameter;
use crate::search::term::unit_code_hash;
use crate::search::term::unit_hash;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_prefix;
use crate::search::value::split::split_unescaped;

pub fn number(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let number = number_value(parameter, text)?;
    Ok(Condition::Quantity(number_condition(parameter, Unit::Any, number)))
}

/// `5.4`, `5.4|system|code`, `5.4||unit`.
pub fn quantity(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
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

pub fn number_condition(parameter: &Parameter, unit: Unit, number: Number) -> QuantityCondition {
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
pub struct Number {
    prefix: Prefix,
    value: f64,
    low: f64,
    high: f64,
}

pub fn number_value(parameter: &Parameter, text: &str) -> Result<Number, Outcome> {
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
