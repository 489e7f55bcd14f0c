//! Who is let in: so many requests at a time as the server can answer without delay, and bodies that arrive and are not too large.
//!
//! A request takes a place when its body has arrived, so that slow clients hold none, and is refused at once when there is none: with more
//! requests at a time the same number is answered in a second, and each later. A body is decompressed after that, into no more than a body may
//! have: a few kilobytes can stand for gigabytes.

use crate::http::Gateway;
use crate::outcome::Category;
use crate::outcome::Outcome;
use actix_web::FromRequest;
use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::web::BytesMut;
use actix_web::web::Data;
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use std::convert::Infallible;
use std::io::Read;
use std::time::Duration;
use tokio::sync::TryAcquireError;
use tokio::time::timeout;

/// What a frame of zstd may refer back to, as a power of two: what `zstd` itself makes without `--long`.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The body of a request as it arrived, or why it did not.
pub struct Body {
    received: Result<(Bytes, Coding), Outcome>,
    bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// What bodies are taken.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Also of what a body is decompressed to.
    pub bytes_max: usize,
    pub timeout: Duration,
}

impl FromRequest for Body {
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Body, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limits = request.app_data::<Data<BodyLimits>>().map(|limits| ***limits);
        let limits = limits.unwrap_or(BodyLimits {
            bytes_max: 0,
            timeout: Duration::ZERO,
        });
        let coding = coding(request);
        let announced = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|l| l.to_str().ok()?.parse().ok());
        let is_too_large = announced.is_some_and(|length: usize| length > limits.bytes_max);
        let payload = payload.take();
        Box::pin(async move {
            let received = async {
                let coding = coding?;
                if is_too_large {
                    return Err(too_large());
                }
                let received = timeout(limits.timeout, receive(payload, limits.bytes_max)).await;
                Ok((received.map_err(|_| too_slow())??, coding))
            };
            Ok(Body {
                received: received.await,
                bytes_max: limits.bytes_max,
            })
        })
    }
}

impl Body {
    /// Errors: 413 for a body that is too large, compressed or not; 408 for one that does not come to its end; 415 for one that is encoded otherwise
    /// than the server can read, or more than once; 400 for one that cannot be read.
    pub fn read(self) -> Result<Bytes, Outcome> {
        let (bytes, coding) = self.received?;
        match coding {
            Coding::Identity => Ok(bytes),
            Coding::Gzip => decoded(MultiGzDecoder::new(&bytes[..]), self.bytes_max),
            Coding::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(&bytes[..]).map_err(Outcome::internal)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(Outcome::internal)?;
                decoded(decoder, self.bytes_max)
            }
        }
    }
}

/// The one coding of the body. Errors: 415 for another, and for several.
fn coding(request: &HttpRequest) -> Result<Coding, Outcome> {
    let named = request.headers().get_all(header::CONTENT_ENCODING);
    let named: Vec<String> = named
        .map(|name| String::from_utf8_lossy(name.as_bytes()).to_ascii_lowercase())
        .collect();
    let mut codings = named
        .iter()
        .flat_map(|names| names.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty());
    match (codings.next(), codings.next()) {
        (None | Some("identity"), None) => Ok(Coding::Identity),
        (Some("gzip" | "x-gzip"), None) => Ok(Coding::Gzip),
        (Some("zstd"), None) => Ok(Coding::Zstd),
        _ => Err(Outcome::new(
            Category::UnsupportedMediaType,
            "not-supported",
            "A body may have one Content-Encoding, gzip or zstd, or none",
        )),
    }
}

async fn receive(mut payload: Payload, bytes_max: usize) -> Result<Bytes, Outcome> {
    let mut received = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| unreadable())?;
        if received.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        received.extend_from_slice(&chunk);
    }
    Ok(received.freeze())
}

/// What the reader gives, which is not read further than a body may be long.
fn decoded(reader: impl Read, bytes_max: usize) -> Result<Bytes, Outcome> {
    let mut bytes = Vec::new();
    let read = reader.take(bytes_max as u64 + 1).read_to_end(&mut bytes);
    if bytes.len() > bytes_max {
        return Err(too_large());
    }
    read.map_err(|_| unreadable())?;
    Ok(Bytes::from(bytes))
}

fn too_large() -> Outcome {
    let text = "The body is larger than the server takes (server.body_bytes_max)";
    Outcome::new(Category::TooLarge, "too-long", text)
}

fn too_slow() -> Outcome {
    let text = "The body did not arrive in the time that the server waits for it (server.body_timeout_s)";
    Outcome::new(Category::RequestTimeout, "timeout", text)
}

fn unreadable() -> Outcome {
    Outcome::invalid("The body could not be read to its end, or its Content-Encoding is not what it says").with_code("structure")
}

fn busy(_: TryAcquireError) -> Outcome {
    Outcome::unavailable("As many requests run as the server takes at a time (server.requests_running_max); try again")
}

impl Gateway {
    /// Runs a request, if it is let in. Errors: its own; 503 when as many run as may.
    pub async fn admitted<T>(&self, run: impl Future<Output = Result<T, Outcome>>) -> Result<T, Outcome> {
        let _place = self.requests.places.try_acquire().map_err(busy)?;
        run.await
    }

    /// The same for what may read much: a search, a history, an operation. A share of the places is kept free of these.
    pub async fn admitted_broad<T>(&self, run: impl Future<Output = Result<T, Outcome>>) -> Result<T, Outcome> {
        let _place = self.requests.broad_places.try_acquire().map_err(busy)?;
        self.admitted(run).await
    }
}
