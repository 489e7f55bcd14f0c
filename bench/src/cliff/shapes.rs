//! The shapes: each is one way of asking, with a few queries that differ in their values.

use crate::calendar::date;
use crate::cliff::data::CODES;
use crate::cliff::data::Data;
use crate::cliff::data::OLD_CODE;
use crate::cliff::data::code;
use crate::cliff::data::family;
use crate::http::encode;
use crate::rng::Rng;

/// The page that a deep shape reads.
const DEEP_PAGE: usize = 1_000;

pub struct Shape {
    pub name: String,
    /// Addresses below the base, percent-encoded.
    pub queries: Vec<String>,
    /// Page to read, by following links; 0 is the first.
    pub pages: usize,
}

/// How often a code is met: names of the shapes, and codes.
fn codes() -> Vec<(&'static str, Vec<String>)> {
    vec![
        ("densest code", vec![code(0)]),
        ("dense code", vec![code(2), code(5)]),
        ("mid code", vec![code(40), code(61)]),
        ("rare code", vec![code(CODES - 1), code(CODES - 30)]),
        ("old code", vec![code(OLD_CODE)]),
        ("absent code", vec!["nothing".to_owned()]),
    ]
}

/// Every shape, in a fixed order.
pub fn shapes(data: &Data) -> Vec<Shape> {
    let mut all = Shapes {
        shapes: Vec::new(),
        rng: Rng::new(data.seed, u64::MAX),
        patients: data.patients as usize,
    };
    all.of_codes();
    all.of_values();
    all.of_patients();
    all.of_links();
    all.of_several();
    all.deep();
    all.shapes
}

struct Shapes {
    shapes: Vec<Shape>,
    rng: Rng,
    patients: usize,
}

impl Shapes {
    /// `[type]?[query]`, as it is read by people: values are encoded here.
    fn add(&mut self, name: &str, queries: &[String]) {
        let queries = queries.iter().map(|query| address(query)).collect();
        self.shapes.push(Shape {
            name: name.to_owned(),
            queries,
            pages: 0,
        });
    }

    fn one(&mut self, query: &str) {
        self.add(query, &[query.to_owned()]);
    }

    /// With `{code}` as codes of each density.
    fn by_code(&mut self, template: &str) {
        for (density, codes) in codes() {
            let queries: Vec<String> = codes.iter().map(|code| template.replace("{code}", code)).collect();
            self.add(&template.replace("{code}", &format!("<{density}>")), &queries);
        }
    }

    /// With `{patient}` as some patients.
    fn by_patient(&mut self, template: &str) {
        let queries: Vec<String> = (0..3)
            .map(|_| template.replace("{patient}", &format!("p{}", self.rng.below(self.patients))))
            .collect();
        self.add(&template.replace("{patient}", "<patient>"), &queries);
    }

    fn of_codes(&mut self) {
        for template in [
            "Observation?code={code}",
            "Observation?code=http://loinc.org|{code}&_sort=-date",
            "Observation?code={code}&_sort=date",
            "Observation?code={code}&_sort=-_lastUpdated",
            "Observation?code={code}&date=ge2026-06-01&_sort=-date",
            "Observation?code={code}&date=lt2000",
            "Observation?code={code}&date=2025-03",
            "Observation?code={code}&status=amended",
            "Observation?code={code}&status=final&category=laboratory",
            "Observation?code={code}&value-quantity=gt450",
            "Observation?code-value-quantity={code}$gt450",
            "Observation?code={code}&_summary=count",
            "Observation?code={code}&_total=accurate",
            "Observation?code={code}&subject:Patient.family=rossi",
            "Observation?code={code}&patient.gender=male",
            "Observation?code={code}&value-quantity:missing=true",
            "Patient?_has:Observation:patient:code={code}",
            "Patient?_has:Observation:patient:code={code}&gender=female&_sort=family",
        ] {
            self.by_code(template);
        }
    }

