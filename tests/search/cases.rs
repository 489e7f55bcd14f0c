//! Every prefix and modifier by the examples of the specification itself: each is asked of the server and of the evaluator, and both must find what
//! the text says. The anchors are of <https://hl7.org/fhir/R4/search.html>.
//!
//! Cases of what the server does not have yet are here too: it must refuse them until `features.rs` says that it has it.

use crate::evaluator::Query;
use crate::evaluator::key_of;
use crate::features::State;
use crate::features::state_of;
use crate::run::Client;
use crate::run::World;
use crate::support::http::Connection;
use serde_json::Value;
use serde_json::json;

/// The search, what it finds (ids), and the features that it needs.
pub type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Searches of one part of the specification, over resources of their own.
pub struct Theme {
    /// Names the tag that the resources have.
    pub name: &'static str,
    pub anchor: &'static str,
    pub resources: Vec<Value>,
    pub cases: &'static [Case],
}

pub fn with(type_name: &str, id: &str, members: Value) -> Value {
    let mut resource = json!({"resourceType": type_name, "id": id});
    for (name, value) in members.as_object().expect("members") {
        resource[name] = value.clone();
    }
    resource
}

fn risk(id: &str, probability: &str) -> Value {
    let number: Value = serde_json::from_str(probability).expect("a number");
    with(
        "RiskAssessment",
        id,
        json!({"status": "final", "subject": {"reference": "Patient/nobody"}, "prediction": [{"probabilityDecimal": number}]}),
    )
}

fn numbers() -> Theme {
    Theme {
        name: "number",
        anchor: "#number",
        resources: vec![
            risk("n49.9", "49.9"),
            risk("n95", "95"),
            risk("n99.4", "99.4"),
            risk("n99.5", "99.5"),
            risk("n99.995", "99.995"),
            risk("n100", "100"),
            risk("n100.005", "100.005"),
            risk("n100.5", "100.5"),
            risk("n149.9", "149.9"),
            risk("n150", "150"),
            risk("n0.8", "0.8"),
            risk("n0.81", "0.81"),
            with(
                "MolecularSequence",
                "second",
                json!({"coordinateSystem": 0, "referenceSeq": {"windowStart": 2, "windowEnd": 9}}),
            ),
        ],
        cases: &[
            // "Values that equal 100, to 3 significant figures precision": [99.5 ... 100.5)
            ("RiskAssessment?probability=100", &["n100", "n100.005", "n99.5", "n99.995"], &[]),
            // "to 5 significant figures precision": [99.995 ... 100.005)
            ("RiskAssessment?probability=100.00", &["n100", "n99.995"], &[]),
            // "to 1 significant figures precision". The text goes on with [95 ... 105), which is two figures; `ranges.rs` says why it is [50 ... 150).
            (
                "RiskAssessment?probability=1e2",
                &["n100", "n100.005", "n100.5", "n149.9", "n95", "n99.4", "n99.5", "n99.995"],
                &[],
            ),
            // "100 and 1.00e2 both have the same number of significant digits - three"
            ("RiskAssessment?probability=1.00e2", &["n100", "n100.005", "n99.5", "n99.995"], &[]),
            // "Values that are less than exactly 100"
            (
                "RiskAssessment?probability=lt100",
                &["n0.8", "n0.81", "n49.9", "n95", "n99.4", "n99.5", "n99.995"],
                &[],
            ),
            (
                "RiskAssessment?probability=le100",
                &["n0.8", "n0.81", "n100", "n49.9", "n95", "n99.4", "n99.5", "n99.995"],
                &[],
            ),
            ("RiskAssessment?probability=gt100", &["n100.005", "n100.5", "n149.9", "n150"], &[]),
            (
                "RiskAssessment?probability=ge100",
                &["n100", "n100.005", "n100.5", "n149.9", "n150"],
                &[],
            ),
            // "Values that are not equal to 100 (actually, in the range 99.5 to 100.5)"
            (
                "RiskAssessment?probability=ne100",
                &["n0.8", "n0.81", "n100.5", "n149.9", "n150", "n49.9", "n95", "n99.4"],
                &[],
            ),
            ("RiskAssessment?probability=sa100", &["n100.005", "n100.5", "n149.9", "n150"], &[]),
            (
                "RiskAssessment?probability=eb100",
                &["n0.8", "n0.81", "n49.9", "n95", "n99.4", "n99.5", "n99.995"],
                &[],
            ),
            // "The recommended value for the approximation is 10% of the stated value"
            (
                "RiskAssessment?probability=ap100",
                &["n100", "n100.005", "n100.5", "n95", "n99.4", "n99.5", "n99.995"],
                &[],
            ),
            // "Probability greater than 0.8 (could also be probability=gt8e-1 using exponential form)"
            (
                "RiskAssessment?probability=gt0.8",
                &[
                    "n0.81", "n100", "n100.005", "n100.5", "n149.9", "n150", "n49.9", "n95", "n99.4", "n99.5", "n99.995",
                ],
                &[],
            ),
            (
                "RiskAssessment?probability=gt8e-1",
                &[
                    "n0.81", "n100", "n100.005", "n100.5", "n149.9", "n150", "n49.9", "n95", "n99.4", "n99.5", "n99.995",
                ],
                &[],
            ),
            // Whole numbers: "if there are non-zero digits after a decimal point, there cannot be any matches". The example of the text,
            // ImmunizationRecommendation?dose-number=2, is no parameter of R4's definitions.
            ("MolecularSequence?window-start=2", &["second"], &[]),
            ("MolecularSequence?window-start=2.0", &["second"], &[]),
            ("MolecularSequence?window-start=2.1", &[], &[]),
        ],
    }
}

