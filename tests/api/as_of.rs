//! Reads and searches as of an instant (`_asOf`): what they answer is what was answered then. docs/adr/0010-time-travel.md.

use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::database::Session;
use crate::support::http::Answer;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::next_of;
use crate::support::server::shared;
use crate::support::world::World;
use crate::support::world::unique;
use crate::transaction::place;
use chrono::SecondsFormat;
use chrono::Utc;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// A seed to repeat, or none.
const SEED: Option<u64> = None;
const INSTANTS: usize = 16;
const WRITES_BETWEEN: usize = 7;

const FAMILIES: [&str; 5] = ["Rossi", "De Rossi", "Bianchi", "Róssi", "Neri"];
const CODES: [&str; 4] = ["a", "b", "c", "d"];
const DATES: [&str; 6] = [
    "2023",
    "2024-01",
    "2024-01-31",
    "2024-02-01T00:00:00Z",
    "2022-12-31",
    "2024-01-31T23:30:00-01:00",
];

/// `%` stands for an instant in the middle.
const SEARCHES: &[&str] = &[
    "Observation?_count=100",
    "Observation?_count=4",
    "Observation?code=a",
    "Observation?code=urn:c|b,urn:c|c&_total=accurate",
    "Observation?code:not=a&_total=accurate",
    "Observation?status=final&code=a,b",
    "Observation?date=ge2024-01-31",
    "Observation?date=lt2024-01-31&_sort=date",
    "Observation?_sort=-date&_count=3",
    "Observation?_sort=date,-_lastUpdated&_count=5",
    "Observation?_sort=-_lastUpdated&_count=6",
    "Observation?_sort=_id&_count=9",
    "Observation?_sort=value-quantity&_count=5",
    "Observation?_sort=-value-date&_count=5",
    "Observation?value-quantity=gt5",
    "Observation?value-quantity=le5||mg&_sort=-value-quantity",
    "Observation?value-date=ge2024",
    "Observation?subject:missing=true",
    "Observation?subject=Patient/~p1",
    "Observation?subject=Patient/~p1&_count=0",
    "Observation?subject=Patient/~p2&_summary=count",
    "Observation?subject:Patient.family=ross",
    "Observation?subject:Patient.family:contains=oss&_sort=-date&_count=3",
    "Observation?subject:Patient._id=~p3",
    "Observation?_lastUpdated=ge%",
    "Observation?_lastUpdated=lt%&code=a",
    "Observation?_include=Observation:subject&code=b",
    "Observation?_include=Observation:subject&_include:iterate=Patient:organization&code=c",
    "Patient?_revinclude=Observation:subject&family=ross",
    "Patient?family=ross",
    "Patient?family:exact=Rossi",
    "Patient?family:contains=ross&_sort=family",
    "Patient?birthdate=ge1980",
    "Patient?_sort=-family,_id&_count=2",
    "Patient?organization.name=asl",
    "Patient?_has:Observation:patient:code=a",
    "Patient?_has:Observation:patient:code=a&_has:Observation:patient:code=b",
    "Patient?_has:Observation:subject:value-quantity=gt5&family=r",
    "Patient?_id=~p0,~p1,~p4",
    "Patient/~p1/Observation?code=a,b",
    "Patient/~p2/Patient?family=r",
    "Patient/~p1/*?_count=4",
    "?_type=Patient,Observation&_count=7",
    "?_type=Patient,Organization,Observation&_sort=-_lastUpdated&_count=9&_total=accurate",
    "Observation?_filter=code eq a or (status eq final and value-quantity gt 5)",
    "Patient?_filter=family ew \"si\"",
    "Observation?_sort=status,-code&_count=5",
    "Observation?code-value-quantity=urn:c|a$gt3",
    "Location?near=45.0|9.0|50|km",
    "Location?near=45.0|9.0|500|km&_sort=_id",
];

