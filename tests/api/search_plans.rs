//! Searches that are planned by what is there: whom a chain leads to, how many have a value, in which order values stand. Whatever the plan, all pages
//! together have what the resources say. The server knows density from the database's statistics, so it has a database of its own here, filled and
//! analysed before it starts. docs/adr/0008-plans.md.

use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::ids_of;
use crate::transaction::entry;
use serde_json::Value;
use serde_json::json;
use std::cmp::Ordering;
use std::sync::OnceLock;

/// More than a search gathers, and than a chain takes one by one.
const PATIENTS: usize = 2_300;
/// From here on they are amended. Of those before, one practitioner has more than are looked at one by one for whom they hold, and each half is more than
/// a search gathers.
const AMENDED: usize = 3_000;
const OBSERVATIONS: usize = 5_400;
/// What one transaction writes stands in the table in an order of its own.
const WRITTEN_AT_ONCE: usize = 500;

struct Patient {
    families: Vec<String>,
    is_male: bool,
    /// Number of the practitioner.
    doctor: Option<usize>,
}

fn patient(i: usize) -> Patient {
    let family = |n: usize| format!("{}{:02}", ["ra", "be", "ze"][n % 3], n % 41);
    Patient {
        families: match i % 12 {
            0 => Vec::new(),
            // One name twice, or two.
            1 => vec![family(i), family(i)],
            2 => vec![family(i), family(i * 7 + 1)],
            _ => vec![family(i)],
        },
        is_male: i % 2 == 1,
        doctor: match i % 20 {
            1 => Some(1),
            n if n % 2 == 0 => Some(0),
            _ => None,
        },
    }
}

struct Observation {
    patient: usize,
    doctor: usize,
    code: &'static str,
    value: Option<f64>,
}

fn observation(i: usize) -> Observation {
    Observation {
        patient: i * 13 % PATIENTS,
        doctor: match i % 10 {
            0 => 1,
            5 if i < AMENDED => 2,
            _ => 0,
        },
        code: if i.is_multiple_of(3) { "third" } else { "others" },
        value: (!i.is_multiple_of(41)).then(|| (i * 7 % 500) as f64 / 10.0),
    }
}

fn stored() -> &'static (Server, DataDir) {
    static STORED: OnceLock<(Server, DataDir)> = OnceLock::new();
    STORED.get_or_init(|| {
        let dir = DataDir::new();
        let server = Server::start(&dir, &[]);
        let mut entries: Vec<Value> = Vec::new();
        let mut put = |resource: Value| {
            let url = format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
            entries.push(entry("PUT", &url, resource));
        };
        for (i, family) in ["Rava", "Roda", "Zeta"].iter().enumerate() {
            put(json!({"resourceType": "Practitioner", "id": format!("d{i}"), "name": [{"family": family}]}));
        }
        for i in 0..PATIENTS {
            let is = patient(i);
            let names: Vec<Value> = is.families.iter().map(|family| json!({"family": family})).collect();
            let gender = if is.is_male { "male" } else { "female" };
            let mut resource = json!({"resourceType": "Patient", "id": format!("p{i}"), "gender": gender, "address": [{"city": "Roma"}]});
            if !names.is_empty() {
                resource["name"] = json!(names);
            }
            if let Some(doctor) = is.doctor {
                resource["generalPractitioner"] = json!([{"reference": format!("Practitioner/d{doctor}")}]);
            }
            put(resource);
        }
        for i in 0..OBSERVATIONS {
            let is = observation(i);
            let mut resource = json!({"resourceType": "Observation", "id": format!("o{i}"), "status": if i < AMENDED { "final" } else { "amended" },
                "code": {"coding": [{"system": "urn:test:plans", "code": is.code}]},
                "subject": {"reference": format!("Patient/p{}", is.patient)}, "performer": [{"reference": format!("Practitioner/d{}", is.doctor)}]});
            if let Some(value) = is.value {
                resource["valueQuantity"] = json!({"value": value, "system": "http://unitsofmeasure.org", "code": "mg/dL"});
            }
            put(resource);
        }
        for part in entries.chunks(WRITTEN_AT_ONCE) {
            server.bundle("transaction", part.to_vec()).expect(200);
        }
        Session::open(&dir).execute("analyze");
        server.stop();
        (Server::start(&dir, &[]), dir)
    })
}

