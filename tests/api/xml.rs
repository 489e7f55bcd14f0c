//! XML in and out, through the front door: the same resources, errors and headers as in JSON.
//! Spec: <https://hl7.org/fhir/R4/xml.html>, <https://hl7.org/fhir/R4/http.html#mime-type>. Attack cases: DOCTYPE, entities, depth, attributes, XInclude.

use crate::crud::patient;
use crate::support::http::Answer;
use crate::support::http::Request;
use crate::support::server::shared;
use crate::support::world::unique;
use eds::fhir::xml::to_json;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

const XML: &str = "application/fhir+xml; charset=utf-8";
const JSON: &str = "application/fhir+json; charset=utf-8";

fn fhir(method: &str, path: &str) -> Request {
    shared().fhir(method, path).header("accept", "application/fhir+xml")
}

fn send(method: &str, path: &str, xml: &str) -> Answer {
    fhir(method, path).body("application/fhir+xml", xml).send()
}

/// The answer, which must be XML, as JSON.
#[track_caller]
fn read(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), Some(XML), "{}", answer.text());
    assert!(
        answer.text().starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"),
        "{}",
        answer.text()
    );
    let json = to_json(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text()));
    serde_json::from_str(&json).unwrap()
}

/// A failure in XML: its diagnostics and expression.
#[track_caller]
fn refused(answer: Answer, status: u16) -> (String, String) {
    let outcome = read(&answer.expect(status));
    assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
    assert_eq!(outcome["issue"][0]["severity"], "error", "{outcome}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&outcome["issue"][0]["diagnostics"]),
        text(&outcome["issue"][0]["expression"][0]),
    )
}

fn patient_xml(inner: &str) -> String {
    format!("<Patient xmlns=\"http://hl7.org/fhir\">{inner}</Patient>")
}

