//! Redis between two nodes: it only wakes. With it the leader hears at once what the other node has committed; without it, or when it is
//! flushed or killed, the look at the clock finds the same, and nothing is lost. Invariant I8 of ARCHITECTURE.md.

use crate::support::database;
use crate::support::redis::Redis;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::world::unique;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

/// Time between two looks at the clock: a notice comes much sooner.
const POLL: Duration = Duration::from_secs(6);

#[test]
fn a_notice_through_redis_wakes_the_leader_and_its_loss_costs_only_time() {
    let dirs = [DataDir::new(), DataDir::new(), DataDir::new()];
    let region = Server::start(&dirs[2], &[]);
    let mut redis = Redis::start();
    let regions = format!(r#"[{{code="120",url="{}"}}]"#, region.base());
    let (poll, url) = (POLL.as_millis().to_string(), format!("redis://127.0.0.1:{}", redis.port));
    let mut settings = vec![
        ("EDS_DELIVERY_REGION", regions.as_str()),
        ("EDS_DELIVERY_POLL_MS", &poll),
        ("EDS_PERTINENCE_DEFAULT_REGION", "120"),
        ("EDS_REDIS_URL", &url),
    ];
    let leader = Server::start(&dirs[0], &settings);
    // The first node leads before the second comes.
    leader.create(&json!({"resourceType": "Patient", "active": true}));
    eventually("the first node leads", || region.count("Patient") == 1);
    let database = database::url(&dirs[0]);
    settings.push(("EDS_DATABASE_URL", &database));
    let other = Server::start(&dirs[1], &settings);
    let deliver = || {
        let id = unique();
        let body = json!({"resourceType": "Patient", "id": id});
        other.put(&format!("/Patient/{id}"), &body).expect(201);
        let begin = Instant::now();
        eventually("it arrives", || region.get(&format!("/Patient/{id}")).status == 200);
        begin.elapsed()
    };
    // The node that does not lead begins to pass on when it has tried to.
    std::thread::sleep(Duration::from_secs(1));
    let mut fastest = (0..3).map(|_| deliver()).min().unwrap();
    assert!(fastest < POLL / 3, "woken: {fastest:?}");
    redis.flush();
    fastest = (0..3).map(|_| deliver()).min().unwrap();
    assert!(fastest < POLL / 3, "woken after a flush: {fastest:?}");
    redis.kill();
    let slowest = deliver();
    assert!(slowest < POLL * 2, "found by the clock: {slowest:?}");
}
