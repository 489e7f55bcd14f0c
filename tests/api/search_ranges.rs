//! Search by date, number and quantity: prefixes and implicit precision. Spec: <https://hl7.org/fhir/R4/search.html#prefix>,
//! <https://hl7.org/fhir/R4/search.html#date>, <https://hl7.org/fhir/R4/search.html#number>, <https://hl7.org/fhir/R4/search.html#quantity>.
//!
//! The expected answers are computed here from the specification's table over half-open ranges, not by the server's code.

use crate::support::world::World;
use serde_json::Value;
use serde_json::json;

const PREFIXES: [&str; 10] = ["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"];

/// The table of the specification, for a resource's range and a query's, both half-open.
/// `fully contains` is of the query's range over the resource's; "the range above the search value" begins where its range ends.
fn holds(prefix: &str, (low, high): (f64, f64), (from, to): (f64, f64)) -> bool {
    let contains = from <= low && high <= to;
    let overlaps_above = high > to;
    let overlaps_below = low < from;
    match prefix {
        "" | "eq" => contains,
        "ne" => !contains,
        "gt" => overlaps_above,
        "lt" => overlaps_below,
        "ge" => overlaps_above || contains,
        "le" => overlaps_below || contains,
        "sa" => low >= to,
        "eb" => high <= from,
        "ap" => low < to && high > from,
        _ => unreachable!("{prefix}"),
    }
}

/// Seconds since 1970 of a date of any precision: its range. Our own reading, by chrono.
fn seconds(text: &str) -> (f64, f64) {
    use chrono::Datelike;
    let day = |text: &str| chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").unwrap();
    let midnight = |day: chrono::NaiveDate| day.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp() as f64;
    match text.len() {
        4 => (
            midnight(day(&format!("{text}-01-01"))),
            midnight(day(&format!("{}-01-01", text.parse::<i32>().unwrap() + 1))),
        ),
        7 => {
            let first = day(&format!("{text}-01"));
            let next = first.checked_add_months(chrono::Months::new(1)).unwrap();
            assert_eq!(next.day(), 1);
            (midnight(first), midnight(next))
        }
        10 => (midnight(day(text)), midnight(day(text)) + 86_400.0),
        _ => {
            let at = chrono::DateTime::parse_from_rfc3339(text).unwrap();
            let low = at.timestamp() as f64 + f64::from(at.timestamp_subsec_millis()) / 1000.0;
            (low, low + if text.contains('.') { 0.001 } else { 1.0 })
        }
    }
}

const DATES: [(&str, &str); 12] = [
    ("y2023", "2023"),
    ("y2024", "2024"),
    ("m2024-01", "2024-01"),
    ("m2024-02", "2024-02"),
    ("d2023-12-31", "2023-12-31"),
    ("d2024-01-01", "2024-01-01"),
    ("d2024-02-29", "2024-02-29"),
    ("t-noon", "2024-02-29T12:00:00Z"),
    ("t-noon-rome", "2024-02-29T12:00:00+01:00"),
    ("t-millis", "2024-02-29T12:00:00.250Z"),
    ("t-rome-newyear", "2024-01-01T00:30:00+01:00"),
    ("d1899-05-05", "1899-05-05"),
];

const DATE_QUERIES: [&str; 12] = [
    "2023",
    "2024",
    "2024-01",
    "2024-02",
    "2024-02-29",
    "2023-12-31",
    "2024-02-29T12:00:00Z",
    "2024-02-29T12:00:00+01:00",
    "2024-02-29T12:00:00.250Z",
    "2024-01-01",
    "1899",
    "2030-01-01",
];

/// The names for which the condition holds, sorted.
fn expected<'a>(all: &[(&'a str, (f64, f64))], holds: impl Fn((f64, f64)) -> bool) -> Vec<&'a str> {
    let mut names: Vec<&str> = all.iter().filter(|(_, range)| holds(*range)).map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

#[track_caller]
fn check_dates(world: &World, parameter: &str, all: &[(&str, (f64, f64))]) {
    let mut wrong = Vec::new();
    for query in DATE_QUERIES {
        for prefix in PREFIXES.into_iter().filter(|p| *p != "ap") {
            let expected = expected(all, |range| holds(prefix, range, seconds(query)));
            let found = world.find(&format!("{parameter}={prefix}{query}&_count=100"));
            if found != expected {
                wrong.push(format!(
                    "{parameter}={prefix}{query}\n   expected {expected:?}\n   got      {found:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_prefix_compares_dates_of_every_precision_as_the_table_says() {
    let world = World::new();
    let encounter = |at: &str| json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "effectiveDateTime": at});
    let mut resources: Vec<(&str, Value)> = DATES.iter().map(|(name, at)| (*name, encounter(at))).collect();
    resources.push((
        "without",
        json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}}),
    ));
    world.load(resources);
    let all: Vec<_> = DATES.iter().map(|(name, at)| (*name, seconds(at))).collect();
    check_dates(&world, "Observation?date", &all);
}

