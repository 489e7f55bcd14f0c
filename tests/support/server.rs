//! Real servers: the binary under test on a data folder of its own.
//!
//! Nothing outlives the test process, however it ends: beside each folder runs a small shell that waits for the end of a pipe which only
//! this process holds open, and then stops what is left. So a server in a static, which is never dropped, is stopped too.

use crate::support::http::Answer;
use crate::support::http::Request;
use crate::support::http::encoded;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;
use std::fs::File;
use std::fs::Permissions;
use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// More than any search of a test has: pages that lead on for ever are told, and do not fill the memory.
const PAGES_MAX: usize = 3_000;
/// `$1`: the folder. Ends the server, then a PostgreSQL that a killed server left, then the folder.
const WATCHDOG: &str = r#"
cat >/dev/null
pid=$(cat "$1/server.pid" 2>/dev/null) && kill -TERM "$pid" 2>/dev/null
for i in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
pid=$(head -n 1 "$1/data/postgres/postmaster.pid" 2>/dev/null) && kill -INT "$pid" 2>/dev/null
for i in $(seq 100); do [ -e "$1/data/postgres/postmaster.pid" ] || break; sleep 0.1; done
rm -rf "$1"
"#;

/// A folder for one server. It may be closed, killed and started again on it.
pub struct DataDir {
    dir: TempDir,
    watchdog: Child,
}

impl DataDir {
    pub fn new() -> DataDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        // PostgreSQL runs under another user than root: it must be able to pass.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permissions");
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let watchdog = command.spawn().expect("a shell");
        DataDir { dir, watchdog }
    }

    /// The server's own folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the log of every server on this folder goes.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // The end of the pipe starts the watchdog's work; what was stopped already costs it nothing.
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a server on the folder and waits until it listens. `settings` are environment variables.
    pub fn start(dir: &DataDir, settings: &[(&str, &str)]) -> Server {
        Server::start_at(dir, "127.0.0.1:0", settings)
    }

    pub fn start_at(dir: &DataDir, listen: &str, settings: &[(&str, &str)]) -> Server {
        let log = File::options().create(true).append(true).open(dir.log()).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_eds"));
        command.args(["serve", "--dev", "--listen", listen, "--data-dir"]).arg(dir.data());
        command.env("EDS_METRICS_LISTEN", "").envs(settings.iter().copied());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        std::fs::write(dir.dir.path().join("server.pid"), child.id().to_string()).expect("a file for the id");
        let stdout = child.stdout.take().expect("piped");
        let line = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find(|l| l.starts_with("listening on http://"));
        let Some(line) = line else {
            panic!(
                "the server did not start: {}",
                std::fs::read_to_string(dir.log()).unwrap_or_default()
            );
        };
        let address = line.trim_start_matches("listening on http://").parse().expect("an address");
        Server { address, child }
    }

    /// The address of FHIR.
    pub fn base(&self) -> String {
        format!("http://{}/fhir", self.address)
    }

    /// A request for a target as it stands, from the root of the server.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    /// A request below `/fhir`; the query is percent-encoded.
    pub fn fhir(&self, method: &str, path_and_query: &str) -> Request {
        self.request(method, &format!("/fhir{}", encoded(path_and_query)))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.fhir("GET", path).send()
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.fhir("POST", path).json(body).send()
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.fhir("PUT", path).json(body).send()
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.fhir("DELETE", path).send()
    }

    /// Creates a resource; its id.
    #[track_caller]
    pub fn create(&self, resource: &Value) -> String {
        let type_name = resource["resourceType"].as_str().expect("resourceType");
        let created = self.post(&format!("/{type_name}"), resource).expect(201).json();
        created["id"].as_str().expect("id").to_owned()
    }

    /// Carries out a Bundle of this type.
    #[track_caller]
    pub fn bundle(&self, bundle_type: &str, entries: Vec<Value>) -> Answer {
        self.post("", &json!({"resourceType": "Bundle", "type": bundle_type, "entry": entries}))
    }

    /// All pages of a search or a history, in order.
    #[track_caller]
    pub fn pages(&self, path_and_query: &str) -> Vec<Value> {
        let mut pages = vec![self.get(path_and_query).expect(200).json()];
        while let Some(target) = pages.last().and_then(next_of) {
            assert!(pages.len() < PAGES_MAX, "{path_and_query}: page after page, without an end");
            pages.push(self.request("GET", &target).send().expect(200).json());
        }
        pages
    }

    /// Number of resources that a search finds.
    #[track_caller]
    pub fn count(&self, search: &str) -> u64 {
        let separator = if search.contains('?') { '&' } else { '?' };
        let found = self.get(&format!("/{search}{separator}_summary=count")).expect(200).json();
        found["total"].as_u64().expect("a total")
    }

    /// Resident memory of its process.
    pub fn memory_kb(&self) -> u64 {
        self.status_kb("VmRSS:")
    }

    /// The most that it ever was.
    pub fn memory_peak_kb(&self) -> u64 {
        self.status_kb("VmHWM:")
    }

    fn status_kb(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends SIGKILL while others still talk to it. Its PostgreSQL goes on living.
    pub fn kill_now(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Kill with -9, and waits for its end.
    pub fn kill(mut self) {
        self.kill_now();
        self.child.wait().expect("its end");
    }

    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.child.id() as i32), signal).expect("a child of ours, not yet waited for");
    }

    /// Waits for its end after [`Server::terminate`].
    pub fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it in order.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.ended()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.child.wait();
        }
    }
}

/// The server that most tests share. Each test uses ids and codes of its own.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<(Server, DataDir)> = OnceLock::new();
    &SHARED
        .get_or_init(|| {
            let dir = DataDir::new();
            (Server::start(&dir, &[]), dir)
        })
        .0
}

/// The target of a page's `next` link.
pub fn next_of(page: &Value) -> Option<String> {
    link_of(page, "next")
}

/// The target of one of a page's links.
pub fn link_of(page: &Value, relation: &str) -> Option<String> {
    let link = page["link"].as_array()?.iter().find(|link| link["relation"] == relation)?;
    let (_, rest) = link["url"].as_str()?.split_once("/fhir")?;
    Some(format!("/fhir{rest}"))
}

/// Ids of the entries of pages, in order.
pub fn ids_of(pages: &[Value]) -> Vec<String> {
    let entries = pages.iter().flat_map(|page| page["entry"].as_array().into_iter().flatten());
    entries.map(|e| e["resource"]["id"].as_str().expect("an id").to_owned()).collect()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port()
}

/// Waits until the condition holds. Panics with `what` after a minute.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "not after a minute: {what}");
        // What takes long is looked at less often.
        std::thread::sleep((begin.elapsed() / 10).clamp(Duration::from_millis(1), Duration::from_millis(50)));
    }
}
