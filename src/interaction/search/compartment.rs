//! Compartments. Spec: <https://hl7.org/fhir/R4/compartmentdefinition.html>.

use crate::fhir::identity::check_id;
use crate::fhir::identity::self_hash;
use crate::interaction::Service;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::term::reference_term;

/// Every resource of the type that the compartment's parameters link to its owner.
pub fn compartment_condition(service: &Service, type_name: &str, code: &str, id: &str) -> Result<Condition, Outcome> {
    check_id(id)?;
    let registry = &service.store.registry();
    let compartment = registry
        .definitions
        .compartment(code)
        .ok_or_else(|| Outcome::not_found(&format!("Compartment {code}")))?;
    let members = compartment
        .members
        .iter()
        .find(|(name, _)| name == type_name)
        .map(|(_, codes)| codes.as_slice())
        .unwrap_or_default();
    let of = registry
        .of(type_name)
        .ok_or_else(|| Outcome::not_found(&format!("Resource type {type_name}")))?;
    let owner = self_hash(code, id);
    let terms: Vec<i64> = members
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