fn pick(rng: &mut StdRng, texts: &[&'static str]) -> &'static str {
    texts.choose(rng).unwrap()
}

fn resource(rng: &mut StdRng, name: &str) -> Value {
    match name.as_bytes()[0] {
        b'p' => {
            let mut patient = json!({"resourceType": "Patient", "name": [{"family": pick(rng, &FAMILIES)}],
                                     "birthDate": pick(rng, &["1950-01-01", "1980", "1999-12"])});
            if rng.random_bool(0.7) {
                patient["managingOrganization"] = json!({"reference": format!("Organization/~g{}", rng.random_range(0..2))});
            }
            patient
        }
        b'l' => json!({"resourceType": "Location", "position": {"latitude": 45, "longitude": rng.random_range(8..13)}}),
        b'g' => json!({"resourceType": "Organization", "name": pick(rng, &["ASL Roma", "Ospedale"])}),
        _ => {
            let mut observation = json!({"resourceType": "Observation", "status": pick(rng, &["final", "amended"]),
                                         "code": {"coding": [{"system": "urn:c", "code": pick(rng, &CODES)}]}});
            if rng.random_bool(0.8) {
                observation["effectiveDateTime"] = json!(pick(rng, &DATES));
            }
            if rng.random_bool(0.8) {
                observation["subject"] = json!({"reference": format!("Patient/~p{}", rng.random_range(0..5))});
            }
            match rng.random_range(0..3) {
                0 => observation["valueQuantity"] = json!({"value": rng.random_range(0..10), "unit": "mg"}),
                1 => observation["valueDateTime"] = json!(pick(rng, &DATES)),
                _ => {}
            }
            observation
        }
    }
}

fn type_of(name: &str) -> &'static str {
    match name.as_bytes()[0] {
        b'p' => "Patient",
        b'g' => "Organization",
        b'l' => "Location",
        _ => "Observation",
    }
}

/// Now, as `_asOf` takes it: what is written before is older, and what is written after is younger.
pub fn instant() -> String {
    std::thread::sleep(Duration::from_millis(2));
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    std::thread::sleep(Duration::from_millis(2));
    now
}

/// Until what was written a moment ago can be looked back to.
fn wait_until_settled() {
    std::thread::sleep(Duration::from_millis(2_100));
}

/// What a search tells on all its pages, but for links and the Bundle's own id.
fn told(server: &Server, path: &str) -> Value {
    let mut pages = vec![server.get(path).expect(200).json()];
    while let Some(target) = pages.last().and_then(next_of) {
        pages.push(server.request("GET", &target).send().expect(200).json());
    }
    let told = |page: &Value| {
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        let entries: Vec<Value> = entries.iter().map(|e| json!([e["search"]["mode"], e["resource"]])).collect();
        json!({"total": page["total"], "entries": entries})
    };
    pages.iter().map(told).collect()
}

fn read(answer: &Answer) -> (u16, Option<String>, String) {
    let body = if answer.status == 200 {
        answer.text().to_owned()
    } else {
        String::new()
    };
    (answer.status, answer.header("etag").map(str::to_owned), body)
}

#[test]
fn every_read_and_search_as_of_an_instant_is_answered_as_it_was_then() {
    let seed = SEED.unwrap_or_else(rand::random);
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new();
    let server = world.server;
    let names: Vec<String> = (0..2)
        .map(|i| format!("g{i}"))
        .chain((0..2).map(|i| format!("l{i}")))
        .chain((0..5).map(|i| format!("p{i}")))
        .chain((0..20).map(|i| format!("o{i}")))
        .collect();
    let path = |name: &str| format!("/{}/{}-{name}", type_of(name), world.tag);
    let before = instant();
    let mut middle = before.clone();
    let mut recorded = Vec::new();
    for round in 0..INSTANTS {
        let mut written: Vec<&String> = names.choose_multiple(&mut rng, WRITES_BETWEEN).collect();
        if round == 0 {
            written = names.iter().collect();
        }
        if round % 3 == 1 {
            let load: Vec<(&str, Value)> = written.iter().map(|name| (name.as_str(), resource(&mut rng, name))).collect();
            world.load(load);
        } else {
            for name in written {
                match rng.random_bool(0.2) && name.starts_with('o') {
                    true => assert!([204, 404, 410].contains(&server.delete(&path(name)).status)),
                    false => assert!([200, 201].contains(&world.put(name, resource(&mut rng, name)).status)),
                }
            }
        }
        let at = instant();
        if round == INSTANTS / 2 {
            middle.clone_from(&at);
        }
        let searches: Vec<(String, Value)> = SEARCHES
            .iter()
            .map(|search| {
                let path = world.path(&search.replace('%', &middle));
                let answer = told(server, &path);
                (path, answer)
            })
            .collect();
        let reads: Vec<_> = names.iter().map(|name| (path(name), read(&server.get(&path(name))))).collect();
        recorded.push((at, searches, reads));
    }
    wait_until_settled();
    let (mut wrong, mut compared, mut with_matches) = (Vec::new(), 0, 0);
    for (at, searches, reads) in &recorded {
        for (path, then) in searches {
            let now = told(server, &format!("{path}&_asOf={at}"));
            compared += 1;
            with_matches += usize::from(!then[0]["entries"].as_array().unwrap().is_empty());
            if now != *then {
                wrong.push(format!("{path} as of {at}:\n  then {then}\n  now  {now}"));
            }
        }
        for (path, then) in reads {
            let now = read(&server.get(&format!("{path}?_asOf={at}")));
            if now != *then {
                wrong.push(format!("{path} as of {at}:\n  then {then:?}\n  now  {now:?}"));
            }
        }
    }
    println!("{compared} searches, {with_matches} of them with matches");
    assert!(with_matches > compared / 2, "the searches are too narrow to tell anything");
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} of {compared} searches and the reads are wrong, the first:\n{}",
        wrong.len(),
        wrong[0]
    );
    // Before the first write there was nothing.
    assert_eq!(
        told(server, &world.path(&format!("Observation?_asOf={before}&_total=accurate")))[0],
        json!({"total": 0, "entries": []})
    );
    for name in &names {
        server.get(&format!("{}?_asOf={before}", path(name))).refused(404);
    }
    // The same inside a batch.
    let (at, searches, reads) = &recorded[INSTANTS / 2];
    let url = |path: &str, separator: char| json!({"request": {"method": "GET", "url": format!("{}{separator}_asOf={at}", &path[1..])}});
    let entries = vec![url(&searches[0].0.replace('|', "%7C"), '&'), url(&reads[0].0, '?')];
    let answer = server.bundle("batch", entries).expect(200).json();
    assert_eq!(
        answer["entry"][0]["resource"]["entry"].as_array().unwrap().len(),
        searches[0].1[0]["entries"].as_array().unwrap().len()
    );
    assert_eq!(
        answer["entry"][1]["resource"].to_string(),
        serde_json::from_str::<Value>(&reads[0].1.2).unwrap().to_string()
    );
}

