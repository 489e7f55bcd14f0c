//! Exact counts: what is counted is kept and counted on (docs/adr/0008-plans.md), and is right after every kind of change, whoever makes it.

use crate::as_of::instant;
use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::database;
use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::ids_of;
use crate::transaction::entry;
use serde_json::Value;
use serde_json::json;
use std::process::Command;

/// Several blocks of row ids, and more than are gathered to be counted.
const OBSERVATIONS: usize = 2_600;
/// Half of them are more than a chain takes one by one.
const PATIENTS: usize = 2_300;
const EXPLAINED: [(&str, &str); 1] = [("EDS_SEARCH_EXPLAIN_ALLOWED", "true")];

/// Each is counted by looking at all that match: no index has few.
const COUNTED: [&str; 14] = [
    "Observation",
    "Observation?status:not=final",
    "Observation?date=ge2020-06-01",
    "Observation?date=lt2020-06-01&status:not=amended",
    "Observation?value-quantity=gt5",
    "Observation?value-quantity=lt5,9|http://unitsofmeasure.org|kg",
    "Observation?encounter:missing=true&status:not=final",
    "Observation?value-quantity:missing=true",
    "Observation?patient.name:contains=oss",
    "Observation?patient:Patient.gender:not=male",
    "Observation?_lastUpdated=ge2020-01-01",
    "Patient?name:contains=oss",
    "Patient?death-date=ge2000",
    "Patient?_has:Observation:patient:status:not=final",
];

fn observation(i: usize) -> Value {
    let mut observation = json!({"resourceType": "Observation", "id": format!("o{i}"), "status": (["final", "amended", "final"][i % 3]),
        "code": {"coding": [{"code": "c"}]}, "subject": {"reference": format!("Patient/p{}", i % PATIENTS)},
        "effectiveDateTime": format!("2020-{:02}-01", i % 12 + 1)});
    if !i.is_multiple_of(4) {
        observation["valueQuantity"] = json!({"value": i % 10, "system": "http://unitsofmeasure.org", "code": "kg"});
    }
    observation
}

/// One with the content of another.
fn like(i: usize, other: usize) -> Value {
    let mut resource = observation(other);
    resource["id"] = json!(format!("o{i}"));
    resource
}

fn patient(i: usize) -> Value {
    let mut patient = json!({"resourceType": "Patient", "id": format!("p{i}"), "gender": (["male", "female"][i % 2]),
        "name": [{"family": (["Rossi", "Verdi", "Grossi"][i % 3])}]});
    if i.is_multiple_of(2) {
        patient["deceasedDateTime"] = json!(format!("{}", 1990 + i % 20));
    }
    patient
}

fn filled() -> (Server, DataDir) {
    let dir = DataDir::new();
    let server = Server::start(&dir, &EXPLAINED);
    let put = |resource: Value| {
        let url = format!(
            "{}/{}",
            resource["resourceType"].as_str().unwrap(),
            resource["id"].as_str().unwrap()
        );
        entry("PUT", &url, resource)
    };
    let resources = (0..PATIENTS).map(patient).chain((0..OBSERVATIONS).map(observation));
    server.bundle("transaction", resources.map(put).collect()).expect(200);
    // With statistics the type is dense.
    Session::open(&dir).execute("analyze resource");
    server.stop();
    (Server::start(&dir, &EXPLAINED), dir)
}

/// The counts are those of what all pages have.
#[track_caller]
fn check(server: &Server, after: &str) {
    for search in COUNTED {
        let separator = if search.contains('?') { '&' } else { '?' };
        let found = ids_of(&server.pages(&format!("/{search}{separator}_count=1000&_elements=id"))).len();
        // Twice: one that was kept before, and one that was kept just now.
        for _ in 0..2 {
            assert_eq!(server.count(search), found as u64, "{search} after {after}");
        }
    }
}

/// The statements of a count.
fn asked(server: &Server, search: &str) -> String {
    let outcome = server.get(&format!("/{search}&_summary=count&_explain=true")).expect(200).json();
    outcome["issue"].to_string()
}

