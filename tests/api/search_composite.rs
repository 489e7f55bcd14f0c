//! Composites: values of one element. Spec: <https://hl7.org/fhir/R4/search.html#composite>,
//! <https://hl7.org/fhir/R4/observation.html#search>.

use crate::support::server::ids_of;
use crate::support::world::World;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;

fn concept(code: &str) -> Value {
    match code.split_once('|') {
        Some((system, code)) => json!({"coding": [{"system": system, "code": code}]}),
        None => json!({"coding": [{"code": code}]}),
    }
}

fn quantity(value: f64, code: &str) -> Value {
    json!({"value": value, "system": "http://unitsofmeasure.org", "code": code})
}

fn panel(components: &[(&str, f64)]) -> Value {
    let component = |(code, value): &(&str, f64)| json!({"code": concept(code), "valueQuantity": quantity(*value, "mm[Hg]")});
    json!({"resourceType": "Observation", "status": "final", "code": concept("urn:l|85354-9"),
        "component": components.iter().map(component).collect::<Vec<_>>()})
}

#[test]
fn a_code_and_a_quantity_are_of_the_same_component() {
    let world = World::new();
    world.load(vec![
        ("normal", panel(&[("urn:l|8480-6", 120.0), ("urn:l|8462-4", 80.0)])),
        ("high", panel(&[("urn:l|8480-6", 160.0), ("urn:l|8462-4", 100.0)])),
        ("swapped", panel(&[("urn:l|8480-6", 80.0), ("urn:l|8462-4", 160.0)])),
        ("other-system", panel(&[("urn:m|8480-6", 160.0)])),
        ("no-system", panel(&[("8480-6", 160.0)])),
        // The code of one component and the system of another.
        ("mixed", panel(&[("urn:m|8480-6", 160.0), ("urn:l|8480-6", 100.0)])),
        (
            "alone",
            json!({"resourceType": "Observation", "status": "final", "code": concept("urn:l|8480-6"), "valueQuantity": quantity(160.0, "mm[Hg]")}),
        ),
        (
            "two-codings",
            json!({"resourceType": "Observation", "status": "final", "code": concept("urn:l|85354-9"), "component": [{
                "code": {"coding": [{"system": "urn:x", "code": "sys"}, {"system": "urn:l", "code": "8480-6"}, {"system": "urn:only"}]},
                "valueQuantity": quantity(21.5, "kPa")}]}),
        ),
        ("no-value", json!({"resourceType": "Observation", "status": "final", "code": concept("urn:l|8480-6"), "component": [{"code": concept("urn:l|8480-6")}]})),
    ]);
    world.check(&[
        ("Observation?component-code-value-quantity=urn:l|8480-6$gt140", &["high"]),
        (
            "Observation?component-code-value-quantity=8480-6$gt140",
            &["high", "mixed", "no-system", "other-system"],
        ),
        ("Observation?component-code-value-quantity=|8480-6$gt140", &["no-system"]),
        (
            "Observation?component-code-value-quantity=urn:m|8480-6$gt140",
            &["mixed", "other-system"],
        ),
        ("Observation?component-code-value-quantity=urn:l|8480-6$100", &["mixed"]),
        ("Observation?component-code-value-quantity=urn:m|$gt140", &["mixed", "other-system"]),
        ("Observation?component-code-value-quantity=urn:only|$gt20", &["two-codings"]),
        ("Observation?component-code-value-quantity=urn:x|sys$gt20", &["two-codings"]),
        (
            "Observation?component-code-value-quantity=8480-6$gt140|http://unitsofmeasure.org|mm[Hg]",
            &["high", "mixed", "no-system", "other-system", "two-codings"],
        ),
        (
            "Observation?component-code-value-quantity=8480-6$21.5|http://unitsofmeasure.org|kPa",
            &["two-codings"],
        ),
        ("Observation?component-code-value-quantity=8480-6$21.5||kPa", &["two-codings"]),
        ("Observation?component-code-value-quantity=8480-6$gt140||kPa", &[]),
        ("Observation?combo-code-value-quantity=urn:l|8480-6$gt140", &["alone", "high"]),
        ("Observation?combo-code-value-quantity=urn:l|8480-6$160", &["alone", "high"]),
        (
            "Observation?combo-code-value-quantity=urn:l|8480-6$gt140|http://unitsofmeasure.org|mm[Hg]",
            &["alone", "high", "two-codings"],
        ),
        ("Observation?code-value-quantity=urn:l|8480-6$gt140", &["alone"]),
        ("Observation?code-value-quantity=urn:l|85354-9$gt140", &[]),
        // Alternatives, and two composites of one resource.
        (
            "Observation?combo-code-value-quantity=urn:l|8480-6$120,urn:l|8462-4$160",
            &["normal", "swapped"],
        ),
        (
            "Observation?component-code-value-quantity=urn:l|8480-6$gt140&component-code-value-quantity=urn:l|8462-4$gt90",
            &["high"],
        ),
        // The values by themselves stay as they are: further codes add nothing.
        (
            "Observation?component-value-quantity=gt140",
            &["high", "mixed", "no-system", "other-system", "swapped"],
        ),
        ("Observation?combo-value-quantity=21.5", &["two-codings"]),
    ]);
    world.put("high", panel(&[("urn:l|8480-6", 120.0)]));
    world.check(&[("Observation?component-code-value-quantity=urn:l|8480-6$gt140", &[])]);
}