/// Ids of all pages of a search, in order.
fn all(search: &str) -> Vec<String> {
    ids_of(&stored().0.pages(&format!("/{search}")))
}

/// The ids of those that satisfy the condition, the latest first.
fn newest(prefix: &str, count: usize, holds: impl Fn(usize) -> bool) -> Vec<String> {
    (0..count).rev().filter(|i| holds(*i)).map(|i| format!("{prefix}{i}")).collect()
}

/// In the order of a key, those without one last and the latest first among equals.
fn sorted<K: PartialOrd>(prefix: &str, count: usize, is_descending: bool, key: impl Fn(usize) -> Option<K>) -> Vec<String> {
    let mut numbers: Vec<usize> = (0..count).collect();
    numbers.sort_by(|a, b| {
        let by_key = match (key(*a), key(*b)) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) if is_descending => b.partial_cmp(&a).unwrap(),
            (Some(a), Some(b)) => a.partial_cmp(&b).unwrap(),
        };
        by_key.then(b.cmp(a))
    });
    numbers.into_iter().map(|i| format!("{prefix}{i}")).collect()
}

#[test]
fn a_chain_finds_what_it_leads_from_whether_it_leads_to_few_or_to_many() {
    let of_doctor = |doctor: usize| newest("o", OBSERVATIONS, move |i| patient(observation(i).patient).doctor == Some(doctor));
    for (family, wanted) in [("ra", of_doctor(0)), ("ro", of_doctor(1)), ("ze", Vec::new()), ("qu", Vec::new())] {
        let found = all(&format!("Observation?patient.general-practitioner.family={family}&_count=1000"));
        assert_eq!(found, wanted, "{family}");
    }
    // Beside what is asked of the row, and negated.
    let found = all("Observation?performer:Practitioner.family=rod&status=final&_count=1000");
    assert_eq!(found, newest("o", AMENDED, |i| observation(i).doctor == 1));
    let found = all("Observation?patient.general-practitioner.family:missing=true&status=final&_count=1000&code=third");
    assert_eq!(found, Vec::<String>::new(), "every practitioner has a name");
    let found = all("Observation?_filter=not (patient.general-practitioner.family sw ro) and code eq third&_count=1000");
    assert_eq!(
        found,
        newest("o", OBSERVATIONS, |i| i % 3 == 0
            && patient(observation(i).patient).doctor != Some(1))
    );
}

#[test]
fn pages_by_a_string_or_a_number_have_all_matches_in_order() {
    let family = |is_descending: bool| {
        move |i: usize| {
            let families = patient(i).families;
            if is_descending {
                families.into_iter().max()
            } else {
                families.into_iter().min()
            }
        }
    };
    for (sort, is_descending) in [("family", false), ("-family", true)] {
        let wanted = sorted("p", PATIENTS, is_descending, family(is_descending));
        assert_eq!(all(&format!("Patient?_sort={sort}&_count=83")), wanted, "{sort}");
        let wanted: Vec<String> = wanted.into_iter().filter(|id| patient(id[1..].parse().unwrap()).is_male).collect();
        assert_eq!(all(&format!("Patient?_sort={sort}&gender=male&_count=83")), wanted, "{sort}");
    }
    // A further key orders those that are equal in the first, however many these are.
    let wanted = {
        let mut wanted = sorted("p", PATIENTS, true, family(true));
        let key = |id: &String| family(true)(id[1..].parse().unwrap());
        wanted.sort_by(|a, b| match (key(a), key(b)) {
            (Some(x), Some(y)) => y.cmp(&x).then(a.cmp(b)),
            (x, y) => y.is_some().cmp(&x.is_some()).then(a.cmp(b)),
        });
        wanted
    };
    assert_eq!(all("Patient?_sort=-family,_id&_count=83"), wanted);
    for (sort, is_descending) in [("value-quantity", false), ("-value-quantity", true)] {
        let wanted = sorted("o", OBSERVATIONS, is_descending, |i| observation(i).value);
        assert_eq!(all(&format!("Observation?_sort={sort}&_count=211")), wanted, "{sort}");
    }
}

