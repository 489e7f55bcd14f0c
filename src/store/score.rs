//! How well matches fit the text that was asked for (`_text`, `_content`): from 0 to 1, by how often and how close together its words stand.
//! It is of the resource alone, and the same on every page. Spec: <https://hl7.org/fhir/R4/bundle-definitions.html#Bundle.entry.search.score>.

use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::density::Plan;
use crate::search::sql::Arg;
use crate::search::sql::Sql;
use crate::store::Store;
use crate::store::database_error;
use crate::store::read::Found;
use crate::store::read::note;
use crate::store::read::run;
use sqlx::Row as _;
use std::collections::HashMap;

/// `rank / (rank + 1)`, in the words of `ts_rank`.
const WITHIN_ONE: i32 = 32;

/// By row id; of several texts the one that fits best. Empty if none was asked for.
pub async fn scores(store: &Store, condition: &Condition, found: &[Found]) -> Result<HashMap<i64, f64>, Outcome> {
    let texts = condition.texts();
    if texts.is_empty() || found.is_empty() {
        return Ok(HashMap::new());
    }
    let mut sql = Sql::default();
    sql.push("select t.rid, greatest(");
    for (i, (is_content, text)) in texts.iter().enumerate() {
        let column = if *is_content { "content" } else { "narrative" };
        sql.push(if i > 0 { ", " } else { "" })
            .push(&format!("ts_rank(t.{column}, websearch_to_tsquery('italian', "))
            .bind(Arg::Text((*text).to_owned()))
            .push(&format!("), {WITHIN_ONE})"));
    }
    sql.push(")::float8 from text_index t where t.rid = any(")
        .bind(Arg::Ints(found.iter().map(|found| found.row.rid).collect()))
        .push(")");
    note(store, Plan::Gather, &sql);
    let mut conn = store.pools.of(Plan::Gather).lend().await.map_err(database_error)?;
    let rows = run(&mut conn, sql).await.map_err(database_error)?;
    conn.done();
    let mut scores = HashMap::new();
    for row in rows {
        let (rid, score): (i64, Option<f64>) = (row.try_get(0).map_err(database_error)?, row.try_get(1).map_err(database_error)?);
        scores.extend(score.map(|score| (rid, score)));
    }
    Ok(scores)
}
