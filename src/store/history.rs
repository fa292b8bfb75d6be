use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::fleet::Object;

/// Bounds the changes that a watch can resume from.
const PAST_CHANGES: usize = 16_384;

/// Is one change of an object, as watches tell it.
#[derive(Debug, Clone)]
pub struct Past {
    pub version: u64,
    pub verb: Verb,
    /// Is the object as it became; as it last was, where it was deleted.
    pub object: Object,
    /// Is the object as it was before, for watches that select: it may have left their selection.
    pub before: Option<Object>,
    /// Is the object as the first watch wrote it: hundreds of them tell the same.
    pub wire: OnceLock<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
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
    past: VecDeque<Arc<Past>>,
}

impl History {
    pub fn starting_at(version: u64) -> Self {
        Self { inner: Mutex::new(Inner { floor: version, past: VecDeque::new() }) }
    }

    pub fn push(&self, changes: impl IntoIterator<Item = Past>) {
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

    pub fn since(&self, version: u64, at_most: usize) -> Result<Vec<Arc<Past>>, TooOld> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if version < inner.floor {
            return Err(TooOld { wanted: version, oldest: inner.floor });
        }
        let first = inner.past.partition_point(|past| past.version <= version);
        Ok(inner.past.iter().skip(first).take(at_most).cloned().collect())
    }
}
