//! One page of matches, by the plan that the density of what is asked for suggests.

use crate::interaction::Service;
use crate::interaction::search::fingerprint;
use crate::outcome::Outcome;
use crate::search::compile::source::Reads;
use crate::search::condition::Condition;
use crate::search::cursor::Cursor;
use crate::search::cursor::Place;
use crate::search::density::Density;
use crate::search::density::Plan;
use crate::search::page;
use crate::search::page::PageRead;
use crate::search::page::Part;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::sql::Sql;
use crate::search::types;
use crate::store::read;
use crate::store::read::Found;
use crate::store::read::row_columns;
use std::collections::HashMap;

/// A cursor's row when the next page begins with the first row of a part.
const FROM_THE_BEGINNING: i64 = i64::MAX;

/// The newest of a code that are looked at for those that lack a parameter: it may be that none does.
const LOOKED_AT_MAX: usize = 1_000;

/// Rows of a code that lack a parameter and are read to be sorted. More are met soon enough among the newest of the code.
const LACKING_MAX: usize = 20_000;

const NEWEST: Sort = Sort {
    key: SortKey::PrimaryDate,
    is_descending: true,
};

/// The matches of one page, in order, and where the next begins.
#[derive(Default)]
pub struct Page {
    pub found: Vec<Found>,
    /// How well each match fits, by its row id, where a text was asked for.
    pub scores: HashMap<i64, f64>,
    pub next: Option<Cursor>,
    /// The page before it: `None` when there is none or the way back is not known; `Some(None)` for the first page.
    pub previous: Option<Option<Cursor>>,
}

/// Where a page begins: after the place of a cursor, or with the first match.
pub struct Begin {
    fingerprint: i64,
    cursor: Option<Cursor>,
}

impl Begin {
    /// Opens the query's cursor, if it has one. Errors: 400 if it is of another search.
    pub fn open(service: &Service, query: &Query, path: &str) -> Result<Begin, Outcome> {
        let fingerprint = fingerprint(query, path);
        let cursor = query.cursor.as_deref().map(|text| service.cursor_key.open(text, fingerprint));
        Ok(Begin {
            fingerprint,
            cursor: cursor.transpose()?,
        })
    }

    pub fn place(&self) -> Option<&Place> {
        self.cursor.as_ref().map(|cursor| &cursor.place)
    }

    /// The page of what was found; the one after it begins after `next`.
    pub fn page(&self, found: Vec<Found>, next: Option<Place>) -> Page {
        let this = self.cursor.as_ref();
        Page {
            found,
            scores: HashMap::new(),
            next: next.map(|place| Cursor::next(this, self.fingerprint, place)),
            previous: this.and_then(Cursor::previous),
        }
    }

    /// The page of the first `count` of what was found; there is another if more was found.
    pub fn page_of(&self, count: usize, mut found: Vec<Found>) -> Page {
        let is_full = found.len() > count;
        found.truncate(count);
        let next = found.last().filter(|_| is_full).map(|last| Place {
            is_without_key: false,
            keys: last.keys.clone(),
            rid: last.row.rid,
        });
        self.page(found, next)
    }
}

/// The matches of one page, and where the next begins.
pub async fn matches(service: &Service, query: &Query, path: &str) -> Result<Page, Outcome> {
    let begin = Begin::open(service, query, path)?;
    let place = begin.place();
    let by_code;
    let query = if is_led_by_code(service, query, place) {
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
        let is_over = place.is_some_and(|c| c.is_without_key && *part == Part::WithDate);
        if is_over || next.is_some() {
            continue;
        }
        let after = place.filter(|c| c.is_without_key == (*part == Part::WithoutDate) && c.rid != FROM_THE_BEGINNING);
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
                Some((keys, rid)) if room > 0 => Some(Place {
                    is_without_key: *part == Part::WithoutDate,
                    keys,
                    rid,
                }),
                // The page was full before this part: the next page begins with it.
                _ => Some(Place {
                    is_without_key: true,
                    keys: Vec::new(),
                    rid: FROM_THE_BEGINNING,
                }),
            };
        } else if is_last_part {
            next = None;
        }
    }
    Ok(begin.page(found, next))
}

/// The matches of one page of several types, which have one order.
pub async fn matches_of_types(service: &Service, queries: &[Query], path: &str) -> Result<Page, Outcome> {
    let query = &queries[0];
    let begin = Begin::open(service, query, path)?;
    let place = begin.place();
    let sql = types::sql(service.policy, queries, place, query.count + 1, row_columns);
    let found = read::page(&service.store, Plan::Walk, sql, query.sort.len()).await?;
    Ok(begin.page_of(query.count, found))
}

/// Whether a search without an order is answered newest first, as the index of codes and dates has its matches: so a page of a dense code costs
/// what it shows. Later pages go on in the order of the first.
fn is_led_by_code(service: &Service, query: &Query, place: Option<&Place>) -> bool {
    let Some(code) = query.code.filter(|_| query.sort.is_empty()) else {
        return false;
    };
    match place {
        Some(place) => place.is_without_key || !place.keys.is_empty(),
        None => service.store.density().leads(code, &query.condition),
    }
}

