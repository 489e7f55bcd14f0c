//! The value sets and code systems that the binary brings: those of FHIR R4, its v2 tables and v3 code systems, and the project's own.
//! `build.rs` writes them, each as the text of its resource without what is only for people; decoded when first asked for.

use crate::fhir::definitions::model::Terminology;
use crate::fhir::json::Document;
use crate::fhir::systems;
use crate::fhir::terminology::Canonical;
use crate::fhir::terminology::code_system::CodeSystem;
use crate::fhir::terminology::value_set::ValueSet;
use std::collections::HashMap;
use std::sync::OnceLock;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/terminology.bin"));
/// Far above the decoded size: bounds what a damaged binary could ask for.
const DECODED_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub struct Package {
    terminology: Terminology,
    /// By type and URL.
    places: HashMap<(&'static str, String), usize>,
}

pub fn package() -> &'static Package {
    static PACKAGE: OnceLock<Package> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let bytes = zstd::bulk::decompress(PACKED, DECODED_BYTES_MAX).expect("build.rs wrote zstd");
        let terminology: Terminology = postcard::from_bytes(&bytes).expect("build.rs wrote this model");
        let entries = terminology.entries.iter().enumerate();
        let places = entries.map(|(place, entry)| match entry.resource_type.as_str() {
            "ValueSet" => (("ValueSet", entry.url.clone()), place),
            _ => (("CodeSystem", systems::canonical(&entry.url).to_owned()), place),
        });
        Package {
            places: places.collect(),
            terminology,
        }
    })
}

impl Package {
    pub fn value_set(&self, canonical: &Canonical) -> Option<ValueSet> {
        self.read(("ValueSet", canonical), |document| ValueSet::read(document.root()))
    }

    pub fn code_system(&self, canonical: &Canonical) -> Option<CodeSystem> {
        self.read(("CodeSystem", canonical), |document| CodeSystem::read(document.root()))
    }

    fn read<T>(&self, (kind, canonical): (&'static str, &Canonical), read: impl Fn(Document<'_>) -> T) -> Option<T> {
        let place = self.places.get(&(kind, canonical.url.clone()))?;
        let entry = &self.terminology.entries[*place];
        if !canonical.takes(Some(&entry.version)) {
            return None;
        }
        Document::parse_str(&entry.json).ok().map(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::terminology::expand::Asked;
    use crate::fhir::terminology::expand::Library;
    use crate::fhir::terminology::expand::Needed;
    use crate::fhir::terminology::expand::Problem;
    use std::sync::Arc;

    /// What the package alone makes of it.
    fn expand(asked: &Asked) -> Result<Vec<String>, Problem> {
        let mut library = Library::default();
        loop {
            let needs = library.needs(asked);
            if needs.is_empty() {
                let codes = library.codes(asked, 100_000)?;
                return Ok(codes.into_values().flatten().collect());
            }
            for needed in needs {
                match needed {
                    Needed::ValueSet(canonical) => {
                        let found = package().value_set(&canonical).map(Arc::new);
                        library.value_sets.insert(canonical, found);
                    }
                    Needed::CodeSystem(canonical) => {
                        let found = package().code_system(&canonical).map(Arc::new);
                        library.code_systems.insert(canonical, found);
                    }
                }
            }
        }
    }

    #[test]
    fn the_value_sets_of_r4_are_expanded_where_their_systems_are_published_with_it() {
        let value_set = |url: &str| expand(&Asked::ValueSet(url.to_owned()));
        for (url, codes) in [
            ("http://hl7.org/fhir/ValueSet/administrative-gender", 4),
            ("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1", 4),
            ("http://terminology.hl7.org/ValueSet/v3-ConfidentialityClassification", 6),
            ("http://hl7.org/fhir/ValueSet/identifier-type", 18),
        ] {
            assert_eq!(value_set(url).map(|codes| codes.len()), Ok(codes), "{url}");
        }
        let statuses = value_set("http://hl7.org/fhir/ValueSet/condition-clinical").expect("known");
        assert_eq!(statuses, ["active", "inactive", "recurrence", "relapse", "remission", "resolved"]);
        for url in [
            "http://hl7.org/fhir/ValueSet/none",
            "http://hl7.org/fhir/ValueSet/administrative-gender|4.0.0",
            "http://hl7.org/fhir/ValueSet/mimetypes",
        ] {
            assert!(value_set(url).is_err(), "{url}");
        }
        let all: Vec<&str> = package()
            .terminology
            .entries
            .iter()
            .filter(|e| e.resource_type == "ValueSet")
            .map(|e| e.url.as_str())
            .collect();
        let known = all.iter().filter(|url| value_set(url).is_ok()).count();
        // The others need SNOMED CT, LOINC and other systems that are not published with FHIR.
        assert!(known * 4 > all.len() * 3, "{known} of {}", all.len());
    }

    #[test]
    fn hierarchies_of_r4_say_what_is_below() {
        let roles = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";
        let below = expand(&Asked::Below(roles.to_owned(), "PRN".to_owned())).expect("known");
        assert!(below.contains(&"MTH".to_owned()) && below.contains(&"PRN".to_owned()), "{below:?}");
        let above = expand(&Asked::Above(roles.to_owned(), "MTH".to_owned())).expect("known");
        assert!(
            above.contains(&"PRN".to_owned()) && above.contains(&"FAMMEMB".to_owned()),
            "{above:?}"
        );
        assert!(expand(&Asked::Below(roles.to_owned(), "nothing".to_owned())).is_err());
    }
}
