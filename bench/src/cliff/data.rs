//! Skewed data: a few codes on most Observations, most dates in the last two years, a few doctors and families of many.
//!
//! Everything follows from its number, so that queries know what is there without reading it back.

use crate::calendar::DAY_SECONDS;
use crate::calendar::date;
use crate::calendar::date_time;
use crate::calendar::days_from_civil;
use crate::http::BaseUrl;
use crate::http::Connection;
use crate::http::Request;
use crate::rng::Rng;
use serde_json::Value;
use serde_json::json;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

/// Resources in one Bundle.
const BUNDLE_ENTRIES: u64 = 500;
/// Connections that load.
const LOADERS: usize = 6;

pub const CODES: usize = 400;
pub const FAMILIES: usize = 2_000;
pub const PRACTITIONERS: usize = 500;
pub const ORGANIZATIONS: usize = 50;
pub const LOCATIONS: usize = 1_000;

/// A code that no Observation has had since the turn of the century, though one in twenty has it.
pub const OLD_CODE: usize = CODES;

#[derive(Debug, Clone, Copy)]
pub struct Data {
    pub observations: u64,
    pub patients: u64,
    pub seed: u64,
}

impl Data {
    /// How many resources: each patient has an encounter.
    pub fn count(&self) -> u64 {
        (ORGANIZATIONS + PRACTITIONERS + LOCATIONS + 1) as u64 + 2 * self.patients + self.observations
    }

    /// Loads everything.
    ///
    /// Errors: those of the sockets, and what a refused Bundle says.
    pub fn load(&self, base: &BaseUrl) -> Result<(), Box<dyn std::error::Error>> {
        let total = self.count();
        let next = AtomicU64::new(0);
        let results: Vec<Result<(), String>> = thread::scope(|scope| {
            let loaders: Vec<_> = (0..LOADERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = Connection::new(base.clone());
                        loop {
                            let from = next.fetch_add(BUNDLE_ENTRIES, Ordering::Relaxed);
                            if from >= total {
                                return Ok(());
                            }
                            let entries: Vec<Value> = (from..(from + BUNDLE_ENTRIES).min(total))
                                .map(|i| entry(self.resource(i)))
                                .collect();
                            let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
                            let answer = connection
                                .send(&Request::send("POST", String::new(), bundle.to_string().into_bytes()))
                                .map_err(|e| e.to_string())?;
                            if answer.status != 200 {
                                let text = String::from_utf8_lossy(answer.body).chars().take(400).collect::<String>();
                                return Err(format!("a Bundle was refused: {} {text}", answer.status));
                            }
                            if from.is_multiple_of(100 * BUNDLE_ENTRIES) {
                                eprintln!("{from} of {total}");
                            }
                        }
                    })
                })
                .collect();
            loaders
                .into_iter()
                .map(|l| l.join().unwrap_or_else(|_| Err("a loader ended".to_owned())))
                .collect()
        });
        results.into_iter().collect::<Result<Vec<()>, String>>()?;
        Ok(())
    }

    fn resource(&self, number: u64) -> Value {
        let mut left = number as usize;
        let mut rng = Rng::new(self.seed, number);
        for (count, make) in [
            (ORGANIZATIONS, organization as fn(&Data, usize, &mut Rng) -> Value),
            (PRACTITIONERS, practitioner),
            (LOCATIONS, location),
            (1, list),
            (self.patients as usize, patient),
            (self.patients as usize, encounter),
        ] {
            if left < count {
                return make(self, left, &mut rng);
            }
            left -= count;
        }
        observation(self, left, &mut rng)
    }
}

fn entry(resource: Value) -> Value {
    let url = format!(
        "{}/{}",
        resource["resourceType"].as_str().unwrap_or_default(),
        resource["id"].as_str().unwrap_or_default()
    );
    json!({"resource": resource, "request": {"method": "PUT", "url": url}})
}

/// A number below `bound`: the smaller, the more often, as words in a language.
fn skewed(rng: &mut Rng, bound: usize) -> usize {
    let place = (bound as f64 + 1.0).powf(rng.unit()) - 1.0;
    (place as usize).min(bound - 1)
}

pub fn code(number: usize) -> String {
    format!("c{number:03}")
}

/// Names of two letters and a number, so that prefixes of every length find something.
pub fn family(number: usize) -> String {
    let letters = "rbcmdfglnpstv".as_bytes();
    let (first, second) = (letters[number % 13] as char, "aeiou".as_bytes()[number / 13 % 5] as char);
    format!("{first}{second}{number:04}ni")
}

fn organization(_: &Data, number: usize, _: &mut Rng) -> Value {
    json!({"resourceType": "Organization", "id": format!("org{number}"), "name": format!("Ospedale {number}"), "active": true})
}

fn practitioner(_: &Data, number: usize, _: &mut Rng) -> Value {
    json!({"resourceType": "Practitioner", "id": format!("dr{number}"), "name": [{"family": family(number), "given": ["Medico"]}]})
}

