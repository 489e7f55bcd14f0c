//! `Patient/[id]/$everything`, `Patient/$everything`, `Encounter/[id]/$everything`: the compartment, and what its resources refer to that belongs
//! to no patient (Practitioner, Organization, Medication, Location ...).
//!
//! Members come in the order in which they came to the repository, within their type; a page goes on behind the last row of the one before, so
//! writes neither move nor repeat what is there. A page that filters (`_since`, `start`, `end`) looks at a bounded number of rows: it can have fewer
//! entries than `_count`, or none, and still a `next` link.
//! Spec: <https://hl7.org/fhir/R4/patient-operation-everything.html>, <https://hl7.org/fhir/R4/encounter-operation-everything.html>.

use crate::fhir::identity::check_id;
use crate::fhir::identity::hash;
use crate::fhir::identity::self_hash;
use crate::fhir::json::quote_into;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::operation::Call;
use crate::interaction::operation::gather;
use crate::interaction::operation::gather::Link;
use crate::interaction::operation::gather::Text;
use crate::interaction::operation::input::Input;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::outcome::operation_outcome;
use crate::search::cursor::Cursor;
use crate::search::cursor::Place;
use crate::search::parameters::Registry;
use crate::search::term::further_code;
use crate::search::term::reference_term;
use crate::search::value::shown;
use crate::store::compartment;
use crate::store::compartment::Filter;
use crate::store::compartment::Looked;
use crate::store::database_error;
use crate::store::rows::Row;
use std::collections::HashSet;
use std::fmt::Write;

/// Rows that a page which filters looks at: about ten milliseconds of work.
const LOOKED_MAX: usize = 5_000;
/// How far references to what belongs to no patient are followed: PractitionerRole, Organization, the Organization it is part of ...
const DEPTH_MAX: usize = 6;
/// The step of a page that comes after all types: what is linked otherwise than by its first reference.
const OTHERWISE: i64 = i16::MAX as i64 + 1;

/// What is asked for.
struct Wanted {
    /// Numbers of types; `None`: all.
    types: Option<HashSet<i16>>,
    filter: Filter,
    count: usize,
    fingerprint: i64,
    cursor: Option<Cursor>,
}

impl Wanted {
    fn read(service: &Service, call: &Call<'_>, input: &Input<'_>) -> Result<Wanted, Outcome> {
        let registry = service.store.registry();
        let mut types = None;
        for (_, list) in input.simple.iter().filter(|(name, _)| name == "_type") {
            for name in list.split(',') {
                let number = registry.number_of(name).ok_or_else(|| {
                    Outcome::invalid(format!("_type lists resource types, and {} is none", shown(name))).with_code("code-invalid")
                })?;
                types.get_or_insert_with(HashSet::new).insert(number);
            }
        }
        let count = input.number("_count", 1)?.unwrap_or(service.limits.page_entries_default);
        let mut used: Vec<String> = vec![call.path(), service.store.density().is_index_current.to_string()];
        let that_select = input
            .simple
            .iter()
            .filter(|(name, _)| !["_count", "_cursor"].contains(&name.as_str()));
        used.extend(that_select.map(|(name, value)| format!("{name}={value}")));
        let used: Vec<&str> = used.iter().map(String::as_str).collect();
        let fingerprint = hash(&used);
        Ok(Wanted {
            types,
            filter: Filter {
                since: input.instant("_since")?,
                start: input.date("start")?.map(|range| range.low),
                end: input.date("end")?.map(|range| range.high),
                undated: undated(&registry),
            },
            count: count.min(service.limits.page_entries_max),
            fingerprint,
            cursor: input
                .text("_cursor")?
                .map(|text| service.cursor_key.open(text, fingerprint))
                .transpose()?,
        })
    }

    fn has(&self, type_number: i16) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(&type_number))
    }

    /// The step and the row that the page begins behind.
    fn begin(&self) -> Option<(i64, i64)> {
        let place = &self.cursor.as_ref()?.place;
        let step = place.keys.first()?.as_deref()?.parse().ok()?;
        Some((step, place.rid))
    }
}

