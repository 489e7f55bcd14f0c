//! The values that an expression gives on a resource: collections as FHIRPath has them, so that `[0]` after a repeating element is the first of all.
//! Never fails on odd input: what is not there gives nothing.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::identity::referenced_type;
use crate::fhir::json::Value;
use crate::search::custom::syntax::Does;
use crate::search::custom::syntax::Expression;
use crate::search::custom::syntax::Head;
use crate::search::custom::syntax::Step;
use crate::search::custom::types::is_kind_of;

/// One value: of the resource, or made by the expression.
#[derive(Clone, Copy)]
pub enum Item<'d> {
    Element(Element<'d>),
    Boolean(bool),
    Number(f64),
    Text(&'d str),
}

#[derive(Clone, Copy)]
pub struct Element<'d> {
    /// Its datatype, or the type of the resource.
    pub code: &'d str,
    pub shape: Option<ShapeId>,
    /// `None` for a primitive that has extensions only.
    pub value: Option<Value<'d>>,
    /// The twin of a primitive, which holds its extensions.
    twin: Option<Value<'d>>,
}

/// What the expression gives on the resource, in order.
pub fn evaluate<'d>(
    definitions: &'static Definitions,
    expression: &'d Expression,
    type_name: &'d str,
    resource: Value<'d>,
) -> Vec<Item<'d>> {
    let root = Element {
        code: type_name,
        shape: definitions.shape_of(type_name),
        value: Some(resource),
        twin: None,
    };
    Evaluator { definitions }.items(expression, Item::Element(root))
}

struct Evaluator {
    definitions: &'static Definitions,
}

impl Evaluator {
    fn items<'d>(&self, expression: &'d Expression, this: Item<'d>) -> Vec<Item<'d>> {
        match expression {
            Expression::Text(text) => vec![Item::Text(text)],
            Expression::Number(number) => vec![Item::Number(*number)],
            Expression::Boolean(boolean) => vec![Item::Boolean(*boolean)],
            Expression::Union(parts) => parts.iter().flat_map(|part| self.items(part, this)).collect(),
            Expression::Equal(..) | Expression::Unequal(..) | Expression::And(..) | Expression::Or(..) => {
                self.holds(expression, this).map(Item::Boolean).into_iter().collect()
            }
            Expression::Path(head, steps) => {
                let start = match head {
                    Head::This => vec![this],
                    Head::Type(_, name) => match this {
                        Item::Element(e) if is_kind_of(self.definitions, e.code, name) => vec![this],
                        _ => Vec::new(),
                    },
                    Head::Group(inner) => self.items(inner, this),
                };
                steps.iter().fold(start, |items, step| self.step(step, items))
            }
        }
    }

