//! `_contained` and `_containedType`, and chains through `#id`. Spec: <https://hl7.org/fhir/R4/search.html#contained>. docs/adr/0016-contained.md.

use crate::ministry::referto;
use crate::oscuramento::rule;
use crate::support::database::Session;
use crate::support::none_wrong;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::next_of;
use crate::support::server::shared;
use crate::support::world::unique;
use serde_json::Value;
use serde_json::json;
use std::process::Command;

/// A prescription of a mixture that it contains.
fn request(id: &str, code: &str) -> Value {
    json!({"resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order", "subject": {"reference": "#pat"},
    "medicationReference": {"reference": "#med"},
    "contained": [
        {"resourceType": "Medication", "id": "med", "code": {"coding": [{"system": "urn:test:contained", "code": code}]},
         "manufacturer": {"reference": "#org"}, "batch": {"expirationDate": "2030-05-01"}},
        {"resourceType": "Organization", "id": "org", "name": format!("Farmacia {code}")},
        {"resourceType": "Patient", "id": "pat", "name": [{"family": format!("Rossi{code}")}], "birthDate": "1950-01-01"}
    ]})
}

fn put(server: &Server, resource: &Value) {
    let path = format!(
        "/{}/{}",
        resource["resourceType"].as_str().unwrap(),
        resource["id"].as_str().unwrap()
    );
    let status = server.put(&path, resource).status;
    assert!(matches!(status, 200 | 201), "{status}");
}

/// Full URLs of the matches, in order, below the base.
fn urls(server: &Server, search: &str) -> Vec<String> {
    let pages = server.pages(&format!("/{search}"));
    let entries = pages.iter().flat_map(|page| page["entry"].as_array().into_iter().flatten());
    let matches = entries.filter(|entry| entry["search"]["mode"] == "match");
    let base = format!("{}/", server.base());
    let url = |entry: &Value| entry["fullUrl"].as_str().unwrap().strip_prefix(&base).expect("ours").to_owned();
    matches.map(url).collect()
}

#[track_caller]
fn check(server: &Server, cases: &[(String, Vec<String>)]) {
    let mut wrong = Vec::new();
    for (search, expected) in cases {
        let (mut found, mut expected) = (urls(server, search), expected.clone());
        found.sort();
        expected.sort();
        let total = server.count(search);
        if found != expected || total as usize != expected.len() {
            wrong.push(format!(
                "{search}\n    expected {expected:?}\n    got      {found:?}, in all {total}"
            ));
        }
    }
    none_wrong(&wrong, cases.len());
}

