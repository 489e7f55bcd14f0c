//! JSON text: what we accept, serde_json accepts with the same values, and writing it again changes nothing. What only we refuse, FHIR refuses.

use eds::fhir::json::Document;
use eds::fhir::json::Kind;
use eds::fhir::json::Value;

/// Where FHIR is stricter than RFC 8259, or we are for our own protection.
const STRICTER: &[&str] = &[
    "duplicate member name in the object that ends here",
    "NUL in a string",
    "nested deeper than 100 levels",
];

pub fn run(data: &[u8]) {
    let theirs = serde_json::from_slice::<serde_json::Value>(data);
    let document = match Document::parse(data) {
        Ok(document) => document,
        Err(error) => {
            assert!(theirs.is_err() || STRICTER.contains(&error.what), "only we refuse it: {error}");
            return;
        }
    };
    let minified = document.root().minified();
    if !document.is_spaced() {
        assert_eq!(minified.as_bytes(), data, "written again, it is another text");
    }
    let again = Document::parse_str(&minified).expect("what we write is JSON");
    assert!(!again.is_spaced());
    assert_eq!(again.root().minified(), minified);
    match theirs {
        Ok(theirs) => same(document.root(), &theirs),
        // Our decimals keep their text; theirs have to fit into a binary fraction.
        Err(error) => assert!(error.to_string().starts_with("number out of range"), "only we accept it: {error}"),
    }
}

fn same(ours: Value<'_>, theirs: &serde_json::Value) {
    match (ours.kind(), theirs) {
        (Kind::Null, serde_json::Value::Null) => {}
        (Kind::Bool, serde_json::Value::Bool(theirs)) => assert_eq!(ours.as_bool(), Some(*theirs)),
        (Kind::Number, serde_json::Value::Number(theirs)) => {
            let ours: f64 = ours.as_number().and_then(|n| n.parse().ok()).expect("a number");
            assert_eq!(Some(ours), theirs.as_f64());
        }
        (Kind::String, serde_json::Value::String(theirs)) => assert_eq!(ours.as_str().as_deref(), Some(theirs.as_str())),
        (Kind::Array, serde_json::Value::Array(theirs)) => {
            assert_eq!(ours.items().count(), theirs.len());
            ours.items().zip(theirs).for_each(|(ours, theirs)| same(ours, theirs));
        }
        (Kind::Object, serde_json::Value::Object(theirs)) => {
            assert_eq!(ours.members().count(), theirs.len());
            for ((name, ours), (their_name, theirs)) in ours.members().zip(theirs) {
                assert_eq!(name.as_ref(), their_name);
                same(ours, theirs);
            }
        }
        (ours, theirs) => panic!("{ours:?} is read as {theirs}"),
    }
}
