//! The codes that value sets and hierarchies stand for, from the resources themselves. <https://hl7.org/fhir/R4/valueset.html>,
//! <https://hl7.org/fhir/R4/codesystem.html>, <https://hl7.org/fhir/R4/search.html#token> (`:in`, `:not-in`, `:above`, `:below`)
//!
//! Decision, where the specification leaves it to the server: a code is one of a value set with its system only.

use crate::evaluator::Store;
use crate::values::Typed;
use crate::values::canonical;
use crate::values::list;
use crate::values::split;
use crate::values::unescape;
use eds::fhir::definitions::definitions;
use serde_json::Value;
use std::collections::BTreeSet;

/// System and code.
pub type Codes = BTreeSet<(String, String)>;

pub fn is_code_of(value: &Typed<'_>, codes: &Codes) -> bool {
    let (system, code) = match value {
        Typed::Coded {
            system: Some(system),
            code: Some(code),
        } => (*system, *code),
        Typed::Plain {
            code,
            implied: Some(system),
            ..
        } => (system.as_str(), code.as_str()),
        _ => return false,
    };
    codes.contains(&(canonical(system).to_owned(), code.to_owned()))
}

impl Store {
    /// What one value of `:in`, `:not-in`, `:above` or `:below` stands for. Panics if it is not known: searches of tests ask for what is there.
    pub fn codes(&self, modifier: &str, text: &str) -> Codes {
        if matches!(modifier, "in" | "not-in") {
            return self.value_set(&unescape(text));
        }
        let parts: Vec<String> = split(text, '|').iter().map(|part| unescape(part)).collect();
        let [system, code] = parts.as_slice() else {
            panic!("{text} is no code of a system")
        };
        let of_system = self.code_system(system);
        let is_asked = |other: &&Concept<'_>| match modifier {
            "below" => of_system.is_a(other.code, code),
            _ => of_system.is_a(code, other.code),
        };
        of_system.all_of(of_system.concepts.iter().filter(is_asked))
    }

    /// By its URL, or by where it is.
    fn value_set(&self, text: &str) -> Codes {
        let place = text.strip_prefix(&format!("{}/", self.base)).unwrap_or(text);
        let stored = match place.strip_prefix("ValueSet/") {
            Some(id) => self.get("ValueSet", id),
            None => self.of_type("ValueSet").find(|set| set["url"] == text),
        };
        if let Some(set) = stored {
            return self.composed(&set["compose"]);
        }
        let of_r4 = definitions().value_set_named(text).unwrap_or_else(|| panic!("no value set {text}"));
        let systems = of_r4.codes.as_ref().expect("its codes");
        let codes = systems
            .iter()
            .flat_map(|of| of.codes.iter().map(|code| (canonical(&of.system).to_owned(), code.clone())));
        codes.collect()
    }

    /// "Include one or more codes from a code system or other value set(s)", "explicitly exclude codes".
    fn composed(&self, compose: &Value) -> Codes {
        let mut codes = Codes::new();
        for part in list(compose, "include") {
            codes.extend(self.part(part, compose["inactive"] == false));
        }
        for part in list(compose, "exclude") {
            let excluded = self.part(part, false);
            codes.retain(|code| !excluded.contains(code));
        }
        codes
    }

    /// "All the codes … selected by the system, concept and filter … that are also in all of the value sets."
    fn part(&self, part: &Value, is_active_only: bool) -> Codes {
        let of_system = part["system"].as_str().map(|system| self.of_system(part, system, is_active_only));
        let of_value_sets = list(part, "valueSet").map(|url| self.value_set(url.as_str().expect("a URL")));
        let all = of_system.into_iter().chain(of_value_sets);
        all.reduce(|one, other| one.intersection(&other).cloned().collect())
            .expect("a system or a value set")
    }

    fn of_system(&self, part: &Value, system: &str, is_active_only: bool) -> Codes {
        let listed: Vec<&str> = list(part, "concept").filter_map(|concept| concept["code"].as_str()).collect();
        if !listed.is_empty() && !is_active_only {
            return listed
                .iter()
                .map(|code| (canonical(system).to_owned(), (*code).to_owned()))
                .collect();
        }
        let of_system = self.code_system(system);
        let is_in = |concept: &&Concept<'_>| {
            let is_listed = listed.is_empty() || listed.contains(&concept.code);
            let is_filtered = list(part, "filter").all(|filter| of_system.takes(filter, concept));
            is_listed && is_filtered && !(is_active_only && concept.is_inactive())
        };
        let mut codes = of_system.all_of(of_system.concepts.iter().filter(is_in));
        // What is listed and what the code system does not have cannot be inactive in it.
        let is_unknown = |code: &&&str| of_system.concept(code).is_none();
        codes.extend(
            listed
                .iter()
                .filter(is_unknown)
                .map(|code| (canonical(system).to_owned(), (*code).to_owned())),
        );
        codes
    }

    fn code_system(&self, url: &str) -> CodeSystem<'_> {
        let of_url = |system: &&Value| system["url"].as_str().is_some_and(|other| canonical(other) == canonical(url));
        let resource = self.of_type("CodeSystem").find(of_url);
        let resource = resource.unwrap_or_else(|| panic!("no code system {url}"));
        let mut system = CodeSystem {
            url: canonical(url).to_owned(),
            concepts: Vec::new(),
        };
        system.read(resource, None);
        let links: Vec<(&str, &str)> = system.concepts.iter().flat_map(Concept::links_below).collect();
        for (parent, child) in links {
            let concept = system.concepts.iter_mut().find(|concept| concept.code == child);
            concept.expect("a child that is there").parents.push(parent);
        }
        system
    }
}

