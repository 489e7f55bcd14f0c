//! Words for what the validator found: kinds of JSON, unknown elements and what stands near them.

use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::validate::program::Role;
use crate::validate::program::ShapeProgram;

/// Most element names in one message.
const NAMES_MAX: usize = 40;
/// Longest name that is compared with others to guess what was meant.
const GUESSED_BYTES_MAX: usize = 40;

pub fn kind(value: Value<'_>) -> &'static str {
    kind_name(value.kind())
}

pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Bool => "a boolean",
        Kind::Number => "a number",
        Kind::String => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}

/// Says what was probably meant, or else what is allowed.
pub fn unknown_element(shape: &ShapeProgram, name: &str) -> String {
    if shape.role != Role::Resource && name == "resourceType" {
        return format!("{} is no resource, so it has no resourceType", shape.path);
    }
    let stem = shape.elements.iter().find(|e| e.is_choice && e.name == name);
    if let Some(choice) = stem {
        let names: Vec<&str> = shape
            .members
            .names()
            .filter(|n| n.starts_with(choice.name.as_str()))
            .take(NAMES_MAX)
            .collect();
        return format!("{name} needs its type in its name: {}", names.join(", "));
    }
    let plain = || shape.members.names().filter(|n| !n.starts_with('_'));
    let near = plain().filter_map(|n| Some((distance(n, name)?, n))).min();
    match near {
        Some((edits, meant)) if edits <= 1 + meant.len() / 4 => format!("{} has no such element; did you mean {meant}?", shape.path),
        _ => {
            let names: Vec<String> = shape
                .elements
                .iter()
                .map(|e| if e.is_choice { format!("{}[x]", e.name) } else { e.name.clone() })
                .collect();
            let more = if names.len() > NAMES_MAX { ", ..." } else { "" };
            format!(
                "{} has no such element; it has {}{more}",
                shape.path,
                names[..names.len().min(NAMES_MAX)].join(", ")
            )
        }
    }
}

/// Edits between two names, capitals and small letters alike; `None` when they are too long to compare.
fn distance(a: &str, b: &str) -> Option<usize> {
    if a.len() > GUESSED_BYTES_MAX || b.len() > GUESSED_BYTES_MAX {
        return None;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    Some(row[b.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("birthDate", "birthdate", 0),
            ("birthDate", "birtDate", 1),
            ("name", "nmae", 2),
            ("", "ab", 2),
        ] {
            assert_eq!(distance(a, b), Some(edits), "{a} {b}");
        }
        assert_eq!(distance("a", &"b".repeat(100_000)), None);
    }
}
