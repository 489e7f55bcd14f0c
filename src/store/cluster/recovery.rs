//! A backup brought back: laid into a folder, and recovered to the end of the log or to an instant by PostgreSQL itself.
//!
//! All of it happens in folders beside the final place (`restoring/` and `later/` in the data folder), each with a cluster of its own. The
//! cluster is moved to its place when everything is done ([`Restoring::finish`]): a restore that is cut leaves nothing that a server would serve.

use crate::store::cluster;
use crate::store::cluster::Cluster;
use crate::store::cluster::Options;
use crate::store::cluster::archive;
use crate::store::cluster::backup;
use crate::store::cluster::folder;
use crate::store::cluster::folder::Folder;
use crate::store::cluster::folder::Owner;
use crate::store::cluster::folder::RESTORING;
use crate::store::cluster::folder::text;
use crate::store::cluster::leftover;
use crate::store::cluster::programs;
use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;
use std::fs::DirBuilder;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;

/// Where the end of the log is recovered to, beside [`RESTORING`].
const LATER: &str = "later";
/// Reached through the socket alone, which its owner alone may enter.
const HBA: &str = "local all all trust\nlocal replication all trust\n";

/// What is to be brought back.
#[derive(Debug, Clone)]
pub struct Plan {
    pub backup: PathBuf,
    pub archive: Option<PathBuf>,
    /// None: all that there is.
    pub until: Option<DateTime<Utc>>,
}

/// A data folder that a backup is being restored into.
#[derive(Debug)]
pub struct Restoring {
    plan: Plan,
    folder: Folder,
    /// No server starts on the folder meanwhile.
    _lock: File,
}

/// Checks what can be checked before anything is done, and takes the folder.
/// Errors: a cluster is there already; the backup is damaged; the log has a gap or ends before the backup; something may not be read.
pub fn begin(plan: Plan, data_dir: &Path) -> Result<Restoring, String> {
    if data_dir.join("postgres").exists() {
        return Err(format!(
            "{} holds a database already: restore into another folder, and move that one away when the restored one is right",
            data_dir.display()
        ));
    }
    if plan.until.is_some() && plan.archive.is_none() {
        return Err("--until needs --wal-archive: a backup by itself can be restored to its end alone".to_owned());
    }
    let backup = &plan.backup;
    let version = std::fs::read_to_string(backup.join("PG_VERSION"))
        .ok()
        .filter(|_| backup.join("backup_manifest").exists());
    let version = version.ok_or_else(|| {
        format!(
            "{} is no backup: name the folder of one of them, as DIR/20261125T174002Z",
            backup.display()
        )
    })?;
    let name = backup.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let (Some(until), Some(ended)) = (plan.until, backup::ended(name))
        && until < ended
    {
        return Err(format!(
            "--until is before the end of this backup ({}): take an older backup, or a later instant",
            ended.to_rfc3339_opts(SecondsFormat::Secs, true)
        ));
    }
    let (folder, lock) = folder::prepare(data_dir)?;
    if let Some(archive) = &plan.archive {
        archive::check_path(archive)?;
        archive::check_whole(archive, &backup.join("pg_wal"), &first_segment(backup)?)?;
        check_readable(archive, folder.owner)?;
    }
    let programs = programs::find(version.trim().parse().ok())?;
    backup::verify(&programs, backup)?;
    Ok(Restoring { plan, folder, _lock: lock })
}

impl Restoring {
    /// The database at the instant, or with all that there is; nobody else knows of it yet.
    pub async fn restored(&self) -> Result<Cluster, String> {
        self.recover(RESTORING, self.plan.until).await
    }

    /// The database at the end of the log, when that is not what is restored: to be looked at and dropped.
    pub async fn later(&self) -> Result<Option<Cluster>, String> {
        match self.plan.until {
            Some(_) => self.recover(LATER, None).await.map(Some),
            None => Ok(None),
        }
    }

    async fn recover(&self, name: &str, until: Option<DateTime<Utc>>) -> Result<Cluster, String> {
        let dir = self.folder.data_dir.join(name);
        remove(&dir)?;
        let plan = Plan {
            until,
            ..self.plan.clone()
        };
        let (place, owner) = (dir.clone(), self.folder.owner);
        tokio::task::spawn_blocking(move || lay(&plan, &place, owner))
            .await
            .map_err(|e| e.to_string())??;
        let options = Options {
            is_recovery: true,
            ..Options::default()
        };
        cluster::start_with(&dir, options).await.map_err(in_words)
    }

    /// Moves the cluster, which was stopped, to its place.
    pub fn finish(self) -> Result<(), String> {
        let from = self.folder.data_dir.join(RESTORING);
        let cluster = from.join("postgres");
        // The settings of the recovery stand behind those that the cluster had.
        let (path, kept) = (cluster.join("postgresql.auto.conf"), self.plan.backup.join("postgresql.auto.conf"));
        let kept = std::fs::read(&kept).map_err(|e| text(&kept, e))?;
        std::fs::write(&path, kept).map_err(|e| text(&path, e))?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(|e| text(&path, e))?;
        folder::sync(&cluster)?;
        std::fs::rename(from.join("postgres.log"), &self.folder.log).map_err(|e| text(&self.folder.log, e))?;
        std::fs::rename(&cluster, &self.folder.cluster).map_err(|e| text(&self.folder.cluster, e))?;
        folder::sync(&self.folder.data_dir)?;
        remove(&from)?;
        remove(&self.folder.data_dir.join(LATER))
    }
}

