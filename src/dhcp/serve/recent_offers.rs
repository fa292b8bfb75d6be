//! Suppression of repeated offers in the timeline: retries of one boot are one entry.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::fleet::Mac;

/// Time within which the same offer to the same host is recorded once.
const REPEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of hosts whose last offer is remembered. Offers to others are not recorded.
const MAX_HOSTS: usize = 8192;
/// Minimum time between two searches for offers to forget: a search looks at every host.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// The last offer of each host, with its boot file.
#[derive(Debug, Default)]
pub struct RecentOffers {
    hosts: HashMap<Mac, (Instant, String)>,
    /// Time of the last search.
    searched: Option<Instant>,
}

impl RecentOffers {
    /// Returns whether an offer is recorded, and remembers it then.
    pub fn admit(&mut self, mac: Mac, file: &str, now: Instant) -> bool {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < REPEAT_INTERVAL;
        if self.hosts.get(&mac).is_some_and(|(at, last)| is_recent(*at) && last == file) {
            return false;
        }
        let is_due = self.searched.is_none_or(|at| now.saturating_duration_since(at) >= SEARCH_INTERVAL);
        let is_full = |hosts: &HashMap<_, _>| hosts.len() >= MAX_HOSTS && !hosts.contains_key(&mac);
        if is_full(&self.hosts) && is_due {
            self.searched = Some(now);
            self.hosts.retain(|_, (at, _)| is_recent(*at));
        }
        if is_full(&self.hosts) {
            return false;
        }
        self.hosts.insert(mac, (now, file.to_owned()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: usize) -> Mac {
        let [.., a, b, c] = number.to_be_bytes();
        Mac([2, 0, 0, a, b, c])
    }

    #[test]
    fn a_retry_is_no_second_offer() {
        let (mut offers, start) = (RecentOffers::default(), Instant::now());
        let later = start + REPEAT_INTERVAL;
        for (file, at, is_recorded) in
            [("a", start, true), ("a", start, false), ("b", start, true), ("b", later, true), ("b", later, false)]
        {
            assert_eq!(offers.admit(mac(1), file, at), is_recorded, "{file}");
        }
    }

    #[test]
    fn offers_to_a_bounded_number_of_hosts_are_recorded() {
        let (mut offers, start) = (RecentOffers::default(), Instant::now());
        let count = (0..2 * MAX_HOSTS).filter(|number| offers.admit(mac(*number), "a", start)).count();
        assert_eq!((count, offers.hosts.len()), (MAX_HOSTS, MAX_HOSTS));
        assert!(offers.admit(mac(0), "b", start), "a host that is in the table has its place");
        assert!(offers.admit(mac(2 * MAX_HOSTS), "a", start + REPEAT_INTERVAL), "old offers are forgotten");
        assert_eq!(offers.hosts.len(), 1);
    }
}
