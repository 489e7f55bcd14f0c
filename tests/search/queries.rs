//! Random searches, made from what the population holds, so that they find something and not everything.

use crate::codes::CODE_SYSTEMS;
use crate::codes::KEPT;
use crate::codes::VALUE_SETS;
use crate::codes::url_of;
use crate::evaluator::HIERARCHIES;
use crate::evaluator::Key;
use crate::evaluator::Query;
use crate::evaluator::Store;
use crate::evaluator::container_of;
use crate::evaluator::key_of;
use crate::features::State;
use crate::features::is_on;
use crate::features::state_of;
use crate::fhirpath::evaluate;
use crate::fhirpath::root;
use crate::population::pick;
use crate::population::pools;
use crate::spelling::moment_of;
use crate::spelling::near;
use crate::spelling::number_of;
use crate::spelling::of_type;
use crate::spelling::prefixed;
use crate::spelling::quantity;
use crate::spelling::string;
use crate::spelling::token;
use crate::spelling::words;
use crate::values::Typed;
use crate::values::escape;
use crate::values::typed;
use crate::values::unescape;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::Compartment;
use eds::fhir::definitions::model::SearchParameter;
use eds::fhir::definitions::model::SearchParameterKind as Kind;
use eds::fhir::definitions::model::ValueSet;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;
use std::collections::BTreeMap;

/// Of the condition itself, not of those that it is put into.
pub type Features = Vec<&'static str>;

pub struct Asked {
    pub query: Query,
    pub features: Features,
}

pub struct Generator<'s> {
    pub store: &'s Store,
    /// Types of the population, those with more resources more often.
    pub types: Vec<&'s str>,
    /// Who refers to a resource, and by which parameter.
    holders: BTreeMap<Key, Vec<(&'s Value, &'static SearchParameter)>>,
}

/// A search has chains of this many links at most.
const DEPTH_MAX: usize = 3;

