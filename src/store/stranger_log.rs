//! The bound of log lines about machines that nobody declared: strangers cause them at will.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Event;

/// Maximum number of lines of one share in one interval.
const MAX_LINES: u64 = 100;
/// Length of an interval.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts the lines of the present interval, and those that were left out. Faults have a share of their own.
#[derive(Debug, Default)]
pub struct StrangerLog {
    faults: Mutex<Lines>,
    others: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    written: u64,
    suppressed: u64,
}

impl StrangerLog {
    /// Returns whether one more line is written at a time.
    pub fn admit(&self, event: &Event, now: Instant) -> bool {
        let share = if event.is_fault() { &self.faults } else { &self.others };
        let mut lines = share.lock().unwrap_or_else(PoisonError::into_inner);
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
        let take =
            |share: &Mutex<Lines>| std::mem::take(&mut share.lock().unwrap_or_else(PoisonError::into_inner).suppressed);
        take(&self.faults) + take(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_in_part_and_the_rest_is_counted() {
        let (log, start) = (StrangerLog::default(), Instant::now());
        let (seen, fault) = (Event::Held {}, Event::ManifestInvalid { message: "x".to_owned() });
        let admitted = (0..1000).filter(|_| log.admit(&seen, start)).count();
        assert_eq!((admitted, log.take_suppressed(), log.take_suppressed()), (100, 900, 0));
        assert!(log.admit(&fault, start), "a flood hides no faults");
        assert!(log.admit(&seen, start + INTERVAL));
    }
}
