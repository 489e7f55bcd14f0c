//! What a query asks of a resource: a tree that says nothing of SQL. The compiler in `compile.rs` writes it.

use crate::fhir::datetime::Range;
use crate::fhir::systems;
use crate::fhir::terminology::expand::Asked;
use crate::fhir::terminology::expand::Codes;
use crate::search::term::Token;
use crate::search::term::term;
use crate::search::term::type_term;
use crate::search::units::Measure;
use chrono::DateTime;
use chrono::Utc;
use octofhir_ucum::Number;

/// A comparison prefix. <https://hl7.org/fhir/R4/search.html#prefix>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// Has at least one of these terms.
    Terms(Vec<i64>),
    /// Has at least one of the terms that this stands for. They are looked up before a search is compiled: by then it has become `Terms`.
    Lookup(Lookup),
    /// Is one of these rows.
    Rows(Vec<i64>),
    /// Is one of the resources with these hashes.
    Ids(Vec<i64>),
    /// The type's primary date.
    PrimaryDate(i16, Prefix, Range),
    /// Another date parameter, by its keys.
    Date(Vec<i32>, Prefix, Range),
    LastUpdated(i16, Prefix, DateTime<Utc>, DateTime<Utc>),
    Quantity(Box<QuantityCondition>),
    /// Has a position within a distance.
    Near(Near),
    /// Two numbers of the same element, by its keys.
    NumberPair(Vec<i32>, Box<(Comparison, Comparison)>),
    /// A normalised string that begins with this.
    StringStart(Vec<i32>, String),
    /// Its narrative (or, if `true`, its whole content) has words, in the syntax of PostgreSQL's `websearch_to_tsquery`.
    FullText(bool, String),
    /// A normalised string that is this.
    StringEquals(Vec<i32>, String),
    /// A normalised string that ends with this.
    StringEnd(Vec<i32>, String),
    /// A normalised string that contains this.
    StringPart(Vec<i32>, String),
    /// None of these bits of `present` is set.
    Missing(i16, i64),
    /// The same of a type whose masks that lack them are known (`interaction::search::probe`): the planner knows how dense those are.
    Masked(i16, i64, Vec<i64>),
    /// References, under one of these salts, a resource for which the inner condition holds.
    Chain(Vec<i64>, Box<Condition>),
    /// The same, to be asked of each row that is there.
    LeadsTo(Vec<i64>, Box<Condition>),
    /// Is referenced, under one of these salts, by a resource for which the inner condition holds.
    Has(Vec<i64>, Box<Condition>),
    /// The same, to be asked of each row that is there.
    IsHeldBy(Vec<i64>, Box<Condition>),
    /// Contains a resource for which the inner condition holds.
    Contains(Box<Condition>),
}

/// What stands for terms that the database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The normalised texts of these paths that begin with this.
    Texts {
        keys: Vec<i32>,
        start: String,
    },
    /// The URIs of these paths that are this one or begin with it and a `/`.
    Uris {
        keys: Vec<i32>,
        below: String,
    },
    /// The canonical URLs of these paths whose version is this one or begins with it and a `.`.
    Versions {
        keys: Vec<i32>,
        canonical: String,
    },
    Codes(CodesOf),
    Hierarchy(Hierarchy),
}

/// References to a resource and to all that lie above or below it: what a resource is part of, and what is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Of the parameter that has the references.
    pub salts: Vec<i64>,
    /// The hash of the resource, and the number of its type.
    pub root: i64,
    pub type_number: i16,
    /// Salts of the references by which a resource of the type names the one above it.
    pub links: Vec<i64>,
    pub is_above: bool,
}

/// Codes that a terminology tells, as a parameter has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodesOf {
    pub asked: Asked,
    pub salts: Vec<i64>,
    /// The parameter reads codings.
    pub has_concepts: bool,
    /// The systems that its plain codes imply.
    pub plain_systems: Vec<String>,
}

impl CodesOf {
    /// The terms of codings, and those of plain codes.
    pub fn terms(&self, codes: &Codes) -> (Vec<i64>, Vec<i64>) {
        let (mut of_codings, mut plain) = (Vec::new(), Vec::new());
        for (system, codes) in codes {
            let is_implied = self.plain_systems.iter().any(|implied| systems::canonical(implied) == system);
            for code in codes {
                if self.has_concepts {
                    of_codings.extend(self.salts.iter().map(|salt| term(*salt, Token::SystemAndCode(system, code))));
                }
                if is_implied {
                    plain.extend(self.salts.iter().map(|salt| term(*salt, Token::Plain(code))));
                }
            }
        }
        (of_codings, plain)
    }
}

