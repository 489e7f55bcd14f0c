//! A limit that is reached is named: who runs the server learns which setting refuses, from what clients are told.

use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use serde_json::json;
use std::thread;
use std::time::Duration;

/// With a table that is locked against everything.
fn with_locked_resources(settings: &[(&str, &str)], run: impl FnOnce(&Server)) {
    let dir = DataDir::new();
    let server = Server::start(&dir, settings);
    server.create(&json!({"resourceType": "Patient"}));
    let mut session = Session::open(&dir);
    session.execute("begin");
    session.execute("lock table resource in access exclusive mode");
    run(&server);
    session.execute("rollback");
    server.get("/Patient").expect(200);
}

#[test]
fn a_statement_that_is_not_done_in_time_names_its_limit() {
    with_locked_resources(&[("EDS_DATABASE_STATEMENT_TIMEOUT_MS", "400")], |server| {
        let text = server.get("/Patient").refused(503);
        assert!(text.contains("database.statement_timeout_ms"), "{text}");
    });
}

#[test]
fn connections_that_are_not_to_be_had_name_their_limits() {
    let settings = [
        ("EDS_DATABASE_POOL_SIZE_MAX", "1"),
        ("EDS_DATABASE_POOL_WAIT_MS", "300"),
        ("EDS_DATABASE_STATEMENT_TIMEOUT_MS", "4000"),
    ];
    with_locked_resources(&settings, |server| {
        let texts: Vec<String> = thread::scope(|scope| {
            let searches: Vec<_> = (0..20).map(|_| scope.spawn(|| server.get("/Patient").refused(503))).collect();
            searches.into_iter().map(|search| search.join().unwrap()).collect()
        });
        assert!(
            texts
                .iter()
                .any(|text| text.contains("database.pool_wait_ms") && text.contains("database.pool_size_max")),
            "{texts:?}"
        );
    });
}

#[test]
fn writes_that_cannot_wait_name_their_limit() {
    let settings = [
        ("EDS_DATABASE_WRITES_WAITING_MAX", "1"),
        ("EDS_DATABASE_STATEMENT_TIMEOUT_MS", "4000"),
    ];
    with_locked_resources(&settings, |server| {
        thread::scope(|scope| {
            let first = scope.spawn(|| server.post("/Patient", &json!({"resourceType": "Patient"})).status);
            thread::sleep(Duration::from_millis(500));
            let text = server.post("/Patient", &json!({"resourceType": "Patient"})).refused(503);
            assert!(text.contains("database.writes_waiting_max"), "{text}");
            first.join().unwrap();
        });
    });
}

#[test]
fn what_a_search_may_not_have_names_its_limit() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let nested = format!("{}gender eq male{}", "(".repeat(40), ")".repeat(40));
    for (search, limit) in [
        (format!("Patient?_filter={nested}"), "NESTING_MAX"),
        ("Patient?_sort=name,family,given,birthdate,gender".to_owned(), "SORT_KEYS_MAX"),
        (
            "Patient?organization.partof.partof.partof.partof.partof.partof.name=x".to_owned(),
            "search.chain_depth_max",
        ),
        (format!("Patient?_text={}", "a".repeat(600)), "STRING_CHARS_MAX"),
    ] {
        let text = server.get(&format!("/{search}")).refused(400);
        assert!(text.contains(limit), "{limit}: {text}");
    }
}
