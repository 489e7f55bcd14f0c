//! What it costs to look back: the same searches as of now and as of an instant in the middle of a history of updates.
//!
//! Every Observation that is kept is updated before the instant and after it: what is found as of it has been superseded since. The updates change
//! nothing that the searches ask, so the answers of both are checked alike.

use std::fmt::Write;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::calendar;
use crate::http::encode;
use crate::load::Plan;
use crate::load::Session;
use crate::load::closed_loop;
use crate::load::query;
use crate::load::query::Query;
use crate::load::query::Then;
use crate::load::row::Row;
use crate::report::RowReport;

const ROWS: [Row; 10] = [
    Row::Read,
    Row::Identifier,
    Row::Name,
    Row::PatientCode,
    Row::CodeDate,
    Row::Chained,
    Row::Has,
    Row::Include,
    Row::Revinclude,
    Row::Count,
];

/// What the project asks: as of an instant at most so many times the cost of now.
const RATIO_MAX: f64 = 2.0;
/// Longer than an instant must lie back.
const OVER: Duration = Duration::from_secs(3);

/// A row, now and as of the instant.
pub struct Pair {
    now: RowReport,
    then: RowReport,
}

pub struct AsOfReport {
    resources: u64,
    updated: usize,
    update: RowReport,
    rows: Vec<Pair>,
}

/// Imports, updates, and measures each row twice.
pub fn run(plan: &Plan) -> AsOfReport {
    let mut session = Session::new(plan);
    session.import();
    let updates = session.plan_updates(usize::MAX, 12.5);
    let before = session.send_updates(&updates);
    thread::sleep(Duration::from_millis(50));
    let instant = now();
    thread::sleep(Duration::from_millis(50));
    let again = session.plan_updates(usize::MAX, 13.5);
    let wal_before = plan.database.wal_bytes();
    let after = session.send_updates(&again);
    let wal = plan.database.wal_bytes().zip(wal_before).map(|(after, before)| after - before);
    thread::sleep(OVER);
    session.rest();
    let written = after.tally.operations;
    let mut update = RowReport::new(Row::Update, vec![after], super::per(wal, written));
    update.wrong += before.tally.wrong;
    let mut rows = Vec::new();
    for row in ROWS {
        if !plan.only.is_empty() && !plan.only.contains(&row) {
            continue;
        }
        eprintln!("row {}: {}", row.name(), row.title());
        let queries = query::plan_reads(row, &session.index, &mut session.rng);
        if queries.is_empty() {
            continue;
        }
        let then: Vec<Query> = queries
            .iter()
            .filter(|query| matches!(query.then, Then::Stop))
            .map(|query| as_of(query, &instant))
            .collect();
        let operations = ((row.operations() as f64 * plan.scale) as usize).max(row.clients());
        let mut runs = (Vec::new(), Vec::new());
        for run in 0..=plan.runs {
            for (queries, runs) in [(&queries, &mut runs.0), (&then, &mut runs.1)] {
                closed_loop::settle(&plan.bench.processes);
                let measured = closed_loop::run_queries(&plan.bench, row.clients(), queries, operations, false);
                // The first warms up.
                if run > 0 {
                    runs.push(measured);
                }
            }
        }
        rows.push(Pair {
            now: RowReport::new(row, runs.0, None),
            then: RowReport::new(row, runs.1, None),
        });
    }
    AsOfReport {
        resources: session.index.count,
        updated: again.len(),
        update,
        rows,
    }
}

fn as_of(query: &Query, instant: &str) -> Query {
    let mut request = query.request.clone();
    let separator = if request.path.contains('?') { '&' } else { '?' };
    let _ = write!(request.path, "{separator}_asOf={}", encode(instant));
    Query::new(request, query.expect.clone())
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    calendar::instant(since.as_secs().cast_signed(), i64::from(since.subsec_millis()))
}

impl AsOfReport {
    /// Answers that were not what they had to be.
    pub fn wrong(&self) -> u64 {
        self.update.wrong + self.rows.iter().map(|pair| pair.now.wrong + pair.then.wrong).sum::<u64>()
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} resources, of which {} Observations were updated before the instant and after it. CPU of server and PostgreSQL per operation.\n",
            self.resources, self.updated
        );
        text.push_str("| operation | now: p50 / p99 ms, CPU ms | as of: p50 / p99 ms, CPU ms | CPU as of / now | p50 as of / now | goal 2 | wrong |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        for Pair { now, then } in &self.rows {
            let (cpu, p50) = (then.cpu_ms() / now.cpu_ms(), then.p50_ms / now.p50_ms);
            let _ = writeln!(
                text,
                "| {} | {:.2} / {:.2}, {:.3} | {:.2} / {:.2}, {:.3} | **{cpu:.2}** | {p50:.2} | {} | {} |",
                now.title,
                now.p50_ms,
                now.p99_ms,
                now.cpu_ms(),
                then.p50_ms,
                then.p99_ms,
                then.cpu_ms(),
                if cpu <= RATIO_MAX { "met" } else { "**not met**" },
                now.wrong + then.wrong
            );
        }
        let update = &self.update;
        let _ = writeln!(
            text,
            "\n{}: {:.3} ms CPU, {} bytes of WAL each.",
            update.title,
            update.cpu_ms(),
            update
                .wal_bytes_per_resource
                .map_or("unknown".to_owned(), |bytes| format!("{bytes:.0}"))
        );
        for row in self
            .rows
            .iter()
            .flat_map(|pair| [&pair.now, &pair.then])
            .chain([update])
            .filter(|row| row.wrong > 0)
        {
            for example in &row.wrong_examples {
                let _ = writeln!(text, "- wrong answer, {}: `{}`", row.title, example.replace(['`', '\n'], " "));
            }
        }
        text
    }
}
