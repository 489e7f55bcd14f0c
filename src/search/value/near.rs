//! `near`: `latitude|longitude|distance|units`. Spec: <https://hl7.org/fhir/R4/location.html#search>.

use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::condition::Near;
use crate::search::parameters::Parameter;
use crate::search::units::Measure;
use crate::search::units::UCUM;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_unescaped;
use octofhir_ucum::Number;

/// What is near when no distance is told, which the specification leaves to the server: a town.
const DISTANCE_DEFAULT: &str = "10";
/// "If the units are omitted, then kms should be assumed."
const UNITS_DEFAULT: &str = "km";
/// Half of the way around the Earth: further is nothing.
const METRES_MAX: f64 = 20_040_000.0;

pub fn near(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let error = |what: &str| Outcome::invalid(format!("near is written latitude|longitude|distance|units: {what}"));
    let parts = split_unescaped(text, '|');
    if !(2..=4).contains(&parts.len()) {
        return Err(error("the distance and the units may be left out"));
    }
    let part = |place: usize, missing: &'static str| match parts.get(place).map(String::as_str) {
        None | Some("") => missing.to_owned(),
        Some(text) => text.to_owned(),
    };
    let degrees = |place: usize, max: f64, what: &str| {
        let degrees: f64 = part(place, "").parse().map_err(|_| error(what))?;
        if degrees.abs() <= max { Ok(degrees) } else { Err(error(what)) }
    };
    let latitude = degrees(0, 90.0, "the latitude is a number of degrees from -90 to 90")?;
    let longitude = degrees(1, 180.0, "the longitude is a number of degrees from -180 to 180")?;
    let distance = Number::parse(&part(2, DISTANCE_DEFAULT)).filter(|distance| !distance.is_negative());
    let distance = distance.ok_or_else(|| error("the distance is a number from 0"))?;
    let unit = Measure::of(UCUM, &part(3, UNITS_DEFAULT)).filter(|unit| unit.dimension == "m");
    let unit = unit.ok_or_else(|| error("the units are a length of UCUM, such as km, m or [mi_us]"))?;
    let metres = unit.canonical(distance).map_or(METRES_MAX, Number::to_f64).min(METRES_MAX);
    Ok(Condition::Near(Near {
        latitude,
        longitude,
        metres,
    }))
}
