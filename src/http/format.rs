//! JSON or XML: the form in which a body comes, and the form in which its answer goes. The interactions know JSON only: a body is turned into it before,
//! an answer out of it after.
//! Spec: <https://hl7.org/fhir/R4/http.html#mime-type>, <https://hl7.org/fhir/R4/http.html#parameters>, <https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1>.
//! Not supported: Turtle; charsets other than UTF-8.

use crate::fhir::json::Document;
use crate::fhir::xml::to_xml;
use crate::http::codec::failure;
use crate::interaction::pairs;
use crate::outcome::Category;
use crate::outcome::Outcome;
use actix_web::HttpMessage;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::body::MessageBody;
use actix_web::body::to_bytes;
use actix_web::dev::ServiceResponse;
use actix_web::http::header;
use actix_web::http::header::HeaderValue;
use actix_web::web::Bytes;
use std::cmp::Reverse;

pub const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";
const FHIR_XML: &str = "application/fhir+xml; charset=utf-8";
/// The version of FHIR that a media type may name.
const FHIR_VERSIONS: [&str; 2] = ["4.0", "4.0.1"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Xml,
}

/// The `_format` of a form, which the query does not have.
struct OfForm(Option<Format>);

/// The form in which the body comes. Errors: 415 for any other, and for other charsets and versions of FHIR.
pub fn sent(request: &HttpRequest) -> Result<Format, Outcome> {
    let mut kinds = request.headers().get_all(header::CONTENT_TYPE);
    let kind = kinds.next().filter(|_| kinds.next().is_none()).and_then(|kind| kind.to_str().ok());
    kind.and_then(of_content_type).ok_or_else(|| {
        let text = "Send JSON or XML of R4 in UTF-8, with Content-Type: application/fhir+json or application/fhir+xml";
        Outcome::new(Category::UnsupportedMediaType, "not-supported", text)
    })
}

fn of_content_type(text: &str) -> Option<Format> {
    let (name, mut parameters) = media_type(text);
    let is_right = |(name, value): (String, &str)| match name.as_str() {
        "charset" => value.eq_ignore_ascii_case("utf-8"),
        "fhirversion" => FHIR_VERSIONS.contains(&value),
        _ => true,
    };
    named(&name).filter(|_| parameters.all(is_right))
}

/// The form in which the answer goes: `_format`, or else what Accept likes best. Errors: 406 when it is neither JSON nor XML.
pub fn wanted(request: &HttpRequest) -> Result<Format, Outcome> {
    negotiated(request).ok_or_else(|| {
        let text = "This server answers in JSON (application/fhir+json) and XML (application/fhir+xml), of R4, only";
        Outcome::new(Category::NotAcceptable, "not-supported", text)
    })
}

/// The parameters of a search in a form: its `_format` counts where the query has none.
pub fn note_form(request: &HttpRequest, form: &str) {
    if let Some(format) = parameter(form, "_format") {
        request.extensions_mut().insert(OfForm(of_parameter(&format)));
    }
}

fn negotiated(request: &HttpRequest) -> Option<Format> {
    if let Some(format) = parameter(request.query_string(), "_format") {
        return of_parameter(&format);
    }
    if let Some(of_form) = request.extensions().get::<OfForm>() {
        return of_form.0;
    }
    let accept = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    let mut ranges = accept
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|r| !r.is_empty())
        .peekable();
    match ranges.peek() {
        None => Some(Format::Json),
        Some(_) => preferred(ranges),
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    pairs(query).into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

fn of_parameter(value: &str) -> Option<Format> {
    match value {
        "json" => Some(Format::Json),
        "xml" => Some(Format::Xml),
        // A plus that was not encoded is a space.
        media_type => of_content_type(&media_type.replace("fhir ", "fhir+")),
    }
}

fn named(media_type: &str) -> Option<Format> {
    match media_type {
        "application/fhir+json" | "application/json" | "text/json" => Some(Format::Json),
        "application/fhir+xml" | "application/xml" | "text/xml" => Some(Format::Xml),
        _ => None,
    }
}

/// Name and parameters of a media type, in small letters but for values.
fn media_type(text: &str) -> (String, impl Iterator<Item = (String, &str)>) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let parameters = parts.filter_map(|part| part.split_once('='));
    (
        name,
        parameters.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'))),
    )
}

/// How well a form suits: its quality in thousandths, how narrowly it is named, and how early.
type Liking = (u16, u8, Reverse<usize>);

fn preferred<'a>(ranges: impl Iterator<Item = &'a str>) -> Option<Format> {
    // Narrowness first: `application/fhir+xml;q=0.1, */*` says that of XML.
    let mut best: [Option<(u8, Liking)>; 2] = [None, None];
    for (place, range) in ranges.enumerate() {
        let (name, parameters) = media_type(range);
        let (mut quality, mut is_ours) = (1_000, true);
        for (name, value) in parameters {
            match name.as_str() {
                "q" => quality = (value.parse::<f32>().unwrap_or(1.0).clamp(0.0, 1.0) * 1_000.0) as u16,
                "fhirversion" => is_ours &= FHIR_VERSIONS.contains(&value),
                "charset" => is_ours &= value.eq_ignore_ascii_case("utf-8"),
                _ => {}
            }
        }
        let narrowness = match name.as_str() {
            "*/*" => 0,
            "application/*" | "text/*" => 1,
            _ => 2,
        };
        let of = named(&name);
        for format in [Format::Json, Format::Xml] {
            if is_ours && (narrowness < 2 || of == Some(format)) {
                let this = Some((narrowness, (quality, narrowness, Reverse(place))));
                best[format as usize] = best[format as usize].max(this);
            }
        }
    }
    let liking = |format: Format| best[format as usize].map(|(_, liking)| liking).filter(|liking| liking.0 > 0);
    match (liking(Format::Json), liking(Format::Xml)) {
        (None, None) => None,
        (json, xml) if json >= xml => Some(Format::Json),
        _ => Some(Format::Xml),
    }
}

