//! Shares of a resource with a fixed number of places.

use std::collections::HashMap;
use std::hash::Hash;

/// The limits of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareLimits {
    /// Number of places.
    pub total: usize,
    /// Maximum number of places of one source.
    pub per_source: usize,
    /// Number of places that only known sources get.
    pub reserve: usize,
}

/// The reason that a source gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// The source has `per_source` places.
    Source,
    /// All places that the source may have are taken.
    Total,
}

/// The places of a resource, by who has them. Memory: one entry for each source that has a place.
#[derive(Debug)]
pub struct Shares<K> {
    limits: ShareLimits,
    by_source: HashMap<K, usize>,
    taken: usize,
}

impl<K: Eq + Hash> Shares<K> {
    /// Creates a resource of which nothing is taken.
    pub fn new(limits: ShareLimits) -> Self {
        Self { limits, by_source: HashMap::new(), taken: 0 }
    }

    /// Takes a place. `is_known` is called only where the source needs the reserve.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(&mut self, source: K, is_known: impl FnOnce() -> bool) -> Result<(), Excess> {
        let has = self.taken_by(&source);
        if has >= self.limits.per_source {
            return Err(Excess::Source);
        }
        let open = self.limits.total.saturating_sub(self.limits.reserve);
        if self.taken >= self.limits.total || (self.taken >= open && !is_known()) {
            return Err(Excess::Total);
        }
        self.taken += 1;
        self.by_source.insert(source, has + 1);
        Ok(())
    }

    /// Returns a place.
    pub fn give_back(&mut self, source: &K) {
        let Some(has) = self.by_source.get_mut(source) else { return };
        self.taken -= 1;
        *has -= 1;
        if *has == 0 {
            self.by_source.remove(source);
        }
    }

    /// Returns the number of places that a source has.
    pub fn taken_by(&self, source: &K) -> usize {
        self.by_source.get(source).copied().unwrap_or(0)
    }

    /// Returns the number of places that are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ShareLimits = ShareLimits { total: 10, per_source: 4, reserve: 3 };

    #[test]
    fn one_source_gets_its_share_and_no_more() {
        let mut shares = Shares::new(LIMITS);
        let taken = (0..100).filter(|_| shares.take('a', || true).is_ok()).count();
        assert_eq!((taken, shares.take('a', || true)), (4, Err(Excess::Source)));
        assert_eq!(shares.take('b', || false), Ok(()));
        shares.give_back(&'a');
        assert_eq!(shares.take('a', || false), Ok(()));
    }

    #[test]
    fn the_reserve_is_for_known_sources() {
        let mut shares = Shares::new(LIMITS);
        let strangers = (0..100).filter(|number| shares.take(*number, || false).is_ok()).count();
        assert_eq!((strangers, shares.take(200, || false)), (7, Err(Excess::Total)));
        let known = (300..400).filter(|number| shares.take(*number, || true).is_ok()).count();
        assert_eq!((known, shares.taken()), (3, 10));
    }

    #[test]
    fn a_place_that_is_given_back_twice_counts_once() {
        let mut shares = Shares::new(LIMITS);
        assert_eq!(shares.take('a', || false), Ok(()));
        shares.give_back(&'a');
        shares.give_back(&'a');
        assert_eq!((shares.taken(), shares.by_source.len()), (0, 0));
    }
}
