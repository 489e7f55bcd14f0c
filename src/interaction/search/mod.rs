//! FHIR search on a type, on several, on the whole system, and within a compartment.
//! Spec: <https://hl7.org/fhir/R4/http.html#search>, <https://hl7.org/fhir/R4/compartmentdefinition.html>.

pub mod bundle;
pub mod by_value;
pub mod compartment;
pub mod include;
pub mod lookup;
pub mod page;
pub mod probe;
pub mod sorted;
pub mod subset;

use crate::fhir::identity::hash;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::as_of;
use crate::interaction::bounded_pairs;
use crate::interaction::search::bundle::bundle;
use crate::interaction::search::include::included;
use crate::interaction::search::lookup::look_up;
use crate::interaction::search::page::Page;
use crate::interaction::search::page::matches;
use crate::interaction::search::page::matches_of_types;
use crate::interaction::search::probe::probe;
use crate::outcome::Category;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::outcome::operation_outcome;
use crate::search::condition::Condition;
use crate::search::contained;
use crate::search::contained::Asked;
use crate::search::named;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use crate::search::parse::Handling;
use crate::search::parse::Parser;
use crate::search::parse::Query;
use crate::search::parse::Summary;
use crate::search::parse::Total;
use crate::store::count;
use crate::store::database_error;
use crate::store::explain;
use crate::store::explain::Explained;
use crate::store::index_complaint;
use crate::store::read;
use crate::store::score;
use crate::store::search_parameter::is_still;
use std::sync::Arc;

/// Changes of the search parameters during one search: each is an administrator's act.
const CHANGES_MAX: usize = 5;

/// What is searched.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// `[type]`
    Type(&'a str),
    /// All types, or those that `_type` names.
    System,
    /// `[compartment]/[id]/[type]`; the type `*` stands for all of the compartment.
    Compartment { code: &'a str, id: &'a str, type_name: &'a str },
}

impl Scope<'_> {
    /// Its address, below the base.
    fn path(&self) -> String {
        match self {
            Scope::Type(name) => (*name).to_owned(),
            Scope::System => String::new(),
            Scope::Compartment { code, id, type_name } => format!("{code}/{id}/{type_name}"),
        }
    }
}

/// `GET [base]/[scope]?[parameters]`.
pub async fn search(service: &Service, base: &str, scope: Scope<'_>, query: &str, handling: Handling) -> Result<Reply, Outcome> {
    let pairs = bounded_pairs(service, query)?;
    for _ in 0..CHANGES_MAX {
        let registry = Arc::clone(&service.store.registry());
        let reply = search_by(service, &registry, base, scope, pairs.clone(), handling).await;
        // A parameter of one's own that is no longer in use finds only a part: what was written since is not indexed by it.
        if !registry.may_read_custom(&pairs) || is_still(&service.store, registry.generation()).await.map_err(database_error)? {
            return reply;
        }
    }
    Err(Outcome::unavailable(format!(
        "The search parameters were changed during each of {CHANGES_MAX} searches (CHANGES_MAX); try again"
    )))
}

async fn search_by(
    service: &Service,
    registry: &Registry,
    base: &str,
    scope: Scope<'_>,
    mut pairs: Vec<(String, String)>,
    handling: Handling,
) -> Result<Reply, Outcome> {
    let noting;
    let (service, asked) = match pairs.iter().any(|(name, value)| name == "_explain" && value == "true") {
        // From the beginning: what is asked before a plan is chosen is part of it.
        true => {
            let (store, asked) = service.store.noting();
            noting = Service { store, ..service.clone() };
            (&noting, Some(asked))
        }
        false => (service, None),
    };
    let parser = Parser {
        registry,
        limits: &service.limits,
        handling,
        base,
        now: service.store.clock.now(),
        is_past: false,
        contained: Asked::default(),
    };
    let mut of_type = Vec::new();
    if !matches!(scope, Scope::Type(_)) {
        of_type = pairs.extract_if(.., |(name, _)| name == "_type").collect();
    }
    let mut types = types(service, &parser, scope, &of_type).await?;
    // What has no narrative is not meant by a search of all that have one.
    if of_type.is_empty() && pairs.iter().any(|(name, _)| name == "_text") && types.iter().any(|of| of.get("_text").is_some()) {
        types.retain(|of| of.get("_text").is_some());
    }
    if let [of] = types.as_slice() {
        pairs = named::expand(&service.limits.named_queries, &of.name, &pairs)?;
    }
    let mut queries = parser.queries(&types, &pairs)?;
    if queries[0].is_explained && !service.limits.explain_allowed {
        let text = "_explain is not granted here: search.explain_allowed is off";
        return Err(Outcome::new(Category::Forbidden, "forbidden", text));
    }
    if let Some(before) = queries[0].as_of {
        as_of::check_searchable(service, before).await?;
    }
    if queries[0].contained.is_contained() {
        check_contained(service, scope).await?;
    }
    for query in &mut queries {
        if let Scope::Compartment { code, id, .. } = scope {
            let within = compartment::condition(registry, &query.type_name, code, id)?;
            query.condition = Condition::All(vec![std::mem::replace(&mut query.condition, Condition::nothing()), within]);
        }
        query.used.extend(of_type.iter().cloned());
        let condition = std::mem::replace(&mut query.condition, Condition::nothing());
        let condition = look_up(service, query.as_of, condition).await?;
        query.condition = probe(service, query, condition).await?;
    }
    let queries: Vec<Query> = queries.into_iter().flat_map(contained::spread).collect();
    let path = scope.path();
    match asked.filter(|_| queries[0].is_explained) {
        Some(asked) => explain(service, &asked, base, &path, &queries).await,
        None => answer(service, base, &path, &queries).await,
    }
}

