//! From a condition to SQL.
//!
//! One table, one inverted index: everything that is a term goes to `terms @>` or `terms &&`, so that one scan answers all of it.
//! A chain runs inside the statement: the hashes of the targets, each XORed with the parameter's salt, are the terms to look for.
//! Every alias of `resource` is opened by [`Compiler::resource`], which writes the policy with it.

pub mod ask;
pub mod near;
pub mod quantity;
pub mod range;
pub mod source;

use crate::policy::Policy;
use crate::search::compile::source::DATES;
use crate::search::compile::source::Reads;
use crate::search::compile::source::STRINGS;
use crate::search::condition::Condition;
use crate::search::sql::Arg;
use crate::search::sql::Sql;

/// Rows wider than this have an index of their own, so that a range condition on the beginning of the others stays exact. Microseconds.
pub const WIDE: i64 = 31_622_400_000_000;

/// Terms that one scan of the inverted index looks for: it compares each row that it finds with all of them, so many are looked for in parts.
const TERMS_OF_SCAN: usize = 64;
/// Scans of one condition: each reads what waits to be merged into the index, too.
const SCANS_MAX: usize = 64;

pub struct Compiler {
    pub sql: Sql,
    policy: Policy,
    aliases: usize,
    /// Conditions are asked of rows that are there: what they look for is read once, not once for each row.
    is_asking: bool,
    /// All matches are counted: what chains lead to is kept in a table, and each row is looked up there.
    is_counting: bool,
    /// What is asked of a row is looked for by its own id: the rows are few, and what they are asked may be dense.
    is_asking_each: bool,
    /// What the next alias stands for, or the one at hand.
    reads: Reads,
    /// The statement is planned once for all values.
    is_fenced: bool,
    /// The same, of rows of the alias itself and not of what they refer to.
    is_asking_row: bool,
    /// Chains whose targets are selected before, under a name. The same condition is at the same address meanwhile.
    shared: Vec<(usize, String)>,
}

impl Compiler {
    pub fn new(policy: Policy, reads: impl Into<Reads>) -> Compiler {
        Compiler {
            sql: Sql::default(),
            policy,
            aliases: 0,
            is_asking: false,
            is_counting: false,
            is_asking_each: false,
            reads: reads.into(),
            is_fenced: false,
            is_asking_row: false,
            shared: Vec::new(),
        }
    }

    /// What comes next counts all matches.
    pub fn count_all(&mut self) {
        self.is_counting = true;
    }

    /// What comes next is asked of few rows.
    pub fn ask_each_row(&mut self) {
        self.is_asking_each = true;
    }

    /// What comes next reads other rows.
    pub fn read_from(&mut self, reads: Reads) {
        self.reads = reads;
    }

    /// Writes `from resource rN where <policy> and <condition>`; returns the alias.
    pub fn resource(&mut self, condition: &Condition) -> String {
        let alias = self.upcoming_alias();
        self.resource_and(None, condition);
        alias
    }

    /// The statement for a column of up to so many rows that satisfy the condition.
    pub fn select(mut self, column: &str, condition: &Condition, limit: usize) -> Sql {
        let alias = self.upcoming_alias();
        self.sql.push(&format!("select {alias}.{column}"));
        self.resource(condition);
        self.sql.push(" limit ").bind(Arg::Int(limit as i64));
        self.sql
    }

    /// Writes ` from (select ... ) alias where rest`: the rows that one index gives, by `driver` and what `narrow` writes, and of these the ones
    /// that satisfy `rest`. `offset 0` keeps the planner, which does not know the values, from taking another index. The inner alias carries
    /// the policy, and the outer one is of the same rows.
    pub fn fenced(&mut self, alias: &str, driver: &Condition, narrow: impl Fn(&mut Sql, &str), rest: &Condition) {
        self.fenced_beside("", alias, driver, narrow, rest);
    }

