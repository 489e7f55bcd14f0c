//! Expands value sets from the code systems of the package. Part of `build.rs`; the server does not contain it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use serde::Deserialize;

use crate::compile::Definition;
use crate::model::SystemCodes;
use crate::model::ValueSet;
use crate::model::ValueSetId;

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Compose {
    pub include: Vec<Include>,
    pub exclude: Vec<Include>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Include {
    pub system: String,
    pub concept: Vec<Concept>,
    pub filter: Vec<Filter>,
    pub value_set: Vec<String>,
}

#[derive(Deserialize)]
pub struct Filter {
    pub op: String,
    pub value: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Concept {
    pub code: String,
    pub concept: Vec<Concept>,
}

/// Value sets by URL, expanded when first asked for.
pub struct ValueSets<'a> {
    definitions: HashMap<&'a str, &'a Definition>,
    code_systems: HashMap<&'a str, &'a Definition>,
    pub compiled: Vec<ValueSet>,
}

impl<'a> ValueSets<'a> {
    pub fn new(terminology: &'a [Definition]) -> ValueSets<'a> {
        let by_url = |kind: &str| {
            terminology
                .iter()
                .filter(|d| d.resource_type == kind)
                .map(|d| (d.url.as_str(), d))
                .collect()
        };
        ValueSets {
            definitions: by_url("ValueSet"),
            code_systems: by_url("CodeSystem"),
            compiled: Vec::new(),
        }
    }

    pub fn intern(&mut self, canonical: &str) -> ValueSetId {
        let url = canonical.split('|').next().unwrap_or_default();
        if let Some(found) = self.compiled.iter().position(|v| v.url == url) {
            return found as ValueSetId;
        }
        let codes = self.expand(url, 0).map(|systems| {
            systems
                .into_iter()
                .map(|(system, codes)| SystemCodes {
                    system,
                    codes: codes.into_iter().collect(),
                })
                .collect()
        });
        self.compiled.push(ValueSet {
            url: url.to_owned(),
            codes,
        });
        self.compiled.len() as ValueSetId - 1
    }

    /// `None` when any part of it is not known here.
    fn expand(&self, url: &str, depth: usize) -> Option<BTreeMap<String, BTreeSet<String>>> {
        let compose = &self.definitions.get(url).filter(|_| depth < 8)?.compose;
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for include in &compose.include {
            for (system, codes) in self.part(include, depth)? {
                all.entry(system).or_default().extend(codes);
            }
        }
        for exclude in &compose.exclude {
            for (system, codes) in self.part(exclude, depth)? {
                all.entry(system).or_default().retain(|code| !codes.contains(code));
            }
        }
        (!all.is_empty()).then_some(all)
    }

    fn part(&self, include: &Include, depth: usize) -> Option<BTreeMap<String, BTreeSet<String>>> {
        if include.system.is_empty() {
            let [url] = &include.value_set[..] else { return None };
            return self.expand(url.split('|').next().unwrap_or_default(), depth + 1);
        }
        if !include.value_set.is_empty() {
            return None;
        }
        let mut codes = BTreeSet::new();
        if include.concept.is_empty() {
            let system = self.code_systems.get(include.system.as_str()).filter(|s| s.content == "complete")?;
            match &include.filter[..] {
                [] => collect_codes(&system.concept, &mut codes),
                [filter] if matches!(filter.op.as_str(), "is-a" | "descendent-of") => {
                    collect_codes(&find_concept(&system.concept, &filter.value)?.concept, &mut codes);
                    if filter.op == "is-a" {
                        codes.insert(filter.value.clone());
                    }
                }
                _ => return None,
            }
        } else {
            codes.extend(include.concept.iter().map(|c| c.code.clone()));
        }
        Some(BTreeMap::from([(include.system.clone(), codes)]))
    }
}

fn collect_codes(concepts: &[Concept], codes: &mut BTreeSet<String>) {
    for concept in concepts {
        codes.insert(concept.code.clone());
        collect_codes(&concept.concept, codes);
    }
}

fn find_concept<'a>(concepts: &'a [Concept], code: &str) -> Option<&'a Concept> {
    concepts
        .iter()
        .find_map(|c| if c.code == code { Some(c) } else { find_concept(&c.concept, code) })
}
