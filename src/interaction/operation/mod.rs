//! FHIR operations: `$name` on the repository, on a type, or on a resource. The table here is what routes and what the CapabilityStatement lists.
//! Spec: <https://hl7.org/fhir/R4/operations.html>.

pub mod diff;
pub mod document;
pub mod everything;
pub mod expunge;
pub mod gather;
pub mod input;
pub mod lastn;
pub mod meta;
pub mod search_parameter;

use crate::fhir::json::Document;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::operation::input::Input;
use crate::interaction::pairs;
use crate::interaction::parse_json;
use crate::interaction::write as writing;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::search::value::shown;
use crate::store::unit::Precondition;
use crate::store::unit::SEARCH_PARAMETER;

/// What an operation is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    System,
    Type,
    Instance,
}

/// Which types have it, where it is asked of a type or a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Types {
    All,
    Only(&'static [&'static str]),
}

/// One operation at one level.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Without the `$`.
    pub name: &'static str,
    /// Canonical URL of its OperationDefinition.
    pub definition: &'static str,
    pub level: Level,
    pub types: Types,
    /// Then it is asked by POST alone: <https://hl7.org/fhir/R4/operations.html#executing-operations>.
    pub affects_state: bool,
    /// GET cannot ask it, because what it is asked with is a resource.
    pub needs_body: bool,
    /// The parameters that it has; `None`: the search parameters of the type too.
    pub parameters: Option<&'static [&'static str]>,
    pub run: Run,
}

/// What carries it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    Validate,
    /// `delivery` has it: the feed is none of this layer.
    Changes,
    Meta,
    MetaAdd,
    MetaDelete,
    Diff,
    Everything,
    LastN,
    Document,
    /// An administrator's: only where the settings allow it.
    Expunge,
    Status,
    Pause,
    Resume,
    Reindex,
}

const fn reads(name: &'static str, definition: &'static str, level: Level, parameters: &'static [&'static str], run: Run) -> Operation {
    Operation {
        name,
        definition,
        level,
        types: Types::All,
        affects_state: false,
        needs_body: false,
        parameters: Some(parameters),
        run,
    }
}

const fn changes(name: &'static str, definition: &'static str, level: Level, parameters: &'static [&'static str], run: Run) -> Operation {
    Operation {
        affects_state: true,
        ..reads(name, definition, level, parameters, run)
    }
}

const VALIDATE: &str = "http://hl7.org/fhir/OperationDefinition/Resource-validate";
const META: &str = "http://hl7.org/fhir/OperationDefinition/Resource-meta";
const META_ADD: &str = "http://hl7.org/fhir/OperationDefinition/Resource-meta-add";
const META_DELETE: &str = "http://hl7.org/fhir/OperationDefinition/Resource-meta-delete";
/// The specification has none: docs/api/operations.md says what these do.
const DIFF: &str = "https://w3id.org/eds/fhir/OperationDefinition/diff";
const CHANGES: &str = "https://w3id.org/eds/fhir/OperationDefinition/changes";

const PATIENT_EVERYTHING: &str = "http://hl7.org/fhir/OperationDefinition/Patient-everything";
const ENCOUNTER_EVERYTHING: &str = "http://hl7.org/fhir/OperationDefinition/Encounter-everything";
const LASTN: &str = "http://hl7.org/fhir/OperationDefinition/Observation-lastn";

const fn everything(definition: &'static str, level: Level, types: &'static [&'static str]) -> Operation {
    Operation {
        types: Types::Only(types),
        ..reads(
            "everything",
            definition,
            level,
            &["start", "end", "_since", "_type", "_count", "_cursor"],
            Run::Everything,
        )
    }
}

const fn validate(level: Level) -> Operation {
    Operation {
        needs_body: true,
        ..reads("validate", VALIDATE, level, &["resource", "profile"], Run::Validate)
    }
}

const DOCUMENT: &str = "http://hl7.org/fhir/OperationDefinition/Composition-document";
const EXPUNGE: &str = "https://w3id.org/eds/fhir/OperationDefinition/expunge";

const fn document(level: Level, parameters: &'static [&'static str]) -> Operation {
    Operation {
        types: Types::Only(&["Composition"]),
        ..reads("document", DOCUMENT, level, parameters, Run::Document)
    }
}

