//! Forgets hosts that were seen and never declared: the oldest first, once they expire or room is short.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::fleet::first_seen::FirstSeenCounts;
use crate::fleet::{EntryPoint, FirstSeenLimits, Key, Object};
use crate::gate::Gate;
use crate::store::{Change, Snapshot, StoreError, now};

/// Interval between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of hosts that are deleted at a time. The writer puts them into one transaction.
const MAX_BATCH: usize = 256;

/// Sweeps until the server stops.
///
/// # Errors
/// None; the result is that of a service.
pub async fn watch(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let unlogged = gate.store.take_unlogged();
        if unlogged > 0 {
            tracing::info!(lines = unlogged, "log lines about undeclared hosts left out");
        }
        let given_up = given_up(&gate.store.snapshot(), &gate.enrolment.limits, now());
        let mut deleted = 0;
        for batch in given_up.chunks(MAX_BATCH) {
            let delete = |(key, version): &(Key, u64)| {
                gate.store.commit(Change::Delete { key: key.clone(), version: Some(*version) })
            };
            for outcome in join_all(batch.iter().map(delete)).await {
                match outcome {
                    Ok(_) => deleted += 1,
                    // Somebody wrote or deleted the host meanwhile.
                    Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => {}
                    Err(error) => tracing::debug!(%error, "failed to delete an expired host"),
                }
            }
        }
        if deleted > 0 {
            tracing::info!(hosts = deleted, "expired hosts deleted: seen and never declared");
        }
    }
}

/// Returns the hosts to give up with their versions, oldest first.
fn given_up(state: &Snapshot, limits: &FirstSeenLimits, now: Timestamp) -> Vec<(Key, u64)> {
    let mut gone = Vec::new();
    let mut gone_by_entry: HashMap<EntryPoint, usize> = HashMap::new();
    let mut gone_by_kind: HashMap<Discriminant<EntryPoint>, usize> = HashMap::new();
    for (mac, first_seen) in state.first_seen() {
        let (counts, kind) = (state.first_seen_counts(&first_seen.entry), discriminant(&first_seen.entry));
        let left = FirstSeenCounts {
            total: counts.total - gone.len(),
            of_kind: counts.of_kind - gone_by_kind.get(&kind).copied().unwrap_or(0),
            of_entry: counts.of_entry - gone_by_entry.get(&first_seen.entry).copied().unwrap_or(0),
        };
        if limits.gives_up(&first_seen, left, now)
            && let Some(host) = state.host_by_mac(mac)
        {
            let version = host.metadata.resource_version;
            gone.push((Object::Host(host).key(), version));
            *gone_by_entry.entry(first_seen.entry).or_insert(0) += 1;
            *gone_by_kind.entry(kind).or_insert(0) += 1;
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{FirstSeen, Host, HostSpec, HostStatus, Mac, Meta};

    #[test]
    fn the_oldest_are_given_up_until_there_is_room() {
        let limits = FirstSeenLimits { per_network: 100, ..FirstSeenLimits::default() };
        let mut state = Snapshot::default();
        for number in 0..100u8 {
            let mac = Mac([2, 0, 0, 0, 0, number]);
            let time = Timestamp::from_second(i64::from(number)).unwrap();
            let first_seen =
                Some(Box::new(FirstSeen { entry: EntryPoint::Interface("eth1".into()), time, line: None }));
            let metadata = Meta::named(mac.dashed().parse().unwrap(), None);
            let status = HostStatus { first_seen, ..HostStatus::default() };
            state.put(Object::Host(Arc::new(Host { metadata, spec: HostSpec::for_mac(mac), status })));
        }
        let at = |seconds| given_up(&state, &limits, Timestamp::from_second(seconds).unwrap());
        assert_eq!(at(3000).len(), 0, "none is an hour old");
        let names: Vec<_> = at(7200).iter().map(|(key, _)| key.name.to_string()).collect();
        assert_eq!((names.len(), names[0].as_str()), (11, "02-00-00-00-00-00"));
        assert_eq!(at(8 * 86_400).len(), 100, "all have expired");
    }
}
