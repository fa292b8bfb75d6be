//! The bound of log lines about machines that nobody declared: strangers cause them at will.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of lines in one interval.
const MAX_LINES: u64 = 100;
/// Length of an interval.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts the lines of the present interval, and those that were left out.
#[derive(Debug, Default)]
pub struct StrangerLog(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    written: u64,
    suppressed: u64,
}

impl StrangerLog {
    /// Returns whether one more line is written now.
    pub fn admit(&self) -> bool {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> bool {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.since.is_none_or(|since| now.saturating_duration_since(since) >= INTERVAL) {
            (lines.since, lines.written) = (Some(now), 0);
        }
        let admits = lines.written < MAX_LINES;
        match admits {
            true => lines.written += 1,
            false => lines.suppressed += 1,
        }
        admits
    }

    /// Returns the number of lines that were left out since the last call.
    pub fn take_suppressed(&self) -> u64 {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_in_part_and_the_rest_is_counted() {
        let (log, start) = (StrangerLog::default(), Instant::now());
        let admitted = (0..1000).filter(|_| log.admit_at(start)).count();
        assert_eq!((admitted, log.take_suppressed(), log.take_suppressed()), (100, 900, 0));
        assert!(log.admit_at(start + INTERVAL));
    }
}