#[test]
fn what_was_counted_is_counted_on_and_right_after_every_kind_of_change() {
    let (server, dir) = filled();
    check(&server, "the first load");
    let written = |i: usize, change: &dyn Fn(&mut Value)| {
        let mut resource = observation(i);
        change(&mut resource);
        server.put(&format!("/Observation/o{i}"), &resource).expect(200);
    };
    written(3, &|o| o["status"] = json!("amended"));
    written(700, &|o| o["effectiveDateTime"] = json!("1999"));
    written(701, &|o| o["valueQuantity"]["value"] = json!(1));
    check(&server, "updates");
    server.delete("/Observation/o5").expect(204);
    server.delete("/Observation/o2599").expect(204);
    check(&server, "deletions");
    server.put("/Observation/o5", &observation(5)).expect(201);
    check(&server, "a second creation");
    let born = (OBSERVATIONS..OBSERVATIONS + 400).map(|i| entry("PUT", &format!("Observation/o{i}"), observation(i)));
    server.bundle("transaction", born.collect()).expect(200);
    check(&server, "many creations");
    let patch =
        json!([{"op": "replace", "path": "/gender", "value": "female"}, {"op": "replace", "path": "/name/0/family", "value": "Neri"}]);
    let patched = server
        .fhir("PATCH", "/Patient/p0")
        .body("application/json-patch+json", patch.to_string());
    patched.send().expect(200);
    check(&server, "a change of what is linked");
    let document = referto("counted");
    server.post("", &document).expect(200);
    check(&server, "a document");
    let seen = server.count("Observation");
    rule(&server, "counted", "P99");
    check(&server, "oscuramento");
    assert_eq!(server.count("Observation"), seen - 1);
    rule(&server, "counted", "P00");
    check(&server, "what was hidden is shown");
    assert_eq!(server.count("Observation"), seen);
    let moved = (0..300).map(|i| entry("PUT", &format!("Observation/o{i}"), like(i, i + 1)));
    server.bundle("transaction", moved.collect()).expect(200);
    check(&server, "many updates");
    let (url, other) = (database::url(&dir), DataDir::new());
    let other = Server::start(&other, &[("EDS_DATABASE_URL", &url)]);
    other.delete("/Observation/o6").expect(204);
    check(&server, "another server's deletion");
}

#[test]
fn a_count_that_is_kept_looks_at_what_has_changed_alone() {
    let (server, _dir) = filled();
    let search = "Observation?status:not=final";
    let everything = asked(&server, search);
    assert!(
        everything.contains("group by 1") && !everything.contains("from change"),
        "{everything}"
    );
    // The lock of a table that is read for long would hold up others, and tell that something is written (store::as_of).
    let outcome = server
        .get(&format!("/{search}&_summary=count&_explain=true&_tag:not=x"))
        .expect(200)
        .json();
    let long = outcome["issue"]
        .as_array()
        .unwrap()
        .iter()
        .map(|issue| issue["diagnostics"].as_str().unwrap());
    let long: Vec<&str> = long.filter(|text| text.contains("group by 1")).collect();
    assert!(long.len() == 1 && !long[0].contains("search_generation"), "{long:?}");
    let kept = asked(&server, search);
    assert!(kept.contains("from change where seq") && !kept.contains("from resource"), "{kept}");
    server
        .put("/Patient/p9999", &json!({"resourceType": "Patient", "id": "p9999"}))
        .expect(201);
    let kept = asked(&server, search);
    assert!(!kept.contains("from resource"), "another type: {kept}");
    server.put("/Observation/o3", &like(3, 4)).expect(200);
    let kept = asked(&server, search);
    assert!(kept.contains("c.block << 8") && !kept.contains("group by 1) counted"), "{kept}");
    let linked = "Observation?patient:Patient.gender:not=male";
    server.count(linked);
    server.put("/Observation/o3", &observation(3)).expect(200);
    let kept = asked(&server, linked);
    assert!(!kept.contains("group by 1) counted"), "only what links has changed: {kept}");
    server
        .put(
            "/Patient/p9999",
            &json!({"resourceType": "Patient", "id": "p9999", "gender": "male"}),
        )
        .expect(200);
    let again = asked(&server, linked);
    assert!(again.contains("group by 1) counted"), "what is linked has changed: {again}");
}

