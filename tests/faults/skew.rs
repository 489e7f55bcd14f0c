//! Small sets of transactions that read by criterion and write what others' criteria look for, run at once over two servers: what they
//! answered and left must be what some order of them, one after the other, answers and leaves. All orders are tried.

use crate::conditional::NO_LOCKS;
use crate::figures::Outcome;
use crate::figures::amount;
use crate::postgres::Postgres;
use crate::support::http::Request;
use crate::support::server::DataDir;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Barrier;

const SCENARIO: &str = "write skew";
/// Transactions of one history: all their orders are few.
const AT_ONCE: usize = 4;
/// Names that a history uses.
const NAMES: u32 = 3;

/// "Create `creates`, unless `unless` is there." A transaction is one or two of these.
#[derive(Debug, Clone, Copy)]
struct Step {
    creates: u32,
    unless: u32,
}

type Transaction = Vec<Step>;

/// For each step whether it created; `None`: the transaction was refused (more than one match).
type Answers = Option<Vec<bool>>;

/// The criteria of one transaction differ: entries with one criterion are one resource.
fn random_history() -> Vec<Transaction> {
    let transaction = |_| {
        let (first, steps) = (rand::random::<u32>(), 1 + rand::random::<u32>() % 2);
        let step = |i| Step {
            creates: rand::random::<u32>() % NAMES,
            unless: first.wrapping_add(i) % NAMES,
        };
        (0..steps).map(step).collect()
    };
    (0..AT_ONCE).map(transaction).collect()
}

/// What a transaction answers on a state (how many there are of each name), which it changes. Its criteria are all looked at before it
/// writes.
fn apply(transaction: &Transaction, state: &mut BTreeMap<u32, u32>) -> Answers {
    let counts: Vec<u32> = transaction.iter().map(|s| state.get(&s.unless).copied().unwrap_or(0)).collect();
    if counts.iter().any(|c| *c > 1) {
        return None;
    }
    let created: Vec<bool> = counts.iter().map(|c| *c == 0).collect();
    for (step, created) in transaction.iter().zip(&created) {
        *state.entry(step.creates).or_default() += u32::from(*created);
    }
    Some(created)
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in permutations(count - 1) {
        for place in 0..count {
            let mut order = shorter.clone();
            order.insert(place, count - 1);
            all.push(order);
        }
    }
    all
}

fn is_serial(history: &[Transaction], answers: &[Answers], left: &BTreeMap<u32, u32>) -> bool {
    permutations(history.len()).iter().any(|order| {
        let mut state = BTreeMap::new();
        let same = order.iter().all(|i| apply(&history[*i], &mut state) == answers[*i]);
        state.retain(|_, count| *count > 0);
        same && state == *left
    })
}

fn bundle(transaction: &Transaction, of: u64) -> Value {
    let entry = |step: &Step| {
        json!({
            "fullUrl": format!("urn:uuid:{:032x}", rand::random::<u128>()),
            "resource": {"resourceType": "Patient", "identifier": [{"system": "urn:fault:skew", "value": format!("{of}-{}", step.creates)}]},
            "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier=urn:fault:skew|{of}-{}", step.unless)}
        })
    };
    json!({"resourceType": "Bundle", "type": "transaction", "entry": transaction.iter().map(entry).collect::<Vec<_>>()})
}

fn send(address: SocketAddr, bundle: &Value) -> Result<Answers, String> {
    let answer = Request::new(address, "POST", "/fhir").json(bundle).send();
    match answer.status {
        200 => {
            let answer = answer.json();
            let entries = answer["entry"].as_array().expect("entries");
            let created = entries
                .iter()
                .map(|e| e["response"]["status"].as_str().unwrap_or_default().starts_with("201"));
            Ok(Some(created.collect()))
        }
        412 => Ok(None),
        status => Err(format!("answers: {status} {}", answer.text())),
    }
}

fn histories(postgres: &Postgres, count: usize, make: impl Fn() -> Vec<Transaction>) -> Outcome {
    let dirs = [DataDir::new(), DataDir::new()];
    let servers = dirs.each_ref().map(|dir| postgres.server(dir, "127.0.0.1:0", &[]));
    let mut outcome = Outcome::default();
    let mut transactions = 0;
    for of in 0..count as u64 {
        let history = make();
        transactions += history.len();
        let barrier = Barrier::new(history.len());
        let answers: Vec<Result<Answers, String>> = std::thread::scope(|scope| {
            let clients: Vec<_> = history
                .iter()
                .enumerate()
                .map(|(i, transaction)| {
                    let (address, bundle, barrier) = (servers[i % 2].address, bundle(transaction, of), &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        send(address, &bundle)
                    })
                })
                .collect();
            clients.into_iter().map(|c| c.join().expect("a client")).collect()
        });
        let mut told = Vec::new();
        for answer in answers {
            match answer {
                Ok(answer) => told.push(answer),
                Err(violation) => outcome.violations.push(violation),
            }
        }
        let mut left = BTreeMap::new();
        for name in 0..NAMES {
            let found = servers[0].count(&format!("Patient?identifier=urn:fault:skew|{of}-{name}")) as u32;
            left.extend((found > 0).then_some((name, found)));
        }
        outcome.require(told.len() == history.len() && is_serial(&history, &told, &left), || {
            format!("write skew: {history:?} answered {told:?} and left {left:?}, as no order of them does")
        });
    }
    outcome.figure("histories", count);
    outcome.figure("transactions", transactions);
    outcome.figure("orders tried for each", permutations(AT_ONCE).len());
    outcome
}

#[test]
fn transactions_at_once_do_what_some_order_of_them_does() {
    histories(&Postgres::start(), amount(60, 4_000), random_history).green(SCENARIO);
}

#[test]
fn transactions_that_do_not_lock_their_criteria_are_found_out() {
    let postgres = Postgres::start();
    postgres.relay.sabotage(Some(NO_LOCKS));
    // Each creates what the other must not find.
    let crossed = || {
        let step = |creates, unless| vec![Step { creates, unless }];
        vec![step(0, 1), step(1, 0)]
    };
    histories(&postgres, 100, crossed).red(SCENARIO, "criteria are not locked", "write skew");
}