/// Errors: 400 in a compartment, of which no definition tells what is contained in it; 503 while contained resources are not indexed.
async fn check_contained(service: &Service, scope: Scope<'_>) -> Result<(), Outcome> {
    if let Scope::Compartment { type_name, .. } = scope {
        let text = format!(
            "_contained is not supported in a compartment: which contained resources belong to it is not defined; search on {} instead, by the \
             parameter that refers to the owner",
            if type_name == "*" { "a type" } else { type_name }
        );
        return Err(Outcome::not_supported(text));
    }
    match index_complaint(&service.store.pools.points).await? {
        Some(_) => Err(Outcome::unavailable(
            "Contained resources of before the last upgrade are not indexed yet: run eds reindex",
        )),
        None => Ok(()),
    }
}

async fn answer(service: &Service, base: &str, path: &str, queries: &[Query]) -> Result<Reply, Outcome> {
    let total = total(service, queries).await?;
    let first = &queries[0];
    let mut fetched = match first.summary == Summary::Count || first.count == 0 {
        true => Page::default(),
        false if sorted::is_needed(first) => sorted::matches(service, queries, path).await?,
        false if queries.len() == 1 => matches(service, first, path).await?,
        false => matches_of_types(service, queries, path).await?,
    };
    fetched.scores = score::scores(&service.store, &first.condition, &fetched.found).await?;
    let (included, is_cut) = included(service, first, &fetched.found).await?;
    bundle(service, base, path, first, total, fetched, included, is_cut)
}

/// The search is carried out, and its statements are answered in place of its matches.
async fn explain(service: &Service, asked: &explain::Asked, base: &str, path: &str, queries: &[Query]) -> Result<Reply, Outcome> {
    answer(service, base, path, queries).await?;
    let explained = explain::explain(&service.store, asked).await?;
    let issue = |explained: Explained| Issue {
        severity: Severity::Information,
        code: "informational",
        expression: String::new(),
        text: format!("{}\n\n{}", explained.statement, explained.plan),
    };
    let issues: Vec<Issue> = explained.into_iter().map(issue).collect();
    Ok(Reply::with_body(operation_outcome(&issues)))
}

/// The types to search: at least one. Of a scope without end those that the repository has resources of.
async fn types<'r>(
    service: &Service,
    parser: &Parser<'r>,
    scope: Scope<'_>,
    of_type: &[(String, String)],
) -> Result<Vec<&'r TypeParameters>, Outcome> {
    let registry = parser.registry;
    let named: Vec<&str> = match scope {
        Scope::Type(name) => vec![name],
        Scope::Compartment { type_name, .. } if type_name != "*" => vec![type_name],
        Scope::System | Scope::Compartment { .. } => of_type.iter().flat_map(|(_, names)| names.split(',')).collect(),
    };
    if !named.is_empty() {
        let mut types = Vec::new();
        for name in named {
            let of = parser.of(name).map_err(|outcome| match scope {
                Scope::Type(_) => outcome,
                _ => Outcome::invalid(format!("_type: {} is not a resource type", crate::search::value::shown(name))),
            })?;
            if !types.iter().any(|other: &&TypeParameters| other.number == of.number) {
                types.push(of);
            }
        }
        return Ok(types);
    }
    let stored = read::types(&service.store).await?;
    let stored = stored.iter().filter_map(|number| registry.of(registry.name_of(*number)));
    let mut types: Vec<&TypeParameters> = match scope {
        Scope::Compartment { code, .. } => {
            let members = compartment::members(registry, code)?;
            stored.filter(|of| of.name == code || members.contains(&of.name.as_str())).collect()
        }
        _ => stored.collect(),
    };
    if types.is_empty() {
        // Nothing is stored yet: any type has that answer.
        types.push(parser.of("Patient")?);
    }
    Ok(types)
}

async fn total(service: &Service, queries: &[Query]) -> Result<Option<i64>, Outcome> {
    let (summary, total) = (queries[0].summary, queries[0].total);
    if summary != Summary::Count && total == Total::None {
        return Ok(None);
    }
    let mut sum = 0;
    for query in queries {
        sum += match (summary, total) {
            (Summary::Count, _) | (_, Total::Accurate) => {
                count::count(&service.store, service.policy, query.reads(), query.number, &query.condition).await?
            }
            _ => read::estimate(&service.store, service.policy, query.reads(), &query.condition).await?,
        };
    }
    Ok(Some(sum))
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
