//! Ten times as many clients as the server takes: what is refused is refused at once and politely, what is accepted takes as long as ever, memory
//! stays flat, and afterwards all is as before. Slow and idle clients cost their connections and what they have sent or not yet taken.

use crate::figures::Outcome;
use crate::figures::amount;
use crate::figures::is_long;
use crate::figures::percentile;
use crate::support::http;
use crate::support::http::Request;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::writers::body;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Half of the requests that the server under test takes at a time: its normal load.
const NORMAL: usize = 16;
const RUNNING_MAX: usize = 2 * NORMAL;
const REFUSAL_P99_MAX: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Times {
    accepted: Mutex<Vec<Duration>>,
    refused: Mutex<Vec<Duration>>,
    wrong: Mutex<Vec<String>>,
}

impl Times {
    fn sorted(times: &Mutex<Vec<Duration>>) -> Vec<Duration> {
        let mut times = times.lock().expect("not poisoned").clone();
        times.sort_unstable();
        times
    }

    fn p99(times: &Mutex<Vec<Duration>>) -> Duration {
        percentile(&Times::sorted(times), 99).unwrap_or_default()
    }
}

/// Clients that write and read for a time; one that is refused comes back after the second that Retry-After says.
fn load(address: SocketAddr, clients: usize, time: Duration) -> Times {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (times, begin) = (Times::default(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..clients {
            let times = &times;
            scope.spawn(move || {
                while begin.elapsed() < time {
                    let number = NEXT.fetch_add(1, Ordering::Relaxed);
                    let resource = format!("Patient/overload{number}");
                    let request = Request::new(address, "PUT", &format!("/fhir/{resource}")).json(&body(&resource, number));
                    let sent = Instant::now();
                    let answer = request.try_send();
                    let took = sent.elapsed();
                    match answer {
                        Ok(answer) if answer.status == 201 => times.accepted.lock().expect("not poisoned").push(took),
                        Ok(answer) if answer.status == 503 && answer.header("retry-after") == Some("1") => {
                            times.refused.lock().expect("not poisoned").push(took);
                            std::thread::sleep(Duration::from_secs(1).min(time.saturating_sub(begin.elapsed())));
                        }
                        Ok(answer) => times.wrong.lock().expect("not poisoned").push(answer.status.to_string()),
                        Err(error) => times.wrong.lock().expect("not poisoned").push(error.to_string()),
                    }
                }
            });
        }
    });
    times
}

fn overload(time: Duration, running_max: usize) -> Outcome {
    let dir = DataDir::new();
    let (running_max, pool_wait_ms) = (running_max.to_string(), "60000");
    let settings = [
        ("EDS_REQUESTS_RUNNING_MAX", running_max.as_str()),
        ("EDS_DATABASE_POOL_WAIT_MS", pool_wait_ms),
    ];
    let server = Server::start(&dir, &settings);
    load(server.address, NORMAL, time / 4);
    let before = load(server.address, NORMAL, time);
    let memory = server.memory_kb();
    let storm = load(server.address, 10 * RUNNING_MAX, time);
    let peak = server.memory_kb();
    let begin = Instant::now();
    let recovered = server.get("/Patient?_count=1").status;
    let recovery = begin.elapsed();
    let after = load(server.address, NORMAL, time);
    let mut outcome = Outcome::default();
    let ms = |d: Duration| format!("{:.1}", d.as_secs_f64() * 1000.0);
    let rate = |times: &Times| Times::sorted(&times.accepted).len() as f64 / time.as_secs_f64();
    outcome.figure("clients", format!("{NORMAL}, then {}", 10 * RUNNING_MAX));
    outcome.figure("accepted a second", format!("{:.0}, then {:.0}", rate(&before), rate(&storm)));
    let (normal, loaded, later) = (
        Times::p99(&before.accepted),
        Times::p99(&storm.accepted),
        Times::p99(&after.accepted),
    );
    outcome.figure(
        "p99 of accepted ms",
        format!("{}, then {}, then {}", ms(normal), ms(loaded), ms(later)),
    );
    outcome.figure("refused", Times::sorted(&storm.refused).len());
    outcome.figure("p99 of refusals ms", ms(Times::p99(&storm.refused)));
    outcome.figure("memory MB", format!("{}, then {}", memory / 1024, peak / 1024));
    outcome.figure("first answer afterwards ms", ms(recovery));
    for times in [&before, &storm, &after] {
        for wrong in times.wrong.lock().expect("not poisoned").iter() {
            outcome.violations.push(format!("answers: {wrong}"));
        }
    }
    outcome.require(!Times::sorted(&storm.refused).is_empty(), || {
        "overload: nothing was refused".to_owned()
    });
    outcome.require(recovered == 200, || format!("overload: {recovered} afterwards"));
    outcome.require(peak < memory + 100 * 1024, || {
        format!("overload: memory grew from {memory} to {peak} kB")
    });
    // Times of a debug build beside other tests promise nothing.
    if is_long() {
        outcome.require(loaded <= 2 * normal, || {
            format!("overload: p99 of what is accepted {} ms, normally {} ms", ms(loaded), ms(normal))
        });
        let refused = Times::p99(&storm.refused);
        outcome.require(refused < REFUSAL_P99_MAX, || {
            format!("overload: p99 of refusals {} ms", ms(refused))
        });
        outcome.require(recovery < Duration::from_secs(5), || {
            format!("overload: first answer after {} ms", ms(recovery))
        });
    }
    outcome
}

