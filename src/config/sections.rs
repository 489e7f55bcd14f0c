//! The sections of the settings, typed. Meaning and units of each: `config/default.toml`.

use serde::Deserialize;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::Deref;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    pub base_url: String,
    pub data_dir: String,
    pub body_bytes_max: usize,
    pub body_timeout_s: u64,
    pub requests_running_max: usize,
    pub workers: usize,
    pub shutdown_timeout_s: u64,
    pub dev: bool,
}

impl Server {
    /// Threads that answer requests: as set, or one for each processor.
    pub fn threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            workers => workers,
        }
    }

    /// Requests that are answered at a time: as set, or so many for each thread.
    pub fn requests_running_max(&self) -> usize {
        match self.requests_running_max {
            0 => self.threads() * REQUESTS_OF_THREAD,
            requests => requests,
        }
    }
}

/// Requests for each thread at a time, unless set: writes that wait for one commit together are answered together, so more than a few.
const REQUESTS_OF_THREAD: usize = 32;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Secret,
    pub pool_size_max: u32,
    pub pool_wait_ms: u64,
    pub statement_timeout_ms: u64,
    pub writes_waiting_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    pub folder: String,
    pub age_max_h: u64,
    pub wal_archive: String,
    pub wal_archive_timeout_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// None: off.
    #[serde(deserialize_with = "address_or_off")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    pub url: Secret,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub log: String,
    pub log_format: LogFormat,
    pub otlp_endpoint: String,
    pub trace_percent: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    pub page_entries_default: usize,
    pub page_entries_max: usize,
    pub includes_max: usize,
    pub chain_depth_max: usize,
    pub sort_rows_max: usize,
    pub parameters_max: usize,
    pub values_max: usize,
    pub query_bytes_max: usize,
    pub expansion_codes_max: usize,
    pub total_default: Total,
    pub named_queries: Vec<NamedQuery>,
    pub as_of_age_min_ms: u32,
    pub explain_allowed: bool,
    pub reindex_batch_resources: i64,
    pub reindex_pause_ms: u64,
    pub full_text: FullText,
}

/// What `_text` and `_content` look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FullText {
    Off,
    Narrative,
    Content,
}

/// A search that the operator has written down, for `_query`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedQuery {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// Parameters as a URL has them, not percent-encoded; `{name}` stands for the value of the query's own parameter.
    pub search: String,
}

/// A value of `_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Total {
    None,
    Estimate,
    Accurate,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    pub entries_max: usize,
    pub answer_bytes_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    pub operations_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub conditional: ConditionalDelete,
    pub matches_max: usize,
    pub cascade_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConditionalDelete {
    Single,
    Multiple,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integrity {
    pub on_delete: OnDelete,
    pub on_write: OnWrite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnWrite {
    Ignore,
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDelete {
    Refuse,
    Allow,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    pub document_entries_max: usize,
    pub meta_labels_max: usize,
    pub expunge: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    pub policy_default: Policy,
    pub policies: Vec<ProfilePolicy>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfilePolicy {
    pub profile: String,
    pub policy: Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    Reject,
    Warn,
    Off,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingestion {
    pub callback_url: String,
    pub callback_origins: Vec<String>,
    pub callback_timeout_ms: u64,
    pub retry_schedule_s: Vec<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub enabled: bool,
    pub poll_ms: u64,
    pub batch_entries_max: usize,
    pub request_timeout_ms: u64,
    pub retry_schedule_s: Vec<u64>,
    pub region: Vec<Region>,
}

/// A regional repository: three digits, and the FHIR base it takes its deliveries at; empty for one that fetches its stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    pub code: String,
    pub url: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pertinence {
    pub order: Vec<PertinenceSource>,
    pub default_region: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PertinenceSource {
    Registry,
    DocumentOrigin,
    Default,
}

/// A text that may hold a password: it reads as a `str`, and `{:?}` does not show it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

fn address_or_off<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(serde::de::Error::custom)
}
