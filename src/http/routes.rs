//! The table of routes: each address, its methods, their handlers, and what the OpenAPI document says of them. Where operations are is the table
//! of `interaction::operation`.

use crate::http::eds;
use crate::http::fhir;
use crate::http::method_not_allowed;
use crate::http::methods::Address;
use crate::http::methods::Method;
use crate::http::methods::delete;
use crate::http::methods::get;
use crate::http::methods::patch;
use crate::http::methods::post;
use crate::http::methods::put;
use crate::http::openapi;
use crate::http::patch as patching;
use crate::http::regions;
use crate::http::told::Gives;
use crate::http::told::Query;
use crate::http::told::Takes;
use crate::http::told::Told;
use crate::search::parse::AS_OF;

const READ: &[(u16, Gives)] = &[(200, Gives::Resource)];
const CREATED: &[(u16, Gives)] = &[(201, Gives::Resource), (200, Gives::Resource)];
const CHANGED: &[(u16, Gives)] = &[(200, Gives::Resource)];
const DELETED: &[(u16, Gives)] = &[(204, Gives::Nothing), (200, Gives::Of("OperationOutcome"))];
const FOUND: &[(u16, Gives)] = &[(200, Gives::Of("Bundle"))];
const ACCEPTED: &[(u16, Gives)] = &[(200, Gives::Json("Accepted"))];
const NO_CONTENT: &[(u16, Gives)] = &[(204, Gives::Nothing)];

const HISTORY: Query = Query::Only(&["_since", "_at", "_sort", "_count", "_cursor"]);
const WRITE: &[&str] = &["If-Match", "If-None-Match", "Prefer", "X-Provenance"];
const PATCH: &[&str] = &["If-Match", "Prefer", "X-Provenance"];
const DELETE: &[&str] = &["If-Match", "Prefer", "X-Cascade", "X-Referrers", "X-Provenance"];

/// Below `/fhir`. Fixed names stand before the patterns that would take them.
pub fn fhir() -> Vec<Address> {
    vec![
        fhir_at("", system()),
        fhir_at("/", system()),
        fhir_at(
            "/_search",
            vec![post(
                search_by_post("search-system-post", "A search on several types, by a form"),
                fhir::search_system_by_post,
            )],
        ),
        fhir_at(
            "/metadata",
            vec![get(
                Told::new("capabilities", "What this server does", &[(200, Gives::Of("CapabilityStatement"))]),
                fhir::metadata,
            )],
        ),
        fhir_at(
            "/_history",
            vec![get(
                history("history-system", "The versions of all resources"),
                fhir::system_history,
            )],
        ),
        fhir_at(
            "/{type}/_search",
            vec![post(
                search_by_post("search-type-post", "A search on the type, by a form"),
                fhir::search_by_post,
            )],
        ),
        fhir_at(
            "/{type}/_history",
            vec![get(
                history("history-type", "The versions of all resources of the type"),
                fhir::type_history,
            )],
        ),
        fhir_at(
            "/{type}/{id}/_history/{version}",
            vec![get(Told::new("vread", "A version of the resource", READ), fhir::vread)],
        ),
        fhir_at(
            "/{type}/{id}/_history",
            vec![get(
                history("history-instance", "The versions of the resource"),
                fhir::instance_history,
            )],
        ),
        fhir_at(
            "/{compartment}/{id}/{type}/_search",
            vec![post(
                search_by_post("search-compartment-post", "A search within a compartment, by a form"),
                fhir::search_compartment_by_post,
            )],
        ),
        fhir_at(
            "/{compartment}/{id}/{type}",
            vec![get(
                search("search-compartment", "A search within a compartment"),
                fhir::search_compartment,
            )],
        ),
        fhir_at(
            "/{type}/{id}",
            vec![
                get(
                    Told::new("read", "The resource as it is, or as it was (_asOf)", READ)
                        .query(Query::Only(&[AS_OF]))
                        .headers(&["If-None-Match", "If-Modified-Since"]),
                    fhir::read,
                ),
                put(
                    Told::new("update", "Changes the resource, or creates it with this id", CREATED)
                        .headers(WRITE)
                        .takes(Takes::Resource),
                    fhir::update,
                ),
                patch(
                    Told::new("patch", "Changes parts of the resource", CHANGED)
                        .headers(PATCH)
                        .takes(Takes::Patch),
                    patching::patch,
                ),
                delete(
                    Told::new("delete", "Deletes the resource", DELETED)
                        .query(Query::Only(&["_cascade"]))
                        .headers(DELETE),
                    fhir::delete,
                ),
            ],
        ),
        fhir_at(
            "/{type}",
            vec![
                get(search("search-type", "A search on the type"), fhir::search),
                post(
                    Told::new("create", "Creates a resource with an id of the server's choice", CREATED)
                        .headers(&["If-None-Exist", "Prefer", "X-Provenance"])
                        .takes(Takes::Resource),
                    fhir::create,
                ),
                put(
                    Told::new(
                        "conditional-update",
                        "Changes the one resource that the criteria find, or creates one",
                        CREATED,
                    )
                    .query(Query::Criteria(&[]))
                    .headers(WRITE)
                    .takes(Takes::Resource),
                    fhir::conditional_update,
                ),
                patch(
                    Told::new(
                        "conditional-patch",
                        "Changes parts of the one resource that the criteria find",
                        CHANGED,
                    )
                    .query(Query::Criteria(&[]))
                    .headers(PATCH)
                    .takes(Takes::Patch),
                    patching::conditional_patch,
                ),
                delete(
                    Told::new("conditional-delete", "Deletes what the criteria find", DELETED)
                        .query(Query::Criteria(&["_count", "_cascade"]))
                        .headers(DELETE),
                    fhir::conditional_delete,
                ),
            ],
        ),
    ]
}

