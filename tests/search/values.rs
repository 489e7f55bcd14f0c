//! What a value of a resource is to a parameter of each type, and whether it is what is asked for.
//! <https://hl7.org/fhir/R4/search.html#ptypes>
//!
//! Decisions, where the specification leaves them to the server:
//! - A resource has a value for a parameter (`:missing=false`) when its expression gives an element of a datatype that the parameter reads, be it
//!   only a text or a display ("which usually equates to not having the relevant element in the resource", search.html#modifiers).
//! - Codes are compared with their case, strings that are searched as tokens without ("If the underlying data type is string then the search is
//!   not case sensitive", search.html#token).
//! - Strings are compared without case and combining characters, with white space collapsed; punctuation counts ("should also be
//!   ignored": names such as D'Angelo would be found by what they are not). Each part of a name or an address is compared by itself.
//! - A code element has the system that its required binding implies; `|code` finds it too, since the element has no system property.
//! - `:above` and `:below` of URIs compare whole segments of the path; a slash at the end says nothing.
//! - A ContactPoint has no system: its use is none (search.html#token).
//! - The version of a literal reference does not count (search.html#versions: searches see current versions).
//! - Quantities: `||unit` is the code or the unit as people write it (search.html#quantity), `system|code` of UCUM every unit that can be converted to
//!   it; `<` and `>` exclude the value.

use crate::features::is_on;
use crate::fhirpath::Item;
use crate::ranges::Interval;
use crate::ranges::Span;
use crate::ranges::WITHOUT_BEGINNING;
use crate::ranges::WITHOUT_END;
use crate::ranges::asked;
use crate::ranges::date_holds;
use crate::ranges::decimal;
use crate::ranges::instant;
use crate::ranges::number_holds;
use crate::ranges::span;
use crate::ranges::split_prefix;
use eds::fhir::definitions::definitions;
use eds::fhir::definitions::model::SearchParameterKind;
use rust_decimal::Decimal;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Systems that mean the same, of those that the populations have. `docs/glossary.md` says why.
const SAME_SYSTEMS: [(&str, &str); 2] = [
    ("http://loinc.org", "urn:oid:2.16.840.1.113883.6.1"),
    ("http://hl7.it/sid/codiceFiscale", "urn:oid:2.16.840.1.113883.2.9.4.3.2"),
];

/// The one of several names of a system by which they are compared.
pub fn canonical(system: &str) -> &str {
    SAME_SYSTEMS
        .iter()
        .find(|(_, other)| *other == system)
        .map_or(system, |(one, _)| one)
}

pub fn is_same_system(one: &str, other: &str) -> bool {
    canonical(one) == canonical(other)
}

const UCUM: &str = "http://unitsofmeasure.org";

