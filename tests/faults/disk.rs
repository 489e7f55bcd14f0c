//! The disk of PostgreSQL is full, again and again, while 16 clients write. When there is space again, everything goes on by itself.
//! Needs a small file system of its own, and so the right to mount one.

use crate::check::check;
use crate::figures::Outcome;
use crate::figures::amount;
use crate::figures::is_long;
use crate::postgres::Postgres;
use crate::support::server::DataDir;
use crate::support::server::eventually;
use crate::writers::Storm;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

const SCENARIO: &str = "full disk";

/// A file system in memory, for as long as this lives.
struct Mount(PathBuf);

impl Mount {
    /// Errors: the system does not let us.
    fn new(at: &Path) -> Result<Mount, String> {
        std::fs::create_dir_all(at).expect("a folder");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256m,mode=755", "tmpfs"])
            .arg(at)
            .output();
        let done = done.map_err(|e| e.to_string())?;
        match done.status.success() {
            true => Ok(Mount(at.to_owned())),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        }
    }

    /// Fills what is free; the file to remove.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).expect("a file");
        let block = vec![1; 1 << 16];
        // Until it is full.
        while file.write_all(&block).is_ok() {}
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        if done.is_ok_and(|status| status.success()) {
            // The rest of its folder went with the server's; nothing depends on this.
            let _ = std::fs::remove_dir_all(self.0.parent().expect("a folder"));
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_recovered_from_without_anybody() {
    let rounds = amount(1, 20);
    let dir = DataDir::new();
    let mount = match Mount::new(&dir.data()) {
        Ok(mount) => mount,
        Err(reason) => {
            println!("NOT TESTED, a full disk: no file system can be mounted here: {reason}");
            return;
        }
    };
    let postgres = Postgres::start_on(dir);
    let of_server = DataDir::new();
    let server = postgres.server(&of_server, "127.0.0.1:0", &[]);
    let storm = Storm::new();
    storm.aim(&[server.address]);
    let mut outcome = Outcome::default();
    storm.rage(|| {
        let mut longest = Duration::ZERO;
        for _ in 0..rounds {
            storm.calm(100, &mut outcome);
            let refused = storm.refused_503.load(Ordering::Relaxed);
            let ballast = mount.fill();
            // Until writes are refused, and then for a while.
            eventually("writes are refused", || storm.refused_503.load(Ordering::Relaxed) >= refused + 20);
            std::thread::sleep(Duration::from_millis(1000));
            std::fs::remove_file(ballast).expect("the file that fills the disk");
            longest = longest.max(storm.recovery(&mut outcome));
        }
        outcome.figure("times full", rounds);
        outcome.figure("writes again after ms at most", longest.as_millis());
        outcome.require(!is_long() || longest <= Duration::from_secs(10), || {
            format!("recovery: {} ms", longest.as_millis())
        });
    });
    storm.report(&mut outcome);
    check(&server, &mut postgres.session(), &storm.ledger, &mut outcome);
    drop(server);
    drop(postgres);
    drop(mount);
    outcome.green(SCENARIO);
}
