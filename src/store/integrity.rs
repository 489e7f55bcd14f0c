//! References to what is deleted: who refers to it is found in the index, where a reference is `salt XOR target`.
//!
//! Only what can be seen counts. Where hidden resources alone refer to one, it is deleted as if they were not there: their references lead
//! nowhere, and shown again they are as any whose target is deleted. References that no search parameter reads do not count.

use crate::fhir::identity::self_hash;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::policy::State;
use crate::search::parameters::Registry;
use crate::search::term::reference_term;
use crate::store::Store;
use crate::store::decide::Decision;
use crate::store::decide::hash_of;
use crate::store::known::first_of_all;
use crate::store::known::lock_rows;
use crate::store::unit::Known;
use crate::store::unit::Op;
use crate::store::unit::Place;
use crate::store::unit::Prepared;
use crate::store::unit::Referrers;
use crate::store::unit::Target;
use crate::store::unit::Unit;
use sqlx::PgConnection;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

/// They tell of what was done to a resource, its deletion too.
const TELLERS: &[&str] = &["Provenance", "AuditEvent"];
/// Referrers that an error names.
const NAMED_MAX: usize = 10;

/// Who refers to what the units delete.
#[derive(Default)]
pub struct References {
    /// By the hash of what is deleted.
    referrers: HashMap<i64, Vec<Referrer>>,
    /// What an operation deletes beside its targets. Error: how many it may, when there are more.
    cascades: HashMap<(usize, usize), Result<Vec<i64>, usize>>,
}

#[derive(Debug, Clone)]
struct Referrer {
    self_hash: i64,
    type_number: i16,
    id: String,
    version: i32,
}

impl References {
    /// What an operation of a unit deletes beside its targets. Errors: 409 for more than allowed.
    pub fn cascade(&self, of: (usize, usize)) -> Result<&[i64], Outcome> {
        match self.cascades.get(&of) {
            None => Ok(&[]),
            Some(Ok(hashes)) => Ok(hashes),
            Some(Err(max)) => {
                let text = format!("More than {max} resources would be deleted with it (delete.cascade_max): nothing was");
                Err(Outcome::conflict(text).with_code("too-costly"))
            }
        }
    }
}

/// One deletion while its references are looked for.
struct Search {
    of: (usize, usize),
    /// What a cascade may still add; `None` without one.
    room: Option<usize>,
    /// How many referrers of one target tell enough.
    enough: usize,
    found: Vec<i64>,
    /// Targets whose referrers are not known yet.
    next: Vec<i64>,
}

/// Finds who refers to what the units delete; locks what cascades take.
pub async fn read(
    store: &Store,
    conn: &mut PgConnection,
    units: &[Unit],
    hashes: &mut Vec<i64>,
    known: &mut Known,
) -> Result<(), sqlx::Error> {
    let mut searches = searches(store, units, known);
    while searches.iter().any(|search| !search.next.is_empty()) {
        let asked: HashMap<i64, usize> = searches
            .iter()
            .flat_map(|search| search.next.iter().map(|hash| (*hash, search.enough)))
            .collect();
        let referrers = loop {
            let referrers = referrers(store, conn, known, &asked).await?;
            let taken = searches.iter().filter(|s| s.room.is_some()).flat_map(|s| &s.next);
            let taken: Vec<&Referrer> = taken.filter_map(|hash| referrers.get(hash)).flatten().collect();
            hashes.extend(taken.iter().map(|referrer| referrer.self_hash));
            lock_rows(store, conn, hashes, known).await?;
            // As with matches: if another writer has come between, they are looked for anew.
            let is_still = |referrer: &&Referrer| {
                let row = known.rows.get(&referrer.self_hash);
                row.is_some_and(|row| row.version == referrer.version && Policy::NotWithdrawn.sees(row.state()))
            };
            if taken.iter().all(is_still) {
                break referrers;
            }
        };
        for search in &mut searches {
            search.step(&referrers);
        }
        known.references.referrers.extend(referrers);
    }
    for search in searches {
        match search.room {
            None => {}
            Some(0) if search.found.len() > search.enough => drop(known.references.cascades.insert(search.of, Err(search.enough))),
            Some(_) => drop(known.references.cascades.insert(search.of, Ok(search.found))),
        }
    }
    Ok(())
}

