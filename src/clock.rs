//! The time now and new ids: the only place that asks the machine for either, so that tests can fix both.

use chrono::DateTime;
use chrono::SubsecRound;
use chrono::Utc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use uuid::Uuid;

#[derive(Debug, Clone)]
pub enum Clock {
    System,
    /// Always this time; ids are counted up from zero. For tests.
    Fixed(DateTime<Utc>, Arc<AtomicU64>),
}

impl Clock {
    /// Now, in whole milliseconds: what `meta.lastUpdated` shows is what is stored.
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Clock::System => Utc::now().trunc_subsecs(3),
            Clock::Fixed(now, _) => *now,
        }
    }

    /// A new resource id: UUID version 4, because version 7 would tell everyone who sees the id when the resource was written.
    pub fn new_id(&self) -> String {
        match self {
            Clock::System => Uuid::new_v4().to_string(),
            Clock::Fixed(_, next) => Uuid::from_u64_pair(0, next.fetch_add(1, Ordering::Relaxed)).to_string(),
        }
    }
}

/// Milliseconds in the form of FHIR's `instant`.
pub fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