#[test]
fn pages_stay_at_their_instant_while_others_write_and_a_cursor_is_of_one_instant() {
    let world = World::new();
    for i in 0..7 {
        world.put(&format!("o{i}"), json!({"resourceType": "Basic", "code": {"text": "one"}}));
    }
    let at = instant();
    wait_until_settled();
    let first = world.search(&format!("Basic?_count=3&_asOf={at}")).expect(200).json();
    let link = first["link"][0]["url"].as_str().unwrap();
    assert!(link.contains(&format!("_asOf={}", at.replace(':', "%3A"))), "{link}");
    let mut names = world.names(&first, "match");
    let mut page = first.clone();
    for i in 0..7 {
        world.put(&format!("o{i}"), json!({"resourceType": "Basic", "code": {"text": "two"}}));
        world.put(&format!("n{i}"), json!({"resourceType": "Basic", "code": {"text": "new"}}));
        if let Some(next) = next_of(&page) {
            page = world.server.request("GET", &next).send().expect(200).json();
            names.extend(world.names(&page, "match"));
            let texts = page["entry"].as_array().unwrap().iter().map(|e| &e["resource"]["code"]["text"]);
            assert!(texts.clone().all(|text| text == "one"), "{page}");
        }
    }
    names.sort();
    assert_eq!(names, ["o0", "o1", "o2", "o3", "o4", "o5", "o6"]);
    let next = next_of(&first).unwrap();
    let later = next.replace(&at.replace(':', "%3A"), "2020-01-01");
    assert_ne!(next, later);
    let why = world.server.request("GET", &later).send().refused(400);
    assert!(why.contains("_cursor"), "{why}");
}

