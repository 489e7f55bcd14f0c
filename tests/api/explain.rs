//! `_explain=true`: the statements of a search and their plans, for whom that is granted, without any value.

use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use serde_json::Value;
use serde_json::json;

const VALUES: [&str; 4] = ["rssmra80a01h501u", "zanetti", "1961", "77123"];

fn explained(server: &Server, search: &str) -> Vec<String> {
    let separator = if search.contains('?') { '&' } else { '?' };
    let outcome = server.get(&format!("/{search}{separator}_explain=true")).expect(200).json();
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    let issues = outcome["issue"].as_array().unwrap().iter();
    let text = |issue: &Value| {
        assert_eq!(
            (&issue["severity"], &issue["code"]),
            (&json!("information"), &json!("informational"))
        );
        issue["diagnostics"].as_str().unwrap().to_owned()
    };
    issues.map(text).collect()
}

#[test]
fn without_the_right_it_is_refused_and_names_the_setting() {
    let server = shared();
    for search in ["/Patient?_explain=true", "/Patient/x/Observation?_explain=true"] {
        let why = server.get(search).refused(403);
        assert!(why.contains("search.explain_allowed"), "{why}");
    }
    server.get("/Patient?_explain=false&_count=1").expect(200);
    let why = server.get("/Patient?_explain=maybe").refused(400);
    assert!(why.contains("true or false"), "{why}");
}

