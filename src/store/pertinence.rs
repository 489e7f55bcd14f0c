//! Which region holds what: the masks, the regions' streams, and the registry of assistance (RDA).

use crate::fhir::regions;
use crate::store::Store;
use crate::store::rows;
use crate::store::rows::Row;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use sqlx::PgPool;
use std::collections::HashMap;

/// What routing needs to know of a resource.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Routed {
    pub rid: i64,
    pub self_hash: i64,
    #[sqlx(rename = "type")]
    pub type_number: i16,
    pub version: i32,
    pub state: i16,
    pub references: Vec<i64>,
    /// What the regions hold of it now.
    pub mask: i32,
}

const ROUTED: &str =
    "select r.rid, r.self_hash, r.type, r.version, r.state, r.terms[1:r.reference_terms] as \"references\", coalesce(p.mask, 0) as mask
     from resource r
     left join pertinence p on p.rid = r.rid";

pub async fn by_rids(conn: &mut PgConnection, rids: &[i64]) -> Result<Vec<Routed>, sqlx::Error> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("{ROUTED} where r.rid = any($1)")))
        .bind(rids)
        .fetch_all(conn)
        .await
}

pub async fn by_hashes(conn: &mut PgConnection, hashes: &[i64]) -> Result<Vec<Routed>, sqlx::Error> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("{ROUTED} where r.self_hash = any($1)")))
        .bind(hashes)
        .fetch_all(conn)
        .await
}

/// Row ids of live resources with any of these terms, each once. One look into the index for each term: `&&` with thousands of them takes
/// time by their square.
pub async fn rids_by_terms(conn: &mut PgConnection, terms: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "select distinct r.rid
         from unnest($1::bigint[]) t (term)
         cross join lateral (select rid from resource where terms @> array[t.term] offset 0) r",
    )
    .bind(terms)
    .fetch_all(conn)
    .await
}

/// The regions that hold something which refers to these: hash and mask. Each reference term stands for one target.
pub async fn referring_masks(conn: &mut PgConnection, targets: &[i64], terms: &[i64]) -> Result<HashMap<i64, i32>, sqlx::Error> {
    let rows: Vec<(i64, i32)> = sqlx::query_as(
        "select t.target, bit_or(p.mask)
         from unnest($1::bigint[], $2::bigint[]) t (target, term)
         cross join lateral (select rid from resource where state = 0 and terms @> array[t.term] offset 0) r
         join pertinence p on p.rid = r.rid
         group by t.target",
    )
    .bind(targets)
    .bind(terms)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// One item for a region's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub bit: i16,
    pub rid: i64,
    pub version: i32,
    pub type_number: i16,
    pub is_present: bool,
}

/// Appends the items, in order, each at the next position of its region.
pub async fn append(conn: &mut PgConnection, items: &[Item], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if items.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "with item as (
             select i.*, row_number() over (partition by i.bit order by i.place) - 1 as step
             from unnest($1::smallint[], $2::bigint[], $3::int[], $4::smallint[], $5::bool[]) with ordinality i (bit, rid, version, type, is_present, place)
         ), moved as (
             update region g
             set next_position = next_position + (select count(*) from item where item.bit = g.bit)
             where g.bit in (select bit from item)
             returning g.bit, g.code, g.next_position - (select count(*) from item where item.bit = g.bit) as first
         )
         insert into region_stream (region, position, rid, version, type, action, updated)
         select m.code, m.first + i.step, i.rid, i.version, i.type, case when i.is_present then 0 else 1 end, $6
         from item i
         join moved m on m.bit = i.bit",
    )
    .bind(items.iter().map(|i| i.bit).collect::<Vec<_>>())
    .bind(items.iter().map(|i| i.rid).collect::<Vec<_>>())
    .bind(items.iter().map(|i| i.version).collect::<Vec<_>>())
    .bind(items.iter().map(|i| i.type_number).collect::<Vec<_>>())
    .bind(items.iter().map(|i| i.is_present).collect::<Vec<_>>())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Records the new masks; what nobody holds any more is forgotten.
