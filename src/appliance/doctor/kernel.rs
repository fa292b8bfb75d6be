//! What the kernel says: interfaces, neighbour table, buffers, filters, routes, and the rules of nftables.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use ipnet::{IpNet, Ipv4Net};
use netlink_packet_core::{Emitable, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NetlinkBuffer, NetlinkHeader, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily as SocketFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use serde_json::Value;

use crate::config::Config;
use crate::dhcp;
use crate::doctor::Looked;
use crate::doctor::checks::kernel::{FilteredInterface, Paths, RemoteNetwork};

use super::{NEEDS_ROOT, UsableInterface, failed, is_root, read};

/// Message types of rtnetlink(7) that the crate does not export.
const NEW_TABLE: u16 = 64;
const GET_TABLE: u16 = 66;
/// Name of the table of IPv4's neighbours.
const ARP_TABLE: &str = "arp_cache";
/// Maximum size of an answer of the kernel, in bytes.
const MAX_ANSWER: usize = 1 << 16;

/// Returns whether an interface is up and has a carrier.
pub fn is_up(interface: &str) -> bool {
    let mut found = nix::ifaddrs::getifaddrs().into_iter().flatten().filter(|one| one.interface_name == interface);
    let wanted = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    found.next().is_some_and(|one| one.flags.contains(wanted))
}

/// Returns the maximum number of IPv4 neighbours (gc_thresh3). A network namespace has no sysctl of it: rtnetlink(7) says
/// it everywhere.
pub fn neighbour_limit() -> Looked<u64> {
    let limit = ask_neighbour_limit().map_err(|error| failed("rtnetlink", &error))?;
    limit.ok_or_else(|| "rtnetlink: the kernel does not say it".to_owned())
}

fn ask_neighbour_limit() -> nix::Result<Option<u64>> {
    let mut question = NeighbourTableMessage::default();
    question.header.family = AddressFamily::Inet;
    let mut header = NetlinkHeader::default();
    let begin = header.buffer_len();
    let mut message = vec![0; begin + question.buffer_len()];
    header.length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    header.message_type = GET_TABLE;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.emit(&mut message);
    question.emit(message.get_mut(begin..).unwrap_or_default());
    let kernel = socket(SocketFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(kernel.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        // The kernel answers within the call to `send`, and continues within each call to `recv`.
        let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Ok(one) = NetlinkBuffer::new_checked(rest) {
            if one.message_type() == NLMSG_DONE {
                return Ok(None);
            }
            if one.message_type() == NEW_TABLE
                && let Some(limit) = NeighbourTableMessage::parse(one.payload()).ok().and_then(|table| limit_of(&table))
            {
                return Ok(Some(limit));
            }
            let step = usize::try_from(one.length()).unwrap_or(usize::MAX).next_multiple_of(4);
            rest = rest.get(step..).unwrap_or_default();
        }
    }
}

fn limit_of(table: &NeighbourTableMessage) -> Option<u64> {
    let is_arp =
        |one: &NeighbourTableAttribute| matches!(one, NeighbourTableAttribute::Name(name) if name == ARP_TABLE);
    let limit = |one: &NeighbourTableAttribute| match one {
        NeighbourTableAttribute::Threshold3(limit) => Some(u64::from(*limit)),
        _ => None,
    };
    table.attributes.iter().any(is_arp).then(|| table.attributes.iter().find_map(limit)).flatten()
}

/// Returns the receive buffer that the server asks for, and the one that the kernel grants to root.
pub fn receive_buffer() -> Looked<(u64, u64)> {
    if !is_root() {
        return Err(NEEDS_ROOT.to_owned());
    }
    let (wanted, granted) = dhcp::serve::receive_buffer().map_err(|error| failed("socket", &error))?;
    Ok((wanted as u64, granted as u64))
}

/// Observes reverse path filters and routes.
pub fn paths(config: &Config, usable: &[UsableInterface]) -> Looked<Paths> {
    let is_strict = |name: &str| {
        let value = |of: &str| {
            let text = read(Path::new(&format!("/proc/sys/net/ipv4/conf/{of}/rp_filter"))).ok()?;
            text.trim().parse::<u8>().ok()
        };
        // The higher of the two counts (ip-sysctl.rst).
        value("all").max(value(name)) == Some(1)
    };
    let ours = usable.iter().map(|one| FilteredInterface {
        name: one.name.clone(),
        is_strict: is_strict(&one.name),
        networks: one.addresses.iter().map(Ipv4Net::trunc).collect(),
    });
    let ours: Vec<FilteredInterface> = ours.collect();
    let routes = parse_routes(&read(Path::new("/proc/net/route"))?);
    let is_ours = |name: &str| ours.iter().any(|one| one.name == name);
    let others = interface_networks().into_iter().filter(|(name, _)| !is_ours(name)).collect();
    let on_link = |net: &Ipv4Net| {
        usable
            .iter()
            .flat_map(|one| &one.addresses)
            .any(|own| net.contains(&own.addr()) || own.contains(&net.network()))
    };
    let subnets = config.dhcp.subnets.iter().map(|subnet| (subnet.net, "dhcp.subnets"));
    let relays = config.dhcp.relays.iter().filter_map(v4).map(|net| (net, "dhcp.relays"));
    let trusted = config.config_access.trusted_subnets.iter().filter_map(v4);
    let remote = subnets.chain(relays).chain(trusted.map(|net| (net, "config_access.trusted_subnets")));
    let remote = remote.filter(|(net, _)| !on_link(net)).map(|(net, key)| RemoteNetwork {
        net,
        key,
        route: route_to(&routes, net.network()),
    });
    Ok(Paths { remote: remote.collect(), ours, others })
}

fn v4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}

/// Returns the networks of each interface that is up, without the loopback.
fn interface_networks() -> BTreeMap<String, Vec<Ipv4Net>> {
    let mut found: BTreeMap<String, Vec<Ipv4Net>> = BTreeMap::new();
    for one in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let is_used = one.flags.contains(InterfaceFlags::IFF_UP) && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let address = one.address.as_ref().and_then(|address| Some(address.as_sockaddr_in()?.ip()));
        let mask = one.netmask.as_ref().and_then(|mask| Some(mask.as_sockaddr_in()?.ip()));
        let net = address.zip(mask).and_then(|(address, mask)| Ipv4Net::with_netmask(address, mask).ok());
        if let Some(net) = net.filter(|_| is_used) {
            found.entry(one.interface_name).or_default().push(net.trunc());
        }
    }
    found
}

