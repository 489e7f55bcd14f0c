//! What the index holds of one resource: hashed terms, dates, strings and quantities, found in one walk.
//!
//! Terms of references come first in [`IndexEntry::terms`], because `_has`, `_include` and chains read them back:
//! a reference term is `salt # target`, and `#` (XOR) undoes itself. Spec: <https://hl7.org/fhir/R4/search.html>.

pub mod contained;
pub mod custom;
pub mod joint;
pub mod order;
pub mod range;
pub mod token;

use crate::fhir::datetime;
use crate::fhir::identity::assistance_key;
use crate::fhir::identity::self_hash;
use crate::fhir::json::Value;
use crate::search::datatype::Datatype;
use crate::search::full_text::Texts;
use crate::search::index::contained::ContainedEntry;
use crate::search::index::contained::Locals;
use crate::search::index::order::has_place;
use crate::search::index::order::is_ordered;
use crate::search::index::range::Unit;
use crate::search::index::range::number;
use crate::search::index::range::period;
use crate::search::index::token::is_wanted;
use crate::search::parameters::Extract;
use crate::search::parameters::TypeParameters;
use crate::search::parameters::Walk;
use crate::search::parameters::WalkNode;
use crate::search::term::Token;
use crate::search::term::further_code;
use crate::search::term::term;
use crate::search::term::type_term;
use std::borrow::Cow;

/// Raised when terms are made otherwise than before: an index of another version needs `eds reindex`.
pub const INDEX_VERSION: i32 = 8;

#[derive(Debug, Default, Clone, PartialEq)]
pub struct IndexEntry {
    /// References first, then all others; each once. The first of the references is that to the patient, if the type has one: an index has it beside
    /// the row id. If the type has a leading parameter, the first of the others is the resource's first code: an index has it beside the primary
    /// date, another beside the patient. The second of the others is then that code with its system, or the words that stand for it: resources
    /// about the same. Further codes of that parameter have a term more ([`further_code`]), so has the first one of several patients, and so have
    /// further patients.
    pub terms: Vec<i64>,
    pub reference_terms: i16,
    /// A bit for each parameter that has a value.
    pub present: i64,
    /// The type's primary date.
    pub date: Option<datetime::Range>,
    pub strings: Vec<(i32, String)>,
    pub dates: Vec<(i32, datetime::Range)>,
    pub quantities: Vec<QuantityEntry>,
    /// Longitudes and latitudes.
    pub positions: Vec<(f64, f64)>,
    /// Each once.
    pub units: Vec<UnitEntry>,
    pub texts: Texts,
    /// What the vocabulary must have before the resource is found.
    pub words: Vec<Word>,
    /// Salt and id of each reference to what is contained ([`IndexEntry::of_resource`]).
    pub links: Vec<(i64, String)>,
    pub contained: Vec<ContainedEntry>,
}

/// A term that the vocabulary tells the meaning of (`migrations/0009_vocabulary.sql`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word {
    pub term: i64,
    pub key: i32,
    /// `None`: a code.
    pub value: Option<String>,
    /// Of a code, if it has one: by what a resource is sorted that has it ([`order::place`]).
    pub place: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct QuantityEntry {
    pub key: i32,
    /// Hash of system (empty if there is none) and code; 0 if there is no code.
    pub unit: i64,
    /// Hash of the unit's text; 0 if there is none.
    pub code: i64,
    pub low: f64,
    pub high: f64,
    /// For composites: hash of the code of the element that has the value, and of the code's system.
    pub joint: Option<(i64, i32)>,
}

/// A unit that the resource has, by the hash that its quantities have.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitEntry {
    pub hash: i64,
    pub system: String,
    pub code: String,
}

/// Finds everything that the index holds of a resource, without what it contains.
pub fn index(parameters: &TypeParameters, resource: Value<'_>) -> IndexEntry {
    let locals = Locals::of(resource);
    let mut indexer = Indexer::new(parameters, &locals);
    indexer.walk(&parameters.walk, 0, resource);
    indexer.read_custom(resource);
    if parameters.name == "Patient" {
        indexer.tokens.extend(assistance_keys(resource));
    }
    let mut entry = indexer.entry();
    entry.texts = Texts::of(resource, parameters.full_text);
    entry
}

