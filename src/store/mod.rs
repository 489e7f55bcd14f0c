//! The store: all SQL stands here, and [`mod@write`] is the only code that changes resources.

pub mod as_of;
pub mod attest;
pub mod bodies;
pub mod cluster;
pub mod columns;
pub mod compartment;
pub mod contained;
pub mod count;
pub mod decide;
pub mod document;
pub mod document_rows;
pub mod explain;
pub mod expunge;
pub mod failure;
pub mod feed;
pub mod hierarchy;
pub mod history;
pub mod ingestion;
pub mod integrity;
pub mod known;
pub mod labels;
pub mod parameter_change;
pub mod pertinence;
pub mod pools;
pub mod prepare;
pub mod read;
pub mod reindex;
pub mod restored;
pub mod rows;
pub mod score;
pub mod search_parameter;
pub mod statements;
pub mod statistics;
pub mod targets;
pub mod terminology;
pub mod unit;
pub mod vocabulary;
pub mod walk;
pub mod write;
pub mod writer;

use crate::clock::Clock;
use crate::outcome::Outcome;
use crate::search::density::Density;
use crate::search::index::INDEX_VERSION;
use crate::search::parameters::Registry;
use crate::store::bodies::Bodies;
use crate::store::columns::KnownUnits;
use crate::store::count::Counts;
use crate::store::explain::Asked;
use crate::store::pools::Pools;
use crate::store::rows::RowIds;
use crate::store::terminology::Terminology;
use crate::store::vocabulary::Vocabulary;
use arc_swap::ArcSwap;
use arc_swap::Guard;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::RwLock;
use std::sync::atomic::AtomicI64;
use tokio::sync::Notify;

/// What everything that touches the database shares.
#[derive(Clone)]
pub struct Store {
    pub pools: Pools,
    density: Arc<RwLock<Arc<Density>>>,
    registry: Arc<ArcSwap<Registry>>,
    pub bodies: Arc<Bodies>,
    pub row_ids: Arc<RowIds>,
    pub vocabulary: Arc<Vocabulary>,
    pub terminology: Arc<Terminology>,
    pub units: Arc<KnownUnits>,
    /// What was counted before.
    counts: Arc<Counts>,
    pub clock: Clock,
    leader_options: PgConnectOptions,
    /// Rung after each commit that added change rows.
    pub changed: Arc<Notify>,
    /// Notes what searches ask, when that is asked for.
    asked: Option<Asked>,
    /// What was written before this instant is committed (`as_of`). Microseconds since 1970.
    settled: Arc<AtomicI64>,
    /// Rung when there may be rows to walk for search parameters.
    to_walk: Arc<Notify>,
    /// What a write refers to must be here (`targets`).
    pub checks_targets: bool,
}

/// Settings of `config/default.toml`, section `database`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub url: String,
    pub pool_size_max: u32,
    pub pool_wait_ms: u64,
    pub statement_timeout_ms: u64,
}

/// What a newer version has added is left alone: so the version before it still starts on the migrated database, which is what a rollback is
/// (docs/operations.md). Migrations only add.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.set_ignore_missing(true);
    migrator
});

impl Store {
    /// Connects, migrates, and reads what is needed to start.
    pub async fn open(settings: &Settings, registry: Arc<Registry>, clock: Clock) -> Result<Store, Outcome> {
        let pools = Pools::new(settings, 1)?;
        migrate(settings).await?;
        let density = statistics::density(&pools.points).await.map_err(database_error)?;
        let bodies = Arc::new(Bodies::load(&pools.points).await.map_err(database_error)?);
        let leader_options = pools::options(settings, pools::ALWAYS_SAME)?.options([
            ("idle_session_timeout", LEADER_IDLE_MAX_MS),
            ("statement_timeout", LEADER_STATEMENT_MAX_MS),
        ]);
        let store = Store {
            pools,
            density: Arc::new(RwLock::new(Arc::new(density))),
            registry: Arc::new(ArcSwap::new(registry)),
            bodies,
            row_ids: Arc::default(),
            vocabulary: Arc::default(),
            terminology: Arc::default(),
            units: Arc::default(),
            counts: Arc::default(),
            clock,
            leader_options,
            changed: Arc::default(),
            asked: None,
            settled: Arc::new(AtomicI64::new(i64::MIN)),
            to_walk: Arc::default(),
            checks_targets: false,
        };
        search_parameter::load(&store).await.map_err(database_error)?;
        Ok(store)
    }

