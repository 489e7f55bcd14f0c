//! What is compared by order: dates, numbers, quantities.

use crate::fhir::datetime;
use crate::fhir::json::Value;
use crate::search::index::Indexer;
use crate::search::index::QuantityEntry;
use crate::search::parameters::Extract;
use crate::search::term::unit_code_hash;
use crate::search::term::unit_hash;

impl Indexer<'_> {
    pub(super) fn put_date(&mut self, extract: &Extract, range: datetime::Range) -> Option<()> {
        if self.parameters.primary_date == Some(extract.key) {
            self.entry.date = Some(range);
        } else {
            self.entry.dates.push((extract.key, range));
        }
        Some(())
    }

    /// Only the outer limits of a Timing matter. <https://hl7.org/fhir/R4/search.html#date>
    pub(super) fn put_timing(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let events = value.get("event").into_iter().flat_map(|event| event.items());
        let events = events.filter_map(|e| e.as_str().and_then(|text| datetime::range(&text)));
        let bounds = value.get("repeat").and_then(|repeat| repeat.get("boundsPeriod")).and_then(period);
        let outer = events.chain(bounds).reduce(|a, b| datetime::Range {
            low: a.low.min(b.low),
            high: a.high.max(b.high),
        });
        self.put_date(extract, outer?)
    }

    pub(super) fn put_quantity_value(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let number = number(value, "value")?;
        let (low, high) = match value.get_str("comparator").as_deref() {
            Some("<" | "<=") => (f64::NEG_INFINITY, number),
            Some(">" | ">=") => (number, f64::INFINITY),
            _ => (number, number),
        };
        let system = value.get_str("system");
        let code = value.get_str("code").or_else(|| value.get_str("unit"));
        self.put_quantity(extract, system.as_deref(), code.as_deref(), low, high)
    }

    pub(super) fn put_range(&mut self, extract: &Extract, low: Option<Value<'_>>, high: Option<Value<'_>>) -> Option<()> {
        let unit = low.or(high)?;
        let bound = |side: Option<Value<'_>>, missing| side.and_then(|s| number(s, "value")).unwrap_or(missing);
        let system = unit.get_str("system");
        let code = unit.get_str("code").or_else(|| unit.get_str("unit"));
        self.put_quantity(
            extract,
            system.as_deref(),
            code.as_deref(),
            bound(low, f64::NEG_INFINITY),
            bound(high, f64::INFINITY),
        )
    }

    pub(super) fn put_quantity(&mut self, extract: &Extract, system: Option<&str>, code: Option<&str>, low: f64, high: f64) -> Option<()> {
        let unit = match (system, code) {
            (Some(system), Some(code)) => unit_hash(system, code),
            _ => 0,
        };
        self.entry.quantities.push(QuantityEntry {
            key: extract.key,
            unit,
            code: code.map_or(0, unit_code_hash),
            low,
            high,
        });
        Some(())
    }
}

pub fn number(value: Value<'_>, member: &str) -> Option<f64> {
    value.get(member)?.as_number()?.parse().ok()
}

/// The range of a Period; open ends reach to the far past and future. `None` if it has no readable end at all.
pub fn period(value: Value<'_>) -> Option<datetime::Range> {
    let start = value.get_str("start").and_then(|text| datetime::range(&text));
    let end = value.get_str("end").and_then(|text| datetime::range(&text));
    if start.is_none() && end.is_none() {
        return None;
    }
    Some(datetime::Range {
        low: start.map_or(datetime::FAR_PAST, |r| r.low),
        high: end.map_or(datetime::FAR_FUTURE, |r| r.high),
    })
}
