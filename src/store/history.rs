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

/// One version. `current` is the resource's row. Errors: 404 if there is no such version, 410 if that version is its deletion.
pub async fn version(store: &Store, current: Row, version: i32) -> Result<Row, Outcome> {
    let what = format!("{}/{} version {version}", store.registry().name_of(current.type_number), current.id);
    let row = match current.version == version {
        true => Some(current),
        false => versions(store, &current, None, i64::from(version) + 1, 1)
            .await?
            .into_iter()
            .find(|r| r.version == version),
    };
    match row {
        Some(row) if row.state() == State::Deleted => Err(Outcome::gone(&what)),
        Some(row) => Ok(row),
        None => Err(Outcome::not_found(&what)),
    }
}

/// The versions of a resource, newest first, that came after `since` and before version `before`.
pub async fn instance(store: &Store, current: Row, since: Option<DateTime<Utc>>, before: i64, limit: i64) -> Result<Vec<Entry>, Outcome> {
    let mut rows = Vec::new();
    let (is_first, is_recent) = (
        i64::from(current.version) < before,
        since.is_none_or(|since| current.updated >= since),
    );
    let older = versions(store, &current, since, before, limit).await?;
    if is_first && is_recent {
        rows.push(current);
    }
    rows.extend(older);
    rows.truncate(limit as usize);
    // What came before a version says whether it was created: the last row's own predecessor is not on the page, but only version 1 needs none.
    let was_deleted: Vec<bool> = rows
        .iter()
        .skip(1)
        .map(|older| older.state() == State::Deleted)
        .chain([false])
        .collect();
    let entry = |(row, follows_deletion): (Row, bool)| {
        let change = match (row.state(), row.version) {
            (State::Deleted, _) => Change::Delete,
            (_, 1) => Change::Create,
            _ if follows_deletion => Change::Create,
            _ => Change::Update,
        };
        Entry {
            place: i64::from(row.version),
            change,
            row,
        }
    };
    Ok(rows.into_iter().zip(was_deleted).map(entry).collect())
}

async fn versions(store: &Store, current: &Row, since: Option<DateTime<Utc>>, before: i64, limit: i64) -> Result<Vec<Row>, Outcome> {
    let query = sqlx::query_as(
        "select rid, type, $2 as id, version, updated, state, dictionary, body
         from history
         where rid = $1 and state <> 2 and version < $3 and ($4::timestamptz is null or updated >= $4)
         order by version desc
         limit $5",
    )
    .bind(current.rid)
    .bind(&current.id)
    .bind(before.min(i64::from(i32::MAX)) as i32)
    .bind(since)
    .bind(limit);
    let mut conn = store.pools.points.acquire().await.map_err(database_error)?;
    rows::fetch(&store.bodies, &mut conn, query).await.map_err(database_error)
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

/// The changes of a type, or of all types, newest first, before the change `before`. What is withdrawn now has no history.
pub async fn changes(
    store: &Store,
    type_number: Option<i16>,
    since: Option<DateTime<Utc>>,
    before: i64,
    limit: i64,
) -> Result<Vec<Entry>, Outcome> {
    let query = sqlx::query_as(
        "select c.seq, c.operation, c.rid, c.type, r.id, c.version, c.updated,
                case c.operation when 2 then 1 else 0 end::smallint as state,
                coalesce(h.dictionary, r.dictionary) as dictionary, coalesce(h.body, r.body) as body
         from change c
         join resource r on r.rid = c.rid
         left join history h on h.rid = c.rid and h.version = c.version
         where c.seq < $1 and c.operation <= 2 and r.state <> 2 and h.state is distinct from 2
           and ($2::smallint is null or c.type = $2)
           and ($3::timestamptz is null or c.updated >= $3)
         order by c.seq desc
         limit $4",
    )
    .bind(before)
    .bind(type_number)
    .bind(since)
    .bind(limit);
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
