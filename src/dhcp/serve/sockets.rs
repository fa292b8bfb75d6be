//! The sockets of one interface. They belong to the interface and not to its addresses, which may change.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, SockaddrIn, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::dhcp::answer::{BROADCAST_CLIENTS, Destination, DhcpPort, DhcpReply};
use crate::dhcp::frame::{self, IcmpError, LinkEndpoint};
use crate::dhcp::rogue_servers::{self, ObservedServer};
use crate::fleet::Mac;

use super::port_socket::PortSocket;
use super::settings::SocketChoice;
use super::socket_io::{
    MAX_BATCH, MAX_DATAGRAM_BYTES, RECEIVE_BUFFER, SEND_BUFFER, link, open_udp, packets, read, send_all,
    set_receive_buffer,
};

const BROADCAST_MAC: Mac = Mac([0xff; 6]);
/// Hardware type of an InfiniBand interface (ARPHRD_INFINIBAND).
const INFINIBAND: u16 = 32;

/// What to do about a port that another program has: two DHCP servers cannot share one, since unicast messages reach only
/// the one that was bound last.
const IN_USE: &str = "; another DHCP server of this machine has it: stop it, let it serve other interfaces only, set \
                      dhcp.socket = \"auto\" in mode \"proxy\", or set dhcp.mode = \"off\" and let it name this server";

/// Identifier of our ICMP echo requests.
const ECHO_IDENTIFIER: u16 = 0xb007;

/// The role of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketRole {
    Port(DhcpPort),
    /// Receives ARP answers to probes on our own link.
    Arp,
    /// Receives ICMP echo replies to probes behind a router.
    Echo,
    /// Receives the replies of other servers to clients.
    Sniffer,
    /// Receives ICMP errors about our packets.
    IcmpErrors,
}

/// The sockets of one interface.
#[derive(Debug)]
pub struct InterfaceSockets {
    server: PortSocket,
    proxy: PortSocket,
    /// Socket for Ethernet frames; `None` if raw sockets are not allowed.
    link_socket: Option<LinkSocket>,
    /// Probes addresses before they are offered; only in server mode.
    probes: Option<ProbeSockets>,
    /// Receives the replies of other servers to clients; `None` if raw sockets are not allowed.
    sniffer: Option<Socket>,
    /// Receives ICMP errors about our packets; `None` if raw sockets are not allowed.
    icmp_errors: Option<Socket>,
    port: u16,
    proxy_port: u16,
}

#[derive(Debug)]
struct ProbeSockets {
    arp: Socket,
    echo: Socket,
}

#[derive(Debug)]
struct LinkSocket {
    socket: Socket,
    mac: Mac,
}

impl InterfaceSockets {
    /// Opens the DHCP port and the ProxyDHCP port on an interface, and raw sockets if that is allowed.
    ///
    /// # Errors
    /// A port is in use or forbidden; the error names it.
    pub fn bind(interface: &str, (port, proxy_port): (u16, u16), choice: SocketChoice) -> io::Result<Self> {
        let bind = |port: u16| {
            PortSocket::open(interface, port, choice).map_err(|error| {
                let next = match error.kind() {
                    io::ErrorKind::AddrInUse => IN_USE,
                    _ => "",
                };
                io::Error::new(error.kind(), format!("UDP port {port} on {interface} (DHCP): {error}{next}"))
            })
        };
        let (server, proxy) = (bind(port)?, bind(proxy_port)?);
        let warn = |error: &io::Error| {
            tracing::warn!(interface, %error, "raw socket unavailable: other boot servers are not detected, broadcasts go through the kernel");
        };
        let link_socket = LinkSocket::open(interface).inspect_err(warn).ok();
        let sniffer = link(interface).and_then(|link| sniffer(&link)).ok();
        let icmp_errors = icmp_errors(interface).ok();
        Ok(Self { server, proxy, link_socket, probes: None, sniffer, icmp_errors, port, proxy_port })
    }

    /// Opens the raw sockets that server mode needs: for frames to clients without an address, and for probes if
    /// wanted. An InfiniBand interface needs none: its clients are answered by broadcast (RFC 4390 2).
    ///
    /// # Errors
    /// The interface is neither Ethernet nor InfiniBand, or raw sockets are not allowed.
    pub fn serve_addresses(&mut self, interface: &str, probes: bool) -> io::Result<()> {
        if hardware_type(interface) == Some(INFINIBAND) {
            tracing::info!(interface, "address probes not available on an InfiniBand interface");
            return Ok(());
        }
        let needed = |error: io::Error| {
            let message = format!("{interface}: cannot open a raw socket, which dhcp.mode = \"server\" needs: {error}");
            io::Error::new(error.kind(), message)
        };
        if self.link_socket.is_none() {
            self.link_socket = Some(LinkSocket::open(interface).map_err(needed)?);
        }
        if probes {
            self.probes = Some(ProbeSockets::open(interface).map_err(needed)?);
        }
        Ok(())
    }

