//! Clients that write without pause, whatever happens to the server, and keep the ledger. Each has resources of its own and one request at a time,
//! so what a resource must have become is known.

use crate::figures::Outcome;
use crate::ledger::Ledger;
use crate::ledger::Told;
use crate::support::http::Answer;
use crate::support::http::Request;
use serde_json::Value;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

pub const WRITERS: usize = 16;

/// The content of a resource after the write of this number; everything in it follows from the number.
pub fn body(resource: &str, number: u64) -> Value {
    let (type_name, id) = resource.split_once('/').expect("a type and an id");
    let day = 1 + number % 28;
    match type_name {
        "Patient" => json!({
            "resourceType": "Patient", "id": id,
            "identifier": [{"system": "urn:fault:mrn", "value": id}, {"system": "urn:fault:number", "value": number.to_string()}],
            "name": [{"family": format!("Fàm{}", number % 64), "given": ["Anna", format!("n{number}")]}],
            "birthDate": format!("{}-{:02}-{day:02}", 1940 + number % 60, 1 + number % 12)
        }),
        _ => json!({
            "resourceType": "Observation", "id": id, "status": "final",
            "identifier": [{"system": "urn:fault:number", "value": number.to_string()}],
            "code": {"coding": [{"system": "urn:fault:code", "code": format!("c{}", number % 16)}]},
            "subject": {"reference": format!("Patient/{}", id.replace('o', "p"))},
            "effectiveDateTime": format!("{}-{:02}-{day:02}T10:00:00+01:00", 2020 + number % 4, 1 + number % 12),
            "valueQuantity": {"value": (number % 1000) as f64 + 0.25, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}
        }),
    }
}

/// Number of the write whose content this is.
pub fn number_of(resource: &Value) -> Option<u64> {
    let identifiers = resource["identifier"].as_array()?;
    let numbered = identifiers.iter().find(|i| i["system"] == "urn:fault:number")?;
    numbered["value"].as_str()?.parse().ok()
}

/// Writers on one ledger, from `start` on until `stop`.
pub struct Storm {
    pub ledger: Ledger,
    addresses: Mutex<Vec<SocketAddr>>,
    is_over: AtomicBool,
    /// Answers that may not be: neither 2xx nor a 503 with Retry-After.
    pub wrong: Mutex<Vec<String>>,
    pub refused_503: AtomicU64,
}

impl Storm {
    pub fn new() -> Storm {
        Storm {
            ledger: Ledger::new(),
            addresses: Mutex::default(),
            is_over: AtomicBool::default(),
            wrong: Mutex::default(),
            refused_503: AtomicU64::default(),
        }
    }

    /// Where the writers write from now on: each chooses one of these by its number.
    pub fn aim(&self, addresses: &[SocketAddr]) {
        *self.addresses.lock().expect("not poisoned") = addresses.to_vec();
    }

