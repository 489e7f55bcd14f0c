//! Erasing: past versions, and resources that are deleted, for good. The only code that takes rows away (invariant I13).
//!
//! What others rest on stays. Change rows stay: positions are theirs, and they say nothing of a content. The row of a deleted resource goes when
//! nothing needs it any more: no region holds it or has yet to take its deletion, nothing of it is parked, and no document that is here
//! has it. Until then it is a row without a content. The feed's leader is kept out meanwhile, so that it routes nothing of what goes.
//! Rows that are hidden (oscuramento) are not there for this either.

use crate::outcome::Outcome;
use crate::store::Store;
use crate::store::count::past_has_changed;
use crate::store::database_error;
use sqlx::Connection;
use sqlx::PgConnection;

/// What is erased.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// One resource; `None`: all of the type.
    pub rid: Option<i64>,
    /// `None`: of all types.
    pub type_number: Option<i16>,
    pub previous_versions: bool,
    pub deleted_resources: bool,
    /// Versions and resources, together.
    pub limit: i64,
}

/// Past versions. What came while a resource was hidden goes too, but is not counted: nobody has seen it.
const VERSIONS: &str = "
with gone as (
    select h.rid, h.version
    from history h
    join resource r on r.rid = h.rid
    where r.state <> 2 and ($1::bigint is null or h.rid = $1) and ($2::smallint is null or h.type = $2)
    limit $3
), erased as (
    delete from history h using gone where h.rid = gone.rid and h.version = gone.version returning h.state
), strings as (
    delete from string_history s using gone where s.rid = gone.rid and s.version = gone.version
), dates as (
    delete from date_history s using gone where s.rid = gone.rid and s.version = gone.version
), quantities as (
    delete from quantity_history s using gone where s.rid = gone.rid and s.version = gone.version
), positions as (
    delete from position_history s using gone where s.rid = gone.rid and s.version = gone.version
)
select count(*) filter (where state <> 2), count(*) from erased";

/// Deleted resources that have something to erase, and whether nothing needs their rows; locked. What somebody writes to is left for another time.
const DELETED: &str = "
with held as materialized (
    select s.rid
    from region g
    join region_stream s on s.region = g.code and s.position > g.acknowledged
    union
    select s.rid
    from region_parked k
    join region_stream s on s.region = k.region and s.position = k.position
    union
    select rid from pertinence
)
select r.rid, f.is_free
from resource r
cross join lateral (
    select not exists (select from held where held.rid = r.rid)
           and not exists (select from document d where d.members @> array[r.rid] and d.state <> 1) as is_free
    offset 0
) f
where r.state = 1 and ($1::bigint is null or r.rid = $1) and ($2::smallint is null or r.type = $2)
  and (f.is_free or exists (select from history h where h.rid = r.rid))
order by r.self_hash
limit $3
for update of r skip locked";

/// Erases; how many versions and resources went. Errors: the database's.
pub async fn expunge(store: &Store, wanted: Wanted) -> Result<i64, Outcome> {
    let mut conn = store.pools.searches.acquire().await.map_err(database_error)?;
    run(&mut conn, wanted).await.map_err(database_error)
}

async fn run(conn: &mut PgConnection, wanted: Wanted) -> Result<i64, sqlx::Error> {
    let mut tx = conn.begin().await?;
    // The leader's tick holds this row to its end: what is looked at is routed whole, or not at all.
    sqlx::query("select from sequencer for update").execute(&mut *tx).await?;
    let mut count = 0;
    let mut left = wanted.limit;
    if wanted.previous_versions {
        let (seen, erased): (i64, i64) = sqlx::query_as(VERSIONS)
            .bind(wanted.rid)
            .bind(wanted.type_number)
            .bind(left)
            .fetch_one(&mut *tx)
            .await?;
        count += seen;
        left -= erased;
    }
    if wanted.deleted_resources && left > 0 {
        let rows: Vec<(i64, bool)> = sqlx::query_as(DELETED)
            .bind(wanted.rid)
            .bind(wanted.type_number)
            .bind(left)
            .fetch_all(&mut *tx)
            .await?;
        let rids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let free: Vec<i64> = rows.iter().filter(|row| row.1).map(|row| row.0).collect();
        let seen: i64 = sqlx::query_scalar(
            "with erased as (delete from history where rid = any($1) returning state),
                  strings as (delete from string_history where rid = any($1)),
                  dates as (delete from date_history where rid = any($1)),
                  quantities as (delete from quantity_history where rid = any($1)),
                  positions as (delete from position_history where rid = any($1))
             select count(*) filter (where state <> 2) from erased",
        )
        .bind(&rids)
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query("delete from resource where rid = any($1)")
            .bind(&free)
            .execute(&mut *tx)
            .await?;
        count += seen + free.len() as i64;
    }
    if count > 0 {
        past_has_changed(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(count)
}
