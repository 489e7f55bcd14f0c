//! The rows of one batch, column by column: each field is an array argument of the write statement.

use crate::fhir::identity::self_hash;
use crate::policy::State;
use crate::search::full_text::Texts;
use crate::search::index::IndexEntry;
use crate::search::index::QuantityEntry;
use crate::search::index::UnitEntry;
use crate::search::index::Word;
use crate::search::parameters::Registry;
use crate::search::units::Measure;
use crate::store::contained::ContainedColumns;
use crate::store::rows::Row;
use crate::store::unit::Change;
use crate::store::unit::Prepared;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use std::collections::HashSet;
use std::sync::Mutex;

/// A member of a document: where its row id will be.
pub enum Member {
    New(usize),
    Known(i64),
}

/// The columns of one batch: each field is an array argument.
#[derive(Default)]
pub struct Columns {
    pub rid: Vec<i64>,
    pub self_hash: Vec<i64>,
    pub present: Vec<i64>,
    pub date_low: Vec<Option<i64>>,
    pub date_high: Vec<Option<i64>>,
    pub version: Vec<i32>,
    pub type_number: Vec<i16>,
    pub state: Vec<i16>,
    pub dictionary: Vec<i16>,
    pub reference_terms: Vec<i16>,
    pub id: Vec<String>,
    /// First and last place in `terms`, counted from 1 as SQL does.
    pub term_first: Vec<i32>,
    pub term_last: Vec<i32>,
    pub body: Vec<Vec<u8>>,
    pub is_new: Vec<bool>,
    pub operation: Vec<i16>,
    pub terms: Vec<i64>,
    pub strings: Side<String>,
    pub dates: Side<(i64, i64)>,
    pub quantities: Side<QuantityEntry>,
    pub positions: Side<(f64, f64)>,
    /// Each once, but those that are known to be there ([`KnownUnits`]).
    pub units: Vec<UnitEntry>,
    /// For the vocabulary, which has no rows of a resource.
    pub words: Vec<Word>,
    /// Texts, with the place of their resource in the columns.
    pub texts: Vec<(usize, Texts)>,
    /// What the resources contain; most contain nothing.
    pub contained: Option<Box<ContainedColumns>>,
    pub inserts: usize,
}

/// Rows of a side table, with the place of their resource in the columns.
pub struct Side<T> {
    of: Vec<usize>,
    key: Vec<i32>,
    values: Vec<T>,
}

