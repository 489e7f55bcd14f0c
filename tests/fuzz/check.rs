//! What must hold of each answer, and of the log afterwards. Each check gives texts that say what does not hold; none is good.

use crate::requests::Call;
use crate::support::http::Answer;
use crate::values::FAMILIES;
use eds::fhir::json::Document;
use eds::fhir::resource::kept_text;
use eds::fhir::xml::to_json;
use serde_json::Value;
use std::time::Duration;

/// Two seconds, as a release build has them, times what a debug build on a busy machine takes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// What is wrong with an answer by itself.
pub fn answer(call: &Call, answer: &Answer, took: Duration) -> Vec<String> {
    let mut wrong = Vec::new();
    // 503 has its place under overload, which this is not.
    if answer.status >= 500 || !(200..).contains(&answer.status) {
        wrong.push(format!("status {}", answer.status));
    }
    if took > ANSWER_TIME_MAX {
        wrong.push(format!("it took {took:?}"));
    }
    if call.kind == "changed cursor" && answer.status == 200 {
        wrong.push("a changed cursor is accepted".to_owned());
    }
    if call.method == "HEAD" || matches!(answer.status, 204 | 304) || (answer.status < 300 && answer.body.is_empty()) {
        return wrong;
    }
    wrong.extend(body(call, answer));
    wrong
}

fn body(call: &Call, answer: &Answer) -> Option<String> {
    let media_type = answer.header("content-type").unwrap_or_default();
    // XML is as right as JSON where it was asked for; what it says is the same.
    let is_xml = media_type.starts_with("application/fhir+xml");
    let json = if is_xml {
        to_json(&answer.body).map(String::into_bytes)
    } else {
        Ok(answer.body.clone())
    };
    let json = match json {
        Ok(json) => json,
        Err(error) => return Some(format!("{} with a body that is no XML: {error}", answer.status)),
    };
    let body: Value = match serde_json::from_slice(&json) {
        Ok(body) => body,
        Err(error) => return Some(format!("{} with a body that is no JSON ({media_type}): {error}", answer.status)),
    };
    let path = call.target.split('?').next().unwrap_or_default();
    let is_fhir = path == "/fhir" || path.starts_with("/fhir/");
    let is_v1 = path == "/v1" || path.starts_with("/v1/") || path == "/status";
    let kind = body["resourceType"].as_str().unwrap_or_default();
    match answer.status {
        400.. if is_v1 && media_type != "application/problem+json" => Some(format!("a failure as {media_type}")),
        400.. if is_v1 && body["status"] != answer.status => Some(format!("a problem with status {}", body["status"])),
        400.. if is_v1 => None,
        400.. if kind != "OperationOutcome" => Some(format!("a failure with a {kind}")),
        400..
            if body["issue"]
                .as_array()
                .is_none_or(|issues| !issues.iter().any(|i| i["severity"] == "error")) =>
        {
            Some("a failure without an issue that is an error".to_owned())
        }
        _ if is_fhir && !is_xml && !media_type.starts_with("application/fhir+json") => Some(format!("FHIR as {media_type}")),
        _ if is_fhir && kind.is_empty() => Some("FHIR without a resourceType".to_owned()),
        200 if kind == "Bundle" => bundle(call, &body),
        _ => None,
    }
}

/// A Bundle answers what was asked: as many entries as there were, or matches of the type that was searched.
fn bundle(call: &Call, answer: &Value) -> Option<String> {
    let entries = answer["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    match call.kind {
        "batch" | "transaction" => {
            let asked: Value = serde_json::from_slice(call.body.as_deref()?).ok()?;
            let asked = asked["entry"].as_array().map_or(0, Vec::len);
            let statuses = entries.iter().filter(|e| e["response"]["status"].is_string()).count();
            (entries.len() != asked || statuses != asked).then(|| format!("{} answers to {asked} entries", entries.len()))
        }
        "search" | "search by post" => {
            let type_name = call.target.split(['/', '?']).nth(2)?;
            let is_other = |e: &&Value| e["search"]["mode"] == "match" && e["resource"]["resourceType"] != type_name;
            entries
                .iter()
                .find(is_other)
                .map(|other| format!("a search on {type_name} finds {}", other["resource"]["resourceType"]))
        }
        _ => None,
    }
}

/// What was answered with success stays (I2): the version that the answer names has the content that was sent.
pub fn stored(sent: &str, got: &Answer) -> Vec<String> {
    if got.status != 200 {
        return vec![format!("what was written is answered with {}", got.status)];
    }
    let (Ok(ours), Ok(theirs)) = (serde_json::from_str::<Value>(sent), serde_json::from_slice::<Value>(&got.body)) else {
        return vec!["what was written is no JSON when read".to_owned()];
    };
    let (Ok(sent), Ok(kept)) = (Document::parse_str(sent), Document::parse(&got.body)) else {
        return vec!["what was written is no FHIR JSON when read".to_owned()];
    };
    let mut wrong = Vec::new();
    if content(ours) != content(theirs) {
        wrong.push("what was written reads otherwise".to_owned());
    }
    if kept_text(sent.root()) != kept_text(kept.root()) {
        wrong.push("what was written reads the same with another text".to_owned());
    }
    wrong
}

/// A resource without what the server says of it.
fn content(mut resource: Value) -> Value {
    if let Some(members) = resource.as_object_mut() {
        members.remove("id");
        if let Some(meta) = members.get_mut("meta").and_then(Value::as_object_mut) {
            meta.remove("versionId");
            meta.remove("lastUpdated");
        }
        if members
            .get("meta")
            .is_some_and(|meta| meta.as_object().is_some_and(serde_json::Map::is_empty))
        {
            members.remove("meta");
        }
    }
    resource
}

/// What a log must not have: failures of the server itself (classes 22 and 42 of the database are statements that we wrote wrongly), and
/// anything that names a person.
pub fn log(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in text.lines() {
        let lower = line.to_lowercase();
        let is_failure = ["panicked", " error ", " warn ", "database error 22", "database error 42"]
            .iter()
            .any(|mark| lower.contains(mark));
        if is_failure && !line.contains("DEVELOPMENT MODE") {
            wrong.push(format!("the log has: {line}"));
        }
        if let Some(family) = FAMILIES.iter().find(|family| lower.contains(&family.to_lowercase())) {
            wrong.push(format!("the log names {family}"));
        }
    }
    wrong
}
