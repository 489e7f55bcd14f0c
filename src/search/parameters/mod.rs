//! The search parameters of every resource type, compiled at start: how to find their values and where these are kept. Those of one's own come to
//! them while the server runs (`search::custom`).
//!
//! All expressions of a type become one tree of member names ([`Walk`]), so that a single pass over a resource finds the values of
//! every parameter. Source: the R4 SearchParameters, <https://hl7.org/fhir/R4/searchparameter-registry.html>.

pub mod compile;
pub mod composite;
pub mod custom;
pub mod walk;

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::search::custom::reading::Custom;
use crate::search::custom::reading::Reading;
use crate::search::datatype::Datatype;
use crate::search::full_text::FullText;
use crate::search::parameters::compile::compile_type;
use crate::search::parameters::composite::Composite;
use crate::search::parameters::composite::Join;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

/// The parameter whose codes stand beside the primary date in an index (`migrations/0008_holders_of_a_code.sql`).
pub const LEADING_PARAMETER: &str = "code";

#[derive(Debug, Clone)]
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
    /// It reads strings, which are compared without case.
    pub has_codes_without_case: bool,
    /// It reads codings or identifiers, which have systems of their own.
    pub has_codings: bool,
    /// It reads Codings or CodeableConcepts: codes of a terminology, with a text for people.
    pub has_concepts: bool,
    /// It reads Identifiers, which may have a type.
    pub has_identifiers: bool,
    /// Its URIs stand in the vocabulary, not with their beginnings among the terms.
    pub has_uris_in_vocabulary: bool,
    /// It reads canonical URLs: those with a version stand in the vocabulary.
    pub has_canonicals: bool,
    /// The type that its references are filtered by.
    pub target_filter: Option<String>,
    /// The systems that its plain codes imply.
    pub implied_systems: Vec<String>,
    /// Its date stands in the resource's own row.
    pub is_primary_date: bool,
    /// Resource types that it can reference.
    pub targets: Vec<String>,
    /// For composites: one for each element whose values are joined.
    pub composites: Vec<Composite>,
    /// Why it cannot be searched, if so.
    pub unsupported: Option<&'static str>,
    pub url: String,
    /// It is one of the repository's own.
    pub custom: Option<Reading>,
}

/// What one leaf of the tree gives to the index.
#[derive(Debug, Clone)]
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

#[derive(Debug, Clone)]
pub struct Edge {
    pub name: String,
    /// Only items whose member has this value.
    pub condition: Option<(String, String)>,
    /// Only this item.
    pub index: Option<usize>,
    pub node: usize,
}

#[derive(Debug, Clone, Default)]
pub struct WalkNode {
    /// Sorted by name.
    pub edges: Vec<Edge>,
    pub extracts: Vec<Extract>,
    /// What composites join of the values below.
    pub joins: Vec<Join>,
}

/// The tree of member names; node 0 is the resource.
#[derive(Debug, Clone, Default)]
pub struct Walk {
    pub nodes: Vec<WalkNode>,
}

/// What a parameter that is false of what has nothing gives to the index.
#[derive(Debug, Clone)]
pub struct Absent {
    pub salt: i64,
    pub key: i32,
    pub bits: i64,
}

#[derive(Debug, Clone)]
pub struct TypeParameters {
    pub name: String,
    pub number: i16,
    pub parameters: Vec<Parameter>,
    by_code: HashMap<String, usize>,
    pub walk: Walk,
    /// The key of the path whose date stands in the resource's own row.
    pub primary_date: Option<i32>,
    /// Parameters that ask whether something is there and not `false`: they are false of what has nothing.
    pub absent_is_false: Vec<Absent>,
    /// Bit of the parameter whose first code leads the tokens of a row (`search::index`); 0 if the type has none.
    pub lead: i64,
    /// What of its text is indexed.
    pub full_text: FullText,
    /// Salt of the references to the patient in a row that has a lead; 0 if the type has none.
    pub subject: i64,
    /// Salt of the references that stand first in a row: to the patient, whether the type has a lead or not; 0 if the type has none.
    pub owner: i64,
    /// See [`Registry::with_base`].
    pub base: Arc<str>,
    pub definitions: &'static Definitions,
    /// What parameters of one's own read.
    pub readings: Vec<Reading>,
}

