//! Writes that reach one resource by different ways in the same moment: by id, by criterion, as a member of a document. Each that was
//! answered has a version of its own. Invariants I2, I3, I5 of ARCHITECTURE.md.

use crate::ministry::referto;
use crate::support::database::Session;
use crate::support::http::Answer;
use crate::support::http::Request;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::shared;
use crate::support::world::unique;
use crate::transaction::place;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

fn patient(mrn: &str, family: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "urn:test:mrn", "value": mrn}], "name": [{"family": family}]})
}

fn version(answer: &Answer) -> u32 {
    answer.header("etag").unwrap().trim_matches(['W', '/', '"']).parse().unwrap()
}

/// Version to family name, of all versions; what was deleted has none.
fn stored(server: &Server, path: &str) -> BTreeMap<u32, Option<String>> {
    let history = server.get(&format!("{path}/_history?_count=1000")).expect(200).json();
    let entries = history["entry"].as_array().unwrap().iter();
    let of = |entry: &Value| {
        let etag = entry["response"]["etag"].as_str().unwrap();
        let family = entry["resource"]["name"][0]["family"].as_str().map(str::to_owned);
        (etag.trim_matches(['W', '/', '"']).parse().unwrap(), family)
    };
    entries.map(of).collect()
}

#[test]
fn writes_by_id_and_by_criterion_each_have_a_version_of_their_own() {
    let server = shared();
    let (mrn, id) = (unique(), unique());
    let by_id = |family: &str| {
        let mut body = patient(&mrn, family);
        body["id"] = json!(id);
        server.put(&format!("/Patient/{id}"), &body)
    };
    let by_criterion = |family: &str| server.put(&format!("/Patient?identifier=urn:test:mrn|{mrn}"), &patient(&mrn, family));
    by_id("first").expect(201);
    let acknowledged: Vec<(u32, Option<String>)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let (by_id, by_criterion, id) = (&by_id, &by_criterion, &id);
                let write = move |round: usize| {
                    let family = format!("w{writer}r{round}");
                    let answer = match writer % 4 {
                        0 | 1 => by_id(&family),
                        2 => by_criterion(&family),
                        _ if round > 20 => {
                            let answer = server.delete(&format!("/Patient/{id}")).expect(204);
                            return answer.header("etag").map(|_| (version(&answer), None));
                        }
                        _ => by_id(&family),
                    };
                    // A conditional update may come after a deletion: then it makes another patient.
                    let is_here = answer.json()["id"] == id.as_str();
                    is_here.then(|| (version(&answer), Some(family)))
                };
                scope.spawn(move || (0..25).filter_map(write).collect::<Vec<_>>())
            })
            .collect();
        writers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    let stored = stored(server, &format!("/Patient/{id}"));
    assert_eq!(
        stored.keys().copied().collect::<Vec<_>>(),
        (1..=stored.len() as u32).collect::<Vec<_>>(),
        "versions without gap"
    );
    let lost: Vec<_> = acknowledged.iter().filter(|(v, family)| stored.get(v) != Some(family)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged writes are not stored: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
}

/// Carries out these requests in one batch of the writer: both of its writers are kept busy until all have arrived. In the order of arrival.
fn in_one_batch(server: &Server, holder: &mut Session, watcher: &mut Session, requests: Vec<Request>) -> Vec<Answer> {
    holder.execute("begin; lock table resource in exclusive mode");
    std::thread::scope(|scope| {
        let create = || server.create(&json!({"resourceType": "Basic", "code": {"text": "keeps a writer busy"}}));
        let mut busy = Vec::new();
        for n in 1..=2 {
            busy.push(scope.spawn(create));
            eventually("a writer waits for the table", || watcher.waiting() >= n);
        }
        let mut sent = Vec::new();
        for request in requests {
            sent.push(scope.spawn(move || request.send()));
            std::thread::sleep(Duration::from_millis(100));
        }
        holder.execute("commit");
        busy.into_iter().for_each(|b| drop(b.join().unwrap()));
        sent.into_iter().map(|s| s.join().unwrap()).collect()
    })
}

