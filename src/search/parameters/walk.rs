//! From the path of an expression to places in the tree of member names.

use crate::fhir::definitions::Definitions;
use crate::search::expression::Path;
use crate::search::expression::Step;
use crate::search::parameters::Edge;
use crate::search::parameters::Walk;
use crate::search::parameters::WalkNode;

/// A path as text: names it in hashes that the database keeps, so its form never changes.
pub fn path_name(path: &Path) -> String {
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

/// Where the values of a path are found.
pub struct Leaves {
    pub places: Vec<Leaf>,
    pub is_multiple: bool,
}

pub struct Leaf {
    pub node: usize,
    pub datatype: String,
    /// The system that a required binding implies.
    pub system: Option<String>,
}

pub fn leaves(definitions: &'static Definitions, walk: &mut Walk, type_name: &str, path: &Path) -> Result<Leaves, String> {
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
pub fn condition<'a>(steps: impl Iterator<Item = &'a Step>) -> (Option<(String, String)>, Option<usize>) {
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

pub fn child(walk: &mut Walk, from: usize, name: String, condition: Option<(String, String)>, index: Option<usize>) -> usize {
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

pub fn choice_name(stem: &str, datatype: &str) -> String {
    let mut chars = datatype.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    stem.chars().chain(first).chain(chars).collect()
}