#[test]
fn a_resource_written_in_xml_reads_the_same_in_both_forms() {
    let server = shared();
    let family = unique();
    let inner = format!(
        "<text><status value=\"generated\"/><div xmlns=\"http://www.w3.org/1999/xhtml\"><p>a &lt; b</p><br/></div></text>\
         <contained><Organization><id value=\"o\"/><name value=\"ASL &amp; c.\"/></Organization></contained>\
         <extension url=\"http://example.org/weight\"><valueDecimal value=\"1.10\"/></extension>\
         <name><family value=\"{family}\"/><given value=\"A\"/><given><extension url=\"http://example.org/e\"><valueCode value=\"x\"/></extension></given></name>\
         <birthDate id=\"b\" value=\"1980-01-02\"/><deceasedBoolean value=\"false\"/><managingOrganization><reference value=\"#o\"/></managingOrganization>"
    );
    let created = send("POST", "/Patient", &patient_xml(&inner)).expect(201);
    let id = read(&created)["id"].as_str().unwrap().to_owned();
    assert_eq!(created.header("etag"), Some("W/\"1\""));
    assert!(created.header("location").unwrap().ends_with(&format!("/Patient/{id}/_history/1")));
    let answer = fhir("GET", &format!("/Patient/{id}")).send().expect(200);
    assert!(answer.text().contains(&inner), "{}", answer.text());
    let json = server.get(&format!("/Patient/{id}")).expect(200);
    assert!(json.text().contains("\"valueDecimal\":1.10"), "{}", json.text());
    let json = json.json();
    assert_eq!(
        json["name"],
        json!([{"family": family, "given": ["A", null], "_given": [null, {"extension": [{"url": "http://example.org/e", "valueCode": "x"}]}]}])
    );
    assert_eq!(json["_birthDate"], json!({"id": "b"}));
    assert_eq!(read(&answer), json);
    assert_eq!(server.count(&format!("Patient?family={family}")), 1);
    // What came as XML goes back as XML, and is the next version.
    let again = send("PUT", &format!("/Patient/{id}"), answer.text()).expect(200);
    assert_eq!(again.header("etag"), answer.header("etag"), "nothing changed");
    let changed = answer.text().replace("1980-01-02", "1980-01-03");
    assert_eq!(
        send("PUT", &format!("/Patient/{id}"), &changed).expect(200).header("etag"),
        Some("W/\"2\"")
    );
    let versions = read(&fhir("GET", &format!("/Patient/{id}/_history")).send().expect(200));
    assert_eq!(versions["entry"].as_array().unwrap().len(), 2);
    assert_eq!(
        read(&fhir("GET", &format!("/Patient/{id}/_history/1")).send().expect(200))["birthDate"],
        "1980-01-02"
    );
    let not_modified = fhir("GET", &format!("/Patient/{id}"))
        .header("if-none-match", "W/\"2\"")
        .send()
        .expect(304);
    assert!(not_modified.body.is_empty());
    let (head, get) = (
        fhir("HEAD", &format!("/Patient/{id}")).send(),
        fhir("GET", &format!("/Patient/{id}")).send(),
    );
    for name in ["content-type", "content-length", "etag", "last-modified"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    fhir("DELETE", &format!("/Patient/{id}")).send().expect(204);
    refused(fhir("GET", &format!("/Patient/{id}")).send(), 410);
}

#[test]
fn each_form_may_be_sent_and_the_other_asked_for() {
    let server = shared();
    let xml = patient_xml("<active value=\"true\"/>");
    for (sent, accept, answered) in [
        ("application/fhir+xml", "application/fhir+json", JSON),
        ("application/xml", "application/fhir+xml", XML),
        ("text/xml; charset=utf-8", "application/xml;q=0.5, application/json;q=0.4", XML),
        ("application/fhir+xml; charset=UTF-8; fhirVersion=4.0", "*/*", JSON),
        ("Application/FHIR+XML", "text/xml", XML),
    ] {
        let answer = server
            .fhir("POST", "/Patient")
            .header("accept", accept)
            .body(sent, xml.clone())
            .send()
            .expect(201);
        assert_eq!(answer.header("content-type"), Some(answered), "{sent} {accept}");
    }
    let answer = server
        .fhir("POST", "/Patient?_format=xml")
        .json(&patient("Rossi"))
        .send()
        .expect(201);
    read(&answer);
    for prefer in ["return=minimal", "return=OperationOutcome"] {
        let answer = fhir("POST", "/Patient")
            .header("prefer", prefer)
            .json(&patient("Rossi"))
            .send()
            .expect(201);
        match prefer {
            "return=minimal" => assert!(answer.body.is_empty()),
            _ => assert_eq!(read(&answer)["resourceType"], "OperationOutcome"),
        }
    }
    for (kind, body) in [
        ("application/fhir+xml; charset=utf-16", xml.as_str()),
        ("text/xml; charset=iso-8859-1", &xml),
        ("application/fhir+xml; fhirVersion=3.0", &xml),
        ("application/fhir+json; charset=utf-7", "{\"resourceType\":\"Patient\"}"),
        ("application/xhtml+xml", &xml),
        ("text/turtle", "x"),
    ] {
        let (told, _) = refused(fhir("POST", "/Patient").body(kind, body).send(), 415);
        assert!(told.contains("application/fhir+json or application/fhir+xml"), "{told}");
    }
    let two = fhir("POST", "/Patient")
        .header("content-type", "application/fhir+json")
        .body("application/fhir+xml", xml.clone());
    refused(two.send(), 415);
    server
        .request("PUT", "/rda/RSSMRA85T10A562S")
        .body("application/fhir+xml", xml)
        .send()
        .refused(415);
}

#[test]
fn format_wins_over_accept_and_plus_may_be_a_space() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    let path = format!("/fhir/Patient/{id}");
    for format in [
        "xml",
        "text/xml",
        "application/xml",
        "application/fhir+xml",
        "application/fhir%2Bxml",
        "application%2Ffhir%2bxml",
    ] {
        let answer = server
            .request("GET", &format!("{path}?_format={format}"))
            .header("accept", "application/fhir+json")
            .send();
        assert_eq!(answer.expect(200).header("content-type"), Some(XML), "{format}");
    }
    for format in [
        "json",
        "text/json",
        "application/json",
        "application/fhir+json",
        "application/fhir%2Bjson",
    ] {
        let answer = server
            .request("GET", &format!("{path}?_format={format}"))
            .header("accept", "application/fhir+xml")
            .send();
        assert_eq!(answer.expect(200).header("content-type"), Some(JSON), "{format}");
    }
    let encoded = server.request("GET", &format!("{path}?%5Fformat=xml")).send();
    read(&encoded.expect(200));
    for format in ["ttl", "html", "", "x%00", "application/fhir%2Bxml;fhirVersion=3.0"] {
        server
            .request("GET", &format!("{path}?_format={format}"))
            .header("accept", "application/fhir+xml")
            .send()
            .refused(406);
    }
    // Of a search by POST, the form may have it too.
    let search = |query: &str, form: &str| {
        server
            .request("POST", &format!("/fhir/Patient/_search{query}"))
            .body("application/x-www-form-urlencoded", form)
            .send()
    };
    assert_eq!(read(&search("", "_count=1&_format=xml").expect(200))["type"], "searchset");
    assert_eq!(
        search("?_format=json", "_count=1&_format=xml").expect(200).header("content-type"),
        Some(JSON)
    );
    search("", "_count=1&_format=ttl").refused(406);
    refused(search("", "nosuch=1&_format=xml"), 400);
}

