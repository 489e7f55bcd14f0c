//! Dates: a range is never empty and never overflows, and an instant begins where another implementation says.

use chrono::DateTime;
use eds::fhir::datetime;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let ours = datetime::range(text);
    if let Some(range) = ours {
        assert!(range.low < range.high, "{text}: {range:?}");
        assert!(
            datetime::FAR_PAST < range.low && range.high < datetime::FAR_FUTURE,
            "{text}: {range:?}"
        );
        // More precision lies inside less.
        for length in [4, 7, 10] {
            let outer = text.get(..length).and_then(datetime::range);
            let is_day = text.ends_with('Z') && text.len() > 10 && text.get(11..13) < Some("24") && text.get(17..19) != Some("60");
            if let Some(outer) = outer.filter(|_| is_day) {
                assert!(
                    outer.low <= range.low && range.high <= outer.high,
                    "{text} is not inside its own {length} characters"
                );
            }
        }
    }
    // Others take small letters and a space too, and the year 0000, which FHIR has not; a zone beyond 14 hours, and a second 60, are read otherwise.
    let is_ours = text.as_bytes().get(10) == Some(&b'T') && !text.contains(['t', 'z']) && !text.starts_with("0000");
    let theirs = DateTime::parse_from_rfc3339(text).ok().filter(|_| is_ours);
    if let Some(theirs) = theirs.filter(|t| t.offset().local_minus_utc().abs() < 15 * 3600 && text.get(17..19) != Some("60")) {
        let ours = ours.unwrap_or_else(|| panic!("{text} is an instant"));
        assert_eq!(ours.low, theirs.timestamp_micros(), "{text}");
    }
}
