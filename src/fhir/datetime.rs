//! Dates of FHIR as half-open UTC ranges: `2024` is [2024-01-01, 2025-01-01).
//!
//! A date or dateTime without time zone is read as UTC. Spec: <https://hl7.org/fhir/R4/search.html#date>.

use chrono::Datelike;
use chrono::Days;
use chrono::Months;
use chrono::NaiveDate;

/// Microseconds since 1970-01-01T00:00:00Z, first inside and first after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub low: i64,
    pub high: i64,
}

impl Range {
    /// Its first moment.
    pub fn begin(self) -> Range {
        Range {
            low: self.low,
            high: self.low + 1,
        }
    }
}

/// Stands for "no beginning" and "no end" of a Period; a quarter of the range, so that their difference does not overflow.
pub const FAR_PAST: i64 = i64::MIN / 4;
pub const FAR_FUTURE: i64 = i64::MAX / 4;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The range that a date, dateTime or instant covers; `None` if the text is none of them.
/// Accepts what search accepts too: time to the minute, and a time without zone (read as UTC).
pub fn range(text: &str) -> Option<Range> {
    let bytes = text.as_bytes();
    // FHIR has no year 0000. <https://hl7.org/fhir/R4/datatypes.html#date>
    let year = digits(bytes, 0, 4).filter(|year| *year > 0)?;
    match bytes.len() {
        4 => return between(date(year, 1, 1)?, |d| d.checked_add_months(Months::new(12))),
        7 => {
            let month = part(bytes, 4, b'-')?;
            return between(date(year, month, 1)?, |d| d.checked_add_months(Months::new(1)));
        }
        _ => {}
    }
    let day = date(year, part(bytes, 4, b'-')?, part(bytes, 7, b'-')?)?;
    if bytes.len() == 10 {
        return between(day, |d| d.checked_add_days(Days::new(1)));
    }
    time(&bytes[10..], micros(day))
}

fn time(bytes: &[u8], midnight: i64) -> Option<Range> {
    let (hour, minute) = (part(bytes, 0, b'T')?, part(bytes, 3, b':')?);
    if hour > 23 && !(hour == 24 && minute == 0) || minute > 59 {
        return None;
    }
    let mut low = midnight + (hour * 3600 + minute * 60) * SECOND;
    let mut at = 6;
    let mut width = 60 * SECOND;
    if bytes.get(at) == Some(&b':') {
        let second = part(bytes, at, b':')?;
        if second > 60 {
            return None;
        }
        low += second * SECOND;
        (at, width) = (at + 3, SECOND);
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            let start = at;
            let mut unit = SECOND;
            while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
                unit /= 10;
                low += i64::from(digit - b'0') * unit;
                at += 1;
            }
            // As many digits as there are: R4 has no limit, and what lies below a microsecond makes no difference.
            if at == start {
                return None;
            }
            width = unit.max(1);
        }
    }
    let offset = zone(&bytes[at..])?;
    let low = low.checked_sub(offset * 60 * SECOND)?;
    Some(Range {
        low,
        high: low.checked_add(width)?,
    })
}

/// Minutes east of UTC.
fn zone(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [] | [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(bytes, 1, 2)?, digits(bytes, 4, 2)?);
            let offset = hours * 60 + minutes;
            (hours <= 14 && minutes <= 59).then_some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

/// Two digits after a separator at `at`.
fn part(bytes: &[u8], at: usize, separator: u8) -> Option<i64> {
    (bytes.get(at) == Some(&separator)).then(|| digits(bytes, at + 1, 2))?
}

fn digits(bytes: &[u8], at: usize, count: usize) -> Option<i64> {
    let mut value = 0;
    for byte in bytes.get(at..at + count)? {
        value = value * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
    }
    Some(value)
}

fn date(year: i64, month: i64, day: i64) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32)
}

fn micros(day: NaiveDate) -> i64 {
    (i64::from(day.num_days_from_ce()) - 719_163) * DAY
}

fn between(low: NaiveDate, next: impl Fn(NaiveDate) -> Option<NaiveDate>) -> Option<Range> {
    Some(Range {
        low: micros(low),
        high: micros(next(low)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_covers_all_of_its_precision() {
        let day = |text: &str| range(text).expect(text);
        assert_eq!(day("1970"), Range { low: 0, high: 365 * DAY });
        assert_eq!(
            day("2024-02"),
            Range {
                low: day("2024-02-01").low,
                high: day("2024-03-01").low
            }
        );
        assert_eq!(day("1970-01-01T01:00:00+01:00"), Range { low: 0, high: SECOND });
        assert_eq!(
            day("1970-01-01T00:00:00.250Z"),
            Range {
                low: 250_000,
                high: 251_000
            }
        );
        assert_eq!(day("1970-01-01T00:00:00.00000123456789Z"), Range { low: 1, high: 2 });
        assert_eq!(day("1970-01-01T00:00"), Range { low: 0, high: 60 * SECOND });
        assert_eq!(day("1969-12-31T19:00:00-05:00").low, 0);
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "24",
            "2024-13",
            "0000",
            "0000-01-01",
            "2024-02-30",
            "2024-1-1",
            "2024-01-01T",
            "2024-01-01T25:00:00Z",
            "2024-01-01T10:00:00+15:00",
            "2024-01-01T10:00:00.Z",
            "2024-01-01 10:00:00",
            "abcd",
            "2024-01-01T10:00:00ZZ",
            "2024-01-01T1é:00:00",
        ] {
            assert_eq!(range(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn odd_text_never_panics(text in "\\PC{0,30}") {
            range(&text);
        }
    }
}