    fn step<'d>(&self, step: &'d Step, items: Vec<Item<'d>>) -> Vec<Item<'d>> {
        let is = |name: &str, item: &Item<'d>| match item {
            Item::Element(e) => is_kind_of(self.definitions, e.code, name),
            Item::Boolean(_) => name == "boolean",
            Item::Number(_) => name == "decimal",
            Item::Text(_) => name == "string",
        };
        match &step.does {
            Does::Member(name) => items.into_iter().flat_map(|item| self.members(name, item)).collect(),
            Does::Extension(url) => {
                let extensions = items.into_iter().flat_map(|item| self.members("extension", item));
                let has_url = |item: &Item<'d>| match item {
                    Item::Element(e) => e.value.and_then(|v| v.get_str("url")).is_some_and(|u| u == url.as_str()),
                    _ => false,
                };
                extensions.filter(has_url).collect()
            }
            Does::OfType(name) => items.into_iter().filter(|item| is(name, item)).collect(),
            Does::Where(condition) => items
                .into_iter()
                .filter(|item| self.holds(condition, *item) == Some(true))
                .collect(),
            Does::Index(index) => items.into_iter().skip(*index).take(1).collect(),
            Does::Last => items.into_iter().next_back().into_iter().collect(),
            Does::Exists => vec![Item::Boolean(!items.is_empty())],
            Does::Empty => vec![Item::Boolean(items.is_empty())],
            Does::Not => single(&items).and_then(boolean).map(|b| Item::Boolean(!b)).into_iter().collect(),
            Does::Is(name) => single(&items).map(|item| Item::Boolean(is(name, &item))).into_iter().collect(),
            Does::ResolvesTo(name) => single(&items)
                .map(|item| Item::Boolean(resolves_to(name, item)))
                .into_iter()
                .collect(),
            // The parser lets none through.
            Does::Resolve => Vec::new(),
        }
    }

    fn members<'d>(&self, name: &str, item: Item<'d>) -> Vec<Item<'d>> {
        let Item::Element(element) = item else { return Vec::new() };
        let Some(shape) = element.shape else {
            let extensions = element.twin.filter(|_| name == "extension").and_then(|twin| twin.get("extension"));
            let extensions = extensions.into_iter().flat_map(|list| list.items());
            return extensions.map(|value| self.element("Extension", Some(value), None)).collect();
        };
        let Some(object) = element.value else { return Vec::new() };
        let (mut found, mut value, mut twin) = (None, None, None);
        for (json_name, member) in object.members() {
            if let Some(meaning) = self.definitions.member(shape, &json_name).filter(|m| m.element.name == name) {
                found = Some(meaning.ty);
                *(if meaning.is_twin { &mut twin } else { &mut value }) = Some(member);
            }
        }
        let Some(ty) = found else { return Vec::new() };
        let list = |member: Option<Value<'d>>| -> Vec<Value<'d>> { member.into_iter().flat_map(|m| m.items()).collect() };
        let (values, twins) = (list(value), list(twin));
        let at = |list: &[Value<'d>], i: usize| list.get(i).copied().filter(|v| !v.is_null());
        (0..values.len().max(twins.len()))
            .map(|i| (at(&values, i), at(&twins, i)))
            .filter(|(value, twin)| value.is_some() || twin.is_some())
            .map(|(value, twin)| match ty.shape {
                Some(shape) => Item::Element(Element {
                    code: &ty.code,
                    shape: Some(shape),
                    value,
                    twin,
                }),
                None => self.element(&ty.code, value, twin),
            })
            .collect()
    }

    /// An element without children by its definition: a primitive, or a resource, whose type it says itself.
    fn element<'d>(&self, code: &'d str, value: Option<Value<'d>>, twin: Option<Value<'d>>) -> Item<'d> {
        let own = value.filter(|_| code == "Resource").and_then(|v| v.get_str("resourceType"));
        let own = own.and_then(|name| self.definitions.type_named(&name));
        let code = own.map_or(code, |own| own.name.as_str());
        Item::Element(Element {
            code,
            shape: self.definitions.shape_of(code),
            value,
            twin,
        })
    }

    /// `None`: the condition is empty, which is not true.
    fn holds(&self, condition: &Expression, this: Item<'_>) -> Option<bool> {
        match condition {
            Expression::Equal(left, right) => self.equal(left, right, this),
            Expression::Unequal(left, right) => self.equal(left, right, this).map(|is| !is),
            Expression::And(left, right) => match (self.holds(left, this), self.holds(right, this)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Expression::Or(left, right) => match (self.holds(left, this), self.holds(right, this)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            other => single(&self.items(other, this)).and_then(boolean),
        }
    }

    fn equal(&self, left: &Expression, right: &Expression, this: Item<'_>) -> Option<bool> {
        let (left, right) = (self.items(left, this), self.items(right, this));
        if left.is_empty() || right.is_empty() {
            return None;
        }
        Some(left.len() == right.len() && left.iter().zip(&right).all(|(a, b)| is_same(*a, *b)))
    }
}

fn single<'d>(items: &[Item<'d>]) -> Option<Item<'d>> {
    match items {
        [item] => Some(*item),
        _ => None,
    }
}

fn boolean(item: Item<'_>) -> Option<bool> {
    match item {
        Item::Boolean(boolean) => Some(boolean),
        Item::Element(e) => e.value?.as_bool(),
        Item::Number(_) | Item::Text(_) => None,
    }
}

fn number(item: Item<'_>) -> Option<f64> {
    match item {
        Item::Number(number) => Some(number),
        Item::Element(e) => e.value?.as_number()?.parse().ok(),
        Item::Boolean(_) | Item::Text(_) => None,
    }
}

fn is_same(left: Item<'_>, right: Item<'_>) -> bool {
    fn text(item: Item<'_>) -> Option<std::borrow::Cow<'_, str>> {
        match item {
            Item::Text(text) => Some(text.into()),
            Item::Element(e) => e.value?.as_str(),
            Item::Boolean(_) | Item::Number(_) => None,
        }
    }
    let is = |left: Option<_>, right: Option<_>| left.is_some() && left == right;
    text(left).is_some_and(|left| text(right) == Some(left))
        || is(boolean(left), boolean(right))
        || number(left).is_some_and(|left| number(right) == Some(left))
}

fn resolves_to(type_name: &str, item: Item<'_>) -> bool {
    let Item::Element(Element { value: Some(value), .. }) = item else {
        return false;
    };
    let reference = value.as_str().or_else(|| value.get_str("reference"));
    reference.is_some_and(|reference| referenced_type(&reference) == Some(type_name))
        || value.get_str("type").is_some_and(|t| t == type_name)
}
