//! Requests: one client's stream of every interaction that the server has.

use crate::resources::Resources;
use crate::resources::spoil;
use crate::searches::encoded;
use crate::tree::Node;
use crate::values::mutated;
use crate::values::pick;
use eds::fhir::json::Document;
use eds::fhir::xml::to_json;
use eds::fhir::xml::to_xml;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// What is asked, and how often.
const KINDS: [(&str, u32); 24] = [
    ("create", 12),
    ("update", 14),
    ("conditional create", 4),
    ("conditional update", 4),
    ("read", 8),
    ("vread", 4),
    ("history", 6),
    ("delete", 3),
    ("conditional delete", 2),
    ("search", 24),
    ("search by post", 5),
    ("search in a compartment", 4),
    ("next page", 8),
    ("changed cursor", 4),
    ("batch", 4),
    ("transaction", 7),
    ("validate", 5),
    ("changes", 3),
    ("metadata", 1),
    ("ingestion", 7),
    ("ingestion status", 2),
    ("registry of assistance", 3),
    ("regions", 2),
    ("nowhere", 3),
];

#[derive(Debug, Clone)]
pub struct Call {
    pub kind: &'static str,
    pub method: &'static str,
    /// Path and query, encoded.
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Vec<u8>>,
    /// A resource that must be readable, as it was sent, when the answer says that it was written.
    pub writes: Option<String>,
}

/// Where a client has come to: what it makes, and where the server has told it to go on.
pub struct Client {
    pub resources: Resources,
    pub next: Vec<String>,
    /// `/fhir/Type/id/_history/version` of what it wrote.
    pub written: Vec<String>,
}

impl Client {
    pub fn new(prefix: String) -> Client {
        Client {
            resources: Resources::new(prefix),
            next: Vec::new(),
            written: Vec::new(),
        }
    }

    pub fn call(&self, rng: &mut StdRng) -> Call {
        let kind = KINDS.choose_weighted(rng, |(_, weight)| *weight).expect("weights").0;
        let mut call = match kind {
            "create" | "conditional create" | "update" | "conditional update" | "validate" => self.write(rng, kind),
            "read" | "vread" | "history" | "delete" | "conditional delete" => self.instance(rng, kind),
            "search" | "search by post" | "search in a compartment" => self.search(rng, kind),
            "next page" | "changed cursor" => self.page(rng, kind),
            "batch" | "transaction" => {
                let mut call = new(kind, "POST", "/fhir");
                let bundle = self.bundle(rng, kind);
                call.body = Some(bundle.to_string().into_bytes());
                call
            }
            "ingestion" | "ingestion status" => self.ingestion(rng, kind),
            "registry of assistance" => self.registry(rng, kind),
            _ => self.other(rng, kind),
        };
        self.headers(rng, &mut call);
        call
    }

    fn write(&self, rng: &mut StdRng, kind: &'static str) -> Call {
        let type_name = self.resources.type_name(rng);
        let id = self.resources.id(rng);
        let has_id = kind == "update" || rng.random_bool(0.2);
        let mut tree = self.resources.resource(rng, &type_name, has_id.then_some(id.as_str()));
        if rng.random_bool(0.3) {
            spoil(rng, &mut tree);
        }
        let text = tree.to_string();
        let criteria = encoded(&self.resources.criteria(rng, &type_name));
        let mut call = match kind {
            "update" => new(kind, "PUT", &format!("/fhir/{type_name}/{id}")),
            "conditional update" => new(kind, "PUT", &format!("/fhir/{type_name}?{criteria}")),
            "validate" => new(
                kind,
                "POST",
                &format!(
                    "/fhir/{type_name}/$validate{}",
                    pick(rng, &["", "?profile=x", "?profile=http://hl7.org/fhir/StructureDefinition/Patient"])
                ),
            ),
            _ => new(kind, "POST", &format!("/fhir/{type_name}")),
        };
        if kind == "conditional create" {
            call.headers.push(("if-none-exist", criteria));
        }
        if rng.random_bool(0.15) && kind.ends_with("update") {
            call.headers.push((
                "if-match",
                pick(
                    rng,
                    &["W/\"1\"", "W/\"2\"", "1", "*", "W/\"99999999999999999999\"", "W/\"-1\"", "x"],
                )
                .to_owned(),
            ));
        }
        if rng.random_bool(0.1) && kind == "update" {
            call.headers.push(("if-none-match", pick(rng, &["*", "W/\"1\""]).to_owned()));
        }
        // Bytes that are changed may be another resource, right or wrong: what is kept is compared with them all the same.
        let mut body = text.into_bytes();
        if rng.random_bool(0.06) {
            spoil_bytes(rng, &mut body);
        }
        call.writes = String::from_utf8(body.clone()).ok().filter(|_| kind != "validate");
        call.body = Some(body);
        call
    }

