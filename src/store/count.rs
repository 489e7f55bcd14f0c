//! How many resources satisfy a condition, exactly.
//!
//! To count very many is to look at each of them. So what was counted is kept, by blocks of row ids, and the next count of the same condition counts
//! only the blocks again in which something has changed since. What has changed is told by the change rows: all below `sequencer.low` are visible to
//! every later snapshot (`store::feed`), so whatever is not yet in a kept count has one that stands above. A block that is counted again is read with
//! the changes that name it in one statement, and so in one snapshot: the sum is that of this snapshot. Why so: `docs/adr/0008-plans.md`.

use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::compile::source::Reads;
use crate::search::condition::Condition;
use crate::search::density::Plan;
use crate::search::sql::Arg;
use crate::search::sql::Sql;
use crate::search::term::type_term;
use crate::store::Store;
use crate::store::database_error;
use crate::store::read::note;
use crate::store::read::run;
use crate::store::unit::Change;
use sqlx::FromRow as _;
use sqlx::PgConnection;
use sqlx::Row as _;
use std::sync::Arc;
use std::sync::Mutex;
use xxhash_rust::xxh3::xxh3_128;

/// A block has two to the power of so many row ids: few enough to be counted in a moment, and so many that a kept count is small.
const BLOCK_BITS: u32 = 8;
/// Blocks that are counted again. Where more have changed, everything is counted.
const BLOCKS_MAX: usize = 200;
/// Change rows that are looked at to learn what has changed.
const CHANGES_MAX: i64 = 5_000;
/// Blocks of all kept counts together, 8 bytes each.
const KEPT_BLOCKS_MAX: usize = 2_000_000;
/// Changes that hide a resource, and that show it again.
const HIDDEN: i16 = Change::Withdraw as i16;
const SHOWN: i16 = Change::Restore as i16;
/// Kept counts, however small.
const KEPT_MAX: usize = 1_000;

/// Where the feed, the index and the past stand, in which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
struct Mark {
    /// Every change row with a lower seq can be seen.
    low: i64,
    /// Of the index, which changes without a change row (`search_generation`).
    generation: i64,
    /// Of what can be seen of the past, which changes so too (migration 0023).
    past: i64,
    /// When the database began, in microseconds: another may lack what was committed last.
    began: i64,
}

const MARK: &str = "(select low from sequencer) as low, (select generation from search_generation) as generation, \
                    (select changes from past) as past, (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint as began";

impl Mark {
    /// The feed has gone on, and the index is the same.
    fn goes_on_to(self, later: Mark) -> bool {
        later.low >= self.low && later.generation == self.generation && later.began == self.began
    }
}

/// What was counted, and when: at this mark or later.
#[derive(Debug, Clone)]
struct Kept {
    mark: Mark,
    /// Blocks that have matches, in order, with how many.
    blocks: Arc<Vec<(u32, u32)>>,
    total: i64,
}

impl Kept {
    fn of(mark: Mark, blocks: Vec<(u32, u32)>) -> Kept {
        Kept {
            mark,
            total: blocks.iter().map(|(_, count)| i64::from(*count)).sum(),
            blocks: Arc::new(blocks),
        }
    }
}

/// The kept counts of a server.
#[derive(Debug, Default)]
pub struct Counts {
    now: KeptCounts,
    /// As of instants, of which there is no end: they take no place from the others.
    past: KeptCounts,
}

/// Those that were asked for last stand at the end.
#[derive(Debug, Default)]
struct KeptCounts(Mutex<Vec<(u128, Kept)>>);

impl KeptCounts {
    fn get(&self, key: u128) -> Option<Kept> {
        let kept = self.0.lock().expect("not poisoned");
        kept.iter().find(|(of, _)| *of == key).map(|(_, kept)| kept.clone())
    }

    /// Keeps it, as far as there is room, and returns its total.
    fn keep(&self, key: u128, new: Kept) -> i64 {
        let total = new.total;
        let mut kept = self.0.lock().expect("not poisoned");
        kept.retain(|(of, _)| *of != key);
        kept.push((key, new));
        let mut room = KEPT_BLOCKS_MAX;
        let fits = |(_, kept): &&(u128, Kept)| {
            room = room.saturating_sub(kept.blocks.len() + 1);
            room > 0
        };
        let stay = kept.iter().rev().take(KEPT_MAX).take_while(fits).count();
        let gone = kept.len() - stay;
        kept.drain(..gone);
        total
    }
}

