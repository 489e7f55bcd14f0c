//! The invariants of our own profiles, by key. A profile that names another is refused at load.

use crate::fhir::codice_fiscale;
use crate::fhir::json::Value;

/// Looks at the element that carries the constraint. Errors: what would be right, never the value itself.
pub type Check = fn(Value<'_>) -> Result<(), &'static str>;

pub fn named(key: &str) -> Option<Check> {
    match key {
        "eds-cf-1" => Some(is_codice_fiscale),
        "eds-piva-1" => Some(is_partita_iva),
        _ => None,
    }
}

/// An Identifier whose value is a codice fiscale.
fn is_codice_fiscale(identifier: Value<'_>) -> Result<(), &'static str> {
    let Some(value) = identifier.get_str("value") else { return Ok(()) };
    codice_fiscale::check(&value).map_err(codice_fiscale::Fault::text)
}

/// An Identifier whose value is a partita IVA.
fn is_partita_iva(identifier: Value<'_>) -> Result<(), &'static str> {
    let Some(value) = identifier.get_str("value") else { return Ok(()) };
    if codice_fiscale::is_partita_iva(&value) {
        Ok(())
    } else {
        Err("a partita IVA is 11 digits, the last of them the check digit of the others")
    }
}
