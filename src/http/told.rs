//! What the OpenAPI document says of a method: it stands beside the handler in the table of routes.

/// One method of an address.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// FHIR's name of the interaction where it has one; unique.
    pub id: &'static str,
    pub summary: &'static str,
    pub query: Query,
    /// Names of [`HEADERS`].
    pub headers: &'static [&'static str],
    pub takes: Takes,
    /// The statuses of success, and what comes with each.
    pub gives: &'static [(u16, Gives)],
}

/// The parameters of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    None,
    /// Those named here.
    Only(&'static [&'static str]),
    /// Search parameters, and those that shape the answer.
    Search,
    /// Search parameters alone, and those named here.
    Criteria(&'static [&'static str]),
}

/// The body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Resource,
    Bundle,
    Patch,
    /// Search parameters in a form.
    Form,
    /// JSON of this schema of the document.
    Json(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    Nothing,
    /// A resource of the type, or of the one named.
    Resource,
    Of(&'static str),
    /// JSON of this schema of the document.
    Json(&'static str),
}

/// Headers of requests, and what they say.
pub const HEADERS: &[(&str, &str)] = &[
    ("If-Match", "The version that is changed, as W/\"2\": 412 if there is another"),
    (
        "If-None-Match",
        "Of a read: 304 if the version is this one. Of an update: * asks that there is none yet",
    ),
    (
        "If-Modified-Since",
        "304 if the resource has not been changed since; it counts without If-None-Match",
    ),
    (
        "If-None-Exist",
        "Search parameters: nothing is created if there is a match, which is answered instead",
    ),
    (
        "Prefer",
        "return=minimal, representation or OperationOutcome; handling=strict or lenient of searches",
    ),
    (
        "X-Provenance",
        "A Provenance in JSON without target, which is stored with what is written",
    ),
    ("X-Cascade", "delete: what refers to it is deleted too"),
    ("X-Referrers", "stay: it is deleted whatever refers to it"),
    ("x-callback-url", "Where the outcome is sent"),
];

impl Told {
    pub const fn new(id: &'static str, summary: &'static str, gives: &'static [(u16, Gives)]) -> Told {
        Told {
            id,
            summary,
            query: Query::None,
            headers: &[],
            takes: Takes::Nothing,
            gives,
        }
    }

    pub const fn query(self, query: Query) -> Told {
        Told { query, ..self }
    }

    pub const fn headers(self, headers: &'static [&'static str]) -> Told {
        Told { headers, ..self }
    }

    pub const fn takes(self, takes: Takes) -> Told {
        Told { takes, ..self }
    }
}
