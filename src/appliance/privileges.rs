//! Dropping of root privileges after all sockets are bound.

use std::path::Path;

use anyhow::{Context, anyhow};
use nix::unistd::{Gid, Uid, User, chown, setgid, setgroups, setuid};

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
    /// Changes the owner of the state directory and everything in it. Symbolic links are not followed.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("state_dir: {}: cannot change the owner to {}", path.display(), self.name);
        chown(path, Some(self.uid), Some(self.gid)).with_context(context)?;
        if path.is_dir() {
            for entry in std::fs::read_dir(path).with_context(context)? {
                let entry = entry.with_context(context)?;
                if !entry.file_type().with_context(context)?.is_symlink() {
                    self.own(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Switches to the user in all threads, for the life of the process: no other groups, no capabilities, and
    /// `no_new_privs`.
    ///
    /// # Errors
    /// The kernel refuses one of the steps.
    pub fn switch_to(&self) -> anyhow::Result<()> {
        setgroups(&[self.gid]).context("user: setgroups")?;
        setgid(self.gid).context("user: setgid")?;
        // Leaving uid 0 clears the permitted, effective and ambient capabilities (capabilities(7)).
        setuid(self.uid).context("user: setuid")?;
        nix::sys::prctl::set_no_new_privs().context("user: PR_SET_NO_NEW_PRIVS")?;
        tracing::info!(user = self.name, "privileges dropped");
        Ok(())
    }
}