impl Search {
    /// Takes over what was found for its targets; what a cascade adds has referrers of its own.
    fn step(&mut self, referrers: &HashMap<i64, Vec<Referrer>>) {
        let of_targets: Vec<i64> = std::mem::take(&mut self.next)
            .iter()
            .filter_map(|hash| referrers.get(hash))
            .flatten()
            .map(|referrer| referrer.self_hash)
            .collect();
        let Some(room) = &mut self.room else { return };
        for hash in of_targets {
            if self.found.contains(&hash) {
                continue;
            }
            self.found.push(hash);
            match room.checked_sub(1) {
                Some(less) => {
                    *room = less;
                    self.next.push(hash);
                }
                None => {
                    self.next.clear();
                    return;
                }
            }
        }
    }
}

fn searches(store: &Store, units: &[Unit], known: &Known) -> Vec<Search> {
    let registry = store.registry();
    let mut searches = Vec::new();
    for (unit_index, unit) in units.iter().enumerate() {
        for (i, op) in unit.ops.iter().enumerate() {
            let Op::Delete {
                type_number,
                target,
                referrers,
                ..
            } = op
            else {
                continue;
            };
            let (room, enough) = match referrers {
                Referrers::Stay => continue,
                // Of those that are found the unit itself may change so many.
                Referrers::Refuse => (None, NAMED_MAX + unit.ops.len()),
                Referrers::Cascade(max) => (Some(*max), *max),
            };
            let targets = match target {
                Target::Id(id) => vec![self_hash(registry.name_of(*type_number), id)],
                Target::Matching(..) => known.matches.get(&(unit_index, Place::Op(i))).cloned().unwrap_or_default(),
            };
            let is_live = |hash: &i64| known.rows.get(hash).is_some_and(|row| row.state() == State::Live);
            searches.push(Search {
                of: (unit_index, i),
                room,
                enough,
                found: Vec::new(),
                next: targets.into_iter().filter(is_live).collect(),
            });
        }
    }
    searches
}

