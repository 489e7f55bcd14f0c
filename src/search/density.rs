//! How dense the values of the index are, and which plan of a search follows from it.
//!
//! A search whose most selective condition has few rows is gathered: everything that satisfies it comes through the index and is sorted. Its
//! statement is planned once and kept, because the plan does not depend on the values, and planning it anew costs more than to run it
//! (docs/adr/0008-plans.md). Only for dense conditions is the database's planner asked, each time, whether to walk an order instead.

use crate::search::condition::Condition;
use crate::search::condition::QuantityCondition;
use crate::search::holders::Holders;
use crate::search::term::further_code;
use crate::search::term::type_term;
use std::collections::HashMap;

/// Rows that are gathered and sorted rather than walked in order: about a millisecond of work.
const GATHER_ROWS_MAX: f64 = 2_000.0;
/// Rows that are gathered for a search by quantity, which costs more by any other way.
const QUANTITY_ROWS_MAX: f64 = 20_000.0;
/// Targets of a chain that are kept in memory to count what refers to them: they must fit into `work_mem`, twice (`hash_mem_multiplier`).
const TARGETS_HASHED_MAX: f64 = 300_000.0;
/// Values of a sort key that are read in their order before all matches are.
const VALUES_READ_MAX: usize = 20_000;
/// Rows of a code beyond which its newest are read in order: the index for that costs no more than to gather so many.
const LEAD_ROWS_MIN: f64 = 100.0;
/// Rows of a term that the statistics do not list.
const UNLISTED_ROWS: f64 = 50.0;
/// A chain costs a look into the index for each target, twice as much as a row: many targets are no better walked.
const TARGET: f64 = 2.0;

/// How a statement is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Through the index, then sorted: planned once for all values.
    Gather,
    /// As the planner sees fit for these values.
    Walk,
}

/// What the database's statistics say. Empty before the first: then nothing is dense.
#[derive(Debug, Default)]
pub struct Density {
    /// The index is as this version makes it: rows of an older one have no first code.
    pub is_index_current: bool,
    /// Rows of `resource`.
    pub rows: f64,
    /// Share of the rows that have a term, for those that are dense.
    pub terms: HashMap<i64, f32>,
    /// Contained resources that have a term, for those that are dense: a chain leads to them too.
    pub contained: HashMap<i64, f64>,
    pub strings: Strings,
}

/// The distribution of normalised strings.
#[derive(Debug, Default)]
pub struct Strings {
    pub rows: f64,
    /// The most common, with their share.
    pub common: Vec<(String, f32)>,
    /// Bounds of ranges that have equal shares of the others.
    pub bounds: Vec<String>,
}

impl Density {
    /// The two parts of a condition whose rows are to be gathered ([`Density::driver`]); `None` if they are to be walked.
    pub fn gathered(&self, condition: &Condition) -> Option<(Condition, Condition)> {
        if self.is_dense(condition) {
            return None;
        }
        let (driver, rest) = self.driver(condition);
        let is_filter = self.filters_by_dense(&driver) || self.filters_by_dense(&rest);
        (!is_filter).then_some((driver, rest))
    }

