use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::dhcp::export::lines;
use crate::store::{Store, now};

/// Is how often the file is written at most.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps a file with the leases that are in force, until told to stop; it is replaced whole each time.
///
/// # Errors
/// Never: a file that cannot be written is told of, and tried again with the next lease.
pub async fn export(store: Arc<Store>, path: PathBuf, mut stopped: watch::Receiver<bool>) -> std::io::Result<()> {
    let mut changes = store.lease_changes();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        changes.mark_unchanged();
        let text = lines(store.snapshot().leases().map(AsRef::as_ref), now());
        let file = path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&file, &text)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(path = %path.display(), %error, "the leases file could not be written");
        }
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}
