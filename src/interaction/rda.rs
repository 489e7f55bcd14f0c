//! The registry of assistance (RDA): which region assists whom, fed from outside. It keeps hashes: by itself it names nobody.
//! Source: `docs/glossary.md`, RDA; design of the feed in `docs/adr/0002-feed.md`.

use crate::fhir::identity::assistance_key;
use crate::fhir::regions;
use crate::interaction::Service;
use crate::outcome::Outcome;
use crate::store::database_error;
use crate::store::pertinence;

/// Sets the region of a person, written `value` or `system|value`. Errors: 400 for an unknown region.
pub async fn set(service: &Service, identifier: &str, region: &str) -> Result<(), Outcome> {
    if regions::bit(region).is_none() {
        return Err(Outcome::invalid(
            "The region is one of the three-digit codes of the FSE, 010 (Piemonte) to 200 (Sardegna), or 001 (SASN)",
        ));
    }
    store(service, identifier, Some(region)).await
}

/// Forgets the region of a person.
pub async fn clear(service: &Service, identifier: &str) -> Result<(), Outcome> {
    store(service, identifier, None).await
}

/// The region of a person. Errors: 404 when the registry has none.
pub async fn get(service: &Service, identifier: &str) -> Result<String, Outcome> {
    let (system, value) = split(identifier);
    let key = assistance_key(system, value);
    let mut conn = service.store.pools.points.acquire().await.map_err(database_error)?;
    let mut found = pertinence::rda(&mut conn, &[key]).await.map_err(database_error)?;
    found.remove(&key).ok_or_else(|| Outcome::not_found("The person"))
}

async fn store(service: &Service, identifier: &str, region: Option<&str>) -> Result<(), Outcome> {
    let (system, value) = split(identifier);
    if value.is_empty() || value.len() > 128 {
        return Err(Outcome::invalid(
            "The identifier is written value (a codice fiscale) or system|value",
        ));
    }
    let now = service.store.clock.now();
    pertinence::set_rda(&service.store.pools.points, assistance_key(system, value), region, now)
        .await
        .map_err(database_error)?;
    service.store.changed.notify_one();
    Ok(())
}

fn split(identifier: &str) -> (&str, &str) {
    identifier.split_once('|').unwrap_or(("", identifier))
}
