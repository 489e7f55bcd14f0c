//! What is compared by order: dates, numbers, quantities.

use crate::fhir::datetime;
use crate::fhir::json::Value;
use crate::search::index::Indexer;
use crate::search::index::QuantityEntry;
use crate::search::index::UnitEntry;
use crate::search::parameters::Extract;
use crate::search::term::unit_code_hash;
use crate::search::term::unit_hash;
use std::borrow::Cow;

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

    /// With a comparator the value lies beyond the number, which is outside unless the comparator says `=`.
    pub(super) fn put_quantity_value(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let number = number(value, "value")?;
        let (low, high) = match value.get_str("comparator").as_deref() {
            Some("<") => (f64::NEG_INFINITY, number.next_down()),
            Some("<=") => (f64::NEG_INFINITY, number),
            Some(">") => (number.next_up(), f64::INFINITY),
            Some(">=") => (number, f64::INFINITY),
            _ => (number, number),
        };
        self.put_quantity(extract, Unit::of(value), low, high)
    }

    pub(super) fn put_range(&mut self, extract: &Extract, low: Option<Value<'_>>, high: Option<Value<'_>>) -> Option<()> {
        let unit = low.or(high)?;
        let bound = |side: Option<Value<'_>>| side.and_then(|s| number(s, "value"));
        let (low, high) = (bound(low), bound(high));
        // Without a number it is not one without ends.
        low.or(high)?;
        self.put_quantity(
            extract,
            Unit::of(unit),
            low.unwrap_or(f64::NEG_INFINITY),
            high.unwrap_or(f64::INFINITY),
        )
    }

    /// From the lowest to the highest of the data; values beyond the limits of the device reach as far as those, or without end.
    /// <https://hl7.org/fhir/R4/datatypes.html#SampledData>
    pub(super) fn put_sampled_data(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let unit = value.get("origin")?;
        let origin = number(unit, "value")?;
        let factor = number(value, "factor").unwrap_or(1.0);
        let limit = |member, missing: f64| number(value, member).map_or(missing, |limit| origin + factor * limit);
        let data = value.get_str("data").unwrap_or_default();
        let ends = data.split_whitespace().filter_map(|sample| match sample {
            "E" => None,
            "L" => Some((f64::NEG_INFINITY, limit("lowerLimit", f64::INFINITY))),
            "U" => Some((limit("upperLimit", f64::NEG_INFINITY), f64::INFINITY)),
            sample => {
                let at = origin + factor * sample.parse::<f64>().ok().filter(|s| s.is_finite())?;
                Some((at, at))
            }
        });
        let (low, high) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        self.put_quantity(extract, Unit::of(unit), low, high)
    }

    /// Degrees that are none are not found.
    pub(super) fn put_position(&mut self, value: Value<'_>) -> Option<()> {
        let (longitude, latitude) = (number(value, "longitude")?, number(value, "latitude")?);
        if longitude.abs() > 180.0 || latitude.abs() > 90.0 {
            return None;
        }
        self.entry.positions.push((longitude, latitude));
        Some(())
    }

    pub(super) fn put_quantity(&mut self, extract: &Extract, unit: Unit<'_>, low: f64, high: f64) -> Option<()> {
        let hash = unit.code.as_deref().map_or(0, |code| {
            let system = unit.system.as_deref().unwrap_or_default();
            let hash = unit_hash(system, code);
            if !self.entry.units.iter().any(|known| known.hash == hash) {
                self.entry.units.push(UnitEntry {
                    hash,
                    system: system.to_owned(),
                    code: code.to_owned(),
                });
            }
            hash
        });
        self.entry.quantities.push(QuantityEntry {
            key: extract.key,
            unit: hash,
            code: unit.text.as_deref().map_or(0, unit_code_hash),
            low,
            high,
            joint: None,
        });
        Some(())
    }
}

/// How a quantity says what it is measured in.
#[derive(Default)]
pub struct Unit<'v> {
    pub system: Option<Cow<'v, str>>,
    pub code: Option<Cow<'v, str>>,
    pub text: Option<Cow<'v, str>>,
}

impl<'v> Unit<'v> {
    fn of(quantity: Value<'v>) -> Unit<'v> {
        Unit {
            system: quantity.get_str("system"),
            code: quantity.get_str("code"),
            text: quantity.get_str("unit"),
        }
    }
}

pub fn number(value: Value<'_>, member: &str) -> Option<f64> {
    number_of(value.get(member)?)
}

pub fn number_of(value: Value<'_>) -> Option<f64> {
    value.as_number()?.parse().ok()
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
