//! HL7's definitions of R4 4.0.1: types, value sets of required bindings, search parameters, compartments.
//!
//! `build.rs` compiles them from the registry package into the binary; here they are decoded once and looked up.
//! Spec: <https://hl7.org/fhir/R4/structuredefinition.html>, <https://hl7.org/fhir/R4/searchparameter-registry.html>.

pub mod model;
pub mod names;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::fhir::definitions::model::Compartment;
use crate::fhir::definitions::model::Element;
use crate::fhir::definitions::model::ElementType;
use crate::fhir::definitions::model::Model;
use crate::fhir::definitions::model::SearchParameter;
use crate::fhir::definitions::model::Shape;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::definitions::model::TypeDefinition;
use crate::fhir::definitions::model::TypeKind;
use crate::fhir::definitions::model::ValueSet;
use crate::fhir::definitions::model::ValueSetId;
use crate::fhir::definitions::names::NameMap;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/definitions.bin"));
/// Far above the decoded size: bounds what a damaged binary could ask for.
const DECODED_BYTES_MAX: usize = 64 << 20;

/// The definitions, with what finds things in them.
#[derive(Debug)]
pub struct Definitions {
    model: Model,
    types: NameMap<usize>,
    /// Concrete resource types, in alphabetical order; the place of a type is its number, less one.
    resource_types: Vec<String>,
    numbers: NameMap<i16>,
    members: Vec<NameMap<MemberIndex>>,
    search_parameters: HashMap<String, Vec<usize>>,
    compartments: NameMap<usize>,
}

#[derive(Debug, Clone, Copy)]
struct MemberIndex {
    element: u16,
    ty: u16,
    is_twin: bool,
}

/// What a member name of a JSON object means: `valueQuantity` is the element `value[x]` as a Quantity.
#[derive(Debug, Clone, Copy)]
pub struct Member<'d> {
    pub element: &'d Element,
    /// Place of the element in its shape.
    pub element_index: usize,
    pub ty: &'d ElementType,
    /// The name was that of the twin of a primitive (`_birthDate`), which holds its id and extensions.
    pub is_twin: bool,
}

/// The definitions of this binary, decoded on first use.
pub fn definitions() -> &'static Definitions {
    static DEFINITIONS: OnceLock<Definitions> = OnceLock::new();
    DEFINITIONS.get_or_init(Definitions::load)
}

impl Definitions {
    /// Decodes what `build.rs` embedded: a few milliseconds.
    pub fn load() -> Definitions {
        let bytes = zstd::bulk::decompress(PACKED, DECODED_BYTES_MAX).expect("build.rs wrote zstd");
        let model: Model = postcard::from_bytes(&bytes).expect("build.rs wrote this model");
        let resource_types: Vec<String> = model
            .types
            .iter()
            .filter(|t| t.kind == TypeKind::Resource && !t.is_abstract)
            .map(|t| t.name.clone())
            .collect();
        let is_primitive: NameMap<()> = NameMap::new(
            model
                .types
                .iter()
                .filter(|t| t.kind == TypeKind::Primitive)
                .map(|t| (t.name.clone(), ())),
        );
        Definitions {
            types: NameMap::new(model.types.iter().enumerate().map(|(i, t)| (t.name.clone(), i))),
            numbers: NameMap::new(resource_types.iter().zip(1..).map(|(name, number)| (name.clone(), number))),
            members: model.shapes.iter().map(|shape| members_of(shape, &is_primitive)).collect(),
            search_parameters: search_parameters_by_type(&model),
            compartments: NameMap::new(model.compartments.iter().enumerate().map(|(i, c)| (c.code.clone(), i))),
            resource_types,
            model,
        }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The datatype or resource type of this name, abstract ones included.
    pub fn type_named(&self, name: &str) -> Option<&TypeDefinition> {
        self.types.get(name).map(|index| &self.model.types[*index])
    }

    /// A resource type that can be instantiated: not `Resource` or `DomainResource`.
    pub fn is_resource(&self, name: &str) -> bool {
        self.numbers.contains(name)
    }

    pub fn is_primitive(&self, name: &str) -> bool {
        self.type_named(name).is_some_and(|t| t.kind == TypeKind::Primitive)
    }

    /// The resource types that can be instantiated, in alphabetical order.
    pub fn resource_types(&self) -> &[String] {
        &self.resource_types
    }

    /// Invariant: the number of a type never changes, since the database stores it. It is the place in R4's own alphabetical list, from 1.
    pub fn number_of(&self, name: &str) -> Option<i16> {
        self.numbers.get(name).copied()
    }

    pub fn name_of(&self, number: i16) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.resource_types.get(index).map(String::as_str)
    }

    pub fn shape(&self, id: ShapeId) -> &Shape {
        &self.model.shapes[id as usize]
    }

    /// The shape of a datatype or resource type; `None` for primitives and unknown names.
    pub fn shape_of(&self, type_name: &str) -> Option<ShapeId> {
        self.type_named(type_name)?.shape
    }

