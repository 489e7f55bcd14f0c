//! Metadata of a document: what of them stands in its DocumentReference, and the oscuramento codes.
//!
//! Source: UA-R ingestion specification 3.1, and the ministry's `FHIRUtility` for where each field goes. Fields that FHIR has no place for
//! (`conservazioneANorma`, `identificativoSottomissione`, `tipoAttivitaClinica`: of the XDS submission, kept by INI) are accepted and dropped.

use crate::fhir::json::Document;
use crate::fhir::json::Value;
use crate::fhir::json::quote_into;
use crate::fhir::splice::with_member;
use crate::interaction::ingestion::rome;
use crate::interaction::write::is_type;
use crate::outcome::Category;
use crate::outcome::Outcome;
use serde::Deserialize;

/// tipoDocumentoLivAlto
const CATEGORY: &str = "urn:oid:2.16.840.1.113883.2.9.3.3.6.1.5";
/// tipologiaStruttura
const FACILITY_TYPE: &str = "urn:oid:2.16.840.1.113883.2.9.3.3.6.1.1";
/// assettoOrganizzativo
const PRACTICE_SETTING: &str = "urn:oid:2.16.840.1.113883.2.9.3.3.6.1.2";
/// attiCliniciRegoleAccesso
const EVENT: &str = "urn:oid:2.16.840.1.113883.2.9.3.3.6.1.3";

/// Obscures the document.
const P99: &str = "P99";
/// Ends the oscuramento.
const P00: &str = "P00";

/// The `body` of a metadata update. What is not given stays as it is.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub tipologia_struttura: Option<String>,
    pub atti_clinici_regole_accesso: Option<Vec<String>>,
    pub tipo_documento_liv_alto: Option<String>,
    pub assetto_organizzativo: Option<String>,
    pub data_inizio_prestazione: Option<String>,
    pub data_fine_prestazione: Option<String>,
}

impl Metadata {
    /// Whether the document is to be obscured (P99) or shown (P00); `None` when neither is said. Errors: 400 when both are.
    pub fn obscures(&self) -> Result<Option<bool>, Outcome> {
        let codes = self.atti_clinici_regole_accesso.iter().flatten().map(String::as_str);
        obscures(codes).map_err(|e| e.at("jsonString.body.attiCliniciRegoleAccesso"))
    }

    /// The DocumentReference with these metadata. Errors: 400 for a time that does not exist.
    pub fn apply(&self, document_reference: &str) -> Result<String, Outcome> {
        let document = parse(document_reference)?;
        let root = document.root();
        let context = root.get("context").map_or("{}", |context| context.raw());
        let context = self.apply_to_context(context)?;
        let context = match self.obscures()? {
            Some(_) => without_oscuramento(&context, "event")?,
            None => context,
        };
        let context = (context != "{}").then_some(context);
        let mut text = with_member(root, "context", context.as_deref());
        if self.obscures()?.is_some() {
            text = without_oscuramento(&text, "securityLabel")?;
        }
        match &self.tipo_documento_liv_alto {
            Some(code) => with_codes(&text, "category", CATEGORY, &[code.as_str()]),
            None => Ok(text),
        }
    }

    fn apply_to_context(&self, context: &str) -> Result<String, Outcome> {
        let mut text = context.to_owned();
        if let Some(codes) = &self.atti_clinici_regole_accesso {
            // That a document is hidden, or was, stands in no resource: whoever reads it later would learn of it.
            let of_resource: Vec<&str> = codes.iter().map(String::as_str).filter(|c| *c != P99 && *c != P00).collect();
            if !of_resource.is_empty() || codes.is_empty() {
                text = with_codes(&text, "event", EVENT, &of_resource)?;
            }
        }
        for (name, system, code) in [
            ("facilityType", FACILITY_TYPE, &self.tipologia_struttura),
            ("practiceSetting", PRACTICE_SETTING, &self.assetto_organizzativo),
        ] {
            if let Some(code) = code {
                text = with_member(parse(&text)?.root(), name, Some(&concept(system, code)));
            }
        }
        let mut period = parse(&text)?
            .root()
            .get("period")
            .map_or("{}".to_owned(), |period| period.raw().to_owned());
        for (name, time, field) in [
            ("start", &self.data_inizio_prestazione, "dataInizioPrestazione"),
            ("end", &self.data_fine_prestazione, "dataFinePrestazione"),
        ] {
            if let Some(time) = time {
                let wrong = || {
                    Outcome::invalid("This is no time: write it as yyyyMMddHHmmss")
                        .with_code("value")
                        .at(&format!("jsonString.body.{field}"))
                };
                period = with_member(
                    parse(&period)?.root(),
                    name,
                    Some(&quoted(&rome::date_time(time).ok_or_else(wrong)?)),
                );
            }
        }
        if period == "{}" {
            return Ok(text);
        }
        Ok(with_member(parse(&text)?.root(), "period", Some(&period)))
    }
}