#[test]
fn statements_and_plans_are_told_without_values() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_SEARCH_EXPLAIN_ALLOWED", "true")]);
    let patient = json!({"resourceType": "Patient", "id": "77123", "birthDate": "1961-03-04",
                         "identifier": [{"system": "urn:cf", "value": "RSSMRA80A01H501U"}], "name": [{"family": "Zanetti"}]});
    server.put("/Patient/77123", &patient).expect(201);
    let observation = |i: usize| {
        json!({"resource": {"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": "zanetti"}]},
        "effectiveDateTime": "1961-03-04", "valueQuantity": {"value": 77123 + i}, "subject": {"reference": "Patient/77123"}},
        "request": {"method": "POST", "url": "Observation"}})
    };
    server.bundle("transaction", (0..3000).map(observation).collect()).expect(200);
    // With statistics the code is dense: then its search is planned by its values.
    crate::support::database::Session::open(&dir).execute("analyze resource; analyze string_index");
    let server = {
        server.stop();
        // More are sorted by a code than are read to be sorted.
        let settings = [("EDS_SEARCH_EXPLAIN_ALLOWED", "true"), ("EDS_SEARCH_SORT_ROWS_MAX", "2")];
        Server::start(&dir, &settings)
    };
    let digits = regex::Regex::new(r"(^|[^\w$.])\d{3,}").unwrap();
    let keys = regex::Regex::new(r"key = (ANY \(')?[{,\d]+").unwrap();
    let mut by_values = 0;
    for (search, statements) in [
        ("Patient?identifier=urn:cf|RSSMRA80A01H501U", 1),
        ("Patient?family=zanetti&birthdate=1961-03-04", 1),
        ("Patient?family:contains=ZANET", 1),
        ("Patient?_id=77123&_revinclude=Observation:subject", 2),
        ("Observation?code=zanetti&_total=accurate&_count=5", 2),
        ("Observation?status=final&date=ge1961-03-04&date=lt1962&_sort=-date", 1),
        ("Observation?status=final&value-quantity=gt77123&_sort=value-quantity", 1),
        ("Observation?patient.identifier=RSSMRA80A01H501U&code:not=77123", 1),
        ("Observation?subject:Patient.family=zanetti&_include=Observation:subject", 2),
        ("Patient?_has:Observation:patient:code=zanetti&_sort=family", 1),
        ("Patient/77123/Observation?_lastUpdated=gt1961-01-01", 1),
        ("Patient?family=zanetti&_asOf=2020-01-01", 1),
        ("Observation?status=final&_sort=-date&_asOf=1961-03-04", 2),
        ("Observation?code:text=zanet", 2),
        ("Observation?code:in=http://hl7.org/fhir/ValueSet/administrative-gender", 2),
        ("Encounter?location:below=Location/77123", 2),
        ("Encounter?location:above=Location/77123", 2),
        ("Observation?status=final&value-quantity:missing=true", 2),
        ("Patient?_has:Observation:patient:value-quantity=gt77123", 2),
        ("?_lastUpdated=gt1961-01-01", 2),
        ("Observation?status=final&_sort=code", 3),
    ] {
        let texts = explained(&server, search);
        assert!(texts.len() >= statements, "{search}: {texts:#?}");
        for text in &texts {
            let (statement, plan) = text.split_once("\n\n").unwrap();
            assert!(statement.contains("select"), "{statement}");
            // Which types there are, and where a count begins, is asked without a value.
            let has_none = ["with recursive t (type)", "select (select low from sequencer)"];
            assert!(
                statement.contains("$1") || has_none.iter().any(|begin| statement.starts_with(begin)),
                "{statement}"
            );
            assert!(plan.contains("(cost=") && !plan.contains("actual"), "{plan}");
            by_values += usize::from(plan.contains('?'));
            let conditions: Vec<&str> = plan.lines().filter(|line| !line.contains("(cost=")).collect();
            for value in VALUES {
                assert!(!statement.to_lowercase().contains(value), "{search}: {statement}");
                assert!(
                    !conditions.iter().any(|line| line.to_lowercase().contains(value)),
                    "{search}: {plan}"
                );
            }
            // Neither as hashes, dates in microseconds, or lists.
            // The name of a parameter is one, and no value.
            let is_value = |line: &&str| digits.is_match(&keys.replace_all(line, ""));
            assert!(!conditions.iter().any(is_value), "{search}: {plan}");
        }
    }
    assert!(by_values > 0, "no plan was made for its values: nothing was taken out");
    // What is asked before a plan is chosen stands before the page.
    for (search, first) in [
        ("Observation?code:text=zanet", "select term from vocabulary"),
        ("CodeSystem?_profile:below=http://a", "select term from vocabulary"),
        (
            "Observation?code:in=http://hl7.org/fhir/ValueSet/administrative-gender",
            "select r0.rid, r0.",
        ),
        ("Encounter?location:below=Location/77123", "select r0.self_hash"),
        ("Encounter?location:above=Location/77123", "select r0.terms[1:r0.reference_terms]"),
        ("Observation?subject:Patient.family=zanetti", "select m.self_hash"),
        (
            "Observation?status=final&value-quantity:missing=true",
            "select unnest(present_without(",
        ),
        (
            "Patient?_has:Observation:patient:value-quantity=gt77123",
            "select m.rid from (select q.rid from quantity_index q",
        ),
        ("?_lastUpdated=gt1961-01-01", "with recursive t (type)"),
    ] {
        let texts = explained(&server, search);
        assert!(texts[0].starts_with(first), "{search}: {}", texts[0]);
        assert!(texts[0] != texts[texts.len() - 1], "{search}: {}", texts[0]);
        assert!(
            texts[texts.len() - 1].contains("reference_hashes"),
            "{search}: {}",
            texts[texts.len() - 1]
        );
    }
    let sorted = explained(&server, "Observation?status=final&_sort=code");
    let is_of_codes = |text: &String| text.starts_with("select place, array_agg(term) from vocabulary");
    assert!(sorted.iter().any(is_of_codes), "{sorted:#?}");
    // It is no other search: what is wrong with one is told as always, and a page goes on.
    server.get("/Patient?nothing=x&_explain=true").refused(400);
    let first = server.get("/Observation?status=final&_count=2").expect(200).json();
    let next = crate::support::server::next_of(&first).unwrap();
    let outcome = server.request("GET", &format!("{next}&_explain=true")).send().expect(200).json();
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    server.stop();
}
