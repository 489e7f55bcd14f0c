//! Search parameters of one's own, at run time: they index new writes at once, are used when everything is indexed, and until then say so.
//! docs/adr/0011-custom-search-parameters.md, <https://hl7.org/fhir/R4/searchparameter.html>

use crate::support::database;
use crate::support::database::Session;
use crate::support::none_wrong;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::ids_of;
use crate::support::world::unique;
use crate::transaction::entry;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A server of one's own: what it is searched by must not change for other tests.
fn server(settings: &[(&str, &str)]) -> (Server, DataDir) {
    let dir = DataDir::new();
    (Server::start(&dir, settings), dir)
}

/// One that walks so slowly that nothing is complete before it is paused or killed.
const SLOW: &[(&str, &str)] = &[("EDS_SEARCH_REINDEX_BATCH_RESOURCES", "5"), ("EDS_SEARCH_REINDEX_PAUSE_MS", "300")];

fn parameter(code: &str, kind: &str, base: &str, expression: &str) -> Value {
    json!({
        "resourceType": "SearchParameter",
        "id": code,
        "url": format!("https://example.org/SearchParameter/{code}"),
        "name": code.replace('-', "_"),
        "status": "active",
        "description": "a parameter of a test",
        "code": code,
        "base": [base],
        "type": kind,
        "expression": expression,
    })
}

#[track_caller]
fn put(server: &Server, parameter: &Value) {
    let answer = server.put(&path(parameter), parameter);
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
}

fn path(parameter: &Value) -> String {
    format!("/SearchParameter/{}", parameter["id"].as_str().unwrap())
}

/// A value of `$status`.
fn status(server: &Server, id: &str, name: &str) -> Value {
    let answer = server.get(&format!("/SearchParameter/{id}/$status")).expect(200).json();
    let all = answer["parameter"].as_array().unwrap().clone();
    let found = all.into_iter().find(|p| p["name"] == name).unwrap_or_default();
    let value = found.as_object().and_then(|p| p.iter().find(|(name, _)| name.starts_with("value")));
    value.map(|(_, value)| value.clone()).unwrap_or_default()
}

#[track_caller]
fn wait_until_complete(server: &Server, id: &str) {
    eventually("the parameter is complete", || status(server, id, "status") == "complete");
}

fn ids(server: &Server, search: &str) -> BTreeSet<String> {
    ids_of(&server.pages(&format!("/{search}&_count=200"))).into_iter().collect()
}

#[track_caller]
fn check(server: &Server, cases: &[(&str, &[&str])]) {
    let mut wrong = Vec::new();
    for (search, expected) in cases {
        let answer = server.get(&format!("/{search}&_count=1000"));
        let found: BTreeSet<String> = match answer.status {
            200 => ids_of(&[answer.json()]).into_iter().collect(),
            _ => [format!("{} {}", answer.status, answer.text())].into(),
        };
        let expected: BTreeSet<String> = expected.iter().map(|id| (*id).to_owned()).collect();
        if found != expected {
            wrong.push(format!("{search}\n    expected {expected:?}\n    got      {found:?}"));
        }
    }
    none_wrong(&wrong, cases.len());
}

/// Whether the CapabilityStatement has the parameter.
fn is_listed(server: &Server, type_name: &str, code: &str) -> bool {
    let statement = server.get("/metadata").expect(200).json();
    let resources = statement["rest"][0]["resource"].as_array().unwrap().clone();
    let of = resources.into_iter().find(|r| r["type"] == type_name).unwrap();
    of["searchParam"].as_array().unwrap().iter().any(|p| p["name"] == code)
}

fn extension(url: &str, value: Value) -> Value {
    let mut extension = value;
    extension["url"] = json!(format!("urn:test:{url}"));
    extension
}

fn patient(id: &str, extensions: Vec<Value>) -> Value {
    let mut patient = json!({"resourceType": "Patient"});
    if !id.is_empty() {
        (patient["id"], patient["name"]) = (json!(id), json!([{"family": id}]));
    }
    if !extensions.is_empty() {
        patient["extension"] = json!(extensions);
    }
    patient
}

