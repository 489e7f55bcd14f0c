//! What PostgreSQL says of itself, asked through `psql`: bytes of WAL written, bytes of disk held.
//!
//! Spec: <https://www.postgresql.org/docs/current/functions-admin.html>.

use std::process::Command;

/// A database asked through `psql`; without a URL it has no answers.
#[derive(Debug, Clone)]
pub struct Database {
    /// The program, perhaps a wrapper that changes user.
    pub psql: String,
    pub url: Option<String>,
}

impl Database {
    /// Position of the write-ahead log, in bytes since its beginning.
    pub fn wal_bytes(&self) -> Option<u64> {
        self.ask("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
    }

    /// Bytes of the database on disk after a checkpoint: tables, indexes, maps and all.
    pub fn disk_bytes(&self) -> Option<u64> {
        self.run("checkpoint")?;
        self.ask("select pg_database_size(current_database())")
    }

    /// The settings that a reader must know to compare figures.
    pub fn settings(&self) -> Option<String> {
        self.run(
            "select string_agg(name || '=' || current_setting(name), ', ' order by name) from pg_settings where name in \
             ('server_version', 'synchronous_commit', 'fsync', 'full_page_writes', 'shared_buffers', 'max_wal_size', 'wal_compression')",
        )
    }

    fn ask(&self, sql: &str) -> Option<u64> {
        self.run(sql)?.parse().ok()
    }

    fn run(&self, sql: &str) -> Option<String> {
        let url = self.url.as_ref()?;
        let output = Command::new(&self.psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql])
            .output();
        match output {
            Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            Ok(output) => {
                eprintln!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("{}: {error}", self.psql);
                None
            }
        }
    }
}
