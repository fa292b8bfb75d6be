//! The content of a file for transfers, and the directory of the site's own files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use nix::fcntl::{OFlag, OpenHow, PosixFadviseAdvice, ResolveFlag, openat2, posix_fadvise};
use nix::sys::stat::Mode;

use crate::iso::{self, ReadAt};
use crate::tftp::path::RelativePath;

/// Maximum number of directory entries that are searched for a name in another case.
const MAX_SEARCHED_ENTRIES: usize = 4096;

/// Maximum size of a file that is read into memory at once, in octets. It needs no descriptor, and the kernel extends
/// the descriptor table only after milliseconds.
const MAX_BUFFERED_BYTES: u64 = 4 << 10;
/// Minimum size of a file for which the kernel is advised to read ahead, in octets. It reads smaller ones ahead by
/// itself.
const MIN_READ_AHEAD_BYTES: u64 = 128 << 10;

/// The content of a file, shared by any number of transfers.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// Bytes in memory.
    Shared(Bytes),
    /// An open file, read while it is sent.
    File(Arc<File>, u64),
    /// A file within an image.
    Medium(Arc<dyn ReadAt>),
}

impl FileContent {
    /// Returns the size in octets.
    pub fn size(&self) -> u64 {
        match self {
            FileContent::Shared(bytes) => bytes.len() as u64,
            FileContent::File(_, size) => *size,
            FileContent::Medium(medium) => medium.len(),
        }
    }

