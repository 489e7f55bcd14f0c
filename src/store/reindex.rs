//! Builds index entries anew from the stored bodies, without touching versions.

use crate::fhir::identity::self_hash;
use crate::fhir::json::Document;
use crate::outcome::Outcome;
use crate::search::index::INDEX_VERSION;
use crate::search::index::IndexEntry;
use crate::search::index::contained::index_whole;
use crate::search::parameters::Registry;
use crate::store::Store;
use crate::store::database_error;
use crate::store::rows;
use crate::store::rows::Row;
use crate::store::search_parameter;
use crate::store::statements;
use crate::store::statements::Entry;
use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::Transaction;
use std::collections::HashMap;
use std::sync::Arc;

const BATCH: i64 = 500;

pub async fn count(store: &Store) -> Result<u64, Outcome> {
    let count: i64 = sqlx::query_scalar("select count(*) from resource where state <> 1")
        .fetch_one(&*store.pools.points)
        .await
        .map_err(database_error)?;
    Ok(count as u64)
}

pub async fn count_superseded(store: &Store) -> Result<u64, Outcome> {
    let count: i64 = sqlx::query_scalar("select count(*) from history")
        .fetch_one(&*store.pools.points)
        .await
        .map_err(database_error)?;
    Ok(count as u64)
}

/// The whole index is as this version makes it. Every entry of the registry is looked at again: with the old index it may have found nobody.
pub async fn finish(store: &Store) -> Result<(), Outcome> {
    sqlx::query(
        "with done as (update repository set index_version = $1 where index_version < $1 returning index_version)
         insert into rda_change (identifier_hash)
         select r.identifier_hash from rda r, done",
    )
    .bind(INDEX_VERSION)
    .execute(&*store.pools.points)
    .await
    .map_err(database_error)?;
    // What was counted by the old index is counted anew.
    let mut conn = store.pools.points.acquire().await.map_err(database_error)?;
    search_parameter::raise(&mut conn).await.map_err(database_error)?;
    Ok(())
}

/// Indexes the next resources after this row id; the last row id and how many. `None` at the end.
pub async fn batch(store: &Store, after: i64) -> Result<Option<(i64, u64)>, Outcome> {
    let (mut tx, registry) = begin(store).await?;
    let rids = next(&mut tx, "true", (after, i64::MAX), &[], BATCH).await.map_err(database_error)?;
    let Some(last) = rids.last().copied() else {
        return Ok(None);
    };
    let rows = lock(store, &mut tx, &rids).await.map_err(database_error)?;
    let entries = entries(store, &registry, &rows)?;
    let replaced = statements::replace_index(store, &mut tx, &entries).await;
    let learnt = replaced.map_err(database_error)?;
    tx.commit().await.map_err(database_error)?;
    learnt.remember(store);
    Ok(Some((last, rows.len() as u64)))
}

/// A transaction, and the registry of the database, which cannot change before its end.
async fn begin(store: &Store) -> Result<(Transaction<'static, Postgres>, Arc<Registry>), Outcome> {
    loop {
        let mut tx = store.pools.points.begin().await.map_err(database_error)?;
        if let Some(registry) = current(store, &mut tx).await.map_err(database_error)? {
            return Ok((tx, registry));
        }
        tx.rollback().await.map_err(database_error)?;
        search_parameter::refresh(store).await.map_err(database_error)?;
    }
}

/// The registry, if it is that of the database, which cannot change before the end of the transaction; else nothing may be indexed by it.
pub(super) async fn current(store: &Store, conn: &mut PgConnection) -> Result<Option<Arc<Registry>>, sqlx::Error> {
    let generation: i64 = sqlx::query_scalar("select generation from search_generation")
        .fetch_one(conn)
        .await?;
    let registry = Arc::clone(&store.registry());
    Ok((registry.generation() == generation).then_some(registry))
}

/// A row, and what the index holds of it by its terms.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Indexed {
    #[sqlx(flatten)]
    pub row: Row,
    terms: Vec<i64>,
    present: i64,
}

impl AsRef<Row> for Indexed {
    fn as_ref(&self) -> &Row {
        &self.row
    }
}

