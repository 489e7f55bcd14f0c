//! Dates and numbers as ranges, and the table of prefixes over them. <https://hl7.org/fhir/R4/search.html#prefix>
//!
//! Decisions, where the specification leaves them to the server:
//! - A dateTime without time zone is of UTC ("the servers local time zone should be assumed", search.html#date).
//! - The range above a date begins where its own range ends, the one below it ends where its own begins: `gt2013-01-14` is not satisfied by
//!   a moment of that day. `ge` and `le` say what else is.
//! - `ap` of a date reaches "10% of the gap between now and the date" beyond it to both sides, of a number a tenth of its value.
//! - "The range above" a number begins beyond it: `ge100` finds 100 since it "fully contains" it, but not what is said to be `<= 100`.
//! - `1e2` has one significant figure, "the number of digits specified in the search parameter value, excluding leading zeros"
//!   (search.html#number): [50, 150). The table beside that sentence says [95, 105), which one figure cannot give; R5 corrects it to ours.

use chrono::DateTime;
use chrono::Datelike;
use chrono::Days;
use chrono::Months;
use chrono::NaiveDate;
use chrono::NaiveDateTime;
use rust_decimal::Decimal;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

pub const PREFIXES: [&str; 9] = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"];

/// The prefix, `eq` if there is none, and what follows.
pub fn split_prefix(text: &str) -> (Prefix, &str) {
    let prefix = match text.get(..2) {
        Some("ne") => Prefix::Ne,
        Some("gt") => Prefix::Gt,
        Some("lt") => Prefix::Lt,
        Some("ge") => Prefix::Ge,
        Some("le") => Prefix::Le,
        Some("sa") => Prefix::Sa,
        Some("eb") => Prefix::Eb,
        Some("ap") => Prefix::Ap,
        Some("eq") => Prefix::Eq,
        _ => return (Prefix::Eq, text),
    };
    (prefix, &text[2..])
}

/// Microseconds since 1970, first inside and first after; the least and the greatest stand for an end that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub low: i64,
    pub high: i64,
}

pub const WITHOUT_BEGINNING: i64 = i64::MIN;
pub const WITHOUT_END: i64 = i64::MAX;
const DAY: i64 = 86_400_000_000;

/// The span of a date, a dateTime or a time to the minute; `None` if it is none of them.
pub fn span(text: &str) -> Option<Span> {
    let day = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let micros = |day: NaiveDate| i64::from(day.num_days_from_ce() - 719_163) * DAY;
    let (first, after) = match text.len() {
        4 => {
            let first = day(&format!("{text}-01-01"))?;
            (first, first.checked_add_months(Months::new(12))?)
        }
        7 => {
            let first = day(&format!("{text}-01"))?;
            (first, first.checked_add_months(Months::new(1))?)
        }
        10 => (day(text)?, day(text)?.checked_add_days(Days::new(1))?),
        _ => return moment(text),
    };
    Some(Span {
        low: micros(first),
        high: micros(after),
    })
}

fn moment(text: &str) -> Option<Span> {
    let clock = text.split_once('T')?.1;
    let clock = clock.split(['Z', '+', '-']).next()?;
    let width = match (clock.len(), clock.split_once('.')) {
        (5, _) => 60_000_000,
        (8, None) => 1_000_000,
        (_, Some((_, fraction))) => 10i64.pow(6u32.saturating_sub(fraction.len() as u32)),
        _ => return None,
    };
    let with_seconds = match clock.len() {
        5 => text.replacen(clock, &format!("{clock}:00"), 1),
        _ => text.to_owned(),
    };
    let low = match DateTime::parse_from_rfc3339(&with_seconds) {
        Ok(at) => at.timestamp_micros(),
        Err(_) => NaiveDateTime::parse_from_str(&with_seconds, "%Y-%m-%dT%H:%M:%S%.f")
            .ok()?
            .and_utc()
            .timestamp_micros(),
    };
    Some(Span { low, high: low + width })
}

/// An instant is "a fixed point in time … with an effective width of 0" (search.html#date): the least span that holds it.
pub fn instant(text: &str) -> Option<Span> {
    span(text).map(|Span { low, .. }| Span { low, high: low + 1 })
}

