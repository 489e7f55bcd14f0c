//! FHIRPath Patch: a Parameters resource whose parameters are operations.
//!
//! Spec: <https://hl7.org/fhir/R4/fhirpatch.html>. A delete that selects nothing does nothing ("if found"); an add, replace, insert or move does not
//! guess: its place must be there.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::ElementType;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::json::Value;
use crate::fhir::patch::element::Element;
use crate::fhir::patch::element::Elements;
use crate::fhir::patch::element::Slot;
use crate::fhir::patch::element::json_name;
use crate::fhir::patch::element::twin;
use crate::fhir::patch::element::unprocessable;
use crate::fhir::patch::path;
use crate::fhir::patch::path::PathStep;
use crate::fhir::patch::path::shown;
use crate::fhir::patch::tree::Node;
use crate::fhir::patch::tree::Step;
use crate::fhir::patch::tree::Tree;
use crate::outcome::Outcome;
use std::borrow::Cow;

pub enum Action<'p> {
    /// Name and value.
    Add(String, Value<'p>),
    /// Index and value.
    Insert(usize, Value<'p>),
    Delete,
    Replace(Value<'p>),
    /// Source and destination.
    Move(usize, usize),
}

pub struct Operation<'p> {
    action: Action<'p>,
    path: Vec<PathStep>,
}

/// Reads the operations. Errors: 400 naming the operation that is none.
pub fn operations<'p>(parameters: Value<'p>, operations_max: usize) -> Result<Vec<Operation<'p>>, Outcome> {
    if parameters.get_str("resourceType").as_deref() != Some("Parameters") {
        let text = "A FHIRPath Patch is a Parameters resource; JSON Patch has the type application/json-patch+json";
        return Err(Outcome::invalid(text).with_code("structure").at("resourceType"));
    }
    let mut operations = Vec::new();
    for (i, parameter) in parameters.get("parameter").into_iter().flat_map(|list| list.items()).enumerate() {
        super::check_count(i, operations_max)?;
        operations.push(read(parameter).map_err(|e| e.at(&format!("Parameters.parameter[{i}]")))?);
    }
    Ok(operations)
}

fn read<'p>(parameter: Value<'p>) -> Result<Operation<'p>, Outcome> {
    let structure = |text: String| Outcome::invalid(text).with_code("structure");
    if parameter.get_str("name").as_deref() != Some("operation") {
        return Err(structure("Each parameter of a FHIRPath Patch has the name \"operation\"".to_owned()).at("name"));
    }
    let parts: Vec<Value<'p>> = parameter.get("part").into_iter().flat_map(|list| list.items()).collect();
    let part = |name: &str| {
        let mut named = parts.iter().filter(|part| part.get_str("name").is_some_and(|n| n == name));
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(structure(format!("The part {name} is there twice"))),
            (Some(part), None) => Ok(*part),
            (None, None) => Err(structure(format!("The operation needs the part {name}"))),
        }
    };
    let known = ["type", "path", "name", "value", "index", "source", "destination"];
    // `$diff` tells what was there, too, as HAPI's does: so that its answer is a patch as it stands, that part is let through and not looked at.
    if let Some(other) = parts
        .iter()
        .filter_map(|p| p.get_str("name"))
        .find(|name| !known.contains(&name.as_ref()) && name != "previousValue")
    {
        let text = format!("An operation has no part {}: its parts are {}", shown(&other), known.join(", "));
        return Err(structure(text));
    }
    let text = |name: &str| {
        let value = part(name)?;
        let found = ["valueString", "valueCode"].iter().find_map(|member| value.get_str(member));
        let found = found.ok_or_else(|| structure(format!("The part {name} has a valueString")))?;
        Ok::<String, Outcome>(found.into_owned())
    };
    let number = |name: &str| {
        let value = part(name)?;
        let found = ["valueInteger", "valueUnsignedInt", "valuePositiveInt"]
            .iter()
            .find_map(|member| value.get(member)?.as_number());
        let found = found.and_then(|digits| digits.parse::<usize>().ok());
        found.ok_or_else(|| structure(format!("The part {name} has a valueInteger, from 0")))
    };
    let action = match text("type")?.as_str() {
        "add" => Action::Add(text("name")?, part("value")?),
        "insert" => Action::Insert(number("index")?, part("value")?),
        "delete" => Action::Delete,
        "replace" => Action::Replace(part("value")?),
        "move" => Action::Move(number("source")?, number("destination")?),
        other => {
            let text = format!("The type is add, insert, delete, replace or move, and not {}", shown(other));
            return Err(structure(text));
        }
    };
    Ok(Operation {
        action,
        path: path::read(&text("path")?).map_err(|e| e.at("path"))?,
    })
}

