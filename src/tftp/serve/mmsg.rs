//! The unsafe system calls: many datagrams in one call (recvmmsg(2), sendmmsg(2)), and the don't fragment flag (ip(7)).
//!
//! nix's wrapper cannot send each datagram from its own address, does not restore the space for addresses, and lacks
//! the flag. These three calls are the only unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// Maximum number of datagrams of one call.
pub const MAX_BATCH: usize = 64;
/// Maximum length of a received datagram, in octets: more than any request, acknowledgement or error.
const MAX_DATAGRAM_BYTES: usize = 1024;
/// Size of a sockaddr_in6, the larger address.
const ADDRESS_BYTES: usize = 28;
/// Size of a control buffer: the packet information of IPv6 and the overflow counter.
const CONTROL_BYTES: usize = 64;
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();

/// A peer's address in the kernel's format.
#[derive(Debug, Clone, Copy)]
pub struct SocketName {
    bytes: [u8; ADDRESS_BYTES],
    length: u32,
}

impl From<SocketAddr> for SocketName {
    fn from(address: SocketAddr) -> Self {
        let mut bytes = [0; ADDRESS_BYTES];
        let (family, length) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, size_of::<libc::sockaddr_in>())
            }
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (libc::AF_INET6, ADDRESS_BYTES)
            }
        };
        bytes[0..2].copy_from_slice(&(family as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        SocketName { bytes, length: length as u32 }
    }
}

impl SocketName {
    /// Returns the address as a standard type.
    pub fn address(&self) -> Option<SocketAddr> {
        let (head, rest) = self.bytes.split_first_chunk::<4>()?;
        let port = u16::from_be_bytes([head[2], head[3]]);
        match i32::from(u16::from_ne_bytes([head[0], head[1]])) {
            libc::AF_INET => rest.first_chunk::<4>().map(|octets| SocketAddr::from((*octets, port))),
            libc::AF_INET6 => {
                let (flow, rest) = rest.split_first_chunk::<4>()?;
                let (octets, scope) = rest.split_first_chunk::<16>()?;
                let scope = u32::from_ne_bytes(*scope.first_chunk::<4>()?);
                let ip = Ipv6Addr::from(*octets);
                Some(SocketAddrV6::new(ip, port, u32::from_ne_bytes(*flow), scope).into())
            }
            _ => None,
        }
    }
}

/// The buffers of received datagrams.
pub struct RecvBatch {
    octets: Vec<[u8; MAX_DATAGRAM_BYTES]>,
    names: Vec<SocketName>,
    controls: Vec<[u8; CONTROL_BYTES]>,
    /// Point into the buffers above, which do not move.
    headers: Vec<libc::mmsghdr>,
    _parts: Vec<libc::iovec>,
    received: usize,
}

/// One received datagram.
#[derive(Debug)]
pub struct ReceivedDatagram<'a> {
    pub peer: SocketAddr,
    /// Truncated to [`MAX_DATAGRAM_BYTES`] octets.
    pub octets: &'a [u8],
    control: &'a [u8],
}

/// The control information of a datagram.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PacketInfo {
    /// The local address that the peer sent to, and the interface's number.
    pub local: Option<(IpAddr, u32)>,
    pub is_multicast: bool,
    /// The kernel's counter of datagrams that it dropped at this socket.
    pub overflowed: Option<u32>,
}

impl RecvBatch {
    pub fn new() -> Self {
        let mut octets = vec![[0; MAX_DATAGRAM_BYTES]; MAX_BATCH];
        let mut names = vec![SocketName { bytes: [0; ADDRESS_BYTES], length: 0 }; MAX_BATCH];
        let mut controls = vec![[0; CONTROL_BYTES]; MAX_BATCH];
        let part = |octets: &mut [u8; MAX_DATAGRAM_BYTES]| libc::iovec {
            iov_base: octets.as_mut_ptr().cast(),
            iov_len: MAX_DATAGRAM_BYTES,
        };
        let mut parts: Vec<libc::iovec> = octets.iter_mut().map(part).collect();
        let mut headers = vec![EMPTY_HEADER; MAX_BATCH];
        let buffers = parts.iter_mut().zip(&mut names).zip(&mut controls);
        for (header, ((part, name), control)) in headers.iter_mut().zip(buffers) {
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = name.bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
        }
        // All headers must be initialized, as after use.
        RecvBatch { octets, names, controls, headers, _parts: parts, received: MAX_BATCH }
    }

