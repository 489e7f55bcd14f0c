//! Numbers and quantities: looks into their index. Spec: <https://hl7.org/fhir/R4/search.html#prefix>, <https://hl7.org/fhir/R4/search.html#quantity>.
//!
//! Each comparison is one or more ranges of the index on the lower end; what the upper end alone satisfies is asked of those that have a width, which
//! are few and have an index of their own (migration 0014).

use crate::search::compile::Compiler;
use crate::search::compile::source::QUANTITIES;
use crate::search::condition::Comparison;
use crate::search::condition::Prefix;
use crate::search::condition::QuantityCondition;
use crate::search::condition::Unit;
use crate::search::sql::Arg;
use crate::search::units::Measure;
use crate::search::units::decimal;
use octofhir_ucum::Number;

/// A look into the index: comparisons of a column with a bound, all of which must hold.
type Range = &'static [(&'static str, &'static str, End)];

#[derive(Clone, Copy)]
enum End {
    From,
    To,
    /// The other end of the row.
    High,
}

use End::From;
use End::High;
use End::To;

/// The rows that satisfy a prefix: all that are in one of these ranges. From and to are the same where the precision does not matter.
/// <https://hl7.org/fhir/R4/search.html#prefix>
fn ranges(prefix: Prefix) -> &'static [Range] {
    match prefix {
        Prefix::Eq => &[&[("low", ">=", From), ("low", "<", To), ("high", "<", To)]],
        Prefix::Ne => &[
            &[("low", "<", From)],
            &[("low", ">=", To)],
            &[("low", "<>", High), ("high", ">=", To)],
        ],
        Prefix::Gt => &[&[("low", ">", From)], &[("low", "<>", High), ("high", ">", From)]],
        Prefix::Lt => &[&[("low", "<", From)]],
        Prefix::Ge => &[&[("low", ">=", From)], &[("low", "<>", High), ("high", ">", From)]],
        Prefix::Le => &[&[("low", "<", From)], &[("low", "=", From), ("high", "=", From)]],
        Prefix::Sa => &[&[("low", ">", From)]],
        Prefix::Eb => &[&[("low", "<", From), ("high", "<", From)]],
        Prefix::Ap => &[
            &[("low", ">=", From), ("low", "<=", To)],
            &[("low", "<>", High), ("high", ">=", From), ("low", "<=", To)],
        ],
    }
}

/// Enough decimal places for a binary number, whatever it is divided by.
const PLACES: &str = "1.0000000000000000000000000000000000000000";

impl Compiler {
    /// Rows that are there are looked for by their own id, each once: the values may be dense. Others come from the index of the values.
    pub(super) fn quantity(&mut self, alias: &str, quantity: &QuantityCondition) {
        if !self.is_asking_row {
            self.open_rows(alias);
            self.rows_of_quantity(quantity);
            self.sql.push(")");
            return;
        }
        self.sql.push("(");
        for (i, range) in ranges(quantity.comparison.prefix).iter().enumerate() {
            self.sql.push(if i > 0 { " or " } else { "" }).push("exists (select 1 from ");
            self.of_range(quantity, range);
            self.sql.push(&format!(" and q.rid = {alias}.rid offset 0)"));
        }
        self.sql.push(")");
    }

    /// The statement for the row ids of a quantity, up to a limit.
    pub fn rids_of_quantity(&mut self, quantity: &QuantityCondition, limit: usize) {
        self.sql.push("select m.rid from (");
        self.rows_of_quantity(quantity);
        self.sql.push(") m limit ").bind(Arg::Int(limit as i64));
    }

    fn rows_of_quantity(&mut self, quantity: &QuantityCondition) {
        for (i, range) in ranges(quantity.comparison.prefix).iter().enumerate() {
            self.sql.push(if i > 0 { " union all " } else { "" });
            self.push_rows_of("q");
            self.of_range(quantity, range);
        }
    }

    fn of_range(&mut self, quantity: &QuantityCondition, range: Range) {
        let measure = match &quantity.unit {
            Unit::Measured(hash, measure) => {
                self.measuring(*hash, measure);
                Some(measure)
            }
            _ => None,
        };
        self.push_side(QUANTITIES);
        self.sql
            .push(" q where q.key = any(")
            .bind(Arg::Keys(quantity.keys.clone()))
            .push(")");
        if let Some(joint) = &quantity.joint {
            if !joint.codes.is_empty() {
                self.sql.push(" and q.joint = any(").bind(Arg::Ints(joint.codes.clone())).push(")");
            }
            if let Some(system) = joint.system {
                self.sql.push(" and q.system = ").bind(Arg::Int(i64::from(system))).push("::int");
            }
        }
        self.unit(&quantity.unit);
        self.within(range, quantity.comparison, measure);
    }

