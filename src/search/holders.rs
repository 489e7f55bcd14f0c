//! Holders of a code: `Patient?_has:Observation:patient:code=X`, for a code that very many resources have.
//!
//! Their first codes and patients stand beside each other in an index (`search::index`, migration 0008), so the patients of a code are met in order
//! of their reference terms, each once, by looking for the first term after the last: a page costs as many looks as it has
//! patients, however many resources each has. Such a search is therefore ordered by that term when nothing else is asked for, so that a page
//! continues where the one before it ended, by whichever plan it is read.
//! Spec: <https://hl7.org/fhir/R4/search.html#has>.

use crate::search::compile::Compiler;
use crate::search::compile::source::Reads;
use crate::search::compile::source::hash_is;
use crate::search::condition::Condition;
use crate::search::led::push_lead;
use crate::search::page::Key;
use crate::search::page::PageRead;
use crate::search::page::outer;
use crate::search::page::push_order;
use crate::search::parameters::LEADING_PARAMETER;
use crate::search::parameters::Registry;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::sql::Arg;
use crate::search::sql::Sql;
use crate::search::term::further_code;
use crate::search::value::split::split_values;
use crate::search::value::token::code_term;

/// `_has` by the patient parameter and one code of a type that has both in front.
#[derive(Debug, Clone, PartialEq)]
pub struct Holders {
    /// The type that has the code.
    number: i16,
    /// Of its references to patients.
    salt: i64,
    pub code: i64,
    /// What the parameter asks for.
    has: Condition,
}

impl Holders {
    /// Reads the name and the value of a search parameter for a type, whose condition is `has`; `None` if it is another, or the type is not Patient.
    pub fn of(registry: &Registry, type_name: &str, (name, text): (&str, &str), has: &Condition) -> Option<Holders> {
        if type_name != "Patient" {
            return None;
        }
        let mut parts = name.strip_prefix("_has:")?.split(':');
        let source = registry.of(parts.next()?)?;
        let link = source.get(parts.next()?)?;
        let is_led = parts.next()? == LEADING_PARAMETER && parts.next().is_none() && source.subject != 0 && link.salts == [source.subject];
        let values = split_values(text);
        match values.as_slice() {
            [value] if is_led => Some(Holders {
                number: source.number,
                salt: source.subject,
                code: code_term(source.get(LEADING_PARAMETER)?, value)?,
                has: has.clone(),
            }),
            _ => None,
        }
    }

    /// The order of its matches.
    pub fn sort(&self) -> Sort {
        Sort {
            key: SortKey::Referenced(self.salt),
            is_descending: false,
        }
    }

    /// The condition in two: what is asked of those that have the code, and what of their patients. `None`: it is not there.
    pub fn split<'c>(&self, condition: &'c Condition) -> Option<(&'c Condition, Condition)> {
        let Condition::All(conditions) = condition else { return None };
        let place = conditions.iter().position(|c| *c == self.has)?;
        let Condition::Has(_, inner) = &conditions[place] else {
            return None;
        };
        let rest = conditions.iter().enumerate().filter(|(i, _)| *i != place).map(|(_, c)| c.clone());
        Some((inner, Condition::All(rest.collect())))
    }
}

