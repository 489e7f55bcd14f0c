//! Random searches of several types at once: on the whole system, and in all of a compartment.

use crate::evaluator::Query;
use crate::population::pick;
use crate::population::pools;
use crate::queries::Asked;
use crate::queries::Features;
use crate::queries::Generator;
use crate::queries::is_in;
use crate::queries::searchable;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::SearchParameterKind as Kind;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;

impl<'s> Generator<'s> {
    pub fn of_several_types(&self, rng: &mut StdRng) -> Asked {
        let mut features = Features::new();
        let mut pairs = Vec::new();
        let compartment = match rng.random_bool(0.4) {
            true => definitions().model().compartments.choose(rng),
            false => None,
        };
        let is_here = |name: &&str| compartment.is_none_or(|compartment| is_in(compartment, name));
        let mut types: Vec<&str> = self.types.iter().copied().filter(is_here).collect();
        let is_named = types.is_empty() || rng.random_bool(0.7);
        if types.is_empty() {
            types = self.types.clone();
        }
        let path = match compartment.filter(|c| types.iter().any(|name| is_in(c, name))) {
            Some(compartment) => {
                features.push("compartment of all types");
                format!("{}/{}/*", compartment.code, pick(rng, pools::IDS))
            }
            None => {
                features.push("system");
                String::new()
            }
        };
        if is_named {
            let count = rng.random_range(1..=3);
            let mut named: Vec<&str> = types.choose_multiple(rng, count).copied().collect();
            named.sort_unstable();
            named.dedup();
            pairs.push(("_type".to_owned(), named.join(",")));
            features.push("_type");
            types = named;
        } else {
            types.dedup();
        }
        let focused = *types.choose(rng).expect("a type");
        let all: Vec<&Value> = self.store.of_type(focused).collect();
        let focus = all.choose(rng).copied().filter(|_| rng.random_bool(0.8));
        for _ in 0..*[0, 1, 1, 2].choose(rng).expect("a number") {
            let kind_of = |name: &&str, code: &str| definitions().search_parameter(name, code).map(|p| p.kind);
            let common: Vec<_> = searchable(focused)
                .filter(|p| types.iter().all(|name| kind_of(name, &p.code) == Some(p.kind)))
                .collect();
            // What is common may yet be asked in a way that is not.
            for attempt in 0..4 {
                let mut its = Features::new();
                let (name, value) = match attempt {
                    0 if rng.random_bool(0.3) => self.condition(rng, focused, focus, 1, &mut its),
                    _ => {
                        let own: Vec<_> = common.iter().filter(|p| !p.code.starts_with('_')).collect();
                        let parameter = own.choose(rng).copied().filter(|_| rng.random_bool(0.7));
                        let parameter = parameter.or_else(|| common.choose(rng)).expect("_id and _lastUpdated at least");
                        self.of_parameter(rng, focused, focus, parameter, &mut its)
                    }
                };
                if is_common(&types, focused, &name, &value) {
                    pairs.push((name, value));
                    features.extend(its);
                    break;
                }
            }
        }
        if types.len() > 1 && pairs.iter().any(|(name, _)| !name.starts_with('_')) {
            features.push("parameter of several types");
        }
        self.result_parameters(rng, focused, &types, &mut pairs, &mut features);
        features.sort_unstable();
        features.dedup();
        Asked {
            query: Query { path, pairs },
            features,
        }
    }
}

/// Whether all these types can be asked the same: each has the parameter, of one kind.
fn is_common(types: &[&str], focused: &str, name: &str, value: &str) -> bool {
    let all = |is: &dyn Fn(&str) -> bool| types.iter().all(|name| is(name));
    if let Some(rest) = name.strip_prefix("_has:") {
        let mut parts = rest.split(':');
        let (source, link) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let link = definitions().search_parameter(source, link).expect("a parameter");
        return all(&|name| link.targets.iter().any(|target| target == name));
    }
    let code = name.split(['.', ':']).next().unwrap_or_default();
    match code {
        "_list" | "_text" | "_content" => return true,
        // Its names may be of one type only.
        "_filter" | "near" => return types == [focused],
        _ => {}
    }
    let of = |name: &str| definitions().search_parameter(name, code);
    let one = of(focused).expect("a parameter");
    // How codes are written, and whether they say their system, is of each type.
    let is_of_one_form = match one.kind {
        Kind::Token => code.starts_with('_') || types == [focused] || !value.contains('|') && !name.contains(':'),
        Kind::Composite | Kind::Reference => types == [focused] || of_targets(types, code, name, value),
        _ => true,
    };
    is_of_one_form && all(&|name| of(name).is_some_and(|other| other.kind == one.kind))
}

/// Whether all may refer to what a reference, or a chain, asks for.
fn of_targets(types: &[&str], code: &str, name: &str, value: &str) -> bool {
    let of = |name: &str| definitions().search_parameter(name, code);
    let Some(one) = of(types[0]) else { return false };
    let is_typed = !name.contains('.') || name.split('.').next().is_some_and(|link| link.contains(':'));
    let is_same = types
        .iter()
        .all(|name| of(name).is_some_and(|other| other.kind == Kind::Reference && other.targets == one.targets));
    let is_plain = !value.contains('|') || name.contains('.') || name.ends_with(":identifier");
    is_typed && is_same && is_plain
}
