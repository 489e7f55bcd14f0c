//! Text to tape, without recursion. What is refused, and why, stands in `fhir::json`.

use crate::fhir::json::DEPTH_MAX;
use crate::fhir::json::JsonError;
use crate::fhir::json::Kind;
use crate::fhir::json::VALUES_MAX;
use crate::fhir::json::unescape;
use std::borrow::Cow;

#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub kind: Kind,
    /// Strings and names: the raw text holds a backslash escape.
    pub escaped: bool,
    pub start: u32,
    pub end: u32,
    /// Index of the node after this one and all that it holds.
    pub next: u32,
}

pub struct Parser<'a> {
    pub text: &'a [u8],
    pub at: usize,
    pub tape: Vec<Node>,
    pub spaced: bool,
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
    pub fn run(&mut self) -> Result<(), &'static str> {
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
            return Err("more than 4,000,000 values");
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

pub fn place(text: &[u8], at: usize, what: &'static str) -> JsonError {
    let before = &text[..at.min(text.len())];
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let column = 1 + before.len() - memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
    JsonError { what, line, column }
}
