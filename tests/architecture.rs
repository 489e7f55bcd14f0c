//! The rules of ARCHITECTURE.md that a program can check over the sources: layers, who talks to whom, sizes.
//! An exception stands here with its reason, and one that is no longer needed is an error too.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use regex::Regex;
use std::collections::BTreeSet;
use std::path::Path;

/// Modules from the lowest layer up; a file uses its own module and those on layers below.
const LAYERS: &[&[&str]] = &[
    &["clock", "outcome", "metrics", "config"],
    &["telemetry"],
    &["fhir"],
    &["policy"],
    &["search", "validate"],
    &["store"],
    &["interaction"],
    &["delivery"],
    &["http"],
    &["commands"],
    &["lib", "main"],
];

/// File, module it may use against the rule, reason.
const LAYER_EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "src/fhir/definitions/compile.rs",
        "model",
        "compiled by build.rs too, where the module stands at the root",
    ),
    (
        "src/fhir/definitions/terminology.rs",
        "model",
        "compiled by build.rs too, where the module stands at the root",
    ),
    (
        "src/fhir/definitions/package.rs",
        "model",
        "compiled by build.rs too, where the module stands at the root",
    ),
    (
        "src/fhir/definitions/compile.rs",
        "terminology",
        "compiled by build.rs too, where the module stands at the root",
    ),
    (
        "src/fhir/definitions/terminology.rs",
        "compile",
        "compiled by build.rs too, where the module stands at the root",
    ),
];

/// File, reason why it may hold statements although it is not in `store/`.
const SQL_EXCEPTIONS: &[(&str, &str)] = &[
    ("src/commands/doctor.rs", "asks a database that may not be one of ours yet"),
    ("src/commands/import.rs", "`analyze` after a load"),
    ("src/commands/mod.rs", "the cursor key, read while the parts are wired"),
];

const LINES_MAX: usize = 500;

struct Source {
    /// `src/store/read.rs`
    path: String,
    /// Without comments and without the tests at the end.
    text: String,
    lines: usize,
    whole: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("src")];
    let mut sources = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let whole = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let production = whole.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
            let code = production
                .lines()
                .filter(|l| !l.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            sources.push(Source {
                path,
                text: code,
                lines: production.lines().count(),
                whole,
            });
        }
    }
    assert!(sources.len() > 50);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    // A file `tests.rs` beside a module holds its tests.
    sources.retain(|s| !s.path.ends_with("/tests.rs"));
    sources
}

