//! Random expressions of `_filter`.

use crate::population::pick;
use crate::population::pools;
use crate::queries::Features;
use crate::queries::Generator;
use crate::queries::means_the_same_for_all;
use crate::queries::searchable;
use crate::ranges::split_prefix;
use crate::values::Typed;
use crate::values::fold;
use crate::values::unescape;
use eds::fhir::definitions::model::SearchParameter;
use eds::fhir::definitions::model::SearchParameterKind as Kind;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;

/// Brackets in brackets, and links of a chain.
const NESTING_MAX: usize = 2;

impl<'s> Generator<'s> {
    pub fn filter(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>, features: &mut Features) -> String {
        features.push("_filter");
        self.expression(rng, type_name, focus, NESTING_MAX, features)
    }

    fn expression(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>, nesting: usize, features: &mut Features) -> String {
        let mut text = self.operand(rng, type_name, focus, nesting, features);
        for _ in 0..*[0, 0, 1, 1, 2].choose(rng).expect("a number") {
            let (word, feature) = *[("and", "_filter and"), ("or", "_filter or")].choose(rng).expect("a word");
            features.push(feature);
            text = format!("{text} {word} {}", self.operand(rng, type_name, focus, nesting, features));
        }
        text
    }

    fn operand(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>, nesting: usize, features: &mut Features) -> String {
        let chained = match rng.random_range(0..10) {
            0 if nesting > 0 => {
                features.push("_filter not");
                return format!("not ({})", self.expression(rng, type_name, focus, nesting - 1, features));
            }
            1 if nesting > 0 => return format!("({})", self.expression(rng, type_name, focus, nesting - 1, features)),
            2 | 3 => self.chained(rng, type_name, focus, nesting, features),
            _ => None,
        };
        chained.unwrap_or_else(|| self.comparison(rng, type_name, focus, features).1)
    }

