//! Runs a compiled profile over a resource that base R4 has been checked for already.

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::outcome::Severity;
use crate::validate::binding;
use crate::validate::path::Issues;
use crate::validate::path::Path;
use crate::validate::profile::BoundKind;
use crate::validate::profile::Expected;
use crate::validate::profile::Profile;
use crate::validate::profile::Rule;
use crate::validate::profile::Slice;

/// One run of a profile.
struct Run<'a> {
    profile: &'a Profile,
    /// What a broken rule is: an error, or a warning when the policy says so.
    severity: Severity,
    issues: &'a mut Issues,
}

pub fn check(profile: &Profile, severity: Severity, resource: Value<'_>, path: &Path<'_>, issues: &mut Issues) {
    Run { profile, severity, issues }.rules(&profile.rules, resource, path);
}

impl Run<'_> {
    fn rules(&mut self, rules: &[Rule], value: Value<'_>, path: &Path<'_>) {
        for rule in rules {
            if self.issues.is_full() {
                return;
            }
            self.rule(rule, value, path);
        }
    }

    fn rule(&mut self, rule: &Rule, parent: Value<'_>, path: &Path<'_>) {
        let path = path.child(&rule.name);
        let found = rule.names.iter().find_map(|name| parent.get(name));
        let count = found.map_or_else(|| twins(rule, parent), |value| value.items().count());
        if rule.refused.iter().any(|name| parent.get(name).is_some()) {
            self.fail(&path, "structure", format!("{} is {}", rule.id, rule.names.join(" or ")));
        }
        self.count(rule.min, rule.max, count, &rule.id, &path);
        let Some(value) = found else {
            self.slice_counts(rule, &[], &path);
            return;
        };
        let is_list = value.kind() == Kind::Array;
        let mut sliced = vec![0; rule.slicing.as_ref().map_or(0, |s| s.slices.len())];
        for (index, item) in value.items().enumerate() {
            let path = if is_list { path.at(index) } else { path };
            self.item(rule, item, &path);
            self.slices(rule, item, &path, &mut sliced);
        }
        self.slice_counts(rule, &sliced, &path);
    }

    fn slices(&mut self, rule: &Rule, item: Value<'_>, path: &Path<'_>, counts: &mut [usize]) {
        let Some(slicing) = &rule.slicing else { return };
        let Some(index) = slicing.slices.iter().position(|slice| is_in(slice, item)) else {
            if slicing.is_closed {
                self.fail(path, "structure", format!("{} allows only its slices", rule.id));
            }
            return;
        };
        counts[index] += 1;
        self.item(&slicing.slices[index].rule, item, path);
    }

    fn slice_counts(&mut self, rule: &Rule, counts: &[usize], path: &Path<'_>) {
        for (index, slice) in rule.slicing.iter().flat_map(|s| &s.slices).enumerate() {
            self.count(
                slice.rule.min,
                slice.rule.max,
                counts.get(index).copied().unwrap_or(0),
                &slice.rule.id,
                path,
            );
        }
    }

    fn count(&mut self, min: u32, max: Option<u32>, count: usize, id: &str, path: &Path<'_>) {
        if count < min as usize {
            self.fail(path, "required", format!("{id} is required, at least {min}"));
        } else if let Some(max) = max.filter(|max| count > *max as usize) {
            self.fail(path, "structure", format!("{id} may be there at most {max} times, found {count}"));
        }
    }

    fn item(&mut self, rule: &Rule, item: Value<'_>, path: &Path<'_>) {
        for expected in &rule.expected {
            if !matches(expected, item) {
                let (Expected::Fixed(wanted) | Expected::Pattern(wanted)) = expected;
                self.fail(path, "value", format!("{} is {wanted}", rule.id));
            }
        }
        if let Some(binding) = &rule.binding {
            let fault = match binding.kind {
                BoundKind::Code => binding::code_fault(&binding.codes, item),
                BoundKind::Coding => binding::coding_fault(&binding.codes, item),
                BoundKind::CodeableConcept => binding::concept_fault(&binding.codes, item),
            };
            if let Some(text) = fault {
                self.fail(path, "code-invalid", text);
            }
        }
        for constraint in &rule.constraints {
            if let Err(why) = (constraint.check)(item) {
                let severity = if constraint.severity == Severity::Error {
                    self.severity
                } else {
                    constraint.severity
                };
                let text = format!("{} ({} of {}): {why}", constraint.human, constraint.key, self.profile.name);
                self.issues.push(severity, path, "business-rule", text);
            }
        }
        if item.is_object() {
            self.rules(&rule.children, item, path);
        }
    }

    fn fail(&mut self, path: &Path<'_>, code: &'static str, text: String) {
        let text = format!("{text} (profile {})", self.profile.name);
        self.issues.push(self.severity, path, code, text);
    }
}

/// How many values there are that have only an id or extensions.
fn twins(rule: &Rule, parent: Value<'_>) -> usize {
    rule.names
        .iter()
        .find_map(|name| parent.get(&format!("_{name}")))
        .map_or(0, |twin| twin.items().count())
}

fn is_in(slice: &Slice, item: Value<'_>) -> bool {
    slice.tests.iter().all(|(path, expected)| {
        let mut at = Some(item);
        for name in path {
            at = at.and_then(|value| value.get(name));
        }
        // Through an array (coding.system), one item that matches is enough.
        at.is_some_and(|value| value.items().any(|value| expected.iter().all(|e| matches(e, value))))
    })
}

fn matches(expected: &Expected, value: Value<'_>) -> bool {
    match expected {
        Expected::Fixed(wanted) => is_equal(wanted, value),
        Expected::Pattern(wanted) => is_covered(wanted, value),
    }
}

fn is_equal(wanted: &Json, value: Value<'_>) -> bool {
    match wanted {
        Json::Object(members) => {
            value.is_object()
                && value.members().count() == members.len()
                && members
                    .iter()
                    .all(|(name, wanted)| value.get(name).is_some_and(|v| is_equal(wanted, v)))
        }
        Json::Array(items) => {
            value.kind() == Kind::Array
                && value.items().count() == items.len()
                && items.iter().zip(value.items()).all(|(wanted, v)| is_equal(wanted, v))
        }
        other => is_same_scalar(other, value),
    }
}

/// Every member of the pattern is in the value, every item of a pattern's array in some item of the value's.
fn is_covered(wanted: &Json, value: Value<'_>) -> bool {
    match wanted {
        Json::Object(members) => members
            .iter()
            .all(|(name, wanted)| value.get(name).is_some_and(|v| is_covered(wanted, v))),
        Json::Array(items) => value.kind() == Kind::Array && items.iter().all(|wanted| value.items().any(|v| is_covered(wanted, v))),
        other => is_same_scalar(other, value),
    }
}

fn is_same_scalar(wanted: &Json, value: Value<'_>) -> bool {
    match wanted {
        Json::String(text) => value.as_str() == Some(Cow::Borrowed(text)),
        Json::Bool(wanted) => value.as_bool() == Some(*wanted),
        Json::Number(wanted) => value.as_number() == Some(wanted.to_string().as_str()),
        Json::Null | Json::Array(_) | Json::Object(_) => false,
    }
}
