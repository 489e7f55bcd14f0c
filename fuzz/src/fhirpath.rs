//! Expressions of search parameters: read or refused, and what was read is read the same when it is written down again.

use eds::search::expression;
use eds::search::expression::Path;
use eds::search::expression::Step;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(paths) = expression::parse(text) else { return };
    assert!(!paths.is_empty());
    for path in paths.iter().filter(|path| is_plain(path)) {
        let written = written(path);
        assert_eq!(expression::parse(&written).as_deref(), Ok(std::slice::from_ref(path)), "{written}");
    }
}

/// Its names can be written down without quotes.
fn is_plain(path: &Path) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    is_name(&path.root)
        && path.steps.iter().all(|step| match step {
            Step::Field(name) | Step::As(name) | Step::ResolveIs(name) => is_name(name),
            Step::Where(member, value) => is_name(member) && is_name(value),
            Step::Index(_) => true,
            Step::PresentAndNotFalse => false,
        })
}

fn written(path: &Path) -> String {
    let mut text = path.root.clone();
    for step in &path.steps {
        text += &match step {
            Step::Field(name) => format!(".{name}"),
            Step::As(datatype) => format!(".ofType({datatype})"),
            Step::ResolveIs(type_name) => format!(".where(resolve() is {type_name})"),
            Step::Where(member, value) => format!(".where({member} = '{value}')"),
            Step::Index(index) => format!("[{index}]"),
            Step::PresentAndNotFalse => String::new(),
        };
    }
    text
}
