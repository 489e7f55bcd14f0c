//! The one write path: whatever changes resources becomes an [`Op`], and [`apply`] is the only code that carries it out.
//!
//! A [`Unit`] is atomic: one create, or a whole transaction Bundle. Many units are applied in one database transaction, each with its
//! own answer: what a unit asks is decided on rows that are locked, and a unit that may not go on takes no part in the writing.
//! Versions, index, history and change rows are written by the same statements, so none can be forgotten.
//! Spec: <https://hl7.org/fhir/R4/http.html#transaction>, <https://hl7.org/fhir/R4/http.html#ccreate>, <https://hl7.org/fhir/R4/http.html#concurrency>.

use crate::fhir::identity::self_hash;
use crate::fhir::json::Document;
use crate::fhir::links;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::search::parameters::Registry;
use crate::store::Store;
use crate::store::columns::Columns;
use crate::store::columns::Member;
use crate::store::document;
use crate::store::document::DocumentWrite;
use crate::store::ingestion;
use crate::store::rows::Row;
use crate::store::statements;
use crate::store::unit::Applied;
use crate::store::unit::Content;
use crate::store::unit::Effect;
use crate::store::unit::Known;
use crate::store::unit::Op;
use crate::store::unit::Place;
use crate::store::unit::Precondition;
use crate::store::unit::Prepared;
use crate::store::unit::Target;
use crate::store::unit::Unit;
use crate::store::unit::UnitReply;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::HashSet;

enum Decision {
    /// Nothing to write; the answer is known.
    Keep(Applied, Option<i64>),
    Insert {
        id: String,
    },
    Update {
        row: Row,
    },
    Delete {
        row: Row,
    },
}

/// Applies units whose keys are disjoint in one database transaction. The outer error is the database's: then nothing was written.
pub async fn apply(store: &Store, conn: &mut PgConnection, units: &[Unit]) -> Result<Vec<Result<UnitReply, Outcome>>, sqlx::Error> {
    let now = store.clock.now();
    let needs_state = units
        .iter()
        .any(|unit| unit.document.is_some() || unit.criteria().next().is_some() || unit.hashes(&store.registry).next().is_some());
    if !needs_state {
        let mut written = Written::default();
        let replies = units
            .iter()
            .enumerate()
            .map(|(i, unit)| write_unit(store, &Known::default(), i, unit, now, &mut written))
            .collect();
        return written.store(store, conn, now, replies).await;
    }
    let mut tx = conn.begin().await?;
    let known = statements::read_known(store, &mut tx, units).await?;
    let mut written = Written::default();
    let replies = units
        .iter()
        .enumerate()
        .map(|(i, unit)| write_unit(store, &known, i, unit, now, &mut written))
        .collect();
    let replies = written.store(store, &mut tx, now, replies).await?;
    tx.commit().await?;
    Ok(replies)
}

/// What a batch writes, gathered from its units.
#[derive(Default)]
struct Written {
    columns: Columns,
    documents: Vec<DocumentWrite>,
    /// Further identifiers of documents that are here, and their documents.
    aliases: Vec<(String, i64)>,
    ingestions: Vec<i64>,
}

impl Written {
    async fn store(
        mut self,
        store: &Store,
        conn: &mut PgConnection,
        now: DateTime<Utc>,
        replies: Vec<Result<UnitReply, Outcome>>,
    ) -> Result<Vec<Result<UnitReply, Outcome>>, sqlx::Error> {
        if !self.columns.is_empty() {
            self.columns
                .assign_row_ids(store.row_ids.take(&store.points, self.columns.inserts()).await?);
            statements::write(conn, &self.columns, now).await?;
        }
        for document in &self.documents {
            document::store(store, conn, document, &self.columns.member_ids(&document.members), now).await?;
        }
        document::store_aliases(conn, &self.aliases).await?;
        ingestion::succeed(conn, &self.ingestions, now).await?;
        Ok(replies)
    }
}

