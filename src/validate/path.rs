//! Where the validator stands in a resource, and the issues that it has found so far.

use crate::outcome::Issue;
use crate::outcome::Severity;

/// A resource with more issues than this is told so and not read further: bounds the answer to a hostile body.
pub const ISSUES_MAX: usize = 100;
/// Longest piece of an unknown member name or code that a message repeats.
const QUOTED_CHARS_MAX: usize = 64;

/// One step of a path; the steps before it live on the stack of the walk, so that a valid resource costs no text.
#[derive(Clone, Copy)]
pub struct Path<'p> {
    pub parent: Option<&'p Path<'p>>,
    pub name: &'p str,
    pub index: Option<usize>,
}

impl<'p> Path<'p> {
    pub fn root(name: &'p str) -> Path<'p> {
        Path {
            parent: None,
            name,
            index: None,
        }
    }

    pub fn child(&'p self, name: &'p str) -> Path<'p> {
        Path {
            parent: Some(self),
            name,
            index: None,
        }
    }

    pub fn at(self, index: usize) -> Path<'p> {
        Path {
            index: Some(index),
            ..self
        }
    }

    /// As FHIRPath: `Patient.name[0].given[1]`.
    fn expression(&self) -> String {
        let mut steps = vec![self];
        while let Some(parent) = steps[steps.len() - 1].parent {
            steps.push(parent);
        }
        let mut text = String::new();
        for step in steps.iter().rev() {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(step.name);
            if let Some(index) = step.index {
                text.push_str(&format!("[{index}]"));
            }
        }
        text
    }
}

/// The issues of one validation.
#[derive(Default)]
pub struct Issues {
    found: Vec<Issue>,
}

impl Issues {
    pub fn error(&mut self, path: &Path<'_>, code: &'static str, text: impl Into<String>) {
        self.push(Severity::Error, path, code, text);
    }

    pub fn push(&mut self, severity: Severity, path: &Path<'_>, code: &'static str, text: impl Into<String>) {
        match self.found.len() {
            ISSUES_MAX => {}
            n if n + 1 == ISSUES_MAX => {
                let text = format!("more than {ISSUES_MAX} issues (ISSUES_MAX): the rest is not listed");
                self.found.push(Issue {
                    severity: Severity::Error,
                    code: "too-costly",
                    expression: String::new(),
                    text,
                });
            }
            _ => self.found.push(Issue {
                severity,
                code,
                expression: path.expression(),
                text: text.into(),
            }),
        }
    }

    /// Nothing more will be listed, so nothing more need be looked at.
    pub fn is_full(&self) -> bool {
        self.found.len() == ISSUES_MAX
    }

    pub fn into_vec(self) -> Vec<Issue> {
        self.found
    }
}

/// A name or code of the input, fit for a message: cut, and without what is not plain.
pub fn quoted(text: &str) -> String {
    let plain: String = text
        .chars()
        .take(QUOTED_CHARS_MAX)
        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
        .collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        format!("{plain}...")
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_fhirpath() {
        let root = Path::root("Patient");
        let name = root.child("name").at(0);
        assert_eq!(name.child("given").at(1).expression(), "Patient.name[0].given[1]");
        assert_eq!(root.expression(), "Patient");
    }

    #[test]
    fn issues_are_bounded_and_the_last_says_so() {
        let mut issues = Issues::default();
        for _ in 0..1000 {
            issues.error(&Path::root("Patient"), "structure", "wrong");
        }
        assert!(issues.is_full());
        let found = issues.into_vec();
        assert_eq!(found.len(), ISSUES_MAX);
        assert_eq!(found[ISSUES_MAX - 1].code, "too-costly");
        assert_eq!(found[ISSUES_MAX - 2].code, "structure");
    }

    #[test]
    fn what_is_quoted_is_short_and_plain() {
        assert_eq!(quoted("birth\u{202e}Date"), "birth?Date");
        assert_eq!(quoted(&"x".repeat(70)).len(), 67);
    }
}
