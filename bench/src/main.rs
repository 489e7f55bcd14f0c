//! `eds-bench`: writes the synthetic population to files, or loads it into a server and measures.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use eds_bench::cliff;
use eds_bench::cliff::Cliff;
use eds_bench::cliff::data::Data;
use eds_bench::compare;
use eds_bench::growth;
use eds_bench::http::BaseUrl;
use eds_bench::load;
use eds_bench::load::Plan;
use eds_bench::load::closed_loop::Bench;
use eds_bench::load::row::Row;
use eds_bench::load::source::Source;
use eds_bench::machine::Processes;
use eds_bench::population::Population;
use eds_bench::population::RESOURCES_PER_PATIENT;
use eds_bench::postgres::Database;
use eds_bench::report::Report;

#[derive(Parser)]
#[command(about = "Synthetic population and load generator of eds")]
struct Command {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Writes one transaction Bundle per patient: DIR/000000.json, DIR/000001.json...
    Population {
        #[arg(long)]
        patients: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long)]
        out: PathBuf,
    },
    /// Imports a population into a server and measures each operation; prints Markdown, and exits with 1 if any answer was wrong.
    Run(Box<RunArguments>),
    /// Imports a population, updates it, and measures searches as of now and as of an instant in the middle; prints Markdown, and exits with 1 if any
    /// answer was wrong.
    AsOf(Box<RunArguments>),
    /// Loads skewed data into a server and measures two hundred shapes of search; prints Markdown, and exits with 1 if one takes too long.
    Cliff(CliffArguments),
    /// Sets reports of several servers against each other; prints Markdown.
    Compare {
        /// NAME=FILE of each, ours first; the files are those of run --out.
        #[arg(required = true, num_args = 2.., value_parser = named_report)]
        reports: Vec<(String, Report)>,
    },
    /// Sets reports of several sizes beside each other; prints Markdown and draws a plot.
    Growth {
        /// File for the plot, as SVG.
        #[arg(long)]
        plot: PathBuf,
        /// Files of run --out.
        #[arg(required = true)]
        reports: Vec<PathBuf>,
    },
}

fn named_report(text: &str) -> Result<(String, Report), String> {
    let (name, path) = text.split_once('=').ok_or("a report is given as NAME=FILE")?;
    Ok((name.to_owned(), Report::read(Path::new(path))?))
}

#[derive(Args)]
struct CliffArguments {
    /// FHIR base; the store behind it should be empty.
    #[arg(long)]
    base_url: String,
    #[arg(long, default_value_t = 2_000_000)]
    observations: u64,
    #[arg(long, default_value_t = 100_000)]
    patients: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rest after loading, in seconds, for autovacuum and statistics.
    #[arg(long, default_value_t = 0)]
    rest_seconds: u64,
    /// Seconds of reads beside the worst searches; 0 leaves it out.
    #[arg(long, default_value_t = 20)]
    beside_seconds: u64,
    /// Only shapes whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// The data are there already.
    #[arg(long)]
    loaded: bool,
    /// How many of the slowest are told with their plans.
    #[arg(long, default_value_t = 10)]
    plans: usize,
}

