//! The retained changes of objects, from which watches resume.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::fleet::{Name, Object, Phase};

use super::seen_host::SeenHost;

/// Maximum number of retained changes: the distance from which a watch can resume.
const MAX_RETAINED_CHANGES: usize = 16_384;
/// Number of the newest changes that are retained as watches read them. Most watches are not further behind.
const NEWEST_CHANGES: usize = 1024;

/// A change of one object, as reported to watches.
#[derive(Debug, Clone)]
pub struct ChangeRecord {
    /// Version of the state after the change.
    pub version: u64,
    /// Kind of the change.
    pub operation: ChangeKind,
    /// The object after the change; a deleted object in its last state.
    pub object: Object,
    /// The object before the change. A watch with a selector needs it: the object may have left the selection.
    pub before: Option<Object>,
    /// The compact form of the object, if it has one.
    pub(super) seen: Option<Arc<SeenHost>>,
    /// The object in JSON, encoded by the first watch and shared by all.
    pub wire: OnceLock<Bytes>,
}

impl ChangeRecord {
    /// Returns the record of a change of an object without a compact form.
    pub(super) fn new(version: u64, operation: ChangeKind, object: Object, before: Option<Object>) -> Self {
        Self { version, operation, object, before, seen: None, wire: OnceLock::new() }
    }

    /// Returns the phase that a host had before, and the one that it entered: that of a new host, or another one.
    pub fn phase_change(&self) -> Option<(Option<Phase>, Phase)> {
        let Object::Host(host) = &self.object else { return None };
        let before = match &self.before {
            Some(Object::Host(before)) => Some(before.status.phase),
            Some(Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_)) | None => None,
        };
        let phase = host.status.phase;
        (self.operation != ChangeKind::Deleted && before != Some(phase)).then_some((before, phase))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// Kind of a change, in the words of Kubernetes watches.
pub enum ChangeKind {
    /// The object was created.
    Added,
    /// The object was changed.
    Modified,
    /// The object was deleted.
    Deleted,
}

/// Error of a watch that resumes from a version before the retained history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("version {wanted} is too old: the retained history begins at {oldest}")]
pub struct TooOld {
    /// Version that the watch asked for.
    pub wanted: u64,
    /// Oldest version from which a watch can resume.
    pub oldest: u64,
}

/// The retained changes, oldest first.
#[derive(Debug)]
pub struct History {
    state: Mutex<HistoryState>,
}

#[derive(Debug)]
struct HistoryState {
    /// Newest version whose change is no longer retained.
    floor: u64,
    records: VecDeque<RetainedChange>,
}

/// A retained change.
#[derive(Debug)]
enum RetainedChange {
    /// As watches read it.
    Whole(Arc<ChangeRecord>),
    /// The enrolment of a host that was only seen: its version, its namespace and its compact form.
    Enrolment(u64, Name, Arc<SeenHost>),
}

impl RetainedChange {
    fn version(&self) -> u64 {
        match self {
            Self::Whole(record) => record.version,
            Self::Enrolment(version, _, _) => *version,
        }
    }

    /// Returns the compact form of the change, if it has one.
    fn compact(&self) -> Option<Self> {
        let Self::Whole(record) = self else { return None };
        let (ChangeKind::Added, Object::Host(host)) = (record.operation, &record.object) else { return None };
        let namespace = host.metadata.namespace.clone()?;
        Some(Self::Enrolment(record.version, namespace, record.seen.clone()?))
    }

    fn to_record(&self) -> Option<Arc<ChangeRecord>> {
        match self {
            Self::Whole(record) => Some(record.clone()),
            Self::Enrolment(version, namespace, seen) => {
                let object = Object::Host(Arc::new(seen.to_host(namespace)?));
                Some(Arc::new(ChangeRecord::new(*version, ChangeKind::Added, object, None)))
            }
        }
    }
}

impl History {
    /// Returns an empty history after a version.
    pub fn starting_at(version: u64) -> Self {
        Self { state: Mutex::new(HistoryState { floor: version, records: VecDeque::new() }) }
    }

