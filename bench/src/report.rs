//! The report: a Markdown table for people, JSON for comparing.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::load::closed_loop::Run;
use crate::load::row::Goal;
use crate::load::row::Row;
use crate::machine::Machine;

/// The whole report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub database_settings: Option<String>,
    /// What was loaded.
    pub source: String,
    pub bundles: u64,
    /// Stored by the import.
    pub resources: u64,
    pub runs: usize,
    pub rows: Vec<RowReport>,
    /// Bundles that were not imported as they should, whether or not the import is reported.
    pub import_wrong: u64,
    pub disk_bytes_per_resource: Option<f64>,
    /// Spent by server and PostgreSQL while nobody asked anything, after the import.
    pub maintenance_cpu_ms_per_resource: f64,
    pub server_idle_kb: Option<u64>,
    pub server_peak_kb: Option<u64>,
}

/// One row; times in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowReport {
    pub title: String,
    pub clients: usize,
    pub operations: u64,
    /// Middle run, with the slowest and the fastest.
    pub operations_per_second: Spread,
    /// Of all runs together; of a whole Bundle for the import.
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Per operation.
    pub cpu_server_ms: f64,
    pub cpu_postgres_ms: f64,
    pub cpu_client_ms: f64,
    pub cpu_total_ms: Spread,
    pub entries_per_answer: f64,
    pub bytes_per_answer: f64,
    pub wal_bytes_per_resource: Option<f64>,
    pub goal: Goal,
    pub wrong: u64,
    pub wrong_examples: Vec<String>,
}

/// A figure of several runs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spread {
    pub middle: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |position: usize| values.get(position).copied().unwrap_or(0.0);
        Spread {
            middle: at(values.len() / 2),
            low: at(0),
            high: at(values.len().saturating_sub(1)),
        }
    }
}

impl RowReport {
    /// Adds up the runs of a row.
    pub fn new(row: Row, runs: Vec<Run>, wal_bytes_per_resource: Option<f64>) -> RowReport {
        let operations: u64 = runs.iter().map(|run| run.tally.operations).sum();
        let answers = runs.iter().map(|run| run.tally.latencies_ns.len()).sum::<usize>().max(1) as f64;
        let per_operation = |seconds: f64| seconds * 1_000.0 / operations.max(1) as f64;
        let sum = |part: fn(&Run) -> f64| runs.iter().map(part).sum::<f64>();
        let mut latencies: Vec<u64> = runs.iter().flat_map(|run| run.tally.latencies_ns.iter().copied()).collect();
        latencies.sort_unstable();
        let one_run = |run: &Run| run.cpu.charged() * 1_000.0 / run.tally.operations.max(1) as f64;
        RowReport {
            title: row.title().to_owned(),
            clients: row.clients(),
            operations,
            operations_per_second: Spread::of(runs.iter().map(|run| run.tally.operations as f64 / run.seconds).collect()),
            p50_ms: percentile_ms(&latencies, 50),
            p95_ms: percentile_ms(&latencies, 95),
            p99_ms: percentile_ms(&latencies, 99),
            max_ms: percentile_ms(&latencies, 100),
            cpu_server_ms: per_operation(sum(|run| run.cpu.server)),
            cpu_postgres_ms: per_operation(sum(|run| run.cpu.postgres)),
            cpu_client_ms: per_operation(sum(|run| run.cpu.client)),
            cpu_total_ms: Spread::of(runs.iter().map(one_run).collect()),
            entries_per_answer: sum(|run| run.tally.entries as f64) / answers,
            bytes_per_answer: sum(|run| run.tally.bytes as f64) / answers,
            wal_bytes_per_resource,
            goal: row.goal(),
            wrong: runs.iter().map(|run| run.tally.wrong).sum(),
            wrong_examples: runs.into_iter().flat_map(|run| run.tally.examples).take(5).collect(),
        }
    }
}

/// The smallest latency that `percent` of all do not exceed, exactly.
fn percentile_ms(sorted_ns: &[u64], percent: usize) -> f64 {
    let rank = (sorted_ns.len() * percent).div_ceil(100).max(1) - 1;
    sorted_ns.get(rank).map_or(0.0, |latency| *latency as f64 / 1e6)
}

impl RowReport {
    /// CPU of server and PostgreSQL for an operation, in milliseconds.
    pub fn cpu_ms(&self) -> f64 {
        self.cpu_server_ms + self.cpu_postgres_ms
    }
}

impl Report {
    /// Reads a report that `eds-bench run --out` wrote. Errors: a sentence, when the file is missing or is not one.
    pub fn read(path: &Path) -> Result<Report, String> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The row of the import, when it is reported.
    pub fn import(&self) -> Option<&RowReport> {
        self.row(Row::Import.title())
    }

