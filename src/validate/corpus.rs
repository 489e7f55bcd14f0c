//! Real material: the ministry's Bundles, Synthea's, HL7's official examples, right and wrong.
//! The data lie beside the project, not in it; without them these tests say so and pass.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::definitions;
use crate::fhir::json::Document;
use crate::outcome::Issue;
use crate::outcome::Severity;
use crate::validate::ProfilePolicies;
use crate::validate::Validator;

/// Official examples that break R4 themselves, with the reason.
const WRONG_EXAMPLES: [(&str, &str); 5] = [
    (
        "devicemetric-example.json",
        "DeviceMetric.parent is a reference to a Device; the example names a DeviceDefinition",
    ),
    ("deviceusestatement-example.json", "reasonReference may not name a Procedure"),
    (
        "medicationrequest0301.json",
        "dispenseRequest.performer is an Organization; the example names a Practitioner",
    ),
    ("observation-example-clinical-gender.json", "performer may not name an Encounter"),
    (
        "questionnaireresponse-extensions-QuestionnaireResponse-item-subject.json",
        "an id has at most 64 characters; this one has 67",
    ),
];

fn validator() -> Validator {
    Validator::load(definitions(), ProfilePolicies::default()).expect("the profiles compile")
}

/// The JSON files of a folder of the shared data, sorted; none if it is not there.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(folder);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("{} is not there: nothing was tested", folder.display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .map(|e| e.expect("readable").path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files
}

fn name_of(file: &Path) -> String {
    file.file_name().expect("a file").to_string_lossy().into_owned()
}

fn errors(validator: &Validator, file: &Path) -> Vec<Issue> {
    let text = std::fs::read(file).expect("readable");
    match Document::parse(&text) {
        Ok(document) => validator
            .validate(document.root())
            .into_iter()
            .filter(|i| i.severity == Severity::Error)
            .collect(),
        Err(error) => vec![Issue {
            severity: Severity::Error,
            code: "structure",
            expression: String::new(),
            text: error.to_string(),
        }],
    }
}

/// One line per error: `file expression: text`.
fn all_errors(folder: &str) -> Vec<String> {
    let validator = validator();
    let lines = |file: &PathBuf| {
        errors(&validator, file)
            .iter()
            .map(|i| format!("{} {}: {}", name_of(file), i.expression, i.text))
            .collect::<Vec<_>>()
    };
    files(folder).iter().flat_map(lines).collect()
}

#[test]
fn the_ministrys_bundles_are_accepted_unchanged() {
    assert_eq!(all_errors("fse/bundles"), [""; 0]);
}

#[test]
fn synthea_is_accepted() {
    assert_eq!(all_errors("synthea"), [""; 0]);
}

#[test]
fn the_official_examples_are_accepted() {
    let is_known = |line: &String| WRONG_EXAMPLES.iter().any(|(file, _)| line.starts_with(file));
    let (wrong, unexpected): (Vec<String>, Vec<String>) = all_errors("r4-examples").into_iter().partition(is_known);
    assert_eq!(unexpected, [""; 0]);
    if !files("r4-examples").is_empty() {
        assert_eq!(wrong.len(), WRONG_EXAMPLES.len(), "one error each: {wrong:#?}");
    }
}

#[test]
fn the_wrong_ones_of_the_official_examples_are_refused() {
    let validator = validator();
    let accepted: Vec<String> = files("r4-examples-invalid")
        .iter()
        .filter(|f| errors(&validator, f).is_empty())
        .map(|f| name_of(f))
        .collect();
    assert_eq!(accepted, [""; 0]);
}

/// Prints what validation costs a resource; run with `--release --nocapture`.
#[test]
fn validation_of_a_resource_takes_microseconds() {
    let validator = validator();
    for folder in ["synthea", "fse/bundles"] {
        let mut times: Vec<Duration> = Vec::new();
        let mut bytes = 0;
        for file in files(folder) {
            let text = std::fs::read(&file).expect("readable");
            let bundle = Document::parse(&text).expect("JSON");
            for entry in bundle.root().get("entry").expect("entries").items() {
                let text = entry.get("resource").expect("resource").minified();
                let resource = Document::parse_str(&text).expect("JSON");
                bytes += text.len();
                let start = Instant::now();
                let issues = validator.validate(resource.root());
                times.push(start.elapsed());
                assert!(issues.iter().all(|i| i.severity != Severity::Error));
            }
        }
        times.sort();
        if let (Some(p50), Some(p99)) = (times.get(times.len() / 2), times.get(times.len() * 99 / 100)) {
            let mean = times.iter().sum::<Duration>() / times.len() as u32;
            println!(
                "{folder}: {} resources of {} bytes: mean {mean:?}, p50 {p50:?}, p99 {p99:?}",
                times.len(),
                bytes / times.len()
            );
        }
    }
}

/// Prints what starting costs; run with `--release --nocapture`.
#[test]
fn definitions_and_profiles_load_in_milliseconds() {
    let start = Instant::now();
    let definitions = Definitions::load();
    let decoded = start.elapsed();
    Validator::load(&definitions, ProfilePolicies::default()).expect("the profiles compile");
    let compiled = start.elapsed() - decoded;
    println!("definitions {decoded:?}, validator {compiled:?}");
    assert!(decoded + compiled < Duration::from_secs(2));
}