fn on(id: &str, effective: Value) -> Value {
    let mut observation = with("Observation", id, json!({"status": "final", "code": {"text": "x"}}));
    match effective.is_string() {
        true => observation["effectiveDateTime"] = effective,
        false => observation["effectivePeriod"] = effective,
    }
    observation
}

fn dates() -> Theme {
    Theme {
        name: "date",
        anchor: "#date",
        resources: vec![
            on("day14", json!("2013-01-14")),
            on("t14-00", json!("2013-01-14T00:00:00Z")),
            on("t14-10", json!("2013-01-14T10:00:00Z")),
            on("t15-00", json!("2013-01-15T00:00:00Z")),
            on("from21jan", json!({"start": "2013-01-21"})),
            on("from15mar", json!({"start": "2013-03-15"})),
            on("to21jan", json!({"end": "2013-01-21"})),
            on("day14mar", json!("2013-03-14")),
            on("day15jun", json!("2015-06-15")),
        ],
        cases: &[
            // "2013-01-14T00:00 matches (obviously), 2013-01-14T10:00 matches, 2013-01-15T00:00 does not match - it's not in the range"
            ("Observation?date=eq2013-01-14", &["day14", "t14-00", "t14-10"], &[]),
            ("Observation?date=2013-01-14", &["day14", "t14-00", "t14-10"], &[]),
            // "2013-01-15T00:00 matches, 2013-01-14T00:00 does not match, 2013-01-14T10:00 does not match"
            (
                "Observation?date=ne2013-01-14",
                &["day14mar", "day15jun", "from15mar", "from21jan", "t15-00", "to21jan"],
                &[],
            ),
            // "2013-01-14 matches, because it includes the part of 14-Jan 2013 before 10am"
            ("Observation?date=lt2013-01-14T10:00", &["day14", "t14-00", "to21jan"], &[]),
            // "2013-01-14 matches, because it includes the part of 14-Jan 2013 after 10am"
            (
                "Observation?date=gt2013-01-14T10:00",
                &["day14", "day14mar", "day15jun", "from15mar", "from21jan", "t15-00", "to21jan"],
                &[],
            ),
            // "from 21-Jan 2013 onwards is included because that period may include times after 14-Mar 2013"
            (
                "Observation?date=ge2013-03-14",
                &["day14mar", "day15jun", "from15mar", "from21jan"],
                &[],
            ),
            // "from 21-Jan 2013 onwards is included because that period may include times before 14-Mar 2013"
            (
                "Observation?date=le2013-03-14",
                &["day14", "day14mar", "from21jan", "t14-00", "t14-10", "t15-00", "to21jan"],
                &[],
            ),
            // "from 15-Mar 2013 onwards is included", "from 21-Jan 2013 onwards is not", "before and including 21-Jan 2013 is not"
            ("Observation?date=sa2013-03-14", &["day15jun", "from15mar"], &[]),
            // "from 15-Mar 2013 onwards is not included", "from 21-Jan 2013 onwards is not", "before and including 21-Jan 2013 is included"
            (
                "Observation?date=eb2013-03-14",
                &["day14", "t14-00", "t14-10", "t15-00", "to21jan"],
                &[],
            ),
            // "14-Mar 2013 is included - as it exactly matches"; "15-Jun 2015 is not included - as it is not near"; "the exact value here is at the
            // discretion of the system": a tenth of the time since then is more than a year.
            (
                "Observation?date=ap2013-03-14",
                &[
                    "day14",
                    "day14mar",
                    "from15mar",
                    "from21jan",
                    "t14-00",
                    "t14-10",
                    "t15-00",
                    "to21jan",
                ],
                &[],
            ),
            // "2000 is equivalent to an interval of [2000-01-01T00:00, 2000-12-31T23:59]"
            ("Observation?date=2013", &["day14", "day14mar", "t14-00", "t14-10", "t15-00"], &[]),
            ("Observation?date=2013-01", &["day14", "t14-00", "t14-10", "t15-00"], &[]),
            // The two-year period of the example below: Procedure?date=ge2010-01-01&date=le2011-12-31
            (
                "Observation?date=ge2013-01-01&date=le2013-12-31",
                &[
                    "day14",
                    "day14mar",
                    "from15mar",
                    "from21jan",
                    "t14-00",
                    "t14-10",
                    "t15-00",
                    "to21jan",
                ],
                &[],
            ),
        ],
    }
}