/// Removes what an earlier restore that was cut has left, with the processes that work on it.
fn remove(dir: &Path) -> Result<(), String> {
    if !dir.exists() {
        return Ok(());
    }
    leftover::end_all(&dir.join("postgres"));
    std::fs::remove_dir_all(dir).map_err(|e| text(dir, e))
}

/// Copies the backup and says what PostgreSQL is to do with it. It syncs the copy itself before it recovers.
fn lay(plan: &Plan, dir: &Path, owner: Owner) -> Result<(), String> {
    let (folder, lock) = folder::prepare_for(dir, owner)?;
    copy(&plan.backup, &folder.cluster, owner)?;
    let put = |name: &str, content: &[u8]| {
        let path = folder.cluster.join(name);
        std::fs::write(&path, content).map_err(|e| text(&path, e))?;
        give(&path, owner)
    };
    put("pg_hba.conf", HBA.as_bytes())?;
    // A server of Debian keeps these elsewhere: they are not in its backups.
    for name in ["postgresql.conf", "pg_ident.conf", "postgresql.auto.conf"] {
        if !folder.cluster.join(name).exists() {
            put(name, b"")?;
        }
    }
    let path = folder.cluster.join("postgresql.auto.conf");
    let mut settings = std::fs::read(&path).map_err(|e| text(&path, e))?;
    settings.extend_from_slice(recovery_settings(plan).as_bytes());
    put("postgresql.auto.conf", &settings)?;
    put("recovery.signal", b"")?;
    // Given back, so that the start of the cluster takes it.
    drop(lock);
    Ok(())
}

fn recovery_settings(plan: &Plan) -> String {
    // Without an archive the recovery still ends in a timeline of its own: the names of its segments are not those of another.
    let fetch = plan
        .archive
        .as_ref()
        .map_or("false".to_owned(), |archive| format!("cp ''{}/%f'' \"%p\"", archive.display()));
    let mut settings = format!(
        "\nrestore_command = '{fetch}'\nrecovery_target_timeline = 'latest'\nrecovery_target_action = 'promote'\nhot_standby = off\n"
    );
    if let Some(until) = plan.until {
        // PostgreSQL reads its settings before it knows the names of zones, so `Z` is none.
        let until = until.format("%Y-%m-%d %H:%M:%S%.6f+00");
        settings.push_str(&format!("recovery_target_time = '{until}'\n"));
    }
    settings
}

/// A folder with all that is in it, for the owner alone.
fn copy(from: &Path, to: &Path, owner: Owner) -> Result<(), String> {
    let metadata = from.symlink_metadata().map_err(|e| text(from, e))?;
    if metadata.is_dir() {
        DirBuilder::new().mode(0o700).create(to).map_err(|e| text(to, e))?;
        give(to, owner)?;
        for entry in std::fs::read_dir(from).map_err(|e| text(from, e))? {
            let name = entry.map_err(|e| text(from, e))?.file_name();
            copy(&from.join(&name), &to.join(&name), owner)?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(format!(
            "{}: backups with tablespaces are not restored by this command",
            from.display()
        ));
    }
    std::fs::copy(from, to).map_err(|e| text(to, e))?;
    give(to, owner)
}

fn give(path: &Path, owner: Owner) -> Result<(), String> {
    match owner.is_dropped {
        true => chown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| text(path, e)),
        false => Ok(()),
    }
}

/// The segment that the recovery of the backup begins in.
fn first_segment(backup: &Path) -> Result<String, String> {
    let path = backup.join("backup_label");
    let label = std::fs::read_to_string(&path).map_err(|e| text(&path, e))?;
    let line = label.lines().find(|line| line.starts_with("START WAL LOCATION"));
    let name = line.and_then(|line| line.split_once("(file ")?.1.strip_suffix(')'));
    name.map(str::to_owned)
        .ok_or_else(|| format!("{} names no segment", path.display()))
}

fn check_readable(archive: &Path, owner: Owner) -> Result<(), String> {
    let mut paths = vec![archive.to_owned()];
    let newest = std::fs::read_dir(archive)
        .map_err(|e| text(archive, e))?
        .flatten()
        .map(|entry| entry.path())
        .max();
    paths.extend(newest);
    for path in paths {
        if !folder::may(owner, "-r", &path)? {
            return Err(format!(
                "the user of PostgreSQL (uid {}) cannot read {}: chown the WAL archive, and let that user pass through the folders above it",
                owner.uid,
                path.display()
            ));
        }
    }
    Ok(())
}

/// What PostgreSQL says when it cannot recover, with what to do about it.
fn in_words(error: String) -> String {
    let advice = [
        (
            "recovery ended before configured recovery target was reached",
            "the log ends before --until: name an earlier instant, or leave --until out and restore all that there is",
        ),
        (
            "requested recovery stop point is before consistent recovery point",
            "--until is before the end of this backup: take an older backup, or a later instant",
        ),
        (
            "WAL ends before end of online backup",
            "the log ends before the backup does: the archive is not the one of this backup, or not whole",
        ),
        (
            "could not locate required checkpoint record",
            "the log in which the backup begins is missing: the archive is not the one of this backup, or not whole",
        ),
    ];
    match advice.iter().find(|(said, _)| error.contains(said)) {
        Some((_, advice)) => format!("{advice} ({error})"),
        None => error,
    }
}
