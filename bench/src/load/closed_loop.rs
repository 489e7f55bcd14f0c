//! The closed loop: so many clients, each sending its next request when the last was answered and timed.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::http::BaseUrl;
use crate::http::Connection;
use crate::http::Request;
use crate::http::Response;
use crate::load::expect;
use crate::load::expect::Expect;
use crate::load::index::Index;
use crate::load::journey;
use crate::load::query::Query;
use crate::load::query::Then;
use crate::load::source::Source;
use crate::machine::Cpu;
use crate::machine::Processes;

/// Wrong answers that are told in words.
const EXAMPLES_MAX: usize = 3;

/// Longest wait for a server to finish what its writes left behind.
const SETTLE_SECONDS_MAX: u64 = 15;

/// A half second with less CPU than this counts as rest.
const REST_CPU_SECONDS: f64 = 0.05;

/// What a client saw; and what all saw, once added up.
#[derive(Debug, Default)]
pub struct Tally {
    pub latencies_ns: Vec<u64>,
    /// Operations answered: requests, or resources of an import.
    pub operations: u64,
    /// Resources in the answers, and bytes of their bodies.
    pub entries: u64,
    pub bytes: u64,
    pub wrong: u64,
    pub examples: Vec<String>,
    /// Position of a query that created something, and the id it got.
    pub created: Vec<(usize, String)>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.latencies_ns.extend(other.latencies_ns);
        self.operations += other.operations;
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.wrong += other.wrong;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
        self.created.extend(other.created);
    }

    /// Counts an answer that was not what it had to be.
    pub fn wrong(&mut self, path: &str, reason: String) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{path}: {reason}"));
        }
    }
}

/// One measured run.
#[derive(Debug)]
pub struct Run {
    pub tally: Tally,
    pub seconds: f64,
    pub cpu: Cpu,
}

/// What a run needs of the world.
#[derive(Clone)]
pub struct Bench {
    pub base: BaseUrl,
    pub processes: Processes,
    /// A run ends here even if operations are left.
    pub run_seconds_max: u64,
}

/// Sends `operations` of `queries`, again from the first after the last, with `clients` clients.
///
/// With `settle`, the CPU that the server spends after the last answer, until it rests, is charged to the run.
pub fn run_queries(bench: &Bench, clients: usize, queries: &[Query], operations: usize, settle: bool) -> Run {
    let next = AtomicUsize::new(0);
    let deadline = Instant::now() + Duration::from_secs(bench.run_seconds_max);
    measure(bench, clients, settle, || {
        let mut connection = Connection::new(bench.base.clone());
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= operations || Instant::now() >= deadline {
                return tally;
            }
            let position = number % queries.len();
            send_query(&mut connection, &queries[position], position, &mut tally);
        }
    })
}

fn send_query(connection: &mut Connection, query: &Query, position: usize, tally: &mut Tally) {
    let Some(response) = send(connection, &query.request, &query.expect, tally) else {
        return;
    };
    match (&query.then, &query.expect) {
        (Then::Walk(walk), _) => {
            let first = expect::page_contents(&response);
            journey::walk(connection, &query.request.path, walk, first, tally);
        }
        (Then::Live(resource), Expect::Created { kind }) => {
            if let Ok(id) = expect::created_id(&response, kind) {
                journey::live(connection, kind, &id, resource, tally);
            }
        }
        (Then::Stop, Expect::Created { kind }) => {
            if let Ok(id) = expect::created_id(&response, kind) {
                tally.created.push((position, id));
            }
        }
        _ => {}
    }
}

/// Sends a request, times it and judges the answer; `None` when that is wrong, which is then counted.
pub fn send<'a>(connection: &'a mut Connection, request: &Request, expect: &Expect, tally: &mut Tally) -> Option<Response<'a>> {
    let begun = Instant::now();
    let outcome = connection.send(request);
    tally.latencies_ns.push(begun.elapsed().as_nanos() as u64);
    tally.operations += 1;
    let response = match outcome {
        Ok(response) => response,
        Err(error) => {
            tally.wrong(&request.path, error.to_string());
            return None;
        }
    };
    tally.bytes += response.body.len() as u64;
    match expect::check(expect, &response) {
        Ok(entries) => tally.entries += entries as u64,
        Err(reason) => {
            tally.wrong(&format!("{} {}", request.method, request.path), reason);
            return None;
        }
    }
    Some(response)
}

/// Imports the Bundles numbered `from..until` and records in the index what was stored.
pub fn run_import(bench: &Bench, clients: usize, source: &Source, range: std::ops::Range<u64>, index: &Mutex<Index>) -> Run {
    let next = AtomicUsize::new(range.start as usize);
    measure(bench, clients, true, || {
        let mut connection = Connection::new(bench.base.clone());
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed) as u64;
            if number >= range.end {
                return tally;
            }
            if let Err(reason) = send_bundle(&mut connection, source, number, index, &mut tally) {
                tally.wrong(&format!("Bundle {number}"), reason);
            }
        }
    })
}

fn send_bundle(connection: &mut Connection, source: &Source, number: u64, index: &Mutex<Index>, tally: &mut Tally) -> Result<(), String> {
    let (bundle, request) = source.bundle(number)?;
    let entries = bundle["entry"].as_array().map_or(0, Vec::len);
    let begun = Instant::now();
    let outcome = connection.send(&request);
    tally.latencies_ns.push(begun.elapsed().as_nanos() as u64);
    let response = outcome.map_err(|error| error.to_string())?;
    tally.bytes += response.body.len() as u64;
    let ids = expect::transaction_ids(&response, entries)?;
    tally.operations += entries as u64;
    tally.entries += entries as u64;
    index
        .lock()
        .map_err(|_| "another client failed".to_owned())?
        .add_bundle(&bundle, &ids);
    Ok(())
}

fn measure(bench: &Bench, clients: usize, settle_after: bool, client: impl Fn() -> Tally + Sync) -> Run {
    let before = bench.processes.cpu();
    let begun = Instant::now();
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let handles: Vec<_> = (0..clients).map(|_| scope.spawn(&client)).collect();
        for handle in handles {
            match handle.join() {
                Ok(part) => tally.add(part),
                Err(_) => tally.wrong("client", "it failed".to_owned()),
            }
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    if settle_after {
        settle(&bench.processes);
    }
    Run {
        tally,
        seconds,
        cpu: bench.processes.cpu().since(before),
    }
}

/// Waits until server and PostgreSQL rest, within a bound; not at all when neither is watched.
pub fn settle(processes: &Processes) {
    if processes.server.is_none() && processes.postmaster.is_none() {
        return;
    }
    let deadline = Instant::now() + Duration::from_secs(SETTLE_SECONDS_MAX);
    let mut last = processes.cpu();
    while Instant::now() < deadline {
        thread::sleep(Duration::from_millis(500));
        let now = processes.cpu();
        if now.since(last).charged() < REST_CPU_SECONDS {
            return;
        }
        last = now;
    }
}