/// A value as the parameter's type sees it.
#[derive(Debug, Clone)]
pub enum Typed<'a> {
    /// Coding or Identifier.
    Coded {
        system: Option<&'a str>,
        code: Option<&'a str>,
    },
    /// A code or another plain value; the system that the definition implies, if one.
    Plain {
        code: String,
        implied: Option<String>,
        folds: bool,
    },
    /// What `:text` of a token looks at: CodeableConcept.text, Coding.display, Identifier.type.text.
    Text(&'a str),
    /// What `:of-type` looks at: an Identifier.
    Identifier(&'a Value),
    Strings(Vec<&'a str>),
    Uri(&'a str),
    Canonical(&'a str),
    Reference(&'a Value),
    /// A resource that stands where a reference could.
    Resource(&'a Value),
    Date(Span),
    Quantity(Interval, Option<&'a Value>),
    /// There, but without anything to compare.
    Nothing,
}

/// The values that an item gives; several for a concept of several codings. Empty: this datatype is not one that the parameter reads.
pub fn typed<'a>(kind: SearchParameterKind, item: Item<'a>) -> Vec<Typed<'a>> {
    use SearchParameterKind as K;
    let (value, datatype, binding) = match item {
        Item::Element {
            value, datatype, binding, ..
        } => (value, datatype, binding),
        Item::Bool(truth) if kind == K::Token => return vec![plain(truth.to_string())],
        _ => return Vec::new(),
    };
    let text = value.as_str().unwrap_or_default();
    match (kind, datatype) {
        (K::Token, "Coding") => coding(value).collect(),
        (K::Token, "Identifier") => {
            let text = value["type"]["text"].as_str().map(Typed::Text);
            [coded(value, "value"), Typed::Identifier(value)].into_iter().chain(text).collect()
        }
        (K::Token, "CodeableConcept") => {
            let text = value["text"].as_str().map(Typed::Text);
            let codings = list(value, "coding").flat_map(coding);
            std::iter::once(Typed::Nothing).chain(text).chain(codings).collect()
        }
        (K::Token, "ContactPoint") => vec![value["value"].as_str().map_or(Typed::Nothing, |text| plain(text.to_owned()))],
        (K::Token, "code") => vec![Typed::Plain {
            code: text.to_owned(),
            implied: binding.and_then(|b| definitions().implied_system(b)),
            folds: false,
        }],
        (K::Token, "string") => vec![Typed::Plain {
            code: text.to_owned(),
            implied: None,
            folds: is_on("token of a string"),
        }],
        (K::Token, "id" | "uri" | "canonical" | "oid" | "uuid" | "url" | "date" | "dateTime" | "instant") => vec![plain(text.to_owned())],
        (K::Token, "boolean" | "integer" | "positiveInt") => vec![plain(value.to_string())],
        (K::String, "string" | "markdown" | "code" | "id") => vec![Typed::Strings(vec![text])],
        (K::String, "HumanName") => vec![strings(value, &["text", "family", "given", "prefix", "suffix"])],
        (K::String, "Address") => vec![strings(
            value,
            &["text", "line", "city", "district", "state", "postalCode", "country"],
        )],
        (K::Uri, "canonical" | "uri" | "url" | "oid" | "uuid") => vec![Typed::Uri(text)],
        (K::Reference, "Reference") => vec![Typed::Reference(value)],
        (K::Reference, "canonical" | "uri") => vec![Typed::Canonical(text)],
        (K::Reference, _) if value["resourceType"].is_string() => vec![Typed::Resource(value)],
        (K::Date, "date" | "dateTime") => vec![span(text).map_or(Typed::Nothing, Typed::Date)],
        (K::Date, "instant") => vec![instant(text).map_or(Typed::Nothing, Typed::Date)],
        (K::Date, "Period") => vec![period(value).map_or(Typed::Nothing, Typed::Date)],
        (K::Date, "Timing") => vec![timing(value).map_or(Typed::Nothing, Typed::Date)],
        (K::Number | K::Quantity, "decimal" | "integer" | "positiveInt" | "unsignedInt") => {
            vec![number(value).map_or(Typed::Nothing, |n| Typed::Quantity(Interval::point(n), None))]
        }
        (K::Number | K::Quantity, "Range") => vec![range(value)],
        (K::Quantity, "Quantity" | "Age" | "Duration" | "Distance" | "Count") => vec![quantity(value)],
        (K::Quantity, "Money") => {
            vec![number(&value["value"]).map_or(Typed::Nothing, |n| Typed::Quantity(Interval::point(n), Some(value)))]
        }
        (K::Quantity, "SampledData") => vec![sampled(value)],
        _ => Vec::new(),
    }
}

fn plain<'a>(code: String) -> Typed<'a> {
    Typed::Plain {
        code,
        implied: None,
        folds: false,
    }
}

fn coding(value: &Value) -> impl Iterator<Item = Typed<'_>> {
    std::iter::once(coded(value, "code")).chain(value["display"].as_str().map(Typed::Text))
}

fn coded<'a>(value: &'a Value, member: &str) -> Typed<'a> {
    Typed::Coded {
        system: value["system"].as_str(),
        code: value[member].as_str(),
    }
}

fn strings<'a>(value: &'a Value, members: &[&str]) -> Typed<'a> {
    Typed::Strings(members.iter().flat_map(|m| list(value, m)).filter_map(Value::as_str).collect())
}

/// The values of a member, one or many.
pub fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    let items: Vec<&Value> = match &value[member] {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    };
    items.into_iter()
}

/// "Implicitly, a missing lower boundary is less than any actual date. A missing upper boundary is greater than any actual date."
fn period(value: &Value) -> Option<Span> {
    let bound = |member: &str| value[member].as_str().and_then(span);
    let (start, end) = (bound("start"), bound("end"));
    (start.is_some() || end.is_some()).then(|| Span {
        low: start.map_or(WITHOUT_BEGINNING, |s| s.low),
        high: end.map_or(WITHOUT_END, |e| e.high),
    })
}

/// "The specified scheduling details are ignored and only the outer limits matter."
fn timing(value: &Value) -> Option<Span> {
    let events = list(value, "event").filter_map(|e| span(e.as_str()?));
    let all = events.chain(period(&value["repeat"]["boundsPeriod"]));
    all.reduce(|a, b| Span {
        low: a.low.min(b.low),
        high: a.high.max(b.high),
    })
}

/// Exact: the shortest text that a number of JSON is read back from.
fn number(value: &Value) -> Option<Decimal> {
    decimal(&value.as_number()?.to_string())
}

