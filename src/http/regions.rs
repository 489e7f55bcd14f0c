//! Handlers of the registry of assistance (`/rda`) and of the regions' state (`/regions`).

use crate::http::Gateway;
use crate::http::admission::Body;
use crate::http::codec::failure;
use crate::http::codec::plain_json_body;
use crate::interaction::rda;
use crate::outcome::Outcome;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web::Data;
use actix_web::web::Path;
use jsonschema::Validator;
use serde_json::Value;
use serde_json::json;
use std::sync::LazyLock;

/// What `PUT /rda/{identifier}` takes.
static ENTRY: LazyLock<Validator> = LazyLock::new(|| {
    let schema = json!({
        "type": "object",
        "properties": {"region": {"type": "string", "pattern": "^[0-9]{3}$"}},
        "required": ["region"],
        "additionalProperties": false,
    });
    jsonschema::validator_for(&schema).expect("a constant schema")
});

/// `PUT /rda/{identifier}` with `{"region":"120"}`.
pub async fn put_rda(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>, body: Body) -> HttpResponse {
    let run = async {
        let body = plain_json_body(&request, body)?;
        let entry: Value = serde_json::from_slice(&body)
            .map_err(|e| Outcome::invalid(format!("The body is not JSON: line {}, column {}", e.line(), e.column())))?;
        if !ENTRY.is_valid(&entry) {
            return Err(Outcome::invalid("The body is {\"region\":\"[three digits]\"} and nothing else"));
        }
        rda::set(&gateway.service, &path, entry["region"].as_str().unwrap_or_default()).await?;
        Ok(HttpResponse::NoContent().finish())
    };
    gateway.admitted(run).await.unwrap_or_else(|outcome| failure(&outcome))
}

pub async fn get_rda(gateway: Data<Gateway>, path: Path<String>) -> HttpResponse {
    match rda::get(&gateway.service, &path).await {
        Ok(region) => HttpResponse::Ok().json(json!({"region": region})),
        Err(outcome) => failure(&outcome),
    }
}

pub async fn delete_rda(gateway: Data<Gateway>, path: Path<String>) -> HttpResponse {
    match rda::clear(&gateway.service, &path).await {
        Ok(()) => HttpResponse::NoContent().finish(),
        Err(outcome) => failure(&outcome),
    }
}

/// `GET /regions`
pub async fn regions(gateway: Data<Gateway>) -> HttpResponse {
    match gateway.delivery.states(&gateway.service).await {
        Ok(states) => HttpResponse::Ok().json(states),
        Err(outcome) => failure(&outcome),
    }
}

/// `POST /regions/{code}/parked/$retry`
pub async fn retry_parked(gateway: Data<Gateway>, path: Path<String>) -> HttpResponse {
    match gateway.delivery.retry_parked(&gateway.service, &path).await {
        Ok(retried) => HttpResponse::Ok().json(retried),
        Err(outcome) => failure(&outcome),
    }
}
