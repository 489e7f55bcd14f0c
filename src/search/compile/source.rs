//! Where a search reads: resources as they are now, or as they were at an instant.
//!
//! As of an instant an alias stands for both tables together, `resource` and `history`, each version with the time from which and until which it
//! held. The planner sees through a plain `union all` (it becomes an append relation), so that every condition reaches the indexes of both, which
//! are the same. `place` tells the versions of one resource apart: 0 is the current one, and a superseded one has its number, as in the side tables.
//! What it costs: docs/adr/0010-time-travel.md.
//!
//! Contained resources have rows of their own, joined to that of their container: whether they may be seen is asked of it (docs/adr/0016-contained.md).

use crate::search::compile::Compiler;
use crate::search::sql::Arg;
use chrono::DateTime;
use chrono::Utc;

/// The rows that an alias stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    Now,
    /// As of an instant: the first that is not looked at.
    AsOf(DateTime<Utc>),
    /// Contained resources.
    Contained,
    /// Contained resources that their container refers to: an id says nothing of these, it is theirs within the container alone.
    Linked,
}

impl From<Option<DateTime<Utc>>> for Reads {
    fn from(before: Option<DateTime<Utc>>) -> Reads {
        before.map_or(Reads::Now, Reads::AsOf)
    }
}

impl Reads {
    pub fn is_contained(self) -> bool {
        matches!(self, Reads::Contained | Reads::Linked)
    }
}

const SUPERSEDED: &str = " from history ";
const NOW: &str = " from resource ";
const VERSIONS: &str = " from (select rid, 0 as place, updated, 'infinity'::timestamptz as superseded, self_hash, present, date_low, date_high, version, \
                        type, state, dictionary, reference_terms, id, terms, body from resource \
                        union all \
                        select rid, version, updated, superseded, self_hash, present, date_low, date_high, version, \
                        type, state, dictionary, reference_terms, id, terms, body from history) ";
/// The state is that of the container, and so are instant and version.
pub(super) const CONTAINED: &str = " from (select c.rid, k.updated, c.self_hash, c.id_hash, c.present, c.date_low, c.date_high, k.version, c.type, k.state, \
                         0::smallint as dictionary, c.reference_terms, c.id, c.terms, ''::bytea as body, c.container, c.content, \
                         k.type as container_type, k.id as container_id \
                         from contained c join resource k on k.rid = c.container) ";
/// Superseded versions have no index of hashes: a resource has the same row id in all its versions.
const BY_HASH: &str = ".rid in (select named.rid from resource named where named.self_hash ";

/// A side table: values of one kind, by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    now: &'static str,
    superseded: &'static str,
    contained: &'static str,
    columns: &'static str,
}

pub const STRINGS: Side = Side {
    now: "string_index",
    superseded: "string_history",
    contained: "contained_string",
    columns: "key, value",
};
pub const DATES: Side = Side {
    now: "date_index",
    superseded: "date_history",
    contained: "contained_date",
    columns: "key, low, high",
};
pub const QUANTITIES: Side = Side {
    now: "quantity_index",
    superseded: "quantity_history",
    contained: "contained_quantity",
    columns: "key, unit, code, low, high, system, joint",
};

pub const POSITIONS: Side = Side {
    now: "position",
    superseded: "position_history",
    contained: "contained_position",
    columns: "at",
};

impl Side {
    /// The rows of now and those of superseded versions, as one.
    fn versions(self) -> String {
        format!(
            "(select rid, 0 as place, {columns} from {} union all select rid, version, {columns} from {})",
            self.now,
            self.superseded,
            columns = self.columns
        )
    }

    /// The table of what is there now.
    pub fn now(self) -> &'static str {
        self.now
    }

    /// `table s where s.rid = alias.rid`: what the table has of an alias.
    pub fn of_alias(self, alias: &str, reads: Reads) -> String {
        match reads {
            Reads::Now => format!("{} s where s.rid = {alias}.rid", self.now),
            Reads::AsOf(_) => format!("{} s where s.rid = {alias}.rid and s.place = {alias}.place", self.versions()),
            Reads::Contained | Reads::Linked => format!("{} s where s.rid = {alias}.rid", self.contained),
        }
    }
}

/// The condition that an alias is of the resource with this hash, an expression.
pub fn hash_is(alias: &str, hash: &str, is_as_of: bool) -> String {
    match is_as_of {
        false => format!("{alias}.self_hash = {hash}"),
        true => format!("{alias}{BY_HASH}= {hash})"),
    }
}

impl Compiler {
    /// Writes ` from ... alias`.
    pub(super) fn push_source(&mut self, alias: &str) {
        let source = match self.reads {
            Reads::Now => NOW,
            Reads::AsOf(_) => VERSIONS,
            Reads::Contained | Reads::Linked => CONTAINED,
        };
        self.sql.push(source).push(alias);
    }

    /// Writes ` from history alias where <policy>`: superseded versions of whatever time.
    pub fn superseded(&mut self, alias: &str) {
        let predicate = self.policy.predicate_of_superseded(alias);
        self.sql.push(SUPERSEDED).push(alias).push(" where ").push(&predicate);
    }

    /// Writes what reads other rows than the alias at hand.
    pub(super) fn reading(&mut self, reads: Reads, write: impl FnOnce(&mut Compiler)) {
        let before = std::mem::replace(&mut self.reads, reads);
        write(self);
        self.reads = before;
    }

