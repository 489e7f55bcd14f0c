//! `eds`: the open FHIR R4 data repository of Italy's Ecosistema Dati Sanitari. `ARCHITECTURE.md` is the map.

pub mod clock;
pub mod commands;
pub mod config;
pub mod delivery;
pub mod fhir;
pub mod http;
pub mod interaction;
pub mod metrics;
pub mod outcome;
pub mod policy;
pub mod search;
pub mod store;
pub mod telemetry;
pub mod validate;
