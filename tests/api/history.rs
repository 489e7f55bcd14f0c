//! History of a resource, of a type, and of the repository. Spec: <https://hl7.org/fhir/R4/http.html#history>.

use crate::crud::patient_with_id;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;

/// `method url status etag version` of each entry. A first version is told as POST, whichever way it came: the specification says
/// that the method of a creation is POST.
fn told(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |entry: &Value| {
        let (request, response) = (&entry["request"], &entry["response"]);
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let version = entry["resource"]["meta"]["versionId"].as_str().unwrap_or("-");
        let status: String = text(&response["status"]).chars().take(3).collect();
        format!(
            "{} {} {status} {} {version}",
            text(&request["method"]),
            text(&request["url"]),
            text(&response["etag"])
        )
    };
    entries.iter().map(line).collect()
}

fn next(bundle: &Value) -> Option<String> {
    let links = bundle["link"].as_array()?;
    let link = links.iter().find(|l| l["relation"] == "next")?;
    Some(link["url"].as_str().unwrap().to_owned())
}

/// Entries of all pages, from the first.
fn all_pages(server: &Server, path: &str) -> Vec<Value> {
    let mut bundle = server.get(path).expect(200).json();
    let mut entries = Vec::new();
    for _ in 0..1000 {
        entries.extend(bundle["entry"].as_array().cloned().unwrap_or_default());
        let Some(url) = next(&bundle) else { return entries };
        let target = url.strip_prefix(&format!("http://{}", server.address)).unwrap().to_owned();
        bundle = server.request("GET", &target).send().expect(200).json();
    }
    panic!("{path} has no end");
}

/// A resource with four versions, the third being its deletion.
fn four_versions(server: &Server) -> String {
    let id = unique();
    let path = format!("/Patient/{id}");
    server.put(&path, &patient_with_id(&id, "Uno")).expect(201);
    server.put(&path, &patient_with_id(&id, "Due")).expect(200);
    server.delete(&path).expect(204);
    server.put(&path, &patient_with_id(&id, "Quattro")).expect(201);
    id
}

#[test]
fn the_history_of_a_resource_has_every_version_newest_first_with_its_deletion() {
    let server = shared();
    let id = four_versions(server);
    let bundle = server.get(&format!("/Patient/{id}/_history")).expect(200).json();
    assert_eq!(bundle["type"], "history");
    assert_eq!(
        told(&bundle),
        [
            format!("PUT Patient/{id} 201 W/\"4\" 4"),
            format!("DELETE Patient/{id} 204 W/\"3\" -"),
            format!("PUT Patient/{id} 200 W/\"2\" 2"),
            "POST Patient 201 W/\"1\" 1".to_owned(),
        ]
    );
    for entry in bundle["entry"].as_array().unwrap() {
        assert_eq!(entry["fullUrl"], format!("{}/Patient/{id}", server.base()));
        assert!(entry["response"]["lastModified"].is_string());
    }
    assert!(bundle["entry"][1].get("resource").is_none());
    assert_eq!(bundle["entry"][3]["resource"]["name"][0]["family"], "Uno");
}

#[test]
fn the_history_of_what_is_deleted_is_still_there() {
    let server = shared();
    let id = unique();
    server.put(&format!("/Patient/{id}"), &patient_with_id(&id, "Uno")).expect(201);
    server.delete(&format!("/Patient/{id}")).expect(204);
    let bundle = server.get(&format!("/Patient/{id}/_history")).expect(200).json();
    assert_eq!(
        told(&bundle),
        [
            format!("DELETE Patient/{id} 204 W/\"2\" -"),
            "POST Patient 201 W/\"1\" 1".to_owned()
        ]
    );
}

#[test]
fn a_history_is_paged_and_holds_every_version_once() {
    let server = shared();
    let id = unique();
    for i in 0..7 {
        server.put(&format!("/Patient/{id}"), &patient_with_id(&id, &format!("N{i}")));
    }
    for count in [1, 2, 3, 7, 8] {
        let entries = all_pages(server, &format!("/Patient/{id}/_history?_count={count}"));
        let versions: Vec<&str> = entries
            .iter()
            .map(|e| e["resource"]["meta"]["versionId"].as_str().unwrap())
            .collect();
        assert_eq!(versions, ["7", "6", "5", "4", "3", "2", "1"], "_count={count}");
    }
    let first = server.get(&format!("/Patient/{id}/_history?_count=3")).expect(200).json();
    assert_eq!(first["entry"].as_array().unwrap().len(), 3);
}

