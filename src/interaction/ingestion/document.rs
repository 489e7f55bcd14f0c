//! Documents of the ingestion API as units of the write path.
//!
//! A document is registered under its master identifier, which decides, and under its Composition's identifier, by which the same document
//! is recognised when it comes through `/fhir`. A replacement says what it replaces: `relatesTo` is written into the texts of its
//! DocumentReference and Composition before they are planned, and everything else stays as it was received.
//! Source: UA-R ingestion specification 2 and 3.1; <https://hl7.org/fhir/R4/documentreference-definitions.html#DocumentReference.relatesTo>.

use crate::fhir::json::Value;
use crate::fhir::splice::with_item;
use crate::fhir::splice::with_parts;
use crate::interaction::Service;
use crate::interaction::delete::Asked;
use crate::interaction::parse_json;
use crate::interaction::transaction_plan::document_of;
use crate::interaction::transaction_plan::fingerprint;
use crate::interaction::transaction_plan::plan;
use crate::interaction::transaction_read::BundleType;
use crate::interaction::transaction_read::bundle_type;
use crate::interaction::transaction_read::entries;
use crate::interaction::write::is_type;
use crate::outcome::Outcome;
use crate::store::document::DocumentAction;
use crate::store::unit::Unit;

/// Types that head a document, and the member of `relatesTo` that names what is replaced.
pub const HEADS: [(&str, &str); 2] = [("DocumentReference", "target"), ("Composition", "targetReference")];

/// What can be told at the door. Errors: 400 for what is no JSON, no transaction Bundle, or an empty one.
pub fn check(text: &str) -> Result<(), Outcome> {
    let document = parse_json(text.as_bytes())?;
    let bundle = document.root();
    if bundle_type(bundle)? != BundleType::Transaction {
        return Err(Outcome::invalid("The type of the Bundle must be transaction")
            .with_code("value")
            .at("Bundle.type"));
    }
    match bundle.get("entry").is_some_and(|entry| entry.items().next().is_some()) {
        true => Ok(()),
        false => Err(Outcome::invalid("The Bundle of a document has entries")
            .with_code("required")
            .at("Bundle.entry")),
    }
}

/// A new document. Errors: 400 or 422, naming the entry.
pub fn create(service: &Service, identifier: &str, text: &str) -> Result<Unit, Outcome> {
    let document = parse_json(text.as_bytes())?;
    let bundle = document.root();
    let mut unit = plan(service, &service.limits.base_url, bundle, Asked::AsSet)?.unit;
    let (own, fingerprint) = match unit.document.take() {
        Some(DocumentAction::Register { identifiers, fingerprint }) => (identifiers.into_iter().next(), fingerprint),
        _ => identity(service, bundle)?,
    };
    unit.document = Some(DocumentAction::Register {
        identifiers: names(identifier, own),
        fingerprint,
    });
    Ok(unit)
}

/// A document instead of the one that has the identifier; `old` is the DocumentReference and the Composition of that one, as `Type/id`.
/// Errors: 400 or 422, naming the entry.
pub fn replace(service: &Service, identifier: &str, text: &str, old: &[String]) -> Result<Unit, Outcome> {
    let received = parse_json(text.as_bytes())?;
    // Of what was received: the same replacement is recognised whatever it replaces.
    let (own, fingerprint) = identity(service, received.root())?;
    let related = relate(text, received.root(), old);
    let document = parse_json(related.as_bytes())?;
    let mut unit = plan(service, &service.limits.base_url, document.root(), Asked::AsSet)?.unit;
    unit.document = Some(DocumentAction::Replace {
        old: identifier.to_owned(),
        identifiers: names(identifier, own),
        fingerprint,
    });
    Ok(unit)
}

fn names(identifier: &str, own: Option<String>) -> Vec<String> {
    let own = own.filter(|own| own != identifier);
    std::iter::once(identifier.to_owned()).chain(own).collect()
}

/// The document's own identifier and its fingerprint.
fn identity(service: &Service, bundle: Value<'_>) -> Result<(Option<String>, Vec<u8>), Outcome> {
    let entries = entries(bundle, &service.limits.base_url, service.bundle_entries_max)?
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    Ok((document_of(bundle, &entries), fingerprint(&entries)))
}

fn resources<'d>(bundle: Value<'d>) -> impl Iterator<Item = Value<'d>> {
    bundle
        .get("entry")
        .into_iter()
        .flat_map(|list| list.items())
        .filter_map(|entry| entry.get("resource"))
}

/// The Bundle's text with `relatesTo` in the resources that head the document.
fn relate(text: &str, bundle: Value<'_>, old: &[String]) -> String {
    let mut parts = Vec::new();
    for resource in resources(bundle) {
        let head = HEADS.iter().find(|(type_name, _)| is_type(resource, type_name));
        let Some((type_name, member)) = head else { continue };
        let replaced = old
            .iter()
            .find(|reference| reference.split_once('/').is_some_and(|(t, _)| t == *type_name));
        if let Some(reference) = replaced {
            let item = format!("{{\"code\":\"replaces\",\"{member}\":{{\"reference\":\"{reference}\"}}}}");
            parts.push((resource.span(), with_item(resource, "relatesTo", &item)));
        }
    }
    with_parts(text, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_says_what_it_replaces_and_keeps_the_rest() {
        let text = r#"{"resourceType":"Bundle","type":"transaction","entry":[ {"resource":{"resourceType":"Composition","a":1.0}},{"resource":{"resourceType":"Observation"}},
            {"resource":{"resourceType":"DocumentReference","relatesTo":[{"code":"signs"}]}}]}"#;
        let document = parse_json(text.as_bytes()).unwrap();
        let old = ["DocumentReference/d".to_owned(), "Composition/c".to_owned()];
        assert_eq!(
            relate(text, document.root(), &old),
            r#"{"resourceType":"Bundle","type":"transaction","entry":[ {"resource":{"resourceType":"Composition","a":1.0,"relatesTo":[{"code":"replaces","targetReference":{"reference":"Composition/c"}}]}},{"resource":{"resourceType":"Observation"}},
            {"resource":{"resourceType":"DocumentReference","relatesTo":[{"code":"signs"},{"code":"replaces","target":{"reference":"DocumentReference/d"}}]}}]}"#
        );
        assert_eq!(relate(text, document.root(), &[]), text);
    }

    #[test]
    fn the_door_refuses_what_is_no_transaction_bundle() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"resourceType":"Patient"}"#,
            r#"{"resourceType":"Bundle","type":"batch","entry":[{}]}"#,
            r#"{"resourceType":"Bundle","type":"transaction"}"#,
        ] {
            assert_eq!(check(text).unwrap_err().status(), 400, "{text}");
        }
        assert!(check(r#"{"resourceType":"Bundle","type":"transaction","entry":[{}]}"#).is_ok());
    }
}
