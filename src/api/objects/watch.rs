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
use crate::store::{ChangeRecord, Operation, Snapshot, Store, now};

use crate::api::objects::options::{Form, Options};
use crate::api::objects::redaction::{ListMeta, Metadata, View};
use crate::api::objects::status::Status;
use crate::api::objects::table::Table;
use crate::http::reply::{Body, Reply};

/// Bounds what a watch takes out of the history, or writes, at once.
const CHANGES_AT_ONCE: usize = 512;
const PART: usize = 64 * 1024;
/// Is how often a watch that hears nothing says which version it is at, where its client asked for it.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// Bounds the parts that all watches together tell in a second, about: to send one costs as much as dozens of changes
/// in it, and hundreds of watches must not slow a burst of writes. Changes wait for company where some were just told.
const PARTS_A_SECOND: u32 = 2500;
const GATHER_AT_LEAST: Duration = Duration::from_millis(10);
/// Counts the rhythms in which watches gather. Hundreds that were woken by one change would otherwise come at once again
/// and again, and a write between would wait for all of them.
const RHYTHMS: u32 = 16;

/// Follows the objects of a kind: first as they are, where no version is named, then every change once.
///
/// A watch is a place in the history that all share; who does not read stays where it is, and is told
/// to begin anew once the history has gone past that place.
pub fn watch(store: &Arc<Store>, kind: Kind, options: Options, stop: watch::Receiver<bool>) -> Reply {
    let state = store.snapshot();
    let from_here = match options.version {
        None | Some(0) => true,
        Some(_) => options.initial,
    };
    let phase = match (from_here, options.version) {
        (false, Some(version)) if version > state.version => {
            Phase::Lost(format!("version {version} is not one that this server has given: it is at {}", state.version))
        }
        (false, Some(version)) => Phase::Following(version),
        (true, _) | (false, None) => Phase::Present(state, None),
    };
    let end = options.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let versions = store.versions();
    let watch =
        Watch { store: store.clone(), kind, options, phase, versions, stop, end, place: Place::taken(), told: None };
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
    phase: Phase,
    versions: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    end: Option<Instant>,
    place: Place,
    /// Is when something was last told.
    told: Option<Instant>,
}

/// Is a watch's place among those that are open.
struct Place(u32);

static OPEN: AtomicU32 = AtomicU32::new(0);

impl Place {
    fn taken() -> Self {
        Self(OPEN.fetch_add(1, Ordering::Relaxed))
    }