#[test]
fn since_leaves_out_what_is_older() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    server.put(&path, &patient_with_id(&id, "Uno")).expect(201);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let second = server.put(&path, &patient_with_id(&id, "Due")).expect(200).json();
    std::thread::sleep(std::time::Duration::from_millis(5));
    server.put(&path, &patient_with_id(&id, "Tre")).expect(200);
    let since = second["meta"]["lastUpdated"].as_str().unwrap();
    for scope in [
        format!("/Patient/{id}/_history"),
        "/Patient/_history".to_owned(),
        "/_history".to_owned(),
    ] {
        let bundle = server.get(&format!("{scope}?_since={since}&_count=1000")).expect(200).json();
        let of_ours: Vec<String> = told(&bundle).into_iter().filter(|l| l.contains(&id)).collect();
        assert_eq!(
            of_ours,
            [format!("PUT Patient/{id} 200 W/\"3\" 3"), format!("PUT Patient/{id} 200 W/\"2\" 2")],
            "{scope}"
        );
    }
    let none = server
        .get(&format!("{path}/_history?_since=2999-01-01T00:00:00Z"))
        .expect(200)
        .json();
    assert_eq!(told(&none), Vec::<String>::new());
}

/// "_at: only include resource versions that were current at some point during the time period specified".
#[test]
fn at_gives_the_versions_that_were_current_then() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    let pause = || std::thread::sleep(std::time::Duration::from_millis(5));
    let time = |answer: &Value| answer["meta"]["lastUpdated"].as_str().unwrap().to_owned();
    let first = time(&server.put(&path, &patient_with_id(&id, "Uno")).expect(201).json());
    pause();
    let second = time(&server.put(&path, &patient_with_id(&id, "Due")).expect(200).json());
    pause();
    server.delete(&path).expect(204);
    pause();
    let fourth = time(&server.put(&path, &patient_with_id(&id, "Quattro")).expect(201).json());
    let whole_day = &fourth[..10];
    let cases: [(&str, &[&str]); 6] = [
        (&first, &["1"]),
        (&second, &["2"]),
        (&fourth, &["4"]),
        ("2999-01-01T00:00:00Z", &["4"]),
        ("2001-01-01T00:00:00Z", &[]),
        (whole_day, &["4", "3", "2", "1"]),
    ];
    for scope in [
        format!("/Patient/{id}/_history"),
        "/Patient/_history".to_owned(),
        "/_history".to_owned(),
    ] {
        for (at, expected) in cases {
            // Of a type there are changes of others, too.
            let bundle = json!({"entry": all_pages(server, &format!("{scope}?_at={at}&_count=1000"))});
            let entries = bundle["entry"].as_array().unwrap().iter();
            let ours = entries.filter(|e| e["fullUrl"].as_str().unwrap().ends_with(&id));
            let versions: Vec<&str> = ours
                .map(|e| e["response"]["etag"].as_str().unwrap().trim_matches(['W', '/', '"']))
                .collect();
            assert_eq!(versions, expected, "{scope} at {at}");
        }
    }
    let both = server
        .get(&format!("{path}/_history?_at={whole_day}&_since={second}"))
        .expect(200)
        .json();
    assert_eq!(both["entry"].as_array().unwrap().len(), 3);
}

