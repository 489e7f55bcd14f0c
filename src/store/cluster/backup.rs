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
use percent_encoding::percent_decode_str;
use reqwest::Url;
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
        let ask = "select current_setting('server_version_num')::int / 10000, rolreplication or rolsuper, current_user::text,
                          datname::text, pg_get_userbyid(datdba)::text
                   from pg_roles, pg_database where rolname = current_user and datname = current_database()";
        let (version, may_replicate, role, database, owner): (i32, bool, String, String, String) = sqlx::query_as(ask)
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
        if owner != super::NAME {
            return Err(format!(
                "the database is owned by the role {owner}, and in a private one everything is reached and migrated as the role {name}: make that the owner \
                 of the database and of all that is in it (`reassign owned by {owner} to {name}`), or take the backup with the tools that this server is \
                 kept with",
                name = super::NAME
            ));
        }
        let (url, password) = without_password(url)?;
        Ok(Source {
            programs: programs::find(u32::try_from(version).ok())?,
            arguments: vec!["--dbname".into(), url.into()],
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
        Err(TryLockError::WouldBlock) => {
            return Err(format!(
                "another backup into {} is running, or what a killed one left",
                to.display()
            ));
        }
        Err(TryLockError::Error(error)) => return Err(text(&lock_path, error)),
    }
    // Whoever holds the lock knows that nobody fills these any more.
    for name in names(to)? {
        if is_part(&name) {
            let left = to.join(name);
            std::fs::remove_dir_all(&left).map_err(|e| text(&left, e))?;
        }
    }
    let part = to.join(format!("{}{PART}", std::process::id()));
    let result = fill(source, &part, &lock).and_then(|()| put_in_place(&part, to, now()));
    if result.is_err() && part.exists() {
        std::fs::remove_dir_all(&part).map_err(|e| text(&part, e))?;
    }
    result
}

/// A folder that [`take`] fills: what else lies here is another's.
fn is_part(name: &str) -> bool {
    name.strip_suffix(PART)
        .is_some_and(|process| !process.is_empty() && process.bytes().all(|b| b.is_ascii_digit()))
}

fn fill(source: &Source, part: &Path, lock: &File) -> Result<(), String> {
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
    // It reads nothing, and holds the lock as long as it runs: when we are killed it goes on writing.
    command.stdin(lock.try_clone().map_err(|e| text(part, e))?);
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

/// The address without the password, which may stand in two places of it (the second counts), and the password.
fn without_password(url: &str) -> Result<(String, Option<String>), String> {
    let mut url = Url::parse(url).map_err(|_| "database.url cannot be read".to_owned())?;
    let asked = url.query_pairs().find(|(key, _)| key == "password");
    let password = match asked {
        Some((_, password)) => Some(password.into_owned()),
        None => url.password().map(|p| percent_decode_str(p).decode_utf8_lossy().into_owned()),
    };
    // What stays is left as it was written: PostgreSQL reads a `+` otherwise than a form does.
    let key = |pair: &str| form_urlencoded::parse(pair.as_bytes()).next().map(|(key, _)| key.into_owned());
    let query = url.query().map(|query| {
        let kept = query.split('&').filter(|pair| key(pair).as_deref() != Some("password"));
        kept.collect::<Vec<_>>().join("&")
    });
    url.set_query(query.as_deref().filter(|query| !query.is_empty()));
    // Fails for addresses without a host alone, and those have no password.
    let _ = url.set_password(None);
    Ok((url.into(), password))
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
    fn a_password_is_handed_over_as_it_was_meant_and_stands_in_no_argument() {
        for (url, expected, password) in [
            ("postgres://u:a%40b+c%25&d=%C3%A8@h/eds", "postgres://u@h/eds", Some("a@b+c%&d=è")),
            ("postgres://u@h/eds?sslmode=require", "postgres://u@h/eds?sslmode=require", None),
            (
                "postgres://u:one@h/eds?host=/a+b&pass%77ord=t%26wo&sslmode=require",
                "postgres://u@h/eds?host=/a+b&sslmode=require",
                Some("t&wo"),
            ),
            ("postgres:///eds?password=x", "postgres:///eds", Some("x")),
        ] {
            let expected = (expected.to_owned(), password.map(str::to_owned));
            assert_eq!(without_password(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn folders_of_others_are_not_taken_for_what_a_cut_backup_left() {
        assert!(is_part("4711.part"));
        for other in [".part", "photos.part", "20261125T174002Z.part", "4711", "4711.part.old"] {
            assert!(!is_part(other), "{other}");
        }
    }
}
