//! The store: all SQL stands here, and [`mod@write`] is the only code that changes resources.

pub mod bodies;
pub mod cluster;
pub mod columns;
pub mod decide;
pub mod document;
pub mod document_rows;
pub mod feed;
pub mod history;
pub mod ingestion;
pub mod known;
pub mod pertinence;
pub mod read;
pub mod reindex;
pub mod rows;
pub mod statements;
pub mod statistics;
pub mod unit;
pub mod write;
pub mod writer;

use crate::clock::Clock;
use crate::outcome::Outcome;
use crate::search::density::Density;
use crate::search::density::Plan;
use crate::search::index::INDEX_VERSION;
use crate::search::parameters::Registry;
use crate::store::bodies::Bodies;
use crate::store::rows::RowIds;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::RwLock;
use std::time::Duration;
use tokio::sync::Notify;

/// What everything that touches the database shares.
#[derive(Clone)]
pub struct Store {
    /// Point reads and writes: prepared plans are kept.
    pub points: PgPool,
    /// Searches whose plan their values decide: planned anew each time.
    pub searches: PgPool,
    /// Searches whose plan is always the same ([`Plan::Gather`]).
    gathers: PgPool,
    density: Arc<RwLock<Arc<Density>>>,
    pub registry: Arc<Registry>,
    pub bodies: Arc<Bodies>,
    pub row_ids: Arc<RowIds>,
    pub clock: Clock,
    leader_options: PgConnectOptions,
    /// Rung after each commit that added change rows.
    pub changed: Arc<Notify>,
}

/// Settings of `config/default.toml`, section `database`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub url: String,
    pub pool_size_max: u32,
    pub pool_wait_ms: u64,
    pub statement_timeout_ms: u64,
}

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

impl Store {
    /// Connects, migrates, and reads what is needed to start.
    pub async fn open(settings: &Settings, registry: Arc<Registry>, clock: Clock) -> Result<Store, Outcome> {
        let points = connect(settings, settings.pool_size_max, ALWAYS_SAME).await?;
        migrate(&points).await?;
        let searches = connect(settings, settings.pool_size_max, BY_VALUES).await?;
        let gathers = connect(settings, settings.pool_size_max, GATHER).await?;
        let density = statistics::density(&points).await.map_err(database_error)?;
        let bodies = Arc::new(Bodies::load(&points).await.map_err(database_error)?);
        let leader_options = options(settings, ALWAYS_SAME)?.options([
            ("idle_session_timeout", LEADER_IDLE_MAX_MS),
            ("statement_timeout", LEADER_STATEMENT_MAX_MS),
        ]);
        Ok(Store {
            points,
            searches,
            gathers,
            density: Arc::new(RwLock::new(Arc::new(density))),
            registry,
            bodies,
            row_ids: Arc::default(),
            clock,
            leader_options,
            changed: Arc::default(),
        })
    }

    /// A connection of its own for the feed's leader: the lock that it holds goes when it goes, and a leader that is frozen loses it.
    pub async fn leader_connection(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.leader_options).await
    }

    /// The connections for statements of this plan.
    pub fn pool_of(&self, plan: Plan) -> &PgPool {
        match plan {
            Plan::Gather => &self.gathers,
            Plan::Walk => &self.searches,
        }
    }

    /// What is dense, as the statistics had it last.
    pub fn density(&self) -> Arc<Density> {
        self.density.read().expect("not poisoned").clone()
    }

    /// Reads the statistics again.
    pub async fn refresh_density(&self) -> Result<(), sqlx::Error> {
        let density = statistics::density(&self.points).await?;
        *self.density.write().expect("not poisoned") = Arc::new(density);
        Ok(())
    }

    /// Closes all connections: what is running ends first.
    pub async fn close(&self) {
        self.points.close().await;
        self.searches.close().await;
        self.gathers.close().await;
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
/// Longer than the leader ever pauses: after this Postgres ends the connection of a leader that does not move.
const LEADER_IDLE_MAX_MS: &str = "60000";
/// A tick that is cut short begins again with the same work: its statements get longer than those of requests.
const LEADER_STATEMENT_MAX_MS: &str = "600000";

/// Every connection carries the statement timeout. Statements are never logged: their values are personal data.
fn options(settings: &Settings, planner: Planner) -> Result<PgConnectOptions, Outcome> {
    let options = PgConnectOptions::from_str(&settings.url)
        .map_err(|_| Outcome::internal("database.url cannot be read"))?
        .application_name("eds")
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

/// A pool of such connections.
pub async fn connect(settings: &Settings, size: u32, planner: Planner) -> Result<PgPool, Outcome> {
    PgPoolOptions::new()
        .max_connections(size)
        .min_connections(1)
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
        .connect_with(options(settings, planner)?)
        .await
        .map_err(database_error)
}

/// Brings the schema to this version; the migrator holds an advisory lock meanwhile.
pub async fn migrate(pool: &PgPool) -> Result<(), Outcome> {
    MIGRATIONS
        .run(pool)
        .await
        .map_err(|e| Outcome::internal(format!("migration failed: {e}")))?;
    let key: [u8; 32] = rand::random();
    let insert = "insert into repository (cursor_key, index_version) values ($1, $2) on conflict do nothing";
    sqlx::query(insert)
        .bind(&key[..])
        .bind(INDEX_VERSION)
        .execute(pool)
        .await
        .map_err(database_error)?;
    Ok(())
}

/// What to tell of an index that was made by an older version: searches may miss what it lacks.
pub async fn index_complaint(pool: &PgPool) -> Result<Option<String>, Outcome> {
    let version: i32 = sqlx::query_scalar("select index_version from repository")
        .fetch_one(pool)
        .await
        .map_err(database_error)?;
    let text =
        format!("the index was made by version {version} of its terms, and this server makes version {INDEX_VERSION}: run eds reindex");
    Ok((version < INDEX_VERSION).then_some(text))
}

/// What a failed statement means to a client: the database being away or busy is 503, anything else our own mistake.
pub fn database_error(error: sqlx::Error) -> Outcome {
    let is_transient = match &error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Tls(_) => true,
        // 08 connection, 40 serialization and deadlock, 53 resources, 55 lock or state, 57 operator intervention (shutdown, timeout), 58 system.
        sqlx::Error::Database(e) => e
            .code()
            .is_some_and(|code| ["08", "40", "53", "55", "57", "58"].contains(&&code[..2])),
        _ => false,
    };
    let mut outcome = match is_transient {
        true => Outcome::unavailable("The database is not available or too busy; try again"),
        false => Outcome::internal("database"),
    };
    // The message of a constraint can quote values: only its code and the kind of failure go to the log.
    outcome.internal = Some(match &error {
        sqlx::Error::Database(e) => format!(
            "database error {} {}",
            e.code().unwrap_or_default(),
            e.constraint().unwrap_or_default()
        ),
        other => other.to_string(),
    });
    outcome
}