struct CodeSystem<'a> {
    url: String,
    concepts: Vec<Concept<'a>>,
}

struct Concept<'a> {
    code: &'a str,
    /// "The hierarchy … is-a": the concept that it stands in, and those that its properties name.
    parents: Vec<&'a str>,
    resource: &'a Value,
}

impl<'a> Concept<'a> {
    fn property(&self, name: &str) -> Vec<String> {
        let of_name = list(self.resource, "property").filter(|property| property["code"] == name);
        let text = |property: &Value| {
            let value = property.as_object()?.iter().find(|(name, _)| name.starts_with("value"))?.1;
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        of_name.filter_map(text).collect()
    }

    /// `child`: "the concept identified in this property is a child of the concept on which it is a property".
    fn links_below(&self) -> Vec<(&'a str, &'a str)> {
        let children = list(self.resource, "property").filter(|property| property["code"] == "child");
        children
            .filter_map(|property| Some((self.code, property["valueCode"].as_str()?)))
            .collect()
    }

    fn is_inactive(&self) -> bool {
        self.property("inactive").contains(&"true".to_owned()) || self.property("status").contains(&"retired".to_owned())
    }
}

impl<'a> CodeSystem<'a> {
    fn read(&mut self, of: &'a Value, parent: Option<&'a str>) {
        for concept in list(of, "concept") {
            let code = concept["code"].as_str().expect("a code");
            let named = list(concept, "property").filter(|property| property["code"] == "parent" || property["code"] == "subsumedBy");
            let parents = parent
                .into_iter()
                .chain(named.filter_map(|property| property["valueCode"].as_str()));
            self.concepts.push(Concept {
                code,
                parents: parents.collect(),
                resource: concept,
            });
            self.read(concept, Some(code));
        }
    }

    fn concept(&self, code: &str) -> Option<&Concept<'a>> {
        self.concepts.iter().find(|concept| concept.code == code)
    }

    fn is_a(&self, code: &str, ancestor: &str) -> bool {
        let parents = self.concept(code).map(|concept| concept.parents.as_slice()).unwrap_or_default();
        code == ancestor || parents.iter().any(|parent| self.is_a(parent, ancestor))
    }

    fn all_of<'c>(&self, concepts: impl Iterator<Item = &'c Concept<'a>>) -> Codes
    where
        'a: 'c,
    {
        concepts.map(|concept| (self.url.clone(), concept.code.to_owned())).collect()
    }

    /// <https://hl7.org/fhir/R4/valueset-filter-operator.html>
    fn takes(&self, filter: &Value, concept: &Concept<'_>) -> bool {
        let text = |member: &str| filter[member].as_str().unwrap_or_default();
        let (property, value) = (text("property"), text("value"));
        let values = match property {
            "concept" | "code" => vec![concept.code.to_owned()],
            name => concept.property(name),
        };
        match text("op") {
            "is-a" => self.is_a(concept.code, value),
            "descendent-of" => concept.code != value && self.is_a(concept.code, value),
            "is-not-a" => !self.is_a(concept.code, value),
            "generalizes" => self.is_a(value, concept.code),
            "=" => values.iter().any(|of| of == value),
            "in" => values.iter().any(|of| value.split(',').any(|one| one == of)),
            "not-in" => values.iter().any(|of| value.split(',').all(|one| one != of)),
            "exists" => values.is_empty() == (value == "false"),
            // Those of the populations: a letter or a beginning, and anything.
            "regex" => {
                let start = value.strip_suffix(".*").expect("a beginning");
                values.iter().any(|of| of.starts_with(start))
            }
            other => panic!("no filter {other}"),
        }
    }
}