#[test]
fn a_history_is_read_from_its_begin_when_it_is_sorted_so() {
    let server = shared();
    let id = four_versions(server);
    for count in [1, 3, 10] {
        let path = format!("/Patient/{id}/_history?_sort=_lastUpdated&_count={count}");
        let bundle = json!({"entry": all_pages(server, &path)});
        assert_eq!(
            told(&bundle),
            [
                "POST Patient 201 W/\"1\" 1".to_owned(),
                format!("PUT Patient/{id} 200 W/\"2\" 2"),
                format!("DELETE Patient/{id} 204 W/\"3\" -"),
                format!("PUT Patient/{id} 201 W/\"4\" 4"),
            ],
            "{count}"
        );
    }
    let newest_first = server
        .get(&format!("/Patient/{id}/_history?_sort=-_lastUpdated"))
        .expect(200)
        .json();
    assert_eq!(
        newest_first["entry"],
        server.get(&format!("/Patient/{id}/_history")).expect(200).json()["entry"]
    );
    let since = newest_first["entry"][3]["response"]["lastModified"].as_str().unwrap();
    let oldest = server
        .get(&format!("/Patient/_history?_sort=_lastUpdated&_since={since}&_count=1000"))
        .expect(200)
        .json();
    let of_ours: Vec<String> = told(&oldest).into_iter().filter(|l| l.contains(&id)).collect();
    assert_eq!(of_ours.len(), 3, "{of_ours:?}");
    assert!(of_ours[0].starts_with("PUT") && of_ours[1].starts_with("DELETE"), "{of_ours:?}");
    // A cursor belongs to its order.
    let next = next(&server.get(&format!("/Patient/{id}/_history?_count=1")).expect(200).json()).unwrap();
    let cursor = next.rsplit_once("_cursor=").unwrap().1;
    server
        .get(&format!("/Patient/{id}/_history?_count=1&_sort=_lastUpdated&_cursor={cursor}"))
        .refused(400);
}

#[test]
fn parameters_that_are_wrong_or_unknown_are_refused() {
    let server = shared();
    let id = four_versions(server);
    for query in [
        "_since=yesterday",
        "_count=-1",
        "_count=x",
        "nosuch=1",
        "_cursor=x",
        "_since=",
        "_at=yesterday",
        "_at=",
        "_sort=name",
        "_sort=",
        "_list=x",
        "_count=1&_count=2",
    ] {
        for scope in [
            format!("/Patient/{id}/_history"),
            "/Patient/_history".to_owned(),
            "/_history".to_owned(),
        ] {
            server.get(&format!("{scope}?{query}")).refused(400);
        }
    }
    server.get("/Nothing/_history").refused(404);
}

#[test]
fn the_histories_of_a_type_and_of_the_repository_have_all_changes_in_order() {
    // A repository of its own: its history is whole.
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let first = four_versions(&server);
    server.create(&json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}}));
    let second = four_versions(&server);
    let of_patient = |id: &str| {
        vec![
            format!("PUT Patient/{id} 201 W/\"4\" 4"),
            format!("DELETE Patient/{id} 204 W/\"3\" -"),
            format!("PUT Patient/{id} 200 W/\"2\" 2"),
            "POST Patient 201 W/\"1\" 1".to_owned(),
        ]
    };
    let of_patients = [of_patient(&second), of_patient(&first)].concat();
    let mut of_all = of_patients.clone();
    of_all.insert(4, "POST Observation 201 W/\"1\" 1".to_owned());
    for count in [1, 2, 5, 100] {
        let bundle = |path: &str| json!({"entry": all_pages(&server, &format!("{path}?_count={count}"))});
        assert_eq!(told(&bundle("/Patient/_history")), of_patients, "_count={count}");
        assert_eq!(told(&bundle("/_history")), of_all, "_count={count}");
    }
    assert_eq!(told(&json!({"entry": all_pages(&server, "/Observation/_history")})).len(), 1);
    assert_eq!(told(&json!({"entry": all_pages(&server, "/Device/_history")})).len(), 0);
}

#[test]
fn the_pages_of_a_history_stay_in_place_while_others_write() {
    let server = shared();
    let ids: Vec<String> = (0..20).map(|_| unique()).collect();
    for id in &ids {
        server
            .put(&format!("/Location/{id}"), &json!({"resourceType": "Location", "id": id}))
            .expect(201);
    }
    let seen = std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..40).for_each(|_| drop(server.create(&json!({"resourceType": "Location"})))));
        let entries = all_pages(server, "/Location/_history?_count=3");
        writer.join().unwrap();
        entries
    });
    for id in &ids {
        let times = seen.iter().filter(|e| e["resource"]["id"] == id.as_str()).count();
        assert_eq!(times, 1, "{id}");
    }
}
