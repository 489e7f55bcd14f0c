//! `_sort` by a code over more matches than are read to be sorted. The vocabulary knows the codes that a parameter ever had, in their order, so the
//! matches that have one code after the other are searches of their own, in the order of the keys that follow; what has none comes last.
//! Spec: <https://hl7.org/fhir/R4/search.html#sort>; why so: `docs/adr/0008-plans.md`.

use crate::interaction::Service;
use crate::interaction::search::page::read_page;
use crate::interaction::search::sorted;
use crate::outcome::Outcome;
use crate::search::compile::source::Reads;
use crate::search::condition::Condition;
use crate::search::contained::Matches;
use crate::search::cursor::Place;
use crate::search::index::order::code_of;
use crate::search::index::order::is_ordered;
use crate::search::page::PageRead;
use crate::search::page::Part;
use crate::search::page::parts;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::term::Token;
use crate::search::term::term;
use crate::search::term::type_term;
use crate::store::read::Found;
use crate::store::vocabulary;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

/// Codes of one parameter that are read in their order.
const CODES_MAX: usize = 10_000;
/// Rare codes whose matches are read together and sorted, and how many matches.
const TOGETHER_MAX: usize = 256;
const TOGETHER_ROWS_MAX: usize = 200;

/// Rows in order, each with all keys of the order.
pub type Rows<'a> = Pin<Box<dyn Future<Output = Result<Vec<Found>, Outcome>> + 'a>>;

/// The rows after a place, which has all keys of the order, at most so many. Errors: 400 naming the setting if they are too many to be read and sorted,
/// and have no order by codes.
pub fn rows<'a>(service: &'a Service, query: &'a Query, after: Option<&'a Place>, limit: usize) -> Rows<'a> {
    Box::pin(async move {
        if !sorted::is_needed(query) {
            return indexed(service, query, after, limit).await;
        }
        if let Some(found) = gathered(service, query, service.limits.sort_rows_max, after, limit).await? {
            return Ok(found);
        }
        let by_code = ByCode::of(service, query).await?;
        by_code.rows(after, limit).await
    })
}

/// Rows that are read and sorted; `None` if there are more than there is room for.
async fn gathered(
    service: &Service,
    query: &Query,
    room: usize,
    after: Option<&Place>,
    limit: usize,
) -> Result<Option<Vec<Found>>, Outcome> {
    let Some(mut found) = sorted::gather(service, query, room).await? else {
        return Ok(None);
    };
    sorted::sort(query, &mut found, after);
    found.truncate(limit);
    Ok(Some(found))
}

/// Rows in an order that the index has.
async fn indexed(service: &Service, query: &Query, after: Option<&Place>, limit: usize) -> Result<Vec<Found>, Outcome> {
    let mut found: Vec<Found> = Vec::new();
    for part in parts(query) {
        let has_key = after.is_none_or(|place| place.keys.first().is_some_and(Option::is_some));
        if found.len() == limit || *part == Part::WithDate && !has_key {
            continue;
        }
        let without_key;
        let after = match (part, after) {
            (Part::WithoutDate, Some(place)) if !has_key => {
                without_key = Place {
                    is_without_key: true,
                    keys: place.keys[1..].to_vec(),
                    rid: place.rid,
                };
                Some(&without_key)
            }
            (Part::WithoutDate, _) => None,
            (Part::All | Part::WithDate, after) => after,
        };
        let page = PageRead {
            policy: service.policy,
            query,
            part: *part,
            after,
            limit: limit - found.len(),
        };
        let mut rows = read_page(service, &page).await?;
        if *part == Part::WithoutDate {
            rows.iter_mut().for_each(|row| row.keys.insert(0, None));
        }
        found.append(&mut rows);
    }
    Ok(found)
}

/// A query whose first key is a parameter of codes.
struct ByCode<'a> {
    service: &'a Service,
    query: &'a Query,
    /// Bit and salts of the parameter, and the salt by which its code is the first of a row, if it is.
    bit: u32,
    salts: Vec<i64>,
    lead: Option<i64>,
    /// In the order of the query, with their terms.
    codes: Vec<(String, Vec<i64>)>,
}

