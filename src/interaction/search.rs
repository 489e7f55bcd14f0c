//! FHIR search on a type, and compartment search. Spec: <https://hl7.org/fhir/R4/http.html#search>, <https://hl7.org/fhir/R4/compartmentdefinition.html>.
//! Not supported: search on the whole repository at once.

use crate::fhir::identity::check_id;
use crate::fhir::identity::hash;
use crate::fhir::identity::self_hash;
use crate::fhir::json::quote_into;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::pairs;
use crate::interaction::subset;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::outcome::operation_outcome;
use crate::search::condition::Condition;
use crate::search::cursor::Cursor;
use crate::search::density::Plan;
use crate::search::index::reference_term;
use crate::search::index::type_term;
use crate::search::page;
use crate::search::page::PageRead;
use crate::search::page::Part;
use crate::search::parse::Handling;
use crate::search::parse::Include;
use crate::search::parse::Parser;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::parse::Summary;
use crate::search::parse::Total;
use crate::store::read;
use crate::store::read::Found;
use crate::store::read::row_columns;
use std::collections::HashSet;
use std::fmt::Write;

/// A cursor's row when the next page begins with the first row of a part.
const FROM_THE_BEGINNING: i64 = i64::MAX;
/// How often `:iterate` goes on: a chain of includes longer than this is cut, and said so.
const ITERATIONS_MAX: usize = 8;

/// `GET [type]?[parameters]`, or within a compartment (`Patient`, id).
pub async fn search(
    service: &Service,
    base: &str,
    type_name: &str,
    query: &str,
    compartment: Option<(&str, &str)>,
    handling: Handling,
) -> Result<Reply, Outcome> {
    let parser = Parser {
        registry: &service.store.registry,
        limits: &service.limits,
        handling,
        base,
    };
    let mut query = parser.query(type_name, &pairs(query))?;
    let mut path = type_name.to_owned();
    if let Some((code, id)) = compartment {
        let condition = compartment_condition(service, type_name, code, id)?;
        query.condition = Condition::All(vec![query.condition, condition]);
        path = format!("{code}/{id}/{type_name}");
    }
    let total = total(service, &query).await?;
    let fetched = match query.summary == Summary::Count || query.count == 0 {
        true => Page::default(),
        false => matches(service, &query, &path).await?,
    };
    let (included, is_cut) = included(service, &query, &fetched.found).await?;
    bundle(service, base, &path, &query, total, fetched, included, is_cut)
}

/// Every resource of the type that the compartment's parameters link to its owner.
fn compartment_condition(service: &Service, type_name: &str, code: &str, id: &str) -> Result<Condition, Outcome> {
    check_id(id)?;
    let registry = &service.store.registry;
    let compartment = registry
        .definitions
        .compartment(code)
        .ok_or_else(|| Outcome::not_found(&format!("Compartment {code}")))?;
    let members = compartment
        .members
        .iter()
        .find(|(name, _)| name == type_name)
        .map(|(_, codes)| codes.as_slice())
        .unwrap_or_default();
    let of = registry
        .of(type_name)
        .ok_or_else(|| Outcome::not_found(&format!("Resource type {type_name}")))?;
    let owner = self_hash(code, id);
    let terms: Vec<i64> = members
        .iter()
        .filter_map(|m| of.get(m))
        .flat_map(|p| &p.salts)
        .map(|salt| reference_term(*salt, owner))
        .collect();
    let mut alternatives = Vec::new();
    if code == type_name {
        alternatives.push(Condition::Ids(vec![owner]));
    }
    if !terms.is_empty() {
        alternatives.push(Condition::Terms(terms));
    }
    if alternatives.is_empty() {
        return Err(Outcome::invalid(format!("{type_name} is not part of the {code} compartment")));
    }
    Ok(Condition::any(alternatives))
}

