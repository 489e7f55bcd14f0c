//! The data folder: who owns it, the lock on it, and the paths inside.
//!
//! `eds.lock` (held by the server), `postgres/` (the cluster), `socket/` (closed to other users), `postgres.log`.

use nix::libc::O_NOFOLLOW;
use nix::unistd::User;
use nix::unistd::geteuid;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use xxhash_rust::xxh3::xxh3_64;

/// A unix socket's path has at most 107 bytes; PostgreSQL adds "/.s.PGSQL.5432".
const SOCKET_DIR_BYTES_MAX: usize = 107 - "/.s.PGSQL.5432".len();
/// The log of PostgreSQL is put aside at a start when it is larger; it holds no statements, so it grows slowly.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Its lock is that of the folder.
const LOCK: &str = "eds.lock";
/// Holds the cluster while a restore works on it.
pub const RESTORING: &str = "restoring";

#[derive(Debug)]
pub struct Folder {
    pub data_dir: PathBuf,
    /// PGDATA.
    pub cluster: PathBuf,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub owner: Owner,
}

/// The user that PostgreSQL runs as.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// We are root and give up its rights.
    pub is_dropped: bool,
}

/// Makes what is missing of the folder and locks it.
pub fn prepare(data_dir: &Path) -> Result<(Folder, File), String> {
    prepare_for(data_dir, owner(&data_dir.join("postgres"))?)
}

/// The same, for an owner that is decided already.
pub fn prepare_for(data_dir: &Path, owner: Owner) -> Result<(Folder, File), String> {
    let made = !data_dir.exists();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|e| text(data_dir, e))?;
    let data_dir = &data_dir.canonicalize().map_err(|e| text(data_dir, e))?;
    let lock_path = data_dir.join(LOCK);
    if owner.is_dropped {
        open_the_way(data_dir, owner, made || lock_path.exists() || is_empty(data_dir))?;
    }
    let lock = lock(&lock_path)?;
    let folder = Folder::of(data_dir, owner);
    private_dir(&folder.socket, owner)?;
    Ok((folder, lock))
}

/// The folder of a server that runs; `None` when nobody holds it. Errors: it may not be read.
pub fn in_use(data_dir: &Path) -> Result<Option<Folder>, String> {
    if !data_dir.exists() {
        return Ok(None);
    }
    let data_dir = &data_dir.canonicalize().map_err(|e| text(data_dir, e))?;
    let folder = Folder::of(data_dir, owner(&data_dir.join("postgres"))?);
    let path = data_dir.join(LOCK);
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(text(&path, error)),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(folder)),
        Err(TryLockError::Error(error)) => Err(text(&path, error)),
    }
}

impl Owner {
    /// Whoever runs this program, with all rights that they have.
    pub fn ourselves() -> Owner {
        Owner {
            uid: geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            is_dropped: false,
        }
    }
}

impl Folder {
    /// `data_dir` is canonical.
    fn of(data_dir: &Path, owner: Owner) -> Folder {
        Folder {
            data_dir: data_dir.to_owned(),
            cluster: data_dir.join("postgres"),
            socket: socket(data_dir),
            log: data_dir.join("postgres.log"),
            owner,
        }
    }

    pub fn has_cluster(&self) -> bool {
        self.cluster.join("PG_VERSION").exists()
    }

    /// The major version that made the cluster, if there is one.
    pub fn version(&self) -> Result<Option<u32>, String> {
        let path = self.cluster.join("PG_VERSION");
        match std::fs::read_to_string(&path) {
            Ok(version) => version
                .trim()
                .parse()
                .map(Some)
                .map_err(|_| format!("{} holds no version", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(text(&path, error)),
        }
    }

    /// The log, open for appending.
    pub fn open_log(&self) -> Result<File, String> {
        if std::fs::metadata(&self.log).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            std::fs::rename(&self.log, self.log.with_extension("log.1")).map_err(|e| text(&self.log, e))?;
        }
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW)
            .open(&self.log)
            .map_err(|e| text(&self.log, e))
    }

    /// Takes away a socket folder that lies outside, once PostgreSQL has left it.
    pub fn remove_socket(&self) {
        if !self.socket.starts_with(&self.data_dir) {
            let _ = std::fs::remove_dir(&self.socket);
        }
    }