impl<T> Default for Side<T> {
    fn default() -> Side<T> {
        Side {
            of: Vec::new(),
            key: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl Columns {
    pub fn is_empty(&self) -> bool {
        self.rid.is_empty()
    }

    pub fn inserts(&self) -> usize {
        self.inserts
    }

    /// Returns the place of the new row.
    pub fn insert(&mut self, registry: &Registry, id: &str, prepared: &Prepared) -> usize {
        self.inserts += 1;
        let type_number = prepared.type_number;
        self.push(
            0,
            self_hash(registry.name_of(type_number), id),
            type_number,
            id,
            1,
            State::Live,
            true,
            Change::Create,
            Some(prepared),
        );
        self.rid.len() - 1
    }

    pub fn update(&mut self, registry: &Registry, row: &Row, prepared: &Prepared) {
        let (state, change) = match row.state() {
            State::Withdrawn => (State::Withdrawn, Change::Update),
            State::Deleted => (State::Live, Change::Create),
            State::Live => (State::Live, Change::Update),
        };
        let hash = self_hash(registry.name_of(row.type_number), &row.id);
        self.push(
            row.rid,
            hash,
            row.type_number,
            &row.id,
            row.version + 1,
            state,
            false,
            change,
            Some(prepared),
        );
    }

    pub fn delete(&mut self, registry: &Registry, row: &Row) {
        let hash = self_hash(registry.name_of(row.type_number), &row.id);
        // What was obscured stays so: neither its end nor its history is told.
        let state = if row.state() == State::Withdrawn {
            State::Withdrawn
        } else {
            State::Deleted
        };
        self.push(
            row.rid,
            hash,
            row.type_number,
            &row.id,
            row.version + 1,
            state,
            false,
            Change::Delete,
            None,
        );
    }

    #[expect(clippy::too_many_arguments, reason = "one per column of the row; called from three places here")]
    fn push(
        &mut self,
        rid: i64,
        hash: i64,
        type_number: i16,
        id: &str,
        version: i32,
        state: State,
        is_new: bool,
        change: Change,
        prepared: Option<&Prepared>,
    ) {
        let place = self.rid.len();
        self.rid.push(rid);
        self.self_hash.push(hash);
        self.type_number.push(type_number);
        self.id.push(id.to_owned());
        self.version.push(version);
        self.state.push(state as i16);
        self.is_new.push(is_new);
        self.operation.push(change as i16);
        let Some(Prepared {
            entry, dictionary, body, ..
        }) = prepared
        else {
            // A deleted resource: nothing of it stays in the index.
            self.dictionary.push(0);
            self.body.push(Vec::new());
            self.push_entry(place, &IndexEntry::default());
            return;
        };
        self.dictionary.push(*dictionary);
        self.body.push(body.clone());
        self.push_entry(place, &entry.of_resource(hash));
    }

    /// The entry is [`IndexEntry::of_resource`].
    pub fn push_entry(&mut self, place: usize, entry: &IndexEntry) {
        self.present.push(entry.present);
        self.date_low.push(entry.date.map(|d| d.low));
        self.date_high.push(entry.date.map(|d| d.high));
        self.reference_terms.push(entry.reference_terms);
        self.term_first.push(self.terms.len() as i32 + 1);
        self.terms.extend_from_slice(&entry.terms);
        self.term_last.push(self.terms.len() as i32);
        self.words.extend_from_slice(&entry.words);
        if !entry.texts.is_empty() {
            self.texts.push((place, entry.texts.clone()));
        }
        for (key, value) in &entry.strings {
            self.strings.add(place, *key, value.clone());
        }
        for (key, date) in &entry.dates {
            self.dates.add(place, *key, (date.low, date.high));
        }
        for q in &entry.quantities {
            self.quantities.add(place, q.key, q.clone());
        }
        for position in &entry.positions {
            self.positions.add(place, 0, *position);
        }
        self.push_units(&entry.units);
        if !entry.contained.is_empty() {
            let container = self.self_hash[place];
            let mut contained = self.contained.take().unwrap_or_default();
            for entry in &entry.contained {
                contained.push(place, container, entry);
            }
            let (mut words, units) = contained.take_shared();
            self.words.append(&mut words);
            self.push_units(&units);
            self.contained = Some(contained);
        }
    }

    fn push_units(&mut self, units: &[UnitEntry]) {
        for unit in units {
            if !self.units.iter().any(|known| known.hash == unit.hash) {
                self.units.push(unit.clone());
            }
        }
    }

    /// Binds the columns of the side tables and of the units.
    pub fn bind_sides<'q>(&self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        self.bind_positions(&self.rid, self.bind_units(self.bind_values(&self.rid, query)))
    }

    /// Binds strings, dates and quantities, of rows with these ids.
    pub fn bind_values<'q>(&self, rids: &[i64], query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let (dates, quantities) = (&self.dates.values, &self.quantities.values);
        query
            .bind(self.strings.rids(rids))
            .bind(self.strings.key.clone())
            .bind(self.strings.values.clone())
            .bind(self.dates.rids(rids))
            .bind(self.dates.key.clone())
            .bind(dates.iter().map(|d| d.0).collect::<Vec<_>>())
            .bind(dates.iter().map(|d| d.1).collect::<Vec<_>>())
            .bind(self.quantities.rids(rids))
            .bind(self.quantities.key.clone())
            .bind(quantities.iter().map(|q| q.unit).collect::<Vec<_>>())
            .bind(quantities.iter().map(|q| q.code).collect::<Vec<_>>())
            .bind(quantities.iter().map(|q| q.low).collect::<Vec<_>>())
            .bind(quantities.iter().map(|q| q.high).collect::<Vec<_>>())
            .bind(quantities.iter().map(|q| q.joint.map(|joint| joint.1)).collect::<Vec<_>>())
            .bind(quantities.iter().map(|q| q.joint.map(|joint| joint.0)).collect::<Vec<_>>())
    }

    fn bind_units<'q>(&self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let measures: Vec<Option<Measure>> = self.units.iter().map(|u| Measure::of(&u.system, &u.code)).collect();
        query
            .bind(self.units.iter().map(|u| u.hash).collect::<Vec<_>>())
            .bind(self.units.iter().map(|u| u.code.clone()).collect::<Vec<_>>())
            .bind(measures.iter().map(|m| m.as_ref().map(|m| m.dimension.clone())).collect::<Vec<_>>())
            .bind(measures.iter().map(|m| m.as_ref().map(Measure::factor)).collect::<Vec<_>>())
            .bind(measures.iter().map(|m| m.as_ref().map(Measure::shift)).collect::<Vec<_>>())
    }

