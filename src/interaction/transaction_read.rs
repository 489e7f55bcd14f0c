//! A Bundle of type batch or transaction, read and checked: its entries as requests, and what its links name.
//! Spec: <https://hl7.org/fhir/R4/bundle.html>, <https://hl7.org/fhir/R4/bundle.html#references>.

use crate::fhir::identity::local_reference;
use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::interaction::operation::is_operation;
use crate::interaction::write::is_type;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::store::unit::Precondition;
use chrono::DateTime;
use chrono::Utc;
use std::collections::HashSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleType {
    Batch,
    Transaction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// One entry.
#[derive(Debug)]
pub struct Entry<'d> {
    pub full_url: Option<String>,
    pub method: Method,
    /// `Type`, `Type/id`, or a path for GET.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    pub type_name: String,
    pub id: Option<String>,
    pub resource: Option<Value<'d>>,
    pub if_none_exist: Option<String>,
    pub precondition: Precondition,
    pub known: AlreadyKnown,
}

/// What the reader of a GET has already: <https://hl7.org/fhir/R4/http.html#cread>.
#[derive(Debug, Default)]
pub struct AlreadyKnown {
    pub tags: Option<String>,
    pub since: Option<DateTime<Utc>>,
}

/// Errors: 400 if the value is not a Bundle of type batch or transaction.
pub fn bundle_type(bundle: Value<'_>) -> Result<BundleType, Outcome> {
    if !is_type(bundle, "Bundle") {
        let text = "The body must be a Bundle of type transaction or batch; a single resource is sent to /[type]";
        return Err(Outcome::invalid(text).with_code("structure").at("resourceType"));
    }
    match bundle.get_str("type").as_deref() {
        Some("transaction") => Ok(BundleType::Transaction),
        Some("batch") => Ok(BundleType::Batch),
        _ => Err(Outcome::invalid("The type of the Bundle must be transaction or batch")
            .with_code("value")
            .at("Bundle.type")),
    }
}

/// Reads the entries. Each is read on its own; a transaction refuses the first error, a batch answers it in its place.
/// Errors: 400 for what is no list, 413 for too many.
pub fn entries<'d>(bundle: Value<'d>, base: &str, entries_max: usize) -> Result<Vec<Result<Entry<'d>, Outcome>>, Outcome> {
    let Some(list) = bundle.get("entry") else { return Ok(Vec::new()) };
    if list.kind() != Kind::Array {
        return Err(Outcome::invalid("entry is a list").with_code("structure").at("Bundle.entry"));
    }
    if list.items().count() > entries_max {
        let text = format!("A Bundle has at most {entries_max} entries (bundle.entries_max)");
        return Err(Outcome::new(Category::TooLarge, "too-costly", text).at("Bundle.entry"));
    }
    let entries = list.items().enumerate();
    Ok(entries
        .map(|(i, entry)| read_entry(entry, base).map_err(|e| e.at(&format!("Bundle.entry[{i}]"))))
        .collect())
}

fn read_entry<'d>(entry: Value<'d>, base: &str) -> Result<Entry<'d>, Outcome> {
    let request = entry.get("request").ok_or_else(|| {
        Outcome::invalid("An entry needs a request with method and url")
            .with_code("required")
            .at("request")
    })?;
    let text = |name: &str| request.get_str(name).map(|t| t.into_owned());
    let method = match text("method").as_deref() {
        Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some("PUT") => Method::Put,
        Some("DELETE") => Method::Delete,
        Some("PATCH") => Method::Patch,
        Some("HEAD") => {
            let text = "A HEAD entry would answer nothing: send GET, or leave it out";
            return Err(Outcome::not_supported(text).at("request.method"));
        }
        _ => {
            return Err(Outcome::invalid("The method is GET, POST, PUT, PATCH or DELETE")
                .with_code("value")
                .at("request.method"));
        }
    };
    let url = text("url").ok_or_else(|| Outcome::invalid("A request needs a url").with_code("required").at("request.url"))?;
    let relative = url.strip_prefix(base).unwrap_or(&url).trim_start_matches('/');
    let (path, query) = match relative.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (relative.to_owned(), None),
    };
    let (type_name, id) = match local_reference(&path) {
        Some(local) => (local.type_name.to_owned(), Some(local.id.to_owned())),
        None => (path.clone(), None),
    };
    let resource = entry.get("resource");
    let (precondition, known) = match method {
        Method::Get => (Precondition::None, already_known(request)?),
        _ => (
            precondition(text("ifMatch").as_deref(), text("ifNoneMatch").as_deref())?,
            AlreadyKnown::default(),
        ),
    };
    let entry = Entry {
        full_url: entry.get_str("fullUrl").map(|u| u.into_owned()),
        method,
        path,
        query,
        type_name,
        id,
        resource,
        if_none_exist: text("ifNoneExist"),
        precondition,
        known,
    };
    check(&entry)?;
    Ok(entry)
}

