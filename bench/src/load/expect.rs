//! What an answer must be, and whether it is: status, count, type, content and order of what came back.

use serde::Deserialize;

use crate::calendar;
use crate::calendar::DAY_SECONDS;
use crate::http::Response;

/// How many resources a search must find, as far as the specification leaves no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matches {
    pub low: usize,
    pub high: usize,
}

impl Matches {
    /// This many.
    pub fn exactly(count: usize) -> Matches {
        Matches { low: count, high: count }
    }

    fn holds(self, count: usize) -> bool {
        (self.low..=self.high).contains(&count)
    }
}

/// The first page of a search.
#[derive(Debug, Clone)]
pub struct Page {
    pub kind: &'static str,
    /// In all; the page holds no more than `page_entries_max` of them.
    pub matches: Matches,
    pub page_entries_max: usize,
    /// Resources that come along by `_include` or `_revinclude`.
    pub included: Option<usize>,
    /// `system|code` that every match has.
    pub code: Option<String>,
    /// Reference that every match has as its subject.
    pub subject: Option<String>,
    /// Instant of the first match, which the others follow from newer to older.
    pub newest: Option<i64>,
    /// Instant before which no match is.
    pub not_before: Option<i64>,
    /// Value that every match's quantity reaches.
    pub value_min: Option<f64>,
}

impl Page {
    /// A page that holds all matches.
    pub fn of(kind: &'static str, matches: Matches) -> Page {
        Page {
            kind,
            matches,
            page_entries_max: usize::MAX,
            included: None,
            code: None,
            subject: None,
            newest: None,
            not_before: None,
            value_min: None,
        }
    }

    /// The same with `_count`.
    pub fn limited_to(self, page_entries_max: usize) -> Page {
        Page { page_entries_max, ..self }
    }
}

/// What an answer must be.
#[derive(Debug, Clone)]
pub enum Expect {
    Created {
        kind: String,
    },
    /// By a conditional create: nothing stored; what the answer names, if anything, is the one that was there.
    Found {
        kind: String,
        id: String,
    },
    Updated,
    Deleted,
    /// What reading a deleted resource gives.
    Gone,
    Resource {
        kind: String,
        id: String,
    },
    Page(Page),
    Total(usize),
    History(usize),
    /// An OperationOutcome with an error, or without.
    Judged {
        valid: bool,
    },
}

