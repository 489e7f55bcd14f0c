//! What the units of a batch rest on: locks, rows, the matches of their criteria, their documents. Read in one transaction, before anything is
//! decided; what is locked stays as it is until the batch is written.

use crate::fhir::identity::self_hash;
use crate::fhir::json::Document;
use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::condition::Condition;
use crate::store::Store;
use crate::store::document_rows;
use crate::store::ingestion;
use crate::store::integrity;
use crate::store::read::run;
use crate::store::rows;
use crate::store::rows::Row;
use crate::store::targets;
use crate::store::unit::Criteria;
use crate::store::unit::Known;
use crate::store::unit::Place;
use crate::store::unit::Unit;
use sqlx::PgConnection;
use sqlx::Row as _;

/// Locks what the units touch and reads what they depend on.
pub async fn read(store: &Store, conn: &mut PgConnection, units: &[Unit]) -> Result<Known, sqlx::Error> {
    lock(store, conn, units).await?;
    let mut known = Known {
        documents: document_rows::read(store, conn, units).await?,
        waiting: ingestion::still_waiting(conn, units).await?,
        ..Known::default()
    };
    let mut hashes: Vec<i64> = {
        let registry = store.registry();
        units.iter().flat_map(|unit| unit.hashes(&registry)).collect()
    };
    hashes.extend(targets::hashes(store, units));
    hashes.extend(known.documents.values().flat_map(|d| d.members.iter().map(|m| m.self_hash)));
    let criteria: Vec<((usize, Place), &Criteria)> = units
        .iter()
        .enumerate()
        .flat_map(|(i, unit)| unit.criteria().map(move |(place, c)| ((i, place), c)))
        .collect();
    loop {
        let found = matches(conn, &criteria).await?;
        hashes.extend(found.iter().map(|m| m.self_hash));
        lock_rows(store, conn, &mut hashes, &mut known).await?;
        // A match that is still as it was found is one. If another has come between, it is looked for anew: what is locked now stays as
        // it is, so each further turn takes another writer's commit in between.
        if found.iter().all(|m| m.is_still(&known)) {
            for m in found {
                known.matches.entry(m.of).or_default().push(m.self_hash);
            }
            break;
        }
    }
    forget_false_matches(store, &mut known, &criteria)?;
    integrity::read(store, conn, units, &mut hashes, &mut known).await?;
    document_rows::mark_owned(store, conn, units, &mut known.documents).await?;
    Ok(known)
}

/// Locks these rows, in one order for all writers.
pub async fn lock_rows(store: &Store, conn: &mut PgConnection, hashes: &mut Vec<i64>, known: &mut Known) -> Result<(), sqlx::Error> {
    hashes.sort_unstable();
    hashes.dedup();
    if hashes.is_empty() {
        return Ok(());
    }
    let query = sqlx::query_as(
        "select rid, type, id, version, updated, state, dictionary, body
         from resource
         where self_hash = any($1)
         order by self_hash
         for no key update",
    )
    .bind(&*hashes);
    let rows: Vec<Row> = rows::fetch(&store.bodies, conn, query).await?;
    known.rows = rows
        .into_iter()
        .map(|row| (self_hash(store.registry().name_of(row.type_number), &row.id), row))
        .collect();
    Ok(())
}

/// Advisory locks, in one order for all writers; row locks alone cannot guard what does not exist yet.
async fn lock(store: &Store, conn: &mut PgConnection, units: &[Unit]) -> Result<(), sqlx::Error> {
    let mut locks: Vec<i64> = units.iter().flat_map(|unit| unit.locks(&store.registry())).collect();
    if locks.is_empty() {
        return Ok(());
    }
    locks.sort_unstable();
    locks.dedup();
    sqlx::query("select pg_advisory_xact_lock(key) from unnest($1::bigint[]) key")
        .bind(locks)
        .execute(conn)
        .await?;
    Ok(())
}

/// A match as it was found, before its row is locked.
struct Match {
    of: (usize, Place),
    self_hash: i64,
    version: i32,
}

impl Match {
    fn is_still(&self, known: &Known) -> bool {
        let row = known.rows.get(&self.self_hash);
        row.is_some_and(|row| row.version == self.version && Policy::NotWithdrawn.sees(row.state()))
    }
}

