//! The methods of an address: their handlers, and what OPTIONS and a refusal say of them.
//! Spec: <https://www.rfc-editor.org/rfc/rfc9110#name-options>, <https://hl7.org/fhir/R4/http.html#head>.

use crate::http::told::Told;
use actix_web::FromRequest;
use actix_web::Handler;
use actix_web::HttpResponse;
use actix_web::Resource;
use actix_web::Responder;
use actix_web::Route;
use actix_web::guard;
use actix_web::http::Method as Name;
use actix_web::http::header;
use actix_web::http::header::HeaderName;
use actix_web::http::header::HeaderValue;
use actix_web::web;

/// What a PATCH takes: also on a 415.
pub const ACCEPT_PATCH: HeaderValue = HeaderValue::from_static("application/json-patch+json, application/fhir+json, application/fhir+xml");

/// A method that an address has.
pub struct Method {
    names: &'static [&'static str],
    pub told: Told,
    route: Route,
}

impl Method {
    /// Without HEAD, which is a GET whose body is not sent.
    pub fn name(&self) -> &'static str {
        self.names[0]
    }
}

/// An address and what may be done there.
pub struct Address {
    pub path: &'static str,
    pub methods: Vec<Method>,
    /// The answer to any other method, which says what else there is.
    pub refusal: fn() -> HttpResponse,
}

/// GET, and HEAD with the same headers.
pub fn get<F, A>(told: Told, handler: F) -> Method
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Method {
        names: &["GET", "HEAD"],
        told,
        route: web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler),
    }
}

pub fn post<F, A>(told: Told, handler: F) -> Method
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Method {
        names: &["POST"],
        told,
        route: web::post().to(handler),
    }
}

pub fn put<F, A>(told: Told, handler: F) -> Method
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Method {
        names: &["PUT"],
        told,
        route: web::put().to(handler),
    }
}

pub fn patch<F, A>(told: Told, handler: F) -> Method
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Method {
        names: &["PATCH"],
        told,
        route: web::patch().to(handler),
    }
}

pub fn delete<F, A>(told: Told, handler: F) -> Method
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Method {
        names: &["DELETE"],
        told,
        route: web::delete().to(handler),
    }
}

impl Address {
    /// OPTIONS tells the methods, and so does the 405 of any other.
    pub fn resource(self) -> Resource {
        let mut resource = web::resource(self.path);
        let mut names = Vec::new();
        for method in self.methods {
            names.extend(method.names);
            resource = resource.route(method.route);
        }
        names.push("OPTIONS");
        let allow = HeaderValue::from_str(&names.join(", ")).expect("names of methods");
        let takes_patches = names.contains(&"PATCH");
        let refusal = self.refusal;
        resource.default_service(web::to(move |method: Name| {
            let allow = allow.clone();
            async move {
                let mut response = match method {
                    Name::OPTIONS => HttpResponse::NoContent().finish(),
                    _ => refusal(),
                };
                response.headers_mut().insert(header::ALLOW, allow);
                if takes_patches {
                    response.headers_mut().insert(HeaderName::from_static("accept-patch"), ACCEPT_PATCH);
                }
                response
            }
        }))
    }
}
