//! A world: resources of one test alone, on the shared server. Names stand for ids (`~anna` is `[world]-anna`), so that a table of
//! cases reads `("Patient?family=ross", &["anna", "bruno"])`.

use crate::support::http::Answer;
use crate::support::none_wrong;
use crate::support::server::Server;
use crate::support::server::shared;
use serde_json::Value;
use serde_json::json;

/// The system of the tag that marks what belongs to a world.
const SYSTEM: &str = "urn:test:world";

pub struct World {
    pub server: &'static Server,
    /// Unique; ids of its resources begin with it.
    pub tag: String,
}

impl World {
    pub fn new() -> World {
        World::on(shared())
    }

    pub fn on(server: &'static Server) -> World {
        World { server, tag: unique() }
    }

    /// The text with each `~` replaced by the world's prefix.
    pub fn name(&self, text: &str) -> String {
        text.replace('~', &format!("{}-", self.tag))
    }

    /// The resource with its id and the world's tag.
    pub fn resource(&self, name: &str, resource: Value) -> Value {
        let mut resource: Value = serde_json::from_str(&self.name(&resource.to_string())).expect("still JSON");
        resource["id"] = json!(format!("{}-{name}", self.tag));
        let tag = json!({"system": SYSTEM, "code": self.tag});
        match resource["meta"]["tag"].as_array_mut() {
            Some(tags) => tags.push(tag),
            None => resource["meta"]["tag"] = json!([tag]),
        }
        resource
    }

    #[track_caller]
    pub fn put(&self, name: &str, resource: Value) -> Answer {
        let resource = self.resource(name, resource);
        let path = format!(
            "/{}/{}",
            resource["resourceType"].as_str().expect("a type"),
            resource["id"].as_str().expect("an id")
        );
        self.server.put(&path, &resource)
    }

    /// Stores all of these in one transaction.
    #[track_caller]
    pub fn load(&self, resources: Vec<(&str, Value)>) {
        let entry = |(name, resource): (&str, Value)| {
            let resource = self.resource(name, resource);
            let url = format!(
                "{}/{}",
                resource["resourceType"].as_str().expect("a type"),
                resource["id"].as_str().expect("an id")
            );
            json!({"resource": resource, "request": {"method": "PUT", "url": url}})
        };
        self.server
            .bundle("transaction", resources.into_iter().map(entry).collect())
            .expect(200);
    }

    /// The search, among the resources of this world.
    pub fn search(&self, search: &str) -> Answer {
        self.server.get(&self.path(search))
    }

    pub fn path(&self, search: &str) -> String {
        let separator = if search.contains('?') { '&' } else { '?' };
        format!("/{}{separator}_tag={SYSTEM}|{}", self.name(search), self.tag)
    }

    /// Names of the matches, in the order of the answer.
    #[track_caller]
    pub fn ordered(&self, search: &str) -> Vec<String> {
        self.names(&self.search(search).expect(200).json(), "match")
    }

    /// Names of the matches, sorted.
    #[track_caller]
    pub fn find(&self, search: &str) -> Vec<String> {
        let mut names = self.ordered(search);
        names.sort();
        names
    }

    /// Names of what a search includes, sorted.
    #[track_caller]
    pub fn included(&self, search: &str) -> Vec<String> {
        let mut names = self.names(&self.search(search).expect(200).json(), "include");
        names.sort();
        names
    }

    /// Names of a searchset's entries of one mode.
    pub fn names(&self, bundle: &Value, mode: &str) -> Vec<String> {
        let entries = bundle["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_mode = entries.iter().filter(|e| e["search"]["mode"] == mode);
        let prefix = format!("{}-", self.tag);
        let name = |entry: &Value| {
            let id = entry["resource"]["id"].as_str().expect("an id");
            id.strip_prefix(&prefix).unwrap_or(id).to_owned()
        };
        of_mode.map(name).collect()
    }

    /// Each search finds exactly these; every case that does not is told, not only the first.
    #[track_caller]
    pub fn check(&self, cases: &[(&str, &[&str])]) {
        let mut wrong = Vec::new();
        for (search, expected) in cases {
            let separator = if search.contains('?') { '&' } else { '?' };
            let answer = self.search(&format!("{search}{separator}_count=1000"));
            let mut names = match answer.status {
                200 => self.names(&answer.json(), "match"),
                _ => vec![format!("{} {}", answer.status, answer.text())],
            };
            names.sort();
            if names != *expected {
                wrong.push(format!("{search}\n    expected {expected:?}\n    got      {names:?}"));
            }
        }
        none_wrong(&wrong, cases.len());
    }
}

/// Letters and digits that no other test has.
pub fn unique() -> String {
    format!("t{:012x}", rand::random::<u64>() >> 16)
}