/// How many resources satisfy the condition, which may have the term of this type.
pub async fn count(store: &Store, policy: Policy, reads: Reads, number: i16, condition: &Condition) -> Result<i64, Outcome> {
    let key = || xxh3_128(format!("{policy:?} {reads:?} {number} {condition:?}").as_bytes());
    let counts = &store.counts;
    let gathered = store.density().gathered(condition);
    match reads {
        Reads::AsOf(_) => {
            let key = key();
            let kept = as_of(store, policy, reads, condition, gathered, counts.past.get(key)).await?;
            Ok(counts.past.keep(key, kept))
        }
        Reads::Now if gathered.is_none() => {
            let key = key();
            let untyped = condition.without_type(number);
            let counting = Counting {
                store,
                policy,
                number: untyped.is_some().then_some(number),
                condition: untyped.as_ref().unwrap_or(condition),
            };
            let kept = counting.now(counts.now.get(key)).await?;
            Ok(counts.now.keep(key, kept))
        }
        _ => count_all(store, policy, reads, condition, gathered).await,
    }
}

/// What was as of an instant stays so: only what is hidden or shown since, or erased, changes how many there were.
async fn as_of(
    store: &Store,
    policy: Policy,
    reads: Reads,
    condition: &Condition,
    gathered: Option<(Condition, Condition)>,
    kept: Option<Kept>,
) -> Result<Kept, Outcome> {
    if let Some(kept) = kept {
        let moved = format!("coalesce(array_agg(type) filter (where operation in ({HIDDEN}, {SHOWN})), '{{}}')");
        let mut sql = Sql::default();
        sql.push(&format!(
            "select {MARK}, {moved} as types, count(*) as changes from (select type, operation from change where seq >= "
        ));
        sql.bind(Arg::Int(kept.mark.low))
            .push(" order by seq limit ")
            .bind(Arg::Int(CHANGES_MAX + 1));
        sql.push(") c");
        let Changed { since, changes } = Changed::from_row(&one(store, Plan::Gather, sql).await?).map_err(database_error)?;
        let is_same_past = kept.mark.goes_on_to(since.mark) && since.mark.past == kept.mark.past;
        if is_same_past && since.types.is_empty() && changes <= CHANGES_MAX {
            return Ok(Kept { mark: since.mark, ..kept });
        }
    }
    let mark = mark(store).await?;
    Ok(Kept {
        mark,
        blocks: Arc::default(),
        total: count_all(store, policy, reads, condition, gathered).await?,
    })
}

/// What can be seen of the past has changed, and no change row says so: what was counted as of an instant is counted anew.
pub async fn past_has_changed(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("update past set changes = changes + 1").execute(conn).await?;
    Ok(())
}

/// Where everything stands, before a long statement: that one reads no table that others lock, or whose locks tell others that something is written.
async fn mark(store: &Store) -> Result<Mark, Outcome> {
    let mut sql = Sql::default();
    sql.push(&format!("select {MARK}"));
    Mark::from_row(&one(store, Plan::Gather, sql).await?).map_err(database_error)
}

/// Counts all that match. `gathered` is the condition in two, if its rows come from an index ([`Density::gathered`](crate::search::density::Density::gathered)).
async fn count_all(
    store: &Store,
    policy: Policy,
    reads: Reads,
    condition: &Condition,
    gathered: Option<(Condition, Condition)>,
) -> Result<i64, Outcome> {
    let mut compiler = Compiler::new(policy, reads);
    compiler.sql.push("select count(*) as total");
    let plan = match gathered {
        Some((driver, rest)) => {
            compiler.fenced("m", &driver, |_, _| {}, &rest);
            Plan::Gather
        }
        None => {
            compiler.count_all();
            compiler.resource(&store.density().counted(condition));
            Plan::Walk
        }
    };
    one(store, plan, compiler.sql).await?.try_get("total").map_err(database_error)
}

/// The answer of a statement that has one.
async fn one(store: &Store, plan: Plan, sql: Sql) -> Result<sqlx::postgres::PgRow, Outcome> {
    note(store, plan, &sql);
    let mut conn = store.pools.of(plan).lend().await.map_err(database_error)?;
    let mut rows = run(&mut conn, sql).await.map_err(database_error)?;
    conn.done();
    rows.pop().ok_or_else(|| Outcome::internal("a count without an answer"))
}

