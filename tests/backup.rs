//! Backup and restore with real servers: what was acknowledged comes back, an instant is an instant, what was withdrawn stays withdrawn, and the
//! feed begins anew. docs/adr/0009-backup.md.
//!
//! Each check is a function that returns violations. The tests also undo the mechanism behind it, and then it must find some.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use crate::support::database::Session;
use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::server::eventually;
use crate::support::server::next_of;
use crate::support::world::unique;
use chrono::SecondsFormat;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::fs::Permissions;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

const CF: &str = "urn:oid:2.16.840.1.113883.2.9.4.3.2";
const REFERTO: &str = include_str!("fixtures/ministry/referto.json");
/// What the tests of regions and instants write, but for the Location of a document, which goes to no region: nothing of the patient refers to it.
const TYPES: [&str; 8] = [
    "Patient",
    "Observation",
    "Composition",
    "DocumentReference",
    "Practitioner",
    "Organization",
    "DiagnosticReport",
    "Basic",
];

fn wal(dir: &DataDir) -> PathBuf {
    dir.data().with_file_name("wal archive")
}

fn archiving(dir: &DataDir) -> String {
    wal(dir).to_string_lossy().into_owned()
}

/// Runs the program; what it printed, or what it complained of.
fn eds(arguments: &[&str], paths: &[(&str, &Path)]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eds"));
    command.args(arguments).stdin(Stdio::null());
    for (flag, path) in paths {
        command.arg(flag).arg(path);
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// Takes a backup of the server on the folder.
fn backup(dir: &DataDir) -> PathBuf {
    try_backup(dir).unwrap()
}

fn try_backup(dir: &DataDir) -> Result<PathBuf, String> {
    let to = dir.data().with_file_name("backups");
    let told = eds(&["backup"], &[("--to", &to), ("--data-dir", &dir.data())])?;
    Ok(PathBuf::from(told.trim()))
}

fn restore(backup: &Path, archive: Option<&Path>, until: Option<&str>, to: &DataDir) -> Result<String, String> {
    let mut arguments = vec!["restore"];
    arguments.extend(until.iter().flat_map(|until| ["--until", until]));
    let mut paths = vec![("--from", backup)];
    paths.extend(archive.map(|archive| ("--wal-archive", archive)));
    let data = to.data();
    paths.push(("--data-dir", &data));
    eds(&arguments, &paths)
}

/// Forces the segment that is being written into the archive.
fn archive_all(dir: &DataDir) {
    let mut session = Session::open(dir);
    let written = "select ('x' || right(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint";
    let segment = session.number(written);
    session.execute("select pg_switch_wal()");
    eventually("the segment is archived", || {
        session.number("select coalesce((select ('x' || right(left(last_archived_wal, 24), 8))::bit(32)::bigint from pg_stat_archiver), 0)")
            >= segment
    });
}

fn basic(id: &str, text: &str) -> Value {
    json!({"resourceType": "Basic", "id": id, "identifier": [{"system": "urn:test:backup", "value": id}], "code": {"text": text}})
}

/// What clients were told: the texts that each resource was acknowledged to hold, in the order of its versions.
type Ledger = BTreeMap<String, Vec<String>>;

/// One writer: a create and two updates of one resource after another, until the server is gone.
fn write_until_gone(server: &Server, ledger: &Mutex<Ledger>, writes: &AtomicU64) {
    for round in 0.. {
        let id = unique();
        for text in ["first".to_owned(), format!("second {round}"), format!("third {round}")] {
            match server.fhir("PUT", &format!("/Basic/{id}")).json(&basic(&id, &text)).try_send() {
                Ok(answer) if matches!(answer.status, 200 | 201) => {}
                _ => return,
            }
            ledger.lock().unwrap().entry(id.clone()).or_default().push(text);
            writes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Every acknowledged version is there, in its place with its content, and the search finds the resource.
fn lost(server: &Server, ledger: &Ledger) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, acknowledged) in ledger {
        let answer = server.get(&format!("/Basic/{id}/_history?_count=100"));
        if answer.status != 200 {
            violations.push(format!("{id} is lost: {}", answer.status));
            continue;
        }
        let history = answer.json();
        let entries = history["entry"].as_array().unwrap().iter().rev();
        let stored: Vec<&str> = entries.map(|e| e["resource"]["code"]["text"].as_str().unwrap_or("")).collect();
        if !stored.starts_with(&acknowledged.iter().map(String::as_str).collect::<Vec<_>>()) {
            violations.push(format!("{id} was acknowledged with {acknowledged:?} and has {stored:?}"));
        }
        let current = server.get(&format!("/Basic/{id}")).json();
        if current["code"]["text"].as_str() != stored.last().copied() {
            violations.push(format!("{id} is read as {} and has {stored:?}", current["code"]["text"]));
        }
        if server.count(&format!("Basic?identifier=urn:test:backup|{id}")) != 1 {
            violations.push(format!("{id} is not found by its identifier"));
        }
    }
    violations
}

/// What the indexes find is what a full scan finds; ids that will be given are free.
fn inconsistent(dir: &DataDir) -> Vec<String> {
    let mut session = Session::open(dir);
    let mut violations = Vec::new();
    let questions = [
        (
            "terms",
            "select count(*) from (select distinct unnest(terms) as term from resource limit 200) t join resource r on r.terms @> array[t.term]",
        ),
        (
            "ids",
            "select coalesce(sum(rid), 0)::bigint from resource where self_hash = any (array(select self_hash from resource))",
        ),
        (
            "rows",
            "select coalesce(sum(self_hash % 1000), 0)::bigint from resource where rid > 0",
        ),
        ("times", "select count(*) from resource where type >= 0 and updated > '2000-01-01'"),
        ("changes", "select coalesce(sum(rid), 0)::bigint from change where seq > 0"),
        ("history", "select coalesce(sum(rid), 0)::bigint from history where rid > 0"),
    ];
    for (what, question) in questions {
        session.execute("set enable_seqscan = off; set enable_indexscan = on; set enable_bitmapscan = on; set enable_indexonlyscan = on");
        let indexed = session.number(question);
        session.execute("set enable_seqscan = on; set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off");
        let scanned = session.number(question);
        if indexed != scanned {
            violations.push(format!("{what}: {indexed} by the index, {scanned} by a scan"));
        }
    }
    for (what, question) in [
        (
            "row ids",
            "select count(*) from resource where rid >= 1024 * (select last_value + is_called::int from rid_block)",
        ),
        (
            "change rows",
            "select count(*) from change where seq >= (select last_value + is_called::int from change_seq_seq)",
        ),
        (
            "versions without a change row",
            "select count(*) from resource r where state = 0 and not exists (select from change c where c.rid = r.rid and c.version = r.version)",
        ),
    ] {
        match session.number(question) {
            0 => {}
            wrong => violations.push(format!("{what}: {wrong}")),
        }
    }
    violations
}

#[test]
fn what_was_acknowledged_comes_back_from_a_backup_that_was_taken_under_writers() {
    let dir = DataDir::new();
    let archive = archiving(&dir);
    let server = Server::start(&dir, &[("EDS_BACKUP_WAL_ARCHIVE", &archive)]);
    let (ledger, writes) = (Mutex::new(Ledger::new()), AtomicU64::new(0));
    let wait_for = |count: u64| {
        while writes.load(Ordering::Relaxed) < count {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let (taken, in_backup, in_archive) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| write_until_gone(&server, &ledger, &writes)))
            .collect();
        wait_for(100);
        let taking = scope.spawn(|| backup(&dir));
        // What was acknowledged while PostgreSQL was still sending files was acknowledged before the backup's end.
        let mut session = Session::open(&dir);
        let mut in_backup = ledger.lock().unwrap().clone();
        while !taking.is_finished() {
            let known = ledger.lock().unwrap().clone();
            if session.number("select count(*) from pg_stat_progress_basebackup where phase = 'streaming database files'") > 0 {
                in_backup = known;
            }
        }
        let taken = taking.join().unwrap();
        wait_for(writes.load(Ordering::Relaxed) + 100);
        let in_archive = ledger.lock().unwrap().clone();
        archive_all(&dir);
        server.kill_now();
        writers.into_iter().for_each(|w| w.join().unwrap());
        (taken, in_backup, in_archive)
    });
    server.kill();
    println!(
        "{} resources before the backup's end, {} in the archive",
        in_backup.len(),
        in_archive.len()
    );
    assert!(in_backup.len() >= 30 && in_archive.len() > in_backup.len());

    let restored = DataDir::new();
    restore(&taken, None, None, &restored).unwrap();
    let server = Server::start(&restored, &[]);
    assert_eq!(lost(&server, &in_backup), Vec::<String>::new());
    assert_eq!(inconsistent(&restored), Vec::<String>::new());
    assert!(
        !lost(&server, &in_archive).is_empty(),
        "the check sees what a backup alone cannot have"
    );
    // It is written to as before.
    server.put("/Basic/new", &basic("new", "after the restore")).expect(201);
    server.stop();

    let restored = DataDir::new();
    restore(&taken, Some(&wal(&dir)), None, &restored).unwrap();
    let server = Server::start(&restored, &[]);
    assert_eq!(lost(&server, &in_archive), Vec::<String>::new());
    assert_eq!(inconsistent(&restored), Vec::<String>::new());
    // The checks see a loss of each kind.
    let victim = in_archive.keys().next().unwrap();
    let mut session = Session::open(&restored);
    session.execute(&format!("update resource set terms = '{{}}' where id = '{victim}'"));
    assert_eq!(lost(&server, &in_archive).len(), 1);
    session.execute(&format!(
        "update resource set version = version + 1 where id = '{victim}'; select setval('rid_block', 1, false)"
    ));
    assert_eq!(inconsistent(&restored).len(), 2);
    session.execute(&format!("delete from resource where id = '{victim}'"));
    assert!(lost(&server, &in_archive)[0].contains("is lost"));
}

fn patient(id: &str, cf: &str, gender: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "identifier": [{"system": CF, "value": cf}], "gender": gender})
}

