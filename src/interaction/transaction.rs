//! FHIR batch and transaction. A transaction is one unit of the write path: all or nothing.
//!
//! Bundles that carry a clinical document (an identifier, and one Composition with an identifier, as the ministry's gateway writes them) are
//! recognised by the Composition's identifier: the same document again changes nothing and is answered with the resources that it has.
//! Spec: <https://hl7.org/fhir/R4/http.html#transaction>. What GET reads ([`Get`]) an entry reads too, after the commit. Not supported: HEAD entries.

use crate::fhir::json::Value;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::delete;
use crate::interaction::delete::Asked;
use crate::interaction::delete::Wish;
use crate::interaction::get::Get;
use crate::interaction::parse_json;
use crate::interaction::patch;
use crate::interaction::transaction_answer::Answer;
use crate::interaction::transaction_answer::Return;
use crate::interaction::transaction_answer::answer_bundle;
use crate::interaction::transaction_plan::Planned;
use crate::interaction::transaction_plan::plan;
use crate::interaction::transaction_read::BundleType;
use crate::interaction::transaction_read::Entry;
use crate::interaction::transaction_read::Method;
use crate::interaction::transaction_read::bundle_type;
use crate::interaction::transaction_read::entries;
use crate::interaction::write;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::search::parse::Handling;
use crate::store::unit::Op;
use futures_util::StreamExt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Entries of a batch that are carried out at the same time.
const BATCH_CONCURRENCY: usize = 16;

/// What a client asks beside the Bundle itself.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    pub wanted: Return,
    pub handling: Handling,
    /// What becomes of those that refer to what is deleted.
    pub referrers: Asked,
}

/// `POST [base]` with a Bundle.
pub async fn transaction(service: &Service, base: &str, body: &[u8], wishes: Wishes) -> Result<Reply, Outcome> {
    let document = parse_json(body)?;
    let bundle = document.root();
    match bundle_type(bundle)? {
        BundleType::Batch if service.provenance.is_some() => {
            let text = "X-Provenance goes with a transaction and with single writes: the entries of a batch have nothing in common that it could tell of";
            Err(Outcome::invalid(text).with_code("value").at("X-Provenance"))
        }
        BundleType::Batch => batch(service, base, bundle, wishes).await,
        BundleType::Transaction => {
            let planned = plan(service, base, bundle, wishes.referrers)?;
            planned.check_alone()?;
            let answer = carry_out(service, base, planned, wishes).await?;
            answer_bundle(service, base, "transaction-response", &answer, wishes.wanted)
        }
    }
}

async fn carry_out(service: &Service, base: &str, planned: Planned<'_>, wishes: Wishes) -> Result<Answer, Outcome> {
    let Wishes { wanted, handling, .. } = wishes;
    let Planned { mut unit, entries, op_of } = planned;
    unit.provenance = service.provenance.clone();
    check_reads(service, base, &entries, handling).await?;
    let deletions = unit.ops.iter().filter(|op| matches!(op, Op::Delete { .. })).count();
    let written = match unit.ops.is_empty() {
        true => None,
        false => Some(service.writer.apply(unit).await?),
    };
    let mut replies = Vec::with_capacity(entries.len());
    for (i, (entry, op)) in entries.iter().zip(&op_of).enumerate() {
        // A known document's members stand in the order of its operations too, but for the deletions, which come first and leave no member.
        let applied = written.as_ref().zip(*op).and_then(|(written, op)| match written.is_known_document {
            true => written.applied.get(op.checked_sub(deletions)?),
            false => written.applied.get(op),
        });
        replies.push(match (applied, entry.method) {
            (Some(applied), _) => {
                let mut reply = write::reply_of(service, applied);
                if applied.deleted > 1 {
                    reply = delete::told(reply, applied, true);
                }
                if wanted == Return::Representation {
                    reply.body = service.applied_json(applied).unwrap_or_else(|outcome| {
                        // The transaction is committed: its answer must not say that it failed.
                        tracing::error!(
                            internal = outcome.internal,
                            "a stored body cannot be read, and is left out of an answer"
                        );
                        None
                    });
                }
                Ok(reply)
            }
            // Written is written: what cannot be read now is told in its place.
            (None, Method::Get) => get(service, base, entry, handling)
                .await
                .map_err(|e| e.at(&format!("Bundle.entry[{i}]"))),
            (None, _) => Ok(Reply {
                status: 200,
                ..Reply::default()
            }),
        });
    }
    Ok(Answer {
        replies,
        is_known_document: written.is_some_and(|w| w.is_known_document),
    })
}