async fn total(service: &Service, query: &Query) -> Result<Option<i64>, Outcome> {
    match (query.summary, query.total) {
        (Summary::Count, _) | (_, Total::Accurate) => read::count(&service.store, service.policy, &query.condition).await.map(Some),
        (_, Total::Estimate) => read::estimate(&service.store, service.policy, &query.condition).await.map(Some),
        (_, Total::None) => Ok(None),
    }
}

#[derive(Default)]
struct Page {
    found: Vec<Found>,
    next: Option<Cursor>,
}

/// The matches of one page, and where the next begins.
async fn matches(service: &Service, query: &Query, path: &str) -> Result<Page, Outcome> {
    let fingerprint = fingerprint(query, path);
    let cursor = query
        .cursor
        .as_deref()
        .map(|text| service.cursor_key.open(text, fingerprint))
        .transpose()?;
    let by_code;
    let query = if is_led_by_code(service, query, cursor.as_ref()) {
        by_code = Query {
            sort: vec![NEWEST],
            ..query.clone()
        };
        &by_code
    } else {
        query
    };
    let mut found: Vec<Found> = Vec::new();
    let mut next = None;
    let parts = page::parts(query);
    for (i, part) in parts.iter().enumerate() {
        let is_over = cursor.as_ref().is_some_and(|c| c.is_without_key && *part == Part::WithDate);
        if is_over || next.is_some() {
            continue;
        }
        let after = cursor
            .as_ref()
            .filter(|c| c.is_without_key == (*part == Part::WithoutDate) && c.rid != FROM_THE_BEGINNING);
        // One row more than the page holds tells whether there is a next page.
        let limit = query.count + 1 - found.len();
        let page = PageRead {
            policy: service.policy,
            query,
            part: *part,
            after,
            limit,
        };
        let rows = read_page(service, &page).await?;
        let is_full = rows.len() == limit;
        let room = query.count - found.len();
        found.extend(rows.into_iter().take(room));
        let is_last_part = i + 1 == parts.len();
        if is_full {
            let last = found.last().map(|last| (last.keys.clone(), last.row.rid));
            next = match last {
                Some((keys, rid)) if room > 0 => Some(Cursor {
                    query: fingerprint,
                    is_without_key: *part == Part::WithoutDate,
                    keys,
                    rid,
                }),
                // The page was full before this part: the next page begins with it.
                _ => Some(Cursor {
                    query: fingerprint,
                    is_without_key: true,
                    keys: Vec::new(),
                    rid: FROM_THE_BEGINNING,
                }),
            };
        } else if is_last_part {
            next = None;
        }
    }
    Ok(Page { found, next })
}

/// Whether a search without an order is answered newest first, as the index of codes and dates has its matches: so a page of a dense code costs
/// what it shows. Later pages go on in the order of the first.
fn is_led_by_code(service: &Service, query: &Query, cursor: Option<&Cursor>) -> bool {
    let Some(code) = query.code.filter(|_| query.sort.is_empty()) else {
        return false;
    };
    match cursor {
        Some(cursor) => cursor.is_without_key || !cursor.keys.is_empty(),
        None => service.store.density().leads(code, &query.condition),
    }
}

const NEWEST: Sort = Sort {
    key: SortKey::PrimaryDate,
    is_descending: true,
};

