//! Dropping of root privileges after all sockets are bound.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, anyhow};
use nix::unistd::{Gid, Uid, User, setgid, setgroups, setuid};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, chownat, fstat, openat};
use rustix::io::Errno;

use super::capabilities;

/// Maximum depth of the directories below the state directory.
const MAX_DEPTH: usize = 32;

/// The user that the process runs as after the start.
#[derive(Debug)]
pub struct ServiceUser {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// Returns the user to run as: the configured one, else `bootlatch`, else `nobody`. Returns `None` if the process does
/// not run as root, or is configured to.
///
/// # Errors
/// The configured user does not exist.
pub fn choose(named: Option<&str>) -> anyhow::Result<Option<ServiceUser>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    find(named)
}

/// Returns the user that a server runs as that root starts; `None` for root.
///
/// # Errors
/// The configured user does not exist.
pub fn find(named: Option<&str>) -> anyhow::Result<Option<ServiceUser>> {
    let find = |name: &str| User::from_name(name).with_context(|| format!("user {name:?}"));
    let user = match named {
        Some("root") => return Ok(None),
        Some(name) => find(name)?.ok_or_else(|| anyhow!("user: no user {name:?} on this system"))?,
        None => match find("bootlatch")? {
            Some(user) => user,
            None => find("nobody")?.ok_or_else(|| {
                anyhow!("user: neither bootlatch nor nobody exists: create one, or configure another user")
            })?,
        },
    };
    Ok(Some(ServiceUser { name: user.name, uid: user.uid, gid: user.gid }))
}

impl ServiceUser {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the numbers of the user and of its group. It has no other groups.
    pub fn ids(&self) -> (u32, u32) {
        (self.uid.as_raw(), self.gid.as_raw())
    }

    /// Changes the owner of the state directory and everything in it. No link is followed, whenever it is planted: each
    /// entry is opened without following one, and what was opened is changed. A file that has another name elsewhere
    /// keeps its owner, since that name may be root's.
    ///
    /// # Errors
    /// The file system refuses, or the directories are nested too deeply.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("state_dir: {}: cannot change the owner to {}", path.display(), self.name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).with_context(context)?;
        self.own_directory(&directory, path, MAX_DEPTH)
    }

    fn own_directory(&self, directory: &OwnedFd, path: &Path, depth: usize) -> anyhow::Result<()> {
        let context = || format!("state_dir: {}: cannot change the owner to {}", path.display(), self.name);
        if depth == 0 {
            return Err(anyhow!("state_dir: {}: more than {MAX_DEPTH} directories deep", path.display()));
        }
        for entry in Dir::read_from(directory).with_context(context)? {
            let entry = entry.with_context(context)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let place = path.join(OsStr::from_bytes(name.to_bytes()));
            let opened = openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            let opened = match opened {
                Err(Errno::NOENT) => continue,
                opened => opened.with_context(context)?,
            };
            let about = fstat(&opened).with_context(context)?;
            match FileType::from_raw_mode(about.st_mode) {
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    // Of what was opened, not of its name once more.
                    let inner = openat(&opened, c".", flags, Mode::empty()).with_context(context)?;
                    self.own_directory(&inner, &place, depth - 1)?;
                }
                FileType::RegularFile | FileType::Socket if about.st_nlink == 1 => {
                    self.give(&opened, &about, &place)?
                }
                FileType::RegularFile if about.st_uid != self.uid.as_raw() => {
                    tracing::warn!(path = %place.display(), "owner not changed: the file has another name");
                }
                FileType::RegularFile
                | FileType::Socket
                | FileType::Symlink
                | FileType::Fifo
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {}
            }
        }
        self.give(directory, &fstat(directory).with_context(context)?, path)
    }

    /// Changes the owner of what was opened to the user.
    fn give(&self, opened: &OwnedFd, about: &Stat, path: &Path) -> anyhow::Result<()> {
        let (uid, gid) = (self.uid.as_raw(), self.gid.as_raw());
        if (about.st_uid, about.st_gid) == (uid, gid) {
            return Ok(());
        }
        let (uid, gid) = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
        chownat(opened, c"", uid, gid, AtFlags::EMPTY_PATH)
            .with_context(|| format!("state_dir: {}: cannot change the owner to {}", path.display(), self.name))
    }

    /// Checks that the user reaches the state directory, once the process is that user.
    ///
    /// # Errors
    /// The first directory on the way that it may not enter.
    pub fn check_access(&self, path: &Path) -> anyhow::Result<()> {
        let ways: Vec<_> = path.ancestors().filter(|way| !way.as_os_str().is_empty()).collect();
        let closed = ways.into_iter().rev().find(|way| {
            let entered = std::fs::metadata(way.join("."));
            entered.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        });
        match closed {
            None => Ok(()),
            Some(way) => Err(anyhow!(
                "state_dir: {}: the user {} may not enter {}: give it the permission (chmod o+x, setfacl), or configure \
                 another state_dir or user",
                path.display(),
                self.name,
                way.display()
            )),
        }
    }

    /// Switches to the user in all threads, for the life of the process: no other groups, and of the capabilities those that
    /// are permitted, none of them in effect. [`give_up`] drops them.
    ///
    /// # Errors
    /// The kernel refuses one of the steps.
    pub fn switch_to(&self) -> anyhow::Result<()> {
        setgroups(&[self.gid]).context("user: setgroups")?;
        setgid(self.gid).context("user: setgid")?;
        // Leaving uid 0 clears the effective and ambient capabilities, and without this the permitted ones
        // (capabilities(7)).
        rustix::thread::set_keep_capabilities(true).context("user: PR_SET_KEEPCAPS")?;
        setuid(self.uid).context("user: setuid")?;
        rustix::thread::set_keep_capabilities(false).context("user: PR_SET_KEEPCAPS")
    }
}

/// Drops all privileges but the permission to bind sockets again: [`capabilities::give_up`], and `no_new_privs`. Root stays
/// root if it is configured to.
///
/// # Errors
/// The kernel refuses one of the steps.
pub fn give_up(user: Option<&ServiceUser>) -> anyhow::Result<()> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    capabilities::give_up()?;
    nix::sys::prctl::set_no_new_privs().context("user: PR_SET_NO_NEW_PRIVS")?;
    tracing::info!(user = user.map(ServiceUser::name), "privileges dropped");
    Ok(())
}
