//! `eds backup`: a backup of the database, taken and checked by PostgreSQL's own programs while the server runs.

use crate::clock::Clock;
use crate::commands::cluster_options;
use crate::config::Config;
use crate::store::cluster;
use crate::store::cluster::backup;
use crate::store::cluster::backup::Source;
use std::path::PathBuf;

/// Takes a backup of the configured database, or of the private one. Errors: a text for the operator.
pub async fn backup(config: Config, to: Option<PathBuf>) -> Result<(), String> {
    let to = match (to, config.backup.folder.as_str()) {
        (Some(to), _) => to,
        (None, "") => return Err("say with --to where the backup is to be put, or set backup.folder".to_owned()),
        (None, folder) => PathBuf::from(folder),
    };
    let to = std::path::absolute(&to).map_err(|e| format!("{}: {e}", to.display()))?;
    if !config.database.url.is_empty() {
        let source = Source::of_url(&config.database.url).await?;
        return take(source, to).await;
    }
    let data_dir = config.data_dir()?;
    if !cluster::exists(&data_dir) {
        return Err(format!("there is no database in {}", data_dir.display()));
    }
    let reached = cluster::reach(&data_dir, cluster_options(&config)?).await?;
    let result = take(reached.source(), to).await;
    reached.leave().await;
    result
}

async fn take(source: Source, to: PathBuf) -> Result<(), String> {
    eprintln!("taking the backup, then checking it");
    let taken = tokio::task::spawn_blocking(move || backup::take(&source, &to, || Clock::System.now()));
    let backup = taken.await.map_err(|e| e.to_string())??;
    println!("{}", backup.display());
    Ok(())
}