impl<'s> Generator<'s> {
    pub fn new(store: &'s Store) -> Generator<'s> {
        let types = store.resources().keys().map(|(type_name, _)| type_name.as_str()).collect();
        let mut holders: BTreeMap<Key, Vec<_>> = BTreeMap::new();
        for ((type_name, _), holder) in store.resources() {
            for link in searchable(type_name).filter(|p| p.kind == Kind::Reference) {
                for target in store.targets(holder, link, "") {
                    holders.entry(key_of(target)).or_default().push((holder, link));
                }
            }
        }
        Generator { store, types, holders }
    }

    pub fn draw(&self, rng: &mut StdRng) -> Asked {
        if rng.random_bool(0.02)
            && let Some(asked) = self.unsupported(rng)
        {
            return asked;
        }
        match rng.random_range(0..100) {
            0..=6 => return self.of_several_types(rng),
            7 | 8 => return self.by_codes(rng),
            9..=12 => {
                if let Some(asked) = self.of_contained(rng) {
                    return asked;
                }
            }
            _ => {}
        }
        let type_name = *self.types.choose(rng).expect("a type");
        // One that the conditions are about, so that they can hold together.
        let all: Vec<&Value> = self.store.of_type(type_name).collect();
        let focus = all.choose(rng).copied().filter(|_| rng.random_bool(0.8));
        let mut features = Features::new();
        let mut pairs = Vec::new();
        let count = *[0, 1, 1, 1, 1, 1, 2, 2, 3].choose(rng).expect("a number");
        for _ in 0..count {
            pairs.push(self.condition(rng, type_name, focus, 0, &mut features));
        }
        if count > 1 {
            features.push("and");
        }
        let mut path = type_name.to_owned();
        if rng.random_bool(0.05)
            && let Some(compartment) = self.compartment(rng, type_name, focus)
        {
            path = format!("{compartment}/{type_name}");
            features.push("compartment");
        }
        self.result_parameters(rng, type_name, &[], &mut pairs, &mut features);
        let query = Query { path, pairs };
        features.sort_unstable();
        features.dedup();
        Asked { query, features }
    }

    /// By codes of value sets and hierarchies, of a type with many codes: what one lacks or has too many tells.
    fn by_codes(&self, rng: &mut StdRng) -> Asked {
        let name = pick(rng, &["code", "combo-code", "component-code", "category"]);
        let (modifier, feature) = *[
            ("in", "token:in"),
            ("in", "token:in"),
            ("not-in", "token:in"),
            ("below", "token:below"),
            ("above", "token:below"),
        ]
        .choose(rng)
        .expect("a modifier");
        let parameter = definitions().search_parameter("Observation", name).expect("a parameter");
        let value = self.codes_asked(rng, "Observation", None, parameter, modifier);
        let pair = match rng.random_range(0..4) {
            0 => {
                let operator = match modifier {
                    "not-in" => "ni",
                    "below" => "ss",
                    "above" => "sb",
                    other => other,
                };
                ("_filter".to_owned(), format!("{name} {operator} {}", unescape(&value)))
            }
            _ => (format!("{name}:{modifier}"), value),
        };
        let query = Query {
            path: "Observation".to_owned(),
            pairs: vec![pair, ("_count".to_owned(), "1000".to_owned())],
        };
        Asked {
            query,
            features: vec![feature],
        }
    }

    /// Something that the server does not have yet, alone.
    fn unsupported(&self, rng: &mut StdRng) -> Option<Asked> {
        let all = [("string:text", "Patient?name:text=rossi")];
        let off: Vec<_> = all.into_iter().filter(|(feature, _)| state_of(feature) == State::Off).collect();
        let (feature, text) = off.choose(rng)?;
        Some(Asked {
            query: Query::read(text),
            features: vec![feature],
        })
    }

    /// A List that names the resource, or one of the type, mostly.
    pub fn list(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>) -> String {
        let named = match focus {
            Some(focus) => self.holders.get(&key_of(focus)).into_iter().flatten().collect(),
            None => {
                let of_type = self.holders.iter().filter(|((name, _), _)| name == type_name);
                of_type.flat_map(|(_, holders)| holders).collect::<Vec<_>>()
            }
        };
        let lists: Vec<&str> = named
            .iter()
            .filter(|(holder, link)| holder["resourceType"] == "List" && link.code == "item")
            .filter_map(|(list, _)| list["id"].as_str())
            .collect();
        match lists.choose(rng) {
            Some(list) if rng.random_bool(0.8) => (*list).to_owned(),
            _ => pick(rng, pools::IDS).to_owned(),
        }
    }

    /// `Patient/1`, for a type that is in the compartment: one that the resource refers to, mostly.
    fn compartment(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>) -> Option<String> {
        let all: Vec<_> = definitions().model().compartments.iter().filter(|c| is_in(c, type_name)).collect();
        let owners: Vec<&Value> = focus
            .into_iter()
            .flat_map(|focus| {
                let links = searchable(type_name).filter(|p| p.kind == Kind::Reference);
                links.flat_map(|link| self.store.targets(focus, link, "")).collect::<Vec<_>>()
            })
            .filter(|owner| container_of(owner).is_none() && all.iter().any(|compartment| owner["resourceType"] == compartment.code))
            .collect();
        if let Some(owner) = owners.choose(rng).filter(|_| rng.random_bool(0.7)) {
            let (code, id) = key_of(owner);
            return Some(format!("{code}/{id}"));
        }
        let code = &all.choose(rng)?.code;
        Some(format!("{code}/{}", pick(rng, pools::IDS)))
    }

    /// One `name=value`.
    pub fn condition(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        focus: Option<&'s Value>,
        depth: usize,
        features: &mut Features,
    ) -> (String, String) {
        if rng.random_bool(0.01) {
            features.push("_list");
            return ("_list".to_owned(), self.list(rng, type_name, focus));
        }
        if rng.random_bool(0.02) {
            let name = *["_text", "_content"].choose(rng).expect("a name");
            features.push(name);
            return (name.to_owned(), words(rng, name));
        }
        // Its own chains are part of the depth.
        if depth <= 1 && rng.random_bool(0.06) {
            return ("_filter".to_owned(), self.filter(rng, type_name, focus, features));
        }
        if depth < DEPTH_MAX {
            let kind = rng.random_range(0..100);
            let linked = match kind {
                0..=14 => self.chain(rng, type_name, focus, depth, features),
                15..=26 => self.has(rng, type_name, focus, depth, features),
                _ => None,
            };
            if let Some(linked) = linked {
                return linked;
            }
        }
        self.plain(rng, type_name, focus, features)
    }

    fn chain(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        focus: Option<&'s Value>,
        depth: usize,
        features: &mut Features,
    ) -> Option<(String, String)> {
        let links: Vec<_> = searchable(type_name).filter(|p| p.kind == Kind::Reference).collect();
        let known = focus.into_iter().flat_map(|focus| {
            links
                .iter()
                .flat_map(move |l| self.store.targets(focus, l, "").into_iter().map(move |t| (*l, t)))
        });
        let known: Vec<_> = known.collect();
        let (link, target, next) = match known.choose(rng) {
            Some((link, target)) => (*link, target["resourceType"].as_str().expect("a type"), Some(*target)),
            None => {
                let link = *links.choose(rng)?;
                let here: Vec<&str> = self
                    .types
                    .iter()
                    .copied()
                    .filter(|t| link.targets.iter().any(|target| target == t))
                    .collect();
                (link, *here.choose(rng)?, None)
            }
        };
        let mut inner_features = Features::new();
        let (inner, value) = self.condition(rng, target, next, depth + 1, &mut inner_features);
        let is_plain = !inner.contains('.') && !inner.starts_with("_has:");
        let is_typed = !is_plain || rng.random_bool(0.5) || !means_the_same_for_all(&link.targets, target, &inner);
        let name = if is_typed {
            format!("{}:{target}.{inner}", link.code)
        } else {
            format!("{}.{inner}", link.code)
        };
        features.push(match inner_features.as_slice() {
            f if f.contains(&"_has") => "_has in a chain",
            f if f.contains(&"chain of two") => "chain of three",
            f if f.contains(&"chain") => "chain of two",
            _ => "chain",
        });
        if next.is_some_and(|target| container_of(target).is_some()) {
            features.push("chain to what is contained");
        }
        features.extend(inner_features);
        Some((name, value))
    }

    fn has(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        focus: Option<&'s Value>,
        depth: usize,
        features: &mut Features,
    ) -> Option<(String, String)> {
        let known = focus
            .and_then(|focus| self.holders.get(&key_of(focus)))
            .and_then(|holders| holders.choose(rng));
        let (source, link, next) = match known {
            Some((holder, link)) => (holder["resourceType"].as_str().expect("a type"), *link, Some(*holder)),
            None => {
                let source = *self.types.choose(rng)?;
                let links: Vec<_> = searchable(source)
                    .filter(|p| p.kind == Kind::Reference && p.targets.iter().any(|t| t == type_name))
                    .collect();
                (source, *links.choose(rng)?, None)
            }
        };
        let mut inner_features = Features::new();
        let (inner, value) = self.condition(rng, source, next, depth + 1, &mut inner_features);
        features.push(match inner_features.as_slice() {
            f if f.contains(&"_has") => "_has in _has",
            f if f.contains(&"chain") => "chain in _has",
            _ => "_has",
        });
        features.extend(inner_features);
        Some((format!("_has:{source}:{}:{inner}", link.code), value))
    }

    fn plain(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>, features: &mut Features) -> (String, String) {
        if type_name == "Location" && rng.random_bool(0.3) {
            features.push("near");
            return ("near".to_owned(), near(rng));
        }
        let parameters: Vec<_> = searchable(type_name).collect();
        let is_present = |p: &&&SearchParameter| self.samples(type_name, focus, p).next().is_some();
        // Kinds that few parameters have are drawn for their own sake.
        let rare: Vec<&&SearchParameter> = parameters
            .iter()
            .filter(|p| matches!(p.kind, Kind::Number | Kind::Quantity | Kind::Uri | Kind::Composite | Kind::String))
            .filter(is_present)
            .collect();
        let parameter = match rare.choose(rng) {
            Some(rare) if rng.random_bool(0.4) => **rare,
            _ => {
                let drawn: Vec<_> = (0..3).filter_map(|_| parameters.choose(rng)).collect();
                drawn
                    .iter()
                    .copied()
                    .find(is_present)
                    .or(drawn.first().copied())
                    .expect("a parameter")
            }
        };
        self.of_parameter(rng, type_name, focus, parameter, features)
    }

    /// A condition by this parameter.
    pub fn of_parameter(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        focus: Option<&'s Value>,
        parameter: &SearchParameter,
        features: &mut Features,
    ) -> (String, String) {
        if rng.random_bool(0.05) && !["_id", "_lastUpdated"].contains(&parameter.code.as_str()) && parameter.kind != Kind::Composite {
            features.push(":missing");
            return (format!("{}:missing", parameter.code), pick(rng, &["true", "false"]).to_owned());
        }
        let modifier = self.modifier(rng, type_name, focus, parameter);
        if let Some(feature) = feature_of(parameter.kind, &modifier) {
            features.push(feature);
        }
        let count = if rng.random_bool(0.75) { 1 } else { rng.random_range(2..=3) };
        let values: Vec<String> = (0..count)
            .map(|_| self.value(rng, type_name, focus, parameter, &modifier, features))
            .collect();
        if count > 1 {
            features.push("or");
        }
        let name = if modifier.is_empty() {
            parameter.code.clone()
        } else {
            format!("{}:{modifier}", parameter.code)
        };
        let text = values.join(",");
        if text.contains('\\') {
            features.push("escaped");
        }
        if parameter.kind == Kind::Composite && parameter.expression != type_name {
            features.push("composite of a part");
        }
        match parameter.code.as_str() {
            "_id" => features.push("_id"),
            "_lastUpdated" => features.push("_lastUpdated"),
            _ => {}
        }
        (name, text)
    }

    fn modifier(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>, parameter: &SearchParameter) -> String {
        let is_own = parameter.code.starts_with('_');
        let has = |is_wanted: fn(Typed<'_>) -> bool| self.samples(type_name, focus, parameter).any(is_wanted);
        let modifiers: &[&str] = match parameter.kind {
            Kind::Token if is_own => &["", "", "", "not"],
            Kind::Token if has(|v| matches!(v, Typed::Identifier(_))) => &["", "", "", "", "not", "text", "of-type"],
            Kind::Token if has(|v| matches!(v, Typed::Coded { .. })) => &["", "", "", "", "", "not", "text"],
            Kind::Token => &["", "", "", "", "", "not"],
            Kind::String => &["", "", "contains", "exact"],
            Kind::Uri if is_own => &[""],
            Kind::Uri => &["", "above", "below"],
            Kind::Reference if self.samples(type_name, focus, parameter).any(|v| matches!(v, Typed::Canonical(_))) => &[""],
            Kind::Reference if parameter.expression.contains("resolve()") && !is_on("identifier by a parameter of one type") => {
                &["", "[type]"]
            }
            Kind::Reference => &["", "", "", "", "", "identifier", "[type]"],
            _ => &[""],
        };
        if parameter.kind == Kind::Reference && has_hierarchy(parameter) && rng.random_bool(0.12) {
            return pick(rng, &["above", "below"]).to_owned();
        }
        let codes = self.code_modifiers(type_name, focus, parameter);
        if !codes.is_empty() && rng.random_bool(0.15) {
            return pick(rng, codes).to_owned();
        }
        match pick(rng, modifiers) {
            "[type]" => {
                let here: Vec<&String> = parameter.targets.iter().filter(|t| self.types.contains(&t.as_str())).collect();
                here.choose(rng).map(|t| (*t).clone()).unwrap_or_default()
            }
            modifier => modifier.to_owned(),
        }
    }

    /// The values that the resource, or all of the type, have for a parameter.
    pub fn samples<'p>(
        &'p self,
        type_name: &'p str,
        focus: Option<&'s Value>,
        parameter: &'p SearchParameter,
    ) -> impl Iterator<Item = Typed<'s>> + 'p {
        let all = self.store.of_type_lasting(type_name).filter(move |_| focus.is_none());
        focus
            .into_iter()
            .chain(all)
            .flat_map(move |resource| values_of(resource, parameter))
    }

    pub fn value(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        focus: Option<&'s Value>,
        parameter: &SearchParameter,
        modifier: &str,
        features: &mut Features,
    ) -> String {
        let focus = focus.filter(|_| rng.random_bool(0.85));
        let samples: Vec<Typed<'_>> = self.samples(type_name, focus, parameter).collect();
        let compared: Vec<&Typed<'_>> = samples
            .iter()
            .filter(|s| !matches!(s, Typed::Text(_) | Typed::Identifier(_)))
            .collect();
        // What something contained is called by here is no id of FHIR.
        let compared: Vec<&Typed<'_>> = match focus.and_then(container_of) {
            Some(_) if parameter.code == "_id" => Vec::new(),
            _ => compared,
        };
        let sample = compared.choose(rng).copied().filter(|_| rng.random_bool(0.9));
        match parameter.kind {
            Kind::Token if modifier == "text" => {
                let texts: Vec<&str> = samples
                    .iter()
                    .filter_map(|s| if let Typed::Text(text) = s { Some(*text) } else { None })
                    .collect();
                let sample = texts.choose(rng).map(|text| Typed::Strings(vec![text]));
                string(rng, sample.as_ref(), "")
            }
            Kind::Token if matches!(modifier, "in" | "not-in" | "above" | "below") => {
                self.codes_asked(rng, type_name, focus, parameter, modifier)
            }
            Kind::Token if modifier == "of-type" => of_type(rng, &samples),
            Kind::Token => {
                let has_systems = samples.iter().any(|s| matches!(s, Typed::Coded { .. }));
                token(rng, sample, has_systems, modifier.is_empty(), features)
            }
            Kind::String => string(rng, sample, modifier),
            Kind::Uri => match sample {
                Some(Typed::Uri(uri)) if rng.random_bool(0.6) => escape(uri),
                _ => escape(pick(rng, pools::URIS)),
            },
            Kind::Reference => self.reference(rng, sample, parameter, modifier, features),
            Kind::Date => self.date(rng, type_name, parameter, sample, features),
            Kind::Number => {
                let number = number_of(rng, sample);
                prefixed(rng, "number", &number, features)
            }
            Kind::Quantity => quantity(rng, sample, features),
            Kind::Composite => {
                let part = |rng: &mut StdRng, url: &str| {
                    let of = definitions()
                        .model()
                        .search_parameters
                        .iter()
                        .find(|p| p.url == url)
                        .expect("a parameter");
                    self.value(rng, type_name, focus, of, "", &mut Features::new())
                };
                let parts: Vec<String> = parameter.components.iter().map(|(url, _)| part(rng, url)).collect();
                parts.join("$")
            }
            Kind::Special => unreachable!("not searchable here"),
        }
    }

