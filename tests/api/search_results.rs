//! What a search answers: order, pages, totals, summaries, parts. Spec: <https://hl7.org/fhir/R4/search.html#sort>,
//! <https://hl7.org/fhir/R4/search.html#count>, <https://hl7.org/fhir/R4/http.html#paging>, <https://hl7.org/fhir/R4/search.html#total>,
//! <https://hl7.org/fhir/R4/search.html#summary>, <https://hl7.org/fhir/R4/search.html#elements>, <https://hl7.org/fhir/R4/http.html#search>.

use crate::support::server::Server;
use crate::support::world::World;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

fn link(bundle: &Value, relation: &str) -> Option<String> {
    let links = bundle["link"].as_array()?;
    let link = links.iter().find(|l| l["relation"] == relation)?;
    Some(link["url"].as_str().unwrap().to_owned())
}

fn follow(server: &Server, url: &str) -> Value {
    let target = url
        .strip_prefix(&format!("http://{}", server.address))
        .unwrap_or_else(|| panic!("{url} is not of this server"));
    server.request("GET", target).send().expect(200).json()
}

/// Names of each page.
fn pages(world: &World, search: &str) -> Vec<Vec<String>> {
    let mut bundle = world.search(search).expect(200).json();
    let mut pages = Vec::new();
    while pages.len() < 1000 {
        pages.push(world.names(&bundle, "match"));
        let Some(url) = link(&bundle, "next") else { return pages };
        bundle = follow(world.server, &url);
    }
    panic!("{search} has no end");
}

fn people() -> World {
    let world = World::new();
    let person = |family: Option<&str>, given: &str, born: Option<&str>| {
        let mut patient = json!({"resourceType": "Patient", "name": [{"given": [given]}], "active": true});
        if let Some(family) = family {
            patient["name"][0]["family"] = json!(family);
        }
        if let Some(born) = born {
            patient["birthDate"] = json!(born);
        }
        patient
    };
    for (name, patient) in [
        ("a", person(Some("Rossi"), "Anna", Some("1980-05-01"))),
        ("b", person(Some("Rossi"), "Bruno", Some("1970"))),
        ("c", person(Some("bianchi"), "Carla", Some("1980-05-01"))),
        ("d", person(Some("Élite"), "Dario", None)),
        ("e", person(None, "Enzo", Some("1990-01-01"))),
        ("f", person(Some("Rossi"), "Anna", None)),
    ] {
        world.put(name, patient).expect(201);
    }
    world
}

#[test]
fn results_are_sorted_by_several_keys_with_missing_values_last() {
    let world = people();
    for (sort, expected) in [
        ("family,given,_id", "c d a f b e"),
        ("-family,given,_id", "a f b d c e"),
        ("family,-given,_id", "c d b a f e"),
        ("birthdate,_id", "b a c e d f"),
        ("-birthdate,_id", "e a c b d f"),
        ("birthdate,family,_id", "b c a e d f"),
        ("-birthdate,-family,_id", "e a c b f d"),
        ("_id", "a b c d e f"),
        ("-_id", "f e d c b a"),
        ("_lastUpdated", "a b c d e f"),
        ("-_lastUpdated", "f e d c b a"),
        ("given,birthdate,_id", "a f b c d e"),
        ("family,birthdate,given,_id", "c d b a f e"),
    ] {
        let expected: Vec<&str> = expected.split(' ').collect();
        assert_eq!(world.ordered(&format!("Patient?_sort={sort}")), expected, "{sort}");
        // In pages of any size the order is the same.
        for count in 1..=4 {
            assert_eq!(
                pages(&world, &format!("Patient?_sort={sort}&_count={count}")).concat(),
                expected,
                "{sort} in pages of {count}"
            );
        }
    }
}

