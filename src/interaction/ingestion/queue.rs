//! The queue of the ingestion API: operations are carried out in order per identifier, side by side across identifiers.
//!
//! Any number of nodes may work on one table. A node claims the first waiting operation of a document with a session lock; the operation
//! ends in the transaction that carries it out, so even a node that lost its locks cannot carry it out twice or out of order.

use crate::interaction::ingestion::Work;
use crate::interaction::ingestion::document;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::store::database_error;
use crate::store::document_rows as documents;
use crate::store::ingestion;
use crate::store::ingestion::Claimed;
use crate::store::ingestion::Operation;
use crate::store::ingestion::Waiting;
use crate::store::unit::Unit;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Documents that are worked on at the same time: enough to fill the writer's batches, few enough that large bodies fit in memory.
const PARALLEL: usize = 8;
/// How often the table is looked at without a notice: another node may have left work.
const POLL: Duration = Duration::from_secs(1);
/// Longest message of a final status, in characters.
const MESSAGE_LENGTH_MAX: usize = 1000;

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ended,
    /// The database is away or busy: the operation waits on.
    Later,
}

/// Runs until told to stop; then finishes what it has begun.
pub async fn run(work: Arc<Work>, mut stop: watch::Receiver<bool>) {
    let mut locks: Option<PgConnection> = None;
    let mut busy: HashMap<String, i64> = HashMap::new();
    let mut tasks: JoinSet<(String, End)> = JoinSet::new();
    let mut pauses = false;
    while !*stop.borrow() {
        if !pauses && busy.len() < PARALLEL {
            match claim(&work, &mut locks, &busy).await {
                Ok(claimed) => claimed.into_iter().for_each(|claimed| begin(&work, claimed, &mut busy, &mut tasks)),
                Err(sqlx::Error::PoolClosed) => break,
                Err(error) => {
                    tracing::warn!(
                        error = database_error(error).internal,
                        "the queue of the ingestion API cannot be read"
                    );
                    // Its locks are gone with it; what runs is guarded by the table.
                    locks = None;
                    pauses = true;
                }
            }
        }
        tokio::select! {
            _ = stop.changed() => {}
            Some(ended) = tasks.join_next() => pauses |= end(&work, ended.into_iter().chain(joined(&mut tasks)), &mut locks, &mut busy).await,
            () = work.accepted.notified() => {}
            () = tokio::time::sleep(POLL) => pauses = false,
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// The tasks that have ended already.
fn joined(tasks: &mut JoinSet<(String, End)>) -> Vec<(String, End)> {
    std::iter::from_fn(|| tasks.try_join_next()).flatten().collect()
}

async fn claim(work: &Work, locks: &mut Option<PgConnection>, busy: &HashMap<String, i64>) -> Result<Vec<Claimed>, sqlx::Error> {
    let conn = match locks {
        Some(conn) => conn,
        None => locks.insert(work.conn().await?.detach()),
    };
    let identifiers: Vec<&str> = busy.keys().map(String::as_str).collect();
    ingestion::claim(conn, &identifiers, (PARALLEL - busy.len()) as i64).await
}

fn begin(work: &Arc<Work>, claimed: Claimed, busy: &mut HashMap<String, i64>, tasks: &mut JoinSet<(String, End)>) {
    busy.insert(claimed.identifier.clone(), claimed.lock);
    let work = work.clone();
    tasks.spawn(async move {
        // A task of its own, so that a panic is an end too, and not the end of the document's queue.
        let attempt = tokio::spawn({
            let work = work.clone();
            async move { attempt(&work, claimed.id).await }
        });
        let end = match attempt.await {
            Ok(end) => end,
            Err(_) => fail(&work, claimed.id, &Outcome::internal("an operation of the ingestion API panicked")).await,
        };
        (claimed.identifier, end)
    });
}

/// Releases what has ended. Returns whether the queue has to pause.
async fn end(
    work: &Work,
    ended: impl Iterator<Item = (String, End)>,
    locks: &mut Option<PgConnection>,
    busy: &mut HashMap<String, i64>,
) -> bool {
    let mut pauses = false;
    let mut released = Vec::new();
    for (identifier, end) in ended {
        pauses |= end == End::Later;
        released.extend(busy.remove(&identifier));
    }
    if let Some(conn) = locks
        && ingestion::release(conn, &released).await.is_err()
    {
        *locks = None;
    }
    work.ended.notify_waiters();
    work.callback_due.notify_one();
    pauses
}

async fn attempt(work: &Work, id: i64) -> End {
    match carry_out(work, id).await {
        Ok(()) => End::Ended,
        Err(outcome) if matches!(outcome.category, Category::Unavailable | Category::TooManyRequests) => {
            tracing::warn!(
                operation = id,
                internal = outcome.internal,
                "an operation of the ingestion API waits: the database is away or busy"
            );
            End::Later
        }
        Err(outcome) => fail(work, id, &outcome).await,
    }
}

async fn carry_out(work: &Work, id: i64) -> Result<(), Outcome> {
    let mut conn = work.conn().await.map_err(database_error)?;
    let Some(waiting) = ingestion::load(&mut conn, id).await.map_err(database_error)? else {
        return Ok(());
    };
    let old = match Operation::from_name(&waiting.operation) {
        Some(Operation::Replace) => Some(heads(work, &mut conn, &waiting.identifier).await?),
        _ => None,
    };
    drop(conn);
    let unit = Unit {
        ingestion: Some(id),
        ..unit(work, waiting, old.as_deref())?
    };
    work.service.writer.apply(unit).await?;
    Ok(())
}

fn unit(work: &Work, waiting: Waiting, old: Option<&[String]>) -> Result<Unit, Outcome> {
    let body = waiting
        .body
        .ok_or_else(|| Outcome::internal("a waiting operation without a body"))?;
    let text = zstd::decode_all(body.as_slice()).map_err(Outcome::internal)?;
    drop(body);
    let text = String::from_utf8(text).map_err(|_| Outcome::internal("a waiting body is no UTF-8"))?;
    match old {
        Some(old) => document::replace(&work.service, &waiting.identifier, &text, old),
        None => document::create(&work.service, &waiting.identifier, &text),
    }
}

/// What a replacement refers to: `Type/id` of the old document's DocumentReference and Composition. Errors: 404.
async fn heads(work: &Work, conn: &mut PgConnection, identifier: &str) -> Result<Vec<String>, Outcome> {
    let store = &work.service.store;
    let types = document::HEADS.map(|(type_name, _)| type_name);
    let rows = documents::members_of(store, conn, identifier, &types)
        .await
        .map_err(database_error)?;
    let rows = rows.ok_or_else(|| Outcome::not_found("The document"))?;
    Ok(rows
        .iter()
        .map(|row| format!("{}/{}", store.registry().name_of(row.type_number), row.id))
        .collect())
}

/// Without warnings and remarks: they do not stand in the way.
fn errors(outcome: &Outcome) -> Outcome {
    let issues = outcome
        .issues
        .iter()
        .filter(|issue| issue.severity == Severity::Error)
        .cloned()
        .collect();
    Outcome { issues, ..outcome.clone() }
}

/// The final status of what cannot be carried out.
async fn fail(work: &Work, id: i64, outcome: &Outcome) -> End {
    if let Some(internal) = &outcome.internal {
        tracing::error!(operation = id, internal, "an operation of the ingestion API failed");
    }
    let message: String = errors(outcome).summary().chars().take(MESSAGE_LENGTH_MAX).collect();
    let now = work.service.store.clock.now();
    let failed = match work.conn().await {
        Ok(mut conn) => ingestion::fail(&mut conn, id, &message, now).await,
        Err(error) => Err(error),
    };
    match failed {
        Ok(()) => End::Ended,
        Err(_) => End::Later,
    }
}
