//! Why a batch of writes was not applied, and what is certain of it.

use crate::store::statements;

/// Why a batch has no answers.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was written.
    Undone(sqlx::Error),
    /// The connection broke while the batch was being committed: it is written, or not.
    Unknown(sqlx::Error),
    /// Nothing was written: the search parameters have changed, and must be read before the batch is applied anew.
    Stale,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        match is_stale(&error) {
            true => Failure::Stale,
            false => Failure::Undone(error),
        }
    }
}

fn is_stale(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.code()).as_deref() == Some(statements::STALE)
}

/// An error of what commits: what the database itself says is certain.
pub(super) fn at_commit(error: sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(_) => Failure::from(error),
        _ => Failure::Unknown(error),
    }
}
