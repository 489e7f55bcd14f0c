//! What an expression can give, by the definitions alone: so that one which reads what no resource has is refused when it comes.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::ElementType;
use crate::fhir::definitions::model::ShapeId;
use crate::search::custom::syntax::Does;
use crate::search::custom::syntax::Expression;
use crate::search::custom::syntax::Head;
use crate::search::custom::syntax::Step;
use crate::search::custom::syntax::Wrong;

/// The datatype of a boolean that the expression makes itself.
pub const MADE_BOOLEAN: &str = "boolean";

/// A datatype that an expression can give.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    pub code: String,
    pub shape: Option<ShapeId>,
    /// The system that a required binding implies.
    pub system: Option<String>,
    /// Resource types that a reference may lead to; empty: any.
    pub targets: Vec<String>,
}

impl Given {
    fn plain(definitions: &Definitions, code: &str) -> Given {
        Given {
            code: code.to_owned(),
            shape: definitions.shape_of(code),
            system: None,
            targets: Vec::new(),
        }
    }

    fn of(element: &ElementType, system: Option<String>) -> Given {
        Given {
            code: element.code.clone(),
            shape: element.shape,
            system,
            targets: element.targets.clone(),
        }
    }
}

/// Whether a datatype or resource type is another, or one of its kind: an Age is a Quantity, a Patient a Resource.
pub fn is_kind_of(definitions: &Definitions, code: &str, wanted: &str) -> bool {
    let mut code = code;
    loop {
        if code == wanted {
            return true;
        }
        match definitions.type_named(code) {
            Some(definition) if !definition.base.is_empty() => code = &definition.base,
            _ => return false,
        }
    }
}

/// What the expression gives on a resource of this type. Errors: the first part that reads what is not there.
pub fn given(definitions: &Definitions, expression: &Expression, type_name: &str) -> Result<Vec<Given>, Wrong> {
    types(definitions, expression, &[Given::plain(definitions, type_name)])
}

fn types(definitions: &Definitions, expression: &Expression, context: &[Given]) -> Result<Vec<Given>, Wrong> {
    let boolean = || vec![Given::plain(definitions, MADE_BOOLEAN)];
    match expression {
        Expression::Text(_) => Ok(vec![Given::plain(definitions, "string")]),
        Expression::Number(_) => Ok(vec![Given::plain(definitions, "decimal")]),
        Expression::Boolean(_) => Ok(boolean()),
        Expression::Union(parts) => {
            let mut all: Vec<Given> = Vec::new();
            for part in parts {
                for given in types(definitions, part, context)? {
                    if !all.contains(&given) {
                        all.push(given);
                    }
                }
            }
            Ok(all)
        }
        Expression::Equal(left, right) | Expression::Unequal(left, right) => {
            for side in [left, right] {
                let given = types(definitions, side, context)?;
                if let Some(complex) = given.iter().find(|g| !definitions.is_primitive(&g.code)) {
                    return Err(Wrong::new(
                        place(side),
                        format!("a {} is not compared: only primitive values are", complex.code),
                    ));
                }
            }
            Ok(boolean())
        }
        Expression::And(left, right) | Expression::Or(left, right) => {
            for side in [left, right] {
                check_condition(definitions, side, context)?;
            }
            Ok(boolean())
        }
        Expression::Path(head, steps) => {
            let mut current = match head {
                Head::This => context.to_vec(),
                Head::Type(at, name) => {
                    if definitions.type_named(name).is_none() {
                        return Err(Wrong::new(*at, format!("{name} is no type of FHIR R4")));
                    }
                    context.iter().filter(|g| is_kind_of(definitions, &g.code, name)).cloned().collect()
                }
                Head::Group(inner) => types(definitions, inner, context)?,
            };
            for step in steps {
                current = next(definitions, step, current)?;
            }
            Ok(current)
        }
    }
}

