//! The search parameters of every resource type, compiled once at start: how to find their values and where these are kept.
//!
//! All expressions of a type become one tree of member names ([`Walk`]), so that a single pass over a resource finds the values of
//! every parameter. Source: the R4 SearchParameters, <https://hl7.org/fhir/R4/searchparameter-registry.html>.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::SearchParameter;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::hash;
use crate::search::datatype::Datatype;
use crate::search::datatype::datatype;
use crate::search::expression;
use crate::search::expression::Path;
use crate::search::expression::Step;
use std::collections::HashMap;
use std::collections::HashSet;

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

/// The parameter whose codes stand beside the primary date in an index (`migrations/0008_holders_of_a_code.sql`).
pub const LEADING_PARAMETER: &str = "code";

#[derive(Debug)]
pub struct Parameter {
    pub code: String,
    pub kind: SearchParameterKind,
    /// One for each path that it reads: seeds the hashes of the path's terms. Parameters that read the same path share its terms.
    pub salts: Vec<i64>,
    /// One for each path: names it in the tables of strings, dates and quantities.
    pub keys: Vec<i32>,
    /// Its bit in `resource.present`.
    pub bit: u32,
    /// It reads plain codes and booleans, whose system (if any) the definition implies.
    pub has_plain_codes: bool,
    /// It reads codings or identifiers, which have systems of their own.
    pub has_codings: bool,
    /// The systems that its plain codes imply.
    pub implied_systems: Vec<String>,
    /// Its date stands in the resource's own row.
    pub is_primary_date: bool,
    /// Resource types that it can reference.
    pub targets: Vec<String>,
    /// For composites on the resource itself: the parameters whose values are joined.
    pub components: Vec<String>,
    /// Why it cannot be searched, if so.
    pub unsupported: Option<&'static str>,
    pub url: String,
}

/// What one leaf of the tree gives to the index.
#[derive(Debug)]
pub struct Extract {
    /// Bits of the parameters that read it.
    pub bits: i64,
    pub kind: SearchParameterKind,
    pub salt: i64,
    pub key: i32,
    pub datatype: Datatype,
    /// Only references to this type.
    pub target: Option<String>,
    /// URIs are found by what they begin with, too.
    pub has_ancestors: bool,
}

#[derive(Debug)]
pub struct Edge {
    pub name: String,
    /// Only items whose member has this value.
    pub condition: Option<(String, String)>,
    /// Only this item.
    pub index: Option<usize>,
    pub node: usize,
}

#[derive(Debug, Default)]
pub struct WalkNode {
    /// Sorted by name.
    pub edges: Vec<Edge>,
    pub extracts: Vec<Extract>,
}

/// The tree of member names; node 0 is the resource.
#[derive(Debug, Default)]
pub struct Walk {
    pub nodes: Vec<WalkNode>,
}

#[derive(Debug)]
pub struct TypeParameters {
    pub name: String,
    pub number: i16,
    pub parameters: Vec<Parameter>,
    by_code: HashMap<String, usize>,
    pub walk: Walk,
    /// The key of the path whose date stands in the resource's own row.
    pub primary_date: Option<i32>,
    /// Bit of the parameter whose first code leads the tokens of a row (`search::index`); 0 if the type has none.
    pub lead: i64,
    /// Salt of the references that stand first in a row that has a lead: to the patient; 0 if the type has none.
    pub subject: i64,
}

impl TypeParameters {
    pub fn get(&self, code: &str) -> Option<&Parameter> {
        self.by_code.get(code).map(|i| &self.parameters[*i])
    }
}

/// Every type's parameters.
#[derive(Debug)]
pub struct Registry {
    pub definitions: &'static Definitions,
    types: HashMap<String, TypeParameters>,
}

impl Registry {
    /// Compiles all parameters. Errors: an expression that cannot be read, or two parameters whose keys collide.
    pub fn load(definitions: &'static Definitions) -> Result<Registry, String> {
        let mut types = HashMap::new();
        let mut keys = HashSet::new();
        for name in definitions.resource_types() {
            let parameters = compile_type(definitions, name)?;
            let of_type: HashSet<i32> = parameters.walk.nodes.iter().flat_map(|n| &n.extracts).map(|e| e.key).collect();
            if of_type.iter().any(|key| !keys.insert(*key)) {
                return Err(format!("a key of {name} collides with another's"));
            }
            types.insert(name.to_owned(), parameters);
        }
        Ok(Registry { definitions, types })
    }

    /// `None` if there is no such resource type.
    pub fn of(&self, type_name: &str) -> Option<&TypeParameters> {
        self.types.get(type_name)
    }

    pub fn number_of(&self, type_name: &str) -> Option<i16> {
        self.types.get(type_name).map(|t| t.number)
    }

    /// Whether resources of this type belong to patients.
    pub fn is_in_patient_compartment(&self, type_name: &str) -> bool {
        type_name == "Patient" || !self.patient_compartment(type_name).is_empty()
    }

