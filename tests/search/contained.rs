//! Random contained resources, and searches among them. <https://hl7.org/fhir/R4/search.html#contained>

use crate::evaluator::Query;
use crate::evaluator::container_of;
use crate::population::Draw;
use crate::population::LEFT_OUT;
use crate::population::pick;
use crate::queries::Asked;
use crate::queries::Features;
use crate::queries::Generator;
use crate::queries::searchable;
use eds::fhir::definitions::model::SearchParameterKind as Kind;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// The first are ids of resources too: a server that mixes them up is found out.
const IDS: [&str; 4] = ["1", "a", "x-1.y", "c"];
/// Types of what is contained, although nothing refers to it.
const UNLINKED: [&str; 4] = ["Observation", "Patient", "Location", "Medication"];

impl Draw {
    /// Contained resources, mostly of types that the resource refers to: some of its references, and of theirs, lead to them from now on.
    pub fn contain(&self, rng: &mut StdRng, container: &mut Value) {
        let type_name = container["resourceType"].as_str().expect("a type").to_owned();
        let mut referenced = BTreeSet::new();
        for_each_reference(container, &mut |reference| referenced.extend(type_of(reference).map(str::to_owned)));
        referenced.retain(|name| !LEFT_OUT.contains(&name.as_str()));
        let referenced: Vec<&str> = referenced.iter().map(String::as_str).collect();
        let mut types: Vec<&str> = referenced.choose_multiple(rng, 2).copied().collect();
        if rng.random_bool(0.3) {
            types.extend(types.choose(rng).copied());
        }
        if rng.random_bool(0.2) {
            types.push(pick(rng, &UNLINKED));
        }
        let ids: Vec<&str> = IDS.choose_multiple(rng, types.len()).copied().collect();
        let mut contained: Vec<Value> = types.iter().zip(&ids).map(|(name, id)| self.alone(rng, name, id)).collect();
        let locals: Vec<(&str, &str)> = types.into_iter().zip(ids).collect();
        self.lead(rng, container, &locals);
        // A canonical leads to what is contained as well.
        if let Some(canonical) = container.pointer_mut("/instantiatesCanonical/0").filter(|_| rng.random_bool(0.5)) {
            contained.push(self.alone(rng, "PlanDefinition", "plan"));
            *canonical = json!("#plan");
        }
        for resource in &mut contained {
            // "If a resource is contained in another resource, it SHALL NOT have a security label" (dom-5).
            if let Some(meta) = resource.get_mut("meta").and_then(Value::as_object_mut) {
                meta.shift_remove("security");
                if meta.is_empty() {
                    resource["meta"] = json!({"tag": [{"code": "a"}]});
                }
            }
            let own = resource["id"].as_str().expect("an id").to_owned();
            // To the others, and to the container.
            let mut others: Vec<(&str, &str)> = locals.iter().copied().filter(|(_, id)| *id != own).collect();
            others.push((&type_name, ""));
            self.lead(rng, resource, &others);
        }
        if !contained.is_empty() {
            container["contained"] = Value::Array(contained);
        }
    }

    /// Lets some references lead to what has their type, and this id.
    fn lead(&self, rng: &mut StdRng, resource: &mut Value, locals: &[(&str, &str)]) {
        for_each_reference(resource, &mut |reference| {
            let type_name = type_of(reference);
            let fit: Vec<&str> = locals
                .iter()
                .filter(|(name, _)| type_name == Some(*name))
                .map(|(_, id)| *id)
                .collect();
            if let Some(id) = fit.choose(rng).filter(|_| rng.random_bool(0.6)) {
                reference.insert("reference".to_owned(), json!(format!("#{id}")));
                if rng.random_bool(0.15) {
                    reference.insert("identifier".to_owned(), self.identifier(rng));
                }
            }
        });
    }
}

/// `Patient/1` tells the type.
fn type_of(reference: &Map<String, Value>) -> Option<&str> {
    let (type_name, _) = reference["reference"].as_str()?.split_once('/')?;
    type_name.chars().all(char::is_alphanumeric).then_some(type_name)
}

fn for_each_reference(value: &mut Value, then: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_reference(item, then)),
        Value::Object(members) if members.get("reference").is_some_and(Value::is_string) => then(members),
        Value::Object(members) => members.iter_mut().for_each(|(_, member)| for_each_reference(member, then)),
        _ => {}
    }
}

impl Generator<'_> {
    /// `None` if nothing is contained.
    pub fn of_contained(&self, rng: &mut StdRng) -> Option<Asked> {
        let all: Vec<&Value> = self.store.contained().values().collect();
        let drawn = *all.choose(rng)?;
        let type_name = drawn["resourceType"].as_str()?;
        let focus = Some(drawn).filter(|_| rng.random_bool(0.85));
        let mut features = Features::new();
        let mut pairs = Vec::new();
        let count = *[0, 1, 1, 1, 1, 2].choose(rng)?;
        while pairs.len() < count {
            let mut its = Features::new();
            let pair = self.condition(rng, type_name, focus, 0, &mut its);
            // "_text and _content look into resources as a whole": refused.
            if !its.iter().any(|feature| ["_text", "_content"].contains(feature)) {
                pairs.push(pair);
                features.extend(its);
            }
        }
        if count > 1 {
            features.push("and");
        }
        self.result_parameters(rng, type_name, &[], &mut pairs, &mut features);
        let (searched, feature) = match rng.random_bool(0.65) {
            true => ("true", "_contained=true"),
            false => ("both", "_contained=both"),
        };
        pairs.push(("_contained".to_owned(), searched.to_owned()));
        features.push(feature);
        match rng.random_range(0..4) {
            0 | 1 => {
                pairs.push(("_containedType".to_owned(), "contained".to_owned()));
                features.push("_containedType=contained");
            }
            kind => {
                if kind == 2 {
                    pairs.push(("_containedType".to_owned(), "container".to_owned()));
                }
                self.answer_containers(rng, drawn, &mut pairs, &mut features);
            }
        }
        features.sort_unstable();
        features.dedup();
        let path = type_name.to_owned();
        Some(Asked {
            query: Query { path, pairs },
            features,
        })
    }

    /// Containers are of any type: they are sorted by what all have, and what one refers to is included.
    fn answer_containers(&self, rng: &mut StdRng, drawn: &Value, pairs: &mut Vec<(String, String)>, features: &mut Features) {
        for (_, order) in pairs.iter_mut().filter(|(name, _)| name == "_sort") {
            *order = pick(rng, &["_id", "-_id", "_lastUpdated", "-_lastUpdated,_id"]).to_owned();
            features.retain(|feature| !feature.starts_with("_sort"));
            features.push("_sort");
        }
        let Some(type_name) = container_of(drawn).and_then(|container| container["resourceType"].as_str()) else {
            return;
        };
        let links: Vec<_> = searchable(type_name).filter(|p| p.kind == Kind::Reference).collect();
        if let Some(link) = links.choose(rng).filter(|_| rng.random_bool(0.1)) {
            pairs.push(("_include".to_owned(), format!("{type_name}:{}", link.code)));
            features.push("_include");
        }
    }
}
