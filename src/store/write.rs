//! The one write path: whatever changes resources becomes an [`Op`], and [`apply`] is the only code that carries it out.
//!
//! A [`Unit`] is atomic: one create, or a whole transaction Bundle. Many units are applied in one database transaction, each with its
//! own answer: what a unit asks is decided on rows that are locked (`decide`), and a unit that may not go on takes no part in the writing.
//! Versions, index, history and change rows are written by the same statements, so none can be forgotten.
//! Spec: <https://hl7.org/fhir/R4/http.html#transaction>, <https://hl7.org/fhir/R4/http.html#ccreate>, <https://hl7.org/fhir/R4/http.html#concurrency>.

use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::search::parameters::Registry;
use crate::store::Store;
use crate::store::attest;
use crate::store::columns::Columns;
use crate::store::columns::Member;
use crate::store::decide::Decision;
use crate::store::decide::decide;
use crate::store::decide::link_targets;
use crate::store::decide::match_of_lookup;
use crate::store::document::DocumentAction;
use crate::store::document::DocumentWrite;
use crate::store::document_rows;
use crate::store::failure::Failure;
use crate::store::failure::at_commit;
use crate::store::ingestion;
use crate::store::integrity;
use crate::store::known;
use crate::store::parameter_change::Change;
use crate::store::parameter_change::check_untouched;
use crate::store::prepare::linked;
use crate::store::prepare::patched;
use crate::store::prepare::prepare;
use crate::store::rows::Row;
use crate::store::statements;
use crate::store::statements::Learnt;
use crate::store::targets;
use crate::store::unit::Applied;
use crate::store::unit::Criteria;
use crate::store::unit::Effect;
use crate::store::unit::Known;
use crate::store::unit::Left;
use crate::store::unit::Op;
use crate::store::unit::Prepared;
use crate::store::unit::Unit;
use crate::store::unit::UnitReply;
use crate::store::vocabulary;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// What became of a unit. `None`: it meets a unit before it in a row, so it must be decided anew when that one is stored.
pub type Reply = Option<Result<UnitReply, Outcome>>;

/// Applies units whose keys are disjoint in one database transaction; the first of them always gets its answer.
pub async fn apply(store: &Store, conn: &mut PgConnection, units: &[Unit]) -> Result<Vec<Reply>, Failure> {
    let registry = Arc::clone(&store.registry());
    if let Some(first) = units.iter().position(|unit| unit.may_change_parameters(&registry)) {
        return match first {
            0 => change_parameters(store, conn, units).await,
            // What comes before it is indexed by other parameters.
            _ => Box::pin(apply(store, conn, &units[..first]))
                .await
                .map(|replies| with_undecided(replies, units)),
        };
    }
    let needs_state = store.checks_targets
        || units
            .iter()
            .any(|unit| unit.document.is_some() || unit.criteria().next().is_some() || unit.hashes(&registry).next().is_some());
    let mut written = Written::new(registry);
    if !needs_state {
        let mut replies = written.units(store, &Known::default(), units);
        // Words and rows are a statement each, which is its own transaction.
        let learnt = written.learn(store, conn).await.map_err(at_commit)?;
        if written.columns.texts.is_empty() {
            written
                .store(store, conn, &Known::default(), &mut replies)
                .await
                .map_err(at_commit)?;
        } else {
            // Texts are a statement more: rows that are committed without them could be changed or walked in between.
            let mut tx = conn.begin().await?;
            written.store(store, &mut tx, &Known::default(), &mut replies).await?;
            tx.commit().await.map_err(at_commit)?;
        }
        learnt.remember(store);
        return Ok(replies);
    }
    let mut tx = conn.begin().await?;
    let known = known::read(store, &mut tx, units).await?;
    let mut replies = written.units(store, &known, units);
    let learnt = written.learn(store, &mut tx).await?;
    written.store(store, &mut tx, &known, &mut replies).await?;
    tx.commit().await.map_err(at_commit)?;
    learnt.remember(store);
    Ok(replies)
}

/// Stands for the instant of the batch in what is decided before it is known.
const OF_BATCH: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

/// When a batch is written. Taken last, when all that it waits for is locked, so that nobody who looks back to an instant that is over misses what is
/// still to be committed (`store::as_of`); and never before what it supersedes, though another server's clock may be ahead.
fn instant_of_batch(store: &Store, known: &Known) -> DateTime<Utc> {
    let latest = known.rows.values().map(|row| row.updated).max();
    store.clock.now().max(latest.unwrap_or(DateTime::<Utc>::MIN_UTC))
}

fn date(replies: &mut [Reply], now: DateTime<Utc>) {
    let units = replies.iter_mut().flatten().flatten();
    for applied in units
        .flat_map(|reply| &mut reply.applied)
        .filter(|applied| applied.updated == OF_BATCH)
    {
        applied.updated = now;
    }
}

