//! Links asked of rows that are there, one by one: a lookup for each row, however many resources satisfy the inner condition.
//! Beside them stand the forms that read all of these first, which suit an index (`compile`).

use crate::search::compile::Compiler;
use crate::search::compile::source::Reads;
use crate::search::condition::Condition;
use crate::search::sql::Arg;
use crate::search::term::link_term;

/// Resources that reference a row and are looked at one by one.
const HOLDERS_READ_MAX: usize = 2_000;

impl Compiler {
    /// One of the row's references leads to a resource, or to what the row contains, that satisfies the inner condition.
    pub(super) fn leads_to(&mut self, alias: &str, salts: &[i64], inner: &Condition) {
        self.reading_others(|compiler| {
            if compiler.reads != Reads::Now {
                return compiler.leads_to_one(alias, salts, inner);
            }
            compiler.sql.push("(");
            compiler.leads_to_one(alias, salts, inner);
            // Few rows refer to what they contain: the others are not looked up again.
            let links = salts.iter().map(|salt| link_term(*salt)).collect();
            compiler
                .sql
                .push(&format!(" or {alias}.terms && "))
                .bind(Arg::Ints(links))
                .push(" and ");
            compiler.reading(Reads::Linked, |compiler| compiler.leads_to_one(alias, salts, inner));
            compiler.sql.push(")");
        });
    }

    fn leads_to_one(&mut self, alias: &str, salts: &[i64], inner: &Condition) {
        let target = self.upcoming_alias();
        let found = format!("{target}_found");
        self.sql.push(&format!("exists (select 1 from (select {target}.*"));
        self.resource(&Condition::All(Vec::new()));
        self.sql.push(" and ");
        self.push_hash(&target, |compiler| {
            compiler
                .sql
                .push(&format!(
                    "= any(array(select reference # salt from unnest({alias}.terms[1:{alias}.reference_terms]) reference, unnest("
                ))
                .bind(Arg::Ints(salts.to_vec()))
                .push(") salt))");
        });
        // `offset 0` keeps the planner from reading all that satisfies the condition, for each row anew.
        self.sql.push(&format!(" offset 0) {found} where "));
        self.asked(&found, inner);
        self.sql.push(")");
    }

    /// The row is referenced by a resource that satisfies the inner condition. Who references it is read first, without the inner condition: two
    /// dense terms together cost the index much more than one that is not, and most rows are referenced by few. Only where they are many is the
    /// index asked for both.
    pub(super) fn is_held_by(&mut self, alias: &str, salts: &[i64], inner: &Condition) {
        self.reading_others(|compiler| {
            let read = format!("{}_read", compiler.upcoming_alias());
            // Materialised, so that it is planned for all that reference the row, by the index, and still read no further than it is asked.
            compiler.sql.push(&format!("(with {read} as materialized ("));
            compiler.holders(alias, salts);
            compiler
                .sql
                .push(&format!(" limit {HOLDERS_READ_MAX}) select exists (select 1 from {read} where "));
            compiler.asked(&read, inner);
            compiler.sql.push(&format!(") or (select count(*) from {read}) = "));
            compiler.sql.bind(Arg::Int(HOLDERS_READ_MAX as i64)).push(" and exists (");
            let source = compiler.holders(alias, salts);
            compiler.sql.push(" and ");
            compiler.asked(&source, inner);
            compiler.sql.push("))");
        });
    }

    /// Writes the select of who references the row, open for more conditions; returns its alias.
    fn holders(&mut self, alias: &str, salts: &[i64]) -> String {
        let source = self.upcoming_alias();
        self.sql.push(&format!("select {source}.*"));
        self.resource(&Condition::All(Vec::new()));
        let operator = if salts.len() == 1 { "@>" } else { "&&" };
        self.sql.push(&format!(" and {source}.terms {operator} array["));
        for (i, salt) in salts.iter().enumerate() {
            self.sql
                .push(if i == 0 { "" } else { ", " })
                .push(&format!("{alias}.self_hash # "))
                .bind(Arg::Int(*salt));
        }
        self.sql.push("]");
        source
    }

    /// A condition of rows that a lookup has found.
    fn asked(&mut self, alias: &str, condition: &Condition) {
        let before = (self.is_asking, self.is_asking_row);
        (self.is_asking, self.is_asking_row) = (true, !matches!(self.reads, Reads::AsOf(_)));
        self.condition(alias, condition);
        (self.is_asking, self.is_asking_row) = before;
    }
}
