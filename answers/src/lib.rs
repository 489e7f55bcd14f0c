//! The resources that eds writes itself, built and checked by the types of `fhir-sdk`.
//!
//! A crate of its own because one use of these types compiles all of FHIR: here that is done once, and for size.
//! Nothing that somebody else wrote passes through: those types rewrite decimals and drop what they do not know.
//! Spec: <https://hl7.org/fhir/R4/operationoutcome.html>, <https://hl7.org/fhir/R4/capabilitystatement.html>.

use fhir_sdk::r4b::codes::IssueSeverity;
use fhir_sdk::r4b::codes::IssueType;
use fhir_sdk::r4b::resources::CapabilityStatement;
use fhir_sdk::r4b::resources::OperationOutcome;
use fhir_sdk::r4b::resources::OperationOutcomeIssue;
use fhir_sdk::r4b::types::CodeableConcept;

/// One issue of an OperationOutcome. `severity` and `code` are codes of the specification.
#[derive(Debug, Clone, Copy)]
pub struct Issue<'a> {
    pub severity: &'a str,
    pub code: &'a str,
    /// FHIRPath, or empty.
    pub expression: &'a str,
    pub text: &'a str,
}

/// An OperationOutcome as JSON text. Errors: a text when an issue cannot be built, which only an unknown code can cause.
pub fn operation_outcome(issues: &[Issue<'_>]) -> Result<String, String> {
    let issues = issues.iter().map(|issue| to_fhir(issue).map(Some)).collect::<Result<Vec<_>, _>>()?;
    let resource = OperationOutcome::builder().issue(issues).build().map_err(|e| e.to_string())?;
    serde_json::to_string(&resource).map_err(|e| e.to_string())
}

fn to_fhir(issue: &Issue<'_>) -> Result<OperationOutcomeIssue, String> {
    let details = CodeableConcept::builder()
        .text(issue.text.to_owned())
        .build()
        .map_err(|e| e.to_string())?;
    let severity: IssueSeverity = code(issue.severity)?;
    let kind: IssueType = code(issue.code)?;
    let mut builder = OperationOutcomeIssue::builder()
        .severity(severity)
        .code(kind)
        .details(details)
        .diagnostics(issue.text.to_owned());
    if !issue.expression.is_empty() {
        builder = builder.expression(vec![Some(issue.expression.to_owned())]);
    }
    builder.build().map_err(|e| e.to_string())
}

fn code<T: serde::de::DeserializeOwned>(code: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(code)).map_err(|e| e.to_string())
}

/// Whether the JSON is a CapabilityStatement to an independent reader. For tests: reading one brings the types of all resources into a
/// program. Errors: what is wrong with it.
pub fn check_capability_statement(statement: &serde_json::Value) -> Result<(), String> {
    let read: Result<CapabilityStatement, _> = serde_json::from_value(statement.clone());
    read.map(|_| ()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_its_issues_in_the_order_of_the_specification() {
        let issue = Issue {
            severity: "error",
            code: "not-found",
            expression: "Bundle.entry[3]",
            text: "Patient/1 is not known",
        };
        assert_eq!(
            operation_outcome(&[issue]).as_deref(),
            Ok(
                r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","details":{"text":"Patient/1 is not known"},"diagnostics":"Patient/1 is not known","expression":["Bundle.entry[3]"]}]}"#
            )
        );
    }

    #[test]
    fn a_code_that_is_none_is_an_error() {
        assert!(
            operation_outcome(&[Issue {
                severity: "error",
                code: "nonsense",
                expression: "",
                text: "x"
            }])
            .is_err()
        );
    }
}
