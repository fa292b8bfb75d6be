use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::fleet::Object;

/// Bounds the changes that a watch can resume from.
const PAST_CHANGES: usize = 16_384;

/// Is one change of an object, as watches tell it.
#[derive(Debug, Clone)]
pub struct ChangeRecord {
    pub version: u64,
    pub verb: Operation,
    /// Is the object as it became; as it last was, where it was deleted.
    pub object: Object,
    /// Is the object as it was before, for watches that select: it may have left their selection.
    pub before: Option<Object>,
    /// Is the object as the first watch wrote it: hundreds of them tell the same.
    pub wire: OnceLock<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Added,
    Modified,
    Deleted,
}

/// Says that a version lies before the history that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("version {wanted} is too old: the history begins at {oldest}")]
pub struct TooOld {
    pub wanted: u64,
    pub oldest: u64,
}

#[derive(Debug)]
pub struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Is the newest version that is no longer told of.
    floor: u64,
    past: VecDeque<Arc<ChangeRecord>>,
}

impl History {
    pub fn starting_at(version: u64) -> Self {
        Self { inner: Mutex::new(Inner { floor: version, past: VecDeque::new() }) }
    }

    pub fn push(&self, changes: impl IntoIterator<Item = ChangeRecord>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for past in changes {
            if inner.past.len() == PAST_CHANGES
                && let Some(oldest) = inner.past.pop_front()
            {
                inner.floor = oldest.version;
            }
            inner.past.push_back(Arc::new(past));
        }
    }

    pub fn since(&self, version: u64, at_most: usize) -> Result<Vec<Arc<ChangeRecord>>, TooOld> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if version < inner.floor {
            return Err(TooOld { wanted: version, oldest: inner.floor });
        }
        let first = inner.past.partition_point(|past| past.version <= version);
        Ok(inner.past.iter().skip(first).take(at_most).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Host, HostSpec, HostStatus, Mac, Meta};

    #[test]
    fn who_is_behind_what_is_kept_is_told_and_nobody_misses_a_change() {
        let metadata = Meta::named("h".parse().unwrap(), None);
        let spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let object = Object::Host(Arc::new(Host { metadata, spec, status: HostStatus::default() }));
        let past = |version| ChangeRecord {
            version,
            verb: Operation::Modified,
            object: object.clone(),
            before: None,
            wire: OnceLock::new(),
        };
        let history = History::starting_at(10);
        let last = 10 + PAST_CHANGES as u64;
        history.push((11..=last).map(past));
        assert_eq!(history.since(10, 1).unwrap()[0].version, 11, "all of them are kept");
        history.push([past(last + 1)]);
        assert_eq!(history.since(10, 1).unwrap_err(), TooOld { wanted: 10, oldest: 11 });
        let kept: Vec<u64> = history.since(11, usize::MAX).unwrap().iter().map(|past| past.version).collect();
        assert_eq!(kept, (12..=last + 1).collect::<Vec<_>>());
        assert!(history.since(last + 1, 1).unwrap().is_empty());
    }
}