#[test]
fn what_was_counted_by_an_old_index_is_counted_anew_after_a_reindex() {
    let (server, dir) = filled();
    let search = "Observation?status:not=final";
    let right = server.count(search);
    let mut db = Session::open(&dir);
    // An index that lacks what it should have, as an older version may have made it.
    db.execute("update resource set terms = terms[1:reference_terms + 1] where id in ('o0', 'o2', 'o3')");
    db.execute(
        "insert into change (rid, updated, version, type, operation) select rid, updated, version, type, 1 from resource where id = 'o0'",
    );
    assert_eq!(server.count(search), right + 3);
    until_the_feed_has_come_as_far(&mut db);
    assert_eq!(server.count(search), right + 3);
    reindex(&dir);
    assert_eq!(server.count(search), right);
}

#[test]
fn a_change_that_commits_late_is_counted_when_it_has() {
    let (server, dir) = filled();
    let search = "Observation?status:not=final";
    let mut late = Session::open(&dir);
    late.execute("begin");
    // As the store hides a resource.
    late.execute("select pg_current_xact_id()");
    late.execute(
        "with hidden as (update resource set state = 2 where id = 'o1' returning rid, updated, version, type)
         insert into change (rid, updated, version, type, operation) select rid, updated, version, type, 3 from hidden",
    );
    let right = server.count(search);
    for i in 100..105 {
        server.put(&format!("/Observation/o{i}"), &like(i, i + 3)).expect(200);
        assert_eq!(server.count(search), right);
    }
    until_the_feed_has_come_as_far(&mut Session::open(&dir));
    assert_eq!(server.count(search), right);
    late.execute("commit");
    assert_eq!(server.count(search), right - 1);
}

#[test]
fn what_was_as_of_an_instant_is_counted_once_until_something_is_hidden_or_shown_or_erased() {
    let dir = DataDir::new();
    let settings = [
        EXPLAINED[0],
        ("EDS_SEARCH_AS_OF_AGE_MIN_MS", "1"),
        ("EDS_OPERATION_EXPUNGE", "true"),
    ];
    let server = Server::start(&dir, &settings);
    let put = |i: usize| entry("PUT", &format!("Observation/o{i}"), observation(i));
    server.bundle("transaction", (0..30).map(put).collect()).expect(200);
    server.post("", &referto("counted")).expect(200);
    let at = instant();
    // Few are counted from an index, the others by looking at all.
    for search in [
        "Observation?code=c",
        "Observation?status:not=final",
        "Observation?patient.gender:not=male",
    ] {
        let search = format!("{search}&_asOf={at}");
        let check = |after: &str| {
            let found = ids_of(&server.pages(&format!("/{search}"))).len();
            assert_eq!(
                [server.count(&search), server.count(&search)],
                [found as u64; 2],
                "{search} after {after}"
            );
            found
        };
        let first = check("nothing");
        server.put("/Observation/o3", &like(3, 4)).expect(200);
        server.delete("/Observation/o4").expect(204);
        assert_eq!(check("writes"), first);
        let kept = asked(&server, &search);
        assert!(kept.contains("from change where seq") && !kept.contains("as total"), "{kept}");
        rule(&server, "counted", "P99");
        check("oscuramento");
        rule(&server, "counted", "P00");
        assert_eq!(check("what was hidden is shown"), first);
        server.put("/Observation/o3", &observation(3)).expect(200);
        server.put("/Observation/o4", &observation(4)).expect(201);
    }
    let search = format!("Observation?code=c&_asOf={at}");
    assert_eq!(server.count(&search), 30);
    let erased = json!({"resourceType": "Parameters", "parameter": [{"name": "expungePreviousVersions", "valueBoolean": true}]});
    server.post("/Observation/$expunge", &erased).expect(200);
    assert_eq!(server.count(&search), 28, "what o3 and o4 were is erased");
}

/// What is kept from then on holds all that was changed before.
fn until_the_feed_has_come_as_far(db: &mut Session) {
    let highest = db.number("select max(seq) from change");
    eventually("the feed has come as far", || {
        db.number(&format!("select count(*) from feed_run where seq_first + count > {highest}")) == 1
    });
}

fn reindex(dir: &DataDir) {
    let command = Command::new(env!("CARGO_BIN_EXE_eds"))
        .arg("reindex")
        .env("EDS_DATABASE_URL", database::url(dir))
        .output()
        .expect("it runs");
    assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
}