    /// Sends a probe for an address. A lost probe counts as unanswered.
    pub fn probe(&self, address: Ipv4Addr, is_on_link: bool) {
        let (Some(link_socket), Some(probes)) = (&self.link_socket, &self.probes) else { return };
        let sent = match is_on_link {
            true => link_socket.socket.send(&frame::arp_probe(link_socket.mac, address)),
            false => probes.echo.send_to(&frame::echo_request(ECHO_IDENTIFIER), &SocketAddrV4::new(address, 0).into()),
        };
        if let Err(error) = sent {
            tracing::debug!(%address, %error, "failed to probe an address");
        }
    }

    /// Sends a probe for other boot servers.
    pub fn probe_other_servers(&self, xid: u32) {
        let Some(link_socket) = &self.link_socket else { return };
        if let Err(error) = link_socket.probe_servers(self.port, xid) {
            tracing::debug!(%error, "failed to probe for other boot servers");
        }
    }

    /// Returns whether broadcast replies of all other servers are received. The kernel passes packets that this machine
    /// sends to no socket of one EtherType, so another server on it may be missed.
    pub fn hears_other_servers(&self) -> bool {
        self.sniffer.is_some() && matches!(self.server, PortSocket::Udp(_))
    }

    /// Receives the replies of other servers to clients, and passes each to `each` with the sender's MAC address.
    pub fn receive_observed(&self, mut each: impl FnMut(&[u8], Option<Mac>)) {
        let mut buffer = [0; MAX_DATAGRAM_BYTES + 64];
        for _ in 0..MAX_BATCH {
            let Some(frame) = self.sniffer.as_ref().and_then(|sniffer| read(sniffer, &mut buffer)) else { break };
            if let Some(reply) = frame::udp_payload(frame, BROADCAST_CLIENTS.port()) {
                each(reply, frame::sender(frame));
            }
        }
    }

    /// Receives ICMP errors about UDP packets of ours, and passes each to `each`.
    pub fn receive_icmp_errors(&self, mut each: impl FnMut(IcmpError<'_>)) {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        for _ in 0..MAX_BATCH {
            let Some(packet) = self.icmp_errors.as_ref().and_then(|socket| read(socket, &mut buffer)) else { break };
            if let Some(error) = frame::icmp_error(packet) {
                each(error);
            }
        }
    }

    /// Returns the senders of probe answers, with the MAC address if it is known.
    pub fn claims(&self, wire: SocketRole) -> Vec<(Ipv4Addr, Option<Mac>)> {
        let Some(probes) = &self.probes else { return Vec::new() };
        let mut buffer = [0; 128];
        let mut claims = Vec::new();
        // The limit keeps time for DHCP during a flood of ARP.
        for _ in 0..MAX_BATCH {
            let claim = match wire {
                SocketRole::Arp => read(&probes.arp, &mut buffer).map(frame::arp_sender),
                SocketRole::Echo => read(&probes.echo, &mut buffer)
                    .map(|packet| frame::echo_reply(packet, ECHO_IDENTIFIER).zip(Some(Mac([0; 6])))),
                SocketRole::Port(_) | SocketRole::Sniffer | SocketRole::IcmpErrors => break,
            };
            let Some(claim) = claim else { break };
            claims.extend(claim.map(|(address, mac)| (address, Some(mac).filter(|_| wire == SocketRole::Arp))));
        }
        claims
    }

    pub fn socket(&self, port: DhcpPort) -> &PortSocket {
        match port {
            DhcpPort::Server => &self.server,
            DhcpPort::Proxy => &self.proxy,
        }
    }

    /// Returns the sockets to poll.
    pub fn watched(&self) -> Vec<(SocketRole, BorrowedFd<'_>)> {
        let mut watched = vec![
            (SocketRole::Port(DhcpPort::Server), self.server.receiver()),
            (SocketRole::Port(DhcpPort::Proxy), self.proxy.receiver()),
        ];
        if let Some(probes) = &self.probes {
            watched.extend([(SocketRole::Arp, probes.arp.as_fd()), (SocketRole::Echo, probes.echo.as_fd())]);
        }
        watched.extend(self.sniffer.as_ref().map(|sniffer| (SocketRole::Sniffer, sniffer.as_fd())));
        watched.extend(self.icmp_errors.as_ref().map(|socket| (SocketRole::IcmpErrors, socket.as_fd())));
        watched
    }

