//! XML to JSON: each element becomes the member that its definition says. One pass, nothing is kept but the JSON itself.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::Member;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::json;
use crate::fhir::json::Document;
use crate::fhir::json::Kind;
use crate::fhir::json::quote_into;
use crate::fhir::xml::FHIR;
use crate::fhir::xml::Role;
use crate::fhir::xml::XHTML;
use crate::fhir::xml::is_list;
use crate::fhir::xml::issues::Issues;
use crate::fhir::xml::issues::refused;
use crate::fhir::xml::issues::short;
use crate::fhir::xml::markup::Attribute;
use crate::fhir::xml::markup::Malformed;
use crate::fhir::xml::markup::Markup;
use crate::fhir::xml::markup::Namespace;
use crate::fhir::xml::markup::Start;
use crate::fhir::xml::markup::Token;
use crate::fhir::xml::markup::UNKNOWN_REFERENCE;
use crate::fhir::xml::markup::decoded;
use crate::fhir::xml::markup::is_space;
use crate::fhir::xml::narrative;
use crate::fhir::xml::narrative::Target;
use crate::outcome::Outcome;
use std::borrow::Cow;

pub struct Reader<'a> {
    definitions: &'static Definitions,
    markup: Markup<'a>,
    out: String,
    /// Arrays and objects of the JSON that are open.
    depth: usize,
    issues: Issues,
}

/// Elements of one name, one after another: a member of the JSON.
struct Run<'a> {
    name: &'a str,
    member: Member<'static>,
    is_list: bool,
    is_primitive: bool,
    count: usize,
    /// Of primitives that repeat: the values as JSON, while the twins go straight to the output, from `begin`.
    values: String,
    has_twin: bool,
    begin: usize,
}

