//! FHIR history of a resource, of a type, of the repository. Spec: <https://hl7.org/fhir/R4/http.html#history>.
//! Not supported: `_list`.

use crate::clock::instant;
use crate::fhir::datetime;
use crate::fhir::identity::check_id;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::bounded_pairs;
use crate::outcome::Outcome;
use crate::search::cursor::Cursor;
use crate::store::history;
use crate::store::history::Entry;
use crate::store::history::Range;
use crate::store::unit::Change;
use chrono::DateTime;
use std::collections::BTreeSet;
use std::fmt::Write;

/// What is asked for, and how the links of the answer say it again.
struct Page {
    range: Range,
    count: usize,
    /// Parameters but `_cursor`, percent-encoded.
    query: String,
    /// Of path and parameters: a cursor is of one history.
    hash: i64,
}

/// `GET [type]/[id]/_history`. Errors: 404; 400 for parameters.
pub async fn instance(service: &Service, base: &str, type_name: &str, id: &str, query: &str) -> Result<Reply, Outcome> {
    service.type_number(type_name)?;
    check_id(id)?;
    let path = format!("{type_name}/{id}/_history");
    let page = parameters(service, &path, query)?;
    let current = service.reader.row_with_history(type_name, id).await?;
    let entries = history::instance(&service.store, &current, &page.range).await?;
    bundle(service, base, &path, &page, entries)
}

/// `GET [type]/_history`, or `GET _history` without a type.
pub async fn changes(service: &Service, base: &str, type_name: Option<&str>, query: &str) -> Result<Reply, Outcome> {
    let type_number = type_name.map(|name| service.type_number(name)).transpose()?;
    let path = type_name.map_or_else(|| "_history".to_owned(), |name| format!("{name}/_history"));
    let page = parameters(service, &path, query)?;
    let entries = history::changes(&service.store, type_number, &page.range).await?;
    bundle(service, base, &path, &page, entries)
}

fn parameters(service: &Service, path: &str, query: &str) -> Result<Page, Outcome> {
    let mut range = Range::newest(None, 0);
    let mut count = service.limits.page_entries_default;
    let (mut cursor, mut seen) = (None, BTreeSet::new());
    for (name, value) in bounded_pairs(service, query)? {
        if !seen.insert(name.clone()) {
            let text = format!("{} is given twice", crate::search::value::shown(&name));
            return Err(Outcome::invalid(text).with_code("value"));
        }
        match name.as_str() {
            "_count" => {
                count = value
                    .parse::<usize>()
                    .map_err(|_| Outcome::invalid("_count is a whole number from 0"))?
                    .min(service.limits.page_entries_max)
            }
            "_since" => {
                let since = datetime::range(&value).and_then(|range| DateTime::from_timestamp_micros(range.low));
                range.since = Some(since.ok_or_else(|| Outcome::invalid("_since is an instant: YYYY-MM-DDThh:mm:ss+zz:zz"))?);
            }
            "_at" => {
                let at = datetime::range(&value)
                    .and_then(|range| DateTime::from_timestamp_micros(range.low).zip(DateTime::from_timestamp_micros(range.high)));
                range.at = Some(at.ok_or_else(|| {
                    Outcome::invalid("_at is a date or time, of any precision: YYYY, YYYY-MM-DD, YYYY-MM-DDThh:mm:ss+zz:zz")
                })?);
            }
            "_sort" => {
                range.is_ascending = match value.as_str() {
                    "_lastUpdated" => true,
                    "-_lastUpdated" => false,
                    _ => {
                        return Err(Outcome::invalid(
                            "_sort of a history is _lastUpdated (oldest first) or -_lastUpdated (newest first)",
                        ));
                    }
                }
            }
            "_cursor" => cursor = Some(value),
            "_format" | "_pretty" => {}
            other => {
                return Err(Outcome::not_supported(format!(
                    "_history has no parameter {}: it has _count, _since, _at and _sort",
                    crate::search::value::shown(other)
                )));
            }
        }
    }
    let mut again = form_urlencoded::Serializer::new(String::new());
    again.append_pair("_count", &count.to_string());
    if let Some(since) = range.since {
        again.append_pair("_since", &instant(since));
    }
    for (name, value) in bounded_pairs(service, query)? {
        if name == "_at" || name == "_sort" {
            again.append_pair(&name, &value);
        }
    }
    let query = again.finish();
    // One that only differs in its size continues all the same.
    let of_range = query.split_once('&').map_or("", |(_, rest)| rest);
    let hash = crate::fhir::identity::hash(&["history", path, of_range]);
    if let Some(cursor) = cursor {
        range.place = Some(service.cursor_key.open(&cursor, hash)?.place.rid);
    }
    range.limit = count as i64 + 1;
    Ok(Page { range, count, query, hash })
}

fn bundle(service: &Service, base: &str, path: &str, page: &Page, mut entries: Vec<Entry>) -> Result<Reply, Outcome> {
    let next = (entries.len() > page.count && page.count > 0).then(|| entries[page.count - 1].place);
    entries.truncate(page.count);
    let mut out = String::from("{\"resourceType\":\"Bundle\",\"type\":\"history\",\"link\":[");
    let _ = write!(out, "{{\"relation\":\"self\",\"url\":\"{base}/{path}?{}\"}}", page.query);
    if let Some(place) = next {
        let cursor = Cursor::at(page.hash, place);
        let _ = write!(
            out,
            ",{{\"relation\":\"next\",\"url\":\"{base}/{path}?{}&_cursor={}\"}}",
            page.query,
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
