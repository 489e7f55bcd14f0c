//! Media types, `Prefer`, HEAD, and methods that are not there.
//! Spec: <https://hl7.org/fhir/R4/http.html#mime-type>, <https://hl7.org/fhir/R4/http.html#parameters>, <https://hl7.org/fhir/R4/http.html#ops>,
//! <https://hl7.org/fhir/R4/search.html#errors>.

use crate::crud::patient;
use crate::crud::patient_with_id;
use crate::support::server::shared;
use crate::support::world::unique;

const JSON: Option<&str> = Some("application/fhir+json; charset=utf-8");

#[test]
fn json_is_given_to_all_who_take_it_and_406_to_those_who_take_no_xml_either() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    let accepted = [
        "application/fhir+json",
        "application/json",
        "*/*",
        "application/*",
        "text/html, application/fhir+json;q=0.5",
        "application/fhir+json; fhirVersion=4.0",
        "text/json",
        "APPLICATION/FHIR+JSON",
    ];
    for accept in accepted {
        for path in [format!("/Patient/{id}"), "/metadata".to_owned(), "/Patient?_count=1".to_owned()] {
            let answer = server.fhir("GET", &path).header("accept", accept).send().expect(200);
            assert_eq!(answer.header("content-type"), JSON, "{accept} {path}");
        }
    }
    for accept in [
        "text/turtle",
        "text/html",
        "image/png",
        "application/xhtml+xml",
        "application/fhir+json;q=0",
    ] {
        for path in [
            format!("/Patient/{id}"),
            "/metadata".to_owned(),
            "/Patient?_count=1".to_owned(),
            format!("/Patient/{id}/_history"),
        ] {
            server.fhir("GET", &path).header("accept", accept).send().refused(406);
        }
    }
    // _format wins over Accept.
    for format in ["json", "application/json", "application/fhir+json"] {
        server
            .fhir("GET", &format!("/Patient/{id}?_format={format}"))
            .header("accept", "text/html")
            .send()
            .expect(200);
    }
    for format in ["ttl", "text/turtle", "html", "nonsense", ""] {
        server
            .fhir("GET", &format!("/Patient/{id}?_format={format}"))
            .header("accept", "application/json")
            .send()
            .refused(406);
    }
}

#[test]
fn a_write_that_cannot_be_answered_in_the_wanted_type_is_not_done() {
    let server = shared();
    let id = unique();
    let path = format!("/Patient/{id}");
    server
        .fhir("PUT", &path)
        .header("accept", "text/turtle")
        .json(&patient_with_id(&id, "Rossi"))
        .send()
        .refused(406);
    server.get(&path).refused(404);
}

#[test]
fn a_body_has_a_media_type_of_json_or_xml_or_is_refused_with_415() {
    let server = shared();
    let body = patient("Rossi").to_string();
    for kind in [
        "application/fhir+json",
        "application/json",
        "application/fhir+json; charset=utf-8",
        "application/fhir+json;fhirVersion=4.0",
        "Application/JSON",
    ] {
        server.fhir("POST", "/Patient").body(kind, body.clone()).send().expect(201);
    }
    for kind in [
        "application/xhtml+xml",
        "application/fhir+json; charset=utf-7",
        "application/fhir+json; fhirVersion=3.0",
        "text/plain",
        "text/html",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "nonsense",
        "application/json-patch+json",
    ] {
        server.fhir("POST", "/Patient").body(kind, body.clone()).send().refused(415);
        server.fhir("POST", "").body(kind, "{}").send().refused(415);
    }
    server.fhir("POST", "/Patient").raw_body(body).send().refused(415);
    server
        .fhir("POST", "/Patient/_search")
        .body("application/json", "{}")
        .send()
        .refused(415);
}

#[test]
fn prefer_return_chooses_what_a_write_answers() {
    let server = shared();
    let create = |prefer: &str| {
        server
            .fhir("POST", "/Patient")
            .header("prefer", prefer)
            .json(&patient("Rossi"))
            .send()
            .expect(201)
    };
    let minimal = create("return=minimal");
    assert!(minimal.body.is_empty());
    assert!(minimal.header("location").is_some() && minimal.header("etag") == Some("W/\"1\""));
    assert_eq!(create("return=representation").json()["resourceType"], "Patient");
    let outcome = create("return=OperationOutcome");
    assert_eq!(outcome.json()["resourceType"], "OperationOutcome");
    assert!(outcome.header("location").is_some());
    assert!(create("handling=lenient, return=minimal").body.is_empty());
    assert_eq!(create("return=nonsense").json()["resourceType"], "Patient");
    // The outcome tells the warnings: this codice fiscale has a wrong check character.
    let wrong = serde_json::json!({"resourceType": "Patient", "identifier": [{"system": "urn:oid:2.16.840.1.113883.2.9.4.3.2", "value": "RSSMRA85T10A562A"}]});
    let told = server
        .fhir("POST", "/Patient")
        .header("prefer", "return=OperationOutcome")
        .json(&wrong)
        .send()
        .expect(201)
        .json();
    assert_eq!(told["issue"][0]["severity"], "warning", "{told}");
    assert!(!told.to_string().contains("RSSMRA85T10A562A"), "no value of a patient is told");
    let id = unique();
    let put = server
        .fhir("PUT", &format!("/Patient/{id}"))
        .header("prefer", "return=minimal")
        .json(&patient_with_id(&id, "Rossi"))
        .send();
    assert!(put.expect(201).body.is_empty());
}

