//! What a restore must not undo: withdrawals that came after the instant it goes back to, and what the regions were told after it.
//!
//! Two databases of one history are compared: the restored one, and the same one at the end of its write-ahead log. Rows have the same ids in
//! both, so what the later one says of a document or of a resource holds for the earlier one too. All that follows from it is written in
//! one transaction, together with the new epoch of the feed. Why so: `docs/adr/0009-backup.md`.

use crate::outcome::Outcome;
use crate::policy::State;
use crate::store::Settings;
use crate::store::Store;
use crate::store::database_error;
use crate::store::document::DocumentAction;
use crate::store::document_rows;
use crate::store::failure::Failure;
use crate::store::ingestion;
use crate::store::pools;
use crate::store::statements;
use crate::store::unit::Unit;
use crate::store::write;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use std::collections::HashSet;

/// 2026-01-01T00:00:00Z: epochs that a restore gives are seconds since then, so that two restores of one backup differ. Fits until 2094.
const EPOCH_BEGIN_S: i64 = 1_767_225_600;
/// What an operation is told that waited at the instant, and whose document was deleted after it.
const DELETED_SINCE: &str = "The document was deleted after the instant that the repository was restored to";

/// What the later database knows.
#[derive(Debug)]
pub struct Later {
    documents: Vec<Ended>,
    /// Row ids of the documents that are deleted, with those that they had replaced: another document can have taken their identifiers since.
    deleted: Vec<i64>,
    /// Hashes of the resources that are hidden.
    hidden: Vec<i64>,
    told: Vec<Told>,
}

/// A document that is obscured, or was deleted.
#[derive(Debug, sqlx::FromRow)]
struct Ended {
    state: i16,
    origin: Option<String>,
    identifiers: Vec<String>,
}

/// A resource that regions were told something about after the instant.
#[derive(Debug, sqlx::FromRow)]
struct Told {
    self_hash: i64,
    #[sqlx(rename = "type")]
    type_number: i16,
    version: i32,
    id: String,
    /// The regions.
    mask: i32,
}

/// What was done to the restored database.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub epoch: i32,
    /// Documents that are hidden again.
    pub withdrawn: usize,
    /// Documents that are deleted again.
    pub removed: usize,
    /// Documents that came and were hidden after the instant: known by name alone.
    pub remembered: usize,
    /// Resources that came after the instant: the regions that have them are told that they are gone.
    pub vanished: usize,
}

/// A connection whose statements may take the time that reading everything takes. Errors: 500 for a URL that cannot be read; the database's.
pub async fn connect(settings: &Settings) -> Result<PgConnection, Outcome> {
    let options =
        pools::options(settings, pools::ALWAYS_SAME)?.options([("statement_timeout", "0"), ("idle_in_transaction_session_timeout", "0")]);
    PgConnection::connect_with(&options).await.map_err(database_error)
}

/// Each region and the next position of its stream.
pub async fn positions(conn: &mut PgConnection) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as("select code, next_position from region").fetch_all(conn).await
}

/// Reads the later database; `positions` are those of the earlier one.
pub async fn read_later(conn: &mut PgConnection, positions: &[(String, i64)]) -> Result<Later, sqlx::Error> {
    let documents = sqlx::query_as(
        "select d.state, d.origin, array_agg(i.identifier order by i.identifier) as identifiers
         from document d
         join document_identifier i on i.document = d.id
         where d.state <> 0
         group by d.id
         order by d.id",
    )
    .fetch_all(&mut *conn)
    .await?;
    let deleted = sqlx::query_scalar(
        "with recursive gone as (
             select d.id, d.replaces
             from document d
             where d.state = 1 and not exists (select from document newer where newer.replaces = d.id)
             union
             select d.id, d.replaces from gone join document d on d.id = gone.replaces
         )
         select id from gone",
    )
    .fetch_all(&mut *conn)
    .await?;
    let hidden = sqlx::query_scalar("select self_hash from resource where state = 2")
        .fetch_all(&mut *conn)
        .await?;
    // Streams are gapless and never rewritten: what was told since stands behind the positions that were given then.
    let told = sqlx::query_as(
        "select r.self_hash, r.type, r.version, r.id, bit_or(1 << g.bit) as mask
         from region g
         join region_stream s on s.region = g.code
         join resource r on r.rid = s.rid
         left join unnest($1::text[], $2::bigint[]) p (code, next) on p.code = g.code
         where s.position >= coalesce(p.next, 1)
         group by r.rid
         order by r.rid",
    )
    .bind(positions.iter().map(|p| p.0.as_str()).collect::<Vec<_>>())
    .bind(positions.iter().map(|p| p.1).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(Later {
        documents,
        deleted,
        hidden,
        told,
    })
}

