//! Reports of several servers on the same machine with the same data, set against each other as ratios.
//!
//! A row that a server answers wrongly has no figures: a wrong answer is not a fast one.

use std::fmt::Write;

use crate::report::Report;
use crate::report::RowReport;

/// How many times as much CPU as ours a peer has to spend.
const RATIO_GOAL: f64 = 5.0;

/// Above this share of wrong answers a row has no figures.
const WRONG_SHARE_MAX: f64 = 0.01;

/// Below this CPU of all runs, in milliseconds, a row has no ratio: the kernel counts in ticks of 10 ms.
const CPU_MS_MIN: f64 = 100.0;

/// Lengths of an example of a wrong answer.
const EXAMPLE_CHARACTERS_MAX: usize = 240;

/// The comparison as Markdown: one table for each server against the first, then one of sizes.
pub fn markdown(reports: &[(String, Report)]) -> String {
    let mut text = String::new();
    let Some(((our_name, ours), peers)) = reports.split_first() else {
        return text;
    };
    let machine = &ours.machine;
    let _ = writeln!(
        text,
        "{machine}; one server after the other, each with its PostgreSQL and the\n\
         load generator. {} resources of {}, {} runs of each row after a warm-up. CPU is that of\n\
         the server and of all PostgreSQL processes for an operation, ratio how many times ours a peer spends. Where a peer answers more\n\
         than one in a hundred wrongly, or not at all, it has no figure.",
        ours.resources, ours.source, ours.runs
    );
    for (number, (name, peer)) in peers.iter().enumerate() {
        let same = peer.resources == ours.resources;
        if !same {
            let (stored, all) = (peer.resources, ours.resources);
            let _ = writeln!(
                text,
                "\n**{name} stored {stored} of {all} resources: its figures are not comparable.**"
            );
        }
        let _ = writeln!(
            text,
            "\n| operation | {our_name}: CPU ms | {name}: CPU ms | ratio | {our_name}: p99 ms | {name}: p99 ms | at most one fifth |\n\
             | --- | --- | --- | --- | --- | --- | --- |"
        );
        for row in &ours.rows {
            if let Some(other) = peer.row(&row.title) {
                write_row(&mut text, row, other, same);
            }
        }
        let compared: Vec<f64> = ours
            .rows
            .iter()
            .filter_map(|row| ratio(row, peer.row(&row.title)?).filter(|_| same))
            .collect();
        let met = compared.iter().filter(|ratio| **ratio >= RATIO_GOAL).count();
        let _ = writeln!(text, "\n{met} of {} comparable rows meet the goal.", compared.len());
        let missing: Vec<&str> = ours
            .rows
            .iter()
            .map(|row| row.title.as_str())
            .filter(|title| peer.row(title).is_none())
            .collect();
        // A further table is of some rows only, by intention.
        if !missing.is_empty() && number == 0 {
            let _ = writeln!(text, "Not measured with {name}: {}.\n", missing.join("; "));
        }
        write_wrong(&mut text, name, peer);
    }
    write_sizes(&mut text, reports);
    text
}

fn share_wrong(row: &RowReport) -> f64 {
    row.wrong as f64 / row.operations.max(row.wrong).max(1) as f64
}

fn is_wrong(row: &RowReport) -> bool {
    row.operations == 0 || share_wrong(row) > WRONG_SHARE_MAX
}

fn ratio(ours: &RowReport, other: &RowReport) -> Option<f64> {
    let is_measured = |row: &RowReport| !is_wrong(row) && row.cpu_ms() * row.operations as f64 >= CPU_MS_MIN;
    let comparable = is_measured(ours) && is_measured(other);
    comparable.then(|| other.cpu_ms() / ours.cpu_ms())
}

fn write_row(text: &mut String, ours: &RowReport, other: &RowReport, same: bool) {
    let judge = |row: &RowReport, figure: String| match is_wrong(row) {
        true if row.operations == 0 => "refused".to_owned(),
        true => format!("wrong: {:.0} %", share_wrong(row) * 100.0),
        false if row.wrong > 0 => format!("{figure} ({} wrong)", row.wrong),
        false => figure,
    };
    let cpu = |row: &RowReport| judge(row, format!("{:.3}", row.cpu_ms()));
    let p99 = |row: &RowReport| {
        if is_wrong(row) {
            "-".to_owned()
        } else {
            format!("{:.1}", row.p99_ms)
        }
    };
    let (ratio, goal) = match ratio(ours, other).filter(|_| same) {
        Some(ratio) => (format!("{ratio:.1}"), if ratio >= RATIO_GOAL { "met" } else { "**not met**" }),
        None => ("-".to_owned(), "not comparable"),
    };
    let _ = writeln!(
        text,
        "| {} | {} | {} | {ratio} | {} | {} | {goal} |",
        ours.title,
        cpu(ours),
        cpu(other),
        p99(ours),
        p99(other)
    );
}

