//! Around each request: refused while the server stops, counted, measured, and told in one log line without personal data.
//! The line has the route's pattern, never the path or the query: both can name a patient.

use crate::http::Gateway;
use crate::http::codec::failure;
use crate::http::format;
use crate::metrics;
use crate::outcome::Outcome;
use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceRequest;
use actix_web::dev::ServiceResponse;
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::web::Data;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tracing::Instrument;

pub async fn request(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Result<ServiceResponse<BoxBody>, Error> {
    let gateway = request.app_data::<Data<Gateway>>().cloned();
    let Some(gateway) = gateway else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    if gateway.requests.is_stopping.load(Ordering::Relaxed) {
        let mut response = failure(&Outcome::unavailable("The server is stopping; try again"));
        response
            .headers_mut()
            .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return Ok(format::answer(request.into_response(response)).await);
    }
    let running = Running::of(&gateway);
    let begin = Instant::now();
    let method = request.method().clone();
    let span =
        tracing::info_span!("request", http.method = %method, http.route = tracing::field::Empty, http.status = tracing::field::Empty);
    let result = next.call(request).instrument(span.clone()).await;
    let mut response = format::answer(result?.map_into_boxed_body()).await;
    drop(running);
    let duration = begin.elapsed();
    let status = response.status().as_u16();
    let route = response.request().match_pattern().unwrap_or_else(|| "unknown".to_owned());
    span.record("http.route", &route).record("http.status", status);
    metrics::observe_request(method.as_str(), &route, status, duration.as_secs_f64());
    tracing::debug!(parent: &span, http.method = %method, http.route = route, http.status = status, duration_ms = duration.as_secs_f64() * 1000.0, "answered");
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    // A narrative holds what somebody sent: no browser is to run or load any of it.
    let nothing = header::HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    Ok(response)
}

/// A request that runs; also one whose client goes, so that nobody waits for it, is over then.
struct Running(Data<Gateway>);

impl Running {
    fn of(gateway: &Data<Gateway>) -> Running {
        gateway.requests.running.fetch_add(1, Ordering::Relaxed);
        Running(gateway.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.requests.running.fetch_sub(1, Ordering::Relaxed);
    }
}
