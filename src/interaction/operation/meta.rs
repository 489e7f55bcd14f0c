//! `$meta`, `$meta-add` and `$meta-delete`: the profiles, security labels and tags of a resource, or in use.
//!
//! R4 lets these change a resource without a version. Here each change is one: history, feed and regions learn of it, and a reader who
//! holds the version before cannot overwrite it unawares.
//! Spec: <https://hl7.org/fhir/R4/resource-operation-meta.html>, <https://hl7.org/fhir/R4/resource-operation-meta-add.html>,
//! <https://hl7.org/fhir/R4/resource-operation-meta-delete.html>.

use crate::fhir::identity::check_id;
use crate::fhir::json::Document;
use crate::fhir::json::Value;
use crate::fhir::meta;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::operation::Call;
use crate::interaction::operation::input::Input;
use crate::interaction::write as writing;
use crate::outcome::Category;
use crate::outcome::Outcome;
use crate::store::labels;
use crate::store::rows::Row;
use crate::store::unit::Precondition;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// How often a change is tried anew because another came between: each turn takes another writer's commit.
const ATTEMPTS_MAX: usize = 20;
/// Rows whose labels are read before others that the thread answers have their turn.
const ROWS_AT_ONCE: usize = 32;

/// `[type]/[id]/$meta`.
pub async fn of_instance(service: &Service, call: &Call<'_>) -> Result<Reply, Outcome> {
    let (type_name, id) = call.instance()?;
    check_id(id)?;
    let row = service.reader.read(service.policy, type_name, id).await?;
    answer(&service.resource(&row)?)
}

/// `[type]/$meta`, and `$meta` of all types: the labels of the resources that can be seen, each once. Codings without a system or without a code are none
/// of the vocabulary: they are told if the resource that stands for another label has them. Errors: 404, 400 naming the setting for too many.
pub async fn of_all(service: &Service, type_name: Option<&str>) -> Result<Reply, Outcome> {
    let registry = service.store.registry();
    let names: Vec<&str> = match type_name {
        Some(name) => vec![name],
        None => registry.definitions.resource_types().iter().map(String::as_str).collect(),
    };
    let (mut codings, mut profiles, mut types) = (Vec::new(), Vec::new(), HashMap::new());
    for of in names.iter().filter_map(|name| registry.of(name)) {
        let keys = |code: &str| of.get(code).map(|parameter| parameter.keys.as_slice()).unwrap_or_default();
        codings.extend([keys("_tag"), keys("_security")].concat());
        profiles.extend_from_slice(keys("_profile"));
        types.extend(
            [keys("_tag"), keys("_security"), keys("_profile")]
                .concat()
                .iter()
                .map(|key| (*key, of.number)),
        );
    }
    let max = service.operations.meta_labels_max;
    let ever_used = labels::ever_used(&service.store, &codings, &profiles, max).await?;
    if ever_used.len() > max {
        let text = format!(
            "More profiles, security labels and tags were used than are looked at: at most {max} (operation.meta_labels_max){}",
            if type_name.is_none() { "; ask [type]/$meta" } else { "" }
        );
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    let rows = labels::bearers(&service.store, service.policy, &ever_used, &types).await?;
    let mut found: [BTreeMap<String, String>; meta::LISTS.len()] = Default::default();
    for (i, row) in rows.iter().enumerate() {
        if i % ROWS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        let text = row.to_json(&registry, &service.store.bodies)?;
        let document = stored(&text)?;
        let Some(of_row) = document.root().get("meta") else { continue };
        for (name, found) in meta::LISTS.iter().zip(&mut found) {
            for label in of_row.get(name).iter().flat_map(Value::items).filter(|label| !label.is_null()) {
                found.entry(meta::identity(label)).or_insert_with(|| label.raw().to_owned());
            }
        }
    }
    let lists = meta::LISTS.iter().zip(&found).filter(|(_, labels)| !labels.is_empty());
    let lists: Vec<String> = lists
        .map(|(name, labels)| format!("\"{name}\":[{}]", labels.values().map(String::as_str).collect::<Vec<_>>().join(",")))
        .collect();
    Ok(Reply::with_body(parameters(&format!("{{{}}}", lists.join(",")))))
}

/// `[type]/[id]/$meta-add` and `$meta-delete`. Errors: 400, 404, 410, 412 when If-Match does not hold, 422 when the resource does not follow
/// what it would claim then.
pub async fn change(service: &Service, call: &Call<'_>, input: &Input<'_>, change: meta::Change) -> Result<Reply, Outcome> {
    let (type_name, id) = call.instance()?;
    check_id(id)?;
    let given = input.object("meta")?;
    for _ in 0..ATTEMPTS_MAX {
        let row = service.reader.read(service.policy, type_name, id).await?;
        check_version(&row, call.precondition)?;
        let current = service.resource(&row)?;
        let Some(text) = changed(&current, given, change)? else {
            return answer(&current);
        };
        match writing::update(service, type_name, id, text.as_bytes(), Precondition::Version(row.version)).await {
            // Another writer came between, or deleted it: what is there now decides.
            Err(outcome) if outcome.category == Category::PreconditionFailed => {}
            Err(outcome) => return Err(outcome),
            Ok(reply) => return answer(&reply),
        }
    }
    Err(Outcome::unavailable(format!(
        "Others came before each of {ATTEMPTS_MAX} attempts to change this resource (ATTEMPTS_MAX); try again"
    )))
}

fn check_version(row: &Row, precondition: Precondition) -> Result<(), Outcome> {
    match precondition {
        Precondition::Version(wanted) if wanted != row.version => Err(Outcome::precondition(format!(
            "The current version is not {wanted}: read it again and repeat the change"
        ))),
        _ => Ok(()),
    }
}

fn changed(current: &Reply, given: Value<'_>, change: meta::Change) -> Result<Option<String>, Outcome> {
    let text = current.body.as_deref().unwrap_or_default();
    Ok(meta::with_labels(stored(text)?.root(), given, change))
}

pub fn stored(text: &str) -> Result<Document<'_>, Outcome> {
    Document::parse_str(text).map_err(|e| Outcome::internal(format!("a stored body does not parse: {e}")))
}

/// The meta of a resource, as Parameters.
fn answer(resource: &Reply) -> Result<Reply, Outcome> {
    let text = resource.body.as_deref().unwrap_or_default();
    let document = stored(text)?;
    let meta = document.root().get("meta").map_or("{}", |meta| meta.raw());
    Ok(Reply {
        version: resource.version,
        updated: resource.updated,
        ..Reply::with_body(parameters(meta))
    })
}

pub fn parameters(meta: &str) -> String {
    format!("{{\"resourceType\":\"Parameters\",\"parameter\":[{{\"name\":\"return\",\"valueMeta\":{meta}}}]}}")
}
