//! FHIR create and update, and their conditional forms.
//! Spec: <https://hl7.org/fhir/R4/http.html#create>, <https://hl7.org/fhir/R4/http.html#update>.

use crate::fhir::identity::check_id;
use crate::fhir::json::Value;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::criteria::criteria;
use crate::interaction::ingestion::metadata;
use crate::interaction::parse_json;
use crate::outcome::Category;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::search::index::contained::CONTAINED_MAX;
use crate::store::unit::Applied;
use crate::store::unit::Content;
use crate::store::unit::Effect;
use crate::store::unit::NewId;
use crate::store::unit::Op;
use crate::store::unit::Precondition;
use crate::store::unit::Prepared;
use crate::store::unit::Target;

/// `POST [type]`, with If-None-Exist as `unless`.
pub async fn create(service: &Service, type_name: &str, body: &[u8], unless: Option<&str>) -> Result<Reply, Outcome> {
    let type_number = service.type_number(type_name)?;
    let document = parse_json(body)?;
    let remarks = check(service, type_name, document.root())?;
    metadata::check_alone(metadata::of_document(std::iter::once(document.root()))?)?;
    let unless = unless
        .map(|query| criteria(service, type_name, query, Some(document.root())))
        .transpose()?;
    let content = ready(service, type_number, document.root());
    let op = Op::Create {
        type_number,
        id: service.store.clock.new_id(),
        content,
        unless,
    };
    apply(service, op, remarks).await
}

/// `PUT [type]/[id]`.
pub async fn update(service: &Service, type_name: &str, id: &str, body: &[u8], precondition: Precondition) -> Result<Reply, Outcome> {
    let type_number = service.type_number(type_name)?;
    check_id(id)?;
    let document = parse_json(body)?;
    match document.root().get_str("id") {
        Some(of_body) if of_body == id => {}
        Some(_) => return Err(Outcome::invalid("The id of the body is not the id of the URL").at(&format!("{type_name}.id"))),
        None => {
            return Err(Outcome::invalid("An update needs the id in the body too, the same as in the URL").at(&format!("{type_name}.id")));
        }
    }
    let remarks = check(service, type_name, document.root())?;
    metadata::check_alone(metadata::of_document(std::iter::once(document.root()))?)?;
    let content = ready(service, type_number, document.root());
    apply(
        service,
        Op::Update {
            type_number,
            target: Target::Id(id.to_owned()),
            content,
            precondition,
        },
        remarks,
    )
    .await
}

/// `PUT [type]?[criteria]`. Without a match the resource is created, under the body's id if it has one. Errors: 400 when the match has another
/// id than the body, 412 for several matches, 409 for no match and an id that is taken.
pub async fn conditional_update(
    service: &Service,
    type_name: &str,
    query: &str,
    body: &[u8],
    precondition: Precondition,
) -> Result<Reply, Outcome> {
    let type_number = service.type_number(type_name)?;
    let document = parse_json(body)?;
    let remarks = check(service, type_name, document.root())?;
    metadata::check_alone(metadata::of_document(std::iter::once(document.root()))?)?;
    let criteria = criteria(service, type_name, query, Some(document.root()))?;
    let id = match document.root().get_str("id") {
        Some(id) => {
            check_id(&id)?;
            NewId::Named(id.into_owned())
        }
        None => NewId::Free(service.store.clock.new_id()),
    };
    let content = ready(service, type_number, document.root());
    apply(
        service,
        Op::Update {
            type_number,
            target: Target::Matching(criteria, id),
            content,
            precondition,
        },
        remarks,
    )
    .await
}

/// `POST [type]/$validate`: the issues, without storing anything. `profile` asks for one profile more.
pub fn validate(service: &Service, type_name: &str, body: &[u8], profile: Option<&str>) -> Result<Reply, Outcome> {
    service.type_number(type_name)?;
    let document = parse_json(body)?;
    let root = document.root();
    let resource = if is_type(root, "Parameters") {
        parameter_resource(root).unwrap_or(root)
    } else {
        root
    };
    check_type(type_name, resource)?;
    let mut issues = service.validator.validate(resource);
    if let Some(profile) = profile {
        let of_profile = service.validator.validate_against(resource, profile);
        issues.extend(of_profile.map_err(|_| Outcome::not_supported("The profile is not known to this server"))?);
    }
    if issues.is_empty() {
        let text = "No issues: the resource is valid FHIR R4 and follows the profiles it was checked against".to_owned();
        issues.push(Issue {
            severity: Severity::Information,
            code: "informational",
            expression: String::new(),
            text,
        });
    }
    Ok(Reply::with_body(crate::outcome::operation_outcome(&issues)))
}

