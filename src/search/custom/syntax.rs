//! The part of FHIRPath that expressions of one's own SearchParameters may use, read into a tree.
//!
//! Paths, `|`, `as`, `ofType()`, `extension()`, `where()`, `[n]`, `first()`, `last()`, `exists()`, `empty()`, `not()`, `resolve() is T`, and in
//! conditions `=`, `!=`, `and`, `or` with literals. What is outside is refused with its place: nothing is skipped.
//! Spec: <http://hl7.org/fhirpath/N1/>, <https://hl7.org/fhir/R4/fhirpath.html>.

use std::fmt;

/// Bounds the work of reading one expression, and of evaluating it on each resource.
pub const EXPRESSION_BYTES_MAX: usize = 4_096;
/// Parentheses and arguments inside each other: bounds the stack.
const DEPTH_MAX: usize = 16;

/// What is wrong with an expression, and where: an offset in its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub at: usize,
    pub text: String,
}

impl Wrong {
    pub fn new(at: usize, text: impl Into<String>) -> Wrong {
        Wrong { at, text: text.into() }
    }

    /// With the piece of the expression that it is about.
    pub fn told(&self, expression: &str) -> String {
        let rest: String = expression.get(self.at..).unwrap_or_default().chars().take(40).collect();
        match rest.is_empty() {
            true => format!("at its end: {}", self.text),
            false => format!("at character {}, `{rest}`: {}", self.at + 1, self.text),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    Path(Head, Vec<Step>),
    Union(Vec<Expression>),
    Text(String),
    Number(f64),
    Boolean(bool),
    Equal(Box<Expression>, Box<Expression>),
    Unequal(Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
}

/// What a path starts from.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// The item that a condition is asked of, or the resource.
    This,
    /// The resource, if it is of this type.
    Type(usize, String),
    Group(Box<Expression>),
}

/// A step, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub at: usize,
    pub does: Does,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Does {
    Member(String),
    OfType(String),
    /// The extensions with this url.
    Extension(String),
    Where(Expression),
    Index(usize),
    Last,
    Exists,
    Empty,
    Not,
    Is(String),
    /// `resolve()`, which only stands before `is`.
    Resolve,
    /// `resolve() is T`
    ResolvesTo(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    /// In back quotes: never a keyword.
    Quoted(String),
    Text(String),
    Number(String),
    Symbol(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Name(text) | Token::Number(text) | Token::Quoted(text) => f.write_str(text),
            Token::Text(_) => f.write_str("a text"),
            Token::Symbol(symbol) => f.write_str(symbol),
        }
    }
}

/// Reads an expression. Errors: the first thing that is not read.
pub fn parse(text: &str) -> Result<Expression, Wrong> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(Wrong::new(0, format!("an expression has at most {EXPRESSION_BYTES_MAX} bytes")));
    }
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        end: text.len(),
        depth: 0,
    };
    let expression = parser.union()?;
    match parser.peek() {
        None => Ok(expression),
        Some(token) => Err(Wrong::new(
            parser.at(),
            format!("{token} is not expected here: an expression is one or several paths joined by |"),
        )),
    }
}

const SYMBOLS: &[&str] = &[
    "!=", "!~", "<=", ">=", ".", "(", ")", "[", "]", "|", "=", ",", "~", "<", ">", "+", "-", "*", "/", "&",
];

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Wrong> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        let rest = &text[at..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = |is: &dyn Fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let token = if c.is_ascii_alphabetic() || c == '_' || c == '$' || c == '%' {
            let end = 1 + rest[1..].find(|c| !is_name(c)).unwrap_or(rest.len() - 1);
            at += end;
            Token::Name(rest[..end].to_owned())
        } else if c.is_ascii_digit() {
            let end = length(&|c| c.is_ascii_digit());
            let decimals = rest[end..]
                .strip_prefix('.')
                .map_or(0, |d| d.find(|c: char| !c.is_ascii_digit()).unwrap_or(d.len()));
            let end = if decimals > 0 { end + 1 + decimals } else { end };
            at += end;
            Token::Number(rest[..end].to_owned())
        } else if c == '\'' || c == '`' {
            let (value, end) = quoted(rest, c).ok_or_else(|| Wrong::new(start, "a quote that is not closed, or an escape that is none"))?;
            at += end;
            if c == '`' { Token::Quoted(value) } else { Token::Text(value) }
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            at += symbol.len();
            Token::Symbol(symbol)
        } else {
            return Err(Wrong::new(start, "this character has no place in an expression"));
        };
        tokens.push((start, token));
    }
    Ok(tokens)
}

