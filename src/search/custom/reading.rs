//! A parameter of one's own as the registry has it: what it reads of a type, and how its values are told from all others.

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::model::SearchParameter;
use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::hash;
use crate::outcome::Outcome;
use crate::search::custom::definition::Definition;
use crate::search::custom::definition::refused;
use crate::search::custom::syntax;
use crate::search::custom::syntax::Expression;
use crate::search::custom::types::Given;
use crate::search::custom::types::given;
use crate::search::datatype::Datatype;
use crate::search::datatype::datatype;
use crate::search::parameters::Parameter;
use crate::search::parameters::compile::parameter;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

/// A SearchParameter that is in use.
#[derive(Debug)]
pub struct Custom {
    /// Of the resource.
    pub id: String,
    pub definition: Definition,
    pub expression: Expression,
    /// Every resource has its values in the index: it may be searched by.
    pub is_complete: bool,
    /// How far the indexing of what was there before has come.
    percent: AtomicU8,
}

/// What it reads of the resources of one type.
#[derive(Debug, Clone)]
pub struct Reading {
    pub custom: Arc<Custom>,
    pub salt: i64,
    pub key: i32,
    /// The term of a resource that has a value: `:missing` asks for it.
    pub presence: i64,
}

impl Custom {
    /// Errors: 422 for an expression that is not read, with the part of it.
    pub fn new(id: String, definition: Definition, is_complete: bool) -> Result<Custom, Outcome> {
        let expression =
            syntax::parse(&definition.expression).map_err(|wrong| refused("expression", wrong.told(&definition.expression)))?;
        Ok(Custom {
            id,
            definition,
            expression,
            is_complete,
            percent: AtomicU8::new(0),
        })
    }

    pub fn percent(&self) -> u8 {
        self.percent.load(Ordering::Relaxed)
    }

    pub fn set_percent(&self, percent: u8) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// The parameter of a type, and what it reads. Errors: 422 when it reads nothing there that its type of parameter can be.
    pub fn of(self: &Arc<Custom>, definitions: &Definitions, type_name: &str) -> Result<(Parameter, Reading), Outcome> {
        let Definition {
            kind, code, expression, ..
        } = &self.definition;
        let all = given(definitions, &self.expression, type_name);
        let all = all.map_err(|wrong| refused("expression", format!("on {type_name}, {}", wrong.told(expression))))?;
        let suits = |given: &&Given| datatype(*kind, &given.code).is_some() || !parts(*kind, &given.code).is_empty();
        let fitting: Vec<&Given> = all.iter().filter(suits).collect();
        if fitting.is_empty() {
            let mut codes: Vec<&str> = all.iter().map(|g| g.code.as_str()).collect();
            codes.sort_unstable();
            codes.dedup();
            let found = if codes.is_empty() { "nothing".to_owned() } else { codes.join(", ") };
            let kind = format!("{kind:?}").to_lowercase();
            return Err(refused(
                "expression",
                format!("on {type_name} it gives {found}: no value of a {kind} parameter"),
            ));
        }
        let mut parameter = parameter(&self.model(&fitting), 0);
        for given in &fitting {
            let read = datatype(*kind, &given.code);
            let is_plain = matches!(read, Some(Datatype::Code | Datatype::Boolean));
            let is_without_case = read == Some(Datatype::CodeWithoutCase);
            parameter.has_plain_codes |= is_plain;
            parameter.has_codes_without_case |= is_without_case;
            parameter.has_codings |= !is_plain && !is_without_case;
            parameter.implied_systems.extend(given.system.clone().filter(|_| is_plain));
        }
        let name = |what: &str| {
            hash(&[
                type_name,
                "custom",
                what,
                &self.definition.url,
                &format!("{kind:?}"),
                code,
                expression,
            ])
        };
        let reading = Reading {
            custom: self.clone(),
            salt: name("salt"),
            key: name("key") as i32,
            presence: name("presence"),
        };
        parameter.salts = vec![reading.salt];
        parameter.keys = vec![reading.key];
        parameter.custom = Some(reading.clone());
        Ok((parameter, reading))
    }

