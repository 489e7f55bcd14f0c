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
use crate::store::statements::Columns;
use crate::store::write::Applied;
use crate::store::write::Effect;
use crate::store::write::Known;
use crate::store::write::Unit;
use crate::store::write::UnitReply;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::collections::HashMap;

/// Types that a document brings but does not own.
pub const SHARED_TYPES: &[&str] = &["Patient", "Practitioner", "Organization", "Location"];

/// What a unit does to its document.
#[derive(Debug, Clone)]
pub enum DocumentAction {
    Register { identifiers: Vec<String>, fingerprint: Vec<u8> },
    /// Registers the new one and deletes the members of the old.
    Replace { old: String, identifiers: Vec<String>, fingerprint: Vec<u8> },
    Remove { identifier: String },
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
}

impl DocumentAction {
    /// Every identifier that this action is about.
    pub fn identifiers(&self) -> impl Iterator<Item = &String> {
        let (old, new): (Option<&String>, &[String]) = match self {
            DocumentAction::Register { identifiers, .. } => (None, identifiers),
            DocumentAction::Replace { old, identifiers, .. } => (Some(old), identifiers),
            DocumentAction::Remove { identifier } => (Some(identifier), &[]),
        };
        old.into_iter().chain(new)
    }

    pub fn locks(&self) -> impl Iterator<Item = i64> {
        self.identifiers().map(|identifier| hash(&["document", identifier]))
    }

    /// The reply when nothing is left to do: the same document is here. Errors: 409 when another content came under the same identifier;
    /// 404 when the document to replace or remove is not known.
    pub fn already_here(&self, store: &Store, known: &Known) -> Result<Option<UnitReply>, Outcome> {
        let live = |identifier: &String| known.documents.get(identifier).filter(|d| d.state != State::Deleted);
        match self {
            DocumentAction::Register { identifiers, fingerprint } => match identifiers.iter().find_map(live) {
                Some(document) if document.fingerprint == *fingerprint => Ok(Some(reply(store, known, document))),
                Some(_) => Err(Outcome::conflict("A document with this identifier is here with another content: replace it, or give the new one its own identifier").with_code("duplicate")),
                None => Ok(None),
            },
            DocumentAction::Replace { old, identifiers, fingerprint } => {
                let Some(replaced) = live(old) else { return Err(Outcome::not_found("The document")) };
                // The same replacement again: its answer was lost on the way.
                let again = identifiers.iter().filter_map(live).find(|d| d.fingerprint == *fingerprint);
                match again {
                    Some(document) => Ok(Some(reply(store, known, document))),
                    None if replaced.fingerprint == *fingerprint => Ok(Some(reply(store, known, replaced))),
                    None => Ok(None),
                }
            }
            DocumentAction::Remove { identifier } => match live(identifier) {
                Some(_) => Ok(None),
                None => Err(Outcome::not_found("The document")),
            },
        }
    }

    /// Deletes what the replaced or removed document owns.
    pub fn remove_old(&self, store: &Store, known: &Known, columns: &mut Columns) {
        let (DocumentAction::Replace { old, .. } | DocumentAction::Remove { identifier: old }) = self else { return };
        let Some(document) = known.documents.get(old) else { return };
        for member in &document.members {
            let Some(row) = known.rows.get(&member.self_hash) else { continue };
            let is_shared = SHARED_TYPES.contains(&store.registry.name_of(row.type_number));
            if !is_shared && row.state() != State::Deleted {
                columns.delete(&store.registry, row);
            }
        }
    }
}

fn reply(store: &Store, known: &Known, document: &KnownDocument) -> UnitReply {
    let applied = document.members.iter().filter_map(|m| known.rows.get(&m.self_hash)).map(|row| Applied {
        effect: Effect::Matched,
        type_number: row.type_number,
        id: row.id.clone(),
        version: row.version,
        updated: row.updated,
        kept: store.bodies.decompress(row.dictionary, &row.body).ok(),
    });
    UnitReply { applied: applied.collect(), is_known_document: true }
}

/// The documents that the units name, with their members' hashes.
pub async fn read(store: &Store, conn: &mut PgConnection, units: &[Unit]) -> Result<HashMap<String, KnownDocument>, sqlx::Error> {
    let identifiers: Vec<&String> = units.iter().filter_map(|u| u.document.as_ref()).flat_map(|d| d.identifiers()).collect();
    if identifiers.is_empty() {
        return Ok(HashMap::new());
    }
    find(store, conn, &identifiers).await
}

/// The documents of these identifiers.
pub async fn find(store: &Store, conn: &mut PgConnection, identifiers: &[&String]) -> Result<HashMap<String, KnownDocument>, sqlx::Error> {
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
    let members: Vec<(i64, i16, String)> = sqlx::query_as("select rid, type, id from resource where rid = any($1)").bind(rids).fetch_all(conn).await?;
    let hashes: HashMap<i64, i64> = members.into_iter().map(|(rid, t, id)| (rid, self_hash(store.registry.name_of(t), &id))).collect();
    let known = documents.into_iter().map(|(identifier, id, fingerprint, state, rids)| {
        let members = rids.into_iter().filter_map(|rid| hashes.get(&rid).map(|h| KnownMember { rid, self_hash: *h })).collect();
        (identifier, KnownDocument { id, fingerprint, state: State::from_number(state), members })
    });
    Ok(known.collect())
}

/// Records what an action did.
pub async fn store(conn: &mut PgConnection, action: &DocumentAction, members: &[i64], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if let DocumentAction::Replace { old, .. } | DocumentAction::Remove { identifier: old } = action {
        sqlx::query("update document set state = 1, updated = $2 where id = (select document from document_identifier where identifier = $1)")
            .bind(old)
            .bind(now)
            .execute(&mut *conn)
            .await?;
    }
    let (DocumentAction::Register { identifiers, fingerprint } | DocumentAction::Replace { identifiers, fingerprint, .. }) = action else { return Ok(()) };
    sqlx::query(
        "with new as (
             insert into document (fingerprint, state, updated, members, origin) values ($1, 0, $2, $3, $5) returning id
         )
         insert into document_identifier (identifier, document)
         select identifier, new.id from new, unnest($4::text[]) identifier
         on conflict (identifier) do update set document = excluded.document",
    )
    .bind(fingerprint)
    .bind(now)
    .bind(members)
    .bind(identifiers)
    .bind(identifiers.iter().find_map(|identifier| regions::of_document(identifier)))
    .execute(conn)
    .await?;
    Ok(())
}
