//! Files that an operator names: only regular ones are opened, and a file system that stopped answering, such as a dead
//! NFS server, holds up a bounded number of threads.
//!
//! A call into such a file system cannot be cancelled. While one is overdue, further calls for its file are refused; with
//! some of them, further calls into its directory.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// Time in which a file system must answer `stat` and `open`.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of calls into one directory that have not returned.
const CALLS: usize = 128;
/// Number of files with overdue calls that condemn their directory: one of them may be a link to elsewhere.
const OVERDUE_FILES: usize = 3;

/// The calls that have not returned, by directory.
static CALLS_UNDER_WAY: LazyLock<Mutex<HashMap<PathBuf, Vec<Call>>>> = LazyLock::new(Mutex::default);

/// A call that has not returned: its file, and when it began.
type Call = (PathBuf, Instant);

/// Opens a regular file for reading, without waiting for the writer of a FIFO or for a device.
///
/// # Errors
/// The file system's error; `InvalidInput` for what is no regular file; `TimedOut` where the file system does not answer
/// earlier calls.
pub fn open(path: &Path) -> io::Result<File> {
    call(path, || {
        // A device may act when it is opened, as a watchdog does.
        regular(&std::fs::metadata(path)?)?;
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        regular(&file.metadata()?)?;
        Ok(file)
    })
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// Those of [`open`]; `FileTooLarge` for a larger file.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    call(path, || file.take(limit.saturating_add(1)).read_to_end(&mut bytes))?;
    match bytes.len() as u64 > limit {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

/// Returns the metadata of what a path names.
///
/// # Errors
/// The file system's error; `TimedOut` where it does not answer earlier calls.
pub fn stat(path: &Path) -> io::Result<Metadata> {
    call(path, || std::fs::metadata(path))
}

/// Returns the error of a file system that does not answer.
pub fn no_answer() -> io::Error {
    let message = format!("the file system has not answered for {} s", ANSWER_TIMEOUT.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Makes a call for a path, unless earlier calls for it or its directory are overdue.
fn call<T>(path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    call_below(path.parent().unwrap_or(path), path, work)
}

/// Makes a call for a path at any depth below a directory, unless earlier calls for it or below the directory are overdue.
///
/// # Errors
/// The call's own; `TimedOut` where the file system does not answer earlier calls.
pub fn call_below<T>(directory: &Path, path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    {
        let mut calls = calls_under_way();
        let waiting = calls.entry(directory.to_owned()).or_default();
        let overdue = waiting.iter().filter(|(_, earlier)| began.duration_since(*earlier) > ANSWER_TIMEOUT);
        let files: HashSet<&Path> = overdue.map(|(file, _)| file.as_path()).collect();
        if files.contains(path) || files.len() >= OVERDUE_FILES || waiting.len() >= CALLS {
            return Err(no_answer());
        }
        waiting.push((path.to_owned(), began));
    }
    let result = work();
    let mut calls = calls_under_way();
    if let Some(waiting) = calls.get_mut(directory) {
        if let Some(place) = waiting.iter().position(|(file, earlier)| file == path && *earlier == began) {
            waiting.swap_remove(place);
        }
        if waiting.is_empty() {
            calls.remove(directory);
        }
    }
    result
}

fn calls_under_way() -> MutexGuard<'static, HashMap<PathBuf, Vec<Call>>> {
    CALLS_UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("device")).unwrap();
        let made =
            rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0);
        made.unwrap();
        for name in ["file", "link"] {
            assert_eq!(read(&path(name), 4).unwrap(), b"text", "{name}");
        }
        assert_eq!(read(&path("file"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for name in ["fifo", "device", "."] {
            assert_eq!(open(&path(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(open(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_overdue_call_has_the_next_ones_refused_until_it_returns() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "text").unwrap();
        let overdue = Instant::now().checked_sub(ANSWER_TIMEOUT * 2).unwrap();
        let overdue = |name: &str| (place.path().join(name), overdue);
        let rows = [
            (vec![overdue("file")], true),
            (vec![overdue("other")], false),
            (vec![overdue("other"); 9], false),
            (vec![overdue("a"), overdue("b"), overdue("c")], true),
            (vec![(path.clone(), Instant::now())], false),
        ];
        for (calls, is_refused) in rows {
            calls_under_way().insert(place.path().to_owned(), calls.clone());
            assert_eq!(stat(&path).is_err(), is_refused, "{calls:?}");
        }
        calls_under_way().insert(place.path().to_owned(), vec![(path.clone(), Instant::now()); CALLS]);
        assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::TimedOut);
        calls_under_way().remove(place.path());
        assert!(stat(&path).is_ok() && open(&path).is_ok());
        assert!(!calls_under_way().contains_key(place.path()));
    }
}
