//! The EDS ingestion API: documents taken in, replaced, described anew, deleted.
//!
//! Create and replace are accepted when they stand in the table `ingestion`, and carried out in order per document (`queue`); metadata
//! updates and deletions are carried out while their caller waits, after what waits for the same identifier. The final status of what was
//! accepted is told to the caller's endpoint (`callback`). The feeding system may change what it has obscured; nobody reads it.
//! Source: UA-R ingestion specification (integrazione-uar.md) 2 and 3.1; integrazione-gateway.md 11. See docs/api/ingestion.md.

pub mod callback;
pub mod document;
pub mod metadata;
pub mod queue;
pub mod rome;

use crate::clock::instant;
use crate::fhir::json::Document;
use crate::fhir::regions;
use crate::interaction::Service;
use crate::interaction::ingestion::callback::Callbacks;
use crate::interaction::ingestion::metadata::Metadata;
use crate::interaction::write::check;
use crate::interaction::write::ready;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::store::database_error;
use crate::store::document::DocumentAction;
use crate::store::document_rows as documents;
use crate::store::ingestion;
use crate::store::ingestion::Accepted;
use crate::store::ingestion::Operation;
use crate::store::ingestion::Standing;
use crate::store::unit::Op;
use crate::store::unit::Precondition;
use crate::store::unit::Target;
use crate::store::unit::Unit;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Longest identifier and workflowInstanceId, in characters (UA-R OpenAPI).
pub const NAME_LENGTH_MAX: usize = 256;
/// How long an update or a deletion waits for what was accepted before it.
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often the turn is looked for when no notice comes: another node may have the work.
const TURN_POLL: Duration = Duration::from_millis(50);
/// How often an update is tried again when the DocumentReference changes under it.
const UPDATES_MAX: usize = 5;
const HEALTH_WAIT_MAX: Duration = Duration::from_secs(2);
/// zstd level of waiting bodies: they stand there for moments.
const LEVEL: i32 = 1;
/// Said while an operation waits: the specification's only status that is not final.
const PENDING: &str = "ASYNC_RETRY";

/// The ingestion API on this node.
#[derive(Clone)]
pub struct Ingestion {
    work: Arc<Work>,
}

/// What the loops and the callers share.
pub struct Work {
    service: Service,
    callbacks: Callbacks,
    /// Rung when an operation was accepted.
    accepted: Notify,
    /// Rung when an operation has ended.
    ended: Notify,
    /// Rung when a callback is due.
    callback_due: Notify,
    stop: watch::Sender<bool>,
    loops: Mutex<Vec<JoinHandle<()>>>,
}

/// A workflow as `GET /v1/status/{wii}` and the callback tell it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub workflow_instance_id: String,
    /// CREATE, REPLACE, UPDATE or DELETE
    #[serde(rename = "type")]
    pub operation: String,
    pub insertion_date: String,
    pub status: String,
    /// The region that delivered the service, by the document's identifier.
    pub rde: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl From<Standing> for Status {
    fn from(standing: Standing) -> Status {
        Status {
            rde: regions::of_document(&standing.identifier),
            workflow_instance_id: standing.workflow_instance_id,
            operation: standing.operation,
            insertion_date: instant(standing.accepted),
            status: standing.status.unwrap_or_else(|| PENDING.to_owned()),
            message: standing.message,
        }
    }
}

impl Work {
    async fn conn(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.service.store.pools.points.acquire().await
    }
}

impl Ingestion {
    /// Takes up what waits in the database. Errors: a setting that cannot be used.
    pub async fn start(service: Service, settings: &crate::config::sections::Ingestion) -> Result<Ingestion, Outcome> {
        let callbacks = Callbacks::new(settings)?;
        let (stop, stopping) = watch::channel(false);
        let work = Work {
            service,
            callbacks,
            accepted: Notify::new(),
            ended: Notify::new(),
            callback_due: Notify::new(),
            stop,
            loops: Mutex::default(),
        };
        let work = Arc::new(work);
        let loops = vec![
            tokio::spawn(queue::run(work.clone(), stopping.clone())),
            tokio::spawn(callback::run(work.clone(), stopping)),
        ];
        *work.loops.lock().expect("nothing panics while it holds this lock") = loops;
        Ok(Ingestion { work })
    }