/// Decides and prepares one unit. Either all of its operations go into `written`, or none.
fn write_unit(
    store: &Store,
    known: &Known,
    unit_index: usize,
    unit: &Unit,
    now: DateTime<Utc>,
    written: &mut Written,
) -> Result<UnitReply, Outcome> {
    if unit.ingestion.is_some_and(|id| !known.waiting.contains(&id)) {
        return Err(Outcome::conflict("The operation has ended already"));
    }
    if let Some(action) = &unit.document
        && let Some((document, reply)) = action.already_here(store, known)?
    {
        written.aliases.extend(action.aliases(known, document));
        written.ingestions.extend(unit.ingestion);
        return Ok(reply);
    }
    let decisions = decide(&store.registry, known, unit_index, unit)?;
    let targets = link_targets(store, known, unit_index, unit, &decisions)?;
    let mut prepared = Vec::with_capacity(unit.ops.len());
    for op in &unit.ops {
        let type_number = op.type_number();
        prepared.push(match op {
            Op::Create { content, .. } | Op::Update { content, .. } => Some(prepare(store, type_number, content, &targets)?),
            Op::Delete { .. } => None,
        });
    }
    let mut applied = Vec::with_capacity(decisions.len());
    let mut members = Vec::new();
    for (decision, prepared) in decisions.into_iter().zip(prepared) {
        applied.push(record(store, decision, prepared, now, &mut written.columns, &mut members)?);
    }
    if let Some(action) = &unit.document {
        action.remove_old(store, known, &members, &mut written.columns);
        let is_obscured = unit.is_obscured.unwrap_or_else(|| action.was_obscured(known));
        written.documents.push(DocumentWrite {
            action: action.clone(),
            members,
            is_obscured,
        });
    }
    written.ingestions.extend(unit.ingestion);
    Ok(UnitReply {
        applied,
        is_known_document: false,
    })
}

fn decide(registry: &Registry, known: &Known, unit_index: usize, unit: &Unit) -> Result<Vec<Decision>, Outcome> {
    let mut touched = HashSet::new();
    // Deletes come first: what they delete is no match for what follows.
    let mut deleted: HashSet<i64> = HashSet::new();
    let mut decisions = Vec::with_capacity(unit.ops.len());
    for (i, op) in unit.ops.iter().enumerate() {
        let matches: Option<Vec<i64>> = known
            .matches
            .get(&(unit_index, Place::Op(i)))
            .map(|found| found.iter().copied().filter(|hash| !deleted.contains(hash)).collect());
        let decision = decide_op(registry, known, op, matches.as_deref()).map_err(|outcome| {
            if unit.ops.len() > 1 {
                outcome.at(&format!("Bundle.entry[{i}]"))
            } else {
                outcome
            }
        })?;
        let hash = match &decision {
            Decision::Update { row } | Decision::Delete { row } => Some(self_hash(registry.name_of(row.type_number), &row.id)),
            Decision::Insert { id } => Some(self_hash(registry.name_of(op.type_number()), id)),
            Decision::Keep(..) => None,
        };
        if let (Decision::Delete { .. }, Some(hash)) = (&decision, hash) {
            deleted.insert(hash);
        }
        if hash.is_some_and(|hash| !touched.insert(hash)) {
            return Err(Outcome::invalid("Two entries of the transaction change the same resource").at(&format!("Bundle.entry[{i}]")));
        }
        decisions.push(decision);
    }
    Ok(decisions)
}

