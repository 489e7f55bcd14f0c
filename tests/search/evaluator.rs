//! The second evaluator: a search, read and answered over the JSON of all resources that can be seen, one after the other.
//! <https://hl7.org/fhir/R4/search.html>
//!
//! It shares with the server the definitions alone. It is slow, and written to be read beside the specification.

use crate::fhirpath::Item;
use crate::fhirpath::evaluate;
use crate::fhirpath::root;
use crate::filter;
use crate::near::distance;
use crate::near::near_holds;
use crate::terminology::Codes;
use crate::terminology::is_code_of;
use crate::values::Typed;
use crate::values::canonical;
use crate::values::fold;
use crate::values::is_date;
use crate::values::is_number;
use crate::values::is_quantity;
use crate::values::list;
use crate::values::local;
use crate::values::of_type_holds;
use crate::values::reference_holds;
use crate::values::split;
use crate::values::string_holds;
use crate::values::token_holds;
use crate::values::token_text_holds;
use crate::values::typed;
use crate::values::unescape;
use crate::values::uri_holds;
use crate::words::text_holds;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::SearchParameter;
use eds::fhir::definitions::model::SearchParameterKind as Kind;
use rust_decimal::Decimal;
use serde_json::Value;
use serde_json::json;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Type and id.
pub type Key = (String, String);

/// What a contained resource is called by: `MedicationRequest/1#m`, since its id is its own within the container alone; and its container. No element
/// has such a name.
const CALLED: &str = "#called";
const CONTAINER: &str = "#container";

pub fn key_of(resource: &Value) -> Key {
    let text = |member: &str| resource[member].as_str().expect(member).to_owned();
    match resource.get(CALLED) {
        Some(_) => (text("resourceType"), text(CALLED)),
        None => (text("resourceType"), text("id")),
    }
}

/// What contains it.
pub fn container_of(resource: &Value) -> Option<&Value> {
    resource.get(CONTAINER)
}

/// What a resource contains, each with its container: it is there as long, and as new, as that is.
fn contained_of(container: &Value) -> impl Iterator<Item = Value> {
    let (type_name, id) = key_of(container);
    list(container, "contained").map(move |contained| {
        let mut known = contained.clone();
        known["meta"]["lastUpdated"] = container["meta"]["lastUpdated"].clone();
        known[CALLED] = Value::from(format!("{type_name}/{id}#{}", contained["id"].as_str().expect("an id")));
        known[CONTAINER] = container.clone();
        known
    })
}

/// The resources that can be seen.
#[derive(Debug, Default, Clone)]
pub struct Store {
    resources: BTreeMap<Key, Value>,
    /// What they contain (search.html#contained).
    contained: BTreeMap<Key, Value>,
    /// The same as chains find it: its id names nothing outside of the container.
    linked: BTreeMap<Key, Value>,
    /// What an absolute reference to the server begins with.
    pub base: String,
    /// What each refers to, by the codes of its parameters: the same for all searches until something is written.
    references: OnceLock<BTreeMap<Key, BTreeMap<&'static str, BTreeSet<String>>>>,
}

/// A search: `Observation`, `Patient/1/Observation`, `Patient/1/*` or, on the whole system, nothing; and the parameters in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub path: String,
    pub pairs: Vec<(String, String)>,
}

