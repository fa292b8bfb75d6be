//! The rim of DHCP: the sockets of every interface, drained in batches by one thread.

mod handler;
mod leases_file;
mod sockets;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::Semaphore;

use crate::boot::{DropReason, Site};
use crate::event::Protocol;
use crate::fleet::{HostMatch, Mac, Subnet};
use crate::gate::Gate;

use super::answer::{Arrival, Port};
use super::quirks::{Form, Learned};
use super::server::Server;
use crate::dhcp::conflict_probe::Probing;
use crate::dhcp::rogue_servers::Rivals;

use crate::dhcp::serve::handler::{Again, Desk, Message, Outbox};
pub use leases_file::export;
use sockets::{BATCH, Batch, Sockets, Wire};

/// Bounds the machines that are being remembered at one time.
const ENROLLING: usize = 4096;
/// Bounds the messages that are to be answered anew; those that wait for their machines fit in.
const AGAIN: usize = 2 * ENROLLING;
/// Is how long we listen for another boot server before our first answer. What machines say meanwhile waits.
const LISTEN: Duration = Duration::from_millis(500);
/// Bounds the machines that went on and are not yet heeded; a lost one costs its next boot a second.
const WENT_ON: usize = 4096;

/// Says what we are on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Says what to boot, beside somebody else's DHCP server.
    Proxy,
    /// Gives addresses as well.
    Server,
}

/// Is one interface to answer on, bound.
#[derive(Debug)]
pub struct Door {
    name: String,
    address: Ipv4Addr,
    mode: Mode,
    sockets: Sockets,
}

impl Door {
    /// Binds an interface's ports for DHCP and for the proxy's second exchange.
    ///
    /// # Errors
    /// The port that is in use or forbidden, by its number; in server mode, that raw sockets are forbidden.
    pub fn bind(
        name: &str,
        address: Ipv4Addr,
        (server, proxy): (u16, u16),
        mode: Mode,
        settings: &Settings,
    ) -> io::Result<Self> {
        let mut sockets = Sockets::bind(name, address, server, proxy)?;
        if mode == Mode::Server {
            sockets.serve_addresses(name, settings.conflict_check)?;
        }
        Ok(Self { name: name.to_owned(), address, mode, sockets })
    }
}

/// Is what the site wants of DHCP beside what every protocol heeds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tells some machines in a form of the site's choice; the first that means a machine decides.
    pub forms: Vec<(HostMatch, Form)>,
    /// Holds the networks that server mode gives addresses in.
    pub subnets: Vec<Subnet>,
    pub authoritative: bool,
    pub conflict_check: bool,
    /// Leaves machines to another boot server where one is found.
    pub yields: bool,
    /// Is how often another one is looked for.
    pub look_every: Duration,
}

/// Is the running thread.
#[derive(Debug)]
pub struct Service {
    pub thread: JoinHandle<()>,
    pub progress: Progress,
}

/// Takes word of machines that went on after their offer: they asked for a file.
#[derive(Debug, Clone)]
pub struct Progress(SyncSender<Mac>);

impl Progress {
    /// Tells of a machine. It never waits.
    pub fn tell(&self, mac: Mac) {
        let _ = self.0.try_send(mac);
    }
}

/// Answers on all interfaces in one thread, until `stop` becomes readable.
///
/// # Errors
/// The thread cannot be started.
pub fn spawn(
    doors: Vec<Door>,
    settings: Settings,
    gate: Arc<Gate>,
    runtime: tokio::runtime::Handle,
    stop: OwnedFd,
) -> io::Result<Service> {
    warn_of_neighbours(&settings, &gate);
    let link = |(index, door): (usize, Door)| {
        tracing::info!(interface = door.name, address = %door.address, mode = ?door.mode, "DHCP answers");
        let site = Arc::new(gate.site.reached_at(door.address.into()));
        let sockets = Arc::new(door.sockets);
        let rivals = Rivals::new(door.address, settings.look_every, Instant::now());
        let (name, address, mode) = (door.name, door.address, door.mode);
        Link { index, name, address, mode, site, sockets, rivals, overflow: [0; 2] }
    };
    let links = doors.into_iter().enumerate().map(link).collect();
    let (progress, went_on) = sync_channel(WENT_ON);
    let (again, waited) = sync_channel(AGAIN);
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let mut server = Server::new(settings.subnets.clone(), settings.authoritative, settings.conflict_check);
    server.load(gate.store.load().leases().map(|lease| lease.as_ref().clone()));
    let desk = Desk {
        gate,
        runtime,
        settings,
        server,
        here: own_addresses()?,
        enrolling: Arc::new(Semaphore::new(ENROLLING)),
        told: HashMap::new(),
        learned: Learned::default(),
        went_on,
        probing: Probing::default(),
        again,
        wake: wake.clone(),
    };
    let responder = Responder { links, desk, waited, wake };
    let thread = std::thread::Builder::new().name("dhcp".into()).spawn(move || responder.run(&stop))?;
    Ok(Service { thread, progress: Progress(progress) })
}