/// Every distance from now, the future, open periods and missing dates come in one order.
#[test]
fn the_newest_of_a_code_come_first_however_old_they_are() {
    let world = World::new();
    let dates = [
        ("a", json!({"effectiveDateTime": "2090-01-01"})),
        ("b", json!({"effectiveDateTime": "2026-12-31T23:59:59Z"})),
        ("c", json!({"effectiveDateTime": "2026-11-01"})),
        ("d", json!({"effectiveDateTime": "2026-08-31"})),
        ("e", json!({"effectivePeriod": {"start": "2026-01-15", "end": "2026-02-01"}})),
        ("f", json!({"effectiveDateTime": "2022"})),
        ("g", json!({"effectiveTiming": {"event": ["2010-05-01", "2021-01-01"]}})),
        ("h", json!({"effectiveDateTime": "1999-12"})),
        ("i", json!({"effectiveDateTime": "1905-06-01"})),
        ("j", json!({"effectiveDateTime": "1850"})),
        ("k", json!({"effectivePeriod": {"end": "2026-01-01"}})),
        ("l", json!({})),
    ];
    for (name, date) in &dates {
        for (code, prefix) in [("8480-6", ""), ("8462-4", "other-")] {
            let coding = json!([{"system": "http://loinc.org", "code": code}]);
            let mut observation = json!({"resourceType": "Observation", "status": "final", "code": {"coding": coding}});
            observation.as_object_mut().unwrap().extend(date.as_object().unwrap().clone());
            world.put(&format!("{prefix}{name}"), observation).expect(201);
        }
    }
    let newest: Vec<&str> = dates.iter().map(|(name, _)| *name).collect();
    let oldest: Vec<&str> = "k j i h g f e d c b a l".split(' ').collect();
    for code in ["8480-6", "http://loinc.org|8480-6"] {
        for count in [1, 2, 5, 100] {
            let of = |sort: &str| pages(&world, &format!("Observation?code={code}&_sort={sort}&_count={count}")).concat();
            assert_eq!(of("-date"), newest, "{code} newest first in pages of {count}");
            assert_eq!(of("date"), oldest, "{code} oldest first in pages of {count}");
        }
    }
    assert_eq!(
        world.ordered("Observation?code=8480-6&date=ge2022&_sort=-date"),
        ["a", "b", "c", "d", "e", "f", "k"]
    );
    assert_eq!(
        world.ordered("Observation?code=8480-6&date=lt2022&_sort=-date"),
        ["g", "h", "i", "j", "k"]
    );
    assert_eq!(
        world.ordered("Observation?code=http://snomed.info/sct|8480-6&_sort=-date"),
        Vec::<String>::new()
    );
    let both = world.ordered("Observation?code=8480-6,8462-4&_sort=-date&_count=4");
    assert_eq!(both.len(), 4);
    assert!(
        both.iter().all(|name| ["a", "b", "other-a", "other-b"].contains(&name.as_str())),
        "{both:?}"
    );
}

#[test]
fn numbers_and_quantities_sort_by_their_value() {
    let world = World::new();
    let observation = |value: Option<f64>| {
        let mut observation = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}});
        if let Some(value) = value {
            observation["valueQuantity"] = json!({"value": value});
        }
        observation
    };
    world.load(vec![
        ("ten", observation(Some(10.0))),
        ("nine", observation(Some(9.0))),
        ("minus", observation(Some(-1.5))),
        ("none", observation(None)),
    ]);
    assert_eq!(world.ordered("Observation?_sort=value-quantity"), ["minus", "nine", "ten", "none"]);
    assert_eq!(world.ordered("Observation?_sort=-value-quantity"), ["ten", "nine", "minus", "none"]);
    assert_eq!(
        pages(&world, "Observation?_sort=-value-quantity&_count=1").concat(),
        ["ten", "nine", "minus", "none"]
    );
}

#[test]
fn of_several_values_the_smallest_sorts_up_and_the_largest_down() {
    let world = World::new();
    let names =
        |families: &[&str]| json!({"resourceType": "Patient", "name": families.iter().map(|f| json!({"family": f})).collect::<Vec<_>>()});
    world.load(vec![("ad", names(&["a", "d"])), ("bc", names(&["b", "c"]))]);
    assert_eq!(world.ordered("Patient?_sort=family"), ["ad", "bc"]);
    assert_eq!(world.ordered("Patient?_sort=-family"), ["ad", "bc"]);
}

