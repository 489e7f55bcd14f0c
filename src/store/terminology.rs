//! The codes that value sets and hierarchies stand for: from the ValueSets and CodeSystems stored here, and from those of the binary.
//! What was expanded is kept, and used again while what it was made of is the same: so it follows the writes of every server.

use crate::fhir::identity::local_reference;
use crate::fhir::identity::self_hash;
use crate::fhir::json::Document;
use crate::fhir::systems;
use crate::fhir::terminology::Canonical;
use crate::fhir::terminology::code_system::CodeSystem;
use crate::fhir::terminology::compare_versions;
use crate::fhir::terminology::expand::Asked;
use crate::fhir::terminology::expand::Codes;
use crate::fhir::terminology::expand::Library;
use crate::fhir::terminology::expand::Needed;
use crate::fhir::terminology::expand::Problem;
use crate::fhir::terminology::package::package;
use crate::fhir::terminology::value_set::ValueSet;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::search::compile::Compiler;
use crate::search::condition::Condition;
use crate::search::density::Plan;
use crate::search::parameters::Registry;
use crate::search::term::Token;
use crate::search::term::term;
use crate::store::Store;
use crate::store::database_error;
use crate::store::read::note;
use crate::store::read::row_columns;
use crate::store::read::run;
use crate::store::rows::Row;
use chrono::DateTime;
use chrono::Utc;
use sqlx::FromRow;
use sqlx::Row as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// Codes of all expansions that are kept: some tens of megabytes.
const KEPT_CODES_MAX: usize = 500_000;
/// What an expansion takes beside its codes, in codes.
const KEPT_CODES_EACH: usize = 100;
/// Longest wait for the expansions of others.
const MAKING_WAIT_MAX: Duration = Duration::from_secs(5);
/// Resources that may have the URLs of one expansion, all versions together: their bodies are in memory at once.
const RESOURCES_MAX: usize = 500;

/// Expansions that are kept.
#[derive(Debug, Default)]
pub struct Terminology {
    kept: Mutex<Vec<Arc<Kept>>>,
    /// Held while one is made: who waits for it finds it, and expansions of all clients together take one processor.
    making: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Kept {
    asked: Asked,
    policy: Policy,
    /// Finds all that it was made of, and all that it would be made of if it came.
    sources: Condition,
    seen: Vec<(i64, i32)>,
    /// Or why there is none.
    codes: Result<Arc<Codes>, Outcome>,
}

impl Terminology {
    fn get(&self, asked: &Asked, policy: Policy) -> Option<Arc<Kept>> {
        let kept = self.kept.lock().expect("not poisoned");
        kept.iter().find(|kept| kept.asked == *asked && kept.policy == policy).cloned()
    }

