//! A page over several types at once: an ordered branch for each type, merged. Each branch has the order of an index where its type has
//! one, so that a page costs as many rows as it has, times the types.
//! Spec: <https://hl7.org/fhir/R4/http.html#search>, search on the whole system.

use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::cursor::Place;
use crate::search::page::PageRead;
use crate::search::page::Part;
use crate::search::page::outer;
use crate::search::page::push_after;
use crate::search::page::push_order;
use crate::search::parse::Query;
use crate::search::parse::SortKey;
use crate::search::sql::Arg;
use crate::search::sql::Sql;

/// The statement for up to `limit` matches of all queries, which have one order, after a place in it. There is at least one query.
pub fn sql(policy: Policy, queries: &[Query], after: Option<&Place>, limit: usize, columns: impl Fn(&str) -> String) -> Sql {
    let mut compiler = Compiler::new(policy, queries[0].as_of);
    let mut keys = Vec::new();
    let mut before = "select * from ((";
    for query in queries {
        for part in parts(query).iter().copied() {
            let page = PageRead {
                policy,
                query,
                part: Part::All,
                after: None,
                limit,
            };
            compiler.sql.push(before);
            before = ") union all (";
            let alias = compiler.upcoming_alias();
            keys = page.keys(&alias);
            page.push_select(&mut compiler.sql, &alias, &columns, &keys);
            compiler.resource(&query.condition);
            page.push_type(&mut compiler.sql, &alias);
            let has_date = part == Part::WithDate;
            if part != Part::All {
                compiler
                    .sql
                    .push(&format!(" and {alias}.type = "))
                    .bind(Arg::Int(i64::from(query.number)))
                    .push("::smallint");
                compiler
                    .sql
                    .push(&format!(" and {alias}.date_low is {}null", if has_date { "not " } else { "" }));
            }
            match after {
                // All that have the date came before.
                Some(Place { keys, .. }) if has_date && keys.first().is_none_or(Option::is_none) => {
                    compiler.sql.push(" and false");
                }
                Some(place) => {
                    compiler.sql.push(" and ");
                    push_after(&mut compiler.sql, &alias, &keys, place, has_date);
                }
                None => {}
            }
            push_order(&mut compiler.sql, &keys, &alias, part);
            compiler.sql.push(&format!(" limit {limit}"));
        }
    }
    compiler.sql.push(")) m");
    push_order(&mut compiler.sql, &outer(&keys), "m", Part::All);
    compiler.sql.push(" limit ").bind(Arg::Int(limit as i64));
    compiler.sql
}

fn parts(query: &Query) -> &'static [Part] {
    match query.sort.first().map(|sort| &sort.key) {
        Some(SortKey::PrimaryDate) => &[Part::WithDate, Part::WithoutDate],
        _ => &[Part::All],
    }
}
