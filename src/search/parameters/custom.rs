//! The registry with parameters of one's own added to the standard ones.

use crate::outcome::Outcome;
use crate::search::custom::reading::Custom;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

/// A parameter that cannot be used beside the others, and why.
pub type Unusable = (Arc<Custom>, Outcome);

impl Registry {
    /// The standard parameters and these, in the order that they came; those that cannot be used are left out.
    pub fn with(&self, generation: i64, customs: Vec<Arc<Custom>>) -> (Registry, Vec<Unusable>) {
        let mut registry = Registry {
            definitions: self.definitions,
            standard: self.standard.clone(),
            types: HashMap::clone(&self.standard),
            customs: Vec::new(),
            generation,
        };
        let mut keys: HashSet<i32> = self.standard.values().flat_map(|of| of.keys()).collect();
        let mut unusable = Vec::new();
        for custom in customs {
            if let Err(outcome) = registry.add(&custom, &mut keys) {
                unusable.push((custom, outcome));
            }
        }
        (registry, unusable)
    }

    /// Errors: 409 when its code or url is taken, 422 when it reads nothing; then nothing was added.
    fn add(&mut self, custom: &Arc<Custom>, keys: &mut HashSet<i32>) -> Result<(), Outcome> {
        let definition = &custom.definition;
        let standard = &self.definitions.model().search_parameters;
        if standard.iter().any(|p| p.url == definition.url) || self.customs.iter().any(|c| c.definition.url == definition.url) {
            let text = "There is another search parameter with this url: each has its own";
            return Err(Outcome::conflict(text).with_code("duplicate").at("SearchParameter.url"));
        }
        let mut changed = Vec::new();
        for name in definition.types(self.definitions) {
            let Some(of) = self.types.get(name) else { continue };
            if let Some(taken) = of.get(&definition.code) {
                let text = format!(
                    "{name} has a search parameter with this code already, {}: choose another code",
                    taken.url
                );
                return Err(Outcome::conflict(text).with_code("duplicate").at("SearchParameter.code"));
            }
            let (parameter, reading) = custom.of(self.definitions, name)?;
            if keys.contains(&reading.key) {
                let text = "The key that names its values in the index is taken, by chance: choose another url";
                return Err(Outcome::conflict(text).at("SearchParameter.url"));
            }
            let mut of = TypeParameters::clone(of);
            of.by_code.insert(parameter.code.clone(), of.parameters.len());
            of.parameters.push(parameter);
            of.readings.push(reading);
            changed.push(of);
        }
        for of in changed {
            keys.extend(of.readings.iter().map(|reading| reading.key));
            self.types.insert(of.name.clone(), Arc::new(of));
        }
        self.customs.push(custom.clone());
        Ok(())
    }

    /// Those that are in use, complete or not.
    pub fn customs(&self) -> &[Arc<Custom>] {
        &self.customs
    }

    /// Of the parameters of one's own that it has. What is indexed with another one is not what is asked for with this.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Whether parameters of one's own may take part in a search: an answer of yes can be wrong, one of no is not. What a named query or `*`
    /// stands for is not spelled out.
    pub fn may_read_custom(&self, pairs: &[(String, String)]) -> bool {
        let mut codes = self.customs.iter().map(|custom| custom.definition.code.as_str());
        codes.any(|code| {
            let names = |text: &str| text.contains(code) || text.contains('*');
            pairs.iter().any(|(name, value)| names(name) || names(value) || name == "_query")
        })
    }
}

impl TypeParameters {
    fn keys(&self) -> impl Iterator<Item = i32> {
        self.parameters.iter().flat_map(|p| p.keys.iter().copied())
    }
}