    /// Receives waiting datagrams, at most `at_most` and [`MAX_BATCH`], in place of the previous ones.
    ///
    /// # Errors
    /// `WouldBlock` if none waits; those of recvmmsg(2).
    pub fn receive(&mut self, socket: BorrowedFd<'_>, at_most: usize) -> io::Result<()> {
        let at_most = at_most.min(MAX_BATCH) as u32;
        for header in self.headers.iter_mut().take(std::mem::take(&mut self.received)) {
            header.msg_hdr.msg_namelen = ADDRESS_BYTES as u32;
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: each header points at one part, a name and a control buffer of the lengths given; they are
        // ours, they have not moved since `new`, and nothing borrows them during the call.
        let received = unsafe {
            let headers = self.headers.as_mut_ptr();
            libc::recvmmsg(socket.as_raw_fd(), headers, at_most, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    /// Returns the received datagrams, except those of peers without an address.
    pub fn iter(&self) -> impl Iterator<Item = ReceivedDatagram<'_>> {
        let buffers = self.octets.iter().zip(&self.names).zip(&self.controls);
        buffers.zip(&self.headers).take(self.received).filter_map(|(((octets, name), control), header)| {
            // A size_t with glibc, a socklen_t with musl.
            #[allow(clippy::unnecessary_cast)]
            let controls = header.msg_hdr.msg_controllen as usize;
            Some(ReceivedDatagram {
                peer: name.address()?,
                octets: octets.get(..header.msg_len as usize)?,
                control: control.get(..controls)?,
            })
        })
    }
}

impl ReceivedDatagram<'_> {
    /// Decodes the control information (cmsg(3), ip(7), ipv6(7), socket(7)).
    pub fn packet_info(&self) -> PacketInfo {
        let mut packet_info = PacketInfo::default();
        let mut rest = self.control;
        while let Some((header, _)) = rest.split_at_checked(CONTROL_HEADER) {
            let word =
                |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
            let length = header.first_chunk::<{ size_of::<usize>() }>().map_or(0, |bytes| usize::from_ne_bytes(*bytes));
            let (Some(level), Some(kind)) = (word(CONTROL_HEADER - 8), word(CONTROL_HEADER - 4)) else { break };
            let Some(data) = rest.get(CONTROL_HEADER..length) else { break };
            packet_info.read(level, kind, data);
            rest = rest.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
        }
        packet_info
    }
}

impl PacketInfo {
    fn read(&mut self, level: i32, kind: i32, data: &[u8]) {
        let word = |at: usize| data.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        match (level, kind) {
            // in_pktinfo: the interface, the local address, the address in the datagram's header.
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                let (Some(interface), Some(local), Some(addressed)) = (word(0), word(4), word(8)) else { return };
                self.local = Some((IpAddr::from(local), u32::from_ne_bytes(interface)));
                self.is_multicast = local != addressed;
            }
            // in6_pktinfo: the address in the datagram's header, the interface.
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                let (Some(octets), Some(interface)) = (data.first_chunk::<16>(), word(16)) else { return };
                self.local = Some((IpAddr::from(*octets), u32::from_ne_bytes(interface)));
                self.is_multicast = Ipv6Addr::from(*octets).is_multicast();
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.overflowed = word(0).map(u32::from_ne_bytes),
            _ => {}
        }
    }
}

/// Datagrams to send from one socket, in buffers that are reused.
pub struct SendBatch {
    buffers: Vec<Vec<u8>>,
    /// The destination and source of each filled buffer.
    waiting: Vec<(SocketName, Option<IpAddr>)>,
    parts: Vec<libc::iovec>,
    controls: Vec<[u8; CONTROL_BYTES]>,
    headers: Vec<libc::mmsghdr>,
}

/// The reaction to a datagram that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSendError {
    Again,
    Forget,
}

impl SendBatch {
    pub fn new() -> Self {
        SendBatch {
            buffers: vec![Vec::new(); MAX_BATCH],
            waiting: Vec::with_capacity(MAX_BATCH),
            parts: vec![EMPTY_PART; MAX_BATCH],
            controls: vec![[0; CONTROL_BYTES]; MAX_BATCH],
            headers: vec![EMPTY_HEADER; MAX_BATCH],
        }
    }

    /// Appends a datagram, which `fill` writes, with an optional source address. In a full batch it replaces the last
    /// one.
    ///
    /// # Errors
    /// The error of `fill`; then nothing is appended.
    pub fn post<E>(
        &mut self,
        to: SocketName,
        from: Option<IpAddr>,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.waiting.truncate(MAX_BATCH - 1);
        let Some(buffer) = self.buffers.get_mut(self.waiting.len()) else { return Ok(()) };
        buffer.clear();
        fill(buffer)?;
        self.waiting.push((to, from));
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_BATCH
    }

