//! The parameters of one type, from their definitions.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::SearchParameter;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::hash;
use crate::search::datatype::Datatype;
use crate::search::datatype::datatype;
use crate::search::expression;
use crate::search::expression::Path;
use crate::search::expression::Step;
use crate::search::full_text::FullText;
use crate::search::parameters::Absent;
use crate::search::parameters::Extract;
use crate::search::parameters::LEADING_PARAMETER;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use crate::search::parameters::Walk;
use crate::search::parameters::WalkNode;
use crate::search::parameters::composite::composite;
use crate::search::parameters::walk::leaves;
use crate::search::parameters::walk::path_name;
use std::collections::HashMap;

/// The parameter of each type whose date stands in the resource's own row, for search and sort; the first that the type has and that is single-valued.
const PRIMARY_DATES: &[&str] = &[
    "date",
    "birthdate",
    "onset-date",
    "authoredon",
    "authored",
    "authored-on",
    "created",
    "effective",
    "effective-time",
    "whenhandedover",
    "collected",
    "started",
    "recorded",
    "start-date",
    "period",
    "issued",
    "recorded-date",
    "sent",
    "expiration-date",
];

/// The system of booleans as tokens. <https://hl7.org/fhir/R4/search.html#token>
const BOOLEANS: &str = "http://terminology.hl7.org/CodeSystem/special-values";

pub fn compile_type(definitions: &'static Definitions, name: &str) -> Result<TypeParameters, String> {
    let number = definitions.number_of(name).ok_or_else(|| format!("{name} has no number"))?;
    let mut compiled = TypeParameters {
        name: name.to_owned(),
        number,
        parameters: Vec::new(),
        by_code: HashMap::new(),
        walk: Walk {
            nodes: vec![WalkNode::default()],
        },
        primary_date: None,
        absent_is_false: Vec::new(),
        lead: 0,
        full_text: FullText::Narrative,
        subject: 0,
        owner: 0,
        base: "".into(),
        definitions,
        readings: Vec::new(),
    };
    let mut is_multiple = Vec::new();
    for definition in definitions.search_parameters_of(name) {
        if compiled.by_code.contains_key(&definition.code) {
            continue;
        }
        let bit = u32::try_from(compiled.parameters.len()).unwrap_or(u32::MAX);
        if bit >= 64 {
            return Err(format!("{name} has more than 64 search parameters"));
        }
        compiled.by_code.insert(definition.code.clone(), compiled.parameters.len());
        let paths = expression::parse(&definition.expression).map_err(|e| format!("{}: {e}", definition.url));
        let paths = if definition.expression.is_empty() { Vec::new() } else { paths? };
        let paths: Vec<Path> = paths
            .into_iter()
            .map(|path| from_resource(name, path))
            .filter(|p| [name, "Resource", "DomainResource"].contains(&p.root.as_str()))
            .collect();
        let mut parameter = parameter(definition, bit);
        let mut multiple = paths.len() > 1;
        if definition.kind == SearchParameterKind::Composite {
            composite(definitions, &mut compiled.walk, name, definition, &paths, &mut parameter)?;
        } else if !["_id", "_lastUpdated"].contains(&definition.code.as_str()) {
            // The row itself has those two.
            for path in &paths {
                multiple |= grow(definitions, &mut compiled.walk, name, path, &mut parameter, 1i64 << bit)?;
            }
        }
        if paths.iter().any(|path| path.steps.contains(&Step::PresentAndNotFalse)) {
            let absent = |(salt, key): (&i64, &i32)| Absent {
                salt: *salt,
                key: *key,
                bits: 1i64 << bit,
            };
            compiled
                .absent_is_false
                .extend(parameter.salts.iter().zip(&parameter.keys).map(absent));
        }
        compiled.parameters.push(parameter);
        is_multiple.push(multiple);
    }
    mark_primary_date(&mut compiled, &is_multiple);
    compiled.lead = lead(&compiled);
    compiled.owner = owner(&compiled);
    compiled.subject = if compiled.lead != 0 { compiled.owner } else { 0 };
    for node in &mut compiled.walk.nodes {
        node.edges.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(compiled)
}

/// A path may leave the type out: R4's InsurancePlan.name is `name | alias`.
fn from_resource(type_name: &str, mut path: Path) -> Path {
    if path.root.starts_with(|c: char| c.is_ascii_lowercase()) {
        path.steps
            .insert(0, Step::Field(std::mem::replace(&mut path.root, type_name.to_owned())));
    }
    path
}

pub fn parameter(definition: &SearchParameter, bit: u32) -> Parameter {
    Parameter {
        code: definition.code.clone(),
        kind: definition.kind,
        salts: Vec::new(),
        keys: Vec::new(),
        bit,
        has_plain_codes: false,
        has_codes_without_case: false,
        has_codings: false,
        has_concepts: false,
        has_identifiers: false,
        has_uris_in_vocabulary: false,
        has_canonicals: false,
        target_filter: None,
        implied_systems: Vec::new(),
        is_primary_date: false,
        targets: definition.targets.clone(),
        composites: Vec::new(),
        unsupported: unsupported(definition),
        url: definition.url.clone(),
        custom: None,
    }
}

pub fn unsupported(definition: &SearchParameter) -> Option<&'static str> {
    match definition.code.as_str() {
        "_query" => Some("a named query stands beside one type, not in a chain or criteria"),
        "near" => None,
        _ if definition.kind == SearchParameterKind::Special => Some("special parameters are not supported yet"),
        _ => None,
    }
}

