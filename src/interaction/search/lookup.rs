//! What stands for terms that the database knows, before a search is compiled: texts of codes (`:text`) and profiles (`_profile:below`).
//! Spec: <https://hl7.org/fhir/R4/search.html#modifiers>.

use crate::interaction::Service;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::store::vocabulary;

/// The condition with terms in the place of each look-up. Errors: 400 for what stands for too many.
pub async fn look_up(service: &Service, condition: Condition) -> Result<Condition, Outcome> {
    let mut found = Vec::new();
    for lookup in condition.lookups() {
        found.push(vocabulary::find(&service.store, lookup, service.limits.expansion_codes_max).await?);
    }
    if found.is_empty() {
        return Ok(condition);
    }
    // Both go through the tree in the same order.
    let mut found = found.into_iter();
    Ok(condition.found(&mut |_| found.next().unwrap_or_default()))
}