/// By the plan that the density of what is asked for suggests.
async fn read_page(service: &Service, page: &PageRead<'_>) -> Result<Vec<Found>, Outcome> {
    let query = page.query;
    let density = service.store.density();
    let held = query.holders.as_ref().and_then(|holders| {
        let (inner, rest) = holders.split(&query.condition)?;
        density
            .leads_holders(holders, inner, &rest, query.number)
            .then_some((holders, inner, rest))
    });
    if let Some((holders, inner, rest)) = held {
        let sql = page.sql_by_holders(holders, inner, &rest, row_columns);
        return read::page(&service.store, Plan::Gather, sql, page.sort().len()).await;
    }
    let is_newest = page.part == Part::WithDate && query.sort[0].is_descending;
    let code = query.code.filter(|code| is_newest && density.leads(*code, &query.condition));
    let (plan, sql) = match (code, density.plan(&query.condition)) {
        (Some(code), _) => {
            let ends_at = page.ends_at();
            let found = read::page(
                &service.store,
                Plan::Gather,
                page.sql_by_code(code, ends_at, row_columns),
                page.sort().len(),
            )
            .await?;
            let begins = |found: &Found| found.keys.first()?.as_deref()?.parse::<i64>().ok();
            let is_whole = ends_at.is_none_or(|at| found.len() == page.limit && found.last().and_then(begins) >= Some(at));
            if is_whole {
                return Ok(found);
            }
            (Plan::Gather, page.sql_by_code(code, None, row_columns))
        }
        (None, Plan::Gather) => {
            let (driver, rest) = density.driver(&query.condition);
            (Plan::Gather, page.sql_to_gather(&driver, &rest, row_columns))
        }
        (None, Plan::Walk) => (Plan::Walk, page.sql_to_walk(row_columns)),
    };
    read::page(&service.store, plan, sql, page.sort().len()).await
}

/// Of everything that decides the result and its order.
fn fingerprint(query: &Query, path: &str) -> i64 {
    let used: Vec<String> = query
        .used
        .iter()
        .filter(|(name, _)| name != "_count" && name != "_total")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    // The order of holders came with a later version than the cursors.
    let order = if query.holders.is_some() { "holders" } else { "" };
    hash(&[path, &used.join("&"), order])
}

/// What the includes add to the page; tells whether a limit cut it short.
async fn included(service: &Service, query: &Query, matches: &[Found]) -> Result<(Vec<Found>, bool), Outcome> {
    let mut included: Vec<Found> = Vec::new();
    let mut seen: HashSet<i64> = matches.iter().map(|f| f.row.rid).collect();
    let mut is_cut = false;
    let mut from = 0;
    for round in 0..ITERATIONS_MAX {
        let includes: Vec<&Include> = query.includes.iter().filter(|i| round == 0 || i.is_iterate).collect();
        let sources: Vec<&Found> = if round == 0 {
            matches.iter().collect()
        } else {
            included[from..].iter().collect()
        };
        if includes.is_empty() || sources.is_empty() {
            return Ok((included, is_cut));
        }
        let mut added = Vec::new();
        for include in includes {
            let room = service.limits.includes_max.saturating_sub(included.len() + added.len());
            let Some(condition) = include_condition(service, include, &sources)? else {
                continue;
            };
            let (driver, rest) = service.store.density().driver(&condition);
            let sql = page::included(service.policy, &driver, &rest, room + 1, row_columns);
            let mut rows = read::page(&service.store, Plan::Gather, sql, 0).await?;
            is_cut |= rows.len() > room;
            rows.truncate(room);
            added.extend(rows.into_iter().filter(|f| seen.insert(f.row.rid)));
        }
        from = included.len();
        included.extend(added);
    }
    Ok((included, is_cut))
}

fn include_condition(service: &Service, include: &Include, sources: &[&Found]) -> Result<Option<Condition>, Outcome> {
    let registry = &service.store.registry;
    let type_condition = |name: &str| registry.number_of(name).map(|number| Condition::Terms(vec![type_term(number)]));
    if include.is_reverse {
        let targets = sources.iter().filter(|f| {
            include
                .target_type
                .as_deref()
                .is_none_or(|t| registry.name_of(f.row.type_number) == t)
        });
        let hashes: Vec<i64> = targets.map(|f| self_hash(registry.name_of(f.row.type_number), &f.row.id)).collect();
        let terms: Vec<i64> = hashes
            .iter()
            .flat_map(|hash| include.salts.iter().map(|salt| reference_term(*salt, *hash)))
            .collect();
        return Ok((!terms.is_empty()).then_some(Condition::Terms(terms)));
    }
    let of_type = sources
        .iter()
        .filter(|f| registry.name_of(f.row.type_number) == include.source_type);
    let hashes: Vec<i64> = of_type
        .flat_map(|f| f.references.iter().flat_map(|r| include.salts.iter().map(move |salt| r ^ salt)))
        .collect();
    if hashes.is_empty() {
        return Ok(None);
    }
    let mut conditions = vec![Condition::Ids(hashes)];
    conditions.extend(include.target_type.as_deref().and_then(type_condition));
    Ok(Some(Condition::all(conditions)))
}

