//! Validation against base R4: one walk over a resource, driven by the compiled shapes.
//!
//! Checks elements and their order-free cardinality, JSON kinds, primitive formats, choices, `_name` twins, required bindings,
//! references and contained resources, and ext-1. Other FHIRPath invariants are not evaluated yet.
//! Spec: <https://hl7.org/fhir/R4/json.html>, <https://hl7.org/fhir/R4/validation.html>.

use std::borrow::Cow;

use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::validate::binding;
use crate::validate::messages;
use crate::validate::path::Issues;
use crate::validate::path::Path;
use crate::validate::path::quoted;
use crate::validate::primitive::Primitive;
use crate::validate::program::CHOICES_MAX;
use crate::validate::program::CodeSet;
use crate::validate::program::ElementMask;
use crate::validate::program::Program;
use crate::validate::program::Role;
use crate::validate::program::ShapeProgram;
use crate::validate::program::Slot;
use crate::validate::program::SlotKind;
use crate::validate::reference;

/// How a resource stands where it was found.
#[derive(Clone, Copy)]
pub struct Place<'c> {
    /// The resource that is not contained in another.
    pub container: Value<'c>,
    /// What it contains: `#id` is looked up there.
    pub contained: &'c Contained<'c>,
    pub is_contained: bool,
}

/// Contained resources by id, sorted: a resource may hold thousands, and as many references to them.
pub type Contained<'c> = Vec<(Cow<'c, str>, Value<'c>)>;

/// The walk: what it reads, and what it has found.
pub struct Walk<'a, 'd> {
    pub program: &'a Program,
    pub issues: Issues,
    /// Called for each resource that stands on its own, after its base validation: profiles.
    pub on_resource: &'a dyn Fn(&str, Value<'d>, &Path<'_>, &mut Issues),
    /// Go into Bundle.entry.resource.
    pub is_deep: bool,
}

/// Members of one object seen so far.
struct Seen {
    elements: ElementMask,
    /// Type chosen for each choice of the shape.
    chosen: [u8; CHOICES_MAX],
}

const NOT_CHOSEN: u8 = u8::MAX;

impl<'a, 'd> Walk<'a, 'd> {
    /// A resource on its own or contained in another.
    pub fn resource(&mut self, value: Value<'d>, path: &Path<'_>, container: Option<Place<'_>>) {
        if value.kind() != Kind::Object {
            return self.issues.error(
                path,
                "structure",
                format!("a resource is a JSON object, found {}", messages::kind(value)),
            );
        }
        let Some(name) = value.get("resourceType") else {
            return self.issues.error(path, "required", "resourceType is missing");
        };
        let Some(shape) = name.as_str().and_then(|name| self.program.resources.get(&name)) else {
            return self
                .issues
                .error(&path.child("resourceType"), "invalid", "resourceType names no resource type of R4");
        };
        let shape = &self.program.shapes[*shape as usize];
        if let Some(container) = container {
            return self.object(
                shape,
                value,
                path,
                Place {
                    is_contained: true,
                    ..container
                },
            );
        }
        let place = Place {
            container: value,
            contained: &contained_in(value),
            is_contained: false,
        };
        self.object(shape, value, path, place);
        (self.on_resource)(&shape.path, value, path, &mut self.issues);
    }

