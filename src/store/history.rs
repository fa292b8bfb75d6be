//! The retained changes of objects, from which watches resume.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::fleet::Object;

/// Maximum number of retained changes: the distance from which a watch can resume.
const MAX_RETAINED_CHANGES: usize = 16_384;

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
    /// The object in JSON, encoded by the first watch and shared by all.
    pub wire: OnceLock<Bytes>,
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
    records: VecDeque<Arc<ChangeRecord>>,
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
                state.floor = oldest.version;
            }
            state.records.push_back(Arc::new(record));
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
        let first = state.records.partition_point(|record| record.version <= version);
        Ok(state.records.iter().skip(first).take(at_most).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Host, HostSpec, HostStatus, Mac, Meta};

    #[test]
    fn a_watch_resumes_without_a_gap_or_gets_an_error() {
        let metadata = Meta::named("h".parse().unwrap(), None);
        let spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let object = Object::Host(Arc::new(Host { metadata, spec, status: HostStatus::default() }));
        let record = |version| ChangeRecord {
            version,
            operation: ChangeKind::Modified,
            object: object.clone(),
            before: None,
            wire: OnceLock::new(),
        };
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
}
