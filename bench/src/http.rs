//! The cheapest client that is still right: one keep-alive HTTP/1.1 connection on a blocking socket, a thread each.
//!
//! The load shares its cores with what it measures, so it has no runtime, no pool and no allocation per answer.
//! Spec: <https://www.rfc-editor.org/rfc/rfc9112>. Not supported: TLS, trailers, interim (1xx) answers.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for one answer: far above any goal, so that a stuck server ends the run instead of hanging it.
const ANSWER_SECONDS_MAX: u64 = 120;

/// Largest answer read: a page of whole resources is some 100 kB.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Most header fields in an answer.
const HEADERS_MAX: usize = 64;

/// Where a FHIR server is: `http://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    pub authority: String,
    pub path: String,
}

impl BaseUrl {
    /// Reads a base address. Errors: a sentence, when it is not plain HTTP with a port.
    pub fn parse(text: &str) -> Result<BaseUrl, String> {
        let rest = text.strip_prefix("http://").ok_or("the base URL must begin with http://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !authority.contains(':') {
            return Err("the base URL must name a port".to_owned());
        }
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(BaseUrl {
            authority: authority.to_owned(),
            path,
        })
    }

    /// The path of a link relative to this base, as requests have it. Errors: a sentence, when the link leads elsewhere.
    pub fn relative(&self, link: &str) -> Result<String, String> {
        let path = match link.strip_prefix("http://") {
            Some(rest) => rest.strip_prefix(self.authority.as_str()),
            None => Some(link),
        };
        let inside = path
            .and_then(|path| path.strip_prefix(self.path.as_str()))
            .filter(|inside| inside.is_empty() || inside.starts_with(['/', '?']));
        inside
            .map(|inside| inside.trim_start_matches('/').to_owned())
            .ok_or_else(|| format!("the link {link} leads away from the server"))
    }
}

/// A request; `path` is relative to the base, without a leading slash (empty for the base itself), and already percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub body: Vec<u8>,
    /// The value of `If-None-Exist`, of a conditional create.
    pub if_none_exist: Option<String>,
}

impl Request {
    /// A GET.
    pub fn get(path: String) -> Request {
        Request::send("GET", path, Vec::new())
    }

    /// A request with a FHIR body; empty for a DELETE.
    pub fn send(method: &'static str, path: String, body: Vec<u8>) -> Request {
        Request {
            method,
            path,
            body,
            if_none_exist: None,
        }
    }
}

/// An answer; the body lives in the connection until its next request.
#[derive(Debug)]
pub struct Response<'a> {
    pub status: u16,
    pub etag: Option<String>,
    pub location: Option<String>,
    pub body: &'a [u8],
}

/// One connection, opened at the first request and again after the server closes it.
pub struct Connection {
    base: BaseUrl,
    stream: Option<TcpStream>,
    out: Vec<u8>,
    received: Vec<u8>,
    filled: usize,
    body: Vec<u8>,
}

struct Head {
    bytes: usize,
    status: u16,
    etag: Option<String>,
    location: Option<String>,
    length: Length,
    close: bool,
}

