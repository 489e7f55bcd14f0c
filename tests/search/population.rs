//! Random resources of many types, made from the definitions, with few distinct values: they collide, and lie on boundaries, on purpose.
//!
//! Elements that a search parameter reads are likely, others rare. Ids are the same for all types, so that a server which mixes up types is
//! found out.

use crate::codes::CODE_SYSTEMS;
use crate::codes::VALUE_SETS;
use crate::codes::code_system;
use crate::codes::value_set;
use crate::features::is_on;
use crate::words::LIST;
use eds::fhir::definitions::Definitions;
use eds::fhir::definitions::choice_name;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::Element;
use eds::fhir::definitions::model::ElementType;
use eds::fhir::definitions::model::ShapeId;
use eds::fhir::definitions::model::ValueSetId;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::HashSet;

/// Types, and how many resources of each: those that refer to each other most.
const TYPES: [(&str, usize); 26] = [
    ("Patient", 22),
    ("Observation", 44),
    ("Encounter", 16),
    ("Condition", 16),
    ("Practitioner", 7),
    ("PractitionerRole", 6),
    ("Organization", 7),
    ("Location", 7),
    ("RelatedPerson", 5),
    ("Group", 6),
    ("Device", 6),
    ("DiagnosticReport", 12),
    ("MedicationRequest", 10),
    ("Medication", 6),
    ("Procedure", 10),
    ("RiskAssessment", 14),
    ("ImmunizationRecommendation", 5),
    ("ValueSet", 9),
    ("DocumentReference", 8),
    ("Composition", 8),
    ("AuditEvent", 8),
    ("Provenance", 8),
    ("List", 8),
    ("CarePlan", 6),
    ("Appointment", 6),
    ("ChargeItem", 6),
];
/// Types besides these, drawn anew for each population.
const FURTHER_TYPES: usize = 8;
const OF_FURTHER_TYPE: usize = 4;
/// What the server does more with than keep it, and what it may refuse for other reasons than its form.
pub const LEFT_OUT: [&str; 8] = [
    "SearchParameter",
    "Subscription",
    "Bundle",
    "Parameters",
    "Binary",
    "StructureDefinition",
    "CodeSystem",
    "OperationOutcome",
];
/// Types of what is hidden: not those that a document shares with others (docs/adr/0007-oscuramento.md).
const HIDDEN_TYPES: [&str; 9] = [
    "Observation",
    "Encounter",
    "Condition",
    "DiagnosticReport",
    "MedicationRequest",
    "Procedure",
    "List",
    "Provenance",
    "CarePlan",
];
const IDS: [&str; 6] = ["1", "2", "3", "a", "A", "x-1.y"];

const SYSTEMS: [&str; 4] = [
    "http://loinc.org",
    "urn:oid:2.16.840.1.113883.6.1",
    "urn:s:1",
    "http://acme.org/codes",
];
const CODES: [&str; 8] = ["a", "A", "b", "a-b", "8480-6", "c,d", "e|f$g", "back\\slash"];
const WORDS: [&str; 17] = [
    LIST[0],
    "Rossi",
    "rossi",
    "Róssi Bianchi",
    "De Rossi",
    "Rosso  Verde",
    "D'Angelo",
    "100%",
    "a_b",
    "a_bc",
    "Straße",
    "ÉLODIE",
    "Elodie",
    "e\u{301}lodie",
    "uno, due|tre$",
    "日本語",
    "head\tache",
];
const DATES: [&str; 9] = [
    "2023",
    "2024",
    "2024-01",
    "2024-02",
    "2023-12-31",
    "2024-01-01",
    "2024-01-31",
    "2024-02-29",
    "1899-05-05",
];
const MOMENTS: [&str; 9] = [
    "2024-01-01T00:00:00Z",
    "2024-01-31T23:59:59Z",
    "2024-01-31T23:30:00-01:00",
    "2024-02-01T00:30:00+01:00",
    "2024-01-01T00:00:00.500Z",
    "2024-01-01T00:00:00.5+00:00",
    "2023-12-31T23:59:59.999Z",
    "2024-02-29T12:00:00+02:00",
    "2024-02-29T10:00:00Z",
];
const NUMBERS: [&str; 14] = [
    "1", "1.04", "0.95", "0.949", "1.05", "-3", "10", "10.5", "9.5", "5.35", "5.4", "5.45", "100", "0.0054",
];
const WHOLE_NUMBERS: [&str; 6] = ["0", "1", "2", "3", "10", "12"];
/// Codes of UCUM; the first of each group is what the others are converted to.
const UNITS: [&str; 6] = ["mg", "g", "kg", "mm[Hg]", "cm", "m"];
const URIS: [&str; 9] = [
    "http://acme.org/fhir/ValueSet/123",
    "http://acme.org/fhir/ValueSet",
    "http://acme.org/fhir",
    "http://acme.org/fhir/",
    "http://acme.org/fhirs",
    "http://acme.org/fhir/ValueSet/123/_history/5",
    "urn:oid:1.2.3.4.5",
    "urn:oid:1.2.3.4",
    "http://acme.org/a,b",
];

