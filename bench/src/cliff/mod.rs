//! The cliffs: two hundred shapes of search over skewed data, to find those that fall off when there is much of it.
//!
//! Each query is asked once to warm up and then measured; a shape's time is the slowest of its measured queries. Then the worst of them run on
//! sixteen connections while another reads by id: what others feel of them.

pub mod data;
pub mod shapes;

use crate::cliff::data::Data;
use crate::cliff::shapes::Shape;
use crate::cliff::shapes::shapes;
use crate::http::BaseUrl;
use crate::http::Connection;
use crate::http::Request;
use crate::machine;
use crate::rng::Rng;
use serde_json::Value;
use std::fmt::Write;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// The goal for each shape, warm.
const SHAPE_MS_MAX: f64 = 250.0;
/// The goal for reads by others.
const READ_MS_MAX: f64 = 50.0;
/// Connections that run the worst searches.
const CLIENTS: usize = 16;
/// How often a query is measured.
const RUNS: usize = 2;

/// What a shape took.
struct Measured {
    shape: Shape,
    /// Milliseconds of the slowest measured run.
    slowest_ms: f64,
    /// The slowest that was asked for the first time.
    first_ms: f64,
    /// Entries of the last answer.
    entries: usize,
    /// The query that was slowest.
    query: String,
    /// Why it has no figure, if so: what the server said.
    refused: Option<String>,
}

pub struct Cliff {
    pub base: BaseUrl,
    pub data: Data,
    /// The data are there already.
    pub is_loaded: bool,
    /// Rest after loading, for autovacuum and statistics.
    pub rest_seconds: u64,
    /// Seconds of reads beside the worst searches.
    pub beside_seconds: u64,
    /// Only shapes whose name holds this.
    pub only: Option<String>,
    /// Shapes whose plans are told.
    pub plans: usize,
}

/// Loads, measures, and prints Markdown. Returns whether every shape is answered, and in time.
///
/// Errors: those of the sockets, and a load that is refused.
pub fn run(cliff: &Cliff) -> Result<bool, Box<dyn std::error::Error>> {
    let began = Instant::now();
    let resources = cliff.data.count();
    if !cliff.is_loaded {
        cliff.data.load(&cliff.base)?;
        eprintln!("{resources} resources in {:.0} s", began.elapsed().as_secs_f64());
        thread::sleep(Duration::from_secs(cliff.rest_seconds));
    }
    let mut connection = Connection::new(cliff.base.clone());
    let wanted = |shape: &Shape| cliff.only.as_deref().is_none_or(|part| shape.name.contains(part));
    let mut measured: Vec<Measured> = Vec::new();
    for shape in shapes(&cliff.data).into_iter().filter(wanted) {
        let result = measure(&mut connection, shape)?;
        eprintln!("{:8.1} ms  {}", result.slowest_ms, result.shape.name);
        measured.push(result);
    }
    measured.sort_by(|a, b| b.slowest_ms.total_cmp(&a.slowest_ms));
    let beside = reads_beside(cliff, &measured);
    print!("{}", report(cliff, resources, &measured, &beside));
    println!("\n## Plans");
    for shape in measured.iter().take(cliff.plans) {
        println!("\n{}\n", shape.query);
        println!("{}", plan(&mut connection, &shape.query)?);
    }
    let is_met = |m: &Measured| m.refused.is_none() && m.slowest_ms <= SHAPE_MS_MAX;
    Ok(measured.iter().all(is_met) && percentile(&beside, 99.0) <= READ_MS_MAX)
}

fn measure(connection: &mut Connection, shape: Shape) -> Result<Measured, Box<dyn std::error::Error>> {
    let mut measured = Measured {
        slowest_ms: 0.0,
        first_ms: 0.0,
        entries: 0,
        query: String::new(),
        refused: None,
        shape,
    };
    for query in &measured.shape.queries {
        let deep;
        let query = match measured.shape.pages {
            0 => query,
            pages => {
                deep = page_number(connection, query, pages)?;
                &deep
            }
        };
        for run in 0..=RUNS {
            let began = Instant::now();
            let answer = connection.send(&Request::get(query.clone()))?;
            let ms = began.elapsed().as_secs_f64() * 1e3;
            if answer.status != 200 {
                let outcome: Value = serde_json::from_slice(answer.body).unwrap_or_default();
                let text = outcome["issue"][0]["details"]["text"].as_str().unwrap_or("no OperationOutcome");
                measured.refused = Some(format!("{} {text}", answer.status));
                measured.query.clone_from(query);
                return Ok(measured);
            }
            if run == 0 {
                measured.first_ms = ms.max(measured.first_ms);
            } else if ms >= measured.slowest_ms {
                measured.slowest_ms = ms;
                measured.query.clone_from(query);
            }
            if run == RUNS {
                let bundle: Value = serde_json::from_slice(answer.body)?;
                measured.entries = bundle["entry"].as_array().map_or(0, Vec::len);
            }
        }
    }
    Ok(measured)
}

