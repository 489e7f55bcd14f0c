//! FHIR batch and transaction. A transaction is one unit of the write path: all or nothing.
//!
//! Bundles that carry a clinical document (an identifier, and one Composition with an identifier, as the ministry's gateway writes them) are
//! recognised by the Composition's identifier: the same document again changes nothing and is answered with the resources that it has.
//! Spec: <https://hl7.org/fhir/R4/http.html#transaction>. Not supported: PATCH and HEAD entries; GET entries are read after the commit.

use crate::clock::instant;
use crate::fhir::json::Value;
use crate::fhir::json::quote_into;
use crate::fhir::links;
use crate::fhir::resource::kept_text;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::criteria::criteria;
use crate::interaction::parse_json;
use crate::interaction::read;
use crate::interaction::search;
use crate::interaction::transaction_read::BundleType;
use crate::interaction::transaction_read::Entry;
use crate::interaction::transaction_read::Method;
use crate::interaction::transaction_read::bundle_type;
use crate::interaction::transaction_read::check_full_urls;
use crate::interaction::transaction_read::entries;
use crate::interaction::transaction_read::link_names;
use crate::interaction::write;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::search::parse::Handling;
use crate::store::document::DocumentAction;
use crate::store::unit::Content;
use crate::store::unit::Op;
use crate::store::unit::Target;
use crate::store::unit::Unit;
use futures_util::StreamExt;
use sha2::Digest;
use sha2::Sha256;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Write;

/// Entries of a batch that are carried out at the same time.
const BATCH_CONCURRENCY: usize = 16;

/// Which resources the answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    Minimal,
    Representation,
}

/// `POST [base]` with a Bundle.
pub async fn transaction(service: &Service, base: &str, body: &[u8], wanted: Return, handling: Handling) -> Result<Reply, Outcome> {
    let document = parse_json(body)?;
    let bundle = document.root();
    match bundle_type(bundle)? {
        BundleType::Batch => batch(service, base, bundle, wanted, handling).await,
        BundleType::Transaction => {
            let planned = plan(service, base, bundle)?;
            let answer = carry_out(service, base, planned, handling).await?;
            answer_bundle(service, base, "transaction-response", &answer, wanted).await
        }
    }
}

/// A transaction ready to be written.
pub struct Planned<'d> {
    pub unit: Unit,
    entries: Vec<Entry<'d>>,
    /// For each entry that writes, its operation in the unit.
    op_of: Vec<Option<usize>>,
}

/// What became of each entry, in the order of the request.
struct Answer {
    replies: Vec<Result<Reply, Outcome>>,
    is_known_document: bool,
}

/// Checks and prepares a transaction Bundle. Errors: 400 or 422, naming the entry.
pub fn plan<'d>(service: &Service, base: &str, bundle: Value<'d>) -> Result<Planned<'d>, Outcome> {
    let issues = service.validator.validate(bundle);
    if issues.iter().any(|i| i.severity == Severity::Error) {
        return Err(Outcome::unprocessable(issues));
    }
    let entries: Vec<Entry<'d>> = entries(bundle, base, service.bundle_entries_max)?
        .into_iter()
        .collect::<Result<_, _>>()?;
    check_full_urls(&entries)?;
    let mut planner = Planner {
        service,
        unit: Unit::default(),
        known: HashMap::new(),
        open: HashSet::new(),
        looked_up: HashSet::new(),
    };
    let mut op_of = vec![None; entries.len()];
    // The order of the specification: deletes, creates, updates; links need every id first.
    let mut order: Vec<usize> = (0..entries.len()).filter(|i| entries[*i].method != Method::Get).collect();
    order.sort_by_key(|i| match entries[*i].method {
        Method::Delete => 0,
        Method::Post => 1,
        Method::Put | Method::Get => 2,
    });
    let ids: Vec<String> = order.iter().map(|i| planner.name(&entries[*i])).collect();
    for (i, id) in order.iter().zip(ids) {
        let entry = &entries[*i];
        let op = planner.op(entry, id).map_err(|e| e.at(&format!("Bundle.entry[{i}]")))?;
        let place = planner.unit.ops.len();
        planner.unit.ops.push(op);
        planner.unit.links.extend(link_names(entry).into_iter().map(|name| (name, place)));
        op_of[*i] = Some(place);
    }
    planner.unit.document = document_of(bundle, &entries).map(|identifier| DocumentAction::Register {
        identifiers: vec![identifier],
        fingerprint: fingerprint(&entries),
    });
    Ok(Planned {
        unit: planner.unit,
        entries,
        op_of,
    })
}