    /// Says how long this watch gathers: the longer the more there are, and each in a rhythm of its own.
    fn gather(&self) -> Duration {
        gather(self.0, OPEN.load(Ordering::Relaxed))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

fn gather(place: u32, open: u32) -> Duration {
    let shared = (Duration::from_secs(1) * open / PARTS_A_SECOND).max(GATHER_AT_LEAST);
    // From three quarters of it to five: as many parts as if all kept the same.
    shared * 3 / 4 + shared / 2 / RHYTHMS * (place % RHYTHMS)
}

enum Phase {
    /// Tells the present objects, those after the one named.
    Present(Arc<Snapshot>, Option<Key>),
    /// Tells what came after a version.
    Following(u64),
    /// Tells that its place in the history is gone, and ends.
    Lost(String),
    Over,
}

/// Says why a watch stopped waiting.
enum Woken {
    Changed,
    Quiet,
    Ended,
}

impl Watch {
    /// Gives the next part, once there is something to tell; nothing at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            let mut part = BytesMut::new();
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Present(state, after) => self.present(&mut part, state, after),
                Phase::Lost(message) => self.write(&mut part, "ERROR", &Status::gone(message)),
                Phase::Following(version) => {
                    self.phase = self.follow(&mut part, version);
                    if part.is_empty() && matches!(self.phase, Phase::Following(seen) if seen == version) {
                        match self.wait(version).await {
                            Woken::Changed => {}
                            Woken::Quiet => self.bookmark(&mut part, version, false),
                            Woken::Ended => return None,
                        }
                    }
                }
                Phase::Over => return None,
            }
            if !part.is_empty() {
                self.told = Some(Instant::now());
                return Some((part.freeze(), self));
            }
        }
    }

    fn present(&mut self, part: &mut BytesMut, state: Arc<Snapshot>, after: Option<Key>) {
        let mut last = None;
        for object in state.list(self.kind, after.as_ref()) {
            if self.options.selection.takes(object) {
                self.tell(part, "ADDED", object, None);
            }
            if part.len() >= PART {
                last = Some(object.key());
                break;
            }
        }
        self.phase = match last {
            Some(last) => Phase::Present(state, Some(last)),
            None => {
                if self.options.initial {
                    self.bookmark(part, state.version, true);
                }
                Phase::Following(state.version)
            }
        };
    }

    fn follow(&mut self, part: &mut BytesMut, mut version: u64) -> Phase {
        let changes = match self.store.since(version, CHANGES_AT_ONCE) {
            Ok(changes) => changes,
            Err(error) => return Phase::Lost(error.to_string()),
        };
        for past in changes {
            version = past.version;
            if past.object.kind() == self.kind {
                self.tell_past(part, &past);
            }
            if part.len() >= PART {
                break;
            }
        }
        Phase::Following(version)
    }

    /// A change may bring an object into the selection, or take it out.
    fn tell_past(&self, part: &mut BytesMut, past: &ChangeRecord) {
        let selection = &self.options.selection;
        let is = past.operation != Operation::Deleted && selection.takes(&past.object);
        let was = match &past.before {
            Some(before) => selection.takes(before),
            None => past.operation == Operation::Deleted && selection.takes(&past.object),
        };
        let kind = match (was, is) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        match (&past.before, past.operation) {
            // What left the selection is told as it last was within it, at the version that it left at.
            (Some(before), Operation::Modified) if was && !is => {
                let mut left = before.clone();
                left.meta_mut().resource_version = past.version;
                self.tell(part, kind, &left, None);
            }
            (Some(_) | None, Operation::Added | Operation::Modified | Operation::Deleted) => {
                self.tell(part, kind, &past.object, Some(past));
            }
        }
    }

    fn tell(&self, part: &mut BytesMut, kind: &str, object: &Object, past: Option<&ChangeRecord>) {
        match (self.options.form, past) {
            (Form::Table(include), _) => {
                let metadata =
                    ListMeta { resource_version: object.meta().resource_version.to_string(), next: String::new() };
                let table = Table::of(self.kind, std::iter::once(object), metadata, include, now());
                self.write(part, kind, &table);
            }
            (Form::Metadata, _) => self.write(part, kind, &Metadata(object)),
            (Form::Plain, None) => self.write(part, kind, &View(object)),
            (Form::Plain, Some(past)) => {
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
        let (kind, version) = match self.options.form {
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
            Form::Plain | Form::Table(_) => (self.kind.as_str(), "v1"),
        };
        let mark = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        self.write(part, "BOOKMARK", &mark);
    }

    fn write(&self, part: &mut BytesMut, kind: &str, object: &impl Serialize) {
        frame(part, kind, |part| {
            // Our own objects always serialize; a torn line would only end this watch.
            let _ = serde_json::to_writer(part.writer(), object);
        });
    }

    async fn wait(&mut self, version: u64) -> Woken {
        let gathered = self.told.map(|told| told + self.place.gather());
        let quiet = self.options.bookmarks.then(|| Instant::now() + BOOKMARK_EVERY);
        let (versions, end) = (&mut self.versions, self.end);
        let changed = async {
            // Nobody is woken for a change while it gathers: who writes would pay for each watch.
            tokio::time::sleep_until(gathered.unwrap_or_else(Instant::now)).await;
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
    fn watches_gather_the_longer_the_more_there_are_and_not_in_step() {
        let milliseconds = |place, open| gather(place, open).as_micros() as f64 / 1000.0;
        let rows = [(0, 1, 7.5), (0, 25, 7.5), (8, 25, 10.0), (0, 200, 60.0), (8, 200, 80.0), (24, 200, 80.0)];
        for (place, open, expected) in rows {
            assert_eq!(milliseconds(place, open), expected, "{place} of {open}");
        }
        let parts: f64 = (0..200).map(|place| 1000.0 / milliseconds(place, 200)).sum();
        assert!((2400.0..2700.0).contains(&parts), "{parts} parts a second");
    }
}
