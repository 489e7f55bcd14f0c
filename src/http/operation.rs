//! Handlers of operations: `/$name`, `/[type]/$name`, `/[type]/[id]/$name`, whichever the table of `interaction::operation` has.
//! Spec: <https://hl7.org/fhir/R4/operations.html>.

use crate::http::Gateway;
use crate::http::admission::Body;
use crate::http::codec::base;
use crate::http::codec::check_accept;
use crate::http::codec::failure;
use crate::http::codec::header;
use crate::http::codec::json_body;
use crate::http::codec::operation_response;
use crate::http::codec::plain_response;
use crate::interaction::operation;
use crate::interaction::operation::Call;
use crate::interaction::operation::Run;
use crate::interaction::transaction_read::precondition;
use crate::outcome::Category;
use crate::outcome::Outcome;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::web::Data;
use actix_web::web::Path;

pub async fn on_system(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>, body: Body) -> HttpResponse {
    answer(&gateway, &request, (None, None), &path, body).await
}

pub async fn on_type(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String)>, body: Body) -> HttpResponse {
    answer(&gateway, &request, (Some(&path.0), None), &path.1, body).await
}

pub async fn on_instance(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String, String)>, body: Body) -> HttpResponse {
    answer(&gateway, &request, (Some(&path.0), Some(&path.1)), &path.2, body).await
}

/// `[type]/[id]/_history/[version]/$name`.
pub async fn on_version(path: Path<(String, String, String, String)>) -> HttpResponse {
    failure(&operation::of_version(path.3.trim_start_matches('$')))
}

async fn answer(
    gateway: &Gateway,
    request: &HttpRequest,
    (type_name, id): (Option<&str>, Option<&str>),
    name: &str,
    body: Body,
) -> HttpResponse {
    let run = async {
        check_accept(request)?;
        let is_post = request.method() == Method::POST;
        if !is_post && request.method() != Method::GET {
            let text = "An operation is asked by GET or POST";
            return Err(Outcome::new(Category::MethodNotAllowed, "not-supported", text));
        }
        let base = base(gateway, request);
        let call = Call {
            base: &base,
            name: name.trim_start_matches('$'),
            type_name,
            id,
            is_post,
            query: request.query_string(),
            body: &[],
            precondition: precondition(header(request, "if-match"), None)?,
        };
        let operation = operation::find(&gateway.service, &call)?;
        // Simple parameters may stand in the URL of a POST too: then it comes without a body.
        let has_body = is_post && (header(request, "content-type").is_some() || operation.needs_body);
        let body = match has_body.then(|| json_body(request, body)) {
            // What XML has and R4 has not are issues as any others.
            Some(Err(outcome)) if operation.run == Run::Validate && outcome.category == Category::Unprocessable => {
                return Ok(plain_response(outcome.to_json()));
            }
            body => body.transpose()?.unwrap_or_default(),
        };
        let call = Call { body: &body, ..call };
        if operation.run == Run::Changes {
            let parameters = operation::simple(&gateway.service, operation, &call)?;
            let body = gateway.delivery.changes(&gateway.service, &base, &parameters).await?;
            return Ok(plain_response(body));
        }
        let reply = operation::carry_out(&gateway.service, operation, &call).await?;
        Ok(operation_response(gateway, request, reply))
    };
    gateway.admitted_broad(run).await.unwrap_or_else(|outcome| failure(&outcome))
}
