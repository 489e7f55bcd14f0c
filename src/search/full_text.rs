//! The text of a resource: what `_text` and `_content` look into. Spec: <https://hl7.org/fhir/R4/search.html#content>.

use crate::fhir::json::Value;
use crate::fhir::strings::STRING_CHARS_MAX;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::Parameter;
use crate::search::value::bad_modifier;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What is indexed; the setting `search.full_text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FullText {
    Off,
    /// The narrative (`text.div`).
    Narrative,
    /// The narrative, and every string of the resource.
    Content,
}

/// Text taken from one resource, at most: beyond it a word is not found. PostgreSQL keeps no more than a megabyte of words.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// The texts of one resource; `None` where there is none, or it is not indexed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Texts {
    pub narrative: Option<String>,
    pub content: Option<String>,
}

impl Texts {
    pub fn of(resource: Value<'_>, full_text: FullText) -> Texts {
        let mut texts = Texts::default();
        if full_text >= FullText::Narrative
            && let Some(div) = resource.get("text").and_then(|text| text.get_str("div"))
        {
            let mut narrative = String::new();
            push_without_tags(&div, &mut narrative);
            texts.narrative = (!narrative.is_empty()).then_some(narrative);
        }
        if full_text >= FullText::Content {
            let mut content = String::new();
            collect(resource, "", &mut content);
            texts.content = (!content.is_empty()).then_some(content);
        }
        texts
    }

    pub fn is_empty(&self) -> bool {
        self.narrative.is_none() && self.content.is_none()
    }
}

fn collect(value: Value<'_>, name: &str, out: &mut String) {
    if out.len() > TEXT_BYTES_MAX {
        return;
    }
    match value.as_str() {
        // What is base64 has no words.
        Some(_) if name == "data" => {}
        Some(text) if name == "div" => push_without_tags(&text, out),
        Some(text) => push(&text, out),
        None => {
            let mut is_object = false;
            for (name, member) in value.members() {
                is_object = true;
                for item in member.items() {
                    collect(item, &name, out);
                }
            }
            if !is_object && let Some(number) = value.as_number() {
                push(number, out);
            }
        }
    }
}

/// The text of XHTML: its elements are spaces, its character references what they stand for.
fn push_without_tags(div: &str, out: &mut String) {
    let mut text = String::with_capacity(div.len());
    let mut is_tag = false;
    for c in div.chars() {
        match c {
            '<' => is_tag = true,
            '>' if is_tag => {
                is_tag = false;
                text.push(' ');
            }
            _ if is_tag => {}
            _ => text.push(c),
        }
    }
    for (reference, meaning) in [
        ("&nbsp;", " "),
        ("&#160;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ] {
        if text.contains(reference) {
            text = text.replace(reference, meaning);
        }
    }
    push(&text, out);
}

fn push(text: &str, out: &mut String) {
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push(' ');
    }
    let room = TEXT_BYTES_MAX.saturating_sub(out.len());
    out.push_str(&folded(&text[..text.floor_char_boundary(room.min(text.len()))]));
}

/// Without accents: the words are in lower case by what makes them.
fn folded(text: &str) -> String {
    match text.is_ascii() {
        true => text.to_owned(),
        false => text.nfd().filter(|c| !is_combining_mark(*c)).collect(),
    }
}

/// `_text` or `_content`: words that must all stand there; `"in quotes"` one after the other, `or` between alternatives, `-` before what must not.
/// Errors: 400 naming the setting if such text is not indexed.
pub fn condition(full_text: FullText, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let is_content = parameter.code == "_content";
    let (needed, setting) = match is_content {
        true => (FullText::Content, "content"),
        false => (FullText::Narrative, "narrative"),
    };
    // PostgreSQL reads what negates or groups by recursion.
    if text.chars().count() >= STRING_CHARS_MAX {
        let text = format!(
            "{} is asked with fewer than {STRING_CHARS_MAX} characters (STRING_CHARS_MAX)",
            parameter.code
        );
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    match full_text >= needed {
        true => Ok(Condition::FullText(is_content, folded(&with_single_negations(text)))),
        false => Err(Outcome::not_supported(format!(
            "{} needs the setting search.full_text = \"{setting}\"",
            parameter.code
        ))),
    }
}

/// A hyphen that stands before no word negates nothing, and PostgreSQL refuses many of them in a row.
fn with_single_negations(text: &str) -> String {
    let mut chars = text.chars().peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        let negates = chars.peek().is_some_and(|next| next.is_alphanumeric() || *next == '"');
        out.push(if c == '-' && !negates { ' ' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::json::Document;

    fn texts(json: &str, full_text: FullText) -> Texts {
        Texts::of(Document::parse_str(json).expect("valid").root(), full_text)
    }

    const PATIENT: &str = r#"{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Città&nbsp;di <b>Forlì</b></p>a &lt; b</div>"},
        "name":[{"family":"Rossi","given":["Anna","Maria"]}],"photo":[{"data":"QUJD","title":"foto"}],"multipleBirthInteger":2}"#;

    #[test]
    fn a_narrative_is_its_words_without_markup() {
        let texts = texts(PATIENT, FullText::Narrative);
        assert_eq!(
            texts
                .narrative
                .as_deref()
                .map(|t| t.split_whitespace().collect::<Vec<_>>().join(" ")),
            Some("Citta di Forli a < b".to_owned())
        );
        assert_eq!(texts.content, None);
    }

    #[test]
    fn content_is_every_string_but_no_data() {
        let content = texts(PATIENT, FullText::Content).content.expect("content");
        for word in ["Rossi", "Anna", "Maria", "foto", "Forli", "2"] {
            assert!(content.split_whitespace().any(|w| w == word), "{word}: {content}");
        }
        assert!(!content.contains("QUJD") && !content.contains("xmlns"), "{content}");
        assert!(texts(PATIENT, FullText::Off).is_empty());
    }

    #[test]
    fn a_hyphen_negates_a_word_and_nothing_else() {
        for (text, meant) in [
            ("fegato -milza", "fegato -milza"),
            ("--a - b---", " -a   b   "),
            ("-\"a b\"", "-\"a b\""),
            ("raggi-x", "raggi-x"),
        ] {
            assert_eq!(with_single_negations(text), meant);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = format!(r#"{{"resourceType":"Basic","a":"{}","b":"fine"}}"#, "è ".repeat(TEXT_BYTES_MAX));
        let content = texts(&long, FullText::Content).content.expect("content");
        assert!(content.len() <= TEXT_BYTES_MAX + 8, "{}", content.len());
    }
}
