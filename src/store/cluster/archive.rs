//! The archive of the write-ahead log: PostgreSQL hands over each segment when it is full, and a copy that is on disk is kept in a folder.
//!
//! A segment has its name only when it is whole and synced. A file that is there is never overwritten: the same content is success (the
//! answer to the last attempt was lost), another content is a failure that `eds doctor` tells.
//! <https://www.postgresql.org/docs/15/continuous-archiving.html#BACKUP-ARCHIVING-WAL>

use crate::store::cluster::folder;
use crate::store::cluster::folder::Owner;
use crate::store::cluster::folder::text;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

/// Segments of one log file number, at PostgreSQL's default size of 16 MiB for a segment.
const SEGMENTS_OF_A_LOG: u64 = 256;

/// Where segments go, and how long one may wait to be full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    pub folder: PathBuf,
    pub timeout_s: u64,
}

impl Archive {
    /// Sees to it that the folder is there and the owner of the cluster can write into it.
    pub fn prepare(&self, owner: Owner) -> Result<(), String> {
        check_path(&self.folder)?;
        if !self.folder.exists() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o755);
            if let Some(parent) = self.folder.parent() {
                builder.create(parent).map_err(|e| text(parent, e))?;
            }
            folder::private_dir(&self.folder, owner)?;
        }
        match folder::may(owner, "-w", &self.folder)? {
            true => Ok(()),
            false => Err(format!(
                "backup.wal_archive: the user of PostgreSQL (uid {}) cannot write into {}: chown it, and let that user pass through the folders above it",
                owner.uid,
                self.folder.display()
            )),
        }
    }

    /// The settings of PostgreSQL that archive.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("archive_mode", "on".to_owned()),
            ("archive_timeout", format!("{}s", self.timeout_s)),
            ("archive_command", command(&self.folder)),
        ]
    }
}

/// `%p` is the segment, `%f` its name. What is found identical is synced too: the attempt that wrote it may have been cut before it was.
fn command(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "if test -f '{folder}/%f'; then cmp -s \"%p\" '{folder}/%f' && sync '{folder}/%f' '{folder}'; \
         else cp \"%p\" '{folder}/%f.part' && sync '{folder}/%f.part' && mv '{folder}/%f.part' '{folder}/%f' && sync '{folder}'; fi"
    )
}

/// The path stands in a shell command of PostgreSQL, in quotes.
pub fn check_path(folder: &Path) -> Result<(), String> {
    let is_plain = |c: char| !c.is_control() && !"'%\\".contains(c);
    match folder.to_str() {
        Some(path) if folder.is_absolute() && path.chars().all(is_plain) => Ok(()),
        _ => Err(format!(
            "{}: the folder of the WAL archive needs an absolute path without quotes, per cent signs and backslashes",
            folder.display()
        )),
    }
}

/// Errors: a segment between others is missing, so that what lies behind it cannot be restored. `first` is the first that a backup needs;
/// `own` is the folder of those that it carries itself.
pub fn check_whole(archive: &Path, own: &Path, first: &str) -> Result<(), String> {
    let mut segments: Vec<(u64, u64)> = Vec::new();
    for folder in [archive, own] {
        for entry in std::fs::read_dir(folder).map_err(|e| text(folder, e))? {
            let name = entry.map_err(|e| text(folder, e))?.file_name();
            segments.extend(name.to_str().and_then(segment));
        }
    }
    let (first_timeline, first_number) = segment(first).ok_or_else(|| format!("{first} is no name of a segment"))?;
    // The timelines that began later branch off somewhere behind the begin of the backup.
    segments.retain(|(timeline, number)| *timeline >= first_timeline && *number >= first_number);
    segments.sort_unstable();
    for pair in segments.windows(2) {
        let ((timeline, number), (next_timeline, next)) = (pair[0], pair[1]);
        if timeline == next_timeline && next > number + 1 {
            return Err(format!(
                "the WAL archive {} lacks the segment {}: nothing behind it can be restored. Put it back, or move those behind it away",
                archive.display(),
                name(timeline, number + 1)
            ));
        }
    }
    Ok(())
}

/// Timeline and number of a whole segment; histories, partial ones and what else lies there are none.
fn segment(name: &str) -> Option<(u64, u64)> {
    if name.len() != 24 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| u64::from_str_radix(&name[range], 16).ok();
    Some((part(0..8)?, part(8..16)? * SEGMENTS_OF_A_LOG + part(16..24)?))
}

fn name(timeline: u64, number: u64) -> String {
    format!("{timeline:08X}{:08X}{:08X}", number / SEGMENTS_OF_A_LOG, number % SEGMENTS_OF_A_LOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_segments_are_numbers_that_go_on_over_the_logs() {
        assert_eq!(segment("0000000100000000000000FF"), Some((1, 255)));
        assert_eq!(segment("000000020000000100000000"), Some((2, 256)));
        assert_eq!(name(2, 256), "000000020000000100000000");
        for other in [
            "00000002.history",
            "000000010000000000000003.partial",
            "000000010000000000000003.part",
        ] {
            assert_eq!(segment(other), None);
        }
    }

    #[test]
    fn a_missing_segment_is_named_unless_the_backup_does_not_need_it() {
        let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let put = |number: u64| std::fs::write(dir.path().join(name(1, number)), "").unwrap();
        [1, 3, 4, 255, 256].into_iter().for_each(put);
        let check = |first: u64| check_whole(dir.path(), own.path(), &name(1, first));
        assert!(check(1).unwrap_err().contains("000000010000000000000002"));
        assert!(check(3).unwrap_err().contains("000000010000000000000005"));
        assert_eq!(check(255), Ok(()));
        // The backup's own are not in the archive, if that was begun later.
        std::fs::write(own.path().join(name(1, 254)), "").unwrap();
        assert_eq!(check(254), Ok(()));
        std::fs::rename(own.path().join(name(1, 254)), own.path().join(name(1, 253))).unwrap();
        assert!(check(253).unwrap_err().contains("0000000100000000000000FE"));
        put(258);
        assert!(check(255).unwrap_err().contains("000000010000000100000001"));
    }

    #[test]
    fn the_archive_command_keeps_what_is_there_and_fails_when_that_differs() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("an archive");
        std::fs::create_dir(&archive).unwrap();
        let run = |content: &str| {
            let segment = dir.path().join("segment");
            std::fs::write(&segment, content).unwrap();
            let command = command(&archive).replace("%p", segment.to_str().unwrap()).replace("%f", "0001");
            std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success()
        };
        // What an attempt left that was cut.
        std::fs::write(archive.join("0001.part"), "ha").unwrap();
        assert!(run("one") && run("one"));
        assert!(!run("two"));
        assert_eq!(std::fs::read_to_string(archive.join("0001")).unwrap(), "one");
        assert_eq!(std::fs::read_dir(&archive).unwrap().count(), 1);
    }

    #[test]
    fn a_path_that_would_end_the_quotes_is_refused() {
        for path in ["/a/it's", "/a/100%", "relative", "/a/b\n"] {
            assert!(check_path(Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(check_path(Path::new("/srv/è un nome")), Ok(()));
    }
}