    fn of_values(&mut self) {
        let or = |numbers: std::ops::Range<usize>| numbers.map(code).collect::<Vec<_>>().join(",");
        let (dense, rare) = (or(0..50), or(CODES - 50..CODES));
        self.one(&format!("Observation?code={dense}"));
        self.one(&format!("Observation?code={dense}&_sort=-date"));
        self.one(&format!("Observation?code={rare}&_sort=-date"));
        self.one(&format!("Observation?code={dense}&_summary=count"));
        for query in [
            "Observation?code:not=c000",
            "Observation?code:not=c000&_sort=-date",
            "Observation?code:not=c000&_summary=count",
            "Observation?status:not=final",
            "Observation?status:not=final&_sort=-date",
            "Observation?encounter:missing=true&_sort=-date",
            "Observation?encounter:missing=false&_summary=count",
            "Observation?performer:missing=true&code=c000",
            "Observation?subject:missing=true",
            "Observation?status=final",
            "Observation?status=final&_sort=-date",
            "Observation?status=amended&_sort=-date",
            "Observation?category=laboratory&status=final&_sort=date",
            "Observation?status=final&_summary=count",
            "Observation?date=ge2026-10-01",
            "Observation?date=lt1991",
            "Observation?date=ge2026-10-01&_summary=count",
            "Observation?date=2025-03-05&_sort=-date",
            "Observation?_sort=-date",
            "Observation?_sort=date",
            "Observation?_sort=-_lastUpdated",
            "Observation?_sort=_id",
            "Observation?_sort=-value-quantity",
            "Observation?_sort=code",
            "Observation?_sort=status,-date",
            "Observation?value-quantity=gt499",
            "Observation?value-quantity=gt10",
            "Observation?value-quantity=gt499&_sort=-value-quantity",
            "Observation?value-quantity=lt0.1|http://unitsofmeasure.org|mg/dL",
            "Observation?value-quantity=gt4.99|http://unitsofmeasure.org|g/L",
            "Observation?component-value-quantity=gt179",
            "Observation?component-code-value-quantity=systolic$gt179",
            "Observation?combo-code-value-quantity=diastolic$lt51&_sort=-date",
            "Observation?combo-code=systolic",
            "Observation?component-code=systolic&_sort=-date",
            "Observation?value-concept=r0",
            "Observation?code-value-concept=c003$r0",
            "Observation?code:text=esame%20numero%203",
            "Observation?code:text=esame",
            "Observation?_lastUpdated=gt2020-01-01",
            "Observation?_lastUpdated=gt2020-01-01&code=c399",
            "Observation?_lastUpdated=lt2020-01-01",
            "Observation?_filter=code eq c000 and (status eq amended or value-quantity gt 490)",
            "Observation?_filter=not (status eq final)",
            "Observation?_filter=subject.family eq \"rossi\" and date ge 2026-01-01",
        ] {
            self.one(query);
        }
    }

    fn of_patients(&mut self) {
        for letters in ["r", "ra", "ra00", "zz"] {
            self.one(&format!("Patient?name={letters}"));
            self.one(&format!("Patient?family={letters}&_sort=-birthdate"));
        }
        self.one(&format!("Patient?family:exact={}", family(0)));
        for query in [
            "Patient?family:contains=a00",
            "Patient?family:contains=0001n",
            "Patient?name:contains=ome2",
            "Patient?gender=male",
            "Patient?gender=male&_sort=family,given",
            "Patient?_sort=birthdate",
            "Patient?_sort=-family",
            "Patient?active=false&gender=female",
            "Patient?birthdate=ge2010&_sort=birthdate",
            "Patient?birthdate=1970-05",
            "Patient?birthdate:missing=true",
            "Patient?general-practitioner:missing=true&_sort=family",
            "Patient?identifier=urn:cliff:id|ID000777",
            "Patient?identifier=ID000777",
            "Patient?identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|ID000777",
            "Patient?address-city=comune1",
            "Patient?address=comune399",
            "Patient?_total=accurate",
            "Patient?_list=list",
            "Patient?gender:not=male&_summary=count",
            "Location?near=45.46|9.19|20|km",
            "Location?near=42|12|800|km",
        ] {
            self.one(query);
        }
    }

