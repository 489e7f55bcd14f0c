//! The Provenance that comes with a write: its targets are the versions that the write makes, which are known when it is decided.
//! Spec: <https://hl7.org/fhir/R4/provenance.html#header>.

use crate::fhir::json::Document;
use crate::fhir::json::quote_into;
use crate::fhir::splice::with_member;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::search::parameters::Registry;
use crate::store::decide::Decision;
use crate::store::rows::Row;
use crate::store::unit::Attestation;
use crate::store::unit::Prepared;
use std::borrow::Cow;
use std::collections::HashSet;

/// `Type/id/_history/version` of everything that the decisions change.
pub fn targets(
    registry: &Registry,
    decisions: &[Decision],
    prepared: &[Option<Cow<'_, Prepared>>],
    unchanged: &HashSet<i64>,
) -> Vec<String> {
    let versioned = |row: &Row, version: i32| format!("{}/{}/_history/{version}", registry.name_of(row.type_number), row.id);
    let mut targets = Vec::new();
    for (decision, prepared) in decisions.iter().zip(prepared) {
        match decision {
            Decision::Keep(..) => {}
            Decision::Insert { id } => {
                let type_number = prepared.as_ref().map_or(0, |prepared| prepared.type_number);
                targets.push(format!("{}/{id}/_history/1", registry.name_of(type_number)));
            }
            Decision::Update { row, .. } if unchanged.contains(&row.rid) => {}
            // Who must not learn that a row is here is told that of a new one.
            Decision::Update { row, answers_as_new } if *answers_as_new && row.state() == State::Withdrawn => {
                targets.push(versioned(row, 1))
            }
            Decision::Update { row, .. } => targets.push(versioned(row, row.version + 1)),
            Decision::Delete { rows } => targets.extend(rows.iter().map(|row| versioned(row, row.version + 1))),
        }
    }
    targets
}

/// The Provenance with its targets, as JSON text.
pub fn text(provenance: &Attestation, targets: &[String]) -> Result<String, Outcome> {
    let document = Document::parse_str(&provenance.text).map_err(|e| Outcome::internal(format!("an accepted text does not parse: {e}")))?;
    let mut list = String::from("[");
    for (i, target) in targets.iter().enumerate() {
        list.push_str(if i == 0 { "{\"reference\":" } else { ",{\"reference\":" });
        quote_into(target, &mut list);
        list.push('}');
    }
    list.push(']');
    Ok(with_member(document.root(), "target", Some(&list)))
}