/// Every type of value, in patients that were there before and such that came after.
fn of_every_type(server: &Server, name: &str) {
    let with = |id: &str, url: &str, value: Value| patient(&format!("{name}-{id}"), vec![extension(url, value)]);
    let mut born = with("born", "other", json!({"valueString": "x"}));
    born["birthDate"] = json!("1980-05-01");
    born["_birthDate"] = json!({"extension": [{"url": "urn:test:birth-time", "valueDateTime": "1980-05-01T10:30:00Z"}]});
    let practitioner = json!({"resourceType": "Practitioner", "id": format!("{name}-doctor"), "name": [{"family": "Bianchi"}]});
    let resources = vec![
        practitioner,
        with("coding", "token", json!({"valueCoding": {"system": "urn:s", "code": "a"}})),
        with(
            "concept",
            "token",
            json!({"valueCodeableConcept": {"coding": [{"system": "urn:s", "code": "b"}, {"code": "a"}]}}),
        ),
        with("flag", "flag", json!({"valueBoolean": true})),
        with(
            "doctor",
            "doctor",
            json!({"valueReference": {"reference": format!("Practitioner/{name}-doctor")}}),
        ),
        with("day", "day", json!({"valueDate": "2024-02-03"})),
        with(
            "period",
            "day",
            json!({"valuePeriod": {"start": "2024-05-01", "end": "2024-05-31"}}),
        ),
        with("text", "text", json!({"valueString": "Città di Castello"})),
        with("address", "text", json!({"valueAddress": {"city": "Assisi"}})),
        with("uri", "uri", json!({"valueUri": "http://example.org/a/b"})),
        with(
            "weight",
            "weight",
            json!({"valueQuantity": {"value": 70.5, "system": "http://unitsofmeasure.org", "code": "kg"}}),
        ),
        with("rank", "rank", json!({"valueInteger": 7})),
        born,
        patient(&format!("{name}-plain"), Vec::new()),
    ];
    let entries = resources
        .into_iter()
        .map(|r| {
            entry(
                "PUT",
                &format!("{}/{}", r["resourceType"].as_str().unwrap(), r["id"].as_str().unwrap()),
                r,
            )
        })
        .collect();
    server.bundle("transaction", entries).expect(200);
}

#[test]
fn a_parameter_of_each_type_finds_what_was_there_before_and_what_comes_after() {
    let (server, _dir) = server(&[]);
    of_every_type(&server, "old");
    let value = |url: &str| format!("Patient.extension.where(url = 'urn:test:{url}').value");
    let parameters = [
        parameter("x-token", "token", "Patient", &value("token")),
        parameter(
            "x-coding",
            "token",
            "Patient",
            "Patient.extension('urn:test:token').value.as(Coding)",
        ),
        parameter("x-flag", "token", "Patient", &value("flag")),
        parameter("x-flagged", "token", "Patient", "Patient.extension('urn:test:flag').exists()"),
        parameter("x-doctor", "reference", "Patient", &format!("{} as Reference", value("doctor"))),
        parameter("x-day", "date", "Patient", &value("day")),
        parameter("x-text", "string", "Patient", &value("text")),
        parameter("x-uri", "uri", "Patient", &value("uri")),
        parameter("x-weight", "quantity", "Patient", &value("weight")),
        parameter("x-rank", "number", "Patient", &value("rank")),
        parameter(
            "x-birth-time",
            "date",
            "Patient",
            "Patient.birthDate.extension('urn:test:birth-time').value",
        ),
    ];
    for parameter in &parameters {
        put(&server, parameter);
    }
    of_every_type(&server, "new");
    for parameter in &parameters {
        wait_until_complete(&server, parameter["id"].as_str().unwrap());
    }
    let mut link = parameter("x-link", "reference", "Patient", &value("doctor"));
    link["target"] = json!(["Practitioner"]);
    put(&server, &link);
    wait_until_complete(&server, "x-link");
    check(
        &server,
        &[
            ("Patient?x-token=urn:s|a", &["old-coding", "new-coding"]),
            ("Patient?x-token=a", &["old-coding", "new-coding", "old-concept", "new-concept"]),
            ("Patient?x-token=|a", &["old-concept", "new-concept"]),
            ("Patient?x-token:not=a&x-token:missing=false", &[]),
            ("Patient?x-coding=a", &["old-coding", "new-coding"]),
            ("Patient?x-flag=true", &["old-flag", "new-flag"]),
            ("Patient?x-flagged=true", &["old-flag", "new-flag"]),
            ("Patient?x-flagged=false&family=old-plain", &["old-plain"]),
            ("Patient?x-doctor=Practitioner/old-doctor", &["old-doctor"]),
            ("Patient?x-doctor:Practitioner.family=bianchi", &["old-doctor", "new-doctor"]),
            ("Patient?x-link.family=bianchi", &["old-doctor", "new-doctor"]),
            ("Patient?x-link=new-doctor", &["new-doctor"]),
            ("Practitioner?_has:Patient:x-doctor:family=old-doctor", &["old-doctor"]),
            (
                "Practitioner?_has:Patient:x-link:x-doctor:missing=false",
                &["old-doctor", "new-doctor"],
            ),
            ("Patient?x-day=2024-02", &["old-day", "new-day"]),
            ("Patient?x-day=ge2024-05-15", &["old-period", "new-period"]),
            ("Patient?x-text=citta", &["old-text", "new-text"]),
            ("Patient?x-text:contains=CASTELLO", &["old-text", "new-text"]),
            ("Patient?x-text:exact=Assisi", &["old-address", "new-address"]),
            ("Patient?x-uri=http://example.org/a/b", &["old-uri", "new-uri"]),
            ("Patient?x-uri:below=http://example.org/a", &["old-uri", "new-uri"]),
            ("Patient?x-weight=70.5|http://unitsofmeasure.org|kg", &["old-weight", "new-weight"]),
            ("Patient?x-weight=gt71", &[]),
            ("Patient?x-rank=7", &["old-rank", "new-rank"]),
            ("Patient?x-rank=lt8&x-rank=gt6", &["old-rank", "new-rank"]),
            ("Patient?x-birth-time=1980-05-01T10:30:00Z", &["old-born", "new-born"]),
            ("Patient?x-day:missing=false", &["old-day", "new-day", "old-period", "new-period"]),
            ("Patient?x-day:missing=true&family=old-plain", &["old-plain"]),
            (
                "Patient?x-token=a,c&x-text:missing=true&x-flag:missing=true",
                &["old-coding", "new-coding", "old-concept", "new-concept"],
            ),
        ],
    );
    let included = server.get("/Patient?_id=old-doctor&_include=Patient:x-doctor").expect(200).json();
    assert_eq!(ids_of(&[included]), ["old-doctor", "old-doctor"]);
    let reverse = server
        .get("/Practitioner?_id=new-doctor&_revinclude=Patient:x-doctor")
        .expect(200)
        .json();
    assert_eq!(ids_of(&[reverse]), ["new-doctor", "new-doctor"]);
    let sorted = server.get("/Patient?x-day:missing=false&_sort=-x-day,_id").expect(200).json();
    assert_eq!(ids_of(&[sorted]), ["new-period", "old-period", "new-day", "old-day"]);
    let sorted = server.get("/Patient?x-text:missing=false&_sort=x-text,-_id").expect(200).json();
    assert_eq!(ids_of(&[sorted]), ["old-address", "new-address", "old-text", "new-text"]);
    let statement = server.get("/metadata").expect(200).json();
    let of = statement["rest"][0]["resource"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["type"] == "Patient")
        .unwrap()
        .clone();
    let named = of["searchParam"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| p["name"].as_str().unwrap().starts_with("x-"))
        .count();
    assert_eq!(named, parameters.len() + 1);
    assert!(of["searchInclude"].as_array().unwrap().contains(&json!("Patient:x-doctor")));
    // The resource is one as any other.
    assert_eq!(server.count("SearchParameter?code=x-token"), 1);
    assert_eq!(server.count("SearchParameter?url=https://example.org/SearchParameter/x-token"), 1);
}

