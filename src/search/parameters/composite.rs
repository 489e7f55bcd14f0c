//! Composites: values that must stand in the same element. Source: <https://hl7.org/fhir/R4/searchparameter-definitions.html#SearchParameter.component>.
//!
//! Parts of an element that is there once are values of the resource: all must hold. Parts of an element that may repeat are joined in the index:
//! codes and references as terms of both values, a code and a quantity by a column beside the quantity, two numbers as the two ends of one row. A code
//! and a quantity are joined on the resource itself too, so that values of one dense code are found by one range of the index.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::SearchParameter;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::hash;
use crate::search::datatype::datatype;
use crate::search::expression;
use crate::search::expression::Path;
use crate::search::expression::Step;
use crate::search::parameters::Parameter;
use crate::search::parameters::Walk;
use crate::search::parameters::WalkNode;
use crate::search::parameters::compile::grow;
use crate::search::parameters::compile::parameter;
use crate::search::parameters::walk::leaves;
use crate::search::parameters::walk::path_name;

/// What stands before a path from the resource, in a component of an element below it.
const OF_RESOURCE: &str = "%resource";

/// One element whose values are joined.
#[derive(Debug, Clone)]
pub struct Composite {
    pub parts: Vec<Part>,
    pub joined: Joined,
}

/// One value of a composite.
#[derive(Debug, Clone)]
pub struct Part {
    /// How it is read, as a parameter of its own.
    pub parameter: Parameter,
    /// It stands in the element, not once in the resource.
    pub is_inner: bool,
}

/// How the index has the inner parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// Each for itself: they are there once.
    Apart,
    /// As terms of both.
    Terms,
    /// The second under these keys, with the first beside it, hashed with this salt.
    Quantity { salt: i64, keys: Vec<i32> },
    /// As the two ends of a row of this key.
    Numbers(i32),
}

/// What a node of the tree joins of the values below it.
#[derive(Debug, Clone)]
pub enum Join {
    /// Each value of the first with each of the second.
    Terms(Place, Place),
    /// Codes beside the quantities of these keys. Further codes have a row of their own key.
    Quantity {
        codes: Place,
        salt: i64,
        keys: Vec<i32>,
        further: i32,
    },
    Numbers(Place, Place, i32),
}

impl Join {
    /// The key of the rows that it makes.
    pub fn key(&self) -> Option<i32> {
        match self {
            Join::Terms(..) => None,
            Join::Quantity { further: key, .. } | Join::Numbers(_, _, key) => Some(*key),
        }
    }
}

/// Values below an element: a tree of their own, and the node of the element in it.
#[derive(Debug, Clone)]
pub struct Place {
    pub walk: Walk,
    pub element: usize,
}

/// Reads a composite: its elements go into the tree, its parts into the parameter. What cannot be joined makes the parameter unsupported.
pub fn composite(
    definitions: &'static Definitions,
    walk: &mut Walk,
    type_name: &str,
    definition: &SearchParameter,
    elements: &[Path],
    into: &mut Parameter,
) -> Result<(), String> {
    let mut components: Vec<(&SearchParameter, Vec<Path>)> = Vec::new();
    for (url, text) in &definition.components {
        let Some(part) = definitions.search_parameters_of(type_name).find(|p| p.url == *url) else {
            into.unsupported = Some("a parameter that is a part of it is not known");
            return Ok(());
        };
        components.push((part, expression::parse(text).map_err(|e| format!("{}: {e}", definition.url))?));
    }
    for element in elements {
        let has_values = |(part, paths): &(&SearchParameter, Vec<Path>)| -> Result<bool, String> {
            let mut any = false;
            for path in paths {
                let found = leaves(definitions, &mut fresh(), type_name, &below(element, path).0)?;
                any |= found.places.iter().any(|leaf| datatype(part.kind, &leaf.datatype).is_some());
            }
            Ok(any)
        };
        // R4 has the expressions of DocumentReference's `relationship` the wrong way round; R5 has them right.
        if let [one, other] = components.as_mut_slice()
            && !has_values(one)?
            && !has_values(other)?
        {
            std::mem::swap(&mut one.1, &mut other.1);
        }
        match join(definitions, walk, type_name, element, &components)? {
            Some(composite) => into.composites.push(composite),
            None => into.unsupported = Some("values of these types cannot be joined in an element that may repeat"),
        }
    }
    if into.composites.is_empty() {
        into.unsupported = into.unsupported.or(Some("it joins no values of this type"));
    }
    Ok(())
}

fn fresh() -> Walk {
    Walk {
        nodes: vec![WalkNode::default()],
    }
}

/// The path of a component from the resource, and whether it leads through the element.
fn below(element: &Path, component: &Path) -> (Path, bool) {
    let mut path = element.clone();
    let is_inner = component.root != OF_RESOURCE;
    if is_inner {
        path.steps.push(Step::Field(component.root.clone()));
    } else {
        path.steps.clear();
    }
    path.steps.extend(component.steps.iter().map(|step| match step {
        // So R4 writes it in `code-value-date`.
        Step::As(datatype) if datatype == "DateTime" => Step::As("dateTime".to_owned()),
        step => step.clone(),
    }));
    (path, is_inner)
}

