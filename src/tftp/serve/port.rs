//! The sockets: the port for requests, and the ports for transfers.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::tftp::serve::mmsg::set_dont_fragment;
use arc_swap::ArcSwapOption;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, getsockopt, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Number of transfer ports of each listener that transfers in lockstep share, but never two transfers of one client, so
/// that (client's port, our port) still identifies a transfer (RFC 1350, section 4). A small number, because the
/// datagrams of one port are received in one call; large enough that a forger seldom guesses the port of a transfer.
const TRANSFER_PORTS: usize = 16;
/// Receive buffer of a socket, in octets: the requests of a full hall after a power cut, or one acknowledgement of each
/// host.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Send buffer of a socket, in octets: a window for each of a few dozen clients.
const SEND_BUFFER: usize = 4 << 20;
/// Buffers of a socket of one transfer, in octets: two windows with their overhead.
const WINDOW_BUFFER: (usize, usize) = (64 << 10, 512 << 10);

/// A bound UDP port for requests, with its transfer ports.
#[derive(Debug)]
pub struct Listener {
    pub(super) requests: UdpPort,
    pub(super) transfers: Vec<UdpPort>,
    pub(super) own_ports: OwnPorts,
    pub(super) service: ServiceAddress,
}

/// Address at which machines of an interface reach HTTP and iSCSI. It may change while the server runs.
#[derive(Debug, Clone, Default)]
pub struct ServiceAddress(Arc<ArcSwapOption<IpAddr>>);

impl ServiceAddress {
    /// Replaces the address.
    pub fn set(&self, address: Option<IpAddr>) {
        self.0.store(address.map(Arc::new));
    }

    /// Returns the address; `None` if the interface has none.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.load().as_deref().copied()
    }
}

/// The way to open a port for one transfer.
#[derive(Debug)]
pub struct OwnPorts {
    /// The address to bind, with port 0; none if all replies leave from the listening port.
    address: Option<SocketAddr>,
    interface: Option<String>,
}

impl OwnPorts {
    /// Opens a port whose number nobody can predict: the kernel draws it.
    ///
    /// # Errors
    /// All replies leave from the listening port; those of socket(2), setsockopt(2) and bind(2).
    pub fn open(&self) -> io::Result<UdpPort> {
        let address = self.address.ok_or(io::ErrorKind::Unsupported)?;
        UdpPort::bind(address, self.interface.as_deref(), WINDOW_BUFFER)
    }
}

/// The ports that transfers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortUse {
    /// The listening port, for firewalls and ROMs in other subnets.
    Single,
    /// Ports that the kernel chooses.
    Own,
}

/// One socket.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    /// Whether it is bound to the unspecified address, so that each datagram needs a source address.
    anywhere: bool,
    /// Whether its datagrams may be fragmented.
    fragments: Cell<bool>,
}

impl Listener {
    /// Binds the sockets, on one interface if it is named. It needs the capability for a port below 1024.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and bind(2).
    pub fn bind(address: SocketAddr, interface: Option<&str>, ports: PortUse) -> io::Result<Self> {
        let buffers = (RECEIVE_BUFFER, SEND_BUFFER);
        let requests = UdpPort::bind(address, interface, buffers)?;
        match address {
            SocketAddr::V4(_) => setsockopt(&requests, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&requests, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        // A counter only: gVisor and qemu-user have no such option.
        let _ = setsockopt(&requests, sockopt::RxqOvfl, &1);
        let mut any_port = address;
        any_port.set_port(0);
        let transfers = match ports {
            PortUse::Single => Vec::new(),
            PortUse::Own => {
                (0..TRANSFER_PORTS).map(|_| UdpPort::bind(any_port, interface, buffers)).collect::<Result<_, _>>()?
            }
        };
        let address = match ports {
            PortUse::Single => None,
            PortUse::Own => Some(any_port),
        };
        let own_ports = OwnPorts { address, interface: interface.map(str::to_owned) };
        Ok(Listener { requests, transfers, own_ports, service: ServiceAddress::default() })
    }

    /// Returns the listener with the address at which its clients reach HTTP and iSCSI.
    pub fn serving_at(self, service: ServiceAddress) -> Self {
        Self { service, ..self }
    }

    /// Returns the address and port for requests.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.requests.socket.local_addr()
    }
}

impl UdpPort {
    /// Binds a socket with the sizes of its receive and send buffers.
    fn bind(address: SocketAddr, interface: Option<&str>, (receive, send): (usize, usize)) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if let Some(interface) = interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &receive).is_err() {
            socket.set_recv_buffer_size(receive)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &send).is_err() {
            socket.set_send_buffer_size(send)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        let fragments = address.is_ipv6() || set_dont_fragment(socket.as_fd(), true).is_err();
        let anywhere = address.ip().is_unspecified();
        Ok(UdpPort { socket: socket.into(), anywhere, fragments: Cell::new(fragments) })
    }

