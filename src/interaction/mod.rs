//! The interactions of FHIR's RESTful API and the services of EDS, one file for each family. They know no HTTP.
//! Spec: <https://hl7.org/fhir/R4/http.html>.

pub mod as_of;
pub mod capability;
pub mod conformance;
pub mod criteria;
pub mod delete;
pub mod get;
pub mod history;
pub mod ingestion;
pub mod operation;
pub mod patch;
pub mod provenance;
pub mod rda;
pub mod read;
pub mod search;

pub mod transaction;
pub mod transaction_answer;
pub mod transaction_plan;
pub mod transaction_read;
pub mod write;

use crate::clock::instant;
use crate::fhir::json::Document;
use crate::fhir::patch::Limits as PatchLimits;
use crate::fhir::resource::Version;
use crate::fhir::resource::assemble;
use crate::interaction::capability::Capability;
use crate::interaction::delete::Rules as DeleteRules;
use crate::outcome::Category;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::search::cursor::CursorKey;
use crate::search::parse::Limits;
use crate::store;
use crate::store::Store;
use crate::store::read::Reader;
use crate::store::rows::Row;
use crate::store::unit::Applied;
use crate::store::unit::Attestation;
use crate::store::unit::Left;
use crate::store::unit::Op;
use crate::store::unit::Unit;
use crate::store::writer::Writer;
use crate::validate::Validator;
use chrono::DateTime;
use chrono::Utc;
use std::borrow::Cow;
use std::sync::Arc;

/// What every interaction needs.
#[derive(Clone)]
pub struct Service {
    pub store: Store,
    pub writer: Writer,
    pub reader: Reader,
    pub validator: Arc<Validator>,
    pub limits: Arc<Limits>,
    pub cursor_key: Arc<CursorKey>,
    pub bundle_entries_max: usize,
    pub bundle_answer_bytes_max: usize,
    pub patch_limits: PatchLimits,
    pub delete_rules: DeleteRules,
    /// What comes with the writes of this request: see [`provenance`].
    pub provenance: Option<Arc<Attestation>>,
    pub policy: Policy,
    pub operations: operation::Settings,
    pub capability: Arc<Capability>,
}

/// The answer to an interaction; the HTTP layer makes a response of it.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    /// A resource as JSON text.
    pub body: Option<String>,
    pub version: Option<i32>,
    pub updated: Option<DateTime<Utc>>,
    /// `Type/id/_history/version`, relative to the base.
    pub location: Option<String>,
    /// Remarks for `Prefer: return=OperationOutcome`.
    pub remarks: Vec<Issue>,
}

impl Reply {
    pub fn with_body(body: String) -> Reply {
        Reply {
            status: 200,
            body: Some(body),
            ..Reply::default()
        }
    }

    /// The reader has this version already: that of one of the tags, or, without tags, of no later than `since`.
    pub fn is_known(&self, tags: Option<&str>, since: Option<DateTime<Utc>>) -> bool {
        let Some(version) = self.version else { return false };
        if let Some(tags) = tags {
            let same = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"') == version.to_string();
            return tags.split(',').any(|tag| tag.trim() == "*" || same(tag));
        }
        match (since, self.updated) {
            (Some(since), Some(updated)) => updated.timestamp() <= since.timestamp(),
            _ => false,
        }
    }
}

impl Service {
    /// The same service for a thread that answers requests, one of so many. Errors: 500 for a database URL that cannot be read.
    pub fn of_worker(&self, database: &store::Settings, workers: usize) -> Result<Service, Outcome> {
        let store = self.store.of_worker(database, workers)?;
        Ok(Service {
            reader: Reader::start(store.clone()),
            store,
            ..self.clone()
        })
    }

    /// A unit of one operation, with the Provenance that comes with it.
    pub fn unit(&self, op: Op) -> Unit {
        Unit {
            provenance: self.provenance.clone(),
            ..Unit::single(op)
        }
    }

    /// The resource of a row, as a reply.
    pub fn resource(&self, row: &Row) -> Result<Reply, Outcome> {
        let body = row.to_json(&self.store.registry(), &self.store.bodies)?;
        Ok(Reply {
            version: Some(row.version),
            updated: Some(row.updated),
            ..Reply::with_body(body)
        })
    }

    /// The resource that an operation left behind; `None` if it left none. Reads nothing: what was committed is answered.
    /// Errors: 500 when what is stored is damaged.
    pub fn applied_json(&self, applied: &Applied) -> Result<Option<String>, Outcome> {
        let kept = match &applied.left {
            Left::Nothing => return Ok(None),
            Left::Text(kept) => Cow::Borrowed(kept),
            Left::Stored { dictionary, body } => Cow::Owned(self.store.bodies.decompress(*dictionary, body)?),
        };
        let updated = instant(applied.updated);
        let mut out = String::new();
        let version = Version {
            type_name: self.store.registry().name_of(applied.type_number),
            id: &applied.id,
            version: applied.version,
            updated: &updated,
        };
        assemble(&version, &kept, &mut out);
        Ok(Some(out))
    }

    /// The number of a resource type. Errors: 404 for what is no type.
    pub fn type_number(&self, type_name: &str) -> Result<i16, Outcome> {
        let number = self.store.registry().number_of(type_name);
        number.ok_or_else(|| {
            Outcome::not_found(&format!("Resource type {}", crate::search::value::shown(type_name))).with_code("not-supported")
        })
    }
}

/// Reads JSON text. Errors: 400 with line and column.
pub fn parse_json(bytes: &[u8]) -> Result<Document<'_>, Outcome> {
    Document::parse(bytes).map_err(|e| {
        Outcome::new(
            Category::Invalid,
            "structure",
            format!("The body is not JSON as FHIR wants it: {e}"),
        )
    })
}

/// Errors: 413 for parameters that are longer than any search.
pub fn check_length(service: &Service, query: &str) -> Result<(), Outcome> {
    let bytes_max = service.limits.query_bytes_max;
    if query.len() <= bytes_max {
        return Ok(());
    }
    let text = format!("The parameters of a request have at most {bytes_max} bytes (search.query_bytes_max)");
    Err(Outcome::new(Category::TooLarge, "too-long", text))
}

/// The parameters of a query string, a form, or criteria, which may be as long as a body. Errors: 413 for more than the setting allows.
pub fn bounded_pairs(service: &Service, query: &str) -> Result<Vec<(String, String)>, Outcome> {
    check_length(service, query)?;
    Ok(pairs(query))
}

/// The parameters of a query string or form.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}