#[derive(Args)]
struct RunArguments {
    /// FHIR base, such as http://127.0.0.1:8080/fhir; the store behind it should be empty.
    #[arg(long)]
    base_url: String,
    /// Process id of the server.
    #[arg(long)]
    pid: Option<u32>,
    /// Process id of the postmaster.
    #[arg(long)]
    pg_pid: Option<u32>,
    /// Rows to measure, comma-separated; all when absent. The import is done in any case.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Row>,
    /// Folder of transaction Bundles to import instead of our own population.
    #[arg(long, conflicts_with_all = ["patients", "resources_target"])]
    bundles: Option<PathBuf>,
    /// Patients to import.
    #[arg(long, conflicts_with = "resources_target")]
    patients: Option<u64>,
    /// Resources to import, about.
    #[arg(long, default_value_t = 100_000)]
    resources_target: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measured runs of each row.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Factor on the operations of each row.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Longest run of a row other than the import, in seconds.
    #[arg(long, default_value_t = 30)]
    run_seconds_max: u64,
    /// Rest after the import, in seconds, for autovacuum and statistics.
    #[arg(long, default_value_t = 0)]
    rest_seconds: u64,
    /// The server's database, to measure disk and WAL through psql.
    #[arg(long)]
    database_url: Option<String>,
    /// The psql program, or a wrapper of it.
    #[arg(long, default_value = "psql")]
    psql: String,
    /// File for the report as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Command::parse().job {
        Job::Population { patients, seed, out } => write_population(patients, seed, &out),
        Job::Run(arguments) => run(*arguments),
        Job::AsOf(arguments) => look_back(*arguments),
        Job::Cliff(arguments) => find_cliffs(arguments),
        Job::Compare { reports } => {
            print!("{}", compare::markdown(&reports));
            Ok(ExitCode::SUCCESS)
        }
        Job::Growth { plot, reports } => show_growth(&plot, &reports),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("eds-bench: {error}");
        ExitCode::from(2)
    })
}

fn write_population(patients: u64, seed: u64, out: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let resources = Population { seed }.write(patients, out)?;
    println!("{resources} resources of {patients} patients");
    Ok(ExitCode::SUCCESS)
}

fn show_growth(plot: &Path, reports: &[PathBuf]) -> Result<ExitCode, Box<dyn Error>> {
    let mut reports = reports.iter().map(|path| Report::read(path)).collect::<Result<Vec<_>, _>>()?;
    reports.sort_by_key(|report| report.resources);
    fs::write(plot, growth::svg(&reports))?;
    print!("{}", growth::markdown(&reports));
    Ok(ExitCode::SUCCESS)
}

fn find_cliffs(arguments: CliffArguments) -> Result<ExitCode, Box<dyn Error>> {
    let is_met = cliff::run(&Cliff {
        base: BaseUrl::parse(&arguments.base_url)?,
        data: Data {
            observations: arguments.observations,
            patients: arguments.patients,
            seed: arguments.seed,
        },
        is_loaded: arguments.loaded,
        rest_seconds: arguments.rest_seconds,
        beside_seconds: arguments.beside_seconds,
        only: arguments.only,
        plans: arguments.plans,
    })?;
    Ok(ExitCode::from(u8::from(!is_met)))
}

fn look_back(arguments: RunArguments) -> Result<ExitCode, Box<dyn Error>> {
    let report = load::as_of::run(&plan(arguments)?);
    print!("{}", report.markdown());
    Ok(ExitCode::from(u8::from(report.wrong() > 0)))
}

fn run(mut arguments: RunArguments) -> Result<ExitCode, Box<dyn Error>> {
    let out = arguments.out.take();
    let report = load::run(&plan(arguments)?);
    if let Some(path) = &out {
        fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    print!("{}", report.markdown());
    Ok(ExitCode::from(u8::from(report.wrong() > 0)))
}

fn plan(arguments: RunArguments) -> Result<Plan, Box<dyn Error>> {
    let population = Population { seed: arguments.seed };
    let source = match &arguments.bundles {
        Some(folder) => Source::files(folder)?,
        None => Source::Population(population),
    };
    let patients = arguments
        .patients
        .unwrap_or(arguments.resources_target.div_ceil(RESOURCES_PER_PATIENT));
    let bundles = source.count().unwrap_or(patients);
    Ok(Plan {
        bench: Bench {
            base: BaseUrl::parse(&arguments.base_url)?,
            processes: Processes {
                server: arguments.pid,
                postmaster: arguments.pg_pid,
            },
            run_seconds_max: arguments.run_seconds_max,
        },
        source,
        bundles,
        population,
        only: arguments.only,
        runs: arguments.runs as usize,
        scale: arguments.scale,
        rest_seconds: arguments.rest_seconds,
        database: Database {
            psql: arguments.psql,
            url: arguments.database_url,
        },
    })
}
