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
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

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
    /// The last segment of the archive, which the end of the log must reach.
    last: Option<String>,
    /// No server starts on the folder meanwhile.
    _lock: File,
}

/// Checks what can be checked before anything is done, and takes the folder.
/// Errors: a cluster is there already; the backup is damaged; the log has a gap, ends before the backup or is of another; something may not be read.
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
    let last = match &plan.archive {
        Some(archive) => check_archive(archive, backup, folder.owner)?,
        None => None,
    };
    let programs = programs::find(version.trim().parse().ok())?;
    backup::verify(&programs, backup)?;
    Ok(Restoring {
        plan,
        folder,
        last,
        _lock: lock,
    })
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
        let cluster = cluster::start_with(&dir, options).await.map_err(in_words)?;
        // An instant is reached, or PostgreSQL says that it is not.
        let is_whole = match until {
            Some(_) => Ok(()),
            None => self.check_end(&cluster),
        };
        match is_whole {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.stop().await;
                Err(error)
            }
        }
    }

    /// Errors: the recovery ended before the last segment. PostgreSQL takes what it cannot read for the end of the log, and is content.
    fn check_end(&self, cluster: &Cluster) -> Result<(), String> {
        let Some(last) = &self.last else { return Ok(()) };
        let end = end_of_log(&cluster.shared.folder.cluster)?;
        if archive::begin(last).is_none_or(|begin| begin <= end) {
            return Ok(());
        }
        Err(format!(
            "the log could be read up to {:X}/{:08X} alone, and the archive goes on to the segment {last}: one between them is damaged. Put a copy of it \
             there, or move it and those behind it away and lose what they hold ({})",
            end >> 32,
            end & 0xFFFF_FFFF,
            cluster.shared.folder.log_tail()
        ))
    }

    /// Moves the cluster, which was stopped, to its place.
    pub fn finish(self) -> Result<(), String> {
        let from = self.folder.data_dir.join(RESTORING);
        let cluster = from.join("postgres");
        // The settings of the recovery stand behind those that the cluster had.
        let (path, kept) = (cluster.join("postgresql.auto.conf"), self.plan.backup.join("postgresql.auto.conf"));
        let kept = match kept.exists() {
            true => std::fs::read(&kept).map_err(|e| text(&kept, e))?,
            false => Vec::new(),
        };
        std::fs::write(&path, kept).map_err(|e| text(&path, e))?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(|e| text(&path, e))?;
        folder::sync(&cluster)?;
        self.mark_history(&cluster)?;
        std::fs::rename(from.join("postgres.log"), &self.folder.log).map_err(|e| text(&self.folder.log, e))?;
        std::fs::rename(&cluster, &self.folder.cluster).map_err(|e| text(&self.folder.cluster, e))?;
        folder::sync(&self.folder.data_dir)?;
        remove(&from)?;
        remove(&self.folder.data_dir.join(LATER))
    }

    /// The recovery archived nothing: the history of its timeline is archived by the first server that archives.
    fn mark_history(&self, cluster: &Path) -> Result<(), String> {
        let (wal, status) = (cluster.join("pg_wal"), cluster.join("pg_wal/archive_status"));
        let Some(history) = archive::histories(&wal)?.pop() else {
            return Ok(());
        };
        let mark = status.join(format!("{history}.ready"));
        File::create(&mark).map_err(|e| text(&mark, e))?;
        give(&mark, self.folder.owner)?;
        folder::sync(&status)
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
    // A backup of a standby would go on as one, and never be promoted.
    let standby = folder.cluster.join("standby.signal");
    if standby.exists() {
        std::fs::remove_file(&standby).map_err(|e| text(&standby, e))?;
    }
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
        "\nrestore_command = '{fetch}'\nrecovery_target_timeline = 'latest'\nrecovery_target_action = 'promote'\nhot_standby = off\n\
         recovery_min_apply_delay = 0\n"
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

/// Errors: PostgreSQL would take something in the archive for the end of the log: it is missing, damaged, of another cluster, or its user may not
/// read it. Returns the last segment.
fn check_archive(archive: &Path, backup: &Path, owner: Owner) -> Result<Option<String>, String> {
    archive::check_path(archive)?;
    let first = first_segment(backup)?;
    archive::check_whole(archive, &backup.join("pg_wal"), &first)?;
    let mut segments = archive::segments(archive, &first)?;
    check_readable(archive, &[archive::histories(archive)?, segments.clone()].concat(), owner)?;
    let system = system(backup)?;
    segments.iter().try_for_each(|name| archive::check_head(archive, name, system))?;
    Ok(segments.pop())
}

/// Opens everything as PostgreSQL will, in one process of its user: there can be thousands.
fn check_readable(archive: &Path, names: &[String], owner: Owner) -> Result<(), String> {
    let refused = |path: &Path| {
        format!(
            "the user of PostgreSQL (uid {}) cannot read {}: chown the WAL archive, and let that user pass through the folders above it",
            owner.uid,
            path.display()
        )
    };
    if !folder::may(owner, "-r", archive)? {
        return Err(refused(archive));
    }
    let mut open = Command::new("sh");
    open.args([
        "-c",
        "while read -r name; do true < \"$0/$name\" || { echo \"$name\"; exit 1; }; done",
    ]);
    open.arg(archive).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if owner.is_dropped {
        open.uid(owner.uid).gid(owner.gid);
    }
    let mut open = open.spawn().map_err(|e| format!("sh: {e}"))?;
    if let Some(mut input) = open.stdin.take() {
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        // It ends before it has read all when it has found one.
        let _ = input.write_all(lines.as_bytes());
    }
    let output = open.wait_with_output().map_err(|e| format!("sh: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(refused(&archive.join(String::from_utf8_lossy(&output.stdout).trim()))),
    }
}

/// The identifier of the cluster that a backup is of: what `pg_control` begins with.
fn system(backup: &Path) -> Result<u64, String> {
    let path = backup.join("global/pg_control");
    let mut head = [0; 8];
    File::open(&path)
        .and_then(|mut file| file.read_exact(&mut head))
        .map_err(|e| text(&path, e))?;
    Ok(u64::from_ne_bytes(head))
}

/// Where the recovery ended: the newest timeline, which it began, says where it left the one before.
/// <https://www.postgresql.org/docs/15/continuous-archiving.html#BACKUP-TIMELINES>
fn end_of_log(cluster: &Path) -> Result<u64, String> {
    let wal = cluster.join("pg_wal");
    let newest = archive::histories(&wal)?.pop();
    let newest = newest.ok_or_else(|| format!("{} has no history of the timeline", wal.display()))?;
    let path = wal.join(newest);
    let history = std::fs::read_to_string(&path).map_err(|e| text(&path, e))?;
    let end = history.lines().rev().find_map(|line| line.split('\t').nth(1));
    end.and_then(position)
        .ok_or_else(|| format!("{} does not say where the timeline begins", path.display()))
}

/// A place in the log as PostgreSQL writes it: `0/3000148`.
fn position(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
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