#[derive(Clone, Copy)]
enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    /// A connection to a server, not yet open.
    pub fn new(base: BaseUrl) -> Connection {
        Connection {
            base,
            stream: None,
            out: Vec::new(),
            received: vec![0; 64 * 1024],
            filled: 0,
            body: Vec::new(),
        }
    }

    /// The server it leads to.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Sends a request and reads its whole answer.
    ///
    /// Errors: those of the socket, and `InvalidData` for an answer that is not HTTP/1.1. A GET whose kept connection turns out to be
    /// closed is sent once more on a new one; a write never is.
    pub fn send(&mut self, request: &Request) -> io::Result<Response<'_>> {
        let reused = self.stream.is_some();
        let head = match self.exchange(request) {
            Err(error) if reused && request.method == "GET" && error.kind() != io::ErrorKind::InvalidData => {
                self.stream = None;
                self.exchange(request)
            }
            outcome => outcome,
        };
        let head = head.inspect_err(|_| self.stream = None)?;
        if head.close {
            self.stream = None;
        }
        Ok(Response {
            status: head.status,
            etag: head.etag,
            location: head.location,
            body: &self.body,
        })
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Head> {
        self.write_request(request)?;
        self.filled = 0;
        let head = loop {
            self.receive()?;
            if let Some(head) = parse_head(&self.received[..self.filled])? {
                break head;
            }
        };
        self.body.clear();
        match head.length {
            Length::Known(length) => self.read_known(head.bytes, length)?,
            Length::Chunked => self.read_chunks(head.bytes)?,
        }
        Ok(head)
    }

    fn write_request(&mut self, request: &Request) -> io::Result<()> {
        self.out.clear();
        // A base without a path is asked at its root.
        let nothing = request.path.is_empty() || request.path.starts_with('?');
        let slash = if nothing && !self.base.path.is_empty() { "" } else { "/" };
        write!(
            self.out,
            "{} {}{slash}{} HTTP/1.1\r\nhost: {}\r\naccept: application/fhir+json\r\n",
            request.method, self.base.path, request.path, self.base.authority
        )?;
        if request.method != "GET" {
            write!(
                self.out,
                "content-type: application/fhir+json\r\ncontent-length: {}\r\n",
                request.body.len()
            )?;
        }
        if let Some(condition) = &request.if_none_exist {
            write!(self.out, "if-none-exist: {condition}\r\n")?;
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(&request.body);
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => open(&self.base.authority)?,
        };
        self.stream.insert(stream).write_all(&self.out)
    }

    /// Reads more bytes behind those received.
    fn receive(&mut self) -> io::Result<()> {
        if self.filled == self.received.len() {
            if self.filled >= ANSWER_BYTES_MAX {
                return Err(invalid("the answer is too large"));
            }
            self.received.resize(self.filled * 2, 0);
        }
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match stream.read(&mut self.received[self.filled..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.filled += bytes;
                Ok(())
            }
        }
    }

    fn read_known(&mut self, start: usize, length: usize) -> io::Result<()> {
        while self.filled < start.saturating_add(length) {
            self.receive()?;
        }
        self.body.extend_from_slice(&self.received[start..start + length]);
        Ok(())
    }

    fn read_chunks(&mut self, mut at: usize) -> io::Result<()> {
        loop {
            let (used, size) = loop {
                match httparse::parse_chunk_size(&self.received[at..self.filled]) {
                    Ok(httparse::Status::Complete((used, size))) => break (used, size as usize),
                    Ok(httparse::Status::Partial) => self.receive()?,
                    Err(_) => return Err(invalid("a chunk has no size")),
                }
            };
            let start = at + used;
            let end = start.saturating_add(size).saturating_add(2);
            while self.filled < end {
                self.receive()?;
            }
            self.body.extend_from_slice(&self.received[start..start + size]);
            at = end;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

fn open(authority: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(authority)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))?;
    Ok(stream)
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Reads the head of an answer; `None` while it is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let used = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(invalid("the answer is not HTTP/1.1")),
    };
    let field = |name: &str| {
        let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let status = parsed.code.unwrap_or(0);
    let length = match field("content-length").map(str::parse) {
        Some(Ok(length)) if length <= ANSWER_BYTES_MAX => Length::Known(length),
        Some(_) => return Err(invalid("content-length is not a reasonable number")),
        None if field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) => Length::Chunked,
        None if status == 204 || status == 304 => Length::Known(0),
        None => return Err(invalid("the answer has no length")),
    };
    Ok(Some(Head {
        bytes: used,
        status,
        etag: field("etag").map(str::to_owned),
        location: field("location").map(str::to_owned),
        length,
        close: field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
    }))
}

