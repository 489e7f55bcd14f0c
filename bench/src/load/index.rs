//! What was loaded, as far as the queries need it: from this the right answer of every query is known before it is sent.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use serde_json::Value;

use crate::calendar;
use crate::rng::Rng;

/// Most ids kept to read and to update: enough to spread over the pages of any cache.
const SAMPLES_MAX: usize = 20_000;

/// An Observation as queries see it; one with two codings is two of these.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub code: u16,
    pub at: i64,
    /// Position in the patient's `encounters`.
    pub encounter: Option<u32>,
    /// False for the second coding of the same Observation.
    pub first: bool,
    pub value: Option<f64>,
    /// Position of the value's unit in the index's `units`; meaningless without a value.
    pub unit: u16,
}

/// A patient and what is known of her or him.
#[derive(Debug, Default)]
pub struct Patient {
    pub id: String,
    /// `system|value`.
    pub identifiers: Vec<String>,
    pub family: String,
    /// Family, given names, prefixes and suffixes, folded.
    pub names: Vec<String>,
    pub encounters: Vec<String>,
    pub observations: Vec<Seen>,
}

/// A fixed-size fair sample of a stream.
#[derive(Debug, Default)]
pub struct Sample<T> {
    pub kept: Vec<T>,
    offered: usize,
}

impl<T> Sample<T> {
    fn offer(&mut self, item: T, rng: &mut Rng) {
        self.offered += 1;
        if self.kept.len() < SAMPLES_MAX {
            self.kept.push(item);
        } else if let Some(place) = self.kept.get_mut(rng.below(self.offered)) {
            *place = item;
        }
    }
}

/// Everything loaded so far.
#[derive(Debug)]
pub struct Index {
    pub patients: Vec<Patient>,
    /// `system|code` of Observations.
    pub codes: Vec<String>,
    /// `system|code` of the units that Observations are measured in.
    pub units: Vec<String>,
    /// Type and id.
    pub resources: Sample<(String, String)>,
    /// Observations with a quantity, which an update can change.
    pub measured: Sample<String>,
    /// How many versions an updated Observation has.
    pub versions: BTreeMap<String, usize>,
    pub count: u64,
    code_positions: HashMap<String, u16>,
    patient_positions: HashMap<String, usize>,
    rng: Rng,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            patients: Vec::new(),
            codes: Vec::new(),
            units: Vec::new(),
            resources: Sample::default(),
            measured: Sample::default(),
            versions: BTreeMap::new(),
            count: 0,
            code_positions: HashMap::new(),
            patient_positions: HashMap::new(),
            rng: Rng::new(0, 0),
        }
    }
}

impl Index {
    /// Records a Bundle that was stored; `ids` are the server's, in the order of the entries.
    pub fn add_bundle(&mut self, bundle: &Value, ids: &[String]) {
        let Some(entries) = bundle["entry"].as_array() else { return };
        let mut patients: HashMap<&str, usize> = HashMap::new();
        let mut encounters: HashMap<&str, u32> = HashMap::new();
        for (entry, id) in entries.iter().zip(ids) {
            let (resource, url) = (&entry["resource"], entry["fullUrl"].as_str().unwrap_or_default());
            match resource["resourceType"].as_str() {
                Some("Patient") => {
                    patients.insert(url, self.add_patient(resource, id));
                }
                Some("Encounter") => {
                    if let Some(patient) = patients.get(reference(resource, "subject")) {
                        let list = &mut self.patients[*patient].encounters;
                        encounters.insert(url, list.len() as u32);
                        list.push(id.clone());
                    }
                }
                _ => {}
            }
        }
        for (entry, id) in entries.iter().zip(ids) {
            let resource = &entry["resource"];
            let kind = resource["resourceType"].as_str().unwrap_or_default();
            self.resources.offer((kind.to_owned(), id.clone()), &mut self.rng);
            self.count += 1;
            if kind == "Observation" {
                let patient = patients.get(reference(resource, "subject")).copied();
                let encounter = encounters.get(reference(resource, "encounter")).copied();
                self.add_observation(resource, id, patient, encounter);
            }
        }
    }

    /// Records a Patient or an Observation that was posted alone and refers to resources by `Type/id`.
    pub fn add_single(&mut self, resource: &Value, id: &str) {
        self.count += 1;
        if resource["resourceType"] == "Patient" {
            self.add_patient(resource, id);
            return;
        }
        let subject = reference(resource, "subject").trim_start_matches("Patient/");
        let patient = self.patient_positions.get(subject).copied();
        let encounter = patient.and_then(|patient| {
            let target = reference(resource, "encounter").trim_start_matches("Encounter/");
            self.patients[patient].encounters.iter().position(|known| known == target)
        });
        self.add_observation(resource, id, patient, encounter.map(|position| position as u32));
    }

    fn add_patient(&mut self, resource: &Value, id: &str) -> usize {
        let identifiers = each(&resource["identifier"])
            .filter_map(|identifier| Some(format!("{}|{}", identifier["system"].as_str()?, identifier["value"].as_str()?)))
            .collect();
        let mut names = Vec::new();
        for name in each(&resource["name"]) {
            let parts = ["given", "prefix", "suffix"].into_iter().flat_map(|part| each(&name[part]));
            names.extend(parts.chain([&name["family"], &name["text"]]).filter_map(Value::as_str).map(fold));
        }
        let family = resource["name"][0]["family"].as_str().unwrap_or_default().to_owned();
        let position = self.patients.len();
        self.patients.push(Patient {
            id: id.to_owned(),
            identifiers,
            family,
            names,
            ..Patient::default()
        });
        self.patient_positions.insert(id.to_owned(), position);
        position
    }