    /// Sends all datagrams. `unsent` decides about each one that cannot be sent.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        mut unsent: impl FnMut(Option<SocketAddr>, io::Error) -> OnSendError,
    ) {
        let mut done = 0;
        while done < self.waiting.len() {
            match self.send_some(socket, done) {
                Ok(sent) => done += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let peer = self.waiting.get(done).and_then(|(to, _)| to.address());
                    done += usize::from(unsent(peer, error) == OnSendError::Forget);
                }
            }
        }
        self.waiting.clear();
    }

    /// Sends as many datagrams as one call accepts, from the `done`th on.
    fn send_some(&mut self, socket: BorrowedFd<'_>, done: usize) -> io::Result<usize> {
        let mut offered = 0;
        let room = self.parts.iter_mut().zip(&mut self.controls).zip(&mut self.headers);
        let waiting = self.waiting.iter_mut().zip(&mut self.buffers).skip(done);
        for (((to, from), buffer), ((part, control), header)) in waiting.zip(room) {
            *part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = to.bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = to.length;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            let length = from.map_or(0, |from| packet_information(from, *to, control));
            header.msg_hdr.msg_controllen = length as _;
            offered += 1;
        }
        // SAFETY: each of the `offered` headers points at one part, a name and a control message of the
        // lengths given, all of which outlive the call.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), offered, libc::MSG_DONTWAIT as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Writes the control message with the source address of a datagram, and returns its length.
fn packet_information(from: IpAddr, to: SocketName, control: &mut [u8; CONTROL_BYTES]) -> usize {
    let mut data = [0u8; 20];
    let (level, kind, length) = match from {
        IpAddr::V4(from) => {
            data[4..8].copy_from_slice(&from.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>())
        }
        IpAddr::V6(from) => {
            data[..16].copy_from_slice(&from.octets());
            // The address of a link-local peer has its interface.
            data[16..20].copy_from_slice(&to.bytes[24..28]);
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>())
        }
    };
    let total = CONTROL_HEADER + length;
    control[..size_of::<usize>()].copy_from_slice(&total.to_ne_bytes());
    control[CONTROL_HEADER - 8..CONTROL_HEADER - 4].copy_from_slice(&level.to_ne_bytes());
    control[CONTROL_HEADER - 4..CONTROL_HEADER].copy_from_slice(&kind.to_ne_bytes());
    control[CONTROL_HEADER..total].copy_from_slice(&data[..length]);
    total.next_multiple_of(size_of::<usize>())
}

/// Sets whether the datagrams of an IPv4 socket are never fragmented: then a datagram that exceeds the path's MTU is an
/// error. The kernel also assigns no identification, which saves a twentieth of the cost of a block.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_dont_fragment(socket: BorrowedFd<'_>, never: bool) -> io::Result<()> {
    let value: libc::c_int = if never { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_WANT };
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is read from `value`, which is of the length given.
    let set = unsafe {
        let value = std::ptr::from_ref(&value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, length)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const EMPTY_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
// SAFETY: integers and pointers, for all of which zero is a valid value.
const EMPTY_HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn addresses_survive_the_kernels_format() {
        for text in ["10.1.2.3:69", "[::1]:1", "[fe80::5054:ff:fe12:3456%3]:65535", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketName::from(address).address(), Some(address));
        }
        assert_eq!(SocketName { bytes: [0; ADDRESS_BYTES], length: 0 }.address(), None);
    }

    #[test]
    fn a_hundred_datagrams_arrive_whole_and_in_order() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let (here, there) = (UdpSocket::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
            let from = Some(here.local_addr().unwrap().ip());
            let mut batch = SendBatch::new();
            for number in 0..100u8 {
                let fill = |out: &mut Vec<u8>| {
                    out.extend(vec![number; usize::from(number)]);
                    Ok::<(), ()>(())
                };
                batch.post(there.local_addr().unwrap().into(), from, fill).unwrap();
                if batch.is_full() || number == 99 {
                    batch.send(here.as_fd(), |peer, error| panic!("{peer:?}: {error}"));
                }
            }
            let mut batch = RecvBatch::new();
            let mut number = 0;
            while number < 100 {
                batch.receive(there.as_fd(), MAX_BATCH).unwrap();
                for received in batch.iter() {
                    assert_eq!(received.peer, here.local_addr().unwrap());
                    let body = vec![number; usize::from(number)];
                    assert_eq!(received.octets, body);
                    assert_eq!(received.packet_info(), PacketInfo::default());
                    number += 1;
                }
            }
            assert_eq!(batch.receive(there.as_fd(), MAX_BATCH).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(batch.iter().count(), 0);
        }
    }

    #[test]
    fn a_failed_datagram_does_not_delay_the_rest() {
        let (here, there) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let to = there.local_addr().unwrap();
        let mut batch = SendBatch::new();
        let mut post = |octets: &[u8]| {
            let fill = |out: &mut Vec<u8>| {
                out.extend(octets);
                Ok::<(), ()>(())
            };
            batch.post(to.into(), None, fill).unwrap();
        };
        post(b"first");
        post(&[0; 70_000]);
        post(b"last");
        assert_eq!(batch.post(to.into(), None, |_| Err("no content")), Err("no content"));
        let mut unsent = Vec::new();
        batch.send(here.as_fd(), |peer, error| {
            unsent.push((peer, error.raw_os_error()));
            if unsent.len() < 3 { OnSendError::Again } else { OnSendError::Forget }
        });
        assert_eq!(unsent, [(Some(to), Some(libc::EMSGSIZE)); 3]);
        let mut batch = RecvBatch::new();
        batch.receive(there.as_fd(), MAX_BATCH).unwrap();
        let all: Vec<&[u8]> = batch.iter().map(|received| received.octets).collect();
        assert_eq!(all, [&b"first"[..], b"last"]);
    }
}
