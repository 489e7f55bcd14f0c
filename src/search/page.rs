//! One page of a search as SQL: keyset paging, so that a page costs the same however deep it lies, and stays in place under writes.
//!
//! Order: the sort keys, rows without a key last, then newest row first. When the first key is the type's primary date, rows with
//! and without it are read by two statements, so that the date index gives the order.

use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::compile::WIDE;
use crate::search::compile::source::DATES;
use crate::search::compile::source::QUANTITIES;
use crate::search::compile::source::Reads;
use crate::search::compile::source::STRINGS;
use crate::search::compile::source::Side;
use crate::search::condition::Condition;
use crate::search::condition::Prefix;
use crate::search::contained::Matches;
use crate::search::cursor::Place;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::sql::Arg;
use crate::search::sql::Sql;
use crate::search::term::further_code;
use std::cmp::Ordering;

/// Which rows a statement reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    All,
    /// Only rows that have the primary date.
    WithDate,
    WithoutDate,
}

/// The parts of a query's result, in order.
pub fn parts(query: &Query) -> &'static [Part] {
    match query.sort.first().map(|s| &s.key) {
        Some(SortKey::PrimaryDate) if asks_for_date(&query.condition) => &[Part::WithDate],
        Some(SortKey::PrimaryDate) => &[Part::WithDate, Part::WithoutDate],
        _ => &[Part::All],
    }
}

/// Whether nothing without a primary date can satisfy the condition.
fn asks_for_date(condition: &Condition) -> bool {
    match condition {
        Condition::All(conditions) => conditions.iter().any(asks_for_date),
        Condition::PrimaryDate(..) => true,
        _ => false,
    }
}

/// A page to read: what the statements for it have in common.
pub struct PageRead<'q> {
    pub policy: Policy,
    pub query: &'q Query,
    pub part: Part,
    pub after: Option<&'q Place>,
    pub limit: usize,
}