    /// The same beside rows that `narrow` may name: `beside` is `name cross join lateral `, or empty.
    pub fn fenced_beside(&mut self, beside: &str, alias: &str, driver: &Condition, narrow: impl Fn(&mut Sql, &str), rest: &Condition) {
        self.is_fenced = true;
        let inner = self.upcoming_alias();
        self.sql.push(&format!(" from {beside}(select {inner}.*"));
        self.resource(driver);
        narrow(&mut self.sql, &inner);
        self.sql.push(&format!(" offset 0) {alias} where "));
        (self.is_asking, self.is_asking_row) = (true, !matches!(self.reads, Reads::AsOf(_)));
        self.condition(alias, rest);
        (self.is_asking, self.is_asking_row) = (false, false);
    }

    /// The name that the next call of [`Compiler::resource`] will use: for the select list before it.
    pub fn upcoming_alias(&self) -> String {
        format!("r{}", self.aliases)
    }

    fn next_alias(&mut self) -> String {
        let alias = self.upcoming_alias();
        self.aliases += 1;
        alias
    }

    fn filter(&mut self, alias: &str, condition: &Condition) {
        self.sql.push(" where ");
        self.push_policy(alias);
        self.sql.push(" and ");
        self.condition(alias, condition);
    }

    fn condition(&mut self, alias: &str, condition: &Condition) {
        match condition {
            Condition::All(conditions) => self.all(alias, conditions),
            Condition::Any(conditions) => self.any(alias, conditions),
            Condition::Not(inner) if is_asked(inner) => {
                let before = std::mem::replace(&mut self.is_asking, true);
                self.sql.push("(");
                self.condition(alias, inner);
                self.sql.push(") is not true");
                self.is_asking = before;
            }
            Condition::Not(inner) => {
                // `is not true`, not `not`: an empty array of targets makes the inner condition null.
                self.sql.push("(");
                self.condition(alias, inner);
                self.sql.push(") is not true");
            }
            Condition::Terms(terms) => self.terms(alias, terms),
            Condition::Lookup(_) => unreachable!("what is looked up is terms before it is compiled"),
            Condition::Rows(rids) => {
                self.sql.push(alias).push(".rid = any(").bind(Arg::Ints(rids.clone())).push(")");
            }
            Condition::Ids(hashes) => self.ids(alias, hashes),
            Condition::PrimaryDate(number, prefix, range) => self.primary_date(alias, *number, *prefix, *range),
            Condition::Date(keys, prefix, range) => {
                self.side_table(alias, DATES, keys);
                self.date("low", "high", *prefix, *range);
                self.sql.push(")");
            }
            Condition::LastUpdated(number, prefix, low, high) => self.last_updated(alias, *number, *prefix, *low, *high),
            Condition::Quantity(quantity) => self.quantity(alias, quantity),
            Condition::Near(near) => self.near(alias, near),
            Condition::NumberPair(keys, numbers) => self.number_pair(alias, keys, numbers.0, numbers.1),
            Condition::StringStart(keys, text) => {
                self.side_table(alias, STRINGS, keys);
                // A range, which is planned without knowing the text; U+10FFFF is the last character of the order by bytes.
                self.sql.push("value >= ").bind(Arg::Text(text.clone()));
                self.sql
                    .push(" and value < ")
                    .bind(Arg::Text(format!("{text}\u{10ffff}")))
                    .push(")");
            }
            Condition::FullText(is_content, text) => {
                let column = if *is_content { "content" } else { "narrative" };
                self.sql.push(alias).push(".rid in (select rid from text_index where ").push(column);
                self.sql
                    .push(" @@ websearch_to_tsquery('italian', ")
                    .bind(Arg::Text(text.clone()))
                    .push("))");
            }
            Condition::StringEquals(keys, text) => {
                self.side_table(alias, STRINGS, keys);
                self.sql.push("value = ").bind(Arg::Text(text.clone())).push(")");
            }
            Condition::StringEnd(keys, text) => {
                self.side_table(alias, STRINGS, keys);
                self.sql.push("value in (select value from string_value where value like ");
                self.sql.bind(Arg::Text(format!("%{}", escape_like(text)))).push("))");
            }
            Condition::StringPart(keys, text) => {
                self.side_table(alias, STRINGS, keys);
                self.sql.push("value in (select value from string_value where value like ");
                self.sql.bind(Arg::Text(format!("%{}%", escape_like(text)))).push("))");
            }
            Condition::Missing(_, bits) | Condition::Masked(_, bits, _) if self.is_asking || self.reads != Reads::Now => {
                self.sql.push(alias).push(".present & ").bind(Arg::Int(*bits)).push(" = 0");
            }
            Condition::Missing(number, bits) => {
                self.sql
                    .push(&format!(
                        "({alias}.type = {number} and {alias}.present = any((select present_without({number}::smallint, "
                    ))
                    .bind(Arg::Int(*bits))
                    .push("))::bigint[]))");
            }
            // What is read for several is read first; and so is what a contained resource leads to, or a statement would grow twofold with each link.
            Condition::LeadsTo(salts, inner) if self.reads == Reads::Linked || self.shared(condition).is_some() => {
                self.chain(alias, condition, salts, inner);
            }
            Condition::Masked(number, _, masks) => {
                self.sql.push(&format!("({alias}.type = {number} and {alias}.present = any("));
                self.sql.bind(Arg::Ints(masks.clone())).push("))");
            }
            Condition::LeadsTo(salts, inner) => self.leads_to(alias, salts, inner),
            Condition::IsHeldBy(salts, inner) => self.is_held_by(alias, salts, inner),
            Condition::Chain(salts, inner) => self.chain(alias, condition, salts, inner),
            Condition::Has(salts, inner) => self.has(alias, salts, inner),
            Condition::Contains(inner) => self.contains(alias, inner),
        }
    }

