//! Chains and reverse chains. Spec: <https://hl7.org/fhir/R4/search.html#chaining>, <https://hl7.org/fhir/R4/search.html#has>.

use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::is_id;
use crate::fhir::identity::self_hash;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::TypeParameters;
use crate::search::parse::Parser;
use crate::search::parse::custom;
use crate::search::parse::split_modifier;
use crate::search::term::type_term;
use crate::search::value::shown;
use crate::search::value::split::split_values;

impl Parser<'_> {
    /// `_list=[id]`: what a stored List names as items. <https://hl7.org/fhir/R4/search.html#list>
    pub(super) fn list(&self, text: &str) -> Result<Condition, Outcome> {
        let lists = self.of("List")?;
        let item = self.parameter(lists, "item")?;
        let mut hashes = Vec::new();
        for id in split_values(text) {
            if id.starts_with('$') {
                return Err(Outcome::not_supported(
                    "_list: functional lists ($current-...) are not supported; it takes the id of a List",
                ));
            }
            let id = id.strip_prefix("List/").unwrap_or(&id);
            if !is_id(id) {
                return Err(Outcome::invalid("_list takes the id of a List"));
            }
            hashes.push(self_hash("List", id));
        }
        let list = Condition::All(vec![Condition::Terms(vec![type_term(lists.number)]), Condition::Ids(hashes)]);
        Ok(Condition::Has(item.salts.clone(), Box::new(list)))
    }

    /// `subject:Patient.name`, `patient.name`.
    pub(super) fn chain(&self, of: &TypeParameters, link: &str, rest: &str, text: &str, depth: usize) -> Result<Condition, Outcome> {
        if let Some(parameter) = of.get(split_modifier(link).0) {
            custom::check_chain(parameter, rest)?;
        }
        self.over_targets(of, split_modifier(link), depth, |target| {
            self.condition(target, rest, text, depth + 1)
        })
    }

    /// What `inner` asks of the resources that a reference parameter, perhaps of one type only, leads to.
    pub(super) fn over_targets(
        &self,
        of: &TypeParameters,
        (code, type_name): (&str, Option<&str>),
        depth: usize,
        inner: impl Fn(&TypeParameters) -> Result<Condition, Outcome>,
    ) -> Result<Condition, Outcome> {
        self.check_depth(depth)?;
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
            match inner(target) {
                Ok(inner) => {
                    let inner = Condition::All(vec![Condition::Terms(vec![type_term(target.number)]), inner]);
                    alternatives.push(Condition::Chain(parameter.salts.clone(), Box::new(inner)));
                }
                // A part of the targets would be searched.
                Err(outcome) if custom::is_incomplete(&outcome) => return Err(outcome),
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