/// Applies the operations in order: all or, at the first that cannot be, none. Errors: 422 naming it.
pub fn apply<'d>(tree: &mut Tree<'d>, definitions: &Definitions, type_name: &str, operations: &[Operation<'d>]) -> Result<(), Outcome> {
    for (i, operation) in operations.iter().enumerate() {
        apply_one(tree, definitions, type_name, operation).map_err(|e| e.at(&format!("Parameters.parameter[{i}]")))?;
    }
    Ok(())
}

fn apply_one<'d>(tree: &mut Tree<'d>, definitions: &Definitions, type_name: &str, operation: &Operation<'d>) -> Result<(), Outcome> {
    let elements = Elements {
        tree,
        definitions,
        type_name,
    };
    match &operation.action {
        Action::Add(name, value) => {
            let parent = only(elements.select(&operation.path)?)?;
            let slot = elements.slot(&parent, name)?;
            if !slot.is_list() && slot.now.is_some() {
                return Err(unprocessable(format!("The element {} is there already: replace it", shown(name))));
            }
            let index = elements.length(&slot);
            let content = content(definitions, &slot, *value)?;
            insert(tree, &slot, content, index)
        }
        Action::Insert(index, value) => {
            let slot = list(&elements, &operation.path)?;
            let length = elements.length(&slot);
            if *index > length {
                return Err(unprocessable(format!("The list has {length} elements: index is at most that")));
            }
            let content = content(definitions, &slot, *value)?;
            insert(tree, &slot, content, *index)
        }
        Action::Delete => {
            let found = elements.select(&operation.path)?;
            match found.is_empty() {
                true => Ok(()),
                false => delete(tree, &only(found)?.at),
            }
        }
        Action::Replace(value) => {
            let element = only(elements.select(&operation.path)?)?;
            let slot = slot_of(&elements, &operation.path, &element)?;
            let content = content(definitions, &slot, *value)?;
            replace(tree, &slot, &element, content)
        }
        Action::Move(source, destination) => {
            let slot = list(&elements, &operation.path)?;
            let length = elements.length(&slot);
            if *source >= length || *destination >= length {
                let text = format!("The list has {length} elements: source and destination are less than that");
                return Err(unprocessable(text));
            }
            shift(tree, &slot, *source, *destination)
        }
    }
}

/// Errors: 422 when it is not one.
fn only(mut elements: Vec<Element<'_>>) -> Result<Element<'_>, Outcome> {
    match (elements.len(), elements.pop()) {
        (1, Some(element)) => Ok(element),
        (0, _) => Err(unprocessable("The path selects nothing: what the operation is about must be there")),
        (count, _) => Err(unprocessable(format!("The path selects {count} elements: it must select one"))),
    }
}

/// The list that a path names. Errors: 422 when it ends in no member, or that is no list.
fn list<'f>(elements: &Elements<'_, '_, 'f>, path: &[PathStep]) -> Result<Slot<'f>, Outcome> {
    let Some((PathStep::Member(name), parent)) = path.split_last() else {
        return Err(unprocessable(
            "The path of an insert or a move ends in the name of a list, without an index",
        ));
    };
    let slot = elements.slot(&only(elements.select(parent)?)?, name)?;
    match slot.is_list() {
        true => Ok(slot),
        false => Err(unprocessable(format!("The element {} is no list", shown(name)))),
    }
}

