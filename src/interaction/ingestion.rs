//! Placeholder while the ingestion API is written.
use crate::interaction::Service;
use crate::outcome::Outcome;
#[derive(Clone)]
pub struct Ingestion {}
impl Ingestion {
    pub async fn start(_service: Service, _settings: &crate::config::Ingestion) -> Result<Ingestion, Outcome> {
        Ok(Ingestion {})
    }
}
