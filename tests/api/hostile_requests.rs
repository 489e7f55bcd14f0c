//! Bad input: values, names and paths.
//! A 4xx with an OperationOutcome, in bounded time, and nothing stored; never a 5xx.
//! Spec: <https://hl7.org/fhir/R4/http.html#Status-Codes>, <https://hl7.org/fhir/R4/json.html>.

use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::json;

const METACHARACTERS: [&str; 22] = [
    "'",
    "\"",
    "\\",
    ";",
    "--",
    "/*",
    "*/",
    "$1",
    "$$",
    "%",
    "_",
    "') or ('1'='1",
    "'; drop table resource; --",
    "1 or 1=1",
    "||'x'",
    "\u{0}",
    "\u{fffd}",
    "\u{202e}",
    "é\u{301}",
    "{{7*7}}",
    "\r\nx: y",
    "🦀",
];

#[test]
fn metacharacters_in_every_kind_of_value_and_name_stand_for_themselves() {
    let server = shared();
    let before = server.count("Patient");
    for text in METACHARACTERS {
        for parameter in [
            "Patient?identifier",
            "Patient?identifier:not",
            "Patient?family",
            "Patient?family:exact",
            "Patient?family:contains",
            "Patient?birthdate",
            "Patient?_id",
            "Patient?_lastUpdated",
            "Patient?organization",
            "Patient?organization:identifier",
            "Patient?organization.name",
            "Patient?_has:Observation:patient:code",
            "Patient?_sort",
            "Patient?_count",
            "Patient?_total",
            "Patient?_summary",
            "Patient?_elements",
            "Patient?_include",
            "Patient?_revinclude",
            "Patient?_cursor",
            "Patient?_tag",
            "Patient?_profile",
            "Patient?name:missing",
            "Observation?value-quantity",
            "Observation?value-string",
            "ValueSet?url",
            "ValueSet?url:below",
            "ValueSet?url:above",
            "RiskAssessment?probability",
            "Observation?code-value-quantity",
        ] {
            let query = form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let status = server.request("GET", &format!("/fhir/{parameter}={query}")).send().status;
            assert!(matches!(status, 200 | 400), "{parameter}={text:?}: {status}");
            let status = server.request("GET", &format!("/fhir/Patient?{query}=1")).send().status;
            assert!(matches!(status, 200 | 400), "{text:?}=1: {status}");
        }
        let path: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
        for target in [
            format!("/fhir/{path}"),
            format!("/fhir/Patient/{path}"),
            format!("/fhir/Patient/1/_history/{path}"),
            format!("/fhir/Patient/{path}/Observation"),
            format!("/fhir/{path}/_history"),
        ] {
            let status = server.request("GET", &target).send().status;
            // Two hyphens are an id.
            assert!(
                matches!(status, 400 | 404 | 405) || text == "--" && status == 200,
                "{target}: {status}"
            );
        }
    }
    assert!(server.count("Patient") >= before, "the table is still there");
    // A value is found as it is.
    for text in METACHARACTERS.iter().filter(|t| !t.contains('\u{0}') && !t.contains('\r')) {
        let mrn = format!("{}{text}", unique());
        let body = json!({"resourceType": "Patient", "identifier": [{"system": "urn:meta", "value": mrn}], "name": [{"family": mrn}]});
        let answer = server.post("/Patient", &body);
        assert_eq!(answer.status, 201, "{text:?} {}", answer.text());
        let escaped: String = mrn
            .chars()
            .flat_map(|c| {
                if matches!(c, ',' | '|' | '$' | '\\') {
                    vec!['\\', c]
                } else {
                    vec![c]
                }
            })
            .collect();
        for parameter in ["identifier=urn:meta|", "family:exact=", "family:contains=", "family="] {
            let (name, begin) = parameter.split_once('=').unwrap();
            let value: String = form_urlencoded::byte_serialize(format!("{begin}{escaped}").as_bytes()).collect();
            let found = server
                .request("GET", &format!("/fhir/Patient?{name}={value}"))
                .send()
                .expect(200)
                .json();
            assert_eq!(found["entry"].as_array().map_or(0, Vec::len), 1, "{parameter}{text:?}");
        }
    }
}

