//! What a stream carries besides rows: all about one host, the newest entries of the timeline, and the network.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::Serialize;
use serde_json::json;

use crate::api::network::{DropReport, LeaseReport, drop_reports};
use crate::api::objects::diagnosis::{self, DiagnosisReport};
use crate::boot::diagnosis::Evidence;
use crate::event::Entry;
use crate::fleet::{Host, Key, Lease, Mac, Object};
use crate::gate::Gate;
use crate::gate::interfaces::HeardNetwork;
use crate::gate::rehearsal::ProtocolQueries;
use crate::store::now;

/// Maximum number of timeline entries of a host.
const MAX_HOST_ENTRIES: usize = 400;
/// Maximum number of entries when a page begins to show the timeline.
const FIRST_ENTRIES: usize = 1000;
/// Maximum number of entries at each change of the timeline.
const NEXT_ENTRIES: usize = 100;
/// Maximum number of leases in an event.
const MAX_LEASES: usize = 2000;

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

/// The leases by address.
type LeaseTable = OrdMap<Ipv4Addr, Arc<Lease>>;

/// What is seen of the network.
pub struct NetworkFeed {
    queries: Arc<ProtocolQueries>,
    /// What was sent last.
    seen: Option<NetworkNews>,
    /// The leases that were sent. The table shares its content with the store's.
    leases: LeaseTable,
}

/// What was heard, and what was dropped.
#[derive(PartialEq, Serialize)]
struct NetworkNews {
    #[serde(flatten)]
    heard: HeardNetwork,
    drops: Vec<DropReport>,
}

impl NetworkFeed {
    /// Makes a feed that has sent nothing.
    pub fn new(queries: Arc<ProtocolQueries>) -> Self {
        Self { queries, seen: None, leases: OrdMap::new() }
    }

    /// Returns the events of what is new; empty if nothing is.
    pub async fn news(&mut self, gate: &Arc<Gate>) -> String {
        let mut part = String::new();
        // A DHCP service that is busy is asked again at the next look.
        if let Some(heard) = (self.queries.network)().await {
            let news = NetworkNews { heard, drops: drop_reports(&gate.counters) };
            if self.seen.as_ref() != Some(&news) {
                let _ = write!(part, "event: network\ndata: {}\n\n", json!(news));
                self.seen = Some(news);
            }
        }
        let state = gate.store.load();
        let changed = take_changes(&mut self.leases, state.lease_table(), MAX_LEASES);
        if !changed.is_empty() {
            let now = now();
            let reports: Vec<_> = changed.iter().map(|lease| LeaseReport::of(lease, &state, now)).collect();
            let _ = write!(part, "event: leases\ndata: {}\n\n", json!(reports));
        }
        part
    }
}

/// Returns the leases that differ from those that were sent, up to a number, and counts them as sent.
fn take_changes(sent: &mut LeaseTable, current: LeaseTable, limit: usize) -> Vec<Arc<Lease>> {
    if sent.ptr_eq(&current) {
        return Vec::new();
    }
    let differences = sent.diff(&current).filter_map(|difference| match difference {
        DiffItem::Add(_, lease) | DiffItem::Update { new: (_, lease), .. } => Some(lease.clone()),
        DiffItem::Remove(..) => None,
    });
    let changed: Vec<_> = differences.take(limit).collect();
    match changed.len() < limit {
        true => *sent = current,
        false => changed.iter().for_each(|lease| drop(sent.insert(lease.address, lease.clone()))),
    }
    changed
}

/// Reads the newest entries of a timeline; none if the database cannot be read, which the health check reports.
async fn timeline(gate: &Arc<Gate>, mac: Option<Mac>, limit: usize) -> Vec<Entry> {
    let store = gate.store.clone();
    let read = tokio::task::spawn_blocking(move || store.timeline(mac, limit)).await;
    read.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::fleet::LeaseState;

    #[test]
    fn leases_are_sent_once_each_and_a_bounded_number_at_a_time() {
        let lease = |last: u8, until| Lease {
            address: [10, 0, 0, last].into(),
            mac: Mac([2, 0, 0, 0, 0, last]),
            client: None,
            hostname: None,
            held: LeaseState::Bound,
            until: Timestamp::from_second(until).unwrap(),
        };
        let mut current: LeaseTable = (0..10).map(|last| (lease(last, 1).address, Arc::new(lease(last, 1)))).collect();
        let mut sent = LeaseTable::new();
        let mut take = |current: &LeaseTable| -> Vec<u8> {
            take_changes(&mut sent, current.clone(), 4).iter().map(|lease| lease.address.octets()[3]).collect()
        };
        assert_eq!(take(&current), [0, 1, 2, 3]);
        current.insert(lease(0, 2).address, Arc::new(lease(0, 2)));
        assert_eq!(take(&current), [0, 4, 5, 6]);
        assert_eq!(take(&current), [7, 8, 9]);
        assert!(take(&current).is_empty());
        current.insert(lease(5, 2).address, Arc::new(lease(5, 2)));
        assert_eq!(take(&current), [5]);
    }
}
