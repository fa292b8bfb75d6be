//! The verification of DHCP messages as evidence: the path of a message, and what is known of its machine.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::boot::DropReason;
use crate::boot::identity::{AddressChange, ExchangeEvidence, ExchangePath, ExchangeRefusal, judge_exchange};
use crate::dhcp::answer::Arrival;
use crate::dhcp::packet::DhcpPacket;
use crate::dhcp::relay::{Relay, RelayTrust};
use crate::dhcp::serve::heard_relays::{HeardRelays, RelayStanding};
use crate::dhcp::serve::interface::InterfaceState;
use crate::dhcp::serve::received_message::ReceivedMessage;
use crate::dhcp::serve::settings::DhcpSettings;
use crate::fleet::{Mac, Subnet};
use crate::gate::Gate;

/// Maximum number of hosts whose relay is remembered. Any believed relay may name the next address of other hosts.
const MAX_REMEMBERED_RELAYS: usize = 8192;
/// Maximum number of relays that are reported as not believed.
const MAX_REPORTED_RELAYS: usize = 64;

/// Verifies DHCP messages as evidence.
#[derive(Debug)]
pub struct ExchangeVerifier {
    /// Addresses that the configuration names as relays.
    relays: Vec<IpNet>,
    subnets: Vec<Subnet>,
    /// The relay that named each host's present address.
    last_relay: HashMap<Mac, Ipv4Addr>,
    /// The relays that were reported as not believed.
    reported: HashSet<Ipv4Addr>,
    /// The relays whose messages arrived.
    pub relays_heard: HeardRelays,
}

impl ExchangeVerifier {
    /// Creates a verifier that remembers no exchange.
    pub fn new(settings: &DhcpSettings) -> Self {
        Self {
            relays: settings.relays.clone(),
            subnets: settings.subnets.clone(),
            last_relay: HashMap::new(),
            reported: HashSet::new(),
            relays_heard: HeardRelays::default(),
        }
    }

    /// Verifies that the client of a message may take an address.
    ///
    /// # Errors
    /// The message is not believed, or contradicts what is known of the machine.
    pub fn verify(
        &self,
        gate: &Gate,
        interface: &InterfaceState,
        request: &DhcpPacket<'_>,
        arrival: Arrival,
        address: Ipv4Addr,
    ) -> Result<AddressChange, ExchangeRefusal> {
        let relay = relay(request);
        let last = self.last_relay.get(&request.mac);
        // After a restart it is not known which relay named an address behind a router.
        let is_same_relay = relay.is_some_and(|relay| match last {
            Some(last) => *last == relay,
            None => !gate.is_known_network(address),
        });
        judge_exchange(&ExchangeEvidence {
            path: self.path(interface, relay, *arrival.from.ip()),
            is_on_link: interface.is_on_link(address),
            is_relay_on_link: relay.is_some_and(|relay| interface.is_on_link(relay)),
            is_relay_a_machine: relay.is_some_and(|relay| self.is_machine(gate, relay)),
            is_taken: gate.is_address_of_other(request.mac, address),
            present: gate.present_address(request.mac, address, is_same_relay),
        })
    }

    /// Returns the relay of a message. What its option 82 asks for counts if messages through it are believed.
    pub fn relay(
        &self,
        gate: &Gate,
        interface: &InterfaceState,
        request: &DhcpPacket<'_>,
        arrival: Arrival,
    ) -> Option<Relay> {
        Relay::of(request, arrival.from, || match self.path(interface, relay(request), *arrival.from.ip()) {
            ExchangePath::NamedRelay => RelayTrust::Named,
            ExchangePath::Relay if !self.is_machine(gate, request.giaddr()) => RelayTrust::OwnAddress,
            ExchangePath::Relay | ExchangePath::Link | ExchangePath::Unknown => RelayTrust::None,
        })
    }

    /// Records a message that came through a relay.
    pub fn hear_relay(
        &mut self,
        gate: &Gate,
        interface: &InterfaceState,
        request: &DhcpPacket<'_>,
        message: &ReceivedMessage<'_>,
    ) {
        let Some(relay) = relay(request).filter(|_| !message.is_repeated) else { return };
        let source = *message.arrival.from.ip();
        let mut heard = std::mem::take(&mut self.relays_heard);
        heard.record(relay, (source, interface.index), message.received, || self.standing(gate, relay, source));
        self.relays_heard = heard;
    }

    /// Returns whether messages of a relay from a sender are believed, and why.
    fn standing(&self, gate: &Gate, relay: Ipv4Addr, source: Ipv4Addr) -> RelayStanding {
        match (self.is_named(source), relay == source) {
            (true, _) => RelayStanding::Named,
            (false, false) => RelayStanding::OtherSource,
            (false, true) if self.is_machine(gate, relay) => RelayStanding::MachineAddress,
            (false, true) => RelayStanding::OwnAddress,
        }
    }

    /// Returns whether an address belongs to a machine, or to a pool for machines.
    fn is_machine(&self, gate: &Gate, address: Ipv4Addr) -> bool {
        let mut pools = self.subnets.iter().flat_map(|subnet| &subnet.pools);
        pools.any(|pool| pool.contains(&address)) || gate.is_machines_address(address)
    }

