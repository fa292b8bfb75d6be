//! Many datagrams with one system call: recvmmsg(2) and sendmmsg(2).
//!
//! The crate that wraps them for others cannot send each datagram from its own address, and forgets to make
//! room for addresses again. So the two calls are here, and they are all that is unsafe.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use bytes::Bytes;
use nix::libc;

/// How many datagrams one call takes or sends.
pub const BATCH: usize = 64;
/// What one received datagram may have: more than any request, acknowledgement or error.
const DATAGRAM: usize = 1024;
/// Room for a sockaddr_in6, the larger of two.
const NAME: usize = 28;
/// Room for a packet information of IPv6 and the count of overflows.
const CONTROL: usize = 64;
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();

/// Is a peer's address as the kernel spells it.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    bytes: [u8; NAME],
    length: u32,
}

impl From<SocketAddr> for Name {
    fn from(address: SocketAddr) -> Self {
        let mut bytes = [0; NAME];
        let (family, length) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, size_of::<libc::sockaddr_in>())
            }
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (libc::AF_INET6, NAME)
            }
        };
        bytes[0..2].copy_from_slice(&(family as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        Name { bytes, length: length as u32 }
    }
}

impl Name {
    /// Reads the address back.
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

/// Takes datagrams as they arrive.
pub struct Inbox {
    octets: Vec<[u8; DATAGRAM]>,
    names: Vec<Name>,
    controls: Vec<[u8; CONTROL]>,
    lengths: Vec<(usize, usize)>,
}

/// Is one datagram received.
#[derive(Debug)]
pub struct Received<'a> {
    pub peer: SocketAddr,
    /// Cut off at [`DATAGRAM`] octets.
    pub octets: &'a [u8],
    control: &'a [u8],
}

/// Is what the kernel tells beside a datagram.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// The address of ours that the peer sent to, the interface's number, and whether it was to many.
    pub local: Option<(IpAddr, u32)>,
    pub to_many: bool,
    /// All datagrams that the kernel dropped at this socket so far.
    pub overflowed: Option<u32>,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox { octets: Vec::new(), names: Vec::new(), controls: Vec::new(), lengths: Vec::new() }
    }
}

impl Inbox {
    pub fn new() -> Self {
        Inbox {
            octets: vec![[0; DATAGRAM]; BATCH],
            names: vec![Name { bytes: [0; NAME], length: 0 }; BATCH],
            controls: vec![[0; CONTROL]; BATCH],
            lengths: Vec::with_capacity(BATCH),
        }
    }

    /// Receives what waits at a socket, at most [`BATCH`] datagrams, in place of those received before.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; those of recvmmsg(2).
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.lengths.clear();
        let mut parts = [EMPTY_PART; BATCH];
        let mut headers = [EMPTY_HEADER; BATCH];
        let buffers = self.octets.iter_mut().zip(&mut self.names).zip(&mut self.controls);
        let mut offered = 0;
        for (((octets, name), control), (part, header)) in buffers.zip(parts.iter_mut().zip(&mut headers)) {
            *part = libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: DATAGRAM };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = name.bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = NAME as u32;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
            offered += 1;
        }
        // SAFETY: each of the `offered` headers points at one part and at buffers of the lengths given, all of
        // which outlive the call and are borrowed by nobody else.
        let received = unsafe {
            let headers = headers.as_mut_ptr();
            libc::recvmmsg(socket.as_raw_fd(), headers, offered, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let lengths = headers.iter().take(received);
        self.lengths.extend(lengths.map(|header| (header.msg_len as usize, header.msg_hdr.msg_controllen as usize)));
        Ok(())
    }

    /// Yields what was received, but for datagrams of peers without an address.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        let buffers = self.octets.iter().zip(&self.names).zip(&self.controls);
        buffers.zip(&self.lengths).filter_map(|(((octets, name), control), &(length, controls))| {
            Some(Received { peer: name.address()?, octets: octets.get(..length)?, control: control.get(..controls)? })
        })
    }
}

impl Received<'_> {
    /// Reads what the kernel tells beside the datagram (cmsg(3), ip(7), ipv6(7), socket(7)).
    pub fn beside(&self) -> Beside {
        let mut beside = Beside::default();
        let mut rest = self.control;
        while let Some((header, _)) = rest.split_at_checked(CONTROL_HEADER) {
            let word =
                |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
            let length = header.first_chunk::<{ size_of::<usize>() }>().map_or(0, |bytes| usize::from_ne_bytes(*bytes));
            let (Some(level), Some(kind)) = (word(CONTROL_HEADER - 8), word(CONTROL_HEADER - 4)) else { break };
            let Some(data) = rest.get(CONTROL_HEADER..length) else { break };
            beside.read(level, kind, data);
            rest = rest.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
        }
        beside
    }
}

impl Beside {
    fn read(&mut self, level: i32, kind: i32, data: &[u8]) {
        let word = |at: usize| data.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        match (level, kind) {
            // in_pktinfo: the interface, our address, the address in the datagram's header.
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                let (Some(interface), Some(local), Some(addressed)) = (word(0), word(4), word(8)) else { return };
                self.local = Some((IpAddr::from(local), u32::from_ne_bytes(interface)));
                self.to_many = local != addressed;
            }
            // in6_pktinfo: the address in the datagram's header, the interface.
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                let (Some(octets), Some(interface)) = (data.first_chunk::<16>(), word(16)) else { return };
                self.local = Some((IpAddr::from(*octets), u32::from_ne_bytes(interface)));
                self.to_many = Ipv6Addr::from(*octets).is_multicast();
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.overflowed = word(0).map(u32::from_ne_bytes),
            _ => {}
        }
    }
}

