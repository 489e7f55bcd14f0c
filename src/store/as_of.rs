//! Whether an instant can be looked back to: everything that was written before it is committed, and what was superseded since is indexed.
//! docs/adr/0010-time-travel.md.

use crate::outcome::Outcome;
use crate::store::Store;
use crate::store::database_error;
use chrono::DateTime;
use chrono::TimeDelta;
use chrono::Utc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a request waits for writes in flight.
const WAIT_MAX: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Makes sure that no write can come any more that would have been seen before this instant. A batch takes its time when it holds its locks, and sends it to the
/// database at once (`store::write`): so what may still come is in a transaction that is open by now. `age_min` is how much the clocks of
/// servers, and a statement on its way, may be apart. Errors: 400 for an instant that is younger, 503 while a write is in flight.
pub async fn settle(store: &Store, before: DateTime<Utc>, age_min: TimeDelta) -> Result<(), Outcome> {
    if before.timestamp_micros() <= store.settled.load(Ordering::Relaxed) {
        return Ok(());
    }
    let age = store.clock.now() - before;
    if age < age_min {
        let text = format!(
            "_asOf must lie {} ms back at least, so that what is being written is not missed (search.as_of_age_min_ms); a date stands for its end",
            age_min.num_milliseconds()
        );
        return Err(Outcome::invalid(text));
    }
    let mut waited = Duration::ZERO;
    while is_being_written(store, before, age_min).await.map_err(database_error)? {
        if waited >= WAIT_MAX {
            return Err(Outcome::unavailable(format!(
                "What was written at that instant is not committed after {} s (WAIT_MAX); try again",
                WAIT_MAX.as_secs()
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
    }
    store.settled.fetch_max(before.timestamp_micros(), Ordering::Relaxed);
    Ok(())
}

/// Whether a transaction that writes, or is about to, began before the instant, or so shortly after it that clocks decide. Single reads are no such
/// transactions: they are never idle in one, and have no id. Nor has a batch one yet that waits for a change of the search parameters: it is told by its
/// lock, which it has, or waits for, until it is committed (`store::statements`).
async fn is_being_written(store: &Store, before: DateTime<Utc>, age_min: TimeDelta) -> Result<bool, sqlx::Error> {
    let begun_ms = (store.clock.now() - before - age_min / 2).num_milliseconds();
    sqlx::query_scalar(
        "select exists (
             select from pg_stat_activity
             where datname = current_database() and application_name = $2
               and (
                   backend_xid is not null or state like 'idle in transaction%'
                   or exists (select from pg_locks l where l.pid = pg_stat_activity.pid and l.relation = 'search_generation'::regclass)
               )
               and clock_timestamp() - xact_start >= $1::bigint * interval '1 millisecond'
         )",
    )
    .bind(begun_ms)
    .bind(crate::store::pools::APPLICATION)
    .fetch_one(&*store.pools.points)
    .await
}

/// Errors: 503 when versions that were superseded after this instant are not indexed.
pub async fn check_indexed(store: &Store, before: DateTime<Utc>) -> Result<(), Outcome> {
    let is_unindexed: bool =
        sqlx::query_scalar("select exists (select from history where terms is null and superseded >= $1 and updated < $1)")
            .bind(before)
            .fetch_one(&*store.pools.points)
            .await
            .map_err(database_error)?;
    match is_unindexed {
        true => Err(Outcome::unavailable(
            "Versions of that time come from an older release and are not indexed yet: run eds reindex. Reads of one resource as of an instant need no index",
        )),
        false => Ok(()),
    }
}
