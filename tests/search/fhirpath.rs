//! FHIRPath, as far as R4's SearchParameters use it, over the JSON itself: no shortcut, no index.
//! Spec: <http://hl7.org/fhirpath/N1/>; the datatypes of elements come from the definitions.
//!
//! `resolve()` finds nothing in a store: it tells the type that a reference says of itself (its literal form, a contained resource, or
//! `Reference.type`), which is all that `resolve() is Patient` asks.

use crate::evaluator::container_of;
use crate::values::list;
use eds::fhir::definitions::choice_name;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::ShapeId;
use eds::fhir::definitions::model::ValueSetId;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// One item of a collection.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    Element {
        value: &'a Value,
        datatype: &'a str,
        shape: Option<ShapeId>,
        /// The value set that the element is bound to, if it must be.
        binding: Option<ValueSetId>,
    },
    Bool(bool),
    /// What `resolve()` gave: a resource of this type.
    Resolved(&'a str),
}

#[derive(Debug, Clone)]
enum Expression {
    /// The item that a condition is asked of.
    This,
    Name(String),
    Text(String),
    Member(Box<Expression>, String),
    Index(Box<Expression>, usize),
    Function(Box<Expression>, String, Vec<Expression>),
    As(Box<Expression>, String),
    Is(Box<Expression>, String),
    Union(Box<Expression>, Box<Expression>),
    Equal(Box<Expression>, Box<Expression>, bool),
    And(Box<Expression>, Box<Expression>),
}

/// The resource as the root of expressions.
pub fn root(resource: &Value) -> Item<'_> {
    let datatype = resource["resourceType"].as_str().expect("a resource has a type");
    Item::Element {
        value: resource,
        datatype,
        shape: definitions().shape_of(datatype),
        binding: None,
    }
}

/// What the expression gives, asked of `focus`, which is `resource` or a part of it.
pub fn evaluate<'a>(expression: &str, focus: Item<'a>, resource: &'a Value) -> Vec<Item<'a>> {
    let parsed = PARSED.with_borrow_mut(|parsed| match parsed.get(expression) {
        Some(known) => Rc::clone(known),
        None => {
            let new = Rc::new(Parser::parse(expression));
            parsed.insert(expression.to_owned(), Rc::clone(&new));
            new
        }
    });
    Evaluator { resource }.collection(&parsed, focus)
}

thread_local! {
    static PARSED: RefCell<HashMap<String, Rc<Expression>>> = RefCell::default();
}

struct Evaluator<'a> {
    resource: &'a Value,
}

