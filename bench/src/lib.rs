//! The benchmark of `eds`: a population of synthetic patients written by us, and a load generator that checks every answer.
//!
//! The figure it steers by is CPU per operation, server plus PostgreSQL, read from `/proc`: it holds on a noisy machine.

pub mod calendar;
pub mod cliff;
pub mod compare;
pub mod growth;
pub mod http;
pub mod load;
pub mod machine;
pub mod plot;
pub mod population;
pub mod postgres;
pub mod report;
pub mod rng;
