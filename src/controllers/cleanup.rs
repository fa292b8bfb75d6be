//! Removes partial uploads that are not resumed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::gate::Gate;
use crate::images::uploads;
use crate::store::free_space::FreeSpace;

/// Interval between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Sweeps until the server stops.
///
/// # Errors
/// None; the result is that of a service.
pub async fn watch(gate: Arc<Gate>, isos: PathBuf, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let (state, isos) = (gate.store.directory().to_owned(), isos.clone());
        let sweep = tokio::task::spawn_blocking(move || sweep(&state, &isos, SystemTime::now()));
        tokio::select! {
            swept = sweep => if let Err(error) = swept {
                tracing::error!(%error, "upload sweep failed");
            },
            // The directory may be on a file system that does not answer.
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// Removes the partial uploads that are too old; if the disk of the state is nearly full, all that have stalled.
fn sweep(state: &Path, isos: &Path, now: SystemTime) {
    let is_low = FreeSpace::at(state).as_ref().is_ok_and(FreeSpace::is_low);
    uploads::sweep(isos, now, is_low);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_removes_old_uploads_only() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".abcd.part"), b"x").unwrap();
        sweep(directory.path(), directory.path(), SystemTime::now());
        assert!(directory.path().join(".abcd.part").exists());
        let much_later = SystemTime::now() + Duration::from_secs(30 * 24 * 3600);
        sweep(directory.path(), directory.path(), much_later);
        assert!(!directory.path().join(".abcd.part").exists());
    }
}
