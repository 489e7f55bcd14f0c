//! The walk for search parameters that came or went: rows of their types are indexed anew beside the requests, in batches with pauses between.
//!
//! One of all servers on the database walks, as long as it holds a lock; how far it has come stands in the database, so that another goes on where it
//! stopped. Parameters that are equally far are walked together.

use crate::outcome::Outcome;
use crate::store::Store;
use crate::store::database_error;
use crate::store::reindex;
use crate::store::search_parameter;
use crate::store::search_parameter::ParameterRow;
use crate::store::statements;
use sqlx::Connection;
use sqlx::PgConnection;
use std::time::Duration;

/// Advisory lock of the server that walks: `eds` and a number of its own.
const LOCK: i64 = 0x6564_7300_0013;
/// How often the parameters are read anew, and looked for something to do: so late other servers know of a change at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Row ids that one statement passes over, whether they are of the types or not: bounds its time.
const WINDOW: i64 = 50_000;

/// Settings of the walk: `config/default.toml`, section `search`.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Rows that are locked together.
    pub batch_resources: i64,
    /// Between two batches.
    pub pause: Duration,
}

/// Follows the parameters of the database, and walks when there is something to do. Ends when the store is closed.
pub async fn run(store: Store, pace: Pace) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = store.to_walk.notified() => {}
        }
        let done = match search_parameter::refresh(&store).await {
            Ok(rows) if rows.iter().any(|row| row.is_walked() && !row.is_paused) => walk(&store, pace).await,
            Ok(_) => Ok(()),
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => Err(database_error(error)),
        };
        if let Err(outcome) = done {
            tracing::warn!(
                error = outcome.internal.unwrap_or_default(),
                "indexing for search parameters was interrupted, and goes on"
            );
        }
    }
}

/// Walks until there is nothing left to do. Another server may be at it: then nothing is done here.
async fn walk(store: &Store, pace: Pace) -> Result<(), Outcome> {
    let mut conn = store.leader_connection().await.map_err(database_error)?;
    let is_ours: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut conn)
        .await
        .map_err(database_error)?;
    while is_ours && !store.pools.points.is_closed() {
        match step(store, &mut conn, pace).await? {
            Step::Nothing => break,
            Step::Stale => drop(search_parameter::refresh(store).await.map_err(database_error)?),
            Step::Passed => {}
            Step::Indexed => tokio::time::sleep(pace.pause).await,
        }
    }
    // The lock goes with the connection.
    conn.close().await.map_err(database_error)
}

enum Step {
    Nothing,
    /// The parameters changed: they are read anew first.
    Stale,
    /// There was nothing of these types.
    Passed,
    Indexed,
}

async fn step(store: &Store, conn: &mut PgConnection, pace: Pace) -> Result<Step, Outcome> {
    let mut tx = conn.begin().await.map_err(database_error)?;
    let Some(registry) = reindex::current(store, &mut tx).await.map_err(database_error)? else {
        return Ok(Step::Stale);
    };
    let waiting = search_parameter::to_walk(&mut tx).await.map_err(database_error)?;
    let Some(stretch) = Stretch::next(&waiting) else {
        return Ok(Step::Nothing);
    };
    let range = (stretch.after, stretch.last);
    let rids = reindex::next(&mut tx, "type = any($4)", range, &stretch.types, pace.batch_resources)
        .await
        .map_err(database_error)?;
    let rows = reindex::lock(store, &mut tx, &rids).await.map_err(database_error)?;
    let entries = reindex::changed(store, &registry, &rows)?;
    let replaced = statements::replace_index(store, &mut tx, &entries).await;
    let learnt = replaced.map_err(database_error)?;
    // A batch that is not full has all that there is. Rows that were deleted before they were locked count.
    let farthest = rids.last().filter(|_| rids.len() as i64 == pace.batch_resources);
    let after = farthest.copied().unwrap_or(stretch.last);
    let is_end = search_parameter::walked(&mut tx, &stretch.ids, after, store.clock.now())
        .await
        .map_err(database_error)?;
    tx.commit().await.map_err(database_error)?;
    learnt.remember(store);
    if is_end {
        search_parameter::refresh(store).await.map_err(database_error)?;
    }
    Ok(if rids.is_empty() { Step::Passed } else { Step::Indexed })
}

/// The next rows to walk, and for which parameters.
#[derive(Debug, PartialEq)]
struct Stretch {
    ids: Vec<String>,
    types: Vec<i16>,
    after: i64,
    last: i64,
}

impl Stretch {
    /// For the parameters that are least far: up to where others are, who then go on with them.
    fn next(waiting: &[ParameterRow]) -> Option<Stretch> {
        let after = waiting.iter().map(|row| row.after_rid).min()?;
        let (here, ahead): (Vec<&ParameterRow>, Vec<&ParameterRow>) = waiting.iter().partition(|row| row.after_rid == after);
        let ends = ahead.iter().map(|row| row.after_rid).chain(here.iter().map(|row| row.last_rid));
        let mut types: Vec<i16> = here.iter().flat_map(|row| row.types.iter().copied()).collect();
        types.sort_unstable();
        types.dedup();
        Some(Stretch {
            ids: here.iter().map(|row| row.id.clone()).collect(),
            types,
            after,
            last: ends.min()?.min(after + WINDOW),
        })
    }
}
