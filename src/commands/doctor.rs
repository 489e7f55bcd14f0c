//! `eds doctor`: looks at everything that a server needs and says in words what is wrong and how to mend it.

use crate::clock::Clock;
use crate::commands::Database;
use crate::commands::told;
use crate::config::Config;
use crate::fhir::definitions::definitions;
use crate::search::parameters::Registry;
use crate::store;
use crate::store::cluster::backup;
use sqlx::PgPool;
use std::net::TcpListener;
use std::path::Path;

/// The oldest PostgreSQL that we run on, as `server_version_num`.
const POSTGRES_MIN: i32 = 150_000;

/// Errors: how many checks failed; each is told as it is made.
pub async fn doctor(config: Config) -> Result<(), String> {
    let mut failed = 0;
    let mut tell = |what: &str, result: Result<String, String>| match result {
        Ok(good) => println!("ok    {what}: {good}"),
        Err(bad) => {
            failed += 1;
            println!("WRONG {what}: {bad}");
        }
    };
    tell("settings", Ok("they can be read".to_owned()));
    tell(
        "serving",
        config.may_serve().map(|()| format!("development mode on {}", config.server.listen)),
    );
    let port = TcpListener::bind(config.server.listen);
    tell(
        "address",
        port.map(|_| "free".to_owned())
            .map_err(|e| format!("{}: {e}; is a server running already?", config.server.listen)),
    );
    let registry = Registry::load(definitions());
    tell(
        "definitions",
        registry.map(|r| format!("R4 4.0.1, {} resource types", r.definitions.resource_types().len())),
    );
    match Database::visit(&config).await {
        Err(error) => tell("database", Err(error)),
        Ok(database) => {
            match store::pools::pool(&database.settings, 1, store::pools::ALWAYS_SAME) {
                Err(outcome) => tell("database", Err(told(outcome))),
                Ok(pool) => {
                    for (what, result) in check_database(&pool).await {
                        tell(what, result);
                    }
                    tell("archive of the log", archiving(&pool).await);
                    tell("connections", check_connections(&config, &pool).await);
                    pool.close().await;
                }
            }
            database.close().await;
        }
    }
    tell("backup", last_backup(&config));
    tell("redis", redis(&config).await);
    if failed == 0 {
        Ok(())
    } else {
        Err(format!("{failed} of the checks failed"))
    }
}

async fn check_database(pool: &PgPool) -> Vec<(&'static str, Result<String, String>)> {
    let setting = async |name: &'static str| {
        let value: Result<String, _> = sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(pool).await;
        value.map_err(|e| told(store::database_error(e)))
    };
    let version = setting("server_version_num").await.and_then(|v| match v.parse::<i32>() {
        Ok(number) if number >= POSTGRES_MIN => Ok(format!("PostgreSQL {}", number / 10_000)),
        _ => Err(format!("PostgreSQL {v} is too old: 15 or later is needed")),
    });
    let synchronous = setting("synchronous_commit").await.and_then(|v| match v.as_str() {
        "off" => Err("synchronous_commit is off: an acknowledged write could be lost".to_owned()),
        _ => Ok(v),
    });
    let fsync = setting("fsync").await.and_then(|v| {
        if v == "on" {
            Ok(v)
        } else {
            Err("fsync is off: a crash would damage the data".to_owned())
        }
    });
    let encoding = setting("server_encoding").await.and_then(|v| {
        if v == "UTF8" {
            Ok(v)
        } else {
            Err(format!("the encoding is {v}: it must be UTF8"))
        }
    });
    let trigrams: Result<bool, _> = sqlx::query_scalar("select exists (select from pg_available_extensions where name = 'pg_trgm')")
        .fetch_one(pool)
        .await;
    let trigrams = match trigrams {
        Ok(true) => Ok("available".to_owned()),
        Ok(false) => Err("not available: install PostgreSQL's contrib package".to_owned()),
        Err(error) => Err(told(store::database_error(error))),
    };
    let migrated: Result<bool, _> = sqlx::query_scalar("select to_regclass('resource') is not null")
        .fetch_one(pool)
        .await;
    let index = match migrated {
        Ok(true) => match store::index_complaint(pool).await {
            Ok(None) => Ok("of this version".to_owned()),
            Ok(Some(complaint)) => Err(complaint),
            Err(_) => Err("its version is not told: the schema is older than this program; run eds migrate".to_owned()),
        },
        _ => Ok("not there yet".to_owned()),
    };
    let migrated = match migrated {
        Ok(true) => Ok("there".to_owned()),
        Ok(false) => Ok("not there yet: the first `eds serve` or `eds migrate` makes it".to_owned()),
        Err(error) => Err(told(store::database_error(error))),
    };
    vec![
        ("database", version),
        ("synchronous_commit", synchronous),
        ("fsync", fsync),
        ("encoding", encoding),
        ("pg_trgm", trigrams),
        ("schema", migrated),
        ("index", index),
    ]
}

