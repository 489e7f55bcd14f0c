//! `_sort` by what the index has no order of: tokens, references, URIs, how well a text fits (`_score`), how far a place is (`near`). All matches are
//! read and sorted, so they must not be too many; more of them only have an order by codes (`by_value`). Spec: <https://hl7.org/fhir/R4/search.html#sort>; `near` is HAPI's.

use crate::fhir::json::Document;
use crate::interaction::Service;
use crate::interaction::search::by_value;
use crate::interaction::search::page::Begin;
use crate::interaction::search::page::Page;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::cursor::Place;
use crate::search::density::Plan;
use crate::search::index::index;
use crate::search::index::order::order_value;
use crate::search::page::PageRead;
use crate::search::page::Part;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::store::read;
use crate::store::read::Found;
use crate::store::read::row_columns;
use crate::store::score;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Rows whose values are read before others that the thread answers have their turn.
const ROWS_AT_ONCE: usize = 32;

pub fn is_needed(query: &Query) -> bool {
    query.sort.iter().any(|sort| sort.key.is_read())
}

/// The matches of one page, of one type or several. Errors: 400 naming the setting if there are too many to sort.
pub async fn matches(service: &Service, queries: &[Query], path: &str) -> Result<Page, Outcome> {
    let query = &queries[0];
    let begin = Begin::open(service, query, path)?;
    if let [query] = queries {
        let found = by_value::rows(service, query, begin.place(), query.count + 1).await?;
        return Ok(begin.page_of(query.count, found));
    }
    let max = service.limits.sort_rows_max;
    let mut found = Vec::new();
    for query in queries {
        let rows = gather(service, query, max - found.len()).await?;
        found.extend(rows.ok_or_else(|| too_many(max))?);
    }
    sort(query, &mut found, begin.place());
    Ok(begin.page_of(query.count, found))
}

/// Puts matches in the order of their keys, and takes away those up to a place.
pub fn sort(query: &Query, found: &mut Vec<Found>, after: Option<&Place>) {
    found.sort_by(|a, b| compare(&query.sort, (&a.keys, a.row.rid), (&b.keys, b.row.rid)));
    if let Some(place) = after {
        let shown = found.partition_point(|f| compare(&query.sort, (&f.keys, f.row.rid), (&place.keys, place.rid)) != Ordering::Greater);
        found.drain(..shown);
    }
}

pub fn too_many(max: usize) -> Outcome {
    let text = format!(
        "_sort by a reference, a URI, an identifier, a contact, _score or near, or by a code after another key or of several types, reads all matches, at \
         most {max} (search.sort_rows_max): ask for fewer, or sort by a code, a date, string, number, quantity, _id or _lastUpdated"
    );
    Outcome::invalid(text).with_code("too-costly")
}

/// The matches of a type, with the keys of the whole order; `None` if there are more than there is room for.
pub async fn gather(service: &Service, query: &Query, room: usize) -> Result<Option<Vec<Found>>, Outcome> {
    let limit = room + 1;
    let from_index = Query {
        sort: query.sort.iter().filter(|sort| !sort.key.is_read()).cloned().collect(),
        ..query.clone()
    };
    let page = PageRead {
        policy: service.policy,
        query: &from_index,
        part: Part::All,
        after: None,
        limit,
    };
    let sql = match service.store.density().gathered(&query.condition) {
        Some((driver, rest)) => page.sql_to_gather(&driver, &rest, row_columns),
        None => {
            // Whether there are too many is known without reading and sorting them.
            let rows = read::numbers(&service.store, Plan::Walk, page.sql_for_rows(&query.condition)).await?;
            if rows.len() == limit {
                return Ok(None);
            }
            page.sql_to_gather(&Condition::Rows(rows), &Condition::All(Vec::new()), row_columns)
        }
    };
    let mut found = read::page(&service.store, Plan::Gather, sql, from_index.sort.len()).await?;
    if found.len() == limit {
        return Ok(None);
    }
    let registry = service.store.registry();
    let of = registry
        .of(&query.type_name)
        .ok_or_else(|| Outcome::internal("a query of no type"))?;
    let scores = match query.sort.iter().any(|sort| sort.key == SortKey::Score) {
        true => score::scores(&service.store, &query.condition, &found).await?,
        false => HashMap::new(),
    };
    let places = query.condition.places();
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
            SortKey::Score => scores.get(&found.row.rid).map(f64::to_string),
            SortKey::Distance => {
                let positions = index(of, document.root()).positions;
                let distances = positions.iter().flat_map(|at| places.iter().map(|place| place.metres_to(*at)));
                distances.min_by(f64::total_cmp).map(|metres| metres.to_string())
            }
            _ => from_index.next().flatten(),
        };
        found.keys = query.sort.iter().map(key).collect();
    }
    Ok(Some(found))
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
        SortKey::Quantity(_) | SortKey::Score | SortKey::Distance => {
            let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
            number(a).total_cmp(&number(b))
        }
        // Instants are written in one time zone and from the largest part to the smallest.
        SortKey::LastUpdated | SortKey::Id | SortKey::String(_) | SortKey::Read(_) => a.cmp(b),
    }
}
