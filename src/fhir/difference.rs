//! The difference of two resources of one type, as the operations of a FHIRPath Patch that makes the second of the first.
//!
//! The operations are in the order in which they are applied: an index is that of the list as the operations before have left it. Where a value
//! is replaced or deleted, the part `previousValue` tells what it was, as HAPI's `$diff` does.
//! Spec: <https://hl7.org/fhir/R4/fhirpatch.html>.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::choice_name;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::fhir::json::quote_into;
use std::collections::BTreeMap;

/// Comparisons of items for one pair of lists: beyond it, items are compared with those in their own place. Bounds the time for lists of thousands.
const COMPARISONS_MAX: usize = 1_000_000;

/// One value of an element: a primitive has its value, its twin (`_birthDate`: id and extensions), or both.
#[derive(Clone, Copy)]
struct Item<'v> {
    value: Option<Value<'v>>,
    twin: Option<Value<'v>>,
}

/// An element of an object with its values.
struct Slot<'v> {
    is_list: bool,
    /// Its name in JSON, which tells the type of a choice.
    json_name: String,
    type_code: &'static str,
    shape: Option<ShapeId>,
    items: Vec<Item<'v>>,
}

/// The Parameters that make `to` of `from`, both of this type. Members of the resource named in `without` are not compared.
pub fn patch(definitions: &'static Definitions, type_name: &str, from: Value<'_>, to: Value<'_>, without: &[&str]) -> String {
    let mut difference = Difference {
        definitions,
        operations: Vec::new(),
    };
    if let Some(shape) = definitions.shape_of(type_name) {
        difference.objects(type_name, shape, from, to, without);
    }
    parameters(&difference.operations)
}

/// The Parameters for a resource that there was nothing before.
pub fn whole(type_name: &str, resource: Value<'_>) -> String {
    let mut operation = begin("insert", type_name);
    operation.push_str(&format!(",{{\"name\":\"value\",\"resource\":{}}}", resource.raw()));
    parameters(&[operation])
}

fn parameters(operations: &[String]) -> String {
    let mut out = String::from("{\"resourceType\":\"Parameters\"");
    for (i, operation) in operations.iter().enumerate() {
        out.push_str(if i == 0 { ",\"parameter\":[" } else { "," });
        out.push_str(&format!("{{\"name\":\"operation\",\"part\":[{operation}]}}"));
    }
    out.push_str(if operations.is_empty() { "}" } else { "]}" });
    out
}

fn begin(kind: &str, path: &str) -> String {
    let mut out = format!("{{\"name\":\"type\",\"valueCode\":\"{kind}\"}},{{\"name\":\"path\",\"valueString\":");
    quote_into(path, &mut out);
    out.push('}');
    out
}

struct Difference {
    definitions: &'static Definitions,
    operations: Vec<String>,
}

impl Difference {
    fn objects(&mut self, path: &str, shape: ShapeId, from: Value<'_>, to: Value<'_>, without: &[&str]) {
        let mut old = self.slots(shape, from, without);
        let mut new = self.slots(shape, to, without);
        let definitions = self.definitions;
        let mut gone = Vec::new();
        for element in &definitions.shape(shape).elements {
            let of_element = format!("{path}.{}", element.name);
            match (old.remove(element.name.as_str()), new.remove(element.name.as_str())) {
                (Some(old), Some(new)) if old.is_list => self.lists(path, &element.name, &old, &new),
                (Some(old), Some(new)) if old.json_name == new.json_name => self.items(&of_element, &new, old.items[0], new.items[0]),
                // A choice of another type.
                (Some(old), Some(new)) => self.replace(&of_element, (&old, old.items[0]), (&new, new.items[0])),
                (Some(old), None) => gone.push((of_element, old)),
                (None, new) => {
                    for item in new.iter().flat_map(|new| &new.items) {
                        self.add(path, &element.name, new.as_ref(), *item);
                    }
                }
            }
        }
        // Last: an element that has lost all that it had would not be there to be added to.
        for (path, slot) in gone {
            self.delete_all(&path, &slot);
        }
    }

