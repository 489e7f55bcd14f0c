//! The invariants, checked through the front door and in the database when the storm is over. Each violation begins with the invariant's name.
//!
//! - durability: what was acknowledged is there, at its version, with its content
//! - versions: 1, 2, 3, ... without gap or repeat, `lastUpdated` never goes back, and nothing is in a history that nobody wrote
//! - atomicity: of a transaction both writes, or none
//! - index: what searches find is what a scan of the contents finds
//! - feed: each version has one position, positions have no gap, versions of a resource are in order

use crate::figures::Outcome;
use crate::ledger::Ledger;
use crate::ledger::Sent;
use crate::ledger::Told;
use crate::support::database::Session;
use crate::support::server::Server;
use crate::support::server::ids_of;
use crate::writers::body;
use crate::writers::number_of;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;
use std::time::Instant;

/// A version as the history has it.
struct Version {
    version: u32,
    updated: String,
    /// `None`: a deletion.
    content: Option<Value>,
}

/// Everything that a server has, against what its clients were told.
pub fn check(server: &Server, database: &mut Session, ledger: &Ledger, outcome: &mut Outcome) {
    let sent = ledger.read();
    let mut histories = BTreeMap::new();
    for type_name in ["Patient", "Observation"] {
        history(server, type_name, &mut histories);
    }
    versions(&sent, &histories, outcome);
    atomicity(&sent, &histories, outcome);
    index(server, &histories, outcome);
    feed(database, histories.values().map(Vec::len).sum(), outcome);
    outcome.figure("versions checked", histories.values().map(Vec::len).sum::<usize>());
    outcome.figure("resources", histories.len());
}

fn history(server: &Server, type_name: &str, into: &mut BTreeMap<String, Vec<Version>>) {
    for page in server.pages(&format!("/{type_name}/_history?_count=1000")) {
        for entry in page["entry"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let is_deletion = entry["request"]["method"] == "DELETE";
            let url = entry["fullUrl"].as_str().or(entry["request"]["url"].as_str()).unwrap_or_default();
            let resource: Vec<&str> = url.rsplit('/').take(2).collect();
            let etag = entry["response"]["etag"].as_str().unwrap_or_default();
            let version = Version {
                version: etag.trim_matches(['W', '/', '"']).parse().unwrap_or(0),
                updated: entry["response"]["lastModified"].as_str().unwrap_or_default().to_owned(),
                content: (!is_deletion).then(|| entry["resource"].clone()),
            };
            into.entry(format!("{}/{}", resource[1], resource[0])).or_default().push(version);
        }
    }
    for versions in into.values_mut() {
        versions.sort_by_key(|v| v.version);
    }
}

/// Durability and versions.
fn versions(sent: &[Sent], histories: &BTreeMap<String, Vec<Version>>, outcome: &mut Outcome) {
    let mut of_resource: HashMap<&str, Vec<&Sent>> = HashMap::new();
    for s in sent {
        of_resource.entry(&s.resource).or_default().push(s);
    }
    for (resource, sent) in &of_resource {
        let history = histories.get(*resource).map(Vec::as_slice).unwrap_or_default();
        let at = |version: u32| history.get(version.wrapping_sub(1) as usize);
        for s in sent {
            let Told::Done(version) = s.told else { continue };
            // A delete of what is not there names no version, and makes none.
            if s.is_delete && version == 0 {
                continue;
            }
            let found = at(version);
            let is_there = found.is_some_and(|v| is_of(v, s));
            outcome.require(is_there, || {
                let found = found.map(|v| v.content.as_ref().map(number_of));
                format!(
                    "durability: {resource} version {version} should be of write {}, and is {found:?}",
                    s.number
                )
            });
        }
        let known: HashMap<u64, &Sent> = sent.iter().map(|s| (s.number, *s)).collect();
        let mut seen = HashSet::new();
        for (i, version) in history.iter().enumerate() {
            let expected = i as u32 + 1;
            outcome.require(version.version == expected, || {
                format!("versions: {resource} has {} where {expected} should be", version.version)
            });
            let previous = i.checked_sub(1).map(|before| history[before].updated.as_str());
            outcome.require(previous.is_none_or(|p| p <= version.updated.as_str()), || {
                format!("versions: {resource} version {expected} is older than the one before it")
            });
            let Some(content) = &version.content else { continue };
            let number = number_of(content);
            let written = number.and_then(|n| known.get(&n));
            outcome.require(written.is_some_and(|s| s.told != Told::Refused), || {
                format!("versions: {resource} version {expected} holds what nobody wrote: {number:?}")
            });
            outcome.require(number.is_none_or(|n| seen.insert(n)), || {
                format!("versions: {resource} holds write {number:?} twice")
            });
        }
    }
    for resource in histories.keys().filter(|r| !of_resource.contains_key(r.as_str())) {
        outcome.violations.push(format!("versions: nobody wrote {resource}"));
    }
}

/// The version holds what the write sent, whole.
fn is_of(version: &Version, sent: &Sent) -> bool {
    match &version.content {
        None => sent.is_delete,
        Some(content) => {
            let mut content = content.clone();
            content.as_object_mut().expect("a resource").remove("meta");
            !sent.is_delete && content == body(&sent.resource, sent.number)
        }
    }
}

