//! Resources made from the element tables of the StructureDefinitions: right ones, and right ones with seeded mistakes.

use crate::tree::Node;
use crate::values::CODES;
use crate::values::FAMILIES;
use crate::values::SYSTEMS;
use crate::values::odd_node;
use crate::values::pick;
use crate::values::primitive;
use eds::fhir::definitions::Definitions;
use eds::fhir::definitions::choice_name;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::Element;
use eds::fhir::definitions::model::ElementType;
use eds::fhir::definitions::model::ShapeId;
use eds::fhir::definitions::model::ValueSetId;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// The types that most requests are about, so that they meet each other.
pub const TYPES: [&str; 12] = [
    "Patient",
    "Patient",
    "Observation",
    "Observation",
    "Condition",
    "Encounter",
    "DocumentReference",
    "Composition",
    "Organization",
    "Practitioner",
    "Location",
    "Questionnaire",
];
/// Ids that a client chooses, for each type.
const IDS: usize = 6;
/// Deeper than this only what must be there is.
const OPTIONAL_DEPTH_MAX: usize = 4;

/// Makes resources for one client, whose ids begin with `prefix`.
pub struct Resources {
    pub definitions: &'static Definitions,
    pub prefix: String,
}

impl Resources {
    pub fn new(prefix: String) -> Resources {
        Resources {
            definitions: definitions(),
            prefix,
        }
    }

    pub fn type_name(&self, rng: &mut StdRng) -> String {
        match rng.random_bool(0.75) {
            true => pick(rng, &TYPES).to_owned(),
            false => self.definitions.resource_types().choose(rng).cloned().unwrap_or_default(),
        }
    }

    /// Mostly one that no other client uses.
    pub fn id(&self, rng: &mut StdRng) -> String {
        let prefix = if rng.random_bool(0.1) { "shared" } else { &self.prefix };
        format!("{prefix}-{}", rng.random_range(0..IDS))
    }

    /// A resource that follows the definitions; with an id if one is given.
    pub fn resource(&self, rng: &mut StdRng, type_name: &str, id: Option<&str>) -> Node {
        let mut resource = Node::object([("resourceType", Node::text(type_name))]);
        if let Some(id) = id {
            resource.push("id", Node::text(id));
        }
        if rng.random_bool(0.3) {
            let coding = self.coding(rng, None);
            resource.push("meta", Node::object([("tag", Node::List(vec![coding]))]));
        }
        let shape = self.definitions.shape_of(type_name).expect("a type of the definitions");
        if rng.random_bool(0.1) && self.definitions.element(shape, "contained").is_some() {
            let id = pick(rng, &["c1", "c2"]);
            let contained = Node::object([
                ("resourceType", Node::text("Organization")),
                ("id", Node::text(id)),
                ("name", Node::text("x")),
            ]);
            resource.push("contained", Node::List(vec![contained]));
        }
        if rng.random_bool(0.4) && self.definitions.element(shape, "identifier").is_some_and(|e| e.max.is_none()) {
            let identifier = self.identifier(rng);
            resource.push("identifier", Node::List(vec![identifier]));
        }
        self.members(rng, shape, 0, &mut resource);
        resource
    }

    fn members(&self, rng: &mut StdRng, shape: ShapeId, depth: usize, into: &mut Node) {
        const APART: [&str; 8] = [
            "id",
            "meta",
            "contained",
            "implicitRules",
            "extension",
            "modifierExtension",
            "language",
            "resourceType",
        ];
        for element in &self.definitions.shape(shape).elements {
            let has = matches!(into, Node::Object(members) if members.iter().any(|(name, _)| *name == element.name));
            let likely = match (APART.contains(&element.name.as_str()), depth) {
                (true, _) => 0.01,
                (false, 0) => 0.25,
                (false, 1..=OPTIONAL_DEPTH_MAX) => 0.2,
                _ => 0.0,
            };
            if has || element.max == Some(0) || element.min == 0 && !rng.random_bool(likely) {
                continue;
            }
            self.member(rng, element, depth, into);
        }
    }

    fn member(&self, rng: &mut StdRng, element: &Element, depth: usize, into: &mut Node) {
        let Some(ty) = element.types.choose(rng) else { return };
        let name = match element.is_choice {
            true => choice_name(&element.name, &ty.code),
            false => element.name.clone(),
        };
        let is_primitive = self.definitions.is_primitive(&ty.code);
        if element.max == Some(1) {
            let value = self.element_value(rng, element, ty, depth);
            into.push(&name, value);
            if is_primitive && rng.random_bool(0.03) {
                into.push(&format!("_{name}"), Node::object([("extension", Node::List(vec![extension(rng)]))]));
            }
            return;
        }
        let count = (element.min as usize).max(1) + usize::from(rng.random_bool(0.3));
        let mut values: Vec<Node> = (0..count).map(|_| self.element_value(rng, element, ty, depth)).collect();
        if is_primitive && rng.random_bool(0.05) {
            // A `null` whose twin says why.
            let mut twins = vec![Node::raw("null"); values.len()];
            values.push(Node::raw("null"));
            twins.push(Node::object([("extension", Node::List(vec![extension(rng)]))]));
            into.push(&format!("_{name}"), Node::List(twins));
        }
        into.push(&name, Node::List(values));
    }

