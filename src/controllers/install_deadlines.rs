//! Fails installs that exceed `install.timeout`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::fleet::lifecycle::{InstallDeadlines, Transition};
use crate::gate::Gate;
use crate::store::{self, Change, Observation};

/// Interval between checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks the deadlines of all installs under way, until stopped.
pub async fn watch(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    let mut deadlines = InstallDeadlines::default();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let now = (store::now(), Instant::now());
        let state = gate.store.snapshot();
        let under_way: Vec<_> = state.under_way().collect();
        let overdue = deadlines.overdue(under_way.iter().map(Arc::as_ref), now, &gate.site().install);
        for (mac, since) in overdue {
            let (transition, observation) = (Transition::TimedOut { since }, Observation::default());
            let change = Change::Advance { mac, transition, observation, event: None };
            if let Err(error) = gate.store.commit(change).await {
                tracing::error!(%error, %mac, "failed to record an install timeout");
            }
        }
    }
}
