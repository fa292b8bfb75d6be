//! Watches: a stream of the changes of a kind's objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fleet::{Key, Kind, Object};
use crate::store::{ChangeKind, ChangeRecord, Snapshot, Store, now};

use crate::api::objects::options::{Options, Representation};
use crate::api::objects::redaction::{ListMeta, Metadata, View};
use crate::api::objects::status::Status;
use crate::api::objects::table::Table;
use crate::http::reply::{Body, Reply};

/// Maximum number of changes that a watch takes from the history at once.
const MAX_CHANGES: usize = 512;
/// Size in bytes at which a chunk is sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// Interval of bookmarks on a quiet watch, if its client asked for bookmarks.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);
/// Approximate number of chunks that all watches together send in a second. Sending a chunk costs as much as dozens of
/// changes in it, and hundreds of watches must not slow a burst of writes: so a watch collects changes for a while
/// after each chunk.
const CHUNKS_PER_SECOND: u32 = 2500;
/// Minimum time for which a watch collects changes.
const MIN_COLLECT_INTERVAL: Duration = Duration::from_millis(10);
/// Number of different collection times. With one time for all, hundreds of watches woken by the same change would wake
/// together again and again, and a write in between would wait for all of them.
const COLLECT_INTERVALS: u32 = 16;

/// Answers a watch of a kind: the present objects if no version is given, then each change exactly once.
///
/// A watch is a position in the history that all watches share. A client that does not read keeps its position, and
/// gets an ERROR event (410) once the history no longer reaches back to it.
pub fn watch(store: &Arc<Store>, kind: Kind, options: Options, stop: watch::Receiver<bool>) -> Reply {
    let state = store.snapshot();
    let from_here = match options.version {
        None | Some(0) => true,
        Some(_) => options.initial,
    };
    let first = match (from_here, options.version) {
        (false, Some(version)) if version > state.version => WatchState::Expired(format!(
            "resourceVersion {version} does not exist yet; the current one is {}",
            state.version
        )),
        (false, Some(version)) => WatchState::Following(version),
        (true, _) | (false, None) => WatchState::Present(state, None),
    };
    let end = options.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let versions = store.versions();
    let watch = Watch {
        store: store.clone(),
        kind,
        options,
        state: first,
        versions,
        stop,
        end,
        slot: WatchSlot::take(),
        last_sent: None,
    };
    let parts = stream::unfold(watch, |watch| async move {
        let (part, watch) = watch.next().await?;
        Some((Ok(Frame::data(part)), watch))
    });
    let mut reply = Response::new(Body::stream(parts));
    *reply.status_mut() = StatusCode::OK;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json;stream=watch"));
    reply
}

struct Watch {
    store: Arc<Store>,
    kind: Kind,
    options: Options,
    state: WatchState,
    versions: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    end: Option<Instant>,
    slot: WatchSlot,
    /// Time of the last chunk.
    last_sent: Option<Instant>,
}

/// A number for a watch, from 0: how many watches were open when it began. Two watches may have the same one.
struct WatchSlot(u32);

static OPEN: AtomicU32 = AtomicU32::new(0);

