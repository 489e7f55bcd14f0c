//! The statements of the write path: what a batch writes. Set-based: their number does not grow with the batch.

use crate::policy::State;
use crate::search::index::IndexEntry;
use crate::store::Store;
use crate::store::columns::Columns;
use crate::store::contained;
use crate::store::unit::Change;
use crate::store::vocabulary::learn;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use std::sync::LazyLock;

/// Moves the versions that are superseded to history, with all that searches look at.
const SUPERSEDE: &str = "
with gone_strings as (delete from string_index where rid = any($1) returning rid, key, value),
     gone_dates as (delete from date_index where rid = any($1) returning rid, key, low, high),
     gone_quantities as (delete from quantity_index where rid = any($1) returning rid, key, unit, code, low, high, system, joint),
     gone_positions as (delete from position where rid = any($1) returning rid, at),
     gone_texts as (delete from text_index where rid = any($1)),
     gone_contained as (delete from contained where container = any($1)),
     kept_strings as (
    insert into string_history (rid, version, key, value)
    select rid, (select r.version from resource r where r.rid = gone.rid), key, value from gone_strings gone
), kept_dates as (
    insert into date_history (rid, version, key, low, high)
    select rid, (select r.version from resource r where r.rid = gone.rid), key, low, high from gone_dates gone
), kept_quantities as (
    insert into quantity_history (rid, version, key, unit, code, low, high, system, joint)
    select rid, (select r.version from resource r where r.rid = gone.rid), key, unit, code, low, high, system, joint from gone_quantities gone
), kept_positions as (
    insert into position_history (rid, version, at)
    select rid, (select r.version from resource r where r.rid = gone.rid), at from gone_positions gone
)
insert into history (rid, updated, version, type, state, dictionary, body, superseded, self_hash, present, date_low, date_high, reference_terms, id, terms)
select rid, updated, version, type,
       -- A version that came before its document was hidden is not hidden for good.
       case when state = 2 and not exists (select from document d where d.members @> array[rid] and d.state = 2 and d.updated <= r.updated)
            then 0 else state end,
       dictionary, body, $2, self_hash, present, date_low, date_high, reference_terms, id, terms
from resource r
where rid = any($1)";

/// Side rows of the rows that are written, from the arguments of [`Columns::bind_values`] and [`Columns::bind_positions`], which begin with these.
pub fn sides([strings, dates, quantities, positions]: &[&str; 4], values: usize, places: usize) -> String {
    let arg = |offset: usize| format!("${}", values + offset);
    let place = |offset: usize| format!("${}", places + offset);
    format!(
        "of_{strings} as (
    insert into {strings} (rid, key, value) select * from unnest({}::bigint[], {}::int[], {}::text[])
), of_{dates} as (
    insert into {dates} (rid, key, low, high) select * from unnest({}::bigint[], {}::int[], {}::bigint[], {}::bigint[])
), of_{quantities} as (
    insert into {quantities} (rid, key, unit, code, low, high, system, joint)
    select * from unnest({}::bigint[], {}::int[], {}::bigint[], {}::bigint[], {}::float8[], {}::float8[], {}::int[], {}::bigint[])
), of_{positions} as (
    insert into {positions} (rid, at) select rid, point(x, y) from unnest({}::bigint[], {}::float8[], {}::float8[]) p (rid, x, y)
)",
        arg(0),
        arg(1),
        arg(2),
        arg(3),
        arg(4),
        arg(5),
        arg(6),
        arg(7),
        arg(8),
        arg(9),
        arg(10),
        arg(11),
        arg(12),
        arg(13),
        arg(14),
        place(0),
        place(1),
        place(2)
    )
}

static SIDES: LazyLock<String> = LazyLock::new(|| sides(&["string_index", "date_index", "quantity_index", "position"], 1, 21));

/// What strings and units there are, from the same arguments: each once.
const WORDS: &str = "string_values as (
    insert into string_value (value) select distinct value from unnest($3::text[]) value order by value on conflict do nothing
), units as (
    insert into unit (hash, code, dimension, factor, shift)
    select hash, code, dimension, factor::numeric, shift::numeric
    from unnest($16::bigint[], $17::text[], $18::text[], $19::text[], $20::text[]) u (hash, code, dimension, factor, shift)
    order by hash
    on conflict do nothing
)";

