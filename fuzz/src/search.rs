//! Searches: read strictly, leniently and as criteria, compiled to SQL in every plan. What a client writes becomes arguments, never text.

use eds::fhir::definitions::definitions;
use eds::policy::Policy;
use eds::search::compile::Compiler;
use eds::search::condition::Condition;
use eds::search::contained::Asked;
use eds::search::contained::spread;
use eds::search::cursor::Place;
use eds::search::page;
use eds::search::page::PageRead;
use eds::search::parameters::Registry;
use eds::search::parse::Handling;
use eds::search::parse::Limits;
use eds::search::parse::Parser;
use eds::search::parse::Query;
use eds::search::parse::Total;
use eds::search::sql::Arg;
use eds::search::sql::Sql;
use std::sync::LazyLock;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::load(definitions()).expect("R4's own parameters"));
/// Longest statement: bounds what one request can ask of the database.
const SQL_BYTES_MAX: usize = 4 << 20;

/// `Type?name=value&...`, percent-encoded or not.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (type_name, query) = text.split_once('?').unwrap_or(("Patient", text));
    let limits = Limits {
        parameters_max: 64,
        values_max: 256,
        query_bytes_max: 65_536,
        expansion_codes_max: 1000,
        chain_depth_max: 4,
        page_entries_default: 20,
        page_entries_max: 1_000,
        includes_max: 1_000,
        sort_rows_max: 2_000,
        total_default: Total::None,
        named_queries: Vec::new(),
        as_of_age_min_ms: 0,
        explain_allowed: false,
        base_url: "http://localhost/fhir".to_owned(),
    };
    let pairs = eds::interaction::pairs(query);
    for handling in [Handling::Strict, Handling::Lenient] {
        let parser = Parser {
            registry: &REGISTRY,
            limits: &limits,
            handling,
            base: "http://localhost/fhir",
            now: chrono::DateTime::UNIX_EPOCH,
            is_past: false,
            contained: Asked::default(),
        };
        match parser.query(type_name, &pairs) {
            Ok(mut query) => {
                query.condition = looked_up(query.condition);
                spread(query).iter().for_each(compile);
            }
            Err(outcome) => assert!(matches!(outcome.status(), 400 | 404), "{outcome}"),
        }
        match parser.criteria(type_name, &pairs) {
            Ok(condition) => {
                let mut compiler = Compiler::new(Policy::NotWithdrawn, None);
                compiler.sql.push("select count(*)");
                compiler.resource(&looked_up(condition));
                check(&compiler.sql);
            }
            Err(outcome) => assert!(matches!(outcome.status(), 400 | 404 | 412), "{outcome}"),
        }
    }
}

/// As if each text or value set stood for so many terms that they are looked for in parts.
fn looked_up(condition: Condition) -> Condition {
    condition.found(&mut |_| (0..1000).collect())
}

fn compile(query: &Query) {
    let columns = |alias: &str| format!("{alias}.rid");
    for part in page::parts(query) {
        let first = PageRead {
            policy: Policy::NotWithdrawn,
            query,
            part: *part,
            after: None,
            limit: query.count + 1,
        };
        check(&first.sql_to_walk(&query.condition, columns));
        check(&first.sql_to_gather(&query.condition, &query.condition, columns));
        if let (Some(code), Some(true)) = (query.code, query.sort.first().map(|s| s.is_descending)) {
            check(&first.sql_by_code(code, first.ends_at(), None, columns));
            check(&first.sql_by_code(code, first.ends_at(), Some(0), columns));
            check(&first.sql_for_date_after(code, 1_000));
        }
        let cursor = Place {
            is_without_key: false,
            keys: first.sort().iter().map(|_| Some("0".to_owned())).collect(),
            rid: 1,
        };
        let next = PageRead {
            after: Some(&cursor),
            ..first
        };
        check(&next.sql_to_walk(&query.condition, columns));
    }
}

fn check(sql: &Sql) {
    assert!(sql.text.len() < SQL_BYTES_MAX, "{} bytes of SQL", sql.text.len());
    assert!(sql.text.is_ascii(), "{}", sql.text);
    assert!(sql.args.len() <= usize::from(u16::MAX), "{} arguments", sql.args.len());
    for arg in &sql.args {
        match arg {
            Arg::Text(text) => assert!(!text.contains('\0'), "a text that the database refuses"),
            Arg::Float(value) => assert!(!value.is_nan()),
            Arg::Int(_) | Arg::Ints(_) | Arg::Keys(_) | Arg::Instant(_) => {}
        }
    }
}
