//! The narrative: one `div` of XHTML, which XML has as elements and JSON as a string. It is copied as it stands.
//! Spec: <https://hl7.org/fhir/R4/narrative.html>, <https://hl7.org/fhir/R4/xml.html#xhtml>.

use crate::fhir::xml::XHTML;
use crate::fhir::xml::markup::Malformed;
use crate::fhir::xml::markup::Markup;
use crate::fhir::xml::markup::Namespace;
use crate::fhir::xml::markup::Start;
use crate::fhir::xml::markup::Token;
use crate::fhir::xml::markup::UNKNOWN_REFERENCE;
use crate::fhir::xml::markup::decoded;
use crate::fhir::xml::write::escape_into;
use std::borrow::Cow;

/// Where a narrative is copied to. White space that XML would read otherwise is escaped in XML, and itself in JSON: a carriage return in a text
/// (`&#13;`), the ends of lines and tabs in an attribute (`&#10;`), as in a title of several lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Json,
    Xml,
}

/// The text of a `div` and of what stands in it: its own but for prefixes, which XHTML in JSON does not have, and for the namespace, which it must have.
/// Errors: what is not well-formed, or not in XHTML's namespace.
pub fn copy<'a>(markup: &mut Markup<'a>, div: &Start<'a>, target: Target) -> Result<String, Malformed> {
    let mut out = String::new();
    open(markup, div, (true, target), &mut out)?;
    let mut depth = usize::from(!div.is_empty);
    while depth > 0 {
        match markup.next()? {
            Token::Start(start) => {
                open(markup, &start, (false, target), &mut out)?;
                depth += usize::from(!start.is_empty);
            }
            Token::End(local) => {
                out.push_str("</");
                out.push_str(local);
                out.push('>');
                depth -= 1;
            }
            Token::Text(raw) if target == Target::Json && white_space(raw) == Some('\r') => out.push('\r'),
            Token::Text(raw) if target == Target::Xml && raw.contains('\r') && !raw.starts_with("<![CDATA[") => {
                out.push_str(&raw.replace('\r', "&#13;"));
            }
            Token::Text(raw) | Token::Comment(raw) => out.push_str(&with_line_feeds(raw)),
            Token::Eof => return markup.error("the narrative does not end"),
        }
    }
    Ok(out)
}

fn open(markup: &Markup<'_>, start: &Start<'_>, (is_root, target): (bool, Target), out: &mut String) -> Result<(), Malformed> {
    if start.namespace != Namespace::Xhtml {
        return markup.error(format!("an element of a narrative that is not in the namespace {XHTML}"));
    }
    let mut has_namespace = false;
    for attribute in &start.attributes {
        let Some(value) = decoded(attribute.raw) else {
            return markup.error(UNKNOWN_REFERENCE);
        };
        if attribute.name == "xmlns" {
            has_namespace = true;
            if value != XHTML {
                return markup.error(format!("a namespace in a narrative that is not {XHTML}"));
            }
        }
        // `xml:lang` is XML's own, `xmlns:x` says nothing by itself.
        if attribute.name.contains(':') && !attribute.name.starts_with("xml:") && !attribute.name.starts_with("xmlns:") {
            return markup.error("an attribute of a narrative that is not XHTML's");
        }
    }
    out.push('<');
    out.push_str(start.local);
    if is_root && !has_namespace {
        out.push_str(" xmlns=\"");
        out.push_str(XHTML);
        out.push('"');
    }
    let name_bytes = start.local.len() + if start.prefix.is_empty() { 0 } else { start.prefix.len() + 1 };
    attributes_into(&start.raw[1 + name_bytes..], target, out);
    Ok(())
}

/// What follows the name of a tag. Invariant: it is well-formed.
fn attributes_into(raw: &str, target: Target, out: &mut String) {
    if !raw.contains(['\n', '\r', '\t', '&']) {
        return out.push_str(raw);
    }
    let mut quote = None;
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let mut used = c.len_utf8();
        match (c, quote, target) {
            ('"' | '\'', None, _) => quote = Some(c),
            (_, Some(open), _) if c == open => quote = None,
            _ => {}
        }
        match (c, quote.is_some(), target) {
            ('\r', false, _) if rest[1..].starts_with('\n') => {}
            ('\r', false, _) => out.push('\n'),
            ('\n', true, Target::Xml) => out.push_str("&#10;"),
            ('\r', true, Target::Xml) => out.push_str("&#13;"),
            ('\t', true, Target::Xml) => out.push_str("&#9;"),
            ('\n' | '\r' | '\t', true, Target::Json) => out.push(' '),
            ('&', true, Target::Json) => {
                let reference = &rest[..rest.find(';').map_or(rest.len(), |end| end + 1)];
                used = reference.len();
                match white_space(reference) {
                    Some(c) => out.push(c),
                    None => out.push_str(reference),
                }
            }
            _ => out.push(c),
        }
        rest = &rest[used..];
    }
}

/// What a reference to white space stands for.
fn white_space(reference: &str) -> Option<char> {
    match reference {
        "&#9;" | "&#x9;" => Some('\t'),
        "&#10;" | "&#xA;" | "&#xa;" => Some('\n'),
        "&#13;" | "&#xD;" | "&#xd;" => Some('\r'),
        _ => None,
    }
}

/// Markup has no way to keep a carriage return.
fn with_line_feeds(raw: &str) -> Cow<'_, str> {
    match raw.contains('\r') {
        true => Cow::Owned(raw.replace("\r\n", "\n").replace('\r', "\n")),
        false => Cow::Borrowed(raw),
    }
}

/// The XML of a narrative in JSON. What is no XHTML is not lost: its text is shown as it stands.
pub fn to_xml(div: &str) -> String {
    well_formed(div.trim()).unwrap_or_else(|_| {
        let mut out = format!("<div xmlns=\"{XHTML}\">");
        escape_into(div, &mut out);
        out.push_str("</div>");
        out
    })
}

fn well_formed(text: &str) -> Result<String, Malformed> {
    let mut markup = Markup::narrative(text)?;
    let Token::Start(start) = markup.next()? else {
        return markup.error("a narrative begins with a div");
    };
    if start.local != "div" {
        return markup.error("a narrative is a div");
    }
    let out = copy(&mut markup, &start, Target::Xml)?;
    match markup.next()? {
        Token::Eof => Ok(out),
        _ => markup.error("a narrative is one div"),
    }
}
