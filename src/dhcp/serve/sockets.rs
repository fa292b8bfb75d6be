//! The sockets of one interface: bound as root, drained and filled in batches.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, LinkAddr, MsgFlags, MultiHeaders, SockaddrIn, SockaddrLike, recvmmsg,
    sendmmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::dhcp::answer::{EVERYBODY, Port, Reply, To};
use crate::dhcp::frame::{self, End};
use crate::dhcp::rogue_servers::{self, Heard};
use crate::fleet::Mac;

/// Bounds what one system call receives or sends.
pub const BATCH: usize = 64;
/// Is Ethernet's largest datagram; a longer DHCP message is cut, and dropped for it.
const LARGEST: usize = 1500;
/// Holds a DISCOVER of every machine of a hall after a power cut: 4,096 at about 1 KiB of kernel memory each, twice.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Holds the answers to a full receive buffer's worth of machines while the card is busy.
const SEND_BUFFER: usize = 4 << 20;
const EVERY_CARD: Mac = Mac([0xff; 6]);

/// Marks our echo requests: `b0 07`, for boot.
const ECHO: u16 = 0xb007;

/// Says what a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Port(Port),
    /// Hears who has an address that we asked for on our own link.
    Arp,
    /// Hears who answers our pings.
    Echo,
    /// Hears what other servers say to clients.
    Ear,
}

/// Is the set of sockets of one interface.
#[derive(Debug)]
pub struct Sockets {
    server: UdpSocket,
    proxy: UdpSocket,
    /// Sends frames of our own; missing where that was not allowed.
    card: Option<Card>,
    /// Asks for addresses before they are offered; only in server mode.
    probes: Option<Probes>,
    /// Hears what other servers say to clients; missing where raw sockets are not allowed.
    ear: Option<Socket>,
    address: Ipv4Addr,
    port: u16,
}

#[derive(Debug)]
struct Probes {
    arp: Socket,
    echo: Socket,
}

#[derive(Debug)]
struct Card {
    socket: Socket,
    mac: Mac,
}

impl Sockets {
    /// Binds both ports on an interface, and opens it for frames.
    ///
    /// # Errors
    /// The port that is in use or forbidden, by its number.
    pub fn bind(interface: &str, address: Ipv4Addr, server: u16, proxy: u16) -> io::Result<Self> {
        let bind = |port: u16| {
            open(interface, port).map_err(|error| {
                io::Error::new(error.kind(), format!("UDP port {port} on {interface} (DHCP): {error}"))
            })
        };
        let (port, server, proxy) = (server, bind(server)?, bind(proxy)?);
        let warn = |error: &io::Error| {
            tracing::warn!(interface, %error, "no raw socket: other boot servers are not noticed, and broadcasts cost more");
        };
        let card = Card::open(interface).inspect_err(warn).ok();
        let ear = link(interface).and_then(|link| ear(&link)).ok();
        Ok(Self { server, proxy, card, probes: None, ear, address, port })
    }

    /// Opens what server mode needs beside: frames for clients without an address, and probes where they are wanted.
    ///
    /// # Errors
    /// The interface is no Ethernet, or raw sockets are not allowed.
    pub fn serve_addresses(&mut self, interface: &str, probes: bool) -> io::Result<()> {
        let needed = |error: io::Error| {
            let message = format!("{interface}: a raw socket, which DHCP's server mode needs: {error}");
            io::Error::new(error.kind(), message)
        };
        if self.card.is_none() {
            self.card = Some(Card::open(interface).map_err(needed)?);
        }
        if probes {
            self.probes = Some(Probes::open(interface).map_err(needed)?);
        }
        Ok(())
    }

    /// Asks who has an address. A probe that is lost is as one that nobody answers.
    pub fn probe(&self, address: Ipv4Addr, is_near: bool) {
        let (Some(card), Some(probes)) = (&self.card, &self.probes) else { return };
        let sent = match is_near {
            true => card.socket.send(&frame::arp_probe(card.mac, address)),
            false => probes.echo.send_to(&frame::echo_request(ECHO), &SocketAddrV4::new(address, 0).into()),
        };
        if let Err(error) = sent {
            tracing::debug!(%address, %error, "an address could not be asked for");
        }
    }