impl<'a> Reader<'a> {
    pub fn read(definitions: &'static Definitions, xml: &[u8]) -> Result<String, Outcome> {
        let text = std::str::from_utf8(xml).map_err(|e| {
            let what = "bytes that are not UTF-8";
            let valid = String::from_utf8_lossy(&xml[..e.valid_up_to()]);
            refused(
                &valid,
                &Malformed {
                    what: what.to_owned(),
                    at: valid.len(),
                },
            )
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = match text.contains('\r') {
            true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
            false => Cow::Borrowed(text),
        };
        let mut reader = Reader {
            definitions,
            markup: Markup::document(&text).map_err(|malformed| refused(&text, &malformed))?,
            out: String::with_capacity(text.len()),
            depth: 0,
            issues: Issues::default(),
        };
        match reader.document() {
            Err(malformed) => Err(refused(&text, &malformed).at(&reader.issues.expression())),
            Ok(()) if reader.issues.found.is_empty() => Ok(reader.out),
            Ok(()) => Err(Outcome::unprocessable(reader.issues.found)),
        }
    }

    fn document(&mut self) -> Result<(), Malformed> {
        if let Token::Start(root) = self.markup.next()? {
            self.resource(&root)?;
        }
        self.markup.next().map(drop)
    }

    fn resource(&mut self, start: &Start<'a>) -> Result<(), Malformed> {
        let ty = self
            .definitions
            .type_named(start.local)
            .filter(|ty| self.definitions.is_resource(&ty.name));
        let (Some(ty), Some(shape)) = (ty, ty.and_then(|ty| ty.shape)) else {
            self.issues.tell("invalid", "the element names no resource type of R4");
            return self.skip(start);
        };
        if start.namespace != Namespace::Fhir {
            self.issues.tell("structure", format!("a resource is in the namespace {FHIR}"));
            return self.skip(start);
        }
        let is_root = self.issues.steps.is_empty();
        if is_root {
            self.issues.steps.push((&ty.name, None));
        }
        self.enter('{')?;
        self.out.push_str("\"resourceType\":\"");
        self.out.push_str(&ty.name);
        self.out.push('"');
        self.attributes(start, &[])?;
        self.children(shape, Role::Resource, start)?;
        self.leave('}');
        if is_root {
            self.issues.steps.pop();
        }
        Ok(())
    }

    /// The child elements as members of an open object. True if there is anything.
    fn children(&mut self, shape: ShapeId, role: Role, parent: &Start<'a>) -> Result<bool, Malformed> {
        let mut run: Option<Run<'a>> = None;
        let mut has_any = false;
        let mut has_text = false;
        while let Some(token) = self.markup.next_in(parent)? {
            match token {
                Token::Start(child) => {
                    has_any = true;
                    self.child(shape, role, &child, &mut run)?;
                }
                Token::Text(raw) if !has_text && !raw.trim_matches(is_space).is_empty() => {
                    (has_any, has_text) = (true, true);
                    self.issues.tell(
                        "structure",
                        "text stands here where only elements may: a value is written value=\"...\"",
                    );
                }
                _ => {}
            }
        }
        if let Some(run) = run {
            self.close(run);
        }
        Ok(has_any)
    }

    fn child(&mut self, shape: ShapeId, role: Role, child: &Start<'a>, run: &mut Option<Run<'a>>) -> Result<(), Malformed> {
        let found = self.definitions.member(shape, child.local);
        let Some(member) = found.filter(|m| !m.is_twin && !role.is_attribute(child.local)) else {
            self.issues.unknown_element(self.definitions.shape(shape), role, child.local);
            return self.skip(child);
        };
        let expected = if member.ty.code == "xhtml" {
            Namespace::Xhtml
        } else {
            Namespace::Fhir
        };
        if child.namespace != expected {
            let namespace = if expected == Namespace::Xhtml { XHTML } else { FHIR };
            self.issues.tell_at(
                &member.element.name,
                "structure",
                format!("the element is in the namespace {namespace}"),
            );
            return self.skip(child);
        }
        match run {
            Some(run) if run.name == child.local && !run.is_list => {
                self.issues
                    .tell_at(&member.element.name, "structure", "the element may stand once only");
            }
            Some(run) if run.name == child.local => {}
            Some(before) if before.member.element_index == member.element_index => {
                let text = format!("{}[x] may have one type only", member.element.name);
                self.issues.tell_at(&member.element.name, "structure", text);
            }
            Some(before) if before.member.element_index > member.element_index => {
                let text = format!(
                    "{} stands before {}: elements are in the order of their definition",
                    child.local, before.name
                );
                self.issues.tell_at(&member.element.name, "structure", text);
            }
            _ => {}
        }
        if run.as_ref().is_none_or(|run| run.name != child.local) {
            if let Some(before) = run.take() {
                self.close(before);
            }
            *run = Some(self.open(member, child.local)?);
        }
        let Some(run) = run else { return Ok(()) };
        self.issues.steps.push((&member.element.name, run.is_list.then_some(run.count)));
        self.item(run, child)?;
        run.count += 1;
        self.issues.steps.pop();
        Ok(())
    }

    fn open(&mut self, member: Member<'static>, name: &'a str) -> Result<Run<'a>, Malformed> {
        let is_primitive = self.definitions.is_primitive(&member.ty.code) && member.ty.code != "xhtml";
        let is_list = is_list(member.element);
        let begin = self.out.len();
        if is_list {
            self.name(if is_primitive { "_" } else { "" }, name);
            self.enter('[')?;
        }
        Ok(Run {
            name,
            member,
            is_list,
            is_primitive,
            count: 0,
            values: String::new(),
            has_twin: false,
            begin,
        })
    }

    fn close(&mut self, run: Run<'a>) {
        if !run.is_list {
            return;
        }
        self.leave(']');
        if run.is_primitive && !run.has_twin {
            self.out.truncate(run.begin);
        }
        // Also when it holds nothing but `null`: as HAPI and the ministry write it.
        if run.is_primitive {
            self.name("", run.name);
            self.out.push('[');
            self.out.push_str(&run.values);
            self.out.push(']');
        }
    }

    fn item(&mut self, run: &mut Run<'a>, start: &Start<'a>) -> Result<(), Malformed> {
        let ty = run.member.ty;
        if run.is_primitive {
            return self.primitive(run, start);
        }
        match run.is_list {
            true if run.count > 0 => self.out.push(','),
            true => {}
            false => self.name("", run.name),
        }
        match (ty.code.as_str(), ty.shape) {
            ("xhtml", _) => {
                let div = narrative::copy(&mut self.markup, start, Target::Json)?;
                quote_into(&div, &mut self.out);
                Ok(())
            }
            (_, Some(shape)) => self.complex(shape, start),
            (_, None) => self.container(start),
        }
    }

    fn complex(&mut self, shape: ShapeId, start: &Start<'a>) -> Result<(), Malformed> {
        let role = Role::of(self.definitions, shape);
        self.enter('{')?;
        let has_attribute = self.attributes(start, if role == Role::Extension { &["id", "url"] } else { &["id"] })?;
        if !self.children(shape, role, start)? && !has_attribute {
            self.issues.tell("structure", EMPTY);
        }
        self.leave('}');
        Ok(())
    }

    /// `contained`, `Bundle.entry.resource`, `Parameters.parameter.resource`: an element around a resource.
    fn container(&mut self, start: &Start<'a>) -> Result<(), Malformed> {
        self.attributes(start, &[])?;
        let mut has_resource = false;
        while let Some(token) = self.markup.next_in(start)? {
            match token {
                Token::Start(resource) if !has_resource => {
                    has_resource = true;
                    self.resource(&resource)?;
                }
                Token::Start(other) => {
                    self.issues.tell("structure", "the element holds one resource only");
                    self.skip(&other)?;
                }
                Token::Text(raw) if !raw.trim_matches(is_space).is_empty() => {
                    self.issues.tell("structure", "text stands here where only a resource may");
                }
                _ => {}
            }
        }
        if !has_resource {
            self.issues.tell("structure", "the element holds no resource");
        }
        Ok(())
    }

    fn primitive(&mut self, run: &mut Run<'a>, start: &Start<'a>) -> Result<(), Malformed> {
        let value = match start.attributes.iter().find(|a| a.name == "value") {
            Some(value) => Some(self.value(&run.member.ty.code, value)?),
            None => None,
        };
        let has_value = value.is_some();
        match (run.is_list, value) {
            (false, Some(value)) => {
                self.name("", run.name);
                self.out.push_str(&value);
            }
            (false, None) => {}
            (true, value) => {
                if run.count > 0 {
                    run.values.push(',');
                    self.out.push(',');
                }
                run.values.push_str(value.as_deref().unwrap_or("null"));
            }
        }
        let begin = self.out.len();
        if !run.is_list {
            self.name("_", run.name);
        }
        let begin_of_twin = self.out.len();
        self.enter('{')?;
        let has_id = self.attributes(start, &["id", "value"])?;
        // id and extensions are the same in every element.
        let shape = self.definitions.shape_of("Element").unwrap_or_default();
        let has_twin = self.children(shape, Role::Element, start)? || has_id;
        self.leave('}');
        run.has_twin |= has_twin;
        match (has_twin, run.is_list) {
            (true, _) => {}
            (false, false) => self.out.truncate(begin),
            (false, true) => {
                self.out.truncate(begin_of_twin);
                self.out.push_str("null");
            }
        }
        if !has_value && !has_twin {
            self.issues.tell("structure", EMPTY);
        }
        Ok(())
    }

    /// A primitive's value as JSON.
    fn value(&mut self, type_code: &str, attribute: &Attribute<'a>) -> Result<String, Malformed> {
        let Some(text) = decoded(attribute.raw) else {
            return self.markup.error(UNKNOWN_REFERENCE);
        };
        let is_number = || Document::parse_str(&text).is_ok_and(|d| d.root().kind() == Kind::Number && !d.is_spaced());
        let (is_right, expected) = match type_code {
            "boolean" => (matches!(text.as_ref(), "true" | "false"), "true or false"),
            "decimal" => (is_number(), "a decimal, such as 5.40 or -1e-3"),
            "integer" | "positiveInt" | "unsignedInt" => (is_number(), "a whole number"),
            _ => {
                let mut quoted = String::with_capacity(text.len() + 2);
                quote_into(&text, &mut quoted);
                return Ok(quoted);
            }
        };
        if !is_right {
            self.issues.tell("value", format!("expected {expected}"));
        }
        Ok(text.into_owned())
    }

    /// The attributes that are members, into the open object; the others are told. True if there is a member.
    fn attributes(&mut self, start: &Start<'a>, allowed: &[&'static str]) -> Result<bool, Malformed> {
        for attribute in &start.attributes {
            let is_declaration = attribute.name == "xmlns" || attribute.name.starts_with("xmlns:");
            let is_hint = attribute.namespace == Some(Namespace::SchemaInstance) && attribute.name.ends_with("chemaLocation");
            if is_declaration || is_hint || allowed.contains(&attribute.name) {
                continue;
            }
            let text = match (attribute.name, allowed) {
                ("id", []) if self.definitions.is_resource(start.local) => {
                    "the id of a resource is an element: <id value=\"...\"/>".to_owned()
                }
                (name, []) => format!("the element has no attributes, and so none named {}", short(name)),
                (name, allowed) => format!("the element has no attribute {}; it has {}", short(name), allowed.join(" and ")),
            };
            self.issues.tell("structure", text);
        }
        let mut has_any = false;
        for name in allowed.iter().filter(|name| **name != "value") {
            let Some(attribute) = start.attributes.iter().find(|a| a.name == *name) else {
                continue;
            };
            let Some(text) = decoded(attribute.raw) else {
                return self.markup.error(UNKNOWN_REFERENCE);
            };
            self.name("", name);
            quote_into(&text, &mut self.out);
            has_any = true;
        }
        Ok(has_any)
    }

    fn skip(&mut self, start: &Start<'a>) -> Result<(), Malformed> {
        let mut depth = usize::from(!start.is_empty);
        while depth > 0 {
            match self.markup.next()? {
                Token::Start(start) => depth += usize::from(!start.is_empty),
                Token::End(_) => depth -= 1,
                Token::Eof => break,
                Token::Text(_) | Token::Comment(_) => {}
            }
        }
        Ok(())
    }

    fn name(&mut self, underscore: &str, name: &str) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(underscore);
        self.out.push_str(name);
        self.out.push_str("\":");
    }

    /// Opens an array or object. Errors: deeper than JSON may be.
    fn enter(&mut self, bracket: char) -> Result<(), Malformed> {
        if self.depth == json::DEPTH_MAX {
            return self.markup.error(format!(
                "a resource nested deeper than {} levels, counted as in JSON, where what repeats is one more",
                json::DEPTH_MAX
            ));
        }
        self.depth += 1;
        self.out.push(bracket);
        Ok(())
    }

    fn leave(&mut self, bracket: char) {
        self.depth -= 1;
        self.out.push(bracket);
    }
}

const EMPTY: &str = "the element is empty: an element has a value, or elements in it";
