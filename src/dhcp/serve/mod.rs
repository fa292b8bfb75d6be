//! The I/O loop of DHCP: one thread receives batches from the sockets of every interface and sends the replies.

mod boot_steps;
mod entry_point;
mod exchanges;
mod handler;
mod heard_relays;
mod host_changes;
mod interface;
mod leases_file;
mod leasing;
mod placement;
mod port_socket;
mod queries;
mod received_message;
mod recent_offers;
mod rehearsal;
mod settings;
mod socket_io;
mod sockets;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::boot::Site;
use crate::boot::diagnosis::Segment;
use crate::fleet::Mac;
use crate::gate::Gate;
use crate::gate::stalls::Segments;

use super::answer::{Arrival, DhcpPort};
use crate::dhcp::rogue_servers::ServerDetector;

use crate::dhcp::serve::handler::records::LONGEST_WAIT;
use crate::dhcp::serve::handler::{HandlerQueues, PendingReplies, RequestHandler};
use crate::dhcp::serve::host_changes::{DeferredQueue, MAX_DEFERRED_MESSAGES};
pub use crate::dhcp::serve::interface::InterfaceMode;
use crate::dhcp::serve::interface::InterfaceState;
use crate::dhcp::serve::received_message::{DeferredMessage, ReceivedMessage};
pub use crate::dhcp::serve::settings::{DhcpSettings, SocketChoice};
pub use leases_file::export;
pub use placement::{BoundInterface, InterfaceControl};
use placement::{InterfaceChange, QueuedChange};
pub use queries::DhcpQueries;
use queries::Query;
use socket_io::{MAX_BATCH, ReceiveBatch};
use sockets::{InterfaceSockets, SocketRole};
pub use sockets::{ServerSearch, receive_buffer, try_port};

/// Time for which the server listens for other boot servers before its first answer. Requests wait in the sockets.
const STARTUP_LISTEN_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum number of batches that one port is served before the others.
const MAX_ROUNDS: usize = 64;
/// Maximum number of queued progress reports. A lost report costs the host's next boot a second.
const MAX_QUEUED_REPORTS: usize = 4096;

/// The running DHCP service.
#[derive(Debug)]
pub struct DhcpThread {
    /// The thread of the event loop.
    pub thread: JoinHandle<()>,
    /// The handle by which other protocols report progress of hosts.
    pub progress: ProgressReporter,
    /// The queue of questions.
    pub queries: DhcpQueries,
    /// Changes the interfaces.
    pub interfaces: InterfaceControl,
}

/// Reports hosts that continued their boot after an offer, because they asked for a file.
#[derive(Debug, Clone)]
pub struct ProgressReporter(Sender<Mac>);

impl ProgressReporter {
    /// Reports a host. It never blocks.
    pub fn report(&self, mac: Mac) {
        let _ = self.0.try_send(mac);
    }
}

/// Starts one thread that answers on the interfaces that it is told of, at most `count`, until `stop` becomes readable.
///
/// # Errors
/// The thread cannot be started.
pub fn spawn(count: usize, settings: DhcpSettings, gate: Arc<Gate>, stop: OwnedFd) -> io::Result<DhcpThread> {
    warn_small_neighbour_table(&settings, &gate);
    // Unlike those of the standard library, these queues take memory for what is in them only.
    let (progress, progressed) = mpsc::channel(MAX_QUEUED_REPORTS);
    let (messages, waiting) = mpsc::channel(MAX_DEFERRED_MESSAGES);
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let (queries, queried) = DhcpQueries::new(wake.clone());
    let (control, changes) = InterfaceControl::new(wake.clone());
    let queues = HandlerQueues { progressed, deferred: DeferredQueue { messages, wake: wake.clone() } };
    let interfaces = (0..count).map(|_| InterfaceSlot::default()).collect();
    let handler = RequestHandler::new(gate.clone(), settings.clone(), own_addresses()?, queues);
    let event_loop =
        EventLoop { interfaces, gate, settings, handler, deferred: waiting, queries: queried, changes, wake };
    let thread = std::thread::Builder::new().name("dhcp".into()).spawn(move || event_loop.run(&stop))?;
    Ok(DhcpThread { thread, progress: ProgressReporter(progress), queries, interfaces: control })
}