/// What a document's DocumentReferences say of oscuramento; `None` when they say nothing. Errors: 400 when one contradicts itself.
pub fn of_document<'d>(resources: impl Iterator<Item = Value<'d>>) -> Result<Option<bool>, Outcome> {
    let mut said = None;
    for resource in resources.filter(|resource| is_type(*resource, "DocumentReference")) {
        // One that hides weighs more than another that shows.
        said = said.max(of_reference(resource)?);
    }
    Ok(said)
}

/// A DocumentReference without P99 and P00, which are carried out and stand in no resource; `None` for what says neither.
pub fn without_rule(resource: Value<'_>) -> Result<Option<String>, Outcome> {
    if !is_type(resource, "DocumentReference") || of_reference(resource)?.is_none() {
        return Ok(None);
    }
    let mut text = without_oscuramento(resource.raw(), "securityLabel")?;
    let document = parse(&text)?;
    if let Some(context) = document.root().get("context") {
        let context = without_oscuramento(context.raw(), "event")?;
        let context = (context != "{}").then_some(context);
        text = with_member(document.root(), "context", context.as_deref());
    }
    Ok(Some(text))
}

/// Errors: 422 for what says P99 and comes without the document that would have to be hidden.
pub fn check_alone(is_obscured: Option<bool>) -> Result<(), Outcome> {
    match is_obscured {
        Some(true) => {
            let text = "A DocumentReference says that its document is obscured (P99), and does not come with it: in a transaction Bundle with an \
                        identifier and one Composition with an identifier, or through PUT /v1/document/metadata. It would be shown";
            Err(Outcome::new(Category::Unprocessable, "business-rule", text))
        }
        Some(false) | None => Ok(()),
    }
}

/// Whether a DocumentReference says that its document is obscured (`context.event` or `securityLabel` P99) or shown.
fn of_reference(reference: Value<'_>) -> Result<Option<bool>, Outcome> {
    let concepts = reference
        .get("context")
        .and_then(|context| context.get("event"))
        .into_iter()
        .chain(reference.get("securityLabel"));
    let codings = concepts
        .flat_map(|list| list.items().collect::<Vec<_>>())
        .filter_map(|concept| concept.get("coding"));
    let codes: Vec<String> = codings
        .flat_map(|list| {
            list.items()
                .filter_map(|coding| coding.get_str("code"))
                .map(|code| code.into_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    obscures(codes.iter().map(String::as_str))
}

fn obscures<'c>(codes: impl Iterator<Item = &'c str>) -> Result<Option<bool>, Outcome> {
    let (mut hide, mut show) = (false, false);
    for code in codes {
        hide |= code == P99;
        show |= code == P00;
    }
    match (hide, show) {
        (true, true) => Err(Outcome::invalid(
            "P99 (oscuramento) and P00 (its end) exclude each other: send one of them",
        )),
        (false, false) => Ok(None),
        _ => Ok(Some(hide)),
    }
}

fn parse(text: &str) -> Result<Document<'_>, Outcome> {
    Document::parse_str(text).map_err(|e| Outcome::internal(format!("a stored text does not parse: {e}")))
}

/// The object with the codes of one system in a list of CodeableConcepts set; concepts of other systems stay.
fn with_codes(object: &str, name: &str, system: &str, codes: &[&str]) -> Result<String, Outcome> {
    let document = parse(object)?;
    let is_ours = |concept: &Value<'_>| {
        concept
            .get("coding")
            .is_some_and(|codings| codings.items().any(|coding| coding.get_str("system").is_some_and(|s| s == system)))
    };
    let list = document.root().get(name);
    let others = list
        .iter()
        .flat_map(Value::items)
        .filter(|concept| !is_ours(concept))
        .map(|concept| concept.raw().to_owned());
    let concepts: Vec<String> = others.chain(codes.iter().map(|code| concept(system, code))).collect();
    let array = (!concepts.is_empty()).then(|| format!("[{}]", concepts.join(",")));
    Ok(with_member(document.root(), name, array.as_deref()))
}

/// The object without the concepts of a list that say P99 or P00.
fn without_oscuramento(object: &str, name: &str) -> Result<String, Outcome> {
    let document = parse(object)?;
    let Some(list) = document.root().get(name) else {
        return Ok(object.to_owned());
    };
    let is_said = |concept: &Value<'_>| {
        let codings = concept.get("coding");
        let mut codes = codings.iter().flat_map(Value::items).filter_map(|coding| coding.get_str("code"));
        codes.any(|code| code == P99 || code == P00)
    };
    let kept: Vec<&str> = list.items().filter(|c| !is_said(c)).map(|c| c.raw()).collect();
    let array = (!kept.is_empty()).then(|| format!("[{}]", kept.join(",")));
    Ok(with_member(document.root(), name, array.as_deref()))
}

