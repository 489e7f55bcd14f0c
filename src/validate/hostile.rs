//! Odd and hostile resources: refused, in bounded time and with a bounded answer, never a panic.

use crate::fhir::json::Document;
use crate::fhir::json::Kind;
use crate::outcome::Severity;
use crate::validate::Validator;
use crate::validate::tests::BUNDLE;
use crate::validate::tests::CONDITION;
use crate::validate::tests::OBSERVATION;
use crate::validate::tests::PATIENT;
use crate::validate::tests::found;
use crate::validate::tests::validator;

/// Every place of a right resource, with every kind of empty value put there.
#[test]
fn nothing_empty_is_accepted_anywhere() {
    let validator = validator();
    for base in [PATIENT, OBSERVATION, CONDITION, BUNDLE] {
        let document = Document::parse_str(base).expect("JSON");
        let mut spans = Vec::new();
        let mut open = vec![document.root()];
        while let Some(value) = open.pop() {
            let inner: Vec<_> = if value.is_object() {
                value.members().map(|(_, v)| v).collect()
            } else {
                value.items().collect()
            };
            let inner = if matches!(value.kind(), Kind::Object | Kind::Array) {
                inner
            } else {
                Vec::new()
            };
            spans.extend(inner.iter().map(|v| (v.span(), v.is_null())));
            open.extend(inner);
        }
        assert!(spans.len() > 5);
        for (span, was_null) in spans {
            for empty in ["null", "{}", "[]", "\"\"", "[null]", "[{}]", "[[]]", "\" \""] {
                let text = format!("{}{empty}{}", &base[..span.start], &base[span.end..]);
                let document = Document::parse_str(&text).expect("JSON");
                let is_refused = validator.validate(document.root()).iter().any(|i| i.severity == Severity::Error);
                assert!(is_refused || was_null && empty == "null", "{text}");
            }
        }
    }
}

#[test]
fn a_resource_with_very_many_parts_takes_linear_time() {
    let validator = validator();
    const COUNT: usize = 100_000;
    let repeat = |item: &str| vec![item; COUNT].join(",");
    let twin = repeat("{\"extension\":[{\"url\":\"u\",\"valueCode\":\"c\"}]}");
    let text = format!(
        "{{\"resourceType\":\"Patient\",\"name\":[{{\"given\":[{}],\"_given\":[{twin}]}}]}}",
        repeat("null")
    );
    assert_eq!(found(&validator, &text), [""; 0]);
    let contained: Vec<String> = (0..COUNT)
        .map(|i| format!("{{\"resourceType\":\"Practitioner\",\"id\":\"c{i}\"}}"))
        .collect();
    let references: Vec<String> = (0..COUNT).map(|i| format!("{{\"reference\":\"#c{i}\"}}")).collect();
    let (contained, references) = (contained.join(","), references.join(","));
    let text = format!("{{\"resourceType\":\"Patient\",\"contained\":[{contained}],\"generalPractitioner\":[{references}]}}");
    assert_eq!(found(&validator, &text), [""; 0]);
}

#[test]
fn the_validator_is_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Validator>();
}

#[test]
fn hostile_resources_give_bounded_answers() {
    let validator = validator();
    let many = format!(r#"{{"resourceType":"Patient","name":[{}]}}"#, vec!["{\"x\":1}"; 50_000].join(","));
    assert_eq!(found(&validator, &many).len(), 100);
    let deep = format!(
        "{}{}{}",
        r#"{"resourceType":"Basic","extension":["#,
        r#"{"url":"u","extension":["#.repeat(47),
        "1".to_owned() + &"]}".repeat(48)
    );
    assert_eq!(found(&validator, &deep).len(), 2);
}