    /// Returns whether the sender of a message is a relay that the configuration names, if the message has a relay, or in
    /// one of the interface's networks.
    pub fn is_believed_sender(&self, interface: &InterfaceState, relay: Ipv4Addr, from: Ipv4Addr) -> bool {
        match relay.is_unspecified() {
            true => interface.is_on_link(from),
            false => self.is_named(from),
        }
    }

    fn is_named(&self, from: Ipv4Addr) -> bool {
        self.relays.iter().any(|net| net.contains(&IpAddr::from(from)))
    }

    fn path(&self, interface: &InterfaceState, relay: Option<Ipv4Addr>, from: Ipv4Addr) -> ExchangePath {
        match relay {
            None if from.is_unspecified() || interface.is_on_link(from) => ExchangePath::Link,
            None => ExchangePath::Unknown,
            Some(_) if self.is_named(from) => ExchangePath::NamedRelay,
            Some(relay) if relay == from => ExchangePath::Relay,
            Some(_) => ExchangePath::Unknown,
        }
    }

    /// Remembers the relay that named the present address of a host.
    pub fn remember(&mut self, request: &DhcpPacket<'_>) {
        match relay(request) {
            None => drop(self.last_relay.remove(&request.mac)),
            Some(relay) => {
                if self.last_relay.len() < MAX_REMEMBERED_RELAYS || self.last_relay.contains_key(&request.mac) {
                    self.last_relay.insert(request.mac, relay);
                }
            }
        }
    }

    /// Records a refusal: in the timeline of the host that it contradicts, and once in the log for a relay that is not
    /// believed. Returns the reason under which the message is counted.
    pub fn refuse(
        &mut self,
        gate: &Gate,
        request: &DhcpPacket<'_>,
        arrival: Arrival,
        address: Ipv4Addr,
        refusal: ExchangeRefusal,
    ) -> DropReason {
        if let Some(reason) = refusal.reason() {
            gate.record_contradiction(request.mac, address, reason);
        }
        // A relay that selects another link than its own (RFC 3527) is refused as not on the link.
        if let (ExchangeRefusal::UnknownRelay | ExchangeRefusal::NotOnLink, Some(giaddr)) = (refusal, relay(request)) {
            self.relays_heard.record_refusal(giaddr);
            let source = *arrival.from.ip();
            if self.reported.len() < MAX_REPORTED_RELAYS && self.reported.insert(source) {
                let reason = refusal.drop_reason().code();
                tracing::warn!(%source, %giaddr, %address, reason, "DHCP relay not believed: list it in dhcp.relays");
            }
        }
        refusal.drop_reason()
    }
}

fn relay(request: &DhcpPacket<'_>) -> Option<Ipv4Addr> {
    Some(request.giaddr()).filter(|relay| !relay.is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;
    use std::time::Duration;

    use super::*;
    use crate::dhcp::answer::DhcpPort;
    use crate::dhcp::packet::tests::message;
    use crate::gate::fixture::Fixture;

    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

    fn verifier() -> ExchangeVerifier {
        ExchangeVerifier::new(&DhcpSettings {
            boot_file_locations: Vec::new(),
            subnets: Vec::new(),
            relays: Vec::new(),
            authoritative: true,
            conflict_check: false,
            stand_down: true,
            check_interval: Duration::from_secs(60),
            socket: crate::dhcp::serve::SocketChoice::Auto,
        })
    }

    /// Returns the message of a machine through a relay, or without one.
    fn request(number: usize, relay: Ipv4Addr) -> Vec<u8> {
        let mut bytes = message(1, &[]);
        bytes[24..28].copy_from_slice(&relay.octets());
        bytes[30..34].copy_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        bytes
    }

    #[test]
    fn the_relays_of_a_bounded_number_of_machines_are_remembered() {
        let mut verifier = verifier();
        let mut remember = |number, relay| {
            verifier.remember(&DhcpPacket::parse(&request(number, relay)).unwrap());
            verifier.last_relay.len()
        };
        for number in 0..=MAX_REMEMBERED_RELAYS {
            remember(number, RELAY);
        }
        let other = Ipv4Addr::new(10, 9, 0, 2);
        assert_eq!(remember(0, other), MAX_REMEMBERED_RELAYS, "a known machine may come through another relay");
        assert_eq!(remember(0, Ipv4Addr::UNSPECIFIED), MAX_REMEMBERED_RELAYS - 1, "a machine on the link has none");
        assert_eq!(remember(MAX_REMEMBERED_RELAYS, RELAY), MAX_REMEMBERED_RELAYS);
    }

    #[tokio::test]
    async fn a_bounded_number_of_relays_is_reported() {
        let (fixture, mut verifier) = (Fixture::new("hold"), verifier());
        let bytes = request(1, RELAY);
        let request = DhcpPacket::parse(&bytes).unwrap();
        for last in 0..=u8::MAX {
            let from = SocketAddrV4::new([10, 9, 1, last].into(), 67);
            let arrival = Arrival { port: DhcpPort::Server, from };
            let refusal = ExchangeRefusal::UnknownRelay;
            let reason = verifier.refuse(&fixture.gate, &request, arrival, [10, 9, 0, 50].into(), refusal);
            assert_eq!(reason, refusal.drop_reason());
        }
        assert_eq!(verifier.reported.len(), MAX_REPORTED_RELAYS);
    }
}