const fn expunge(level: Level) -> Operation {
    changes("expunge", EXPUNGE, level, expunge::PARAMETERS, Run::Expunge)
}

/// What the settings say of operations: `config/default.toml`, section `operation`.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub document_entries_max: usize,
    pub meta_labels_max: usize,
    /// `$expunge` is allowed.
    pub expunge: bool,
}

/// Nor these: docs/search-parameters.md.
const STATUS: &str = "https://w3id.org/eds/fhir/OperationDefinition/search-parameter-status";
const PAUSE: &str = "https://w3id.org/eds/fhir/OperationDefinition/search-parameter-pause";
const RESUME: &str = "https://w3id.org/eds/fhir/OperationDefinition/search-parameter-resume";
const REINDEX: &str = "https://w3id.org/eds/fhir/OperationDefinition/search-parameter-reindex";

const fn of_search_parameter(operation: Operation) -> Operation {
    Operation {
        types: Types::Only(&[SEARCH_PARAMETER]),
        ..operation
    }
}

/// Every operation at every level that it has.
pub const OPERATIONS: &[Operation] = &[
    validate(Level::Type),
    validate(Level::Instance),
    reads(
        "changes",
        CHANGES,
        Level::System,
        &["region", "epoch", "after", "_count"],
        Run::Changes,
    ),
    reads("meta", META, Level::System, &[], Run::Meta),
    reads("meta", META, Level::Type, &[], Run::Meta),
    reads("meta", META, Level::Instance, &[], Run::Meta),
    changes("meta-add", META_ADD, Level::Instance, &["meta"], Run::MetaAdd),
    changes("meta-delete", META_DELETE, Level::Instance, &["meta"], Run::MetaDelete),
    reads("diff", DIFF, Level::System, &["from", "to", "includeMeta"], Run::Diff),
    reads("diff", DIFF, Level::Instance, &["fromVersion", "includeMeta"], Run::Diff),
    everything(PATIENT_EVERYTHING, Level::Type, &["Patient"]),
    everything(PATIENT_EVERYTHING, Level::Instance, &["Patient"]),
    everything(ENCOUNTER_EVERYTHING, Level::Instance, &["Encounter"]),
    Operation {
        types: Types::Only(&["Observation"]),
        parameters: None,
        ..reads("lastn", LASTN, Level::Type, &[], Run::LastN)
    },
    document(Level::Type, &["id", "persist", "graph"]),
    document(Level::Instance, &["persist", "graph"]),
    expunge(Level::System),
    expunge(Level::Type),
    expunge(Level::Instance),
    of_search_parameter(reads("status", STATUS, Level::Instance, &[], Run::Status)),
    of_search_parameter(changes("pause", PAUSE, Level::Instance, &[], Run::Pause)),
    of_search_parameter(changes("resume", RESUME, Level::Instance, &[], Run::Resume)),
    of_search_parameter(changes("reindex", REINDEX, Level::Instance, &[], Run::Reindex)),
];

/// Operations that clients know from elsewhere and that this server does not have: what there is instead.
const ABSENT: &[(&str, &str)] = &[(
    "graphql",
    "GraphQL is not supported: search with _include, _revinclude and _elements gives the same data",
)];

/// What is asked, and of what.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    pub base: &'c str,
    /// Without the `$`.
    pub name: &'c str,
    pub type_name: Option<&'c str>,
    pub id: Option<&'c str>,
    pub is_post: bool,
    pub query: &'c str,
    /// JSON, or empty.
    pub body: &'c [u8],
    pub precondition: Precondition,
}