impl PageRead<'_> {
    /// The statement for a page of holders: those of whom it is the first code by looks into the index, and the few others gathered. `inner` and
    /// `rest` are those of [`Holders::split`].
    pub fn sql_by_holders(&self, holders: &Holders, inner: &Condition, rest: &Condition, columns: impl Fn(&str) -> String) -> Sql {
        let mut compiler = self.compiler();
        let salt = holders.salt;
        let after = self.after.and_then(|cursor| cursor.keys.first()?.as_deref()?.parse().ok());
        let begin = |sql: &mut Sql| {
            sql.bind(Arg::Int(after.unwrap_or(i64::MIN)));
        };
        match self.query.reads() {
            Reads::Now => push_walk(&mut compiler, "s", begin, |compiler, beyond| {
                push_next(compiler, holders, inner, beyond)
            }),
            reads => {
                push_walk(&mut compiler, "c", begin, |compiler, beyond| {
                    compiler.read_from(Reads::Now);
                    push_next_of_any_time(compiler, holders, beyond);
                    compiler.read_from(reads);
                });
                push_held(&mut compiler, holders, inner);
            }
        }
        compiler
            .sql
            .push(", f (hash) as materialized (select distinct unnest(n.terms[1:n.reference_terms]) # ")
            .push(&salt.to_string());
        let is_further = Condition::Terms(vec![further_code(holders.code)]);
        compiler.fenced("n", &is_further, |_, _| {}, inner);
        compiler.sql.push(") select distinct on (sort0) * from ((");
        self.push_holders(&mut compiler, ("s", &format!("s.term # {salt}")), rest, &columns);
        self.push_limit(&mut compiler.sql);
        compiler.sql.push(") union all (");
        let (alias, keys) = self.push_holders(&mut compiler, ("f", "f.hash"), rest, &columns);
        push_order(&mut compiler.sql, &keys, &alias, self.part);
        self.push_limit(&mut compiler.sql);
        compiler.sql.push(")) m");
        push_order(&mut compiler.sql, &outer(&keys), "m", self.part);
        self.push_limit(&mut compiler.sql);
        compiler.sql
    }

    /// The select of those whose hash a row source has.
    fn push_holders(
        &self,
        compiler: &mut Compiler,
        (source, hash): (&str, &str),
        rest: &Condition,
        columns: &impl Fn(&str) -> String,
    ) -> (String, Vec<Key>) {
        let alias = format!("{}_all", compiler.upcoming_alias());
        let keys = self.keys(&alias);
        self.push_select(&mut compiler.sql, &alias, columns, &keys);
        let beside = format!("{source} cross join lateral ");
        let narrow = |sql: &mut Sql, inner: &str| {
            sql.push(" and ").push(&hash_is(inner, hash, self.query.as_of.is_some()));
        };
        compiler.fenced_beside(&beside, &alias, &Condition::All(Vec::new()), narrow, rest);
        self.push_part(&mut compiler.sql, &alias, &keys);
        (alias, keys)
    }
}

/// Writes what comes before the term that is looked for.
type Beyond<'b> = &'b dyn Fn(&mut Sql);

/// `with recursive name (term) as (...)`: one term after the other, each found by `next` beyond the last; the first beyond what `begin` writes. The last is null.
fn push_walk(compiler: &mut Compiler, name: &str, begin: impl Fn(&mut Sql), next: impl Fn(&mut Compiler, Beyond<'_>)) {
    compiler.sql.push(&format!("with recursive {name} (term) as ((select "));
    next(compiler, &begin);
    compiler.sql.push(") union all select ");
    next(compiler, &|sql: &mut Sql| {
        sql.push(&format!("{name}.term"));
    });
    compiler.sql.push(&format!(" from {name} where {name}.term is not null)"));
}

/// The first in order of the terms of those whose first code it is.
fn push_next(compiler: &mut Compiler, holders: &Holders, inner: &Condition, beyond: Beyond<'_>) {
    compiler.sql.push("(select n.terms[1]");
    let narrow = |sql: &mut Sql, alias: &str| {
        push_holding(sql, alias, holders, ">", beyond);
        sql.push(&format!(" order by {alias}.terms[1]"));
    };
    compiler.fenced("n", &Condition::All(Vec::new()), narrow, inner);
    compiler.sql.push(" limit 1)");
}

/// The same of what is there and what has been superseded, whether it held at the instant or not: where all that is there is newer than the instant, the first
/// that held is found behind all of it.
fn push_next_of_any_time(compiler: &mut Compiler, holders: &Holders, beyond: Beyond<'_>) {
    compiler.sql.push("least(");
    push_next(compiler, holders, &Condition::All(Vec::new()), beyond);
    compiler.sql.push(", (select h.terms[1]");
    compiler.superseded("h");
    push_holding(&mut compiler.sql, "h", holders, ">", beyond);
    compiler.sql.push(" order by h.terms[1] limit 1))");
}

/// `, s (term) as (...)`: those of `c` that somebody is held by as of the instant.
fn push_held(compiler: &mut Compiler, holders: &Holders, inner: &Condition) {
    compiler
        .sql
        .push(", s (term) as (select c.term from c where c.term is not null and exists (select");
    let narrow = |sql: &mut Sql, alias: &str| {
        push_holding(sql, alias, holders, "=", &|sql: &mut Sql| {
            sql.push("c.term");
        });
    };
    compiler.fenced("n", &Condition::All(Vec::new()), narrow, inner);
    compiler.sql.push("))");
}

/// Rows whose first code it is, and whose reference to a patient compares so with what `term` writes.
fn push_holding(sql: &mut Sql, alias: &str, holders: &Holders, operator: &str, term: Beyond<'_>) {
    push_lead(sql, alias, holders.number, holders.code);
    sql.push(&format!(" and {alias}.reference_terms > 0 and {alias}.terms[1] {operator} "));
    term(sql);
}
