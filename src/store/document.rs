//! Documents: which resources came with which clinical document, so that it can be recognised, replaced, deleted and obscured as one.
//!
//! A document is known by every identifier it came with: that of its Bundle (the CDA's id) and the master identifier of the ingestion API.
//! Patient, Practitioner, Organization and Location are shared between documents and outlive them ("immutable types", UA-R specification).

use crate::fhir::identity::hash;
use crate::fhir::identity::self_hash;
use crate::fhir::regions;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::store::Store;
use crate::store::columns::Columns;
use crate::store::columns::Member;
use crate::store::rows::Row;
use crate::store::statements;
use crate::store::unit::Applied;
use crate::store::unit::Effect;
use crate::store::unit::Known;
use crate::store::unit::Unit;
use crate::store::unit::UnitReply;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::HashSet;

/// Types that a document brings but does not own.
pub const SHARED_TYPES: &[&str] = &["Patient", "Practitioner", "Organization", "Location"];

/// What a unit does to its document.
#[derive(Debug, Clone)]
pub enum DocumentAction {
    /// The first identifier decides whether the document is here; the others are further names of it.
    Register {
        identifiers: Vec<String>,
        fingerprint: Vec<u8>,
    },
    /// Registers the new one and deletes the members of the old.
    Replace {
        old: String,
        identifiers: Vec<String>,
        fingerprint: Vec<u8>,
    },
    Remove {
        identifier: String,
    },
    /// Oscuramento: hides what the document owns.
    Withdraw {
        identifier: String,
    },
    /// Shows it again.
    Restore {
        identifier: String,
    },
}

/// An action as it was decided: with the members and the state of the document that the unit brings.
pub struct DocumentWrite {
    pub action: DocumentAction,
    pub members: Vec<Member>,
    pub is_obscured: bool,
}

#[derive(Debug, Clone)]
pub struct KnownDocument {
    pub id: i64,
    pub fingerprint: Vec<u8>,
    pub state: State,
    /// In the order of the Bundle's entries.
    pub members: Vec<KnownMember>,
}

#[derive(Debug, Clone, Copy)]
pub struct KnownMember {
    pub rid: i64,
    pub self_hash: i64,
    /// Of no shared type, and in no other document that is here; only known for documents that an action changes.
    pub is_owned: bool,
}

impl DocumentAction {
    /// Every identifier that this action is about.
    pub fn identifiers(&self) -> impl Iterator<Item = &String> {
        let (old, new): (Option<&String>, &[String]) = match self {
            DocumentAction::Register { identifiers, .. } => (None, identifiers),
            DocumentAction::Replace { old, identifiers, .. } => (Some(old), identifiers),
            DocumentAction::Remove { identifier } | DocumentAction::Withdraw { identifier } | DocumentAction::Restore { identifier } => {
                (Some(identifier), &[])
            }
        };
        old.into_iter().chain(new)
    }

    pub fn locks(&self) -> impl Iterator<Item = i64> {
        self.identifiers().map(|identifier| hash(&["document", identifier]))
    }

    /// The identifier of the document that is to be replaced, removed, hidden or shown.
    fn old(&self) -> Option<&String> {
        match self {
            DocumentAction::Register { .. } => None,
            DocumentAction::Replace { old, .. } => Some(old),
            DocumentAction::Remove { identifier } | DocumentAction::Withdraw { identifier } | DocumentAction::Restore { identifier } => {
                Some(identifier)
            }
        }
    }