    /// Appends changes and drops the oldest ones beyond `MAX_RETAINED_CHANGES`.
    pub fn push(&self, changes: impl IntoIterator<Item = ChangeRecord>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for record in changes {
            if state.records.len() == MAX_RETAINED_CHANGES
                && let Some(oldest) = state.records.pop_front()
            {
                state.floor = oldest.version();
            }
            state.records.push_back(RetainedChange::Whole(Arc::new(record)));
            let older = state.records.len().checked_sub(NEWEST_CHANGES);
            if let Some(older) = older.and_then(|older| state.records.get_mut(older))
                && let Some(compact) = older.compact()
            {
                *older = compact;
            }
        }
    }

    /// Returns the changes after a version, oldest first, at most `at_most`.
    ///
    /// # Errors
    /// The version is older than the retained history.
    pub fn since(&self, version: u64, at_most: usize) -> Result<Vec<Arc<ChangeRecord>>, TooOld> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if version < state.floor {
            return Err(TooOld { wanted: version, oldest: state.floor });
        }
        let first = state.records.partition_point(|record| record.version() <= version);
        Ok(state.records.range(first..).take(at_most).filter_map(RetainedChange::to_record).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::enrolment::UnknownHostAction;
    use crate::fleet::{EntryPoint, FirstSeen, Host, HostSpec, HostStatus, Mac, Meta};

    #[test]
    fn a_watch_resumes_without_a_gap_or_gets_an_error() {
        let metadata = Meta::named("h".parse().unwrap(), None);
        let spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let object = Object::Host(Arc::new(Host { metadata, spec, status: HostStatus::default() }));
        let record = |version| ChangeRecord::new(version, ChangeKind::Modified, object.clone(), None);
        let history = History::starting_at(10);
        let last = 10 + MAX_RETAINED_CHANGES as u64;
        history.push((11..=last).map(record));
        assert_eq!(history.since(10, 1).unwrap()[0].version, 11, "all changes are retained");
        history.push([record(last + 1)]);
        assert_eq!(history.since(10, 1).unwrap_err(), TooOld { wanted: 10, oldest: 11 });
        let kept: Vec<u64> = history.since(11, usize::MAX).unwrap().iter().map(|record| record.version).collect();
        assert_eq!(kept, (12..=last + 1).collect::<Vec<_>>());
        assert!(history.since(last + 1, 1).unwrap().is_empty());
    }

    #[test]
    fn an_enrolment_reads_the_same_when_newer_changes_have_followed() {
        let time = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let enrolment = |version: u64| {
            let [.., a, b] = version.to_be_bytes();
            let action = UnknownHostAction::Hold;
            let mut host = action.draft(Mac([2, 0, 0, 0, a, b]), "default".parse().unwrap(), None).unwrap();
            let Meta { uid, generation, creation_timestamp, resource_version, .. } = &mut host.metadata;
            (*uid, *generation) = (uuid::Uuid::from_u128(7).to_string(), 1);
            (*creation_timestamp, *resource_version) = (Some(time), version);
            (host.status.phase_transition_time, host.status.last_seen_time) = (Some(time), Some(time));
            let entry = EntryPoint::Interface("lan0".into());
            host.status.first_seen = Some(Box::new(FirstSeen { entry, time, line: Some(1) }));
            let seen = SeenHost::of(&host).map(Arc::new);
            let object = Object::Host(Arc::new(host));
            ChangeRecord { seen, ..ChangeRecord::new(version, ChangeKind::Added, object, None) }
        };
        let history = History::starting_at(0);
        let last = 2 * NEWEST_CHANGES as u64;
        history.push((1..=last).map(enrolment));
        let compact = |change: &&RetainedChange| matches!(change, RetainedChange::Enrolment(..));
        assert_eq!(history.state.lock().unwrap().records.iter().filter(compact).count() as u64, last / 2 + 1);
        for (record, version) in history.since(0, usize::MAX).unwrap().iter().zip(1..=last) {
            let expected = enrolment(version);
            assert_eq!((record.version, record.operation), (version, ChangeKind::Added));
            assert_eq!(record.object, expected.object);
        }
        assert_eq!(history.since(last - 2, 9).unwrap().len(), 2);
    }
}
