//! The database of a server under test, reached beside the server: to hold a lock at the right moment, or to look at what is stored.

use crate::support::server::DataDir;
use sqlx::Connection;
use sqlx::PgConnection;
use tokio::runtime::Runtime;

/// A session, for tests that wait for each answer.
pub struct Session {
    runtime: Runtime,
    conn: PgConnection,
}

/// The private cluster of the server on this folder, as its superuser.
pub fn url(dir: &DataDir) -> String {
    running(dir).expect("a running cluster")
}

fn running(dir: &DataDir) -> Option<String> {
    let text = std::fs::read_to_string(dir.data().join("postgres/postmaster.pid")).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let (port, socket) = (lines.get(3)?, lines.get(4)?);
    Some(format!("postgres:///eds?host={}&port={}&user=postgres", socket.trim(), port.trim()))
}

impl Session {
    pub fn open(dir: &DataDir) -> Session {
        Session::try_open(dir).expect("a connection")
    }

    /// `None`: the database does not take a connection now.
    pub fn try_open(dir: &DataDir) -> Option<Session> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let conn = runtime.block_on(PgConnection::connect(&running(dir)?)).ok()?;
        Some(Session { runtime, conn })
    }

    /// Carries out statements; several are separated by semicolons.
    #[track_caller]
    pub fn execute(&mut self, text: &str) {
        let done = self
            .runtime
            .block_on(sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned())).execute(&mut self.conn));
        done.unwrap_or_else(|e| panic!("{text}: {e}"));
    }

    /// The one number that a statement gives.
    #[track_caller]
    pub fn number(&mut self, text: &str) -> i64 {
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(text.to_owned()));
        self.runtime
            .block_on(query.fetch_one(&mut self.conn))
            .unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// Statements of the server that wait for a lock.
    pub fn waiting(&mut self) -> i64 {
        self.number("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
    }
}