    /// A connection of its own for the feed's leader: the lock that it holds goes when it goes, and a leader that is frozen loses it.
    pub async fn leader_connection(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.leader_options).await
    }

    /// The same store for a thread that answers requests, one of so many: with connections of its own, whose answers arrive where they are awaited.
    /// Errors: 500 for a URL that cannot be read.
    pub fn of_worker(&self, settings: &Settings, workers: usize) -> Result<Store, Outcome> {
        Ok(Store {
            pools: Pools::new(settings, workers)?,
            ..self.clone()
        })
    }

    /// The search parameters as they are now: they change while the server runs. What must hold together takes this once.
    pub fn registry(&self) -> Guard<Arc<Registry>> {
        self.registry.load()
    }

    /// One that is older than what is here does no harm: what is written and searched with it is compared with the database.
    fn install(&self, registry: Arc<Registry>) {
        self.registry.store(registry);
        self.to_walk.notify_one();
    }

    /// What is dense, as the statistics had it last.
    pub fn density(&self) -> Arc<Density> {
        self.density.read().expect("not poisoned").clone()
    }

    /// Reads the statistics again; makes them when there are none.
    pub async fn refresh_density(&self) -> Result<(), sqlx::Error> {
        if self.density().terms.is_empty() && statistics::make_first(&self.pools.points).await? {
            tracing::info!("statistics made");
        }
        let density = statistics::density(&self.pools.points).await?;
        *self.density.write().expect("not poisoned") = Arc::new(density);
        Ok(())
    }

    /// Closes all connections: what is running ends first.
    pub async fn close(&self) {
        self.pools.close().await;
    }
}

/// Longer than the leader ever pauses: after this Postgres ends the connection of a leader that does not move.
const LEADER_IDLE_MAX_MS: &str = "60000";
/// A tick that is cut short begins again with the same work: its statements get longer than those of requests.
const LEADER_STATEMENT_MAX_MS: &str = "600000";

/// Brings the schema to this version. The migrator holds an advisory lock meanwhile: of several servers that start at once one migrates, and
/// the others wait. Each migration is a transaction: one that is cut leaves nothing, and the next start goes on. No statement of it has a
/// time limit, nor has the wait: an index of a large table takes what it takes.
pub async fn migrate(settings: &Settings) -> Result<(), Outcome> {
    let options =
        pools::options(settings, pools::ALWAYS_SAME)?.options([("statement_timeout", "0"), ("idle_in_transaction_session_timeout", "0")]);
    let mut conn = PgConnection::connect_with(&options).await.map_err(database_error)?;
    MIGRATIONS
        .run(&mut conn)
        .await
        .map_err(|e| Outcome::internal(format!("migration failed: {e}")))?;
    let key: [u8; 32] = rand::random();
    let insert = "insert into repository (cursor_key, index_version) values ($1, $2) on conflict do nothing";
    sqlx::query(insert)
        .bind(&key[..])
        .bind(INDEX_VERSION)
        .execute(&mut conn)
        .await
        .map_err(database_error)?;
    // What this version writes lacks what a later one adds to the index: after a rollback that one asks for a reindex again.
    sqlx::query("update repository set index_version = $1 where index_version > $1")
        .bind(INDEX_VERSION)
        .execute(&mut conn)
        .await
        .map_err(database_error)?;
    conn.close().await.map_err(database_error)
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

/// Which limit was reached, where one was.
fn unavailable_for(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|e| e.code());
    match (error, code.as_deref()) {
        (sqlx::Error::PoolTimedOut, _) => {
            "No connection to the database was free, or could be opened, in time (database.pool_wait_ms, database.pool_size_max); try again"
        }
        (_, Some("57014")) => "The database was not done in time (database.statement_timeout_ms): ask for less, or try again",
        (_, Some("53300")) => "The database takes no more connections (its max_connections, database.pool_size_max); try again",
        _ => "The database is not available or too busy; try again",
    }
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
        true => Outcome::unavailable(unavailable_for(&error)),
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
