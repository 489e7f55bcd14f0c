//! From the parameters of a request to a [`Query`]. Nothing is ignored in silence: what is not known is refused, or, under
//! `Prefer: handling=lenient`, reported. Spec: <https://hl7.org/fhir/R4/search.html>.

use crate::fhir::definitions::model::SearchParameterKind;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::holders::Holders;
use crate::search::index::type_term;
use crate::search::parameters::LEADING_PARAMETER;
use crate::search::parameters::Parameter;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use crate::search::value;
use crate::search::value::bad_modifier;
use crate::search::value::shown;
use crate::search::value::split_values;

/// Bounds of a query; each is a setting of `config/default.toml`, section `search`.
#[derive(Debug, Clone)]
pub struct Limits {
    pub parameters_max: usize,
    /// Alternatives of one parameter.
    pub values_max: usize,
    pub chain_depth_max: usize,
    pub page_entries_default: usize,
    pub page_entries_max: usize,
    pub includes_max: usize,
    pub total_default: Total,
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
    /// The term by which others reference the resource, under this salt.
    Referenced(i64),
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
    pub source_type: String,
    /// Salts of the parameters to follow: one, or all of the source type's for `*`.
    pub salts: Vec<i64>,
    pub target_type: Option<String>,
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
    /// The parameters that took part, for the `self` link.
    pub used: Vec<(String, String)>,
    /// Lenient handling: what was left out, as texts.
    pub ignored: Vec<String>,
}

pub struct Parser<'a> {
    pub registry: &'a Registry,
    pub limits: &'a Limits,
    pub handling: Handling,
    /// Where clients reach this server: what a reference to it begins with, without the final slash.
    pub base: &'a str,
}

/// Parameters that shape the answer and may stand in any search.
const RESULT_PARAMETERS: &[&str] = &[
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
    "_include:iterate",
    "_revinclude:iterate",
];

