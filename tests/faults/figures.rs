//! How much a scenario does, and the page that the long form writes.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

/// `EDS_FAULTS=long` asks for the long form.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration file")]
pub fn is_long() -> bool {
    std::env::var("EDS_FAULTS").is_ok_and(|v| v == "long")
}

/// The amount of the short form, or of the long one.
pub fn amount(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

/// What a run of a scenario came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was done and measured: `("acknowledged writes", "104,211")`.
    pub figures: Vec<(&'static str, String)>,
    /// Each begins with the invariant that does not hold.
    pub violations: Vec<String>,
}

impl Outcome {
    pub fn figure(&mut self, name: &'static str, value: impl ToString) {
        self.figures.push((name, value.to_string()));
    }

    pub fn require(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(violation());
        }
    }

    fn text(&self) -> String {
        let each: Vec<String> = self.figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        each.join(", ")
    }

    /// Nothing may be violated. Writes the page's row of the scenario.
    #[track_caller]
    pub fn green(&self, scenario: &str) {
        println!("{scenario}: {}", self.text());
        record(
            "green",
            scenario,
            &format!("{} | {} violations", self.text(), self.violations.len()),
        );
        let shown: Vec<&String> = self.violations.iter().take(20).collect();
        assert!(
            self.violations.is_empty(),
            "{scenario}: {} violations: {shown:#?}",
            self.violations.len()
        );
    }

    /// The sabotage must have been found out, by a violation that begins so.
    #[track_caller]
    pub fn red(&self, scenario: &str, sabotage: &str, invariant: &str) {
        let found = self.violations.iter().filter(|v| v.starts_with(invariant));
        let (count, first) = (found.clone().count(), found.clone().next());
        println!(
            "{scenario}, sabotaged ({sabotage}): {} violations, {first:?}",
            self.violations.len()
        );
        let Some(first) = first else {
            panic!(
                "{scenario}: {sabotage} was not found out; {}; {:?}",
                self.text(),
                self.violations.first()
            );
        };
        record(
            "red",
            scenario,
            &format!("{sabotage} | {count} violations, such as: {}", first.replace('|', "/")),
        );
    }
}

/// Puts a row into a table of the page, between its markers: in place of the row that begins the same, or last.
fn record(table: &str, scenario: &str, cells: &str) {
    if !is_long() {
        return;
    }
    static PAGE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = PAGE.lock().unwrap_or_else(|e| e.into_inner());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
    let page = std::fs::read_to_string(&path).expect("docs/reliability.md");
    let page = measured(&page);
    let (begin, end) = (format!("<!-- {table}:begin -->\n"), format!("<!-- {table}:end -->"));
    let (before, rest) = page.split_once(&begin).expect("the begin of the table");
    let (rows, after) = rest.split_once(&end).expect("the end of the table");
    let mut rows: Vec<String> = rows.lines().map(str::to_owned).collect();
    let row = format!("| {scenario} | {cells} |");
    match rows.iter_mut().find(|r| r.starts_with(&format!("| {scenario} |"))) {
        Some(old) => *old = row,
        None => rows.push(row),
    }
    let mut text = String::new();
    write!(text, "{before}{begin}{}\n{end}{after}", rows.join("\n")).expect("memory");
    std::fs::write(path, text).expect("docs/reliability.md");
}

/// The page with the line that says when and where the rig ran last.
fn measured(page: &str) -> String {
    let (begin, end) = ("<!-- measured:begin -->\n", "<!-- measured:end -->");
    let (before, rest) = page.split_once(begin).expect("the begin of the line");
    let (_, after) = rest.split_once(end).expect("the end of the line");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let now = chrono::Utc::now().format("%Y-%m-%dT%H:%MZ");
    format!("{before}{begin}Last row written {now}, {build} build, {cores} cores shared by server, PostgreSQL and clients.\n{end}{after}")
}

/// The value at or below which so many per cent of the sorted values are.
pub fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let place = (sorted.len() * percent).div_ceil(100);
    sorted.get(place.max(1) - 1).copied()
}