struct Planner<'s> {
    service: &'s Service,
    unit: Unit,
    /// Links whose target is certain already.
    known: HashMap<String, String>,
    /// Links whose target depends on a search.
    open: HashSet<String>,
    looked_up: HashSet<String>,
}

impl Planner<'_> {
    /// Gives the entry's resource its id, and notes what its links stand for.
    fn name(&mut self, entry: &Entry<'_>) -> String {
        let id = match (&entry.id, entry.method) {
            (Some(id), _) => id.clone(),
            (None, Method::Delete) => String::new(),
            (None, _) => self.service.store.clock.new_id(),
        };
        let is_certain = entry.method == Method::Post && entry.if_none_exist.is_none() || entry.id.is_some();
        for name in link_names(entry) {
            match is_certain {
                true => {
                    self.known.insert(name, format!("{}/{id}", entry.type_name));
                }
                false => {
                    self.open.insert(name);
                }
            }
        }
        id
    }

    fn op(&mut self, entry: &Entry<'_>, id: String) -> Result<Op, Outcome> {
        let type_number = self.service.type_number(&entry.type_name)?;
        let search = |query: &str| criteria(self.service, &entry.type_name, query, entry.resource);
        let target = match (&entry.id, &entry.query) {
            (None, Some(query)) => Target::Matching(search(query)?, id.clone()),
            _ => Target::Id(id.clone()),
        };
        let unless = entry.if_none_exist.as_deref().map(search).transpose()?;
        let precondition = entry.precondition;
        let Some(resource) = entry.resource.filter(|_| entry.method != Method::Delete) else {
            return Ok(Op::Delete {
                type_number,
                target,
                precondition,
            });
        };
        if let (Method::Put, Some(of_url), Some(of_body)) = (entry.method, &entry.id, resource.get_str("id"))
            && of_body != of_url.as_str()
        {
            return Err(Outcome::invalid("The id of the resource is not the id of the url").at("resource.id"));
        }
        write::check_whole(resource).map_err(|e| e.at("resource"))?;
        let content = self.content(type_number, resource)?;
        Ok(match entry.method {
            Method::Post => Op::Create {
                type_number,
                id,
                content,
                unless,
            },
            _ => Op::Update {
                type_number,
                target,
                content,
                precondition,
            },
        })
    }

    /// Replaces the links that are certain; the resource is ready if no other is left.
    fn content(&mut self, type_number: i16, resource: Value<'_>) -> Result<Content, Outcome> {
        let mut is_open = false;
        let mut conditional = Vec::new();
        links::each(resource, &mut |link, is_reference| {
            let Some(text) = link.as_str() else { return };
            is_open |= self.open.contains(text.as_ref());
            if is_reference && text.contains('?') && !self.known.contains_key(text.as_ref()) {
                conditional.push(text.into_owned());
            }
        });
        for reference in conditional {
            is_open = true;
            if self.looked_up.insert(reference.clone()) {
                let (type_name, query) = reference.split_once('?').unwrap_or((&reference, ""));
                let lookup = criteria(self.service, type_name, query, None)?;
                self.unit.lookups.push((reference, lookup));
            }
        }
        let rewritten = links::rewrite(resource, &|link, _| self.known.get(link).cloned());
        Ok(match (rewritten, is_open) {
            (None, false) => write::ready(self.service, type_number, resource),
            (None, true) => Content::Open(resource.raw().to_owned()),
            (Some(text), true) => Content::Open(text),
            (Some(text), false) => write::ready(self.service, type_number, parse_json(text.as_bytes())?.root()),
        })
    }
}

