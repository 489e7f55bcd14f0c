//! The EDS ingestion API through its front door: a server process, its private PostgreSQL, and an endpoint that is told the final status.
//! Source: UA-R ingestion specification 2 and 3; docs/api/ingestion.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use reqwest::Client;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::fs::Permissions;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tempfile::TempDir;

const DOCUMENT: &str = "2.16.840.1.113883.2.9.2.120.4.4^290700";
const COMPOSITION: &str = "120901.SMPRRA84C52H501G.20250318091200.ESEMPIO03";

struct Server {
    process: Child,
    base: String,
    client: Client,
}

impl Server {
    fn start(dir: &Path) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_eds"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .env("EDS_METRICS_LISTEN", "")
            .env("EDS_INGESTION_CALLBACK_TIMEOUT_MS", "1000")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let base = lines
            .find_map(|line| line.unwrap().strip_prefix("listening on ").map(str::to_owned))
            .unwrap();
        Server {
            process,
            base,
            client: Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn end(&mut self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
        self.process.wait().unwrap();
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, None).await
    }

    /// Status and body of what was accepted, when it is final.
    async fn document(&self, method: Method, wii: &str, bundle: &str) -> Value {
        let path = format!("/v1/document/workflowinstanceid/{wii}");
        let expected = if method == Method::POST { 201 } else { 200 };
        let (status, body) = self
            .send(method, &path, Some(json!({"identifier": DOCUMENT, "jsonString": bundle})))
            .await;
        assert_eq!((status, &body["result"]), (expected, &json!(true)), "{body}");
        self.last(wii).await
    }

    async fn last(&self, wii: &str) -> Value {
        for _ in 0..1000 {
            let (_, standing) = self.get(&format!("/v1/status/{wii}")).await;
            if standing["status"] != "ASYNC_RETRY" {
                return standing;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{wii} never ended");
    }

    async fn metadata(&self, body: Value) -> (u16, Value) {
        let text = json!({"body": body}).to_string();
        self.send(
            Method::PUT,
            "/v1/document/metadata",
            Some(json!({"identifier": DOCUMENT, "jsonString": text})),
        )
        .await
    }

    async fn found(&self, search: &str) -> Vec<Value> {
        let (status, bundle) = self.get(&format!("/fhir/{search}")).await;
        assert_eq!(status, 200, "{bundle}");
        bundle["entry"]
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .map(|entry| entry["resource"].clone())
            .collect()
    }

    async fn compositions(&self) -> Vec<Value> {
        self.found(&format!("Composition?identifier={COMPOSITION}")).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Stopped in the test, or stopped here when the test fails.
        let _ = nix::sys::signal::kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // The private PostgreSQL of root runs under another user.
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

fn bundle() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/03-document-lab-120.json")).unwrap()
}

/// The same document with another title.
fn corrected() -> String {
    let mut bundle: Value = serde_json::from_str(&bundle()).unwrap();
    for entry in bundle["entry"].as_array_mut().unwrap() {
        if entry["resource"]["resourceType"] == "Composition" {
            entry["resource"]["title"] = json!("Referto corretto");
        }
    }
    bundle.to_string()
}

#[tokio::test]
async fn a_document_is_taken_in_once_replaced_obscured_shown_and_deleted() {
    let dir = folder();
    let mut server = Server::start(dir.path());
    for wii in ["a1", "a2"] {
        let last = server.document(Method::POST, wii, &bundle()).await;
        assert_eq!(
            (&last["status"], &last["type"], &last["rde"]),
            (&json!("SUCCESS"), &json!("CREATE"), &json!("120")),
            "{last}"
        );
        assert_eq!(server.compositions().await.len(), 1, "the second load is the same document");
    }
    let old = server.compositions().await[0]["id"].as_str().unwrap().to_owned();
    let patients = server.found("Patient").await.len();

    let last = server.document(Method::PUT, "a3", &corrected()).await;
    assert_eq!(last["status"], "SUCCESS", "{last}");
    let composition = server.compositions().await.remove(0);
    assert_eq!(composition["title"], "Referto corretto");
    assert_eq!(
        composition["relatesTo"],
        json!([{"code": "replaces", "targetReference": {"reference": format!("Composition/{old}")}}])
    );
    let new = composition["id"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("/fhir/Composition/{old}")).await.0, 410);

    let (status, body) = server
        .metadata(json!({"tipologiaStruttura": "Ospedale", "dataInizioPrestazione": "20220724102426"}))
        .await;
    assert_eq!(status, 200, "{body}");
    let reference = server.found("DocumentReference").await.remove(0);
    assert_eq!(reference["context"]["facilityType"]["coding"][0]["code"], "Ospedale");
    assert_eq!(reference["context"]["period"]["start"], "2022-07-24T10:24:26+02:00");

    assert_eq!(server.metadata(json!({"attiCliniciRegoleAccesso": ["P99"]})).await.0, 200);
    assert!(server.compositions().await.is_empty());
    for id in [&old, &new] {
        for path in ["", "/_history", "/_history/1"] {
            assert_eq!(
                server.get(&format!("/fhir/Composition/{id}{path}")).await.0,
                404,
                "what was obscured, and what it replaced: {path}"
            );
        }
    }
    let (_, history) = server.get("/fhir/_history?_count=1000").await;
    assert!(!history.to_string().contains(&new) && !history.to_string().contains(&old));
    assert_eq!(
        server.found("Patient").await.len(),
        patients,
        "shared resources are not the document's"
    );

    assert_eq!(server.metadata(json!({"attiCliniciRegoleAccesso": ["P00"]})).await.0, 200);
    assert_eq!(server.compositions().await.len(), 1);
    let path = format!("/v1/document/identifier/{}", DOCUMENT.replace('^', "%5E"));
    assert_eq!(server.send(Method::DELETE, &path, None).await.0, 200);
    assert!(server.compositions().await.is_empty());
    assert_eq!(server.found("Patient").await.len(), patients);
    let (status, problem) = server.send(Method::DELETE, &path, None).await;
    assert_eq!(
        (status, &problem["type"], &problem["title"], &problem["instance"]),
        (404, &json!("/err/resource"), &json!("Resource error"), &json!("/err/resource"))
    );
    server.end(Signal::SIGTERM);
}

/// An endpoint that refuses its first call, and gives the bodies of all calls.
fn endpoint() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (calls, received) = mpsc::channel();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let status = if n == 0 { "503 Service Unavailable" } else { "200 OK" };
            // A caller that is killed in the middle calls again.
            let Ok(body) = answer(stream.unwrap(), status) else { continue };
            if calls.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, received)
}