    /// The parameters by which resources of a type belong to a patient.
    pub fn patient_compartment(&self, type_name: &str) -> &[String] {
        let compartment = self.definitions.compartment("Patient");
        let member = compartment.and_then(|c| c.members.iter().find(|(name, _)| name == type_name));
        member.map(|(_, codes)| codes.as_slice()).unwrap_or_default()
    }

    pub fn name_of(&self, number: i16) -> &'static str {
        self.definitions.name_of(number).unwrap_or("Resource")
    }
}

fn compile_type(definitions: &'static Definitions, name: &str) -> Result<TypeParameters, String> {
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
        lead: 0,
        subject: 0,
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
            .filter(|p| [name, "Resource", "DomainResource"].contains(&p.root.as_str()))
            .collect();
        compiled.parameters.push(parameter(definition, &paths, bit));
        let mut multiple = paths.len() > 1;
        // The row itself has these two.
        if !["_id", "_lastUpdated"].contains(&definition.code.as_str()) {
            for path in &paths {
                multiple |= grow(definitions, &mut compiled, name, path)?;
            }
        }
        is_multiple.push(multiple);
    }
    mark_primary_date(&mut compiled, &is_multiple);
    compiled.lead = lead(&compiled);
    compiled.subject = subject(&compiled);
    for node in &mut compiled.walk.nodes {
        node.edges.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(compiled)
}

fn parameter(definition: &SearchParameter, paths: &[Path], bit: u32) -> Parameter {
    let is_composite = definition.kind == SearchParameterKind::Composite;
    let is_on_resource = is_composite && paths.len() == 1 && paths[0].steps.is_empty();
    Parameter {
        code: definition.code.clone(),
        kind: definition.kind,
        salts: Vec::new(),
        keys: Vec::new(),
        bit,
        has_plain_codes: false,
        has_codings: false,
        implied_systems: Vec::new(),
        is_primary_date: false,
        targets: definition.targets.clone(),
        components: definition
            .components
            .iter()
            .filter(|_| is_on_resource)
            .map(|(url, _)| url.clone())
            .collect(),
        unsupported: unsupported(definition, is_composite && !is_on_resource),
        url: definition.url.clone(),
    }
}

fn unsupported(definition: &SearchParameter, is_composite_below: bool) -> Option<&'static str> {
    match definition.code.as_str() {
        "_text" | "_content" => Some("full-text search is not supported yet"),
        "_query" => Some("named queries are not supported"),
        _ if definition.kind == SearchParameterKind::Special => Some("special parameters are not supported yet"),
        _ if is_composite_below => Some("composites of repeating elements are not supported yet"),
        _ => None,
    }
}

fn mark_primary_date(compiled: &mut TypeParameters, is_multiple: &[bool]) {
    let candidates = PRIMARY_DATES.iter().filter_map(|code| compiled.by_code.get(*code));
    let primary = candidates
        .copied()
        .find(|i| compiled.parameters[*i].kind == SearchParameterKind::Date && !is_multiple[*i]);
    compiled.primary_date = primary.and_then(|i| compiled.parameters[i].keys.first().copied());
    for parameter in &mut compiled.parameters {
        parameter.is_primary_date = parameter.keys.len() == 1 && parameter.keys.first().copied() == compiled.primary_date;
    }
}

fn lead(compiled: &TypeParameters) -> i64 {
    let code = compiled
        .get(LEADING_PARAMETER)
        .filter(|code| code.kind == SearchParameterKind::Token && code.salts.len() == 1 && code.has_codings && !code.has_plain_codes);
    code.filter(|_| compiled.primary_date.is_some()).map_or(0, |code| 1i64 << code.bit)
}

fn subject(compiled: &TypeParameters) -> i64 {
    match compiled.get("patient").map(|patient| patient.salts.as_slice()) {
        Some([salt]) if compiled.lead != 0 => *salt,
        _ => 0,
    }
}

/// A path as text: names it in hashes that the database keeps, so its form never changes.
fn path_name(path: &Path) -> String {
    let mut name = String::new();
    for step in &path.steps {
        match step {
            Step::Field(field) => name.push_str(&format!(".{field}")),
            Step::As(datatype) => name.push_str(&format!("[{datatype}]")),
            Step::Where(member, value) => name.push_str(&format!("({member}={value})")),
            Step::Index(index) => name.push_str(&format!("({index})")),
            Step::PresentAndNotFalse => name.push('?'),
            // A filter by target finds a part of what the path without it has.
            Step::ResolveIs(_) => {}
        }
    }
    name
}

