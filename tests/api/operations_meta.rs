//! `$meta`, `$meta-add`, `$meta-delete`. Spec: <https://hl7.org/fhir/R4/resource-operation-meta-add.html>.

use crate::crud::patient;
use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;

fn parameters(meta: &Value) -> Value {
    json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]})
}

fn tag(code: &str) -> Value {
    json!({"tag": [{"system": "urn:test:tag", "code": code}]})
}

/// The meta that the operation returns.
#[track_caller]
fn asked(server: &Server, path: &str, meta: &Value) -> Value {
    let answer = server.post(path, &parameters(meta)).expect(200).json();
    assert_eq!(answer["resourceType"], "Parameters");
    assert_eq!(answer["parameter"][0]["name"], "return");
    answer["parameter"][0]["valueMeta"].clone()
}

fn codes(meta: &Value) -> Vec<&str> {
    let tags = meta["tag"].as_array().map(Vec::as_slice).unwrap_or_default();
    tags.iter().map(|t| t["code"].as_str().unwrap()).collect()
}

#[test]
fn labels_are_added_and_taken_away_and_each_change_is_a_version_in_history_and_search() {
    // "This operation takes a meta, and adds the profiles, tags, and security labels found in it to the nominated resource."
    let server = shared();
    let id = server.create(&patient("Etichetta"));
    let (one, two) = (unique(), unique());
    let path = format!("/Patient/{id}");
    let meta = asked(server, &format!("{path}/$meta-add"), &tag(&one));
    assert_eq!((codes(&meta), &meta["versionId"]), (vec![one.as_str()], &json!("2")));
    let more = json!({
        "tag": [{"system": "urn:test:tag", "code": two}],
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}],
    });
    let meta = asked(server, &format!("{path}/$meta-add"), &more);
    assert_eq!((codes(&meta), &meta["versionId"]), (vec![one.as_str(), two.as_str()], &json!("3")));
    let read = server.get(&path).expect(200).json();
    assert_eq!(read["meta"], meta);
    assert_eq!(read["name"], patient("Etichetta")["name"], "all else stays");
    assert_eq!(server.count(&format!("Patient?_tag=urn:test:tag|{one}")), 1);
    // "If the resource has the tag already, it is not added again": no version either.
    let again = asked(server, &format!("{path}/$meta-add"), &tag(&one));
    assert_eq!(again, meta);
    // "It is not an error if the tag or profile does not exist".
    assert_eq!(asked(server, &format!("{path}/$meta-delete"), &tag("nosuch")), meta);
    let meta = asked(server, &format!("{path}/$meta-delete"), &tag(&one));
    assert_eq!((codes(&meta), &meta["versionId"]), (vec![two.as_str()], &json!("4")));
    assert_eq!(server.count(&format!("Patient?_tag=urn:test:tag|{one}")), 0);
    let history = server.get(&format!("{path}/_history")).expect(200).json();
    assert_eq!(history["entry"].as_array().unwrap().len(), 4);
    let answer = server.get(&format!("{path}/$meta")).expect(200);
    assert_eq!(answer.header("etag"), Some("W/\"4\""));
    assert_eq!(answer.json()["parameter"][0]["valueMeta"], meta);
}

#[test]
fn a_version_that_is_named_must_be_the_current_one() {
    let server = shared();
    let id = server.create(&patient("Etichetta"));
    let add = |version: &str| {
        let request = server.fhir("POST", &format!("/Patient/{id}/$meta-add"));
        request.header("if-match", version).json(&parameters(&tag("x"))).send()
    };
    add("W/\"2\"").refused(412);
    add("W/\"1\"").expect(200);
    add("W/\"1\"").refused(412);
}

#[test]
fn of_many_who_add_at_once_nobody_is_lost() {
    let server = shared();
    let id = server.create(&patient("Etichetta"));
    let path = format!("/Patient/{id}/$meta-add");
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = &path;
            scope.spawn(move || asked(server, path, &tag(&format!("t{i}"))));
        }
    });
    let meta = server.get(&format!("/Patient/{id}/$meta")).expect(200).json()["parameter"][0]["valueMeta"].clone();
    let mut codes = codes(&meta);
    codes.sort_unstable();
    assert_eq!(codes, ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"]);
    assert_eq!(meta["versionId"], "9");
}

