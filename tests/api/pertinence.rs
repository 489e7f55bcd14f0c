//! What pertains to a region, when the order of things is not the usual one: a patient who moves before a delivery, a registry that writes
//! a codice fiscale otherwise, a shared resource that comes late. Invariants I5, I6 of ARCHITECTURE.md; docs/adr/0002-feed.md.

use crate::delivery::CF;
use crate::delivery::assist;
use crate::delivery::country;
use crate::delivery::patient;
use crate::delivery::reference;
use crate::delivery::settings;
use crate::ministry::referto;
use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::free_port;
use crate::support::world::World;
use crate::support::world::unique;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

fn observation(text: &str, subject: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": text}, "subject": reference(subject)})
}

#[test]
fn what_waited_for_a_region_is_not_sent_to_it_after_the_patient_has_moved() {
    let dirs = [DataDir::new(), DataDir::new()];
    let port = free_port();
    let regions = format!(r#"[{{code="120",url="http://127.0.0.1:{port}/fhir"}},{{code="200",url=""}},{{code="030",url=""}}]"#);
    let national = Server::start(&dirs[0], &settings(&regions));
    let (cf, moved, other) = (unique().to_uppercase(), unique(), unique());
    for region in ["120", "200"] {
        let cf = format!("{cf}{region}");
        assist(&national, &cf, region);
        let id = format!("{moved}{region}");
        national.put(&format!("/Patient/{id}"), &patient(&id, &cf)).expect(201);
        let mut body = observation("before", &format!("Patient/{id}"));
        body["id"] = json!(id);
        national.put(&format!("/Observation/{id}"), &body).expect(201);
    }
    let backlog = |code: &str| {
        let states = national.request("GET", "/regions").send().expect(200).json();
        let state = states.as_array().unwrap().iter().find(|s| s["region"] == code).unwrap().clone();
        state["backlog"].as_i64().unwrap()
    };
    eventually("all waits for the region", || backlog("120") >= 2 && backlog("200") >= 2);
    // They move, and after that something changes.
    for region in ["120", "200"] {
        assist(&national, &format!("{cf}{region}"), "030");
        let id = format!("{moved}{region}");
        let mut body = observation("after", &format!("Patient/{id}"));
        body["id"] = json!(id);
        national.put(&format!("/Observation/{id}"), &body).expect(200);
    }
    eventually("the move waits too", || backlog("120") >= 4 && backlog("200") >= 4);
    let region = Server::start_at(&dirs[1], &format!("127.0.0.1:{port}"), &[]);
    assist(&national, &other, "120");
    national.put(&format!("/Patient/{other}"), &patient(&other, &other)).expect(201);
    eventually("the region is served", || region.get(&format!("/Patient/{other}")).status == 200);
    for type_name in ["Patient", "Observation"] {
        let path = format!("/{type_name}/{moved}120");
        assert_eq!(region.get(&format!("{path}/_history")).status, 404, "{path} has never been there");
    }
    // Nor does the one that pulls see a body.
    let page = national.get("/$changes?region=200&after=0&_count=100").expect(200).json();
    let entries = page["entry"].as_array().unwrap();
    assert!(entries.len() >= 2, "{page}");
    assert!(entries.iter().all(|e| e.get("resource").is_none()), "{page}");
}

#[test]
fn a_version_that_was_not_yet_routed_is_not_sent_in_place_of_an_older_one() {
    let country = country();
    let world = World::on(&country.national);
    let cf = unique().to_uppercase();
    assist(world.server, &cf, "200");
    world.load(vec![
        ("p", json!({"resourceType": "Patient", "identifier": [{"system": CF, "value": cf}]})),
        ("o", observation("v1", "Patient/~p")),
    ]);
    for n in 2..6 {
        world.put("o", observation(&format!("v{n}"), "Patient/~p")).expect(200);
        country.settle();
    }
    // Items of superseded versions give nothing: the latest version stands once.
    let url = world.name("Observation/~o");
    let mut after = 0;
    let mut versions = Vec::new();
    loop {
        let page = country
            .national
            .get(&format!("/$changes?region=200&after={after}&_count=1000"))
            .expect(200)
            .json();
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        let next = page["link"][1]["url"].as_str().unwrap().to_owned();
        let position = next.split("after=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
        versions.extend(
            entries
                .iter()
                .filter(|e| e["request"]["url"] == url.as_str())
                .map(|e| e["resource"]["code"]["text"].clone()),
        );
        if position == after {
            break;
        }
        after = position;
    }
    assert_eq!(versions, [json!("v5")]);
}

#[test]
fn the_registry_knows_a_codice_fiscale_in_any_case_and_without_a_system() {
    let country = country();
    let national = &country.national;
    let cf = unique().to_uppercase();
    let cases = [
        (
            "upper in the data, lower in the registry",
            json!({"system": CF, "value": format!("{cf}A")}),
            format!("{cf}A").to_lowercase(),
        ),
        (
            "lower in the data, upper in the registry",
            json!({"system": CF, "value": format!("{cf}B").to_lowercase()}),
            format!("{cf}B"),
        ),
        ("no system in the data", json!({"value": format!("{cf}C")}), format!("{cf}C")),
        (
            "the system's other name",
            json!({"system": "http://hl7.it/sid/codiceFiscale", "value": format!("{cf}D")}),
            format!("{cf}D"),
        ),
        (
            "another identifier",
            json!({"system": "urn:test:mrn", "value": format!("{cf}E")}),
            format!("urn:test:mrn|{cf}E"),
        ),
    ];
    let ids: Vec<String> = cases
        .iter()
        .map(|(_, identifier, _)| {
            let id = unique();
            let body = json!({"resourceType": "Patient", "id": id, "identifier": [identifier]});
            national.put(&format!("/Patient/{id}"), &body).expect(201);
            id
        })
        .collect();
    country.settle();
    for ((what, _, _), id) in cases.iter().zip(&ids) {
        assert_eq!(country.lazio.get(&format!("/Patient/{id}")).status, 404, "{what}: nobody knows yet");
    }
    for (_, _, registered) in &cases {
        assist(national, &registered.replace('|', "%7C"), "120");
    }
    for ((what, _, _), id) in cases.iter().zip(&ids) {
        eventually(what, || country.lazio.get(&format!("/Patient/{id}")).status == 200);
    }
}

/// The leader is stopped between what it knows of the patient and what it is told of the registry.
#[test]
fn a_change_of_the_registry_beside_a_change_of_the_patient_is_not_lost() {
    let dir = DataDir::new();
    let national = Server::start(&dir, &settings(r#"[{code="120",url=""},{code="030",url=""}]"#));
    let (id, cf) = (unique(), unique());
    let present = |region: &str| {
        let page = national.get(&format!("/$changes?region={region}&after=0")).expect(200).json();
        page["entry"]
            .as_array()
            .and_then(|e| e.last())
            .is_some_and(|e| e.get("resource").is_some())
    };
    assist(&national, &cf, "120");
    let mut body = patient(&id, &cf);
    national.put(&format!("/Patient/{id}"), &body).expect(201);
    eventually("the patient is in the first region", || present("120"));
    let (mut holder, mut watcher) = (Session::open(&dir), Session::open(&dir));
    holder.execute("begin; lock table rda_change in share row exclusive mode; update rda set region = '030'; insert into rda_change (identifier_hash) select identifier_hash from rda");
    body["active"] = json!(true);
    national.put(&format!("/Patient/{id}"), &body).expect(200);
    eventually("the leader waits for the registry", || watcher.waiting() > 0);
    holder.execute("commit");
    eventually("the patient is in the other region", || present("030") && !present("120"));
}

#[test]
fn a_shared_resource_reaches_the_region_also_when_it_comes_late_or_again() {
    let country = country();
    let world = World::on(&country.national);
    let cf = unique().to_uppercase();
    assist(world.server, &cf, "120");
    let organization = |part_of: Option<&str>| match part_of {
        Some(part_of) => json!({"resourceType": "Organization", "name": "x", "partOf": reference(part_of)}),
        None => json!({"resourceType": "Organization", "name": "x"}),
    };
    let mut of_late = observation("x", "Patient/~p");
    of_late["performer"] = json!([reference("Organization/~late"), reference("Organization/~again")]);
    world.load(vec![
        ("p", json!({"resourceType": "Patient", "identifier": [{"system": CF, "value": cf}]})),
        ("o", of_late),
        ("again", organization(None)),
        ("nobody", organization(None)),
    ]);
    country.settle();
    let status = |name: &str| country.lazio.get(&world.name(&format!("/Organization/~{name}"))).status;
    assert_eq!((status("late"), status("again"), status("group")), (404, 200, 404));
    world.put("late", organization(Some("Organization/~group"))).expect(201);
    let deletion = country.national.fhir("DELETE", &world.name("/Organization/~again"));
    deletion.header("x-referrers", "stay").send().expect(204);
    country.settle();
    assert_eq!((status("late"), status("again"), status("group")), (200, 410, 404));
    // What the late one refers to, and what was deleted.
    world.put("group", organization(None)).expect(201);
    world.put("again", organization(Some("Organization/~group"))).expect(201);
    country.settle();
    assert_eq!(
        (status("late"), status("again"), status("group"), status("nobody")),
        (200, 200, 200, 404)
    );
}

#[test]
fn a_patient_who_was_here_before_is_placed_by_a_document_that_comes_later() {
    let country = country();
    let prefix = unique().to_uppercase();
    let bundle = referto(&prefix);
    let mut person = bundle["entry"][6]["resource"].clone();
    person.as_object_mut().unwrap().shift_remove("id");
    let id = country.national.create(&person);
    let before = country.national.create(&observation("before", &format!("Patient/{id}")));
    country.settle();
    country.lazio.get(&format!("/Patient/{id}")).refused(404);
    // The same patient, unchanged, in a document of Lazio.
    let answer = country.national.post("", &bundle).expect(200).json();
    assert_eq!(place(&answer, 6), format!("Patient/{id}"));
    country.settle();
    for path in [
        format!("/Patient/{id}"),
        format!("/Observation/{before}"),
        format!("/{}", place(&answer, 2)),
    ] {
        assert_eq!(country.lazio.get(&path).status, 200, "{path}");
        assert_eq!(country.lombardia.get(&path).status, 404, "{path}");
    }
}

#[test]
fn what_is_left_of_a_deleted_patient_stays_where_the_registry_has_placed_it() {
    let country = country();
    let prefix = unique().to_uppercase();
    // A document of Lazio, about somebody who is assisted in Lombardia.
    assist(&country.national, &format!("{prefix}CF"), "030");
    let answer = country.national.post("", &referto(&prefix)).expect(200).json();
    country.settle();
    let (patient, composition) = (place(&answer, 6), place(&answer, 2));
    let deletion = country
        .national
        .fhir("DELETE", &format!("/{patient}"))
        .header("x-referrers", "stay");
    deletion.send().expect(204);
    country.settle();
    country.lombardia.get(&format!("/{patient}")).refused(410);
    country.lombardia.get(&format!("/{composition}")).expect(200);
    country.lazio.get(&format!("/{composition}")).refused(404);
}

#[test]
fn a_shared_resource_that_comes_late_enters_every_region_that_refers_to_it() {
    let country = country();
    let world = World::on(&country.national);
    let cfs = [unique().to_uppercase(), unique().to_uppercase()];
    assist(world.server, &cfs[0], "120");
    assist(world.server, &cfs[1], "030");
    let person = |cf: &str| json!({"resourceType": "Patient", "identifier": [{"system": CF, "value": cf}]});
    let of = |patient: &str| {
        let mut observation = observation("x", patient);
        observation["performer"] = json!([reference("Organization/~o")]);
        observation
    };
    world.load(vec![("p", person(&cfs[0])), ("q", person(&cfs[1])), ("of-q", of("Patient/~q"))]);
    country.settle();
    // It comes together with what refers to it in the other region.
    world.load(vec![
        ("o", json!({"resourceType": "Organization", "name": "x"})),
        ("of-p", of("Patient/~p")),
    ]);
    country.settle();
    for region in [&country.lazio, &country.lombardia] {
        region.get(&world.name("/Organization/~o")).expect(200);
    }
}

/// An address that answers everything with one status, or hands on to a server.
struct Gate {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    /// Refuses with the status that is set; with 0 the request goes on to the server.
    fn before(server: SocketAddr) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (status, open) = (Arc::new(AtomicU16::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (of_thread, all) = (status.clone(), open.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let status = of_thread.load(Ordering::Relaxed);
                all.lock().unwrap().push(stream.try_clone().unwrap());
                std::thread::spawn(move || match status {
                    0 => pass(stream, server),
                    status => {
                        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                        // A client that sends a large body may not read to the end.
                        let _ = stream.write_all(answer.as_bytes());
                        let _ = std::io::copy(&mut stream, &mut std::io::sink());
                    }
                });
            }
        });
        Gate { address, status, open }
    }

    /// Connections that are kept open end here.
    fn refuse(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
        for stream in self.open.lock().unwrap().drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Errors of a connection are the end of it.
fn pass(client: TcpStream, server: SocketAddr) {
    let server = TcpStream::connect(server).unwrap();
    let (mut to, mut from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut server, mut client) = (server, client);
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn a_region_that_refuses_everything_loses_nothing() {
    let dirs = [DataDir::new(), DataDir::new()];
    let region = Server::start(&dirs[1], &[]);
    let gate = Gate::before(region.address);
    gate.refuse(422);
    let regions = format!(r#"[{{code="120",url="http://{}/fhir"}}]"#, gate.address);
    let mut settings = settings(&regions);
    settings.push(("EDS_PERTINENCE_DEFAULT_REGION", "120"));
    let national = Server::start(&dirs[0], &settings);
    let state = || national.request("GET", "/regions").send().expect(200).json()[0].clone();
    for i in 0..5 {
        national.create(&patient("ignored", &format!("{}{i}", unique())));
    }
    eventually("it is tried again and again", || state()["attempts"].as_i64() > Some(1));
    assert_eq!(
        (&state()["parked"], state()["backlog"].as_i64() >= Some(5)),
        (&json!(0), true),
        "{}",
        state()
    );
    gate.refuse(0);
    eventually("all arrives", || region.count("Patient") == 5);
    gate.refuse(422);
    let one = national.create(&patient("ignored", &unique()));
    eventually("it is refused", || state()["backlog"] == 1);
    national.create(&patient("ignored", &unique()));
    gate.refuse(0);
    eventually("both arrive once they are taken", || region.count("Patient") == 7);
    region.get(&format!("/Patient/{one}")).expect(200);
    assert_eq!(state()["parked"], 0);
}

/// The region's own profiles are stricter: it refuses one patient, and takes the others.
#[test]
fn one_item_that_a_region_refuses_is_parked_and_tried_again_when_asked() {
    let dirs = [DataDir::new(), DataDir::new()];
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let regions = format!(r#"[{{code="120",url="http://{listen}/fhir"}}]"#);
    let mut settings = settings(&regions);
    settings.push(("EDS_PERTINENCE_DEFAULT_REGION", "120"));
    let national = Server::start(&dirs[0], &settings);
    let large = unique();
    let mut body = patient(&large, &large);
    body["name"] = json!([{"text": "x".repeat(60_000)}]);
    national.put(&format!("/Patient/{large}"), &body).expect(201);
    let others: Vec<String> = (0..3).map(|_| national.create(&patient("ignored", &unique()))).collect();
    let state = || national.request("GET", "/regions").send().expect(200).json()[0].clone();
    let region = Server::start_at(&dirs[1], &listen, &[("EDS_BODY_BYTES_MAX", "50000")]);
    eventually("the others arrive", || region.count("Patient") == 3);
    eventually("the one is parked", || state()["parked"] == 1 && state()["backlog"] == 0);
    for id in &others {
        region.get(&format!("/Patient/{id}")).expect(200);
    }
    region.stop();
    // It has changed meanwhile, and is sent as it is now.
    body["active"] = json!(true);
    national.put(&format!("/Patient/{large}"), &body).expect(200);
    let region = Server::start_at(&dirs[1], &listen, &[]);
    let retry = |code: &str| national.request("POST", &format!("/regions/{code}/parked/$retry")).send();
    assert_eq!(retry("120").expect(200).json(), json!({"region": "120", "retried": 1}));
    eventually("it arrives", || region.get(&format!("/Patient/{large}")).status == 200);
    assert_eq!(state()["parked"], 0);
    assert_eq!(retry("120").expect(200).json(), json!({"region": "120", "retried": 0}));
    assert_eq!(retry("999").status, 404);
}