/// Errors: 400 for an ifModifiedSince that is no instant.
fn already_known(request: Value<'_>) -> Result<AlreadyKnown, Outcome> {
    let since = request.get_str("ifModifiedSince").map(|text| DateTime::parse_from_rfc3339(&text));
    let since = since.transpose().map_err(|_| {
        Outcome::invalid("ifModifiedSince is an instant: YYYY-MM-DDThh:mm:ss+zz:zz")
            .with_code("value")
            .at("request.ifModifiedSince")
    })?;
    Ok(AlreadyKnown {
        tags: request.get_str("ifNoneMatch").map(|tags| tags.into_owned()),
        since: since.map(|since| since.with_timezone(&Utc)),
    })
}

fn check(entry: &Entry<'_>) -> Result<(), Outcome> {
    if entry.method != Method::Get && is_operation(&entry.path) {
        let text = "In a Bundle an operation is asked by GET; one that changes something is asked by itself";
        return Err(Outcome::not_supported(text).at("request.url"));
    }
    let wrong_url = |text: &str| Err(Outcome::invalid(text).with_code("value").at("request.url"));
    match entry.method {
        Method::Get => return Ok(()),
        Method::Post if entry.id.is_some() || entry.query.is_some() => return wrong_url("The url of a POST is a resource type"),
        Method::Put | Method::Patch | Method::Delete if entry.id.is_none() && entry.query.is_none() => {
            return wrong_url("The url is [type]/[id] or [type]?[criteria]");
        }
        _ => {}
    }
    match (entry.method, entry.resource) {
        (Method::Post | Method::Put | Method::Patch, None) => {
            Err(Outcome::invalid("The entry needs a resource").with_code("required").at("resource"))
        }
        (Method::Post | Method::Put, Some(resource)) if !is_type(resource, &entry.type_name) => {
            wrong_url("The url names another type than the resource")
        }
        _ => Ok(()),
    }
}

/// If-Match and If-None-Match. Errors: 400 for other forms than `W/"1"` and `*`.
pub fn precondition(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Precondition, Outcome> {
    match (if_match, if_none_match) {
        (Some(tag), _) => {
            let version = tag.trim().trim_start_matches("W/").trim_matches('"').parse();
            let version = version.map_err(|_| Outcome::precondition("If-Match is written W/\"[version]\", and no such version exists"))?;
            Ok(Precondition::Version(version))
        }
        (None, Some("*")) => Ok(Precondition::Absent),
        (None, Some(_)) => Err(Outcome::invalid("If-None-Match is * for a write")),
        (None, None) => Ok(Precondition::None),
    }
}

/// Every fullUrl once. Errors: 400 naming the second.
pub fn check_full_urls(entries: &[Entry<'_>]) -> Result<(), Outcome> {
    let mut seen = HashSet::new();
    for (i, entry) in entries.iter().enumerate() {
        if let Some(full_url) = &entry.full_url
            && !seen.insert(full_url)
        {
            return Err(Outcome::invalid("Two entries have the same fullUrl")
                .with_code("duplicate")
                .at(&format!("Bundle.entry[{i}].fullUrl")));
        }
    }
    Ok(())
}

/// The spellings by which other entries may refer to this one: its fullUrl, and `Type/id` relative to the same base.
pub fn link_names(entry: &Entry<'_>) -> Vec<String> {
    let Some(full_url) = &entry.full_url else { return Vec::new() };
    let mut names = vec![full_url.clone()];
    if let Some((before, id)) = full_url.rsplit_once('/')
        && let Some((_, type_name)) = before.rsplit_once('/')
    {
        let relative = format!("{type_name}/{id}");
        if type_name == entry.type_name && local_reference(&relative).is_some() {
            names.push(relative);
        }
    }
    names
}
