//! Every setting, once: typed here, with unit, default and meaning in `config/default.toml`, which is compiled in.
//!
//! Layers, the later wins: `default.toml` < `--config FILE` < `EDS_...` variables < flags. A key that `default.toml` does not
//! have is an error that names it. This is the only module that reads the environment. Values never appear in error texts:
//! an address of a database may hold a password.

pub mod sections;

use crate::config::sections::Backup;
use crate::config::sections::Bundle;
use crate::config::sections::Database;
use crate::config::sections::Delete;
use crate::config::sections::Delivery;
use crate::config::sections::Ingestion;
use crate::config::sections::Integrity;
use crate::config::sections::Metrics;
use crate::config::sections::Operation;
use crate::config::sections::Patch;
use crate::config::sections::Pertinence;
use crate::config::sections::Redis;
use crate::config::sections::Region;
use crate::config::sections::Search;
use crate::config::sections::Server;
use crate::config::sections::Telemetry;
use crate::config::sections::Validation;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::Table;
use toml::Value;

const DEFAULT: &str = include_str!("../config/default.toml");

/// All settings. Meaning and units: `config/default.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub database: Database,
    pub backup: Backup,
    pub metrics: Metrics,
    pub redis: Redis,
    pub telemetry: Telemetry,
    pub search: Search,
    pub bundle: Bundle,
    pub operation: Operation,
    pub patch: Patch,
    pub delete: Delete,
    pub integrity: Integrity,
    pub validation: Validation,
    pub ingestion: Ingestion,
    pub delivery: Delivery,
    pub pertinence: Pertinence,
    /// `EDS_...` variables that name no setting: to be warned of, not refused, since platforms set variables of their own.
    #[serde(skip)]
    pub unknown_variables: Vec<String>,
}

/// The settings that have a flag; flatten it into the arguments of each command.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct Flags {
    /// Address and port to listen on [env: EDS_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT", global = true)]
    pub listen: Option<String>,
    /// PostgreSQL to use instead of a private one [env: EDS_DATABASE_URL]
    #[arg(long, value_name = "URL", global = true)]
    pub database_url: Option<String>,
    /// Folder of the private PostgreSQL [env: EDS_DATA_DIR]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<String>,
    /// File of settings, see config/default.toml [env: EDS_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Development: no authentication, on a loopback address only [env: EDS_DEV]
    #[arg(long, global = true)]
    pub dev: bool,
}

