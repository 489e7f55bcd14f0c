//! References: their form, and the type of what they name.
//! Spec: <https://hl7.org/fhir/R4/references.html>. Whether the target exists is the store's question, not asked here.

use crate::fhir::json::Value;
use crate::validate::base::Place;
use crate::validate::path::Issues;
use crate::validate::path::Path;
use crate::validate::path::quoted;
use crate::validate::primitive::is_id;
use crate::validate::program::Program;

/// What a reference text names.
enum Target<'r> {
    /// A resource of this type.
    Type(&'r str),
    /// A contained resource by id; empty for the container itself.
    Contained(&'r str),
    /// Nothing that says its type: `urn:uuid:`, an address of another system.
    Opaque,
    Malformed,
}

/// Invariant: the Reference's own elements have been checked already. No `allowed` means that any type is.
pub fn check(program: &Program, allowed: &[String], value: Value<'_>, place: Place<'_>, path: &Path<'_>, issues: &mut Issues) {
    let declared = value.get_str("type");
    if let Some(declared) = &declared {
        let is_wrong = program.resources.contains(declared) && !is_allowed(allowed, declared);
        if is_wrong {
            issues.error(&path.child("type"), "structure", wrong_type(declared, allowed));
        }
    }
    let Some(text) = value.get_str("reference") else { return };
    let path = path.child("reference");
    match target(program, &text) {
        Target::Type(found) if !is_allowed(allowed, found) => issues.error(&path, "structure", wrong_type(found, allowed)),
        Target::Type(found) if declared.is_some_and(|d| program.resources.contains(&d) && d != found) => {
            issues.error(
                &path,
                "structure",
                format!("the reference is to a {found}, but type says otherwise"),
            );
        }
        Target::Contained(id) => check_contained(allowed, id, place, &path, issues),
        Target::Malformed => {
            issues.error(
                &path,
                "value",
                "expected Type/id of an R4 type, an absolute URL, urn:uuid:, urn:oid: or #id of a contained resource",
            );
        }
        Target::Type(_) | Target::Opaque => {}
    }
}

fn is_allowed(allowed: &[String], found: &str) -> bool {
    allowed.is_empty() || allowed.iter().any(|a| a == found)
}

fn wrong_type(found: &str, allowed: &[String]) -> String {
    format!(
        "a reference to {} is not allowed here; expected {}",
        quoted(found),
        allowed.join(", ")
    )
}

fn target<'r>(program: &Program, text: &'r str) -> Target<'r> {
    if let Some(id) = text.strip_prefix('#') {
        return if id.is_empty() || is_id(id.as_bytes()) {
            Target::Contained(id)
        } else {
            Target::Malformed
        };
    }
    // A conditional reference in a transaction: Patient?identifier=...
    let (base, query) = text.split_once('?').map_or((text, None), |(base, query)| (base, Some(query)));
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let is_absolute =
        scheme.is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-')));
    if is_absolute {
        if query.is_some() || !(text.starts_with("http:") || text.starts_with("https:")) {
            return Target::Opaque;
        }
        return typed_end(program, base).map_or(Target::Opaque, Target::Type);
    }
    if let Some(query) = query {
        return if program.resources.contains(base) && !query.is_empty() {
            Target::Type(base)
        } else {
            Target::Malformed
        };
    }
    let steps = base.split('/').count();
    let is_short = steps == 2 || (steps == 4 && base.contains("/_history/"));
    typed_end(program, base)
        .filter(|_| is_short)
        .map_or(Target::Malformed, Target::Type)
}

/// The type in `.../Type/id` or `.../Type/id/_history/version`.
fn typed_end<'r>(program: &Program, text: &'r str) -> Option<&'r str> {
    let text = text.split_once('#').map_or(text, |(before, _)| before);
    let text = match text.rsplit_once("/_history/") {
        Some((before, version)) if is_id(version.as_bytes()) => before,
        Some(_) => return None,
        None => text,
    };
    let (before, id) = text.rsplit_once('/')?;
    let ty = before.rsplit_once('/').map_or(before, |(_, ty)| ty);
    (is_id(id.as_bytes()) && program.resources.contains(ty)).then_some(ty)
}

fn check_contained(allowed: &[String], id: &str, place: Place<'_>, path: &Path<'_>, issues: &mut Issues) {
    let resource = match id {
        "" => place.is_contained.then_some(place.container),
        id => {
            let found = place.contained.binary_search_by(|(known, _)| known.as_ref().cmp(id));
            let found = found.ok().map(|index| place.contained[index].1);
            // Inside a contained resource, the container may be named by its own id too.
            found.or_else(|| Some(place.container).filter(|c| place.is_contained && c.get_str("id").is_some_and(|own| own == id)))
        }
    };
    let Some(resource) = resource else {
        return issues.error(path, "not-found", "#id names no contained resource");
    };
    if let Some(found) = resource.get_str("resourceType").filter(|found| !is_allowed(allowed, found)) {
        issues.error(path, "structure", wrong_type(&found, allowed));
    }
}
