//! Machines that were seen and never declared: where they entered, and how many of them are kept.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Maximum number of hosts that one address enrols by naming them (`/ipxe?mac=`).
const MAX_PER_ADDRESS: usize = 64;
/// Minimum age of a host that is given up for lack of room.
const MIN_AGE: SignedDuration = SignedDuration::from_hours(1);

/// The entry point of an unknown machine's requests, by which its share is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryPoint {
    /// A broadcast on an interface of the server.
    Interface(Arc<str>),
    /// A message of the DHCP relay with this address.
    Relay(IpAddr),
    /// A request from this address, which names a machine itself.
    Address(IpAddr),
}

impl fmt::Display for EntryPoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(out, "interface {name}"),
            Self::Relay(address) => write!(out, "relay {address}"),
            Self::Address(address) => write!(out, "address {address}"),
        }
    }
}

/// The mark of a host that was enrolled, and of which nothing is known but that it was seen. It is removed when
/// somebody writes the host, and when the machine begins or completes an install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstSeen {
    /// The entry point of the machine's first request.
    pub entry: EntryPoint,
    /// Time of the enrolment.
    pub time: Timestamp,
    /// The place of the enrolment in the timeline, while the host stands for its entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<i64>,
}

/// The bounds of hosts that were seen and never declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstSeenLimits {
    /// Maximum number of all of them. Relays together get half of it.
    pub total: usize,
    /// Maximum number of one interface, of one relay, and of all addresses together.
    pub per_network: usize,
    /// Maximum number of enrolments of one interface, relay or address in a minute; also the burst.
    pub per_minute: u32,
    /// Time after which such a host is given up.
    pub expiry: Duration,
}

impl Default for FirstSeenLimits {
    fn default() -> Self {
        let expiry = Duration::from_secs(7 * 86_400);
        Self { total: 16_384, per_network: 4096, per_minute: 2048, expiry }
    }
}

/// The number of hosts that were seen and never declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FirstSeenCounts {
    /// All of them.
    pub total: usize,
    /// Those of all interfaces, of all relays, or of all addresses: of the kind of entry point that is asked for.
    pub of_kind: usize,
    /// Those of the entry point.
    pub of_entry: usize,
}

impl FirstSeenLimits {
    /// Returns whether one more host of an entry point fits.
    pub fn admits(&self, entry: &EntryPoint, counts: FirstSeenCounts) -> bool {
        let (of_kind, of_entry) = self.shares(entry);
        counts.total < self.total && counts.of_kind < of_kind && counts.of_entry < of_entry
    }

    /// Returns whether a host is given up: it has expired, or there is little room left for newcomers and it is no
    /// longer new. Called for the oldest host first, with the counts after those that were given up before it.
    pub fn gives_up(&self, host: &FirstSeen, counts: FirstSeenCounts, now: Timestamp) -> bool {
        let nine_tenths = |limit: usize| limit - limit / 10;
        let (of_kind, of_entry) = self.shares(&host.entry);
        let is_short = counts.total >= nine_tenths(self.total)
            || counts.of_kind >= nine_tenths(of_kind)
            || counts.of_entry >= nine_tenths(of_entry);
        let age = now.duration_since(host.time);
        let expiry = SignedDuration::try_from(self.expiry).unwrap_or(SignedDuration::MAX);
        age >= expiry || (is_short && age >= MIN_AGE)
    }

    /// Returns the maximum of all entry points of a kind, and of one. A client chooses the address that it sends from,
    /// and may pose as a relay, so neither kind may use up the room of the interfaces.
    fn shares(&self, entry: &EntryPoint) -> (usize, usize) {
        match entry {
            EntryPoint::Interface(_) => (self.total, self.per_network),
            EntryPoint::Relay(_) => (self.total / 2, self.per_network),
            EntryPoint::Address(_) => (self.per_network, MAX_PER_ADDRESS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FirstSeenLimits =
        FirstSeenLimits { total: 100, per_network: 40, per_minute: 10, expiry: Duration::from_secs(86_400) };

    fn counts(total: usize, of_kind: usize, of_entry: usize) -> FirstSeenCounts {
        FirstSeenCounts { total, of_kind, of_entry }
    }

    #[test]
    fn each_entry_point_has_its_share() {
        let interface = EntryPoint::Interface("eth1".into());
        let (relay, address) = (EntryPoint::Relay([10, 9, 0, 1].into()), EntryPoint::Address([10, 9, 0, 9].into()));
        let rows = [
            (&interface, counts(99, 99, 39), true),
            (&interface, counts(100, 0, 0), false),
            (&interface, counts(40, 40, 40), false),
            (&relay, counts(49, 49, 39), true),
            (&relay, counts(50, 50, 1), false),
            (&address, counts(39, 39, 39), true),
            (&address, counts(40, 40, 1), false),
        ];
        for (entry, counts, admits) in rows {
            assert_eq!(LIMITS.admits(entry, counts), admits, "{entry} {counts:?}");
        }
        let many = FirstSeenLimits { per_network: 1000, total: 1000, ..LIMITS };
        assert!(!many.admits(&address, counts(64, 64, MAX_PER_ADDRESS)));
    }

    #[test]
    fn a_host_is_given_up_when_it_expires_or_when_room_is_short() {
        let at = |hours: i64| Timestamp::from_second(hours * 3600).unwrap();
        let host = FirstSeen { entry: EntryPoint::Interface("eth1".into()), time: at(0), line: None };
        let rows = [
            (counts(1, 1, 1), 23, false),
            (counts(1, 1, 1), 24, true),
            (counts(36, 36, 36), 1, true),
            (counts(35, 35, 35), 1, false),
            (counts(90, 90, 10), 1, true),
            (counts(100, 100, 40), 0, false),
        ];
        for (counts, hours, given_up) in rows {
            assert_eq!(LIMITS.gives_up(&host, counts, at(hours)), given_up, "{counts:?} after {hours} h");
        }
    }
}
