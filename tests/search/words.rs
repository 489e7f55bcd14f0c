//! `_text` and `_content`. <https://hl7.org/fhir/R4/search.html#content>
//!
//! The specification leaves to the server what a word is. Compared are words of one list alone, which stand in narratives and in strings as whole words
//! and of which no two have the same stem: what stemming and the words that are too common do is not looked at. Words must all be there; `or` stands
//! between alternatives, `-` before what must not be there, and quotes around words that follow each other.

use serde_json::Value;

/// What narratives are made of, and some strings are.
pub const LIST: [&str; 6] = ["torace", "fegato", "milza", "cuore", "polmone", "ginocchio"];

pub fn text_holds(resource: &Value, name: &str, text: &str) -> bool {
    let mut words = Vec::new();
    match name {
        "_text" => push_narrative(resource, &mut words),
        _ => push_content(resource, "", &mut words),
    }
    text.to_lowercase().split(" or ").any(|alternative| all_hold(&words, alternative))
}

fn all_hold(words: &[String], text: &str) -> bool {
    let parts = text.split('"').enumerate();
    let mut holds = true;
    for (place, part) in parts {
        let asked: Vec<&str> = part.split_whitespace().collect();
        holds &= match place % 2 {
            1 => words.windows(asked.len()).any(|in_a_row| in_a_row == asked),
            _ => asked.iter().all(|word| match word.strip_prefix('-') {
                Some(word) => !words.iter().any(|other| other == word),
                None => words.iter().any(|other| other == word),
            }),
        };
    }
    holds
}

fn push_narrative(resource: &Value, words: &mut Vec<String>) {
    if let Some(div) = resource["text"]["div"].as_str() {
        push_div(div, words);
    }
}

/// Every string, but what is base64.
fn push_content(value: &Value, name: &str, words: &mut Vec<String>) {
    match value {
        Value::String(div) if name == "div" => push_div(div, words),
        Value::String(text) if name != "data" => push(text, words),
        Value::Array(items) => items.iter().for_each(|item| push_content(item, name, words)),
        Value::Object(members) => members.iter().for_each(|(name, member)| push_content(member, name, words)),
        _ => {}
    }
}

/// Without its elements, and with what its references stand for.
fn push_div(div: &str, words: &mut Vec<String>) {
    for part in div.replace("&amp;", "&").split('<') {
        push(part.split_once('>').map_or(part, |(_, text)| text), words);
    }
}

fn push(text: &str, words: &mut Vec<String>) {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    words.extend(parts.map(str::to_lowercase));
}
