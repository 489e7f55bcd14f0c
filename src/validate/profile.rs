//! Profiles compiled at load: the differential of a StructureDefinition becomes rules laid over base R4.
//!
//! Supported: min and max, narrowed choices, fixed and pattern values, required bindings, slicing by value or pattern on simple
//! paths, and the invariants of `invariants.rs`. Anything else that would constrain is an error that names it, never skipped.
//! Spec: <https://hl7.org/fhir/R4/profiling.html>.

use serde_json::Value as Json;

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::choice_name;
use crate::fhir::definitions::model::Element;
use crate::fhir::definitions::model::ShapeId;
use crate::outcome::Severity;
use crate::validate::invariants;
use crate::validate::program::CodeSet;

const R4_TYPES: &str = "http://hl7.org/fhir/StructureDefinition/";
/// Members of an ElementDefinition that say nothing a validator checks.
const DESCRIPTIVE: [&str; 12] = [
    "id",
    "path",
    "sliceName",
    "short",
    "definition",
    "comment",
    "requirements",
    "alias",
    "mustSupport",
    "isSummary",
    "mapping",
    "label",
];

/// A compiled profile.
pub struct Profile {
    pub url: String,
    pub name: String,
    /// The resource type that it constrains.
    pub ty: String,
    pub rules: Vec<Rule>,
}

/// What a profile says of one element, or of one slice of it.
pub struct Rule {
    /// Name of the element, the stem for a choice.
    pub name: String,
    /// As in the profile: `Patient.identifier:codiceFiscale.value`.
    pub id: String,
    /// Names in JSON that are allowed, and those of other types of the choice that are not.
    pub names: Vec<String>,
    pub refused: Vec<String>,
    pub min: u32,
    pub max: Option<u32>,
    pub expected: Vec<Expected>,
    pub binding: Option<Binding>,
    pub constraints: Vec<Constraint>,
    pub children: Vec<Rule>,
    pub slicing: Option<Slicing>,
}

/// What a value must be.
#[derive(Clone)]
pub enum Expected {
    /// Exactly this.
    Fixed(Json),
    /// At least this.
    Pattern(Json),
}

pub struct Binding {
    pub codes: CodeSet,
    pub kind: BoundKind,
}

#[derive(Clone, Copy)]
pub enum BoundKind {
    Code,
    Coding,
    CodeableConcept,
}

pub struct Constraint {
    pub key: String,
    pub severity: Severity,
    pub human: String,
    pub check: invariants::Check,
}

pub struct Slicing {
    /// Member names to follow from the element; empty for `$this`.
    pub discriminators: Vec<Vec<String>>,
    pub is_closed: bool,
    pub slices: Vec<Slice>,
}

pub struct Slice {
    pub name: String,
    /// One per discriminator: what an item of this slice has there.
    pub tests: Vec<(Vec<String>, Vec<Expected>)>,
    pub rule: Rule,
}

/// Compiles a StructureDefinition. Errors: what it holds that is not supported, or that does not fit R4, with its place.
pub fn compile(text: &str, definitions: &Definitions) -> Result<Profile, String> {
    let json: Json = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    let field = |name: &str| json[name].as_str().map(str::to_owned).ok_or_else(|| format!("{name} is missing"));
    let url = field("url")?;
    compile_json(&json, field("name")?, &url, field("type")?, definitions).map_err(|e| format!("{url}: {e}"))
}