pub async fn set_masks(conn: &mut PgConnection, masks: &[(i64, i32)]) -> Result<(), sqlx::Error> {
    let gone: Vec<i64> = masks.iter().filter(|(_, mask)| *mask == 0).map(|(rid, _)| *rid).collect();
    let (rids, held): (Vec<i64>, Vec<i32>) = masks.iter().filter(|(_, mask)| *mask != 0).copied().unzip();
    if !gone.is_empty() {
        sqlx::query("delete from pertinence where rid = any($1)")
            .bind(gone)
            .execute(&mut *conn)
            .await?;
    }
    if !rids.is_empty() {
        sqlx::query("insert into pertinence (rid, mask) select * from unnest($1::bigint[], $2::int[]) on conflict (rid) do update set mask = excluded.mask")
            .bind(rids)
            .bind(held)
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Enrols the configured regions: a new one begins with a bootstrap, a changed address takes effect. Regions that are no longer configured keep their cursor, without an address.
pub async fn enrol(pool: &PgPool, configured: &[(String, Option<String>)]) -> Result<(), sqlx::Error> {
    let codes: Vec<&String> = configured.iter().map(|(code, _)| code).collect();
    sqlx::query("update region set url = null where code <> all($1)")
        .bind(&codes)
        .execute(pool)
        .await?;
    for (code, url) in configured {
        let bit = regions::bit(code).expect("the settings were checked");
        sqlx::query("insert into region (code, bit, url) values ($1, $2, $3) on conflict (code) do update set url = excluded.url")
            .bind(code)
            .bind(bit)
            .bind(url)
            .execute(pool)
            .await?;
    }
    Ok(())
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Region {
    pub code: String,
    pub bit: i16,
    pub url: Option<String>,
    pub acknowledged: i64,
    pub next_position: i64,
    pub bootstrap_rid: Option<i64>,
    pub attempts: i32,
    pub next_attempt: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
}

pub async fn regions(conn: &mut PgConnection) -> Result<Vec<Region>, sqlx::Error> {
    sqlx::query_as(
        "select code, bit, url, acknowledged, next_position, bootstrap_rid, attempts, next_attempt, last_error from region order by code",
    )
    .fetch_all(conn)
    .await
}

/// How often the feed was begun anew; positions are of one epoch.
pub async fn feed_epoch(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select feed_epoch from repository").fetch_one(conn).await
}

/// The next row ids for a bootstrap, and whether more follow.
pub async fn bootstrap_rids(conn: &mut PgConnection, after: i64, limit: i64) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar("select rid from resource where rid > $1 order by rid limit $2")
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await
}

pub async fn set_bootstrap(conn: &mut PgConnection, code: &str, rid: Option<i64>) -> Result<(), sqlx::Error> {
    sqlx::query("update region set bootstrap_rid = $2 where code = $1")
        .bind(code)
        .bind(rid)
        .execute(conn)
        .await?;
    Ok(())
}

/// Regions of the registry, by key.
pub async fn rda(conn: &mut PgConnection, hashes: &[i64]) -> Result<HashMap<i64, String>, sqlx::Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as("select identifier_hash, region from rda where identifier_hash = any($1)")
        .bind(hashes)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().collect())
}

/// The registry's region of each of these patients that it knows. Of several entries for one patient the latest counts.
pub async fn registered(conn: &mut PgConnection, patients: &[i64]) -> Result<HashMap<i64, String>, sqlx::Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select distinct on (r.rid) r.rid, g.region
         from resource r
         join rda g on g.identifier_hash = any(r.terms)
         where r.rid = any($1)
         order by r.rid, g.updated desc, g.identifier_hash",
    )
    .bind(patients)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Sets or clears (`None`) a patient's region of assistance. Durable when it returns.
pub async fn set_rda(pool: &PgPool, key: i64, region: Option<&str>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    match region {
        Some(region) => {
            sqlx::query("insert into rda values ($1, $2, $3) on conflict (identifier_hash) do update set region = excluded.region, updated = excluded.updated")
                .bind(key)
                .bind(region)
                .bind(now)
                .execute(&mut *tx)
                .await?;
        }
        None => {
            sqlx::query("delete from rda where identifier_hash = $1")
                .bind(key)
                .execute(&mut *tx)
                .await?;
        }
    }
    sqlx::query("insert into rda_change (identifier_hash) values ($1)")
        .bind(key)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Takes the keys of the registry entries that changed since the last tick.
pub async fn take_rda_changes(conn: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar("delete from rda_change where id in (select id from rda_change order by id limit 50) returning identifier_hash")
        .fetch_all(conn)
        .await
}

/// The region whose document brought each of these patients; the first document counts.
pub async fn origins(conn: &mut PgConnection, patients: &[i64]) -> Result<HashMap<i64, String>, sqlx::Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select distinct on (p.rid) p.rid, d.origin
         from unnest($1::bigint[]) p (rid)
         join document d on d.members @> array[p.rid]
         where d.origin is not null
         order by p.rid, d.id",
    )
    .bind(patients)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// A row of a region's stream, joined with the resource as it is now.
