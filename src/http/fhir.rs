//! Handlers of FHIR's RESTful API: from the request to an interaction, and back. Spec: <https://hl7.org/fhir/R4/http.html>.

use crate::http::Gateway;
use crate::http::admission::Body;
use crate::http::codec;
use crate::http::codec::base;
use crate::http::codec::check_accept;
use crate::http::codec::failure;
use crate::http::codec::handling;
use crate::http::codec::header;
use crate::http::codec::json_body;
use crate::http::codec::plain_response;
use crate::http::codec::read_response;
use crate::http::codec::write_response;
use crate::http::format::note_form;
use crate::http::provenance;
use crate::interaction::check_length;
use crate::interaction::delete as deletion;
use crate::interaction::delete::Asked;
use crate::interaction::delete::Wish;
use crate::interaction::get::Get;
use crate::interaction::search as searching;
use crate::interaction::search::Scope;
use crate::interaction::transaction::Wishes;
use crate::interaction::transaction::transaction as carry_out;
use crate::interaction::transaction_answer::Return;
use crate::interaction::transaction_read::precondition;
use crate::interaction::write as writing;
use crate::outcome::Category;
use crate::outcome::Outcome;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web::Data;
use actix_web::web::Path;

type Answer = Result<HttpResponse, Outcome>;

/// Every handler here ends in this: an outcome becomes a response in one place.
fn answer(result: Answer) -> HttpResponse {
    result.unwrap_or_else(|outcome| failure(&outcome))
}

/// What GET reads: the answers are those of entries of Bundles.
async fn got(gateway: &Gateway, request: &HttpRequest, get: Get<'_>) -> HttpResponse {
    let run = async {
        check_accept(request)?;
        let (base, query) = (base(gateway, request), request.query_string());
        Ok(read_response(
            request,
            get.answer(&gateway.service, &base, query, handling(request)).await?,
        ))
    };
    answer(match get {
        Get::Capabilities => run.await,
        get if get.is_broad() => gateway.admitted_broad(run).await,
        _ => gateway.admitted(run).await,
    })
}

pub async fn metadata(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    got(&gateway, &request, Get::Capabilities).await
}

pub async fn read(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String)>) -> HttpResponse {
    got(&gateway, &request, Get::Read(&path.0, &path.1)).await
}

pub async fn vread(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String, String)>) -> HttpResponse {
    got(&gateway, &request, Get::Vread(&path.0, &path.1, &path.2)).await
}

pub async fn create(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>, body: Body) -> HttpResponse {
    let run = async {
        check_accept(&request)?;
        let body = json_body(&request, body)?;
        let reply = writing::create(
            &*provenance::service(&gateway, &request)?,
            &path,
            &body,
            header(&request, "if-none-exist"),
        )
        .await?;
        Ok(write_response(&gateway, &request, reply))
    };
    answer(gateway.admitted(run).await)
}

pub async fn update(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String)>, body: Body) -> HttpResponse {
    let run = async {
        check_accept(&request)?;
        let body = json_body(&request, body)?;
        let precondition = precondition(header(&request, "if-match"), header(&request, "if-none-match"))?;
        let reply = writing::update(&*provenance::service(&gateway, &request)?, &path.0, &path.1, &body, precondition).await?;
        Ok(write_response(&gateway, &request, reply))
    };
    answer(gateway.admitted(run).await)
}

pub async fn conditional_update(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>, body: Body) -> HttpResponse {
    let run = async {
        check_accept(&request)?;
        let body = json_body(&request, body)?;
        let precondition = precondition(header(&request, "if-match"), header(&request, "if-none-match"))?;
        let reply = writing::conditional_update(
            &*provenance::service(&gateway, &request)?,
            &path,
            request.query_string(),
            &body,
            precondition,
        )
        .await?;
        Ok(write_response(&gateway, &request, reply))
    };
    answer(gateway.admitted(run).await)
}

pub async fn delete(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String)>) -> HttpResponse {
    let run = async {
        check_accept(&request)?;
        let reply = deletion::delete(
            &*provenance::service(&gateway, &request)?,
            &path.0,
            &path.1,
            request.query_string(),
            wish(&request)?,
        )
        .await?;
        Ok(write_response(&gateway, &request, reply))
    };
    answer(gateway.admitted(run).await)
}

