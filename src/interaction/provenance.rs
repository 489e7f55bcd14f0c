//! `X-Provenance`: a Provenance that comes with a write and is stored with it, in one database transaction.
//!
//! Its targets are what the write changes; a write that changes nothing leaves none. Spec: <https://hl7.org/fhir/R4/provenance.html#header>.

use crate::fhir::splice::with_member;
use crate::interaction::Service;
use crate::interaction::parse_json;
use crate::interaction::write;
use crate::outcome::Outcome;
use crate::store::unit::Attestation;
use std::sync::Arc;

/// In place of the targets, which are not known before the write.
const SOME_TARGET: &str = r#"[{"reference":"Patient/1/_history/1"}]"#;

impl Service {
    /// The same service, whose writes come with this Provenance. Errors: 400 and 422 naming the header.
    pub fn with_provenance(&self, header: &str) -> Result<Service, Outcome> {
        let attestation = read(self, header).map_err(|e| e.at("X-Provenance"))?;
        Ok(Service {
            provenance: Some(Arc::new(attestation)),
            ..self.clone()
        })
    }
}

fn read(service: &Service, header: &str) -> Result<Attestation, Outcome> {
    let document = parse_json(header.as_bytes())?;
    if document.root().get("target").is_some() {
        let text = "The Provenance of this header has no target: the server names what the write changes";
        return Err(Outcome::invalid(text).with_code("structure").at("target"));
    }
    let whole = with_member(document.root(), "target", Some(SOME_TARGET));
    write::check(service, "Provenance", parse_json(whole.as_bytes())?.root())?;
    Ok(Attestation {
        id: service.store.clock.new_id(),
        text: document.root().minified(),
    })
}