    /// Fills a buffer with the octets from a position on, if that is possible without waiting for a disk.
    ///
    /// # Errors
    /// `WouldBlock` if it is not, `UnexpectedEof` outside of the size, and those of preadv2(2). The buffer may have
    /// changed then.
    fn fill_now(&self, at: u64, room: &mut [u8]) -> io::Result<()> {
        if room.is_empty() {
            return Ok(());
        }
        match self {
            FileContent::Shared(_) => {
                let octets = self.shared(&(at..at.saturating_add(room.len() as u64)));
                room.copy_from_slice(octets.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            FileContent::File(file, _) => iso::try_read_file_at(file, at, room),
            FileContent::Medium(medium) => medium.try_read_at(at, room),
        }
    }

    /// Returns a range of bytes in memory; `None` if the content is in a file, or the range outside of the size.
    pub fn shared(&self, span: &Range<u64>) -> Option<&[u8]> {
        let FileContent::Shared(bytes) = self else { return None };
        bytes.get(usize::try_from(span.start).ok()?..usize::try_from(span.end).ok()?)
    }

    /// Returns the octets of a range within the size: a slice of shared bytes, or a copy. May wait for a disk.
    ///
    /// # Errors
    /// Those of pread(2), and `UnexpectedEof` if the file was truncated.
    pub fn part(&self, span: Range<u64>) -> io::Result<Bytes> {
        if let FileContent::Shared(bytes) = self {
            let start = usize::try_from(span.start).map_err(io::Error::other)?;
            let end = usize::try_from(span.end).map_err(io::Error::other)?;
            let within = start <= end && end <= bytes.len();
            return within.then(|| bytes.slice(start..end)).ok_or(io::ErrorKind::UnexpectedEof.into());
        }
        let mut part = vec![0; length(&span)?];
        match self {
            FileContent::Shared(_) => {}
            FileContent::File(file, _) => file.read_exact_at(&mut part, span.start)?,
            FileContent::Medium(medium) => medium.read_at(span.start, &mut part)?,
        }
        Ok(part.into())
    }

    /// Returns the octets of a range within the size, if that is possible without waiting for a disk.
    ///
    /// # Errors
    /// `WouldBlock` if it is not, `UnexpectedEof` outside of the size, and those of preadv2(2).
    pub fn part_now(&self, span: Range<u64>) -> io::Result<Bytes> {
        if let FileContent::Shared(_) = self {
            return self.part(span);
        }
        let mut part = vec![0; length(&span)?];
        self.fill_now(span.start, &mut part)?;
        Ok(part.into())
    }
}

fn length(span: &Range<u64>) -> io::Result<usize> {
    usize::try_from(span.end.saturating_sub(span.start)).map_err(io::Error::other)
}

/// Octets of a file in memory, by the position of the first.
#[derive(Debug, Default)]
pub struct ReadAhead {
    start: u64,
    octets: Vec<u8>,
}

impl ReadAhead {
    /// Creates the octets from a position on.
    pub fn new(start: u64, octets: Vec<u8>) -> Self {
        Self { start, octets }
    }

    /// Returns the octets of a range, if all of them are here.
    pub fn part(&self, span: &Range<u64>) -> Option<&[u8]> {
        let start = usize::try_from(span.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(span.end.checked_sub(self.start)?).ok()?;
        self.octets.get(start..end)
    }

    /// Reads a range of a file in place of the octets, and up to `share` octets from its start on, if that is possible
    /// without waiting for a disk. One read is cheaper than one a block.
    ///
    /// # Errors
    /// As [`FileContent::part_now`]. Nothing is held then.
    pub fn refill(&mut self, content: &FileContent, span: Range<u64>, share: u64) -> io::Result<()> {
        let more = span.start..span.end.max(span.start.saturating_add(share)).min(content.size());
        // What follows the range may not be in memory, or may be gone.
        self.read(content, more).or_else(|_| self.read(content, span))
    }

    fn read(&mut self, content: &FileContent, span: Range<u64>) -> io::Result<()> {
        self.start = span.start;
        // Not cleared first: octets that are overwritten need no zeros.
        self.octets.resize(length(&span)?, 0);
        let read = content.fill_now(span.start, &mut self.octets);
        read.inspect_err(|_| self.octets.clear())
    }
}

/// The directory of site files. No name and no link opens anything outside of it.
#[derive(Debug)]
pub struct SiteFolder {
    root: OwnedFd,
    /// The files of current transfers: clients of one file share one descriptor.
    open: Mutex<HashMap<ContentIdentity, Weak<File>>>,
}

/// The identity of a file and its version: device, inode, size, change time in seconds and nanoseconds.
type ContentIdentity = (u64, u64, u64, i64, i64);

/// The reason a site file is not served.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// No file has the name.
    #[error("no such file")]
    NotFound,
    /// The file is outside of the directory, or no plain file.
    #[error("outside of the directory, or no plain file")]
    Outside,
    /// The file cannot be opened.
    #[error("cannot open the file")]
    Open(#[source] io::Error),
}

impl SiteFolder {
    /// Opens the directory. It stays the same directory if its name changes.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(SiteFolder { root: nix::fcntl::open(path, flags, Mode::empty())?, open: Mutex::default() })
    }

    /// Opens a file below the directory: the exact name, or else the name in any case.
    ///
    /// # Errors
    /// [`SiteError`]. A symbolic link is followed only within the directory.
    pub fn file(&self, path: &RelativePath) -> Result<FileContent, SiteError> {
        match self.open_below(path.as_str(), OFlag::O_RDONLY) {
            Err(SiteError::NotFound) => {}
            other => return self.content(File::from(other?)),
        }
        let mut spelled = String::new();
        for part in path.parts() {
            let folder = self.open_below(if spelled.is_empty() { "." } else { &spelled }, OFlag::O_DIRECTORY)?;
            let name = entry(folder, part)?.ok_or(SiteError::NotFound)?;
            if !spelled.is_empty() {
                spelled.push('/');
            }
            spelled.push_str(&name);
        }
        self.content(File::from(self.open_below(&spelled, OFlag::O_RDONLY)?))
    }

    fn content(&self, file: File) -> Result<FileContent, SiteError> {
        let about = file.metadata().map_err(SiteError::Open)?;
        if !about.is_file() {
            return Err(SiteError::Outside);
        }
        let size = about.len();
        if size <= MAX_BUFFERED_BYTES {
            let mut bytes = Vec::new();
            file.take(MAX_BUFFERED_BYTES).read_to_end(&mut bytes).map_err(SiteError::Open)?;
            return Ok(FileContent::Shared(bytes.into()));
        }
        let identity = (about.dev(), about.ino(), size, about.ctime(), about.ctime_nsec());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&identity).and_then(Weak::upgrade) {
            return Ok(FileContent::File(file, size));
        }
        if size > MIN_READ_AHEAD_BYTES {
            let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
        }
        open.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(file);
        open.insert(identity, Arc::downgrade(&file));
        Ok(FileContent::File(file, size))
    }

    fn open_below(&self, path: &str, flags: OFlag) -> Result<OwnedFd, SiteError> {
        // O_NONBLOCK: opening a FIFO must not wait for its writer.
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.root, path, how).map_err(|errno| match errno {
            nix::Error::ENOENT | nix::Error::ENOTDIR => SiteError::NotFound,
            nix::Error::EXDEV | nix::Error::ELOOP => SiteError::Outside,
            other => SiteError::Open(other.into()),
        })
    }
}