impl Call<'_> {
    fn level(&self) -> Level {
        match (self.type_name, self.id) {
            (None, _) => Level::System,
            (Some(_), None) => Level::Type,
            (Some(_), Some(_)) => Level::Instance,
        }
    }

    /// The type and the id. Errors: 500 for a call that the table does not let through.
    fn instance(&self) -> Result<(&str, &str), Outcome> {
        self.type_name
            .zip(self.id)
            .ok_or_else(|| Outcome::internal("an operation on a resource without one"))
    }

    /// `Type/id/$name`, below the base.
    pub fn path(&self) -> String {
        let parts = [self.type_name, self.id].into_iter().flatten();
        parts.map(|part| format!("{part}/")).collect::<String>() + "$" + self.name
    }
}

impl Operation {
    pub fn has(&self, type_name: Option<&str>) -> bool {
        match (type_name, self.types) {
            (None, _) | (_, Types::All) => true,
            (Some(type_name), Types::Only(types)) => types.contains(&type_name),
        }
    }

    pub fn is_allowed(&self, service: &Service) -> bool {
        self.run != Run::Expunge || service.operations.expunge
    }

    /// Where it is, with `[type]` and `[id]`.
    pub fn places(&self) -> Vec<String> {
        let types: &[&str] = match self.types {
            Types::All => &["[type]"],
            Types::Only(types) => types,
        };
        match self.level {
            Level::System => vec![format!("/${}", self.name)],
            Level::Type => types.iter().map(|t| format!("/{t}/${}", self.name)).collect(),
            Level::Instance => types.iter().map(|t| format!("/{t}/[id]/${}", self.name)).collect(),
        }
    }
}

/// The operations of a level that a type has and that are allowed; for the CapabilityStatement. Each name once.
pub fn of_level(service: &Service, levels: &[Level], type_name: Option<&str>) -> Vec<&'static Operation> {
    let mut found: Vec<&Operation> = Vec::new();
    let is_here = |o: &&Operation| levels.contains(&o.level) && o.has(type_name) && o.is_allowed(service);
    for operation in OPERATIONS.iter().filter(is_here) {
        if found.iter().all(|known| known.name != operation.name) {
            found.push(operation);
        }
    }
    found
}

