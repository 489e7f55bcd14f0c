//! One-edit mutations of small right resources: each is refused, and the issue names the right element.

use crate::fhir::definitions::definitions;
use crate::fhir::json::Document;
use crate::validate::ProfilePolicies;
use crate::validate::Validator;

pub const PATIENT: &str = r##"{"resourceType":"Patient","id":"p1","meta":{"lastUpdated":"2024-01-01T00:00:00Z"},
 "text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},
 "contained":[{"resourceType":"Organization","id":"o1","name":"ASL"}],
 "extension":[{"url":"http://example.org/e","valueString":"x"}],
 "identifier":[{"system":"urn:oid:2.16.840.1.113883.2.9.4.3.2","value":"RSSMRA80A01H501U"}],
 "active":true,"name":[{"family":"Rossi","given":["Mario","Luigi"]}],"gender":"male","birthDate":"1980-01-01",
 "_birthDate":{"extension":[{"url":"http://example.org/t","valueDateTime":"1980-01-01T10:00:00+01:00"}]},
 "deceasedBoolean":false,"address":[{"line":[null,"Via Roma 1"],"_line":[{"extension":[{"url":"http://example.org/l","valueString":"x"}]},null]}],
 "multipleBirthInteger":2,"contact":[{"name":{"family":"Rossi"}}],"communication":[{"language":{"text":"it"}}],
 "generalPractitioner":[{"reference":"Practitioner/1"}],"managingOrganization":{"reference":"#o1"}}"##;

pub const OBSERVATION: &str = r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"718-7"}]},
 "subject":{"reference":"Patient/1","type":"Patient"},"effectiveDateTime":"2024-01-01","valueQuantity":{"value":10.50,"comparator":"<","unit":"g/dL"},
 "referenceRange":[{"low":{"value":1e-2}}],"component":[{"code":{"text":"x"},"valueInteger":1}]}"#;

pub const CONDITION: &str = r#"{"resourceType":"Condition","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},
 "subject":{"reference":"https://example/Patient/1"}}"#;

pub const BUNDLE: &str = r#"{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
 "resource":{"resourceType":"Patient","gender":"female"}}]}"#;

pub fn validator() -> Validator {
    Validator::load(definitions(), ProfilePolicies::default()).expect("the profiles compile")
}

pub fn found(validator: &Validator, text: &str) -> Vec<String> {
    let document = Document::parse_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let issues = validator.validate(document.root());
    issues
        .iter()
        .map(|i| format!("{:?} {} {}", i.severity, i.code, i.expression))
        .collect()
}

/// What to replace, by what, and the issues that must follow.
type Edit = (&'static str, &'static str, &'static [&'static str]);

/// Replaces `from`, which must be there, and expects the issues.
fn check(base: &str, edits: &[(&str, &str, &[&str])]) {
    let validator = validator();
    assert_eq!(found(&validator, base), [""; 0]);
    for (from, to, expected) in edits {
        assert!(base.contains(from), "{from}");
        let text = base.replacen(from, to, 1);
        assert_eq!(found(&validator, &text), *expected, "{from} -> {to}");
    }
}

