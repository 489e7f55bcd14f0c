//! The values of a resource by which it is sorted where the index has hashes only: tokens by code and then system, contact points by their value,
//! references by what they say, URIs. Spec: <https://hl7.org/fhir/R4/search.html#sort>.

use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::referenced_type;
use crate::fhir::json::Value;
use crate::fhir::systems;
use crate::search::datatype::Datatype;
use crate::search::index::joint::for_each_at;
use crate::search::parameters::Extract;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;
use std::borrow::Cow;

/// The value that comes first in this direction; `None` if the resource has none.
pub fn order_value(of: &TypeParameters, parameter: &Parameter, is_descending: bool, resource: Value<'_>) -> Option<String> {
    let mut values: Vec<String> = Vec::new();
    for_each_at(&of.walk, 0, resource, &mut |extract, value| {
        if extract.bits & (1i64 << parameter.bit) != 0 {
            push_values(extract, value, &mut values);
        }
    });
    // Found as false, it is sorted as false.
    let absent_is_false = of.absent_is_false.iter().any(|absent| absent.bits == 1i64 << parameter.bit);
    if values.is_empty() && absent_is_false {
        values.push(false.to_string());
    }
    match is_descending {
        true => values.into_iter().max(),
        false => values.into_iter().min(),
    }
}

/// Longest place: an entry of a B-tree has room for a third of a page. What is longer has none.
const PLACE_BYTES_MAX: usize = 2_000;

/// Systems have spellings that differ by less than this (`systems::canonical`).
const SPELLING_BYTES_MAX: usize = 200;

/// By what a resource is sorted that has this code.
pub fn place(code: &str, system: Option<&str>) -> Option<String> {
    let place = match system {
        // Below all characters that a code may have, and one that the database takes.
        // A system has one place, however it is written.
        Some(system) => format!("{code}\u{1}{}", systems::canonical(system)),
        None => code.to_owned(),
    };
    (place.len() <= PLACE_BYTES_MAX).then_some(place)
}

/// The code of a place.
pub fn code_of(place: &str) -> &str {
    place.split('\u{1}').next().unwrap_or(place)
}

/// What is read here has places in the vocabulary.
pub fn is_ordered(extract: &Extract) -> bool {
    let is_code = matches!(
        extract.datatype,
        Datatype::Code | Datatype::Boolean | Datatype::PresentAndNotFalse | Datatype::Coding | Datatype::CodeableConcept
    );
    is_code && extract.kind == SearchParameterKind::Token
}

/// Whether a code, or a concept with a code, has a place: most have, and no text is made to tell.
pub(super) fn has_place(extract: &Extract, value: Value<'_>) -> bool {
    let has_code = |coding: Value<'_>| {
        let length = |name: &str| coding.get(name).map_or(0, |text| text.raw().len());
        match length("code") + length("system") < PLACE_BYTES_MAX - SPELLING_BYTES_MAX {
            true => coding.get_str("code").is_some(),
            false => coding_place(coding).is_some(),
        }
    };
    match extract.datatype {
        Datatype::Coding => has_code(value),
        Datatype::CodeableConcept => value.get("coding").into_iter().flat_map(|codings| codings.items()).any(has_code),
        Datatype::Boolean | Datatype::PresentAndNotFalse => true,
        _ => value.raw().len() < PLACE_BYTES_MAX || plain_place(value).is_some(),
    }
}

fn coding_place(coding: Value<'_>) -> Option<String> {
    place(&coding.get_str("code")?, coding.get_str("system").as_deref())
}

fn plain_place(value: Value<'_>) -> Option<String> {
    place(&value.as_str().or_else(|| value.as_number().map(Cow::Borrowed))?, None)
}

fn push_values(extract: &Extract, value: Value<'_>, values: &mut Vec<String>) {
    match extract.datatype {
        Datatype::Coding => values.extend(coding_place(value)),
        Datatype::CodeableConcept => {
            let codings = value.get("coding").into_iter().flat_map(|codings| codings.items());
            values.extend(codings.filter_map(coding_place));
        }
        Datatype::Identifier => {
            let system = value.get_str("system").unwrap_or_default();
            values.extend(
                value
                    .get_str("value")
                    .map(|text| format!("{text}\u{1}{}", systems::canonical(&system))),
            );
        }
        Datatype::ContactPoint => values.extend(value.get_str("value").map(String::from)),
        Datatype::Boolean => values.push(value.raw().to_owned()),
        Datatype::PresentAndNotFalse => values.push((value.as_bool() != Some(false)).to_string()),
        Datatype::Reference => {
            let reference = value.get_str("reference").filter(|reference| !reference.starts_with('#'));
            let is_wanted = |reference: &str| match &extract.target {
                Some(target) => referenced_type(reference) == Some(target) || value.get_str("type").is_some_and(|t| t == target.as_str()),
                None => true,
            };
            values.extend(reference.filter(|reference| is_wanted(reference)).map(String::from));
        }
        Datatype::Resource => {
            if let (Some(type_name), Some(id)) = (value.get_str("resourceType"), value.get_str("id")) {
                values.push(format!("{type_name}/{id}"));
            }
        }
        // Where others refer to a resource, this refers to what it contains: it says nothing outside.
        Datatype::Uri if extract.kind == SearchParameterKind::Reference && value.as_str().is_some_and(|uri| uri.starts_with('#')) => {}
        _ => values.extend(plain_place(value)),
    }
}
