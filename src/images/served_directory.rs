//! Files below a directory of the operator's, opened again for each request: from what the kernel has in memory where
//! that is possible, else on a thread that may wait for a disk or a file server.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, fstatfs, openat2, statx};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use crate::images::library::{ImageView, tag};
use crate::iso::ImageFile;
use crate::iso::file::{ANSWER_TIMEOUT, call_below, no_answer};

/// Time for which the directory at the path is taken for the open one: a look costs a third of opening a file.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum number of calls that wait at the same time in the directory's own file system, and in all others below it; fewer
/// than `iso::file` allows.
const WAITING_CALLS: usize = 64;
/// Types of the file systems on local disks and in memory (statfs(2)), whose `open` waits for no server: ext2 to ext4, XFS,
/// Btrfs, tmpfs, ramfs, ZFS, F2FS, bcachefs, FAT, exFAT, EROFS, SquashFS, ISO 9660. Not overlayfs: a layer of it may be a
/// server's.
const LOCAL_TYPES: [u64; 13] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x8584_58f6,
    0x2fc1_2fc1,
    0xf2f5_2010,
    0xca45_1a4e,
    0x4d44,
    0x2011_bab0,
    0xe0f5_e1e2,
    0x7371_7368,
    0x9660,
];
/// Errors that mean that there is no such file, or that its path leads out of the directory.
const MISSING: [Errno; 7] =
    [Errno::INVAL, Errno::NOENT, Errno::NOTDIR, Errno::XDEV, Errno::LOOP, Errno::NXIO, Errno::NAMETOOLONG];

/// A directory whose files are served.
#[derive(Debug)]
pub struct ServedDirectory {
    path: PathBuf,
    /// The directory as it was found last, if its file system is local.
    local: Mutex<Option<LocalRoot>>,
    /// Places for calls that wait, by the reach of the call.
    near: Arc<Semaphore>,
    far: Arc<Semaphore>,
}

/// How far a path may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Within the file system of the directory.
    Near,
    /// Into other file systems that are mounted below it.
    Far,
}

/// An open directory on a local file system. While it is open, no other has its numbers.
#[derive(Debug)]
struct LocalRoot {
    directory: Arc<OwnedFd>,
    /// Numbers of the device and of the inode.
    identity: (u32, u32, u64),
    /// Time when the path was found to lead to the open directory.
    looked: Instant,
}

