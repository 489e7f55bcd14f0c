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

/// The server found who is not said to be deceased by `deceased=false`, and sorted them as those without a value.
fn sorted_as_found() -> Theme {
    let patient = |id, members: Value| with("Patient", id, members);
    let reached = |id, of: &str, born: &str| {
        patient(
            id,
            json!({"birthDate": born, "telecom": [{"system": "phone", "use": of, "value": "1"}]}),
        )
    };
    Theme {
        name: "what is found as false is sorted as false",
        anchor: "#sort",
        resources: vec![
            patient("s-yes", json!({"deceasedBoolean": true})),
            patient("s-silent", json!({"gender": "male"})),
            patient("s-no", json!({"deceasedBoolean": false})),
            // The use of a number is no part of the token: whoever has the same number is sorted by the next key.
            reached("s-home", "home", "2000"),
            reached("s-work", "work", "1990"),
        ],
        cases: &[
            ("Patient?_sort=deceased", &["s-home", "s-no", "s-silent", "s-work", "s-yes"], &[]),
            ("Patient?_sort=-deceased", &["s-home", "s-no", "s-silent", "s-work", "s-yes"], &[]),
            ("Patient?phone=1&_sort=telecom,birthdate", &["s-home", "s-work"], &[]),
            // The table of the anchor #token gives a ContactPoint no system; the server took its use for one.
            ("Patient?phone=|1", &["s-home", "s-work"], &[]),
            ("Patient?phone=home|1", &[], &[]),
        ],
    }
}

/// The server took `ss` for `sb`, and the other way round.
fn subsumed() -> Theme {
    let system = "http://acme.org/animals";
    let of = |id, code: &str| observation(id, json!({"code": {"coding": [{"system": system, "code": code}]}}));
    Theme {
        name: "a filter by what subsumes says which subsumes the other",
        anchor: "_filter.html#ops",
        resources: vec![
            with(
                "CodeSystem",
                "animals",
                json!({"status": "active", "content": "complete", "url": system, "concept": [
                {"code": "animal", "concept": [{"code": "dog", "concept": [{"code": "spaniel"}]}]}]}),
            ),
            of("animal", "animal"),
            of("dog", "dog"),
            of("spaniel", "spaniel"),
        ],
        cases: &[
            // "True if the value subsumes a concept in the set"
            ("Observation?_filter=code ss http://acme.org/animals|dog", &["dog", "spaniel"], &[]),
            // "True if the value is subsumed by a concept in the set"
            ("Observation?_filter=code sb http://acme.org/animals|dog", &["animal", "dog"], &[]),
        ],
    }
}

/// The server found by `patient` each URN that `subject` has, which need not be a patient's.
fn of_no_type() -> Theme {
    let about = |id, subject: Value| observation(id, json!({"subject": subject}));
    let urn = "urn:uuid:6f0e1c1a-0000-4000-8000-0000000000aa";
    Theme {
        name: "a reference that does not tell its type is none to a patient",
        anchor: "#reference",
        resources: vec![
            about("untold", json!({"reference": urn})),
            about("told", json!({"reference": urn, "type": "Patient"})),
            about("of-group", json!({"reference": urn, "type": "Group"})),
        ],
        cases: &[
            (
                "Observation?subject=urn:uuid:6f0e1c1a-0000-4000-8000-0000000000aa",
                &["of-group", "told", "untold"],
                &[],
            ),
            ("Observation?patient=urn:uuid:6f0e1c1a-0000-4000-8000-0000000000aa", &["told"], &[]),
            ("Observation?patient:missing=true", &["of-group", "untold"], &[]),
        ],
    }
}

/// The server compared them with their case.
fn cased() -> Theme {
    let set = |id, version: &str| {
        with(
            "ValueSet",
            id,
            json!({"status": "active", "url": "http://acme.org/cased", "version": version}),
        )
    };
    Theme {
        name: "strings that are searched as tokens have no case",
        anchor: "#token",
        resources: vec![
            set("lower", "rossi"),
            set("upper", "Rossi"),
            set("second", "2"),
            with("ValueSet", "unversioned", json!({"status": "active"})),
        ],
        cases: &[
            ("ValueSet?version=Rossi", &["lower", "upper"], &["token of a string"]),
            ("ValueSet?version=rossi", &["lower", "upper"], &["token of a string"]),
            ("ValueSet?version:not=Rossi", &["second", "unversioned"], &["token of a string"]),
            ("ValueSet?version:not=rossi", &["second", "unversioned"], &["token of a string"]),
        ],
    }
}

/// The server knew no path that leaves the type out, as `name | alias` does.
fn unprefixed() -> Theme {
    let plan = |id, members: Value| with("InsurancePlan", id, members);
    Theme {
        name: "a path may leave its type out",
        anchor: "paramregistry.html",
        resources: vec![
            plan("p-name", json!({"name": "Salute"})),
            plan("p-alias", json!({"name": "Vita", "alias": ["Salute e vita"]})),
            plan("p-none", json!({"status": "draft", "alias": ["Casa"]})),
        ],
        cases: &[
            ("InsurancePlan?name=salute", &["p-alias", "p-name"], &[]),
            ("InsurancePlan?name:exact=Vita", &["p-alias"], &[]),
            ("InsurancePlan?_sort=-name", &["p-alias", "p-name", "p-none"], &[]),
        ],
    }
}

