//! The elements that a path selects in a resource: where each stands in the JSON, and of which type it is.
//!
//! A primitive has two places there: its value (`birthDate`) and its twin (`_birthDate`), with id and extensions.
//! Spec: <https://hl7.org/fhir/R4/json.html#primitive>.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::choice_name;
use crate::fhir::definitions::model::Element as Definition;
use crate::fhir::definitions::model::ElementType;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::patch::path::Condition;
use crate::fhir::patch::path::Operand;
use crate::fhir::patch::path::PathStep;
use crate::fhir::patch::path::shown;
use crate::fhir::patch::tree::Node;
use crate::fhir::patch::tree::Step;
use crate::fhir::patch::tree::Tree;
use crate::fhir::patch::tree::is_same_number;
use crate::outcome::Category;
use crate::outcome::Outcome;
use std::borrow::Cow;

/// An element that is there.
#[derive(Debug, Clone)]
pub struct Element<'f> {
    /// Where its value stands or, for a primitive that only has extensions, would stand.
    pub at: Vec<Step>,
    /// `HumanName`, `date` ...
    pub code: Cow<'f, str>,
    shape: Option<ShapeId>,
    is_primitive: bool,
}

/// A member of an element, there or not.
pub struct Slot<'f> {
    pub parent: Vec<Step>,
    pub definition: &'f Definition,
    /// Its name and type in JSON, as it is there now.
    pub now: Option<(String, &'f ElementType)>,
}

impl Slot<'_> {
    pub fn is_list(&self) -> bool {
        self.definition.max != Some(1)
    }
}

/// The place of the twin of a primitive at this place.
pub fn twin(at: &[Step]) -> Vec<Step> {
    let mut twin = at.to_vec();
    if let Some(Step::Member(name)) = twin.iter_mut().rev().find(|step| matches!(step, Step::Member(_))) {
        name.insert(0, '_');
    }
    twin
}

pub fn unprocessable(text: impl Into<String>) -> Outcome {
    Outcome::new(Category::Unprocessable, "processing", text)
}

/// What paths are evaluated over.
pub struct Elements<'t, 'd, 'f> {
    pub tree: &'t Tree<'d>,
    pub definitions: &'f Definitions,
    pub type_name: &'f str,
}

