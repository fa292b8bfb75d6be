//! Leaving root behind once everything that needs it is bound.

use std::path::Path;

use anyhow::{Context, anyhow};
use nix::unistd::{Gid, Uid, User, chown, setgid, setgroups, setuid};

/// Is who the appliance is to run as.
#[derive(Debug)]
pub struct Unprivileged {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// Picks the user to run as: the one named, else `bootlatch`, else `nobody`; none when not root.
///
/// # Errors
/// The user that was named does not exist.
pub fn choose(named: Option<&str>) -> anyhow::Result<Option<Unprivileged>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let find = |name: &str| User::from_name(name).with_context(|| format!("user {name:?}"));
    let user = match named {
        Some("root") => return Ok(None),
        Some(name) => find(name)?.ok_or_else(|| anyhow!("user: there is no user {name:?}"))?,
        None => match find("bootlatch")? {
            Some(user) => user,
            None => find("nobody")?
                .ok_or_else(|| anyhow!("user: there is neither a user bootlatch nor a user nobody; name one"))?,
        },
    };
    Ok(Some(Unprivileged { name: user.name, uid: user.uid, gid: user.gid }))
}

impl Unprivileged {
    /// Gives a directory and what is in it to the user. Only what we made ourselves is handed over.
    ///
    /// # Errors
    /// What the file system says.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("giving {} to {}", path.display(), self.name);
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

    /// Becomes the user, for good and in every thread: no group, no capability and no way back.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn become_it(&self) -> anyhow::Result<()> {
        setgroups(&[self.gid]).context("leaving root's groups")?;
        setgid(self.gid).context("leaving root's group")?;
        // Leaving uid 0 clears the permitted, effective and ambient capabilities (capabilities(7)).
        setuid(self.uid).context("leaving root")?;
        nix::sys::prctl::set_no_new_privs().context("no_new_privs")?;
        tracing::info!(user = self.name, "runs without privileges");
        Ok(())
    }
}
