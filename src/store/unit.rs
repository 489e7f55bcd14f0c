//! What the write path takes and gives: units of operations, what they rest on, and what became of them.
//!
//! A [`Unit`] is atomic: one create, or a whole transaction Bundle. `store::write` carries it out.
//! Spec: <https://hl7.org/fhir/R4/http.html#transaction>, <https://hl7.org/fhir/R4/http.html#ccreate>, <https://hl7.org/fhir/R4/http.html#concurrency>.

use crate::fhir::identity::hash;
use crate::fhir::identity::self_hash;
use crate::fhir::json::Document;
use crate::fhir::json::Value;
use crate::fhir::resource::Version;
use crate::fhir::resource::assemble;
use crate::fhir::resource::kept_text;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::index::IndexEntry;
use crate::search::index::contained::index_whole;
use crate::search::parameters::Registry;
use crate::store::bodies::Bodies;
use crate::store::document::DocumentAction;
use crate::store::document::KnownDocument;
use crate::store::integrity::References;
use crate::store::rows::Row;
use chrono::DateTime;
use chrono::Utc;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// What a change row says happened: `change.operation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Change {
    Create = 0,
    Update = 1,
    Delete = 2,
    Withdraw = 3,
    Restore = 4,
}

impl Change {
    pub fn from_number(number: i16) -> Change {
        match number {
            0 => Change::Create,
            1 => Change::Update,
            2 => Change::Delete,
            3 => Change::Withdraw,
            _ => Change::Restore,
        }
    }
}

/// A resource ready to be stored.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub type_number: i16,
    pub kept: String,
    pub entry: IndexEntry,
    pub dictionary: i16,
    pub body: Vec<u8>,
    /// See [`Unit::locks`].
    identifier_locks: Vec<i64>,
    /// Of the parameters by which it is indexed.
    generation: i64,
}

/// What the search parameter `identifier` reads of a resource: one identifier or many, and the master identifier of documents.
pub fn identifiers(resource: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    let identifier = resource.get("identifier");
    let one = identifier.filter(Value::is_object);
    let many = identifier.into_iter().flat_map(|value| value.items());
    many.chain(one).chain(resource.get("masterIdentifier"))
}

fn locks_of_identifiers(type_name: &str, resource: Value<'_>) -> Vec<i64> {
    identifiers(resource)
        .filter_map(|identifier| Some(Criteria::lock_of_identifier(type_name, &identifier.get_str("value")?)))
        .collect()
}

impl Prepared {
    pub fn new(registry: &Registry, bodies: &Bodies, type_number: i16, resource: Value<'_>) -> Prepared {
        let parameters = registry.of(registry.name_of(type_number)).expect("the type was looked up before");
        let kept = kept_text(resource);
        let entry = index_whole(registry, parameters, resource);
        let (dictionary, body) = bodies.compress(type_number, &kept);
        Prepared {
            type_number,
            kept,
            entry,
            dictionary,
            body,
            identifier_locks: locks_of_identifiers(registry.name_of(type_number), resource),
            generation: registry.generation(),
        }
    }

    /// The resource as it is kept, as JSON text without what the server says of it.
    pub fn to_json(&self, registry: &Registry) -> String {
        let version = Version {
            type_name: registry.name_of(self.type_number),
            id: "",
            version: 0,
            updated: "",
        };
        let mut json = String::new();
        assemble(&version, &self.kept, &mut json);
        json
    }

    /// The same, indexed by the parameters of this registry. `None`: it is already. Errors: 500 for a text that does not parse.
    pub fn indexed_by(&self, registry: &Registry) -> Result<Option<Prepared>, Outcome> {
        if self.generation == registry.generation() {
            return Ok(None);
        }
        let json = self.to_json(registry);
        let document = Document::parse_str(&json).map_err(|e| Outcome::internal(format!("an accepted text does not parse: {e}")))?;
        let parameters = registry
            .of(registry.name_of(self.type_number))
            .expect("the type was looked up before");
        Ok(Some(Prepared {
            entry: index_whole(registry, parameters, document.root()),
            generation: registry.generation(),
            ..self.clone()
        }))
    }

    /// The terms of its references.
    pub fn references(&self) -> &[i64] {
        let count = usize::try_from(self.entry.reference_terms).unwrap_or(0);
        &self.entry.terms[..count]
    }
}

#[derive(Debug, Clone)]
pub enum Content {
    Ready(Box<Prepared>),
    /// JSON text that refers to other entries of its unit: prepared when their ids are known.
    Open(String),
}

/// The search of a conditional interaction.
#[derive(Debug, Clone)]
pub struct Criteria {
    pub type_number: i16,
    /// At least one. Two criteria that could match the same by their identifiers have one in common; without identifiers, those that are the same.
    pub locks: Vec<i64>,
    pub condition: Condition,
    /// A string that a match must hold: excludes a collision of hashes.
    pub must_hold: Option<String>,
    /// More matches than these are too many.
    pub matches_max: usize,
    /// It may ask by parameters of one's own, of this generation.
    pub custom: Option<i64>,
}

