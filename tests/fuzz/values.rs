//! Values: right ones of each primitive datatype, and odd ones that are right for none.

use crate::tree::Node;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Family names that nothing else has: the log must not know them.
pub const FAMILIES: [&str; 4] = ["Quattrocchi", "Cinquepalmi", "Settebellezze", "Ottolenghi Dell'Òrto"];
pub const WORDS: [&str; 8] = ["rosso", "Ermenegilda", "a", "Straße", "100%", "a_b", "x, y", "日本語 😀"];
pub const SYSTEMS: [&str; 5] = [
    "urn:s:1",
    "http://loinc.org",
    "urn:oid:2.16.840.1.113883.2.9.4.3.2",
    "http://hl7.it/sid/codiceFiscale",
    "http://example.org/cs",
];
pub const CODES: [&str; 7] = ["8480-6", "a", "A", "b.c", "final", "c,d", "P00"];
pub const DATES: [&str; 8] = [
    "2024",
    "2024-02",
    "2024-02-29",
    "0001-01-01",
    "9999-12-31",
    "2024-01-31T23:30:00-01:00",
    "2024-01-01T00:00:00.500Z",
    "1970-01-01T00:00:00Z",
];
pub const NUMBERS: [&str; 9] = ["0", "1", "-1.50", "5.40", "1e2", "120", "0.000001", "1E-10", "99999999999999.999"];
pub const URIS: [&str; 5] = [
    "http://example.org/a/b",
    "urn:oid:1.2.3",
    "urn:uuid:6f0e1c1a-0000-4000-8000-000000000001",
    "http://hl7.org/fhir/ValueSet/x|4",
    "mailto:a@b",
];

/// Text that means something to somebody on its way: encodings, SQL, patterns, paths, markup, bounds.
pub const ODD_TEXTS: [&str; 30] = [
    "",
    " ",
    "\u{0}",
    "\u{1}",
    "'",
    "\"",
    "\\",
    "';drop table resource;--",
    "%",
    "_",
    "%00",
    "../../etc",
    "null",
    "true",
    "-0",
    "NaN",
    "1e400",
    "99999999999999999999999999999999999999",
    "2024-13-45",
    "24",
    "\u{feff}x",
    "\u{202e}abc",
    "e\u{301}",
    "İ",
    "ﷺ",
    "\u{10ffff}",
    "<div>",
    "#",
    "${x}",
    "a\nb",
];

/// JSON that is out of place nearly everywhere.
const ODD_NODES: [&str; 22] = [
    "null",
    "{}",
    "[]",
    "\"\"",
    "true",
    "0",
    "-1",
    "1e400",
    "-1e-400",
    "1E+2147483648",
    "0.10000000000000000000000000000000000000000000000000000000000001",
    "9223372036854775808",
    "[null]",
    "[{}]",
    "[[]]",
    "{\"a\":1}",
    "{\"resourceType\":\"Patient\"}",
    "{\"reference\":\"#\"}",
    "{\"extension\":[{\"url\":\"u\"}]}",
    "\"\\u0000\"",
    "\"\\ud83d\"",
    "\"\\u0041\\/\"",
];

pub fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(rng).copied().unwrap_or("")
}

/// A right value of a primitive datatype.
pub fn primitive(rng: &mut StdRng, datatype: &str) -> Node {
    match datatype {
        "boolean" => Node::raw(pick(rng, &["true", "false"])),
        "integer" => Node::raw(pick(rng, &["0", "-1", "7", "2147483647", "-2147483648"])),
        "positiveInt" => Node::raw(pick(rng, &["1", "2147483647"])),
        "unsignedInt" => Node::raw(pick(rng, &["0", "3", "2147483647"])),
        "decimal" => Node::raw(pick(rng, &NUMBERS)),
        "date" => Node::text(pick(rng, &DATES[..5])),
        "dateTime" => Node::text(pick(rng, &DATES)),
        "instant" => Node::text(pick(rng, &DATES[5..])),
        "time" => Node::text(pick(rng, &["00:00:00", "23:59:59.999"])),
        "id" => Node::text(pick(rng, &["a", "A-1.b"])),
        "code" => Node::text(pick(rng, &["a", "text/plain", "it"])),
        "oid" => Node::text("urn:oid:1.2.3"),
        "uuid" => Node::text("urn:uuid:6f0e1c1a-0000-4000-8000-000000000001"),
        "uri" | "url" | "canonical" => Node::text(pick(rng, &URIS)),
        "base64Binary" => Node::text(pick(rng, &["AA==", "Zm9v"])),
        "xhtml" => Node::text("<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>testo</p></div>"),
        _ => match rng.random_range(0..40) {
            0 => Node::text(&"lungo ".repeat(3_000)),
            1..4 => Node::text(&format!("{} {}", pick(rng, &FAMILIES), pick(rng, &WORDS))),
            _ => Node::text(pick(rng, &WORDS)),
        },
    }
}

pub fn odd_node(rng: &mut StdRng) -> Node {
    match rng.random_range(0..12) {
        0..6 => Node::raw(pick(rng, &ODD_NODES)),
        6..10 => Node::text(pick(rng, &ODD_TEXTS)),
        10 => Node::raw(format!("{}1{}", "[".repeat(60), "]".repeat(60))),
        _ => Node::raw("9".repeat(rng.random_range(1..200))),
    }
}

/// A text with up to three changes, each of a character or an odd text at some place.
pub fn mutated(rng: &mut StdRng, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=chars.len());
        match rng.random_range(0..4) {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 => chars.truncate(at),
            2 => chars.insert(at, *b"|,$\\:.&=;-+ 0aT".choose(rng).unwrap_or(&b'x') as char),
            _ => {
                let odd: Vec<char> = pick(rng, &ODD_TEXTS).chars().collect();
                chars.splice(at..at, odd);
            }
        }
    }
    chars.into_iter().collect()
}
