//! XML as far as FHIR needs it: tags with their namespaces, text, references; everything else is passed over or refused.
//!
//! `quick-xml` finds where each piece of markup ends and whether tags match. It leaves to its users what stands in a tag, which names and characters
//! XML allows, and namespaces: these are checked here, so that what was read is well-formed and can be written again as it stands.
//! Nothing recurses, and every look-up is bounded. Spec: <https://www.w3.org/TR/xml/>, <https://www.w3.org/TR/xml-names/>.

use crate::fhir::xml::ATTRIBUTES_MAX;
use crate::fhir::xml::DEPTH_MAX;
use crate::fhir::xml::FHIR;
use crate::fhir::xml::NAMESPACES_MAX;
use crate::fhir::xml::XHTML;
use quick_xml::Reader;
use quick_xml::errors::Error;
use quick_xml::errors::IllFormedError;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use std::borrow::Cow;

const XML_SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// What is wrong, and the place in bytes. Never contains text of the input.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    pub what: String,
    pub at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    Fhir,
    Xhtml,
    /// `xsi`, of which `schemaLocation` may stand in FHIR; a word to other software.
    SchemaInstance,
    /// None, or one that has no place here.
    Other,
}

#[derive(Debug, Clone)]
pub struct Attribute<'a> {
    /// As written; those of namespace declarations too.
    pub name: &'a str,
    /// As written, without its quotes.
    pub raw: &'a str,
    /// Of a name with a prefix other than XML's own.
    pub namespace: Option<Namespace>,
}

#[derive(Debug)]
pub struct Start<'a> {
    pub prefix: &'a str,
    pub local: &'a str,
    pub namespace: Namespace,
    pub attributes: Vec<Attribute<'a>>,
    /// `<a/>`: no end follows.
    pub is_empty: bool,
    /// The whole tag, as written.
    pub raw: &'a str,
}

