//! The feed and the delivery to the regions: three real servers, the national one and two that play regional repositories.
//! Invariants I5, I6, I8 of ARCHITECTURE.md; docs/adr/0002-feed.md.

use crate::crud::without_meta;
use crate::ministry::referto;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::free_port;
use crate::support::world::World;
use crate::support::world::unique;
use crate::transaction::entry;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const CF: &str = "urn:oid:2.16.840.1.113883.2.9.4.3.2";

pub struct Country {
    pub national: Server,
    pub lazio: Server,
    pub lombardia: Server,
    _dirs: [DataDir; 3],
}

/// Delivers often and tries again soon.
pub fn settings(regions: &str) -> Vec<(&str, &str)> {
    vec![
        ("EDS_DELIVERY_REGION", regions),
        ("EDS_DELIVERY_POLL_MS", "100"),
        ("EDS_DELIVERY_RETRY_SCHEDULE_S", "[1]"),
    ]
}

/// The servers that the tests of this file share; each test has patients of its own.
pub fn country() -> &'static Country {
    static COUNTRY: OnceLock<Country> = OnceLock::new();
    COUNTRY.get_or_init(|| {
        let dirs = [DataDir::new(), DataDir::new(), DataDir::new()];
        let (lazio, lombardia) = (Server::start(&dirs[1], &[]), Server::start(&dirs[2], &[]));
        let regions = format!(
            r#"[{{code="120",url="{}"}},{{code="030",url="{}"}},{{code="200",url=""}}]"#,
            lazio.base(),
            lombardia.base()
        );
        let national = Server::start(&dirs[0], &settings(&regions));
        Country {
            national,
            lazio,
            lombardia,
            _dirs: dirs,
        }
    })
}

impl Country {
    pub fn region(&self, code: &str) -> &Server {
        if code == "120" { &self.lazio } else { &self.lombardia }
    }

    /// Returns when both regions have received everything that was committed before: the streams are in order, so a marker comes last.
    pub fn settle(&self) {
        for code in ["120", "030"] {
            let (cf, id) = (unique().to_uppercase(), unique());
            assist(&self.national, &cf, code);
            self.national.put(&format!("/Patient/{id}"), &patient(&id, &cf)).expect(201);
            eventually("the marker arrives", || {
                self.region(code).get(&format!("/Patient/{id}")).status == 200
            });
        }
    }
}

pub fn assist(server: &Server, cf: &str, region: &str) {
    server
        .request("PUT", &format!("/rda/{cf}"))
        .json(&json!({"region": region}))
        .send()
        .expect(204);
}

pub fn patient(id: &str, cf: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "identifier": [{"system": CF, "value": cf}]})
}

pub fn reference(to: &str) -> Value {
    json!({"reference": to})
}

/// Three patients with their data, their doctors and organizations, and some that belong to nobody.
fn population() -> (World, [String; 3]) {
    let world = World::on(&country().national);
    let cfs = [(); 3].map(|()| unique().to_uppercase());
    assist(world.server, &cfs[0], "120");
    assist(world.server, &cfs[1], "030");
    let person = |cf: &str, organization: &str| json!({"resourceType": "Patient", "identifier": [{"system": CF, "value": cf}], "managingOrganization": reference(organization)});
    let observation = |subject: &str, performer: &str| {
        json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": reference(subject), "performer": [reference(performer)],
            "valueQuantity": {"value": 1, "unit": "mg"}})
    };
    let organization = |name: &str, part_of: Option<&str>| match part_of {
        Some(part_of) => json!({"resourceType": "Organization", "name": name, "partOf": reference(part_of)}),
        None => json!({"resourceType": "Organization", "name": name}),
    };
    world.load(vec![
        ("group", organization("group", None)),
        ("rome", organization("rome", Some("Organization/~group"))),
        ("milan", organization("milan", None)),
        ("unused", organization("unused", None)),
        ("doctor-rome", json!({"resourceType": "Practitioner", "name": [{"family": "x"}]})),
        ("doctor-both", json!({"resourceType": "Practitioner", "name": [{"family": "y"}]})),
        ("role", json!({"resourceType": "PractitionerRole", "practitioner": reference("Practitioner/~doctor-both"), "organization": reference("Organization/~milan")})),
        ("anna", person(&cfs[0], "Organization/~rome")),
        ("bruno", person(&cfs[1], "Organization/~milan")),
        ("carla", person(&cfs[2], "Organization/~milan")),
        ("o-anna", observation("Patient/~anna", "Practitioner/~doctor-rome")),
        ("o-anna-both", observation("Patient/~anna", "Practitioner/~doctor-both")),
        ("o-bruno", observation("Patient/~bruno", "Practitioner/~doctor-both")),
        ("o-carla", observation("Patient/~carla", "Practitioner/~doctor-both")),
        ("role-bruno", observation("Patient/~bruno", "PractitionerRole/~role")),
        ("medication", json!({"resourceType": "Medication", "code": {"text": "x"}})),
    ]);
    (world, cfs)
}