#[test]
fn ten_times_the_load_is_refused_politely_and_harms_nobody_who_is_let_in() {
    overload(Duration::from_secs(amount(2, 20) as u64), RUNNING_MAX).green("overload");
}

#[test]
fn a_server_that_lets_everybody_in_is_found_out() {
    let everybody = 1_000_000;
    overload(Duration::from_secs(2), everybody).red("overload", "no limit of running requests", "overload");
}

#[test]
fn slow_and_idle_clients_cost_connections_and_nothing_else() {
    // The connections of this side are open files too.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let (idle_count, slow_count) = (amount(500, 10_000), amount(100, 500));
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_BODY_TIMEOUT_S", "2")]);
    // A resource large enough that its history does not fit into the buffers of a connection.
    let note = "x".repeat(500_000);
    for _ in 0..8 {
        let big = serde_json::json!({"resourceType": "Basic", "id": "big", "code": {"text": format!("{note}{}", rand::random::<u64>())}});
        server.put("/Basic/big", &big);
    }
    let memory = server.memory_kb();
    let mut outcome = Outcome::default();
    let idle: Vec<TcpStream> = (0..idle_count).filter_map(|_| TcpStream::connect(server.address).ok()).collect();
    outcome.require(idle.len() == idle_count, || {
        format!("slow clients: {} of {idle_count} could connect", idle.len())
    });
    // Writers that send the begin of a body and then nothing, and readers that do not read.
    let begin = |head: String| http::begin(server.address, head.as_bytes()).expect("a connection");
    let host = server.address;
    let put = "content-type: application/fhir+json\r\ncontent-length: 1000\r\n\r\n{\"resourceType\":";
    let writers: Vec<TcpStream> = (0..slow_count)
        .map(|_| begin(format!("PUT /fhir/Basic/slow HTTP/1.1\r\nhost: {host}\r\n{put}")))
        .collect();
    let readers: Vec<TcpStream> = (0..amount(4, 20))
        .map(|_| begin(format!("GET /fhir/Basic/big/_history HTTP/1.1\r\nhost: {host}\r\n\r\n")))
        .collect();
    let mut times: Vec<Duration> = (0..200)
        .map(|i| {
            let sent = Instant::now();
            let resource = format!("Patient/beside{i}");
            server.put(&format!("/{resource}"), &body(&resource, i)).expect(201);
            sent.elapsed()
        })
        .collect();
    times.sort_unstable();
    let grown = server.memory_kb().saturating_sub(memory);
    outcome.figure("idle connections", idle.len());
    outcome.figure("slow writers", writers.len());
    outcome.figure("readers that do not read", readers.len());
    outcome.figure(
        "p99 of others' writes ms",
        format!("{:.1}", percentile(&times, 99).unwrap_or_default().as_secs_f64() * 1000.0),
    );
    outcome.figure("memory MB more", grown / 1024);
    // An answer stands in memory until it is taken, 60 s at most; each is 4 MB here. A body counts as far as it has arrived.
    outcome.require(grown < amount(60, 150) as u64 * 1024, || format!("slow clients: {grown} kB more"));
    for writer in writers {
        let answer = http::finish(writer, b"", false).map(|answer| answer.status);
        outcome.require(matches!(answer, Ok(408)), || {
            format!("slow clients: a body that does not come is answered {answer:?}")
        });
    }
    outcome.green("slow and idle clients");
}
