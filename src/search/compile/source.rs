//! Where a search reads: resources as they are now, or as they were at an instant.
//!
//! As of an instant an alias stands for both tables together, `resource` and `history`, each version with the time from which and until which it
//! held. The planner sees through a plain `union all` (it becomes an append relation), so that every condition reaches the indexes of both, which
//! are the same. `place` tells the versions of one resource apart: 0 is the current one, and a superseded one has its number, as in the side tables.
//! What it costs: docs/adr/0010-time-travel.md.

use crate::search::compile::Compiler;
use crate::search::sql::Arg;

const NOW: &str = " from resource ";
const VERSIONS: &str = " from (select rid, 0 as place, updated, 'infinity'::timestamptz as superseded, self_hash, present, date_low, date_high, version, \
                        type, state, dictionary, reference_terms, id, terms, body from resource \
                        union all \
                        select rid, version, updated, superseded, self_hash, present, date_low, date_high, version, \
                        type, state, dictionary, reference_terms, id, terms, body from history) ";
/// Superseded versions have no index of hashes: a resource has the same row id in all its versions.
const BY_HASH: &str = ".rid in (select named.rid from resource named where named.self_hash ";

/// A side table: values of one kind, by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    now: &'static str,
    superseded: &'static str,
    columns: &'static str,
}

pub const STRINGS: Side = Side {
    now: "string_index",
    superseded: "string_history",
    columns: "key, value",
};
pub const DATES: Side = Side {
    now: "date_index",
    superseded: "date_history",
    columns: "key, low, high",
};
pub const QUANTITIES: Side = Side {
    now: "quantity_index",
    superseded: "quantity_history",
    columns: "key, unit, code, low, high, system, joint",
};

pub const POSITIONS: Side = Side {
    now: "position",
    superseded: "position_history",
    columns: "at",
};

impl Side {
    /// The rows of both tables, as one.
    fn versions(self) -> String {
        format!(
            "(select rid, 0 as place, {columns} from {} union all select rid, version, {columns} from {})",
            self.now,
            self.superseded,
            columns = self.columns
        )
    }

    /// `table s where s.rid = alias.rid`: what the table has of an alias.
    pub fn of_alias(self, alias: &str, is_as_of: bool) -> String {
        match is_as_of {
            false => format!("{} s where s.rid = {alias}.rid", self.now),
            true => format!("{} s where s.rid = {alias}.rid and s.place = {alias}.place", self.versions()),
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
        let source = if self.before.is_none() { NOW } else { VERSIONS };
        self.sql.push(source).push(alias);
    }

    /// Writes the policy, and which version holds.
    pub(super) fn push_policy(&mut self, alias: &str) {
        let Some(before) = self.before else {
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
        match self.before {
            None => {
                self.sql.push(alias).push(".self_hash ");
                what(self);
            }
            Some(_) => {
                self.sql.push(alias).push(BY_HASH);
                what(self);
                self.sql.push(")");
            }
        }
    }

    /// Writes `alias.rid in (`, left open: what follows selects [`Compiler::push_rows_of`] a side table.
    pub(super) fn open_rows(&mut self, alias: &str) {
        let rows = match self.before {
            None => format!("{alias}.rid in ("),
            Some(_) => format!("({alias}.rid, {alias}.place) in ("),
        };
        self.sql.push(&rows);
    }

    /// Writes `select s.rid from `.
    pub(super) fn push_rows_of(&mut self, side: &str) {
        let rows = match self.before {
            None => format!("select {side}.rid from "),
            Some(_) => format!("select {side}.rid, {side}.place from "),
        };
        self.sql.push(&rows);
    }

    /// Writes the side table, of now or of both times.
    pub(super) fn push_side(&mut self, side: Side) {
        match self.before {
            None => self.sql.push(side.now),
            Some(_) => self.sql.push(&side.versions()),
        };
    }

    /// `rid in (select rid from table where key = $n and `, left open.
    pub(super) fn side_table(&mut self, alias: &str, side: Side, keys: &[i32]) {
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
        assert_eq!(STRINGS.of_alias("m", false), "string_index s where s.rid = m.rid");
    }
}