impl Parser<'_> {
    /// Reads a search on one type. Errors: 400 naming the parameter and what would be right.
    pub fn query(&self, type_name: &str, pairs: &[(String, String)]) -> Result<Query, Outcome> {
        let of = self
            .registry
            .of(type_name)
            .ok_or_else(|| Outcome::not_found(&format!("Resource type {type_name}")).with_code("not-supported"))?;
        if pairs.len() > self.limits.parameters_max {
            return Err(Outcome::invalid(format!(
                "A search has at most {} parameters (search.parameters_max)",
                self.limits.parameters_max
            ))
            .with_code("too-costly"));
        }
        let mut query = Query {
            type_name: type_name.to_owned(),
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
            used: Vec::new(),
            ignored: Vec::new(),
        };
        let mut conditions = vec![Condition::Terms(vec![type_term(of.number)])];
        for (name, text) in pairs {
            let read = match RESULT_PARAMETERS.contains(&name.as_str()) {
                true => self.result_parameter(of, &mut query, name, text).map(|()| None),
                false => self.condition(of, name, text, 0).map(Some),
            };
            match read {
                Ok(condition) => {
                    if let (None, Some(has)) = (&query.holders, &condition) {
                        query.holders = Holders::of(self.registry, type_name, (name, text), has);
                    }
                    conditions.extend(condition);
                    if name == LEADING_PARAMETER && of.lead != 0 {
                        query.code = self.code(of, text);
                    }
                    if name != "_cursor" {
                        query.used.push((name.clone(), text.clone()));
                    }
                }
                Err(outcome) if self.handling == Handling::Lenient && outcome.issues.iter().all(|i| i.code == "not-supported") => {
                    query.ignored.push(outcome.summary());
                }
                Err(outcome) => return Err(outcome),
            }
        }
        query.condition = Condition::All(without_type_term(conditions));
        match query.sort.is_empty() {
            true => query.sort = query.holders.iter().map(Holders::sort).collect(),
            false => query.holders = None,
        }
        Ok(query)
    }

    /// The condition of search parameters alone, for conditional interactions: result parameters are refused.
    pub fn criteria(&self, type_name: &str, pairs: &[(String, String)]) -> Result<Condition, Outcome> {
        let of = self
            .registry
            .of(type_name)
            .ok_or_else(|| Outcome::not_found(&format!("Resource type {type_name}")))?;
        if pairs.is_empty() {
            return Err(Outcome::precondition(
                "A conditional interaction needs at least one search parameter",
            ));
        }
        let mut conditions = vec![Condition::Terms(vec![type_term(of.number)])];
        for (name, text) in pairs {
            conditions.push(self.condition(of, name, text, 0)?);
        }
        Ok(Condition::All(conditions))
    }

    /// One `name=value`, chains and reverse chains included.
    pub fn condition(&self, of: &TypeParameters, name: &str, text: &str, depth: usize) -> Result<Condition, Outcome> {
        if depth > self.limits.chain_depth_max {
            return Err(Outcome::invalid(format!(
                "Chains have at most {} links (search.chain_depth_max)",
                self.limits.chain_depth_max
            ))
            .with_code("too-costly"));
        }
        if text.contains('\0') {
            return Err(Outcome::invalid(format!("The value of {} holds a NUL", shown(name))));
        }
        if let Some(rest) = name.strip_prefix("_has:") {
            return self.has(of, rest, text, depth);
        }
        if let Some((link, rest)) = name.split_once('.') {
            return self.chain(of, link, rest, text, depth);
        }
        let (code, modifier) = split_modifier(name);
        let parameter = self.parameter(of, code)?;
        if modifier == Some("missing") {
            return missing(parameter, text);
        }
        let values = split_values(text);
        if values.len() > self.limits.values_max {
            let text = format!(
                "{} has at most {} alternatives (search.values_max)",
                shown(name),
                self.limits.values_max
            );
            return Err(Outcome::invalid(text).with_code("too-costly"));
        }
        if values.iter().any(String::is_empty) {
            return Err(Outcome::invalid(format!("{} has an empty value", shown(name))));
        }
        let context = value::Context {
            registry: self.registry,
            of,
            base_url: self.base,
        };
        let is_not = modifier == Some("not");
        let alternatives: Result<Vec<_>, _> = match is_not {
            true if parameter.kind != SearchParameterKind::Token => return Err(bad_modifier(parameter, "not")),
            true => values.iter().map(|v| value::condition(&context, parameter, None, v)).collect(),
            false => values.iter().map(|v| value::condition(&context, parameter, modifier, v)).collect(),
        };
        let condition = Condition::any(alternatives?);
        Ok(if is_not { Condition::negated(condition) } else { condition })
    }

    /// The term of a value's code, without its system; `None` if it has none, or several.
    fn code(&self, of: &TypeParameters, text: &str) -> Option<i64> {
        match split_values(text).as_slice() {
            [value] => value::code_term(of.get(LEADING_PARAMETER)?, value),
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
        match parameter.unsupported {
            Some(why) => Err(Outcome::not_supported(format!("{code}: {why}"))),
            None => Ok(parameter),
        }
    }

    /// `subject:Patient.name`, `patient.name`.
    fn chain(&self, of: &TypeParameters, link: &str, rest: &str, text: &str, depth: usize) -> Result<Condition, Outcome> {
        let (code, type_name) = split_modifier(link);
        let parameter = self.parameter(of, code)?;
        if parameter.kind != SearchParameterKind::Reference {
            return Err(Outcome::invalid(format!("{code} is not a reference: it cannot be chained")));
        }
        let targets: Vec<&str> = match type_name {
            Some(name) => vec![name],
            None => parameter.targets.iter().map(String::as_str).collect(),
        };
        let mut alternatives = Vec::new();
        let mut last_error = Outcome::invalid(format!("{code} references no type that can be chained"));
        for target in &targets {
            let Some(target) = self.registry.of(target) else {
                last_error = Outcome::invalid(format!("{} is not a resource type", shown(target)));
                continue;
            };
            match self.condition(target, rest, text, depth + 1) {
                Ok(inner) => {
                    let inner = Condition::All(vec![Condition::Terms(vec![type_term(target.number)]), inner]);
                    alternatives.push(Condition::Chain(parameter.salts.clone(), Box::new(inner)));
                }
                Err(outcome) => last_error = outcome,
            }
        }
        // A target type without the parameter is no error as long as another has it.
        if alternatives.is_empty() {
            Err(last_error)
        } else {
            Ok(Condition::any(alternatives))
        }
    }

    /// `_has:Observation:patient:code`, after `_has:`.
    fn has(&self, of: &TypeParameters, rest: &str, text: &str, depth: usize) -> Result<Condition, Outcome> {
        let mut parts = rest.splitn(3, ':');
        let (Some(source), Some(link), Some(inner)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Outcome::invalid(
                "_has is written _has:[type]:[reference parameter]:[parameter]=[value]",
            ));
        };
        let source = self
            .registry
            .of(source)
            .ok_or_else(|| Outcome::invalid(format!("_has: {} is not a resource type", shown(source))))?;
        let link = self.parameter(source, link)?;
        if link.kind != SearchParameterKind::Reference || !link.targets.is_empty() && !link.targets.contains(&of.name) {
            return Err(Outcome::invalid(format!(
                "_has: {}.{} does not reference {}",
                source.name, link.code, of.name
            )));
        }
        let inner = self.condition(source, inner, text, depth + 1)?;
        let inner = Condition::All(vec![Condition::Terms(vec![type_term(source.number)]), inner]);
        Ok(Condition::Has(link.salts.clone(), Box::new(inner)))
    }

    fn result_parameter(&self, of: &TypeParameters, query: &mut Query, name: &str, text: &str) -> Result<(), Outcome> {
        match name {
            "_count" => {
                query.count = self.count(text)?;
                // <https://hl7.org/fhir/R4/search.html#count>: 0 is treated as _summary=count.
                if query.count == 0 {
                    query.summary = Summary::Count;
                }
            }
            "_sort" => query.sort = self.sort(of, text)?,
            "_cursor" => query.cursor = Some(text.to_owned()),
            "_total" => {
                query.total = match text {
                    "none" => Total::None,
                    "estimate" => Total::Estimate,
                    "accurate" => Total::Accurate,
                    _ => return Err(Outcome::invalid("_total is none, estimate or accurate")),
                }
            }
            "_summary" => {
                query.summary = match text {
                    "false" => Summary::False,
                    "true" => Summary::True,
                    "text" => Summary::Text,
                    "data" => Summary::Data,
                    "count" => Summary::Count,
                    _ => return Err(Outcome::invalid("_summary is true, text, data, count or false")),
                }
            }
            "_elements" => query.elements = text.split(',').map(|e| e.trim().to_owned()).filter(|e| !e.is_empty()).collect(),
            "_format" | "_pretty" => {}
            _ => {
                let is_reverse = name.starts_with("_revinclude");
                query.includes.push(self.include(of, text, is_reverse, name.ends_with(":iterate"))?);
            }
        }
        Ok(())
    }

    fn count(&self, text: &str) -> Result<usize, Outcome> {
        let count: usize = text.parse().map_err(|_| Outcome::invalid("_count is a whole number from 0"))?;
        Ok(count.min(self.limits.page_entries_max))
    }

    fn sort(&self, of: &TypeParameters, text: &str) -> Result<Vec<Sort>, Outcome> {
        let mut keys = Vec::new();
        for part in text.split(',') {
            let (code, is_descending) = match part.strip_prefix('-') {
                Some(code) => (code, true),
                None => (part, false),
            };
            let key = match code {
                "_lastUpdated" => SortKey::LastUpdated,
                "_id" => SortKey::Id,
                _ => sort_key(self.parameter(of, code)?)?,
            };
            keys.push(Sort { key, is_descending });
        }
        if keys.len() > 4 {
            return Err(Outcome::invalid("_sort has at most 4 keys").with_code("too-costly"));
        }
        Ok(keys)
    }

    fn include(&self, of: &TypeParameters, text: &str, is_reverse: bool, is_iterate: bool) -> Result<Include, Outcome> {
        let mut parts = text.split(':');
        let name = if is_reverse { "_revinclude" } else { "_include" };
        let (Some(source), Some(code), target, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(Outcome::invalid(format!(
                "{name} is written [type]:[reference parameter] or [type]:[reference parameter]:[target type]"
            )));
        };
        let source = self
            .registry
            .of(source)
            .ok_or_else(|| Outcome::invalid(format!("{name}: {} is not a resource type", shown(source))))?;
        if !is_reverse && !is_iterate && source.name != of.name {
            return Err(Outcome::invalid(format!(
                "{name}: the search is on {}, not on {}; use {name}:iterate to go further",
                of.name, source.name
            )));
        }
        if let Some(target) = target.filter(|t| self.registry.of(t).is_none()) {
            return Err(Outcome::invalid(format!("{name}: {} is not a resource type", shown(target))));
        }
        let salts = match code {
            "*" => source
                .parameters
                .iter()
                .filter(|p| p.kind == SearchParameterKind::Reference)
                .flat_map(|p| p.salts.iter().copied())
                .collect(),
            _ => {
                let parameter = self.parameter(source, code)?;
                if parameter.kind != SearchParameterKind::Reference {
                    return Err(Outcome::invalid(format!("{name}: {}.{code} is not a reference", source.name)));
                }
                parameter.salts.clone()
            }
        };
        Ok(Include {
            is_reverse,
            is_iterate,
            source_type: source.name.clone(),
            salts,
            target_type: target.map(str::to_owned),
        })
    }
}

fn sort_key(parameter: &Parameter) -> Result<SortKey, Outcome> {
    match parameter.kind {
        SearchParameterKind::Date if parameter.is_primary_date => Ok(SortKey::PrimaryDate),
        SearchParameterKind::Date => Ok(SortKey::Date(parameter.keys.clone())),
        SearchParameterKind::String => Ok(SortKey::String(parameter.keys.clone())),
        SearchParameterKind::Number | SearchParameterKind::Quantity => Ok(SortKey::Quantity(parameter.keys.clone())),
        _ => Err(Outcome::not_supported(format!(
            "_sort by {} is not supported: it sorts by dates, strings, numbers, quantities, _id and _lastUpdated",
            parameter.code
        ))),
    }
}

fn missing(parameter: &Parameter, text: &str) -> Result<Condition, Outcome> {
    if parameter.code == "_id" || parameter.code == "_lastUpdated" {
        return Err(Outcome::invalid(format!("{} is never missing", parameter.code)));
    }
    let condition = Condition::Missing(1i64 << parameter.bit);
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
        .any(|c| matches!(c, Condition::Terms(_) | Condition::Chain(..)))
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
