//! Writes that arrive together are committed together: one fsync for all, an answer for each.
//!
//! A unit waits only while another batch holds one of its keys or all writers are busy; an idle server writes at once. What fails as a
//! batch is tried again one unit at a time, so that a unit only ever fails for its own sake.

use crate::metrics;
use crate::outcome::Outcome;
use crate::store::Store;
use crate::store::database_error;
use crate::store::unit::Unit;
use crate::store::unit::UnitReply;
use crate::store::write::apply;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Batches that are written at the same time: one more than the cores that the server shares with the database needs.
const WRITERS: usize = 2;
/// Operations in one batch: bounds the time that others wait for its locks.
const BATCH_OPS_MAX: usize = 512;
/// Units that wait for a writer; more are refused with 503.
const WAITING_MAX: usize = 4096;
const RETRIES_MAX: usize = 5;

struct Job {
    unit: Unit,
    keys: HashSet<i64>,
    reply: oneshot::Sender<Result<UnitReply, Outcome>>,
}

/// Where units are handed in.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    store: Store,
    batches: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the loop that forms batches.
    pub fn start(store: Store) -> Writer {
        let (jobs, receiver) = mpsc::channel(WAITING_MAX);
        let batches = Arc::new(AtomicU64::new(0));
        tokio::spawn(dispatch(store.clone(), receiver, batches.clone()));
        Writer { jobs, store, batches }
    }

    /// Batches written since the start.
    pub fn written(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Applies a unit: the answer comes after its commit. Errors: its own, or 503 when too much waits or the database is away.
    pub async fn apply(&self, unit: Unit) -> Result<UnitReply, Outcome> {
        let (reply, answer) = oneshot::channel();
        let keys = unit.keys(&self.store.registry);
        let busy = |_| Outcome::unavailable("Too many writes are waiting; try again");
        self.jobs.try_send(Job { unit, keys, reply }).map_err(busy)?;
        answer
            .await
            .map_err(|_| Outcome::unavailable("The server is stopping; try again"))?
    }
}

async fn dispatch(store: Store, mut jobs: mpsc::Receiver<Job>, batches: Arc<AtomicU64>) {
    let (done, mut finished) = mpsc::channel::<HashSet<i64>>(WRITERS);
    let mut waiting: VecDeque<Job> = VecDeque::new();
    let mut busy_keys: HashSet<i64> = HashSet::new();
    let mut free = WRITERS;
    let mut is_open = true;
    while is_open || !waiting.is_empty() || free < WRITERS {
        tokio::select! {
            job = jobs.recv(), if is_open => match job {
                Some(job) => waiting.push_back(job),
                None => is_open = false,
            },
            Some(keys) = finished.recv() => {
                busy_keys.retain(|key| !keys.contains(key));
                free += 1;
            }
        }
        while let Ok(job) = jobs.try_recv() {
            waiting.push_back(job);
        }
        while free > 0 {
            let (batch, keys) = take_batch(&mut waiting, &busy_keys);
            if batch.is_empty() {
                break;
            }
            free -= 1;
            batches.fetch_add(1, Ordering::Relaxed);
            busy_keys.extend(&keys);
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                write_batch(&store, batch).await;
                // The dispatcher lives as long as a writer is busy.
                let _ = done.send(keys).await;
            });
        }
    }
}

/// The next units, in order, whose keys nobody holds.
fn take_batch(waiting: &mut VecDeque<Job>, busy: &HashSet<i64>) -> (Vec<Job>, HashSet<i64>) {
    let (mut batch, mut keys, mut ops) = (Vec::new(), HashSet::new(), 0);
    let mut left = VecDeque::with_capacity(waiting.len());
    // Keys of the units passed over: those behind them must not overtake.
    let mut passed: HashSet<i64> = HashSet::new();
    while let Some(job) = waiting.pop_front() {
        let is_free = job
            .keys
            .iter()
            .all(|key| !busy.contains(key) && !keys.contains(key) && !passed.contains(key));
        let fits = batch.is_empty() || ops + job.unit.ops.len() <= BATCH_OPS_MAX;
        if is_free && fits {
            ops += job.unit.ops.len();
            keys.extend(&job.keys);
            batch.push(job);
        } else {
            passed.extend(&job.keys);
            left.push_back(job);
        }
        if ops >= BATCH_OPS_MAX {
            break;
        }
    }
    left.append(waiting);
    *waiting = left;
    (batch, keys)
}

async fn write_batch(store: &Store, batch: Vec<Job>) {
    let (units, replies): (Vec<Unit>, Vec<_>) = batch.into_iter().map(|job| (job.unit, job.reply)).unzip();
    let results = apply_patiently(store, units).await;
    store.changed.notify_one();
    for (reply, result) in replies.into_iter().zip(results) {
        for applied in result.iter().flat_map(|reply| &reply.applied) {
            metrics::count_written(store.registry.name_of(applied.type_number), applied.effect.name());
        }
        // The client may have gone: its write stands all the same.
        let _ = reply.send(result);
    }
}

/// Applies a batch; on failure each unit alone, with a few retries for conflicts between writers.
async fn apply_patiently(store: &Store, units: Vec<Unit>) -> Vec<Result<UnitReply, Outcome>> {
    match apply_once(store, &units).await {
        Ok(results) => results,
        Err(error) if units.len() == 1 => vec![retry(store, &units, error).await],
        Err(_) => {
            let mut results = Vec::with_capacity(units.len());
            for unit in units.chunks(1) {
                results.push(match apply_once(store, unit).await {
                    Ok(mut result) => result.remove(0),
                    Err(error) => retry(store, unit, error).await,
                });
            }
            results
        }
    }
}

async fn apply_once(store: &Store, units: &[Unit]) -> Result<Vec<Result<UnitReply, Outcome>>, sqlx::Error> {
    let mut conn = store.points.acquire().await?;
    apply(store, &mut conn, units).await
}

/// Another writer created the same id, or a deadlock was broken: the decision must be taken anew.
async fn retry(store: &Store, unit: &[Unit], mut error: sqlx::Error) -> Result<UnitReply, Outcome> {
    for attempt in 1..=RETRIES_MAX {
        let code = error.as_database_error().and_then(|e| e.code().map(|c| c.into_owned()));
        if !matches!(code.as_deref(), Some("23505" | "40001" | "40P01")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5 << attempt)).await;
        match apply_once(store, unit).await {
            Ok(mut results) => return results.remove(0),
            Err(again) => error = again,
        }
    }
    Err(database_error(error))
}
