//! FHIR delete, its conditional form for one or several matches, and with it what refers to what is deleted.
//!
//! `_count` and `_cascade` are no parameters of R4: the first is Microsoft's, the second (and the header X-Cascade) HAPI's.
//! Spec: <https://hl7.org/fhir/R4/http.html#delete>, <https://hl7.org/fhir/R4/http.html#3.1.0.7.1>.

use crate::fhir::identity::check_id;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::bounded_pairs;
use crate::interaction::criteria::criteria_of;
use crate::interaction::write::reply_of;
use crate::outcome::Issue;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::store::unit::Applied;
use crate::store::unit::NewId;
use crate::store::unit::Op;
use crate::store::unit::Precondition;
use crate::store::unit::Referrers;
use crate::store::unit::Target;

/// Settings of `config/default.toml`, sections `delete` and `integrity`.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A criterion may match several resources though the client does not say so.
    pub is_multiple: bool,
    pub matches_max: usize,
    pub cascade_max: usize,
    /// What others refer to is not deleted.
    pub refuses_referrers: bool,
}

/// What a client asks of a deletion beside its target.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    pub precondition: Precondition,
    pub referrers: Asked,
}

/// What a client asks for those that refer to what it deletes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// As the server is set.
    #[default]
    AsSet,
    /// They are deleted with it.
    Cascade,
    /// They stay, and it is deleted: for who mirrors another repository, whose feed deletes in its own order.
    Stay,
}

/// A value of X-Cascade or `_cascade`. Errors: 400 for what is neither yes nor no.
pub fn cascade(value: &str) -> Result<Asked, Outcome> {
    // HAPI's clients may add a number of rounds: ours are bounded by the number of resources.
    match value.split(';').next().unwrap_or("").trim() {
        "delete" | "true" => Ok(Asked::Cascade),
        "none" | "false" => Ok(Asked::AsSet),
        _ => Err(Outcome::invalid("X-Cascade and _cascade are delete or none").with_code("value")),
    }
}

/// `DELETE [type]/[id]`; `query` may hold `_cascade`. Errors: 409 when others refer to it; 412 for If-Match.
pub async fn delete(service: &Service, type_name: &str, id: &str, query: &str, wish: Wish) -> Result<Reply, Outcome> {
    apply(service, by_id(service, type_name, id, query, wish)?).await
}

/// `DELETE [type]?[criteria]`: the one match, or with `_count` or by setting all. Errors: 412 for more matches; 409 as [`delete`].
pub async fn conditional_delete(service: &Service, type_name: &str, query: &str, wish: Wish) -> Result<Reply, Outcome> {
    apply(service, by_criteria(service, type_name, query, wish)?).await
}

/// The operation, and whether its answer tells how many were deleted.
pub struct Deletion {
    pub op: Op,
    pub tells_count: bool,
}

pub fn by_id(service: &Service, type_name: &str, id: &str, query: &str, mut wish: Wish) -> Result<Deletion, Outcome> {
    let type_number = service.type_number(type_name)?;
    check_id(id)?;
    for (name, value) in bounded_pairs(service, query)? {
        match name.as_str() {
            "_cascade" => wish.referrers = cascade(&value)?,
            "_format" | "_pretty" => {}
            other => {
                return Err(Outcome::not_supported(format!(
                    "A delete by id has no parameter {}: it has _cascade",
                    crate::search::value::shown(other)
                )));
            }
        }
    }
    Ok(Deletion {
        tells_count: wish.referrers == Asked::Cascade,
        op: Op::Delete {
            type_number,
            target: Target::Id(id.to_owned()),
            precondition: wish.precondition,
            referrers: referrers(service, &wish),
        },
    })
}

pub fn by_criteria(service: &Service, type_name: &str, query: &str, mut wish: Wish) -> Result<Deletion, Outcome> {
    let type_number = service.type_number(type_name)?;
    let rules = &service.delete_rules;
    let mut matches_max = if rules.is_multiple { rules.matches_max } else { 1 };
    let mut tells_count = rules.is_multiple;
    let mut criteria = Vec::new();
    for (name, value) in bounded_pairs(service, query)? {
        match name.as_str() {
            "_cascade" => wish.referrers = cascade(&value)?,
            "_count" => {
                let count = value.parse().ok().filter(|count| (1..=rules.matches_max).contains(count));
                matches_max = count.ok_or_else(|| {
                    let text = format!("_count is from 1 to {} (delete.matches_max)", rules.matches_max);
                    Outcome::invalid(text).with_code("value")
                })?;
                tells_count = true;
            }
            "_format" | "_pretty" => {}
            _ => criteria.push((name, value)),
        }
    }
    let mut criteria = criteria_of(service, type_name, &criteria, None)?;
    criteria.matches_max = matches_max;
    Ok(Deletion {
        tells_count: tells_count || wish.referrers == Asked::Cascade,
        op: Op::Delete {
            type_number,
            target: Target::Matching(criteria, NewId::Free(String::new())),
            precondition: wish.precondition,
            referrers: referrers(service, &wish),
        },
    })
}

fn referrers(service: &Service, wish: &Wish) -> Referrers {
    match (wish.referrers, service.delete_rules.refuses_referrers) {
        (Asked::Cascade, _) => Referrers::Cascade(service.delete_rules.cascade_max),
        (Asked::AsSet, true) => Referrers::Refuse,
        (Asked::AsSet, false) | (Asked::Stay, _) => Referrers::Stay,
    }
}

async fn apply(service: &Service, deletion: Deletion) -> Result<Reply, Outcome> {
    let mut reply = service.writer.apply(service.unit(deletion.op)).await?;
    let applied = reply.applied.pop().ok_or_else(|| Outcome::internal("a unit without a result"))?;
    Ok(told(reply_of(service, &applied), &applied, deletion.tells_count))
}

/// The reply to a deletion, with what it has done as a remark. One that tells how many there were is no 204, and answers the remark.
pub fn told(reply: Reply, applied: &Applied, tells_count: bool) -> Reply {
    let text = match applied.deleted {
        0 => "There was nothing to delete".to_owned(),
        1 => "1 resource was deleted".to_owned(),
        count => format!("{count} resources were deleted"),
    };
    let issue = Issue {
        severity: Severity::Information,
        code: "informational",
        expression: String::new(),
        text,
    };
    let remarks = vec![issue];
    if !tells_count {
        return Reply { remarks, ..reply };
    }
    Reply {
        status: 200,
        // Of several resources no version is that of the answer.
        version: None,
        updated: None,
        remarks,
        ..reply
    }
}
