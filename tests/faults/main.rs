//! The fault rig: real servers, real PostgreSQL and Redis, broken on purpose while clients write, and a ledger of what the clients were told.
//! `check.rs` has the invariants. Most scenarios run twice: as they are, and sabotaged, where the same check must find the damage.
//!
//! `make test` runs a short form; `make test-faults` the long one, on the release binary, and writes `docs/reliability.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other test programs use the rest")]
mod support;

mod check;
mod clients;
mod conditional;
mod database;
mod disk;
mod figures;
mod kill_server;
mod ledger;
mod lost_update;
mod overload;
mod postgres;
mod redis;
mod relay;
mod skew;
mod transactions;
mod writers;
