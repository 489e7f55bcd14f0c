//! Tables of the two specifications' own cases.

use super::*;
use crate::fhir::definitions::definitions;
use proptest::prelude::*;
use serde_json::Value as Json;
use serde_json::json;

const LIMITS: Limits = Limits {
    operations_max: 1000,
    bytes_max: 1 << 20,
};

fn apply(form: Form, resource: &str, patch: &str) -> Result<String, Outcome> {
    let type_name = Document::parse_str(resource)
        .unwrap()
        .root()
        .get_str("resourceType")
        .map(|t| t.into_owned());
    Patch::read(form, patch, LIMITS)?.apply(definitions(), type_name.as_deref().unwrap_or("Basic"), resource)
}

/// RFC 6902, appendix A: document, patch, and the result or a part of the error.
#[test]
fn json_patch_does_what_the_examples_of_rfc_6902_say() {
    let cases: &[(&str, &str, Result<&str, &str>)] = &[
        // A.1 to A.4
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/baz","value":"qux"}]"#,
            Ok(r#"{"foo":"bar","baz":"qux"}"#),
        ),
        (
            r#"{"foo":["bar","baz"]}"#,
            r#"[{"op":"add","path":"/foo/1","value":"qux"}]"#,
            Ok(r#"{"foo":["bar","qux","baz"]}"#),
        ),
        (
            r#"{"baz":"qux","foo":"bar"}"#,
            r#"[{"op":"remove","path":"/baz"}]"#,
            Ok(r#"{"foo":"bar"}"#),
        ),
        (
            r#"{"foo":["bar","qux","baz"]}"#,
            r#"[{"op":"remove","path":"/foo/1"}]"#,
            Ok(r#"{"foo":["bar","baz"]}"#),
        ),
        // A.5 to A.7
        (
            r#"{"baz":"qux","foo":"bar"}"#,
            r#"[{"op":"replace","path":"/baz","value":"boo"}]"#,
            Ok(r#"{"baz":"boo","foo":"bar"}"#),
        ),
        (
            r#"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}"#,
            r#"[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]"#,
            Ok(r#"{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}"#),
        ),
        (
            r#"{"foo":["all","grass","cows","eat"]}"#,
            r#"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
            Ok(r#"{"foo":["all","cows","eat","grass"]}"#),
        ),
        // A.8, A.9
        (
            r#"{"baz":"qux","foo":["a",2,"c"]}"#,
            r#"[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]"#,
            Ok(r#"{"baz":"qux","foo":["a",2,"c"]}"#),
        ),
        (
            r#"{"baz":"qux"}"#,
            r#"[{"op":"test","path":"/baz","value":"bar"}]"#,
            Err("The test fails"),
        ),
        // A.10 to A.12
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/child","value":{"grandchild":{"a":1}}}]"#,
            Ok(r#"{"foo":"bar","child":{"grandchild":{"a":1}}}"#),
        ),
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/baz","value":"qux","xyz":123}]"#,
            Ok(r#"{"foo":"bar","baz":"qux"}"#),
        ),
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/baz/bat","value":"qux"}]"#,
            Err("nothing at step 1 of 1"),
        ),
        // A.13: a member name twice is refused by the parser.
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/baz","value":"qux","op":"remove"}]"#,
            Err("duplicate member name"),
        ),
        // A.14 to A.16
        (
            r#"{"/":9,"~1":10}"#,
            r#"[{"op":"test","path":"/~01","value":10}]"#,
            Ok(r#"{"/":9,"~1":10}"#),
        ),
        (
            r#"{"/":9,"~1":10}"#,
            r#"[{"op":"test","path":"/~01","value":"10"}]"#,
            Err("The test fails"),
        ),
        (
            r#"{"foo":["bar"]}"#,
            r#"[{"op":"add","path":"/foo/-","value":["abc","def"]}]"#,
            Ok(r#"{"foo":["bar",["abc","def"]]}"#),
        ),
        // 4.1: what is there is replaced; the whole document too.
        (r#"{"foo":null}"#, r#"[{"op":"add","path":"/foo","value":1}]"#, Ok(r#"{"foo":1}"#)),
        (r#"{"foo":1}"#, r#"[{"op":"replace","path":"","value":{"a":1}}]"#, Ok(r#"{"a":1}"#)),
        (
            r#"{"foo":1}"#,
            r#"[{"op":"copy","from":"/foo","path":"/bar"}]"#,
            Ok(r#"{"foo":1,"bar":1}"#),
        ),
        // 4.4: not into its own child; 4.6: numbers by value, members in any order.
        (
            r#"{"foo":{"a":1}}"#,
            r#"[{"op":"move","from":"/foo","path":"/foo/b"}]"#,
            Err("into itself"),
        ),
        (
            r#"{"foo":{"a":1.10,"b":"\u0041"}}"#,
            r#"[{"op":"test","path":"/foo","value":{"b":"A","a":11e-1}}]"#,
            Ok(r#"{"foo":{"a":1.10,"b":"\u0041"}}"#),
        ),
        // Indexes have one spelling, and are within the list.
        (
            r#"{"foo":[1,2]}"#,
            r#"[{"op":"remove","path":"/foo/01"}]"#,
            Err("The list has 2 items"),
        ),
        (
            r#"{"foo":[1,2]}"#,
            r#"[{"op":"add","path":"/foo/3","value":3}]"#,
            Err("The list has 2 items"),
        ),
        (
            r#"{"foo":[1,2]}"#,
            r#"[{"op":"remove","path":"/foo/-"}]"#,
            Err("The list has 2 items"),
        ),
        (
            r#"{"foo":[1,2]}"#,
            r#"[{"op":"remove","path":"/foo/2"}]"#,
            Err("nothing at step 2 of 2"),
        ),
        (r#"{"foo":1}"#, r#"[{"op":"remove","path":"/bar"}]"#, Err("nothing at step 1 of 1")),
        (
            r#"{"foo":1}"#,
            r#"[{"op":"replace","path":"/bar","value":1}]"#,
            Err("nothing at step 1 of 1"),
        ),
        (r#"{"foo":1}"#, r#"[{"op":"remove","path":""}]"#, Err("cannot be taken away")),
        // What is no patch.
        ("{}", "{}", Err("a list of operations")),
        ("{}", r#"[{"op":"add","path":"/a"}]"#, Err("needs a \"value\"")),
        ("{}", r#"[{"op":"spam","path":"/a"}]"#, Err("\"op\" is add")),
        ("{}", r#"[{"op":"add","path":"a","value":1}]"#, Err("begins with '/'")),
        ("{}", r#"[{"op":"add","path":"/a~2","value":1}]"#, Err("~0 stands for")),
        ("{}", r#"[{"op":"move","path":"/a"}]"#, Err("needs a string \"from\"")),
        ("{}", r#"[1]"#, Err("needs a string \"path\"")),
    ];
    check(Form::Json, cases);
}

#[test]
fn what_json_patch_does_not_touch_keeps_its_text_and_what_it_empties_goes() {
    check(
        Form::Json,
        &[
            (
                r#"{"value":1.10,"text":"Via \u0052oma \/","n":1E2,"given":[null,"b"],"_given":[{"id":"x"},null]}"#,
                r#"[{"op":"add","path":"/given/-","value":2.50}]"#,
                Ok(r#"{"value":1.10,"text":"Via \u0052oma \/","n":1E2,"given":[null,"b",2.50],"_given":[{"id":"x"},null]}"#),
            ),
            (r#"{"a":{"b":[1]},"c":1}"#, r#"[{"op":"remove","path":"/a/b/0"}]"#, Ok(r#"{"c":1}"#)),
            (
                r#"{"c":1}"#,
                r#"[{"op":"add","path":"/a","value":[]},{"op":"add","path":"/a/-","value":"x"}]"#,
                Ok(r#"{"c":1,"a":["x"]}"#),
            ),
        ],
    );
}

/// Each case that is wrong is told, not only the first.
#[track_caller]
fn check(form: Form, cases: &[(&str, &str, Result<&str, &str>)]) {
    let mut wrong = Vec::new();
    for (resource, patch, expected) in cases {
        let got = apply(form, resource, patch).map_err(|e| e.summary());
        let is_right = match (&got, expected) {
            (Ok(got), Ok(expected)) => got == expected,
            (Err(got), Err(expected)) => got.contains(expected),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{resource}\n  {patch}\n  expected {expected:?}\n  got      {got:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

/// Parameters of operations in short: `["replace", "Patient.birthDate", {"value": {"valueDate": "1930-01-01"}}]`.
fn parameters(operations: &Json) -> String {
    let operation = |operation: &Json| {
        let mut parts = vec![
            json!({"name": "type", "valueCode": operation[0]}),
            json!({"name": "path", "valueString": operation[1]}),
        ];
        for (name, value) in operation[2].as_object().into_iter().flatten() {
            let mut part = match name.as_str() {
                "name" => json!({"valueString": value}),
                "value" => value.clone(),
                _ => json!({"valueInteger": value}),
            };
            part["name"] = json!(name);
            parts.push(part);
        }
        json!({"name": "operation", "part": parts})
    };
    let operations: Vec<Json> = operations.as_array().unwrap().iter().map(operation).collect();
    let mut parameters = json!({"resourceType": "Parameters"});
    if !operations.is_empty() {
        parameters["parameter"] = json!(operations);
    }
    parameters.to_string()
}

/// Resource without its type, operations, result without its type or a part of the error.
type Case = (&'static str, Json, Json, Result<Json, &'static str>);

#[track_caller]
fn check_paths(type_name: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, resource, operations, expected) in cases {
        let typed = |members: &Json| {
            let mut resource = json!({"resourceType": type_name});
            resource.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            resource
        };
        let got = apply(Form::FhirPath, &typed(resource).to_string(), &parameters(operations));
        let got = got
            .map(|text| serde_json::from_str::<Json>(&text).unwrap())
            .map_err(|e| e.summary());
        let is_right = match (&got, expected) {
            (Ok(got), Ok(expected)) => *got == typed(expected),
            (Err(got), Err(expected)) => got.contains(expected),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{name}\n  expected {expected:?}\n  got      {got:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

fn ids(values: &[&str]) -> Json {
    let identifier = |value: &&str| json!({"system": "http://example.org", "value": value});
    json!({"identifier": values.iter().map(identifier).collect::<Vec<_>>()})
}

/// The names are those of HL7's own cases: FHIR/fhir-test-cases, r4/patch/fhir-path-tests.xml. That of a full resource is in `tests/api/patch.rs`.
#[test]
fn fhirpath_patch_does_what_the_cases_of_hl7_say() {
    let contact = |members: Json| json!({"contact": [members]});
    let third = || json!({"valueIdentifier": {"system": "http://example.org", "value": "value 3"}});
    let three = || ids(&["value 1", "value 2", "value 3"]);
    let four = |order: [u8; 4]| ids(&order.map(|n| format!("value {n}")).iter().map(String::as_str).collect::<Vec<_>>());
    let moves = |moves: &[(u8, u8)]| {
        let one = |(source, destination): &(u8, u8)| json!(["move", "Patient.identifier", {"source": source, "destination": destination}]);
        Json::Array(moves.iter().map(one).collect())
    };
    let cases: Vec<Case> = vec![
        (
            "No Difference",
            json!({"birthDate": "1920-01-01"}),
            json!([]),
            Ok(json!({"birthDate": "1920-01-01"})),
        ),
        (
            "Replace Primitive",
            json!({"birthDate": "1920-01-01"}),
            json!([["replace", "Patient.birthDate", {"value": {"valueDate": "1930-01-01"}}]]),
            Ok(json!({"birthDate": "1930-01-01"})),
        ),
        (
            "Delete Primitive",
            json!({"birthDate": "1920-01-01"}),
            json!([["delete", "Patient.birthDate"]]),
            Ok(json!({})),
        ),
        (
            "Add Primitive",
            json!({}),
            json!([["add", "Patient", {"name": "birthDate", "value": {"valueDate": "1930-01-01"}}]]),
            Ok(json!({"birthDate": "1930-01-01"})),
        ),
        (
            "Replace Nested Primitive #1",
            contact(json!({"name": {"text": "a name"}, "gender": "male"})),
            json!([["replace", "Patient.contact[0].gender", {"value": {"valueCode": "female"}}]]),
            Ok(contact(json!({"name": {"text": "a name"}, "gender": "female"}))),
        ),
        (
            "Replace Nested Primitive #2",
            contact(json!({"name": {"text": "a name"}, "gender": "male"})),
            json!([["replace", "Patient.contact[0].name.text", {"value": {"valueString": "the name"}}]]),
            Ok(contact(json!({"name": {"text": "the name"}, "gender": "male"}))),
        ),
        (
            "Delete Nested Primitive #1",
            contact(json!({"name": {"text": "a name"}, "gender": "male"})),
            json!([["delete", "Patient.contact[0].gender"]]),
            Ok(contact(json!({"name": {"text": "a name"}}))),
        ),
        (
            "Delete Nested Primitive #2",
            contact(json!({"name": {"text": "a name"}, "gender": "male"})),
            json!([["delete", "Patient.contact[0].name.text"]]),
            Ok(contact(json!({"gender": "male"}))),
        ),
        (
            "Add Nested Primitive",
            contact(json!({"name": {"text": "a name"}})),
            json!([["add", "Patient.contact[0]", {"name": "gender", "value": {"valueCode": "male"}}]]),
            Ok(contact(json!({"name": {"text": "a name"}, "gender": "male"}))),
        ),
        (
            "Add Complex",
            json!({}),
            json!([["add", "Patient", {"name": "maritalStatus", "value": {"valueCodeableConcept": {"text": "married"}}}]]),
            Ok(json!({"maritalStatus": {"text": "married"}})),
        ),
        (
            "Replace Complex",
            json!({"maritalStatus": {"id": "1", "text": "married"}}),
            json!([["replace", "Patient.maritalStatus", {"value": {"valueCodeableConcept": {"id": "2", "text": "not married"}}}]]),
            Ok(json!({"maritalStatus": {"id": "2", "text": "not married"}})),
        ),
        (
            "Delete Complex",
            json!({"maritalStatus": {"text": "married"}}),
            json!([["delete", "Patient.maritalStatus"]]),
            Ok(json!({})),
        ),
        (
            "Add Anonymous Type",
            json!({}),
            json!([["add", "Patient", {"name": "contact", "value": {"part": [{"name": "name", "valueHumanName": {"text": "a name"}}]}}]]),
            Ok(contact(json!({"name": {"text": "a name"}}))),
        ),
        (
            "Delete Anonymous Type",
            contact(json!({"name": {"text": "a name"}})),
            json!([["delete", "Patient.contact[0]"]]),
            Ok(json!({})),
        ),
        (
            "List unchanged",
            ids(&["value 1", "value 2"]),
            json!([]),
            Ok(ids(&["value 1", "value 2"])),
        ),
        (
            "List unchanged, contents changed",
            json!({"identifier": [{"id": "a", "value": "value 1"}, {"id": "b", "value": "value 2"}]}),
            json!([
                ["replace", "Patient.identifier[0].value", {"value": {"valueString": "value 2"}}],
                ["replace", "Patient.identifier[1].value", {"value": {"valueString": "value 1"}}],
            ]),
            Ok(json!({"identifier": [{"id": "a", "value": "value 2"}, {"id": "b", "value": "value 1"}]})),
        ),
        (
            "Add to list",
            ids(&["value 1", "value 2"]),
            json!([["insert", "Patient.identifier", {"index": 2, "value": third()}]]),
            Ok(three()),
        ),
        (
            "Insert in list #1",
            ids(&["value 1", "value 2"]),
            json!([["insert", "Patient.identifier", {"index": 1, "value": third()}]]),
            Ok(ids(&["value 1", "value 3", "value 2"])),
        ),
        (
            "Insert in list #2",
            ids(&["value 1", "value 2"]),
            json!([["insert", "Patient.identifier", {"index": 0, "value": third()}]]),
            Ok(ids(&["value 3", "value 1", "value 2"])),
        ),
        (
            "Delete from List #1",
            three(),
            json!([["delete", "Patient.identifier[0]"]]),
            Ok(ids(&["value 2", "value 3"])),
        ),
        (
            "Delete from List #2",
            three(),
            json!([["delete", "Patient.identifier[1]"]]),
            Ok(ids(&["value 1", "value 3"])),
        ),
        (
            "Delete from List #3",
            three(),
            json!([["delete", "Patient.identifier[2]"]]),
            Ok(ids(&["value 1", "value 2"])),
        ),
        ("Reorder List #1", four([1, 2, 3, 4]), moves(&[(3, 1)]), Ok(four([1, 4, 2, 3]))),
        ("Reorder List #2", four([1, 2, 3, 4]), moves(&[(3, 0)]), Ok(four([4, 1, 2, 3]))),
        ("Reorder List #3", four([1, 2, 3, 4]), moves(&[(3, 2)]), Ok(four([1, 2, 4, 3]))),
        ("Reorder List #4", four([1, 2, 3, 4]), moves(&[(0, 3)]), Ok(four([2, 3, 4, 1]))),
        (
            "Reorder List #5",
            four([1, 2, 3, 4]),
            moves(&[(1, 0), (2, 1)]),
            Ok(four([2, 3, 1, 4])),
        ),
        (
            "Reorder List #6",
            four([1, 2, 3, 4]),
            moves(&[(3, 0), (3, 1), (3, 2)]),
            Ok(four([4, 3, 2, 1])),
        ),
        (
            "Operation on missing element",
            json!({"identifier": [{"use": "official", "value": "123"}]}),
            json!([["add", "Patient.identifier.where(use = 'official').period", {"name": "end", "value": {"valueDate": "2021-12-01"}}]]),
            Err("The path selects nothing"),
        ),
        (
            "Operation on missing element #2",
            json!({}),
            json!([["add", "Patient", {"name": "identifier", "value": third()}]]),
            Ok(ids(&["value 3"])),
        ),
    ];
    check_paths("Patient", &cases);
}

/// <https://hl7.org/fhir/R4/fhirpatch.html>: what its text says beside the cases.
#[test]
fn fhirpath_patch_follows_the_text_of_the_specification() {
    let names = || json!({"name": [{"use": "official", "family": "Rossi", "given": ["Mario"]}, {"use": "nickname", "given": ["Pippo"]}]});
    let cases: Vec<Case> = vec![
        // "Add can used for non-repeating elements as long as they do not already exist"
        (
            "add of what is there",
            json!({"birthDate": "1920-01-01"}),
            json!([["add", "Patient", {"name": "birthDate", "value": {"valueDate": "1930-01-01"}}]]),
            Err("is there already"),
        ),
        // "The index is mandatory and must be equal or less than the number of elements in the list"
        (
            "insert without index",
            json!({}),
            json!([["insert", "Patient.name", {"value": {"valueHumanName": {"text": "x"}}}]]),
            Err("needs the part index"),
        ),
        (
            "insert beyond the end",
            names(),
            json!([["insert", "Patient.name", {"index": 3, "value": {"valueHumanName": {"text": "x"}}}]]),
            Err("The list has 2 elements"),
        ),
        (
            "insert into what is no list",
            json!({}),
            json!([["insert", "Patient.birthDate", {"index": 0, "value": {"valueDate": "1930-01-01"}}]]),
            Err("is no list"),
        ),
        (
            "insert into a list that is not there yet",
            json!({}),
            json!([["insert", "Patient.name", {"index": 0, "value": {"valueHumanName": {"text": "x"}}}]]),
            Ok(json!({"name": [{"text": "x"}]})),
        ),
        // "Only a single element can be deleted"; "(if found)"
        (
            "delete of several",
            names(),
            json!([["delete", "Patient.name"]]),
            Err("selects 2 elements"),
        ),
        ("delete of nothing", names(), json!([["delete", "Patient.birthDate"]]), Ok(names())),
        (
            "delete by use",
            names(),
            json!([["delete", "Patient.name.where(use = 'nickname')"]]),
            Ok(json!({"name": [{"use": "official", "family": "Rossi", "given": ["Mario"]}]})),
        ),
        (
            "replace of nothing",
            json!({}),
            json!([["replace", "Patient.birthDate", {"value": {"valueDate": "1930-01-01"}}]]),
            Err("selects nothing"),
        ),
        // "Servers SHALL not allow patch operations to alter other resources"
        (
            "resolve",
            json!({}),
            json!([["delete", "Patient.managingOrganization.resolve().name"]]),
            Err("resolve() is not supported"),
        ),
        // The name is that of the type.
        (
            "unknown element",
            json!({}),
            json!([["add", "Patient", {"name": "colour", "value": {"valueString": "x"}}]]),
            Err("Patient has no element colour"),
        ),
        (
            "unknown element in a path",
            names(),
            json!([["delete", "Patient.name.colour"]]),
            Err("HumanName has no element colour"),
        ),
        // Choices: named without their type, and each type has its name in JSON.
        (
            "add of a choice",
            json!({}),
            json!([["add", "Patient", {"name": "deceased", "value": {"valueBoolean": true}}]]),
            Ok(json!({"deceasedBoolean": true})),
        ),
        (
            "replace of a choice by another type",
            json!({"deceasedBoolean": true, "active": true}),
            json!([["replace", "Patient.deceased", {"value": {"valueDateTime": "2020"}}]]),
            Ok(json!({"deceasedDateTime": "2020", "active": true})),
        ),
        (
            "add of a choice that is there as another type",
            json!({"deceasedBoolean": true}),
            json!([["add", "Patient", {"name": "deceased", "value": {"valueDateTime": "2020"}}]]),
            Err("is there already"),
        ),
        (
            "a type that the choice does not have",
            json!({}),
            json!([["add", "Patient", {"name": "deceased", "value": {"valueString": "x"}}]]),
            Err("one of the types boolean, dateTime"),
        ),
        (
            "ofType",
            json!({"deceasedDateTime": "2020"}),
            json!([["delete", "Patient.deceased.ofType(dateTime)"]]),
            Ok(json!({})),
        ),
        (
            "ofType of another",
            json!({"deceasedDateTime": "2020"}),
            json!([["replace", "Patient.deceased.ofType(boolean)", {"value": {"valueBoolean": true}}]]),
            Err("selects nothing"),
        ),
        // first, last, index, conditions
        (
            "first",
            names(),
            json!([["replace", "Patient.name.first().family", {"value": {"valueString": "Verdi"}}]]),
            Ok(json!({"name": [{"use": "official", "family": "Verdi", "given": ["Mario"]}, {"use": "nickname", "given": ["Pippo"]}]})),
        ),
        (
            "last",
            names(),
            json!([["delete", "Patient.name.last()"]]),
            Ok(json!({"name": [{"use": "official", "family": "Rossi", "given": ["Mario"]}]})),
        ),
        ("index of nothing", names(), json!([["delete", "Patient.name[7]"]]), Ok(names())),
        (
            "and, or, exists, not",
            names(),
            json!([["add", "Patient.name.where((use = 'official' or use = 'usual') and family.exists() and period.empty() and given.exists($this = 'Mario')).first()", {"name": "given", "value": {"valueString": "Luigi"}}]]),
            Ok(
                json!({"name": [{"use": "official", "family": "Rossi", "given": ["Mario", "Luigi"]}, {"use": "nickname", "given": ["Pippo"]}]}),
            ),
        ),
        (
            "not equal",
            names(),
            json!([["delete", "Patient.name.where(use != 'official')"]]),
            Ok(json!({"name": [{"use": "official", "family": "Rossi", "given": ["Mario"]}]})),
        ),
        (
            "neither equal nor not",
            json!({"name": [{"text": "x"}]}),
            json!([["delete", "Patient.name.where(use != 'official')"]]),
            Ok(json!({"name": [{"text": "x"}]})),
        ),
        // Primitives have two places in JSON.
        (
            "extension of a primitive",
            json!({"birthDate": "1974-12-25"}),
            json!([["add", "Patient.birthDate", {"name": "extension", "value": {"valueExtension": {"url": "http://x/birthTime", "valueDateTime": "1974-12-25T14:35:45-05:00"}}}]]),
            Ok(
                json!({"birthDate": "1974-12-25", "_birthDate": {"extension": [{"url": "http://x/birthTime", "valueDateTime": "1974-12-25T14:35:45-05:00"}]}}),
            ),
        ),
        (
            "replace within an extension",
            json!({"birthDate": "1974-12-25", "_birthDate": {"extension": [{"url": "http://x/birthTime", "valueDateTime": "1974"}]}}),
            json!([["replace", "Patient.birthDate.extension('http://x/birthTime').value", {"value": {"valueDateTime": "1975"}}]]),
            Ok(json!({"birthDate": "1974-12-25", "_birthDate": {"extension": [{"url": "http://x/birthTime", "valueDateTime": "1975"}]}})),
        ),
        (
            "delete of a primitive with extensions",
            json!({"active": true, "birthDate": "1974-12-25", "_birthDate": {"id": "a"}}),
            json!([["delete", "Patient.birthDate"]]),
            Ok(json!({"active": true})),
        ),
        (
            "replace takes the twin away, or brings it",
            json!({"birthDate": "1974-12-25", "_birthDate": {"id": "a"}}),
            json!([["replace", "Patient.birthDate", {"value": {"valueDate": "1975", "_valueDate": {"id": "b"}}}]]),
            Ok(json!({"birthDate": "1975", "_birthDate": {"id": "b"}})),
        ),
        (
            "insert into a list of primitives with twins",
            json!({"name": [{"given": ["a", "b"], "_given": [null, {"id": "b"}]}]}),
            json!([["insert", "Patient.name.given", {"index": 1, "value": {"valueString": "x"}}]]),
            Ok(json!({"name": [{"given": ["a", "x", "b"], "_given": [null, null, {"id": "b"}]}]})),
        ),
        (
            "delete from a list of primitives with twins",
            json!({"name": [{"given": ["a", "b"], "_given": [null, {"id": "b"}]}]}),
            json!([["delete", "Patient.name.given[1]"]]),
            Ok(json!({"name": [{"given": ["a"]}]})),
        ),
        (
            "move in a list of primitives with twins",
            json!({"name": [{"given": ["a", "b", "c"], "_given": [{"id": "a"}]}]}),
            json!([["move", "Patient.name.given", {"source": 0, "destination": 2}]]),
            Ok(json!({"name": [{"given": ["b", "c", "a"], "_given": [null, null, {"id": "a"}]}]})),
        ),
        // Anonymous types, nested, with lists and choices.
        (
            "parts in parts",
            json!({}),
            json!([["add", "Patient", {"name": "link", "value": {"part": [{"name": "other", "valueReference": {"reference": "Patient/1"}}, {"name": "type", "valueCode": "refer"}]}}]]),
            Ok(json!({"link": [{"other": {"reference": "Patient/1"}, "type": "refer"}]})),
        ),
        (
            "a list of parts",
            json!({}),
            json!([["add", "Patient", {"name": "contact", "value": {"part": [
                {"name": "telecom", "valueContactPoint": {"value": "1"}},
                {"name": "telecom", "valueContactPoint": {"value": "2"}},
                {"name": "gender", "_valueCode": {"id": "g"}},
                {"name": "name", "part": [{"name": "given", "valueString": "x"}, {"name": "given", "valueString": "y", "_valueString": {"id": "y"}}]},
            ]}}]]),
            Ok(
                json!({"contact": [{"telecom": [{"value": "1"}, {"value": "2"}], "_gender": {"id": "g"}, "name": {"given": ["x", "y"], "_given": [null, {"id": "y"}]}}]}),
            ),
        ),
        // Contained resources.
        (
            "contained",
            json!({"contained": [{"resourceType": "Organization", "id": "o", "name": "x"}]}),
            json!([
                ["replace", "Patient.contained[0].name", {"value": {"valueString": "y"}}],
                ["add", "Patient", {"name": "contained", "value": {"resource": {"resourceType": "Practitioner", "id": "p"}}}],
                ["add", "Patient.contained.where(id = 'p')", {"name": "gender", "value": {"valueCode": "male"}}],
            ]),
            Ok(
                json!({"contained": [{"resourceType": "Organization", "id": "o", "name": "y"}, {"resourceType": "Practitioner", "id": "p", "gender": "male"}]}),
            ),
        ),
        (
            "the resource itself",
            json!({}),
            json!([["delete", "Patient"]]),
            Err("deleted by DELETE"),
        ),
        (
            "replace of the resource itself",
            json!({}),
            json!([["replace", "Patient", {"value": {"valueString": "x"}}]]),
            Err("replaced by an update"),
        ),
        (
            "move beyond the end",
            names(),
            json!([["move", "Patient.name", {"source": 0, "destination": 2}]]),
            Err("The list has 2 elements"),
        ),
        (
            "an unknown operation",
            json!({}),
            json!([["upsert", "Patient"]]),
            Err("The type is add, insert"),
        ),
        (
            "the first operation that fails is named",
            json!({}),
            json!([["delete", "Patient.name"], ["delete", "Patient.colour"]]),
            Err("Parameters.parameter[1]"),
        ),
    ];
    check_paths("Patient", &cases);
}

#[test]
fn a_fhirpath_patch_of_an_observation_keeps_decimals() {
    let resource = r#"{"resourceType":"Observation","status":"final","valueQuantity":{"value":1.10,"unit":"mg"},"component":[{"valueQuantity":{"value":2.00}},{"valueString":"x"}]}"#;
    for (operation, expected) in [
        (
            json!(["replace", "Observation.status", {"value": {"valueCode": "amended"}}]),
            resource.replace("final", "amended"),
        ),
        (
            json!(["replace", "Observation.value.where(value = 1.1).unit", {"value": {"valueString": "g"}}]),
            resource.replace("mg", "g"),
        ),
        (
            json!(["replace", "Observation.component.value.ofType(Quantity).value", {"value": {"valueDecimal": 3.5}}]),
            resource.replace("2.00", "3.5"),
        ),
    ] {
        let patched = apply(Form::FhirPath, resource, &parameters(&json!([operation])));
        assert_eq!(patched.map_err(|e| e.summary()), Ok(expected), "{operation}");
    }
}

#[test]
fn a_patch_is_bounded_in_operations_bytes_depth_and_steps() {
    let resource = r#"{"resourceType":"Patient","name":[{"text":"x"}]}"#;
    let refused = |form, patch: &str, status, limit: &str| {
        let outcome = apply(form, resource, patch).expect_err(limit);
        assert!(outcome.status() == status && outcome.summary().contains(limit), "{outcome}");
    };
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/id","value":"x"}"#; 100_000].join(","));
    refused(Form::Json, &many, 413, "patch.operations_max");
    let many = parameters(&Json::Array(vec![json!(["delete", "Patient.name"]); 1001]));
    refused(Form::FhirPath, &many, 413, "patch.operations_max");
    // Each copy doubles the resource.
    let mut copies = vec![json!({"op": "add", "path": "/a", "value": {}})];
    copies.extend((0..40).map(|i| json!({"op": "copy", "from": "/name", "path": format!("/name/0/n{i}")})));
    refused(Form::Json, &json!(copies).to_string(), 413, "server.body_bytes_max");
    let chain: Vec<Json> = (0..200)
        .map(|i| json!({"op": "add", "path": "/a".repeat(i + 1), "value": {}}))
        .collect();
    refused(Form::Json, &json!(chain).to_string(), 422, "100 levels");
    let wide: Vec<u8> = vec![1; 100_000];
    let mut moves = vec![json!({"op": "add", "path": "/a", "value": wide})];
    moves.extend((0..900).map(|_| json!({"op": "move", "from": "/a/0", "path": "/a/-"})));
    refused(Form::Json, &json!(moves).to_string(), 422, "steps");
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i32>().prop_map(Json::from),
        "[ab/~0\\\\\"é]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::hash_map("[ab0~/]{0,2}", inner, 0..4).prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn any_pointer() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof!["[ab]", "[0-3]", Just("-".to_owned()), Just("~0".to_owned()), Just("~1".to_owned())],
        0..4,
    )
    .prop_map(|tokens| tokens.iter().map(|token| format!("/{token}")).collect())
}

proptest! {
    /// Whatever it is, a patch gives JSON or an error of the client's.
    #[test]
    fn any_json_patch_gives_json_or_a_refusal(
        resource in any_json(),
        operations in proptest::collection::vec((0..6_usize, any_pointer(), any_pointer(), any_json()), 0..6),
    ) {
        let names = ["add", "remove", "replace", "move", "copy", "test"];
        let operation = |(name, path, from, value): &(usize, String, String, Json)| json!({"op": names[*name], "path": path, "from": from, "value": value});
        let patch = Json::Array(operations.iter().map(operation).collect()).to_string();
        match Patch::read(Form::Json, &patch, LIMITS).unwrap().apply(definitions(), "Basic", &resource.to_string()) {
            Ok(text) => drop(Document::parse_str(&text).unwrap()),
            Err(outcome) => prop_assert!(matches!(outcome.status(), 413 | 422), "{outcome}"),
        }
    }

    #[test]
    fn any_path_selects_or_is_refused(path in "(Patient)?([.\\[\\]()=!'@ 0-9]|name|given|contact|where|first|last|extension|ofType|exists|and|or|\\$this|é){0,12}") {
        let resource = r#"{"resourceType":"Patient","name":[{"given":["a",null],"_given":[null,{"id":"x"}]}],"contact":[{"gender":"male"}]}"#;
        for operation in [
            json!(["delete", path]),
            json!(["insert", path, {"index": 0, "value": {"valueString": "x"}}]),
            json!(["replace", path, {"value": {"valueString": "x"}}]),
            json!(["move", path, {"source": 0, "destination": 1}]),
            json!(["add", path, {"name": "given", "value": {"valueString": "x"}}]),
        ] {
            match apply(Form::FhirPath, resource, &parameters(&json!([operation]))) {
                Ok(text) => drop(Document::parse_str(&text).unwrap()),
                Err(outcome) => prop_assert!(matches!(outcome.status(), 400 | 413 | 422), "{outcome}"),
            }
        }
    }
}