#[expect(clippy::too_many_arguments, reason = "the parts of a searchset, each used once")]
fn bundle(
    service: &Service,
    base: &str,
    path: &str,
    query: &Query,
    total: Option<i64>,
    page: Page,
    included: Vec<Found>,
    is_cut: bool,
) -> Result<Reply, Outcome> {
    let mut out = String::with_capacity(1024 + (page.found.len() + included.len()) * 1024);
    let _ = write!(
        out,
        "{{\"resourceType\":\"Bundle\",\"id\":\"{}\",\"type\":\"searchset\"",
        service.store.clock.new_id()
    );
    if let Some(total) = total {
        let _ = write!(out, ",\"total\":{total}");
    }
    out.push_str(",\"link\":[");
    push_link(&mut out, base, path, query, "self", None);
    if let Some(cursor) = &page.next {
        out.push(',');
        push_link(&mut out, base, path, query, "next", Some(&service.cursor_key.seal(cursor)));
    }
    out.push(']');
    let mut separator = ",\"entry\":[";
    for (found, mode) in page
        .found
        .iter()
        .map(|f| (f, "match"))
        .chain(included.iter().map(|f| (f, "include")))
    {
        out.push_str(separator);
        separator = ",";
        let type_name = service.store.registry.name_of(found.row.type_number);
        let _ = write!(out, "{{\"fullUrl\":\"{base}/{type_name}/{}\",\"resource\":", found.row.id);
        let json = found.row.to_json(&service.store.registry, &service.store.bodies)?;
        match subset::is_whole(query) {
            true => out.push_str(&json),
            false => subset::push(service, query, type_name, &json, &mut out)?,
        }
        let _ = write!(out, ",\"search\":{{\"mode\":\"{mode}\"}}}}");
    }
    let remarks = remarks(service, query, is_cut);
    if !remarks.is_empty() {
        let _ = write!(
            out,
            "{separator}{{\"resource\":{},\"search\":{{\"mode\":\"outcome\"}}}}",
            operation_outcome(&remarks)
        );
        separator = ",";
    }
    out.push_str(if separator == "," { "]}" } else { "}" });
    Ok(Reply::with_body(out))
}

fn remarks(service: &Service, query: &Query, is_cut: bool) -> Vec<Issue> {
    let remark = |code, text| Issue {
        severity: Severity::Warning,
        code,
        expression: String::new(),
        text,
    };
    let mut remarks: Vec<Issue> = query
        .ignored
        .iter()
        .map(|text| remark("not-supported", format!("Left out: {text}")))
        .collect();
    if is_cut {
        remarks.push(remark(
            "too-costly",
            format!(
                "The page includes {} resources and no more (search.includes_max)",
                service.limits.includes_max
            ),
        ));
    }
    remarks
}

fn push_link(out: &mut String, base: &str, path: &str, query: &Query, relation: &str, cursor: Option<&str>) {
    let mut parameters = form_urlencoded::Serializer::new(String::new());
    parameters.extend_pairs(query.used.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    if let Some(cursor) = cursor {
        parameters.append_pair("_cursor", cursor);
    }
    let parameters = parameters.finish();
    let question = if parameters.is_empty() { "" } else { "?" };
    let _ = write!(out, "{{\"relation\":\"{relation}\",\"url\":");
    quote_into(&format!("{base}/{path}{question}{parameters}"), out);
    out.push('}');
}