/// Latitude and longitude: near each other, across the antimeridian, at a pole.
const PLACES: [(&str, &str); 8] = [
    ("41.9010", "12.5020"),
    ("41.9022", "12.4539"),
    ("41.7320", "12.2790"),
    ("40.8518", "14.2681"),
    ("-18.1416", "178.4419"),
    ("-16.8333", "-179.9667"),
    ("89.9", "-100.0"),
    ("0", "180"),
];

/// Draws resources of one population.
pub struct Draw {
    definitions: &'static Definitions,
    /// Words of this population; fewer than there are.
    words: Vec<&'static str>,
    /// The resources that there will be.
    pub keys: Vec<(String, String)>,
    /// Those of a document that is obscured: others refer to them, and nobody may see them.
    pub hidden: Vec<(String, String)>,
    /// What a reference to the server begins with.
    base: String,
}

impl Draw {
    pub fn new(rng: &mut StdRng, base: &str) -> Draw {
        let definitions = definitions();
        let words: Vec<&str> = WORDS.choose_multiple(rng, 9).copied().collect();
        let mut counts: Vec<(String, usize)> = TYPES.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let is_further = |name: &&String| !LEFT_OUT.contains(&name.as_str()) && !TYPES.iter().any(|(other, _)| other == *name);
        let others: Vec<&String> = definitions.resource_types().iter().filter(is_further).collect();
        for name in others.choose_multiple(rng, FURTHER_TYPES) {
            counts.push(((*name).clone(), OF_FURTHER_TYPE));
        }
        let mut keys = Vec::new();
        for (name, count) in counts {
            let numbered = (IDS.len()..count).map(|i| format!("n{i}"));
            let ids = IDS.iter().map(|id| (*id).to_owned()).chain(numbered).take(count);
            keys.extend(ids.map(|id| (name.clone(), id)));
        }
        keys.extend(CODE_SYSTEMS.map(|(id, _)| ("CodeSystem".to_owned(), id.to_owned())));
        keys.extend(VALUE_SETS.map(|id| ("ValueSet".to_owned(), id.to_owned())));
        let hidden = HIDDEN_TYPES
            .iter()
            .flat_map(|name| ["h1", "h2"].map(|id| ((*name).to_owned(), id.to_owned())));
        Draw {
            definitions,
            words,
            keys,
            hidden: hidden.collect(),
            base: base.to_owned(),
        }
    }

    pub fn resource(&self, rng: &mut StdRng, type_name: &str, id: &str) -> Value {
        if Draw::is_terminology(id) {
            return if type_name == "CodeSystem" {
                code_system(rng, id)
            } else {
                value_set(rng, id)
            };
        }
        let mut resource = self.alone(rng, type_name, id);
        if rng.random_bool(0.4) {
            self.contain(rng, &mut resource);
        }
        resource
    }

    /// One that contains none.
    pub fn alone(&self, rng: &mut StdRng, type_name: &str, id: &str) -> Value {
        let mut resource = Map::new();
        resource.insert("resourceType".to_owned(), json!(type_name));
        resource.insert("id".to_owned(), json!(id));
        if rng.random_bool(0.6) {
            resource.insert("meta".to_owned(), self.meta(rng));
        }
        let searched = self.searched(type_name);
        let shape = self.definitions.shape_of(type_name).expect("a resource type");
        if self.definitions.element(shape, "text").is_some() && rng.random_bool(0.25) {
            resource.insert("text".to_owned(), json!({"status": "generated", "div": narrative(rng)}));
        }
        self.members(rng, shape, &searched, 0, &mut resource);
        Value::Object(resource)
    }

    /// What searches ask for codes by (`:in`, `:below`): it is changed, and never deleted.
    pub fn is_terminology(id: &str) -> bool {
        CODE_SYSTEMS.iter().any(|(other, _)| *other == id) || VALUE_SETS.contains(&id)
    }

