//! `_filter`: a condition as an expression. Spec: <https://hl7.org/fhir/R4/search_filter.html>.
//!
//! Comparisons become the same conditions as parameters do, so they have the same indexes. `and` and `or` have no precedence: an expression is
//! read from left to right. `ne` holds for what has a value, none of which is equal.

use crate::fhir::definitions::model::SearchParameterKind as Kind;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::TypeParameters;
use crate::search::parse::Parser;
use crate::search::parse::missing;
use crate::search::value;
use crate::search::value::shown;
use crate::search::value::split::escaped;

/// Parentheses and brackets inside each other: far more than people write, and no strain on the stack.
const NESTING_MAX: usize = 32;

/// An expression as it is written.
#[derive(Debug, PartialEq)]
enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    Compare {
        /// Names, each with what is asked of the resource that it references.
        path: Vec<(String, Option<Filter>)>,
        operator: String,
        value: String,
    },
}

/// How many comparisons an expression has: as far as it can be read, and one more than the limit at most.
pub(super) fn comparisons(text: &str, comparisons_max: usize) -> usize {
    let mut reader = Reader::new(text, comparisons_max);
    // What is wrong with it is told when its condition is made.
    let _ = reader.filter(0);
    reader.comparisons
}

impl Parser<'_> {
    /// Errors: 400 with the place, counted in characters, at which the expression goes wrong.
    pub(super) fn filter(&self, of: &TypeParameters, text: &str, depth: usize) -> Result<Condition, Outcome> {
        let mut reader = Reader::new(text, self.limits.values_max);
        let filter = reader.filter(0)?;
        reader.space();
        if reader.place < reader.text.len() {
            return Err(reader.error("the end, or `and`, or `or`"));
        }
        self.filtered(of, &filter, depth)
    }

    fn filtered(&self, of: &TypeParameters, filter: &Filter, depth: usize) -> Result<Condition, Outcome> {
        match filter {
            Filter::And(a, b) => Ok(Condition::All(vec![self.filtered(of, a, depth)?, self.filtered(of, b, depth)?])),
            Filter::Or(a, b) => Ok(Condition::any(vec![self.filtered(of, a, depth)?, self.filtered(of, b, depth)?])),
            Filter::Not(inner) => Ok(Condition::negated(self.filtered(of, inner, depth)?)),
            Filter::Compare { path, operator, value } => self.compared(of, path, (operator, value), depth),
        }
    }

    fn compared(
        &self,
        of: &TypeParameters,
        path: &[(String, Option<Filter>)],
        comparison: (&str, &str),
        depth: usize,
    ) -> Result<Condition, Outcome> {
        match path {
            [(name, None)] => self.comparison(of, name, comparison, depth),
            [(name, filter), rest @ ..] => self.over_targets(of, (name, None), depth, |target| {
                let mut conditions = Vec::new();
                if let Some(filter) = filter {
                    conditions.push(self.filtered(target, filter, depth + 1)?);
                }
                if !rest.is_empty() {
                    conditions.push(self.compared(target, rest, comparison, depth + 1)?);
                }
                Ok(Condition::all(conditions))
            }),
            [] => Ok(Condition::nothing()),
        }
    }

    fn comparison(&self, of: &TypeParameters, name: &str, (operator, text): (&str, &str), depth: usize) -> Result<Condition, Outcome> {
        if name == "_list" {
            return match operator {
                "eq" | "re" => self.list(text),
                _ => Err(bad_operator(operator, name)),
            };
        }
        let parameter = self.parameter(of, name)?;
        let like = |modifier: &str, value: String| self.condition(of, &format!("{name}{modifier}"), &value, depth);
        let as_it_is = || escaped(text, &['\\', ',']);
        match (operator, parameter.kind) {
            ("pr", _) => match text {
                "true" => missing(of, parameter, "false"),
                "false" => missing(of, parameter, "true"),
                _ => Err(Outcome::invalid("_filter: pr is compared with true or false")),
            },
            ("ne", Kind::Date | Kind::Number | Kind::Quantity) => like("", format!("ne{}", as_it_is())),
            ("ne", _) => Ok(Condition::All(vec![
                Condition::negated(self.comparison(of, name, ("eq", text), depth)?),
                missing(of, parameter, "false").or_else(|_| Ok::<_, Outcome>(Condition::All(Vec::new())))?,
            ])),
            ("eq" | "co", Kind::String) if matches!(name, "_text" | "_content") => like("", as_it_is()),
            ("eq", Kind::String) => Ok(Condition::StringEquals(
                parameter.keys.clone(),
                value::text::normal(parameter, text)?,
            )),
            ("ew", Kind::String) => Ok(Condition::StringEnd(
                parameter.keys.clone(),
                value::text::part(parameter, text, true)?,
            )),
            ("sw", Kind::String) => like("", escaped(text, &['\\', ',', '|', '$'])),
            ("co", Kind::String) => like(":contains", escaped(text, &['\\', ',', '|', '$'])),
            ("eq" | "gt" | "lt" | "ge" | "le" | "ap" | "sa" | "eb", Kind::Date | Kind::Number | Kind::Quantity) => {
                like("", format!("{operator}{}", as_it_is()))
            }
            ("po", Kind::Date) => value::date::overlapping(of, parameter, text),
            ("eq", Kind::Token | Kind::Reference | Kind::Uri | Kind::Composite | Kind::Special) | ("re", Kind::Reference) => {
                like("", as_it_is())
            }
            ("in", Kind::Token) => like(":in", as_it_is()),
            ("ni", Kind::Token) => like(":not-in", as_it_is()),
            // "True if the value subsumes a concept in the set", "… is subsumed by a concept in the set".
            ("ss", Kind::Token | Kind::Uri) => like(":below", as_it_is()),
            ("sb", Kind::Token | Kind::Uri) => like(":above", as_it_is()),
            _ => Err(bad_operator(operator, name)),
        }
    }
}

