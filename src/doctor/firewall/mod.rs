//! Whether the rules of nftables let the packets of a boot through. Pure.

mod ruleset;
mod walk;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

use crate::doctor::Finding;

use ruleset::Ruleset;
use walk::{Outcome, trace};

/// A port that no service has: the kernel chooses such ones for the transfers of TFTP.
const EPHEMERAL: u16 = 40_000;
/// Port of a client; clients choose any.
const CLIENT_PORT: u16 = 40_001;

/// A packet of a boot, as far as rules can look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Whether it comes in or goes out.
    pub direction: Direction,
    /// The interface.
    pub interface: String,
    /// Whether it is UDP, else TCP.
    pub is_udp: bool,
    /// The addresses that it may come from.
    pub source: Ipv4Net,
    /// The addresses that it may go to.
    pub destination: Ipv4Net,
    /// The source port; `None` if clients choose it.
    pub source_port: Option<u16>,
    /// The destination port; `None` if clients choose it.
    pub port: Option<u16>,
    /// Whether it belongs to a connection that the kernel's tracking knows.
    pub is_established: bool,
}

/// The direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a machine.
    In,
    /// To a machine.
    Out,
}

/// A kind of packet without which machines do not boot, with its name for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// What is dropped, as in `TFTP requests (UDP 69) on eth1`.
    pub name: String,
    /// A packet of it.
    pub packet: Packet,
}

/// The ports that machines reach on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedInterface {
    /// Name of the interface.
    pub name: String,
    /// Address of the server.
    pub address: Ipv4Addr,
    /// Network of the machines.
    pub network: Ipv4Net,
    /// UDP ports of DHCP and ProxyDHCP; `None` where DHCP is off.
    pub dhcp: Option<(u16, u16)>,
    /// UDP port of TFTP.
    pub tftp: u16,
    /// Whether TFTP sends from its own port only.
    pub is_tftp_single_port: bool,
    /// TCP ports, with what they serve.
    pub tcp: Vec<(&'static str, u16)>,
}

/// Returns the packets of a boot on an interface.
pub fn flows(interface: &ServedInterface) -> Vec<Flow> {
    let ServedInterface { name, address, network, .. } = interface;
    let request = |port: u16| Packet {
        direction: Direction::In,
        interface: name.clone(),
        is_udp: true,
        source: *network,
        destination: (*address).into(),
        source_port: None,
        port: Some(port),
        is_established: false,
    };
    let named = |what: &str, packet: Packet| Flow { name: format!("{what} on {name}"), packet };
    let mut flows = Vec::new();
    if let Some((server, proxy)) = interface.dhcp {
        let discover = Packet {
            source: Ipv4Addr::UNSPECIFIED.into(),
            destination: Ipv4Addr::BROADCAST.into(),
            source_port: Some(68),
            ..request(server)
        };
        flows.push(named(&format!("DHCP requests (UDP {server})"), discover));
        flows.push(named(&format!("boot requests of firmware (UDP {proxy})"), request(proxy)));
    }
    let tftp = interface.tftp;
    flows.push(named(&format!("TFTP requests (UDP {tftp})"), request(tftp)));
    let own = if interface.is_tftp_single_port { tftp } else { EPHEMERAL };
    let data = Packet {
        direction: Direction::Out,
        source: (*address).into(),
        destination: *network,
        source_port: Some(own),
        port: Some(CLIENT_PORT),
        is_established: interface.is_tftp_single_port,
        ..request(tftp)
    };
    flows.push(named("TFTP data", data));
    let acknowledgement = Packet { source_port: Some(CLIENT_PORT), is_established: true, ..request(own) };
    flows.push(named("TFTP acknowledgements", acknowledgement));
    for (what, port) in &interface.tcp {
        flows.push(named(&format!("{what} (TCP {port})"), Packet { is_udp: false, ..request(*port) }));
    }
    flows
}

/// Judges the rules, as `nft -j list ruleset` prints them.
///
/// # Errors
/// The text is no such list.
pub fn check_firewall(list: &Value, interfaces: &[ServedInterface]) -> Result<Vec<Finding>, String> {
    let rules = Ruleset::parse(list).ok_or("nft -j list ruleset: its output has no list \"nftables\"")?;
    Ok(interfaces.iter().flat_map(flows).filter_map(|flow| check_flow(&rules, &flow)).collect())
}

fn check_flow(rules: &Ruleset<'_>, flow: &Flow) -> Option<Finding> {
    let (place, is_sure) = match trace(rules, &flow.packet) {
        Outcome::Passes => return None,
        Outcome::Dropped(place) => (place, true),
        Outcome::MayBeDropped(place) => (place, false),
    };
    let remedy = format!("let them through: nft insert rule {} {} accept", place.chain, condition(&flow.packet));
    Some(match is_sure {
        true => Finding::error("firewall_drops", &flow.name, format!("dropped by {}", place.rule), &remedy),
        false => {
            Finding::warning("firewall_may_drop", &flow.name, format!("some are dropped by {}", place.rule), &remedy)
        }
    })
}

/// Returns the condition of a rule that lets a packet through.
fn condition(packet: &Packet) -> String {
    let protocol = if packet.is_udp { "udp" } else { "tcp" };
    match (packet.direction, packet.is_established, packet.port) {
        (Direction::In, true, _) => "ct state established,related".to_owned(),
        (Direction::In, false, Some(port)) => format!("iifname \"{}\" {protocol} dport {port}", packet.interface),
        (Direction::In, false, None) => format!("iifname \"{}\" meta l4proto {protocol}", packet.interface),
        (Direction::Out, ..) => format!("oifname \"{}\" meta l4proto {protocol}", packet.interface),
    }
}

#[cfg(test)]
mod tests;
