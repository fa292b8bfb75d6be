//! Snapshots of lists that are read page by page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::Snapshot;

/// Maximum number of snapshots that are kept for lists read page by page.
const MAX_SNAPSHOTS: usize = 8;
/// Time for which such a snapshot is kept.
const SNAPSHOT_TTL: Duration = Duration::from_secs(300);

/// The snapshots of lists that are read page by page, so that all pages of a list show the same state.
#[derive(Debug, Default)]
pub struct Pages(Mutex<VecDeque<(Instant, Arc<Snapshot>)>>);

impl Pages {
    /// Keeps a snapshot for the next pages of its list.
    pub fn keep(&self, state: &Arc<Snapshot>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(since, _)| since.elapsed() < SNAPSHOT_TTL);
        if kept.iter().any(|(_, known)| known.version == state.version) {
            return;
        }
        if kept.len() == MAX_SNAPSHOTS {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), state.clone()));
    }

    /// Returns the snapshot of a version, if it is still kept.
    pub fn find(&self, version: u64) -> Option<Arc<Snapshot>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(_, state)| state.version == version).map(|(_, state)| state.clone())
    }
}
