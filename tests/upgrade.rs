//! Upgrade and rollback: servers that start at once on a database of an older schema, a migration that is killed, and a server of this version on
//! a database that a later one has migrated. docs/operations.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use crate::support::database;
use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::world::unique;
use eds::store::cluster;
use eds::store::cluster::Cluster;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::migrate::Migrator;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The older schema: that of the migrations up to this one.
const OLDER: i64 = 3;
/// Takes away what the later migrations add, so that a database with data becomes one of the older schema.
const UNDO: &str = "
drop table vocabulary;
drop table contained_string, contained_date, contained_quantity, contained_position, contained;
drop table text_index;
drop table search_parameter, search_generation;
drop function present_without;
drop index resource_present;
drop index resource_type;
drop statistics resource_block;
drop table past;
drop index resource_undated;
drop index resource_id;
drop index quantity_index_value;
create index quantity_index_low on quantity_index (key, low);
drop index resource_owner;
drop table unit;
drop table position;
drop index quantity_index_joint;
drop index quantity_index_wide;
alter table quantity_index drop column system, drop column joint;
drop table string_history, date_history, quantity_history, position_history;
drop index history_terms, history_date, history_date_wide, history_updated, history_code_patient, history_code_date, history_unindexed;
alter table history drop superseded, drop self_hash, drop present, drop date_low, drop date_high, drop reference_terms, drop id, drop terms;
drop index resource_code_patient;
drop index resource_code_date;
alter table string_index alter column value set statistics -1;
alter table document drop column found;
alter table rda_change rename column identifier_hash to term;
alter table repository drop column index_version;
delete from _sqlx_migrations where version > 3";
/// Name and type of every column, as one number.
const COLUMNS: &str = "select sum(hashtext(table_name || '.' || column_name || ' ' || data_type))::bigint
                       from information_schema.columns where table_schema = 'public'";

/// A PostgreSQL that several servers use.
struct Shared {
    runtime: Runtime,
    cluster: Option<Cluster>,
    dir: DataDir,
    url: String,
}

impl Shared {
    fn start() -> Shared {
        let dir = DataDir::new();
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(cluster::start(&dir.data())).unwrap();
        let url = database::url(&dir);
        Shared {
            runtime,
            cluster: Some(cluster),
            dir,
            url,
        }
    }

    fn server(&self, dir: &DataDir) -> Server {
        Server::start(dir, &[("EDS_DATABASE_URL", &self.url)])
    }

    fn session(&self) -> Session {
        Session::open(&self.dir)
    }

    /// `eds migrate`, not yet ended.
    fn migrate(&self, settings: &[(&str, &str)]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eds"));
        command
            .arg("migrate")
            .env("EDS_DATABASE_URL", &self.url)
            .envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// A database of the older schema, with what a server has written.
    fn with_older_data() -> (Shared, Vec<String>) {
        let shared = Shared::start();
        let dir = DataDir::new();
        let server = shared.server(&dir);
        let ids: Vec<String> = (0..20).map(|n| server.create(&basic(&n.to_string()))).collect();
        server.stop();
        shared.session().execute(UNDO);
        (shared, ids)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            self.runtime.block_on(cluster.stop());
        }
    }
}

fn basic(text: &str) -> Value {
    json!({"resourceType": "Basic", "identifier": [{"system": "urn:test:upgrade", "value": text}], "code": {"text": text}})
}

/// The migrations up to a version, as their files stand.
fn migrations(up_to: i64) -> Migrator {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name[..4].parse::<i64>().unwrap() <= up_to {
            std::fs::copy(&path, dir.path().join(name)).unwrap();
        }
    }
    Runtime::new().unwrap().block_on(Migrator::new(dir.path())).unwrap()
}

fn migrated(session: &mut Session) -> i64 {
    session.number("select count(*) from _sqlx_migrations where success")
}

