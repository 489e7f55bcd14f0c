//! What each fuzz target checks. Plain functions over bytes: cargo-fuzz calls them with what it invents, `tests/fuzz` with the seeds, so that
//! `make test` runs them too. A body returns, or panics with what does not hold.

pub mod bundle;
pub mod cursor;
pub mod date;
pub mod fhirpath;
pub mod json;
pub mod patch;
pub mod search;
pub mod xml;
