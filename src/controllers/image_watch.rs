//! Watches the ISO files: a change of a file while the server runs is written to its object's status.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::admission::prepare::{self, Places};
use crate::event::Event;
use crate::fleet::{Image, ImageStatus, Object};
use crate::gate::Gate;
use crate::store::{Change, Expect};

/// Interval between two checks; each is a stat of every file.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum time between two checks, however many readers fail to open a file.
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two looks for files that nobody reads any more.
const CLOSE_INTERVAL: Duration = Duration::from_secs(1);

/// Checks until the server stops.
///
/// # Errors
/// None; the result is that of a service.
pub async fn watch(gate: Arc<Gate>, places: Places, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let checks = async {
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = gate.media.open_failed() => {}
            }
            check(&gate, &places).await;
            tokio::time::sleep(MIN_CHECK_INTERVAL).await;
        }
    };
    tokio::select! {
        () = checks => {}
        () = close_unused(&gate) => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    Ok(())
}

/// Closes the files that nobody reads any more, on a thread that may wait: a check may take minutes.
async fn close_unused(gate: &Gate) {
    let mut tick = tokio::time::interval(CLOSE_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let unused = gate.media.take_unused(Instant::now());
        if !unused.is_empty() {
            // One at a time. A panic of it is none of this loop.
            let _ = tokio::task::spawn_blocking(move || drop(unused)).await;
        }
    }
}

/// Examines each file that has changed, and writes the new status of its image.
async fn check(gate: &Gate, places: &Places) {
    let images: Vec<Arc<Image>> = gate.store.load().images().cloned().collect();
    for image in images {
        let Some(status) = examine(&image, places).await else { continue };
        let expect = Expect::Present(Some(image.metadata.resource_version));
        let event = event_of(&image, &status);
        let object = Object::Image(Arc::new(Image { status, ..Image::clone(&image) }));
        // Another writer in between has examined the file as well; a status that is not written is found again.
        match gate.store.commit(Change::Put { object, expect }).await {
            Ok(_) => event.into_iter().for_each(|event| gate.store.record_event(None, event)),
            Err(error) => tracing::debug!(image = %image.metadata.name, %error, "image status not written"),
        }
    }
}

/// Returns the new status of an image; `None` if the status still holds. An image on a file system that does not answer
/// is broken: requests for it are refused before they wait for it.
async fn examine(image: &Arc<Image>, places: &Places) -> Option<ImageStatus> {
    if !image.spec.is_local() {
        return None;
    }
    let path = places.iso(&image.spec.iso_file);
    if let Err(error) = prepare::answers(path.clone()).await {
        let message = format!("{}: {error}", path.display());
        let status = ImageStatus { phase: ImageStatus::BROKEN.into(), message, ..image.status.clone() };
        return (status != image.status).then_some(status);
    }
    let (places, examined) = (places.clone(), image.clone());
    let found = tokio::task::spawn_blocking(move || prepare::reexamine(&examined, &places, SystemTime::now()));
    found.await.ok().flatten()
}

/// Returns the event of a new status; `None` if the file is the same and only more is known about it.
fn event_of(image: &Image, status: &ImageStatus) -> Option<Event> {
    let was = &image.status;
    let message = match (was.is_broken(), status.is_broken()) {
        (_, true) => status.message.clone(),
        (true, false) if same_file(was, status) => "the file is available again".to_owned(),
        (false, false) if same_file(was, status) => return None,
        (_, false) => format!(
            "the file was replaced: {} bytes and volume {:?}, before {} bytes and {:?}",
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
