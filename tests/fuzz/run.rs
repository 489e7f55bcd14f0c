//! A run: several clients, each with a seed stream of its own, against one server; then the log, and what it cost.

use crate::check;
use crate::requests::Call;
use crate::requests::Client;
use crate::support::database::Session;
use crate::support::http::Answer;
use crate::support::http::Request;
use crate::support::server::DataDir;
use crate::support::server::Server;
use eds::fhir::definitions::definitions;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

const CLIENTS: usize = 4;
/// What a client remembers of links and of what it wrote.
const REMEMBERED_MAX: usize = 40;
/// Violations after which a client stops: more say nothing new.
const VIOLATIONS_MAX: usize = 20;

/// Time for the queue of the ingestion API to become empty after the last request.
const QUEUE_TIME_MAX: Duration = Duration::from_secs(60);

/// What to run. One client alone repeats its stream of requests.
pub struct Plan {
    pub seed: u64,
    pub requests: usize,
    pub only_client: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Report {
    pub requests: usize,
    pub read_back: usize,
    /// Written while a document that owns it is obscured.
    pub hidden: usize,
    pub by_kind: BTreeMap<&'static str, BTreeMap<u16, usize>>,
    pub slowest: (Duration, String),
    pub violations: Vec<String>,
    /// Operations of the ingestion API that ended well.
    pub ingested: i64,
    pub memory_peak_kb: u64,
    pub seconds: u64,
}

impl Report {
    fn count(&mut self, call: &Call, status: u16, took: Duration) {
        self.requests += 1;
        *self.by_kind.entry(call.kind).or_default().entry(status).or_default() += 1;
        if took > self.slowest.0 {
            self.slowest = (took, call.kind.to_owned());
        }
    }

    fn add(&mut self, other: Report) {
        self.requests += other.requests;
        self.read_back += other.read_back;
        self.hidden += other.hidden;
        for (kind, statuses) in other.by_kind {
            for (status, count) in statuses {
                *self.by_kind.entry(kind).or_default().entry(status).or_default() += count;
            }
        }
        self.slowest = std::mem::take(&mut self.slowest).max(other.slowest);
        self.violations.extend(other.violations);
    }

    pub fn with_status(&self, is_wanted: impl Fn(u16) -> bool) -> usize {
        let all = self.by_kind.values().flatten();
        all.filter(|(status, _)| is_wanted(**status)).map(|(_, count)| count).sum()
    }

