//! Composites. Spec: <https://hl7.org/fhir/R4/search.html#composite>.

use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::Parameter;
use crate::search::value::Context;
use crate::search::value::bad_modifier;
use crate::search::value::condition;
use crate::search::value::split::split_unescaped_keeping;

/// `value$value`, on the resource itself: each part must hold, and each is single-valued there.
pub fn composite(context: &Context<'_>, parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    if let Some(modifier) = modifier {
        return Err(bad_modifier(parameter, modifier));
    }
    let parts = split_unescaped_keeping(text, '$');
    if parts.len() != parameter.components.len() {
        return Err(Outcome::invalid(format!(
            "{} has {} values joined by $",
            parameter.code,
            parameter.components.len()
        )));
    }
    let mut conditions = Vec::new();
    for (url, part) in parameter.components.iter().zip(&parts) {
        let component = context.of.parameters.iter().find(|p| p.url == *url);
        let component = component.ok_or_else(|| Outcome::not_supported(format!("{}: a part of it is not known", parameter.code)))?;
        conditions.push(condition(context, component, None, part)?);
    }
    Ok(Condition::all(conditions))
}
