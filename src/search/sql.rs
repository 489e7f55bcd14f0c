//! SQL text and its arguments, written together: a value can only become an argument, never text.

/// An argument of a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    Int(i64),
    Ints(Vec<i64>),
    Keys(Vec<i32>),
    Float(f64),
    Text(String),
    Instant(chrono::DateTime<chrono::Utc>),
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Sql {
    pub text: String,
    pub args: Vec<Arg>,
}

impl Sql {
    /// Appends fixed text.
    pub fn push(&mut self, text: &str) -> &mut Sql {
        self.text.push_str(text);
        self
    }

    /// Appends `$n` for a new argument.
    pub fn bind(&mut self, arg: Arg) -> &mut Sql {
        self.args.push(arg);
        self.text.push('$');
        self.text.push_str(&self.args.len().to_string());
        self
    }
}
