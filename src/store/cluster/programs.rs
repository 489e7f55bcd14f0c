//! PostgreSQL's own programs: finding them, making a cluster, and the command that starts it, with every setting.

use crate::store::cluster::Options;
use crate::store::cluster::archive::Archive;
use crate::store::cluster::folder::Folder;
use crate::store::cluster::folder::Owner;
use crate::store::cluster::folder::private_dir;
use crate::store::cluster::folder::text;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// The oldest version that the statements of the store are written for.
const VERSION_MIN: u32 = 15;
/// Only the name of the socket: there is no network port.
pub const PORT: u16 = 5432;
/// Role and database that initdb makes; the server uses them only to make its own.
pub const SUPERUSER: &str = "postgres";
const MIB: u64 = 1024 * 1024;
/// The one transaction of `store::restored` locks all documents that were withdrawn since, with their members: this many for each connection.
const RECOVERY_LOCKS: u32 = 2048;

#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

/// The programs that fit an existing cluster, or the newest.
pub fn find(cluster_version: Option<u32>) -> Result<Programs, String> {
    let mut found: Vec<(u32, PathBuf)> = candidates()
        .into_iter()
        .filter_map(|dir| version(&dir).map(|version| (version, dir)))
        .collect();
    found.sort();
    let fits = |version: u32| cluster_version.map_or(version >= VERSION_MIN, |wanted| version == wanted);
    if let Some((_, dir)) = found.into_iter().rfind(|(version, _)| fits(*version)) {
        return Ok(Programs { dir });
    }
    match cluster_version {
        Some(wanted) => Err(format!(
            "the data were made by PostgreSQL {wanted}, whose programs are not here: install it (Debian: apt-get install \
             postgresql-{wanted}) or move the data to a newer version with pg_upgrade"
        )),
        None => Err(format!(
            "no database is configured, and no PostgreSQL {VERSION_MIN} or later is installed here: install it (Debian: apt-get \
             install postgresql) or name a server with --database-url"
        )),
    }
}

impl Programs {
    /// Makes the cluster beside its place and moves it there when it is whole: an initdb that is killed leaves nothing half made.
    pub fn create_cluster(&self, folder: &Folder) -> Result<(), String> {
        remove_parts(&folder.data_dir)?;
        let part = folder.data_dir.join(format!("postgres.part-{}", std::process::id()));
        private_dir(&part, folder.owner)?;
        let mut initdb = self.command("initdb", folder.owner);
        initdb
            .arg("--pgdata")
            .arg(&part)
            .args(["--username", SUPERUSER, "--auth-local", "trust", "--auth-host", "reject"]);
        initdb.args(["--locale", "C.UTF-8", "--encoding", "UTF8", "--data-checksums", "--no-instructions"]);
        run(&mut initdb)?;
        let mut try_lz4 = self.command("postgres", folder.owner);
        try_lz4.arg("-D").arg(&part).args([
            "-c",
            "wal_compression=lz4",
            "-c",
            "default_toast_compression=lz4",
            "-C",
            "wal_compression",
        ]);
        let compression = match run(&mut try_lz4) {
            Ok(()) => "wal_compression = lz4\ndefault_toast_compression = lz4\n",
            Err(_) => "wal_compression = on\n",
        };
        let configuration = part.join("postgresql.auto.conf");
        std::fs::write(&configuration, compression).map_err(|e| text(&configuration, e))?;
        File::open(&configuration)
            .and_then(|file| file.sync_all())
            .map_err(|e| text(&configuration, e))?;
        std::fs::rename(&part, &folder.cluster).map_err(|e| text(&folder.cluster, e))?;
        File::open(&folder.data_dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| text(&folder.data_dir, e))
    }

    /// Starts the postmaster.
    pub fn spawn(&self, folder: &Folder, options: &Options) -> Result<Child, String> {
        let log = folder.open_log()?;
        let mut postgres = self.command("postgres", folder.owner);
        postgres
            .args(self.arguments(folder, options))
            .stdout(log.try_clone().map_err(|e| text(&folder.log, e))?)
            .stderr(log);
        postgres.spawn().map_err(|e| text(&self.dir.join("postgres"), e))
    }

    /// The command as PostgreSQL notes it in `postmaster.opts`.
    pub fn command_line(&self, folder: &Folder, options: &Options) -> String {
        let mut line = self.dir.join("postgres").to_string_lossy().into_owned();
        for argument in self.arguments(folder, options) {
            line.push_str(&format!(" \"{argument}\""));
        }
        line
    }

    fn arguments(&self, folder: &Folder, options: &Options) -> Vec<String> {
        let mut arguments = vec!["-D".to_owned(), folder.cluster.to_string_lossy().into_owned()];
        arguments.extend(["-k".to_owned(), folder.socket.to_string_lossy().into_owned()]);
        for (key, value) in SETTINGS {
            arguments.extend(["-c".to_owned(), format!("{key}={value}")]);
        }
        for (key, mebibytes) in memory_settings(memory_bytes()) {
            arguments.extend(["-c".to_owned(), format!("{key}={mebibytes}MB")]);
        }
        for (key, value) in options.archive.iter().flat_map(Archive::settings) {
            arguments.extend(["-c".to_owned(), format!("{key}={value}")]);
        }
        if options.archive.is_none() {
            // The backup of another server can ask for one.
            arguments.extend(["-c".to_owned(), "archive_mode=off".to_owned()]);
        }
        if options.is_recovery {
            arguments.extend(["-c".to_owned(), format!("max_locks_per_transaction={RECOVERY_LOCKS}")]);
        }
        arguments
    }

