//! The pull feed: a region's stream in bounded pages, for repositories that fetch, and the state of all regions.

use crate::delivery::Delivery;
use crate::delivery::send::push_entry;
use crate::interaction::Service;
use crate::metrics;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::search::value::shown;
use crate::store::database_error;
use crate::store::pertinence;
use serde_json::Value;
use serde_json::json;
use std::fmt::Write;

/// Items of one page.
const PAGE_DEFAULT: i64 = 200;
const PAGE_MAX: i64 = 1_000;
/// The epoch of a feed that was never begun anew.
const FIRST_EPOCH: i64 = 1;
/// A page ends with the item that reaches this.
const PAGE_BYTES_MAX: usize = 16 << 20;

impl Delivery {
    /// A Bundle of type `history` with the items after a position: PUT with the current version, or DELETE. The `next` link continues.
    /// A position belongs to its epoch: after a restore the same number stands for something else, so a reader that comes with an older epoch
    /// begins anew. Who names no epoch means the first.
    /// Errors: 400 for parameters, 404 for a region that is not enrolled, 410 for a position of another epoch.
    pub async fn changes(&self, service: &Service, base: &str, parameters: &[(String, String)]) -> Result<String, Outcome> {
        let (mut region, mut after, mut count, mut epoch) = (None, 0, PAGE_DEFAULT, FIRST_EPOCH);
        let number = |name: &str, value: &str| {
            value
                .parse::<i64>()
                .ok()
                .filter(|n| *n >= 0)
                .ok_or_else(|| Outcome::invalid(format!("{name} is a whole number from 0")))
        };
        for (name, value) in parameters {
            match name.as_str() {
                "region" => region = Some(value.as_str()),
                "after" => after = number(name, value)?,
                "epoch" => epoch = number(name, value)?,
                "_count" => count = number(name, value)?.clamp(1, PAGE_MAX),
                "_format" | "_pretty" => {}
                other => {
                    return Err(Outcome::not_supported(format!(
                        "$changes has no parameter {}: it has region, epoch, after and _count",
                        shown(other)
                    )));
                }
            }
        }
        let region = region.ok_or_else(|| Outcome::invalid("$changes needs region, a three-digit code").with_code("required"))?;
        let mut conn = service.store.pools.points.acquire().await.map_err(database_error)?;
        let enrolled = pertinence::regions(&mut conn).await.map_err(database_error)?;
        let current = i64::from(pertinence::feed_epoch(&mut conn).await.map_err(database_error)?);
        drop(conn);
        let state = enrolled
            .iter()
            .find(|r| r.code == region)
            .ok_or_else(|| Outcome::not_found("An enrolled region with this code"))?;
        if after > 0 && epoch != current {
            let text = format!(
                "The repository was restored, and its feed begun anew (epoch {current}): a position of epoch {epoch} means nothing any more. Fetch \
                 everything from after=0; what the feed does not have then is not here"
            );
            return Err(Outcome::new(Category::Gone, "expired", text));
        }
        let rows = pertinence::stream(&service.store, state, after, count)
            .await
            .map_err(database_error)?;
        let mut out = String::from("{\"resourceType\":\"Bundle\",\"type\":\"history\",\"link\":[");
        let _ = write!(
            out,
            "{{\"relation\":\"self\",\"url\":\"{base}/$changes?region={region}&epoch={current}&after={after}&_count={count}\"}}"
        );
        let mut last = after;
        let mut entries = String::new();
        for row in &rows {
            if entries.len() > PAGE_BYTES_MAX {
                break;
            }
            last = row.position;
            entries.push_str(if entries.is_empty() { "" } else { "," });
            let mut entry = String::new();
            push_entry(service, row, &mut entry)?;
            let type_name = service.store.registry().name_of(row.row.type_number);
            let _ = write!(entries, "{{\"fullUrl\":\"{base}/{type_name}/{}\",", row.row.id);
            entries.push_str(entry.trim_start_matches('{').strip_suffix('}').unwrap_or_default());
            let status = if row.is_present { "200" } else { "204" };
            let _ = write!(
                entries,
                ",\"response\":{{\"status\":\"{status}\",\"etag\":\"W/\\\"{}\\\"\"}}}}",
                row.row.version
            );
        }
        // The link is there even at the end: it is where to ask next time.
        let _ = write!(
            out,
            ",{{\"relation\":\"next\",\"url\":\"{base}/$changes?region={region}&epoch={current}&after={last}&_count={count}\"}}]"
        );
        if !entries.is_empty() {
            let _ = write!(out, ",\"entry\":[{entries}]");
        }
        out.push('}');
        Ok(out)
    }

    /// Puts what a region has refused at the end of its stream again. Returns how many items. Errors: 404 for a region that is not enrolled.
    pub async fn retry_parked(&self, service: &Service, region: &str) -> Result<Value, Outcome> {
        let mut conn = service.store.pools.points.acquire().await.map_err(database_error)?;
        let enrolled = pertinence::regions(&mut conn).await.map_err(database_error)?;
        if !enrolled.iter().any(|r| r.code == region) {
            return Err(Outcome::not_found("An enrolled region with this code"));
        }
        let retried = pertinence::unpark(&mut conn, region, service.store.clock.now())
            .await
            .map_err(database_error)?;
        service.store.changed.notify_one();
        Ok(json!({"region": region, "retried": retried}))
    }

    /// Each region's cursor, backlog and last failure.
    pub async fn states(&self, service: &Service) -> Result<Value, Outcome> {
        let mut conn = service.store.pools.points.acquire().await.map_err(database_error)?;
        let regions = pertinence::regions(&mut conn).await.map_err(database_error)?;
        let epoch = pertinence::feed_epoch(&mut conn).await.map_err(database_error)?;
        drop(conn);
        let mut states = Vec::new();
        for region in regions {
            let head = region.next_position - 1;
            metrics::set_backlog(&region.code, head - region.acknowledged);
            states.push(json!({
                "region": region.code,
                "delivery": if region.url.is_some() { "push" } else { "pull" },
                "epoch": epoch,
                "head": head,
                "acknowledged": region.acknowledged,
                "backlog": head - region.acknowledged,
                "parked": pertinence::parked(&service.store.pools.points, &region.code).await.map_err(database_error)?,
                "attempts": region.attempts,
                "lastError": region.last_error,
                "bootstrapping": region.bootstrap_rid.is_some(),
            }));
        }
        Ok(Value::Array(states))
    }
}