const PATIENT_EDITS: &[Edit] = &[
    ("\"gender\"", "\"sex\"", &["Error structure Patient.sex"]),
    (
        "\"family\":\"Rossi\",",
        "\"surname\":\"Rossi\",",
        &["Error structure Patient.name[0].surname"],
    ),
    ("\"male\"", "\"M\"", &["Error code-invalid Patient.gender"]),
    ("\"male\"", "1", &["Error structure Patient.gender"]),
    ("\"male\"", "\"\"", &["Error value Patient.gender"]),
    ("\"male\"", "[\"male\"]", &["Error structure Patient.gender"]),
    ("\"male\"", "null", &["Error structure Patient.gender"]),
    ("\"active\":true", "\"active\":\"true\"", &["Error structure Patient.active"]),
    ("\"1980-01-01\"", "\"1980-02-30\"", &["Error value Patient.birthDate"]),
    ("\"id\":\"p1\"", "\"id\":\"p 1\"", &["Error value Patient.id"]),
    (
        "\"2024-01-01T00:00:00Z\"",
        "\"2024-01-01T00:00:00\"",
        &["Error value Patient.meta.lastUpdated"],
    ),
    (
        "[{\"family\":\"Rossi\",\"given\":[\"Mario\",\"Luigi\"]}]",
        "{\"family\":\"Rossi\"}",
        &["Error structure Patient.name"],
    ),
    ("[\"Mario\",\"Luigi\"]", "[]", &["Error structure Patient.name[0].given"]),
    ("[\"Mario\",\"Luigi\"]", "\"Mario\"", &["Error structure Patient.name[0].given"]),
    (
        "[\"Mario\",\"Luigi\"]",
        "[\"Mario\",null]",
        &["Error structure Patient.name[0].given[1]"],
    ),
    (
        "[\"Mario\",\"Luigi\"]",
        "[\"Mario\",1]",
        &["Error structure Patient.name[0].given[1]"],
    ),
    (
        "[\"Mario\",\"Luigi\"]",
        "[\"Mario\",{}]",
        &["Error structure Patient.name[0].given[1]"],
    ),
    ("{\"name\":{\"family\":\"Rossi\"}}", "{}", &["Error structure Patient.contact[0]"]),
    (
        "{\"name\":{\"family\":\"Rossi\"}}",
        "{\"id\":\"x\"}",
        &["Error structure Patient.contact[0]"],
    ),
    ("{\"name\":{\"family\":\"Rossi\"}}", "null", &["Error structure Patient.contact[0]"]),
    (
        "\"language\":{\"text\":\"it\"}",
        "\"preferred\":true",
        &["Error required Patient.communication[0].language"],
    ),
    (
        "\"deceasedBoolean\":false",
        "\"deceasedBoolean\":false,\"deceasedDateTime\":\"2020\"",
        &["Error structure Patient.deceased"],
    ),
    (
        "\"deceasedBoolean\":false",
        "\"deceasedBoolean\":false,\"_deceasedDateTime\":{\"id\":\"a\",\"extension\":[{\"url\":\"u\",\"valueCode\":\"c\"}]}",
        &["Error structure Patient.deceased"],
    ),
    (
        "\"deceasedBoolean\":false",
        "\"deceased\":false",
        &["Error structure Patient.deceased"],
    ),
    (
        "\"deceasedBoolean\":false",
        "\"deceasedString\":\"x\"",
        &["Error structure Patient.deceasedString"],
    ),
    (
        "\"multipleBirthInteger\":2",
        "\"multipleBirthInteger\":2.0",
        &["Error value Patient.multipleBirth"],
    ),
    (
        "\"valueString\":\"x\"}],\n \"identifier\"",
        "\"valueString\":\"x\",\"extension\":[{\"url\":\"u\",\"valueCode\":\"c\"}]}],\n \"identifier\"",
        &["Error invariant Patient.extension[0]"],
    ),
    (
        "\"url\":\"http://example.org/e\",\"valueString\":\"x\"",
        "\"url\":\"http://example.org/e\"",
        &["Error invariant Patient.extension[0]"],
    ),
    (
        "\"url\":\"http://example.org/e\",",
        "",
        &["Error required Patient.extension[0].url"],
    ),
    (
        "<div xmlns=\\\"http://www.w3.org/1999/xhtml\\\">x</div>",
        "x",
        &["Error value Patient.text.div"],
    ),
    (
        "\"Practitioner/1\"",
        "\"Patient/1\"",
        &["Error structure Patient.generalPractitioner[0].reference"],
    ),
    (
        "\"Practitioner/1\"",
        "\"Practitioner\"",
        &["Error value Patient.generalPractitioner[0].reference"],
    ),
    (
        "\"Practitioner/1\"",
        "\"Doctor/1\"",
        &["Error value Patient.generalPractitioner[0].reference"],
    ),
    ("\"#o1\"", "\"#o2\"", &["Error not-found Patient.managingOrganization.reference"]),
    ("\"name\":\"ASL\"", "\"name\":1", &["Error structure Patient.contained[0].name"]),
    (
        "\"name\":\"ASL\"",
        "\"contained\":[{\"resourceType\":\"Basic\"}]",
        &["Error structure Patient.contained[0].contained[0]"],
    ),
    ("\"resourceType\":\"Organization\",", "", &["Error required Patient.contained[0]"]),
];

#[test]
fn one_edit_of_a_patient_is_refused_and_named() {
    check(PATIENT, PATIENT_EDITS);
}

const TWIN_EDITS: &[Edit] = &[
    (
        "},null]",
        "},null,null]",
        &[
            "Error structure Patient.address[0].line[2]",
            "Error structure Patient.address[0].line",
        ],
    ),
    (
        "\"line\":[null,\"Via Roma 1\"],",
        "",
        &["Error structure Patient.address[0].line[1]"],
    ),
    (
        "\"line\":[null,",
        "\"line\":[null,null,",
        &[
            "Error structure Patient.address[0].line[1]",
            "Error structure Patient.address[0].line",
        ],
    ),
    (
        "\"_line\":[{\"extension\":[{\"url\":\"http://example.org/l\",\"valueString\":\"x\"}]},null]",
        "\"city\":\"Roma\"",
        &["Error structure Patient.address[0].line[0]"],
    ),
    (
        "\"_birthDate\":{",
        "\"_birthDate\":{\"x\":1,",
        &["Error structure Patient.birthDate.x"],
    ),
    (
        "\"_birthDate\":{",
        "\"_gender\":null,\"_birthDate\":{",
        &["Error structure Patient.gender"],
    ),
    (
        "\"_birthDate\":{",
        "\"_gender\":{},\"_birthDate\":{",
        &["Error structure Patient.gender"],
    ),
    ("\"_birthDate\":{", "\"_gender\":{\"id\":\"x\"},\"_birthDate\":{", &[]),
    ("\"male\"", "\"male\",\"_contact\":[]", &["Error structure Patient._contact"]),
    ("\"birthDate\":\"1980-01-01\",", "", &[]),
];