    /// A program of this installation, under the owner's rights, with an environment of its own and away from our terminal:
    /// Ctrl-C is for the server, which then stops PostgreSQL in order.
    pub fn command(&self, name: &str, owner: Owner) -> Command {
        let mut command = Command::new(self.dir.join(name));
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .process_group(0);
        if owner.is_dropped {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }
}

/// What differs from PostgreSQL's defaults. Lengths of time and sizes carry their units.
const SETTINGS: &[(&str, &str)] = &[
    ("cluster_name", "eds"),
    // Reached through the socket alone, by its owner alone.
    ("listen_addresses", ""),
    ("port", "5432"),
    ("unix_socket_permissions", "0700"),
    ("max_connections", "400"),
    ("max_locks_per_transaction", "256"),
    // An acknowledged write is on disk.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("max_wal_size", "4GB"),
    ("min_wal_size", "256MB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    // Short statements on solid-state disks.
    ("random_page_cost", "1.1"),
    ("effective_io_concurrency", "64"),
    ("jit", "off"),
    ("huge_pages", "try"),
    ("update_process_title", "off"),
    // Tables that only grow need their statistics and visibility maps early.
    ("autovacuum_naptime", "15s"),
    ("autovacuum_vacuum_scale_factor", "0.05"),
    ("autovacuum_vacuum_insert_scale_factor", "0.05"),
    ("autovacuum_analyze_scale_factor", "0.05"),
    ("autovacuum_vacuum_cost_limit", "1000"),
    // What a killed server left running ends soon.
    ("client_connection_check_interval", "2s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("timezone", "UTC"),
    // No personal data in the log: no statements, no values (errors, details and contexts quote them), only what the operator needs.
    ("log_timezone", "UTC"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("log_min_messages", "log"),
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "terse"),
    ("log_statement", "none"),
    ("log_duration", "off"),
    ("log_min_duration_statement", "-1"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    ("log_checkpoints", "off"),
    ("log_autovacuum_min_duration", "-1"),
];

/// Sizes that follow from the memory of the machine, in MiB.
fn memory_settings(memory_bytes: u64) -> [(&'static str, u64); 5] {
    let memory = memory_bytes / MIB;
    [
        ("shared_buffers", (memory / 8).clamp(128, 2048)),
        ("effective_cache_size", (memory / 2).max(256)),
        ("maintenance_work_mem", (memory / 32).clamp(64, 512)),
        ("work_mem", (memory / 1024).clamp(4, 16)),
        ("wal_buffers", 16),
    ]
}

/// The memory of the machine, or of the container where that has less.
fn memory_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let machine = total.map_or(1024 * MIB, |kibibytes: u64| kibibytes * 1024);
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|max| max.trim().parse().ok());
    container.map_or(machine, |max: u64| max.min(machine))
}

/// The folders of PATH, and where Debian puts the versions; without links, so that one installation is found once.
fn candidates() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let dirs = crate::config::program_dirs()
        .into_iter()
        .chain(versions)
        .filter(|dir| dir.join("initdb").is_file());
    let real = dirs.filter_map(|dir| dir.join("postgres").canonicalize().ok()?.parent().map(Path::to_owned));
    real.collect()
}

/// The major version, from "postgres (PostgreSQL) 15.20 (Debian ...)".
fn version(dir: &Path) -> Option<u32> {
    let named = dir
        .parent()
        .filter(|parent| parent.starts_with("/usr/lib/postgresql"))
        .and_then(|parent| parent.file_name());
    if let Some(version) = named.and_then(|name| name.to_str()?.parse().ok()) {
        return Some(version);
    }
    let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    let number = line.split_whitespace().nth(2)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn remove_parts(data_dir: &Path) -> Result<(), String> {
    for entry in std::fs::read_dir(data_dir).map_err(|e| text(data_dir, e))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("postgres.part-") {
            std::fs::remove_dir_all(entry.path()).map_err(|e| text(&entry.path(), e))?;
        }
    }
    Ok(())
}

/// Runs a program to its end. Errors: what it complained of, on one line.
pub fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " / ");
    Err(format!("{name} failed: {complaint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_settings_have_a_floor_and_a_ceiling() {
        assert_eq!(memory_settings(512 * MIB)[0], ("shared_buffers", 128));
        assert_eq!(memory_settings(8 * 1024 * MIB)[0], ("shared_buffers", 1024));
        assert_eq!(memory_settings(256 * 1024 * MIB)[0], ("shared_buffers", 2048));
    }

    #[test]
    fn programs_of_a_version_that_is_not_here_are_asked_for_by_name() {
        assert!(find(Some(9)).unwrap_err().contains("postgresql-9"));
    }
}
