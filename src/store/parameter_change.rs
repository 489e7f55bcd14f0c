//! What a unit does to the search parameters of one's own: decided under the lock that no batch holds, and written with what the unit writes.

use crate::fhir::json::Document;
use crate::outcome::Outcome;
use crate::search::custom::definition::Definition;
use crate::search::parameters::Registry;
use crate::store::Store;
use crate::store::decide::Decision;
use crate::store::prepare::accepted;
use crate::store::search_parameter::ParameterRow;
use crate::store::search_parameter::State;
use crate::store::search_parameter::lock;
use crate::store::search_parameter::raise;
use crate::store::search_parameter::read;
use crate::store::search_parameter::registry;
use crate::store::unit::Prepared;
use crate::store::unit::SEARCH_PARAMETER;
use crate::store::unit::Unit;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::borrow::Cow;

/// For a unit that brings no SearchParameter. Errors: 409 when one would be deleted with what it deletes.
pub fn check_untouched(registry: &Registry, decisions: &[Decision]) -> Result<(), Outcome> {
    let number = registry.number_of(SEARCH_PARAMETER);
    let is_it = |decision: &Decision| match decision {
        Decision::Delete { rows } => rows.iter().any(|row| Some(row.type_number) == number),
        _ => false,
    };
    match decisions.iter().any(is_it) {
        true => Err(Outcome::conflict(
            "A SearchParameter refers to what is to be deleted, and is not deleted with others: delete it by itself before",
        )),
        false => Ok(()),
    }
}

/// What a unit does to the parameters, decided under the lock.
pub struct Change {
    rows: Vec<ParameterRow>,
    changed: Vec<ParameterRow>,
    generation: i64,
    now: DateTime<Utc>,
}

/// Parameters in use at a time: each is read from every resource of its types that is written.
const IN_USE_MAX: usize = 200;

impl Change {
    /// The first that its transaction does: whoever holds rows already and waits for the lock could be waited for.
    pub async fn begin(store: &Store, conn: &mut PgConnection) -> Result<Change, sqlx::Error> {
        lock(conn).await?;
        let (generation, rows) = read(conn).await?;
        Ok(Change {
            rows,
            changed: Vec::new(),
            generation,
            now: store.clock.now(),
        })
    }

    /// The parameters before the change.
    pub fn before(&self, store: &Store) -> Registry {
        registry(store, self.generation, &self.rows).0
    }

    /// Puts the SearchParameters that a unit brings or deletes in and out of use; the registry of after it. Errors: the first that cannot be used, at
    /// its entry.
    pub fn decided(
        &mut self,
        store: &Store,
        unit: &Unit,
        decisions: &[Decision],
        prepared: &[Option<Cow<'_, Prepared>>],
    ) -> Result<Registry, Outcome> {
        let registry = store.registry();
        let number = registry.number_of(SEARCH_PARAMETER);
        for (i, (op, decision)) in unit.ops.iter().zip(decisions).enumerate() {
            let at = |outcome: Outcome| match unit.place_of(i) {
                Some(place) => outcome.at(&place),
                None => outcome,
            };
            match (decision, &prepared[i]) {
                (Decision::Delete { rows }, _) => {
                    for row in rows.iter().filter(|row| Some(row.type_number) == number) {
                        self.put(store, &row.id, None).map_err(at)?;
                    }
                }
                (Decision::Insert { .. } | Decision::Update { .. }, Some(prepared)) if Some(op.type_number()) == number => {
                    let json = prepared.to_json(&registry);
                    let document = Document::parse_str(&json).map_err(accepted)?;
                    let definition = Definition::read(registry.definitions, document.root()).map_err(at)?;
                    self.put(store, decision.id(), definition).map_err(at)?;
                }
                _ => {}
            }
        }
        Ok(self.after(store))
    }

    /// A SearchParameter becomes this; `None`: it is a draft, retired or deleted.
    fn put(&mut self, store: &Store, id: &str, definition: Option<Definition>) -> Result<(), Outcome> {
        let known = self.rows.iter().find(|row| row.id == id).cloned();
        let walked = |row: ParameterRow, state: State| ParameterRow {
            state: state as i16,
            is_paused: false,
            after_rid: 0,
            last_rid: 0,
            started: self.now,
            updated: self.now,
            ..row
        };
        let row = match (known, definition) {
            (None, None) => return Ok(()),
            (Some(row), None) if row.is_in_use() => walked(row, State::Leaving),
            (Some(_), None) => return Ok(()),
            (Some(row), Some(definition)) if row.is_in_use() && row.definition.0 == definition => return Ok(()),
            (Some(row), Some(definition)) if row.is_in_use() && row.definition.reads_as(&definition) => ParameterRow {
                definition: Json(definition),
                updated: self.now,
                ..row
            },
            (known, Some(definition)) => {
                let registry = store.registry();
                let names = definition.types(registry.definitions);
                let mut types: Vec<i16> = names.iter().filter_map(|name| registry.number_of(name)).collect();
                // What it read before goes out of the index by the same walk.
                types.extend(known.iter().flat_map(|row| &row.types));
                types.sort_unstable();
                types.dedup();
                let row = ParameterRow {
                    id: id.to_owned(),
                    definition: Json(definition),
                    state: 0,
                    is_paused: false,
                    types,
                    after_rid: 0,
                    last_rid: 0,
                    started: self.now,
                    updated: self.now,
                };
                walked(row, State::Indexing)
            }
        };
        self.rows.retain(|other| other.id != id);
        self.changed.retain(|other| other.id != id);
        self.rows.push(row.clone());
        self.changed.push(row);
        if self.rows.iter().filter(|row| row.is_in_use()).count() > IN_USE_MAX {
            let text =
                format!("At most {IN_USE_MAX} search parameters of one's own are in use at a time (IN_USE_MAX): retire others first");
            return Err(Outcome::conflict(text).with_code("too-costly"));
        }
        let (_, unusable) = registry(store, 0, &self.rows);
        match unusable.into_iter().find(|(unusable, _)| unusable == id) {
            Some((_, outcome)) => Err(outcome),
            None => Ok(()),
        }
    }

    /// The generation is that which `save` gives.
    fn after(&self, store: &Store) -> Registry {
        let generation = self.generation + i64::from(!self.changed.is_empty());
        registry(store, generation, &self.rows).0
    }

    pub async fn save(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.changed.is_empty() {
            return Ok(());
        }
        raise(conn).await?;
        for row in &self.changed {
            let text = "
insert into search_parameter (id, definition, state, is_paused, types, after_rid, last_rid, started, updated)
select $1, $2, $3, $4, $5, $6, case when $7 > 0 then $7 else coalesce(max(rid), 0) end, $8, $9
from resource
on conflict (id) do update
set definition = excluded.definition, state = excluded.state, is_paused = excluded.is_paused, types = excluded.types,
    after_rid = excluded.after_rid, last_rid = excluded.last_rid, started = excluded.started, updated = excluded.updated";
            sqlx::query(text)
                .bind(&row.id)
                .bind(&row.definition)
                .bind(row.state)
                .bind(row.is_paused)
                .bind(&row.types)
                .bind(row.after_rid)
                .bind(row.last_rid)
                .bind(row.started)
                .bind(row.updated)
                .execute(&mut *conn)
                .await?;
        }
        Ok(())
    }
}
