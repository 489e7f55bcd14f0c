//! Searches whose values are dense: other statements than for rare ones, and the same answers. The server knows density from the database's
//! statistics, so it has a database of its own here, filled and analysed before it starts. docs/adr/0008-plans.md.

use crate::support::database::Session;
use crate::support::none_wrong;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::ids_of;
use crate::transaction::entry;
use serde_json::Value;
use serde_json::json;
use std::sync::OnceLock;

/// Observations of the dense code; more than a search gathers.
const DENSE: usize = 2_600;

/// (id, date, codes), as they were loaded.
type Loaded = Vec<Row>;
type Row = (String, String, Vec<&'static str>);

fn observation(i: usize) -> Row {
    // Dates in no order, several on one day, some of a year only; the dense code has none after 2015.
    let (year, month, day) = (2000 + (i * 7) % 16, 1 + (i * 5) % 12, 1 + (i * 11) % 28);
    let date = if i.is_multiple_of(50) {
        year.to_string()
    } else {
        format!("{year}-{month:02}-{day:02}")
    };
    match i % 26 {
        0 => (format!("o{i}"), date.replace("20", "21"), vec!["rare"]),
        1 if i % 520 == 53 => (
            format!("o{i}"),
            format!("2000-{month:02}-{day:02}/2020-01-01"),
            vec!["other", "dense"],
        ),
        // Few enough that the index of first codes is used.
        1 if i % 52 == 1 => (format!("o{i}"), date, vec!["other", "dense"]),
        2 => (format!("o{i}"), String::new(), vec!["dense"]),
        3 => (format!("o{i}"), date, vec!["dense", "other"]),
        // Long periods begin early and end late.
        4 if i % 520 == 4 => (format!("o{i}"), format!("{year}-{month:02}-{day:02}/2020-01-01"), vec!["dense"]),
        _ => (format!("o{i}"), date, vec!["dense"]),
    }
}

/// Many, of all times.
fn lacks_encounter(id: &str) -> bool {
    id.ends_with('3') || id.ends_with('4')
}

/// The oldest alone, and some without a date.
fn lacks_specimen(date: &str) -> bool {
    date < "2002"
}

fn stored() -> &'static (Server, Loaded, DataDir) {
    static STORED: OnceLock<(Server, Loaded, DataDir)> = OnceLock::new();
    STORED.get_or_init(|| {
        let dir = DataDir::new();
        let server = Server::start(&dir, &[]);
        let loaded: Loaded = (0..DENSE * 26 / 25).map(observation).collect();
        for part in loaded.chunks(500) {
            let entries = part.iter().map(|(id, date, codes)| {
                let coding: Vec<Value> = codes.iter().map(|code| json!({"system": "urn:test:dense", "code": code})).collect();
                let mut resource = json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": coding}});
                match date.split_once('/') {
                    Some((start, end)) => resource["effectivePeriod"] = json!({"start": start, "end": end}),
                    None if date.is_empty() => {}
                    None => resource["effectiveDateTime"] = json!(date),
                }
                if !lacks_encounter(id) {
                    resource["encounter"] = json!({"reference": "Encounter/e"});
                }
                if !lacks_specimen(date) {
                    resource["specimen"] = json!({"reference": "Specimen/s"});
                }
                entry("PUT", &format!("Observation/{id}"), resource)
            });
            server.bundle("transaction", entries.collect()).expect(200);
        }
        // What is deleted and what is updated does not stay in the order.
        for id in ["o30", "o31"] {
            server.delete(&format!("/Observation/{id}")).expect(204);
        }
        let loaded: Loaded = loaded.into_iter().filter(|(id, ..)| id != "o30" && id != "o31").collect();
        Session::open(&dir).execute("analyze");
        server.stop();
        (Server::start(&dir, &[]), loaded, dir)
    })
}

/// Ids of all pages of a search, in order.
fn all(server: &Server, search: &str) -> Vec<String> {
    ids_of(&server.pages(&format!("/{search}")))
}

/// Ids and dates in order: rows without a date last, and the later row first among equals.
fn expected(loaded: &Loaded, is_descending: bool, holds: impl Fn(&str, &[&str]) -> bool) -> Vec<String> {
    let mut rows: Vec<(usize, &Row)> = loaded
        .iter()
        .enumerate()
        .filter(|(_, (_, date, codes))| holds(date, codes))
        .collect();
    rows.sort_by(|(i, (_, a, _)), (j, (_, b, _))| {
        // A year begins on its first day, a period with its start.
        let key = |date: &str| match date.split_once('/') {
            Some((start, _)) => start.to_owned(),
            None if date.len() == 4 => format!("{date}-01-01"),
            None => date.to_owned(),
        };
        let by_date = match (a.is_empty(), b.is_empty()) {
            (false, false) if is_descending => key(b).cmp(&key(a)),
            (false, false) => key(a).cmp(&key(b)),
            (a, b) => a.cmp(&b),
        };
        by_date.then(j.cmp(i))
    });
    rows.into_iter().map(|(_, (id, ..))| id.clone()).collect()
}

