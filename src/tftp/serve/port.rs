//! The sockets: the port that requests arrive at, and the ports that transfers take place on.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::tftp::serve::mmsg::set_never_fragmented;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, getsockopt, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// The ports that transfers take place on, at each listener: up to so many transfers at once have one each.
/// With more, clients share a port, and never two transfers of one client, so that (client's port, our port)
/// still names one transfer (RFC 1350, section 4). Few, because datagrams of one port are taken in one call.
const TRANSFER_PORTS: usize = 8;
/// The receive buffer of a socket, in octets: the requests of a hall of racks after a power cut fit, or one
/// acknowledgement of each.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The send buffer of a socket, in octets: a window for each of a few dozen clients.
const SEND_BUFFER: usize = 4 << 20;

/// Is a bound UDP port that requests arrive at, with the ports that transfers take place on.
#[derive(Debug)]
pub struct Listener {
    pub(super) requests: Port,
    pub(super) transfers: Vec<Port>,
}

/// Says where transfers take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// On the listening port, for firewalls and cross-subnet ROMs.
    Single,
    /// On ports that the kernel chooses.
    Own,
}

/// Is one socket.
#[derive(Debug)]
pub struct Port {
    socket: UdpSocket,
    /// Whether it is bound to no address in particular, so that each datagram must say where it leaves from.
    anywhere: bool,
    /// Whether its datagrams may be fragmented.
    fragments: Cell<bool>,
}

impl Listener {
    /// Binds the sockets, on one interface only if it is named. Best done before privileges are dropped.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and bind(2).
    pub fn bind(address: SocketAddr, interface: Option<&str>, ports: Ports) -> io::Result<Self> {
        let requests = Port::bind(address, interface)?;
        match address {
            SocketAddr::V4(_) => setsockopt(&requests, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&requests, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        setsockopt(&requests, sockopt::RxqOvfl, &1)?;
        let mut any_port = address;
        any_port.set_port(0);
        let transfers = match ports {
            Ports::Single => Vec::new(),
            Ports::Own => (0..TRANSFER_PORTS).map(|_| Port::bind(any_port, interface)).collect::<Result<_, _>>()?,
        };
        Ok(Listener { requests, transfers })
    }

    /// Says the address and port that requests arrive at.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.requests.socket.local_addr()
    }
}

impl Port {
    fn bind(address: SocketAddr, interface: Option<&str>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if let Some(interface) = interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            socket.set_send_buffer_size(SEND_BUFFER)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        let fragments = address.is_ipv6() || set_never_fragmented(socket.as_fd(), true).is_err();
        let anywhere = address.ip().is_unspecified();
        Ok(Port { socket: socket.into(), anywhere, fragments: Cell::new(fragments) })
    }

    /// Lets datagrams be fragmented from now on, once one was too large: the site has chosen such a block size,
    /// or the way to some client is narrower than our interface. Says whether that changed anything.
    pub fn let_fragment(&self) -> bool {
        !self.fragments.replace(true) && set_never_fragmented(self.as_fd(), false).is_ok()
    }

    /// Says the address that a datagram must carry to leave from `local`, where the socket does not see to it.
    pub fn source(&self, local: IpAddr) -> Option<IpAddr> {
        self.anywhere.then_some(local)
    }

    /// Sends one datagram; or, where `segment` is given, as many of that size as the octets hold, the last
    /// perhaps shorter (UDP_SEGMENT, udp(7)).
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

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Says the MTU of the way to a peer, in octets: that of the interface, or less if the route says so.
///
/// # Errors
/// Those of connect(2): no way leads there.
pub fn mtu(peer: SocketAddr) -> io::Result<u32> {
    let any = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    // On an IPv6 socket the option of the IPv4 level is answered from the same route.
    let mtu = getsockopt(&socket, sockopt::IpMtu)?;
    u32::try_from(mtu).map_err(io::Error::other)
}

fn scope(peer: SocketAddr) -> u32 {
    match peer {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(peer) => peer.scope_id(),
    }
}
