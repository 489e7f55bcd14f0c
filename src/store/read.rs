//! Reads: by id, by version, by search; several point reads that arrive together share one statement.

use crate::fhir::identity::self_hash;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::policy::State;
use crate::search::compile::Compiler;
use crate::search::compile::source::Reads;
use crate::search::condition::Condition;
use crate::search::condition::QuantityCondition;
use crate::search::density::Plan;
use crate::search::parameters::Registry;
use crate::search::sql::Arg;
use crate::search::sql::Sql;
use crate::store::Store;
use crate::store::bodies::Bodies;
use crate::store::database_error;
use crate::store::rows;
use crate::store::rows::Row;
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgRow;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Point reads that one statement answers.
const READS_MAX: usize = 128;
const WAITING_MAX: usize = 16_384;

/// Columns of [`Row`] under an alias.
pub fn row_columns(alias: &str) -> String {
    ["rid", "type", "id", "version", "updated", "state", "dictionary", "body"]
        .map(|column| format!("{alias}.{column}"))
        .join(", ")
}

/// Runs compiled SQL. The text comes from `search::compile` and the constants here; every value is an argument.
pub async fn run(conn: &mut PgConnection, sql: Sql) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut query = sqlx::query::<sqlx::Postgres>(sqlx::AssertSqlSafe(sql.text));
    for arg in sql.args {
        query = bind(query, arg);
    }
    query.fetch_all(conn).await
}

fn bind(query: sqlx::query::Query<'_, sqlx::Postgres, PgArguments>, arg: Arg) -> sqlx::query::Query<'_, sqlx::Postgres, PgArguments> {
    match arg {
        Arg::Int(value) => query.bind(value),
        Arg::Ints(values) => query.bind(values),
        Arg::Keys(keys) => query.bind(keys),
        Arg::Float(value) => query.bind(value),
        Arg::Text(value) => query.bind(value),
        Arg::Instant(value) => query.bind(value),
    }
}

struct Request {
    hash: i64,
    reply: oneshot::Sender<Result<Option<Row>, Outcome>>,
}

/// Where point reads are handed in.
#[derive(Clone)]
pub struct Reader {
    requests: mpsc::Sender<Request>,
    store: Store,
}

impl Reader {
    pub fn start(store: Store) -> Reader {
        let (requests, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(serve(store.clone(), receiver));
        Reader { requests, store }
    }

    /// The current row of a resource, whatever its state; `None` if it never was.
    async fn row(&self, type_name: &str, id: &str) -> Result<Option<Row>, Outcome> {
        let (reply, answer) = oneshot::channel();
        let busy = |_| Outcome::unavailable(format!("{WAITING_MAX} reads are waiting, and no more may (WAITING_MAX); try again"));
        self.requests
            .try_send(Request {
                hash: self_hash(type_name, id),
                reply,
            })
            .map_err(busy)?;
        let row = answer
            .await
            .map_err(|_| Outcome::unavailable("The server is stopping; try again"))??;
        Ok(row.filter(|row| row.id == id && self.store.registry().name_of(row.type_number) == type_name))
    }

    /// The current version. Errors: 404 if it is not known or hidden, 410 if it was deleted.
    pub async fn read(&self, policy: Policy, type_name: &str, id: &str) -> Result<Row, Outcome> {
        let what = format!("{type_name}/{id}");
        match self.row(type_name, id).await? {
            Some(row) if policy.sees(row.state()) => Ok(row),
            Some(row) if row.state() == State::Deleted => Err(Outcome::gone(&what)),
            _ => Err(Outcome::not_found(&what)),
        }
    }

    /// The current row if its history may be seen: deleted ones count.
    pub async fn row_with_history(&self, type_name: &str, id: &str) -> Result<Row, Outcome> {
        match self.row(type_name, id).await? {
            Some(row) if row.state() != State::Withdrawn => Ok(row),
            _ => Err(Outcome::not_found(&format!("{type_name}/{id}"))),
        }
    }
}

/// One statement at a time: what arrives meanwhile is answered by the next.
async fn serve(store: Store, mut requests: mpsc::Receiver<Request>) {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, READS_MAX).await > 0 {
        answer(&store, std::mem::take(&mut batch)).await;
    }
}

async fn answer(store: &Store, batch: Vec<Request>) {
    let hashes: Vec<i64> = batch.iter().map(|r| r.hash).collect();
    let fetched = by_hashes(store, &hashes).await;
    for request in batch {
        let row = fetched.as_ref().map(|rows| rows.get(&request.hash).cloned()).map_err(Clone::clone);
        // Whoever asked may have gone.
        let _ = request.reply.send(row);
    }
}

async fn by_hashes(store: &Store, hashes: &[i64]) -> Result<HashMap<i64, Row>, Outcome> {
    let text = "select self_hash, rid, type, id, version, updated, state, dictionary, body from resource where self_hash = any($1)";
    let mut conn = store.pools.points.lend().await.map_err(database_error)?;
    let rows: Vec<HashedRow> = rows::fetch(&store.bodies, &mut conn, sqlx::query_as(text).bind(hashes))
        .await
        .map_err(database_error)?;
    conn.done();
    Ok(rows.into_iter().map(|hashed| (hashed.self_hash, hashed.row)).collect())
}

#[derive(FromRow)]
struct HashedRow {
    self_hash: i64,
    #[sqlx(flatten)]
    row: Row,
}

impl AsRef<Row> for HashedRow {
    fn as_ref(&self) -> &Row {
        &self.row
    }
}

/// A row of a search page: with its references, for includes, and its sort keys as text, for the cursor.
#[derive(Debug)]
pub struct Found {
    pub row: Row,
    pub references: Vec<i64>,
    pub keys: Vec<Option<String>>,
    /// Of a contained resource: what contains it.
    pub container: Option<Container>,
}

/// Where a contained resource stands, and its JSON.
#[derive(Debug, Clone)]
pub struct Container {
    pub type_number: i16,
    pub id: String,
    content: String,
}

impl Found {
    /// The resource as JSON text. Errors: 500 when the row is damaged.
    pub fn to_json(&self, registry: &Registry, bodies: &Bodies) -> Result<String, Outcome> {
        match &self.container {
            Some(container) => Ok(container.content.clone()),
            None => self.row.to_json(registry, bodies),
        }
    }
}

/// The row ids of contained resources are below zero.
fn container(row: &PgRow, rid: i64) -> Result<Option<Container>, sqlx::Error> {
    if rid >= 0 {
        return Ok(None);
    }
    Ok(Some(Container {
        type_number: row.try_get("container_type")?,
        id: row.try_get("container_id")?,
        content: row.try_get("content")?,
    }))
}

pub fn note(store: &Store, plan: Plan, sql: &Sql) {
    if let Some(asked) = &store.asked {
        asked.push(plan, sql);
    }
}

/// Runs a page: `select <row>, <references>, <keys...>`.
pub async fn page(store: &Store, plan: Plan, sql: Sql, keys: usize) -> Result<Vec<Found>, Outcome> {
    note(store, plan, &sql);
    let mut conn = store.pools.of(plan).lend().await.map_err(database_error)?;
    let rows = run(&mut conn, sql).await.map_err(database_error)?;
    let read = |row: &PgRow| -> Result<Found, sqlx::Error> {
        let references = row.try_get("reference_hashes")?;
        let keys = (0..keys)
            .map(|i| row.try_get(format!("key{i}").as_str()))
            .collect::<Result<_, _>>()?;
        let of = Row::from_row(row)?;
        Ok(Found {
            container: container(row, of.rid)?,
            row: of,
            references,
            keys,
        })
    };
    let found: Vec<Found> = rows.iter().map(read).collect::<Result<_, _>>().map_err(database_error)?;
    let dictionaries = found.iter().map(|f| f.row.dictionary);
    store.bodies.learn(&mut *conn, dictionaries).await.map_err(database_error)?;
    conn.done();
    Ok(found)
}

/// The numbers of the types that rows exist of, whatever their state.
pub async fn types(store: &Store) -> Result<Vec<i16>, Outcome> {
    // The index on the type is entered once for each: a scan of all rows would not do.
    let text = "with recursive t (type) as (
                   (select type from resource order by type limit 1)
                   union all
                   select (select r.type from resource r where r.type > t.type order by r.type limit 1) from t where t.type is not null)
                select type from t where type is not null";
    let sql = Sql {
        text: text.to_owned(),
        args: Vec::new(),
    };
    note(store, Plan::Walk, &sql);
    let mut conn = store.pools.searches.acquire().await.map_err(database_error)?;
    sqlx::query_scalar(text).fetch_all(&mut *conn).await.map_err(database_error)
}