fn location(_: &Data, number: usize, rng: &mut Rng) -> Value {
    json!({"resourceType": "Location", "id": format!("loc{number}"), "name": format!("Ambulatorio {number}"), "status": "active",
        "position": {"latitude": rng.real(37.0, 46.0), "longitude": rng.real(7.0, 18.0)},
        "managingOrganization": {"reference": format!("Organization/org{}", skewed(rng, ORGANIZATIONS))}})
}

fn list(data: &Data, _: usize, rng: &mut Rng) -> Value {
    let items: Vec<Value> = (0..200)
        .map(|_| json!({"item": {"reference": format!("Patient/p{}", rng.below(data.patients as usize))}}))
        .collect();
    json!({"resourceType": "List", "id": "list", "status": "current", "mode": "working", "entry": items})
}

fn patient(_: &Data, number: usize, rng: &mut Rng) -> Value {
    let born = days_from_civil(1935, 1, 1) + rng.between(0, 32_000);
    let mut patient = json!({"resourceType": "Patient", "id": format!("p{number}"),
        "identifier": [{"system": "urn:cliff:id", "value": format!("ID{number:06}"),
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}}],
        "active": rng.chance(95),
        "name": [{"family": family(skewed(rng, FAMILIES)), "given": [format!("Nome{}", skewed(rng, 300))]}],
        "gender": if rng.chance(51) { "female" } else { "male" },
        "birthDate": date(born),
        "address": [{"city": format!("Comune{}", skewed(rng, 400)), "postalCode": format!("{:05}", rng.below(99_999))}],
        "managingOrganization": {"reference": format!("Organization/org{}", skewed(rng, ORGANIZATIONS))}});
    if rng.chance(70) {
        patient["generalPractitioner"] = json!([{"reference": format!("Practitioner/dr{}", skewed(rng, PRACTITIONERS))}]);
    }
    patient
}

fn encounter(_: &Data, number: usize, rng: &mut Rng) -> Value {
    let start = recent(rng);
    json!({"resourceType": "Encounter", "id": format!("e{number}"), "status": if rng.chance(97) { "finished" } else { "in-progress" },
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": if rng.chance(80) { "AMB" } else { "IMP" }},
        "subject": {"reference": format!("Patient/p{number}")},
        "period": {"start": date_time(start), "end": date_time(start + rng.between(600, 400_000))},
        "location": [{"location": {"reference": format!("Location/loc{}", skewed(rng, LOCATIONS))}}],
        "serviceProvider": {"reference": format!("Organization/org{}", skewed(rng, ORGANIZATIONS))}})
}

/// Seconds since 1970: three of four in the last two years, the others back to 1990.
fn recent(rng: &mut Rng) -> i64 {
    let end = days_from_civil(2026, 11, 1);
    let days = if rng.chance(75) {
        rng.between(0, 730)
    } else {
        rng.between(0, 13_000)
    };
    (end - days) * DAY_SECONDS + rng.between(0, DAY_SECONDS - 1)
}

fn observation(data: &Data, number: usize, rng: &mut Rng) -> Value {
    let is_old = rng.chance(5);
    let of = if is_old { OLD_CODE } else { skewed(rng, CODES) };
    let at = if is_old {
        days_from_civil(1990, 1, 1) * DAY_SECONDS + rng.between(0, 9 * 365 * DAY_SECONDS)
    } else {
        recent(rng)
    };
    let patient = rng.below(data.patients as usize);
    let mut observation = json!({"resourceType": "Observation", "id": format!("o{number}"),
        "status": if rng.chance(98) { "final" } else { "amended" },
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": if rng.chance(70) { "laboratory" } else { "vital-signs" }}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code(of), "display": format!("Esame {of}")}], "text": format!("Esame numero {of}")},
        "subject": {"reference": format!("Patient/p{patient}")},
        "effectiveDateTime": date_time(at)});
    if rng.chance(50) {
        observation["encounter"] = json!({"reference": format!("Encounter/e{patient}")});
    }
    if rng.chance(40) {
        observation["performer"] = json!([{"reference": format!("Practitioner/dr{}", skewed(rng, PRACTITIONERS))}]);
    }
    let quantity = |value: f64| json!({"value": (value * 10.0).round() / 10.0, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"});
    match of % 10 {
        3 => {
            observation["valueCodeableConcept"] =
                json!({"coding": [{"system": "urn:cliff:result", "code": format!("r{}", skewed(rng, 20))}]})
        }
        4 => {
            let component = |code: &str, value: f64| json!({"code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "valueQuantity": quantity(value)});
            observation["component"] = json!([
                component("systolic", rng.real(90.0, 180.0)),
                component("diastolic", rng.real(50.0, 110.0))
            ]);
        }
        _ => observation["valueQuantity"] = quantity(rng.real(0.0, 1.0).powi(3) * 500.0),
    }
    observation
}