/// Writes rows, side rows and change rows. `input` is in the order of the operations, and so are the change rows. The transaction gets its
/// id before it takes a seq: the sequencer relies on that (docs/adr/0002-feed.md). It fails when the search parameters are of another generation
/// than the batch; the lock on their table, taken before it is read and held to the commit, keeps them as they are.
fn write_text(rest: &str) -> String {
    let sides = &*SIDES;
    format!(
        "
with input as (
    select *
    from unnest($24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], $29::int[], $30::smallint[], $31::smallint[], $32::smallint[],
                $33::smallint[], $34::text[], $35::int[], $36::int[], $37::bytea[], $38::bool[], $39::smallint[])
         with ordinality i (rid, self_hash, present, date_low, date_high, version, type, state, dictionary,
                            reference_terms, id, term_first, term_last, body, is_new, operation, place)
), inserted as (
    insert into resource (rid, self_hash, updated, present, date_low, date_high, version, type, state, dictionary, reference_terms, id, terms, body)
    select rid, self_hash, $40, present, date_low, date_high, version, type, state, dictionary, reference_terms, id, ($41::bigint[])[term_first:term_last], body
    from input
    where is_new
), updated as (
    update resource r
    set updated = $40, present = i.present, date_low = i.date_low, date_high = i.date_high, version = i.version, state = i.state,
        dictionary = i.dictionary, reference_terms = i.reference_terms, terms = ($41::bigint[])[i.term_first:i.term_last], body = i.body
    from input i
    where not i.is_new and r.rid = i.rid
), {sides}, {rest}
insert into change (rid, updated, version, type, operation)
select rid, $40, version, type, operation
from input
cross join (select pg_current_xact_id() as xid, 1 / (generation = $42)::int as is_current from search_generation offset 0) x
where x.xid is not null and x.is_current = 1
order by place"
    )
}

static WRITE: LazyLock<String> = LazyLock::new(|| write_text(WORDS));

/// The first argument of contained resources in a statement that writes rows, and in one that writes their index.
const CONTAINED_OF_ROWS: usize = 43;
const CONTAINED_OF_INDEX: usize = 24;

/// The same with contained resources, whose arguments begin with this one: their strings are among those that there are.
fn words_and_contained(first: usize) -> String {
    let strings = contained::strings(first);
    let words = WORDS.replace("unnest($3::text[])", &format!("unnest($3::text[] || ${strings}::text[])"));
    format!("{words}, {}", contained::write(first))
}

static WRITE_WITH_CONTAINED: LazyLock<String> = LazyLock::new(|| write_text(&words_and_contained(CONTAINED_OF_ROWS)));

/// The division by zero of `WRITE`: the batch was indexed by parameters that are no longer those of the repository. Nothing is written.
pub const STALE: &str = "22012";

/// The same when nothing is updated: most batches, and Postgres need not plan the update.
fn without_update(text: &str) -> String {
    let (before, rest) = text.split_once("updated as (").expect("stands above");
    let (_, after) = rest.split_once("), of_string_index").expect("stands above");
    format!("{before}of_string_index{after}")
}

static WRITE_NEW: LazyLock<String> = LazyLock::new(|| without_update(&WRITE));
static WRITE_NEW_WITH_CONTAINED: LazyLock<String> = LazyLock::new(|| without_update(&WRITE_WITH_CONTAINED));

/// Writes the batch. Errors: the database's, and then the caller rolls back.
pub async fn write(conn: &mut PgConnection, columns: &Columns, generation: i64, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let changed = columns.changed();
    if !changed.is_empty() {
        sqlx::query(SUPERSEDE).bind(&changed).bind(now).execute(&mut *conn).await?;
    }
    let text = match (changed.is_empty(), &columns.contained) {
        (true, None) => &WRITE_NEW,
        (false, None) => &WRITE,
        (true, Some(_)) => &WRITE_NEW_WITH_CONTAINED,
        (false, Some(_)) => &WRITE_WITH_CONTAINED,
    };
    let query = columns
        .bind_sides(sqlx::query(sqlx::AssertSqlSafe(text.as_str())))
        .bind(&columns.rid)
        .bind(&columns.self_hash)
        .bind(&columns.present)
        .bind(&columns.date_low)
        .bind(&columns.date_high)
        .bind(&columns.version)
        .bind(&columns.type_number)
        .bind(&columns.state)
        .bind(&columns.dictionary)
        .bind(&columns.reference_terms)
        .bind(&columns.id)
        .bind(&columns.term_first)
        .bind(&columns.term_last)
        .bind(&columns.body)
        .bind(&columns.is_new)
        .bind(&columns.operation)
        .bind(now)
        .bind(&columns.terms)
        .bind(generation);
    with_contained(columns, query).execute(&mut *conn).await?;
    write_texts(conn, columns).await
}

