//! A counter in one resource, raised by 64 clients over two servers with `If-Match`: it ends at the number of updates that were acknowledged.

use crate::figures::Outcome;
use crate::figures::amount;
use crate::postgres::Postgres;
use crate::support::http::Request;
use crate::support::server::DataDir;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// More than the clients of this scenario, on whatever machine.
const LET_IN: [(&str, &str); 1] = [("EDS_REQUESTS_RUNNING_MAX", "256")];
const SCENARIO: &str = "lost update";
const CLIENTS: usize = 64;

fn counter(value: u64) -> Value {
    json!({
        "resourceType": "Basic", "id": "counter", "code": {"text": "counter"},
        "identifier": [{"system": "urn:fault:counter", "value": value.to_string()}]
    })
}

fn value_of(resource: &Value) -> u64 {
    resource["identifier"][0]["value"]
        .as_str()
        .and_then(|v| v.parse().ok())
        .expect("a counter")
}

#[derive(Default)]
struct Told {
    raised: AtomicU64,
    conflicts: AtomicU64,
    others: AtomicU64,
}

fn raise(addresses: [SocketAddr; 2], client: usize, target: u64, has_if_match: bool, told: &Told) {
    let mut turn = client;
    while told.raised.load(Ordering::Relaxed) < target {
        turn += 1;
        let address = addresses[turn % 2];
        let read = Request::new(address, "GET", "/fhir/Basic/counter").send().expect(200);
        let etag = read.header("etag").expect("an ETag").to_owned();
        let next = counter(value_of(&read.json()) + 1);
        let mut update = Request::new(address, "PUT", "/fhir/Basic/counter").json(&next);
        if has_if_match {
            update = update.header("if-match", &etag);
        }
        let counted = match update.send().status {
            200 => &told.raised,
            412 => &told.conflicts,
            _ => &told.others,
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }
}

fn race(postgres: &Postgres, target: usize, has_if_match: bool) -> Outcome {
    let dirs = [DataDir::new(), DataDir::new()];
    let one = postgres.server(&dirs[0], "127.0.0.1:0", &LET_IN);
    let two = postgres.server(&dirs[1], "127.0.0.1:0", &LET_IN);
    one.put("/Basic/counter", &counter(0)).expect(201);
    let told = Told::default();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (addresses, told) = ([one.address, two.address], &told);
            scope.spawn(move || raise(addresses, client, target as u64, has_if_match, told));
        }
    });
    let raised = told.raised.load(Ordering::Relaxed);
    let mut outcome = Outcome::default();
    outcome.figure("clients", CLIENTS);
    outcome.figure("updates acknowledged", raised);
    outcome.figure("updates refused (412)", told.conflicts.load(Ordering::Relaxed));
    let last = two.get("/Basic/counter").expect(200);
    let value = value_of(&last.json());
    outcome.figure("counter", value);
    outcome.require(value == raised, || {
        format!("lost update: the counter is {value} after {raised} acknowledged updates")
    });
    let version = last.header("etag").unwrap_or_default().to_owned();
    outcome.require(version == format!("W/\"{}\"", raised + 1), || {
        format!("lost update: version {version} after {raised} updates")
    });
    let others = told.others.load(Ordering::Relaxed);
    outcome.require(others == 0, || format!("answers: {others} neither 200 nor 412"));
    outcome
}

#[test]
fn a_counter_that_many_raise_with_if_match_loses_none() {
    race(&Postgres::start(), amount(200, 20_000), true).green(SCENARIO);
}

#[test]
fn updates_without_if_match_are_found_out() {
    race(&Postgres::start(), 200, false).red(SCENARIO, "`If-Match` does not reach the server", "lost update");
}
