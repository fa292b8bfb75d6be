//! The rim of DHCP: two sockets on one interface, drained in batches by one thread.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use socket2::{Domain, Protocol as Transport, Socket, Type};
use tokio::sync::Semaphore;

use crate::boot::{Drop, Facts, Stage, Verdict};
use crate::event::{Event, Protocol, architecture};
use crate::fleet::Mac;
use crate::gate::Gate;
use crate::store::{Change, Sighting};

use super::answer::{self, Arrival, Port, Reply};
use super::packet::Request;

/// Bounds what one system call receives or sends.
const BATCH: usize = 64;
/// Is Ethernet's largest datagram; a longer DHCP message is cut, and dropped for it.
const LARGEST: usize = 1500;
/// Holds a DISCOVER of every machine of a hall after a power cut: 4,096 at about 1 KiB of kernel memory each, twice.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Bounds the machines that are being remembered at one time.
const ENROLLING: usize = 4096;
/// Is how long an offer to the same machine is not told again in its timeline.
const SAME_OFFER: Duration = Duration::from_secs(5);
/// Bounds the machines whose last offer is remembered for that.
const TOLD: usize = 8192;

/// Is the pair of sockets of one interface.
#[derive(Debug)]
pub struct Sockets {
    server: UdpSocket,
    proxy: UdpSocket,
}

impl Sockets {
    /// Binds both ports on an interface.
    ///
    /// # Errors
    /// The port that is in use or forbidden, by its number.
    pub fn bind(interface: &str, server: u16, proxy: u16) -> io::Result<Self> {
        let bind = |port: u16| {
            open(interface, port).map_err(|error| {
                io::Error::new(error.kind(), format!("UDP port {port} on {interface} (DHCP): {error}"))
            })
        };
        Ok(Self { server: bind(server)?, proxy: bind(proxy)? })
    }
}

fn open(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Transport::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // The kernel halves what it may not grant; with CAP_NET_ADMIN it grants all of it.
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &RECEIVE_BUFFER);
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RxqOvfl, &1);
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    Ok(socket.into())
}

/// Answers on one interface in a thread of its own, until `stop` becomes readable.
///
/// # Errors
/// The thread cannot be started.
pub fn spawn(
    sockets: Sockets,
    gate: Arc<Gate>,
    runtime: tokio::runtime::Handle,
    stop: OwnedFd,
) -> io::Result<JoinHandle<()>> {
    let proxy = Responder {
        sockets: Arc::new(sockets),
        gate,
        runtime,
        enrolling: Arc::new(Semaphore::new(ENROLLING)),
        told: HashMap::new(),
        overflow: [0; 2],
    };
    std::thread::Builder::new().name("dhcp".into()).spawn(move || proxy.run(&stop))
}

struct Responder {
    sockets: Arc<Sockets>,
    gate: Arc<Gate>,
    runtime: tokio::runtime::Handle,
    enrolling: Arc<Semaphore>,
    told: HashMap<Mac, (Instant, String)>,
    /// Is the kernel's count of dropped datagrams of each socket, as last read.
    overflow: [u32; 2],
}