/// More are equal than are read for a page.
#[test]
fn pages_of_very_many_that_are_equal_are_ordered_by_what_comes_next() {
    let newest = newest("p", PATIENTS, |_| true);
    let mut by_id = newest.clone();
    by_id.sort();
    for direction in ["", "-"] {
        assert_eq!(
            all(&format!("Patient?_sort={direction}address-city&_count=41")),
            newest,
            "{direction}"
        );
        assert_eq!(
            all(&format!("Patient?_sort={direction}address-city,_id&_count=41")),
            by_id,
            "{direction}"
        );
    }
}

#[test]
fn who_holds_is_found_behind_thousands_that_do_not_satisfy_the_condition() {
    let first = (0..AMENDED - WRITTEN_AT_ONCE).filter(|i| observation(*i).doctor == 0).count();
    assert!(first >= 2_000, "HOLDERS_READ_MAX, before the first that is amended: {first}");
    let found = all("Practitioner?_has:Observation:performer:status=amended");
    assert_eq!(found, ["d1", "d0"], "the first thousands of d0 are final, all of d2 are");
    assert_eq!(all("Practitioner?_has:Observation:performer:status=final"), ["d2", "d1", "d0"]);
    let holders = |holds: &dyn Fn(f64) -> bool| {
        let has: std::collections::HashSet<usize> = (0..OBSERVATIONS)
            .map(observation)
            .filter(|o| o.value.is_some_and(holds))
            .map(|o| o.patient)
            .collect();
        newest("p", PATIENTS, |i| has.contains(&i))
    };
    // Few values, and many.
    assert_eq!(
        all("Patient?_has:Observation:patient:value-quantity=gt49.8"),
        holders(&|value| value > 49.8)
    );
    assert_eq!(
        all("Patient?_has:Observation:patient:value-quantity=gt10&_count=1000"),
        holders(&|value| value > 10.0)
    );
    assert_eq!(all("Patient?_has:Observation:patient:value-quantity=gt50"), Vec::<String>::new());
}

#[test]
fn values_beside_a_code_are_found_whichever_is_rarer() {
    for (search, wanted) in [
        (
            "code=third&value-quantity=gt1",
            newest("o", OBSERVATIONS, |i| i % 3 == 0 && observation(i).value.is_some_and(|v| v > 1.05)),
        ),
        (
            "code=third&value-quantity=gt49.8",
            newest("o", OBSERVATIONS, |i| i % 3 == 0 && observation(i).value.is_some_and(|v| v > 49.85)),
        ),
        (
            "value-quantity=gt0.498|http://unitsofmeasure.org|g/L",
            newest("o", OBSERVATIONS, |i| observation(i).value.is_some_and(|v| v > 49.8)),
        ),
        (
            "value-quantity=lt0.49|http://unitsofmeasure.org|g/L&code=others&status=final",
            newest("o", AMENDED, |i| i % 3 != 0 && observation(i).value.is_some_and(|v| v < 49.0)),
        ),
    ] {
        let mut found = all(&format!("Observation?{search}&_count=1000"));
        let mut wanted = wanted;
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{search}");
    }
}

#[test]
fn what_all_have_is_missing_in_none_and_all_of_a_type_are_counted() {
    let server = &stored().0;
    for (search, total) in [
        ("Observation?subject:missing=true", 0),
        ("Observation?subject:missing=false", OBSERVATIONS),
        ("Observation?value-quantity:missing=true", OBSERVATIONS.div_ceil(41)),
        ("Patient?birthdate:missing=true", PATIENTS),
        ("Patient?name:missing=true&gender=female", PATIENTS.div_ceil(12)),
        ("Patient?", PATIENTS),
        ("Observation?", OBSERVATIONS),
        ("Observation?status=amended", OBSERVATIONS - AMENDED),
        (
            "Observation?patient.general-practitioner.family=ra",
            (0..OBSERVATIONS)
                .filter(|i| patient(observation(*i).patient).doctor == Some(0))
                .count(),
        ),
        ("Observation?encounter.status=finished", 0),
        (
            "Observation?patient.name:missing=false",
            (0..OBSERVATIONS)
                .filter(|i| !patient(observation(*i).patient).families.is_empty())
                .count(),
        ),
    ] {
        let answer = server.get(&format!("/{search}&_summary=count")).expect(200);
        assert_eq!(answer.json()["total"], total, "{search}");
        assert_eq!(all(&format!("{search}&_count=1000")).len(), total, "{search}");
    }
}
