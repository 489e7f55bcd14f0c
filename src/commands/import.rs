//! `eds import`: transaction Bundles and NDJSON, through the same path as everything else, with validation.

use crate::commands::Database;
use crate::commands::maintain::progress;
use crate::commands::service;
use crate::commands::told;
use crate::config::Config;
use crate::config::sections::OnWrite;
use crate::fhir::json::Value;
use crate::interaction::Service;
use crate::interaction::delete::Asked;
use crate::interaction::ingestion::metadata;
use crate::interaction::parse_json;
use crate::interaction::transaction_plan::plan;
use crate::interaction::write::check;
use crate::interaction::write::ready;
use crate::outcome::Outcome;
use crate::store::unit::Op;
use crate::store::unit::Precondition;
use crate::store::unit::Target;
use crate::store::unit::Unit;
use futures_util::StreamExt;
use std::path::Path;
use std::path::PathBuf;

/// Units on their way at the same time.
const CONCURRENCY: usize = 16;

/// What became of a file or line.
struct Loaded {
    resources: u64,
    errors: Vec<String>,
}

/// Loads the files. Errors: a text when any of them could not be loaded whole; what could be, is.
pub async fn import(mut config: Config, files: &[PathBuf]) -> Result<(), String> {
    // Files come in any order.
    config.integrity.on_write = OnWrite::Ignore;
    let files = expand(files)?;
    let database = Database::open(&config).await?;
    let result = async {
        let service = service(&config, &database.settings).await?;
        let (mut resources, mut failed) = (0, 0);
        let bar = progress(files.len() as u64);
        bar.set_style(
            indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len} files, {msg} resources, {eta} to go")
                .expect("a constant template"),
        );
        let mut loading = futures_util::stream::iter(files.iter())
            .map(|file| load_file(&service, file))
            .buffer_unordered(CONCURRENCY);
        while let Some(loaded) = loading.next().await {
            resources += loaded.resources;
            bar.inc(1);
            bar.set_message(resources.to_string());
            failed += loaded.errors.len();
            for error in loaded.errors.iter().take(10) {
                bar.suspend(|| eprintln!("{error}"));
            }
        }
        drop(loading);
        bar.finish();
        service
            .store
            .bodies
            .train(&service.store.pools.points)
            .await
            .map_err(|e| told(crate::store::database_error(e)))?;
        // The planner chooses by what it knows of the terms' density.
        sqlx::query("analyze")
            .execute(&*service.store.pools.points)
            .await
            .map_err(|e| told(crate::store::database_error(e)))?;
        service.store.close().await;
        println!("{resources} resources from {} files", files.len());
        if failed == 0 {
            Ok(())
        } else {
            Err(format!("{failed} Bundles or lines were refused"))
        }
    };
    let result = result.await;
    database.close().await;
    result
}

fn expand(files: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut all = Vec::new();
    for path in files {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let inside = entries.filter_map(|e| e.ok().map(|e| e.path()));
            all.extend(inside.filter(|p| p.extension().is_some_and(|e| e == "json" || e == "ndjson")));
        } else {
            all.push(path.clone());
        }
    }
    all.sort();
    Ok(all)
}

async fn load_file(service: &Service, path: &Path) -> Loaded {
    let name = path.display().to_string();
    let bytes = match tokio::fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) => {
            return Loaded {
                resources: 0,
                errors: vec![format!("{name}: {error}")],
            };
        }
    };
    let is_lines = path.extension().is_some_and(|e| e == "ndjson");
    let texts: Vec<&[u8]> = if is_lines {
        bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect()
    } else {
        vec![&bytes]
    };
    let mut loaded = Loaded {
        resources: 0,
        errors: Vec::new(),
    };
    let numbered = texts.into_iter().enumerate();
    let mut loading = futures_util::stream::iter(numbered)
        .map(async |(i, text)| (i, load_text(service, text).await))
        .buffer_unordered(CONCURRENCY);
    while let Some((i, result)) = loading.next().await {
        match result {
            Ok(resources) => loaded.resources += resources,
            Err(outcome) => loaded.errors.push(format!("{name}:{}: {}", i + 1, told(outcome))),
        }
    }
    loaded
}

async fn load_text(service: &Service, text: &[u8]) -> Result<u64, Outcome> {
    let unit = {
        let document = parse_json(text)?;
        let root = document.root();
        match root.get_str("type").as_deref() {
            Some("transaction") if crate::interaction::write::is_type(root, "Bundle") => {
                let planned = plan(service, "", root, Asked::AsSet)?;
                planned.check_alone()?;
                planned.unit
            }
            _ => single(service, root)?,
        }
    };
    let count = unit.ops.len() as u64;
    service.writer.apply(unit).await?;
    Ok(count)
}

/// A resource by itself keeps its id, so that loading it twice changes nothing; one without gets a new id.
fn single(service: &Service, resource: Value<'_>) -> Result<Unit, Outcome> {
    let type_name = resource
        .get_str("resourceType")
        .ok_or_else(|| Outcome::invalid("A resource needs a resourceType"))?;
    let type_number = service.type_number(&type_name)?;
    check(service, &type_name, resource)?;
    metadata::check_alone(metadata::of_document(std::iter::once(resource))?)?;
    let content = ready(service, type_number, resource);
    Ok(Unit::single(match resource.get_str("id") {
        Some(id) => Op::Update {
            type_number,
            target: Target::Id(id.into_owned()),
            content,
            precondition: Precondition::None,
        },
        None => Op::Create {
            type_number,
            id: service.store.clock.new_id(),
            content,
            unless: None,
        },
    }))
}
