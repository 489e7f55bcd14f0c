//! Builds index entries anew from the stored bodies, without touching versions.

use crate::fhir::json::Document;
use crate::outcome::Outcome;
use crate::search::index::INDEX_VERSION;
use crate::search::index::IndexEntry;
use crate::search::index::index;
use crate::store::Store;
use crate::store::database_error;
use crate::store::rows;
use crate::store::rows::Row;
use crate::store::statements;

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
    Ok(())
}

/// Indexes the next resources after this row id; the last row id and how many. `None` at the end.
pub async fn batch(store: &Store, after: i64) -> Result<Option<(i64, u64)>, Outcome> {
    let mut tx = store.pools.points.begin().await.map_err(database_error)?;
    let query = sqlx::query_as(
        "select rid, type, id, version, updated, state, dictionary, body
         from resource
         where rid > $1 and state <> 1
         order by rid
         limit $2
         for no key update",
    )
    .bind(after)
    .bind(BATCH);
    let rows: Vec<Row> = rows::fetch(&store.bodies, &mut tx, query).await.map_err(database_error)?;
    let Some(last) = rows.last().map(|row| row.rid) else {
        return Ok(None);
    };
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        entries.extend(entry(store, row)?.map(|entry| (row.rid, entry)));
    }
    let replaced = statements::replace_index(&store.vocabulary, &store.units, &mut tx, &entries).await;
    let units = replaced.map_err(database_error)?;
    tx.commit().await.map_err(database_error)?;
    store.units.learn(units);
    Ok(Some((last, rows.len() as u64)))
}

/// A version that is indexed: its row and number.
pub type Place = (i64, i32);

/// Indexes the next superseded versions after this one, for searches as of an instant; the last of them and how many. `None` at the end.
pub async fn batch_superseded(store: &Store, after: Place) -> Result<Option<(Place, u64)>, Outcome> {
    let mut tx = store.pools.points.begin().await.map_err(database_error)?;
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
        let entry = if row.body.is_empty() { None } else { entry(store, row)? };
        entries.push((row.rid, row.version, entry.unwrap_or_default()));
    }
    let replaced = statements::replace_history_index(&store.vocabulary, &store.units, &mut tx, &entries).await;
    let units = replaced.map_err(database_error)?;
    tx.commit().await.map_err(database_error)?;
    store.units.learn(units);
    Ok(Some((last, rows.len() as u64)))
}

/// `None` for a type that has no search parameters.
fn entry(store: &Store, row: &Row) -> Result<Option<IndexEntry>, Outcome> {
    let registry = store.registry();
    let Some(parameters) = registry.of(registry.name_of(row.type_number)) else {
        return Ok(None);
    };
    let json = row.to_json(&registry, &store.bodies)?;
    let document = Document::parse_str(&json).map_err(|e| Outcome::internal(format!("a stored body does not parse: {e}")))?;
    Ok(Some(index(parameters, document.root())))
}