/// Names of the world's resources in a region.
fn held(world: &World, region: &Server) -> Vec<String> {
    let mut names = Vec::new();
    for type_name in [
        "Patient",
        "Observation",
        "Practitioner",
        "PractitionerRole",
        "Organization",
        "Medication",
    ] {
        let bundle = region.get(&format!("{}&_count=100", world.path(type_name))).expect(200).json();
        names.extend(world.names(&bundle, "match"));
    }
    names.sort();
    names
}

const OF_ANNA: [&str; 7] = ["anna", "doctor-both", "doctor-rome", "group", "o-anna", "o-anna-both", "rome"];
const OF_BRUNO: [&str; 6] = ["bruno", "doctor-both", "milan", "o-bruno", "role", "role-bruno"];

#[test]
fn a_region_receives_exactly_what_pertains_to_it_and_what_that_refers_to() {
    let country = country();
    let (world, _) = population();
    country.settle();
    assert_eq!(held(&world, &country.lazio), OF_ANNA);
    assert_eq!(held(&world, &country.lombardia), OF_BRUNO);
    // As it is here, under the same id, in its first version.
    for (type_name, name) in [("Patient", "anna"), ("Observation", "o-anna"), ("Organization", "group")] {
        let path = world.name(&format!("/{type_name}/~{name}"));
        let (here, there) = (country.national.get(&path).json(), country.lazio.get(&path).json());
        assert_eq!(without_meta(there.clone()), without_meta(here), "{path}");
        assert_eq!(there["meta"]["versionId"], "1", "{path}");
    }
}

#[test]
fn updates_and_deletions_arrive_and_what_is_new_follows() {
    let country = country();
    let (world, _) = population();
    country.settle();
    let mut observation = country.national.get(&world.name("/Observation/~o-anna")).json();
    observation["valueQuantity"]["value"] = json!(2);
    country.national.put(&world.name("/Observation/~o-anna"), &observation).expect(200);
    country.national.delete(&world.name("/Observation/~o-anna-both")).expect(204);
    let mut organization = country.national.get(&world.name("/Organization/~rome")).json();
    organization["name"] = json!("Roma");
    country.national.put(&world.name("/Organization/~rome"), &organization).expect(200);
    world.put("late", json!({"resourceType": "Observation", "status": "final", "code": {"text": "y"}, "subject": reference("Patient/~anna"), "performer": [reference("Organization/~unused")]}));
    country.settle();
    let there = country.lazio.get(&world.name("/Observation/~o-anna")).json();
    assert_eq!(
        (there["valueQuantity"]["value"].as_i64(), there["meta"]["versionId"].as_str()),
        (Some(2), Some("2"))
    );
    country.lazio.get(&world.name("/Observation/~o-anna-both")).refused(410);
    assert_eq!(country.lazio.get(&world.name("/Organization/~rome")).json()["name"], "Roma");
    let held = held(&world, &country.lazio);
    assert!(held.contains(&"late".to_owned()) && held.contains(&"unused".to_owned()), "{held:?}");
    country.lombardia.get(&world.name("/Organization/~rome")).refused(404);
    // Nothing else was touched there.
    let untouched = country.lazio.get(&world.name("/Patient/~anna")).json();
    assert_eq!(untouched["meta"]["versionId"], "1");
}