#[test]
fn every_answer_under_fhir_comes_in_xml_when_it_is_asked_for() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    let statement = read(&fhir("GET", "/metadata").send().expect(200));
    assert_eq!(
        statement["format"],
        json!(["json", "application/fhir+json", "xml", "application/fhir+xml"])
    );
    let of_json = server.get("/metadata").expect(200).json();
    assert_eq!(statement, of_json);
    for (method, path, status) in [
        ("GET", "/Patient/no-such-patient".to_owned(), 404),
        ("GET", "/Patient?nosuch=1".to_owned(), 400),
        ("GET", "/Nothing".to_owned(), 404),
        ("GET", "/a/b/c/d/e".to_owned(), 404),
        ("GET", "/$nothing".to_owned(), 404),
        ("GET", "/$changes".to_owned(), 400),
        ("GET", "/$changes?region=120&_format=xml&_pretty=true&nosuch=1".to_owned(), 400),
        ("DELETE", "/metadata".to_owned(), 405),
        ("TRACE", format!("/Patient/{id}"), 405),
        ("NONSENSE", format!("/Patient/{id}"), 405),
        ("PUT", format!("/Patient/{id}"), 415),
        ("POST", "".to_owned(), 415),
    ] {
        let answer = fhir(method, &path).send();
        if answer.status != status {
            panic!("{method} {path}: {} {}", answer.status, answer.text());
        }
        refused(answer, status);
    }
    for path in [
        "/Patient?_count=1&_summary=true".to_owned(),
        "/Patient?_count=0".to_owned(),
        format!("/Patient/{id}/Observation"),
        "/_history?_count=2".to_owned(),
        "/Patient/_history?_count=2".to_owned(),
    ] {
        assert_eq!(read(&fhir("GET", &path).send().expect(200))["resourceType"], "Bundle", "{path}");
    }
    // Outside of FHIR there is JSON alone.
    let elsewhere = server
        .request("GET", "/nothing")
        .header("accept", "application/fhir+xml")
        .send()
        .expect(404);
    assert_eq!(elsewhere.header("content-type"), Some(JSON));
}