/// Returns the configuration as machines see it that reach us at an address, and the address that they are told.
fn told_at(gate: &Gate, address: Ipv4Addr) -> (Arc<Site>, Ipv4Addr) {
    let site = Arc::new(gate.site().reached_at(address.into()));
    let told = match site.address {
        IpAddr::V4(told) => told,
        IpAddr::V6(_) => address,
    };
    (site, told)
}

/// Returns the IPv4 addresses of all interfaces of this machine.
fn own_addresses() -> io::Result<HashSet<Ipv4Addr>> {
    let found = nix::ifaddrs::getifaddrs()?;
    Ok(found.filter_map(|found| Some(found.address?.as_sockaddr_in()?.ip())).collect())
}

/// Returns the IPv4 networks of an interface's addresses.
fn networks_of(interface: &str) -> io::Result<Vec<Ipv4Net>> {
    let found = nix::ifaddrs::getifaddrs()?.filter(|found| found.interface_name == interface);
    let network = |found: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (found.address?.as_sockaddr_in()?.ip(), found.netmask?.as_sockaddr_in()?.ip());
        Some(Ipv4Net::with_netmask(address, mask).ok()?.trunc())
    };
    Ok(found.filter_map(network).collect())
}

/// Warns if the kernel's neighbour table is smaller than the number of hosts. Beyond its limit the kernel silently
/// neither sends to new hosts nor receives from them.
fn warn_small_neighbour_table(settings: &DhcpSettings, gate: &Gate) {
    const LIMIT: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
    let Some(limit) = std::fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<usize>().ok()) else {
        return;
    };
    let pools = settings.subnets.iter().flat_map(|subnet| &subnet.pools);
    let leases: usize = pools.map(|pool| (u32::from(*pool.end()) - u32::from(*pool.start())) as usize + 1).sum();
    let machines = leases.max(gate.store.load().host_count());
    if machines > limit {
        tracing::warn!(
            machines,
            limit,
            "kernel neighbour table too small for the number of hosts: raise net.ipv4.neigh.default.gc_thresh3"
        );
    }
}

/// The thread's state: interfaces, handler, and the queue of deferred messages.
struct EventLoop {
    interfaces: Vec<InterfaceSlot>,
    gate: Arc<Gate>,
    settings: DhcpSettings,
    handler: RequestHandler,
    /// Messages that are handled again; `wake` becomes readable when there are some.
    deferred: Receiver<DeferredMessage>,
    /// Questions that clients of the API wait for; `wake` becomes readable when there are some.
    queries: Receiver<Query>,
    /// Changes of the interfaces; `wake` becomes readable when there are some.
    changes: Receiver<QueuedChange>,
    wake: Arc<EventFd>,
}

/// The place of an interface of the configuration.
#[derive(Default)]
struct InterfaceSlot {
    /// The interface, while it is there.
    served: Option<ServedInterface>,
    /// What was heard on it, while it is not there.
    detector: Option<ServerDetector>,
}

/// One interface with its sockets.
struct ServedInterface {
    state: InterfaceState,
    sockets: Arc<InterfaceSockets>,
    /// Time of the first answer. Requests wait in the sockets until then.
    begin: Instant,
    /// Last value of the kernel's counter of dropped datagrams, per port.
    overflow: [u32; 2],
    /// Number of calls for which that counter is requested, per port.
    counted_calls: [u8; 2],
}

/// Number of calls after a full batch in which the kernel's counter of dropped datagrams is requested: the first of them
/// empties the buffer, and what the next one receives came after the drop.
const COUNTED_CALLS: u8 = 2;

impl EventLoop {
    fn run(mut self, stop: &OwnedFd) {
        let mut batch = ReceiveBatch::new();
        while self.serve(stop, &mut batch) {}
    }

