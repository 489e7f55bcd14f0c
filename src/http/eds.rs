//! Handlers of the EDS ingestion API: from the request to the interaction, and back in the shapes of the UA-R specification.
//!
//! Successes are `{traceID, spanID, result: true}`; failures are problem+json. Bodies are checked against the JSON schemas in `schemas/`.
//! Source: UA-R ingestion specification (integrazione-uar.md) 2 and 3; <https://www.rfc-editor.org/rfc/rfc9457>. See docs/api/ingestion.md.

use crate::http::Gateway;
use crate::http::admission::Body;
use crate::http::codec;
use crate::http::codec::header;
use crate::interaction::ingestion::metadata::Metadata;
use crate::interaction::parse_json;
use crate::outcome::Category;
use crate::outcome::Outcome;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::Data;
use actix_web::web::Path;
use jsonschema::Validator;
use opentelemetry::trace::TraceContextExt;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::sync::LazyLock;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const PROBLEM_JSON: &str = "application/problem+json";

static DOCUMENT: LazyLock<Schema> = LazyLock::new(|| Schema::compile(include_str!("schemas/document.json")));
static METADATA: LazyLock<Schema> = LazyLock::new(|| Schema::compile(include_str!("schemas/metadata.json")));

/// The body of the operations that have one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentBody {
    identifier: String,
    json_string: String,
}

#[derive(Deserialize)]
struct MetadataBody {
    body: Metadata,
}

/// RFC 9457, with the members that the Gateway adds.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    detail: String,
    status: u16,
    instance: &'a str,
}

/// `POST /v1/document/workflowinstanceid/{wii}`
pub async fn create_document(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>, body: Body) -> HttpResponse {
    let run = async {
        let body = document_body(&request, body)?;
        gateway
            .ingestion
            .create(&path, &body.identifier, &body.json_string, header(&request, "x-callback-url"))
            .await
    };
    answer(StatusCode::CREATED, gateway.admitted(run).await)
}

/// `PUT /v1/document/workflowinstanceid/{wii}`
pub async fn replace_document(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>, body: Body) -> HttpResponse {
    let run = async {
        let body = document_body(&request, body)?;
        gateway
            .ingestion
            .replace(&path, &body.identifier, &body.json_string, header(&request, "x-callback-url"))
            .await
    };
    answer(StatusCode::OK, gateway.admitted(run).await)
}

/// `PUT /v1/document/metadata`
pub async fn update_metadata(gateway: Data<Gateway>, request: HttpRequest, body: Body) -> HttpResponse {
    let run = async {
        let body = document_body(&request, body)?;
        let metadata: MetadataBody = METADATA.read(body.json_string.as_bytes()).map_err(|e| e.at("jsonString"))?;
        gateway.ingestion.update_metadata(&body.identifier, &metadata.body).await
    };
    answer(StatusCode::OK, gateway.admitted(run).await)
}

/// `DELETE /v1/document/identifier/{identifier}`
pub async fn delete_document(gateway: Data<Gateway>, path: Path<String>) -> HttpResponse {
    answer(StatusCode::OK, gateway.admitted(gateway.ingestion.delete(&path)).await)
}

/// `GET /v1/status/{wii}`
pub async fn workflow_status(gateway: Data<Gateway>, path: Path<String>) -> HttpResponse {
    match gateway.ingestion.status(&path).await {
        Ok(status) => HttpResponse::Ok().json(status),
        Err(outcome) => problem(&outcome),
    }
}

/// `GET /status`
pub async fn health(gateway: Data<Gateway>) -> HttpResponse {
    match gateway.ingestion.health().await {
        Ok(()) => HttpResponse::Ok().json(json!({"status": "UP"})),
        Err(outcome) => problem(&outcome),
    }
}

pub async fn unknown() -> HttpResponse {
    problem(&Outcome::new(
        Category::NotFound,
        "not-found",
        "There is nothing at this address; docs/api/ingestion.md describes the ingestion API",
    ))
}

pub fn method_not_allowed() -> HttpResponse {
    problem(&Outcome::new(
        Category::MethodNotAllowed,
        "not-supported",
        "This method is not supported here",
    ))
}

fn answer(status: StatusCode, result: Result<(), Outcome>) -> HttpResponse {
    match result {
        Ok(()) => {
            let (trace_id, span_id) = trace();
            HttpResponse::build(status).json(json!({"traceID": trace_id, "spanID": span_id, "result": true}))
        }
        Err(outcome) => problem(&outcome),
    }
}

/// The response to a failure. What is internal is logged here, once.
fn problem(outcome: &Outcome) -> HttpResponse {
    codec::log_internal(outcome);
    // The specification has 400 for whatever is wrong with the request.
    let status = match outcome.category {
        Category::Unprocessable | Category::PreconditionFailed | Category::NotAcceptable | Category::Gone => 400,
        _ => outcome.status(),
    };
    let (kind, title) = match status {
        404 => ("/err/resource", "Resource error"),
        500.. => ("/err/server", "Server error"),
        _ => ("/err/client", "Client error"),
    };
    let (trace_id, span_id) = trace();
    let mut builder = HttpResponse::build(codec::status(status));
    if outcome.category == Category::Unavailable {
        builder.insert_header((RETRY_AFTER, "1"));
    }
    builder.content_type(PROBLEM_JSON).json(Problem {
        trace_id,
        span_id,
        kind,
        title,
        detail: outcome.summary(),
        status,
        instance: kind,
    })
}

/// The ids of the request's trace; random ones of 16 hexadecimal digits when none is kept.
fn trace() -> (String, String) {
    let context = tracing::Span::current().context();
    let span = context.span().span_context().clone();
    match span.is_valid() {
        true => (span.trace_id().to_string(), span.span_id().to_string()),
        false => (format!("{:016x}", rand::random::<u64>()), format!("{:016x}", rand::random::<u64>())),
    }
}

