//! FHIR patch, by JSON Patch and by FHIRPath Patch, and its conditional form.
//!
//! The patch is applied in the write path, on the row that is locked: what others have written meanwhile is patched, never lost.
//! Spec: <https://hl7.org/fhir/R4/http.html#patch>, <https://hl7.org/fhir/R4/fhirpatch.html>. Not supported: XML Patch.

use crate::fhir::identity::check_id;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::own_reference;
use crate::fhir::identity::self_hash;
use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::fhir::patch::Form;
use crate::fhir::patch::Patch;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::criteria::criteria;
use crate::interaction::ingestion::metadata;
use crate::interaction::parse_json;
use crate::interaction::write;
use crate::interaction::write::is_type;
use crate::outcome::Category;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::store::unit::Criteria;
use crate::store::unit::Edit;
use crate::store::unit::NewId;
use crate::store::unit::Op;
use crate::store::unit::Precondition;
use crate::store::unit::Target;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::sync::Mutex;

/// `PATCH [type]/[id]`. Errors: 404, 410; 412 for If-Match; 400 for what is no patch; 413 and 422 for one that cannot be applied.
pub async fn patch(
    service: &Service,
    type_name: &str,
    id: &str,
    form: Form,
    text: &str,
    precondition: Precondition,
) -> Result<Reply, Outcome> {
    check_id(id)?;
    apply(service, type_name, Target::Id(id.to_owned()), form, text, precondition).await
}

/// `PATCH [type]?[criteria]`: the one match. Errors: as [`patch`]; 412 for several.
pub async fn conditional_patch(
    service: &Service,
    type_name: &str,
    query: &str,
    form: Form,
    text: &str,
    precondition: Precondition,
) -> Result<Reply, Outcome> {
    let criteria = criteria(service, type_name, query, None)?;
    // Nothing is made without a match.
    let target = Target::Matching(criteria, NewId::Free(String::new()));
    apply(service, type_name, target, form, text, precondition).await
}

async fn apply(
    service: &Service,
    type_name: &str,
    target: Target,
    form: Form,
    text: &str,
    precondition: Precondition,
) -> Result<Reply, Outcome> {
    let type_number = service.type_number(type_name)?;
    let (edit, remarks) = edit(service, type_name, form, text)?;
    let op = Op::Patch {
        type_number,
        target,
        edit,
        precondition,
    };
    let mut reply = write::apply(service, op, Vec::new()).await?;
    reply.remarks = std::mem::take(&mut *remarks.lock().expect("not poisoned"));
    Ok(reply)
}

/// What the validator remarks on the patched resource, when it has been made.
type Remarks = Arc<Mutex<Vec<Issue>>>;

/// The patch as the write path takes it. Errors: 400 and 413 for what is no patch.
pub fn edit(service: &Service, type_name: &str, form: Form, text: &str) -> Result<(Edit, Remarks), Outcome> {
    let patch = Patch::read(form, text, service.patch_limits)?;
    let (mut identifier_locks, mut targets) = (Vec::new(), Vec::new());
    each_string(parse_json(text.as_bytes())?.root(), &mut |text| {
        // Every string of a patch could become the value of an identifier, or a reference.
        identifier_locks.push(Criteria::lock_of_identifier(type_name, text));
        targets.extend(local_reference(own_reference(text, &service.limits.base_url)).map(|local| self_hash(local.type_name, local.id)));
    });
    let remarks = Remarks::default();
    let (service, type_name, told) = (service.clone(), type_name.to_owned(), remarks.clone());
    let make = move |current: &str| {
        let text = patch.apply(service.store.registry().definitions, &type_name, current)?;
        let remarks = check(&service, &type_name, current, &text)?;
        *told.lock().expect("not poisoned") = remarks;
        Ok(text)
    };
    let edit = Edit {
        make: Arc::new(make),
        identifier_locks,
        targets,
    };
    Ok((edit, remarks))
}

/// Errors: 422 for a patched resource that may not be stored, or that is another.
fn check(service: &Service, type_name: &str, current: &str, text: &str) -> Result<Vec<Issue>, Outcome> {
    let (before, after) = (
        parse_json(current.as_bytes())?,
        parse_json(text.as_bytes()).map_err(as_unprocessable)?,
    );
    for (name, what) in [("resourceType", "type"), ("id", "id")] {
        if before.root().get_str(name) != after.root().get_str(name) {
            let text = format!("A patch cannot change the {what} of a resource");
            return Err(Outcome::new(Category::Unprocessable, "business-rule", text).at(&format!("{type_name}.{name}")));
        }
    }
    let remarks = write::check(service, type_name, after.root())?;
    metadata::check_alone(metadata::of_document(std::iter::once(after.root()))?)?;
    Ok(remarks)
}

fn as_unprocessable(outcome: Outcome) -> Outcome {
    Outcome {
        category: Category::Unprocessable,
        ..outcome
    }
}

fn each_string(value: Value<'_>, found: &mut impl FnMut(&str)) {
    match value.kind() {
        Kind::String => value.as_str().iter().for_each(|text| found(text)),
        Kind::Object => value.members().for_each(|(_, member)| each_string(member, found)),
        Kind::Array => value.items().for_each(|item| each_string(item, found)),
        _ => {}
    }
}

/// The patch that an entry of a Bundle carries: a Binary with a JSON Patch, or Parameters. Errors: 400.
pub fn of_entry(resource: Value<'_>) -> Result<(Form, String), Outcome> {
    if is_type(resource, "Parameters") {
        return Ok((Form::FhirPath, resource.raw().to_owned()));
    }
    let structure = |text: &str| Outcome::invalid(text).with_code("structure");
    if !is_type(resource, "Binary") {
        return Err(structure(
            "A PATCH entry carries a Binary with contentType application/json-patch+json, or Parameters with a FHIRPath Patch",
        ));
    }
    let kind = resource.get_str("contentType").unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| kind.trim() != JSON_PATCH) {
        return Err(structure("The contentType of a patch in a Binary is application/json-patch+json").at("contentType"));
    }
    let data: String = resource.get_str("data").unwrap_or_default().split_ascii_whitespace().collect();
    let bytes = STANDARD
        .decode(data)
        .map_err(|_| structure("The data of the Binary is not base64").at("data"))?;
    let text = String::from_utf8(bytes).map_err(|_| structure("The patch is not UTF-8").at("data"))?;
    Ok((Form::Json, text))
}

/// The media type of JSON Patch.
pub const JSON_PATCH: &str = "application/json-patch+json";