    /// Serves until the sockets are others, or until the end: then it returns false.
    fn serve(&mut self, stop: &OwnedFd, batch: &mut ReceiveBatch) -> bool {
        let served =
            self.interfaces.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.served.as_ref()?)));
        let sockets: Vec<_> = served.map(|(index, served)| (index, served.sockets.clone(), served.begin)).collect();
        let wake = self.wake.clone();
        let mut watched = Vec::new();
        for (interface, sockets, begin) in &sockets {
            watched.extend(sockets.watched().into_iter().map(|(role, socket)| (*interface, role, *begin, socket)));
        }
        let fds = [stop.as_fd(), wake.as_fd()].into_iter().chain(watched.iter().map(|(.., socket)| *socket));
        let mut ready: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let mut is_listening = true;
        loop {
            self.probe_other_servers();
            let mut begin = None;
            if is_listening {
                let now = Instant::now();
                for (ready, (_, role, begin, _)) in ready[2..].iter_mut().zip(&watched) {
                    let waits = matches!(role, SocketRole::Port(_)) && now < *begin;
                    ready.set_events(if waits { PollFlags::empty() } else { PollFlags::POLLIN });
                }
                begin = watched.iter().map(|(_, _, begin, _)| *begin).filter(|begin| now < *begin).min();
                is_listening = begin.is_some();
            }
            let waits_since = Instant::now();
            let polled = poll(&mut ready, self.poll_timeout(begin));
            self.handler.note_wait(waits_since.elapsed());
            match polled {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "DHCP poll failed");
                    return false;
                }
            }
            if ready[0].any() == Some(true) {
                return false;
            }
            self.handler.drain_progress();
            if ready[1].any() == Some(true) {
                self.answer_deferred();
                self.answer_queries();
                if self.apply_changes() {
                    return true;
                }
            }
            for (ready, (interface, role, ..)) in ready[2..].iter().zip(&watched) {
                if ready.any() == Some(true) {
                    self.receive(*interface, *role, batch);
                }
            }
            self.offer_unclaimed();
        }
    }

    /// Applies the changes of interfaces that are queued. Returns whether there were some.
    fn apply_changes(&mut self) -> bool {
        let mut has_changed = false;
        while let Ok((change, done)) = self.changes.try_recv() {
            has_changed = true;
            match change {
                InterfaceChange::Serve(index, bound) => self.begin_interface(index, *bound),
                InterfaceChange::Move(index, address) => self.move_interface(index, address),
                InterfaceChange::Withdraw(index) => {
                    if let Some(slot) = self.interfaces.get_mut(index) {
                        slot.detector = slot.served.take().map(|served| served.state.detector);
                    }
                }
            }
            drop(done);
        }
        if has_changed {
            let segment = |slot: &InterfaceSlot| match &slot.served {
                Some(served) => served.state.segment(served.sockets.hears_other_servers()),
                None => Segment::default(),
            };
            self.gate.segments.store(Arc::new(Segments(self.interfaces.iter().map(segment).collect())));
            let served = self.interfaces.iter().filter_map(|slot| slot.served.as_ref());
            let told = served.map(|interface| interface.state.address);
            match own_addresses() {
                Ok(addresses) => self.handler.own_addresses = addresses.into_iter().chain(told).collect(),
                Err(error) => tracing::warn!(%error, "addresses of this machine not read"),
            }
        }
        has_changed
    }

    /// Begins to serve an interface.
    fn begin_interface(&mut self, index: usize, bound: BoundInterface) {
        let BoundInterface { name, address, mode, sockets } = bound;
        tracing::info!(interface = name, %address, mode = mode.code(), "DHCP listening");
        let now = Instant::now();
        let Some(slot) = self.interfaces.get_mut(index) else { return };
        let (site, told) = told_at(&self.gate, address);
        // What was heard before stands: nobody waits for another look.
        let (detector, begin) = match slot.detector.take() {
            Some(detector) => (detector.moved_to(told, now), now),
            None => (ServerDetector::new(told, self.settings.check_interval, now), now + STARTUP_LISTEN_TIMEOUT),
        };
        let (own, networks) = (Vec::new(), Vec::new());
        let state = InterfaceState { index, name, address: told, own, networks, mode, site, detector };
        let sockets = Arc::new(sockets);
        slot.served = Some(ServedInterface { state, sockets, begin, overflow: [0; 2], counted_calls: [0; 2] });
        self.move_interface(index, address);
    }

    /// Takes over the addresses that an interface has now.
    fn move_interface(&mut self, index: usize, address: Ipv4Addr) {
        let Some(served) = self.interfaces.get_mut(index).and_then(|slot| slot.served.as_mut()) else { return };
        let state = &mut served.state;
        let read = || Ok::<_, io::Error>((networks_of(&state.name)?, port_socket::own_addresses(&state.name)?));
        let (mut networks, own) = read().unwrap_or_default();
        // The subnet that is leased on the link may be wider than the network of the interface's address.
        networks.extend(self.settings.subnets.iter().map(|subnet| subnet.net).filter(|net| net.contains(&address)));
        let (site, told) = told_at(&self.gate, address);
        if state.address != told {
            tracing::info!(interface = state.name, address = %told, before = %state.address, "DHCP address changed");
            let detector = ServerDetector::new(told, self.settings.check_interval, Instant::now());
            state.detector = std::mem::replace(&mut state.detector, detector).moved_to(told, Instant::now());
        }
        (state.address, state.networks, state.own, state.site) = (told, networks, own, site);
    }

    /// Returns the maximum time to wait for packets.
    fn poll_timeout(&self, begin: Option<Instant>) -> PollTimeout {
        let served = self.interfaces.iter().filter_map(|slot| slot.served.as_ref());
        let checks = served.map(|interface| interface.state.detector.next());
        let next = checks.chain(self.handler.next_probe_deadline()).chain(begin).min();
        // One millisecond more, so that the deadline has passed when poll(2) returns.
        let left = next.map(|next| next.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        PollTimeout::try_from(left.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)).unwrap_or(PollTimeout::MAX)
    }

    /// Handles what a socket received, by its role.
    fn receive(&mut self, interface: usize, role: SocketRole, batch: &mut ReceiveBatch) {
        let slot = self.interfaces.get_mut(interface);
        let Some(interface) = slot.and_then(|slot| slot.served.as_mut()) else { return };
        match role {
            SocketRole::Port(port) => interface.drain(port, batch, &mut self.handler),
            SocketRole::Sniffer => {
                let (sockets, state, handler) = (&interface.sockets, &mut interface.state, &self.handler);
                sockets.receive_observed(|reply, from| handler.observe_reply(state, reply, from));
            }
            SocketRole::IcmpErrors => {
                let (state, handler) = (&interface.state, &self.handler);
                interface.sockets.receive_icmp_errors(|error| handler.record_icmp_error(state, error));
            }
            SocketRole::Arp | SocketRole::Echo => {
                for (address, by) in interface.sockets.claims(role) {
                    self.handler.on_probe_answer(address, by);
                }
            }
        }
    }

    fn probe_other_servers(&mut self) {
        let now = Instant::now();
        for interface in self.interfaces.iter_mut().filter_map(|slot| slot.served.as_mut()) {
            if interface.state.detector.is_due(now) {
                interface.sockets.probe_other_servers(uuid::Uuid::new_v4().as_fields().0);
            }
        }
    }

    /// Handles the deferred messages.
    fn answer_deferred(&mut self) {
        let _ = self.wake.read();
        // Only the messages that are queued now; those that they defer wait for the next turn.
        let queued = std::iter::from_fn(|| self.deferred.try_recv().ok());
        let messages: Vec<_> = queued.take(MAX_DEFERRED_MESSAGES).collect();
        let place = |message: &DeferredMessage| (message.interface, message.arrival.port);
        for messages in messages.chunk_by(|one, next| place(one) == place(next)).flat_map(|same| same.chunks(MAX_BATCH))
        {
            self.answer_again(messages);
        }
    }

    /// Answers the questions that are queued.
    fn answer_queries(&mut self) {
        while let Ok(query) = self.queries.try_recv() {
            let served = self.interfaces.iter().filter_map(|slot| slot.served.as_ref());
            query.answer(&mut self.handler, served.map(|interface| &interface.state));
        }
    }

    /// Offers the probed addresses that no host claimed in time.
    fn offer_unclaimed(&mut self) {
        let now = Instant::now();
        while let Some(message) = self.handler.take_unclaimed(now) {
            self.answer_again(&[message]);
        }
    }

    /// Handles deferred messages that arrived at one port.
    fn answer_again(&mut self, messages: &[DeferredMessage]) {
        let Some(first) = messages.first() else { return };
        // An interface that is gone meanwhile answers nothing: the client asks again.
        let slot = self.interfaces.get(first.interface);
        let Some(interface) = slot.and_then(|slot| slot.served.as_ref()) else { return };
        let mut out = PendingReplies::default();
        messages.iter().for_each(|message| self.handler.answer(&interface.state, message, &mut out));
        interface.dispatch(first.arrival.port, &mut out, &self.handler);
    }
}