    /// The oldest make room.
    fn keep(&self, new: Kept) {
        let size = |kept: &Kept| {
            kept.codes
                .iter()
                .flat_map(|codes| codes.values())
                .map(|codes| codes.len())
                .sum::<usize>()
                + KEPT_CODES_EACH
        };
        let mut kept = self.kept.lock().expect("not poisoned");
        kept.retain(|old| old.asked != new.asked || old.policy != new.policy);
        kept.push(Arc::new(new));
        let mut sum: usize = kept.iter().map(|kept| size(kept)).sum();
        while sum > KEPT_CODES_MAX {
            sum -= size(&kept.remove(0));
        }
    }
}

/// The codes that are asked for, at most so many. Errors: 400 saying what is not known here, or naming the limit.
pub async fn codes(store: &Store, policy: Policy, as_of: Option<DateTime<Utc>>, asked: &Asked, max: usize) -> Result<Arc<Codes>, Outcome> {
    if let Some(kept) = kept(store, policy, as_of, asked).await? {
        return kept.codes.clone();
    }
    let busy = |_| {
        Outcome::unavailable(format!(
            "Other value sets are still being expanded after {} s (MAKING_WAIT_MAX); try again",
            MAKING_WAIT_MAX.as_secs()
        ))
    };
    let _making = tokio::time::timeout(MAKING_WAIT_MAX, store.terminology.making.lock())
        .await
        .map_err(busy)?;
    if let Some(kept) = kept(store, policy, as_of, asked).await? {
        return kept.codes.clone();
    }
    let registry = store.registry();
    let (mut library, mut sources, mut seen) = (Library::default(), Sources::default(), Vec::new());
    loop {
        let needs = library.needs(asked);
        if needs.is_empty() {
            break;
        }
        let mut of_these = Sources::default();
        for needed in &needs {
            of_these.add(&registry, needed);
        }
        let rows = rows(store, policy, as_of, &of_these.condition()).await?;
        seen.extend(rows.iter().map(|row| (row.rid, row.version)));
        library = fill(store, library, needs, rows).await?;
        sources.terms.extend(of_these.terms);
        sources.hashes.extend(of_these.hashes);
    }
    let asks = asked.clone();
    let codes = tokio::task::spawn_blocking(move || library.codes(&asks, max))
        .await
        .map_err(Outcome::internal)?;
    let codes = codes.map(Arc::new).map_err(|problem| refusal(&problem, max));
    seen.sort_unstable();
    seen.dedup();
    store.terminology.keep(Kept {
        asked: asked.clone(),
        policy,
        sources: sources.condition(),
        seen,
        codes: codes.clone(),
    });
    codes
}

/// What is kept, if it is made of what is here now.
async fn kept(store: &Store, policy: Policy, as_of: Option<DateTime<Utc>>, asked: &Asked) -> Result<Option<Arc<Kept>>, Outcome> {
    let Some(kept) = store.terminology.get(asked, policy) else {
        return Ok(None);
    };
    let is_current = kept.seen == seen(store, policy, as_of, &kept.sources).await?;
    Ok(is_current.then_some(kept))
}

/// What finds the resources that an expansion rests on.
#[derive(Default)]
struct Sources {
    terms: Vec<i64>,
    hashes: Vec<i64>,
}

impl Sources {
    fn add(&mut self, registry: &Registry, needed: &Needed) {
        let (type_name, canonical) = match needed {
            Needed::ValueSet(canonical) => ("ValueSet", canonical),
            Needed::CodeSystem(canonical) => ("CodeSystem", canonical),
        };
        if let Some(id) = id_of(canonical) {
            self.hashes.push(self_hash("ValueSet", id));
            return;
        }
        let Some(url) = registry.of(type_name).and_then(|of| of.get("url")) else {
            return;
        };
        let spellings = systems::spellings(&canonical.url);
        let terms = spellings.flat_map(|spelling| url.salts.iter().map(move |salt| term(*salt, Token::Uri(spelling))));
        self.terms.extend(terms);
    }