fn write_wrong(text: &mut String, name: &str, peer: &Report) {
    for row in peer.rows.iter().filter(|row| row.wrong > 0) {
        if let Some(example) = row.wrong_examples.first() {
            let example: String = example
                .replace(['`', '\n', '\r'], " ")
                .chars()
                .take(EXAMPLE_CHARACTERS_MAX)
                .collect();
            let _ = writeln!(
                text,
                "- {name}, {}, {} of {} wrong: `{example}`",
                row.title, row.wrong, row.operations
            );
        }
    }
}

fn write_sizes(text: &mut String, reports: &[(String, Report)]) {
    let names: Vec<&str> = reports.iter().map(|(name, _)| name.as_str()).collect();
    let _ = writeln!(text, "\n| size | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
    let mut line = |title: &str, figure: &dyn Fn(&Report) -> Option<f64>| {
        let figures: Vec<String> = reports
            .iter()
            .map(|(_, report)| figure(report).map_or("not measured".to_owned(), |figure| format!("{figure:.0}")))
            .collect();
        let _ = writeln!(text, "| {title} | {} |", figures.join(" | "));
    };
    line("resources stored", &|report| Some(report.resources as f64));
    line("resources imported per second", &|report| {
        report.import().map(|row| row.operations_per_second.middle)
    });
    line("disk per resource, bytes", &|report| report.disk_bytes_per_resource);
    line("WAL per resource of the import, bytes", &|report| {
        report.import()?.wal_bytes_per_resource
    });
    line("server memory idle, MB", &|report| {
        report.server_idle_kb.map(|kb| kb as f64 / 1_024.0)
    });
    line("server memory at its peak, MB", &|report| {
        report.server_peak_kb.map(|kb| kb as f64 / 1_024.0)
    });
    for (name, report) in reports {
        if let Some(settings) = &report.database_settings {
            let _ = writeln!(text, "\nPostgreSQL of {name}: {settings}.");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::compare::markdown;
    use crate::load::row::Goal;
    use crate::machine;
    use crate::report::Report;
    use crate::report::RowReport;
    use crate::report::Spread;

    fn row(title: &str, cpu_ms: f64, wrong: u64) -> RowReport {
        let spread = Spread {
            middle: 1.0,
            low: 1.0,
            high: 1.0,
        };
        RowReport {
            title: title.to_owned(),
            clients: 1,
            operations: 1_000,
            operations_per_second: spread,
            p50_ms: 1.0,
            p95_ms: 1.0,
            p99_ms: 1.0,
            max_ms: 1.0,
            cpu_server_ms: cpu_ms,
            cpu_postgres_ms: 0.0,
            cpu_client_ms: 0.0,
            cpu_total_ms: spread,
            entries_per_answer: 1.0,
            bytes_per_answer: 1.0,
            wal_bytes_per_resource: None,
            goal: Goal::default(),
            wrong,
            wrong_examples: vec!["GET x: status 500".to_owned(); usize::from(wrong > 0)],
        }
    }

    fn report(rows: Vec<RowReport>) -> Report {
        Report {
            machine: machine::describe(),
            database_settings: None,
            source: "a test".to_owned(),
            bundles: 1,
            resources: 1,
            runs: 1,
            rows,
            import_wrong: 0,
            disk_bytes_per_resource: None,
            maintenance_cpu_ms_per_resource: 0.0,
            server_idle_kb: None,
            server_peak_kb: None,
        }
    }

    #[test]
    fn a_wrong_row_has_no_figure_and_a_right_one_a_ratio() {
        let ours = report(vec![
            row("read", 0.1, 0),
            row("search", 0.1, 0),
            row("count", 0.1, 0),
            row("sort", 0.1, 0),
        ]);
        let peer = report(vec![row("read", 0.6, 0), row("search", 0.01, 500), row("count", 0.2, 1)]);
        let text = markdown(&[("eds".to_owned(), ours), ("other".to_owned(), peer)]);
        for line in [
            "| read | 0.100 | 0.600 | 6.0 | 1.0 | 1.0 | met |",
            "| search | 0.100 | wrong: 50 % | - | 1.0 | - | not comparable |",
            "| count | 0.100 | 0.200 (1 wrong) | 2.0 | 1.0 | 1.0 | **not met** |",
            "1 of 2 comparable rows meet the goal.",
            "Not measured with other: sort.",
            "- other, search, 500 of 1000 wrong: `GET x: status 500`",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