/// The operation that is called. Errors: 404 for a name that is none, or a type that is none; 400 for another place than it has; 405 for GET where
/// only POST may ask; 403 for what the settings do not allow.
pub fn find(service: &Service, call: &Call<'_>) -> Result<&'static Operation, Outcome> {
    if let Some(type_name) = call.type_name {
        service.type_number(type_name)?;
    }
    let named: Vec<&Operation> = OPERATIONS.iter().filter(|o| o.name == call.name).collect();
    if named.is_empty() {
        return Err(unknown(call.name));
    }
    let (level, type_name) = (call.level(), call.type_name);
    let Some(operation) = named.iter().find(|o| o.level == level && o.has(type_name)) else {
        let places: Vec<String> = named.iter().flat_map(|o| o.places()).collect();
        let text = format!("${} cannot be asked here: it is at {}", call.name, places.join(", "));
        return Err(Outcome::not_supported(text));
    };
    if !call.is_post && (operation.affects_state || operation.needs_body) {
        let text = format!("${} is asked by POST", call.name);
        return Err(Outcome::new(Category::MethodNotAllowed, "not-supported", text));
    }
    if !operation.is_allowed(service) {
        let text = format!(
            "${} is an administrator's, and not allowed on this server (operation.expunge)",
            call.name
        );
        return Err(Outcome::new(Category::Forbidden, "forbidden", text));
    }
    Ok(operation)
}

fn unknown(name: &str) -> Outcome {
    let text = match ABSENT.iter().find(|(absent, _)| *absent == name) {
        Some((_, instead)) => (*instead).to_owned(),
        None => {
            let mut names: Vec<String> = OPERATIONS.iter().map(|o| format!("${}", o.name)).collect();
            names.sort();
            names.dedup();
            format!("${} is no operation of this server: it has {}", shown(name), names.join(", "))
        }
    };
    Outcome::new(Category::NotFound, "not-supported", text)
}

/// Carries out an operation that [`find`] has found. Errors: its own; 400 for parameters that it does not have.
pub async fn carry_out(service: &Service, operation: &Operation, call: &Call<'_>) -> Result<Reply, Outcome> {
    if operation.run == Run::Validate {
        let profile = pairs(call.query).into_iter().find(|(name, _)| name == "profile");
        let type_name = call.type_name.unwrap_or_default();
        return writing::validate(service, type_name, call.body, profile.as_ref().map(|(_, url)| url.as_str()));
    }
    let document = body(call)?;
    let input = Input::read(service, operation, call.query, document.as_ref().map(|document| document.root()))?;
    match operation.run {
        Run::Meta => match call.id {
            Some(_) => meta::of_instance(service, call).await,
            None => meta::of_all(service, call.type_name).await,
        },
        Run::MetaAdd => meta::change(service, call, &input, crate::fhir::meta::Change::Add).await,
        Run::MetaDelete => meta::change(service, call, &input, crate::fhir::meta::Change::Remove).await,
        Run::Diff => diff::diff(service, call, &input).await,
        Run::Everything => match call.id {
            Some(_) => everything::of_resource(service, call, &input).await,
            None => everything::of_all(service, call, &input).await,
        },
        Run::Document => document::document(service, call, &input).await,
        Run::Expunge => expunge::expunge(service, call, &input).await,
        Run::LastN => lastn::lastn(service, call, &input).await,
        Run::Status => search_parameter::status(service, call.instance()?.1).await,
        Run::Pause => search_parameter::pause(service, call.instance()?.1, true).await,
        Run::Resume => search_parameter::pause(service, call.instance()?.1, false).await,
        Run::Reindex => search_parameter::reindex(service, call.instance()?.1).await,
        Run::Validate | Run::Changes => Err(Outcome::internal("an operation of another layer")),
    }
}

/// An operation as an entry of a Bundle: `GET Patient/1/$everything`. Errors: as those of [`find`] and [`carry_out`]; 400 for the feed, which is none of
/// this layer.
pub async fn by_get(
    service: &Service,
    base: &str,
    (type_name, id): (Option<&str>, Option<&str>),
    name: &str,
    query: &str,
) -> Result<Reply, Outcome> {
    let call = Call {
        base,
        name,
        type_name,
        id,
        is_post: false,
        query,
        body: &[],
        precondition: Precondition::None,
    };
    let operation = find(service, &call)?;
    if operation.run == Run::Changes {
        return Err(Outcome::not_supported("$changes is asked by itself, not in a Bundle"));
    }
    carry_out(service, operation, &call).await
}

/// 400: an operation that is asked of a version.
pub fn of_version(name: &str) -> Outcome {
    Outcome::not_supported(format!(
        "${} cannot be asked of a version that is past: operations are asked of a resource as it is",
        shown(name)
    ))
}

/// The path of an operation, and no resource or type.
pub fn is_operation(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| last.starts_with('$'))
}

/// The parameters of an operation that another layer carries out. Errors: 400 for those that it does not have.
pub fn simple(service: &Service, operation: &Operation, call: &Call<'_>) -> Result<Vec<(String, String)>, Outcome> {
    let document = body(call)?;
    let input = Input::read(service, operation, call.query, document.as_ref().map(|document| document.root()))?;
    Ok(input.simple)
}

fn body<'c>(call: &Call<'c>) -> Result<Option<Document<'c>>, Outcome> {
    match call.body {
        [] => Ok(None),
        body => parse_json(body).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_stands_once_at_each_level_and_has_a_definition() {
        for (i, operation) in OPERATIONS.iter().enumerate() {
            let is_same = |o: &&Operation| match (o.types, operation.types) {
                (Types::Only(a), Types::Only(b)) => a.iter().any(|t| b.contains(t)),
                _ => true,
            };
            let same = OPERATIONS
                .iter()
                .filter(|o| o.name == operation.name && o.level == operation.level)
                .filter(is_same);
            assert_eq!(same.count(), 1, "{i} {}", operation.name);
            assert!(operation.definition.starts_with("http"));
            assert!(ABSENT.iter().all(|(absent, _)| *absent != operation.name));
        }
    }
}
