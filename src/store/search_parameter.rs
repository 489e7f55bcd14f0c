//! Search parameters of one's own in the database: which are in use, and how far their values are in the index.
//!
//! Every server on the database has them in its registry, with the generation that they had. A batch is only written when the generation is still
//! that of the database (`statements::write`), and changes wait until no batch is under way: docs/adr/0011-custom-search-parameters.md.

use crate::metrics;
use crate::outcome::Outcome;
use crate::search::custom::definition::Definition;
use crate::search::custom::reading::Custom;
use crate::search::parameters::Registry;
use crate::store::Store;
use chrono::DateTime;
use chrono::Utc;
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::sync::Arc;

/// How long a change waits for the batches that are under way, and all others for it.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '3s'";

/// `search_parameter.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum State {
    /// Writes are indexed by it; what was there before is not all.
    Indexing = 0,
    Complete = 1,
    /// It is no longer used, and its values are taken out of the index.
    Leaving = 2,
    /// This version of the server cannot use it beside its own parameters.
    Unusable = 3,
}

/// A parameter as the database has it.
#[derive(Debug, Clone, FromRow)]
pub struct ParameterRow {
    pub id: String,
    pub definition: Json<Definition>,
    pub(super) state: i16,
    pub is_paused: bool,
    pub types: Vec<i16>,
    pub after_rid: i64,
    pub last_rid: i64,
    pub started: DateTime<Utc>,
    pub updated: DateTime<Utc>,
}

const COLUMNS: &str = "id, definition, state, is_paused, types, after_rid, last_rid, started, updated";

impl ParameterRow {
    pub fn state(&self) -> State {
        match self.state {
            0 => State::Indexing,
            1 => State::Complete,
            2 => State::Leaving,
            _ => State::Unusable,
        }
    }

    pub fn is_in_use(&self) -> bool {
        matches!(self.state(), State::Indexing | State::Complete)
    }

    /// There are rows that are to be walked for it.
    pub fn is_walked(&self) -> bool {
        matches!(self.state(), State::Indexing | State::Leaving)
    }

    /// Of the rows that are to be walked. Row ids say nothing of how many resources there are.
    pub fn percent(&self) -> u8 {
        match self.last_rid {
            0 => 0,
            last => (self.after_rid.clamp(0, last) as i128 * 100 / i128::from(last)) as u8,
        }
    }
}

/// The parameters of one generation. One statement: what it reads belongs together.
pub(super) async fn read(conn: &mut PgConnection) -> Result<(i64, Vec<ParameterRow>), sqlx::Error> {
    let text = "select g.generation, to_jsonb(p.*) from search_generation g left join search_parameter p on true order by p.id";
    let rows: Vec<(i64, Option<Json<Stored>>)> = sqlx::query_as(text).fetch_all(conn).await?;
    let generation = rows.first().map_or(0, |(generation, _)| *generation);
    Ok((
        generation,
        rows.into_iter()
            .filter_map(|(_, row)| row.map(|Json(stored)| stored.row()))
            .collect(),
    ))
}

/// A row as JSON, in which it comes beside the generation or not at all.
#[derive(serde::Deserialize)]
struct Stored {
    id: String,
    definition: Definition,
    state: i16,
    is_paused: bool,
    types: Vec<i16>,
    after_rid: i64,
    last_rid: i64,
    started: DateTime<Utc>,
    updated: DateTime<Utc>,
}

impl Stored {
    fn row(self) -> ParameterRow {
        ParameterRow {
            id: self.id,
            definition: Json(self.definition),
            state: self.state,
            is_paused: self.is_paused,
            types: self.types,
            after_rid: self.after_rid,
            last_rid: self.last_rid,
            started: self.started,
            updated: self.updated,
        }
    }
}

/// The registry that these rows make. Those that cannot be used are told by their ids, with the reason.
pub(super) fn registry(store: &Store, generation: i64, rows: &[ParameterRow]) -> (Registry, Vec<(String, Outcome)>) {
    let (mut customs, mut unusable) = (Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| row.is_in_use()) {
        match Custom::new(row.id.clone(), row.definition.0.clone(), row.state() == State::Complete) {
            Ok(custom) => {
                custom.set_percent(row.percent());
                customs.push(Arc::new(custom));
            }
            Err(outcome) => unusable.push((row.id.clone(), outcome)),
        }
    }
    let (registry, others) = store.registry().with(generation, customs);
    unusable.extend(others.into_iter().map(|(custom, outcome)| (custom.id.clone(), outcome)));
    (registry, unusable)
}

/// Reads the parameters as they are now, and how far they are.
pub async fn refresh(store: &Store) -> Result<Vec<ParameterRow>, sqlx::Error> {
    let mut conn = store.pools.points.lend().await?;
    let (generation, rows) = read(&mut conn).await?;
    conn.done();
    if generation != store.registry().generation() {
        let (registry, unusable) = registry(store, generation, &rows);
        for (id, outcome) in unusable {
            tracing::error!(
                parameter = id,
                reason = outcome.summary(),
                "a search parameter cannot be used by this server"
            );
        }
        store.install(Arc::new(registry));
    }
    for custom in store.registry().customs() {
        if let Some(row) = rows.iter().find(|row| row.id == custom.id) {
            custom.set_percent(row.percent());
        }
    }
    metrics::set_indexed(rows.iter().map(|row| (row.definition.code.as_str(), i64::from(row.percent()))));
    Ok(rows)
}

