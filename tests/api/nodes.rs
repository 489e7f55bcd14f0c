//! Several servers on one database. Each keeps dictionaries, row ids and prepared statements of its own; none may be mistaken for that.

use crate::support::database;
use crate::support::http::Answer;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::world::unique;
use crate::transaction::entry;
use crate::transaction::statuses;
use serde_json::Value;
use serde_json::json;

struct Nodes {
    one: Server,
    two: Server,
    dirs: [DataDir; 2],
}

/// The second uses the database of the first.
fn nodes(settings: &[(&str, &str)]) -> Nodes {
    let dirs = [DataDir::new(), DataDir::new()];
    let one = Server::start(&dirs[0], settings);
    let url = database::url(&dirs[0]);
    let mut settings = settings.to_vec();
    settings.push(("EDS_DATABASE_URL", &url));
    let two = Server::start(&dirs[1], &settings);
    Nodes { one, two, dirs }
}

fn patient(mrn: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "urn:test:mrn", "value": mrn}], "name": [{"family": "Rossi", "given": ["Anna"]}], "gender": "female"})
}

/// Writes so many of a type on the first node that it trains a dictionary, and waits until it has.
fn train(nodes: &Nodes, make: impl Fn(usize) -> Value) {
    let mut session = database::Session::open(&nodes.dirs[0]);
    let before = session.number("select count(*) from dictionary");
    for _ in 0..5 {
        let entries = (0..100)
            .map(|i| {
                let resource = make(i);
                let type_name = resource["resourceType"].as_str().unwrap().to_owned();
                entry("POST", &type_name, resource)
            })
            .collect();
        nodes.one.bundle("transaction", entries).expect(200);
    }
    eventually("a dictionary is trained", || {
        session.number("select count(*) from dictionary") > before
    });
}

#[test]
fn what_one_node_compresses_with_a_new_dictionary_the_other_finds_updates_and_shows() {
    let nodes = nodes(&[]);
    train(&nodes, |_| patient(&unique()));
    let create = |server: &Server, mrn: &str| -> Answer {
        let criteria = format!("identifier=urn:test:mrn|{mrn}");
        server
            .fhir("POST", "/Patient")
            .header("if-none-exist", &criteria)
            .json(&patient(mrn))
            .send()
    };
    // The first that the second node sees of the dictionary is a conditional create.
    let mrn = unique();
    let first = create(&nodes.one, &mrn).expect(201).json();
    assert_eq!(create(&nodes.two, &mrn).expect(200).json(), first);

    train(
        &nodes,
        |i| json!({"resourceType": "Basic", "code": {"text": format!("a text of a resource, number {i}")}}),
    );
    let id = unique();
    let basic = |text: &str| json!({"resourceType": "Basic", "id": id, "code": {"text": text}});
    nodes.one.put(&format!("/Basic/{id}"), &basic("one")).expect(201);
    // Now an update, which compares what is stored.
    nodes.two.put(&format!("/Basic/{id}"), &basic("two")).expect(200);

    train(
        &nodes,
        |i| json!({"resourceType": "Flag", "status": "active", "code": {"text": format!("number {i}")}, "subject": {"reference": "Patient/x"}}),
    );
    let flag = |text: &str| json!({"resourceType": "Flag", "id": id, "status": "active", "code": {"text": text}, "subject": {"reference": "Patient/x"}});
    nodes.one.put(&format!("/Flag/{id}"), &flag("one")).expect(201);
    nodes.one.put(&format!("/Flag/{id}"), &flag("two")).expect(200);
    nodes.one.delete(&format!("/Flag/{id}")).expect(204);
    // And a history, whose old versions are compressed though the current one is none.
    let history = nodes.two.get(&format!("/Flag/{id}/_history")).expect(200).json();
    let texts: Vec<_> = history["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["resource"]["code"]["text"].clone())
        .collect();
    assert_eq!(texts, [json!(null), json!("two"), json!("one")]);
}

#[test]
fn conditional_creates_on_two_nodes_make_one_resource() {
    let nodes = nodes(&[]);
    for round in 0..10 {
        let mrn = unique();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let create = |n: usize| {
                let server = if n.is_multiple_of(2) { &nodes.one } else { &nodes.two };
                let criteria = format!("identifier=urn:test:mrn|{mrn}");
                server
                    .fhir("POST", "/Patient")
                    .header("if-none-exist", &criteria)
                    .json(&patient(&mrn))
                    .send()
                    .status
            };
            let threads: Vec<_> = (0..16).map(|n| scope.spawn(move || create(n))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|s| **s == 201).count(), 1, "round {round}: {statuses:?}");
        assert_eq!(nodes.two.count(&format!("Patient?identifier={mrn}")), 1);
    }
}

#[test]
fn a_region_is_served_by_the_node_that_is_left() {
    let region_dir = DataDir::new();
    let region = Server::start(&region_dir, &[]);
    let regions = format!(r#"[{{code="120",url="{}"}}]"#, region.base());
    let nodes = nodes(&[
        ("EDS_DELIVERY_REGION", &regions),
        ("EDS_DELIVERY_POLL_MS", "100"),
        ("EDS_PERTINENCE_DEFAULT_REGION", "120"),
    ]);
    train(&nodes, |_| patient(&unique()));
    // Written by both, in one transaction each, with one resource that both change.
    let shared = unique();
    let write = |server: &Server, n: usize| {
        let mut patient = patient(&shared);
        (patient["id"], patient["gender"]) = (json!(shared), json!(if n.is_multiple_of(2) { "male" } else { "female" }));
        let entries = vec![
            entry("PUT", &format!("Patient/{shared}"), patient),
            entry(
                "POST",
                "Basic",
                json!({"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": format!("Patient/{shared}")}}),
            ),
        ];
        let answer = server.bundle("transaction", entries).expect(200).json();
        assert!(statuses(&answer).iter().all(|s| matches!(s, 200 | 201)));
    };
    (0..10).for_each(|n| write(if n % 3 == 0 { &nodes.one } else { &nodes.two }, n));
    eventually("both nodes' writes arrive", || region.count("Basic") == 10);
    // The leader is one of the two; whichever goes, the other takes over. The first also owns the database, so the second goes.
    nodes.two.kill();
    (10..15).for_each(|n| write(&nodes.one, n));
    eventually("the writes of the node that is left arrive", || region.count("Basic") == 15);
    let (here, there) = (nodes.one.count("Patient"), region.count("Patient"));
    assert_eq!(here, there);
}