impl<'a> Evaluator<'a> {
    fn collection(&self, expression: &Expression, focus: Item<'a>) -> Vec<Item<'a>> {
        match expression {
            Expression::This => vec![focus],
            Expression::Text(_) => unreachable!("a literal stands beside = only"),
            Expression::Name(name) if name == "%resource" => vec![root(self.resource)],
            Expression::Name(name) => match is_type(focus, name) {
                true => vec![focus],
                // An upper-case name is a type that this resource is not.
                false if name.starts_with(char::is_uppercase) => Vec::new(),
                false => members(focus, name),
            },
            Expression::Member(of, name) => self
                .collection(of, focus)
                .into_iter()
                .flat_map(|item| members(item, name))
                .collect(),
            Expression::Index(of, index) => self.collection(of, focus).into_iter().skip(*index).take(1).collect(),
            Expression::As(of, datatype) => self.of_type(of, datatype, focus),
            Expression::Is(of, name) => self
                .collection(of, focus)
                .into_iter()
                .map(|item| Item::Bool(is_type(item, name)))
                .collect(),
            Expression::Union(one, other) => {
                let mut all = self.collection(one, focus);
                all.extend(self.collection(other, focus));
                all
            }
            Expression::Equal(one, other, is_equal) => self.equal(one, other, *is_equal, focus),
            Expression::And(one, other) => {
                let truth = |of| truth(&self.collection(of, focus));
                match (truth(one), truth(other)) {
                    (Some(true), Some(true)) => vec![Item::Bool(true)],
                    (Some(false), _) | (_, Some(false)) => vec![Item::Bool(false)],
                    _ => Vec::new(),
                }
            }
            Expression::Function(of, name, arguments) => self.function(of, name, arguments, focus),
        }
    }

    fn of_type(&self, of: &Expression, datatype: &str, focus: Item<'a>) -> Vec<Item<'a>> {
        let mut items = self.collection(of, focus);
        items.retain(|item| is_type(*item, datatype));
        items
    }

    fn function(&self, of: &Expression, name: &str, arguments: &[Expression], focus: Item<'a>) -> Vec<Item<'a>> {
        match (name, arguments) {
            ("as" | "ofType", [Expression::Name(datatype)]) => self.of_type(of, datatype, focus),
            ("exists", []) => vec![Item::Bool(!self.collection(of, focus).is_empty())],
            ("resolve", []) => {
                let items = self.collection(of, focus).into_iter();
                items.filter_map(|item| self.target(item)).map(Item::Resolved).collect()
            }
            ("where", [condition]) => {
                let mut items = self.collection(of, focus);
                items.retain(|item| truth(&self.collection(condition, *item)) == Some(true));
                items
            }
            _ => panic!("FHIRPath function {name} with {} arguments", arguments.len()),
        }
    }

    fn equal(&self, one: &Expression, other: &Expression, is_equal: bool, focus: Item<'a>) -> Vec<Item<'a>> {
        let left = self.collection(one, focus);
        let [left] = left.as_slice() else { return Vec::new() };
        let same = match (left, other) {
            (Item::Element { value, .. }, Expression::Text(text)) => value.as_str() == Some(text),
            (Item::Element { value, .. }, Expression::Name(name)) if name == "true" || name == "false" => {
                value.as_bool() == Some(name == "true")
            }
            _ => panic!("a comparison of {left:?} with {other:?}"),
        };
        vec![Item::Bool(same == is_equal)]
    }

    /// The type of what a Reference refers to.
    fn target(&self, item: Item<'a>) -> Option<&'a str> {
        let Item::Element { value, .. } = item else { return None };
        let declared = value["type"].as_str();
        let Some(reference) = value["reference"].as_str() else {
            return declared;
        };
        if let Some(id) = reference.strip_prefix('#') {
            let container = container_of(self.resource);
            if id.is_empty() {
                return container?["resourceType"].as_str();
            }
            let mut contained = list(container.unwrap_or(self.resource), "contained");
            return contained.find(|c| c["id"] == id).and_then(|c| c["resourceType"].as_str());
        }
        let unversioned = reference.split("/_history/").next()?;
        let mut parts = unversioned.rsplit('/');
        let (_, name) = (parts.next()?, parts.next());
        name.filter(|name| definitions().is_resource(name)).or(declared)
    }
}

fn truth(items: &[Item<'_>]) -> Option<bool> {
    match items {
        [] => None,
        [Item::Bool(truth)] => Some(*truth),
        [Item::Element { value, .. }] => Some(value.as_bool().unwrap_or(true)),
        _ => panic!("a condition that is a collection"),
    }
}

/// Whether the item is of this type; `Resource` and `DomainResource` are types of every resource here.
fn is_type(item: Item<'_>, name: &str) -> bool {
    match item {
        Item::Element { datatype, .. } => {
            // R4's components write `as(DateTime)`.
            datatype.eq_ignore_ascii_case(name) || ["Resource", "DomainResource"].contains(&name) && definitions().is_resource(datatype)
        }
        Item::Resolved(type_name) => type_name == name,
        Item::Bool(_) => false,
    }
}

/// The values of a member, by its FHIR name; each value of a list, and a choice as each of its types.
fn members<'a>(item: Item<'a>, name: &str) -> Vec<Item<'a>> {
    let Item::Element {
        value, shape: Some(shape), ..
    } = item
    else {
        return Vec::new();
    };
    let Some(element) = definitions().element(shape, name) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for ty in &element.types {
        let json_name = match element.is_choice {
            true => choice_name(name, &ty.code),
            false => name.to_owned(),
        };
        let values: Vec<&Value> = match value.get(&json_name) {
            Some(Value::Array(items)) => items.iter().collect(),
            Some(value) => vec![value],
            None => Vec::new(),
        };
        // `null` stands where only the twin with extensions has something: no value.
        for value in values.into_iter().filter(|v| !v.is_null()) {
            found.push(typed(value, &ty.code, ty.shape, element.required_binding));
        }
    }
    found
}

fn typed<'a>(value: &'a Value, code: &'static str, shape: Option<ShapeId>, binding: Option<ValueSetId>) -> Item<'a> {
    match value["resourceType"].as_str() {
        Some(_) if code == "Resource" => root(value),
        _ => Item::Element {
            value,
            datatype: code,
            shape: shape.or_else(|| definitions().shape_of(code)),
            binding,
        },
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Number(usize),
    Sign(&'static str),
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn parse(text: &str) -> Expression {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        let expression = parser.and();
        assert_eq!(parser.at, parser.tokens.len(), "not read to its end: {text}");
        expression
    }

    fn takes(&mut self, token: &Token) -> bool {
        let is_next = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(is_next);
        is_next
    }

    fn sign(&mut self, sign: &'static str) -> bool {
        self.takes(&Token::Sign(sign))
    }

    fn word(&mut self, word: &str) -> bool {
        self.takes(&Token::Name(word.to_owned()))
    }

    fn name(&mut self) -> String {
        match self.tokens.get(self.at) {
            Some(Token::Name(name)) => {
                self.at += 1;
                name.clone()
            }
            other => panic!("a name instead of {other:?}"),
        }
    }

    fn and(&mut self) -> Expression {
        let mut left = self.equality();
        while self.word("and") {
            left = Expression::And(Box::new(left), Box::new(self.equality()));
        }
        left
    }

    fn equality(&mut self) -> Expression {
        let left = self.union();
        for (sign, is_equal) in [("=", true), ("!=", false)] {
            if self.sign(sign) {
                return Expression::Equal(Box::new(left), Box::new(self.union()), is_equal);
            }
        }
        left
    }

    fn union(&mut self) -> Expression {
        let mut left = self.typing();
        while self.sign("|") {
            left = Expression::Union(Box::new(left), Box::new(self.typing()));
        }
        left
    }

    fn typing(&mut self) -> Expression {
        let left = self.path();
        if self.word("as") {
            return Expression::As(Box::new(left), self.name());
        }
        if self.word("is") {
            return Expression::Is(Box::new(left), self.name());
        }
        left
    }

    fn path(&mut self) -> Expression {
        let mut left = self.term();
        loop {
            if self.sign(".") {
                let name = self.name();
                left = self.invocation(left, name);
            } else if self.sign("[") {
                let Some(Token::Number(index)) = self.tokens.get(self.at).cloned() else {
                    panic!("an index")
                };
                self.at += 1;
                assert!(self.sign("]"));
                left = Expression::Index(Box::new(left), index);
            } else {
                return left;
            }
        }
    }

    fn invocation(&mut self, of: Expression, name: String) -> Expression {
        if !self.sign("(") {
            return Expression::Member(Box::new(of), name);
        }
        let mut arguments = Vec::new();
        while !self.sign(")") {
            arguments.push(self.and());
            self.sign(",");
        }
        Expression::Function(Box::new(of), name, arguments)
    }

    fn term(&mut self) -> Expression {
        if self.sign("(") {
            let inner = self.and();
            assert!(self.sign(")"));
            return inner;
        }
        if let Some(Token::Text(text)) = self.tokens.get(self.at).cloned() {
            self.at += 1;
            return Expression::Text(text);
        }
        let name = self.name();
        match self.tokens.get(self.at) {
            Some(Token::Sign("(")) => self.invocation(Expression::This, name),
            _ if name == "$this" => Expression::This,
            _ => Expression::Name(name),
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    const SIGNS: [&str; 9] = ["!=", "=", "|", ".", "(", ")", "[", "]", ","];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            tokens.push(Token::Sign(sign));
            sign.len()
        } else if first == '\'' {
            let end = rest[1..].find('\'').expect("an end of the literal");
            tokens.push(Token::Text(rest[1..=end].to_owned()));
            end + 2
        } else {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && !"_$%-".contains(c))
                .unwrap_or(rest.len());
            assert!(end > 0, "FHIRPath: {rest}");
            tokens.push(match rest[..end].parse() {
                Ok(number) => Token::Number(number),
                Err(_) => Token::Name(rest[..end].to_owned()),
            });
            end
        };
        rest = rest[length..].trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(expression: &str, resource: &Value) -> Vec<String> {
        let text = |item| match item {
            Item::Element { value, datatype, .. } => format!("{datatype} {value}"),
            Item::Bool(truth) => truth.to_string(),
            other => format!("{other:?}"),
        };
        evaluate(expression, root(resource), resource).into_iter().map(text).collect()
    }

    #[test]
    fn every_expression_of_the_definitions_can_be_read() {
        for parameter in &definitions().model().search_parameters {
            for expression in std::iter::once(&parameter.expression).chain(parameter.components.iter().map(|(_, e)| e)) {
                if !expression.is_empty() {
                    Parser::parse(expression);
                }
            }
        }
    }

    #[test]
    fn expressions_give_what_the_specification_of_fhirpath_says() {
        let patient = json!({"resourceType": "Patient", "name": [{"given": ["A", null], "family": "B"}, {"family": "C"}],
            "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}], "deceasedDateTime": "2020",
            "contained": [{"resourceType": "Organization", "id": "o"}],
            "generalPractitioner": [{"reference": "#o"}, {"reference": "Practitioner/1"}, {"type": "Practitioner"}, {"reference": "urn:uuid:1"}]});
        let living = json!({"resourceType": "Patient"});
        for (expression, resource, expected) in [
            (
                "Patient.name.given | Patient.name.family",
                &patient,
                vec!["string \"A\"", "string \"B\"", "string \"C\""],
            ),
            ("Person.name.family | Patient.name[1].family", &patient, vec!["string \"C\""]),
            ("Patient.telecom.where(system='phone').value", &patient, vec!["string \"1\""]),
            ("(Patient.deceased as dateTime)", &patient, vec!["dateTime \"2020\""]),
            ("Patient.deceased as boolean", &patient, vec![]),
            ("Patient.deceased.exists() and Patient.deceased != false", &patient, vec!["true"]),
            // {} is not false, but exists() is: `false and {}` is false.
            ("Patient.deceased.exists() and Patient.deceased != false", &living, vec!["false"]),
            (
                "Patient.generalPractitioner.where(resolve() is Practitioner)",
                &patient,
                vec![
                    "Reference {\"reference\":\"Practitioner/1\"}",
                    "Reference {\"type\":\"Practitioner\"}",
                ],
            ),
            (
                "Resource.name.family | DomainResource.contained.id",
                &patient,
                vec!["string \"B\"", "string \"C\"", "id \"o\""],
            ),
        ] {
            assert_eq!(texts(expression, resource), expected, "{expression}");
        }
    }
}