    fn object(&mut self, shape: &ShapeProgram, value: Value<'d>, path: &Path<'_>, place: Place<'_>) {
        if value.kind() != Kind::Object {
            return self.issues.error(
                path,
                "structure",
                format!("{} is a JSON object, found {}", shape.path, messages::kind(value)),
            );
        }
        let mut seen = Seen {
            elements: 0,
            chosen: [NOT_CHOSEN; CHOICES_MAX],
        };
        let mut has_content = false;
        for (name, member) in value.members() {
            if self.issues.is_full() {
                return;
            }
            has_content |= name != "id";
            let Some(slot) = shape.members.get(&name) else {
                if shape.role != Role::Resource || name != "resourceType" {
                    let text = messages::unknown_element(shape, &name);
                    self.issues.error(&path.child(&quoted(&name)), "structure", text);
                }
                continue;
            };
            self.member(shape, slot, &name, member, value, &mut seen, path, place);
        }
        if !has_content {
            let text = if value.get("id").is_some() {
                "an element with an id needs something else too"
            } else {
                "an object may not be empty"
            };
            return self.issues.error(path, "structure", text);
        }
        self.missing(shape, shape.required & !seen.elements, path);
        self.roles(shape, &seen, path);
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one hot call; a struct of these would be built for every member"
    )]
    fn member(
        &mut self,
        shape: &ShapeProgram,
        slot: &Slot,
        name: &str,
        value: Value<'d>,
        parent: Value<'d>,
        seen: &mut Seen,
        path: &Path<'_>,
        place: Place<'_>,
    ) {
        let element = &shape.elements[slot.element as usize];
        let path = path.child(&element.name);
        seen.elements |= 1 << slot.element;
        if let Some((choice, ty)) = slot.choice {
            let chosen = &mut seen.chosen[choice as usize];
            if *chosen != NOT_CHOSEN && *chosen != ty {
                self.issues
                    .error(&path, "structure", format!("{}[x] may have one type only", element.name));
            }
            *chosen = ty;
        }
        if slot.max == 0 {
            return self
                .issues
                .error(&path, "structure", format!("{name} is not allowed in {}", shape.path));
        }
        if slot.is_twin {
            return self.twins(slot, name, value, parent, &path, place);
        }
        if !slot.is_list {
            return self.value(slot, value, &path, place);
        }
        if value.kind() != Kind::Array {
            return self.issues.error(
                &path,
                "structure",
                format!("{name} repeats, so it is a JSON array; found {}", messages::kind(value)),
            );
        }
        let mut count = 0;
        let mut twins = None;
        for (index, item) in value.items().enumerate() {
            if self.issues.is_full() {
                return;
            }
            count += 1;
            match (item.kind(), slot.kind) {
                (Kind::Null, SlotKind::Primitive(_)) => {
                    let twins = twins.get_or_insert_with(|| twins_of(name, parent));
                    self.hole(name, index, twins, &path.at(index));
                }
                _ => self.value(slot, item, &path.at(index), place),
            }
        }
        self.count(count, element.min, slot.max, name, &path);
    }

    fn count(&mut self, count: u32, min: u32, max: u32, name: &str, path: &Path<'_>) {
        if count == 0 {
            self.issues.error(path, "structure", "an array may not be empty");
        } else if count < min {
            self.issues
                .error(path, "required", format!("{name} needs at least {min} items, found {count}"));
        } else if count > max {
            self.issues
                .error(path, "structure", format!("{name} may have at most {max} items, found {count}"));
        }
    }

    fn value(&mut self, slot: &Slot, value: Value<'d>, path: &Path<'_>, place: Place<'_>) {
        match slot.kind {
            SlotKind::Primitive(primitive) => self.primitive(primitive, slot, value, path),
            SlotKind::Object(shape) => self.object(&self.program.shapes[shape as usize], value, path, place),
            SlotKind::Coding(shape) => {
                self.object(&self.program.shapes[shape as usize], value, path, place);
                self.bound(slot, value, path, binding::coding_fault);
            }
            SlotKind::CodeableConcept(shape) => {
                self.object(&self.program.shapes[shape as usize], value, path, place);
                self.bound(slot, value, path, binding::concept_fault);
            }
            SlotKind::Reference(shape, targets) => {
                self.object(&self.program.shapes[shape as usize], value, path, place);
                reference::check(
                    self.program,
                    &self.program.targets[targets as usize],
                    value,
                    place,
                    path,
                    &mut self.issues,
                );
            }
            SlotKind::Entry if !self.is_deep => {
                if value.kind() != Kind::Object {
                    self.issues.error(
                        path,
                        "structure",
                        format!("a resource is a JSON object, found {}", messages::kind(value)),
                    );
                }
            }
            SlotKind::Resource | SlotKind::Entry => self.resource(value, path, None),
            SlotKind::Contained if place.is_contained => {
                self.issues.error(path, "structure", "a contained resource may not contain others")
            }
            SlotKind::Contained => self.resource(value, path, Some(place)),
        }
    }

    /// The required binding, when its codes are known.
    fn bound(&mut self, slot: &Slot, value: Value<'d>, path: &Path<'_>, fault: fn(&CodeSet, Value<'_>) -> Option<String>) {
        let Some(codes) = slot.binding.and_then(|id| self.program.codes[id as usize].as_ref()) else {
            return;
        };
        if let Some(text) = fault(codes, value) {
            self.issues.error(path, "code-invalid", text);
        }
    }

    fn primitive(&mut self, primitive: Primitive, slot: &Slot, value: Value<'d>, path: &Path<'_>) {
        if value.kind() != primitive.kind() {
            let text = format!(
                "expected {}, found {}",
                messages::kind_name(primitive.kind()),
                messages::kind(value)
            );
            return self.issues.error(path, "structure", text);
        }
        if !primitive.accepts(value) {
            return self.issues.error(path, "value", format!("expected {}", primitive.expected()));
        }
        self.bound(slot, value, path, binding::code_fault);
    }

    /// `null` in an array of primitives stands for a value that has only an id or extensions: `_name` holds them at the same place.
    fn hole(&mut self, name: &str, index: usize, twins: &[Value<'d>], path: &Path<'_>) {
        if !twins.get(index).is_some_and(Value::is_object) {
            let text = format!("null is allowed only where _{name} has an id or extensions at the same place");
            self.issues.error(path, "structure", text);
        }
    }

    /// `_birthDate`, `_given`: ids and extensions of primitives.
    fn twins(&mut self, slot: &Slot, name: &str, twin: Value<'d>, parent: Value<'d>, path: &Path<'_>, place: Place<'_>) {
        let plain = &name[1..];
        let value = parent.get(plain);
        if !slot.is_list {
            return self.twin(twin, value.is_some(), path, place);
        }
        if twin.kind() != Kind::Array {
            return self.issues.error(
                path,
                "structure",
                format!("{name} is a JSON array, as {plain} is; found {}", messages::kind(twin)),
            );
        }
        let mut values = value.filter(|v| v.kind() == Kind::Array).map(|v| v.items());
        let mut is_empty = true;
        let mut is_even = true;
        for (index, item) in twin.items().enumerate() {
            if self.issues.is_full() {
                return;
            }
            is_empty = false;
            let value = values.as_mut().and_then(Iterator::next);
            is_even &= values.is_none() || value.is_some();
            if !item.is_null() {
                self.twin(item, value.is_some_and(|v| !v.is_null()), &path.at(index), place);
            } else if value.is_none() {
                let text = format!("neither {plain} nor {name} has anything here");
                self.issues.error(&path.at(index), "structure", text);
            }
        }
        if is_empty {
            self.issues.error(path, "structure", "an array may not be empty");
        } else if !is_even || values.is_some_and(|mut rest| rest.next().is_some()) {
            let text = format!("{plain} and {name} have different numbers of items; null fills the gaps");
            self.issues.error(path, "structure", text);
        }
    }

    fn twin(&mut self, twin: Value<'d>, has_value: bool, path: &Path<'_>, place: Place<'_>) {
        if twin.kind() == Kind::Object && has_value && twin.get("id").is_some() && twin.get("extension").is_none() {
            // A value with an id: the shape alone would say that an id needs something beside it.
            let id = twin
                .get("id")
                .filter(|id| id.as_str().is_none_or(|id| id.is_empty()) || twin.members().count() != 1);
            if id.is_none() {
                return;
            }
        }
        self.object(&self.program.shapes[self.program.twin as usize], twin, path, place);
    }

    fn missing(&mut self, shape: &ShapeProgram, missing: ElementMask, path: &Path<'_>) {
        let mut missing = missing;
        while missing != 0 {
            let element = &shape.elements[missing.trailing_zeros() as usize];
            let suffix = if element.is_choice { "[x]" } else { "" };
            self.issues.error(
                &path.child(&element.name),
                "required",
                format!("{}.{}{suffix} is required", shape.path, element.name),
            );
            missing &= missing - 1;
        }
    }

    fn roles(&mut self, shape: &ShapeProgram, seen: &Seen, path: &Path<'_>) {
        let Role::Extension { value, extension } = shape.role else { return };
        let has = |bit: u8| seen.elements & (1 << bit) != 0;
        if has(value) == has(extension) {
            let found = if has(value) { "both" } else { "neither" };
            self.issues.error(
                path,
                "invariant",
                format!("an extension has a value or extensions of its own, found {found} (ext-1)"),
            );
        }
    }
}

fn contained_in(resource: Value<'_>) -> Contained<'_> {
    let Some(list) = resource.get("contained") else { return Vec::new() };
    let mut contained: Contained<'_> = list.items().filter_map(|r| Some((r.get_str("id")?, r))).collect();
    contained.sort_by(|a, b| a.0.cmp(&b.0));
    contained
}

/// The items of `_name`, to look up by place.
fn twins_of<'d>(name: &str, parent: Value<'d>) -> Vec<Value<'d>> {
    let twins = parent.get(&format!("_{name}")).filter(|twins| twins.kind() == Kind::Array);
    twins.map_or_else(Vec::new, |twins| twins.items().collect())
}
