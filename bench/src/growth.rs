//! Reports of one server at several sizes: what grows with the number of resources and what does not, as a table and as a plot.

use std::fmt::Write;

use crate::load::row::Row;
use crate::plot;
use crate::plot::Panel;
use crate::plot::Scale;
use crate::plot::Series;
use crate::report::Report;
use crate::report::RowReport;

/// The rows drawn, with short names; the table has all.
const DRAWN: [(Row, &str); 9] = [
    (Row::Count, "count by code"),
    (Row::Has, "_has"),
    (Row::Chained, "chained by name"),
    (Row::CreatePatient, "create Patient"),
    (Row::SearchMix, "search mix"),
    (Row::Name, "name prefix"),
    (Row::CodeDate, "newest by code"),
    (Row::DeepPage, "pages 1 to 20"),
    (Row::Read, "read by id"),
];

/// The reports, smallest first, as Markdown.
pub fn markdown(reports: &[Report]) -> String {
    let mut text = String::new();
    let Some(first) = reports.first() else { return text };
    let machine = &first.machine;
    let _ = writeln!(
        text,
        "{machine}; {}, {} runs of each row\n\
         after a warm-up. CPU is that of the server and of all PostgreSQL processes, for an operation.\n\n\
         ![Latency, ingest and memory against the number of resources](growth.svg)\n",
        first.source, first.runs
    );
    let sizes: Vec<String> = reports.iter().map(|report| grouped(report.resources)).collect();
    let head = |unit: &str| sizes.iter().map(|size| format!("{unit} at {size}")).collect::<Vec<_>>().join(" | ");
    let _ = writeln!(
        text,
        "| operation | {} | {} |\n| --- |{}",
        head("CPU ms"),
        head("p99 ms"),
        " --- |".repeat(sizes.len() * 2)
    );
    for row in &first.rows {
        let figures = |figure: fn(&RowReport) -> f64, digits: usize| {
            let of = |report: &Report| {
                report
                    .row(&row.title)
                    .map_or("-".to_owned(), |row| judged(row, figure(row), digits))
            };
            reports.iter().map(of).collect::<Vec<_>>().join(" | ")
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            row.title,
            figures(RowReport::cpu_ms, 3),
            figures(|row| row.p99_ms, 1)
        );
    }
    write_sizes(&mut text, reports, &sizes);
    text
}

fn judged(row: &RowReport, figure: f64, digits: usize) -> String {
    match row.wrong {
        0 => format!("{figure:.digits$}"),
        wrong => format!("{figure:.digits$} ({wrong} wrong)"),
    }
}

fn write_sizes(text: &mut String, reports: &[Report], sizes: &[String]) {
    let _ = writeln!(
        text,
        "\n| size | {} |\n| --- |{}",
        sizes.join(" resources | ") + " resources",
        " --- |".repeat(sizes.len())
    );
    let mut line = |title: &str, figure: &dyn Fn(&Report) -> Option<f64>| {
        let of = |report: &Report| figure(report).map_or("not measured".to_owned(), |figure| format!("{figure:.0}"));
        let _ = writeln!(text, "| {title} | {} |", reports.iter().map(of).collect::<Vec<_>>().join(" | "));
    };
    line("resources imported per second", &|report| {
        Some(report.import()?.operations_per_second.middle)
    });
    line("disk per resource, bytes", &|report| report.disk_bytes_per_resource);
    line("WAL per resource of the import, bytes", &|report| {
        report.import()?.wal_bytes_per_resource
    });
    line("server memory idle, MB", &|report| megabytes(report.server_idle_kb));
    line("server memory at its peak, MB", &|report| megabytes(report.server_peak_kb));
}

/// The reports as a plot: latency, ingest and memory, each against the number of resources.
pub fn svg(reports: &[Report]) -> String {
    let series = |name: &str, figure: &dyn Fn(&Report) -> Option<f64>| Series {
        name: name.to_owned(),
        points: reports
            .iter()
            .filter_map(|report| Some((report.resources as f64, figure(report)?)))
            .collect(),
    };
    let latency = DRAWN
        .iter()
        .map(|(row, name)| series(name, &|report| Some(report.row(row.title()).filter(|row| row.wrong == 0)?.p99_ms)));
    let panels = [
        Panel {
            title: "Latency, 99th percentile".to_owned(),
            unit: "ms".to_owned(),
            scale: Scale::Logarithmic,
            series: latency.filter(|series| !series.points.is_empty()).collect(),
        },
        Panel {
            title: "Ingest, transaction Bundles".to_owned(),
            unit: "resources per second".to_owned(),
            scale: Scale::Linear,
            series: vec![series("import", &|report| Some(report.import()?.operations_per_second.middle))],
        },
        Panel {
            title: "Memory of the server".to_owned(),
            unit: "MB".to_owned(),
            scale: Scale::Linear,
            series: vec![
                series("peak", &|report| megabytes(report.server_peak_kb)),
                series("idle", &|report| megabytes(report.server_idle_kb)),
            ],
        },
    ];
    plot::svg(&panels, "resources stored, logarithmic")
}

fn megabytes(kb: Option<u64>) -> Option<f64> {
    kb.map(|kb| kb as f64 / 1_024.0)
}

/// A number with its thousands apart: 1,000,000.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::growth::grouped;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
