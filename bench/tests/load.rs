//! The load against a stub that keeps resources in memory and searches by walking them: the whole table must come out right, and an
//! answer that is wrong must be told.

mod stub;

use eds_bench::http::BaseUrl;
use eds_bench::load;
use eds_bench::load::Plan;
use eds_bench::load::closed_loop::Bench;
use eds_bench::load::row::Row;
use eds_bench::load::source::Source;
use eds_bench::machine::Processes;
use eds_bench::population::Population;
use eds_bench::postgres::Database;
use eds_bench::report::Report;

fn run(fault: stub::Fault, only: Vec<Row>) -> Report {
    let authority = stub::start(fault);
    let population = Population { seed: 11 };
    load::run(&Plan {
        bench: Bench {
            base: BaseUrl {
                authority,
                path: "/fhir".to_owned(),
            },
            processes: Processes::default(),
            run_seconds_max: 10,
        },
        source: Source::Population(population),
        bundles: 8,
        population,
        only,
        runs: 3,
        scale: 0.002,
        rest_seconds: 0,
        database: Database {
            psql: "psql".to_owned(),
            url: None,
        },
    })
}

#[test]
fn a_server_that_is_right_fills_the_table_without_a_wrong_answer() {
    let report = run(stub::Fault::None, Vec::new());
    let wrong: Vec<_> = report.rows.iter().flat_map(|row| &row.wrong_examples).collect();
    assert_eq!(report.wrong(), 0, "{wrong:#?}");
    assert_eq!(report.rows.len(), 20);
    assert!(report.rows.iter().all(|row| row.operations > 0 && row.p99_ms > 0.0));
    let markdown = report.markdown();
    assert_eq!(markdown.lines().filter(|line| line.starts_with("| ")).count(), 20 + 2 + 2 + 4);
}

#[test]
fn a_server_that_loses_a_match_is_found_out() {
    let report = run(stub::Fault::LosesLastMatch, vec![Row::PatientCode, Row::Count]);
    assert_eq!(report.rows.len(), 2);
    assert!(report.rows.iter().all(|row| row.wrong == row.operations));
    assert!(report.markdown().contains("wrong answer, search by patient and code"));
}

#[test]
fn a_server_that_refuses_bundles_is_found_out() {
    let report = run(stub::Fault::RefusesTransactions, vec![Row::Read]);
    assert_eq!((report.wrong(), report.resources, report.rows.len()), (8, 0, 0));
}

#[test]
fn every_kind_of_fault_is_found_out_by_the_row_that_looks_for_it() {
    for (fault, row) in [
        (stub::Fault::StaysOnPage, Row::DeepPage),
        (stub::Fault::IgnoresConditions, Row::ConditionalCreate),
        (stub::Fault::AcceptsEverything, Row::Validate),
        (stub::Fault::KeepsDeleted, Row::CrudMix),
        (stub::Fault::IgnoresValues, Row::SearchMix),
    ] {
        let report = run(fault, vec![row]);
        assert_eq!(report.rows.len(), 1, "{row:?}");
        assert!(report.wrong() > 0, "{row:?} does not notice");
    }
}