    /// The row of an operation, when it was measured.
    pub fn row(&self, title: &str) -> Option<&RowReport> {
        self.rows.iter().find(|row| row.title == title)
    }

    /// Answers that were not what they had to be.
    pub fn wrong(&self) -> u64 {
        let rows = self.rows.iter().filter(|row| row.title != Row::Import.title());
        self.import_wrong + rows.map(|row| row.wrong).sum::<u64>()
    }

    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let machine = &self.machine;
        let _ = writeln!(
            text,
            "{machine}; server, PostgreSQL and load generator together.\n\
             {} resources in {} Bundles, {}; {} runs after a warm-up. CPU is user and system time\n\
             of the server and of all PostgreSQL processes, per operation; ranges are the lowest and the highest run.\n",
            self.resources, self.bundles, self.source, self.runs
        );
        text.push_str("| operation | clients | per second | p50 / p95 / p99 ms | CPU server + PostgreSQL = total, ms | goal | resources an answer | wrong |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
        self.rows.iter().for_each(|row| write_row(&mut text, row));
        text.push('\n');
        self.write_sizes(&mut text);
        for row in self.rows.iter().filter(|row| row.wrong > 0) {
            for example in &row.wrong_examples {
                let _ = writeln!(text, "- wrong answer, {}: `{}`", row.title, example.replace(['`', '\n'], " "));
            }
        }
        text
    }

    fn write_sizes(&self, text: &mut String) {
        text.push_str("| size | measured | goal |\n| --- | --- | --- |\n");
        let bytes = |value: Option<f64>| value.map_or("not measured".to_owned(), |value| format!("{value:.0} bytes"));
        let megabytes = |kb: Option<u64>| kb.map_or("not measured".to_owned(), |kb| format!("{:.0} MB", kb as f64 / 1_024.0));
        let _ = writeln!(
            text,
            "| disk per stored resource, all tables and indexes | {} | 800 bytes |",
            bytes(self.disk_bytes_per_resource)
        );
        for row in self.rows.iter().filter(|row| row.wal_bytes_per_resource.is_some()) {
            let _ = writeln!(
                text,
                "| WAL per resource, {} | {} | 2000 bytes |",
                row.title,
                bytes(row.wal_bytes_per_resource)
            );
        }
        let _ = writeln!(text, "| server memory, idle | {} | 150 MB |", megabytes(self.server_idle_kb));
        let _ = writeln!(
            text,
            "| server memory, peak under the load | {} | 400 MB |",
            megabytes(self.server_peak_kb)
        );
        let _ = writeln!(
            text,
            "| CPU after the import, per resource (autovacuum, statistics) | {:.3} ms | |",
            self.maintenance_cpu_ms_per_resource
        );
        if let Some(settings) = &self.database_settings {
            let _ = writeln!(text, "\nPostgreSQL: {settings}.");
        }
    }
}

fn write_row(text: &mut String, row: &RowReport) {
    let rate = row.operations_per_second;
    let cpu = row.cpu_total_ms;
    let total = row.cpu_ms();
    let mark = |met: bool| if met { "met" } else { "**not met**" };
    let mut goals = Vec::new();
    if let Some(limit) = row.goal.cpu_ms_max {
        goals.push(format!("CPU {limit:.2}: {}", mark(total <= limit)));
    }
    if let Some(limit) = row.goal.p99_ms_max {
        goals.push(format!("p99 {limit:.0}: {}", mark(row.p99_ms <= limit)));
    }
    let _ = writeln!(
        text,
        "| {} | {} | {:.0} ({:.0}-{:.0}) | {:.2} / {:.2} / {:.2} | {:.3} + {:.3} = **{total:.3}** ({:.3}-{:.3}) | {} | {:.1} | {} |",
        row.title,
        row.clients,
        rate.middle,
        rate.low,
        rate.high,
        row.p50_ms,
        row.p95_ms,
        row.p99_ms,
        row.cpu_server_ms,
        row.cpu_postgres_ms,
        cpu.low,
        cpu.high,
        goals.join(", "),
        row.entries_per_answer,
        row.wrong
    );
}

#[cfg(test)]
mod tests {
    use crate::report::Spread;
    use crate::report::percentile_ms;

    #[test]
    fn percentiles_are_exact() {
        let latencies: Vec<u64> = (1..=200).map(|ms| ms * 1_000_000).collect();
        assert_eq!(percentile_ms(&latencies, 50), 100.0);
        assert_eq!(percentile_ms(&latencies, 99), 198.0);
        assert_eq!(percentile_ms(&latencies, 100), 200.0);
        assert_eq!(percentile_ms(&[], 99), 0.0);
    }

    #[test]
    fn a_spread_has_its_middle_and_its_ends() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((spread.low, spread.middle, spread.high), (1.0, 2.0, 3.0));
    }
}
