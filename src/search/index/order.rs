//! The values of a resource by which it is sorted where the index has hashes only: tokens by code and then system, contact points by their value,
//! references by what they say, URIs. Spec: <https://hl7.org/fhir/R4/search.html#sort>.

use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::referenced_type;
use crate::fhir::json::Value;
use crate::search::datatype::Datatype;
use crate::search::index::joint::for_each_at;
use crate::search::parameters::Extract;
use crate::search::parameters::Parameter;
use crate::search::parameters::TypeParameters;

/// The value that comes first in this direction; `None` if the resource has none.
pub fn order_value(of: &TypeParameters, parameter: &Parameter, is_descending: bool, resource: Value<'_>) -> Option<String> {
    let mut values: Vec<String> = Vec::new();
    for_each_at(&of.walk, 0, resource, &mut |extract, value| {
        if extract.bits & (1i64 << parameter.bit) != 0 {
            push_values(extract, value, &mut values);
        }
    });
    // Found as false, it is sorted as false.
    let absent_is_false = of.absent_is_false.iter().any(|(_, bit)| *bit == 1i64 << parameter.bit);
    if values.is_empty() && absent_is_false {
        values.push(false.to_string());
    }
    match is_descending {
        true => values.into_iter().max(),
        false => values.into_iter().min(),
    }
}

fn push_values(extract: &Extract, value: Value<'_>, values: &mut Vec<String>) {
    let code_and = |value: Value<'_>, code: &str, system: &str| {
        let (code, system) = (value.get_str(code)?, value.get_str(system).unwrap_or_default());
        Some(format!("{code}\0{system}"))
    };
    match extract.datatype {
        Datatype::Coding => values.extend(code_and(value, "code", "system")),
        Datatype::CodeableConcept => {
            let codings = value.get("coding").into_iter().flat_map(|codings| codings.items());
            values.extend(codings.filter_map(|coding| code_and(coding, "code", "system")));
        }
        Datatype::Identifier => values.extend(code_and(value, "value", "system")),
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
        _ => values.extend(value.as_str().map(String::from).or_else(|| value.as_number().map(str::to_owned))),
    }
}