    /// The modifiers that ask for codes of value sets and hierarchies, where a parameter's values are codes of systems.
    pub fn code_modifiers(&self, type_name: &str, focus: Option<&'s Value>, parameter: &SearchParameter) -> &'static [&'static str] {
        let samples: Vec<Typed<'_>> = match parameter.kind {
            Kind::Token => self.samples(type_name, focus, parameter).collect(),
            _ => Vec::new(),
        };
        let has = |is: fn(&Typed<'_>) -> bool| samples.iter().any(is);
        if has(|v| matches!(v, Typed::Identifier(_))) {
            &[]
        } else if has(|v| matches!(v, Typed::Coded { .. })) {
            &["in", "not-in", "above", "below"]
        } else if has(|v| matches!(v, Typed::Plain { implied: Some(_), .. })) {
            &["in", "not-in"]
        } else {
            &[]
        }
    }

    /// A value set of the population, or one of R4 whose codes the parameter may have; a code of a code system.
    pub fn codes_asked(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        focus: Option<&'s Value>,
        parameter: &SearchParameter,
        modifier: &str,
    ) -> String {
        if matches!(modifier, "above" | "below") {
            let systems = self.samples(type_name, focus, parameter).filter_map(|value| match value {
                Typed::Coded { system, .. } => system.filter(|system| CODE_SYSTEMS.iter().any(|(_, url)| url == system)),
                _ => None,
            });
            let systems: Vec<&str> = systems.collect();
            let (_, any) = *CODE_SYSTEMS.choose(rng).expect("code systems");
            let system = systems.choose(rng).copied().unwrap_or(any);
            return format!("{}|{}", escape(system), pick(rng, KEPT));
        }
        let implied = self.samples(type_name, focus, parameter).find_map(|value| match value {
            Typed::Plain { implied, .. } => implied,
            _ => None,
        });
        let is_of = |set: &&ValueSet| {
            set.codes
                .as_ref()
                .is_some_and(|all| all.iter().any(|of| Some(&of.system) == implied.as_ref()))
        };
        let of_r4: Vec<&ValueSet> = definitions().model().value_sets.iter().filter(is_of).collect();
        let own = pick(rng, &VALUE_SETS);
        match (of_r4.choose(rng), rng.random_range(0..5)) {
            (Some(set), 0..=3) => escape(&set.url),
            (_, 4) => format!("ValueSet/{own}"),
            (_, 3) => escape(&format!("{}/ValueSet/{own}", self.store.base)),
            _ => escape(&url_of(own)),
        }
    }

    fn reference(
        &self,
        rng: &mut StdRng,
        sample: Option<&Typed<'_>>,
        parameter: &SearchParameter,
        modifier: &str,
        features: &mut Features,
    ) -> String {
        if matches!(modifier, "above" | "below") {
            let of_ours = |reference: &&str| HIERARCHIES.iter().any(|name| reference.starts_with(&format!("{name}/")));
            let own = match sample {
                Some(Typed::Reference(reference)) => reference["reference"].as_str().filter(of_ours),
                _ => None,
            };
            let all: Vec<&String> = parameter
                .targets
                .iter()
                .filter(|name| HIERARCHIES.contains(&name.as_str()))
                .collect();
            let drawn = format!("{}/{}", all.choose(rng).expect("a type"), pick(rng, pools::IDS));
            return escape(own.filter(|_| rng.random_bool(0.5)).unwrap_or(&drawn));
        }
        if modifier == "identifier" {
            let identifiers = self.store.resources().values().flat_map(identifiers_of_references);
            let all: Vec<Typed<'_>> = identifiers.collect();
            let identifier = all.choose(rng);
            if !is_on("identifier by system or without") {
                return match identifier {
                    Some(Typed::Coded { system, code: Some(code) }) if rng.random_bool(0.5) && system.is_some() => {
                        format!("{}|{}", escape(system.unwrap_or_default()), escape(code))
                    }
                    Some(Typed::Coded { code: Some(code), .. }) => escape(code),
                    _ => "a".to_owned(),
                };
            }
            return token(rng, identifier, true, false, features);
        }
        let known = match sample {
            Some(Typed::Canonical(url)) if !url.starts_with('#') => {
                features.push("reference to a canonical");
                let unversioned = url.split('|').next().unwrap_or_default();
                let asked = if rng.random_bool(0.5) { url } else { unversioned };
                // What looks like a version of a resource is asked for without it: not compared.
                let asked = if asked.contains("/_history/") {
                    "http://acme.org/fhir"
                } else {
                    asked
                };
                return escape(asked).replace("\\|", "|");
            }
            // "Contained resources do not have an identity": `#id` is asked for nowhere.
            Some(Typed::Reference(reference)) => reference["reference"].as_str().filter(|text| !text.starts_with('#')),
            _ => None,
        };
        let here = parameter
            .targets
            .iter()
            .filter(|t| self.types.contains(&t.as_str()))
            .collect::<Vec<_>>();
        let text = match known {
            // "The [type] modifier can't be used with a reference to a resource found on another server."
            Some(text) if modifier.is_empty() || !text.contains(':') => text.to_owned(),
            _ => format!("{}/{}", here.choose(rng).map_or("Patient", |t| t.as_str()), pick(rng, pools::IDS)),
        };
        let is_local = !text.contains(':');
        let (kind, text) = match rng.random_range(0..10) {
            0..=2 if is_local => {
                let id = text.split('/').nth(1).unwrap_or("1").to_owned();
                ("reference id", id)
            }
            3 if is_local => ("reference url", format!("{}/{text}", self.store.base)),
            _ if is_local => ("reference type/id", text),
            _ => ("reference url", text),
        };
        features.push(kind);
        escape(&text)
    }

    fn date(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        parameter: &SearchParameter,
        sample: Option<&Typed<'_>>,
        features: &mut Features,
    ) -> String {
        let text = if parameter.code == "_lastUpdated" {
            let resources: Vec<&Value> = self.store.of_type(type_name).collect();
            let instant = resources
                .choose(rng)
                .and_then(|r| r["meta"]["lastUpdated"].as_str())
                .unwrap_or("2024-01-01T00:00:00Z");
            let length = *[4, 7, 10, 16, 19, instant.len()].choose(rng).expect("a length");
            let zone = if [16, 19].contains(&length) { "Z" } else { "" };
            format!("{}{zone}", &instant[..length])
        } else {
            match rng.random_range(0..10) {
                6..=8 if let Some(Typed::Date(span)) = sample => moment_of(rng, span),
                0 => pick(
                    rng,
                    &[
                        "2024-01-01T00:00",
                        "2024-01-31T23:59Z",
                        "2024-02-29T10:00",
                        "1899",
                        "2024-02-01T00:30:00",
                    ],
                )
                .to_owned(),
                1..=5 => pick(rng, pools::DATES).to_owned(),
                _ => pick(rng, pools::MOMENTS).to_owned(),
            }
        };
        let text = prefixed(rng, "date", &text, features);
        // A tenth of the seconds since a write ends where others were written: server and evaluator look at the clock one after the other.
        match text.strip_prefix("ap") {
            Some(plain) if parameter.code == "_lastUpdated" && plain.len() > 10 => plain.to_owned(),
            _ => text,
        }
    }
}

impl Store {
    /// [`Store::of_type`], for as long as the store is borrowed.
    fn of_type_lasting<'s>(&'s self, type_name: &str) -> impl Iterator<Item = &'s Value> {
        let first = (type_name.to_owned(), String::new());
        let name = type_name.to_owned();
        self.resources()
            .range(first..)
            .take_while(move |((n, _), _)| *n == name)
            .map(|(_, r)| r)
    }
}

