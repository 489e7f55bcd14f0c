//! A page over several types at once: an ordered branch for each type, merged. Each branch has the order of an index where its type has
//! one, so that a page costs as many rows as it has, times the types.
//! Spec: <https://hl7.org/fhir/R4/http.html#search>, search on the whole system.

use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::cursor::Place;
use crate::search::page::PageRead;
use crate::search::page::Part;
use crate::search::page::outer;
use crate::search::page::parts;
use crate::search::page::push_after;
use crate::search::page::push_order;
use crate::search::parse::Query;
use crate::search::sql::Arg;
use crate::search::sql::Sql;

/// The statement for up to `limit` matches of all queries, which have one order, after a place in it. There is at least one query.
pub fn sql(policy: Policy, queries: &[Query], after: Option<&Place>, limit: usize, columns: impl Fn(&str) -> String) -> Sql {
    let mut compiler = Compiler::new(policy, queries[0].reads());
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
            compiler.read_from(query.reads());
            page.push_typed(&mut compiler, &query.condition);
            page.push_rows_of(part, &mut compiler.sql, &alias);
            let has_date = part == Part::WithDate;
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
