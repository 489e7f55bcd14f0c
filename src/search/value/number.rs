//! Numbers and quantities. Spec: <https://hl7.org/fhir/R4/search.html#number>, <https://hl7.org/fhir/R4/search.html#quantity>.

//!
//! `1e2` is read as what it says, 100 to one digit: [50, 150). R4's table has [95, 105) for it, which R5 corrects.

use crate::outcome::Outcome;
use crate::search::condition::Comparison;
use crate::search::condition::Condition;
use crate::search::condition::Prefix;
use crate::search::condition::QuantityCondition;
use crate::search::condition::Unit;
use crate::search::parameters::Parameter;
use crate::search::term::unit_hash;
use crate::search::units::Measure;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_prefix;
use crate::search::value::split::split_unescaped;
use octofhir_ucum::Number;

pub fn number(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    Ok(Condition::Quantity(Box::new(QuantityCondition {
        keys: parameter.keys.clone(),
        unit: Unit::Any,
        comparison: comparison(parameter, text)?,
        joint: None,
    })))
}

/// `5.4`, `5.4|system|code`, `5.4||unit`.
pub fn quantity(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    quantity_condition(parameter, text).map(Box::new).map(Condition::Quantity)
}

pub fn quantity_condition(parameter: &Parameter, text: &str) -> Result<QuantityCondition, Outcome> {
    let parts = split_unescaped(text, '|');
    let comparison = comparison(parameter, &parts[0])?;
    let unit = match parts.as_slice() {
        [_] => Unit::Any,
        [_, system, code] if !code.is_empty() => match Measure::of(system, code) {
            _ if system.is_empty() => Unit::Code(code.clone()),
            Some(measure) if is_convertible(&measure, comparison) => Unit::Measured(unit_hash(system, code), measure),
            _ => Unit::SystemAndCode(unit_hash(system, code)),
        },
        _ => {
            return Err(Outcome::invalid(format!(
                "{} is written number, number|system|code or number||unit",
                parameter.code
            )));
        }
    };
    Ok(QuantityCondition {
        keys: parameter.keys.clone(),
        unit,
        comparison,
        joint: None,
    })
}

fn is_convertible(measure: &Measure, comparison: Comparison) -> bool {
    measure.canonical(comparison.from).is_some() && measure.canonical(comparison.to).is_some()
}

/// A number with its prefix. The bounds are decimal, so that 5.35 is inside 5.4 as the specification says, whatever binary fractions make of it.
pub fn comparison(parameter: &Parameter, text: &str) -> Result<Comparison, Outcome> {
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
    let mantissa: i128 = format!("{whole}{decimals}").parse().map_err(|_| error())?;
    let exponent: i32 = exponent.parse().map_err(|_| error())?;
    // One digit more than was written, to have room for the half.
    let place = exponent.saturating_sub(decimals.len() as i32).saturating_sub(1);
    let number = |mantissa: i128, place: i32| {
        let number = Number::parse(&format!("{mantissa}e{place}")).ok_or_else(error)?;
        if number.to_f64().is_finite() { Ok(number) } else { Err(error()) }
    };
    let (from, to) = match prefix {
        // Half of the last digit below and above. <https://hl7.org/fhir/R4/search.html#number>
        Prefix::Eq | Prefix::Ne => (number(mantissa * 10 - 5, place)?, number(mantissa * 10 + 5, place)?),
        // A tenth below and above. <https://hl7.org/fhir/R4/search.html#prefix>
        Prefix::Ap => {
            let (less, more) = (mantissa * 9, mantissa * 11);
            (number(less.min(more), place)?, number(less.max(more), place)?)
        }
        // The implicit precision is ignored.
        Prefix::Gt | Prefix::Lt | Prefix::Ge | Prefix::Le | Prefix::Sa | Prefix::Eb => {
            let exact = number(mantissa * 10, place)?;
            (exact, exact)
        }
    };
    Ok(Comparison { prefix, from, to })
}
