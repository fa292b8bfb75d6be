//! Follows steps of the wall clock, as of NTP's first one on a computer without a battery-backed clock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::event::Event;
use crate::gate::Gate;
use crate::gate::degradations::{Degradation, Severity, Source};
use crate::store::clock;

/// Interval between checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time before which this program did not exist, in seconds since 1970: 2026-11-01. A clock that shows less is not set.
const EARLIEST: i64 = 1_793_491_200;

/// Compares the clocks until stopped, and tells whether the clock is set. The store holds a step back until the stored times have followed it.
pub async fn watch(gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        gate.degradations.set(Source::Clock, unset_clock(Timestamp::now()).into_iter().collect());
        let store = &gate.store;
        let Some(step) = clock::pending_step() else { continue };
        match store.follow_clock_step(step).await {
            Ok(()) => store.record_event(None, Event::ClockStepped { seconds: step.as_secs() }),
            Err(error) => tracing::debug!(%error, "failed to move the stored times by a clock step"),
        }
    }
}

/// Returns that the clock is not set, if it is not.
fn unset_clock(now: Timestamp) -> Option<Degradation> {
    let is_unset = now.as_second() < EARLIEST;
    is_unset.then(|| Degradation {
        code: "clock_not_set",
        subject: "clock".to_owned(),
        message: format!("the clock is not set: it shows {}", now.strftime("%Y-%m-%d")),
        public: None,
        severity: Severity::Note,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_first_release_is_not_set() {
        for (time, is_unset) in
            [("1970-01-01T00:00:09Z", true), ("2026-10-31T23:59:59Z", true), ("2026-11-01T00:00:00Z", false)]
        {
            assert_eq!(unset_clock(time.parse().unwrap()).is_some(), is_unset, "{time}");
        }
    }
}