#[test]
fn pages_hold_every_match_once() {
    let world = World::new();
    let resources: Vec<(String, Value)> = (0..37)
        .map(|i| (format!("n{i:02}"), json!({"resourceType": "Basic", "code": {"text": "x"}})))
        .collect();
    world.load(resources.iter().map(|(name, r)| (name.as_str(), r.clone())).collect());
    for count in [1, 2, 10, 36, 37, 38] {
        let pages = pages(&world, &format!("Basic?_count={count}"));
        assert!(pages[..pages.len() - 1].iter().all(|p| p.len() == count), "{count}");
        let all: BTreeSet<String> = pages.concat().into_iter().collect();
        assert_eq!((all.len(), pages.concat().len()), (37, 37), "{count}");
    }
    // Without _count a page has the configured size.
    assert_eq!(world.ordered("Basic").len(), 20);
    // A page that is asked for twice is the same.
    let first = world.search("Basic?_count=10").json();
    let next = link(&first, "next").unwrap();
    let (one, two) = (follow(world.server, &next), follow(world.server, &next));
    assert_eq!(world.names(&one, "match"), world.names(&two, "match"));
}

#[test]
fn pages_stay_in_place_while_another_writes() {
    let world = World::new();
    let body = |text: String| json!({"resourceType": "Basic", "code": {"text": text}, "created": "2024-01-01"});
    let names: Vec<String> = (0..60).map(|i| format!("n{i:02}")).collect();
    let passing: Vec<String> = (0..60).map(|i| format!("p{i:02}")).collect();
    world.load(names.iter().chain(&passing).map(|n| (n.as_str(), body("x".to_owned()))).collect());
    for sort in ["", "&_sort=created", "&_sort=-_id", "&_sort=_id"] {
        let is_over = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    world
                        .put(&names[(round * 7) % names.len()], body(format!("{sort} {round}")))
                        .expect(200);
                    // What is deleted and comes again may be on a page or not: the others stay.
                    let name = &passing[(round * 11) % passing.len()];
                    match round % 2 {
                        0 => drop(world.server.delete(&format!("/Basic/{}-{name}", world.tag)).expect(204)),
                        _ => drop(world.put(name, body(format!("again {round}")))),
                    }
                    world
                        .put(&format!("new{sort}{round}").replace(['&', '_', '='], ""), body("new".to_owned()))
                        .expect(201);
                }
            });
            let seen = pages(&world, &format!("Basic?_count=7{sort}")).concat();
            is_over.store(true, Ordering::Relaxed);
            seen
        });
        for name in &names {
            assert_eq!(seen.iter().filter(|n| *n == name).count(), 1, "{name} {sort}");
        }
        for name in &passing {
            assert!(seen.iter().filter(|n| *n == name).count() <= 1, "{name} {sort}");
        }
    }
}

#[test]
fn pages_link_to_themselves_to_the_first_and_back_over_a_few_pages() {
    let world = World::new();
    let resources: Vec<(String, Value)> = (0..24)
        .map(|i| {
            (
                format!("n{i:02}"),
                json!({"resourceType": "Basic", "code": {"text": "x"}, "created": format!("20{i:02}")}),
            )
        })
        .collect();
    world.load(resources.iter().map(|(name, r)| (name.as_str(), r.clone())).collect());
    for sort in ["", "&_sort=created", "&_sort=-created", "&_sort=-_id"] {
        let first = world.search(&format!("Basic?_count=2{sort}")).expect(200).json();
        assert_eq!(link(&first, "previous"), None);
        let mut pages = vec![first];
        while let Some(next) = link(&pages[pages.len() - 1], "next") {
            pages.push(follow(world.server, &next));
        }
        assert_eq!(pages.len(), 12);
        let shown = |page: &Value| world.names(page, "match");
        for page in &pages {
            assert_eq!(
                shown(&follow(world.server, &link(page, "self").unwrap())),
                shown(page),
                "self {sort}"
            );
            assert_eq!(
                shown(&follow(world.server, &link(page, "first").unwrap())),
                shown(&pages[0]),
                "first {sort}"
            );
        }
        let mut page = pages[11].clone();
        for earlier in pages[3..11].iter().rev() {
            page = follow(world.server, &link(&page, "previous").unwrap());
            assert_eq!(shown(&page), shown(earlier), "back {sort}");
        }
        assert_eq!(link(&page, "previous"), None, "a cursor leads back eight pages");
        let second = follow(world.server, &link(&pages[0], "next").unwrap());
        assert_eq!(shown(&follow(world.server, &link(&second, "previous").unwrap())), shown(&pages[0]));
        // From where the way back ends it goes on as from anywhere.
        let on = follow(world.server, &link(&page, "next").unwrap());
        assert_eq!(shown(&on), shown(&pages[4]));
    }
    let single = world.search("Basic?_count=100").expect(200).json();
    assert_eq!(single["link"].as_array().unwrap().len(), 1, "one page has no way");
}