/// The first matches of each criterion, one more than it may have. Criteria that are one term are answered by one statement.
async fn matches(conn: &mut PgConnection, criteria: &[((usize, Place), &Criteria)]) -> Result<Vec<Match>, sqlx::Error> {
    let mut found = Vec::new();
    let single = |c: &Criteria| match &c.condition {
        Condition::Terms(terms) if terms.len() == 1 && c.matches_max == 1 => Some(terms[0]),
        _ => None,
    };
    let simple: Vec<_> = criteria.iter().filter_map(|(key, c)| single(c).map(|term| (*key, term))).collect();
    if !simple.is_empty() {
        let predicate = Policy::NotWithdrawn.predicate("r");
        let text = format!(
            "select c.place, m.self_hash, m.version
             from unnest($1::bigint[]) with ordinality c (term, place)
             cross join lateral (
                 select self_hash, version from resource r where {predicate} and r.terms @> array[c.term] order by {two}
             ) m",
            two = first_of_all("r", 2)
        );
        let terms: Vec<i64> = simple.iter().map(|(_, term)| *term).collect();
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(terms).fetch_all(&mut *conn).await?;
        for row in rows {
            let place: i64 = row.try_get(0)?;
            found.push(Match {
                of: simple[place as usize - 1].0,
                self_hash: row.try_get(1)?,
                version: row.try_get(2)?,
            });
        }
    }
    for (key, criteria) in criteria.iter().filter(|(_, c)| single(c).is_none()) {
        let mut compiler = Compiler::new(Policy::NotWithdrawn, None);
        let alias = compiler.upcoming_alias();
        compiler.sql.push(&format!("select {alias}.self_hash, {alias}.version"));
        compiler.resource(&criteria.condition);
        compiler
            .sql
            .push(" order by ")
            .push(&first_of_all(&alias, criteria.matches_max + 1));
        for row in run(&mut *conn, compiler.sql).await? {
            found.push(Match {
                of: *key,
                self_hash: row.try_get(0)?,
                version: row.try_get(1)?,
            });
        }
    }
    Ok(found)
}

/// Two are enough to know that there are several, but the planner must not count on it: of a term that it does not know it expects thousands of
/// rows, and to find the first two of those it would read the table from its begin. Sorted by what no index has, all must be found.
pub fn first_of_all(alias: &str, limit: usize) -> String {
    format!("{alias}.rid + 0 limit {limit}")
}

/// A match found by hash must hold the text that was asked for. Errors: a body that cannot be read is no answer.
fn forget_false_matches(store: &Store, known: &mut Known, criteria: &[((usize, Place), &Criteria)]) -> Result<(), sqlx::Error> {
    for (key, criteria) in criteria {
        let Some(text) = &criteria.must_hold else { continue };
        let mut held = Vec::new();
        for hash in known.matches.remove(key).unwrap_or_default() {
            let row = known.rows.get(&hash).ok_or(sqlx::Error::RowNotFound)?;
            let holds = holds(store, row, text).map_err(|e| sqlx::Error::Decode(e.internal.unwrap_or_default().into()))?;
            if holds {
                held.push(hash);
            }
        }
        known.matches.insert(*key, held);
    }
    Ok(())
}

/// Whether a string of this content stands anywhere in the resource, however it is escaped.
fn holds(store: &Store, row: &Row, text: &str) -> Result<bool, Outcome> {
    fn any(value: Value<'_>, text: &str) -> bool {
        match value.kind() {
            Kind::String => value.as_str().is_some_and(|s| s == text),
            Kind::Object => value.members().any(|(_, member)| any(member, text)),
            Kind::Array => value.items().any(|item| any(item, text)),
            Kind::Null | Kind::Bool | Kind::Number => false,
        }
    }
    let json = row.to_json(&store.registry(), &store.bodies)?;
    if !json.contains('\\') {
        return Ok(json.contains(&format!("\"{text}\"")));
    }
    let document = Document::parse_str(&json).map_err(|e| Outcome::internal(format!("a stored body does not parse: {e}")))?;
    Ok(any(document.root(), text))
}