/// Whether it refers to types whose resources are part of others.
fn has_hierarchy(parameter: &SearchParameter) -> bool {
    parameter.targets.iter().any(|target| HIERARCHIES.contains(&target.as_str()))
}

/// Whether a compartment has resources of this type.
pub fn is_in(compartment: &Compartment, type_name: &str) -> bool {
    let has_links = |(name, links): &(String, Vec<String>)| name == type_name && !links.is_empty();
    compartment.code == type_name || compartment.members.iter().any(has_links)
}

fn values_of<'a>(resource: &'a Value, parameter: &SearchParameter) -> Vec<Typed<'a>> {
    let items = evaluate(&parameter.expression, root(resource), resource);
    match parameter.kind {
        Kind::Composite => items.iter().map(|_| Typed::Nothing).collect(),
        kind => items.into_iter().flat_map(|item| typed(kind, item)).collect(),
    }
}

/// Those that have values by an expression, and that the server is asked for here.
pub fn searchable(type_name: &str) -> impl Iterator<Item = &'static SearchParameter> {
    definitions()
        .search_parameters_of(type_name)
        .filter(move |p| !p.expression.is_empty() && p.kind != Kind::Special)
        .filter(move |p| p.kind != Kind::Composite || is_on("composite of a part") || p.expression == type_name)
        .filter(|p| p.kind != Kind::Composite || is_on("component by its own expression") || p.code == "code-value-quantity")
}

