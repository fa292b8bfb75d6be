//! A DHCP exchange as evidence: whether a machine may take the address that a message names. Pure.
//!
//! Anybody can send a message with another machine's hardware address. It is believed only by the way that it came, and
//! where nothing contradicts it.

use crate::boot::{DropReason, Reason};

/// The way on which a DHCP message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangePath {
    /// From the receiving interface's own link, without a relay (giaddr 0).
    Link,
    /// Through a relay that the configuration names.
    NamedRelay,
    /// Through a relay that sends from the address that it writes into giaddr.
    Relay,
    /// Any other way: a relay with another source address, or a unicast from elsewhere without a relay.
    Unknown,
}

/// The evidence about a DHCP message in which a machine takes an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeEvidence {
    /// The way on which the message came.
    pub path: ExchangePath,
    /// Whether the address lies in a network of the receiving interface.
    pub is_on_link: bool,
    /// Whether the relay's address lies in a network of the receiving interface.
    pub is_relay_on_link: bool,
    /// Whether the relay's address belongs to a machine, or to a pool for machines.
    pub is_relay_a_machine: bool,
    /// Whether a lease or a `spec.ip` gives the address to another machine.
    pub is_taken: bool,
    /// The address at which the machine's host was last seen.
    pub present: PresentAddress,
}

/// The address at which a host was last seen, next to the one that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresentAddress {
    /// No address is known.
    Unknown,
    /// The same address.
    Same,
    /// Another address.
    Other {
        /// Whether the neighbour table, a lease or the host's `spec.ip` has the machine at it.
        is_tied: bool,
        /// Whether both addresses are in one network, or were named by the same relay.
        is_same_network: bool,
        /// Whether an install of the host is under way.
        is_installing: bool,
    },
}

/// The effect of an exchange on a host's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressChange {
    /// The host keeps its present address: requests from the new one move it, if evidence ties that too.
    Keep,
    /// The host takes the new address.
    Take,
}

/// The reason that an exchange is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeRefusal {
    /// The path of the message is not believed.
    UnknownRelay,
    /// The address belongs to another network than the one that the message came from.
    NotOnLink,
    /// The address belongs to another machine.
    Taken,
    /// The machine is tied to its present address in another network.
    TiedElsewhere,
}

impl ExchangeRefusal {
    /// Returns the reason under which the message is counted as dropped.
    pub fn drop_reason(self) -> DropReason {
        match self {
            Self::UnknownRelay => DropReason::UnknownRelay,
            Self::NotOnLink => DropReason::NotOnLink,
            Self::Taken | Self::TiedElsewhere => DropReason::ContradictedClaim,
        }
    }

    /// Returns the reason for the host's timeline, where the message contradicts what is known of the host.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::UnknownRelay | Self::NotOnLink => None,
            Self::Taken => Some(Reason::AddressOfOtherMachine),
            Self::TiedElsewhere => Some(Reason::SeenAtOtherAddress),
        }
    }
}

