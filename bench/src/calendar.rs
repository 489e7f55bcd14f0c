//! Dates and instants: FHIR text from and to days and seconds since 1970-01-01 UTC.
//!
//! Source: <https://hl7.org/fhir/R4/datatypes.html#dateTime>; the day arithmetic is Howard Hinnant's `days_from_civil`.

/// Seconds in a day.
pub const DAY_SECONDS: i64 = 86_400;

/// The offset all generated instants carry: Italian winter time, in seconds.
const OFFSET_SECONDS: i64 = 3_600;

/// Days since 1970-01-01 of a civil date.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// A FHIR `date`. Example: `date(0)` is `1970-01-01`.
pub fn date(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A FHIR `dateTime` to the second, at the Italian winter offset.
pub fn date_time(seconds: i64) -> String {
    format!("{}+01:00", local_text(seconds))
}

/// A FHIR `instant` to the millisecond, at the Italian winter offset.
pub fn instant(seconds: i64, millis: i64) -> String {
    format!("{}.{millis:03}+01:00", local_text(seconds))
}

/// A time in UTC, for reports. Example: `utc(0)` is `1970-01-01T00:00:00Z`.
pub fn utc(seconds: i64) -> String {
    format!("{}Z", local_text(seconds - OFFSET_SECONDS))
}

fn local_text(seconds: i64) -> String {
    let local = seconds + OFFSET_SECONDS;
    let of_day = local.rem_euclid(DAY_SECONDS);
    format!(
        "{}T{:02}:{:02}:{:02}",
        date(local.div_euclid(DAY_SECONDS)),
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Seconds since 1970 of a FHIR `date`, `dateTime` or `instant` (its beginning, fractions dropped); `None` if it is not one.
pub fn parse(text: &str) -> Option<i64> {
    let (day_text, time) = match text.split_once('T') {
        Some((day_text, time)) => (day_text, Some(time)),
        None => (text, None),
    };
    let mut parts = day_text.split('-').map(|part| part.parse::<i64>().ok());
    let year = parts.next()??;
    let month = parts.next().unwrap_or(Some(1))?;
    let day = parts.next().unwrap_or(Some(1))?;
    let midnight = days_from_civil(year, month, day) * DAY_SECONDS;
    match time {
        None => Some(midnight),
        Some(time) => Some(midnight + parse_time(time)?),
    }
}

fn parse_time(time: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let of_day = number(0..2)? * 3_600 + number(3..5)? * 60 + number(6..8)?;
    let zone = time.get(8..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    if zone == "Z" {
        return Some(of_day);
    }
    let sign = match zone.get(0..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let hours = zone.get(1..3)?.parse::<i64>().ok()?;
    let minutes = zone.get(4..6)?.parse::<i64>().ok()?;
    Some(of_day - sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use crate::calendar::{civil_from_days, date, date_time, days_from_civil, instant, parse, utc};

    #[test]
    fn days_and_civil_dates_are_each_other_s_inverse() {
        for days in (-60_000..60_000).step_by(17) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(date(19_782), "2024-02-29");
    }

    #[test]
    fn an_instant_reads_back_whatever_its_offset() {
        assert_eq!(date_time(0), "1970-01-01T01:00:00+01:00");
        assert_eq!(utc(1_700_000_000), "2023-11-14T22:13:20Z");
        for seconds in [0, 1_700_000_000, -1_000_000_000] {
            assert_eq!(parse(&date_time(seconds)), Some(seconds));
            assert_eq!(parse(&instant(seconds, 530)), Some(seconds));
        }
        assert_eq!(parse("2012-10-19T19:37:54-04:00"), parse("2012-10-19T23:37:54Z"));
        assert_eq!(parse("1970-01"), Some(0));
        assert_eq!(parse("someday"), None);
    }
}