    fn instance(&self, rng: &mut StdRng, kind: &'static str) -> Call {
        let (type_name, id) = (self.resources.type_name(rng), self.resources.id(rng));
        let mut path = match self.written.choose(rng) {
            Some(written) if rng.random_bool(0.6) => written.split("/_history").next().unwrap_or_default().to_owned(),
            _ => format!("/fhir/{type_name}/{id}"),
        };
        if rng.random_bool(0.08) {
            path = format!("/fhir/{}/{}", segment(&mutated(rng, &type_name)), segment(&mutated(rng, &id)));
        }
        let odd = ["?_since=x", "?_at=2024", "?_count=0", "?_count=-1", "?_since=%00", "?_cursor=x"];
        let good = ["", "", "?_count=1", "?_count=2", "?_since=2024-01-01T00:00:00Z"];
        let since = if rng.random_bool(0.1) { pick(rng, &odd) } else { pick(rng, &good) };
        match kind {
            "read" => new(kind, pick_static(rng, &["GET", "GET", "HEAD"]), &path),
            "vread" => new(
                kind,
                "GET",
                &format!(
                    "{path}/_history/{}",
                    pick(
                        rng,
                        &["1", "1", "1", "1", "2", "2", "3", "0", "-1", "99999999999", "x", "%00", "+1"]
                    )
                ),
            ),
            "history" => match rng.random_range(0..4) {
                0 => new(kind, "GET", &format!("/fhir/{type_name}/_history{since}")),
                1 => new(kind, "GET", &format!("/fhir/_history{since}")),
                _ => new(kind, "GET", &format!("{path}/_history{since}")),
            },
            "delete" => new(kind, "DELETE", &path),
            _ => {
                let criteria = encoded(&self.resources.criteria(rng, &type_name));
                new(kind, "DELETE", &format!("/fhir/{type_name}?{criteria}"))
            }
        }
    }

    fn search(&self, rng: &mut StdRng, kind: &'static str) -> Call {
        let type_name = self.resources.type_name(rng);
        let query = encoded(&self.resources.search(rng, &type_name));
        match kind {
            "search by post" => {
                let mut call = new(kind, "POST", &format!("/fhir/{type_name}/_search"));
                let mut body = query.into_bytes();
                if rng.random_bool(0.1) {
                    spoil_bytes(rng, &mut body);
                }
                call.headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
                call.body = Some(body);
                call
            }
            "search in a compartment" => self.compartment(rng, kind, &type_name),
            _ => new(kind, "GET", &format!("/fhir/{type_name}?{query}")),
        }
    }

    /// Mostly of a type that is part of the compartment.
    fn compartment(&self, rng: &mut StdRng, kind: &'static str, other: &str) -> Call {
        let code = pick(
            rng,
            &[
                "Patient",
                "Patient",
                "Encounter",
                "Practitioner",
                "Device",
                "RelatedPerson",
                "Group",
            ],
        );
        let member = self.resources.definitions.compartment(code).and_then(|c| c.members.choose(rng));
        let type_name = member.map_or(other, |(name, _)| name.as_str());
        let type_name = if rng.random_bool(0.1) { other } else { type_name };
        let query = encoded(&self.resources.search(rng, type_name));
        new(kind, "GET", &format!("/fhir/{code}/{}/{type_name}?{query}", self.resources.id(rng)))
    }

