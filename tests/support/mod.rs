//! The harness of the tests that go through the front door: real servers, a plain HTTP client, and worlds of resources of one's own.

pub mod database;
pub mod http;
pub mod redis;
pub mod server;
pub mod world;
