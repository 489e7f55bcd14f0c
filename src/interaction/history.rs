//! FHIR history of a resource, of a type, of the repository. Spec: <https://hl7.org/fhir/R4/http.html#history>.
//! Not supported: `_at`, `_list`, `_sort`.

use crate::clock::instant;
use crate::fhir::datetime;
use crate::fhir::identity::check_id;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::pairs;
use crate::outcome::Outcome;
use crate::search::cursor::Cursor;
use crate::store::history;
use crate::store::history::Entry;
use crate::store::unit::Change;
use chrono::DateTime;
use chrono::Utc;
use std::fmt::Write;

struct Page {
    since: Option<DateTime<Utc>>,
    before: i64,
    count: usize,
}

/// `GET [type]/[id]/_history`. Errors: 404; 400 for parameters.
pub async fn instance(service: &Service, base: &str, type_name: &str, id: &str, query: &str) -> Result<Reply, Outcome> {
    service.type_number(type_name)?;
    check_id(id)?;
    let path = format!("{type_name}/{id}/_history");
    let page = parameters(service, &path, query)?;
    let current = service.reader.row_with_history(type_name, id).await?;
    let entries = history::instance(&service.store, current, page.since, page.before, page.count as i64 + 1).await?;
    bundle(service, base, &path, &page, entries)
}

/// `GET [type]/_history`, or `GET _history` without a type.
pub async fn changes(service: &Service, base: &str, type_name: Option<&str>, query: &str) -> Result<Reply, Outcome> {
    let type_number = type_name.map(|name| service.type_number(name)).transpose()?;
    let path = type_name.map_or_else(|| "_history".to_owned(), |name| format!("{name}/_history"));
    let page = parameters(service, &path, query)?;
    let entries = history::changes(&service.store, type_number, page.since, page.before, page.count as i64 + 1).await?;
    bundle(service, base, &path, &page, entries)
}

fn parameters(service: &Service, path: &str, query: &str) -> Result<Page, Outcome> {
    let mut page = Page {
        since: None,
        before: i64::MAX,
        count: service.limits.page_entries_default,
    };
    for (name, value) in pairs(query) {
        match name.as_str() {
            "_count" => {
                page.count = value
                    .parse::<usize>()
                    .map_err(|_| Outcome::invalid("_count is a whole number from 0"))?
                    .min(service.limits.page_entries_max)
            }
            "_since" => {
                let range = datetime::range(&value).ok_or_else(|| Outcome::invalid("_since is an instant: YYYY-MM-DDThh:mm:ss+zz:zz"))?;
                page.since = DateTime::from_timestamp_micros(range.low);
            }
            "_cursor" => {
                page.before = service
                    .cursor_key
                    .open(&value, crate::fhir::identity::hash(&["history", path]))?
                    .place
                    .rid
            }
            "_format" | "_pretty" => {}
            other => {
                return Err(Outcome::not_supported(format!(
                    "_history has no parameter {}: it has _count and _since",
                    crate::search::value::shown(other)
                )));
            }
        }
    }
    Ok(page)
}

fn bundle(service: &Service, base: &str, path: &str, page: &Page, mut entries: Vec<Entry>) -> Result<Reply, Outcome> {
    let next = (entries.len() > page.count && page.count > 0).then(|| entries[page.count - 1].place);
    entries.truncate(page.count);
    let mut out = String::from("{\"resourceType\":\"Bundle\",\"type\":\"history\",\"link\":[");
    let since = page.since.map(|s| format!("&_since={}", instant(s))).unwrap_or_default();
    let _ = write!(
        out,
        "{{\"relation\":\"self\",\"url\":\"{base}/{path}?_count={}{since}\"}}",
        page.count
    );
    if let Some(place) = next {
        let cursor = Cursor::at(crate::fhir::identity::hash(&["history", path]), place);
        let _ = write!(
            out,
            ",{{\"relation\":\"next\",\"url\":\"{base}/{path}?_count={}{since}&_cursor={}\"}}",
            page.count,
            service.cursor_key.seal(&cursor)
        );
    }
    out.push(']');
    for (i, entry) in entries.iter().enumerate() {
        out.push_str(if i == 0 { ",\"entry\":[" } else { "," });
        push_entry(service, base, entry, &mut out)?;
    }
    out.push_str(if entries.is_empty() { "}" } else { "]}" });
    Ok(Reply::with_body(out))
}

fn push_entry(service: &Service, base: &str, entry: &Entry, out: &mut String) -> Result<(), Outcome> {
    let row = &entry.row;
    let type_name = service.store.registry().name_of(row.type_number);
    let (method, url, status) = match entry.change {
        Change::Create if row.version == 1 => ("POST", type_name.to_owned(), "201 Created"),
        Change::Delete => ("DELETE", format!("{type_name}/{}", row.id), "204 No Content"),
        Change::Create => ("PUT", format!("{type_name}/{}", row.id), "201 Created"),
        Change::Update | Change::Withdraw | Change::Restore => ("PUT", format!("{type_name}/{}", row.id), "200 OK"),
    };
    let _ = write!(out, "{{\"fullUrl\":\"{base}/{type_name}/{}\",", row.id);
    if entry.change != Change::Delete {
        out.push_str("\"resource\":");
        out.push_str(&row.to_json(&service.store.registry(), &service.store.bodies)?);
        out.push(',');
    }
    let _ = write!(out, "\"request\":{{\"method\":\"{method}\",\"url\":\"{url}\"}},");
    let _ = write!(
        out,
        "\"response\":{{\"status\":\"{status}\",\"etag\":\"W/\\\"{}\\\"\",\"lastModified\":\"{}\"}}}}",
        row.version,
        instant(row.updated)
    );
    Ok(())
}
