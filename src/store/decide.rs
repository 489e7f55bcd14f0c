//! What each operation of a unit comes to, on the rows that the batch has locked. Pure: it reads no database.
//!
//! A row that is hidden (oscuramento) is for those who write as if it were not there: conditions do not hold on it, and what is written to it
//! stays hidden and is answered as new. docs/adr/0007-oscuramento.md.

use crate::fhir::identity::self_hash;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::search::parameters::Registry;
use crate::store::rows::Row;
use crate::store::unit::Applied;
use crate::store::unit::Effect;
use crate::store::unit::Known;
use crate::store::unit::NewId;
use crate::store::unit::Op;
use crate::store::unit::Place;
use crate::store::unit::Precondition;
use crate::store::unit::Target;
use crate::store::unit::Unit;
use std::collections::HashMap;
use std::collections::HashSet;

pub enum Decision {
    /// Nothing to write: the row, if it counts as a part of what the unit brings, and the answer.
    Keep(Option<i64>, Applied),
    Insert {
        id: String,
    },
    Update {
        row: Row,
        /// The writer must not learn that the row is here.
        answers_as_new: bool,
    },
    /// At least one.
    Delete {
        rows: Vec<Row>,
    },
}

impl Decision {
    /// The rows that the decision rests on.
    pub fn rids(&self) -> Vec<i64> {
        match self {
            Decision::Keep(rid, _) => rid.iter().copied().collect(),
            Decision::Insert { .. } => Vec::new(),
            Decision::Update { row, .. } => vec![row.rid],
            Decision::Delete { rows } => rows.iter().map(|row| row.rid).collect(),
        }
    }

    /// The hashes of the resources that it changes.
    fn changed(&self, registry: &Registry, type_number: i16) -> Vec<i64> {
        match self {
            Decision::Keep(..) => Vec::new(),
            Decision::Delete { rows } => rows.iter().map(|row| hash_of(registry, row)).collect(),
            other => vec![self_hash(registry.name_of(type_number), other.id())],
        }
    }

    pub fn changes(&self) -> bool {
        !matches!(self, Decision::Keep(..))
    }

    /// The id of the resource that the operation is about.
    pub fn id(&self) -> &str {
        match self {
            Decision::Keep(_, applied) => &applied.id,
            Decision::Insert { id } => id,
            Decision::Update { row, .. } => &row.id,
            Decision::Delete { rows } => rows.first().map_or("", |row| &row.id),
        }
    }
}

pub fn hash_of(registry: &Registry, row: &Row) -> i64 {
    self_hash(registry.name_of(row.type_number), &row.id)
}

/// Decides every operation of a unit. Errors: the first, at its entry.
pub fn decide(registry: &Registry, known: &Known, unit_index: usize, unit: &Unit) -> Result<Vec<Decision>, Outcome> {
    let mut touched = HashSet::new();
    // Deletes come first: what they delete is no match for what follows.
    let mut deleted: HashSet<i64> = HashSet::new();
    let mut of_entries: HashSet<i64> = unit.hashes(registry).collect();
    of_entries.extend(
        (0..unit.ops.len())
            .filter_map(|i| known.matches.get(&(unit_index, Place::Op(i))))
            .flatten(),
    );
    let mut decisions = Vec::with_capacity(unit.ops.len());
    for (i, op) in unit.ops.iter().enumerate() {
        let matches: Vec<i64> = known
            .matches
            .get(&(unit_index, Place::Op(i)))
            .map(|found| found.iter().copied().filter(|hash| !deleted.contains(hash)).collect())
            .unwrap_or_default();
        let at = |outcome: Outcome| match unit.place_of(i) {
            Some(place) => outcome.at(&place),
            None => outcome,
        };
        let mut decision = decide_op(registry, known, op, &matches).map_err(at)?;
        if let Decision::Delete { rows } = &mut decision {
            let cascade = known.references.cascade((unit_index, i)).map_err(at)?;
            // What other entries are about is theirs.
            let cascade = cascade
                .iter()
                .filter(|hash| !of_entries.contains(hash))
                .filter_map(|hash| known.rows.get(hash));
            rows.extend(cascade.filter(|row| row.state() == State::Live).cloned());
        }
        for hash in decision.changed(registry, op.type_number()) {
            if matches!(decision, Decision::Delete { .. }) {
                deleted.insert(hash);
            }
            if !touched.insert(hash) {
                return Err(at(Outcome::invalid("Two entries of the transaction change the same resource")));
            }
        }
        decisions.push(decision);
    }
    Ok(decisions)
}

