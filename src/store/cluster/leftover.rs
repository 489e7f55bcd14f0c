//! Processes of PostgreSQL that work on a data folder although no server of ours does: left by one that was killed.
//!
//! The caller holds the lock of the folder, so whatever runs there is a leftover, and a `postmaster.pid` without a living
//! postmaster is stale. The process id alone proves nothing, since it may be another process's by now.

use crate::store::cluster::Options;
use crate::store::cluster::folder::Folder;
use crate::store::cluster::programs::Programs;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// The postmaster that runs on this cluster, if one does.
pub fn postmaster(cluster: &Path) -> Option<i32> {
    let pid = std::fs::read_to_string(cluster.join("postmaster.pid"))
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()?;
    runs_on(pid, cluster).then_some(pid)
}

/// Whether the leftover postmaster is ready and was started just as we would start it now.
pub fn is_as_wanted(folder: &Folder, programs: &Programs, options: &Options) -> bool {
    // The eighth line is the state. <https://www.postgresql.org/docs/15/storage-file-layout.html>
    let state = std::fs::read_to_string(folder.cluster.join("postmaster.pid")).unwrap_or_default();
    let is_ready = state.lines().nth(7).is_some_and(|state| state.trim() == "ready");
    let command = std::fs::read_to_string(folder.cluster.join("postmaster.opts")).unwrap_or_default();
    is_ready && command.trim_end() == programs.command_line(folder, options) && folder.socket.join(socket_name()).exists()
}

/// Whether the process is a PostgreSQL on this cluster. All of its processes have the cluster as their working folder.
pub fn runs_on(pid: i32, cluster: &Path) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    if !std::fs::read(process.join("comm")).is_ok_and(|name| name.starts_with(b"postgres")) {
        return false;
    }
    if let Ok(folder) = std::fs::read_link(process.join("cwd")) {
        return folder == cluster;
    }
    // In some containers not even root may follow the link; the arguments are readable by all.
    let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| argument == cluster.as_os_str().as_encoded_bytes())
}

/// Ends all that runs on the cluster and removes what a dead postmaster leaves, so that a new one can start.
pub fn end_all(cluster: &Path) {
    if let Some(pid) = postmaster(cluster) {
        send(pid, Signal::SIGINT);
        wait(Duration::from_secs(20), || !runs_on(pid, cluster));
    }
    // Without their postmaster the others notice its death and end, unless they are busy.
    if !wait(Duration::from_secs(2), || others(cluster).is_empty()) {
        for pid in others(cluster) {
            send(pid, Signal::SIGKILL);
        }
        wait(Duration::from_secs(5), || others(cluster).is_empty());
    }
    let _ = std::fs::remove_file(cluster.join("postmaster.pid"));
}

pub fn send(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        tracing::debug!(pid, %error, "the process is gone already");
    }
}

fn others(cluster: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()));
    pids.filter(|pid| runs_on(*pid, cluster)).collect()
}

fn wait(timeout: Duration, is_done: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !is_done() {
        if begin.elapsed() > timeout {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn socket_name() -> String {
    format!(".s.PGSQL.{}", crate::store::cluster::programs::PORT)
}