impl Query {
    /// `Patient?name=a&_sort=b`, each value as it is, not percent-encoded.
    pub fn read(text: &str) -> Query {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        };
        Query {
            path: path.to_owned(),
            pairs: query.split('&').filter(|p| !p.is_empty()).map(pair).collect(),
        }
    }

    pub fn text(&self) -> String {
        let pairs: Vec<String> = self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}?{}", self.path, pairs.join("&"))
    }

    /// The type that is searched; nothing or `*` if there may be several.
    pub fn type_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    pub fn values<'q>(&'q self, wanted: &'q str) -> impl Iterator<Item = &'q str> {
        self.pairs
            .iter()
            .filter(move |(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    }
}

/// Parameters that shape the answer, or say where to look, and ask nothing of a resource.
const RESULT_PARAMETERS: [&str; 14] = [
    "_asOf",
    "_contained",
    "_containedType",
    "_type",
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_elements",
    "_include",
    "_revinclude",
    "_include:iterate",
    "_revinclude:iterate",
    "_format",
];

/// "Servers … may limit the number of iterations" (search.html#include): the server says with the page that it did.
const LINKS_OF_INCLUDES_MAX: usize = 8;

/// Types whose resources are part of others of the type. <https://hl7.org/fhir/R4/references.html#circular>
pub const HIERARCHIES: [&str; 9] = [
    "CarePlan",
    "Communication",
    "Encounter",
    "Location",
    "MedicationStatement",
    "Organization",
    "Procedure",
    "ResearchStudy",
    "Task",
];

/// A value to sort by. All of one column are of one kind.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum SortValue {
    Text(String),
    Date(i64),
    /// And whether the value begins beyond it.
    Number(Option<Decimal>, bool),
    Kilometres(f64),
}

impl Store {
    pub fn new(base: String) -> Store {
        Store { base, ..Store::default() }
    }

    pub fn insert(&mut self, resource: Value) {
        self.remove(&key_of(&resource));
        for contained in contained_of(&resource) {
            let mut linked = contained.clone();
            linked["id"] = linked[CALLED].clone();
            self.linked.insert(key_of(&contained), linked);
            self.contained.insert(key_of(&contained), contained);
        }
        self.resources.insert(key_of(&resource), resource);
    }

    pub fn remove(&mut self, key: &Key) {
        let is_other = |contained: &Value| container_of(contained).map(key_of).as_ref() != Some(key);
        self.contained.retain(|_, contained| is_other(contained));
        self.linked.retain(|_, contained| is_other(contained));
        self.resources.remove(key);
        self.references.take();
    }

    /// As a search `_asOf` sees it: what is contained is searched as it is now (docs/adr/0016-contained.md).
    pub fn without_contained(&self) -> Store {
        Store {
            contained: BTreeMap::new(),
            linked: BTreeMap::new(),
            ..self.clone()
        }
    }

    pub fn contained(&self) -> &BTreeMap<Key, Value> {
        &self.contained
    }

    /// One that searches answer.
    pub fn found(&self, key: &Key) -> Option<&Value> {
        self.resources.get(key).or_else(|| self.contained.get(key))
    }

    pub fn resources(&self) -> &BTreeMap<Key, Value> {
        &self.resources
    }

    pub fn get(&self, type_name: &str, id: &str) -> Option<&Value> {
        self.resources.get(&(type_name.to_owned(), id.to_owned()))
    }

    pub fn of_type<'s>(&'s self, type_name: &'s str) -> impl Iterator<Item = &'s Value> {
        self.resources
            .range((type_name.to_owned(), String::new())..)
            .take_while(move |((name, _), _)| name == type_name)
            .map(|(_, resource)| resource)
    }

    /// All that satisfy the search.
    pub fn matches(&self, query: &Query) -> BTreeSet<Key> {
        let conditions: Vec<_> = query
            .pairs
            .iter()
            .filter(|(name, _)| !RESULT_PARAMETERS.contains(&name.as_str()))
            .collect();
        let types: Vec<&str> = query.values("_type").flat_map(|types| types.split(',')).collect();
        let is_of_type = |resource: &&Value| match query.type_name() {
            "" | "*" => types.is_empty() || types.iter().any(|name| resource["resourceType"] == *name),
            name => resource["resourceType"] == name,
        };
        let is_match = |resource: &&Value| is_of_type(resource) && conditions.iter().all(|(name, text)| self.holds(resource, name, text));
        let last = |name| query.values(name).last().unwrap_or_default();
        let mut found = BTreeSet::new();
        if last("_contained") != "true" {
            let here = self.resources.values().filter(|resource| self.is_in_compartment(query, resource));
            found.extend(here.filter(is_match).map(key_of));
        }
        if matches!(last("_contained"), "true" | "both") {
            // "container: Return the container resources; contained: Return only the contained resource"
            let answered = |contained| match last("_containedType") {
                "contained" => key_of(contained),
                _ => key_of(container_of(contained).expect("a container")),
            };
            found.extend(self.contained.values().filter(is_match).map(answered));
        }
        found
    }

