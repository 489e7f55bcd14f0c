//! `near`: positions within a distance. <https://hl7.org/fhir/R4/location.html#search>
//!
//! Decisions, where the specification leaves them to the server: the Earth is a sphere of its mean radius; without a distance it is ten kilometres.

use serde_json::Value;

const RADIUS_KM: f64 = 6371.0088;

/// `latitude|longitude|distance|units`. "If the units are omitted, then kms should be assumed."
pub fn near_holds(location: &Value, text: &str) -> bool {
    let parts: Vec<&str> = text.split('|').collect();
    let reach = parts
        .get(2)
        .filter(|part| !part.is_empty())
        .map_or(10.0, |part| part.parse().expect("a number"));
    let unit = match parts.get(3).copied().unwrap_or_default() {
        "" | "km" => 1.0,
        "m" => 0.001,
        "[mi_us]" => 1.609_347_218_694,
        other => panic!("no unit here: {other}"),
    };
    distance(location, text).is_some_and(|distance| distance <= reach * unit)
}

/// How far it is from the place that is asked for; `None` if it has no position.
pub fn distance(location: &Value, text: &str) -> Option<f64> {
    let of = |member: &str| location["position"][member].as_f64();
    let mut parts = text.split('|').map(|part| part.parse::<f64>());
    let mut degrees = || parts.next().expect("a part").expect("a number of degrees");
    Some(kilometres((of("latitude")?, of("longitude")?), (degrees(), degrees())))
}

/// Along the great circle: the angle between the two directions from the middle of the Earth.
pub fn kilometres(one: (f64, f64), other: (f64, f64)) -> f64 {
    let direction = |(latitude, longitude): (f64, f64)| {
        let (latitude, longitude) = (latitude.to_radians(), longitude.to_radians());
        [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
    };
    let (a, b) = (direction(one), direction(other));
    let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let length = cross.iter().map(|x| x * x).sum::<f64>().sqrt();
    let dot: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
    RADIUS_KM * length.atan2(dot)
}
