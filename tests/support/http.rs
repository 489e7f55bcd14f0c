//! A plain blocking HTTP/1.1 client. It sends exactly the bytes it is given, which no friendly client does: the hostile tests need that.

use serde_json::Value;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any answer of a debug build takes; a test that hangs fails instead.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("an answer is UTF-8")
    }

    /// The body, which must be JSON; null when there is none.
    pub fn json(&self) -> Value {
        match self.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text())),
        }
    }

    /// The answer itself, when it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// A failure with this status and an OperationOutcome that says why; its diagnostics.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/fhir+json; charset=utf-8"));
        let outcome = answer.json();
        assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
        let issue = &outcome["issue"][0];
        assert_eq!(issue["severity"], "error", "{outcome}");
        assert!(issue["code"].is_string(), "{outcome}");
        issue["diagnostics"].as_str().expect("diagnostics").to_owned()
    }
}

/// A request in the making.
pub struct Request {
    pub address: SocketAddr,
    method: String,
    /// Path and query, as sent.
    target: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(address: SocketAddr, method: &str, target: &str) -> Request {
        Request {
            address,
            method: method.to_owned(),
            target: target.as_bytes().to_vec(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// A body of FHIR JSON.
    pub fn fhir(self, body: impl Into<Vec<u8>>) -> Request {
        self.body("application/fhir+json", body)
    }

    pub fn json(self, body: &Value) -> Request {
        self.fhir(body.to_string())
    }

    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self.header("content-type", media_type)
    }

    /// A body without a Content-Type.
    pub fn raw_body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// Sends it. Panics when no answer comes.
    #[track_caller]
    pub fn send(self) -> Answer {
        let what = format!(
            "{} {}",
            self.method,
            String::from_utf8_lossy(&self.target[..self.target.len().min(200)])
        );
        self.try_send().unwrap_or_else(|e| panic!("{what}: {e}"))
    }

    /// Sends it. Errors: the connection broke before the answer was whole.
    pub fn try_send(self) -> io::Result<Answer> {
        let is_head = self.method == "HEAD";
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(self.method.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(&self.target);
        bytes.extend_from_slice(format!(" HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address).as_bytes());
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        exchange(self.address, &bytes, &self.body.unwrap_or_default(), is_head)
    }
}

/// Sends these bytes as they are, whatever they are, and reads what comes. Errors: the connection broke before the answer was whole.
pub fn exchange(address: SocketAddr, head: &[u8], body: &[u8], is_head: bool) -> io::Result<Answer> {
    finish(begin(address, head)?, body, is_head)
}

/// Opens a connection and sends the begin of a request.
pub fn begin(address: SocketAddr, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    stream.write_all(bytes)?;
    Ok(stream)
}

/// Sends the rest and reads the answer.
pub fn finish(mut stream: TcpStream, rest: &[u8], is_head: bool) -> io::Result<Answer> {
    // A server that refuses a body does not read it to the end: its answer counts all the same.
    let _ = stream.write_all(rest);
    let mut received = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Err(error) if received.is_empty() => return Err(error),
            // The end of the stream, or of the connection of a server that closed it with a body unread.
            Ok(0) | Err(_) => {
                return answer(&received, is_head).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is not whole"));
            }
            Ok(count) => received.extend_from_slice(&buffer[..count]),
        }
        if let Some(answer) = answer(&received, is_head).filter(|a| is_head || a.header("content-length").is_some()) {
            return Ok(answer);
        }
    }
}

/// A connection that is kept open, for many requests one after the other.
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        Connection {
            stream: begin(address, b"").expect("the server listens"),
            address,
        }
    }

    /// Sends a GET for a target as it stands. Panics when no whole answer comes.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Answer {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.stream.write_all(head.as_bytes()).expect("the server reads");
        let mut received = Vec::new();
        let mut buffer = vec![0; 65_536];
        loop {
            let count = self.stream.read(&mut buffer).expect("the server answers");
            received.extend_from_slice(&buffer[..count]);
            let has_length = |a: &Answer| a.header("content-length").is_some() || a.header("transfer-encoding").is_some();
            if let Some(answer) = answer(&received, false).filter(has_length) {
                return answer;
            }
            assert!(count > 0, "{target}: the answer is not whole");
        }
    }
}

/// Reads an answer; `None` if it is cut short.
fn answer(bytes: &[u8], is_head: bool) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    let rest = &bytes[end + 4..];
    if is_head {
        return Some(answer);
    }
    answer.body = match (answer.header("transfer-encoding"), answer.header("content-length")) {
        (Some("chunked"), _) => dechunked(rest)?,
        (_, Some(length)) => rest.get(..length.parse().ok()?)?.to_vec(),
        _ => rest.to_vec(),
    };
    Some(answer)
}

fn dechunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 4 + size..)?;
    }
}

/// `Patient?name=ro|x&_sort=a` with each name and value percent-encoded; white space and bars are written as they are.
pub fn encoded(path_and_query: &str) -> String {
    let Some((path, query)) = path_and_query.split_once('?') else {
        return path_and_query.to_owned();
    };
    let mut out = form_urlencoded::Serializer::new(String::new());
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        out.append_pair(name, value);
    }
    format!("{path}?{}", out.finish())
}
