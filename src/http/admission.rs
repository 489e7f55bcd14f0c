//! Who is let in: so many requests at a time as the server can answer without delay, and bodies that arrive.
//!
//! A request takes a place when its body has arrived, so that slow clients hold none, and is refused at once when there is none: with more
//! requests at a time the same number is answered in a second, and each later.

use crate::http::Gateway;
use crate::outcome::Outcome;
use actix_web::FromRequest;
use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::web::Bytes;
use actix_web::web::Data;
use futures_util::future::LocalBoxFuture;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// The body of a request; an error when it is too slow, or cannot be read. `codec::read_body` tells which.
pub struct Body(pub Result<Result<Bytes, actix_web::Error>, Elapsed>);

/// How long bodies are waited for.
#[derive(Debug, Clone, Copy)]
pub struct BodyTimeout(pub Duration);

impl FromRequest for Body {
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Body, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Bytes::from_request(request, payload);
        let limit = request.app_data::<Data<BodyTimeout>>().map_or(Duration::MAX, |limit| limit.0);
        Box::pin(async move { Ok(Body(timeout(limit, body).await)) })
    }
}

impl Gateway {
    /// Runs a request, if it is let in. Errors: its own; 503 when as many run as may.
    pub async fn admitted<T>(&self, run: impl Future<Output = Result<T, Outcome>>) -> Result<T, Outcome> {
        let busy = |_| Outcome::unavailable("As many requests run as the server takes at a time (server.requests_running_max); try again");
        let _place = self.requests.places.try_acquire().map_err(busy)?;
        run.await
    }
}
