//! Contained resources, indexed beside the resource that contains them, and the references `#id` that lead to them.
//!
//! They are known by the hash of their container and their own id. The hash of a resource is known when it has an id, which is after it was indexed:
//! until then a reference is kept as a link, and [`IndexEntry::of_resource`] makes terms of these.
//! Spec: <https://hl7.org/fhir/R4/references.html#contained>, <https://hl7.org/fhir/R4/search.html#contained>.

use crate::fhir::identity::contained_hash;
use crate::fhir::identity::self_hash;
use crate::fhir::json::Value;
use crate::search::index::IndexEntry;
use crate::search::index::Indexer;
use crate::search::index::index;
use crate::search::index::index_contained;
use crate::search::parameters::Extract;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use crate::search::term::link_term;
use crate::search::term::reference_term;
use std::borrow::Cow;
use std::collections::HashMap;

/// Contained resources of one resource: each is a row with index entries of its own, and its row id has room for 1,024 places.
pub const CONTAINED_MAX: usize = 1_000;

#[derive(Debug, Clone, PartialEq)]
pub struct ContainedEntry {
    /// In the list of its container, from 0.
    pub place: i64,
    pub id: String,
    /// Of type and id.
    pub id_hash: i64,
    pub type_number: i16,
    /// JSON, as it stands in the container.
    pub content: String,
    /// Its own references lead to the container (an empty id) and to what else that contains.
    pub entry: IndexEntry,
}

/// Types by the ids of what `#id` may lead to.
#[derive(Debug, Default)]
pub struct Locals(HashMap<String, String>);

impl Locals {
    pub fn of(resource: Value<'_>) -> Locals {
        let known = |contained: Value<'_>| {
            Some((
                contained.get_str("id")?.into_owned(),
                contained.get_str("resourceType")?.into_owned(),
            ))
        };
        Locals(items(resource).filter_map(|(_, contained)| known(contained)).collect())
    }

    pub fn type_of(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }
}

/// Those that are indexed. What is stored has no more of them, unless it is older than the limit.
fn items(resource: Value<'_>) -> impl Iterator<Item = (usize, Value<'_>)> {
    let list = resource.get("contained").into_iter().flat_map(|list| list.items());
    list.enumerate().take(CONTAINED_MAX)
}

/// Everything that the index holds of a resource and of what it contains.
pub fn index_whole(registry: &Registry, parameters: &TypeParameters, resource: Value<'_>) -> IndexEntry {
    let mut entry = index(parameters, resource);
    if resource.get("contained").is_none() {
        return entry;
    }
    let mut locals = Locals::of(resource);
    locals.0.insert(String::new(), parameters.name.clone());
    let contained = |(place, contained): (usize, Value<'_>)| {
        let of = registry.of(&contained.get_str("resourceType")?)?;
        let id = contained.get_str("id")?.into_owned();
        let mut content = String::with_capacity(contained.span().len());
        contained.minify_into(&mut content);
        Some(ContainedEntry {
            place: place as i64,
            id_hash: self_hash(&of.name, &id),
            id,
            type_number: of.number,
            content,
            entry: index_contained(of, contained, &locals),
        })
    };
    entry.contained = items(resource).filter_map(contained).collect();
    entry
}

impl IndexEntry {
    /// The entry with a term for each link, of the resource that has this hash.
    pub fn of_resource(&self, hash: i64) -> Cow<'_, IndexEntry> {
        if self.links.is_empty() && self.contained.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut entry = self.clone();
        entry.put_links(hash);
        for contained in &mut entry.contained {
            contained.entry.put_links(hash);
        }
        Cow::Owned(entry)
    }

    fn put_links(&mut self, container: i64) {
        let hash = |id: &str| match id {
            "" => container,
            id => contained_hash(container, id),
        };
        let terms: Vec<i64> = self.links.drain(..).map(|(salt, id)| reference_term(salt, hash(&id))).collect();
        let end = usize::try_from(self.reference_terms).unwrap_or(0);
        self.reference_terms = i16::try_from(end + terms.len()).unwrap_or(i16::MAX);
        // After the others: the first of them is to the patient.
        self.terms.splice(end..end, terms);
    }
}

