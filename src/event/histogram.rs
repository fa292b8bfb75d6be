//! A histogram of durations that is cheap to record: two relaxed atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Number of upper bounds.
const BOUND_COUNT: usize = 16;
/// Upper bounds for requests and commits, in nanoseconds; a last bucket has none.
const REQUEST_BOUNDS: [u64; BOUND_COUNT] = [
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

/// Upper bounds for the stages of boots, in nanoseconds: 0.1 s to an hour.
const BOOT_BOUNDS: [u64; BOUND_COUNT] = [
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    30_000_000_000,
    60_000_000_000,
    120_000_000_000,
    300_000_000_000,
    600_000_000_000,
    1_200_000_000_000,
    1_800_000_000_000,
    3_600_000_000_000,
];

/// Counts of durations by bucket, and their sum.
#[derive(Debug)]
pub struct DurationHistogram {
    bounds: &'static [u64; BOUND_COUNT],
    buckets: [AtomicU64; BOUND_COUNT + 1],
    nanoseconds: AtomicU64,
}

impl Default for DurationHistogram {
    fn default() -> Self {
        Self { bounds: &REQUEST_BOUNDS, buckets: Default::default(), nanoseconds: AtomicU64::new(0) }
    }
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
    /// Creates a histogram with the bounds for stages of boots.
    pub fn of_boots() -> Self {
        Self { bounds: &BOOT_BOUNDS, ..Self::default() }
    }

    /// Records a duration.
    pub fn record(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|bound| nanoseconds <= *bound).unwrap_or(BOUND_COUNT);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Reads the counts.
    pub fn read(&self) -> HistogramReading {
        const NANOSECONDS: f64 = 1e9;
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / NANOSECONDS).chain([f64::INFINITY]);
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

    #[test]
    fn the_stages_of_boots_have_bounds_of_their_own() {
        let histogram = DurationHistogram::of_boots();
        for seconds in [0, 61, 7200] {
            histogram.record(Duration::from_secs(seconds));
        }
        let reading = histogram.read();
        let filled: Vec<_> = reading.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.1, 1), (120.0, 1), (f64::INFINITY, 1)]);
    }
}