#[test]
fn what_is_no_instant_or_is_not_over_is_refused_and_says_what_would_be_right() {
    let server = shared();
    let future = (Utc::now() + chrono::TimeDelta::days(1)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let (now, today) = (
        Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        Utc::now().format("%Y-%m-%d").to_string(),
    );
    for path in ["/Patient?_asOf=", "/Patient/x?_asOf=", "/Patient/x/Observation?_asOf="] {
        for (value, expected) in [
            (future.as_str(), "as_of_age_min_ms"),
            (&now, "as_of_age_min_ms"),
            (&today, "as_of_age_min_ms"),
            ("9999", "as_of_age_min_ms"),
            ("yesterday", "YYYY-MM-DD"),
            ("", "YYYY-MM-DD"),
            ("2020-13-01", "YYYY-MM-DD"),
            ("2020-01-01&_asOf=2020-01-02", "once"),
        ] {
            let why = server.get(&format!("{path}{value}")).refused(400);
            assert!(why.contains(expected), "{path}{value}: {why}");
        }
    }
    // It is a parameter of reads and searches alone.
    server
        .fhir("POST", "/Patient")
        .header("if-none-exist", "identifier=x&_asOf=2020-01-01")
        .json(&json!({"resourceType": "Patient"}))
        .send()
        .refused(400);
    for past in ["0001-01-01", "2020", "2020-01", "2020-01-01T00:00:00+01:00"] {
        let found = server.get(&format!("/Patient?_asOf={past}&_total=accurate")).expect(200).json();
        assert_eq!(found["total"], 0, "{past}");
    }
}

#[test]
fn a_date_is_the_end_of_its_day_and_an_instant_takes_in_what_it_names() {
    let server = shared();
    let id = unique();
    let resource = |text: &str| json!({"resourceType": "Basic", "id": id, "code": {"text": text}});
    let updated = |text: &str| {
        let answer = server.put(&format!("/Basic/{id}"), &resource(text));
        std::thread::sleep(Duration::from_millis(2));
        answer.json()["meta"]["lastUpdated"].as_str().unwrap().to_owned()
    };
    let (first, second) = (updated("one"), updated("two"));
    wait_until_settled();
    let text = |at: &str| server.get(&format!("/Basic/{id}?_asOf={at}")).expect(200).json()["code"]["text"].clone();
    assert_eq!((text(&first), text(&second)), (json!("one"), json!("two")));
    let just_before = |at: &str| {
        (at.parse::<chrono::DateTime<Utc>>().unwrap() - chrono::TimeDelta::milliseconds(1)).to_rfc3339_opts(SecondsFormat::Millis, true)
    };
    server.get(&format!("/Basic/{id}?_asOf={}", just_before(&first))).refused(404);
    assert_eq!(text(&just_before(&second)), "one");
    assert_eq!(server.count(&format!("Basic?_id={id}&_asOf={first}")), 1);
    assert_eq!(server.count(&format!("Basic?_id={id}&_asOf={}", just_before(&first))), 0);
}

#[test]
fn what_is_withdrawn_now_is_not_there_at_any_instant_and_what_is_shown_again_never_was_away() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let at = |i: usize| place(&answer, i);
    let observation = (0..10).map(at).find(|place| place.starts_with("Observation/")).unwrap();
    let composition = (0..10).map(at).find(|place| place.starts_with("Composition/")).unwrap();
    let mut changed = server.get(&format!("/{observation}")).expect(200).json();
    let shown = instant();
    changed["status"] = json!("amended");
    server.put(&format!("/{observation}"), &changed).expect(200);
    let amended = instant();
    let deletion = server.fhir("DELETE", &format!("/{composition}")).header("x-referrers", "stay");
    deletion.send().expect(204);
    let deleted = instant();
    rule(server, &prefix, "P99");
    let hidden = instant();
    wait_until_settled();
    let instants = [&shown, &amended, &deleted, &hidden];
    let searches = |at: &str| {
        [
            format!("Observation?patient.identifier={prefix}CF&_asOf={at}"),
            format!("Observation?_id={}&_asOf={at}", &observation["Observation/".len()..]),
            format!("Composition?identifier={prefix}DOC&_asOf={at}"),
            format!("Patient?identifier={prefix}CF&_has:Observation:patient:status=final,amended&_asOf={at}"),
        ]
    };
    for at in instants {
        for path in [&observation, &composition] {
            let why = server.get(&format!("/{path}?_asOf={at}")).refused(404);
            assert_eq!(why, server.get(&format!("/{path}")).refused(404), "{at}");
        }
        for search in searches(at) {
            assert_eq!(server.count(&search), 0, "{search}");
        }
        let patient = format!("/Patient?identifier={prefix}CF&_revinclude=Observation:patient&_asOf={at}");
        assert_eq!(
            server.get(&patient).expect(200).json()["entry"].as_array().unwrap().len(),
            1,
            "{at}"
        );
    }
    rule(server, &prefix, "P00");
    let status = |at: &str| server.get(&format!("/{observation}?_asOf={at}")).expect(200).json()["status"].clone();
    assert_eq!(instants.map(|at| status(at)), ["final", "amended", "amended", "amended"]);
    for (at, compositions) in [(&shown, 1), (&amended, 1), (&deleted, 0), (&hidden, 0)] {
        assert_eq!(searches(at).map(|search| server.count(&search)), [1, 1, compositions, 1], "{at}");
    }
    server.get(&format!("/{composition}?_asOf={shown}")).expect(200);
    server.get(&format!("/{composition}?_asOf={hidden}")).refused(410);
}

