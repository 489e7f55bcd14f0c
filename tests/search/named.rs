//! What random searches found: each disagreement of server and evaluator, by name, with the smallest search that shows it.
//!
//! One that waits for a feature (`features.rs`) is asked from the day on which that has landed.

use crate::cases::Theme;
use crate::cases::check;
use crate::cases::with;
use serde_json::Value;
use serde_json::json;

fn observation(id: &str, members: Value) -> Value {
    let mut observation = with("Observation", id, members);
    observation["status"] = json!("final");
    if observation.get("code").is_none() {
        observation["code"] = json!({"coding": [{"code": "a"}]});
    }
    observation
}

fn provenance(id: &str, recorded: &str) -> Value {
    with(
        "Provenance",
        id,
        json!({"target": [{"reference": "Patient/nobody"}], "recorded": recorded, "agent": [{"who": {"display": "x"}}]}),
    )
}

/// The server knew a URI with a slash at its end by another name than without it.
fn slashes() -> Theme {
    Theme {
        name: "a slash at the end of a uri is no segment",
        anchor: "#uri",
        resources: vec![
            with("ValueSet", "slash", json!({"status": "active", "url": "http://acme.org/fhir/"})),
            with("ValueSet", "without", json!({"status": "active", "url": "http://acme.org/fhir"})),
            with("ValueSet", "other", json!({"status": "active", "url": "http://acme.org/fhirs"})),
        ],
        cases: &[
            ("ValueSet?url:above=http://acme.org/fhir/ValueSet/123", &["slash", "without"], &[]),
            ("ValueSet?url:above=http://acme.org/fhir/", &["slash", "without"], &[]),
            ("ValueSet?url:below=http://acme.org/fhir", &["slash", "without"], &[]),
        ],
    }
}

/// The server gave an instant the width of its last digit.
fn instants() -> Theme {
    Theme {
        name: "an instant is a point in time",
        anchor: "#date",
        resources: vec![
            provenance("half", "2024-01-01T00:00:00.5+00:00"),
            provenance("whole", "2024-01-01T00:00:00Z"),
            observation("effective", json!({"effectiveInstant": "2024-01-01T00:00:00Z"})),
            observation("second", json!({"effectiveDateTime": "2024-01-01T00:00:00Z"})),
        ],
        cases: &[
            ("Provenance?recorded=le2024-01-01T00:00:00.500Z", &["half", "whole"], &[]),
            ("Provenance?recorded=2024-01-01T00:00:00.500Z", &["half"], &[]),
            ("Provenance?recorded=gt2024-01-01T00:00:00.500Z", &[], &[]),
            ("Observation?date=gt2024-01-01T00:00:00.5+00:00", &["second"], &[]),
            ("Observation?date=2024-01-01T00:00:00Z", &["effective", "second"], &[]),
        ],
    }
}

/// The server took for missing what has nothing to compare with.
fn presence() -> Theme {
    Theme {
        name: "an element that no search finds is not missing",
        anchor: "#modifiers",
        resources: vec![
            observation("display", json!({"subject": {"display": "x"}})),
            observation("text", json!({"category": [{"text": "x"}]})),
            observation("unit", json!({"valueQuantity": {"unit": "mg"}})),
            observation("none", json!({"subject": {"reference": "Group/1"}})),
        ],
        cases: &[
            ("Observation?subject:missing=true", &["text", "unit"], &[]),
            ("Observation?category:missing=false", &["text"], &[]),
            ("Observation?value-quantity:missing=false", &["unit"], &[]),
            // A parameter that is filtered by a type has a value when the reference is known to be to that type.
            ("Observation?patient:missing=true", &["display", "none", "text", "unit"], &[]),
        ],
    }
}

/// `Patient.deceased.exists() and Patient.deceased != false` is false of what has no such element; the server had no value for it.
fn deceased() -> Theme {
    Theme {
        name: "who is not said to be deceased is not",
        anchor: "#token",
        resources: vec![
            with("Patient", "yes", json!({"deceasedBoolean": true})),
            with("Patient", "when", json!({"deceasedDateTime": "2020"})),
            with("Patient", "no", json!({"deceasedBoolean": false})),
            with("Patient", "silent", json!({"gender": "male"})),
        ],
        cases: &[
            ("Patient?deceased=false", &["no", "silent"], &[]),
            ("Patient?deceased=true", &["when", "yes"], &[]),
            ("Patient?deceased:not=false", &["when", "yes"], &[]),
            ("Patient?deceased:missing=true", &[], &[]),
        ],
    }
}

