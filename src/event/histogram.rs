//! A histogram of durations that is cheap to record: two relaxed atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in nanoseconds; a last bucket has none.
const BOUNDS: [u64; 16] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];

/// Counts of durations by bucket, and their sum.
#[derive(Debug, Default)]
pub struct DurationHistogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// The content of a histogram at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramReading {
    /// Sum of all durations, in seconds.
    pub sum: f64,
    /// Number of durations.
    pub count: u64,
    /// Upper bound in seconds and number of durations of each bucket, not cumulated; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl DurationHistogram {
    /// Records a duration.
    pub fn record(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanoseconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Reads the counts.
    pub fn read(&self) -> HistogramReading {
        const NANOSECONDS: f64 = 1e9;
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / NANOSECONDS).chain([f64::INFINITY]);
        let buckets: Vec<_> =
            bounds.zip(&self.buckets).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        HistogramReading { sum: self.nanoseconds.load(Ordering::Relaxed) as f64 / NANOSECONDS, count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = DurationHistogram::default();
        for microseconds in [0, 50, 51, 1_000, 20_000_000] {
            histogram.record(Duration::from_micros(microseconds));
        }
        let reading = histogram.read();
        let filled: Vec<_> = reading.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.000_05, 2), (0.000_1, 1), (0.001, 1), (f64::INFINITY, 1)]);
        assert_eq!(reading.count, 5);
        assert!((reading.sum - 20.001_101).abs() < 1e-9, "{}", reading.sum);
    }
}