/// A patient with or without a value of `urn:test:storm`.
fn stormy(id: &str, value: Option<&str>) -> Value {
    patient(
        id,
        value.map(|v| extension("storm", json!({"valueString": v}))).into_iter().collect(),
    )
}

const STORM: &str = "Patient.extension('urn:test:storm').value.ofType(string)";

fn fill(server: &Server, count: usize) {
    for chunk in (0..count).collect::<Vec<_>>().chunks(200) {
        let one = |i: &usize| {
            let id = format!("old-{i:05}");
            let value = i.is_multiple_of(3).then_some("before");
            entry("PUT", &format!("Patient/{id}"), stormy(&id, value))
        };
        server.bundle("transaction", chunk.iter().map(one).collect()).expect(200);
    }
}

/// What a scan of everything says that the parameter `storm` finds: ids by value.
fn scan(server: &Server) -> BTreeSet<(String, String)> {
    let pages = server.pages("/Patient?_count=500&_sort=_id");
    let patients = pages.iter().flat_map(|page| page["entry"].as_array().cloned().unwrap_or_default());
    let values = patients.filter_map(|entry| {
        let value = entry["resource"]["extension"][0]["valueString"].as_str()?.to_owned();
        Some((value, entry["resource"]["id"].as_str()?.to_owned()))
    });
    values.collect()
}

fn found(server: &Server, code: &str, values: &[&str]) -> BTreeSet<(String, String)> {
    let of = |value: &&str| {
        let found = ids(server, &format!("Patient?{code}:exact={value}"));
        found.into_iter().map(|id| ((*value).to_owned(), id)).collect::<Vec<_>>()
    };
    values.iter().flat_map(of).collect()
}

