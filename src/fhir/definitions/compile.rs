//! Compiles the registry package's definitions into the model. Part of `build.rs`, as `model.rs` is; the server does not contain it.
//!
//! The package carries edits of its own in the resource definitions (extra elements, changed cardinalities). Its data element
//! definitions are HL7's unedited ones, so they say which elements are R4's, and what these look like.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::model::Compartment;
use crate::model::Element;
use crate::model::ElementType;
use crate::model::Model;
use crate::model::SearchParameter;
use crate::model::SearchParameterKind;
use crate::model::Shape;
use crate::model::ShapeId;
use crate::model::TypeDefinition;
use crate::model::TypeKind;
use crate::terminology::Compose;
use crate::terminology::Concept;
use crate::terminology::ValueSets;

const R4: &str = "4.0.1";
const STRUCTURE_DEFINITION: &str = "http://hl7.org/fhir/StructureDefinition/";
/// Elements that the data element definitions leave to the base types.
const INHERITED: [&str; 8] = [
    "id",
    "extension",
    "modifierExtension",
    "meta",
    "implicitRules",
    "language",
    "text",
    "contained",
];

/// Elements with longer paths have no data element definition, since ids are cut at 64 characters and then collide.
const DATA_ELEMENT_PATH_MAX: usize = 61;

/// Any definition: what we read of its kinds, side by side.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Definition {
    pub resource_type: String,
    pub id: String,
    pub url: String,
    pub version: String,
    pub fhir_version: String,
    pub kind: String,
    pub r#abstract: bool,
    pub r#type: Value,
    pub derivation: String,
    pub base_definition: String,
    pub snapshot: Snapshot,
    pub compose: Compose,
    pub content: String,
    pub concept: Vec<Concept>,
    pub code: Value,
    pub base: Value,
    pub expression: String,
    pub target: Value,
    pub component: Vec<Component>,
    pub resource: Value,
}