/// Types whose primary date is a birth date.
fn undated(registry: &Registry) -> Vec<i16> {
    let is_undated = |code: &&str| ["birthdate"].contains(code);
    let types = registry.types().filter(|of| {
        let primary = of.parameters.iter().filter(|p| p.is_primary_date).map(|p| p.code.as_str());
        primary.into_iter().any(|code| is_undated(&code))
    });
    types.map(|of| of.number).collect()
}

/// A page in the making.
struct Page {
    rids: Vec<i64>,
    room: usize,
    /// Rows that may still be looked at.
    looks: usize,
    /// Behind which the next page begins: the last row that was looked at and is shown, or is none.
    last: (i64, i64),
    is_ended: bool,
}

impl Page {
    fn new(wanted: &Wanted) -> Page {
        Page {
            rids: Vec::new(),
            room: wanted.count,
            looks: match wanted.filter.is_empty() {
                true => wanted.count + 1,
                false => LOOKED_MAX,
            },
            last: wanted.begin().unwrap_or_default(),
            is_ended: false,
        }
    }

    /// Takes rows in order. When the page is full, or has looked enough, it ends with a next page.
    fn take(&mut self, step: i64, looked: &[Looked]) {
        for row in looked {
            if self.is_ended {
                return;
            }
            if row.is_match && self.room == 0 || self.looks == 0 {
                self.is_ended = true;
                return;
            }
            self.looks -= 1;
            self.last = (step, row.rid);
            if row.is_match {
                self.rids.push(row.rid);
                self.room -= 1;
            }
        }
    }
}

/// `Patient/[id]/$everything` and `Encounter/[id]/$everything`.
pub async fn of_resource(service: &Service, call: &Call<'_>, input: &Input<'_>) -> Result<Reply, Outcome> {
    let (code, id) = call.instance()?;
    check_id(id)?;
    let owner = service.reader.read(service.policy, code, id).await?;
    let wanted = Wanted::read(service, call, input)?;
    let mut page = Page::new(&wanted);
    let (step, after) = wanted.begin().unwrap_or_default();
    let is_first = wanted.cursor.is_none();
    if is_first && wanted.has(owner.type_number) && wanted.filter.since.is_none_or(|since| owner.updated >= since) {
        page.rids.push(owner.rid);
        page.room -= 1;
        page.last = (0, 0);
    }
    let terms = Terms::of(service, &wanted, code, self_hash(code, id));
    let firsts: Vec<&(i16, i64)> = terms.firsts.iter().filter(|(number, _)| i64::from(*number) >= step).collect();
    let of_firsts: Vec<i64> = firsts.iter().map(|(_, term)| *term).collect();
    let present = compartment::present(&service.store, service.policy, &of_firsts)
        .await
        .map_err(database_error)?;
    for place in present {
        if page.is_ended {
            break;
        }
        let (number, term) = *firsts[place];
        let number = i64::from(number);
        let after = if number == step { after } else { 0 };
        let looked = compartment::first(&service.store, service.policy, term, after, page.looks + 1, &wanted.filter);
        page.take(number, &without(looked.await.map_err(database_error)?, owner.rid));
    }
    if !page.is_ended {
        let after = if step == OTHERWISE { after } else { 0 };
        let without_firsts: Vec<i64> = terms.firsts.iter().map(|(_, term)| *term).collect();
        let looked = compartment::otherwise(
            &service.store,
            service.policy,
            &terms.others,
            &without_firsts,
            after,
            page.looks + 1,
            &wanted.filter,
        );
        page.take(OTHERWISE, &without(looked.await.map_err(database_error)?, owner.rid));
    }
    answer(service, call, input, &wanted, page, (code == "Encounter").then_some(&owner)).await
}

/// A resource that refers to itself is shown once, at the beginning.
fn without(mut looked: Vec<Looked>, owner: i64) -> Vec<Looked> {
    looked.retain(|row| row.rid != owner);
    looked
}