/// The server sorted a code by its system as it is written, and by one of its spellings where it read codes in their order.
fn one_system() -> Theme {
    let coded = |id, system: &str| {
        with(
            "Condition",
            id,
            json!({"subject": {"display": "x"}, "bodySite": [{"coding": [{"system": system, "code": "x"}]}]}),
        )
    };
    Theme {
        name: "each spelling of a system has the same place in an order",
        anchor: "#sort",
        resources: vec![
            coded("loinc", "http://loinc.org"),
            coded("snomed", "http://snomed.info/sct"),
            coded("loinc-oid", "urn:oid:2.16.840.1.113883.6.1"),
        ],
        cases: &[("Condition?_sort=body-site", &["loinc", "loinc-oid", "snomed"], &[])],
    }
}

/// The server left out what has the code when the other part of the composite named a system alone.
fn system_alone() -> Theme {
    let group = |id: &str, value: Value| {
        let mut characteristic = value;
        characteristic["code"] = json!({"coding": [{"system": "urn:s", "code": "a"}]});
        characteristic["exclude"] = json!(false);
        with(
            "Group",
            id,
            json!({"type": "person", "actual": true, "characteristic": [characteristic]}),
        )
    };
    Theme {
        name: "a part of a composite may be a system alone",
        anchor: "#composite",
        resources: vec![
            group(
                "coded",
                json!({"valueCodeableConcept": {"coding": [{"system": "urn:v", "code": "x"}]}}),
            ),
            group(
                "other",
                json!({"valueCodeableConcept": {"coding": [{"system": "urn:w", "code": "x"}]}}),
            ),
            group("plain", json!({"valueBoolean": true})),
        ],
        cases: &[
            ("Group?characteristic-value=urn:s|a$urn:v|", &["coded"], &[]),
            ("Group?characteristic-value=urn:s|a$urn:u|", &[], &[]),
        ],
    }
}

/// The evaluator put what is more than a number where the number is.
fn beyond() -> Theme {
    Theme {
        name: "what is more than a number comes after it",
        anchor: "#sort",
        resources: vec![
            observation("b-a", json!({"valueQuantity": {"value": 100, "comparator": ">"}})),
            observation("b-m", json!({"valueQuantity": {"value": 100, "comparator": ">="}})),
            observation("b-z", json!({"valueQuantity": {"value": 100}})),
        ],
        cases: &[
            ("Observation?_sort=-value-quantity,-_id", &["b-a", "b-m", "b-z"], &[]),
            ("Observation?_sort=value-quantity,-_id", &["b-a", "b-m", "b-z"], &[]),
        ],
    }
}

/// The server found no identifier of a reference to what is contained by a parameter of one type, sorted by `#id` where that is a canonical, which
/// says nothing outside of the resource; and the evaluator did not take `#` for the container.
fn contained() -> Theme {
    let about = |id, of: &str| {
        let subject = json!({"reference": "#s", "identifier": {"system": "urn:i", "value": "1"}});
        let contained = json!([{"resourceType": of, "id": "s", "gender": "male", "type": "person", "actual": true}]);
        let mut observation = observation(id, json!({"subject": subject, "contained": contained}));
        let others: &[&str] = if of == "Patient" { &["type", "actual"] } else { &["gender"] };
        for name in others {
            observation["contained"][0].as_object_mut().expect("a resource").shift_remove(*name);
        }
        observation
    };
    let plan = |id, of: &str| {
        let contained = json!([{"resourceType": "PlanDefinition", "id": "p", "status": "draft", "title": "Piano"}]);
        let mut plan = json!({"status": "active", "intent": "plan", "subject": {"display": "x"}, "instantiatesCanonical": [of]});
        if of == "#p" {
            plan["contained"] = contained;
        }
        with("CarePlan", id, plan)
    };
    let patient = json!([{"resourceType": "Patient", "id": "p", "link": [{"other": {"reference": "#"}, "type": "seealso"}]}]);
    Theme {
        name: "a reference to what is contained has the type of that",
        anchor: "#contained",
        resources: vec![
            about("c-patient", "Patient"),
            about("c-group", "Group"),
            plan("c-inside", "#p"),
            plan("c-outside", "http://acme.org/plan"),
            with(
                "RelatedPerson",
                "c-person",
                json!({"patient": {"reference": "#p"}, "contained": patient}),
            ),
        ],
        cases: &[
            ("Observation?patient:identifier=urn:i|1", &["c-patient"], &[]),
            ("Observation?subject:identifier=urn:i|1", &["c-group", "c-patient"], &[]),
            ("Observation?patient:missing=true", &["c-group"], &[]),
            ("Observation?patient.gender=male", &["c-patient"], &[]),
            (
                "Patient?gender=male&_contained=true&_containedType=contained",
                &["Observation/c-patient#s"],
                &[],
            ),
            ("Patient?gender=male&_contained=both", &["c-patient"], &[]),
            ("CarePlan?instantiates-canonical.title=piano", &["c-inside"], &[]),
            ("CarePlan?_sort=instantiates-canonical", &["c-inside", "c-outside"], &[]),
            ("RelatedPerson?patient.link=RelatedPerson/c-person", &["c-person"], &[]),
            (
                "Patient?link=RelatedPerson/c-person&_contained=true&_containedType=contained",
                &["RelatedPerson/c-person#p"],
                &[],
            ),
            (
                "Patient?link:RelatedPerson.patient:missing=false&_contained=true",
                &["c-person"],
                &[],
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
        sorted_as_found(),
        subsumed(),
        of_no_type(),
        cased(),
        unprefixed(),
        system_alone(),
        one_system(),
        beyond(),
        contained(),
    ]);
}