/// Where everything stands, and the types of which something has changed since a mark, as often as blocks of them have.
#[derive(sqlx::FromRow)]
struct Since {
    #[sqlx(flatten)]
    mark: Mark,
    types: Vec<i16>,
}

/// What has changed since a mark.
#[derive(sqlx::FromRow)]
struct Changed {
    #[sqlx(flatten)]
    since: Since,
    changes: i64,
}

/// Blocks, in order, with how many matches each has.
#[derive(sqlx::FromRow)]
struct Counted {
    blocks: Vec<i64>,
    counts: Vec<i64>,
}

const PAIRS: &str = "coalesce(array_agg(block order by block), '{}') as blocks, coalesce(array_agg(count order by block), '{}') as counts";

impl Counted {
    fn pairs(&self) -> Result<Vec<(u32, u32)>, Outcome> {
        let pair = |(block, count): (&i64, &i64)| Ok((u32::try_from(*block)?, u32::try_from(*count)?));
        let pairs: Result<_, std::num::TryFromIntError> = self.blocks.iter().zip(&self.counts).map(pair).collect();
        pairs.map_err(|_| Outcome::internal("row ids are beyond what is counted by blocks"))
    }
}

/// The blocks with those in place that were counted again; both are in order.
fn replaced(kept: &[(u32, u32)], again: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let is_again = |block: u32| again.binary_search_by_key(&block, |(of, _)| *of).is_ok();
    let mut blocks: Vec<(u32, u32)> = kept.iter().copied().filter(|(block, _)| !is_again(*block)).collect();
    blocks.extend(again.iter().filter(|(_, count)| *count > 0));
    blocks.sort_unstable();
    blocks
}

struct Counting<'a> {
    store: &'a Store,
    policy: Policy,
    /// All that match are of this type, which the condition need not say.
    number: Option<i16>,
    condition: &'a Condition,
}

