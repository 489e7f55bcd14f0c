//! Named queries (`_query`): searches that the operator of the server has written down, with places for parameters.
//! Spec: <https://hl7.org/fhir/R4/search.html#query>.

use crate::outcome::Outcome;
use crate::search::value::shown;
use crate::search::value::split::escaped;

/// A setting, `search.named_queries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedQuery {
    pub name: String,
    pub type_name: String,
    /// Parameters of a search as a URL has them, not percent-encoded; `{name}` stands for the value of the query's own parameter.
    pub search: String,
}

impl NamedQuery {
    /// The names that stand in braces, each once.
    pub fn parameters(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for part in self.search.split('{').skip(1) {
            if let Some((name, _)) = part.split_once('}')
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        names
    }
}

/// The parameters with those of a named query in the place of `_query` and what it takes. A value stands for itself: it brings no alternatives and
/// no parameters. Errors: 400 for a name that is not known for the type, and for a parameter that is missing or given twice.
pub fn expand(queries: &[NamedQuery], type_name: &str, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, Outcome> {
    let mut named = pairs.iter().filter(|(name, _)| name == "_query");
    let Some((_, name)) = named.next() else {
        return Ok(pairs.to_vec());
    };
    if named.next().is_some() {
        return Err(Outcome::invalid("_query stands once in a search"));
    }
    let of_type = || queries.iter().filter(|query| query.type_name == type_name);
    let query = of_type().find(|query| query.name == *name).ok_or_else(|| {
        let known: Vec<&str> = of_type().map(|query| query.name.as_str()).collect();
        Outcome::not_supported(format!(
            "{} has no named query {}; it has: {}",
            shown(type_name),
            shown(name),
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        ))
    })?;
    let own = query.parameters();
    let mut values = Vec::new();
    for own in &own {
        let given: Vec<&String> = pairs.iter().filter(|(name, _)| name == own).map(|(_, value)| value).collect();
        let [value] = given.as_slice() else {
            return Err(Outcome::invalid(format!(
                "The named query {} needs its parameter {own} once",
                query.name
            )));
        };
        values.push((format!("{{{own}}}"), escaped(value, &['\\', ',', '$'])));
    }
    // Names of parameters stand in the search itself, so the values cannot bring any.
    let mut expanded: Vec<(String, String)> = Vec::new();
    for pair in query.search.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        expanded.push((name.to_owned(), filled(value, &values)));
    }
    expanded.extend(
        pairs
            .iter()
            .filter(|(name, _)| name != "_query" && !own.contains(&name.as_str()))
            .cloned(),
    );
    Ok(expanded)
}

/// The template with each placeholder replaced, from left to right: what a value holds is not looked at again.
fn filled(template: &str, values: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(place) = rest.find('{') {
        out.push_str(&rest[..place]);
        rest = &rest[place..];
        match values.iter().find(|(placeholder, _)| rest.starts_with(placeholder.as_str())) {
            Some((placeholder, value)) => {
                out.push_str(value);
                rest = &rest[placeholder.len()..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn a_named_query_is_its_search_with_the_values_that_are_given() {
        let queries = [NamedQuery {
            name: "latest".to_owned(),
            type_name: "Observation".to_owned(),
            search: "patient.identifier={person}&code={code}&_sort=-date".to_owned(),
        }];
        assert_eq!(queries[0].parameters(), ["person", "code"]);
        let of = |given: &[(&str, &str)]| expand(&queries, "Observation", &pairs(given));
        assert_eq!(
            of(&[("_query", "latest"), ("person", "s|{code},b"), ("code", "c"), ("_count", "1")]),
            Ok(pairs(&[
                ("patient.identifier", r"s|{code}\,b"),
                ("code", "c"),
                ("_sort", "-date"),
                ("_count", "1")
            ]))
        );
        assert_eq!(of(&[("code", "c")]), Ok(pairs(&[("code", "c")])));
        for (given, text) in [
            (&[("_query", "latest"), ("code", "c")][..], "needs its parameter person once"),
            (
                &[("_query", "latest"), ("person", "a"), ("person", "b"), ("code", "c")],
                "needs its parameter person once",
            ),
            (&[("_query", "other")], "it has: latest"),
            (&[("_query", "latest"), ("_query", "latest")], "stands once"),
        ] {
            assert!(of(given).expect_err(text).summary().contains(text));
        }
        assert!(
            expand(&queries, "Patient", &pairs(&[("_query", "latest")]))
                .expect_err("none")
                .summary()
                .contains("it has: none")
        );
    }
}