#[test]
fn an_unknown_parameter_is_refused_unless_the_client_is_lenient_and_then_told() {
    let server = shared();
    let name = unique();
    server.create(&patient(&name));
    let path = format!("/Patient?family={name}&nosuch=1");
    assert!(server.get(&path).refused(400).contains("nosuch"));
    server.fhir("GET", &path).header("prefer", "handling=strict").send().refused(400);
    let found = server
        .fhir("GET", &path)
        .header("prefer", "handling=lenient")
        .send()
        .expect(200)
        .json();
    let entries = found["entry"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["search"]["mode"], "match");
    assert_eq!(entries[1]["search"]["mode"], "outcome");
    assert!(
        entries[1]["resource"]["issue"][0]["diagnostics"]
            .as_str()
            .unwrap()
            .contains("nosuch")
    );
    // What was left out is not in the self link; what took part is.
    assert_eq!(found["link"][0]["url"], format!("{}/Patient?family={name}", server.base()));
    // A modifier and a chain that do not exist are as unknown as a name; a wrong value is wrong for everyone.
    for query in [
        "family:nosuch=x",
        "general-practitioner.nosuch=x",
        "nosuch.name=x",
        "_sort=nosuch",
        "_has:Observation:nosuch:code=x",
    ] {
        assert!(matches!(server.get(&format!("/Patient?{query}")).status, 400), "{query}");
    }
    server
        .fhir("GET", "/Patient?birthdate=never")
        .header("prefer", "handling=lenient")
        .send()
        .refused(400);
}

#[test]
fn head_answers_as_get_without_a_body() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    let get = server.get(&format!("/Patient/{id}"));
    let head = server.fhir("HEAD", &format!("/Patient/{id}")).send().expect(200);
    for name in ["etag", "last-modified", "content-type"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_eq!(server.fhir("HEAD", "/Patient/no-such-patient").send().status, 404);
}

#[test]
fn options_tell_the_methods_that_an_address_has_and_no_others() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    for path in [
        String::new(),
        "/metadata".to_owned(),
        "/_history".to_owned(),
        "/Patient".to_owned(),
        "/Patient/_search".to_owned(),
        "/Patient/_history".to_owned(),
        format!("/Patient/{id}"),
        format!("/Patient/{id}/_history"),
        format!("/Patient/{id}/_history/1"),
        format!("/Patient/{id}/Observation"),
    ] {
        let options = server.fhir("OPTIONS", &path).send().expect(204);
        assert!(options.body.is_empty());
        let allow: Vec<&str> = options.header("allow").unwrap().split(", ").collect();
        assert_eq!(options.header("accept-patch").is_some(), allow.contains(&"PATCH"), "{path}");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            // A body that is refused after the method was found.
            let answer = server
                .fhir(method, &path)
                .body("text/plain", "")
                .header("if-match", "W/\"99\"")
                .send();
            assert_eq!(answer.status != 405, allow.contains(&method), "{method} {path}: {}", answer.status);
            if answer.status == 405 {
                assert_eq!(answer.header("allow"), options.header("allow"));
            }
        }
    }
}