/// A document with identifiers under this prefix.
fn referto(prefix: &str) -> Value {
    let mut text = REFERTO.replace('~', prefix);
    for i in 0..=6 {
        text = text.replace(&format!("${i}"), &uuid::Uuid::new_v4().to_string());
    }
    serde_json::from_str(&text).unwrap()
}

fn identifier(prefix: &str) -> String {
    format!("2.16.840.1.113883.2.9.2.120.4.4^{prefix}DOC")
}

/// P99 hides, P00 shows.
fn rule(server: &Server, prefix: &str, code: &str) {
    let text = json!({"body": {"attiCliniciRegoleAccesso": [code]}}).to_string();
    let body = json!({"identifier": identifier(prefix), "jsonString": text});
    let request = server.request("PUT", "/v1/document/metadata");
    request.body("application/json", body.to_string()).send().expect(200);
}

fn remove(server: &Server, prefix: &str) {
    let path = format!("/v1/document/identifier/{}", identifier(prefix).replace('^', "%5E"));
    server.request("DELETE", &path).send().expect(200);
}

fn assist(server: &Server, cf: &str, region: &str) {
    server
        .request("PUT", &format!("/rda/{cf}"))
        .json(&json!({"region": region}))
        .send()
        .expect(204);
}

/// Type, id and content of everything that a server shows.
fn all(server: &Server) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for type_name in TYPES {
        let found = server.get(&format!("/{type_name}?_count=500")).expect(200).json();
        for entry in found["entry"].as_array().into_iter().flatten() {
            let mut resource = entry["resource"].clone();
            resource.as_object_mut().unwrap().remove("meta");
            all.insert(format!("{type_name}/{}", resource["id"].as_str().unwrap()), resource);
        }
    }
    all
}