/// Lists the IPv4 addresses of this host, of all its interfaces.
fn own_addresses() -> io::Result<HashSet<Ipv4Addr>> {
    let found = nix::ifaddrs::getifaddrs()?;
    Ok(found.filter_map(|found| Some(found.address?.as_sockaddr_in()?.ip())).collect())
}

/// Warns where the kernel will not keep as many neighbours as there may be machines: beyond this many it can
/// neither send to new ones nor receive from them, and says so to nobody.
fn warn_of_neighbours(settings: &Settings, gate: &Gate) {
    const LIMIT: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
    let Some(limit) = std::fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<usize>().ok()) else {
        return;
    };
    let pools = settings.subnets.iter().flat_map(|subnet| &subnet.pools);
    let leases: usize = pools.map(|pool| (u32::from(*pool.end()) - u32::from(*pool.start())) as usize + 1).sum();
    let machines = leases.max(gate.store.load().hosts().count());
    if machines > limit {
        tracing::warn!(
            machines,
            limit,
            "more machines than the kernel keeps neighbours: raise net.ipv4.neigh.default.gc_thresh3"
        );
    }
}

struct Responder {
    links: Vec<Link>,
    desk: Desk,
    /// Brings the messages that are to be answered anew; `wake` says that there are some.
    waited: Receiver<Again>,
    wake: Arc<EventFd>,
}

/// Is one interface as it is answered on.
struct Link {
    index: usize,
    name: String,
    address: Ipv4Addr,
    mode: Mode,
    /// Is the site as this interface's machines reach it.
    site: Arc<Site>,
    sockets: Arc<Sockets>,
    rivals: Rivals,
    /// Is the kernel's count of dropped datagrams of each socket, as last read.
    overflow: [u32; 2],
}

impl Responder {
    fn run(mut self, stop: &OwnedFd) {
        let mut batch = Batch::new();
        let sockets: Vec<_> = self.links.iter().map(|link| link.sockets.clone()).collect();
        let wake = self.wake.clone();
        let mut watched = Vec::new();
        for (link, sockets) in sockets.iter().enumerate() {
            watched.extend(sockets.watched().into_iter().map(|(wire, socket)| (link, wire, socket)));
        }
        let fds = [stop.as_fd(), wake.as_fd()].into_iter().chain(watched.iter().map(|(_, _, socket)| *socket));
        let mut ready: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let begin = Instant::now() + LISTEN;
        let mut is_listening = true;
        loop {
            self.look_for_others();
            if is_listening {
                is_listening = Instant::now() < begin;
                let wanted = if is_listening { PollFlags::empty() } else { PollFlags::POLLIN };
                let ports =
                    ready[2..].iter_mut().zip(&watched).filter(|(_, (_, wire, _))| matches!(wire, Wire::Port(_)));
                ports.for_each(|(ready, _)| ready.set_events(wanted));
            }
            match poll(&mut ready, self.patience(is_listening.then_some(begin))) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return tracing::error!(%error, "DHCP cannot wait for packets"),
            }
            if ready[0].any() == Some(true) {
                return;
            }
            self.desk.heed_progress();
            if ready[1].any() == Some(true) {
                self.answer_anew();
            }
            for (ready, (link, wire, _)) in ready[2..].iter().zip(&watched) {
                if ready.any() == Some(true) {
                    self.hear(*link, *wire, &mut batch);
                }
            }
            self.offer_what_nobody_has();
        }
    }

    /// Says how long to wait for packets, at most.
    fn patience(&self, begin: Option<Instant>) -> PollTimeout {
        let looks = self.links.iter().map(|link| link.rivals.next());
        let Some(next) = looks.chain(self.desk.probing.next()).chain(begin).min() else { return PollTimeout::NONE };
        // A millisecond more than is left, so that the wait is over when it ends.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    fn hear(&mut self, link: usize, wire: Wire, batch: &mut Batch) {
        let Some(link) = self.links.get_mut(link) else { return };
        if wire == Wire::Ear {
            return link.sockets.overhear().into_iter().for_each(|heard| self.desk.note_other(link, heard));
        }
        let Wire::Port(port) = wire else {
            for (address, by) in link.sockets.claims(wire) {
                if let Some(message) = self.desk.probing.answered(address, by) {
                    tracing::warn!(%address, ?by, "an address of ours is used by somebody who does not have it from us");
                    self.desk.server.probed(address, true, Timestamp::now());
                    self.desk.later(message);
                }
            }
            return;
        };
        link.drain(port, batch, &mut self.desk);
    }

    fn look_for_others(&mut self) {
        let now = Instant::now();
        for link in self.links.iter_mut().filter_map(|link| link.rivals.is_due(now).then_some(link)) {
            link.sockets.look_for_others(uuid::Uuid::new_v4().as_fields().0);
        }
    }

    /// Answers the messages whose wait is over.
    fn answer_anew(&mut self) {
        let _ = self.wake.read();
        // As many as were there: what they bring about is for the next turn.
        let messages: Vec<_> = self.waited.try_iter().take(AGAIN).collect();
        for message in messages {
            self.answer_one(&message);
        }
    }

    fn offer_what_nobody_has(&mut self) {
        let now = Instant::now();
        while let Some((address, message)) = self.desk.probing.quiet(now) {
            self.desk.server.probed(address, false, Timestamp::now());
            self.answer_one(&message);
        }
    }

    fn answer_one(&mut self, message: &Again) {
        let Some(link) = self.links.get(message.link) else { return };
        let mut out = Outbox::default();
        self.desk.answer(link, message, &mut out);
        link.dispatch(message.arrival.port, &mut out, &self.desk);
    }
}

