//! The private PostgreSQL through its life: start, stop, crash of either side, two servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use eds::store::cluster;
use eds::store::cluster::Cluster;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sqlx::Connection;
use sqlx::PgConnection;
use std::fs::Permissions;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// Says to the child process of a test which folder is meant.
const CHILD_DIR: &str = "CLUSTER_TEST_DIR";

async fn connect(cluster: &Cluster) -> PgConnection {
    let begin = Instant::now();
    loop {
        match PgConnection::connect(&cluster.url()).await {
            Ok(connection) => return connection,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(30), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn write(cluster: &Cluster, value: i32) {
    let mut connection = connect(cluster).await;
    sqlx::raw_sql("create table if not exists note (value int)")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("insert into note (value) values ($1)")
        .bind(value)
        .execute(&mut connection)
        .await
        .unwrap();
}

async fn read(cluster: &Cluster) -> Vec<i32> {
    let mut connection = connect(cluster).await;
    sqlx::query_scalar("select value from note order by value")
        .fetch_all(&mut connection)
        .await
        .unwrap()
}

fn pid(dir: &Path) -> i32 {
    let text = std::fs::read_to_string(dir.join("postgres/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// A server process of its own that starts the cluster and is then killed with -9.
async fn start_and_kill_a_server(dir: &Path) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_process_that_waits_to_be_killed", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "cluster is ready"));
    server.kill().unwrap();
    server.wait().unwrap();
}

/// The child of the function above; without its variable there is nothing to do.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the way from the parent test to its child")]
async fn a_server_process_that_waits_to_be_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let cluster = cluster::start(Path::new(&dir)).await.unwrap();
    write(&cluster, 1).await;
    println!("\ncluster is ready");
    std::future::pending::<()>().await;
    cluster.stop().await;
}

#[tokio::test]
async fn data_survive_a_stop_and_an_existing_cluster_is_ready_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster::start(dir.path()).await.unwrap();
    write(&cluster, 1).await;
    let setting = |name: &'static str, cluster: &Cluster| {
        let url = cluster.url();
        async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await
                .unwrap();
            value
        }
    };
    assert_eq!(setting("fsync", &cluster).await, "on");
    assert_eq!(setting("synchronous_commit", &cluster).await, "on");
    assert_eq!(setting("data_checksums", &cluster).await, "on");
    assert_eq!(setting("listen_addresses", &cluster).await, "");
    assert_eq!(setting("is_superuser", &cluster).await, "off");
    cluster.stop().await;
    assert!(!dir.path().join("postgres/postmaster.pid").exists());
    let begin = Instant::now();
    let cluster = cluster::start(dir.path()).await.unwrap();
    println!("ready after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(read(&cluster).await, [1]);
}

#[tokio::test]
async fn a_killed_postgres_comes_back_by_itself_with_all_data() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster::start(dir.path()).await.unwrap();
    write(&cluster, 1).await;
    let killed = pid(dir.path());
    kill(killed);
    while std::fs::read_to_string(dir.path().join("postgres/postmaster.pid")).map_or(true, |text| text.starts_with(&killed.to_string())) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    write(&cluster, 2).await;
    assert_eq!(read(&cluster).await, [1, 2]);
}

#[tokio::test]
async fn two_folders_do_not_disturb_each_other() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = cluster::start(one.path()).await.unwrap();
    let second = cluster::start(two.path()).await.unwrap();
    write(&first, 1).await;
    write(&second, 2).await;
    first.stop().await;
    assert_eq!(read(&second).await, [2]);
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster::start(dir.path()).await.unwrap();
    let refusal = cluster::start(dir.path()).await.unwrap_err();
    assert!(
        refusal.contains("another eds server") && refusal.contains("--data-dir"),
        "{refusal}"
    );
    write(&cluster, 1).await;
    cluster.stop().await;
    cluster::start(dir.path()).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_cluster_left_by_a_killed_server_is_taken_over_and_stopped_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    start_and_kill_a_server(dir.path()).await;
    let left = pid(dir.path());
    let cluster = cluster::start(dir.path()).await.unwrap();
    assert_eq!(pid(dir.path()), left);
    assert_eq!(read(&cluster).await, [1]);
    cluster.stop().await;
    assert!(!dir.path().join("postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn a_cluster_left_with_other_settings_is_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    start_and_kill_a_server(dir.path()).await;
    let left = pid(dir.path());
    std::fs::write(dir.path().join("postgres/postmaster.opts"), "postgres").unwrap();
    let cluster = cluster::start(dir.path()).await.unwrap();
    assert_ne!(pid(dir.path()), left);
    assert_eq!(read(&cluster).await, [1]);
}

#[tokio::test]
async fn the_marks_of_a_dead_postgres_and_of_a_killed_initdb_are_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("postgres.part-1/base")).unwrap();
    std::fs::write(dir.path().join("eds.lock"), "").unwrap();
    let cluster = cluster::start(dir.path()).await.unwrap();
    assert!(!dir.path().join("postgres.part-1").exists());
    write(&cluster, 1).await;
    cluster.stop().await;
    // The id of a process that lives and is no PostgreSQL.
    let stale = format!(
        "{}\n{}\n0\n5432\n/tmp\n\n0 0\nready\n",
        std::process::id(),
        dir.path().join("postgres").display()
    );
    std::fs::write(dir.path().join("postgres/postmaster.pid"), stale).unwrap();
    let cluster = cluster::start(dir.path()).await.unwrap();
    assert_eq!(read(&cluster).await, [1]);
}

#[tokio::test]
async fn a_long_path_gets_a_short_socket() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("d".repeat(100)).join("è un nome");
    std::fs::create_dir_all(&long).unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let cluster = cluster::start(&long).await.unwrap();
    write(&cluster, 1).await;
    assert_eq!(read(&cluster).await, [1]);
}

#[tokio::test]
async fn no_statement_and_no_value_reaches_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster::start(dir.path()).await.unwrap();
    let mut connection = connect(&cluster).await;
    sqlx::raw_sql("create table person (name text primary key); insert into person values ('Rossi')")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::raw_sql("insert into person values ('Rossi')")
        .execute(&mut connection)
        .await
        .unwrap_err();
    sqlx::query("select $1::date")
        .bind("Rossi")
        .execute(&mut connection)
        .await
        .unwrap_err();
    sqlx::raw_sql("selct 'Rossi'").execute(&mut connection).await.unwrap_err();
    connection.close().await.unwrap();
    cluster.stop().await;
    let log = std::fs::read_to_string(dir.path().join("postgres.log")).unwrap();
    assert!(!log.contains("Rossi") && !log.contains("person"), "{log}");
}

#[tokio::test]
async fn root_is_told_of_a_folder_that_the_user_of_postgres_cannot_reach() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let refusal = cluster::start(&closed.path().join("inside")).await.unwrap_err();
    assert!(refusal.contains("is closed to it") && refusal.contains("/var/lib/eds"), "{refusal}");
}
