//! How values are written: in all the forms that the specification has, and of what the population holds.

use crate::features::is_on;
use crate::near::kilometres;
use crate::population::pick;
use crate::population::pools;
use crate::queries::Features;
use crate::ranges::PREFIXES;
use crate::ranges::Span;
use crate::ranges::WITHOUT_BEGINNING;
use crate::ranges::WITHOUT_END;
use crate::values::Typed;
use crate::values::escape;
use crate::words::LIST;
use chrono::DateTime;
use chrono::SecondsFormat;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;

/// What `_text` and `_content` ask for.
pub fn words(rng: &mut StdRng, name: &str) -> String {
    let (one, other) = (pick(rng, &LIST), pick(rng, &LIST));
    match rng.random_range(0..8) {
        0 => format!("{one} {other}"),
        1 => format!("{one} or {other}"),
        2 if one != other => format!("{one} -{other}"),
        3 => format!("{one},{other}"),
        4 => one.to_uppercase(),
        // Which strings follow each other in a resource is nobody's business.
        5 if name == "_text" => format!("\"{one} {other}\""),
        _ => one.to_owned(),
    }
}

pub fn near(rng: &mut StdRng) -> String {
    let place = |rng: &mut StdRng| *pools::PLACES.choose(rng).expect("places");
    let (center, other) = (place(rng), place(rng));
    let degrees = |(latitude, longitude): (&str, &str)| (latitude.parse().expect("a number"), longitude.parse().expect("a number"));
    // A little more or less than what lies between two places.
    let distance = kilometres(degrees(center), degrees(other)) * [0.995, 1.005].choose(rng).expect("a factor");
    let (latitude, longitude) = center;
    match rng.random_range(0..8) {
        0 => format!("{latitude}|{longitude}"),
        1 => format!("{latitude}|{longitude}|{distance:.6}"),
        2 => format!("{latitude}|{longitude}|{:.3}|m", distance * 1000.0),
        3 => format!("{latitude}|{longitude}|{}|[mi_us]", pick(rng, &["0.1", "3", "500"])),
        4 => format!("{latitude}|{longitude}|{}|km", pick(rng, &["0", "9000", "20000", "25000"])),
        _ => format!("{latitude}|{longitude}|{distance:.6}|km"),
    }
}

