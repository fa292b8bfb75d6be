//! Watches the disk of the state: records when it is nearly full, and retries failed writes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::event::Event;
use crate::gate::Gate;
use crate::gate::degradations::{Degradation, LOW_DISK, Severity, Source};
use crate::store::free_space::FreeSpace;

/// Interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Checks until the server stops.
///
/// # Errors
/// None; the result is that of a service.
pub async fn watch(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    let mut was_low = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let directory = gate.store.directory().to_owned();
        let checked = tokio::task::spawn_blocking(move || {
            FreeSpace::at(&directory).inspect_err(|error| tracing::debug!(%error, "statvfs failed"))
        });
        gate.store.retry_write();
        let space = tokio::select! {
            checked = checked => checked,
            // The file system may not answer.
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        let Ok(Ok(space)) = space else { continue };
        let (directory, free) = (gate.store.directory().display().to_string(), space.free);
        // Nearly full is below half of the reserve, recovered is the whole reserve: no event flaps in between.
        match was_low {
            false if space.is_low() => gate.store.record_event(None, Event::DiskNearlyFull { directory, free }),
            true if space.fits(0) => gate.store.record_event(None, Event::DiskSpaceRecovered { directory, free }),
            _ => continue,
        }
        was_low = !was_low;
        let low = was_low.then(|| Degradation {
            code: LOW_DISK,
            subject: gate.store.directory().display().to_string(),
            message: "the disk of the state directory is nearly full".to_owned(),
            public: None,
            severity: Severity::Fault,
        });
        gate.degradations.set(Source::Disk, low.into_iter().collect());
    }
}
