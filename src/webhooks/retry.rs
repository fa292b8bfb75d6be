//! When a notification is sent again, and when it is given up.

use std::time::Duration;

/// First pause after a failure; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Maximum pause that a receiver may ask for (`Retry-After`).
const MAX_REQUESTED_PAUSE: Duration = Duration::from_secs(3600);
/// Deviation of a pause, in percent: receivers that were down are not met by all at once.
const JITTER_PERCENT: u32 = 25;
/// Age beyond which a notification is given up.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// What an answer of a receiver means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// The receiver took the notification.
    Taken,
    /// The receiver will not take it, however often it is sent.
    Rejected,
    /// The receiver may take it later.
    Later,
}

impl Reception {
    /// Returns what a status code means. Those about the content (400, 410, 413, 415, 422) are final; those that a wrong
    /// configuration of the receiver causes, such as 401 and 404, are not. Redirects are not followed.
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Taken,
            400 | 410 | 413 | 415 | 422 => Self::Rejected,
            _ => Self::Later,
        }
    }
}

/// The pauses between attempts.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the pause after another failure. `requested` is what the receiver asked for.
    pub fn next(&mut self, requested: Option<Duration>, random: u32) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(MAX_PAUSE);
        self.failures += 1;
        let pause = pause * (100 - JITTER_PERCENT + random % (2 * JITTER_PERCENT + 1)) / 100;
        pause.max(requested.unwrap_or_default().min(MAX_REQUESTED_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_code_decides() {
        for (status, expected) in [
            (200, Reception::Taken),
            (204, Reception::Taken),
            (302, Reception::Later),
            (400, Reception::Rejected),
            (401, Reception::Later),
            (404, Reception::Later),
            (410, Reception::Rejected),
            (415, Reception::Rejected),
            (429, Reception::Later),
            (503, Reception::Later),
        ] {
            assert_eq!(Reception::of(status), expected, "{status}");
        }
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.next(None, JITTER_PERCENT).as_secs()).collect();
        assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(pauses[39], 300);
        for random in [0, 1, u32::MAX] {
            let pause = Backoff::default().next(None, random);
            assert!((Duration::from_millis(750)..=Duration::from_millis(1250)).contains(&pause), "{pause:?}");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_more_time() {
        let next = |requested| Backoff::default().next(Some(Duration::from_secs(requested)), JITTER_PERCENT).as_secs();
        assert_eq!((next(0), next(90), next(100_000)), (1, 90, 3600));
    }
}
