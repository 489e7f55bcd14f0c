//! Reads and searches as of an instant: `_asOf`, an extension of this server. What an answer shows is what the same request would have been answered at
//! that instant, but for what has been withdrawn since: docs/adr/0010-time-travel.md.

use crate::interaction::Service;
use crate::interaction::bounded_pairs;
use crate::outcome::Outcome;
use crate::search::parse::AS_OF;
use crate::search::parse::result;
use crate::store::as_of;
use chrono::DateTime;
use chrono::TimeDelta;
use chrono::Utc;

/// The instant that a read names: the first that is not looked at. Errors: 400 for what is none, or is not over; 503 while it is being written.
pub async fn of_read(service: &Service, query: &str) -> Result<Option<DateTime<Utc>>, Outcome> {
    let mut named = bounded_pairs(service, query)?.into_iter().filter(|(name, _)| name == AS_OF);
    let Some((_, text)) = named.next() else { return Ok(None) };
    if named.next().is_some() {
        return Err(Outcome::invalid("_asOf stands once"));
    }
    let before = result::as_of(&text)?;
    settle(service, before).await?;
    Ok(Some(before))
}

/// Errors: 400 when the instant is not over; 503 while it is being written, or not indexed.
pub async fn check_searchable(service: &Service, before: DateTime<Utc>) -> Result<(), Outcome> {
    settle(service, before).await?;
    as_of::check_indexed(&service.store, before).await
}

async fn settle(service: &Service, before: DateTime<Utc>) -> Result<(), Outcome> {
    let age_min = TimeDelta::milliseconds(service.limits.as_of_age_min_ms.into());
    as_of::settle(&service.store, before, age_min).await
}
