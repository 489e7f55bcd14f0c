//! Comparisons by order: dates, instants, numbers, quantities. Spec: <https://hl7.org/fhir/R4/search.html#prefix>.

use crate::fhir::datetime::Range;
use crate::search::compile::Compiler;
use crate::search::compile::WIDE;
use crate::search::condition::Prefix;
use crate::search::sql::Arg;
use chrono::DateTime;
use chrono::Utc;

impl Compiler {
    /// The half-open range of the resource against that of the query; <https://hl7.org/fhir/R4/search.html#prefix>.
    pub(super) fn date(&mut self, low: &str, high: &str, prefix: Prefix, range: Range) {
        let (from, to) = (Arg::Int(range.low), Arg::Int(range.high));
        let sql = &mut self.sql;
        match prefix {
            // That it also begins before the end follows, and lets an index on the beginning stop there.
            Prefix::Eq => sql
                .push(low)
                .push(" >= ")
                .bind(from)
                .push(" and ")
                .push(low)
                .push(" < ")
                .bind(to.clone())
                .push(" and ")
                .push(high)
                .push(" <= ")
                .bind(to),
            Prefix::Ne => sql
                .push("(")
                .push(low)
                .push(" < ")
                .bind(from)
                .push(" or ")
                .push(high)
                .push(" > ")
                .bind(to)
                .push(")"),
            Prefix::Gt => sql.push(high).push(" > ").bind(to),
            Prefix::Lt => sql.push(low).push(" < ").bind(from),
            Prefix::Ge => sql
                .push("(")
                .push(low)
                .push(" >= ")
                .bind(from)
                .push(" or ")
                .push(high)
                .push(" > ")
                .bind(to)
                .push(")"),
            Prefix::Le => sql
                .push("(")
                .push(low)
                .push(" < ")
                .bind(from)
                .push(" or ")
                .push(high)
                .push(" <= ")
                .bind(to)
                .push(")"),
            Prefix::Sa => sql.push(low).push(" >= ").bind(to),
            Prefix::Eb => sql
                .push(low)
                .push(" < ")
                .bind(from.clone())
                .push(" and ")
                .push(high)
                .push(" <= ")
                .bind(from),
            Prefix::Ap => sql.push(low).push(" < ").bind(to).push(" and ").push(high).push(" > ").bind(from),
        };
    }

    pub(super) fn primary_date(&mut self, alias: &str, number: i16, prefix: Prefix, range: Range) {
        let (low, high) = (format!("{alias}.date_low"), format!("{alias}.date_high"));
        self.sql
            .push("(")
            .push(alias)
            .push(".type = ")
            .bind(Arg::Int(i64::from(number)))
            .push("::smallint and ");
        if matches!(prefix, Prefix::Gt | Prefix::Ge) {
            // Narrow rows by the index on their beginning, wide ones by their own.
            self.sql
                .push("(")
                .push(&low)
                .push(" > ")
                .bind(Arg::Int(range.low))
                .push(" - ")
                .push(&WIDE.to_string())
                .push(" or ");
            self.sql
                .push(&high)
                .push(" - ")
                .push(&low)
                .push(" > ")
                .push(&WIDE.to_string())
                .push(" and ")
                .push(&high)
                .push(" > ")
                .bind(Arg::Int(range.low))
                .push(")");
            // The exact comparison says little more than that. Written so, the planner takes it to let nearly all rows pass, instead of
            // counting the same bound twice and expecting too few rows to walk the index in order of date (docs/adr/0001-storage.md).
            self.sql.push(" and nullif(");
            self.date(&low, &high, prefix, range);
            self.sql.push(", false) is not unknown");
        } else {
            self.date(&low, &high, prefix, range);
        }
        self.sql.push(")");
    }

    pub(super) fn last_updated(&mut self, alias: &str, number: i16, prefix: Prefix, low: DateTime<Utc>, high: DateTime<Utc>) {
        let column = format!("{alias}.updated");
        self.sql
            .push("(")
            .push(alias)
            .push(".type = ")
            .bind(Arg::Int(i64::from(number)))
            .push("::smallint and ");
        let (from, to) = (Arg::Instant(low), Arg::Instant(high));
        let sql = &mut self.sql;
        match prefix {
            Prefix::Eq | Prefix::Ap => sql
                .push(&column)
                .push(" >= ")
                .bind(from)
                .push(" and ")
                .push(&column)
                .push(" < ")
                .bind(to),
            Prefix::Ne => sql
                .push("(")
                .push(&column)
                .push(" < ")
                .bind(from)
                .push(" or ")
                .push(&column)
                .push(" >= ")
                .bind(to)
                .push(")"),
            Prefix::Gt | Prefix::Sa => sql.push(&column).push(" >= ").bind(to),
            Prefix::Ge => sql.push(&column).push(" >= ").bind(from),
            Prefix::Lt | Prefix::Eb => sql.push(&column).push(" < ").bind(from),
            Prefix::Le => sql.push(&column).push(" < ").bind(to),
        };
        self.sql.push(")");
    }
}
