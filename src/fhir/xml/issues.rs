//! What is wrong with a body in XML: where, and what would be right.

use crate::fhir::definitions::choice_name;
use crate::fhir::definitions::model::Shape;
use crate::fhir::xml::Role;
use crate::fhir::xml::markup::Malformed;
use crate::outcome::Category;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;

/// What is told of one body: more would help nobody, and a hostile body could ask for any number.
const ISSUES_MAX: usize = 100;
/// Longest piece of an unknown name that a message repeats.
const QUOTED_CHARS_MAX: usize = 64;
/// Most names that a message offers.
const NAMES_MAX: usize = 40;

/// Where the reader stands, and what it has found.
#[derive(Default)]
pub struct Issues {
    /// Name and, of what repeats, index.
    pub steps: Vec<(&'static str, Option<usize>)>,
    pub found: Vec<Issue>,
}

impl Issues {
    /// Of the element where the reader stands.
    pub fn tell(&mut self, code: &'static str, text: impl Into<String>) {
        self.tell_at("", code, text);
    }

    /// Of an element in it.
    pub fn tell_at(&mut self, child: &str, code: &'static str, text: impl Into<String>) {
        let (code, expression, text) = match self.found.len() {
            ISSUES_MAX => return,
            n if n + 1 == ISSUES_MAX => {
                let text = format!("more than {ISSUES_MAX} issues (ISSUES_MAX): the rest is not listed");
                ("too-costly", String::new(), text)
            }
            _ if child.is_empty() => (code, self.expression(), text.into()),
            _ => (code, format!("{}.{child}", self.expression()), text.into()),
        };
        self.found.push(Issue {
            severity: Severity::Error,
            code,
            expression,
            text,
        });
    }

    /// As FHIRPath: `Patient.name[0].given[1]`.
    pub fn expression(&self) -> String {
        let step = |(name, index): &(&str, Option<usize>)| match index {
            Some(index) => format!("{name}[{index}]"),
            None => (*name).to_owned(),
        };
        self.steps.iter().map(step).collect::<Vec<_>>().join(".")
    }

    /// Says what is allowed instead.
    pub fn unknown_element(&mut self, shape: &Shape, role: Role, name: &str) {
        // Its text is long, and a body may have a million of them.
        if self.found.len() < ISSUES_MAX {
            self.tell_at(&short(name), "structure", unknown_element(shape, role, name));
        }
    }
}

fn unknown_element(shape: &Shape, role: Role, name: &str) -> String {
    let choice = shape.elements.iter().find(|e| e.is_choice && e.name == name);
    if let Some(choice) = choice {
        let names = choice.types.iter().map(|ty| choice_name(&choice.name, &ty.code));
        let names: Vec<String> = names.take(NAMES_MAX).collect();
        return format!("{name} needs its type in its name: {}", names.join(", "));
    }
    if role.is_attribute(name) {
        return format!("{name} is an attribute here: {name}=\"...\"");
    }
    let allowed = shape.elements.iter().filter(|e| !role.is_attribute(&e.name) && e.max != Some(0));
    let names: Vec<String> = allowed
        .map(|e| if e.is_choice { format!("{}[x]", e.name) } else { e.name.clone() })
        .collect();
    let more = if names.len() > NAMES_MAX { ", ..." } else { "" };
    let names = names[..names.len().min(NAMES_MAX)].join(", ");
    format!("{} has no such element; it has {names}{more}", shape.path)
}

/// A name of the input, fit for a message.
pub fn short(name: &str) -> String {
    name.chars().take(QUOTED_CHARS_MAX).collect()
}

/// 400 with line and column.
pub fn refused(text: &str, malformed: &Malformed) -> Outcome {
    let before = &text.as_bytes()[..malformed.at.min(text.len())];
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let column = 1 + memchr::memrchr(b'\n', before).map_or(before.len(), |newline| before.len() - newline - 1);
    let text = format!(
        "The body is not XML as FHIR wants it: {} at line {line}, column {column}",
        malformed.what
    );
    Outcome::new(Category::Invalid, "structure", text)
}