fn quantity(value: &Value) -> Typed<'_> {
    let Some(number) = number(&value["value"]) else {
        return Typed::Nothing;
    };
    let comparator = value["comparator"].as_str().unwrap_or_default();
    let mut interval = match comparator {
        "<" | "<=" => Interval::between(None, Some(number)),
        ">" | ">=" => Interval::between(Some(number), None),
        _ => Interval::point(number),
    };
    interval.excludes_high = comparator == "<";
    interval.excludes_low = comparator == ">";
    Typed::Quantity(interval, Some(value))
}

/// Its unit is that of its lower end, of its upper end if it has no other.
fn range(value: &Value) -> Typed<'_> {
    let end = |member: &str| number(&value[member]["value"]);
    let unit = value.get("low").or_else(|| value.get("high"));
    match (end("low"), end("high")) {
        (None, None) => Typed::Nothing,
        (low, high) => Typed::Quantity(Interval::between(low, high), unit),
    }
}

/// From the lowest to the highest of its samples, which are numbers here. <https://hl7.org/fhir/R4/datatypes.html#SampledData>
fn sampled(value: &Value) -> Typed<'_> {
    let (Some(origin), Some(data)) = (number(&value["origin"]["value"]), value["data"].as_str()) else {
        return Typed::Nothing;
    };
    let samples: Vec<Decimal> = data.split_whitespace().filter_map(decimal).map(|sample| origin + sample).collect();
    match (samples.iter().min(), samples.iter().max()) {
        (Some(low), Some(high)) => Typed::Quantity(Interval::between(Some(*low), Some(*high)), Some(&value["origin"])),
        _ => Typed::Nothing,
    }
}

/// What a code of UCUM measures, and its factor; those that the populations and cases have. <https://ucum.org/ucum>
fn measure(code: &str) -> Option<(&'static str, Decimal)> {
    let (dimension, factor) = match code {
        "g" => ("mass", "1"),
        "mg" => ("mass", "0.001"),
        "kg" => ("mass", "1000"),
        "m" => ("length", "1"),
        "cm" => ("length", "0.01"),
        _ => return None,
    };
    Some((dimension, decimal(factor)?))
}

/// How strings are compared: without case and combining characters, white space collapsed.
pub fn fold(text: &str) -> String {
    let plain: String = text.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The parts between separators that no backslash stands before; the parts keep their escapes.
pub fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = parts.last_mut().expect("one at least");
        match c {
            '\\' => last.extend(std::iter::once(c).chain(chars.next())),
            c if c == separator => parts.push(String::new()),
            c => last.push(c),
        }
    }
    parts
}

pub fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if matches!(c, '\\' | ',' | '$' | '|') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// `system|code`: the system, if there is a bar, and the code.
fn system_and_code(text: &str) -> (Option<String>, String) {
    let parts = split(text, '|');
    match parts.as_slice() {
        [code] => (None, unescape(code)),
        [system, code @ ..] => (Some(unescape(system)), unescape(&code.join("|"))),
        [] => unreachable!("a split gives one part at least"),
    }
}

pub fn token_holds(value: &Typed<'_>, text: &str) -> bool {
    let (system, code) = system_and_code(text);
    match value {
        Typed::Coded {
            system: of_value,
            code: code_of_value,
        } => {
            let is_system = match system.as_deref() {
                None => true,
                Some("") => of_value.is_none(),
                Some(asked) => of_value.is_some_and(|of| is_same_system(of, asked)),
            };
            let is_any_code = code.is_empty() && system.is_some();
            is_system && (is_any_code || *code_of_value == Some(code.as_str()))
        }
        Typed::Plain {
            code: of_value,
            implied,
            folds,
        } => {
            let is_system = system.is_none_or(|s| s.is_empty() || implied.as_deref() == Some(&s));
            is_system
                && match folds {
                    true => of_value.to_lowercase() == code.to_lowercase(),
                    false => *of_value == code,
                }
        }
        _ => false,
    }
}

/// `:text`: "the search functions as a normal string search" (search.html#token).
pub fn token_text_holds(value: &Typed<'_>, text: &str) -> bool {
    matches!(value, Typed::Text(of_value) if fold(of_value).starts_with(&fold(&unescape(text))))
}

/// `:of-type`: `system|code|value`, "and match if any of the type codes match" (search.html#token).
pub fn of_type_holds(value: &Typed<'_>, text: &str) -> bool {
    let Typed::Identifier(identifier) = value else { return false };
    let parts: Vec<String> = split(text, '|').iter().map(|part| unescape(part)).collect();
    let [system, code, text] = parts.as_slice() else { return false };
    let is_type = |coding: &Value| coding["code"] == code.as_str() && coding["system"].as_str().is_some_and(|s| is_same_system(s, system));
    identifier["value"] == text.as_str() && list(&identifier["type"], "coding").any(is_type)
}

