//! What a stream carries besides rows: all about one host, and the newest entries of the timeline.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use crate::api::objects::diagnosis::{self, DiagnosisReport};
use crate::boot::diagnosis::Evidence;
use crate::event::Entry;
use crate::fleet::{Host, Key, Mac, Object};
use crate::gate::Gate;

/// Maximum number of timeline entries of a host.
const MAX_HOST_ENTRIES: usize = 400;
/// Maximum number of entries when a page begins to show the timeline.
const FIRST_ENTRIES: usize = 1000;
/// Maximum number of entries at each change of the timeline.
const NEXT_ENTRIES: usize = 100;

/// What happens to one host.
#[derive(Debug)]
pub struct HostFeed {
    key: Key,
    last: Option<HostMark>,
}

/// What shows whether there is something new about a host.
#[derive(Debug, PartialEq)]
struct HostMark {
    version: u64,
    entries: u64,
    steps: Vec<Evidence>,
}

/// All about one host.
#[derive(Serialize)]
struct HostNews {
    diagnosis: DiagnosisReport,
    /// Timeline, oldest entry first.
    timeline: Vec<Entry>,
}

impl HostFeed {
    /// Makes the feed of a host.
    pub fn new(key: Key) -> Self {
        Self { key, last: None }
    }

    /// Returns all about the host as JSON, if something is new. `entries` counts changes of the timeline.
    pub async fn news(&mut self, gate: &Arc<Gate>, entries: u64) -> Option<String> {
        let Some(Object::Host(host)) = gate.store.load().get(&self.key) else { return None };
        let steps = gate.traces.look_up(host.spec.boot_mac_address).map(|machine| machine.steps).unwrap_or_default();
        let mark = HostMark { version: host.metadata.resource_version, entries, steps };
        if self.last.as_ref() == Some(&mark) {
            return None;
        }
        self.last = Some(mark);
        let timeline = timeline(gate, Some(host.spec.boot_mac_address), MAX_HOST_ENTRIES).await;
        encode(gate, &host, timeline)
    }
}

fn encode(gate: &Gate, host: &Host, timeline: Vec<Entry>) -> Option<String> {
    serde_json::to_string(&HostNews { diagnosis: diagnosis::report(gate, host), timeline }).ok()
}

/// The newest entries of the timeline.
#[derive(Debug, Default)]
pub struct ActivityFeed {
    last: Option<u64>,
}

impl ActivityFeed {
    /// Returns the newest entries as JSON, oldest first, if there are new ones.
    pub async fn news(&mut self, gate: &Arc<Gate>, entries: u64) -> Option<String> {
        let limit = if self.last.is_none() { FIRST_ENTRIES } else { NEXT_ENTRIES };
        if self.last.replace(entries) == Some(entries) {
            return None;
        }
        Some(json!(timeline(gate, None, limit).await).to_string())
    }
}

/// Reads the newest entries of a timeline; none if the database cannot be read, which the health check reports.
async fn timeline(gate: &Arc<Gate>, mac: Option<Mac>, limit: usize) -> Vec<Entry> {
    let store = gate.store.clone();
    let read = tokio::task::spawn_blocking(move || store.timeline(mac, limit)).await;
    read.ok().and_then(Result::ok).unwrap_or_default()
}
