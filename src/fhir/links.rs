//! References inside a resource text: found, and replaced in place, so that all other bytes stay.
//! Spec: <https://hl7.org/fhir/R4/http.html#trules>, "the server SHALL replace all matching links".

use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::fhir::json::quote_into;
use std::borrow::Cow;

/// Members whose string can name an entry of a Bundle: Reference.reference, and elements of type uri, url and uuid where they carry links.
const LINK_MEMBERS: &[&str] = &["reference", "url", "uri", "valueUri", "valueUrl", "valueUuid", "valueCanonical"];

/// Calls `found` with each string that can be a link; only `reference` when `is_reference` is told.
pub fn each<'d>(value: Value<'d>, found: &mut impl FnMut(Value<'d>, bool)) {
    match value.kind() {
        Kind::Object => {
            for (name, member) in value.members() {
                match member.kind() {
                    Kind::String if LINK_MEMBERS.contains(&name.as_ref()) => found(member, name == "reference"),
                    Kind::Object | Kind::Array => each(member, found),
                    _ => {}
                }
            }
        }
        Kind::Array => value.items().for_each(|item| each(item, found)),
        _ => {}
    }
}

/// Each literal reference (Reference.reference), with the path of the Reference that has it: `performer[1]`.
pub fn references<'d>(value: Value<'d>) -> Vec<(String, Cow<'d, str>)> {
    let mut found = Vec::new();
    push_references(value, "", &mut found);
    found
}

fn push_references<'d>(value: Value<'d>, path: &str, found: &mut Vec<(String, Cow<'d, str>)>) {
    for (name, member) in value.members() {
        let below = match path {
            "" => name.to_string(),
            path => format!("{path}.{name}"),
        };
        match member.kind() {
            Kind::String if name == "reference" => found.extend(member.as_str().map(|text| (path.to_owned(), text))),
            Kind::Object => push_references(member, &below, found),
            Kind::Array => {
                for (i, item) in member.items().enumerate() {
                    push_references(item, &format!("{below}[{i}]"), found);
                }
            }
            _ => {}
        }
    }
}

/// The text of `value` with each link replaced for which `replace` gives another; `None` if nothing changes.
pub fn rewrite(value: Value<'_>, replace: &impl Fn(&str, bool) -> Option<String>) -> Option<String> {
    let (start, text) = (value.span().start, value.raw());
    let mut out = String::new();
    let mut copied = 0;
    each(value, &mut |link, is_reference| {
        let Some(target) = link.as_str().and_then(|old| replace(&old, is_reference)) else {
            return;
        };
        let span = link.span();
        out.push_str(&text[copied..span.start - start]);
        quote_into(&target, &mut out);
        copied = span.end - start;
    });
    if copied == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::json::Document;

    #[test]
    fn references_are_told_with_their_places() {
        let text = r##"{"resourceType":"Observation","subject":{"reference":"Patient/1"},"performer":[{"display":"x"},{"reference":"#p"}],
            "extension":[{"url":"urn:x","valueReference":{"reference":"Basic\/2"}}],"note":[{"text":"Patient/3"}]}"##;
        let document = Document::parse_str(text).expect("valid");
        let found: Vec<(String, String)> = references(document.root()).into_iter().map(|(p, r)| (p, r.into_owned())).collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(p, r)| (p.as_str(), r.as_str())).collect();
        assert_eq!(
            found,
            [
                ("subject", "Patient/1"),
                ("performer[1]", "#p"),
                ("extension[0].valueReference", "Basic/2")
            ]
        );
    }

    #[test]
    fn only_links_that_match_are_replaced() {
        let text = r#"{"identifier":{"value":"urn:uuid:1"},"subject":{"reference":"urn:uuid:1"},"x":[{"valueUri":"urn:uuid:2"}],"other":{"reference":"https:\/\/example\/P\/1"}}"#;
        let document = Document::parse_str(text).expect("valid");
        let replace = |link: &str, _| match link {
            "urn:uuid:1" => Some("Patient/a".to_owned()),
            "https://example/P/1" => Some("P/b".to_owned()),
            _ => None,
        };
        let out = rewrite(document.root(), &replace).expect("changed");
        assert_eq!(
            out,
            r#"{"identifier":{"value":"urn:uuid:1"},"subject":{"reference":"Patient/a"},"x":[{"valueUri":"urn:uuid:2"}],"other":{"reference":"P/b"}}"#
        );
        assert_eq!(rewrite(document.root(), &|_, _| None), None);
    }
}
