//! The labels in use (`$meta` of a type, and of the repository): the vocabulary knows which there ever were, and for each a resource is looked for that
//! has it and can be seen. A label that only hidden, deleted or past versions have finds none.

use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::search::condition::Condition;
use crate::search::density::Plan;
use crate::store::Store;
use crate::store::database_error;
use crate::store::read::row_columns;
use crate::store::rows::Row;
use crate::store::rows::fetch;
use std::collections::HashMap;

/// Labels whose resources are read by one statement: as many bodies are in memory at once.
const AT_ONCE: usize = 100;

/// A term of the vocabulary, and the key of its path.
pub type Label = (i64, i32);

/// The codings that were ever stored under these keys, and the URIs under those: so many at most, and one more tells that there are others.
pub async fn ever_used(store: &Store, codings: &[i32], uris: &[i32], max: usize) -> Result<Vec<Label>, Outcome> {
    let text = "(select term, key from vocabulary where key = any($1) and value is null limit $3)
                union all
                (select term, key from vocabulary where key = any($2) and value is not null limit $3)
                limit $3";
    let mut conn = store.pools.points.lend().await.map_err(database_error)?;
    let query = sqlx::query_as(text).bind(codings).bind(uris).bind(max as i64 + 1);
    let labels = query.fetch_all(&mut *conn).await.map_err(database_error)?;
    conn.done();
    Ok(labels)
}

/// For each label one resource that has it, if one can be seen; `types` says of which type the keys are.
pub async fn bearers(store: &Store, policy: Policy, labels: &[Label], types: &HashMap<i32, i16>) -> Result<Vec<Row>, Outcome> {
    let density = store.density();
    let (dense, sparse): (Vec<Label>, Vec<Label>) = labels
        .iter()
        .partition(|(term, _)| density.is_dense(&Condition::Terms(vec![*term])));
    let mut rows = Vec::new();
    for (term, key) in dense {
        let Some(type_number) = types.get(&key) else { continue };
        rows.extend(newest(store, policy, term, *type_number).await?);
    }
    for labels in sparse.chunks(AT_ONCE) {
        let terms: Vec<i64> = labels.iter().map(|(term, _)| *term).collect();
        rows.extend(one_of_each(store, policy, &terms).await?);
    }
    Ok(rows)
}

/// What most of a type has is found among its newest; the planner knows whether it does.
async fn newest(store: &Store, policy: Policy, term: i64, type_number: i16) -> Result<Vec<Row>, Outcome> {
    let text = format!(
        "select {} from resource r where r.type = $2 and r.terms @> $1 and {} order by r.updated desc limit 1",
        row_columns("r"),
        policy.predicate("r")
    );
    let mut conn = store.pools.of(Plan::Walk).lend().await.map_err(database_error)?;
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(vec![term]).bind(type_number);
    let rows = fetch(&store.bodies, &mut conn, query).await.map_err(database_error)?;
    conn.done();
    Ok(rows)
}

async fn one_of_each(store: &Store, policy: Policy, terms: &[i64]) -> Result<Vec<Row>, Outcome> {
    let text = format!(
        "select m.* from unnest($1::bigint[]) t (term)
         cross join lateral (select {} from resource r where r.terms @> array[t.term] and {} limit 1) m",
        row_columns("r"),
        policy.predicate("r")
    );
    let mut conn = store.pools.of(Plan::Gather).lend().await.map_err(database_error)?;
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(terms);
    let rows = fetch(&store.bodies, &mut conn, query).await.map_err(database_error)?;
    conn.done();
    Ok(rows)
}
