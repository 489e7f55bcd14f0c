//! The vocabulary: what terms mean (`migrations/0009_vocabulary.sql`). It is a superset of what resources have: a word is written before the first
//! resource that has it, nothing removes one, and a word whose resource was rolled back finds nothing.

use crate::outcome::Outcome;
use crate::search::index::Word;
use crate::store::Store;
use crate::store::database_error;
use sqlx::PgConnection;
use std::collections::HashSet;
use std::sync::Mutex;

/// Words that a server remembers to have seen in the database: so many that what is often written is not written again, 8 bytes each.
const KNOWN_MAX: usize = 200_000;

/// The words that are known to stand in the database.
#[derive(Debug, Default)]
pub struct Vocabulary {
    known: Mutex<HashSet<i64>>,
}

impl Vocabulary {
    /// Those that may not stand there yet, each once. In the order of their terms: of two servers that write the same words one waits for the other,
    /// and never each for the other.
    pub fn unknown<'w>(&self, words: impl Iterator<Item = &'w Word>) -> Vec<&'w Word> {
        let known = self.known.lock().expect("not poisoned");
        let mut unknown: Vec<&Word> = words.filter(|word| !known.contains(&word.term)).collect();
        // Of several with one term the one with a place.
        unknown.sort_unstable_by(|a, b| (a.term, &b.place).cmp(&(b.term, &a.place)));
        unknown.dedup_by_key(|word| word.term);
        unknown
    }

    /// Something has failed: another database may answer from now on, one that lacks what was committed last.
    pub fn forget(&self) {
        self.known.lock().expect("not poisoned").clear();
    }

    /// They are committed.
    pub fn remember(&self, terms: Vec<i64>) {
        let mut known = self.known.lock().expect("not poisoned");
        if known.len() + terms.len() > KNOWN_MAX {
            known.clear();
        }
        known.extend(terms);
    }
}

/// Writes the words that are new. Returns their terms, to be remembered when they are committed.
pub async fn learn(vocabulary: &Vocabulary, conn: &mut PgConnection, words: &[Word]) -> Result<Vec<i64>, sqlx::Error> {
    let words = vocabulary.unknown(words.iter());
    let terms: Vec<i64> = words.iter().map(|word| word.term).collect();
    if terms.is_empty() {
        return Ok(terms);
    }
    sqlx::query(
        "insert into vocabulary (term, key, value, place)
         select * from unnest($1::bigint[], $2::int[], $3::text[], $4::text[])
         on conflict (term) do update set place = excluded.place where vocabulary.place is null and excluded.place is not null",
    )
    .bind(&terms)
    .bind(words.iter().map(|word| word.key).collect::<Vec<_>>())
    .bind(words.iter().map(|word| word.value.as_deref()).collect::<Vec<_>>())
    .bind(words.iter().map(|word| word.place.as_deref()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(terms)
}

/// Terms of these paths whose text is `$2`, or from `$3` and before `$4`.
const FIND: &str = "select term from vocabulary where key = any($1) and (value = $2 or value >= $3 and value < $4) limit $5";

/// The terms of the texts that begin so, at most so many. Errors: 400 naming the setting if there are more.
pub async fn beginning_with(store: &Store, keys: &[i32], start: &str, max: usize) -> Result<Vec<i64>, Outcome> {
    // U+10FFFF is the last character of the order by bytes.
    find(store, keys, (start, start, &format!("{start}\u{10ffff}")), max).await
}

/// The terms of the URIs that are this one or lie below it.
pub async fn below(store: &Store, keys: &[i32], uri: &str, max: usize) -> Result<Vec<i64>, Outcome> {
    // The character after '/' is '0'.
    find(store, keys, (uri, &format!("{uri}/"), &format!("{uri}0")), max).await
}

/// The terms of the canonical URLs whose version is this one or begins with it.
pub async fn versions(store: &Store, keys: &[i32], canonical: &str, max: usize) -> Result<Vec<i64>, Outcome> {
    // The character after '.' is '/'.
    find(store, keys, (canonical, &format!("{canonical}."), &format!("{canonical}/")), max).await
}

/// Those of the terms that stand in the vocabulary: no resource has another of a coding.
pub async fn used(store: &Store, terms: &[i64]) -> Result<Vec<i64>, Outcome> {
    let mut conn = store.pools.points.lend().await.map_err(database_error)?;
    let text = "select term from vocabulary where term = any($1)";
    let used = sqlx::query_scalar(text)
        .bind(terms)
        .fetch_all(&mut *conn)
        .await
        .map_err(database_error)?;
    conn.done();
    Ok(used)
}

/// The codes that these paths ever had, in the order in which resources are sorted that have them, each with its terms: so many at most, and one more
/// tells that there are others.
pub async fn in_order(store: &Store, keys: &[i32], max: usize) -> Result<Vec<(String, Vec<i64>)>, Outcome> {
    let mut conn = store.pools.points.lend().await.map_err(database_error)?;
    let text =
        "select place, array_agg(term) from vocabulary where key = any($1) and place is not null group by place order by place limit $2";
    let query = sqlx::query_as(text).bind(keys).bind(max as i64 + 1);
    let codes = query.fetch_all(&mut *conn).await.map_err(database_error)?;
    conn.done();
    Ok(codes)
}

async fn find(store: &Store, keys: &[i32], (whole, from, to): (&str, &str, &str), max: usize) -> Result<Vec<i64>, Outcome> {
    let mut conn = store.pools.points.lend().await.map_err(database_error)?;
    let query = sqlx::query_scalar(FIND)
        .bind(keys)
        .bind(whole)
        .bind(from)
        .bind(to)
        .bind(max as i64 + 1);
    let terms: Vec<i64> = query.fetch_all(&mut *conn).await.map_err(database_error)?;
    conn.done();
    if terms.len() > max {
        let text = format!("So many texts or URIs begin with this that it is not searched: at most {max} (search.expansion_codes_max)");
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    Ok(terms)
}
