//! Redis is flushed, killed, answers nonsense and comes back, while 16 clients write to two servers that it wakes. It carries nothing but
//! wake-ups: nothing is lost, the region receives everything, and no decision rests on it.

use crate::check::check;
use crate::figures::Outcome;
use crate::figures::amount;
use crate::support::database;
use crate::support::database::Session;
use crate::support::redis::Redis;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::writers::Storm;
use crate::writers::body;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

const SCENARIO: &str = "faults of Redis";

/// Answers each command with something that it did not ask for.
struct Nonsense {
    is_over: Arc<AtomicBool>,
    port: u16,
    pub answers: Arc<AtomicU64>,
}

impl Nonsense {
    fn start(port: u16) -> Nonsense {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port of the Redis that is gone");
        let (is_over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count) = (is_over.clone(), answers.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(mut stream), over, count) = (stream, over.clone(), count.clone()) else {
                    continue;
                };
                std::thread::spawn(move || {
                    const ANSWERS: [&[u8]; 5] = [
                        b":42\r\n",
                        b"$-1\r\n",
                        b"*2\r\n+message\r\n",
                        b"-ERR nonsense\r\n",
                        b"\x00\xff{}\r\n",
                    ];
                    let mut buffer = [0; 4096];
                    // Until the server gives it up.
                    while !over.load(Ordering::Relaxed) && stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {
                        let answer = ANSWERS[count.fetch_add(1, Ordering::Relaxed) as usize % ANSWERS.len()];
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Nonsense { is_over, port, answers }
    }
}

impl Drop for Nonsense {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener, so that it gives the port back.
        let _ = std::net::TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Sabotaged, the feed looks at the clock once an hour: it relies on Redis.
fn run(rounds: usize, is_sabotaged: bool) -> Outcome {
    let (poll_ms, patience) = match is_sabotaged {
        false => ("1000", Duration::from_secs(60)),
        true => ("3600000", Duration::from_secs(5)),
    };
    let dirs = [DataDir::new(), DataDir::new(), DataDir::new()];
    let region = Server::start(&dirs[2], &[]);
    let mut redis = Redis::start();
    let regions = format!(r#"[{{code="120",url="{}"}}]"#, region.base());
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let mut settings = vec![
        ("EDS_DELIVERY_REGION", regions.as_str()),
        ("EDS_DELIVERY_POLL_MS", poll_ms),
        ("EDS_PERTINENCE_DEFAULT_REGION", "120"),
        ("EDS_REDIS_URL", &url),
    ];
    let one = Server::start(&dirs[0], &settings);
    let mut session = Session::open(&dirs[0]);
    eventually("it leads, before the other comes", || {
        session.number("select epoch::bigint from sequencer") == 1
    });
    let database = database::url(&dirs[0]);
    settings.push(("EDS_DATABASE_URL", &database));
    let two = Server::start(&dirs[1], &settings);
    let storm = Storm::new();
    storm.aim(&[one.address, two.address]);
    let (mut nonsense, mut outcome) = (0, Outcome::default());
    storm.rage(|| {
        for _ in 0..rounds {
            storm.calm(100, &mut outcome);
            redis.flush();
            storm.calm(100, &mut outcome);
            redis.kill();
            storm.calm(100, &mut outcome);
            let false_redis = Nonsense::start(redis.port);
            storm.calm(100, &mut outcome);
            std::thread::sleep(Duration::from_millis(500));
            nonsense += false_redis.answers.load(Ordering::Relaxed);
            drop(false_redis);
            std::thread::sleep(Duration::from_millis(100));
            redis = Redis::start_at(redis.port);
        }
        redis.kill();
        storm.calm(50, &mut outcome);
    });
    outcome.figure("times flushed, killed, replaced by nonsense, restarted", rounds);
    outcome.figure("nonsensical answers", nonsense);
    storm.report(&mut outcome);
    if !is_sabotaged {
        check(&one, &mut Session::open(&dirs[0]), &storm.ledger, &mut outcome);
    }
    if !outcome.violations.is_empty() {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        println!("sessions that wait for a lock: {}", Session::open(&dirs[0]).number(waiting));
        for dir in &dirs {
            println!("log: {}", std::fs::read_to_string(dir.log()).unwrap_or_default());
        }
    }
    // The first server leads the feed, and has come to rest: of what the other commits now, nobody tells it.
    std::thread::sleep(Duration::from_millis(500));
    two.put("/Patient/last", &body("Patient/last", 1)).expect(201);
    let begin = Instant::now();
    let counts = |server: &Server| ["Patient", "Observation"].map(|t| server.count(t));
    let there = counts(&one);
    while counts(&region) != there && begin.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(100));
    }
    let arrived = counts(&region);
    outcome.figure("resources at the region", arrived.iter().sum::<u64>());
    outcome.require(arrived == there, || {
        format!("delivery: {arrived:?} of {there:?} resources have arrived")
    });
    outcome
}

#[test]
fn redis_may_vanish_be_flushed_or_lie_and_nothing_is_lost() {
    run(amount(1, 50), false).green(SCENARIO);
}

#[test]
fn a_feed_that_relies_on_redis_is_found_out() {
    run(1, true).red(SCENARIO, "no look at the clock, only wake-ups", "delivery");
}