impl PageRead<'_> {
    /// Its sort keys: rows without the primary date have one less.
    pub fn sort(&self) -> &[Sort] {
        match self.part {
            Part::WithoutDate => &self.query.sort[1..],
            Part::All | Part::WithDate => &self.query.sort,
        }
    }

    pub fn compiler(&self) -> Compiler {
        Compiler::new(self.policy, self.query.reads())
    }

    pub fn keys(&self, alias: &str) -> Vec<Key> {
        self.sort().iter().map(|s| key(alias, s, self.query.reads())).collect()
    }

    /// The statement for up to `limit` rows after the cursor, in order, as the planner sees fit. `columns` gives the select list for an alias.
    /// `condition` is the query's, as it is to be asked.
    pub fn sql_to_walk(&self, condition: &Condition, columns: impl Fn(&str) -> String) -> Sql {
        let mut compiler = self.compiler();
        let alias = compiler.upcoming_alias();
        let keys = self.keys(&alias);
        self.push_select(&mut compiler.sql, &alias, &columns, &keys);
        compiler.resource(condition);
        self.push_part(&mut compiler.sql, &alias, &keys);
        push_order(&mut compiler.sql, &keys, &alias, self.part);
        self.push_limit(&mut compiler.sql);
        compiler.sql
    }

    /// The same, gathered: the rows of `driver` by its index, of these the ones that satisfy `rest`, sorted.
    pub fn sql_to_gather(&self, driver: &Condition, rest: &Condition, columns: impl Fn(&str) -> String) -> Sql {
        let mut compiler = self.compiler();
        let (_, keys) = self.fenced(&mut compiler, "with m as materialized (", &columns, driver, |_, _| {}, rest);
        compiler.sql.push(") select * from m");
        push_order(&mut compiler.sql, &outer(&keys), "m", self.part);
        self.push_limit(&mut compiler.sql);
        compiler.sql
    }

    /// The same among the first rows of the order alone, at most so many: whoever finds less than a page there must look further. `None` if no index
    /// gives the order.
    pub fn sql_among_first(&self, rows: usize, columns: impl Fn(&str) -> String) -> Option<Sql> {
        let column = match (self.part, self.query.sort.as_slice()) {
            (Part::All, []) => "rid",
            (Part::WithDate, [only]) if only.is_descending => "date_low",
            _ => return None,
        };
        let after = match (self.after, self.part) {
            (Some(cursor), Part::All) => Some(cursor.rid),
            (cursor, _) => cursor.and_then(|cursor| cursor.keys.first()?.as_deref()?.parse().ok()),
        };
        let mut compiler = Compiler::new(self.policy, None);
        let nothing = Condition::All(Vec::new());
        let narrow = |sql: &mut Sql, alias: &str| {
            sql.push(&format!(
                " and {alias}.type = {} and {alias}.{column} is not null",
                self.query.number
            ));
            if let Some(after) = after {
                sql.push(&format!(" and {alias}.{column} <= ")).bind(Arg::Int(after));
            }
            // Equal dates are cut in the order of the page.
            sql.push(&format!(" order by {alias}.{column} desc, {alias}.rid desc limit {rows}"));
        };
        let (alias, keys) = self.fenced(&mut compiler, "", &columns, &nothing, narrow, &self.query.condition);
        push_order(&mut compiler.sql, &keys, &alias, self.part);
        self.push_limit(&mut compiler.sql);
        Some(compiler.sql)
    }

    /// The newest of a code that is too dense to gather. Rows whose first code it is come in order from the index of first codes and dates; those
    /// that have it as a further code, and those that begin before a date and end after it, are few and gathered. The latter come after all that
    /// begins on the date or later: `ends_at` leaves them out, for a first look.
    pub fn sql_by_code(&self, code: i64, ends_at: Option<i64>, columns: impl Fn(&str) -> String) -> Sql {
        let mut compiler = self.compiler();
        let bounds = Bounds::of(&self.query.condition);
        let mut keys = self.part_by_code(&mut compiler, "select * from ((", &columns, |sql, alias| {
            push_lead(sql, alias, self.query.number, code);
            sql.push(&format!(" and {alias}.date_low is not null"));
            if let Some(from) = bounds.from {
                sql.push(&format!(" and {alias}.date_low >= ")).bind(Arg::Int(from));
            }
            let after = self.after.and_then(|cursor| cursor.keys.first()?.as_deref()?.parse().ok());
            if let Some(to) = [bounds.to, after].into_iter().flatten().min() {
                sql.push(&format!(" and {alias}.date_low <= ")).bind(Arg::Int(to));
            }
            // The limit is text: that few rows are wanted speaks for the order of the index.
            sql.push(&format!(" order by {alias}.date_low desc, {alias}.rid desc"));
        });
        self.part_by_code(&mut compiler, ") union all (", &columns, |sql, alias| {
            sql.push(&format!(" and {alias}.terms @> "))
                .bind(Arg::Ints(vec![further_code(code)]));
        });
        if let (true, Some(from), None) = (bounds.may_begin_before, bounds.from, ends_at) {
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

    /// The select of fenced rows ([`Compiler::fenced`]), of the part that is read. Returns the alias, and the keys over it.
    fn fenced(
        &self,
        compiler: &mut Compiler,
        before: &str,
        columns: &impl Fn(&str) -> String,
        driver: &Condition,
        narrow: impl Fn(&mut Sql, &str),
        rest: &Condition,
    ) -> (String, Vec<Key>) {
        let alias = format!("{}_all", compiler.upcoming_alias());
        let keys = self.keys(&alias);
        compiler.sql.push(before);
        self.push_select(&mut compiler.sql, &alias, columns, &keys);
        compiler.fenced(&alias, driver, narrow, rest);
        self.push_part(&mut compiler.sql, &alias, &keys);
        (alias, keys)
    }

    pub fn push_select(&self, sql: &mut Sql, alias: &str, columns: &impl Fn(&str) -> String, keys: &[Key]) {
        sql.push("select ").push(&columns(alias));
        sql.push(&format!(", {alias}.terms[1:{alias}.reference_terms] as reference_hashes"));
        match self.query.matches {
            Matches::Contained => {
                sql.push(&format!(", {alias}.container_type, {alias}.container_id, {alias}.content"));
            }
            // Beside contained ones.
            Matches::Resources if self.query.contained.answers_contained() => {
                sql.push(", null::smallint as container_type, null::text as container_id, null::text as content");
            }
            _ => {}
        }
        for (i, key) in keys.iter().enumerate() {
            sql.push(&format!(", {0} as sort{i}, ({0})::text as key{i}", key.expression));
        }
    }

    /// Which rows the part reads, and after which.
    pub fn push_part(&self, sql: &mut Sql, alias: &str, keys: &[Key]) {
        self.push_rows_of(self.part, sql, alias);
        if let Some(cursor) = self.after {
            sql.push(" and ");
            push_after(sql, alias, keys, cursor, self.part == Part::WithDate);
        }
    }

    /// Which rows a part has.
    pub fn push_rows_of(&self, part: Part, sql: &mut Sql, alias: &str) {
        self.push_type(sql, alias);
        if part != Part::All {
            sql.push(&format!(" and {alias}.type = "))
                .bind(Arg::Int(i64::from(self.query.number)))
                .push("::smallint");
            let not = if part == Part::WithDate { "not " } else { "" };
            sql.push(&format!(" and {alias}.date_low is {not}null"));
        }
    }

    /// The index that has instants in order is one of types first. The number is text, so that the planner sees what the index has.
    fn push_type(&self, sql: &mut Sql, alias: &str) {
        let is_of_type = self.query.matches != Matches::Containers;
        if is_of_type && self.query.sort.first().is_some_and(|sort| sort.key == SortKey::LastUpdated) {
            sql.push(&format!(" and {alias}.type = {}", self.query.number));
        }
    }

    pub fn push_limit(&self, sql: &mut Sql) {
        sql.push(" limit ").bind(Arg::Int(self.limit as i64));
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

/// The keys as they are called outside of the select that made them.
pub fn outer(keys: &[Key]) -> Vec<Key> {
    let key = |(i, key): (usize, &Key)| Key {
        expression: format!("m.sort{i}"),
        ..key.clone()
    };
    keys.iter().enumerate().map(key).collect()
}

pub fn push_order(sql: &mut Sql, keys: &[Key], alias: &str, part: Part) {
    sql.push(" order by ");
    for (i, key) in keys.iter().enumerate() {
        // What every row has needs no place for nulls, and so has the order of its index.
        let is_never_null = key.sql_type == "timestamptz" || i == 0 && part == Part::WithDate;
        let nulls = if is_never_null { "" } else { " nulls last" };
        sql.push(&key.expression)
            .push(if key.is_descending { " desc" } else { "" })
            .push(nulls)
            .push(", ");
    }
    sql.push(alias).push(".rid desc");
}

#[derive(Clone)]
pub struct Key {
    expression: String,
    /// The SQL type that a cursor's text is cast to.
    sql_type: &'static str,
    is_descending: bool,
}

fn key(alias: &str, sort: &Sort, reads: Reads) -> Key {
    let best = if sort.is_descending { "max" } else { "min" };
    let side = |side: Side, column: &str, keys: &[i32]| {
        let keys = keys.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "(select {best}(s.{column}) from {} and s.key in ({keys}))",
            side.of_alias(alias, reads)
        )
    };
    let (expression, sql_type) = match &sort.key {
        SortKey::LastUpdated => (format!("{alias}.updated"), "timestamptz"),
        SortKey::Id => (format!("{alias}.id collate \"C\""), "text"),
        SortKey::PrimaryDate => (format!("{alias}.date_low"), "bigint"),
        SortKey::Date(keys) => (side(DATES, "low", keys), "bigint"),
        SortKey::String(keys) => (side(STRINGS, "value", keys), "text"),
        SortKey::Quantity(keys) => (side(QUANTITIES, "low", keys), "float8"),
        // Read from the row itself (`interaction::search::sorted`).
        SortKey::Read(_) | SortKey::Score | SortKey::Distance => ("null::text".to_owned(), "text"),
        SortKey::Referenced(salt) => (format!("({alias}.self_hash # {salt})"), "bigint"),
    };
    Key {
        expression,
        sql_type,
        is_descending: sort.is_descending,
    }
}

/// Rows that come after the cursor: equal in the first keys and later in the next, or equal in all and an older row.
pub fn push_after(sql: &mut Sql, alias: &str, keys: &[Key], cursor: &Place, is_first_present: bool) {
    sql.push("(");
    if is_first_present {
        // Lets the index begin at the cursor instead of reading all that came before.
        let operator = if keys[0].is_descending { " <= " } else { " >= " };
        sql.push(&keys[0].expression).push(operator);
        push_value(sql, &keys[0], cursor.keys.first().and_then(Option::as_deref));
        sql.push(" and (");
    }
    for later in 0..=keys.len() {
        if later > 0 {
            sql.push(" or ");
        }
        sql.push("(");
        for (i, key) in keys[..later].iter().enumerate() {
            sql.push(&key.expression).push(" is not distinct from ");
            push_value(sql, key, cursor.keys.get(i).and_then(Option::as_deref));
            sql.push(" and ");
        }
        match keys.get(later) {
            Some(key) => match cursor.keys.get(later).and_then(Option::as_deref) {
                Some(value) => {
                    sql.push("(")
                        .push(&key.expression)
                        .push(if key.is_descending { " < " } else { " > " });
                    push_value(sql, key, Some(value));
                    sql.push(" or ").push(&key.expression).push(" is null)");
                }
                None => {
                    sql.push("false");
                }
            },
            None => {
                sql.push(alias).push(".rid < ").bind(Arg::Int(cursor.rid));
            }
        }
        sql.push(")");
    }
    sql.push(if is_first_present { "))" } else { ")" });
}

fn push_value(sql: &mut Sql, key: &Key, value: Option<&str>) {
    match value {
        Some(value) => {
            sql.bind(Arg::Text(value.to_owned())).push("::").push(key.sql_type);
            if key.sql_type == "text" {
                sql.push(" collate \"C\"");
            }
        }
        None => {
            sql.push("null");
        }
    }
}

/// The statement for resources that a page includes: the rows of `driver` by its index, of these the ones that satisfy `rest`.
pub fn included(mut compiler: Compiler, driver: &Condition, rest: &Condition, limit: usize, columns: impl Fn(&str) -> String) -> Sql {
    compiler.sql.push("with m as materialized (select ").push(&columns("m"));
    compiler.sql.push(", m.terms[1:m.reference_terms] as reference_hashes");
    compiler.fenced("m", driver, |_, _| {}, rest);
    compiler
        .sql
        .push(") select * from m order by m.rid desc limit ")
        .bind(Arg::Int(limit as i64));
    compiler.sql
}
