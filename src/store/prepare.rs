//! What the operations of a unit write, made ready: links that lead to their targets, patches of the row that is there, the index.

use crate::fhir::json::Document;
use crate::fhir::json::JsonError;
use crate::fhir::links;
use crate::outcome::Outcome;
use crate::search::parameters::Registry;
use crate::store::Store;
use crate::store::rows::Row;
use crate::store::unit::Content;
use crate::store::unit::Edit;
use crate::store::unit::Prepared;
use std::borrow::Cow;
use std::collections::HashMap;

pub fn accepted(error: JsonError) -> Outcome {
    Outcome::internal(format!("an accepted text does not parse: {error}"))
}

/// The content of an operation, indexed by the parameters of this registry.
pub fn prepare<'c>(
    store: &Store,
    registry: &Registry,
    type_number: i16,
    content: &'c Content,
    targets: &HashMap<String, String>,
) -> Result<Cow<'c, Prepared>, Outcome> {
    let text = match content {
        Content::Ready(prepared) => return Ok(prepared.indexed_by(registry)?.map_or(Cow::Borrowed(prepared), Cow::Owned)),
        Content::Open(text) => text,
    };
    linked(store, registry, type_number, text, targets).map(Cow::Owned)
}

/// What a patch makes of a row. Errors: 422 and 413 of the patch.
pub fn patched(store: &Store, registry: &Registry, row: &Row, edit: &Edit, targets: &HashMap<String, String>) -> Result<Prepared, Outcome> {
    let text = (edit.make)(&row.to_json(registry, &store.bodies)?)?;
    linked(store, registry, row.type_number, &text, targets)
}

/// A resource whose links lead to their targets.
pub fn linked(
    store: &Store,
    registry: &Registry,
    type_number: i16,
    text: &str,
    targets: &HashMap<String, String>,
) -> Result<Prepared, Outcome> {
    let document = Document::parse_str(text).map_err(accepted)?;
    Ok(match links::rewrite(document.root(), &|link, _| targets.get(link).cloned()) {
        None => Prepared::new(registry, &store.bodies, type_number, document.root()),
        Some(rewritten) => {
            let document = Document::parse_str(&rewritten).map_err(accepted)?;
            Prepared::new(registry, &store.bodies, type_number, document.root())
        }
    })
}