#[test]
fn every_prefix_compares_dates_that_are_not_the_first_of_their_type() {
    let world = World::new();
    // Several dates of a resource: it is found when one of them fits.
    let goal = |at: &str| json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueDateTime": at});
    world.load(DATES.iter().map(|(name, at)| (*name, goal(at))).collect());
    let all: Vec<_> = DATES.iter().map(|(name, at)| (*name, seconds(at))).collect();
    check_dates(&world, "Observation?value-date", &all);
}

#[test]
fn periods_are_compared_as_ranges_open_where_an_end_is_missing() {
    let world = World::new();
    let periods = [
        ("closed", Some("2024-01-10"), Some("2024-01-20")),
        ("long", Some("2001"), Some("2024-02-29T12:00:00Z")),
        ("since", Some("2024-01-15"), None),
        ("until", None, Some("2023")),
        ("moment", Some("2024-02-29T12:00:00Z"), Some("2024-02-29T12:00:00Z")),
    ];
    let encounter = |start: Option<&str>, end: Option<&str>| {
        let mut period = json!({});
        for (name, at) in [("start", start), ("end", end)] {
            if let Some(at) = at {
                period[name] = json!(at);
            }
        }
        json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "period": period})
    };
    world.load(periods.iter().map(|(name, start, end)| (*name, encounter(*start, *end))).collect());
    let range = |start: Option<&str>, end: Option<&str>| {
        (
            start.map_or(f64::NEG_INFINITY, |at| seconds(at).0),
            end.map_or(f64::INFINITY, |at| seconds(at).1),
        )
    };
    let all: Vec<_> = periods.iter().map(|(name, start, end)| (*name, range(*start, *end))).collect();
    check_dates(&world, "Encounter?date", &all);
    world.check(&[
        ("Encounter?date=ge2024-01-12&date=le2024-01-13", &["closed", "long"]),
        ("Encounter?date=gt2030", &["since"]),
        ("Encounter?date=lt1900", &["until"]),
    ]);
}

#[test]
fn approximately_takes_what_is_near() {
    let world = World::new();
    let born = |at: &str| json!({"resourceType": "Patient", "birthDate": at});
    world.load(vec![("exact", born("1980-06-15")), ("far", born("1950-01-01"))]);
    assert_eq!(world.find("Patient?birthdate=ap1980-06-15"), ["exact"]);
    assert_eq!(world.find("Patient?birthdate=ap1980"), ["exact"]);
    // "10% of the gap between now and the date": decades back some years, and today nothing. <https://hl7.org/fhir/R4/search.html#prefix>
    let today = chrono::Utc::now().date_naive();
    let back = |days: i64| (today - chrono::Days::new(days as u64)).to_string();
    let gap = (today - chrono::NaiveDate::from_ymd_opt(1980, 6, 15).unwrap()).num_days();
    for (days, expected) in [(0, true), (gap / 100, true), (gap / 13, true), (gap / 8, false)] {
        // The gap is that of the date asked for, which is larger by these days.
        let found = world.find(&format!("Patient?birthdate=ap{}", back(gap + days)));
        assert_eq!(found.contains(&"exact".to_owned()), expected, "{days} days before");
    }
    world.put("recent", born(&back(1)));
    assert_eq!(world.find(&format!("Patient?birthdate=ap{}", back(0))), Vec::<String>::new());
    assert_eq!(world.find(&format!("Patient?birthdate=ap{}", back(1))), ["recent"]);
}

#[test]
fn two_dates_make_a_range_and_commas_alternatives() {
    let world = World::new();
    let born = |at: &str| json!({"resourceType": "Patient", "birthDate": at});
    world.load(vec![
        ("a", born("1980-01-01")),
        ("b", born("1985-05")),
        ("c", born("1990")),
        ("none", json!({"resourceType": "Patient"})),
    ]);
    world.check(&[
        ("Patient?birthdate=ge1981&birthdate=le1989", &["b"]),
        ("Patient?birthdate=1980-01-01,1990", &["a", "c"]),
        ("Patient?birthdate=1980,1985", &["a", "b"]),
        ("Patient?birthdate=ne1980", &["b", "c"]),
        ("Patient?birthdate=lt1981,gt1989", &["a", "c"]),
        ("Patient?birthdate=1985-05-01", &[]),
        ("Patient?birthdate:missing=true", &["none"]),
    ]);
}

