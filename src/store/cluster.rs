//! The private PostgreSQL of a server that was given no database: found on this machine, initialised, started, watched, stopped.
//!
//! One cluster in each data folder, reachable through a unix socket alone, with fsync on. As root it runs under an unprivileged
//! user. Whoever holds `eds.lock` owns the folder, so two servers never share it. The cluster outlives a server that is killed
//! with -9 (ending it then would need `PR_SET_PDEATHSIG`, hence `unsafe`); the next server on the folder takes it over, or stops
//! it when it was started with other settings. A PostgreSQL that dies under a living server is started again and recovers.
//! Linux only: processes are looked at through /proc. Reasons: `docs/adr/0004-embedded-database.md`.

pub mod archive;
pub mod backup;
mod folder;
mod leftover;
mod programs;
pub mod recovery;

use crate::store::cluster::archive::Archive;
use crate::store::cluster::backup::Source;
use crate::store::cluster::folder::Folder;
use crate::store::cluster::folder::RESTORING;
use crate::store::cluster::programs::Programs;
use nix::sys::signal::Signal;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgConnection;
use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Name of the database and of the role that the server uses; the role is no superuser.
const NAME: &str = "eds";
/// A connection is tried this often while PostgreSQL starts.
const READY_POLL: Duration = Duration::from_millis(5);
/// The same while a backup is recovered, which can take hours: PostgreSQL logs each attempt.
const RECOVERY_POLL: Duration = Duration::from_millis(200);
/// Recovery after a crash replays at most max_wal_size of log; longer than this, something is wrong.
const READY_TIMEOUT: Duration = Duration::from_secs(600);
/// A fast shutdown writes a checkpoint; after this time the shutdown is forced, and the next start recovers.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the watcher looks whether PostgreSQL lives.
const WATCH_POLL: Duration = Duration::from_millis(100);

/// A running private PostgreSQL. [`Cluster::stop`] ends it; dropping it does the same, as a safety net.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    /// Held as long as this lives.
    _lock: File,
}

#[derive(Debug)]
struct Shared {
    folder: Folder,
    programs: Programs,
    options: Options,
    postmaster: Mutex<Postmaster>,
}

#[derive(Debug)]
struct Postmaster {
    pid: i32,
    /// None: taken over from a killed server, so not our child.
    child: Option<Child>,
    /// False from the begin of the stop on.
    wanted: bool,
}

/// How a private PostgreSQL is run, besides its folder.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where its log is archived; `None`: nowhere.
    pub archive: Option<Archive>,
    /// It recovers from a backup, which takes as long as it takes.
    pub is_recovery: bool,
}

/// The private PostgreSQL of a server that runs, or one that was started because none does.
pub enum Reached {
    Running(Folder, Programs),
    Started(Cluster),
}

/// Starts the cluster of `data_dir`, making it first when there is none, and returns when it answers.
/// Errors: a text for the person who starts the server: no programs, a folder that is in use or cannot be used, a failed start.
pub async fn start(data_dir: &Path) -> Result<Cluster, String> {
    start_with(data_dir, Options::default()).await
}

/// The same, not by the defaults.
pub async fn start_with(data_dir: &Path, options: Options) -> Result<Cluster, String> {
    let data_dir = data_dir.to_owned();
    let cluster = tokio::task::spawn_blocking(move || launch(&data_dir, options))
        .await
        .map_err(|e| e.to_string())??;
    if let Err(error) = cluster.wait_until_ready().await {
        cluster.stop().await;
        return Err(error);
    }
    let shared = Arc::clone(&cluster.shared);
    std::thread::Builder::new()
        .name("postgres-watch".to_owned())
        .spawn(move || shared.watch())
        .map_err(|e| e.to_string())?;
    Ok(cluster)
}

/// Whether there is a cluster in the folder.
pub fn exists(data_dir: &Path) -> bool {
    data_dir.join("postgres").join("PG_VERSION").exists()
}

