//! A relay between the server and its PostgreSQL that understands the protocol: it can cut a connection before or after any statement,
//! freeze, refuse, and, for sabotage, lie about a commit or change the text of a statement. So the server under test is always the real one.
//! Protocol: <https://www.postgresql.org/docs/15/protocol-message-formats.html>.

use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The database does not get the statement.
    Before,
    /// The database has carried it out, and the server does not hear of it.
    After,
}

/// What happens to the transactions of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Cut at the statement of this number within a transaction; BEGIN is 1. Once.
    Statement(usize, Moment),
    /// Cut at one COMMIT in so many, and at one single statement that writes.
    Commit(u64, Moment),
}

/// A database that does not keep its promises, so that a check must find what comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The server is told of its COMMIT this much before the database is.
    EarlyCommit(Duration),
    /// One COMMIT in so many is a ROLLBACK, and the server is told otherwise.
    FalseCommit(u64),
    /// The server is told of its COMMIT, and the database is not.
    NoCommit,
    /// Each statement commits for itself.
    NoTransactions,
    /// Statements have the second text in place of the first.
    Rewrite(&'static str, &'static str),
}

#[derive(Default)]
pub struct Control {
    fault: Mutex<Option<Fault>>,
    sabotage: Mutex<Option<Sabotage>>,
    pub is_refusing: AtomicBool,
    pub is_frozen: AtomicBool,
    /// What a dead server did not pass on is lost: see [`Sabotage::EarlyCommit`].
    pub is_server_dead: AtomicBool,
    commits: AtomicU64,
    /// Statements of the transaction that runs, as [`Fault::Statement`] counts them; and of the last one that ended in COMMIT since the fault
    /// was set.
    statements: AtomicUsize,
    pub statements_of_last: AtomicUsize,
    pub cuts: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

pub struct Relay {
    address: SocketAddr,
    pub control: Arc<Control>,
}

impl Relay {
    /// Relays to the database behind this socket.
    pub fn start(socket: PathBuf) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let relay = Relay {
            address: listener.local_addr().expect("an address"),
            control: Arc::default(),
        };
        let control = relay.control.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                if control.is_refusing.load(Ordering::Relaxed) {
                    continue;
                }
                // The database may be down just now: then this connection is closed, as the database's own would be.
                let Ok(database) = UnixStream::connect(&socket) else { continue };
                control
                    .open
                    .lock()
                    .expect("not poisoned")
                    .push(stream.try_clone().expect("a handle"));
                let control = control.clone();
                std::thread::spawn(move || connection(stream, database, &control));
            }
        });
        relay
    }

    /// For `database.url`.
    pub fn url(&self) -> String {
        format!("postgres://eds@{}/eds?sslmode=disable", self.address)
    }

    pub fn inject(&self, fault: Option<Fault>) {
        self.control.statements_of_last.store(0, Ordering::Relaxed);
        *self.control.fault.lock().expect("not poisoned") = fault;
    }

    /// For statements that are sent from now on.
    pub fn sabotage(&self, sabotage: Option<Sabotage>) {
        *self.control.sabotage.lock().expect("not poisoned") = sabotage;
    }

    /// Refuses connections, and cuts those that are open.
    pub fn refuse(&self, is_refusing: bool) {
        self.control.is_refusing.store(is_refusing, Ordering::Relaxed);
        for stream in self.control.open.lock().expect("not poisoned").drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One connection's two directions share this.
struct Wire {
    server: TcpStream,
    database: UnixStream,
    /// Answers up to the next ReadyForQuery are not passed on.
    swallowed: AtomicBool,
    /// The connection ends with the next ReadyForQuery, which is not passed on.
    cut_when_answered: AtomicBool,
    /// After the answer that is swallowed, the server is told that its COMMIT was carried out.
    then_committed: AtomicBool,
    pretends_transaction: AtomicBool,
}

impl Wire {
    fn cut(&self) {
        let _ = self.server.shutdown(Shutdown::Both);
        let _ = self.database.shutdown(Shutdown::Both);
    }
}

/// A message: its type (0 for the first of a connection) and its bytes with the length.
fn message(from: &mut impl Read, has_type: bool) -> io::Result<(u8, Vec<u8>)> {
    let mut kind = [0];
    if has_type {
        from.read_exact(&mut kind)?;
    }
    let mut bytes = vec![0; 4];
    from.read_exact(&mut bytes)?;
    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    bytes.resize(length.max(4), 0);
    from.read_exact(&mut bytes[4..])?;
    Ok((kind[0], bytes))
}

fn framed(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(content.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// CommandComplete and ReadyForQuery.
fn completed(tag: &str, status: u8) -> Vec<u8> {
    let mut bytes = framed(b'C', format!("{tag}\0").as_bytes());
    bytes.extend(framed(b'Z', &[status]));
    bytes
}

fn connection(server: TcpStream, database: UnixStream, control: &Control) {
    let _ = server.set_nodelay(true);
    let (Ok(from_server), Ok(from_database)) = (server.try_clone(), database.try_clone()) else {
        return;
    };
    let wire = Wire {
        server,
        database,
        swallowed: AtomicBool::default(),
        cut_when_answered: AtomicBool::default(),
        then_committed: AtomicBool::default(),
        pretends_transaction: AtomicBool::default(),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Either end may close: then the other is closed too.
            let _ = answers(from_database, &wire, control);
            wire.cut();
        });
        let _ = requests(from_server, &wire, control);
        wire.cut();
    });
}

