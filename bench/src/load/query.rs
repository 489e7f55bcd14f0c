//! The requests of the rows that read, made before the run with the right answer beside them.

mod mix;

use serde_json::Value;

use crate::calendar;
use crate::calendar::DAY_SECONDS;
use crate::http::Request;
use crate::http::encode;
use crate::load::expect::Expect;
use crate::load::expect::Matches;
use crate::load::expect::Page;
use crate::load::index::Index;
use crate::load::index::Patient;
use crate::load::index::fold;
use crate::load::journey::Walk;
use crate::load::row::Row;
use crate::rng::Rng;

/// Different queries made for a row that can repeat them.
const DISTINCT_MAX: usize = 1_000;

/// Letters of a name that a search gives.
const PREFIX_LETTERS: usize = 6;

/// Codes carried by more patients than this are left out of `_has`, if there are rarer ones: nobody looks for a tenth of a population.
const HAS_PATIENTS_MAX: usize = 1_000;

/// Resources on a page that is asked for.
const PAGE_ENTRIES: usize = 20;

/// Pages that the deep page is away from the beginning.
const PAGES_DEEP: usize = 20;

/// Values are searched for with one decimal; those so near may be found or not, by the precision a server gives to the limit.
const VALUE_TOLERANCE: f64 = 0.1;

/// A request, what its answer must be, and what follows.
#[derive(Debug)]
pub struct Query {
    pub request: Request,
    pub expect: Expect,
    pub then: Then,
}

/// What follows a right answer.
#[derive(Debug)]
pub enum Then {
    Stop,
    Walk(Walk),
    /// The life of the resource created, which is this one.
    Live(Value),
}

impl Query {
    /// A single request.
    pub fn new(request: Request, expect: Expect) -> Query {
        Query {
            request,
            expect,
            then: Then::Stop,
        }
    }
}

/// Makes the queries of a row that only reads; empty when nothing loaded suits it.
pub fn plan_reads(row: Row, index: &Index, rng: &mut Rng) -> Vec<Query> {
    let facts = Facts {
        instants: index.instants_by_code(),
        holders: index.patients_by_code(),
        index,
    };
    if row == Row::SearchMix {
        return mix::plan(&facts, rng, DISTINCT_MAX);
    }
    (0..DISTINCT_MAX).filter_map(|_| facts.plan(row, rng)).collect()
}

/// What the index says, counted once for all queries.
pub struct Facts<'a> {
    pub index: &'a Index,
    /// Instants of each code's Observations, oldest first.
    pub instants: Vec<Vec<i64>>,
    /// Patients with an Observation of each code.
    holders: Vec<usize>,
}

