//! `_sort` by what the index has no order of: tokens, references, URIs. All matches are read and sorted, so they must not be too many.
//! Spec: <https://hl7.org/fhir/R4/search.html#sort>.

use crate::fhir::json::Document;
use crate::interaction::Service;
use crate::interaction::search::page::Begin;
use crate::interaction::search::page::Page;
use crate::outcome::Outcome;
use crate::search::density::Plan;
use crate::search::index::order::order_value;
use crate::search::page::PageRead;
use crate::search::page::Part;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::store::read;
use crate::store::read::Found;
use crate::store::read::row_columns;
use std::cmp::Ordering;

/// Rows whose values are read before others that the thread answers have their turn.
const ROWS_AT_ONCE: usize = 32;

pub fn is_needed(query: &Query) -> bool {
    query.sort.iter().any(|sort| matches!(sort.key, SortKey::Read(_)))
}

/// The matches of one page. Errors: 400 naming the setting if there are too many to sort.
pub async fn matches(service: &Service, query: &Query, path: &str) -> Result<Page, Outcome> {
    let begin = Begin::open(service, query, path)?;
    let mut found = gather(service, query).await?;
    found.sort_by(|a, b| compare(&query.sort, (&a.keys, a.row.rid), (&b.keys, b.row.rid)));
    if let Some(place) = begin.place() {
        let shown = found.partition_point(|f| compare(&query.sort, (&f.keys, f.row.rid), (&place.keys, place.rid)) != Ordering::Greater);
        found.drain(..shown);
    }
    Ok(begin.page_of(query.count, found))
}

/// All matches, with the keys of the whole order.
async fn gather(service: &Service, query: &Query) -> Result<Vec<Found>, Outcome> {
    let max = service.limits.sort_rows_max;
    let from_index = Query {
        sort: query
            .sort
            .iter()
            .filter(|sort| !matches!(sort.key, SortKey::Read(_)))
            .cloned()
            .collect(),
        ..query.clone()
    };
    let page = PageRead {
        policy: service.policy,
        query: &from_index,
        part: Part::All,
        after: None,
        limit: max + 1,
    };
    let (plan, sql) = match service.store.density().gathered(&query.condition) {
        Some((driver, rest)) => (Plan::Gather, page.sql_to_gather(&driver, &rest, row_columns)),
        None => (Plan::Walk, page.sql_to_walk(&query.condition, row_columns)),
    };
    let mut found = read::page(&service.store, plan, sql, from_index.sort.len()).await?;
    if found.len() > max {
        let text = format!(
            "_sort by a token, a reference or a URI reads all matches, at most {max} (search.sort_rows_max): ask for fewer, or sort by a date, string, \
             number, quantity, _id or _lastUpdated"
        );
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    let registry = service.store.registry();
    let of = registry
        .of(&query.type_name)
        .ok_or_else(|| Outcome::internal("a query of no type"))?;
    for (i, found) in found.iter_mut().enumerate() {
        if i % ROWS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        let json = found.to_json(&registry, &service.store.bodies)?;
        let document = Document::parse_str(&json).map_err(|e| Outcome::internal(format!("a stored body does not parse: {e}")))?;
        let mut from_index = std::mem::take(&mut found.keys).into_iter();
        let key = |sort: &Sort| match &sort.key {
            SortKey::Read(code) => of
                .get(code)
                .and_then(|parameter| order_value(of, parameter, sort.is_descending, document.root())),
            _ => from_index.next().flatten(),
        };
        found.keys = query.sort.iter().map(key).collect();
    }
    Ok(found)
}

/// Rows without a value come last in both directions, and of equal ones the newest first, as in every other order.
fn compare(sort: &[Sort], (a, a_rid): (&[Option<String>], i64), (b, b_rid): (&[Option<String>], i64)) -> Ordering {
    for (i, sort) in sort.iter().enumerate() {
        let ordering = match (a.get(i).and_then(Option::as_deref), b.get(i).and_then(Option::as_deref)) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => {
                let ordering = compare_values(&sort.key, a, b);
                if sort.is_descending { ordering.reverse() } else { ordering }
            }
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    b_rid.cmp(&a_rid)
}

/// Values as the database writes them.
fn compare_values(key: &SortKey, a: &str, b: &str) -> Ordering {
    match key {
        SortKey::PrimaryDate | SortKey::Date(_) | SortKey::Referenced(_) => a.parse::<i64>().ok().cmp(&b.parse::<i64>().ok()),
        SortKey::Quantity(_) => {
            let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
            number(a).total_cmp(&number(b))
        }
        // Instants are written in one time zone and from the largest part to the smallest.
        SortKey::LastUpdated | SortKey::Id | SortKey::String(_) | SortKey::Read(_) => a.cmp(b),
    }
}
