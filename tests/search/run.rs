//! A run: populations, each on a server of its own; searches by several clients at once; writes between them; and what does not agree.

use crate::evaluator::Key;
use crate::evaluator::Query;
use crate::evaluator::Store;
use crate::evaluator::container_of;
use crate::evaluator::key_of;
use crate::features::Counts;
use crate::features::is_on;
use crate::population::Draw;
use crate::queries::Asked;
use crate::queries::Generator;
use crate::support::http::Answer;
use crate::support::http::Connection;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::free_port;
use crate::support::server::link_of;
use crate::values::list;
use chrono::SecondsFormat;
use chrono::Utc;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

/// What to run.
pub struct Plan {
    pub seed: u64,
    pub populations: usize,
    pub searches: usize,
}

/// Rounds of searches on a population, with writes between them.
const ROUNDS: usize = 8;
const CLIENTS: usize = 4;
/// Resources that are changed, deleted or made again between two rounds.
const WRITES: usize = 12;
/// Disagreements that are told in full.
const TOLD_MAX: usize = 12;

#[derive(Debug, Default)]
pub struct Report {
    pub searches: usize,
    pub without_result: usize,
    pub counts: Counts,
    pub disagreements: Vec<String>,
    /// Resources that the server did not take, with the reason.
    pub refused: Vec<String>,
    pub resources: usize,
    pub seconds: f64,
}

impl Report {
    fn merge(&mut self, other: Report) {
        self.searches += other.searches;
        self.without_result += other.without_result;
        self.counts.merge(&other.counts);
        self.disagreements.extend(other.disagreements);
        self.refused.extend(other.refused);
        self.resources += other.resources;
    }

    pub fn print(&self, seed: u64) {
        println!(
            "seed {seed}: {} searches over {} resources ({} refused) in {:.1} s; {:.0} % without result",
            self.searches,
            self.resources,
            self.refused.len(),
            self.seconds,
            100.0 * self.without_result as f64 / self.searches.max(1) as f64
        );
        for (feature, (asked, found)) in &self.counts.0 {
            println!("  {feature:28} {asked:6} searches, {found:6} with a result");
        }
    }
}

/// The generator of one place of a run: it does not depend on what other clients do meanwhile.
fn rng(plan: &Plan, place: [usize; 3]) -> StdRng {
    let mixed = place.iter().fold(plan.seed, |seed, part| {
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(*part as u64 + 1)
    });
    StdRng::seed_from_u64(mixed)
}

pub fn run(plan: &Plan) -> Report {
    let begin = Instant::now();
    let mut report = Report::default();
    for population in 0..plan.populations {
        report.merge(on_population(plan, population));
    }
    report.seconds = begin.elapsed().as_secs_f64();
    report
}

/// One population, on a server of its own.
pub struct World {
    pub server: Server,
    _dir: DataDir,
    pub store: Store,
    /// What could be seen at instants that are over.
    past: Vec<(String, Store)>,
    /// The server reads few matches to sort them.
    few_are_sorted: bool,
}

/// Matches that are read to be sorted where they are to be few: more have an order by codes alone.
const FEW_SORTED: usize = 2;

impl World {
    pub fn new() -> World {
        World::sorting(false)
    }

    fn sorting(few_are_sorted: bool) -> World {
        let dir = DataDir::new();
        // What others refer to is deleted too: searches must bear references to what is not there.
        // References by the server's own address are known from its settings.
        let address = format!("127.0.0.1:{}", free_port());
        let rows_max = if few_are_sorted { FEW_SORTED } else { 2_000 }.to_string();
        let settings = [
            ("EDS_INTEGRITY_ON_DELETE", "allow"),
            ("EDS_BASE_URL", &format!("http://{address}")),
            ("EDS_SEARCH_FULL_TEXT", "content"),
            ("EDS_SEARCH_AS_OF_AGE_MIN_MS", "1"),
            ("EDS_SEARCH_SORT_ROWS_MAX", &rows_max),
        ];
        let server = Server::start_at(&dir, &address, &settings);
        let store = Store::new(server.base());
        World {
            server,
            _dir: dir,
            store,
            past: Vec::new(),
            few_are_sorted,
        }
    }