#[derive(Debug)]
pub enum Token<'a> {
    Start(Start<'a>),
    /// Its local name.
    End(&'a str),
    /// Text, a reference or a CDATA section, as written.
    Text(&'a str),
    /// As written.
    Comment(&'a str),
    Eof,
}

struct Scope<'a> {
    prefix: &'a str,
    namespace: Namespace,
    depth: usize,
}

/// The tokens of a text.
pub struct Markup<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    scopes: Vec<Scope<'a>>,
    depth: usize,
    has_root: bool,
    /// Where the token that was read last begins.
    at: usize,
}

impl<'a> Markup<'a> {
    /// A whole document. The ends of its lines are as XML wants them read: LF.
    /// Errors: a character that XML does not have.
    pub fn document(text: &'a str) -> Result<Markup<'a>, Malformed> {
        if let Some(at) = text.char_indices().find(|(_, c)| !is_char(*c)).map(|(at, _)| at) {
            return Err(malformed(at, "a character that XML does not allow, not even escaped"));
        }
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_comments = true;
        Ok(Markup {
            text,
            reader,
            scopes: Vec::new(),
            depth: 0,
            has_root: false,
            at: 0,
        })
    }

    /// A narrative as JSON has it: its namespace may be left out.
    pub fn narrative(text: &'a str) -> Result<Markup<'a>, Malformed> {
        let mut markup = Markup::document(text)?;
        markup.scopes.push(Scope {
            prefix: "",
            namespace: Namespace::Xhtml,
            depth: 0,
        });
        Ok(markup)
    }

    pub fn error<T>(&self, what: impl Into<String>) -> Result<T, Malformed> {
        Err(malformed(self.at, what))
    }

    /// The next token that means something: what stands around the root and processing instructions do not.
    pub fn next(&mut self) -> Result<Token<'a>, Malformed> {
        loop {
            self.at = self.position();
            let event = self.reader.read_event();
            let end = self.position();
            let raw = &self.text[self.at.min(end)..end];
            match event {
                Err(error) => return Err(self.told(&error)),
                Ok(Event::Start(_)) => return self.start(raw, false).map(Token::Start),
                Ok(Event::Empty(_)) => return self.start(raw, true).map(Token::Start),
                Ok(Event::End(_)) => return Ok(Token::End(self.end(raw))),
                Ok(Event::Text(_)) if raw.contains("]]>") => return self.error("]]> in a text: write ]]&gt;"),
                Ok(Event::Text(_)) if self.depth == 0 && raw.trim_matches(is_space).is_empty() => {}
                Ok(Event::GeneralRef(_)) if reference(raw).is_none() => return self.error(UNKNOWN_REFERENCE),
                Ok(Event::Text(_) | Event::GeneralRef(_) | Event::CData(_)) if self.depth > 0 => return Ok(Token::Text(raw)),
                Ok(Event::Text(_) | Event::GeneralRef(_) | Event::CData(_)) => return self.error("text outside of the root element"),
                Ok(Event::Comment(_)) if self.depth > 0 => return Ok(Token::Comment(raw)),
                Ok(Event::Comment(_) | Event::PI(_)) => {}
                Ok(Event::Decl(_)) => self.declaration(raw)?,
                Ok(Event::DocType(_)) => return self.error("DOCTYPE: FHIR has none, and nothing that one declares is looked at"),
                Ok(Event::Eof) if self.depth > 0 => return self.error("the text ends before its elements do"),
                Ok(Event::Eof) if !self.has_root => return self.error("there is no element"),
                Ok(Event::Eof) => return Ok(Token::Eof),
            }
        }
    }

    /// The next token in an element, `None` at its end. Of elements in it the end is read elsewhere.
    pub fn next_in(&mut self, parent: &Start<'a>) -> Result<Option<Token<'a>>, Malformed> {
        if parent.is_empty {
            return Ok(None);
        }
        let token = self.next()?;
        Ok(match token {
            Token::End(_) | Token::Eof => None,
            token => Some(token),
        })
    }

    fn position(&self) -> usize {
        (self.reader.buffer_position() as usize).min(self.text.len())
    }

    /// quick-xml's errors in our words, which hold nothing of the input.
    fn told(&self, error: &Error) -> Malformed {
        let what = match error {
            Error::IllFormed(IllFormedError::MismatchedEndTag { .. }) => "an end tag with another name than its start tag",
            Error::IllFormed(IllFormedError::UnmatchedEndTag(_)) => "an end tag without a start tag",
            Error::IllFormed(IllFormedError::DoubleHyphenInComment) => "-- in a comment",
            Error::IllFormed(IllFormedError::UnclosedReference) => "& without a reference: write &amp;",
            Error::IllFormed(IllFormedError::MissingDoctypeName) => "DOCTYPE: FHIR has none",
            Error::Syntax(_) => "markup that does not end, or that XML does not have",
            _ => "not well-formed XML",
        };
        malformed((self.reader.error_position() as usize).min(self.text.len()), what)
    }

    fn declaration(&self, raw: &str) -> Result<(), Malformed> {
        if self.at > 0 {
            return self.error("an XML declaration stands at the very beginning");
        }
        let attributes = attributes(raw.trim_start_matches("<?xml").trim_end_matches("?>")).or_else(|what| self.error(what))?;
        let is_right = |a: &Attribute<'_>| match a.name {
            "version" => a.raw == "1.0",
            "encoding" => a.raw.eq_ignore_ascii_case("utf-8"),
            "standalone" => true,
            _ => false,
        };
        match attributes.iter().all(is_right) && attributes.first().is_some_and(|a| a.name == "version") {
            true => Ok(()),
            false => self.error("an XML declaration other than <?xml version=\"1.0\" encoding=\"UTF-8\"?>"),
        }
    }

    fn start(&mut self, raw: &'a str, is_empty: bool) -> Result<Start<'a>, Malformed> {
        if self.depth == 0 && self.has_root {
            return self.error("a second root element");
        }
        self.has_root = true;
        if self.depth == DEPTH_MAX {
            return self.error(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.depth += 1;
        let inner = &raw[1..raw.len() - if is_empty { 2 } else { 1 }];
        let (name, rest) = inner.split_at(inner.find(is_space).unwrap_or(inner.len()));
        let (prefix, local) = split(name).map_or_else(|| self.error("a tag without a name that XML and FHIR have"), Ok)?;
        let mut attributes = attributes(rest).or_else(|what| self.error(what))?;
        for attribute in &attributes {
            self.declare(attribute)?;
        }
        let namespace = self.namespace(prefix)?;
        for attribute in &mut attributes {
            let prefix = attribute.name.split_once(':').map(|(prefix, _)| prefix);
            let prefix = prefix.filter(|prefix| *prefix != "xml" && *prefix != "xmlns");
            attribute.namespace = prefix.map(|prefix| self.namespace(prefix)).transpose()?;
        }
        if is_empty {
            self.leave();
        }
        Ok(Start {
            prefix,
            local,
            namespace,
            attributes,
            is_empty,
            raw,
        })
    }

    fn end(&mut self, raw: &'a str) -> &'a str {
        self.leave();
        let name = raw[2..raw.len() - 1].trim_end_matches(is_space);
        name.split_once(':').map_or(name, |(_, local)| local)
    }

    fn leave(&mut self) {
        while self.scopes.last().is_some_and(|scope| scope.depth == self.depth) {
            self.scopes.pop();
        }
        self.depth -= 1;
    }

    fn declare(&mut self, attribute: &Attribute<'a>) -> Result<(), Malformed> {
        let Some(rest) = attribute.name.strip_prefix("xmlns") else {
            return Ok(());
        };
        let prefix = match rest.strip_prefix(':') {
            Some(prefix) => prefix,
            None if rest.is_empty() => "",
            None => return Ok(()),
        };
        if self.scopes.len() == NAMESPACES_MAX {
            return self.error(format!("more than {NAMESPACES_MAX} namespaces around one element"));
        }
        let Some(uri) = decoded(attribute.raw) else {
            return self.error(UNKNOWN_REFERENCE);
        };
        self.scopes.push(Scope {
            prefix,
            namespace: match uri.as_ref() {
                FHIR => Namespace::Fhir,
                XHTML => Namespace::Xhtml,
                XML_SCHEMA_INSTANCE => Namespace::SchemaInstance,
                _ => Namespace::Other,
            },
            depth: self.depth,
        });
        Ok(())
    }

    /// Errors: the prefix is not declared, or its namespace has no place here.
    fn namespace(&self, prefix: &str) -> Result<Namespace, Malformed> {
        match self
            .scopes
            .iter()
            .rev()
            .find(|scope| scope.prefix == prefix)
            .map(|scope| scope.namespace)
        {
            Some(Namespace::Other) => self.error(format!(
                "a namespace that FHIR does not have: elements are in {FHIR}, those of a narrative in {XHTML}"
            )),
            Some(namespace) => Ok(namespace),
            None if prefix.is_empty() => self.error(format!("an element without a namespace: the root needs xmlns=\"{FHIR}\"")),
            None => self.error("a prefix that no xmlns declares"),
        }
    }
}

pub const UNKNOWN_REFERENCE: &str = "a reference other than &lt; &gt; &amp; &quot; &apos; and those of characters: FHIR has no other entities, so write the character itself";

fn malformed(at: usize, what: impl Into<String>) -> Malformed {
    Malformed { what: what.into(), at }
}

/// XML's white space.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// XML's characters.
pub fn is_char(c: char) -> bool {
    !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

/// Prefix and local name; `None` for what is no name, or none that FHIR or XHTML could have.
fn split(name: &str) -> Option<(&str, &str)> {
    let (prefix, local) = name.split_once(':').unwrap_or(("", name));
    let is_name = |name: &str| {
        let is_rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        name.bytes().all(is_rest) && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    };
    (is_name(local) && (prefix.is_empty() && !name.starts_with(':') || is_name(prefix))).then_some((prefix, local))
}

/// The attributes of a tag, from after its name. Strict, since quick-xml is not: white space before each, quotes, no `<`, no name twice.
fn attributes(tag: &str) -> Result<Vec<Attribute<'_>>, String> {
    let mut found: Vec<Attribute<'_>> = Vec::new();
    let mut rest = tag;
    loop {
        let trimmed = rest.trim_start_matches(is_space);
        if trimmed.is_empty() {
            return Ok(found);
        }
        let name_end = trimmed.find(|c| c == '=' || is_space(c)).unwrap_or(trimmed.len());
        let (name, after) = trimmed.split_at(name_end);
        if trimmed.len() == rest.len() || split(name).is_none() {
            return Err("an attribute without white space before it, or without a name that XML and FHIR have".to_owned());
        }
        let value = after
            .trim_start_matches(is_space)
            .strip_prefix('=')
            .map(|v| v.trim_start_matches(is_space));
        let quote = value.and_then(|v| v.chars().next()).filter(|c| matches!(c, '"' | '\''));
        let (Some(value), Some(quote)) = (value, quote) else {
            return Err("an attribute without a value in quotes".to_owned());
        };
        let Some((raw, after)) = value[1..].split_once(quote) else {
            return Err("an attribute whose quotes do not end".to_owned());
        };
        if raw.contains('<') {
            return Err("< in an attribute: write &lt;".to_owned());
        }
        if found.len() == ATTRIBUTES_MAX {
            return Err(format!("an element with more than {ATTRIBUTES_MAX} attributes"));
        }
        if found.iter().any(|a| a.name == name) {
            return Err("an attribute that its element has twice".to_owned());
        }
        found.push(Attribute {
            name,
            raw,
            namespace: None,
        });
        rest = after;
    }
}

/// What a reference stands for: `&lt;`, `&#169;`, `&#xA9;`.
fn reference(raw: &str) -> Option<char> {
    let name = raw.strip_prefix('&')?.strip_suffix(';')?;
    let Some(number) = name.strip_prefix('#') else {
        return resolve_predefined_entity(name)?.chars().next();
    };
    let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
    let is_number = digits.len() <= 16 && digits.chars().all(|c| c.is_digit(radix));
    let code = u32::from_str_radix(digits, radix).ok().filter(|_| is_number)?;
    char::from_u32(code).filter(|c| is_char(*c))
}

/// The value of an attribute: references resolved, white space made spaces unless it is escaped. `None` for an unknown reference.
pub fn decoded(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains(['&', '\t', '\n']) {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '\t', '\n']) {
        out.push_str(&rest[..at]);
        let mut used = at + 1;
        match rest.as_bytes()[at] {
            b'&' => {
                used = at + rest[at..].find(';')? + 1;
                out.push(reference(&rest[at..used])?);
            }
            _ => out.push(' '),
        }
        rest = &rest[used..];
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}