/// The terms of a compartment.
struct Terms {
    /// Of the reference that stands first, for each type that has one, by its number.
    firsts: Vec<(i16, i64)>,
    others: Vec<i64>,
}

impl Terms {
    fn of(service: &Service, wanted: &Wanted, code: &str, owner: i64) -> Terms {
        let registry = service.store.registry();
        let mut terms = Terms {
            firsts: Vec::new(),
            others: Vec::new(),
        };
        let members = registry
            .definitions
            .compartment(code)
            .map(|c| c.members.as_slice())
            .unwrap_or_default();
        let has_order = code == "Patient" && service.store.density().is_index_current;
        for (of, codes) in members.iter().filter_map(|(name, codes)| Some((registry.of(name)?, codes))) {
            if !wanted.has(of.number) {
                continue;
            }
            let mut salts: Vec<i64> = codes
                .iter()
                .filter_map(|c| of.get(c))
                .flat_map(|p| p.salts.iter().copied())
                .collect();
            salts.sort_unstable();
            salts.dedup();
            for salt in salts {
                let term = reference_term(salt, owner);
                match has_order && salt == of.owner {
                    true => {
                        terms.firsts.push((of.number, term));
                        // Of several patients of one resource the others are found by this.
                        terms.others.push(further_code(term));
                    }
                    false => terms.others.push(term),
                }
            }
        }
        terms.firsts.sort_unstable();
        terms
    }
}

/// `Patient/$everything`: all patients and everything of theirs.
pub async fn of_all(service: &Service, call: &Call<'_>, input: &Input<'_>) -> Result<Reply, Outcome> {
    let wanted = Wanted::read(service, call, input)?;
    let registry = service.store.registry();
    let of_patients = registry.types().filter(|of| registry.is_in_patient_compartment(&of.name));
    let types: Vec<i16> = of_patients.map(|of| of.number).filter(|number| wanted.has(*number)).collect();
    let patient = service.type_number("Patient")?;
    let mut page = Page::new(&wanted);
    // What belongs to nobody is looked at too.
    if wanted.filter.is_empty() {
        page.looks = (wanted.count * 4).clamp(200, LOOKED_MAX);
    }
    let rows = compartment::walk(&service.store, service.policy, &types, page.last.1, page.looks + 1, &wanted.filter)
        .await
        .map_err(database_error)?;
    let owners: Vec<Vec<i64>> = rows.iter().map(|row| owners(&registry, row.type_number, &row.references)).collect();
    let hashes: Vec<i64> = owners.iter().flatten().copied().collect();
    let there = compartment::there(&service.store, service.policy, patient, &hashes)
        .await
        .map_err(database_error)?;
    let looked: Vec<Looked> = rows
        .iter()
        .zip(&owners)
        .map(|(row, owners)| Looked {
            rid: row.rid,
            is_match: row.is_match && (row.type_number == patient || owners.iter().any(|hash| there.contains(hash))),
        })
        .collect();
    page.take(0, &looked);
    answer(service, call, input, &wanted, page, None).await
}

/// Hashes of the patients that a row's compartment parameters may refer to.
fn owners(registry: &Registry, type_number: i16, references: &[i64]) -> Vec<i64> {
    let name = registry.name_of(type_number);
    let Some(of) = registry.of(name) else { return Vec::new() };
    let codes = registry.patient_compartment(name).iter();
    let salts: HashSet<i64> = codes
        .filter_map(|code| of.get(code))
        .flat_map(|p| p.salts.iter().copied())
        .collect();
    references
        .iter()
        .flat_map(|reference| salts.iter().map(move |salt| reference ^ salt))
        .collect()
}

