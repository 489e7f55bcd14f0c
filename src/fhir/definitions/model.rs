//! The compact form of FHIR R4's definitions: written by `build.rs` at build time, read by the server at start.
//!
//! This file is compiled into both, so it knows nothing else of the crate.
//! Source: StructureDefinition, SearchParameter, CompartmentDefinition, ValueSet and CodeSystem of R4 4.0.1,
//! <https://hl7.org/fhir/R4/downloads.html>.

use serde::Deserialize;
use serde::Serialize;

/// Index into [`Model::shapes`].
pub type ShapeId = u32;
/// Index into [`Model::value_sets`].
pub type ValueSetId = u32;

#[derive(Debug, Serialize, Deserialize)]
pub struct Model {
    /// Every datatype and resource type, sorted by name.
    pub types: Vec<TypeDefinition>,
    /// One per type with children and one per backbone element.
    pub shapes: Vec<Shape>,
    /// The value sets of required bindings, expanded where R4's own code systems suffice.
    pub value_sets: Vec<ValueSet>,
    pub search_parameters: Vec<SearchParameter>,
    pub compartments: Vec<Compartment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TypeKind {
    Primitive,
    Complex,
    Resource,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TypeDefinition {
    /// `Patient`, `HumanName`, `dateTime` ...
    pub name: String,
    pub kind: TypeKind,
    pub is_abstract: bool,
    /// Name of the base type, empty for the roots.
    pub base: String,
    /// Absent for primitives.
    pub shape: Option<ShapeId>,
}

/// The members that one JSON object may have.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shape {
    /// `Patient.contact`, `HumanName`: for messages.
    pub path: String,
    /// In the order of the definition.
    pub elements: Vec<Element>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Element {
    /// Name in JSON; for a choice the stem (`value` of `value[x]`).
    pub name: String,
    pub is_choice: bool,
    pub min: u32,
    /// `None` is `*`.
    pub max: Option<u32>,
    pub types: Vec<ElementType>,
    /// Part of `_summary=true`.
    pub is_summary: bool,
    /// Required bindings only.
    pub required_binding: Option<ValueSetId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ElementType {
    /// `string`, `Reference`, `BackboneElement`, `Resource` ...
    pub code: String,
    /// Shape of a backbone element (or of the element that a contentReference names) or complex type; `None` for primitives and `Resource`.
    pub shape: Option<ShapeId>,
    /// Resource types that a Reference or canonical may name; empty means any.
    pub targets: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ValueSet {
    /// Canonical URL without version.
    pub url: String,
    /// `None` when its content is not known here: then codes are not checked.
    pub codes: Option<Vec<SystemCodes>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SystemCodes {
    pub system: String,
    /// Sorted.
    pub codes: Vec<String>,
}

/// The value sets and code systems that the binary brings, sorted by type and URL.
#[derive(Debug, Serialize, Deserialize)]
pub struct Terminology {
    pub entries: Vec<TerminologyEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TerminologyEntry {
    /// `ValueSet` or `CodeSystem`.
    pub resource_type: String,
    pub url: String,
    pub version: String,
    /// The resource, without what expansions do not need.
    pub json: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SearchParameterKind {
    Number,
    Date,
    String,
    Token,
    Reference,
    Composite,
    Quantity,
    Uri,
    Special,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SearchParameter {
    pub url: String,
    pub code: String,
    pub kind: SearchParameterKind,
    /// Resource types it applies to (`Resource` and `DomainResource` stand for all).
    pub base: Vec<String>,
    /// FHIRPath; empty for special parameters without one.
    pub expression: String,
    /// Resource types that a reference parameter may target.
    pub targets: Vec<String>,
    /// For composites: (definition URL, expression relative to the composite's own).
    pub components: Vec<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Compartment {
    /// `Patient`, `Encounter` ...
    pub code: String,
    /// Resource type to the search parameters that link it; types outside the compartment are absent.
    pub members: Vec<(String, Vec<String>)>,
}
