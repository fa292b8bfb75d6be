//! The places of transfers. A transfer whose client has not shown itself gives its place to a newer one.

use std::collections::{HashMap, VecDeque};

use super::table::SessionId;
use crate::bounds::{Excess, ShareLimits, Source};

/// The places of all transfers, by source. Memory: one entry for each source with a transfer, and at most two
/// identifiers for each place.
#[derive(Debug)]
pub struct TransferPlaces {
    limits: ShareLimits,
    open: usize,
    by_source: HashMap<Source, SourcePlaces>,
    /// Transfers without an acknowledgement, oldest first. Some are proven or over by now.
    unproven: VecDeque<SessionId>,
}

#[derive(Debug, Default)]
struct SourcePlaces {
    open: usize,
    unproven: VecDeque<SessionId>,
}

/// The place for a new transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferPlace {
    /// A free one.
    Free,
    /// The place of this transfer, which must end: its source has never acknowledged a packet.
    Of(SessionId, Excess),
    /// None: the limit is reached by transfers that are acknowledged.
    None(Excess),
}

impl TransferPlaces {
    /// Creates places of which none is taken.
    pub fn new(limits: ShareLimits) -> Self {
        Self { limits, open: 0, by_source: HashMap::new(), unproven: VecDeque::new() }
    }

    /// Finds a place for a transfer. `is_known` is called only where the source needs the reserve; `is_unproven` returns
    /// whether a transfer is open and was never acknowledged.
    pub fn find(
        &mut self,
        source: Source,
        is_known: impl FnOnce() -> bool,
        mut is_unproven: impl FnMut(SessionId) -> bool,
    ) -> TransferPlace {
        let ShareLimits { total, per_source, reserve } = self.limits;
        if let Some(places) = self.by_source.get_mut(&source).filter(|places| places.open >= per_source) {
            return first(&mut places.unproven, is_unproven, Excess::Source);
        }
        if self.open >= total || (self.open >= total.saturating_sub(reserve) && !is_known()) {
            return first(&mut self.unproven, is_unproven, Excess::Total);
        }
        if self.unproven.len() >= 2 * total {
            self.unproven.retain(|id| is_unproven(*id));
        }
        TransferPlace::Free
    }

    /// Notes a transfer that has begun.
    pub fn begin(&mut self, source: Source, id: SessionId) {
        self.open += 1;
        self.unproven.push_back(id);
        let places = self.by_source.entry(source).or_default();
        places.open += 1;
        if places.unproven.len() >= 2 * self.limits.per_source {
            // Nearly always it is over by now. If not, it keeps its place until its time is up.
            places.unproven.pop_front();
        }
        places.unproven.push_back(id);
    }

    /// Notes a transfer that is over.
    pub fn end(&mut self, source: Source) {
        let Some(places) = self.by_source.get_mut(&source) else { return };
        self.open -= 1;
        places.open -= 1;
        if places.open == 0 {
            self.by_source.remove(&source);
        }
    }
}

/// Returns the place of the oldest transfer that was never acknowledged.
fn first(
    unproven: &mut VecDeque<SessionId>,
    mut is_unproven: impl FnMut(SessionId) -> bool,
    excess: Excess,
) -> TransferPlace {
    while let Some(id) = unproven.pop_front() {
        if is_unproven(id) {
            return TransferPlace::Of(id, excess);
        }
    }
    TransferPlace::None(excess)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::tftp::serve::table::SessionTable;

    const LIMITS: ShareLimits = ShareLimits { total: 10, per_source: 4, reserve: 3 };

    struct PlacesTestbed {
        places: TransferPlaces,
        table: SessionTable<Source>,
        proven: HashSet<SessionId>,
    }

    impl PlacesTestbed {
        fn new() -> Self {
            Self { places: TransferPlaces::new(LIMITS), table: SessionTable::default(), proven: HashSet::new() }
        }

        /// Begins a transfer; returns its place, and its identifier if it got one.
        fn ask(&mut self, last: u8, is_known: bool) -> (TransferPlace, Option<SessionId>) {
            let source = Source::of([10, 0, 0, last].into());
            let (table, proven) = (&mut self.table, &self.proven);
            let place =
                self.places.find(source, || is_known, |id| table.session(id).is_some() && !proven.contains(&id));
            match place {
                TransferPlace::None(_) => return (place, None),
                TransferPlace::Of(id, _) => self.end(id),
                TransferPlace::Free => {}
            }
            let id = self.table.insert(source);
            self.places.begin(source, id);
            (place, Some(id))
        }

        fn prove(&mut self, last: u8, is_known: bool) -> TransferPlace {
            let (place, id) = self.ask(last, is_known);
            self.proven.extend(id);
            place
        }

        fn end(&mut self, id: SessionId) {
            let source = self.table.remove(id).unwrap();
            self.places.end(source);
        }
    }

    #[test]
    fn a_flood_of_requests_that_nobody_acknowledges_shuts_nobody_out() {
        let mut testbed = PlacesTestbed::new();
        for number in 0..1000u32 {
            testbed.ask((number % 250) as u8, false);
        }
        assert!(matches!(testbed.ask(251, false).0, TransferPlace::Of(_, Excess::Total)));
        assert_eq!(testbed.places.open, LIMITS.total - LIMITS.reserve);
        assert!(testbed.places.unproven.len() <= 2 * LIMITS.total);
        // One source that is used by a forger: its owner's request takes the place of a forged one.
        let mut testbed = PlacesTestbed::new();
        for _ in 0..1000 {
            testbed.ask(1, false);
        }
        assert!(matches!(testbed.ask(1, false).0, TransferPlace::Of(_, Excess::Source)));
        assert_eq!((testbed.places.open, testbed.table.len()), (4, 4));
    }

    #[test]
    fn acknowledged_transfers_keep_their_places_and_known_sources_have_a_reserve() {
        let mut testbed = PlacesTestbed::new();
        let (_, mine) = testbed.ask(9, false);
        testbed.proven.extend(mine);
        for _ in 0..6 {
            testbed.prove(1, false);
        }
        assert_eq!(testbed.prove(1, true), TransferPlace::None(Excess::Source));
        for last in 2..10 {
            testbed.prove(last, false);
        }
        assert_eq!((testbed.places.open, testbed.prove(20, false)), (7, TransferPlace::None(Excess::Total)));
        assert_eq!(
            (testbed.prove(20, true), testbed.prove(21, true), testbed.prove(22, true)),
            (TransferPlace::Free, TransferPlace::Free, TransferPlace::Free)
        );
        assert_eq!(testbed.prove(23, true), TransferPlace::None(Excess::Total));
        assert!(testbed.table.session(mine.unwrap()).is_some());
    }
}