impl Expect {
    fn statuses(&self) -> &'static [u16] {
        match self {
            Expect::Created { .. } => &[201],
            Expect::Deleted => &[200, 204],
            Expect::Gone => &[404, 410],
            Expect::Judged { valid: false } => &[200, 400, 422],
            _ => &[200],
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    resource_type: String,
    #[serde(rename = "type")]
    kind: String,
    total: Option<usize>,
    #[serde(default)]
    link: Vec<Link>,
    #[serde(default)]
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Link {
    relation: String,
    url: String,
}

#[derive(Deserialize)]
struct Entry {
    resource: Option<Resource>,
    search: Option<SearchInfo>,
    response: Option<EntryResponse>,
}

#[derive(Deserialize)]
struct SearchInfo {
    mode: String,
}

#[derive(Deserialize)]
struct EntryResponse {
    status: String,
    location: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource_type: String,
    #[serde(default)]
    id: String,
    code: Option<Concept>,
    subject: Option<Reference>,
    effective_date_time: Option<String>,
    value_quantity: Option<Quantity>,
}

#[derive(Deserialize)]
struct Quantity {
    value: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperationOutcome {
    resource_type: String,
    issue: Vec<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    severity: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    resource_type: String,
    id: String,
}

#[derive(Deserialize)]
struct Concept {
    #[serde(default)]
    coding: Vec<Coding>,
}

#[derive(Deserialize)]
struct Coding {
    system: Option<String>,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    reference: Option<String>,
}

/// Judges an answer and returns how many resources it held.
///
/// Errors: a sentence on the first thing that is wrong.
pub fn check(expect: &Expect, response: &Response<'_>) -> Result<usize, String> {
    let statuses = expect.statuses();
    if !statuses.contains(&response.status) {
        let beginning = &response.body[..response.body.len().min(300)];
        return Err(format!(
            "status {} instead of {statuses:?}: {}",
            response.status,
            String::from_utf8_lossy(beginning)
        ));
    }
    match expect {
        Expect::Created { kind } => created_id(response, kind).map(|_| 1),
        Expect::Found { kind, id } => check_found(kind, id, response),
        Expect::Deleted | Expect::Gone => Ok(0),
        Expect::Judged { valid } => check_judged(*valid, &parse(response.body)?),
        Expect::Updated => match response.etag.as_deref() {
            Some(etag) if etag.starts_with("W/\"") && etag != "W/\"1\"" => Ok(1),
            etag => Err(format!("ETag {etag:?} after an update")),
        },
        Expect::Resource { kind, id } => {
            let resource: Identity = parse(response.body)?;
            match resource.resource_type == *kind && resource.id == *id {
                true => Ok(1),
                false => Err(format!("{}/{} instead of {kind}/{id}", resource.resource_type, resource.id)),
            }
        }
        Expect::Page(page) => check_page(page, &parse(response.body)?),
        Expect::Total(total) => check_total(*total, &parse(response.body)?),
        Expect::History(versions) => check_history(*versions, &parse(response.body)?),
    }
}

fn check_total(total: usize, bundle: &Bundle) -> Result<usize, String> {
    match bundle.total == Some(total) && bundle.entry.is_empty() {
        true => Ok(0),
        false => Err(format!(
            "total {:?} with {} entries instead of {total}",
            bundle.total,
            bundle.entry.len()
        )),
    }
}

fn check_history(versions: usize, bundle: &Bundle) -> Result<usize, String> {
    match bundle.kind == "history" && bundle.entry.len() == versions {
        true => Ok(versions),
        false => Err(format!(
            "{} of {} entries instead of {versions} versions",
            bundle.kind,
            bundle.entry.len()
        )),
    }
}

/// A 200 to a conditional create may be empty; but if it names a resource, it is the one that was there.
fn check_found(kind: &str, id: &str, response: &Response<'_>) -> Result<usize, String> {
    let located = response.location.as_deref().map(|location| match split_location(location) {
        Some((kind, id)) => format!("{kind}/{id}"),
        None => location.to_owned(),
    });
    let body: Option<Identity> = serde_json::from_slice(response.body).ok();
    let told = located.or(body
        .filter(|body| body.resource_type == kind)
        .map(|body| format!("{}/{}", body.resource_type, body.id)));
    match told {
        Some(told) if told != format!("{kind}/{id}") => Err(format!("{told} instead of {kind}/{id}")),
        _ => Ok(1),
    }
}

fn check_judged(valid: bool, outcome: &OperationOutcome) -> Result<usize, String> {
    let refused = outcome
        .issue
        .iter()
        .any(|issue| matches!(issue.severity.as_str(), "error" | "fatal"));
    match outcome.resource_type == "OperationOutcome" && refused != valid {
        true => Ok(1),
        false => Err(format!(
            "{} with an error: {refused}, about a resource that is valid: {valid}",
            outcome.resource_type
        )),
    }
}

/// Ids of the matches on a page, and where the next page is.
///
/// Errors: a sentence, when the answer is no Bundle.
pub fn page_contents(response: &Response<'_>) -> Result<(Vec<String>, Option<String>), String> {
    let bundle: Bundle = parse(response.body)?;
    let next = bundle.link.into_iter().find(|link| link.relation == "next").map(|link| link.url);
    let matches = bundle.entry.into_iter().filter(|entry| is_mode(entry, "match"));
    Ok((matches.filter_map(|entry| Some(entry.resource?.id)).collect(), next))
}

fn is_mode(entry: &Entry, mode: &str) -> bool {
    entry.search.as_ref().is_some_and(|search| search.mode == mode)
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the answer does not parse: {error}"))
}

fn check_page(page: &Page, bundle: &Bundle) -> Result<usize, String> {
    if bundle.resource_type != "Bundle" || bundle.kind != "searchset" {
        return Err(format!("{} of type {} instead of a searchset", bundle.resource_type, bundle.kind));
    }
    if let Some(total) = bundle.total
        && !page.matches.holds(total)
    {
        return Err(format!("total {total} instead of {:?}", page.matches));
    }
    let matches: Vec<&Resource> = bundle
        .entry
        .iter()
        .filter(|entry| is_mode(entry, "match"))
        .filter_map(|entry| entry.resource.as_ref())
        .collect();
    let included = bundle.entry.iter().filter(|entry| is_mode(entry, "include")).count();
    let limit = page.page_entries_max;
    if !(page.matches.low.min(limit)..=page.matches.high.min(limit)).contains(&matches.len()) {
        return Err(format!(
            "{} matches on the page instead of {:?}, at most {limit}",
            matches.len(),
            page.matches
        ));
    }
    if included != page.included.unwrap_or(0) {
        return Err(format!("{included} resources included instead of {:?}", page.included));
    }
    matches.iter().try_for_each(|resource| check_match(page, resource))?;
    check_order(page, &matches)?;
    Ok(bundle.entry.len())
}

fn check_match(page: &Page, resource: &Resource) -> Result<(), String> {
    if resource.resource_type != page.kind {
        return Err(format!("a match of type {}", resource.resource_type));
    }
    if let Some(wanted) = &page.code {
        let codings = resource.code.iter().flat_map(|concept| &concept.coding);
        let mut names = codings.map(|coding| {
            format!(
                "{}|{}",
                coding.system.as_deref().unwrap_or_default(),
                coding.code.as_deref().unwrap_or_default()
            )
        });
        if !names.any(|name| name == *wanted) {
            return Err(format!("{} does not have code {wanted}", resource.id));
        }
    }
    if let Some(wanted) = &page.subject {
        let subject = resource
            .subject
            .as_ref()
            .and_then(|subject| subject.reference.as_deref())
            .unwrap_or_default();
        if !subject.ends_with(wanted.as_str()) {
            return Err(format!("{} is about {subject}, not {wanted}", resource.id));
        }
    }
    let at = || calendar::parse(resource.effective_date_time.as_deref()?);
    if page.not_before.is_some_and(|wanted| at().is_none_or(|at| at < wanted)) {
        return Err(format!("{} is too old, or has no date", resource.id));
    }
    let value = || resource.value_quantity.as_ref()?.value;
    if page.value_min.is_some_and(|wanted| value().is_none_or(|value| value < wanted)) {
        return Err(format!("{} has a value of {:?}", resource.id, value()));
    }
    Ok(())
}

/// The first match is the newest there is, and none is newer than the one before it.
fn check_order(page: &Page, matches: &[&Resource]) -> Result<(), String> {
    let Some(newest) = page.newest else { return Ok(()) };
    let instants: Vec<i64> = matches
        .iter()
        .filter_map(|resource| calendar::parse(resource.effective_date_time.as_deref()?))
        .collect();
    if instants.len() != matches.len() {
        return Err("a match has no date".to_owned());
    }
    if !instants.is_sorted_by(|one, next| one >= next) {
        return Err("the matches are not sorted by date, newest first".to_owned());
    }
    match instants.first() {
        Some(first) if (first - newest).abs() > DAY_SECONDS => Err("the first match is not the newest".to_owned()),
        _ => Ok(()),
    }
}

/// The id that the server gave to a created resource. Errors: a sentence, when `Location` does not say it.
pub fn created_id(response: &Response<'_>, kind: &str) -> Result<String, String> {
    let location = response.location.as_deref().unwrap_or_default();
    match split_location(location) {
        Some((found, id)) if found == kind => Ok(id.to_owned()),
        _ => Err(format!("Location {location:?} after creating a {kind}")),
    }
}

/// The ids that the server gave to the entries of a transaction, in their order.
///
/// Errors: a sentence, when the answer is not a full and successful transaction response.
pub fn transaction_ids(response: &Response<'_>, entries: usize) -> Result<Vec<String>, String> {
    if response.status != 200 {
        let beginning = &response.body[..response.body.len().min(500)];
        return Err(format!(
            "status {} instead of 200: {}",
            response.status,
            String::from_utf8_lossy(beginning)
        ));
    }
    let bundle: Bundle = parse(response.body)?;
    if bundle.kind != "transaction-response" || bundle.entry.len() != entries {
        return Err(format!("{} of {} entries instead of {entries}", bundle.kind, bundle.entry.len()));
    }
    let id = |entry: &Entry| {
        let answer = entry.response.as_ref().filter(|answer| answer.status.starts_with("20"))?;
        Some(split_location(answer.location.as_deref()?)?.1.to_owned())
    };
    bundle
        .entry
        .iter()
        .map(id)
        .collect::<Option<Vec<String>>>()
        .ok_or("an entry was not stored, or has no location".to_owned())
}

/// Type and id of `[base/]Type/id[/_history/version]`.
fn split_location(location: &str) -> Option<(&str, &str)> {
    let path = location.split_once("/_history/").map_or(location, |(path, _)| path);
    let (rest, id) = path.rsplit_once('/')?;
    Some((rest.rsplit('/').next()?, id))
}

#[cfg(test)]
mod tests {
    use crate::http::Response;
    use crate::load::expect::Expect;
    use crate::load::expect::Matches;
    use crate::load::expect::Page;
    use crate::load::expect::check;
    use crate::load::expect::split_location;

    #[test]
    fn a_location_is_read_relative_or_absolute() {
        assert_eq!(split_location("Patient/1/_history/2"), Some(("Patient", "1")));
        assert_eq!(split_location("http://h:1/fhir/Patient/1"), Some(("Patient", "1")));
        assert_eq!(split_location("1"), None);
    }

    fn page(observations: &[(&str, &str)]) -> String {
        let entries: Vec<String> = observations
            .iter()
            .map(|(code, date)| {
                format!(
                    r#"{{"resource":{{"resourceType":"Observation","id":"1","code":{{"coding":[{{"system":"s","code":"{code}"}}]}},
                       "subject":{{"reference":"Patient/7"}},"effectiveDateTime":"{date}"}},"search":{{"mode":"match"}}}}"#
                )
            })
            .collect();
        format!(
            r#"{{"resourceType":"Bundle","type":"searchset","total":{},"entry":[{}]}}"#,
            observations.len(),
            entries.join(",")
        )
    }

    #[test]
    fn a_page_is_refused_for_its_count_code_subject_or_order() {
        let mut wanted = Page::of("Observation", Matches::exactly(2)).limited_to(20);
        wanted.code = Some("s|a".to_owned());
        wanted.subject = Some("Patient/7".to_owned());
        wanted.newest = crate::calendar::parse("2024-02-02");
        let judge = |wanted: &Page, body: &str| {
            let response = Response {
                status: 200,
                etag: None,
                location: None,
                body: body.as_bytes(),
            };
            check(&Expect::Page(wanted.clone()), &response).map_err(|reason| reason.split(' ').take(2).collect::<Vec<_>>().join(" "))
        };
        let (newer, older) = ("2024-02-02", "2024-01-01");
        assert_eq!(judge(&wanted, &page(&[("a", newer), ("a", older)])), Ok(2));
        assert_eq!(judge(&wanted, &page(&[("a", older), ("a", newer)])), Err("the matches".to_owned()));
        assert_eq!(judge(&wanted, &page(&[("a", newer), ("b", older)])), Err("1 does".to_owned()));
        assert_eq!(judge(&wanted, &page(&[("a", newer)])), Err("total 1".to_owned()));
        assert_eq!(judge(&wanted, &page(&[("a", older), ("a", older)])), Err("the first".to_owned()));
        wanted.subject = Some("Patient/8".to_owned());
        assert_eq!(judge(&wanted, &page(&[("a", newer), ("a", older)])), Err("1 is".to_owned()));
    }
}