/// The slot in which a selected element stands: that of the last member of its path.
fn slot_of<'f>(elements: &Elements<'_, '_, 'f>, path: &[PathStep], element: &Element<'f>) -> Result<Slot<'f>, Outcome> {
    let place = path.iter().rposition(|step| matches!(step, PathStep::Member(_)));
    let (Some(place), false) = (place, element.at.is_empty()) else {
        return Err(unprocessable("The resource itself is replaced by an update"));
    };
    let PathStep::Member(name) = &path[place] else {
        return Err(unprocessable("The path names no element"));
    };
    let length = element.at.iter().rposition(|step| matches!(step, Step::Member(_))).unwrap_or(0);
    let parents = elements.select(&path[..place])?;
    for parent in parents {
        let slot = elements.slot(&parent, name)?;
        if slot.parent == element.at[..length] {
            return Ok(slot);
        }
    }
    Err(unprocessable("The path names no element"))
}

/// A new element, as JSON has it: under which name, its value, and its twin.
struct Content<'d> {
    name: String,
    value: Option<Node<'d>>,
    twin: Option<Node<'d>>,
}

/// The value of an operation for a slot. Errors: 422 for a type that the slot does not take.
fn content<'d>(definitions: &Definitions, slot: &Slot<'_>, part: Value<'d>) -> Result<Content<'d>, Outcome> {
    content_of(definitions, slot.definition, part)
}

fn content_of<'d>(
    definitions: &Definitions,
    definition: &crate::fhir::definitions::model::Element,
    part: Value<'d>,
) -> Result<Content<'d>, Outcome> {
    if let Some(resource) = part.get("resource") {
        return Ok(Content {
            name: definition.name.clone(),
            value: Some(Node::of(resource)),
            twin: None,
        });
    }
    if let Some(parts) = part.get("part") {
        let ty = match definition.types.as_slice() {
            [ty] => ty,
            _ => {
                return Err(unprocessable(format!(
                    "The element {} has several types: give a value[x]",
                    definition.name
                )));
            }
        };
        return Ok(Content {
            name: json_name(definition, ty),
            value: Some(object(definitions, ty, parts)?),
            twin: None,
        });
    }
    let (mut value, mut twin, mut of_value) = (None, None, None);
    for (name, member) in part.members() {
        if let Some(of_type) = name.strip_prefix("_value") {
            twin = Some(Node::of(member));
            of_value = Some(of_type.to_owned());
        } else if let Some(of_type) = name.strip_prefix("value") {
            value = Some(Node::of(member));
            of_value = Some(of_type.to_owned());
        }
    }
    let Some(of_value) = of_value else {
        return Err(Outcome::invalid("The part value has a value[x], a resource, or parts").with_code("structure"));
    };
    let name = match definition.is_choice {
        false => definition.name.clone(),
        true => {
            let wanted = format!("{}{of_value}", definition.name);
            let is_allowed = definition.types.iter().any(|ty| json_name(definition, ty) == wanted);
            if !is_allowed {
                let types: Vec<&str> = definition.types.iter().take(60).map(|ty| ty.code.as_str()).collect();
                let text = format!("The element {} has one of the types {}", definition.name, types.join(", "));
                return Err(unprocessable(text));
            }
            wanted
        }
    };
    Ok(Content { name, value, twin })
}