#[test]
fn two_codes_are_of_the_same_component() {
    let world = World::new();
    let coded = |components: &[(&str, &str)]| {
        let component = |(code, value): &(&str, &str)| json!({"code": concept(code), "valueCodeableConcept": concept(value)});
        json!({"resourceType": "Observation", "status": "final", "code": concept("urn:l|panel"), "component": components.iter().map(component).collect::<Vec<_>>()})
    };
    world.load(vec![
        ("a", coded(&[("urn:l|colour", "urn:v|red"), ("urn:l|shape", "urn:v|round")])),
        ("b", coded(&[("urn:l|colour", "urn:v|round"), ("urn:l|shape", "urn:v|red")])),
        ("c", coded(&[("colour", "urn:w|red")])),
        ("d", json!({"resourceType": "Observation", "status": "final", "code": concept("urn:l|colour"), "valueCodeableConcept": concept("urn:v|red")})),
    ]);
    world.check(&[
        ("Observation?component-code-value-concept=urn:l|colour$urn:v|red", &["a"]),
        ("Observation?component-code-value-concept=colour$red", &["a", "c"]),
        ("Observation?component-code-value-concept=urn:l|$urn:v|red", &["a", "b"]),
        ("Observation?component-code-value-concept=|colour$urn:w|", &["c"]),
        ("Observation?combo-code-value-concept=urn:l|colour$urn:v|red", &["a", "d"]),
        ("Observation?combo-code-value-concept=colour$red", &["a", "c", "d"]),
        ("Observation?code-value-concept=urn:l|colour$urn:v|red", &["d"]),
    ]);
}

#[test]
fn composites_of_the_resource_itself_take_the_datatypes_that_they_name() {
    let world = World::new();
    let observation = |member: &str, value: Value| {
        let mut observation = json!({"resourceType": "Observation", "status": "final", "code": concept("urn:l|a")});
        observation[member] = value;
        observation
    };
    world.load(vec![
        ("string", observation("valueString", json!("Positivo forte"))),
        ("concept", observation("valueCodeableConcept", json!({"text": "Positivo"}))),
        ("date", observation("valueDateTime", json!("2024-05-01"))),
        (
            "period",
            observation("valuePeriod", json!({"start": "2024-05-01", "end": "2024-06-01"})),
        ),
        ("quantity", observation("valueQuantity", quantity(5.0, "mg"))),
        (
            "samples",
            observation(
                "valueSampledData",
                json!({"origin": {"value": 5}, "period": 1, "dimensions": 1, "data": "0"}),
            ),
        ),
    ]);
    world.check(&[
        ("Observation?code-value-string=urn:l|a$positivo", &["string"]),
        ("Observation?value-string=positivo", &["concept", "string"]),
        ("Observation?code-value-string=urn:l|b$positivo", &[]),
        ("Observation?code-value-date=urn:l|a$2024-05-01", &["date"]),
        ("Observation?code-value-date=a$ge2024-05-10", &["period"]),
        // `value.as(Quantity)`: samples are found by value-quantity alone.
        ("Observation?code-value-quantity=a$5", &["quantity"]),
        ("Observation?value-quantity=5", &["quantity", "samples"]),
    ]);
}

