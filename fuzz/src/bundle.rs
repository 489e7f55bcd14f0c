//! Resources and Bundles as far as they go without a database: validated, read as entries, indexed, kept and given back.

use eds::fhir::datetime::FAR_FUTURE;
use eds::fhir::datetime::FAR_PAST;
use eds::fhir::definitions::definitions;
use eds::fhir::json::Document;
use eds::fhir::json::Value;
use eds::fhir::links;
use eds::fhir::resource::Version;
use eds::fhir::resource::assemble;
use eds::fhir::resource::kept_text;
use eds::interaction::ingestion::metadata;
use eds::interaction::transaction_plan::document_of;
use eds::interaction::transaction_plan::fingerprint;
use eds::interaction::transaction_read::Entry;
use eds::interaction::transaction_read::bundle_type;
use eds::interaction::transaction_read::check_full_urls;
use eds::interaction::transaction_read::entries;
use eds::interaction::transaction_read::link_names;
use eds::outcome::Severity;
use eds::search::index::index;
use eds::search::parameters::Registry;
use eds::validate::ProfilePolicies;
use eds::validate::Validator;
use std::sync::LazyLock;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::load(definitions()).expect("R4's own parameters"));
static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| Validator::load(definitions(), ProfilePolicies::default()).expect("our own profiles"));
/// Issues that one answer tells.
const ISSUES_MAX: usize = 100;

pub fn run(data: &[u8]) {
    let Ok(document) = Document::parse(data) else { return };
    let root = document.root();
    let issues = VALIDATOR.validate(root);
    assert!(issues.len() <= ISSUES_MAX + 1, "{} issues", issues.len());
    // A batch's resources are validated one by one: its entries are read whatever is in them.
    if bundle_type(root).is_ok()
        && let Ok(read) = entries(root, "http://localhost/fhir", 1_000)
    {
        let entries: Vec<Entry<'_>> = read.into_iter().flatten().collect();
        plan(root, &entries);
    }
    if issues.iter().all(|issue| issue.severity != Severity::Error) {
        keep(root);
    }
}

fn plan(root: Value<'_>, entries: &[Entry<'_>]) {
    if let Err(outcome) = check_full_urls(entries) {
        assert_eq!(outcome.status(), 400);
    }
    let names: Vec<String> = entries.iter().flat_map(link_names).collect();
    let first = document_of(root, entries).map(|_| fingerprint(entries));
    assert_eq!(document_of(root, entries).map(|_| fingerprint(entries)), first);
    for resource in entries.iter().filter_map(|entry| entry.resource) {
        let rewritten = links::rewrite(resource, &|link, _| names.iter().any(|n| n == link).then(|| "Patient/1".to_owned()));
        if let Some(text) = rewritten {
            assert!(Document::parse_str(&text).is_ok(), "rewritten, it is no JSON: {text}");
        }
        if let Ok(Some(text)) = metadata::without_rule(resource) {
            assert!(Document::parse_str(&text).is_ok(), "without its rule, it is no JSON: {text}");
        }
        if VALIDATOR.validate(resource).iter().all(|issue| issue.severity != Severity::Error) {
            keep(resource);
        }
    }
}

/// What may be stored can be indexed, and comes back as it was.
fn keep(resource: Value<'_>) {
    let type_name = resource.get_str("resourceType").expect("a valid resource has a type");
    let parameters = REGISTRY.of(&type_name).expect("and a known one");
    let entry = index(parameters, resource);
    assert!(entry.strings.iter().all(|(_, text)| !text.contains('\0')));
    // The end of a Period may stand before its beginning, wrong as it is; what matters is that differences do not overflow.
    let dates = entry.dates.iter().map(|(_, range)| range).chain(&entry.date);
    for range in dates {
        assert!(FAR_PAST <= range.low && range.high <= FAR_FUTURE, "{range:?}");
    }
    assert!(
        entry.quantities.iter().all(|q| !q.low.is_nan() && !q.high.is_nan()),
        "{:?}",
        entry.quantities
    );
    let kept = kept_text(resource);
    let version = Version {
        type_name: &type_name,
        id: "a",
        version: 1,
        updated: "2026-01-01T00:00:00.000Z",
    };
    let mut out = String::new();
    assemble(&version, &kept, &mut out);
    let document = Document::parse_str(&out).expect("what is given back is JSON");
    assert_eq!(kept_text(document.root()), kept);
    assert_eq!(
        index(parameters, document.root()).strings,
        entry.strings,
        "given back, it is indexed otherwise"
    );
}
