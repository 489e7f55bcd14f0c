//! Links asked of rows that are there, one by one: a lookup for each row, however many resources satisfy the inner condition.
//! Beside them stand the forms that read all of these first, which suit an index (`compile`).

use crate::search::compile::Compiler;
use crate::search::compile::source::Reads;
use crate::search::condition::Condition;
use crate::search::sql::Arg;

impl Compiler {
    /// One of the row's references leads to a resource that satisfies the inner condition. Of what the row contains there is little: it is read first.
    pub(super) fn leads_to(&mut self, alias: &str, salts: &[i64], inner: &Condition) {
        self.sql.push("(");
        self.reading_others(|compiler| {
            let target = compiler.upcoming_alias();
            compiler.sql.push("exists (select 1");
            compiler.resource(&Condition::All(Vec::new()));
            compiler.sql.push(" and ");
            compiler.push_hash(&target, |compiler| {
                compiler
                    .sql
                    .push(&format!(
                        "= any(array(select reference # salt from unnest({alias}.terms[1:{alias}.reference_terms]) reference, unnest("
                    ))
                    .bind(Arg::Ints(salts.to_vec()))
                    .push(") salt))");
            });
            compiler.sql.push(" and ");
            compiler.asked(&target, inner);
            compiler.sql.push(")");
            if compiler.reads == Reads::Now {
                compiler.sql.push(&format!(" or {alias}.terms && ("));
                compiler.linked_targets(salts, inner);
                compiler.sql.push(")");
            }
        });
        self.sql.push(")");
    }

    /// The row is referenced by a resource that satisfies the inner condition.
    pub(super) fn is_held_by(&mut self, alias: &str, salts: &[i64], inner: &Condition) {
        self.reading_others(|compiler| {
            let source = compiler.upcoming_alias();
            compiler.sql.push("exists (select 1");
            compiler.resource(&Condition::All(Vec::new()));
            let operator = if salts.len() == 1 { "@>" } else { "&&" };
            compiler.sql.push(&format!(" and {source}.terms {operator} array["));
            for (i, salt) in salts.iter().enumerate() {
                compiler
                    .sql
                    .push(if i == 0 { "" } else { ", " })
                    .push(&format!("{alias}.self_hash # "))
                    .bind(Arg::Int(*salt));
            }
            compiler.sql.push("] and ");
            compiler.asked(&source, inner);
            compiler.sql.push(")");
        });
    }

    /// A condition of rows that a lookup has found.
    fn asked(&mut self, alias: &str, condition: &Condition) {
        let before = std::mem::replace(&mut self.is_asking, true);
        self.condition(alias, condition);
        self.is_asking = before;
    }
}