impl Counting<'_> {
    async fn now(&self, kept: Option<Kept>) -> Result<Kept, Outcome> {
        let fresh = match kept {
            Some(kept) => self.again(kept).await?,
            None => None,
        };
        match fresh {
            Some(fresh) => Ok(fresh),
            None => self.all().await,
        }
    }

    /// Counts everything, by blocks.
    async fn all(&self) -> Result<Kept, Outcome> {
        let mark = mark(self.store).await?;
        let mut compiler = Compiler::new(self.policy, Reads::Now);
        let alias = compiler.upcoming_alias();
        compiler.sql.push(&format!(
            "select {PAIRS} from (select {alias}.rid >> {BLOCK_BITS} as block, count(*) as count"
        ));
        compiler.count_all();
        compiler.resource(&self.store.density().counted(self.condition));
        // A column costs less to compare than a term, and all of a type are counted from an index alone.
        self.push_type(&mut compiler.sql, &alias);
        compiler.sql.push(" group by 1) counted");
        let row = one(self.store, Plan::Walk, compiler.sql).await?;
        let counted = Counted::from_row(&row).map_err(database_error)?;
        Ok(Kept::of(mark, counted.pairs()?))
    }

    /// Counts again what has changed; `None` if that is too much, or more than single blocks.
    async fn again(&self, kept: Kept) -> Result<Option<Kept>, Outcome> {
        let Some(linked) = self.condition.linked_types() else {
            return Ok(None);
        };
        // What is linked decides over any row.
        let still =
            |since: &Since| kept.mark.goes_on_to(since.mark) && !since.types.iter().any(|number| linked.contains(&type_term(*number)));
        let Changed { since, changes } = self.changed(kept.mark.low).await?;
        let is_of_type = |number: &&i16| self.number.is_none_or(|of| **number == of);
        let of_type = since.types.iter().filter(is_of_type).count();
        if !still(&since) || changes > CHANGES_MAX || of_type > BLOCKS_MAX {
            return Ok(None);
        }
        if of_type == 0 {
            return Ok(Some(Kept { mark: since.mark, ..kept }));
        }
        let row = one(self.store, Plan::Gather, self.sql_of_changed(kept.mark.low)).await?;
        let since = Since::from_row(&row).map_err(database_error)?;
        let counted = Counted::from_row(&row).map_err(database_error)?;
        if !still(&since) {
            return Ok(None);
        }
        Ok(Some(Kept::of(since.mark, replaced(&kept.blocks, &counted.pairs()?))))
    }

    /// What change rows from this seq on tell, as far as they are looked at.
    async fn changed(&self, low: i64) -> Result<Changed, Outcome> {
        let mut sql = Sql::default();
        sql.push(&format!(
            "select {MARK}, coalesce(sum(changes), 0)::bigint as changes, coalesce(array_agg(type), '{{}}') as types \
             from (select type, count(*) as changes from (select type, rid from change where seq >= "
        ));
        sql.bind(Arg::Int(low)).push(" order by seq limit ").bind(Arg::Int(CHANGES_MAX + 1));
        sql.push(&format!(") c group by type, rid >> {BLOCK_BITS}) changed"));
        let row = one(self.store, Plan::Gather, sql).await?;
        Changed::from_row(&row).map_err(database_error)
    }

    /// The statement that counts the blocks again that have a change from this seq on.
    fn sql_of_changed(&self, low: i64) -> Sql {
        let mut compiler = Compiler::new(self.policy, Reads::Now);
        compiler.sql.push("with changed as materialized (select distinct type, rid >> ");
        compiler
            .sql
            .push(&format!("{BLOCK_BITS} as block from change where seq >= "))
            .bind(Arg::Int(low));
        compiler.sql.push(&format!(
            ") select {MARK}, (select coalesce(array_agg(type), '{{}}') from changed) as types, {PAIRS} from (select c.block, (select count(*)"
        ));
        let narrow = |sql: &mut Sql, alias: &str| {
            self.push_type(sql, alias);
            sql.push(&format!(
                " and {alias}.rid >= c.block << {BLOCK_BITS} and {alias}.rid < (c.block + 1) << {BLOCK_BITS}"
            ));
        };
        compiler.ask_each_row();
        let asked = self.store.density().asked(self.condition);
        compiler.fenced("m", &Condition::All(Vec::new()), narrow, &asked);
        compiler
            .sql
            .push(") as count from (select distinct c.block from changed c where true");
        self.push_type(&mut compiler.sql, "c");
        compiler.sql.push(") c) counted");
        compiler.sql
    }

    fn push_type(&self, sql: &mut Sql, alias: &str) {
        if let Some(number) = self.number {
            sql.push(&format!(" and {alias}.type = {number}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_were_counted_again_replace_those_that_were_kept() {
        let kept = [(1, 10), (2, 20), (4, 40)];
        for (again, then) in [
            (vec![], vec![(1, 10), (2, 20), (4, 40)]),
            (vec![(2, 19)], vec![(1, 10), (2, 19), (4, 40)]),
            (vec![(2, 0), (3, 1), (9, 2)], vec![(1, 10), (3, 1), (4, 40), (9, 2)]),
            (vec![(1, 0), (2, 0), (4, 0)], vec![]),
        ] {
            assert_eq!(replaced(&kept, &again), then, "{again:?}");
        }
    }

    #[test]
    fn what_was_asked_for_last_stays_when_there_is_no_room_for_all() {
        let mark = Mark {
            low: 1,
            generation: 1,
            past: 0,
            began: 0,
        };
        let of = |blocks: usize| Kept::of(mark, vec![(0, 1); blocks]);
        let counts = KeptCounts::default();
        for key in 0..3 {
            counts.keep(key, of(KEPT_BLOCKS_MAX / 3 - 10));
        }
        assert!((0..3).all(|key| counts.get(key).is_some()));
        counts.keep(0, of(KEPT_BLOCKS_MAX / 3 - 10));
        counts.keep(3, of(KEPT_BLOCKS_MAX / 3 - 10));
        assert_eq!([0, 1, 2, 3].map(|key| counts.get(key).is_some()), [true, false, true, true]);
        counts.keep(4, of(KEPT_BLOCKS_MAX + 1));
        assert!((0..5).all(|key| counts.get(key).is_none()), "one that is too large is not kept");
        for key in 0..KEPT_MAX as u128 + 5 {
            counts.keep(key, of(1));
        }
        assert_eq!([0, 4, 5].map(|key| counts.get(key).is_some()), [false, false, true]);
    }
}
