//! What the statistics do not tell is asked for before a plan is chosen: whom a chain leads to, which rows a range has, and which masks lack a parameter.
//!
//! A chain to few targets may lead from very many resources: all of a ward's doctors are ten, and their patients' observations a third of all. With the
//! targets known, the density of the references to them is (docs/adr/0008-plans.md).

use crate::interaction::Service;
use crate::outcome::Outcome;
use crate::search::compile::Compiler;
use crate::search::compile::source::Reads;
use crate::search::condition::Condition;
use crate::search::density::Density;
use crate::search::density::Plan;
use crate::search::parse::Query;
use crate::search::sql::Arg;
use crate::search::term::reference_terms;
use crate::store::read;
use chrono::DateTime;
use chrono::Utc;
use std::future::Future;
use std::pin::Pin;

/// Targets that are looked for by their terms. More are looked up from the rows that reference them, one by one.
const TARGETS_MAX: usize = 1_000;

/// Rows of a range that are read at once, to find what they refer to.
const ROWS_MAX: usize = 20_000;

type Probed<'a> = Pin<Box<dyn Future<Output = Result<Condition, Outcome>> + 'a>>;

/// The condition as it is planned best: the same resources satisfy it.
pub async fn probe(service: &Service, query: &Query, condition: Condition) -> Result<Condition, Outcome> {
    let condition = links(service, query.as_of, condition).await?;
    // Masks are those of resources as they are now.
    if query.as_of.is_some() || query.contained.is_contained() || !service.store.density().is_dense(&condition) {
        return Ok(condition);
    }
    masks(service, condition).await
}

/// Chains with their targets in their place, if these are few.
fn links(service: &Service, as_of: Option<DateTime<Utc>>, condition: Condition) -> Probed<'_> {
    Box::pin(async move {
        Ok(match condition {
            Condition::All(conditions) => Condition::All(each(service, as_of, conditions).await?),
            Condition::Any(conditions) => Condition::any(each(service, as_of, conditions).await?),
            Condition::Not(inner) => Condition::negated(links(service, as_of, *inner).await?),
            Condition::Has(salts, inner) => {
                let inner = links(service, as_of, *inner).await?;
                Condition::Has(salts, Box::new(ranges(service, as_of, inner).await?))
            }
            Condition::Chain(salts, inner) => {
                let inner = links(service, as_of, *inner).await?;
                let Some(targets) = targets(service, as_of, &inner).await? else {
                    return Ok(Condition::Chain(salts, Box::new(inner)));
                };
                match targets.len() {
                    0 => Condition::nothing(),
                    1..=TARGETS_MAX => Condition::Terms(reference_terms(&salts, &targets)),
                    _ => Condition::LeadsTo(salts, Box::new(inner)),
                }
            }
            other => other,
        })
    })
}

async fn each(service: &Service, as_of: Option<DateTime<Utc>>, conditions: Vec<Condition>) -> Result<Vec<Condition>, Outcome> {
    let mut probed = Vec::with_capacity(conditions.len());
    for condition in conditions {
        probed.push(links(service, as_of, condition).await?);
    }
    Ok(probed)
}

/// A condition with a range in it, of which the statistics tell nothing: with its rows in its place, if they are few.
async fn ranges(service: &Service, as_of: Option<DateTime<Utc>>, condition: Condition) -> Result<Condition, Outcome> {
    let density = service.store.density();
    if as_of.is_some() || !density.is_dense(&condition) || !condition.has_range() {
        return Ok(condition);
    }
    let asked = match Density::split_quantity(&condition) {
        // Its own index tells whether they are few.
        Some((quantity, rest)) => {
            let rows = read::rids_of_quantity(&service.store, quantity, ROWS_MAX + 1).await?;
            if rows.len() > ROWS_MAX {
                return Ok(condition);
            }
            Condition::All(vec![Condition::Rows(rows), rest])
        }
        None => density.walked(&condition, false),
    };
    let sql = Compiler::new(service.policy, None).select("rid", &asked, ROWS_MAX + 1);
    let rows = read::numbers(&service.store, Plan::Walk, sql).await?;
    Ok(match rows.len() {
        0 => Condition::nothing(),
        1..=ROWS_MAX => Condition::Rows(rows),
        _ => condition,
    })
}

/// Hashes of what a chain leads to, contained resources among them: one more than the limit, at most. `None` if there are many as the statistics say.
async fn targets(service: &Service, as_of: Option<DateTime<Utc>>, condition: &Condition) -> Result<Option<Vec<i64>>, Outcome> {
    let density = service.store.density();
    let (plan, driver, rest) = match density.is_dense(condition) {
        false => {
            let (driver, rest) = density.driver(condition);
            (Plan::Gather, driver, rest)
        }
        true if condition.has_range() => (Plan::Walk, density.walked(condition, false), Condition::All(Vec::new())),
        true => return Ok(None),
    };
    let mut compiler = Compiler::new(service.policy, as_of);
    compiler.sql.push("select m.self_hash");
    compiler.fenced("m", &driver, |_, _| {}, &rest);
    if as_of.is_none() {
        compiler.read_from(Reads::Linked);
        compiler.sql.push(" union all select m.self_hash");
        compiler.fenced("m", &driver, |_, _| {}, &rest);
    }
    compiler.sql.push(" limit ").bind(Arg::Int(TARGETS_MAX as i64 + 1));
    Ok(Some(read::numbers(&service.store, plan, compiler.sql).await?))
}

/// Parameters that are asked to be missing, with the masks that lack them.
async fn masks(service: &Service, condition: Condition) -> Result<Condition, Outcome> {
    let Condition::All(mut conditions) = condition else {
        return Ok(condition);
    };
    for condition in &mut conditions {
        if let Condition::Missing(number, bits) = *condition {
            let masks = read::masks_without(&service.store, number, bits).await?;
            *condition = match masks.is_empty() {
                true => Condition::nothing(),
                false => Condition::Masked(number, bits, masks),
            };
        }
    }
    Ok(Condition::All(conditions))
}
