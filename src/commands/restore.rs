//! `eds restore`: a database in a new data folder, from a backup and the archive of the log.
//!
//! What an instant in the past must not undo (withdrawals, what regions hold) is read at the end of the log and applied before the database
//! is moved to its place: `store::restored`, `docs/adr/0009-backup.md`.

use crate::clock::Clock;
use crate::commands::full_text;
use crate::commands::settings;
use crate::commands::told;
use crate::config::Config;
use crate::fhir::definitions::definitions;
use crate::search::parameters::Registry;
use crate::store::Store;
use crate::store::cluster::Cluster;
use crate::store::cluster::recovery;
use crate::store::cluster::recovery::Plan;
use crate::store::database_error;
use crate::store::failure::Failure;
use crate::store::restored;
use crate::store::restored::Done;
use crate::store::restored::Later;
use chrono::DateTime;
use chrono::Utc;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// Errors: a text for the operator; the data folder then holds no database.
pub async fn restore(config: Config, from: PathBuf, wal_archive: Option<PathBuf>, until: Option<String>) -> Result<(), String> {
    if !config.database.url.is_empty() {
        return Err("a backup is restored into a private database: leave --database-url away".to_owned());
    }
    let absolute = |path: PathBuf| std::path::absolute(&path).map_err(|e| format!("{}: {e}", path.display()));
    let plan = Plan {
        backup: absolute(from)?,
        archive: wal_archive.map(absolute).transpose()?,
        until: until.as_deref().map(parsed).transpose()?,
    };
    let data_dir = config.data_dir()?;
    eprintln!("checking the backup");
    let begun = data_dir.clone();
    let restoring = tokio::task::spawn_blocking(move || recovery::begin(plan, &begun));
    let restoring = restoring.await.map_err(|e| e.to_string())??;
    eprintln!("recovering");
    let cluster = restoring.restored().await?;
    let later = restoring.later().await;
    let done = match later {
        Ok(later) => take_over(&config, &cluster, later).await,
        Err(error) => Err(error),
    };
    cluster.stop().await;
    let done = done?;
    restoring.finish()?;
    tell(&data_dir, &done);
    Ok(())
}

fn parsed(until: &str) -> Result<DateTime<Utc>, String> {
    let instant = DateTime::parse_from_rfc3339(until);
    instant
        .map(|instant| instant.with_timezone(&Utc))
        .map_err(|_| format!("--until {until}: an instant is written as 2026-11-25T17:40:00Z or 2026-11-25T18:40:00+01:00"))
}

/// Reads what came later, and brings the restored database into service.
async fn take_over(config: &Config, cluster: &Cluster, later: Option<Cluster>) -> Result<Done, String> {
    let registry = Arc::new(Registry::load(definitions())?.with_full_text(full_text(config)));
    let store = Store::open(&settings(config, cluster.url()), registry, Clock::System)
        .await
        .map_err(told)?;
    let known = match later {
        None => Ok(None),
        Some(later) => {
            eprintln!("looking at the end of the log for what was withdrawn since");
            let known = read_later(config, cluster, &later).await;
            later.stop().await;
            known.map(Some)
        }
    };
    let done = match known {
        Ok(known) => apply(config, &store, cluster, known.as_ref()).await,
        Err(error) => Err(error),
    };
    store.close().await;
    done
}

async fn read_later(config: &Config, cluster: &Cluster, later: &Cluster) -> Result<Later, String> {
    let failed = |error| told(database_error(error));
    let mut conn = restored::connect(&settings(config, cluster.url())).await.map_err(told)?;
    let positions = restored::positions(&mut conn).await.map_err(failed)?;
    let mut conn = restored::connect(&settings(config, later.url())).await.map_err(told)?;
    restored::read_later(&mut conn, &positions).await.map_err(failed)
}

async fn apply(config: &Config, store: &Store, cluster: &Cluster, later: Option<&Later>) -> Result<Done, String> {
    let failed = |error| told(database_error(error));
    let mut conn = restored::connect(&settings(config, cluster.url())).await.map_err(told)?;
    let done = restored::take_over(store, &mut conn, later).await;
    done.map_err(|failure| match failure {
        Failure::Undone(error) | Failure::Unknown(error) => failed(error),
        Failure::Stale => "another process changes the search parameters".to_owned(),
    })
}

fn tell(data_dir: &Path, done: &Done) {
    println!("restored into {}: epoch {} of the feed", data_dir.display(), done.epoch);
    println!(
        "withdrawn again: {} documents hidden, {} deleted, {} that came and were hidden since are remembered by name",
        done.withdrawn, done.removed, done.remembered
    );
    println!(
        "regions are sent everything anew when the server runs; {} resources that came since are taken from them",
        done.vanished
    );
}