/// The identifier of the document that a Bundle carries, as `oid^extension`: that of its one Composition. The Bundle's own will not do:
/// three of the ministry's six examples share it.
pub fn document_of(bundle: Value<'_>, entries: &[Entry<'_>]) -> Option<String> {
    bundle.get("identifier")?;
    let mut compositions = entries.iter().filter(|e| e.type_name == "Composition" && e.method == Method::Post);
    let (composition, None) = (compositions.next()?, compositions.next()) else {
        return None;
    };
    composition.resource?.get("identifier").and_then(document_identifier)
}

fn document_identifier(identifier: Value<'_>) -> Option<String> {
    let (system, value) = (identifier.get_str("system")?, identifier.get_str("value")?);
    Some(format!("{}^{value}", system.strip_prefix("urn:oid:").unwrap_or(&system)))
}

/// Of the content of a document, whatever ids and fullUrls it came with this time.
pub fn fingerprint(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut names = HashMap::new();
    for (i, entry) in entries.iter().enumerate() {
        names.extend(link_names(entry).into_iter().map(|name| (name, format!("#{i}"))));
    }
    let mut hasher = Sha256::new();
    for entry in entries {
        hasher.update(format!("{:?} {} {:?}\n", entry.method, entry.path, entry.query));
        if let Some(resource) = entry.resource {
            let kept = match links::rewrite(resource, &|link, _| names.get(link).cloned()) {
                Some(text) => parse_json(text.as_bytes()).map(|d| kept_text(d.root())).unwrap_or_default(),
                None => kept_text(resource),
            };
            hasher.update(kept);
        }
        hasher.update(b"\n");
    }
    hasher.finalize().to_vec()
}

