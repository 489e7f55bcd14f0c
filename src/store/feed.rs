//! The feed: each change gets a gapless position, once, however late its transaction commits.
//!
//! Change rows carry a seq from a sequence, and a reader that follows it would lose what commits late. So one leader gives positions: it
//! reads what lies above the highest seq it knows and what has appeared in the holes below, and writes the positions as runs
//! `[position, position + count) = [seq, seq + count)`. A hole is given up when every transaction that could fill it has ended.
//! A leader that was frozen finds its epoch outdated and writes nothing. Why so: `docs/adr/0002-feed.md`.

use crate::store::unit::Change as Kind;
use sqlx::PgConnection;
use std::collections::VecDeque;

/// Changes that one tick takes.
const TICK_CHANGES_MAX: i64 = 2_000;
/// Key of the advisory lock that the leader holds for as long as its connection lives.
const LEADER_LOCK: i64 = 4_242_002;

/// A change with its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub position: i64,
    pub rid: i64,
    /// The resource was not here before, or deleted, or hidden.
    pub is_creation: bool,
}

/// A visible change, and the lowest transaction that still ran for the snapshot that shows it; one row without a change when there is none.
#[derive(sqlx::FromRow)]
struct Seen {
    xmin: i64,
    seq: Option<i64>,
    rid: Option<i64>,
    operation: Option<i16>,
}

/// What the leader remembers between ticks.
#[derive(Debug)]
pub struct Leader {
    epoch: i32,
    /// The highest seq that has a position.
    highest: i64,
    /// Ranges of seqs at or below `highest` that have none yet: in flight, or rolled back.
    holes: Vec<(i64, i64)>,
    /// (seq, xid): when every transaction below xid has ended, the holes up to seq will never be filled.
    marks: VecDeque<(i64, i64)>,
    /// The seq of the next mark: the highest that the last snapshot showed. Its xid is that of the next tick, because a snapshot does not tell
    /// the highest that is in use: its xmax is that of the highest that has ended, and younger ones can run.
    unmarked: Option<i64>,
}

impl Leader {
    /// Becomes the leader if nobody is; the connection must live on, since it holds the lock.
    pub async fn elect(conn: &mut PgConnection) -> Result<Option<Leader>, sqlx::Error> {
        let is_free: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(LEADER_LOCK)
            .fetch_one(&mut *conn)
            .await?;
        if !is_free {
            return Ok(None);
        }
        let (epoch, low): (i32, i64) = sqlx::query_as("update sequencer set epoch = epoch + 1 returning epoch, low")
            .fetch_one(&mut *conn)
            .await?;
        let runs: Vec<(i64, i32)> = sqlx::query_as("select seq_first, count from feed_run where seq_first + count > $1 order by seq_first")
            .bind(low)
            .fetch_all(conn)
            .await?;
        let mut leader = Leader {
            epoch,
            highest: low - 1,
            holes: Vec::new(),
            marks: VecDeque::new(),
            unmarked: None,
        };
        for (first, count) in runs {
            leader.cover(first, first + i64::from(count) - 1);
        }
        Ok(Some(leader))
    }

    /// Takes note that the seqs of a range have positions.
    fn cover(&mut self, first: i64, last: i64) {
        if first > self.highest {
            if first > self.highest + 1 {
                self.holes.push((self.highest + 1, first - 1));
            }
            self.highest = last;
            return;
        }
        let mut left = Vec::with_capacity(self.holes.len() + 1);
        for (low, high) in self.holes.drain(..) {
            if last < low || first > high {
                left.push((low, high));
                continue;
            }
            if low < first {
                left.push((low, first - 1));
            }
            if high > last {
                left.push((last + 1, high));
            }
        }
        self.holes = left;
        self.highest = self.highest.max(last);
    }

