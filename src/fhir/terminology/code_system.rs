//! A code system: its concepts, what lies above and below each, and filters by their properties.
//! Spec: <https://hl7.org/fhir/R4/codesystem.html#hierachy>, <https://hl7.org/fhir/R4/codesystem.html#properties>.

use crate::fhir::json::Value;
use crate::fhir::terminology::expand::Problem;
use crate::fhir::terminology::value_set::Filter;
use regex::Regex;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct CodeSystem {
    pub url: String,
    pub version: Option<String>,
    /// `complete`, `fragment`, `example`, `not-present`, `supplement`.
    pub content: String,
    /// A concept is a kind of the one above it. Not so where the hierarchy only groups, or tells parts.
    pub is_subsuming: bool,
    pub concepts: Vec<Concept>,
    by_code: HashMap<String, usize>,
}

#[derive(Debug, Default)]
pub struct Concept {
    pub code: String,
    above: Vec<usize>,
    below: Vec<usize>,
    /// Properties other than those of the hierarchy, as text.
    properties: Vec<(String, String)>,
}

/// What a property means for the hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Above,
    Below,
}

impl CodeSystem {
    pub fn read(resource: Value<'_>) -> CodeSystem {
        let text = |name: &str| resource.get_str(name).map(|text| text.into_owned());
        let mut system = CodeSystem {
            url: text("url").unwrap_or_default(),
            version: text("version"),
            content: text("content").unwrap_or_default(),
            is_subsuming: !matches!(text("hierarchyMeaning").as_deref(), Some("grouped-by" | "part-of")),
            ..CodeSystem::default()
        };
        let mut links = Vec::new();
        system.read_concepts(resource, None, &property_links(resource), &mut links);
        for (place, link, code) in links {
            let Some(other) = system.by_code.get(&code).copied() else {
                continue;
            };
            match link {
                Link::Above => system.link(other, place),
                Link::Below => system.link(place, other),
            }
        }
        for concept in &mut system.concepts {
            for others in [&mut concept.above, &mut concept.below] {
                others.sort_unstable();
                others.dedup();
            }
        }
        system
    }

    /// The text bounds the nesting (`json::DEPTH_MAX`).
    fn read_concepts(
        &mut self,
        of: Value<'_>,
        above: Option<usize>,
        meaning: &HashMap<String, Link>,
        links: &mut Vec<(usize, Link, String)>,
    ) {
        for concept in of.get("concept").into_iter().flat_map(|list| list.items()) {
            let Some(code) = concept.get_str("code") else { continue };
            let place = match self.by_code.get(code.as_ref()) {
                Some(place) => *place,
                None => {
                    self.concepts.push(Concept {
                        code: code.clone().into_owned(),
                        ..Concept::default()
                    });
                    self.by_code.insert(code.into_owned(), self.concepts.len() - 1);
                    self.concepts.len() - 1
                }
            };
            if let Some(above) = above {
                self.link(above, place);
            }
            for property in concept.get("property").into_iter().flat_map(|list| list.items()) {
                let Some((name, value)) = property.get_str("code").zip(property_value(property)) else {
                    continue;
                };
                match meaning.get(name.as_ref()) {
                    Some(link) => links.push((place, *link, value)),
                    None => self.concepts[place].properties.push((name.into_owned(), value)),
                }
            }
            self.read_concepts(concept, Some(place), meaning, links);
        }
    }

    fn link(&mut self, above: usize, below: usize) {
        if above != below {
            self.concepts[below].above.push(above);
            self.concepts[above].below.push(below);
        }
    }

    pub fn has(&self, code: &str) -> bool {
        self.by_code.contains_key(code)
    }

    /// The concept and all that it subsumes. Empty if there is no such concept.
    pub fn below(&self, code: &str) -> Vec<usize> {
        self.closure(code, |concept| &concept.below)
    }

    /// The concept and all that subsume it.
    pub fn above(&self, code: &str) -> Vec<usize> {
        self.closure(code, |concept| &concept.above)
    }

    fn closure(&self, code: &str, next: impl Fn(&Concept) -> &Vec<usize>) -> Vec<usize> {
        let Some(first) = self.by_code.get(code) else { return Vec::new() };
        let mut is_found = vec![false; self.concepts.len()];
        let mut found = vec![*first];
        is_found[*first] = true;
        let mut at = 0;
        while let Some(place) = found.get(at) {
            for other in next(&self.concepts[*place]) {
                if !std::mem::replace(&mut is_found[*other], true) {
                    found.push(*other);
                }
            }
            at += 1;
        }
        found
    }

