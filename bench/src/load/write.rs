//! The requests of the rows that post, made before the run with the right answer beside them.

use std::collections::HashMap;
use std::collections::HashSet;

use serde_json::Value;
use serde_json::json;

use crate::http::Request;
use crate::http::encode;
use crate::load::expect::Expect;
use crate::load::index::Index;
use crate::load::index::Patient;
use crate::load::query::Query;
use crate::load::query::Then;
use crate::load::query::some;
use crate::load::row::Row;
use crate::population::Population;
use crate::rng::Rng;

/// The types of the CRUD mix, nine as in the public harness.
const LIVING: [&str; 9] = [
    "Patient",
    "Encounter",
    "Observation",
    "Condition",
    "Procedure",
    "Immunization",
    "MedicationRequest",
    "DiagnosticReport",
    "Claim",
];

/// Bundles that no import reaches begin at this number; the CRUD mix takes its resources from them.
const BUNDLES_UNUSED: u64 = 1 << 40;

/// Where new resources come from, and what they may refer to.
pub struct Source<'a> {
    pub population: Population,
    pub index: &'a Index,
    /// Number of the first, so that no two are equal.
    pub first: u64,
}

impl Source<'_> {
    /// Makes `count` queries of a row that posts; empty when nothing loaded suits it.
    pub fn plan(&self, row: Row, count: usize, rng: &mut Rng) -> Vec<Query> {
        match row {
            Row::CreatePatient => (0..count).map(|number| create("Patient", &self.patient(number))).collect(),
            Row::CreateObservation => self
                .observations(count, rng)
                .iter()
                .map(|body| create("Observation", body))
                .collect(),
            Row::ConditionalCreate => self.conditional_creates(count, rng),
            Row::Validate => self.validations(count, rng),
            Row::CrudMix => self.lives(count, rng),
            _ => Vec::new(),
        }
    }

    fn patient(&self, number: usize) -> Value {
        self.population.patient(self.first + number as u64)
    }

    fn observations(&self, count: usize, rng: &mut Rng) -> Vec<Value> {
        let cared: Vec<&Patient> = self
            .index
            .patients
            .iter()
            .filter(|patient| !patient.encounters.is_empty())
            .collect();
        let observe = |number: usize| {
            let patient = some(rng, &cared)?;
            let subject = format!("Patient/{}", patient.id);
            let encounter = format!("Encounter/{}", rng.pick(&patient.encounters));
            Some(self.population.observation(self.first + number as u64, &subject, &encounter))
        };
        (0..count).filter_map(observe).collect()
    }

    /// In turn on an identifier that one patient has, and on one that nobody has.
    fn conditional_creates(&self, count: usize, rng: &mut Rng) -> Vec<Query> {
        let holders = self.index.holders_by_identifier();
        let mut new = HashSet::new();
        let create = |number: usize| {
            let mut body = self.patient(number);
            let expect = if number.is_multiple_of(2) {
                let patient = some(rng, &self.index.patients)?;
                let own = patient.identifiers.iter().find(|own| holders.get(own.as_str()) == Some(&1))?;
                let (system, value) = own.split_once('|')?;
                body["identifier"][0]["system"] = json!(system);
                body["identifier"][0]["value"] = json!(value);
                Expect::Found {
                    kind: "Patient".to_owned(),
                    id: patient.id.clone(),
                }
            } else {
                created("Patient")
            };
            let part = |name: &str| body["identifier"][0][name].as_str().unwrap_or_default();
            let identifier = format!("{}|{}", part("system"), part("value"));
            if matches!(expect, Expect::Created { .. }) && (holders.contains_key(identifier.as_str()) || !new.insert(identifier.clone())) {
                return None;
            }
            let mut query = create("Patient", &body);
            query.request.if_none_exist = Some(format!("identifier={}", encode(&identifier)));
            query.expect = expect;
            Some(query)
        };
        (0..count).filter_map(create).collect()
    }

    /// Every second one has a status that the value set does not have.
    fn validations(&self, count: usize, rng: &mut Rng) -> Vec<Query> {
        let mut bodies = self.observations(count, rng);
        let judge = |(number, body): (usize, &mut Value)| {
            let valid = number.is_multiple_of(2);
            if !valid {
                body["status"] = json!("measured");
            }
            let request = Request::send("POST", "Observation/$validate".to_owned(), body.to_string().into_bytes());
            Query::new(request, Expect::Judged { valid })
        };
        bodies.iter_mut().enumerate().map(judge).collect()
    }

    /// Resources of Bundles that are not imported, whose references lead to such as are stored.
    fn lives(&self, count: usize, rng: &mut Rng) -> Vec<Query> {
        let mut stored: HashMap<&str, Vec<&str>> = HashMap::new();
        for (kind, id) in &self.index.resources.kept {
            stored.entry(kind).or_default().push(id);
        }
        let mut queries = Vec::with_capacity(count);
        let mut waiting: Vec<Vec<Value>> = vec![Vec::new(); LIVING.len()];
        let mut bundle = BUNDLES_UNUSED + self.first;
        while queries.len() < count {
            let turn = queries.len() % LIVING.len();
            let Some(body) = waiting[turn].pop() else {
                collect(&self.population.bundle(bundle), &stored, &mut waiting, rng);
                bundle += 1;
                if bundle - BUNDLES_UNUSED - self.first > count as u64 {
                    break;
                }
                continue;
            };
            let mut query = create(LIVING[turn], &body);
            query.then = Then::Live(body);
            queries.push(query);
        }
        queries
    }
}

/// Takes the resources of the living types out of a Bundle; one that refers to a type of which nothing is stored is left out.
fn collect(bundle: &Value, stored: &HashMap<&str, Vec<&str>>, waiting: &mut [Vec<Value>], rng: &mut Rng) {
    let entries: Vec<&Value> = bundle["entry"].as_array().into_iter().flatten().collect();
    let kinds: HashMap<&str, &str> = entries
        .iter()
        .filter_map(|entry| Some((entry["fullUrl"].as_str()?, entry["resource"]["resourceType"].as_str()?)))
        .collect();
    for entry in entries {
        let mut body = entry["resource"].clone();
        let turn = LIVING.iter().position(|kind| body["resourceType"] == *kind);
        if let Some(fields) = body.as_object_mut() {
            fields.shift_remove("id");
        }
        if let Some(turn) = turn
            && relink(&mut body, &kinds, stored, rng)
        {
            waiting[turn].push(body);
        }
    }
}

/// Points every reference to a Bundle's entry at a stored resource of the same type; false when there is none.
fn relink(value: &mut Value, kinds: &HashMap<&str, &str>, stored: &HashMap<&str, Vec<&str>>, rng: &mut Rng) -> bool {
    match value {
        Value::Object(fields) => fields.iter_mut().all(|(key, field)| {
            let Some(kind) = field.as_str().filter(|_| key == "reference").and_then(|target| kinds.get(target)) else {
                return relink(field, kinds, stored, rng);
            };
            let Some(id) = stored.get(kind).and_then(|ids| some(rng, ids)) else {
                return false;
            };
            *field = json!(format!("{kind}/{id}"));
            true
        }),
        Value::Array(items) => items.iter_mut().all(|item| relink(item, kinds, stored, rng)),
        _ => true,
    }
}

fn created(kind: &str) -> Expect {
    Expect::Created { kind: kind.to_owned() }
}

fn create(kind: &str, body: &Value) -> Query {
    let request = Request::send("POST", kind.to_owned(), body.to_string().into_bytes());
    Query::new(request, created(kind))
}