impl Indexer<'_> {
    /// A reference to what is contained, if it is there and of the type that the parameter reads.
    pub(super) fn put_link(&mut self, extract: &Extract, id: &str) -> Option<()> {
        let type_name = self.locals.type_of(id)?;
        if extract.target.as_deref().is_some_and(|target| target != type_name) {
            return None;
        }
        self.entry.links.push((extract.salt, id.to_owned()));
        self.tokens.push(link_term(extract.salt));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::definitions::definitions;
    use crate::fhir::json::Document;
    use crate::search::term::Token;
    use crate::search::term::term;

    #[test]
    fn references_to_what_is_contained_become_terms_of_the_container_and_of_the_contained() {
        let registry = Registry::load(definitions()).expect("loads");
        let of = |type_name: &str, code: &str| registry.of(type_name).and_then(|t| t.get(code)).expect("parameter").salts[0];
        let text = r##"{"resourceType":"MedicationRequest","contained":[
            {"resourceType":"Medication","id":"m","manufacturer":{"reference":"#o"},"code":{"coding":[{"code":"c"}]}},
            {"resourceType":"Unheard","id":"u"}, {"resourceType":"Patient"},
            {"resourceType":"Organization","id":"o"},
            {"resourceType":"Provenance","id":"p","target":[{"reference":"#"}]},
            {"resourceType":"Patient","id":"x"}],
            "medicationReference":{"reference":"#m"},"subject":{"reference":"#x"},"requester":{"reference":"#nobody"},"encounter":{"reference":"Encounter/1"}}"##;
        let document = Document::parse_str(text).expect("valid");
        let parameters = registry.of("MedicationRequest").expect("known");
        let entry = index_whole(&registry, parameters, document.root());
        let of_seven = entry.of_resource(7).into_owned();
        let links = |entry: &IndexEntry| entry.terms[..entry.reference_terms as usize].to_vec();
        let to = |salt: i64, id: &str| reference_term(salt, contained_hash(7, id));
        let found = links(&of_seven);
        for (code, id) in [("medication", "m"), ("subject", "x"), ("patient", "x")] {
            assert!(found.contains(&to(of("MedicationRequest", code), id)), "{code}");
            assert!(entry.terms.contains(&link_term(of("MedicationRequest", code))), "{code}");
            assert_ne!(
                entry.present & 1 << parameters.get(code).expect("parameter").bit,
                0,
                "{code} has a value"
            );
        }
        assert_eq!(found.len(), 3, "what leads nowhere has no term");
        assert!(!entry.terms.contains(&link_term(of("MedicationRequest", "requester"))));
        assert_eq!(of_seven.terms[3..], entry.terms[1..], "the rest stays as it was");
        assert_eq!(
            of_seven.contained.iter().map(|c| (c.place, c.id.as_str())).collect::<Vec<_>>(),
            [(0, "m"), (3, "o"), (4, "p"), (5, "x")]
        );
        let medication = &of_seven.contained[0].entry;
        assert!(medication.terms.contains(&term(of("Medication", "code"), Token::Code("c"))));
        assert_eq!(links(medication), [to(of("Medication", "manufacturer"), "o")]);
        assert_eq!(links(&of_seven.contained[2].entry), [reference_term(of("Provenance", "target"), 7)]);
        assert!(of_seven.contained[1].content.starts_with(r#"{"resourceType":"Organization""#));
    }

    #[test]
    fn a_resource_that_contains_nothing_is_not_copied() {
        assert!(matches!(IndexEntry::default().of_resource(7), Cow::Borrowed(_)));
    }
}
