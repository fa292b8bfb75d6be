//! The stream of changed rows, as server-sent events (WHATWG HTML, section 9.2).
//!
//! A stream is a position in the history that all streams share; the event's id is the position. A client that does not
//! read keeps its position, and its stream ends once the history no longer reaches back to it: it then gets 410, and
//! loads all rows again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::objects::status::Status;
use crate::api::state::Shared;
use crate::api::ui::feeds::{ActivityFeed, HostFeed, NetworkFeed};
use crate::api::ui::host_key;
use crate::api::ui::places::StreamPlace;
use crate::fleet::Key;
use crate::gate::Gate;
use crate::http::limits::Stop;
use crate::http::peer::Peer;
use crate::http::reply::{Body, Reply};
use crate::store::{ChangeKind, ChangeRecord, TooOld, now};
use crate::ui::assets;
use crate::ui::rows::PageRows;

/// Interval between two events: the changes of an object in it are one.
const COLLECT_INTERVAL: Duration = Duration::from_millis(250);
/// Interval of looks at the steps of a boot, which announce themselves to nobody.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of looks at the network, which does not announce itself either.
const NETWORK_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of comments on a quiet stream, so that proxies keep it open.
const COMMENT_INTERVAL: Duration = Duration::from_secs(25);
/// Maximum number of changes that are taken from the history at once.
const MAX_CHANGES: usize = 4096;
/// Header with the id of the last event that a client received.
const LAST_EVENT_ID: &str = "last-event-id";

/// Opens a stream from the position that a client names: by the event that it received last, or else in the query
/// (`since`). `host` in the query adds what happens to one host, `activity` the timeline, `network` what is seen of the
/// network. `end` is the end of the client's login.
///
/// # Errors
/// 400 without a position, 410 if the history does not reach back to it, 429 if the client has too many streams.
pub fn events(
    shared: &Shared,
    peer: &Peer,
    headers: &HeaderMap,
    query: Option<&str>,
    end: Option<Timestamp>,
    stop: Stop,
) -> Result<Reply, Status> {
    let query = StreamQuery::parse(query);
    let version = position(headers, &query).ok_or_else(|| {
        Status::bad_request("The page did not say which changes it has (since). Load the page again.")
    })?;
    let store = &shared.gate.store;
    if version > store.load().version {
        return Err(Status::gone(format!(
            "The server knows no version {version}: its database was replaced. The page loads everything again."
        )));
    }
    store.since(version, 1).map_err(|error: TooOld| {
        Status::gone(format!("The page was away for too long: {error}. It loads everything again."))
    })?;
    let place = shared.streams.take(peer.address);
    let place = place.map_err(|_| Status::too_many_requests("Too many pages are open. Close some of them."))?;
    let left = end.map(|end| Duration::try_from(end.duration_since(now())).unwrap_or_default());
    let events = EventStream {
        gate: shared.gate.clone(),
        version,
        versions: store.versions(),
        stop,
        end: left.map(|left| Instant::now() + left),
        entries: store.entry_changes(),
        host: query.host.map(HostFeed::new),
        activity: query.has_activity.then(ActivityFeed::default),
        network: query.has_network.then(|| NetworkFeed::new(shared.queries.clone())),
        next: Instant::now(),
        greeting: Some(greeting()),
        _place: place,
    };
    let parts = stream::unfold(events, |events| async move {
        let (part, events) = events.next().await?;
        Some((Ok(Frame::data(part)), events))
    });
    let mut reply = Response::new(Body::stream(parts));
    *reply.status_mut() = StatusCode::OK;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx collects a reply before it passes it on, unless it is told not to.
    reply.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(reply)
}

/// The query of a stream.
#[derive(Debug, Default)]
struct StreamQuery {
    since: Option<u64>,
    host: Option<Key>,
    has_activity: bool,
    has_network: bool,
}

impl StreamQuery {
    fn parse(query: Option<&str>) -> Self {
        let mut found = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "since" => found.since = value.parse().ok(),
                "host" => found.host = host_key(&value),
                "activity" => found.has_activity = true,
                "network" => found.has_network = true,
                _ => {}
            }
        }
        found
    }
}

fn position(headers: &HeaderMap, query: &StreamQuery) -> Option<u64> {
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    last.or(query.since)
}

