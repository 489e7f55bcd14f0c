//! What belongs to a patient or an encounter, in the order in which it came: a page looks only at the rows that it shows, or at so many at most.
//!
//! A row's reference to its patient stands first among its references, and an index has it beside the row id (migration 0011). What is linked
//! otherwise (a second patient, an author) is found by the index of terms and sorted.

use crate::policy::Policy;
use crate::policy::State;
use crate::search::density::Plan;
use crate::store::Store;
use crate::store::rows;
use crate::store::rows::Row;
use chrono::DateTime;
use chrono::Utc;
use sqlx::FromRow;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgRow;
use sqlx::query::QueryAs;
use std::collections::HashMap;
use std::collections::HashSet;

/// What is asked of rows beside that they belong to somebody.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub since: Option<DateTime<Utc>>,
    /// Ends after this, by the primary date; microseconds since 1970. What has no such date is within every period.
    pub start: Option<i64>,
    /// Begins before this.
    pub end: Option<i64>,
    /// Types whose primary date tells nothing of care: a birth date.
    pub undated: Vec<i16>,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        self.since.is_none() && self.start.is_none() && self.end.is_none()
    }

    /// Over the columns of an alias; its arguments are from `$first` on.
    fn predicate(&self, alias: &str, first: usize) -> String {
        let [since, start, end, undated] = [first, first + 1, first + 2, first + 3];
        format!(
            "(${since}::timestamptz is null or {alias}.updated >= ${since})
             and ({alias}.date_low is null or {alias}.type = any(${undated}::smallint[])
                  or (${start}::bigint is null or {alias}.date_high > ${start}) and (${end}::bigint is null or {alias}.date_low < ${end}))"
        )
    }
}

/// A row that was looked at.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Looked {
    pub rid: i64,
    /// The filter lets it through.
    pub is_match: bool,
}

/// Places of the terms that some row has as its first reference.
pub async fn present(store: &Store, policy: Policy, terms: &[i64]) -> Result<Vec<usize>, sqlx::Error> {
    let text = format!(
        "select t.place
         from unnest($1::bigint[]) with ordinality t (term, place)
         where exists (select from resource r where r.terms[1] = t.term and r.reference_terms > 0 and {})
         order by t.place",
        policy.predicate("r")
    );
    let mut conn = store.pools.of(Plan::Gather).lend().await?;
    let places: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
        .bind(terms)
        .fetch_all(&mut *conn)
        .await?;
    conn.done();
    Ok(places.into_iter().map(|place| place as usize - 1).collect())
}

/// The rows whose first reference this is, after a row.
pub async fn first(
    store: &Store,
    policy: Policy,
    term: i64,
    after: i64,
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Looked>, sqlx::Error> {
    let text = format!(
        "select r.rid, {} as is_match
         from resource r
         where r.terms[1] = $1 and r.reference_terms > 0 and {} and r.rid > $2
         order by r.rid
         limit $3",
        filter.predicate("r", 4),
        policy.predicate("r")
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(term).bind(after).bind(limit as i64);
    filtered(store, Plan::Gather, query, filter).await
}

/// The rows that have any of these terms and none of `without` as their first reference, after a row.
pub async fn otherwise(
    store: &Store,
    policy: Policy,
    terms: &[i64],
    without: &[i64],
    after: i64,
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Looked>, sqlx::Error> {
    let text = format!(
        "select r.rid, {} as is_match
         from (select r.* from resource r where {} and r.terms && $1 offset 0) r
         where r.rid > $3 and not (r.reference_terms > 0 and r.terms[1] = any($2))
         order by r.rid
         limit $4",
        filter.predicate("r", 5),
        policy.predicate("r")
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text));
    let query = query.bind(terms).bind(without).bind(after).bind(limit as i64);
    filtered(store, Plan::Gather, query, filter).await
}

/// Runs a query whose last arguments are those of the filter.
async fn filtered<R>(
    store: &Store,
    plan: Plan,
    query: QueryAs<'_, Postgres, R, PgArguments>,
    filter: &Filter,
) -> Result<Vec<R>, sqlx::Error>
where
    R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let mut conn = store.pools.of(plan).lend().await?;
    let query = query.bind(filter.since).bind(filter.start).bind(filter.end).bind(&filter.undated);
    let found = query.fetch_all(&mut *conn).await?;
    conn.done();
    Ok(found)
}

/// A row of a type that belongs to patients.
#[derive(Debug, FromRow)]
pub struct Walked {
    pub rid: i64,
    #[sqlx(rename = "type")]
    pub type_number: i16,
    pub references: Vec<i64>,
    pub is_match: bool,
}

/// The rows of these types after a row.
pub async fn walk(
    store: &Store,
    policy: Policy,
    types: &[i16],
    after: i64,
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Walked>, sqlx::Error> {
    let text = format!(
        "select r.rid, r.type, r.terms[1:r.reference_terms] as \"references\", {} as is_match
         from resource r
         where {} and r.type = any($1) and r.rid > $2
         order by r.rid
         limit $3",
        filter.predicate("r", 4),
        policy.predicate("r")
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(types).bind(after).bind(limit as i64);
    filtered(store, Plan::Walk, query, filter).await
}

/// Of these hashes, those of resources of a type that are there.
pub async fn there(store: &Store, policy: Policy, type_number: i16, hashes: &[i64]) -> Result<HashSet<i64>, sqlx::Error> {
    let text = format!(
        "select r.self_hash from resource r where r.self_hash = any($1) and r.type = $2 and {}",
        policy.predicate("r")
    );
    let mut conn = store.pools.of(Plan::Gather).lend().await?;
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).bind(hashes).bind(type_number);
    let found: Vec<i64> = query.fetch_all(&mut *conn).await?;
    conn.done();
    Ok(found.into_iter().collect())
}

/// The rows with these ids that are there, in their order.
pub async fn by_rids(store: &Store, policy: Policy, rids: &[i64]) -> Result<Vec<Row>, sqlx::Error> {
    let mut found: HashMap<i64, Row> = rows_of(store, policy, "rid", rids)
        .await?
        .into_iter()
        .map(|row| (row.rid, row))
        .collect();
    Ok(rids.iter().filter_map(|rid| found.remove(rid)).collect())
}

/// The resources with these hashes that are there.
pub async fn by_hashes(store: &Store, policy: Policy, hashes: &[i64]) -> Result<Vec<Row>, sqlx::Error> {
    rows_of(store, policy, "self_hash", hashes).await
}

async fn rows_of(store: &Store, policy: Policy, column: &str, values: &[i64]) -> Result<Vec<Row>, sqlx::Error> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "select r.rid, r.type, r.id, r.version, r.updated, r.state, r.dictionary, r.body from resource r where r.{column} = any($1) and {}",
        policy.predicate("r")
    );
    let mut conn = store.pools.of(Plan::Gather).lend().await?;
    let rows: Vec<Row> = rows::fetch(&store.bodies, &mut conn, sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(values)).await?;
    conn.done();
    debug_assert!(rows.iter().all(|row| row.state() != State::Withdrawn));
    Ok(rows)
}
