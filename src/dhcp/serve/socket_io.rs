//! How sockets of an interface are opened, read and written: in batches, with buffers for a data centre after a power cut.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, LinkAddr, MsgFlags, MultiHeaders, SockaddrIn, SockaddrLike, recvmmsg,
    sendmmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Maximum number of datagrams that one system call receives or sends.
pub const MAX_BATCH: usize = 64;
/// Maximum size of a received datagram, in octets: Ethernet's MTU. A longer DHCP message is truncated, and dropped for
/// it.
pub const MAX_DATAGRAM_BYTES: usize = 1500;
/// Receive buffer, in octets: twice the DISCOVERs of 4,096 hosts after a power cut, at about 1 KiB of kernel memory
/// each.
pub const RECEIVE_BUFFER: usize = 8 << 20;
/// Send buffer, in octets: the replies to a full receive buffer while the interface is busy.
pub const SEND_BUFFER: usize = 4 << 20;

/// Binds a DHCP port of an interface.
///
/// # Errors
/// The port is in use or forbidden.
pub fn open_udp(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    set_receive_buffer(&socket)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
    let _ = setsockopt(&socket, sockopt::RxqOvfl, &1);
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    Ok(socket.into())
}

/// Sets the receive buffer of a socket for requests.
///
/// # Errors
/// The socket has none.
pub fn set_receive_buffer(socket: &Socket) -> io::Result<()> {
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // The kernel caps the size; with CAP_NET_ADMIN it grants it in full.
    let _ = setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    Ok(())
}

/// Receives one packet; `None` if none waits.
pub fn read<'a>(mut socket: &Socket, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = socket.read(buffer).ok()?;
    buffer.get(..length)
}

/// Returns the index and MAC address of an Ethernet interface.
pub fn link(interface: &str) -> io::Result<LinkAddr> {
    const ETHERNET: u16 = 1; // ARPHRD_ETHER
    let mut found = nix::ifaddrs::getifaddrs()?.filter(|found| found.interface_name == interface);
    let link = found.find_map(|found| found.address?.as_link_addr().copied());
    link.filter(|link| link.hatype() == ETHERNET).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Opens a packet socket for an EtherType (packet(7)).
pub fn packets(link: &LinkAddr, ethertype: u16) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ethertype.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
    nix::sys::socket::bind(socket.as_raw_fd(), link)?;
    Ok(socket)
}

/// Sends all messages in as few calls as possible. A message that the kernel refuses is skipped, and returned by its
/// index.
///
/// `from` is the source address of datagrams: of several addresses of the interface the kernel would use the first, and
/// firmware drops a reply from a server that it did not ask.
pub fn send_all<'a, S: SockaddrLike + Copy, const N: usize>(
    socket: RawFd,
    from: Option<Ipv4Addr>,
    messages: impl Iterator<Item = (Option<S>, [IoSlice<'a>; N])>,
) -> Vec<(usize, Errno)> {
    let (addresses, slices): (Vec<_>, Vec<_>) = messages.unzip();
    let from = from.map(|address| in_addr { s_addr: u32::from_ne_bytes(address.octets()) });
    let from = from.map(|address| in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address });
    let source: Vec<_> = from.iter().map(ControlMessage::Ipv4PacketInfo).collect();
    let (mut sent, mut unsent) = (0, Vec::new());
    while sent < slices.len() {
        let (addresses, slices) = (&addresses[sent..], &slices[sent..]);
        let room = source.as_slice().first().map(|_| nix::cmsg_space!(in_pktinfo));
        let mut headers = MultiHeaders::<S>::preallocate(slices.len(), room);
        match sendmmsg(socket, &mut headers, slices, addresses, &source, MsgFlags::empty()) {
            Ok(results) => sent += results.count().max(1),
            Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::debug!(%error, left = slices.len(), "failed to send a DHCP reply");
                unsent.push((sent, error));
                sent += 1;
            }
        }
    }
    unsent
}

/// The buffers of one receive call.
pub struct ReceiveBatch {
    buffers: Vec<[u8; MAX_DATAGRAM_BYTES]>,
    headers: MultiHeaders<SockaddrIn>,
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ReceiveBatch").finish_non_exhaustive()
    }
}

impl ReceiveBatch {
    pub fn new() -> Self {
        let headers = MultiHeaders::preallocate(MAX_BATCH, None);
        Self { buffers: vec![[0; MAX_DATAGRAM_BYTES]; MAX_BATCH], headers }
    }

    /// Receives the waiting datagrams, up to a batch, and passes each with its source to `each`. Returns their number.
    ///
    /// With `is_counting`, the kernel's count of datagrams that it dropped comes with the message that came after them.
    ///
    /// # Errors
    /// `EAGAIN` if no datagram waits.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        is_counting: bool,
        mut each: impl FnMut(&[u8], SocketAddrV4, Option<u32>),
    ) -> Result<usize, Errno> {
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        // Allocated for each call: nix keeps the control length that the kernel returned, and a 0 would hide the
        // counter.
        let mut counting = is_counting.then(|| MultiHeaders::preallocate(slices.len(), Some(nix::cmsg_space!(u32))));
        let headers = counting.as_mut().unwrap_or(&mut self.headers);
        let flags = MsgFlags::MSG_DONTWAIT;
        let mut count = 0;
        for message in recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)? {
            let from: SocketAddrV4 =
                message.address.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), SocketAddrV4::from);
            let dropped = message.cmsgs().into_iter().flatten().find_map(|control| match control {
                ControlMessageOwned::RxqOvfl(count) => Some(count),
                _ => None,
            });
            // An empty datagram has no part, but is dropped and counted like any other.
            each(message.iovs().next().unwrap_or_default(), from, dropped);
            count += 1;
        }
        Ok(count)
    }
}