/// The server followed all references of `subject` for `patient`, which reads the same path.
fn includes() -> Theme {
    let plan = |id, subject: &str| {
        with(
            "CarePlan",
            id,
            json!({"status": "active", "intent": "plan", "subject": {"reference": subject}}),
        )
    };
    Theme {
        name: "an include by patient is of patients only",
        anchor: "#include",
        resources: vec![
            plan("of-patient", "Patient/included"),
            plan("of-group", "Group/included"),
            with("Patient", "included", json!({"gender": "male"})),
            with("Group", "included", json!({"type": "person", "actual": true})),
        ],
        cases: &[
            ("CarePlan?_include=CarePlan:patient", &["of-group", "of-patient"], &[]),
            ("CarePlan?_include=CarePlan:subject", &["of-group", "of-patient"], &[]),
            ("Group?_revinclude:iterate=CarePlan:patient", &["included"], &[]),
            ("Patient?_revinclude=CarePlan:patient", &["included"], &[]),
        ],
    }
}

/// The server made a range without a number one without ends, and took `<` for `<=`.
fn bounds() -> Theme {
    let condition = |id, onset: Value| {
        with(
            "Condition",
            id,
            json!({"subject": {"reference": "Patient/nobody"}, "onsetRange": onset}),
        )
    };
    Theme {
        name: "a bound without a number bounds nothing",
        anchor: "#quantity",
        resources: vec![
            condition("without", json!({"low": {"unit": "a"}})),
            condition("low", json!({"low": {"value": 5}})),
            observation("less", json!({"valueQuantity": {"value": 100, "comparator": "<"}})),
            observation("at-most", json!({"valueQuantity": {"value": 100, "comparator": "<="}})),
        ],
        cases: &[
            ("Condition?onset-age=gt1", &["low"], &["range without a value"]),
            ("Observation?value-quantity=ge100", &[], &["comparator that excludes"]),
            (
                "Observation?value-quantity=ap100",
                &["at-most", "less"],
                &["comparator that excludes"],
            ),
            ("Observation?value-quantity=eb100", &["less"], &["comparator that excludes"]),
            ("Observation?value-quantity=lt100", &["at-most", "less"], &[]),
        ],
    }
}

/// The server knew identifiers of references by their value and by both parts only, and those of `subject` for `patient` too.
fn identifiers() -> Theme {
    let about = |id, subject: Value| observation(id, json!({"subject": subject}));
    Theme {
        name: "identifiers of references have the forms of tokens",
        anchor: "#reference",
        resources: vec![
            about("both", json!({"identifier": {"system": "urn:i", "value": "1"}})),
            about("value", json!({"identifier": {"value": "1"}})),
            about("system", json!({"identifier": {"system": "urn:i"}})),
            about(
                "of-patient",
                json!({"type": "Patient", "identifier": {"system": "urn:i", "value": "1"}}),
            ),
        ],
        cases: &[
            ("Observation?subject:identifier=urn:i|1", &["both", "of-patient"], &[]),
            ("Observation?subject:identifier=1", &["both", "of-patient", "value"], &[]),
            (
                "Observation?subject:identifier=|1",
                &["value"],
                &["identifier by system or without"],
            ),
            (
                "Observation?subject:identifier=urn:i|",
                &["both", "of-patient", "system"],
                &["identifier by system or without"],
            ),
            (
                "Observation?patient:identifier=1",
                &["of-patient"],
                &["identifier by a parameter of one type"],
            ),
        ],
    }
}

/// The server joined the parameters that the components refer to, not the components' own expressions.
fn components() -> Theme {
    Theme {
        name: "a component reads its own expression",
        anchor: "#composite",
        resources: vec![
            observation("string", json!({"valueString": "uno"})),
            observation("concept", json!({"valueCodeableConcept": {"text": "uno"}})),
        ],
        cases: &[
            ("Observation?value-string=uno", &["concept", "string"], &[]),
            (
                "Observation?code-value-string=a$uno",
                &["string"],
                &["component by its own expression"],
            ),
        ],
    }
}

#[test]
fn what_random_searches_found_stays_right() {
    check(&[
        slashes(),
        instants(),
        presence(),
        deceased(),
        includes(),
        bounds(),
        identifiers(),
        components(),
    ]);
}
