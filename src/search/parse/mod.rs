//! From the parameters of a request to a [`Query`]. Nothing is ignored in silence: what is not known is refused, or, under
//! `Prefer: handling=lenient`, reported. Spec: <https://hl7.org/fhir/R4/search.html>.

pub mod custom;
pub mod filter;
pub mod link;
pub mod order;
pub mod result;

use crate::fhir::definitions::model::SearchParameterKind;
use crate::outcome::Outcome;
use crate::search::compile::source::Reads;
use crate::search::condition::Condition;
use crate::search::contained;
use crate::search::contained::Asked;
use crate::search::contained::Matches;
use crate::search::holders::Holders;
use crate::search::named::NamedQuery;
use crate::search::parameters::LEADING_PARAMETER;
use crate::search::parameters::Parameter;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use crate::search::parse::order::check_measured;
use crate::search::parse::order::check_same_order;
use crate::search::term::type_term;
use crate::search::value;
use crate::search::value::bad_modifier;
use crate::search::value::shown;
use crate::search::value::split::split_values;
use chrono::DateTime;
use chrono::Utc;

/// Bounds of a query; each is a setting of `config/default.toml`, section `search`.
#[derive(Debug, Clone)]
pub struct Limits {
    pub parameters_max: usize,
    /// Values of all parameters together.
    pub values_max: usize,
    /// Length of all parameters together.
    pub query_bytes_max: usize,
    pub chain_depth_max: usize,
    pub page_entries_default: usize,
    pub page_entries_max: usize,
    pub includes_max: usize,
    /// Matches that are read to be sorted by what the index has no order of.
    pub sort_rows_max: usize,
    /// Codes of a value set, and texts of codes, that one value of a search may stand for.
    pub expansion_codes_max: usize,
    pub total_default: Total,
    pub named_queries: Vec<NamedQuery>,
    /// What `_asOf` names must lie back so long.
    pub as_of_age_min_ms: u32,
    /// Whether `_explain` is answered.
    pub explain_allowed: bool,
    /// What a reference to this server begins with, without the final slash.
    pub base_url: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    Strict,
    Lenient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    None,
    Estimate,
    Accurate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Summary {
    False,
    True,
    Text,
    Data,
    Count,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SortKey {
    LastUpdated,
    Id,
    PrimaryDate,
    Date(Vec<i32>),
    String(Vec<i32>),
    Quantity(Vec<i32>),
    /// A parameter of which the index has no order: its values are read from the matches.
    Read(String),
    /// How well the text that is asked for fits (`_score`).
    Score,
    /// How far the place is that is asked for (`near`).
    Distance,
    /// The term by which others reference the resource, under this salt.
    Referenced(i64),
}

impl SortKey {
    /// No index has its order: all matches are read.
    pub fn is_read(&self) -> bool {
        matches!(self, SortKey::Read(_) | SortKey::Score | SortKey::Distance)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sort {
    pub key: SortKey,
    pub is_descending: bool,
}

/// `_include` or `_revinclude`.
#[derive(Debug, Clone, PartialEq)]
pub struct Include {
    pub is_reverse: bool,
    pub is_iterate: bool,
    /// One, or all of the source type's for `*`.
    pub links: Vec<Link>,
    pub target_type: Option<String>,
}

/// A reference parameter that an include follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    pub source_type: String,
    /// Types that it references; empty for any.
    pub targets: Vec<String>,
    pub salts: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub type_name: String,
    pub number: i16,
    pub condition: Condition,
    /// The term of the one code asked for, when the type has a leading parameter (`search::index`).
    pub code: Option<i64>,
    /// The first `_has` that asks for holders of one code, if the search has no other order.
    pub holders: Option<Holders>,
    pub sort: Vec<Sort>,
    pub count: usize,
    pub total: Total,
    pub summary: Summary,
    pub elements: Vec<String>,
    pub includes: Vec<Include>,
    pub cursor: Option<String>,
    /// `_asOf`: the first instant that is not looked at.
    pub as_of: Option<DateTime<Utc>>,
    /// `_contained`, `_containedType`
    pub contained: Asked,
    pub matches: Matches,
    /// `_explain`: the statements are asked for, not the matches.
    pub is_explained: bool,
    /// The parameters that took part, for the `self` link.
    pub used: Vec<(String, String)>,
    /// Lenient handling: what was left out, as texts.
    pub ignored: Vec<String>,
}

impl Query {
    /// The rows that its matches are among.
    pub fn reads(&self) -> Reads {
        match self.matches {
            Matches::Contained => Reads::Contained,
            Matches::Resources | Matches::Containers => self.as_of.into(),
        }
    }
}

#[derive(Clone, Copy)]
pub struct Parser<'a> {
    pub registry: &'a Registry,
    pub limits: &'a Limits,
    pub handling: Handling,
    /// Where clients reach this server: what a reference to it begins with, without the final slash.
    pub base: &'a str,
    pub now: DateTime<Utc>,
    /// What is read is a search as of an instant: [`Parser::queries`] tells.
    pub is_past: bool,
    /// What is read asks for contained resources: the same.
    pub contained: Asked,
}

/// The instant that a read or a search looks back to (docs/adr/0010-time-travel.md).
pub const AS_OF: &str = "_asOf";

/// Parameters that shape the answer and may stand in any search.
pub const RESULT_PARAMETERS: &[&str] = &[
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_elements",
    "_include",
    "_revinclude",
    "_cursor",
    "_format",
    "_pretty",
    AS_OF,
    "_explain",
    contained::CONTAINED,
    contained::CONTAINED_TYPE,
    "_include:iterate",
    "_revinclude:iterate",
];

impl<'a> Parser<'a> {
    /// Reads a search on one type. Errors: 400 naming the parameter and what would be right.
    pub fn query(&self, type_name: &str, pairs: &[(String, String)]) -> Result<Query, Outcome> {
        Ok(self.queries(&[self.of(type_name)?], pairs)?.remove(0))
    }

    /// Reads a search on several types: a query for each, in order. A parameter must be known for all of them.
    /// <https://hl7.org/fhir/R4/http.html#search>
    pub fn queries(&self, types: &[&TypeParameters], pairs: &[(String, String)]) -> Result<Vec<Query>, Outcome> {
        self.check_measure(pairs)?;
        types.iter().try_for_each(|of| custom::check_repeated(of, pairs))?;
        let parser = Parser {
            is_past: pairs.iter().any(|(name, _)| name == AS_OF),
            contained: Asked::of(pairs)?,
            ..*self
        };
        let mut queries: Vec<Query> = types.iter().map(|of| parser.empty(of)).collect();
        let mut conditions: Vec<Vec<Condition>> = types.iter().map(|of| vec![Condition::Terms(vec![type_term(of.number)])]).collect();
        for (name, text) in pairs {
            let read = match RESULT_PARAMETERS.contains(&name.as_str()) {
                true => parser.result_parameters(types, &mut queries, name, text),
                false => parser.search_parameters(types, &mut queries, &mut conditions, name, text),
            };
            match read {
                Ok(()) if name == "_cursor" || name == "_explain" => {}
                Ok(()) => queries.iter_mut().for_each(|query| query.used.push((name.clone(), text.clone()))),
                Err(outcome) if self.handling == Handling::Lenient && outcome.issues.iter().all(|i| i.code == "not-supported") => {
                    queries.iter_mut().for_each(|query| query.ignored.push(outcome.summary()));
                }
                Err(outcome) => return Err(outcome),
            }
        }
        for (query, conditions) in queries.iter_mut().zip(conditions) {
            query.condition = Condition::All(without_type_term(conditions));
            if query.as_of.is_some() && query.condition.looks_into_text() {
                return Err(Outcome::not_supported(
                    "_text and _content look into what is there now: they do not go with _asOf",
                ));
            }
            if parser.contained.is_contained() {
                // Indexes of their own have resources alone.
                (query.code, query.holders) = (None, None);
            }
            check_measured(query)?;
            match query.sort.is_empty() {
                true => query.sort = query.holders.iter().map(Holders::sort).collect(),
                false => query.holders = None,
            }
        }
        check_same_order(&queries)?;
        if parser.contained.is_contained() {
            contained::check(&queries)?;
        }
        Ok(queries)
    }

    fn empty(&self, of: &TypeParameters) -> Query {
        Query {
            type_name: of.name.clone(),
            number: of.number,
            condition: Condition::nothing(),
            code: None,
            holders: None,
            sort: Vec::new(),
            count: self.limits.page_entries_default,
            total: self.limits.total_default,
            summary: Summary::False,
            elements: Vec::new(),
            includes: Vec::new(),
            cursor: None,
            as_of: None,
            contained: self.contained,
            matches: Matches::default(),
            is_explained: false,
            used: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// Adds the condition of a search parameter to the query of each type, or to none.
    fn search_parameters(
        &self,
        types: &[&TypeParameters],
        queries: &mut [Query],
        conditions: &mut [Vec<Condition>],
        name: &str,
        text: &str,
    ) -> Result<(), Outcome> {
        let of_types: Vec<Condition> = types.iter().map(|of| self.condition(of, name, text, 0)).collect::<Result<_, _>>()?;
        // What has an index of its own orders its matches so: several types have one order.
        if let ([of], [query], [condition]) = (types, &mut *queries, of_types.as_slice()) {
            if query.holders.is_none() {
                query.holders = Holders::of(self.registry, &of.name, (name, text), condition);
            }
            if name == LEADING_PARAMETER && of.lead != 0 {
                query.code = self.code(of, text);
            }
        }
        for (conditions, condition) in conditions.iter_mut().zip(of_types) {
            conditions.push(condition);
        }
        Ok(())
    }

    /// The type of this name. Errors: 404.
    pub fn of(&self, type_name: &str) -> Result<&'a TypeParameters, Outcome> {
        let unknown = || Outcome::not_found(&format!("Resource type {}", shown(type_name))).with_code("not-supported");
        self.registry.of(type_name).ok_or_else(unknown)
    }

    /// The condition of search parameters alone, for conditional interactions: result parameters are refused.
    pub fn criteria(&self, type_name: &str, pairs: &[(String, String)]) -> Result<Condition, Outcome> {
        let of = self.of(type_name)?;
        self.check_measure(pairs)?;
        if pairs.is_empty() {
            return Err(Outcome::precondition(
                "A conditional interaction needs at least one search parameter",
            ));
        }
        custom::check_repeated(of, pairs)?;
        let mut conditions = vec![Condition::Terms(vec![type_term(of.number)])];
        for (name, text) in pairs {
            conditions.push(self.condition(of, name, text, 0)?);
        }
        Ok(Condition::All(conditions))
    }

    /// One `name=value`, chains and reverse chains included.
    pub fn condition(&self, of: &TypeParameters, name: &str, text: &str, depth: usize) -> Result<Condition, Outcome> {
        self.check_depth(depth)?;
        if text.contains('\0') {
            return Err(Outcome::invalid(format!("The value of {} holds a NUL", shown(name))));
        }
        match name {
            "_list" => return self.list(text),
            "_filter" => return self.filter(of, text, depth),
            _ => {}
        }
        if let Some(rest) = name.strip_prefix("_has:") {
            return self.has(of, rest, text, depth);
        }
        if let Some((link, rest)) = name.split_once('.') {
            return self.chain(of, link, rest, text, depth);
        }
        let (code, modifier) = split_modifier(name);
        let parameter = self.parameter(of, code)?;
        custom::check_modifier(parameter, modifier)?;
        if modifier == Some("missing") {
            return missing(of, parameter, text);
        }
        let values = split_values(text);
        if values.iter().any(String::is_empty) {
            return Err(Outcome::invalid(format!("{} has an empty value", shown(name))));
        }
        custom::check_values(parameter, &values)?;
        let context = value::Context {
            registry: self.registry,
            of,
            base_url: self.base,
            now: self.now,
        };
        // What reverses another modifier is that modifier, reversed as a whole.
        let (is_not, modifier) = match modifier {
            Some(reversed @ ("not" | "not-in")) if parameter.kind != SearchParameterKind::Token => {
                return Err(bad_modifier(parameter, reversed));
            }
            Some("not") => (true, None),
            Some("not-in") => (true, Some("in")),
            modifier => (false, modifier),
        };
        let alternatives: Result<Vec<_>, _> = values.iter().map(|v| value::condition(&context, parameter, modifier, v)).collect();
        let condition = Condition::any(alternatives?);
        Ok(if is_not { Condition::negated(condition) } else { condition })
    }

    /// Errors: 400 for more parameters, or more values, than a search may have.
    fn check_measure(&self, pairs: &[(String, String)]) -> Result<(), Outcome> {
        let (parameters_max, values_max) = (self.limits.parameters_max, self.limits.values_max);
        if pairs.len() > parameters_max {
            let text = format!("A search has at most {parameters_max} parameters (search.parameters_max)");
            return Err(Outcome::invalid(text).with_code("too-costly"));
        }
        let values = pairs.iter().map(|(name, text)| match name.as_str() {
            "_elements" => text.split(',').count(),
            "_filter" => filter::comparisons(text, values_max),
            name if RESULT_PARAMETERS.contains(&name) => 0,
            _ => split_values(text).len(),
        });
        match values.sum::<usize>() > values_max {
            true => {
                let text = format!("A search has at most {values_max} values, all parameters together (search.values_max)");
                Err(Outcome::invalid(text).with_code("too-costly"))
            }
            false => Ok(()),
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), Outcome> {
        match depth > self.limits.chain_depth_max {
            true => Err(Outcome::invalid(format!(
                "Chains have at most {} links (search.chain_depth_max)",
                self.limits.chain_depth_max
            ))
            .with_code("too-costly")),
            false => Ok(()),
        }
    }

    /// The term of a value's code, without its system; `None` if it has none, or several.
    fn code(&self, of: &TypeParameters, text: &str) -> Option<i64> {
        match split_values(text).as_slice() {
            [value] => value::token::code_term(of.get(LEADING_PARAMETER)?, value),
            _ => None,
        }
    }

    fn parameter<'t>(&self, of: &'t TypeParameters, code: &str) -> Result<&'t Parameter, Outcome> {
        let Some(parameter) = of.get(code) else {
            let text = format!(
                "{} has no search parameter {}; GET metadata lists those it has",
                of.name,
                shown(code)
            );
            return Err(Outcome::not_supported(text));
        };
        custom::check_complete(parameter, self.is_past)?;
        custom::check_contained(parameter, self.contained)?;
        match parameter.unsupported {
            Some(why) => Err(Outcome::not_supported(format!("{code}: {why}"))),
            None => Ok(parameter),
        }
    }
}

fn missing(of: &TypeParameters, parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    if parameter.kind == SearchParameterKind::Composite {
        return Err(Outcome::invalid(format!("{} is a composite: it has no modifiers", parameter.code)));
    }
    if parameter.code == "_id" || parameter.code == "_lastUpdated" {
        return Err(Outcome::invalid(format!("{} is never missing", parameter.code)));
    }
    // <https://hl7.org/fhir/R4/search.html#modifiers>: for all parameters except combinations.
    if parameter.kind == SearchParameterKind::Composite || matches!(parameter.code.as_str(), "_text" | "_content") {
        return Err(bad_modifier(parameter, "missing"));
    }
    let condition = match &parameter.custom {
        Some(reading) => Condition::negated(Condition::Terms(vec![reading.presence])),
        None => Condition::Missing(of.number, 1i64 << parameter.bit),
    };
    match text {
        "true" => Ok(condition),
        "false" => Ok(Condition::negated(condition)),
        _ => Err(Outcome::invalid(format!("{}:missing is true or false", parameter.code))),
    }
}

/// Every other condition on terms already implies the type: its term is only needed alone.
fn without_type_term(mut conditions: Vec<Condition>) -> Vec<Condition> {
    if conditions[1..]
        .iter()
        .any(|c| matches!(c, Condition::Terms(_) | Condition::Lookup(_) | Condition::Chain(..)))
    {
        conditions.remove(0);
    }
    conditions
}

/// `name:exact` is `name` with modifier `exact`.
fn split_modifier(name: &str) -> (&str, Option<&str>) {
    match name.split_once(':') {
        Some((code, modifier)) => (code, Some(modifier)),
        None => (name, None),
    }
}
