//! Routers and DHCPv6 servers on the wire, as a probe finds them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::DhcpMode;
use crate::dhcpv6::probe;
use crate::doctor::Looked;
use crate::doctor::checks::ipv6::{Ipv6State, SeenDhcpv6Server, SeenRouter};
use crate::fleet::Mac;
use crate::ndp::advert;

use super::{NEEDS_ROOT, UsableInterface, failed, is_root};

/// All routers, and all DHCPv6 servers and relays, of a link (RFC 4861 2.3, RFC 8415 7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Ports of DHCPv6 clients and servers (RFC 8415 7.2).
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// Hop limit of neighbour discovery (RFC 4861 6.1.1).
const HOPS: u32 = 255;
/// Time for answers: routers may wait for half a second, and servers for the check of an address.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval in which answers are looked for, and time after which the questions are sent again.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);
const MAX_DATAGRAM_BYTES: usize = 1500;

/// Asks on each segment with DHCP for routers and DHCPv6 servers. What only sends without being asked is not heard.
pub fn segments(usable: &[UsableInterface], probe: bool) -> Looked<Vec<Ipv6State>> {
    if !probe {
        return Err("--probe asks routers and DHCPv6 servers".to_owned());
    }
    if !is_root() {
        return Err(format!("--probe {NEEDS_ROOT}"));
    }
    let with_dhcp = usable.iter().filter(|one| one.mode != DhcpMode::Off);
    with_dhcp.map(|one| search(&one.name).map_err(|error| failed(&one.name, &error))).collect()
}

fn search(interface: &str) -> io::Result<Ipv6State> {
    let mut state = Ipv6State { interface: interface.to_owned(), routers: Vec::new(), servers: Vec::new() };
    let Some((own, index)) = link_local(interface) else { return Ok(state) };
    let routers = open(interface, index, Type::RAW, Protocol::ICMPV6)?;
    routers.set_multicast_hops_v6(HOPS)?;
    let servers = open(interface, index, Type::DGRAM, Protocol::UDP)?;
    // Next to a DHCPv6 client of this machine, which then misses answers to this question only.
    servers.set_reuse_address(true)?;
    servers.bind(&SocketAddrV6::new(own, CLIENT_PORT, 0, index).into())?;
    let (routers, servers) = (UdpSocket::from(routers), UdpSocket::from(servers));
    let [a, b, c, ..] = uuid::Uuid::new_v4().into_bytes();
    let questions = probe::questions(mac(interface), [a, b, c]);
    let begin = Instant::now();
    let mut asked = None::<Instant>;
    while begin.elapsed() < ANSWER_TIMEOUT {
        if asked.is_none_or(|at| at.elapsed() >= REPEAT_INTERVAL) {
            routers.send_to(&advert::solicitation(), SocketAddrV6::new(ALL_ROUTERS, 0, 0, index))?;
            for question in &questions {
                servers.send_to(question, SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, index))?;
            }
            asked = Some(Instant::now());
        }
        while let Some((address, message)) = receive(&routers) {
            let Some((is_managed, has_other_settings)) = advert::dhcpv6_flags(&message) else { continue };
            let seen = SeenRouter { address, is_managed, has_other_settings };
            state.routers.retain(|router| router.address != address);
            state.routers.push(seen);
        }
        while let Some((address, message)) = receive(&servers) {
            let Some(answer) = probe::answer(&message, [a, b, c]) else { continue };
            record(&mut state.servers, SeenDhcpv6Server { address, boot_file: answer.boot_file });
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(state)
}

/// Opens a socket that sends on one interface, and not to this machine: a running server does not hear the question.
fn open(interface: &str, index: u32, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind.nonblocking(), Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_loop_v6(false)?;
    Ok(socket)
}

/// Adds a server, or what it said in another answer.
fn record(servers: &mut Vec<SeenDhcpv6Server>, seen: SeenDhcpv6Server) {
    match servers.iter_mut().find(|server| server.address == seen.address) {
        Some(known) => known.boot_file = known.boot_file.take().or(seen.boot_file),
        None => servers.push(seen),
    }
}

/// Receives a message. A raw socket receives like a datagram socket.
fn receive(socket: &UdpSocket) -> Option<(Ipv6Addr, Vec<u8>)> {
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    let (length, SocketAddr::V6(from)) = socket.recv_from(&mut buffer).ok()? else { return None };
    Some((*from.ip(), buffer.get(..length)?.to_vec()))
}

/// Returns the link-local address of an interface, and its index; `None` without IPv6.
fn link_local(interface: &str) -> Option<(Ipv6Addr, u32)> {
    let mut own = nix::ifaddrs::getifaddrs().ok()?.filter(|one| one.interface_name == interface);
    own.find_map(|one| {
        let address = *one.address.as_ref()?.as_sockaddr_in6()?;
        address.ip().is_unicast_link_local().then(|| (address.ip(), address.scope_id()))
    })
}

fn mac(interface: &str) -> Mac {
    let found = pnet_datalink::interfaces().into_iter().find(|one| one.name == interface).and_then(|one| one.mac);
    found.map_or(Mac([0; 6]), |mac| Mac(mac.octets()))
}
