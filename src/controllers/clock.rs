//! Follows steps of the wall clock, as of NTP's first one on a computer without a battery-backed clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::event::Event;
use crate::store::{Store, clock};

/// Interval between checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Compares the clocks until stopped. The store holds a step back until the stored times have followed it.
pub async fn watch(store: Arc<Store>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let Some(step) = clock::pending_step() else { continue };
        match store.follow_clock_step(step).await {
            Ok(()) => store.record_event(None, Event::ClockStepped { seconds: step.as_secs() }),
            Err(error) => tracing::debug!(%error, "failed to move the stored times by a clock step"),
        }
    }
}