    /// Finishes what runs; what waits stays for the next start.
    pub async fn stop(&self) {
        // The loops may have ended.
        let _ = self.work.stop.send(true);
        let loops = std::mem::take(&mut *self.work.loops.lock().expect("nothing panics while it holds this lock"));
        for ended in loops {
            // A loop that panicked has told so in the log.
            let _ = ended.await;
        }
    }

    /// Accepts a new document: it is durable when this returns. Errors: 400; 503.
    pub async fn create(&self, wii: &str, identifier: &str, bundle: &str, callback: Option<&str>) -> Result<(), Outcome> {
        self.accept(Operation::Create, wii, identifier, bundle, callback).await
    }

    /// Accepts a document instead of the one that has the identifier. Errors: 404 when none has; 400; 503.
    pub async fn replace(&self, wii: &str, identifier: &str, bundle: &str, callback: Option<&str>) -> Result<(), Outcome> {
        self.accept(Operation::Replace, wii, identifier, bundle, callback).await
    }

    async fn accept(&self, operation: Operation, wii: &str, identifier: &str, bundle: &str, callback: Option<&str>) -> Result<(), Outcome> {
        check_name(wii, "workflowInstanceId")?;
        check_name(identifier, "identifier")?;
        let callback_url = self.work.callbacks.url(callback)?;
        document::check(bundle).map_err(|e| e.at("jsonString"))?;
        let body = zstd::bulk::compress(bundle.as_bytes(), LEVEL).map_err(Outcome::internal)?;
        let now = self.work.service.store.clock.now();
        let mut conn = self.work.conn().await.map_err(database_error)?;
        if operation == Operation::Replace && !ingestion::is_expected(&mut conn, identifier).await.map_err(database_error)? {
            return Err(Outcome::not_found("The document"));
        }
        let accepted = Accepted {
            workflow_instance_id: wii,
            operation,
            identifier,
            body: &body,
            callback_url: callback_url.as_deref(),
        };
        ingestion::accept(&mut conn, &accepted, now).await.map_err(database_error)?;
        self.work.accepted.notify_one();
        Ok(())
    }

    /// Changes the DocumentReference, and hides or shows the document (P99, P00), in one transaction. Errors: 404; 400; 503.
    pub async fn update_metadata(&self, identifier: &str, metadata: &Metadata) -> Result<(), Outcome> {
        check_name(identifier, "identifier")?;
        metadata.obscures()?;
        self.turn(identifier).await?;
        let mut attempts = 1;
        loop {
            let unit = self.metadata_unit(identifier, metadata).await?;
            match self.work.service.writer.apply(unit).await {
                Err(outcome) if outcome.category == Category::PreconditionFailed && attempts < UPDATES_MAX => attempts += 1,
                Err(outcome) if outcome.category == Category::PreconditionFailed => {
                    let text = format!("Others came before each of {UPDATES_MAX} attempts to change the document (UPDATES_MAX); try again");
                    return Err(Outcome::unavailable(text));
                }
                result => {
                    result?;
                    break;
                }
            }
        }
        self.note(Operation::Update, identifier).await;
        Ok(())
    }

    async fn metadata_unit(&self, identifier: &str, metadata: &Metadata) -> Result<Unit, Outcome> {
        let service = &self.work.service;
        let mut conn = self.work.conn().await.map_err(database_error)?;
        let rows = documents::members_of(&service.store, &mut conn, identifier, &["DocumentReference"])
            .await
            .map_err(database_error)?;
        let rows = rows.ok_or_else(|| Outcome::not_found("The document"))?;
        let mut unit = Unit::default();
        match rows.first() {
            Some(row) => {
                let text = metadata.apply(&row.to_json(&service.store.registry(), &service.store.bodies)?)?;
                let changed = Document::parse_str(&text).map_err(|e| Outcome::internal(format!("metadata made no JSON: {e}")))?;
                check(service, "DocumentReference", changed.root())?;
                let content = ready(service, row.type_number, changed.root());
                unit.ops.push(Op::Update {
                    type_number: row.type_number,
                    target: Target::Id(row.id.clone()),
                    content,
                    precondition: Precondition::Stored(row.version),
                });
            }
            None if metadata.obscures()?.is_none() => return Err(Outcome::not_found("The document's DocumentReference")),
            None => {}
        }
        let identifier = identifier.to_owned();
        unit.document = metadata.obscures()?.map(|hides| {
            if hides {
                DocumentAction::Withdraw { identifier }
            } else {
                DocumentAction::Restore { identifier }
            }
        });
        Ok(unit)
    }

