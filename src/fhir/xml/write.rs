//! JSON to XML: the members of each object in the order of its definition.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::Member;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::fhir::xml::FHIR;
use crate::fhir::xml::Role;
use crate::fhir::xml::markup::is_char;
use crate::fhir::xml::narrative;
use crate::outcome::Outcome;
use std::borrow::Cow;

pub struct Writer {
    definitions: &'static Definitions,
    out: String,
    is_pretty: bool,
    depth: usize,
}

/// A member of an object with its twin: `birthDate` and `_birthDate`.
struct Found<'v> {
    member: Member<'static>,
    /// Without the `_` of a twin.
    name: Cow<'v, str>,
    value: Option<Value<'v>>,
    twin: Option<Value<'v>>,
}

impl Writer {
    pub fn write(definitions: &'static Definitions, resource: Value<'_>, is_pretty: bool) -> Result<String, Outcome> {
        let mut writer = Writer {
            definitions,
            out: String::with_capacity(resource.span().len() + resource.span().len() / 4),
            is_pretty,
            depth: 0,
        };
        writer.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        writer.resource(resource)?;
        if is_pretty {
            writer.out.push('\n');
        }
        Ok(writer.out)
    }

    fn resource(&mut self, resource: Value<'_>) -> Result<(), Outcome> {
        let name = resource.get_str("resourceType");
        let ty = name.as_deref().and_then(|name| self.definitions.type_named(name));
        let (Some(ty), Some(shape)) = (ty, ty.and_then(|ty| ty.shape)) else {
            return Err(Outcome::internal("an answer holds what is no resource, and has no XML"));
        };
        self.open(&ty.name);
        if self.depth == 0 {
            self.attribute("xmlns", FHIR);
        }
        let found = self.members(shape, resource, Role::Resource)?;
        self.children(&ty.name, &found)
    }

