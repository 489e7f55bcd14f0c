//! Full text: `_text` in narratives, `_content` in everything. Spec: <https://hl7.org/fhir/R4/search.html#content>.

use crate::support::http::encoded;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::ids_of;
use crate::support::server::next_of;
use crate::support::world::World;
use serde_json::Value;
use serde_json::json;
use std::process::Command;

fn report(text: &str, conclusion: &str) -> Value {
    json!({"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "Esame istologico"}, "conclusion": conclusion,
        "text": {"status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{text}</div>")}})
}

#[test]
fn narratives_are_found_by_their_words_in_italian() {
    let world = World::new();
    world.load(vec![
        ("liver", report("<p>Lesione al <b>fegato</b>, margini liberi.</p>", "benigna")),
        ("spleen", report("<p>La milza \u{e8} aumentata; fegato nei limiti.</p>", "fegato")),
        (
            "none",
            json!({"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "fegato"}}),
        ),
        ("city", report("Ricovero a Forl\u{ec} &amp; dintorni", "nulla")),
    ]);
    world.check(&[
        ("DiagnosticReport?_text=fegato", &["liver", "spleen"]),
        // Stems, case and accents do not count.
        ("DiagnosticReport?_text=LESIONI", &["liver"]),
        ("DiagnosticReport?_text=margine libero", &["liver"]),
        ("DiagnosticReport?_text=forli", &["city"]),
        ("DiagnosticReport?_text=Forl\u{ec}", &["city"]),
        // All words, one of several, an order, and what must not stand there.
        ("DiagnosticReport?_text=fegato milza", &["spleen"]),
        ("DiagnosticReport?_text=lesione or milza", &["liver", "spleen"]),
        ("DiagnosticReport?_text=lesione,milza", &["liver", "spleen"]),
        ("DiagnosticReport?_text=\"margini liberi\"", &["liver"]),
        ("DiagnosticReport?_text=\"liberi margini\"", &[]),
        ("DiagnosticReport?_text=fegato -milza", &["liver"]),
        ("DiagnosticReport?_text=benigna", &[]),
        // The names of elements are no words.
        ("DiagnosticReport?_text=xhtml", &[]),
        ("DiagnosticReport?_text=%27%27)%3B--%22", &[]),
        ("?_text=milza", &["spleen"]),
        ("DiagnosticReport?_filter=_text eq milza", &["spleen"]),
    ]);
    // The index follows the resource.
    world.put("spleen", report("<p>Rene</p>", "fegato")).expect(200);
    world.check(&[("DiagnosticReport?_text=milza", &[]), ("DiagnosticReport?_text=rene", &["spleen"])]);
    world.server.delete(&format!("/DiagnosticReport/{}-spleen", world.tag)).expect(204);
    world.check(&[("DiagnosticReport?_text=rene", &[])]);
    for (search, text) in [
        ("DiagnosticReport?_content=fegato", "search.full_text = \"content\""),
        ("DiagnosticReport?_text:exact=fegato", "no modifiers"),
        ("DiagnosticReport?_text:missing=true", "no modifiers"),
        ("DiagnosticReport?_sort=_text", "_sort by _text has no order"),
        ("DiagnosticReport?_text=x&_asOf=2020-01-01", "they do not go with _asOf"),
        ("Binary?_text=x", "Binary has no search parameter _text"),
    ] {
        let answer = world.search(search).expect(400);
        assert!(answer.text().contains(&text.replace('"', "\\\"")), "{search}: {}", answer.text());
    }
}

/// Scores of the matches of a page, in its order.
fn scores(page: &Value) -> Vec<f64> {
    let matches = page["entry"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["search"]["mode"] == "match");
    matches.map(|entry| entry["search"]["score"].as_f64().unwrap()).collect()
}

#[test]
fn matches_tell_how_well_they_fit_and_are_ordered_by_it_on_request() {
    // "When searching, the server's search ranking score for the entry ... between 0 and 1, where 1 is most relevant" (Bundle.entry.search.score).
    let world = World::new();
    world.load(vec![
        ("once", report("Un fegato, e poi altro.", "x")),
        ("often", report("Fegato, fegato, fegato e ancora fegato.", "x")),
        ("twice", report("Fegato, rene, fegato.", "x")),
        ("other", report("Rene", "x")),
    ]);
    let page = world.search("DiagnosticReport?_text=fegato&_sort=-_score").expect(200).json();
    let found = scores(&page);
    assert_eq!(world.names(&page, "match"), ["often", "twice", "once"]);
    assert!(
        found.is_sorted_by(|a, b| a > b) && found.iter().all(|score| (0.0..=1.0).contains(score)),
        "{found:?}"
    );
    assert_eq!(
        world.ordered("DiagnosticReport?_text=fegato&_sort=_score"),
        ["once", "twice", "often"]
    );
    // Without an order the newest come first, as in any search; the score is told all the same, and of the system too.
    for search in [
        "DiagnosticReport?_text=fegato",
        "DiagnosticReport?_text=fegato&_sort=_id",
        "?_text=fegato",
    ] {
        let mut told = scores(&world.search(search).expect(200).json());
        told.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(told, found, "{search}");
    }
    // Of alternatives the one that fits best counts, and what must not stand there fits nothing.
    assert_eq!(world.ordered("DiagnosticReport?_text=rene,fegato&_sort=-_score,_id")[0], "often");
    assert_eq!(
        world.ordered("DiagnosticReport?_text=fegato -rene&_sort=-_score"),
        ["often", "once"]
    );
    let page = world.search("DiagnosticReport?code:text=esame").expect(200).json();
    assert!(page["entry"][0]["search"].get("score").is_none(), "{page}");
    let several = "?_type=DiagnosticReport,Observation&_text=fegato&_sort=-_score";
    assert_eq!(world.ordered(several), ["often", "twice", "once"]);
    for search in ["DiagnosticReport?_sort=-_score", "DiagnosticReport?_text=x&_sort=score"] {
        world.search(search).refused(400);
    }
}

#[test]
fn pages_by_score_neither_repeat_nor_lose_while_others_write() {
    let world = World::new();
    let names: Vec<String> = (0..9).map(|i| format!("r{i}")).collect();
    let text = |i: usize| report(&"milza ".repeat(i % 4 + 1), "x");
    world.load(names.iter().enumerate().map(|(i, name)| (name.as_str(), text(i))).collect());
    let mut seen = Vec::new();
    let first = world.path("DiagnosticReport?_text=milza&_sort=-_score&_count=2");
    let mut next = Some(format!("/fhir{}", encoded(&first)));
    while let Some(target) = next {
        let page = world.server.request("GET", &target).send().expect(200).json();
        seen.extend(world.names(&page, "match"));
        // One that fits better than all, and one that fits as well as others.
        world
            .put(&format!("new{}", seen.len()), report(&"milza ".repeat(9), "x"))
            .expect(201);
        world.put(&format!("same{}", seen.len()), text(3)).expect(201);
        next = next_of(&page);
    }
    seen.retain(|name| name.starts_with('r'));
    let best = |name: &String| std::cmp::Reverse(name[1..].parse::<usize>().unwrap() % 4);
    assert!(seen.is_sorted_by_key(best), "{seen:?}");
    seen.sort();
    assert_eq!(seen, names);
}

#[test]
fn content_is_every_string_when_the_setting_says_so_and_a_reindex_makes_up_for_before() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    let old = server.create(&report("<p>Polmone</p>", "nodulo sospetto"));
    drop(server);
    let content = [("EDS_SEARCH_FULL_TEXT", "content")];
    let server = Server::start(&dir, &content);
    let new = server.create(&report("<p>Rene</p>", "nodulo solido"));
    let found = |server: &Server, search: &str| {
        let mut ids = ids_of(&server.pages(search));
        ids.sort();
        ids
    };
    for search in ["_content=nodulo", "_content=noduli rene", "_content=istologico&_text=rene"] {
        assert_eq!(
            found(&server, &format!("/DiagnosticReport?{search}")),
            std::slice::from_ref(&new),
            "{search}"
        );
    }
    assert_eq!(found(&server, "/DiagnosticReport?_text=polmone"), std::slice::from_ref(&old));
    drop(server);
    let mut reindex = Command::new(env!("CARGO_BIN_EXE_eds"));
    reindex.args(["reindex", "--data-dir"]).arg(dir.data()).envs(content);
    let done = reindex.output().expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let server = Server::start(&dir, &content);
    let mut both = vec![old, new];
    both.sort();
    assert_eq!(found(&server, "/DiagnosticReport?_content=nodulo"), both);
}