/// A quantity or number, as it stands in the index.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantityCondition {
    pub keys: Vec<i32>,
    pub unit: Unit,
    pub comparison: Comparison,
    /// The code that must stand in the same element.
    pub joint: Option<Joint>,
}

/// A prefix with the bounds that it compares with: those of the implicit precision (eq, ne), of what is about the same (ap), or twice the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    pub prefix: Prefix,
    pub from: Number,
    pub to: Number,
}

/// A circle on the Earth, in degrees and metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    pub latitude: f64,
    pub longitude: f64,
    pub metres: f64,
}

/// Mean radius of the Earth in metres: the sphere is off by half a percent at most.
pub const EARTH_RADIUS: f64 = 6_371_008.8;

impl Near {
    /// Metres to a place, as the compiled condition measures them.
    pub fn metres_to(&self, (longitude, latitude): (f64, f64)) -> f64 {
        let half = |a: f64, b: f64| ((a - b).to_radians() / 2.0).sin().powi(2);
        let across = self.latitude.to_radians().cos() * latitude.to_radians().cos() * half(longitude, self.longitude);
        2.0 * EARTH_RADIUS * (half(latitude, self.latitude) + across).sqrt().min(1.0).asin()
    }
}

/// Which unit a quantity has.
#[derive(Debug, Clone, PartialEq)]
pub enum Unit {
    Any,
    /// This, as text: hash of system and code.
    SystemAndCode(i64),
    /// The code or the text of the unit is this.
    Code(String),
    /// Any that measures the same; the hash is that of the one asked for.
    Measured(i64, Measure),
}

/// The code of the element that has a value (`search::index::joint`).
#[derive(Debug, Clone, PartialEq)]
pub struct Joint {
    /// The code under each of the places where it may stand; none: any code.
    pub codes: Vec<i64>,
    /// Of this system; 0 for none.
    pub system: Option<i32>,
}

impl Condition {
    /// The full texts that a match has, or one of them at least.
    pub fn texts(&self) -> Vec<(bool, &str)> {
        match self {
            Condition::FullText(is_content, text) => vec![(*is_content, text)],
            Condition::All(conditions) | Condition::Any(conditions) => conditions.iter().flat_map(Condition::texts).collect(),
            _ => Vec::new(),
        }
    }