/// Adds a path to the tree. Tells whether it can give several values.
fn grow(definitions: &'static Definitions, compiled: &mut TypeParameters, type_name: &str, path: &Path) -> Result<bool, String> {
    let parameter = compiled.parameters.len() - 1;
    let kind = compiled.parameters[parameter].kind;
    if kind == SearchParameterKind::Composite || path.steps.is_empty() {
        return Ok(false);
    }
    let members = if kind == SearchParameterKind::String {
        string_members(definitions, &mut compiled.walk, type_name, path)?
    } else {
        &[]
    };
    if !members.is_empty() {
        // A name is the sum of its parts: `name` and `family` share what they both read.
        for member in members {
            let mut path = path.clone();
            path.steps.push(Step::Field((*member).to_owned()));
            grow(definitions, compiled, type_name, &path)?;
        }
        return Ok(true);
    }
    let name = path_name(path);
    let kind_name = format!("{kind:?}");
    let salt = hash(&[type_name, &kind_name, &name]);
    let key = hash(&[type_name, &kind_name, &name]) as i32;
    let leaves = leaves(definitions, &mut compiled.walk, type_name, path)?;
    let target = path
        .steps
        .iter()
        .find_map(|s| if let Step::ResolveIs(t) = s { Some(t.clone()) } else { None });
    let is_present = path.steps.contains(&Step::PresentAndNotFalse);
    let into = &mut compiled.parameters[parameter];
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
        into.has_codings |= !is_plain;
        into.implied_systems.extend(leaf.system.filter(|_| is_plain));
        let bits = 1i64 << into.bit;
        let extracts = &mut compiled.walk.nodes[leaf.node].extracts;
        match extracts
            .iter_mut()
            .find(|e| e.key == key && e.kind == kind && e.datatype == datatype && e.target == target)
        {
            Some(extract) => extract.bits |= bits,
            // Profiles stand in most resources: their ancestors would cost more than `_profile:below` is worth.
            None => extracts.push(Extract {
                bits,
                kind,
                salt,
                key,
                datatype,
                target: target.clone(),
                has_ancestors: name != ".meta.profile",
            }),
        }
    }
    Ok(leaves.is_multiple)
}

/// The members by which a HumanName or an Address at the end of a path is searched; none for other datatypes.
fn string_members(
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

/// Where the values of a path are found.
struct Leaves {
    places: Vec<Leaf>,
    is_multiple: bool,
}

struct Leaf {
    node: usize,
    datatype: String,
    /// The system that a required binding implies.
    system: Option<String>,
}

fn leaves(definitions: &'static Definitions, walk: &mut Walk, type_name: &str, path: &Path) -> Result<Leaves, String> {
    let mut found = Leaves {
        places: Vec::new(),
        is_multiple: false,
    };
    let mut shape = definitions.type_named(type_name).and_then(|t| t.shape);
    let mut from = 0;
    let mut steps = path.steps.iter().peekable();
    while let Some(step) = steps.next() {
        let Step::Field(name) = step else { continue };
        let wanted = match steps.peek() {
            Some(Step::As(datatype)) => Some(datatype.as_str()),
            _ => None,
        };
        let Some(current) = shape else { break };
        let element = definitions.shape(current).elements.iter().find(|e| e.name == *name);
        let element = element.ok_or_else(|| format!("{type_name} has no element {name} on the way of {:?}", path.steps))?;
        found.is_multiple |= element.max != Some(1);
        found.places.clear();
        for element_type in element.types.iter().filter(|t| wanted.is_none_or(|w| t.code == w)) {
            let json_name = if element.is_choice {
                choice_name(name, &element_type.code)
            } else {
                name.clone()
            };
            let (condition, index) = condition(steps.clone());
            let node = child(walk, from, json_name, condition, index);
            let system = element.required_binding.and_then(|v| definitions.implied_system(v));
            found.places.push(Leaf {
                node,
                datatype: element_type.code.clone(),
                system,
            });
            shape = element_type.shape;
        }
        let Some(place) = found.places.first() else { break };
        from = place.node;
    }
    Ok(found)
}

/// The condition and index that the steps right after a field put on it.
fn condition<'a>(steps: impl Iterator<Item = &'a Step>) -> (Option<(String, String)>, Option<usize>) {
    let (mut condition, mut index) = (None, None);
    for step in steps {
        match step {
            Step::Where(member, value) => condition = Some((member.clone(), value.clone())),
            Step::Index(i) => index = Some(*i),
            Step::As(_) | Step::ResolveIs(_) | Step::PresentAndNotFalse => {}
            Step::Field(_) => break,
        }
    }
    (condition, index)
}

fn child(walk: &mut Walk, from: usize, name: String, condition: Option<(String, String)>, index: Option<usize>) -> usize {
    let found = walk.nodes[from]
        .edges
        .iter()
        .find(|e| e.name == name && e.condition == condition && e.index == index);
    if let Some(edge) = found {
        return edge.node;
    }
    walk.nodes.push(WalkNode::default());
    let node = walk.nodes.len() - 1;
    walk.nodes[from].edges.push(Edge {
        name,
        condition,
        index,
        node,
    });
    node
}

fn choice_name(stem: &str, datatype: &str) -> String {
    let mut chars = datatype.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    stem.chars().chain(first).chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::definitions::definitions;

    #[test]
    fn the_index_of_first_codes_has_the_types_with_a_leading_parameter() {
        let registry = Registry::load(definitions()).expect("loads");
        let mut numbers: Vec<i16> = registry.types.values().filter(|t| t.lead != 0).map(|t| t.number).collect();
        numbers.sort_unstable();
        let numbers = numbers.iter().map(i16::to_string).collect::<Vec<_>>().join(", ");
        let migration = include_str!("../../migrations/0008_holders_of_a_code.sql");
        assert!(migration.contains(&format!("type in ({numbers})")), "type in ({numbers})");
    }
}