/// A route: its network and its interface.
type Route = (Ipv4Net, String);

/// Parses `/proc/net/route`: interface, destination, gateway, flags, and the mask as the eighth column.
fn parse_routes(table: &str) -> Vec<Route> {
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = |at: usize| Some(Ipv4Addr::from(u32::from_str_radix(columns.get(at)?, 16).ok()?.to_ne_bytes()));
        let net = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
        Some((net, (*columns.first()?).to_owned()))
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Returns the interface of the most specific route to an address.
fn route_to(routes: &[Route], address: Ipv4Addr) -> Option<String> {
    let fitting = routes.iter().filter(|(net, _)| net.contains(&address));
    fitting.max_by_key(|(net, _)| net.prefix_len()).map(|(_, interface)| interface.clone())
}

/// Returns the rules of nftables.
pub fn firewall() -> Looked<Value> {
    serde_json::from_str(&output_of("nft", &["-j", "list", "ruleset"])?).map_err(|error| failed("nft", &error))
}

/// Returns the rules of iptables-legacy, which are in tables of their own; none where nobody has used it.
pub fn legacy_firewall() -> Looked<String> {
    if !is_root() {
        return Err(NEEDS_ROOT.to_owned());
    }
    // The kernel lists the tables that somebody has used. Without the module there is no such file.
    let tables = read(Path::new("/proc/net/ip_tables_names")).unwrap_or_default();
    if tables.trim().is_empty() { Ok(String::new()) } else { output_of("iptables-legacy-save", &[]) }
}

/// Runs a program of the system as root, and returns what it prints.
fn output_of(program: &str, arguments: &[&str]) -> Looked<String> {
    if !is_root() {
        return Err(NEEDS_ROOT.to_owned());
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = match Command::new(program).args(arguments).env("PATH", path).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("{program} is not installed"));
        }
        ran => ran.map_err(|error| failed(program, &error))?,
    };
    if !output.status.success() {
        return Err(failed(program, &String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the bridge that an interface is a port of.
pub fn bridge_of(interface: &str) -> Option<String> {
    let own = Path::new("/sys/class/net").join(interface);
    let master = std::fs::read_link(own.join("master")).ok().filter(|_| own.join("brport").exists())?;
    Some(master.file_name()?.to_string_lossy().into_owned())
}

/// Returns the ports of a bridge, and whether its frames meet the rules of IP; `None` for another interface.
pub fn bridge(interface: &str) -> Option<(Vec<String>, bool)> {
    let own = Path::new("/sys/class/net").join(interface);
    let ports = std::fs::read_dir(own.join("brif")).ok()?;
    let mut ports: Vec<String> = ports.flatten().map(|port| port.file_name().to_string_lossy().into_owned()).collect();
    ports.sort();
    let is_on = |path: &Path| read(path).is_ok_and(|flag| flag.trim() == "1");
    let all = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    Some((ports, is_on(all) || is_on(&own.join("bridge/nf_call_iptables"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_route_counts() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth1\t0000580A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let routes = parse_routes(table);
        if cfg!(target_endian = "little") {
            assert_eq!(route_to(&routes, [10, 88, 0, 7].into()).as_deref(), Some("eth1"));
            assert_eq!(route_to(&routes, [10, 89, 0, 7].into()).as_deref(), Some("eth0"));
        }
        assert_eq!(route_to(&[], [10, 89, 0, 7].into()), None);
    }

    #[test]
    fn the_kernel_says_how_many_neighbours_it_keeps() {
        assert!(neighbour_limit().is_ok_and(|limit| limit >= 16), "{:?}", neighbour_limit());
    }
}