fn concept(system: &str, code: &str) -> String {
    format!("{{\"coding\":[{{\"system\":\"{system}\",\"code\":{}}}]}}", quoted(code))
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    quote_into(text, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = r#"{"resourceType":"DocumentReference","status":"current","category":[{"text":"kept"},{"coding":[{"system":"urn:oid:2.16.840.1.113883.2.9.3.3.6.1.5","code":"LDO"}]}],"context":{"related":[{"reference":"Composition/1"}],"period":{"start":"2020"}}}"#;

    #[test]
    fn metadata_go_where_the_specification_puts_them_and_the_rest_stays() {
        let metadata = Metadata {
            tipologia_struttura: Some("Ospedale".to_owned()),
            atti_clinici_regole_accesso: Some(vec!["P99".to_owned(), "J07BX03".to_owned()]),
            tipo_documento_liv_alto: Some("REF".to_owned()),
            assetto_organizzativo: Some("AD_PSC101".to_owned()),
            data_inizio_prestazione: None,
            data_fine_prestazione: Some("20220701112426".to_owned()),
        };
        assert_eq!(
            metadata.apply(REFERENCE).unwrap(),
            concat!(
                r#"{"resourceType":"DocumentReference","status":"current","category":[{"text":"kept"},{"coding":[{"system":"urn:oid:2.16.840.1.113883.2.9.3.3.6.1.5","code":"REF"}]}],"#,
                r#""context":{"related":[{"reference":"Composition/1"}],"period":{"start":"2020","end":"2022-07-01T11:24:26+02:00"},"#,
                r#""event":[{"coding":[{"system":"urn:oid:2.16.840.1.113883.2.9.3.3.6.1.3","code":"J07BX03"}]}],"#,
                r#""facilityType":{"coding":[{"system":"urn:oid:2.16.840.1.113883.2.9.3.3.6.1.1","code":"Ospedale"}]},"#,
                r#""practiceSetting":{"coding":[{"system":"urn:oid:2.16.840.1.113883.2.9.3.3.6.1.2","code":"AD_PSC101"}]}}}"#
            )
        );
        assert_eq!(metadata.obscures().unwrap(), Some(true));
        let applied = metadata.apply(REFERENCE).unwrap();
        let without = Metadata {
            atti_clinici_regole_accesso: Some(Vec::new()),
            ..Metadata::default()
        }
        .apply(&applied)
        .unwrap();
        assert!(!without.contains("event"), "an empty list is no list: {without}");
    }

    #[test]
    fn that_a_document_is_hidden_or_was_stands_in_no_resource() {
        let metadata = |code: &str| Metadata {
            atti_clinici_regole_accesso: Some(vec![code.to_owned()]),
            ..Metadata::default()
        };
        for code in [P99, P00] {
            assert_eq!(metadata(code).apply(REFERENCE).unwrap(), REFERENCE, "{code}");
        }
        let received = r#"{"status":"current","securityLabel":[{"coding":[{"code":"P99"}]},{"coding":[{"code":"N"}]}],"context":{"event":[{"coding":[{"code":"P99"}]}]}}"#;
        let kept = r#"{"status":"current","securityLabel":[{"coding":[{"code":"N"}]}]}"#;
        assert_eq!(metadata(P00).apply(received).unwrap(), kept);
        let several = format!(r#"{{"resourceType":"DocumentReference",{}"#, &received[1..]);
        let shown = r#"{"resourceType":"DocumentReference","securityLabel":[{"coding":[{"code":"P00"}]}]}"#;
        let documents = [shown, &several, shown].map(|text| Document::parse_str(text).unwrap());
        assert_eq!(
            of_document(documents.iter().map(Document::root)).unwrap(),
            Some(true),
            "hiding weighs more"
        );
    }

    #[test]
    fn nothing_given_changes_nothing() {
        assert_eq!(Metadata::default().apply(REFERENCE).unwrap(), REFERENCE);
        assert_eq!(
            Metadata::default().apply(r#"{"status":"current"}"#).unwrap(),
            r#"{"status":"current"}"#
        );
    }

    #[test]
    fn contradictions_and_times_that_do_not_exist_are_refused() {
        let both = Metadata {
            atti_clinici_regole_accesso: Some(vec!["P99".to_owned(), "P00".to_owned()]),
            ..Metadata::default()
        };
        assert_eq!(both.obscures().unwrap_err().status(), 400);
        let time = Metadata {
            data_inizio_prestazione: Some("20220230000000".to_owned()),
            ..Metadata::default()
        };
        assert!(time.apply(REFERENCE).unwrap_err().summary().contains("dataInizioPrestazione"));
    }
}