#[test]
fn a_patient_who_moves_is_removed_from_the_old_region_and_arrives_in_the_new() {
    let country = country();
    let (world, cfs) = population();
    country.settle();
    assist(&country.national, &cfs[0], "030");
    eventually("the data arrive in the new region", || {
        held(&world, &country.lombardia).len() == OF_ANNA.len() + OF_BRUNO.len() - 1
    });
    country.settle();
    let mut both: Vec<&str> = [OF_ANNA.as_slice(), OF_BRUNO.as_slice()].concat();
    both.sort_unstable();
    both.dedup();
    assert_eq!(held(&world, &country.lombardia), both);
    for path in ["/Patient/~anna", "/Observation/~o-anna", "/Observation/~o-anna-both"] {
        country.lazio.get(&world.name(path)).refused(410);
    }
    // The registry tells what it knows; someone without an entry belongs nowhere.
    let known = country
        .national
        .request("GET", &format!("/rda/{}", cfs[0]))
        .send()
        .expect(200)
        .json();
    assert_eq!(known, json!({"region": "030"}));
    country.national.request("GET", &format!("/rda/{}", cfs[2])).send().refused(404);
    // Back again: it is undone.
    assist(&country.national, &cfs[0], "120");
    eventually("the data arrive again", || {
        country.lazio.get(&world.name("/Observation/~o-anna")).status == 200
    });
    country.settle();
    country.lombardia.get(&world.name("/Patient/~anna")).refused(410);
    // Who is no longer in the registry is removed everywhere.
    country.national.request("DELETE", &format!("/rda/{}", cfs[1])).send().expect(204);
    eventually("the data are removed", || {
        country.lombardia.get(&world.name("/Patient/~bruno")).status == 410
    });
    country.settle();
    country.lombardia.get(&world.name("/Observation/~o-bruno")).refused(410);
}

#[test]
fn a_registry_entry_may_come_after_the_data() {
    let country = country();
    let (world, cfs) = population();
    country.settle();
    country.lazio.get(&world.name("/Patient/~carla")).refused(404);
    assist(&country.national, &cfs[2], "120");
    eventually("the data arrive", || {
        country.lazio.get(&world.name("/Observation/~o-carla")).status == 200
    });
    country.settle();
    let held = held(&world, &country.lazio);
    for name in ["carla", "o-carla", "milan", "doctor-both"] {
        assert!(held.contains(&name.to_owned()), "{name} {held:?}");
    }
}

#[test]
fn a_document_brings_its_patient_to_the_region_of_its_origin() {
    let country = country();
    let prefix = unique().to_uppercase();
    let answer = country.national.post("", &referto(&prefix)).expect(200).json();
    country.settle();
    for i in 0..10 {
        let path = format!("/{}", place(&answer, i));
        // The Location is in the Bundle, but nothing of the patient refers to it.
        let expected = if path.starts_with("/Location") { 404 } else { 200 };
        assert_eq!(country.lazio.get(&path).status, expected, "{path}");
        country.lombardia.get(&path).refused(404);
    }
    assert_eq!(country.lazio.count(&format!("Composition?patient.identifier={prefix}CF")), 1);
    // The registry is asked first.
    assist(&country.national, &format!("{prefix}CF"), "030");
    eventually("the document moves", || {
        country.lombardia.count(&format!("Composition?patient.identifier={prefix}CF")) == 1
    });
    country.settle();
    assert_eq!(country.lazio.count(&format!("Composition?patient.identifier={prefix}CF")), 0);
}