/// An object given as parts: each part is a member.
fn object<'d>(definitions: &Definitions, ty: &ElementType, parts: Value<'d>) -> Result<Node<'d>, Outcome> {
    let shape: ShapeId = ty
        .shape
        .or_else(|| definitions.shape_of(&ty.code))
        .ok_or_else(|| unprocessable(format!("A {} has no parts: give a value[x]", ty.code)))?;
    let mut members: Vec<(Cow<'d, str>, Node<'d>)> = Vec::new();
    for part in parts.items() {
        let name = part
            .get_str("name")
            .ok_or_else(|| Outcome::invalid("A part needs a name").with_code("structure"))?;
        let definition = definitions
            .element(shape, &name)
            .or_else(|| definitions.member(shape, &name).map(|m| m.element))
            .ok_or_else(|| unprocessable(format!("{} has no element {}", definitions.shape(shape).path, shown(&name))))?;
        let content = content_of(definitions, definition, part)?;
        let is_list = definition.max != Some(1);
        let twin_name = format!("_{}", content.name);
        let before = members
            .iter()
            .find(|(n, _)| *n == content.name)
            .or_else(|| members.iter().find(|(n, _)| *n == twin_name));
        let length = before.map_or(0, |(_, node)| node.items().len());
        if before.is_some() && !is_list {
            return Err(unprocessable(format!(
                "The element {} is no list: it is given twice",
                definition.name
            )));
        }
        set(&mut members, content.name, content.value, is_list, length);
        set(&mut members, twin_name, content.twin, is_list, length);
    }
    Ok(Node::Object(members))
}

fn set<'d>(members: &mut Vec<(Cow<'d, str>, Node<'d>)>, name: String, value: Option<Node<'d>>, is_list: bool, length: usize) {
    let before = members.iter_mut().find(|(n, _)| *n == name).map(|(_, node)| node);
    match (before, value) {
        (Some(Node::Array(items)), value) => items.push(value.unwrap_or_else(Node::null)),
        (None, Some(value)) if is_list => {
            let mut items: Vec<Node<'d>> = (0..length).map(|_| Node::null()).collect();
            items.push(value);
            members.push((Cow::Owned(name), Node::Array(items)));
        }
        (_, Some(value)) => members.push((Cow::Owned(name), value)),
        (_, None) => {}
    }
}

fn member(parent: &[Step], name: &str) -> Vec<Step> {
    let mut at = parent.to_vec();
    at.push(Step::Member(name.to_owned()));
    at
}

fn item(list: &[Step], index: usize) -> Vec<Step> {
    let mut at = list.to_vec();
    at.push(Step::Index(index));
    at
}

/// Puts an element into its slot: into the list at the index, or as the member.
fn insert<'d>(tree: &mut Tree<'d>, slot: &Slot<'_>, content: Content<'d>, index: usize) -> Result<(), Outcome> {
    // What holds the members of a primitive is its twin, which may not be there yet.
    if tree.get(&slot.parent).is_none_or(|node| node.is_null()) {
        make(tree, &slot.parent)?;
    }
    let at = member(&slot.parent, &content.name);
    let twin = twin(&at);
    if !slot.is_list() {
        if let Some(value) = content.value {
            tree.put(&at, value)?;
        }
        return match content.twin {
            Some(value) => tree.put(&twin, value),
            None => Ok(()),
        };
    }
    let length = [&at, &twin]
        .iter()
        .map(|at| tree.get(at).map_or(0, |n| n.items().len()))
        .max()
        .unwrap_or(0);
    for (at, value) in [(&at, content.value), (&twin, content.twin)] {
        match (tree.get(at).map(|n| n.items().len()), value) {
            (None, None) => continue,
            (None, Some(value)) => {
                let nulls = (0..length).map(|_| Node::null()).collect();
                tree.put(at, Node::Array(nulls))?;
                tree.put(&item(at, index), value)?;
            }
            (Some(there), value) => {
                for place in there..length {
                    tree.put(&item(at, place), Node::null())?;
                }
                tree.put(&item(at, index), value.unwrap_or_else(Node::null))?;
            }
        }
    }
    Ok(())
}

