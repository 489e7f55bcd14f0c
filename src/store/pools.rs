//! Connections to the database: a pool for each way of planning.
//!
//! A connection belongs to the runtime that opened it: its answers wake a thread of that runtime. So each thread that answers requests has pools
//! of its own, and a request is read, answered and waited for on one thread; what is written goes to the writer's.

use crate::outcome::Outcome;
use crate::search::density::Plan;
use crate::store::Settings;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use std::ops::Deref;
use std::ops::DerefMut;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

/// The pools of the server's own work, or of one thread that answers requests.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Point reads and writes: prepared plans are kept.
    pub points: Pool,
    /// Searches whose plan their values decide: planned anew each time.
    pub searches: Pool,
    /// Searches whose plan is always the same ([`Plan::Gather`]).
    pub gathers: Pool,
}

/// Connections of each pool of a thread, at least: one that waits must not keep the others from being answered.
const SIZE_MIN: u32 = 2;

/// Connections that a server with so many threads may open in all.
pub fn connections_max(pool_size_max: u32, threads: usize) -> u32 {
    // The leader of the feed, the queue of the ingestion API and the walk for search parameters have one each.
    3 * (pool_size_max.max(SIZE_MIN * threads as u32)) + pool_size_max + 3
}

impl Pools {
    /// Pools of so many threads, which share the configured number. Errors: 500 for a URL that cannot be read.
    pub fn new(settings: &Settings, threads: usize) -> Result<Pools, Outcome> {
        let size = (settings.pool_size_max / threads.max(1) as u32).max(SIZE_MIN);
        Ok(Pools {
            points: Pool::new(pool(settings, size, ALWAYS_SAME)?, size),
            searches: Pool::new(pool(settings, size, BY_VALUES)?, size),
            gathers: Pool::new(pool(settings, size, GATHER)?, size),
        })
    }

    /// The connections for statements of this plan.
    pub fn of(&self, plan: Plan) -> &Pool {
        match plan {
            Plan::Gather => &self.gathers,
            Plan::Walk => &self.searches,
        }
    }

    /// Closes all connections: what is running ends first.
    pub async fn close(&self) {
        for pool in [&self.points, &self.searches, &self.gathers] {
            pool.at_hand().clear();
            pool.all.close().await;
        }
    }
}

/// A pool, and a few of its connections that are kept at hand: the pool asks a connection that comes back whether it still lives, which is a
/// round trip more for each statement.
#[derive(Debug, Clone)]
pub struct Pool {
    all: PgPool,
    at_hand: Arc<Mutex<Vec<Rested>>>,
    at_hand_max: usize,
}

#[derive(Debug)]
struct Rested {
    conn: PoolConnection<Postgres>,
    since: Instant,
}

/// A connection that is lent. [`Lent::done`] keeps it at hand; dropped instead, after an error or half-way, it goes back to the pool, which looks
/// after it.
pub struct Lent {
    conn: PoolConnection<Postgres>,
    pool: Pool,
}

impl Pool {
    fn new(all: PgPool, size: u32) -> Pool {
        Pool {
            all,
            at_hand: Arc::default(),
            at_hand_max: size as usize / 2,
        }
    }

    fn at_hand(&self) -> std::sync::MutexGuard<'_, Vec<Rested>> {
        self.at_hand.lock().expect("nothing panics while it holds this lock")
    }

    /// A connection for work that ends in [`Lent::done`].
    pub async fn lend(&self) -> Result<Lent, sqlx::Error> {
        let conn = match self.take().await {
            Some(conn) => conn,
            None => self.all.acquire().await?,
        };
        Ok(Lent { conn, pool: self.clone() })
    }

    async fn take(&self) -> Option<PoolConnection<Postgres>> {
        loop {
            let Rested { mut conn, since } = self.at_hand().pop()?;
            // The database may have been started again meanwhile: then this one is dead, and so are the others.
            if since.elapsed() < RESTED || conn.ping().await.is_ok() {
                return Some(conn);
            }
        }
    }
}

impl Deref for Pool {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.all
    }
}

impl Lent {
    /// All answers have been read, and no transaction is open.
    pub fn done(self) {
        let mut at_hand = self.pool.at_hand();
        if at_hand.len() < self.pool.at_hand_max && !self.pool.all.is_closed() {
            at_hand.push(Rested {
                conn: self.conn,
                since: Instant::now(),
            });
        }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.conn
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.conn
    }
}

/// Settings of the planner for the connections of a pool.
pub type Planner = &'static [(&'static str, &'static str)];
/// Statements that are kept, planned by the database's own rules.
pub const ALWAYS_SAME: Planner = &[("plan_cache_mode", "auto")];
/// Planned anew for each set of values.
const BY_VALUES: Planner = &[("plan_cache_mode", "force_custom_plan")];
/// Planned once: through an index, and from one index to the next by loops, whatever the planner thinks of values that it does not know.
/// Each statement is one that this is right for (`search::density`), and its rows come in the order of the loops.
const GATHER: Planner = &[
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("max_parallel_workers_per_gather", "0"),
];

/// A connection that was used a moment ago is taken to be alive.
const RESTED: Duration = Duration::from_secs(1);
/// What the connections of servers call themselves.
pub const APPLICATION: &str = "eds";
/// Every connection carries the statement timeout. Statements are never logged: their values are personal data.
pub fn options(settings: &Settings, planner: Planner) -> Result<PgConnectOptions, Outcome> {
    let options = PgConnectOptions::from_str(&settings.url)
        .map_err(|_| Outcome::internal("database.url cannot be read"))?
        .application_name(APPLICATION)
        .statement_cache_capacity(256)
        .options([
            ("statement_timeout", settings.statement_timeout_ms.to_string().as_str()),
            ("idle_in_transaction_session_timeout", "30000"),
            ("jit", "off"),
            ("timezone", "UTC"),
        ])
        .options(planner.iter().copied());
    Ok(sqlx::ConnectOptions::disable_statement_logging(options))
}

/// A pool of such connections; none is opened before it is needed. Errors: 500 for a URL that cannot be read.
pub fn pool(settings: &Settings, size: u32, planner: Planner) -> Result<PgPool, Outcome> {
    let pool = PgPoolOptions::new()
        .max_connections(size)
        .test_before_acquire(false)
        // A database that was started again leaves dead connections behind: those that have rested are tried first.
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if meta.idle_for < RESTED {
                    Ok(true)
                } else {
                    conn.ping().await.map(|()| true)
                }
            })
        })
        .acquire_timeout(Duration::from_millis(settings.pool_wait_ms))
        .connect_lazy_with(options(settings, planner)?);
    Ok(pool)
}