    /// Stores these, and keeps what the server made of them. The reasons for which it refused some.
    pub fn put(&mut self, resources: Vec<Value>) -> Vec<String> {
        let entry = |resource: &Value| {
            let (type_name, id) = key_of(resource);
            json!({"resource": resource, "request": {"method": "PUT", "url": format!("{type_name}/{id}")}})
        };
        let answer = self
            .server
            .bundle("batch", resources.iter().map(entry).collect())
            .expect(200)
            .json();
        let mut refused = Vec::new();
        let mut connection = Connection::open(self.server.address);
        for (resource, entry) in resources.iter().zip(answer["entry"].as_array().expect("entries")) {
            let key = key_of(resource);
            if !entry["response"]["status"].as_str().is_some_and(|s| s.starts_with('2')) {
                assert!(
                    !Draw::is_terminology(&key.1),
                    "{key:?}: {}\n{resource}",
                    entry["response"]["outcome"]
                );
                refused.push(format!("{key:?}: {}\n{resource}", entry["response"]["outcome"]));
                continue;
            }
            let stored = connection.get(&format!("/fhir/{}/{}", key.0, key.1)).expect(200).json();
            self.store.insert(stored);
        }
        refused
    }

    /// Stores these as a document that is obscured from its first moment (docs/adr/0007-oscuramento.md). The evaluator does not know them.
    fn hide(&mut self, resources: Vec<Value>) {
        let identifier = json!({"system": "urn:oid:2.16.840.1.113883.2.9.2.120.4.4", "value": "1"});
        let composition = json!({"resourceType": "Composition", "identifier": identifier, "status": "final", "type": {"text": "x"}, "date": "2024",
            "title": "x", "subject": {"reference": "Patient/1"}, "author": [{"display": "x"}]});
        let obscured = json!([{"coding": [{"system": "urn:oid:2.16.840.1.113883.2.9.3.3.6.1.3", "code": "P99"}]}]);
        let reference = json!({"resourceType": "DocumentReference", "id": "h-document", "status": "current", "subject": {"reference": "Patient/1"},
            "content": [{"attachment": {"title": "x"}}], "context": {"event": obscured}});
        let mut entries = vec![json!({"resource": composition, "request": {"method": "POST", "url": "Composition"}})];
        let with_ids: Vec<Value> = std::iter::once(reference).chain(resources).collect();
        entries.extend(with_ids.iter().map(|resource| {
            let (type_name, id) = key_of(resource);
            json!({"resource": resource, "request": {"method": "PUT", "url": format!("{type_name}/{id}")}})
        }));
        let document = json!({"resourceType": "Bundle", "type": "transaction", "identifier": identifier, "entry": entries});
        self.server.post("", &document).expect(200);
        for (type_name, id) in with_ids.iter().map(key_of) {
            self.server.get(&format!("/{type_name}/{id}")).expect(404);
        }
    }

    /// Keeps what can be seen now, under an instant after which it may change.
    fn remember(&mut self) {
        let now = Utc::now();
        self.past
            .push((now.to_rfc3339_opts(SecondsFormat::Millis, true), self.store.without_contained()));
        // An instant that is asked for ends with its millisecond.
        std::thread::sleep(Duration::from_millis(3));
    }

    fn delete(&mut self, key: &Key) {
        let answer = self.server.delete(&format!("/{}/{}", key.0, key.1));
        assert!(matches!(answer.status, 200 | 204), "{key:?}: {}", answer.status);
        self.store.remove(key);
    }
}

fn on_population(plan: &Plan, population: usize) -> Report {
    let mut world = World::sorting(population % 4 > 1);
    let mut writes = rng(plan, [population, 0, 0]);
    let draw = Draw::new(&mut writes, &world.store.base);
    let resources: Vec<Value> = draw.keys.iter().map(|(name, id)| draw.resource(&mut writes, name, id)).collect();
    let hidden = draw.hidden.iter().map(|(name, id)| draw.resource(&mut writes, name, id)).collect();
    // Every other population has an obscured document: its own resources, and references to them, must not be noticed.
    if population.is_multiple_of(2) {
        world.hide(hidden);
    }
    let refused = world.put(resources);
    world.remember();
    let mut report = Report {
        refused,
        resources: world.store.resources().len(),
        ..Report::default()
    };
    let searches = plan.searches / plan.populations / ROUNDS / CLIENTS;
    for round in 0..ROUNDS {
        let world_now = &world;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| scope.spawn(move || searches_of(world_now, rng(plan, [population, round + 1, client]), searches)))
                .collect();
            for client in clients {
                report.merge(client.join().expect("a client that does not panic"));
            }
        });
        report.refused.extend(change(&mut world, &draw, &mut writes));
        world.remember();
    }
    report
}

