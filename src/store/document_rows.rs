//! The tables of documents: which rows each has, and what becomes of them when it is replaced, deleted, obscured or shown.
//!
//! Patient, Practitioner, Organization and Location are shared between documents and outlive them ("immutable types", UA-R specification).
//! Anything else is live as long as a live document has it, and hidden when only hidden ones do.

use crate::fhir::identity::self_hash;
use crate::fhir::regions;
use crate::policy::State;
use crate::store::Store;
use crate::store::count::past_has_changed;
use crate::store::document::DocumentAction;
use crate::store::document::DocumentWrite;
use crate::store::document::KnownDocument;
use crate::store::document::KnownMember;
use crate::store::document::is_hidden;
use crate::store::rows;
use crate::store::rows::Row;
use crate::store::statements;
use crate::store::unit::Unit;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::HashSet;

/// Types that a document brings but does not own.
pub const SHARED_TYPES: &[&str] = &["Patient", "Practitioner", "Organization", "Location"];

/// The documents that the units name, with their members' hashes. Each is locked: under another of its names somebody else may change it.
pub async fn read(store: &Store, conn: &mut PgConnection, units: &[Unit]) -> Result<HashMap<String, KnownDocument>, sqlx::Error> {
    let actions = units.iter().filter_map(|unit| unit.document.as_ref());
    let identifiers: Vec<&String> = actions.flat_map(DocumentAction::identifiers).collect();
    if identifiers.is_empty() {
        return Ok(HashMap::new());
    }
    let mut locked: HashSet<i64> = HashSet::new();
    loop {
        let documents = find(store, conn, &identifiers).await?;
        let mut unlocked: Vec<i64> = documents.values().map(|d| d.id).filter(|id| locked.insert(*id)).collect();
        if unlocked.is_empty() {
            return Ok(documents);
        }
        // What is read before the lock is read again after it.
        unlocked.sort_unstable();
        unlocked.dedup();
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('document ' || id, 0)) from unnest($1::bigint[]) id")
            .bind(unlocked)
            .execute(&mut *conn)
            .await?;
    }
}

/// Marks what is owned by the documents that units may end. Their members are locked: another document that takes one has committed, or waits.
pub async fn mark_owned(
    store: &Store,
    conn: &mut PgConnection,
    units: &[Unit],
    documents: &mut HashMap<String, KnownDocument>,
) -> Result<(), sqlx::Error> {
    let ends = |action: &DocumentAction| match action {
        DocumentAction::Register { identifiers, .. } if is_hidden(documents, identifiers) => identifiers.first().cloned(),
        other => other.old().cloned(),
    };
    let actions = units.iter().filter_map(|unit| unit.document.as_ref());
    let ending: Vec<i64> = actions
        .filter_map(ends)
        .filter_map(|identifier| documents.get(&identifier))
        .map(|d| d.id)
        .collect();
    if ending.is_empty() {
        return Ok(());
    }
    let owned = owned(store, conn, &ending, &[State::Live, State::Withdrawn]).await?;
    for document in documents.values_mut() {
        for member in &mut document.members {
            member.is_owned = owned.contains(&(document.id, member.rid));
        }
    }
    Ok(())
}

/// The documents of these identifiers.
async fn find(store: &Store, conn: &mut PgConnection, identifiers: &[&String]) -> Result<HashMap<String, KnownDocument>, sqlx::Error> {
    type DocumentRow = (String, i64, Vec<u8>, i16, Vec<i64>);
    let documents: Vec<DocumentRow> = sqlx::query_as(
        "select i.identifier, d.id, d.fingerprint, d.state, d.members
         from document_identifier i
         join document d on d.id = i.document
         where i.identifier = any($1)",
    )
    .bind(identifiers)
    .fetch_all(&mut *conn)
    .await?;
    let rids: Vec<i64> = documents.iter().flat_map(|d| d.4.iter().copied()).collect();
    let members: Vec<(i64, i16, String)> = sqlx::query_as("select rid, type, id from resource where rid = any($1)")
        .bind(rids)
        .fetch_all(conn)
        .await?;
    let hashes: HashMap<i64, i64> = members
        .into_iter()
        .map(|(rid, t, id)| (rid, self_hash(store.registry().name_of(t), &id)))
        .collect();
    let known = documents.into_iter().map(|(identifier, id, fingerprint, state, rids)| {
        let member = |rid: i64| {
            hashes.get(&rid).map(|self_hash| KnownMember {
                rid,
                self_hash: *self_hash,
                is_owned: false,
            })
        };
        let members = rids.into_iter().filter_map(member).collect();
        (
            identifier,
            KnownDocument {
                id,
                fingerprint,
                state: State::from_number(state),
                members,
            },
        )
    });
    Ok(known.collect())
}

