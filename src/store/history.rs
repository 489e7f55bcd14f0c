//! Versions: one of a resource, all of a resource, of a type, of the whole repository.
//! Spec: <https://hl7.org/fhir/R4/http.html#history>, <https://hl7.org/fhir/R4/http.html#vread>.

use crate::outcome::Outcome;
use crate::policy::State;
use crate::store::Store;
use crate::store::database_error;
use crate::store::rows;
use crate::store::rows::Row;
use crate::store::unit::Change;
use chrono::DateTime;
use chrono::Utc;

/// A version and what made it.
#[derive(Debug)]
pub struct Entry {
    pub row: Row,
    pub change: Change,
    /// Where the next page continues: a version for a resource, a change for a type or the repository.
    pub place: i64,
}

/// Which versions are asked for.
#[derive(Debug, Clone)]
pub struct Range {
    /// Made at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Current at some time between these.
    pub at: Option<(DateTime<Utc>, DateTime<Utc>)>,
    pub is_ascending: bool,
    /// Where the page before ended: a version for a resource, a change for a type or the repository.
    pub place: Option<i64>,
    pub limit: i64,
}

impl Range {
    /// So many before a place, newest first; without a place the newest.
    pub fn newest(place: Option<i64>, limit: i64) -> Range {
        Range {
            since: None,
            at: None,
            is_ascending: false,
            place,
            limit,
        }
    }

    /// Comparison with the place, and order.
    fn direction(&self) -> (&'static str, &'static str) {
        match self.is_ascending {
            true => (">", "asc"),
            false => ("<", "desc"),
        }
    }

    fn place(&self) -> i64 {
        self.place.unwrap_or(if self.is_ascending { i64::MIN } else { i64::MAX })
    }
}

/// One version. `current` is the resource's row. Errors: 404 if there is no such version, 410 if that version is its deletion.
pub async fn version(store: &Store, current: Row, version: i32) -> Result<Row, Outcome> {
    let what = format!("{}/{} version {version}", store.registry().name_of(current.type_number), current.id);
    let row = match current.version == version {
        true => Some(current),
        false => superseded(store, &current, version).await?,
    };
    match row {
        Some(row) if row.state() == State::Deleted => Err(Outcome::gone(&what)),
        Some(row) => Ok(row),
        None => Err(Outcome::not_found(&what)),
    }
}

async fn superseded(store: &Store, current: &Row, version: i32) -> Result<Option<Row>, Outcome> {
    let query = sqlx::query_as(
        "select rid, type, $2 as id, version, updated, state, dictionary, body
         from history
         where rid = $1 and version = $3 and state <> 2",
    )
    .bind(current.rid)
    .bind(&current.id)
    .bind(version);
    let mut conn = store.pools.points.acquire().await.map_err(database_error)?;
    let rows: Vec<Row> = rows::fetch(&store.bodies, &mut conn, query).await.map_err(database_error)?;
    Ok(rows.into_iter().next())
}

/// The version that a resource had before an instant. `current` is the resource's row. Errors: 404 if it had none, 410 if it was deleted then.
pub async fn version_before(store: &Store, current: Row, before: DateTime<Utc>) -> Result<Row, Outcome> {
    let what = format!("{}/{}", store.registry().name_of(current.type_number), current.id);
    let row = match current.updated < before {
        true => Some(current),
        false => latest_before(store, &current, before).await?,
    };
    match row.map(|row| (row.state(), row)) {
        Some((State::Live, row)) => Ok(row),
        Some((State::Deleted, _)) => Err(Outcome::gone(&what)),
        Some((State::Withdrawn, _)) | None => Err(Outcome::not_found(&what)),
    }
}

async fn latest_before(store: &Store, current: &Row, before: DateTime<Utc>) -> Result<Option<Row>, Outcome> {
    let query = sqlx::query_as(
        "select rid, type, $2 as id, version, updated, state, dictionary, body
         from history
         where rid = $1 and updated < $3
         order by version desc
         limit 1",
    )
    .bind(current.rid)
    .bind(&current.id)
    .bind(before);
    let mut conn = store.pools.points.acquire().await.map_err(database_error)?;
    let rows: Vec<Row> = rows::fetch(&store.bodies, &mut conn, query).await.map_err(database_error)?;
    Ok(rows.into_iter().next())
}

