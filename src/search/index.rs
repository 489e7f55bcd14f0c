//! What the index holds of one resource: hashed terms, dates, strings and quantities, found in one walk.
//!
//! Terms of references come first in [`IndexEntry::terms`], because `_has`, `_include` and chains read them back:
//! a reference term is `salt # target`, and `#` (XOR) undoes itself. Spec: <https://hl7.org/fhir/R4/search.html>.

use crate::fhir::datetime;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::assistance_key;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::reference_hash;
use crate::fhir::identity::referenced_type;
use crate::fhir::identity::self_hash;
use crate::fhir::identity::without_version;
use crate::fhir::json::Value;
use crate::fhir::strings::normalise;
use crate::fhir::systems;
use crate::search::datatype::Datatype;
use crate::search::parameters::Edge;
use crate::search::parameters::Extract;
use crate::search::parameters::TypeParameters;
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Raised when terms are made otherwise than before: an index of another version needs `eds reindex`.
pub const INDEX_VERSION: i32 = 4;

#[derive(Debug, Default, Clone, PartialEq)]
pub struct IndexEntry {
    /// References first, then all others; each once. The first of the others is the resource's first code, if its type has a leading
    /// parameter, and then the first of the references is that to the patient: an index has the code beside the primary date, another beside
    /// the patient. Further codes of that parameter have a term more ([`further_code`]), and so has the first one of several patients.
    pub terms: Vec<i64>,
    pub reference_terms: i16,
    /// A bit for each parameter that has a value.
    pub present: i64,
    /// The type's primary date.
    pub date: Option<datetime::Range>,
    pub strings: Vec<(i32, String)>,
    pub dates: Vec<(i32, datetime::Range)>,
    pub quantities: Vec<QuantityEntry>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct QuantityEntry {
    pub key: i32,
    /// Hash of system and code; 0 if there is none.
    pub unit: i64,
    /// Hash of the code, or of the unit's text; 0 if there is none.
    pub code: i64,
    pub low: f64,
    pub high: f64,
}

/// The term that every resource of a type has.
pub fn type_term(number: i16) -> i64 {
    xxh3_64_with_seed(b"type", number as u64) as i64
}

/// The forms of a token, as its terms: `system|code`, `code`, `system|`, `|code`, an exact string, a URI, a URI that begins with this.
#[derive(Debug, Clone, Copy)]
pub enum Token<'a> {
    SystemAndCode(&'a str, &'a str),
    Code(&'a str),
    /// A code or boolean whose system, if any, the definition implies.
    Plain(&'a str),
    System(&'a str),
    CodeWithoutSystem(&'a str),
    Exact(&'a str),
    Uri(&'a str),
    UriBelow(&'a str),
    /// The same forms for the identifier inside a Reference.
    IdentifierSystemAndValue(&'a str, &'a str),
    IdentifierValue(&'a str),
}

/// The term of a value under a parameter's salt.
pub fn term(salt: i64, token: Token<'_>) -> i64 {
    let (tag, system, value) = match token {
        Token::SystemAndCode(system, code) => (b's', systems::canonical(system), code),
        Token::Code(code) => (b'c', "", code),
        Token::Plain(code) => (b'p', "", code),
        Token::System(system) => (b'y', systems::canonical(system), ""),
        Token::CodeWithoutSystem(code) => (b'n', "", code),
        Token::Exact(text) => (b'e', "", text),
        Token::Uri(uri) => (b'u', "", uri),
        Token::UriBelow(uri) => (b'b', "", uri),
        Token::IdentifierSystemAndValue(system, value) => (b'S', systems::canonical(system), value),
        Token::IdentifierValue(value) => (b'C', "", value),
    };
    let mut bytes = Vec::with_capacity(system.len() + value.len() + 2);
    bytes.push(tag);
    bytes.extend_from_slice(system.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(value.as_bytes());
    xxh3_64_with_seed(&bytes, salt as u64) as i64
}

/// The term of a code that is not the resource's first.
pub fn further_code(code: i64) -> i64 {
    xxh3_64_with_seed(b"further", code as u64) as i64
}

/// The term of a reference to the resource with this hash.
pub fn reference_term(salt: i64, target: i64) -> i64 {
    salt ^ target
}

/// Finds everything that the index holds of a resource.
pub fn index(parameters: &TypeParameters, resource: Value<'_>) -> IndexEntry {
    let mut indexer = Indexer {
        parameters,
        entry: IndexEntry::default(),
        references: Vec::new(),
        subjects: Vec::new(),
        tokens: vec![type_term(parameters.number)],
        codes: Vec::new(),
    };
    indexer.walk(0, resource);
    if parameters.name == "Patient" {
        indexer.tokens.extend(assistance_keys(resource));
    }
    let Indexer {
        mut entry,
        mut references,
        mut subjects,
        mut tokens,
        codes,
        ..
    } = indexer;
    subjects.sort_unstable();
    subjects.dedup();
    references.retain(|reference| !subjects.contains(reference));
    references.sort_unstable();
    references.dedup();
    let led = usize::from(subjects.len() < 2);
    tokens.extend(codes.iter().skip(led).map(|code| further_code(*code)));
    subjects.append(&mut references);
    let mut references = subjects;
    tokens.sort_unstable();
    tokens.dedup();
    let lead = codes.first().copied().unwrap_or(type_term(parameters.number));
    let place = tokens.iter().position(|term| *term == lead).unwrap_or(0);
    tokens.swap(0, place);
    entry.reference_terms = i16::try_from(references.len()).unwrap_or(i16::MAX);
    references.extend(tokens);
    entry.terms = references;
    entry.strings.sort_unstable();
    entry.strings.dedup();
    entry
}

/// Not for search: the router finds a patient's entry in the registry of assistance by these, and the registry its patients.
fn assistance_keys(patient: Value<'_>) -> impl Iterator<Item = i64> {
    let identifiers = patient.get("identifier").into_iter().flat_map(|list| list.items());
    identifiers.filter_map(|i| Some(assistance_key(&i.get_str("system").unwrap_or_default(), &i.get_str("value")?)))
}

struct Indexer<'p> {
    parameters: &'p TypeParameters,
    entry: IndexEntry,
    references: Vec<i64>,
    /// Those of them that are to the patient.
    subjects: Vec<i64>,
    tokens: Vec<i64>,
    /// Codes of the leading parameter.
    codes: Vec<i64>,
}

impl<'p> Indexer<'p> {
    fn walk(&mut self, node: usize, value: Value<'_>) {
        let parameters: &'p TypeParameters = self.parameters;
        let node = &parameters.walk.nodes[node];
        for extract in &node.extracts {
            self.extract(extract, value);
        }
        if node.edges.is_empty() {
            return;
        }
        for (name, member) in value.members() {
            let start = node.edges.partition_point(|e| e.name.as_str() < name.as_ref());
            for edge in node.edges[start..].iter().take_while(|e| e.name == name) {
                self.follow(edge, member);
            }
        }
    }

    fn follow(&mut self, edge: &Edge, member: Value<'_>) {
        for (i, item) in member.items().enumerate() {
            let is_wanted = edge.index.is_none_or(|index| index == i)
                && edge
                    .condition
                    .as_ref()
                    .is_none_or(|(name, value)| item.get_str(name).is_some_and(|v| v == value.as_str()));
            if is_wanted && !item.is_null() {
                self.walk(edge.node, item);
            }
        }
    }

    fn extract(&mut self, extract: &Extract, value: Value<'_>) {
        if self.put(extract, value).is_some() {
            self.entry.present |= extract.bits;
        }
    }

    /// `None` if the value gives nothing to the index.
    fn put(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        match extract.datatype {
            Datatype::Code => self.put_plain(extract, &value.as_str().or_else(|| value.as_number().map(Cow::Borrowed))?),
            Datatype::Boolean => self.put_plain(extract, value.raw()),
            Datatype::PresentAndNotFalse => self.put_plain(extract, if value.as_bool() == Some(false) { "false" } else { "true" }),
            Datatype::Coding => self.put_coding(extract, value),
            Datatype::CodeableConcept => {
                let codings = value.get("coding")?;
                codings.items().filter_map(|coding| self.put_coding(extract, coding)).last()
            }
            Datatype::Identifier => self.put_system_and(extract, value, "value"),
            Datatype::ContactPoint => self.put_token(extract, value.get_str("use").as_deref(), &value.get_str("value")?),
            Datatype::Text => self.put_string(extract, &value.as_str()?),
            Datatype::Uri => self.put_uri(extract, &value.as_str()?),
            Datatype::Reference => self.put_reference(extract, value),
            Datatype::Resource => {
                let target = self_hash(&value.get_str("resourceType")?, &value.get_str("id")?);
                self.push_reference(extract.salt, target);
                Some(())
            }
            Datatype::Date => self.put_date(extract, datetime::range(&value.as_str()?)?),
            Datatype::Period => self.put_date(extract, period(value)?),
            Datatype::Timing => self.put_timing(extract, value),
            Datatype::Number => {
                let number: f64 = value.as_number()?.parse().ok()?;
                self.put_quantity(extract, None, None, number, number)
            }
            Datatype::Quantity => self.put_quantity_value(extract, value),
            Datatype::Money => {
                let number = number(value, "value")?;
                let currency = value.get_str("currency");
                self.put_quantity(extract, Some("urn:iso:std:iso:4217"), currency.as_deref(), number, number)
            }
            Datatype::Range => self.put_range(extract, value.get("low"), value.get("high")),
            Datatype::SampledData => {
                let origin = number(value.get("origin")?, "value")?;
                let unit = value.get("origin")?;
                let low = number(value, "lowerLimit").unwrap_or(origin);
                let high = number(value, "upperLimit").unwrap_or(origin);
                self.put_quantity(
                    extract,
                    unit.get_str("system").as_deref(),
                    unit.get_str("code").as_deref(),
                    low,
                    high,
                )
            }
        }
    }

    fn put_token(&mut self, extract: &Extract, system: Option<&str>, code: &str) -> Option<()> {
        let salt = extract.salt;
        match system {
            Some(system) => {
                self.tokens.push(term(salt, Token::SystemAndCode(system, code)));
                self.tokens.push(term(salt, Token::System(system)));
            }
            None => self.tokens.push(term(salt, Token::CodeWithoutSystem(code))),
        }
        let code = term(salt, Token::Code(code));
        self.tokens.push(code);
        if extract.bits & self.parameters.lead != 0 && !self.codes.contains(&code) {
            self.codes.push(code);
        }
        Some(())
    }

    /// A plain code or boolean: one term says it all.
    fn put_plain(&mut self, extract: &Extract, code: &str) -> Option<()> {
        self.tokens.push(term(extract.salt, Token::Plain(code)));
        Some(())
    }

    fn put_coding(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        self.put_system_and(extract, value, "code")
    }

    /// A system with or without its code or value: the system alone can be found too.
    fn put_system_and(&mut self, extract: &Extract, value: Value<'_>, member: &str) -> Option<()> {
        let system = value.get_str("system");
        match (value.get_str(member), &system) {
            (Some(code), _) => self.put_token(extract, system.as_deref(), &code),
            (None, Some(system)) => {
                self.tokens.push(term(extract.salt, Token::System(system)));
                Some(())
            }
            (None, None) => None,
        }
    }

    fn put_string(&mut self, extract: &Extract, text: &str) -> Option<()> {
        self.tokens.push(term(extract.salt, Token::Exact(text)));
        self.entry.strings.push((extract.key, normalise(text)));
        Some(())
    }

    fn put_uri(&mut self, extract: &Extract, uri: &str) -> Option<()> {
        let is_reference = extract.kind == SearchParameterKind::Reference;
        if let Some((unversioned, _)) = uri.split_once('|') {
            self.put_one_uri(extract, unversioned, is_reference);
        }
        self.put_one_uri(extract, uri, is_reference);
        Some(())
    }

    fn put_one_uri(&mut self, extract: &Extract, uri: &str, is_reference: bool) {
        if is_reference {
            self.push_reference(extract.salt, reference_hash(uri));
            return;
        }
        self.tokens.push(term(extract.salt, Token::Uri(uri)));
        if extract.has_ancestors {
            for ancestor in uri_ancestors(uri) {
                self.tokens.push(term(extract.salt, Token::UriBelow(ancestor)));
            }
        }
    }

    fn push_reference(&mut self, salt: i64, target: i64) {
        let term = reference_term(salt, target);
        self.references.push(term);
        if salt == self.parameters.subject {
            self.subjects.push(term);
        }
    }

    fn put_reference(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let reference = value.get_str("reference");
        let wanted = |reference: &str| match &extract.target {
            Some(target) => referenced_type(reference) == Some(target) || value.get_str("type").is_some_and(|t| t == target.as_str()),
            None => true,
        };
        let mut found = None;
        if let Some(reference) = reference.filter(|r| !r.starts_with('#') && wanted(r)) {
            let target = match local_reference(&reference) {
                Some(local) => self_hash(local.type_name, local.id),
                None => reference_hash(without_version(&reference)),
            };
            self.push_reference(extract.salt, target);
            found = Some(());
        }
        if let Some(identifier) = value.get("identifier")
            && let Some(text) = identifier
                .get_str("value")
                .filter(|_| extract.target.is_none() || found.is_some() || wanted(""))
        {
            self.tokens.push(term(extract.salt, Token::IdentifierValue(&text)));
            if let Some(system) = identifier.get_str("system") {
                self.tokens
                    .push(term(extract.salt, Token::IdentifierSystemAndValue(&system, &text)));
            }
            found = Some(());
        }
        found
    }

    fn put_date(&mut self, extract: &Extract, range: datetime::Range) -> Option<()> {
        if self.parameters.primary_date == Some(extract.key) {
            self.entry.date = Some(range);
        } else {
            self.entry.dates.push((extract.key, range));
        }
        Some(())
    }

    /// Only the outer limits of a Timing matter. <https://hl7.org/fhir/R4/search.html#date>
    fn put_timing(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let events = value.get("event").into_iter().flat_map(|event| event.items());
        let events = events.filter_map(|e| e.as_str().and_then(|text| datetime::range(&text)));
        let bounds = value.get("repeat").and_then(|repeat| repeat.get("boundsPeriod")).and_then(period);
        let outer = events.chain(bounds).reduce(|a, b| datetime::Range {
            low: a.low.min(b.low),
            high: a.high.max(b.high),
        });
        self.put_date(extract, outer?)
    }

    fn put_quantity_value(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let number = number(value, "value")?;
        let (low, high) = match value.get_str("comparator").as_deref() {
            Some("<" | "<=") => (f64::NEG_INFINITY, number),
            Some(">" | ">=") => (number, f64::INFINITY),
            _ => (number, number),
        };
        let system = value.get_str("system");
        let code = value.get_str("code").or_else(|| value.get_str("unit"));
        self.put_quantity(extract, system.as_deref(), code.as_deref(), low, high)
    }

    fn put_range(&mut self, extract: &Extract, low: Option<Value<'_>>, high: Option<Value<'_>>) -> Option<()> {
        let unit = low.or(high)?;
        let bound = |side: Option<Value<'_>>, missing| side.and_then(|s| number(s, "value")).unwrap_or(missing);
        let system = unit.get_str("system");
        let code = unit.get_str("code").or_else(|| unit.get_str("unit"));
        self.put_quantity(
            extract,
            system.as_deref(),
            code.as_deref(),
            bound(low, f64::NEG_INFINITY),
            bound(high, f64::INFINITY),
        )
    }

    fn put_quantity(&mut self, extract: &Extract, system: Option<&str>, code: Option<&str>, low: f64, high: f64) -> Option<()> {
        let unit = match (system, code) {
            (Some(system), Some(code)) => unit_hash(system, code),
            _ => 0,
        };
        self.entry.quantities.push(QuantityEntry {
            key: extract.key,
            unit,
            code: code.map_or(0, unit_code_hash),
            low,
            high,
        });
        Some(())
    }
}

pub fn unit_hash(system: &str, code: &str) -> i64 {
    term(0, Token::SystemAndCode(system, code))
}

pub fn unit_code_hash(code: &str) -> i64 {
    term(0, Token::Code(code))
}

fn number(value: Value<'_>, member: &str) -> Option<f64> {
    value.get(member)?.as_number()?.parse().ok()
}

/// The range of a Period; open ends reach to the far past and future. `None` if it has no readable end at all.
fn period(value: Value<'_>) -> Option<datetime::Range> {
    let start = value.get_str("start").and_then(|text| datetime::range(&text));
    let end = value.get_str("end").and_then(|text| datetime::range(&text));
    if start.is_none() && end.is_none() {
        return None;
    }
    Some(datetime::Range {
        low: start.map_or(datetime::FAR_PAST, |r| r.low),
        high: end.map_or(datetime::FAR_FUTURE, |r| r.high),
    })
}

/// The URI itself and each of its beginnings that ends before a `/`, at most ten.
pub fn uri_ancestors(uri: &str) -> impl Iterator<Item = &str> {
    let authority = uri.find("://").map_or(0, |i| i + 3);
    let slashes = uri[authority..].match_indices('/').map(move |(i, _)| &uri[..authority + i]);
    slashes.chain(std::iter::once(uri)).take(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::definitions::definitions;
    use crate::fhir::json::Document;
    use crate::search::parameters::Registry;

    fn entry(text: &str) -> (Registry, IndexEntry) {
        let registry = Registry::load(definitions()).expect("loads");
        let document = Document::parse_str(text).expect("valid");
        let type_name = document.root().get_str("resourceType").expect("type").into_owned();
        let entry = index(registry.of(&type_name).expect("known"), document.root());
        (registry, entry)
    }

    #[test]
    fn an_observation_gives_its_tokens_references_dates_and_quantities() {
        let (registry, entry) = entry(
            r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},
            "subject":{"reference":"Patient/1"},"effectiveDateTime":"2024-05","valueQuantity":{"value":107.50,"system":"http://unitsofmeasure.org","code":"mm[Hg]"}}"#,
        );
        let of = |code: &str| registry.of("Observation").and_then(|t| t.get(code)).expect("parameter");
        for (code, token) in [
            ("code", Token::SystemAndCode("http://loinc.org", "8480-6")),
            ("code", Token::Code("8480-6")),
            ("code", Token::System("urn:oid:2.16.840.1.113883.6.1")),
            ("combo-code", Token::Code("8480-6")),
            ("status", Token::Plain("final")),
        ] {
            assert!(entry.terms.contains(&term(of(code).salts[0], token)), "{code} {token:?}");
        }
        let references = &entry.terms[..entry.reference_terms as usize];
        assert_eq!(references, [reference_term(of("subject").salts[0], self_hash("Patient", "1"))]);
        assert_eq!(of("subject").salts, of("patient").salts, "the same path has the same salt");
        assert_eq!(of("code").salts[0], of("combo-code").salts[0]);
        assert_eq!(entry.date, datetime::range("2024-05"));
        let quantity = entry
            .quantities
            .iter()
            .find(|q| of("value-quantity").keys.contains(&q.key))
            .expect("quantity");
        assert_eq!(
            (quantity.low, quantity.unit),
            (107.5, unit_hash("http://unitsofmeasure.org", "mm[Hg]"))
        );
        for code in ["code", "subject", "patient", "date", "value-quantity"] {
            assert_ne!(entry.present & 1 << of(code).bit, 0, "{code}");
        }
        assert_eq!(entry.present & 1 << of("encounter").bit, 0);
    }

    #[test]
    fn strings_are_compared_without_accents_and_case() {
        let (registry, entry) = entry(
            r#"{"resourceType":"Patient","name":[{"family":"D'Àngelo  Rossi","given":["Niccolò"]}],"deceasedDateTime":"2020-01-01"}"#,
        );
        let of = |code: &str| registry.of("Patient").and_then(|t| t.get(code)).expect("parameter");
        assert!(entry.strings.contains(&(of("family").keys[0], "d'angelo rossi".to_owned())));
        assert!(
            entry
                .strings
                .iter()
                .any(|(key, value)| of("name").keys.contains(key) && value == "niccolo")
        );
        assert!(entry.terms.contains(&term(of("deceased").salts[0], Token::Plain("true"))));
    }

    #[test]
    fn a_reference_filtered_by_type_gives_only_that_type() {
        let (registry, entry) = entry(r#"{"resourceType":"Observation","subject":{"reference":"Device/1"}}"#);
        let of = |code: &str| registry.of("Observation").and_then(|t| t.get(code)).expect("parameter");
        assert_ne!(entry.present & 1 << of("subject").bit, 0);
        assert_eq!(entry.present & 1 << of("patient").bit, 0);
    }
}
