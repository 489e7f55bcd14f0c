//! Search by quantity: units that measure the same, and prefixes over values, ranges, comparators and samples.
//! Spec: <https://hl7.org/fhir/R4/search.html#quantity>, <https://hl7.org/fhir/R4/search.html#prefix>, <https://ucum.org/ucum>.

use crate::support::world::World;
use serde_json::Value;

const UCUM: &str = "http://unitsofmeasure.org";

fn observation(member: &str, value: &str) -> Value {
    serde_json::from_str(&format!(
        r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"{member}":{value}}}"#
    ))
    .unwrap()
}

/// The text of the decimal, not a number of ours.
fn measured(value: &str, code: &str) -> Value {
    observation(
        "valueQuantity",
        &format!(r#"{{"value":{value},"system":"{UCUM}","code":"{code}"}}"#),
    )
}

#[test]
fn a_quantity_is_found_in_every_unit_that_measures_the_same() {
    let world = World::new();
    world.load(vec![
        ("mg", measured("5.4", "mg")),
        ("g", measured("0.0054", "g")),
        ("kg", measured("0.0000054", "kg")),
        ("ug", measured("5400", "ug")),
        ("lower-edge", measured("0.00535", "g")),
        ("upper-edge", measured("0.00545", "g")),
        ("ml", measured("5.4", "mL")),
        ("more", measured("0.006", "g")),
        (
            "other",
            observation("valueQuantity", r#"{"value":5.4,"system":"urn:other","code":"mg"}"#),
        ),
        ("text", observation("valueQuantity", r#"{"value":5.4,"unit":"mg"}"#)),
        (
            "oid",
            observation(
                "valueQuantity",
                r#"{"value":0.0054,"system":"urn:oid:2.16.840.1.113883.6.8","code":"g"}"#,
            ),
        ),
    ]);
    world.check(&[
        // [5.35, 5.45) mg: <https://hl7.org/fhir/R4/search.html#quantity>
        (
            "Observation?value-quantity=5.4|http://unitsofmeasure.org|mg",
            &["g", "kg", "lower-edge", "mg", "oid", "ug"],
        ),
        // 0.0054 (+/-0.000005) g
        (
            "Observation?value-quantity=5.40e-3|http://unitsofmeasure.org|g",
            &["g", "kg", "mg", "oid", "ug"],
        ),
        (
            "Observation?value-quantity=gt5.4|http://unitsofmeasure.org|mg",
            &["more", "upper-edge"],
        ),
        (
            "Observation?value-quantity=ge5.45|http://unitsofmeasure.org|mg",
            &["more", "upper-edge"],
        ),
        (
            "Observation?value-quantity=lt0.0000054|http://unitsofmeasure.org|kg",
            &["lower-edge"],
        ),
        (
            "Observation?value-quantity=ne5.4|http://unitsofmeasure.org|mg",
            &["more", "upper-edge"],
        ),
        (
            "Observation?value-quantity=ap6|http://unitsofmeasure.org|mg",
            &["g", "kg", "mg", "more", "oid", "ug", "upper-edge"],
        ),
        ("Observation?value-quantity=5.4|http://unitsofmeasure.org|mL", &["ml"]),
        ("Observation?value-quantity=5.4|http://unitsofmeasure.org|cm3", &["ml"]),
        // Other systems have their own units, whatever these are called.
        ("Observation?value-quantity=5.4|urn:other|mg", &["other"]),
        // Without a system the text counts.
        ("Observation?value-quantity=5.4||mg", &["mg", "other", "text"]),
        ("Observation?value-quantity=0.0054||g", &["g", "lower-edge", "oid"]),
        ("Observation?value-quantity=5.4", &["mg", "ml", "other", "text"]),
        (
            "Observation?value-quantity=5.4|http://unitsofmeasure.org|mg,5.4||mL",
            &["g", "kg", "lower-edge", "mg", "ml", "oid", "ug"],
        ),
    ]);
}

#[test]
fn units_are_converted_as_ucum_says() {
    let world = World::new();
    world.load(vec![
        ("celsius", measured("37.0", "Cel")),
        ("fahrenheit", measured("98.6", "[degF]")),
        ("kelvin", measured("310.15", "K")),
        ("fever", measured("38.2", "Cel")),
        ("mmhg", measured("120", "mm[Hg]")),
        ("kpa", measured("16", "kPa")),
        ("units", measured("5", "[IU]/L")),
        ("milliunits", measured("5", "m[IU]/mL")),
        ("arbitrary", measured("5", "[arb'U]/L")),
        ("ph", measured("7.4", "[pH]")),
        ("odd", measured("7.4", "pi[cco]")),
        ("percent", measured("50", "%")),
        ("ratio", measured("0.5", "1")),
        ("beats", measured("72", "/min")),
        ("annotated", measured("72", "{beats}/min")),
        ("hertz", measured("1.2", "Hz")),
    ]);
    world.check(&[
        (
            "Observation?value-quantity=37.0|http://unitsofmeasure.org|Cel",
            &["celsius", "fahrenheit", "kelvin"],
        ),
        (
            "Observation?value-quantity=98.6|http://unitsofmeasure.org|[degF]",
            &["celsius", "fahrenheit", "kelvin"],
        ),
        ("Observation?value-quantity=gt37|http://unitsofmeasure.org|Cel", &["fever"]),
        (
            "Observation?value-quantity=ge37|http://unitsofmeasure.org|Cel",
            &["celsius", "fahrenheit", "fever", "kelvin"],
        ),
        ("Observation?value-quantity=gt15|http://unitsofmeasure.org|kPa", &["kpa", "mmhg"]),
        ("Observation?value-quantity=16|http://unitsofmeasure.org|kPa", &["kpa", "mmhg"]),
        ("Observation?value-quantity=16.0|http://unitsofmeasure.org|kPa", &["kpa", "mmhg"]),
        ("Observation?value-quantity=16.00|http://unitsofmeasure.org|kPa", &["kpa", "mmhg"]),
        ("Observation?value-quantity=16.000|http://unitsofmeasure.org|kPa", &["kpa"]),
        (
            "Observation?value-quantity=5|http://unitsofmeasure.org|[IU]/L",
            &["milliunits", "units"],
        ),
        ("Observation?value-quantity=5|http://unitsofmeasure.org|[arb'U]/L", &["arbitrary"]),
        ("Observation?value-quantity=7.4|http://unitsofmeasure.org|[pH]", &["ph"]),
        // What UCUM does not know is compared as text.
        ("Observation?value-quantity=7.4|http://unitsofmeasure.org|pi[cco]", &["odd"]),
        ("Observation?value-quantity=0.50|http://unitsofmeasure.org|1", &["percent", "ratio"]),
        (
            "Observation?value-quantity=72|http://unitsofmeasure.org|/min",
            &["annotated", "beats", "hertz"],
        ),
        ("Observation?value-quantity=72|http://unitsofmeasure.org|[in_i'H2O]", &[]),
    ]);
}

#[test]
fn the_code_and_the_text_of_a_unit_are_both_found() {
    let world = World::new();
    world.load(vec![
        (
            "both",
            observation(
                "valueQuantity",
                r#"{"value":120,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}"#,
            ),
        ),
        ("code", measured("120", "mm[Hg]")),
        ("text", observation("valueQuantity", r#"{"value":120,"unit":"mmHg"}"#)),
        (
            "bare-code",
            observation("valueQuantity", r#"{"value":120,"code":"mmHg","unit":"millimetri"}"#),
        ),
        ("none", observation("valueQuantity", r#"{"value":120}"#)),
    ]);
    world.check(&[
        ("Observation?value-quantity=120||mmHg", &["bare-code", "both", "text"]),
        ("Observation?value-quantity=120||mm[Hg]", &["both", "code"]),
        ("Observation?value-quantity=120||millimetri", &["bare-code"]),
        ("Observation?value-quantity=120|http://unitsofmeasure.org|mm[Hg]", &["both", "code"]),
        ("Observation?value-quantity=120", &["bare-code", "both", "code", "none", "text"]),
    ]);
}

#[test]
fn a_new_unit_is_found_at_once_and_a_changed_one_no_longer() {
    let world = World::new();
    world.put("a", measured("2", "ug"));
    let search = "Observation?value-quantity=2|http://unitsofmeasure.org|ug";
    world.check(&[(search, &["a"])]);
    world.put("b", measured("0.002", "mg"));
    world.check(&[(search, &["a", "b"])]);
    world.put("a", measured("2", "mg"));
    world.check(&[(search, &["b"])]);
    let delete = world.server.delete(&format!("/Observation/{}", world.name("~b")));
    assert!(matches!(delete.status, 200 | 204), "{}", delete.status);
    world.check(&[(search, &[])]);
}

/// Of a search for 5: the table of <https://hl7.org/fhir/R4/search.html#prefix> over explicit ranges.
#[test]
fn prefixes_compare_ranges_comparators_and_samples_as_the_table_says() {
    let world = World::new();
    let quantity = |comparator: &str| observation("valueQuantity", &format!(r#"{{"value":5,"comparator":"{comparator}"}}"#));
    let samples = |data: &str| {
        observation(
            "valueSampledData",
            &format!(r#"{{"origin":{{"value":1}},"period":10,"factor":2,"lowerLimit":-1,"upperLimit":4,"dimensions":1,"data":"{data}"}}"#),
        )
    };
    let risk = |low: &str, high: &str| -> Value {
        serde_json::from_str(&format!(
            r#"{{"resourceType":"RiskAssessment","status":"final","subject":{{"display":"x"}},"prediction":[{{"probabilityRange":{{{low}{}{high}}}}}]}}"#,
            if low.is_empty() || high.is_empty() { "" } else { "," }
        ))
        .unwrap()
    };
    world.load(vec![
        ("below", quantity("<")),
        ("to", quantity("<=")),
        ("above", quantity(">")),
        ("from", quantity(">=")),
        ("exact", observation("valueQuantity", r#"{"value":5}"#)),
        // 1 + 2 * (1..2) is 3 to 5
        ("samples-to", samples("1 2 E 1.5")),
        // 1 + 2 * 2 is 5; beyond the upper limit is 9 and more
        ("samples-up", samples("2 U")),
        ("samples-none", samples("E E")),
        ("r3-5", risk(r#""low":{"value":3}"#, r#""high":{"value":5}"#)),
        ("r5-7", risk(r#""low":{"value":5}"#, r#""high":{"value":7}"#)),
        ("r3-7", risk(r#""low":{"value":3}"#, r#""high":{"value":7}"#)),
        ("r5-", risk(r#""low":{"value":5}"#, "")),
        ("r-5", risk("", r#""high":{"value":5}"#)),
        ("r5-5", risk(r#""low":{"value":5}"#, r#""high":{"value":5}"#)),
    ]);
    world.check(&[
        ("Observation?value-quantity=5", &["exact"]),
        (
            "Observation?value-quantity=ne5",
            &["above", "below", "from", "samples-to", "samples-up", "to"],
        ),
        ("Observation?value-quantity=gt5", &["above", "from", "samples-up"]),
        ("Observation?value-quantity=lt5", &["below", "samples-to", "to"]),
        ("Observation?value-quantity=ge5", &["above", "exact", "from", "samples-up"]),
        ("Observation?value-quantity=le5", &["below", "exact", "samples-to", "to"]),
        ("Observation?value-quantity=sa5", &["above"]),
        ("Observation?value-quantity=eb5", &["below"]),
        (
            "Observation?value-quantity=ap5",
            &["above", "below", "exact", "from", "samples-to", "samples-up", "to"],
        ),
        ("Observation?value-quantity=gt100", &["above", "from", "samples-up"]),
        ("Observation?value-quantity=sa4", &["above", "exact", "from", "samples-up"]),
        ("Observation?value-quantity=eb6", &["below", "exact", "samples-to", "to"]),
        ("RiskAssessment?probability=5", &["r5-5"]),
        ("RiskAssessment?probability=ne5", &["r-5", "r3-5", "r3-7", "r5-", "r5-7"]),
        ("RiskAssessment?probability=gt5", &["r3-7", "r5-", "r5-7"]),
        ("RiskAssessment?probability=lt5", &["r-5", "r3-5", "r3-7"]),
        ("RiskAssessment?probability=ge5", &["r3-7", "r5-", "r5-5", "r5-7"]),
        ("RiskAssessment?probability=le5", &["r-5", "r3-5", "r3-7", "r5-5"]),
        ("RiskAssessment?probability=sa5", &[]),
        ("RiskAssessment?probability=sa4", &["r5-", "r5-5", "r5-7"]),
        ("RiskAssessment?probability=eb5", &[]),
        ("RiskAssessment?probability=eb6", &["r-5", "r3-5", "r5-5"]),
        ("RiskAssessment?probability=ap5", &["r-5", "r3-5", "r3-7", "r5-", "r5-5", "r5-7"]),
        ("RiskAssessment?probability=ap8", &["r5-"]),
    ]);
}

#[test]
fn odd_quantities_are_refused_or_find_nothing() {
    let server = crate::support::server::shared();
    for quantity in [
        "gt1e400||",
        "5.4||",
        "5.4|http://unitsofmeasure.org|",
        "5.4|a|b|c",
        "|http://unitsofmeasure.org|mg",
        "1e400|http://unitsofmeasure.org|mg",
    ] {
        server.get(&format!("/Observation?value-quantity={quantity}")).refused(400);
    }
    for quantity in [
        "5.40e-3|http://unitsofmeasure.org|[in_i'H2O]",
        "1e300|http://unitsofmeasure.org|Ym3",
        "1e-300|http://unitsofmeasure.org|ym3",
        "gt-1e300|http://unitsofmeasure.org|kg",
        "5|http://unitsofmeasure.org|((((",
        "5|http://unitsofmeasure.org|Ym99999",
        "5|http://unitsofmeasure.org|%C3%A9",
        "5|http://unitsofmeasure.org|'; drop table unit; --",
        "0|http://unitsofmeasure.org|Cel",
    ] {
        server.get(&format!("/Observation?value-quantity={quantity}")).expect(200);
    }
}