/// Applies the first unit, which may change the search parameters: what it writes is indexed by those of after it. The others are decided anew.
async fn change_parameters(store: &Store, conn: &mut PgConnection, units: &[Unit]) -> Result<Vec<Reply>, Failure> {
    let mut tx = conn.begin().await?;
    let change = Change::begin(store, &mut tx).await?;
    let known = known::read(store, &mut tx, &units[..1]).await?;
    let mut written = Written::new(Arc::new(change.before(store)));
    written.change = Some(change);
    let mut replies = written.units(store, &known, &units[..1]);
    let change = written.change.take();
    if let (Some(change), [Some(Ok(_))]) = (&change, replies.as_slice()) {
        change.save(&mut tx).await?;
        let after = Arc::clone(&written.registry);
        let learnt = written.learn(store, &mut tx).await?;
        written.store(store, &mut tx, &known, &mut replies).await?;
        tx.commit().await.map_err(at_commit)?;
        learnt.remember(store);
        store.install(after);
    }
    Ok(with_undecided(replies, units))
}

fn with_undecided(mut replies: Vec<Reply>, units: &[Unit]) -> Vec<Reply> {
    replies.resize_with(units.len(), || None);
    replies
}

/// What a batch writes, gathered from its units.
struct Written {
    /// By which everything in it is indexed.
    registry: Arc<Registry>,
    /// What its one unit does to the search parameters.
    change: Option<Change>,
    columns: Columns,
    documents: Vec<DocumentWrite>,
    /// Further identifiers of documents that are here, and their documents.
    aliases: Vec<(String, i64)>,
    ingestions: Vec<i64>,
    touched: Touched,
}

/// Rows by their ids: what units have rested on, and what they change.
#[derive(Default)]
struct Touched {
    read: HashSet<i64>,
    changed: HashSet<i64>,
}

impl Touched {
    fn meets(&self, other: &Touched) -> bool {
        !self.changed.is_disjoint(&other.changed) || !self.changed.is_disjoint(&other.read) || !self.read.is_disjoint(&other.changed)
    }

    fn add(&mut self, other: Touched) {
        self.read.extend(other.read);
        self.changed.extend(other.changed);
    }
}

/// A unit on the rows that are known: what to do, and what that touches.
struct Decided<'u> {
    decisions: Vec<Decision>,
    prepared: Vec<Option<Cow<'u, Prepared>>>,
    /// Rows whose update brings what is there already.
    unchanged: HashSet<i64>,
    document: Option<Cow<'u, DocumentAction>>,
    /// Rows that the document leaves and nothing else keeps.
    left_behind: Vec<&'u Row>,
    /// Rows of no patient that were here before.
    found: Vec<i64>,
    touched: Touched,
}

impl Written {
    fn new(registry: Arc<Registry>) -> Written {
        Written {
            registry,
            change: None,
            columns: Columns::default(),
            documents: Vec::new(),
            aliases: Vec::new(),
            ingestions: Vec::new(),
            touched: Touched::default(),
        }
    }

    fn units(&mut self, store: &Store, known: &Known, units: &[Unit]) -> Vec<Reply> {
        units.iter().enumerate().map(|(i, unit)| self.unit(store, known, i, unit)).collect()
    }

    /// Decides and prepares one unit. Either all of its operations go into the batch, or none.
    fn unit(&mut self, store: &Store, known: &Known, unit_index: usize, unit: &Unit) -> Reply {
        if unit.ingestion.is_some_and(|id| !known.waiting.contains(&id)) {
            return Some(Err(Outcome::conflict("The operation has ended already")));
        }
        let is_of_generation = |criteria: &Criteria| criteria.custom.is_none_or(|of| of == self.registry.generation());
        if !unit.criteria().all(|(_, criteria)| is_of_generation(criteria)) {
            return Some(Err(Outcome::unavailable("The search parameters were changed meanwhile: try again")));
        }
        if self.change.is_some() && unit.document.is_some() {
            let text = "A clinical document brings no SearchParameter: send it by itself";
            return Some(Err(Outcome::new(Category::Unprocessable, "business-rule", text)));
        }
        let action = unit.document.as_ref().map(|action| action.as_meant(known, unit.is_of_feeder()));
        match action.as_ref().map(|action| action.already_here(known)).transpose() {
            Err(outcome) => return Some(Err(outcome)),
            Ok(Some(Some((document, reply)))) => {
                self.aliases
                    .extend(action.iter().flat_map(|action| action.aliases(known, document)));
                self.ingestions.extend(unit.ingestion);
                return Some(Ok(reply));
            }
            Ok(_) => {}
        }
        let decided = decide_unit(store, &self.registry, known, unit_index, unit, action);
        let mut decided = match decided {
            Ok(decided) => decided,
            Err(outcome) => return Some(Err(outcome)),
        };
        if let Err(outcome) = self.parameters_of(store, unit, &mut decided) {
            return Some(Err(outcome));
        }
        if decided.touched.meets(&self.touched) {
            return None;
        }
        Some(self.record(store, known, unit, decided))
    }