#[test]
fn what_is_contained_is_found_when_it_is_asked_for_and_answered_as_it_is_asked_for() {
    let server = shared();
    let code = unique();
    put(server, &request(&format!("{code}-a"), &code));
    put(
        server,
        &json!({"resourceType": "Medication", "id": format!("{code}-m"), "code": {"coding": [{"system": "urn:test:contained", "code": code}]}}),
    );
    let mixed = unique();
    let concept = json!({"coding": [{"code": mixed}]});
    put(
        server,
        &json!({"resourceType": "Medication", "id": format!("{mixed}-m"), "code": concept, "ingredient": [{"itemReference": {"reference": "#part"}}],
                "contained": [{"resourceType": "Medication", "id": "part", "code": concept}]}),
    );
    let search = format!("Medication?code=urn:test:contained|{code}");
    let alone = format!("Medication/{code}-m");
    let container = format!("MedicationRequest/{code}-a");
    let contained = format!("{container}#med");
    check(
        server,
        &[
            (search.clone(), vec![alone.clone()]),
            (format!("{search}&_contained=false"), vec![alone.clone()]),
            (format!("{search}&_contained=true"), vec![container.clone()]),
            (
                format!("{search}&_contained=true&_containedType=container"),
                vec![container.clone()],
            ),
            (
                format!("{search}&_contained=true&_containedType=contained"),
                vec![contained.clone()],
            ),
            (format!("{search}&_contained=both"), vec![alone.clone(), container.clone()]),
            (
                format!("{search}&_contained=both&_containedType=contained"),
                vec![alone.clone(), contained.clone()],
            ),
            // A resource that is a match by itself and contains one is answered once.
            (
                format!("Medication?code={mixed}&_contained=both"),
                vec![format!("Medication/{mixed}-m")],
            ),
            (
                format!("Medication?code={mixed}&_contained=both&_containedType=contained"),
                vec![format!("Medication/{mixed}-m"), format!("Medication/{mixed}-m#part")],
            ),
            (format!("?_type=Medication&code={code}&_contained=true"), vec![container.clone()]),
        ],
    );
    let page = server.get(&format!("/{search}&_contained=true")).expect(200).json();
    let entry = &page["entry"][0];
    assert_eq!(
        (&entry["search"]["mode"], &entry["resource"]["contained"][1]["id"]),
        (&json!("match"), &json!("org"))
    );
    let page = server
        .get(&format!("/{search}&_contained=true&_containedType=contained"))
        .expect(200)
        .json();
    assert_eq!(page["entry"][0]["resource"], request("", &code)["contained"][0]);
    assert!(
        page["link"][0]["url"]
            .as_str()
            .unwrap()
            .contains("_contained=true&_containedType=contained")
    );
    let posted = server
        .fhir("POST", "/Medication/_search")
        .body("application/x-www-form-urlencoded", format!("code={code}&_contained=true"))
        .send()
        .expect(200)
        .json();
    assert_eq!(posted["entry"][0]["resource"]["id"], format!("{code}-a"));
    let xml = server
        .get(&format!("/{search}&_contained=true&_containedType=contained&_format=xml"))
        .expect(200);
    assert!(
        xml.text().contains(&format!("<fullUrl value=\"{}/{contained}\"/>", server.base())),
        "{}",
        xml.text()
    );
}