/// Some resources get other values, some are deleted, some come back.
fn change(world: &mut World, draw: &Draw, rng: &mut StdRng) -> Vec<String> {
    let mut changed = Vec::new();
    for _ in 0..WRITES {
        let key = draw.keys.choose(rng).expect("a key").clone();
        let may_go = !Draw::is_terminology(&key.1);
        match may_go && rng.random_bool(0.3) && world.store.get(&key.0, &key.1).is_some() {
            true => world.delete(&key),
            false => changed.push(draw.resource(rng, &key.0, &key.1)),
        }
    }
    changed.sort_by_key(key_of);
    changed.dedup_by_key(|resource| key_of(resource));
    world.put(changed)
}

fn searches_of(world: &World, mut rng: StdRng, searches: usize) -> Report {
    let mut report = Report::default();
    let mut client = Client {
        connection: Connection::open(world.server.address),
        store: &world.store,
        few_are_sorted: world.few_are_sorted,
    };
    let generator = Generator::new(&world.store);
    // The state of now is one of them.
    let (instant, past) = world.past.choose(&mut rng).expect("an instant");
    let generator_of_past = Generator::new(past);
    while report.searches < searches {
        let is_past = rng.random_bool(0.06);
        let Asked { mut query, mut features } = match is_past {
            true => generator_of_past.draw(&mut rng),
            false => generator.draw(&mut rng),
        };
        let looks_into_text = features.iter().any(|feature| ["_text", "_content"].contains(feature));
        let is_supported = features.iter().all(|feature| is_on(feature));
        client.store = &world.store;
        if is_past && is_supported && !looks_into_text {
            query.pairs.push(("_asOf".to_owned(), instant.clone()));
            features.push("_asOf");
            client.store = past;
        } else if is_past && is_supported {
            continue;
        }
        if client.few_are_sorted && is_supported && client.is_refused_for_its_order(&query) {
            continue;
        }
        let found = match is_supported {
            true => client.compare(&query),
            false => client.refusal(&query).map(|()| 0),
        };
        report.searches += 1;
        let count = *found.as_ref().unwrap_or(&1);
        if client.few_are_sorted && features.contains(&"_sort by a token") && count > FEW_SORTED {
            features.push("_sort of many by codes");
        }
        report.without_result += usize::from(count == 0 && is_supported);
        report.counts.add(&features, count > 0);
        if let Err(difference) = found {
            let told = match report.disagreements.len() < TOLD_MAX {
                true => client.told(&query, &difference),
                false => format!("{}: {difference}", query.text()),
            };
            report.disagreements.push(told);
        }
    }
    report
}

/// A client that compares the server's answers with the evaluator's.
pub struct Client<'s> {
    pub connection: Connection,
    pub store: &'s Store,
    pub few_are_sorted: bool,
}