#[test]
fn use_contexts_are_joined_by_value_and_by_quantity() {
    let world = World::new();
    let value_set = |contexts: Value| json!({"resourceType": "ValueSet", "status": "active", "useContext": contexts});
    let context = |code: &str, member: &str, value: Value| {
        let mut context = json!({"code": {"system": "urn:t", "code": code}});
        context[member] = value;
        context
    };
    world.load(vec![
        (
            "a",
            value_set(json!([
                context(
                    "age",
                    "valueRange",
                    json!({"low": quantity(18.0, "a"), "high": quantity(65.0, "a")})
                ),
                context("focus", "valueCodeableConcept", concept("urn:f|x")),
            ])),
        ),
        (
            "b",
            value_set(json!([
                context("weight", "valueQuantity", quantity(18.0, "kg")),
                context("age", "valueCodeableConcept", concept("urn:f|x")),
            ])),
        ),
        ("c", value_set(json!([context("weight", "valueQuantity", quantity(18000.0, "g"))]))),
    ]);
    world.check(&[
        ("ValueSet?context-type-value=urn:t|focus$urn:f|x", &["a"]),
        ("ValueSet?context-type-value=urn:t|age$urn:f|x", &["b"]),
        ("ValueSet?context-type-quantity=urn:t|age$gt20", &["a"]),
        ("ValueSet?context-type-quantity=age$lt18", &[]),
        (
            "ValueSet?context-type-quantity=urn:t|weight$18|http://unitsofmeasure.org|kg",
            &["b", "c"],
        ),
        ("ValueSet?context-type-quantity=urn:t|weight$gt100", &["c"]),
    ]);
}

#[test]
fn groups_documents_and_sequences_have_their_composites() {
    let world = World::new();
    let group =
        |characteristics: Value| json!({"resourceType": "Group", "type": "person", "actual": true, "characteristic": characteristics});
    let document = |relations: Value| json!({"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": {"contentType": "text/plain"}}], "relatesTo": relations});
    let relation = |code: &str, target: &str| json!({"code": code, "target": {"reference": format!("DocumentReference/{target}")}});
    let sequence = |chromosome: &str, window: (f64, f64), variants: &[(i64, i64)]| {
        let variant = |(start, end): &(i64, i64)| json!({"start": start, "end": end});
        json!({"resourceType": "MolecularSequence", "coordinateSystem": 0,
            "referenceSeq": {"chromosome": concept(chromosome), "referenceSeqId": concept(&format!("urn:s|{chromosome}")), "windowStart": window.0 as i64, "windowEnd": window.1 as i64},
            "variant": variants.iter().map(variant).collect::<Vec<_>>()})
    };
    world.load(vec![
        (
            "g1",
            group(json!([
                {"code": concept("urn:g|smoker"), "valueBoolean": true, "exclude": false},
                {"code": concept("urn:g|gender"), "valueCodeableConcept": concept("urn:v|female"), "exclude": false},
            ])),
        ),
        (
            "g2",
            group(json!([
                {"code": concept("urn:g|smoker"), "valueBoolean": false, "exclude": false},
                {"code": concept("urn:g|adult"), "valueBoolean": true, "exclude": false},
            ])),
        ),
        ("d1", document(json!([relation("replaces", "~x"), relation("appends", "~y")]))),
        ("d2", document(json!([relation("appends", "~x"), relation("replaces", "~y")]))),
        ("s1", sequence("1", (100.0, 200.0), &[(110, 120), (150, 160)])),
        ("s2", sequence("1", (300.0, 400.0), &[(110, 160)])),
        ("s3", sequence("2", (100.0, 200.0), &[(150, 155)])),
    ]);
    world.check(&[
        ("Group?characteristic-value=urn:g|smoker$true", &["g1"]),
        ("Group?characteristic-value=smoker$false", &["g2"]),
        ("Group?characteristic-value=urn:g|gender$female", &["g1"]),
        ("Group?characteristic-value=urn:g|gender$true", &[]),
        ("DocumentReference?relationship=DocumentReference/~x$replaces", &["d1"]),
        ("DocumentReference?relationship=~x$appends", &["d2"]),
        ("DocumentReference?relationship=DocumentReference/~y$replaces", &["d2"]),
        ("MolecularSequence?chromosome-variant-coordinate=1$gt140$lt170", &["s1"]),
        ("MolecularSequence?chromosome-variant-coordinate=1$110$160", &["s2"]),
        ("MolecularSequence?chromosome-variant-coordinate=2$ge150$le160", &["s3"]),
        ("MolecularSequence?referenceseqid-variant-coordinate=urn:s|1$110$120", &["s1"]),
        ("MolecularSequence?chromosome-window-coordinate=1$100$200", &["s1"]),
        ("MolecularSequence?chromosome-window-coordinate=1$ge100$le400", &["s1", "s2"]),
        ("MolecularSequence?referenceseqid-window-coordinate=urn:s|2$lt150$gt150", &["s3"]),
    ]);
}