    /// What the member name stands for in this shape: `birthDate`, `_birthDate`, `valueQuantity`. A choice's stem alone is no member.
    pub fn member(&self, shape: ShapeId, json_name: &str) -> Option<Member<'_>> {
        let found = self.members[shape as usize].get(json_name)?;
        let element = &self.shape(shape).elements[found.element as usize];
        Some(Member {
            element,
            element_index: found.element as usize,
            ty: &element.types[found.ty as usize],
            is_twin: found.is_twin,
        })
    }

    /// The element by its FHIR name: `birthDate`, or `value` for `value[x]`.
    pub fn element(&self, shape: ShapeId, name: &str) -> Option<&Element> {
        self.shape(shape).elements.iter().find(|e| e.name == name)
    }

    pub fn value_set(&self, id: ValueSetId) -> &ValueSet {
        &self.model.value_sets[id as usize]
    }

    /// The system of a code whose binding allows only one.
    pub fn implied_system(&self, id: ValueSetId) -> Option<String> {
        match self.value_set(id).codes.as_deref() {
            Some([only]) => Some(only.system.clone()),
            _ => None,
        }
    }

    /// The value set of this canonical URL, if a required binding of R4 uses it.
    pub fn value_set_named(&self, url: &str) -> Option<&ValueSet> {
        self.model.value_sets.iter().find(|v| v.url == url)
    }

    /// All that apply to a concrete resource type, those of `Resource` (`_id`, `_lastUpdated` ...) and `DomainResource` (`_text`) included; sorted by code.
    pub fn search_parameters_of(&self, type_name: &str) -> impl Iterator<Item = &SearchParameter> {
        self.search_parameters
            .get(type_name)
            .into_iter()
            .flatten()
            .map(|index| &self.model.search_parameters[*index])
    }

    pub fn search_parameter(&self, type_name: &str, code: &str) -> Option<&SearchParameter> {
        self.search_parameters_of(type_name).find(|p| p.code == code)
    }

    /// The compartment of this resource type: `Patient`, `Encounter`, `Practitioner`, `RelatedPerson`, `Device`.
    pub fn compartment(&self, code: &str) -> Option<&Compartment> {
        self.compartments.get(code).map(|index| &self.model.compartments[*index])
    }
}

/// The name in JSON of a choice element as one of its types: `value`, `dateTime` -> `valueDateTime`.
pub fn choice_name(stem: &str, type_code: &str) -> String {
    let mut name = String::with_capacity(stem.len() + type_code.len());
    name.push_str(stem);
    let mut letters = type_code.chars();
    name.extend(letters.next().map(|c| c.to_ascii_uppercase()));
    name.push_str(letters.as_str());
    name
}

fn members_of(shape: &Shape, is_primitive: &NameMap<()>) -> NameMap<MemberIndex> {
    let mut members = Vec::new();
    for (element_index, element) in shape.elements.iter().enumerate() {
        for (type_index, ty) in element.types.iter().enumerate() {
            let name = if element.is_choice {
                choice_name(&element.name, &ty.code)
            } else {
                element.name.clone()
            };
            let index = MemberIndex {
                element: element_index as u16,
                ty: type_index as u16,
                is_twin: false,
            };
            if is_primitive.contains(&ty.code) {
                members.push((format!("_{name}"), MemberIndex { is_twin: true, ..index }));
            }
            members.push((name, index));
        }
    }
    NameMap::new(members)
}