    /// `Patient/1/Observation`: the patient itself (`{def}` in the definition), and what one of the compartment's parameters links to it.
    /// <https://hl7.org/fhir/R4/compartmentdefinition.html>
    fn is_in_compartment(&self, query: &Query, resource: &Value) -> bool {
        let parts: Vec<&str> = query.path.split('/').collect();
        let [code, id, _] = parts.as_slice() else { return true };
        let type_name = resource["resourceType"].as_str().expect("a type");
        let compartment = definitions().compartment(code).expect("a compartment");
        let links = compartment.members.iter().find(|(name, _)| name == type_name);
        let owner = format!("{code}/{id}");
        let is_linked = |link: &String| self.references(resource, parameter(type_name, link)).contains(&owner);
        key_of(resource) == ((*code).to_owned(), (*id).to_owned())
            || links.is_some_and(|(_, links)| links.iter().filter(|link| *link != "{def}").any(is_linked))
    }

    /// One `name=value` of a resource.
    pub fn holds(&self, resource: &Value, name: &str, text: &str) -> bool {
        if let Some(rest) = name.strip_prefix("_has:") {
            return self.has(resource, rest, text);
        }
        if let Some((link, rest)) = name.split_once('.') {
            return self.chain(resource, link, rest, text);
        }
        match name {
            "_list" => return split(text, ',').iter().any(|id| self.is_listed(resource, id)),
            "_filter" => return self.satisfies(resource, &filter::read(text)),
            // Texts are those of resources as a whole.
            "_text" | "_content" if container_of(resource).is_some() => return false,
            "_text" | "_content" => return split(text, ',').iter().any(|one| text_holds(resource, name, &unescape(one))),
            "near" => return split(text, ',').iter().any(|near| near_holds(resource, near)),
            _ => {}
        }
        let type_name = resource["resourceType"].as_str().expect("a type");
        let (code, modifier) = name.split_once(':').unwrap_or((name, ""));
        let parameter = parameter(type_name, code);
        match modifier {
            "missing" => self.values(resource, parameter).is_empty() == (text == "true"),
            "in" | "not-in" | "above" | "below" if parameter.kind == Kind::Token => {
                let codes: Codes = split(text, ',').iter().flat_map(|one| self.codes(modifier, one)).collect();
                let is_in = self.values(resource, parameter).iter().any(|value| is_code_of(value, &codes));
                is_in != (modifier == "not-in")
            }
            "above" | "below" if parameter.kind == Kind::Reference => {
                let asked = split(text, ',');
                let wanted = asked.iter().flat_map(|one| self.parts(parameter, modifier, &unescape(one)));
                !self.references(resource, parameter).is_disjoint(&wanted.collect())
            }
            // The negation is of the set of values, not of each. (search.html#token, Composition?section:not=48765-2)
            "not" => !split(text, ',').iter().any(|one| self.any(resource, parameter, "", one)),
            _ => split(text, ',').iter().any(|one| self.any(resource, parameter, modifier, one)),
        }
    }

    /// "All resources that are referenced by a List in List.entry.item" (search.html#list).
    pub fn is_listed(&self, resource: &Value, id: &str) -> bool {
        let (type_name, own_id) = key_of(resource);
        let list = self.get("List", id.trim_start_matches("List/"));
        list.is_some_and(|list| {
            self.references(list, parameter("List", "item"))
                .contains(&format!("{type_name}/{own_id}"))
        })
    }