impl<'f> Elements<'_, '_, 'f> {
    fn root(&self) -> Element<'f> {
        Element {
            at: Vec::new(),
            code: Cow::Borrowed(self.type_name),
            shape: self.definitions.shape_of(self.type_name),
            is_primitive: false,
        }
    }

    /// The elements that a path selects. Errors: 422 for a name that the type does not have.
    pub fn select(&self, path: &[PathStep]) -> Result<Vec<Element<'f>>, Outcome> {
        let rest = match path.split_first() {
            Some((PathStep::Member(name), rest)) if name == self.type_name => rest,
            _ => path,
        };
        self.follow(vec![self.root()], rest)
    }

    fn follow(&self, mut elements: Vec<Element<'f>>, path: &[PathStep]) -> Result<Vec<Element<'f>>, Outcome> {
        for step in path {
            elements = match step {
                PathStep::Member(name) => {
                    let mut members = Vec::new();
                    for element in &elements {
                        self.members(element, name, &mut members)?;
                    }
                    members
                }
                PathStep::Index(index) => elements.into_iter().nth(*index).into_iter().collect(),
                PathStep::First => elements.into_iter().next().into_iter().collect(),
                PathStep::Last => elements.into_iter().next_back().into_iter().collect(),
                PathStep::OfType(code) => elements.into_iter().filter(|e| e.code == *code).collect(),
                PathStep::Where(condition) => {
                    let mut held = Vec::new();
                    for element in elements {
                        if self.holds(&element, condition)? {
                            held.push(element);
                        }
                    }
                    held
                }
                PathStep::Exists(_) | PathStep::Empty | PathStep::Not => return Err(unprocessable("A condition is no element")),
            };
        }
        Ok(elements)
    }

    /// The object with the members of an element, and the shape that they have.
    fn object(&self, element: &Element<'f>) -> (Vec<Step>, Option<ShapeId>) {
        if element.is_primitive {
            return (twin(&element.at), self.definitions.shape_of("Element"));
        }
        let of_resource = || {
            let name = self.tree.get(&element.at)?.get("resourceType")?.text()?;
            self.definitions.shape_of(&name)
        };
        (element.at.clone(), element.shape.or_else(of_resource))
    }

    /// The member of this name, there or not. Errors: 422 when its type has no such.
    pub fn slot(&self, element: &Element<'f>, name: &str) -> Result<Slot<'f>, Outcome> {
        let (parent, shape) = self.object(element);
        let unknown = || unprocessable(format!("{} has no element {}", element.code, shown(name)));
        let shape = shape.ok_or_else(unknown)?;
        let by_name = self.definitions.element(shape, name);
        // `valueQuantity` is no FHIRPath, but what many write.
        let of_json = || self.definitions.member(shape, name).filter(|m| !m.is_twin).map(|m| m.element);
        let definition = by_name.or_else(of_json).ok_or_else(unknown)?;
        let object = self.tree.get(&parent);
        self.tree.walk(object.map_or(0, Node::width))?;
        let is_there = |name: &str| {
            let has = |name: &str| object.and_then(|o| o.get(name)).is_some_and(|node| !node.is_empty());
            has(name) || has(&format!("_{name}"))
        };
        let now = definition
            .types
            .iter()
            .map(|ty| (json_name(definition, ty), ty))
            .find(|(name, _)| is_there(name));
        Ok(Slot { parent, definition, now })
    }

    fn members(&self, element: &Element<'f>, name: &str, out: &mut Vec<Element<'f>>) -> Result<(), Outcome> {
        let slot = self.slot(element, name)?;
        let Some((json, ty)) = &slot.now else { return Ok(()) };
        let mut at = slot.parent.clone();
        at.push(Step::Member(json.clone()));
        let mut element = Element {
            at,
            code: Cow::Borrowed(ty.code.as_str()),
            shape: ty.shape,
            is_primitive: self.definitions.is_primitive(&ty.code) || ty.code == "xhtml",
        };
        if element.shape.is_none() && !element.is_primitive && ty.code != "Resource" {
            element.shape = self.definitions.shape_of(&ty.code);
        }
        if !slot.is_list() {
            out.push(element);
            return Ok(());
        }
        let length = self.length(&slot);
        self.tree.walk(length)?;
        for index in 0..length {
            let mut item = element.clone();
            item.at.push(Step::Index(index));
            if ty.code == "Resource" {
                let name = self
                    .tree
                    .get(&item.at)
                    .and_then(|node| node.get("resourceType"))
                    .and_then(Node::text);
                item.code = Cow::Owned(name.unwrap_or_default().into_owned());
            }
            out.push(item);
        }
        Ok(())
    }

    /// How many items a list has.
    pub fn length(&self, slot: &Slot<'f>) -> usize {
        let Some((json, _)) = &slot.now else { return 0 };
        let mut at = slot.parent.clone();
        at.push(Step::Member(json.clone()));
        let length = |at: &[Step]| self.tree.get(at).map_or(0, |node| node.items().len());
        length(&at).max(length(&twin(&at)))
    }

    fn holds(&self, element: &Element<'f>, condition: &Condition) -> Result<bool, Outcome> {
        Ok(match condition {
            Condition::And(a, b) => self.holds(element, a)? && self.holds(element, b)?,
            Condition::Or(a, b) => self.holds(element, a)? || self.holds(element, b)?,
            Condition::Equal(a, b) => self.compare(element, a, b)? == Some(true),
            Condition::Differs(a, b) => self.compare(element, a, b)? == Some(false),
            Condition::Holds(operand) => matches!(self.values(element, operand)?.as_slice(), [Value::Boolean(true)]),
        })
    }

    /// `None` when a side is empty: then neither `=` nor `!=` holds.
    fn compare(&self, element: &Element<'f>, a: &Operand, b: &Operand) -> Result<Option<bool>, Outcome> {
        let (a, b) = (self.values(element, a)?, self.values(element, b)?);
        if a.is_empty() || b.is_empty() {
            return Ok(None);
        }
        Ok(Some(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.is_same(b))))
    }

    fn values(&self, element: &Element<'f>, operand: &Operand) -> Result<Vec<Value>, Outcome> {
        let path = match operand {
            Operand::Text(text) => return Ok(vec![Value::Text(text.clone())]),
            Operand::Number(number) => return Ok(vec![Value::Number(number.clone())]),
            Operand::Boolean(boolean) => return Ok(vec![Value::Boolean(*boolean)]),
            Operand::Nested(condition) => return Ok(vec![Value::Boolean(self.holds(element, condition)?)]),
            Operand::Path(path) => path,
        };
        let is_condition = |s: &PathStep| matches!(s, PathStep::Exists(_) | PathStep::Empty | PathStep::Not);
        let end = path.iter().position(is_condition).unwrap_or(path.len());
        let elements = self.follow(vec![element.clone()], &path[..end])?;
        let Some((first, rest)) = path[end..].split_first() else {
            let value = |element: &Element<'f>| self.tree.get(&element.at).and_then(Value::of);
            return Ok(elements.iter().filter_map(value).collect());
        };
        let mut holds = match first {
            PathStep::Exists(None) => !elements.is_empty(),
            PathStep::Exists(Some(condition)) => {
                let mut any = false;
                for element in &elements {
                    any = any || self.holds(element, condition)?;
                }
                any
            }
            PathStep::Not => {
                let value = elements.first().and_then(|e| self.tree.get(&e.at)).and_then(Value::of);
                matches!(value, Some(Value::Boolean(false)))
            }
            _ => elements.is_empty(),
        };
        for step in rest {
            match step {
                PathStep::Not => holds = !holds,
                _ => return Err(unprocessable("Behind exists(), empty() and not() only not() may follow")),
            }
        }
        Ok(vec![Value::Boolean(holds)])
    }
}

/// The name of an element in JSON as one of its types.
pub fn json_name(definition: &Definition, ty: &ElementType) -> String {
    match definition.is_choice {
        true => choice_name(&definition.name, &ty.code),
        false => definition.name.clone(),
    }
}

/// What conditions compare.
enum Value {
    Text(String),
    Number(String),
    Boolean(bool),
}

impl Value {
    /// `None` for what has no value: null, objects and lists.
    fn of(node: &Node<'_>) -> Option<Value> {
        let Node::Leaf(raw) = node else { return None };
        match raw.as_ref() {
            "null" => None,
            "true" => Some(Value::Boolean(true)),
            "false" => Some(Value::Boolean(false)),
            text if text.starts_with('"') => Some(Value::Text(node.text()?.into_owned())),
            number => Some(Value::Number(number.to_owned())),
        }
    }

    fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => is_same_number(a, b),
            (Value::Boolean(a), Value::Boolean(b)) => a == b,
            _ => false,
        }
    }
}