fn compile_json(json: &Json, name: String, url: &str, ty: String, definitions: &Definitions) -> Result<Profile, String> {
    if json["resourceType"] != "StructureDefinition" || json["derivation"] != "constraint" {
        return Err("is no StructureDefinition with derivation constraint".to_owned());
    }
    if json["baseDefinition"] != format!("{R4_TYPES}{ty}") {
        return Err("a profile on a profile is not supported".to_owned());
    }
    let shape = definitions
        .shape_of(&ty)
        .filter(|_| definitions.is_resource(&ty))
        .ok_or_else(|| format!("{ty} is no resource type"))?;
    let mut rules = Vec::new();
    for element in json["differential"]["element"].as_array().ok_or("has no differential")? {
        let id = element["id"].as_str().ok_or("an element has no id")?;
        let mut steps = id.split('.');
        if steps.next() != Some(ty.as_str()) {
            return Err(format!("{id} does not begin with {ty}"));
        }
        let steps: Vec<&str> = steps.collect();
        if steps.is_empty() {
            only_descriptive(element, id)?;
            continue;
        }
        place(&mut rules, shape, &steps, element, definitions).map_err(|e| format!("{id}: {e}"))?;
    }
    rules.iter_mut().try_for_each(settle_slices)?;
    Ok(Profile {
        url: url.to_owned(),
        name,
        ty,
        rules,
    })
}

fn only_descriptive(element: &Json, id: &str) -> Result<(), String> {
    let keys = element.as_object().ok_or("an element is no object")?.keys();
    match keys.into_iter().find(|key| !DESCRIPTIVE.contains(&key.as_str())) {
        Some(key) => Err(format!("{id}: {key} is not supported on the resource itself")),
        None => Ok(()),
    }
}

/// Finds or makes the rule at the end of the steps, and lays the element's constraints on it.
fn place(rules: &mut Vec<Rule>, shape: ShapeId, steps: &[&str], element: &Json, definitions: &Definitions) -> Result<(), String> {
    let (step, slice) = steps[0]
        .split_once(':')
        .map_or((steps[0], None), |(step, slice)| (step, Some(slice)));
    let name = step.trim_end_matches("[x]");
    let base = definitions
        .element(shape, name)
        .ok_or_else(|| format!("{} has no element {step}", definitions.shape(shape).path))?;
    let id = element["id"].as_str().unwrap_or_default();
    let index = match rules.iter().position(|r| r.name == name) {
        Some(index) => index,
        None => {
            rules.push(empty_rule(base, id));
            rules.len() - 1
        }
    };
    let mut rule = &mut rules[index];
    if let Some(slice) = slice {
        let slicing = rule.slicing.as_mut().ok_or("a slice without slicing")?;
        let found = slicing.slices.iter().position(|s| s.name == slice);
        let at = found.unwrap_or_else(|| {
            slicing.slices.push(Slice {
                name: slice.to_owned(),
                tests: Vec::new(),
                rule: empty_rule(base, id),
            });
            slicing.slices.len() - 1
        });
        rule = &mut slicing.slices[at].rule;
    }
    if steps.len() == 1 {
        rule.id = id.to_owned();
        return apply(rule, base, element, definitions);
    }
    let [ty] = &base.types[..] else {
        return Err(format!("elements inside the choice {step} are not supported"));
    };
    let inner = ty
        .shape
        .ok_or_else(|| format!("elements inside {step} ({}) are not supported", ty.code))?;
    place(&mut rule.children, inner, &steps[1..], element, definitions)
}

fn empty_rule(base: &Element, id: &str) -> Rule {
    Rule {
        name: base.name.clone(),
        id: id.to_owned(),
        names: json_names(base, |_| true),
        refused: Vec::new(),
        min: 0,
        max: None,
        expected: Vec::new(),
        binding: None,
        constraints: Vec::new(),
        children: Vec::new(),
        slicing: None,
    }
}

fn json_names(base: &Element, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    if !base.is_choice {
        return vec![base.name.clone()];
    }
    base.types
        .iter()
        .filter(|t| is_wanted(&t.code))
        .map(|t| choice_name(&base.name, &t.code))
        .collect()
}

fn apply(rule: &mut Rule, base: &Element, element: &Json, definitions: &Definitions) -> Result<(), String> {
    for (key, value) in element.as_object().ok_or("is no object")? {
        match key.as_str() {
            key if DESCRIPTIVE.contains(&key) => {}
            "min" => rule.min = value.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or("min is no number")?,
            "max" => rule.max = max(value)?,
            "type" => narrow(rule, base, value)?,
            "slicing" => rule.slicing = Some(slicing(value)?),
            "binding" => rule.binding = binding(base, value, definitions)?,
            "constraint" => rule.constraints = constraints(value)?,
            key if key.starts_with("fixed") => rule.expected.push(Expected::Fixed(value.clone())),
            key if key.starts_with("pattern") => rule.expected.push(Expected::Pattern(value.clone())),
            other => return Err(format!("{other} is not supported")),
        }
    }
    Ok(())
}