/// What the national repository has for the region that is pushed to: all but the patient of the other one.
fn of_region(national: &Server) -> BTreeMap<String, Value> {
    let mut all = all(national);
    all.remove("Patient/pulled");
    all
}

/// The region shows what pertains to it as it is at the national repository, and nothing else.
fn diverging(expected: &BTreeMap<String, Value>, region: &Server) -> Vec<String> {
    let there = all(region);
    let missing = expected.iter().filter(|(name, content)| there.get(*name) != Some(content));
    let extra = there.keys().filter(|name| !expected.contains_key(*name));
    missing
        .map(|(name, _)| format!("{name} is missing or another"))
        .chain(extra.map(|name| format!("{name} is there and should not be")))
        .collect()
}

/// Documents that can be found although they were withdrawn.
fn shown(server: &Server, withdrawn: &[&String]) -> Vec<String> {
    let is_shown = |prefix: &&&String| {
        let searches = [
            format!("Composition?identifier={prefix}DOC"),
            format!("Observation?patient.identifier={prefix}CF"),
        ];
        searches.iter().any(|search| server.count(search) > 0)
    };
    withdrawn
        .iter()
        .filter(is_shown)
        .map(|prefix| format!("{prefix} is shown"))
        .collect()
}

/// A reader that goes on where it stood before the restore must be told that the feed began anew; one that begins gets everything.
fn reused(server: &Server, cursor: &str) -> Vec<String> {
    let status = server.request("GET", cursor).send().status;
    let mut violations = Vec::new();
    if status != 410 {
        violations.push(format!("a position of another epoch is answered {status}"));
    }
    if !server.request("GET", cursor).send().text().contains("after=0") {
        violations.push("nobody is told how to begin anew".to_owned());
    }
    violations
}