/// Returns the first event: what the page compares with its own version and clock.
fn greeting() -> String {
    let greeting = json!({"assets": assets::VERSION, "time": now().as_millisecond()});
    format!("retry: 1000\nevent: hello\ndata: {greeting}\n\n")
}

/// An open stream.
struct EventStream {
    gate: Arc<Gate>,
    /// Version of the last change that was sent.
    version: u64,
    versions: watch::Receiver<u64>,
    stop: Stop,
    /// End of the client's login.
    end: Option<Instant>,
    /// Earliest time of the next event.
    next: Instant,
    greeting: Option<String>,
    entries: watch::Receiver<u64>,
    host: Option<HostFeed>,
    activity: Option<ActivityFeed>,
    network: Option<NetworkFeed>,
    _place: StreamPlace,
}

/// Reason for which a stream stopped waiting.
enum StreamWakeup {
    Changed,
    Quiet,
    Ended,
}

impl EventStream {
    /// Waits until there is something to send, and returns it; `None` at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let mut part = self.greeting.take().unwrap_or_default();
        loop {
            if self.write_changes(&mut part).is_err() {
                return None;
            }
            self.write_feeds(&mut part).await;
            if !part.is_empty() {
                self.next = Instant::now() + COLLECT_INTERVAL;
                return Some((part.into(), self));
            }
            match self.wait().await {
                StreamWakeup::Changed => {}
                StreamWakeup::Quiet => part.push_str(":\n\n"),
                StreamWakeup::Ended => return None,
            }
        }
    }

    /// Writes the changes since the last event: of each object its last state only.
    fn write_changes(&mut self, part: &mut String) -> Result<(), TooOld> {
        let changes = self.gate.store.since(self.version, MAX_CHANGES)?;
        let Some(last) = changes.last() else { return Ok(()) };
        self.version = last.version;
        let rows = rows(&changes);
        // Rows always serialize.
        if let Ok(data) = serde_json::to_string(&rows) {
            let _ = write!(part, "id: {}\ndata: {data}\n\n", self.version);
        }
        Ok(())
    }

    /// Writes what is new about the host and in the timeline that the page shows.
    async fn write_feeds(&mut self, part: &mut String) {
        let entries = *self.entries.borrow_and_update();
        if let Some(feed) = &mut self.host
            && let Some(data) = feed.news(&self.gate, entries).await
        {
            let _ = write!(part, "event: host\ndata: {data}\n\n");
        }
        if let Some(feed) = &mut self.activity
            && let Some(data) = feed.news(&self.gate, entries).await
        {
            let _ = write!(part, "event: activity\ndata: {data}\n\n");
        }
        if let Some(feed) = &mut self.network {
            part.push_str(&feed.news(&self.gate).await);
        }
    }

    async fn wait(&mut self) -> StreamWakeup {
        let (next, end, version, versions) = (self.next, self.end, self.version, &mut self.versions);
        let (entries, has_entries) = (&mut self.entries, self.host.is_some() || self.activity.is_some());
        let look = match (&self.host, &self.network) {
            (Some(_), _) => Some(LOOK_INTERVAL),
            (None, Some(_)) => Some(NETWORK_LOOK_INTERVAL),
            (None, None) => None,
        };
        let changed = async {
            tokio::time::sleep_until(next).await;
            tokio::select! {
                alive = versions.wait_for(|newest| *newest > version) => alive.is_ok(),
                alive = entries.changed(), if has_entries => alive.is_ok(),
                () = tokio::time::sleep(look.unwrap_or_default()), if look.is_some() => true,
            }
        };
        let ended = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => StreamWakeup::Ended,
            () = ended => StreamWakeup::Ended,
            alive = changed => if alive { StreamWakeup::Changed } else { StreamWakeup::Ended },
            () = tokio::time::sleep(COMMENT_INTERVAL) => StreamWakeup::Quiet,
        }
    }
}

/// Returns the rows of changes, oldest first.
fn rows(changes: &[Arc<ChangeRecord>]) -> PageRows {
    let last: BTreeMap<Key, &ChangeRecord> =
        changes.iter().map(|change| (change.object.key(), change.as_ref())).collect();
    let mut rows = PageRows::default();
    for (key, change) in &last {
        match change.operation {
            ChangeKind::Added | ChangeKind::Modified => rows.add(&change.object),
            ChangeKind::Deleted => rows.remove(key),
        }
    }
    rows
}