/// Errors: 415, 413, 400.
fn document_body(request: &HttpRequest, body: Body) -> Result<DocumentBody, Outcome> {
    let kind = header(request, "content-type").unwrap_or("").split(';').next().unwrap_or("").trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Outcome::new(
            Category::UnsupportedMediaType,
            "not-supported",
            "Send JSON, with Content-Type: application/json",
        ));
    }
    DOCUMENT.read(&body.read()?)
}

/// A JSON schema, compiled once, whose descriptions say what would be right.
struct Schema {
    text: Value,
    validator: Validator,
}

impl Schema {
    fn compile(text: &str) -> Schema {
        let text: Value = serde_json::from_str(text).expect("a constant schema");
        let validator = jsonschema::validator_for(&text).expect("a constant schema");
        Schema { text, validator }
    }

    /// Errors: 400, naming every place that is wrong and what would be right there, never what stands there.
    fn read<T: for<'de> Deserialize<'de>>(&self, body: &[u8]) -> Result<T, Outcome> {
        // Bounds the depth, and refuses what two parsers could read differently.
        parse_json(body).map_err(|e| e.with_code("structure"))?;
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| Outcome::invalid(format!("The body is not JSON: line {}, column {}", e.line(), e.column())))?;
        let mut errors = self.validator.iter_errors(&value).map(|error| self.describe(&error));
        if let Some(mut outcome) = errors.next() {
            outcome.issues.extend(errors.flat_map(|other| other.issues));
            return Err(outcome);
        }
        drop(errors);
        serde_json::from_value(value)
            .map_err(|e| Outcome::internal(format!("a body that follows its schema cannot be read: {:?}", e.classify())))
    }

    fn describe(&self, error: &jsonschema::ValidationError<'_>) -> Outcome {
        let keyword = error.schema_path().as_str();
        let schema = keyword.rsplit_once('/').and_then(|(parent, _)| self.text.pointer(parent));
        let what = schema
            .and_then(|schema| schema["description"].as_str())
            .unwrap_or("is not what it must be");
        let outcome = Outcome::invalid(format!("It {what}")).with_code("value");
        match error.instance_path().as_str().trim_start_matches('/') {
            "" => outcome,
            path => outcome.at(&path.replace('/', ".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(schema: &Schema, body: &str) -> String {
        let outcome = schema.read::<Value>(body.as_bytes()).expect_err(body);
        assert_eq!(outcome.status(), 400, "{body}");
        outcome.summary()
    }

    #[test]
    fn identifiers_are_checked_leniently() {
        for good in [
            "2.16.840.1.113883.2.9.2.120.4.4^290700",
            "2.16.840.1.113883.2.9.2.[REGIONE].4.4^X",
            "a^b^c",
        ] {
            let body = json!({"identifier": good, "jsonString": "{}", "operation": "PUBLISH"}).to_string();
            assert!(DOCUMENT.read::<DocumentBody>(body.as_bytes()).is_ok(), "{good}");
        }
        let long = format!("a^{}", "x".repeat(255));
        for bad in ["", "290700", "^", "a^", "^b", "a^b\n", long.as_str()] {
            let text = error(&DOCUMENT, &json!({"identifier": bad, "jsonString": "{}"}).to_string());
            assert!(text.starts_with("identifier: It must be the master identifier"), "{text}");
        }
    }

    #[test]
    fn wrong_bodies_are_told_by_place_and_not_by_value() {
        assert_eq!(
            error(&DOCUMENT, r#"{"identifier":"a^b"}"#),
            "It must be a JSON object with identifier and jsonString"
        );
        assert_eq!(
            error(&DOCUMENT, r#"{"identifier":"a^b","jsonString":{}}"#),
            "jsonString: It must be JSON text in a string"
        );
        assert_eq!(
            error(&METADATA, r#"{"body":{"dataInizioPrestazione":"RSSMRA22A01A399Z"}}"#),
            "body.dataInizioPrestazione: It must be a time as yyyyMMddHHmmss"
        );
        assert_eq!(
            error(&METADATA, r#"{"body":{"attiCliniciRegoleAccesso":["P99"," "]}}"#),
            "body.attiCliniciRegoleAccesso.1: It must be a code, as P99"
        );
        assert_eq!(
            error(&METADATA, r#"{"tipologiaStruttura":"x"}"#),
            "It must be a JSON object with body"
        );
        for text in [
            "",
            "[",
            "[]",
            "null",
            "\"x\"",
            r#"{"identifier":"a^b","identifier":"c^d","jsonString":"{}"}"#,
        ] {
            error(&DOCUMENT, text);
        }
    }

    #[test]
    fn the_ministrys_metadata_are_accepted() {
        let body = json!({"body": {
            "tipologiaStruttura": "Ospedale", "tipoDocumentoLivAlto": "REF", "assettoOrganizzativo": "AD_PSC101", "dataInizioPrestazione": "20220324102426",
            "dataFinePrestazione": "20220324112426", "conservazioneANorma": "CONS^^^&2.16.840.1.113883.2.9.3.3.6.1.7&ISO", "tipoAttivitaClinica": "ERP",
            "identificativoSottomissione": "2.16.840.1.113883.2.9.2.[REGIONE oppure INI].4.3.X", "attiCliniciRegoleAccesso": ["P99"], "administrativeRequest": null,
        }});
        let read: MetadataBody = METADATA.read(body.to_string().as_bytes()).unwrap();
        assert_eq!(read.body.obscures().unwrap(), Some(true));
        assert_eq!(read.body.assetto_organizzativo.as_deref(), Some("AD_PSC101"));
    }
}
