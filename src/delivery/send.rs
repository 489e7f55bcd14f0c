//! A region's stream, sent: ordered transaction Bundles, acknowledged one by one, tried again until the region takes them.
//!
//! What is sent is what holds at the moment of sending: a resource that was withdrawn, or moved to another region, after its item was written is
//! sent as a deletion.
//! An item that the region refuses for good is parked and stops nobody. Redelivery changes nothing at a receiver that keeps an
//! update with the same content as the version it has (as eds and HAPI do).

use crate::delivery::Settings;
use crate::interaction::Service;
use crate::metrics;
use crate::outcome::Outcome;
use crate::store::database_error;
use crate::store::pertinence;
use crate::store::pertinence::Region;
use crate::store::pertinence::StreamRow;
use rand::Rng;
use reqwest::Client;
use reqwest::StatusCode;
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;
use tokio::sync::watch;

/// The longest Retry-After that is honoured.
const RETRY_AFTER_MAX_S: u64 = 3600;

/// What a region answered.
enum Answer {
    Taken,
    /// Refused for what it holds: sending it again would change nothing.
    Refused(u16),
    /// Away or busy: later, at the earliest after these seconds.
    Later(String, Option<u64>),
}

/// Works through a region's stream until the server stops.
pub async fn deliver(
    service: Service,
    settings: Settings,
    client: Client,
    region: Region,
    mut grown: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
) {
    let mut attempts = usize::try_from(region.attempts).unwrap_or(0);
    let mut acknowledged = region.acknowledged;
    while !*stopped.borrow() {
        grown.mark_unchanged();
        match deliver_batch(&service, &settings, &client, &region, acknowledged).await {
            Ok(Some(position)) => {
                acknowledged = position;
                attempts = 0;
            }
            Ok(None) => {
                // Nothing to send: until the stream grows, or the look at the clock.
                let _ = tokio::time::timeout(settings.poll, grown.changed()).await;
            }
            Err((error, after)) => {
                let delay = retry_delay(&settings, attempts, after);
                attempts += 1;
                tracing::warn!(
                    region = region.code,
                    error,
                    attempts,
                    delay_ms = delay.as_millis() as u64,
                    "a delivery failed"
                );
                let at = service.store.clock.now() + delay;
                if let Err(error) = pertinence::record_failure(&service.store.points, &region.code, &error, at).await {
                    tracing::warn!(error = %database_error(error).internal.unwrap_or_default(), "a failed delivery could not be recorded");
                }
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// By the schedule, its last step repeated, with 20 % of jitter; not before the region asked.
fn retry_delay(settings: &Settings, attempts: usize, after: Option<u64>) -> Duration {
    let step = settings
        .retry_schedule_s
        .get(attempts)
        .or(settings.retry_schedule_s.last())
        .copied()
        .unwrap_or(60);
    let seconds = step as f64 * rand::rng().random_range(0.8..1.2);
    Duration::from_secs_f64(seconds.max(after.unwrap_or(0).min(RETRY_AFTER_MAX_S) as f64))
}

type Failure = (String, Option<u64>);

/// Sends what follows the acknowledged position; the new position, or `None` when there was nothing.
async fn deliver_batch(
    service: &Service,
    settings: &Settings,
    client: &Client,
    region: &Region,
    acknowledged: i64,
) -> Result<Option<i64>, Failure> {
    let store_failed = |error| (database_error(error).internal.unwrap_or_default(), None);
    let pool = &service.store.points;
    let rows = pertinence::stream(&service.store, region, acknowledged, settings.batch_entries_max)
        .await
        .map_err(store_failed)?;
    let Some(last) = rows.last().map(|row| row.position) else {
        return Ok(None);
    };
    match send(service, client, region, &rows).await {
        Answer::Taken => metrics::count_delivered(&region.code, "taken", rows.len() as u64),
        Answer::Later(error, after) => return Err((error, after)),
        // One of them is refused: which one shows when each is sent alone.
        Answer::Refused(_) => {
            for row in rows.chunks(1) {
                match send(service, client, region, row).await {
                    Answer::Taken => metrics::count_delivered(&region.code, "taken", 1),
                    Answer::Later(error, after) => return Err((error, after)),
                    Answer::Refused(status) => {
                        tracing::warn!(
                            region = region.code,
                            position = row[0].position,
                            status,
                            "an item was refused and is parked"
                        );
                        metrics::count_delivered(&region.code, "parked", 1);
                        let error = format!("status {status}");
                        pertinence::park(pool, &region.code, row[0].position, &error, service.store.clock.now())
                            .await
                            .map_err(store_failed)?;
                    }
                }
                pertinence::acknowledge(pool, &region.code, row[0].position)
                    .await
                    .map_err(store_failed)?;
            }
        }
    }
    pertinence::acknowledge(pool, &region.code, last).await.map_err(store_failed)?;
    Ok(Some(last))
}

async fn send(service: &Service, client: &Client, region: &Region, rows: &[StreamRow]) -> Answer {
    let body = match bundle(service, rows) {
        Ok(body) => body,
        Err(outcome) => return Answer::Later(outcome.internal.unwrap_or_default(), None),
    };
    let url = region.url.clone().unwrap_or_default();
    let request = client
        .post(url)
        .header("content-type", "application/fhir+json")
        .header("prefer", "return=minimal")
        .body(body);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() => return Answer::Later("timeout".to_owned(), None),
        Err(_) => return Answer::Later("not reached".to_owned(), None),
    };
    let status = response.status();
    let after = response
        .headers()
        .get("retry-after")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse().ok());
    if status.is_success() {
        return Answer::Taken;
    }
    match status {
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND => Answer::Later(format!("status {}", status.as_u16()), after),
        _ if status.is_client_error() => Answer::Refused(status.as_u16()),
        _ => Answer::Later(format!("status {}", status.as_u16()), after),
    }
}

/// The transaction that brings the region to what holds now. Each resource once: its last item counts.
fn bundle(service: &Service, rows: &[StreamRow]) -> Result<String, Outcome> {
    let last: HashMap<i64, i64> = rows.iter().map(|r| (r.row.rid, r.position)).collect();
    let mut out = String::from("{\"resourceType\":\"Bundle\",\"type\":\"transaction\"");
    let mut separator = ",\"entry\":[";
    for row in rows.iter().filter(|r| last.get(&r.row.rid) == Some(&r.position)) {
        out.push_str(separator);
        separator = ",";
        push_entry(service, row, &mut out)?;
    }
    out.push_str(if separator == "," { "]}" } else { "}" });
    Ok(out)
}

/// One entry: the current version, or a deletion if the region is to have it no longer.
pub fn push_entry(service: &Service, row: &StreamRow, out: &mut String) -> Result<(), Outcome> {
    let type_name = service.store.registry.name_of(row.row.type_number);
    let url = format!("{type_name}/{}", row.row.id);
    if row.is_present {
        let json = row.row.to_json(&service.store.registry, &service.store.bodies)?;
        let _ = write!(out, "{{\"resource\":{json},\"request\":{{\"method\":\"PUT\",\"url\":\"{url}\"}}}}");
    } else {
        let _ = write!(out, "{{\"request\":{{\"method\":\"DELETE\",\"url\":\"{url}\"}}}}");
    }
    Ok(())
}