#[test]
fn every_kind_of_parameter_finds_what_is_contained() {
    let server = shared();
    let code = unique();
    let id = format!("{code}-a");
    put(server, &request(&id, &code));
    let report = json!({"resourceType": "DiagnosticReport", "id": format!("{code}-r"), "status": "final", "code": {"text": "x"},
    "result": [{"reference": "#o1"}, {"reference": "#o2"}],
    "contained": [
        {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"coding": [{"code": code, "display": "Emoglobina"}]},
         "effectiveDateTime": "2024-03-01T10:00:00Z", "subject": {"reference": format!("Patient/{code}-p")},
         "valueQuantity": {"value": 13.5, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
         "component": [{"code": {"coding": [{"code": "c1"}]}, "valueQuantity": {"value": 7}}]},
        {"resourceType": "Observation", "id": "o2", "status": "final", "code": {"coding": [{"code": code}]},
         "effectiveDateTime": "2023-03-01", "issued": "2023-04-01T00:00:00Z", "hasMember": [{"reference": "#o1"}],
         "focus": [{"reference": "#l"}, {"reference": "#"}], "valueString": format!("Testo {code} lungo")},
        {"resourceType": "Location", "id": "l", "name": format!("Sede {code}"), "position": {"longitude": 12.5, "latitude": 41.9}}
    ]});
    put(server, &report);
    put(
        server,
        &json!({"resourceType": "Patient", "id": format!("{code}-p"), "name": [{"family": format!("Verdi{code}")}]}),
    );
    let (request, report) = (format!("MedicationRequest/{id}"), format!("DiagnosticReport/{code}-r"));
    let (o1, o2) = (format!("{report}#o1"), format!("{report}#o2"));
    let both = || vec![o1.clone(), o2.clone()];
    let observations = format!("Observation?_contained=true&_containedType=contained&code={code}");
    let case = |rest: &str, expected: Vec<String>| (format!("{observations}&{rest}"), expected);
    let now = chrono::Utc::now().format("%Y-%m-%d");
    check(
        server,
        &[
            case("status=final", both()),
            case("date=2024-03", vec![o1.clone()]),
            case("date=gt2023-01-01", both()),
            case("date=lt2024-01-01", vec![o2.clone()]),
            case("value-quantity=13.5", vec![o1.clone()]),
            case("value-quantity=135|http://unitsofmeasure.org|g/L", vec![o1.clone()]),
            case("value-quantity=gt14", vec![]),
            case("component-code-value-quantity=c1$7", vec![o1.clone()]),
            case(&format!("value-string=testo {code}"), vec![o2.clone()]),
            case(&format!("value-string:contains={code} l"), vec![o2.clone()]),
            case(&format!("value-string:exact=Testo {code} lungo"), vec![o2.clone()]),
            case("value-string:missing=true", vec![o1.clone()]),
            case("value-string:missing=false", vec![o2.clone()]),
            case("status:not=final", vec![]),
            case("code:text=emoglo", vec![o1.clone()]),
            case(&format!("subject=Patient/{code}-p"), vec![o1.clone()]),
            case(&format!("subject:Patient.family=verdi{code}"), vec![o1.clone()]),
            case("_id=o2", vec![o2.clone()]),
            case("_id=nobody", vec![]),
            case(&format!("_lastUpdated=ge{now}"), both()),
            case("_lastUpdated=lt2020-01-01", vec![]),
            case("_filter=value-quantity gt 13 or value-string pr true", both()),
            // What else its container has.
            case("has-member.value-quantity=13.5", vec![o2.clone()]),
            case("has-member:missing=false", vec![o2.clone()]),
            case(&format!("focus:Location.name=sede {code}"), vec![o2.clone()]),
            case("focus:DiagnosticReport.status=final", vec![o2.clone()]),
            case("focus:DiagnosticReport.status=amended", vec![]),
            case("_has:Observation:has-member:value-quantity=1", vec![]),
            case("_has:DiagnosticReport:result:status=final", both()),
            (
                format!("Location?_contained=true&name=Sede {code}&near=41.9|12.5|1|km"),
                vec![report.clone()],
            ),
            (format!("Location?_contained=true&name=Sede {code}&near=45|12.5|1|km"), vec![]),
            (
                format!("Patient?_contained=true&family=rossi{code}&birthdate=1950"),
                vec![request.clone()],
            ),
            (format!("Patient?_contained=true&family=rossi{code}&birthdate=1951"), vec![]),
            (
                format!("Organization?_contained=true&name:contains=acia {code}"),
                vec![request.clone()],
            ),
            (
                format!("Medication?_contained=true&manufacturer.name=farmacia {code}"),
                vec![request.clone()],
            ),
            (
                format!("Medication?_contained=true&code={code}&expiration-date=2030-05"),
                vec![request.clone()],
            ),
            // None of them is a resource of its own.
            (format!("Observation?code={code}"), vec![]),
            (format!("Patient?family=rossi{code}"), vec![]),
        ],
    );
}

#[test]
fn chains_go_through_what_a_resource_contains() {
    let server = shared();
    let (code, other) = (unique(), unique());
    put(server, &request(&format!("{code}-a"), &code));
    put(server, &request(&format!("{other}-a"), &other));
    // The same ids, and what is contained is not referred to.
    let mut unlinked = request(&format!("{code}-b"), &code);
    unlinked["medicationReference"] = json!({"reference": "Medication/elsewhere"});
    unlinked["subject"] = json!({"reference": "Patient/elsewhere"});
    put(server, &unlinked);
    let answers = json!({"resourceType": "QuestionnaireResponse", "id": format!("{code}-q"), "status": "completed", "questionnaire": "#q",
        "contained": [{"resourceType": "Questionnaire", "id": "q", "status": "draft", "title": format!("Domande {code}")}]});
    put(server, &answers);
    // What a reference leads to tells its type, also where an identifier stands beside it.
    let identified = unique();
    let mut resource = request(&format!("{identified}-a"), &identified);
    resource["subject"]["identifier"] = json!({"system": "urn:test:contained", "value": identified});
    put(server, &resource);
    let found = vec![format!("MedicationRequest/{code}-a")];
    let case = |rest: String, expected: &Vec<String>| (format!("MedicationRequest?{rest}"), expected.clone());
    check(
        server,
        &[
            case(format!("medication.code={code}"), &found),
            case(format!("medication:Medication.code={code}"), &found),
            case(format!("medication.manufacturer.name=farmacia {code}"), &found),
            case(format!("medication.code={code}&subject.family=rossi{code}"), &found),
            case(format!("medication.code={code}&subject.family=rossi{other}"), &vec![]),
            case(format!("subject:Patient.family=rossi{code}"), &found),
            case(format!("patient.family=rossi{code}&patient.birthdate=1950"), &found),
            case(format!("patient.family=rossi{code}&patient:missing=false"), &found),
            case(format!("patient:Device.type={code}"), &vec![]),
            (
                format!("MedicationRequest?patient:identifier=urn:test:contained|{identified}"),
                vec![format!("MedicationRequest/{identified}-a")],
            ),
            // A canonical may be `#id` too.
            (
                format!("QuestionnaireResponse?questionnaire.title=domande {code}"),
                vec![format!("QuestionnaireResponse/{code}-q")],
            ),
            // An id within a container names nothing outside of it.
            case(format!("medication.code={code}&subject._id=pat"), &vec![]),
            case(format!("medication.code={code}&subject=Patient/pat"), &vec![]),
            (
                format!("Medication?_has:MedicationRequest:medication:status=active&code={code}"),
                vec![],
            ),
        ],
    );
}

