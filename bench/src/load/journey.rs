//! Operations of several requests, each of which follows from the answer before: paging by `next`, and the life of a resource.
//!
//! Spec: <https://hl7.org/fhir/R4/http.html#paging>. Each request is timed and counted as an operation of its own.

use std::collections::HashSet;

use serde_json::Value;
use serde_json::json;

use crate::http::Connection;
use crate::http::Request;
use crate::load::closed_loop;
use crate::load::closed_loop::Tally;
use crate::load::expect::Expect;
use crate::load::expect::Page;

/// How far to follow `next`, and what must have been seen by then.
#[derive(Debug, Clone)]
pub struct Walk {
    /// What every page after the first must be.
    pub page: Page,
    /// Pages in all, the first one counted, if there are so many.
    pub pages: usize,
    /// Different resources seen at the end.
    pub seen: usize,
}

/// Follows `next` from a first page that was right; no resource may come twice, none may be missing at the end.
pub fn walk(connection: &mut Connection, path: &str, walk: &Walk, first: Result<(Vec<String>, Option<String>), String>, tally: &mut Tally) {
    let mut seen = HashSet::new();
    let mut page = first;
    for number in 1..=walk.pages {
        let (ids, next) = match page {
            Ok(contents) => contents,
            Err(reason) => return tally.wrong(path, reason),
        };
        let count = ids.len();
        let new = ids.into_iter().filter(|id| seen.insert(id.clone())).count();
        if new < count {
            return tally.wrong(path, format!("{} of page {number} came before", count - new));
        }
        let Some(link) = next.filter(|_| number < walk.pages) else { break };
        let request = match connection.base().relative(&link) {
            Ok(path) => Request::get(path),
            Err(reason) => return tally.wrong(path, reason),
        };
        let Some(response) = closed_loop::send(connection, &request, &Expect::Page(walk.page.clone()), tally) else {
            return;
        };
        page = crate::load::expect::page_contents(&response);
    }
    if seen.len() != walk.seen {
        tally.wrong(path, format!("{} resources on all pages instead of {}", seen.len(), walk.seen));
    }
}

/// Reads a resource just created, updates it, deletes it, and reads it once more.
pub fn live(connection: &mut Connection, kind: &str, id: &str, resource: &Value, tally: &mut Tally) {
    let path = format!("{kind}/{id}");
    let mut changed = resource.clone();
    changed["id"] = json!(id);
    changed["language"] = json!("it");
    let there = Expect::Resource {
        kind: kind.to_owned(),
        id: id.to_owned(),
    };
    let steps = [
        (Request::get(path.clone()), there),
        (
            Request::send("PUT", path.clone(), changed.to_string().into_bytes()),
            Expect::Updated,
        ),
        (Request::send("DELETE", path.clone(), Vec::new()), Expect::Deleted),
        (Request::get(path), Expect::Gone),
    ];
    for (request, expect) in steps {
        if closed_loop::send(connection, &request, &expect, tally).is_none() {
            return;
        }
    }
}
