//! The parts of a value: alternatives, prefix, system and code; and their escapes. Spec: <https://hl7.org/fhir/R4/search.html#escaping>.

use crate::search::condition::Prefix;

pub fn split_prefix(text: &str) -> (Prefix, &str) {
    let prefix = match text.get(..2) {
        Some("eq") => Prefix::Eq,
        Some("ne") => Prefix::Ne,
        Some("gt") => Prefix::Gt,
        Some("lt") => Prefix::Lt,
        Some("ge") => Prefix::Ge,
        Some("le") => Prefix::Le,
        Some("sa") => Prefix::Sa,
        Some("eb") => Prefix::Eb,
        Some("ap") => Prefix::Ap,
        _ => return (Prefix::Eq, text),
    };
    (prefix, &text[2..])
}

/// System (if there is a `|`) and code, unescaped.
pub fn split_token(text: &str) -> (Option<String>, String) {
    let mut parts = split_unescaped(text, '|');
    match parts.len() {
        1 => (None, parts.remove(0)),
        _ => {
            let system = parts.remove(0);
            (Some(system), parts.join("|"))
        }
    }
}

pub fn split_unescaped(text: &str, separator: char) -> Vec<String> {
    split_unescaped_keeping(text, separator).iter().map(|part| unescape(part)).collect()
}

/// Splits where the separator is not escaped; the parts keep their escapes.
pub fn split_unescaped_keeping(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut current, mut is_escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if c == separator && !is_escaped {
            parts.push(std::mem::take(&mut current));
            continue;
        }
        is_escaped = c == '\\' && !is_escaped;
        current.push(c);
    }
    parts.push(current);
    parts
}

/// The text with a backslash before each of these.
pub fn escaped(text: &str, special: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if special.contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

pub fn unescape(text: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

/// The alternatives of a value; `\,` is a comma. Other escapes stay for the parts of the value.
pub fn split_values(text: &str) -> Vec<String> {
    let (mut values, mut current, mut chars) = (Vec::new(), String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(',') => current.push(','),
                Some(other) => current.extend(['\\', other]),
                None => current.push('\\'),
            },
            ',' => values.push(std::mem::take(&mut current)),
            _ => current.push(c),
        }
    }
    values.push(current);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_split_at_the_first_bar_that_is_not_escaped() {
        assert_eq!(split_token("a|b"), (Some("a".into()), "b".into()));
        assert_eq!(split_token(r"a\|b"), (None, "a|b".into()));
        assert_eq!(split_token("|b"), (Some(String::new()), "b".into()));
        assert_eq!(split_token(r"a|b\$c"), (Some("a".into()), "b$c".into()));
        assert_eq!(split_unescaped_keeping(r"a\$b$c", '$'), [r"a\$b", "c"]);
    }
}