/// Runs a statement for row ids, or hashes.
pub async fn numbers(store: &Store, plan: Plan, sql: Sql) -> Result<Vec<i64>, Outcome> {
    note(store, plan, &sql);
    let mut conn = store.pools.of(plan).lend().await.map_err(database_error)?;
    let rows = run(&mut conn, sql).await.map_err(database_error)?;
    conn.done();
    rows.iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(database_error)
}

/// The row ids that the index has for a quantity, up to a limit. Whether they are live is not asked.
pub async fn rids_of_quantity(store: &Store, quantity: &QuantityCondition, limit: usize) -> Result<Vec<i64>, Outcome> {
    let mut compiler = Compiler::new(Policy::NotWithdrawn, None);
    compiler.rids_of_quantity(quantity, limit);
    numbers(store, Plan::Walk, compiler.sql).await
}

/// The masks of a type's resources that have none of these bits of `present`.
pub async fn masks_without(store: &Store, number: i16, bits: i64) -> Result<Vec<i64>, Outcome> {
    let mut sql = Sql::default();
    sql.push("select unnest(present_without(").bind(Arg::Int(i64::from(number)));
    sql.push("::smallint, ").bind(Arg::Int(bits)).push("))");
    numbers(store, Plan::Walk, sql).await
}

/// What the planner expects the count to be.
pub async fn estimate(store: &Store, policy: Policy, reads: Reads, condition: &Condition) -> Result<i64, Outcome> {
    let mut compiler = Compiler::new(policy, reads);
    compiler.sql.push("explain (format json) select 1");
    compiler.resource(condition);
    let mut conn = store.pools.searches.acquire().await.map_err(database_error)?;
    let rows = run(&mut conn, compiler.sql).await.map_err(database_error)?;
    let plan: sqlx::types::JsonValue = rows
        .first()
        .map_or(Ok(sqlx::types::JsonValue::Null), |row| row.try_get(0))
        .map_err(database_error)?;
    Ok(plan[0]["Plan"]["Plan Rows"].as_f64().unwrap_or(0.0).round() as i64)
}
