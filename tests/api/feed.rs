//! The feed's leader, against transactions that are held open at the worst moment. Invariant I5 of ARCHITECTURE.md; docs/adr/0002-feed.md.

use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use serde_json::json;
use std::time::Duration;

const INSERT: &str = "insert into change (rid, updated, version, type, operation)
                      select rid, now(), version + 1000, type, 1 from resource limit 1";

/// Changes without a position.
const UNPLACED: &str = "select count(*) from change c
                        where not exists (select from feed_run r where c.seq >= r.seq_first and c.seq < r.seq_first + r.count)";

#[test]
fn a_change_whose_transaction_is_the_youngest_and_commits_last_is_not_given_up() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_DELIVERY_POLL_MS", "50")]);
    server.create(&json!({"resourceType": "Patient", "active": true}));
    let mut looking = Session::open(&dir);
    eventually("the leader has come to rest", || looking.number(UNPLACED) == 0);
    // The older transaction takes its number of the sequence after the younger one, and commits at once: what is visible then was completed by
    // the highest id that has completed, and the younger transaction lies above that.
    let (mut older, mut younger) = (Session::open(&dir), Session::open(&dir));
    for session in [&mut older, &mut younger] {
        session.execute("begin");
        session.number("select pg_current_xact_id()::text::bigint");
    }
    younger.execute(INSERT);
    older.execute(INSERT);
    older.execute("commit");
    eventually("what is visible has a position", || looking.number(UNPLACED) == 0);
    // Many looks at the clock, and other commits meanwhile.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(200));
        server.create(&json!({"resourceType": "Patient", "active": true}));
    }
    younger.execute("commit");
    eventually("the change that came last has a position", || looking.number(UNPLACED) == 0);
}
