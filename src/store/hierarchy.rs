//! What lies above or below a resource (`:above`, `:below` of references): level by level, each resource once, so that a circle ends.
//! Only what can be seen is a part of a hierarchy, beside its root: whether that is here, hidden or nowhere makes no difference.

use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::condition::Condition;
use crate::search::condition::Hierarchy;
use crate::search::density::Plan;
use crate::search::term::reference_terms;
use crate::search::term::type_term;
use crate::store::Store;
use crate::store::database_error;
use crate::store::read;
use crate::store::read::run;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Row as _;
use std::collections::HashSet;

/// Levels from the root: each is a statement. Wards are in departments in hospitals in authorities in regions, so a few.
const HIERARCHY_LEVELS_MAX: usize = 50;

/// The hashes of the root and of all that lie in the direction. Errors: 400 naming the limit for more than `max`, or more levels than are looked at.
pub async fn members(
    store: &Store,
    policy: Policy,
    as_of: Option<DateTime<Utc>>,
    hierarchy: &Hierarchy,
    max: usize,
) -> Result<Vec<i64>, Outcome> {
    let mut members = vec![hierarchy.root];
    let mut known = HashSet::from([hierarchy.root]);
    let mut level = members.clone();
    for _ in 0..HIERARCHY_LEVELS_MAX {
        let next = match hierarchy.is_above {
            true => above(store, policy, as_of, hierarchy, &level).await?,
            false => below(store, policy, as_of, hierarchy, &level, max).await?,
        };
        level = next.into_iter().filter(|hash| known.insert(*hash)).collect();
        if level.is_empty() {
            return Ok(members);
        }
        members.extend(&level);
        if members.len() > max {
            let text = format!("More resources lie there than are looked for: at most {max} (search.expansion_codes_max)");
            return Err(Outcome::invalid(text).with_code("too-costly"));
        }
    }
    let text = format!("The hierarchy has more levels than are looked at: {HIERARCHY_LEVELS_MAX} (HIERARCHY_LEVELS_MAX)");
    Err(Outcome::invalid(text).with_code("too-costly"))
}

/// What is part of these.
async fn below(
    store: &Store,
    policy: Policy,
    as_of: Option<DateTime<Utc>>,
    hierarchy: &Hierarchy,
    level: &[i64],
    max: usize,
) -> Result<Vec<i64>, Outcome> {
    let condition = Condition::Terms(reference_terms(&hierarchy.links, level));
    let sql = Compiler::new(policy, as_of).select("self_hash", &condition, max + 1);
    read::numbers(store, Plan::Gather, sql).await
}

/// What these are part of, as far as it is here.
async fn above(
    store: &Store,
    policy: Policy,
    as_of: Option<DateTime<Utc>>,
    hierarchy: &Hierarchy,
    level: &[i64],
) -> Result<Vec<i64>, Outcome> {
    let of_type = |hashes: Vec<i64>| {
        Condition::All(vec![
            Condition::Terms(vec![type_term(hierarchy.type_number)]),
            Condition::Ids(hashes),
        ])
    };
    let mut compiler = Compiler::new(policy, as_of);
    let alias = compiler.upcoming_alias();
    compiler.sql.push(&format!("select {alias}.terms[1:{alias}.reference_terms]"));
    compiler.resource(&of_type(level.to_vec()));
    read::note(store, Plan::Gather, &compiler.sql);
    let mut conn = store.pools.gathers.lend().await.map_err(database_error)?;
    let rows = run(&mut conn, compiler.sql).await.map_err(database_error)?;
    conn.done();
    let references: Vec<Vec<i64>> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(database_error)?;
    // Those of other parameters lead to the hashes of nothing.
    let candidates = reference_terms(&hierarchy.links, &references.concat());
    let limit = candidates.len();
    let sql = Compiler::new(policy, as_of).select("self_hash", &of_type(candidates), limit);
    read::numbers(store, Plan::Gather, sql).await
}
