//! Local times of the FSE (`yyyyMMddHHmmss`, Europe/Rome) as FHIR dateTimes with their offset.
//!
//! Summer time by the rule of the Union: from the last Sunday of March to the last Sunday of October, at 01:00 UTC.
//! Source: Directive 2000/84/EC. Italy's rule before 1996 was another: older times can be an hour off.

use chrono::Datelike;
use chrono::Days;
use chrono::NaiveDate;
use chrono::NaiveDateTime;
use chrono::NaiveTime;

/// `20220324112426` is `2022-03-24T11:24:26+01:00`; `None` for what is no time.
pub fn date_time(text: &str) -> Option<String> {
    if text.len() != 14 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u32>().ok();
    let date = NaiveDate::from_ymd_opt(number(0, 4)? as i32, number(4, 6)?, number(6, 8)?).filter(|date| date.year() > 0)?;
    let time = NaiveTime::from_hms_opt(number(8, 10)?, number(10, 12)?, number(12, 14)?)?;
    let local = date.and_time(time);
    let offset = if is_summer(local)? { "+02:00" } else { "+01:00" };
    Some(format!("{}{offset}", local.format("%Y-%m-%dT%H:%M:%S")))
}

/// The hour that comes twice in October is taken as the first, that of summer; the hour that is left out in March as winter time.
fn is_summer(local: NaiveDateTime) -> Option<bool> {
    let begin = last_sunday(local.year(), 3)?.and_hms_opt(3, 0, 0)?;
    let end = last_sunday(local.year(), 10)?.and_hms_opt(3, 0, 0)?;
    Some(begin <= local && local < end)
}

/// Of a month with 31 days.
fn last_sunday(year: i32, month: u32) -> Option<NaiveDate> {
    let last = NaiveDate::from_ymd_opt(year, month, 31)?;
    last.checked_sub_days(Days::new(u64::from(last.weekday().num_days_from_sunday())))
}

#[cfg(test)]
mod tests {
    use super::date_time;

    #[test]
    fn local_times_get_the_offset_of_their_season() {
        for (text, expected) in [
            ("20220324112426", "2022-03-24T11:24:26+01:00"),
            ("20220701000000", "2022-07-01T00:00:00+02:00"),
            ("20240229235959", "2024-02-29T23:59:59+01:00"),
            // The last Sunday of March 2022 is the 27th, of October the 30th.
            ("20220327015959", "2022-03-27T01:59:59+01:00"),
            ("20220327023000", "2022-03-27T02:30:00+01:00"),
            ("20220327030000", "2022-03-27T03:00:00+02:00"),
            ("20221030025959", "2022-10-30T02:59:59+02:00"),
            ("20221030030000", "2022-10-30T03:00:00+01:00"),
            // The 31st itself is a Sunday.
            ("20240331030000", "2024-03-31T03:00:00+02:00"),
            ("20211031030000", "2021-10-31T03:00:00+01:00"),
        ] {
            assert_eq!(date_time(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2022",
            "20220230000000",
            "20221332000000",
            "20220101240000",
            "20220101006000",
            "20220101000060",
            "2022010100000a",
            "00000101000000",
            "２０２２",
        ] {
            assert_eq!(date_time(text), None, "{text}");
        }
    }
}