    /// Names that stand in the expressions of a type's parameters.
    fn searched(&self, type_name: &str) -> HashSet<&'static str> {
        let parameters = self.definitions.search_parameters_of(type_name);
        let of_type = parameters.filter(|p| !p.base.iter().any(|b| b == "Resource" || b == "DomainResource"));
        let texts = of_type.flat_map(|p| std::iter::once(&p.expression).chain(p.components.iter().map(|(_, e)| e)));
        texts
            .flat_map(|text| {
                text.split('|')
                    .filter(|part| part.contains(type_name) || !part.contains(char::is_uppercase))
            })
            .flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric()))
            .collect()
    }

    fn meta(&self, rng: &mut StdRng) -> Value {
        let mut meta = Map::new();
        if rng.random_bool(0.6) {
            meta.insert("tag".to_owned(), json!([self.coding(rng, None)]));
        }
        if rng.random_bool(0.4) {
            meta.insert("security".to_owned(), json!([self.coding(rng, None)]));
        }
        if rng.random_bool(0.4) {
            meta.insert("source".to_owned(), json!(pick(rng, &URIS)));
        }
        if meta.is_empty() || rng.random_bool(0.3) {
            meta.insert(
                "profile".to_owned(),
                json!([format!("http://acme.org/profile/{}", pick(rng, &["a", "b"]))]),
            );
        }
        Value::Object(meta)
    }

    fn members(&self, rng: &mut StdRng, shape: ShapeId, searched: &HashSet<&str>, depth: usize, into: &mut Map<String, Value>) {
        const APART: [&str; 8] = [
            "id",
            "meta",
            "contained",
            "implicitRules",
            "extension",
            "modifierExtension",
            "language",
            "text",
        ];
        for element in &self.definitions.shape(shape).elements {
            let name = element.name.as_str();
            let likely = match depth {
                _ if APART.contains(&name) || depth > 4 => 0.0,
                0 if searched.contains(name) => 0.6,
                0 => 0.03,
                _ if searched.contains(name) => 0.7,
                1 => 0.05,
                _ => 0.0,
            };
            if element.max != Some(0) && (element.min > 0 || rng.random_bool(likely)) {
                self.member(rng, element, searched, depth, into);
            }
        }
    }

    fn member(&self, rng: &mut StdRng, element: &Element, searched: &HashSet<&str>, depth: usize, into: &mut Map<String, Value>) {
        // Of a choice, the datatypes that parameters read, mostly.
        const USUAL: [&str; 11] = [
            "Quantity",
            "CodeableConcept",
            "string",
            "dateTime",
            "Period",
            "Timing",
            "Range",
            "Reference",
            "decimal",
            "uri",
            "Age",
        ];
        let usual: Vec<&ElementType> = element.types.iter().filter(|t| USUAL.contains(&t.code.as_str())).collect();
        let ty = match usual.choose(rng) {
            Some(ty) if rng.random_bool(0.9) => *ty,
            _ => element.types.choose(rng).expect("an element has a type"),
        };
        let name = match element.is_choice {
            true => choice_name(&element.name, &ty.code),
            false => element.name.clone(),
        };
        let count = match element.max {
            Some(1) => 1,
            _ => (element.min as usize).max(1) + usize::from(rng.random_bool(0.3)),
        };
        let mut values: Vec<Value> = (0..count).map(|_| self.value(rng, element, ty, searched, depth)).collect();
        match element.max {
            Some(1) => into.insert(name, values.remove(0)),
            _ => into.insert(name, Value::Array(values)),
        };
    }

    fn value(&self, rng: &mut StdRng, element: &Element, ty: &ElementType, searched: &HashSet<&str>, depth: usize) -> Value {
        match ty.code.as_str() {
            "code" => match self.bound(rng, element.required_binding) {
                Some((_, code)) => json!(code),
                None => json!(pick(rng, &["en", "it", "text/xml"])),
            },
            "Coding" => self.coding(rng, element.required_binding),
            "CodeableConcept" => self.concept(rng, element.required_binding),
            "Identifier" => self.identifier(rng),
            "Reference" => self.reference(rng, &ty.targets),
            "HumanName" => self.human_name(rng),
            "Address" => self.address(rng),
            "ContactPoint" => self.contact_point(rng),
            "Quantity" | "Age" | "Duration" | "Distance" | "Count" => {
                let shape = ty.shape.or_else(|| self.definitions.shape_of("Quantity")).expect("a shape");
                let comparator = self.definitions.element(shape, "comparator");
                self.quantity(rng, ty.code == "Quantity" && comparator.is_some_and(|c| c.max != Some(0)))
            }
            "Money" => json!({"value": number(rng), "currency": pick(rng, &["EUR", "USD"])}),
            "Range" => self.range(rng),
            "Period" => period(rng),
            "Timing" => timing(rng),
            "SampledData" => {
                let origin = json!({"value": 5, "system": "http://unitsofmeasure.org", "code": "mg"});
                json!({"origin": origin, "period": 1, "dimensions": 1, "data": pick(rng, &["1 2", "-3 E 5", "E"])})
            }
            "Attachment" => {
                json!({"contentType": pick(rng, &["text/xml", "application/pdf"]), "language": "it", "creation": moment(rng), "url": pick(rng, &URIS)})
            }
            "Resource" => json!({"resourceType": "Basic", "code": self.concept(rng, None)}),
            code if self.definitions.is_primitive(code) => self.primitive(rng, code),
            _ => {
                let mut object = Map::new();
                if let Some(shape) = ty.shape {
                    if self.definitions.shape(shape).path == "Location.position" {
                        return position(rng);
                    }
                    self.members(rng, shape, searched, depth + 1, &mut object);
                }
                if object.is_empty() {
                    object.insert("extension".to_owned(), json!([{"url": "http://acme.org/x", "valueCode": "x"}]));
                }
                Value::Object(object)
            }
        }
    }

    fn primitive(&self, rng: &mut StdRng, code: &str) -> Value {
        match code {
            "boolean" => json!(rng.random_bool(0.5)),
            "decimal" => number(rng),
            "integer" => literal(pick(rng, &WHOLE_NUMBERS)),
            "unsignedInt" => literal(pick(rng, &WHOLE_NUMBERS)),
            "positiveInt" => literal(pick(rng, &WHOLE_NUMBERS[1..])),
            "date" => json!(pick(rng, &DATES)),
            "dateTime" => json!(moment_or_date(rng)),
            "instant" => moment(rng),
            "time" => json!("10:00:00"),
            "uri" | "url" => json!(pick(rng, &URIS)),
            // Without one that looks like a version of a resource.
            "canonical" => json!(format!("{}{}", pick(rng, &URIS[..5]), pick(rng, &["", "", "|1.0", "|2"]))),
            "oid" => json!("urn:oid:1.2.3.4.5"),
            "uuid" => json!("urn:uuid:6f0e1c1a-0000-4000-8000-000000000002"),
            "base64Binary" => json!("YQ=="),
            "id" => json!(pick(rng, &IDS)),
            "xhtml" => json!("<div xmlns=\"http://www.w3.org/1999/xhtml\">a</div>"),
            _ => json!(self.word(rng)),
        }
    }

    fn word(&self, rng: &mut StdRng) -> &'static str {
        self.words.choose(rng).expect("words")
    }

    /// System and code of a value set that is bound, if its codes are known: one of the first few.
    fn bound(&self, rng: &mut StdRng, binding: Option<ValueSetId>) -> Option<(String, String)> {
        let systems = self.definitions.value_set(binding?).codes.as_ref()?;
        let system = systems.choose(rng)?;
        Some((
            system.system.clone(),
            system.codes[..system.codes.len().min(3)].choose(rng)?.clone(),
        ))
    }

    fn coding(&self, rng: &mut StdRng, binding: Option<ValueSetId>) -> Value {
        if let Some((system, code)) = self.bound(rng, binding) {
            return json!({"system": system, "code": code});
        }
        let mut coding = Map::new();
        if rng.random_bool(0.8) {
            coding.insert("system".to_owned(), json!(pick(rng, &SYSTEMS)));
        }
        if coding.is_empty() || rng.random_bool(0.93) {
            coding.insert("code".to_owned(), json!(pick(rng, &CODES)));
        }
        if rng.random_bool(0.4) {
            coding.insert("display".to_owned(), json!(self.word(rng)));
        }
        Value::Object(coding)
    }

    fn concept(&self, rng: &mut StdRng, binding: Option<ValueSetId>) -> Value {
        let mut concept = Map::new();
        if binding.is_some() || rng.random_bool(0.9) {
            let count = 1 + usize::from(rng.random_bool(0.3));
            let codings: Vec<Value> = (0..count).map(|_| self.coding(rng, binding)).collect();
            concept.insert("coding".to_owned(), Value::Array(codings));
        }
        if concept.is_empty() || rng.random_bool(0.3) {
            concept.insert("text".to_owned(), json!(self.word(rng)));
        }
        Value::Object(concept)
    }

    pub fn identifier(&self, rng: &mut StdRng) -> Value {
        let mut identifier = Map::new();
        if rng.random_bool(0.3) {
            let system = "http://terminology.hl7.org/CodeSystem/v2-0203";
            identifier.insert(
                "type".to_owned(),
                json!({"coding": [{"system": system, "code": pick(rng, &["MR", "SS"])}], "text": self.word(rng)}),
            );
        }
        if rng.random_bool(0.8) {
            identifier.insert("system".to_owned(), json!(pick(rng, &SYSTEMS)));
        }
        if rng.random_bool(0.92) || identifier.is_empty() {
            identifier.insert("value".to_owned(), json!(pick(rng, &CODES)));
        }
        Value::Object(identifier)
    }

    fn human_name(&self, rng: &mut StdRng) -> Value {
        let mut name = Map::new();
        for (member, likely) in [("text", 0.2), ("family", 0.8)] {
            if rng.random_bool(likely) {
                name.insert(member.to_owned(), json!(self.word(rng)));
            }
        }
        for (member, likely) in [("given", 0.7), ("prefix", 0.1), ("suffix", 0.1)] {
            if name.is_empty() || rng.random_bool(likely) {
                let words: Vec<&str> = (0..rng.random_range(1..=2)).map(|_| self.word(rng)).collect();
                name.insert(member.to_owned(), json!(words));
            }
        }
        Value::Object(name)
    }

    fn address(&self, rng: &mut StdRng) -> Value {
        let mut address = json!({"use": pick(rng, &["home", "work"]), "city": self.word(rng)});
        for member in ["text", "district", "state", "postalCode", "country"] {
            if rng.random_bool(0.3) {
                address[member] = json!(self.word(rng));
            }
        }
        if rng.random_bool(0.4) {
            address["line"] = json!([self.word(rng), self.word(rng)]);
        }
        address
    }

    fn contact_point(&self, rng: &mut StdRng) -> Value {
        let mut contact = json!({"system": pick(rng, &["phone", "email"]), "use": pick(rng, &["home", "work"])});
        if rng.random_bool(0.9) {
            contact["value"] = json!(pick(rng, &CODES));
        }
        contact
    }

    fn quantity(&self, rng: &mut StdRng, has_comparator: bool) -> Value {
        let mut quantity = Map::new();
        if rng.random_bool(0.94) {
            quantity.insert("value".to_owned(), number(rng));
        }
        if has_comparator && rng.random_bool(0.2) {
            let all: &[&str] = if is_on("comparator that excludes") {
                &["<", "<=", ">", ">="]
            } else {
                &["<=", ">="]
            };
            quantity.insert("comparator".to_owned(), json!(pick(rng, all)));
        }
        let unit = pick(rng, &UNITS);
        match rng.random_range(0..10) {
            0 => {}
            1 => drop(quantity.insert("unit".to_owned(), json!(unit))),
            2 => {
                quantity.insert("unit".to_owned(), json!("people's unit"));
                quantity.insert("system".to_owned(), json!("urn:units"));
                quantity.insert("code".to_owned(), json!(unit));
            }
            _ => {
                quantity.insert("unit".to_owned(), json!(pick(rng, &[unit, "people's unit"])));
                quantity.insert("system".to_owned(), json!("http://unitsofmeasure.org"));
                quantity.insert("code".to_owned(), json!(unit));
            }
        }
        if quantity.is_empty() {
            quantity.insert("value".to_owned(), number(rng));
        }
        Value::Object(quantity)
    }

    fn range(&self, rng: &mut StdRng) -> Value {
        let mut low = self.quantity(rng, false);
        if !is_on("range without a value") {
            low["value"] = number(rng);
        }
        let mut high = low.clone();
        high["value"] = match low["value"].as_f64() {
            Some(value) => literal(&format!("{}", value + 2.0)),
            None => number(rng),
        };
        match rng.random_range(0..4) {
            0 => json!({"low": low}),
            1 => json!({"high": high}),
            _ => json!({"low": low, "high": high}),
        }
    }

    fn reference(&self, rng: &mut StdRng, targets: &[String]) -> Value {
        let fits: Vec<&(String, String)> = self
            .keys
            .iter()
            .chain(&self.hidden)
            .filter(|(name, _)| targets.is_empty() || targets.contains(name) || targets.iter().any(|t| t == "Resource"))
            .collect();
        let (type_name, id) = match fits.choose(rng) {
            Some(key) => (key.0.clone(), key.1.clone()),
            None => (targets.first().cloned().unwrap_or_else(|| "Patient".to_owned()), "1".to_owned()),
        };
        match rng.random_range(0..30) {
            0 => json!({"display": self.word(rng)}),
            1 => json!({"identifier": self.identifier(rng), "type": type_name}),
            2 => json!({"identifier": self.identifier(rng)}),
            3 => json!({"reference": format!("{type_name}/{id}"), "identifier": self.identifier(rng)}),
            4 => json!({"reference": format!("{type_name}/{id}/_history/1")}),
            5 if is_on("reference of ours by url") => json!({"reference": format!("{}/{type_name}/{id}", self.base)}),
            6 => json!({"reference": format!("http://elsewhere.org/fhir/{type_name}/{id}")}),
            7 => json!({"reference": "urn:uuid:6f0e1c1a-0000-4000-8000-000000000002"}),
            8 => json!({"reference": format!("{type_name}/nobody")}),
            _ => json!({"reference": format!("{type_name}/{id}")}),
        }
    }
}