impl Criteria {
    /// The lock of criteria by this identifier value, under whichever system: with and without one they could match the same resource.
    pub fn lock_of_identifier(type_name: &str, value: &str) -> i64 {
        hash(&[type_name, "identifier", value])
    }
}

/// A Provenance without its targets: they are what the unit changes, each in the version that it makes.
#[derive(Debug, Clone)]
pub struct Attestation {
    pub id: String,
    pub text: String,
}

#[derive(Debug, Clone)]
pub enum Target {
    Id(String),
    /// The one match, or a resource with this id.
    Matching(Criteria, NewId),
}

/// The id that a conditional update gives to what it creates.
#[derive(Debug, Clone)]
pub enum NewId {
    /// Of the body: it must be that of the match, if there is one, and may name what was deleted.
    Named(String),
    /// Made for it, and hence free.
    Free(String),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    #[default]
    None,
    /// If-Match
    Version(i32),
    /// If-None-Match: *
    Absent,
    /// The row has this version, withdrawn or not: for the feeding system, that may change what it has obscured.
    Stored(i32),
}

#[derive(Debug, Clone)]
pub enum Op {
    Create {
        type_number: i16,
        id: String,
        content: Content,
        unless: Option<Criteria>,
    },
    Update {
        type_number: i16,
        target: Target,
        content: Content,
        precondition: Precondition,
    },
    /// A change of what is there, made on the locked row: no update is lost.
    Patch {
        type_number: i16,
        target: Target,
        edit: Edit,
        precondition: Precondition,
    },
    Delete {
        type_number: i16,
        target: Target,
        precondition: Precondition,
        referrers: Referrers,
    },
}

/// What becomes of the resources that refer to one that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referrers {
    /// They stay as they are, and their references lead nowhere.
    Stay,
    /// While there is one, nothing is deleted.
    Refuse,
    /// They are deleted too, and what refers to them: so many at most.
    Cascade(usize),
}

type Make = dyn Fn(&str) -> Result<String, Outcome> + Send + Sync;

/// Makes of the text of a resource the text that is to be stored in its place.
#[derive(Clone)]
pub struct Edit {
    pub make: Arc<Make>,
    /// Of the strings that it may bring as identifiers: see [`Unit::locks`].
    pub identifier_locks: Vec<i64>,
    /// Hashes of the resources of this server that it may bring references to.
    pub targets: Vec<i64>,
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Edit")
    }
}

/// Operations that succeed or fail together.
#[derive(Debug, Default, Clone)]
pub struct Unit {
    pub ops: Vec<Op>,
    /// For each operation of a Bundle, its entry there.
    pub entries: Vec<usize>,
    /// fullUrl and the operation that it names.
    pub links: Vec<(String, usize)>,
    /// Conditional references (`Practitioner?identifier=...`) and their searches.
    pub lookups: Vec<(String, Criteria)>,
    /// A Provenance of what the unit changes: stored with it.
    pub provenance: Option<Arc<Attestation>>,
    pub document: Option<DocumentAction>,
    /// The document that the unit brings is obscured. `None`: as the one that it replaces, else not.
    pub is_obscured: Option<bool>,
    /// The waiting operation of the ingestion API that the unit, which has a document, carries out: it ends in the same transaction.
    pub ingestion: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Created,
    Updated,
    /// An update with the content that is there already.
    Unchanged,
    /// A conditional create found a match.
    Matched,
    Deleted,
    /// There was nothing to delete.
    Absent,
}

impl Effect {
    /// As a label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Created => "created",
            Effect::Updated => "updated",
            Effect::Unchanged => "unchanged",
            Effect::Matched => "matched",
            Effect::Deleted => "deleted",
            Effect::Absent => "absent",
        }
    }
}

/// The kept text that an operation leaves behind.
#[derive(Debug, Clone)]
pub enum Left {
    /// Deleted or absent.
    Nothing,
    Text(String),
    /// What was there already, as it is stored.
    Stored {
        dictionary: i16,
        body: Vec<u8>,
    },
}

/// The resource type of search parameters.
pub const SEARCH_PARAMETER: &str = "SearchParameter";

/// What became of one operation.
#[derive(Debug, Clone)]
pub struct Applied {
    pub effect: Effect,
    pub type_number: i16,
    pub id: String,
    pub version: i32,
    pub updated: DateTime<Utc>,
    pub left: Left,
    /// How many resources were deleted.
    pub deleted: usize,
}

impl Applied {
    /// The row is as it was.
    pub fn kept(row: &Row, effect: Effect) -> Applied {
        Applied {
            effect,
            type_number: row.type_number,
            id: row.id.clone(),
            version: row.version,
            updated: row.updated,
            left: match effect {
                Effect::Matched => Left::Stored {
                    dictionary: row.dictionary,
                    body: row.body.clone(),
                },
                _ => Left::Nothing,
            },
            deleted: 0,
        }
    }