/// Returns the entry of a folder with this name in any case; of several, the first in order.
fn entry(folder: OwnedFd, part: &str) -> Result<Option<String>, SiteError> {
    let failed = |error: nix::Error| SiteError::Open(error.into());
    let mut folder = nix::dir::Dir::from_fd(folder).map_err(failed)?;
    let mut found: Option<String> = None;
    for entry in folder.iter().take(MAX_SEARCHED_ENTRIES) {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.eq_ignore_ascii_case(part) && found.as_deref().is_none_or(|best| name < best) {
            found = Some(name.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::path::{FileName, RequestedFile};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn site() -> (tempfile::TempDir, SiteFolder) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("site");
        fs::create_dir_all(root.join("Boot/x")).unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        fs::write(root.join("Boot/BCD"), "bcd").unwrap();
        fs::write(root.join("plain"), "plain").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(directory.path().join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("Boot/BCD", root.join("inside")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), Mode::S_IRWXU).unwrap();
        let folder = SiteFolder::open(&root).unwrap();
        (directory, folder)
    }

    fn read(site: &SiteFolder, name: &str) -> Result<String, SiteError> {
        let FileName::Plain(path) = RequestedFile::parse(name.as_bytes()).unwrap().file else { panic!("a plain name") };
        let content = site.file(&path)?;
        let text = content.part(0..content.size()).unwrap();
        Ok(String::from_utf8(text.into()).unwrap())
    }

    #[test]
    fn files_are_found_in_any_case() {
        let (_directory, site) = site();
        for (name, text) in
            [("plain", "plain"), ("PLAIN", "plain"), ("boot/bcd", "bcd"), ("\\BOOT\\BCD", "bcd"), ("inside", "bcd")]
        {
            assert_eq!(read(&site, name).unwrap(), text, "{name}");
        }
    }

    #[test]
    fn only_plain_files_inside_the_directory_are_served() {
        let (_directory, site) = site();
        for name in ["out", "absolute", "up/secret", "UP/secret", "OUT", "fifo", "Boot", "loop"] {
            assert!(matches!(read(&site, name), Err(SiteError::Outside)), "{name}");
        }
        for name in ["missing", "plain/x", "Boot/x/y"] {
            assert!(matches!(read(&site, name), Err(SiteError::NotFound)), "{name}");
        }
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let (directory, site) = site();
        let FileName::Plain(path) = RequestedFile::parse(b"plain").unwrap().file else { panic!("a plain name") };
        let plain = directory.path().join("site/plain");
        fs::write(&plain, vec![1; 100_000]).unwrap();
        let content = site.file(&path).unwrap();
        fs::write(&plain, "p").unwrap();
        assert!(content.part(0..content.size()).is_err());
    }

    #[test]
    fn clients_of_one_file_share_its_descriptor_until_it_changes() {
        let (directory, site) = site();
        let plain = directory.path().join("site/plain");
        fs::write(&plain, vec![1; 100_000]).unwrap();
        let FileName::Plain(path) = RequestedFile::parse(b"plain").unwrap().file else { panic!("a plain name") };
        let open = || match site.file(&path).unwrap() {
            FileContent::File(file, size) => (file, size),
            other => panic!("{other:?}"),
        };
        let (first, second) = (open(), open());
        assert!(Arc::ptr_eq(&first.0, &second.0));
        fs::write(&plain, vec![2; 100_001]).unwrap();
        let third = open();
        assert!(!Arc::ptr_eq(&first.0, &third.0));
        assert_eq!(third.1, 100_001);
    }

    #[test]
    fn a_bounded_number_of_names_is_compared() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..MAX_SEARCHED_ENTRIES {
            fs::write(directory.path().join(format!("file{number}")), "").unwrap();
        }
        let open = || nix::fcntl::open(directory.path(), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let mut folder = nix::dir::Dir::from_fd(open()).unwrap();
        let names: Vec<_> = folder.iter().map(|found| found.unwrap().file_name().to_owned()).collect();
        assert_eq!(names.len(), MAX_SEARCHED_ENTRIES + 2, "with the folder and the one above it");
        for (at, is_found) in [(MAX_SEARCHED_ENTRIES - 1, true), (MAX_SEARCHED_ENTRIES, false)] {
            let name = names[at].to_str().unwrap();
            let found = entry(open(), &name.to_uppercase()).unwrap();
            assert_eq!(found.as_deref(), is_found.then_some(name), "entry {at}");
        }
    }

    #[test]
    fn octets_are_found_by_their_position() {
        let ahead = ReadAhead::new(100, b"abcdef".to_vec());
        let rows: [(Range<u64>, Option<&[u8]>); 6] = [
            (100..106, Some(b"abcdef")),
            (102..104, Some(b"cd")),
            (106..106, Some(b"")),
            (99..101, None),
            (105..107, None),
            (0..0, None),
        ];
        for (span, octets) in rows {
            assert_eq!(ahead.part(&span), octets, "{span:?}");
        }
    }

    #[test]
    fn octets_are_read_ahead_as_far_as_the_file_and_the_share_allow() {
        let (directory, site) = site();
        let plain = directory.path().join("site/plain");
        let octets: Vec<u8> = (0..100_000u32).map(|at| at.to_le_bytes()[1]).collect();
        fs::write(&plain, &octets).unwrap();
        let FileName::Plain(path) = RequestedFile::parse(b"plain").unwrap().file else { panic!("a plain name") };
        let content = site.file(&path).unwrap();
        assert!(content.shared(&(0..1)).is_none(), "it is in a file");
        let mut ahead = ReadAhead::default();
        for (span, share, held) in
            [(0..1000, 4000, 4000), (5000..6000, 0, 1000), (99_000..99_500, 4000, 1000), (7..7, 5, 5)]
        {
            ahead.refill(&content, span.clone(), share).unwrap();
            let all = span.start..span.start + held;
            assert_eq!(ahead.part(&all), octets.get(all.start as usize..all.end as usize), "{span:?}");
            assert_eq!(ahead.part(&(all.start..all.end + 1)), None, "{span:?}");
        }
        fs::OpenOptions::new().write(true).open(&plain).unwrap().set_len(2000).unwrap();
        ahead.refill(&content, 0..1000, 4000).unwrap();
        assert_eq!(ahead.part(&(0..1000)), octets.get(..1000), "the rest is gone");
        assert!(ahead.refill(&content, 1500..2500, 0).is_err());
    }
}
