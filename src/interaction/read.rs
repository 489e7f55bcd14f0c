//! FHIR read and vread. Spec: <https://hl7.org/fhir/R4/http.html#read>, <https://hl7.org/fhir/R4/http.html#vread>.

use crate::fhir::identity::check_id;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::as_of;
use crate::outcome::Outcome;
use crate::store::history;

/// `GET [type]/[id]`, also as of an instant. Errors: 404, 410; 400 for an instant that is none.
pub async fn read(service: &Service, type_name: &str, id: &str, query: &str) -> Result<Reply, Outcome> {
    service.type_number(type_name)?;
    check_id(id)?;
    let row = match as_of::of_read(service, query).await? {
        None => service.reader.read(service.policy, type_name, id).await?,
        Some(before) => {
            let current = service.reader.row_with_history(type_name, id).await?;
            history::version_before(&service.store, current, before).await?
        }
    };
    service.resource(&row)
}

/// `GET [type]/[id]/_history/[version]`. Errors: 404, 410.
pub async fn vread(service: &Service, type_name: &str, id: &str, version: &str) -> Result<Reply, Outcome> {
    service.type_number(type_name)?;
    check_id(id)?;
    let version: i32 = version
        .parse()
        .map_err(|_| Outcome::not_found(&format!("{type_name}/{id} in that version")))?;
    let current = service.reader.row_with_history(type_name, id).await?;
    let row = history::version(&service.store, current, version).await?;
    service.resource(&row)
}