impl Responder {
    fn run(mut self, stop: &OwnedFd) {
        let mut buffers = vec![[0u8; LARGEST]; BATCH];
        loop {
            let watched = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let sockets = self.sockets.clone();
            let mut ready = [watched(stop.as_fd()), watched(sockets.server.as_fd()), watched(sockets.proxy.as_fd())];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return tracing::error!(%error, "DHCP cannot wait for packets"),
            }
            if ready[0].any() == Some(true) {
                return;
            }
            for (ready, port) in [(&ready[1], Port::Server), (&ready[2], Port::Proxy)] {
                if ready.any() == Some(true) {
                    self.drain(port, &mut buffers);
                }
            }
        }
    }

    /// Answers all that waits on one socket.
    fn drain(&mut self, port: Port, buffers: &mut [[u8; LARGEST]]) {
        let sockets = self.sockets.clone();
        let socket = match port {
            Port::Server => &sockets.server,
            Port::Proxy => &sockets.proxy,
        };
        loop {
            let received = match receive(socket, buffers) {
                Ok(received) if received.is_empty() => return,
                Ok(received) => received,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return,
                Err(error) => return tracing::warn!(%error, "DHCP cannot receive"),
            };
            let replies: Vec<Reply> = received
                .iter()
                .zip(buffers.iter())
                .filter_map(|((length, from, dropped), buffer)| {
                    self.count_overflow(port, *dropped);
                    self.answer(buffer.get(..*length)?, Arrival { port, from: *from })
                })
                .collect();
            send(socket, &replies);
            if received.len() < BATCH {
                return;
            }
        }
    }

    fn count_overflow(&mut self, port: Port, dropped: Option<u32>) {
        let Some(dropped) = dropped else { return };
        let last = &mut self.overflow[port as usize];
        let new = dropped.wrapping_sub(*last);
        if new > 0 {
            *last = dropped;
            self.gate.counters.overflowed.fetch_add(u64::from(new), std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn answer(&mut self, bytes: &[u8], arrival: Arrival) -> Option<Reply> {
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(why) => return self.discard(why, arrival),
        };
        if let Some(address) = answer::claimed_address(&request).filter(|_| arrival.port == Port::Server) {
            self.sight(request.mac, address);
        }
        let std::net::IpAddr::V4(ours) = self.gate.site.address else { return None };
        let facts = match answer::facts(&request, arrival, ours) {
            Ok(facts) => facts,
            Err(why) => return self.discard(why, arrival),
        };
        let verdict = self.gate.look(&facts).verdict;
        match verdict {
            Verdict::Enrol(_) => {
                self.enrol(bytes, facts, arrival);
                None
            }
            Verdict::Ignore(why) => {
                self.gate.counters.refuse(Protocol::Dhcp, why, facts.address);
                None
            }
            verdict => {
                let reply = answer::reply(&request, &facts, &verdict, &self.gate.site, arrival)?;
                self.gate.counters.answer(Protocol::Dhcp);
                note_booting(&self.gate, &facts);
                self.tell(&facts, &reply.file);
                Some(reply)
            }
        }
    }

    fn discard(&self, why: Drop, arrival: Arrival) -> Option<Reply> {
        self.gate.counters.discard(Protocol::Dhcp, why, Some((*arrival.from.ip()).into()));
        None
    }

    /// Notes the address that a known machine is about to have, where it is news.
    fn sight(&self, mac: Mac, address: Ipv4Addr) {
        let news =
            self.gate.store.glance().host_by_mac(mac).is_some_and(|host| host.status.address != Some(address.into()));
        if !news {
            return;
        }
        let store = self.gate.store.clone();
        let Ok(permit) = self.enrolling.clone().try_acquire_owned() else { return };
        self.runtime.spawn(async move {
            let sighting = Sighting { firmware: None, address: Some(address.into()) };
            if let Err(error) = store.commit(Change::Sight { mac, sighting }).await {
                tracing::debug!(%mac, %error, "an address was not noted");
            }
            std::mem::drop(permit);
        });
    }

    /// Remembers a machine never seen before, and answers it once that is on disk.
    fn enrol(&self, bytes: &[u8], facts: Facts, arrival: Arrival) {
        let Ok(permit) = self.enrolling.clone().try_acquire_owned() else {
            self.discard(Drop::Overload, arrival);
            return;
        };
        let (gate, sockets, bytes) = (self.gate.clone(), self.sockets.clone(), bytes.to_vec());
        self.runtime.spawn(async move {
            let verdict = gate.ask(&facts).await.verdict;
            let Ok(request) = Request::parse(&bytes) else { return };
            if let Verdict::Ignore(why) = verdict {
                gate.counters.refuse(Protocol::Dhcp, why, facts.address);
            }
            if let Some(reply) = answer::reply(&request, &facts, &verdict, &gate.site, arrival) {
                gate.counters.answer(Protocol::Dhcp);
                note_booting(&gate, &facts);
                gate.store.note(Some(facts.mac), offer(&facts, &reply.file));
                let socket = match arrival.port {
                    Port::Server => &sockets.server,
                    Port::Proxy => &sockets.proxy,
                };
                send(socket, &[reply]);
            }
            std::mem::drop(permit);
        });
    }

    /// Puts an offer into the machine's timeline, once for all the retries of one boot.
    fn tell(&mut self, facts: &Facts, file: &str) {
        let now = Instant::now();
        let told = self.told.get(&facts.mac);
        if told.is_some_and(|(at, last)| now - *at < SAME_OFFER && last == file) {
            return;
        }
        if self.told.len() >= TOLD {
            self.told.retain(|_, (at, _)| now - *at < SAME_OFFER);
        }
        if self.told.len() < TOLD {
            self.told.insert(facts.mac, (now, file.to_owned()));
            self.gate.store.note(Some(facts.mac), offer(facts, file));
        }
    }
}

fn note_booting(gate: &Gate, facts: &Facts) {
    match facts.stage {
        Stage::Ipxe | Stage::LesserIpxe => gate.booting.note(facts.mac),
        Stage::Rom | Stage::IscsiLogin | Stage::Installer => {}
    }
}

fn offer(facts: &Facts, file: &str) -> Event {
    let claimed = facts.firmware.map(|firmware| firmware.architecture);
    let client = match facts.stage {
        Stage::Ipxe | Stage::LesserIpxe => "ipxe on ",
        Stage::Rom | Stage::IscsiLogin | Stage::Installer => "",
    };
    Event::Offer { architecture: format!("{client}{}", architecture(claimed)), file: file.to_owned() }
}

type Received = (usize, SocketAddrV4, Option<u32>);

fn receive(socket: &UdpSocket, buffers: &mut [[u8; LARGEST]]) -> Result<Vec<Received>, Errno> {
    let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(slices.len(), Some(nix::cmsg_space!(u32)));
    let messages = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    let received = messages.map(|message| {
        let from = message.address.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), SocketAddrV4::from);
        let dropped = message.cmsgs().into_iter().flatten().find_map(|control| match control {
            nix::sys::socket::ControlMessageOwned::RxqOvfl(count) => Some(count),
            _ => None,
        });
        (message.bytes, from, dropped)
    });
    Ok(received.collect())
}

/// Sends replies. One that cannot be sent is the client's to ask for again, as a lost packet is.
fn send(socket: &UdpSocket, replies: &[Reply]) {
    if replies.is_empty() {
        return;
    }
    let addresses: Vec<_> = replies.iter().map(|reply| Some(SockaddrIn::from(reply.to))).collect();
    let slices: Vec<_> = replies.iter().map(|reply| [IoSlice::new(&reply.message)]).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(replies.len(), None);
    let none: [ControlMessage<'_>; 0] = [];
    if let Err(error) = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, addresses, none, MsgFlags::empty()) {
        tracing::warn!(%error, replies = replies.len(), "DHCP cannot send");
    }
}