    /// Runs the writers while `faults` runs, and until it has ended.
    pub fn rage<T>(&self, faults: impl FnOnce() -> T) -> T {
        self.is_over.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| self.ledger.sync_until(|| self.is_over.load(Ordering::Relaxed)));
            for writer in 0..WRITERS {
                scope.spawn(move || self.write(writer));
            }
            // Also when a scenario panics: the writers must end, or its message would never be seen.
            let over = End(&self.is_over);
            let result = faults();
            drop(over);
            result
        })
    }

    pub fn done(&self) -> u64 {
        self.ledger.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes are acknowledged; false if they are not within the time.
    pub fn wait_for(&self, more: u64, within: Duration) -> bool {
        let (begin, target) = (Instant::now(), self.done() + more);
        while self.done() < target {
            if begin.elapsed() > within {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Time until a write is acknowledged that was sent after now; a violation if it takes 30 s.
    pub fn recovery(&self, outcome: &mut Outcome) -> Duration {
        let begin = Instant::now();
        // What was on its way already may answer first: two writes of each writer at most, and one more is later.
        let is_writing = self.wait_for(2 * WRITERS as u64 + 1, Duration::from_secs(30));
        outcome.require(is_writing, || "recovery: nothing is written again within 30 s".to_owned());
        begin.elapsed()
    }

    /// Lets the writers write so much; a violation if they cannot.
    pub fn calm(&self, writes: u64, outcome: &mut Outcome) {
        let is_writing = self.wait_for(writes, Duration::from_secs(30));
        outcome.require(is_writing, || format!("recovery: {writes} writes take more than 30 s"));
    }

    fn write(&self, writer: usize) {
        let mut round = 0_u64;
        while !self.is_over.load(Ordering::Relaxed) {
            if self.addresses.lock().expect("not poisoned").is_empty() {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            // Each resource is written about eight times.
            let resource = round / 16;
            let (patient, observation) = (format!("Patient/p{writer}-{resource}"), format!("Observation/o{writer}-{resource}"));
            let was_told = match round % 16 {
                0 | 8 => self.pair(writer, &patient, &observation),
                5 => self.delete(writer, &observation),
                r if r % 2 == 0 => self.put(writer, &patient),
                _ => self.put(writer, &observation),
            };
            round += 1;
            if !was_told {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn address(&self, writer: usize) -> SocketAddr {
        let addresses = self.addresses.lock().expect("not poisoned");
        addresses[writer % addresses.len()]
    }

    fn put(&self, writer: usize, resource: &str) -> bool {
        let number = self.ledger.number();
        self.ledger.sent(number, resource, false, 0);
        let request = Request::new(self.address(writer), "PUT", &format!("/fhir/{resource}")).json(&body(resource, number));
        self.told(&[number], request.try_send(), |answer| vec![version(answer.header("etag"))])
    }

    fn delete(&self, writer: usize, resource: &str) -> bool {
        let number = self.ledger.number();
        self.ledger.sent(number, resource, true, 0);
        let request = Request::new(self.address(writer), "DELETE", &format!("/fhir/{resource}"));
        self.told(&[number], request.try_send(), |answer| vec![version(answer.header("etag"))])
    }

    fn pair(&self, writer: usize, patient: &str, observation: &str) -> bool {
        let (one, two) = (self.ledger.number(), self.ledger.number());
        self.ledger.sent(one, patient, false, one);
        self.ledger.sent(two, observation, false, one);
        let entry =
            |resource: &str, number: u64| json!({"resource": body(resource, number), "request": {"method": "PUT", "url": resource}});
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry(patient, one), entry(observation, two)]});
        let request = Request::new(self.address(writer), "POST", "/fhir").json(&bundle);
        self.told(&[one, two], request.try_send(), |answer| {
            let answer = answer.json();
            let etag = |i: usize| version(answer["entry"][i]["response"]["etag"].as_str());
            vec![etag(0), etag(1)]
        })
    }

    /// Takes note of an answer; true if it was 2xx. `versions` reads the version of each request from it, 0 if it names none.
    fn told(&self, numbers: &[u64], answer: io::Result<Answer>, versions: impl Fn(&Answer) -> Vec<u32>) -> bool {
        let told = match answer {
            Ok(answer) if (200..300).contains(&answer.status) => {
                for (number, version) in numbers.iter().zip(versions(&answer)) {
                    self.ledger.told(*number, Told::Done(version));
                }
                return true;
            }
            Ok(answer) if answer.status == 503 && answer.header("retry-after").is_some() => {
                self.refused_503.fetch_add(1, Ordering::Relaxed);
                // Only these words leave it open whether the write was carried out.
                if answer.text().contains("while the write was being committed") {
                    Told::Unknown
                } else {
                    Told::Refused
                }
            }
            Ok(answer) => {
                let text = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
                self.wrong.lock().expect("not poisoned").push(text);
                if answer.status < 500 { Told::Refused } else { Told::Unknown }
            }
            Err(_) => Told::Unknown,
        };
        for number in numbers {
            self.ledger.told(*number, told);
        }
        false
    }

    /// What the clients saw, for the page, and answers that may not be.
    pub fn report(&self, outcome: &mut Outcome) {
        outcome.figure("acknowledged writes", self.done());
        outcome.figure("without a certain answer", self.ledger.unknown.load(Ordering::Relaxed));
        outcome.figure("answers 503", self.refused_503.load(Ordering::Relaxed));
        for wrong in self.wrong.lock().expect("not poisoned").iter() {
            outcome.violations.push(format!("answers: {wrong}"));
        }
    }
}

/// Sets its flag when it goes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn version(etag: Option<&str>) -> u32 {
    etag.and_then(|e| e.trim_matches(['W', '/', '"']).parse().ok()).unwrap_or(0)
}
