//! The form in which a resource is kept, and back: the members as received, without what the server itself says of them.
//!
//! Kept text: the members of `meta` but `versionId` and `lastUpdated`, a NUL, then the members of the resource but `resourceType`,
//! `id` and `meta`. JSON never holds a NUL, so the two parts cannot be confused. Insignificant white space is dropped;
//! everything else (decimals, order, escapes, `null` twins) stays byte for byte.
//! Spec: <https://hl7.org/fhir/R4/resource.html#Meta>.

use crate::fhir::json::Value;
use crate::fhir::json::quote_into;

/// What the server says of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version<'a> {
    pub type_name: &'a str,
    pub id: &'a str,
    pub version: i32,
    /// An `instant`.
    pub updated: &'a str,
}

/// The text to keep of a resource.
pub fn kept_text(resource: Value<'_>) -> String {
    let mut text = String::with_capacity(resource.span().len());
    if let Some(meta) = resource.get("meta") {
        push_members(meta, &["versionId", "lastUpdated"], &mut text);
    }
    text.push('\0');
    push_members(resource, &["resourceType", "id", "meta"], &mut text);
    text
}

fn push_members(object: Value<'_>, without: &[&str], text: &mut String) {
    let mut is_first = true;
    for (name, value) in object.members() {
        if without.contains(&name.as_ref()) {
            continue;
        }
        if !is_first {
            text.push(',');
        }
        is_first = false;
        quote_into(&name, text);
        text.push(':');
        value.minify_into(text);
    }
}

/// Appends the whole resource as JSON: kept text plus what the server says.
pub fn assemble(version: &Version<'_>, kept: &str, out: &mut String) {
    let (meta, members) = kept.split_once('\0').unwrap_or(("", kept));
    out.reserve(kept.len() + 160);
    out.push_str("{\"resourceType\":\"");
    out.push_str(version.type_name);
    out.push_str("\",\"id\":\"");
    out.push_str(version.id);
    out.push_str("\",\"meta\":{\"versionId\":\"");
    out.push_str(&version.version.to_string());
    out.push_str("\",\"lastUpdated\":\"");
    out.push_str(version.updated);
    out.push('"');
    if !meta.is_empty() {
        out.push(',');
        out.push_str(meta);
    }
    out.push('}');
    if !members.is_empty() {
        out.push(',');
        out.push_str(members);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::json::Document;

    #[test]
    fn a_resource_comes_back_as_it_was_but_for_id_and_meta() {
        let text = r#"{ "resourceType":"Patient", "id":"x", "meta":{"versionId":"7","tag":[{"code":"TAC"}]},
            "address":[{"line":[null,"Via \u0052oma"],"_line":[{"extension":[]},null]}], "multipleBirthInteger": 1 }"#;
        let document = Document::parse_str(text).expect("valid");
        let kept = kept_text(document.root());
        let mut out = String::new();
        assemble(
            &Version {
                type_name: "Patient",
                id: "a",
                version: 2,
                updated: "2026-01-01T00:00:00.000Z",
            },
            &kept,
            &mut out,
        );
        assert_eq!(
            out,
            concat!(
                r#"{"resourceType":"Patient","id":"a","meta":{"versionId":"2","lastUpdated":"2026-01-01T00:00:00.000Z","tag":[{"code":"TAC"}]},"#,
                r#""address":[{"line":[null,"Via \u0052oma"],"_line":[{"extension":[]},null]}],"multipleBirthInteger":1}"#
            )
        );
        let again = Document::parse_str(&out).expect("valid");
        assert_eq!(kept_text(again.root()), kept);
    }
}
