//! What an operation is asked with: the parameters of the URL, and those of a Parameters resource in the body.
//! Spec: <https://hl7.org/fhir/R4/operations.html#request>, <https://hl7.org/fhir/R4/parameters.html>.

use crate::fhir::datetime;
use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::interaction::Service;
use crate::interaction::bounded_pairs;
use crate::interaction::operation::Operation;
use crate::interaction::write::is_type;
use crate::outcome::Outcome;
use crate::outcome::Severity;
use crate::search::value::shown;
use chrono::DateTime;
use chrono::Utc;

/// The format of the answer: `http` has read it.
const OF_ANSWER: &[&str] = &["_format", "_pretty"];

pub struct Input<'d> {
    operation: &'d Operation,
    /// Name and text of the simple ones, in order.
    pub simple: Vec<(String, String)>,
    /// Those that are objects.
    whole: Vec<(String, Value<'d>)>,
}

impl<'d> Input<'d> {
    /// Reads both. Errors: 400 for a body that is no Parameters, and for a parameter that the operation does not have; 422 for wrong Parameters.
    pub fn read(service: &Service, operation: &'d Operation, query: &str, body: Option<Value<'d>>) -> Result<Input<'d>, Outcome> {
        let mut input = Input {
            operation,
            simple: bounded_pairs(service, query)?,
            whole: Vec::new(),
        };
        input.simple.retain(|(name, _)| !OF_ANSWER.contains(&name.as_str()));
        if let Some(body) = body {
            input.add_body(service, body)?;
        }
        let Some(known) = operation.parameters else { return Ok(input) };
        let names = input.simple.iter().map(|p| &p.0).chain(input.whole.iter().map(|p| &p.0));
        for name in names {
            if !known.contains(&name.as_str()) {
                let has = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let text = format!("${} has no parameter {}: it has {has}", operation.name, shown(name));
                return Err(Outcome::not_supported(text));
            }
        }
        Ok(input)
    }

    fn add_body(&mut self, service: &Service, body: Value<'d>) -> Result<(), Outcome> {
        if !is_type(body, "Parameters") {
            let text = format!("${} is asked with a Parameters resource", self.operation.name);
            return Err(Outcome::invalid(text).with_code("structure").at("resourceType"));
        }
        let issues = service.validator.validate(body);
        if issues.iter().any(|issue| issue.severity == Severity::Error) {
            return Err(Outcome::unprocessable(issues));
        }
        for (i, parameter) in body.get("parameter").iter().flat_map(Value::items).enumerate() {
            let name = parameter.get_str("name").unwrap_or_default().into_owned();
            let value = parameter
                .members()
                .find(|(member, _)| member.starts_with("value") || member == "resource")
                .map(|(_, value)| value);
            match value {
                Some(value) if value.kind() == Kind::Object => self.whole.push((name, value)),
                Some(value) => {
                    let text = value.as_str().map_or_else(|| value.raw().to_owned(), |text| text.into_owned());
                    self.simple.push((name, text));
                }
                None => {
                    let text = "A parameter needs a value or a resource";
                    let place = format!("Parameters.parameter[{i}]");
                    return Err(Outcome::invalid(text).with_code("required").at(&place));
                }
            }
        }
        Ok(())
    }

    /// The object under this name. Errors: 400 if there is none, or several.
    pub fn object(&self, name: &str) -> Result<Value<'d>, Outcome> {
        let mut found = self.whole.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(*value),
            (Some(_), Some(_)) => Err(self.repeated(name)),
            (None, _) => Err(self.required(name)),
        }
    }

    /// The one text under this name. Errors: 400 for several.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Outcome> {
        let mut found = self.simple.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(self.repeated(name)),
            (found, _) => Ok(found.map(|(_, text)| text.as_str())),
        }
    }

    /// Errors: 400 if it is neither `true` nor `false`, or there are several.
    pub fn flag(&self, name: &str) -> Result<bool, Outcome> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Outcome::invalid(format!("{name} is true or false")).with_code("value")),
        }
    }

    /// A whole number. Errors: 400 for anything below `least`.
    pub fn number(&self, name: &str, least: usize) -> Result<Option<usize>, Outcome> {
        let number = |text: &str| {
            let number = text.parse::<usize>().ok().filter(|number| *number >= least);
            number.ok_or_else(|| Outcome::invalid(format!("{name} is a whole number from {least}")).with_code("value"))
        };
        self.text(name)?.map(number).transpose()
    }

    /// A date or instant, as the range that it stands for. Errors: 400 for anything else.
    pub fn date(&self, name: &str) -> Result<Option<datetime::Range>, Outcome> {
        let range = |text: &str| {
            datetime::range(text)
                .ok_or_else(|| Outcome::invalid(format!("{name} is a date or an instant: YYYY-MM-DDThh:mm:ss+zz:zz")).with_code("value"))
        };
        self.text(name)?.map(range).transpose()
    }

    /// Where the range begins. Errors: 400 for what is no date.
    pub fn instant(&self, name: &str) -> Result<Option<DateTime<Utc>>, Outcome> {
        Ok(self.date(name)?.and_then(|range| DateTime::from_timestamp_micros(range.low)))
    }

    pub fn required(&self, name: &str) -> Outcome {
        Outcome::invalid(format!("${} needs the parameter {name}", self.operation.name)).with_code("required")
    }

    fn repeated(&self, name: &str) -> Outcome {
        Outcome::invalid(format!("The parameter {name} of ${} may be given once", self.operation.name)).with_code("value")
    }
}
