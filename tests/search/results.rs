//! What is asked of the answer: its order, its pages, what it includes.

use crate::population::pick;
use crate::queries::Features;
use crate::queries::Generator;
use crate::queries::searchable;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::SearchParameter;
use eds::fhir::definitions::model::SearchParameterKind as Kind;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

impl Generator<'_> {
    /// `types`: those that are searched, if they are several.
    pub fn result_parameters(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        types: &[&str],
        pairs: &mut Vec<(String, String)>,
        features: &mut Features,
    ) {
        let is_near = pairs.iter().filter(|(name, value)| name == "near" && !value.contains(',')).count() == 1;
        let mut push = |name: &str, value: String| pairs.push((name.to_owned(), value));
        if rng.random_bool(0.06) {
            match rng.random_bool(0.8) {
                true => push("_summary", "count".to_owned()),
                false => push("_count", "0".to_owned()),
            }
            features.push("_summary=count");
            return;
        }
        if rng.random_bool(if is_near { 0.4 } else { 0.15 }) {
            let types: Vec<&str> = if types.is_empty() { vec![type_name] } else { types.to_vec() };
            let mut order = sort(rng, &types, features);
            // Of one place: how far it is.
            if is_near && rng.random_bool(0.7) {
                features.push("_sort by near");
                order = format!("{}near,{order}", pick(rng, &["", "-"]));
            }
            push("_sort", order);
        }
        if rng.random_bool(0.08) {
            push("_total", "accurate".to_owned());
            features.push("_total");
        }
        for (name, likely) in [("_include", 0.04), ("_revinclude", 0.04)] {
            if rng.random_bool(likely) {
                self.includes(rng, type_name, name, &mut push, features);
            }
        }
        let count = if rng.random_bool(0.08) { rng.random_range(1..=7) } else { 1000 };
        push("_count", count.to_string());
        if count < 1000 {
            features.push("pages");
        }
    }

    fn includes(&self, rng: &mut StdRng, type_name: &str, name: &str, push: &mut impl FnMut(&str, String), features: &mut Features) {
        let is_reverse = name == "_revinclude";
        let is_iterate = rng.random_bool(0.3);
        let source = if is_reverse || is_iterate && rng.random_bool(0.5) {
            self.types.choose(rng).copied().unwrap_or(type_name)
        } else {
            type_name
        };
        let links: Vec<_> = searchable(source)
            .filter(|p| p.kind == Kind::Reference && (!is_reverse || is_iterate || p.targets.iter().any(|t| t == type_name)))
            .collect();
        let Some(link) = links.choose(rng) else { return };
        let is_all = rng.random_bool(0.15);
        let here: Vec<&String> = link.targets.iter().filter(|t| self.types.contains(&t.as_str())).collect();
        let target = match here.choose(rng) {
            Some(target) if rng.random_bool(0.3) && !is_reverse => format!(":{target}"),
            _ => String::new(),
        };
        let value = if is_all && rng.random_bool(0.3) {
            "*".to_owned()
        } else if is_all {
            format!("{source}:*")
        } else {
            format!("{source}:{}{target}", link.code)
        };
        push(&if is_iterate { format!("{name}:iterate") } else { name.to_owned() }, value);
        features.push(match (is_reverse, is_iterate) {
            (false, false) => "_include",
            (false, true) => "_include:iterate",
            (true, false) => "_revinclude",
            (true, true) => "_revinclude:iterate",
        });
        if is_all && !is_reverse {
            features.push("_include of *");
        }
    }
}

/// What all of these types can be sorted by, in one direction or the other.
fn sort(rng: &mut StdRng, types: &[&str], features: &mut Features) -> String {
    let is_ordered = |p: &SearchParameter| matches!(p.kind, Kind::Date | Kind::String | Kind::Number | Kind::Quantity) || p.code == "_id";
    let is_read = |p: &SearchParameter| matches!(p.kind, Kind::Token | Kind::Reference | Kind::Uri) && p.code != "_id";
    let is_wanted = |p: &&SearchParameter| is_ordered(p) || is_read(p);
    let is_common = |p: &&SearchParameter| {
        let of = |name: &&str| definitions().search_parameter(name, &p.code);
        types.iter().all(|name| of(name).is_some_and(|other| other.kind == p.kind))
    };
    let all: Vec<_> = searchable(types[0]).filter(is_wanted).filter(is_common).collect();
    let (read, ordered): (Vec<_>, Vec<_>) = all.into_iter().partition(|p| !is_ordered(p));
    let count = rng.random_range(1..=3);
    let mut keys = Vec::new();
    for place in 0..count {
        let by_read = if rng.random_bool(if place == 0 { 0.35 } else { 0.2 }) {
            read.choose(rng)
        } else {
            None
        };
        let key = by_read.or_else(|| ordered.choose(rng)).expect("_id and _lastUpdated at least");
        keys.push(format!("{}{}", pick(rng, &["", "-"]), key.code));
        features.push(match key.kind {
            Kind::Token if key.code != "_id" => "_sort by a token",
            Kind::Reference => "_sort by a reference",
            Kind::Uri => "_sort by a uri",
            _ => "_sort",
        });
    }
    features.push(if count > 1 { "_sort by several" } else { "_sort" });
    keys.join(",")
}
