//! Strings and URIs. Spec: <https://hl7.org/fhir/R4/search.html#string>, <https://hl7.org/fhir/R4/search.html#uri>.

use crate::fhir::strings::normalise;
use crate::outcome::Outcome;
use crate::search::condition::Condition;
use crate::search::parameters::Parameter;
use crate::search::term::Token;
use crate::search::term::uri_ancestors;
use crate::search::value::bad_modifier;
use crate::search::value::split::unescape;
use crate::search::value::token::terms;

pub fn string(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let text = unescape(text);
    let normal = normalise(&text);
    if normal.is_empty() {
        return Err(Outcome::invalid(format!("{} has an empty value", parameter.code)));
    }
    match modifier {
        None => Ok(Condition::StringStart(parameter.keys.clone(), normal)),
        Some("contains") => Ok(Condition::StringPart(parameter.keys.clone(), normal)),
        Some("exact") => Ok(Condition::Terms(terms(parameter, std::iter::once(Token::Exact(&text))))),
        Some(modifier) => Err(bad_modifier(parameter, modifier)),
    }
}

/// `:above` finds what the value lies below, `:below` what lies below the value.
pub fn uri(parameter: &Parameter, modifier: Option<&str>, text: &str) -> Result<Condition, Outcome> {
    let text = unescape(text);
    let terms = match modifier {
        None => terms(parameter, std::iter::once(Token::Uri(&text))),
        Some("below") if parameter.code == "_profile" => return Err(bad_modifier(parameter, "below")),
        Some("below") => terms(parameter, std::iter::once(Token::UriBelow(text.trim_end_matches('/')))),
        Some("above") => terms(parameter, uri_ancestors(&text).map(Token::Uri)),
        Some(modifier) => return Err(bad_modifier(parameter, modifier)),
    };
    Ok(Condition::Terms(terms))
}