fn decide_op(registry: &Registry, known: &Known, op: &Op, matches: Option<&[i64]>) -> Result<Decision, Outcome> {
    if matches.is_some_and(|m| m.len() > 1) {
        return Err(
            Outcome::precondition("The criterion matches several resources: it must match at most one").with_code("multiple-matches"),
        );
    }
    let matched = matches.and_then(|m| m.first()).and_then(|hash| known.rows.get(hash));
    match op {
        Op::Create { id, .. } => Ok(match matched {
            Some(row) => Decision::Keep(kept(row, Effect::Matched), Some(row.rid)),
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
                Target::Matching(_, id) => (matched, id),
            };
            check_precondition(row, *precondition)?;
            Ok(match row {
                Some(row) => Decision::Update { row: row.clone() },
                None => Decision::Insert { id: id.clone() },
            })
        }
        Op::Delete {
            type_number,
            target,
            precondition,
        } => {
            let row = match target {
                Target::Id(id) => row_of(registry, known, *type_number, id)?,
                Target::Matching(..) => matched,
            };
            check_precondition(row, *precondition)?;
            Ok(match row {
                Some(row) if row.state() == State::Live => Decision::Delete { row: row.clone() },
                Some(row) => Decision::Keep(kept(row, Effect::Absent), None),
                None => Decision::Keep(absent(*type_number), None),
            })
        }
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

fn kept(row: &Row, effect: Effect) -> Applied {
    Applied {
        effect,
        type_number: row.type_number,
        id: row.id.clone(),
        version: row.version,
        updated: row.updated,
        kept: None,
    }
}

fn absent(type_number: i16) -> Applied {
    Applied {
        effect: Effect::Absent,
        type_number,
        id: String::new(),
        version: 0,
        updated: DateTime::UNIX_EPOCH,
        kept: None,
    }
}

/// What each fullUrl and each conditional reference of the unit stands for: `Type/id`.
fn link_targets(
    store: &Store,
    known: &Known,
    unit_index: usize,
    unit: &Unit,
    decisions: &[Decision],
) -> Result<HashMap<String, String>, Outcome> {
    let mut targets = HashMap::with_capacity(unit.links.len() + unit.lookups.len());
    for (full_url, op) in &unit.links {
        let id = match &decisions[*op] {
            Decision::Keep(applied, _) => &applied.id,
            Decision::Insert { id } => id,
            Decision::Update { row } | Decision::Delete { row } => &row.id,
        };
        targets.insert(
            full_url.clone(),
            format!("{}/{id}", store.registry.name_of(unit.ops[*op].type_number())),
        );
    }
    for (i, (reference, criteria)) in unit.lookups.iter().enumerate() {
        let matches = known.matches.get(&(unit_index, Place::Lookup(i))).map_or(&[][..], Vec::as_slice);
        let row = match matches {
            [hash] => known.rows.get(hash),
            _ => None,
        };
        let row = row.ok_or_else(|| {
            let text = format!(
                "A conditional reference to {} matches {} resources: it must match one",
                store.registry.name_of(criteria.type_number),
                matches.len()
            );
            Outcome::precondition(text).with_code(if matches.is_empty() { "not-found" } else { "multiple-matches" })
        })?;
        targets.insert(reference.clone(), format!("{}/{}", store.registry.name_of(row.type_number), row.id));
    }
    Ok(targets)
}

fn prepare<'c>(
    store: &Store,
    type_number: i16,
    content: &'c Content,
    targets: &HashMap<String, String>,
) -> Result<Cow<'c, Prepared>, Outcome> {
    let text = match content {
        Content::Ready(prepared) => return Ok(Cow::Borrowed(prepared)),
        Content::Open(text) => text,
    };
    let accepted = |e| Outcome::internal(format!("an accepted text does not parse: {e}"));
    let document = Document::parse_str(text).map_err(accepted)?;
    let prepared = match links::rewrite(document.root(), &|link, _| targets.get(link).cloned()) {
        None => Prepared::new(&store.registry, &store.bodies, type_number, document.root()),
        Some(rewritten) => {
            let document = Document::parse_str(&rewritten).map_err(accepted)?;
            Prepared::new(&store.registry, &store.bodies, type_number, document.root())
        }
    };
    Ok(Cow::Owned(prepared))
}

/// Puts one decided operation into the columns to write, and says what became of it.
fn record(
    store: &Store,
    decision: Decision,
    prepared: Option<Cow<'_, Prepared>>,
    now: DateTime<Utc>,
    columns: &mut Columns,
    members: &mut Vec<Member>,
) -> Result<Applied, Outcome> {
    match (decision, prepared) {
        (Decision::Keep(applied, rid), _) => {
            members.extend(rid.map(Member::Known));
            Ok(applied)
        }
        (Decision::Delete { row }, _) => {
            let version = row.version + 1;
            columns.delete(&store.registry, &row);
            Ok(Applied {
                effect: Effect::Deleted,
                type_number: row.type_number,
                id: row.id,
                version,
                updated: now,
                kept: None,
            })
        }
        (Decision::Insert { id }, Some(prepared)) => {
            let type_number = prepared.type_number;
            let kept = Some(prepared.kept.clone());
            members.push(Member::New(columns.insert(&store.registry, &id, &prepared)));
            Ok(Applied {
                effect: Effect::Created,
                type_number,
                id,
                version: 1,
                updated: now,
                kept,
            })
        }
        (Decision::Update { row }, Some(prepared)) => {
            members.push(Member::Known(row.rid));
            let was_deleted = row.state() == State::Deleted;
            if !row.body.is_empty() && store.bodies.decompress(row.dictionary, &row.body)? == prepared.kept {
                return Ok(Applied {
                    kept: Some(prepared.kept.clone()),
                    ..kept(&row, Effect::Unchanged)
                });
            }
            let kept = Some(prepared.kept.clone());
            let effect = if was_deleted { Effect::Created } else { Effect::Updated };
            let version = row.version + 1;
            columns.update(&store.registry, &row, &prepared);
            Ok(Applied {
                effect,
                type_number: row.type_number,
                id: row.id,
                version,
                updated: now,
                kept,
            })
        }
        (_, None) => Err(Outcome::internal("an operation without content")),
    }
}
