//! A FHIR server for tests: resources in memory, searches by walking them, one thread a connection.

use std::collections::HashMap;
use std::collections::HashSet;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use eds_bench::calendar;
use eds_bench::load::index::fold;
use serde_json::Value;
use serde_json::json;

/// What the stub does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    LosesLastMatch,
    RefusesTransactions,
    /// `next` leads to the page it stands on.
    StaysOnPage,
    /// A conditional create stores in any case.
    IgnoresConditions,
    /// `$validate` finds nothing.
    AcceptsEverything,
    /// A deleted resource can still be read.
    KeepsDeleted,
    /// A quantity is found whatever its value is.
    IgnoresValues,
}

struct Store {
    fault: Fault,
    authority: String,
    resources: Vec<Value>,
    positions: HashMap<String, usize>,
    versions: HashMap<String, usize>,
}

struct Answer {
    status: u16,
    headers: String,
    body: String,
}

/// Starts a stub and returns its authority.
pub fn start(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let authority = listener.local_addr().expect("an address").to_string();
    let store = Arc::new(Mutex::new(Store {
        fault,
        authority: authority.clone(),
        resources: Vec::new(),
        positions: HashMap::new(),
        versions: HashMap::new(),
    }));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = Arc::clone(&store);
            thread::spawn(move || serve(stream, &store));
        }
    });
    authority
}

fn serve(stream: TcpStream, store: &Mutex<Store>) {
    stream.set_nodelay(true).expect("a socket option");
    let mut writer = stream.try_clone().expect("a second handle");
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, target) = (
            words.next().expect("a method").to_owned(),
            words.next().expect("a target").to_owned(),
        );
        let mut length = 0;
        let mut condition = None;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).expect("a header");
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
            if let Some(value) = header.strip_prefix("if-none-exist: ") {
                condition = Some(value.trim().to_owned());
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let path = target.strip_prefix("/fhir").expect("the base").trim_start_matches('/');
        let answer = store.lock().expect("the store").answer(&method, path, &body, condition.as_deref());
        let head = format!(
            "HTTP/1.1 {} x\r\ncontent-length: {}\r\n{}\r\n",
            answer.status,
            answer.body.len(),
            answer.headers
        );
        writer.write_all(format!("{head}{}", answer.body).as_bytes()).expect("written");
    }
}

fn ok(body: Value) -> Answer {
    Answer {
        status: 200,
        headers: String::new(),
        body: body.to_string(),
    }
}

fn empty(status: u16, headers: String) -> Answer {
    Answer {
        status,
        headers,
        body: String::new(),
    }
}

impl Store {
    fn answer(&mut self, method: &str, path: &str, body: &[u8], condition: Option<&str>) -> Answer {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        match method {
            "POST" if path.is_empty() => self.transaction(value),
            "POST" if path.ends_with("$validate") => self.validate(&value),
            "POST" => {
                if let Some(known) = condition.and_then(|condition| self.known(path, condition)) {
                    return empty(200, format!("location: http://stub/fhir/{known}/_history/1\r\n"));
                }
                let location = self.create(value);
                empty(201, format!("location: http://stub/fhir/{location}/_history/1\r\n"))
            }
            "DELETE" => {
                if self.fault != Fault::KeepsDeleted {
                    self.resources[self.positions[path]] = Value::Null;
                }
                empty(204, String::new())
            }
            "PUT" => {
                let position = self.positions[path];
                self.resources[position] = value;
                let version = self.versions.entry(path.to_owned()).or_insert(1);
                *version += 1;
                empty(200, format!("etag: W/\"{version}\"\r\n"))
            }
            _ => match path.split_once('?') {
                Some((kind, query)) => self.search(kind, query),
                None => self.read(path),
            },
        }
    }

    fn create(&mut self, mut resource: Value) -> String {
        let id = format!("id-{}", self.resources.len());
        let location = format!("{}/{id}", resource["resourceType"].as_str().expect("a type"));
        resource["id"] = json!(id);
        self.positions.insert(location.clone(), self.resources.len());
        self.resources.push(resource);
        location
    }