fn max(value: &Json) -> Result<Option<u32>, String> {
    match value.as_str() {
        Some("*") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| "max is no number".to_owned()),
        None => Err("max is no string".to_owned()),
    }
}

fn narrow(rule: &mut Rule, base: &Element, types: &Json) -> Result<(), String> {
    let mut codes = Vec::new();
    for ty in types.as_array().ok_or("type is no array")? {
        if let Some(key) = ty.as_object().and_then(|t| t.keys().find(|key| *key != "code")) {
            return Err(format!("type.{key} is not supported"));
        }
        let code = ty["code"].as_str().filter(|code| base.types.iter().any(|t| t.code == *code));
        codes.push(code.ok_or("type names a type that the element does not have in R4")?);
    }
    if base.is_choice {
        rule.names = json_names(base, |code| codes.contains(&code));
        rule.refused = json_names(base, |code| !codes.contains(&code));
    }
    Ok(())
}

fn slicing(value: &Json) -> Result<Slicing, String> {
    if value["ordered"] == true {
        return Err("ordered slicing is not supported".to_owned());
    }
    let is_closed = match value["rules"].as_str() {
        Some("open") => false,
        Some("closed") => true,
        other => return Err(format!("slicing.rules {} is not supported", other.unwrap_or("(missing)"))),
    };
    let mut discriminators = Vec::new();
    for discriminator in value["discriminator"]
        .as_array()
        .ok_or("slicing without discriminator is not supported")?
    {
        let (ty, path) = (
            discriminator["type"].as_str().unwrap_or_default(),
            discriminator["path"].as_str().unwrap_or_default(),
        );
        if !matches!(ty, "value" | "pattern") {
            return Err(format!("slicing by {ty} is not supported"));
        }
        let path = path.strip_prefix("$this.").unwrap_or(path);
        let is_simple = path == "$this"
            || path
                .split('.')
                .all(|step| !step.is_empty() && step.bytes().all(|b| b.is_ascii_alphanumeric()));
        if !is_simple {
            return Err(format!("the discriminator path {path} is not supported"));
        }
        discriminators.push(if path == "$this" {
            Vec::new()
        } else {
            path.split('.').map(str::to_owned).collect()
        });
    }
    Ok(Slicing {
        discriminators,
        is_closed,
        slices: Vec::new(),
    })
}

/// Only required bindings constrain; the others are advice.
fn binding(base: &Element, value: &Json, definitions: &Definitions) -> Result<Option<Binding>, String> {
    if value["strength"] != "required" {
        return Ok(None);
    }
    let url = value["valueSet"]
        .as_str()
        .and_then(|url| url.split('|').next())
        .ok_or("binding without valueSet")?;
    let codes = definitions
        .value_set_named(url)
        .and_then(CodeSet::of)
        .ok_or_else(|| format!("the codes of the value set {url} are not known"))?;
    let kind = match base.types.first().map(|t| t.code.as_str()) {
        Some("code" | "string" | "uri") => BoundKind::Code,
        Some("Coding") => BoundKind::Coding,
        Some("CodeableConcept") => BoundKind::CodeableConcept,
        _ => return Err("a binding on this type is not supported".to_owned()),
    };
    Ok(Some(Binding { codes, kind }))
}