    fn add_observation(&mut self, resource: &Value, id: &str, patient: Option<usize>, encounter: Option<u32>) {
        if resource["valueQuantity"].is_object() {
            self.measured.offer(id.to_owned(), &mut self.rng);
        }
        let (Some(patient), Some(at)) = (patient, resource["effectiveDateTime"].as_str().and_then(calendar::parse)) else {
            return;
        };
        let quantity = &resource["valueQuantity"];
        let unit = self.unit_position(coded(quantity));
        for (number, coding) in each(&resource["code"]["coding"]).enumerate() {
            let code = self.code_position(coded(coding));
            self.patients[patient].observations.push(Seen {
                code,
                at,
                encounter,
                first: number == 0,
                value: quantity["value"].as_f64(),
                unit,
            });
        }
    }

    fn unit_position(&mut self, unit: String) -> u16 {
        let known = self.units.iter().position(|known| *known == unit);
        let position = known.unwrap_or_else(|| {
            self.units.push(unit);
            self.units.len() - 1
        });
        position as u16
    }

    fn code_position(&mut self, code: String) -> u16 {
        if let Some(position) = self.code_positions.get(&code) {
            return *position;
        }
        let position = self.codes.len() as u16;
        self.codes.push(code.clone());
        self.code_positions.insert(code, position);
        position
    }

    /// Instants of all Observations of each code, oldest first.
    pub fn instants_by_code(&self) -> Vec<Vec<i64>> {
        let mut instants = vec![Vec::new(); self.codes.len()];
        for seen in self.patients.iter().flat_map(|patient| &patient.observations) {
            instants[usize::from(seen.code)].push(seen.at);
        }
        instants.iter_mut().for_each(|list| list.sort_unstable());
        instants
    }

    /// Instants of all Observations, oldest first.
    pub fn instants(&self) -> Vec<i64> {
        let mut instants: Vec<i64> = self.observations().map(|seen| seen.at).collect();
        instants.sort_unstable();
        instants
    }

    /// Values of all Observations of each code, lowest first.
    pub fn values_by_code(&self) -> Vec<Vec<f64>> {
        let all = self.patients.iter().flat_map(|patient| &patient.observations);
        grouped(self.codes.len(), all.filter_map(|seen| Some((seen.code, seen.value?))))
    }

    /// Values of all Observations in each unit, lowest first.
    pub fn values_by_unit(&self) -> Vec<Vec<f64>> {
        grouped(
            self.units.len(),
            self.observations().filter_map(|seen| Some((seen.unit, seen.value?))),
        )
    }

    /// Every Observation once.
    fn observations(&self) -> impl Iterator<Item = &Seen> {
        let all = self.patients.iter().flat_map(|patient| &patient.observations);
        all.filter(|seen| seen.first)
    }

    /// How many patients have each identifier.
    pub fn holders_by_identifier(&self) -> HashMap<&str, usize> {
        let mut holders = HashMap::new();
        for identifier in self.patients.iter().flat_map(|patient| &patient.identifiers) {
            *holders.entry(identifier.as_str()).or_insert(0) += 1;
        }
        holders
    }

    /// How many patients have an Observation of each code.
    pub fn patients_by_code(&self) -> Vec<usize> {
        let mut counts = vec![0; self.codes.len()];
        for patient in &self.patients {
            let codes: HashSet<u16> = patient.observations.iter().map(|seen| seen.code).collect();
            codes.into_iter().for_each(|code| counts[usize::from(code)] += 1);
        }
        counts
    }
}

impl Patient {
    /// Whether `name=` finds this patient: surely (a part begins with the folded prefix), or at least if a server looks at words too.
    pub fn matches_name(&self, prefix: &str) -> (bool, bool) {
        let surely = self.names.iter().any(|name| name.starts_with(prefix));
        let word_begins = |name: &String| name.split(|c: char| !c.is_alphanumeric()).any(|word| word.starts_with(prefix));
        (surely, surely || self.names.iter().any(word_begins))
    }

    /// How many Observations of a code, and on how many different Encounters.
    pub fn observations_of(&self, code: u16) -> (usize, usize) {
        let matching = self.observations.iter().filter(|seen| seen.code == code);
        let encounters: HashSet<u32> = matching.clone().filter_map(|seen| seen.encounter).collect();
        (matching.count(), encounters.len())
    }
}

/// Case and Italian accents removed, as string search does.
pub fn fold(text: &str) -> String {
    text.to_lowercase()
        .chars()
        .map(|letter| match letter {
            'à' | 'á' => 'a',
            'è' | 'é' => 'e',
            'ì' | 'í' => 'i',
            'ò' | 'ó' => 'o',
            'ù' | 'ú' => 'u',
            _ => letter,
        })
        .collect()
}

fn grouped(groups: usize, values: impl Iterator<Item = (u16, f64)>) -> Vec<Vec<f64>> {
    let mut lists = vec![Vec::new(); groups];
    values.for_each(|(group, value)| lists[usize::from(group)].push(value));
    lists.iter_mut().for_each(|list: &mut Vec<f64>| list.sort_by(f64::total_cmp));
    lists
}

/// `system|code` of a Coding or a Quantity.
fn coded(value: &Value) -> String {
    let part = |name: &str| value[name].as_str().unwrap_or_default();
    format!("{}|{}", part("system"), part("code"))
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn reference<'a>(resource: &'a Value, element: &str) -> &'a str {
    resource[element]["reference"].as_str().unwrap_or_default()
}