    fn all(&mut self, alias: &str, conditions: &[Condition]) {
        let single = |c: &Condition| match c {
            Condition::Terms(terms) if terms.len() == 1 => Some(terms[0]),
            _ => None,
        };
        let together: Vec<i64> = conditions.iter().filter_map(single).collect();
        self.sql.push("(");
        let mut is_first = together.is_empty();
        if is_first && conditions.is_empty() {
            self.sql.push("true");
        }
        if !together.is_empty() {
            self.sql.push(alias).push(".terms @> ").bind(Arg::Ints(together));
        }
        for condition in conditions.iter().filter(|c| single(c).is_none()) {
            if !is_first {
                self.sql.push(" and ");
            }
            is_first = false;
            self.condition(alias, condition);
        }
        self.sql.push(")");
    }

    fn any(&mut self, alias: &str, conditions: &[Condition]) {
        self.sql.push("(");
        if conditions.is_empty() {
            self.sql.push("false");
        }
        for (i, condition) in conditions.iter().enumerate() {
            if i > 0 {
                self.sql.push(" or ");
            }
            self.condition(alias, condition);
        }
        self.sql.push(")");
    }

    fn terms(&mut self, alias: &str, terms: &[i64]) {
        if terms.len() > TERMS_OF_SCAN {
            return self.many_terms(alias, terms);
        }
        let operator = if terms.len() == 1 { ".terms @> " } else { ".terms && " };
        self.sql.push(alias).push(operator).bind(Arg::Ints(terms.to_vec()));
    }

    /// Rows that are there are asked by a hash of the terms; an index is scanned for a part of them at a time.
    fn many_terms(&mut self, alias: &str, terms: &[i64]) {
        if self.is_asking {
            self.sql.push("exists (select from unnest(").push(alias);
            // `is true` keeps the planner from making a join of it.
            self.sql
                .push(".terms) term where (term in (select unnest(")
                .bind(Arg::Ints(terms.to_vec()))
                .push("))) is true)");
            return;
        }
        let size = TERMS_OF_SCAN.max(terms.len().div_ceil(SCANS_MAX));
        for (i, part) in terms.chunks(size).enumerate() {
            self.sql.push(if i == 0 { "(" } else { " or " });
            self.sql.push(alias).push(".terms && ").bind(Arg::Ints(part.to_vec()));
        }
        self.sql.push(")");
    }

