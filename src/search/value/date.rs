//! Dates and instants. Spec: <https://hl7.org/fhir/R4/search.html#date>.

use crate::fhir::datetime;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::condition::Prefix;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use crate::search::value::Context;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_prefix;
use chrono::DateTime;
use chrono::Utc;

pub fn last_updated(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let (prefix, range) = date_value(context.now, parameter, text)?;
    let instant = |micros| DateTime::from_timestamp_micros(micros).ok_or_else(|| date_error(parameter));
    Ok(Condition::LastUpdated(
        context.of.number,
        prefix,
        instant(range.low)?,
        instant(range.high)?,
    ))
}

pub fn date(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let (prefix, range) = date_value(context.now, parameter, text)?;
    Ok(match parameter.is_primary_date {
        true => Condition::PrimaryDate(context.of.number, prefix, range),
        false => Condition::Date(parameter.keys.clone(), prefix, range),
    })
}

/// What shares an instant with the value: `po` of `_filter`.
pub fn overlapping(of: &TypeParameters, parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    let range = datetime::range(text).ok_or_else(|| date_error(parameter))?;
    let instant = |micros| DateTime::from_timestamp_micros(micros).ok_or_else(|| date_error(parameter));
    Ok(match parameter.code.as_str() {
        "_lastUpdated" => Condition::LastUpdated(of.number, Prefix::Ap, instant(range.low)?, instant(range.high)?),
        _ if parameter.is_primary_date => Condition::PrimaryDate(of.number, Prefix::Ap, range),
        _ => Condition::Date(parameter.keys.clone(), Prefix::Ap, range),
    })
}

pub fn date_value(now: DateTime<Utc>, parameter: &Parameter, text: &str) -> Result<(Prefix, datetime::Range), Outcome> {
    let (prefix, text) = split_prefix(text);
    let mut range = datetime::range(text).ok_or_else(|| date_error(parameter))?;
    if prefix == Prefix::Ap {
        // "10% of the gap between now and the date" <https://hl7.org/fhir/R4/search.html#prefix>
        let now = now.timestamp_micros();
        let slack = (range.low - now).max(now - range.high).max(0) / 10;
        range = datetime::Range {
            low: range.low - slack,
            high: range.high + slack,
        };
    }
    Ok((prefix, range))
}

pub fn date_error(parameter: &Parameter) -> Outcome {
    Outcome::invalid(format!(
        "{} needs a date: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz, with an optional prefix such as ge",
        parameter.code
    ))
}