    /// The places that a match is near to one of; of several conditions on places those of the first.
    pub fn places(&self) -> Vec<Near> {
        match self {
            Condition::Near(near) => vec![*near],
            Condition::Any(conditions) => conditions.iter().flat_map(Condition::places).collect(),
            Condition::All(conditions) => conditions
                .iter()
                .map(Condition::places)
                .find(|places| !places.is_empty())
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// A part of it is full text.
    pub fn looks_into_text(&self) -> bool {
        match self {
            Condition::FullText(..) => true,
            Condition::All(conditions) | Condition::Any(conditions) => conditions.iter().any(Condition::looks_into_text),
            Condition::Not(inner)
            | Condition::Chain(_, inner)
            | Condition::LeadsTo(_, inner)
            | Condition::Has(_, inner)
            | Condition::IsHeldBy(_, inner) => inner.looks_into_text(),
            _ => false,
        }
    }

    /// The links of chains that are asked of the resource itself, not of what these lead to.
    pub fn chains(&self) -> Vec<&Condition> {
        match self {
            Condition::All(conditions) | Condition::Any(conditions) => conditions.iter().flat_map(Condition::chains).collect(),
            Condition::Not(inner) => inner.chains(),
            Condition::Chain(..) | Condition::LeadsTo(..) => vec![self],
            _ => Vec::new(),
        }
    }

    /// The terms of the types of all resources that it asks for beside the one at hand; `None` if a link does not tell them.
    pub fn linked_types(&self) -> Option<Vec<i64>> {
        match self {
            Condition::All(conditions) | Condition::Any(conditions) => conditions
                .iter()
                .map(Condition::linked_types)
                .collect::<Option<Vec<_>>>()
                .map(|types| types.concat()),
            Condition::Not(inner) | Condition::Contains(inner) => inner.linked_types(),
            Condition::Chain(_, inner) | Condition::LeadsTo(_, inner) | Condition::Has(_, inner) | Condition::IsHeldBy(_, inner) => {
                let mut types = inner.linked_types()?;
                types.push(inner.one_term()?);
                Some(types)
            }
            _ => Some(Vec::new()),
        }
    }

    /// The first of the single terms that must hold: of what is linked, its type.
    fn one_term(&self) -> Option<i64> {
        match self {
            Condition::Terms(terms) if terms.len() == 1 => terms.first().copied(),
            Condition::All(conditions) => conditions.iter().find_map(Condition::one_term),
            _ => None,
        }
    }

    /// Asks, beside other things, for a range of values, whose rows only their index can count.
    pub fn has_range(&self) -> bool {
        match self {
            Condition::All(conditions) => conditions.iter().any(Condition::has_range),
            Condition::PrimaryDate(..)
            | Condition::Date(..)
            | Condition::LastUpdated(..)
            | Condition::Quantity(_)
            | Condition::NumberPair(..)
            | Condition::Near(_)
            | Condition::FullText(..)
            | Condition::StringEnd(..)
            | Condition::StringPart(..) => true,
            _ => false,
        }
    }

    /// Holds for nothing.
    pub fn nothing() -> Condition {
        Condition::Any(Vec::new())
    }

    /// All of these, without needless nesting.
    pub fn all(mut conditions: Vec<Condition>) -> Condition {
        match conditions.len() {
            1 => conditions.remove(0),
            _ => Condition::All(conditions),
        }
    }

    /// The same without the term of the type, if it stands there: for a statement that names the type by its column.
    pub fn without_type(&self, number: i16) -> Option<Condition> {
        let Condition::All(conditions) = self else { return None };
        let of_type = Condition::Terms(vec![type_term(number)]);
        let mut is_found = false;
        let mut rest = Vec::new();
        for condition in conditions {
            match condition.without_type(number) {
                Some(inner) => {
                    is_found = true;
                    rest.push(inner);
                }
                None if *condition == of_type => is_found = true,
                None => rest.push(condition.clone()),
            }
        }
        is_found.then_some(Condition::All(rest))
    }

    /// Any of these; terms are joined into one condition, which one index scan answers.
    pub fn any(conditions: Vec<Condition>) -> Condition {
        let mut joined: Vec<Condition> = Vec::new();
        for condition in conditions {
            match (joined.last_mut(), condition) {
                (Some(Condition::Terms(all)), Condition::Terms(more)) => all.extend(more),
                (Some(Condition::Ids(all)), Condition::Ids(more)) => all.extend(more),
                (_, Condition::Any(none)) if none.is_empty() => {}
                (_, condition) => joined.push(condition),
            }
        }
        match joined.len() {
            1 => joined.remove(0),
            _ => Condition::Any(joined),
        }
    }

    pub fn negated(condition: Condition) -> Condition {
        Condition::Not(Box::new(condition))
    }

    /// All that has to be looked up for it.
    pub fn lookups(&self) -> Vec<&Lookup> {
        match self {
            Condition::All(conditions) | Condition::Any(conditions) => conditions.iter().flat_map(Condition::lookups).collect(),
            Condition::Not(inner) | Condition::Chain(_, inner) | Condition::Has(_, inner) => inner.lookups(),
            Condition::Lookup(lookup) => vec![lookup],
            _ => Vec::new(),
        }
    }

    /// The same with what was found in the place of each look-up.
    pub fn found(self, terms: &mut impl FnMut(&Lookup) -> Vec<i64>) -> Condition {
        match self {
            Condition::All(conditions) => Condition::All(conditions.into_iter().map(|c| c.found(terms)).collect()),
            Condition::Any(conditions) => Condition::any(conditions.into_iter().map(|c| c.found(terms)).collect()),
            Condition::Not(inner) => Condition::negated(inner.found(terms)),
            Condition::Chain(salts, inner) => Condition::Chain(salts, Box::new(inner.found(terms))),
            Condition::Has(salts, inner) => Condition::Has(salts, Box::new(inner.found(terms))),
            Condition::Lookup(lookup) => Condition::Terms(terms(&lookup)),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_term_of_the_type_is_taken_out_wherever_all_must_hold() {
        use Condition::*;
        let (of_type, other) = (|| Terms(vec![type_term(7)]), || Ids(vec![1]));
        for (condition, untyped) in [
            (All(vec![of_type()]), Some(All(vec![]))),
            (All(vec![of_type(), other()]), Some(All(vec![other()]))),
            (
                All(vec![All(vec![other(), of_type()]), other()]),
                Some(All(vec![All(vec![other()]), other()])),
            ),
            (All(vec![Any(vec![of_type(), other()])]), None),
            (All(vec![Condition::negated(of_type())]), None),
            (All(vec![Terms(vec![type_term(8)])]), None),
            (of_type(), None),
        ] {
            assert_eq!(condition.without_type(7), untyped, "{condition:?}");
        }
    }
}
