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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_snapshots_is_kept() {
        let pages = Pages::default();
        let empty = Snapshot::default();
        let keep = |version| {
            let mut state = empty.clone();
            state.version = version;
            pages.keep(&Arc::new(state));
        };
        let count = MAX_SNAPSHOTS as u64;
        (1..=count).chain(1..=count).for_each(keep);
        assert_eq!(pages.0.lock().unwrap().len(), MAX_SNAPSHOTS, "a version is kept once");
        assert_eq!(pages.find(1).map(|state| state.version), Some(1));
        keep(count + 1);
        assert_eq!(pages.0.lock().unwrap().len(), MAX_SNAPSHOTS);
        assert!(pages.find(1).is_none() && pages.find(2).is_some() && pages.find(count + 1).is_some());
    }
}
