//! Random resources and random searches, compared with a plain evaluation over the JSON in this file.
//! Spec: <https://hl7.org/fhir/R4/search.html>. A failure prints its seed; put it in `SEED` to repeat the run.

use crate::search_ranges::PREFIXES;
use crate::search_ranges::holds;
use crate::search_ranges::number_holds;
use crate::search_ranges::seconds;
use crate::support::world::World;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;
use serde_json::json;

const RESOURCES: usize = 200;
const QUERIES: usize = 300;
/// A seed to repeat, or none.
const SEED: Option<u64> = None;

const SYSTEMS: [&str; 3] = ["urn:s:1", "urn:s:2", ""];
const CODES: [&str; 5] = ["a", "b", "A", "a-b", "c,d"];
const STATUSES: [&str; 3] = ["final", "amended", "registered"];
const DATES: [&str; 9] = [
    "2023",
    "2024",
    "2024-01",
    "2024-02",
    "2024-01-01",
    "2024-01-31",
    "2024-02-01T00:00:00Z",
    "2024-01-31T23:30:00-01:00",
    "2024-01-01T00:00:00.500Z",
];
const STRINGS: [&str; 8] = [
    "Rossi",
    "rossi",
    "Róssi Bianchi",
    "De Rossi",
    "100%",
    "a_b",
    "Straße",
    "rosso, verde",
];
const STRING_QUERIES: [&str; 10] = ["ross", "Rossi", "rossi bianchi", "de", "bianchi", "1", "%", "_", "a_", "rosso, v"];
const NUMBERS: [&str; 8] = ["1", "1.0", "1.04", "0.95", "-3", "10", "10.5", "1e2"];
const PATIENTS: [&str; 4] = ["p1", "p2", "p3", "p4"];

fn resource(rng: &mut StdRng) -> Value {
    let mut coding = json!({});
    let system = SYSTEMS.choose(rng).unwrap();
    if !system.is_empty() {
        coding["system"] = json!(system);
    }
    coding["code"] = json!(CODES.choose(rng).unwrap());
    let mut codings = vec![coding];
    if rng.random_bool(0.3) {
        codings.push(json!({"system": "urn:s:1", "code": CODES.choose(rng).unwrap()}));
    }
    let mut resource = json!({"resourceType": "Observation", "status": STATUSES.choose(rng).unwrap(), "code": {"coding": codings}});
    if rng.random_bool(0.8) {
        resource["effectiveDateTime"] = json!(DATES.choose(rng).unwrap());
    }
    if rng.random_bool(0.7) {
        resource["subject"] = json!({"reference": format!("Patient/~{}", PATIENTS.choose(rng).unwrap())});
    }
    match rng.random_range(0..4) {
        0 => resource["valueString"] = json!(STRINGS.choose(rng).unwrap()),
        1 => resource["valueDateTime"] = json!(DATES.choose(rng).unwrap()),
        2 => resource["valueQuantity"] = serde_json::from_str(&format!("{{\"value\":{}}}", NUMBERS.choose(rng).unwrap())).unwrap(),
        _ => {}
    }
    resource
}

type Holds = Box<dyn Fn(&Value) -> bool>;

/// One condition: as it is written, and what it means.
fn condition(rng: &mut StdRng) -> (String, Holds) {
    match rng.random_range(0..9) {
        0 | 1 => code(rng),
        2 => status(rng),
        3 => date(rng, "date", "effectiveDateTime"),
        4 => date(rng, "value-date", "valueDateTime"),
        5 => string(rng),
        6 => reference(rng),
        7 => quantity(rng),
        _ => missing(rng),
    }
}

fn escaped(code: &str) -> String {
    code.replace(',', "\\,")
}

fn code(rng: &mut StdRng) -> (String, Holds) {
    let mut texts = Vec::new();
    let mut wanted: Vec<(Option<String>, Option<String>)> = Vec::new();
    for _ in 0..rng.random_range(1..=3) {
        let (system, code) = (SYSTEMS.choose(rng).unwrap().to_string(), CODES.choose(rng).unwrap().to_string());
        let (text, pair) = match rng.random_range(0..4) {
            0 => (escaped(&code), (None, Some(code))),
            1 if !system.is_empty() => (format!("{system}|"), (Some(system), None)),
            _ => (format!("{system}|{}", escaped(&code)), (Some(system), Some(code))),
        };
        texts.push(text);
        wanted.push(pair);
    }
    let matches = move |resource: &Value| {
        let codings = resource["code"]["coding"].as_array().unwrap();
        let fits = |coding: &Value, (system, code): &(Option<String>, Option<String>)| {
            system.as_ref().is_none_or(|s| coding["system"].as_str().unwrap_or("") == s)
                && code.as_ref().is_none_or(|c| coding["code"] == c.as_str())
        };
        codings.iter().any(|coding| wanted.iter().any(|pair| fits(coding, pair)))
    };
    match rng.random_bool(0.25) {
        true => (format!("code:not={}", texts.join(",")), Box::new(move |r| !matches(r))),
        false => (format!("code={}", texts.join(",")), Box::new(matches)),
    }
}

