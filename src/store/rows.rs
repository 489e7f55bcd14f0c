//! Rows of the `resource` table as they are read, and the ids that new ones get.

use crate::clock::instant;
use crate::fhir::resource::Version;
use crate::fhir::resource::assemble;
use crate::outcome::Outcome;
use crate::policy::State;
use crate::search::parameters::Registry;
use crate::store::bodies::Bodies;
use chrono::DateTime;
use chrono::Utc;
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgRow;
use sqlx::query::QueryAs;
use std::sync::Mutex;

/// Row ids in one block of the sequence `rid_block`.
const BLOCK: i64 = 1024;

/// One version of a resource, with its body still compressed.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    pub rid: i64,
    #[sqlx(rename = "type")]
    pub type_number: i16,
    pub id: String,
    pub version: i32,
    pub updated: DateTime<Utc>,
    pub state: i16,
    pub dictionary: i16,
    pub body: Vec<u8>,
}

impl Row {
    pub fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// The resource as JSON text. Errors: 500 when the row is damaged.
    pub fn to_json(&self, registry: &Registry, bodies: &Bodies) -> Result<String, Outcome> {
        let kept = bodies.decompress(self.dictionary, &self.body)?;
        let mut out = String::new();
        let updated = instant(self.updated);
        let version = Version {
            type_name: registry.name_of(self.type_number),
            id: &self.id,
            version: self.version,
            updated: &updated,
        };
        assemble(&version, &kept, &mut out);
        Ok(out)
    }
}

impl AsRef<Row> for Row {
    fn as_ref(&self) -> &Row {
        self
    }
}

/// Runs a query whose rows hold bodies, and makes sure that each can be read. Every read of bodies goes through here.
pub async fn fetch<R>(bodies: &Bodies, conn: &mut PgConnection, query: QueryAs<'_, Postgres, R, PgArguments>) -> Result<Vec<R>, sqlx::Error>
where
    R: for<'r> FromRow<'r, PgRow> + AsRef<Row> + Send + Unpin,
{
    let rows = query.fetch_all(&mut *conn).await?;
    bodies.learn(conn, rows.iter().map(|row| row.as_ref().dictionary)).await?;
    Ok(rows)
}

/// Hands out row ids from blocks of the database's sequence: a gap after a crash is all that a lost block costs.
#[derive(Debug, Default)]
pub struct RowIds {
    free: Mutex<(i64, i64)>,
}

impl RowIds {
    /// `count` new ids, ascending.
    pub async fn take(&self, conn: &mut PgConnection, count: usize) -> Result<Vec<i64>, sqlx::Error> {
        let mut ids = self.take_from_block(count);
        let missing = count - ids.len();
        if missing > 0 {
            let blocks = (missing as i64 + BLOCK - 1) / BLOCK;
            let fetch = "select nextval('rid_block') from generate_series(1, $1::bigint)";
            let fetched: Vec<i64> = sqlx::query_scalar(fetch).bind(blocks).fetch_all(conn).await?;
            for block in fetched {
                let all = block * BLOCK..(block + 1) * BLOCK;
                let wanted = (count - ids.len()).min(BLOCK as usize) as i64;
                ids.extend(all.start..all.start + wanted);
                *self.free.lock().expect("not poisoned") = (all.start + wanted, all.end);
            }
        }
        Ok(ids)
    }

    fn take_from_block(&self, count: usize) -> Vec<i64> {
        let mut free = self.free.lock().expect("not poisoned");
        let end = free.1.min(free.0 + count as i64);
        let ids = (free.0..end).collect();
        free.0 = end;
        ids
    }
}