fn wait_while_frozen(control: &Control) {
    while control.is_frozen.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// From the database to the server.
fn answers(from: UnixStream, wire: &Wire, control: &Control) -> io::Result<()> {
    let mut from = io::BufReader::with_capacity(1 << 16, from);
    let mut to = &wire.server;
    loop {
        let (kind, mut bytes) = message(&mut from, true)?;
        wait_while_frozen(control);
        let is_end = kind == b'Z';
        if is_end && wire.cut_when_answered.load(Ordering::SeqCst) {
            control.cuts.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if wire.swallowed.load(Ordering::SeqCst) {
            if is_end {
                wire.swallowed.store(false, Ordering::SeqCst);
                if wire.then_committed.swap(false, Ordering::SeqCst) {
                    to.write_all(&completed("COMMIT", b'I'))?;
                }
            }
            continue;
        }
        if wire.cut_when_answered.load(Ordering::SeqCst) {
            continue;
        }
        if is_end && wire.pretends_transaction.load(Ordering::SeqCst) {
            bytes[4] = b'T';
        }
        let mut out = vec![kind];
        out.append(&mut bytes);
        to.write_all(&out)?;
    }
}

/// What the relay knows of a connection's statements.
#[derive(Default)]
struct Statements {
    texts: HashMap<Vec<u8>, String>,
    /// Text of what the last Bind names.
    bound: String,
    is_in_transaction: bool,
    /// The leader of the feed and other long-lived connections of the server's own work.
    is_of_requests: bool,
}

/// From the server to the database.
fn requests(from: TcpStream, wire: &Wire, control: &Control) -> io::Result<()> {
    let mut from = io::BufReader::with_capacity(1 << 16, from);
    let mut to = &wire.database;
    let (_, first) = message(&mut from, false)?;
    let mut statements = Statements {
        is_of_requests: !first.windows(20).any(|w| w == b"idle_session_timeout"),
        ..Statements::default()
    };
    to.write_all(&first)?;
    loop {
        let (kind, mut bytes) = message(&mut from, true)?;
        wait_while_frozen(control);
        match kind {
            b'P' => parse(&mut bytes, control, &mut statements),
            b'B' => {
                let mut parts = bytes[4..].splitn(3, |b| *b == 0);
                let name = parts.nth(1).unwrap_or_default();
                statements.bound = statements.texts.get(name).cloned().unwrap_or_default();
            }
            b'Q' | b'E' if statements.is_of_requests => {
                let text = match kind {
                    b'Q' => String::from_utf8_lossy(&bytes[4..bytes.len() - 1]).into_owned(),
                    _ => statements.bound.clone(),
                };
                if statement(&text, kind, wire, control, &mut statements)? {
                    continue;
                }
            }
            _ => {}
        }
        let mut out = vec![kind];
        out.append(&mut bytes);
        to.write_all(&out)?;
    }
}

/// Takes note of a statement's text, and rewrites it.
fn parse(bytes: &mut Vec<u8>, control: &Control, statements: &mut Statements) {
    let name_end = bytes[4..].iter().position(|b| *b == 0).map_or(4, |p| p + 4);
    let text_end = bytes[name_end + 1..]
        .iter()
        .position(|b| *b == 0)
        .map_or(bytes.len(), |p| p + name_end + 1);
    let mut text = String::from_utf8_lossy(&bytes[name_end + 1..text_end]).into_owned();
    if let Some(Sabotage::Rewrite(from, to)) = *control.sabotage.lock().expect("not poisoned") {
        text = text.replace(from, to);
    }
    statements.texts.insert(bytes[4..name_end].to_vec(), text.clone());
    let mut rewritten = bytes[4..=name_end].to_vec();
    rewritten.extend_from_slice(text.as_bytes());
    rewritten.extend_from_slice(&bytes[text_end..]);
    *bytes = framed(b'P', &rewritten)[1..].to_vec();
}

/// A statement is about to be carried out: the faults. True if it is not to be passed on.
fn statement(text: &str, kind: u8, wire: &Wire, control: &Control, statements: &mut Statements) -> io::Result<bool> {
    let is_begin = text == "BEGIN";
    let is_end = text == "COMMIT" || text == "ROLLBACK";
    let is_commit = text == "COMMIT" || (!statements.is_in_transaction && text.contains("insert into resource"));
    if is_begin {
        statements.is_in_transaction = true;
        control.statements.store(0, Ordering::Relaxed);
    }
    let number = match statements.is_in_transaction {
        true => control.statements.fetch_add(1, Ordering::Relaxed) + 1,
        false => 0,
    };
    if is_end {
        control.statements_of_last.store(number, Ordering::Relaxed);
        statements.is_in_transaction = false;
    }
    let fault = *control.fault.lock().expect("not poisoned");
    let every = |one_in: u64| control.commits.fetch_add(1, Ordering::Relaxed) % one_in == one_in - 1;
    match fault {
        Some(Fault::Statement(at, moment)) if number == at => {
            *control.fault.lock().expect("not poisoned") = None;
            return cut(moment, wire, control);
        }
        Some(Fault::Commit(one_in, moment)) if is_commit && every(one_in) => return cut(moment, wire, control),
        _ => {}
    }
    let sabotage = *control.sabotage.lock().expect("not poisoned");
    match sabotage {
        Some(Sabotage::EarlyCommit(delay)) if text == "COMMIT" => {
            (&wire.server).write_all(&completed("COMMIT", b'I'))?;
            std::thread::sleep(delay);
            if control.is_server_dead.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            wire.swallowed.store(true, Ordering::SeqCst);
            Ok(false)
        }
        Some(Sabotage::FalseCommit(one_in)) if text == "COMMIT" && every(one_in) => {
            wire.swallowed.store(true, Ordering::SeqCst);
            wire.then_committed.store(true, Ordering::SeqCst);
            (&wire.database).write_all(&framed(b'Q', b"ROLLBACK\0"))?;
            Ok(true)
        }
        Some(Sabotage::NoCommit) if text == "COMMIT" => {
            (&wire.server).write_all(&completed("COMMIT", b'I'))?;
            Ok(true)
        }
        Some(Sabotage::NoTransactions) if kind == b'Q' && is_begin => {
            wire.pretends_transaction.store(true, Ordering::SeqCst);
            (&wire.server).write_all(&completed("BEGIN", b'T'))?;
            Ok(true)
        }
        Some(Sabotage::NoTransactions) if is_end => {
            wire.pretends_transaction.store(false, Ordering::SeqCst);
            (&wire.server).write_all(&completed(text, b'I'))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn cut(moment: Moment, wire: &Wire, control: &Control) -> io::Result<bool> {
    match moment {
        Moment::Before => {
            control.cuts.fetch_add(1, Ordering::Relaxed);
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Moment::After => {
            wire.cut_when_answered.store(true, Ordering::SeqCst);
            Ok(false)
        }
    }
}
