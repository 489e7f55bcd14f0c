//! What the specification leaves to a server, row by row, and what this one does. Each row names the tests that hold it to its word, and the rows of
//! search a request that the tests send.

/// One capability.
#[derive(Debug)]
pub struct Row {
    pub what: &'static str,
    pub is_here: Answer,
    /// A request below the base whose answer is 200 if it is here, or a word on it.
    pub remark: &'static str,
    /// `tests/api/[name].rs`; empty for what is not here.
    pub tests: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Yes,
    Partly,
    No,
}

const fn yes(what: &'static str, remark: &'static str, tests: &'static str) -> Row {
    Row {
        what,
        is_here: Answer::Yes,
        remark,
        tests,
    }
}

const fn partly(what: &'static str, remark: &'static str, tests: &'static str) -> Row {
    Row {
        is_here: Answer::Partly,
        ..yes(what, remark, tests)
    }
}

const fn no(what: &'static str, remark: &'static str) -> Row {
    Row {
        is_here: Answer::No,
        ..yes(what, remark, "")
    }
}

pub const REST: &[Row] = &[
    yes("read, vread", "also as of an instant (`_asOf`)", "crud"),
    yes("history of an instance", "`_since`, `_at`, `_sort`, `_count`", "history"),
    yes("history of a type", "the same", "history"),
    yes("history of the system", "the same", "history"),
    yes(
        "deletion of history",
        "`$expunge`, where `operation.expunge` allows it",
        "operations_expunge",
    ),
    yes("update as create", "`PUT` with an id of the client's choice", "crud"),
    yes("conditional create", "`If-None-Exist`", "conditional"),
    yes("conditional update", "`PUT [type]?[criteria]`", "conditional"),
    yes("conditional patch", "`PATCH [type]?[criteria]`", "patch"),
    yes(
        "conditional delete",
        "of one match; of several with `_count`, or by setting",
        "delete",
    ),
    yes("JSON Patch", "`application/json-patch+json`", "patch"),
    yes("FHIRPath Patch", "a Parameters resource", "patch"),
    yes("batch", "`POST` of a Bundle", "batch"),
    yes(
        "reads in a batch or transaction",
        "whatever GET reads: searches, histories, operations; `ifNoneMatch`",
        "bundle_reads",
    ),
    yes("transaction", "one database transaction", "transaction"),
    yes(
        "conditional references in a transaction",
        "`Patient?identifier=...` as a reference",
        "transaction",
    ),
    yes("links between entries", "`urn:uuid:` and other fullUrls", "transaction"),
    yes("XML", "`application/fhir+xml`, lossless with JSON", "xml"),
    yes("ETag, If-Match", "412 for another version", "conditional"),
    yes("conditional read", "`If-None-Match`, `If-Modified-Since`", "conditional"),
    yes("Prefer: return=", "minimal, representation, OperationOutcome", "negotiation"),
    yes("Prefer: handling=", "strict (the default), lenient", "negotiation"),
    yes(
        "integrity of references: on delete",
        "409, or a cascade; `integrity.on_delete`",
        "delete",
    ),
    yes(
        "integrity of references: on write",
        "422 where `integrity.on_write` says so",
        "references_on_write",
    ),
    yes("X-Provenance", "stored in the transaction of the write", "provenance"),
    yes(
        "references to versions",
        "kept as sent, followed as references to the resource",
        "references",
    ),
];

