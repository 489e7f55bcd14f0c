//! The searchset. Spec: <https://hl7.org/fhir/R4/bundle.html#searchset>.

use crate::fhir::json::quote_into;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::search::include::ITERATIONS_MAX;
use crate::interaction::search::page::Page;
use crate::interaction::search::subset;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::outcome::operation_outcome;
use crate::search::cursor::Cursor;
use crate::search::parse::Query;
use crate::store::read::Found;
use std::fmt::Write;

#[expect(clippy::too_many_arguments, reason = "the parts of a searchset, each used once")]
pub fn bundle(
    service: &Service,
    base: &str,
    path: &str,
    query: &Query,
    total: Option<i64>,
    page: Page,
    included: Vec<Found>,
    is_cut: bool,
) -> Result<Reply, Outcome> {
    let mut out = String::with_capacity(1024 + (page.found.len() + included.len()) * 1024);
    let _ = write!(
        out,
        "{{\"resourceType\":\"Bundle\",\"id\":\"{}\",\"type\":\"searchset\"",
        service.store.clock.new_id()
    );
    if let Some(total) = total {
        let _ = write!(out, ",\"total\":{total}");
    }
    out.push_str(",\"link\":[");
    let seal = |cursor: &Cursor| service.cursor_key.seal(cursor);
    push_link(&mut out, base, path, query, "self", query.cursor.clone());
    if query.cursor.is_some() || page.next.is_some() {
        out.push(',');
        push_link(&mut out, base, path, query, "first", None);
    }
    if let Some(cursor) = &page.previous {
        out.push(',');
        push_link(&mut out, base, path, query, "previous", cursor.as_ref().map(seal));
    }
    if let Some(cursor) = &page.next {
        out.push(',');
        push_link(&mut out, base, path, query, "next", Some(seal(cursor)));
    }
    out.push(']');
    let mut separator = ",\"entry\":[";
    for (found, mode) in page
        .found
        .iter()
        .map(|f| (f, "match"))
        .chain(included.iter().map(|f| (f, "include")))
    {
        out.push_str(separator);
        separator = ",";
        let type_name = service.store.registry().name_of(found.row.type_number);
        let id = &found.row.id;
        let _ = match &found.container {
            Some(container) => {
                let of = service.store.registry().name_of(container.type_number);
                write!(out, "{{\"fullUrl\":\"{base}/{of}/{}#{id}\",\"resource\":", container.id)
            }
            None => write!(out, "{{\"fullUrl\":\"{base}/{type_name}/{id}\",\"resource\":"),
        };
        let json = found.to_json(&service.store.registry(), &service.store.bodies)?;
        match subset::is_whole(query) {
            true => out.push_str(&json),
            false => subset::push(service, query, type_name, &json, &mut out)?,
        }
        let _ = write!(out, ",\"search\":{{\"mode\":\"{mode}\"");
        if let Some(score) = page.scores.get(&found.row.rid).filter(|_| mode == "match") {
            let _ = write!(out, ",\"score\":{score:.6}");
        }
        out.push_str("}}");
    }
    let remarks = remarks(service, query, is_cut);
    if !remarks.is_empty() {
        let _ = write!(
            out,
            "{separator}{{\"resource\":{},\"search\":{{\"mode\":\"outcome\"}}}}",
            operation_outcome(&remarks)
        );
        separator = ",";
    }
    out.push_str(if separator == "," { "]}" } else { "}" });
    Ok(Reply::with_body(out))
}

pub fn remarks(service: &Service, query: &Query, is_cut: bool) -> Vec<Issue> {
    let remark = |code, text| Issue {
        severity: Severity::Warning,
        code,
        expression: String::new(),
        text,
    };
    let mut remarks: Vec<Issue> = query
        .ignored
        .iter()
        .map(|text| remark("not-supported", format!("Left out: {text}")))
        .collect();
    if is_cut {
        remarks.push(remark(
            "too-costly",
            format!(
                "The page may lack some of what it should include: it includes at most {} resources (search.includes_max), over at most {ITERATIONS_MAX} links (ITERATIONS_MAX)",
                service.limits.includes_max
            ),
        ));
    }
    remarks
}

pub fn push_link(out: &mut String, base: &str, path: &str, query: &Query, relation: &str, cursor: Option<String>) {
    let mut parameters = form_urlencoded::Serializer::new(String::new());
    parameters.extend_pairs(query.used.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    if let Some(cursor) = cursor {
        parameters.append_pair("_cursor", &cursor);
    }
    let parameters = parameters.finish();
    let question = if parameters.is_empty() { "" } else { "?" };
    let _ = write!(out, "{{\"relation\":\"{relation}\",\"url\":");
    quote_into(&format!("{base}/{path}{question}{parameters}"), out);
    out.push('}');
}