fn with_contained<'q>(columns: &Columns, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
    match &columns.contained {
        Some(contained) => contained.bind(&columns.rid, query),
        None => query,
    }
}

/// Most resources have no text of their own: then this is no statement.
async fn write_texts(conn: &mut PgConnection, columns: &Columns) -> Result<(), sqlx::Error> {
    if columns.texts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into text_index (rid, narrative, content)
         select rid, to_tsvector('italian', narrative), to_tsvector('italian', content)
         from unnest($1::bigint[], $2::text[], $3::text[]) t (rid, narrative, content)",
    )
    .bind(columns.texts.iter().map(|(place, _)| columns.rid[*place]).collect::<Vec<_>>())
    .bind(
        columns
            .texts
            .iter()
            .map(|(_, texts)| texts.narrative.as_deref())
            .collect::<Vec<_>>(),
    )
    .bind(columns.texts.iter().map(|(_, texts)| texts.content.as_deref()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Hides or shows rows (oscuramento), with a change row for each. Returns how many changed.
pub async fn set_state(conn: &mut PgConnection, rids: &[i64], from: State, to: State, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let operation = if to == State::Withdrawn {
        Change::Withdraw
    } else {
        Change::Restore
    };
    let done = sqlx::query(
        "with moved as (
             update resource set state = $3 where rid = any($1) and state = $2 and body <> '' returning rid, version, type
         )
         insert into change (rid, updated, version, type, operation)
         select rid, $4, version, type, $5 from moved order by rid",
    )
    .bind(rids)
    .bind(from as i16)
    .bind(to as i16)
    .bind(now)
    .bind(operation as i16)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// What the index is to hold of a row.
pub struct Entry {
    pub rid: i64,
    pub self_hash: i64,
    /// [`IndexEntry::of_resource`]
    pub entry: IndexEntry,
}

/// Words of the vocabulary and units that a batch has made known.
pub struct Learnt {
    pub words: Vec<i64>,
    pub units: Vec<i64>,
}

impl Learnt {
    /// The batch is committed.
    pub fn remember(self, store: &Store) {
        store.vocabulary.remember(self.words);
        store.units.learn(self.units);
    }
}

/// Replaces the index entries of rows whose content stays.
pub async fn replace_index(store: &Store, conn: &mut PgConnection, entries: &[Entry]) -> Result<Learnt, sqlx::Error> {
    let mut columns = Columns::default();
    for (place, Entry { rid, self_hash, entry }) in entries.iter().enumerate() {
        columns.rid.push(*rid);
        columns.self_hash.push(*self_hash);
        columns.push_entry(place, entry);
    }
    let words = learn(&store.vocabulary, conn, &columns.words).await?;
    let units = store.units.leave_new(&mut columns.units);
    sqlx::query(REPLACE_INDEX).bind(&columns.rid).execute(&mut *conn).await?;
    sqlx::query(
        "update resource r
         set present = i.present, date_low = i.date_low, date_high = i.date_high, reference_terms = i.reference_terms, terms = ($8::bigint[])[i.term_first:i.term_last]
         from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::int[], $7::int[])
              i (rid, present, date_low, date_high, reference_terms, term_first, term_last)
         where r.rid = i.rid",
    )
    .bind(&columns.rid)
    .bind(&columns.present)
    .bind(&columns.date_low)
    .bind(&columns.date_high)
    .bind(&columns.reference_terms)
    .bind(&columns.term_first)
    .bind(&columns.term_last)
    .bind(&columns.terms)
    .execute(&mut *conn)
    .await?;
    let text = match &columns.contained {
        None => &INSERT_SIDES,
        Some(_) => &INSERT_SIDES_WITH_CONTAINED,
    };
    let query = columns.bind_sides(sqlx::query(sqlx::AssertSqlSafe(text.as_str())));
    with_contained(&columns, query).execute(&mut *conn).await?;
    write_texts(conn, &columns).await?;
    Ok(Learnt { words, units })
}

/// Replaces the index entries of superseded versions, given with the row and version of each.
pub async fn replace_history_index(
    store: &Store,
    conn: &mut PgConnection,
    entries: &[(i64, i32, IndexEntry)],
) -> Result<Learnt, sqlx::Error> {
    let mut columns = Columns::default();
    for (place, (_, version, entry)) in entries.iter().enumerate() {
        // The side rows name their version by its place.
        columns.rid.push(place as i64 + 1);
        columns.version.push(*version);
        columns.push_entry(place, entry);
    }
    let words = learn(&store.vocabulary, conn, &columns.words).await?;
    let units = store.units.leave_new(&mut columns.units);
    let rids: Vec<i64> = entries.iter().map(|(rid, ..)| *rid).collect();
    sqlx::query(REPLACE_HISTORY_INDEX)
        .bind(&rids)
        .bind(&columns.version)
        .execute(&mut *conn)
        .await?;
    // What is told of the time is exact: a version holds until the first of those that came after it.
    sqlx::query(
        "update history h
         set self_hash = r.self_hash, id = r.id, present = i.present, date_low = i.date_low, date_high = i.date_high,
             reference_terms = i.reference_terms, terms = ($9::bigint[])[i.term_first:i.term_last],
             superseded = least(r.updated, (select min(later.updated) from history later where later.rid = h.rid and later.version > h.version))
         from unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[], $7::int[], $8::int[])
              i (rid, version, present, date_low, date_high, reference_terms, term_first, term_last)
         join resource r on r.rid = i.rid
         where h.rid = i.rid and h.version = i.version",
    )
    .bind(&rids)
    .bind(&columns.version)
    .bind(&columns.present)
    .bind(&columns.date_low)
    .bind(&columns.date_high)
    .bind(&columns.reference_terms)
    .bind(&columns.term_first)
    .bind(&columns.term_last)
    .bind(&columns.terms)
    .execute(&mut *conn)
    .await?;
    let query = sqlx::query(sqlx::AssertSqlSafe(INSERT_HISTORY_SIDES.as_str()));
    columns.bind_sides(query).bind(&rids).bind(&columns.version).execute(conn).await?;
    Ok(Learnt { words, units })
}