/// The same of a contained resource, by the standard parameters alone: those of one's own come and go by the types of containers.
fn index_contained(parameters: &TypeParameters, resource: Value<'_>, locals: &Locals) -> IndexEntry {
    let mut indexer = Indexer::new(parameters, locals);
    indexer.walk(&parameters.walk, 0, resource);
    indexer.entry()
}

/// Not for search: the router finds a patient's entry in the registry of assistance by these, and the registry its patients.
fn assistance_keys(patient: Value<'_>) -> impl Iterator<Item = i64> {
    let identifiers = patient.get("identifier").into_iter().flat_map(|list| list.items());
    identifiers.filter_map(|i| Some(assistance_key(&i.get_str("system").unwrap_or_default(), &i.get_str("value")?)))
}

struct Indexer<'p> {
    parameters: &'p TypeParameters,
    /// What `#id` may lead to.
    locals: &'p Locals,
    entry: IndexEntry,
    references: Vec<i64>,
    /// Those of them that are to the patient.
    subjects: Vec<i64>,
    tokens: Vec<i64>,
    /// Codes of the leading parameter.
    codes: Vec<i64>,
    /// What is found is joined with other values of its element: composites have no modifiers, and so no texts.
    is_joining: bool,
    /// The first of them with its system, or the words in its place.
    concept: Option<i64>,
}

