//! The server through its front door: the real binary, its own PostgreSQL, plain HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other test programs use the rest")]
mod support;

mod as_of;
mod attacks;
mod batch;
mod bundle_reads;
mod busy;
mod conditional;
mod conformance;
mod contained;
mod corpus;
mod crud;
mod custom_parameters;
mod delete;
mod delivery;
mod explain;
mod feed;
mod history;
mod hostile_json;
mod hostile_random;
mod hostile_requests;
mod hostile_size;
mod metadata;
mod ministry;
mod negotiation;
mod nodes;
mod openapi;
mod operations;
mod operations_diff;
mod operations_document;
mod operations_everything;
mod operations_expunge;
mod operations_lastn;
mod operations_meta;
mod oscuramento;
mod patch;
mod pertinence;
mod privacy;
mod provenance;
mod races;
mod redis;
mod references;
mod references_on_write;
mod restart;
mod search_composite;
mod search_counts;
mod search_dense;
mod search_filter;
mod search_hierarchy;
mod search_holders;
mod search_links;
mod search_near;
mod search_plans;
mod search_quantity;
mod search_ranges;
mod search_results;
mod search_sort;
mod search_system;
mod search_terminology;
mod search_text;
mod search_tokens;
mod search_values;
mod transaction;
mod xml;