    /// Goes on where an answer pointed, or nearly there.
    fn page(&self, rng: &mut StdRng, kind: &'static str) -> Call {
        let Some(next) = self.next.choose(rng).cloned() else {
            return self.search(rng, "search");
        };
        let Some((before, cursor)) = next.split_once("_cursor=").filter(|_| kind == "changed cursor") else {
            return new("next page", "GET", &next);
        };
        let (cursor, after) = cursor
            .split_once('&')
            .map_or((cursor, String::new()), |(c, after)| (c, format!("&{after}")));
        let mut bytes = cursor.to_owned().into_bytes();
        let at = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..3) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, b'A'),
            _ if bytes.get(at) == Some(&b'A') => bytes[at] = b'B',
            _ => bytes[at] = b'A',
        }
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        new(kind, "GET", &format!("{before}_cursor={changed}{after}"))
    }

    pub fn bundle(&self, rng: &mut StdRng, kind: &str) -> Node {
        let mut entries = Vec::new();
        for i in 0..rng.random_range(0..6) {
            entries.push(self.entry(rng, i));
        }
        let mut bundle = Node::object([("resourceType", Node::text("Bundle")), ("type", Node::text(kind))]);
        bundle.push("entry", Node::List(entries));
        if rng.random_bool(0.2) {
            spoil(rng, &mut bundle);
        }
        bundle
    }

    fn entry(&self, rng: &mut StdRng, i: usize) -> Node {
        let type_name = self.resources.type_name(rng);
        let id = format!("{}-e{i}-{}", self.resources.prefix, rng.random_range(0..4));
        let criteria = encoded(&self.resources.criteria(rng, &type_name));
        let methods = ["POST", "POST", "PUT", "PUT", "PUT", "GET", "DELETE"];
        let method = if rng.random_bool(0.02) { "PATCH" } else { pick(rng, &methods) };
        let is_conditional = rng.random_bool(0.25);
        let url = match (method, is_conditional) {
            ("POST", _) => type_name.clone(),
            ("GET", true) => format!("{type_name}?{}", encoded(&self.resources.search(rng, &type_name))),
            (_, true) => format!("{type_name}?{criteria}"),
            _ => format!("{type_name}/{id}"),
        };
        let mut request = Node::object([("method", Node::text(method)), ("url", Node::text(&url))]);
        if method == "POST" && is_conditional {
            request.push("ifNoneExist", Node::text(&criteria));
        }
        if rng.random_bool(0.05) {
            request.push("ifMatch", Node::text(pick(rng, &["W/\"1\"", "x"])));
        }
        let mut entry = Node::Object(Vec::new());
        if rng.random_bool(0.6) {
            entry.push("fullUrl", Node::text(&format!("urn:uuid:6f0e1c1a-0000-4000-8000-{i:012}")));
        }
        if matches!(method, "POST" | "PUT") {
            let has_id = method == "PUT" && !is_conditional;
            let resource = self.resources.resource(rng, &type_name, has_id.then_some(id.as_str()));
            entry.push("resource", resource);
        }
        entry.push("request", request);
        entry
    }

    fn headers(&self, rng: &mut StdRng, call: &mut Call) {
        if call.body.is_some() && !call.headers.iter().any(|(name, _)| *name == "content-type") {
            let odd = pick(
                rng,
                &[
                    "application/json",
                    "text/json",
                    "application/fhir+json; charset=utf-8",
                    "text/plain",
                    "x",
                    "",
                ],
            );
            let media_type = if rng.random_bool(0.05) { odd } else { "application/fhir+json" };
            let is_xml = media_type == "application/fhir+json" && rng.random_bool(0.1) && send_as_xml(call);
            let media_type = if is_xml { "application/fhir+xml" } else { media_type };
            call.headers.push(("content-type", media_type.to_owned()));
        }
        for (name, likely, values) in [
            (
                "accept",
                0.1,
                &[
                    "application/fhir+json",
                    "*/*",
                    "application/xml",
                    "application/fhir+xml, */*;q=0.5",
                    "text/html, */*;q=0.1",
                    "",
                    "é",
                ][..],
            ),
            (
                "prefer",
                0.3,
                &[
                    "return=minimal",
                    "return=representation",
                    "return=OperationOutcome",
                    "handling=lenient",
                    "respond-async",
                    "=",
                ],
            ),
            ("if-modified-since", 0.03, &["Wed, 21 Oct 2015 07:28:00 GMT", "x"]),
            ("if-none-match", 0.03, &["W/\"1\"", "*", "x"]),
            ("content-encoding", 0.02, &["gzip", "zstd", "x"]),
            ("x-forwarded-host", 0.02, &["example.org\"", "<x>"]),
            (
                "traceparent",
                0.02,
                &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x"],
            ),
        ] {
            if rng.random_bool(likely) && !call.headers.iter().any(|(n, _)| *n == name) {
                call.headers.push((name, pick(rng, values).to_owned()));
            }
        }
    }
}

/// The same body in XML; what is stored then is what that says. False if it has no XML.
fn send_as_xml(call: &mut Call) -> bool {
    let json = call.body.as_deref().and_then(|json| Document::parse(json).ok());
    let Some(xml) = json.and_then(|json| to_xml(json.root(), false).ok()) else {
        return false;
    };
    call.writes = call.writes.take().and_then(|_| to_json(xml.as_bytes()).ok());
    call.body = Some(xml.into_bytes());
    true
}

pub fn new(kind: &'static str, method: &'static str, target: &str) -> Call {
    Call {
        kind,
        method,
        target: target.to_owned(),
        headers: Vec::new(),
        body: None,
        writes: None,
    }
}

pub fn pick_static(rng: &mut StdRng, from: &[&'static str]) -> &'static str {
    from.choose(rng).copied().unwrap_or("GET")
}

/// A path segment, percent-encoded.
pub fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn spoil_bytes(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..3) {
        0 => bytes[at] = rng.random(),
        1 => bytes.truncate(at),
        _ => bytes.insert(at, b"{}[]\",:\\0e "[rng.random_range(0..11)]),
    }
}
