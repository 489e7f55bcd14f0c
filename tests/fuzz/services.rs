//! Requests to the services beside FHIR's interactions: ingestion, the registry of assistance, the regions, and addresses where nothing is.

use crate::requests::Call;
use crate::requests::Client;
use crate::requests::new;
use crate::requests::pick_static;
use crate::requests::segment;
use crate::resources::spoil;
use crate::tree::Node;
use crate::values::FAMILIES;
use crate::values::ODD_TEXTS;
use crate::values::mutated;
use crate::values::pick;
use rand::Rng;
use rand::rngs::StdRng;

impl Client {
    pub fn ingestion(&self, rng: &mut StdRng, kind: &'static str) -> Call {
        let wii = format!("{}.{}", self.resources.prefix, rng.random_range(0..20));
        if kind == "ingestion status" {
            let path = format!(
                "/v1/status/{}",
                if rng.random_bool(0.2) { segment(&mutated(rng, &wii)) } else { wii }
            );
            return new(kind, "GET", pick(rng, &[path.as_str(), path.as_str(), "/status", "/v1/x"]));
        }
        let mut identifier = format!(
            "2.16.840.1.113883.2.9.2.120.4.4^{}-{}",
            self.resources.prefix,
            rng.random_range(0..8)
        );
        if rng.random_bool(0.1) {
            identifier = mutated(rng, &identifier);
        }
        let metadata = [
            "{\"body\":{\"tipologiaStruttura\":\"Ospedale\"}}",
            "{\"body\":{\"attiCliniciRegoleAccesso\":[\"P99\"]}}",
            "{\"body\":{\"attiCliniciRegoleAccesso\":[\"P00\"]}}",
            "{\"body\":{\"dataInizioPrestazione\":\"20220724102426\",\"dataFinePrestazione\":\"99991331256199\"}}",
            "{\"body\":{\"dataInizioPrestazione\":\"00000000000000\"}}",
            "{\"body\":{\"conservazioneANorma\":\"\\u0000\"}}",
        ];
        let (method, path, inner) = match rng.random_range(0..8) {
            0 => return new(kind, "DELETE", &format!("/v1/document/identifier/{}", segment(&identifier))),
            1 | 2 => ("PUT", "/v1/document/metadata".to_owned(), pick(rng, &metadata).to_owned()),
            3 => (
                "PUT",
                format!("/v1/document/workflowinstanceid/{wii}"),
                self.document(rng, &identifier),
            ),
            _ => (
                "POST",
                format!("/v1/document/workflowinstanceid/{wii}"),
                self.document(rng, &identifier),
            ),
        };
        let inner = if rng.random_bool(0.1) { mutated(rng, &inner) } else { inner };
        let mut body = Node::object([("identifier", Node::text(&identifier)), ("jsonString", Node::text(&inner))]);
        if rng.random_bool(0.1) {
            spoil(rng, &mut body);
        }
        let mut call = new(kind, method, &path);
        call.headers.push(("content-type", "application/json".to_owned()));
        if rng.random_bool(0.05) {
            call.headers.push((
                "x-callback-url",
                pick(rng, &["http://127.0.0.1:1/x", "http://example.org", "é", "file:///etc"]).to_owned(),
            ));
        }
        call.body = Some(body.to_string().into_bytes());
        call
    }

    /// A transaction with a DocumentReference and a Composition, as the gateway sends them, among other entries.
    fn document(&self, rng: &mut StdRng, identifier: &str) -> String {
        let mut bundle = self.bundle(rng, "transaction");
        let value = Node::text(identifier);
        let make = |rng: &mut StdRng, type_name: &str| {
            let identifier = Node::object([("system", Node::text("urn:oid:1.2.3")), ("value", value.clone())]);
            let identifier = if type_name == "Composition" {
                identifier
            } else {
                Node::List(vec![identifier])
            };
            let mut resource = self.resources.resource(rng, type_name, None);
            if let Node::Object(members) = &mut resource {
                members.retain(|(name, _)| name != "identifier");
            }
            resource.push("identifier", identifier);
            let request = Node::object([("method", Node::text("POST")), ("url", Node::text(type_name))]);
            Node::object([("resource", resource), ("request", request)])
        };
        let (reference, composition) = (make(rng, "DocumentReference"), make(rng, "Composition"));
        bundle.push(
            "identifier",
            Node::object([("system", Node::text("urn:oid:1.2.3")), ("value", value.clone())]),
        );
        if let Node::Object(members) = &mut bundle
            && let Some((_, Node::List(entries))) = members.iter_mut().find(|(name, _)| name == "entry")
        {
            entries.extend([reference, composition]);
        }
        bundle.to_string()
    }

    pub fn other(&self, rng: &mut StdRng, kind: &'static str) -> Call {
        match kind {
            "changes" => {
                let after = pick(rng, &["0", "0", "1", "5", "50", "9223372036854775807", "-1"]);
                let region = pick(rng, &["120", "120", "120", "030", "999", "%00"]);
                new(
                    kind,
                    "GET",
                    &format!(
                        "/fhir/$changes?region={region}&after={after}{}",
                        pick(rng, &["", "", "&_count=2", "&_count=0", "&_count=1", "&x=1"])
                    ),
                )
            }
            "metadata" => new(kind, "GET", "/fhir/metadata"),
            "regions" => match rng.random_bool(0.5) {
                true => new(kind, "GET", "/regions"),
                false => new(
                    kind,
                    "POST",
                    &format!("/regions/{}/parked/$retry", segment(pick(rng, &["120", "030", "\u{0}", "é", "x"]))),
                ),
            },
            _ => {
                let segments: Vec<String> = (0..rng.random_range(0..5)).map(|_| segment(pick(rng, &ODD_TEXTS))).collect();
                let root = pick(rng, &["fhir", "fhir/Patient", "v1", "v1/document", "rda", "regions", ""]);
                let method = pick_static(rng, &["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]);
                let raw = pick(rng, &["", "", "", "/%ff", "/%zz", "/%", "?%ff=%zz", "?&&=="]);
                new(kind, method, &format!("/{root}/{}{raw}", segments.join("/")))
            }
        }
    }

    pub fn registry(&self, rng: &mut StdRng, kind: &'static str) -> Call {
        let person = match rng.random_range(0..4) {
            0 => mutated(rng, "RSSMRA22A01A399Z"),
            1 => format!("urn:s:1|{}-1", self.resources.prefix),
            2 => pick(rng, &FAMILIES).to_owned(),
            _ => "RSSMRA22A01A399Z".to_owned(),
        };
        let method = pick_static(rng, &["PUT", "PUT", "GET", "DELETE", "POST"]);
        let mut call = new(kind, method, &format!("/rda/{}", segment(&person)));
        let body = pick(
            rng,
            &[
                "{\"region\":\"120\"}",
                "{\"region\":\"030\"}",
                "{\"region\":\"000\"}",
                "{\"region\":120}",
                "{",
                "[]",
            ],
        );
        call.body = (method == "PUT").then(|| body.as_bytes().to_vec());
        call
    }
}
