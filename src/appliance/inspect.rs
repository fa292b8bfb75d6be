//! Looks again at the files of ISOs that changed under their objects: what an object says of its file stays true.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::admit::{self, Places};
use crate::event::Event;
use crate::gate::Gate;
use crate::store::{Change, Error};

/// Is how often the files are looked at: one that was changed serves nobody until then, unless it is found sound.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at the files until told to stop.
pub async fn serve(gate: Arc<Gate>, places: Places, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let (state, places) = (gate.store.snapshot(), places.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let again = |image| Some((Arc::clone(image), admit::examine_again(image, &places)?));
            state.images().filter_map(again).collect::<Vec<_>>()
        });
        for (image, status) in looked.await? {
            let (name, version) = (image.metadata.name.clone(), image.metadata.resource_version);
            let broken = status.broken();
            let change = Change::Examined { image: name.clone(), version, status: Box::new(status) };
            match (gate.store.commit(change).await, broken) {
                (Ok(_), Some(message)) => gate.store.note(None, Event::Warning { image: name.to_string(), message }),
                (Ok(_), None) => tracing::info!(image = %name, "the file of an ISO has changed: it was examined anew"),
                // It was written or removed meanwhile: the next look sees it as it then is.
                (Err(Error::Conflict { .. } | Error::NotFound(_)), _) => {}
                (Err(error), _) => tracing::error!(%error, image = %name, "what an ISO is now could not be written"),
            }
        }
    }
}