    /// Whether the concept is no longer for use. <https://hl7.org/fhir/R4/codesystem.html#defined-props>
    pub fn is_inactive(&self, place: usize) -> bool {
        self.concepts[place].properties.iter().any(|(name, value)| match name.as_str() {
            "inactive" => value == "true",
            "status" => matches!(value.as_str(), "retired" | "inactive"),
            _ => false,
        })
    }

    /// The concepts that a filter of a value set takes. <https://hl7.org/fhir/R4/valueset-filter-operator.html>
    pub fn filtered(&self, filter: &Filter) -> Result<Vec<usize>, Problem> {
        let is_code = matches!(filter.property.as_str(), "concept" | "code");
        let value = filter.value.as_str();
        let all = || 0..self.concepts.len();
        if matches!(filter.op.as_str(), "is-a" | "descendent-of" | "is-not-a" | "generalizes") {
            if !is_code || !self.is_subsuming {
                return Err(self.unsupported(filter));
            }
            if !self.has(value) {
                return Err(Problem::UnknownCode(self.url.clone()));
            }
            let mut found = match filter.op.as_str() {
                "generalizes" => self.above(value),
                _ => self.below(value),
            };
            if filter.op == "descendent-of" {
                found.remove(0);
            }
            if filter.op == "is-not-a" {
                let below: std::collections::HashSet<usize> = found.into_iter().collect();
                found = all().filter(|place| !below.contains(place)).collect();
            }
            return Ok(found);
        }
        let holds: Box<dyn Fn(&str) -> bool + '_> = match filter.op.as_str() {
            "=" => Box::new(|text| text == value),
            "in" => Box::new(|text| value.split(',').any(|one| one.trim() == text)),
            "not-in" => Box::new(|text| value.split(',').all(|one| one.trim() != text)),
            "regex" => {
                let pattern = Regex::new(&format!("^(?:{value})$")).map_err(|_| self.unsupported(filter))?;
                Box::new(move |text| pattern.is_match(text))
            }
            "exists" if matches!(value, "true" | "false") && !is_code => {
                let has = |place: &usize| self.values(*place, &filter.property).next().is_some();
                return Ok(all().filter(|place| has(place) == (value == "true")).collect());
            }
            _ => return Err(self.unsupported(filter)),
        };
        if is_code {
            return Ok(all().filter(|place| holds(&self.concepts[*place].code)).collect());
        }
        if all().all(|place| self.values(place, &filter.property).next().is_none()) {
            // A property that no concept has: of another version of the code system, or one that was left out when it was stored.
            return Err(self.unsupported(filter));
        }
        Ok(all().filter(|place| self.values(*place, &filter.property).any(&holds)).collect())
    }

    /// The values of a property, those of the hierarchy included.
    fn values<'s>(&'s self, place: usize, name: &'s str) -> impl Iterator<Item = &'s str> {
        let concept = &self.concepts[place];
        let links = match name {
            "parent" => concept.above.as_slice(),
            "child" => concept.below.as_slice(),
            _ => &[],
        };
        let named = concept.properties.iter().filter(move |(code, _)| code == name);
        let linked = links.iter().map(|other| self.concepts[*other].code.as_str());
        linked.chain(named.map(|(_, value)| value.as_str()))
    }

    fn unsupported(&self, filter: &Filter) -> Problem {
        Problem::Unsupported(format!("the filter {} {} on {}", filter.property, filter.op, self.url))
    }
}

/// The properties by which concepts name those above and below them. <https://hl7.org/fhir/R4/codesystem-concept-properties.html>
fn property_links(resource: Value<'_>) -> HashMap<String, Link> {
    let of = |name: &str| match name {
        "parent" | "subsumedBy" => Some(Link::Above),
        "child" => Some(Link::Below),
        _ => None,
    };
    let mut links: HashMap<String, Link> = ["parent", "subsumedBy", "child"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), of(name)?)))
        .collect();
    for property in resource.get("property").into_iter().flat_map(|list| list.items()) {
        let uri = property.get_str("uri").unwrap_or_default();
        let meaning = uri
            .strip_prefix("http://hl7.org/fhir/concept-properties#")
            .or_else(|| uri.strip_prefix("http://terminology.hl7.org/CodeSystem/concept-properties#"));
        if let (Some(code), Some(link)) = (property.get_str("code"), meaning.and_then(of)) {
            links.insert(code.into_owned(), link);
        }
    }
    links
}