    fn element_value(&self, rng: &mut StdRng, element: &Element, ty: &ElementType, depth: usize) -> Node {
        match ty.code.as_str() {
            "code" => match self.bound(rng, element.required_binding) {
                Some((_, code)) => Node::text(&code),
                None => primitive(rng, "code"),
            },
            "Coding" => self.coding(rng, element.required_binding),
            "CodeableConcept" => {
                let coding = self.coding(rng, element.required_binding);
                Node::object([("coding", Node::List(vec![coding])), ("text", primitive(rng, "string"))])
            }
            "Reference" => self.reference(rng, &ty.targets),
            "Identifier" if rng.random_bool(0.7) => self.identifier(rng),
            "Extension" => extension(rng),
            "Narrative" => Node::object([("status", Node::text("generated")), ("div", primitive(rng, "xhtml"))]),
            "Resource" => Node::object([
                ("resourceType", Node::text("Basic")),
                ("code", Node::object([("text", primitive(rng, "string"))])),
            ]),
            "string" if element.name == "family" => Node::text(pick(rng, &FAMILIES)),
            code if self.definitions.is_primitive(code) => primitive(rng, code),
            code => {
                let mut object = Node::Object(Vec::new());
                if let Some(shape) = ty.shape {
                    self.members(rng, shape, depth + 1, &mut object);
                }
                if object == Node::Object(Vec::new()) {
                    self.anything(rng, ty, code, &mut object);
                }
                object
            }
        }
    }

    /// One member, since nothing may be empty.
    fn anything(&self, rng: &mut StdRng, ty: &ElementType, code: &str, into: &mut Node) {
        let shape = ty.shape.map(|shape| self.definitions.shape(shape));
        let simple = shape.and_then(|shape| {
            let fits = |e: &&Element| e.max != Some(0) && e.name != "id" && e.types.iter().any(|t| self.definitions.is_primitive(&t.code));
            shape.elements.iter().find(fits)
        });
        match simple {
            Some(element) => self.member(rng, element, OPTIONAL_DEPTH_MAX, into),
            None => into.push(
                "extension",
                Node::List(vec![Node::object([("url", Node::text(code)), ("valueCode", Node::text("x"))])]),
            ),
        }
    }

    /// System and code of a value set that is bound, if its codes are known.
    fn bound(&self, rng: &mut StdRng, binding: Option<ValueSetId>) -> Option<(String, String)> {
        let systems = self.definitions.value_set(binding?).codes.as_ref()?;
        let system = systems.choose(rng)?;
        Some((system.system.clone(), system.codes.choose(rng)?.clone()))
    }

    pub fn coding(&self, rng: &mut StdRng, binding: Option<ValueSetId>) -> Node {
        let (system, code) = match self.bound(rng, binding) {
            Some(bound) => bound,
            None => (pick(rng, &SYSTEMS[..2]).to_owned(), pick(rng, &CODES).to_owned()),
        };
        Node::object([("system", Node::text(&system)), ("code", Node::text(&code))])
    }

    pub fn identifier(&self, rng: &mut StdRng) -> Node {
        let value = format!("{}-{}", self.prefix, rng.random_range(0..20));
        Node::object([("system", Node::text("urn:s:1")), ("value", Node::text(&value))])
    }

    pub fn reference(&self, rng: &mut StdRng, targets: &[String]) -> Node {
        let target = match targets.choose(rng) {
            Some(target) if self.definitions.is_resource(target) => target.clone(),
            _ => self.type_name(rng),
        };
        let id = self.id(rng);
        match rng.random_range(0..20) {
            0 => Node::object([("display", primitive(rng, "string"))]),
            1 => Node::object([("identifier", self.identifier(rng)), ("type", Node::text(&target))]),
            2 => Node::object([("reference", Node::text(&format!("{target}/{id}/_history/1")))]),
            3 => Node::object([("reference", Node::text(&format!("http://example.org/fhir/{target}/{id}")))]),
            4 => Node::object([("reference", Node::text("urn:uuid:6f0e1c1a-0000-4000-8000-000000000002"))]),
            _ => Node::object([("reference", Node::text(&format!("{target}/{id}")))]),
        }
    }
}

fn extension(rng: &mut StdRng) -> Node {
    Node::object([
        ("url", Node::text("http://example.org/x")),
        ("valueString", primitive(rng, "string")),
    ])
}

/// Some mistakes in a tree: values out of place, members lost, doubled or strange.
pub fn spoil(rng: &mut StdRng, tree: &mut Node) {
    for _ in 0..rng.random_range(1..4) {
        let place = rng.random_range(0..tree.size());
        let Some(node) = tree.at(place) else { continue };
        match (rng.random_range(0..8), &mut *node) {
            (0, Node::Object(members)) if !members.is_empty() => drop(members.remove(rng.random_range(0..members.len()))),
            (1, Node::Object(members)) if !members.is_empty() => {
                let twice = members.choose(rng).cloned().expect("not empty");
                members.push(twice);
            }
            (2, Node::Object(members)) if !members.is_empty() => {
                let at = rng.random_range(0..members.len());
                members[at].0 = format!("_{}", members[at].0);
            }
            (3, Node::Object(members)) => {
                let name = pick(rng, &["extra", "_id", "extension", "resourceType", "contained", "value", "é", ""]);
                members.push((name.to_owned(), odd_node(rng)));
            }
            (4, Node::List(items)) if !items.is_empty() => {
                let again = items[0].clone();
                items.resize(rng.random_range(0..50), again);
            }
            (5, node) => *node = Node::List(vec![node.clone()]),
            (_, node) => *node = odd_node(rng),
        }
    }
}