/// Whether what PostgreSQL archives arrives.
async fn archiving(pool: &PgPool) -> Result<String, String> {
    let ask = "select current_setting('archive_mode') <> 'off', archived_count, failed_count,
                      coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false), last_failed_wal
               from pg_stat_archiver";
    let (is_on, archived, failed, is_failing, segment): (bool, i64, i64, bool, Option<String>) = sqlx::query_as(ask)
        .fetch_one(pool)
        .await
        .map_err(|e| told(store::database_error(e)))?;
    match (is_on, is_failing) {
        (false, _) => Ok("off: backups are restored to their own end alone".to_owned()),
        (true, false) => Ok(format!("{archived} segments arrived, {failed} attempts failed before")),
        (true, true) => Err(format!(
            "the segment {} cannot be archived: is the folder of backup.wal_archive full, closed to the user of PostgreSQL, or that of another database?",
            segment.unwrap_or_default()
        )),
    }
}

/// Whether the newest backup is new enough, if a folder for them is configured.
fn last_backup(config: &Config) -> Result<String, String> {
    if config.backup.folder.is_empty() {
        return Ok("no folder is configured".to_owned());
    }
    let last = backup::last(Path::new(&config.backup.folder))?;
    let last = last.ok_or_else(|| format!("there is none in {}: run eds backup", config.backup.folder))?;
    let age_h = (Clock::System.now() - last).num_hours();
    match u64::try_from(age_h).is_ok_and(|age_h| age_h > config.backup.age_max_h) {
        false => Ok(format!("the newest is of {}", last.to_rfc3339())),
        true => Err(format!(
            "the newest in {} is {age_h} hours old, and backup.age_max_h is {}: run eds backup",
            config.backup.folder, config.backup.age_max_h
        )),
    }
}

/// Whether the database allows as many connections as the server may open.
async fn check_connections(config: &Config, pool: &PgPool) -> Result<String, String> {
    let allowed = "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int";
    let allowed: i32 = sqlx::query_scalar(allowed)
        .fetch_one(pool)
        .await
        .map_err(|e| told(store::database_error(e)))?;
    let needed = store::pools::connections_max(config.database.pool_size_max, config.server.threads());
    match u32::try_from(allowed).is_ok_and(|allowed| allowed >= needed) {
        true => Ok(format!("up to {needed}, of {allowed} that the database allows")),
        false => Err(format!(
            "the server may open {needed}, and the database allows {allowed}: raise its max_connections, or lower database.pool_size_max"
        )),
    }
}

async fn redis(config: &Config) -> Result<String, String> {
    if config.redis.url.is_empty() {
        return Ok("not configured: this node needs none".to_owned());
    }
    let client = redis::Client::open(config.redis.url.to_string()).map_err(|_| "redis.url cannot be read".to_owned())?;
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .map_err(|e| format!("not reached: {}", e.category()))?;
    let pong: Result<String, _> = redis::cmd("PING").query_async(&mut connection).await;
    pong.map(|_| "answers".to_owned())
        .map_err(|e| format!("does not answer: {}", e.category()))
}
