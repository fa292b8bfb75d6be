use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::dhcp::export::{lines, next_end};
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
        let (text, end) = {
            let (state, at) = (store.snapshot(), now());
            (lines(state.leases().map(AsRef::as_ref), at), next_end(state.leases().map(AsRef::as_ref), at))
        };
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
            () = ended(end) => {}
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// Waits until a time; for ever where there is none.
async fn ended(end: Option<Timestamp>) {
    match end {
        Some(end) => tokio::time::sleep(Duration::try_from(end.duration_since(now())).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}
