//! The state directory: its creation, its lock, and the key of its encryption.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Uid, fchown};
use rustix::io::Errno;

use crate::config::StartRefused;
use crate::iso::file;

/// Time that a step of the start may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of a file with a key, in bytes.
const KEY_BYTES: u64 = 4096;

/// Creates a directory with mode 0750 if it does not exist.
///
/// # Errors
/// The file system refuses.
pub fn create_directory(path: &Path, key: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(path);
    created.with_context(|| format!("{key}: cannot create {}", path.display()))
}

/// Checks that this process, which is not root, may work in the state directory.
///
/// # Errors
/// The first directory on the way that its user may not enter, or that the user may not write in the directory.
pub fn check_access(state_dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let uid = nix::unistd::Uid::effective();
    if uid.is_root() {
        return Ok(());
    }
    let name = |uid| nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let user = name(uid);
    if let Some(itself) = super::privileges::find(Some(&user)).ok().flatten() {
        itself.check_access(state_dir)?;
    }
    let existing = state_dir.ancestors().find(|way| way.exists()).unwrap_or(state_dir);
    match rustix::fs::access(existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Err(Errno::ACCESS | Errno::ROFS) => {
            let owner = std::fs::metadata(existing).map_or_else(|_| "?".to_owned(), |about| name(about.uid().into()));
            Err(anyhow!(
                "state_dir: {}: the user {user} may not write in {}, which belongs to {owner}: change its owner \
                 (chown -R {user}:), or configure another state_dir or user",
                state_dir.display(),
                existing.display()
            ))
        }
        _ => Ok(()),
    }
}

/// Files of the state directory that the server itself opens, some of them as root.
pub const OWN_FILES: [&str; 8] =
    ["lock", "api.sock", "tls.crt", "tls.key", "admin.token", "viewer.token", "token.key", "manifest.key"];

/// A state directory that belongs to root for the time being. It gets its owner back when this is dropped.
#[derive(Debug)]
pub struct TakenDirectory {
    directory: OwnedFd,
    owner: Uid,
}

impl Drop for TakenDirectory {
    fn drop(&mut self) {
        if let Err(error) = fchown(&self.directory, Some(self.owner), None) {
            tracing::warn!(%error, "owner of the state directory not restored");
        }
    }
}

/// Takes the state directory from the service's user while this process works in it as root: that user must not replace
/// a file by a link while root opens it. Returns nothing without root.
///
/// # Errors
/// One of the server's own files is a link, or is no file; the owner cannot be changed.
pub fn take(state_dir: &Path) -> anyhow::Result<Option<TakenDirectory>> {
    if !nix::unistd::Uid::effective().is_root() {
        return Ok(None);
    }
    let context = || format!("state_dir: {}", state_dir.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(state_dir, flags, Mode::empty()).with_context(context)?;
    let about = rustix::fs::fstat(&directory).with_context(context)?;
    if about.st_uid != 0 {
        match fchown(&directory, Some(Uid::ROOT), None) {
            // Root of a container or of an NFS client may not be allowed to: it is then no more than the service.
            Err(Errno::PERM) => tracing::warn!(path = %state_dir.display(), "owner of the state directory not changed"),
            taken => taken.with_context(context)?,
        }
    }
    let taken = TakenDirectory { directory, owner: Uid::from_raw(about.st_uid) };
    let directory = &taken.directory;
    if about.st_mode & 0o022 != 0 {
        let mode = Mode::from_raw_mode(about.st_mode & 0o7755);
        match rustix::fs::fchmod(directory, mode) {
            Err(Errno::PERM) => {}
            changed => changed.with_context(context)?,
        }
    }
    for name in OWN_FILES {
        let about = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            about => about.with_context(context)?,
        };
        let kind = FileType::from_raw_mode(about.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Socket) {
            return Err(no_file(&state_dir.join(name)).into());
        }
    }
    Ok(Some(taken))
}

fn no_file(path: &Path) -> StartRefused {
    StartRefused(format!("state_dir: {}: expected a file, found a link or something else: remove it", path.display()))
}

/// Runs a step of the start that may wait for a file system which does not answer. The process then ends with an error,
/// since the step itself cannot be cancelled.
pub fn bounded<T>(what: String, step: impl FnOnce() -> T) -> T {
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if waiting.recv_timeout(STEP_TIMEOUT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::error!(
                what,
                timeout_seconds = STEP_TIMEOUT.as_secs(),
                "start failed: no answer from a file system"
            );
            std::process::exit(1);
        }
    });
    let result = step();
    drop(done);
    // Privileges are dropped next, in all threads that there are.
    let _ = watchdog.join();
    result
}

/// Locks the state directory against a second process. The lock lasts as long as the returned value.
///
/// # Errors
/// Another process holds the lock, or the lock file cannot be created or is a link.
pub fn lock(state_dir: &Path) -> anyhow::Result<nix::fcntl::Flock<std::fs::File>> {
    let path = state_dir.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP) {
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(no_file(&path).into()),
        file => std::fs::File::from(file.with_context(|| format!("state_dir: {}", path.display()))?),
    };
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err(no_file(&path).into());
    }
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, _)| anyhow!("state_dir: another bootlatch process uses {}", state_dir.display()))
}

/// Reads the encryption key: 32 octets, or 64 hexadecimal digits.
///
/// # Errors
/// The file cannot be read or has other content.
pub fn read_encryption_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let bytes =
        file::read(path, KEY_BYTES).with_context(|| format!("store.encryption_key_file: {}", path.display()))?;
    if let Ok(key) = bytes.as_slice().try_into() {
        return Ok(key);
    }
    let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
    let pairs: Vec<u8> = text
        .as_bytes()
        .chunks_exact(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let key = (text.len() == 64).then_some(pairs).and_then(|pairs| pairs.try_into().ok());
    key.ok_or_else(|| {
        anyhow!("store.encryption_key_file: {}: expected 32 octets or 64 hexadecimal digits", path.display())
    })
}
