//! `eds conformance`: prints `docs/conformance.md`, without a database.

use crate::commands::full_text;
use crate::commands::policies;
use crate::config::Config;
use crate::fhir::definitions::definitions;
use crate::interaction::conformance::page;
use crate::search::parameters::Registry;
use crate::validate::Validator;
use std::io::Write;

/// Errors: a text for the operator.
pub fn conformance(config: &Config) -> Result<(), String> {
    let definitions = definitions();
    let registry = Registry::load(definitions)?.with_full_text(full_text(config));
    let validator = Validator::load(definitions, policies(config))?;
    let page = page(&registry, &validator);
    let mut out = std::io::stdout().lock();
    out.write_all(page.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| format!("the page could not be printed: {e}"))
}
