//! `eds serve`: everything started in order, stopped in the reverse one.

use crate::commands::Database;
use crate::commands::service;
use crate::commands::told;
use crate::config::Config;
use crate::delivery::Delivery;
use crate::http;
use crate::http::Gateway;
use crate::http::Requests;
use crate::interaction::Service;
use crate::interaction::ingestion::Ingestion;
use crate::store;
use crate::store::database_error;
use crate::store::statements;
use crate::store::walk;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// How often [`maintain`] looks whether there is something to do.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);
/// How often the statistics of the index are read: `analyze` renews them every minute at most.
const STATISTICS_EVERY: Duration = Duration::from_secs(20);

/// Runs until SIGTERM or SIGINT: then finishes what runs, answers 503 to what comes, and stops.
pub async fn serve(config: Config) -> Result<(), String> {
    config.may_serve()?;
    tracing::warn!(
        "DEVELOPMENT MODE: authentication is OFF. Whoever reaches {} on this machine may read and write everything",
        config.server.listen
    );
    allow_connections();
    // Bound before the database starts: a port that is taken is told at once.
    let listener = TcpListener::bind(config.server.listen).map_err(|e| format!("server.listen {}: {e}", config.server.listen))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let database = Database::open(&config).await?;
    let outcome = run(&config, &database, listener, address).await;
    database.close().await;
    outcome
}

/// Each connection is an open file: as many as the system allows, since many shells allow a thousand.
fn allow_connections() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the number of open files, and so of connections, stays as it was");
    }
}

async fn run(config: &Config, database: &Database, listener: TcpListener, address: std::net::SocketAddr) -> Result<(), String> {
    let service = service(config, &database.settings).await?;
    if let Some(complaint) = store::index_complaint(&service.store.pools.points).await.map_err(told)? {
        tracing::warn!("{complaint}");
    }
    let ingestion = Ingestion::start(service.clone(), &config.ingestion).await.map_err(told)?;
    let delivery = Delivery::start(&service, &config.delivery, &config.pertinence, &config.redis.url)
        .await
        .map_err(told)?;
    tokio::spawn(maintain(service.clone()));
    let pace = walk::Pace {
        batch_resources: config.search.reindex_batch_resources,
        pause: Duration::from_millis(config.search.reindex_pause_ms),
    };
    tokio::spawn(walk::run(service.store.clone(), pace));
    let gateway = Gateway {
        service: service.clone(),
        ingestion: ingestion.clone(),
        delivery: delivery.clone(),
        base_url: config.server.base_url.as_str().into(),
        requests: Arc::new(Requests::new(config.server.requests_running_max())),
    };
    let settings = http::Settings {
        body_bytes_max: config.server.body_bytes_max,
        body_timeout_s: config.server.body_timeout_s,
        workers: config.server.threads(),
        shutdown_timeout_s: config.server.shutdown_timeout_s,
        database: database.settings.clone(),
    };
    let server = http::server(listener, &gateway, &settings).map_err(|e| format!("the HTTP server: {e}"))?;
    if let Some(metrics) = config.metrics.listen {
        tokio::spawn(http::metrics::server(metrics).map_err(told)?);
    }
    let handle = server.handle();
    let mut server = tokio::spawn(server);
    println!("listening on http://{address}");
    // Whoever waits for that line reads a pipe.
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    let (mut term, mut int) = (
        signal(SignalKind::terminate()).map_err(|e| e.to_string())?,
        signal(SignalKind::interrupt()).map_err(|e| e.to_string())?,
    );
    tokio::select! {
        ended = &mut server => return Err(format!("the HTTP server ended: {ended:?}")),
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
    gateway.requests.is_stopping.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    while gateway.requests.running.load(Ordering::Relaxed) > 0 && begin.elapsed() < Duration::from_secs(settings.shutdown_timeout_s) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    handle.stop(true).await;
    delivery.stop().await;
    ingestion.stop().await;
    service.store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// What is better done beside the requests: dictionaries for types that have samples enough, and the merge of the index's pending list.
async fn maintain(service: Service) {
    let store = &service.store;
    let mut every = tokio::time::interval(MAINTAIN_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut merged = 0;
    let mut looked = Instant::now();
    loop {
        every.tick().await;
        if looked.elapsed() > STATISTICS_EVERY {
            looked = Instant::now();
            if let Err(error) = store.refresh_density().await {
                tracing::debug!(error = %database_error(error).internal.unwrap_or_default(), "the statistics were not read");
            }
        }
        match store.bodies.train(&store.pools.points).await {
            Ok(0) => {}
            Ok(trained) => tracing::info!(trained, "dictionaries trained"),
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => tracing::warn!(error = %database_error(error).internal.unwrap_or_default(), "dictionaries could not be stored"),
        }
        let written = service.writer.written();
        if written != merged {
            merged = written;
            if let Err(error) = statements::merge_pending(&store.pools.points).await {
                tracing::debug!(error = %database_error(error).internal.unwrap_or_default(), "the index's pending list was not merged");
            }
        }
    }
}
