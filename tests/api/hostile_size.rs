//! Bad input: bodies that are too large, or not encoded as they say.
//! A 4xx with an OperationOutcome, in bounded time, and nothing stored; never a 5xx.
//! Spec: <https://hl7.org/fhir/R4/http.html#Status-Codes>, <https://hl7.org/fhir/R4/json.html>.

use crate::support::http::Answer;
use crate::support::http::exchange;
use crate::support::server::shared;
use crate::support::world::unique;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

/// server.body_bytes_max
const BODY_BYTES_MAX: usize = 33_554_432;

fn post(path: &str, body: impl Into<Vec<u8>>) -> Answer {
    shared().fhir("POST", path).fhir(body).send()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A patient of this many bytes.
fn large(bytes: usize) -> Vec<u8> {
    format!(
        "{{\"resourceType\":\"Patient\",\"name\":[{{\"family\":\"{}\"}}]}}",
        "a".repeat(bytes)
    )
    .into_bytes()
}

#[test]
fn bodies_over_the_limit_are_refused_compressed_or_not() {
    let server = shared();
    let told = post("/Patient", large(BODY_BYTES_MAX)).refused(413);
    assert!(told.contains("body_bytes_max"), "{told}");
    let bomb = gzip(&large(BODY_BYTES_MAX * 4));
    assert!(bomb.len() < 200_000);
    let begin = Instant::now();
    server
        .fhir("POST", "/Patient")
        .header("content-encoding", "gzip")
        .fhir(bomb.clone())
        .send()
        .refused(413);
    server
        .fhir("POST", "")
        .header("content-encoding", "gzip")
        .fhir(bomb.clone())
        .send()
        .refused(413);
    assert!(begin.elapsed() < Duration::from_secs(20));
    let zstd = zstd::encode_all(large(BODY_BYTES_MAX * 4).as_slice(), 3).unwrap();
    let status = server
        .fhir("POST", "/Patient")
        .header("content-encoding", "zstd")
        .fhir(zstd)
        .send()
        .status;
    assert!(matches!(status, 413 | 415), "{status}");
    let form = server
        .fhir("POST", "/Patient/_search")
        .header("content-encoding", "gzip")
        .body("application/x-www-form-urlencoded", bomb)
        .send();
    assert_eq!(form.status, 413);
    // What is compressed and small is taken.
    let family = unique();
    let body = gzip(format!("{{\"resourceType\":\"Patient\",\"name\":[{{\"family\":\"{family}\"}}]}}").as_bytes());
    server
        .fhir("POST", "/Patient")
        .header("content-encoding", "gzip")
        .fhir(body)
        .send()
        .expect(201);
    assert_eq!(server.count(&format!("Patient?family={family}")), 1);
}

#[test]
fn encodings_that_lie_are_refused() {
    let server = shared();
    let patient = br#"{"resourceType":"Patient"}"#.to_vec();
    let mut broken = gzip(&patient);
    broken.truncate(broken.len() / 2);
    for (encoding, body) in [
        ("gzip", patient.clone()),
        ("gzip", broken),
        ("gzip", Vec::new()),
        ("zstd", patient.clone()),
        ("gzip", gzip(&gzip(&patient))),
    ] {
        let status = server
            .fhir("POST", "/Patient")
            .header("content-encoding", encoding)
            .fhir(body)
            .send()
            .status;
        assert!(matches!(status, 400 | 415), "{encoding}: {status}");
    }
    for encoding in ["br", "deflate", "compress", "nonsense", "gzip, gzip"] {
        let status = server
            .fhir("POST", "/Patient")
            .header("content-encoding", encoding)
            .fhir(b"\x01\x02\x03".to_vec())
            .send()
            .status;
        assert!(matches!(status, 400 | 415), "{encoding}: {status}");
    }
}

#[test]
fn a_body_that_is_announced_but_too_long_is_refused_without_reading_it() {
    let server = shared();
    let head = |length: &str| {
        format!(
            "POST /fhir/Patient HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/fhir+json\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let begin = Instant::now();
    let answer = exchange(server.address, head("314572800").as_bytes(), b"{", false).unwrap();
    assert_eq!(answer.status, 413);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // Chunks without end: the limit holds there too.
    let chunked = "POST /fhir/Patient HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/fhir+json\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut body = Vec::new();
    for _ in 0..=BODY_BYTES_MAX / 1_000_000 + 1 {
        body.extend_from_slice(b"f4240\r\n");
        body.extend(std::iter::repeat_n(b' ', 1_000_000));
        body.extend_from_slice(b"\r\n");
    }
    let answer = exchange(server.address, chunked.as_bytes(), &body, false).unwrap();
    assert_eq!(answer.status, 413);
    for wrong in ["-1", "x", "99999999999999999999999", "1, 2"] {
        let status = exchange(server.address, head(wrong).as_bytes(), b"{}", false).map_or(400, |a| a.status);
        assert!(matches!(status, 400 | 413), "{wrong}: {status}");
    }
}
