//! Labels of a resource: the profiles, security labels and tags of its `meta`, added and taken away. All else of the text stays as it was.
//! Spec: <https://hl7.org/fhir/R4/resource.html#Meta>, <https://hl7.org/fhir/R4/resource-operation-meta-add.html>.

use crate::fhir::json::Value;
use crate::fhir::json::quote_into;
use crate::fhir::splice::with_member;

/// The lists of labels, in the order of the definition.
pub const LISTS: [&str; 3] = ["profile", "security", "tag"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Add,
    Remove,
}

/// What makes two labels one: a profile is its URL, a coding its system and code. A coding without a code is only equal to itself.
pub fn identity(label: Value<'_>) -> String {
    match (label.as_str(), label.get_str("code")) {
        (Some(profile), _) => profile.into_owned(),
        (None, Some(code)) => format!("{}|{code}", label.get_str("system").unwrap_or_default()),
        (None, None) => label.minified(),
    }
}

/// The resource's text with the labels of `given` added or removed; `None` if nothing changes.
pub fn with_labels(resource: Value<'_>, given: Value<'_>, change: Change) -> Option<String> {
    let meta = resource.get("meta");
    let mut lists: Vec<(String, Option<String>)> = Vec::new();
    for name in LISTS {
        let wanted: Vec<Value<'_>> = given
            .get(name)
            .iter()
            .flat_map(Value::items)
            .filter(|label| !label.is_null())
            .collect();
        let held: Vec<Value<'_>> = meta.and_then(|meta| meta.get(name)).iter().flat_map(Value::items).collect();
        let twin_name = format!("_{name}");
        let twins: Vec<Value<'_>> = meta.and_then(|meta| meta.get(&twin_name)).iter().flat_map(Value::items).collect();
        // A label's place is that of its twin (`_profile`), which has its id and extensions.
        let mut labels: Vec<(String, String)> = Vec::new();
        let mut identities: Vec<String> = Vec::new();
        let of_wanted: Vec<String> = wanted.iter().map(|label| identity(*label)).collect();
        for (i, label) in held.iter().enumerate() {
            let identity = identity(*label);
            if change == Change::Remove && of_wanted.contains(&identity) {
                continue;
            }
            let twin = twins.get(i).map_or_else(|| "null".to_owned(), |twin| twin.raw().to_owned());
            labels.push((label.raw().to_owned(), twin));
            identities.push(identity);
        }
        for (label, identity) in wanted.iter().zip(of_wanted).filter(|_| change == Change::Add) {
            if !identities.contains(&identity) {
                labels.push((label.raw().to_owned(), "null".to_owned()));
                identities.push(identity);
            }
        }
        if labels.len() != held.len() {
            let list = |items: Vec<&str>| (!items.is_empty()).then(|| format!("[{}]", items.join(",")));
            lists.push((name.to_owned(), list(labels.iter().map(|label| label.0.as_str()).collect())));
            if !twins.is_empty() {
                let has_twins = labels.iter().any(|label| label.1 != "null");
                let twins = labels.iter().map(|label| label.1.as_str()).filter(|_| has_twins).collect();
                lists.push((twin_name, list(twins)));
            }
        }
    }
    if lists.is_empty() {
        return None;
    }
    let mut members: Vec<(String, String)> = meta
        .iter()
        .flat_map(Value::members)
        .map(|(name, value)| (name.into_owned(), value.raw().to_owned()))
        .collect();
    for (name, list) in lists {
        let place = members.iter().position(|(known, _)| *known == name);
        match (place, list) {
            (Some(place), Some(list)) => members[place].1 = list,
            (Some(place), None) => drop(members.remove(place)),
            (None, Some(list)) => members.push((name, list)),
            (None, None) => {}
        }
    }
    let mut text = String::new();
    for (name, value) in members {
        text.push(if text.is_empty() { '{' } else { ',' });
        quote_into(&name, &mut text);
        text.push(':');
        text.push_str(&value);
    }
    text.push('}');
    // An empty object is no FHIR.
    let meta = Some(text.as_str()).filter(|text| text.starts_with('{'));
    Some(with_member(resource, "meta", meta))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::json::Document;

    fn changed(resource: &str, given: &str, change: Change) -> Option<String> {
        let (resource, given) = (Document::parse_str(resource).unwrap(), Document::parse_str(given).unwrap());
        with_labels(resource.root(), given.root(), change)
    }

    #[test]
    fn labels_are_added_once_and_removed_by_what_makes_them_one() {
        let resource = r#"{"resourceType":"Basic","meta":{"versionId":"1","tag":[{"system":"s","code":"a","display":"A"}]},"x":1.50}"#;
        let cases: [(Change, &str, Option<&str>); 8] = [
            (
                Change::Add,
                r#"{"tag":[{"system":"s","code":"b"},{"system":"s","code":"b"}]}"#,
                Some(r#"{"versionId":"1","tag":[{"system":"s","code":"a","display":"A"},{"system":"s","code":"b"}]}"#),
            ),
            (Change::Add, r#"{"tag":[{"system":"s","code":"a"}]}"#, None),
            (
                Change::Add,
                r#"{"tag":[{"code":"a"}]}"#,
                Some(r#"{"versionId":"1","tag":[{"system":"s","code":"a","display":"A"},{"code":"a"}]}"#),
            ),
            (
                Change::Add,
                r#"{"profile":["http://p"],"lastUpdated":"2020-01-01T00:00:00Z"}"#,
                Some(r#"{"versionId":"1","tag":[{"system":"s","code":"a","display":"A"}],"profile":["http://p"]}"#),
            ),
            (
                Change::Remove,
                r#"{"tag":[{"system":"s","code":"a"}]}"#,
                Some(r#"{"versionId":"1"}"#),
            ),
            (Change::Remove, r#"{"tag":[{"code":"a"}]}"#, None),
            (Change::Remove, r#"{"security":[{"system":"s","code":"a"}]}"#, None),
            (Change::Add, "{}", None),
        ];
        for (change, given, meta) in cases {
            let expected = meta.map(|meta| format!(r#"{{"resourceType":"Basic","meta":{meta},"x":1.50}}"#));
            assert_eq!(changed(resource, given, change), expected, "{change:?} {given}");
        }
        assert_eq!(
            changed(r#"{"resourceType":"Basic"}"#, r#"{"profile":["http://p"]}"#, Change::Add).as_deref(),
            Some(r#"{"resourceType":"Basic","meta":{"profile":["http://p"]}}"#)
        );
    }

    #[test]
    fn the_twin_of_a_profile_keeps_its_place() {
        let resource = r#"{"meta":{"profile":["http://p","http://q"],"_profile":[{"id":"1"},{"id":"2"}]}}"#;
        assert_eq!(
            changed(resource, r#"{"profile":["http://p"]}"#, Change::Remove).as_deref(),
            Some(r#"{"meta":{"profile":["http://q"],"_profile":[{"id":"2"}]}}"#)
        );
        assert_eq!(
            changed(resource, r#"{"profile":["http://r"]}"#, Change::Add).as_deref(),
            Some(r#"{"meta":{"profile":["http://p","http://q","http://r"],"_profile":[{"id":"1"},{"id":"2"},null]}}"#)
        );
    }
}