    fn condition(&self) -> Condition {
        match self.hashes.is_empty() {
            true => Condition::Terms(self.terms.clone()),
            false => Condition::Any(vec![Condition::Terms(self.terms.clone()), Condition::Ids(self.hashes.clone())]),
        }
    }
}

/// The id of a value set that is asked for as `ValueSet/id`.
fn id_of(canonical: &Canonical) -> Option<&str> {
    local_reference(&canonical.url)
        .filter(|local| local.type_name == "ValueSet")
        .map(|local| local.id)
}

/// The row id and version of each resource that an expansion rests on.
async fn seen(store: &Store, policy: Policy, as_of: Option<DateTime<Utc>>, sources: &Condition) -> Result<Vec<(i64, i32)>, Outcome> {
    let mut compiler = Compiler::new(policy, as_of);
    let alias = compiler.upcoming_alias();
    compiler.sql.push(&format!("select {alias}.rid, {alias}.version"));
    compiler.resource(sources);
    compiler.sql.push(" order by 1");
    note(store, Plan::Gather, &compiler.sql);
    let mut conn = store.pools.gathers.lend().await.map_err(database_error)?;
    let rows = run(&mut conn, compiler.sql).await.map_err(database_error)?;
    conn.done();
    let read = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    read.collect::<Result<_, sqlx::Error>>().map_err(database_error)
}

async fn rows(store: &Store, policy: Policy, as_of: Option<DateTime<Utc>>, sources: &Condition) -> Result<Vec<Row>, Outcome> {
    let mut compiler = Compiler::new(policy, as_of);
    let columns = row_columns(&compiler.upcoming_alias());
    compiler.sql.push("select ").push(&columns);
    compiler.resource(sources);
    compiler.sql.push(&format!(" limit {}", RESOURCES_MAX + 1));
    note(store, Plan::Gather, &compiler.sql);
    let mut conn = store.pools.gathers.lend().await.map_err(database_error)?;
    let rows = run(&mut conn, compiler.sql).await.map_err(database_error)?;
    let rows: Vec<Row> = rows.iter().map(Row::from_row).collect::<Result<_, _>>().map_err(database_error)?;
    let dictionaries = rows.iter().map(|row| row.dictionary);
    store.bodies.learn(&mut *conn, dictionaries).await.map_err(database_error)?;
    conn.done();
    if rows.len() > RESOURCES_MAX {
        let text = format!("More than {RESOURCES_MAX} versions of the value set and of what it needs are stored here (RESOURCES_MAX)");
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    Ok(rows)
}

/// Puts what is needed into the library, apart from the threads that answer: a code system has megabytes.
async fn fill(store: &Store, mut library: Library, needs: Vec<Needed>, rows: Vec<Row>) -> Result<Library, Outcome> {
    let store = store.clone();
    let filled = tokio::task::spawn_blocking(move || {
        put(&store, &mut library, needs, &rows)?;
        Ok(library)
    });
    filled.await.map_err(Outcome::internal)?
}

/// The latest version that is stored here, or else that of the binary.
fn put(store: &Store, library: &mut Library, needs: Vec<Needed>, rows: &[Row]) -> Result<(), Outcome> {
    let registry = store.registry();
    let (mut value_sets, mut code_systems) = (Vec::new(), Vec::new());
    for row in rows {
        let json = row.to_json(&registry, &store.bodies)?;
        let document = Document::parse_str(&json).map_err(|e| Outcome::internal(format!("a stored body does not parse: {e}")))?;
        match registry.name_of(row.type_number) {
            "ValueSet" => value_sets.push((row, Arc::new(ValueSet::read(document.root())))),
            _ => code_systems.push((row, Arc::new(CodeSystem::read(document.root())))),
        }
    }
    for needed in needs {
        match needed {
            Needed::ValueSet(canonical) => {
                let is_meant = |(row, found): &&(&Row, Arc<ValueSet>)| match id_of(&canonical) {
                    Some(id) => row.id == id,
                    None => found.url == canonical.url,
                };
                let found = value_sets
                    .iter()
                    .filter(is_meant)
                    .filter(|(_, found)| canonical.takes(found.version.as_deref()));
                let latest = found
                    .max_by(|a, b| compare_versions(a.1.version.as_deref(), b.1.version.as_deref()).then(a.0.updated.cmp(&b.0.updated)));
                let found = match latest {
                    Some((_, found)) => Some(found.clone()),
                    None => package().value_set(&canonical).map(Arc::new),
                };
                library.value_sets.insert(canonical, found);
            }
            Needed::CodeSystem(canonical) => {
                let is_meant = |(_, found): &&(&Row, Arc<CodeSystem>)| systems::canonical(&found.url) == canonical.url;
                let found = code_systems
                    .iter()
                    .filter(is_meant)
                    .filter(|(_, found)| canonical.takes(found.version.as_deref()));
                let latest = found
                    .max_by(|a, b| compare_versions(a.1.version.as_deref(), b.1.version.as_deref()).then(a.0.updated.cmp(&b.0.updated)));
                let found = match latest {
                    Some((_, found)) => Some(found.clone()),
                    None => package().code_system(&canonical).map(Arc::new),
                };
                library.code_systems.insert(canonical, found);
            }
        }
    }
    Ok(())
}

fn refusal(problem: &Problem, max: usize) -> Outcome {
    let code = match problem {
        Problem::Unknown(_) | Problem::UnknownNeeded(_) | Problem::UnknownCode(_) => "not-found",
        Problem::TooManyCodes | Problem::TooDeep => "too-costly",
        Problem::NotComplete(_) | Problem::NotSubsuming(_) | Problem::Unsupported(_) => "not-supported",
    };
    let limit = match problem {
        Problem::TooManyCodes => format!(": at most {max} (search.expansion_codes_max)"),
        _ => String::new(),
    };
    Outcome::invalid(format!("The codes that are asked for cannot be told: {problem}{limit}")).with_code(code)
}
