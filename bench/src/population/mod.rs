//! Transaction Bundles in the shape of Synthea's R4 exports, about people who do not exist, in Italian.
//!
//! One Bundle per patient: POST entries with `urn:uuid` fullUrls that refer to each other, about 178 entries and 265 kB. The mix of
//! types, the entries per Bundle and the bytes per resource follow what was measured on 24 such exports; names, wording and codes are
//! ours. Bundle number `i` depends on the seed and on `i` alone, so any number of them is made without holding them, on any thread.
//! Spec: <https://hl7.org/fhir/R4/bundle.html>.

mod billing;
pub mod clinical;
mod codes;
mod draft;
mod names;
pub mod person;
mod visit;

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::population::draft::Draft;
use crate::rng::Rng;

/// Resources a patient's Bundle has on average; sizes a population for a number of resources.
pub const RESOURCES_PER_PATIENT: u64 = 178;

/// A population: everything in it follows from the seed.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    pub seed: u64,
}

impl Population {
    /// The transaction Bundle of patient number `index`.
    pub fn bundle(&self, index: u64) -> Value {
        let mut draft = Draft::begin(Rng::new(self.seed, index));
        visit::write_record(&mut draft);
        json!({ "resourceType": "Bundle", "type": "transaction", "entry": draft.into_entries() })
    }

    /// A Patient to be posted alone, without id; `index` counts apart from the Bundles'.
    pub fn patient(&self, index: u64) -> Value {
        let mut rng = Rng::new(self.seed ^ 0x5041_5449, index);
        let person = person::draw(&mut rng);
        person::patient(&person, None, &mut rng)
    }

    /// An Observation to be posted alone, without id, about resources that the server already holds.
    pub fn observation(&self, index: u64, patient: &str, encounter: &str) -> Value {
        let mut rng = Rng::new(self.seed ^ 0x4f42_5345, index);
        clinical::single_observation(&mut rng, patient, encounter)
    }

    /// Writes the Bundles of `patients` patients to files `000000.json`, `000001.json`... in `folder`, one in memory at a time.
    ///
    /// Returns how many resources they hold.
    /// Errors: those of the file system.
    pub fn write(&self, patients: u64, folder: &Path) -> io::Result<u64> {
        fs::create_dir_all(folder)?;
        let mut resources = 0;
        for index in 0..patients {
            let bundle = self.bundle(index);
            resources += bundle["entry"].as_array().map_or(0, Vec::len) as u64;
            fs::write(folder.join(format!("{index:06}.json")), serde_json::to_vec(&bundle)?)?;
        }
        Ok(resources)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::collections::HashSet;

    use serde_json::Value;

    use crate::population::Population;
    use crate::population::RESOURCES_PER_PATIENT;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    match field.as_str() {
                        Some(target) if key == "reference" => found.push(target.to_owned()),
                        _ => references(field, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn a_seed_and_a_number_give_the_same_bundle_for_ever() {
        let text = |seed, index| Population { seed }.bundle(index).to_string();
        assert_eq!(text(1, 5), text(1, 5));
        assert_ne!(text(1, 5), text(1, 6));
        assert_ne!(text(1, 5), text(2, 5));
    }

    #[test]
    fn every_reference_of_a_bundle_is_answered_inside_it() {
        for index in 0..20 {
            let bundle = Population { seed: 3 }.bundle(index);
            let entries = bundle["entry"].as_array().expect("entries");
            let urls: HashSet<&str> = entries.iter().filter_map(|entry| entry["fullUrl"].as_str()).collect();
            assert_eq!(urls.len(), entries.len());
            let mut found = Vec::new();
            references(&bundle, &mut found);
            assert!(found.iter().all(|target| target.starts_with('#') || urls.contains(target.as_str())));
        }
    }

    #[test]
    fn the_mix_and_the_sizes_are_those_of_the_shape_imitated() {
        let (mut types, mut bytes, mut entries) = (HashMap::<String, u64>::new(), 0, 0);
        const PATIENTS: u64 = 100;
        for index in 0..PATIENTS {
            let bundle = Population { seed: 1 }.bundle(index);
            bytes += bundle.to_string().len() as u64;
            for entry in bundle["entry"].as_array().expect("entries") {
                *types
                    .entry(entry["resource"]["resourceType"].as_str().expect("type").to_owned())
                    .or_default() += 1;
                entries += 1;
            }
        }
        let mean = entries / PATIENTS;
        assert!(mean.abs_diff(RESOURCES_PER_PATIENT) <= 8, "{mean} entries a Bundle");
        assert!((1_350..1_600).contains(&(bytes / entries)), "{} bytes a resource", bytes / entries);
        let percent = |kind: &str| types.get(kind).copied().unwrap_or(0) as f64 * 100.0 / entries as f64;
        for (kind, expected) in [
            ("Observation", 47.5),
            ("Claim", 11.4),
            ("Encounter", 9.3),
            ("Immunization", 8.2),
            ("Procedure", 3.6),
        ] {
            assert!(
                (percent(kind) - expected).abs() < 1.5,
                "{kind} is {:.1}% of the entries",
                percent(kind)
            );
        }
        assert_eq!(types.len(), 16);
    }
}
