//! `$diff`: what makes one version of a resource of another, or one resource of another of its type, as a FHIRPath Patch.
//! It is HAPI's operation, with its parameters. Spec of the form: <https://hl7.org/fhir/R4/fhirpatch.html>.

use crate::fhir::difference;
use crate::fhir::identity::check_id;
use crate::fhir::identity::is_id;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::operation::Call;
use crate::interaction::operation::input::Input;
use crate::interaction::operation::meta::stored;
use crate::interaction::read::vread;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::store::history;

pub async fn diff(service: &Service, call: &Call<'_>, input: &Input<'_>) -> Result<Reply, Outcome> {
    let without: &[&str] = if input.flag("includeMeta")? { &[] } else { &["meta"] };
    let (type_name, from, to) = match call.id {
        Some(_) => versions(service, call, input).await?,
        None => resources(service, call.base, input).await?,
    };
    let to = stored(&to)?;
    let text = match &from {
        Some(from) => difference::patch(
            service.store.registry().definitions,
            &type_name,
            stored(from)?.root(),
            to.root(),
            without,
        ),
        None => difference::whole(&type_name, to.root()),
    };
    Ok(Reply::with_body(text))
}

type Pair = (String, Option<String>, String);

/// `[type]/[id]/$diff`: the current version, and the one before it or the one that is named. Versions that are hidden are none.
async fn versions(service: &Service, call: &Call<'_>, input: &Input<'_>) -> Result<Pair, Outcome> {
    let (type_name, id) = call.instance()?;
    check_id(id)?;
    let current = service.reader.read(service.policy, type_name, id).await?;
    let to = text(&service.resource(&current)?);
    let from = match input.text("fromVersion")? {
        Some(version) => Some(text(&vread(service, type_name, id, version).await?)),
        None => {
            let before = i64::from(current.version);
            let older = history::instance(&service.store, &current, &history::Range::newest(Some(before), 2)).await?;
            // Of a resource that was deleted in between, the version before that.
            let whole = older.iter().find(|entry| entry.row.state() != State::Deleted);
            whole
                .map(|entry| service.resource(&entry.row))
                .transpose()?
                .map(|reply| text(&reply))
        }
    };
    Ok((type_name.to_owned(), from, to))
}

/// `$diff?from=[type]/[id]&to=[type]/[id]`, each with or without `/_history/[version]`.
async fn resources(service: &Service, base: &str, input: &Input<'_>) -> Result<Pair, Outcome> {
    let (from_type, from) = resource(service, base, input, "from").await?;
    let (to_type, to) = resource(service, base, input, "to").await?;
    if from_type != to_type {
        return Err(Outcome::invalid("$diff compares resources of one type: from and to name two").with_code("value"));
    }
    Ok((from_type, Some(from), to))
}

async fn resource(service: &Service, base: &str, input: &Input<'_>, name: &str) -> Result<(String, String), Outcome> {
    let reference = input.text(name)?.ok_or_else(|| input.required(name))?;
    let relative = reference.strip_prefix(base).unwrap_or(reference).trim_start_matches('/');
    let parts: Vec<&str> = relative.split('/').collect();
    let (type_name, reply) = match parts.as_slice() {
        [type_name, id] if is_id(id) => (type_name, crate::interaction::read::read(service, type_name, id, "").await?),
        [type_name, id, "_history", version] if is_id(id) => (type_name, vread(service, type_name, id, version).await?),
        _ => {
            let text = format!("{name} is [type]/[id] or [type]/[id]/_history/[version] of this server");
            return Err(Outcome::invalid(text).with_code("value"));
        }
    };
    Ok(((*type_name).to_owned(), text(&reply)))
}

fn text(reply: &Reply) -> String {
    reply.body.clone().unwrap_or_default()
}