impl<'p> Indexer<'p> {
    fn new(parameters: &'p TypeParameters, locals: &'p Locals) -> Indexer<'p> {
        Indexer {
            parameters,
            locals,
            entry: IndexEntry::default(),
            references: Vec::new(),
            subjects: Vec::new(),
            tokens: Vec::new(),
            codes: Vec::new(),
            concept: None,
            is_joining: false,
        }
    }

    /// What was found, each value once and each term at its place.
    fn entry(mut self) -> IndexEntry {
        self.tokens.push(type_term(self.parameters.number));
        self.put_false_for_absent();
        let Indexer {
            parameters,
            mut entry,
            mut references,
            mut subjects,
            mut tokens,
            codes,
            concept,
            ..
        } = self;
        subjects.sort_unstable();
        subjects.dedup();
        references.retain(|reference| !subjects.contains(reference));
        references.sort_unstable();
        references.dedup();
        let led = usize::from(subjects.len() < 2);
        tokens.extend(codes.iter().skip(led).map(|code| further_code(*code)));
        tokens.extend(subjects.iter().skip(1).map(|patient| further_code(*patient)));
        subjects.append(&mut references);
        let mut references = subjects;
        // A code of nothing is one too: what has none is about the same.
        let concept = concept.unwrap_or_else(|| further_code(type_term(parameters.number)));
        if parameters.lead != 0 {
            tokens.push(concept);
        }
        tokens.sort_unstable();
        tokens.dedup();
        let lead = codes.first().copied().unwrap_or(type_term(parameters.number));
        let place = tokens.iter().position(|term| *term == lead).unwrap_or(0);
        tokens.swap(0, place);
        if let Some(place) = tokens.iter().position(|term| *term == concept).filter(|_| parameters.lead != 0) {
            tokens.swap(1, place);
        }
        entry.reference_terms = i16::try_from(references.len()).unwrap_or(i16::MAX);
        references.extend(tokens);
        entry.terms = references;
        entry.strings.sort_unstable();
        entry.strings.dedup();
        entry.words.sort_unstable();
        entry.words.dedup();
        entry.links.sort_unstable();
        entry.links.dedup();
        entry
    }

    fn walk(&mut self, walk: &Walk, node: usize, value: Value<'_>) {
        let node = &walk.nodes[node];
        for extract in &node.extracts {
            self.extract(extract, value);
        }
        if node.edges.is_empty() {
            return;
        }
        let quantities = self.entry.quantities.len();
        for_each_below(node, value, &mut |below, item| self.walk(walk, below, item));
        for join in &node.joins {
            self.join(join, value, quantities);
        }
    }

    /// A parameter has a value when its element is there, be it one that no search finds: a reference with a display alone.
    fn extract(&mut self, extract: &Extract, value: Value<'_>) {
        if self.put(extract, value).is_some() || is_wanted(extract, value) {
            self.entry.present |= extract.bits;
        }
        if is_ordered(extract) && !has_place(extract, value) {
            self.tokens.push(term(extract.salt, Token::WithoutPlace));
        }
    }

    /// `exists() and ... != false` of what is not there is false.
    fn put_false_for_absent(&mut self) {
        for absent in &self.parameters.absent_is_false {
            if self.entry.present & absent.bits == 0 {
                let term = term(absent.salt, Token::Plain("false"));
                self.tokens.push(term);
                self.put_place(absent.key, term, order::place("false", None));
                self.entry.present |= absent.bits;
            }
        }
    }

    /// `None` if the value gives nothing to the index.
    fn put(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        match extract.datatype {
            Datatype::Code => self.put_plain(extract, &value.as_str().or_else(|| value.as_number().map(Cow::Borrowed))?),
            Datatype::CodeWithoutCase => {
                let lower = value.as_str()?.to_lowercase();
                self.tokens.push(term(extract.salt, Token::WithoutCase(&lower)));
                Some(())
            }
            Datatype::Boolean => self.put_plain(extract, value.raw()),
            Datatype::PresentAndNotFalse => self.put_plain(extract, if value.as_bool() == Some(false) { "false" } else { "true" }),
            Datatype::Coding => self.put_coding(extract, value),
            Datatype::CodeableConcept => self.put_concept(extract, value),
            Datatype::Identifier => self.put_identifier(extract, value),
            Datatype::ContactPoint => self.put_token(extract, None, &value.get_str("value")?),
            Datatype::Text => self.put_string(extract, &value.as_str()?),
            Datatype::Uri => self.put_uri(extract, &value.as_str()?),
            Datatype::Reference => self.put_reference(extract, value),
            Datatype::Resource => {
                let target = self_hash(&value.get_str("resourceType")?, &value.get_str("id")?);
                self.push_reference(extract.salt, target);
                Some(())
            }
            Datatype::Date => self.put_date(extract, datetime::range(&value.as_str()?)?),
            Datatype::Instant => self.put_date(extract, datetime::range(&value.as_str()?)?.begin()),
            Datatype::Period => self.put_date(extract, period(value)?),
            Datatype::Timing => self.put_timing(extract, value),
            Datatype::Number => {
                let number: f64 = value.as_number()?.parse().ok()?;
                self.put_quantity(extract, Unit::default(), number, number)
            }
            Datatype::Quantity => self.put_quantity_value(extract, value),
            Datatype::Money => {
                let number = number(value, "value")?;
                let unit = Unit {
                    system: Some("urn:iso:std:iso:4217".into()),
                    code: value.get_str("currency"),
                    text: None,
                };
                self.put_quantity(extract, unit, number, number)
            }
            Datatype::Range => self.put_range(extract, value.get("low"), value.get("high")),
            Datatype::Position => self.put_position(value),
            Datatype::SampledData => self.put_sampled_data(extract, value),
        }
    }
}

/// The values below a node, each with its own node.
fn for_each_below<'v>(node: &WalkNode, value: Value<'v>, then: &mut dyn FnMut(usize, Value<'v>)) {
    for (name, member) in value.members() {
        let start = node.edges.partition_point(|e| e.name.as_str() < name.as_ref());
        for edge in node.edges[start..].iter().take_while(|e| e.name == name) {
            for (i, item) in member.items().enumerate() {
                let is_wanted = edge.index.is_none_or(|index| index == i)
                    && edge
                        .condition
                        .as_ref()
                        .is_none_or(|(name, value)| item.get_str(name).is_some_and(|v| v == value.as_str()));
                if is_wanted && !item.is_null() {
                    then(edge.node, item);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::definitions::definitions;
    use crate::fhir::json::Document;
    use crate::search::parameters::Registry;
    use crate::search::term::reference_term;
    use crate::search::term::unit_hash;

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
