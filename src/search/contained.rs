//! `_contained` and `_containedType`: which rows a search reads, and what stands for them in its answer.
//! Spec: <https://hl7.org/fhir/R4/search.html#contained>. How they are stored: docs/adr/0016-contained.md.

use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parse::Query;
use crate::search::parse::SortKey;

/// `_contained`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Searched {
    /// `false`: what is contained in nothing.
    #[default]
    Resources,
    /// `true`
    Contained,
    Both,
}

/// `_containedType`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answered {
    #[default]
    Containers,
    Contained,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    pub searched: Searched,
    pub answered: Answered,
}

/// What the matches of a query are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matches {
    /// Resources of its type.
    #[default]
    Resources,
    /// Resources of any type, that contain what is asked for.
    Containers,
    /// Contained resources of its type.
    Contained,
}

pub const CONTAINED: &str = "_contained";
pub const CONTAINED_TYPE: &str = "_containedType";

impl Asked {
    /// Reads both parameters of a search. Errors: 400 for another value than they have.
    pub fn of(pairs: &[(String, String)]) -> Result<Asked, Outcome> {
        let mut asked = Asked::default();
        for (name, text) in pairs {
            match (name.as_str(), text.as_str()) {
                (CONTAINED, "false") => asked.searched = Searched::Resources,
                (CONTAINED, "true") => asked.searched = Searched::Contained,
                (CONTAINED, "both") => asked.searched = Searched::Both,
                (CONTAINED, _) => return Err(Outcome::invalid("_contained is false, true or both")),
                (CONTAINED_TYPE, "container") => asked.answered = Answered::Containers,
                (CONTAINED_TYPE, "contained") => asked.answered = Answered::Contained,
                (CONTAINED_TYPE, _) => return Err(Outcome::invalid("_containedType is container or contained")),
                _ => {}
            }
        }
        if !asked.is_contained() && pairs.iter().any(|(name, _)| name == CONTAINED_TYPE) {
            let text = "_containedType goes with _contained=true or _contained=both: no contained resource is asked for";
            return Err(Outcome::invalid(text));
        }
        Ok(asked)
    }

    /// Contained resources are searched.
    pub fn is_contained(self) -> bool {
        self.searched != Searched::Resources
    }

    /// Contained resources may stand in the answer.
    pub fn answers_contained(self) -> bool {
        self.is_contained() && self.answered == Answered::Contained
    }

    /// What contains them may stand in the answer.
    pub fn answers_containers(self) -> bool {
        self.is_contained() && self.answered == Answered::Containers
    }
}

/// Errors: 400 for what does not go with contained resources.
pub fn check(queries: &[Query]) -> Result<(), Outcome> {
    let [query] = queries else {
        return Err(Outcome::not_supported(
            "_contained is supported on one type: search on these types one by one",
        ));
    };
    if query.as_of.is_some() {
        return Err(Outcome::not_supported(
            "_contained looks into what is there now: it does not go with _asOf",
        ));
    }
    if query.condition.looks_into_text() {
        return Err(Outcome::not_supported(
            "_text and _content look into resources as a whole: they do not go with _contained",
        ));
    }
    let sorts = |is_it: fn(&SortKey) -> bool| query.sort.iter().any(|sort| is_it(&sort.key));
    if query.contained.answered == Answered::Containers && sorts(|key| !matches!(key, SortKey::Id | SortKey::LastUpdated)) {
        let text = format!(
            "_sort: the containers that are answered are of any type, so they are sorted by _id or _lastUpdated; \
             with _containedType=contained also by the parameters of {}",
            query.type_name
        );
        return Err(Outcome::not_supported(text));
    }
    Ok(())
}

/// The queries whose matches, together, are those of this one.
pub fn spread(query: Query) -> Vec<Query> {
    if !query.contained.is_contained() {
        return vec![query];
    }
    let contained = match query.contained.answered {
        Answered::Contained => Query {
            matches: Matches::Contained,
            ..query.clone()
        },
        Answered::Containers => {
            let mut conditions = vec![Condition::Contains(Box::new(query.condition.clone()))];
            // What is a match by itself is answered once.
            if query.contained.searched == Searched::Both {
                conditions.push(Condition::negated(query.condition.clone()));
            }
            Query {
                matches: Matches::Containers,
                condition: Condition::All(conditions),
                ..query.clone()
            }
        }
    };
    match query.contained.searched {
        Searched::Both => vec![query, contained],
        _ => vec![contained],
    }
}
