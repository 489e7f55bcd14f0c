//! `Observation/$lastn`: the newest observations of each code, for one patient or several.
//!
//! Two observations are of one group if their patient is the same and the first coding of their code, system and code; without a coding, if the
//! words are the same. The newest is the one that begins last by its effective time; what has none is the oldest.
//! Spec: <https://hl7.org/fhir/R4/observation-operation-lastn.html>.

use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::operation::Call;
use crate::interaction::operation::gather::Text;
use crate::interaction::operation::input::Input;
use crate::interaction::search::lookup::look_up;
use crate::outcome::Outcome;
use crate::search::contained::Asked;
use crate::search::density::Plan;
use crate::search::lastn;
use crate::search::parse::Handling;
use crate::search::parse::Parser;
use crate::store::compartment;
use crate::store::database_error;
use crate::store::read;
use std::fmt::Write;

pub async fn lastn(service: &Service, call: &Call<'_>, input: &Input<'_>) -> Result<Reply, Outcome> {
    let max = input.number("max", 1)?.unwrap_or(1);
    let mut pairs = input.simple.clone();
    pairs.retain(|(name, _)| name != "max");
    let is_subject = |name: &str| ["patient", "subject"].contains(&name.split([':', '.']).next().unwrap_or_default());
    if !pairs.iter().any(|(name, _)| is_subject(name)) {
        let text = "$lastn needs a subject: the search parameter patient or subject";
        return Err(Outcome::invalid(text).with_code("required"));
    }
    if !service.store.density().is_index_current {
        return Err(Outcome::unavailable(
            "The index was made by an older version of this server, and does not group observations yet: run eds reindex",
        ));
    }
    let registry = service.store.registry();
    let parser = Parser {
        registry: &registry,
        limits: &service.limits,
        handling: Handling::Strict,
        base: call.base,
        now: service.store.clock.now(),
        is_past: false,
        contained: Asked::default(),
    };
    let condition = look_up(service, None, parser.criteria("Observation", &pairs)?).await?;
    let (driver, rest) = service.store.density().driver(&condition);
    let limit = service.limits.page_entries_max;
    let sql = lastn::newest(service.policy, &driver, &rest, max, limit + 1);
    let rids = read::numbers(&service.store, Plan::Gather, sql).await?;
    if rids.len() > limit {
        let text =
            format!("The answer would have more than {limit} observations (search.page_entries_max): ask for fewer codes or a smaller max");
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    let rows = compartment::by_rids(&service.store, service.policy, &rids)
        .await
        .map_err(database_error)?;
    let mut parameters = form_urlencoded::Serializer::new(String::new());
    parameters.extend_pairs(input.simple.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut out = format!(
        "{{\"resourceType\":\"Bundle\",\"id\":\"{}\",\"type\":\"searchset\",\"total\":{},\"link\":[{{\"relation\":\"self\",\"url\":\"{}/{}?{}\"}}]",
        service.store.clock.new_id(),
        rows.len(),
        call.base,
        call.path(),
        parameters.finish()
    );
    for (i, row) in rows.iter().enumerate() {
        let text = Text::of(service, row)?;
        let separator = if i == 0 { ",\"entry\":[" } else { "," };
        let _ = write!(
            out,
            "{separator}{{\"fullUrl\":\"{}/Observation/{}\",\"resource\":{},\"search\":{{\"mode\":\"match\"}}}}",
            call.base, text.id, text.json
        );
    }
    out.push_str(if rows.is_empty() { "}" } else { "]}" });
    Ok(Reply::with_body(out))
}
