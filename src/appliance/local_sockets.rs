//! The local sockets of the API: one for root and the server's user, and one for the members of the server's group.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::stat::{Mode, umask};

/// Name of the sockets.
const NAME: &str = "api.sock";

/// Binds `api.sock` in the state directory, for root and the user of the server, and `api.sock` in the runtime directory of
/// the unit (`RuntimeDirectory=`), if there is one, for the members of its group too.
///
/// # Errors
/// A socket cannot be bound; the message names its path.
pub fn bind(state_dir: &Path) -> anyhow::Result<Vec<UnixListener>> {
    let mut bound = vec![bind_at(&state_dir.join(NAME), Mode::from_bits_truncate(0o177))?];
    if let Some(path) = of_group() {
        bound.push(bind_at(&path, Mode::from_bits_truncate(0o117))?);
    }
    Ok(bound)
}

/// Changes the owner of the group's socket, which root has bound, to the user that the server becomes.
///
/// # Errors
/// The file system refuses.
pub fn give_to((uid, gid): (u32, u32)) -> anyhow::Result<()> {
    let Some(path) = of_group() else { return Ok(()) };
    // The directory is root's: nobody else replaces the socket.
    std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).with_context(|| path.display().to_string())
}

fn of_group() -> Option<PathBuf> {
    // systemd separates several directories with colons (systemd.exec(5)).
    let directories = std::env::var("RUNTIME_DIRECTORY").ok()?;
    let first = directories.split(':').next().filter(|first| !first.is_empty())?;
    Some(Path::new(first).join(NAME))
}

/// Binds a socket with the mode that a mask leaves.
fn bind_at(path: &Path, mask: Mode) -> anyhow::Result<UnixListener> {
    // This process holds the lock of the state directory: an existing socket is left over.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| path.display().to_string());
        }
        _ => {}
    }
    let bind = || -> std::io::Result<_> {
        // The mode is that of the socket from its first moment, and no path is followed to set it.
        let before = umask(mask);
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().with_context(|| path.display().to_string())
}