#[test]
fn twins_of_primitives_must_match_their_values() {
    check(PATIENT, TWIN_EDITS);
}

const OBSERVATION_EDITS: &[Edit] = &[
    ("\"status\":\"final\",", "", &["Error required Observation.status"]),
    (
        "\"status\":\"final\"",
        "\"_status\":{\"extension\":[{\"url\":\"u\",\"valueCode\":\"unknown\"}]}",
        &[],
    ),
    ("\"final\"", "\"done\"", &["Error code-invalid Observation.status"]),
    (
        "\"Patient/1\"",
        "\"Practitioner/1\"",
        &["Error structure Observation.subject.reference"],
    ),
    (
        "\"Patient/1\"",
        "\"https://example/Practitioner/1/_history/2\"",
        &["Error structure Observation.subject.reference"],
    ),
    ("\"Patient/1\"", "\"Patient?identifier=x\"", &[]),
    ("\"Patient/1\"", "\"urn:uuid:c757873d-ec9a-4326-a141-556f43239520\"", &[]),
    ("\"Patient/1\"", "\"https://example/anything\"", &[]),
    (
        "\"type\":\"Patient\"",
        "\"type\":\"Group\"",
        &["Error structure Observation.subject.reference"],
    ),
    (
        "\"type\":\"Patient\"",
        "\"type\":\"Account\"",
        &[
            "Error structure Observation.subject.type",
            "Error structure Observation.subject.reference",
        ],
    ),
    ("\"2024-01-01\"", "\"2024-01-01T10:00:00\"", &["Error value Observation.effective"]),
    ("10.50", "\"10.50\"", &["Error structure Observation.value.value"]),
    ("10.50", "1e999999", &["Error value Observation.value.value"]),
    ("\"<\"", "\"!\"", &["Error code-invalid Observation.value.comparator"]),
    (
        "{\"value\":1e-2}",
        "{\"value\":1,\"comparator\":\"<\"}",
        &["Error structure Observation.referenceRange[0].low.comparator"],
    ),
    ("\"code\":{\"text\":\"x\"},", "", &["Error required Observation.component[0].code"]),
    ("\"Observation\"", "\"observation\"", &["Error invalid Resource.resourceType"]),
    ("\"resourceType\":\"Observation\",", "", &["Error required Resource"]),
];

#[test]
fn one_edit_of_an_observation_is_refused_and_named() {
    check(OBSERVATION, OBSERVATION_EDITS);
}

#[test]
fn required_bindings_of_concepts_need_one_coding_of_the_set() {
    check(
        CONDITION,
        &[
            ("\"active\"", "\"alive\"", &["Error code-invalid Condition.clinicalStatus"]),
            (
                "condition-clinical\"",
                "condition-other\"",
                &["Error code-invalid Condition.clinicalStatus"],
            ),
            (
                "\"clinicalStatus\":{\"coding\":[{",
                "\"clinicalStatus\":{\"text\":\"x\",\"coding\":[{\"display\":\"y\"},{",
                &[],
            ),
            (
                "{\"coding\":[{\"system\":\"http://terminology.hl7.org/CodeSystem/condition-clinical\",\"code\":\"active\"}]}",
                "{\"text\":\"x\"}",
                &["Error code-invalid Condition.clinicalStatus"],
            ),
            (
                "https://example/Patient/1",
                "https://example/Encounter/1",
                &["Error structure Condition.subject.reference"],
            ),
        ],
    );
}

#[test]
fn resources_in_bundle_entries_are_checked_unless_left_to_the_caller() {
    check(
        BUNDLE,
        &[
            ("\"female\"", "\"F\"", &["Error code-invalid Bundle.entry[0].resource.gender"]),
            ("\"collection\"", "\"heap\"", &["Error code-invalid Bundle.type"]),
            (
                "{\"resourceType\":\"Patient\",\"gender\":\"female\"}",
                "[]",
                &["Error structure Bundle.entry[0].resource"],
            ),
            (
                "\"resourceType\":\"Bundle\",",
                "\"resourceType\":\"Bundle\",\"text\":{},",
                &["Error structure Bundle.text"],
            ),
        ],
    );
    let text = BUNDLE.replace("female", "F");
    let document = Document::parse_str(&text).expect("JSON");
    assert_eq!(validator().validate_without_entries(document.root()), []);
    let text = format!("{{\"resourceType\":\"Parameters\",\"parameter\":[{{\"name\":\"x\",\"resource\":{text}}}]}}");
    let document = Document::parse_str(&text).expect("JSON");
    assert_eq!(
        validator().validate_without_entries(document.root()).len(),
        0,
        "the Bundle's entries are left out there too"
    );
    let text = text.replace("collection", "heap");
    let document = Document::parse_str(&text).expect("JSON");
    assert_eq!(
        validator().validate_without_entries(document.root()).len(),
        1,
        "the parameter's resource is not"
    );
}