pub fn string_holds(value: &Typed<'_>, modifier: &str, text: &str) -> bool {
    let Typed::Strings(strings) = value else { return false };
    let text = unescape(text);
    strings.iter().any(|of_value| match modifier {
        "exact" => **of_value == *text,
        "contains" => fold(of_value).contains(&fold(&text)),
        _ => fold(of_value).starts_with(&fold(&text)),
    })
}

pub fn uri_holds(value: &Typed<'_>, modifier: &str, text: &str) -> bool {
    let Typed::Uri(of_value) = value else { return false };
    let text = unescape(text);
    let is_below = |below: &str, above: &str| {
        let above = above.trim_end_matches('/');
        below.trim_end_matches('/') == above || below.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
    };
    match modifier {
        "below" => is_below(of_value, &text),
        "above" => is_below(&text, of_value),
        _ => *of_value == text,
    }
}

/// `base`: what an absolute reference to this server begins with. `targets`: the types that an id alone may be of.
pub fn reference_holds(value: &Typed<'_>, modifier: &str, text: &str, base: &str, targets: &[String]) -> bool {
    if modifier == "identifier" {
        let Typed::Reference(reference) = value else { return false };
        return reference
            .get("identifier")
            .is_some_and(|identifier| token_holds(&coded(identifier, "value"), text));
    }
    let text = unescape(text);
    let asked = local(&text, base);
    let is_id = !asked.contains(['/', ':', '|']);
    let wanted: Vec<String> = match (is_id, modifier) {
        (true, "") => targets.iter().map(|t| format!("{t}/{asked}")).collect(),
        (true, only) => vec![format!("{only}/{asked}")],
        (false, "") => vec![asked.to_owned()],
        (false, only) => [asked]
            .into_iter()
            .filter(|a| a.starts_with(&format!("{only}/")))
            .map(str::to_owned)
            .collect(),
    };
    match value {
        Typed::Reference(reference) => reference["reference"]
            .as_str()
            .is_some_and(|of| wanted.iter().any(|w| w == local(of, base))),
        Typed::Resource(resource) => wanted.contains(&format!(
            "{}/{}",
            resource["resourceType"].as_str().unwrap_or_default(),
            resource["id"].as_str().unwrap_or_default()
        )),
        Typed::Canonical(of) => *of == text || of.split('|').next() == Some(text.as_str()),
        _ => false,
    }
}

/// A literal reference without its version, and without the base if it is ours.
pub fn local<'t>(reference: &'t str, base: &str) -> &'t str {
    let unversioned = reference.split("/_history/").next().unwrap_or_default();
    let relative = unversioned.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
    relative.unwrap_or(unversioned)
}

pub fn is_date(value: &Typed<'_>, text: &str) -> bool {
    let (prefix, text) = split_prefix(text);
    let Typed::Date(target) = value else { return false };
    span(text).is_some_and(|search| date_holds(prefix, *target, search))
}

pub fn is_number(value: &Typed<'_>, text: &str) -> bool {
    let (prefix, text) = split_prefix(text);
    let Typed::Quantity(target, _) = value else { return false };
    asked(text).is_some_and(|number| number_holds(prefix, *target, number))
}

pub fn is_quantity(value: &Typed<'_>, text: &str) -> bool {
    let (prefix, text) = split_prefix(text);
    let Typed::Quantity(target, unit) = value else { return false };
    let parts: Vec<String> = split(text, '|').iter().map(|part| unescape(part)).collect();
    let Some(number) = asked(&parts[0]) else { return false };
    let member = |name: &str| unit.and_then(|u| u[name].as_str());
    match parts.get(1..) {
        Some([system, code]) if system.is_empty() => {
            let is_unit = [member("code"), member("unit"), member("currency")].contains(&Some(code.as_str()));
            is_unit && number_holds(prefix, *target, number)
        }
        Some([system, code]) => {
            let money = member("currency").map(|currency| ("urn:iso:std:iso:4217", currency));
            let Some((of_system, of_code)) = member("system").zip(member("code")).or(money) else {
                return false;
            };
            if !is_same_system(of_system, system) {
                return false;
            }
            match (measure(of_code), measure(code)) {
                // "Any value where the units can be converted" (search.html#quantity).
                (Some((is, of_factor)), Some((wanted, factor))) if system == UCUM && is == wanted => {
                    number_holds(prefix, target.scaled(of_factor), number.scaled(factor))
                }
                _ => of_code == code && number_holds(prefix, *target, number),
            }
        }
        _ => number_holds(prefix, *target, number),
    }
}
