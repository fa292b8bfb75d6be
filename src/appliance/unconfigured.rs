//! The start of a service that no interface was chosen for, as after the installation of a package: it waits, and
//! systemd's status says for what.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;

use crate::config::{self, Config, ConfigError, Flags};

/// Maximum time between two signs of life, where the unit has a watchdog.
const MAX_WATCHDOG_INTERVAL: Duration = Duration::from_secs(10);

/// Returns the configuration. As a service without an interface, waits until a reload finds one; `None` is a stop.
///
/// # Errors
/// The configuration is not valid. Outside of a service, a missing interface is such an error.
pub fn load(flags: &Flags) -> anyhow::Result<Option<Config>> {
    match config::load(flags) {
        Err(ConfigError::NoInterface { path }) if std::env::var_os("NOTIFY_SOCKET").is_some() => wait(flags, &path),
        loaded => Ok(Some(loaded?)),
    }
}

fn wait(flags: &Flags, path: &Path) -> anyhow::Result<Option<Config>> {
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block()?;
    let received = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let missing = format!("no interface chosen: run `bootlatch init`, or set `interface` in {}", path.display());
    say(&missing);
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let found = loop {
        match next(&received)? {
            Some(Signal::SIGHUP) => match config::load(flags) {
                Ok(config) => break Some(config),
                Err(ConfigError::NoInterface { .. }) => say(&missing),
                Err(error) => say(&format!("configuration not loaded: {error}")),
            },
            Some(_) => break None,
            None => {}
        }
    };
    if found.is_some() {
        let _ = sd_notify::notify(&[NotifyState::Status("")]);
    }
    signals.thread_unblock()?;
    Ok(found)
}

/// Writes a line to the log, which is not started yet, and to systemd's status.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "<4>{text}");
    let _ = sd_notify::notify(&[NotifyState::Status(text)]);
}

/// Returns the next signal, or `None` after the interval of the watchdog, which it feeds.
fn next(received: &SignalFd) -> anyhow::Result<Option<Signal>> {
    let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(received), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::try_from(MAX_WATCHDOG_INTERVAL)?)?;
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    let signal = received.read_signal()?;
    Ok(signal.and_then(|signal| Signal::try_from(i32::try_from(signal.ssi_signo).ok()?).ok()))
}
