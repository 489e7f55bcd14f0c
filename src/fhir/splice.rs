//! JSON text with one member changed: what is not changed stays as it was received, decimals and escapes included.

use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::fhir::json::quote_into;
use std::ops::Range;

/// The object's text with a member set to `value` (JSON text), in its place or at the end; without the member for `None`.
pub fn with_member(object: Value<'_>, name: &str, value: Option<&str>) -> String {
    let mut out = String::with_capacity(object.raw().len() + value.map_or(0, str::len) + name.len() + 4);
    let mut push = |name: &str, value: &str| {
        out.push(if out.is_empty() { '{' } else { ',' });
        quote_into(name, &mut out);
        out.push(':');
        out.push_str(value);
    };
    let mut is_set = false;
    for (key, member) in object.members() {
        match (key == name, value) {
            (false, _) => push(&key, member.raw()),
            (true, Some(value)) => {
                is_set = true;
                push(name, value);
            }
            (true, None) => {}
        }
    }
    if let Some(value) = value.filter(|_| !is_set) {
        push(name, value);
    }
    out.push_str(if out.is_empty() { "{}" } else { "}" });
    out
}

/// The object's text with an item more in the array under `name`.
pub fn with_item(object: Value<'_>, name: &str, item: &str) -> String {
    let items = object.get(name).filter(|array| array.kind() == Kind::Array);
    let mut array = String::from("[");
    for old in items.iter().flat_map(Value::items) {
        array.push_str(old.raw());
        array.push(',');
    }
    array.push_str(item);
    array.push(']');
    with_member(object, name, Some(&array))
}

/// The text with parts of it replaced. The parts are in order and do not overlap.
pub fn with_parts(text: &str, parts: &[(Range<usize>, String)]) -> String {
    let mut out = String::with_capacity(text.len() + parts.iter().map(|part| part.1.len()).sum::<usize>());
    let mut copied = 0;
    for (range, part) in parts {
        out.push_str(&text[copied..range.start]);
        out.push_str(part);
        copied = range.end;
    }
    out.push_str(&text[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::json::Document;

    #[test]
    fn a_member_is_set_in_its_place_added_or_taken_away() {
        let text = r#"{"a": 1.50, "b":["\u0041", null ],"c":{}}"#;
        let document = Document::parse_str(text).unwrap();
        let root = document.root();
        assert_eq!(with_member(root, "b", Some("2")), r#"{"a":1.50,"b":2,"c":{}}"#);
        assert_eq!(
            with_member(root, "d", Some("2")),
            r#"{"a":1.50,"b":["\u0041", null ],"c":{},"d":2}"#
        );
        assert_eq!(with_member(root, "a", None), r#"{"b":["\u0041", null ],"c":{}}"#);
        assert_eq!(with_item(root, "b", "3"), r#"{"a":1.50,"b":["\u0041",null,3],"c":{}}"#);
        assert_eq!(with_item(root, "d", "3"), r#"{"a":1.50,"b":["\u0041", null ],"c":{},"d":[3]}"#);
        let empty = Document::parse_str("{}").unwrap();
        assert_eq!(with_member(empty.root(), "a", Some("1")), r#"{"a":1}"#);
        assert_eq!(with_member(empty.root(), "a", None), "{}");
        assert_eq!(
            with_parts("0123456789", &[(1..3, "x".to_owned()), (5..5, "y".to_owned())]),
            "0x34y56789"
        );
    }
}