    /// Sends replies from an address of the interface. A reply that cannot be sent is lost like a packet, and the client
    /// asks again. Returns those replies, by their index.
    pub fn send<'a>(&self, port: DhcpPort, ours: Ipv4Addr, replies: &'a [DhcpReply]) -> Vec<(usize, Errno)> {
        let Some(link_socket) = &self.link_socket else {
            return self.send_datagrams(port, ours, replies.iter().enumerate());
        };
        let from = LinkEndpoint { mac: link_socket.mac, address: SocketAddrV4::new(ours, self.port) };
        let framed = |(index, reply): (usize, &'a DhcpReply)| {
            let to = match reply.to {
                Destination::Address(_) => return None,
                // A broadcast through the kernel also returns to this machine; a frame does not.
                Destination::Broadcast => LinkEndpoint { mac: BROADCAST_MAC, address: BROADCAST_CLIENTS },
                Destination::LinkLayer { mac, address } => {
                    LinkEndpoint { mac, address: SocketAddrV4::new(address, BROADCAST_CLIENTS.port()) }
                }
            };
            Some((index, frame::udp(from, to, &reply.message)?, &reply.message))
        };
        let frames: Vec<_> = replies.iter().enumerate().filter_map(framed).collect();
        let slices = frames.iter().map(|(_, head, message)| [IoSlice::new(head), IoSlice::new(message)]);
        let unsent = send_all(link_socket.socket.as_raw_fd(), None, slices.map(|slices| (None::<LinkAddr>, slices)));
        let frame_of = |(at, error): (usize, Errno)| Some((frames.get(at)?.0, error));
        let mut unsent: Vec<_> = unsent.into_iter().filter_map(frame_of).collect();
        let addressed = replies.iter().enumerate().filter(|(_, reply)| matches!(reply.to, Destination::Address(_)));
        unsent.extend(self.send_datagrams(port, ours, addressed));
        unsent
    }

    fn send_datagrams<'a>(
        &self,
        port: DhcpPort,
        ours: Ipv4Addr,
        replies: impl Iterator<Item = (usize, &'a DhcpReply)>,
    ) -> Vec<(usize, Errno)> {
        let destination = |reply: &DhcpReply| match reply.to {
            Destination::Address(address) => address,
            Destination::Broadcast | Destination::LinkLayer { .. } => BROADCAST_CLIENTS,
        };
        let replies: Vec<_> = replies.map(|(index, reply)| (index, destination(reply), &reply.message)).collect();
        if replies.is_empty() {
            return Vec::new();
        }
        let indexes: Vec<usize> = replies.iter().map(|(index, ..)| *index).collect();
        let unsent = match self.socket(port) {
            PortSocket::Udp(socket) => {
                let datagrams = replies.iter().map(|(_, to, message)| {
                    let slices = [IoSlice::new(message)];
                    (Some(SockaddrIn::from(*to)), slices)
                });
                send_all(socket.as_raw_fd(), Some(ours), datagrams)
            }
            PortSocket::Packet { sender, .. } => {
                let number = match port {
                    DhcpPort::Server => self.port,
                    DhcpPort::Proxy => self.proxy_port,
                };
                let from = SocketAddrV4::new(ours, number);
                // A reply that exceeds one packet has no header, and the kernel refuses it.
                let head = |to, message: &[u8]| frame::datagram_header(from, to, message).unwrap_or_default();
                let heads: Vec<_> = replies.iter().map(|(_, to, message)| head(*to, message)).collect();
                let packets = replies.iter().zip(&heads).map(|((_, to, message), head)| {
                    let slices = [IoSlice::new(head), IoSlice::new(message)];
                    (Some(SockaddrIn::from(*to)), slices)
                });
                send_all(sender.as_raw_fd(), None, packets)
            }
        };
        unsent.into_iter().filter_map(|(at, error)| Some((*indexes.get(at)?, error))).collect()
    }
}

/// Returns the servers whose replies to clients a sniffer received.
fn receive_observed(sniffer: &Socket, ours: Ipv4Addr) -> Vec<ObservedServer> {
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 64];
    let mut heard = Vec::new();
    for _ in 0..MAX_BATCH {
        let Some(frame) = read(sniffer, &mut buffer) else { break };
        let said = frame::udp_payload(frame, BROADCAST_CLIENTS.port());
        heard.extend(said.and_then(|bytes| rogue_servers::observe_reply(bytes, ours)));
    }
    heard
}

/// Looks for other servers without the server's own ports, which may be in use.
#[derive(Debug)]
pub struct ServerSearch {
    link_socket: LinkSocket,
    sniffer: Socket,
    ours: Ipv4Addr,
    port: u16,
}

impl ServerSearch {
    /// Opens the raw sockets of an interface.
    ///
    /// # Errors
    /// Raw sockets are not allowed, or the interface is not Ethernet.
    pub fn open(interface: &str, ours: Ipv4Addr, port: u16) -> io::Result<Self> {
        let sniffer = sniffer(&link(interface)?)?;
        Ok(Self { link_socket: LinkSocket::open(interface)?, sniffer, ours, port })
    }

