//! The formats of R4's primitive types, compiled by hand: no regular expression runs on the write path.
//! Spec: <https://hl7.org/fhir/R4/datatypes.html#primitive>.

use crate::fhir::json::Kind;
use crate::fhir::json::Value;

/// "Strings SHALL NOT exceed 1MB in size".
const STRING_BYTES_MAX: usize = 1 << 20;
/// Most digits of a decimal, and greatest exponent below zero: above any measurement (HL7's own examples go to 1E245), below what exhausts arithmetic
/// later. What is greater than a 64-bit float can be is refused: most readers of JSON fail on it, or make it infinite.
const DECIMAL_DIGITS_MAX: usize = 100;
const DECIMAL_EXPONENT_MAX: u32 = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primitive {
    Base64Binary,
    Boolean,
    Canonical,
    Code,
    Date,
    DateTime,
    Decimal,
    Id,
    Instant,
    Integer,
    Markdown,
    Oid,
    PositiveInt,
    String,
    Time,
    UnsignedInt,
    Uri,
    Url,
    Uuid,
    Xhtml,
}

impl Primitive {
    pub fn named(code: &str) -> Option<Primitive> {
        Some(match code {
            "base64Binary" => Primitive::Base64Binary,
            "boolean" => Primitive::Boolean,
            "canonical" => Primitive::Canonical,
            "code" => Primitive::Code,
            "date" => Primitive::Date,
            "dateTime" => Primitive::DateTime,
            "decimal" => Primitive::Decimal,
            "id" => Primitive::Id,
            "instant" => Primitive::Instant,
            "integer" => Primitive::Integer,
            "markdown" => Primitive::Markdown,
            "oid" => Primitive::Oid,
            "positiveInt" => Primitive::PositiveInt,
            "string" => Primitive::String,
            "time" => Primitive::Time,
            "unsignedInt" => Primitive::UnsignedInt,
            "uri" => Primitive::Uri,
            "url" => Primitive::Url,
            "uuid" => Primitive::Uuid,
            "xhtml" => Primitive::Xhtml,
            _ => return None,
        })
    }

    /// The kind of JSON value that holds it.
    pub fn kind(self) -> Kind {
        match self {
            Primitive::Boolean => Kind::Bool,
            Primitive::Decimal | Primitive::Integer | Primitive::PositiveInt | Primitive::UnsignedInt => Kind::Number,
            _ => Kind::String,
        }
    }

    /// What would be right, for a message.
    pub fn expected(self) -> &'static str {
        match self {
            Primitive::Base64Binary => "base64 (RFC 4648), not empty",
            Primitive::Boolean => "true or false",
            Primitive::Canonical | Primitive::Uri | Primitive::Url => "a URI without white space, not empty",
            Primitive::Code => "a code: not empty, no white space at its ends, none but single spaces inside",
            Primitive::Date => "a date that exists: YYYY, YYYY-MM or YYYY-MM-DD",
            Primitive::DateTime => {
                "a dateTime that exists: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a time zone (Z or +hh:mm)"
            }
            Primitive::Decimal => "a decimal of at most 100 digits, less than 1.8e308 and with an exponent of at least -400",
            Primitive::Id => "an id: 1 to 64 of A-Z, a-z, 0-9, '-' and '.'",
            Primitive::Instant => "an instant that exists: YYYY-MM-DDThh:mm:ss with a time zone (Z or +hh:mm)",
            Primitive::Integer => "a whole number from -2147483648 to 2147483647",
            Primitive::Oid => "an OID: urn:oid: and numbers with dots",
            Primitive::PositiveInt => "a whole number from 1 to 2147483647",
            Primitive::Markdown | Primitive::String => "text of at most 1 MB that is not only white space, without control characters",
            Primitive::Time => "a time: hh:mm:ss",
            Primitive::UnsignedInt => "a whole number from 0 to 2147483647",
            Primitive::Uuid => "a UUID: urn:uuid: and 32 small hexadecimal digits in 5 groups",
            Primitive::Xhtml => "one <div> of XHTML, without scripts, forms or embedded objects",
        }
    }

    /// Invariant: `value` is of the right kind.
    pub fn accepts(self, value: Value<'_>) -> bool {
        match self {
            Primitive::Boolean => true,
            Primitive::Decimal => is_decimal(value.raw()),
            Primitive::Integer => is_integer(value.raw(), i64::from(i32::MIN)),
            Primitive::UnsignedInt => is_integer(value.raw(), 0),
            Primitive::PositiveInt => is_integer(value.raw(), 1),
            _ => value.as_str().is_some_and(|text| self.accepts_text(&text)),
        }
    }

    fn accepts_text(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        match self {
            Primitive::Base64Binary => is_base64(bytes),
            Primitive::Canonical | Primitive::Uri | Primitive::Url => !bytes.is_empty() && !has_space(text),
            Primitive::Code => is_code(text),
            Primitive::Date => is_date(bytes),
            Primitive::DateTime => is_date(bytes) || is_instant(bytes),
            Primitive::Id => is_id(bytes),
            Primitive::Instant => is_instant(bytes),
            Primitive::Markdown | Primitive::String => is_string(text),
            Primitive::Oid => is_oid(text),
            Primitive::Time => is_time(bytes),
            Primitive::Uuid => is_uuid(text),
            Primitive::Xhtml => is_xhtml(text),
            Primitive::Boolean | Primitive::Decimal | Primitive::Integer | Primitive::PositiveInt | Primitive::UnsignedInt => false,
        }
    }
}