#[derive(Debug, sqlx::FromRow)]
pub struct StreamRow {
    pub position: i64,
    /// The region has it: its current version is sent, else a deletion.
    pub is_present: bool,
    #[sqlx(flatten)]
    pub row: Row,
}

impl AsRef<Row> for StreamRow {
    fn as_ref(&self) -> &Row {
        &self.row
    }
}

/// The stream of a region after a position, as it holds now: what was withdrawn, or pertains to the region no longer, is a deletion; an item
/// whose version has been superseded is left out, because the version that followed has an item of its own, or will have when it is routed.
pub async fn stream(store: &Store, region: &Region, after: i64, limit: i64) -> Result<Vec<StreamRow>, sqlx::Error> {
    let query = sqlx::query_as(
        "select s.position, s.is_present, s.rid, s.type, s.id, s.version, s.updated, s.state, s.dictionary, s.body
         from (
             select s.position, s.action = 0 and r.state = 0 and coalesce(p.mask, 0) & $3 <> 0 as is_present, s.version as item_version,
                    r.rid, r.type, r.id, r.version, r.updated, r.state, r.dictionary, r.body
             from region_stream s
             join resource r on r.rid = s.rid
             left join pertinence p on p.rid = s.rid
             where s.region = $1 and s.position > $2
         ) s
         where not s.is_present or s.version = s.item_version
         order by s.position
         limit $4",
    )
    .bind(&region.code)
    .bind(after)
    .bind(1i32 << region.bit)
    .bind(limit);
    let mut conn = store.pools.points.acquire().await?;
    rows::fetch(&store.bodies, &mut conn, query).await
}

/// The region has everything up to this position.
pub async fn acknowledge(pool: &PgPool, region: &str, position: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update region set acknowledged = greatest(acknowledged, $2), attempts = 0, next_attempt = null, last_error = null where code = $1",
    )
    .bind(region)
    .bind(position)
    .execute(pool)
    .await?;
    Ok(())
}

/// The region refused or was away: the next attempt is at `at`.
pub async fn record_failure(pool: &PgPool, region: &str, error: &str, at: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("update region set attempts = attempts + 1, next_attempt = $3, last_error = $2 where code = $1")
        .bind(region)
        .bind(error)
        .bind(at)
        .execute(pool)
        .await?;
    Ok(())
}

/// Sets an item aside that the region refuses for good.
pub async fn park(pool: &PgPool, region: &str, position: i64, error: &str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("insert into region_parked values ($1, $2, $3, $4) on conflict do nothing")
        .bind(region)
        .bind(position)
        .bind(error)
        .bind(now)
        .execute(pool)
        .await?;
    Ok(())
}

/// Puts what is parked for a region at the end of its stream, as it is now. Returns how many items.
pub async fn unpark(conn: &mut PgConnection, region: &str, now: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "with gone as (
             delete from region_parked where region = $1 returning position
         ), item as (
             select r.rid, r.version, r.type, row_number() over (order by s.position) - 1 as step,
                    case when r.state = 0 and p.mask & (1 << g.bit) <> 0 then 0 else 1 end as action
             from gone
             join region_stream s on s.region = $1 and s.position = gone.position
             join region g on g.code = $1
             join resource r on r.rid = s.rid
             left join pertinence p on p.rid = r.rid
         ), moved as (
             update region set next_position = next_position + (select count(*) from item) where code = $1
             returning next_position - (select count(*) from item) as first
         ), added as (
             insert into region_stream (region, position, rid, version, type, action, updated)
             select $1, moved.first + item.step, item.rid, item.version, item.type, item.action, $2
             from item cross join moved
             returning position
         )
         select count(*) from added",
    )
    .bind(region)
    .bind(now)
    .fetch_one(conn)
    .await
}

pub async fn parked(pool: &PgPool, region: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from region_parked where region = $1")
        .bind(region)
        .fetch_one(pool)
        .await
}