#[test]
fn servers_that_start_at_once_on_an_older_schema_migrate_it_once_and_all_serve() {
    let (shared, ids) = Shared::with_older_data();
    // What was undone leaves what the older migrations make.
    let mut session = shared.session();
    let columns = session.number(COLUMNS);
    session.execute("create database older");
    let url = shared.url.replace("/eds?", "/older?");
    let older = migrations(OLDER);
    let real = shared.runtime.block_on(async {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        older.run(&mut conn).await.unwrap();
        sqlx::query_scalar::<_, i64>(COLUMNS).fetch_one(&mut conn).await.unwrap()
    });
    assert_eq!(columns, real);

    let dirs = [(); 3].map(|()| DataDir::new());
    let servers: Vec<Server> = std::thread::scope(|scope| {
        let starting: Vec<_> = dirs.iter().map(|dir| scope.spawn(|| shared.server(dir))).collect();
        starting.into_iter().map(|s| s.join().unwrap()).collect()
    });
    assert_eq!(migrated(&mut session) as usize, migrations(i64::MAX).iter().count());
    for server in &servers {
        for id in &ids {
            server.get(&format!("/Basic/{id}")).expect(200);
        }
        let new = server.create(&basic("new"));
        assert!(servers.iter().all(|other| other.get(&format!("/Basic/{new}")).status == 200));
    }
    assert_eq!(servers[0].count("Basic?identifier=urn:test:upgrade|new"), 3);
}

#[test]
fn a_migration_that_is_killed_with_its_backend_is_completed_by_the_next_whatever_time_it_takes() {
    let (shared, ids) = Shared::with_older_data();
    let all = migrations(i64::MAX).iter().count() as i64;
    let mut session = shared.session();
    let before = migrated(&mut session);
    // The third migration from the end waits for this: the ones before it are committed.
    let mut holder = shared.session();
    holder.execute("begin; lock table document in share mode");
    let mut killed = shared.migrate(&[]);
    eventually("the migration waits in its middle", || session.waiting() > 0);
    let backend = session.number("select pid::bigint from pg_stat_activity where wait_event_type = 'Lock' limit 1");
    killed.kill().unwrap();
    killed.wait().unwrap();
    // PostgreSQL ends all connections when a backend dies so, the holder's too, and recovers.
    nix::sys::signal::kill(Pid::from_raw(backend as i32), Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    drop((session, holder));
    let open = || std::panic::catch_unwind(|| shared_session(&shared.url));
    eventually("PostgreSQL is there again", || open().is_ok());
    let mut session = shared.session();
    let cut = migrated(&mut session);
    assert!(before < cut && cut < all, "{before} {cut} {all}");
    assert_eq!(
        session.number("select count(*) from information_schema.columns where table_name = 'document' and column_name = 'found'"),
        0
    );

    // A statement of a migration may wait and run longer than one of a request.
    let mut holder = shared.session();
    holder.execute("begin; lock table document in share mode");
    let mut migrating = shared.migrate(&[("EDS_DATABASE_STATEMENT_TIMEOUT_MS", "200")]);
    eventually("the migration waits again", || session.waiting() > 0);
    std::thread::sleep(Duration::from_millis(600));
    holder.execute("commit");
    assert!(migrating.wait().unwrap().success());
    assert_eq!(migrated(&mut session), all);
    let dir = DataDir::new();
    let server = shared.server(&dir);
    for id in &ids {
        server.get(&format!("/Basic/{id}")).expect(200);
    }
}

#[test]
fn versions_that_an_older_release_superseded_are_found_as_of_their_time_once_they_are_indexed() {
    let shared = Shared::start();
    let dir = DataDir::new();
    let server = shared.server(&dir);
    let instants: Vec<(u32, String)> = (1..=4).map(|value| (value, supersede(&server, value))).collect();
    server.fhir("DELETE", "/Patient/p").header("x-referrers", "stay").send().expect(204);
    let deleted = instant();
    server.stop();
    shared.session().execute(UNDO);
    let server = shared.server(&dir);
    let new = json!({"resourceType": "Observation", "id": "o", "status": "amended", "code": {"text": "new"}});
    server.put("/Observation/o", &new).expect(200);
    let upgraded = instant();
    std::thread::sleep(Duration::from_millis(2_100));
    for (value, at) in &instants {
        // A read needs no index.
        let read = server.get(&format!("/Observation/o?_asOf={at}")).expect(200).json();
        assert_eq!(read["valueQuantity"]["value"], *value);
        let why = server.get(&format!("/Observation?_asOf={at}")).refused(503);
        assert!(why.contains("eds reindex"), "{why}");
    }
    // What was superseded since is indexed, and what was before is over.
    assert_eq!(server.count(&format!("Observation?status=amended&_asOf={upgraded}")), 1);
    assert_eq!(server.count(&format!("Patient?_asOf={upgraded}")), 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_eds"));
    let done = command.arg("reindex").env("EDS_DATABASE_URL", &shared.url).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    for (value, at) in &instants {
        for other in 1..=4 {
            let expected = u64::from(other == *value);
            for search in [
                format!("Observation?value-quantity={other}"),
                format!("Observation?subject:Patient.family=rossi{other}"),
                format!("Patient?family:exact=Rossi{other}&birthdate={}", 1900 + other),
                format!("Patient?_has:Observation:subject:value-quantity={other}"),
            ] {
                assert_eq!(server.count(&format!("{search}&_asOf={at}")), expected, "{search} as of {at}");
            }
        }
    }
    assert_eq!(server.count(&format!("Patient?_asOf={deleted}")), 0);
    assert_eq!(server.count(&format!("Observation?_asOf={deleted}")), 1);
    assert_eq!(server.count("Observation?status=amended"), 1);
    server.stop();
}

/// Writes a version of an observation and of its patient that have this value; an instant at which they held.
fn supersede(server: &Server, value: u32) -> String {
    let observation = json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": format!("code {value}")},
                             "valueQuantity": {"value": value}, "subject": {"reference": "Patient/p"}});
    let patient = json!({"resourceType": "Patient", "id": "p", "name": [{"family": format!("Rossi{value}")}],
                         "birthDate": (1900 + value).to_string()});
    server.put("/Observation/o", &observation);
    server.put("/Patient/p", &patient);
    instant()
}