    /// `subject.name co "x"`, `subject[active eq true].name co "x"`. An expression cannot say the type that it goes on from, so it asks what means the
    /// same of all.
    fn chained(
        &self,
        rng: &mut StdRng,
        type_name: &str,
        focus: Option<&'s Value>,
        depth: usize,
        features: &mut Features,
    ) -> Option<String> {
        let links: Vec<_> = searchable(type_name).filter(|p| p.kind == Kind::Reference).collect();
        let known = focus.into_iter().flat_map(|focus| {
            let of = |link: &&'static SearchParameter| {
                self.store
                    .targets(focus, link, "")
                    .into_iter()
                    .map(|t| (*link, t))
                    .collect::<Vec<_>>()
            };
            links.iter().flat_map(of).collect::<Vec<_>>()
        });
        let known: Vec<_> = known.collect();
        let (link, target) = *known.choose(rng)?;
        let of = target["resourceType"].as_str().expect("a type");
        if link.targets.len() == 1
            && depth > 0
            && rng.random_bool(0.3)
            && let Some(rest) = self.chained(rng, of, Some(target), depth - 1, features)
        {
            features.push("_filter chain of two");
            return Some(format!("{}.{rest}", link.code));
        }
        let mut scratch = Features::new();
        let mut ask = |rng: &mut StdRng| {
            let asked = self.comparison(rng, of, Some(target), &mut scratch);
            means_the_same_for_all(&link.targets, of, &asked.0).then_some(asked.1)
        };
        let last = ask(rng)?;
        let filter = if rng.random_bool(0.3) { ask(rng) } else { None };
        features.extend(scratch);
        features.push("_filter chain");
        Some(match filter {
            Some(filter) => {
                features.push("_filter [filter]");
                format!("{}[{filter}].{last}", link.code)
            }
            None => format!("{}.{last}", link.code),
        })
    }

    /// The parameter, and `parameter operator value`.
    fn comparison(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>, features: &mut Features) -> (String, String) {
        if rng.random_bool(0.02) {
            return ("_list".to_owned(), format!("_list eq {}", self.list(rng, type_name, focus)));
        }
        let parameters: Vec<_> = searchable(type_name).collect();
        let drawn: Vec<_> = (0..4).filter_map(|_| parameters.choose(rng)).collect();
        let is_present = |p: &&&&SearchParameter| self.samples(type_name, focus, p).next().is_some();
        let parameter: &SearchParameter = drawn.iter().find(is_present).or(drawn.first()).expect("a parameter");
        let is_own = ["_id", "_lastUpdated"].contains(&parameter.code.as_str());
        let operators: &[&str] = match parameter.kind {
            Kind::String => &["eq", "ne", "co", "sw", "ew", "pr"],
            Kind::Reference => &["eq", "re", "ne", "pr"],
            Kind::Date if parameter.code == "_lastUpdated" => &["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "po"],
            Kind::Date => &["eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb", "po", "po", "po", "pr"],
            Kind::Number | Kind::Quantity => &["eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr"],
            Kind::Composite => &["eq"],
            _ if is_own => &["eq", "ne"],
            _ => &["eq", "eq", "ne", "pr"],
        };
        let codes_of = self.code_modifiers(type_name, focus, parameter);
        let operator = match codes_of.choose(rng) {
            Some(modifier) if rng.random_bool(0.35) => match *modifier {
                "in" => "in",
                "not-in" => "ni",
                "below" => "ss",
                _ => "sb",
            },
            _ => pick(rng, operators),
        };
        let value = match (operator, parameter.kind) {
            ("pr", _) => pick(rng, &["true", "false"]).to_owned(),
            ("in" | "ni", _) => unescape(&self.codes_asked(rng, type_name, focus, parameter, "in")),
            ("ss" | "sb", _) => self.codes_asked(rng, type_name, focus, parameter, "below"),
            ("ew", _) => self.end(rng, type_name, focus, parameter),
            ("co", _) => unescape(&self.value(rng, type_name, focus, parameter, "contains", &mut Features::new())),
            (_, Kind::String) => unescape(&self.value(
                rng,
                type_name,
                focus,
                parameter,
                if operator == "eq" { "exact" } else { "" },
                &mut Features::new(),
            )),
            (_, Kind::Date | Kind::Number | Kind::Quantity) => {
                let text = self.value(rng, type_name, focus, parameter, "", &mut Features::new());
                split_prefix(&text).1.to_owned()
            }
            _ => self.value(rng, type_name, focus, parameter, "", &mut Features::new()),
        };
        // What is escaped in a parameter has no writing here; an empty string asks for nothing.
        let is_literal = parameter.kind == Kind::String || !value.contains('\\');
        if !is_literal || fold(&value).is_empty() {
            return ("_id".to_owned(), format!("_id eq {}", pick(rng, pools::IDS)));
        }
        features.push(feature_of(operator));
        let is_token = !value.contains(|c: char| c.is_whitespace() || c == ')' || c == ']') && !value.starts_with('"');
        let written = match is_token && rng.random_bool(0.6) {
            true => value,
            false => Value::from(value).to_string(),
        };
        (parameter.code.clone(), format!("{} {operator} {written}", parameter.code))
    }

    /// The end of a string, with three letters in a row at least.
    fn end(&self, rng: &mut StdRng, type_name: &str, focus: Option<&'s Value>, parameter: &SearchParameter) -> String {
        let words: Vec<&str> = self
            .samples(type_name, focus, parameter)
            .flat_map(|value| if let Typed::Strings(strings) = value { strings } else { Vec::new() })
            .collect();
        let letters: Vec<char> = words.choose(rng).copied().unwrap_or("rossi").chars().collect();
        let end: String = letters[rng.random_range(0..letters.len())..].iter().collect();
        let has_three = fold(&end)
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| word.chars().count() >= 3);
        if has_three { end } else { "ssi".to_owned() }
    }
}

fn feature_of(operator: &str) -> &'static str {
    match operator {
        "eq" | "re" => "_filter eq",
        "ne" => "_filter ne",
        "co" | "sw" | "ew" => "_filter co sw ew",
        "pr" => "_filter pr",
        "po" => "_filter po",
        "in" | "ni" => "_filter in ni",
        "ss" | "sb" => "_filter ss sb",
        _ => "_filter gt lt ge le ap sa eb",
    }
}
