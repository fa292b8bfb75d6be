//! The share of a subnet's addresses that unknown clients may have, so that declared hosts always get one. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::fleet::Mac;

/// Divisor of the size of the pools: the reserve for declared hosts is at most this fraction.
const RESERVE_FRACTION: usize = 4;

/// The addresses in use, by whom they count for.
#[derive(Debug, Clone)]
pub struct LeaseShares {
    /// Number of addresses in all pools.
    pools: usize,
    /// Addresses of unknown clients by time of expiry.
    unknown: BTreeSet<(Timestamp, Ipv4Addr)>,
    /// Addresses of known machines with their time of expiry.
    known: HashMap<Mac, BTreeMap<Ipv4Addr, Timestamp>>,
    by_address: HashMap<Ipv4Addr, (Mac, bool, Timestamp)>,
}

impl LeaseShares {
    /// Creates the shares of pools of which nothing is in use.
    pub fn new(pools: &[RangeInclusive<Ipv4Addr>]) -> Self {
        let size = |pool: &RangeInclusive<Ipv4Addr>| {
            (u32::from(*pool.end()).saturating_sub(u32::from(*pool.start())) as usize).saturating_add(1)
        };
        let pools = pools.iter().map(size).sum();
        Self { pools, unknown: BTreeSet::new(), known: HashMap::new(), by_address: HashMap::new() }
    }

    /// Records until when an address is in use, and whether it counts for a known machine.
    pub fn put(&mut self, address: Ipv4Addr, mac: Mac, is_known: bool, until: Timestamp) {
        if let Some((mac, is_known, until)) = self.by_address.insert(address, (mac, is_known, until)) {
            match is_known {
                true => self.forget_known(mac, address),
                false => drop(self.unknown.remove(&(until, address))),
            }
        }
        match is_known {
            true => drop(self.known.entry(mac).or_default().insert(address, until)),
            false => drop(self.unknown.insert((until, address))),
        }
    }

    fn forget_known(&mut self, mac: Mac, address: Ipv4Addr) {
        let Some(addresses) = self.known.get_mut(&mac) else { return };
        addresses.remove(&address);
        if addresses.is_empty() {
            self.known.remove(&mac);
        }
    }

    /// Returns the number of addresses in use that count for a known machine.
    pub fn known_addresses(&self, mac: Mac, now: Timestamp) -> usize {
        self.known.get(&mac).map_or(0, |addresses| addresses.values().filter(|until| **until > now).count())
    }

    /// Returns whether an unknown client may get another address. The reserve has an address for each declared host,
    /// and at most a fourth of the pools.
    pub fn has_room(&mut self, declared: usize, now: Timestamp) -> bool {
        while let Some(first) = self.unknown.first().copied().filter(|(until, _)| *until <= now) {
            self.unknown.remove(&first);
        }
        self.unknown.len() < self.pools - declared.min(self.pools / RESERVE_FRACTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn unknown_clients_leave_an_address_for_each_declared_host() {
        let (mac, now) = (Mac([2, 0, 0, 0, 0, 1]), at(0));
        for (declared, room) in [(0, 100), (10, 90), (1000, 75)] {
            let mut shares = LeaseShares::new(&[address(100)..=address(199)]);
            let given = (100..200u8).take_while(|last| {
                let has_room = shares.has_room(declared, now);
                shares.put(address(*last), mac, false, at(60));
                has_room
            });
            assert_eq!(given.count(), room, "{declared} declared");
            assert!(shares.has_room(declared, at(60)), "they have expired");
        }
    }

    #[test]
    fn an_address_counts_once_and_for_its_last_client() {
        let (mac, other, now) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]), at(0));
        let mut shares = LeaseShares::new(&[address(100)..=address(103)]);
        shares.put(address(100), mac, true, at(10));
        shares.put(address(100), mac, true, at(60));
        shares.put(address(101), mac, true, at(60));
        assert_eq!((shares.known_addresses(mac, now), shares.known_addresses(mac, at(60))), (2, 0));
        shares.put(address(100), other, false, at(60));
        assert_eq!((shares.known_addresses(mac, now), shares.unknown.len()), (1, 1));
        shares.put(address(100), mac, true, at(70));
        shares.put(address(101), other, true, at(70));
        assert_eq!((shares.known.len(), shares.unknown.len()), (2, 0));
    }
}
