//! The codes that a value set stands for, and those above and below a code. Spec: <https://hl7.org/fhir/R4/valueset.html#expansion>.

use crate::fhir::systems;
use crate::fhir::terminology::Canonical;
use crate::fhir::terminology::code_system::CodeSystem;
use crate::fhir::terminology::value_set::Include;
use crate::fhir::terminology::value_set::ValueSet;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Value sets in value sets: further ones are refused, and so is a value set that names itself.
const DEPTH_MAX: usize = 8;

/// Codes by their system, in the index's spelling.
pub type Codes = BTreeMap<String, BTreeSet<String>>;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asked {
    /// The codes of a value set: its canonical URL, or `ValueSet/id`.
    ValueSet(String),
    /// A code and those that it subsumes.
    Below(String, String),
    /// A code and those that subsume it.
    Above(String, String),
}

/// What an expansion needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Needed {
    ValueSet(Canonical),
    CodeSystem(Canonical),
}

/// Why there is no expansion. Names what stands in definitions, never what a client wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The value set or code system that was asked for.
    Unknown(&'static str),
    /// One that it needs.
    UnknownNeeded(Needed),
    NotComplete(String),
    UnknownCode(String),
    NotSubsuming(String),
    Unsupported(String),
    TooManyCodes,
    TooDeep,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let canonical = |canonical: &Canonical| match &canonical.version {
            Some(version) => format!("{}|{version}", canonical.url),
            None => canonical.url.clone(),
        };
        match self {
            Problem::Unknown(what) => write!(
                f,
                "the {what} is not known here: it is neither in FHIR R4 nor stored on this server"
            ),
            Problem::UnknownNeeded(Needed::ValueSet(needed)) => {
                write!(f, "it needs the value set {}, which is not known here", canonical(needed))
            }
            Problem::UnknownNeeded(Needed::CodeSystem(needed)) => {
                write!(f, "it needs the code system {}, which is not known here", canonical(needed))
            }
            Problem::NotComplete(url) => write!(f, "the content of the code system {url} is not complete here"),
            Problem::UnknownCode(url) => write!(f, "the code system {url} does not have the code"),
            Problem::NotSubsuming(url) => write!(
                f,
                "the hierarchy of {url} groups or tells parts: nothing in it is a kind of another"
            ),
            Problem::Unsupported(what) => write!(f, "{what} is not supported"),
            Problem::TooManyCodes => f.write_str("it stands for too many codes"),
            Problem::TooDeep => write!(f, "value sets stand in each other more than {DEPTH_MAX} deep (DEPTH_MAX)"),
        }
    }
}

/// The value sets and code systems that were found; `None`: looked for, and not here.
#[derive(Debug, Default)]
pub struct Library {
    pub value_sets: HashMap<Canonical, Option<Arc<ValueSet>>>,
    pub code_systems: HashMap<Canonical, Option<Arc<CodeSystem>>>,
}

impl Library {
    pub fn has(&self, needed: &Needed) -> bool {
        match needed {
            Needed::ValueSet(canonical) => self.value_sets.contains_key(canonical),
            Needed::CodeSystem(canonical) => self.code_systems.contains_key(canonical),
        }
    }

    /// What the library must have looked for before `asked` can be answered: called again until it has everything.
    pub fn needs(&self, asked: &Asked) -> Vec<Needed> {
        let mut needs = Vec::new();
        match asked {
            Asked::ValueSet(text) => self.value_set_needs(&Needed::ValueSet(Canonical::read(text)), 0, &mut needs),
            Asked::Below(system, _) | Asked::Above(system, _) => needs.push(Needed::CodeSystem(Canonical::of_system(system, None))),
        }
        needs.retain(|needed| !self.has(needed));
        needs
    }

    fn value_set_needs(&self, of: &Needed, depth: usize, needs: &mut Vec<Needed>) {
        if depth > DEPTH_MAX || needs.contains(of) {
            return;
        }
        needs.push(of.clone());
        let Needed::ValueSet(canonical) = of else { return };
        let Some(Some(value_set)) = self.value_sets.get(canonical) else {
            return;
        };
        for part in value_set.include.iter().chain(&value_set.exclude) {
            if let Some(system) = part.system.clone().filter(|_| part.concepts.is_empty() || value_set.is_active_only) {
                needs.push(Needed::CodeSystem(system));
            }
            for nested in &part.value_sets {
                self.value_set_needs(&Needed::ValueSet(nested.clone()), depth + 1, needs);
            }
        }
    }

    /// The codes, at most so many.
    pub fn codes(&self, asked: &Asked, max: usize) -> Result<Codes, Problem> {
        let codes = match asked {
            Asked::ValueSet(text) => {
                let canonical = Canonical::read(text);
                let value_set = self.value_sets.get(&canonical).and_then(Option::as_ref);
                self.expand(value_set.ok_or(Problem::Unknown("value set"))?, 0)?
            }
            Asked::Below(system, code) => self.related(system, code, CodeSystem::below)?,
            Asked::Above(system, code) => self.related(system, code, CodeSystem::above)?,
        };
        if codes.values().map(BTreeSet::len).sum::<usize>() > max {
            return Err(Problem::TooManyCodes);
        }
        Ok(codes)
    }

