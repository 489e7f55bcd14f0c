//! What clients asked for and what they were told, on disk, outside every process that is broken.
//!
//! A line is written before a request is sent, and another when its answer has come; a request without the second may have been carried
//! out or not. `fsync` runs beside the writers, and before the ledger is read.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// 2xx, with the version that was made.
    Done(u32),
    /// 4xx, or a 503 that does not say that its commit broke: it was not carried out.
    Refused,
    /// A 503 that says so, or no answer at all.
    Unknown,
}

/// A request as it was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub number: u64,
    /// `Patient/w3-17`.
    pub resource: String,
    pub is_delete: bool,
    /// The two writes of one transaction have the same; 0 is a write alone.
    pub pair: u64,
    pub told: Told,
}

pub struct Ledger {
    file: Mutex<File>,
    dir: TempDir,
    next: AtomicU64,
    pub done: AtomicU64,
    pub unknown: AtomicU64,
}

impl Ledger {
    pub fn new() -> Ledger {
        let dir = tempfile::tempdir().expect("a folder");
        Ledger {
            file: Mutex::new(File::create(dir.path().join("ledger")).expect("a file")),
            dir,
            next: AtomicU64::new(1),
            done: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    fn append(&self, line: &str) {
        let mut file = self.file.lock().expect("not poisoned");
        file.write_all(line.as_bytes()).expect("the ledger takes a line");
    }

    /// A number that no other request has.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn sent(&self, number: u64, resource: &str, is_delete: bool, pair: u64) {
        self.append(&format!("sent {number} {resource} {} {pair}\n", u8::from(is_delete)));
    }

    pub fn told(&self, number: u64, told: Told) {
        match told {
            Told::Done(version) => {
                self.append(&format!("done {number} {version}\n"));
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            Told::Refused => self.append(&format!("refused {number}\n")),
            Told::Unknown => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Writes the ledger to disk every 20 ms until the writers are done.
    pub fn sync_until(&self, is_over: impl Fn() -> bool) {
        let file = self.file.lock().expect("not poisoned").try_clone().expect("the same file");
        while !is_over() {
            file.sync_data().expect("fsync");
            std::thread::sleep(Duration::from_millis(20));
        }
        file.sync_data().expect("fsync");
    }

    /// All requests in the order of their numbers, as the file has them.
    pub fn read(&self) -> Vec<Sent> {
        self.file.lock().expect("not poisoned").sync_all().expect("fsync");
        let file = File::open(self.dir.path().join("ledger")).expect("the ledger");
        let mut all: HashMap<u64, Sent> = HashMap::new();
        for line in BufReader::new(file).lines() {
            let line = line.expect("the ledger");
            let words: Vec<&str> = line.split(' ').collect();
            let number: u64 = words[1].parse().expect("a number");
            match words[0] {
                "sent" => {
                    let sent = Sent {
                        number,
                        resource: words[2].to_owned(),
                        is_delete: words[3] == "1",
                        pair: words[4].parse().expect("a number"),
                        told: Told::Unknown,
                    };
                    all.insert(number, sent);
                }
                "done" => all.get_mut(&number).expect("was sent").told = Told::Done(words[2].parse().expect("a version")),
                _ => all.get_mut(&number).expect("was sent").told = Told::Refused,
            }
        }
        let mut all: Vec<Sent> = all.into_values().collect();
        all.sort_unstable_by_key(|s| s.number);
        all
    }
}