    fn chain(&mut self, alias: &str, condition: &Condition, salts: &[i64], inner: &Condition) {
        if self.is_counting && self.reads == Reads::Now && self.shared(condition).is_none() {
            let references = format!("unnest({alias}.terms[1:{alias}.reference_terms]) reference");
            self.sql.push(&format!("exists (select from {references} where (reference in ("));
            self.reference_terms(salts, inner);
            self.sql.push(" union all ");
            self.reading(Reads::Linked, |compiler| compiler.reference_terms(salts, inner));
            // `is true` keeps the planner from making a join of it.
            self.sql.push(")) is true)");
            return;
        }
        self.sql.push(alias).push(".terms && (");
        match self.shared(condition).map(|name| format!("select terms from {name}")) {
            Some(select) => drop(self.sql.push(&select)),
            None => self.reading_others(|compiler| compiler.targets(salts, inner)),
        }
        self.sql.push(")");
    }

    /// Selects the array of the terms that refer to what satisfies the condition: resources, and what the one at hand contains.
    fn targets(&mut self, salts: &[i64], condition: &Condition) {
        let before = self.share_chains(condition);
        self.sql.push("select array_agg(target) from (");
        self.reference_terms(salts, condition);
        if self.reads == Reads::Now {
            self.sql.push(" union all ");
            self.reading(Reads::Linked, |compiler| compiler.reference_terms(salts, condition));
        }
        self.sql.push(") t");
        self.shared.truncate(before);
    }

    /// A chain that goes on from resources and from what is contained is the same for both: it is written once before them, or a statement would grow
    /// twofold with each link. Returns how many were shared before.
    fn share_chains(&mut self, condition: &Condition) -> usize {
        let before = self.shared.len();
        let chains = if self.reads == Reads::Now { condition.chains() } else { Vec::new() };
        for chain in chains {
            let (Condition::Chain(salts, inner) | Condition::LeadsTo(salts, inner)) = chain else {
                continue;
            };
            let name = format!("s{}", self.aliases);
            self.aliases += 1;
            self.sql
                .push(if self.shared.len() == before { "with " } else { ", " })
                .push(&format!("{name} (terms) as materialized ("));
            self.targets(salts, inner);
            self.sql.push(")");
            self.shared.push((std::ptr::from_ref(chain).addr(), name));
        }
        self.sql.push(if self.shared.len() == before { "" } else { " " });
        before
    }

    fn shared(&self, condition: &Condition) -> Option<&str> {
        let place = std::ptr::from_ref(condition).addr();
        self.shared.iter().find(|(of, _)| *of == place).map(|(_, name)| name.as_str())
    }

    /// Selects the terms that refer to what satisfies the condition, as `target`.
    pub(super) fn reference_terms(&mut self, salts: &[i64], condition: &Condition) {
        let target = self.upcoming_alias();
        self.sql.push("select ").push(&target).push(".self_hash # ");
        let and = self.salts(salts);
        self.sql.push(" as target");
        self.resource_and(and, condition);
    }

    fn has(&mut self, alias: &str, salts: &[i64], inner: &Condition) {
        let source = self.upcoming_alias();
        // `is true` keeps the planner from making a join of it, which without hash joins compares every row with every other.
        let is_asking = self.is_asking;
        self.sql.push(if is_asking { "(" } else { "" });
        self.push_hash(alias, |compiler| {
            compiler
                .sql
                .push(&format!("in (select unnest({source}.terms[1:{source}.reference_terms]) # "));
            let and = compiler.salts(salts);
            compiler.reading_others(|compiler| compiler.resource_and(and, inner));
            compiler.sql.push(")");
        });
        self.sql.push(if is_asking { ") is true" } else { "" });
    }