fn parameter_resource(parameters: Value<'_>) -> Option<Value<'_>> {
    let parameter = parameters.get("parameter")?;
    let named = parameter.items().find(|p| p.get_str("name").is_some_and(|n| n == "resource"))?;
    named.get("resource")
}

/// The issues of a resource that may be stored: warnings and remarks. Errors: 400 for another type, 422 with every error found.
pub fn check(service: &Service, type_name: &str, resource: Value<'_>) -> Result<Vec<Issue>, Outcome> {
    check_type(type_name, resource)?;
    check_whole(resource)?;
    check_contained(resource)?;
    let issues = service.validator.validate(resource);
    if issues.iter().any(|issue| issue.severity == Severity::Error) {
        return Err(Outcome::unprocessable(issues));
    }
    Ok(issues)
}

/// Errors: 422 for a part of a resource, as `_summary` and `_elements` give it: it must not overwrite the whole.
pub fn check_whole(resource: Value<'_>) -> Result<(), Outcome> {
    let tags = resource.get("meta").and_then(|meta| meta.get("tag"));
    let is_part = |tag: Value<'_>| {
        tag.get_str("code").is_some_and(|c| c == "SUBSETTED")
            && tag
                .get_str("system")
                .is_some_and(|s| s == "http://terminology.hl7.org/CodeSystem/v3-ObservationValue")
    };
    if tags.is_some_and(|tags| tags.items().any(is_part)) {
        let text = "The resource is marked SUBSETTED: it is a part of one, and would overwrite the whole";
        return Err(Outcome::new(Category::Unprocessable, "business-rule", text).at("meta.tag"));
    }
    Ok(())
}

/// Errors: 422 for more contained resources than are indexed.
pub fn check_contained(resource: Value<'_>) -> Result<(), Outcome> {
    let count = resource
        .get("contained")
        .map_or(0, |list| list.items().take(CONTAINED_MAX + 1).count());
    if count > CONTAINED_MAX {
        let text = format!("A resource contains at most {CONTAINED_MAX} others: store them on their own, and refer to them");
        return Err(Outcome::new(Category::Unprocessable, "too-costly", text).at("contained"));
    }
    Ok(())
}

fn check_type(type_name: &str, resource: Value<'_>) -> Result<(), Outcome> {
    if is_type(resource, type_name) {
        return Ok(());
    }
    let text = format!("The body must be one JSON object with \"resourceType\":\"{type_name}\"");
    Err(Outcome::invalid(text).with_code("structure").at("resourceType"))
}

pub fn is_type(resource: Value<'_>, type_name: &str) -> bool {
    resource.get_str("resourceType").is_some_and(|t| t == type_name)
}

pub fn ready(service: &Service, type_number: i16, resource: Value<'_>) -> Content {
    Content::Ready(Box::new(Prepared::new(
        &service.store.registry(),
        &service.store.bodies,
        type_number,
        resource,
    )))
}

pub async fn apply(service: &Service, op: Op, remarks: Vec<Issue>) -> Result<Reply, Outcome> {
    let mut reply = service.writer.apply(service.unit(op)).await?;
    let applied = reply.applied.pop().ok_or_else(|| Outcome::internal("a unit without a result"))?;
    let body = service.applied_json(&applied)?;
    Ok(Reply {
        body,
        remarks,
        ..reply_of(service, &applied)
    })
}

/// Status and headers of what became of an operation.
pub fn reply_of(service: &Service, applied: &Applied) -> Reply {
    let status = match applied.effect {
        Effect::Created => 201,
        Effect::Updated | Effect::Unchanged | Effect::Matched => 200,
        Effect::Deleted | Effect::Absent => 204,
    };
    let has_version = applied.effect != Effect::Absent;
    let type_name = service.store.registry().name_of(applied.type_number);
    let has_body = !matches!(applied.effect, Effect::Deleted | Effect::Absent);
    Reply {
        status,
        body: None,
        version: has_version.then_some(applied.version),
        updated: has_version.then_some(applied.updated),
        location: has_body.then(|| format!("{type_name}/{}/_history/{}", applied.id, applied.version)),
        remarks: Vec::new(),
    }
}