#[test]
fn a_cursor_that_was_edited_or_belongs_to_another_search_is_refused() {
    let world = people();
    let first = world.search("Patient?_count=2&_sort=family").json();
    let next = link(&first, "next").unwrap();
    let (before, cursor) = next.split_once("_cursor=").unwrap();
    let (cursor, after) = cursor
        .split_once('&')
        .map_or((cursor, String::new()), |(c, a)| (c, format!("&{a}")));
    let target = |cursor: &str| format!("{before}_cursor={cursor}{after}").replace(&format!("http://{}", world.server.address), "");
    let get = |target: String| world.server.request("GET", &target).send();
    get(target(cursor)).expect(200);
    for i in 0..cursor.len() {
        let mut edited = cursor.as_bytes().to_vec();
        edited[i] = if edited[i] == b'A' { b'B' } else { b'A' };
        get(target(std::str::from_utf8(&edited).unwrap())).refused(400);
    }
    for edited in [
        &cursor[1..],
        &cursor[..cursor.len() - 1],
        "",
        "x",
        "%00",
        &cursor.repeat(2),
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        get(target(edited)).refused(400);
    }
    let other = |search: &str| world.server.get(&format!("{}&_cursor={cursor}", world.path(search)));
    other("Patient?_count=2&_sort=-family").refused(400);
    other("Patient?_count=2&_sort=family&active=true").refused(400);
    other("Practitioner?_count=2").refused(400);
}

#[test]
fn count_bounds_the_page_and_zero_asks_for_the_total_alone() {
    let world = people();
    assert_eq!(world.ordered("Patient?_count=4").len(), 4);
    let zero = world.search("Patient?_count=0").expect(200).json();
    assert_eq!(zero.get("entry"), None);
    assert_eq!(zero["total"], 6, "_count=0 is _summary=count");
    assert_eq!(world.ordered("Patient?_count=1000000").len(), 6);
    for count in ["-1", "x", "1e3", "", "1.5", "99999999999999999999999"] {
        let status = world.search(&format!("Patient?_count={count}")).status;
        assert!(status == 400 || status == 200 && count.len() > 10, "{count}: {status}");
    }
}

#[test]
fn totals_are_told_as_asked() {
    let world = people();
    let total = |search: &str| world.search(search).expect(200).json()["total"].clone();
    assert_eq!(total("Patient?_total=accurate&_count=2"), 6);
    assert_eq!(total("Patient?family=rossi&_total=accurate"), 3);
    assert_eq!(total("Patient?family=none&_total=accurate"), 0);
    assert_eq!(total("Patient?_total=none"), Value::Null);
    assert!(total("Patient?_total=estimate").is_u64());
    assert_eq!(total("Patient?_summary=count&family=rossi"), 3);
}

#[test]
fn summaries_leave_out_what_they_should_and_say_so() {
    let world = World::new();
    let subsetted = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"});
    let div = "<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>";
    world.load(vec![(
        "a",
        json!({"resourceType": "Observation", "status": "final", "code": {"text": "c"}, "text": {"status": "generated", "div": div}, "note": [{"text": "n"}],
            "valueString": "v", "interpretation": [{"text": "i"}]}),
    )]);
    let get = |summary: &str| {
        let found = world.search(&format!("Observation?_summary={summary}")).expect(200).json();
        let mut members: Vec<String> = found["entry"][0]["resource"].as_object().unwrap().keys().cloned().collect();
        members.sort();
        let tags = found["entry"][0]["resource"]["meta"]["tag"]
            .as_array()
            .unwrap()
            .contains(&subsetted);
        (members, tags)
    };
    let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        get("false"),
        (list("code id interpretation meta note resourceType status text valueString"), false)
    );
    assert_eq!(get("true"), (list("code id meta resourceType status valueString"), true));
    assert_eq!(
        get("data"),
        (list("code id interpretation meta note resourceType status valueString"), true)
    );
    assert_eq!(get("text"), (list("code id meta resourceType status text"), true));
    let count = world.search("Observation?_summary=count").expect(200).json();
    assert_eq!(
        (count["total"].as_u64(), count.get("entry"), count["type"].as_str()),
        (Some(1), None, Some("searchset"))
    );
}

