//! The load: imports a population, then runs each row of the table against it, warm-up first and several measured runs after.
//!
//! Method: `/proc` before and after each run; every answer checked against what was loaded; writes are charged with what they leave
//! behind. Rows that only read are given requests made in advance, so that the load costs little while it measures.

pub mod as_of;
pub mod closed_loop;
pub mod expect;
pub mod index;
pub mod journey;
pub mod query;
pub mod row;
pub mod source;
pub mod write;

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::http::Connection;
use crate::http::Request;
use crate::load::closed_loop::Bench;
use crate::load::closed_loop::Run;
use crate::load::expect::Expect;
use crate::load::index::Index;
use crate::load::query::Query;
use crate::load::row::Row;
use crate::load::source::Source;
use crate::machine;
use crate::machine::Cpu;
use crate::population::Population;
use crate::postgres::Database;
use crate::report::Report;
use crate::report::RowReport;
use crate::rng::Rng;

/// The order of the table: creates before reads, so that reads meet what creates left; updates before histories.
const ROWS: [Row; 20] = [
    Row::Import,
    Row::CreatePatient,
    Row::CreateObservation,
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
    Row::DeepPage,
    Row::SearchMix,
    Row::Update,
    Row::History,
    Row::ConditionalCreate,
    Row::Validate,
    Row::CrudMix,
];

/// Part of the Bundles that warms the server up before the import is measured.
const WARM_UP_SHARE: u64 = 20;

/// What to run.
pub struct Plan {
    pub bench: Bench,
    pub source: Source,
    /// Bundles to import.
    pub bundles: u64,
    pub population: Population,
    /// Rows to report; the import is done in any case.
    pub only: Vec<Row>,
    pub runs: usize,
    /// Factor on the operations of each row.
    pub scale: f64,
    /// Rest after the import, for autovacuum and statistics.
    pub rest_seconds: u64,
    pub database: Database,
}

/// A run of the whole table in progress.
struct Session<'a> {
    plan: &'a Plan,
    index: Index,
    rng: Rng,
    /// Number of the next resource to create, so that no two are equal.
    created: u64,
}

/// Runs the table.
pub fn run(plan: &Plan) -> Report {
    let processes = plan.bench.processes;
    let memory_idle_kb = processes.server_memory_kb().map(|memory| memory.0);
    let disk_empty = plan.database.disk_bytes();
    let mut session = Session::new(plan);
    let import = session.import();
    let disk_full = plan.database.disk_bytes();
    let stored = session.index.count;
    let maintenance = session.rest();
    let mut rows = Vec::new();
    for row in ROWS {
        if !plan.only.is_empty() && !plan.only.contains(&row) {
            continue;
        }
        match row {
            Row::Import => rows.push(import.clone()),
            _ => {
                eprintln!("row {}: {}", row.name(), row.title());
                rows.extend(session.measure(row));
            }
        }
    }
    Report {
        machine: machine::describe(),
        database_settings: plan.database.settings(),
        source: plan.source.description(),
        bundles: plan.bundles,
        resources: stored,
        runs: plan.runs,
        rows,
        import_wrong: import.wrong,
        disk_bytes_per_resource: per(disk_full.zip(disk_empty).map(|(full, empty)| full.saturating_sub(empty)), stored),
        maintenance_cpu_ms_per_resource: maintenance.charged() * 1_000.0 / stored.max(1) as f64,
        server_idle_kb: memory_idle_kb,
        server_peak_kb: processes.server_memory_kb().map(|memory| memory.1),
    }
}

fn per(bytes: Option<u64>, resources: u64) -> Option<f64> {
    bytes.filter(|_| resources > 0).map(|bytes| bytes as f64 / resources as f64)
}