#[derive(Deserialize, Default)]
pub struct Snapshot {
    pub element: Vec<RawElement>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct RawElement {
    pub path: String,
    #[serde(default)]
    pub min: u32,
    #[serde(default)]
    pub is_summary: bool,
    #[serde(default)]
    pub max: String,
    #[serde(default)]
    pub r#type: Vec<RawType>,
    pub content_reference: Option<String>,
    pub binding: Option<Binding>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct RawType {
    pub code: String,
    pub profile: Vec<String>,
    pub target_profile: Vec<String>,
    pub extension: Vec<TypeExtension>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct TypeExtension {
    pub url: String,
    pub value_url: Option<String>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    pub strength: String,
    pub value_set: Option<String>,
}

#[derive(Deserialize)]
pub struct Component {
    pub definition: String,
    pub expression: String,
}

/// Compiles the parsed files, by name.
pub fn compile(files: &mut HashMap<&'static str, Vec<Definition>>) -> Model {
    let mut take = |name: &str| files.remove(name).expect("checked on reading");
    let mut definitions = take("profiles-types.json");
    definitions.append(&mut take("profiles-resources.json"));
    let mut terminology = take("valuesets.json");
    terminology.append(&mut take("v3-codesystems.json"));
    let structures: Vec<Definition> = restore_r4(&definitions, &take("dataelements.json"));
    let compartments = definitions
        .iter()
        .filter(|d| d.resource_type == "CompartmentDefinition")
        .map(compartment)
        .collect();

    let mut value_sets = ValueSets::new(&terminology);
    let (types, shapes) = compile_structures(&structures, &mut value_sets);
    let resources: BTreeSet<&str> = types
        .iter()
        .filter(|t| t.kind == TypeKind::Resource)
        .map(|t| t.name.as_str())
        .collect();
    let search_parameters = take("search-parameters.json")
        .iter()
        .filter(|p| p.version == R4)
        .filter_map(|p| search_parameter(p, &resources))
        .collect();
    Model {
        types,
        shapes,
        value_sets: value_sets.compiled,
        search_parameters,
        compartments,
    }
}

/// The structures of R4, each element as HL7 published it; elements that R4 does not have are left out.
fn restore_r4(definitions: &[Definition], data_elements: &[Definition]) -> Vec<Definition> {
    let mut originals: BTreeMap<&str, Vec<&RawElement>> = BTreeMap::new();
    for data_element in data_elements {
        let element = &data_element.snapshot.element[0];
        originals
            .entry(element.path.split('.').next().unwrap_or_default())
            .or_default()
            .push(element);
    }
    let mut structures = Vec::new();
    for definition in definitions {
        let is_type = definition.resource_type == "StructureDefinition" && definition.fhir_version == R4 && definition.kind != "logical";
        if !is_type {
            continue;
        }
        let is_constraint = definition.derivation == "constraint";
        let elements = match originals.get(definition.id.as_str()) {
            Some(originals) if !is_constraint => restore_elements(&definition.snapshot.element, originals),
            _ => definition.snapshot.element.clone(),
        };
        structures.push(Definition {
            id: definition.id.clone(),
            kind: definition.kind.clone(),
            r#abstract: definition.r#abstract,
            derivation: definition.derivation.clone(),
            base_definition: definition.base_definition.clone(),
            snapshot: Snapshot { element: elements },
            ..Definition::default()
        });
    }
    structures.sort_by(|a, b| a.id.cmp(&b.id));
    structures
}

fn restore_elements(published: &[RawElement], originals: &[&RawElement]) -> Vec<RawElement> {
    let mut kept: Vec<RawElement> = Vec::new();
    for element in published {
        let prefix = format!("{}.", element.path);
        let original = originals.iter().find(|o| o.path == element.path);
        let is_group = originals.iter().any(|o| o.path.starts_with(&prefix)) || element.content_reference.is_some();
        let is_inherited = INHERITED.contains(&element.path.rsplit('.').next().unwrap_or_default());
        let is_long = element.path.len() > DATA_ELEMENT_PATH_MAX;
        let has_parent = element
            .path
            .rsplit_once('.')
            .is_none_or(|(parent, _)| kept.iter().any(|k| k.path == parent));
        match original {
            // Its data element was overwritten by that of SimpleQuantity, which prohibits it.
            Some(_) if element.path == "Quantity.comparator" => kept.push(element.clone()),
            Some(original) => kept.push((*original).clone()),
            None if has_parent && (is_group || is_inherited || is_long || !element.path.contains('.')) => kept.push(element.clone()),
            None => {}
        }
    }
    let missing: Vec<RawElement> = originals
        .iter()
        .filter(|o| !kept.iter().any(|k| k.path == o.path))
        .map(|o| (*o).clone())
        .collect();
    kept.extend(missing);
    kept
}

fn compile_structures(structures: &[Definition], value_sets: &mut ValueSets) -> (Vec<TypeDefinition>, Vec<Shape>) {
    let mut shape_ids: HashMap<(&str, &str), ShapeId> = HashMap::new();
    for structure in structures.iter().filter(|s| s.kind != "primitive-type") {
        let elements = &structure.snapshot.element;
        let parents: BTreeSet<&str> = elements
            .iter()
            .filter_map(|e| e.path.rsplit_once('.'))
            .map(|(parent, _)| parent)
            .collect();
        for path in elements.iter().map(|e| e.path.as_str()).filter(|path| parents.contains(path)) {
            let id = shape_ids.len() as ShapeId;
            shape_ids.insert((structure.id.as_str(), path), id);
        }
    }
    let mut shapes: Vec<Shape> = (0..shape_ids.len())
        .map(|_| Shape {
            path: String::new(),
            elements: Vec::new(),
        })
        .collect();
    for structure in structures.iter().filter(|s| s.kind != "primitive-type") {
        for (index, element) in structure.snapshot.element.iter().enumerate() {
            if let Some(id) = shape_ids.get(&(structure.id.as_str(), element.path.as_str())) {
                shapes[*id as usize].path.clone_from(&element.path);
            }
            let Some((parent, name)) = element.path.rsplit_once('.') else {
                continue;
            };
            let compiled = compile_element(structure, index, name, &shape_ids, value_sets);
            shapes[shape_ids[&(structure.id.as_str(), parent)] as usize].elements.push(compiled);
        }
    }
    let types = structures
        .iter()
        .filter(|s| s.derivation != "constraint")
        .map(|s| type_definition(s, &shape_ids))
        .collect();
    (types, shapes)
}

fn type_definition(structure: &Definition, shape_ids: &HashMap<(&str, &str), ShapeId>) -> TypeDefinition {
    TypeDefinition {
        name: structure.id.clone(),
        kind: match structure.kind.as_str() {
            "primitive-type" => TypeKind::Primitive,
            "complex-type" => TypeKind::Complex,
            "resource" => TypeKind::Resource,
            other => panic!("{}: unknown kind {other}", structure.id),
        },
        is_abstract: structure.r#abstract,
        base: structure.base_definition.trim_start_matches(STRUCTURE_DEFINITION).to_owned(),
        shape: shape_ids.get(&(structure.id.as_str(), structure.id.as_str())).copied(),
    }
}

fn compile_element(
    structure: &Definition,
    index: usize,
    name: &str,
    shape_ids: &HashMap<(&str, &str), ShapeId>,
    value_sets: &mut ValueSets,
) -> Element {
    let element = &structure.snapshot.element[index];
    let is_resource_id = structure.kind == "resource" && element.path == format!("{}.id", structure.id);
    let mut types = Vec::new();
    if let Some(reference) = &element.content_reference {
        let path = reference.trim_start_matches('#');
        let target = structure
            .snapshot
            .element
            .iter()
            .find(|e| e.path == path)
            .expect("contentReference names an element");
        types.push(ElementType {
            code: target.r#type[0].code.clone(),
            shape: Some(shape_ids[&(structure.id.as_str(), path)]),
            targets: Vec::new(),
        });
    }
    for raw in &element.r#type {
        let code = if is_resource_id { "id".to_owned() } else { type_code(raw) };
        let profile = raw
            .profile
            .first()
            .map(|p| p.trim_start_matches(STRUCTURE_DEFINITION))
            .unwrap_or_default();
        let shape = shape_ids
            .get(&(structure.id.as_str(), element.path.as_str()))
            .filter(|_| element.path.contains('.'));
        let shape = shape
            .or_else(|| shape_ids.get(&(profile, code.as_str())))
            .or_else(|| shape_ids.get(&(code.as_str(), code.as_str())));
        let is_any_resource = code == "Resource";
        let mut targets: Vec<String> = raw
            .target_profile
            .iter()
            .map(|t| t.trim_start_matches(STRUCTURE_DEFINITION).to_owned())
            .collect();
        if targets.iter().any(|t| t == "Resource") {
            targets.clear();
        }
        types.push(ElementType {
            shape: shape.copied().filter(|_| !is_any_resource),
            code,
            targets,
        });
    }
    Element {
        is_choice: name.ends_with("[x]"),
        is_summary: element.is_summary,
        name: name.trim_end_matches("[x]").to_owned(),
        min: element.min,
        max: if element.max == "*" {
            None
        } else {
            Some(element.max.parse().expect("max is a number"))
        },
        types,
        required_binding: element
            .binding
            .as_ref()
            .filter(|b| b.strength == "required")
            .and_then(|b| b.value_set.as_deref())
            .map(|url| value_sets.intern(url)),
    }
}

/// The elements that are attributes in XML have FHIRPath system types; an extension says which FHIR type is meant.
fn type_code(raw: &RawType) -> String {
    if !raw.code.starts_with("http://hl7.org/fhirpath/") {
        return raw.code.clone();
    }
    let extension = raw.extension.iter().find(|e| e.url.ends_with("structuredefinition-fhir-type"));
    extension.and_then(|e| e.value_url.clone()).unwrap_or_else(|| "string".to_owned())
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str())
        .map(str::to_owned)
        .collect()
}

fn search_parameter(definition: &Definition, resources: &BTreeSet<&str>) -> Option<SearchParameter> {
    let known = |names: Vec<String>| {
        names
            .into_iter()
            .filter(|name| resources.contains(name.as_str()))
            .collect::<Vec<_>>()
    };
    let base = known(strings(&definition.base));
    let kind = match definition.r#type.as_str().unwrap_or_default() {
        "number" => SearchParameterKind::Number,
        "date" => SearchParameterKind::Date,
        "string" => SearchParameterKind::String,
        "token" => SearchParameterKind::Token,
        "reference" => SearchParameterKind::Reference,
        "composite" => SearchParameterKind::Composite,
        "quantity" => SearchParameterKind::Quantity,
        "uri" => SearchParameterKind::Uri,
        "special" => SearchParameterKind::Special,
        other => panic!("{}: unknown search type {other}", definition.url),
    };
    let parameter = SearchParameter {
        url: definition.url.clone(),
        code: definition.code.as_str().unwrap_or_default().to_owned(),
        kind,
        base,
        expression: definition.expression.clone(),
        targets: known(strings(&definition.target)),
        components: definition
            .component
            .iter()
            .map(|c| (c.definition.clone(), c.expression.clone()))
            .collect(),
    };
    (!parameter.base.is_empty()).then_some(parameter)
}

fn compartment(definition: &Definition) -> Compartment {
    let mut members: Vec<(String, Vec<String>)> = Vec::new();
    for member in definition.resource.as_array().into_iter().flatten() {
        let params = strings(&member["param"]);
        if !params.is_empty() {
            members.push((member["code"].as_str().unwrap_or_default().to_owned(), params));
        }
    }
    members.sort();
    Compartment {
        code: definition.code.as_str().unwrap_or_default().to_owned(),
        members,
    }
}