fn status(rng: &mut StdRng) -> (String, Holds) {
    let wanted = *STATUSES.choose(rng).unwrap();
    match rng.random_bool(0.3) {
        true => (format!("status:not={wanted}"), Box::new(move |r| r["status"] != wanted)),
        false => (format!("status={wanted}"), Box::new(move |r| r["status"] == wanted)),
    }
}

fn date(rng: &mut StdRng, parameter: &str, member: &'static str) -> (String, Holds) {
    let (prefix, query) = (*PREFIXES[..9].choose(rng).unwrap(), *DATES.choose(rng).unwrap());
    let matches = move |r: &Value| r[member].as_str().is_some_and(|at| holds(prefix, seconds(at), seconds(query)));
    (format!("{parameter}={prefix}{query}"), Box::new(matches))
}

/// Lower case without accents, for the letters that occur here.
fn plain(text: &str) -> String {
    text.to_lowercase().replace('ó', "o")
}

fn string(rng: &mut StdRng) -> (String, Holds) {
    let query = *STRING_QUERIES.choose(rng).unwrap();
    let text = query.replace(',', "\\,");
    let value = |r: &Value| r["valueString"].as_str().map(str::to_owned);
    match rng.random_range(0..3) {
        0 => (
            format!("value-string={text}"),
            Box::new(move |r| value(r).is_some_and(|v| plain(&v).starts_with(&plain(query)))),
        ),
        // What is too short for the index of parts is refused.
        1 if query.chars().count() > 2 => (
            format!("value-string:contains={text}"),
            Box::new(move |r| value(r).is_some_and(|v| plain(&v).contains(&plain(query)))),
        ),
        _ => (
            format!("value-string:exact={text}"),
            Box::new(move |r| value(r).is_some_and(|v| v == query)),
        ),
    }
}

fn reference(rng: &mut StdRng) -> (String, Holds) {
    let wanted: Vec<String> = (0..rng.random_range(1..=2))
        .map(|_| format!("Patient/~{}", PATIENTS.choose(rng).unwrap()))
        .collect();
    let (parameter, prefix) = *[
        ("subject", ""),
        ("patient", ""),
        ("subject:Patient", "Patient/"),
        ("patient", "Patient/"),
    ]
    .choose(rng)
    .unwrap();
    let texts: Vec<&str> = wanted.iter().map(|w| w.strip_prefix(prefix).unwrap()).collect();
    let text = format!("{parameter}={}", texts.join(","));
    (
        text,
        Box::new(move |r| r["subject"]["reference"].as_str().is_some_and(|of| wanted.iter().any(|w| w == of))),
    )
}

fn quantity(rng: &mut StdRng) -> (String, Holds) {
    let (prefix, query) = (*PREFIXES.choose(rng).unwrap(), *NUMBERS.choose(rng).unwrap());
    let matches = move |r: &Value| r["valueQuantity"]["value"].as_f64().is_some_and(|v| number_holds(prefix, v, query));
    (format!("value-quantity={prefix}{query}"), Box::new(matches))
}

fn missing(rng: &mut StdRng) -> (String, Holds) {
    let (parameter, member) = *[
        ("date", "effectiveDateTime"),
        ("value-string", "valueString"),
        ("subject", "subject"),
        ("value-quantity", "valueQuantity"),
    ]
    .choose(rng)
    .unwrap();
    let is_missing = rng.random_bool(0.5);
    (
        format!("{parameter}:missing={is_missing}"),
        Box::new(move |r| r.get(member).is_none() == is_missing),
    )
}

#[test]
fn random_searches_find_what_a_plain_evaluation_finds() {
    let seed = SEED.unwrap_or_else(rand::random);
    let rng = &mut StdRng::seed_from_u64(seed);
    let world = World::new();
    let resources: Vec<(String, Value)> = (0..RESOURCES).map(|i| (format!("r{i:03}"), resource(rng))).collect();
    world.load(resources.iter().map(|(name, r)| (name.as_str(), r.clone())).collect());
    let (mut wrong, mut found_any) = (Vec::new(), 0);
    for _ in 0..QUERIES {
        let conditions: Vec<(String, Holds)> = (0..rng.random_range(1..=3)).map(|_| condition(rng)).collect();
        let texts: Vec<&str> = conditions.iter().map(|(text, _)| text.as_str()).collect();
        let expected: Vec<&str> = resources
            .iter()
            .filter(|(_, r)| conditions.iter().all(|(_, holds)| holds(r)))
            .map(|(name, _)| name.as_str())
            .collect();
        let search = format!("Observation?{}&_count=1000&_total=accurate", texts.join("&"));
        let answer = world.search(&search).expect(200).json();
        let mut found = world.names(&answer, "match");
        found.sort();
        found_any += usize::from(!expected.is_empty());
        if found != expected || answer["total"] != expected.len() {
            let differing =
                |one: &[String], other: &[&str]| one.iter().filter(|n| !other.contains(&n.as_str())).cloned().collect::<Vec<_>>();
            let lacking: Vec<&&str> = expected.iter().filter(|n| !found.iter().any(|f| f == **n)).collect();
            wrong.push(format!(
                "{search}: too many {:?}, lacking {lacking:?}, total {}",
                differing(&found, &expected),
                answer["total"]
            ));
        }
    }
    println!("{QUERIES} searches, {found_any} of them with matches");
    assert!(found_any > QUERIES / 4, "the searches are too narrow to tell anything");
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} of {QUERIES} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
