//! XML and JSON of a resource: what comes from one form into the other comes back, and what is written is XML and JSON.

use eds::fhir::json::Document;
use eds::fhir::xml::to_json;
use eds::fhir::xml::to_xml;

/// Of a body with more issues.
const ISSUES_MAX: usize = 100;

pub fn run(data: &[u8]) {
    if let Ok(document) = Document::parse(data) {
        // What R4 does not have has no XML.
        if let Ok(xml) = to_xml(document.root(), false) {
            from_xml(xml.as_bytes(), true);
        }
    }
    from_xml(data, false);
}

fn from_xml(xml: &[u8], is_ours: bool) {
    let json = match to_json(xml) {
        Ok(json) => json,
        Err(outcome) => {
            assert!(!is_ours || outcome.status() == 422, "what we write is not well-formed: {outcome}");
            assert!(matches!(outcome.status(), 400 | 422), "{outcome}");
            assert!((1..=ISSUES_MAX).contains(&outcome.issues.len()), "{} issues", outcome.issues.len());
            return;
        }
    };
    let document = Document::parse_str(&json).unwrap_or_else(|e| panic!("what we read is no JSON: {e}: {json}"));
    for is_pretty in [false, true] {
        let xml = to_xml(document.root(), is_pretty).unwrap_or_else(|e| panic!("what we read, we cannot write: {:?}: {json}", e.internal));
        let again = to_json(xml.as_bytes()).unwrap_or_else(|e| panic!("what we write, we cannot read: {e}: {xml}"));
        assert_eq!(again, json, "read again, it is another resource");
    }
}