/// Reads are answered after the commit; one that will fail must fail before it, so that nothing is written. Errors: 413 when the answers
/// are too large together.
async fn check_reads(service: &Service, base: &str, entries: &[Entry<'_>], handling: Handling) -> Result<(), Outcome> {
    let is_written = |(type_name, id): (&str, &str)| {
        entries
            .iter()
            .any(|e| e.method != Method::Get && e.type_name == type_name && e.id.as_deref() == Some(id))
    };
    let mut answered = 0;
    for (i, entry) in entries.iter().enumerate().filter(|(_, e)| e.method == Method::Get) {
        let instance = Get::of(&entry.path).map_err(|e| e.at(&format!("Bundle.entry[{i}]")))?.instance();
        if !instance.is_some_and(is_written) {
            let reply = get(service, base, entry, handling).await;
            let reply = reply.map_err(|e| e.at(&format!("Bundle.entry[{i}]")))?;
            answered += reply.body.map_or(0, |body| body.len());
        }
        if answered > service.bundle_answer_bytes_max {
            return Err(too_large(service).at(&format!("Bundle.entry[{i}]")));
        }
    }
    Ok(())
}

fn too_large(service: &Service) -> Outcome {
    let text = format!(
        "The answers to the reads of a Bundle have at most {} bytes together (bundle.answer_bytes_max): send fewer, or smaller pages",
        service.bundle_answer_bytes_max
    );
    Outcome::new(Category::TooLarge, "too-costly", text)
}

async fn get(service: &Service, base: &str, entry: &Entry<'_>, handling: Handling) -> Result<Reply, Outcome> {
    let query = entry.query.as_deref().unwrap_or_default();
    let reply = Get::of(&entry.path)?.answer(service, base, query, handling).await?;
    let is_known = reply.is_known(entry.known.tags.as_deref(), entry.known.since);
    Ok(match is_known {
        true => Reply {
            status: 304,
            body: None,
            ..reply
        },
        false => reply,
    })
}

async fn batch(service: &Service, base: &str, bundle: Value<'_>, wishes: Wishes) -> Result<Reply, Outcome> {
    let wanted = wishes.wanted;
    let entries = entries(bundle, base, service.bundle_entries_max)?;
    let answered = &AtomicUsize::new(0);
    let replies = futures_util::stream::iter(entries.into_iter().enumerate())
        .map(|(i, entry)| async move {
            let entry = entry?;
            let is_over = answered.load(Ordering::Relaxed) > service.bundle_answer_bytes_max;
            let reply = match entry.method {
                Method::Get if is_over => Err(too_large(service)),
                _ => batch_entry(service, base, &entry, wishes).await,
            };
            let mut reply = reply.map_err(|e| e.at(&format!("Bundle.entry[{i}]")))?;
            if wanted != Return::Representation && entry.method != Method::Get {
                reply.body = None;
            }
            answered.fetch_add(reply.body.as_ref().map_or(0, String::len), Ordering::Relaxed);
            Ok(reply)
        })
        .buffered(BATCH_CONCURRENCY)
        .collect()
        .await;
    answer_bundle(
        service,
        base,
        "batch-response",
        &Answer {
            replies,
            is_known_document: false,
        },
        wanted,
    )
}

async fn batch_entry(service: &Service, base: &str, entry: &Entry<'_>, wishes: Wishes) -> Result<Reply, Outcome> {
    let body = entry.resource.map(|r| r.raw().as_bytes()).unwrap_or_default();
    let type_name = &entry.type_name;
    match (entry.method, &entry.id, &entry.query) {
        (Method::Get, ..) => get(service, base, entry, wishes.handling).await,
        (Method::Post, ..) => write::create(service, type_name, body, entry.if_none_exist.as_deref()).await,
        (Method::Put, Some(id), _) => write::update(service, type_name, id, body, entry.precondition).await,
        (Method::Put, None, query) => {
            write::conditional_update(service, type_name, query.as_deref().unwrap_or(""), body, entry.precondition).await
        }
        (Method::Patch, id, query) => {
            let resource = entry
                .resource
                .ok_or_else(|| Outcome::invalid("The entry needs a resource").with_code("required"))?;
            let (form, text) = patch::of_entry(resource).map_err(|e| e.at("resource"))?;
            match id {
                Some(id) => patch::patch(service, type_name, id, form, &text, entry.precondition).await,
                None => {
                    let query = query.as_deref().unwrap_or("");
                    patch::conditional_patch(service, type_name, query, form, &text, entry.precondition).await
                }
            }
        }
        (Method::Delete, id, query) => {
            let wish = Wish {
                precondition: entry.precondition,
                referrers: wishes.referrers,
            };
            let query = query.as_deref().unwrap_or("");
            match id {
                Some(id) => delete::delete(service, type_name, id, query, wish).await,
                None => delete::conditional_delete(service, type_name, query, wish).await,
            }
        }
    }
}
