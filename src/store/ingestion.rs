//! The table of the ingestion API: operations that wait, how they ended, and the callbacks that are still to be made.
//!
//! An operation ends in the transaction of the unit that carries it out ([`succeed`]), so it is carried out once, whatever fails and however
//! many nodes try. Session locks on identifiers only spare the nodes each other's work: they go with the connection of a node that is killed.

use crate::store::unit::Unit;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::collections::HashSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Replace,
    Update,
    Delete,
}

impl Operation {
    /// As the specification writes it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Replace => "REPLACE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        }
    }

    pub fn from_name(name: &str) -> Option<Operation> {
        [Operation::Create, Operation::Replace, Operation::Update, Operation::Delete]
            .into_iter()
            .find(|operation| operation.name() == name)
    }
}

pub const SUCCESS: &str = "SUCCESS";
pub const BLOCKING_ERROR: &str = "BLOCKING_ERROR";

/// An operation to be carried out later.
#[derive(Debug)]
pub struct Accepted<'a> {
    pub workflow_instance_id: &'a str,
    pub operation: Operation,
    pub identifier: &'a str,
    /// zstd.
    pub body: &'a [u8],
    pub callback_url: Option<&'a str>,
}

/// Durable when the statement returns.
pub async fn accept(conn: &mut PgConnection, accepted: &Accepted<'_>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into ingestion (workflow_instance_id, operation, identifier, body, accepted, callback_url) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(accepted.workflow_instance_id)
    .bind(accepted.operation.name())
    .bind(accepted.identifier)
    .bind(accepted.body)
    .bind(now)
    .bind(accepted.callback_url)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes an operation that was carried out while its caller waited.
pub async fn record(
    conn: &mut PgConnection,
    workflow_instance_id: &str,
    operation: Operation,
    identifier: &str,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into ingestion (workflow_instance_id, operation, identifier, accepted, status, finished) values ($1, $2, $3, $4, $5, $4)",
    )
    .bind(workflow_instance_id)
    .bind(operation.name())
    .bind(identifier)
    .bind(now)
    .bind(SUCCESS)
    .execute(conn)
    .await?;
    Ok(())
}

/// Operations on the document wait.
pub async fn has_waiting(conn: &mut PgConnection, identifier: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from ingestion where identifier = $1 and status is null)")
        .bind(identifier)
        .fetch_one(conn)
        .await
}

/// The document is here, hidden or not, or waits to be stored.
pub async fn is_expected(conn: &mut PgConnection, identifier: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from document_identifier i join document d on d.id = i.document where i.identifier = $1 and d.state <> 1)
             or exists (select from ingestion where identifier = $1 and status is null)",
    )
    .bind(identifier)
    .fetch_one(conn)
    .await
}

/// An operation that this node alone works on.
#[derive(Debug, sqlx::FromRow)]
pub struct Claimed {
    pub id: i64,
    pub identifier: String,
    /// To be released when it has ended.
    pub lock: i64,
}

/// The first waiting operations of up to `limit` documents that nobody works on. The connection holds their locks.
pub async fn claim(conn: &mut PgConnection, busy: &[&str], limit: i64) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as(
        "with first as materialized (
             select id, identifier, hashtextextended(identifier, 4904) as lock
             from ingestion i
             where status is null
               and identifier <> all($1)
               and not exists (select from ingestion before where before.identifier = i.identifier and before.status is null and before.id < i.id)
             order by id
             limit $2
         )
         select id, identifier, lock from first where pg_try_advisory_lock(lock)",
    )
    .bind(busy)
    .bind(limit)
    .fetch_all(conn)
    .await
}

pub async fn release(conn: &mut PgConnection, locks: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_unlock(lock) from unnest($1::bigint[]) lock")
        .bind(locks)
        .execute(conn)
        .await?;
    Ok(())
}

/// What a waiting operation asks.
#[derive(Debug, sqlx::FromRow)]
pub struct Waiting {
    pub operation: String,
    pub identifier: String,
    pub body: Option<Vec<u8>>,
}

/// `None` when it has ended.
pub async fn load(conn: &mut PgConnection, id: i64) -> Result<Option<Waiting>, sqlx::Error> {
    sqlx::query_as("select operation, identifier, body from ingestion where id = $1 and status is null")
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// Which of the units' operations have not ended; they are locked until the transaction ends.
pub async fn still_waiting(conn: &mut PgConnection, units: &[Unit]) -> Result<HashSet<i64>, sqlx::Error> {
    let ids: Vec<i64> = units.iter().filter_map(|unit| unit.ingestion).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<i64> = sqlx::query_scalar("select id from ingestion where id = any($1) and status is null order by id for update")
        .bind(ids)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().collect())
}

/// Ends operations in the transaction that carries them out.
pub async fn succeed(conn: &mut PgConnection, ids: &[i64], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    end(conn, ids, SUCCESS, None, now).await
}

/// Ends an operation that cannot be carried out.
pub async fn fail(conn: &mut PgConnection, id: i64, message: &str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    end(conn, &[id], BLOCKING_ERROR, Some(message), now).await
}

async fn end(conn: &mut PgConnection, ids: &[i64], status: &str, message: Option<&str>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update ingestion
         set status = $2, message = $3, finished = $4, body = null, callback_next = case when callback_url is not null then $4 end
         where id = any($1) and status is null",
    )
    .bind(ids)
    .bind(status)
    .bind(message)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Operations that wait and would bring one of these documents.
pub async fn waiting_to_bring(conn: &mut PgConnection, identifiers: &[String]) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "select id from ingestion where status is null and operation in ('CREATE', 'REPLACE') and identifier = any($1) order by id",
    )
    .bind(identifiers)
    .fetch_all(conn)
    .await
}

/// How an operation stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Standing {
    pub workflow_instance_id: String,
    pub operation: String,
    pub identifier: String,
    pub accepted: DateTime<Utc>,
    pub status: Option<String>,
    pub message: Option<String>,
}

/// The latest operation of a workflow.
pub async fn latest(conn: &mut PgConnection, workflow_instance_id: &str) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as(
        "select workflow_instance_id, operation, identifier, accepted, status, message
         from ingestion
         where workflow_instance_id = $1
         order by id desc
         limit 1",
    )
    .bind(workflow_instance_id)
    .fetch_optional(conn)
    .await
}

/// A callback to be made now.
#[derive(Debug, sqlx::FromRow)]
pub struct Callback {
    pub id: i64,
    pub callback_url: String,
    /// This one included.
    pub callback_attempts: i32,
    pub finished: DateTime<Utc>,
    #[sqlx(flatten)]
    pub standing: Standing,
}

/// Takes callbacks that are due. Until `lease` nobody else takes them; if this node is killed they are due again then.
pub async fn take_callbacks(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Callback>, sqlx::Error> {
    sqlx::query_as(
        "update ingestion
         set callback_next = $2, callback_attempts = callback_attempts + 1
         where id in (select id from ingestion where callback_next <= $1 order by callback_next limit $3 for update skip locked)
         returning id, callback_url, callback_attempts, finished, workflow_instance_id, operation, identifier, accepted, status, message",
    )
    .bind(now)
    .bind(lease)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// When the callback is due again; `None` when it was made, or is given up.
pub async fn set_callback(conn: &mut PgConnection, id: i64, next: Option<DateTime<Utc>>) -> Result<(), sqlx::Error> {
    sqlx::query("update ingestion set callback_next = $2 where id = $1")
        .bind(id)
        .bind(next)
        .execute(conn)
        .await?;
    Ok(())
}

/// The database answers.
pub async fn ping(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(conn).await?;
    Ok(())
}
