//! Whether the rules of nftables and of iptables-legacy let the packets of a boot through. Pure.

mod legacy;
mod ruleset;
mod walk;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

use crate::doctor::Finding;

use ruleset::Ruleset;
use walk::{Outcome, Place, trace};

/// A port that no service has: the kernel chooses such ones for the transfers of TFTP.
const EPHEMERAL: u16 = 40_000;
/// Port of a client; clients choose any.
const CLIENT_PORT: u16 = 40_001;

/// A packet of a boot, as far as rules can look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Whether it comes in or goes out.
    pub direction: Direction,
    /// The layer whose rules it meets.
    pub layer: Layer,
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
    /// From a machine to another one, between two ports of a bridge.
    Between,
}

/// The layer at which rules see a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// IP.
    Ip,
    /// The frames of a bridge, with the names of its ports.
    Bridge(Vec<String>),
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
    /// The bridge, if the interface is one.
    pub bridge: Option<Bridge>,
}

/// A bridge that the server answers on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its ports, by name.
    pub ports: Vec<String>,
    /// Whether its frames meet the rules of IP as well (`bridge-nf-call-iptables` of br_netfilter).
    pub calls_iptables: bool,
    /// Whether another server gives the addresses, perhaps through the bridge.
    pub carries_dhcp: bool,
}

/// Returns the packets of a boot on an interface.
pub fn flows(interface: &ServedInterface) -> Vec<Flow> {
    let ServedInterface { name, address, network, .. } = interface;
    let request = |port: u16| Packet {
        direction: Direction::In,
        layer: Layer::Ip,
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

/// Returns what passes between the ports of a bridge: DHCP of another server, without which a machine has no address.
fn bridged_flows(interface: &ServedInterface) -> Vec<Flow> {
    let ServedInterface { name, dhcp: Some((server, _)), .. } = interface else { return Vec::new() };
    let packet = |source: Ipv4Net, source_port: u16, port: u16| Packet {
        direction: Direction::Between,
        layer: Layer::Ip,
        interface: name.clone(),
        is_udp: true,
        source,
        destination: Ipv4Addr::BROADCAST.into(),
        source_port: Some(source_port),
        port: Some(port),
        is_established: false,
    };
    let flow = |what: &str, packet| Flow { name: format!("{what} between the ports of the bridge {name}"), packet };
    vec![
        flow("DHCP requests", packet(Ipv4Addr::UNSPECIFIED.into(), 68, *server)),
        flow("DHCP replies", packet(interface.network, *server, 68)),
    ]
}

/// Judges the rules, as `nft -j list ruleset` prints them.
///
/// # Errors
/// The text is no such list.
pub fn check_firewall(list: &Value, interfaces: &[ServedInterface]) -> Result<Vec<Finding>, String> {
    let rules = Ruleset::parse(list).ok_or("nft -j list ruleset: its output has no list \"nftables\"")?;
    Ok(check_rules(&rules, interfaces))
}

/// Judges the rules of iptables-legacy, as `iptables-legacy-save` prints them.
pub fn check_legacy(save: &str, interfaces: &[ServedInterface]) -> Vec<Finding> {
    let list = serde_json::json!({"nftables": legacy::entries(save)});
    Ruleset::parse(&list).map(|rules| check_rules(&rules, interfaces)).unwrap_or_default()
}

fn check_rules(rules: &Ruleset<'_>, interfaces: &[ServedInterface]) -> Vec<Finding> {
    interfaces.iter().flat_map(|interface| check_interface(rules, interface)).collect()
}

fn check_interface(rules: &Ruleset<'_>, interface: &ServedInterface) -> Vec<Finding> {
    let mut found: Vec<Finding> = flows(interface).iter().filter_map(|flow| check_flow(rules, flow)).collect();
    let Some(Bridge { ports, calls_iptables, carries_dhcp }) = &interface.bridge else { return found };
    let at_bridge = |flow: Flow| Flow { packet: Packet { layer: Layer::Bridge(ports.clone()), ..flow.packet }, ..flow };
    let between = if *carries_dhcp { bridged_flows(interface) } else { Vec::new() };
    if *calls_iptables {
        found.extend(between.iter().filter_map(|flow| check_bridged(rules, flow)));
    }
    let framed = flows(interface).into_iter().chain(between).map(at_bridge);
    found.extend(framed.filter_map(|flow| check_flow(rules, &flow)));
    found
}

/// Judges what passes between the ports of a bridge and meets the rules of IP, which few people expect.
fn check_bridged(rules: &Ruleset<'_>, flow: &Flow) -> Option<Finding> {
    let (Outcome::Dropped(place) | Outcome::MayBeDropped(place)) = trace(rules, &flow.packet) else { return None };
    let seen =
        format!("br_netfilter hands the bridge's frames to the rules of IP, where they are dropped by {}", place.rule);
    let remedy = "sysctl -w net.bridge.bridge-nf-call-iptables=0, and keep it in /etc/sysctl.d";
    Some(Finding::warning("firewall_drops_bridged", &flow.name, seen, remedy))
}

fn check_flow(rules: &Ruleset<'_>, flow: &Flow) -> Option<Finding> {
    let (place, is_sure) = match trace(rules, &flow.packet) {
        Outcome::Passes => return None,
        Outcome::Dropped(place) => (place, true),
        Outcome::MayBeDropped(place) => (place, false),
    };
    let remedy = format!("let them through: {}", command(&place, &flow.packet));
    Some(match is_sure {
        true => Finding::error("firewall_drops", &flow.name, format!("dropped by {}", place.rule), &remedy),
        false => {
            Finding::warning("firewall_may_drop", &flow.name, format!("some are dropped by {}", place.rule), &remedy)
        }
    })
}

/// Returns the command that lets a packet through where it is dropped.
fn command(place: &Place, packet: &Packet) -> String {
    let (protocol, interface) = (if packet.is_udp { "udp" } else { "tcp" }, packet.interface.as_str());
    let chain = &place.chain;
    if place.is_legacy {
        let mut words = chain.split(' ').skip(1);
        let (table, chain) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let condition = match (packet.direction, packet.is_established, packet.port) {
            (Direction::Out, ..) => format!("-o {interface} -p {protocol}"),
            (_, true, _) => "-m conntrack --ctstate ESTABLISHED,RELATED".to_owned(),
            (_, false, Some(port)) => format!("-i {interface} -p {protocol} --dport {port}"),
            (_, false, None) => format!("-i {interface} -p {protocol}"),
        };
        return format!("iptables-legacy -t {table} -I {chain} {condition} -j ACCEPT");
    }
    let condition = match (packet.direction, packet.is_established, packet.port, &packet.layer) {
        (Direction::Out, .., Layer::Ip) => format!("oifname \"{interface}\" meta l4proto {protocol}"),
        (Direction::Out, .., Layer::Bridge(_)) => format!("ether type ip meta l4proto {protocol}"),
        (_, true, ..) => "ct state established,related".to_owned(),
        (_, false, Some(port), Layer::Ip) => format!("iifname \"{interface}\" {protocol} dport {port}"),
        (_, false, Some(port), Layer::Bridge(_)) => format!("{protocol} dport {port}"),
        (_, false, None, _) => format!("meta l4proto {protocol}"),
    };
    format!("nft insert rule {chain} {condition} accept")
}

#[cfg(test)]
mod tests;