    /// Asks who else tells machines what to boot.
    pub fn look_for_others(&self, xid: u32) {
        let Some(card) = &self.card else { return };
        let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, EVERYBODY.port());
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, self.port);
        let question = rogue_servers::question(card.mac, xid);
        let (from, to) = (End { mac: card.mac, address: nobody }, End { mac: EVERY_CARD, address: everybody });
        let sent = frame::udp(from, to, &question).map(|head| card.socket.send(&[&head[..], &question].concat()));
        if let Some(Err(error)) = sent {
            tracing::debug!(%error, "other boot servers could not be looked for");
        }
    }

    /// Lists the servers that were heard to answer clients.
    pub fn overhear(&self) -> Vec<Heard> {
        let mut buffer = [0; LARGEST + 64];
        let mut heard = Vec::new();
        for _ in 0..BATCH {
            let Some(frame) = self.ear.as_ref().and_then(|ear| read(ear, &mut buffer)) else { break };
            let said = frame::udp_payload(frame, EVERYBODY.port());
            heard.extend(said.and_then(|bytes| rogue_servers::heard(bytes, self.address)));
        }
        heard
    }

    /// Lists who answered for an address, with the card where that is known.
    pub fn claims(&self, wire: Wire) -> Vec<(Ipv4Addr, Option<Mac>)> {
        let Some(probes) = &self.probes else { return Vec::new() };
        let mut buffer = [0; 128];
        let mut claims = Vec::new();
        // Bounded, so that a flood of ARP leaves time for DHCP.
        for _ in 0..BATCH {
            let claim = match wire {
                Wire::Arp => read(&probes.arp, &mut buffer).map(frame::arp_sender),
                Wire::Echo => {
                    read(&probes.echo, &mut buffer).map(|packet| frame::echo_reply(packet, ECHO).zip(Some(Mac([0; 6]))))
                }
                Wire::Port(_) | Wire::Ear => break,
            };
            let Some(claim) = claim else { break };
            claims.extend(claim.map(|(address, mac)| (address, Some(mac).filter(|_| wire == Wire::Arp))));
        }
        claims
    }

    pub fn of(&self, port: Port) -> &UdpSocket {
        match port {
            Port::Server => &self.server,
            Port::Proxy => &self.proxy,
        }
    }

    /// Lists what to wait on.
    pub fn watched(&self) -> Vec<(Wire, BorrowedFd<'_>)> {
        let mut watched =
            vec![(Wire::Port(Port::Server), self.server.as_fd()), (Wire::Port(Port::Proxy), self.proxy.as_fd())];
        if let Some(probes) = &self.probes {
            watched.extend([(Wire::Arp, probes.arp.as_fd()), (Wire::Echo, probes.echo.as_fd())]);
        }
        watched.extend(self.ear.as_ref().map(|ear| (Wire::Ear, ear.as_fd())));
        watched
    }

    /// Sends replies. One that cannot be sent is the client's to ask for again, as a lost packet is.
    pub fn send<'a>(&self, port: Port, replies: &'a [Reply]) {
        let Some(card) = &self.card else { return self.send_datagrams(port, replies.iter()) };
        let from = End { mac: card.mac, address: SocketAddrV4::new(self.address, self.port) };
        let framed = |reply: &'a Reply| {
            let to = match reply.to {
                To::Address(_) => return None,
                // A broadcast of the kernel's comes back to this host as well; a frame does not.
                To::Everybody => End { mac: EVERY_CARD, address: EVERYBODY },
                To::Card { mac, address } => End { mac, address: SocketAddrV4::new(address, EVERYBODY.port()) },
            };
            Some((frame::udp(from, to, &reply.message)?, &reply.message))
        };
        let frames: Vec<_> = replies.iter().filter_map(framed).collect();
        let slices = frames.iter().map(|(head, message)| [IoSlice::new(head), IoSlice::new(message)]);
        send_all(card.socket.as_raw_fd(), None, slices.map(|slices| (None::<LinkAddr>, slices)));
        self.send_datagrams(port, replies.iter().filter(|reply| matches!(reply.to, To::Address(_))));
    }

    fn send_datagrams<'a>(&self, port: Port, replies: impl Iterator<Item = &'a Reply>) {
        let datagrams = replies.map(|reply| {
            let to = match reply.to {
                To::Address(address) => address,
                To::Everybody | To::Card { .. } => EVERYBODY,
            };
            (Some(SockaddrIn::from(to)), [IoSlice::new(&reply.message)])
        });
        send_all(self.of(port).as_raw_fd(), Some(self.address), datagrams);
    }
}

fn open(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    // The kernel halves what it may not grant; with CAP_NET_ADMIN it grants all of it.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
    let _ = setsockopt(&socket, sockopt::RxqOvfl, &1);
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    Ok(socket.into())
}

impl Card {
    fn open(interface: &str) -> io::Result<Self> {
        let link = link(interface)?;
        let mac = link.addr().map(Mac).ok_or(io::ErrorKind::Unsupported)?;
        // Protocol 0: it sends, and receives nothing.
        let socket = packets(&link, 0)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
        Ok(Self { socket, mac })
    }
}

impl Probes {
    fn open(interface: &str) -> io::Result<Self> {
        const ARP: u16 = 0x0806;
        let echo = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(Protocol::ICMPV4))?;
        echo.bind_device(Some(interface.as_bytes()))?;
        Ok(Self { arp: packets(&link(interface)?, ARP)?, echo })
    }
}