    /// The elements of an object by their FHIR names; a primitive and its twin are one.
    fn slots<'v>(&self, shape: ShapeId, object: Value<'v>, without: &[&str]) -> BTreeMap<&'static str, Slot<'v>> {
        let mut slots: BTreeMap<&str, Slot<'v>> = BTreeMap::new();
        for (name, value) in object.members() {
            let Some(member) = self.definitions.member(shape, &name).filter(|_| !without.contains(&name.as_ref())) else {
                continue;
            };
            let slot = slots.entry(member.element.name.as_str()).or_insert_with(|| Slot {
                is_list: member.element.max != Some(1),
                json_name: name.trim_start_matches('_').to_owned(),
                type_code: member.ty.code.as_str(),
                shape: member.ty.shape,
                items: Vec::new(),
            });
            for (i, item) in value.items().enumerate() {
                if slot.items.len() <= i {
                    slot.items.push(Item { value: None, twin: None });
                }
                let place = if member.is_twin {
                    &mut slot.items[i].twin
                } else {
                    &mut slot.items[i].value
                };
                *place = Some(item).filter(|item| !item.is_null());
            }
        }
        slots
    }

    fn items(&mut self, path: &str, slot: &Slot<'_>, old: Item<'_>, new: Item<'_>) {
        if canonical(old) == canonical(new) {
            return;
        }
        match (old.value, new.value, inner_shape(self.definitions, slot, old, new)) {
            (Some(from), Some(to), Some(shape)) => self.objects(path, shape, from, to, &[]),
            _ => self.replace(path, (slot, old), (slot, new)),
        }
    }

    fn replace(&mut self, path: &str, old: (&Slot<'_>, Item<'_>), new: (&Slot<'_>, Item<'_>)) {
        let mut operation = begin("replace", path);
        for (name, (slot, item)) in [("previousValue", old), ("value", new)] {
            push_value(self.definitions, name, slot.type_code, slot.shape, item, &mut operation);
        }
        self.operations.push(operation);
    }

    fn lists(&mut self, parent: &str, name: &str, old: &Slot<'_>, new: &Slot<'_>) {
        let path = format!("{parent}.{name}");
        let mut length = old.items.len();
        let mut at = 0;
        for step in alignment(&old.items, &new.items) {
            match step {
                Step::Same => at += 1,
                Step::Changed(i, j) => {
                    self.items(&format!("{path}[{at}]"), new, old.items[i], new.items[j]);
                    at += 1;
                }
                Step::Gone(i) => {
                    self.delete(&format!("{path}[{at}]"), old, old.items[i]);
                    length -= 1;
                }
                Step::New(j) => {
                    match length {
                        0 => self.add(parent, name, Some(new), new.items[j]),
                        _ => {
                            let mut operation = begin("insert", &path);
                            operation.push_str(&format!(",{{\"name\":\"index\",\"valueInteger\":{at}}}"));
                            push_value(self.definitions, "value", new.type_code, new.shape, new.items[j], &mut operation);
                            self.operations.push(operation);
                        }
                    }
                    at += 1;
                    length += 1;
                }
            }
        }
    }

    fn delete_all(&mut self, path: &str, slot: &Slot<'_>) {
        for item in &slot.items {
            let path = if slot.is_list { format!("{path}[0]") } else { path.to_owned() };
            self.delete(&path, slot, *item);
        }
    }

    fn delete(&mut self, path: &str, slot: &Slot<'_>, item: Item<'_>) {
        let mut operation = begin("delete", path);
        push_value(self.definitions, "previousValue", slot.type_code, slot.shape, item, &mut operation);
        self.operations.push(operation);
    }

    fn add(&mut self, parent: &str, name: &str, slot: Option<&Slot<'_>>, item: Item<'_>) {
        let Some(slot) = slot else { return };
        let mut operation = begin("add", parent);
        operation.push_str(",{\"name\":\"name\",\"valueString\":");
        quote_into(name, &mut operation);
        operation.push('}');
        push_value(self.definitions, "value", slot.type_code, slot.shape, item, &mut operation);
        self.operations.push(operation);
    }
}

