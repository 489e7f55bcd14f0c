//! A PostgreSQL of the rig's own, behind a relay, and what can be done to its processes.

use crate::relay::Relay;
use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use eds::store::cluster;
use eds::store::cluster::Cluster;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::path::Path;
use tokio::runtime::Runtime;

/// A cluster that the rig has started, as the server would its private one: killed, it is started again at once.
pub struct Postgres {
    pub relay: Relay,
    pub dir: DataDir,
    // In this order: the cluster stops before its runtime.
    cluster: Option<Cluster>,
    runtime: Runtime,
}

impl Postgres {
    pub fn start() -> Postgres {
        Postgres::start_on(DataDir::new())
    }

    pub fn start_on(dir: DataDir) -> Postgres {
        std::fs::create_dir_all(dir.data()).expect("a folder");
        let runtime = Runtime::new().expect("a runtime");
        let cluster = runtime.block_on(cluster::start(&dir.data())).expect("PostgreSQL starts");
        let pid = std::fs::read_to_string(dir.data().join("postgres/postmaster.pid")).expect("a running cluster");
        let lines: Vec<&str> = pid.lines().collect();
        let socket = Path::new(lines[4].trim()).join(format!(".s.PGSQL.{}", lines[3].trim()));
        Postgres {
            relay: Relay::start(socket),
            dir,
            cluster: Some(cluster),
            runtime,
        }
    }

    /// A session beside the relay, as the superuser.
    pub fn session(&self) -> Session {
        Session::open(&self.dir)
    }

    /// A server on this database, through the relay. `dir` is its own folder.
    pub fn server(&self, dir: &DataDir, listen: &str, settings: &[(&str, &str)]) -> Server {
        let url = self.relay.url();
        let mut settings = settings.to_vec();
        settings.push(("EDS_DATABASE_URL", &url));
        Server::start_at(dir, listen, &settings)
    }

    /// Sends a signal to the postmaster and all its processes; how many there were.
    pub fn signal(&self, signal: Signal) -> usize {
        signal_all(&self.dir, signal)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            self.runtime.block_on(cluster.stop());
        }
    }
}

/// Sends a signal to the postmaster of the cluster in this folder, and then to its processes; how many there were.
pub fn signal_all(dir: &DataDir, signal: Signal) -> usize {
    let text = std::fs::read_to_string(dir.data().join("postgres/postmaster.pid")).unwrap_or_default();
    let Some(postmaster) = text.lines().next().and_then(|l| l.parse::<i32>().ok()) else {
        return 0;
    };
    let mut pids = vec![postmaster];
    pids.extend(children(postmaster));
    // One may have ended meanwhile.
    pids.iter()
        .filter(|pid| nix::sys::signal::kill(Pid::from_raw(**pid), signal).is_ok())
        .count()
}

fn children(parent: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    })
    .collect()
}