/// What a reader that begins at 0 ends up with: names of what is present, and where to go on.
fn pulled(server: &Server, region: &str) -> (Vec<String>, String) {
    let mut target = format!("/fhir/$changes?region={region}&after=0&_count=50");
    let mut present = BTreeMap::new();
    loop {
        let page = server.request("GET", &target).send().expect(200).json();
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        for entry in &entries {
            present.insert(
                entry["request"]["url"].as_str().unwrap().to_owned(),
                entry.get("resource").is_some(),
            );
        }
        let next = page["link"].as_array().unwrap().iter().find(|l| l["relation"] == "next").unwrap();
        let next = next["url"].as_str().unwrap().split_once("/fhir").unwrap().1;
        target = format!("/fhir{next}");
        if entries.is_empty() {
            return (present.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect(), target);
        }
    }
}

/// Waits until everything that was committed before has been sent to the region.
fn settle(national: &Server) {
    let of = |state: &Value, key: &str| state[key].as_i64().unwrap();
    // Two looks with a tick between: what is committed has its positions then.
    std::thread::sleep(Duration::from_millis(500));
    eventually("everything is delivered", || {
        let states = national.request("GET", "/regions").send().expect(200).json();
        let states = states.as_array().unwrap();
        states
            .iter()
            .all(|s| s["bootstrapping"] == false && (s["delivery"] == "pull" || of(s, "backlog") == 0))
    });
}

/// A national repository with a region that is pushed to (120) and one that pulls (200), and what is written before and after an instant.
struct Story {
    dir: DataDir,
    region: Server,
    regions: String,
    backup: PathBuf,
    instant: String,
    /// What the region is to show of the instant.
    expected: BTreeMap<String, Value>,
    /// Where the pulling region stood in the end.
    cursor: String,
    hidden: String,
    removed: String,
    /// Hidden before the instant and shown after it.
    shown_since: String,
    /// Came and was hidden after the instant.
    hidden_since: String,
    /// Deleted after the instant, and another came with its identifier.
    reused: String,
    _region_dir: DataDir,
}

fn settings<'a>(regions: &'a str, archive: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("EDS_DELIVERY_REGION", regions),
        ("EDS_DELIVERY_POLL_MS", "100"),
        ("EDS_DELIVERY_RETRY_SCHEDULE_S", "[1]"),
        ("EDS_PERTINENCE_DEFAULT_REGION", "120"),
        ("EDS_PERTINENCE_ORDER", "[\"registry\", \"default\"]"),
        ("EDS_BACKUP_WAL_ARCHIVE", archive),
    ]
}

