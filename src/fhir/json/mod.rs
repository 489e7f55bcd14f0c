//! FHIR JSON, parsed once into a flat tape over the text as it was received.
//!
//! The tape keeps spans instead of values, so decimals (`107.50`), member order, escapes and `null` in
//! primitive arrays survive byte for byte: what we store and serve is cut from the original text.
//! Stricter than RFC 8259 where FHIR needs it: duplicate member names, NUL and lone surrogates are refused,
//! and nesting is bounded by [`DEPTH_MAX`] without recursion.
//! Spec: <https://hl7.org/fhir/R4/json.html>.

mod parser;

use crate::fhir::json::parser::Node;
use crate::fhir::json::parser::Parser;
use crate::fhir::json::parser::place;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Deepest nesting accepted. R4's own recursive structures (Questionnaire.item, extensions, contained bundles) stay far below.
pub const DEPTH_MAX: usize = 100;
/// Most values in one text: bounds the memory of the tape (24 bytes a value).
pub const VALUES_MAX: usize = 4_000_000;

/// What is wrong with a text that is not JSON as FHIR wants it. Never contains text of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    pub what: &'static str,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}, column {}", self.what, self.line, self.column)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A parsed text. Members of an object lie on the tape as name, value, name, value.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    tape: Vec<Node>,
    spaced: bool,
}

/// One JSON value of a [`Document`].
#[derive(Clone, Copy)]
pub struct Value<'d> {
    text: &'d str,
    tape: &'d [Node],
    at: u32,
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.raw())
    }
}

impl<'a> Document<'a> {
    /// Parses one JSON value with nothing but white space around it.
    /// Errors: the first place where the text is not JSON, a duplicate name, a bad string, or too deep.
    pub fn parse(bytes: &'a [u8]) -> Result<Document<'a>, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|e| place(bytes, e.valid_up_to(), "invalid UTF-8"))?;
        Document::parse_str(text)
    }

    /// As [`Document::parse`], for text already known to be UTF-8.
    pub fn parse_str(text: &'a str) -> Result<Document<'a>, JsonError> {
        if text.len() > u32::MAX as usize {
            return Err(JsonError {
                what: "text too long",
                line: 1,
                column: 1,
            });
        }
        let mut parser = Parser {
            text: text.as_bytes(),
            at: 0,
            tape: Vec::with_capacity(text.len() / 16 + 4),
            spaced: false,
        };
        parser.run().map_err(|what| place(text.as_bytes(), parser.at, what))?;
        Ok(Document {
            text,
            tape: parser.tape,
            spaced: parser.spaced,
        })
    }

    pub fn root(&self) -> Value<'_> {
        Value {
            text: self.text,
            tape: &self.tape,
            at: 0,
        }
    }

    /// The text holds white space between tokens.
    pub fn is_spaced(&self) -> bool {
        self.spaced
    }
}