impl ServedDirectory {
    /// Makes the directory at a path.
    pub fn new(path: PathBuf) -> Self {
        let places = || Arc::new(Semaphore::new(WAITING_CALLS));
        Self { path, local: Mutex::default(), near: places(), far: places() }
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file; `None` if there is none, or if the path or a link leads out of the directory.
    ///
    /// # Errors
    /// As [`Self::open`]; `TimedOut` after `ANSWER_TIMEOUT`, too.
    pub async fn find(self: &Arc<Self>, path: &str) -> io::Result<Option<ImageView>> {
        match self.try_open(path, Instant::now()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            found => return found,
        }
        let waited = async {
            match self.wait_for(path, Reach::Near).await {
                Err(error) if is_far(&error) => self.wait_for(path, Reach::Far).await,
                found => found,
            }
        };
        found(tokio::time::timeout(ANSWER_TIMEOUT, waited).await.unwrap_or_else(|_| Err(no_answer())))
    }

    /// Opens a file on a thread that may wait. Other file systems have places of their own: one that does not answer holds up
    /// no file beside it.
    async fn wait_for(self: &Arc<Self>, path: &str, reach: Reach) -> io::Result<Option<ImageView>> {
        let places = match reach {
            Reach::Near => &self.near,
            Reach::Far => &self.far,
        };
        let permit = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (directory, wanted) = (self.clone(), path.to_owned());
        let work = move || {
            // The permit is the thread's: a call that does not return keeps it.
            let found = directory.open_within(&wanted, reach);
            drop(permit);
            found
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    /// Opens a file from what the kernel has in memory; `None` if there is none. Waits for no disk and no server; a program
    /// that watches the opening of files (fanotify) may hold it up.
    ///
    /// # Errors
    /// `WouldBlock` if the caller must use [`Self::open`], on a thread that may wait.
    pub fn try_open(&self, path: &str, now: Instant) -> io::Result<Option<ImageView>> {
        let must_wait = || io::Error::from(io::ErrorKind::WouldBlock);
        let root = self.known(now).ok_or_else(must_wait)?;
        // Another file system below the directory may be a server's.
        match file(&*root, path, ResolveFlags::CACHED | ResolveFlags::NO_XDEV) {
            Ok(file) => view(file, AtFlags::STATX_DONT_SYNC),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(_) => Err(must_wait()),
        }
    }

    /// Opens a file; `None` if there is none, or if the path or a link leads out of the directory. May wait, for a bounded
    /// number of threads.
    ///
    /// # Errors
    /// Any other error of the file system; `TimedOut` where it does not answer earlier calls.
    pub fn open(&self, path: &str) -> io::Result<Option<ImageView>> {
        found(match self.open_within(path, Reach::Near) {
            Err(error) if is_far(&error) => self.open_within(path, Reach::Far),
            opened => opened,
        })
    }

    /// Opens a file, and takes the calls below each name of the directory for those of one file system.
    fn open_within(&self, path: &str, reach: Reach) -> io::Result<Option<ImageView>> {
        let (below, resolve) = match reach {
            Reach::Near => (self.path.clone(), ResolveFlags::NO_XDEV),
            Reach::Far => (self.path.join(path.split('/').next().unwrap_or_default()), ResolveFlags::empty()),
        };
        call_below(&below, &self.path.join(path), || {
            let root = Arc::new(self.root(ResolveFlags::empty())?);
            self.note(&root);
            view(file(&root, path, resolve)?, AtFlags::empty())
        })
    }

    /// Returns the open directory, if it is still the one at the path, on a local file system; `None` if the caller must
    /// look. Never waits.
    fn known(&self, now: Instant) -> Option<Arc<OwnedFd>> {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let root = local.as_mut()?;
        if now.saturating_duration_since(root.looked) >= LOOK_INTERVAL {
            let found = self.root(ResolveFlags::CACHED).and_then(|root| identity(&root, AtFlags::STATX_DONT_SYNC));
            if found != Ok(root.identity) {
                return None;
            }
            root.looked = now;
        }
        Some(root.directory.clone())
    }

    fn root(&self, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        openat2(CWD, &self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Keeps the directory open if it is on a local file system. May wait.
    fn note(&self, directory: &Arc<OwnedFd>) {
        let is_local = fstatfs(directory).is_ok_and(|about| LOCAL_TYPES.contains(&(about.f_type as u64)));
        let identity = is_local.then(|| identity(directory, AtFlags::empty()).ok()).flatten();
        let (directory, looked) = (directory.clone(), Instant::now());
        let local = identity.map(|identity| LocalRoot { directory, identity, looked });
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = local;
    }
}

/// Returns whether a path leads into another file system, or out of the directory.
fn is_far(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::XDEV.raw_os_error())
}

/// Returns an opened file; `None` for an error that means that there is none.
fn found(opened: io::Result<Option<ImageView>>) -> io::Result<Option<ImageView>> {
    match opened {
        Err(error) if MISSING.iter().any(|none| error.raw_os_error() == Some(none.raw_os_error())) => Ok(None),
        opened => opened,
    }
}

/// Opens a file below a directory.
fn file(root: impl AsFd, path: &str, resolve: ResolveFlags) -> rustix::io::Result<File> {
    // NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), within | resolve).map(File::from)
}

/// Returns an open file as its readers see it; `None` for what is no regular file.
fn view(file: File, how: AtFlags) -> io::Result<Option<ImageView>> {
    let about = status(&file, how)?;
    if FileType::from_raw_mode(about.stx_mode.into()) != FileType::RegularFile {
        return Ok(None);
    }
    let since = u64::try_from(about.stx_mtime.tv_sec).ok();
    let modified = since.map(|seconds| SystemTime::UNIX_EPOCH + Duration::new(seconds, about.stx_mtime.tv_nsec));
    // The time of the last change of the inode tells two builds apart that have one length and one time.
    let changed = (about.stx_ctime.tv_sec, about.stx_ctime.tv_nsec);
    let tag = format!("{}-{:x}-{:x}", tag((about.stx_size, modified)), changed.0, changed.1);
    Ok(Some(ImageView::plain(Arc::new(ImageFile::with_length(file, about.stx_size)), tag)))
}

/// Returns what the kernel knows about an open file or directory. With `STATX_DONT_SYNC` it asks no server.
fn status(file: impl AsFd, how: AtFlags) -> rustix::io::Result<Statx> {
    statx(file, c"", AtFlags::EMPTY_PATH | how, StatxFlags::BASIC_STATS)
}

/// Returns the numbers of an open directory's device and inode.
fn identity(directory: impl AsFd, how: AtFlags) -> rustix::io::Result<(u32, u32, u64)> {
    let about = status(directory, how)?;
    Ok((about.stx_dev_major, about.stx_dev_minor, about.stx_ino))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> (tempfile::TempDir, ServedDirectory) {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("files/sub")).unwrap();
        std::fs::write(place.path().join("files/sub/a"), "first").unwrap();
        std::fs::write(place.path().join("secret"), "secret").unwrap();
        let directory = ServedDirectory::new(place.path().join("files"));
        (place, directory)
    }

    fn text(view: Option<ImageView>) -> Option<String> {
        let medium = view?.medium;
        let mut bytes = vec![0; medium.len() as usize];
        medium.read_at(0, &mut bytes).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    /// Reads a file without waiting, after a read that may wait.
    fn read(directory: &ServedDirectory, path: &str) -> Option<String> {
        let waited = text(directory.open(path).unwrap());
        match directory.try_open(path, Instant::now()) {
            Ok(at_once) => assert_eq!(text(at_once), waited, "{path}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{path}"),
        }
        waited
    }

    #[test]
    fn a_file_is_read_at_once_where_the_file_system_is_known() {
        let (_place, directory) = directory();
        let error = directory.try_open("sub/a", Instant::now()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(text(directory.open("sub/a").unwrap()).as_deref(), Some("first"));
        let at_once = directory.try_open("sub/a", Instant::now()).unwrap();
        assert_eq!(text(at_once).as_deref(), Some("first"));
    }

    #[test]
    fn a_replaced_file_and_a_replaced_directory_are_seen_at_once() {
        let (place, directory) = directory();
        let path = |name: &str| place.path().join(name);
        assert_eq!(read(&directory, "sub/a").as_deref(), Some("first"));
        std::fs::write(path("files/sub/b"), "other").unwrap();
        std::fs::rename(path("files/sub/b"), path("files/sub/a")).unwrap();
        assert_eq!(text(directory.try_open("sub/a", Instant::now()).unwrap()).as_deref(), Some("other"));
        std::fs::create_dir_all(path("new/sub")).unwrap();
        std::fs::write(path("new/sub/a"), "third").unwrap();
        std::fs::rename(path("files"), path("old")).unwrap();
        std::fs::rename(path("new"), path("files")).unwrap();
        let later = Instant::now() + LOOK_INTERVAL;
        assert!(directory.try_open("sub/a", later).is_err(), "it is another directory");
        assert_eq!(read(&directory, "sub/a").as_deref(), Some("third"));
        std::fs::remove_file(path("files/sub/a")).unwrap();
        assert_eq!(read(&directory, "sub/a"), None);
    }

    #[test]
    fn only_regular_files_within_the_directory_are_opened() {
        let (place, directory) = directory();
        let path = |name: &str| place.path().join(name);
        symlink("sub/a", path("files/near")).unwrap();
        symlink("../secret", path("files/out")).unwrap();
        symlink(path("secret"), path("files/whole")).unwrap();
        symlink("loop", path("files/loop")).unwrap();
        rustix::fs::mknodat(CWD, path("files/fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(read(&directory, "near").as_deref(), Some("first"));
        let long = "x".repeat(300);
        for name in [
            "out",
            "whole",
            "loop",
            "fifo",
            "sub",
            "none",
            "../secret",
            "sub/../../secret",
            "sub/a/x",
            "",
            "a\0b",
            &long,
        ] {
            assert_eq!(read(&directory, name), None, "{name}");
        }
    }
}
