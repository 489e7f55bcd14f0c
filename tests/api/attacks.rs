//! The attack book, sections A, B and a part of D: what no other test has. `docs/attacks.md` says for each case what happens, and which test shows it.
//! Everywhere: no 5xx but 503 with Retry-After, no panic, memory bounded, and the server goes on.

use crate::support::database::Session;
use crate::support::http;
use crate::support::http::Answer;
use crate::support::http::Request;
use crate::support::http::encoded;
use crate::support::http::exchange;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::shared;
use crate::support::world::World;
use crate::support::world::unique;
use crate::transaction::entry;
use serde_json::Value;
use serde_json::json;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

const FORM: &str = "application/x-www-form-urlencoded";
/// What a few bodies of the largest size and their parsing take; far below what the bombs stand for.
const GROWTH_MAX_KB: u64 = 400 * 1024;

fn patient(family: &str) -> String {
    format!("{{\"resourceType\":\"Patient\",\"name\":[{{\"family\":\"{family}\"}}]}}")
}

/// A frame of zstd of this many blocks, each of which says in four bytes: 131,072 spaces. <https://www.rfc-editor.org/rfc/rfc8878>
fn zstd_bomb(blocks: u32) -> Vec<u8> {
    // The window is 8 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68];
    for block in 1..=blocks {
        let head = u32::from(block == blocks) | 1 << 1 | 131_072 << 3;
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(b' ');
    }
    frame
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Attacks A07, A08, B05.
#[test]
fn what_is_small_on_the_wire_and_large_in_memory_is_refused_in_flat_memory() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_BODY_TIMEOUT_S", "2"), ("EDS_BODY_BYTES_MAX", "4000000")]);
    server.post("/Patient", &json!({"resourceType": "Patient"})).expect(201);
    let before = server.memory_peak_kb();
    // Six gigabytes in 200 kB, and 100 MB in 100 kB.
    let (zstd, gzip) = (zstd_bomb(50_000), gzip(&vec![b' '; 100_000_000]));
    for (coding, bomb) in [("zstd", &zstd), ("gzip", &gzip), ("x-gzip", &gzip)] {
        for (method, path, kind) in [
            ("POST", "/fhir/Patient", "application/fhir+json"),
            ("PUT", "/fhir/Patient/bomb", "application/fhir+xml"),
            ("PATCH", "/fhir/Patient/bomb", "application/json-patch+json"),
            ("POST", "/fhir", "application/fhir+json"),
            ("POST", "/fhir/Patient/_search", FORM),
            ("POST", "/fhir/Patient/$validate", "application/fhir+json"),
        ] {
            let request = server
                .request(method, path)
                .header("content-encoding", coding)
                .body(kind, bomb.clone());
            let told = request.send().refused(413);
            assert!(told.contains("server.body_bytes_max"), "{coding} {path}: {told}");
        }
    }
    // Parameters: each of these bytes would be many in a list of pairs. A string of FHIR has a megabyte at most.
    for parameters in [
        "a&".repeat(450_000),
        "_id=".to_owned() + &"a,".repeat(450_000),
        "_elements=".to_owned() + &"a,".repeat(450_000),
    ] {
        for path in ["/Patient/_search", "/_search", "/Patient/1/Observation/_search"] {
            let told = server.fhir("POST", path).body(FORM, parameters.clone()).send().refused(413);
            assert!(told.contains("search.query_bytes_max"), "{path}: {told}");
        }
        let conditional =
            json!({"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient", "ifNoneExist": parameters}});
        let told = server.bundle("transaction", vec![conditional]).refused(413);
        assert!(told.contains("search.query_bytes_max"), "{told}");
        for method in ["GET", "DELETE"] {
            let asked = json!({"request": {"method": method, "url": format!("Patient?{parameters}")}});
            let done = server.bundle("batch", vec![asked]).expect(200).json();
            assert!(
                done["entry"][0]["response"]["status"].as_str().unwrap().starts_with("413"),
                "{method}"
            );
        }
    }
    // A body in single bytes: it is given up after its time.
    let head = "POST /fhir/Patient HTTP/1.1\r\nhost: x\r\ncontent-type: application/fhir+json\r\ntransfer-encoding: chunked\r\n\r\n";
    let begin = Instant::now();
    let mut stream = http::begin(server.address, head.as_bytes()).unwrap();
    while begin.elapsed() < Duration::from_secs(3) {
        if stream.write_all(b"1\r\n \r\n").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let told = http::finish(stream, b"", false).unwrap().refused(408);
    assert!(told.contains("server.body_timeout_s"), "{told}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    let grown = server.memory_peak_kb() - before;
    assert!(grown < GROWTH_MAX_KB, "{grown} kB more");
    server.post("/Patient", &json!({"resourceType": "Patient"})).expect(201);
}

/// Attack A08.
#[test]
fn a_body_has_one_known_coding_or_is_refused_with_415() {
    let body = patient("Rossi").into_bytes();
    let send = |codings: &[&str], body: Vec<u8>| {
        let request = codings.iter().fold(shared().fhir("POST", "/Patient"), |request, coding| {
            request.header("content-encoding", coding)
        });
        request.fhir(body).send()
    };
    for (codings, body) in [
        (&["identity"][..], body.clone()),
        (&["GZIP"], gzip(&body)),
        (&["gzip, identity"], gzip(&body)),
        (&["zstd"], zstd::encode_all(body.as_slice(), 3).unwrap()),
    ] {
        let status = send(codings, body).status;
        assert_eq!(status, if codings[0].contains(',') { 415 } else { 201 }, "{codings:?}");
    }
    for codings in [
        &["br"][..],
        &["deflate"],
        &["compress"],
        &["nonsense"],
        &["gzip, gzip"],
        &["gzip", "gzip"],
        &["gzip", "zstd"],
        &["chunked"],
    ] {
        let told = send(codings, body.clone()).refused(415);
        assert!(told.contains("gzip"), "{codings:?}: {told}");
        send(codings, gzip(&gzip(&body))).refused(415);
    }
    // More than one member or frame is one body; a window of a gigabyte is none that we make room for.
    let (one, two) = body.split_at(20);
    send(&["gzip"], [gzip(one), gzip(two)].concat()).expect(201);
    let mut wide = zstd_bomb(1);
    wide[5] = 20 << 3;
    send(&["zstd"], wide).refused(400);
}

/// Attack A11.
#[test]
fn what_acts_in_a_narrative_is_refused_or_served_so_that_no_browser_runs_it() {
    let server = shared();
    let div = |inner: &str| {
        let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>");
        json!({"resourceType": "Patient", "text": {"status": "generated", "div": div}})
    };
    for inner in [
        "<script>alert(1)</script>",
        "<SCRIPT src='//x'/>",
        "<iframe src='x'/>",
        "<object data='x'/>",
        "<embed src='x'/>",
        "<form action='x'/>",
    ] {
        server.post("/Patient", &div(inner)).refused(422);
    }
    for inner in [
        "<a href=\"javascript:alert(1)\">x</a>",
        "<svg onload=\"alert(1)\"/>",
        "<p style=\"width: expression(alert(1))\">x</p>",
        "<p>x</p>",
    ] {
        let answer = server.post("/Patient", &div(inner));
        assert!(matches!(answer.status, 201 | 422), "{inner}: {}", answer.status);
        if answer.status == 201 {
            let id = answer.json()["id"].as_str().unwrap().to_owned();
            for accept in ["text/html", "text/html, */*;q=0.1", "*/*"] {
                let read = server.fhir("GET", &format!("/Patient/{id}")).header("accept", accept).send();
                assert!(read.header("content-type").unwrap().starts_with("application/fhir+"), "{accept}");
            }
        }
    }
    for path in ["/Patient?_count=1", "/metadata", "/Patient/no-such", "/Patient?nosuch=1"] {
        let answer = server.get(path);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(
            answer.header("content-security-policy").unwrap().contains("default-src 'none'"),
            "{path}"
        );
    }
}

/// Attack A12: two types at once, one of which is right.
#[test]
fn two_content_types_are_none() {
    for kinds in [
        ["application/fhir+json", "text/html"],
        ["text/html", "application/fhir+json"],
        ["application/fhir+json", "application/fhir+json"],
    ] {
        let request = shared().fhir("POST", "/Patient").header("content-type", kinds[0]);
        let status = request.body(kinds[1], patient("Rossi")).try_send().map_or(400, |a| a.status);
        assert!(matches!(status, 400 | 415), "{kinds:?}: {status}");
    }
}

/// Attack A13.
#[test]
fn bundles_of_too_many_entries_or_conditional_references_are_refused_with_the_cap() {
    let server = shared();
    let many = vec![json!({"request": {"method": "GET", "url": "Patient/1"}}); 100_000];
    for kind in ["transaction", "batch"] {
        let told = server.bundle(kind, many.clone()).refused(413);
        assert!(told.contains("10000 entries (bundle.entries_max)"), "{told}");
    }
    let item = |i: usize| json!({"item": {"reference": format!("Patient?identifier=urn:many|{i}")}});
    let list = |count: usize| {
        let items: Vec<Value> = (0..count).map(item).collect();
        json!({"resourceType": "List", "status": "current", "mode": "working", "entry": items})
    };
    let told = server.bundle("transaction", vec![entry("POST", "List", list(25_000))]).refused(400);
    assert!(told.contains("20000 criteria"), "{told}");
    // Below the cap they are looked for, and the first that is not there is told.
    let answer = server.bundle("transaction", vec![entry("POST", "List", list(1_000))]);
    assert!(
        matches!(answer.status, 400 | 404 | 412 | 422),
        "{} {}",
        answer.status,
        answer.text()
    );
}

/// Attack A14.
#[test]
fn binaries_and_attachments_hold_base64_that_is_whole() {
    let server = shared();
    let data = base64_of(&[7; 300]);
    let binary = |data: &str| json!({"resourceType": "Binary", "contentType": "application/pdf", "data": data});
    let attached = |data: &str| {
        json!({"resourceType": "DocumentReference", "status": "current",
            "content": [{"attachment": {"contentType": "application/pdf", "data": data}}]})
    };
    server.post("/Binary", &binary(&data)).expect(201);
    server.post("/DocumentReference", &attached(&data)).expect(201);
    for broken in [&data[1..], "A===", "QQ=", "Q\u{e9}==", "data:;base64,QQ==", "=", "QQ==QQ==", "_-__"] {
        server.post("/Binary", &binary(broken)).refused(422);
        server.post("/DocumentReference", &attached(broken)).refused(422);
    }
    for resource in [binary(&"QUJD".repeat(9_000_000)), attached(&"QUJD".repeat(9_000_000))] {
        let path = format!("/{}", resource["resourceType"].as_str().unwrap());
        let told = server.post(&path, &resource).refused(413);
        assert!(told.contains("server.body_bytes_max"), "{told}");
    }
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Attack A15: FHIRPath Patch; JSON Patch stands in `patch.rs`.
#[test]
fn a_patch_of_100_000_operations_is_refused_by_the_name_of_the_limit() {
    let server = shared();
    let id = server.create(&json!({"resourceType": "Patient"}));
    let part = |name: &str, value: Value| {
        let mut part = json!({"name": name});
        part.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        part
    };
    let operation = json!({"name": "operation", "part": [
        part("type", json!({"valueCode": "add"})), part("path", json!({"valueString": "Patient"})),
        part("name", json!({"valueString": "active"})), part("value", json!({"valueBoolean": true}))]});
    let patch = json!({"resourceType": "Parameters", "parameter": vec![operation; 100_000]});
    let told = server.fhir("PATCH", &format!("/Patient/{id}")).json(&patch).send().refused(413);
    assert!(told.contains("1000 operations (patch.operations_max)"), "{told}");
    assert_eq!(server.get(&format!("/Patient/{id}")).header("etag"), Some("W/\"1\""));
}

/// Attack A16. What is smuggled would be the second request; it is never carried out, and the connection is closed.
#[test]
fn messages_of_two_lengths_are_refused_and_carry_nothing_behind_them() {
    let server = shared();
    let smuggled = format!("Basic/{}", unique());
    let body = json!({"resourceType": "Basic", "id": smuggled.split_once('/').unwrap().1, "code": {"text": "x"}}).to_string();
    let second = format!(
        "PUT /fhir/{smuggled} HTTP/1.1\r\nhost: x\r\ncontent-type: application/fhir+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let kind = "host: x\r\ncontent-type: application/fhir+json\r\n";
    for (what, head) in [
        ("both lengths", format!("{kind}content-length: 5\r\ntransfer-encoding: chunked\r\n")),
        ("both, turned", format!("{kind}transfer-encoding: chunked\r\ncontent-length: 5\r\n")),
        ("two lengths", format!("{kind}content-length: 5\r\ncontent-length: 6\r\n")),
        ("a length twice", format!("{kind}content-length: 5\r\ncontent-length: 5\r\n")),
        ("two in one", format!("{kind}content-length: 5, 5\r\n")),
        ("a length with a sign", format!("{kind}content-length: +5\r\n")),
        ("a length in hexadecimal", format!("{kind}content-length: 0x5\r\n")),
        ("a folded header", format!("{kind}transfer-encoding:\r\n chunked\r\n")),
        ("a folded length", format!("{kind}x: y\r\n content-length: 5\r\n")),
        ("a space before the colon", format!("{kind}transfer-encoding : chunked\r\n")),
        ("an unknown coding", format!("{kind}transfer-encoding: xchunked\r\n")),
        (
            "chunked twice",
            format!("{kind}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
        ),
        ("chunked not last", format!("{kind}transfer-encoding: chunked, identity\r\n")),
        ("chunked in quotes", format!("{kind}transfer-encoding: \"chunked\"\r\n")),
        ("NUL in a header", format!("{kind}content-length: 5\0\r\n")),
    ] {
        let head = format!("POST /fhir/Patient HTTP/1.1\r\n{head}\r\n");
        let answer = exchange(server.address, head.as_bytes(), format!("0\r\n\r\n{second}").as_bytes(), false);
        let status = answer.as_ref().map_or(400, |a| a.status);
        assert!(matches!(status, 400 | 501), "{what}: {answer:?}");
        server.get(&format!("/{smuggled}")).refused(404);
    }
    // A chunk that says too much, or nothing that can be said.
    for chunk in ["ffffffffffffffff1\r\n", "-1\r\n", "0x5\r\n", "5 5\r\n", "zz\r\n", "\r\n"] {
        let head = format!("POST /fhir/Patient HTTP/1.1\r\n{kind}connection: close\r\ntransfer-encoding: chunked\r\n\r\n");
        let answer = exchange(server.address, head.as_bytes(), format!("{chunk}{second}").as_bytes(), false);
        let status = answer.as_ref().map_or(400, |a| a.status);
        assert!(matches!(status, 400 | 413), "{chunk:?}: {answer:?}");
        server.get(&format!("/{smuggled}")).refused(404);
    }
    let form = server
        .fhir("POST", "/Patient")
        .body("multipart/form-data; boundary=x", "--x\r\n\r\n{}\r\n--x--");
    form.send().refused(415);
}

/// Attack B01: PostgreSQL is never given a text with a client's value in it.
#[test]
fn statements_have_their_values_bound() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    // New sessions log what they are asked, which no server does by itself.
    Session::open(&dir).execute("alter database eds set log_statement = 'all'");
    server.stop();
    let server = Server::start(&dir, &[]);
    let marker = "zqmarker";
    let value = format!("{marker}' or $1 = \"%_\\--");
    for search in [
        "Patient?family",
        "Patient?family:exact",
        "Patient?family:contains",
        "Patient?identifier",
        "Patient?organization.name",
        "Patient?_has:Observation:patient:code:text",
        "Observation?code:text",
        "Observation?value-string",
        "ValueSet?url:below",
        "Patient?_profile:below",
        "Patient?_id",
    ] {
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let status = server.request("GET", &format!("/fhir/{search}={value}")).send().status;
        assert!(matches!(status, 200 | 400), "{search}: {status}");
    }
    let resource = json!({"resourceType": "Patient", "name": [{"family": value}], "identifier": [{"value": value}]});
    server.post("/Patient", &resource).expect(201);
    server
        .fhir("POST", "/Patient")
        .header("if-none-exist", &encoded(&format!("?identifier={marker}"))[1..])
        .json(&resource)
        .send();
    drop(server);
    let log = std::fs::read_to_string(dir.data().join("postgres.log")).unwrap();
    assert!(log.contains("execute") && log.contains("$1"), "statements are in the log");
    let line = log.lines().find(|line| line.to_lowercase().contains(marker));
    assert_eq!(line, None);
}

/// Attacks B02, B07, B10, B16, and what has a number of its own among the limits.
#[test]
fn searches_without_measure_are_refused_by_the_name_of_the_limit() {
    let server = shared();
    let megabyte = "a".repeat(1_000_000);
    let values = |count: usize| vec!["a"; count].join(",");
    let parentheses = |count: usize| format!("{}given eq a{}", "(".repeat(count), ")".repeat(count));
    let post = |form: &str| {
        let form = encoded(&format!("?{form}"))[1..].to_owned();
        server.fhir("POST", "/Patient/_search").body(FORM, form).send()
    };
    for (form, status, limit) in [
        (format!("identifier={megabyte}"), 413, "search.query_bytes_max"),
        (format!("identifier={megabyte}|{megabyte}"), 413, "search.query_bytes_max"),
        (format!("family={}&given={}", values(200), values(200)), 400, "search.values_max"),
        (
            format!("family={}&_filter=given eq a or given eq b", values(255)),
            400,
            "search.values_max",
        ),
        ("family=a&".repeat(65), 400, "search.parameters_max"),
        (format!("_elements={}", values(300)), 400, "search.values_max"),
        (format!("_filter={}", parentheses(10_000)), 400, "32 times"),
        (
            format!("_filter={}", vec!["given eq a"; 300].join(" or ")),
            400,
            "search.values_max",
        ),
        ("_sort=family,given,birthdate,_id,gender".to_owned(), 400, "4 keys"),
        (
            format!("organization.{}name=x", "partof.".repeat(20)),
            400,
            "search.chain_depth_max",
        ),
    ] {
        let told = post(&form).refused(status);
        assert!(told.contains(limit), "{}: {told}", &form[..40.min(form.len())]);
    }
    for sort in [
        "birthdate,-",
        ",,",
        "-__x'",
        "--birthdate",
        "birthdate;drop",
        "_score",
        "birthdate desc",
    ] {
        server.get(&format!("/Patient?_sort={sort}")).refused(400);
    }
    for name in ["_query", "_filter"] {
        post(&format!("{name}={}", parentheses(5_000))).refused(400);
    }
    // Words are looked for in the text; parentheses are none. What is not indexed is refused.
    for part in ["-", "(", "\"", "a or ", "-a ", "- ", "or "] {
        let told = post(&format!("_text={}", part.repeat(5_000))).refused(400);
        assert!(told.contains("500 characters"), "{told}");
        let text = part.repeat(499 / part.len());
        for name in ["_text", "_content"] {
            let status = post(&format!("{name}={text}")).status;
            assert!(matches!(status, 200 | 400), "{name}={text}: {status}");
        }
    }
    for token in ["|", "||", "a|b|c", "|||", "a|b|"] {
        server.get(&format!("/Patient?identifier={token}")).refused(400);
        server.get(&format!("/Observation?code={token}")).refused(400);
    }
    // No criteria without measure either.
    let patient = json!({"resourceType": "Patient"});
    for (criteria, limit) in [
        (format!("family={}", values(300)), "search.values_max"),
        ("family=a&".repeat(65), "search.parameters_max"),
    ] {
        let conditional = json!({"resource": patient, "request": {"method": "POST", "url": "Patient", "ifNoneExist": criteria}});
        let told = server.bundle("transaction", vec![conditional]).refused(400);
        assert!(told.contains(limit), "{told}");
    }
    for (method, path) in [
        ("POST", "/fhir/$graphql"),
        ("GET", "/fhir/$graphql?query={a}"),
        ("POST", "/fhir/Patient/1/$graphql"),
        ("POST", "/graphql"),
    ] {
        let query = format!("{{ {} }}", "a: Patient(id: 1) { id } ".repeat(10_000));
        let status = server.request(method, path).body("application/graphql", query).send().status;
        assert!(matches!(status, 400 | 404 | 405), "{path}: {status}");
    }
}

/// Attacks B08 and B09.
#[test]
fn odd_dates_and_quantities_are_read_as_fhir_says_or_refused() {
    let server = shared();
    for parameter in ["Patient?birthdate", "Observation?date", "Patient?_lastUpdated", "Encounter?date"] {
        for date in [
            "ge0000",
            "0000-01-01",
            "9999999-99-99",
            "2024-02-30",
            "2024-01-01T10:00:00+99:99",
            "2024-01-01T10:00:00-24:00",
            "2024-01-01T23:59:61Z",
        ] {
            server.get(&format!("/{parameter}={date}")).refused(400);
        }
        for prefix in ["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"] {
            for date in [
                "0001",
                "9999",
                "9999-12-31T23:59:59Z",
                "2016-12-31T23:59:60Z",
                "1582-10-10",
                "2024-02-29",
                "2024-01-01T10:00:00.123456789123Z",
            ] {
                let path = format!("/{parameter}={prefix}{date}");
                let answer = server.get(&path);
                assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            }
        }
    }
    let world = World::new();
    let measured = |value: &str| {
        let quantity = format!("{{\"value\":{value},\"system\":\"http://unitsofmeasure.org\",\"code\":\"[in_i'H2O]\",\"unit\":\"inch\"}}");
        let text =
            format!("{{\"resourceType\":\"Observation\",\"status\":\"final\",\"code\":{{\"text\":\"x\"}},\"valueQuantity\":{quantity}}}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    world.load(vec![("small", measured("0.00540")), ("large", measured("5.4"))]);
    world.check(&[
        (
            "Observation?value-quantity=5.40e-3|http://unitsofmeasure.org|[in_i'H2O]",
            &["small"],
        ),
        (
            "Observation?value-quantity=gt5.40e-3|http://unitsofmeasure.org|[in_i'H2O]",
            &["large"],
        ),
        ("Observation?value-quantity=5.4||[in_i'H2O]", &["large"]),
        ("Observation?value-quantity=5.4||inch", &["large"]),
    ]);
    for value in [
        "gt1e400||",
        "gt1e400",
        "gt-1e400||mg",
        "1e99999999999999999999||mg",
        "NaN||mg",
        "inf",
        "0x10||mg",
        "1e||mg",
    ] {
        server.get(&format!("/Observation?value-quantity={value}")).refused(400);
    }
}

/// Attack B04.
#[test]
fn includes_over_a_dense_cyclic_graph_are_bounded_and_say_so() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_SEARCH_INCLUDES_MAX", "50")]);
    let count = 80;
    let knot = |i: usize| {
        let links: Vec<Value> = (0..count)
            .map(|other| json!({"other": {"reference": format!("Patient/knot{other}")}, "type": "seealso"}))
            .collect();
        entry(
            "PUT",
            &format!("Patient/knot{i}"),
            json!({"resourceType": "Patient", "id": format!("knot{i}"), "link": links,
                "generalPractitioner": [{"reference": "Organization/part0"}]}),
        )
    };
    let part = |i: usize| {
        entry(
            "PUT",
            &format!("Organization/part{i}"),
            json!({"resourceType": "Organization", "id": format!("part{i}"), "name": "x", "partOf": {"reference": format!("Organization/part{}", i + 1)}}),
        )
    };
    server
        .bundle("transaction", (0..count).map(knot).chain((0..12).map(part)).collect())
        .expect(200);
    for includes in [
        "_include=*",
        "_revinclude=*",
        "_include=*&_include:iterate=*",
        "_revinclude=*&_revinclude:iterate=*",
        "_include=*&_revinclude=*&_include:iterate=*&_revinclude:iterate=*",
    ] {
        for matches in ["_id=knot0", "_count=1000"] {
            let begin = Instant::now();
            let found = server.get(&format!("/Patient?{matches}&{includes}")).expect(200).json();
            // A debug build beside others; in release it is milliseconds.
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "{matches}&{includes}: {:?}",
                begin.elapsed()
            );
            let modes = |mode: &str| {
                found["entry"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|e| e["search"]["mode"] == mode)
                    .count()
            };
            assert!(modes("include") <= 50, "{matches}&{includes}: {}", modes("include"));
            if matches == "_id=knot0" {
                let told = warning(&found);
                assert!(told.contains("at most 50 resources (search.includes_max)"), "{includes}: {told}");
            }
        }
    }
    // A long way is cut too, and that is told as well: eleven links lie above.
    let found = server
        .get("/Organization?_id=part0&_include:iterate=Organization:partof")
        .expect(200)
        .json();
    let included = found["entry"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["search"]["mode"] == "include")
        .count();
    assert_eq!(included, 8);
    assert!(warning(&found).contains("over at most 8 links"), "{}", warning(&found));
    let short = server
        .get("/Organization?_id=part9&_include:iterate=Organization:partof")
        .expect(200)
        .json();
    assert_eq!(
        short["entry"].as_array().unwrap().len(),
        3,
        "two above, and nothing else to say: {short}"
    );
}

/// The warning of a searchset; empty without one.
fn warning(found: &Value) -> String {
    let entries = found["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    let outcome = entries.iter().find(|e| e["search"]["mode"] == "outcome");
    let issue = outcome.map(|e| &e["resource"]["issue"][0]);
    issue.map_or(String::new(), |issue| {
        assert_eq!(issue["severity"], "warning");
        issue["diagnostics"].as_str().unwrap().to_owned()
    })
}

/// Attack B15.
#[test]
fn no_part_of_a_resource_comes_without_its_security_labels_or_goes_back_over_the_whole() {
    let world = World::new();
    let label = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"});
    world.load(vec![(
        "a",
        json!({"resourceType": "Observation", "status": "final", "code": {"text": "c"}, "note": [{"text": "n"}], "meta": {"security": [label]}}),
    )]);
    for part in [
        "_summary=true",
        "_summary=text",
        "_summary=data",
        "_elements=status",
        "_elements=id",
        "_elements=Observation.note",
    ] {
        let found = world.search(&format!("Observation?{part}")).expect(200).json();
        let resource = &found["entry"][0]["resource"];
        assert_eq!(resource["meta"]["security"][0]["code"], "R", "{part}");
        let tags = resource["meta"]["tag"].as_array().unwrap();
        assert!(tags.iter().any(|tag| tag["code"] == "SUBSETTED"), "{part}: {resource}");
        let written = world.server.put(&world.name("/Observation/~a"), resource);
        assert!(matches!(written.status, 400 | 409 | 422), "{part}: {}", written.status);
    }
    assert_eq!(world.server.get(&world.name("/Observation/~a")).header("etag"), Some("W/\"1\""));
}

/// Attack B17: those who search without end are refused in part, and others read and write on.
#[test]
fn searches_without_end_do_not_shut_out_reads_and_writes() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[("EDS_REQUESTS_RUNNING_MAX", "16")]);
    let observations = (0..300).map(|i| {
        let subject = format!("Patient/p{}", i % 10);
        entry(
            "PUT",
            &format!("Observation/o{i}"),
            json!({"resourceType": "Observation", "id": format!("o{i}"), "status": "final", "code": {"text": "x", "coding": [{"system": "urn:c", "code": "c"}]},
                "subject": {"reference": subject}, "note": [{"text": "n".repeat(500)}]}),
        )
    });
    let patients = (0..10).map(|i| {
        entry(
            "PUT",
            &format!("Patient/p{i}"),
            json!({"resourceType": "Patient", "id": format!("p{i}"), "name": [{"family": "Rossi"}]}),
        )
    });
    server.bundle("transaction", patients.chain(observations).collect()).expect(200);
    let worst = "/Observation?code=c&subject:Patient.name:contains=ros&_count=1000&_include=*&_revinclude=*&_revinclude:iterate=*&_total=accurate&_sort=-date";
    let (address, is_over) = (server.address, AtomicBool::new(false));
    let (done, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let abuse = || {
        while !is_over.load(Ordering::Relaxed) {
            let answer = get(address, worst);
            match answer.status {
                200 => done.fetch_add(1, Ordering::Relaxed),
                503 => {
                    assert_eq!(answer.header("retry-after"), Some("1"));
                    refused.fetch_add(1, Ordering::Relaxed)
                }
                other => panic!("{other}: {}", answer.text()),
            };
        }
    };
    std::thread::scope(|scope| {
        let abusers: Vec<_> = (0..100).map(|_| scope.spawn(abuse)).collect();
        std::thread::sleep(Duration::from_millis(500));
        let begin = Instant::now();
        let mut times = Vec::new();
        let mut statuses = Vec::new();
        while begin.elapsed() < Duration::from_secs(5) || times.len() < 3 {
            let sent = Instant::now();
            statuses.push(get(address, "/Patient/p1").status);
            let id = format!("beside{}", times.len());
            statuses.push(
                server
                    .put(&format!("/Patient/{id}"), &json!({"resourceType": "Patient", "id": id}))
                    .status,
            );
            times.push(sent.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
        abusers.into_iter().for_each(|abuser| abuser.join().unwrap());
        assert!(statuses.iter().all(|status| matches!(status, 200 | 201)), "{statuses:?}");
        let slowest = times.iter().max().unwrap();
        assert!(*slowest < Duration::from_secs(15), "{slowest:?}");
    });
    let (done, refused) = (done.into_inner(), refused.into_inner());
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
    server.get("/Patient?_count=1").expect(200);
}

fn get(address: SocketAddr, path: &str) -> Answer {
    Request::new(address, "GET", &format!("/fhir{}", encoded(path))).send()
}

/// Attacks B12, B13, D08, D09, D10.
#[test]
fn what_clients_send_forges_no_line_of_the_log_no_header_and_no_link() {
    let dir = DataDir::new();
    let settings = [
        ("EDS_TELEMETRY_LOG_FORMAT", "json"),
        ("EDS_TELEMETRY_LOG", "debug,eds=trace"),
        ("EDS_BASE_URL", "https://fhir.example.org/r4"),
    ];
    let server = Server::start(&dir, &settings);
    let forged = "%0d%0a%7b%22level%22:%22FORGED%22%7d%0d%0a%1b%5b31mFORGED%1b%5b0m%22%7d";
    let plain = "\u{1b}[31mFORGED\u{1b}[0m\"},{\"level\":\"FORGED\"";
    let mut count = 0;
    let mut send = |method: &str, target: &str, header: Option<(&str, &str)>, body: Option<String>| {
        count += 1;
        let request = server.request(method, target);
        let request = header
            .into_iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        let request = body.into_iter().fold(request, |request, body| request.fhir(body));
        let answer = request.try_send();
        if let Ok(answer) = &answer {
            assert!(answer.status < 500, "{method} {target}: {}", answer.status);
            for (name, value) in &answer.headers {
                assert!(
                    !name.to_lowercase().contains("x-forged") && !value.contains("FORGED"),
                    "{method} {target}: {name}: {value}"
                );
            }
        }
        answer.ok()
    };
    for target in [
        format!("/fhir/Patient/{forged}"),
        format!("/fhir/{forged}"),
        format!("/fhir/Patient?family={forged}"),
        format!("/fhir/Patient?{forged}=1"),
        format!("/fhir/Patient?identifier=RSSMRA80A01H501U{forged}"),
        format!("/fhir/Patient?_format=json{forged}"),
        format!("/fhir/Patient?_cursor={forged}"),
        format!("/v1/status/{forged}"),
        format!("/rda/{forged}"),
        format!("/{forged}"),
    ] {
        send("GET", &target, None, None);
        send("DELETE", &target, None, None);
    }
    // A CR or LF in `_format` or in an id does not get into a header: it is refused.
    let status = send("GET", "/fhir/Patient?_format=json%0d%0ax-forged:%201", None, None).map(|a| a.status);
    assert!(matches!(status, Some(400 | 406)), "{status:?}");
    let of_id = patient("FORGED");
    let status = send("PUT", "/fhir/Patient/a%0d%0ax-forged:1", None, Some(of_id.clone())).map(|a| a.status);
    assert!(matches!(status, Some(400 | 404 | 422)), "{status:?}");
    for name in [
        "user-agent",
        "x-request-id",
        "traceparent",
        "referer",
        "x-forwarded-for",
        "if-match",
        "if-none-exist",
        "prefer",
        "x-provenance",
    ] {
        send("GET", "/fhir/Patient/1", Some((name, plain)), None);
        send("POST", "/fhir/Patient", Some((name, plain)), Some(of_id.clone()));
    }
    send(
        "POST",
        "/fhir/Patient",
        None,
        Some(format!("{{\"resourceType\":\"Patient\",\"{plain}\":1}}")),
    );
    let smile = json!({"resourceType": "Patient", "id": plain, "gender": plain, "name": [{"family": plain}]}).to_string();
    send("POST", "/fhir/Patient", None, Some(smile));
    // Links are those of the configured base, whatever a request says of its host.
    for (name, value) in [
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example;proto=https"),
        ("x-forwarded-proto", "gopher"),
        ("x-original-url", "/fhir/evil.example"),
    ] {
        let found = send("GET", "/fhir/Patient?_count=1", Some((name, value)), None)
            .unwrap()
            .expect(200);
        assert!(!found.text().contains("evil.example"), "{name}: {}", found.text());
        let link = found.json()["link"][0]["url"].as_str().unwrap().to_owned();
        assert!(link.starts_with("https://fhir.example.org/r4/fhir/Patient"), "{name}: {link}");
        let created = send("POST", "/fhir/Patient", Some((name, value)), Some(patient("x")))
            .unwrap()
            .expect(201);
        let location = created.header("location").unwrap();
        assert!(
            location.starts_with("https://fhir.example.org/r4/fhir/Patient/"),
            "{name}: {location}"
        );
    }
    let head = "GET /fhir/Patient?_count=1 HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    let found = exchange(server.address, head.as_bytes(), b"", false).unwrap().expect(200);
    assert!(!found.text().contains("evil.example"), "{}", found.text());
    std::thread::sleep(Duration::from_millis(300));
    server.stop();
    let log = std::fs::read_to_string(dir.log()).unwrap();
    let mut answered = 0;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        answered += usize::from(line["message"] == "answered");
    }
    assert!(!log.contains("FORGED") && !log.contains('\u{1b}') && !log.contains('\r'));
    assert!(!log.contains("RSSMRA80A01H501U"));
    // One line for each request; those that are no HTTP at all have none.
    assert!(
        answered > count / 2 && answered <= count + 1,
        "{answered} lines for {count} requests"
    );
}