    /// There is nothing to delete, and nothing to tell of it.
    pub fn absent(type_number: i16) -> Applied {
        Applied {
            effect: Effect::Absent,
            type_number,
            id: String::new(),
            version: 0,
            updated: DateTime::UNIX_EPOCH,
            left: Left::Nothing,
            deleted: 0,
        }
    }
}

/// What became of one unit.
#[derive(Debug, Clone)]
pub struct UnitReply {
    pub applied: Vec<Applied>,
    /// The unit's document was here already, with the same content: nothing was written.
    pub is_known_document: bool,
}

/// The database's state that the units' decisions rest on.
#[derive(Default)]
pub struct Known {
    /// By self hash; locked.
    pub rows: HashMap<i64, Row>,
    /// Matches of each criterion, by (unit, place): at most one more than it may have.
    pub matches: HashMap<(usize, Place), Vec<i64>>,
    pub documents: HashMap<String, KnownDocument>,
    pub references: References,
    /// Operations of the ingestion API that have not ended; locked.
    pub waiting: HashSet<i64>,
}

/// Where in a unit a criterion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Op(usize),
    Lookup(usize),
}

impl Op {
    pub fn type_number(&self) -> i16 {
        match self {
            Op::Create { type_number, .. }
            | Op::Update { type_number, .. }
            | Op::Patch { type_number, .. }
            | Op::Delete { type_number, .. } => *type_number,
        }
    }

    /// The locks of the identifiers of what it writes.
    fn lock_identifiers(&self, registry: &Registry, locks: &mut Vec<i64>) {
        match self {
            Op::Create { type_number, content, .. } | Op::Update { type_number, content, .. } => match content {
                Content::Ready(prepared) => locks.extend(&prepared.identifier_locks),
                Content::Open(text) => {
                    if let Ok(document) = Document::parse_str(text) {
                        locks.extend(locks_of_identifiers(registry.name_of(*type_number), document.root()));
                    }
                }
            },
            Op::Patch { edit, .. } => locks.extend(&edit.identifier_locks),
            Op::Delete { .. } => {}
        }
    }

    pub fn criteria(&self) -> Option<&Criteria> {
        match self {
            Op::Create { unless, .. } => unless.as_ref(),
            Op::Update {
                target: Target::Matching(criteria, _),
                ..
            }
            | Op::Patch {
                target: Target::Matching(criteria, _),
                ..
            }
            | Op::Delete {
                target: Target::Matching(criteria, _),
                ..
            } => Some(criteria),
            _ => None,
        }
    }
}

impl Unit {
    pub fn single(op: Op) -> Unit {
        Unit {
            ops: vec![op],
            ..Unit::default()
        }
    }

    /// Where an operation stands in the request; `None` for a request that is one operation.
    pub fn place_of(&self, op: usize) -> Option<String> {
        self.entries.get(op).map(|entry| format!("Bundle.entry[{entry}]"))
    }

    /// Every criterion and where it stands.
    pub fn criteria(&self) -> impl Iterator<Item = (Place, &Criteria)> {
        let of_ops = self
            .ops
            .iter()
            .enumerate()
            .filter_map(|(i, op)| op.criteria().map(|c| (Place::Op(i), c)));
        of_ops.chain(self.lookups.iter().enumerate().map(|(i, (_, c))| (Place::Lookup(i), c)))
    }

    /// Hashes of the resources that the unit names by id.
    pub fn hashes(&self, registry: &Registry) -> impl Iterator<Item = i64> {
        self.ops.iter().filter_map(move |op| match op {
            Op::Update { type_number, target, .. } | Op::Patch { type_number, target, .. } | Op::Delete { type_number, target, .. } => {
                match target {
                    Target::Id(id) | Target::Matching(_, NewId::Named(id)) => Some(self_hash(registry.name_of(*type_number), id)),
                    Target::Matching(_, NewId::Free(_)) => None,
                }
            }
            Op::Create { .. } => None,
        })
    }

    /// It writes or deletes SearchParameters: then what the repository is searched by may change with it.
    pub fn may_change_parameters(&self, registry: &Registry) -> bool {
        let number = registry.number_of(SEARCH_PARAMETER);
        self.ops.iter().any(|op| Some(op.type_number()) == number)
    }

    /// The unit comes from the feeding system, through the ingestion API: it knows what it has obscured.
    pub fn is_of_feeder(&self) -> bool {
        self.ingestion.is_some()
    }

    /// What must be locked though it may not exist yet: documents and criteria, and with criteria also the identifiers that the unit brings. Of
    /// two units that each look for what the other brings, one then sees what the other did.
    pub fn locks(&self, registry: &Registry) -> Vec<i64> {
        let mut locks: Vec<i64> = self.criteria().flat_map(|(_, c)| c.locks.iter().copied()).collect();
        if !locks.is_empty() {
            for op in &self.ops {
                op.lock_identifiers(registry, &mut locks);
            }
        }
        locks.extend(self.document.iter().flat_map(DocumentAction::locks));
        locks
    }
}