impl WatchSlot {
    fn take() -> Self {
        Self(OPEN.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns how long this watch collects changes: longer with more watches, and not in step with the others.
    fn collect_time(&self) -> Duration {
        collect_time(self.0, OPEN.load(Ordering::Relaxed))
    }
}

impl Drop for WatchSlot {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

fn collect_time(slot: u32, open: u32) -> Duration {
    let shared = (Duration::from_secs(1) * open / CHUNKS_PER_SECOND).max(MIN_COLLECT_INTERVAL);
    // From 3/4 to 5/4 of the time: as many chunks a second as if each watch collected for the whole time.
    shared * 3 / 4 + shared / 2 / COLLECT_INTERVALS * (slot % COLLECT_INTERVALS)
}

/// The next output of a watch.
enum WatchState {
    /// The present objects after this key.
    Present(Arc<Snapshot>, Option<Key>),
    /// The changes after this version.
    Following(u64),
    /// An ERROR event with this message: the history no longer reaches back to its position.
    Expired(String),
    /// Nothing more.
    Over,
}

/// Reason for which a watch stopped waiting.
enum Woken {
    Changed,
    Quiet,
    Ended,
}

impl Watch {
    /// Waits until there is something to send, and returns the next chunk; `None` at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            let mut part = BytesMut::new();
            match std::mem::replace(&mut self.state, WatchState::Over) {
                WatchState::Present(state, after) => self.present(&mut part, state, after),
                WatchState::Expired(message) => self.write(&mut part, "ERROR", &Status::gone(message)),
                WatchState::Following(version) => {
                    self.state = self.follow(&mut part, version);
                    if part.is_empty() && matches!(self.state, WatchState::Following(seen) if seen == version) {
                        match self.wait(version).await {
                            Woken::Changed => {}
                            Woken::Quiet => self.bookmark(&mut part, version, false),
                            Woken::Ended => return None,
                        }
                    }
                }
                WatchState::Over => return None,
            }
            if !part.is_empty() {
                self.last_sent = Some(Instant::now());
                return Some((part.freeze(), self));
            }
        }
    }

    fn present(&mut self, part: &mut BytesMut, state: Arc<Snapshot>, after: Option<Key>) {
        let mut last = None;
        for object in state.list(self.kind, after.as_ref()) {
            if self.options.selection.matches(&object) {
                self.write_object(part, "ADDED", &object, None);
            }
            if part.len() >= CHUNK_BYTES {
                last = Some(object.key());
                break;
            }
        }
        self.state = match last {
            Some(last) => WatchState::Present(state, Some(last)),
            None => {
                if self.options.initial {
                    self.bookmark(part, state.version, true);
                }
                WatchState::Following(state.version)
            }
        };
    }

    fn follow(&mut self, part: &mut BytesMut, mut version: u64) -> WatchState {
        let changes = match self.store.since(version, MAX_CHANGES) {
            Ok(changes) => changes,
            Err(error) => return WatchState::Expired(error.to_string()),
        };
        for past in changes {
            version = past.version;
            if past.object.kind() == self.kind {
                self.write_change(part, &past);
            }
            if part.len() >= CHUNK_BYTES {
                break;
            }
        }
        WatchState::Following(version)
    }

    /// Writes the event of a change, which may bring an object into the selection or take it out.
    fn write_change(&self, part: &mut BytesMut, past: &ChangeRecord) {
        let selection = &self.options.selection;
        let is = past.operation != ChangeKind::Deleted && selection.matches(&past.object);
        let was = match &past.before {
            Some(before) => selection.matches(before),
            None => past.operation == ChangeKind::Deleted && selection.matches(&past.object),
        };
        let kind = match (was, is) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        match (&past.before, past.operation) {
            // An object that left the selection is sent as it last matched, with the version at which it left.
            (Some(before), ChangeKind::Modified) if was && !is => {
                let mut left = before.clone();
                left.meta_mut().resource_version = past.version;
                self.write_object(part, kind, &left, None);
            }
            (Some(_) | None, ChangeKind::Added | ChangeKind::Modified | ChangeKind::Deleted) => {
                self.write_object(part, kind, &past.object, Some(past));
            }
        }
    }

    fn write_object(&self, part: &mut BytesMut, kind: &str, object: &Object, past: Option<&ChangeRecord>) {
        match (self.options.representation, past) {
            (Representation::Table(include), _) => {
                let metadata =
                    ListMeta { resource_version: object.meta().resource_version.to_string(), next: String::new() };
                let table = Table::of(self.kind, std::iter::once(object), metadata, include, now());
                self.write(part, kind, &table);
            }
            (Representation::Metadata, _) => self.write(part, kind, &Metadata(object)),
            (Representation::Object, None) => self.write(part, kind, &View(object)),
            (Representation::Object, Some(past)) => {
                let wire =
                    past.wire.get_or_init(|| serde_json::to_vec(&View(object)).map(Bytes::from).unwrap_or_default());
                frame(part, kind, |part| part.extend_from_slice(wire));
            }
        }
    }

    fn bookmark(&self, part: &mut BytesMut, version: u64, initial: bool) {
        if !self.options.bookmarks && !initial {
            return;
        }
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.options.representation {
            Representation::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
            Representation::Object | Representation::Table(_) => (self.kind.as_str(), "v1"),
        };
        let mark = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        self.write(part, "BOOKMARK", &mark);
    }

    fn write(&self, part: &mut BytesMut, kind: &str, object: &impl Serialize) {
        frame(part, kind, |part| {
            // Objects always serialize; a torn line would end this watch only.
            let _ = serde_json::to_writer(part.writer(), object);
        });
    }

    async fn wait(&mut self, version: u64) -> Woken {
        let collected = self.last_sent.map(|sent| sent + self.slot.collect_time());
        let quiet = self.options.bookmarks.then(|| Instant::now() + BOOKMARK_INTERVAL);
        let (versions, end) = (&mut self.versions, self.end);
        let changed = async {
            // A watch is not woken while it collects: the writer would pay for each wake-up.
            tokio::time::sleep_until(collected.unwrap_or_else(Instant::now)).await;
            versions.wait_for(|newest| *newest > version).await.is_ok()
        };
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => Woken::Ended,
            () = reached(end) => Woken::Ended,
            alive = changed => if alive { Woken::Changed } else { Woken::Ended },
            () = reached(quiet) => Woken::Quiet,
        }
    }
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn frame(part: &mut BytesMut, kind: &str, object: impl FnOnce(&mut BytesMut)) {
    part.extend_from_slice(b"{\"type\":\"");
    part.extend_from_slice(kind.as_bytes());
    part.extend_from_slice(b"\",\"object\":");
    object(part);
    part.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_watches_collect_longer_and_not_in_step() {
        let milliseconds = |slot, open| collect_time(slot, open).as_micros() as f64 / 1000.0;
        let rows = [(0, 1, 7.5), (0, 25, 7.5), (8, 25, 10.0), (0, 200, 60.0), (8, 200, 80.0), (24, 200, 80.0)];
        for (slot, open, expected) in rows {
            assert_eq!(milliseconds(slot, open), expected, "{slot} of {open}");
        }
        let parts: f64 = (0..200).map(|slot| 1000.0 / milliseconds(slot, 200)).sum();
        assert!((2400.0..2700.0).contains(&parts), "{parts} chunks a second");
    }
}