impl<'d> Value<'d> {
    fn node(&self) -> &'d Node {
        &self.tape[self.at as usize]
    }

    fn at(&self, at: u32) -> Value<'d> {
        Value { at, ..*self }
    }

    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    pub fn is_object(&self) -> bool {
        self.kind() == Kind::Object
    }

    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// Where the value stands in the text, in bytes; a string's span includes its quotes.
    pub fn span(&self) -> Range<usize> {
        self.node().start as usize..self.node().end as usize
    }

    /// The value's own text, as received.
    pub fn raw(&self) -> &'d str {
        &self.text[self.span()]
    }

    /// The string's content; `None` if this is not a string.
    pub fn as_str(&self) -> Option<Cow<'d, str>> {
        let node = self.node();
        if node.kind != Kind::String {
            return None;
        }
        let inner = &self.text[node.start as usize + 1..node.end as usize - 1];
        Some(if node.escaped {
            Cow::Owned(unescape(inner))
        } else {
            Cow::Borrowed(inner)
        })
    }

    pub fn as_bool(&self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.raw() == "true")
    }

    /// The number's text, as received; `None` if this is not a number.
    pub fn as_number(&self) -> Option<&'d str> {
        (self.kind() == Kind::Number).then(|| self.raw())
    }

    /// Name and value of each member of an object, in order; nothing for other kinds.
    pub fn members(&self) -> Members<'d> {
        let node = self.node();
        let at = self.at + 1;
        Members {
            value: *self,
            at,
            end: if node.kind == Kind::Object { node.next } else { at },
        }
    }

    /// Each item of an array; a value that is no array is its own only item. `null` counts.
    pub fn items(&self) -> Items<'d> {
        let node = self.node();
        if node.kind == Kind::Array {
            Items {
                value: *self,
                at: self.at + 1,
                end: node.next,
            }
        } else {
            Items {
                value: *self,
                at: self.at,
                end: node.next,
            }
        }
    }

    /// The member of this name; `None` if there is none or this is no object.
    pub fn get(&self, name: &str) -> Option<Value<'d>> {
        self.members().find(|(key, _)| key.as_ref() == name).map(|(_, value)| value)
    }

    /// The string under this name.
    pub fn get_str(&self, name: &str) -> Option<Cow<'d, str>> {
        self.get(name).and_then(|v| v.as_str())
    }

    /// The value's text without white space between tokens.
    pub fn minified(&self) -> String {
        let mut out = String::with_capacity(self.span().len());
        self.minify_into(&mut out);
        out
    }

    /// The value's text on lines of their own, indented, for people.
    pub fn indented(&self) -> String {
        let mut out = String::with_capacity(self.span().len() * 2);
        self.indent_into(1, &mut out);
        out.push('\n');
        out
    }

    /// Recursion ends with the nesting, which is bounded.
    fn indent_into(&self, depth: usize, out: &mut String) {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        };
        let (open, close) = match self.kind() {
            Kind::Object => ('{', '}'),
            Kind::Array => ('[', ']'),
            _ => return out.push_str(self.raw()),
        };
        out.push(open);
        let begin = out.len();
        let mut next = |name: Option<&str>, value: Value<'_>| {
            if out.len() > begin {
                out.push(',');
            }
            line(out, depth);
            if let Some(name) = name {
                quote_into(name, out);
                out.push_str(": ");
            }
            value.indent_into(depth + 1, out);
        };
        match self.kind() {
            Kind::Object => self.members().for_each(|(name, value)| next(Some(&name), value)),
            _ => self.items().for_each(|value| next(None, value)),
        }
        if out.len() > begin {
            line(out, depth - 1);
        }
        out.push(close);
    }

    /// Appends the value's text without white space between tokens.
    pub fn minify_into(&self, out: &mut String) {
        let (mut open, end): (Vec<(u32, bool)>, u32) = (Vec::new(), self.node().next);
        let mut at = self.at;
        let mut first = true;
        let mut is_value_of_name = false;
        loop {
            while let Some(&(close, is_object)) = open.last() {
                if at < close {
                    break;
                }
                out.push(if is_object { '}' } else { ']' });
                open.pop();
                first = false;
            }
            if at >= end {
                return;
            }
            let node = &self.tape[at as usize];
            let in_object = open.last().is_some_and(|(_, is_object)| *is_object);
            if !first && !is_value_of_name && !open.is_empty() {
                out.push(',');
            }
            match node.kind {
                Kind::Array | Kind::Object => {
                    out.push(if node.kind == Kind::Object { '{' } else { '[' });
                    open.push((node.next, node.kind == Kind::Object));
                    first = true;
                    is_value_of_name = false;
                }
                _ => {
                    out.push_str(&self.text[node.start as usize..node.end as usize]);
                    first = false;
                    if in_object && !is_value_of_name {
                        out.push(':');
                        is_value_of_name = true;
                    } else {
                        is_value_of_name = false;
                    }
                }
            }
            at += 1;
        }
    }
}

pub struct Members<'d> {
    value: Value<'d>,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Members<'d> {
    type Item = (Cow<'d, str>, Value<'d>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let name = self.value.at(self.at).as_str().unwrap_or(Cow::Borrowed(""));
        let value = self.value.at(self.at + 1);
        self.at = value.node().next;
        Some((name, value))
    }
}

pub struct Items<'d> {
    value: Value<'d>,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let value = self.value.at(self.at);
        self.at = value.node().next;
        Some(value)
    }
}