fn bad_operator(operator: &str, name: &str) -> Outcome {
    Outcome::invalid(format!(
        "_filter: {} is not compared by {}; operators are eq ne co sw ew gt lt ge le ap sa eb pr po ss sb in ni re, each for the kinds that it suits",
        shown(name),
        shown(operator)
    ))
}

struct Reader {
    text: Vec<char>,
    place: usize,
    comparisons: usize,
    comparisons_max: usize,
}

impl Reader {
    fn new(text: &str, comparisons_max: usize) -> Reader {
        Reader {
            text: text.chars().collect(),
            place: 0,
            comparisons: 0,
            comparisons_max,
        }
    }

    /// `filter (and|or filter)*`
    fn filter(&mut self, depth: usize) -> Result<Filter, Outcome> {
        let mut left = self.operand(depth)?;
        loop {
            let before = self.place;
            self.space();
            let is_and = match self.word().as_str() {
                "and" => true,
                "or" => false,
                _ => {
                    self.place = before;
                    return Ok(left);
                }
            };
            let right = self.operand(depth)?;
            let (a, b) = (Box::new(left), Box::new(right));
            left = if is_and { Filter::And(a, b) } else { Filter::Or(a, b) };
        }
    }

    /// `not (filter)`, `(filter)` or a comparison.
    fn operand(&mut self, depth: usize) -> Result<Filter, Outcome> {
        if depth > NESTING_MAX {
            return Err(Outcome::invalid(format!("_filter is nested at most {NESTING_MAX} times (NESTING_MAX)")).with_code("too-costly"));
        }
        self.space();
        let before = self.place;
        if self.word() == "not" {
            self.space();
            if self.next_is('(') {
                return Ok(Filter::Not(Box::new(self.enclosed(depth, ')')?)));
            }
        }
        self.place = before;
        match self.next_is('(') {
            true => self.enclosed(depth, ')'),
            false => self.comparison(depth),
        }
    }

    /// The filter up to the closing bracket; the opening one is read.
    fn enclosed(&mut self, depth: usize, close: char) -> Result<Filter, Outcome> {
        let filter = self.filter(depth + 1)?;
        self.space();
        match self.next_is(close) {
            true => Ok(filter),
            false => Err(self.error(&format!("`{close}`, or `and`, or `or`"))),
        }
    }

    fn comparison(&mut self, depth: usize) -> Result<Filter, Outcome> {
        self.comparisons += 1;
        if self.comparisons > self.comparisons_max {
            let text = format!("_filter has at most {} comparisons (search.values_max)", self.comparisons_max);
            return Err(Outcome::invalid(text).with_code("too-costly"));
        }
        let mut path = Vec::new();
        loop {
            let name = self.word();
            if name.is_empty() {
                return Err(self.error("the name of a search parameter"));
            }
            let filter = match self.next_is('[') {
                true => Some(self.enclosed(depth, ']')?),
                false => None,
            };
            let is_filtered = filter.is_some();
            path.push((name, filter));
            if !self.next_is('.') {
                if is_filtered {
                    return Err(self.error("`.` and the name of a search parameter"));
                }
                break;
            }
        }
        self.space();
        let operator = self.word();
        if operator.is_empty() {
            return Err(self.error("an operator such as eq"));
        }
        self.space();
        let value = self.value()?;
        Ok(Filter::Compare { path, operator, value })
    }

