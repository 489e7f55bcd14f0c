//! Identifier and code systems that mean the same thing: one spelling for the index and for queries.
//!
//! Italy's own material writes the codice fiscale's system in three ways, ICD-9-CM's in three, ATC's in three; a search by one
//! must find them all. The stored resource is never changed. Sources: `docs/glossary.md`, HL7 Italia core and base, the ministry's maps.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The canonical spelling first, then the others.
const EQUIVALENT: &[&[&str]] = &[
    &[
        "urn:oid:2.16.840.1.113883.2.9.4.3.2",
        "http://hl7.it/sid/codiceFiscale",
        "http://hl7.it/sid/cf",
    ],
    &["urn:oid:2.16.840.1.113883.2.9.4.3.16", "http://hl7.it/sid/anpr"],
    &["urn:oid:2.16.840.1.113883.2.9.4.3.17", "http://hl7.it/sid/stp"],
    &["urn:oid:2.16.840.1.113883.2.9.4.3.18", "http://hl7.it/sid/eni"],
    &[
        "urn:oid:2.16.840.1.113883.2.9.4.1.1",
        "http://hl7.it/sid/fls",
        "http://terminology.hl7.it/sid/minsan-fls",
    ],
    &[
        "urn:oid:2.16.840.1.113883.2.9.4.1.2",
        "http://hl7.it/sid/hsp",
        "http://terminology.hl7.it/sid/minsan-hsp",
    ],
    &["urn:oid:2.16.840.1.113883.2.9.6.3.2", "http://hl7.it/sid/partitaIva"],
    &[
        "urn:oid:2.16.840.1.113883.2.9.6.1.5",
        "https://www.hl7.it/fhir/terminology/CodeSystem/aifa-aic",
        "http://hl7.it/fhir/dossier-pharma/CodeSystem/aifa-aic",
    ],
    &[
        "http://www.whocc.no/atc",
        "urn:oid:2.16.840.1.113883.6.73",
        "https://atcddd.fhi.no/atc",
    ],
    &[
        "http://hl7.org/fhir/sid/icd-9",
        "http://hl7.org/fhir/sid/icd-9-cm",
        "urn:oid:2.16.840.1.113883.6.103",
    ],
    &[
        "urn:oid:2.16.840.1.113883.2.9.6.1.51",
        "https://www.hl7.it/fhir/terminology/CodeSystem/aifa-gruppo-equivalenza",
    ],
    &[
        "urn:oid:2.16.840.1.113883.2.9.6.1.22",
        "https://www.hl7.it/fhir/terminology/CodeSystem/mds-esenzioni",
    ],
    &["http://loinc.org", "urn:oid:2.16.840.1.113883.6.1"],
    &["http://snomed.info/sct", "urn:oid:2.16.840.1.113883.6.96"],
    &["http://unitsofmeasure.org", "urn:oid:2.16.840.1.113883.6.8"],
];

/// The codice fiscale's system in its canonical spelling.
pub const CODICE_FISCALE: &str = EQUIVALENT[0][0];

static CANONICAL: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    EQUIVALENT
        .iter()
        .flat_map(|group| group.iter().map(|spelling| (*spelling, group[0])))
        .collect()
});

/// All spellings of a system, whichever of them this is.
pub fn spellings(system: &str) -> impl Iterator<Item = &str> {
    let group = EQUIVALENT.iter().find(|group| group[0] == canonical(system));
    let others = group.into_iter().flat_map(|group| group.iter().copied());
    std::iter::once(system).filter(move |_| group.is_none()).chain(others)
}

/// The canonical spelling of a system; the system itself if it has no other.
pub fn canonical(system: &str) -> &str {
    CANONICAL.get(system).copied().unwrap_or(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_that_mean_the_same_have_one_spelling() {
        assert_eq!(canonical("http://hl7.it/sid/codiceFiscale"), CODICE_FISCALE);
        assert_eq!(canonical(CODICE_FISCALE), CODICE_FISCALE);
        assert_eq!(canonical("http://example.org/x"), "http://example.org/x");
        let all: Vec<_> = EQUIVALENT.iter().flat_map(|group| group.iter()).collect();
        assert_eq!(all.len(), CANONICAL.len(), "no spelling stands in two groups");
    }
}
