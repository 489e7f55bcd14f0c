//! The harness of the tests that go through the front door: real servers, a plain HTTP client, and worlds of resources of one's own.

pub mod database;
pub mod http;
pub mod redis;
pub mod server;
pub mod world;

/// Fails with every case that is wrong, not only the first.
#[track_caller]
pub fn none_wrong(wrong: &[String], cases: usize) {
    assert!(
        wrong.is_empty(),
        "{} of {cases} cases are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
