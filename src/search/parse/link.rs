//! Chains and reverse chains. Spec: <https://hl7.org/fhir/R4/search.html#chaining>, <https://hl7.org/fhir/R4/search.html#has>.

use crate::fhir::definitions::model::SearchParameterKind;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::TypeParameters;
use crate::search::parse::Parser;
use crate::search::parse::split_modifier;
use crate::search::term::type_term;
use crate::search::value::shown;

impl Parser<'_> {
    /// `subject:Patient.name`, `patient.name`.
    pub(super) fn chain(&self, of: &TypeParameters, link: &str, rest: &str, text: &str, depth: usize) -> Result<Condition, Outcome> {
        let (code, type_name) = split_modifier(link);
        let parameter = self.parameter(of, code)?;
        if parameter.kind != SearchParameterKind::Reference {
            return Err(Outcome::invalid(format!("{code} is not a reference: it cannot be chained")));
        }
        let targets: Vec<&str> = match type_name {
            Some(name) => vec![name],
            None => parameter.targets.iter().map(String::as_str).collect(),
        };
        let mut alternatives = Vec::new();
        let mut last_error = Outcome::invalid(format!("{code} references no type that can be chained"));
        for target in &targets {
            let Some(target) = self.registry.of(target) else {
                last_error = Outcome::invalid(format!("{} is not a resource type", shown(target)));
                continue;
            };
            match self.condition(target, rest, text, depth + 1) {
                Ok(inner) => {
                    let inner = Condition::All(vec![Condition::Terms(vec![type_term(target.number)]), inner]);
                    alternatives.push(Condition::Chain(parameter.salts.clone(), Box::new(inner)));
                }
                Err(outcome) => last_error = outcome,
            }
        }
        // A target type without the parameter is no error as long as another has it.
        if alternatives.is_empty() {
            Err(last_error)
        } else {
            Ok(Condition::any(alternatives))
        }
    }

    /// `_has:Observation:patient:code`, after `_has:`.
    pub(super) fn has(&self, of: &TypeParameters, rest: &str, text: &str, depth: usize) -> Result<Condition, Outcome> {
        let mut parts = rest.splitn(3, ':');
        let (Some(source), Some(link), Some(inner)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Outcome::invalid(
                "_has is written _has:[type]:[reference parameter]:[parameter]=[value]",
            ));
        };
        let source = self
            .registry
            .of(source)
            .ok_or_else(|| Outcome::invalid(format!("_has: {} is not a resource type", shown(source))))?;
        let link = self.parameter(source, link)?;
        if link.kind != SearchParameterKind::Reference || !link.targets.is_empty() && !link.targets.contains(&of.name) {
            return Err(Outcome::invalid(format!(
                "_has: {}.{} does not reference {}",
                source.name, link.code, of.name
            )));
        }
        let inner = self.condition(source, inner, text, depth + 1)?;
        let inner = Condition::All(vec![Condition::Terms(vec![type_term(source.number)]), inner]);
        Ok(Condition::Has(link.salts.clone(), Box::new(inner)))
    }
}