impl Parameter {
    /// Every resource has its values in the index.
    pub fn is_searchable(&self) -> bool {
        self.unsupported.is_none() && self.custom.as_ref().is_none_or(|reading| reading.custom.is_complete)
    }
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
    /// Without those of one's own.
    standard: Arc<HashMap<String, Arc<TypeParameters>>>,
    types: HashMap<String, Arc<TypeParameters>>,
    customs: Vec<Arc<Custom>>,
    generation: i64,
}

impl Registry {
    /// Compiles all parameters. Errors: an expression that cannot be read, or two parameters whose keys collide.
    pub fn load(definitions: &'static Definitions) -> Result<Registry, String> {
        let mut types = HashMap::new();
        let mut keys = HashSet::new();
        for name in definitions.resource_types() {
            let parameters = compile_type(definitions, name)?;
            let nodes = &parameters.walk.nodes;
            let mut of_type: HashSet<i32> = nodes.iter().flat_map(|n| &n.extracts).map(|e| e.key).collect();
            of_type.extend(nodes.iter().flat_map(|n| &n.joins).filter_map(Join::key));
            if of_type.iter().any(|key| !keys.insert(*key)) {
                return Err(format!("a key of {name} collides with another's"));
            }
            types.insert(name.to_owned(), Arc::new(parameters));
        }
        Ok(Registry {
            definitions,
            standard: Arc::new(types.clone()),
            types,
            customs: Vec::new(),
            generation: 0,
        })
    }

    /// The same for a server that clients reach at this address: absolute references below it are its own, `https://this/fhir/Patient/1` as
    /// `Patient/1`. Empty: no absolute reference is.
    pub fn with_base(self, base: &str) -> Registry {
        let base: Arc<str> = base.into();
        self.with_each(|of| of.base = base.clone())
    }

    /// The same, with this much of each resource's text indexed.
    pub fn with_full_text(self, full_text: FullText) -> Registry {
        self.with_each(|of| of.full_text = full_text)
    }

    /// Also of the standard parameters, of which the registry is made anew when those of one's own change.
    fn with_each(mut self, change: impl Fn(&mut TypeParameters)) -> Registry {
        Arc::make_mut(&mut self.standard)
            .values_mut()
            .chain(self.types.values_mut())
            .for_each(|of| change(Arc::make_mut(of)));
        self
    }

    /// `None` if there is no such resource type.
    pub fn of(&self, type_name: &str) -> Option<&TypeParameters> {
        self.types.get(type_name).map(Arc::as_ref)
    }

    /// Every resource type, in no order.
    pub fn types(&self) -> impl Iterator<Item = &TypeParameters> {
        self.types.values().map(Arc::as_ref)
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

    /// The salts of all references that can lead to this type, whosever they are.
    pub fn salts_to(&self, type_name: &str) -> Vec<i64> {
        let parameters = self.types.values().flat_map(|of| &of.parameters);
        // Those of one's own come and go: what may be deleted must not change with them.
        let references = parameters.filter(|p| p.kind == SearchParameterKind::Reference && p.custom.is_none());
        let leads = |p: &&Parameter| p.targets.is_empty() || p.targets.iter().any(|target| target == type_name);
        let mut salts: Vec<i64> = references.filter(leads).flat_map(|p| p.salts.iter().copied()).collect();
        salts.sort_unstable();
        salts.dedup();
        salts
    }

    pub fn name_of(&self, number: i16) -> &'static str {
        self.definitions.name_of(number).unwrap_or("Resource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::definitions::definitions;

    #[test]
    fn the_index_of_what_has_no_date_has_the_types_that_have_one() {
        let registry = Registry::load(definitions()).expect("loads");
        let mut numbers: Vec<i16> = registry
            .types()
            .filter(|of| of.primary_date.is_some())
            .map(|of| of.number)
            .collect();
        numbers.sort_unstable();
        let numbers: Vec<String> = numbers.iter().map(i16::to_string).collect();
        let migration = include_str!("../../../migrations/0022_pages.sql");
        let listed = format!("type in ({})", numbers.join(", "));
        assert!(migration.contains(&listed), "{listed}");
    }

    #[test]
    fn the_index_of_first_codes_has_the_types_with_a_leading_parameter() {
        let registry = Registry::load(definitions()).expect("loads");
        let mut numbers: Vec<i16> = registry.types.values().filter(|t| t.lead != 0).map(|t| t.number).collect();
        numbers.sort_unstable();
        let numbers = numbers.iter().map(i16::to_string).collect::<Vec<_>>().join(", ");
        let migration = include_str!("../../../migrations/0008_holders_of_a_code.sql");
        assert!(migration.contains(&format!("type in ({numbers})")), "type in ({numbers})");
    }
}