/// Creates, changes and deletes patients until it is told to stop, or its server is gone.
fn storm(server: &Server, name: &str, is_over: &AtomicBool) -> usize {
    let mut round = 0;
    while !is_over.load(Ordering::Relaxed) {
        let id = format!("{name}-{}", round % 40);
        let value = ["one", "two", "three"][round % 3];
        let old = format!("old-{:05}", (round * 7) % 600);
        let writes = [
            server.fhir("PUT", &format!("/Patient/{id}")).json(&stormy(&id, Some(value))),
            server
                .fhir("PUT", &format!("/Patient/{old}"))
                .json(&stormy(&old, round.is_multiple_of(2).then_some(value))),
            server.fhir("POST", "/Patient").json(&stormy("", Some(value))),
            server.fhir("DELETE", &format!("/Patient/{name}-{}", (round + 20) % 40)),
        ];
        for write in writes {
            match write.try_send() {
                Ok(answer) => assert!([200, 201, 204].contains(&answer.status), "{}", answer.text()),
                Err(_) => return round,
            }
        }
        round += 1;
    }
    round
}

#[test]
fn nothing_is_lost_while_others_write_to_two_servers_and_parameters_come_and_go() {
    let dirs = [DataDir::new(), DataDir::new()];
    let pace = [("EDS_SEARCH_REINDEX_BATCH_RESOURCES", "20"), ("EDS_SEARCH_REINDEX_PAUSE_MS", "100")];
    let one = Server::start(&dirs[0], &pace);
    let url = database::url(&dirs[0]);
    let two = Server::start(&dirs[1], &[pace[0], pace[1], ("EDS_DATABASE_URL", &url)]);
    fill(&one, 600);
    let is_over = AtomicBool::new(false);
    let rounds = Mutex::new(0);
    let values = ["before", "one", "two", "three"];
    std::thread::scope(|scope| {
        for (n, server) in [&one, &two, &one, &two].into_iter().enumerate() {
            let (is_over, rounds) = (&is_over, &rounds);
            scope.spawn(move || {
                let done = storm(server, &format!("w{n}"), is_over);
                *rounds.lock().unwrap() += done;
            });
        }
        // Parameters change on both servers while all of that is under way.
        for (round, server) in [&one, &two, &two, &one].into_iter().enumerate() {
            put(server, &parameter(&format!("storm-{round}"), "string", "Patient", STORM));
            put(
                server,
                &parameter(
                    &format!("other-{round}"),
                    "token",
                    "Patient",
                    "Patient.extension('urn:test:storm').exists()",
                ),
            );
            std::thread::sleep(Duration::from_millis(300));
        }
        one.delete("/SearchParameter/storm-1").expect(204);
        assert_eq!(status(&two, "storm-2", "status"), "indexing");
        assert!(two.get("/Patient?storm-2=one").refused(400).contains("cannot be searched by yet"));
        wait_until_complete(&two, "storm-3");
        wait_until_complete(&one, "other-3");
        std::thread::sleep(Duration::from_millis(300));
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(*rounds.lock().unwrap() > 20, "{rounds:?}: no storm");
    let expected = scan(&one);
    assert!(expected.len() > 200, "{}", expected.len());
    for server in [&one, &two] {
        for code in ["storm-0", "storm-2", "storm-3"] {
            eventually("both know that it is complete", || {
                server.get(&format!("/Patient?{code}=x")).status == 200
            });
            assert_eq!(found(server, code, &values), expected, "{code}");
            let missing = ids(server, &format!("Patient?{code}:missing=true"));
            let all = ids(server, "Patient?");
            assert_eq!(missing.len() + expected.len(), all.len(), "{code}");
        }
        assert_eq!(server.count("Patient?other-3=true"), expected.len() as u64);
        assert!(
            server
                .get("/Patient?storm-1=one")
                .refused(400)
                .contains("has no search parameter storm-1")
        );
    }
}

#[test]
fn a_kill_in_the_middle_of_the_indexing_costs_only_time() {
    let dir = DataDir::new();
    let mut server = Server::start(&dir, SLOW);
    fill(&server, 600);
    put(&server, &parameter("storm", "string", "Patient", STORM));
    eventually("it has begun", || {
        status(&server, "storm", "percent").as_i64().is_some_and(|p| p > 0)
    });
    let before = status(&server, "storm", "percent").as_i64().unwrap();
    std::thread::scope(|scope| {
        let is_over = AtomicBool::new(false);
        let server = &server;
        let writer = scope.spawn(move || storm(server, "w", &is_over));
        std::thread::sleep(Duration::from_millis(500));
        server.kill_now();
        assert!(writer.join().unwrap() > 0);
    });
    server.ended();
    drop(server);
    server = Server::start(&dir, SLOW);
    assert_eq!(status(&server, "storm", "status"), "indexing");
    let after = status(&server, "storm", "percent").as_i64().unwrap();
    assert!(after >= before, "{after} {before}: it goes on where it was");
    server.kill();
    // Now as fast as it goes.
    server = Server::start(&dir, &[]);
    wait_until_complete(&server, "storm");
    assert_eq!(found(&server, "storm", &["before", "one", "two", "three"]), scan(&server));
}

#[test]
fn indexing_can_be_paused_and_resumed_and_search_says_how_far_it_is() {
    let (server, dir) = server(SLOW);
    fill(&server, 400);
    // The same code for another type: what a chain finds there is only a part.
    let mut of_groups = parameter("storm", "string", "Group", "Group.extension('urn:test:storm').value.ofType(string)");
    (of_groups["id"], of_groups["url"]) = (json!("of-groups"), json!("urn:of-groups"));
    put(&server, &of_groups);
    wait_until_complete(&server, "of-groups");
    server.get("/Observation?subject.storm=late").expect(200);
    put(&server, &parameter("storm", "string", "Patient", STORM));
    let paused = server.fhir("POST", "/SearchParameter/storm/$pause").send().expect(200).json();
    assert!(
        paused["parameter"]
            .as_array()
            .unwrap()
            .contains(&json!({"name": "paused", "valueBoolean": true}))
    );
    server.fhir("POST", "/SearchParameter/storm/$pause").send().expect(200);
    let at = status(&server, "storm", "percent");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(status(&server, "storm", "percent"), at, "it is paused");
    // New writes are indexed meanwhile, but nothing is told of a part.
    server.put("/Patient/late", &stormy("late", Some("late"))).expect(201);
    for search in [
        "Patient?storm=late",
        "Patient?storm:missing=true",
        "Patient?_sort=storm",
        "Observation?subject:Patient.storm=late",
        "Observation?subject.storm=late",
        "Practitioner?_has:Patient:general-practitioner:storm=late",
    ] {
        let answer = server
            .fhir("GET", &format!("/{search}"))
            .header("prefer", "handling=lenient")
            .send();
        let told = answer.expect(400).json();
        assert_eq!(told["issue"][0]["code"], "incomplete", "{search}");
        let text = told["issue"][0]["diagnostics"].as_str().unwrap();
        assert!(
            text.contains("cannot be searched by yet") && text.contains("SearchParameter/storm/$status"),
            "{text}"
        );
    }
    let criteria = server
        .fhir("POST", "/Patient")
        .header("if-none-exist", "storm=late")
        .json(&stormy("", Some("late")))
        .send();
    assert!(criteria.refused(400).contains("cannot be searched by yet"));
    assert!(
        !is_listed(&server, "Patient", "storm"),
        "it is not yet among what can be searched by"
    );
    // A pause outlives the server.
    server.kill();
    let server = Server::start(&dir, &[]);
    assert_eq!(status(&server, "storm", "paused"), true);
    server.fhir("POST", "/SearchParameter/storm/$resume").send().expect(200);
    wait_until_complete(&server, "storm");
    check(&server, &[("Patient?storm=late", &["late"])]);
    assert!(is_listed(&server, "Patient", "storm"));
    server.fhir("POST", "/SearchParameter/storm/$pause").send().refused(409);
    server.fhir("POST", "/SearchParameter/storm/$resume").send().refused(409);
    server.fhir("POST", "/SearchParameter/nosuch/$pause").send().refused(404);
    server.get("/SearchParameter/nosuch/$status").refused(404);
    server.get("/SearchParameter/storm/$pause").refused(405);
    // Everything again, on demand.
    server.fhir("POST", "/SearchParameter/storm/$reindex").send().expect(200);
    wait_until_complete(&server, "storm");
    check(&server, &[("Patient?storm=late", &["late"])]);
}

#[test]
fn what_cannot_be_used_is_refused_with_the_place_and_what_would_be_right() {
    let (server, _dir) = server(&[]);
    put(
        &server,
        &parameter("mine", "token", "Patient", "Patient.extension('urn:a').value.as(Coding)"),
    );
    let with = |member: &str, value: Value| {
        let mut parameter = parameter("new", "token", "Patient", "Patient.extension('urn:a').value.as(Coding)");
        parameter[member] = value;
        parameter
    };
    let expression = |text: &str| with("expression", json!(text));
    let cases = [
        (
            with("code", json!("gender")),
            409,
            "SearchParameter.code",
            "a search parameter with this code already",
        ),
        (
            with("code", json!("mine")),
            409,
            "SearchParameter.code",
            "a search parameter with this code already",
        ),
        (
            with("url", json!("https://example.org/SearchParameter/mine")),
            409,
            "SearchParameter.url",
            "another search parameter with this url",
        ),
        (
            with("url", json!("http://hl7.org/fhir/SearchParameter/individual-gender")),
            409,
            "SearchParameter.url",
            "another search parameter with this url",
        ),
        (with("code", json!("_mine")), 422, "SearchParameter.code", "begin with _"),
        (with("code", json!("a.b")), 422, "SearchParameter.code", "letters, digits"),
        (
            with("base", json!(["Patient", "Person", "Element"])),
            422,
            "SearchParameter.base[2]",
            "",
        ),
        (
            with("type", json!("special")),
            422,
            "SearchParameter.type",
            "not supported: number, date",
        ),
        (with("type", json!("composite")), 422, "SearchParameter.type", "composites"),
        (
            with("type", json!("quantity")),
            422,
            "SearchParameter.expression",
            "on Patient it gives Coding: no value of a quantity parameter",
        ),
        (
            with("target", json!(["Practitioner"])),
            422,
            "SearchParameter.target",
            "only a reference parameter",
        ),
        (
            with("expression", json!(null)),
            422,
            "SearchParameter.expression",
            "needs expression",
        ),
        (
            expression("Patient.surname"),
            422,
            "SearchParameter.expression",
            "on Patient, at character 9, `surname`: Patient has no element surname",
        ),
        (
            expression("Patient.name.matches('x')"),
            422,
            "SearchParameter.expression",
            "at character 14, `matches('x')`: the function matches is not read",
        ),
        (
            expression("Observation.code"),
            422,
            "SearchParameter.expression",
            "on Patient it gives nothing",
        ),
        (expression("Patient.name["), 422, "SearchParameter.expression", "at its end"),
    ];
    for (mut parameter, status, place, text) in cases {
        if parameter["expression"].is_null() {
            parameter.as_object_mut().unwrap().remove("expression");
        }
        let answer = server.put("/SearchParameter/new", &parameter);
        assert_eq!(answer.status, status, "{parameter}: {}", answer.text());
        let told = answer.json();
        let issues = told["issue"].as_array().unwrap();
        let is_told = |issue: &Value| {
            issue["expression"][0].as_str().is_some_and(|e| e.starts_with(place)) && issue["diagnostics"].as_str().unwrap().contains(text)
        };
        assert!(issues.iter().any(is_told), "{place} {text}: {told}");
        server.get("/SearchParameter/new").refused(404);
    }
    // In a transaction, at its entry; and nothing of it is written.
    let bad = expression("Patient.surname");
    let entries = vec![
        entry("PUT", "Patient/beside", patient("beside", Vec::new())),
        entry("PUT", "SearchParameter/new", bad),
    ];
    let told = server.bundle("transaction", entries).expect(422).json();
    assert_eq!(told["issue"][0]["expression"][0], "Bundle.entry[1].SearchParameter.expression");
    server.get("/Patient/beside").refused(404);
    // Drafts are kept and not used, whatever they say; the same is refused when it shall be used.
    let mut draft = with("code", json!("gender"));
    draft["status"] = json!("draft");
    server.put("/SearchParameter/new", &draft).expect(201);
    assert_eq!(status(&server, "new", "status"), "not-in-use");
    draft["status"] = json!("active");
    server.put("/SearchParameter/new", &draft).refused(409);
    assert_eq!(server.get("/SearchParameter/new").expect(200).json()["status"], "draft");
    wait_until_complete(&server, "mine");
}

#[test]
fn what_a_parameter_allows_is_honoured() {
    let (server, _dir) = server(&[]);
    let mut strict = parameter("strict", "date", "Patient", "Patient.extension('urn:test:day').value.ofType(date)");
    strict["multipleOr"] = json!(false);
    strict["multipleAnd"] = json!(false);
    strict["comparator"] = json!(["ge"]);
    strict["modifier"] = json!(["missing"]);
    put(&server, &strict);
    let mut link = parameter(
        "doctor",
        "reference",
        "Patient",
        "Patient.extension('urn:test:doctor').value.ofType(Reference)",
    );
    link["target"] = json!(["Practitioner"]);
    link["chain"] = json!(["family"]);
    put(&server, &link);
    let token = parameter(
        "strict-token",
        "token",
        "Patient",
        "Patient.extension('urn:test:token').value.ofType(code)",
    );
    let mut token = token;
    token["modifier"] = json!(["not"]);
    put(&server, &token);
    for id in ["strict", "doctor", "strict-token"] {
        wait_until_complete(&server, id);
    }
    for (search, told) in [
        ("Patient?strict=2024,2025", "several values joined by a comma (multipleOr)"),
        ("Patient?strict=2024&strict=2025", "to stand more than once (multipleAnd)"),
        ("Patient?strict=le2024", "other comparators than it lists (comparator)"),
        ("Patient?doctor.given=a", "a chain to given (chain)"),
        ("Patient?doctor:Practitioner.given=a", "a chain to given (chain)"),
        ("Patient?strict-token:missing=true", "The modifier :missing is not supported"),
    ] {
        let refused = server.get(&format!("/{search}")).refused(400);
        assert!(refused.contains(told), "{search}: {refused}");
    }
    for search in [
        "Patient?strict=2024",
        "Patient?strict=ge2024",
        "Patient?strict:missing=true",
        "Patient?doctor.family=a",
        "Patient?strict-token:not=a",
    ] {
        server.get(&format!("/{search}")).expect(200);
    }
}

#[test]
fn a_parameter_that_is_changed_retired_or_deleted_is_not_used_and_leaves_the_index() {
    let (server, dir) = server(&[]);
    fill(&server, 60);
    let mut mine = parameter("mine", "string", "Patient", STORM);
    put(&server, &mine);
    wait_until_complete(&server, "mine");
    assert_eq!(server.count("Patient?mine=before"), 20);
    let mut session = Session::open(&dir);
    let rows = "select count(*) from string_index s where value = 'before'";
    assert_eq!(session.number(rows), 20);
    // What does not change its values changes nothing else.
    mine["description"] = json!("another text");
    mine["multipleOr"] = json!(false);
    put(&server, &mine);
    assert_eq!(status(&server, "mine", "status"), "complete");
    server.get("/Patient?mine=a,b").refused(400);
    // Another expression is another parameter.
    mine["expression"] = json!("Patient.name.family");
    put(&server, &mine);
    wait_until_complete(&server, "mine");
    assert_eq!(ids(&server, "Patient?mine=old-00007"), BTreeSet::from(["old-00007".to_owned()]));
    assert_eq!(server.count("Patient?mine=before"), 0);
    assert_eq!(session.number(rows), 0);
    // Retired.
    mine["expression"] = json!(STORM);
    put(&server, &mine);
    wait_until_complete(&server, "mine");
    mine["status"] = json!("retired");
    put(&server, &mine);
    server.get("/Patient?mine=before").refused(400);
    eventually("its values have left the index", || session.number(rows) == 0);
    eventually("nothing is left of it", || status(&server, "mine", "status") == "not-in-use");
    // In use again, then deleted.
    mine["status"] = json!("active");
    put(&server, &mine);
    wait_until_complete(&server, "mine");
    assert_eq!(server.count("Patient?mine=before"), 20);
    server.delete("/SearchParameter/mine").expect(204);
    server.get("/Patient?mine=before").refused(400);
    eventually("its values have left the index", || session.number(rows) == 0);
    eventually("nothing is left of it", || {
        session.number("select count(*) from search_parameter") == 0
    });
    // Several at once, one of them by what it is searched by.
    for code in ["one", "two"] {
        put(&server, &parameter(code, "string", "Patient", STORM));
        wait_until_complete(&server, code);
    }
    // What is being changed is to be tried again.
    eventually("both can be deleted", || {
        server.fhir("DELETE", "/SearchParameter?code=one,two&_count=10").send().status == 200
    });
    eventually("both are gone", || session.number("select count(*) from search_parameter") == 0);
    server.get("/Patient?two=before").refused(400);
    // Its code and url are free again.
    let mut other = parameter("other", "string", "Patient", STORM);
    (other["code"], other["url"]) = (json!("mine"), mine["url"].clone());
    put(&server, &other);
    wait_until_complete(&server, "other");
    assert_eq!(server.count("Patient?mine=before"), 20);
}

#[test]
fn a_write_that_waited_for_a_new_parameter_is_indexed_by_it() {
    let dirs = [DataDir::new(), DataDir::new()];
    let one = Server::start(&dirs[0], &[]);
    let url = database::url(&dirs[0]);
    let two = Server::start(&dirs[1], &[("EDS_DATABASE_URL", &url)]);
    put(&one, &parameter("storm", "string", "Patient", STORM));
    wait_until_complete(&one, "storm");
    // The second server has the parameters of now; then they change under it, before it can hear of it.
    eventually("the second knows it", || two.get("/Patient?storm=x").status == 200);
    let mut session = Session::open(&dirs[0]);
    session.execute("begin; lock table search_generation in access exclusive mode");
    let definition = "(select jsonb_set(jsonb_set(definition, '{code}', '\"late\"'), '{url}', '\"urn:late\"') from search_parameter)";
    session.execute(&format!(
        "insert into search_parameter (id, definition, state, types, after_rid, last_rid, started, updated)
         select 'late', {definition}, 0, types, 0, (select max(rid) from resource), now(), now() from search_parameter;
         update search_generation set generation = generation + 1"
    ));
    std::thread::scope(|scope| {
        let created = scope.spawn(|| two.post("/Patient", &stormy("", Some("waited"))).expect(201));
        let updated = scope.spawn(|| two.put("/Patient/waited", &stormy("waited", Some("waited"))).expect(201));
        eventually("both wait", || session.waiting() >= 2);
        session.execute("commit");
        created.join().unwrap();
        updated.join().unwrap();
    });
    wait_until_complete(&two, "late");
    eventually("it is known", || two.get("/Patient?late=x").status == 200);
    assert_eq!(two.count("Patient?late=waited"), 2);
    // Two by each parameter, and one is called so.
    assert_eq!(session.number("select count(*) from string_index where value = 'waited'"), 5);
}

#[test]
fn a_parameter_and_what_it_finds_come_in_one_transaction() {
    let (server, _dir) = server(&[]);
    let entries = vec![
        entry("PUT", "Patient/with", stormy("with", Some("together"))),
        entry("PUT", "SearchParameter/storm", parameter("storm", "string", "Patient", STORM)),
        entry("PUT", "Patient/without", stormy("without", None)),
    ];
    server.bundle("transaction", entries).expect(200);
    wait_until_complete(&server, "storm");
    check(
        &server,
        &[("Patient?storm=together", &["with"]), ("Patient?storm:missing=true", &["without"])],
    );
    // And a parameter for all types.
    put(
        &server,
        &parameter(
            "noted",
            "string",
            "DomainResource",
            "DomainResource.extension('urn:test:storm').value.ofType(string)",
        ),
    );
    wait_until_complete(&server, "noted");
    check(
        &server,
        &[("Patient?noted=together", &["with"]), ("Observation?noted=together", &[])],
    );
    let unknown = unique();
    assert!(
        server
            .get(&format!("/Patient?{unknown}=x"))
            .refused(400)
            .contains("has no search parameter")
    );
}

#[test]
fn no_search_as_of_an_instant_goes_by_a_parameter_that_superseded_versions_are_not_indexed_by() {
    let (server, _dir) = server(&[("EDS_SEARCH_AS_OF_AGE_MIN_MS", "1")]);
    server.put("/Patient/one", &stormy("one", Some("before"))).expect(201);
    server.put("/Patient/one", &stormy("one", Some("after"))).expect(200);
    let keeper = json!({"resourceType": "Practitioner", "id": "keeper"});
    server.put("/Practitioner/keeper", &keeper).expect(201);
    let kept = patient(
        "kept",
        vec![extension("keeper", json!({"valueReference": {"reference": "Practitioner/keeper"}}))],
    );
    server.put("/Patient/kept", &kept).expect(201);
    put(&server, &parameter("storm", "string", "Patient", STORM));
    let path = "Patient.extension('urn:test:keeper').value.ofType(Reference)";
    put(&server, &parameter("keeper", "reference", "Patient", path));
    wait_until_complete(&server, "storm");
    wait_until_complete(&server, "keeper");
    let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    std::thread::sleep(Duration::from_millis(50));
    for search in [
        "Patient?storm=before",
        "Patient?storm:missing=true",
        "Patient?_filter=storm eq before",
        "Patient?_sort=storm",
        "Patient?_include=Patient:keeper",
        "Practitioner?_revinclude=Patient:keeper",
        "Observation?subject.storm=before",
        "Practitioner?_has:Patient:general-practitioner:storm=before",
    ] {
        server.get(&format!("/{search}")).expect(200);
        // Whichever stands first.
        let (name, parameters) = search.split_once('?').unwrap();
        for search in [format!("/{search}&_asOf={at}"), format!("/{name}?_asOf={at}&{parameters}")] {
            for handling in ["strict", "lenient"] {
                let asked = server.fhir("GET", &search).header("prefer", &format!("handling={handling}"));
                let told = asked.send().expect(400).json();
                let text = told["issue"][0]["diagnostics"].as_str().unwrap();
                assert!(
                    text.contains("superseded versions are not indexed") && text.contains("_asOf"),
                    "{search}: {text}"
                );
            }
        }
    }
    // What does not name it goes on, and a star means the others.
    assert_eq!(server.count(&format!("Patient?_asOf={at}")), 2);
    let modes = |search: &str| {
        let answer = server.get(search).expect(200).json();
        let entries = answer["entry"].as_array().unwrap().clone();
        entries.iter().filter(|e| e["search"]["mode"] == "include").count()
    };
    assert_eq!(modes("/Patient?_include=*"), 1);
    assert_eq!(modes(&format!("/Patient?_include=*&_asOf={at}")), 0);
}
