//! JSON as it is written, right or wrong: numbers and literals are text, and an object may have a name twice.

use std::fmt;

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A number, a literal, a string with its quotes, or anything else.
    Raw(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    pub fn raw(text: impl Into<String>) -> Node {
        Node::Raw(text.into())
    }

    /// A string of this content.
    pub fn text(content: &str) -> Node {
        Node::Raw(serde_json::Value::from(content).to_string())
    }

    pub fn object<const N: usize>(members: [(&str, Node); N]) -> Node {
        Node::Object(members.into_iter().map(|(name, node)| (name.to_owned(), node)).collect())
    }

    /// Adds a member at the end of an object, which this is.
    pub fn push(&mut self, name: &str, node: Node) {
        if let Node::Object(members) = self {
            members.push((name.to_owned(), node));
        }
    }

    /// Itself and all that is in it.
    pub fn size(&self) -> usize {
        match self {
            Node::Raw(_) => 1,
            Node::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Node::Object(members) => 1 + members.iter().map(|(_, node)| node.size()).sum::<usize>(),
        }
    }

    /// The node at this place, counted from itself, which is 0.
    pub fn at(&mut self, place: usize) -> Option<&mut Node> {
        if place == 0 {
            return Some(self);
        }
        let mut rest = place - 1;
        let inner: Vec<&mut Node> = match self {
            Node::Raw(_) => Vec::new(),
            Node::List(items) => items.iter_mut().collect(),
            Node::Object(members) => members.iter_mut().map(|(_, node)| node).collect(),
        };
        for node in inner {
            let size = node.size();
            if rest < size {
                return node.at(rest);
            }
            rest -= size;
        }
        None
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Raw(text) => f.write_str(text),
            Node::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Node::Object(members) => {
                f.write_str("{")?;
                for (i, (name, node)) in members.iter().enumerate() {
                    write!(f, "{}{}:{node}", if i == 0 { "" } else { "," }, Node::text(name))?;
                }
                f.write_str("}")
            }
        }
    }
}