/// Ids of the next rows, in order. `which` is a constant, which may name `$4`, the types. What is deleted meanwhile is among them: how many there are
/// tells whether these are all.
pub(super) async fn next(
    conn: &mut PgConnection,
    which: &'static str,
    (after, last): (i64, i64),
    types: &[i16],
    limit: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    let text = format!(
        "select rid from resource
         where rid > $1 and rid <= $2 and state <> 1 and ($4::smallint[] is not null) and {which}
         order by rid
         limit $3"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(text))
        .bind(after)
        .bind(last)
        .bind(limit)
        .bind(types)
        .fetch_all(conn)
        .await
}

/// Locks these rows, in the order in which writers lock theirs; those that are not deleted.
pub(super) async fn lock(store: &Store, conn: &mut PgConnection, rids: &[i64]) -> Result<Vec<Indexed>, sqlx::Error> {
    let query = sqlx::query_as(
        "select rid, type, id, version, updated, state, dictionary, body, terms, present
         from resource
         where rid = any($1) and state <> 1
         order by self_hash
         for no key update",
    )
    .bind(rids);
    rows::fetch(&store.bodies, conn, query).await
}

fn entries(store: &Store, registry: &Registry, rows: &[Indexed]) -> Result<Vec<Entry>, Outcome> {
    let mut entries = Vec::with_capacity(rows.len());
    for Indexed { row, .. } in rows {
        entries.extend(entry(store, registry, row)?.map(|entry| Entry {
            rid: row.rid,
            self_hash: hash_of(registry, row),
            entry,
        }));
    }
    Ok(entries)
}

fn hash_of(registry: &Registry, row: &Row) -> i64 {
    self_hash(registry.name_of(row.type_number), &row.id)
}

/// Those whose index says something else than what is there. Parameters of one's own have a term of each resource that they have a value of, so
/// terms tell what they add or leave behind in the other tables too.
pub(super) fn changed(store: &Store, registry: &Registry, rows: &[Indexed]) -> Result<Vec<Entry>, Outcome> {
    let mut entries = entries(store, registry, rows)?;
    let held: HashMap<i64, &Indexed> = rows.iter().map(|indexed| (indexed.row.rid, indexed)).collect();
    entries.retain(|Entry { rid, entry, .. }| {
        held.get(rid)
            .is_none_or(|held| held.terms != entry.terms || held.present != entry.present)
    });
    Ok(entries)
}

/// A version that is indexed: its row and number.
pub type Place = (i64, i32);

/// Indexes the next superseded versions after this one, for searches as of an instant; the last of them and how many. `None` at the end.
pub async fn batch_superseded(store: &Store, after: Place) -> Result<Option<(Place, u64)>, Outcome> {
    let (mut tx, registry) = begin(store).await?;
    let query = sqlx::query_as(
        "select h.rid, h.type, r.id, h.version, h.updated, h.state, h.dictionary, h.body
         from history h
         join resource r on r.rid = h.rid
         where (h.rid, h.version) > ($1, $2)
         order by h.rid, h.version
         limit $3
         for no key update of h",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(BATCH);
    let rows: Vec<Row> = rows::fetch(&store.bodies, &mut tx, query).await.map_err(database_error)?;
    let Some(last) = rows.last().map(|row| (row.rid, row.version)) else {
        return Ok(None);
    };
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        // Nothing is left of a deleted resource, and what is not indexed is not found.
        let entry = if row.body.is_empty() { None } else { entry(store, &registry, row)? };
        let mut entry = entry.unwrap_or_default();
        // What it contained is not searched any more.
        entry.contained.clear();
        entries.push((row.rid, row.version, entry));
    }
    let replaced = statements::replace_history_index(store, &mut tx, &entries).await;
    let learnt = replaced.map_err(database_error)?;
    tx.commit().await.map_err(database_error)?;
    learnt.remember(store);
    Ok(Some((last, rows.len() as u64)))
}

/// `None` for a type that has no search parameters.
fn entry(store: &Store, registry: &Registry, row: &Row) -> Result<Option<IndexEntry>, Outcome> {
    let Some(parameters) = registry.of(registry.name_of(row.type_number)) else {
        return Ok(None);
    };
    let json = row.to_json(registry, &store.bodies)?;
    let document = Document::parse_str(&json).map_err(|e| Outcome::internal(format!("a stored body does not parse: {e}")))?;
    let entry = index_whole(registry, parameters, document.root());
    Ok(Some(entry.of_resource(hash_of(registry, row)).into_owned()))
}
