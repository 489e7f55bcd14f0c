//! The header X-Provenance. Spec: <https://hl7.org/fhir/R4/provenance.html#header>.

use crate::http::Gateway;
use crate::interaction::Service;
use crate::outcome::Outcome;
use actix_web::HttpRequest;
use std::borrow::Cow;

/// What carries out the writes of this request, with the Provenance that comes with them. Errors: 400 and 422 naming the header.
pub fn service<'g>(gateway: &'g Gateway, request: &HttpRequest) -> Result<Cow<'g, Service>, Outcome> {
    let mut headers = request.headers().get_all("x-provenance");
    let wrong = |text: &str| Err(Outcome::invalid(text).with_code("structure").at("X-Provenance"));
    match (headers.next(), headers.next()) {
        (None, _) => Ok(Cow::Borrowed(&gateway.service)),
        (Some(_), Some(_)) => wrong("The header X-Provenance is given twice"),
        (Some(header), None) => match std::str::from_utf8(header.as_bytes()) {
            Ok(text) => gateway.service.with_provenance(text).map(Cow::Owned),
            Err(_) => wrong("The header X-Provenance is JSON in UTF-8"),
        },
    }
}