    /// Whether rows would be looked for in the referenced resources of a dense condition, which only a hash join does in reasonable time.
    fn filters_by_dense(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Has(_, inner) => self.is_dense(inner) || self.filters_by_dense(inner),
            Condition::Chain(_, inner) | Condition::LeadsTo(_, inner) | Condition::IsHeldBy(_, inner) | Condition::Not(inner) => {
                self.filters_by_dense(inner)
            }
            Condition::All(conditions) | Condition::Any(conditions) => conditions.iter().any(|c| self.filters_by_dense(c)),
            _ => false,
        }
    }

    /// Whether the newest that satisfy a condition on a code are to be read from the index of first codes and dates: there is nothing rarer in the
    /// condition, and few rows have the code as a further one.
    pub fn leads(&self, code: i64, condition: &Condition) -> bool {
        let rows = self.rows_of(condition);
        self.is_index_current
            && rows > LEAD_ROWS_MIN
            && rows * 2.0 >= self.rows_of_term(code)
            && self.rows_of_term(further_code(code)) <= LEAD_ROWS_MIN
            && !may_be_rare(condition)
    }

    /// Whether the holders of a code are to be read in order from the index of first codes and patients: the code is dense, also with what `inner` asks
    /// of those that have it, few rows have it as a further one, and the rest of the condition has no index that gives less.
    pub fn leads_holders(&self, holders: &Holders, inner: &Condition, rest: &Condition, number: i16) -> bool {
        let rows = self.rows_of_term(holders.code);
        let Condition::All(conditions) = rest else { return false };
        // That the holders are patients says nothing: so are nearly all whom the index has.
        let is_patient = Condition::Terms(vec![type_term(number)]);
        let others = conditions.iter().filter(|c| **c != is_patient);
        self.is_index_current
            && rows > LEAD_ROWS_MIN
            && self.rows_of(inner) * 2.0 >= rows
            && others.clone().map(|c| self.rows_of(c)).fold(f64::INFINITY, f64::min) >= rows.min(GATHER_ROWS_MAX)
            && !others
                .clone()
                .any(|c| self.may_hold_for_few(c) || matches!(c, Condition::PrimaryDate(..)))
            && self.rows_of_term(further_code(holders.code)) <= LEAD_ROWS_MIN
    }

    /// The same of a condition whose links, if they are dense, are asked of each row.
    fn may_hold_for_few(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Has(_, inner) | Condition::Chain(_, inner) => !self.is_dense(inner),
            other => may_be_rare(other),
        }
    }

    /// A condition in two: what its rarest index gives, and what is asked of these rows. Terms are looked for together, in one scan.
    pub fn driver(&self, condition: &Condition) -> (Condition, Condition) {
        let Condition::All(conditions) = condition else {
            return (condition.clone(), Condition::All(Vec::new()));
        };
        let (terms, others): (Vec<&Condition>, Vec<&Condition>) = conditions.iter().partition(|c| match c {
            Condition::Terms(_) => true,
            Condition::Chain(_, inner) => !self.is_dense_target(inner),
            _ => false,
        });
        let least = |conditions: &[&Condition]| conditions.iter().map(|c| self.rows_of(c)).fold(f64::INFINITY, f64::min);
        let rarest = others.iter().min_by(|a, b| self.rows_of(a).total_cmp(&self.rows_of(b)));
        match rarest {
            Some(rarest) if self.rows_of(rarest) < least(&terms) => {
                let rest = conditions.iter().filter(|c| !std::ptr::eq(*c, *rarest));
                ((*rarest).clone(), Condition::All(rest.map(|c| self.asked(c)).collect()))
            }
            _ => {
                let driver = Condition::All(terms.into_iter().cloned().collect());
                (driver, Condition::All(others.into_iter().map(|c| self.asked(c)).collect()))
            }
        }
    }

    /// A condition on terms and on what is missing, in two: both have an index, which together tell which rows satisfy them without a look at one; and what
    /// is asked of these. `None` if nothing is missing.
    pub fn masked(&self, condition: &Condition) -> Option<(Condition, Condition)> {
        let Condition::All(conditions) = condition else { return None };
        let (indexed, others): (Vec<&Condition>, Vec<&Condition>) = conditions
            .iter()
            .partition(|c| matches!(c, Condition::Terms(_) | Condition::Masked(..)));
        let is_masked = indexed.iter().any(|c| matches!(c, Condition::Masked(..)));
        let driver = Condition::All(indexed.into_iter().cloned().collect());
        is_masked.then(|| (driver, Condition::All(others.into_iter().map(|c| self.asked(c)).collect())))
    }

    /// A condition that the planner would be asked about, in two: the one on a quantity that stands in it, and the others.
    pub fn split_quantity(condition: &Condition) -> Option<(&QuantityCondition, Condition)> {
        let Condition::All(conditions) = condition else { return None };
        let (place, quantity) = conditions.iter().enumerate().find_map(|(place, condition)| match condition {
            Condition::Quantity(quantity) => Some((place, quantity.as_ref())),
            _ => None,
        })?;
        let others = conditions.iter().enumerate().filter(|(i, _)| *i != place).map(|(_, c)| c.clone());
        Some((quantity, Condition::All(others.collect())))
    }

    /// The two parts of a condition ([`Density::driver`]) whose rows can all be asked for their quantity; `None` if they are too many.
    pub fn asked_for_quantity(&self, condition: &Condition) -> Option<(Condition, Condition)> {
        (self.rows_of(condition) <= QUANTITY_ROWS_MAX).then(|| self.driver(condition))
    }

    /// Rows of a quantity up to which they are gathered, for a page of this size: beyond that it costs less to look at all rows in order until the
    /// page is full.
    pub fn quantity_rows_max(&self, page: usize) -> usize {
        ((self.rows * page as f64 / 4.0).sqrt() as usize).clamp(GATHER_ROWS_MAX as usize, QUANTITY_ROWS_MAX as usize)
    }

    /// Rows to look at in order for a page, if at least so many satisfy the condition: some times as many as if they were spread evenly.
    pub fn rows_to_walk(&self, page: usize, matches: usize) -> usize {
        (4.0 * page as f64 * self.rows / matches.max(1) as f64) as usize + 1_000
    }

    /// Values of a sort key to read in order for a page: some times as many as if those that satisfy the condition were spread evenly.
    pub fn values_to_read(&self, page: usize, condition: &Condition) -> usize {
        let matches = self.rows_of(condition).min(self.rows);
        self.rows_to_walk(page, matches as usize).min(VALUES_READ_MAX)
    }

    /// So many rows that the planner is asked.
    pub fn is_dense(&self, condition: &Condition) -> bool {
        self.rows_of(condition) > GATHER_ROWS_MAX
    }

    /// The condition as it is asked of rows in an order, until a page is full: links to very many resources are looked up for each row. Who is held
    /// by very many is only looked up when rows come in the order of the table: another order may need all rows first.
    pub fn walked(&self, condition: &Condition, is_sorted: bool) -> Condition {
        match condition {
            Condition::All(conditions) => Condition::All(conditions.iter().map(|c| self.walked(c, is_sorted)).collect()),
            Condition::Chain(..) => self.asked(condition),
            Condition::Has(..) if !is_sorted => self.asked(condition),
            other => other.clone(),
        }
    }

    /// The condition as it is asked of all rows of a type, to count them: chains to very many are looked up for each, where a table of their targets
    /// does not fit into memory.
    pub fn counted(&self, condition: &Condition) -> Condition {
        match condition {
            Condition::All(conditions) => Condition::All(conditions.iter().map(|c| self.counted(c)).collect()),
            Condition::Chain(salts, target) if self.rows_of(target) > TARGETS_HASHED_MAX => {
                Condition::LeadsTo(salts.clone(), target.clone())
            }
            other => other.clone(),
        }
    }

    /// The condition as it is asked of rows that are there: what is linked to very many resources is looked up for each row.
    pub fn asked(&self, condition: &Condition) -> Condition {
        let inner = |inner: &Condition| Box::new(self.asked(inner));
        match condition {
            Condition::Chain(salts, target) if self.is_dense_target(target) => Condition::LeadsTo(salts.clone(), inner(target)),
            // Known rows are read at once.
            Condition::Has(_, source) if matches!(**source, Condition::Rows(_)) => condition.clone(),
            Condition::Has(salts, source) if self.is_dense(source) => Condition::IsHeldBy(salts.clone(), inner(source)),
            Condition::All(conditions) => Condition::All(conditions.iter().map(|c| self.asked(c)).collect()),
            Condition::Any(conditions) => Condition::Any(conditions.iter().map(|c| self.asked(c)).collect()),
            Condition::Not(negated) => Condition::Not(inner(negated)),
            other => other.clone(),
        }
    }

    /// The statistics know it as common.
    pub fn is_listed(&self, term: i64) -> bool {
        self.terms.contains_key(&term)
    }

    fn rows_of_term(&self, term: i64) -> f64 {
        self.terms.get(&term).map_or(UNLISTED_ROWS, |share| f64::from(*share) * self.rows)
    }

    fn is_dense_target(&self, condition: &Condition) -> bool {
        self.rows_of(condition) + self.contained_rows_of(condition) > GATHER_ROWS_MAX
    }

    /// About as many contained resources satisfy the condition, at most.
    fn contained_rows_of(&self, condition: &Condition) -> f64 {
        match condition {
            _ if self.contained.is_empty() => 0.0,
            Condition::All(conditions) => conditions.iter().map(|c| self.contained_rows_of(c)).fold(f64::INFINITY, f64::min),
            Condition::Any(conditions) => conditions.iter().map(|c| self.contained_rows_of(c)).sum(),
            Condition::Terms(terms) => terms
                .iter()
                .map(|term| self.contained.get(term).copied().unwrap_or(UNLISTED_ROWS))
                .sum(),
            Condition::Ids(_) => 0.0,
            Condition::StringEquals(..) | Condition::StringStart(..) => UNLISTED_ROWS,
            _ => f64::INFINITY,
        }
    }

    /// About as many rows as the index gives for the condition, at most.
    fn rows_of(&self, condition: &Condition) -> f64 {
        match condition {
            Condition::All(conditions) => conditions.iter().map(|c| self.rows_of(c)).fold(f64::INFINITY, f64::min),
            Condition::Any(conditions) => conditions.iter().map(|c| self.rows_of(c)).sum(),
            Condition::Terms(terms) => terms.iter().map(|term| self.rows_of_term(*term)).sum(),
            Condition::Ids(some) | Condition::Rows(some) => some.len() as f64,
            Condition::StringEquals(_, text) | Condition::StringStart(_, text) => self.strings.rows_of_prefix(text),
            Condition::Chain(_, inner) => (self.rows_of(inner) + self.contained_rows_of(inner)) * TARGET,
            Condition::Has(_, inner) => self.rows_of(inner),
            // No index, or one whose ranges are known to the planner alone.
            Condition::Not(_)
            | Condition::Lookup(_)
            | Condition::PrimaryDate(..)
            | Condition::Date(..)
            | Condition::LastUpdated(..)
            | Condition::Quantity(_)
            | Condition::FullText(..)
            | Condition::StringEnd(..)
            | Condition::NumberPair(..)
            | Condition::Near(_)
            | Condition::StringPart(..)
            | Condition::LeadsTo(..)
            | Condition::IsHeldBy(..)
            | Condition::Contains(_)
            | Condition::Missing(..)
            | Condition::Masked(..) => f64::INFINITY,
        }
    }
}