#[derive(sqlx::FromRow)]
struct VersionRow {
    /// The version before it is a deletion.
    follows_deletion: bool,
    #[sqlx(flatten)]
    row: Row,
}

impl AsRef<Row> for VersionRow {
    fn as_ref(&self) -> &Row {
        &self.row
    }
}

/// The versions of a resource, whose row `current` is.
pub async fn instance(store: &Store, current: &Row, range: &Range) -> Result<Vec<Entry>, Outcome> {
    let (beyond, order) = range.direction();
    let text = format!(
        "select v.rid, v.type, $2 as id, v.version, v.updated, v.state, v.dictionary, v.body,
                exists (select from history p where p.rid = v.rid and p.version = v.version - 1 and p.state = 1) as follows_deletion
         from (
             select rid, type, version, updated, state, dictionary, body from history h where h.rid = $1 and h.state <> 2
             union all
             select rid, type, version, updated, state, dictionary, body from resource r where r.rid = $1 and r.state <> 2
         ) v
         where v.version {beyond} $3
           and ($4::timestamptz is null or v.updated >= $4)
           and ($5::timestamptz is null or v.updated < $6 and not {superseded})
         order by v.version {order}
         limit $7",
        superseded = superseded_by("v", "$5")
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(current.rid)
        .bind(&current.id)
        .bind(range.place())
        .bind(range.since)
        .bind(range.at.map(|at| at.0))
        .bind(range.at.map(|at| at.1))
        .bind(range.limit);
    let mut conn = store.pools.points.acquire().await.map_err(database_error)?;
    let rows: Vec<VersionRow> = rows::fetch(&store.bodies, &mut conn, query).await.map_err(database_error)?;
    let entry = |VersionRow { follows_deletion, row }: VersionRow| Entry {
        place: i64::from(row.version),
        change: match (row.state(), row.version) {
            (State::Deleted, _) => Change::Delete,
            (_, 1) => Change::Create,
            _ if follows_deletion => Change::Create,
            _ => Change::Update,
        },
        row,
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// The version after that of the alias came at this time or before.
fn superseded_by(alias: &str, time: &str) -> String {
    let next = |table: &str| {
        format!("exists (select from {table} n where n.rid = {alias}.rid and n.version = {alias}.version + 1 and n.updated <= {time})")
    };
    format!("({} or {})", next("history"), next("resource"))
}

#[derive(sqlx::FromRow)]
struct ChangeRow {
    seq: i64,
    operation: i16,
    #[sqlx(flatten)]
    row: Row,
}

impl AsRef<Row> for ChangeRow {
    fn as_ref(&self) -> &Row {
        &self.row
    }
}

/// The changes of a type, or of all types. What is withdrawn now has no history.
pub async fn changes(store: &Store, type_number: Option<i16>, range: &Range) -> Result<Vec<Entry>, Outcome> {
    let (beyond, order) = range.direction();
    let text = format!(
        "select c.seq, c.operation, c.rid, c.type, r.id, c.version, c.updated,
                case c.operation when 2 then 1 else 0 end::smallint as state,
                coalesce(h.dictionary, r.dictionary) as dictionary, coalesce(h.body, r.body) as body
         from change c
         join resource r on r.rid = c.rid
         left join history h on h.rid = c.rid and h.version = c.version
         where c.seq {beyond} $1 and c.operation <= 2 and r.state <> 2 and h.state is distinct from 2
           -- What was expunged is told no more.
           and (h.rid is not null or c.version = r.version)
           and ($2::smallint is null or c.type = $2)
           and ($3::timestamptz is null or c.updated >= $3)
           and ($4::timestamptz is null or c.updated < $5 and not {superseded})
         order by c.seq {order}
         limit $6",
        superseded = superseded_by("c", "$4")
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(range.place())
        .bind(type_number)
        .bind(range.since)
        .bind(range.at.map(|at| at.0))
        .bind(range.at.map(|at| at.1))
        .bind(range.limit);
    let mut conn = store.pools.searches.acquire().await.map_err(database_error)?;
    let rows: Vec<ChangeRow> = rows::fetch(&store.bodies, &mut conn, query).await.map_err(database_error)?;
    Ok(rows
        .into_iter()
        .map(|r| Entry {
            place: r.seq,
            change: Change::from_number(r.operation),
            row: r.row,
        })
        .collect())
}
