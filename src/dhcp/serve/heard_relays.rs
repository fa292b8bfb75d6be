//! The relays whose messages arrived, for people who look at the network.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Maximum number of relays that are remembered: anybody can send messages in the name of any number of relays.
const MAX_RELAYS: usize = 256;
/// Time for which the standing of a relay counts before it is judged again.
const JUDGED_FOR: Duration = Duration::from_secs(1);

/// Whether the messages of a relay are believed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayStanding {
    /// Believed: the configuration names the sender.
    Named,
    /// Believed: it sends from its own address, which is no machine's.
    OwnAddress,
    /// Not believed: its address is a machine's.
    MachineAddress,
    /// Not believed: it sends from another address.
    OtherSource,
}

impl RelayStanding {
    /// Returns whether the relay is believed.
    pub fn is_believed(self) -> bool {
        matches!(self, Self::Named | Self::OwnAddress)
    }

    /// Returns the code of the reason.
    pub fn code(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::OwnAddress => "own_address",
            Self::MachineAddress => "machine_address",
            Self::OtherSource => "other_source",
        }
    }
}

/// A relay whose messages arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardRelay {
    /// Address of the sender of the last message.
    pub source: Ipv4Addr,
    /// Index of the interface of the last message.
    pub interface: usize,
    /// Whether it is believed, and why.
    pub standing: RelayStanding,
    /// Number of messages.
    pub messages: u64,
    /// Number of addresses that were refused because of the relay.
    pub refused: u64,
    /// Time of the last message.
    pub last: Instant,
    judged: Instant,
}

/// The relays by address.
#[derive(Debug, Default)]
pub struct HeardRelays(HashMap<Ipv4Addr, HeardRelay>);

impl HeardRelays {
    /// Records a message of a relay, from a sender. `judge` returns the standing of the relay.
    pub fn record(
        &mut self,
        relay: Ipv4Addr,
        (source, interface): (Ipv4Addr, usize),
        now: Instant,
        judge: impl FnOnce() -> RelayStanding,
    ) {
        if let Some(heard) = self.0.get_mut(&relay) {
            if heard.source != source || now.saturating_duration_since(heard.judged) >= JUDGED_FOR {
                (heard.standing, heard.judged) = (judge(), now);
            }
            (heard.source, heard.interface, heard.last) = (source, interface, now);
            heard.messages += 1;
            return;
        }
        let standing = judge();
        if self.0.len() >= MAX_RELAYS && !self.make_room(standing) {
            return;
        }
        let heard = HeardRelay { source, interface, standing, messages: 1, refused: 0, last: now, judged: now };
        self.0.insert(relay, heard);
    }

    /// Records that an address was refused because of a relay.
    pub fn record_refusal(&mut self, relay: Ipv4Addr) {
        if let Some(heard) = self.0.get_mut(&relay) {
            heard.refused += 1;
        }
    }

    /// Returns the relays.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &HeardRelay)> {
        self.0.iter().map(|(relay, heard)| (*relay, heard))
    }

    /// Removes the relay that was silent for the longest time: one that is not believed gives way first, and to a
    /// believed one only.
    fn make_room(&mut self, standing: RelayStanding) -> bool {
        let gives_way = |heard: &HeardRelay| standing.is_believed() || !heard.standing.is_believed();
        let candidates = self.0.iter().filter(|(_, heard)| gives_way(heard));
        let oldest = candidates.min_by_key(|(_, heard)| (heard.standing.is_believed(), heard.last));
        let Some(oldest) = oldest.map(|(relay, _)| *relay) else { return false };
        self.0.remove(&oldest).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap())
    }

    #[test]
    fn a_relay_is_counted_and_judged_again_when_its_sender_changes() {
        let (mut relays, now) = (HeardRelays::default(), Instant::now());
        relays.record(address(1), (address(1), 0), now, || RelayStanding::OwnAddress);
        relays.record(address(1), (address(1), 0), now, || unreachable!("it was judged just now"));
        relays.record(address(1), (address(9), 1), now, || RelayStanding::OtherSource);
        relays.record(address(1), (address(9), 1), now + JUDGED_FOR, || RelayStanding::Named);
        relays.record_refusal(address(1));
        relays.record_refusal(address(2));
        let found: Vec<_> = relays.iter().collect();
        let [(relay, heard)] = found[..] else { panic!("{found:?}") };
        assert_eq!(
            (relay, heard.source, heard.interface, heard.messages, heard.refused),
            (address(1), address(9), 1, 4, 1)
        );
        assert_eq!(heard.standing, RelayStanding::Named);
    }

    #[test]
    fn forged_relays_do_not_displace_believed_ones() {
        let (mut relays, now) = (HeardRelays::default(), Instant::now());
        let mut record = |number: usize, standing| {
            let at = now + Duration::from_millis(u64::try_from(number).unwrap());
            relays.record(address(number), (address(number), 0), at, || standing);
            relays.0.len()
        };
        for number in 0..8 {
            record(number, RelayStanding::OwnAddress);
        }
        for number in 8..MAX_RELAYS * 2 {
            record(number, RelayStanding::OtherSource);
        }
        assert_eq!(record(2 * MAX_RELAYS, RelayStanding::Named), MAX_RELAYS);
        assert!((0..8).all(|number| relays.0.contains_key(&address(number))));
        assert!(relays.0.contains_key(&address(2 * MAX_RELAYS)) && !relays.0.contains_key(&address(8)));
    }
}
