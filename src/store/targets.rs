//! Referential integrity of writes (`integrity.on_write = "refuse"`): what a resource refers to by `Type/id`, relative or below the server's own address,
//! must be here when it is stored. The rows are locked as those that the unit changes, so that none goes meanwhile.
//!
//! What is hidden is not here: the answer is the same for what never was, was deleted and is withdrawn (docs/adr/0007-oscuramento.md). A reference that the
//! version before had is not asked again: who changes another element of the resource must not learn that its target was deleted, or hidden.

use crate::fhir::identity::LocalReference;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::own_reference;
use crate::fhir::identity::self_hash;
use crate::fhir::json::Document;
use crate::fhir::links;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::policy::State;
use crate::search::parameters::Registry;
use crate::store::Store;
use crate::store::decide::Decision;
use crate::store::decide::hash_of;
use crate::store::prepare::accepted;
use crate::store::unit::Content;
use crate::store::unit::Known;
use crate::store::unit::Op;
use crate::store::unit::Prepared;
use crate::store::unit::Unit;
use std::borrow::Cow;
use std::collections::HashSet;

/// References of one resource that an error names.
const NAMED_MAX: usize = 10;

/// The resources of this server that the units refer to, or may: their rows decide.
pub fn hashes(store: &Store, units: &[Unit]) -> Vec<i64> {
    if !store.checks_targets {
        return Vec::new();
    }
    let registry = &store.registry();
    let mut found = Vec::new();
    for unit in units {
        for op in &unit.ops {
            match op {
                Op::Create { type_number, content, .. } | Op::Update { type_number, content, .. } => match content {
                    Content::Ready(prepared) => push_hashes(registry, *type_number, &prepared.to_json(registry), &mut found),
                    Content::Open(text) => push_hashes(registry, *type_number, text, &mut found),
                },
                Op::Patch { edit, .. } => found.extend(&edit.targets),
                Op::Delete { .. } => {}
            }
        }
        if let (Some(provenance), Some(type_number)) = (&unit.provenance, registry.number_of("Provenance")) {
            push_hashes(registry, type_number, &provenance.text, &mut found);
        }
    }
    found
}

/// A text that does not parse is refused where it is prepared.
fn push_hashes(registry: &Registry, type_number: i16, text: &str, found: &mut Vec<i64>) {
    let Ok(document) = Document::parse_str(text) else { return };
    for (_, reference) in links::references(document.root()) {
        found.extend(local(registry, type_number, &reference).map(|local| self_hash(local.type_name, local.id)));
    }
}

fn local<'r>(registry: &Registry, type_number: i16, reference: &'r str) -> Option<LocalReference<'r>> {
    let base = registry.of(registry.name_of(type_number)).map_or("", |of| &of.base);
    local_reference(own_reference(reference, base))
}

/// Errors: 422 naming the places of references to what is not here. Returns the rows that the unit rests on by them.
pub fn check(
    store: &Store,
    registry: &Registry,
    known: &Known,
    unit: &Unit,
    decisions: &[Decision],
    prepared: &[Option<Cow<'_, Prepared>>],
) -> Result<Vec<i64>, Outcome> {
    let mut read = Vec::new();
    if !store.checks_targets {
        return Ok(read);
    }
    let written = Written::of(registry, decisions, prepared);
    for (i, (decision, prepared)) in decisions.iter().zip(prepared).enumerate() {
        let (true, Some(prepared)) = (decision.changes(), prepared) else {
            continue;
        };
        let text = prepared.to_json(registry);
        let document = Document::parse_str(&text).map_err(accepted)?;
        let mut missing = Vec::new();
        for (path, reference) in links::references(document.root()) {
            let Some(local) = local(registry, prepared.type_number, &reference) else {
                continue;
            };
            let hash = self_hash(local.type_name, local.id);
            let is_it = |row: &&crate::store::rows::Row| row.id == local.id && registry.name_of(row.type_number) == local.type_name;
            let row = known.rows.get(&hash).filter(is_it);
            read.extend(row.map(|row| row.rid));
            let is_here = row.is_some_and(|row| match row.state() {
                State::Live => true,
                // The feeding system knows what it has obscured.
                State::Withdrawn => unit.is_of_feeder(),
                State::Deleted => false,
            });
            if !written.made.contains(&hash) && (!is_here || written.deleted.contains(&hash)) {
                missing.push((path, reference.into_owned()));
            }
        }
        if !missing.is_empty()
            && let Decision::Update {
                row,
                answers_as_new: false,
            } = decision
            && row.state() != State::Deleted
        {
            let before = row.to_json(registry, &store.bodies)?;
            let before = Document::parse_str(&before).map_err(accepted)?;
            let before: HashSet<String> = links::references(before.root())
                .into_iter()
                .map(|(_, text)| text.into_owned())
                .collect();
            missing.retain(|(_, reference)| !before.contains(reference));
        }
        if !missing.is_empty() {
            return Err(refusal(registry.name_of(prepared.type_number), unit, i, missing));
        }
    }
    Ok(read)
}

/// What the unit leaves behind, by hash.
#[derive(Default)]
struct Written {
    made: HashSet<i64>,
    deleted: HashSet<i64>,
}

impl Written {
    fn of(registry: &Registry, decisions: &[Decision], prepared: &[Option<Cow<'_, Prepared>>]) -> Written {
        let mut written = Written::default();
        for (decision, prepared) in decisions.iter().zip(prepared) {
            match (decision, prepared) {
                (Decision::Delete { rows }, _) => written.deleted.extend(rows.iter().map(|row| hash_of(registry, row))),
                (Decision::Insert { .. } | Decision::Update { .. }, Some(prepared)) => {
                    written
                        .made
                        .insert(self_hash(registry.name_of(prepared.type_number), decision.id()));
                }
                _ => {}
            }
        }
        written
    }
}

fn refusal(type_name: &str, unit: &Unit, op: usize, missing: Vec<(String, String)>) -> Outcome {
    let place = match unit.place_of(op) {
        _ if op >= unit.ops.len() => "X-Provenance".to_owned(),
        Some(entry) => format!("{entry}.resource"),
        None => type_name.to_owned(),
    };
    let issue = |(path, reference): (String, String)| Issue {
        severity: Severity::Error,
        code: "not-found",
        expression: format!("{place}.{path}"),
        text: format!(
            "{} is not here, and this server refuses references to what is not (integrity.on_write): store it before, or in the same transaction",
            crate::search::value::shown(&reference)
        ),
    };
    Outcome::unprocessable(missing.into_iter().take(NAMED_MAX).map(issue).collect())
}