    /// As a definition of HL7's would be.
    fn model(&self, given: &[&Given]) -> SearchParameter {
        let definition = &self.definition;
        let mut targets = definition.target.clone();
        if targets.is_empty() && given.iter().all(|g| !g.targets.is_empty()) {
            targets = given.iter().flat_map(|g| g.targets.iter().cloned()).collect();
            targets.sort_unstable();
            targets.dedup();
        }
        SearchParameter {
            url: definition.url.clone(),
            code: definition.code.clone(),
            kind: definition.kind,
            base: definition.base.clone(),
            expression: definition.expression.clone(),
            targets,
            components: Vec::new(),
        }
    }
}

/// The members by which a datatype without a text of its own is searched as a string.
pub fn parts(kind: SearchParameterKind, code: &str) -> &'static [&'static str] {
    match (kind, code) {
        (SearchParameterKind::String, "HumanName") => &["text", "family", "given", "prefix", "suffix"],
        (SearchParameterKind::String, "Address") => &["text", "line", "city", "district", "state", "postalCode", "country"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::definitions::definitions;
    use crate::fhir::json::Document;
    use crate::search::custom::evaluate::Item;
    use crate::search::custom::evaluate::evaluate;
    use crate::search::custom::types::given;

    const PATIENT: &str = r#"{"resourceType":"Patient","id":"p","active":true,"birthDate":"1980-01-02",
        "_birthDate":{"extension":[{"url":"urn:time","valueDateTime":"1980-01-02T03:04:05Z"}]},
        "name":[{"use":"old","given":["Ada"],"family":"Neri"},{"use":"official","given":["Bea","Cia"],"_given":[null,{"extension":[{"url":"urn:note","valueString":"x"}]}],"family":"Rossi"}],
        "telecom":[{"system":"phone","value":"1","rank":2},{"system":"email","value":"2"},{"system":"phone","use":"mobile","value":"3"}],
        "extension":[{"url":"urn:a","valueCoding":{"system":"urn:s","code":"c"}},{"url":"urn:b","valueString":"text"},
            {"url":"urn:c","extension":[{"url":"inner","valueQuantity":{"value":5}},{"url":"other","valueInteger":7}]}],
        "generalPractitioner":[{"reference":"Practitioner/1"},{"reference":"Organization/2"},{"type":"Practitioner","identifier":{"value":"i"}}],
        "contained":[{"resourceType":"Organization","id":"o","name":"Asl"}]}"#;

    /// The values, as text with their datatype.
    fn values(text: &str) -> Vec<String> {
        let expression = syntax::parse(text).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.told(text)));
        given(definitions(), &expression, "Patient").unwrap_or_else(|wrong| panic!("{text}: {}", wrong.told(text)));
        let document = Document::parse_str(PATIENT).expect("valid");
        let items = evaluate(definitions(), &expression, "Patient", document.root());
        let shown = |item: &Item<'_>| match item {
            Item::Boolean(boolean) => boolean.to_string(),
            Item::Element(e) => format!("{} {}", e.code, e.value.map(|v| v.minified()).unwrap_or_default()),
            Item::Number(number) => number.to_string(),
            Item::Text(text) => (*text).to_owned(),
        };
        items.iter().map(shown).collect()
    }

    #[test]
    fn expressions_give_what_fhirpath_gives() {
        let coding = r#"Coding {"system":"urn:s","code":"c"}"#;
        for (text, expected) in [
            ("Patient.birthDate", &[r#"date "1980-01-02""#][..]),
            ("birthDate", &[r#"date "1980-01-02""#]),
            ("Practitioner.name", &[]),
            ("Resource.id | DomainResource.language", &[r#"id "p""#]),
            ("Patient.extension.where(url = 'urn:a').value.as(Coding)", &[coding]),
            ("Patient.extension.where(url='urn:a').value", &[coding]),
            ("Patient.extension('urn:a').value as Coding", &[coding]),
            ("(Patient.extension('urn:a').value as Coding).code", &[r#"code "c""#]),
            ("Patient.extension('urn:a').value.ofType(string)", &[]),
            (
                "Patient.extension('urn:a').value | Patient.extension('urn:b').value.ofType(string)",
                &[coding, r#"string "text""#],
            ),
            (
                "Patient.extension('urn:c').extension('inner').value.ofType(Quantity)",
                &[r#"Quantity {"value":5}"#],
            ),
            (
                "Patient.extension('urn:c').extension('other').value.ofType(integer)",
                &["integer 7"],
            ),
            (
                "Patient.birthDate.extension('urn:time').value",
                &[r#"dateTime "1980-01-02T03:04:05Z""#],
            ),
            ("Patient.name.given.extension('urn:note').value.ofType(string)", &[r#"string "x""#]),
            // Collections are flat: the first of all, not the first of each.
            ("Patient.name.given[0]", &[r#"string "Ada""#]),
            ("Patient.name[1].given[0]", &[r#"string "Bea""#]),
            ("Patient.name.given.last()", &[r#"string "Cia""#]),
            ("Patient.name.where(use = 'official').given.first()", &[r#"string "Bea""#]),
            ("Patient.name.given[7]", &[]),
            (
                "Patient.telecom.where(system = 'phone' and use = 'mobile').value",
                &[r#"string "3""#],
            ),
            // What has no use is not `use != 'mobile'`: nothing is neither.
            ("Patient.telecom.where(use != 'mobile').value", &[]),
            ("Patient.telecom.where(use.empty()).value", &[r#"string "1""#, r#"string "2""#]),
            (
                "Patient.telecom.where(system = 'email' or rank = 2).value",
                &[r#"string "1""#, r#"string "2""#],
            ),
            (
                "Patient.telecom.where(rank.exists().not()).value",
                &[r#"string "2""#, r#"string "3""#],
            ),
            ("Patient.name.where(given = 'Bea').family", &[]),
            (
                "Patient.name.where(given.where($this = 'Bea').exists()).family",
                &[r#"string "Rossi""#],
            ),
            (
                "Patient.generalPractitioner.where(resolve() is Practitioner).identifier.value",
                &[r#"string "i""#],
            ),
            (
                "Patient.generalPractitioner.where(resolve() is Organization).reference",
                &[r#"string "Organization/2""#],
            ),
            ("Patient.contained.ofType(Organization).name", &[r#"string "Asl""#]),
            ("Patient.active", &["boolean true"]),
            ("Patient.photo.exists()", &["false"]),
            ("Patient.extension('urn:a').exists()", &["true"]),
            ("(Patient.active = true)", &["true"]),
            ("Patient.extension.value.where($this is string)", &[r#"string "text""#]),
        ] {
            assert_eq!(values(text), expected, "{text}");
        }
    }

    #[test]
    fn what_no_resource_has_is_refused_with_its_place() {
        for (text, told) in [
            ("Patient.surname", "at character 9, `surname`: Patient has no element surname"),
            (
                "Patient.name.as(Coding)",
                "at character 14, `as(Coding)`: there is no Coding here, but HumanName",
            ),
            ("Patient.name.as(Nonsense)", "at character 14, `as(Nonsense)`: Nonsense is no type"),
            ("Nonsense.name", "at character 1, `Nonsense.name`: Nonsense is no type"),
            (
                "Patient.name.where(period = 'a')",
                "at character 20, `period = 'a')`: a Period is not compared",
            ),
            (
                "Patient.name.where(use)",
                "at character 20, `use)`: a condition is true or false, and this is a code",
            ),
            (
                "Patient.name.where(resolve() is Patient)",
                "at character 20, `resolve() is Patient)`: a HumanName is not resolved",
            ),
            (
                "Patient.contained.name",
                "at character 19, `name`: Resource has no element name: say of which type",
            ),
            ("Patient.name.not()", "at character 14, `not()`: not() needs a boolean"),
        ] {
            let expression = syntax::parse(text).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.told(text)));
            let wrong = given(definitions(), &expression, "Patient").expect_err(text).told(text);
            assert!(wrong.starts_with(told), "{text}: {wrong}");
        }
    }

    #[test]
    fn every_standard_expression_that_names_its_datatype_is_read_here_too() {
        let mut read = 0;
        for parameter in &definitions().model().search_parameters {
            let simple = !parameter.expression.is_empty() && !parameter.expression.contains(" and ");
            if simple && let Err(wrong) = syntax::parse(&parameter.expression) {
                panic!("{}: {}", parameter.url, wrong.told(&parameter.expression));
            }
            read += usize::from(simple);
        }
        assert!(read > 1_000, "{read}");
    }
}