#[test]
fn long_and_many_things_are_bounded() {
    let server = shared();
    let long = "a".repeat(20_000);
    for target in [
        format!("/fhir/Patient/{long}"),
        format!("/fhir/{long}"),
        format!("/fhir/Patient?family={long}"),
        format!("/fhir/Patient?{long}=1"),
        format!("/fhir/Patient?identifier={long}|{long}"),
        format!("/fhir/Patient?_sort={}", vec!["family"; 2_000].join(",")),
        format!("/fhir/Patient?{}", "family=a&".repeat(2_000)),
        format!("/fhir/Patient?_id={}", vec!["a"; 9_000].join(",")),
        format!("/fhir/Patient?_elements={}", vec!["a"; 9_000].join(",")),
        format!("/fhir/Patient?{}", "_include=Patient:organization&".repeat(500)),
        format!("/fhir/Patient?birthdate={}", vec!["2000"; 3_000].join(",")),
        format!("/fhir/Patient?_has:{}", "Observation:patient:_has:".repeat(400)),
        format!("/fhir/Patient?{}=x", "organization.".repeat(1_000)),
        format!("/fhir/{}", "a/".repeat(5_000)),
        format!("/fhir/Patient/1/_history/{}", "9".repeat(10_000)),
        format!("/fhir/Patient?_cursor={long}"),
        format!("/rda/{long}"),
        format!("/fhir/$changes?region={long}"),
        format!("/fhir/$changes?region=120&after={long}"),
    ] {
        let answer = server.request("GET", &target).try_send();
        let status = answer.map_or(400, |a| a.status);
        assert!(
            matches!(status, 200 | 400 | 404 | 413 | 414 | 431),
            "{}...: {status}",
            &target[..60]
        );
    }
    let headers = (0..200).fold(server.request("GET", "/fhir/metadata"), |request, i| {
        request.header(&format!("x-{i}"), "y")
    });
    let status = headers.try_send().map_or(431, |a| a.status);
    assert!(status < 500, "{status}");
}

#[test]
fn junk_in_paths_is_not_found_and_nothing_leaves_its_place() {
    let server = shared();
    let id = server.create(&json!({"resourceType": "Patient"}));
    for target in [
        "/fhir/Patient/%00",
        "/fhir/Patient/%ff%fe",
        "/fhir/Patient/%2e%2e",
        "/fhir/Patient/%2e%2e%2fmetadata",
        "/fhir/../fhir/Patient/%zz",
        "/fhir/Patient/%",
        "/fhir//Patient//1",
        "/fhir/Patient/%0d%0ax:y",
        "/fhir/%50atient/%3b",
        "/fhir/Patient;jsessionid=1/2",
        "/fhir/Patient/1%20or%201",
        "/fhir/Patient/..",
        "/fhir/Patient/.",
        "/../../etc/passwd",
        "/fhir/..%2f..%2fetc/passwd",
        "/fhir/Patient/1/../../Observation",
        "/.git/config",
        "/metrics",
        "/debug",
        "/actuator/env",
        "/fhir/Patient/$",
        "/fhir/$$",
        "/fhir/Patient/_history/1",
        "//",
        "/fhir/Patient/%C0%AF",
    ] {
        let answer = server.request("GET", target).try_send();
        let status = answer.map_or(400, |a| a.status);
        assert!(matches!(status, 200 | 400 | 404 | 405), "{target}: {status}");
        assert!(
            status != 200 || target.contains("..") || target.contains("%2e") || target.starts_with("/fhir/Patient/."),
            "{target}: {status}"
        );
    }
    server.request("GET", &format!("/fhir/%50atient/{id}")).send().expect(200);
    for method in ["CONNECT", "OPTIONS", "get", "X".repeat(300).as_str()] {
        let status = server.request(method, "/fhir/Patient").try_send().map_or(400, |a| a.status);
        assert!(status < 500, "{method}: {status}");
    }
    // A header that asks for another method changes nothing.
    server
        .fhir("POST", "/Patient/_search")
        .header("x-http-method-override", "DELETE")
        .body("application/x-www-form-urlencoded", format!("_id={id}"))
        .send()
        .expect(200);
    server.get(&format!("/Patient/{id}")).expect(200);
}