pub fn is_id(bytes: &[u8]) -> bool {
    matches!(bytes.len(), 1..=64) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

fn has_space(text: &str) -> bool {
    if text.is_ascii() {
        text.bytes().any(|b| b <= b' ' || b == 0x7f)
    } else {
        text.chars().any(|c| c.is_whitespace() || c.is_control())
    }
}

fn is_string(text: &str) -> bool {
    let is_control = |b: u8| b < b' ' && !matches!(b, b'\t' | b'\r' | b'\n');
    let starts_plainly = text.as_bytes().first().is_some_and(u8::is_ascii_graphic);
    text.len() <= STRING_BYTES_MAX && !text.bytes().any(is_control) && (starts_plainly || !text.trim().is_empty())
}

fn is_code(text: &str) -> bool {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return !text.is_empty();
    }
    let mut was_space = true;
    for c in text.chars() {
        let is_space = c.is_whitespace();
        if c.is_control() || (is_space && was_space) {
            return false;
        }
        was_space = is_space;
    }
    !was_space
}

fn two(bytes: &[u8], at: usize) -> Option<u32> {
    match bytes.get(at..at + 2)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(u32::from(a - b'0') * 10 + u32::from(b - b'0')),
        _ => None,
    }
}

fn is_date(bytes: &[u8]) -> bool {
    date_at(bytes).is_some()
}

fn date_at(bytes: &[u8]) -> Option<()> {
    let year = two(bytes, 0)? * 100 + two(bytes, 2)?;
    let month = if bytes.len() > 4 {
        two(bytes, 5).filter(|m| bytes[4] == b'-' && matches!(m, 1..=12))?
    } else {
        1
    };
    let day = if bytes.len() > 7 {
        two(bytes, 8).filter(|_| bytes[7] == b'-')?
    } else {
        1
    };
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (matches!(bytes.len(), 4 | 7 | 10) && year > 0 && day >= 1 && day <= days).then_some(())
}

/// `hh:mm:ss` with or without a fraction; returns its length.
fn time_at(bytes: &[u8]) -> Option<usize> {
    let (hour, minute, second) = (two(bytes, 0)?, two(bytes, 3)?, two(bytes, 6)?);
    // R4 allows second 60, for leap seconds.
    if bytes[2] != b':' || bytes[5] != b':' || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if bytes.get(8) != Some(&b'.') {
        return Some(8);
    }
    let digits = bytes[9..].iter().take_while(|b| b.is_ascii_digit()).count();
    (digits > 0).then_some(9 + digits)
}

