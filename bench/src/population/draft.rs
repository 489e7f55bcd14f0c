//! A Bundle being written: its entries so far, and the resources that later ones refer to.

use serde_json::Value;
use serde_json::json;

use crate::population::names::INSTITUTIONS;
use crate::population::names::MUNICIPALITIES;
use crate::population::person;
use crate::population::person::Person;
use crate::population::person::test_data_meta;
use crate::rng::Rng;

/// A Bundle being written.
pub struct Draft {
    pub rng: Rng,
    pub person: Person,
    /// Where later resources point: `urn:uuid:...` of the Patient, and of the Organization and Practitioner of the day.
    pub patient: String,
    pub organization: String,
    pub practitioner: String,
    entries: Vec<Value>,
}

impl Draft {
    /// Starts a Bundle with its Patient, an Organization and a Practitioner.
    pub fn begin(mut rng: Rng) -> Draft {
        let person = person::draw(&mut rng);
        let id = rng.uuid();
        let patient = person::patient(&person, Some(&id), &mut rng);
        let mut draft = Draft {
            rng,
            person,
            patient: format!("urn:uuid:{id}"),
            organization: String::new(),
            practitioner: String::new(),
            entries: Vec::with_capacity(200),
        };
        draft.push("Patient", patient);
        draft.change_institution();
        draft
    }

    /// Appends a resource that has its `id`, and returns the reference to it.
    pub fn push(&mut self, kind: &str, resource: Value) -> String {
        let url = format!("urn:uuid:{}", resource["id"].as_str().unwrap_or_default());
        self.entries
            .push(json!({ "fullUrl": url, "resource": resource, "request": { "method": "POST", "url": kind } }));
        url
    }

    /// Moves the patient to another Organization and Practitioner.
    pub fn change_institution(&mut self) {
        let organization = organization(&mut self.rng);
        self.organization = self.push("Organization", organization);
        let practitioner = practitioner(&mut self.rng);
        self.practitioner = self.push("Practitioner", practitioner);
    }

    /// The entries, in the order written.
    pub fn into_entries(self) -> Vec<Value> {
        self.entries
    }
}

fn organization(rng: &mut Rng) -> Value {
    let place = rng.pick(MUNICIPALITIES);
    let name = format!("{} di {}", rng.pick(INSTITUTIONS), place.name);
    json!({
        "resourceType": "Organization",
        "id": rng.uuid(),
        "identifier": [{ "system": "urn:oid:2.16.840.1.113883.2.9.4.1.2", "value": format!("{:08}", rng.below(100_000_000)) }],
        "active": true,
        "type": [{
            "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/organization-type", "code": "prov" }],
            "text": "Struttura sanitaria"
        }],
        "name": name,
        "telecom": [{ "system": "phone", "value": format!("0{}", rng.between(10_000_000, 99_999_999)) }],
        "address": [{
            "line": [person::street(rng)], "city": place.name, "district": place.province, "state": place.region,
            "postalCode": place.postal_code, "country": "IT"
        }],
        "meta": test_data_meta()
    })
}

fn practitioner(rng: &mut Rng) -> Value {
    let someone = person::draw(rng);
    let title = if someone.female { "Dott.ssa" } else { "Dott." };
    json!({
        "resourceType": "Practitioner",
        "id": rng.uuid(),
        "identifier": [{ "system": "urn:oid:2.16.840.1.113883.2.9.4.3.2", "value": person::codice_fiscale(&someone) }],
        "active": true,
        "name": [{ "family": someone.family, "given": [someone.given], "prefix": [title] }],
        "address": [{ "line": [person::street(rng)], "city": someone.home.name, "state": someone.home.region, "country": "IT" }],
        "gender": if someone.female { "female" } else { "male" },
        "meta": test_data_meta()
    })
}