/// Reaches the cluster of a folder, whether a server runs on it or not; makes it when there is none. Errors: as those of [`start`].
pub async fn reach(data_dir: &Path, options: Options) -> Result<Reached, String> {
    match folder::in_use(data_dir)? {
        Some(folder) => {
            let programs = programs::find(folder.version()?)?;
            Ok(Reached::Running(folder, programs))
        }
        None => start_with(data_dir, options).await.map(Reached::Started),
    }
}

impl Reached {
    pub fn url(&self) -> String {
        match self {
            Reached::Running(folder, _) => url(folder),
            Reached::Started(cluster) => cluster.url(),
        }
    }

    /// For a backup of it.
    pub fn source(&self) -> Source {
        match self {
            Reached::Running(folder, programs) => Source::of_folder(folder, programs),
            Reached::Started(cluster) => Source::of_folder(&cluster.shared.folder, &cluster.shared.programs),
        }
    }

    /// Stops what was started.
    pub async fn leave(self) {
        if let Reached::Started(cluster) = self {
            cluster.stop().await;
        }
    }
}

impl Cluster {
    /// Where it is reached: database `eds`, role `eds`, through the unix socket.
    pub fn url(&self) -> String {
        url(&self.shared.folder)
    }

    /// Stops it: open connections end, a checkpoint is written. Returns when its processes are gone.
    pub async fn stop(self) {
        // The closure owns the cluster, so that the lock is given back only after the end.
        let stopped = tokio::task::spawn_blocking(move || self.shared.shut_down(STOP_TIMEOUT)).await;
        if let Err(error) = stopped {
            tracing::error!(%error, "stopping the private PostgreSQL failed");
        }
    }