fn story() -> Story {
    let (dir, region_dir) = (DataDir::new(), DataDir::new());
    let region = Server::start(&region_dir, &[]);
    let regions = format!(r#"[{{code="120",url="{}"}},{{code="200",url=""}}]"#, region.base());
    let archive = archiving(&dir);
    let national = Server::start(&dir, &settings(&regions, &archive));
    let [hidden, removed, shown_since, hidden_since, reused] = [(); 5].map(|()| unique().to_uppercase());
    let put = |id: &str, gender: &str| national.put(&format!("/Patient/{id}"), &patient(id, &id.to_uppercase(), gender));
    for id in ["changed", "deleted", "moved", "kept"] {
        put(id, "male").expect(201);
    }
    assist(&national, "PULLED", "200");
    put("pulled", "male").expect(201);
    for prefix in [&hidden, &removed, &shown_since, &reused] {
        national.post("", &referto(prefix)).expect(200);
    }
    let backup = backup(&dir);
    rule(&national, &shown_since, "P99");
    settle(&national);
    std::thread::sleep(Duration::from_millis(1100));
    let instant = chrono::Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let expected = all(&region);
    assert_eq!(expected, of_region(&national));
    std::thread::sleep(Duration::from_millis(50));

    put("changed", "female").expect(200);
    put("new", "female").expect(201);
    national.delete("/Patient/deleted").expect(204);
    assist(&national, "MOVED", "200");
    put("pulled-too", "male").expect(201);
    assist(&national, "PULLED-TOO", "200");
    rule(&national, &hidden, "P99");
    remove(&national, &removed);
    remove(&national, &reused);
    national.post("", &referto(&reused)).expect(200);
    rule(&national, &shown_since, "P00");
    national.post("", &referto(&hidden_since)).expect(200);
    settle(&national);
    rule(&national, &hidden_since, "P99");
    settle(&national);
    assert_eq!(region.get("/Patient/new").status, 200);
    assert_eq!(region.get("/Patient/changed").json()["gender"], "female");
    assert_eq!(region.get("/Patient/moved").status, 410);
    let (present, cursor) = pulled(&national, "200");
    assert_eq!(present, ["Patient/moved", "Patient/pulled", "Patient/pulled-too"]);
    assert!(cursor.contains("epoch=1&after="), "{cursor}");
    // A stop in order archives everything.
    national.stop();
    Story {
        dir,
        region,
        regions,
        backup,
        instant,
        expected,
        cursor,
        hidden,
        removed,
        shown_since,
        hidden_since,
        reused,
        _region_dir: region_dir,
    }
}

/// The region ends up with what the restored repository has for it: not what was withdrawn since.
fn without_withdrawn(story: &Story) -> BTreeMap<String, Value> {
    let mut expected = story.expected.clone();
    let is_of = |content: &Value, prefix: &String| content.to_string().contains(prefix.as_str());
    let shared = ["Patient/", "Practitioner/", "Organization/", "Location/"];
    let mut of_documents: Vec<String> = Vec::new();
    for (name, content) in &expected {
        let patients = [&story.hidden, &story.removed, &story.reused].map(|prefix| {
            let mut found = story
                .expected
                .iter()
                .filter(|(name, c)| name.starts_with("Patient/") && is_of(c, prefix));
            found.next().unwrap().0.clone()
        });
        let is_owned = !shared.iter().any(|s| name.starts_with(s)) && patients.iter().any(|p| content.to_string().contains(p.as_str()));
        of_documents.extend(is_owned.then(|| name.clone()));
    }
    assert!(of_documents.len() >= 6, "{of_documents:?}");
    expected.retain(|name, _| !of_documents.contains(name));
    expected
}

#[test]
fn an_instant_comes_back_without_what_came_after_but_with_its_withdrawals_and_the_regions_converge() {
    let story = story();
    let restored = DataDir::new();
    let told = restore(&story.backup, Some(&wal(&story.dir)), Some(&story.instant), &restored).unwrap();
    println!("{told}");
    assert!(told.contains("1 documents hidden, 2 deleted, 1 that came"), "{told}");
    let archive = archiving(&restored);
    let mut quiet = settings(&story.regions, &archive);
    quiet.push(("EDS_DELIVERY_ENABLED", "false"));
    let server = Server::start(&restored, &quiet);

    // A backup of this timeline is restored with its history.
    let history = wal(&restored).join("00000002.history");
    eventually("the history of the new timeline is archived", || history.exists());
    // The first of two writes without the second.
    assert_eq!(server.get("/Patient/changed").expect(200).json()["gender"], "male");
    for id in ["deleted", "moved", "kept", "pulled"] {
        server.get(&format!("/Patient/{id}")).expect(200);
    }
    // What came since is gone; the regions that have it are told so.
    server.get("/Patient/new").refused(410);

    let withdrawn = [
        &story.hidden,
        &story.removed,
        &story.shown_since,
        &story.hidden_since,
        &story.reused,
    ];
    assert_eq!(shown(&server, &withdrawn), Vec::<String>::new());
    assert_eq!(of_region(&server), without_withdrawn(&story));
    // A document that came and was hidden since is sent again by someone who knows nothing of that: it stays hidden.
    server.post("", &referto(&story.hidden_since)).expect(200);
    assert_eq!(shown(&server, &withdrawn), Vec::<String>::new());
    assert_eq!(reused(&server, &story.cursor), Vec::<String>::new());
    assert_eq!(inconsistent(&restored), Vec::<String>::new());

    // The checks see each mechanism that is missing.
    let mut session = Session::open(&restored);
    session.execute("create table saved as select rid, state from resource where state = 2; update resource set state = 0 where state = 2");
    assert_eq!(shown(&server, &withdrawn).len(), 3);
    session.execute("update resource r set state = s.state from saved s where s.rid = r.rid; drop table saved");
    assert_eq!(shown(&server, &withdrawn), Vec::<String>::new());
    let epoch = session.number("select feed_epoch::bigint from repository");
    session.execute("update repository set feed_epoch = 1");
    assert!(!reused(&server, &story.cursor).is_empty());
    session.execute(&format!("update repository set feed_epoch = {epoch}"));
    session.execute("update region set bootstrap_rid = null");
    server.stop();

    let server = Server::start(&restored, &settings(&story.regions, &archive));
    settle(&server);
    let mut expected = of_region(&server);
    // What only the hidden document refers to goes nowhere.
    let is_shared = |name: &String| name.starts_with("Organization/") || name.starts_with("Practitioner/");
    expected.retain(|name, content| !is_shared(name) || !content.to_string().contains(&story.hidden_since));
    let violations = diverging(&expected, &story.region);
    assert!(
        violations.iter().any(|v| v.contains("Patient/changed")),
        "nothing is sent anew: {violations:?}"
    );
    server.stop();
    let server = Server::start(&restored, &quiet);
    Session::open(&restored).execute("update region set bootstrap_rid = 0");
    server.stop();
    let server = Server::start(&restored, &settings(&story.regions, &archive));
    settle(&server);
    let begin = std::time::Instant::now();
    while !diverging(&expected, &story.region).is_empty() && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(diverging(&expected, &story.region), Vec::<String>::new());
    // And goes on.
    server.put("/Patient/kept", &patient("kept", "KEPT", "other")).expect(200);
    eventually("what is new arrives", || {
        story.region.get("/Patient/kept").json()["gender"] == "other"
    });

    let (present, cursor) = pulled(&server, "200");
    assert_eq!(present, ["Patient/pulled"]);
    assert!(cursor.contains(&format!("epoch={epoch}&after=")), "{cursor}");
    server.request("GET", &cursor).send().expect(200);
}

/// The status of an operation of the ingestion API.
fn standing(server: &Server, wii: &str) -> String {
    let standing = server.request("GET", &format!("/v1/status/{wii}")).send().expect(200).json();
    standing["status"].as_str().unwrap().to_owned()
}

#[test]
fn operations_that_waited_at_the_instant_are_carried_out_but_bring_back_nothing_that_was_withdrawn_since() {
    let dir = DataDir::new();
    let archive = archiving(&dir);
    let server = Server::start(&dir, &[("EDS_BACKUP_WAL_ARCHIVE", &archive)]);
    let documents = [(); 3].map(|()| unique().to_uppercase());
    let [removed, hidden, kept] = &documents;
    // Held, so that nobody carries them out yet.
    let mut holder = Session::open(&dir);
    for prefix in &documents {
        holder.execute(&format!(
            "select pg_advisory_lock(hashtextextended('{}', 4904))",
            identifier(prefix)
        ));
        let body = json!({"identifier": identifier(prefix), "jsonString": referto(prefix).to_string()});
        let request = server.request("POST", &format!("/v1/document/workflowinstanceid/{prefix}"));
        request.body("application/json", body.to_string()).send().expect(201);
    }
    let taken = backup(&dir);
    std::thread::sleep(Duration::from_millis(1100));
    let instant = chrono::Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    holder.execute("select pg_advisory_unlock_all()");
    eventually("they are carried out", || {
        documents.iter().all(|prefix| standing(&server, prefix) == "SUCCESS")
    });
    remove(&server, removed);
    rule(&server, hidden, "P99");
    server.stop();

    let restored = DataDir::new();
    restore(&taken, Some(&wal(&dir)), Some(&instant), &restored).unwrap();
    let server = Server::start(&restored, &[]);
    eventually("none waits", || {
        documents.iter().all(|prefix| standing(&server, prefix) != "ASYNC_RETRY")
    });
    assert_eq!(
        documents.each_ref().map(|prefix| standing(&server, prefix)),
        ["BLOCKING_ERROR", "BLOCKING_ERROR", "SUCCESS"]
    );
    assert_eq!(shown(&server, &[removed, hidden]), Vec::<String>::new());
    assert_eq!(shown(&server, &[kept]).len(), 1);
}

#[test]
fn a_second_restore_of_the_same_backup_has_another_epoch_and_pages_of_before_end() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    for i in 0..5 {
        server.create(&json!({"resourceType": "Basic", "code": {"text": i.to_string()}}));
    }
    let page = server.get("/Basic?_count=2").expect(200).json();
    let next = next_of(&page).unwrap();
    let taken = backup(&dir);
    server.stop();
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let restored = DataDir::new();
        restore(&taken, None, None, &restored).unwrap();
        let server = Server::start(&restored, &[]);
        epochs.push(Session::open(&restored).number("select feed_epoch::bigint from repository"));
        assert_eq!(server.count("Basic"), 5);
        let status = server.request("GET", &next).send().status;
        assert!((400..500).contains(&status), "{status}");
    }
    assert!(1 < epochs[0] && epochs[0] < epochs[1], "{epochs:?}");
}