fn decide_op(registry: &Registry, known: &Known, op: &Op, matches: &[i64]) -> Result<Decision, Outcome> {
    let matches_max = op.criteria().map_or(1, |criteria| criteria.matches_max);
    if matches.len() > matches_max {
        let text = match matches_max {
            1 => "The criterion matches several resources: it must match at most one".to_owned(),
            max => format!("The criterion matches more than {max} resources, which is as many as may be deleted: nothing was"),
        };
        return Err(Outcome::precondition(text).with_code("multiple-matches"));
    }
    let matched = matches.first().and_then(|hash| known.rows.get(hash));
    match op {
        Op::Create { id, .. } => Ok(match matched {
            Some(row) => Decision::Keep(Some(row.rid), Applied::kept(row, Effect::Matched)),
            None => Decision::Insert { id: id.clone() },
        }),
        Op::Update {
            type_number,
            target,
            precondition,
            ..
        } => {
            let (row, id) = match target {
                Target::Id(id) => (row_of(registry, known, *type_number, id)?, id),
                Target::Matching(_, NewId::Free(id)) => (matched, id),
                Target::Matching(_, NewId::Named(id)) => (match_or_named(registry, known, *type_number, matched, id)?, id),
            };
            check_precondition(row, *precondition)?;
            Ok(match row {
                Some(row) => Decision::Update {
                    row: row.clone(),
                    answers_as_new: row.state() == State::Withdrawn && !matches!(precondition, Precondition::Stored(_)),
                },
                None => Decision::Insert { id: id.clone() },
            })
        }
        Op::Patch {
            type_number,
            target,
            precondition,
            ..
        } => {
            let row = match target {
                Target::Id(id) => row_of(registry, known, *type_number, id)?,
                Target::Matching(..) => matched,
            };
            let row = live(registry, *type_number, target, row)?;
            check_precondition(Some(row), *precondition)?;
            Ok(Decision::Update {
                row: row.clone(),
                answers_as_new: false,
            })
        }
        Op::Delete {
            type_number,
            target,
            precondition,
            ..
        } => {
            let rows: Vec<&Row> = match target {
                Target::Id(id) => row_of(registry, known, *type_number, id)?.into_iter().collect(),
                Target::Matching(..) => matches.iter().filter_map(|hash| known.rows.get(hash)).collect(),
            };
            check_precondition(rows.first().copied(), *precondition)?;
            let rows: Vec<Row> = rows.into_iter().filter(|row| row.state() == State::Live).cloned().collect();
            Ok(match rows.is_empty() {
                false => Decision::Delete { rows },
                true => Decision::Keep(None, Applied::absent(*type_number)),
            })
        }
    }
}

/// The row of what can be read. Errors: 404, 410.
fn live<'k>(registry: &Registry, type_number: i16, target: &Target, row: Option<&'k Row>) -> Result<&'k Row, Outcome> {
    let type_name = registry.name_of(type_number);
    match (row, target) {
        (Some(row), _) if row.state() == State::Live => Ok(row),
        (Some(row), _) if row.state() == State::Deleted => Err(Outcome::gone(&format!("{type_name}/{}", row.id))),
        (_, Target::Id(id)) => Err(Outcome::not_found(&format!("{type_name}/{id}"))),
        (_, Target::Matching(..)) => Err(Outcome::not_found(&format!("A {type_name} that the criterion matches"))),
    }
}

