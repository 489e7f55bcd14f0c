//! The paths of FHIRPath Patch, read: members, indexes and the few functions that select. What else FHIRPath has is refused by name.
//! Spec: <https://hl7.org/fhir/R4/fhirpatch.html>, <http://hl7.org/fhirpath/N1/>.

use crate::outcome::Outcome;

/// Deepest nesting of conditions.
const DEPTH_MAX: usize = 16;

const SUPPORTED: &str = "paths have members, [index], first(), last(), where(...), ofType(Type) and extension('url'); conditions have =, !=, and, or, \
    exists(), empty(), not() and parentheses";

#[derive(Debug, Clone, PartialEq)]
pub enum PathStep {
    Member(String),
    Index(usize),
    First,
    Last,
    OfType(String),
    Where(Condition),
    /// In conditions only.
    Exists(Option<Condition>),
    Empty,
    Not,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Equal(Operand, Operand),
    Differs(Operand, Operand),
    Holds(Operand),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Path(Vec<PathStep>),
    /// A string, or a date or time without its `@`.
    Text(String),
    Number(String),
    Boolean(bool),
    Nested(Box<Condition>),
}

/// Reads the path of an operation. Errors: 400 saying where and what is supported.
pub fn read(text: &str) -> Result<Vec<PathStep>, Outcome> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let path = reader.path()?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.wrong("is not expected there"));
    }
    if let Some(step) = path
        .iter()
        .find(|s| matches!(s, PathStep::Exists(_) | PathStep::Empty | PathStep::Not))
    {
        let name = match step {
            PathStep::Exists(_) => "exists",
            PathStep::Empty => "empty",
            _ => "not",
        };
        return Err(refused(format!("{name}() gives no element of the resource")));
    }
    Ok(path)
}