#[test]
fn the_pull_feed_has_bounded_pages_in_order_and_ends() {
    let country = country();
    // Sardegna has no address: it pulls. Its stream is this test's alone.
    let cf = unique().to_uppercase();
    let world = World::on(&country.national);
    assist(world.server, &cf, "200");
    world.load(vec![(
        "p",
        json!({"resourceType": "Patient", "identifier": [{"system": CF, "value": cf}]}),
    )]);
    let observation = |i: usize| json!({"resourceType": "Observation", "status": "final", "code": {"text": i.to_string()}, "subject": reference("Patient/~p")});
    for i in 0..7 {
        world.put(&format!("o{i}"), observation(i)).expect(201);
    }
    country.national.delete(&world.name("/Observation/~o3")).expect(204);
    country.settle();
    let mut target = "/fhir/$changes?region=200&after=0&_count=3".to_owned();
    let mut state: BTreeMap<String, Option<Value>> = BTreeMap::new();
    let (mut pages, mut items) = (0, 0);
    loop {
        let page = country.national.request("GET", &target).send().expect(200).json();
        assert_eq!(page["type"], "history");
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        assert!(entries.len() <= 3);
        let next = page["link"].as_array().unwrap().iter().find(|l| l["relation"] == "next").unwrap()["url"]
            .as_str()
            .unwrap()
            .to_owned();
        let next = next
            .strip_prefix(&format!("http://{}", country.national.address))
            .unwrap()
            .to_owned();
        if entries.is_empty() {
            assert_eq!(next, target, "at the end the link stays where it is");
            break;
        }
        for entry in &entries {
            state.insert(entry["request"]["url"].as_str().unwrap().to_owned(), entry.get("resource").cloned());
        }
        (pages, items, target) = (pages + 1, items + entries.len(), next);
        assert!(pages < 100);
    }
    assert!(pages >= 3 && items >= 9, "{pages} {items}");
    let present: Vec<String> = state.iter().filter(|(_, r)| r.is_some()).map(|(url, _)| url.clone()).collect();
    let expected: Vec<String> = [
        "Observation/~o0",
        "Observation/~o1",
        "Observation/~o2",
        "Observation/~o4",
        "Observation/~o5",
        "Observation/~o6",
        "Patient/~p",
    ]
    .iter()
    .map(|n| world.name(n))
    .collect();
    assert_eq!(present, expected);
    assert_eq!(state.get(&world.name("Observation/~o3")), Some(&None));
    for (query, status) in [
        ("region=999", 404),
        ("region=010", 404),
        ("", 400),
        ("region=200&after=-1", 400),
        ("region=200&after=x", 400),
        ("region=200&epoch=x", 400),
        ("region=200&epoch=7&after=1", 410),
        ("region=200&nosuch=1", 400),
    ] {
        country.national.get(&format!("/$changes?{query}")).refused(status);
    }
    // Far beyond the end there is nothing.
    let beyond = country.national.get("/$changes?region=200&after=1000000000").expect(200).json();
    assert_eq!(beyond.get("entry"), None);
}

#[test]
fn the_state_of_the_regions_shows_a_backlog_that_goes_to_zero() {
    let country = country();
    let (_, _) = population();
    let states = || country.national.request("GET", "/regions").send().expect(200).json();
    let of = |code: &str| states().as_array().unwrap().iter().find(|s| s["region"] == code).unwrap().clone();
    for code in ["120", "030"] {
        eventually("the backlog is gone", || {
            of(code)["backlog"] == 0 && of(code)["head"].as_i64() > Some(0)
        });
        let state = of(code);
        assert_eq!(
            (&state["delivery"], &state["parked"], &state["attempts"]),
            (&json!("push"), &json!(0), &json!(0)),
            "{state}"
        );
    }
    assert_eq!(of("200")["delivery"], "pull");
}

#[test]
fn the_registry_refuses_what_is_no_region() {
    let national = &country().national;
    for body in [
        json!({"region": "999"}),
        json!({"region": "12"}),
        json!({"region": 120}),
        json!({}),
        json!([]),
        json!({"region": "120", "x": 1}),
        json!(null),
    ] {
        national.request("PUT", "/rda/RSSMRA80A01H501U").json(&body).send().refused(400);
    }
    national
        .request("PUT", "/rda/RSSMRA80A01H501U")
        .body("text/plain", "120")
        .send()
        .refused(415);
    national.request("PUT", "/rda/RSSMRA80A01H501U").fhir("{").send().refused(400);
}