fn named(id: &str, given: &str, more: Value) -> Value {
    let mut patient = with("Patient", id, more);
    patient["name"] = json!([{"given": [given], "family": "Carreno"}]);
    patient
}

fn strings() -> Theme {
    Theme {
        name: "string",
        anchor: "#string",
        resources: vec![
            named("Eve", "Eve", json!({})),
            named("eve", "eve", json!({})),
            named("EVE", "EVE", json!({})),
            named("Evelyn", "Evelyn", json!({})),
            named("Severine", "Severine", json!({})),
            named("accented", "\u{c8}ve", json!({})),
        ],
        cases: &[
            // "given part with eve at the start of the name. This would include Eve, Evelyn"
            ("Patient?given=eve", &["EVE", "Eve", "Evelyn", "accented", "eve"], &[]),
            // "containing eve at any position. This would include Eve, Evelyn, and also Severine"
            (
                "Patient?given:contains=eve",
                &["EVE", "Eve", "Evelyn", "Severine", "accented", "eve"],
                &[],
            ),
            // "exactly Eve. Note: This would not include patients with the given name eve or EVE"
            ("Patient?given:exact=Eve", &["Eve"], &[]),
            ("Patient?name:text=eve", &[], &["string:text"]),
        ],
    }
}

fn value_set(id: &str, url: &str) -> Value {
    with("ValueSet", id, json!({"status": "active", "url": url}))
}

fn uris() -> Theme {
    Theme {
        name: "uri",
        anchor: "#uri",
        resources: vec![
            value_set("v123", "http://acme.org/fhir/ValueSet/123"),
            value_set("v1234", "http://acme.org/fhir/ValueSet/1234"),
            value_set("v123-5", "http://acme.org/fhir/ValueSet/123/_history/5"),
            value_set("fhir", "http://acme.org/fhir"),
            value_set("fhirs", "http://acme.org/fhirs/x"),
            value_set("oid", "urn:oid:1.2.3.4.5"),
            value_set("comma", "http://acme.org/fhir/ValueSet/124,125"),
        ],
        cases: &[
            ("ValueSet?url=http://acme.org/fhir/ValueSet/123", &["v123"], &[]),
            ("ValueSet?url=http://acme.org/FHIR/ValueSet/123", &[], &[]),
            // "That starts with http://acme.org/fhir/"
            (
                "ValueSet?url:below=http://acme.org/fhir/",
                &["comma", "fhir", "v123", "v123-5", "v1234"],
                &[],
            ),
            // "Any value set with the specified URL, but also" what is above it
            (
                "ValueSet?url:above=http://acme.org/fhir/ValueSet/123/_history/5",
                &["fhir", "v123", "v123-5"],
                &[],
            ),
            ("ValueSet?url=urn:oid:1.2.3.4.5", &["oid"], &[]),
            // "The :above and :below modifiers only apply to URLs, and not URNs"
            ("ValueSet?url:below=urn:oid:1.2.3.4", &[], &[]),
            // #escaping: the same URLs, the comma escaped
            (
                r"ValueSet?url=http://acme.org/fhir/ValueSet/123,http://acme.org/fhir/ValueSet/124\,125",
                &["comma", "v123"],
                &[],
            ),
        ],
    }
}