/// Percent-encodes a query value: everything but letters, digits and `-._~`.
pub fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpListener;

    use crate::http::BaseUrl;
    use crate::http::Connection;
    use crate::http::Request;
    use crate::http::encode;

    /// Serves one prepared answer per connection, in pieces of `piece` bytes.
    fn serve(answers: Vec<String>, piece: usize) -> BaseUrl {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let authority = listener.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                stream.set_nodelay(true).expect("a socket option");
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).expect("a request");
                for part in answer.as_bytes().chunks(piece) {
                    stream.write_all(part).expect("written");
                    stream.flush().expect("flushed");
                }
            }
        });
        BaseUrl {
            authority,
            path: "/fhir".to_owned(),
        }
    }

    #[test]
    fn a_base_url_has_an_authority_and_a_path() {
        let base = BaseUrl::parse("http://127.0.0.1:8080/fhir/").expect("a base");
        assert_eq!((base.authority.as_str(), base.path.as_str()), ("127.0.0.1:8080", "/fhir"));
        assert!(BaseUrl::parse("https://127.0.0.1:8080/fhir").is_err());
        assert!(BaseUrl::parse("http://somewhere/fhir").is_err());
    }

    #[test]
    fn a_link_is_followed_only_within_the_base() {
        let base = BaseUrl::parse("http://127.0.0.1:8080/fhir").expect("a base");
        for link in ["http://127.0.0.1:8080/fhir/Patient?x=1", "/fhir/Patient?x=1"] {
            assert_eq!(base.relative(link).as_deref(), Ok("Patient?x=1"));
        }
        assert_eq!(base.relative("http://127.0.0.1:8080/fhir?x=1").as_deref(), Ok("?x=1"));
        assert!(base.relative("http://127.0.0.1:8081/fhir/Patient").is_err());
        assert!(base.relative("http://127.0.0.1:8080/fhirs").is_err());
        assert!(base.relative("https://127.0.0.1:8080/fhir").is_err());
    }

    #[test]
    fn a_base_without_a_path_is_asked_at_its_root() {
        for (path, asked, line) in [("", "", "POST / "), ("/fhir", "", "POST /fhir "), ("", "Patient", "POST /Patient ")] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let base = BaseUrl {
                authority: listener.local_addr().expect("an address").to_string(),
                path: path.to_owned(),
            };
            let mut connection = Connection::new(base);
            let request = Request::send("POST", asked.to_owned(), Vec::new());
            connection.write_request(&request).expect("sent");
            let mut received = [0; 64];
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.read_exact(&mut received[..line.len()]).expect("a request");
            assert_eq!(&received[..line.len()], line.as_bytes());
        }
    }

    #[test]
    fn an_answer_is_read_whole_however_it_is_cut() {
        let known = "HTTP/1.1 201 Created\r\nETag: W/\"1\"\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for piece in [1, 7, 4096] {
            let mut connection = Connection::new(serve(vec![known.to_owned(), chunked.to_owned()], piece));
            let first = connection.send(&Request::get("a".to_owned())).expect("an answer");
            assert_eq!(
                (first.status, first.body, first.etag.as_deref()),
                (201, &b"hello"[..], Some("W/\"1\""))
            );
            let second = connection
                .send(&Request::get("a".to_owned()))
                .expect("an answer on a new connection");
            assert_eq!((second.status, second.body), (200, &b"abcde"[..]));
        }
    }

    #[test]
    fn an_answer_that_is_not_http_is_an_error() {
        let mut connection = Connection::new(serve(vec!["SSH-2.0-x\r\n\r\n".to_owned()], 64));
        assert!(connection.send(&Request::get("a".to_owned())).is_err());
    }

    #[test]
    fn a_query_value_is_encoded() {
        assert_eq!(encode("http://loinc.org|8302-2 è"), "http%3A%2F%2Floinc.org%7C8302-2%20%C3%A8");
    }
}
