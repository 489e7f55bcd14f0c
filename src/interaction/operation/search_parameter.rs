//! `$status`, `$pause`, `$resume` and `$reindex` of a SearchParameter: how far its values are in the index, and whether that goes on.
//! The specification has none: docs/search-parameters.md says what these do. docs/adr/0011-custom-search-parameters.md.

use crate::clock::instant;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::outcome::Outcome;
use crate::store::database_error;
use crate::store::search_parameter;
use crate::store::search_parameter::ParameterRow;
use crate::store::search_parameter::State;
use crate::store::unit::SEARCH_PARAMETER;
use serde_json::json;

/// `GET SearchParameter/[id]/$status`.
pub async fn status(service: &Service, id: &str) -> Result<Reply, Outcome> {
    // One that is leaving is deleted, or may be: its values still are in the index.
    let row = search_parameter::find(&service.store, id).await.map_err(database_error)?;
    if row.is_none() {
        service.reader.read(service.policy, SEARCH_PARAMETER, id).await?;
    }
    Ok(Reply::with_body(told(row.as_ref())))
}

/// `POST SearchParameter/[id]/$pause` and `$resume`. Errors: 409 when there is nothing to pause or to resume.
pub async fn pause(service: &Service, id: &str, is_paused: bool) -> Result<Reply, Outcome> {
    let is_done = search_parameter::pause(&service.store, id, is_paused)
        .await
        .map_err(database_error)?;
    if !is_done {
        let reply = status(service, id).await?;
        let is_so = search_parameter::find(&service.store, id).await.map_err(database_error)?;
        return match is_so.filter(|row| row.is_paused == is_paused && row.is_walked()) {
            // Said twice.
            Some(_) => Ok(reply),
            None => Err(Outcome::conflict(format!(
                "Nothing is being indexed for SearchParameter/{id}; GET SearchParameter/{id}/$status tells how it stands"
            ))),
        };
    }
    status(service, id).await
}

/// `POST SearchParameter/[id]/$reindex`: everything is walked once more; until then it cannot be searched by.
pub async fn reindex(service: &Service, id: &str) -> Result<Reply, Outcome> {
    let store = &service.store;
    let is_done = search_parameter::again(store, id).await.map_err(database_error)?;
    let reply = status(service, id).await?;
    match is_done {
        true => Ok(reply),
        false => Err(Outcome::conflict(format!(
            "SearchParameter/{id} is not in use: nothing is indexed by it"
        ))),
    }
}

fn told(row: Option<&ParameterRow>) -> String {
    let state = match row.map(ParameterRow::state) {
        None => "not-in-use",
        Some(State::Indexing) => "indexing",
        Some(State::Complete) => "complete",
        Some(State::Leaving) => "leaving",
        Some(State::Unusable) => "unusable",
    };
    let mut parameters = vec![json!({"name": "status", "valueCode": state})];
    if let Some(row) = row {
        parameters.push(json!({"name": "code", "valueCode": row.definition.code}));
        parameters.push(json!({"name": "searchable", "valueBoolean": row.state() == State::Complete}));
        if row.is_walked() {
            parameters.push(json!({"name": "percent", "valueInteger": row.percent()}));
            parameters.push(json!({"name": "paused", "valueBoolean": row.is_paused}));
        }
        parameters.push(json!({"name": "started", "valueInstant": instant(row.started)}));
        parameters.push(json!({"name": "updated", "valueInstant": instant(row.updated)}));
    }
    json!({"resourceType": "Parameters", "parameter": parameters}).to_string()
}