fn next(definitions: &Definitions, step: &Step, current: Vec<Given>) -> Result<Vec<Given>, Wrong> {
    let boolean = || vec![Given::plain(definitions, MADE_BOOLEAN)];
    match &step.does {
        Does::Member(name) => members(definitions, step.at, name, &current),
        Does::Extension(_) => members(definitions, step.at, "extension", &current),
        Does::OfType(name) => {
            if definitions.type_named(name).is_none() {
                return Err(Wrong::new(step.at, format!("{name} is no type of FHIR R4")));
            }
            // What can be any resource can be this one.
            let mut kept: Vec<Given> = current.iter().filter(|g| is_kind_of(definitions, &g.code, name)).cloned().collect();
            if current.iter().any(|g| g.code == "Resource") && definitions.is_resource(name) {
                kept.push(Given::plain(definitions, name));
            }
            if kept.is_empty() && !current.is_empty() {
                return Err(Wrong::new(step.at, format!("there is no {name} here, but {}", listed(&current))));
            }
            Ok(kept)
        }
        Does::Where(condition) => {
            if !current.is_empty() {
                check_condition(definitions, condition, &current)?;
            }
            Ok(current)
        }
        Does::Index(_) | Does::Last => Ok(current),
        Does::Exists | Does::Empty => Ok(boolean()),
        Does::Not => match current.iter().find(|g| g.code != "boolean") {
            Some(other) => Err(Wrong::new(step.at, format!("not() needs a boolean, and this is a {}", other.code))),
            None => Ok(boolean()),
        },
        Does::Is(name) => match definitions.type_named(name) {
            None => Err(Wrong::new(step.at, format!("{name} is no type of FHIR R4"))),
            Some(_) => Ok(boolean()),
        },
        Does::ResolvesTo(name) => {
            if !definitions.is_resource(name) {
                return Err(Wrong::new(step.at, format!("{name} is no resource type")));
            }
            match current
                .iter()
                .find(|g| !["Reference", "canonical", "uri", "url"].contains(&g.code.as_str()))
            {
                Some(other) => Err(Wrong::new(step.at, format!("a {} is not resolved: a Reference is", other.code))),
                None => Ok(boolean()),
            }
        }
        Does::Resolve => Err(Wrong::new(step.at, "resolve() is only read in resolve() is [type]")),
    }
}

fn members(definitions: &Definitions, at: usize, name: &str, current: &[Given]) -> Result<Vec<Given>, Wrong> {
    let mut found: Vec<Given> = Vec::new();
    for given in current {
        // Values of primitives have extensions of their own.
        if definitions.is_primitive(&given.code) {
            if name == "extension" {
                found.push(Given::plain(definitions, "Extension"));
            }
            continue;
        }
        let Some(element) = given.shape.and_then(|shape| definitions.element(shape, name)) else {
            continue;
        };
        let system = element.required_binding.and_then(|v| definitions.implied_system(v));
        found.extend(element.types.iter().map(|ty| Given::of(ty, system.clone())));
    }
    if found.is_empty() && !current.is_empty() {
        let needs_type = current.iter().any(|g| g.code == "Resource");
        let hint = if needs_type {
            ": say of which type it is, with ofType()"
        } else {
            ""
        };
        return Err(Wrong::new(at, format!("{} has no element {name}{hint}", listed(current))));
    }
    found.dedup();
    Ok(found)
}

fn check_condition(definitions: &Definitions, condition: &Expression, context: &[Given]) -> Result<(), Wrong> {
    let given = types(definitions, condition, context)?;
    match given.iter().find(|g| g.code != "boolean") {
        Some(other) => Err(Wrong::new(
            place(condition),
            format!(
                "a condition is true or false, and this is a {}: compare it, or ask whether it exists()",
                other.code
            ),
        )),
        None => Ok(()),
    }
}

/// Where an expression begins, as far as that is known.
fn place(expression: &Expression) -> usize {
    match expression {
        Expression::Path(Head::Type(at, _), _) => *at,
        Expression::Path(Head::Group(inner), _) => place(inner),
        Expression::Path(Head::This, steps) => steps.first().map_or(0, |step| step.at),
        Expression::Union(parts) => parts.first().map_or(0, place),
        Expression::Equal(left, _) | Expression::Unequal(left, _) | Expression::And(left, _) | Expression::Or(left, _) => place(left),
        Expression::Text(_) | Expression::Number(_) | Expression::Boolean(_) => 0,
    }
}

fn listed(given: &[Given]) -> String {
    let mut names: Vec<&str> = given.iter().map(|g| g.code.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0..=5 => names.join(" or "),
        n => format!("{} and {} types more", names[..4].join(", "), n - 4),
    }
}