#[test]
fn what_cannot_be_restored_is_refused_in_words_and_leaves_no_database() {
    let dir = DataDir::new();
    let archive = archiving(&dir);
    let server = Server::start(&dir, &[("EDS_BACKUP_WAL_ARCHIVE", &archive)]);
    server.put("/Basic/a", &basic("a", "x")).expect(201);
    let taken = backup(&dir);
    std::thread::sleep(Duration::from_millis(1100));
    let instant = chrono::Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    for text in ["one", "two"] {
        server.put("/Basic/a", &basic("a", text)).expect(200);
        archive_all(&dir);
    }
    server.stop();
    let archive = wal(&dir);
    // As in a file system of its own: closed to PostgreSQL, and the last by its name.
    DirBuilder::new().mode(0o700).create(archive.join("lost+found")).unwrap();
    let to = DataDir::new();
    let refused = |backup: &Path, archive: Option<&Path>, until: Option<&str>, expected: &str| {
        let refusal = restore(backup, archive, until, &to).unwrap_err();
        assert!(refusal.contains(expected), "{refusal}");
        assert!(!to.data().join("postgres").exists());
    };
    refused(&taken, Some(&archive), Some("yesterday"), "an instant is written as");
    refused(&taken, None, Some("2030-01-01T00:00:00Z"), "--until needs --wal-archive");
    refused(
        &taken,
        Some(&archive),
        Some("2020-01-01T00:00:00Z"),
        "before the end of this backup",
    );
    refused(&taken, Some(&archive), Some("2030-01-01T00:00:00Z"), "the log ends before --until");
    refused(&archive, None, None, "is no backup");
    // A cut restore is not mistaken for a database.
    let refusal = eds(&["serve", "--dev", "--listen", "127.0.0.1:0"], &[("--data-dir", &to.data())]).unwrap_err();
    assert!(refusal.contains("run `eds restore` again"), "{refusal}");

    let copy = dir.data().with_file_name("copy");
    let copied = Command::new("cp").arg("-r").args([&taken, &copy]).status().unwrap();
    assert!(copied.success());
    std::fs::write(copy.join("PG_VERSION"), "9\n").unwrap();
    refused(&copy, None, None, "postgresql-9");
    std::fs::copy(taken.join("PG_VERSION"), copy.join("PG_VERSION")).unwrap();
    let control = std::fs::read(copy.join("global/pg_control")).unwrap();
    std::fs::write(copy.join("global/pg_control"), control.iter().map(|b| !b).collect::<Vec<_>>()).unwrap();
    refused(&copy, None, None, "the backup is damaged");

    let mut segments: Vec<PathBuf> = std::fs::read_dir(&archive).unwrap().map(|e| e.unwrap().path()).collect();
    segments.retain(|path| path.file_name().unwrap().len() == 24);
    segments.sort();
    let middle = &segments[segments.len() - 2];
    std::fs::rename(middle, dir.data().with_file_name("aside")).unwrap();
    refused(&taken, Some(&archive), None, middle.file_name().unwrap().to_str().unwrap());
    std::fs::rename(dir.data().with_file_name("aside"), middle).unwrap();

    // What PostgreSQL takes for the end of the log.
    let mode = |mode| std::fs::set_permissions(middle, Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    refused(&taken, Some(&archive), None, "chown the WAL archive");
    mode(0o600);
    let whole = std::fs::read(middle).unwrap();
    // Written in place: its owner stays.
    let damage = |at: Range<usize>| {
        let mut damaged = whole.clone();
        damaged[at].fill(0x5A);
        std::fs::write(middle, damaged).unwrap();
    };
    std::fs::write(middle, &whole[..whole.len() / 2]).unwrap();
    refused(&taken, Some(&archive), None, "a segment has 16777216: it is damaged");
    damage(24..32);
    refused(&taken, Some(&archive), None, "is of another database than the backup");
    damage(8..16);
    refused(&taken, Some(&archive), None, "another segment than its name says");
    damage(40..8192);
    refused(&taken, Some(&archive), None, "one between them is damaged");
    refused(&taken, Some(&archive), Some(&instant), "one between them is damaged");
    std::fs::write(middle, &whole).unwrap();

    // A backup of a standby, and of a server whose settings are kept elsewhere.
    std::fs::write(taken.join("standby.signal"), "").unwrap();
    std::fs::remove_file(taken.join("postgresql.auto.conf")).unwrap();
    restore(&taken, Some(&archive), None, &to).unwrap();
    let refusal = restore(&taken, Some(&archive), None, &to).unwrap_err();
    assert!(refusal.contains("holds a database already"), "{refusal}");
    let server = Server::start(&to, &[]);
    assert_eq!(server.get("/Basic/a").json()["code"]["text"], "two");
}

fn signal(name: &str, process: i64) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_restore_that_is_killed_begins_again_and_a_backup_that_is_killed_leaves_nothing_that_looks_like_one() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    server.put("/Basic/a", &basic("a", "x")).expect(201);
    let to = dir.data().with_file_name("backups");
    let run = |arguments: &[&str], paths: [(&str, &Path); 2]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eds"));
        command.args(arguments);
        command.args(paths.iter().flat_map(|(flag, path)| [flag.as_ref(), path.as_os_str()]));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    // PostgreSQL's program waits for a checkpoint, so it is there when its parent is killed.
    let checkpointer = Session::open(&dir).number("select pid::bigint from pg_stat_activity where backend_type = 'checkpointer'");
    signal("STOP", checkpointer);
    let mut taking = run(&["backup"], [("--data-dir", &dir.data()), ("--to", &to)]);
    let part = to.join(format!("{}.part", taking.id()));
    eventually("the backup is being taken", || part.exists());
    taking.kill().unwrap();
    taking.wait().unwrap();
    // It holds the lock, so that nobody removes what it writes.
    let refusal = try_backup(&dir);
    signal("CONT", checkpointer);
    assert!(refusal.as_ref().is_err_and(|r| r.contains("another backup")), "{refusal:?}");
    let whole = |to: &Path| {
        std::fs::read_dir(to)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().join("PG_VERSION").exists())
            .count()
    };
    // Taken by a server that is stopped, too.
    server.stop();
    let others = to.join("photos.part");
    std::fs::create_dir(&others).unwrap();
    let mut taken = try_backup(&dir);
    eventually("the program that the killed one left has ended", || {
        if matches!(&taken, Err(refusal) if refusal.contains("another backup")) {
            taken = try_backup(&dir);
        }
        taken.is_ok()
    });
    let taken = taken.unwrap();
    assert_eq!(whole(&to), 1, "what the killed one left is gone");
    assert!(others.exists(), "what is not ours stays");
    let restored = DataDir::new();
    let mut restoring = run(&["restore"], [("--data-dir", &restored.data()), ("--from", &taken)]);
    let begun = restored.data().join("restoring/postgres/postmaster.pid");
    eventually("the restore has begun", || begun.exists());
    restoring.kill().unwrap();
    restoring.wait().unwrap();
    assert!(!restored.data().join("postgres").exists());
    restore(&taken, None, None, &restored).unwrap();
    assert!(!restored.data().join("restoring").exists());
    let server = Server::start(&restored, &[]);
    assert_eq!(server.get("/Basic/a").expect(200).json()["code"]["text"], "x");
}

