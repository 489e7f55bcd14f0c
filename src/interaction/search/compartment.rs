//! Compartments. Spec: <https://hl7.org/fhir/R4/compartmentdefinition.html>.

use crate::fhir::definitions::model::Compartment;
use crate::fhir::identity::check_id;
use crate::fhir::identity::self_hash;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::Registry;
use crate::search::term::reference_term;

fn compartment<'r>(registry: &'r Registry, code: &str) -> Result<&'r Compartment, Outcome> {
    let unknown = || Outcome::not_found(&format!("Compartment {}", crate::search::value::shown(code)));
    registry.definitions.compartment(code).ok_or_else(unknown)
}

/// The types of a compartment. Errors: 404 if there is no such compartment.
pub fn members<'r>(registry: &'r Registry, code: &str) -> Result<Vec<&'r str>, Outcome> {
    let members = compartment(registry, code)?.members.iter();
    Ok(members
        .filter(|(_, codes)| !codes.is_empty())
        .map(|(name, _)| name.as_str())
        .collect())
}

/// Every resource of the type that the compartment's parameters link to its owner. Errors: 404, 400 for a type outside the compartment.
pub fn condition(registry: &Registry, type_name: &str, code: &str, id: &str) -> Result<Condition, Outcome> {
    check_id(id)?;
    let members = &compartment(registry, code)?.members;
    let codes = members
        .iter()
        .find(|(name, _)| name == type_name)
        .map(|(_, codes)| codes.as_slice());
    let of = registry
        .of(type_name)
        .ok_or_else(|| Outcome::not_found(&format!("Resource type {}", crate::search::value::shown(type_name))))?;
    let owner = self_hash(code, id);
    let terms: Vec<i64> = codes
        .unwrap_or_default()
        .iter()
        .filter_map(|m| of.get(m))
        .flat_map(|p| &p.salts)
        .map(|salt| reference_term(*salt, owner))
        .collect();
    let mut alternatives = Vec::new();
    if code == type_name {
        alternatives.push(Condition::Ids(vec![owner]));
    }
    if !terms.is_empty() {
        alternatives.push(Condition::Terms(terms));
    }
    if alternatives.is_empty() {
        return Err(Outcome::invalid(format!("{type_name} is not part of the {code} compartment")));
    }
    Ok(Condition::any(alternatives))
}
