//! One page of a search as SQL: keyset paging, so that a page costs the same however deep it lies, and stays in place under writes.
//!
//! Order: the sort keys, rows without a key last, then newest row first. When the first key is the type's primary date, rows with
//! and without it are read by two statements, so that the date index gives the order.

use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::compile::source::DATES;
use crate::search::compile::source::QUANTITIES;
use crate::search::compile::source::Reads;
use crate::search::compile::source::STRINGS;
use crate::search::compile::source::Side;
use crate::search::condition::Condition;
use crate::search::contained::Matches;
use crate::search::cursor::Place;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::sql::Arg;
use crate::search::sql::Sql;

/// Characters of an id that its index has (migration 0022).
const ID_BEGIN: usize = 8;

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

    /// The matches are resources of now, of the query's type.
    fn reads_type(&self) -> bool {
        self.query.reads() == Reads::Now && self.query.matches == Matches::Resources
    }

    /// The statement for up to `limit` rows after the cursor, in order, as the planner sees fit. `columns` gives the select list for an alias.
    /// `condition` is the query's, as it is to be asked.
    pub fn sql_to_walk(&self, condition: &Condition, columns: impl Fn(&str) -> String) -> Sql {
        let mut compiler = self.compiler();
        let alias = compiler.upcoming_alias();
        let keys = self.keys(&alias);
        self.push_select(&mut compiler.sql, &alias, &columns, &keys);
        self.push_typed(&mut compiler, condition);
        self.push_part(&mut compiler.sql, &alias, &keys);
        match self.begin_of_id(&alias) {
            Some(begin) => self.push_order_by_id(&mut compiler.sql, &keys, &alias, &begin),
            None => push_order(&mut compiler.sql, &keys, &alias, self.part),
        }
        self.push_limit(&mut compiler.sql);
        compiler.sql
    }

    /// What the index of ids has of one, if it gives the order.
    fn begin_of_id(&self, alias: &str) -> Option<String> {
        let first = self.query.sort.first().filter(|_| self.reads_type())?;
        (first.key == SortKey::Id).then(|| format!("left({alias}.id, {ID_BEGIN}) collate \"C\""))
    }

    /// The same order, by the index: those that begin alike are sorted.
    fn push_order_by_id(&self, sql: &mut Sql, keys: &[Key], alias: &str, begin: &str) {
        let (direction, operator) = if keys[0].is_descending { (" desc", " <= ") } else { ("", " >= ") };
        if let Some(id) = self.after.and_then(|cursor| cursor.keys.first()?.as_deref()) {
            sql.push(" and ").push(begin).push(operator).push("left(");
            push_value(sql, &keys[0], Some(id));
            sql.push(&format!(", {ID_BEGIN})"));
        }
        sql.push(&format!(" order by {begin}{direction}, "));
        push_keys(sql, keys, alias, self.part);
    }

    /// The statement for the row ids of up to `limit` matches, whatever their order.
    pub fn sql_for_rows(&self, condition: &Condition) -> Sql {
        let mut compiler = self.compiler();
        let alias = compiler.upcoming_alias();
        compiler.sql.push("select ").push(&alias).push(".rid");
        self.push_typed(&mut compiler, condition);
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

    /// The same among the resources that have the first values of the first sort key, at most so many values: whoever finds less than a page there must
    /// look further, also for what has no value. `None` if the key is not one of a side table of now. Values come in their order, each is asked of
    /// its row, and no more of them than fill the page.
    pub fn sql_by_values(&self, values: usize, condition: &Condition, columns: impl Fn(&str) -> String) -> Option<Sql> {
        let first = self.query.sort.first().filter(|_| self.reads_type())?;
        let (side, column, of) = first.key.side()?;
        let from = match self.after {
            Some(cursor) => Some(cursor.keys.first()?.as_deref()?),
            None => None,
        };
        let (direction, operator) = if first.is_descending { (" desc", "<=") } else { ("", ">=") };
        // Values are cut in the order of the page. With further keys that is not known: then all that are equal to the last are read.
        let cut = |name: &str| match self.query.sort.len() {
            1 => format!(" order by {name}{direction}, rid desc limit {values}"),
            _ => format!(" order by {name}{direction} fetch first {values} rows with ties"),
        };
        let mut compiler = self.compiler();
        let alias = format!("{}_all", compiler.upcoming_alias());
        let mut keys = self.keys(&alias);
        self.push_select(&mut compiler.sql, &alias, &columns, &keys);
        let mut read = Sql {
            text: "(select distinct on (value, rid) value, rid from (".to_owned(),
            args: std::mem::take(&mut compiler.sql.args),
        };
        for (i, key) in of.iter().enumerate() {
            read.push(if i > 0 { " union all " } else { "" });
            read.push(&format!(
                "(select s.rid, s.{column} as value from {} s where s.key = {key}",
                side.now()
            ));
            if from.is_some() {
                read.push(&format!(" and s.{column} {operator} "));
                push_value(&mut read, &keys[0], from);
            }
            // Of very many that are equal, those that were shown would fill the window.
            if let (Some(cursor), 1) = (self.after, self.query.sort.len()) {
                read.push(&format!(" and (s.{column} <> "));
                push_value(&mut read, &keys[0], from);
                read.push(" or s.rid < ").bind(Arg::Int(cursor.rid)).push(")");
            }
            read.push(&cut("value")).push(")");
        }
        read.push(&format!(") v{} ) v cross join lateral ", cut("value")));
        compiler.sql.args = std::mem::take(&mut read.args);
        let narrow = |sql: &mut Sql, alias: &str| {
            sql.push(&format!(" and {alias}.type = {} and {alias}.rid = v.rid", self.query.number));
        };
        compiler.fenced_beside(&read.text, &alias, &Condition::All(Vec::new()), narrow, condition);
        // The value by which it is sorted, not another of its values.
        compiler.sql.push(&format!(" and v.value = {}", keys[0].expression));
        "v.value".clone_into(&mut keys[0].expression);
        self.push_part(&mut compiler.sql, &alias, &keys);
        push_order(&mut compiler.sql, &keys, "v", self.part);
        self.push_limit(&mut compiler.sql);
        Some(compiler.sql)
    }

    /// The select of fenced rows ([`Compiler::fenced`]), of the part that is read. Returns the alias, and the keys over it.
    pub fn fenced(
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

    /// Writes ` from resource rN where ...` for rows that are walked. The type is named by its column: the index that has each type's rows in order is one of
    /// types first. Versions of one time have no such index.
    pub fn push_typed(&self, compiler: &mut Compiler, condition: &Condition) {
        if !self.reads_type() {
            compiler.resource(condition);
            return;
        }
        let untyped = condition.without_type(self.query.number);
        let alias = compiler.resource(untyped.as_ref().unwrap_or(condition));
        compiler.sql.push(&format!(" and {alias}.type = {}", self.query.number));
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
    push_keys(sql, keys, alias, part);
}

fn push_keys(sql: &mut Sql, keys: &[Key], alias: &str, part: Part) {
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

impl SortKey {
    /// The side table that has the values, their column, and the keys they stand under; `None` if they stand elsewhere.
    fn side(&self) -> Option<(Side, &'static str, &[i32])> {
        match self {
            SortKey::Date(keys) => Some((DATES, "low", keys)),
            SortKey::String(keys) => Some((STRINGS, "value", keys)),
            SortKey::Quantity(keys) => Some((QUANTITIES, "low", keys)),
            _ => None,
        }
    }
}

fn key(alias: &str, sort: &Sort, reads: Reads) -> Key {
    let best = if sort.is_descending { "max" } else { "min" };
    let of_side = || {
        let (side, column, keys) = sort.key.side().expect("a key of a side table");
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
        // Read from the row itself (`interaction::search::sorted`).
        SortKey::Read(_) | SortKey::Score | SortKey::Distance => ("null::text".to_owned(), "text"),
        SortKey::Referenced(salt) => (format!("({alias}.self_hash # {salt})"), "bigint"),
        SortKey::Date(_) => (of_side(), "bigint"),
        SortKey::String(_) => (of_side(), "text"),
        SortKey::Quantity(_) => (of_side(), "float8"),
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