    /// Both numbers stand in one row: the first as its lower end, the second as its upper.
    pub(super) fn number_pair(&mut self, alias: &str, keys: &[i32], first: Comparison, second: Comparison) {
        self.open_rows(alias);
        self.push_rows_of("q");
        self.push_side(QUANTITIES);
        self.sql.push(" q where q.key = any(").bind(Arg::Keys(keys.to_vec())).push(")");
        for (column, comparison) in [("low", first), ("high", second)] {
            let (from, to) = (comparison.from.to_f64(), comparison.to.to_f64());
            let parts: &[(&str, f64)] = match comparison.prefix {
                Prefix::Eq => &[(">=", from), ("<", to)],
                Prefix::Ne => {
                    self.sql.push(&format!(" and (q.{column} < ")).bind(Arg::Float(from));
                    self.sql.push(&format!(" or q.{column} >= ")).bind(Arg::Float(to)).push(")");
                    &[]
                }
                Prefix::Gt | Prefix::Sa => &[(">", from)],
                Prefix::Lt | Prefix::Eb => &[("<", from)],
                Prefix::Ge => &[(">=", from)],
                Prefix::Le => &[("<=", from)],
                Prefix::Ap => &[(">=", from), ("<=", to)],
            };
            for (operator, bound) in parts {
                self.sql.push(&format!(" and q.{column} {operator} ")).bind(Arg::Float(*bound));
            }
        }
        self.sql.push(")");
    }

    /// The units of one dimension that were ever written. The one that is asked for measures also where they are not known yet: in an index that an
    /// older version made.
    fn measuring(&mut self, hash: i64, measure: &Measure) {
        self.sql.push("(select hash, factor, shift from unit where dimension = ");
        self.sql.bind(Arg::Text(measure.dimension.clone())).push(" union select ");
        self.sql.bind(Arg::Int(hash)).push(", ");
        self.sql.bind(Arg::Text(measure.factor())).push("::numeric, ");
        self.sql.bind(Arg::Text(measure.shift())).push("::numeric) u cross join ");
    }

    fn unit(&mut self, unit: &Unit) {
        match unit {
            Unit::Any => {}
            Unit::SystemAndCode(hash) => {
                self.sql.push(" and q.unit = ").bind(Arg::Int(*hash));
            }
            Unit::Code(code) => {
                self.sql
                    .push(" and (q.code = ")
                    .bind(Arg::Int(crate::search::term::unit_code_hash(code)));
                self.sql.push(" or q.unit in (select hash from unit where code = ");
                self.sql.bind(Arg::Text(code.clone())).push("))");
            }
            Unit::Measured(..) => {
                self.sql.push(" and q.unit = u.hash");
            }
        }
    }

    fn within(&mut self, range: Range, comparison: Comparison, measure: Option<&Measure>) {
        for (column, operator, end) in range {
            self.sql.push(&format!(" and q.{column} {operator} "));
            match end {
                From => self.bound(comparison.from, measure),
                To => self.bound(comparison.to, measure),
                High => {
                    self.sql.push("q.high");
                }
            }
        }
    }

    /// A bound in the unit of the row. Decimal until the end: 5.35 mg is 0.00535 g, and no other number.
    fn bound(&mut self, bound: Number, measure: Option<&Measure>) {
        match measure.and_then(|measure| measure.canonical(bound)) {
            None => {
                self.sql.bind(Arg::Float(bound.to_f64()));
            }
            Some(canonical) => {
                self.sql.push("((").bind(Arg::Text(decimal(canonical)));
                self.sql.push(&format!("::numeric - u.shift) * {PLACES} / u.factor)::float8"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the specification's table says of a row's range and a bound that is exact.
    fn holds(prefix: Prefix, (low, high): (f64, f64), at: f64) -> bool {
        let contained = low >= at && high <= at;
        match prefix {
            Prefix::Eq => contained,
            Prefix::Ne => !contained,
            Prefix::Gt => high > at,
            Prefix::Lt => low < at,
            Prefix::Ge => high > at || contained,
            Prefix::Le => low < at || contained,
            Prefix::Sa => low > at,
            Prefix::Eb => high < at,
            Prefix::Ap => low <= at && high >= at,
        }
    }

    #[test]
    fn the_ranges_of_a_prefix_have_the_rows_that_the_table_says() {
        let rows = [
            (1.0, 1.0),
            (2.0, 2.0),
            (3.0, 3.0),
            (1.0, 2.0),
            (2.0, 3.0),
            (1.0, 3.0),
            (f64::NEG_INFINITY, 2.0),
            (2.0, f64::INFINITY),
        ];
        for prefix in [Prefix::Gt, Prefix::Lt, Prefix::Ge, Prefix::Le, Prefix::Sa, Prefix::Eb, Prefix::Ap] {
            for (low, high) in rows {
                let is_in = |range: &&Range| {
                    range.iter().all(|(column, operator, end)| {
                        let value = if *column == "low" { low } else { high };
                        let bound = if matches!(end, High) { high } else { 2.0 };
                        match *operator {
                            ">=" => value >= bound,
                            ">" => value > bound,
                            "<=" => value <= bound,
                            "<" => value < bound,
                            "=" => value == bound,
                            _ => value != bound,
                        }
                    })
                };
                let found = ranges(prefix).iter().any(|range| is_in(&range));
                assert_eq!(found, holds(prefix, (low, high), 2.0), "{prefix:?} {low} {high}");
            }
        }
    }
}