    fn contains(&mut self, alias: &str, inner: &Condition) {
        let contained = self.upcoming_alias();
        self.sql.push(alias).push(".rid in (select ").push(&contained).push(".container");
        self.reading(Reads::Contained, |compiler| {
            compiler.resource(inner);
        });
        self.sql.push(")");
    }

    /// Writes the salt to XOR with; several need a row source of their own beside the resource.
    fn salts(&mut self, salts: &[i64]) -> Option<Vec<i64>> {
        match salts {
            [one] => {
                self.sql.bind(Arg::Int(*one));
                None
            }
            several => {
                self.sql.push("salt");
                Some(several.to_vec())
            }
        }
    }

    fn resource_and(&mut self, salts: Option<Vec<i64>>, condition: &Condition) {
        let alias = self.next_alias();
        self.push_source(&alias);
        if let Some(salts) = salts {
            self.sql.push(" cross join unnest(").bind(Arg::Ints(salts)).push(") salt");
        }
        let is_asking_row = std::mem::replace(&mut self.is_asking_row, false);
        self.filter(&alias, condition);
        self.is_asking_row = is_asking_row;
    }
}

/// Negated, it is asked of the row: the masks that have a parameter are most of them, and an index does not find what lacks one of many terms.
fn is_asked(negated: &Condition) -> bool {
    match negated {
        Condition::Missing(..) => true,
        Condition::Terms(terms) => terms.len() > TERMS_OF_SCAN,
        _ => false,
    }
}