#[test]
fn a_server_of_ones_own_is_backed_up_by_a_role_that_may_replicate_and_by_no_other() {
    let dir = DataDir::new();
    let server = Server::start(&dir, &[]);
    server.put("/Basic/a", &basic("a", "x")).expect(201);
    let url = support::database::url(&dir);
    let to = dir.data().with_file_name("backups");
    let told = eds(&["backup", "--database-url", &url], &[("--to", &to)]).unwrap();
    let refusal = eds(
        &["backup", "--database-url", &url.replace("user=postgres", "user=eds")],
        &[("--to", &to)],
    )
    .unwrap_err();
    assert!(refusal.contains("alter role eds replication"), "{refusal}");
    let mut session = Session::open(&dir);
    session.execute("alter database eds owner to postgres");
    let refusal = eds(&["backup", "--database-url", &url], &[("--to", &to)]).unwrap_err();
    assert!(refusal.contains("owned by the role postgres"), "{refusal}");
    session.execute("alter database eds owner to eds");
    let restored = DataDir::new();
    restore(Path::new(told.trim()), None, None, &restored).unwrap();
    let server = Server::start(&restored, &[]);
    server.get("/Basic/a").expect(200);
}

#[test]
fn doctor_tells_of_an_archive_that_takes_nothing_and_of_backups_that_are_missing_or_old() {
    let dir = DataDir::new();
    let archive = archiving(&dir);
    let server = Server::start(&dir, &[("EDS_BACKUP_WAL_ARCHIVE", &archive)]);
    let to = dir.data().with_file_name("backups");
    let doctor = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eds"));
        command
            .args(["doctor", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.data());
        command.env("EDS_BACKUP_WAL_ARCHIVE", &archive).env("EDS_BACKUP_FOLDER", &to);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let told = doctor();
    assert!(told.contains("WRONG backup: there is none"), "{told}");
    backup(&dir);
    let told = doctor();
    assert!(told.contains("ok    backup") && told.contains("ok    archive of the log"), "{told}");
    // A segment of another database stands in the way.
    let mut session = Session::open(&dir);
    // Where one segment ends and none is begun, the name is that of the one before.
    session.execute("create table begun ()");
    let number = session.number("select ('x' || right(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint");
    std::fs::write(wal(&dir).join(format!("0000000100000000{number:08X}")), "of another").unwrap();
    session.execute("create table t (); select pg_switch_wal()");
    eventually("the archive fails", || {
        session.number("select failed_count from pg_stat_archiver") > 0
    });
    assert!(doctor().contains("WRONG archive of the log"));
    for entry in std::fs::read_dir(&to).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::rename(&path, to.join("20250101T000000Z")).unwrap();
        }
    }
    assert!(doctor().contains("hours old"));
    server.stop();
    let log = std::fs::read_to_string(dir.log()).unwrap();
    assert!(log.contains("log that is not archived"), "{log}");
}