    /// The resource, and all that it is part of (`above`) or that are part of it (`below`): "also any procedures that occurred in locations that are
    /// part of location with id 42" (search.html#recursive).
    fn parts(&self, parameter: &SearchParameter, modifier: &str, text: &str) -> BTreeSet<String> {
        let asked = local(text, &self.base);
        let of_types = parameter.targets.iter().filter(|name| HIERARCHIES.contains(&name.as_str()));
        let mut found: BTreeSet<String> = match asked.contains('/') {
            true => [asked.to_owned()].into(),
            false => of_types.map(|name| format!("{name}/{asked}")).collect(),
        };
        let links: Vec<(String, String)> = self
            .resources
            .values()
            .flat_map(|part| {
                let (type_name, id) = key_of(part);
                let wholes = list(part, "partOf").filter_map(|whole| whole["reference"].as_str());
                wholes.map(move |whole| (format!("{type_name}/{id}"), local(whole, &self.base).to_owned()))
            })
            // A Location is part of a Location: what is part of something else is in no hierarchy.
            .filter(|(part, whole)| part.split('/').next() == whole.split('/').next())
            .collect();
        loop {
            let further = links.iter().filter_map(|(part, whole)| match modifier {
                "above" => found.contains(part).then_some(whole),
                _ => found.contains(whole).then_some(part),
            });
            // What is not here, or hidden, is no part.
            let is_here = |other: &&String| {
                other
                    .split_once('/')
                    .is_some_and(|(type_name, id)| self.get(type_name, id).is_some())
            };
            let further: BTreeSet<String> = further.filter(is_here).filter(|other| !found.contains(*other)).cloned().collect();
            if further.is_empty() {
                return found;
            }
            found.extend(further);
        }
    }