    fn related(&self, system: &str, code: &str, find: impl Fn(&CodeSystem, &str) -> Vec<usize>) -> Result<Codes, Problem> {
        let canonical = Canonical::of_system(system, None);
        let system = self.code_systems.get(&canonical).and_then(Option::as_ref);
        let system = system.ok_or(Problem::Unknown("code system"))?;
        let system = complete(system)?;
        if !system.is_subsuming {
            return Err(Problem::NotSubsuming(system.url.clone()));
        }
        if !system.has(code) {
            return Err(Problem::UnknownCode(system.url.clone()));
        }
        let codes = find(system, code).into_iter().map(|place| system.concepts[place].code.clone());
        Ok(Codes::from([(canonical.url, codes.collect())]))
    }

    fn expand(&self, value_set: &ValueSet, depth: usize) -> Result<Codes, Problem> {
        if depth > DEPTH_MAX {
            return Err(Problem::TooDeep);
        }
        let composed = self.compose(value_set, depth);
        match (composed, &value_set.expansion) {
            // What it is made of is what it says; where that is not known here, the expansion that it brings tells.
            (Err(_), Some(expansion)) => Ok(collect(expansion)),
            (Ok(_), Some(expansion)) if value_set.include.is_empty() => Ok(collect(expansion)),
            (composed, _) => composed,
        }
    }

    fn compose(&self, value_set: &ValueSet, depth: usize) -> Result<Codes, Problem> {
        let mut all = Codes::new();
        for part in &value_set.include {
            for (system, codes) in self.part(part, value_set.is_active_only, depth)? {
                all.entry(system).or_default().extend(codes);
            }
        }
        for part in &value_set.exclude {
            for (system, codes) in self.part(part, false, depth)? {
                if let Some(of_system) = all.get_mut(&system) {
                    of_system.retain(|code| !codes.contains(code));
                }
            }
        }
        Ok(all)
    }

    /// What a part takes: the codes of its system that satisfy all its filters, and that stand in each of its value sets.
    fn part(&self, part: &Include, is_active_only: bool, depth: usize) -> Result<Codes, Problem> {
        let mut found = match &part.system {
            Some(system) => Some(Codes::from([(system.url.clone(), self.of_system(part, system, is_active_only)?)])),
            None => None,
        };
        for canonical in &part.value_sets {
            let value_set = self.value_sets.get(canonical).and_then(Option::as_ref);
            let value_set = value_set.ok_or_else(|| Problem::UnknownNeeded(Needed::ValueSet(canonical.clone())))?;
            let codes = self.expand(value_set, depth + 1)?;
            found = Some(match found {
                None => codes,
                Some(found) => both(found, &codes),
            });
        }
        found.ok_or_else(|| Problem::Unsupported("a part of a value set without a system and without value sets".to_owned()))
    }

    fn of_system(&self, part: &Include, canonical: &Canonical, is_active_only: bool) -> Result<BTreeSet<String>, Problem> {
        let system = self.code_systems.get(canonical).and_then(Option::as_ref);
        if !part.concepts.is_empty() {
            let is_active = |code: &&String| {
                let system = system.filter(|_| is_active_only);
                system.is_none_or(|system| !system.below(code).first().is_some_and(|place| system.is_inactive(*place)))
            };
            return Ok(part.concepts.iter().filter(is_active).cloned().collect());
        }
        let system = complete(system.ok_or_else(|| Problem::UnknownNeeded(Needed::CodeSystem(canonical.clone())))?)?;
        let mut places: BTreeSet<usize> = (0..system.concepts.len()).collect();
        for filter in &part.filters {
            let taken: BTreeSet<usize> = system.filtered(filter)?.into_iter().collect();
            places.retain(|place| taken.contains(place));
        }
        let wanted = places.into_iter().filter(|place| !is_active_only || !system.is_inactive(*place));
        Ok(wanted.map(|place| system.concepts[place].code.clone()).collect())
    }
}

fn complete(system: &Arc<CodeSystem>) -> Result<&CodeSystem, Problem> {
    match system.content.as_str() {
        "complete" => Ok(system),
        _ => Err(Problem::NotComplete(system.url.clone())),
    }
}

fn collect(expansion: &[(String, String)]) -> Codes {
    let mut codes = Codes::new();
    for (system, code) in expansion {
        codes.entry(systems::canonical(system).to_owned()).or_default().insert(code.clone());
    }
    codes
}

fn both(a: Codes, b: &Codes) -> Codes {
    let in_both = |(system, codes): (String, BTreeSet<String>)| {
        let others = b.get(&system)?;
        Some((system, codes.into_iter().filter(|code| others.contains(code)).collect()))
    };
    a.into_iter().filter_map(in_both).collect()
}