#[test]
fn composites_have_no_modifiers_and_all_of_their_parts() {
    let server = crate::support::server::shared();
    for search in [
        "component-code-value-quantity:missing=true",
        "component-code-value-quantity:not=a$5",
        "component-code-value-quantity=a",
        "component-code-value-quantity=a$",
        "component-code-value-quantity=$5",
        "component-code-value-quantity=a$5$6",
        "component-code-value-quantity=a$x",
        "component-code-value-quantity=|$5",
        "code-value-quantity:exact=a$5",
        "code-value-concept=a",
    ] {
        server.get(&format!("/Observation?{search}")).refused(400);
    }
}

/// More values than are gathered, so that pages are read from the rows in order; the newest do not match, so that the first look finds nothing.
#[test]
fn pages_of_many_values_are_whole_and_in_order() {
    let world = World::new();
    let code = unique();
    let day = chrono::NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();
    let resource = |i: usize| {
        let value = if i < 2_100 { 150.0 } else { 90.0 };
        // Twenty of a day, in the order of their ids.
        let day = day + chrono::Days::new(i as u64 / 20);
        json!({"resourceType": "Observation", "id": format!("{code}-{i:05}"), "status": "final", "code": concept(&format!("urn:l|{code}")),
            "effectiveDateTime": day.to_string(), "valueQuantity": quantity(value, "mm[Hg]")})
    };
    for first in (0..3_300).step_by(300) {
        let entry = |i: usize| json!({"resource": resource(i), "request": {"method": "PUT", "url": format!("Observation/{code}-{i:05}")}});
        world
            .server
            .bundle("transaction", (first..first + 300).map(entry).collect())
            .expect(200);
    }
    let expected: Vec<String> = (0..2_100).rev().map(|i| format!("{code}-{i:05}")).collect();
    for sort in ["", "&_sort=-date"] {
        for search in ["code-value-quantity=urn:l|", "combo-code-value-quantity="] {
            let search = format!("/Observation?{search}{code}$gt140&_count=300{sort}");
            assert!(ids_of(&world.server.pages(&search)) == expected, "{search}");
        }
    }
    // Beside another condition, and where the newest match.
    let search = format!("/Observation?code-value-quantity={code}$lt100&date=ge2000-05&_count=100");
    let expected: Vec<String> = (2_420..3_300).rev().map(|i| format!("{code}-{i:05}")).collect();
    assert!(ids_of(&world.server.pages(&search)) == expected, "{search}");
    assert_eq!(world.server.count(&format!("Observation?code-value-quantity={code}$gt140")), 2_100);
}
