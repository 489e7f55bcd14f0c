//! The small part of FHIRPath that R4's SearchParameters use: paths, `|`, `as`, `ofType`, `where(a = 'b')`, `where(resolve() is T)`, `[n]`.
//!
//! Read once at start. An expression outside this part is an error with its text, never skipped.
//! Spec: <https://hl7.org/fhir/R4/searchparameter.html>, <http://hl7.org/fhirpath/N1/>.

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Field(String),
    /// `as`, `ofType`: keep values of this datatype.
    As(String),
    /// `where(member = 'value')`
    Where(String, String),
    /// `where(resolve() is Type)`
    ResolveIs(String),
    Index(usize),
    /// `exists() and ... != false`: the element is present and not `false`.
    PresentAndNotFalse,
}

/// One alternative of a union: the type (or datatype) it starts from, and the steps from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub root: String,
    pub steps: Vec<Step>,
}

/// The alternatives of an expression. Errors: what could not be read.
pub fn parse(expression: &str) -> Result<Vec<Path>, String> {
    split_union(expression)
        .into_iter()
        .map(|part| parse_path(part.trim()).map_err(|e| format!("{e} in {expression:?}")))
        .collect()
}

fn split_union(expression: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth == 0 => {
                parts.push(&expression[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    parts
}

fn parse_path(text: &str) -> Result<Path, String> {
    if let Some((path, other)) = text.split_once(".exists() and ") {
        return if other == format!("{path} != false") {
            let mut path = parse_path(path)?;
            path.steps.push(Step::PresentAndNotFalse);
            Ok(path)
        } else {
            Err("unknown condition".to_owned())
        };
    }
    let (head, rest) = match text.strip_prefix('(') {
        Some(inner) => {
            let close = closing(inner).ok_or("missing ')'")?;
            (parenthesised(&inner[..close])?, &inner[close + 1..])
        }
        None => {
            let end = text.find(['.', '[', ' ']).unwrap_or(text.len());
            let root = &text[..end];
            let after = &text[end..];
            match after.strip_prefix(" as ") {
                Some(datatype) => return parse_path(&format!("({root} as {datatype})")),
                None => (
                    Path {
                        root: root.to_owned(),
                        steps: Vec::new(),
                    },
                    after,
                ),
            }
        }
    };
    let mut path = head;
    parse_steps(rest, &mut path.steps)?;
    Ok(path)
}

fn parenthesised(inner: &str) -> Result<Path, String> {
    match inner.rsplit_once(" as ") {
        Some((path, datatype)) => {
            let mut path = parse_path(path.trim())?;
            path.steps.push(Step::As(datatype.trim().to_owned()));
            Ok(path)
        }
        None => parse_path(inner.trim()),
    }
}

/// Where the parenthesis that is already open closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return Some(i),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn parse_steps(mut rest: &str, steps: &mut Vec<Step>) -> Result<(), String> {
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']').ok_or("missing ']'")?;
            steps.push(Step::Index(index.parse().map_err(|_| "bad index")?));
            rest = after;
            continue;
        }
        if let Some(datatype) = rest.strip_prefix(" as ") {
            steps.push(Step::As(datatype.trim().to_owned()));
            return Ok(());
        }
        let after = rest.strip_prefix('.').ok_or("expected '.'")?;
        let end = after.find(['.', '[', '(', ' ']).unwrap_or(after.len());
        let name = &after[..end];
        rest = &after[end..];
        match rest.strip_prefix('(') {
            Some(arguments) => {
                let close = closing(arguments).ok_or("missing ')'")?;
                steps.push(function(name, arguments[..close].trim())?);
                rest = &arguments[close + 1..];
            }
            None => steps.push(Step::Field(name.to_owned())),
        }
    }
    Ok(())
}

fn function(name: &str, argument: &str) -> Result<Step, String> {
    match name {
        "as" | "ofType" => Ok(Step::As(argument.to_owned())),
        "where" => {
            if let Some(type_name) = argument.strip_prefix("resolve() is ") {
                return Ok(Step::ResolveIs(type_name.trim().to_owned()));
            }
            let (member, value) = argument.split_once('=').ok_or("unknown condition")?;
            let value = value
                .trim()
                .strip_prefix('\'')
                .and_then(|v| v.strip_suffix('\''))
                .ok_or("unknown condition")?;
            Ok(Step::Where(member.trim().to_owned(), value.to_owned()))
        }
        _ => Err(format!("unknown function {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str) -> Step {
        Step::Field(name.to_owned())
    }

    #[test]
    fn the_forms_that_r4_uses_are_read() {
        for (text, root, steps) in [
            ("Patient.name.given", "Patient", vec![field("name"), field("given")]),
            (
                "(Observation.value as Quantity)",
                "Observation",
                vec![field("value"), Step::As("Quantity".into())],
            ),
            (
                "Observation.value as string",
                "Observation",
                vec![field("value"), Step::As("string".into())],
            ),
            (
                "AuditEvent.agent.who.where(resolve() is Patient)",
                "AuditEvent",
                vec![field("agent"), field("who"), Step::ResolveIs("Patient".into())],
            ),
            (
                "Patient.telecom.where(system='phone')",
                "Patient",
                vec![field("telecom"), Step::Where("system".into(), "phone".into())],
            ),
            (
                "Bundle.entry[0].resource",
                "Bundle",
                vec![field("entry"), Step::Index(0), field("resource")],
            ),
            ("value.as(Quantity)", "value", vec![Step::As("Quantity".into())]),
            (
                "(Group.characteristic.value as CodeableConcept).text",
                "Group",
                vec![
                    field("characteristic"),
                    field("value"),
                    Step::As("CodeableConcept".into()),
                    field("text"),
                ],
            ),
            (
                "Patient.deceased.exists() and Patient.deceased != false",
                "Patient",
                vec![field("deceased"), Step::PresentAndNotFalse],
            ),
        ] {
            assert_eq!(
                parse(text),
                Ok(vec![Path {
                    root: root.to_owned(),
                    steps
                }]),
                "{text}"
            );
        }
        assert_eq!(parse("A.b | (A.c as dateTime)").map(|p| p.len()), Ok(2));
    }

    #[test]
    fn what_is_outside_is_an_error() {
        for text in ["Patient.name.first()", "Patient.a.where(b > 1)", "Patient.name[x]", "(Patient.name"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
