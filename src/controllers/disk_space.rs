//! Looks after the disk that the state is on: says when it is nearly full, makes room of what nobody needs, and
//! finds out when it can be written again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::event::Event;
use crate::gate::Gate;
use crate::images::free_space::{self, FreeSpace};

/// Is how often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks until told to stop.
pub async fn watch(gate: Arc<Gate>, isos: PathBuf, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut was_short = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let (directory, isos) = (gate.store.directory().to_owned(), isos.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let room = FreeSpace::at(&directory).inspect_err(|error| tracing::debug!(%error, "the disk does not tell"));
            free_space::clear_uploads(&isos, room.as_ref().is_ok_and(FreeSpace::is_short));
            room
        });
        gate.store.retry_write();
        let Ok(Ok(room)) = looked.await else { continue };
        let (directory, free) = (gate.store.directory().display().to_string(), room.free);
        // It was short below half of the reserve, and is so no more with all of it: it does not flutter between.
        match was_short {
            false if room.is_short() => gate.store.record_event(None, Event::DiskNearlyFull { directory, free }),
            true if room.takes(0) => gate.store.record_event(None, Event::DiskSpaceRecovered { directory, free }),
            _ => continue,
        }
        was_short = !was_short;
    }
}