#[test]
fn pages_and_orders_and_parts_of_what_is_contained() {
    let server = shared();
    let code = unique();
    for i in 0..4 {
        let day = (i * 7) % 4 + 1;
        let observation = |n: usize| {
            json!({"resourceType": "Observation", "id": format!("o{n}"), "status": if n == 0 { "final" } else { "amended" },
                   "code": {"coding": [{"code": code}]}, "effectiveDateTime": format!("2024-0{day}-1{n}"), "valueString": format!("v{n}{i}")})
        };
        let mut report = json!({"resourceType": "DiagnosticReport", "id": format!("{code}-{i}"), "status": "final", "code": {"text": "x"},
                                "contained": [observation(0), observation(1)]});
        report["contained"][1]
            .as_object_mut()
            .unwrap()
            .retain(|name, _| i != 3 || name != "effectiveDateTime");
        put(server, &report);
        let mut alone = observation(2);
        alone["id"] = json!(format!("{code}-o{i}"));
        put(server, &alone);
    }
    let of = |i: usize, n: usize| format!("DiagnosticReport/{code}-{i}#o{n}");
    let alone = |i: usize| format!("Observation/{code}-o{i}");
    let report = |i: usize| format!("DiagnosticReport/{code}-{i}");
    let newest: Vec<String> = (0..4).rev().flat_map(|i| [of(i, 1), of(i, 0)]).collect();
    let alone_newest: Vec<String> = (0..4).rev().map(alone).collect();
    // Days of the reports: 1, 4, 3, 2.
    let by_date = ["00", "01", "30", "20", "21", "10", "11", "31"].map(|p| of(p[..1].parse().unwrap(), p[1..].parse().unwrap()));
    let containers: Vec<String> = (0..4).rev().map(report).collect();
    let both_by_text: Vec<String> = (0..4)
        .rev()
        .map(alone)
        .chain((0..2).rev().flat_map(|n| (0..4).rev().map(move |i| (i, n))).map(|(i, n)| of(i, n)))
        .collect();
    let cases = [
        ("_contained=true&_containedType=contained", newest.clone()),
        ("_contained=true", containers.clone()),
        ("_contained=true&_sort=_id", (0..4).map(report).collect()),
        ("_contained=true&_sort=-_lastUpdated", containers),
        (
            "_contained=both&_containedType=contained",
            alone_newest.iter().cloned().chain(newest.iter().cloned()).collect(),
        ),
        ("_contained=true&_containedType=contained&_sort=date", by_date.to_vec()),
        (
            "_contained=true&_containedType=contained&_sort=value-string",
            (0..2).flat_map(|n| (0..4).map(move |i| (i, n))).map(|(i, n)| of(i, n)).collect(),
        ),
        (
            "_contained=true&_containedType=contained&_sort=-status,value-string",
            (0..2).flat_map(|n| (0..4).map(move |i| (i, n))).map(|(i, n)| of(i, n)).collect(),
        ),
        ("_contained=both&_containedType=contained&_sort=-value-string", both_by_text.clone()),
        ("_contained=both&_containedType=contained&_sort=status,-value-string", both_by_text),
    ];
    for (parameters, expected) in cases {
        for count in [1, 3, 100] {
            let search = format!("Observation?code={code}&{parameters}&_count={count}");
            assert_eq!(urls(server, &search), expected, "{search}");
        }
        let total = server
            .get(&format!("/Observation?code={code}&{parameters}&_total=accurate&_count=1"))
            .expect(200)
            .json();
        assert_eq!(total["total"], expected.len(), "{parameters}");
    }
    // Pages stay in place while what they show is written anew.
    let search = format!("/Observation?code={code}&_contained=true&_containedType=contained&_count=3");
    let first = server.get(&search).expect(200).json();
    let mut changed = server.get(&format!("/DiagnosticReport/{code}-0")).expect(200).json();
    changed["status"] = json!("amended");
    put(server, &changed);
    let mut seen = Vec::new();
    let mut page = first;
    loop {
        let entries = page["entry"].as_array().unwrap();
        seen.extend(entries.iter().map(|e| e["fullUrl"].as_str().unwrap().to_owned()));
        let Some(next) = next_of(&page) else { break };
        page = server.request("GET", &next).send().expect(200).json();
    }
    assert_eq!(seen.len(), newest.len());
    assert!(
        seen.iter().zip(&newest).all(|(seen, expected)| seen.ends_with(expected.as_str())),
        "{seen:?}"
    );

    let part = format!("/Observation?code={code}&_contained=true&_containedType=contained&_count=1&_elements=status");
    let resource = server.get(&part).expect(200).json()["entry"][0]["resource"].clone();
    assert_eq!(resource["meta"]["tag"][0]["code"], "SUBSETTED");
    assert!(resource.get("valueString").is_none() && resource["id"] == "o1", "{resource}");
}

