//! Whether the order that a search asks for is one. Spec: <https://hl7.org/fhir/R4/search.html#sort>.

use crate::outcome::Outcome;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;

/// What is sorted by is of one kind in all types, so that their matches have one order.
pub fn check_same_order(queries: &[Query]) -> Result<(), Outcome> {
    let kind = |sort: &Sort| match &sort.key {
        SortKey::PrimaryDate => std::mem::discriminant(&SortKey::Date(Vec::new())),
        key => std::mem::discriminant(key),
    };
    let is_same = queries
        .windows(2)
        .all(|pair| pair[0].sort.iter().map(kind).eq(pair[1].sort.iter().map(kind)));
    match is_same {
        true => Ok(()),
        false => Err(Outcome::invalid(
            "_sort: a parameter is of another kind in another type: search on these types one by one",
        )),
    }
}

/// Errors: 400 for an order by how well a search fits that asks for nothing of the kind.
pub fn check_measured(query: &Query) -> Result<(), Outcome> {
    let has = |key: SortKey| query.sort.iter().any(|sort| sort.key == key);
    if has(SortKey::Score) && query.condition.texts().is_empty() {
        return Err(Outcome::not_supported(
            "_sort=-_score: nothing but _text and _content says how well a resource matches",
        ));
    }
    if has(SortKey::Distance) && query.condition.places().is_empty() {
        return Err(Outcome::invalid(
            "_sort=near needs near=[latitude]|[longitude]|[distance]|[units]: from there it measures",
        ));
    }
    Ok(())
}
