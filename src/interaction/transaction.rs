//! FHIR batch and transaction. A transaction is one unit of the write path: all or nothing.
//!
//! Bundles that carry a clinical document (an identifier, and one Composition with an identifier, as the ministry's gateway writes them) are
//! recognised by the Composition's identifier: the same document again changes nothing and is answered with the resources that it has.
//! Spec: <https://hl7.org/fhir/R4/http.html#transaction>. Not supported: PATCH and HEAD entries; GET entries are read after the commit.

use crate::fhir::json::Value;
use crate::fhir::links;
use crate::fhir::resource::kept_text;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::criteria::criteria;
use crate::interaction::ingestion::metadata;
use crate::interaction::parse_json;
use crate::interaction::read;
use crate::interaction::search;
use crate::interaction::transaction_answer::Answer;
use crate::interaction::transaction_answer::Return;
use crate::interaction::transaction_answer::answer_bundle;
use crate::interaction::transaction_read::BundleType;
use crate::interaction::transaction_read::Entry;
use crate::interaction::transaction_read::Method;
use crate::interaction::transaction_read::bundle_type;
use crate::interaction::transaction_read::check_full_urls;
use crate::interaction::transaction_read::entries;
use crate::interaction::transaction_read::link_names;
use crate::interaction::write;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::search::condition::Condition;
use crate::search::index::index;
use crate::search::parse::Handling;
use crate::store::document::DocumentAction;
use crate::store::unit::Content;
use crate::store::unit::NewId;
use crate::store::unit::Op;
use crate::store::unit::Target;
use crate::store::unit::Unit;
use futures_util::StreamExt;
use sha2::Digest;
use sha2::Sha256;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Entries of a batch that are carried out at the same time.
const BATCH_CONCURRENCY: usize = 16;