    /// Gives positions to what became visible, in the caller's transaction. `None`: another leader has taken over.
    pub async fn tick(&mut self, tx: &mut PgConnection) -> Result<Option<Vec<Change>>, sqlx::Error> {
        let begun: Option<(i64, i64)> =
            sqlx::query_as("select position, pg_current_xact_id()::text::bigint from sequencer where epoch = $1 for update")
                .bind(self.epoch)
                .fetch_optional(&mut *tx)
                .await?;
        let Some((position, xid)) = begun else { return Ok(None) };
        self.mark(xid);
        let (lows, highs): (Vec<i64>, Vec<i64>) = self.holes.iter().copied().unzip();
        // One statement, so that the rows and the bounds are of the same snapshot.
        let seen: Vec<Seen> = sqlx::query_as(
            "select pg_snapshot_xmin(s.snapshot)::text::bigint as xmin, c.seq, c.rid, c.operation
             from (select pg_current_snapshot() as snapshot) s
             left join (
                 select c.seq, c.rid, c.operation from unnest($1::bigint[], $2::bigint[]) hole (low, high) join change c on c.seq between hole.low and hole.high
                 union all
                 select seq, rid, operation from change where seq > $3
                 order by 1
                 limit $4
             ) c on true
             order by c.seq",
        )
        .bind(lows)
        .bind(highs)
        .bind(self.highest)
        .bind(TICK_CHANGES_MAX)
        .fetch_all(&mut *tx)
        .await?;
        let xmin = seen.first().map_or(0, |s| s.xmin);
        let found: Vec<(i64, i64)> = seen.iter().filter_map(|s| Some((s.seq?, s.rid?))).collect();
        let changes: Vec<Change> = seen
            .iter()
            .filter_map(|s| s.rid.zip(s.operation))
            .zip(position..)
            .map(|((rid, operation), position)| Change {
                position,
                rid,
                is_creation: [Kind::Create as i16, Kind::Restore as i16].contains(&operation),
            })
            .collect();
        let runs = runs(&found, position);
        for (_, first, count) in &runs {
            self.cover(*first, first + i64::from(*count) - 1);
        }
        let is_whole = (found.len() as i64) < TICK_CHANGES_MAX;
        let low = self.give_up_holes(xmin, is_whole);
        if !runs.is_empty() {
            store_runs(tx, &runs).await?;
        }
        sqlx::query("update sequencer set position = $1, low = greatest(low, $2) where epoch = $3")
            .bind(position + changes.len() as i64)
            .bind(low)
            .bind(self.epoch)
            .execute(tx)
            .await?;
        Ok(Some(changes))
    }

    /// A transaction has begun after the last snapshot: whoever took a seq below one that was visible there had its id before.
    fn mark(&mut self, xid: i64) {
        if let Some(seq) = self.unmarked.take() {
            self.marks.push_back((seq, xid));
        }
    }

    /// Drops the holes that no transaction can fill any more, and returns the lowest seq that still can come.
    fn give_up_holes(&mut self, xmin: i64, is_whole: bool) -> i64 {
        // The snapshot of this tick saw all that ended before xmin; what it did not show of those will never come.
        while is_whole && self.marks.front().is_some_and(|(_, xid)| *xid <= xmin) {
            if let Some((seq, _)) = self.marks.pop_front() {
                self.holes.retain_mut(|(low, high)| {
                    *low = (*low).max(seq + 1);
                    low <= high
                });
            }
        }
        if !self.holes.is_empty() && self.marks.back().is_none_or(|(seq, _)| *seq < self.highest) {
            self.unmarked = Some(self.highest);
        }
        self.holes.first().map_or(self.highest + 1, |(low, _)| *low)
    }
}

/// (position, first seq, count) of each range of consecutive seqs.
fn runs(found: &[(i64, i64)], position: i64) -> Vec<(i64, i64, i32)> {
    let mut runs: Vec<(i64, i64, i32)> = Vec::new();
    for (seq, position) in found.iter().map(|(seq, _)| *seq).zip(position..) {
        match runs.last_mut() {
            Some((_, first, count)) if *first + i64::from(*count) == seq => *count += 1,
            _ => runs.push((position, seq, 1)),
        }
    }
    runs
}

async fn store_runs(conn: &mut PgConnection, runs: &[(i64, i64, i32)]) -> Result<(), sqlx::Error> {
    sqlx::query("insert into feed_run (position, seq_first, count) select * from unnest($1::bigint[], $2::bigint[], $3::int[])")
        .bind(runs.iter().map(|r| r.0).collect::<Vec<_>>())
        .bind(runs.iter().map(|r| r.1).collect::<Vec<_>>())
        .bind(runs.iter().map(|r| r.2).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> Leader {
        Leader {
            epoch: 1,
            highest: 0,
            holes: Vec::new(),
            marks: VecDeque::new(),
            unmarked: None,
        }
    }

    #[test]
    fn consecutive_seqs_make_one_run() {
        assert_eq!(runs(&[(5, 0), (6, 0), (9, 0)], 1), [(1, 5, 2), (3, 9, 1)]);
    }

    #[test]
    fn a_seq_that_comes_late_fills_its_hole() {
        let mut leader = leader();
        leader.cover(1, 3);
        leader.cover(7, 9);
        assert_eq!((leader.highest, leader.holes.as_slice()), (9, &[(4, 6)][..]));
        leader.cover(5, 5);
        assert_eq!(leader.holes, [(4, 4), (6, 6)]);
        leader.cover(4, 4);
        leader.cover(6, 6);
        assert_eq!(leader.holes, []);
    }

    #[test]
    fn a_hole_is_given_up_only_when_its_transactions_have_ended() {
        let mut leader = leader();
        leader.cover(1, 3);
        leader.cover(5, 6);
        assert_eq!(leader.give_up_holes(10, true), 4, "nothing is marked before the next transaction");
        leader.mark(20);
        assert_eq!(leader.give_up_holes(19, true), 4, "transaction 19 still runs");
        assert_eq!(leader.give_up_holes(20, false), 4, "the tick did not see everything");
        assert_eq!(leader.give_up_holes(20, true), 7);
        assert_eq!(leader.holes, []);
    }
}