fn constraints(value: &Json) -> Result<Vec<Constraint>, String> {
    let mut compiled = Vec::new();
    for constraint in value.as_array().ok_or("constraint is no array")? {
        let key = constraint["key"].as_str().ok_or("constraint without key")?;
        let severity = match constraint["severity"].as_str() {
            Some("error") => Severity::Error,
            Some("warning") => Severity::Warning,
            _ => return Err(format!("constraint {key}: severity is error or warning")),
        };
        compiled.push(Constraint {
            check: invariants::named(key).ok_or_else(|| format!("constraint {key} is not one that this server implements"))?,
            key: key.to_owned(),
            severity,
            human: constraint["human"].as_str().unwrap_or_default().to_owned(),
        });
    }
    Ok(compiled)
}

/// Finds, for each slice, what its discriminators select.
fn settle_slices(rule: &mut Rule) -> Result<(), String> {
    if let Some(slicing) = &mut rule.slicing {
        for slice in &mut slicing.slices {
            for path in &slicing.discriminators {
                let expected = expected_at(&slice.rule, path).filter(|e| !e.is_empty());
                let expected =
                    expected.ok_or_else(|| format!("{}: nothing fixed at the discriminator {}", slice.rule.id, path.join(".")))?;
                slice.tests.push((path.clone(), expected.to_vec()));
            }
            settle_slices(&mut slice.rule)?;
        }
    }
    rule.children.iter_mut().try_for_each(settle_slices)
}

fn expected_at<'r>(rule: &'r Rule, path: &[String]) -> Option<&'r [Expected]> {
    match path {
        [] => Some(&rule.expected),
        [first, rest @ ..] => expected_at(rule.children.iter().find(|child| child.name == *first)?, rest),
    }
}

#[cfg(test)]
mod tests {
    use crate::fhir::definitions::definitions;
    use crate::validate::profile::compile;

    fn error_of(elements: &str) -> Option<String> {
        let head = r#""resourceType":"StructureDefinition","url":"u","name":"P","type":"Patient","derivation":"constraint","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient""#;
        compile(&format!("{{{head},\"differential\":{{\"element\":[{elements}]}}}}"), definitions()).err()
    }

    #[test]
    fn what_a_profile_holds_and_we_do_not_support_is_named() {
        for (elements, expected) in [
            (r#"{"id":"Patient.name","min":1}"#, None),
            (r#"{"id":"Patient.deceased[x]","type":[{"code":"boolean"}]}"#, None),
            (
                r#"{"id":"Patient.gender","binding":{"strength":"required","valueSet":"http://hl7.org/fhir/ValueSet/administrative-gender"}}"#,
                None,
            ),
            (
                r#"{"id":"Patient.nome","min":1}"#,
                Some("u: Patient.nome: Patient has no element nome"),
            ),
            (
                r#"{"id":"Patient.name","maxLength":3}"#,
                Some("u: Patient.name: maxLength is not supported"),
            ),
            (
                r#"{"id":"Patient.name","constraint":[{"key":"x-1","severity":"error"}]}"#,
                Some("u: Patient.name: constraint x-1 is not one that this server implements"),
            ),
            (
                r#"{"id":"Patient.name","slicing":{"discriminator":[{"type":"profile","path":"$this"}],"rules":"open"}}"#,
                Some("u: Patient.name: slicing by profile is not supported"),
            ),
            (
                r#"{"id":"Patient.name:a","sliceName":"a"}"#,
                Some("u: Patient.name:a: a slice without slicing"),
            ),
            (
                r#"{"id":"Patient.name","slicing":{"discriminator":[{"type":"value","path":"use"}],"rules":"open"}},{"id":"Patient.name:a","min":1}"#,
                Some("u: Patient.name:a: nothing fixed at the discriminator use"),
            ),
            (
                r#"{"id":"Patient.gender","binding":{"strength":"required","valueSet":"http://example.org"}}"#,
                Some("u: Patient.gender: the codes of the value set http://example.org are not known"),
            ),
            (
                r#"{"id":"Patient.managingOrganization","type":[{"code":"Reference","targetProfile":["x"]}]}"#,
                Some("u: Patient.managingOrganization: type.targetProfile is not supported"),
            ),
        ] {
            assert_eq!(error_of(elements).as_deref(), expected);
        }
    }
}