fn shared_types(store: &Store) -> Vec<i16> {
    SHARED_TYPES.iter().filter_map(|name| store.registry().number_of(name)).collect()
}

/// Document and row of each member that is of no shared type and in no other document of these states.
async fn owned(store: &Store, conn: &mut PgConnection, documents: &[i64], states: &[State]) -> Result<HashSet<(i64, i64)>, sqlx::Error> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "select d.id, r.rid
         from document d
         cross join unnest(d.members) m (rid)
         join resource r on r.rid = m.rid
         where d.id = any($1)
           and r.type <> all($2)
           and r.rid <> all(d.found)
           and not exists (select from document other where other.members @> array[r.rid] and other.id <> d.id and other.state = any($3))",
    )
    .bind(documents)
    .bind(shared_types(store))
    .bind(states.iter().map(|state| *state as i16).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Current rows of these types of a document, withdrawn ones too, in the order of their ids; `None` if no such document is here.
pub async fn members_of(store: &Store, conn: &mut PgConnection, identifier: &str, types: &[&str]) -> Result<Option<Vec<Row>>, sqlx::Error> {
    let members: Option<Vec<i64>> = sqlx::query_scalar(
        "select d.members
         from document_identifier i
         join document d on d.id = i.document
         where i.identifier = $1 and d.state <> 1",
    )
    .bind(identifier)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(members) = members else { return Ok(None) };
    let types: Vec<i16> = types.iter().filter_map(|name| store.registry().number_of(name)).collect();
    let query = sqlx::query_as(
        "select rid, type, id, version, updated, state, dictionary, body
         from resource
         where rid = any($1) and type = any($2) and body <> ''
         order by rid",
    )
    .bind(members)
    .bind(types);
    rows::fetch(&store.bodies, conn, query).await.map(Some)
}

/// Ends the document that is replaced or removed. Returns its id.
async fn end(conn: &mut PgConnection, identifier: &str, now: DateTime<Utc>) -> Result<Option<i64>, sqlx::Error> {
    let end = "update document set state = 1, updated = $2 where id = (select document from document_identifier where identifier = $1) returning id";
    sqlx::query_scalar(end).bind(identifier).bind(now).fetch_optional(conn).await
}

/// Hides what an ended document leaves to documents that are all hidden.
async fn hide_left(store: &Store, conn: &mut PgConnection, ended: Option<i64>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let Some(ended) = ended else { return Ok(()) };
    let left: Vec<i64> = owned(store, conn, &[ended], &[State::Live])
        .await?
        .into_iter()
        .map(|(_, rid)| rid)
        .collect();
    // What nobody has is deleted by now: its rows are not live.
    statements::set_state(conn, &left, State::Live, State::Withdrawn, now).await?;
    Ok(())
}

/// Of these rows, that were here before, those that no document has brought.
async fn found(conn: &mut PgConnection, rids: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
    if rids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        "select rid from unnest($1::bigint[]) rid
         where not exists (select from document d where d.members @> array[rid] and rid <> all(d.found))",
    )
    .bind(rids)
    .fetch_all(conn)
    .await
}

