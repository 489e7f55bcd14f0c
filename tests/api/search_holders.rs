//! `_has` by a code that very many resources have: patients by looks into an index, and the same answers as by any other plan. The server knows
//! density from the database's statistics, so it has a database of its own here, filled and analysed before it starts. docs/adr/0008-plans.md.

use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::ids_of;
use crate::support::server::next_of;
use crate::transaction::entry;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Patients who have the dense code as a first one, each very often.
const HOLDERS: usize = 40;
/// Patients who have it as a further code only.
const FURTHER: usize = 3;
const OF_EACH: usize = 60;

fn patient(id: &str, i: usize) -> Value {
    json!({"resourceType": "Patient", "id": id, "gender": if i.is_multiple_of(2) { "female" } else { "male" }})
}

fn observation(id: &str, subject: &str, status: &str, codes: &[&str]) -> Value {
    let coding: Vec<Value> = codes.iter().map(|code| json!({"system": "urn:test:held", "code": code})).collect();
    json!({
        "resourceType": "Observation", "id": id, "status": status, "code": {"coding": coding},
        "subject": {"reference": subject}, "performer": [{"reference": "Patient/performer"}], "encounter": {"reference": "Encounter/e"}
    })
}

fn stored() -> &'static (Server, DataDir) {
    static STORED: OnceLock<(Server, DataDir)> = OnceLock::new();
    STORED.get_or_init(|| {
        let dir = DataDir::new();
        let server = Server::start(&dir, &[]);
        let mut all = vec![patient("performer", 0), patient("nobody", 0), patient("rare", 1)];
        all.push(json!({"resourceType": "Group", "id": "g", "type": "person", "actual": true}));
        all.push(observation("of-group", "Group/g", "final", &["dense"]));
        all.push(observation("of-rare", "Patient/rare", "final", &["rare", "dense"]));
        for i in 0..HOLDERS {
            all.push(patient(&format!("p{i}"), i));
            for j in 0..OF_EACH {
                let status = if i < 5 { "amended" } else { "final" };
                all.push(observation(
                    &format!("p{i}-{j}"),
                    &format!("Patient/p{i}"),
                    status,
                    &["dense", "other"],
                ));
            }
        }
        // This one's preliminary Observation has another code.
        all.push(observation("preliminary", "Patient/p20", "preliminary", &["other"]));
        for i in 0..FURTHER {
            all.push(patient(&format!("f{i}"), i));
            for j in 0..5 {
                all.push(observation(
                    &format!("f{i}-{j}"),
                    &format!("Patient/f{i}"),
                    "final",
                    &["third", "dense"],
                ));
            }
        }
        for part in all.chunks(500) {
            let entries = part.iter().map(|resource| {
                let url = format!(
                    "{}/{}",
                    resource["resourceType"].as_str().unwrap(),
                    resource["id"].as_str().unwrap()
                );
                entry("PUT", &url, resource.clone())
            });
            server.bundle("transaction", entries.collect()).expect(200);
        }
        // One patient is gone, one has lost all that had the code.
        let gone = server.fhir("DELETE", "/Patient/p38").header("x-referrers", "stay");
        gone.send().expect(204);
        for j in 0..OF_EACH {
            server.delete(&format!("/Observation/p39-{j}")).expect(204);
        }
        Session::open(&dir).execute("analyze");
        server.stop();
        (Server::start(&dir, &[]), dir)
    })
}

/// Ids of the matches, of all pages; none may come twice.
fn found(search: &str) -> BTreeSet<String> {
    let (server, _) = stored();
    let ids = ids_of(&server.pages(&format!("/{search}")));
    let distinct: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(distinct.len(), ids.len(), "{search}: one comes twice");
    distinct
}

fn holders(holds: impl Fn(usize) -> bool) -> BTreeSet<String> {
    let first = (0..HOLDERS).filter(|i| *i < 38 && holds(*i)).map(|i| format!("p{i}"));
    let further = (0..FURTHER).filter(|i| holds(*i)).map(|i| format!("f{i}"));
    first.chain(further).chain(holds(1).then(|| "rare".to_owned())).collect()
}