#[test]
fn a_search_in_xml_finds_what_one_in_json_finds() {
    let server = shared();
    let name = unique();
    for i in 0..3 {
        let mut patient = patient(&name);
        patient["birthDate"] = json!(format!("198{i}-01-01"));
        server.create(&patient);
    }
    let path = format!("/Patient?family={name}&_sort=birthdate&_count=2");
    let xml = read(&fhir("GET", &path).send().expect(200));
    let json = server.get(&path).expect(200).json();
    assert_eq!(xml["entry"], json["entry"]);
    assert_eq!(xml["total"], json["total"]);
    let relations = |bundle: &Value| {
        bundle["link"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["relation"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(relations(&xml), relations(&json));
    // A link that was got with `_format` goes on in that form.
    let first = read(&server.get(&format!("{path}&_format=xml")).expect(200));
    let next = first["link"].as_array().unwrap().iter().find(|l| l["relation"] == "next").unwrap()["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let target = next.split_once("/fhir").unwrap().1;
    let second = server
        .request("GET", &format!("/fhir{target}"))
        .header("accept", "application/fhir+xml")
        .send()
        .expect(200);
    assert_eq!(read(&second)["entry"].as_array().unwrap().len(), 1);
}

#[test]
fn a_transaction_in_xml_is_carried_out_whole_or_not_at_all() {
    let server = shared();
    let value = unique();
    let bundle = |gender: &str| {
        format!(
            "<Bundle xmlns=\"http://hl7.org/fhir\"><type value=\"transaction\"/>\
             <entry><fullUrl value=\"urn:uuid:6f0e1c1a-0000-4000-8000-000000000001\"/><resource><Patient><identifier><system value=\"urn:s\"/><value value=\"{value}\"/></identifier>\
             <gender value=\"{gender}\"/></Patient></resource><request><method value=\"POST\"/><url value=\"Patient\"/></request></entry>\
             <entry><resource><Observation><status value=\"final\"/><code><text value=\"x\"/></code><subject><reference value=\"urn:uuid:6f0e1c1a-0000-4000-8000-000000000001\"/></subject>\
             <valueQuantity><value value=\"1.50\"/></valueQuantity></Observation></resource><request><method value=\"POST\"/><url value=\"Observation\"/></request></entry></Bundle>"
        )
    };
    let (told, expression) = refused(send("POST", "", &bundle("maschio")), 422);
    assert!(expression.contains("gender"), "{told} {expression}");
    assert_eq!(server.count(&format!("Patient?identifier={value}")), 0);
    let answer = read(&send("POST", "", &bundle("male")).expect(200));
    let statuses: Vec<&str> = answer["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["response"]["status"].as_str().unwrap())
        .collect();
    assert!(statuses.iter().all(|s| s.starts_with("201")), "{answer}");
    let found = fhir("GET", &format!("/Observation?subject.identifier={value}")).send().expect(200);
    assert!(found.text().contains("<value value=\"1.50\"/>"), "{}", found.text());
}

#[test]
fn validate_takes_xml_and_tells_its_issues_by_path() {
    let told = |xml: &str| {
        let outcome = read(&send("POST", "/Patient/$validate", xml).expect(200));
        let issues = outcome["issue"].as_array().unwrap().clone();
        issues
            .iter()
            .map(|i| i["expression"][0].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&patient_xml("<gender value=\"maschio\"/>")), ["Patient.gender"]);
    assert_eq!(
        told(&patient_xml("<gender value=\"male\" x=\"1\"/><nosuch/>")),
        ["Patient.gender", "Patient.nosuch"]
    );
    let parameters = |inner: &str| {
        format!(
            "<Parameters xmlns=\"http://hl7.org/fhir\"><parameter><name value=\"resource\"/><resource><Patient>{inner}</Patient></resource></parameter></Parameters>"
        )
    };
    assert_eq!(told(&parameters("<name><use value=\"x\"/></name>")), ["Patient.name[0].use"]);
    let fine = read(&send("POST", "/Patient/$validate", &parameters("<active value=\"true\"/>")).expect(200));
    assert_eq!(fine["issue"][0]["severity"], "information", "{fine}");
    refused(
        send("POST", "/Observation/$validate", &patient_xml("<active value=\"true\"/>")),
        400,
    );
}

#[test]
fn operations_and_patches_take_their_parameters_in_xml() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    let parameters = |inner: &str| format!("<Parameters xmlns=\"http://hl7.org/fhir\">{inner}</Parameters>");
    let tag = "<parameter><name value=\"meta\"/><valueMeta><tag><system value=\"urn:s\"/><code value=\"x\"/></tag></valueMeta></parameter>";
    let answer = read(&send("POST", &format!("/Patient/{id}/$meta-add"), &parameters(tag)).expect(200));
    assert_eq!(answer["parameter"][0]["valueMeta"]["tag"][0]["code"], "x", "{answer}");
    let part = |name: &str, value: &str| format!("<part><name value=\"{name}\"/>{value}</part>");
    let patch = format!(
        "<parameter><name value=\"operation\"/>{}{}{}{}</parameter>",
        part("type", "<valueCode value=\"add\"/>"),
        part("path", "<valueString value=\"Patient\"/>"),
        part("name", "<valueString value=\"birthDate\"/>"),
        part("value", "<valueDate value=\"1980-01-02\"/>")
    );
    let patched = read(&send("PATCH", &format!("/Patient/{id}"), &parameters(&patch)).expect(200));
    assert_eq!(patched["birthDate"], "1980-01-02", "{patched}");
    let (told, _) = refused(send("PATCH", &format!("/Patient/{id}"), &parameters("<nosuch/>")), 422);
    assert!(told.contains("no such element"), "{told}");
}

#[test]
fn what_is_wrong_in_xml_is_told_with_its_path_and_nothing_is_stored() {
    let family = unique();
    let with = |inner: &str| patient_xml(&format!("<name><family value=\"{family}\"/></name>{inner}"));
    for (inner, status, expression, text) in [
        ("<nosuch value=\"1\"/>", 422, "Patient.nosuch", "Patient has no such element"),
        (
            "<gender code=\"male\"/>",
            422,
            "Patient.gender",
            "the element has no attribute code",
        ),
        ("<birthDate value=\"1980-13\"/>", 422, "Patient.birthDate", "a date that exists"),
        (
            "<birthDate value=\"1980\"/><gender value=\"male\"/>",
            422,
            "Patient.gender",
            "gender stands before birthDate",
        ),
        (
            "<x:gender xmlns:x=\"urn:x\"/>",
            400,
            "Patient",
            "a namespace that FHIR does not have",
        ),
        ("<gender value=\"male\">", 400, "Patient.gender", "an end tag with another name"),
    ] {
        let (told, at) = refused(send("POST", "/Patient", &with(inner)), status);
        assert!(told.contains(text) && at == expression, "{inner}: {at}: {told}");
        assert!(!told.contains(&family), "no value of a patient is told: {told}");
    }
    refused(
        send(
            "POST",
            "/Patient",
            "<Observation xmlns=\"http://hl7.org/fhir\"><status value=\"final\"/></Observation>",
        ),
        400,
    );
    refused(send("POST", "/Patient", ""), 400);
    refused(send("POST", "/Patient", &patient("Rossi").to_string()), 400);
    shared().fhir("POST", "/Patient").fhir(with("")).send().refused(400);
    assert_eq!(shared().count(&format!("Patient?family={family}")), 0);
}

#[test]
fn a_pretty_answer_says_the_same_on_more_lines() {
    let server = shared();
    let id = server.create(&patient("Rossi"));
    let path = format!("/Patient/{id}");
    let plain = server.get(&path).expect(200);
    let pretty = server.get(&format!("{path}?_pretty=true")).expect(200);
    assert!(
        pretty.text().starts_with("{\n  \"resourceType\": \"Patient\",\n"),
        "{}",
        pretty.text()
    );
    assert_eq!(pretty.json(), plain.json());
    assert_eq!(pretty.header("etag"), plain.header("etag"));
    let xml = server.get(&format!("{path}?_pretty=true&_format=xml")).expect(200);
    assert!(
        xml.text()
            .contains(&format!("\n<Patient xmlns=\"http://hl7.org/fhir\">\n  <id value=\"{id}\"/>\n")),
        "{}",
        xml.text()
    );
    let json: Value = serde_json::from_str(&to_json(&xml.body).unwrap()).unwrap();
    assert_eq!(json, plain.json());
    assert_eq!(server.get(&format!("{path}?_pretty=false")).expect(200).body, plain.body);
    let error = server.get("/Patient/no-such-patient?_pretty=true").expect(404);
    assert!(error.text().contains("\n  \"issue\": ["), "{}", error.text());
}

/// A09 and A10 of the attack book.
#[test]
fn hostile_xml_is_refused_at_once_and_the_server_lives() {
    let mut laughs = String::from("<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY lol \"lol\">");
    for i in 1..10 {
        laughs += &format!(
            "<!ENTITY lol{i} \"{}\">",
            format!("&lol{};", if i == 1 { String::new() } else { (i - 1).to_string() }).repeat(10)
        );
    }
    laughs += &format!("]>{}", patient_xml("<name><text value=\"&lol9;\"/></name>"));
    let blow_up = format!(
        "<!DOCTYPE Patient [<!ENTITY a \"{}\">]>{}",
        "a".repeat(50_000),
        patient_xml(&format!("<name><text value=\"{}\"/></name>", "&a;".repeat(50_000)))
    );
    let external = |declaration: &str| {
        format!(
            "<!DOCTYPE Patient [{declaration}]>{}",
            patient_xml("<name><text value=\"&xxe;\"/></name>")
        )
    };
    let attributes: String = (0..1_000_000).map(|i| format!(" a{i}=\"\"")).collect();
    let nested = |tag: &str, end: &str| patient_xml(&format!("{}{}", tag.repeat(100_000), end.repeat(100_000)));
    for (name, xml) in [
        ("billion laughs", laughs),
        ("quadratic blow-up", blow_up),
        ("external entity", external("<!ENTITY xxe SYSTEM \"file:///etc/passwd\">")),
        (
            "parameter entity",
            external("<!ENTITY % pe SYSTEM \"http://127.0.0.1:1/x.dtd\"> %pe;"),
        ),
        (
            "external subset",
            format!("<!DOCTYPE Patient SYSTEM \"http://127.0.0.1:1/x.dtd\">{}", patient_xml("")),
        ),
        (
            "an entity that nobody declares",
            patient_xml("<name><text value=\"&xxe;\"/></name>"),
        ),
        ("100,000 nested extensions", nested("<extension url=\"u\">", "</extension>")),
        ("100,000 nested unknown elements", nested("<a>", "</a>")),
        (
            "100,000 nested divs",
            nested("<div xmlns=\"http://www.w3.org/1999/xhtml\">", "</div>"),
        ),
        (
            "1,000,000 attributes",
            patient_xml(&format!("<active{attributes} value=\"true\"/>")),
        ),
        (
            "1,000,000 attributes of the root",
            format!("<Patient xmlns=\"http://hl7.org/fhir\"{attributes}/>"),
        ),
        (
            "xi:include",
            patient_xml("<xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\" parse=\"text\"/>"),
        ),
        (
            "xi:include in a narrative",
            patient_xml(
                "<text><status value=\"generated\"/><div xmlns=\"http://www.w3.org/1999/xhtml\"><xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\"/></div></text>",
            ),
        ),
    ] {
        let begin = Instant::now();
        let answer = fhir("POST", "/Patient").body("application/fhir+xml", xml).send();
        let took = begin.elapsed();
        assert!(!answer.text().contains("root:"), "{name}");
        let (told, _) = refused(answer, 400);
        assert!(told.contains("The body is not XML as FHIR wants it"), "{name}: {told}");
        // Far above what a debug build takes, far below what any of these is meant to cost.
        assert!(took < Duration::from_secs(10), "{name}: {took:?}");
    }
    shared().get("/metadata").expect(200);
}