/// `value[x]` as text; of a Coding its code.
fn property_value(property: Value<'_>) -> Option<String> {
    let (_, value) = property.members().find(|(name, _)| name.starts_with("value"))?;
    if value.is_object() {
        return value.get_str("code").map(|code| code.into_owned());
    }
    Some(value.as_str().map_or_else(|| value.raw().to_owned(), |text| text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::json::Document;

    fn animals() -> CodeSystem {
        let text = r#"{"resourceType":"CodeSystem","url":"urn:animals","content":"complete","property":[{"code":"kind-of","uri":"http://hl7.org/fhir/concept-properties#parent"}],
            "concept":[{"code":"animal","concept":[{"code":"dog","property":[{"code":"legs","valueInteger":4},{"code":"status","valueCode":"retired"}],"concept":[{"code":"spaniel"}]},{"code":"bird","property":[{"code":"legs","valueInteger":2}]}]},
            {"code":"pet"},{"code":"cat","property":[{"code":"kind-of","valueCode":"animal"},{"code":"subsumedBy","valueCode":"pet"},{"code":"legs","valueInteger":4}]},
            {"code":"loop","property":[{"code":"parent","valueCode":"loop"},{"code":"child","valueCode":"loop2"}]},{"code":"loop2","property":[{"code":"child","valueCode":"loop"}]}]}"#;
        CodeSystem::read(Document::parse_str(text).expect("valid").root())
    }

    fn codes(system: &CodeSystem, places: Vec<usize>) -> Vec<&str> {
        let mut codes: Vec<&str> = places.into_iter().map(|place| system.concepts[place].code.as_str()).collect();
        codes.sort_unstable();
        codes
    }

    #[test]
    fn what_is_nested_and_what_names_its_parent_or_child_is_below() {
        let system = animals();
        for (code, below) in [
            ("animal", vec!["animal", "bird", "cat", "dog", "spaniel"]),
            ("dog", vec!["dog", "spaniel"]),
            ("pet", vec!["cat", "pet"]),
            ("loop", vec!["loop", "loop2"]),
            ("nothing", vec![]),
        ] {
            assert_eq!(codes(&system, system.below(code)), below, "{code}");
        }
        assert_eq!(codes(&system, system.above("cat")), ["animal", "cat", "pet"]);
        assert_eq!(codes(&system, system.above("spaniel")), ["animal", "dog", "spaniel"]);
    }

    #[test]
    fn filters_take_what_their_operator_says() {
        let system = animals();
        let filter = |property: &str, op: &str, value: &str| Filter {
            property: property.to_owned(),
            op: op.to_owned(),
            value: value.to_owned(),
        };
        for (property, op, value, expected) in [
            ("concept", "is-a", "dog", vec!["dog", "spaniel"]),
            ("concept", "descendent-of", "dog", vec!["spaniel"]),
            ("concept", "generalizes", "dog", vec!["animal", "dog"]),
            ("concept", "is-not-a", "animal", vec!["loop", "loop2", "pet"]),
            ("code", "=", "dog", vec!["dog"]),
            ("code", "in", "dog, cat", vec!["cat", "dog"]),
            ("code", "regex", "l.*p", vec!["loop"]),
            ("code", "not-in", "dog,cat,bird,animal,pet", vec!["loop", "loop2", "spaniel"]),
            ("legs", "=", "4", vec!["cat", "dog"]),
            ("legs", "in", "2,3", vec!["bird"]),
            ("legs", "exists", "false", vec!["animal", "loop", "loop2", "pet", "spaniel"]),
            ("parent", "=", "animal", vec!["bird", "cat", "dog"]),
        ] {
            let found = system.filtered(&filter(property, op, value)).expect(op);
            assert_eq!(codes(&system, found), expected, "{property} {op} {value}");
        }
        for (property, op, value) in [
            ("concept", "is-a", "nothing"),
            ("wings", "=", "2"),
            ("code", "regex", "("),
            ("code", "like", "x"),
            ("legs", "is-a", "4"),
        ] {
            assert!(system.filtered(&filter(property, op, value)).is_err(), "{property} {op} {value}");
        }
        assert!(system.is_inactive(system.by_code["dog"]) && !system.is_inactive(system.by_code["cat"]));
    }
}