    pub fn figures(&self, seed: u64) -> Value {
        let mut statuses = BTreeMap::<String, usize>::new();
        for (status, count) in self.by_kind.values().flatten() {
            *statuses.entry(status.to_string()).or_default() += count;
        }
        let kinds: BTreeMap<&str, usize> = self.by_kind.iter().map(|(kind, s)| (*kind, s.values().sum())).collect();
        json!({
            "seed": seed.to_string(),
            "requests": self.requests,
            "written and read back": self.read_back,
            "of these obscured": self.hidden,
            "by kind": kinds,
            "by status": statuses,
            "server failures (5xx)": self.with_status(|s| s >= 500),
            "ingestion operations that succeeded": self.ingested,
            "violations": self.violations.len(),
            "slowest_ms": self.slowest.0.as_millis() as u64,
            "slowest kind": self.slowest.1,
            "memory_peak_kb": self.memory_peak_kb,
            "seconds": self.seconds,
        })
    }
}

/// A server for a run, and what it was started on. Two regions pull, so that `$changes` has something to tell.
pub fn server() -> (Server, DataDir) {
    let dir = DataDir::new();
    let settings = [
        ("EDS_DELIVERY_REGION", "[{code=\"120\",url=\"\"},{code=\"030\",url=\"\"}]"),
        ("EDS_PERTINENCE_DEFAULT_REGION", "120"),
    ];
    (Server::start(&dir, &settings), dir)
}

/// Sends all requests and checks all that can be checked while the server lives and from its log.
pub fn run(server: &Server, dir: &DataDir, plan: &Plan) -> Report {
    let begin = Instant::now();
    let mut report = Report::default();
    let clients = (0..CLIENTS).filter(|client| plan.only_client.is_none_or(|only| only == *client));
    std::thread::scope(|scope| {
        let running: Vec<_> = clients
            .map(|number| scope.spawn(move || client(server.address, dir, plan, number)))
            .collect();
        for client in running {
            report.add(client.join().expect("a client that does not panic"));
        }
    });
    match server.request("GET", "/status").try_send() {
        Ok(answer) if answer.status == 200 => {}
        other => report.violations.push(format!("the server is not well afterwards: {other:?}")),
    }
    // What was accepted ends, well or not: nothing may stand in the way of what comes after it.
    let mut session = Session::open(dir);
    let begin_of_end = Instant::now();
    while session.number("select count(*) from ingestion where status is null") > 0 && begin_of_end.elapsed() < QUEUE_TIME_MAX {
        std::thread::sleep(Duration::from_millis(50));
    }
    let waiting = session.number("select count(*) from ingestion where status is null");
    if waiting > 0 {
        report
            .violations
            .push(format!("{waiting} operations of the ingestion API never end"));
    }
    report.ingested = session.number("select count(*) from ingestion where status = 'SUCCESS'");
    report.memory_peak_kb = memory_peak_kb(dir);
    for log in [dir.log(), dir.data().join("postgres.log")] {
        // PostgreSQL's own log is there only once it has something to say.
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        report.violations.extend(check::log(&text));
    }
    report.seconds = begin.elapsed().as_secs();
    report
}

fn client(address: SocketAddr, dir: &DataDir, plan: &Plan, number: usize) -> Report {
    let mut report = Report::default();
    let mut client = Client::new(format!("f{number}"));
    for step in 0..plan.requests / CLIENTS {
        // Each step has a generator of its own: what one request takes from it does not change the next.
        let stream = plan.seed ^ ((number as u64) << 56) ^ ((step as u64) << 32);
        let rng = &mut StdRng::seed_from_u64(stream);
        let call = client.call(rng);
        let wrong = one(address, dir, &mut client, &mut report, &call);
        if !wrong.is_empty() {
            report.violations.push(told(plan.seed, number, step, &call, &wrong));
        }
        if report.violations.len() >= VIOLATIONS_MAX {
            break;
        }
    }
    report
}

/// Sends one request, checks its answer, and remembers where it leads.
fn one(address: SocketAddr, dir: &DataDir, client: &mut Client, report: &mut Report, call: &Call) -> Vec<String> {
    let begin = Instant::now();
    let answer = match send(address, call) {
        Ok(answer) => answer,
        Err(error) => return vec![format!("no answer: {error}")],
    };
    let took = begin.elapsed();
    report.count(call, answer.status, took);
    let mut wrong = check::answer(call, &answer, took);
    let location = answer
        .header("location")
        .and_then(|location| location.split_once("/fhir/"))
        .map(|(_, path)| format!("/fhir/{path}"));
    if let Some(location) = location.filter(|_| matches!(answer.status, 200 | 201)) {
        // A conditional create that found something wrote nothing.
        let sent = call
            .writes
            .as_ref()
            .filter(|_| answer.status == 201 || call.kind != "conditional create");
        if let Some(sent) = sent {
            report.read_back += 1;
            match Request::new(address, "GET", &location).try_send() {
                // The answer to a write of what is obscured does not tell so (docs/adr/0007-oscuramento.md).
                Ok(got) if got.status == 404 && is_hidden(dir, &location) => report.hidden += 1,
                Ok(got) => wrong.extend(check::stored(sent, &got)),
                Err(error) => wrong.push(format!("what was written cannot be read: {error}")),
            }
        }
        remember(&mut client.written, location);
    }
    if call.method == "GET" && answer.status == 200 {
        next_links(&answer).into_iter().for_each(|next| remember(&mut client.next, next));
    }
    wrong
}

/// Whether the resource of `/fhir/Type/id/_history/1` is withdrawn, as the database has it.
fn is_hidden(dir: &DataDir, location: &str) -> bool {
    let mut parts = location.split('/').skip(2);
    let (type_name, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = definitions().number_of(type_name).unwrap_or_default();
    let text = format!("select count(*) from resource where type = {number} and id = '{id}' and state = 2");
    Session::open(dir).number(&text) == 1
}

fn send(address: SocketAddr, call: &Call) -> std::io::Result<Answer> {
    let mut request = Request::new(address, call.method, &call.target);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &call.body {
        request = request.raw_body(body.clone());
    }
    request.try_send()
}

fn next_links(answer: &Answer) -> Vec<String> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let links = body["link"].as_array().cloned().unwrap_or_default();
    let next = links
        .iter()
        .filter(|link| link["relation"] == "next")
        .filter_map(|link| link["url"].as_str());
    // The address may be one that a header of the request named.
    next.filter_map(|url| url.split_once("/fhir/"))
        .map(|(_, path)| format!("/fhir/{path}"))
        .collect()
}

fn remember(list: &mut Vec<String>, item: String) {
    if list.len() == REMEMBERED_MAX {
        list.remove(0);
    }
    list.push(item);
}

/// A violation, with all that it takes to repeat it.
fn told(seed: u64, client: usize, step: usize, call: &Call, wrong: &[String]) -> String {
    let body = call
        .body
        .as_ref()
        .map(|b| String::from_utf8_lossy(b).chars().take(3_000).collect::<String>());
    format!(
        "{} [FUZZ_SEED={seed} FUZZ_CLIENT={client}, step {step}] {}: {} {} {:?} {}",
        wrong.join("; "),
        call.kind,
        call.method,
        call.target.chars().take(2_000).collect::<String>(),
        call.headers,
        body.unwrap_or_default()
    )
}

/// The most memory that the server has held so far.
fn memory_peak_kb(dir: &DataDir) -> u64 {
    let pid = std::fs::read_to_string(dir.log().with_file_name("server.pid")).expect("a running server");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