fn atomicity(sent: &[Sent], histories: &BTreeMap<String, Vec<Version>>, outcome: &mut Outcome) {
    let mut pairs: HashMap<u64, Vec<&Sent>> = HashMap::new();
    for s in sent.iter().filter(|s| s.pair != 0) {
        pairs.entry(s.pair).or_default().push(s);
    }
    outcome.figure("transactions", pairs.len());
    for pair in pairs.values() {
        let written = pair
            .iter()
            .filter(|s| histories.get(&s.resource).is_some_and(|h| h.iter().any(|v| is_of(v, s))))
            .count();
        outcome.require(written == 0 || written == pair.len(), || {
            format!(
                "atomicity: {written} of {} writes of the transaction of {}",
                pair.len(),
                pair[0].number
            )
        });
    }
}

/// Searches by each kind of index against a scan of the current contents.
fn index(server: &Server, histories: &BTreeMap<String, Vec<Version>>, outcome: &mut Outcome) {
    let current: Vec<(&str, &Value)> = histories
        .iter()
        .filter_map(|(resource, versions)| Some((resource.as_str(), versions.last()?.content.as_ref()?)))
        .collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut searches = 0;
    let mut compare = |search: String, holds: &dyn Fn(&Value) -> bool| {
        searches += 1;
        let type_name = search.split_once('?').map_or(search.as_str(), |(t, _)| t);
        let expected: BTreeSet<String> = current
            .iter()
            .filter(|(resource, content)| resource.starts_with(&format!("{type_name}/")) && holds(content))
            .map(|(resource, _)| (*resource).to_owned())
            .collect();
        let ids = ids_of(&server.pages(&format!("/{search}")));
        let found: Vec<String> = ids.iter().map(|id| format!("{type_name}/{id}")).collect();
        let distinct: BTreeSet<String> = found.iter().cloned().collect();
        outcome.require(distinct == expected && found.len() == distinct.len(), || {
            let (missing, extra) = (expected.difference(&distinct).count(), distinct.difference(&expected).count());
            format!(
                "index: {search}: {missing} missing, {extra} too many of {}, {} twice",
                expected.len(),
                found.len() - distinct.len()
            )
        });
    };
    compare("Patient?_count=1000".to_owned(), &|_| true);
    compare("Observation?_count=1000".to_owned(), &|_| true);
    for code in 0..16 {
        let code = format!("c{code}");
        compare(format!("Observation?code=urn:fault:code|{code}&_count=1000"), &|o| {
            o["code"]["coding"][0]["code"] == code.as_str()
        });
    }
    for family in (0..64).step_by(7) {
        let family = format!("fam{family}");
        compare(format!("Patient?family={family}&_count=1000"), &|p| {
            text(&p["name"][0]["family"]).to_lowercase().replace('à', "a").starts_with(&family)
        });
    }
    for month in 1..=12 {
        let month = format!("2021-{month:02}");
        compare(format!("Observation?date={month}&_count=1000"), &|o| {
            text(&o["effectiveDateTime"]).starts_with(&month)
        });
    }
    for year in (1940..2000).step_by(9) {
        compare(format!("Patient?birthdate={year}&_count=1000"), &|p| {
            text(&p["birthDate"]).starts_with(&year.to_string())
        });
    }
    compare("Observation?value-quantity=gt900&_count=1000".to_owned(), &|o| {
        o["valueQuantity"]["value"].as_f64().is_some_and(|v| v > 900.0)
    });
    for (resource, _) in current
        .iter()
        .filter(|(r, _)| r.starts_with("Patient/"))
        .step_by(current.len() / 20 + 1)
    {
        compare(format!("Observation?subject={resource}"), &|o| {
            o["subject"]["reference"] == *resource
        });
    }
    outcome.figure("searches against a scan", searches);
}

/// The positions of the change rows.
fn feed(database: &mut Session, versions: usize, outcome: &mut Outcome) {
    let begin = Instant::now();
    let placed = "select coalesce(sum(count), 0)::bigint from feed_run";
    let changes = database.number("select count(*) from change");
    while database.number(placed) < changes && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut require = |what: &str, sql: &str, expected: i64| {
        let number = database.number(sql);
        outcome.require(number == expected, || format!("feed: {what}: {number} in place of {expected}"));
    };
    require("change rows", "select count(*) from change", versions as i64);
    require("positions", placed, changes);
    require("next position", "select position from sequencer", changes + 1);
    require(
        "changes with a position",
        "select count(*) from feed_run r join change c on c.seq >= r.seq_first and c.seq < r.seq_first + r.count",
        changes,
    );
    require(
        "gaps between runs",
        "select count(*) from (select position + count as next, lead(position) over (order by position) as following from feed_run) r
         where following <> next",
        0,
    );
    require(
        "versions out of order",
        "select count(*) from (
             select c.version, lag(c.version) over (partition by c.rid order by r.position + c.seq - r.seq_first) as before
             from feed_run r join change c on c.seq >= r.seq_first and c.seq < r.seq_first + r.count
         ) o where before >= version",
        0,
    );
}
