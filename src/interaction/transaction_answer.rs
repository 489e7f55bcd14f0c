//! The Bundle that answers a batch or transaction: an entry for each of the request, in its order.
//! Spec: <https://hl7.org/fhir/R4/http.html#transaction-response>.

use crate::clock::instant;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use std::fmt::Write;

/// Which resources the answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    Minimal,
    Representation,
    /// None, but what there is to remark on each write.
    OperationOutcome,
}

/// What became of each entry, in the order of the request.
pub struct Answer {
    pub replies: Vec<Result<Reply, Outcome>>,
    pub is_known_document: bool,
}

pub fn answer_bundle(service: &Service, base: &str, bundle_type: &str, answer: &Answer, wanted: Return) -> Result<Reply, Outcome> {
    let mut out = String::with_capacity(answer.replies.len() * 200);
    let _ = write!(
        out,
        "{{\"resourceType\":\"Bundle\",\"id\":\"{}\",\"type\":\"{bundle_type}\"",
        service.store.clock.new_id()
    );
    for (i, reply) in answer.replies.iter().enumerate() {
        out.push_str(if i == 0 { ",\"entry\":[{" } else { ",{" });
        match reply {
            Ok(reply) => push_reply(base, reply, answer.is_known_document, wanted, &mut out),
            Err(outcome) => {
                let _ = write!(
                    out,
                    "\"response\":{{\"status\":\"{}\",\"outcome\":{}}}",
                    status_line(outcome.status()),
                    outcome.to_json()
                );
            }
        }
        out.push('}');
    }
    out.push_str(if answer.replies.is_empty() { "}" } else { "]}" });
    Ok(Reply::with_body(out))
}

fn push_reply(base: &str, reply: &Reply, is_known_document: bool, wanted: Return, out: &mut String) {
    if let Some(location) = &reply.location {
        let id = location.split_once("/_history/").map_or(location.as_str(), |(before, _)| before);
        let _ = write!(out, "\"fullUrl\":\"{base}/{id}\",");
    }
    let is_read = reply.location.is_none();
    if let Some(body) = reply.body.as_ref().filter(|_| wanted == Return::Representation || is_read) {
        let _ = write!(out, "\"resource\":{body},");
    }
    let _ = write!(out, "\"response\":{{\"status\":\"{}\"", status_line(reply.status));
    if let Some(location) = &reply.location {
        let _ = write!(out, ",\"location\":\"{base}/{location}\"");
    }
    if let Some(version) = reply.version {
        let _ = write!(out, ",\"etag\":\"W/\\\"{version}\\\"\"");
    }
    if let Some(updated) = reply.updated {
        let _ = write!(out, ",\"lastModified\":\"{}\"", instant(updated));
    }
    let tells_count = is_read && reply.body.is_none() && !reply.remarks.is_empty() && reply.status == 200;
    let is_asked = wanted == Return::OperationOutcome && !(is_read && reply.body.is_some());
    if !is_known_document && (tells_count || is_asked) {
        let _ = write!(out, ",\"outcome\":{}", told(&reply.remarks));
    }
    if is_known_document {
        let text = "The document is here already, with this content: nothing was changed".to_owned();
        let issue = Issue {
            severity: Severity::Information,
            code: "duplicate",
            expression: String::new(),
            text,
        };
        let _ = write!(out, ",\"outcome\":{}", crate::outcome::operation_outcome(&[issue]));
    }
    out.push('}');
}

/// The remarks on a write, as an OperationOutcome.
pub fn told(remarks: &[Issue]) -> String {
    if !remarks.is_empty() {
        return crate::outcome::operation_outcome(remarks);
    }
    crate::outcome::operation_outcome(&[Issue {
        severity: Severity::Information,
        code: "informational",
        expression: String::new(),
        text: "Done; nothing to remark".to_owned(),
    }])
}

fn status_line(status: u16) -> String {
    let reason = match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        422 => "Unprocessable Entity",
        503 => "Service Unavailable",
        _ => "",
    };
    let mut line = status.to_string();
    if !reason.is_empty() {
        line.push(' ');
        line.push_str(reason);
    }
    line
}