/// Makes the twin of a primitive, and the lists around it.
fn make(tree: &mut Tree<'_>, at: &[Step]) -> Result<(), Outcome> {
    match at.split_last() {
        Some((Step::Index(index), list)) => {
            if tree.get(list).is_none() {
                tree.put(list, Node::Array(Vec::new()))?;
            }
            let there = tree.get(list).map_or(0, |n| n.items().len());
            for place in there..*index {
                tree.put(&item(list, place), Node::null())?;
            }
            match *index < there {
                true => tree.replace(at, Node::Object(Vec::new())),
                false => tree.put(at, Node::Object(Vec::new())),
            }
        }
        _ => tree.put(at, Node::Object(Vec::new())),
    }
}

/// Deletes an element with its twin, and what it leaves empty.
fn delete(tree: &mut Tree<'_>, at: &[Step]) -> Result<(), Outcome> {
    if at.is_empty() {
        return Err(unprocessable("The resource itself is deleted by DELETE"));
    }
    for at in [at.to_vec(), twin(at)] {
        if tree.get(&at).is_none() {
            continue;
        }
        tree.take(&at)?;
        // A list in which nothing is left but nulls goes with them.
        if let Some((Step::Index(_), list)) = at.split_last()
            && tree.get(list).is_some_and(|node| node.items().iter().all(Node::is_null))
            && (is_twin(list) || !has_items(tree, &twin(list)))
        {
            tree.take(list)?;
        }
    }
    tree.prune();
    Ok(())
}

fn has_items(tree: &Tree<'_>, list: &[Step]) -> bool {
    tree.get(list).is_some_and(|node| node.items().iter().any(|item| !item.is_null()))
}

fn is_twin(list: &[Step]) -> bool {
    matches!(list.last(), Some(Step::Member(name)) if name.starts_with('_'))
}

fn replace<'d>(tree: &mut Tree<'d>, slot: &Slot<'_>, element: &Element<'_>, content: Content<'d>) -> Result<(), Outcome> {
    let mut at = element.at.clone();
    let old_twin = twin(&at);
    // A choice of another type has another name; it stays where it stood.
    if let Some((Step::Member(old), parent)) = at.split_last()
        && *old != content.name
    {
        let (old, parent) = (old.clone(), parent.to_vec());
        if tree.get(&old_twin).is_some() {
            tree.take(&old_twin)?;
        }
        tree.rename(&parent, &old, &content.name);
        at = member(&parent, &content.name);
    }
    let twin = twin(&at);
    let is_item = slot.is_list();
    for (at, value) in [(at, content.value), (twin, content.twin)] {
        match (tree.get(&at).is_some(), value) {
            (true, Some(value)) => tree.replace(&at, value)?,
            (true, None) if is_item => tree.replace(&at, Node::null())?,
            (true, None) => drop(tree.take(&at)?),
            (false, None) => {}
            (false, Some(value)) if is_item => {
                make(tree, &at)?;
                tree.replace(&at, value)?;
            }
            (false, Some(value)) => tree.put(&at, value)?,
        }
    }
    Ok(())
}

/// Moves an item within its list, and its twin with it.
fn shift(tree: &mut Tree<'_>, slot: &Slot<'_>, source: usize, destination: usize) -> Result<(), Outcome> {
    let Some((name, _)) = &slot.now else { return Ok(()) };
    let list = member(&slot.parent, name);
    let length = [list.clone(), twin(&list)]
        .iter()
        .map(|at| tree.get(at).map_or(0, |n| n.items().len()))
        .max()
        .unwrap_or(0);
    for list in [list.clone(), twin(&list)] {
        let Some(there) = tree.get(&list).map(|n| n.items().len()) else {
            continue;
        };
        for place in there..length {
            tree.put(&item(&list, place), Node::null())?;
        }
        let taken = tree.take(&item(&list, source))?;
        tree.put(&item(&list, destination), taken)?;
    }
    Ok(())
}
