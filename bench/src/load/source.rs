//! Where the Bundles of an import come from: our population, made as they are needed, or files.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use crate::http::Request;
use crate::population::Population;

/// Bundles by number.
#[derive(Debug)]
pub enum Source {
    Population(Population),
    Files(Vec<PathBuf>),
}

impl Source {
    /// The JSON files of a folder, in the order of their names.
    ///
    /// Errors: a sentence, when the folder cannot be read or has none.
    pub fn files(folder: &Path) -> Result<Source, String> {
        let listing = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut files: Vec<PathBuf> = listing
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        if files.is_empty() {
            Err(format!("{}: no .json file", folder.display()))
        } else {
            Ok(Source::Files(files))
        }
    }

    /// How many Bundles there are; `None` for a population, which has no end.
    pub fn count(&self) -> Option<u64> {
        match self {
            Source::Population(_) => None,
            Source::Files(files) => Some(files.len() as u64),
        }
    }

    /// What the Bundles are, for the report.
    pub fn description(&self) -> String {
        match self {
            Source::Population(population) => format!("the project's own population (seed {})", population.seed),
            Source::Files(files) => format!("{} files given", files.len()),
        }
    }

    /// Bundle number `number`, parsed for the index and ready to send.
    ///
    /// Errors: a sentence, when a file is missing or is not JSON.
    pub fn bundle(&self, number: u64) -> Result<(Value, Request), String> {
        let (bundle, body) = match self {
            Source::Population(population) => {
                let bundle = population.bundle(number);
                let body = serde_json::to_vec(&bundle).map_err(|error| error.to_string())?;
                (bundle, body)
            }
            Source::Files(files) => {
                let path = files.get(number as usize).ok_or("there are no more files")?;
                let body = fs::read(path).map_err(|error| error.to_string())?;
                (serde_json::from_slice(&body).map_err(|error| error.to_string())?, body)
            }
        };
        Ok((bundle, Request::send("POST", String::new(), body)))
    }
}
