//! JSON that can be changed: what a patch does not touch keeps its text, decimals, escapes and order included.

use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::fhir::json::quote_into;
use crate::outcome::Category;
use crate::outcome::Outcome;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

/// Deepest nesting that a patch may make: what the parser takes.
const DEPTH_MAX: usize = crate::fhir::json::DEPTH_MAX;
/// Members looked at and items moved by one patch: bounds its time, which others wait for, to some tenths of a second.
const STEPS_MAX: usize = 20_000_000;

#[derive(Debug, Clone, PartialEq)]
pub enum Node<'d> {
    /// The text of a string, number, boolean or null.
    Leaf(Cow<'d, str>),
    Array(Vec<Node<'d>>),
    Object(Vec<(Cow<'d, str>, Node<'d>)>),
}

/// A step from a value into one of its members or items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Member(String),
    Index(usize),
}

impl<'d> Node<'d> {
    pub fn of(value: Value<'d>) -> Node<'d> {
        match value.kind() {
            Kind::Array => Node::Array(value.items().map(Node::of).collect()),
            Kind::Object => Node::Object(value.members().map(|(name, member)| (name, Node::of(member))).collect()),
            _ => Node::Leaf(Cow::Borrowed(value.raw())),
        }
    }

    pub fn null() -> Node<'d> {
        Node::Leaf(Cow::Borrowed("null"))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Node::Leaf(text) if text == "null")
    }

    /// Its members or items.
    pub fn width(&self) -> usize {
        match self {
            Node::Leaf(_) => 0,
            Node::Array(items) => items.len(),
            Node::Object(members) => members.len(),
        }
    }

    /// Nothing that FHIR's JSON could hold: an empty list or object.
    pub fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(_) => false,
            Node::Array(items) => items.is_empty(),
            Node::Object(members) => members.is_empty(),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Node<'d>> {
        match self {
            Node::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Node<'d>] {
        match self {
            Node::Array(items) => items,
            _ => &[],
        }
    }

    /// The content of a string, else the text of the leaf; `None` for lists and objects.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Node::Leaf(raw) if raw.starts_with('"') => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
            Node::Leaf(raw) => Some(Cow::Borrowed(raw)),
            _ => None,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Node::Leaf(_) => 1,
            Node::Array(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Node::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
        }
    }

    /// Bytes of its text, within a few.
    fn size(&self) -> usize {
        match self {
            Node::Leaf(text) => text.len() + 1,
            Node::Array(items) => 2 + items.iter().map(Node::size).sum::<usize>(),
            Node::Object(members) => 2 + members.iter().map(|(name, value)| name.len() + 3 + value.size()).sum::<usize>(),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Node::Leaf(text) => out.push_str(text),
            Node::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                for (i, (name, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    quote_into(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Drops empty lists and objects, and what they leave empty: FHIR's JSON has none. <https://hl7.org/fhir/R4/json.html>
    fn prune(&mut self) {
        match self {
            Node::Leaf(_) => {}
            Node::Array(items) => {
                items.iter_mut().for_each(Node::prune);
                items.retain(|item| !item.is_empty());
            }
            Node::Object(members) => {
                members.iter_mut().for_each(|(_, value)| value.prune());
                members.retain(|(_, value)| !value.is_empty());
            }
        }
    }

    /// The same value, whatever the order of members and the spelling of numbers and strings. RFC 6902, 4.6.
    pub fn is_same(&self, other: &Node<'_>) -> bool {
        match (self, other) {
            (Node::Leaf(a), Node::Leaf(b)) if a == b => true,
            (Node::Leaf(a), Node::Leaf(b)) => {
                let is_text = |raw: &str| raw.starts_with('"');
                match (is_text(a), is_text(b)) {
                    (true, true) => self.text() == other.text(),
                    (false, false) => is_same_number(a, b),
                    _ => false,
                }
            }
            (Node::Array(a), Node::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b)),
            (Node::Object(a), Node::Object(b)) => {
                let others: HashMap<&str, &Node<'_>> = b.iter().map(|(name, value)| (name.as_ref(), value)).collect();
                a.len() == b.len()
                    && a.iter()
                        .all(|(name, value)| others.get(name.as_ref()).is_some_and(|other| value.is_same(other)))
            }
            _ => false,
        }
    }
}

/// Two numbers of JSON with the same value: `1.10` and `1.1`, `1e2` and `100`.
pub fn is_same_number(a: &str, b: &str) -> bool {
    match (decimal(a), decimal(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// Sign, digits without zeros at either end, and the exponent of the last digit.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let shortened = digits.trim_end_matches('0');
    let exponent = exponent
        .checked_sub(fraction.len() as i64)?
        .checked_add((digits.len() - shortened.len()) as i64)?;
    match shortened.trim_start_matches('0') {
        "" => Some((false, String::new(), 0)),
        digits => Some((is_negative, digits.to_owned(), exponent)),
    }
}

/// A resource while it is patched, within limits.
pub struct Tree<'d> {
    root: Node<'d>,
    /// Bytes that may still be added.
    room: usize,
    bytes_max: usize,
    steps: Cell<usize>,
}

impl<'d> Tree<'d> {
    /// `bytes_max`: of what all operations together add, and of the result.
    pub fn new(resource: Value<'d>, bytes_max: usize) -> Tree<'d> {
        Tree {
            root: Node::of(resource),
            room: bytes_max,
            bytes_max,
            steps: Cell::new(0),
        }
    }

    pub fn root(&self) -> &Node<'d> {
        &self.root
    }

    pub fn get(&self, path: &[Step]) -> Option<&Node<'d>> {
        path.iter().try_fold(&self.root, |node, step| match (node, step) {
            (Node::Object(_), Step::Member(name)) => node.get(name),
            (Node::Array(items), Step::Index(index)) => items.get(*index),
            _ => None,
        })
    }

    fn get_mut(&mut self, path: &[Step]) -> Option<&mut Node<'d>> {
        path.iter().try_fold(&mut self.root, |node, step| match (node, step) {
            (Node::Object(members), Step::Member(name)) => members.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value),
            (Node::Array(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        })
    }

    /// Counts what is to be added at a path. Errors: 413 when it is too much, 422 when it nests too deeply.
    fn admit(&mut self, path: &[Step], value: &Node<'_>) -> Result<(), Outcome> {
        if path.len() + value.depth() > DEPTH_MAX {
            let text = format!("The patch nests deeper than {DEPTH_MAX} levels (DEPTH_MAX)");
            return Err(Outcome::new(Category::Unprocessable, "too-costly", text));
        }
        self.room = self.room.checked_sub(value.size()).ok_or_else(|| self.too_large())?;
        Ok(())
    }

    /// Counts members looked at and items moved. Errors: 422 when they are too many.
    pub fn walk(&self, steps: usize) -> Result<(), Outcome> {
        self.steps.set(self.steps.get() + steps);
        if self.steps.get() > STEPS_MAX {
            let text = format!("The patch takes more than {STEPS_MAX} steps through the resource (STEPS_MAX): send fewer operations");
            return Err(Outcome::new(Category::Unprocessable, "too-costly", text));
        }
        Ok(())
    }

    fn too_large(&self) -> Outcome {
        let text = format!(
            "What a patch adds and what it makes have at most {} bytes (server.body_bytes_max)",
            self.bytes_max
        );
        Outcome::new(Category::TooLarge, "too-long", text)
    }

    /// Sets the member of an object, or inserts an item of a list at its index. Errors: 422 for a place that is not there.
    pub fn put(&mut self, path: &[Step], value: Node<'d>) -> Result<(), Outcome> {
        self.admit(path, &value)?;
        let Some((last, before)) = path.split_last() else {
            self.root = value;
            return Ok(());
        };
        match (self.get_mut(before), last) {
            (Some(Node::Object(members)), Step::Member(name)) => {
                match members.iter_mut().find(|(key, _)| key == name) {
                    Some((_, old)) => *old = value,
                    None => members.push((Cow::Owned(name.clone()), value)),
                }
                Ok(())
            }
            (Some(Node::Array(items)), Step::Index(index)) if *index <= items.len() => {
                let moved = items.len() - index;
                items.insert(*index, value);
                self.walk(moved)
            }
            _ => Err(missing()),
        }
    }

    /// Replaces what is there. Errors: 422 when nothing is.
    pub fn replace(&mut self, path: &[Step], value: Node<'d>) -> Result<(), Outcome> {
        self.admit(path, &value)?;
        *self.get_mut(path).ok_or_else(missing)? = value;
        Ok(())
    }

    /// Takes out what is there. Errors: 422 when nothing is.
    pub fn take(&mut self, path: &[Step]) -> Result<Node<'d>, Outcome> {
        let Some((last, before)) = path.split_last() else {
            return Err(Outcome::new(
                Category::Unprocessable,
                "processing",
                "The resource itself cannot be taken away",
            ));
        };
        let (taken, moved) = match (self.get_mut(before), last) {
            (Some(Node::Object(members)), Step::Member(name)) => {
                let place = members.iter().position(|(key, _)| key == name).ok_or_else(missing)?;
                (members.remove(place).1, members.len() - place)
            }
            (Some(Node::Array(items)), Step::Index(index)) if *index < items.len() => (items.remove(*index), items.len() - index),
            _ => return Err(missing()),
        };
        self.walk(moved)?;
        Ok(taken)
    }

    /// A copy of what is there. Errors: 413 when there is no room for it.
    pub fn copy(&self, path: &[Step]) -> Result<Node<'d>, Outcome> {
        let node = self.get(path).ok_or_else(missing)?;
        match node.size() > self.room {
            true => Err(self.too_large()),
            false => Ok(node.clone()),
        }
    }

    /// Gives a member another name, where it stands.
    pub fn rename(&mut self, object: &[Step], old: &str, new: &str) {
        if let Some(Node::Object(members)) = self.get_mut(object)
            && let Some((name, _)) = members.iter_mut().find(|(key, _)| key == old)
        {
            *name = Cow::Owned(new.to_owned());
        }
    }

    pub fn prune(&mut self) {
        self.root.prune();
    }

    /// The text that the patch has made. Errors: 413.
    pub fn into_text(mut self) -> Result<String, Outcome> {
        self.prune();
        let mut out = String::with_capacity(self.root.size());
        self.root.write(&mut out);
        match out.len() > self.bytes_max {
            true => Err(self.too_large()),
            false => Ok(out),
        }
    }
}

fn missing() -> Outcome {
    Outcome::new(
        Category::Unprocessable,
        "processing",
        "There is nothing at this path of the resource",
    )
}
