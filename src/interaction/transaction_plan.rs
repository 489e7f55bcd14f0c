//! A transaction Bundle as one unit of the write path: order, ids, links, criteria, and the document that it carries.
//!
//! Bundles that carry a clinical document (an identifier, and one Composition with an identifier, as the ministry's gateway writes them) are
//! recognised by the Composition's identifier. Spec: <https://hl7.org/fhir/R4/http.html#trules>.

use crate::fhir::json::Value;
use crate::fhir::links;
use crate::fhir::resource::kept_text;
use crate::interaction::Service;
use crate::interaction::criteria::criteria;
use crate::interaction::delete;
use crate::interaction::delete::Asked;
use crate::interaction::delete::Wish;
use crate::interaction::ingestion::metadata;
use crate::interaction::parse_json;
use crate::interaction::patch;
use crate::interaction::transaction_read::Entry;
use crate::interaction::transaction_read::Method;
use crate::interaction::transaction_read::check_full_urls;
use crate::interaction::transaction_read::entries;
use crate::interaction::transaction_read::link_names;
use crate::interaction::write;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::search::condition::Condition;
use crate::search::index::index;
use crate::store::document::DocumentAction;
use crate::store::unit::Content;
use crate::store::unit::NewId;
use crate::store::unit::Op;
use crate::store::unit::Target;
use crate::store::unit::Unit;
use sha2::Digest;
use sha2::Sha256;
use std::collections::HashMap;
use std::collections::HashSet;

/// A transaction ready to be written.
pub struct Planned<'d> {
    pub unit: Unit,
    pub entries: Vec<Entry<'d>>,
    /// For each entry that writes, its operation in the unit.
    pub op_of: Vec<Option<usize>>,
}

impl Planned<'_> {
    /// For a Bundle that nobody gives another identity. Errors: 422 when it says P99 and is no document that could be hidden.
    pub fn check_alone(&self) -> Result<(), Outcome> {
        match self.unit.document {
            Some(_) => Ok(()),
            None => metadata::check_alone(self.unit.is_obscured),
        }
    }
}