    /// Allows fragmentation after a datagram was too large: the configured block size exceeds the MTU, or the path to a
    /// client has a smaller MTU than our interface. Returns whether that changed anything.
    pub fn allow_fragmentation(&self) -> bool {
        !self.fragments.replace(true) && set_dont_fragment(self.as_fd(), false).is_ok()
    }

    /// Returns the source address that a datagram needs to leave from `local`; `None` if the socket is bound to an
    /// address.
    pub fn source(&self, local: IpAddr) -> Option<IpAddr> {
        self.anywhere.then_some(local)
    }

    /// Sends one datagram; with `segment`, as many datagrams of that size as the octets contain, the last one possibly
    /// shorter (UDP_SEGMENT, udp(7)).
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn send(&self, octets: &[IoSlice<'_>], segment: Option<u16>, from: IpAddr, to: SocketAddr) -> io::Result<()> {
        let (v4, v6);
        let mut controls = Vec::with_capacity(2);
        match self.source(from) {
            None => {}
            Some(IpAddr::V4(from)) => {
                let from = nix::libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
                v4 = nix::libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: from };
                controls.push(ControlMessage::Ipv4PacketInfo(&v4));
            }
            Some(IpAddr::V6(from)) => {
                let from = nix::libc::in6_addr { s6_addr: from.octets() };
                v6 = nix::libc::in6_pktinfo { ipi6_addr: from, ipi6_ifindex: scope(to) };
                controls.push(ControlMessage::Ipv6PacketInfo(&v6));
            }
        }
        controls.extend(segment.as_ref().map(ControlMessage::UdpGsoSegments));
        let to = SockaddrStorage::from(to);
        sendmsg(self.socket.as_raw_fd(), octets, &controls, MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }
}

impl AsFd for UdpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Time for which the MTU of an interface is cached.
const MTU_TTL: Duration = Duration::from_secs(10);
/// MTU in octets where the kernel does not tell it.
const ETHERNET_MTU: u32 = 1500;

/// The MTUs towards peers, by listener and interface number.
#[derive(Debug, Default)]
pub struct MtuCache(HashMap<(usize, u32), (u32, Instant)>);

impl MtuCache {
    /// Returns the MTU of the path to a peer, in octets.
    ///
    /// # Errors
    /// There is no route.
    pub fn find(&mut self, listener: usize, interface: u32, peer: SocketAddr, now: Instant) -> io::Result<u32> {
        let known = self.0.get(&(listener, interface));
        if let Some((mtu, _)) = known.filter(|(_, asked_at)| now < *asked_at + MTU_TTL) {
            return Ok(*mtu);
        }
        let mtu = mtu(peer)?;
        self.0.insert((listener, interface), (mtu, now));
        Ok(mtu)
    }
}

/// Returns the MTU of the path to a peer, in octets: that of the interface, or the smaller one of the route.
///
/// # Errors
/// Those of connect(2): there is no route.
fn mtu(peer: SocketAddr) -> io::Result<u32> {
    let any = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    // On an IPv6 socket the option of the IPv4 level returns the MTU of the same route.
    match getsockopt(&socket, sockopt::IpMtu) {
        Ok(mtu) => u32::try_from(mtu).map_err(io::Error::other),
        // qemu-user has no such option.
        Err(Errno::ENOPROTOOPT) => Ok(ETHERNET_MTU),
        Err(error) => Err(error.into()),
    }
}

fn scope(peer: SocketAddr) -> u32 {
    match peer {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(peer) => peer.scope_id(),
    }
}