fn refused(text: String) -> Outcome {
    Outcome::invalid(format!("{text}: {SUPPORTED}")).with_code("not-supported")
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes these characters, with white space before them.
    fn take(&mut self, expected: &str) -> bool {
        self.space();
        let is_there = self.rest().starts_with(expected);
        if is_there {
            self.at += expected.len();
        }
        is_there
    }

    /// Takes a word: not the begin of a longer one.
    fn take_word(&mut self, word: &str) -> bool {
        self.space();
        let rest = self.rest();
        let is_there = rest.starts_with(word) && !rest[word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if is_there {
            self.at += word.len();
        }
        is_there
    }

    fn expect(&mut self, expected: &str) -> Result<(), Outcome> {
        match self.take(expected) {
            true => Ok(()),
            false => Err(self.wrong(&format!("was found where {expected} is expected"))),
        }
    }

    /// Never quotes the path: a condition may hold what identifies a person.
    fn wrong(&self, what: &str) -> Outcome {
        let found = match self.rest().chars().next() {
            None => "its end".to_owned(),
            Some(_) => format!("the character at place {}", self.text[..self.at].chars().count() + 1),
        };
        refused(format!("The path cannot be read: {found} {what}"))
    }

    fn name(&mut self) -> Result<String, Outcome> {
        self.space();
        if let Some(rest) = self.rest().strip_prefix('`') {
            let end = rest.find('`').ok_or_else(|| self.wrong("begins a name that does not end"))?;
            self.at += end + 2;
            return Ok(rest[..end].to_owned());
        }
        let rest = self.rest();
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if length == 0 || rest.as_bytes()[0].is_ascii_digit() {
            return Err(self.wrong("is not the begin of a name"));
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    fn path(&mut self) -> Result<Vec<PathStep>, Outcome> {
        let mut steps = Vec::new();
        self.step(&mut steps)?;
        loop {
            if self.take("[") {
                steps.push(PathStep::Index(self.number()?));
                self.expect("]")?;
            } else if self.take(".") {
                self.step(&mut steps)?;
            } else {
                return Ok(steps);
            }
        }
    }

    fn number(&mut self) -> Result<usize, Outcome> {
        self.space();
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..length].parse().map_err(|_| self.wrong("is not a whole number"))?;
        self.at += length;
        Ok(number)
    }

    /// A member or a function.
    fn step(&mut self, steps: &mut Vec<PathStep>) -> Result<(), Outcome> {
        self.space();
        if self.rest().starts_with('$') && self.take("$this") {
            return Ok(());
        }
        if self.rest().starts_with('%') {
            return Err(self.wrong("begins a variable, and those are not supported"));
        }
        let name = self.name()?;
        if !self.take("(") {
            steps.push(PathStep::Member(name));
            return Ok(());
        }
        let step = match name.as_str() {
            "first" => PathStep::First,
            "last" => PathStep::Last,
            "where" => PathStep::Where(self.nested()?),
            "exists" if self.rest().trim_start().starts_with(')') => PathStep::Exists(None),
            "exists" => PathStep::Exists(Some(self.nested()?)),
            "empty" => PathStep::Empty,
            "not" => PathStep::Not,
            "ofType" | "as" => {
                let mut of = self.name()?;
                while self.take(".") {
                    of = self.name()?;
                }
                PathStep::OfType(of)
            }
            "extension" => {
                let url = self.string()?;
                steps.push(PathStep::Member("extension".to_owned()));
                PathStep::Where(Condition::Equal(
                    Operand::Path(vec![PathStep::Member("url".to_owned())]),
                    Operand::Text(url),
                ))
            }
            _ => return Err(refused(format!("The function {}() is not supported in paths", shown(&name)))),
        };
        steps.push(step);
        self.expect(")")
    }

    fn nested(&mut self) -> Result<Condition, Outcome> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(refused(format!("Conditions nest deeper than {DEPTH_MAX} levels")));
        }
        let mut condition = self.conjunction()?;
        while self.take_word("or") {
            condition = Condition::Or(Box::new(condition), Box::new(self.conjunction()?));
        }
        self.depth -= 1;
        Ok(condition)
    }

    fn conjunction(&mut self) -> Result<Condition, Outcome> {
        let mut condition = self.comparison()?;
        while self.take_word("and") {
            condition = Condition::And(Box::new(condition), Box::new(self.comparison()?));
        }
        Ok(condition)
    }

    fn comparison(&mut self) -> Result<Condition, Outcome> {
        let left = self.operand()?;
        if self.take("!=") {
            return Ok(Condition::Differs(left, self.operand()?));
        }
        match self.take("=") {
            true => Ok(Condition::Equal(left, self.operand()?)),
            false => Ok(Condition::Holds(left)),
        }
    }

    fn operand(&mut self) -> Result<Operand, Outcome> {
        self.space();
        let rest = self.rest();
        if self.take("(") {
            let nested = self.nested()?;
            self.expect(")")?;
            return Ok(Operand::Nested(Box::new(nested)));
        }
        if rest.starts_with('\'') {
            return Ok(Operand::Text(self.string()?));
        }
        if let Some(date) = rest.strip_prefix('@') {
            let length = date
                .find(|c: char| !(c.is_ascii_alphanumeric() || "-+:.".contains(c)))
                .unwrap_or(date.len());
            self.at += length + 1;
            return Ok(Operand::Text(date[..length].trim_start_matches('T').to_owned()));
        }
        if rest.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            let length = rest[1..]
                .find(|c: char| !(c.is_ascii_digit() || c == '.'))
                .map_or(rest.len(), |i| i + 1);
            self.at += length;
            return Ok(Operand::Number(rest[..length].to_owned()));
        }
        if self.take_word("true") {
            return Ok(Operand::Boolean(true));
        }
        if self.take_word("false") {
            return Ok(Operand::Boolean(false));
        }
        Ok(Operand::Path(self.path()?))
    }

    /// A string in single quotes.
    fn string(&mut self) -> Result<String, Outcome> {
        self.expect("'")?;
        let mut out = String::new();
        let mut letters = self.rest().char_indices();
        while let Some((i, letter)) = letters.next() {
            match letter {
                '\'' => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' => match letters.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('f') => out.push('\u{c}'),
                    Some('u') => {
                        let digits: String = letters.by_ref().take(4).map(|(_, c)| c).collect();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        out.push(code.ok_or_else(|| self.wrong("begins a string with a wrong escape"))?);
                    }
                    Some(other @ ('\'' | '"' | '`' | '\\' | '/')) => out.push(other),
                    _ => return Err(self.wrong("begins a string with a wrong escape")),
                },
                other => out.push(other),
            }
        }
        Err(self.wrong("begins a string that does not end"))
    }
}

/// A name of the request in an error text: never long.
pub fn shown(name: &str) -> String {
    name.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_what_is_not_supported_is_named() {
        let member = |name: &str| PathStep::Member(name.to_owned());
        assert_eq!(
            read("Patient.contact[1].name.first()").unwrap(),
            [
                member("Patient"),
                member("contact"),
                PathStep::Index(1),
                member("name"),
                PathStep::First
            ]
        );
        for (path, expected) in [
            ("", "its end is not the begin of a name"),
            ("Patient..name", "the character at place 9 is not the begin of a name"),
            ("Patient.name[x]", "is not a whole number"),
            ("Patient.name[0", "its end was found where ] is expected"),
            ("Patient.name.children()", "The function children() is not supported"),
            (
                "Observation.subject.resolve().identifier",
                "The function resolve() is not supported",
            ),
            ("Patient.name.where(use = 'official)", "begins a string that does not end"),
            ("Patient.name.exists()", "exists() gives no element"),
            ("%resource.name", "begins a variable"),
            ("Patient.name | Patient.contact", "is not expected there"),
        ] {
            let outcome = read(path).expect_err(path);
            assert!(outcome.summary().contains(expected), "{path}: {outcome}");
        }
        let deep = format!("Patient.name.where({}true{})", "(".repeat(100_000), ")".repeat(100_000));
        assert!(read(&deep).expect_err("too deep").summary().contains("16 levels"));
    }
}
