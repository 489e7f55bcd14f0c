//! The archive of the write-ahead log: PostgreSQL hands over each segment when it is full, and a copy that is on disk is kept in a folder.
//!
//! A segment has its name only when it is whole and synced. A file that is there is never overwritten: the same content is success (the
//! answer to the last attempt was lost), another content is a failure that `eds doctor` tells.
//! <https://www.postgresql.org/docs/15/continuous-archiving.html#BACKUP-ARCHIVING-WAL>

use crate::store::cluster::folder;
use crate::store::cluster::folder::Owner;
use crate::store::cluster::folder::text;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

/// Segments of one log file number, at PostgreSQL's default size of 16 MiB for a segment.
const SEGMENTS_OF_A_LOG: u64 = 256;
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// The head of a segment's first page (`XLogLongPageHeaderData`): where in the log the page stands, and the cluster that wrote it.
const HEAD_BYTES: usize = 32;
const HEAD_ADDRESS: std::ops::Range<usize> = 8..16;
const HEAD_SYSTEM: std::ops::Range<usize> = 24..32;

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

/// Errors: a segment between others is missing, or the history of a timeline, so that what lies behind it cannot be restored. `first` is the
/// first that a backup needs; `own` is the folder of those that it carries itself.
pub fn check_whole(archive: &Path, own: &Path, first: &str) -> Result<(), String> {
    let (first_timeline, first_number) = segment(first).ok_or_else(|| format!("{first} is no name of a segment"))?;
    let names: Vec<String> = [names(archive)?, names(own)?].concat();
    let histories: HashSet<u64> = names.iter().filter_map(|name| history(name)).collect();
    let mut segments: Vec<(u64, u64)> = names.iter().filter_map(|name| segment(name)).collect();
    // The timelines that began later branch off somewhere behind the begin of the backup.
    segments.retain(|(timeline, number)| *timeline >= first_timeline && *number >= first_number);
    segments.sort_unstable();
    for (timeline, number) in &segments {
        if *timeline > first_timeline && !histories.contains(timeline) {
            return Err(format!(
                "the WAL archive {} has the segment {} and lacks {timeline:08X}.history, without which nobody finds that: put it back, or move the \
                 segments of this timeline away",
                archive.display(),
                name(*timeline, *number)
            ));
        }
    }
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

/// The segments of the archive that a backup with this first one needs or can use, in the order of the log; without those that it carries itself.
pub fn segments(archive: &Path, first: &str) -> Result<Vec<String>, String> {
    let first = segment(first).ok_or_else(|| format!("{first} is no name of a segment"))?;
    let mut names = names(archive)?;
    names.retain(|name| segment(name).is_some_and(|(timeline, number)| timeline >= first.0 && number >= first.1));
    names.sort_unstable();
    Ok(names)
}

/// The names of the histories of timelines.
pub fn histories(folder: &Path) -> Result<Vec<String>, String> {
    let mut names = names(folder)?;
    names.retain(|name| history(name).is_some());
    names.sort_unstable();
    Ok(names)
}

/// Errors: a segment is not whole, is not what its name says, or is of another cluster than this `system`. PostgreSQL takes such a one for the
/// end of the log.
pub fn check_head(archive: &Path, name: &str, system: u64) -> Result<(), String> {
    let path = archive.join(name);
    let mut file = File::open(&path).map_err(|e| text(&path, e))?;
    let length = file.metadata().map_err(|e| text(&path, e))?.len();
    if length != SEGMENT_BYTES {
        return Err(format!(
            "{} has {length} bytes, and a segment has {SEGMENT_BYTES}: it is damaged",
            path.display()
        ));
    }
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head).map_err(|e| text(&path, e))?;
    let number = |range: std::ops::Range<usize>| head[range].try_into().map(u64::from_ne_bytes).unwrap_or_default();
    if number(HEAD_SYSTEM) != system {
        return Err(format!(
            "{} is of another database than the backup, or damaged: the archive of each needs a folder of its own",
            path.display()
        ));
    }
    if Some(number(HEAD_ADDRESS)) != begin(name) {
        return Err(format!(
            "{} holds another segment than its name says, or is damaged",
            path.display()
        ));
    }
    Ok(())
}

/// The place in the log where a segment begins.
pub fn begin(name: &str) -> Option<u64> {
    segment(name).map(|(_, number)| number * SEGMENT_BYTES)
}

/// Segments and histories that are still to be archived.
pub fn waiting(cluster: &Path) -> usize {
    let entries = std::fs::read_dir(cluster.join("pg_wal/archive_status"));
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.as_encoded_bytes().ends_with(b".ready")).count()
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| text(folder, e))?;
    let names = entries.map(|entry| Ok(entry.map_err(|e| text(folder, e))?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// The timeline of `00000002.history`.
fn history(name: &str) -> Option<u64> {
    let timeline = name.strip_suffix(".history").filter(|timeline| timeline.len() == 8)?;
    u64::from_str_radix(timeline, 16).ok()
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
    fn a_timeline_without_its_history_is_told_unless_the_backup_is_of_it() {
        let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let put = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        [name(1, 3), name(2, 3)].iter().for_each(|name| put(name));
        let check = |first: &str| check_whole(dir.path(), own.path(), first);
        assert!(check(&name(1, 3)).unwrap_err().contains("00000002.history"));
        assert_eq!(check(&name(2, 3)), Ok(()));
        put("00000002.history");
        assert_eq!(check(&name(1, 3)), Ok(()));
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