fn answer(mut stream: TcpStream, status: &str) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    if length == 0 {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(body)
    }
}

#[tokio::test]
async fn what_was_accepted_survives_a_kill_and_its_end_is_told() {
    let dir = folder();
    let mut server = Server::start(dir.path());
    let (url, calls) = endpoint();
    let mut accepted = Vec::new();
    for n in 0..20 {
        let wii = format!("k{n}");
        let body = json!({"identifier": format!("2.16.840.1.113883.2.9.2.90.4.4^{n}"), "jsonString": bundle().replace(COMPOSITION, &wii)});
        let request = server
            .client
            .post(format!("{}/v1/document/workflowinstanceid/{wii}", server.base))
            .header("X-Callback-Url", &url)
            .json(&body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 201);
        accepted.push(wii);
    }
    server.end(Signal::SIGKILL);
    let mut server = Server::start(dir.path());
    for wii in &accepted {
        let last = server.last(wii).await;
        assert_eq!((&last["status"], &last["rde"]), (&json!("SUCCESS"), &json!("090")), "{last}");
        assert_eq!(server.found(&format!("Composition?identifier={wii}")).await.len(), 1);
    }
    let mut untold = accepted;
    while !untold.is_empty() {
        let call = calls.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!((&call["type"], &call["status"]), (&json!("CREATE"), &json!("SUCCESS")), "{call}");
        untold.retain(|wii| call["workflowInstanceId"] != wii.as_str());
    }
    server.end(Signal::SIGTERM);
}

#[tokio::test]
async fn what_cannot_be_accepted_is_refused_at_the_door() {
    let dir = folder();
    let mut server = Server::start(dir.path());
    let path = "/v1/document/workflowinstanceid/b1";
    for (what, method, body, expected, kind) in [
        (
            "an unknown document to replace",
            Method::PUT,
            json!({"identifier": DOCUMENT, "jsonString": bundle()}),
            404,
            "/err/resource",
        ),
        (
            "no JSON",
            Method::POST,
            json!({"identifier": DOCUMENT, "jsonString": "nothing"}),
            400,
            "/err/client",
        ),
        (
            "no Bundle",
            Method::POST,
            json!({"identifier": DOCUMENT, "jsonString": "{\"resourceType\":\"Patient\"}"}),
            400,
            "/err/client",
        ),
        (
            "an identifier without ^",
            Method::POST,
            json!({"identifier": "290700", "jsonString": bundle()}),
            400,
            "/err/client",
        ),
        ("no body to speak of", Method::POST, json!([]), 400, "/err/client"),
        ("another method", Method::PATCH, json!({}), 405, "/err/client"),
    ] {
        let (status, problem) = server.send(method, path, Some(body)).await;
        assert_eq!(
            (status, problem["type"].as_str(), problem["status"].as_u64()),
            (expected, Some(kind), Some(u64::from(expected))),
            "{what}: {problem}"
        );
    }
    assert_eq!(server.get("/v1/status/b1").await.0, 404);
    assert_eq!(server.get("/status").await, (200, json!({"status": "UP"})));
    let body = json!({"identifier": DOCUMENT, "jsonString": bundle()});
    let request = server
        .client
        .post(format!("{}{path}", server.base))
        .header("X-Callback-Url", "http://169.254.169.254/")
        .json(&body);
    assert_eq!(
        request.send().await.unwrap().status().as_u16(),
        400,
        "the server does not call into its operator's network"
    );
    let last = server
        .document(
            Method::POST,
            "b2",
            &bundle().replace("\"Composition\",", "\"Composition\",\"nonsense\":1,"),
        )
        .await;
    assert_eq!(last["status"], "BLOCKING_ERROR");
    assert!(last["message"].as_str().unwrap().contains("nonsense"), "{last}");
    server.end(Signal::SIGTERM);
}
