//! Placeholder while the ingestion API is written.
use actix_web::HttpResponse;
pub async fn create_document() -> HttpResponse { HttpResponse::NotImplemented().finish() }
pub async fn replace_document() -> HttpResponse { HttpResponse::NotImplemented().finish() }
pub async fn update_metadata() -> HttpResponse { HttpResponse::NotImplemented().finish() }
pub async fn delete_document() -> HttpResponse { HttpResponse::NotImplemented().finish() }
pub async fn workflow_status() -> HttpResponse { HttpResponse::NotImplemented().finish() }
pub async fn health() -> HttpResponse { HttpResponse::Ok().finish() }
pub async fn unknown() -> HttpResponse { HttpResponse::NotFound().finish() }
pub async fn method_not_allowed() -> HttpResponse { HttpResponse::MethodNotAllowed().finish() }