/// Side rows of superseded versions: the arguments of [`Columns::bind_sides`], where rows are places, and the row and version of each place.
static INSERT_HISTORY_SIDES: LazyLock<String> = LazyLock::new(|| {
    format!(
        "with strings as (
        insert into string_history (rid, version, key, value)
        select ($24::bigint[])[place], ($25::int[])[place], key, value from unnest($1::bigint[], $2::int[], $3::text[]) s (place, key, value)
    ), dates as (
        insert into date_history (rid, version, key, low, high)
        select ($24::bigint[])[place], ($25::int[])[place], key, low, high
        from unnest($4::bigint[], $5::int[], $6::bigint[], $7::bigint[]) d (place, key, low, high)
    ), positions as (
        insert into position_history (rid, version, at)
        select ($24::bigint[])[place], ($25::int[])[place], point(x, y)
        from unnest($21::bigint[], $22::float8[], $23::float8[]) p (place, x, y)
    ), {WORDS}
    insert into quantity_history (rid, version, key, unit, code, low, high, system, joint)
    select ($24::bigint[])[place], ($25::int[])[place], key, unit, code, low, high, system, joint
    from unnest($8::bigint[], $9::int[], $10::bigint[], $11::bigint[], $12::float8[], $13::float8[], $14::int[], $15::bigint[])
         q (place, key, unit, code, low, high, system, joint)"
    )
});

static INSERT_SIDES: LazyLock<String> = LazyLock::new(|| format!("with {}, {WORDS} select 1", *SIDES));
static INSERT_SIDES_WITH_CONTAINED: LazyLock<String> =
    LazyLock::new(|| format!("with {}, {} select 1", *SIDES, words_and_contained(CONTAINED_OF_INDEX)));

const REPLACE_HISTORY_INDEX: &str = "
with old as (select * from unnest($1::bigint[], $2::int[]) old (rid, version)),
     gone_strings as (delete from string_history s using old where s.rid = old.rid and s.version = old.version),
     gone_dates as (delete from date_history s using old where s.rid = old.rid and s.version = old.version),
     gone_positions as (delete from position_history s using old where s.rid = old.rid and s.version = old.version)
delete from quantity_history s using old where s.rid = old.rid and s.version = old.version";

const REPLACE_INDEX: &str = "
with gone_strings as (delete from string_index where rid = any($1)),
     gone_dates as (delete from date_index where rid = any($1)),
     gone_texts as (delete from text_index where rid = any($1)),
     gone_contained as (delete from contained where container = any($1)),
     gone_positions as (delete from position where rid = any($1))
delete from quantity_index where rid = any($1)";

/// Moves what waits in the inverted index's pending list into the index.
pub async fn merge_pending(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query("select gin_clean_pending_list('resource_terms')").execute(pool).await?;
    Ok(())
}
