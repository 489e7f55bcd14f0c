//! Random code systems and value sets of a population.

use crate::population::pick;
use crate::population::pools;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::seq::SliceRandom;
use serde_json::Value;
use serde_json::json;

/// Those that there are: a population changes them, and keeps them all.
pub const CODE_SYSTEMS: [(&str, &str); 3] = [
    ("t-acme", "http://acme.org/codes"),
    ("t-urn", "urn:s:1"),
    ("t-loinc", "http://loinc.org"),
];
pub const VALUE_SETS: [&str; 8] = ["t-1", "t-2", "t-3", "t-4", "t-5", "t-6", "t-7", "t-8"];

/// Codes that each code system has, since value sets filter by them; the others come and go.
pub const KEPT: &[&str] = &["a", "A", "b", "a-b", "8480-6"];

pub fn url_of(id: &str) -> String {
    format!("http://acme.org/vs/{id}")
}

pub fn code_system(rng: &mut StdRng, id: &str) -> Value {
    let (_, url) = CODE_SYSTEMS.iter().find(|(name, _)| *name == id).expect("a code system");
    let mut codes = pools::CODES.to_vec();
    codes.retain(|code| KEPT.contains(code) || rng.random_bool(0.6));
    codes.shuffle(rng);
    let mut concepts: Vec<Value> = Vec::new();
    // A code has parents among those before it: no code is above itself.
    for (place, code) in codes.iter().enumerate() {
        let mut properties = Vec::new();
        // One has the property always: a filter by what no concept has is refused.
        if *code == KEPT[0] || rng.random_bool(0.5) {
            properties.push(json!({"code": "p", "valueString": pick(rng, &["x", "y", "xy"])}));
        }
        if rng.random_bool(0.15) {
            properties.push(json!({"code": "inactive", "valueBoolean": true}));
        }
        let before = &codes[..place];
        if rng.random_bool(0.3)
            && let Some(parent) = before.choose(rng)
        {
            properties.push(json!({"code": pick(rng, &["parent", "subsumedBy"]), "valueCode": parent}));
        }
        let mut concept = json!({"code": code});
        if !properties.is_empty() {
            concept["property"] = Value::Array(properties);
        }
        // Under another, beside it, or named by it as a child.
        let above = before.choose(rng).copied().filter(|_| rng.random_bool(0.7));
        match above {
            Some(parent) if rng.random_bool(0.2) => {
                let child = json!({"code": "child", "valueCode": code});
                with(&mut concepts, parent, &mut |parent| push(parent, "property", child.clone()));
                concepts.push(concept);
            }
            Some(parent) => with(&mut concepts, parent, &mut |parent| push(parent, "concept", concept.clone())),
            None => concepts.push(concept),
        }
    }
    json!({"resourceType": "CodeSystem", "id": id, "status": "active", "content": "complete", "url": url, "concept": concepts})
}

fn with(concepts: &mut [Value], code: &str, change: &mut impl FnMut(&mut Value)) {
    for concept in concepts {
        if concept["code"] == code {
            change(concept);
        }
        if let Some(inner) = concept.get_mut("concept").and_then(Value::as_array_mut) {
            with(inner, code, change);
        }
    }
}

fn push(into: &mut Value, member: &str, value: Value) {
    match into[member].as_array_mut() {
        Some(values) => values.push(value),
        None => into[member] = json!([value]),
    }
}

pub fn value_set(rng: &mut StdRng, id: &str) -> Value {
    let include: Vec<Value> = (0..rng.random_range(1..=2)).map(|_| part(rng, id)).collect();
    let mut compose = json!({"include": include});
    if rng.random_bool(0.5) {
        // Of what is included, mostly: else nothing is excluded.
        let mut excluded = part(rng, id);
        if let Some(system) = compose["include"][0]
            .get("system")
            .filter(|_| excluded.get("system").is_some() && rng.random_bool(0.8))
        {
            excluded["system"] = system.clone();
        }
        compose["exclude"] = json!([excluded]);
    }
    if rng.random_bool(0.2) {
        compose["inactive"] = json!(rng.random_bool(0.5));
    }
    json!({"resourceType": "ValueSet", "id": id, "status": "active", "url": url_of(id), "compose": compose})
}

fn part(rng: &mut StdRng, id: &str) -> Value {
    let mut part = json!({});
    // A value set is made of those before it: none stands in itself.
    let place = VALUE_SETS.iter().position(|other| *other == id).expect("a value set");
    if rng.random_bool(0.3)
        && let Some(other) = VALUE_SETS[..place].choose(rng)
    {
        part["valueSet"] = json!([url_of(other)]);
        if rng.random_bool(0.5) {
            return part;
        }
    }
    part["system"] = json!(pick(
        rng,
        &[
            "http://acme.org/codes",
            "urn:s:1",
            "http://loinc.org",
            "urn:oid:2.16.840.1.113883.6.1"
        ]
    ));
    match rng.random_range(0..10) {
        0 | 1 => {}
        2..=4 => {
            let codes = pools::CODES.choose_multiple(rng, 3).map(|code| json!({"code": code}));
            part["concept"] = codes.collect();
        }
        _ => {
            let filters = (0..*[1, 1, 2].choose(rng).expect("a number")).map(|_| filter(rng));
            part["filter"] = filters.collect();
        }
    }
    part
}

fn filter(rng: &mut StdRng) -> Value {
    let pair = |rng: &mut StdRng, from: &[&str]| format!("{},{}", pick(rng, from), pick(rng, from));
    let (property, op, value) = match rng.random_range(0..12) {
        0 => ("code", "=", pick(rng, KEPT).to_owned()),
        1 => ("code", "in", pair(rng, KEPT)),
        2 => ("code", "not-in", pair(rng, KEPT)),
        3 => ("code", "regex", pick(rng, &["a.*", ".*", "b.*"]).to_owned()),
        4 => ("p", "=", pick(rng, &["x", "y"]).to_owned()),
        5 => ("p", "not-in", pair(rng, &["x", "y", "xy"])),
        6 => ("p", "exists", pick(rng, &["true", "false"]).to_owned()),
        7 => ("p", "regex", "x.*".to_owned()),
        _ => {
            let op = pick(rng, &["is-a", "is-a", "descendent-of", "is-not-a", "generalizes"]);
            ("concept", op, pick(rng, KEPT).to_owned())
        }
    };
    json!({"property": property, "op": op, "value": value})
}
