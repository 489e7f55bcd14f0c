//! Writes that arrive together are committed together: one fsync for all, an answer for each.
//!
//! A unit waits only while another batch holds one of its keys or all writers are busy; an idle server writes at once. What fails as a
//! batch is tried again one unit at a time, so that a unit only ever fails for its own sake.

use crate::metrics;
use crate::outcome::Outcome;
use crate::store::Store;
use crate::store::database_error;
use crate::store::failure::Failure;
use crate::store::search_parameter;
use crate::store::unit::Unit;
use crate::store::unit::UnitReply;
use crate::store::write::Reply;
use crate::store::write::apply;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Batches that are written at the same time: one more than the cores that the server shares with the database needs.
const WRITERS: usize = 2;
/// Operations in one batch: bounds the time that others wait for its locks.
const BATCH_OPS_MAX: usize = 512;
const RETRIES_MAX: usize = 5;
/// Advisory locks of one unit. They stand in the database's table of locks, which holds some 100,000 for all sessions together.
const LOCKS_MAX: usize = 20_000;

struct Job {
    unit: Unit,
    /// What no other unit of the same batch may touch.
    keys: HashSet<i64>,
    asker: Asker,
}

/// Who waits for the answer.
struct Asker {
    reply: oneshot::Sender<Result<UnitReply, Outcome>>,
    /// Given back with the answer.
    _place: OwnedSemaphorePermit,
}

/// Where units are handed in.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::UnboundedSender<Job>,
    /// One place for each unit that was handed in and is not yet answered.
    places: Arc<Semaphore>,
    store: Store,
    batches: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the loop that forms batches. More units than `waiting_max` are refused.
    pub fn start(store: Store, waiting_max: usize) -> Writer {
        // As many as there are places.
        let (jobs, receiver) = mpsc::unbounded_channel();
        let batches = Arc::new(AtomicU64::new(0));
        tokio::spawn(dispatch(store.clone(), receiver, batches.clone()));
        Writer {
            jobs,
            places: Arc::new(Semaphore::new(waiting_max)),
            store,
            batches,
        }
    }

    /// Batches written since the start.
    pub fn written(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Applies a unit: the answer comes after its commit. Errors: its own, or 503 when too much waits or the database is away.
    pub async fn apply(&self, unit: Unit) -> Result<UnitReply, Outcome> {
        let busy = |_| Outcome::unavailable("As many writes are waiting as may (database.writes_waiting_max); try again");
        let stopping = || Outcome::unavailable("The server is stopping; try again");
        let registry = &self.store.registry();
        let locks = unit.locks(registry);
        if locks.len() > LOCKS_MAX {
            let text = format!("A write with conditions has at most {LOCKS_MAX} criteria and identifiers together (LOCKS_MAX)");
            return Err(Outcome::invalid(text).with_code("too-costly"));
        }
        let place = self.places.clone().try_acquire_owned().map_err(busy)?;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            keys: locks.into_iter().chain(unit.hashes(registry)).collect(),
            unit,
            asker: Asker { reply, _place: place },
        };
        self.jobs.send(job).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

async fn dispatch(store: Store, mut jobs: mpsc::UnboundedReceiver<Job>, batches: Arc<AtomicU64>) {
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
    let (mut units, mut askers): (Vec<Unit>, Vec<Asker>) = batch.into_iter().map(|job| (job.unit, job.asker)).unzip();
    // The first unit is always decided: there are fewer each time.
    while !units.is_empty() {
        let replies = apply_patiently(store, &units).await;
        store.changed.notify_one();
        let mut again = (Vec::new(), Vec::new());
        for ((unit, asker), result) in units.into_iter().zip(askers).zip(replies) {
            let Some(result) = result else {
                again.0.push(unit);
                again.1.push(asker);
                continue;
            };
            for applied in result.iter().flat_map(|reply| &reply.applied) {
                metrics::count_written(store.registry().name_of(applied.type_number), applied.effect.name());
            }
            // The client may have gone: its write stands all the same.
            let _ = asker.reply.send(result);
        }
        (units, askers) = again;
    }
}

/// Applies a batch; what fails as a batch is tried one unit at a time, so that a unit only fails for its own sake.
async fn apply_patiently(store: &Store, units: &[Unit]) -> Vec<Reply> {
    let mut result = apply_once(store, units).await;
    if let Err(Failure::Undone(sqlx::Error::Io(_))) = result {
        // A connection that the database has closed meanwhile; the next is tried before it is used, or new.
        result = apply_once(store, units).await;
    }
    for _ in 0..RETRIES_MAX {
        match &result {
            // The search parameters have changed: everything is indexed by those of now.
            Err(Failure::Stale) => {}
            _ => break,
        }
        result = match search_parameter::refresh(store).await {
            Ok(_) => apply_once(store, units).await,
            Err(error) => Err(Failure::Undone(error)),
        };
    }
    match result {
        Ok(replies) => replies,
        Err(Failure::Undone(error @ sqlx::Error::Database(_))) if units.len() == 1 => vec![retry(store, units, error).await],
        Err(Failure::Undone(sqlx::Error::Database(_))) => {
            let mut replies = Vec::with_capacity(units.len());
            for unit in units.chunks(1) {
                replies.extend(Box::pin(apply_patiently(store, unit)).await);
            }
            replies
        }
        Err(failure) => {
            let outcome = told(failure);
            units.iter().map(|_| Some(Err(outcome.clone()))).collect()
        }
    }
}

async fn apply_once(store: &Store, units: &[Unit]) -> Result<Vec<Reply>, Failure> {
    let mut conn = store.pools.points.lend().await?;
    let replies = apply(store, &mut conn, units).await.inspect_err(|_| store.vocabulary.forget())?;
    conn.done();
    Ok(replies)
}

fn told(failure: Failure) -> Outcome {
    match failure {
        Failure::Undone(error) => database_error(error),
        Failure::Stale => Outcome::unavailable("The search parameters are being changed; try again"),
        Failure::Unknown(error) => {
            let text = "The connection to the database broke while the write was being committed: look whether it is there before it is sent again";
            Outcome {
                internal: database_error(error).internal,
                ..Outcome::unavailable(text)
            }
        }
    }
}

/// Another writer created the same id, or a deadlock was broken: the decision must be taken anew.
async fn retry(store: &Store, unit: &[Unit], mut error: sqlx::Error) -> Reply {
    for attempt in 1..=RETRIES_MAX {
        let code = error.as_database_error().and_then(|e| e.code().map(|c| c.into_owned()));
        if !matches!(code.as_deref(), Some("23505" | "40001" | "40P01")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5 << attempt)).await;
        match apply_once(store, unit).await {
            Ok(mut replies) => return replies.remove(0),
            Err(Failure::Undone(again)) => error = again,
            Err(unknown) => return Some(Err(told(unknown))),
        }
    }
    Some(Err(database_error(error)))
}