pub fn pick<'t>(rng: &mut StdRng, from: &[&'t str]) -> &'t str {
    from.choose(rng).expect("something to pick from")
}

fn literal(text: &str) -> Value {
    serde_json::from_str(text).expect("a number")
}

fn number(rng: &mut StdRng) -> Value {
    literal(pick(rng, &NUMBERS))
}

/// Words of the list, whatever stands between them.
fn narrative(rng: &mut StdRng) -> String {
    let mut text = String::new();
    for _ in 0..rng.random_range(1..=4) {
        let word = pick(rng, &LIST);
        let written = match rng.random_range(0..4) {
            0 => format!("<b>{word}</b>"),
            1 => word.to_uppercase(),
            2 => format!("{word},"),
            _ => word.to_owned(),
        };
        text.push_str(&written);
        text.push_str(pick(rng, &[" ", " ", " e ", "<br/>", " &amp; "]));
    }
    format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>{text}</p></div>")
}

fn position(rng: &mut StdRng) -> Value {
    let (latitude, longitude) = PLACES.choose(rng).expect("places");
    json!({"latitude": literal(latitude), "longitude": literal(longitude)})
}

fn moment(rng: &mut StdRng) -> Value {
    json!(pick(rng, &MOMENTS))
}

fn moment_or_date(rng: &mut StdRng) -> &'static str {
    if rng.random_bool(0.5) {
        pick(rng, &MOMENTS)
    } else {
        pick(rng, &DATES)
    }
}