impl Client<'_> {
    fn ask(&mut self, query: &Query) -> Answer {
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(&query.pairs);
        let path = if query.path.is_empty() {
            String::new()
        } else {
            format!("/{}", query.path)
        };
        self.connection.get(&format!("/fhir{path}?{}", encoded.finish()))
    }

    /// More are to be put in an order that no index has than are read for it, and they have none by codes. That what has one is not refused is told by the
    /// number of searches with it.
    fn is_refused_for_its_order(&mut self, query: &Query) -> bool {
        if !query.pairs.iter().any(|(name, _)| name == "_sort") || self.store.matches(query).len() <= FEW_SORTED {
            return false;
        }
        let answer = self.ask(query);
        answer.status == 400 && String::from_utf8_lossy(&answer.body).contains("search.sort_rows_max")
    }

    /// The server says that it does not have what is asked for.
    pub fn refusal(&mut self, query: &Query) -> Result<(), String> {
        let answer = self.ask(query);
        let code = answer.json()["issue"][0]["code"].clone();
        match answer.status == 400 && code == "not-supported" {
            true => Ok(()),
            false => Err(format!("{} {code}, not a refusal as not-supported", answer.status)),
        }
    }

    /// Number of matches, if server and evaluator agree on them; what differs otherwise.
    pub fn compare(&mut self, query: &Query) -> Result<usize, String> {
        let expected = self.store.matches(query);
        let mut pages = vec![self.page(query)?];
        let limit = expected.len() + 2;
        while let Some(target) = pages.last().and_then(|page| link_of(page, "next")) {
            let answer = self.connection.get(&target);
            if answer.status != 200 || pages.len() > limit {
                return Err(format!("page {}: status {}", pages.len() + 1, answer.status));
            }
            pages.push(answer.json());
        }
        let last = |name: &str| query.pairs.iter().rfind(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let is_count = last("_summary") == Some("count") || last("_count") == Some("0");
        for page in &pages {
            if (is_count || last("_total") == Some("accurate")) && page["total"] != expected.len() {
                return Err(format!("total {}, expected {}", page["total"], expected.len()));
            }
            self.check_includes(query, page)?;
        }
        let found: Vec<Key> = pages.iter().flat_map(|page| keys(page, "match")).collect();
        let distinct: BTreeSet<Key> = found.iter().cloned().collect();
        pages.iter().try_for_each(|page| self.check_contained(page))?;
        if is_count {
            return if found.is_empty() {
                Ok(expected.len())
            } else {
                Err("entries beside a count".to_owned())
            };
        }
        if distinct != expected {
            let names = |keys: BTreeSet<&Key>| keys.iter().map(|(name, id)| format!("{name}/{id}")).collect::<Vec<_>>().join(" ");
            return Err(format!(
                "too many: [{}], lacking: [{}]",
                names(distinct.difference(&expected).collect()),
                names(expected.difference(&distinct).collect())
            ));
        }
        if found.len() != distinct.len() {
            return Err("a match comes twice".to_owned());
        }
        let count = last("_count").map_or(usize::MAX, |count| count.parse().expect("a number"));
        if let Some(page) = pages[..pages.len() - 1].iter().find(|page| keys(page, "match").len() != count) {
            return Err(format!("a page of {} that is not the last", keys(page, "match").len()));
        }
        self.check_way_back(&pages)?;
        if !self.store.is_sorted(query, &found) {
            let rows = found
                .iter()
                .map(|key| format!("{}/{} {:?}", key.0, key.1, self.store.sort_values(query, key)));
            return Err(format!("not in order:\n{}", rows.collect::<Vec<_>>().join("\n")));
        }
        Ok(expected.len())
    }

    /// The last page leads to the one before it.
    fn check_way_back(&mut self, pages: &[Value]) -> Result<(), String> {
        let [.., before, last] = pages else { return Ok(()) };
        let Some(target) = link_of(last, "previous") else {
            return Err("the last page does not lead back".to_owned());
        };
        let again = self.connection.get(&target);
        match again.status == 200 && keys(&again.json(), "match") == keys(before, "match") {
            true => Ok(()),
            false => Err(format!("the page before the last is another by its link: status {}", again.status)),
        }
    }

    fn page(&mut self, query: &Query) -> Result<Value, String> {
        let answer = self.ask(query);
        match answer.status {
            200 => Ok(answer.json()),
            status => Err(format!("status {status}: {}", String::from_utf8_lossy(&answer.body))),
        }
    }

    /// A contained resource is answered as it stands in its container.
    fn check_contained(&self, page: &Value) -> Result<(), String> {
        let entries = page["entry"].as_array().into_iter().flatten();
        for entry in entries.filter(|entry| entry["search"]["mode"] == "match") {
            let key = key_of_entry(entry);
            let Some(container) = self.store.found(&key).and_then(container_of) else {
                continue;
            };
            let id = &entry["resource"]["id"];
            let own = list(container, "contained").find(|contained| contained["id"] == *id);
            if own != Some(&entry["resource"]) {
                return Err(format!("{key:?} is answered otherwise than it stands in {container}"));
            }
        }
        Ok(())
    }

    /// "Each page of search results should include the matching includes for the resources in each page" (search.html#include).
    fn check_includes(&self, query: &Query, page: &Value) -> Result<(), String> {
        let matches: BTreeSet<Key> = keys(page, "match").into_iter().collect();
        let (expected, is_cut) = self.store.included(query, &matches);
        let listed = keys(page, "include");
        let included: BTreeSet<Key> = listed.iter().cloned().collect();
        if included != expected || listed.len() != included.len() {
            return Err(format!(
                "includes too many: {:?}, lacking: {:?}",
                included.difference(&expected).collect::<Vec<_>>(),
                expected.difference(&included).collect::<Vec<_>>()
            ));
        }
        let is_told = page["entry"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|e| e["search"]["mode"] == "outcome");
        match is_cut == is_told {
            true => Ok(()),
            false => Err(format!(
                "the page {} that it lacks includes",
                if is_told { "tells" } else { "does not tell" }
            )),
        }
    }

    /// The disagreement, by the smallest search that shows one, with the resources on which the two differ.
    fn told(&mut self, whole: &Query, difference: &str) -> String {
        let (mut query, mut difference) = (whole.clone(), difference.to_owned());
        while let Some((smaller, its)) = self.smaller(&query) {
            (query, difference) = (smaller, its);
        }
        let mentioned = self
            .store
            .resources()
            .iter()
            .chain(self.store.contained())
            .filter(|((name, id), _)| {
                let slash = format!("{name}/{id}");
                let quoted = format!("({name:?}, {id:?})");
                difference.split([' ', '[', ']', '\n']).any(|word| word == slash) || difference.contains(&quoted)
            });
        let shown: Vec<String> = mentioned.take(4).map(|(_, resource)| resource.to_string()).collect();
        format!(
            "{}\n    {difference}\n    {}\n    at first: {}",
            query.text(),
            shown.join("\n    "),
            whole.text()
        )
    }

    /// The search without one of its parts, if the two disagree on that too.
    fn smaller(&mut self, query: &Query) -> Option<(Query, String)> {
        let mut candidates = Vec::new();
        // Without these a search asks for something else.
        let is_apart = |name: &str| !["_type", "_count", "_asOf", "near", "_contained", "_containedType"].contains(&name);
        let parts = query.pairs.iter().enumerate().filter(|(_, (name, _))| is_apart(name));
        for (i, (_, value)) in parts {
            let mut without = query.clone();
            without.pairs.remove(i);
            candidates.push(without);
            let alternatives = crate::values::split(value, ',');
            for j in (0..alternatives.len()).filter(|_| alternatives.len() > 1) {
                let mut fewer = alternatives.clone();
                fewer.remove(j);
                let mut without = query.clone();
                without.pairs[i].1 = fewer.join(",");
                candidates.push(without);
            }
        }
        candidates.into_iter().find_map(|smaller| {
            let difference = self.compare(&smaller).err()?;
            // With fewer conditions it may find too many for its order, which is no disagreement.
            if self.few_are_sorted && self.is_refused_for_its_order(&smaller) {
                return None;
            }
            Some((smaller, difference))
        })
    }
}

/// Keys of a page's entries of one mode, in order.
fn keys(page: &Value, mode: &str) -> Vec<Key> {
    let entries = page["entry"].as_array().into_iter().flatten();
    entries.filter(|e| e["search"]["mode"] == mode).map(key_of_entry).collect()
}

/// That of a contained resource is told by its URL alone: `[base]/MedicationRequest/1#m`.
fn key_of_entry(entry: &Value) -> Key {
    let (type_name, id) = key_of(&entry["resource"]);
    let mut parts = entry["fullUrl"].as_str().unwrap_or_default().rsplit('/');
    match (parts.next(), parts.next()) {
        (Some(last), Some(container)) if last.contains('#') => (type_name, format!("{container}/{last}")),
        _ => (type_name, id),
    }
}