/// What stands between quotes, and where it ends after the second.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((value, at + 1)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'f' => '\u{c}',
                'u' => {
                    let code: String = (0..4).filter_map(|_| chars.next().map(|(_, c)| c)).collect();
                    char::from_u32(u32::from_str_radix(&code, 16).ok()?)?
                }
                c @ ('\'' | '"' | '`' | '\\' | '/') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Symbol(s)) if *s == symbol);
        self.next += usize::from(is);
        is
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Name(name)) if name == word);
        self.next += usize::from(is);
        is
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Wrong> {
        let at = self.at();
        match self.takes(symbol) {
            true => Ok(()),
            false => Err(Wrong::new(at, format!("expected {symbol}"))),
        }
    }

    fn name(&mut self, what: &str) -> Result<String, Wrong> {
        match self.tokens.get(self.next) {
            Some((_, Token::Name(name) | Token::Quoted(name))) if !name.starts_with(['$', '%']) => {
                self.next += 1;
                Ok(name.clone())
            }
            _ => Err(Wrong::new(self.at(), format!("expected {what}"))),
        }
    }

    /// The name of a type, with or without `FHIR.` before it.
    fn type_name(&mut self) -> Result<String, Wrong> {
        let name = self.name("a type")?;
        match name == "FHIR" && self.takes(".") {
            true => self.name("a type"),
            false => Ok(name),
        }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Parser) -> Result<T, Wrong>) -> Result<T, Wrong> {
        if self.depth == DEPTH_MAX {
            return Err(Wrong::new(
                self.at(),
                format!("parentheses stand in each other at most {DEPTH_MAX} deep"),
            ));
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    /// `or`, the loosest.
    fn condition(&mut self) -> Result<Expression, Wrong> {
        let mut left = self.conjunction()?;
        while self.takes_word("or") {
            left = Expression::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Expression, Wrong> {
        let mut left = self.comparison()?;
        while self.takes_word("and") {
            left = Expression::And(Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expression, Wrong> {
        let left = self.union()?;
        let at = self.at();
        if self.takes("=") {
            return Ok(Expression::Equal(Box::new(left), Box::new(self.union()?)));
        }
        if self.takes("!=") {
            return Ok(Expression::Unequal(Box::new(left), Box::new(self.union()?)));
        }
        match self.peek() {
            Some(Token::Symbol(symbol)) if ![")", "|", ","].contains(symbol) => Err(Wrong::new(
                at,
                format!("the operator {symbol} is not read: conditions have =, !=, and, or"),
            )),
            _ => Ok(left),
        }
    }

    fn union(&mut self) -> Result<Expression, Wrong> {
        let mut parts = vec![self.typed()?];
        while self.takes("|") {
            parts.push(self.typed()?);
        }
        Ok(if parts.len() == 1 {
            parts.remove(0)
        } else {
            Expression::Union(parts)
        })
    }

    /// `path as T`, `path is T`.
    fn typed(&mut self) -> Result<Expression, Wrong> {
        let mut path = self.path()?;
        loop {
            let at = self.at();
            let does = if self.takes_word("as") {
                Does::OfType(self.type_name()?)
            } else if self.takes_word("is") {
                Does::Is(self.type_name()?)
            } else {
                break;
            };
            let (head, mut steps) = match path {
                Expression::Path(head, steps) => (head, steps),
                other => (Head::Group(Box::new(other)), Vec::new()),
            };
            match (&does, steps.last_mut()) {
                (Does::Is(name), Some(last)) if last.does == Does::Resolve => last.does = Does::ResolvesTo(name.clone()),
                _ => steps.push(Step { at, does }),
            }
            path = Expression::Path(head, steps);
        }
        match &path {
            Expression::Path(_, steps) => match steps.iter().find(|step| step.does == Does::Resolve) {
                Some(step) => Err(Wrong::new(
                    step.at,
                    "resolve() is only read in resolve() is [type]: other resources are not read",
                )),
                None => Ok(path),
            },
            _ => Ok(path),
        }
    }

    fn path(&mut self) -> Result<Expression, Wrong> {
        let at = self.at();
        let mut steps = Vec::new();
        let head = match self.peek().cloned() {
            Some(Token::Text(text)) => {
                self.next += 1;
                return Ok(Expression::Text(text));
            }
            Some(Token::Number(number)) => {
                self.next += 1;
                let number = number.parse().map_err(|_| Wrong::new(at, "not a number"))?;
                return Ok(Expression::Number(number));
            }
            Some(Token::Name(word)) if word == "true" || word == "false" => {
                self.next += 1;
                return Ok(Expression::Boolean(word == "true"));
            }
            Some(Token::Symbol("(")) => {
                self.next += 1;
                let inner = self.deeper(Parser::condition)?;
                self.expect(")")?;
                Head::Group(Box::new(inner))
            }
            Some(Token::Name(name)) if name == "$this" => {
                self.next += 1;
                Head::This
            }
            Some(Token::Name(name)) if name.starts_with(['$', '%']) => return Err(Wrong::new(at, format!("{name} is not read"))),
            // Types begin with a capital, elements do not.
            Some(Token::Name(name)) if name.starts_with(|c: char| c.is_ascii_uppercase()) => Head::Type(at, self.type_name()?),
            _ => {
                steps.push(self.step()?);
                Head::This
            }
        };
        loop {
            let at = self.at();
            if self.takes(".") {
                steps.push(self.step()?);
            } else if self.takes("[") {
                let index = match self.peek() {
                    Some(Token::Number(number)) => number.parse().ok(),
                    _ => None,
                };
                let index = index.ok_or_else(|| Wrong::new(self.at(), "expected a whole number from 0"))?;
                self.next += 1;
                self.expect("]")?;
                steps.push(Step {
                    at,
                    does: Does::Index(index),
                });
            } else {
                return Ok(Expression::Path(head, steps));
            }
        }
    }

    /// An element or a function.
    fn step(&mut self) -> Result<Step, Wrong> {
        let at = self.at();
        let name = self.name("an element or a function")?;
        let does = match self.takes("(") {
            false => Does::Member(name),
            true => {
                let does = self.deeper(|parser| parser.function(at, &name))?;
                self.expect(")")?;
                does
            }
        };
        Ok(Step { at, does })
    }

    fn function(&mut self, at: usize, name: &str) -> Result<Does, Wrong> {
        Ok(match name {
            "as" | "ofType" => Does::OfType(self.type_name()?),
            "is" => Does::Is(self.type_name()?),
            "where" => Does::Where(self.condition()?),
            "first" => Does::Index(0),
            "last" => Does::Last,
            // With a condition: `where(...).exists()` says the same.
            "exists" if matches!(self.peek(), Some(Token::Symbol(")"))) => Does::Exists,
            "exists" => return Err(Wrong::new(at, "exists() with a condition is not read: write where(...).exists()")),
            "empty" => Does::Empty,
            "not" => Does::Not,
            "resolve" => Does::Resolve,
            "extension" => match self.tokens.get(self.next) {
                Some((_, Token::Text(url))) => {
                    let url = url.clone();
                    self.next += 1;
                    Does::Extension(url)
                }
                _ => return Err(Wrong::new(self.at(), "extension() needs the url of the extension, in quotes")),
            },
            _ => {
                let read = "as, ofType, is, extension, where, first, last, exists, empty, not, resolve() is [type]";
                return Err(Wrong::new(at, format!("the function {name} is not read; those that are: {read}")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_is_refused_with_its_place() {
        for (text, told) in [
            ("", "at its end: expected an element or a function"),
            (
                "Patient.name.matches('a')",
                "at character 14, `matches('a')`: the function matches is not read",
            ),
            (
                "Patient.name.where(use > 'a')",
                "at character 24, `> 'a')`: the operator > is not read",
            ),
            ("Patient.name[x]", "at character 14, `x]`: expected a whole number from 0"),
            ("(Patient.name", "at its end: expected )"),
            ("Patient.name)", "at character 13, `)`: ) is not expected here"),
            ("Patient.name + 'a'", "at character 14, `+ 'a'`: + is not expected here"),
            ("Patient.name = 'a'", "at character 14, `= 'a'`: = is not expected here"),
            (
                "Patient.link.other.resolve().name",
                "at character 20, `resolve().name`: resolve() is only read in",
            ),
            ("Patient.extension(url)", "at character 19, `url)`: extension() needs the url"),
            ("%resource.id", "at character 1, `%resource.id`: %resource is not read"),
            ("Patient.name.where(use = 'a", "at character 26, `'a`: a quote that is not closed"),
            ("Patient;name", "at character 8, `;name`: this character has no place"),
            (
                "Patient.name.exists(use = 'a')",
                "at character 14, `exists(use = 'a')`: exists() with a condition",
            ),
        ] {
            let wrong = parse(text).expect_err(text).told(text);
            assert!(wrong.starts_with(told), "{text}: {wrong}");
        }
        let deep = format!("{}Patient.name{}", "(".repeat(DEPTH_MAX + 1), ")".repeat(DEPTH_MAX + 1));
        assert!(parse(&deep).expect_err("too deep").text.contains("at most 16 deep"));
        assert!(parse(&deep[1..deep.len() - 1]).is_ok());
        assert!(parse(&"a".repeat(EXPRESSION_BYTES_MAX + 1)).is_err());
    }
}
