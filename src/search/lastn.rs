//! The newest of each group (`Observation/$lastn`) as SQL: what satisfies the condition is gathered without its bodies, and numbered within each
//! patient and concept. Spec: <https://hl7.org/fhir/R4/observation-operation-lastn.html>.

use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::condition::Condition;
use crate::search::sql::Arg;
use crate::search::sql::Sql;

/// `select rid` of the `max` newest of each group, newest first, up to `limit` rows. What has no date is the oldest. A row's first reference is
/// its patient, its first token its code, and its second the code with its system (`search::index`).
pub fn newest(policy: Policy, driver: &Condition, rest: &Condition, max: usize, limit: usize) -> Sql {
    let mut compiler = Compiler::new(policy, None);
    compiler.sql.push(
        "with m as materialized (select m.rid, m.date_low, case when m.reference_terms > 0 then m.terms[1] end as patient, \
         m.terms[m.reference_terms + 1] as code, m.terms[m.reference_terms + 2] as concept",
    );
    compiler.fenced("m", driver, |_, _| {}, rest);
    compiler.sql.push(
        "), n as (select rid, date_low, row_number() over (partition by patient, code, concept order by date_low desc nulls last, rid desc) as place \
         from m) select rid from n where place <= ",
    );
    compiler.sql.bind(Arg::Int(i64::try_from(max).unwrap_or(i64::MAX)));
    compiler
        .sql
        .push(" order by date_low desc nulls last, rid desc limit ")
        .bind(Arg::Int(limit as i64));
    compiler.sql
}
