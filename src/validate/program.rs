//! The flat form of R4's shapes that validation runs over: one table lookup per member, bit masks for what is required.
//!
//! Built once at start from the definitions. Numbers instead of names: a shape is an index, an element a bit.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::choice_name;
use crate::fhir::definitions::model::Element;
use crate::fhir::definitions::model::ElementType;
use crate::fhir::definitions::model::Shape;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::definitions::model::TypeKind;
use crate::fhir::definitions::model::ValueSet;
use crate::fhir::definitions::names::NameMap;
use crate::validate::primitive::Primitive;

/// Elements of one object fit in the bits of this; R4's widest shape has about 60.
pub type ElementMask = u128;
/// Choices of one shape: ElementDefinition has 6.
pub const CHOICES_MAX: usize = 8;

pub struct Program {
    pub shapes: Vec<ShapeProgram>,
    /// By ValueSetId; `None` when the codes are not known here.
    pub codes: Vec<Option<CodeSet>>,
    /// Concrete resource types to their shapes.
    pub resources: NameMap<ShapeId>,
    /// Lists of resource types that references may name.
    pub targets: Vec<Vec<String>>,
    /// The shape of `_birthDate`: id and extensions.
    pub twin: ShapeId,
}

pub struct ShapeProgram {
    pub path: String,
    pub members: NameMap<Slot>,
    pub elements: Vec<ElementProgram>,
    /// Elements that must be there.
    pub required: ElementMask,
    pub role: Role,
}

pub struct ElementProgram {
    pub name: String,
    pub is_choice: bool,
    pub min: u32,
}

/// Shapes with rules of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// Has a value or extensions, never both (ext-1).
    Extension {
        value: u8,
        extension: u8,
    },
    Resource,
}

/// What a member name means.
#[derive(Clone, Copy)]
pub struct Slot {
    pub element: u8,
    pub is_list: bool,
    pub is_twin: bool,
    /// Place among the shape's choices, and the type chosen by this name.
    pub choice: Option<(u8, u8)>,
    pub max: u32,
    pub kind: SlotKind,
    pub binding: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    Primitive(Primitive),
    Object(ShapeId),
    Coding(ShapeId),
    CodeableConcept(ShapeId),
    /// Shape, and index into the targets.
    Reference(ShapeId, u16),
    /// Any resource, on its own: Parameters.parameter.resource.
    Resource,
    /// Bundle.entry.resource, which a caller may check by itself.
    Entry,
    /// Any resource, part of this one.
    Contained,
}

/// The codes of a value set.
pub struct CodeSet {
    pub url: String,
    /// System and its codes.
    systems: Vec<(String, NameMap<()>)>,
    /// All codes, whatever their system: for elements of type `code`.
    all: NameMap<()>,
}

impl CodeSet {
    pub fn new(url: &str, systems: Vec<(String, Vec<String>)>) -> CodeSet {
        let map = |codes: &[String]| NameMap::new(codes.iter().map(|code| (code.clone(), ())));
        let all: Vec<String> = systems.iter().flat_map(|(_, codes)| codes.clone()).collect();
        CodeSet {
            url: url.to_owned(),
            systems: systems.iter().map(|(system, codes)| (system.clone(), map(codes))).collect(),
            all: map(&all),
        }
    }

    pub fn of(value_set: &ValueSet) -> Option<CodeSet> {
        let systems = value_set
            .codes
            .as_ref()?
            .iter()
            .map(|s| (s.system.clone(), s.codes.clone()))
            .collect();
        Some(CodeSet::new(&value_set.url, systems))
    }

    pub fn has_code(&self, code: &str) -> bool {
        self.all.contains(code)
    }

    pub fn has_coding(&self, system: &str, code: &str) -> bool {
        self.systems.iter().any(|(known, codes)| known == system && codes.contains(code))
    }

    pub fn systems(&self) -> impl Iterator<Item = &str> {
        self.systems.iter().map(|(system, _)| system.as_str())
    }

    /// A few of its codes, for a message.
    pub fn some_codes(&self) -> String {
        const SHOWN: usize = 10;
        let codes: Vec<&str> = self.all.names().take(SHOWN).collect();
        let more = if self.all.names().nth(SHOWN).is_some() { ", ..." } else { "" };
        format!("{}{more}", codes.join(", "))
    }
}