    /// The members of an object but for its attributes, in order.
    fn members<'v>(&self, shape: ShapeId, object: Value<'v>, role: Role) -> Result<Vec<Found<'v>>, Outcome> {
        let mut found: Vec<Found<'v>> = Vec::new();
        for (name, value) in object.members() {
            let plain = name.strip_prefix('_').unwrap_or(&name);
            if role == Role::Resource && name == "resourceType" || role.is_attribute(plain) {
                continue;
            }
            let Some(member) = self.definitions.member(shape, &name) else {
                return Err(Outcome::internal(format!(
                    "an answer has a member that {} does not have, and no XML for it",
                    self.definitions.shape(shape).path
                )));
            };
            if member.is_twin && member.ty.code == "xhtml" {
                continue;
            }
            let (value, twin) = if member.is_twin { (None, Some(value)) } else { (Some(value), None) };
            let name = match (member.is_twin, name) {
                (false, name) => name,
                (true, Cow::Borrowed(name)) => Cow::Borrowed(&name[1..]),
                (true, Cow::Owned(name)) => Cow::Owned(name[1..].to_owned()),
            };
            found.push(Found { member, name, value, twin });
        }
        found.sort_by(|a, b| (a.member.element_index, &a.name).cmp(&(b.member.element_index, &b.name)));
        found.dedup_by(|later, first| {
            let is_same = later.name == first.name;
            if is_same {
                first.value = first.value.or(later.value);
                first.twin = first.twin.or(later.twin);
            }
            is_same
        });
        Ok(found)
    }

    fn member(&mut self, found: &Found<'_>) -> Result<(), Outcome> {
        let list = |value: Option<Value<'_>>| value.is_some_and(|v| v.kind() == Kind::Array);
        if !list(found.value) && !list(found.twin) {
            return self.item(found, found.value, found.twin);
        }
        let mut values = found.value.map(|v| v.items());
        let mut twins = found.twin.map(|v| v.items());
        loop {
            let value = values.as_mut().and_then(Iterator::next);
            let twin = twins.as_mut().and_then(Iterator::next);
            if value.is_none() && twin.is_none() {
                return Ok(());
            }
            self.item(found, value, twin)?;
        }
    }

    fn item(&mut self, found: &Found<'_>, value: Option<Value<'_>>, twin: Option<Value<'_>>) -> Result<(), Outcome> {
        let value = value.filter(|v| !v.is_null());
        let ty = found.member.ty;
        match (ty.code.as_str(), ty.shape, value) {
            ("xhtml", _, Some(div)) => {
                let div = div.as_str().ok_or_else(|| wrong_kind(found))?;
                self.line();
                self.out.push_str(&narrative::to_xml(&div));
                Ok(())
            }
            ("xhtml", _, None) => Ok(()),
            ("Resource", _, Some(resource)) => {
                self.open(&found.name);
                self.out.push('>');
                self.depth += 1;
                self.resource(resource)?;
                self.depth -= 1;
                self.close(&found.name);
                Ok(())
            }
            (_, Some(shape), Some(object)) if object.is_object() => {
                let role = Role::of(self.definitions, shape);
                self.open(&found.name);
                self.attributes(object, role);
                let members = self.members(shape, object, role)?;
                self.children(&found.name, &members)
            }
            (_, None, value) => self.primitive(found, value, twin.filter(Value::is_object)),
            _ => Err(wrong_kind(found)),
        }
    }

    fn primitive(&mut self, found: &Found<'_>, value: Option<Value<'_>>, twin: Option<Value<'_>>) -> Result<(), Outcome> {
        self.open(&found.name);
        if let Some(twin) = twin {
            self.attributes(twin, Role::Element);
        }
        match value {
            Some(value) if matches!(value.kind(), Kind::Array | Kind::Object) => return Err(wrong_kind(found)),
            Some(value) => {
                let text = value.as_str().unwrap_or(Cow::Borrowed(value.raw()));
                self.attribute("value", &text);
            }
            None => {}
        }
        // id and extensions are the same in every element.
        let shape = self.definitions.shape_of("Element");
        let members = match (twin, shape) {
            (Some(twin), Some(shape)) => self.members(shape, twin, Role::Element)?,
            _ => Vec::new(),
        };
        self.children(&found.name, &members)
    }

    fn attributes(&mut self, object: Value<'_>, role: Role) {
        for name in ["id", "url"].into_iter().filter(|name| role.is_attribute(name)) {
            if let Some(value) = object.get_str(name) {
                self.attribute(name, &value);
            }
        }
    }

    /// What stands in an element whose tag is still open, and its end.
    fn children(&mut self, name: &str, members: &[Found<'_>]) -> Result<(), Outcome> {
        if members.is_empty() {
            self.out.push_str("/>");
            return Ok(());
        }
        self.out.push('>');
        self.depth += 1;
        for member in members {
            self.member(member)?;
        }
        self.depth -= 1;
        self.close(name);
        Ok(())
    }

    fn open(&mut self, name: &str) {
        self.line();
        self.out.push('<');
        self.out.push_str(name);
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        escape_into(value, &mut self.out);
        self.out.push('"');
    }

    fn close(&mut self, name: &str) {
        self.line();
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn line(&mut self) {
        if self.is_pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", self.depth));
        }
    }
}

fn wrong_kind(found: &Found<'_>) -> Outcome {
    Outcome::internal(format!(
        "an answer has another kind of value in {}, and no XML for it",
        found.member.element.name
    ))
}

/// Appends a text as the value of an attribute. White space is escaped, or it would be read as spaces.
pub fn escape_into(text: &str, out: &mut String) {
    let mut copied = 0;
    for (at, c) in text.char_indices() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\t' => "&#9;",
            '\n' => "&#10;",
            '\r' => "&#13;",
            c if !is_char(c) => "\u{fffd}",
            _ => continue,
        };
        out.push_str(&text[copied..at]);
        out.push_str(escaped);
        copied = at + c.len_utf8();
    }
    out.push_str(&text[copied..]);
}