    /// Deletes what the document owns. Errors: 404; 503.
    pub async fn delete(&self, identifier: &str) -> Result<(), Outcome> {
        check_name(identifier, "identifier")?;
        self.turn(identifier).await?;
        let unit = Unit {
            document: Some(DocumentAction::Remove {
                identifier: identifier.to_owned(),
            }),
            ..Unit::default()
        };
        self.work.service.writer.apply(unit).await?;
        self.note(Operation::Delete, identifier).await;
        Ok(())
    }

    /// Waits until what was accepted for the identifier has been carried out. Errors: 503 when that takes too long.
    async fn turn(&self, identifier: &str) -> Result<(), Outcome> {
        let begin = Instant::now();
        loop {
            // Asked for before the look, so that an end between the two is not missed.
            let ended = self.work.ended.notified();
            let mut conn = self.work.conn().await.map_err(database_error)?;
            if !ingestion::has_waiting(&mut conn, identifier).await.map_err(database_error)? {
                return Ok(());
            }
            drop(conn);
            if begin.elapsed() > TURN_WAIT_MAX {
                return Err(Outcome::unavailable(format!(
                    "Earlier operations on this document are not carried out within {} s (TURN_WAIT_MAX); try again",
                    TURN_WAIT_MAX.as_secs()
                )));
            }
            // Whichever comes first: the look follows in both cases.
            let _ = tokio::time::timeout(TURN_POLL, ended).await;
        }
    }

    /// The specification gives these operations no workflowInstanceId: they get one of its form for deletions and updates.
    async fn note(&self, operation: Operation, identifier: &str) {
        let hash: String = Sha256::digest(identifier.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let random: String = self
            .work
            .service
            .store
            .clock
            .new_id()
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(10)
            .collect();
        let wii = format!("{hash}.{random}^^^^urn:ihe:iti:xdw:2013:workflowInstanceId");
        let now = self.work.service.store.clock.now();
        let noted = match self.work.conn().await {
            Ok(mut conn) => ingestion::record(&mut conn, &wii, operation, identifier, now).await,
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            // It is done: the caller must not hear that it failed.
            tracing::warn!(
                operation = operation.name(),
                error = database_error(error).internal,
                "an operation was carried out and could not be noted"
            );
        }
    }

    /// How the latest operation of a workflow stands. Errors: 404; 503.
    pub async fn status(&self, wii: &str) -> Result<Status, Outcome> {
        check_name(wii, "workflowInstanceId")?;
        let mut conn = self.work.conn().await.map_err(database_error)?;
        let standing = ingestion::latest(&mut conn, wii).await.map_err(database_error)?;
        standing
            .map(Status::from)
            .ok_or_else(|| Outcome::not_found("The workflowInstanceId"))
    }

    /// Errors: 503 when the database does not answer.
    pub async fn health(&self) -> Result<(), Outcome> {
        let ping = async { ingestion::ping(&mut *self.work.conn().await?).await };
        let away = |_| {
            Outcome::unavailable(format!(
                "The database does not answer within {} s (HEALTH_WAIT_MAX)",
                HEALTH_WAIT_MAX.as_secs()
            ))
        };
        tokio::time::timeout(HEALTH_WAIT_MAX, ping)
            .await
            .map_err(away)?
            .map_err(database_error)
    }
}

/// Errors: 400 for a name that is empty, too long, or holds control characters.
fn check_name(text: &str, what: &str) -> Result<(), Outcome> {
    let length = text.chars().count();
    if length == 0 || length > NAME_LENGTH_MAX || text.chars().any(char::is_control) {
        return Err(Outcome::invalid(format!(
            "It has 1 to {NAME_LENGTH_MAX} characters, none of them a control character"
        ))
        .with_code("value")
        .at(what));
    }
    Ok(())
}