/// The searchset: the members, and what they refer to. `encounter`: of it everything counts that it refers to, its patient and diagnoses too.
async fn answer(
    service: &Service,
    call: &Call<'_>,
    input: &Input<'_>,
    wanted: &Wanted,
    page: Page,
    encounter: Option<&Row>,
) -> Result<Reply, Outcome> {
    let registry = service.store.registry();
    let rows = compartment::by_rids(&service.store, service.policy, &page.rids)
        .await
        .map_err(database_error)?;
    let members = rows.iter().map(|row| Text::of(service, row)).collect::<Result<Vec<_>, _>>()?;
    let mut seen: HashSet<i64> = members.iter().map(Text::hash).collect();
    let mut linked: Vec<Text> = Vec::new();
    let mut is_cut = false;
    let mut from = 0;
    for depth in 0..DEPTH_MAX {
        let sources: Vec<&Text> = if depth == 0 {
            members.iter().collect()
        } else {
            linked[from..].iter().collect()
        };
        let mut links: Vec<Link> = Vec::new();
        for source in sources {
            let is_encounter = encounter.is_some_and(|encounter| encounter.rid == source.rid);
            let is_wanted = |link: &Link| {
                registry.number_of(&link.type_name).is_some_and(|number| wanted.has(number))
                    && (is_encounter || !registry.is_in_patient_compartment(&link.type_name))
            };
            links.extend(source.links(call.base)?.into_iter().filter(is_wanted));
        }
        if links.is_empty() {
            break;
        }
        let mut found = gather::follow(service, &links, &mut seen).await?;
        let room = service.limits.includes_max - linked.len();
        is_cut |= found.len() > room;
        found.truncate(room);
        from = linked.len();
        linked.extend(found);
    }
    let next = page.is_ended.then(|| {
        let place = Place {
            is_without_key: false,
            keys: vec![Some(page.last.0.to_string())],
            rid: page.last.1,
        };
        Cursor::next(wanted.cursor.as_ref(), wanted.fingerprint, place)
    });
    let mut out = format!(
        "{{\"resourceType\":\"Bundle\",\"id\":\"{}\",\"type\":\"searchset\",\"link\":[",
        service.store.clock.new_id()
    );
    let this = wanted.cursor.as_ref().map(|cursor| service.cursor_key.seal(cursor));
    push_link(&mut out, call, input, "self", this.as_deref());
    if let Some(next) = next {
        out.push(',');
        push_link(&mut out, call, input, "next", Some(&service.cursor_key.seal(&next)));
    }
    out.push(']');
    let entries = members.iter().map(|t| (t, "match")).chain(linked.iter().map(|t| (t, "include")));
    let mut separator = ",\"entry\":[";
    for (text, mode) in entries {
        let _ = write!(
            out,
            "{separator}{{\"fullUrl\":\"{}/{}/{}\",\"resource\":{},\"search\":{{\"mode\":\"{mode}\"}}}}",
            call.base, text.type_name, text.id, text.json
        );
        separator = ",";
    }
    if is_cut {
        let remark = Issue {
            severity: Severity::Warning,
            code: "too-costly",
            expression: String::new(),
            text: format!(
                "The page includes {} resources that its members refer to, and no more (search.includes_max): ask with a smaller _count",
                service.limits.includes_max
            ),
        };
        let _ = write!(
            out,
            "{separator}{{\"resource\":{},\"search\":{{\"mode\":\"outcome\"}}}}",
            operation_outcome(&[remark])
        );
        separator = ",";
    }
    out.push_str(if separator == "," { "]}" } else { "}" });
    Ok(Reply::with_body(out))
}

fn push_link(out: &mut String, call: &Call<'_>, input: &Input<'_>, relation: &str, cursor: Option<&str>) {
    let mut parameters = form_urlencoded::Serializer::new(String::new());
    let used = input.simple.iter().filter(|(name, _)| name != "_cursor");
    parameters.extend_pairs(used.map(|(name, value)| (name.as_str(), value.as_str())));
    if let Some(cursor) = cursor {
        parameters.append_pair("_cursor", cursor);
    }
    let parameters = parameters.finish();
    let question = if parameters.is_empty() { "" } else { "?" };
    let _ = write!(out, "{{\"relation\":\"{relation}\",\"url\":");
    quote_into(&format!("{}/{}{question}{parameters}", call.base, call.path()), out);
    out.push('}');
}
