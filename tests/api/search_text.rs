//! Full text: `_text` in narratives, `_content` in everything. Spec: <https://hl7.org/fhir/R4/search.html#content>.

use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::ids_of;
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