/// Brings the restored database into service: what was withdrawn later is withdrawn, and the feed begins anew, in one transaction. `later` is
/// `None` when the restored database is itself the end of what is known.
pub async fn take_over(store: &Store, conn: &mut PgConnection, later: Option<&Later>) -> Result<Done, Failure> {
    let now = store.clock.now();
    let mut done = Done::default();
    let mut tx = conn.begin().await?;
    // First, so that the transaction has its id before it takes a seq (docs/adr/0002-feed.md).
    done.epoch = begin_anew(&mut tx, now).await?;
    if let Some(later) = later {
        // Before the hidden ones: one of these can have the identifier of one that was deleted.
        delete_documents(store, &mut tx, &later.deleted, &mut done).await?;
        end_documents(store, &mut tx, &later.documents, now, &mut done).await?;
        hide(&mut tx, &later.hidden, now).await?;
        hold(&mut tx, &later.told).await?;
        done.vanished = bury(store, &mut tx, &later.told, now).await?;
    }
    tx.commit().await?;
    Ok(done)
}

/// A new epoch, and every region is sent everything once more. Pages that were begun before are of another database: their cursors end too.
async fn begin_anew(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<i32, sqlx::Error> {
    let key: [u8; 32] = rand::random();
    let epoch = sqlx::query_scalar("update repository set feed_epoch = greatest(feed_epoch + 1, $1), cursor_key = $2 returning feed_epoch")
        .bind(epoch_of(now))
        .bind(&key[..])
        .fetch_one(&mut *conn)
        .await?;
    sqlx::query("update region set bootstrap_rid = 0, attempts = 0, next_attempt = null, last_error = null")
        .execute(conn)
        .await?;
    Ok(epoch)
}

fn epoch_of(now: DateTime<Utc>) -> i32 {
    i32::try_from(now.timestamp() - EPOCH_BEGIN_S).unwrap_or(0)
}

/// Deletes what was deleted later, through the one write path.
async fn delete_documents(store: &Store, conn: &mut PgConnection, ids: &[i64], done: &mut Done) -> Result<(), Failure> {
    let identifiers: Vec<String> = sqlx::query_scalar(
        "select min(i.identifier)
         from document d
         join document_identifier i on i.document = d.id
         where d.id = any($1) and d.state <> 1
         group by d.id
         order by d.id",
    )
    .bind(ids)
    .fetch_all(&mut *conn)
    .await?;
    for identifier in identifiers {
        apply(store, conn, DocumentAction::Remove { identifier }).await?;
        done.removed += 1;
    }
    Ok(())
}

/// Hides what was hidden later, and keeps what waits from bringing back what was deleted.
async fn end_documents(
    store: &Store,
    conn: &mut PgConnection,
    ended: &[Ended],
    now: DateTime<Utc>,
    done: &mut Done,
) -> Result<(), Failure> {
    for document in ended {
        if State::from_number(document.state) == State::Deleted {
            for id in ingestion::waiting_to_bring(conn, &document.identifiers).await? {
                ingestion::fail(conn, id, DELETED_SINCE, now).await?;
            }
            continue;
        }
        let here = known(conn, &document.identifiers).await?;
        if here.is_empty() {
            remember(conn, document, now).await?;
            done.remembered += 1;
        }
        for (identifier, state) in here {
            if State::from_number(state) == State::Live {
                apply(store, conn, DocumentAction::Withdraw { identifier }).await?;
                done.withdrawn += 1;
            }
        }
    }
    Ok(())
}

async fn apply(store: &Store, conn: &mut PgConnection, action: DocumentAction) -> Result<(), Failure> {
    let unit = Unit {
        document: Some(action),
        ..Unit::default()
    };
    for reply in write::apply(store, conn, &[unit]).await?.into_iter().flatten() {
        reply.map_err(|outcome| sqlx::Error::Protocol(format!("a document could not be withdrawn: {}", outcome.summary())))?;
    }
    Ok(())
}

/// The documents that have these identifiers and are not deleted: one of the identifiers of each, and its state.
async fn known(conn: &mut PgConnection, identifiers: &[String]) -> Result<Vec<(String, i16)>, sqlx::Error> {
    sqlx::query_as(
        "select distinct on (d.id) i.identifier, d.state
         from document_identifier i
         join document d on d.id = i.document
         where i.identifier = any($1) and d.state <> 1
         order by d.id, i.identifier",
    )
    .bind(identifiers)
    .fetch_all(conn)
    .await
}

/// A hidden document of which only the names are known: whoever sends it again through `/fhir` stores it hidden, and its feeder, who may
/// replace it, is told that it is here with another content.
async fn remember(conn: &mut PgConnection, document: &Ended, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let insert = "insert into document (fingerprint, state, updated, members, origin) values ('', 2, $1, '{}', $2) returning id";
    let id: i64 = sqlx::query_scalar(insert)
        .bind(now)
        .bind(&document.origin)
        .fetch_one(&mut *conn)
        .await?;
    let names: Vec<(String, i64)> = document.identifiers.iter().map(|identifier| (identifier.clone(), id)).collect();
    document_rows::store_aliases(conn, &names).await
}

/// What is hidden later and no document hides here: a resource that was here first, and came with a document after the instant.
async fn hide(conn: &mut PgConnection, hashes: &[i64], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let rids: Vec<i64> = sqlx::query_scalar("select rid from resource where self_hash = any($1) and state = 0")
        .bind(hashes)
        .fetch_all(&mut *conn)
        .await?;
    statements::set_state(conn, &rids, State::Live, State::Withdrawn, now).await?;
    Ok(())
}

/// Notes that the regions hold what they were told of later too: what does not pertain to them is then taken from them again.
async fn hold(conn: &mut PgConnection, told: &[Told]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into pertinence as known (rid, mask)
         select r.rid, t.mask
         from unnest($1::bigint[], $2::int[]) t (self_hash, mask)
         join resource r on r.self_hash = t.self_hash
         on conflict (rid) do update set mask = known.mask | excluded.mask",
    )
    .bind(told.iter().map(|t| t.self_hash).collect::<Vec<_>>())
    .bind(told.iter().map(|t| t.mask).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Resources that are not here, and that regions have: each becomes a deleted one, which the feed then takes from them.
async fn bury(store: &Store, conn: &mut PgConnection, told: &[Told], now: DateTime<Utc>) -> Result<usize, sqlx::Error> {
    let hashes: Vec<i64> = told.iter().map(|t| t.self_hash).collect();
    let here: Vec<i64> = sqlx::query_scalar("select self_hash from resource where self_hash = any($1)")
        .bind(hashes)
        .fetch_all(&mut *conn)
        .await?;
    let here: HashSet<i64> = here.into_iter().collect();
    let gone: Vec<&Told> = told.iter().filter(|t| !here.contains(&t.self_hash)).collect();
    let rids = store.row_ids.take(&mut *conn, gone.len()).await?;
    sqlx::query(
        "with gone as (
             select * from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::int[], $5::text[], $6::int[]) g (rid, self_hash, type, version, id, mask)
         ), buried as (
             insert into resource (rid, self_hash, updated, present, version, type, state, dictionary, reference_terms, id, terms, body)
             select rid, self_hash, $7, 0, version, type, 1, 0, 0, id, '{}', '' from gone
         ), held as (
             insert into pertinence (rid, mask) select rid, mask from gone
         )
         insert into change (rid, updated, version, type, operation)
         select rid, $7, version, type, 2 from gone order by rid",
    )
    .bind(&rids)
    .bind(gone.iter().map(|t| t.self_hash).collect::<Vec<_>>())
    .bind(gone.iter().map(|t| t.type_number).collect::<Vec<_>>())
    // The versions that were acknowledged once are not given again.
    .bind(gone.iter().map(|t| t.version + 1).collect::<Vec<_>>())
    .bind(gone.iter().map(|t| t.id.as_str()).collect::<Vec<_>>())
    .bind(gone.iter().map(|t| t.mask).collect::<Vec<_>>())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(gone.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_restore_gives_a_higher_epoch_and_never_that_of_a_repository_that_was_not_restored() {
        let at = |text: &str| epoch_of(DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc));
        assert_eq!(at("2026-01-01T00:00:02Z"), 2);
        assert!(at("2026-11-25T10:00:01Z") > at("2026-11-25T10:00:00Z") && at("2026-11-25T10:00:00Z") > 1);
        assert!(at("2090-01-01T00:00:00Z") > 0);
    }
}
