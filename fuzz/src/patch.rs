//! Patches: the first line is a resource, what follows is a JSON Patch or, if it is an object, a FHIRPath Patch.

use eds::fhir::definitions::definitions;
use eds::fhir::json::Document;
use eds::fhir::patch::Form;
use eds::fhir::patch::Limits;
use eds::fhir::patch::Patch;

/// Small, so that the limits are met too.
const LIMITS: Limits = Limits {
    operations_max: 20,
    bytes_max: 4096,
};

pub fn run(data: &[u8]) {
    let Some((resource, patch)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let Ok(document) = Document::parse_str(resource) else { return };
    let type_name = document.root().get_str("resourceType").unwrap_or_default();
    let form = match patch.trim_start().starts_with('{') {
        true => Form::FhirPath,
        false => Form::Json,
    };
    let read = match Patch::read(form, patch, LIMITS) {
        Ok(read) => read,
        Err(outcome) => return assert!(matches!(outcome.status(), 400 | 413), "{outcome}"),
    };
    match read.apply(definitions(), &type_name, resource) {
        Ok(text) => {
            assert!(text.len() <= LIMITS.bytes_max, "{} bytes", text.len());
            assert!(Document::parse_str(&text).is_ok(), "patched, it is no JSON: {text}");
        }
        Err(outcome) => assert!(matches!(outcome.status(), 400 | 413 | 422), "{outcome}"),
    }
}