pub fn of_type(rng: &mut StdRng, samples: &[Typed<'_>]) -> String {
    let identifiers: Vec<&Value> = samples
        .iter()
        .filter_map(|s| if let Typed::Identifier(i) = s { Some(*i) } else { None })
        .collect();
    let typed: Vec<&&Value> = identifiers
        .iter()
        .filter(|i| i["type"].is_object() && i["value"].is_string())
        .collect();
    let (code, value) = match typed.choose(rng) {
        Some(identifier) => (
            identifier["type"]["coding"][0]["code"].as_str().unwrap_or("MR"),
            identifier["value"].as_str().unwrap_or("a"),
        ),
        None => (pick(rng, &["MR", "SS"]), pick(rng, pools::CODES)),
    };
    format!("http://terminology.hl7.org/CodeSystem/v2-0203|{code}|{}", escape(value))
}

/// `has_systems`: the values are codings or identifiers; else "only the `[parameter]=[code]` form is allowed", or the implied system's.
pub fn token(rng: &mut StdRng, sample: Option<&Typed<'_>>, has_systems: bool, is_counted: bool, features: &mut Features) -> String {
    let (system, code) = match sample {
        Some(Typed::Coded { system, code }) => (system.map(str::to_owned), code.map(str::to_owned)),
        Some(Typed::Plain { code, implied, folds }) => {
            if *folds && is_counted {
                features.push("token of a string");
            }
            let text = escape(&if *folds && rng.random_bool(0.5) {
                code.to_uppercase()
            } else {
                code.clone()
            });
            return match implied {
                Some(system) if rng.random_bool(0.3) => format!("{}|{text}", escape(system)),
                _ => text,
            };
        }
        _ if !has_systems => return escape(pick(rng, pools::CODES)),
        _ => (Some(pick(rng, pools::SYSTEMS).to_owned()), Some(pick(rng, pools::CODES).to_owned())),
    };
    let code = code.unwrap_or_else(|| pick(rng, pools::CODES).to_owned());
    let (form, text) = match (rng.random_range(0..10), system) {
        (0..=3, Some(system)) => ("token system|code", format!("{}|{}", escape(&system), escape(&code))),
        (4, Some(system)) => ("token system|", format!("{}|", escape(&system))),
        (0..=3, None) | (4, None) | (5, Some(_)) => ("token |code", format!("|{}", escape(&code))),
        _ => ("token", escape(&code)),
    };
    if is_counted {
        features.push(form);
    }
    text
}

pub fn string(rng: &mut StdRng, sample: Option<&Typed<'_>>, modifier: &str) -> String {
    let word = match sample {
        Some(Typed::Strings(strings)) => strings.choose(rng).copied().unwrap_or("a"),
        _ => pick(rng, pools::WORDS),
    };
    let letters: Vec<char> = word.chars().collect();
    let (from, to) = match (modifier, rng.random_bool(0.4)) {
        ("exact", _) if rng.random_bool(0.8) => (0, letters.len()),
        ("contains", _) => {
            let from = rng.random_range(0..letters.len());
            (from, rng.random_range(from + 1..=letters.len()))
        }
        (_, true) => (0, letters.len()),
        _ => (0, rng.random_range(1..=letters.len())),
    };
    let mut text: String = letters[from..to].iter().collect();
    match rng.random_range(0..6) {
        0 if modifier != "exact" => text = text.to_uppercase().replace("SS", "ss"),
        1 if modifier != "exact" => text = text.to_lowercase(),
        _ => {}
    }
    // A part that folds to nothing asks for nothing, and one without three letters or digits in a row is too costly.
    let folded = crate::values::fold(&text);
    let has_three = folded.split(|c: char| !c.is_alphanumeric()).any(|word| word.chars().count() >= 3);
    match folded.is_empty() || modifier == "contains" && !has_three {
        true => "ross".to_owned(),
        false => escape(&text),
    }
}

pub fn prefixed(rng: &mut StdRng, kind: &str, text: &str, features: &mut Features) -> String {
    let prefix = pick(rng, &PREFIXES);
    let name = format!("{kind} {prefix}");
    let feature = crate::features::FEATURES.iter().find(|(feature, _, _)| *feature == name);
    features.push(feature.expect("a feature for each prefix").0);
    match prefix {
        "eq" if rng.random_bool(0.7) => text.to_owned(),
        _ => format!("{prefix}{text}"),
    }
}

/// A date that a span begins or ends with, to some precision.
pub fn moment_of(rng: &mut StdRng, span: &Span) -> String {
    let ends: Vec<i64> = [span.low, span.high]
        .into_iter()
        .filter(|end| ![WITHOUT_BEGINNING, WITHOUT_END].contains(end))
        .collect();
    let end = ends.choose(rng).copied().unwrap_or_default();
    let text = DateTime::from_timestamp_micros(end)
        .expect("a date")
        .to_rfc3339_opts(SecondsFormat::Millis, true);
    let length = *[4, 7, 10, 16, 19, text.len()].choose(rng).expect("a length");
    format!("{}{}", &text[..length], if [16, 19].contains(&length) { "Z" } else { "" })
}

/// A number of the population, perhaps written with another precision.
pub fn number(rng: &mut StdRng) -> String {
    match rng.random_range(0..4) {
        0 => pick(
            rng,
            &[
                "1.0", "1e0", "1.00", "5.40", "1e1", "100.00", "1e2", "5.4e-3", "0", "2", "3", "-3.0", "1.05e1", "5.35",
            ],
        )
        .to_owned(),
        _ => pick(rng, pools::NUMBERS).to_owned(),
    }
}

/// The number of a value, or another.
pub fn number_of(rng: &mut StdRng, sample: Option<&Typed<'_>>) -> String {
    match sample {
        Some(Typed::Quantity(interval, _)) if rng.random_bool(0.6) => {
            interval.low.or(interval.high).map_or_else(|| number(rng), |n| n.to_string())
        }
        _ => number(rng),
    }
}

pub fn quantity(rng: &mut StdRng, sample: Option<&Typed<'_>>, features: &mut Features) -> String {
    let number = number_of(rng, sample);
    let unit = match sample {
        Some(Typed::Quantity(_, Some(unit))) if rng.random_bool(0.7) => unit["code"].as_str().unwrap_or("mg"),
        _ => pick(rng, pools::UNITS),
    };
    let text = match rng.random_range(0..5) {
        0 | 1 => number,
        2 => {
            features.push("quantity ||unit");
            let all = [unit, unit, "EUR", "people's unit"];
            format!(
                "{number}||{}",
                pick(rng, if is_on("unit as people write it") { &all } else { &all[..3] })
            )
        }
        _ => {
            features.push("quantity system|code");
            let system = pick(rng, &["http://unitsofmeasure.org", "http://unitsofmeasure.org", "urn:units"]);
            format!("{number}|{system}|{unit}")
        }
    };
    prefixed(rng, "quantity", &text, features)
}