/// Errors: a definition that does not fit the tables' bounds.
pub fn compile(definitions: &Definitions) -> Result<Program, String> {
    let model = definitions.model();
    let mut targets: Vec<Vec<String>> = vec![Vec::new()];
    let mut shapes = Vec::with_capacity(model.shapes.len());
    for shape in &model.shapes {
        shapes.push(compile_shape(shape, definitions, &mut targets)?);
    }
    let resources = definitions
        .resource_types()
        .iter()
        .filter_map(|name| Some((name.clone(), definitions.shape_of(name)?)));
    Ok(Program {
        shapes,
        codes: model.value_sets.iter().map(CodeSet::of).collect(),
        resources: NameMap::new(resources),
        targets,
        twin: definitions.shape_of("Element").ok_or("the definitions lack Element")?,
    })
}

fn compile_shape(shape: &Shape, definitions: &Definitions, targets: &mut Vec<Vec<String>>) -> Result<ShapeProgram, String> {
    let count = shape.elements.len();
    if count > ElementMask::BITS as usize || shape.elements.iter().filter(|e| e.is_choice).count() > CHOICES_MAX {
        return Err(format!("{} has too many elements", shape.path));
    }
    let mut members = Vec::new();
    let mut required = 0;
    let mut choices = 0;
    for (index, element) in shape.elements.iter().enumerate() {
        if element.min > 0 {
            required |= 1 << index;
        }
        for (type_index, ty) in element.types.iter().enumerate() {
            let name = if element.is_choice {
                choice_name(&element.name, &ty.code)
            } else {
                element.name.clone()
            };
            let slot = Slot {
                element: index as u8,
                is_list: element.max.is_none_or(|max| max > 1),
                is_twin: false,
                choice: element.is_choice.then_some((choices, type_index as u8)),
                max: element.max.unwrap_or(u32::MAX),
                kind: slot_kind(&shape.path, element, ty, targets)
                    .ok_or_else(|| format!("{}.{name} has an unknown type {}", shape.path, ty.code))?,
                binding: element.required_binding.map(|id| id as u16),
            };
            if let SlotKind::Primitive(_) = slot.kind {
                members.push((format!("_{name}"), Slot { is_twin: true, ..slot }));
            }
            members.push((name, slot));
        }
        choices += u8::from(element.is_choice);
    }
    let elements = shape
        .elements
        .iter()
        .map(|e| ElementProgram {
            name: e.name.clone(),
            is_choice: e.is_choice,
            min: e.min,
        })
        .collect();
    Ok(ShapeProgram {
        path: shape.path.clone(),
        members: NameMap::new(members),
        elements,
        required,
        role: role(shape, definitions),
    })
}

fn role(shape: &Shape, definitions: &Definitions) -> Role {
    let place = |name: &str| shape.elements.iter().position(|e| e.name == name).map(|i| i as u8);
    match (shape.path.as_str(), place("value"), place("extension")) {
        ("Extension", Some(value), Some(extension)) => Role::Extension { value, extension },
        (path, ..) if definitions.type_named(path).is_some_and(|t| t.kind == TypeKind::Resource) => Role::Resource,
        _ => Role::Plain,
    }
}

fn slot_kind(path: &str, element: &Element, ty: &ElementType, targets: &mut Vec<Vec<String>>) -> Option<SlotKind> {
    if let Some(primitive) = Primitive::named(&ty.code) {
        return Some(SlotKind::Primitive(primitive));
    }
    match (ty.code.as_str(), ty.shape) {
        ("Resource", _) if element.name == "contained" => Some(SlotKind::Contained),
        ("Resource", _) if path == "Bundle.entry" => Some(SlotKind::Entry),
        ("Resource", _) => Some(SlotKind::Resource),
        ("Reference", Some(shape)) => {
            let found = targets.iter().position(|t| *t == ty.targets);
            let index = found.unwrap_or_else(|| {
                targets.push(ty.targets.clone());
                targets.len() - 1
            });
            Some(SlotKind::Reference(shape, index as u16))
        }
        ("Coding", Some(shape)) => Some(SlotKind::Coding(shape)),
        ("CodeableConcept", Some(shape)) => Some(SlotKind::CodeableConcept(shape)),
        (_, Some(shape)) => Some(SlotKind::Object(shape)),
        (_, None) => None,
    }
}
