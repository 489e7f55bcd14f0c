//! Searches made from the definitions of the search parameters: the grammar of each type of parameter, with seeded mistakes.

use crate::resources::Resources;
use crate::values::CODES;
use crate::values::DATES;
use crate::values::FAMILIES;
use crate::values::NUMBERS;
use crate::values::ODD_TEXTS;
use crate::values::SYSTEMS;
use crate::values::URIS;
use crate::values::WORDS;
use crate::values::mutated;
use crate::values::pick;
use eds::fhir::definitions::model::SearchParameter;
use eds::fhir::definitions::model::SearchParameterKind;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

const PREFIXES: [&str; 11] = ["", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"];
/// Deeper than the server allows, so that its bound is met too.
const CHAIN_DEPTH_MAX: usize = 5;

pub type Pairs = Vec<(String, String)>;

impl Resources {
    /// The parameters of a search on a type, not yet encoded.
    pub fn search(&self, rng: &mut StdRng, type_name: &str) -> Pairs {
        let mut pairs: Pairs = (0..rng.random_range(0..4)).map(|_| self.condition(rng, type_name, 0)).collect();
        for name in [
            "_sort",
            "_count",
            "_total",
            "_summary",
            "_elements",
            "_include",
            "_revinclude",
            "_include:iterate",
            "_cursor",
            "_format",
        ] {
            let likely = match name {
                "_count" => 0.4,
                "_cursor" | "_format" => 0.01,
                "_sort" => 0.2,
                _ => 0.08,
            };
            if rng.random_bool(likely) {
                let value = self.result_value(rng, type_name, name);
                pairs.push((name.to_owned(), value));
            }
        }
        if rng.random_bool(0.08) {
            spoil(rng, &mut pairs);
        }
        pairs
    }

    /// Conditions alone, for conditional interactions.
    pub fn criteria(&self, rng: &mut StdRng, type_name: &str) -> Pairs {
        let identifier = format!("{}-{}", self.prefix, rng.random_range(0..20));
        let mut pairs = match rng.random_range(0..4) {
            0 => vec![self.condition(rng, type_name, 0)],
            1 => vec![("identifier".to_owned(), format!("urn:s:1|{identifier}"))],
            2 => vec![("_id".to_owned(), self.id(rng))],
            _ => vec![("identifier".to_owned(), identifier)],
        };
        if rng.random_bool(0.1) {
            spoil(rng, &mut pairs);
        }
        pairs
    }

    fn condition(&self, rng: &mut StdRng, type_name: &str, depth: usize) -> (String, String) {
        let parameters: Vec<&SearchParameter> = self.definitions.search_parameters_of(type_name).collect();
        // One in forty is of those that the server says it does not have.
        let is_supported =
            |p: &&SearchParameter| p.kind != SearchParameterKind::Special && !["_text", "_content"].contains(&p.code.as_str());
        let usual: Vec<&SearchParameter> = parameters.iter().copied().filter(is_supported).collect();
        let Some(parameter) = (if rng.random_bool(0.975) { usual } else { parameters }).choose(rng).copied() else {
            return ("_id".to_owned(), self.id(rng));
        };
        if depth < CHAIN_DEPTH_MAX && parameter.kind == SearchParameterKind::Reference && rng.random_bool(0.4) {
            return self.chain(rng, parameter, depth);
        }
        if depth < CHAIN_DEPTH_MAX && rng.random_bool(0.08) {
            return self.reverse_chain(rng, type_name, depth);
        }
        let modifiers: &[&str] = match parameter.kind {
            SearchParameterKind::String => &["exact", "exact", "contains", "contains", "missing", "text"],
            SearchParameterKind::Token => &["not", "not", "not", "missing", "missing"],
            SearchParameterKind::Reference => &["identifier", "identifier", "missing", "Patient", "Patient", "Nosuch"],
            SearchParameterKind::Uri => &["above", "below", "missing"],
            _ => &["missing"],
        };
        if rng.random_bool(0.25) {
            let modifier = pick(rng, modifiers);
            let value = match modifier {
                "missing" => pick(rng, &["true", "false"]).to_owned(),
                _ => self.parameter_value(rng, parameter),
            };
            return (format!("{}:{modifier}", parameter.code), value);
        }
        let count = if rng.random_bool(0.8) { 1 } else { rng.random_range(2..6) };
        let values: Vec<String> = (0..count).map(|_| self.parameter_value(rng, parameter)).collect();
        (parameter.code.clone(), values.join(","))
    }

    /// `subject:Patient.name`
    fn chain(&self, rng: &mut StdRng, parameter: &SearchParameter, depth: usize) -> (String, String) {
        let target = parameter.targets.choose(rng).cloned().unwrap_or_else(|| "Patient".to_owned());
        let (inner, value) = self.condition(rng, &target, depth + 1);
        let name = match rng.random_bool(0.6) {
            true => format!("{}:{target}.{inner}", parameter.code),
            false => format!("{}.{inner}", parameter.code),
        };
        (name, value)
    }

    /// `_has:Observation:patient:code`
    fn reverse_chain(&self, rng: &mut StdRng, type_name: &str, depth: usize) -> (String, String) {
        let source = self.type_name(rng);
        let links: Vec<&SearchParameter> = self
            .definitions
            .search_parameters_of(&source)
            .filter(|p| p.kind == SearchParameterKind::Reference && (p.targets.is_empty() || p.targets.iter().any(|t| t == type_name)))
            .collect();
        let link = links.choose(rng).map_or("subject", |link| link.code.as_str());
        let (inner, value) = self.condition(rng, &source, depth + 1);
        (format!("_has:{source}:{link}:{inner}"), value)
    }

    fn parameter_value(&self, rng: &mut StdRng, parameter: &SearchParameter) -> String {
        let value = match parameter.kind {
            SearchParameterKind::Number => format!("{}{}", pick(rng, &PREFIXES), pick(rng, &NUMBERS)),
            SearchParameterKind::Date => format!("{}{}", pick(rng, &PREFIXES), pick(rng, &DATES)),
            SearchParameterKind::String => format!("{}{}", pick(rng, &FAMILIES), pick(rng, &["", " ", "rosso", "Straße"])),
            SearchParameterKind::Token => self.token(rng),
            SearchParameterKind::Reference => {
                let target = parameter.targets.choose(rng).cloned().unwrap_or_else(|| "Patient".to_owned());
                let id = self.id(rng);
                match rng.random_range(0..5) {
                    0 => id,
                    1 => format!("http://example.org/fhir/{target}/{id}"),
                    2 => format!("{target}/{id}/_history/2"),
                    _ => format!("{target}/{id}"),
                }
            }
            SearchParameterKind::Composite => {
                let parts: Vec<String> = parameter.components.iter().map(|(url, _)| self.component(rng, url)).collect();
                parts.join("$")
            }
            SearchParameterKind::Quantity => {
                let unit = pick(rng, &["", "", "|http://unitsofmeasure.org|mm[Hg]", "||mg", "|x"]);
                format!("{}{}{unit}", pick(rng, &PREFIXES), pick(rng, &NUMBERS))
            }
            SearchParameterKind::Uri => pick(rng, &URIS).to_owned(),
            SearchParameterKind::Special => pick(rng, &WORDS).to_owned(),
        };
        match rng.random_range(0..40) {
            0 | 1 => mutated(rng, &value),
            2 => pick(rng, &ODD_TEXTS).to_owned(),
            _ => value,
        }
    }

    fn component(&self, rng: &mut StdRng, url: &str) -> String {
        let part = self.definitions.model().search_parameters.iter().find(|p| p.url == url);
        match part.filter(|p| p.kind != SearchParameterKind::Composite) {
            Some(part) => self.parameter_value(rng, part),
            None => "x".to_owned(),
        }
    }

    fn token(&self, rng: &mut StdRng) -> String {
        let (system, code) = (pick(rng, &SYSTEMS), pick(rng, &CODES).replace(',', "\\,"));
        match rng.random_range(0..6) {
            0 => format!("{system}|{code}"),
            1 => format!("|{code}"),
            2 => format!("{system}|"),
            3 => format!("{}-{}", self.prefix, rng.random_range(0..20)),
            4 => pick(rng, &["true", "male", "active", "a|b|c"]).to_owned(),
            _ => code,
        }
    }

    fn result_value(&self, rng: &mut StdRng, type_name: &str, name: &str) -> String {
        let parameters: Vec<&SearchParameter> = self.definitions.search_parameters_of(type_name).collect();
        let code = parameters.choose(rng).map_or("_id", |p| p.code.as_str());
        let references: Vec<&&SearchParameter> = parameters.iter().filter(|p| p.kind == SearchParameterKind::Reference).collect();
        let link = references.choose(rng).map_or("*", |p| p.code.as_str());
        match name {
            "_sort" => {
                let is_ordered = |p: &&&SearchParameter| {
                    [
                        SearchParameterKind::Date,
                        SearchParameterKind::Number,
                        SearchParameterKind::Quantity,
                        SearchParameterKind::String,
                    ]
                    .contains(&p.kind)
                };
                let ordered: Vec<&str> = parameters.iter().filter(is_ordered).map(|p| p.code.as_str()).collect();
                let key = if rng.random_bool(0.9) { pick(rng, &ordered) } else { code };
                format!("{}{key}{}", pick(rng, &["", "-"]), pick(rng, &["", "", ",_id", ",-_lastUpdated"]))
            }
            "_count" => pick(rng, &["0", "1", "1", "2", "2", "3", "3", "20", "1000", "1001"]).to_owned(),
            "_total" => pick(rng, &["none", "estimate", "accurate"]).to_owned(),
            "_summary" => pick(rng, &["true", "text", "data", "count", "false"]).to_owned(),
            "_elements" => pick(rng, &["id", "name,code", "subject.reference", ",", "é"]).to_owned(),
            "_revinclude" => {
                let source = self.type_name(rng);
                let is_link = |p: &&SearchParameter| p.kind == SearchParameterKind::Reference;
                let links: Vec<&SearchParameter> = self.definitions.search_parameters_of(&source).filter(is_link).collect();
                format!("{source}:{}", links.choose(rng).map_or("*", |p| p.code.as_str()))
            }
            "_cursor" => pick(rng, &["", "AAAA", "x"]).to_owned(),
            "_format" => pick(rng, &["json", "application/fhir+json", "xml", "é"]).to_owned(),
            _ => format!("{type_name}:{link}{}", pick(rng, &["", "", "", ":Patient", ":x"])),
        }
    }
}

/// A mistake in a name or a value.
fn spoil(rng: &mut StdRng, pairs: &mut Pairs) {
    if pairs.is_empty() {
        pairs.push((pick(rng, &ODD_TEXTS).to_owned(), pick(rng, &ODD_TEXTS).to_owned()));
        return;
    }
    let at = rng.random_range(0..pairs.len());
    match rng.random_range(0..4) {
        0 => pairs[at].0 = mutated(rng, &pairs[at].0.clone()),
        1 => pairs[at].1 = mutated(rng, &pairs[at].1.clone()),
        2 => {
            let again = pairs[at].clone();
            pairs.resize(rng.random_range(1..80), again);
        }
        _ => pairs[at].1 = vec![pairs[at].1.clone(); rng.random_range(1..300)].join(","),
    }
}

pub fn encoded(pairs: &Pairs) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    out.extend_pairs(pairs);
    out.finish()
}
