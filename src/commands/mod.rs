//! The commands, and the only wiring: from settings to a running [`Service`].

pub mod backup;
pub mod conformance;
pub mod doctor;
pub mod import;
pub mod maintain;
pub mod restore;
pub mod serve;

use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::config::sections::ConditionalDelete;
use crate::config::sections::OnDelete;
use crate::config::sections::OnWrite;
use crate::fhir::definitions::definitions;
use crate::fhir::patch::Limits as PatchLimits;
use crate::interaction::Service;
use crate::interaction::delete::Rules as DeleteRules;
use crate::interaction::operation;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::search::cursor::CursorKey;
use crate::search::full_text::FullText;
use crate::search::named::NamedQuery;
use crate::search::parameters::Registry;
use crate::search::parse::Limits;
use crate::search::parse::Total;
use crate::store::Settings;
use crate::store::Store;
use crate::store::cluster;
use crate::store::cluster::Options;
use crate::store::cluster::Reached;
use crate::store::cluster::archive::Archive;
use crate::store::database_error;
use crate::store::read::Reader;
use crate::store::writer::Writer;
use crate::validate;
use crate::validate::ProfilePolicies;
use crate::validate::Validator;
use std::sync::Arc;

/// The database that the settings name, or a private one that stops with this process.
pub struct Database {
    pub settings: Settings,
    private: Option<Reached>,
}

impl Database {
    /// For oneself alone, when it is a private one. Errors: a text for the operator.
    pub async fn open(config: &Config) -> Result<Database, String> {
        let private = match config.database.url.is_empty() {
            true => Some(Reached::Started(
                cluster::start_with(&config.data_dir()?, cluster_options(config)?).await?,
            )),
            false => None,
        };
        Ok(Database::of(config, private))
    }

    /// Beside a server that may be running. Errors: a text for the operator.
    pub async fn visit(config: &Config) -> Result<Database, String> {
        let private = match config.database.url.is_empty() {
            true => Some(cluster::reach(&config.data_dir()?, cluster_options(config)?).await?),
            false => None,
        };
        Ok(Database::of(config, private))
    }

    fn of(config: &Config, private: Option<Reached>) -> Database {
        let url = private.as_ref().map_or_else(|| config.database.url.to_string(), Reached::url);
        Database {
            settings: settings(config, url),
            private,
        }
    }

    pub async fn close(self) {
        if let Some(private) = self.private {
            private.leave().await;
        }
    }
}

fn settings(config: &Config, url: String) -> Settings {
    Settings {
        url,
        pool_size_max: config.database.pool_size_max,
        pool_wait_ms: config.database.pool_wait_ms,
        statement_timeout_ms: config.database.statement_timeout_ms,
    }
}

fn cluster_options(config: &Config) -> Result<Options, String> {
    let folder = match config.backup.wal_archive.as_str() {
        "" => return Ok(Options::default()),
        folder => std::path::absolute(folder).map_err(|e| format!("backup.wal_archive: {e}"))?,
    };
    let archive = Archive {
        folder,
        timeout_s: config.backup.wal_archive_timeout_s,
    };
    Ok(Options {
        archive: Some(archive),
        ..Options::default()
    })
}

/// Everything that interactions need, on an open database. Errors: a text for the operator.
pub async fn service(config: &Config, database: &Settings) -> Result<Service, String> {
    let definitions = definitions();
    let registry = Registry::load(definitions)?.with_base(&limits(config).base_url);
    let registry = Arc::new(registry.with_full_text(full_text(config)));
    let validator = Arc::new(Validator::load(definitions, policies(config))?);
    let mut store = Store::open(database, registry, Clock::System).await.map_err(told)?;
    store.checks_targets = config.integrity.on_write == OnWrite::Refuse;
    let key: Vec<u8> = sqlx::query_scalar("select cursor_key from repository")
        .fetch_one(&*store.pools.points)
        .await
        .map_err(|e| told(database_error(e)))?;
    Ok(Service {
        writer: Writer::start(store.clone(), config.database.writes_waiting_max),
        reader: Reader::start(store.clone()),
        validator,
        limits: Arc::new(limits(config)),
        cursor_key: Arc::new(CursorKey::new(&key).map_err(told)?),
        bundle_entries_max: config.bundle.entries_max,
        bundle_answer_bytes_max: config.bundle.answer_bytes_max,
        patch_limits: PatchLimits {
            operations_max: config.patch.operations_max,
            bytes_max: config.server.body_bytes_max,
        },
        provenance: None,
        delete_rules: DeleteRules {
            is_multiple: config.delete.conditional == ConditionalDelete::Multiple,
            matches_max: config.delete.matches_max,
            cascade_max: config.delete.cascade_max,
            refuses_referrers: config.integrity.on_delete == OnDelete::Refuse,
        },
        policy: Policy::NotWithdrawn,
        capability: Arc::default(),
        operations: operation::Settings {
            document_entries_max: config.operation.document_entries_max,
            meta_labels_max: config.operation.meta_labels_max,
            expunge: config.operation.expunge,
        },
        store,
    })
}

fn limits(config: &Config) -> Limits {
    let base_url = match config.server.base_url.as_str() {
        "" => String::new(),
        base => format!("{base}/fhir"),
    };
    Limits {
        parameters_max: config.search.parameters_max,
        values_max: config.search.values_max,
        query_bytes_max: config.search.query_bytes_max,
        expansion_codes_max: config.search.expansion_codes_max,
        chain_depth_max: config.search.chain_depth_max,
        sort_rows_max: config.search.sort_rows_max,
        page_entries_default: config.search.page_entries_default,
        page_entries_max: config.search.page_entries_max,
        includes_max: config.search.includes_max,
        total_default: match config.search.total_default {
            config::sections::Total::None => Total::None,
            config::sections::Total::Estimate => Total::Estimate,
            config::sections::Total::Accurate => Total::Accurate,
        },
        named_queries: config.search.named_queries.iter().map(named_query).collect(),
        as_of_age_min_ms: config.search.as_of_age_min_ms,
        explain_allowed: config.search.explain_allowed,
        base_url,
    }
}

/// What of each resource's text is indexed.
pub fn full_text(config: &Config) -> FullText {
    match config.search.full_text {
        config::sections::FullText::Off => FullText::Off,
        config::sections::FullText::Narrative => FullText::Narrative,
        config::sections::FullText::Content => FullText::Content,
    }
}

fn named_query(query: &config::sections::NamedQuery) -> NamedQuery {
    NamedQuery {
        name: query.name.clone(),
        type_name: query.type_name.clone(),
        search: query.search.clone(),
    }
}

/// The policy of each of our profiles: as named, or the default.
fn policies(config: &Config) -> ProfilePolicies {
    let policy = |policy| match policy {
        config::sections::Policy::Reject => validate::Policy::Reject,
        config::sections::Policy::Warn => validate::Policy::Warn,
        config::sections::Policy::Off => validate::Policy::Off,
    };
    ProfilePolicies {
        default: policy(config.validation.policy_default),
        policies: config
            .validation
            .policies
            .iter()
            .map(|p| (p.profile.clone(), policy(p.policy)))
            .collect(),
    }
}

/// An outcome in words, with what is for operators only.
pub fn told(outcome: Outcome) -> String {
    match &outcome.internal {
        Some(internal) => format!("{}: {internal}", outcome.summary()),
        None => outcome.summary(),
    }
}
