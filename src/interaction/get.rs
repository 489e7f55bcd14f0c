//! What GET reads below the base. A request and an entry of a Bundle name it by the same address, and have the same answer.
//! Spec: <https://hl7.org/fhir/R4/http.html#general>.

use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::history;
use crate::interaction::operation;
use crate::interaction::read;
use crate::interaction::search;
use crate::interaction::search::Scope;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::search::parse::Handling;

#[derive(Debug, Clone, Copy)]
pub enum Get<'p> {
    Capabilities,
    Read(&'p str, &'p str),
    /// Type, id, version.
    Vread(&'p str, &'p str, &'p str),
    Search(Scope<'p>),
    HistoryInstance(&'p str, &'p str),
    HistoryType(&'p str),
    HistorySystem,
    Operation {
        type_name: Option<&'p str>,
        id: Option<&'p str>,
        name: &'p str,
    },
}

impl<'p> Get<'p> {
    /// What an address below the base names; the table of routes has the same, and a test holds them together. Errors: 404; 405 for what is asked by POST
    /// alone.
    pub fn of(path: &'p str) -> Result<Get<'p>, Outcome> {
        let parts: Vec<&str> = path.split('/').collect();
        if let Some((name, of)) = parts.split_last()
            && let Some(name) = name.strip_prefix('$')
        {
            return match *of {
                [] => Ok(Get::operation(None, None, name)),
                [type_name] => Ok(Get::operation(Some(type_name), None, name)),
                [type_name, id] => Ok(Get::operation(Some(type_name), Some(id), name)),
                [_, _, "_history", _] => Err(operation::of_version(name)),
                _ => Err(nothing()),
            };
        }
        match *parts.as_slice() {
            [""] => Ok(Get::Search(Scope::System)),
            ["metadata"] => Ok(Get::Capabilities),
            ["_history"] => Ok(Get::HistorySystem),
            ["_search"] | [_, "_search"] | [_, _, _, "_search"] => {
                let text = "_search is asked by POST; GET has its parameters in the URL of the type";
                Err(Outcome::new(Category::MethodNotAllowed, "not-supported", text))
            }
            [type_name] => Ok(Get::Search(Scope::Type(type_name))),
            [type_name, "_history"] => Ok(Get::HistoryType(type_name)),
            [type_name, id] => Ok(Get::Read(type_name, id)),
            [type_name, id, "_history"] => Ok(Get::HistoryInstance(type_name, id)),
            [type_name, id, "_history", version] => Ok(Get::Vread(type_name, id, version)),
            [code, id, type_name] => Ok(Get::Search(Scope::Compartment { code, id, type_name })),
            _ => Err(nothing()),
        }
    }

    fn operation(type_name: Option<&'p str>, id: Option<&'p str>, name: &'p str) -> Get<'p> {
        Get::Operation { type_name, id, name }
    }

    /// FHIR's name of the interaction, as the table of routes has it.
    pub fn name(&self) -> &'static str {
        match self {
            Get::Capabilities => "capabilities",
            Get::Read(..) => "read",
            Get::Vread(..) => "vread",
            Get::Search(Scope::System) => "search-system",
            Get::Search(Scope::Type(_)) => "search-type",
            Get::Search(Scope::Compartment { .. }) => "search-compartment",
            Get::HistoryInstance(..) => "history-instance",
            Get::HistoryType(_) => "history-type",
            Get::HistorySystem => "history-system",
            Get::Operation { .. } => "operation",
        }
    }

    /// The one resource that it is asked of: type and id.
    pub fn instance(&self) -> Option<(&'p str, &'p str)> {
        match *self {
            Get::Read(type_name, id) | Get::Vread(type_name, id, _) | Get::HistoryInstance(type_name, id) => Some((type_name, id)),
            Get::Search(Scope::Compartment { code, id, .. }) => Some((code, id)),
            Get::Operation { type_name, id, .. } => type_name.zip(id),
            _ => None,
        }
    }

    /// It may read much: a search, a history, an operation.
    pub fn is_broad(&self) -> bool {
        !matches!(self, Get::Capabilities | Get::Read(..) | Get::Vread(..))
    }

    /// Errors: those of the interaction.
    pub async fn answer(&self, service: &Service, base: &str, query: &str, handling: Handling) -> Result<Reply, Outcome> {
        match *self {
            Get::Capabilities => Ok(Reply::with_body(service.capability.now(service).replace("{base}", base))),
            Get::Read(type_name, id) => read::read(service, type_name, id, query).await,
            Get::Vread(type_name, id, version) => read::vread(service, type_name, id, version).await,
            Get::Search(scope) => search::search(service, base, scope, query, handling).await,
            Get::HistoryInstance(type_name, id) => history::instance(service, base, type_name, id, query).await,
            Get::HistoryType(type_name) => history::changes(service, base, Some(type_name), query).await,
            Get::HistorySystem => history::changes(service, base, None, query).await,
            Get::Operation { type_name, id, name } => operation::by_get(service, base, (type_name, id), name, query).await,
        }
    }
}

/// 404: an address that names nothing.
pub fn nothing() -> Outcome {
    let text = "There is nothing at this address; FHIR is under /fhir, its description at /fhir/metadata";
    Outcome::new(Category::NotFound, "not-found", text)
}