#[test]
fn a_value_that_is_no_resource_is_refused() {
    for text in [
        "null",
        "1",
        "\"Patient\"",
        "[]",
        "{}",
        "{\"resourceType\":1}",
        "{\"resourceType\":\"DomainResource\"}",
        "{\"resourceType\":\"SubscriptionStatus\"}",
    ] {
        assert_eq!(found(&validator(), text).len(), 1, "{text}");
    }
}

#[test]
fn a_wrong_codice_fiscale_is_a_warning_in_both_spellings_of_its_system() {
    let expected: &[&str] = &["Warning business-rule Patient.identifier[0]"];
    check(
        PATIENT,
        &[
            ("RSSMRA80A01H501U", "RSSMRA80A01H501X", expected),
            ("RSSMRA80A01H501U", "12345678903", &[]),
        ],
    );
    check(
        &PATIENT.replace("urn:oid:2.16.840.1.113883.2.9.4.3.2", "http://hl7.it/sid/codiceFiscale"),
        &[("RSSMRA80A01H501U", "RSSMRA", expected)],
    );
}

#[test]
fn our_profiles_hold_what_they_say() {
    check(
        PATIENT,
        &[
            (
                ",\"value\":\"RSSMRA80A01H501U\"",
                "",
                &["Error required Patient.identifier[0].value"],
            ),
            (
                "\"identifier\":[",
                "\"identifier\":[{\"system\":\"urn:oid:2.16.840.1.113883.2.9.4.3.2\",\"value\":\"RSSMRA80A01H501U\"},",
                &["Error structure Patient.identifier"],
            ),
            (
                "\"identifier\":[",
                "\"identifier\":[{\"system\":\"urn:oid:2.16.840.1.113883.2.9.2.120.4.1\"},",
                &[],
            ),
            (
                "\"meta\":{",
                "\"meta\":{\"profile\":[\"https://w3id.org/eds/fhir/StructureDefinition/EdsPatient|0.1.0\",\"http://hl7.org/fhir/StructureDefinition/Patient\"],",
                &[],
            ),
            (
                "\"meta\":{",
                "\"meta\":{\"profile\":[\"http://hl7.it/fhir/itcore/StructureDefinition/patient-it-core\"],",
                &["Information informational Patient.meta.profile[0]"],
            ),
            (
                "\"meta\":{",
                "\"meta\":{\"profile\":[\"https://w3id.org/eds/fhir/StructureDefinition/EdsBundle\"],",
                &["Error invalid Patient.meta.profile[0]"],
            ),
        ],
    );
}

#[test]
fn messages_help_and_hold_no_personal_value() {
    let validator = validator();
    for (from, to, expected) in [
        (
            "\"birthDate\"",
            "\"birthdate\"",
            "Patient has no such element; did you mean birthDate?",
        ),
        (
            "\"deceasedBoolean\"",
            "\"deceased\"",
            "deceased needs its type in its name: deceasedBoolean, deceasedDateTime",
        ),
        (
            "\"male\"",
            "\"M\"",
            "'M' is not in the required value set http://hl7.org/fhir/ValueSet/administrative-gender: female, male, other, unknown",
        ),
        (
            "\"Practitioner/1\"",
            "\"Patient/1\"",
            "a reference to Patient is not allowed here; expected Organization, Practitioner, PractitionerRole",
        ),
    ] {
        let text = PATIENT.replacen(from, to, 1);
        let document = Document::parse_str(&text).expect("JSON");
        let texts: Vec<String> = validator.validate(document.root()).into_iter().map(|i| i.text).collect();
        assert_eq!(texts, [expected]);
    }
    let wrong = PATIENT
        .replace("RSSMRA80A01H501U", "SECRET")
        .replace("[\"Mario\",\"Luigi\"]", "\"SECRET\"")
        .replace("\"1980-01-01\"", "\"SECRET\"")
        .replace("Practitioner/1", "SECRET");
    let document = Document::parse_str(&wrong).expect("JSON");
    let issues = validator.validate(document.root());
    assert_eq!(issues.len(), 4);
    assert!(
        issues
            .iter()
            .all(|i| !i.text.contains("SECRET") && !i.expression.contains("SECRET")),
        "{issues:?}"
    );
}