    /// What the unit does to the search parameters; then all that it brings is indexed by those of after it.
    fn parameters_of(&mut self, store: &Store, unit: &Unit, decided: &mut Decided<'_>) -> Result<(), Outcome> {
        let Some(change) = &mut self.change else {
            return check_untouched(&self.registry, &decided.decisions);
        };
        self.registry = Arc::new(change.decided(store, unit, &decided.decisions, &decided.prepared)?);
        for prepared in decided.prepared.iter_mut().flatten() {
            if let Some(anew) = prepared.indexed_by(&self.registry)? {
                *prepared = Cow::Owned(anew);
            }
        }
        Ok(())
    }

    fn record(&mut self, store: &Store, known: &Known, unit: &Unit, decided: Decided<'_>) -> Result<UnitReply, Outcome> {
        let mut applied = Vec::with_capacity(decided.decisions.len());
        let mut members = Vec::new();
        for (decision, prepared) in decided.decisions.into_iter().zip(decided.prepared) {
            let is_unchanged = decision.rids().iter().any(|rid| decided.unchanged.contains(rid));
            applied.push(record(store, decision, prepared, is_unchanged, &mut self.columns, &mut members));
        }
        for row in decided.left_behind {
            self.columns.delete(&store.registry(), row);
        }
        if let Some(action) = decided.document {
            // Only the feeding system ends an oscuramento: a document that is sent again stays as hidden as it was.
            let said = unit
                .is_obscured
                .filter(|_| !matches!(*action, DocumentAction::ReplaceHidden { .. }));
            let is_obscured = said.unwrap_or_else(|| action.was_obscured(known));
            self.documents.push(DocumentWrite {
                action: action.into_owned(),
                members,
                found: decided.found,
                is_obscured,
            });
        }
        self.ingestions.extend(unit.ingestion);
        self.touched.add(decided.touched);
        // A Provenance is no operation of the unit.
        applied.truncate(unit.ops.len());
        Ok(UnitReply {
            applied,
            is_known_document: false,
        })
    }

    /// Returns what is known from now on, if this is committed.
    async fn learn(&mut self, store: &Store, conn: &mut PgConnection) -> Result<Learnt, sqlx::Error> {
        let words = vocabulary::learn(&store.vocabulary, conn, &self.columns.words).await?;
        let units = store.units.leave_new(&mut self.columns.units);
        Ok(Learnt { words, units })
    }

    /// Dates what was decided, and writes it.
    async fn store(mut self, store: &Store, conn: &mut PgConnection, known: &Known, replies: &mut [Reply]) -> Result<(), sqlx::Error> {
        let now = instant_of_batch(store, known);
        date(replies, now);
        if !self.columns.is_empty() {
            self.columns.assign_row_ids(store.row_ids.take(conn, self.columns.inserts()).await?);
            statements::write(conn, &self.columns, self.registry.generation(), now).await?;
        }
        for document in &self.documents {
            document_rows::store(store, conn, document, &self.columns.member_ids(&document.members), now).await?;
        }
        document_rows::store_aliases(conn, &self.aliases).await?;
        ingestion::succeed(conn, &self.ingestions, now).await
    }
}