    /// The document and the reply when nothing is left to do: the same document is here. Errors: 409 when another content came under the
    /// same identifier; 404 when the document to replace, remove, hide or show is not known.
    pub fn already_here(&self, store: &Store, known: &Known) -> Result<Option<(i64, UnitReply)>, Outcome> {
        let live = |identifier: &String| known.documents.get(identifier).filter(|d| d.state != State::Deleted);
        let replaced = self
            .old()
            .map(|old| live(old).ok_or_else(|| Outcome::not_found("The document")))
            .transpose()?;
        let same =
            match self {
                DocumentAction::Register { identifiers, fingerprint } => match identifiers.first().and_then(live) {
                    Some(document) if document.fingerprint == *fingerprint => Some(document),
                    Some(_) => return Err(Outcome::conflict(
                        "A document with this identifier is here with another content: replace it, or give the new one its own identifier",
                    )
                    .with_code("duplicate")),
                    None => identifiers.iter().filter_map(live).find(|d| d.fingerprint == *fingerprint),
                },
                // The same replacement again: its answer was lost on the way.
                DocumentAction::Replace {
                    identifiers, fingerprint, ..
                } => identifiers
                    .iter()
                    .filter_map(live)
                    .chain(replaced)
                    .find(|d| d.fingerprint == *fingerprint),
                DocumentAction::Remove { .. } | DocumentAction::Withdraw { .. } | DocumentAction::Restore { .. } => None,
            };
        Ok(same.map(|document| (document.id, reply(store, known, document))))
    }

    /// The new identifiers that no document has, for the document that is here.
    pub fn aliases(&self, known: &Known, document: i64) -> Vec<(String, i64)> {
        let (DocumentAction::Register { identifiers, .. } | DocumentAction::Replace { identifiers, .. }) = self else {
            return Vec::new();
        };
        let is_free = |identifier: &&String| known.documents.get(*identifier).is_none_or(|d| d.state == State::Deleted);
        identifiers
            .iter()
            .filter(is_free)
            .map(|identifier| (identifier.clone(), document))
            .collect()
    }

    /// The document that is replaced was obscured: so is the new one, unless it says otherwise.
    pub fn was_obscured(&self, known: &Known) -> bool {
        self.old()
            .and_then(|old| known.documents.get(old))
            .is_some_and(|d| d.state == State::Withdrawn)
    }

    /// Deletes what the replaced or removed document owns, but for the rows that the unit itself has kept.
    pub fn remove_old(&self, store: &Store, known: &Known, kept: &[Member], columns: &mut Columns) {
        let (DocumentAction::Replace { old, .. } | DocumentAction::Remove { identifier: old }) = self else {
            return;
        };
        let Some(document) = known.documents.get(old) else { return };
        let is_kept = |rid: i64| kept.iter().any(|member| matches!(member, Member::Known(known) if *known == rid));
        for member in document.members.iter().filter(|m| m.is_owned && !is_kept(m.rid)) {
            if let Some(row) = known.rows.get(&member.self_hash).filter(|row| row.state() != State::Deleted) {
                columns.delete(&store.registry, row);
            }
        }
    }
}

fn reply(store: &Store, known: &Known, document: &KnownDocument) -> UnitReply {
    let applied = document
        .members
        .iter()
        .filter_map(|m| known.rows.get(&m.self_hash))
        .map(|row| Applied {
            effect: Effect::Matched,
            type_number: row.type_number,
            id: row.id.clone(),
            version: row.version,
            updated: row.updated,
            kept: store.bodies.decompress(row.dictionary, &row.body).ok(),
        });
    UnitReply {
        applied: applied.collect(),
        is_known_document: true,
    }
}

/// The documents that the units name, with their members' hashes.
pub async fn read(store: &Store, conn: &mut PgConnection, units: &[Unit]) -> Result<HashMap<String, KnownDocument>, sqlx::Error> {
    let actions = || units.iter().filter_map(|unit| unit.document.as_ref());
    let identifiers: Vec<&String> = actions().flat_map(DocumentAction::identifiers).collect();
    if identifiers.is_empty() {
        return Ok(HashMap::new());
    }
    let mut documents = find(store, conn, &identifiers).await?;
    let changed: Vec<i64> = actions()
        .filter_map(DocumentAction::old)
        .filter_map(|old| documents.get(old))
        .map(|d| d.id)
        .collect();
    if !changed.is_empty() {
        let owned = owned(store, conn, &changed, &[State::Live, State::Withdrawn]).await?;
        for document in documents.values_mut() {
            for member in &mut document.members {
                member.is_owned = owned.contains(&(document.id, member.rid));
            }
        }
    }
    Ok(documents)
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
        .map(|(rid, t, id)| (rid, self_hash(store.registry.name_of(t), &id)))
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
    SHARED_TYPES.iter().filter_map(|name| store.registry.number_of(name)).collect()
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
    let types: Vec<i16> = types.iter().filter_map(|name| store.registry.number_of(name)).collect();
    let rows = sqlx::query_as(
        "select rid, type, id, version, updated, state, dictionary, body
         from resource
         where rid = any($1) and type = any($2) and body <> ''
         order by rid",
    )
    .bind(members)
    .bind(types)
    .fetch_all(conn)
    .await?;
    Ok(Some(rows))
}

