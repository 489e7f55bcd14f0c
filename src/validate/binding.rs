//! Required bindings: codes that must come from a value set whose codes are known here.
//!
//! A value set of external codes (MIME types, currencies, UCUM) is not known, so it is never asked for here.
//! Spec: <https://hl7.org/fhir/R4/terminologies.html#required>.

use crate::fhir::json::Value;
use crate::validate::path::quoted;
use crate::validate::program::CodeSet;

/// What is wrong with an element of type `code`. Invariant: `value` is a string.
pub fn code_fault(codes: &CodeSet, value: Value<'_>) -> Option<String> {
    let code = value.as_str()?;
    if codes.has_code(&code) {
        return None;
    }
    Some(format!(
        "'{}' is not in the required value set {}: {}",
        quoted(&code),
        codes.url,
        codes.some_codes()
    ))
}

/// A Coding that has a code must be in the set, with its system.
pub fn coding_fault(codes: &CodeSet, value: Value<'_>) -> Option<String> {
    (value.get("code").is_some() && !is_coding_in(codes, value)).then(|| not_in(codes, value))
}

/// One of the codings must be in the set; text alone is not enough. What has nothing but extensions says why it is absent.
pub fn concept_fault(codes: &CodeSet, value: Value<'_>) -> Option<String> {
    let Some(codings) = value.get("coding") else {
        let text = || {
            format!(
                "one coding of the required value set {} is needed: {}",
                codes.url,
                codes.some_codes()
            )
        };
        return value.get("text").map(|_| text());
    };
    if codings.items().any(|coding| is_coding_in(codes, coding)) {
        return None;
    }
    codings.items().next().map(|first| not_in(codes, first))
}

fn is_coding_in(codes: &CodeSet, coding: Value<'_>) -> bool {
    match (coding.get_str("system"), coding.get_str("code")) {
        (Some(system), Some(code)) => codes.has_coding(&system, &code),
        _ => false,
    }
}

fn not_in(codes: &CodeSet, coding: Value<'_>) -> String {
    let Some(code) = coding.get_str("code") else {
        return format!("no code of the required value set {}: {}", codes.url, codes.some_codes());
    };
    let systems: Vec<&str> = codes.systems().take(3).collect();
    let code = quoted(&code);
    format!(
        "'{code}' with its system is not in the required value set {}: {} of {}",
        codes.url,
        codes.some_codes(),
        systems.join(", ")
    )
}
