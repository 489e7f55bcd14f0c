//! `near`: positions within a distance. <https://hl7.org/fhir/R4/location.html#search>
//!
//! Decisions, where the specification leaves them to the server: the Earth is a sphere of its mean radius; without a distance it is ten kilometres.

use serde_json::Value;

const RADIUS_KM: f64 = 6371.0088;

/// `latitude|longitude|distance|units`. "If the units are omitted, then kms should be assumed."
pub fn near_holds(location: &Value, text: &str) -> bool {
    let parts: Vec<&str> = text.split('|').collect();
    let number = |place: usize| {
        parts
            .get(place)
            .filter(|part| !part.is_empty())
            .map(|part| part.parse::<f64>().expect("a number"))
    };
    let unit = match parts.get(3).copied().unwrap_or_default() {
        "" | "km" => 1.0,
        "m" => 0.001,
        "[mi_us]" => 1.609_347_218_694,
        other => panic!("no unit here: {other}"),
    };
    let of = |member: &str| location["position"][member].as_f64();
    let (Some(latitude), Some(longitude)) = (of("latitude"), of("longitude")) else {
        return false;
    };
    let center = (number(0).expect("a latitude"), number(1).expect("a longitude"));
    kilometres((latitude, longitude), center) <= number(2).unwrap_or(10.0) * unit
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
