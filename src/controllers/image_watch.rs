//! Looks after the ISOs' files: what becomes of them under the running server is in their objects' status.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::admission::prepare::{self, Places};
use crate::event::Event;
use crate::fleet::{Image, ImageStatus, Object};
use crate::gate::Gate;
use crate::store::{Change, Expect};

/// Is how often the files are looked at: a stat each.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Is how long is waited between looks, however many find a file missing.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks until told to stop.
pub async fn watch(gate: Arc<Gate>, places: Places, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = gate.media.open_failed() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let once = async {
            look(&gate, &places).await;
            tokio::time::sleep(PAUSE).await;
        };
        tokio::select! {
            () = once => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

async fn look(gate: &Gate, places: &Places) {
    let images: Vec<Arc<Image>> = gate.store.load().images().cloned().collect();
    for image in images {
        let (places, looked) = (places.clone(), image.clone());
        let found = tokio::task::spawn_blocking(move || prepare::look_again(&looked, &places, SystemTime::now())).await;
        let Ok(Some(status)) = found else { continue };
        let expect = Expect::Present(Some(image.metadata.resource_version));
        let event = tell(&image, &status);
        let object = Object::Image(Arc::new(Image { status, ..Image::clone(&image) }));
        // Who wrote it meanwhile looked at the file as well; what cannot be written is found again.
        match gate.store.commit(Change::Put { object, expect }).await {
            Ok(_) => event.into_iter().for_each(|event| gate.store.record_event(None, event)),
            Err(error) => tracing::debug!(image = %image.metadata.name, %error, "what became of an ISO is not written"),
        }
    }
}

/// Says what became of an image; nothing where only more is known of it than before.
fn tell(image: &Image, status: &ImageStatus) -> Option<Event> {
    let was = &image.status;
    let message = match (was.is_broken(), status.is_broken()) {
        (_, true) => status.message.clone(),
        (true, false) if same_file(was, status) => "its file is as it was again".to_owned(),
        (false, false) if same_file(was, status) => return None,
        (_, false) => format!(
            "its file is another now: {} bytes and volume {:?}, before {} and {:?}",
            status.size_bytes.unwrap_or_default(),
            status.volume_id.as_deref().unwrap_or_default(),
            was.size_bytes.unwrap_or_default(),
            was.volume_id.as_deref().unwrap_or_default(),
        ),
    };
    Some(Event::Image { image: image.metadata.name.clone(), phase: status.phase.clone(), message })
}

fn same_file(was: &ImageStatus, is: &ImageStatus) -> bool {
    was.size_bytes == is.size_bytes
        && was.file_modification_time.is_none_or(|_| was.file_modification_time == is.file_modification_time)
}