impl<'a> Session<'a> {
    fn new(plan: &'a Plan) -> Session<'a> {
        Session {
            plan,
            index: Index::default(),
            rng: Rng::new(plan.population.seed, u64::MAX),
            created: 0,
        }
    }

    fn import(&mut self) -> RowReport {
        let plan = self.plan;
        let index = Mutex::new(std::mem::take(&mut self.index));
        let import = |range| closed_loop::run_import(&plan.bench, Row::Import.clients(), &plan.source, range, &index);
        let wal_before = plan.database.wal_bytes();
        let warm = (plan.bundles / WARM_UP_SHARE).max(u64::from(plan.bundles > 1)).min(50);
        eprintln!("import of {} Bundles, {warm} of them to warm up", plan.bundles);
        let warm_up = import(0..warm);
        let runs = plan.runs as u64;
        let bound = |run: u64| warm + (plan.bundles - warm) * run / runs;
        let measured: Vec<Run> = (0..runs).map(|run| import(bound(run)..bound(run + 1))).collect();
        let wal = plan.database.wal_bytes().zip(wal_before).map(|(after, before)| after - before);
        self.index = index.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut report = RowReport::new(Row::Import, measured, per(wal, self.index.count));
        report.wrong += warm_up.tally.wrong;
        report.wrong_examples.extend(warm_up.tally.examples);
        report
    }

    /// Leaves PostgreSQL alone for a while, and returns what it and the server spent meanwhile.
    fn rest(&self) -> Cpu {
        let processes = self.plan.bench.processes;
        let before = processes.cpu();
        if self.plan.rest_seconds > 0 {
            eprintln!("rest of {} s", self.plan.rest_seconds);
            thread::sleep(Duration::from_secs(self.plan.rest_seconds));
        }
        processes.cpu().since(before)
    }

    /// Runs a row; `None` when nothing that was loaded suits it.
    fn measure(&mut self, row: Row) -> Option<RowReport> {
        let operations = ((row.operations() as f64 * self.plan.scale) as usize).max(row.clients());
        let warm = operations / 5;
        let queries = self.queries(row, warm + operations * self.plan.runs);
        if queries.is_empty() {
            eprintln!("  nothing loaded suits this row");
            return None;
        }
        closed_loop::settle(&self.plan.bench.processes);
        let send =
            |queries: &[Query], operations| closed_loop::run_queries(&self.plan.bench, row.clients(), queries, operations, row.writes());
        if !row.writes() {
            send(&queries, warm);
            let runs = (0..self.plan.runs).map(|_| send(&queries, operations)).collect();
            return Some(RowReport::new(row, runs, None));
        }
        let wal_before = self.plan.database.wal_bytes();
        let warm = queries.len() / (5 * self.plan.runs + 1);
        let share = (queries.len() - warm) / self.plan.runs;
        let mut runs = vec![send(&queries[..warm], warm)];
        runs.extend((0..self.plan.runs).map(|run| send(&queries[warm + share * run..warm + share * (run + 1)], share)));
        let wal = self.plan.database.wal_bytes().zip(wal_before).map(|(after, before)| after - before);
        let written: u64 = runs.iter().map(|run| run.tally.operations).sum();
        let starts = (0..runs.len()).map(|run| if run == 0 { 0 } else { warm + share * (run - 1) });
        for (start, run) in starts.zip(&runs) {
            self.record(row, &queries[start..], run);
        }
        runs.remove(0);
        Some(RowReport::new(row, runs, per(wal, written)))
    }

    fn queries(&mut self, row: Row, writes: usize) -> Vec<Query> {
        match row {
            Row::CreatePatient | Row::CreateObservation | Row::ConditionalCreate | Row::Validate | Row::CrudMix => {
                let source = write::Source {
                    population: self.plan.population,
                    index: &self.index,
                    first: self.created,
                };
                self.created += writes as u64;
                source.plan(row, writes, &mut self.rng)
            }
            Row::Update => self.plan_updates(writes, 12.5),
            _ => query::plan_reads(row, &self.index, &mut self.rng),
        }
    }

    /// Sends each of these updates once.
    fn send_updates(&self, updates: &[Query]) -> Run {
        closed_loop::run_queries(&self.plan.bench, Row::Update.clients(), updates, updates.len(), true)
    }

    /// Tells the index what a run wrote.
    fn record(&mut self, row: Row, queries: &[Query], run: &Run) {
        if row == Row::Update {
            let updated = queries.iter().take(run.tally.operations as usize);
            for id in updated.filter_map(|query| query.request.path.strip_prefix("Observation/")) {
                *self.index.versions.entry(id.to_owned()).or_insert(1) += 1;
            }
            return;
        }
        for (position, id) in &run.tally.created {
            if let Ok(resource) = serde_json::from_slice(&queries[*position].request.body) {
                self.index.add_single(&resource, id);
            }
        }
    }

    /// Reads Observations and prepares each with another value; every id comes once.
    fn plan_updates(&self, count: usize, value: f64) -> Vec<Query> {
        let mut connection = Connection::new(self.plan.bench.base.clone());
        let change = |id: &String| {
            let path = format!("Observation/{id}");
            let response = connection.send(&Request::get(path.clone())).ok()?;
            let mut resource: Value = serde_json::from_slice(response.body).ok()?;
            *resource.pointer_mut("/valueQuantity/value")? = serde_json::json!(value);
            resource["status"] = serde_json::json!("amended");
            let request = Request::send("PUT", path, resource.to_string().into_bytes());
            Some(Query::new(request, Expect::Updated))
        };
        self.index.measured.kept.iter().take(count).filter_map(change).collect()
    }
}
