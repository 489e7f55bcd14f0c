//! Requests into what interactions take, replies and outcomes into responses.
//! Spec: <https://hl7.org/fhir/R4/http.html#mime-type>, <https://hl7.org/fhir/R4/http.html#ops>.

use crate::fhir::xml::to_json;
use crate::http::Gateway;
use crate::http::admission::Body;
use crate::http::format;
use crate::http::format::FHIR_JSON;
use crate::http::format::Format;
use crate::interaction::Reply;
use crate::interaction::transaction_answer::told;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::outcome::operation_outcome;
use crate::search::parse::Handling;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::HttpResponseBuilder;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::Bytes;
use chrono::DateTime;
use chrono::Utc;

/// What `Prefer: return=` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Default,
    Minimal,
    Representation,
    OperationOutcome,
}

pub fn header<'r>(request: &'r HttpRequest, name: &str) -> Option<&'r str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Where clients reach FHIR: the configured address, or the one this request came to, unless its headers name what is none. Without a final slash.
pub fn base(gateway: &Gateway, request: &HttpRequest) -> String {
    if !gateway.base_url.is_empty() {
        return format!("{}/fhir", gateway.base_url);
    }
    let connection = request.connection_info();
    let scheme = if connection.scheme() == "https" { "https" } else { "http" };
    let host = Some(connection.host()).filter(|host| is_host(host));
    format!("{scheme}://{}/fhir", host.unwrap_or_else(|| request.app_config().host()))
}

/// A name or address, with or without a port. Anything else would break the JSON that it goes into, or say more than where the server is.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
}

/// Errors: 406 when the client accepts neither JSON nor XML.
pub fn check_accept(request: &HttpRequest) -> Result<(), Outcome> {
    format::wanted(request).map(drop)
}

/// The body of a write as JSON, whether it came as JSON or as XML. Errors: 413, 415, 400; 422 for XML with what R4 does not have.
pub fn json_body(request: &HttpRequest, body: Body) -> Result<Bytes, Outcome> {
    match format::sent(request)? {
        Format::Json => body.read(),
        Format::Xml => Ok(Bytes::from(to_json(&body.read()?)?)),
    }
}

/// The body of a service that is not FHIR's, which takes JSON alone. Errors: 413, 415, 400.
pub fn plain_json_body(request: &HttpRequest, body: Body) -> Result<Bytes, Outcome> {
    match format::sent(request) {
        Ok(Format::Json) => body.read(),
        _ => Err(Outcome::new(
            Category::UnsupportedMediaType,
            "not-supported",
            "Send JSON in UTF-8, with Content-Type: application/json",
        )),
    }
}

pub fn handling(request: &HttpRequest) -> Handling {
    let lenient = header(request, "prefer").is_some_and(|p| p.split([',', ';']).any(|part| part.trim() == "handling=lenient"));
    if lenient { Handling::Lenient } else { Handling::Strict }
}

pub fn wanted(request: &HttpRequest) -> Wanted {
    let prefer = header(request, "prefer").unwrap_or("");
    let wanted = prefer.split([',', ';']).find_map(|part| part.trim().strip_prefix("return="));
    match wanted {
        Some("minimal") => Wanted::Minimal,
        Some("representation") => Wanted::Representation,
        Some("OperationOutcome") => Wanted::OperationOutcome,
        _ => Wanted::Default,
    }
}

/// The response to a read or a search: 304 when the client has this version already.
pub fn read_response(request: &HttpRequest, reply: Reply) -> HttpResponse {
    if is_not_modified(request, &reply) {
        let mut builder = HttpResponse::build(StatusCode::NOT_MODIFIED);
        version_headers(&mut builder, &reply);
        return builder.finish();
    }
    let mut builder = HttpResponse::build(status(reply.status));
    version_headers(&mut builder, &reply);
    builder.insert_header((header::CONTENT_TYPE, FHIR_JSON));
    builder.body(reply.body.unwrap_or_default())
}

/// The response to a write.
pub fn write_response(gateway: &Gateway, request: &HttpRequest, reply: Reply) -> HttpResponse {
    let wanted = wanted(request);
    // 204 has no body: who asks for one gets 200.
    let code = match (reply.status, wanted) {
        (204, Wanted::OperationOutcome) => 200,
        (code, _) => code,
    };
    let mut builder = HttpResponse::build(status(code));
    version_headers(&mut builder, &reply);
    if let Some(location) = &reply.location {
        builder.insert_header((header::LOCATION, format!("{}/{location}", base(gateway, request))));
    }
    builder.insert_header((header::CONTENT_TYPE, FHIR_JSON));
    match (wanted, reply.body) {
        // A deletion that tells what it has done.
        (Wanted::Default | Wanted::Representation, None) if code == 200 && !reply.remarks.is_empty() => {
            builder.body(operation_outcome(&reply.remarks))
        }
        (Wanted::Minimal, _) | (Wanted::Default | Wanted::Representation, None) => builder.finish(),
        (Wanted::OperationOutcome, _) => builder.body(told(&reply.remarks)),
        (_, Some(body)) => builder.body(body),
    }
}

/// The response to an operation: what it returns, and where what it has stored is.
pub fn operation_response(gateway: &Gateway, request: &HttpRequest, reply: Reply) -> HttpResponse {
    let mut builder = HttpResponse::build(status(reply.status));
    version_headers(&mut builder, &reply);
    if let Some(location) = &reply.location {
        builder.insert_header((header::LOCATION, format!("{}/{location}", base(gateway, request))));
    }
    builder.insert_header((header::CONTENT_TYPE, FHIR_JSON));
    builder.body(reply.body.unwrap_or_default())
}

/// A resource that has no version: metadata, an OperationOutcome, a Bundle.
pub fn plain_response(body: String) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, FHIR_JSON)).body(body)
}

/// The response to a failure, as an OperationOutcome. What is internal is logged here, once.
pub fn failure(outcome: &Outcome) -> HttpResponse {
    log_internal(outcome);
    let mut builder = HttpResponse::build(status(outcome.status()));
    if outcome.category == Category::Unavailable {
        builder.insert_header((header::RETRY_AFTER, "1"));
    }
    builder.insert_header((header::CONTENT_TYPE, FHIR_JSON)).body(outcome.to_json())
}

pub fn log_internal(outcome: &Outcome) {
    if let Some(internal) = &outcome.internal {
        tracing::error!(status = outcome.status(), internal, "request failed");
    }
}

pub fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn version_headers(builder: &mut HttpResponseBuilder, reply: &Reply) {
    if let Some(version) = reply.version {
        builder.insert_header((header::ETAG, format!("W/\"{version}\"")));
    }
    if let Some(updated) = reply.updated {
        builder.insert_header((header::LAST_MODIFIED, updated.format("%a, %d %b %Y %H:%M:%S GMT").to_string()));
    }
}

fn is_not_modified(request: &HttpRequest, reply: &Reply) -> bool {
    let since = header(request, "if-modified-since").and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    reply.is_known(header(request, "if-none-match"), since.map(|since| since.with_timezone(&Utc)))
}
