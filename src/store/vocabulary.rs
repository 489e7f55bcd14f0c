//! The vocabulary: what terms mean (`migrations/0009_vocabulary.sql`). It is a superset of what resources have: a word is written before the first
//! resource that has it, nothing removes one, and a word whose resource was rolled back finds nothing.

use crate::outcome::Outcome;
use crate::search::density::Plan;
use crate::search::index::Word;
use crate::search::sql::Arg;
use crate::search::sql::Sql;
use crate::store::Store;
use crate::store::database_error;
use crate::store::read;
use sqlx::PgConnection;
use sqlx::Row as _;
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
    let mut sql = Sql::default();
    sql.push("select term from vocabulary where term = any(")
        .bind(Arg::Ints(terms.to_vec()))
        .push(")");
    read::numbers(store, Plan::Walk, sql).await
}

/// The codes that these paths ever had, in the order in which resources are sorted that have them, each with its terms: so many at most, and one more
/// tells that there are others.
pub async fn in_order(store: &Store, keys: &[i32], max: usize) -> Result<Vec<(String, Vec<i64>)>, Outcome> {
    let mut sql = Sql::default();
    sql.push("select place, array_agg(term) from vocabulary where key = any(")
        .bind(Arg::Keys(keys.to_vec()))
        .push(") and place is not null group by place order by place limit ")
        .bind(Arg::Int(max as i64 + 1));
    read::note(store, Plan::Walk, &sql);
    let mut conn = store.pools.of(Plan::Walk).lend().await.map_err(database_error)?;
    let rows = read::run(&mut conn, sql).await.map_err(database_error)?;
    conn.done();
    let codes = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    codes.collect::<Result<_, sqlx::Error>>().map_err(database_error)
}

/// Terms of these paths whose text is the one, or lies from one to before another.
async fn find(store: &Store, keys: &[i32], (whole, from, to): (&str, &str, &str), max: usize) -> Result<Vec<i64>, Outcome> {
    let text = |text: &str| Arg::Text(text.to_owned());
    let mut sql = Sql::default();
    sql.push("select term from vocabulary where key = any(")
        .bind(Arg::Keys(keys.to_vec()))
        .push(") and (value = ")
        .bind(text(whole));
    sql.push(" or value >= ").bind(text(from)).push(" and value < ").bind(text(to));
    sql.push(") limit ").bind(Arg::Int(max as i64 + 1));
    let terms = read::numbers(store, Plan::Walk, sql).await?;
    if terms.len() > max {
        let text = format!("So many texts or URIs begin with this that it is not searched: at most {max} (search.expansion_codes_max)");
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    Ok(terms)
}
