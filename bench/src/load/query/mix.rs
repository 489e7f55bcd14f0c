//! The searches of the public harness, in equal shares: string, date, reference, token, quantity and composite, 20 a page, no total.
//!
//! Harness: <https://github.com/HealthSamurai/fhir-server-performance-benchmark>, `search.js`.

use crate::calendar;
use crate::calendar::DAY_SECONDS;
use crate::http::Request;
use crate::http::encode;
use crate::load::expect::Expect;
use crate::load::expect::Matches;
use crate::load::expect::Page;
use crate::load::query::Facts;
use crate::load::query::PAGE_ENTRIES;
use crate::load::query::Query;
use crate::load::query::VALUE_TOLERANCE;
use crate::load::query::name_prefix;
use crate::load::query::some;
use crate::rng::Rng;

struct Mix<'a> {
    facts: &'a Facts<'a>,
    instants: Vec<i64>,
    by_code: Vec<Vec<f64>>,
    by_unit: Vec<Vec<f64>>,
}

/// Makes `count` queries, less those of a kind that nothing loaded suits.
pub fn plan(facts: &Facts<'_>, rng: &mut Rng, count: usize) -> Vec<Query> {
    let mix = Mix {
        facts,
        instants: facts.index.instants(),
        by_code: facts.index.values_by_code(),
        by_unit: facts.index.values_by_unit(),
    };
    let make = |number: usize| {
        let (query, page) = match number % 6 {
            0 => mix.string(rng)?,
            1 => mix.date(rng)?,
            2 => mix.reference(rng)?,
            3 => mix.token(rng)?,
            4 => mix.quantity(rng)?,
            _ => mix.composite(rng)?,
        };
        let path = format!("{}?{query}&_count={PAGE_ENTRIES}&_total=none", page.kind);
        Some(Query::new(Request::get(path), Expect::Page(page.limited_to(PAGE_ENTRIES))))
    };
    (0..count).filter_map(make).collect()
}

impl Mix<'_> {
    fn string(&self, rng: &mut Rng) -> Option<(String, Page)> {
        let prefix = name_prefix(some(rng, &self.facts.index.patients)?);
        let matches = self.facts.count_by_name(&prefix, |_| 1);
        Some((format!("name={}", encode(&prefix)), Page::of("Patient", matches)))
    }

    /// Within a day, as a server's own time zone is not known.
    fn date(&self, rng: &mut Rng) -> Option<(String, Page)> {
        let day = some(rng, &self.instants)?.div_euclid(DAY_SECONDS);
        let after = |day: i64| self.instants.len() - self.instants.partition_point(|at| *at < day * DAY_SECONDS);
        let matches = Matches {
            low: after(day + 1),
            high: after(day - 1),
        };
        let mut page = Page::of("Observation", matches);
        page.not_before = Some((day - 1) * DAY_SECONDS);
        Some((format!("date=ge{}", calendar::date(day)), page))
    }

    fn reference(&self, rng: &mut Rng) -> Option<(String, Page)> {
        let patient = some(rng, &self.facts.index.patients)?;
        let observations = patient.observations.iter().filter(|seen| seen.first).count();
        let target = format!("Patient/{}", patient.id);
        let mut page = Page::of("Observation", Matches::exactly(observations));
        page.subject = Some(target.clone());
        Some((format!("subject={}", encode(&target)), page))
    }

    fn token(&self, rng: &mut Rng) -> Option<(String, Page)> {
        let code = rng.below(self.facts.index.codes.len());
        let name = self.facts.index.codes.get(code)?;
        let mut page = Page::of("Observation", Matches::exactly(self.facts.instants[code].len()));
        page.code = Some(name.clone());
        Some((format!("code={}", encode(name)), page))
    }

    fn quantity(&self, rng: &mut Rng) -> Option<(String, Page)> {
        let unit = rng.below(self.facts.index.units.len());
        let (limit, page) = above(self.by_unit.get(unit)?, rng)?;
        let value = format!("gt{limit:.1}|{}", self.facts.index.units[unit]);
        Some((format!("value-quantity={}", encode(&value)), page))
    }

    fn composite(&self, rng: &mut Rng) -> Option<(String, Page)> {
        let code = rng.below(self.facts.index.codes.len());
        let (limit, mut page) = above(self.by_code.get(code)?, rng)?;
        let name = &self.facts.index.codes[code];
        page.code = Some(name.clone());
        Some((format!("code-value-quantity={}$gt{limit:.1}", encode(name)), page))
    }
}

/// A limit that some of the values exceed, and the page of those.
fn above(values: &[f64], rng: &mut Rng) -> Option<(f64, Page)> {
    let limit = (some(rng, values)? * 10.0).round() / 10.0;
    let exceed = |limit: f64| values.len() - values.partition_point(|value| *value <= limit);
    let matches = Matches {
        low: exceed(limit + VALUE_TOLERANCE),
        high: exceed(limit - VALUE_TOLERANCE),
    };
    let mut page = Page::of("Observation", matches);
    page.value_min = Some(limit - VALUE_TOLERANCE);
    Some((limit, page))
}