impl Facts<'_> {
    fn plan(&self, row: Row, rng: &mut Rng) -> Option<Query> {
        let (path, expect) = match row {
            Row::Read => self.read(rng)?,
            Row::Identifier => self.identifier(rng)?,
            Row::Name => self.name(rng)?,
            Row::PatientCode => self.patient_code(rng, false)?,
            Row::Include => self.patient_code(rng, true)?,
            Row::CodeDate => self.code_date(rng)?,
            Row::Chained => self.chained(rng)?,
            Row::Has => self.has(rng)?,
            Row::Revinclude => self.revinclude(rng)?,
            Row::Count => self.count(rng)?,
            Row::History => self.history(rng)?,
            Row::DeepPage => return self.deep_page(rng),
            _ => return None,
        };
        Some(Query::new(Request::get(path), expect))
    }

    fn read(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let (kind, id) = some(rng, &self.index.resources.kept)?;
        Some((
            format!("{kind}/{id}"),
            Expect::Resource {
                kind: kind.clone(),
                id: id.clone(),
            },
        ))
    }

    fn identifier(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let identifier = some(rng, &self.index.patients)?.identifiers.first()?;
        let holders = self
            .index
            .patients
            .iter()
            .filter(|patient| patient.identifiers.contains(identifier))
            .count();
        Some((
            format!("Patient?identifier={}", encode(identifier)),
            Expect::Page(Page::of("Patient", Matches::exactly(holders))),
        ))
    }

    fn name(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let prefix = name_prefix(some(rng, &self.index.patients)?);
        let matches = self.count_by_name(&prefix, |_| 1);
        Some((
            format!("Patient?name={}&_count=20", encode(&prefix)),
            Expect::Page(Page::of("Patient", matches).limited_to(20)),
        ))
    }

    fn patient_code(&self, rng: &mut Rng, include: bool) -> Option<(String, Expect)> {
        let patient = some(rng, &self.index.patients)?;
        let code = some(rng, &patient.observations)?.code;
        let (observations, encounters) = patient.observations_of(code);
        let name = &self.index.codes[usize::from(code)];
        let mut path = format!("Observation?patient={}&code={}&_count=100", patient.id, encode(name));
        let mut page = Page::of("Observation", Matches::exactly(observations)).limited_to(100);
        page.code = Some(name.clone());
        page.subject = Some(format!("Patient/{}", patient.id));
        if include {
            path.push_str("&_include=Observation:encounter");
            page.included = Some(encounters);
        }
        Some((path, Expect::Page(page)))
    }

    /// A day is known to the hour only if we knew the server's own time zone, so the number of matches is known within a day.
    fn code_date(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let code = rng.below(self.index.codes.len());
        let instants = self.instants.get(code)?;
        let day = some(rng, instants)?.div_euclid(DAY_SECONDS);
        let after = |day: i64| instants.len() - instants.partition_point(|at| *at < day * DAY_SECONDS);
        let mut page = Page::of(
            "Observation",
            Matches {
                low: after(day + 1),
                high: after(day - 1),
            },
        )
        .limited_to(20);
        page.code = Some(self.index.codes[code].clone());
        page.newest = instants.last().copied();
        let (code, date) = (encode(&self.index.codes[code]), calendar::date(day));
        Some((
            format!("Observation?code={code}&date=ge{date}&_sort=-date&_count=20"),
            Expect::Page(page),
        ))
    }

    fn chained(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let patient = some(rng, &self.index.patients)?;
        let code = some(rng, &patient.observations)?.code;
        let prefix = name_prefix(patient);
        let matches = self.count_by_name(&prefix, |patient| patient.observations_of(code).0);
        let name = &self.index.codes[usize::from(code)];
        let mut page = Page::of("Observation", matches).limited_to(20);
        page.code = Some(name.clone());
        Some((
            format!(
                "Observation?subject:Patient.name={}&code={}&_count=20",
                encode(&prefix),
                encode(name)
            ),
            Expect::Page(page),
        ))
    }

    fn has(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let rare: Vec<usize> = (0..self.holders.len())
            .filter(|code| self.holders[*code] <= HAS_PATIENTS_MAX)
            .collect();
        let code = some(rng, &rare).copied().unwrap_or(rng.below(self.holders.len()));
        let page = Page::of("Patient", Matches::exactly(*self.holders.get(code)?)).limited_to(20);
        let name = encode(&self.index.codes[code]);
        Some((
            format!("Patient?_has:Observation:patient:code={name}&_count=20"),
            Expect::Page(page),
        ))
    }

    fn revinclude(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let patient = some(rng, &self.index.patients)?;
        let mut page = Page::of("Patient", Matches::exactly(1));
        page.included = Some(patient.encounters.len());
        Some((
            format!("Patient?_id={}&_revinclude=Encounter:patient", patient.id),
            Expect::Page(page),
        ))
    }

    fn count(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let code = rng.below(self.index.codes.len());
        let total = self.instants.get(code)?.len();
        Some((
            format!("Observation?code={}&_summary=count", encode(&self.index.codes[code])),
            Expect::Total(total),
        ))
    }

    /// The codes carried most, of which there are twenty full pages if anything has them.
    fn deep_page(&self, rng: &mut Rng) -> Option<Query> {
        let longest = self.instants.iter().map(Vec::len).max()?;
        let wanted = longest.min(PAGE_ENTRIES * PAGES_DEEP);
        let carried: Vec<usize> = (0..self.instants.len())
            .filter(|code| self.instants[*code].len() >= wanted)
            .collect();
        let code = *some(rng, &carried)?;
        let (name, matches) = (&self.index.codes[code], self.instants[code].len());
        let mut first = Page::of("Observation", Matches::exactly(matches)).limited_to(PAGE_ENTRIES);
        first.code = Some(name.clone());
        let mut page = first.clone();
        page.matches.low = 1;
        Some(Query {
            request: Request::get(format!("Observation?code={}&_count={PAGE_ENTRIES}", encode(name))),
            expect: Expect::Page(first),
            then: Then::Walk(Walk {
                page,
                pages: PAGES_DEEP,
                seen: wanted,
            }),
        })
    }

    fn history(&self, rng: &mut Rng) -> Option<(String, Expect)> {
        let updated = self.index.versions.iter().nth(rng.below(self.index.versions.len()));
        let (id, versions) = match updated {
            Some((id, versions)) => (id, *versions),
            None => (some(rng, &self.index.measured.kept)?, 1),
        };
        Some((format!("Observation/{id}/_history"), Expect::History(versions)))
    }

    /// How many patients a name finds, or what else they weigh.
    pub fn count_by_name(&self, prefix: &str, weight: impl Fn(&Patient) -> usize) -> Matches {
        let mut matches = Matches { low: 0, high: 0 };
        for patient in &self.index.patients {
            let (surely, perhaps) = patient.matches_name(prefix);
            if perhaps {
                let weight = weight(patient);
                matches.high += weight;
                matches.low += if surely { weight } else { 0 };
            }
        }
        matches
    }
}

/// The letters by which a patient is looked for.
pub fn name_prefix(patient: &Patient) -> String {
    fold(&patient.family).chars().take(PREFIX_LETTERS).collect()
}

/// One of some items; `None` of none.
pub fn some<'a, T>(rng: &mut Rng, items: &'a [T]) -> Option<&'a T> {
    items.get(rng.below(items.len()))
}
