//! Handlers of PATCH. Spec: <https://hl7.org/fhir/R4/http.html#patch>.

use crate::fhir::patch::Form;
use crate::http::Gateway;
use crate::http::admission::Body;
use crate::http::codec::check_accept;
use crate::http::codec::failure;
use crate::http::codec::header;
use crate::http::codec::json_body;
use crate::http::codec::write_response;
use crate::http::format;
use crate::http::methods::ACCEPT_PATCH;
use crate::http::provenance;
use crate::interaction::patch as patching;
use crate::interaction::patch::JSON_PATCH;
use crate::interaction::transaction_read::precondition;
use crate::outcome::Category;
use crate::outcome::Outcome;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header::HeaderName;
use actix_web::web::Data;
use actix_web::web::Path;

pub async fn patch(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String)>, body: Body) -> HttpResponse {
    let run = async {
        let (form, text) = patch_body(&request, body)?;
        let precondition = precondition(header(&request, "if-match"), None)?;
        let reply = patching::patch(
            &*provenance::service(&gateway, &request)?,
            &path.0,
            &path.1,
            form,
            &text,
            precondition,
        )
        .await?;
        Ok(write_response(&gateway, &request, reply))
    };
    answer(gateway.admitted(run).await)
}

pub async fn conditional_patch(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>, body: Body) -> HttpResponse {
    let run = async {
        let (form, text) = patch_body(&request, body)?;
        let precondition = precondition(header(&request, "if-match"), None)?;
        let reply = patching::conditional_patch(
            &*provenance::service(&gateway, &request)?,
            &path,
            request.query_string(),
            form,
            &text,
            precondition,
        )
        .await?;
        Ok(write_response(&gateway, &request, reply))
    };
    answer(gateway.admitted(run).await)
}

/// Errors: 415 for another media type, and as [`Body::read`] and [`json_body`].
fn patch_body(request: &HttpRequest, body: Body) -> Result<(Form, String), Outcome> {
    check_accept(request)?;
    let kind = header(request, "content-type").unwrap_or("").split(';').next().unwrap_or("").trim();
    let (form, body) = match kind.to_ascii_lowercase().as_str() {
        JSON_PATCH => (Form::Json, body.read()?),
        _ if format::sent(request).is_ok() => (Form::FhirPath, json_body(request, body)?),
        _ => {
            let text = "A patch is a JSON Patch (application/json-patch+json) or a FHIRPath Patch, which is a Parameters resource (application/fhir+json, \
                application/fhir+xml)";
            return Err(Outcome::new(Category::UnsupportedMediaType, "not-supported", text));
        }
    };
    let text = std::str::from_utf8(&body).map_err(|_| Outcome::invalid("The patch is not UTF-8").with_code("structure"))?;
    Ok((form, text.to_owned()))
}

/// A 415 says what would be taken. <https://www.rfc-editor.org/rfc/rfc5789#section-3.1>
fn answer(result: Result<HttpResponse, Outcome>) -> HttpResponse {
    let outcome = match result {
        Ok(response) => return response,
        Err(outcome) => outcome,
    };
    let mut response = failure(&outcome);
    if outcome.category == Category::UnsupportedMediaType {
        response.headers_mut().insert(HeaderName::from_static("accept-patch"), ACCEPT_PATCH);
    }
    response
}