    /// The last lines of the log on one line, for the error of a start that failed.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        // Our own attempts to connect say nothing about the cause.
        let told = log.lines().rev().filter(|line| !line.contains("FATAL:  the database system is "));
        let lines: Vec<&str> = told.take(5).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        format!("{} (from {})", tail.join(" / "), self.log.display())
    }
}

/// A folder that its owner alone may enter. One that exists must be just that: the place may be one where anyone can write.
pub fn private_dir(path: &Path, owner: Owner) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) if owner.is_dropped => std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| text(path, e)),
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = path.symlink_metadata().map_err(|e| text(path, e))?;
            if found.is_dir() && found.mode() & 0o077 == 0 && (found.uid() == owner.uid || found.uid() == geteuid().as_raw()) {
                return std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| text(path, e));
            }
            Err(format!(
                "{} is not a folder that only the user of PostgreSQL may enter; remove it",
                path.display()
            ))
        }
        Err(error) => Err(text(path, error)),
    }
}

/// Ourselves; as root the owner of the cluster if there is one, else `postgres`, else `nobody`: initdb refuses root.
fn owner(cluster: &Path) -> Result<Owner, String> {
    let uid = geteuid();
    if !uid.is_root() {
        return Ok(Owner::ourselves());
    }
    if let Ok(metadata) = cluster.symlink_metadata()
        && metadata.uid() != 0
    {
        return Ok(Owner {
            uid: metadata.uid(),
            gid: metadata.gid(),
            is_dropped: true,
        });
    }
    let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    let user = user.ok_or("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")?;
    Ok(Owner {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        is_dropped: true,
    })
}

/// Sees to it that the owner can reach the folder. Only the folder itself is opened (for passing through), and only if it is ours.
fn open_the_way(data_dir: &Path, owner: Owner, is_ours: bool) -> Result<(), String> {
    let closed = |path: &Path| -> Result<bool, String> {
        let metadata = path.metadata().map_err(|e| text(path, e))?;
        let bit = match () {
            () if metadata.uid() == owner.uid => 0o100,
            () if metadata.gid() == owner.gid => 0o010,
            () => 0o001,
        };
        Ok(metadata.mode() & bit == 0)
    };
    for ancestor in data_dir.ancestors().skip(1) {
        if closed(ancestor)? {
            return Err(format!(
                "{} cannot hold the database: as root PostgreSQL runs under an unprivileged user (uid {}), and {} is closed to it. \
                 Choose another place with --data-dir, as /var/lib/eds",
                data_dir.display(),
                owner.uid,
                ancestor.display()
            ));
        }
    }
    if !closed(data_dir)? {
        return Ok(());
    }
    if !is_ours {
        return Err(format!(
            "{} is closed to the user of PostgreSQL (uid {}) and holds other things",
            data_dir.display(),
            owner.uid
        ));
    }
    let mode = data_dir.metadata().map_err(|e| text(data_dir, e))?.mode() & 0o777 | 0o111;
    std::fs::set_permissions(data_dir, Permissions::from_mode(mode)).map_err(|e| text(data_dir, e))
}

/// Held until the process ends, however it ends; child processes do not inherit it.
fn lock(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW);
    let file = options.open(path).map_err(|e| text(path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let folder = path.parent().unwrap_or(path).display();
            Err(format!(
                "another eds server uses the data folder {folder}: stop it, or give this one a folder of its own with --data-dir"
            ))
        }
        Err(TryLockError::Error(error)) => Err(text(path, error)),
    }
}

/// Inside the data folder, or under /tmp with a name of fixed length when that path is too long for a socket.
fn socket(data_dir: &Path) -> PathBuf {
    let inside = data_dir.join("socket");
    if inside.as_os_str().len() <= SOCKET_DIR_BYTES_MAX {
        return inside;
    }
    PathBuf::from(format!("/tmp/eds-{:016x}", xxh3_64(data_dir.as_os_str().as_encoded_bytes())))
}

/// Whether the owner may do what `test` asks (`-r`, `-w`), with the folders above.
pub fn may(owner: Owner, what: &str, path: &Path) -> Result<bool, String> {
    let mut test = Command::new("test");
    test.arg(what).arg(path);
    if owner.is_dropped {
        test.uid(owner.uid).gid(owner.gid);
    }
    test.status().map(|status| status.success()).map_err(|e| format!("test: {e}"))
}

/// Makes the names in a folder durable.
pub fn sync(dir: &Path) -> Result<(), String> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| text(dir, e))
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

pub fn text(path: &Path, error: io::Error) -> String {
    format!("{}: {error}", path.display())
}
