//! Months as terms: "this code, in this month". A search for a code, newest first, reads the newest months until its page is full, instead of
//! walking all that is new in the type or sorting all that has the code.
//!
//! Only for the parameter `code` of types that have a primary date. Rows without a readable month (periods without beginning) are found by
//! the last window, which asks for dates instead.

use crate::fhir::datetime::Range;
use crate::search::condition::Condition;
use crate::search::condition::Prefix;
use chrono::DateTime;
use chrono::Datelike;
use chrono::NaiveDate;
use chrono::Utc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The parameter whose codes are kept by month.
pub const PARAMETER: &str = "code";
/// Months in each window, from the newest; what lies before all of them is the last.
const WINDOWS: [i64; 5] = [3, 12, 48, 192, 1200];

/// Months since the year 0; `None` outside the years that a calendar has.
fn month_of(micros: i64) -> Option<i64> {
    let date = DateTime::from_timestamp_micros(micros)?;
    Some(i64::from(date.year()) * 12 + i64::from(date.month0()))
}

fn first_instant(month: i64) -> i64 {
    let (year, month0) = (month.div_euclid(12) as i32, month.rem_euclid(12) as u32);
    let day = NaiveDate::from_ymd_opt(year, month0 + 1, 1).and_then(|d| d.and_hms_opt(0, 0, 0));
    day.map_or(i64::MIN / 4, |d| d.and_utc().timestamp_micros())
}

fn month_term(code: i64, month: i64) -> i64 {
    xxh3_64_with_seed(&month.to_le_bytes(), code as u64) as i64
}

/// The terms of a resource that has these codes and this date.
pub fn terms(codes: &[i64], date: Option<Range>) -> impl Iterator<Item = i64> {
    let month = date.and_then(|date| month_of(date.low));
    codes.iter().filter_map(move |code| month.map(|month| month_term(*code, month)))
}

/// Conditions that together hold for all resources with one of the codes and a date, the newest first. None overlaps another.
/// `from` is where a page begins: nothing newer is asked for.
pub fn windows(number: i16, codes: &[i64], now: DateTime<Utc>, from: Option<i64>) -> Vec<Condition> {
    let after_now = i64::from(now.year()) * 12 + i64::from(now.month0()) + 1;
    let end = from.and_then(month_of).map_or(after_now, |month| after_now.min(month + 1));
    let date = |prefix, at| Condition::PrimaryDate(number, prefix, Range { low: at, high: at });
    let mut windows = Vec::with_capacity(WINDOWS.len() + 1);
    let mut high = end;
    for months in WINDOWS {
        let low = high - months;
        let terms = (low..high).flat_map(|month| codes.iter().map(move |code| month_term(*code, month)));
        let months = Condition::Terms(terms.collect());
        // Dates after this month are few, and stand at the end of the date index.
        windows.push(if high == end {
            Condition::Any(vec![months, date(Prefix::Sa, first_instant(end))])
        } else {
            months
        });
        high = low;
    }
    windows.push(date(Prefix::Lt, first_instant(high)));
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::datetime::range;

    #[test]
    fn each_date_is_in_one_window() {
        let now = DateTime::from_timestamp(1_750_000_000, 0).expect("a time");
        let windows = windows(96, &[7], now, None);
        for (text, place) in [
            ("2025-06-01", 0),
            ("2025-04", 0),
            ("2025-03-31", 1),
            ("2024-04", 1),
            ("2024-03-01", 2),
            ("2010", 3),
            ("1950", 4),
        ] {
            let date = range(text);
            let term = terms(&[7], date).next().expect("a month");
            let holds = |window: &Condition| match window {
                Condition::Terms(terms) => terms.contains(&term),
                Condition::Any(either) => matches!(&either[0], Condition::Terms(terms) if terms.contains(&term)),
                _ => false,
            };
            let found: Vec<usize> = windows.iter().enumerate().filter(|(_, w)| holds(w)).map(|(i, _)| i).collect();
            assert_eq!(found, [place], "{text}");
        }
        assert_eq!(first_instant(month_of(0).expect("1970")), 0);
    }
}