/// Judges whether a machine may take the address that a DHCP message names.
///
/// # Errors
/// The message is not believed, or contradicts other evidence.
pub fn judge_exchange(evidence: &ExchangeEvidence) -> Result<AddressChange, ExchangeRefusal> {
    match evidence.path {
        ExchangePath::Unknown => return Err(ExchangeRefusal::UnknownRelay),
        // A machine forwards no messages of others.
        ExchangePath::Relay if evidence.is_relay_a_machine => return Err(ExchangeRefusal::UnknownRelay),
        ExchangePath::Relay if evidence.is_relay_on_link != evidence.is_on_link => {
            return Err(ExchangeRefusal::NotOnLink);
        }
        ExchangePath::Link if !evidence.is_on_link => return Err(ExchangeRefusal::NotOnLink),
        ExchangePath::Link | ExchangePath::Relay | ExchangePath::NamedRelay => {}
    }
    if evidence.is_taken {
        return Err(ExchangeRefusal::Taken);
    }
    match evidence.present {
        PresentAddress::Unknown => Ok(AddressChange::Take),
        PresentAddress::Same => Ok(AddressChange::Keep),
        // Firmware, iPXE and installer have a client identifier each, and may be given an address each.
        PresentAddress::Other { is_same_network: true, is_tied: true, .. } => Ok(AddressChange::Keep),
        PresentAddress::Other { is_same_network: true, is_tied: false, .. } => Ok(AddressChange::Take),
        PresentAddress::Other { is_tied: true, .. } | PresentAddress::Other { is_installing: true, .. } => {
            Err(ExchangeRefusal::TiedElsewhere)
        }
        PresentAddress::Other { is_tied: false, is_installing: false, .. } => Ok(AddressChange::Take),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_present() -> Vec<PresentAddress> {
        let mut found = vec![PresentAddress::Unknown, PresentAddress::Same];
        found.extend((0..8).map(|flags| PresentAddress::Other {
            is_tied: flags & 1 != 0,
            is_same_network: flags & 2 != 0,
            is_installing: flags & 4 != 0,
        }));
        found
    }

    fn every_evidence() -> Vec<ExchangeEvidence> {
        let paths = [ExchangePath::Link, ExchangePath::NamedRelay, ExchangePath::Relay, ExchangePath::Unknown];
        let mut table = Vec::new();
        for path in paths {
            for flags in 0..16 {
                table.extend(every_present().into_iter().map(|present| ExchangeEvidence {
                    path,
                    is_on_link: flags & 1 != 0,
                    is_relay_on_link: flags & 2 != 0,
                    is_relay_a_machine: flags & 4 != 0,
                    is_taken: flags & 8 != 0,
                    present,
                }));
            }
        }
        table
    }

    type Rule = (&'static str, fn(&ExchangeEvidence) -> bool, Result<AddressChange, ExchangeRefusal>);

    #[test]
    fn an_exchange_is_judged_by_the_first_rule_that_matches() {
        use ExchangePath::{Link, Relay, Unknown};
        use ExchangeRefusal::{NotOnLink, Taken, TiedElsewhere, UnknownRelay};
        let is_other = |present: PresentAddress| matches!(present, PresentAddress::Other { .. });
        assert!(every_evidence().iter().any(|evidence| is_other(evidence.present)));
        let rules: [Rule; 11] = [
            ("no believed way", |evidence| evidence.path == Unknown, Err(UnknownRelay)),
            ("a machine as its own relay", |e| e.path == Relay && e.is_relay_a_machine, Err(UnknownRelay)),
            (
                "an address that is not the relay's",
                |e| e.path == Relay && e.is_relay_on_link != e.is_on_link,
                Err(NotOnLink),
            ),
            ("an address that is not the link's", |e| e.path == Link && !e.is_on_link, Err(NotOnLink)),
            ("another machine's address", |e| e.is_taken, Err(Taken)),
            ("never seen", |e| e.present == PresentAddress::Unknown, Ok(AddressChange::Take)),
            ("the same", |e| e.present == PresentAddress::Same, Ok(AddressChange::Keep)),
            (
                "tied in the same network",
                |e| matches!(e.present, PresentAddress::Other { is_same_network: true, is_tied: true, .. }),
                Ok(AddressChange::Keep),
            ),
            (
                "in the same network",
                |e| matches!(e.present, PresentAddress::Other { is_same_network: true, .. }),
                Ok(AddressChange::Take),
            ),
            (
                "tied elsewhere, or installing",
                |e| {
                    matches!(e.present, PresentAddress::Other { is_tied: true, .. })
                        || matches!(e.present, PresentAddress::Other { is_installing: true, .. })
                },
                Err(TiedElsewhere),
            ),
            ("nothing ties it", |_| true, Ok(AddressChange::Take)),
        ];
        for evidence in every_evidence() {
            let expected = rules.iter().find(|rule| rule.1(&evidence)).unwrap().2;
            assert_eq!(judge_exchange(&evidence), expected, "{evidence:?}");
        }
        for (number, (name, ..)) in rules.iter().enumerate() {
            let decides = |evidence: &ExchangeEvidence| rules.iter().position(|rule| rule.1(evidence)) == Some(number);
            assert!(every_evidence().iter().any(decides), "no evidence reaches the rule {name:?}");
        }
    }

    #[test]
    fn what_contradicts_a_host_is_told_in_its_timeline() {
        use ExchangeRefusal::{NotOnLink, Taken, TiedElsewhere, UnknownRelay};
        for (refusal, drop, reason) in [
            (UnknownRelay, DropReason::UnknownRelay, None),
            (NotOnLink, DropReason::NotOnLink, None),
            (Taken, DropReason::ContradictedClaim, Some(Reason::AddressOfOtherMachine)),
            (TiedElsewhere, DropReason::ContradictedClaim, Some(Reason::SeenAtOtherAddress)),
        ] {
            assert_eq!((refusal.drop_reason(), refusal.reason()), (drop, reason));
        }
    }
}
