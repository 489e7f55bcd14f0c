//! `docs/conformance.md`: what this server does, as tables, made from those that route and search.

pub mod rows;

use crate::fhir::definitions::model::SearchParameterKind;
use crate::interaction::capability::SEARCH_PARAMETERS;
use crate::interaction::capability::SYSTEM_INTERACTIONS;
use crate::interaction::capability::TYPE_INTERACTIONS;
use crate::interaction::capability::is_searched;
use crate::interaction::conformance::rows::Answer;
use crate::interaction::conformance::rows::Row;
use crate::interaction::operation::Level;
use crate::interaction::operation::OPERATIONS;
use crate::search::parameters::Parameter;
use crate::search::parameters::Registry;
use crate::search::parameters::TypeParameters;
use crate::search::parse::RESULT_PARAMETERS;
use crate::search::value::modifiers;
use crate::validate::Validator;
use std::fmt::Write;

const HEAD: &str = "# Conformance

What eds does of FHIR R4, type by type. `make conformance` writes this page from the tables that route and search, a test compares it with them, and
`GET /fhir/metadata` says the same of a server with its settings. A request in a table is one that the tests send.
";

/// The page. Writing to a text does not fail.
pub fn page(registry: &Registry, validator: &Validator) -> String {
    let mut out = HEAD.to_owned();
    capabilities(&mut out, "RESTful interactions", rows::REST);
    capabilities(&mut out, "Search", rows::SEARCH);
    capabilities(&mut out, "Operations", rows::OPERATIONS);
    every_type(&mut out, registry);
    let names = registry.definitions.resource_types();
    for of in names.iter().filter_map(|name| registry.of(name)) {
        one_type(&mut out, of, registry, validator);
    }
    out
}

fn capabilities(out: &mut String, title: &str, rows: &[Row]) {
    let _ = write!(out, "\n## {title}\n\n| | | | tests |\n| --- | --- | --- | --- |\n");
    for row in rows {
        let answer = match row.is_here {
            Answer::Yes => "yes",
            Answer::Partly => "partly",
            Answer::No => "no",
        };
        let remark = match row.remark.starts_with("GET ") {
            true => format!("`{}`", row.remark),
            false => row.remark.to_owned(),
        };
        let tests = match row.tests {
            "" => String::new(),
            name => format!("[{name}](../tests/api/{name}.rs)"),
        };
        let _ = writeln!(out, "| {} | {answer} | {remark} | {tests} |", row.what);
    }
}

/// What is the same for all types.
fn every_type(out: &mut String, registry: &Registry) {
    let _ = write!(
        out,
        "\n## Every type\n\nInteractions: {}. Of the system: {}.\n\n\
            In every search: {}, and what shapes the answer: {}. Every reference parameter can be included (`_include`), and from the types that it refers to\n\
            (`_revinclude`).\n\n",
        TYPE_INTERACTIONS.join(", "),
        SYSTEM_INTERACTIONS.join(", "),
        listed(SEARCH_PARAMETERS.iter().map(|(name, _, _)| format!("`{name}`"))),
        listed(RESULT_PARAMETERS.iter().map(|name| format!("`{name}`"))),
    );
    let compartments = registry.definitions.model().compartments.iter();
    let _ = write!(out, "Compartments: {}.\n\n", listed(compartments.map(|c| c.code.clone())));
    let _ = write!(out, "| operation | of | definition |\n| --- | --- | --- |\n");
    for operation in OPERATIONS {
        let of = operation.places().join("`, `");
        let _ = writeln!(out, "| `${}` | `{of}` | {} |", operation.name, operation.definition);
    }
    let _ = write!(out, "\nParameters of every type:\n\n");
    if let Some(of) = registry.of("Basic") {
        parameters(out, of.parameters.iter().filter(|p| is_common(p) && is_searched(of, p)));
    }
}

fn one_type(out: &mut String, of: &TypeParameters, registry: &Registry, validator: &Validator) {
    let _ = write!(out, "\n### {}\n\n", of.name);
    let profiles: Vec<&str> = validator
        .profiles()
        .filter(|(_, name, _)| *name == of.name)
        .map(|(url, _, _)| url)
        .collect();
    if !profiles.is_empty() {
        let _ = write!(out, "Profiles: {}.\n\n", profiles.join(", "));
    }
    let own = OPERATIONS
        .iter()
        .filter(|o| o.level != Level::System && o.types != crate::interaction::operation::Types::All);
    let mut operations: Vec<String> = own.filter(|o| o.has(Some(&of.name))).map(|o| format!("`${}`", o.name)).collect();
    operations.dedup();
    if !operations.is_empty() {
        let _ = write!(out, "Operations of its own: {}.\n\n", operations.join(", "));
    }
    let model = registry.definitions.model();
    let is_member = |members: &[(String, Vec<String>)]| members.iter().any(|(name, codes)| *name == of.name && !codes.is_empty());
    let within: Vec<&str> = model
        .compartments
        .iter()
        .filter(|c| is_member(&c.members))
        .map(|c| c.code.as_str())
        .collect();
    if !within.is_empty() {
        let _ = write!(out, "In the compartments of: {}.\n\n", within.join(", "));
    }
    let own: Vec<&Parameter> = of.parameters.iter().filter(|p| !is_common(p) && is_searched(of, p)).collect();
    match own.is_empty() {
        true => out.push_str("No search parameters of its own.\n"),
        false => parameters(out, own.into_iter()),
    }
}

/// Those whose names begin so stand in the definitions of Resource and DomainResource.
fn is_common(parameter: &Parameter) -> bool {
    parameter.code.starts_with('_')
}

fn parameters<'p>(out: &mut String, parameters: impl Iterator<Item = &'p Parameter>) {
    out.push_str("| parameter | type | modifiers | refers to |\n| --- | --- | --- | --- |\n");
    for parameter in parameters {
        let kind = format!("{:?}", parameter.kind).to_lowercase();
        let taken = listed(modifiers(parameter).iter().map(|modifier| format!(":{modifier}")));
        let targets = match (parameter.kind, parameter.targets.as_slice()) {
            (SearchParameterKind::Reference, [] | [_, _, _, _, _, _, _, _, _, _, _, ..]) => "any type, or more than ten".to_owned(),
            (SearchParameterKind::Reference, targets) => targets.join(", "),
            _ => String::new(),
        };
        let _ = writeln!(out, "| `{}` | {kind} | {taken} | {targets} |", parameter.code);
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_row_that_is_here_names_tests_that_there_are_and_no_other_does() {
        for row in [rows::REST, rows::SEARCH, rows::OPERATIONS].into_iter().flatten() {
            let path = format!("{}/tests/api/{}.rs", env!("CARGO_MANIFEST_DIR"), row.tests);
            assert_eq!(row.is_here != Answer::No, Path::new(&path).is_file(), "{}: {path}", row.what);
        }
    }
}