pub const SEARCH: &[Row] = &[
    yes(
        "number, date, string, token, reference, quantity, URI",
        "GET /Observation?value-quantity=5.4%7Chttp://unitsofmeasure.org%7Cmg",
        "search_values",
    ),
    yes("composite", "GET /Observation?code-value-quantity=8480-6$gt120", "search_composite"),
    yes("near", "GET /Location?near=45.46%7C9.19%7C5%7Ckm", "search_near"),
    yes(
        "prefixes eq ne lt gt le ge sa eb ap",
        "GET /Observation?date=sa2024&date=ap2025",
        "search_ranges",
    ),
    yes(":missing", "GET /Patient?gender:missing=true", "search_values"),
    yes(
        ":exact, :contains",
        "GET /Patient?family:contains=oss&family:exact=Rossi",
        "search_values",
    ),
    yes(":not", "GET /Patient?gender:not=male", "search_tokens"),
    yes(
        ":in, :not-in",
        "GET /Patient?gender:in=http://hl7.org/fhir/ValueSet/administrative-gender",
        "search_terminology",
    ),
    yes(
        ":above, :below of tokens",
        "GET /Observation?category:below=http://terminology.hl7.org/CodeSystem/observation-category%7Cvital-signs",
        "search_terminology",
    ),
    yes(
        ":above, :below of references",
        "GET /Encounter?location:below=Location/1",
        "search_hierarchy",
    ),
    yes(
        ":of-type",
        "GET /Patient?identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203%7CMR%7C1",
        "search_tokens",
    ),
    yes(":text of tokens", "GET /Observation?code:text=emoglobina", "search_tokens"),
    yes(":identifier", "GET /Observation?subject:identifier=1", "search_tokens"),
    yes("chains", "GET /Observation?subject:Patient.organization.name=x", "search_links"),
    yes("_has", "GET /Patient?_has:Observation:patient:code=8480-6", "search_holders"),
    yes("_include, _revinclude", "GET /Observation?_include=*&_count=1", "search_results"),
    yes(
        ":iterate",
        "GET /Observation?_include=Observation:patient&_include:iterate=Patient:organization",
        "search_results",
    ),
    yes("_sort by several parameters", "GET /Observation?_sort=-date,code", "search_sort"),
    yes(
        "search.score, _sort=_score",
        "GET /DiagnosticReport?_text=fegato&_sort=-_score",
        "search_text",
    ),
    yes(
        "_sort=near, as HAPI has it",
        "GET /Location?near=45.46%7C9.19%7C5%7Ckm&_sort=near",
        "search_near",
    ),
    yes("_total", "GET /Patient?_total=accurate", "search_results"),
    yes("_summary, _elements", "GET /Patient?_elements=name,birthDate", "search_results"),
    yes("_contained, _containedType", "GET /Medication?_contained=true", "contained"),
    yes("_filter", "GET /Patient?_filter=gender%20eq%20male", "search_filter"),
    yes("_list", "GET /Patient?_list=none", "search_filter"),
    yes("_text", "GET /Patient?_text=rossi", "search_text"),
    partly("_content", "where `search.full_text` says so", "search_text"),
    yes("_query", "named queries of the settings (`search.named_queries`)", "search_filter"),
    yes("search of the system", "GET ?_type=Patient,Practitioner", "search_system"),
    yes("POST _search", "on the system, a type, a compartment", "search_system"),
    yes("search of a compartment", "GET /Patient/none/Observation", "search_links"),
    yes("paging that is stable under writes", "GET /Patient?_count=1", "search_results"),
    yes(
        "SearchParameters of one's own",
        "POST a SearchParameter: docs/search-parameters.md",
        "custom_parameters",
    ),
    yes(
        "index built anew while writes go on",
        "for a SearchParameter in the background (`$status`, `$pause`, `$resume`, `$reindex`); all of it by `eds reindex`",
        "custom_parameters",
    ),
    no("GraphQL", "GET /$graphql"),
];

pub const OPERATIONS: &[Row] = &[
    yes("$validate", "on a type and a resource", "operations"),
    yes("$everything", "of Patients and Encounters", "operations_everything"),
    yes(
        "$meta, $meta-add, $meta-delete",
        "of a resource; `$meta` of a type and of the system too",
        "operations_meta",
    ),
    no("$export", ""),
    no("$import", "`eds import` loads files"),
    no("$member-match", ""),
    no("$docref", ""),
    yes("$lastn", "of Observations", "operations_lastn"),
    no("$stats", ""),
    yes("$diff", "of versions, and of two resources", "operations_diff"),
    yes("$document", "of Compositions", "operations_document"),
    no("$summary of a patient", ""),
    no("terminology ($expand, $lookup ...)", "searches know value sets and hierarchies"),
    partly("deletion in bulk", "conditional delete of several matches", "delete"),
    no("$evaluate-measure", ""),
    no("$match", ""),
    no("ViewDefinition", ""),
];