/// Gathers datagrams that leave from one socket.
#[derive(Default)]
pub struct Outbox {
    waiting: Vec<Posted>,
}

struct Posted {
    to: Name,
    control: [u8; CONTROL],
    control_length: usize,
    head: [u8; 4],
    head_length: usize,
    body: Bytes,
}

impl Outbox {
    /// Puts a datagram in: a head of at most four octets and a body that may be shared with others. It leaves
    /// from an address of ours, if one is given.
    pub fn post(&mut self, to: Name, from: Option<IpAddr>, head: &[u8], body: Bytes) {
        let mut posted = Posted { to, control: [0; CONTROL], control_length: 0, head: [0; 4], head_length: 0, body };
        posted.head_length = head.len().min(4);
        posted.head[..posted.head_length].copy_from_slice(&head[..posted.head_length]);
        if let Some(from) = from {
            posted.control_length = packet_information(from, to, &mut posted.control);
        }
        self.waiting.push(posted);
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Sends all that was put in. What cannot be sent is told to `unsent` and forgotten: a lost datagram.
    pub fn send(&mut self, socket: BorrowedFd<'_>, mut unsent: impl FnMut(Option<SocketAddr>, io::Error)) {
        let mut done = 0;
        while let Some(rest) = self.waiting.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match send_some(socket, rest) {
                Ok(sent) => done += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    unsent(rest.first().and_then(|posted| posted.to.address()), error);
                    done += 1;
                }
            }
        }
        self.waiting.clear();
    }
}

/// Sends the first of these datagrams and as many of those after it as one call takes.
fn send_some(socket: BorrowedFd<'_>, posted: &mut [Posted]) -> io::Result<usize> {
    let mut parts = [[EMPTY_PART; 2]; BATCH];
    let mut headers = [EMPTY_HEADER; BATCH];
    let mut offered = 0;
    for (posted, (parts, header)) in posted.iter_mut().zip(parts.iter_mut().zip(&mut headers)) {
        let body = posted.body.as_ptr().cast_mut();
        *parts = [
            libc::iovec { iov_base: posted.head.as_mut_ptr().cast(), iov_len: posted.head_length },
            libc::iovec { iov_base: body.cast(), iov_len: posted.body.len() },
        ];
        header.msg_hdr.msg_iov = parts.as_mut_ptr();
        header.msg_hdr.msg_iovlen = 2;
        header.msg_hdr.msg_name = posted.to.bytes.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = posted.to.length;
        if posted.control_length > 0 {
            header.msg_hdr.msg_control = posted.control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = posted.control_length as _;
        }
        offered += 1;
    }
    // SAFETY: each of the `offered` headers points at two parts, a name and a control message of the lengths
    // given, all of which outlive the call; the kernel only reads them, so the bodies may be shared.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), offered, libc::MSG_DONTWAIT as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes the control message that says which address of ours a datagram leaves from; returns its length.
fn packet_information(from: IpAddr, to: Name, control: &mut [u8; CONTROL]) -> usize {
    let mut data = [0u8; 20];
    let (level, kind, length) = match from {
        IpAddr::V4(from) => {
            data[4..8].copy_from_slice(&from.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>())
        }
        IpAddr::V6(from) => {
            data[..16].copy_from_slice(&from.octets());
            // A link-local peer's address carries its interface.
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

const EMPTY_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
// SAFETY: of integers and pointers, for all of which zero is a value.
const EMPTY_HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn addresses_survive_the_kernels_spelling() {
        for text in ["10.1.2.3:69", "[::1]:1", "[fe80::5054:ff:fe12:3456%3]:65535", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::from(address).address(), Some(address));
        }
        assert_eq!(Name { bytes: [0; NAME], length: 0 }.address(), None);
    }

    #[test]
    fn a_hundred_datagrams_arrive_whole_and_in_order() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let (here, there) = (UdpSocket::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
            let from = Some(here.local_addr().unwrap().ip());
            let mut outbox = Outbox::default();
            for number in 0..100u8 {
                let body = Bytes::from(vec![number; usize::from(number)]);
                outbox.post(there.local_addr().unwrap().into(), from, &[number, 1], body);
            }
            assert_eq!(outbox.len(), 100);
            outbox.send(here.as_fd(), |peer, error| panic!("{peer:?}: {error}"));
            assert_eq!(outbox.len(), 0);
            let mut inbox = Inbox::new();
            let mut number = 0;
            while number < 100 {
                inbox.receive(there.as_fd()).unwrap();
                for received in inbox.iter() {
                    assert_eq!(received.peer, here.local_addr().unwrap());
                    let body = vec![number; usize::from(number)];
                    assert_eq!(received.octets, [&[number, 1][..], &body].concat());
                    assert_eq!(received.beside(), Beside::default());
                    number += 1;
                }
            }
            assert_eq!(inbox.receive(there.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(inbox.iter().count(), 0);
        }
    }

    #[test]
    fn what_cannot_be_sent_does_not_hold_up_the_rest() {
        let (here, there) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let to = there.local_addr().unwrap();
        let mut outbox = Outbox::default();
        outbox.post(to.into(), None, b"", Bytes::from_static(b"first"));
        outbox.post(to.into(), None, b"", vec![0; 70_000].into());
        outbox.post(to.into(), None, b"", Bytes::from_static(b"last"));
        let mut unsent = Vec::new();
        outbox.send(here.as_fd(), |peer, error| unsent.push((peer, error.raw_os_error())));
        assert_eq!(unsent, [(Some(to), Some(libc::EMSGSIZE))]);
        let mut inbox = Inbox::new();
        inbox.receive(there.as_fd()).unwrap();
        let all: Vec<&[u8]> = inbox.iter().map(|received| received.octets).collect();
        assert_eq!(all, [&b"first"[..], b"last"]);
    }
}