impl ServedInterface {
    /// Handles the messages that wait at a port, at most `MAX_ROUNDS` batches: deferred messages and other ports have their
    /// turn in a flood.
    fn drain(&mut self, port: DhcpPort, batch: &mut ReceiveBatch, handler: &mut RequestHandler) {
        let sockets = self.sockets.clone();
        let mut out = PendingReplies::default();
        for _ in 0..MAX_ROUNDS {
            // The messages of a batch wait for less than a millisecond: the clock is read once.
            let mut arrived = None;
            let is_counting = self.counted_calls[port as usize] > 0;
            let (state, last) = (&self.state, &mut self.overflow[port as usize]);
            let received = sockets.socket(port).receive(batch, &state.own, is_counting, |bytes, from, dropped| {
                count_overflow(state, last, dropped, handler);
                let (interface, arrival) = (state.index, Arrival { port, from });
                let (received, bytes) = (*arrived.get_or_insert_with(Instant::now), bytes.into());
                let message =
                    ReceivedMessage { interface, bytes, arrival, received, is_repeated: false, enrolled: None };
                handler.answer(state, &message, &mut out);
            });
            match received {
                Ok(count) => {
                    let left = &mut self.counted_calls[port as usize];
                    *left = if count == MAX_BATCH { COUNTED_CALLS } else { left.saturating_sub(1) };
                    self.dispatch(port, &mut out, handler);
                    if count < MAX_BATCH {
                        return;
                    }
                }
                Err(Errno::EINTR) => {}
                // The link went down; the monitor of the interfaces tells it.
                Err(Errno::EAGAIN | Errno::ENETDOWN) => return,
                Err(error) => return tracing::warn!(%error, "DHCP receive failed"),
            }
        }
    }

    /// Sends replies and probes, and passes changes to the store. A reply with a lease is sent only after the lease is
    /// durable.
    fn dispatch(&self, port: DhcpPort, out: &mut PendingReplies, handler: &RequestHandler) {
        let address = self.state.address;
        let unsent = self.sockets.send(port, address, &out.replies);
        handler.record_sent(&out.replies, &unsent, &mut out.offers);
        out.replies.clear();
        for (address, is_on_link) in out.probes.drain(..) {
            self.sockets.probe(address, is_on_link);
        }
        handler.commit_changes(&mut out.changes);
        if !out.after_commit.is_empty() {
            let sockets = self.sockets.clone();
            handler.commit(&mut out.after_commit, move |replies| sockets.send(port, address, replies));
        }
    }
}

/// Counts the datagrams that the kernel dropped at a port, from its counter.
fn count_overflow(state: &InterfaceState, last: &mut u32, dropped: Option<u32>, handler: &RequestHandler) {
    let Some(dropped) = dropped else { return };
    let new = dropped.wrapping_sub(*last);
    if new > 0 {
        *last = dropped;
        handler.count_overflow(state.index, new);
    }
}