/// The address of a page far behind the first, by following links.
fn page_number(connection: &mut Connection, query: &str, pages: usize) -> Result<String, Box<dyn std::error::Error>> {
    let mut path = query.to_owned();
    for _ in 1..pages {
        let answer = connection.send(&Request::get(path.clone()))?;
        let bundle: Value = serde_json::from_slice(answer.body)?;
        let next = bundle["link"]
            .as_array()
            .and_then(|links| links.iter().find(|link| link["relation"] == "next"));
        let Some(next) = next.and_then(|link| link["url"].as_str()) else {
            break;
        };
        path = connection.base().relative(next)?;
    }
    Ok(path)
}

/// Milliseconds of each read by id while the worst searches run.
fn reads_beside(cliff: &Cliff, measured: &[Measured]) -> Vec<f64> {
    let worst: Vec<&str> = measured
        .iter()
        .filter(|m| m.refused.is_none())
        .take(10)
        .map(|m| m.query.as_str())
        .collect();
    if worst.is_empty() || cliff.beside_seconds == 0 {
        return Vec::new();
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (worst, is_over) = (&worst, &is_over);
            scope.spawn(move || {
                let mut connection = Connection::new(cliff.base.clone());
                for i in client.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    // A search that is refused because the server has enough to do is as it should be.
                    let _ = connection.send(&Request::get(worst[i % worst.len()].to_owned()));
                }
            });
        }
        let mut connection = Connection::new(cliff.base.clone());
        let mut rng = Rng::new(7, 7);
        let mut times = Vec::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(cliff.beside_seconds) {
            let id = rng.below(cliff.data.patients as usize);
            let sent = Instant::now();
            let is_read = connection
                .send(&Request::get(format!("Patient/p{id}")))
                .is_ok_and(|answer| answer.status == 200);
            times.push(if is_read {
                sent.elapsed().as_secs_f64() * 1e3
            } else {
                f64::INFINITY
            });
            thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, Ordering::Relaxed);
        times.sort_by(f64::total_cmp);
        times
    })
}

/// The plan that the server tells of a search, by `_explain`.
fn plan(connection: &mut Connection, query: &str) -> Result<String, Box<dyn std::error::Error>> {
    let separator = if query.contains('?') { '&' } else { '?' };
    let answer = connection.send(&Request::get(format!("{query}{separator}_explain=true")))?;
    let outcome: Value = serde_json::from_slice(answer.body)?;
    let issues = outcome["issue"].as_array().into_iter().flatten();
    let texts: Vec<&str> = issues
        .filter_map(|issue| issue["diagnostics"].as_str().or(issue["details"]["text"].as_str()))
        .collect();
    Ok(format!("```\n{}\n```", texts.join("\n")))
}

fn percentile(sorted: &[f64], percent: f64) -> f64 {
    match sorted.len() {
        0 => 0.0,
        len => sorted[((len as f64 * percent / 100.0).ceil() as usize).clamp(1, len) - 1],
    }
}

fn report(cliff: &Cliff, resources: u64, measured: &[Measured], beside: &[f64]) -> String {
    let mut out = String::new();
    let machine = machine::describe();
    let refused: Vec<&Measured> = measured.iter().filter(|m| m.refused.is_some()).collect();
    let answered: Vec<f64> = measured
        .iter()
        .rev()
        .filter(|m| m.refused.is_none())
        .map(|m| m.slowest_ms)
        .collect();
    let above = answered.iter().filter(|ms| **ms > SHAPE_MS_MAX).count();
    let _ = writeln!(out, "{machine}\n");
    let _ = writeln!(
        out,
        "{} shapes of search over {resources} resources ({} Observations, {} Patients, skewed codes and dates); the slowest of each shape's queries, warm.\n",
        measured.len(),
        cliff.data.observations,
        cliff.data.patients
    );
    let _ = writeln!(
        out,
        "p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, slowest {:.1} ms; above {SHAPE_MS_MAX} ms: {above}; refused: {}.\n",
        percentile(&answered, 50.0),
        percentile(&answered, 90.0),
        percentile(&answered, 99.0),
        percentile(&answered, 100.0),
        refused.len()
    );
    let row = |out: &mut String, m: &Measured| {
        let _ = writeln!(
            out,
            "| {:.1} | {:.1} | {} | {} |",
            m.slowest_ms, m.first_ms, m.entries, m.shape.name
        );
    };
    let head = "| ms | first ms | entries | shape |\n| ---: | ---: | ---: | --- |";
    let _ = writeln!(out, "{head}");
    for m in measured.iter().filter(|m| m.refused.is_none()).take(20) {
        row(&mut out, m);
    }
    let mut first: Vec<&Measured> = measured.iter().filter(|m| m.first_ms > SHAPE_MS_MAX).collect();
    first.sort_by(|a, b| b.first_ms.total_cmp(&a.first_ms));
    let _ = writeln!(
        out,
        "\nAbove {SHAPE_MS_MAX} ms when asked for the first time: {}.\n\n{head}",
        first.len()
    );
    for m in first {
        row(&mut out, m);
    }
    for m in refused {
        let _ = writeln!(out, "\nRefused: {}: {}", m.shape.name, m.refused.as_deref().unwrap_or_default());
    }
    if !beside.is_empty() {
        let _ = writeln!(
            out,
            "\nReads by id while {CLIENTS} connections run the ten slowest: p50 {:.1} ms, p99 {:.1} ms of {} (goal: p99 {READ_MS_MAX} ms).",
            percentile(beside, 50.0),
            percentile(beside, 99.0),
            beside.len()
        );
    }
    out
}