    pub fn bind_positions<'q>(&self, rids: &[i64], query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let positions = &self.positions.values;
        query
            .bind(self.positions.rids(rids))
            .bind(positions.iter().map(|p| p.0).collect::<Vec<_>>())
            .bind(positions.iter().map(|p| p.1).collect::<Vec<_>>())
    }

    /// Gives the new rows their ids, in order.
    pub fn assign_row_ids(&mut self, ids: Vec<i64>) {
        let mut ids = ids.into_iter();
        for (rid, is_new) in self.rid.iter_mut().zip(&self.is_new) {
            if *is_new {
                *rid = ids.next().expect("one id was taken for each new row");
            }
        }
    }

    pub fn member_ids(&self, members: &[Member]) -> Vec<i64> {
        members
            .iter()
            .map(|m| match m {
                Member::New(place) => self.rid[*place],
                Member::Known(rid) => *rid,
            })
            .collect()
    }

    /// Row ids of what exists already: their old versions go to history, their side rows away.
    pub fn changed(&self) -> Vec<i64> {
        self.rid
            .iter()
            .zip(&self.is_new)
            .filter(|(_, is_new)| !**is_new)
            .map(|(rid, _)| *rid)
            .collect()
    }
}

/// Units that are committed in the table `unit`, as far as this process knows: most batches bring no other. Units are never taken away.
#[derive(Debug, Default)]
pub struct KnownUnits(Mutex<HashSet<i64>>);

/// More are forgotten and asked for again: whoever invents units must not fill the memory.
const KNOWN_UNITS_MAX: usize = 65_536;

impl KnownUnits {
    /// Leaves only those that may not be there yet, in the order in which all writers insert them; returns their hashes.
    pub fn leave_new(&self, units: &mut Vec<UnitEntry>) -> Vec<i64> {
        let known = self.0.lock().expect("not poisoned");
        units.retain(|unit| !known.contains(&unit.hash));
        units.sort_by_key(|unit| unit.hash);
        units.iter().map(|unit| unit.hash).collect()
    }

    /// These are committed.
    pub fn learn(&self, hashes: Vec<i64>) {
        let mut known = self.0.lock().expect("not poisoned");
        if known.len() > KNOWN_UNITS_MAX {
            known.clear();
        }
        known.extend(hashes);
    }
}

impl<T> Side<T> {
    fn add(&mut self, of: usize, key: i32, value: T) {
        self.of.push(of);
        self.key.push(key);
        self.values.push(value);
    }

    fn rids(&self, rids: &[i64]) -> Vec<i64> {
        self.of.iter().map(|place| rids[*place]).collect()
    }
}
