//! Clients that disappear in the middle of a request or before its answer: no connection to the database is left inside a transaction, and
//! none is lost to the pool.

use crate::figures::Outcome;
use crate::figures::amount;
use crate::postgres::Postgres;
use crate::relay::Sabotage;
use crate::support::http;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::writers::body;
use serde_json::json;
use std::time::Duration;

/// More than the clients of this scenario, on whatever machine.
const LET_IN: [(&str, &str); 1] = [("EDS_REQUESTS_RUNNING_MAX", "256")];
const SCENARIO: &str = "clients that disappear";
const CLIENTS: usize = 32;

/// Sends a request up to some byte of it, or all of it, and goes.
fn disappear(server: &Server, number: u64) {
    let entry = |resource: &str| json!({"resource": body(resource, number), "request": {"method": "PUT", "url": resource}});
    let entries: Vec<_> = (0..20).map(|i| entry(&format!("Patient/gone{}", (number + i) % 50))).collect();
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries}).to_string();
    let (line, body) = match number % 3 {
        0 => ("POST /fhir", bundle),
        1 => ("PUT /fhir/Patient/gone1", body("Patient/gone1", number).to_string()),
        _ => ("GET /fhir/Patient?_sort=-birthdate&_count=1000&_revinclude=*", String::new()),
    };
    let mut bytes = format!(
        "{line} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/fhir+json\r\ncontent-length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    )
    .into_bytes();
    if number.is_multiple_of(2) {
        bytes.truncate(rand::random::<u32>() as usize % bytes.len());
    }
    if let Ok(stream) = http::begin(server.address, &bytes) {
        // Some go at once, some while the request is carried out.
        std::thread::sleep(Duration::from_millis(number % 4));
        drop(stream);
    }
}

fn vanish(postgres: &Postgres, requests: usize, sabotage: Option<Sabotage>) -> Outcome {
    let dir = DataDir::new();
    let server = postgres.server(&dir, "127.0.0.1:0", &LET_IN);
    postgres.relay.sabotage(sabotage);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                for i in 0..requests / CLIENTS {
                    disappear(server, (i * CLIENTS + client) as u64);
                }
            });
        }
    });
    let mut outcome = Outcome::default();
    outcome.figure("requests", requests);
    let mut database = postgres.session();
    // What was on its way ends by itself; the server's own work has transactions too, but none that lasts. A connection that was left inside of one may be
    // used on, so what counts is when the transaction began.
    let standing = "select count(*) from pg_stat_activity
                    where application_name = 'eds' and state like 'idle in transaction%' and xact_start < now() - interval '2 seconds'";
    std::thread::sleep(Duration::from_secs(3));
    let left = database.number(standing);
    outcome.require(left == 0, || format!("pool: {left} connections are left inside a transaction"));
    outcome.figure(
        "connections to the database",
        database.number("select count(*) from pg_stat_activity where application_name = 'eds'"),
    );
    postgres.relay.sabotage(None);
    // As many as the pool has, at once: none may wait for a connection that was lost.
    let served: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..64)
            .map(|i| {
                let server = &server;
                scope.spawn(move || {
                    let put = server
                        .put(&format!("/Patient/after{i}"), &body(&format!("Patient/after{i}"), i))
                        .status;
                    let found = server.get("/Patient?_count=1").status;
                    usize::from(put == 201 && found == 200)
                })
            })
            .collect();
        clients.into_iter().map(|c| c.join().expect("a client")).sum()
    });
    outcome.require(served == 64, || format!("pool: {served} of 64 clients are served afterwards"));
    outcome
}

#[test]
fn clients_that_disappear_leave_no_transaction_and_take_no_connection() {
    vanish(&Postgres::start(), amount(320, 20_000), None).green(SCENARIO);
}

#[test]
fn a_transaction_that_is_left_open_is_found_out() {
    let outcome = vanish(&Postgres::start(), 64, Some(Sabotage::NoCommit));
    outcome.red(SCENARIO, "COMMIT does not reach the database", "pool");
}
