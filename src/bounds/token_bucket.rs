//! Rates: a token bucket for each source.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of tokens that one `per` brings.
    pub tokens: u32,
    /// The time that brings `tokens` tokens.
    pub per: Duration,
    /// Maximum number of tokens of a source that was idle.
    pub burst: u32,
}

impl Rate {
    /// Returns the time that brings one token.
    fn interval(self) -> Duration {
        self.per / self.tokens.max(1)
    }

    /// Returns the time that fills an empty bucket.
    fn fill_time(self) -> Duration {
        self.interval().saturating_mul(self.burst)
    }
}

/// A token bucket for each source. Memory: at most `sources` entries. Sources beyond it share one bucket.
#[derive(Debug)]
pub struct TokenBuckets<K> {
    rate: Rate,
    sources: usize,
    /// Time at which each bucket is full again (the generic cell rate algorithm). A full bucket has no entry.
    full_at: HashMap<K, Instant>,
    others_full_at: Option<Instant>,
    pruned_at: Option<Instant>,
}

impl<K: Eq + Hash> TokenBuckets<K> {
    /// Creates full buckets for at most `sources` sources.
    pub fn new(rate: Rate, sources: usize) -> Self {
        Self { rate, sources, full_at: HashMap::new(), others_full_at: None, pruned_at: None }
    }

    /// Takes a token of a source, and returns whether there was one.
    pub fn take(&mut self, source: K, now: Instant) -> bool {
        self.make_room(&source, now);
        let is_listed = self.full_at.contains_key(&source) || self.full_at.len() < self.sources;
        let full_at = if is_listed { self.full_at.get(&source).copied() } else { self.others_full_at };
        let Some(next) = self.after_one(full_at, now) else { return false };
        match is_listed {
            true => drop(self.full_at.insert(source, next)),
            false => self.others_full_at = Some(next),
        }
        true
    }

    /// Returns whether a source has a token, without taking it.
    pub fn has_token(&self, source: &K, now: Instant) -> bool {
        let is_listed = self.full_at.contains_key(source) || self.full_at.len() < self.sources;
        let full_at = if is_listed { self.full_at.get(source).copied() } else { self.others_full_at };
        self.after_one(full_at, now).is_some()
    }

    /// Returns the time at which a bucket is full after one token is taken; `None` if it is empty.
    fn after_one(&self, full_at: Option<Instant>, now: Instant) -> Option<Instant> {
        let next = full_at.map_or(now, |at| at.max(now)) + self.rate.interval();
        (next <= now + self.rate.fill_time()).then_some(next)
    }

    /// Forgets full buckets where there is no room for another one, at most once a second.
    fn make_room(&mut self, source: &K, now: Instant) {
        const PRUNE_INTERVAL: Duration = Duration::from_secs(1);
        let is_due = self.pruned_at.is_none_or(|at| now >= at + PRUNE_INTERVAL);
        if self.full_at.len() >= self.sources && is_due && !self.full_at.contains_key(source) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.pruned_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { tokens: 2, per: Duration::from_secs(1), burst: 5 };

    fn taken(buckets: &mut TokenBuckets<u32>, source: u32, times: usize, now: Instant) -> usize {
        (0..times).filter(|_| buckets.take(source, now)).count()
    }

    #[test]
    fn a_source_gets_a_burst_and_then_the_rate() {
        let (mut buckets, start) = (TokenBuckets::new(RATE, 10), Instant::now());
        assert_eq!(taken(&mut buckets, 1, 100, start), 5);
        assert!(!buckets.has_token(&1, start) && buckets.has_token(&2, start));
        assert_eq!(taken(&mut buckets, 1, 100, start + Duration::from_secs(1)), 2);
        assert_eq!(taken(&mut buckets, 1, 100, start + Duration::from_secs(100)), 5);
    }

    #[test]
    fn sources_beyond_the_limit_share_one_bucket() {
        let (mut buckets, start) = (TokenBuckets::new(RATE, 2), Instant::now());
        let total: usize = (0..100).map(|source| taken(&mut buckets, source, 100, start)).sum();
        assert_eq!((total, buckets.full_at.len()), (15, 2));
        // The buckets that are full again make room.
        let later = start + Duration::from_secs(10);
        assert_eq!(taken(&mut buckets, 500, 100, later), 5);
        assert_eq!(buckets.full_at.len(), 1);
    }
}