#[test]
fn elements_give_what_was_asked_and_what_is_mandatory() {
    let world = World::new();
    world.load(vec![(
        "a",
        json!({"resourceType": "Observation", "status": "final", "code": {"text": "c"}, "note": [{"text": "n"}], "valueString": "v",
            "_valueString": {"extension": [{"url": "urn:x", "valueString": "y"}]}, "subject": {"display": "s"}}),
    )]);
    for (elements, expected) in [
        ("subject", "code id meta resourceType status subject"),
        ("note,subject", "code id meta note resourceType status subject"),
        ("value", "_valueString code id meta resourceType status valueString"),
        ("Observation.note", "code id meta note resourceType status"),
        ("id", "code id meta resourceType status"),
    ] {
        let found = world.search(&format!("Observation?_elements={elements}")).expect(200).json();
        let resource = &found["entry"][0]["resource"];
        let mut members: Vec<&str> = resource.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, expected.split(' ').collect::<Vec<_>>(), "{elements}");
        let tags = resource["meta"]["tag"].as_array().unwrap();
        assert!(tags.iter().any(|t| t["code"] == "SUBSETTED"), "{elements}");
    }
}

#[test]
fn a_part_of_a_resource_cannot_be_written_back_over_the_whole() {
    let world = World::new();
    world.load(vec![(
        "a",
        json!({"resourceType": "Observation", "status": "final", "code": {"text": "c"}, "note": [{"text": "n"}]}),
    )]);
    let part = world.search("Observation?_elements=status").expect(200).json()["entry"][0]["resource"].clone();
    let answer = world.server.put(&world.name("/Observation/~a"), &part);
    assert!(matches!(answer.status, 400 | 409 | 412 | 422), "{}", answer.status);
    assert_eq!(world.server.get(&world.name("/Observation/~a")).json()["note"][0]["text"], "n");
}

#[test]
fn post_search_takes_the_form_and_the_url_together() {
    let world = people();
    let path = world.path("Patient?family=rossi");
    let (_, query) = path.split_once('?').unwrap();
    let form = |target: &str, form: &str| {
        let answer = world
            .server
            .fhir("POST", target)
            .body("application/x-www-form-urlencoded", form.to_owned())
            .send()
            .expect(200);
        let mut names = world.names(&answer.json(), "match");
        names.sort();
        names
    };
    let encoded = crate::support::http::encoded(&format!("x?{query}"))[2..].to_owned();
    assert_eq!(form("/Patient/_search", &encoded), ["a", "b", "f"]);
    assert_eq!(form(&format!("/Patient/_search?{query}"), ""), ["a", "b", "f"]);
    assert_eq!(form("/Patient/_search?given=anna", &encoded), ["a", "f"]);
    assert_eq!(form("/Patient/_search?family=bianchi", &encoded), Vec::<String>::new());
    let charset = world
        .server
        .fhir("POST", "/Patient/_search")
        .body("application/x-www-form-urlencoded; charset=utf-8", encoded.clone())
        .send();
    charset.expect(200);
    // The next page of a search by POST is a GET.
    let first = world
        .server
        .fhir("POST", "/Patient/_search")
        .body("application/x-www-form-urlencoded", format!("{encoded}&_count=2"))
        .send()
        .json();
    let second = follow(world.server, &link(&first, "next").unwrap());
    assert_eq!(world.names(&first, "match").len() + world.names(&second, "match").len(), 3);
    for bad in ["nosuch=1", "family=%FF", "family=%00", "=x&=", "%"] {
        let status = world
            .server
            .fhir("POST", "/Patient/_search")
            .body("application/x-www-form-urlencoded", bad)
            .send()
            .status;
        assert!(matches!(status, 200 | 400), "{bad}: {status}");
    }
}

#[test]
fn the_self_link_tells_what_was_done_and_entries_where_they_are() {
    let world = people();
    let found = world.search("Patient?family=rossi&_sort=given&_count=2").expect(200).json();
    assert_eq!(
        (found["resourceType"].as_str(), found["type"].as_str()),
        (Some("Bundle"), Some("searchset"))
    );
    let self_link = link(&found, "self").unwrap();
    assert_eq!(follow(world.server, &self_link)["entry"], found["entry"]);
    for entry in found["entry"].as_array().unwrap() {
        let full_url = entry["fullUrl"].as_str().unwrap();
        assert_eq!(&follow(world.server, full_url), &entry["resource"]);
    }
}
