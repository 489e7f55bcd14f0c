//! FHIR search on a type, and compartment search. Spec: <https://hl7.org/fhir/R4/http.html#search>, <https://hl7.org/fhir/R4/compartmentdefinition.html>.
//! Not supported: search on the whole repository at once.

pub mod bundle;
pub mod compartment;
pub mod include;
pub mod page;
pub mod subset;

use crate::fhir::identity::hash;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::pairs;
use crate::interaction::search::bundle::bundle;
use crate::interaction::search::compartment::compartment_condition;
use crate::interaction::search::include::included;
use crate::interaction::search::page::Page;
use crate::interaction::search::page::matches;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parse::Handling;
use crate::search::parse::Parser;
use crate::search::parse::Query;
use crate::search::parse::Summary;
use crate::search::parse::Total;
use crate::store::read;

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
        registry: &service.store.registry(),
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

async fn total(service: &Service, query: &Query) -> Result<Option<i64>, Outcome> {
    match (query.summary, query.total) {
        (Summary::Count, _) | (_, Total::Accurate) => read::count(&service.store, service.policy, &query.condition).await.map(Some),
        (_, Total::Estimate) => read::estimate(&service.store, service.policy, &query.condition).await.map(Some),
        (_, Total::None) => Ok(None),
    }
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