/// By the plan that the density of what is asked for suggests.
pub async fn read_page(service: &Service, page: &PageRead<'_>) -> Result<Vec<Found>, Outcome> {
    let query = page.query;
    let density = service.store.density();
    let held = query.holders.as_ref().and_then(|holders| {
        let (inner, rest) = holders.split(&query.condition)?;
        density
            .leads_holders(holders, inner, &rest, query.number)
            .then_some((holders, inner, rest))
    });
    if let Some((holders, inner, rest)) = held {
        let sql = page.sql_by_holders(holders, inner, &density.walked(&rest, false), row_columns);
        return read::page(&service.store, Plan::Gather, sql, page.sort().len()).await;
    }
    let is_newest = page.part == Part::WithDate && query.sort[0].is_descending;
    let code = query.code.filter(|code| is_newest && density.leads(*code, &query.condition));
    let (plan, sql) = match (code, density.gathered(&query.condition)) {
        (Some(code), _) => return led_page(service, page, code).await,
        (None, Some((driver, rest))) => (Plan::Gather, page.sql_to_gather(&driver, &rest, row_columns)),
        (None, None) => match quantity_page(service, page).await? {
            Quantities::Found(found) => return Ok(found),
            Quantities::Few(sql) => (Plan::Gather, sql),
            Quantities::Unknown => {
                let asked = density.walked(&query.condition, false);
                if let Some(sql) = page.sql_by_values(density.values_to_read(page.limit, &query.condition), &asked, row_columns) {
                    let found = read::page(&service.store, Plan::Walk, sql, page.sort().len()).await?;
                    if found.len() == page.limit {
                        return Ok(found);
                    }
                }
                let walked = density.walked(&query.condition, !query.sort.is_empty());
                (Plan::Walk, page.sql_to_walk(&walked, row_columns))
            }
        },
    };
    read::page(&service.store, plan, sql, page.sort().len()).await
}

/// The newest of a code, in order. Where something is missing, it may be that the code never lacks it: then some of the newest are looked at, and if they do
/// not fill the page both indexes together tell which rows do.
async fn led_page(service: &Service, page: &PageRead<'_>, code: i64) -> Result<Vec<Found>, Outcome> {
    let (store, keys) = (&service.store, page.sort().len());
    let begins = |found: &Found| found.keys.first()?.as_deref()?.parse::<i64>().ok();
    let ends_at = page.ends_at();
    let is_whole = |found: &[Found]| found.len() == page.limit && ends_at.is_none_or(|at| found.last().and_then(begins) >= Some(at));
    if let Some((driver, rest)) = store.density().masked(&page.query.condition) {
        let date = read::numbers(store, Plan::Gather, page.sql_for_date_after(code, LOOKED_AT_MAX)).await?;
        if let Some(date) = date.first() {
            let sql = page.sql_by_code(code, ends_at, Some(*date), row_columns);
            let found = read::page(store, Plan::Gather, sql, keys).await?;
            if is_whole(&found) {
                return Ok(found);
            }
            let all = PageRead {
                limit: LACKING_MAX + 1,
                ..*page
            };
            let rows = read::numbers(store, Plan::Walk, all.sql_for_rows(&driver)).await?;
            if rows.len() <= LACKING_MAX {
                let sql = page.sql_to_gather(&Condition::Rows(rows), &rest, row_columns);
                return read::page(store, Plan::Gather, sql, keys).await;
            }
        }
    }
    let found = read::page(store, Plan::Gather, page.sql_by_code(code, ends_at, None, row_columns), keys).await?;
    if ends_at.is_none() || is_whole(&found) {
        return Ok(found);
    }
    read::page(store, Plan::Gather, page.sql_by_code(code, None, None, row_columns), keys).await
}

/// How a page of a search by quantity is read.
enum Quantities {
    /// It was.
    Found(Vec<Found>),
    /// By this statement: few resources have such a value.
    Few(Sql),
    Unknown,
}

/// The statistics do not tell how many resources have a value in a range, so the index is asked, up to a limit. Few are gathered; of many, a page is
/// full after some rows in order, unless the values lie elsewhere in it.
async fn quantity_page(service: &Service, page: &PageRead<'_>) -> Result<Quantities, Outcome> {
    // What was is not counted, nor what is contained: they have tables of their own.
    let split = Density::split_quantity(&page.query.condition).filter(|_| page.query.reads() == Reads::Now);
    let Some((quantity, rest)) = split else {
        return Ok(Quantities::Unknown);
    };
    let density = service.store.density();
    let max = density.quantity_rows_max(page.limit);
    let rows = read::rids_of_quantity(&service.store, quantity, max + 1).await?;
    if rows.len() <= max {
        return Ok(Quantities::Few(page.sql_to_gather(&Condition::Rows(rows), &rest, row_columns)));
    }
    // Something else has fewer: its rows are asked for their values.
    if let Some((driver, Condition::All(mut others))) = density.asked_for_quantity(&rest) {
        others.push(Condition::Quantity(Box::new(quantity.clone())));
        return Ok(Quantities::Few(page.sql_to_gather(&driver, &Condition::All(others), row_columns)));
    }
    let Some(sql) = page.sql_among_first(density.rows_to_walk(page.limit, rows.len()), row_columns) else {
        return Ok(Quantities::Unknown);
    };
    let found = read::page(&service.store, Plan::Walk, sql, page.sort().len()).await?;
    Ok(match found.len() == page.limit {
        true => Quantities::Found(found),
        false => Quantities::Unknown,
    })
}
