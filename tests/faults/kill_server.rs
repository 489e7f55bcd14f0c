//! The server is killed with -9 at random moments, again and again, while 16 clients write.

use crate::check::check;
use crate::figures::Outcome;
use crate::figures::amount;
use crate::postgres::Postgres;
use crate::relay::Sabotage;
use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::free_port;
use crate::writers::Storm;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

const SCENARIO: &str = "kill -9 of the server";
/// Between the start of a server and its death.
const LIFE_MIN_MS: u64 = 50;
const LIFE_MAX_MS: u64 = 700;
/// Acknowledged writes in each life, on average.
const WRITES: u64 = 520;

fn storm(cycles: usize, start: impl Fn(&str) -> Server, before_kill: impl Fn()) -> (Storm, Server, Duration) {
    let storm = Storm::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut longest = Duration::ZERO;
    let last = storm.rage(|| {
        for cycle in 1..=cycles {
            let begin = Instant::now();
            let server = start(&listen);
            longest = longest.max(begin.elapsed());
            storm.aim(&[server.address]);
            let life = LIFE_MIN_MS + rand::random::<u64>() % (LIFE_MAX_MS - LIFE_MIN_MS);
            std::thread::sleep(Duration::from_millis(life));
            // Lives that were short are made good, so that each run has its number of writes.
            let share = if cycle == cycles { WRITES } else { WRITES / 2 };
            eventually("there are writes enough", || storm.done() >= cycle as u64 * share);
            before_kill();
            server.kill();
        }
        let server = start(&listen);
        storm.aim(&[server.address]);
        server
    });
    (storm, last, longest)
}

#[test]
fn nothing_that_was_acknowledged_is_lost_or_torn_when_the_server_is_killed() {
    let cycles = amount(6, 200);
    let dir = DataDir::new();
    let (storm, server, longest) = storm(cycles, |listen| Server::start_at(&dir, listen, &[]), || {});
    let mut outcome = Outcome::default();
    outcome.figure("cycles", cycles);
    storm.report(&mut outcome);
    check(&server, &mut Session::open(&dir), &storm.ledger, &mut outcome);
    outcome.figure("longest start ms", longest.as_millis());
    outcome.green(SCENARIO);
}

#[test]
fn a_server_that_acknowledges_before_its_commit_is_found_out() {
    let postgres = Postgres::start();
    let dir = DataDir::new();
    postgres.relay.sabotage(Some(Sabotage::EarlyCommit(Duration::from_millis(30))));
    let is_server_dead = &postgres.relay.control.is_server_dead;
    let start = |listen: &str| {
        // What was on its way to the database when the last server died has come to its end.
        std::thread::sleep(Duration::from_millis(100));
        is_server_dead.store(false, Ordering::Relaxed);
        postgres.server(&dir, listen, &[])
    };
    let (storm, server, _) = storm(3, start, || is_server_dead.store(true, Ordering::Relaxed));
    postgres.relay.sabotage(None);
    let mut outcome = Outcome::default();
    check(&server, &mut postgres.session(), &storm.ledger, &mut outcome);
    outcome.red(
        SCENARIO,
        "the server hears of its COMMIT 30 ms before the database does",
        "durability",
    );
}
