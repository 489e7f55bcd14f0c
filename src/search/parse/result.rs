//! Parameters that shape the answer. Spec: <https://hl7.org/fhir/R4/search.html#return>.

use crate::fhir::definitions::model::SearchParameterKind;
use crate::outcome::Outcome;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use crate::search::parse::Include;
use crate::search::parse::Parser;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::parse::Summary;
use crate::search::parse::Total;
use crate::search::value::shown;

impl Parser<'_> {
    pub(super) fn result_parameter(&self, of: &TypeParameters, query: &mut Query, name: &str, text: &str) -> Result<(), Outcome> {
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

    pub(super) fn count(&self, text: &str) -> Result<usize, Outcome> {
        let count: usize = text.parse().map_err(|_| Outcome::invalid("_count is a whole number from 0"))?;
        Ok(count.min(self.limits.page_entries_max))
    }

    pub(super) fn sort(&self, of: &TypeParameters, text: &str) -> Result<Vec<Sort>, Outcome> {
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

    pub(super) fn include(&self, of: &TypeParameters, text: &str, is_reverse: bool, is_iterate: bool) -> Result<Include, Outcome> {
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
