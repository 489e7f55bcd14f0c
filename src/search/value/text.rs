//! Strings and URIs. Spec: <https://hl7.org/fhir/R4/search.html#string>, <https://hl7.org/fhir/R4/search.html#uri>.

use crate::fhir::strings::STRING_CHARS_MAX;
use crate::fhir::strings::normalise;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::condition::Lookup;
use crate::search::parameters::Parameter;
use crate::search::term::Token;
use crate::search::term::URI_SEGMENTS_MAX;
use crate::search::term::uri_ancestors;
use crate::search::value::bad_modifier;
use crate::search::value::split::unescape;
use crate::search::value::token::terms;

pub fn string(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let text = unescape(text);
    match modifier {
        None => Ok(Condition::StringStart(parameter.keys.clone(), normal(parameter, &text)?)),
        Some("contains") => Ok(Condition::StringPart(parameter.keys.clone(), part(parameter, &text, false)?)),
        Some("exact") => Ok(Condition::Terms(terms(parameter, std::iter::once(Token::Exact(&text))))),
        Some(modifier) => Err(bad_modifier(parameter, modifier)),
    }
}

/// The text as strings are compared. Errors: 400 for one without a character that counts, or longer than what is kept.
pub fn normal(parameter: &Parameter, text: &str) -> Result<String, Outcome> {
    let normal = normalise(text);
    if normal.is_empty() {
        return Err(Outcome::invalid(format!("{} has an empty value", parameter.code)));
    }
    if normal.chars().count() >= STRING_CHARS_MAX {
        let text = format!("{} is compared by fewer than {STRING_CHARS_MAX} characters", parameter.code);
        return Err(Outcome::invalid(text));
    }
    Ok(normal)
}

/// A part of a string, or its end, as strings are compared. Errors: 400 for one that nothing indexes.
pub fn part(parameter: &Parameter, text: &str, is_end: bool) -> Result<String, Outcome> {
    let normal = normal(parameter, text)?;
    if !has_trigram(&normal, is_end) {
        let text = format!(
            "{}: to look for a part of a string needs three letters or digits of it in a row",
            parameter.code
        );
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    Ok(normal)
}

/// Whether the index of parts, which is of trigrams, can look for it. A word has two characters more before it and one after it, where the part
/// does not begin or end inside of it. <https://www.postgresql.org/docs/current/pgtrgm.html>
fn has_trigram(part: &str, is_end: bool) -> bool {
    let words: Vec<&str> = part.split(|c: char| !c.is_alphanumeric()).collect();
    let last = words.len() - 1;
    let around = |i: usize| if i > 0 { 2 } else { 0 } + usize::from(i < last || is_end);
    words.iter().enumerate().any(|(i, word)| {
        let letters = word.chars().count();
        letters > 0 && letters + around(i) >= 3
    })
}

/// `:above` finds what the value lies below, `:below` what lies below the value.
pub fn uri(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let text = unescape(text);
    let terms = match modifier {
        None => terms(parameter, std::iter::once(Token::Uri(&text))),
        Some("below") => return below(parameter, text.trim_end_matches('/')),
        Some("above") => {
            // A slash at the end says nothing.
            let above: Vec<String> = uri_ancestors(text.trim_end_matches('/'))
                .flat_map(|uri| [uri.to_owned(), format!("{uri}/")])
                .collect();
            terms(parameter, above.iter().map(|uri| Token::Uri(uri)))
        }
        Some(modifier) => return Err(bad_modifier(parameter, modifier)),
    };
    Ok(Condition::Terms(terms))
}

fn below(parameter: &Parameter, uri: &str) -> Result<Condition, Outcome> {
    if parameter.has_uris_in_vocabulary {
        let below = uri.to_owned();
        let keys = parameter.keys.clone();
        return Ok(Condition::Lookup(Lookup::Uris { keys, below }));
    }
    if uri_ancestors(uri).count() > URI_SEGMENTS_MAX {
        let text = format!(
            "{}:below needs a URI of at most {URI_SEGMENTS_MAX} segments (URI_SEGMENTS_MAX)",
            parameter.code
        );
        return Err(Outcome::invalid(text).with_code("too-costly"));
    }
    Ok(Condition::Terms(terms(parameter, std::iter::once(Token::UriBelow(uri)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_looked_for_by_its_trigrams() {
        for (part, has) in [
            ("ros", true),
            ("ro", false),
            ("a", false),
            ("è", false),
            ("---", false),
            ("a--", false),
            ("ab-", true),
            ("--a", true),
            ("a b", true),
            ("a-", false),
            (" ab", true),
            ("-.-", false),
            ("иван", true),
        ] {
            assert_eq!(has_trigram(part, false), has, "{part}");
        }
        for (end, has) in [("ab", true), ("a", false), ("i", false), ("--", false), ("-a", true)] {
            assert_eq!(has_trigram(end, true), has, "{end}");
        }
    }
}
