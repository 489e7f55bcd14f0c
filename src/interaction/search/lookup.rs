//! What stands for terms that the database knows, before a search is compiled: texts of codes (`:text`), profiles (`_profile:below`), the codes of value
//! sets (`:in`, `:not-in`) and of hierarchies (`:above`, `:below`), what is part of a resource (the same of references). Spec: <https://hl7.org/fhir/R4/search.html#modifiers>.

use crate::interaction::Service;
use crate::outcome::Outcome;
use crate::search::condition::CodesOf;
use crate::search::condition::Condition;
use crate::search::condition::Lookup;
use crate::search::term::reference_terms;
use crate::store::hierarchy;
use crate::store::terminology;
use crate::store::vocabulary;
use chrono::DateTime;
use chrono::Utc;

/// Codes that are looked for as they are; of more only those that some resource has, which says how dense they are.
const CODES_MIN: usize = 16;

/// The condition with terms in the place of each look-up. Errors: 400 for what is not known here, or stands for too many.
pub async fn look_up(service: &Service, as_of: Option<DateTime<Utc>>, condition: Condition) -> Result<Condition, Outcome> {
    let max = service.limits.expansion_codes_max;
    let (mut found, mut sum) = (Vec::new(), 0);
    for lookup in condition.lookups() {
        let (terms, count) = terms(service, as_of, lookup).await?;
        sum += count;
        if sum > max {
            let text = format!(
                "The values of this search stand for more codes, texts and parts, together, than are looked for: at most {max} (search.expansion_codes_max)"
            );
            return Err(Outcome::invalid(text).with_code("too-costly"));
        }
        found.push(terms);
    }
    if found.is_empty() {
        return Ok(condition);
    }
    // Both go through the tree in the same order.
    let mut found = found.into_iter();
    Ok(condition.found(&mut |_| found.next().unwrap_or_default()))
}

/// The terms, and how many codes or texts there were to look at.
async fn terms(service: &Service, as_of: Option<DateTime<Utc>>, lookup: &Lookup) -> Result<(Vec<i64>, usize), Outcome> {
    let (store, max) = (&service.store, service.limits.expansion_codes_max);
    let terms = match lookup {
        Lookup::Texts { keys, start } => vocabulary::beginning_with(store, keys, start, max).await?,
        Lookup::Uris { keys, below } => vocabulary::below(store, keys, below, max).await?,
        Lookup::Versions { keys, canonical } => vocabulary::versions(store, keys, canonical, max).await?,
        Lookup::Codes(of) => return codes(service, as_of, of).await,
        Lookup::Hierarchy(of) => {
            let members = hierarchy::members(store, service.policy, as_of, of, max).await?;
            return Ok((reference_terms(&of.salts, &members), members.len()));
        }
    };
    let count = terms.len();
    Ok((terms, count))
}

async fn codes(service: &Service, as_of: Option<DateTime<Utc>>, of: &CodesOf) -> Result<(Vec<i64>, usize), Outcome> {
    let max = service.limits.expansion_codes_max;
    let codes = terminology::codes(&service.store, service.policy, as_of, &of.asked, max).await?;
    let (mut terms, plain) = of.terms(&codes);
    // An index that an older version made has codes that the vocabulary lacks.
    if terms.len() > CODES_MIN && service.store.density().is_index_current {
        terms = vocabulary::used(&service.store, &terms).await?;
    }
    terms.extend(plain);
    Ok((terms, codes.values().map(|codes| codes.len()).sum()))
}