impl Link {
    /// Answers all that waits on one socket.
    fn drain(&mut self, port: Port, batch: &mut Batch, desk: &mut Desk) {
        let sockets = self.sockets.clone();
        let mut out = Outbox::default();
        loop {
            let received = batch.receive(sockets.of(port).as_fd(), |bytes, from, dropped| {
                self.count_overflow(port, dropped, desk);
                let arrival = Arrival { port, from };
                let message = Message { link: self.index, bytes: bytes.into(), arrival, enrolled: None };
                desk.answer(self, &message, &mut out);
            });
            match received {
                Ok(count) => {
                    self.dispatch(port, &mut out, desk);
                    if count < BATCH {
                        return;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(error) => return tracing::warn!(%error, "DHCP cannot receive"),
            }
        }
    }

    /// Does what a batch came to. What promises something leaves once that is on disk, and not before.
    fn dispatch(&self, port: Port, out: &mut Outbox, desk: &Desk) {
        self.sockets.send(port, &out.replies);
        out.replies.clear();
        for (address, is_near) in out.probes.drain(..) {
            self.sockets.probe(address, is_near);
        }
        if out.promises.is_empty() {
            return;
        }
        let (leases, replies): (Vec<_>, Vec<_>) = out.promises.drain(..).unzip();
        let replies: Vec<_> = replies.into_iter().flatten().collect();
        let (sockets, counters) = (self.sockets.clone(), desk.gate.counters.clone());
        let then = move |written| match written {
            Ok(()) => {
                sockets.send(port, &replies);
                replies.iter().for_each(|_| counters.count_answered(Protocol::Dhcp));
            }
            // The store told why. Nothing was promised: the client asks again.
            Err(_) => {
                replies.iter().for_each(|_| counters.count_dropped(Protocol::Dhcp, DropReason::LeaseNotWritten, None))
            }
        };
        if let Err(error) = desk.gate.store.record(leases, then) {
            tracing::warn!(%error, "leases could not be recorded");
            desk.gate.counters.count_dropped(Protocol::Dhcp, DropReason::Overload, None);
        }
    }

    fn count_overflow(&mut self, port: Port, dropped: Option<u32>, desk: &Desk) {
        let Some(dropped) = dropped else { return };
        let last = &mut self.overflow[port as usize];
        let new = dropped.wrapping_sub(*last);
        if new > 0 {
            *last = dropped;
            desk.gate.counters.socket_receive_drops.fetch_add(u64::from(new), std::sync::atomic::Ordering::Relaxed);
        }
    }
}
