//! The listening socket, and the socket of a transfer: where datagrams come from and leave from.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// The receive buffer of a listening socket, in octets: the requests of a hall of racks after a power cut fit,
/// and in single-port mode one acknowledgement of each.
const RECEIVE_BUFFER: usize = 8 << 20;
/// What one receive may take: more than any request, acknowledgement or error has.
pub const DATAGRAM: usize = 2048;

/// Is a bound UDP socket that requests arrive at.
#[derive(Debug)]
pub struct Listener {
    socket: UdpSocket,
    interface: Option<String>,
    control: Vec<u8>,
    /// How many datagrams the kernel had dropped when last heard.
    overflowed: u32,
}

/// Says how a datagram reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub peer: SocketAddr,
    /// The address of ours that the peer sent to: replies leave from it.
    pub local: IpAddr,
    /// Whether the peer sent to a broadcast or multicast address.
    pub to_many: bool,
    pub octets: usize,
    /// Datagrams that the kernel dropped since the last arrival for want of room.
    pub overflowed: u32,
}

impl Listener {
    /// Binds a socket, on one interface only if it is named (that takes CAP_NET_RAW on kernels before 5.7).
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and bind(2).
    pub fn bind(address: SocketAddr, interface: Option<&str>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if let Some(interface) = interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        socket.bind(&address.into())?;
        let control = nix::cmsg_space!(in6_pktinfo, u32);
        Ok(Listener { socket: socket.into(), interface: interface.map(str::to_owned), control, overflowed: 0 })
    }

    /// Says the address and port that it is bound to.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Receives one datagram.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; those of recvmsg(2).
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<Arrival> {
        let mut parts = [IoSliceMut::new(into)];
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), MsgFlags::MSG_DONTWAIT)?;
        let peer = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
        let mut arrival =
            Arrival { peer, local: Ipv4Addr::UNSPECIFIED.into(), to_many: false, octets: message.bytes, overflowed: 0 };
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    arrival.local = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into();
                    arrival.to_many = info.ipi_spec_dst.s_addr != info.ipi_addr.s_addr;
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    arrival.local = IpAddr::from(info.ipi6_addr.s6_addr);
                    arrival.to_many = arrival.local.is_multicast();
                }
                ControlMessageOwned::RxqOvfl(count) => {
                    arrival.overflowed = count.wrapping_sub(self.overflowed);
                    self.overflowed = count;
                }
                _ => {}
            }
        }
        Ok(arrival)
    }

    /// Sends to a peer from the address that it sent to. Where `segment` is given, the octets are several
    /// datagrams of that size, the last perhaps shorter (UDP_SEGMENT, udp(7)).
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn send(&self, octets: &[IoSlice<'_>], segment: Option<u16>, from: IpAddr, to: SocketAddr) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        let to_address = SockaddrStorage::from(to);
        let segments = segment.as_ref().map(ControlMessage::UdpGsoSegments);
        let (v4, v6);
        let source = match from {
            IpAddr::V4(from) => {
                let from = nix::libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
                v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: from };
                ControlMessage::Ipv4PacketInfo(&v4)
            }
            IpAddr::V6(from) => {
                v6 = in6_pktinfo { ipi6_addr: nix::libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: scope(to) };
                ControlMessage::Ipv6PacketInfo(&v6)
            }
        };
        match segments {
            None => sendmsg(fd, octets, &[source], MsgFlags::MSG_DONTWAIT, Some(&to_address))?,
            Some(segments) => sendmsg(fd, octets, &[source, segments], MsgFlags::MSG_DONTWAIT, Some(&to_address))?,
        };
        Ok(())
    }

    /// Opens a socket on a port of its own that talks to one peer only, from the address that it sent to.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and connect(2): no descriptor or port is left, or no way leads there.
    pub fn connect(&self, from: IpAddr, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if let Some(interface) = &self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        let from = match from {
            IpAddr::V4(from) => SocketAddr::V4(SocketAddrV4::new(from, 0)),
            IpAddr::V6(from) => SocketAddr::V6(SocketAddrV6::new(from, 0, 0, scope(to))),
        };
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        Ok(socket.into())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends to a connected socket's peer, see [`Listener::send`].
///
/// # Errors
/// Those of sendmsg(2).
pub fn send_connected(socket: &UdpSocket, octets: &[IoSlice<'_>], segment: Option<u16>) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    match segment {
        None => sendmsg::<()>(fd, octets, &[], MsgFlags::MSG_DONTWAIT, None)?,
        Some(size) => {
            sendmsg::<()>(fd, octets, &[ControlMessage::UdpGsoSegments(&size)], MsgFlags::MSG_DONTWAIT, None)?
        }
    };
    Ok(())
}

/// Says the MTU of the way to a connected socket's peer, in octets. On an IPv6 socket the option of the IPv4
/// level is answered from the same route.
///
/// # Errors
/// Those of getsockopt(2).
pub fn path_mtu(socket: &UdpSocket) -> io::Result<u32> {
    let mtu = getsockopt(socket, sockopt::IpMtu)?;
    u32::try_from(mtu).map_err(io::Error::other)
}

/// Reads the number of a link-local peer's interface, or 0.
fn scope(peer: SocketAddr) -> u32 {
    match peer {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(peer) => peer.scope_id(),
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = || storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()));
    v4().or_else(v6)
}

const _: () = assert!(size_of::<in6_pktinfo>() >= size_of::<in_pktinfo>());