fn instant() -> String {
    std::thread::sleep(Duration::from_millis(3));
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    std::thread::sleep(Duration::from_millis(3));
    now
}

fn shared_session(url: &str) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut conn = PgConnection::connect(url).await.unwrap();
        sqlx::query("select 1").execute(&mut conn).await.unwrap();
    });
}

/// Writes and reads what it wrote until told to stop; how many requests failed.
fn load(server: &Server, written: &AtomicU64, is_over: &AtomicBool) -> Vec<String> {
    let mut failures = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let id = unique();
        let mut resource = basic(&id);
        resource["id"] = json!(id);
        for text in ["one", "two"] {
            resource["code"]["text"] = json!(text);
            let answer = server.fhir("PUT", &format!("/Basic/{id}")).json(&resource).try_send();
            let read = server.fhir("GET", &format!("/Basic/{id}")).try_send();
            match (answer, read) {
                (Ok(answer), Ok(read)) if matches!(answer.status, 200 | 201) && read.json()["code"]["text"] == text => {}
                other => failures.push(format!("{other:?}")),
            }
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

#[test]
fn this_version_goes_on_and_starts_on_a_database_that_a_later_one_has_migrated() {
    let shared = Shared::start();
    let dirs = [(); 2].map(|()| DataDir::new());
    let server = shared.server(&dirs[0]);
    let (written, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut session = shared.session();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3).map(|_| scope.spawn(|| load(&server, &written, &is_over))).collect();
        let wait_for = |count: u64| {
            while written.load(Ordering::Relaxed) < count {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait_for(20);
        // What a later version's migration may do: it only adds.
        session.execute(
            "begin;
             alter table resource add column later int not null default 0;
             alter table document add column later text;
             create table later (id bigint primary key);
             create index resource_later on resource (later);
             insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'later', true, 'x', 1);
             commit",
        );
        wait_for(written.load(Ordering::Relaxed) + 20);
        // The rollback: this version starts beside the one that runs.
        let older = shared.server(&dirs[1]);
        let failures = load_some(&older, 10);
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(older.stop().code(), Some(0));
        is_over.store(true, Ordering::Relaxed);
        let failures: Vec<String> = writers.into_iter().flat_map(|w| w.join().unwrap()).collect();
        println!(
            "{} writers' rounds, {} failed requests",
            written.load(Ordering::Relaxed),
            failures.len()
        );
        assert!(failures.is_empty(), "{failures:?}");
    });
    server.stop();
    // A migration that is not the one this version knows is still refused.
    session.execute("update _sqlx_migrations set checksum = 'x' where version = 1");
    let mut refused = shared.migrate(&[]);
    assert!(!refused.wait().unwrap().success());
}

fn load_some(server: &Server, count: u64) -> Vec<String> {
    let (written, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| load(server, &written, &is_over));
        while written.load(Ordering::Relaxed) < count {
            std::thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    })
}
