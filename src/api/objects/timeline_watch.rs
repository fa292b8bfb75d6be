//! Timelines that are watched: the entries so far, and each new one as it is written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use jiff::SignedDuration;
use tokio::sync::{broadcast, watch};

use crate::api::objects::actions;
use crate::api::objects::status::Status;
use crate::api::objects::write::find;
use crate::api::state::Shared;
use crate::event::Entry;
use crate::fleet::{Key, Object};
use crate::http::reply::{Body, Reply};
use crate::store::now;

/// Age of an entry that may be read and announced at once. Entries are written within a second.
const OVERLAP: SignedDuration = SignedDuration::from_secs(10);
/// Time for which entries are collected, so that a burst is one chunk.
const COLLECT_INTERVAL: Duration = Duration::from_millis(50);
/// Approximate size of a chunk, in octets.
const CHUNK_BYTES: usize = 64 * 1024;

/// Answers a watch of the timeline of an object, or of everything: an entry a line, in JSON. An entry that occurs again is
/// sent again, with its new count. The watch ends when the server stops, and when its client does not keep up.
///
/// # Errors
/// 404, or 500 if the timeline cannot be read.
pub async fn watch(shared: &Shared, key: Option<&Key>, stop: watch::Receiver<bool>) -> Result<Reply, Status> {
    let object = key.map(|key| find(shared, key)).transpose()?;
    // Before the entries are read: an entry that is written meanwhile is in one of the two, or in both.
    let new = shared.gate.store.new_entries().await;
    let first: VecDeque<_> = actions::entries(shared, object.clone()).await?.into();
    let horizon = now().checked_sub(OVERLAP).unwrap_or_default();
    let recent = first.iter().filter(|entry| entry.last.unwrap_or(entry.time) >= horizon).cloned().collect();
    let watch = TimelineWatch { object, first, recent, new, stop };
    let parts = stream::unfold(watch, |watch| async move {
        let (part, watch) = watch.next().await?;
        Some((Ok(Frame::data(part)), watch))
    });
    let mut reply = Response::new(Body::stream(parts));
    *reply.status_mut() = StatusCode::OK;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json;stream=watch"));
    Ok(reply)
}

struct TimelineWatch {
    object: Option<Object>,
    /// Entries that were read at the beginning, and are not sent yet.
    first: VecDeque<Entry>,
    /// Entries that were read and may be announced as well.
    recent: Vec<Entry>,
    new: broadcast::Receiver<Arc<Entry>>,
    stop: watch::Receiver<bool>,
}

impl TimelineWatch {
    /// Returns the next chunk, once there is one; `None` at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let mut part = BytesMut::new();
        while part.len() < CHUNK_BYTES
            && let Some(entry) = self.first.pop_front()
        {
            write(&mut part, &entry);
        }
        while part.is_empty() {
            let entry = tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return None,
                // A client that does not keep up begins again.
                entry = self.new.recv() => entry.ok()?,
            };
            self.write_new(&mut part, &entry);
            tokio::time::sleep(COLLECT_INTERVAL).await;
            while part.len() < CHUNK_BYTES
                && let Ok(entry) = self.new.try_recv()
            {
                self.write_new(&mut part, &entry);
            }
        }
        Some((part.freeze(), self))
    }

    fn write_new(&self, part: &mut BytesMut, entry: &Entry) {
        if concerns(self.object.as_ref(), entry) && !self.recent.contains(entry) {
            write(part, entry);
        }
    }
}

/// Returns whether an entry is in the timeline of an object.
fn concerns(object: Option<&Object>, entry: &Entry) -> bool {
    match object {
        None => true,
        Some(Object::Host(host)) => entry.mac == Some(host.spec.boot_mac_address),
        Some(Object::Image(image)) => entry.event.image() == Some(&image.metadata.name),
        Some(Object::BootConfig(config)) => entry.event.config() == Some(&config.metadata.name),
        Some(Object::ConfigTemplate(_)) => false,
    }
}

fn write(part: &mut BytesMut, entry: &Entry) {
    // Entries always serialize.
    let _ = serde_json::to_writer(part.writer(), entry);
    part.extend_from_slice(b"\n");
}
