//! The time of a poll, and the times of the next ones.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Interval between polls of a BMC; the same as in OpenStack Ironic.
pub const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum random deviation from the interval, in percent, so that BMCs are not polled at the same time.
pub const MAX_JITTER_PERCENT: u32 = 20;
/// Maximum interval between polls of a BMC that does not answer.
const MAX_BACK_OFF: Duration = Duration::from_secs(15 * 60);

/// The current time and a random number for jitter.
#[derive(Debug, Clone, Copy)]
pub struct PollTime {
    /// Monotonic time.
    pub now: Instant,
    /// Wall-clock time.
    pub at: Timestamp,
    /// Random number.
    pub random: u32,
}

impl PollTime {
    /// Returns a random time within the next interval, to spread the polls at start.
    pub fn spread_start(&self) -> Instant {
        self.now + POLL_INTERVAL * (self.random % 1000) / 1000
    }

    /// Returns the time of the next poll after a number of consecutive failures.
    pub fn next_poll(&self, failures: u32) -> Instant {
        let plain = POLL_INTERVAL.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(MAX_BACK_OFF);
        self.now + plain * (100 - MAX_JITTER_PERCENT + self.random % (2 * MAX_JITTER_PERCENT + 1)) / 100
    }
}
