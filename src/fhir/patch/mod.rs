//! Patches of a resource: JSON Patch and FHIRPath Patch, from the text of the resource to the text that it becomes.
//!
//! What a patch does not touch stays byte for byte. A patch is applied while the resource's row is locked, so its size, its steps and what
//! it makes are bounded. Spec: <https://hl7.org/fhir/R4/http.html#patch>, <https://hl7.org/fhir/R4/fhirpatch.html>.

pub mod element;
pub mod fhirpath;
pub mod json;
pub mod path;
pub mod tree;

use crate::fhir::definitions::Definitions;
use crate::fhir::json::Document;
use crate::fhir::patch::tree::Tree;
use crate::outcome::Category;
use crate::outcome::Outcome;
use std::sync::Arc;

/// The two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/json-patch+json`
    Json,
    /// A Parameters resource.
    FhirPath,
}

/// A patch that has been read: every operation is one.
#[derive(Debug, Clone)]
pub struct Patch {
    form: Form,
    text: Arc<str>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub operations_max: usize,
    /// Of all that the operations add, and of the resource that they make.
    pub bytes_max: usize,
}

impl Patch {
    /// Errors: 400 for what is no patch, 413 for too many operations.
    pub fn read(form: Form, text: &str, limits: Limits) -> Result<Patch, Outcome> {
        let document = parse(text)?;
        match form {
            Form::Json => drop(json::operations(document.root(), limits.operations_max)?),
            Form::FhirPath => drop(fhirpath::operations(document.root(), limits.operations_max)?),
        }
        Ok(Patch {
            form,
            text: text.into(),
            limits,
        })
    }

    /// The text of the patch itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The resource as the patch makes it. Errors: 413, 422.
    pub fn apply(&self, definitions: &Definitions, type_name: &str, resource: &str) -> Result<String, Outcome> {
        let (resource, patch) = (parse(resource)?, parse(&self.text)?);
        let mut tree = Tree::new(resource.root(), self.limits.bytes_max);
        match self.form {
            Form::Json => json::apply(&mut tree, &json::operations(patch.root(), self.limits.operations_max)?)?,
            Form::FhirPath => {
                let operations = fhirpath::operations(patch.root(), self.limits.operations_max)?;
                fhirpath::apply(&mut tree, definitions, type_name, &operations)?;
            }
        }
        tree.into_text()
    }
}

fn parse(text: &str) -> Result<Document<'_>, Outcome> {
    Document::parse_str(text).map_err(|e| Outcome::invalid(format!("The patch is not JSON: {e}")).with_code("structure"))
}

/// Errors: 413 for one operation more than allowed.
fn check_count(before: usize, operations_max: usize) -> Result<(), Outcome> {
    if before < operations_max {
        return Ok(());
    }
    let text = format!("A patch has at most {operations_max} operations (patch.operations_max)");
    Err(Outcome::new(Category::TooLarge, "too-costly", text))
}

#[cfg(test)]
mod tests;
