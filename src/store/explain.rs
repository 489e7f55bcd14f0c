//! The statements of a search and how the database carries them out, without a value of the search.
//!
//! A plan is only asked for, never measured (`analyze`): rows that a filter removed would tell that something hidden is there.

use crate::outcome::Outcome;
use crate::search::density::Plan;
use crate::search::sql::Arg;
use crate::search::sql::Sql;
use crate::store::Store;
use crate::store::database_error;
use crate::store::read::run;
use regex::Regex;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;

/// A literal as the database writes it.
static LITERAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"E?'(?:[^']|'')*'").expect("a constant"));
/// A number that is no part of a name, nor of a placeholder.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(^|[^\w$.])-?\d[\d.]*(e[+-]?\d+)?\b").expect("a constant"));

/// What a search asked the database.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<Mutex<Vec<(Plan, Sql)>>>);

impl Asked {
    pub fn push(&self, plan: Plan, sql: &Sql) {
        self.0
            .lock()
            .expect("nothing panics while it holds this lock")
            .push((plan, sql.clone()));
    }

    fn take(&self) -> Vec<(Plan, Sql)> {
        std::mem::take(&mut *self.0.lock().expect("nothing panics while it holds this lock"))
    }
}

/// A statement, with placeholders where values are, and its plan.
pub struct Explained {
    pub statement: String,
    pub plan: String,
}

impl Store {
    /// The same store, which notes what searches ask.
    pub fn noting(&self) -> (Store, Asked) {
        let asked = Asked::default();
        let store = Store {
            asked: Some(asked.clone()),
            ..self.clone()
        };
        (store, asked)
    }
}

/// What was asked, in its order.
pub async fn explain(store: &Store, asked: &Asked) -> Result<Vec<Explained>, Outcome> {
    let mut explained = Vec::new();
    for (plan, sql) in asked.take() {
        let statement = sql.text.trim().to_owned();
        // Not given back: it may be left with a statement of ours.
        let mut conn = store.pools.of(plan).acquire().await.map_err(database_error)?.detach();
        let plan = match plan {
            Plan::Gather => general(&mut conn, &sql).await,
            Plan::Walk => of_values(&mut conn, sql).await,
        };
        let plan = plan.map_err(database_error)?;
        conn.close().await.map_err(database_error)?;
        explained.push(Explained { statement, plan });
    }
    Ok(explained)
}

/// The plan that is made once for all values, as the connection's settings have it.
async fn general(conn: &mut PgConnection, sql: &Sql) -> Result<String, sqlx::Error> {
    let types: Vec<&str> = sql.args.iter().map(sql_type).collect();
    let nulls = vec!["null"; sql.args.len()];
    let (types, nulls) = match sql.args.is_empty() {
        true => (String::new(), String::new()),
        false => (format!("({})", types.join(", ")), format!("({})", nulls.join(", "))),
    };
    let prepare = format!("prepare explained {types} as {}", sql.text);
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *conn).await?;
    let explain = format!("explain execute explained {nulls}");
    lines(&sqlx::raw_sql(sqlx::AssertSqlSafe(explain)).fetch_all(conn).await?)
}

fn sql_type(arg: &Arg) -> &'static str {
    match arg {
        Arg::Int(_) => "bigint",
        Arg::Ints(_) => "bigint[]",
        Arg::Keys(_) => "int[]",
        Arg::Float(_) => "double precision",
        Arg::Text(_) => "text",
        Arg::Instant(_) => "timestamptz",
    }
}

/// The plan for these values, with them taken out.
async fn of_values(conn: &mut PgConnection, sql: Sql) -> Result<String, sqlx::Error> {
    let explain = Sql {
        text: format!("explain {}", sql.text),
        args: sql.args,
    };
    lines(&run(conn, explain).await?).map(|plan| without_values(&plan))
}

fn lines(rows: &[PgRow]) -> Result<String, sqlx::Error> {
    let lines: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(lines.join("\n"))
}

/// A plan without its literals; what the planner expects of a node stays.
fn without_values(plan: &str) -> String {
    let plan = LITERAL.replace_all(plan, "?");
    let lines = plan.lines().map(|line| match line.split_once("  (cost=") {
        Some(_) => line.to_owned(),
        None => NUMBER.replace_all(line, "$1?").into_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_keeps_its_nodes_and_loses_its_values() {
        for (line, expected) in [
            (
                "  ->  Index Scan using resource_date on resource r0  (cost=0.42..62501.78 rows=11657 width=16)",
                "  ->  Index Scan using resource_date on resource r0  (cost=0.42..62501.78 rows=11657 width=16)",
            ),
            (
                "  Filter: ((terms @> '{1001,-5}'::bigint[]) AND (state = 0))",
                "  Filter: ((terms @> ?::bigint[]) AND (state = ?))",
            ),
            (
                "  Index Cond: ((key = 7) AND (value >= 'o''rossi'::text))",
                "  Index Cond: ((key = ?) AND (value >= ?::text))",
            ),
            ("  Filter: (value = E'a\\\\b''  (cost=3'::text)", "  Filter: (value = ?::text)"),
            ("  Filter: (value = 'two\n12 lines  (cost=1'::text)", "  Filter: (value = ?::text)"),
            ("  Filter: (low >= -12.5)", "  Filter: (low >= ?)"),
            (
                "  Filter: (low >= '-1e+20'::double precision)",
                "  Filter: (low >= ?::double precision)",
            ),
            ("  Index Cond: (terms && $1)", "  Index Cond: (terms && $1)"),
            ("  Filter: (date_low > 1704067200000000)", "  Filter: (date_low > ?)"),
        ] {
            assert_eq!(without_values(line), expected);
        }
    }
}