    pub fn values<'a>(&self, resource: &'a Value, parameter: &SearchParameter) -> Vec<Typed<'a>> {
        let items = evaluate(&parameter.expression, root(resource), resource);
        match parameter.kind {
            Kind::Composite => items.iter().map(|_| Typed::Nothing).collect(),
            kind => items.into_iter().flat_map(|item| typed(kind, item)).collect(),
        }
    }

    pub fn any(&self, resource: &Value, parameter: &SearchParameter, modifier: &str, text: &str) -> bool {
        if parameter.kind == Kind::Composite {
            return self.composite(resource, parameter, text);
        }
        let values = self.values(resource, parameter);
        let container = container_of(resource).map(|container| {
            let (type_name, id) = key_of(container);
            json!({"reference": format!("{type_name}/{id}")})
        });
        values.iter().any(|value| match (value, &container) {
            // "#" is the container, whatever it is called by.
            (Typed::Reference(reference), Some(container)) if reference["reference"] == "#" && modifier != "identifier" => {
                self.is(parameter, &Typed::Reference(container), modifier, text)
            }
            _ => self.is(parameter, value, modifier, text),
        })
    }

    fn is(&self, parameter: &SearchParameter, value: &Typed<'_>, modifier: &str, text: &str) -> bool {
        match parameter.kind {
            Kind::Token => match modifier {
                "text" => token_text_holds(value, text),
                "of-type" => of_type_holds(value, text),
                _ => token_holds(value, text),
            },
            Kind::String => string_holds(value, modifier, text),
            Kind::Uri => uri_holds(value, modifier, text),
            Kind::Reference => reference_holds(value, modifier, text, &self.base, &parameter.targets),
            Kind::Date => is_date(value, text),
            Kind::Number => is_number(value, text),
            Kind::Quantity => is_quantity(value, text),
            Kind::Composite | Kind::Special => unreachable!("{} has values of its own", parameter.code),
        }
    }

    /// All components, within one element: "not an intersection of separate matches on key and value" (search.html#composite).
    fn composite(&self, resource: &Value, parameter: &SearchParameter, text: &str) -> bool {
        let parts = split(text, '$');
        assert_eq!(parts.len(), parameter.components.len(), "{}={text}", parameter.code);
        // R4 gives the expressions of DocumentReference.relationship, `code` and `target`, in the order opposite to their definitions'.
        let mut components = parameter.components.clone();
        if let ("relationship", [(_, first), (_, second)]) = (parameter.code.as_str(), components.as_mut_slice()) {
            std::mem::swap(first, second);
        }
        let component = |item: Item<'_>, (url, expression): &(String, String), part: &str| {
            let part_of = definitions()
                .model()
                .search_parameters
                .iter()
                .find(|p| p.url == *url)
                .expect("a parameter");
            let values = evaluate(expression, item, resource)
                .into_iter()
                .flat_map(|i| typed(part_of.kind, i));
            values.into_iter().any(|value| self.is(part_of, &value, "", part))
        };
        let items = evaluate(&parameter.expression, root(resource), resource);
        items
            .into_iter()
            .any(|item| components.iter().zip(&parts).all(|(of, part)| component(item, of, part)))
    }

    /// `Type/id` of everything that a reference parameter refers to on this server.
    fn references(&self, resource: &Value, parameter: &SearchParameter) -> &BTreeSet<String> {
        &self.references.get_or_init(|| self.all_references())[&key_of(resource)][parameter.code.as_str()]
    }

    fn all_references(&self) -> BTreeMap<Key, BTreeMap<&'static str, BTreeSet<String>>> {
        let of = |resource: &Value, parameter: &SearchParameter| {
            let values = self.values(resource, parameter);
            let literal = |value: &Typed<'_>| match value {
                Typed::Reference(reference) => self.named(resource, reference["reference"].as_str()?),
                Typed::Canonical(url) if url.starts_with('#') => self.named(resource, url),
                _ => None,
            };
            values.iter().filter_map(literal).collect()
        };
        let of_resource = |(key, resource): (&Key, &Value)| {
            let links = definitions().search_parameters_of(&key.0).filter(|p| p.kind == Kind::Reference);
            (key.clone(), links.map(|link| (link.code.as_str(), of(resource, link))).collect())
        };
        self.resources.iter().chain(&self.contained).map(of_resource).collect()
    }

    /// `Type/id` of what a reference leads to; `#id` leads to what is contained beside it, `#` to the container.
    /// <https://hl7.org/fhir/R4/references.html#contained>
    fn named(&self, resource: &Value, reference: &str) -> Option<String> {
        let name = |of: &Value| {
            let (type_name, id) = key_of(of);
            format!("{type_name}/{id}")
        };
        let Some(id) = reference.strip_prefix('#') else {
            return Some(local(reference, &self.base).to_owned());
        };
        let container = container_of(resource);
        if id.is_empty() {
            return container.map(name);
        }
        contained_of(container.unwrap_or(resource))
            .find(|c| c["id"] == id)
            .as_ref()
            .map(name)
    }

    /// What a reference parameter refers to, of those types that it may refer to.
    pub fn targets<'s>(&'s self, resource: &Value, parameter: &SearchParameter, only: &str) -> Vec<&'s Value> {
        let references = self.references(resource, parameter);
        let found = references.iter().filter_map(|reference| {
            let (type_name, id) = reference.split_once('/')?;
            let is_wanted = if only.is_empty() {
                parameter.targets.iter().any(|t| t == type_name)
            } else {
                type_name == only
            };
            let target = self
                .get(type_name, id)
                .or_else(|| self.linked.get(&(type_name.to_owned(), id.to_owned())));
            target.filter(|_| is_wanted)
        });
        found.collect()
    }

    /// `subject:Patient.name`. A type that the chain cannot go on from has no match (search.html#chaining).
    fn chain(&self, resource: &Value, link: &str, rest: &str, text: &str) -> bool {
        let type_name = resource["resourceType"].as_str().expect("a type");
        let (code, only) = link.split_once(':').unwrap_or((link, ""));
        let targets = self.targets(resource, parameter(type_name, code), only);
        targets
            .into_iter()
            .any(|target| can_ask(target["resourceType"].as_str().expect("a type"), rest) && self.holds(target, rest, text))
    }

    /// `_has:Observation:patient:code`, after `_has:`.
    fn has(&self, resource: &Value, rest: &str, text: &str) -> bool {
        let parts: Vec<&str> = rest.splitn(3, ':').collect();
        let [source, link, inner] = parts.as_slice() else {
            panic!("_has:{rest}")
        };
        let link = parameter(source, link);
        let (type_name, id) = key_of(resource);
        let this = format!("{type_name}/{id}");
        self.of_type(source)
            .any(|other| self.references(other, link).contains(&this) && self.holds(other, inner, text))
    }

    /// What the includes of a search add to these matches of a page, and whether there could be more: `:iterate` goes on for so many links.
    pub fn included(&self, query: &Query, matches: &BTreeSet<Key>) -> (BTreeSet<Key>, bool) {
        let mut included = BTreeSet::new();
        let mut sources = matches.clone();
        for round in 0..LINKS_OF_INCLUDES_MAX {
            let mut found = BTreeSet::new();
            for (name, value) in &query.pairs {
                let is_wanted = round == 0 || name.ends_with(":iterate");
                match name.trim_end_matches(":iterate") {
                    "_include" if is_wanted => found.extend(self.include(value, &sources)),
                    "_revinclude" if is_wanted => found.extend(self.include_reverse(value, &sources)),
                    _ => {}
                }
            }
            found.retain(|key| !matches.contains(key) && !included.contains(key));
            included.extend(found.iter().cloned());
            sources = found;
        }
        let goes_on = query.pairs.iter().any(|(name, _)| name.ends_with(":iterate"));
        (included, goes_on && !sources.is_empty())
    }

    fn include(&self, text: &str, sources: &BTreeSet<Key>) -> BTreeSet<Key> {
        let resources = sources.iter().filter_map(|key| Some((key.0.as_str(), self.found(key)?)));
        let targets = |(type_name, resource)| {
            let links = include_links(text, type_name);
            links.flat_map(move |link| self.targets(resource, link, include_target(text)))
        };
        // What is contained comes with its container.
        let targets = resources.flat_map(targets).filter(|target| container_of(target).is_none());
        targets.map(key_of).collect()
    }

    fn include_reverse(&self, text: &str, sources: &BTreeSet<Key>) -> BTreeSet<Key> {
        let only = include_target(text);
        let wanted: BTreeSet<String> = sources
            .iter()
            .filter(|(type_name, _)| only.is_empty() || *type_name == only)
            .map(|(type_name, id)| format!("{type_name}/{id}"))
            .collect();
        let refers = |((type_name, _), other): &(&Key, &Value)| {
            include_links(text, type_name).any(|link| !self.references(other, link).is_disjoint(&wanted))
        };
        self.resources.iter().filter(refers).map(|(key, _)| key.clone()).collect()
    }

    /// The values by which a search sorts a resource, one for each key.
    pub fn sort_values(&self, query: &Query, key: &Key) -> Vec<Option<SortValue>> {
        let resource = self.found(key).expect("a match");
        let sort = query.values("_sort").last().unwrap_or_default();
        let keys = sort.split(',').filter(|k| !k.is_empty());
        keys.map(|k| match k.trim_start_matches('-') {
            "near" => query
                .values("near")
                .next()
                .and_then(|near| distance(resource, near))
                .map(SortValue::Kilometres),
            code => self.sort_value(resource, code, k.starts_with('-')),
        })
        .collect()
    }

    /// "The sort is based on the item in the set of multiple parameters that comes earliest in the specified sort order" (search.html#sort).
    /// Dates and quantities are sorted by where they begin; tokens by code and then system, references by what they say.
    fn sort_value(&self, resource: &Value, code: &str, is_descending: bool) -> Option<SortValue> {
        let type_name = resource["resourceType"].as_str().expect("a type");
        let parameter = parameter(type_name, code);
        let text = |text: Option<&str>| text.map(|text| SortValue::Text(text.to_owned())).into_iter().collect();
        let values = self.values(resource, parameter).into_iter().flat_map(|value| match value {
            Typed::Strings(strings) => strings.iter().map(|s| SortValue::Text(fold(s))).collect(),
            Typed::Date(span) => vec![SortValue::Date(span.low)],
            Typed::Quantity(interval, _) => vec![SortValue::Number(interval.low, interval.excludes_low)],
            Typed::Plain { code, .. } => vec![SortValue::Text(code)],
            Typed::Coded { system, code: Some(code) } => {
                vec![SortValue::Text(format!("{code}\0{}", canonical(system.unwrap_or_default())))]
            }
            // `#id` says nothing outside of the resource.
            Typed::Canonical(uri) if uri.starts_with('#') => Vec::new(),
            Typed::Uri(uri) | Typed::Canonical(uri) => text(Some(uri)),
            Typed::Reference(reference) => text(reference["reference"].as_str().filter(|of| !of.starts_with('#'))),
            Typed::Resource(resource) => {
                let (type_name, id) = key_of(resource);
                text(Some(&format!("{type_name}/{id}")))
            }
            _ => Vec::new(),
        });
        let order = |a: &SortValue, b: &SortValue| a.partial_cmp(b).expect("values of one kind");
        match is_descending {
            true => values.into_iter().max_by(order),
            false => values.into_iter().min_by(order),
        }
    }

    /// Whether the order of these is one that the search asks for: what has no value for a key comes last, in both directions.
    pub fn is_sorted(&self, query: &Query, keys: &[Key]) -> bool {
        let sort = query.values("_sort").last().unwrap_or_default();
        let descending: Vec<bool> = sort.split(',').filter(|k| !k.is_empty()).map(|k| k.starts_with('-')).collect();
        let rows: Vec<_> = keys.iter().map(|key| self.sort_values(query, key)).collect();
        let order = |one: &[Option<SortValue>], other: &[Option<SortValue>]| {
            let orders = one.iter().zip(other).zip(&descending).map(|((a, b), is_descending)| match (a, b) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(a), Some(b)) if *is_descending => b.partial_cmp(a).expect("values of one kind"),
                (Some(a), Some(b)) => a.partial_cmp(b).expect("values of one kind"),
            });
            orders.fold(Ordering::Equal, Ordering::then)
        };
        rows.windows(2).all(|pair| order(&pair[0], &pair[1]) != Ordering::Greater)
    }
}

/// The parameters of a type that an include follows: `Observation:subject`, all for `Observation:*`, and of all types for `*`.
fn include_links<'t>(text: &'t str, type_name: &'t str) -> impl Iterator<Item = &'static SearchParameter> + 't {
    let (source, code) = text.split_once(':').unwrap_or((type_name, "*"));
    let code = code.split(':').next().unwrap_or_default();
    let all = definitions().search_parameters_of(type_name).filter(move |_| source == type_name);
    all.filter(move |p| p.kind == Kind::Reference && (code == "*" || p.code == code))
}

/// The type of what an include leads to, if it says one: `Observation:subject:Patient`.
fn include_target(text: &str) -> &str {
    text.split(':').nth(2).unwrap_or_default()
}

pub fn parameter(type_name: &str, code: &str) -> &'static SearchParameter {
    definitions()
        .search_parameter(type_name, code)
        .unwrap_or_else(|| panic!("{type_name} has no parameter {code}"))
}

/// Whether a type has the parameter that a chain goes on with.
fn can_ask(type_name: &str, rest: &str) -> bool {
    let code = rest.split(['.', ':']).next().unwrap_or_default();
    matches!(code, "_has" | "_list" | "_filter") || definitions().search_parameter(type_name, code).is_some()
}