    async fn wait_until_ready(&self) -> Result<(), String> {
        let begin = Instant::now();
        let mut told = false;
        loop {
            let attempt = match self.shared.connect(NAME).await {
                Ok(connection) => return connection.close().await.map_err(|e| e.to_string()),
                Err(error) => error,
            };
            match code(&attempt).as_deref() {
                // The role or the database is not there yet.
                Some("28000" | "3D000") => self
                    .shared
                    .create_database()
                    .await
                    .map_err(|e| format!("creating the database: {e}"))?,
                Some("57P03" | "53300") => {}
                Some(_) => return Err(format!("the private PostgreSQL refuses connections: {attempt}")),
                None => {}
            }
            if !self.shared.lock().is_alive(&self.shared.folder.cluster) {
                return Err(format!("the private PostgreSQL did not start: {}", self.shared.folder.log_tail()));
            }
            if begin.elapsed() > READY_TIMEOUT && !self.shared.options.is_recovery {
                return Err(format!(
                    "the private PostgreSQL is not ready after {} s: {attempt}",
                    READY_TIMEOUT.as_secs()
                ));
            }
            if !told && begin.elapsed() > Duration::from_secs(2) {
                told = true;
                tracing::info!("the private PostgreSQL is recovering");
            }
            tokio::time::sleep(if self.shared.options.is_recovery {
                RECOVERY_POLL
            } else {
                READY_POLL
            })
            .await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.shut_down(STOP_TIMEOUT);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Postmaster> {
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, name: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.folder.socket)
            .port(programs::PORT)
            .username(name)
            .database(name);
        options.disable_statement_logging().connect().await
    }

    /// Makes role and database where they are missing: a start that was cut between them is completed by the next one.
    async fn create_database(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.connect(programs::SUPERUSER).await?;
        let role = "select 1 from pg_roles where rolname = $1";
        if sqlx::query(role).bind(NAME).fetch_optional(&mut connection).await?.is_none() {
            let create = "begin; create role eds login; grant pg_monitor, pg_checkpoint to eds; commit";
            sqlx::raw_sql(create).execute(&mut connection).await?;
        }
        let database = "select 1 from pg_database where datname = $1";
        if sqlx::query(database).bind(NAME).fetch_optional(&mut connection).await?.is_none() {
            sqlx::raw_sql("create database eds owner eds").execute(&mut connection).await?;
        }
        connection.close().await
    }

    /// Starts PostgreSQL again whenever it ended by itself. Runs in a thread of its own until the stop.
    fn watch(&self) {
        let mut pause = WATCH_POLL;
        loop {
            std::thread::sleep(pause);
            let mut postmaster = self.lock();
            if !postmaster.wanted {
                return;
            }
            if postmaster.is_alive(&self.folder.cluster) {
                pause = WATCH_POLL;
                continue;
            }
            tracing::error!("the private PostgreSQL ended by itself; it is started again and recovers");
            // One that cannot start is not tried ten times a second.
            pause = (pause * 2).min(Duration::from_secs(5));
            leftover::end_all(&self.folder.cluster);
            match self.programs.spawn(&self.folder, &self.options) {
                Ok(child) => *postmaster = Postmaster::of(child),
                Err(error) => tracing::error!(error, "the private PostgreSQL cannot be started"),
            }
        }
    }

    fn shut_down(&self, timeout: Duration) {
        let mut postmaster = self.lock();
        if !postmaster.wanted {
            return;
        }
        postmaster.wanted = false;
        // SIGINT is PostgreSQL's fast shutdown, SIGQUIT the immediate one.
        for (signal, timeout) in [(Signal::SIGINT, timeout), (Signal::SIGQUIT, Duration::from_secs(5))] {
            if !postmaster.is_alive(&self.folder.cluster) {
                break;
            }
            leftover::send(postmaster.pid, signal);
            let begin = Instant::now();
            while begin.elapsed() < timeout && postmaster.is_alive(&self.folder.cluster) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if postmaster.is_alive(&self.folder.cluster) {
            tracing::error!("the private PostgreSQL does not stop; it is killed and recovers at the next start");
            leftover::end_all(&self.folder.cluster);
        }
        let waiting = archive::waiting(&self.folder.cluster);
        if self.options.archive.is_some() && waiting > 0 {
            tracing::error!(
                waiting,
                "the private PostgreSQL stopped with log that is not archived: the archive lacks the end"
            );
        }
        self.folder.remove_socket();
    }
}

impl Postmaster {
    fn of(child: Child) -> Postmaster {
        Postmaster {
            pid: child.id() as i32,
            child: Some(child),
            wanted: true,
        }
    }

    fn is_alive(&mut self, cluster: &Path) -> bool {
        match &mut self.child {
            // Also takes the exit status, so that no zombie stays.
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => leftover::runs_on(self.pid, cluster),
        }
    }
}

/// Everything up to the started process.
fn launch(data_dir: &Path, options: Options) -> Result<Cluster, String> {
    let (folder, lock) = folder::prepare(data_dir)?;
    let programs = programs::find(folder.version()?)?;
    if !folder.has_cluster() && folder.data_dir.join(RESTORING).exists() {
        return Err(format!(
            "a restore into {} was begun and did not end: run `eds restore` again, or remove the folder",
            folder.data_dir.display()
        ));
    }
    if let Some(archive) = &options.archive {
        archive.prepare(folder.owner)?;
    }
    if !folder.has_cluster() {
        programs.create_cluster(&folder)?;
    }
    let postmaster = match leftover::postmaster(&folder.cluster) {
        Some(pid) if leftover::is_as_wanted(&folder, &programs, &options) => {
            tracing::info!("took over the private PostgreSQL that a killed server left");
            Postmaster {
                pid,
                child: None,
                wanted: true,
            }
        }
        _ => {
            leftover::end_all(&folder.cluster);
            Postmaster::of(programs.spawn(&folder, &options)?)
        }
    };
    let shared = Arc::new(Shared {
        folder,
        programs,
        options,
        postmaster: Mutex::new(postmaster),
    });
    Ok(Cluster { shared, _lock: lock })
}

fn url(folder: &Folder) -> String {
    let host: String = folder.socket.to_string_lossy().bytes().map(percent_encode).collect();
    format!("postgres://{NAME}@localhost/{NAME}?host={host}")
}

fn code(error: &sqlx::Error) -> Option<String> {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .map(|code| code.into_owned())
}

fn percent_encode(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}