/// Opens an interface for what servers say to clients: UDP to port 68, and nothing else of its traffic.
fn ear(link: &LinkAddr) -> io::Result<Socket> {
    const IPV4: u16 = 0x0800;
    let step = SockFilter::new;
    // BPF over the frame: UDP (23 is the protocol), not a later fragment (20), to port 68 behind the IP header.
    let filter = [
        step(0x30, 0, 0, 23),
        step(0x15, 0, 6, 17),
        step(0x28, 0, 0, 20),
        step(0x45, 4, 0, 0x1fff),
        step(0xb1, 0, 0, 14),
        step(0x48, 0, 0, 16),
        step(0x15, 0, 1, u32::from(EVERYBODY.port())),
        step(0x06, 0, 0, 0xffff),
        step(0x06, 0, 0, 0),
    ];
    let socket = packets(link, IPV4)?;
    socket.attach_filter(&filter)?;
    // What came before the filter was there is of no interest.
    let mut buffer = [0; 64];
    while read(&socket, &mut buffer).is_some() {}
    Ok(socket)
}

fn read<'a>(mut socket: &Socket, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = socket.read(buffer).ok()?;
    buffer.get(..length)
}

/// Finds an Ethernet interface's index and address.
fn link(interface: &str) -> io::Result<LinkAddr> {
    const ETHERNET: u16 = 1; // ARPHRD_ETHER
    let mut found = nix::ifaddrs::getifaddrs()?.filter(|found| found.interface_name == interface);
    let link = found.find_map(|found| found.address?.as_link_addr().copied());
    link.filter(|link| link.hatype() == ETHERNET).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Opens an interface for the frames of an EtherType, as packet(7) says.
fn packets(link: &LinkAddr, ethertype: u16) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ethertype.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
    nix::sys::socket::bind(socket.as_raw_fd(), link)?;
    Ok(socket)
}

/// Sends all in as few calls as it takes; what the kernel refuses is left out, and the rest still goes.
///
/// `from` is the address that datagrams leave from: of several on the interface the kernel would take the first,
/// and firmware drops an answer of somebody whom it did not ask.
fn send_all<'a, S: SockaddrLike + Copy, const N: usize>(
    socket: RawFd,
    from: Option<Ipv4Addr>,
    messages: impl Iterator<Item = (Option<S>, [IoSlice<'a>; N])>,
) {
    let (addresses, slices): (Vec<_>, Vec<_>) = messages.unzip();
    let from = from.map(|address| in_addr { s_addr: u32::from_ne_bytes(address.octets()) });
    let from = from.map(|address| in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address });
    let source: Vec<_> = from.iter().map(ControlMessage::Ipv4PacketInfo).collect();
    let mut sent = 0;
    while sent < slices.len() {
        let (addresses, slices) = (&addresses[sent..], &slices[sent..]);
        let room = source.as_slice().first().map(|_| nix::cmsg_space!(in_pktinfo));
        let mut headers = MultiHeaders::<S>::preallocate(slices.len(), room);
        match sendmmsg(socket, &mut headers, slices, addresses, &source, MsgFlags::empty()) {
            Ok(results) => sent += results.count().max(1),
            Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::debug!(%error, left = slices.len(), "a DHCP reply could not be sent");
                sent += 1;
            }
        }
    }
}

/// Is what one system call fills, used again and again.
pub struct Batch {
    buffers: Vec<[u8; LARGEST]>,
    headers: MultiHeaders<SockaddrIn>,
    /// Says that the last call left some waiting: the kernel may have dropped others, and is asked how many.
    was_full: bool,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Batch").field("was_full", &self.was_full).finish_non_exhaustive()
    }
}

impl Batch {
    pub fn new() -> Self {
        let headers = MultiHeaders::preallocate(BATCH, None);
        Self { buffers: vec![[0; LARGEST]; BATCH], headers, was_full: false }
    }

    /// Receives what waits, up to a batch, and shows each message with where it came from; says how many there were.
    ///
    /// The kernel's count of datagrams that it dropped comes with the message that came after them.
    ///
    /// # Errors
    /// `EAGAIN` where nothing waits.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        mut each: impl FnMut(&[u8], SocketAddrV4, Option<u32>),
    ) -> Result<usize, Errno> {
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        // Made anew each time: nix keeps the control length that the kernel left, and an old 0 hides the count.
        let mut counting = self.was_full.then(|| MultiHeaders::preallocate(slices.len(), Some(nix::cmsg_space!(u32))));
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
            // An empty datagram has no part, and is a message all the same: one to be dropped and counted.
            each(message.iovs().next().unwrap_or_default(), from, dropped);
            count += 1;
        }
        self.was_full = count == BATCH;
        Ok(count)
    }
}
