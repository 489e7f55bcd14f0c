//! `$expunge`: past versions and deleted resources are erased for good. It is HAPI's operation, with its parameters.
//!
//! `expungeEverything` is not supported: what is there is deleted first, so that regions learn of it. docs/api/operations.md says what stays.

use crate::fhir::identity::check_id;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::operation::Call;
use crate::interaction::operation::input::Input;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::store::expunge;
use crate::store::expunge::Wanted;

pub const PARAMETERS: &[&str] = &["limit", "expungeDeletedResources", "expungePreviousVersions", "expungeEverything"];

/// Versions and resources that one call erases when it does not say how many, as in HAPI; and at most: some tenths of a second, in which the
/// feed waits.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

pub async fn expunge(service: &Service, call: &Call<'_>, input: &Input<'_>) -> Result<Reply, Outcome> {
    if input.flag("expungeEverything")? {
        let text = "expungeEverything is not supported: delete what is to go, so that the regions learn of it, and ask with expungeDeletedResources";
        return Err(Outcome::not_supported(text));
    }
    let limit = input.number("limit", 1)?.unwrap_or(LIMIT_DEFAULT);
    if limit > LIMIT_MAX {
        return Err(Outcome::invalid(format!("limit is at most {LIMIT_MAX} (LIMIT_MAX): ask again for more")).with_code("too-costly"));
    }
    let mut wanted = Wanted {
        rid: None,
        type_number: call.type_name.map(|name| service.type_number(name)).transpose()?,
        previous_versions: input.flag("expungePreviousVersions")?,
        deleted_resources: input.flag("expungeDeletedResources")?,
        limit: limit as i64,
    };
    if !wanted.previous_versions && !wanted.deleted_resources {
        let text = "$expunge needs expungePreviousVersions or expungeDeletedResources, or both";
        return Err(Outcome::invalid(text).with_code("required"));
    }
    if call.id.is_some() {
        let (type_name, id) = call.instance()?;
        check_id(id)?;
        let row = service.reader.row_with_history(type_name, id).await?;
        if row.state() != State::Deleted && !wanted.previous_versions {
            return Err(Outcome::conflict("The resource is not deleted: delete it first"));
        }
        wanted.rid = Some(row.rid);
    }
    let count = expunge::expunge(&service.store, wanted).await?;
    tracing::info!(count, "expunged");
    Ok(Reply::with_body(format!(
        "{{\"resourceType\":\"Parameters\",\"parameter\":[{{\"name\":\"count\",\"valueInteger\":{count}}}]}}"
    )))
}