/// Ends the document that is replaced or removed. Returns its id.
async fn end(conn: &mut PgConnection, identifier: &str, now: DateTime<Utc>) -> Result<Option<i64>, sqlx::Error> {
    let end = "update document set state = 1, updated = $2 where id = (select document from document_identifier where identifier = $1) returning id";
    sqlx::query_scalar(end).bind(identifier).bind(now).fetch_optional(conn).await
}

/// Records what an action did; `members` are the row ids of the document that it brings.
pub async fn store(
    store: &Store,
    conn: &mut PgConnection,
    write: &DocumentWrite,
    members: &[i64],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let (identifiers, fingerprint, replaces) = match &write.action {
        DocumentAction::Withdraw { identifier } => return move_state(store, conn, identifier, State::Live, State::Withdrawn, now).await,
        DocumentAction::Restore { identifier } => return move_state(store, conn, identifier, State::Withdrawn, State::Live, now).await,
        DocumentAction::Remove { identifier } => return end(conn, identifier, now).await.map(|_| ()),
        DocumentAction::Register { identifiers, fingerprint } => (identifiers, fingerprint, None),
        DocumentAction::Replace {
            old,
            identifiers,
            fingerprint,
        } => (identifiers, fingerprint, end(conn, old, now).await?),
    };
    let insert =
        "insert into document (fingerprint, state, updated, members, origin, replaces) values ($1, 0, $2, $3, $4, $5) returning id";
    let document: i64 = sqlx::query_scalar(insert)
        .bind(fingerprint)
        .bind(now)
        .bind(members)
        .bind(identifiers.iter().find_map(|identifier| regions::of_document(identifier)))
        .bind(replaces)
        .fetch_one(&mut *conn)
        .await?;
    let names: Vec<(String, i64)> = identifiers.iter().map(|identifier| (identifier.clone(), document)).collect();
    store_aliases(conn, &names).await?;
    match (write.is_obscured, identifiers.first()) {
        (true, Some(identifier)) => move_state(store, conn, identifier, State::Live, State::Withdrawn, now).await,
        _ => Ok(()),
    }
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
    let rids: Vec<i64> = owned(store, conn, &[document], &[State::Live])
        .await?
        .into_iter()
        .map(|(_, rid)| rid)
        .collect();
    statements::set_state(conn, &rids, from, to, now).await?;
    move_predecessors(store, conn, document, to).await
}

/// What the document has replaced, over and over, is deleted; but its history can be read, unless it is obscured too. No change rows: no
/// region has it. Rows that are deleted and obscured are withdrawn rows without a body.
async fn move_predecessors(store: &Store, conn: &mut PgConnection, document: i64, to: State) -> Result<(), sqlx::Error> {
    let (from, to) = match to {
        State::Withdrawn => (State::Deleted, State::Withdrawn),
        State::Live | State::Deleted => (State::Withdrawn, State::Deleted),
    };
    sqlx::query(
        "with recursive replaced as (
             select replaces as id from document where id = $1
             union
             select d.replaces from document d join replaced on d.id = replaced.id
         )
         update resource r
         set state = $3
         from replaced
         join document d on d.id = replaced.id
         where r.rid = any(d.members) and r.type <> all($4) and r.state = $2 and r.body = ''",
    )
    .bind(document)
    .bind(from as i16)
    .bind(to as i16)
    .bind(shared_types(store))
    .execute(conn)
    .await?;
    Ok(())
}