/// The answer in the form that was asked for. Whatever answers under `/fhir` comes through here; an answer in JSON as it stands costs a look at two texts.
pub async fn answer(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let request = response.request();
    if !may_differ(request) {
        return response;
    }
    let is_resource = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes() == FHIR_JSON.as_bytes());
    // What cannot be had in the form that was asked for is told in JSON.
    let format = negotiated(request).unwrap_or(Format::Json);
    let is_pretty = parameter(request.query_string(), "_pretty").is_some_and(|value| value == "true");
    if !is_resource || format == Format::Json && !is_pretty {
        return response;
    }
    let (request, response) = response.into_parts();
    ServiceResponse::new(request, written(response, format, is_pretty).await)
}

/// False for nearly every request of JSON: only what names another form is looked at closely.
fn may_differ(request: &HttpRequest) -> bool {
    let path = request.path();
    let is_fhir = path
        .strip_prefix("/fhir")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let query = request.query_string();
    let names_format = || query.contains("_format") || query.contains("_pretty") || query.contains('%');
    let is_xml = |value: &HeaderValue| value.as_bytes().windows(3).any(|part| part.eq_ignore_ascii_case(b"xml"));
    is_fhir && (names_format() || request.headers().get_all(header::ACCEPT).any(is_xml) || request.extensions().contains::<OfForm>())
}

async fn written(response: HttpResponse<BoxBody>, format: Format, is_pretty: bool) -> HttpResponse<BoxBody> {
    let (mut head, body) = response.into_parts();
    let converted = match to_bytes(body).await {
        Ok(json) => convert(&json, format, is_pretty),
        Err(error) => Err(Outcome::internal(error)),
    };
    match converted {
        Ok(text) => {
            if format == Format::Xml {
                head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FHIR_XML));
            }
            head.set_body(text.boxed())
        }
        Err(outcome) => failure(&outcome),
    }
}

fn convert(json: &Bytes, format: Format, is_pretty: bool) -> Result<Bytes, Outcome> {
    if json.is_empty() {
        return Ok(Bytes::new());
    }
    let document = Document::parse(json).map_err(Outcome::internal)?;
    let text = match format {
        Format::Json => document.root().indented(),
        Format::Xml => to_xml(document.root(), is_pretty)?,
    };
    Ok(Bytes::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_chooses_by_quality_then_by_narrowness_then_by_order() {
        use Format::Json;
        use Format::Xml;
        for (accept, format) in [
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("text/*", Some(Json)),
            ("application/fhir+xml", Some(Xml)),
            ("application/xml", Some(Xml)),
            ("text/xml", Some(Xml)),
            ("Application/FHIR+XML; charset=UTF-8", Some(Xml)),
            ("application/fhir+xml;fhirVersion=4.0", Some(Xml)),
            ("application/fhir+xml;fhirVersion=3.0", None),
            (
                "application/fhir+xml;fhirVersion=5.0, application/fhir+json;fhirVersion=4.0;q=0.1",
                Some(Json),
            ),
            ("application/fhir+xml;charset=utf-16", None),
            ("application/fhir+json, application/fhir+xml", Some(Json)),
            ("application/fhir+xml, application/fhir+json", Some(Xml)),
            ("application/fhir+xml;q=0.9, application/fhir+json", Some(Json)),
            ("application/fhir+xml;q=0.9, application/fhir+json;q=0.8", Some(Xml)),
            ("application/fhir+xml; q=0.5, */*", Some(Json)),
            ("application/fhir+xml, */*", Some(Xml)),
            ("*/*, application/fhir+xml", Some(Xml)),
            ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", Some(Xml)),
            ("text/html, */*;q=0.1", Some(Json)),
            ("application/json;q=0, */*", Some(Xml)),
            ("application/fhir+json;q=0, application/json", Some(Json)),
            ("*/*;q=0", None),
            ("application/fhir+json;q=0", None),
            (
                "application/xml;q=0.1, application/fhir+xml;q=0.9, application/json;q=0.5",
                Some(Xml),
            ),
            ("text/html", None),
            ("text/turtle, image/*", None),
            ("application/xhtml+xml", None),
            ("nonsense", None),
            (";q=1", None),
        ] {
            assert_eq!(preferred(accept.split(',').map(str::trim)), format, "{accept}");
        }
    }

    #[test]
    fn a_media_type_has_utf_8_and_r4() {
        for (text, format) in [
            ("application/fhir+xml", Some(Format::Xml)),
            ("application/fhir+xml;charset=\"UTF-8\"", Some(Format::Xml)),
            ("text/xml; charset=utf-8", Some(Format::Xml)),
            ("application/json ;fhirVersion=4.0", Some(Format::Json)),
            ("application/fhir+json; charset=utf-7", None),
            ("application/fhir+xml; charset=utf-16", None),
            ("text/xml; charset=iso-8859-1", None),
            ("application/fhir+xml; fhirVersion=1.0", None),
            ("application/xhtml+xml", None),
            ("text/html", None),
            ("xml", None),
            ("", None),
        ] {
            assert_eq!(of_content_type(text), format, "{text}");
        }
        for (text, format) in [
            ("xml", Some(Format::Xml)),
            ("json", Some(Format::Json)),
            ("application/fhir xml", Some(Format::Xml)),
            ("ttl", None),
            ("html/xml", None),
            ("", None),
        ] {
            assert_eq!(of_parameter(text), format, "{text}");
        }
    }
}