fn is_time(bytes: &[u8]) -> bool {
    time_at(bytes) == Some(bytes.len())
}

fn is_instant(bytes: &[u8]) -> bool {
    let Some((date, rest)) = bytes.split_at_checked(10) else {
        return false;
    };
    if !is_date(date) || rest.first() != Some(&b'T') {
        return false;
    }
    let Some(end) = time_at(&rest[1..]) else { return false };
    match &rest[1 + end..] {
        [b'Z'] => true,
        zone @ [b'+' | b'-', _, _, b':', _, _] => match (two(zone, 1), two(zone, 4)) {
            (Some(14), Some(0)) => true,
            (Some(hour), Some(minute)) => hour <= 13 && minute <= 59,
            _ => false,
        },
        _ => false,
    }
}

fn is_decimal(text: &str) -> bool {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    let is_exponent_small = exponent.is_empty() || exponent.len() <= 3 && exponent.parse::<u32>().is_ok_and(|e| e <= DECIMAL_EXPONENT_MAX);
    number.len() <= DECIMAL_DIGITS_MAX && is_exponent_small && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn is_integer(text: &str, min: i64) -> bool {
    let is_plain = text.len() <= 11 && text != "-0" && !text.contains(['.', 'e', 'E']);
    is_plain && text.parse::<i64>().is_ok_and(|n| n >= min && n <= i64::from(i32::MAX))
}

fn is_oid(text: &str) -> bool {
    let Some(numbers) = text.strip_prefix("urn:oid:") else {
        return false;
    };
    let is_number =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part.len() == 1 || !part.starts_with('0'));
    let mut parts = numbers.split('.');
    let starts_well = parts.next().is_some_and(|first| matches!(first, "0" | "1" | "2"));
    starts_well && numbers.contains('.') && parts.all(is_number)
}

fn is_uuid(text: &str) -> bool {
    let Some(digits) = text.strip_prefix("urn:uuid:") else {
        return false;
    };
    digits.len() == 36
        && digits.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Groups of four, white space between them, at most two `=` at the end.
fn is_base64(bytes: &[u8]) -> bool {
    let (mut count, mut padding) = (0usize, 0usize);
    for b in bytes {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => count += 1,
            b'=' => padding += 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => return false,
        }
    }
    count > 0 && padding <= 2 && (count + padding).is_multiple_of(4)
}

/// Tags that R4's narrative rules leave out and that do something when shown.
const ACTIVE_TAGS: [&str; 9] = ["script", "iframe", "object", "embed", "form", "base", "link", "meta", "frame"];

