//! Transaction Bundles of several shapes, with the connection cut before and after each statement, BEGIN and COMMIT among them: each
//! Bundle leaves all that it writes (rows, history, index, change rows), or nothing.

use crate::figures::Outcome;
use crate::figures::amount;
use crate::postgres::Postgres;
use crate::relay::Fault;
use crate::relay::Moment;
use crate::relay::Sabotage;
use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use serde_json::Value;
use serde_json::json;
use std::sync::atomic::Ordering;

const SCENARIO: &str = "transactions cut at each statement";

/// What a Bundle is made from: its number, and the id of a Patient that is there.
type Shape = fn(u64, &str) -> Vec<Value>;

fn patient(number: u64, id: Option<&str>) -> Value {
    let mut patient = json!({
        "resourceType": "Patient",
        "identifier": [{"system": "urn:fault:bundle", "value": number.to_string()}],
        "name": [{"family": format!("Rossi{number}")}], "birthDate": "1980-02-03"
    });
    if let Some(id) = id {
        patient["id"] = json!(id);
    }
    patient
}

fn observation(number: u64, subject: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": subject},
        "identifier": [{"system": "urn:fault:bundle", "value": number.to_string()}],
        "valueQuantity": {"value": 1.5, "unit": "g"}
    })
}

fn entry(method: &str, url: &str, resource: Value) -> Value {
    json!({"fullUrl": format!("urn:uuid:{:032x}", rand::random::<u128>()), "resource": resource, "request": {"method": method, "url": url}})
}

const SHAPES: &[Shape] = &[
    // Only new resources.
    |n, _| {
        vec![
            entry("POST", "Patient", patient(n, None)),
            entry("POST", "Patient", patient(n, None)),
        ]
    },
    // A reference within the Bundle.
    |n, _| {
        let subject = entry("POST", "Patient", patient(n, None));
        let reference = subject["fullUrl"].as_str().unwrap().to_owned();
        vec![entry("POST", "Observation", observation(n, &reference)), subject]
    },
    // A new version, and what refers to it.
    |n, id| {
        vec![
            entry("PUT", &format!("Patient/{id}"), patient(n, Some(id))),
            entry("POST", "Observation", observation(n, &format!("Patient/{id}"))),
        ]
    },
    // Conditional create and conditional update of what is not there.
    |n, _| {
        let mut create = entry("POST", "Patient", patient(n, None));
        create["request"]["ifNoneExist"] = json!(format!("identifier=urn:fault:bundle|{n}-none"));
        vec![
            create,
            entry("PUT", &format!("Patient?identifier=urn:fault:other|{n}"), patient(n, None)),
        ]
    },
    // A deletion, and a conditional reference to what stays.
    |n, id| {
        let doomed = json!({"request": {"method": "DELETE", "url": format!("Patient/{id}-gone")}});
        let subject = "Patient?identifier=urn:fault:standing|1";
        vec![
            doomed,
            entry("POST", "Observation", observation(n, subject)),
            entry("POST", "Observation", observation(n, subject)),
        ]
    },
];

/// Rows of everything that a write leaves.
fn rows(database: &mut Session) -> [i64; 5] {
    ["resource", "history", "change", "string_index", "quantity_index"]
        .map(|table| database.number(&format!("select count(*) from {table}")))
}

struct Rig<'a> {
    server: &'a Server,
    database: Session,
    standing: String,
    number: u64,
}

impl Rig<'_> {
    /// Carries out one Bundle of the shape while the fault is there.
    fn run(&mut self, postgres: &Postgres, shape: Shape, fault: Option<Fault>) -> Run {
        self.number += 1;
        let gone = format!("{}-gone", self.standing);
        self.server.put(&format!("/Patient/{gone}"), &patient(0, Some(&gone)));
        let before = rows(&mut self.database);
        postgres.relay.inject(fault);
        let answer = self.server.bundle("transaction", shape(self.number, &self.standing));
        assert!(fault.is_some() || answer.status == 200, "{}", answer.text());
        let status = answer.status;
        let statements = postgres.relay.control.statements_of_last.load(Ordering::Relaxed);
        postgres.relay.inject(None);
        let after = rows(&mut self.database);
        Run {
            status,
            added: std::array::from_fn(|i| after[i] - before[i]),
            statements,
        }
    }
}

struct Run {
    status: u16,
    /// What was added to each table.
    added: [i64; 5],
    /// Of its transaction; 0 if it is one statement.
    statements: usize,
}

fn each_statement(postgres: &Postgres, server: &Server, rounds: usize, outcome: &mut Outcome) {
    let named = |system: &str| json!({"resourceType": "Patient", "identifier": [{"system": system, "value": "1"}], "name": [{"family": "Bianchi"}]});
    let standing = server.create(&named("urn:fault:changing"));
    server.create(&named("urn:fault:standing"));
    let mut rig = Rig {
        server,
        database: postgres.session(),
        standing,
        number: 0,
    };
    let (mut points, mut whole, mut nothing) = (0, 0, 0);
    for _ in 0..rounds {
        for (i, shape) in SHAPES.iter().enumerate() {
            // What its words and units are is written once: the second Bundle has the statements that every Bundle has.
            rig.run(postgres, *shape, None);
            let Run {
                added: all, statements, ..
            } = rig.run(postgres, *shape, None);
            // A Bundle of new resources is one statement, which is its own transaction.
            let faults: Vec<Fault> = match statements {
                0 => vec![Fault::Commit(1, Moment::Before), Fault::Commit(1, Moment::After)],
                _ => (1..=statements)
                    .flat_map(|at| [Fault::Statement(at, Moment::Before), Fault::Statement(at, Moment::After)])
                    .collect(),
            };
            for fault in faults {
                let cuts = postgres.relay.control.cuts.load(Ordering::Relaxed);
                let Run { status, added, .. } = rig.run(postgres, *shape, Some(fault));
                points += 1;
                outcome.require(postgres.relay.control.cuts.load(Ordering::Relaxed) > cuts, || {
                    format!("rig: shape {i}: {fault:?} did not happen")
                });
                outcome.require([200, 503].contains(&status), || {
                    format!("answers: {status} for shape {i} with {fault:?}")
                });
                let is_all = added == all;
                let is_nothing = added == [0; 5];
                outcome.require(is_all || (is_nothing && status == 503), || {
                    format!("atomicity: shape {i}, {fault:?}: {status}, rows {added:?} in place of {all:?} or none")
                });
                whole += usize::from(is_all);
                nothing += usize::from(is_nothing);
            }
        }
    }
    outcome.figure("Bundle shapes", SHAPES.len());
    outcome.figure("cuts", points);
    outcome.figure("all there", whole);
    outcome.figure("nothing there", nothing);
}

#[test]
fn a_transaction_leaves_all_or_nothing_wherever_its_connection_is_cut() {
    let (postgres, dir) = (Postgres::start(), DataDir::new());
    let server = postgres.server(&dir, "127.0.0.1:0", &[]);
    let mut outcome = Outcome::default();
    each_statement(&postgres, &server, amount(1, 20), &mut outcome);
    outcome.green(SCENARIO);
}

#[test]
fn statements_that_commit_for_themselves_are_found_out() {
    let (postgres, dir) = (Postgres::start(), DataDir::new());
    let server = postgres.server(&dir, "127.0.0.1:0", &[]);
    postgres.relay.sabotage(Some(Sabotage::NoTransactions));
    let mut outcome = Outcome::default();
    each_statement(&postgres, &server, 1, &mut outcome);
    outcome.red(SCENARIO, "BEGIN and COMMIT do not reach the database", "atomicity");
}
