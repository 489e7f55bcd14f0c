//! Base backups: PostgreSQL's `pg_basebackup`, checked by its `pg_verifybackup`, in a folder that is named after the instant at which it ended.
//!
//! A backup stands under its name only when it is whole, checked and synced. It holds the log that it needs by itself, so it can be restored
//! without an archive, to its end.

use crate::store::cluster::folder;
use crate::store::cluster::folder::Folder;
use crate::store::cluster::folder::Owner;
use crate::store::cluster::folder::text;
use crate::store::cluster::programs;
use crate::store::cluster::programs::Programs;
use chrono::DateTime;
use chrono::NaiveDateTime;
use chrono::Timelike;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::TryLockError;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

/// `20261125T174002Z`
const NAME: &str = "%Y%m%dT%H%M%SZ";
/// The end of a folder's name while it is being filled.
const PART: &str = ".part";

/// A PostgreSQL that a backup is taken of.
#[derive(Debug)]
pub struct Source {
    programs: Programs,
    /// Arguments that lead `pg_basebackup` to it.
    arguments: Vec<OsString>,
    /// Not among the arguments: those are readable by everyone on the machine.
    password: Option<String>,
}

impl Source {
    /// The private cluster of a folder, as its superuser through the socket.
    pub(super) fn of_folder(folder: &Folder, programs: &Programs) -> Source {
        let arguments = [
            "--host".into(),
            folder.socket.clone().into(),
            "--username".into(),
            programs::SUPERUSER.into(),
        ];
        Source {
            programs: programs.clone(),
            arguments: arguments.to_vec(),
            password: None,
        }
    }

    /// A server of one's own. Errors: it is not reached, its version's programs are not here, or its role may not replicate.
    pub async fn of_url(url: &str) -> Result<Source, String> {
        let mut conn = PgConnection::connect(url)
            .await
            .map_err(|e| format!("the database is not reached: {}", reason(&e)))?;
        let ask = "select current_setting('server_version_num')::int / 10000, rolreplication or rolsuper, current_user::text, current_database()::text
                   from pg_roles where rolname = current_user";
        let (version, may_replicate, role, database): (i32, bool, String, String) = sqlx::query_as(ask)
            .fetch_one(&mut conn)
            .await
            .map_err(|e| format!("the database does not answer: {}", reason(&e)))?;
        conn.close().await.map_err(|e| reason(&e))?;
        if !may_replicate {
            return Err(format!(
                "the role {role} may not replicate, which a backup needs: `alter role {role} replication`, and a line for `replication` in the server's \
                 pg_hba.conf; or take the backup with the tools that this server is kept with"
            ));
        }
        if database != super::NAME {
            return Err(format!(
                "the database is named {database}, and `eds restore` makes a private one that is named {}: take the backup with the tools that this server \
                 is kept with",
                super::NAME
            ));
        }
        let mut url = reqwest::Url::parse(url).map_err(|_| "database.url cannot be read".to_owned())?;
        let password = url.password().map(decoded);
        // Fails for addresses without a host alone, and those have no password.
        let _ = url.set_password(None);
        Ok(Source {
            programs: programs::find(u32::try_from(version).ok())?,
            arguments: vec!["--dbname".into(), url.as_str().into()],
            password,
        })
    }
}

/// Takes a backup into a folder inside `to`, and returns that. `now` tells the time. Errors: a text for the operator; nothing is left then.
pub fn take(source: &Source, to: &Path, now: impl Fn() -> DateTime<Utc>) -> Result<PathBuf, String> {
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(|e| text(to, e))?;
    let lock_path = to.join(".lock");
    let lock = File::create(&lock_path).map_err(|e| text(&lock_path, e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(format!("another backup into {} is running", to.display())),
        Err(TryLockError::Error(error)) => return Err(text(&lock_path, error)),
    }
    // Whoever holds the lock knows that nobody fills these any more.
    for name in names(to)? {
        if name.ends_with(PART) {
            let left = to.join(name);
            std::fs::remove_dir_all(&left).map_err(|e| text(&left, e))?;
        }
    }
    let part = to.join(format!("{}{PART}", std::process::id()));
    let result = fill(source, &part).and_then(|()| put_in_place(&part, to, now()));
    if result.is_err() && part.exists() {
        std::fs::remove_dir_all(&part).map_err(|e| text(&part, e))?;
    }
    result
}

fn fill(source: &Source, part: &Path) -> Result<(), String> {
    let mut command = source.programs.command("pg_basebackup", Owner::ourselves());
    command.args(&source.arguments).arg("--pgdata").arg(part);
    command.args([
        "--format",
        "plain",
        "--wal-method",
        "stream",
        "--checkpoint",
        "fast",
        "--label",
        "eds",
        "--no-password",
    ]);
    if let Some(password) = &source.password {
        command.env("PGPASSWORD", password);
    }
    programs::run(&mut command)?;
    verify(&source.programs, part)
}

/// Errors: a file is missing or damaged, or the backup lacks log that it needs.
pub fn verify(programs: &Programs, backup: &Path) -> Result<(), String> {
    let mut command = programs.command("pg_verifybackup", Owner::ourselves());
    programs::run(command.arg("--quiet").arg(backup)).map_err(|e| format!("the backup is damaged: {e}"))
}

/// `pg_basebackup` has synced the files.
fn put_in_place(part: &Path, to: &Path, ended: DateTime<Utc>) -> Result<PathBuf, String> {
    // The next whole second: what the name tells is not before the end.
    let ended = ended.with_nanosecond(0).unwrap_or(ended) + chrono::Duration::seconds(1);
    let backup = to.join(ended.format(NAME).to_string());
    if backup.exists() {
        return Err(format!("{} is there already", backup.display()));
    }
    std::fs::rename(part, &backup).map_err(|e| text(&backup, e))?;
    folder::sync(to)?;
    Ok(backup)
}

/// The end of the newest backup in a folder.
pub fn last(folder: &Path) -> Result<Option<DateTime<Utc>>, String> {
    if !folder.exists() {
        return Ok(None);
    }
    Ok(names(folder)?.iter().filter_map(|name| ended(name)).max())
}

/// The instant from which on a backup can be restored, by its name.
pub fn ended(name: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(name, NAME).ok().map(|time| time.and_utc())
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| text(folder, e))?;
    let names = entries.map(|entry| Ok(entry.map_err(|e| text(folder, e))?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// Without values: an error of the database can quote them.
fn reason(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => format!("error {}", error.code().unwrap_or_default()),
        None => "no connection".to_owned(),
    }
}

fn decoded(password: &str) -> String {
    let query = format!("p={}", password.replace('+', "%2B"));
    let decoded = form_urlencoded::parse(query.as_bytes()).next();
    decoded.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_backup_is_the_newest_that_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last(&dir.path().join("none")), Ok(None));
        for name in ["20261125T174002Z", "20261124T000000Z", "4711.part", ".lock", "notes"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let newest = last(dir.path()).unwrap().unwrap();
        assert_eq!(newest.to_rfc3339(), "2026-11-25T17:40:02+00:00");
    }

    #[test]
    fn a_password_is_handed_over_as_it_was_meant() {
        assert_eq!(decoded("a%40b+c%25"), "a@b+c%");
    }
}