    /// Writes what reads the resources that an alias refers to, or that refer to it: none of these is contained.
    pub(super) fn reading_others(&mut self, write: impl FnOnce(&mut Compiler)) {
        let reads = if self.reads.is_contained() { Reads::Now } else { self.reads };
        self.reading(reads, write);
    }

    /// Writes the policy, and which version holds.
    pub(super) fn push_policy(&mut self, alias: &str) {
        let Reads::AsOf(before) = self.reads else {
            let predicate = self.policy.predicate(alias);
            self.sql.push(&predicate);
            return;
        };
        // Where plans are made without the values, `is true` keeps the planner from reading half of an index for this alone.
        let (open, close) = if self.is_fenced { ("(", ") is true") } else { ("", "") };
        self.sql
            .push(&format!("{open}{alias}.updated < "))
            .bind(Arg::Instant(before))
            .push(&format!("{close} and {alias}.superseded >= "))
            .bind(Arg::Instant(before))
            .push(" and ");
        let predicate = self.policy.predicate_of_version(alias);
        self.sql.push(&predicate);
    }

    /// Writes `alias.self_hash <what>`, where `what` has an expression to look in.
    pub(super) fn push_hash(&mut self, alias: &str, what: impl FnOnce(&mut Compiler)) {
        match self.reads {
            Reads::AsOf(_) => {
                self.sql.push(alias).push(BY_HASH);
                what(self);
                self.sql.push(")");
            }
            _ => {
                self.sql.push(alias).push(".self_hash ");
                what(self);
            }
        }
    }

    /// The resources with these hashes of type and id.
    pub(super) fn ids(&mut self, alias: &str, hashes: &[i64]) {
        let hashes = Arg::Ints(hashes.to_vec());
        match self.reads {
            Reads::Linked => {
                self.sql.push("false");
            }
            Reads::Contained => {
                self.sql.push(alias).push(".id_hash = any(").bind(hashes).push(")");
            }
            Reads::Now | Reads::AsOf(_) => self.push_hash(alias, |compiler| {
                compiler.sql.push("= any(").bind(hashes).push(")");
            }),
        }
    }

    /// Writes `alias.rid in (`, left open: what follows selects [`Compiler::push_rows_of`] a side table.
    pub(super) fn open_rows(&mut self, alias: &str) {
        let rows = match self.reads {
            Reads::AsOf(_) => format!("({alias}.rid, {alias}.place) in ("),
            _ => format!("{alias}.rid in ("),
        };
        self.sql.push(&rows);
    }

    /// Writes `select s.rid from `.
    pub(super) fn push_rows_of(&mut self, side: &str) {
        let rows = match self.reads {
            Reads::AsOf(_) => format!("select {side}.rid, {side}.place from "),
            _ => format!("select {side}.rid from "),
        };
        self.sql.push(&rows);
    }

    /// Writes the side table, of now or of both times.
    pub(super) fn push_side(&mut self, side: Side) {
        match self.reads {
            Reads::Now => self.sql.push(side.now),
            Reads::AsOf(_) => self.sql.push(&side.versions()),
            Reads::Contained | Reads::Linked => self.sql.push(side.contained),
        };
    }

    /// `rid in (select rid from table where key = $n and `, left open.
    pub(super) fn side_table(&mut self, alias: &str, side: Side, keys: &[i32]) {
        if self.is_asking_each && self.is_asking_row {
            let of = side.of_alias(alias, self.reads);
            self.sql
                .push(&format!("exists (select from {of} and s.key = any("))
                .bind(Arg::Keys(keys.to_vec()))
                .push(") and ");
            return;
        }
        self.open_rows(alias);
        self.push_rows_of("s");
        self.push_side(side);
        self.sql.push(" s where s.key = any(").bind(Arg::Keys(keys.to_vec())).push(") and ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::search::condition::Condition;
    use chrono::DateTime;

    #[test]
    fn a_search_as_of_an_instant_names_both_tables_with_a_policy_on_every_alias() {
        let before = DateTime::UNIX_EPOCH;
        let mut compiler = Compiler::new(Policy::NotWithdrawn, Some(before));
        let target = Condition::All(vec![Condition::Ids(vec![1]), Condition::StringStart(vec![5], "ro".into())]);
        let has = Condition::Has(vec![8], Box::new(Condition::Terms(vec![2])));
        compiler.resource(&Condition::All(vec![Condition::Chain(vec![7], Box::new(target)), has]));
        let text = &compiler.sql.text;
        for alias in ["r0", "r1", "r2"] {
            assert!(text.contains(&format!("{VERSIONS}{alias} where {alias}.updated < $")), "{text}");
            assert!(text.contains(&Policy::NotWithdrawn.predicate_of_version(alias)), "{text}");
        }
        assert_eq!(text.matches(VERSIONS).count(), 3);
        assert_eq!(text.matches(NOW).count() - text.matches(BY_HASH).count(), 3 + 3, "{text}");
        assert_eq!(compiler.sql.args.iter().filter(|arg| **arg == Arg::Instant(before)).count(), 6);
    }

    #[test]
    fn side_tables_are_read_by_row_and_version() {
        let mut compiler = Compiler::new(Policy::NotWithdrawn, Some(DateTime::UNIX_EPOCH));
        compiler.side_table("r0", STRINGS, &[5]);
        assert_eq!(
            compiler.sql.text,
            "(r0.rid, r0.place) in (select s.rid, s.place from (select rid, 0 as place, key, value from string_index \
             union all select rid, version, key, value from string_history) s where s.key = any($1) and "
        );
        assert_eq!(STRINGS.of_alias("m", Reads::Now), "string_index s where s.rid = m.rid");
    }
}
