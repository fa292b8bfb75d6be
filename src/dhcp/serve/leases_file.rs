//! The file of current leases that other programs read (`dhcp.leases` in the state directory).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::dhcp::export::{lines, next_end};
use crate::gate::{Gate, clock};

/// Minimum interval between two writes of the file.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps a file with the current leases until `stopped` turns true. Each write replaces the whole file.
///
/// # Errors
/// None: a failed write is logged and repeated with the next lease.
pub async fn export(gate: Arc<Gate>, path: PathBuf, mut stopped: watch::Receiver<bool>) -> std::io::Result<()> {
    let mut changes = gate.store.lease_changes();
    let mut tick = tokio::time::interval(WRITE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        changes.mark_unchanged();
        let (text, end) = {
            let (state, at) = (gate.store.snapshot(), clock::now());
            (lines(state.leases().map(AsRef::as_ref), at), next_end(state.leases().map(AsRef::as_ref), at))
        };
        let file = path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&file, &text)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(path = %path.display(), %error, "failed to write the leases file");
        }
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        tokio::select! {
            () = ended(end) => {}
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// Waits until a time; without a time it waits forever.
async fn ended(end: Option<Timestamp>) {
    match end {
        Some(end) => {
            tokio::time::sleep(Duration::try_from(end.duration_since(clock::now())).unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}