/// Whether an untyped chain asks the same of every type that it can go on from.
pub fn means_the_same_for_all(targets: &[String], target: &str, inner: &str) -> bool {
    let (code, modifier) = inner.split_once(':').unwrap_or((inner, ""));
    let of = |type_name: &str| definitions().search_parameter(type_name, code);
    let Some(one) = of(target) else { return false };
    let is_same = |other: &SearchParameter| other.kind == one.kind && (one.kind != Kind::Composite || other.url == one.url);
    modifier.chars().all(|c| !c.is_uppercase()) && targets.iter().filter_map(|t| of(t)).all(is_same)
}

fn feature_of(kind: Kind, modifier: &str) -> Option<&'static str> {
    Some(match (kind, modifier) {
        (Kind::Token, "") => "token",
        (Kind::Token, "text") => "token:text",
        (Kind::Token, "of-type") => "token:of-type",
        (Kind::Token, "in" | "not-in") => "token:in",
        (Kind::Token, "above" | "below") => "token:below",
        (Kind::Token, _) => "token:not",
        (Kind::String, "") => "string",
        (Kind::String, "contains") => "string:contains",
        (Kind::String, _) => "string:exact",
        (Kind::Uri, "") => "uri",
        (Kind::Uri, "above") => "uri:above",
        (Kind::Uri, _) => "uri:below",
        (Kind::Reference, "above" | "below") => "reference:above below",
        (Kind::Reference, "identifier") => "reference:identifier",
        (Kind::Reference, name) if !name.is_empty() => "reference:[type]",
        (Kind::Composite, _) => "composite",
        _ => return None,
    })
}

fn identifiers_of_references(value: &Value) -> Vec<Typed<'_>> {
    match value {
        Value::Array(items) => items.iter().flat_map(identifiers_of_references).collect(),
        Value::Object(members) => {
            let own = members
                .get("identifier")
                .filter(|i| i.is_object() && !members.contains_key("resourceType"));
            let own = own.map(|i| Typed::Coded {
                system: i["system"].as_str(),
                code: i["value"].as_str(),
            });
            own.into_iter()
                .chain(members.values().flat_map(identifiers_of_references))
                .collect()
        }
        _ => Vec::new(),
    }
}
