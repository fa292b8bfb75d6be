//! The relay agent of a message: where replies go, and what it may ask of them. Pure.
//!
//! Anybody can write a relay agent's option. What it asks for is done for relays that are believed, and no option makes
//! a relay believed.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::dhcp::packet::DhcpPacket;

/// UDP port of DHCP servers and relays.
const SERVER_PORT: u16 = 67;
/// Server identifier override (RFC 5107), a sub-option of option 82.
const SERVER_ID_OVERRIDE: u8 = 11;
/// Relay source port (RFC 8357), a sub-option of option 82.
const SOURCE_PORT: u8 = 19;

/// The trust in the relay of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTrust {
    /// None.
    None,
    /// Trust in a relay that sends from its own address, which is no machine's.
    OwnAddress,
    /// Trust in a relay that the configuration names.
    Named,
}

/// The relay agent that forwarded a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    /// Address and port to which replies go.
    pub address: SocketAddrV4,
    /// The server identifier that its clients are given in place of ours, so that they renew and release through it.
    pub server_id: Option<Ipv4Addr>,
    /// The trust in it, if it asks for something.
    pub trust: RelayTrust,
}

impl Relay {
    /// Returns the relay of a message from this sender; `None` for a message without a relay. `trust` is called only
    /// if the relay asks for something.
    pub fn of(request: &DhcpPacket<'_>, from: SocketAddrV4, trust: impl FnOnce() -> RelayTrust) -> Option<Self> {
        let address = Some(request.giaddr()).filter(|relay| !relay.is_unspecified())?;
        let server_id = request.agent_address(SERVER_ID_OVERRIDE).filter(|address| is_unicast(*address));
        let has_port = request.has_agent(SOURCE_PORT);
        let trust = if server_id.is_some() || has_port { trust() } else { RelayTrust::None };
        // A sender's address can be forged: a reply to a port that it chose would reach any service of that address.
        let port = if has_port && trust == RelayTrust::Named { from.port() } else { SERVER_PORT };
        Some(Self {
            address: SocketAddrV4::new(address, port),
            server_id: server_id.filter(|_| trust != RelayTrust::None),
            trust,
        })
    }
}

fn is_unicast(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [1..=126 | 128..=223, ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::packet::tests::message;

    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
    const ID: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

    fn relay(giaddr: Ipv4Addr, agent: &[u8], trust: RelayTrust) -> Option<Relay> {
        let mut bytes = message(1, &[(82, agent)]);
        bytes[24..28].copy_from_slice(&giaddr.octets());
        let request = DhcpPacket::parse(&bytes).unwrap();
        Relay::of(&request, SocketAddrV4::new(RELAY, 4000), || trust)
    }

    #[test]
    fn a_relay_is_answered_as_it_asks_as_far_as_it_is_believed() {
        use RelayTrust::{Named, None as Not, OwnAddress};
        let (id, port) = (&[11, 4, 10, 77, 0, 1][..], &[19, 0][..]);
        let both = [&[1, 2, 9, 9], id, port].concat();
        let rows: [(&[u8], RelayTrust, u16, Option<Ipv4Addr>); 13] = [
            (&[1, 2, 9, 9], OwnAddress, 67, None),
            (id, OwnAddress, 67, Some(ID)),
            (id, Named, 67, Some(ID)),
            (id, Not, 67, None),
            (port, OwnAddress, 67, None),
            (port, Named, 4000, None),
            (port, Not, 67, None),
            (&both, OwnAddress, 67, Some(ID)),
            (&both, Named, 4000, Some(ID)),
            (&both, Not, 67, None),
            // No server has such an identifier.
            (&[11, 4, 255, 255, 255, 255], Named, 67, None),
            (&[11, 4, 0, 0, 0, 0], Named, 67, None),
            (&[11, 3, 10, 77, 0], Named, 67, None),
        ];
        for (agent, trust, port, server_id) in rows {
            let found = relay(RELAY, agent, trust).unwrap();
            assert_eq!(
                (found.address, found.server_id),
                (SocketAddrV4::new(RELAY, port), server_id),
                "{agent:?} {trust:?}"
            );
        }
        assert_eq!(relay(Ipv4Addr::UNSPECIFIED, &both, Named), None, "a switch that snoops is no relay");
    }
}
