//! What a query asks of a resource: a tree that says nothing of SQL. The compiler in `compile.rs` writes it.

use crate::fhir::datetime::Range;
use chrono::DateTime;
use chrono::Utc;

/// A comparison prefix. <https://hl7.org/fhir/R4/search.html#prefix>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// Has at least one of these terms.
    Terms(Vec<i64>),
    /// Is one of the resources with these hashes.
    Ids(Vec<i64>),
    /// The type's primary date.
    PrimaryDate(i16, Prefix, Range),
    /// Another date parameter, by its keys.
    Date(Vec<i32>, Prefix, Range),
    LastUpdated(i16, Prefix, DateTime<Utc>, DateTime<Utc>),
    Quantity(QuantityCondition),
    /// A normalised string that begins with this.
    StringStart(Vec<i32>, String),
    /// A normalised string that is this.
    StringEquals(Vec<i32>, String),
    /// A normalised string that ends with this.
    StringEnd(Vec<i32>, String),
    /// A normalised string that contains this.
    StringPart(Vec<i32>, String),
    /// None of these bits of `present` is set.
    Missing(i64),
    /// References, under one of these salts, a resource for which the inner condition holds.
    Chain(Vec<i64>, Box<Condition>),
    /// Is referenced, under one of these salts, by a resource for which the inner condition holds.
    Has(Vec<i64>, Box<Condition>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct QuantityCondition {
    pub keys: Vec<i32>,
    pub unit: Unit,
    pub prefix: Prefix,
    pub value: f64,
    /// The bounds of the value's implicit precision.
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Any,
    /// Hash of system and code.
    SystemAndCode(i64),
    /// Hash of the code or unit text.
    Code(i64),
}

impl Condition {
    /// Holds for nothing.
    pub fn nothing() -> Condition {
        Condition::Any(Vec::new())
    }

    /// All of these, without needless nesting.
    pub fn all(mut conditions: Vec<Condition>) -> Condition {
        match conditions.len() {
            1 => conditions.remove(0),
            _ => Condition::All(conditions),
        }
    }

    /// Any of these; terms are joined into one condition, which one index scan answers.
    pub fn any(conditions: Vec<Condition>) -> Condition {
        let mut joined: Vec<Condition> = Vec::new();
        for condition in conditions {
            match (joined.last_mut(), condition) {
                (Some(Condition::Terms(all)), Condition::Terms(more)) => all.extend(more),
                (Some(Condition::Ids(all)), Condition::Ids(more)) => all.extend(more),
                (_, condition) => joined.push(condition),
            }
        }
        match joined.len() {
            1 => joined.remove(0),
            _ => Condition::Any(joined),
        }
    }

    pub fn negated(condition: Condition) -> Condition {
        Condition::Not(Box::new(condition))
    }
}