/// Checks and prepares a transaction Bundle. Errors: 400 or 422, naming the entry.
pub fn plan<'d>(service: &Service, base: &str, bundle: Value<'d>, referrers: Asked) -> Result<Planned<'d>, Outcome> {
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
        referrers,
    };
    let mut op_of = vec![None; entries.len()];
    // The order of the specification: deletes, creates, updates; links need every id first.
    let mut order: Vec<usize> = (0..entries.len()).filter(|i| entries[*i].method != Method::Get).collect();
    order.sort_by_key(|i| match entries[*i].method {
        Method::Delete => 0,
        Method::Post => 1,
        Method::Put | Method::Patch | Method::Get => 2,
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
    /// Operations with a criterion, by its locks.
    by_criterion: HashMap<Vec<i64>, Vec<usize>>,
    /// What becomes of those that refer to what it deletes.
    referrers: Asked,
}

impl Planner<'_> {
    /// The operation of an entry: its own, or that of an entry before it which has the same criterion and says the same.
    fn entry(&mut self, entries: &[Entry<'_>], i: usize, id: String) -> Result<usize, Outcome> {
        let lookups = self.unit.lookups.len();
        let op = self.op(&entries[i], id)?;
        let place = self.unit.ops.len();
        if let Some(criteria) = op.criteria().filter(|_| !matches!(op, Op::Patch { .. } | Op::Delete { .. })) {
            let before = self.by_criterion.entry(criteria.locks.clone()).or_default();
            let same = |place: &&usize| {
                let other = self.unit.ops[**place].criteria();
                other.is_some_and(|c| c.type_number == criteria.type_number && c.condition == criteria.condition)
            };
            match before.iter().find(same) {
                Some(before) => {
                    let before = join(entries, &self.unit, *before, i, &op)?;
                    // What only the entry that is dropped refers to need not be found.
                    for (reference, _) in self.unit.lookups.drain(lookups..) {
                        self.looked_up.remove(&reference);
                    }
                    return Ok(before);
                }
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
        let types: HashSet<i16> = lookups.iter().map(|(_, criteria)| criteria.type_number).collect();
        let here = self.terms_of(entries, &types);
        for (reference, criteria) in lookups {
            let terms: &[i64] = match &criteria.condition {
                Condition::Terms(terms) => terms,
                _ => &[],
            };
            let found = terms.iter().filter_map(|term| here.get(&(criteria.type_number, *term))).flatten();
            let found: HashSet<usize> = found.copied().collect();
            match (found.len(), found.into_iter().next()) {
                (1, Some(place)) => self.unit.links.push((reference, place)),
                (0, _) => self.unit.lookups.push((reference, criteria)),
                _ => {
                    let text = "A conditional reference matches several entries of the Bundle: it must match one";
                    return Err(Outcome::precondition(text).with_code("multiple-matches"));
                }
            }
        }
        Ok(())
    }

    /// The operations that write resources of these types, by their index terms.
    fn terms_of(&self, entries: &[Entry<'_>], types: &HashSet<i16>) -> HashMap<(i16, i64), Vec<usize>> {
        let registry = &self.service.store.registry();
        let mut here: HashMap<(i16, i64), Vec<usize>> = HashMap::new();
        for (place, (op, i)) in self.unit.ops.iter().zip(&self.unit.entries).enumerate() {
            let type_number = op.type_number();
            let is_written = types.contains(&type_number) && matches!(op, Op::Create { .. } | Op::Update { .. });
            let resource = entries[*i].resource.filter(|_| is_written);
            if let (Some(resource), Some(of)) = (resource, registry.of(registry.name_of(type_number))) {
                for term in index(of, resource).terms {
                    here.entry((type_number, term)).or_default().push(place);
                }
            }
        }
        here
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
        let of_body = entry.resource.filter(|_| entry.method != Method::Patch);
        let search = |query: &str| criteria(self.service, &entry.type_name, query, of_body);
        if entry.method == Method::Delete {
            let wish = Wish {
                precondition: entry.precondition,
                referrers: self.referrers,
            };
            let query = entry.query.as_deref().unwrap_or("");
            let deletion = match &entry.id {
                Some(id) => delete::by_id(self.service, &entry.type_name, id, query, wish)?,
                None => delete::by_criteria(self.service, &entry.type_name, query, wish)?,
            };
            return Ok(deletion.op);
        }
        let target = match (&entry.id, &entry.query) {
            // The ministry's gateway writes a random id into the body: here it only names the entry.
            (None, Some(query)) => Target::Matching(search(query)?, NewId::Free(id.clone())),
            _ => Target::Id(id.clone()),
        };
        let unless = entry.if_none_exist.as_deref().map(search).transpose()?;
        let precondition = entry.precondition;
        let resource = entry
            .resource
            .ok_or_else(|| Outcome::invalid("The entry needs a resource").with_code("required"))?;
        if entry.method == Method::Patch {
            let (form, text) = patch::of_entry(resource).map_err(|e| e.at("resource"))?;
            let (edit, _) = patch::edit(self.service, &entry.type_name, form, &text)?;
            self.note_links(parse_json(text.as_bytes())?.root())?;
            return Ok(Op::Patch {
                type_number,
                target,
                edit,
                precondition,
            });
        }
        if let (Method::Put, Some(of_url), Some(of_body)) = (entry.method, &entry.id, resource.get_str("id"))
            && of_body != of_url.as_str()
        {
            return Err(Outcome::invalid("The id of the resource is not the id of the url").at("resource.id"));
        }
        write::check_whole(resource).map_err(|e| e.at("resource"))?;
        write::check_contained(resource).map_err(|e| e.at("resource.contained"))?;
        let content = match metadata::without_rule(resource)? {
            Some(text) => self.content(type_number, parse_json(text.as_bytes())?.root())?,
            None => self.content(type_number, resource)?,
        };
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
        let is_open = self.note_links(resource)?;
        let rewritten = links::rewrite(resource, &|link, _| self.known.get(link).cloned());
        Ok(match (rewritten, is_open) {
            (None, false) => write::ready(self.service, type_number, resource),
            (None, true) => Content::Open(resource.raw().to_owned()),
            (Some(text), true) => Content::Open(text),
            (Some(text), false) => write::ready(self.service, type_number, parse_json(text.as_bytes())?.root()),
        })
    }

    /// Notes the conditional references of a text. Whether it has links whose target depends on a search.
    fn note_links(&mut self, resource: Value<'_>) -> Result<bool, Outcome> {
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
        Ok(is_open)
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
        hasher.update(entry.if_none_exist.as_deref().unwrap_or_default());
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
