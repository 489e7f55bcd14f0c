//! Life and death of a server: kill -9 under load, a clean stop, two servers, start on an existing database.
//! Invariants I2, I3, I8 of ARCHITECTURE.md: nothing answers 2xx before its commit; every process may be killed at any moment.

use crate::support::http::begin;
use crate::support::http::finish;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::next_of;
use crate::support::world::unique;
use crate::transaction::entry;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

fn basic(id: &str, text: &str) -> Value {
    json!({"resourceType": "Basic", "id": id, "code": {"text": text}})
}

/// What clients were told: the texts that each resource was acknowledged to hold, in the order of its versions.
type Ledger = Mutex<BTreeMap<String, Vec<String>>>;

/// One writer: creates, updates and transactions of pairs until the server is gone. Each resource has one writer.
fn write_until_gone(server: &Server, ledger: &Ledger, writes: &AtomicU64) {
    for round in 0.. {
        let (one, two) = (unique(), unique());
        let pair = vec![
            entry("PUT", &format!("Basic/{one}"), basic(&one, "first")),
            entry("PUT", &format!("Basic/{two}"), basic(&two, "pair")),
        ];
        let body = json!({"resourceType": "Bundle", "type": "transaction", "entry": pair});
        let Ok(answer) = server.fhir("POST", "").json(&body).try_send() else {
            return;
        };
        if answer.status != 200 {
            return;
        }
        {
            let mut ledger = ledger.lock().unwrap();
            ledger.insert(one.clone(), vec!["first".to_owned()]);
            ledger.insert(two, vec!["pair".to_owned()]);
        }
        writes.fetch_add(2, Ordering::Relaxed);
        for text in [format!("second {round}"), format!("third {round}")] {
            let Ok(answer) = server.fhir("PUT", &format!("/Basic/{one}")).json(&basic(&one, &text)).try_send() else {
                return;
            };
            if answer.status != 200 {
                return;
            }
            ledger.lock().unwrap().get_mut(&one).unwrap().push(text);
            writes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The texts of all versions, oldest first.
fn versions(server: &Server, id: &str) -> Vec<String> {
    let history = server.get(&format!("/Basic/{id}/_history?_count=100")).expect(200).json();
    let mut texts = Vec::new();
    for (i, entry) in history["entry"].as_array().unwrap().iter().rev().enumerate() {
        assert_eq!(entry["resource"]["meta"]["versionId"], (i + 1).to_string(), "{id}");
        texts.push(entry["resource"]["code"]["text"].as_str().unwrap().to_owned());
    }
    texts
}

#[test]
fn what_was_acknowledged_survives_kill_9_under_load_with_its_history() {
    let dir = DataDir::new();
    let ledger = Ledger::default();
    for round in 0..2 {
        let server = Server::start(&dir, &[]);
        let writes = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| write_until_gone(&server, &ledger, &writes)))
                .collect();
            while writes.load(Ordering::Relaxed) < 400 {
                std::thread::sleep(Duration::from_millis(5));
            }
            server.kill_now();
            writers.into_iter().for_each(|w| w.join().unwrap());
        });
        println!("round {round}: {} writes acknowledged, then killed", writes.load(Ordering::Relaxed));
        server.kill();
    }
    let begin = Instant::now();
    let server = Server::start(&dir, &[]);
    println!("on the database of a killed server: ready after {:?}", begin.elapsed());
    let ledger = ledger.into_inner().unwrap();
    for (id, acknowledged) in &ledger {
        let stored = versions(&server, id);
        // One write more may have been committed without its answer.
        assert!(
            stored.starts_with(acknowledged) && stored.len() <= acknowledged.len() + 1,
            "{id}: {stored:?} {acknowledged:?}"
        );
        let current = server.get(&format!("/Basic/{id}")).expect(200).json();
        assert_eq!(current["code"]["text"], stored.last().unwrap().as_str());
    }
    // Pairs are whole: as many of one as of the other, also of those that were never acknowledged.
    let all = server.count("Basic");
    assert_eq!(all % 2, 0);
    assert!(
        all >= ledger.len() as u64 && all <= ledger.len() as u64 + 32,
        "{all} of {}",
        ledger.len()
    );
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn sigterm_finishes_what_runs_and_refuses_what_comes() {
    let dir = DataDir::new();
    let mut server = Server::start(&dir, &[]);
    let entries: Vec<Value> = (0..200)
        .map(|i| entry("POST", "Basic", json!({"resourceType": "Basic", "code": {"text": i.to_string()}})))
        .collect();
    let body = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries}).to_string();
    let head = format!(
        "POST /fhir HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/fhir+json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // A request that runs: the server has its head and half of its body when the signal comes.
    let (half, rest) = body.split_at(body.len() / 2);
    let running = begin(server.address, format!("{head}{half}").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    server.terminate();
    eventually("new requests are refused", || {
        let Ok(answer) = server.fhir("GET", "/metadata").try_send() else {
            panic!("the server is gone although a request runs");
        };
        if answer.status == 503 {
            assert!(answer.header("retry-after").is_some());
            assert_eq!(answer.json()["resourceType"], "OperationOutcome");
        }
        answer.status == 503
    });
    finish(running, rest.as_bytes(), false).unwrap().expect(200);
    let begin = Instant::now();
    let ended: ExitStatus = server.ended();
    assert_eq!(ended.code(), Some(0));
    println!("after the last answer: stopped within {:?}", begin.elapsed());
    let begin = Instant::now();
    let server = Server::start(&dir, &[]);
    println!("on an existing database: ready after {:?}", begin.elapsed());
    assert_eq!(server.count("Basic"), 200);
}

#[test]
fn two_servers_on_two_folders_do_not_disturb_each_other() {
    let (one, two) = (DataDir::new(), DataDir::new());
    let (first, second) = (Server::start(&one, &[]), Server::start(&two, &[]));
    let id = first.create(&json!({"resourceType": "Basic", "code": {"text": "x"}}));
    second.get(&format!("/Basic/{id}")).refused(404);
    assert_eq!(first.stop().code(), Some(0));
    second.create(&json!({"resourceType": "Basic", "code": {"text": "y"}}));
    assert_eq!(second.count("Basic"), 1);
    let first = Server::start(&one, &[]);
    first.get(&format!("/Basic/{id}")).expect(200);
    assert_eq!(first.count("Basic"), 1);
}

#[test]
fn cursors_and_pages_survive_a_restart() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    for i in 0..5 {
        server.create(&json!({"resourceType": "Basic", "code": {"text": i.to_string()}}));
    }
    let first = server.get("/Basic?_count=2").json();
    let next = next_of(&first).unwrap();
    server.stop();
    let server = Server::start(&dir, &[]);
    let second = server.request("GET", &next).send().expect(200).json();
    assert_eq!(second["entry"].as_array().unwrap().len(), 2);
    assert_ne!(first["entry"][0]["resource"]["id"], second["entry"][0]["resource"]["id"]);
}