#[test]
fn writes_in_one_batch_that_meet_in_one_resource_are_all_stored() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let (mut holder, mut watcher) = (Session::open(&dir), Session::open(&dir));
    let mut meet = |make: &dyn Fn(&str, &str) -> Vec<Request>| {
        let (mrn, id) = (unique(), unique());
        let mut first = patient(&mrn, "first");
        first["id"] = json!(id);
        server.put(&format!("/Patient/{id}"), &first).expect(201);
        let answers = in_one_batch(&server, &mut holder, &mut watcher, make(&mrn, &id));
        (stored(&server, &format!("/Patient/{id}")), answers)
    };
    let by_id = |mrn: &str, id: &str| {
        let mut body = patient(mrn, "by id");
        body["id"] = json!(id);
        server.fhir("PUT", &format!("/Patient/{id}")).json(&body)
    };
    let by_criterion = |mrn: &str| {
        server
            .fhir("PUT", &format!("/Patient?identifier=urn:test:mrn|{mrn}"))
            .json(&patient(mrn, "by criterion"))
    };
    let delete = |id: &str| server.fhir("DELETE", &format!("/Patient/{id}"));
    let name = |text: &str| Some(text.to_owned());

    let (versions, answers) = meet(&|mrn, id| vec![by_id(mrn, id), by_criterion(mrn)]);
    assert_eq!(answers.iter().map(version).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(
        versions,
        BTreeMap::from([(1, name("first")), (2, name("by id")), (3, name("by criterion"))])
    );

    let (versions, answers) = meet(&|mrn, id| vec![by_criterion(mrn), delete(id)]);
    assert_eq!(answers.iter().map(|a| a.status).collect::<Vec<_>>(), [200, 204]);
    assert_eq!(versions, BTreeMap::from([(1, name("first")), (2, name("by criterion")), (3, None)]));

    // Deleted first, there is nothing for the criterion to match: another patient is made.
    let (versions, answers) = meet(&|mrn, id| vec![delete(id), by_criterion(mrn)]);
    assert_eq!(answers.iter().map(|a| a.status).collect::<Vec<_>>(), [204, 201]);
    assert_eq!(versions, BTreeMap::from([(1, name("first")), (2, None)]));

    // One matches what the other deletes: whichever comes first, the answer is true.
    let create = |mrn: &str| {
        let criteria = format!("identifier=urn:test:mrn|{mrn}");
        server
            .fhir("POST", "/Patient")
            .header("if-none-exist", &criteria)
            .json(&patient(mrn, "made"))
    };
    let (versions, answers) = meet(&|mrn, id| vec![delete(id), create(mrn)]);
    assert_eq!(answers.iter().map(|a| a.status).collect::<Vec<_>>(), [204, 201]);
    assert_eq!(versions, BTreeMap::from([(1, name("first")), (2, None)]));
    let (changes, resources) = (server.get("/Patient/_history?_count=1000"), server.get("/Patient?_count=1000"));
    assert_eq!(
        changes.json()["entry"].as_array().unwrap().len(),
        3 + 3 + 3 + 3,
        "a change for each version"
    );
    assert_eq!(resources.json()["entry"].as_array().unwrap().len(), 3);
}

#[test]
fn a_member_written_in_one_batch_with_the_end_of_its_document_is_not_lost() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let (mut holder, mut watcher) = (Session::open(&dir), Session::open(&dir));
    for is_written_first in [true, false] {
        let prefix = unique();
        let answer = server.post("", &referto(&prefix)).expect(200).json();
        let observation = place(&answer, 4);
        let mut body = server.get(&format!("/{observation}")).expect(200).json();
        body["code"] = json!({"text": "changed"});
        let path = format!("/v1/document/identifier/2.16.840.1.113883.2.9.2.120.4.4%5E{prefix}DOC");
        let mut requests = vec![
            server.fhir("PUT", &format!("/{observation}")).json(&body),
            server.request("DELETE", &path),
        ];
        if !is_written_first {
            requests.reverse();
        }
        let answers = in_one_batch(&server, &mut holder, &mut watcher, requests);
        let expected = if is_written_first { [200, 200] } else { [200, 201] };
        assert_eq!(answers.iter().map(|a| a.status).collect::<Vec<_>>(), expected);
        let history = server.get(&format!("/{observation}/_history")).expect(200).json();
        let texts: Vec<&Value> = history["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["resource"]["code"]["text"])
            .collect();
        let null = Value::Null;
        let changed = json!("changed");
        let expected = if is_written_first {
            [&null, &changed, &null]
        } else {
            [&changed, &null, &null]
        };
        assert_eq!(
            texts, expected,
            "newest first; what is deleted has no text, nor has what came with the document"
        );
    }
}

/// What a conditional interaction finds is looked at again when it is locked.
#[test]
fn a_match_that_is_hidden_or_deleted_before_it_is_locked_is_no_match() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let (mut holder, mut watcher) = (Session::open(&dir), Session::open(&dir));
    for change in ["state = 2", "state = 1, version = version + 1, terms = '{}', body = ''"] {
        let mrn = unique();
        let body = patient(&mrn, "Rossi");
        let first = server.create(&body);
        holder.execute(&format!("begin; update resource set {change} where id = '{first}'"));
        let answer = std::thread::scope(|scope| {
            let create = scope.spawn(|| {
                let criteria = format!("identifier=urn:test:mrn|{mrn}");
                server
                    .fhir("POST", "/Patient")
                    .header("if-none-exist", &criteria)
                    .json(&body)
                    .send()
            });
            eventually("the create waits for the row", || watcher.waiting() > 0);
            holder.execute("commit");
            create.join().unwrap()
        });
        assert_ne!(answer.expect(201).json()["id"], first.as_str(), "{change}");
    }
}

/// Nothing waits without bound: what is too much is refused at once, and says when to come again.
#[test]
fn more_writes_than_may_wait_are_refused_at_once() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_DATABASE_WRITES_WAITING_MAX", "8")]);
    let (mut holder, mut watcher) = (Session::open(&dir), Session::open(&dir));
    let create = || {
        let body = json!({"resourceType": "Basic", "code": {"text": "x"}});
        server.fhir("POST", "/Basic").json(&body).send()
    };
    create().expect(201);
    holder.execute("begin; lock table resource in exclusive mode");
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let first: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        eventually("the writers wait for the table", || watcher.waiting() > 0);
        // All eight have arrived, whether they are being written or wait for a writer.
        std::thread::sleep(Duration::from_millis(500));
        for _ in 0..3 {
            let refused = create();
            assert!(refused.header("retry-after").is_some());
            refused.refused(503);
        }
        holder.execute("commit");
        first.into_iter().map(|f| f.join().unwrap()).collect()
    });
    answers.into_iter().for_each(|a| drop(a.expect(201)));
    create().expect(201);
    assert_eq!(server.count("Basic"), 10);
}