#[test]
fn what_is_included_goes_with_what_is_answered() {
    let server = shared();
    let code = unique();
    let mut request = request(&format!("{code}-a"), &code);
    request["contained"][0]["manufacturer"] = json!({"reference": format!("Organization/{code}-o")});
    request["requester"] = json!({"reference": format!("Practitioner/{code}-d")});
    put(
        server,
        &json!({"resourceType": "Organization", "id": format!("{code}-o"), "name": "Farmacia"}),
    );
    put(server, &json!({"resourceType": "Practitioner", "id": format!("{code}-d")}));
    put(server, &request);
    // A stored resource with the id of the contained one: what refers to it does not refer to that.
    let included = |parameters: &str| {
        let page = server.get(&format!("/Medication?code={code}&{parameters}")).expect(200).json();
        let entries = page["entry"].as_array().unwrap().iter();
        let ids = entries
            .filter(|e| e["search"]["mode"] == "include")
            .map(|e| e["resource"]["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let contained = "_contained=true&_containedType=contained";
    assert_eq!(
        included(&format!("{contained}&_include=Medication:manufacturer")),
        [format!("{code}-o")]
    );
    assert_eq!(
        included(&format!("{contained}&_revinclude=MedicationRequest:medication")),
        [format!("{code}-a")]
    );
    assert_eq!(
        included("_contained=true&_include=MedicationRequest:requester"),
        [format!("{code}-d")]
    );
    assert_eq!(
        server
            .get(&format!("/Medication?code={code}&{contained}&_include=MedicationRequest:requester"))
            .refused(400),
        "_include: the search is on Medication, not on MedicationRequest; use _include:iterate to go further"
    );
}

#[test]
fn what_is_contained_is_replaced_and_deleted_with_its_container() {
    let server = shared();
    let (code, next) = (unique(), unique());
    let id = format!("{code}-a");
    put(server, &request(&id, &code));
    let found = |code: &str| server.count(&format!("Medication?code={code}&_contained=true"));
    let chained = |code: &str| server.count(&format!("MedicationRequest?medication.code={code}"));
    assert_eq!((found(&code), chained(&code)), (1, 1));
    put(server, &request(&id, &next));
    assert_eq!((found(&code), chained(&code), found(&next), chained(&next)), (0, 0, 1, 1));
    let patch = json!([{"op": "remove", "path": "/contained"}, {"op": "remove", "path": "/subject"},
                       {"op": "add", "path": "/subject", "value": {"display": "x"}},
                       {"op": "replace", "path": "/medicationReference", "value": {"display": "x"}}]);
    let patched = server.fhir("PATCH", &format!("/MedicationRequest/{id}"));
    patched.body("application/json-patch+json", patch.to_string()).send().expect(200);
    assert_eq!((found(&next), chained(&next)), (0, 0));
    put(server, &request(&id, &next));
    assert_eq!((found(&next), chained(&next)), (1, 1));
    server.delete(&format!("/MedicationRequest/{id}")).expect(204);
    assert_eq!((found(&next), chained(&next)), (0, 0));
    put(server, &request(&id, &code));
    assert_eq!((found(&code), chained(&code)), (1, 1));
    // Of one that the server names, in a transaction with what it refers to.
    let mut resource = request("", &next);
    resource.as_object_mut().unwrap().remove("id");
    let created = server.create(&resource);
    assert_eq!(
        urls(server, &format!("Medication?code={next}&_contained=true&_containedType=contained")),
        [format!("MedicationRequest/{created}#med")]
    );
    assert_eq!(chained(&next), 1);
    let entries = ["a", "b"].map(|_| json!({"resource": resource, "request": {"method": "POST", "url": "MedicationRequest"}}));
    server.bundle("transaction", entries.to_vec()).expect(200);
    assert_eq!((found(&next), chained(&next)), (3, 3));
}

#[test]
fn what_a_hidden_document_contains_is_as_if_it_never_was() {
    let server = shared();
    let (prefix, code) = (unique(), unique());
    let mut bundle = referto(&prefix);
    let observation = bundle["entry"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|e| e["resource"]["resourceType"] == "Observation");
    let resource = &mut observation.unwrap()["resource"];
    resource["contained"] = json!([{"resourceType": "Device", "id": "d", "type": {"coding": [{"code": code}]}, "patient": {"display": "x"},
                                    "deviceName": [{"name": format!("Nome{code}"), "type": "other"}]}]);
    resource["device"] = json!({"reference": "#d"});
    server.post("", &bundle).expect(200);
    let searches = [
        format!("Device?type={code}&_contained=true"),
        format!("Device?type={code}&_contained=true&_containedType=contained"),
        format!("Device?type={code}&_contained=both"),
        format!("Device?device-name=nome{code}&_contained=both&_containedType=contained&_sort=device-name"),
        format!("Observation?device.type={code}"),
    ];
    let never = unique();
    let counts = || searches.each_ref().map(|search| server.count(search));
    assert_eq!(counts(), [1; 5]);
    rule(server, &prefix, "P99");
    assert_eq!(counts(), [0; 5]);
    let base_of = |page: String, code: &str| {
        let mut page: Value = serde_json::from_str(&page.replace(code, "[code]")).unwrap();
        page.as_object_mut().unwrap().remove("id");
        page
    };
    for search in &searches {
        for more in ["&_total=accurate", "&_count=1", "&_sort=-_lastUpdated"] {
            let search = format!("/{}{more}", search.replace("&_sort=device-name", ""));
            let hidden = server.get(&search).expect(200).text().to_owned();
            let other = server.get(&search.replace(&code, &never)).expect(200).text().to_owned();
            assert_eq!(base_of(hidden, &code), base_of(other, &never), "{search}");
        }
    }
    // What is written to it while it is hidden stays hidden.
    rule(server, &prefix, "P00");
    assert_eq!(counts(), [1; 5]);
}

#[test]
fn what_does_not_go_with_contained_resources_is_refused_with_what_would_be_right() {
    let server = shared();
    let cases = [
        ("Medication?_contained=yes", "_contained is false, true or both"),
        ("Medication?_contained=", "_contained is false, true or both"),
        (
            "Medication?_contained=true&_containedType=container,contained",
            "_containedType is container or contained",
        ),
        ("Medication?_containedType=contained", "_contained=true or _contained=both"),
        (
            "Medication?_contained=false&_containedType=contained",
            "_contained=true or _contained=both",
        ),
        ("Medication?_contained=true&_asOf=2020-01-01", "_asOf"),
        ("Medication?_contained=true&_text=x", "_text"),
        ("Medication?_contained=true&_sort=code", "_containedType=contained"),
        ("Observation?_contained=true&_sort=-date", "_id or _lastUpdated"),
        ("Medication?_contained=true&nosuch=1", "nosuch"),
        ("?_type=Medication,Patient&_contained=true", "one type"),
        ("?_contained=true", "one type"),
        ("Patient/1/Observation?_contained=true", "compartment"),
        ("Patient/1/*?_type=Observation&_contained=true", "compartment"),
    ];
    for (search, expected) in cases {
        let text = server.get(&format!("/{search}")).refused(400);
        assert!(text.contains(expected), "{search}: {text}");
    }
    // Under lenient handling what is not supported is left out, and said so.
    let lenient = server
        .fhir("GET", "/Medication?_contained=yes")
        .header("prefer", "handling=lenient")
        .send();
    lenient.refused(400);
    // Conditional interactions are about resources.
    let put = server
        .fhir("PUT", "/Medication?code=x&_contained=true")
        .json(&json!({"resourceType": "Medication"}))
        .send();
    assert!(put.refused(400).contains("_contained"));
}

#[test]
fn parameters_of_ones_own_do_not_find_what_is_contained_and_say_so() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    put(&server, &request("a", "x"));
    let parameter = json!({"resourceType": "SearchParameter", "id": "colour", "url": "http://example.org/colour", "name": "colour", "status": "active",
        "description": "x", "code": "colour", "base": ["Medication"], "type": "token", "expression": "Medication.code"});
    put(&server, &parameter);
    crate::support::server::eventually("it is complete", || server.get("/Medication?colour=x").status == 200);
    let text = server.get("/Medication?colour=x&_contained=true").refused(400);
    assert!(text.contains("colour") && text.contains("_contained"), "{text}");
    assert_eq!(server.count("Medication?code=x&_contained=true"), 1);
    // A container that is indexed anew for one keeps what it contains.
    let parameter = json!({"resourceType": "SearchParameter", "id": "priority", "url": "http://example.org/intent2", "name": "intent2", "status": "active",
        "description": "x", "code": "intent2", "base": ["MedicationRequest"], "type": "token", "expression": "MedicationRequest.intent"});
    put(&server, &parameter);
    crate::support::server::eventually("it is complete", || server.get("/MedicationRequest?intent2=order").status == 200);
    assert_eq!(server.count("MedicationRequest?intent2=order&medication.code=x"), 1);
    assert_eq!(server.count("Medication?code=x&_contained=true"), 1);
    let rows = "select count(*) from contained";
    assert_eq!(Session::open(&dir).number(rows), 3);
    server.stop();
}

#[test]
fn a_resource_contains_a_bounded_number_of_others() {
    let server = shared();
    let code = unique();
    let with = |count: usize| {
        let contained: Vec<Value> = (0..count)
            .map(|i| json!({"resourceType": "Organization", "id": format!("o{i}"), "name": format!("{code}n{i}")}))
            .collect();
        json!({"resourceType": "Patient", "id": format!("{code}-p"), "contained": contained})
    };
    put(server, &with(1_000));
    let search = format!("Organization?name={code}&_contained=true");
    assert_eq!(server.count(&search), 1);
    assert_eq!(server.count(&format!("{search}&_containedType=contained")), 1_000);
    assert_eq!(
        urls(
            server,
            &format!("Organization?name={code}n999&_contained=true&_containedType=contained")
        ),
        [format!("Patient/{code}-p#o999")]
    );
    let refused = server.put(&format!("/Patient/{code}-p"), &with(1_001)).refused(422);
    assert!(refused.contains("1000"), "{refused}");
    let entry = json!({"resource": with(1_001), "request": {"method": "PUT", "url": format!("Patient/{code}-p")}});
    server.bundle("transaction", vec![entry]).refused(422);
    assert_eq!(server.count(&format!("{search}&_containedType=contained")), 1_000);
    let mut without = with(0);
    without.as_object_mut().unwrap().remove("contained");
    put(server, &without);
    assert_eq!(server.count(&search), 0);
}

#[test]
fn chains_to_very_many_go_through_what_is_contained_too() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    // More than a search gathers, of resources and of contained ones.
    let patients = (0..2_200).map(|i| {
        json!({"resource": {"resourceType": "Patient", "id": format!("p{i}"), "gender": "male"},
                                             "request": {"method": "PUT", "url": format!("Patient/p{i}")}})
    });
    server.bundle("transaction", patients.collect()).expect(200);
    let requests = (0..2_200).map(|i| {
        let mut resource = request(&format!("m{i}"), if i < 3 { "rare" } else { "dense" });
        resource["contained"][2]["gender"] = json!("male");
        if i % 2 == 0 {
            resource["subject"] = json!({"reference": format!("Patient/p{i}")});
        }
        if i % 10 == 0 {
            resource["subject"] = json!({"reference": "Patient/nobody"});
        }
        json!({"resource": resource, "request": {"method": "PUT", "url": format!("MedicationRequest/m{i}")}})
    });
    server.bundle("transaction", requests.collect()).expect(200);
    Session::open(&dir).execute("analyze");
    server.stop();
    let server = Server::start(&dir, &[("EDS_SEARCH_EXPLAIN_ALLOWED", "true")]);
    let male = "subject:Patient.gender=male";
    for (search, expected) in [
        (format!("MedicationRequest?{male}"), 1_980),
        (format!("MedicationRequest?{male}&medication.code=rare"), 2),
        ("MedicationRequest?medication.code=dense".to_owned(), 2_197),
        (format!("MedicationRequest?medication.code=dense&{male}&_id=m3,m4,m10"), 2),
        (
            "MedicationRequest?medication.code=dense&medication.manufacturer.name=farmacia rare".to_owned(),
            0,
        ),
        (
            format!("Medication?_contained=true&code=dense&_has:MedicationRequest:medication:{male}"),
            1_978,
        ),
    ] {
        assert_eq!(server.count(&search), expected, "{search}");
        assert_eq!(urls(&server, &format!("{search}&_count=300")).len(), expected as usize, "{search}");
    }
    for search in [
        format!("MedicationRequest?{male}"),
        "MedicationRequest?medication.code=dense".to_owned(),
    ] {
        let text = server.get(&format!("/{search}&_explain=true")).expect(200).text().to_owned();
        assert!(text.contains("_found where"), "row by row: {text}");
    }
    server.stop();
}

#[test]
fn what_an_older_version_stored_is_found_once_it_is_indexed() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    put(&server, &request("a", "x"));
    put(&server, &request("b", "x"));
    put(&server, &request("b", "y"));
    let search = "Medication?code=x,y&_contained=true&_containedType=contained";
    let before = urls(&server, search);
    assert_eq!(before.len(), 2);
    let mut session = Session::open(&dir);
    let sides = "select (select count(*) from contained_string) + (select count(*) from contained_date)";
    let count = session.number(sides);
    assert!(count > 0);
    session.execute("truncate contained cascade; update resource set terms = terms[1:0] || terms[reference_terms + 1:], reference_terms = 0; update repository set index_version = 5");
    assert_eq!(server.count("MedicationRequest?medication.code=x"), 0);
    assert!(server.get(&format!("/{search}")).refused(503).contains("eds reindex"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_eds"));
    let url = crate::support::database::url(&dir);
    let done = command.arg("reindex").env("EDS_DATABASE_URL", url).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(urls(&server, search), before);
    assert_eq!(server.count("MedicationRequest?medication.code=x"), 1);
    assert_eq!(session.number(sides), count);
    server.stop();
}