/// Unescapes the inside of a string that the parser has already accepted.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        let kind = rest.as_bytes()[i + 1];
        let mut used = i + 2;
        out.push(match kind {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = |at: usize| u32::from_str_radix(&rest[at..at + 4], 16).unwrap_or(0xFFFD);
                let mut code = unit(i + 2);
                used = i + 6;
                if (0xD800..0xDC00).contains(&code) {
                    code = 0x10000 + ((code - 0xD800) << 10) + (unit(i + 8) - 0xDC00);
                    used = i + 12;
                }
                char::from_u32(code).unwrap_or('\u{FFFD}')
            }
            other => other as char,
        });
        rest = &rest[used..];
    }
    out.push_str(rest);
    out
}

/// Appends `text` as a JSON string, quotes included.
pub fn quote_into(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_keep_their_text_and_order() {
        let text = r#" {"a" : 107.50, "line":[null,"Via \u0052oma"], "b":{"c":[]},"d":true } "#;
        let doc = Document::parse_str(text).expect("valid");
        let root = doc.root();
        assert_eq!(root.get("a").and_then(|v| v.as_number()), Some("107.50"));
        let line: Vec<_> = root
            .get("line")
            .expect("line")
            .items()
            .map(|v| v.as_str().map(Cow::into_owned))
            .collect();
        assert_eq!(line, [None, Some("Via Roma".to_owned())]);
        assert_eq!(
            root.minified(),
            r#"{"a":107.50,"line":[null,"Via \u0052oma"],"b":{"c":[]},"d":true}"#
        );
        assert!(doc.is_spaced());
    }

    #[test]
    fn what_is_not_json_for_fhir_is_refused_with_its_place() {
        for (text, what) in [
            ("", "unexpected end of text at line 1, column 1"),
            (
                "{\"a\":1,\n\"a\":2}",
                "duplicate member name in the object that ends here at line 2, column 6",
            ),
            (
                "{\"a\":1,\"\\u0061\":2}",
                "duplicate member name in the object that ends here at line 1, column 18",
            ),
            ("[1,]", "expected a JSON value at line 1, column 4"),
            ("{\"a\":1,}", "expected a member name in quotes at line 1, column 8"),
            ("[01]", "expected ',' or ']' at line 1, column 3"),
            ("[1.]", "malformed number at line 1, column 4"),
            ("[\"a\u{1}\"]", "control character in a string at line 1, column 4"),
            ("\"\\u0000\"", "NUL in a string at line 1, column 8"),
            ("\"\\ud800x\"", "lone surrogate in a string at line 1, column 8"),
            ("nul", "expected a JSON value at line 1, column 1"),
            ("{} {}", "text after the end of the value at line 1, column 4"),
        ] {
            assert_eq!(
                Document::parse_str(text).err().map(|e| e.to_string()).as_deref(),
                Some(what),
                "{text}"
            );
        }
        assert_eq!(Document::parse(b"\"\xff\"").err().map(|e| e.what), Some("invalid UTF-8"));
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let deep = "[".repeat(100_000);
        assert_eq!(
            Document::parse_str(&deep).err().map(|e| e.what),
            Some("nested deeper than 100 levels")
        );
    }

    proptest! {
        #[test]
        fn whatever_serde_json_writes_comes_back_unchanged(text in "[ -~àé€😀\n\"\\\\]{0,40}", number in any::<f64>(), n in any::<i64>()) {
            let value = serde_json::json!({"t": text, "list": [n, number, null, {"k": text}], "e": {}, "f": []});
            let written = value.to_string();
            let doc = Document::parse_str(&written).expect("valid");
            prop_assert_eq!(doc.root().minified(), &written[..]);
            prop_assert_eq!(doc.root().get_str("t").expect("t").into_owned(), text);
            let pretty = serde_json::to_string_pretty(&value).expect("pretty");
            let doc = Document::parse_str(&pretty).expect("valid");
            prop_assert_eq!(doc.root().indented(), format!("{pretty}\n"));
            prop_assert_eq!(doc.root().minified(), written);
        }

        #[test]
        fn odd_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mine = Document::parse(&bytes).is_ok();
            if mine {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
            }
        }
    }
}
