//! The commands of `eds`. What each does stands in `commands/`; this file is their table.

use clap::Parser;
use clap::Subcommand;
use eds::commands;
use eds::config::Config;
use eds::config::Flags;
use eds::telemetry;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "eds", version, about = "Open FHIR R4 data repository of Italy's Ecosistema Dati Sanitari")]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server until SIGTERM or Ctrl-C
    Serve,
    /// Brings the database to this version
    Migrate,
    /// Loads transaction Bundles (JSON) and resources (NDJSON)
    Import {
        /// Files; a folder stands for the .json and .ndjson files in it
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Builds the search index of every resource anew
    Reindex,
    /// Takes a backup of the database, of a running server too
    Backup {
        /// Folder to put it into [default: the setting backup.folder]
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Makes a database in a new --data-dir from a backup
    Restore {
        /// The backup: a folder that `eds backup` made
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Folder of the WAL archive; without it the backup is restored to its own end
        #[arg(long, value_name = "DIR")]
        wal_archive: Option<PathBuf>,
        /// Goes back to this instant, as 2026-11-25T17:40:00Z; without it all that the archive has is restored
        #[arg(long, value_name = "INSTANT")]
        until: Option<String>,
    },
    /// Checks the set-up and says in words what is wrong
    Doctor,
    /// Prints what the server does of FHIR, type by type (docs/conformance.md)
    Conformance,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(format!("the runtime did not start: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("eds: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let config = Config::load(&arguments.flags)?;
    let _telemetry = telemetry::start(&config.telemetry)?;
    for name in &config.unknown_variables {
        tracing::warn!(variable = name, "this variable names no setting");
    }
    match arguments.command {
        Command::Serve => commands::serve::serve(config).await,
        Command::Migrate => commands::maintain::migrate(config).await,
        Command::Import { files } => commands::import::import(config, &files).await,
        Command::Reindex => commands::maintain::reindex(config).await,
        Command::Backup { to } => commands::backup::backup(config, to).await,
        Command::Restore { from, wal_archive, until } => commands::restore::restore(config, from, wal_archive, until).await,
        Command::Doctor => commands::doctor::doctor(config).await,
        Command::Conformance => commands::conformance::conformance(&config),
    }
}