fn condition(id: &str, code: Value) -> Value {
    with("Condition", id, json!({"subject": {"reference": "Patient/nobody"}, "code": code}))
}

fn tokens() -> Theme {
    let mrn = json!([{"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}, "value": "446053"}]);
    let section = |codes: &[&str]| -> Value {
        codes
            .iter()
            .map(|code| json!({"title": "x", "code": {"coding": [{"system": "http://loinc.org", "code": code}]}}))
            .collect()
    };
    let composition = |id, sections: Value| {
        let mut composition = json!({"status": "final", "type": {"text": "x"}, "date": "2024", "author": [{"display": "x"}], "title": "x"});
        if sections != json!([]) {
            composition["section"] = sections;
        }
        with("Composition", id, composition)
    };
    Theme {
        name: "token",
        anchor: "#token",
        resources: vec![
            with(
                "Patient",
                "p2345",
                json!({"identifier": [{"system": "http://acme.org/patient", "value": "2345"}], "gender": "male", "active": true}),
            ),
            with(
                "Patient",
                "other2345",
                json!({"identifier": [{"system": "http://other.org", "value": "2345"}], "gender": "female", "active": false}),
            ),
            with("Patient", "bare2345", json!({"identifier": [{"value": "2345"}]})),
            with("Patient", "mrn", json!({"identifier": mrn, "gender": "other"})),
            with(
                "Patient",
                "extended",
                json!({"_gender": {"extension": [{"url": "http://acme.org/x", "valueCode": "x"}]}}),
            ),
            composition("allergies", section(&["48765-2"])),
            composition("both", section(&["48765-2", "10160-0"])),
            composition("medications", section(&["10160-0"])),
            composition("none", section(&[])),
            condition(
                "ha125",
                json!({"coding": [{"system": "http://acme.org/conditions/codes", "code": "ha125"}]}),
            ),
            condition("ha125-other", json!({"coding": [{"system": "http://other.org", "code": "ha125"}]})),
            condition("text", json!({"text": "Headache, right side"})),
            condition(
                "display",
                json!({"coding": [{"system": "http://acme.org/conditions/codes", "code": "x", "display": "headache"}]}),
            ),
            with(
                "CodeSystem",
                "conditions",
                json!({"status": "active", "content": "complete", "url": "http://acme.org/conditions/codes",
                "concept": [{"code": "heart", "concept": [{"code": "ha125"}]}, {"code": "x"}]}),
            ),
            with(
                "ValueSet",
                "cardiac",
                json!({"status": "active", "url": "http://acme.org/fhir/ValueSet/cardiac-conditions", "compose": {"include": [
                {"system": "http://acme.org/conditions/codes", "filter": [{"property": "concept", "op": "is-a", "value": "heart"}]}]}}),
            ),
            condition("comma", json!({"coding": [{"code": "a,b"}]})),
            condition("a", json!({"coding": [{"code": "a"}]})),
            condition("backslash", json!({"coding": [{"code": "xx\\xx"}]})),
            condition("dollar", json!({"coding": [{"code": "xx$xx"}]})),
        ],
        cases: &[
            ("Patient?identifier=http://acme.org/patient|2345", &["p2345"], &[]),
            // "irrespective of the value of the system property"
            ("Patient?identifier=2345", &["bare2345", "other2345", "p2345"], &[]),
            // "and the Coding/Identifier has no system property"
            ("Patient?identifier=|2345", &["bare2345"], &[]),
            // "any element where the value of [system] matches the system property"
            ("Patient?identifier=http://acme.org/patient|", &["p2345"], &[]),
            ("Patient?gender=male", &["p2345"], &[]),
            // "includes all patients that do not have gender = male, including patients that do not have a gender at all"
            ("Patient?gender:not=male", &["bare2345", "extended", "mrn", "other2345"], &[]),
            // "Does not contain an Allergies and adverse reaction section … the negation applies to the set, not each individual entry"
            ("Composition?section=48765-2", &["allergies", "both"], &[]),
            ("Composition?section:not=48765-2", &["medications", "none"], &[]),
            ("Patient?active=true", &["p2345"], &[]),
            ("Condition?code=http://acme.org/conditions/codes|ha125", &["ha125"], &[]),
            ("Condition?code=ha125", &["ha125", "ha125-other"], &[]),
            // "A text headache associated with it (either in the text, or a display)"
            ("Condition?code:text=headache", &["display", "text"], &["token:text"]),
            // "All conditions where the code is in the specified value set", "where the code is one of those that are subsumed".
            (
                "Condition?code:in=http://acme.org/fhir/ValueSet/cardiac-conditions",
                &["ha125"],
                &["token:in"],
            ),
            ("Condition?code:in=ValueSet/cardiac", &["ha125"], &["token:in"]),
            (
                "Condition?code:below=http://acme.org/conditions/codes|heart",
                &["ha125"],
                &["token:below"],
            ),
            (
                "Condition?code:above=http://acme.org/conditions/codes|ha125",
                &["ha125"],
                &["token:below"],
            ),
            (
                "Patient?identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|446053",
                &["mrn"],
                &["token:of-type"],
            ),
            // #modifiers: "or where the element is present with extensions but no @value is specified"
            ("Patient?gender:missing=true", &["bare2345", "extended"], &[]),
            ("Patient?gender:missing=false", &["mrn", "other2345", "p2345"], &[]),
            // #escaping
            ("Condition?code=a,b", &["a"], &[]),
            (r"Condition?code=a\,b", &["comma"], &[]),
            (r"Condition?code=xx\\xx", &["backslash"], &[]),
            (r"Condition?code=xx\$xx", &["dollar"], &[]),
            // #missing: "This query will always return an empty list"
            ("Condition?code=ha125&code:missing=true", &[], &[]),
        ],
    }
}

fn measured(id: &str, quantity: Value) -> Value {
    with(
        "Observation",
        id,
        json!({"status": "final", "code": {"text": "x"}, "valueQuantity": quantity}),
    )
}

fn quantities() -> Theme {
    let ucum = "http://unitsofmeasure.org";
    Theme {
        name: "quantity",
        anchor: "#quantity",
        resources: vec![
            measured("mg5.4", json!({"value": 5.4, "unit": "mg", "system": ucum, "code": "mg"})),
            measured("mg5.35", json!({"value": 5.35, "unit": "milligram", "system": ucum, "code": "mg"})),
            measured("mg5.45", json!({"value": 5.45, "unit": "mg", "system": ucum, "code": "mg"})),
            measured("mg4.9", json!({"value": 4.9, "system": ucum, "code": "mg"})),
            measured("text5.4", json!({"value": 5.4, "unit": "mg"})),
            measured("g0.0054", json!({"value": 0.0054, "unit": "g", "system": ucum, "code": "g"})),
            measured("cm5.4", json!({"value": 5.4, "unit": "cm", "system": ucum, "code": "cm"})),
        ],
        cases: &[
            // "A value of 5.4(+/-0.05) mg where mg is understood as a UCUM unit"
            (
                "Observation?value-quantity=5.4|http://unitsofmeasure.org|mg",
                &["g0.0054", "mg5.35", "mg5.4"],
                &["UCUM"],
            ),
            // "0.0054(+/-0.000005) g"
            (
                "Observation?value-quantity=5.40e-3|http://unitsofmeasure.org|g",
                &["g0.0054", "mg5.4"],
                &["UCUM"],
            ),
            // "Where the unit - either the code or the stated human unit - are mg"
            ("Observation?value-quantity=5.4||mg", &["mg5.35", "mg5.4", "text5.4"], &[]),
            (
                "Observation?value-quantity=5.35||milligram",
                &["mg5.35"],
                &["unit as people write it"],
            ),
            // "Irrespective of the unit"
            ("Observation?value-quantity=5.4", &["cm5.4", "mg5.35", "mg5.4", "text5.4"], &[]),
            (
                "Observation?value-quantity=le5.4|http://unitsofmeasure.org|mg",
                &["g0.0054", "mg4.9", "mg5.35", "mg5.4"],
                &["UCUM"],
            ),
            // "Typically, within 10% of the value"
            (
                "Observation?value-quantity=ap5.4|http://unitsofmeasure.org|mg",
                &["g0.0054", "mg4.9", "mg5.35", "mg5.4", "mg5.45"],
                &["UCUM"],
            ),
        ],
    }
}

fn references() -> Theme {
    let about = |id, subject: Value| {
        with(
            "Observation",
            id,
            json!({"status": "final", "code": {"coding": [{"code": "1234-5"}]}, "subject": subject}),
        )
    };
    Theme {
        name: "reference",
        anchor: "#reference",
        resources: vec![
            with(
                "Patient",
                "23",
                json!({"name": [{"text": "Peter"}], "generalPractitioner": [{"reference": "Practitioner/joe"}, {"reference": "Practitioner/jane"}]}),
            ),
            with("Group", "23", json!({"type": "person", "actual": true, "name": "Peter"})),
            with(
                "Practitioner",
                "joe",
                json!({"name": [{"given": ["Joe"]}], "address": [{"state": "CA"}]}),
            ),
            with(
                "Practitioner",
                "jane",
                json!({"name": [{"given": ["Jane"]}], "address": [{"state": "MN"}]}),
            ),
            about("of-patient", json!({"reference": "Patient/23"})),
            about("of-version", json!({"reference": "Patient/23/_history/1"})),
            about("of-group", json!({"reference": "Group/23"})),
            about("elsewhere", json!({"reference": "http://elsewhere.org/fhir/Patient/23"})),
            about(
                "by-mrn",
                json!({"identifier": {"system": "http://acme.org/fhir/identifier/mrn", "value": "123456"}}),
            ),
            with(
                "DiagnosticReport",
                "report",
                json!({"status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/23"}, "result": [{"reference": "Observation/of-patient"}]}),
            ),
            with(
                "AuditEvent",
                "audit",
                json!({"type": {"code": "rest"}, "recorded": "2024-01-01T00:00:00Z", "source": {"observer": {"display": "x"}},
                "agent": [{"requestor": true, "altId": "MyUserId", "who": {"reference": "Practitioner/joe"}}], "entity": [{"what": {"reference": "Observation/of-patient"}}]}),
            ),
        ],
        cases: &[
            ("Observation?subject=Patient/23", &["of-patient", "of-version"], &[]),
            ("Observation?subject:Patient=23", &["of-patient", "of-version"], &[]),
            ("Observation?patient=23", &["of-patient", "of-version"], &[]),
            ("Observation?subject=23", &["of-group", "of-patient", "of-version"], &[]),
            // "A reference to a resource by its absolute location"
            ("Observation?subject=http://elsewhere.org/fhir/Patient/23", &["elsewhere"], &[]),
            (
                "Observation?subject:identifier=http://acme.org/fhir/identifier/mrn|123456",
                &["by-mrn"],
                &[],
            ),
            // #chaining
            ("DiagnosticReport?subject.name=peter", &["report"], &[]),
            ("DiagnosticReport?subject:Patient.name=peter", &["report"], &[]),
            ("Observation?subject:Group.characteristic:missing=true", &["of-group"], &[]),
            // "May return Patients cared for by Joe from CA and Jane from MN"
            (
                "Patient?general-practitioner.name=Joe&general-practitioner.address-state=MN",
                &["23"],
                &[],
            ),
            // #has
            ("Patient?_has:Observation:patient:code=1234-5", &["23"], &[]),
            ("Patient?_has:Observation:patient:code=123,456", &[], &[]),
            (
                "Patient?_has:Observation:patient:code=1234-5&_has:Observation:patient:code=456",
                &[],
                &[],
            ),
            // The parameter that R4 calls `user` in the text is `altid` in its definitions.
            (
                "Patient?_has:Observation:patient:_has:AuditEvent:entity:altid=MyUserId",
                &["23"],
                &[],
            ),
            (
                "Patient?_has:Observation:patient:_has:AuditEvent:entity:agent=Practitioner/joe",
                &["23"],
                &[],
            ),
            (
                "Patient?_has:Observation:patient:_has:AuditEvent:entity:agent=Practitioner/jane",
                &[],
                &[],
            ),
        ],
    }
}

fn composites() -> Theme {
    let loinc = |code: &str| json!({"coding": [{"system": "http://loinc.org", "code": code}]});
    let pressure = |id, systolic: u32, diastolic: u32| {
        let component = |code, value: u32| json!({"code": loinc(code), "valueQuantity": {"value": value}});
        with(
            "Observation",
            id,
            json!({"status": "final", "code": loinc("85354-9"), "component": [component("8480-6", systolic), component("8462-4", diastolic)]}),
        )
    };
    let group = |id, code: &str, text: &str| {
        let characteristic = json!([{"code": {"text": code, "coding": [{"code": code}]}, "valueCodeableConcept": {"coding": [{"code": text}]}, "exclude": false}]);
        with(
            "Group",
            id,
            json!({"type": "person", "actual": false, "characteristic": characteristic}),
        )
    };
    let unit = "http://unitsofmeasure.org";
    Theme {
        name: "composite",
        anchor: "#composite",
        resources: vec![
            pressure("high", 120, 55),
            pressure("low", 55, 40),
            with(
                "Observation",
                "potassium",
                json!({"status": "final", "code": loinc("2823-3"), "valueQuantity": {"value": 5.5, "system": unit, "code": "mmol/L"}}),
            ),
            with(
                "DiagnosticReport",
                "of-potassium",
                json!({"status": "final", "code": {"text": "x"}, "result": [{"reference": "Observation/potassium"}]}),
            ),
            group("mixed", "gender", "mixed"),
            group("owner", "owner", "Eve"),
            group("crossed", "owner", "mixed"),
        ],
        cases: &[
            (
                "DiagnosticReport?result.code-value-quantity=http://loinc.org|2823-3$gt5.4|http://unitsofmeasure.org|mmol/L",
                &["of-potassium"],
                &[],
            ),
            // "A systolic blood pressure < 60", not a diastolic one
            (
                "Observation?component-code-value-quantity=http://loinc.org|8480-6$lt60",
                &["low"],
                &["composite of a part"],
            ),
            ("Group?characteristic-value=gender$mixed", &["mixed"], &["composite of a part"]),
            // "Multiple matching characteristic-value parameters can be specified as" one with a comma
            (
                "Group?characteristic-value=gender$mixed,owner$Eve",
                &["mixed", "owner"],
                &["composite of a part"],
            ),
        ],
    }
}

/// Server and evaluator find in each case what it says, and agree with each other in all that `Client::compare` looks at.
pub fn check(themes: &[Theme]) {
    let mut keys: Vec<_> = themes.iter().flat_map(|theme| theme.resources.iter().map(key_of)).collect();
    keys.sort();
    let doubled = keys.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(doubled, None, "themes do not replace each other's resources");
    let mut world = World::new();
    for theme in themes {
        let tagged = theme.resources.iter().map(|resource| {
            let mut resource = resource.clone();
            resource["meta"] = json!({"tag": [{"system": "urn:theme", "code": theme.name}]});
            let meta = resource["meta"].clone();
            for contained in resource.get_mut("contained").and_then(Value::as_array_mut).into_iter().flatten() {
                contained["meta"] = meta.clone();
            }
            resource
        });
        let refused = world.put(tagged.collect());
        assert!(refused.is_empty(), "{}: {refused:#?}", theme.name);
    }
    let mut client = Client {
        connection: Connection::open(world.server.address),
        store: &world.store,
        few_are_sorted: false,
    };
    let mut wrong = Vec::new();
    for theme in themes {
        for case in theme.cases {
            wrong.extend(case_is_wrong(&mut client, theme.name, case).map(|why| format!("{} ({}): {why}", case.0, theme.anchor)));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn case_is_wrong(client: &mut Client<'_>, theme: &str, (search, finds, needs): &Case) -> Option<String> {
    let query = Query::read(&format!("{search}&_tag=urn:theme|{theme}&_count=1000"));
    let states: Vec<State> = needs.iter().map(|feature| state_of(feature)).collect();
    if states.contains(&State::Off) {
        return client.refusal(&query).err();
    }
    let evaluated: Vec<String> = client.store.matches(&query).into_iter().map(|(_, id)| id).collect();
    match evaluated == *finds {
        true => client.compare(&query).err(),
        false => Some(format!("the evaluator finds {evaluated:?}, not {finds:?}")),
    }
}

#[test]
fn the_examples_of_the_specification_find_what_its_text_says() {
    check(&[
        numbers(),
        dates(),
        strings(),
        uris(),
        tokens(),
        quantities(),
        references(),
        composites(),
    ]);
}