#[test]
fn head_answers_the_headers_of_get_without_its_body() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    for path in [
        format!("/Patient/{id}"),
        format!("/Patient/{id}/_history/1"),
        format!("/Patient/{id}/_history"),
        format!("/Patient?_id={id}"),
        "/metadata".to_owned(),
        "/Patient/no-such".to_owned(),
    ] {
        let (get, head) = (server.get(&path), server.fhir("HEAD", &path).send());
        assert_eq!(head.status, get.status, "{path}");
        for name in ["etag", "last-modified", "content-type", "content-length"] {
            assert_eq!(head.header(name), get.header(name), "{path}: {name}");
        }
        assert!(head.body.is_empty());
    }
    // On the wire nothing follows the headers.
    let request = format!("HEAD /fhir/Patient/{id} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn methods_that_are_not_there_answer_405_and_addresses_404() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    for (method, path) in [
        ("POST", format!("/Patient/{id}")),
        ("DELETE", "/metadata".to_owned()),
        ("PUT", "/metadata".to_owned()),
        ("PUT", format!("/Patient/{id}/_history/1")),
        ("DELETE", format!("/Patient/{id}/_history/1")),
        ("POST", "/_history".to_owned()),
        ("DELETE", "/Patient/_history".to_owned()),
        ("PUT", "".to_owned()),
        ("GET", "/Patient/$validate".to_owned()),
        ("TRACE", format!("/Patient/{id}")),
        ("NONSENSE", format!("/Patient/{id}")),
    ] {
        let status = server.fhir(method, &path).json(&patient("Rossi")).send().status;
        assert!(status == 405 || path.contains('$') && status == 400, "{method} {path}: {status}");
    }
    for (method, target) in [
        ("POST", "/rda/RSSMRA22A01A399Z"),
        ("PATCH", "/rda/RSSMRA22A01A399Z"),
        ("POST", "/regions"),
        ("GET", "/regions/120/parked/$retry"),
    ] {
        server.request(method, target).send().refused(405);
    }
    let problem = server.request("POST", "/status").send().expect(405);
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    for target in [
        "/",
        "/nothing",
        "/fhir/Patient/a/b/c/d",
        "/fhir/Patient/a/_nothing",
        "/FHIR/Patient",
        "/fhir/$nothing",
        "/fhir/Patient/$nothing",
    ] {
        let status = server.request("GET", target).send().status;
        assert!(matches!(status, 400 | 404 | 405), "{target}: {status}");
    }
    for type_name in [
        "patient",
        "Nothing",
        "Resource",
        "DomainResource",
        "Element",
        "HumanName",
        "Patient'",
    ] {
        let (get, post) = (
            server.get(&format!("/{type_name}?_count=1")).status,
            server.post(&format!("/{type_name}"), &patient("X")).status,
        );
        assert!(matches!((get, post), (404 | 405, 404 | 405 | 400)), "{type_name}: {get} {post}");
    }
}

#[test]
fn no_answer_can_be_kept_or_taken_for_another_type() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    for path in [
        format!("/Patient/{id}"),
        "/metadata".to_owned(),
        "/Patient?_count=1".to_owned(),
        "/Patient/nothing-there".to_owned(),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[test]
fn a_host_that_is_none_does_not_get_into_an_answer() {
    let server = shared();
    server.create(&patient("Rossi"));
    let base = |name: &str, value: &str| {
        let answer = server
            .fhir("GET", "/Patient?_count=1")
            .header(name, value)
            .send()
            .expect(200)
            .json();
        answer["link"][0]["url"]
            .as_str()
            .unwrap()
            .split("/fhir/")
            .next()
            .unwrap()
            .to_owned()
    };
    for good in ["fhir.example.org", "fhir.example.org:8443", "[::1]:8080"] {
        assert_eq!(base("x-forwarded-host", good), format!("http://{good}"));
    }
    assert_eq!(base("x-forwarded-proto", "https"), format!("https://{}", server.address));
    for (name, odd) in [
        ("x-forwarded-host", "example.org\""),
        ("x-forwarded-host", "example.org/other?x=\\"),
        ("x-forwarded-host", "<script>"),
        ("x-forwarded-proto", "ht\"tp"),
        ("x-forwarded-proto", "javascript"),
        ("forwarded", "host=\"a b\";proto=x"),
    ] {
        assert_eq!(base(name, odd), format!("http://{}", server.address), "{name}: {odd}");
    }
}

#[test]
fn validate_tells_the_issues_and_stores_nothing() {
    let server = shared();
    let family = unique();
    let good = server.post("/Patient/$validate", &patient(&family)).expect(200).json();
    assert_eq!(good["resourceType"], "OperationOutcome");
    assert_eq!(good["issue"][0]["severity"], "information", "{good}");
    let bad = serde_json::json!({"resourceType": "Patient", "name": [{"family": family}], "gender": "strange", "nosuch": 1});
    let told = server.post("/Patient/$validate", &bad).expect(200).json();
    let expressions: Vec<&str> = told["issue"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|i| i["expression"][0].as_str())
        .collect();
    assert!(
        expressions.contains(&"Patient.gender") && expressions.contains(&"Patient.nosuch"),
        "{told}"
    );
    server.post("/Patient", &bad).refused(422);
    let within = serde_json::json!({"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": bad}]});
    assert_eq!(server.post("/Patient/$validate", &within).expect(200).json(), told);
    server.post("/Observation/$validate", &patient(&family)).refused(400);
    assert_eq!(server.count(&format!("Patient?family={family}")), 0);
}