#[test]
fn what_may_not_be_stored_is_not_added() {
    let server = shared();
    let id = server.create(&patient("Etichetta"));
    let add = |meta: Value| server.post(&format!("/Patient/{id}/$meta-add"), &parameters(&meta));
    // A part would overwrite the whole.
    add(json!({"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}]})).refused(422);
    // It does not follow that profile.
    add(json!({"profile": ["http://hl7.org/fhir/StructureDefinition/Observation"]})).expect(200);
    add(json!({"profile": [17]})).refused(422);
    add(json!({"nosuch": 1})).refused(422);
    let path = format!("/Patient/{id}/$meta-add");
    server.post(&path, &json!({"resourceType": "Parameters"})).refused(400);
    server.fhir("POST", &path).send().refused(400);
    server
        .post(
            &path,
            &json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueString": "x"}]}),
        )
        .refused(400);
    server.post("/Patient/nosuch-id/$meta-add", &parameters(&tag("x"))).refused(404);
    server.delete(&format!("/Patient/{id}")).expect(204);
    server.post(&path, &parameters(&tag("x"))).refused(410);
    server.get(&format!("/Patient/{id}/$meta")).refused(410);
}

/// What a list of labels of `$meta` has, as `system|code` or URLs, in order.
#[track_caller]
fn in_use(server: &Server, path: &str, list: &str) -> Vec<String> {
    let answer = server.get(path).expect(200).json();
    let labels = answer["parameter"][0]["valueMeta"][list].as_array().cloned().unwrap_or_default();
    let name = |label: &Value| match label.as_str() {
        Some(url) => url.to_owned(),
        None => format!("{}|{}", label["system"].as_str().unwrap(), label["code"].as_str().unwrap()),
    };
    let mut names: Vec<String> = labels.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn of_a_type_and_of_the_system_it_tells_the_labels_in_use_each_once() {
    // "If the operation is invoked at the type or system level, it gets a summary of all of the labels that are in use".
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_OPERATION_META_LABELS_MAX", "6")]);
    assert_eq!(server.get("/$meta").expect(200).json()["parameter"][0]["valueMeta"], json!({}));
    let with = |type_name: &str, meta: Value| {
        let mut resource = json!({"resourceType": type_name, "meta": meta});
        if type_name == "Basic" {
            resource["code"] = json!({"text": "x"});
        }
        server.create(&resource)
    };
    let profile = "http://example.org/StructureDefinition/one";
    let secret = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R", "display": "restricted"});
    for _ in 0..3 {
        with(
            "Patient",
            json!({"tag": [{"system": "urn:a", "code": "1"}], "security": [secret], "profile": [profile]}),
        );
    }
    let other = with(
        "Patient",
        json!({"tag": [{"system": "urn:a", "code": "2"}, {"system": "urn:a", "code": "1"}]}),
    );
    with("Basic", json!({"tag": [{"system": "urn:b", "code": "1"}]}));
    assert_eq!(in_use(&server, "/Patient/$meta", "tag"), ["urn:a|1", "urn:a|2"]);
    assert_eq!(in_use(&server, "/Patient/$meta", "profile"), [profile]);
    let answer = server.get("/Patient/$meta").expect(200).json();
    assert_eq!(answer["parameter"][0]["valueMeta"]["security"], json!([secret]));
    assert_eq!(in_use(&server, "/Basic/$meta", "tag"), ["urn:b|1"]);
    assert_eq!(in_use(&server, "/Basic/$meta", "security"), Vec::<String>::new());
    assert_eq!(in_use(&server, "/$meta", "tag"), ["urn:a|1", "urn:a|2", "urn:b|1"]);
    assert_eq!(in_use(&server, "/Observation/$meta", "tag"), Vec::<String>::new());
    // What only a deleted resource, or a past version, has is in use no more.
    asked(
        &server,
        &format!("/Patient/{other}/$meta-delete"),
        &json!({"tag": [{"system": "urn:a", "code": "2"}]}),
    );
    assert_eq!(in_use(&server, "/Patient/$meta", "tag"), ["urn:a|1"]);
    with(
        "Basic",
        json!({"tag": [{"system": "urn:b", "code": "2"}, {"system": "urn:b", "code": "3"}]}),
    );
    let text = server.get("/$meta").refused(400);
    assert!(text.contains("operation.meta_labels_max"), "{text}");
    server.get("/Basic/$meta").expect(200);
    server.get("/Nothing/$meta").refused(404);
    server.get("/$meta?x=1").refused(400);
}

#[test]
fn a_label_that_only_hidden_resources_have_is_not_there() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let prefix = unique();
    let mut bundle = referto(&prefix);
    for entry in bundle["entry"].as_array_mut().unwrap() {
        entry["resource"]["meta"]["tag"] = json!([{"system": "urn:test:tag", "code": "of-the-document"}]);
    }
    server.post("", &bundle).expect(200);
    let all = || {
        let of = |path: &str| ["profile", "tag"].map(|list| in_use(&server, path, list));
        (of("/Composition/$meta"), of("/DocumentReference/$meta"), of("/Observation/$meta"))
    };
    let shown = all();
    assert_eq!(shown.0[1], ["urn:test:tag|of-the-document"]);
    rule(&server, &prefix, "P99");
    assert_eq!(all().0, [Vec::<String>::new(), Vec::new()]);
    assert_eq!(all().1, [Vec::<String>::new(), Vec::new()]);
    rule(&server, &prefix, "P00");
    eventually("it is shown again", || all() == shown);
}
