//! `/metrics`, on a port of its own. What is measured stands in `crate::metrics`.

use crate::metrics;
use crate::outcome::Outcome;
use actix_web::App;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::dev::Server;
use actix_web::web;
use std::net::SocketAddr;

/// The server of `/metrics`. Errors: 500 when the address is taken.
pub fn server(address: SocketAddr) -> Result<Server, Outcome> {
    let server = HttpServer::new(|| App::new().route("/metrics", web::get().to(answer)))
        .workers(1)
        .disable_signals()
        .bind(address);
    Ok(server
        .map_err(|e| Outcome::internal(format!("metrics.listen {address}: {e}")))?
        .run())
}

async fn answer() -> HttpResponse {
    match metrics::render() {
        Ok(out) => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(out),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}