impl Config {
    /// Reads all layers and checks the result.
    /// Errors: a text that names the file or variable and the key, and what would be right.
    pub fn load(flags: &Flags) -> Result<Config, String> {
        let variables = variables()?;
        let path = flags.config.clone().or_else(|| variables.get("EDS_CONFIG").map(PathBuf::from));
        let file = match path {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|e| format!("the settings file {}: {e}", path.display()))?;
                Some((path.display().to_string(), text))
            }
        };
        assemble(file.as_ref().map(|(name, text)| (name.as_str(), text.as_str())), &variables, flags)
    }

    /// The settings of `default.toml` alone. For tests.
    pub fn defaults() -> Result<Config, String> {
        assemble(None, &BTreeMap::new(), &Flags::default())
    }

    /// Whether `serve` may start. This release cannot verify tokens, so it serves only what no other machine can reach.
    pub fn may_serve(&self) -> Result<(), String> {
        if !self.server.dev {
            return Err(
                "this release does not verify access tokens yet, so it serves only in development mode: start it with --dev \
                        (or EDS_DEV=true), which switches authentication off and keeps the server on this machine (loopback)"
                    .to_owned(),
            );
        }
        if !self.server.listen.ip().is_loopback() {
            let port = self.server.listen.port();
            return Err(format!(
                "--dev switches authentication off and is only for a loopback address, not {}: use --listen 127.0.0.1:{port}",
                self.server.listen
            ));
        }
        Ok(())
    }

    /// The data folder: as set, or the one of the user who runs the server.
    pub fn data_dir(&self) -> Result<PathBuf, String> {
        if !self.server.data_dir.is_empty() {
            return std::path::absolute(&self.server.data_dir).map_err(|e| format!("server.data_dir: {e}"));
        }
        if nix::unistd::geteuid().is_root() {
            return Ok(PathBuf::from("/var/lib/eds"));
        }
        let home = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
        let home = home.filter(|path| path.is_absolute());
        home.map(|path| path.join("eds"))
            .ok_or_else(|| "HOME is not set: say with --data-dir where the data are to be kept".to_owned())
    }

    fn check(&self) -> Result<(), String> {
        for (key, value) in [
            ("server.body_bytes_max", self.server.body_bytes_max),
            ("database.pool_size_max", self.database.pool_size_max as usize),
            ("search.page_entries_default", self.search.page_entries_default),
            ("search.page_entries_max", self.search.page_entries_max),
            ("search.parameters_max", self.search.parameters_max),
            ("search.values_max", self.search.values_max),
            ("search.query_bytes_max", self.search.query_bytes_max),
            ("search.expansion_codes_max", self.search.expansion_codes_max),
            (
                "search.reindex_batch_resources",
                usize::try_from(self.search.reindex_batch_resources).unwrap_or_default(),
            ),
            ("bundle.entries_max", self.bundle.entries_max),
            ("bundle.answer_bytes_max", self.bundle.answer_bytes_max),
            ("operation.document_entries_max", self.operation.document_entries_max),
            ("operation.meta_labels_max", self.operation.meta_labels_max),
            ("patch.operations_max", self.patch.operations_max),
            ("delete.matches_max", self.delete.matches_max),
            ("delete.cascade_max", self.delete.cascade_max),
            ("database.writes_waiting_max", self.database.writes_waiting_max),
            ("delivery.batch_entries_max", self.delivery.batch_entries_max),
            ("delivery.poll_ms", self.delivery.poll_ms as usize),
            ("delivery.retry_schedule_s", self.delivery.retry_schedule_s.len()),
            ("ingestion.retry_schedule_s", self.ingestion.retry_schedule_s.len()),
            ("pertinence.order", self.pertinence.order.len()),
            ("backup.age_max_h", self.backup.age_max_h as usize),
            ("backup.wal_archive_timeout_s", self.backup.wal_archive_timeout_s as usize),
        ] {
            if value == 0 {
                return Err(format!("{key} must not be 0 or empty"));
            }
        }
        if self.search.page_entries_default > self.search.page_entries_max {
            return Err("search.page_entries_default must not be above search.page_entries_max".to_owned());
        }
        if self.telemetry.trace_percent > 100 {
            return Err("telemetry.trace_percent must be 0 to 100".to_owned());
        }
        check_url("server.base_url", &self.server.base_url)?;
        check_url("telemetry.otlp_endpoint", &self.telemetry.otlp_endpoint)?;
        check_url("ingestion.callback_url", &self.ingestion.callback_url)?;
        check_scheme("database.url", &self.database.url, &["postgres://", "postgresql://"])?;
        check_scheme("redis.url", &self.redis.url, &["redis://", "rediss://", "unix://", "redis+unix://"])?;
        check_regions(&self.delivery.region, &self.pertinence.default_region)
    }
}

