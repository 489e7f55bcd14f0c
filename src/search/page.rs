//! One page of a search as SQL: keyset paging, so that a page costs the same however deep it lies, and stays in place under writes.
//!
//! Order: the sort keys, rows without a key last, then newest row first. When the first key is the type's primary date, rows with
//! and without it are read by two statements, so that the date index gives the order.

use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::condition::Condition;
use crate::search::cursor::Cursor;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::sql::Arg;
use crate::search::sql::Sql;

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
        Some(SortKey::PrimaryDate) => &[Part::WithDate, Part::WithoutDate],
        _ => &[Part::All],
    }
}

/// The statement for up to `limit` rows after the cursor. `columns` gives the select list for an alias.
pub fn page(policy: Policy, query: &Query, part: Part, after: Option<&Cursor>, limit: usize, columns: impl Fn(&str) -> String) -> Sql {
    let sort: &[Sort] = if part == Part::WithoutDate { &query.sort[1..] } else { &query.sort };
    let mut compiler = Compiler::new(policy);
    let alias = compiler.upcoming_alias();
    let keys: Vec<Key> = sort.iter().map(|s| key(&alias, s)).collect();
    compiler.sql.push("select ").push(&columns(&alias));
    compiler
        .sql
        .push(&format!(", {alias}.terms[1:{alias}.reference_terms] as reference_hashes"));
    for (i, key) in keys.iter().enumerate() {
        compiler.sql.push(&format!(", ({})::text as key{i}", key.expression));
    }
    compiler.resource(&query.condition);
    if part != Part::All {
        compiler
            .sql
            .push(&format!(" and {alias}.type = "))
            .bind(Arg::Int(i64::from(query.number)))
            .push("::smallint");
        compiler.sql.push(&format!(
            " and {alias}.date_low is {}null",
            if part == Part::WithDate { "not " } else { "" }
        ));
    }
    if let Some(cursor) = after {
        compiler.sql.push(" and ");
        push_after(&mut compiler.sql, &alias, &keys, cursor, part == Part::WithDate);
    }
    compiler.sql.push(" order by ");
    for (i, key) in keys.iter().enumerate() {
        let nulls = if i == 0 && part == Part::WithDate { "" } else { " nulls last" };
        compiler
            .sql
            .push(&key.expression)
            .push(if key.is_descending { " desc" } else { "" })
            .push(nulls)
            .push(", ");
    }
    compiler.sql.push(&alias).push(".rid desc limit ").push(&limit.to_string());
    compiler.sql
}

struct Key {
    expression: String,
    /// The SQL type that a cursor's text is cast to.
    sql_type: &'static str,
    is_descending: bool,
}

fn key(alias: &str, sort: &Sort) -> Key {
    let best = if sort.is_descending { "max" } else { "min" };
    let side = |table: &str, column: &str, keys: &[i32]| {
        let keys = keys.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        format!("(select {best}(s.{column}) from {table} s where s.rid = {alias}.rid and s.key in ({keys}))")
    };
    let (expression, sql_type) = match &sort.key {
        SortKey::LastUpdated => (format!("{alias}.updated"), "timestamptz"),
        SortKey::Id => (format!("{alias}.id collate \"C\""), "text"),
        SortKey::PrimaryDate => (format!("{alias}.date_low"), "bigint"),
        SortKey::Date(keys) => (side("date_index", "low", keys), "bigint"),
        SortKey::String(keys) => (side("string_index", "value", keys), "text"),
        SortKey::Quantity(keys) => (side("quantity_index", "low", keys), "float8"),
    };
    Key {
        expression,
        sql_type,
        is_descending: sort.is_descending,
    }
}

/// Rows that come after the cursor: equal in the first keys and later in the next, or equal in all and an older row.
fn push_after(sql: &mut Sql, alias: &str, keys: &[Key], cursor: &Cursor, is_first_present: bool) {
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

/// The statement for resources that a page includes.
pub fn included(policy: Policy, condition: &Condition, limit: usize, columns: impl Fn(&str) -> String) -> Sql {
    let mut compiler = Compiler::new(policy);
    let alias = compiler.upcoming_alias();
    compiler.sql.push("select ").push(&columns(&alias));
    compiler
        .sql
        .push(&format!(", {alias}.terms[1:{alias}.reference_terms] as reference_hashes"));
    compiler.resource(condition);
    compiler.sql.push(&format!(" order by {alias}.rid desc limit {limit}"));
    compiler.sql
}