/// `store` of `src/store/read.rs`, `clock` of `src/clock.rs`.
fn module(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap();
    rest.split('/').next().unwrap().trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Files in which the pattern occurs, one line each.
fn occurrences(pattern: &str) -> Vec<(String, String)> {
    let pattern = Regex::new(pattern).unwrap();
    let mut found = Vec::new();
    for source in sources() {
        found.extend(
            source
                .text
                .lines()
                .filter(|l| pattern.is_match(l))
                .map(|l| (source.path.clone(), l.trim().to_owned())),
        );
    }
    found
}

#[track_caller]
fn check_only_in(pattern: &str, allowed: &[&str]) {
    let wrong: Vec<_> = occurrences(pattern)
        .into_iter()
        .filter(|(path, _)| !allowed.iter().any(|a| path.starts_with(a)))
        .collect();
    assert!(wrong.is_empty(), "{pattern} stands outside {allowed:?}:\n{wrong:#?}");
}

#[test]
fn every_module_has_its_layer() {
    let modules: BTreeSet<String> = sources().iter().map(|s| module(&s.path).to_owned()).collect();
    let known: BTreeSet<String> = LAYERS.iter().flat_map(|l| l.iter().map(|m| (*m).to_owned())).collect();
    assert_eq!(modules, known);
    for banned in ["util", "utils", "common", "core", "helpers"] {
        assert!(!modules.contains(banned), "a module named {banned} says nothing");
    }
}

#[test]
fn a_file_uses_its_own_module_and_lower_layers_only() {
    let uses = Regex::new(r"\bcrate::([a-z_]+)").unwrap();
    let uses_of_main = Regex::new(r"\beds::([a-z_]+)").unwrap();
    let (mut wrong, mut needed) = (BTreeSet::new(), BTreeSet::new());
    for source in sources() {
        let own = module(&source.path);
        let uses = if own == "main" { &uses_of_main } else { &uses };
        for name in uses.captures_iter(&source.text).map(|c| c[1].to_owned()) {
            let is_below = layer(&name).is_some_and(|used| Some(used) < layer(own));
            if name == own || is_below {
                continue;
            }
            match LAYER_EXCEPTIONS
                .iter()
                .find(|(path, module, _)| *path == source.path && *module == name)
            {
                Some((path, module, _)) => drop(needed.insert((*path, *module))),
                None => drop(wrong.insert(format!("{} uses {name}", source.path))),
            }
        }
    }
    assert!(wrong.is_empty(), "against the layers of ARCHITECTURE.md:\n{wrong:#?}");
    println!("exceptions in use: {needed:?}");
}

#[test]
fn statements_stand_in_the_store_alone() {
    let mut allowed = vec!["src/store/", "src/store.rs"];
    allowed.extend(SQL_EXCEPTIONS.iter().map(|(path, _)| *path));
    check_only_in(r"sqlx::(query|query_as|query_scalar|raw_sql)\b\(", &allowed);
    let used: BTreeSet<String> = occurrences(r"sqlx::(query|query_as|query_scalar|raw_sql)\b")
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    for (path, reason) in SQL_EXCEPTIONS {
        assert!(used.contains(*path), "the exception of {path} ({reason}) is no longer needed");
    }
}

#[test]
fn only_http_knows_actix_and_only_delivery_and_callbacks_send_requests() {
    check_only_in(r"\bactix", &["src/http/", "src/metrics.rs"]);
    check_only_in(
        r"\breqwest::Client\b",
        &["src/delivery/", "src/interaction/ingestion/", "src/commands/"],
    );
}

#[test]
fn settings_time_and_ids_come_from_one_place_each() {
    check_only_in(r"\benv::vars?(_os)?\b", &["src/config.rs"]);
    check_only_in(r"\b(Utc|Local)::now\b|SystemTime::now\b", &["src/clock.rs"]);
    check_only_in(r"\bUuid::new_v", &["src/clock.rs"]);
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|s| s.lines > LINES_MAX)
        .map(|s| format!("{}: {} lines without its tests", s.path, s.lines))
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines:\n{long:#?}");
}

/// The last migration before the first release; what came before it never ran on anybody's data.
const RELEASED_SCHEMA: &str = "0008";

/// What of a migration the version before it would not survive.
fn takes_away(migration: &str) -> Vec<String> {
    let comment = Regex::new("--.*").unwrap();
    let code = comment.replace_all(migration, "").into_owned();
    let wrong = Regex::new(r"(?i)\b(drop|rename|truncate|set\s+not\s+null)\b|\balter\s+(column\s+)?\w+\s+(set\s+data\s+)?type\b").unwrap();
    // Without an index the version before is slower, and no statement fails, unless it is a unique one: these have other names.
    let is_index = Regex::new(r"(?i)^drop\s+index\s+\w+_index_low$").unwrap();
    let statements = code.split(';').map(str::trim).filter(|statement| !is_index.is_match(statement));
    let found = statements.filter(|statement| wrong.is_match(statement) || adds_a_column_that_must_be_written(statement));
    found.map(str::to_owned).collect()
}

/// `add b int not null`: the version before does not write it.
fn adds_a_column_that_must_be_written(statement: &str) -> bool {
    let parentheses = Regex::new(r"\([^()]*\)").unwrap();
    let mut flat = statement.to_lowercase();
    while parentheses.is_match(&flat) {
        flat = parentheses.replace_all(&flat, "").into_owned();
    }
    let adds = Regex::new(r"\badd\b.*\bnot\s+null\b").unwrap();
    let is_given = Regex::new(r"\b(default|generated)\b").unwrap();
    let clauses: Vec<String> = flat.split(',').map(|clause| clause.replace('\n', " ")).collect();
    clauses.iter().any(|clause| adds.is_match(clause) && !is_given.is_match(clause))
}

#[test]
fn migrations_only_add_so_that_the_version_before_runs_on_them() {
    // docs/operations.md: rollback is starting the older binary.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if &name[..4] > RELEASED_SCHEMA {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(takes_away(&text).is_empty(), "{name}: {:?}", takes_away(&text));
        }
    }
    for wrong in [
        "alter table a drop column b;",
        "alter table a rename column b to c;",
        "alter table a alter column b type bigint;",
        "alter table a alter b type bigint;",
        "alter table a drop b;",
        "alter table a add column b int not null;",
        "alter table a\n    add b numeric(10, 2)\n    not null, add c int default 0;",
    ] {
        assert_eq!(takes_away(wrong), [wrong.trim_end_matches(';')]);
    }
    assert!(
        takes_away("alter table a add column b int not null default 0;\n-- drop table a\ncreate index c on a (b); -- rename").is_empty()
    );
    assert!(takes_away("create table d (e int not null); alter table a add f bigint;").is_empty());
}