/// `POST [base]` with a Bundle.
pub async fn transaction(service: &Service, base: &str, body: &[u8], wanted: Return, handling: Handling) -> Result<Reply, Outcome> {
    let document = parse_json(body)?;
    let bundle = document.root();
    match bundle_type(bundle)? {
        BundleType::Batch => batch(service, base, bundle, wanted, handling).await,
        BundleType::Transaction => {
            let planned = plan(service, base, bundle)?;
            let answer = carry_out(service, base, planned, wanted, handling).await?;
            answer_bundle(service, base, "transaction-response", &answer, wanted)
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
        by_criterion: HashMap::new(),
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
    for (i, id) in order.into_iter().zip(ids) {
        let place = planner.entry(&entries, i, id).map_err(|e| e.at(&format!("Bundle.entry[{i}]")))?;
        planner
            .unit
            .links
            .extend(link_names(&entries[i]).into_iter().map(|name| (name, place)));
        op_of[i] = Some(place);
    }
    planner.look_up_here(&entries)?;
    planner.unit.document = document_of(bundle, &entries).map(|identifier| DocumentAction::Register {
        identifiers: vec![identifier],
        fingerprint: fingerprint(&entries),
    });
    planner.unit.is_obscured = metadata::of_document(entries.iter().filter_map(|e| e.resource))?;
    if planner.unit.document.is_none() {
        metadata::check_alone(planner.unit.is_obscured)?;
    }
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
    /// Operations with a criterion, by its lock.
    by_criterion: HashMap<i64, Vec<usize>>,
}

impl Planner<'_> {
    /// The operation of an entry: its own, or that of an entry before it which has the same criterion and says the same.
    fn entry(&mut self, entries: &[Entry<'_>], i: usize, id: String) -> Result<usize, Outcome> {
        let op = self.op(&entries[i], id)?;
        let place = self.unit.ops.len();
        if let Some(criteria) = op.criteria().filter(|_| !matches!(op, Op::Delete { .. })) {
            let before = self.by_criterion.entry(criteria.lock).or_default();
            let same = |place: &&usize| {
                let other = self.unit.ops[**place].criteria();
                other.is_some_and(|c| c.type_number == criteria.type_number && c.condition == criteria.condition)
            };
            match before.iter().find(same) {
                Some(before) => return join(entries, &self.unit, *before, i, &op),
                None => before.push(place),
            }
        }
        self.unit.ops.push(op);
        self.unit.entries.push(i);
        Ok(place)
    }

    /// Conditional references that an entry of this Bundle satisfies lead to it. <https://hl7.org/fhir/R4/http.html#trules>
    fn look_up_here(&mut self, entries: &[Entry<'_>]) -> Result<(), Outcome> {
        let lookups = std::mem::take(&mut self.unit.lookups);
        let registry = &self.service.store.registry;
        for (reference, criteria) in lookups {
            let Condition::Terms(wanted) = &criteria.condition else {
                self.unit.lookups.push((reference, criteria));
                continue;
            };
            let mut here = self.unit.entries.iter().enumerate().filter(|(place, i)| {
                let of_type = registry.of(registry.name_of(criteria.type_number));
                let is_written =
                    !matches!(self.unit.ops[*place], Op::Delete { .. }) && self.unit.ops[*place].type_number() == criteria.type_number;
                let resource = entries[**i].resource.filter(|_| is_written);
                resource
                    .zip(of_type)
                    .is_some_and(|(resource, of)| index(of, resource).terms.iter().any(|term| wanted.contains(term)))
            });
            match (here.next().map(|(place, _)| place), here.next()) {
                (Some(place), None) => self.unit.links.push((reference, place)),
                (Some(_), Some(_)) => {
                    let text = "A conditional reference matches several entries of the Bundle: it must match one";
                    return Err(Outcome::precondition(text).with_code("multiple-matches"));
                }
                (None, _) => self.unit.lookups.push((reference, criteria)),
            }
        }
        Ok(())
    }

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
            // The ministry's gateway writes a random id into the body: here it only names the entry.
            (None, Some(query)) => Target::Matching(search(query)?, NewId::Free(id.clone())),
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

/// Two entries with one criterion are one operation: the author of a document is its legal authenticator, too. Errors: 400 when they do not
/// say the same.
fn join(entries: &[Entry<'_>], unit: &Unit, before: usize, i: usize, op: &Op) -> Result<usize, Outcome> {
    let content = |i: usize| entries[i].resource.map(kept_text);
    let is_same = match (&unit.ops[before], op) {
        // What exists already is not created, whatever it would have been.
        (Op::Create { .. }, Op::Create { .. }) => true,
        (Op::Update { .. }, Op::Update { .. }) => content(unit.entries[before]) == content(i),
        _ => false,
    };
    match is_same {
        true => Ok(before),
        false => Err(Outcome::invalid(format!(
            "The entry has the criterion of entry {} and another content: one resource cannot become both",
            unit.entries[before]
        ))),
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

async fn carry_out(service: &Service, base: &str, planned: Planned<'_>, wanted: Return, handling: Handling) -> Result<Answer, Outcome> {
    let Planned { unit, entries, op_of } = planned;
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
    let is_written = |read: &Entry<'_>| {
        entries
            .iter()
            .any(|e| e.method != Method::Get && e.type_name == read.type_name && e.id == read.id)
    };
    let mut answered = 0;
    for (i, entry) in entries.iter().enumerate().filter(|(_, e)| e.method == Method::Get) {
        if entry.id.is_none() || !is_written(entry) {
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
    let answered = &AtomicUsize::new(0);
    let replies = futures_util::stream::iter(entries.into_iter().enumerate())
        .map(|(i, entry)| async move {
            let entry = entry?;
            let is_over = answered.load(Ordering::Relaxed) > service.bundle_answer_bytes_max;
            let reply = match entry.method {
                Method::Get if is_over => Err(too_large(service)),
                _ => batch_entry(service, base, &entry, handling).await,
            };
            let mut reply = reply.map_err(|e| e.at(&format!("Bundle.entry[{i}]")))?;
            if wanted == Return::Minimal && entry.method != Method::Get {
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
