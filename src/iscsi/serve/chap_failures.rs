//! Guesses of CHAP secrets: a source or an initiator name that fails too often must wait.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bounds::{Rate, Source, TokenBuckets};

/// Failures of one source: ten at once, then one in six seconds.
const SOURCE_RATE: Rate = Rate { tokens: 10, per: Duration::from_secs(60), burst: 10 };
/// Failures in one initiator's name from all sources: sixty at once, then one a second.
const NAME_RATE: Rate = Rate { tokens: 60, per: Duration::from_secs(60), burst: 60 };
/// Maximum number of sources, and of names, whose failures are counted separately.
const MAX_REMEMBERED: usize = 4096;

/// The recent failures of CHAP.
#[derive(Debug)]
pub struct ChapFailures(Mutex<Failures>);

#[derive(Debug)]
struct Failures {
    by_source: TokenBuckets<Source>,
    by_name: TokenBuckets<String>,
}

impl Default for ChapFailures {
    fn default() -> Self {
        let by_source = TokenBuckets::new(SOURCE_RATE, MAX_REMEMBERED);
        Self(Mutex::new(Failures { by_source, by_name: TokenBuckets::new(NAME_RATE, MAX_REMEMBERED) }))
    }
}

impl ChapFailures {
    /// Records a wrong or missing answer to a challenge.
    pub fn record(&self, source: Source, initiator: &str, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.by_source.take(source, now);
        failures.by_name.take(initiator.to_owned(), now);
    }

    /// Returns whether a login must wait. `is_own_address` returns whether the source is the initiator's own machine,
    /// which others cannot lock out by guesses in its name; it is called only where that makes a difference.
    pub fn must_wait(
        &self,
        source: Source,
        initiator: &str,
        now: Instant,
        is_own_address: impl FnOnce() -> bool,
    ) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (by_source, by_name) =
            (failures.by_source.has_token(&source, now), failures.by_name.has_token(&initiator.to_owned(), now));
        drop(failures);
        !by_source || (!by_name && !is_own_address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_slowed_down_by_source_and_by_name() {
        let (failures, start) = (ChapFailures::default(), Instant::now());
        let source = |last: u8| Source::of([10, 0, 0, last].into());
        let waits = |last, name: &str, own: bool| failures.must_wait(source(last), name, start, || own);
        (0..10).for_each(|_| failures.record(source(1), "a", start));
        assert!(waits(1, "a", true) && waits(1, "b", false), "the source waits, whatever name it takes");
        assert!(!waits(2, "a", false));
        (2..60).for_each(|last| failures.record(source(last), "a", start));
        assert!(waits(100, "a", false) && !waits(100, "a", true) && !waits(100, "b", false));
        assert!(!failures.must_wait(source(1), "a", start + Duration::from_secs(7), || false));
    }
}
