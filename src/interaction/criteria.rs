//! The searches of conditional interactions: If-None-Exist, conditional update and delete, conditional references.
//!
//! The ministry's Bundles search by bare value (`Patient?identifier=GTWGWY82B42G920M`), and in one Bundle the same value stands under two
//! systems. The body says which is meant: its identifier with this value gives the system, so two Organizations stay two.
//! Spec: <https://hl7.org/fhir/R4/http.html#cond-update>.

use crate::fhir::identity::hash;
use crate::fhir::json::Value;
use crate::interaction::Service;
use crate::interaction::bounded_pairs;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::contained::Asked;
use crate::search::parse::Handling;
use crate::search::parse::Parser;
use crate::search::term::Token;
use crate::search::term::term;
use crate::search::value::split::split_token;
use crate::search::value::split::split_values;
use crate::store::unit::Criteria;
use crate::store::unit::identifiers;
use std::collections::BTreeSet;

/// Reads the criteria of a conditional interaction on a type. `body` is the resource that comes with it.
/// Errors: 400 or 412 naming the parameter.
pub fn criteria(service: &Service, type_name: &str, query: &str, body: Option<Value<'_>>) -> Result<Criteria, Outcome> {
    criteria_of(service, type_name, &bounded_pairs(service, query)?, body)
}

/// The same of parameters that have been read.
pub fn criteria_of(service: &Service, type_name: &str, pairs: &[(String, String)], body: Option<Value<'_>>) -> Result<Criteria, Outcome> {
    let type_number = service.type_number(type_name)?;
    if let [(name, value)] = pairs
        && name == "identifier"
        && !value.contains([',', '\\'])
    {
        return identifier(service, type_name, type_number, value, body);
    }
    let registry = service.store.registry();
    let parser = Parser {
        registry: &registry,
        limits: &service.limits,
        handling: Handling::Strict,
        base: &service.limits.base_url,
        now: service.store.clock.now(),
        is_past: false,
        contained: Asked::default(),
    };
    let condition = parser.criteria(type_name, pairs)?;
    // What they stand for may be another thing by the time that the criteria are decided under their locks.
    if !condition.lookups().is_empty() {
        return Err(Outcome::not_supported(
            "A conditional interaction cannot search by :text, :in, :not-in, :above, :below or _profile:below: search by codes",
        ));
    }
    // Identifiers among other parameters have the locks that they have alone: both could match the same resource.
    let values = pairs
        .iter()
        .filter(|(name, _)| name == "identifier")
        .flat_map(|(_, text)| split_values(text));
    let mut locks: Vec<i64> = values
        .map(|value| split_token(&value).1)
        .filter(|code| !code.is_empty())
        .map(|code| Criteria::lock_of_identifier(type_name, &code))
        .collect();
    if locks.is_empty() {
        let mut sorted: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        sorted.sort_unstable();
        locks.push(hash(&[type_name, &sorted.join("&")]));
    }
    Ok(Criteria {
        type_number,
        locks,
        condition,
        must_hold: None,
        matches_max: 1,
        custom: registry.may_read_custom(pairs).then(|| registry.generation()),
    })
}

fn identifier(service: &Service, type_name: &str, type_number: i16, value: &str, body: Option<Value<'_>>) -> Result<Criteria, Outcome> {
    let registry = service.store.registry();
    let parameter = registry.of(type_name).and_then(|of| of.get("identifier"));
    let parameter = parameter.ok_or_else(|| Outcome::not_supported(format!("{type_name} has no search parameter identifier")))?;
    let (system, code) = match value.split_once('|') {
        Some((system, code)) => (Some(system.to_owned()), code),
        None => (body.and_then(|body| system_of(body, value)), value),
    };
    if code.is_empty() {
        return Err(Outcome::precondition(
            "A conditional interaction by identifier needs the identifier's value",
        ));
    }
    let token = match &system {
        Some(system) if system.is_empty() => Token::CodeWithoutSystem(code),
        Some(system) => Token::SystemAndCode(system, code),
        None => Token::Code(code),
    };
    Ok(Criteria {
        type_number,
        locks: vec![Criteria::lock_of_identifier(type_name, code)],
        condition: Condition::Terms(parameter.salts.iter().map(|salt| term(*salt, token)).collect()),
        must_hold: Some(code.to_owned()),
        matches_max: 1,
        custom: None,
    })
}

/// The system under which the body has this identifier; `None` if there is none, or more than one.
fn system_of(body: Value<'_>, value: &str) -> Option<String> {
    let with_value = identifiers(body).filter(|i| i.get_str("value").is_some_and(|v| v == value));
    let systems: BTreeSet<String> = with_value
        .map(|i| i.get_str("system").map(|s| s.into_owned()).unwrap_or_default())
        .collect();
    if systems.len() == 1 { systems.into_iter().next() } else { None }
}