/// The row that a conditional update with an id in its body is about. <https://hl7.org/fhir/R4/http.html#cond-update>; that an id which is
/// taken by another resource is refused is R5's rule, where R4 says nothing.
fn match_or_named<'k>(
    registry: &Registry,
    known: &'k Known,
    type_number: i16,
    matched: Option<&'k Row>,
    id: &str,
) -> Result<Option<&'k Row>, Outcome> {
    if let Some(row) = matched {
        if row.id == id {
            return Ok(Some(row));
        }
        let text = "The criterion matches a resource with another id than that of the body: leave the id out, or write that of the match";
        return Err(Outcome::invalid(text).at("id"));
    }
    match row_of(registry, known, type_number, id)? {
        Some(row) if row.state() == State::Live => Err(Outcome::conflict(
            "The criterion matches nothing, and a resource with the id of the body is here: leave the id out, or update it by its id",
        )),
        row => Ok(row),
    }
}

fn row_of<'k>(registry: &Registry, known: &'k Known, type_number: i16, id: &str) -> Result<Option<&'k Row>, Outcome> {
    match known.rows.get(&self_hash(registry.name_of(type_number), id)) {
        Some(row) if row.id != id || row.type_number != type_number => {
            Err(Outcome::conflict("This id cannot be used here; choose another"))
        }
        row => Ok(row),
    }
}

/// Errors: 412 when If-Match or If-None-Match does not hold.
fn check_precondition(row: Option<&Row>, precondition: Precondition) -> Result<(), Outcome> {
    let live = row.filter(|r| r.state() == State::Live);
    match (precondition, live) {
        (Precondition::None, _) | (Precondition::Absent, None) => Ok(()),
        (Precondition::Version(wanted), Some(row)) if row.version == wanted => Ok(()),
        (Precondition::Version(wanted), _) => Err(Outcome::precondition(format!(
            "The current version is not {wanted}: read it again and repeat the change"
        ))),
        (Precondition::Stored(wanted), _) if row.is_some_and(|r| r.version == wanted && r.state() != State::Deleted) => Ok(()),
        (Precondition::Stored(_), _) => Err(Outcome::precondition("The resource was changed meanwhile: try again")),
        (Precondition::Absent, Some(_)) => Err(Outcome::precondition(
            "The resource exists, and If-None-Match: * asks that it does not",
        )),
    }
}

/// What each fullUrl and each conditional reference of the unit stands for: `Type/id`. Errors: 412 for a reference without its one match.
pub fn link_targets(
    registry: &Registry,
    known: &Known,
    unit_index: usize,
    unit: &Unit,
    decisions: &[Decision],
) -> Result<HashMap<String, String>, Outcome> {
    let mut targets = HashMap::with_capacity(unit.links.len() + unit.lookups.len());
    for (full_url, op) in &unit.links {
        let type_name = registry.name_of(unit.ops[*op].type_number());
        targets.insert(full_url.clone(), format!("{type_name}/{}", decisions[*op].id()));
    }
    let deleted: HashSet<i64> = decisions
        .iter()
        .filter(|d| matches!(d, Decision::Delete { .. }))
        .flat_map(Decision::rids)
        .collect();
    for (i, (reference, criteria)) in unit.lookups.iter().enumerate() {
        let found = match_of_lookup(known, unit_index, i);
        // What the transaction deletes is no match: deletions come first.
        let row = found.and_then(|row| if deleted.contains(&row.rid) { Err(0) } else { Ok(row) });
        let row = row.map_err(|matches| {
            let text = format!(
                "A conditional reference to {} matches {matches} resources: it must match one",
                registry.name_of(criteria.type_number),
            );
            Outcome::precondition(text).with_code(if matches == 0 { "not-found" } else { "multiple-matches" })
        })?;
        targets.insert(reference.clone(), format!("{}/{}", registry.name_of(row.type_number), row.id));
    }
    Ok(targets)
}

/// The row that a conditional reference leads to. Errors: how many there are, if not one.
pub fn match_of_lookup(known: &Known, unit_index: usize, lookup: usize) -> Result<&Row, usize> {
    let matches = known
        .matches
        .get(&(unit_index, Place::Lookup(lookup)))
        .map_or(&[][..], Vec::as_slice);
    match matches {
        [hash] => known.rows.get(hash).ok_or(0),
        _ => Err(matches.len()),
    }
}