#[test]
fn dates_that_are_none_are_refused() {
    let server = crate::support::server::shared();
    for date in [
        "2024-13",
        "2024-02-30",
        "2024-2-3",
        "24",
        "x",
        "ge",
        "ge ",
        "gege2024",
        "xx2024",
        "2024-01-01T",
        "2024-01-01T25:00:00Z",
        "2024-01-01T10:00:00+99:99",
        "9999999-99-99",
        "2024-01-01T10:00:61Z",
        "0000",
        "-2024",
        "+2024",
        "2024-00",
        "2024-01-00",
        "2023-02-29",
        "2024-01-01 10:00",
        "today",
        "99999",
        "2024/01/01",
    ] {
        for parameter in [
            "Patient?birthdate",
            "Patient?_lastUpdated",
            "Observation?date",
            "Observation?value-date",
            "Patient?death-date",
        ] {
            let answer = server.get(&format!("/{parameter}={date}"));
            // The year 0 is a date by the regular expression of the specification.
            assert!(
                answer.status == 400 || date == "0000" && answer.status == 200,
                "{parameter}={date}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    for date in [
        "2016-12-31T23:59:60Z",
        "2024-12-31T24:00:00Z",
        "0001-01-01",
        "9999-12-31",
        "2024-01-01T10:00",
        "2024-01-01T10:00:00.123456Z",
    ] {
        let status = server.get(&format!("/Patient?birthdate={date}")).status;
        assert!(matches!(status, 200 | 400), "{date}: {status}");
    }
}

/// The range that a number of this many digits stands for.
fn implicit(text: &str) -> (f64, f64) {
    let value: f64 = text.parse().unwrap();
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let decimals = digits.split_once('.').map_or(0, |(_, d)| d.len() as i32);
    let half = 0.5 * 10f64.powi(exponent.parse::<i32>().unwrap() - decimals);
    (value - half, value + half)
}

/// The table for a number: gt, lt, ge and le compare with the exact value; eq and ne use the implicit precision.
fn number_holds(prefix: &str, value: f64, query: &str) -> bool {
    let exact: f64 = query.parse().unwrap();
    let (from, to) = implicit(query);
    let contains = from <= value && value < to;
    match prefix {
        "" | "eq" => contains,
        "ne" => !contains,
        "gt" | "sa" => value > exact,
        "lt" | "eb" => value < exact,
        "ge" => value >= exact,
        "le" => value <= exact,
        "ap" => (value - exact).abs() <= exact.abs() / 10.0,
        _ => unreachable!("{prefix}"),
    }
}

const NUMBERS: [(&str, &str); 13] = [
    ("zero", "0"),
    ("half", "0.5"),
    ("n99", "99"),
    ("n99-5", "99.5"),
    ("n99-4999", "99.4999"),
    ("n100", "100"),
    ("n100-0", "100.00"),
    ("n100-4", "100.4"),
    ("n100-5", "100.5"),
    ("n110", "110"),
    ("minus", "-1"),
    ("small", "0.001"),
    ("big", "1000000"),
];

const NUMBER_QUERIES: [&str; 10] = ["100", "100.0", "100.00", "1e2", "99.5", "0", "-1", "0.001", "1e-3", "1000000"];

#[test]
fn every_prefix_compares_numbers_with_implicit_precision() {
    let world = World::new();
    // The text of the decimal, not a number of ours: 100.00 stays 100.00.
    let raw = |text: &str| -> Value {
        serde_json::from_str(&format!("{{\"resourceType\":\"RiskAssessment\",\"status\":\"final\",\"subject\":{{\"display\":\"x\"}},\"prediction\":[{{\"probabilityDecimal\":{text}}}]}}")).unwrap()
    };
    world.load(NUMBERS.iter().map(|(name, text)| (*name, raw(text))).collect());
    let mut wrong = Vec::new();
    for query in NUMBER_QUERIES {
        for prefix in PREFIXES {
            let mut expected: Vec<&str> = NUMBERS
                .iter()
                .filter(|(_, v)| number_holds(prefix, v.parse().unwrap(), query))
                .map(|(n, _)| *n)
                .collect();
            expected.sort_unstable();
            let found = world.find(&format!("RiskAssessment?probability={prefix}{query}&_count=100"));
            if found != expected {
                wrong.push(format!(
                    "probability={prefix}{query}\n   expected {expected:?}\n   got      {found:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_edges_of_implicit_precision_are_where_the_specification_puts_them() {
    let world = World::new();
    let value = |text: &str| -> Value {
        serde_json::from_str(&format!("{{\"resourceType\":\"Observation\",\"status\":\"final\",\"code\":{{\"text\":\"x\"}},\"valueQuantity\":{{\"value\":{text},\"unit\":\"mg\",\"system\":\"http://unitsofmeasure.org\",\"code\":\"mg\"}}}}")).unwrap()
    };
    world.load(vec![
        ("v535", value("5.35")),
        ("v5449", value("5.449")),
        ("v545", value("5.45")),
        ("v54", value("5.4")),
        ("v5349", value("5.349")),
        ("v5395", value("5.395")),
        ("v5405", value("5.405")),
    ]);
    world.check(&[
        // [5.35, 5.45)
        ("Observation?value-quantity=5.4", &["v535", "v5395", "v54", "v5405", "v5449"]),
        // [5.395, 5.405)
        ("Observation?value-quantity=5.40", &["v5395", "v54"]),
        ("Observation?value-quantity=5.4e0", &["v535", "v5395", "v54", "v5405", "v5449"]),
        ("Observation?value-quantity=5.40e-0", &["v5395", "v54"]),
        (
            "Observation?value-quantity=5",
            &["v5349", "v535", "v5395", "v54", "v5405", "v5449", "v545"],
        ),
        ("Observation?value-quantity=ge5.45", &["v545"]),
        ("Observation?value-quantity=gt5.45", &[]),
    ]);
}

#[test]
fn quantities_are_compared_with_their_unit_in_all_its_forms() {
    let world = World::new();
    let value =
        |quantity: Value| json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueQuantity": quantity});
    let ucum = "http://unitsofmeasure.org";
    world.load(vec![
        (
            "mg",
            value(json!({"value": 5.4, "unit": "milligrammi", "system": ucum, "code": "mg"})),
        ),
        ("g", value(json!({"value": 5.4, "unit": "g", "system": ucum, "code": "g"}))),
        ("other-mg", value(json!({"value": 5.4, "system": "urn:other", "code": "mg"}))),
        ("text", value(json!({"value": 5.4, "unit": "mg"}))),
        ("bare", value(json!({"value": 5.4}))),
        ("none", value(json!({"unit": "mg"}))),
        ("more", value(json!({"value": 6, "system": ucum, "code": "mg"}))),
        (
            "string",
            json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueString": "5.4"}),
        ),
    ]);
    world.check(&[
        ("Observation?value-quantity=5.4", &["bare", "g", "mg", "other-mg", "text"]),
        ("Observation?value-quantity=5.4|http://unitsofmeasure.org|mg", &["mg"]),
        ("Observation?value-quantity=5.4||mg", &["mg", "other-mg", "text"]),
        ("Observation?value-quantity=5.4|urn:other|mg", &["other-mg"]),
        ("Observation?value-quantity=gt5.4|http://unitsofmeasure.org|mg", &["g", "more"]),
        ("Observation?value-quantity=le6|http://unitsofmeasure.org|mg", &["mg", "more"]),
        ("Observation?value-quantity=5.4||mg,6", &["mg", "more", "other-mg", "text"]),
        ("Observation?value-quantity=ap5||mg", &["mg", "other-mg", "text"]),
        (
            "Observation?value-quantity=ge5&value-quantity=lt6",
            &["bare", "g", "mg", "other-mg", "text"],
        ),
    ]);
}

#[test]
fn numbers_that_are_none_are_refused() {
    let server = crate::support::server::shared();
    for number in [
        "x",
        "1e400",
        "1e1000000000",
        "gt",
        "NaN",
        "inf",
        "1,5,",
        "0x10",
        "--1",
        "1e",
        "e5",
        "1.2.3",
        "+-1",
        "1 2",
        "1e99999999999999999999",
    ] {
        for parameter in ["RiskAssessment?probability", "Observation?value-quantity"] {
            server.get(&format!("/{parameter}={number}")).refused(400);
        }
    }
    for quantity in ["5.4|mg", "5.4|a|b|c", "|a|b", "5.4 mg"] {
        server.get(&format!("/Observation?value-quantity={quantity}")).refused(400);
    }
}