/// The EDS ingestion API, below `/v1`.
pub fn eds() -> Vec<Address> {
    const DOCUMENT: Takes = Takes::Json("Document");
    const CALLBACK: &[&str] = &["x-callback-url"];
    const CREATED: &[(u16, Gives)] = &[(201, Gives::Json("Accepted"))];
    vec![
        eds_at(
            "/document/workflowinstanceid/{wii}",
            vec![
                post(
                    Told::new("create-document", "A new document, carried out later", CREATED)
                        .headers(CALLBACK)
                        .takes(DOCUMENT),
                    eds::create_document,
                ),
                put(
                    Told::new(
                        "replace-document",
                        "A document instead of the one with this identifier, later",
                        ACCEPTED,
                    )
                    .headers(CALLBACK)
                    .takes(DOCUMENT),
                    eds::replace_document,
                ),
            ],
        ),
        eds_at(
            "/document/metadata",
            vec![put(
                Told::new("update-metadata", "Changes the metadata of a document", ACCEPTED).takes(DOCUMENT),
                eds::update_metadata,
            )],
        ),
        eds_at(
            "/document/identifier/{identifier}",
            vec![delete(
                Told::new("delete-document", "Deletes a document", ACCEPTED),
                eds::delete_document,
            )],
        ),
        eds_at(
            "/status/{wii}",
            vec![get(
                Told::new(
                    "workflow-status",
                    "How the latest operation of a workflow stands",
                    &[(200, Gives::Json("WorkflowStatus"))],
                ),
                eds::workflow_status,
            )],
        ),
    ]
}

/// Health, this document, the registry of assistance and the regions.
pub fn others() -> Vec<Address> {
    vec![
        eds_at(
            "/status",
            vec![get(
                Told::new("health", "Whether the server can work", &[(200, Gives::Json("Health"))]),
                eds::health,
            )],
        ),
        fhir_at(
            "/openapi.json",
            vec![get(
                Told::new(
                    "openapi",
                    "This document; with type, what it says of one type, with all its search parameters",
                    &[(200, Gives::Json("OpenApi"))],
                )
                .query(Query::Only(&["type"])),
                openapi::openapi,
            )],
        ),
        fhir_at(
            "/rda/{identifier}",
            vec![
                put(
                    Told::new("set-assistance", "Notes the region that assists a citizen", NO_CONTENT).takes(Takes::Json("Assistance")),
                    regions::put_rda,
                ),
                get(
                    Told::new(
                        "assistance",
                        "The region that assists a citizen",
                        &[(200, Gives::Json("Assistance"))],
                    ),
                    regions::get_rda,
                ),
                delete(
                    Told::new("clear-assistance", "Forgets the region that assists a citizen", NO_CONTENT),
                    regions::delete_rda,
                ),
            ],
        ),
        fhir_at(
            "/regions/{code}/parked/$retry",
            vec![post(
                Told::new(
                    "retry-parked",
                    "Sends once more what a region has refused",
                    &[(200, Gives::Json("Retried"))],
                ),
                regions::retry_parked,
            )],
        ),
        fhir_at(
            "/regions",
            vec![get(
                Told::new("regions", "Where each region stands", &[(200, Gives::Json("Regions"))]),
                regions::regions,
            )],
        ),
    ]
}

/// The base itself: a Bundle to carry out, or a search on several types.
fn system() -> Vec<Method> {
    vec![
        get(search("search-system", "A search on several types"), fhir::search_system),
        post(
            Told::new(
                "transaction",
                "Carries out a Bundle: a transaction as one, a batch entry by entry",
                FOUND,
            )
            .headers(&["Prefer", "X-Provenance", "X-Cascade", "X-Referrers"])
            .takes(Takes::Bundle),
            fhir::transaction,
        ),
    ]
}

const fn search(id: &'static str, summary: &'static str) -> Told {
    Told::new(id, summary, FOUND).query(Query::Search).headers(&["Prefer"])
}

const fn search_by_post(id: &'static str, summary: &'static str) -> Told {
    search(id, summary).takes(Takes::Form)
}

const fn history(id: &'static str, summary: &'static str) -> Told {
    Told::new(id, summary, FOUND).query(HISTORY)
}

/// Refusals are OperationOutcomes.
fn fhir_at(path: &'static str, methods: Vec<Method>) -> Address {
    Address {
        path,
        methods,
        refusal: method_not_allowed,
    }
}

/// Refusals are problem+json.
fn eds_at(path: &'static str, methods: Vec<Method>) -> Address {
    Address {
        path,
        methods,
        refusal: eds::method_not_allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::get::Get;

    #[test]
    fn an_entry_of_a_bundle_reads_by_get_what_each_address_reads() {
        for address in fhir() {
            let path = address.path.trim_start_matches('/');
            let get = address.methods.iter().find(|method| method.name() == "GET");
            let read = Get::of(path).map(|get| get.name()).ok();
            assert_eq!(read, get.map(|method| method.told.id), "{}", address.path);
        }
    }
}
