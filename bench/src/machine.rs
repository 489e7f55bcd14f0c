//! What the kernel says of processes and of the machine, read from `/proc`.
//!
//! Spec: proc_pid_stat(5), proc_pid_status(5). Not supported: other systems than Linux.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::process::Command;

use serde::Deserialize;
use serde::Serialize;

/// Clock ticks in a second: what Linux reports to programs on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds spent so far, by process group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cpu {
    pub server: f64,
    pub postgres: f64,
    /// The load generator's own, not charged to anybody.
    pub client: f64,
}

impl Cpu {
    /// What was spent since `before`.
    pub fn since(self, before: Cpu) -> Cpu {
        Cpu {
            server: self.server - before.server,
            postgres: self.postgres - before.postgres,
            client: self.client - before.client,
        }
    }

    /// Server and PostgreSQL.
    pub fn charged(self) -> f64 {
        self.server + self.postgres
    }
}

/// The processes measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Processes {
    pub server: Option<u32>,
    /// The postmaster; its children are found, and those that ended are in its own account.
    pub postmaster: Option<u32>,
}

impl Processes {
    /// Samples the CPU of all; a process that is not given or not there counts nothing.
    pub fn cpu(&self) -> Cpu {
        Cpu {
            server: self.server.and_then(read_stat).map_or(0.0, |stat| stat.own),
            postgres: self.postmaster.map_or(0.0, family_seconds),
            client: read_stat(std::process::id()).map_or(0.0, |stat| stat.own),
        }
    }

    /// Resident memory of the server in kB: now, and the most it ever had.
    pub fn server_memory_kb(&self) -> Option<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server?)).ok()?;
        Some((status_field(&status, "VmRSS:")?, status_field(&status, "VmHWM:")?))
    }
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

struct Stat {
    parent: u32,
    /// utime + stime.
    own: f64,
    /// cutime + cstime: children that ended and were waited for, with theirs.
    reaped: f64,
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The process name may hold spaces and parentheses, so fields count from the last `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
    let ticks = |position: usize| fields.get(position)?.parse::<f64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        reaped: (ticks(13)? + ticks(14)?) / TICKS_PER_SECOND,
    })
}

/// The postmaster, its children that ended, and all its living descendants.
fn family_seconds(postmaster: u32) -> f64 {
    let Ok(folder) = fs::read_dir("/proc") else { return 0.0 };
    let stats: HashMap<u32, Stat> = folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, read_stat(pid)?)))
        .collect();
    let descends = |mut pid: u32| {
        while let Some(stat) = stats.get(&pid) {
            if pid == postmaster {
                return true;
            }
            pid = stat.parent;
        }
        false
    };
    stats
        .iter()
        .filter(|(pid, _)| descends(**pid))
        .map(|(_, stat)| stat.own + stat.reaped)
        .sum()
}

/// The machine and the moment, for the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub cpu_model: String,
    pub cores: usize,
    pub memory_gb: f64,
    pub kernel: String,
    pub date: String,
    pub commit: String,
}

/// When, of what and where something was measured, as the begin of a sentence.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Measured {} at commit {} on {} cores of {}, {:.0} GB, Linux {}",
            self.date, self.commit, self.cores, self.cpu_model, self.memory_gb, self.kernel
        )
    }
}

/// Describes this machine.
pub fn describe() -> Machine {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let memory_info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    Machine {
        cpu_model: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gb: status_field(&memory_info, "MemTotal:").unwrap_or(0) as f64 / 1_048_576.0,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        date: crate::calendar::utc(seconds as i64),
        commit: commit(),
    }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "none".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|list| !list.is_empty());
    if changed { format!("{hash} with changes") } else { hash }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::machine::Processes;
    use crate::machine::parse_stat;

    #[test]
    fn a_stat_line_is_read_whatever_the_process_is_called() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 50 30 20 20 0 1 0 5 6 7";
        let stat = parse_stat(line).expect("a stat");
        assert_eq!((stat.parent, stat.own, stat.reaped), (7, 1.5, 0.5));
    }

    #[test]
    fn children_that_ended_are_counted() {
        let processes = Processes {
            server: None,
            postmaster: Some(std::process::id()),
        };
        let before = processes.cpu();
        let burn = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", burn]).status().expect("a shell").success());
        assert!(processes.cpu().since(before).postgres >= 0.05);
    }
}