    /// Asks the servers, with a DHCPDISCOVER that is never followed by a request, and with a DHCPINFORM.
    ///
    /// # Errors
    /// A frame cannot be sent.
    pub fn ask(&self, xid: u32) -> io::Result<()> {
        self.link_socket.probe_servers(self.port, xid)?;
        let inform = rogue_servers::inform_probe(self.link_socket.mac, xid.wrapping_add(1), self.ours);
        self.link_socket.broadcast(self.ours, self.port, &inform)
    }

    /// Returns the servers that have answered.
    pub fn answered(&self) -> Vec<ObservedServer> {
        receive_observed(&self.sniffer, self.ours)
    }
}

/// Returns the receive buffer of a socket for requests: the wanted size, and the one that the kernel grants.
///
/// # Errors
/// The socket cannot be opened.
pub fn receive_buffer() -> io::Result<(usize, usize)> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    set_receive_buffer(&socket)?;
    // The kernel doubles the size, for its own overhead (socket(7)).
    Ok((RECEIVE_BUFFER, socket.recv_buffer_size()? / 2))
}

/// Binds a DHCP port of an interface, and gives it back.
///
/// # Errors
/// The port is in use or forbidden.
pub fn try_port(interface: &str, port: u16) -> io::Result<()> {
    open_udp(interface, port).map(drop)
}

impl LinkSocket {
    /// Sends a probe for DHCP and boot servers.
    fn probe_servers(&self, port: u16, xid: u32) -> io::Result<()> {
        self.broadcast(Ipv4Addr::UNSPECIFIED, port, &rogue_servers::server_probe(self.mac, xid))
    }

    /// Sends a client's message to all servers.
    fn broadcast(&self, from: Ipv4Addr, port: u16, message: &[u8]) -> io::Result<()> {
        let from = SocketAddrV4::new(from, BROADCAST_CLIENTS.port());
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, port);
        let (from, to) =
            (LinkEndpoint { mac: self.mac, address: from }, LinkEndpoint { mac: BROADCAST_MAC, address: everybody });
        match frame::udp(from, to, message) {
            Some(head) => self.socket.send(&[&head[..], message].concat()).map(drop),
            None => Ok(()),
        }
    }

    fn open(interface: &str) -> io::Result<Self> {
        let link = link(interface)?;
        let mac = link.addr().map(Mac).ok_or(io::ErrorKind::Unsupported)?;
        // Protocol 0: the socket sends and receives nothing.
        let socket = packets(&link, 0)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
        Ok(Self { socket, mac })
    }
}

impl ProbeSockets {
    fn open(interface: &str) -> io::Result<Self> {
        const ARP: u16 = 0x0806;
        let echo = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(Protocol::ICMPV4))?;
        echo.bind_device(Some(interface.as_bytes()))?;
        Ok(Self { arp: packets(&link(interface)?, ARP)?, echo })
    }
}

/// Opens a socket for the replies of servers to clients: UDP to port 68 only.
fn sniffer(link: &LinkAddr) -> io::Result<Socket> {
    const IPV4: u16 = 0x0800;
    let step = SockFilter::new;
    // BPF over the frame: UDP (23 is the protocol), not a later fragment (20), to port 68 after the IP header.
    let filter = [
        step(0x30, 0, 0, 23),
        step(0x15, 0, 6, 17),
        step(0x28, 0, 0, 20),
        step(0x45, 4, 0, 0x1fff),
        step(0xb1, 0, 0, 14),
        step(0x48, 0, 0, 16),
        step(0x15, 0, 1, u32::from(BROADCAST_CLIENTS.port())),
        step(0x06, 0, 0, 0xffff),
        step(0x06, 0, 0, 0),
    ];
    let socket = packets(link, IPV4)?;
    socket.attach_filter(&filter)?;
    // Frames that arrived before the filter was attached are discarded.
    let mut buffer = [0; 64];
    while read(&socket, &mut buffer).is_some() {}
    Ok(socket)
}

/// Opens a socket for ICMP errors (destination unreachable) on an interface.
fn icmp_errors(interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(Protocol::ICMPV4))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    let step = SockFilter::new;
    // BPF over the packet: the ICMP type after the IP header is 3.
    socket.attach_filter(&[
        step(0xb1, 0, 0, 0),
        step(0x50, 0, 0, 0),
        step(0x15, 0, 1, 3),
        step(0x06, 0, 0, 0xffff),
        step(0x06, 0, 0, 0),
    ])?;
    let mut buffer = [0; 64];
    while read(&socket, &mut buffer).is_some() {}
    Ok(socket)
}

/// Returns the hardware type of an interface; `None` where the kernel does not say it.
fn hardware_type(interface: &str) -> Option<u16> {
    std::fs::read_to_string(format!("/sys/class/net/{interface}/type")).ok()?.trim().parse().ok()
}
