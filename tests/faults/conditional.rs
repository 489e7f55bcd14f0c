//! Conditional create by many clients over two servers on one database, with kills and answers that are lost: one resource for each identifier,
//! and every answer names it.

use crate::figures::Outcome;
use crate::figures::amount;
use crate::postgres::Postgres;
use crate::relay::Sabotage;
use crate::support::http;
use crate::support::http::Answer;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::free_port;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

const SCENARIO: &str = "conditional create";
const CLIENTS: usize = 16;
/// One answer in so many is not read.
const LOST_ONE_IN: u64 = 10;

#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    lost: AtomicU64,
    unavailable: AtomicU64,
    /// Identifier to the ids that were named for it.
    ids: Mutex<BTreeMap<usize, BTreeSet<String>>>,
    wrong: Mutex<Vec<String>>,
}

fn request(address: SocketAddr, identifier: usize) -> (Vec<u8>, SocketAddr) {
    let body = json!({
        "resourceType": "Patient", "identifier": [{"system": "urn:fault:conditional", "value": identifier.to_string()}]
    })
    .to_string();
    let head = format!(
        "POST /fhir/Patient HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/fhir+json\r\n\
         if-none-exist: identifier=urn:fault:conditional|{identifier}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    (head.into_bytes(), address)
}

/// Asks until an answer with an id comes.
fn create(seen: &Seen, addresses: &[SocketAddr], identifier: usize) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        let (bytes, address) = request(addresses[rand::random::<u32>() as usize % addresses.len()], identifier);
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let answer = http::begin(address, &bytes).and_then(|stream| {
            if rand::random::<u64>().is_multiple_of(LOST_ONE_IN) {
                seen.lost.fetch_add(1, Ordering::Relaxed);
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            http::finish(stream, b"", false)
        });
        match answer {
            Ok(answer @ Answer { status: 200 | 201, .. }) => {
                let id = answer.json()["id"].as_str().unwrap_or_default().to_owned();
                seen.ids.lock().expect("not poisoned").entry(identifier).or_default().insert(id);
                return;
            }
            Ok(answer) if answer.status == 503 => {
                seen.unavailable.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(answer) => {
                seen.wrong
                    .lock()
                    .expect("not poisoned")
                    .push(format!("{} {}", answer.status, answer.text()));
                return;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// All clients create all identifiers, each in an order of its own; the second server is killed again and again meanwhile.
fn race(postgres: &Postgres, identifiers: usize, is_killing: bool) -> Outcome {
    let dirs = [DataDir::new(), DataDir::new()];
    let one = postgres.server(&dirs[0], "127.0.0.1:0", &[]);
    let listen = format!("127.0.0.1:{}", free_port());
    let first = postgres.server(&dirs[1], &listen, &[]);
    let addresses = [one.address, first.address];
    let mut two = Some(first);
    let (seen, is_over) = (Seen::default(), AtomicBool::new(false));
    let mut killed = 0;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let seen = &seen;
                scope.spawn(move || {
                    for i in 0..identifiers {
                        // Neighbours meet at the same identifier, and in another order each time.
                        let block = i / CLIENTS * CLIENTS;
                        let identifier = block + (i + client * 7) % CLIENTS.min(identifiers - block);
                        create(seen, &addresses, identifier);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for client in clients {
                client.join().expect("a client ends");
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(300));
            if is_killing && !is_over.load(Ordering::Relaxed) {
                two.take().into_iter().for_each(Server::kill);
                two = Some(postgres.server(&dirs[1], &listen, &[]));
                killed += 1;
            }
        }
    });
    let mut outcome = Outcome::default();
    outcome.figure("identifiers", identifiers);
    outcome.figure("clients", CLIENTS);
    outcome.figure("requests", seen.requests.load(Ordering::Relaxed));
    outcome.figure("lost answers", seen.lost.load(Ordering::Relaxed));
    outcome.figure("answers 503", seen.unavailable.load(Ordering::Relaxed));
    outcome.figure("kills", killed);
    judge(&one, postgres, &seen, identifiers, &mut outcome);
    outcome
}

fn judge(server: &Server, postgres: &Postgres, seen: &Seen, identifiers: usize, outcome: &mut Outcome) {
    for wrong in seen.wrong.lock().expect("not poisoned").iter() {
        outcome.violations.push(format!("duplicates: answer {wrong}"));
    }
    let ids = seen.ids.lock().expect("not poisoned");
    for (identifier, ids) in ids.iter() {
        outcome.require(ids.len() == 1, || {
            format!("duplicates: identifier {identifier} has the ids {ids:?}")
        });
    }
    outcome.require(ids.len() == identifiers, || {
        format!("duplicates: {} of {identifiers} identifiers were created", ids.len())
    });
    let stored = server.count("Patient") as usize;
    outcome.require(stored == identifiers, || {
        format!("duplicates: {stored} resources for {identifiers} identifiers")
    });
    let rows = postgres.session().number("select count(*) from resource");
    outcome.require(rows == identifiers as i64, || {
        format!("duplicates: {rows} rows for {identifiers} identifiers")
    });
    outcome.figure("resources", stored);
}

#[test]
fn of_all_that_is_created_conditionally_by_many_there_is_one() {
    let postgres = Postgres::start();
    race(&postgres, amount(150, 20_000), true).green(SCENARIO);
}

#[test]
fn a_conditional_create_without_its_lock_is_found_out() {
    let postgres = Postgres::start();
    postgres.relay.sabotage(Some(NO_LOCKS));
    race(&postgres, 150, false).red(SCENARIO, "criteria are not locked", "duplicates");
}

/// The lock of criteria, left out.
pub const NO_LOCKS: Sabotage = Sabotage::Rewrite(
    "select pg_advisory_xact_lock(key) from unnest($1::bigint[]) key",
    "select key from unnest($1::bigint[]) key",
);