/// Makes `%`, `_` and `\` stand for themselves in a LIKE pattern.
fn escape_like(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::compile::source::CONTAINED;

    fn check(condition: Condition, text: &str, args: Vec<Arg>) {
        let mut compiler = Compiler::new(Policy::NotWithdrawn, None);
        compiler.resource(&condition);
        assert_eq!(
            compiler.sql,
            Sql {
                text: text.to_owned(),
                args
            }
        );
    }

    #[test]
    fn terms_that_all_must_hold_are_one_containment() {
        check(
            Condition::All(vec![
                Condition::Terms(vec![1]),
                Condition::Terms(vec![2]),
                Condition::Terms(vec![3, 4]),
            ]),
            " from resource r0 where r0.state = 0 and (r0.terms @> $1 and r0.terms && $2)",
            vec![Arg::Ints(vec![1, 2]), Arg::Ints(vec![3, 4])],
        );
    }

    #[test]
    fn a_chain_carries_the_policy_on_its_targets_too() {
        let args = [
            Arg::Int(7),
            Arg::Keys(vec![5]),
            Arg::Text("ro_ssi".into()),
            Arg::Text("ro_ssi\u{10ffff}".into()),
        ];
        check(
            Condition::Chain(vec![7], Box::new(Condition::StringStart(vec![5], "ro_ssi".into()))),
            &format!(
                " from resource r0 where r0.state = 0 and r0.terms && (select array_agg(target) from (\
                 select r1.self_hash # $1 as target from resource r1 where r1.state = 0 \
                 and r1.rid in (select s.rid from string_index s where s.key = any($2) and value >= $3 and value < $4) union all \
                 select r2.self_hash # $5 as target{CONTAINED}r2 where r2.state = 0 \
                 and r2.rid in (select s.rid from contained_string s where s.key = any($6) and value >= $7 and value < $8)) t)"
            ),
            [&args[..], &args[..]].concat(),
        );
    }

    #[test]
    fn what_contains_is_found_by_what_is_contained_and_that_by_ids_of_its_own() {
        check(
            Condition::Contains(Box::new(Condition::Ids(vec![1]))),
            &format!(
                " from resource r0 where r0.state = 0 and r0.rid in (select r1.container{CONTAINED}r1 where r1.state = 0 and r1.id_hash = any($1))"
            ),
            vec![Arg::Ints(vec![1])],
        );
        let mut compiler = Compiler::new(Policy::NotWithdrawn, Reads::Contained);
        compiler.resource(&Condition::Chain(vec![7], Box::new(Condition::Ids(vec![1]))));
        assert_eq!(
            compiler.sql.text,
            format!(
                "{CONTAINED}r0 where r0.state = 0 and r0.terms && (select array_agg(target) from (\
                 select r1.self_hash # $1 as target from resource r1 where r1.state = 0 and r1.self_hash = any($2) union all \
                 select r2.self_hash # $3 as target{CONTAINED}r2 where r2.state = 0 and false) t)"
            )
        );
    }

    #[test]
    fn a_statement_grows_with_the_links_of_a_chain_and_not_twofold_with_each() {
        let chain = |inner| Condition::All(vec![Condition::Terms(vec![2]), Condition::Chain(vec![7], Box::new(inner))]);
        let length = |links: usize, ask: fn(Condition) -> Condition| {
            let condition = (0..links).fold(Condition::Terms(vec![1]), |inner, _| ask(chain(inner)));
            let mut compiler = Compiler::new(Policy::NotWithdrawn, None);
            compiler.fenced("m", &Condition::Ids(vec![1]), |_, _| {}, &condition);
            compiler.sql.text.len()
        };
        let gathered = |links| length(links, |c| c);
        assert!(gathered(12) - gathered(8) <= gathered(8) - gathered(4) + 100);
        let asked = |links| {
            length(links, |c| match c {
                Condition::All(mut all) => match all.pop() {
                    Some(Condition::Chain(salts, inner)) => Condition::LeadsTo(salts, inner),
                    other => other.expect("stands above"),
                },
                other => other,
            })
        };
        // What is asked of resources row by row is written beside what is read first.
        assert!(asked(12) < asked(6) * 5, "{} {}", asked(6), asked(12));
        let mut compiler = Compiler::new(Policy::NotWithdrawn, None);
        compiler.resource(&Condition::Chain(vec![7], Box::new(chain(Condition::Terms(vec![1])))));
        let text = &compiler.sql.text;
        assert!(
            text.contains("r0.terms && (with s1 (terms) as materialized (select array_agg(target) from ("),
            "{text}"
        );
        assert_eq!(text.matches("terms && (select terms from s1)").count(), 2, "{text}");
    }

    #[test]
    fn has_reads_the_reference_terms_of_the_source() {
        check(
            Condition::Not(Box::new(Condition::Has(vec![7], Box::new(Condition::Terms(vec![1]))))),
            " from resource r0 where r0.state = 0 and (r0.self_hash in (select unnest(r1.terms[1:r1.reference_terms]) # $1 from resource r1 \
             where r1.state = 0 and r1.terms @> $2)) is not true",
            vec![Arg::Int(7), Arg::Ints(vec![1])],
        );
    }

    #[test]
    fn many_terms_are_looked_for_in_parts_and_asked_of_rows_by_a_hash() {
        let terms: Vec<i64> = (0..100).collect();
        check(
            Condition::Terms(terms.clone()),
            " from resource r0 where r0.state = 0 and (r0.terms && $1 or r0.terms && $2)",
            vec![Arg::Ints(terms[..64].to_vec()), Arg::Ints(terms[64..].to_vec())],
        );
        let mut compiler = Compiler::new(Policy::NotWithdrawn, None);
        compiler.fenced("m", &Condition::Ids(vec![1]), |_, _| {}, &Condition::Terms(terms.clone()));
        assert!(
            compiler
                .sql
                .text
                .ends_with(" offset 0) m where exists (select from unnest(m.terms) term where (term in (select unnest($2))) is true)")
        );
        let mut compiler = Compiler::new(Policy::NotWithdrawn, None);
        compiler.resource(&Condition::Terms((0..100_000).collect()));
        assert_eq!(compiler.sql.args.len(), SCANS_MAX);
    }

    #[test]
    fn the_empty_alternative_holds_for_nothing() {
        check(Condition::nothing(), " from resource r0 where r0.state = 0 and (false)", vec![]);
    }
}