#[test]
fn what_a_dense_code_lacks_is_found_be_it_among_the_newest_or_the_oldest() {
    let (server, loaded, _) = stored();
    let mut wrong = Vec::new();
    for (from, asked) in [("", ""), ("2001", "&date=ge2001"), ("2014", "&date=ge2014")] {
        for (parameter, is_encounter) in [("encounter", true), ("specimen", false)] {
            let mut wanted = loaded.clone();
            wanted.retain(|(id, date, _)| if is_encounter { lacks_encounter(id) } else { lacks_specimen(date) });
            // "greater or equal": also what ends later.
            wanted.retain(|(_, date, _)| from.is_empty() || date.as_str() >= from || date.split('/').nth(1).is_some_and(|end| end > from));
            let wanted = expected(&wanted, true, |_, codes| codes.contains(&"dense"));
            // Few of those that have it as a further code would fill a small page.
            for (order, count) in [("&_sort=-date", 31), ("&_sort=-date", 4), ("", 31)] {
                let search = format!("Observation?code=dense&{parameter}:missing=true{asked}{order}&_count={count}");
                let found = all(server, &search);
                if found != wanted {
                    wrong.push(format!("{search}: {} found, {} expected", found.len(), wanted.len()));
                }
            }
        }
    }
    none_wrong(&wrong, 18);
}

#[test]
fn the_newest_and_the_oldest_of_a_dense_code_come_in_order_over_all_pages() {
    let (server, loaded, _) = stored();
    let is_dense = |_: &str, codes: &[&str]| codes.contains(&"dense");
    for (sort, is_descending) in [("-date", true), ("date", false)] {
        for code in ["dense", "urn:test:dense|dense"] {
            let found = all(server, &format!("Observation?code={code}&_sort={sort}&_count=97"));
            assert_eq!(found, expected(loaded, is_descending, is_dense), "{code} {sort}");
        }
    }
    assert_eq!(all(server, "Observation?code=urn:other|dense&_sort=-date"), Vec::<String>::new());
}

#[test]
fn other_conditions_hold_beside_a_dense_code() {
    let (server, loaded, _) = stored();
    let dense = |holds: &dyn Fn(&str) -> bool| expected(loaded, true, |date, codes| codes.contains(&"dense") && holds(date));
    let year = |date: &str| date.get(..4).and_then(|y| y.parse::<u32>().ok());
    // Whether it ends after June 2012.
    let ends_late = |date: &str| match date.split_once('/') {
        Some((_, end)) => end > "2012-06-15",
        None if date.len() == 4 => date >= "2012",
        None => date >= "2012-06-15",
    };
    for (search, wanted) in [
        (
            "date=ge2014",
            dense(&|date| year(date).is_some_and(|y| y >= 2014 || date.contains('/'))),
        ),
        ("date=ge2012-06-15", dense(&|date| !date.is_empty() && ends_late(date))),
        ("date=lt2003", dense(&|date| year(date).is_some_and(|y| y < 2003))),
        ("date=2009", dense(&|date| year(date) == Some(2009) && !date.contains('/'))),
        ("date=ge2050", Vec::new()),
        ("status=final&date=sa2014", dense(&|date| year(date).is_some_and(|y| y > 2014))),
        ("code=other", expected(loaded, true, |_, codes| codes.len() == 2)),
        ("status:not=final", Vec::new()),
    ] {
        let found = all(server, &format!("Observation?code=dense&{search}&_sort=-date&_count=50"));
        assert_eq!(found, wanted, "{search}");
    }
    // One by one, so that a page ends among those that begin before the day and end after it.
    let late = all(server, "Observation?code=dense&date=ge2014-12-20&_sort=-date&_count=1");
    let wanted = dense(&|date| match date.split_once('/') {
        Some(_) => true,
        None => date >= "2014-12-20" || date == "2014",
    });
    assert_eq!(late, wanted);
}

#[test]
fn counts_chains_and_reverse_chains_over_dense_values_are_right() {
    let (server, loaded, _) = stored();
    let dense = loaded.iter().filter(|(_, _, codes)| codes.contains(&"dense")).count() as u64;
    assert_eq!(server.count("Observation?code=dense"), dense);
    assert_eq!(
        server.count("Observation?code=rare"),
        loaded.iter().filter(|(_, _, codes)| codes.contains(&"rare")).count() as u64
    );
    assert_eq!(server.count("Observation?code=dense,rare"), loaded.len() as u64);
    assert_eq!(server.count("Observation?status=final&date=2009&code:not=dense"), 0);
    let newest_first = expected(loaded, true, |_, codes| codes.contains(&"dense"));
    assert_eq!(all(server, "Observation?code=dense&_count=500"), newest_first, "without an order");
    assert_eq!(all(server, "Observation?code=dense&status=final&_count=61"), newest_first);
}