/// Records what an action did; `members` are the row ids of the document that it brings.
pub async fn store(
    store: &Store,
    conn: &mut PgConnection,
    write: &DocumentWrite,
    members: &[i64],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let (identifiers, fingerprint) = match &write.action {
        DocumentAction::Withdraw { identifier } => return move_state(store, conn, identifier, State::Live, State::Withdrawn, now).await,
        DocumentAction::Restore { identifier } => return move_state(store, conn, identifier, State::Withdrawn, State::Live, now).await,
        DocumentAction::Remove { identifier } => {
            let ended = end(conn, identifier, now).await?;
            return hide_left(store, conn, ended, now).await;
        }
        DocumentAction::Register { identifiers, fingerprint }
        | DocumentAction::ReplaceHidden { identifiers, fingerprint }
        | DocumentAction::Replace {
            identifiers, fingerprint, ..
        } => (identifiers, fingerprint),
    };
    let replaces = match write.action.old() {
        Some(old) => end(conn, old, now).await?,
        None => None,
    };
    let insert = "insert into document (fingerprint, state, updated, members, origin, replaces, found) values ($1, 0, $2, $3, $4, $5, $6) returning id";
    let document: i64 = sqlx::query_scalar(insert)
        .bind(fingerprint)
        .bind(now)
        .bind(members)
        .bind(identifiers.iter().find_map(|identifier| regions::of_document(identifier)))
        .bind(replaces)
        .bind(found(conn, &write.found).await?)
        .fetch_one(&mut *conn)
        .await?;
    if let Some(ended) = replaces {
        // The document is known by all its names, whichever it was replaced under.
        sqlx::query("update document_identifier set document = $1 where document = $2")
            .bind(document)
            .bind(ended)
            .execute(&mut *conn)
            .await?;
    }
    let names: Vec<(String, i64)> = identifiers.iter().map(|identifier| (identifier.clone(), document)).collect();
    store_aliases(conn, &names).await?;
    match (write.is_obscured, identifiers.first()) {
        (true, Some(identifier)) => move_state(store, conn, identifier, State::Live, State::Withdrawn, now).await?,
        // What it has in common with the one that was hidden is shown with it.
        (false, Some(identifier)) if replaces.is_some() => move_state(store, conn, identifier, State::Withdrawn, State::Live, now).await?,
        _ => {}
    }
    hide_left(store, conn, replaces, now).await
}

/// Gives documents their identifiers. One that names another document that is here stays with it.
pub async fn store_aliases(conn: &mut PgConnection, names: &[(String, i64)]) -> Result<(), sqlx::Error> {
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into document_identifier as known (identifier, document)
         select distinct on (identifier) identifier, document
         from unnest($1::text[], $2::bigint[]) name (identifier, document)
         on conflict (identifier) do update set document = excluded.document
         where exists (select from document d where d.id = known.document and d.state = 1)",
    )
    .bind(names.iter().map(|name| name.0.as_str()).collect::<Vec<_>>())
    .bind(names.iter().map(|name| name.1).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Hides or shows what a document owns, with a change row for each: the regions are told.
async fn move_state(
    store: &Store,
    conn: &mut PgConnection,
    identifier: &str,
    from: State,
    to: State,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let document: Option<i64> = sqlx::query_scalar(
        "update document d
         set state = $2, updated = $3
         from document_identifier i
         where i.identifier = $1 and d.id = i.document and d.state <> 1
         returning d.id",
    )
    .bind(identifier)
    .bind(to as i16)
    .bind(now)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(document) = document else { return Ok(()) };
    // What another document shows stays shown; what one that is hidden has too is shown with this one.
    let others: &[State] = if to == State::Withdrawn { &[State::Live] } else { &[] };
    let rids: Vec<i64> = owned(store, conn, &[document], others)
        .await?
        .into_iter()
        .map(|(_, rid)| rid)
        .collect();
    statements::set_state(conn, &rids, from, to, now).await?;
    move_deleted(store, conn, document, to).await
}

/// What the document had and has replaced, over and over, is deleted; but its history can be read, unless it is obscured too. No change rows:
/// no region has it. Rows that are deleted and obscured are withdrawn rows without a body.
async fn move_deleted(store: &Store, conn: &mut PgConnection, document: i64, to: State) -> Result<(), sqlx::Error> {
    let (from, to) = match to {
        State::Withdrawn => (State::Deleted, State::Withdrawn),
        State::Live | State::Deleted => (State::Withdrawn, State::Deleted),
    };
    let moved = sqlx::query(
        "with recursive had as (
             select $1::bigint as id
             union
             select d.replaces from document d join had on d.id = had.id
         )
         update resource r
         set state = $3
         from had
         join document d on d.id = had.id
         where r.rid = any(d.members) and r.type <> all($4) and r.rid <> all(d.found) and r.state = $2 and r.body = ''
           and ($3 <> 2 or not exists (select from document other where other.members @> array[r.rid] and other.state = 0))",
    )
    .bind(document)
    .bind(from as i16)
    .bind(to as i16)
    .bind(shared_types(store))
    .execute(&mut *conn)
    .await?;
    match moved.rows_affected() {
        0 => Ok(()),
        _ => past_has_changed(conn).await,
    }
}
