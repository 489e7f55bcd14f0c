//! No personal data in logs. ARCHITECTURE.md, invariant I9; <https://www.agid.gov.it/> RAC_GEN_004: no reserved data in what is logged.

use crate::ministry::referto;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::free_port;
use serde_json::json;

#[test]
fn no_name_no_codice_fiscale_and_no_value_of_a_query_reaches_the_log() {
    let dir = DataDir::new();
    let nobody = format!("[{{code=\"120\",url=\"http://127.0.0.1:{}/fhir\"}}]", free_port());
    let server = Server::start(
        &dir,
        &[("EDS_TELEMETRY_LOG", "debug,eds=trace"), ("EDS_DELIVERY_REGION", nobody.as_str())],
    );
    let secrets = [
        "Quattrocchi",
        "QTTMRA80A01H501U",
        "via-segreta-7",
        "diagnosi-segreta",
        "segreto-2024",
    ];
    let [family, cf, street, code, id] = secrets;
    let patient = json!({"resourceType": "Patient", "id": id, "name": [{"family": family}], "address": [{"line": [street]}],
        "identifier": [{"system": "urn:oid:2.16.840.1.113883.2.9.4.3.2", "value": cf}]});
    server.put(&format!("/Patient/{id}"), &patient).expect(201);
    server.put(&format!("/Patient?identifier={cf}"), &patient).expect(200);
    server
        .fhir("POST", "/Patient")
        .header("if-none-exist", &format!("identifier={cf}"))
        .json(&patient)
        .send()
        .expect(200);
    server
        .request("PUT", &format!("/rda/{cf}"))
        .json(&json!({"region": "120"}))
        .send()
        .expect(204);
    server.request("PUT", &format!("/rda/{cf}")).json(&json!({"region": family})).send();
    for query in [
        format!("family={family}"),
        format!("identifier={cf}"),
        format!("nosuch={cf}"),
        format!("{cf}=1"),
        format!("birthdate={cf}"),
        format!("_sort={family}"),
        format!("_cursor={cf}"),
        format!("_include={family}"),
    ] {
        server.get(&format!("/Patient?{query}"));
        server
            .fhir("POST", "/Patient/_search")
            .body("application/x-www-form-urlencoded", query)
            .send();
    }
    // Refusals at every level: JSON, FHIR, profile, conflict, address.
    server
        .fhir("POST", "/Patient")
        .fhir(format!("{{\"resourceType\":\"Patient\",\"{family}\":\"{cf}"))
        .send();
    for wrong in [
        json!({"resourceType": "Patient", family: cf}),
        json!({"resourceType": "Patient", "gender": family}),
        json!({"resourceType": "Patient", "birthDate": cf}),
        json!({"resourceType": cf}),
    ] {
        server.post("/Patient", &wrong);
        server.post("", &json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": wrong, "request": {"method": "POST", "url": "Patient"}}]}));
    }
    let about = json!({"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": code}]}, "subject": {"reference": format!("Patient?identifier={cf}")}});
    server.post("", &json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": about, "request": {"method": "POST", "url": "Observation"}}]})).expect(200);
    server
        .fhir("PUT", &format!("/Patient/{id}"))
        .header("if-match", "W/\"9\"")
        .json(&patient)
        .send();
    server.request("GET", &format!("/{cf}/{family}")).send();
    server.request("GET", &format!("/fhir/{cf}/{family}/{code}")).send();
    server.post("", &referto("PRIVATO")).expect(200);
    let held = server.delete(&format!("/Patient/{id}")).expect(409);
    assert!(!held.text().contains(cf), "what refers to it is named by its id");
    let delete = server.fhir("DELETE", &format!("/Patient/{id}")).header("x-cascade", "delete");
    assert!(delete.send().status < 300);
    server.get(&format!("/Patient/{id}"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    server.stop();
    let server_log = std::fs::read_to_string(dir.log()).unwrap();
    assert!(server_log.len() > 200, "the log is there: {server_log}");
    let mut logs = vec![("the server's log", server_log)];
    if let Ok(log) = std::fs::read_to_string(dir.data().join("postgres.log")) {
        logs.push(("PostgreSQL's log", log));
    }
    for (name, log) in logs {
        for secret in secrets.iter().chain(&["PRIVATOCF", "PRIVATOMED", "Via di prova"]) {
            let line = log.lines().find(|line| line.to_lowercase().contains(&secret.to_lowercase()));
            assert_eq!(line, None, "{secret} is in {name}");
        }
    }
}
