//! Documents: which resources came with which clinical document, so that it can be recognised, replaced, deleted and obscured as one.
//!
//! A document is known by every identifier it came with: that of its Composition (the CDA's id) and the master identifier of the ingestion API.
//! What a unit does to its document is decided here, on what is known; `document_rows` reads and writes it.

use crate::fhir::identity::hash;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::store::columns::Member;
use crate::store::rows::Row;
use crate::store::unit::Applied;
use crate::store::unit::Effect;
use crate::store::unit::Known;
use crate::store::unit::UnitReply;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::HashSet;

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
    /// A hidden document that comes again from someone who must not learn that it is here: what came takes its place, as hidden as it was.
    ReplaceHidden {
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
    /// Members that were here before and are of no patient: of these the document owns what another has brought.
    pub found: Vec<i64>,
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
            DocumentAction::Register { identifiers, .. } | DocumentAction::ReplaceHidden { identifiers, .. } => (None, identifiers),
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
    pub fn old(&self) -> Option<&String> {
        match self {
            DocumentAction::Register { .. } => None,
            DocumentAction::ReplaceHidden { identifiers, .. } => identifiers.first(),
            DocumentAction::Replace { old, .. } => Some(old),
            DocumentAction::Remove { identifier } | DocumentAction::Withdraw { identifier } | DocumentAction::Restore { identifier } => {
                Some(identifier)
            }
        }
    }

    /// What the action means on the documents that are known: who does not feed the repository through the ingestion API sends a hidden
    /// document as a new one.
    pub fn as_meant(&self, known: &Known, is_of_feeder: bool) -> Cow<'_, DocumentAction> {
        match self {
            DocumentAction::Register { identifiers, fingerprint } if !is_of_feeder && is_hidden(&known.documents, identifiers) => {
                Cow::Owned(DocumentAction::ReplaceHidden {
                    identifiers: identifiers.clone(),
                    fingerprint: fingerprint.clone(),
                })
            }
            other => Cow::Borrowed(other),
        }
    }

    /// The document and the reply when nothing is left to do: the same document is here. Errors: 409 when another content came under the
    /// same identifier; 404 when the document to replace, remove, hide or show is not known.
    pub fn already_here(&self, known: &Known) -> Result<Option<(i64, UnitReply)>, Outcome> {
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
                DocumentAction::ReplaceHidden { .. }
                | DocumentAction::Remove { .. }
                | DocumentAction::Withdraw { .. }
                | DocumentAction::Restore { .. } => None,
            };
        Ok(same.map(|document| (document.id, reply(known, document))))
    }

    /// The new identifiers that no document has, for the document that is here.
    pub fn aliases(&self, known: &Known, document: i64) -> Vec<(String, i64)> {
        let (DocumentAction::Register { identifiers, .. }
        | DocumentAction::Replace { identifiers, .. }
        | DocumentAction::ReplaceHidden { identifiers, .. }) = self
        else {
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

    /// The rows that the replaced or removed document owns, but for those that the unit itself has kept: they are to be deleted.
    pub fn left_behind<'k>(&self, known: &'k Known, kept: &HashSet<i64>) -> Vec<&'k Row> {
        let ends = matches!(
            self,
            DocumentAction::Replace { .. } | DocumentAction::ReplaceHidden { .. } | DocumentAction::Remove { .. }
        );
        let document = self.old().filter(|_| ends).and_then(|old| known.documents.get(old));
        let members = document.into_iter().flat_map(|d| &d.members);
        members
            .filter(|m| m.is_owned && !kept.contains(&m.rid))
            .filter_map(|m| known.rows.get(&m.self_hash))
            .filter(|row| row.state() != State::Deleted)
            .collect()
    }

    /// Row ids of everything that the documents have which the action is about.
    pub fn members(&self, known: &Known) -> Vec<i64> {
        let documents = self.identifiers().filter_map(|identifier| known.documents.get(identifier));
        documents.flat_map(|d| d.members.iter().map(|m| m.rid)).collect()
    }
}

pub fn is_hidden(documents: &HashMap<String, KnownDocument>, identifiers: &[String]) -> bool {
    let document = identifiers.first().and_then(|identifier| documents.get(identifier));
    document.is_some_and(|d| d.state == State::Withdrawn)
}

fn reply(known: &Known, document: &KnownDocument) -> UnitReply {
    let rows = document.members.iter().filter_map(|m| known.rows.get(&m.self_hash));
    let applied = rows.map(|row| match row.state() {
        State::Live => Applied::kept(row, Effect::Matched),
        // Deleted since, or hidden by another document.
        State::Deleted | State::Withdrawn => Applied::absent(row.type_number),
    });
    UnitReply {
        applied: applied.collect(),
        is_known_document: true,
    }
}
