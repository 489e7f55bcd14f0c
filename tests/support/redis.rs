//! A real Redis.

use crate::support::server::eventually;
use crate::support::server::free_port;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;

/// A real Redis on a port and a folder of its own; it ends with the test.
pub struct Redis {
    process: Child,
    pub port: u16,
    _dir: TempDir,
}

impl Redis {
    pub fn start() -> Redis {
        Redis::start_at(free_port())
    }

    pub fn start_at(port: u16) -> Redis {
        let dir = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, from Debian's package (make setup)");
        eventually("Redis listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Redis { process, port, _dir: dir }
    }

    pub fn flush(&self) {
        let done = Command::new("redis-cli")
            .args(["-p", &self.port.to_string(), "flushall"])
            .output()
            .unwrap();
        assert!(done.status.success());
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