async fn carry_out(service: &Service, base: &str, planned: Planned<'_>, handling: Handling) -> Result<Answer, Outcome> {
    let Planned { unit, entries, op_of } = planned;
    check_reads(service, base, &entries, handling).await?;
    let written = match unit.ops.is_empty() {
        true => None,
        false => Some(service.writer.apply(unit).await?),
    };
    let mut replies = Vec::with_capacity(entries.len());
    for (i, (entry, op)) in entries.iter().zip(&op_of).enumerate() {
        // A known document's members stand in the order of its operations too.
        let applied = written.as_ref().and_then(|w| op.and_then(|op| w.applied.get(op)));
        replies.push(match (applied, entry.method) {
            (Some(applied), _) => {
                let mut reply = write::reply_of(service, applied);
                reply.body = service.applied_json(applied).await?;
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

/// Reads are answered after the commit; one that will fail must fail before it, so that nothing is written.
async fn check_reads(service: &Service, base: &str, entries: &[Entry<'_>], handling: Handling) -> Result<(), Outcome> {
    let is_written = |read: &Entry<'_>| {
        entries
            .iter()
            .any(|e| e.method != Method::Get && e.type_name == read.type_name && e.id == read.id)
    };
    for (i, entry) in entries.iter().enumerate().filter(|(_, e)| e.method == Method::Get) {
        if entry.id.is_none() || !is_written(entry) {
            get(service, base, entry, handling)
                .await
                .map_err(|e| e.at(&format!("Bundle.entry[{i}]")))?;
        }
    }
    Ok(())
}

async fn get(service: &Service, base: &str, entry: &Entry<'_>, handling: Handling) -> Result<Reply, Outcome> {
    match (&entry.id, entry.path.split_once("/_history/")) {
        (Some(id), Some((_, version))) => read::vread(service, &entry.type_name, id, version).await,
        (Some(id), None) => read::read(service, &entry.type_name, id).await,
        (None, _) => {
            search::search(
                service,
                base,
                &entry.type_name,
                entry.query.as_deref().unwrap_or(""),
                None,
                handling,
            )
            .await
        }
    }
}

async fn batch(service: &Service, base: &str, bundle: Value<'_>, wanted: Return, handling: Handling) -> Result<Reply, Outcome> {
    let entries = entries(bundle, base, service.bundle_entries_max)?;
    let replies = futures_util::stream::iter(entries.into_iter().enumerate())
        .map(|(i, entry)| async move {
            let place = format!("Bundle.entry[{i}]");
            match entry {
                Ok(entry) => batch_entry(service, base, &entry, handling).await.map_err(|e| e.at(&place)),
                Err(outcome) => Err(outcome),
            }
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
    .await
}

async fn batch_entry(service: &Service, base: &str, entry: &Entry<'_>, handling: Handling) -> Result<Reply, Outcome> {
    let body = entry.resource.map(|r| r.raw().as_bytes()).unwrap_or_default();
    let type_name = &entry.type_name;
    match (entry.method, &entry.id, &entry.query) {
        (Method::Get, ..) => get(service, base, entry, handling).await,
        (Method::Post, ..) => write::create(service, type_name, body, entry.if_none_exist.as_deref()).await,
        (Method::Put, Some(id), _) => write::update(service, type_name, id, body, entry.precondition).await,
        (Method::Put, None, query) => {
            write::conditional_update(service, type_name, query.as_deref().unwrap_or(""), body, entry.precondition).await
        }
        (Method::Delete, Some(id), _) => write::delete(service, type_name, id, entry.precondition).await,
        (Method::Delete, None, query) => write::conditional_delete(service, type_name, query.as_deref().unwrap_or("")).await,
    }
}

async fn answer_bundle(service: &Service, base: &str, bundle_type: &str, answer: &Answer, wanted: Return) -> Result<Reply, Outcome> {
    let mut out = String::with_capacity(answer.replies.len() * 200);
    let _ = write!(
        out,
        "{{\"resourceType\":\"Bundle\",\"id\":\"{}\",\"type\":\"{bundle_type}\"",
        service.store.clock.new_id()
    );
    for (i, reply) in answer.replies.iter().enumerate() {
        out.push_str(if i == 0 { ",\"entry\":[{" } else { ",{" });
        match reply {
            Ok(reply) => push_reply(base, reply, answer.is_known_document, wanted, &mut out),
            Err(outcome) => {
                let _ = write!(
                    out,
                    "\"response\":{{\"status\":\"{}\",\"outcome\":{}}}",
                    status_line(outcome.status()),
                    outcome.to_json()
                );
            }
        }
        out.push('}');
    }
    out.push_str(if answer.replies.is_empty() { "}" } else { "]}" });
    Ok(Reply::with_body(out))
}

fn push_reply(base: &str, reply: &Reply, is_known_document: bool, wanted: Return, out: &mut String) {
    if let Some(location) = &reply.location {
        let id = location.split_once("/_history/").map_or(location.as_str(), |(before, _)| before);
        let _ = write!(out, "\"fullUrl\":\"{base}/{id}\",");
    }
    let is_read = reply.location.is_none();
    if let Some(body) = reply.body.as_ref().filter(|_| wanted == Return::Representation || is_read) {
        let _ = write!(out, "\"resource\":{body},");
    }
    let _ = write!(out, "\"response\":{{\"status\":\"{}\"", status_line(reply.status));
    if let Some(location) = &reply.location {
        let _ = write!(out, ",\"location\":\"{base}/{location}\"");
    }
    if let Some(version) = reply.version {
        let _ = write!(out, ",\"etag\":\"W/\\\"{version}\\\"\"");
    }
    if let Some(updated) = reply.updated {
        let _ = write!(out, ",\"lastModified\":\"{}\"", instant(updated));
    }
    if is_known_document {
        let text = "The document is here already, with this content: nothing was changed".to_owned();
        let issue = Issue {
            severity: Severity::Information,
            code: "duplicate",
            expression: String::new(),
            text,
        };
        let _ = write!(out, ",\"outcome\":{}", crate::outcome::operation_outcome(&[issue]));
    }
    out.push('}');
}

fn status_line(status: u16) -> String {
    let reason = match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        422 => "Unprocessable Entity",
        503 => "Service Unavailable",
        _ => "",
    };
    let mut line = status.to_string();
    if !reason.is_empty() {
        line.push(' ');
        line.push_str(reason);
    }
    line
}

/// A JSON string, for texts that go into an answer.
pub fn quoted(text: &str) -> String {
    let mut out = String::new();
    quote_into(text, &mut out);
    out
}