fn period(rng: &mut StdRng) -> Value {
    let mut ends = [moment_or_date(rng), moment_or_date(rng)];
    ends.sort_by_key(|end| crate::ranges::span(end).expect("a date").low);
    match rng.random_range(0..4) {
        0 => json!({"start": ends[0]}),
        1 => json!({"end": ends[1]}),
        _ => json!({"start": ends[0], "end": ends[1]}),
    }
}

fn timing(rng: &mut StdRng) -> Value {
    let events: Vec<&str> = (0..rng.random_range(1..=2)).map(|_| moment_or_date(rng)).collect();
    match rng.random_range(0..3) {
        0 => json!({"event": events}),
        1 => json!({"event": events, "repeat": {"boundsPeriod": period(rng)}}),
        _ => json!({"repeat": {"boundsPeriod": period(rng), "frequency": 1, "period": 1, "periodUnit": "d"}}),
    }
}

/// What values of queries are drawn from, besides those of the population.
pub mod pools {
    pub const SYSTEMS: &[&str] = &super::SYSTEMS;
    pub const CODES: &[&str] = &super::CODES;
    pub const WORDS: &[&str] = &super::WORDS;
    pub const DATES: &[&str] = &super::DATES;
    pub const MOMENTS: &[&str] = &super::MOMENTS;
    pub const NUMBERS: &[&str] = &super::NUMBERS;
    pub const UNITS: &[&str] = &super::UNITS;
    pub const URIS: &[&str] = &super::URIS;
    pub const IDS: &[&str] = &super::IDS;
    pub const PLACES: &[(&str, &str)] = &super::PLACES;
}
