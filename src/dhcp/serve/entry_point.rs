//! The entry point of a client's message, by which its share of enrolments and addresses is counted.

use std::net::Ipv4Addr;

use crate::bounds::Source;
use crate::dhcp::answer::Arrival;
use crate::fleet::EntryPoint;

/// Returns the entry point of a message. `is_believed` is whether the sender's address is one of the interface's own
/// networks, or of a relay that the configuration names. The address of another relay is believed only where the message
/// comes from there: one sender may otherwise pose as any number of relays.
pub fn entry_point(interface: &str, relay: Ipv4Addr, arrival: Arrival, is_believed: bool) -> EntryPoint {
    let from = *arrival.from.ip();
    match relay.is_unspecified() {
        true if from.is_unspecified() || is_believed => EntryPoint::Interface(interface.into()),
        false if from == relay || is_believed => EntryPoint::Relay(relay.into()),
        true | false => EntryPoint::Address(Source::of(from.into()).address()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;
    use crate::dhcp::answer::DhcpPort;

    #[test]
    fn a_relay_is_one_entry_point_and_a_forged_one_is_its_sender() {
        let rows = [
            ("0.0.0.0", "0.0.0.0", false, "interface eth1"),
            ("0.0.0.0", "10.9.0.7", true, "interface eth1"),
            ("10.9.0.1", "10.9.0.1", false, "relay 10.9.0.1"),
            ("10.9.0.1", "10.9.0.7", true, "relay 10.9.0.1"),
            ("10.9.0.1", "10.9.0.7", false, "address 10.9.0.7"),
            ("0.0.0.0", "10.9.0.7", false, "address 10.9.0.7"),
        ];
        for (relay, from, is_believed, expected) in rows {
            let arrival = Arrival { port: DhcpPort::Server, from: SocketAddrV4::new(from.parse().unwrap(), 67) };
            assert_eq!(entry_point("eth1", relay.parse().unwrap(), arrival, is_believed).to_string(), expected);
        }
    }
}