#[test]
fn nothing_is_left_to_do_and_every_module_says_what_it_is() {
    let mark = Regex::new(r"\b(TODO|FIXME|XXX|HACK)\b").unwrap();
    for source in sources() {
        assert!(!mark.is_match(&source.whole), "{} has a mark of unfinished work", source.path);
        assert!(
            source.whole.starts_with("//!"),
            "{} does not begin by saying what it is",
            source.path
        );
    }
}

#[test]
fn every_alias_of_a_resource_in_compiled_sql_is_opened_with_a_policy() {
    // Invariant I4: the compiler names the tables in one file, opens aliases of them in one place, and writes the predicate with each.
    let named: Vec<_> = occurrences(r"from (resource|history|contained)\b")
        .into_iter()
        .filter(|(path, _)| path.starts_with("src/search/"))
        .collect();
    assert!(named.iter().all(|(path, _)| path == "src/search/compile/source.rs"), "{named:#?}");
    // As they are; both tables, as of an instant; superseded versions alone; what is contained; and the rows of a hash, which are looked for in either.
    assert_eq!(named.len(), 6, "{named:#?}");
    for (pattern, lines) in [
        (r"\b(NOW|VERSIONS|CONTAINED)\b", 6),
        (r"\bSUPERSEDED\b|\.predicate_of_superseded\(", 3),
        (r"\bpush_source\(", 2),
        (r"\bpush_policy\(", 2),
        (r"\bresource_and\(None|fn filter\(|\.filter\(&alias", 3),
    ] {
        let found: Vec<_> = occurrences(pattern)
            .into_iter()
            .filter(|(path, _)| path.starts_with("src/search/compile/"))
            .collect();
        assert_eq!(found.len(), lines, "{pattern}: {found:#?}");
    }
    let compiler = sources().into_iter().find(|s| s.path == "src/search/compile/mod.rs").unwrap();
    let (_, opening) = compiler.text.split_once("fn resource_and(").unwrap();
    let (opening, _) = opening.split_once("\n    }").unwrap();
    assert!(
        opening.contains("self.push_source(&alias)") && opening.contains("self.filter(&alias, condition)"),
        "{opening}"
    );
}

#[test]
fn every_attack_has_its_test_and_every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/attacks.md")).unwrap();
    let named = Regex::new(r"`((?:api|faults)/\w+)::(\w+)`").unwrap();
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| A") || line.starts_with("| B") || line.starts_with("| D"))
        .collect();
    let cases: Vec<&str> = rows.iter().map(|row| &row[2..5]).collect();
    let expected = (1..=16).map(|i| format!("A{i:02}")).chain((1..=17).map(|i| format!("B{i:02}")));
    let expected: Vec<String> = expected.chain((8..=10).map(|i| format!("D{i:02}"))).collect();
    assert_eq!(cases, expected, "cases of docs/attacks.md");
    for row in rows {
        assert!(named.is_match(row), "no test: {row}");
    }
    for names in named.captures_iter(&table) {
        let path = format!("tests/{}.rs", &names[1]);
        let text = std::fs::read_to_string(root.join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let test = format!("#[test]\nfn {}()", &names[2]);
        assert!(
            text.contains(&test),
            "docs/attacks.md names {} of {path}, which is not there",
            &names[2]
        );
    }
}
