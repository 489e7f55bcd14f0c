//! How strings are compared: without accents and case. Spec: <https://hl7.org/fhir/R4/search.html#string>.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longest normalised string kept: what follows does not take part in search. A B-tree entry has room for a third of a page.
pub const STRING_CHARS_MAX: usize = 500;

/// Without accents, in lower case, white space collapsed: how strings are compared. At most [`STRING_CHARS_MAX`] characters.
pub fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        if word.is_ascii() {
            out.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        } else {
            out.extend(word.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase));
        }
    }
    match out.char_indices().nth(STRING_CHARS_MAX) {
        Some((end, _)) => out[..end].to_owned(),
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_case_and_spaces_do_not_count() {
        for (text, normal) in [
            ("Niccolò", "niccolo"),
            ("D'Àngelo  ROSSI ", "d'angelo rossi"),
            ("", ""),
            ("Ñandú", "nandu"),
            ("ß", "ß"),
        ] {
            assert_eq!(normalise(text), normal, "{text}");
        }
        assert_eq!(normalise(&"à".repeat(600)).len(), STRING_CHARS_MAX);
    }
}