    /// A string in quotes, or what stands until the next space or closing bracket.
    fn value(&mut self) -> Result<String, Outcome> {
        let begin = self.place;
        if self.next_is('"') {
            let mut is_escaped = false;
            while let Some(c) = self.text.get(self.place) {
                self.place += 1;
                match c {
                    '"' if !is_escaped => {
                        let json: String = self.text[begin..self.place].iter().collect();
                        return serde_json::from_str(&json).map_err(|_| self.error("a string as JSON writes it, before"));
                    }
                    c => is_escaped = *c == '\\' && !is_escaped,
                }
            }
            return Err(self.error("the closing quote of a string"));
        }
        while self
            .text
            .get(self.place)
            .is_some_and(|c| !c.is_whitespace() && !matches!(c, ')' | ']'))
        {
            self.place += 1;
        }
        match begin == self.place {
            true => Err(self.error("a value")),
            false => Ok(self.text[begin..self.place].iter().collect()),
        }
    }

    fn word(&mut self) -> String {
        let rest = self.text[self.place..].iter();
        let word: String = rest.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
        self.place += word.len();
        word
    }

    fn space(&mut self) {
        while self.text.get(self.place).is_some_and(|c| c.is_whitespace()) {
            self.place += 1;
        }
    }

    fn next_is(&mut self, wanted: char) -> bool {
        let is_next = self.text.get(self.place) == Some(&wanted);
        self.place += usize::from(is_next);
        is_next
    }

    fn error(&self, expected: &str) -> Outcome {
        Outcome::invalid(format!("_filter: at character {} it needs {expected}", self.place + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Filter, Outcome> {
        let mut reader = Reader {
            text: text.chars().collect(),
            place: 0,
            comparisons: 0,
            comparisons_max: 8,
        };
        let filter = reader.filter(0)?;
        reader.space();
        match reader.place == reader.text.len() {
            true => Ok(filter),
            false => Err(reader.error("the end")),
        }
    }

    fn compare(name: &str, operator: &str, value: &str) -> Filter {
        Filter::Compare {
            path: vec![(name.to_owned(), None)],
            operator: operator.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        // https://hl7.org/fhir/R4/search_filter.html
        assert_eq!(
            read(r#"given eq "peter" and birthdate ge 2014-10-10"#),
            Ok(Filter::And(
                Box::new(compare("given", "eq", "peter")),
                Box::new(compare("birthdate", "ge", "2014-10-10"))
            ))
        );
        assert_eq!(
            read("code eq http://loinc.org|1234-5 or not (status eq final)"),
            Ok(Filter::Or(
                Box::new(compare("code", "eq", "http://loinc.org|1234-5")),
                Box::new(Filter::Not(Box::new(compare("status", "eq", "final"))))
            ))
        );
        let Ok(Filter::Compare { path, .. }) = read(r#"subject[birthdate lt 2000].name co "ro\"ssi""#) else {
            panic!("a chain");
        };
        assert_eq!(path.len(), 2);
        assert_eq!(path[0].1, Some(compare("birthdate", "lt", "2000")));
    }

    #[test]
    fn and_and_or_are_read_from_left_to_right() {
        let one = || Box::new(compare("a", "eq", "1"));
        assert_eq!(
            read("a eq 1 or a eq 1 and a eq 1"),
            Ok(Filter::And(Box::new(Filter::Or(one(), one())), one()))
        );
        assert_eq!(
            read("a eq 1 or (a eq 1 and a eq 1)"),
            Ok(Filter::Or(one(), Box::new(Filter::And(one(), one()))))
        );
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_place() {
        for (text, place) in [
            ("", "character 1 "),
            ("given", "character 6 "),
            ("given eq", "character 9 "),
            ("(given eq a", "character 12 "),
            ("given eq a)", "character 11 "),
            ("given eq a b", "character 12 "),
            (r#"given eq "a"#, "character 12 "),
            ("given eq a and", "character 15 "),
            ("a[b eq 1] eq 2", "character 10 "),
        ] {
            let outcome = read(text).expect_err(text);
            assert!(outcome.summary().contains(place), "{text}: {outcome}");
        }
    }

    #[test]
    fn nesting_and_comparisons_are_bounded() {
        let nested = format!("{}a eq 1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(read(&nested).expect_err("too deep").summary().contains("nested at most"));
        let many = ["a eq 1"; 9].join(" or ");
        assert!(read(&many).expect_err("too many").summary().contains("search.values_max"));
    }
}