/// Writes patients with an observation each until told to stop; each id that was acknowledged goes to the ledger.
fn feed(server: &Server, written: &AtomicU64, is_over: &AtomicBool) -> Vec<String> {
    let mut ledger = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let id = unique();
        let observation = json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": id}, "subject": reference(&format!("Patient/{id}"))});
        let entries = vec![
            entry("PUT", &format!("Patient/{id}"), patient(&id, &id)),
            entry("PUT", &format!("Observation/{id}"), observation),
        ];
        let body = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        match server.fhir("POST", "").json(&body).try_send() {
            Ok(answer) if answer.status == 200 => ledger.push(id),
            _ => return ledger,
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
    ledger
}

/// Everything of a type: id to content and version.
fn all(server: &Server, type_name: &str) -> BTreeMap<String, (Value, String)> {
    let mut target = format!("/fhir/{type_name}?_count=500");
    let mut all = BTreeMap::new();
    loop {
        let bundle = server.request("GET", &target).send().expect(200).json();
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            let resource = entry["resource"].clone();
            let (id, version) = (
                resource["id"].as_str().unwrap().to_owned(),
                resource["meta"]["versionId"].as_str().unwrap().to_owned(),
            );
            all.insert(id, (without_meta(resource), version));
        }
        match bundle["link"].as_array().unwrap().iter().find(|l| l["relation"] == "next") {
            Some(link) => {
                target = link["url"]
                    .as_str()
                    .unwrap()
                    .split_once("/fhir")
                    .map(|(_, rest)| format!("/fhir{rest}"))
                    .unwrap()
            }
            None => return all,
        }
    }
}

#[test]
fn both_killed_with_9_during_a_load_nothing_is_lost_and_nothing_doubled() {
    let (national_dir, region_dir) = (DataDir::new(), DataDir::new());
    let (national_port, region_port) = (free_port(), free_port());
    let regions = format!(r#"[{{code="120",url="http://127.0.0.1:{region_port}/fhir"}}]"#);
    let mut settings = settings(&regions);
    settings.extend([("EDS_PERTINENCE_DEFAULT_REGION", "120"), ("EDS_DELIVERY_BATCH_ENTRIES_MAX", "20")]);
    let national = || Server::start_at(&national_dir, &format!("127.0.0.1:{national_port}"), &settings);
    let region = || Server::start_at(&region_dir, &format!("127.0.0.1:{region_port}"), &[]);
    let mut ledger: Vec<String> = Vec::new();
    for round in 0..2 {
        let (one, two) = std::thread::scope(|scope| {
            let one = scope.spawn(national);
            let two = scope.spawn(region);
            (one.join().unwrap(), two.join().unwrap())
        });
        let (written, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|_| scope.spawn(|| feed(&one, &written, &is_over))).collect();
            while written.load(Ordering::Relaxed) < 150 {
                std::thread::sleep(Duration::from_millis(5));
            }
            one.kill_now();
            two.kill_now();
            writers.into_iter().for_each(|w| ledger.extend(w.join().unwrap()));
        });
        println!("round {round}: {} acknowledged, then both killed", ledger.len());
        one.kill();
        two.kill();
    }
    let (one, two) = (national(), region());
    // One change more, so that the end of the stream is known.
    let last = unique();
    one.put(&format!("/Patient/{last}"), &patient(&last, &last)).expect(201);
    eventually("all is delivered", || two.get(&format!("/Patient/{last}")).status == 200);
    for type_name in ["Patient", "Observation"] {
        let (here, there) = (all(&one, type_name), all(&two, type_name));
        assert!(ledger.iter().all(|id| here.contains_key(id)), "an acknowledged {type_name} is lost");
        assert_eq!(
            here, there,
            "ids, contents and versions are the same: each was written once and delivered to one effect"
        );
    }
    let states = one.request("GET", "/regions").send().json();
    assert_eq!(states[0]["parked"], 0, "{states}");
}