#[test]
fn the_holders_of_a_dense_code_are_found_once_each_over_all_pages() {
    for count in [1, 7, 100] {
        for code in ["dense", "urn:test:held|dense"] {
            let search = format!("Patient?_has:Observation:patient:code={code}&_count={count}");
            assert_eq!(found(&search), holders(|_| true), "{search}");
        }
    }
    assert_eq!(found("Patient?_has:Observation:patient:code=urn:other|dense"), BTreeSet::new());
    assert_eq!(
        found("Patient?_has:Observation:patient:code=rare"),
        BTreeSet::from(["rare".to_owned()])
    );
    assert_eq!(found("Patient?_has:Observation:patient:code=third&_count=2").len(), FURTHER);
}

#[test]
fn what_else_is_asked_of_holders_holds_too() {
    let is_female = |i: usize| i.is_multiple_of(2);
    assert_eq!(
        found("Patient?gender=female&_has:Observation:patient:code=dense&_count=6"),
        holders(is_female)
    );
    assert_eq!(
        found("Patient?_has:Observation:patient:code=dense&_id=p1,p2,f1,nobody,p38,p39").len(),
        3
    );
    let both = "Patient?_has:Observation:patient:code=dense&_has:Observation:patient:status=amended&_count=2";
    assert_eq!(found(both), (0..5).map(|i| format!("p{i}")).collect());
    // Whichever comes first, each is asked of an Observation of its own.
    let swapped = "Patient?_has:Observation:patient:status=amended&_has:Observation:patient:code=third&_count=2";
    assert_eq!(found(swapped), BTreeSet::new());
    let apart = "Patient?_has:Observation:patient:code=rare&_has:Observation:patient:code=dense";
    assert_eq!(found(apart), BTreeSet::from(["rare".to_owned()]));
    let split = "Patient?_has:Observation:patient:status=preliminary&_has:Observation:patient:code=dense&_count=3";
    assert_eq!(found(split), BTreeSet::from(["p20".to_owned()]));
    // Another parameter that references patients is not the patient parameter.
    assert_eq!(
        found("Patient?_has:Observation:performer:code=dense"),
        BTreeSet::from(["performer".to_owned()])
    );
    assert_eq!(found("Group?_has:Observation:subject:code=dense"), BTreeSet::from(["g".to_owned()]));
}

#[test]
fn holders_can_be_sorted_and_counted_like_others() {
    let (server, _) = stored();
    assert_eq!(
        server.count("Patient?_has:Observation:patient:code=dense") as usize,
        holders(|_| true).len()
    );
    assert_eq!(
        found("Patient?_has:Observation:patient:code=dense&_sort=_id&_count=9"),
        holders(|_| true)
    );
}

#[test]
fn a_page_of_holders_continues_where_the_last_ended_while_others_come_and_go() {
    let (server, _) = stored();
    let search = "/Patient?_has:Observation:patient:code=dense&_count=10";
    let first = server.get(search).expect(200).json();
    let again = server.get(search).expect(200).json();
    let ids = |page: &Value| ids_of(std::slice::from_ref(page));
    assert_eq!(ids(&first), ids(&again));
    // A new version of a patient who is on a later page neither takes nor repeats a place.
    let shown: BTreeSet<String> = ids(&first).into_iter().collect();
    let later = holders(|_| true)
        .into_iter()
        .find(|id| !shown.contains(id) && id.starts_with('p'))
        .unwrap();
    let i: usize = later[1..].parse().unwrap();
    server.put(&format!("/Patient/{later}"), &{
        let mut changed = patient(&later, i);
        changed["active"] = json!(true);
        changed
    });
    let mut all = ids(&first);
    let mut next = next_of(&first);
    while let Some(target) = next {
        let page = server.request("GET", &target).send().expect(200).json();
        all.extend(ids(&page));
        next = next_of(&page);
    }
    assert_eq!(all.len(), holders(|_| true).len());
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), holders(|_| true));
}