/// The visible resources that refer to these, so many of each and one more.
async fn referrers(
    store: &Store,
    conn: &mut PgConnection,
    known: &Known,
    asked: &HashMap<i64, usize>,
) -> Result<HashMap<i64, Vec<Referrer>>, sqlx::Error> {
    let registry = store.registry();
    let tellers: Vec<i16> = TELLERS.iter().filter_map(|name| registry.number_of(name)).collect();
    // Parameters that cannot lead to a type need not be looked at.
    let mut by_type: BTreeMap<i16, Vec<i64>> = BTreeMap::new();
    for hash in asked.keys() {
        if let Some(row) = known.rows.get(hash) {
            by_type.entry(row.type_number).or_default().push(*hash);
        }
    }
    let mut found: HashMap<i64, Vec<Referrer>> = asked.keys().map(|hash| (*hash, Vec::new())).collect();
    for (type_number, targets) in by_type {
        let enough = targets.iter().filter_map(|hash| asked.get(hash)).max().copied().unwrap_or(0);
        let text = format!(
            "select t.hash, m.self_hash, m.type, m.id, m.version
             from unnest($1::bigint[]) t (hash)
             cross join lateral (
                 select r.self_hash, r.type, r.id, r.version
                 from resource r
                 where {predicate} and r.terms && array(select s # t.hash from unnest($2::bigint[]) s)
                   and r.type <> all($3) and r.self_hash <> t.hash
                 order by {first}
             ) m",
            predicate = Policy::NotWithdrawn.predicate("r"),
            first = first_of_all("r", enough + 1)
        );
        let rows: Vec<(i64, i64, i16, String, i32)> = sqlx::query_as(sqlx::AssertSqlSafe(text))
            .bind(targets)
            .bind(registry.salts_to(registry.name_of(type_number)))
            .bind(&tellers)
            .fetch_all(&mut *conn)
            .await?;
        for (target, self_hash, type_number, id, version) in rows {
            found.entry(target).or_default().push(Referrer {
                self_hash,
                type_number,
                id,
                version,
            });
        }
    }
    Ok(found)
}

/// When all operations of a unit are done, nobody refers to what those delete that do not allow it. Errors: 409 naming who does, at the entry.
pub fn check(
    registry: &Registry,
    known: &Known,
    unit: &Unit,
    decisions: &[Decision],
    prepared: &[Option<Cow<'_, Prepared>>],
) -> Result<(), Outcome> {
    let asks = |op: &Op| matches!(op, Op::Delete { referrers, .. } if *referrers != Referrers::Stay);
    if !unit.ops.iter().any(asks) {
        return Ok(());
    }
    // What the unit writes, by its hash: `None` for what it deletes.
    let mut written: HashMap<i64, Option<(&Prepared, &str)>> = HashMap::new();
    for (decision, prepared) in decisions.iter().zip(prepared) {
        match (decision, prepared) {
            (Decision::Delete { rows }, _) => written.extend(rows.iter().map(|row| (hash_of(registry, row), None))),
            (Decision::Insert { .. } | Decision::Update { .. }, Some(prepared)) if !is_hidden(decision) => {
                let hash = self_hash(registry.name_of(prepared.type_number), decision.id());
                written.insert(hash, Some((prepared, decision.id())));
            }
            _ => {}
        }
    }
    let mut salts: HashMap<i16, HashSet<i64>> = HashMap::new();
    for (i, (op, decision)) in unit.ops.iter().zip(decisions).enumerate() {
        let (true, Decision::Delete { rows }) = (asks(op), decision) else {
            continue;
        };
        for row in rows {
            let target = hash_of(registry, row);
            let salts = salts
                .entry(row.type_number)
                .or_insert_with(|| registry.salts_to(registry.name_of(row.type_number)).into_iter().collect());
            let refers = |prepared: &Prepared| {
                prepared
                    .references()
                    .iter()
                    .any(|term| salts.contains(&reference_term(*term, target)))
            };
            let before = known.references.referrers.get(&target).into_iter().flatten();
            let mut names: Vec<String> = before
                .filter(|referrer| !written.contains_key(&referrer.self_hash))
                .map(|referrer| format!("{}/{}", registry.name_of(referrer.type_number), referrer.id))
                .collect();
            let after = written.values().flatten().filter(|(prepared, _)| refers(prepared));
            let after = after.map(|(prepared, id)| format!("{}/{id}", registry.name_of(prepared.type_number)));
            names.extend(after.filter(|name| !TELLERS.iter().any(|teller| name.starts_with(teller))));
            if !names.is_empty() {
                let refused = refusal(&format!("{}/{}", registry.name_of(row.type_number), row.id), names);
                return Err(match unit.place_of(i) {
                    Some(place) => refused.at(&place),
                    None => refused,
                });
            }
        }
    }
    Ok(())
}

fn is_hidden(decision: &Decision) -> bool {
    matches!(decision, Decision::Update { row, .. } if row.state() == State::Withdrawn)
}

fn refusal(what: &str, mut names: Vec<String>) -> Outcome {
    names.sort_unstable();
    let more = if names.len() > NAMED_MAX { " and others" } else { "" };
    names.truncate(NAMED_MAX);
    Outcome::conflict(format!(
        "{what} is referred to by {}{more}: delete or change those before or in the same transaction, or ask for their deletion with it (X-Cascade: delete)",
        names.join(", ")
    ))
}