fn decide_unit<'u>(
    store: &Store,
    registry: &Registry,
    known: &'u Known,
    unit_index: usize,
    unit: &'u Unit,
    document: Option<Cow<'u, DocumentAction>>,
) -> Result<Decided<'u>, Outcome> {
    let mut decisions = decide(registry, known, unit_index, unit)?;
    let targets = link_targets(registry, known, unit_index, unit, &decisions)?;
    let mut prepared = Vec::with_capacity(unit.ops.len());
    for (i, (op, decision)) in unit.ops.iter().zip(&decisions).enumerate() {
        let type_number = op.type_number();
        prepared.push(match (op, decision) {
            (Op::Create { content, .. } | Op::Update { content, .. }, _) => Some(prepare(store, registry, type_number, content, &targets)?),
            (Op::Patch { edit, .. }, Decision::Update { row, .. }) => {
                let patched = patched(store, registry, row, edit, &targets);
                Some(Cow::Owned(
                    patched.map_err(|e| unit.place_of(i).map_or(e.clone(), |place| e.at(&place)))?,
                ))
            }
            (Op::Patch { .. } | Op::Delete { .. }, _) => None,
        });
    }
    integrity::check(&store.registry(), known, unit, &decisions, &prepared)?;
    let unchanged = unchanged(store, &decisions, &prepared)?;
    if let Some(provenance) = &unit.provenance {
        let told = attest::targets(registry, &decisions, &prepared, &unchanged);
        if let (false, Some(type_number)) = (told.is_empty(), store.registry().number_of("Provenance")) {
            let linked = linked(store, registry, type_number, &attest::text(provenance, &told)?, &targets)?;
            prepared.push(Some(Cow::Owned(linked)));
            decisions.push(Decision::Insert { id: provenance.id.clone() });
        }
    }
    let mut touched = Touched::default();
    touched
        .read
        .extend(targets::check(store, registry, known, unit, &decisions, &prepared)?);
    for decision in &decisions {
        let rows = if decision.changes() {
            &mut touched.changed
        } else {
            &mut touched.read
        };
        rows.extend(decision.rids());
    }
    let lookups = (0..unit.lookups.len()).filter_map(|i| match_of_lookup(known, unit_index, i).ok());
    touched.read.extend(lookups.map(|row| row.rid));
    let (mut left_behind, mut found) = (Vec::new(), Vec::new());
    if let Some(action) = &document {
        found.extend(decisions.iter().filter_map(|d| found_before(store, d)));
        let kept: HashSet<i64> = decisions.iter().flat_map(Decision::rids).collect();
        left_behind = action.left_behind(known, &kept);
        // All that the document has: what it hides or shows, and what is looked at to know that.
        touched.changed.extend(action.members(known));
    }
    Ok(Decided {
        decisions,
        prepared,
        unchanged,
        document,
        left_behind,
        found,
        touched,
    })
}

/// Rows whose update brings what is there already.
fn unchanged(store: &Store, decisions: &[Decision], prepared: &[Option<Cow<'_, Prepared>>]) -> Result<HashSet<i64>, Outcome> {
    let mut unchanged = HashSet::new();
    for (decision, prepared) in decisions.iter().zip(prepared) {
        if let (Decision::Update { row, .. }, Some(prepared)) = (decision, prepared)
            && !row.body.is_empty()
            && store.bodies.decompress(row.dictionary, &row.body)? == prepared.kept
        {
            unchanged.insert(row.rid);
        }
    }
    Ok(unchanged)
}

/// The row of a decision that was here before, if it belongs to no patient.
fn found_before(store: &Store, decision: &Decision) -> Option<i64> {
    let type_number = match decision {
        Decision::Keep(_, applied) => applied.type_number,
        Decision::Update { row, .. } => row.type_number,
        Decision::Insert { .. } | Decision::Delete { .. } => return None,
    };
    let is_of_patient = store.registry().is_in_patient_compartment(store.registry().name_of(type_number));
    decision.rids().first().copied().filter(|_| !is_of_patient)
}

/// Puts one decided operation into the columns to write, and says what became of it.
fn record(
    store: &Store,
    decision: Decision,
    prepared: Option<Cow<'_, Prepared>>,
    is_unchanged: bool,
    columns: &mut Columns,
    members: &mut Vec<Member>,
) -> Applied {
    match (decision, prepared) {
        (Decision::Keep(rid, applied), _) => {
            members.extend(rid.map(Member::Known));
            applied
        }
        (Decision::Delete { rows }, _) => {
            for row in &rows {
                columns.delete(&store.registry(), row);
            }
            let deleted = rows.len();
            let row = rows.into_iter().next().expect("a deletion is of one row at least");
            Applied {
                effect: Effect::Deleted,
                type_number: row.type_number,
                version: row.version + 1,
                id: row.id,
                updated: OF_BATCH,
                left: Left::Nothing,
                deleted,
            }
        }
        (Decision::Insert { id }, Some(prepared)) => {
            members.push(Member::New(columns.insert(&store.registry(), &id, &prepared)));
            Applied {
                effect: Effect::Created,
                type_number: prepared.type_number,
                id,
                version: 1,
                updated: OF_BATCH,
                left: Left::Text(prepared.kept.clone()),
                deleted: 0,
            }
        }
        (Decision::Update { row, answers_as_new }, Some(prepared)) => {
            members.push(Member::Known(row.rid));
            if !is_unchanged {
                columns.update(&store.registry(), &row, &prepared);
            }
            let (effect, version, updated) = match (answers_as_new, is_unchanged, row.state()) {
                (true, ..) => (Effect::Created, 1, OF_BATCH),
                (_, true, _) => (Effect::Unchanged, row.version, row.updated),
                (_, _, State::Deleted) => (Effect::Created, row.version + 1, OF_BATCH),
                _ => (Effect::Updated, row.version + 1, OF_BATCH),
            };
            Applied {
                effect,
                type_number: row.type_number,
                id: row.id,
                version,
                updated,
                left: Left::Text(prepared.kept.clone()),
                deleted: 0,
            }
        }
        (Decision::Insert { .. } | Decision::Update { .. }, None) => unreachable!("whatever inserts or updates was prepared"),
    }
}
