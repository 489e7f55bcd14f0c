//! The newest of a code that is too dense to gather, read from the index of first codes and dates (`search::index`, docs/adr/0008-plans.md).

use crate::search::compile::Compiler;
use crate::search::compile::WIDE;
use crate::search::condition::Condition;
use crate::search::condition::Prefix;
use crate::search::page::Key;
use crate::search::page::PageRead;
use crate::search::page::outer;
use crate::search::page::push_order;
use crate::search::sql::Arg;
use crate::search::sql::Sql;
use crate::search::term::further_code;
use std::cmp::Ordering;

impl PageRead<'_> {
    /// The newest of a code that is too dense to gather. Rows whose first code it is come in order from the index of first codes and dates; those
    /// that have it as a further code, and those that begin before a date and end after it, are few and gathered. The latter come after all that
    /// begins on the date or later: `ends_at` leaves them out, for a first look, and `newer_than` all that
    /// does not begin after it.
    pub fn sql_by_code(&self, code: i64, ends_at: Option<i64>, newer_than: Option<i64>, columns: impl Fn(&str) -> String) -> Sql {
        let mut compiler = self.compiler();
        let mut bounds = Bounds::of(&self.query.condition);
        bounds.from = bounds.from.max(newer_than.map(|at| at.saturating_add(1)));
        let mut keys = self.part_by_code(&mut compiler, "select * from ((", &columns, |sql, alias| {
            self.push_dated(sql, alias, code, &bounds);
            if let Some(from) = bounds.from {
                sql.push(&format!(" and {alias}.date_low >= ")).bind(Arg::Int(from));
            }
            // The limit is text: that few rows are wanted speaks for the order of the index.
            sql.push(&format!(" order by {alias}.date_low desc, {alias}.rid desc"));
        });
        self.part_by_code(&mut compiler, ") union all (", &columns, |sql, alias| {
            sql.push(&format!(" and {alias}.terms @> "))
                .bind(Arg::Ints(vec![further_code(code)]));
            if let Some(at) = newer_than {
                sql.push(&format!(" and {alias}.date_low > ")).bind(Arg::Int(at));
            }
        });
        let is_first_look = ends_at.or(newer_than).is_some();
        if let (true, Some(from), false) = (bounds.may_begin_before, bounds.from, is_first_look) {
            let narrowest = from.saturating_sub(WIDE);
            self.part_by_code(&mut compiler, ") union all (", &columns, |sql, alias| {
                push_lead(sql, alias, self.query.number, code);
                sql.push(&format!(" and {alias}.date_low is not null"));
                sql.push(&format!(" and {alias}.date_low >= ")).bind(Arg::Int(narrowest));
                sql.push(&format!(" and {alias}.date_low < ")).bind(Arg::Int(from));
                sql.push(&format!(" and {alias}.date_high > ")).bind(Arg::Int(from));
            });
            keys = self.part_by_code(&mut compiler, ") union all (", &columns, |sql, alias| {
                push_lead(sql, alias, self.query.number, code);
                sql.push(&format!(" and {alias}.date_low is not null"));
                sql.push(&format!(
                    " and {alias}.date_high - {alias}.date_low > {WIDE} and {alias}.date_high > "
                ))
                .bind(Arg::Int(from));
                sql.push(&format!(" and {alias}.date_low < ")).bind(Arg::Int(narrowest));
            });
        }
        compiler.sql.push(")) m");
        push_order(&mut compiler.sql, &outer(&keys), "m", self.part);
        self.push_limit(&mut compiler.sql);
        compiler.sql
    }

    /// The statement for the date of the row that comes so many after the cursor, among those whose first code it is: whoever looks at those that begin
    /// later looks at no more. Whether they satisfy the condition is not asked.
    pub fn sql_for_date_after(&self, code: i64, rows: usize) -> Sql {
        let mut compiler = self.compiler();
        compiler.sql.push("select m.date_low");
        let nothing = Condition::All(Vec::new());
        let narrow = |sql: &mut Sql, alias: &str| {
            self.push_dated(sql, alias, code, &Bounds::of(&self.query.condition));
            sql.push(&format!(" order by {alias}.date_low desc"));
        };
        compiler.fenced("m", &nothing, narrow, &nothing);
        compiler.sql.push(&format!(" order by m.date_low desc limit 1 offset {rows}"));
        compiler.sql
    }

    /// Rows whose first code it is, and that begin no later than the page may.
    fn push_dated(&self, sql: &mut Sql, alias: &str, code: i64, bounds: &Bounds) {
        push_lead(sql, alias, self.query.number, code);
        sql.push(&format!(" and {alias}.date_low is not null"));
        let after = self.after.and_then(|cursor| cursor.keys.first()?.as_deref()?.parse().ok());
        if let Some(to) = [bounds.to, after].into_iter().flatten().min() {
            sql.push(&format!(" and {alias}.date_low <= ")).bind(Arg::Int(to));
        }
    }

    /// The instant before which only what ends after it is a match, if there is one.
    pub fn ends_at(&self) -> Option<i64> {
        let bounds = Bounds::of(&self.query.condition);
        bounds.from.filter(|_| bounds.may_begin_before)
    }

    /// One part, in order. Returns the keys.
    fn part_by_code(
        &self,
        compiler: &mut Compiler,
        before: &str,
        columns: &impl Fn(&str) -> String,
        narrow: impl Fn(&mut Sql, &str),
    ) -> Vec<Key> {
        let nothing = Condition::All(Vec::new());
        let (alias, keys) = self.fenced(compiler, before, columns, &nothing, narrow, &self.query.condition);
        push_order(&mut compiler.sql, &keys, &alias, self.part);
        compiler.sql.push(&format!(" limit {}", self.limit));
        keys
    }
}

/// What a condition says of the primary date of its matches: they begin between these instants.
#[derive(Debug, Default, PartialEq)]
struct Bounds {
    from: Option<i64>,
    to: Option<i64>,
    /// Or before `from`, if they end after it.
    may_begin_before: bool,
}

impl Bounds {
    fn of(condition: &Condition) -> Bounds {
        match condition {
            Condition::All(conditions) => conditions.iter().map(Bounds::of).fold(Bounds::default(), |a, b| Bounds {
                from: a.from.max(b.from),
                to: [a.to, b.to].into_iter().flatten().min(),
                may_begin_before: match a.from.cmp(&b.from) {
                    Ordering::Less => b.may_begin_before,
                    Ordering::Equal => a.may_begin_before && b.may_begin_before,
                    Ordering::Greater => a.may_begin_before,
                },
            }),
            Condition::PrimaryDate(_, prefix, range) => match prefix {
                Prefix::Eq => Bounds {
                    from: Some(range.low),
                    to: Some(range.high),
                    may_begin_before: false,
                },
                Prefix::Lt | Prefix::Le | Prefix::Eb | Prefix::Ap => Bounds {
                    to: Some(range.high),
                    ..Bounds::default()
                },
                Prefix::Sa => Bounds {
                    from: Some(range.high),
                    ..Bounds::default()
                },
                Prefix::Gt | Prefix::Ge => Bounds {
                    from: Some(range.low),
                    to: None,
                    may_begin_before: true,
                },
                Prefix::Ne => Bounds::default(),
            },
            _ => Bounds::default(),
        }
    }
}

/// Rows whose first code this is. The number is text, so that the planner sees that the index has such rows.
pub fn push_lead(sql: &mut Sql, alias: &str, number: i16, code: i64) {
    sql.push(&format!(
        " and {alias}.type = {number} and {alias}.terms[{alias}.reference_terms + 1] = "
    ))
    .bind(Arg::Int(code));
}