pub async fn conditional_delete(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>) -> HttpResponse {
    let run = async {
        check_accept(&request)?;
        let reply = deletion::conditional_delete(
            &*provenance::service(&gateway, &request)?,
            &path,
            request.query_string(),
            wish(&request)?,
        )
        .await?;
        Ok(write_response(&gateway, &request, reply))
    };
    answer(gateway.admitted(run).await)
}

fn wish(request: &HttpRequest) -> Result<Wish, Outcome> {
    Ok(Wish {
        precondition: precondition(header(request, "if-match"), None)?,
        referrers: referrers(request)?,
    })
}

/// X-Cascade, and X-Referrers.
fn referrers(request: &HttpRequest) -> Result<Asked, Outcome> {
    match (header(request, "x-referrers"), header(request, "x-cascade")) {
        (None, cascade) => cascade.map_or(Ok(Asked::AsSet), deletion::cascade),
        (Some("stay"), None) => Ok(Asked::Stay),
        (Some(_), _) => Err(Outcome::invalid("X-Referrers is stay, and excludes X-Cascade").with_code("value")),
    }
}

pub async fn search(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>) -> HttpResponse {
    got(&gateway, &request, Get::Search(Scope::Type(&path))).await
}

pub async fn search_by_post(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>, body: Body) -> HttpResponse {
    searched(&gateway, &request, Scope::Type(&path), body).await
}

pub async fn search_system(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    got(&gateway, &request, Get::Search(Scope::System)).await
}

pub async fn search_system_by_post(gateway: Data<Gateway>, request: HttpRequest, body: Body) -> HttpResponse {
    searched(&gateway, &request, Scope::System, body).await
}

pub async fn search_compartment(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String, String)>) -> HttpResponse {
    got(&gateway, &request, Get::Search(compartment(&path))).await
}

pub async fn search_compartment_by_post(
    gateway: Data<Gateway>,
    request: HttpRequest,
    path: Path<(String, String, String)>,
    body: Body,
) -> HttpResponse {
    searched(&gateway, &request, compartment(&path), body).await
}

fn compartment((code, id, type_name): &(String, String, String)) -> Scope<'_> {
    Scope::Compartment { code, id, type_name }
}

/// `POST _search`: a search by the parameters of the URL and of the form.
async fn searched(gateway: &Gateway, request: &HttpRequest, scope: Scope<'_>, form: Body) -> HttpResponse {
    let run = async {
        let kind = header(request, "content-type").unwrap_or("");
        if !kind.starts_with("application/x-www-form-urlencoded") {
            let text = "POST _search takes a form: Content-Type: application/x-www-form-urlencoded";
            return Err(Outcome::new(Category::UnsupportedMediaType, "not-supported", text));
        }
        let form = form.read()?;
        let form = std::str::from_utf8(&form).map_err(|_| Outcome::invalid("The form is not UTF-8"))?;
        check_length(&gateway.service, form)?;
        note_form(request, form);
        let query = [request.query_string(), form.trim()]
            .into_iter()
            .filter(|q| !q.is_empty())
            .collect::<Vec<_>>()
            .join("&");
        check_accept(request)?;
        let base = base(gateway, request);
        let reply = searching::search(&gateway.service, &base, scope, &query, handling(request)).await?;
        Ok(read_response(request, reply))
    };
    answer(gateway.admitted_broad(run).await)
}

pub async fn transaction(gateway: Data<Gateway>, request: HttpRequest, body: Body) -> HttpResponse {
    let run = async {
        check_accept(&request)?;
        let body = json_body(&request, body)?;
        let wanted = match codec::wanted(&request) {
            codec::Wanted::Representation => Return::Representation,
            codec::Wanted::OperationOutcome => Return::OperationOutcome,
            _ => Return::Minimal,
        };
        let wishes = Wishes {
            wanted,
            handling: handling(&request),
            referrers: referrers(&request)?,
        };
        let reply = carry_out(&*provenance::service(&gateway, &request)?, &base(&gateway, &request), &body, wishes).await?;
        Ok(plain_response(reply.body.unwrap_or_default()))
    };
    answer(gateway.admitted(run).await)
}

pub async fn instance_history(gateway: Data<Gateway>, request: HttpRequest, path: Path<(String, String)>) -> HttpResponse {
    got(&gateway, &request, Get::HistoryInstance(&path.0, &path.1)).await
}

pub async fn type_history(gateway: Data<Gateway>, request: HttpRequest, path: Path<String>) -> HttpResponse {
    got(&gateway, &request, Get::HistoryType(&path)).await
}

pub async fn system_history(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    got(&gateway, &request, Get::HistorySystem).await
}