    fn of_links(&mut self) {
        for template in [
            "Observation?patient={patient}",
            "Observation?patient={patient}&_sort=-date",
            "Observation?subject={patient}&code=c000&_sort=-date",
            "Patient/{patient}/Observation?_sort=-date",
            "Patient/{patient}/*",
            "Patient?_id={patient}&_revinclude=*",
            "Patient?_id={patient}&_revinclude=Observation:patient&_include:iterate=*",
            "Encounter?patient={patient}&_include=*",
            "Patient/{patient}/$everything",
            "Observation/$lastn?patient={patient}&max=2",
        ] {
            self.by_patient(template);
        }
        let patients: Vec<String> = (0..50).map(|_| format!("p{}", self.rng.below(self.patients))).collect();
        self.add(
            "Observation?patient=<50 patients>&_sort=-date",
            &[format!("Observation?patient={}&_sort=-date", patients.join(","))],
        );
        let (dense_family, rare_family) = (family(0), family(1_990));
        for name in [dense_family.as_str(), rare_family.as_str(), "r"] {
            self.one(&format!("Observation?patient.family={name}"));
            self.one(&format!("Observation?patient.family={name}&_sort=-date"));
            self.one(&format!("Observation?performer:Practitioner.family={name}&code=c001"));
        }
        for query in [
            "Observation?patient.gender=male",
            "Observation?patient.gender=male&_sort=-date",
            "Observation?patient.gender=male&_summary=count",
            "Observation?patient.birthdate=ge2015&code=c000",
            "Observation?patient.organization.name=ospedale%200",
            "Observation?patient.organization.name=ospedale%2049&code=c000",
            "Observation?patient.general-practitioner.family=ra",
            "Observation?encounter.status=in-progress",
            "Observation?encounter.location.name=ambulatorio%20999",
            "Observation?encounter.class=AMB&code=c002&_sort=-date",
            "Observation?performer=Practitioner/dr0&_sort=-date",
            "Observation?performer=Practitioner/dr499&_sort=-date",
            "Patient?_has:Observation:patient:value-quantity=gt499",
            "Patient?_has:Observation:patient:code=c000&_has:Encounter:patient:class=IMP",
            "Patient?_has:Observation:patient:_has:DiagnosticReport:result:status=final",
            "Patient?_has:Observation:patient:performer=Practitioner/dr0",
            "Patient?_has:Encounter:patient:location=Location/loc0&gender=male",
            "Organization?_has:Patient:organization:family=ra",
            "Practitioner?_has:Observation:performer:code=c000",
            "Observation?code=c000&_include=*&_count=200",
            "Observation?code=c000&_include=Observation:patient&_include:iterate=Patient:organization&_count=1000",
            "Patient?gender=male&_revinclude=Observation:patient&_count=50",
            "Patient?family=ra&_revinclude=*&_revinclude:iterate=*&_count=20",
            "Organization?_id=org0&_revinclude=Patient:organization",
            "Encounter?date=ge2026-10-20&_include=Encounter:patient&_sort=-date",
            "Encounter?status=in-progress&location.near=45.46|9.19|50|km",
        ] {
            self.one(query);
        }
    }

    fn of_several(&mut self) {
        let (recent, id) = (date(20_700), self.rng.below(self.patients));
        for query in [
            "?_type=Observation,Encounter&_sort=-_lastUpdated".to_owned(),
            format!("?_type=Observation,Encounter&date=ge{recent}&_sort=-date"),
            "?_type=Observation,Encounter&status=finished,amended".to_owned(),
            format!("?_id=p{id},o{id},e{id}"),
            "?_sort=-_lastUpdated".to_owned(),
            "?_summary=count".to_owned(),
            "?_type=Patient,Practitioner&family=ra&_sort=family".to_owned(),
            "?_tag=nothing".to_owned(),
            format!("?_type=Observation,Encounter&patient=p{id}&_sort=-date"),
            "Observation/_history?_count=50".to_owned(),
            "_history?_count=50".to_owned(),
        ] {
            self.one(&query);
        }
    }

    fn deep(&mut self) {
        for query in [
            "Observation?code=c000",
            "Observation?_sort=-date",
            "Observation?code=c000&_sort=-date",
            "Observation?status=final&_sort=date",
            "Patient?_sort=family",
            "Patient?_has:Observation:patient:code=c000",
        ] {
            self.shapes.push(Shape {
                name: format!("{query}, page {DEEP_PAGE}"),
                queries: vec![address(query)],
                pages: DEEP_PAGE,
            });
        }
    }
}

/// The address of a search that is written for people: what stands between `=` and `&` is percent-encoded, unless it is so already.
fn address(query: &str) -> String {
    let Some((path, parameters)) = query.split_once('?') else {
        return query.to_owned();
    };
    let encoded: Vec<String> = parameters
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => format!("{name}={}", encode(&value.replace("%20", " "))),
            None => pair.to_owned(),
        })
        .collect();
    format!("{path}?{}", encoded.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two_hundred_shapes_and_no_two_are_equal() {
        let data = Data {
            observations: 100,
            patients: 10,
            seed: 1,
        };
        let shapes = shapes(&data);
        let names: std::collections::HashSet<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
        assert_eq!(names.len(), shapes.len());
        assert!(shapes.len() >= 200, "{}", shapes.len());
    }
}
