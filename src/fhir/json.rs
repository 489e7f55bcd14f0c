//! FHIR JSON, parsed once into a flat tape over the text as it was received.
//!
//! The tape keeps spans instead of values, so decimals (`107.50`), member order, escapes and `null` in
//! primitive arrays survive byte for byte: what we store and serve is cut from the original text.
//! Stricter than RFC 8259 where FHIR needs it: duplicate member names, NUL and lone surrogates are refused,
//! and nesting is bounded by [`DEPTH_MAX`] without recursion.
//! Spec: <https://hl7.org/fhir/R4/json.html>.

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

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    /// Strings and names: the raw text holds a backslash escape.
    escaped: bool,
    start: u32,
    end: u32,
    /// Index of the node after this one and all that it holds.
    next: u32,
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

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    tape: Vec<Node>,
    spaced: bool,
}

/// What the parser looks for next.
enum Want {
    Value,
    FirstNameOrEnd,
    Name,
    FirstItemOrEnd,
    CommaOrEnd,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), &'static str> {
        let mut open: Vec<u32> = Vec::new();
        let mut want = Want::Value;
        loop {
            self.skip_space();
            let Some(&byte) = self.text.get(self.at) else {
                return Err("unexpected end of text");
            };
            want = match want {
                Want::FirstNameOrEnd if byte == b'}' => self.close(&mut open),
                Want::FirstItemOrEnd if byte == b']' => self.close(&mut open),
                Want::FirstNameOrEnd | Want::Name => self.name(byte)?,
                Want::Value | Want::FirstItemOrEnd => self.value(byte, &mut open)?,
                Want::CommaOrEnd => self.comma_or_end(byte, &mut open)?,
            };
            if open.is_empty() {
                break;
            }
        }
        self.skip_space();
        if self.at < self.text.len() {
            Err("text after the end of the value")
        } else {
            Ok(())
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
            self.spaced = true;
        }
    }

    fn close(&mut self, open: &mut Vec<u32>) -> Want {
        self.at += 1;
        let next = self.tape.len() as u32;
        if let Some(container) = open.pop() {
            let node = &mut self.tape[container as usize];
            node.end = self.at as u32;
            node.next = next;
        }
        Want::CommaOrEnd
    }

    fn comma_or_end(&mut self, byte: u8, open: &mut Vec<u32>) -> Result<Want, &'static str> {
        let Some(&container) = open.last() else {
            return Err("text after the end of the value");
        };
        let is_object = self.tape[container as usize].kind == Kind::Object;
        match byte {
            b',' => {
                self.at += 1;
                Ok(if is_object { Want::Name } else { Want::Value })
            }
            b'}' if is_object => {
                self.refuse_duplicate_names(container)?;
                Ok(self.close(open))
            }
            b']' if !is_object => Ok(self.close(open)),
            _ => Err(if is_object { "expected ',' or '}'" } else { "expected ',' or ']'" }),
        }
    }

    /// Names are compared as they stand, after unescaping if any holds an escape. Objects are small: FHIR's widest has about 60 members.
    fn refuse_duplicate_names(&self, container: u32) -> Result<(), &'static str> {
        let mut names: Vec<Cow<'_, [u8]>> = Vec::new();
        let mut at = container + 1;
        while (at as usize) < self.tape.len() {
            let name = &self.tape[at as usize];
            let raw = &self.text[name.start as usize + 1..name.end as usize - 1];
            names.push(match (name.escaped, std::str::from_utf8(raw)) {
                (true, Ok(raw)) => Cow::Owned(unescape(raw).into_bytes()),
                _ => Cow::Borrowed(raw),
            });
            at = self.tape[at as usize + 1].next;
        }
        let is_duplicate = if names.len() <= 12 {
            names.iter().enumerate().any(|(i, name)| names[..i].contains(name))
        } else {
            names.sort_unstable();
            names.windows(2).any(|pair| pair[0] == pair[1])
        };
        if is_duplicate {
            Err("duplicate member name in the object that ends here")
        } else {
            Ok(())
        }
    }

    fn name(&mut self, byte: u8) -> Result<Want, &'static str> {
        if byte != b'"' {
            return Err("expected a member name in quotes");
        }
        self.string()?;
        self.skip_space();
        if self.text.get(self.at) != Some(&b':') {
            return Err("expected ':'");
        }
        self.at += 1;
        Ok(Want::Value)
    }

    fn value(&mut self, byte: u8, open: &mut Vec<u32>) -> Result<Want, &'static str> {
        if self.tape.len() >= VALUES_MAX {
            return Err("too many values");
        }
        match byte {
            b'{' | b'[' => {
                if open.len() >= DEPTH_MAX {
                    return Err("nested deeper than 100 levels");
                }
                open.push(self.tape.len() as u32);
                let kind = if byte == b'{' { Kind::Object } else { Kind::Array };
                self.push(kind, self.at, false);
                self.at += 1;
                return Ok(if byte == b'{' { Want::FirstNameOrEnd } else { Want::FirstItemOrEnd });
            }
            b'"' => self.string()?,
            b't' => self.literal(b"true", Kind::Bool)?,
            b'f' => self.literal(b"false", Kind::Bool)?,
            b'n' => self.literal(b"null", Kind::Null)?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return Err("expected a JSON value"),
        }
        Ok(Want::CommaOrEnd)
    }

    fn push(&mut self, kind: Kind, start: usize, escaped: bool) {
        let next = self.tape.len() as u32 + 1;
        self.tape.push(Node {
            kind,
            escaped,
            start: start as u32,
            end: self.at as u32,
            next,
        });
    }

    fn literal(&mut self, word: &[u8], kind: Kind) -> Result<(), &'static str> {
        if !self.text[self.at..].starts_with(word) {
            return Err("expected a JSON value");
        }
        let start = self.at;
        self.at += word.len();
        self.push(kind, start, false);
        Ok(())
    }

    fn number(&mut self) -> Result<(), &'static str> {
        let start = self.at;
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err("malformed number"),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        self.push(Kind::Number, start, false);
        Ok(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), &'static str> {
        let before = self.at;
        self.digits();
        if self.at == before { Err("malformed number") } else { Ok(()) }
    }

    fn string(&mut self) -> Result<(), &'static str> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                None => return Err("string without end"),
                Some(b'"') => {
                    self.at += 1;
                    self.push(Kind::String, start, escaped);
                    return Ok(());
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => return Err("control character in a string"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let unit = self.hex(self.at + 2)?;
                self.at += 6;
                match unit {
                    0 => Err("NUL in a string"),
                    0xDC00..=0xDFFF => Err("lone surrogate in a string"),
                    0xD800..=0xDBFF => {
                        let low = if self.text[self.at..].starts_with(b"\\u") {
                            self.hex(self.at + 2)?
                        } else {
                            0
                        };
                        if !(0xDC00..=0xDFFF).contains(&low) {
                            return Err("lone surrogate in a string");
                        }
                        self.at += 6;
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            _ => Err("unknown escape in a string"),
        }
    }

    fn hex(&self, at: usize) -> Result<u32, &'static str> {
        let digits = self.text.get(at..at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|d| std::str::from_utf8(d).ok()).ok_or("malformed \\u escape")?;
        u32::from_str_radix(digits, 16).map_err(|_| "malformed \\u escape")
    }
}

fn place(text: &[u8], at: usize, what: &'static str) -> JsonError {
    let before = &text[..at.min(text.len())];
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let column = 1 + before.len() - memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
    JsonError { what, line, column }
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