#[test]
fn a_version_that_came_and_went_while_it_was_hidden_is_at_no_instant() {
    let server = shared();
    let prefix = unique();
    let answer = server.post("", &referto(&prefix)).expect(200).json();
    let observation = (0..10)
        .map(|i| place(&answer, i))
        .find(|place| place.starts_with("Observation/"))
        .unwrap();
    let mut resource = server.get(&format!("/{observation}")).expect(200).json();
    let first = instant();
    rule(server, &prefix, "P99");
    let mut write = |text: &str| {
        resource["status"] = json!(text);
        server.put(&format!("/{observation}"), &resource);
        instant()
    };
    let (second, third) = (write("amended"), write("corrected"));
    rule(server, &prefix, "P00");
    wait_until_settled();
    let status = |at: &str| {
        let answer = server.get(&format!("/{observation}?_asOf={at}"));
        (answer.status == 200).then(|| answer.json()["status"].clone())
    };
    assert_eq!(status(&first), Some(json!("final")));
    assert_eq!(status(&second), None);
    assert_eq!(status(&third), Some(json!("corrected")));
    let id = &observation["Observation/".len()..];
    let counts = [&first, &second, &third].map(|at| server.count(&format!("Observation?_id={id}&_asOf={at}")));
    assert_eq!(counts, [1, 0, 1]);
}

#[test]
fn an_instant_is_answered_only_when_all_that_was_written_before_it_is_committed() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let id = unique();
    let resource = |text: &str| json!({"resourceType": "Basic", "id": id, "code": {"text": text}});
    let path = format!("/Basic/{id}");
    server.put(&path, &resource("one")).expect(201);
    let mut holder = Session::open(&dir);
    holder.execute("begin; lock table history in share mode");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| server.put(&path, &resource("two")).expect(200));
        let mut session = Session::open(&dir);
        eventually("the write waits with its time taken", || session.waiting() > 0);
        let at = instant();
        wait_until_settled();
        for path in [format!("{path}?_asOf={at}"), format!("/Basic?_id={id}&_asOf={at}")] {
            let answer = server.get(&path);
            assert!(answer.header("retry-after").is_some());
            let why = answer.refused(503);
            assert!(why.contains("not committed"), "{why}");
        }
        // Older ones do not wait for it.
        assert_eq!(server.count("Basic?_asOf=2020-01-01"), 0);
        holder.execute("commit");
        writing.join().unwrap();
        let read = server.get(&format!("{path}?_asOf={at}")).expect(200).json();
        assert_eq!(read["code"]["text"], "two");
        let found = server.get(&format!("/Basic?_id={id}&_asOf={at}")).expect(200).json();
        assert_eq!(found["entry"][0]["resource"]["code"]["text"], "two");
    });
    server.stop();
}

#[test]
fn an_instant_is_not_answered_while_a_write_of_before_waits_for_a_change_of_the_search_parameters() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let basic = json!({"resourceType": "Basic", "code": {"text": "one"}});
    server.post("/Basic", &basic).expect(201);
    let mut changing = Session::open(&dir);
    changing.execute("begin; lock table search_generation in access exclusive mode");
    std::thread::scope(|scope| {
        // A create is one statement, which has no transaction id before it has its locks.
        let writing = scope.spawn(|| server.post("/Basic", &basic).expect(201));
        let writes = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%with input as%'";
        let mut session = Session::open(&dir);
        eventually("the write waits with its time taken", || session.number(writes) > 0);
        let at = instant();
        wait_until_settled();
        let why = server.get(&format!("/Basic?_asOf={at}")).refused(503);
        assert!(why.contains("not committed"), "{why}");
        changing.execute("commit");
        writing.join().unwrap();
        assert_eq!(server.count(&format!("Basic?_asOf={at}")), 2);
    });
    server.stop();
}

#[test]
fn no_version_is_older_than_the_one_it_supersedes_though_clocks_differ() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let id = unique();
    let resource = |text: &str| json!({"resourceType": "Basic", "id": id, "code": {"text": text}});
    let path = format!("/Basic/{id}");
    server.put(&path, &resource("one")).expect(201);
    // As another server writes whose clock is an hour ahead.
    Session::open(&dir).execute("update resource set updated = updated + interval '1 hour'");
    let ahead = server.get(&path).expect(200).json()["meta"]["lastUpdated"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = server.put(&path, &resource("two")).expect(200).json();
    assert_eq!(second["meta"]["lastUpdated"], ahead);
    assert_eq!(server.get(&path).expect(200).json()["meta"]["lastUpdated"], ahead);
    assert!(Session::open(&dir).number("select count(*) from history where superseded >= updated") == 1);
    server.stop();
}