pub fn date_holds(prefix: Prefix, target: Span, search: Span) -> bool {
    let contains = search.low <= target.low && target.high <= search.high;
    let above = target.high > search.high;
    let below = target.low < search.low;
    match prefix {
        Prefix::Eq => contains,
        Prefix::Ne => !contains,
        Prefix::Gt => above,
        Prefix::Lt => below,
        Prefix::Ge => above || contains,
        Prefix::Le => below || contains,
        Prefix::Sa => target.low >= search.high,
        Prefix::Eb => target.high <= search.low,
        Prefix::Ap => {
            let now = i64::try_from(UNIX_EPOCH.elapsed().expect("a time after 1970").as_micros()).expect("a time before 294247");
            let slack = (search.low - now).max(now - search.high).max(0) / 10;
            target.low < search.high + slack && target.high > search.low - slack
        }
    }
}

/// A value of a resource on the line of numbers: a point, or a range that may lack an end or exclude it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: Option<Decimal>,
    pub high: Option<Decimal>,
    /// `>` and `<` exclude the value that they stand before.
    pub excludes_low: bool,
    pub excludes_high: bool,
}

impl Interval {
    pub fn point(value: Decimal) -> Interval {
        Interval::between(Some(value), Some(value))
    }

    pub fn between(low: Option<Decimal>, high: Option<Decimal>) -> Interval {
        Interval {
            low,
            high,
            excludes_low: false,
            excludes_high: false,
        }
    }

    /// Multiplied by what is greater than zero.
    pub fn scaled(self, factor: Decimal) -> Interval {
        Interval {
            low: self.low.map(|low| low * factor),
            high: self.high.map(|high| high * factor),
            ..self
        }
    }
}

/// A number as it is asked for: its value, and half of its last digit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    pub value: Decimal,
    pub half: Decimal,
}

impl Asked {
    pub fn scaled(self, factor: Decimal) -> Asked {
        Asked {
            value: self.value * factor,
            half: self.half * factor,
        }
    }
}

pub fn asked(text: &str) -> Option<Asked> {
    let value = decimal(text)?;
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let places = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
    let place = exponent.parse::<i32>().ok()? - places;
    let five = Decimal::from(5);
    let half = match place {
        0.. => five * power_of_ten(place.unsigned_abs()) / Decimal::TEN,
        _ => five / power_of_ten(place.unsigned_abs()) / Decimal::TEN,
    };
    Some(Asked { value, half })
}

fn power_of_ten(exponent: u32) -> Decimal {
    (0..exponent).fold(Decimal::ONE, |power, _| power * Decimal::TEN)
}

pub fn decimal(text: &str) -> Option<Decimal> {
    match text.contains(['e', 'E']) {
        true => Decimal::from_scientific(text).ok(),
        false => Decimal::from_str(text).ok(),
    }
}

/// "When a comparison prefix in the set gt, lt, ge, le, sa & eb is provided, the implicit precision of the number is ignored"
/// (search.html#number).
pub fn number_holds(prefix: Prefix, target: Interval, asked: Asked) -> bool {
    let Asked { value, half } = asked;
    let is_value = target.low == Some(value) && target.high == Some(value) && !target.excludes_low && !target.excludes_high;
    let reaches_above = |bound: Decimal| {
        target
            .high
            .is_none_or(|high| high > bound || high == bound && !target.excludes_high)
    };
    let reaches_below = |bound: Decimal| target.low.is_none_or(|low| low < bound || low == bound && !target.excludes_low);
    let contains = target.low.is_some_and(|low| low >= value - half)
        && target
            .high
            .is_some_and(|high| high < value + half || high == value + half && target.excludes_high);
    match prefix {
        Prefix::Eq => contains,
        Prefix::Ne => !contains,
        Prefix::Gt => target.high.is_none_or(|high| high > value),
        Prefix::Lt => target.low.is_none_or(|low| low < value),
        Prefix::Ge => is_value || target.high.is_none_or(|high| high > value),
        Prefix::Le => is_value || target.low.is_none_or(|low| low < value),
        Prefix::Sa => target.low.is_some_and(|low| low > value || low == value && target.excludes_low),
        Prefix::Eb => target
            .high
            .is_some_and(|high| high < value || high == value && target.excludes_high),
        Prefix::Ap => {
            let tenth = value.abs() / Decimal::TEN;
            reaches_below(value + tenth) && reaches_above(value - tenth)
        }
    }
}
