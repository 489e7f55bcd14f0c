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

/// Bytes of one delivery: a quarter of what this server itself takes by default.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// A batch of up to so many items that is too large for the region is sent one by one, not halved: one of them may be too large by itself.
const ALONE_MAX: usize = 8;
/// Items that are refused one by one, from the first, before the region itself is taken to be at fault.
const REFUSALS_MAX: usize = 50;

/// What a region answered.
enum Answer {
    Taken,
    /// Refused for what it holds: sending it again would change nothing.
    Refused(u16),
    /// Away or busy: later, at the earliest after these seconds.
    Later(String, Option<u64>),
    /// More than it can take in the time it has, or at all: less, later.
    TooMuch(String),
}

/// How far a region is, and how much it takes at once: halved when it was too much, doubled when it was not.
struct Pace {
    acknowledged: i64,
    entries: i64,
    entries_max: i64,
}

impl Pace {
    fn faster(&mut self) {
        self.entries = (self.entries * 2).min(self.entries_max);
    }

    fn slower(&mut self, sent: usize) {
        self.entries = (sent as i64 / 2).max(1);
    }
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
    let mut pace = Pace {
        acknowledged: region.acknowledged,
        entries: settings.batch_entries_max,
        entries_max: settings.batch_entries_max,
    };
    while !*stopped.borrow() {
        grown.mark_unchanged();
        match deliver_batch(&service, &client, &region, &mut pace).await {
            Ok(true) => attempts = 0,
            Ok(false) => {
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
                if let Err(error) = pertinence::record_failure(&service.store.pools.points, &region.code, &error, at).await {
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

/// Sends what follows the acknowledged position; whether there was anything.
async fn deliver_batch(service: &Service, client: &Client, region: &Region, pace: &mut Pace) -> Result<bool, Failure> {
    let rows = pertinence::stream(&service.store, region, pace.acknowledged, pace.entries)
        .await
        .map_err(store_failed)?;
    if rows.is_empty() {
        return Ok(false);
    }
    let (body, count) = bundle(service, &rows).map_err(|outcome| (outcome.internal.unwrap_or_default(), None))?;
    match send(client, region, body, count > ALONE_MAX).await {
        Answer::Taken => {
            pace.faster();
            metrics::count_delivered(&region.code, "taken", count as u64);
            acknowledge(service, region, &rows[count - 1], pace).await?;
        }
        Answer::Later(error, after) => return Err((error, after)),
        Answer::TooMuch(error) => {
            pace.slower(count);
            return Err((error, None));
        }
        Answer::Refused(status) => one_by_one(service, client, region, &rows, status, pace).await?,
    }
    Ok(true)
}

fn store_failed(error: sqlx::Error) -> Failure {
    (database_error(error).internal.unwrap_or_default(), None)
}

/// The region has everything up to this item.
async fn acknowledge(service: &Service, region: &Region, row: &StreamRow, pace: &mut Pace) -> Result<(), Failure> {
    pertinence::acknowledge(&service.store.pools.points, &region.code, row.position)
        .await
        .map_err(store_failed)?;
    pace.acknowledged = row.position;
    Ok(())
}

/// A refused batch: which item is at fault shows when each is sent alone. One is parked only if the region takes another of those that wait: a
/// region that refuses everything is at fault itself, and nothing is set aside for it.
async fn one_by_one(
    service: &Service,
    client: &Client,
    region: &Region,
    rows: &[StreamRow],
    status: u16,
    pace: &mut Pace,
) -> Result<(), Failure> {
    // The next batch holds another item by which to tell.
    pace.entries = pace.entries.max(2);
    let mut refused: Vec<(&StreamRow, u16)> = Vec::new();
    let mut takes_others = false;
    for (i, row) in rows.iter().enumerate() {
        match send_alone(service, client, region, row).await? {
            None => {
                takes_others = true;
                park(service, region, &mut refused).await?;
                metrics::count_delivered(&region.code, "taken", 1);
                acknowledge(service, region, row, pace).await?;
            }
            Some(status) => refused.push((row, status)),
        }
        let is_doubtful = !takes_others && (i + 1 == rows.len() || i + 1 == REFUSALS_MAX);
        if is_doubtful {
            // The last one out of its turn: in its turn it is sent again, and changes nothing.
            takes_others = match rows.last() {
                Some(last) if i + 1 < rows.len() => send_alone(service, client, region, last).await?.is_none(),
                _ => false,
            };
            if !takes_others {
                return Err((format!("everything is refused, the first with status {status}"), None));
            }
        }
    }
    park(service, region, &mut refused).await?;
    match rows.last() {
        Some(last) => acknowledge(service, region, last, pace).await,
        None => Ok(()),
    }
}

/// `None` when the region has taken it, else the status of its refusal.
async fn send_alone(service: &Service, client: &Client, region: &Region, row: &StreamRow) -> Result<Option<u16>, Failure> {
    let (body, _) = bundle(service, std::slice::from_ref(row)).map_err(|outcome| (outcome.internal.unwrap_or_default(), None))?;
    match send(client, region, body, false).await {
        Answer::Taken => Ok(None),
        Answer::Refused(status) => Ok(Some(status)),
        Answer::TooMuch(error) => Err((error, None)),
        Answer::Later(error, after) => Err((error, after)),
    }
}

async fn park(service: &Service, region: &Region, refused: &mut Vec<(&StreamRow, u16)>) -> Result<(), Failure> {
    for (row, status) in refused.drain(..) {
        tracing::warn!(
            region = region.code,
            position = row.position,
            status,
            "an item was refused and is parked"
        );
        metrics::count_delivered(&region.code, "parked", 1);
        let (error, now) = (format!("status {status}"), service.store.clock.now());
        pertinence::park(&service.store.pools.points, &region.code, row.position, &error, now)
            .await
            .map_err(store_failed)?;
    }
    Ok(())
}

async fn send(client: &Client, region: &Region, body: String, is_divisible: bool) -> Answer {
    let url = region.url.clone().unwrap_or_default();
    let request = client
        .post(url)
        .header("content-type", "application/fhir+json")
        .header("prefer", "return=minimal")
        // What leaves a region leaves in the order of the feed, and its referrers may follow in a later delivery.
        .header("x-referrers", "stay")
        .body(body);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() => return Answer::TooMuch("timeout".to_owned()),
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
        StatusCode::PAYLOAD_TOO_LARGE if is_divisible => Answer::TooMuch("status 413".to_owned()),
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND => Answer::Later(format!("status {}", status.as_u16()), after),
        _ if status.is_client_error() => Answer::Refused(status.as_u16()),
        _ => Answer::Later(format!("status {}", status.as_u16()), after),
    }
}

/// The transaction that brings the region to what holds now, and how many of the rows it covers: no more than a region can be expected to
/// read at once, at least one. Each resource once: its last item counts.
fn bundle(service: &Service, rows: &[StreamRow]) -> Result<(String, usize), Outcome> {
    let mut entries: Vec<(i64, String)> = Vec::with_capacity(rows.len());
    let (mut bytes, mut count) = (0, 0);
    for row in rows {
        let mut entry = String::new();
        push_entry(service, row, &mut entry)?;
        if count > 0 && bytes + entry.len() > BATCH_BYTES_MAX {
            break;
        }
        bytes += entry.len();
        count += 1;
        entries.push((row.row.rid, entry));
    }
    let last: HashMap<i64, usize> = entries.iter().enumerate().map(|(i, (rid, _))| (*rid, i)).collect();
    let kept = entries.iter().enumerate().filter(|(i, (rid, _))| last.get(rid) == Some(i));
    let kept: Vec<&str> = kept.map(|(_, (_, entry))| entry.as_str()).collect();
    let out = format!(
        "{{\"resourceType\":\"Bundle\",\"type\":\"transaction\",\"entry\":[{}]}}",
        kept.join(",")
    );
    Ok((out, count))
}

/// One entry: the current version, or a deletion if the region is to have it no longer.
pub fn push_entry(service: &Service, row: &StreamRow, out: &mut String) -> Result<(), Outcome> {
    let type_name = service.store.registry().name_of(row.row.type_number);
    let url = format!("{type_name}/{}", row.row.id);
    if row.is_present {
        let json = row.row.to_json(&service.store.registry(), &service.store.bodies)?;
        let _ = write!(out, "{{\"resource\":{json},\"request\":{{\"method\":\"PUT\",\"url\":\"{url}\"}}}}");
    } else {
        let _ = write!(out, "{{\"request\":{{\"method\":\"DELETE\",\"url\":\"{url}\"}}}}");
    }
    Ok(())
}
