//! The server through its front door: the real binary, its own PostgreSQL, plain HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod batch;
mod conditional;
mod corpus;
mod crud;
mod history;
mod ministry;
mod negotiation;
mod search_links;
mod search_ranges;
mod search_results;
mod search_values;
mod transaction;
