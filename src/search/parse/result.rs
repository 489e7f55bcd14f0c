//! Parameters that shape the answer. Spec: <https://hl7.org/fhir/R4/search.html#return>.

use crate::fhir::datetime;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::outcome::Outcome;
use crate::search::contained::CONTAINED;
use crate::search::contained::CONTAINED_TYPE;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use crate::search::parse::AS_OF;
use crate::search::parse::Include;
use crate::search::parse::Link;
use crate::search::parse::Parser;
use crate::search::parse::Query;
use crate::search::parse::Sort;
use crate::search::parse::SortKey;
use crate::search::parse::Summary;
use crate::search::parse::Total;
use crate::search::value::shown;
use chrono::DateTime;
use chrono::Utc;

/// Keys of one order: each makes the condition of the next page longer, and more tell nothing apart.
const SORT_KEYS_MAX: usize = 4;

impl Parser<'_> {
    /// Reads a result parameter into the query of each type, or into none.
    pub(super) fn result_parameters(
        &self,
        types: &[&TypeParameters],
        queries: &mut Vec<Query>,
        name: &str,
        text: &str,
    ) -> Result<(), Outcome> {
        let mut read = queries.clone();
        for (of, query) in types.iter().zip(&mut read) {
            self.result_parameter(types, of, query, name, text)?;
        }
        *queries = read;
        Ok(())
    }

    fn result_parameter(
        &self,
        types: &[&TypeParameters],
        of: &TypeParameters,
        query: &mut Query,
        name: &str,
        text: &str,
    ) -> Result<(), Outcome> {
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
            // Those of contained resources were read before all others.
            "_format" | "_pretty" | CONTAINED | CONTAINED_TYPE => {}
            AS_OF if query.as_of.is_some() => return Err(Outcome::invalid("_asOf stands once")),
            AS_OF => query.as_of = Some(as_of(text)?),
            "_explain" => {
                query.is_explained = match text {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Outcome::invalid("_explain is true or false")),
                }
            }
            _ => {
                let is_reverse = name.starts_with("_revinclude");
                query
                    .includes
                    .push(self.include(types, text, is_reverse, name.ends_with(":iterate"))?);
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
                "" => {
                    return Err(Outcome::invalid(
                        "_sort is written [parameter],[parameter]...: each with - before it for descending order",
                    ));
                }
                "_score" => SortKey::Score,
                "_lastUpdated" => SortKey::LastUpdated,
                "_id" => SortKey::Id,
                _ => sort_key(self.parameter(of, code)?)?,
            };
            keys.push(Sort { key, is_descending });
        }
        if keys.len() > SORT_KEYS_MAX {
            let text = format!("_sort has at most {SORT_KEYS_MAX} keys (SORT_KEYS_MAX)");
            return Err(Outcome::invalid(text).with_code("too-costly"));
        }
        Ok(keys)
    }

    /// `[type]:[parameter]`, `[type]:[parameter]:[target type]`, `[type]:*`, `*`.
    fn include(&self, types: &[&TypeParameters], text: &str, is_reverse: bool, is_iterate: bool) -> Result<Include, Outcome> {
        let name = if is_reverse { "_revinclude" } else { "_include" };
        let error = |text: String| Outcome::invalid(format!("{name}: {text}"));
        let type_of = |name: &str| {
            let unknown = || error(format!("{} is not a resource type", shown(name)));
            self.registry.of(name).ok_or_else(unknown)
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, code, target) = match parts.as_slice() {
            ["*"] => (None, "*", None),
            [source, code] => (Some(type_of(source)?), *code, None),
            [source, code, target] => (Some(type_of(source)?), *code, Some(type_of(target)?)),
            _ => {
                return Err(error(
                    "it is written [type]:[reference parameter], [type]:[reference parameter]:[target type], [type]:* or *".to_owned(),
                ));
            }
        };
        // Containers are of any type.
        let is_of_types = !is_reverse && !is_iterate && !self.contained.answers_containers();
        if let Some(source) = source.filter(|source| is_of_types && types.iter().all(|of| of.name != source.name)) {
            return Err(error(format!(
                "the search is on {}, not on {}; use {name}:iterate to go further",
                types[0].name, source.name
            )));
        }
        let mut target = target;
        let links = match (source, code) {
            (None, _) => self.registry.types().flat_map(|source| self.links(source)).collect(),
            (Some(source), "*") => self.links(source).collect(),
            (Some(source), code) => {
                let parameter = self.parameter(source, code)?;
                if parameter.kind != SearchParameterKind::Reference {
                    return Err(error(format!("{}.{code} is not a reference", source.name)));
                }
                // It may share the terms of its references with a parameter of more types.
                if let [only] = parameter.targets.as_slice() {
                    target = target.or(self.registry.of(only));
                }
                vec![link(source, parameter)]
            }
        };
        Ok(Include {
            is_reverse,
            is_iterate,
            links,
            target_type: target.map(|target| target.name.clone()),
        })
    }

    /// What `*` stands for: all that can be searched by.
    fn links(&self, source: &TypeParameters) -> impl Iterator<Item = Link> {
        let references = source.parameters.iter().filter(|p| p.kind == SearchParameterKind::Reference);
        let is_usable = |p: &&Parameter| p.is_searchable() && !(self.is_past && p.custom.is_some());
        references.filter(is_usable).map(|parameter| link(source, parameter))
    }
}

fn link(source: &TypeParameters, parameter: &Parameter) -> Link {
    Link {
        source_type: source.name.clone(),
        targets: parameter.targets.clone(),
        salts: parameter.salts.clone(),
    }
}

/// The first instant that is not looked at: what is committed in the millisecond, second or day that `_asOf` names is.
/// Errors: 400 for what is no instant or date.
pub fn as_of(text: &str) -> Result<DateTime<Utc>, Outcome> {
    let high = datetime::range(text).map(|range| range.high);
    high.and_then(DateTime::from_timestamp_micros).ok_or_else(|| {
        Outcome::invalid("_asOf is an instant, YYYY-MM-DDThh:mm:ss+zz:zz, or a date: then it is the end of that day, month or year")
    })
}

fn sort_key(parameter: &Parameter) -> Result<SortKey, Outcome> {
    use SearchParameterKind as K;
    match parameter.kind {
        K::Date if parameter.is_primary_date => Ok(SortKey::PrimaryDate),
        K::Date => Ok(SortKey::Date(parameter.keys.clone())),
        K::String if !parameter.keys.is_empty() => Ok(SortKey::String(parameter.keys.clone())),
        K::Number | K::Quantity => Ok(SortKey::Quantity(parameter.keys.clone())),
        K::Token | K::Reference | K::Uri => Ok(SortKey::Read(parameter.code.clone())),
        K::Special if parameter.code == "near" => Ok(SortKey::Distance),
        K::String | K::Composite | K::Special => Err(Outcome::invalid(format!(
            "_sort by {} has no order: sort by one of its parts, or by another parameter",
            parameter.code
        ))),
    }
}
