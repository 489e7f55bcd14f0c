//! `_filter`: an expression, read and answered. <https://hl7.org/fhir/R4/search_filter.html>
//!
//! Decisions, where the specification leaves them to the server:
//! - `ne` of what is not ordered (strings, tokens, references, URIs) holds where there is a value and none is equal. The text, "an item in the set has
//!   an unequal value", could also mean that one of several is another.
//! - A value stands for itself: a comma or a backslash is a character of it. Only `|` and `$` part it, as in parameters.
//! - Codes are compared with their case, as parameters compare them ("for token, the format is the same as the existing search parameter").
//! - A chain goes on from those of the types referred to that have all the parameters that it names.

use crate::evaluator::Store;
use crate::evaluator::parameter;
use crate::ranges::span;
use crate::values::Typed;
use crate::values::fold;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::SearchParameterKind as Kind;
use serde_json::Value;

#[derive(Debug)]
pub enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    Test { path: Vec<Step>, operator: String, value: String },
}

/// `name` or `name[filter]`.
#[derive(Debug)]
pub struct Step {
    name: String,
    filter: Option<Filter>,
}

/// Reads an expression. Panics if it is none: searches of tests are.
pub fn read(text: &str) -> Filter {
    let mut reader = Reader { rest: text };
    let filter = reader.filter();
    assert!(reader.rest.trim().is_empty(), "{text}: {} is left", reader.rest);
    filter
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    /// "Logical expressions are evaluated left to right, with no precedence between and and or."
    fn filter(&mut self) -> Filter {
        let mut left = self.operand();
        loop {
            if self.takes("and ") {
                left = Filter::And(Box::new(left), Box::new(self.operand()));
            } else if self.takes("or ") {
                left = Filter::Or(Box::new(left), Box::new(self.operand()));
            } else {
                return left;
            }
        }
    }

    fn operand(&mut self) -> Filter {
        if self.takes("not (") {
            return Filter::Not(Box::new(self.up_to(")")));
        }
        if self.takes("(") {
            return self.up_to(")");
        }
        let mut path = vec![self.step()];
        while self.takes(".") {
            path.push(self.step());
        }
        let operator = self.word();
        let value = self.value();
        Filter::Test { path, operator, value }
    }

    fn up_to(&mut self, end: &str) -> Filter {
        let filter = self.filter();
        assert!(self.takes(end), "no {end} before {}", self.rest);
        filter
    }

    fn step(&mut self) -> Step {
        let name = self.word();
        let filter = self.takes("[").then(|| self.up_to("]"));
        Step { name, filter }
    }

    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        self.until(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
    }

    /// "A JSON string, or a token (any sequence of non-whitespace characters, excluding ) and ])".
    fn value(&mut self) -> String {
        self.rest = self.rest.trim_start();
        if !self.rest.starts_with('"') {
            return self.until(|c: char| c.is_whitespace() || c == ')' || c == ']');
        }
        let mut strings = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let value = strings.next().expect("a value").expect("a string of JSON");
        self.rest = &self.rest[strings.byte_offset()..];
        value
    }

    fn until(&mut self, is_end: impl Fn(char) -> bool) -> String {
        let (taken, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken.to_owned()
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

impl Store {
    pub fn satisfies(&self, resource: &Value, filter: &Filter) -> bool {
        match filter {
            Filter::And(one, other) => self.satisfies(resource, one) && self.satisfies(resource, other),
            Filter::Or(one, other) => self.satisfies(resource, one) || self.satisfies(resource, other),
            Filter::Not(inner) => !self.satisfies(resource, inner),
            Filter::Test { path, operator, value } => self.passes(resource, path, operator, value),
        }
    }

    fn passes(&self, resource: &Value, path: &[Step], operator: &str, value: &str) -> bool {
        let type_name = resource["resourceType"].as_str().expect("a type");
        match path {
            [] => unreachable!("a path has a name at least"),
            [step] => self.tests(resource, &step.name, operator, value),
            [step, rest @ ..] => {
                let is_wanted = |target: &&Value| {
                    let of = target["resourceType"].as_str().expect("a type");
                    let filter = step.filter.as_ref();
                    filter.is_none_or(|filter| knows(of, filter) && self.satisfies(target, filter)) && has_parameter(of, &rest[0].name)
                };
                let targets = self.targets(resource, parameter(type_name, &step.name), "");
                targets
                    .iter()
                    .filter(|target| is_wanted(target))
                    .any(|target| self.passes(target, rest, operator, value))
            }
        }
    }

    /// One comparison with the set of values that a parameter has.
    fn tests(&self, resource: &Value, name: &str, operator: &str, text: &str) -> bool {
        if name == "_list" {
            return self.is_listed(resource, text);
        }
        let parameter = parameter(resource["resourceType"].as_str().expect("a type"), name);
        let values = self.values(resource, parameter);
        let plain = text.replace('\\', r"\\");
        let has = |text: &str| self.any(resource, parameter, "", text);
        let folded = fold(text);
        let has_string = |is: fn(&str, &str) -> bool| strings(&values).any(|string| is(&fold(string), &folded));
        match (operator, parameter.kind) {
            // "The set is empty or not (value is false or true)"
            ("pr", _) => values.is_empty() == (text == "false"),
            ("eq", Kind::String) => has_string(|string, asked| string == asked),
            ("co", Kind::String) => has_string(|string, asked| string.contains(asked)),
            ("sw", Kind::String) => has_string(|string, asked| string.starts_with(asked)),
            ("ew", Kind::String) => has_string(|string, asked| string.ends_with(asked)),
            // "True if a (implied) date period in the set overlaps with the implied period in the value"
            ("po", Kind::Date) => {
                let asked = span(text).expect("a date");
                let overlaps = |value: &Typed<'_>| matches!(value, Typed::Date(span) if span.low < asked.high && asked.low < span.high);
                values.iter().any(overlaps)
            }
            // "True if one of the concepts is in the nominated value set", "none of the concepts".
            ("in", Kind::Token) => self.holds(resource, &format!("{name}:in"), &plain.replace(',', r"\,")),
            ("ni", Kind::Token) => self.holds(resource, &format!("{name}:not-in"), &plain.replace(',', r"\,")),
            // "True if the value subsumes a concept in the set", "True if the value is subsumed by a concept in the set".
            ("ss", Kind::Token) => self.holds(resource, &format!("{name}:below"), &plain.replace(',', r"\,")),
            ("sb", Kind::Token) => self.holds(resource, &format!("{name}:above"), &plain.replace(',', r"\,")),
            (_, Kind::Date | Kind::Number | Kind::Quantity) => has(&format!("{operator}{plain}")),
            ("ne", _) => !values.is_empty() && !self.tests(resource, name, "eq", text),
            ("eq" | "re", _) => has(&plain),
            _ => panic!("{name} {operator}"),
        }
    }
}

fn strings<'v>(values: &'v [Typed<'_>]) -> impl Iterator<Item = &'v str> {
    values
        .iter()
        .flat_map(|value| match value {
            Typed::Strings(strings) => strings.as_slice(),
            _ => &[],
        })
        .copied()
}

fn has_parameter(type_name: &str, name: &str) -> bool {
    name == "_list" || definitions().search_parameter(type_name, name).is_some()
}

/// Whether a type has all parameters that a filter begins its paths with.
fn knows(type_name: &str, filter: &Filter) -> bool {
    match filter {
        Filter::And(one, other) | Filter::Or(one, other) => knows(type_name, one) && knows(type_name, other),
        Filter::Not(inner) => knows(type_name, inner),
        Filter::Test { path, .. } => has_parameter(type_name, &path[0].name),
    }
}
