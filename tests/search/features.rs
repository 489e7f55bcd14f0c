//! What searches are made of, feature by feature: which the server has, and how many of each a run must have.
//!
//! One that is off is asked for all the same, now and then: the server must say that it does not have it, with 400 and `not-supported`. When it
//! lands, its line here is all that changes.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    On,
    Off,
}

use State::Off;
use State::On;

/// Name, whether the server has it, and the least number of searches with it among 20,000.
pub const FEATURES: &[(&str, State, usize)] = &[
    ("_id", On, 150),
    ("_lastUpdated", On, 150),
    ("token", On, 1000),
    ("token system|code", On, 300),
    ("token |code", On, 80),
    ("token system|", On, 80),
    ("token:not", On, 300),
    (":missing", On, 300),
    ("string", On, 300),
    ("string:contains", On, 100),
    ("string:exact", On, 100),
    ("uri", On, 60),
    ("uri:above", On, 30),
    ("uri:below", On, 30),
    ("reference id", On, 150),
    ("reference type/id", On, 300),
    ("reference url", On, 60),
    ("reference:[type]", On, 60),
    ("reference:above below", On, 60),
    ("reference:identifier", On, 60),
    ("reference to a canonical", On, 10),
    ("date eq", On, 50),
    ("date ne", On, 50),
    ("date gt", On, 50),
    ("date lt", On, 50),
    ("date ge", On, 50),
    ("date le", On, 50),
    ("date sa", On, 50),
    ("date eb", On, 50),
    ("date ap", On, 50),
    ("number eq", On, 10),
    ("number ne", On, 10),
    ("number gt", On, 10),
    ("number lt", On, 10),
    ("number ge", On, 10),
    ("number le", On, 10),
    ("number sa", On, 10),
    ("number eb", On, 10),
    ("number ap", On, 10),
    ("quantity eq", On, 30),
    ("quantity ne", On, 30),
    ("quantity gt", On, 30),
    ("quantity lt", On, 30),
    ("quantity ge", On, 30),
    ("quantity le", On, 30),
    ("quantity sa", On, 30),
    ("quantity eb", On, 30),
    ("quantity ap", On, 30),
    ("quantity system|code", On, 60),
    ("quantity ||unit", On, 60),
    ("composite", On, 30),
    ("or", On, 1000),
    ("and", On, 1000),
    ("escaped", On, 100),
    ("chain", On, 500),
    ("chain of two", On, 100),
    ("chain of three", On, 10),
    ("_has", On, 300),
    ("_has in _has", On, 20),
    ("_has in a chain", On, 10),
    ("chain in _has", On, 20),
    ("compartment", On, 300),
    ("compartment of all types", On, 150),
    ("system", On, 200),
    ("_type", On, 300),
    ("parameter of several types", On, 100),
    ("near", On, 30),
    ("_sort", On, 500),
    ("_sort by several", On, 150),
    ("pages", On, 300),
    ("_total", On, 500),
    ("_summary=count", On, 200),
    ("_include", On, 200),
    ("_include:iterate", On, 50),
    ("_include of *", On, 30),
    ("_revinclude", On, 150),
    ("_revinclude:iterate", On, 50),
    // References to the server by its own address, which searches find as those without.
    ("reference of ours by url", On, 0),
    ("unit as people write it", On, 0),
    ("comparator that excludes", On, 0),
    ("range without a value", On, 0),
    ("identifier by system or without", On, 0),
    ("identifier by a parameter of one type", On, 0),
    ("component by its own expression", On, 0),
    ("UCUM", On, 0),
    ("token:in", On, 400),
    ("token:below", On, 250),
    ("token:text", On, 100),
    ("token:of-type", On, 30),
    // Without case.
    ("token of a string", On, 20),
    ("string:text", Off, 10),
    ("composite of a part", On, 100),
    ("_text", On, 80),
    ("_content", On, 80),
    ("_asOf", On, 500),
    ("_list", On, 100),
    ("_filter", On, 500),
    ("_filter and", On, 150),
    ("_filter or", On, 150),
    ("_filter not", On, 100),
    ("_filter chain", On, 50),
    ("_filter chain of two", On, 5),
    ("_filter [filter]", On, 15),
    ("_filter eq", On, 150),
    ("_filter ne", On, 80),
    ("_filter gt lt ge le ap sa eb", On, 80),
    ("_filter co sw ew", On, 30),
    ("_filter in ni", On, 20),
    ("_filter ss sb", On, 20),
    ("_filter po", On, 10),
    ("_filter pr", On, 50),
    ("_contained=true", On, 250),
    ("_contained=both", On, 120),
    ("_containedType=contained", On, 150),
    ("chain to what is contained", On, 150),
    ("_sort by a token", On, 100),
    ("_sort of many by codes", On, 30),
    ("_sort by a reference", On, 50),
    ("_sort by a uri", On, 10),
    ("_sort by near", On, 15),
];

pub fn state_of(name: &str) -> State {
    let found = FEATURES.iter().find(|(feature, _, _)| *feature == name);
    found.unwrap_or_else(|| panic!("no feature {name}")).1
}

pub fn is_on(name: &str) -> bool {
    state_of(name) == On
}

/// How often each feature was asked for, and how often something was found.
#[derive(Debug, Default, Clone)]
pub struct Counts(pub BTreeMap<&'static str, (usize, usize)>);

impl Counts {
    pub fn add(&mut self, features: &[&'static str], is_found: bool) {
        for feature in features {
            let (asked, found) = self.0.entry(feature).or_default();
            *asked += 1;
            *found += usize::from(is_found);
        }
    }

    pub fn merge(&mut self, other: &Counts) {
        for (feature, (asked, found)) in &other.0 {
            let into = self.0.entry(feature).or_default();
            into.0 += asked;
            into.1 += found;
        }
    }

    /// Features that a run of so many searches asked for too seldom, or never with a result.
    pub fn too_few(&self, searches: usize) -> Vec<String> {
        let mut lacking = Vec::new();
        for (name, state, least) in FEATURES {
            let (asked, found) = self.0.get(name).copied().unwrap_or_default();
            let least = least * searches / 20_000;
            if asked < least {
                lacking.push(format!("{name}: {asked} searches, not {least}"));
            } else if *state == On && least >= 10 && found == 0 {
                lacking.push(format!("{name}: nothing was ever found"));
            }
        }
        lacking
    }
}