/// The directories of PATH, for finding programs.
pub fn program_dirs() -> Vec<PathBuf> {
    variable("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variables() -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("EDS_")) else {
            continue;
        };
        let value = value.into_string().map_err(|_| format!("the variable {name} is not UTF-8"))?;
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

/// All layers as values, so that the rules are tested without a process: `file` is a name and its text.
fn assemble(file: Option<(&str, &str)>, variables: &BTreeMap<String, String>, flags: &Flags) -> Result<Config, String> {
    let mut table = defaults()?;
    if let Some((name, text)) = file {
        let layer: Table = text.parse().map_err(|e| format!("{name}: {e}"))?;
        merge(&mut table, layer, name)?;
    }
    let unknown_variables = merge_variables(&mut table, variables)?;
    for (section, key, value) in [
        ("server", "listen", flags.listen.clone().map(Value::String)),
        ("server", "data_dir", flags.data_dir.clone().map(Value::String)),
        ("server", "dev", flags.dev.then_some(Value::Boolean(true))),
        ("database", "url", flags.database_url.clone().map(Value::String)),
    ] {
        if let (Some(value), Some(Value::Table(keys))) = (value, table.get_mut(section)) {
            keys.insert(key.to_owned(), value);
        }
    }
    let mut config = typed(table)?;
    config.unknown_variables = unknown_variables;
    config
        .ingestion
        .callback_origins
        .extend(config.server.dev.then(|| "loopback".to_owned()));
    config.check()?;
    Ok(config)
}

/// The error of a typed read does not say which key it is about: the key that fails on top of the defaults is the one.
fn typed(table: Table) -> Result<Config, String> {
    let error = match table.clone().try_into::<Config>() {
        Ok(config) => return Ok(config),
        Err(error) => error.message().to_owned(),
    };
    for (section, keys) in &table {
        for (key, value) in keys.as_table().into_iter().flatten() {
            let mut one = defaults()?;
            if let Some(Value::Table(keys)) = one.get_mut(section) {
                keys.insert(key.clone(), value.clone());
            }
            if let Err(error) = one.try_into::<Config>() {
                return Err(format!("{section}.{key}: {}", error.message()));
            }
        }
    }
    Err(error)
}

fn defaults() -> Result<Table, String> {
    DEFAULT.parse().map_err(|e| format!("config/default.toml: {e}"))
}

/// Lays the settings of a file over the table. Both are exactly two levels deep: sections and keys.
fn merge(table: &mut Table, layer: Table, name: &str) -> Result<(), String> {
    for (section, keys) in layer {
        let Some(Value::Table(known)) = table.get_mut(&section) else {
            return Err(format!(
                "{name}: {section} is not a known section; config/default.toml lists them all"
            ));
        };
        let Value::Table(keys) = keys else {
            return Err(format!("{name}: {section} is a section and must be written [{section}]"));
        };
        for (key, value) in keys {
            let Some(place) = known.get_mut(&key) else {
                return Err(format!(
                    "{name}: {section}.{key} is not a known setting; config/default.toml lists them all"
                ));
            };
            *place = value;
        }
    }
    Ok(())
}

/// Lays the variables over the table, and gives back the names of those that are no setting.
fn merge_variables(table: &mut Table, variables: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut unknown: Vec<String> = variables.keys().filter(|name| *name != "EDS_CONFIG").cloned().collect();
    for (section, keys) in table.iter_mut() {
        for (key, place) in keys.as_table_mut().into_iter().flatten() {
            let name = variable_name(section, key);
            let name_of_file = format!("{name}_FILE");
            let text = match (variables.get(&name), variables.get(&name_of_file)) {
                (Some(_), Some(_)) => return Err(format!("{name} and {name_of_file} are both set: one is enough")),
                (Some(text), None) => text.clone(),
                (None, Some(path)) => {
                    let text = std::fs::read_to_string(path).map_err(|e| format!("the file of {name_of_file}: {e}"))?;
                    text.trim_end().to_owned()
                }
                (None, None) => continue,
            };
            unknown.retain(|other| *other != name && *other != name_of_file);
            *place = value_of(place, text).ok_or_else(|| format!("{name} must be written as {section}.{key} in config/default.toml is"))?;
        }
    }
    Ok(unknown)
}

/// `EDS_` and the section and key; the section `server` is not said.
fn variable_name(section: &str, key: &str) -> String {
    let name = if section == "server" {
        key.to_owned()
    } else {
        format!("{section}_{key}")
    };
    format!("EDS_{}", name.to_uppercase())
}

/// The text of a variable as the kind of value that it replaces.
fn value_of(replaced: &Value, text: String) -> Option<Value> {
    if replaced.is_str() {
        return Some(Value::String(text));
    }
    let value = format!("value = {text}").parse::<Table>().ok()?.remove("value")?;
    value.same_type(replaced).then_some(value)
}

fn check_scheme(key: &str, url: &str, schemes: &[&str]) -> Result<(), String> {
    if url.is_empty() || schemes.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(());
    }
    Err(format!("{key} must begin with {}", schemes.join(" or ")))
}

fn check_url(key: &str, url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Ok(());
    }
    let parsed = reqwest::Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match parsed {
        Some(parsed) if parsed.query().is_none() && parsed.fragment().is_none() && !url.ends_with('/') => Ok(()),
        _ => Err(format!("{key} must be an http or https address without a slash at its end")),
    }
}

fn check_regions(regions: &[Region], default_region: &str) -> Result<(), String> {
    let is_code = |code: &str| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    for (i, region) in regions.iter().enumerate() {
        if !is_code(&region.code) {
            return Err(format!(
                "delivery.region: {:?} is not a code of three digits, as \"120\"",
                region.code
            ));
        }
        if regions[..i].iter().any(|other| other.code == region.code) {
            return Err(format!("delivery.region: {} is there twice", region.code));
        }
        // Without an address the region pulls.
        if !region.url.is_empty() {
            check_url(&format!("delivery.region {}: url", region.code), &region.url)?;
        }
    }
    if !default_region.is_empty() && !is_code(default_region) {
        return Err("pertinence.default_region must be a code of three digits, as \"120\"".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
