//! Who a resource is: types, ids, and the 64-bit hashes that stand for references and terms in the index.
//!
//! Two different things share a hash with a probability of n²/2⁶⁵: for a thousand million values about 3 %, that any two of them do.
//! Where a false match would matter (ids, conditional writes) the text itself is compared.

use crate::fhir::systems;
use crate::outcome::Outcome;
use xxhash_rust::xxh3::Xxh3;
use xxhash_rust::xxh3::xxh3_64;

/// Longest resource id. <https://hl7.org/fhir/R4/datatypes.html#id>
pub const ID_LENGTH_MAX: usize = 64;

/// The hash of the parts, each with its length, so that ("a","bc") is not ("ab","c").
pub fn hash(parts: &[&str]) -> i64 {
    let mut hasher = Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u32).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.digest() as i64
}

/// The hash under which a resource is referenced: of `Type/id`, or of an absolute URL that is not ours.
pub fn reference_hash(reference: &str) -> i64 {
    xxh3_64(reference.as_bytes()) as i64
}

/// [`reference_hash`] of a resource of ours.
pub fn self_hash(type_name: &str, id: &str) -> i64 {
    let mut hasher = Xxh3::new();
    hasher.update(type_name.as_bytes());
    hasher.update(b"/");
    hasher.update(id.as_bytes());
    hasher.digest() as i64
}

/// The hash under which a contained resource is referenced within its container, which has this hash.
pub fn contained_hash(container: i64, id: &str) -> i64 {
    let mut hasher = Xxh3::new();
    hasher.update(&container.to_le_bytes());
    hasher.update(b"#");
    hasher.update(id.as_bytes());
    hasher.digest() as i64
}

/// The key of a person in the registry of assistance (RDA), which names nobody by itself. Without a system an identifier is a codice fiscale;
/// its case does not matter. The same hash is a term of the Patient's row.
pub fn assistance_key(system: &str, value: &str) -> i64 {
    let system = if system.is_empty() {
        systems::CODICE_FISCALE
    } else {
        systems::canonical(system)
    };
    hash(&["rda", system, &value.to_uppercase()])
}

pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_LENGTH_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// Errors: 400 if the text is not a FHIR id.
pub fn check_id(text: &str) -> Result<(), Outcome> {
    if is_id(text) {
        return Ok(());
    }
    Err(Outcome::invalid("A resource id has 1 to 64 letters A-Z a-z, digits, '-' and '.'"))
}

/// A reference in the form `Type/id` or `Type/id/_history/version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalReference<'a> {
    pub type_name: &'a str,
    pub id: &'a str,
}

/// Reads a relative reference; `None` for absolute URLs, fragments, URNs and anything else.
pub fn local_reference(reference: &str) -> Option<LocalReference<'_>> {
    let mut parts = reference.split('/');
    let (type_name, id) = (parts.next()?, parts.next()?);
    match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => {}
        (Some("_history"), Some(version), None) if is_id(version) => {}
        _ => return None,
    }
    let is_type = type_name.starts_with(|c: char| c.is_ascii_uppercase()) && type_name.bytes().all(|b| b.is_ascii_alphabetic());
    (is_type && is_id(id)).then_some(LocalReference { type_name, id })
}

/// The type that a reference names: `Patient/1`, `https://other/fhir/Patient/1`; `None` for URNs and fragments.
pub fn referenced_type(reference: &str) -> Option<&str> {
    let reference = reference.split_once("/_history/").map_or(reference, |(before, _)| before);
    let (before, id) = reference.rsplit_once('/')?;
    let type_name = before.rsplit_once('/').map_or(before, |(_, t)| t);
    let is_type = type_name.starts_with(|c: char| c.is_ascii_uppercase()) && type_name.bytes().all(|b| b.is_ascii_alphabetic());
    (is_type && is_id(id)).then_some(type_name)
}

/// The reference without the address of the server itself, if it begins with that: `https://this/fhir/Patient/1` is `Patient/1`.
pub fn own_reference<'r>(reference: &'r str, base: &str) -> &'r str {
    match reference.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if !base.is_empty() => rest,
        _ => reference,
    }
}

/// Drops a version: `Patient/1/_history/2` is indexed as `Patient/1`.
pub fn without_version(reference: &str) -> &str {
    reference.split_once("/_history/").map_or(reference, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_by_their_form() {
        assert_eq!(
            local_reference("Patient/a-1.2"),
            Some(LocalReference {
                type_name: "Patient",
                id: "a-1.2"
            })
        );
        assert_eq!(local_reference("Patient/1/_history/2").map(|r| r.id), Some("1"));
        for other in [
            "http://x/Patient/1",
            "#p",
            "urn:uuid:0",
            "Patient",
            "patient/1",
            "Patient/é",
            "Patient/1/x",
            "Patient?identifier=1",
        ] {
            assert_eq!(local_reference(other), None, "{other}");
        }
        assert_eq!(referenced_type("https://example/Patient/1"), Some("Patient"));
        assert_eq!(referenced_type("urn:uuid:0"), None);
        assert_eq!(self_hash("Patient", "1"), reference_hash("Patient/1"));
        let base = "https://eds.example/fhir";
        for (reference, own) in [
            ("https://eds.example/fhir/Patient/1", "Patient/1"),
            ("https://eds.example/fhir/Patient/1/_history/2", "Patient/1/_history/2"),
            ("https://eds.example/fhirs/Patient/1", "https://eds.example/fhirs/Patient/1"),
            ("Patient/1", "Patient/1"),
        ] {
            assert_eq!(own_reference(reference, base), own);
        }
        assert_eq!(own_reference("/Patient/1", ""), "/Patient/1");
    }
}