    fn transaction(&mut self, bundle: Value) -> Answer {
        if self.fault == Fault::RefusesTransactions {
            return Answer {
                status: 422,
                headers: String::new(),
                body: "{}".to_owned(),
            };
        }
        let mut text = bundle["entry"].to_string();
        let mut urls = Vec::new();
        let first = self.resources.len();
        for (number, entry) in bundle["entry"].as_array().expect("entries").iter().enumerate() {
            let kind = entry["request"]["url"].as_str().expect("a type");
            urls.push((
                entry["fullUrl"].as_str().expect("a url").to_owned(),
                format!("{kind}/id-{}", first + number),
            ));
        }
        for (url, location) in &urls {
            text = text.replace(&format!("\"reference\":\"{url}\""), &format!("\"reference\":\"{location}\""));
        }
        let entries: Vec<Value> = serde_json::from_str(&text).expect("entries");
        let locations: Vec<String> = entries.into_iter().map(|mut entry| self.create(entry["resource"].take())).collect();
        let answers: Vec<Value> = locations
            .iter()
            .map(|location| json!({ "response": { "status": "201 Created", "location": format!("{location}/_history/1") } }))
            .collect();
        ok(json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": answers }))
    }

    fn read(&self, path: &str) -> Answer {
        if let Some(target) = path.strip_suffix("/_history") {
            let versions = self.versions.get(target).copied().unwrap_or(1);
            let entries = vec![json!({ "resource": self.resources[self.positions[target]] }); versions];
            return ok(json!({ "resourceType": "Bundle", "type": "history", "entry": entries }));
        }
        match &self.resources[self.positions[path]] {
            Value::Null => empty(410, String::new()),
            resource => ok(resource.clone()),
        }
    }

    fn validate(&self, resource: &Value) -> Answer {
        let valid = self.fault == Fault::AcceptsEverything || resource["status"] == "final";
        let severity = if valid { "information" } else { "error" };
        ok(json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": severity, "code": "informational" }] }))
    }

    /// The resource that a conditional create finds.
    fn known(&self, kind: &str, condition: &str) -> Option<String> {
        let (name, value) = condition.split_once('=').expect("a parameter");
        let value = decode(value);
        let found = |resource: &&Value| resource["resourceType"] == kind && self.holds(resource, name, &value);
        let known = self
            .resources
            .iter()
            .find(found)
            .filter(|_| self.fault != Fault::IgnoresConditions)?;
        Some(format!("{kind}/{}", known["id"].as_str().expect("an id")))
    }

    fn search(&self, kind: &str, query: &str) -> Answer {
        let parameters: Vec<(String, String)> = query
            .split('&')
            .map(|pair| pair.split_once('=').expect("a value"))
            .map(|(name, value)| (name.to_owned(), decode(value)))
            .collect();
        let control = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let found = |resource: &&Value| {
            resource["resourceType"] == kind && parameters.iter().all(|(name, value)| self.holds(resource, name, value))
        };
        let mut matches: Vec<&Value> = self.resources.iter().filter(found).collect();
        if self.fault == Fault::LosesLastMatch {
            matches.pop();
        }
        let total = matches.len();
        if control("_summary") == Some("count") {
            return ok(json!({ "resourceType": "Bundle", "type": "searchset", "total": total }));
        }
        if control("_sort") == Some("-date") {
            matches.sort_by_key(|resource| std::cmp::Reverse(instant(resource)));
        }
        let count = control("_count").map_or(50, |count| count.parse().expect("a count"));
        let start = control("start").map_or(0, |start| start.parse().expect("a number"));
        let next = start + if self.fault == Fault::StaysOnPage { 0 } else { count };
        matches = matches.into_iter().skip(start).take(count).collect();
        let mut links = Vec::new();
        if start + count < total {
            let own = query.split("&start=").next().expect("a query");
            let url = format!("http://{}/fhir/{kind}?{own}&start={next}", self.authority);
            links.push(json!({ "relation": "next", "url": url }));
        }
        let included = self.included(&matches, control("_include"), control("_revinclude"));
        let entry = |mode: &'static str| move |resource: &Value| json!({ "resource": resource, "search": { "mode": mode } });
        let entries: Vec<Value> = matches
            .into_iter()
            .map(entry("match"))
            .chain(included.into_iter().map(entry("include")))
            .collect();
        ok(json!({ "resourceType": "Bundle", "type": "searchset", "total": total, "link": links, "entry": entries }))
    }

    fn included(&self, matches: &[&Value], include: Option<&str>, revinclude: Option<&str>) -> Vec<&Value> {
        if include == Some("Observation:encounter") {
            let targets: HashSet<&str> = matches
                .iter()
                .filter_map(|resource| resource["encounter"]["reference"].as_str())
                .collect();
            return targets.into_iter().map(|target| &self.resources[self.positions[target]]).collect();
        }
        if revinclude == Some("Encounter:patient") {
            let target = format!("Patient/{}", matches[0]["id"].as_str().expect("an id"));
            let about = |resource: &&Value| resource["resourceType"] == "Encounter" && resource["subject"]["reference"] == target.as_str();
            return self.resources.iter().filter(about).collect();
        }
        Vec::new()
    }

    fn holds(&self, resource: &Value, name: &str, value: &str) -> bool {
        let subject = resource["subject"]["reference"].as_str().unwrap_or_default();
        match name {
            "_id" => resource["id"] == value,
            "patient" => subject == format!("Patient/{value}"),
            "subject" => subject == value,
            "value-quantity" => {
                let (limit, unit) = value.split_once('|').expect("a unit");
                let quantity = &resource["valueQuantity"];
                let own = format!(
                    "{}|{}",
                    quantity["system"].as_str().unwrap_or_default(),
                    quantity["code"].as_str().unwrap_or_default()
                );
                own == unit && self.exceeds(resource, limit)
            }
            "code-value-quantity" => {
                let (code, limit) = value.split_once('$').expect("two parts");
                coded(resource, code) && self.exceeds(resource, limit)
            }
            "code" => coded(resource, value),
            "identifier" => {
                let (system, value) = value.split_once('|').expect("a system");
                let identifiers = resource["identifier"].as_array().into_iter().flatten();
                identifiers
                    .into_iter()
                    .any(|identifier| identifier["system"] == system && identifier["value"] == value)
            }
            "name" => named(resource, value),
            "subject:Patient.name" => named(&self.resources[self.positions[subject]], value),
            "date" => {
                let from = calendar::parse(value.strip_prefix("ge").expect("a prefix")).expect("a date");
                instant(resource) >= from
            }
            "_has:Observation:patient:code" => {
                let target = format!("Patient/{}", resource["id"].as_str().expect("an id"));
                let observations = self.resources.iter().filter(|other| other["resourceType"] == "Observation");
                observations
                    .into_iter()
                    .any(|other| other["subject"]["reference"] == target.as_str() && coded(other, value))
            }
            "_count" | "_total" | "start" | "_sort" | "_include" | "_revinclude" | "_summary" => true,
            _ => panic!("the stub does not know {name}"),
        }
    }
}

impl Store {
    fn exceeds(&self, resource: &Value, limit: &str) -> bool {
        let limit: f64 = limit.strip_prefix("gt").expect("a prefix").parse().expect("a number");
        let value = resource["valueQuantity"]["value"].as_f64();
        value.is_some_and(|value| value > limit || self.fault == Fault::IgnoresValues)
    }
}

fn coded(resource: &Value, value: &str) -> bool {
    let (system, code) = value.split_once('|').expect("a system");
    let coding = &resource["code"]["coding"][0];
    coding["system"] == system && coding["code"] == code
}

fn named(resource: &Value, prefix: &str) -> bool {
    let name = &resource["name"][0];
    [&name["family"], &name["given"][0], &name["prefix"][0]]
        .into_iter()
        .filter_map(Value::as_str)
        .any(|part| fold(part).starts_with(prefix))
}

fn instant(resource: &Value) -> i64 {
    calendar::parse(resource["effectiveDateTime"].as_str().expect("a date")).expect("a date")
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}