/// At the start: reads the parameters. Those that this version cannot use are put out of use for all servers, since what it writes lacks them.
pub async fn load(store: &Store) -> Result<(), sqlx::Error> {
    let rows = refresh(store).await?;
    let (_, unusable) = registry(store, 0, &rows);
    if unusable.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = unusable.into_iter().map(|(id, _)| id).collect();
    let mut tx = store.pools.points.begin().await?;
    lock(&mut tx).await?;
    let update = "update search_parameter set state = $2, updated = $3 where id = any($1)";
    sqlx::query(update)
        .bind(ids)
        .bind(State::Unusable as i16)
        .bind(store.clock.now())
        .execute(&mut *tx)
        .await?;
    raise(&mut tx).await?;
    tx.commit().await?;
    refresh(store).await.map(drop)
}

/// Whether the parameters are still of this generation. If not, they are read anew.
pub async fn is_still(store: &Store, generation: i64) -> Result<bool, sqlx::Error> {
    let mut conn = store.pools.points.lend().await?;
    let now: i64 = sqlx::query_scalar("select generation from search_generation")
        .fetch_one(&mut *conn)
        .await?;
    conn.done();
    if now == generation {
        return Ok(true);
    }
    refresh(store).await?;
    Ok(false)
}

/// One parameter; `None`: it is not in use.
pub async fn find(store: &Store, id: &str) -> Result<Option<ParameterRow>, sqlx::Error> {
    let text = format!("select {COLUMNS} from search_parameter where id = $1");
    sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(id)
        .fetch_optional(&*store.pools.points)
        .await
}

/// Tells whether there was something to pause or resume.
pub async fn pause(store: &Store, id: &str, is_paused: bool) -> Result<bool, sqlx::Error> {
    let text = "update search_parameter set is_paused = $2, updated = $3 where id = $1 and state in (0, 2) and is_paused <> $2";
    let done = sqlx::query(text)
        .bind(id)
        .bind(is_paused)
        .bind(store.clock.now())
        .execute(&*store.pools.points)
        .await?;
    store.to_walk.notify_one();
    Ok(done.rows_affected() > 0)
}

/// Everything is walked again for a parameter; one that this version could not use is tried once more. Tells whether it is in use.
pub async fn again(store: &Store, id: &str) -> Result<bool, sqlx::Error> {
    let mut tx = store.pools.points.begin().await?;
    lock(&mut tx).await?;
    let text = "
update search_parameter
set state = 0, is_paused = false, after_rid = 0, last_rid = (select coalesce(max(rid), 0) from resource), started = $2, updated = $2
where id = $1 and state <> 2";
    let done = sqlx::query(text).bind(id).bind(store.clock.now()).execute(&mut *tx).await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    raise(&mut tx).await?;
    tx.commit().await?;
    refresh(store).await.map(|_| true)
}

/// Those whose rows are to be walked; locked, so that none is changed meanwhile.
pub async fn to_walk(conn: &mut PgConnection) -> Result<Vec<ParameterRow>, sqlx::Error> {
    let text = format!("select {COLUMNS} from search_parameter where state in (0, 2) and not is_paused order by id for update");
    sqlx::query_as(sqlx::AssertSqlSafe(text)).fetch_all(conn).await
}

/// These parameters have been walked up to here. Those at their end are complete, or gone; then the generation is raised, and this is told.
pub async fn walked(conn: &mut PgConnection, ids: &[String], after: i64, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let text = "update search_parameter set after_rid = $2, updated = $3 where id = any($1)";
    sqlx::query(text).bind(ids).bind(after).bind(now).execute(&mut *conn).await?;
    let gone = sqlx::query("delete from search_parameter where id = any($1) and state = 2 and after_rid >= last_rid");
    let gone = gone.bind(ids).execute(&mut *conn).await?.rows_affected();
    let complete = "update search_parameter set state = 1 where id = any($1) and state = 0 and after_rid >= last_rid";
    let complete = sqlx::query(complete).bind(ids).execute(&mut *conn).await?.rows_affected();
    if gone + complete > 0 {
        raise(conn).await?;
    }
    Ok(gone + complete > 0)
}

/// No batch is under way from here to the end of the transaction, and none begins.
pub(super) async fn lock(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(LOCK_TIMEOUT).execute(&mut *conn).await?;
    sqlx::query("lock table search_generation in access exclusive mode")
        .execute(&mut *conn)
        .await?;
    sqlx::query("set local lock_timeout to default").execute(conn).await?;
    Ok(())
}

pub(super) async fn raise(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("update search_generation set generation = generation + 1 returning generation")
        .fetch_one(conn)
        .await
}