impl<'a> ByCode<'a> {
    /// Errors: 400 naming the limit if the order is another.
    async fn of(service: &'a Service, query: &'a Query) -> Result<ByCode<'a>, Outcome> {
        let registry = Arc::clone(&service.store.registry());
        let is_of_now = query.reads() == Reads::Now && query.matches == Matches::Resources && service.store.density().is_index_current;
        let of = registry.of(&query.type_name).filter(|_| is_of_now);
        let by_code = |sort: &Sort| match &sort.key {
            SortKey::Read(code) => of.and_then(|of| of.get(code).filter(|parameter| has_order(of, parameter))),
            _ => None,
        };
        // All that have no index come first and are codes: else a later page would have what cannot be put in order.
        let read = query.sort.iter().rposition(|sort| sort.key.is_read()).map_or(0, |last| last + 1);
        let is_by_codes = query.sort[..read].iter().all(|sort| by_code(sort).is_some());
        let first = query.sort.first().filter(|_| is_by_codes);
        let (Some(sort), Some(of), Some(parameter)) = (first, of, first.and_then(by_code)) else {
            return Err(sorted::too_many(service.limits.sort_rows_max));
        };
        let mut codes = vocabulary::in_order(&service.store, &parameter.keys, CODES_MAX).await?;
        if codes.len() > CODES_MAX {
            let text = format!(
                "_sort by {} reads its codes in order, at most {CODES_MAX} (CODES_MAX)",
                parameter.code
            );
            return Err(Outcome::invalid(text).with_code("too-costly"));
        }
        if sort.is_descending {
            codes.reverse();
        }
        let is_lead = of.lead == 1 << parameter.bit;
        Ok(ByCode {
            service,
            query,
            bit: parameter.bit,
            salts: parameter.salts.clone(),
            lead: parameter.salts.first().copied().filter(|_| is_lead),
            codes,
        })
    }

    async fn rows(&self, after: Option<&Place>, limit: usize) -> Result<Vec<Found>, Outcome> {
        let first = after.map(|place| place.keys.first().and_then(Option::as_deref));
        let mut next = match first {
            None => 0,
            // What has no code comes last.
            Some(None) => self.codes.len(),
            Some(Some(code)) => self.codes.partition_point(|(of, _)| match self.query.sort[0].is_descending {
                true => of.as_str() > code,
                false => of.as_str() < code,
            }),
        };
        let mut found: Vec<Found> = Vec::new();
        let mut together = 1;
        while next < self.codes.len() && found.len() < limit {
            let wanted = limit - found.len();
            let end = self.rare_from(next, together);
            let few = match end > next + 1 {
                true => self.of_codes(next..end, after, wanted).await?,
                false => None,
            };
            let (rows, end) = match few {
                Some(rows) => (rows, end),
                None => (self.of_code(next, after, wanted).await?, next + 1),
            };
            found.extend(rows);
            (next, together) = (end, TOGETHER_MAX.min(together * 4));
        }
        if found.len() < limit {
            let place = after.filter(|place| place.keys.first().is_some_and(Option::is_none));
            let absent = Condition::Terms(self.salts.iter().map(|salt| term(*salt, Token::WithoutPlace)).collect());
            let missing = Condition::Missing(self.query.number, 1 << self.bit);
            let of_none = Condition::any(vec![missing, absent]);
            let condition = self.first_by(of_none, self.codes.len());
            found.extend(self.further(condition, None, None, place, limit - found.len()).await?);
        }
        Ok(found)
    }

    /// Where the codes from here on end that are rare, at most so many.
    fn rare_from(&self, next: usize, most: usize) -> usize {
        let density = self.service.store.density();
        let rare = self.codes[next..].iter().take(most).take_while(|(_, terms)| {
            let is_rare = |term: &i64| !density.is_listed(*term);
            terms.iter().all(is_rare)
        });
        next + rare.count()
    }

    /// The matches of several codes, read together; `None` if they are too many.
    async fn of_codes(&self, codes: Range<usize>, after: Option<&Place>, limit: usize) -> Result<Option<Vec<Found>>, Outcome> {
        let terms = self.codes[codes.clone()].iter().flat_map(|(_, terms)| terms.iter().copied());
        let query = Query {
            condition: self.first_by(Condition::Terms(terms.collect()), codes.start),
            holders: None,
            ..self.query.clone()
        };
        gathered(self.service, &query, TOGETHER_ROWS_MAX, after, limit).await
    }

    /// The matches that have this code and none that comes before it.
    async fn of_code(&self, place: usize, after: Option<&Place>, limit: usize) -> Result<Vec<Found>, Outcome> {
        let (code, terms) = &self.codes[place];
        let after = after.filter(|after| after.keys.first().and_then(Option::as_ref) == Some(code));
        let condition = self.first_by(Condition::Terms(terms.clone()), place);
        // Where more is asked for, it may be that none of the code satisfies it: then its newest are not looked through.
        let lead = self.lead.filter(|_| asks_for_dates_alone(&self.query.condition, self.query.number));
        let lead = lead.map(|salt| term(salt, Token::Code(code_of(code))));
        self.further(condition, Some(code), lead, after, limit).await
    }

    /// The query's condition of those that are so, and have none of the codes that come before this place.
    fn first_by(&self, so: Condition, place: usize) -> Condition {
        let before: Vec<i64> = self.codes[..place].iter().flat_map(|(_, terms)| terms.iter().copied()).collect();
        let mut all = match &self.query.condition {
            Condition::All(all) => all.clone(),
            other => vec![other.clone()],
        };
        all.push(so);
        if !before.is_empty() {
            all.push(Condition::negated(Condition::Terms(before)));
        }
        Condition::All(all)
    }

    /// The matches that are the same by the first key, in the order of the others.
    async fn further(
        &self,
        condition: Condition,
        key: Option<&str>,
        lead: Option<i64>,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Found>, Outcome> {
        let query = Query {
            condition,
            sort: self.query.sort[1..].to_vec(),
            code: self.query.code.or(lead),
            holders: None,
            ..self.query.clone()
        };
        let after = after.map(|place| Place {
            is_without_key: false,
            keys: place.keys[1..].to_vec(),
            rid: place.rid,
        });
        let mut found = rows(self.service, &query, after.as_ref(), limit).await?;
        found.iter_mut().for_each(|row| row.keys.insert(0, key.map(str::to_owned)));
        Ok(found)
    }
}

/// Whether a condition asks for nothing but the type and primary dates.
fn asks_for_dates_alone(condition: &Condition, number: i16) -> bool {
    match condition {
        Condition::All(conditions) => conditions.iter().all(|c| asks_for_dates_alone(c, number)),
        Condition::Terms(terms) => *terms == [type_term(number)],
        Condition::PrimaryDate(..) => true,
        _ => false,
    }
}

/// Whether all that a parameter reads has its order in the vocabulary.
fn has_order(of: &TypeParameters, parameter: &Parameter) -> bool {
    let bit = 1i64 << parameter.bit;
    let mut read = of
        .walk
        .nodes
        .iter()
        .flat_map(|node| &node.extracts)
        .filter(|extract| extract.bits & bit != 0)
        .peekable();
    parameter.custom.is_none() && read.peek().is_some() && read.all(is_ordered)
}