/// `None` if the index cannot join such values.
fn join(
    definitions: &'static Definitions,
    walk: &mut Walk,
    type_name: &str,
    element: &Path,
    components: &[(&SearchParameter, Vec<Path>)],
) -> Result<Option<Composite>, String> {
    use SearchParameterKind as K;
    let is_once = element.steps.is_empty() || !leaves(definitions, &mut fresh(), type_name, element)?.is_multiple;
    let is_inner = |paths: &[Path]| paths.iter().all(|path| below(element, path).1);
    let inner: Vec<usize> = (0..components.len()).filter(|i| is_inner(&components[*i].1)).collect();
    let kinds: Vec<K> = inner.iter().map(|i| components[*i].0.kind).collect();
    let name = path_name(element);
    let names = |i: usize| {
        components[i]
            .1
            .iter()
            .map(|path| path_name(&below(element, path).0))
            .collect::<Vec<_>>()
            .join("|")
    };
    let salt_of = |place: usize| hash(&[type_name, "Composite", &name, &names(inner[place])]);
    let whole = || hash(&[type_name, "Composite", &name, &names(inner[0]), &names(inner[1])]);
    let (joined, join) = match kinds.as_slice() {
        [K::Token, K::Quantity | K::Number] => {
            let part = part(definitions, walk, type_name, element, &components[inner[1]])?;
            let (salt, further) = (whole(), whole() as i32);
            let mut keys = part.keys.clone();
            keys.push(further);
            let join = Join::Quantity {
                codes: place(definitions, type_name, element, &components[inner[0]], 0)?,
                salt,
                keys: part.keys,
                further,
            };
            (Joined::Quantity { salt, keys }, Some(join))
        }
        _ if is_once => (Joined::Apart, None),
        [K::Token | K::Reference, K::Token | K::Reference] => {
            let first = place(definitions, type_name, element, &components[inner[0]], salt_of(0))?;
            let second = place(definitions, type_name, element, &components[inner[1]], salt_of(1))?;
            (Joined::Terms, Some(Join::Terms(first, second)))
        }
        [K::Number, K::Number] => {
            let first = place(definitions, type_name, element, &components[inner[0]], 0)?;
            let second = place(definitions, type_name, element, &components[inner[1]], 0)?;
            let key = whole() as i32;
            (Joined::Numbers(key), Some(Join::Numbers(first, second, key)))
        }
        _ => return Ok(None),
    };
    let mut parts = Vec::new();
    for (i, component) in components.iter().enumerate() {
        let is_inner = inner.contains(&i);
        let mut parameter = if joined == Joined::Apart || !is_inner {
            part(definitions, walk, type_name, element, component)?
        } else {
            part(definitions, &mut fresh(), type_name, element, component)?
        };
        if joined == Joined::Terms && is_inner {
            parameter.salts = vec![salt_of(inner.iter().position(|place| *place == i).unwrap_or(0))];
        }
        parts.push(Part { parameter, is_inner });
    }
    if let Some(join) = join {
        let node = node_of(definitions, walk, type_name, element)?;
        let is_known = |other: &Join| join.key().is_some() && other.key() == join.key();
        if !walk.nodes[node].joins.iter().any(is_known) {
            walk.nodes[node].joins.push(join);
        }
    }
    Ok(Some(Composite { parts, joined }))
}

/// A component as a parameter of its own, whose values the tree finds.
fn part(
    definitions: &'static Definitions,
    walk: &mut Walk,
    type_name: &str,
    element: &Path,
    (definition, paths): &(&SearchParameter, Vec<Path>),
) -> Result<Parameter, String> {
    let mut parameter = parameter(definition, 0);
    for path in paths {
        grow(definitions, walk, type_name, &below(element, path).0, &mut parameter, 0)?;
    }
    Ok(parameter)
}

/// Where a component's values are found from the element; their terms have this salt.
fn place(
    definitions: &'static Definitions,
    type_name: &str,
    element: &Path,
    (definition, paths): &(&SearchParameter, Vec<Path>),
    salt: i64,
) -> Result<Place, String> {
    let mut walk = fresh();
    let element_node = node_of(definitions, &mut walk, type_name, element)?;
    let mut parameter = parameter(definition, 0);
    for path in paths {
        grow(definitions, &mut walk, type_name, &below(element, path).0, &mut parameter, 0)?;
    }
    for node in &mut walk.nodes {
        node.edges.sort_by(|a, b| a.name.cmp(&b.name));
        for extract in &mut node.extracts {
            extract.salt = salt;
        }
    }
    Ok(Place {
        walk,
        element: element_node,
    })
}

fn node_of(definitions: &'static Definitions, walk: &mut Walk, type_name: &str, element: &Path) -> Result<usize, String> {
    Ok(match element.steps.is_empty() {
        true => 0,
        false => leaves(definitions, walk, type_name, element)?
            .places
            .first()
            .map_or(0, |leaf| leaf.node),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::definitions::definitions;
    use crate::search::parameters::Registry;

    #[test]
    fn every_composite_of_r4_is_joined() {
        let registry = Registry::load(definitions()).expect("loads");
        let mut count = 0;
        for name in definitions().resource_types() {
            for parameter in &registry.of(name).expect("known").parameters {
                if parameter.kind == SearchParameterKind::Composite {
                    assert_eq!(parameter.unsupported, None, "{name} {}", parameter.code);
                    assert!(!parameter.composites.is_empty(), "{name} {}", parameter.code);
                    for part in parameter.composites.iter().flat_map(|c| &c.parts) {
                        let is_read = !part.parameter.keys.is_empty() || !part.parameter.salts.is_empty();
                        assert!(is_read, "{name} {} {}", parameter.code, part.parameter.code);
                    }
                    count += 1;
                }
            }
        }
        // Two for each of the 29 types with a useContext, and 14 others.
        assert!(count > 60, "{count}");
    }
}
