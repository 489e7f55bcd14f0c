//! Which profiles are looked at, and what breaking them means.

use crate::fhir::definitions::definitions;
use crate::fhir::json::Document;
use crate::outcome::Severity;
use crate::validate::OWN;
use crate::validate::Policy;
use crate::validate::ProfilePolicies;
use crate::validate::UnknownProfile;
use crate::validate::Validator;
use crate::validate::tests::BUNDLE;
use crate::validate::tests::PATIENT;
use crate::validate::tests::validator;

#[test]
fn policies_decide_what_a_broken_profile_means() {
    let url = "https://w3id.org/eds/fhir/StructureDefinition/EdsPatient";
    let text = PATIENT.replace(",\"value\":\"RSSMRA80A01H501U\"", "");
    let document = Document::parse_str(&text).expect("JSON");
    for (policy, expected) in [
        (Policy::Reject, vec![Severity::Error]),
        (Policy::Warn, vec![Severity::Warning]),
        (Policy::Off, vec![]),
    ] {
        let policies = ProfilePolicies {
            policies: vec![(url.to_owned(), policy)],
            ..ProfilePolicies::default()
        };
        let validator = Validator::load(definitions(), policies).expect("the profiles compile");
        let severities: Vec<Severity> = validator.validate(document.root()).iter().map(|i| i.severity).collect();
        assert_eq!(severities, expected, "{policy:?}");
        let against = validator.validate_against(document.root(), url).expect("known");
        assert_eq!(against.iter().map(|i| i.severity).collect::<Vec<_>>(), [Severity::Error]);
    }
    let unknown = ProfilePolicies {
        policies: vec![("http://example.org".to_owned(), Policy::Off)],
        ..ProfilePolicies::default()
    };
    assert!(Validator::load(definitions(), unknown).is_err());
}

#[test]
fn a_profile_can_be_asked_for_by_name() {
    let validator = validator();
    let document = Document::parse_str(BUNDLE).expect("JSON");
    let against = |url: &str| validator.validate_against(document.root(), url).map(|issues| issues.len());
    assert_eq!(against("http://hl7.org/fhir/StructureDefinition/Bundle|4.0.1"), Ok(0));
    assert_eq!(against("https://w3id.org/eds/fhir/StructureDefinition/EdsBundle"), Ok(0));
    assert_eq!(against("http://hl7.org/fhir/StructureDefinition/Patient"), Ok(1));
    assert_eq!(against("http://hl7.org/fhir/StructureDefinition/vitalsigns"), Err(UnknownProfile));
}

#[test]
fn our_own_profiles_are_right_structure_definitions() {
    let validator = validator();
    for text in OWN {
        let document = Document::parse_str(text).expect("JSON");
        assert_eq!(validator.validate(document.root()), []);
    }
    assert_eq!(validator.profiles().count(), OWN.len());
}
