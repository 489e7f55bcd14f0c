//! The one error shape: what went wrong, in FHIR's words, and the status it answers with.
//!
//! An [`Outcome`] is an OperationOutcome under `/fhir` and a problem+json under `/v1`; the table of statuses stands here alone.
//! Texts are for the client and hold no personal data; what only operators may see goes to `internal` and to the log.
//! Spec: <https://hl7.org/fhir/R4/operationoutcome.html>, <https://hl7.org/fhir/R4/http.html#Status-Codes>.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
    Information,
}

impl Severity {
    /// The code of the specification.
    pub fn code(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Information => "information",
        }
    }
}

/// One thing to tell: an issue of an OperationOutcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    pub severity: Severity,
    /// A code of <https://hl7.org/fhir/R4/valueset-issue-type.html>.
    pub code: &'static str,
    /// FHIRPath of the element, or empty.
    pub expression: String,
    /// What is wrong and what would be right. Never a personal value.
    pub text: String,
}

/// What kind of failure it is; decides the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Invalid,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    Conflict,
    Gone,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
    Unprocessable,
    TooManyRequests,
    Unavailable,
    Internal,
}

/// A failure, or a list of remarks about a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub category: Category,
    pub issues: Vec<Issue>,
    /// For the log only.
    pub internal: Option<String>,
}

impl Outcome {
    pub fn new(category: Category, code: &'static str, text: impl Into<String>) -> Outcome {
        let issue = Issue {
            severity: Severity::Error,
            code,
            expression: String::new(),
            text: text.into(),
        };
        Outcome {
            category,
            issues: vec![issue],
            internal: None,
        }
    }

    /// 400: the request is wrong in itself.
    pub fn invalid(text: impl Into<String>) -> Outcome {
        Outcome::new(Category::Invalid, "invalid", text)
    }

    /// 400: something that the specification has and this server does not do.
    pub fn not_supported(text: impl Into<String>) -> Outcome {
        Outcome::new(Category::Invalid, "not-supported", text)
    }

    /// 404. `what` is a type or `Type/id`.
    pub fn not_found(what: &str) -> Outcome {
        Outcome::new(Category::NotFound, "not-found", format!("{what} is not known"))
    }

    /// 410: it was deleted.
    pub fn gone(what: &str) -> Outcome {
        Outcome::new(Category::Gone, "deleted", format!("{what} was deleted"))
    }

    /// 409.
    pub fn conflict(text: impl Into<String>) -> Outcome {
        Outcome::new(Category::Conflict, "conflict", text)
    }

    /// 412: If-Match does not hold, or a criterion matches several resources.
    pub fn precondition(text: impl Into<String>) -> Outcome {
        Outcome::new(Category::PreconditionFailed, "conflict", text)
    }

    /// 503: try again later.
    pub fn unavailable(text: impl Into<String>) -> Outcome {
        Outcome::new(Category::Unavailable, "transient", text)
    }

    /// 500. `internal` is for the log; the client learns nothing but that it failed.
    pub fn internal(internal: impl fmt::Display) -> Outcome {
        let mut outcome = Outcome::new(Category::Internal, "exception", "The server failed; the failure is in its log");
        outcome.internal = Some(internal.to_string());
        outcome
    }

    /// 422: well-formed, but against the rules of FHIR or of a profile.
    pub fn unprocessable(issues: Vec<Issue>) -> Outcome {
        Outcome {
            category: Category::Unprocessable,
            issues,
            internal: None,
        }
    }

    /// Names the element or the place in the request that the issues are about.
    pub fn at(mut self, expression: &str) -> Outcome {
        for issue in &mut self.issues {
            issue.expression = match issue.expression.is_empty() {
                true => expression.to_owned(),
                false => format!("{expression}.{}", issue.expression),
            };
        }
        self
    }

    pub fn with_code(mut self, code: &'static str) -> Outcome {
        for issue in &mut self.issues {
            issue.code = code;
        }
        self
    }

    pub fn status(&self) -> u16 {
        match self.category {
            Category::Invalid => 400,
            Category::Forbidden => 403,
            Category::NotFound => 404,
            Category::MethodNotAllowed => 405,
            Category::NotAcceptable => 406,
            Category::RequestTimeout => 408,
            Category::Conflict => 409,
            Category::Gone => 410,
            Category::PreconditionFailed => 412,
            Category::TooLarge => 413,
            Category::UnsupportedMediaType => 415,
            Category::Unprocessable => 422,
            Category::TooManyRequests => 429,
            Category::Unavailable => 503,
            Category::Internal => 500,
        }
    }

    /// The texts of all issues in one line: for problem+json, the import report and the log.
    pub fn summary(&self) -> String {
        let line = |issue: &Issue| match issue.expression.is_empty() {
            true => issue.text.clone(),
            false => format!("{}: {}", issue.expression, issue.text),
        };
        self.issues.iter().take(5).map(line).collect::<Vec<_>>().join("; ")
    }

    pub fn to_json(&self) -> String {
        operation_outcome(&self.issues)
    }
}

/// An OperationOutcome resource as JSON text.
pub fn operation_outcome(issues: &[Issue]) -> String {
    let issues: Vec<_> = issues
        .iter()
        .map(|issue| eds_answers::Issue {
            severity: issue.severity.code(),
            code: issue.code,
            expression: &issue.expression,
            text: &issue.text,
        })
        .collect();
    // It only fails for a code that the specification does not have, which the test below excludes; still an OperationOutcome.
    eds_answers::operation_outcome(&issues)
        .unwrap_or_else(|_| r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception"}]}"#.to_owned())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Outcome {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_an_operation_outcome() {
        let outcome = Outcome::not_found("Patient/1").at("Bundle.entry[3]");
        assert_eq!(outcome.status(), 404);
        assert_eq!(
            outcome.to_json(),
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","details":{"text":"Patient/1 is not known"},"diagnostics":"Patient/1 is not known","expression":["Bundle.entry[3]"]}]}"#
        );
    }

    #[test]
    fn every_code_that_we_use_is_a_code_of_the_specification() {
        for code in [
            "invalid",
            "not-supported",
            "not-found",
            "deleted",
            "conflict",
            "transient",
            "exception",
            "structure",
            "required",
            "value",
            "code-invalid",
            "business-rule",
            "informational",
            "duplicate",
            "too-long",
            "too-costly",
            "invariant",
            "processing",
            "forbidden",
            "throttled",
            "multiple-matches",
            "incomplete",
        ] {
            let issue = Issue {
                severity: Severity::Error,
                code,
                expression: String::new(),
                text: "x".to_owned(),
            };
            assert!(operation_outcome(&[issue]).contains(code), "{code}");
        }
    }
}
