//! The socket of a DHCP port: a UDP socket, or a packet socket next to another program that has the port.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::dhcp::frame;

use super::settings::SocketChoice;
use super::socket_io::{ReceiveBatch, link, open_udp, read, set_receive_buffer};

/// The EtherType of IPv4.
const IPV4: u16 = 0x0800;
/// Offset of what the kernel knows of a packet besides its octets, in a BPF program (linux/filter.h): how it came.
const PACKET_TYPE: u32 = 0xffff_f004;
/// Ways that a packet came (packet(7)): to another host's MAC address, and from this machine.
const OTHER_HOST: u32 = 3;
const OUTGOING: u32 = 4;

/// The socket of a port.
#[derive(Debug)]
pub enum PortSocket {
    /// The port is ours.
    Udp(UdpSocket),
    /// Another program has the port, or may have it.
    Packet {
        /// Receives copies of the port's packets.
        packets: Socket,
        /// Sends datagrams with the port as their source, which the kernel routes.
        sender: Socket,
    },
}

impl PortSocket {
    /// Opens the socket of a port on an interface.
    ///
    /// # Errors
    /// The port is in use or forbidden, or packet sockets are not allowed.
    pub fn open(interface: &str, port: u16, choice: SocketChoice) -> io::Result<Self> {
        match choice {
            SocketChoice::Udp => open_udp(interface, port).map(Self::Udp),
            SocketChoice::Packet => Self::open_packet(interface, port),
            SocketChoice::Auto => match open_udp(interface, port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    tracing::info!(interface, port, "DHCP port in use by another program: packet socket in use");
                    Self::open_packet(interface, port)
                }
                opened => opened.map(Self::Udp),
            },
        }
    }

    fn open_packet(interface: &str, port: u16) -> io::Result<Self> {
        let step = SockFilter::new;
        // BPF over the IP packet: to this machine, UDP (9 is the protocol), not a later fragment (6), to the port.
        let filter = [
            step(0x20, 0, 0, PACKET_TYPE),
            step(0x15, 8, 0, OTHER_HOST),
            step(0x15, 7, 0, OUTGOING),
            step(0x30, 0, 0, 9),
            step(0x15, 0, 5, 17),
            step(0x28, 0, 0, 6),
            step(0x45, 3, 0, 0x1fff),
            step(0xb1, 0, 0, 0),
            step(0x48, 0, 0, 2),
            step(0x15, 1, 0, u32::from(port)),
            step(0x06, 0, 0, 0),
            step(0x06, 0, 0, 0xffff),
        ];
        let protocol = Protocol::from(i32::from(IPV4.to_be()));
        // A datagram socket receives packets from their IP header on, of any kind of interface.
        let packets = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), Some(protocol))?;
        packets.attach_filter(&filter)?;
        set_receive_buffer(&packets)?;
        nix::sys::socket::bind(packets.as_raw_fd(), &link(interface)?)?;
        // Before it was bound it received from all interfaces.
        while read(&packets, &mut [0; 64]).is_some() {}
        let sender = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(Protocol::from(nix::libc::IPPROTO_RAW)))?;
        sender.bind_device(Some(interface.as_bytes()))?;
        sender.set_broadcast(true)?;
        Ok(Self::Packet { packets, sender })
    }

    /// Returns the descriptor that requests are received from.
    pub fn receiver(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Packet { packets, .. } => packets.as_fd(),
        }
    }

    /// Receives the waiting datagrams, up to a batch, and passes each with its source to `each`. Returns their number, with
    /// the packets that are for another machine. `own`: the addresses of [`own_addresses`]. With `is_counting`, they come with the kernel's count of dropped ones.
    ///
    /// # Errors
    /// `EAGAIN` if no datagram waits.
    pub fn receive(
        &self,
        batch: &mut ReceiveBatch,
        own: &[Ipv4Addr],
        is_counting: bool,
        mut each: impl FnMut(&[u8], SocketAddrV4, Option<u32>),
    ) -> Result<usize, Errno> {
        match self {
            Self::Udp(socket) => batch.receive(socket.as_fd(), is_counting, each),
            // The kernel has not looked at the checksum of UDP; the codec checks every field.
            Self::Packet { packets, .. } => batch.receive(packets.as_fd(), is_counting, |packet, _, dropped| {
                let is_ours = |to: Ipv4Addr| to.is_broadcast() || own.contains(&to);
                if let Some((from, to, message)) = frame::udp_datagram(packet)
                    && is_ours(to)
                {
                    each(message, from, dropped);
                }
            }),
        }
    }
}

/// Returns the addresses of an interface, and their broadcast addresses.
///
/// # Errors
/// Those of getifaddrs(3).
pub fn own_addresses(interface: &str) -> io::Result<Vec<Ipv4Addr>> {
    let found = nix::ifaddrs::getifaddrs()?.filter(|one| one.interface_name == interface);
    let v4 = |address: nix::sys::socket::SockaddrStorage| Some(address.as_sockaddr_in()?.ip());
    Ok(found.flat_map(|one| [one.address, one.broadcast]).flatten().filter_map(v4).collect())
}
