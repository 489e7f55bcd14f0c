//! JSON Patch (RFC 6902) over the text of a resource.
//!
//! `json-patch` and its like work on parsed values, in which `1.10` is `1.1` and `\u00e8` is `è`: here what is not changed keeps its text.
//! Spec: <https://hl7.org/fhir/R4/http.html#patch>, <https://www.rfc-editor.org/rfc/rfc6902>, <https://www.rfc-editor.org/rfc/rfc6901>.

use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::fhir::patch::tree::Node;
use crate::fhir::patch::tree::Step;
use crate::fhir::patch::tree::Tree;
use crate::outcome::Category;
use crate::outcome::Outcome;

/// One operation, its paths still as pointers.
pub enum Operation<'p> {
    Add(Vec<String>, Value<'p>),
    Remove(Vec<String>),
    Replace(Vec<String>, Value<'p>),
    Move(Vec<String>, Vec<String>),
    Copy(Vec<String>, Vec<String>),
    Test(Vec<String>, Value<'p>),
}

/// Reads the operations. Errors: 400 naming the operation that is none.
pub fn operations<'p>(patch: Value<'p>, operations_max: usize) -> Result<Vec<Operation<'p>>, Outcome> {
    if patch.kind() != Kind::Array {
        let text = "A JSON Patch is a list of operations: [{\"op\": ..., \"path\": ...}]";
        return Err(Outcome::invalid(text).with_code("structure"));
    }
    let mut operations = Vec::new();
    for (i, operation) in patch.items().enumerate() {
        super::check_count(i, operations_max)?;
        operations.push(read(operation).map_err(|e| e.at(&format!("[{i}]")))?);
    }
    Ok(operations)
}

fn read<'p>(operation: Value<'p>) -> Result<Operation<'p>, Outcome> {
    let structure = |text: &str| Outcome::invalid(text).with_code("structure");
    let pointer_at = |name: &str| {
        let text = operation
            .get_str(name)
            .ok_or_else(|| structure(&format!("The operation needs a string \"{name}\", which is a JSON Pointer")))?;
        pointer(&text).map_err(|e| e.at(name))
    };
    let path = pointer_at("path")?;
    let value = || operation.get("value").ok_or_else(|| structure("The operation needs a \"value\""));
    Ok(match operation.get_str("op").as_deref() {
        Some("add") => Operation::Add(path, value()?),
        Some("remove") => Operation::Remove(path),
        Some("replace") => Operation::Replace(path, value()?),
        Some("move") => Operation::Move(pointer_at("from")?, path),
        Some("copy") => Operation::Copy(pointer_at("from")?, path),
        Some("test") => Operation::Test(path, value()?),
        _ => return Err(structure("\"op\" is add, remove, replace, move, copy or test").at("op")),
    })
}

/// The tokens of a JSON Pointer.
fn pointer(text: &str) -> Result<Vec<String>, Outcome> {
    let wrong =
        || Outcome::invalid("A JSON Pointer is empty or begins with '/'; in it ~0 stands for '~' and ~1 for '/'").with_code("structure");
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let rest = text.strip_prefix('/').ok_or_else(wrong)?;
    let token = |token: &str| {
        let is_escaped = |(i, _): (usize, &str)| matches!(token.as_bytes().get(i + 1), Some(b'0' | b'1'));
        match token.match_indices('~').all(is_escaped) {
            true => Ok(token.replace("~1", "/").replace("~0", "~")),
            false => Err(wrong()),
        }
    };
    rest.split('/').map(token).collect()
}

/// Applies the operations in order: all or, at the first that cannot be, none. Errors: 422 naming it.
pub fn apply<'d>(tree: &mut Tree<'d>, operations: &[Operation<'d>]) -> Result<(), Outcome> {
    for (i, operation) in operations.iter().enumerate() {
        apply_one(tree, operation).map_err(|e| e.at(&format!("[{i}]")))?;
    }
    Ok(())
}

fn apply_one<'d>(tree: &mut Tree<'d>, operation: &Operation<'d>) -> Result<(), Outcome> {
    match operation {
        Operation::Add(path, value) => {
            let path = new_place(tree, path)?;
            tree.put(&path, Node::of(*value))
        }
        Operation::Remove(path) => {
            let path = place(tree, path)?;
            tree.take(&path).map(drop)
        }
        Operation::Replace(path, value) => {
            let path = place(tree, path)?;
            tree.replace(&path, Node::of(*value))
        }
        Operation::Move(from, path) => {
            let source = place(tree, from).map_err(|e| e.at("from"))?;
            if path.len() > from.len() && path.starts_with(from) {
                return Err(unprocessable("A value cannot be moved into itself").at("path"));
            }
            let taken = tree.take(&source)?;
            let path = new_place(tree, path)?;
            tree.put(&path, taken)
        }
        Operation::Copy(from, path) => {
            let source = place(tree, from).map_err(|e| e.at("from"))?;
            let path = new_place(tree, path)?;
            // Its size is looked at before it is copied.
            let value = tree.copy(&source)?;
            tree.put(&path, value)
        }
        Operation::Test(path, value) => {
            let path = place(tree, path)?;
            match tree.get(&path).is_some_and(|found| found.is_same(&Node::of(*value))) {
                true => Ok(()),
                false => Err(unprocessable("The test fails: the resource has another value there").at("path")),
            }
        }
    }
}

fn unprocessable(text: impl Into<String>) -> Outcome {
    Outcome::new(Category::Unprocessable, "processing", text)
}

/// The place of something that is there.
fn place(tree: &Tree<'_>, pointer: &[String]) -> Result<Vec<Step>, Outcome> {
    let mut node = tree.root();
    let mut path = Vec::with_capacity(pointer.len());
    for (i, token) in pointer.iter().enumerate() {
        if matches!(node, Node::Object(_)) {
            tree.walk(node.width())?;
        }
        let (next, step) = match node {
            Node::Object(_) => (node.get(token), Step::Member(token.clone())),
            Node::Array(items) => {
                let index = index(token, items.len())?;
                (items.get(index), Step::Index(index))
            }
            Node::Leaf(_) => (None, Step::Index(0)),
        };
        node = next.ok_or_else(|| nothing(i, pointer.len()))?;
        path.push(step);
    }
    Ok(path)
}

/// The place of something to add: what holds it is there.
fn new_place(tree: &Tree<'_>, pointer: &[String]) -> Result<Vec<Step>, Outcome> {
    let Some((last, before)) = pointer.split_last() else {
        return Ok(Vec::new());
    };
    let mut path = place(tree, before)?;
    path.push(match tree.get(&path) {
        Some(Node::Array(items)) if last == "-" => Step::Index(items.len()),
        Some(Node::Array(items)) => Step::Index(index(last, items.len())?),
        Some(Node::Object(_)) => Step::Member(last.clone()),
        _ => return Err(unprocessable("The path goes into a value that is neither an object nor a list").at("path")),
    });
    Ok(path)
}

fn nothing(step: usize, steps: usize) -> Outcome {
    let text = format!(
        "The resource has nothing at step {} of {steps} of the path: what is to hold the value must be there, or be added before",
        step + 1
    );
    unprocessable(text).at("path")
}

/// An index of a list with so many items; the place behind the last counts.
fn index(token: &str, length: usize) -> Result<usize, Outcome> {
    let is_number = !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    let index = token.parse::<usize>().ok().filter(|index| is_number && *index <= length);
    index.ok_or_else(|| {
        unprocessable(format!(
            "The list has {length} items: its places are counted from 0, and - is the one behind the last"
        ))
        .at("path")
    })
}
