//! Terminology: code systems with their hierarchies, value sets, and the codes that a value set stands for. Pure: where they come from is the
//! caller's affair ([`expand::Library`]). Spec: <https://hl7.org/fhir/R4/valueset.html>, <https://hl7.org/fhir/R4/codesystem.html>.

pub mod code_system;
pub mod expand;
pub mod package;
pub mod value_set;

use crate::fhir::systems;
use std::cmp::Ordering;

/// A canonical URL, and the version that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Canonical {
    pub url: String,
    pub version: Option<String>,
}

impl Canonical {
    /// Of a system, in the spelling that the index has.
    pub fn of_system(url: &str, version: Option<&str>) -> Canonical {
        Canonical {
            url: systems::canonical(url).to_owned(),
            version: version.map(str::to_owned),
        }
    }

    /// `url` or `url|version`.
    pub fn read(text: &str) -> Canonical {
        match text.split_once('|') {
            Some((url, version)) => Canonical {
                url: url.to_owned(),
                version: Some(version.to_owned()),
            },
            None => Canonical {
                url: text.to_owned(),
                version: None,
            },
        }
    }

    /// Whether a resource of this version is meant.
    pub fn takes(&self, version: Option<&str>) -> bool {
        self.version.as_deref().is_none_or(|wanted| version == Some(wanted))
    }
}

/// Which version is the later one: numbers in it are compared as numbers (`2.10` comes after `2.9`), and any comes after none.
pub fn compare_versions(a: Option<&str>, b: Option<&str>) -> Ordering {
    let parts = |version: &str| -> Vec<(u128, String)> {
        let parts = version.split(['.', '-', '+', ':', 'T']);
        parts.map(|part| (part.parse().unwrap_or(0), part.to_owned())).collect()
    };
    a.map(parts).cmp(&b.map(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (earlier, later) in [
            (None, Some("1")),
            (Some("2.9"), Some("2.10")),
            (Some("4.0"), Some("4.0.1")),
            (Some("2018-08-12"), Some("2020-01-01")),
            (Some("a"), Some("b")),
        ] {
            assert_eq!(compare_versions(earlier, later), Ordering::Less, "{earlier:?} {later:?}");
            assert_eq!(compare_versions(later, earlier), Ordering::Greater, "{earlier:?} {later:?}");
        }
        assert_eq!(compare_versions(Some("1.0"), Some("1.0")), Ordering::Equal);
    }
}