/// Whether a part of the condition has an index of its own whose ranges only the planner knows: it may be rarer than everything else.
fn may_be_rare(condition: &Condition) -> bool {
    match condition {
        Condition::All(conditions) => conditions.iter().any(may_be_rare),
        Condition::PrimaryDate(..) => false,
        Condition::Has(..) | Condition::Chain(..) => true,
        other => other.has_range(),
    }
}

impl Strings {
    fn rows_of_prefix(&self, prefix: &str) -> f64 {
        let common: f64 = self
            .common
            .iter()
            .filter(|(value, _)| value.starts_with(prefix))
            .map(|(_, share)| f64::from(*share))
            .sum();
        let from = self.bounds.partition_point(|bound| bound.as_str() < prefix);
        let to = from + self.bounds[from..].iter().take_while(|bound| bound.starts_with(prefix)).count();
        // A range that begins or ends inside a bucket counts half of it.
        let buckets = if self.bounds.len() > 1 {
            ((to - from) as f64).max(0.5)
        } else {
            0.0
        };
        let others = 1.0 - self.common.iter().map(|(_, share)| f64::from(*share)).sum::<f64>();
        let share = common + others.max(0.0) * buckets / (self.bounds.len().max(2) - 1) as f64;
        share * self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn density() -> Density {
        Density {
            is_index_current: true,
            rows: 1_000_000.0,
            terms: HashMap::from([(1, 0.4), (2, 0.001)]),
            contained: HashMap::from([(3, 50_000.0), (4, 20_000.0)]),
            strings: Strings {
                rows: 300_000.0,
                common: vec![("rossi".to_owned(), 0.05)],
                bounds: ["a", "f", "m", "ma", "mar", "mari", "mario", "t", "z"].map(str::to_owned).to_vec(),
            },
        }
    }

    fn plan_of(density: &Density, condition: &Condition) -> Plan {
        density.gathered(condition).map_or(Plan::Walk, |_| Plan::Gather)
    }

    #[test]
    fn what_is_sparse_is_gathered_and_what_is_dense_is_walked() {
        use Condition::*;
        let string = |text: &str| StringStart(vec![1], text.to_owned());
        for (condition, plan) in [
            (Terms(vec![1]), Plan::Walk),
            (Terms(vec![2]), Plan::Gather),
            (Terms(vec![9]), Plan::Gather),
            (All(vec![Terms(vec![1]), Terms(vec![9])]), Plan::Gather),
            (Any(vec![Terms(vec![1]), Terms(vec![9])]), Plan::Walk),
            (Condition::negated(Terms(vec![9])), Plan::Walk),
            (All(vec![Condition::negated(Terms(vec![9])), Terms(vec![2])]), Plan::Gather),
            (Ids(vec![1, 2, 3]), Plan::Gather),
            (Missing(1, 1), Plan::Walk),
            (string("rossi"), Plan::Walk),
            (string("mar"), Plan::Walk),
            (Chain(vec![5], Box::new(Terms(vec![9]))), Plan::Gather),
            (Chain(vec![5], Box::new(Terms(vec![1]))), Plan::Walk),
            (Chain(vec![5], Box::new(Ids(vec![9]))), Plan::Gather),
            // Targets that are contained.
            (Chain(vec![5], Box::new(All(vec![Terms(vec![3]), Terms(vec![4])]))), Plan::Walk),
            (Chain(vec![5], Box::new(All(vec![Terms(vec![3]), Terms(vec![9])]))), Plan::Gather),
            (Terms(vec![3]), Plan::Gather),
            (All(vec![Chain(vec![5], Box::new(Terms(vec![1]))), Terms(vec![1])]), Plan::Walk),
            (Has(vec![5], Box::new(Terms(vec![1]))), Plan::Walk),
            (All(Vec::new()), Plan::Walk),
            (All(vec![Terms(vec![9]), Has(vec![5], Box::new(Terms(vec![1])))]), Plan::Gather),
            (All(vec![Terms(vec![9]), Chain(vec![5], Box::new(Terms(vec![1])))]), Plan::Gather),
            (All(vec![Terms(vec![9]), Has(vec![5], Box::new(Terms(vec![2])))]), Plan::Gather),
        ] {
            assert_eq!(plan_of(&density(), &condition), plan, "{condition:?}");
        }
    }

    #[test]
    fn a_dense_code_leads_unless_it_is_often_a_further_one() {
        let mut density = density();
        let leads = |density: &Density, code: i64| density.leads(code, &Condition::Terms(vec![code]));
        assert!(leads(&density, 1) && leads(&density, 2) && !leads(&density, 9));
        let beside = Condition::All(vec![Condition::Terms(vec![1]), Condition::Terms(vec![9])]);
        assert!(!density.leads(1, &beside), "there is something rarer");
        let chained = Condition::All(vec![
            Condition::Terms(vec![1]),
            Condition::Chain(vec![5], Box::new(Condition::Terms(vec![9]))),
        ]);
        assert!(!density.leads(1, &chained));
        let several = Condition::All(vec![Condition::Terms(vec![1]), Condition::Terms(vec![7, 8, 9])]);
        assert!(!density.leads(1, &several), "a few patients");
        let updated = Condition::LastUpdated(
            96,
            crate::search::condition::Prefix::Gt,
            chrono::DateTime::UNIX_EPOCH,
            chrono::DateTime::UNIX_EPOCH,
        );
        assert!(!density.leads(1, &Condition::All(vec![Condition::Terms(vec![1]), updated])));
        density.terms.insert(further_code(1), 0.1);
        assert!(!leads(&density, 1));
        density.terms.remove(&further_code(1));
        density.is_index_current = false;
        assert!(!leads(&density, 1));
    }

    #[test]
    fn the_rarest_index_drives_and_the_rest_is_asked_of_its_rows() {
        use Condition::*;
        let string = || StringStart(vec![1], "qqq".to_owned());
        let chain = || Chain(vec![5], Box::new(Ids(vec![9])));
        let dense_chain = || Chain(vec![5], Box::new(Terms(vec![1])));
        let dense_has = || Has(vec![6], Box::new(Terms(vec![1])));
        let mut density = density();
        density.strings.rows = 1_000.0;
        let all = |conditions: &[Condition]| All(conditions.to_vec());
        for (condition, driver, rest) in [
            (Terms(vec![1]), Terms(vec![1]), all(&[])),
            (
                all(&[Terms(vec![1]), Missing(1, 2), chain()]),
                all(&[Terms(vec![1]), chain()]),
                all(&[Missing(1, 2)]),
            ),
            (all(&[Terms(vec![1]), string()]), string(), all(&[Terms(vec![1])])),
            (all(&[Terms(vec![9]), string()]), all(&[Terms(vec![9])]), all(&[string()])),
            (all(&[Terms(vec![9]), Ids(vec![4])]), Ids(vec![4]), all(&[Terms(vec![9])])),
            // What is linked to very many is looked up for each row.
            (
                all(&[Terms(vec![9]), dense_chain(), Condition::negated(dense_has())]),
                all(&[Terms(vec![9])]),
                all(&[
                    LeadsTo(vec![5], Box::new(Terms(vec![1]))),
                    Condition::negated(IsHeldBy(vec![6], Box::new(Terms(vec![1])))),
                ]),
            ),
        ] {
            assert_eq!(density.driver(&condition), (driver, rest), "{condition:?}");
        }
    }

    #[test]
    fn without_statistics_nothing_is_dense() {
        assert_eq!(plan_of(&Density::default(), &Condition::Terms(vec![1])), Plan::Gather);
        assert_eq!(
            plan_of(&Density::default(), &Condition::StringStart(vec![1], "m".to_owned())),
            Plan::Gather
        );
    }

    #[test]
    fn a_prefix_counts_its_common_values_and_its_share_of_the_others() {
        let strings = density().strings;
        for (prefix, share) in [("rossi", 0.05 + 0.95 / 16.0), ("mar", 0.95 * 3.0 / 8.0), ("x", 0.95 / 16.0)] {
            assert!((strings.rows_of_prefix(prefix) - 300_000.0 * share).abs() < 1.0, "{prefix}");
        }
        assert_eq!(Strings::default().rows_of_prefix("x"), 0.0);
    }
}