/// The shape to go on in, if both are objects of one.
fn inner_shape(definitions: &'static Definitions, slot: &Slot<'_>, old: Item<'_>, new: Item<'_>) -> Option<ShapeId> {
    let (old, new) = (old.value?, new.value?);
    if !old.is_object() || !new.is_object() {
        return None;
    }
    let Some(resource_type) = old.get_str("resourceType") else {
        return slot.shape;
    };
    let is_same = |name: &str| old.get_str(name) == new.get_str(name);
    (is_same("resourceType") && is_same("id")).then(|| definitions.shape_of(&resource_type))?
}

enum Step {
    Same,
    Changed(usize, usize),
    Gone(usize),
    New(usize),
}

/// How one list becomes the other: what both have in order stays, and of what lies between, the items are paired as changed.
fn alignment(old: &[Item<'_>], new: &[Item<'_>]) -> Vec<Step> {
    let (from, to): (Vec<String>, Vec<String>) = (
        old.iter().map(|i| canonical(*i)).collect(),
        new.iter().map(|i| canonical(*i)).collect(),
    );
    let mut steps = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (next_i, next_j) in common(&from, &to).into_iter().chain([(from.len(), to.len())]) {
        let paired = (next_i - i).min(next_j - j);
        steps.extend((0..paired).map(|k| Step::Changed(i + k, j + k)));
        steps.extend((i + paired..next_i).map(Step::Gone));
        steps.extend((j + paired..next_j).map(Step::New));
        if next_i < from.len() {
            steps.push(Step::Same);
        }
        (i, j) = (next_i + 1, next_j + 1);
    }
    steps
}

