//! References. Spec: <https://hl7.org/fhir/R4/search.html#reference>.

use crate::fhir::identity::is_id;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::own_reference;
use crate::fhir::identity::reference_hash;
use crate::fhir::identity::referenced_type;
use crate::fhir::identity::self_hash;
use crate::fhir::identity::without_version;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::condition::Hierarchy;
use crate::search::condition::Lookup;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use crate::search::term::Token;
use crate::search::term::identifier_salt;
use crate::search::term::reference_terms;
use crate::search::term::term;
use crate::search::value::Context;
use crate::search::value::bad_modifier;
use crate::search::value::split::split_token;
use crate::search::value::split::unescape;

pub fn reference(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let only = match modifier {
        Some("identifier") => return identifier(parameter, text),
        Some("below") if parameter.has_canonicals && text.contains(':') => return Ok(below_canonical(parameter, text)),
        Some(direction @ ("above" | "below")) if is_hierarchical(parameter) => {
            return hierarchy(context, parameter, direction == "above", text);
        }
        Some(name) if context.registry.of(name).is_some() => {
            if !parameter.targets.is_empty() && !parameter.targets.iter().any(|target| target == name) {
                let targets = parameter.targets.join(", ");
                return Err(Outcome::invalid(format!("{} references {targets}, not {name}", parameter.code)));
            }
            Some(name)
        }
        Some(modifier) => return Err(bad_modifier(parameter, modifier)),
        // A parameter that is filtered by a type shares its terms with the path without the filter.
        None => parameter.target_filter.as_deref(),
    };
    let mut is_of_no_type = false;
    let text = unescape(text);
    let reference = without_version(own_reference(&text, context.base_url));
    let mut targets: Vec<i64> = if let Some(local) = local_reference(reference) {
        if only.is_some_and(|only| only != local.type_name) {
            return Ok(Condition::nothing());
        }
        vec![self_hash(local.type_name, local.id)]
    } else if is_id(reference) {
        let types: Vec<&str> = match only {
            Some(only) => vec![only],
            None => parameter.targets.iter().map(String::as_str).collect(),
        };
        types.iter().map(|t| self_hash(t, reference)).collect()
    } else {
        // A URN does not tell its type.
        let type_name = referenced_type(reference);
        if only.is_some_and(|only| type_name.is_some_and(|other| other != only)) {
            return Ok(Condition::nothing());
        }
        is_of_no_type = type_name.is_none();
        vec![reference_hash(reference)]
    };
    if reference.len() < without_version(&text).len() {
        // As it stands where the address of the server is not set, and hence not known to the index.
        targets.push(reference_hash(without_version(&text)));
    }
    let terms = Condition::Terms(reference_terms(&parameter.salts, &targets));
    match is_of_no_type && parameter.target_filter.is_some() {
        // Its resource may tell the type: then the parameter has it, and not otherwise.
        true => Ok(Condition::All(vec![terms, present(context.of, parameter)])),
        false => Ok(terms),
    }
}

/// The parameter has a value.
fn present(of: &TypeParameters, parameter: &Parameter) -> Condition {
    match &parameter.custom {
        Some(reading) => Condition::Terms(vec![reading.presence]),
        None => Condition::negated(Condition::Missing(of.number, 1i64 << parameter.bit)),
    }
}

/// `:below` of canonical URLs: `url|1` is any version that begins so, and `url` any at all. <https://hl7.org/fhir/R4/search.html#versions>
fn below_canonical(parameter: &Parameter, text: &str) -> Condition {
    let canonical = unescape(text);
    match canonical.contains('|') {
        true => Condition::Lookup(Lookup::Versions {
            keys: parameter.keys.clone(),
            canonical,
        }),
        false => Condition::Terms(reference_terms(&parameter.salts, &[reference_hash(&canonical)])),
    }
}

/// Types whose resources are part of others of the type, and the parameter that tells of which: <https://hl7.org/fhir/R4/references.html#circular>.
const HIERARCHIES: &[(&str, &str)] = &[
    ("CarePlan", "part-of"),
    ("Communication", "part-of"),
    ("Encounter", "part-of"),
    ("Location", "partof"),
    ("MedicationStatement", "part-of"),
    ("Organization", "partof"),
    ("Procedure", "part-of"),
    ("ResearchStudy", "partof"),
    ("Task", "part-of"),
];

/// Whether a parameter references what is part of another: then it takes `:above` and `:below`.
pub fn is_hierarchical(parameter: &Parameter) -> bool {
    let targets = match &parameter.target_filter {
        Some(only) => std::slice::from_ref(only),
        None => parameter.targets.as_slice(),
    };
    HIERARCHIES.iter().any(|(name, _)| targets.iter().any(|target| target == name))
}

/// `:above` and `:below`: <https://hl7.org/fhir/R4/search.html#recursive>. Errors: 400 for a type that has no hierarchy.
fn hierarchy(context: &Context<'_>, parameter: &Parameter, is_above: bool, text: &str) -> Result<Condition, Outcome> {
    let text = unescape(text);
    let reference = without_version(own_reference(&text, context.base_url));
    let (types, id): (Vec<&str>, &str) = match local_reference(reference) {
        Some(local) => (vec![local.type_name], local.id),
        None if is_id(reference) => (parameter.targets.iter().map(String::as_str).collect(), reference),
        None => {
            let text = format!(
                "{}:above and :below take the id, or [type]/[id], of a resource of this server",
                parameter.code
            );
            return Err(Outcome::invalid(text));
        }
    };
    let has = |name: &str| {
        parameter.targets.iter().any(|target| target == name) && parameter.target_filter.as_deref().is_none_or(|only| only == name)
    };
    let mut alternatives = Vec::new();
    for (name, link) in HIERARCHIES.iter().filter(|(name, _)| types.contains(name) && has(name)) {
        let Some(of) = context.registry.of(name) else { continue };
        let links = of.get(link).map(|link| link.salts.clone()).unwrap_or_default();
        alternatives.push(Condition::Lookup(Lookup::Hierarchy(Hierarchy {
            salts: parameter.salts.clone(),
            root: self_hash(name, id),
            type_number: of.number,
            links,
            is_above,
        })));
    }
    match alternatives.is_empty() {
        true => {
            let names = HIERARCHIES
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| has(name))
                .collect::<Vec<_>>();
            let text = format!(
                "{}:above and :below are of what is part of others: {}",
                parameter.code,
                names.join(", ")
            );
            Err(Outcome::invalid(text))
        }
        false => Ok(Condition::any(alternatives)),
    }
}

/// `:identifier`: Reference.identifier, in the forms of a token. <https://hl7.org/fhir/R4/search.html#reference>
fn identifier(parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    let (system, value) = split_token(text);
    let token = match (&system, value.as_str()) {
        (None, "") => return Err(needs_identifier(parameter)),
        (Some(system), "") if system.is_empty() => return Err(needs_identifier(parameter)),
        (Some(system), "") => Token::IdentifierSystem(system),
        (Some(system), value) if system.is_empty() => Token::IdentifierWithoutSystem(value),
        (Some(system), value) => Token::IdentifierSystemAndValue(system, value),
        (None, value) => Token::IdentifierValue(value),
    };
    let target = parameter.target_filter.as_deref();
    let salts = parameter.salts.iter().map(|salt| identifier_salt(*salt, target));
    Ok(Condition::Terms(salts.map(|salt| term(salt, token)).collect()))
}

fn needs_identifier(parameter: &Parameter) -> Outcome {
    Outcome::invalid(format!("{}:identifier is value, system|value, |value or system|", parameter.code))
}
