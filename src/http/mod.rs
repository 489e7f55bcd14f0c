//! HTTP: the only place that knows actix. `routes.rs` is the table of routes, `openapi.rs` the document that is made from it; `fhir.rs` has the
//! handlers of FHIR, `operation.rs` those of its operations (whose table is `interaction::operation`), `eds.rs` those of the EDS services, `codec.rs` what turns requests and replies into each other,
//! `format.rs` JSON and XML, `observe.rs` the log line and the metrics of each request.

pub mod admission;
pub mod codec;
pub mod eds;
pub mod fhir;
pub mod format;
pub mod methods;
pub mod metrics;
pub mod observe;
pub mod openapi;
pub mod operation;
pub mod patch;
pub mod provenance;
pub mod regions;
pub mod routes;
pub mod told;

use crate::delivery::Delivery;
use crate::http::admission::BodyLimits;
use crate::http::methods::Address;
use crate::interaction::Service;
use crate::interaction::get;
use crate::interaction::ingestion::Ingestion;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::store;
use actix_web::App;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What the handlers of one thread share.
#[derive(Clone)]
pub struct Gateway {
    pub service: Service,
    pub ingestion: Ingestion,
    pub delivery: Delivery,
    /// Without a final slash; empty when it is taken from each request.
    pub base_url: Arc<str>,
    pub requests: Arc<Requests>,
}

/// One place of so many is kept for reads and writes of single resources: searches without end must not shut them out.
const SINGLE_SHARE: usize = 4;

/// The requests of all threads.
pub struct Requests {
    /// The server is stopping: what comes now is answered 503.
    pub is_stopping: AtomicBool,
    pub running: AtomicUsize,
    /// One for each request that may run.
    pub places: Semaphore,
    /// Of these, what searches, histories and operations may hold together.
    pub broad_places: Semaphore,
}

impl Requests {
    pub fn new(running_max: usize) -> Requests {
        Requests {
            is_stopping: AtomicBool::default(),
            running: AtomicUsize::default(),
            places: Semaphore::new(running_max),
            broad_places: Semaphore::new((running_max - running_max / SINGLE_SHARE).max(1)),
        }
    }
}

/// Settings of the server, from `config/default.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub body_bytes_max: usize,
    pub body_timeout_s: u64,
    /// Threads that answer requests.
    pub workers: usize,
    pub shutdown_timeout_s: u64,
    pub database: store::Settings,
}

/// A connection whose client takes nothing of its answer is closed after this.
const UNTAKEN_MAX_MS: u32 = 60_000;
/// A request's head must have arrived in this time: it is a few kilobytes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is kept this long without a request: longer than most proxies keep theirs, so that they close first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Connections that the system holds until a thread takes them; it has a bound of its own too.
const BACKLOG_MAX: u32 = 4096;

/// The server on a listening socket; it does not handle signals itself. Each of its threads has connections to the database of its own.
pub fn server(listener: TcpListener, gateway: &Gateway, settings: &Settings) -> std::io::Result<Server> {
    let (gateway, of_worker) = (gateway.clone(), settings.clone());
    let body_limits = BodyLimits {
        bytes_max: settings.body_bytes_max,
        timeout: Duration::from_secs(settings.body_timeout_s),
    };
    let server = HttpServer::new(move || {
        let service = gateway.service.of_worker(&of_worker.database, of_worker.workers);
        let gateway = Gateway {
            service: service.expect("the URL has been read before"),
            ..gateway.clone()
        };
        App::new()
            .app_data(web::Data::new(gateway))
            .app_data(web::Data::new(body_limits))
            .wrap(from_fn(observe::request))
            .configure(routes)
            .default_service(web::to(unknown))
    })
    .on_connect(|connection, _| {
        let stream = connection.downcast_ref::<TcpStream>();
        // A client that does not take its answer holds it in memory until then. A kernel without the option only waits longer.
        let limited = stream.map(|s| setsockopt(s, sockopt::TcpUserTimeout, &UNTAKEN_MAX_MS));
        if let Some(Err(error)) = limited {
            tracing::debug!(%error, "the time for taking an answer is not limited");
        }
    })
    .disable_signals()
    .shutdown_timeout(settings.shutdown_timeout_s)
    .client_request_timeout(HEAD_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .backlog(BACKLOG_MAX)
    .workers(settings.workers);
    Ok(server.listen(listener)?.run())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::scope("/fhir")
                .configure(operations)
                .configure(|fhir| add(fhir, routes::fhir()))
                .default_service(web::to(unknown)),
        )
        .service(
            web::scope("/v1")
                .configure(|eds| add(eds, routes::eds()))
                .default_service(web::to(eds::unknown)),
        )
        .configure(|others| add(others, routes::others()));
}

fn add(config: &mut web::ServiceConfig, addresses: Vec<Address>) {
    for address in addresses {
        config.service(address.resource());
    }
}

/// Before the other addresses, whose patterns would take theirs. Which operations there are is the table of `interaction::operation`.
fn operations(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/{operation:\\$[^/]*}").to(operation::on_system))
        .service(web::resource("/{type}/{operation:\\$[^/]*}").to(operation::on_type))
        .service(web::resource("/{type}/{id}/{operation:\\$[^/]*}").to(operation::on_instance))
        .service(web::resource("/{type}/{id}/_history/{version}/{operation:\\$[^/]*}").to(operation::on_version));
}

pub fn method_not_allowed() -> HttpResponse {
    codec::failure(&Outcome::new(
        Category::MethodNotAllowed,
        "not-supported",
        "This method is not supported here; GET /fhir/metadata says what is",
    ))
}

async fn unknown() -> HttpResponse {
    codec::failure(&get::nothing())
}
