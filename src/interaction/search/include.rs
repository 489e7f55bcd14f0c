//! `_include` and `_revinclude`. Spec: <https://hl7.org/fhir/R4/search.html#include>.

use crate::fhir::identity::contained_hash;
use crate::fhir::identity::self_hash;
use crate::interaction::Service;
use crate::outcome::Outcome;
use crate::search::compile::Compiler;
use crate::search::condition::Condition;
use crate::search::density::Plan;
use crate::search::page;
use crate::search::parse::Include;
use crate::search::parse::Query;
use crate::search::term::reference_term;
use crate::search::term::type_term;
use crate::store::read;
use crate::store::read::Found;
use crate::store::read::row_columns;
use std::collections::HashSet;

/// How often `:iterate` goes on: a chain of includes longer than this is cut, and said so.
pub const ITERATIONS_MAX: usize = 8;

/// What the includes add to the page; tells whether a limit cut it short.
pub async fn included(service: &Service, query: &Query, matches: &[Found]) -> Result<(Vec<Found>, bool), Outcome> {
    let mut included: Vec<Found> = Vec::new();
    let mut seen: HashSet<i64> = matches.iter().map(|f| f.row.rid).collect();
    let mut is_cut = false;
    let mut from = 0;
    for round in 0..ITERATIONS_MAX {
        let includes: Vec<&Include> = query.includes.iter().filter(|i| round == 0 || i.is_iterate).collect();
        let sources: Vec<&Found> = if round == 0 {
            matches.iter().collect()
        } else {
            included[from..].iter().collect()
        };
        if includes.is_empty() || sources.is_empty() {
            return Ok((included, is_cut));
        }
        let mut added = Vec::new();
        for include in includes {
            let room = service.limits.includes_max.saturating_sub(included.len() + added.len());
            let Some(condition) = include_condition(service, include, &sources)? else {
                continue;
            };
            let (driver, rest) = service.store.density().driver(&condition);
            let compiler = Compiler::new(service.policy, query.as_of);
            let sql = page::included(compiler, &driver, &rest, room + 1, row_columns);
            let mut rows = read::page(&service.store, Plan::Gather, sql, 0).await?;
            is_cut |= rows.len() > room;
            rows.truncate(room);
            added.extend(rows.into_iter().filter(|f| seen.insert(f.row.rid)));
        }
        from = included.len();
        included.extend(added);
    }
    // What came last would go on.
    is_cut |= from < included.len() && query.includes.iter().any(|include| include.is_iterate);
    Ok((included, is_cut))
}

fn include_condition(service: &Service, include: &Include, sources: &[&Found]) -> Result<Option<Condition>, Outcome> {
    let registry = service.store.registry();
    let name_of = |found: &Found| registry.name_of(found.row.type_number);
    if include.is_reverse {
        let mut terms = Vec::new();
        for found in sources {
            let name = name_of(found);
            if include.target_type.as_deref().is_some_and(|target| target != name) {
                continue;
            }
            let hash = match &found.container {
                Some(container) => contained_hash(self_hash(registry.name_of(container.type_number), &container.id), &found.row.id),
                None => self_hash(name, &found.row.id),
            };
            let links = include
                .links
                .iter()
                .filter(|link| link.targets.is_empty() || link.targets.iter().any(|target| target == name));
            terms.extend(links.flat_map(|link| &link.salts).map(|salt| reference_term(*salt, hash)));
        }
        return Ok((!terms.is_empty()).then_some(Condition::Terms(terms)));
    }
    let mut hashes = Vec::new();
    for found in sources {
        let name = name_of(found);
        let links = include.links.iter().filter(|link| link.source_type == name);
        for salt in links.flat_map(|link| &link.salts) {
            hashes.extend(found.references.iter().map(|reference| reference ^ salt));
        }
    }
    if hashes.is_empty() {
        return Ok(None);
    }
    let type_condition = |name: &str| registry.number_of(name).map(|number| Condition::Terms(vec![type_term(number)]));
    let mut conditions = vec![Condition::Ids(hashes)];
    conditions.extend(include.target_type.as_deref().and_then(type_condition));
    Ok(Some(Condition::all(conditions)))
}