pub fn mark_primary_date(compiled: &mut TypeParameters, is_multiple: &[bool]) {
    let candidates = PRIMARY_DATES.iter().filter_map(|code| compiled.by_code.get(*code));
    let primary = candidates
        .copied()
        .find(|i| compiled.parameters[*i].kind == SearchParameterKind::Date && !is_multiple[*i]);
    compiled.primary_date = primary.and_then(|i| compiled.parameters[i].keys.first().copied());
    let primary = compiled.primary_date;
    let mark = |parameter: &mut Parameter| {
        parameter.is_primary_date = parameter.keys.len() == 1 && parameter.keys.first().copied() == primary;
    };
    for parameter in &mut compiled.parameters {
        mark(parameter);
        let parts = parameter.composites.iter_mut().flat_map(|composite| &mut composite.parts);
        parts.for_each(|part| mark(&mut part.parameter));
    }
}

pub fn lead(compiled: &TypeParameters) -> i64 {
    let code = compiled
        .get(LEADING_PARAMETER)
        .filter(|code| code.kind == SearchParameterKind::Token && code.salts.len() == 1 && code.has_codings && !code.has_plain_codes);
    code.filter(|_| compiled.primary_date.is_some()).map_or(0, |code| 1i64 << code.bit)
}

pub fn owner(compiled: &TypeParameters) -> i64 {
    match compiled.get("patient").map(|patient| patient.salts.as_slice()) {
        Some([salt]) => *salt,
        _ => 0,
    }
}

/// Adds a path to the tree, for a parameter that reads it and has these bits. Tells whether it can give several values.
pub fn grow(
    definitions: &'static Definitions,
    walk: &mut Walk,
    type_name: &str,
    path: &Path,
    into: &mut Parameter,
    bits: i64,
) -> Result<bool, String> {
    let kind = into.kind;
    if kind == SearchParameterKind::Composite || path.steps.is_empty() {
        return Ok(false);
    }
    let members = if kind == SearchParameterKind::String {
        string_members(definitions, walk, type_name, path)?
    } else {
        &[]
    };
    if !members.is_empty() {
        // A name is the sum of its parts: `name` and `family` share what they both read.
        for member in members {
            let mut path = path.clone();
            path.steps.push(Step::Field((*member).to_owned()));
            grow(definitions, walk, type_name, &path, into, bits)?;
        }
        return Ok(true);
    }
    let name = path_name(path);
    let kind_name = format!("{kind:?}");
    let salt = hash(&[type_name, &kind_name, &name]);
    let key = hash(&[type_name, &kind_name, &name]) as i32;
    let leaves = leaves(definitions, walk, type_name, path)?;
    let target = path
        .steps
        .iter()
        .find_map(|s| if let Step::ResolveIs(t) = s { Some(t.clone()) } else { None });
    let is_present = path.steps.contains(&Step::PresentAndNotFalse);
    let is_profile = name == ".meta.profile";
    into.target_filter.clone_from(&target);
    if !into.keys.contains(&key) {
        into.salts.push(salt);
        into.keys.push(key);
    }
    for leaf in leaves.places {
        let datatype = if is_present {
            Some(Datatype::PresentAndNotFalse)
        } else {
            datatype(kind, &leaf.datatype)
        };
        let Some(datatype) = datatype else { continue };
        let is_plain = matches!(datatype, Datatype::Code | Datatype::Boolean | Datatype::PresentAndNotFalse);
        into.has_plain_codes |= is_plain;
        into.has_codes_without_case |= datatype == Datatype::CodeWithoutCase;
        into.has_codings |= !is_plain && datatype != Datatype::CodeWithoutCase;
        into.has_concepts |= matches!(datatype, Datatype::Coding | Datatype::CodeableConcept);
        into.has_identifiers |= datatype == Datatype::Identifier;
        into.has_uris_in_vocabulary |= datatype == Datatype::Uri && is_profile;
        into.has_canonicals |= datatype == Datatype::Uri && kind == SearchParameterKind::Reference;
        into.implied_systems.extend(leaf.system.filter(|_| is_plain));
        if matches!(datatype, Datatype::Boolean | Datatype::PresentAndNotFalse) {
            into.implied_systems.push(BOOLEANS.to_owned());
        }
        let extracts = &mut walk.nodes[leaf.node].extracts;
        match extracts
            .iter_mut()
            .find(|e| e.key == key && e.kind == kind && e.datatype == datatype && e.target == target)
        {
            Some(extract) => extract.bits |= bits,
            // Profiles stand in most resources, and are few: `_profile:below` looks for them in the vocabulary.
            None => extracts.push(Extract {
                bits,
                kind,
                salt,
                key,
                datatype,
                target: target.clone(),
                has_ancestors: !is_profile,
            }),
        }
    }
    Ok(leaves.is_multiple)
}

/// The members by which a HumanName or an Address at the end of a path is searched; none for other datatypes.
pub fn string_members(
    definitions: &'static Definitions,
    walk: &mut Walk,
    type_name: &str,
    path: &Path,
) -> Result<&'static [&'static str], String> {
    let leaves = leaves(definitions, walk, type_name, path)?;
    Ok(match leaves.places.first().map(|leaf| leaf.datatype.as_str()) {
        Some("HumanName") => &["text", "family", "given", "prefix", "suffix"],
        Some("Address") => &["text", "line", "city", "district", "state", "postalCode", "country"],
        _ => &[],
    })
}