fn search_parameters_by_type(model: &Model) -> HashMap<String, Vec<usize>> {
    let mut by_type: HashMap<String, Vec<usize>> = HashMap::new();
    for ty in model.types.iter().filter(|t| t.kind == TypeKind::Resource && !t.is_abstract) {
        let applies = |p: &SearchParameter| {
            p.base
                .iter()
                .any(|b| *b == ty.name || b == "Resource" || (b == "DomainResource" && ty.base == "DomainResource"))
        };
        let mut indexes: Vec<usize> = (0..model.search_parameters.len())
            .filter(|i| applies(&model.search_parameters[*i]))
            .collect();
        indexes.sort_by(|a, b| model.search_parameters[*a].code.cmp(&model.search_parameters[*b].code));
        by_type.insert(ty.name.clone(), indexes);
    }
    by_type
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_resource_types_never_change() {
        let definitions = definitions();
        assert_eq!(definitions.resource_types().len(), 146);
        for (name, number) in [
            ("Account", 1),
            ("Bundle", 12),
            ("Observation", 96),
            ("Patient", 103),
            ("VisionPrescription", 146),
        ] {
            assert_eq!(definitions.number_of(name), Some(number), "{name}");
            assert_eq!(definitions.name_of(number), Some(name));
        }
        for number in [0, -1, 147, i16::MAX, i16::MIN] {
            assert_eq!(definitions.name_of(number), None);
        }
        for name in ["Resource", "DomainResource", "SubscriptionStatus", "Element", "patient", ""] {
            assert_eq!(definitions.number_of(name), None, "{name}");
        }
    }

    #[test]
    fn member_names_resolve_to_element_and_type() {
        let definitions = definitions();
        for (ty, name, expected) in [
            ("Patient", "birthDate", Some(("birthDate", "date", false))),
            ("Patient", "_birthDate", Some(("birthDate", "date", true))),
            ("Patient", "deceasedDateTime", Some(("deceased", "dateTime", false))),
            ("Observation", "valueQuantity", Some(("value", "Quantity", false))),
            ("Observation", "_valueString", Some(("value", "string", true))),
            ("Observation", "value", None),
            ("Observation", "_valueQuantity", None),
            ("Patient", "name", Some(("name", "HumanName", false))),
            ("Patient", "id", Some(("id", "id", false))),
            ("Extension", "url", Some(("url", "uri", false))),
            ("Bundle", "entry", Some(("entry", "BackboneElement", false))),
            ("Patient", "resourceType", None),
        ] {
            let member = definitions.member(definitions.shape_of(ty).expect(ty), name);
            assert_eq!(
                member.map(|m| (m.element.name.as_str(), m.ty.code.as_str(), m.is_twin)),
                expected,
                "{ty}.{name}"
            );
        }
    }

    #[test]
    fn the_packages_own_edits_are_not_in_the_shapes() {
        let definitions = definitions();
        for (ty, name, is_in_r4) in [
            ("Meta", "project", false),
            ("Meta", "accounts", false),
            ("Meta", "tag", true),
            ("Binary", "url", false),
            ("ResearchStudy", "associatedParty", false),
            ("DeviceDefinition", "classification", false),
            ("Quantity", "comparator", true),
        ] {
            assert_eq!(
                definitions.element(definitions.shape_of(ty).expect(ty), name).is_some(),
                is_in_r4,
                "{ty}.{name}"
            );
        }
        let variable = definitions
            .element(definitions.shape_of("EvidenceVariable").expect("shape"), "characteristic")
            .expect("element");
        let characteristic = definitions.shape(variable.types[0].shape.expect("backbone"));
        let names: Vec<&str> = characteristic.elements.iter().map(|e| e.name.as_str()).collect();
        let expected = [
            "id",
            "extension",
            "modifierExtension",
            "description",
            "exclude",
            "definition",
            "usageContext",
            "participantEffective",
            "timeFromStart",
            "groupMeasure",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn shapes_follow_content_references_and_simple_quantities() {
        let definitions = definitions();
        let questionnaire = definitions.shape_of("Questionnaire").expect("shape");
        let item = definitions.element(questionnaire, "item").expect("item").types[0]
            .shape
            .expect("backbone");
        assert_eq!(definitions.element(item, "item").expect("item").types[0].shape, Some(item));
        let range = definitions.shape_of("Range").expect("shape");
        let low = definitions.shape(definitions.element(range, "low").expect("low").types[0].shape.expect("quantity"));
        assert_eq!(low.elements.iter().find(|e| e.name == "comparator").and_then(|e| e.max), Some(0));
    }

    #[test]
    fn value_sets_are_expanded_where_their_systems_are_known() {
        let definitions = definitions();
        let codes = |url: &str| {
            definitions
                .value_set_named(url)
                .expect(url)
                .codes
                .as_ref()
                .map(|s| s.iter().map(|s| s.codes.len()).sum::<usize>())
        };
        assert_eq!(codes("http://hl7.org/fhir/ValueSet/administrative-gender"), Some(4));
        assert_eq!(
            codes("http://terminology.hl7.org/ValueSet/v3-ConfidentialityClassification"),
            Some(6)
        );
        assert_eq!(codes("http://hl7.org/fhir/ValueSet/resource-types"), Some(148));
        assert_eq!(codes("http://hl7.org/fhir/ValueSet/mimetypes"), None);
        let unknown: Vec<&str> = definitions
            .model()
            .value_sets
            .iter()
            .filter(|v| v.codes.is_none())
            .map(|v| v.url.as_str())
            .collect();
        assert_eq!(unknown.len(), 4, "{unknown:?}");
    }

    #[test]
    fn search_parameters_include_those_of_all_resources() {
        let definitions = definitions();
        let codes: Vec<&str> = definitions.search_parameters_of("Patient").map(|p| p.code.as_str()).collect();
        for code in [
            "_id",
            "_lastUpdated",
            "_tag",
            "_profile",
            "_security",
            "_source",
            "_text",
            "_content",
            "birthdate",
            "name",
            "general-practitioner",
        ] {
            assert!(codes.contains(&code), "{code}");
        }
        assert!(codes.is_sorted());
        assert!(definitions.search_parameter("Binary", "_text").is_none());
        let patient = definitions.compartment("Patient").expect("compartment");
        let observation = patient.members.iter().find(|(ty, _)| ty == "Observation").expect("member");
        assert_eq!(observation.1, ["subject", "performer"]);
        assert_eq!(definitions.model().compartments.len(), 5);
        assert_eq!(definitions.model().search_parameters.len(), 1377);
    }
}
