//! The database dies, is started again, refuses, freezes, or loses connections in the middle of a COMMIT, while 16 clients write. The server
//! lives on: it answers 503 with Retry-After meanwhile, and writes again when the database does.

use crate::check::check;
use crate::figures::Outcome;
use crate::figures::amount;
use crate::figures::is_long;
use crate::postgres::Postgres;
use crate::relay::Fault;
use crate::relay::Moment;
use crate::relay::Sabotage;
use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::eventually;
use crate::writers::Storm;
use nix::sys::signal::Signal;
use std::time::Duration;

/// A database that answers again is written to again within this time; a debug build on a busy machine has no such promise.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

type Harm = fn(&Postgres);

/// What is done, from the first harm until the database is there again.
const HARMS: &[(&str, Harm)] = &[
    ("kill -9 of PostgreSQL", |postgres| killed(postgres, Signal::SIGKILL)),
    ("restart of PostgreSQL", |postgres| killed(postgres, Signal::SIGINT)),
    ("refused connections", |postgres| {
        postgres.relay.refuse(true);
        std::thread::sleep(Duration::from_millis(1500));
        postgres.relay.refuse(false);
    }),
    ("frozen for 5 s", |postgres| {
        postgres.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_secs(5));
        postgres.signal(Signal::SIGCONT);
    }),
    ("cut before COMMIT", |postgres| cut(postgres, Moment::Before)),
    ("cut after COMMIT, before its answer", |postgres| cut(postgres, Moment::After)),
];

fn killed(postgres: &Postgres, signal: Signal) {
    let mut old = postgres.session();
    let started = "select (extract(epoch from pg_postmaster_start_time()) * 1e6)::bigint";
    let before = old.number(started);
    assert!(postgres.signal(signal) > 1, "PostgreSQL runs");
    eventually("the database is started again", || {
        Session::try_open(&postgres.dir).is_some_and(|mut session| session.number(started) != before)
    });
}

fn cut(postgres: &Postgres, moment: Moment) {
    let cuts = &postgres.relay.control.cuts;
    let before = cuts.load(std::sync::atomic::Ordering::Relaxed);
    postgres.relay.inject(Some(Fault::Commit(10, moment)));
    eventually("connections are cut", || {
        cuts.load(std::sync::atomic::Ordering::Relaxed) >= before + amount(5, 50) as u64
    });
    postgres.relay.inject(None);
}

#[test]
fn whatever_befalls_the_database_nothing_is_lost_and_the_server_recovers_by_itself() {
    let rounds = amount(1, 10);
    let (postgres, dir) = (Postgres::start(), DataDir::new());
    let server = postgres.server(&dir, "127.0.0.1:0", &[]);
    let storm = Storm::new();
    storm.aim(&[server.address]);
    let mut outcome = Outcome::default();
    storm.rage(|| {
        for (name, harm) in HARMS {
            let mut longest = Duration::ZERO;
            for _ in 0..rounds {
                storm.calm(200, &mut outcome);
                harm(&postgres);
                longest = longest.max(storm.recovery(&mut outcome));
            }
            outcome.require(!is_long() || longest <= RECOVERY_MAX, || {
                format!("recovery: {} ms after: {name}", longest.as_millis())
            });
            outcome.figure(
                name,
                format!("{rounds} times, writes again after {} ms at most", longest.as_millis()),
            );
        }
    });
    storm.report(&mut outcome);
    check(&server, &mut postgres.session(), &storm.ledger, &mut outcome);
    outcome.green("faults of the database");
}

#[test]
fn a_database_that_does_not_wait_for_its_disk_is_found_out_when_it_is_killed() {
    let (postgres, dir) = (Postgres::start(), DataDir::new());
    postgres.session().execute("alter role eds set synchronous_commit = off");
    let server = postgres.server(&dir, "127.0.0.1:0", &[]);
    let storm = Storm::new();
    storm.aim(&[server.address]);
    let mut outcome = Outcome::default();
    storm.rage(|| {
        for _ in 0..3 {
            storm.calm(200, &mut outcome);
            killed(&postgres, Signal::SIGKILL);
        }
    });
    check(&server, &mut postgres.session(), &storm.ledger, &mut outcome);
    outcome.red(
        "faults of the database",
        "`synchronous_commit = off`, and PostgreSQL killed",
        "durability",
    );
}

#[test]
fn a_database_that_takes_commits_back_is_found_out() {
    let (postgres, dir) = (Postgres::start(), DataDir::new());
    let server = postgres.server(&dir, "127.0.0.1:0", &[]);
    let storm = Storm::new();
    storm.aim(&[server.address]);
    postgres.relay.sabotage(Some(Sabotage::FalseCommit(20)));
    let mut outcome = Outcome::default();
    storm.rage(|| storm.calm(400, &mut outcome));
    postgres.relay.sabotage(None);
    check(&server, &mut postgres.session(), &storm.ledger, &mut outcome);
    outcome.red(
        "lost COMMITs",
        "one COMMIT in 20 is rolled back, and the server told otherwise",
        "durability",
    );
}