fn is_xhtml(text: &str) -> bool {
    let text = text.trim();
    let Some(rest) = text.strip_prefix("<div") else { return false };
    if !rest.starts_with([' ', '>', '/', '\n', '\r', '\t']) || !(text.ends_with("</div>") || text.ends_with("/>")) {
        return false;
    }
    memchr::memchr_iter(b'<', rest.as_bytes()).all(|at| {
        let tag = &rest.as_bytes()[at + 1..];
        let length = tag.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
        !ACTIVE_TAGS
            .iter()
            .any(|active| active.len() == length && tag[..length].eq_ignore_ascii_case(active.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::json::Document;

    fn accepts(ty: &str, json: &str) -> bool {
        let primitive = Primitive::named(ty).expect(ty);
        let document = Document::parse_str(json).expect(json);
        document.root().kind() == primitive.kind() && primitive.accepts(document.root())
    }

    #[test]
    fn right_values_are_accepted() {
        for (ty, values) in [
            ("date", r#"["2024","2024-02","2024-02-29","2000-02-29","0001-01-01","9999-12-31"]"#),
            (
                "dateTime",
                r#"["2024","2024-02","2024-02-29","2024-02-29T23:59:60Z","2024-02-29T00:00:00.123+14:00","2024-01-01T10:00:00-13:59"]"#,
            ),
            ("instant", r#"["2024-02-29T23:59:59Z","2024-02-29T23:59:59.123456789+01:00"]"#),
            ("time", r#"["00:00:00","23:59:60","12:30:15.5"]"#),
            ("id", r#"["a","2.16.840.1.113883.2.9.4.1.2-120148"]"#),
            ("oid", r#"["urn:oid:1.2.840","urn:oid:2.0"]"#),
            ("uuid", r#"["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"]"#),
            ("uri", r#"["urn:oid:1.2","http://a/b?c","x","http://example.org/è"]"#),
            ("code", r#"["a","a b","final","città nuova"]"#),
            ("base64Binary", r#"["QUJD","QUI=","QQ==","QUJD\nQUJD"]"#),
            ("integer", "[0,-1,2147483647,-2147483648]"),
            ("unsignedInt", "[0,1,2147483647]"),
            ("positiveInt", "[1]"),
            ("decimal", "[0,-0.0,107.50,1e10,1E-245,0.1e+5]"),
            ("boolean", "[true,false]"),
            ("string", r#"["a"," a","è","tab\tand\nline"]"#),
            (
                "xhtml",
                r#"["<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>x</p></div>","<div/>"," <div>a < b</div>\n"]"#,
            ),
        ] {
            let document = Document::parse_str(values).expect(values);
            for value in document.root().items() {
                assert!(accepts(ty, value.raw()), "{ty} {}", value.raw());
            }
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for (ty, values) in [
            (
                "date",
                r#"["","0000","24","2024-13","2024-00","2024-2","2023-02-29","1900-02-29","2024-04-31","2024-01-00","2024-01-01T10:00:00Z","2024-01-01 ","٢٠٢٤",2024]"#,
            ),
            (
                "dateTime",
                r#"["2024-01-01T10:00:00","2024-01-01T10:00Z","2024-01-01T24:00:00Z","2024-01-01T10:60:00Z","2024-01-01T10:00:61Z","2024-01-01T10:00:00+15:00","2024-01-01T10:00:00+14:01","2024-01-01T10:00:00.Z","2024-01T10:00:00Z","2024-01-01T10:00:00z","2024-02-30T10:00:00Z"]"#,
            ),
            ("instant", r#"["2024","2024-01-01","2024-01-01T10:00:00","2024-01-01t10:00:00Z"]"#),
            ("time", r#"["24:00:00","10:00","1:00:00","10:00:00Z","10:00:00."]"#),
            (
                "id",
                r#"["","a_b","a b","a/b","è","aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]"#,
            ),
            (
                "oid",
                r#"["1.2","urn:oid:1","urn:oid:3.1","urn:oid:1.02","urn:oid:1..2","urn:oid:"]"#,
            ),
            (
                "uuid",
                r#"["c757873d-ec9a-4326-a141-556f43239520","urn:uuid:C757873D-ec9a-4326-a141-556f43239520","urn:uuid:c757873d"]"#,
            ),
            ("uri", r#"["","a b"," a","a\u00a0b"]"#),
            ("code", r#"[""," a","a ","a  b","a\tb"]"#),
            ("base64Binary", r#"["","QUJ","Q===","QQ==QQ==","Q*JD"]"#),
            ("integer", "[1.0,1e2,-0,2147483648,-2147483649,99999999999999999999,\"1\"]"),
            ("unsignedInt", "[-1,2147483648]"),
            ("positiveInt", "[0,-1]"),
            ("decimal", "[1e309,-1e400,1e401,1e1000000000,1e-99999,\"1\"]"),
            ("boolean", "[\"true\",1]"),
            ("string", r#"[""," ","\n","a\u0001b",1]"#),
            (
                "xhtml",
                r#"["","text","<p>x</p>","<divx></divx>","<div>x","<div><SCRIPT>x</SCRIPT></div>"]"#,
            ),
        ] {
            let document = Document::parse_str(values).expect(values);
            for value in document.root().items() {
                assert!(!accepts(ty, value.raw()), "{ty} {}", value.raw());
            }
        }
    }
}