/// Places of a longest common subsequence.
fn common(from: &[String], to: &[String]) -> Vec<(usize, usize)> {
    let before = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let room = from.len().min(to.len()) - before;
    let after = from
        .iter()
        .rev()
        .zip(to.iter().rev())
        .take(room)
        .take_while(|(a, b)| a == b)
        .count();
    let (inner_from, inner_to) = (&from[before..from.len() - after], &to[before..to.len() - after]);
    let mut places: Vec<(usize, usize)> = (0..before).map(|k| (k, k)).collect();
    if inner_from.len() * inner_to.len() <= COMPARISONS_MAX {
        let width = inner_to.len() + 1;
        let mut lengths = vec![0u32; (inner_from.len() + 1) * width];
        for i in (0..inner_from.len()).rev() {
            for j in (0..inner_to.len()).rev() {
                lengths[i * width + j] = match inner_from[i] == inner_to[j] {
                    true => lengths[(i + 1) * width + j + 1] + 1,
                    false => lengths[(i + 1) * width + j].max(lengths[i * width + j + 1]),
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < inner_from.len() && j < inner_to.len() {
            if inner_from[i] == inner_to[j] {
                places.push((before + i, before + j));
                (i, j) = (i + 1, j + 1);
            } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
                i += 1;
            } else {
                j += 1;
            }
        }
    }
    places.extend((0..after).rev().map(|k| (from.len() - 1 - k, to.len() - 1 - k)));
    places
}

/// A text that two values have in common when they are the same: without white space, spelling of strings and order of members.
fn canonical(item: Item<'_>) -> String {
    fn push(value: Value<'_>, out: &mut String) {
        match value.kind() {
            Kind::Object => {
                let members: BTreeMap<_, _> = value.members().collect();
                out.push('{');
                for (name, member) in members {
                    quote_into(&name, out);
                    push(member, out);
                }
                out.push('}');
            }
            Kind::Array => {
                out.push('[');
                value.items().for_each(|item| push(item, out));
                out.push(']');
            }
            Kind::String => quote_into(&value.as_str().unwrap_or_default(), out),
            Kind::Null | Kind::Bool | Kind::Number => {
                out.push_str(value.raw());
                out.push(',');
            }
        }
    }
    let mut out = String::new();
    for part in [item.value, item.twin] {
        if let Some(value) = part {
            push(value, &mut out);
        }
        out.push('|');
    }
    out
}

/// Appends a part with the value as Parameters have it: as `value[x]`, as a resource, or, for what is neither, as parts.
fn push_value(definitions: &'static Definitions, name: &str, type_code: &str, shape: Option<ShapeId>, item: Item<'_>, out: &mut String) {
    out.push_str(if out.is_empty() { "{\"name\":" } else { ",{\"name\":" });
    quote_into(name, out);
    let is_resource = item.value.is_some_and(|value| value.get("resourceType").is_some());
    match (item.value, shape) {
        (Some(value), _) if is_resource => out.push_str(&format!(",\"resource\":{}", value.raw())),
        (Some(value), Some(shape)) if !may_be_a_parameter(definitions, type_code) => {
            out.push_str(",\"part\":[");
            let mut parts = String::new();
            let difference = Difference {
                definitions,
                operations: Vec::new(),
            };
            for (name, slot) in difference.slots(shape, value, &[]) {
                for item in &slot.items {
                    push_value(definitions, name, slot.type_code, slot.shape, *item, &mut parts);
                }
            }
            out.push_str(&parts);
            out.push(']');
        }
        (value, _) => {
            // What no parameter can be is text: xhtml.
            let code = if may_be_a_parameter(definitions, type_code) {
                type_code
            } else {
                "string"
            };
            let member = choice_name("value", code);
            if let Some(value) = value {
                out.push_str(&format!(",\"{member}\":{}", value.raw()));
            }
            if let Some(twin) = item.twin {
                out.push_str(&format!(",\"_{member}\":{}", twin.raw()));
            }
        }
    }
    out.push('}');
}

fn may_be_a_parameter(definitions: &'static Definitions, type_code: &str) -> bool {
    let parameter = definitions
        .shape_of("Parameters")
        .and_then(|shape| definitions.element(shape, "parameter"))
        .and_then(|element| element.types.first()?.shape);
    let value = parameter.and_then(|shape| definitions.element(shape, "value"));
    value.is_some_and(|value| value.types.iter().any(|ty| ty.code == type_code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::definitions::definitions;
    use crate::fhir::json::Document;

    /// `type path [index] value` of each operation.
    fn told(type_name: &str, from: &str, to: &str) -> Vec<String> {
        let (from, to) = (Document::parse_str(from).unwrap(), Document::parse_str(to).unwrap());
        let text = patch(definitions(), type_name, from.root(), to.root(), &["meta"]);
        let parameters: serde_json::Value = serde_json::from_str(&text).unwrap();
        let operations = parameters["parameter"].as_array().cloned().unwrap_or_default();
        let line = |operation: &serde_json::Value| {
            let parts = operation["part"].as_array().unwrap().iter();
            let part = |part: &serde_json::Value| {
                let members = part.as_object().unwrap().iter().filter(|(name, _)| *name != "name");
                let values: Vec<String> = members.map(|(name, value)| format!("{name}={value}")).collect();
                let name = part["name"].as_str().unwrap();
                let values = values.join(" ").replace('"', "'");
                format!("{name}:{values}")
                    .replace("type:valueCode=", "")
                    .replace("path:valueString=", "")
            };
            parts.map(part).collect::<Vec<_>>().join(" ")
        };
        operations.iter().map(line).collect()
    }

    #[test]
    fn each_kind_of_change_is_told_as_an_operation() {
        let cases: [(&str, &str, &str, &[&str]); 13] = [
            ("Patient", r#"{"gender":"male"}"#, r#"{"gender" : "\u006dale"}"#, &[]),
            (
                "Patient",
                r#"{"gender":"male"}"#,
                r#"{"gender":"female"}"#,
                &["'replace' 'Patient.gender' previousValue:valueCode='male' value:valueCode='female'"],
            ),
            (
                "Patient",
                r#"{"birthDate":"1970"}"#,
                r#"{"active":true}"#,
                &[
                    "'add' 'Patient' name:valueString='active' value:valueBoolean=true",
                    "'delete' 'Patient.birthDate' previousValue:valueDate='1970'",
                ],
            ),
            (
                "Patient",
                r#"{"name":[{"given":["a","b","c"]}]}"#,
                r#"{"name":[{"given":["a","c","d"]}]}"#,
                &[
                    "'delete' 'Patient.name[0].given[1]' previousValue:valueString='b'",
                    "'insert' 'Patient.name[0].given' index:valueInteger=2 value:valueString='d'",
                ],
            ),
            (
                "Patient",
                r#"{"name":[{"family":"A"},{"family":"B"}]}"#,
                r#"{"name":[{"family":"A"},{"family":"C","use":"usual"}]}"#,
                &[
                    "'add' 'Patient.name[1]' name:valueString='use' value:valueCode='usual'",
                    "'replace' 'Patient.name[1].family' previousValue:valueString='B' value:valueString='C'",
                ],
            ),
            (
                "Patient",
                r#"{}"#,
                r#"{"name":[{"family":"A"},{"family":"B"}]}"#,
                &[
                    "'add' 'Patient' name:valueString='name' value:valueHumanName={'family':'A'}",
                    "'add' 'Patient' name:valueString='name' value:valueHumanName={'family':'B'}",
                ],
            ),
            (
                "Patient",
                r#"{"name":[{"family":"A"},{"family":"B"}]}"#,
                r#"{"name":[{"family":"0"},{"family":"A"},{"family":"B"}]}"#,
                &["'insert' 'Patient.name' index:valueInteger=0 value:valueHumanName={'family':'0'}"],
            ),
            (
                "Patient",
                r#"{"name":[{"family":"A"},{"family":"B"}]}"#,
                r#"{}"#,
                &[
                    "'delete' 'Patient.name[0]' previousValue:valueHumanName={'family':'A'}",
                    "'delete' 'Patient.name[0]' previousValue:valueHumanName={'family':'B'}",
                ],
            ),
            (
                "Observation",
                r#"{"valueString":"x"}"#,
                r#"{"valueQuantity":{"value":1.50}}"#,
                &["'replace' 'Observation.value' previousValue:valueString='x' value:valueQuantity={'value':1.5}"],
            ),
            (
                "Observation",
                r#"{"valueQuantity":{"value":1.5}}"#,
                r#"{"valueQuantity":{"value":1.50}}"#,
                &["'replace' 'Observation.value.value' previousValue:valueDecimal=1.5 value:valueDecimal=1.5"],
            ),
            (
                "Patient",
                r#"{"birthDate":"1970","_birthDate":{"id":"a"}}"#,
                r#"{"birthDate":"1970","_birthDate":{"id":"b"}}"#,
                &[
                    "'replace' 'Patient.birthDate' previousValue:valueDate='1970' _valueDate={'id':'a'} value:valueDate='1970' _valueDate={'id':'b'}",
                ],
            ),
            (
                "Patient",
                r#"{}"#,
                r#"{"contact":[{"name":{"family":"A"},"gender":"male"}]}"#,
                &[
                    "'add' 'Patient' name:valueString='contact' value:part=[{'name':'gender','valueCode':'male'},{'name':'name','valueHumanName':{'family':'A'}}]",
                ],
            ),
            (
                "Patient",
                r#"{"contained":[{"resourceType":"Organization","id":"o","name":"A"}]}"#,
                r#"{"contained":[{"resourceType":"Organization","id":"o","name":"B"}]}"#,
                &["'replace' 'Patient.contained[0].name' previousValue:valueString='A' value:valueString='B'"],
            ),
        ];
        for (type_name, from, to, expected) in cases {
            assert_eq!(told(type_name, from, to), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn lists_of_thousands_are_compared_in_bounded_time() {
        let list = |from: usize| {
            let names: Vec<String> = (from..from + 3_000).map(|i| format!("\"{}\"", i * 7 % 3_001)).collect();
            format!(r#"{{"name":[{{"given":[{}]}}]}}"#, names.join(","))
        };
        assert!(!told("Patient", &list(0), &list(1_500)).is_empty());
    }
}
