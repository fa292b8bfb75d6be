//! The rim of DHCP: the sockets of every interface, drained in batches by one thread.

mod sockets;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::Semaphore;

use crate::boot::{Drop, Facts, Site, Stage, Verdict};
use crate::event::{Event, Protocol, architecture};
use crate::fleet::{Mac, Who};
use crate::gate::Gate;
use crate::store::{Change, Sighting};

use super::answer::{self, Arrival, Boot, Port, Reply};
use super::packet::Request;
use super::quirks::{Form, Learned};

use sockets::{BATCH, Batch, Sockets};

/// Bounds the machines that are being remembered at one time.
const ENROLLING: usize = 4096;
/// Is how long an offer to the same machine is not told again in its timeline.
const SAME_OFFER: Duration = Duration::from_secs(5);
/// Bounds the machines whose last offer is remembered for that.
const TOLD: usize = 8192;
/// Bounds the machines that went on and are not yet heeded; a lost one costs its next boot a second.
const WENT_ON: usize = 4096;

/// Is one interface to answer on, bound.
#[derive(Debug)]
pub struct Door {
    name: String,
    address: Ipv4Addr,
    sockets: Sockets,
}

impl Door {
    /// Binds an interface's ports for DHCP and for the proxy's second exchange.
    ///
    /// # Errors
    /// The port that is in use or forbidden, by its number.
    pub fn bind(name: &str, address: Ipv4Addr, server: u16, proxy: u16) -> io::Result<Self> {
        Ok(Self { name: name.to_owned(), address, sockets: Sockets::bind(name, address, server, proxy)? })
    }
}

/// Is what the site wants of DHCP beside what every protocol heeds.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Tells some machines in a form of the site's choice; the first that means a machine decides.
    pub forms: Vec<(Who, Form)>,
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
    let link = |door: Door| {
        let site = gate.site.reached_at(door.address.into());
        tracing::info!(interface = door.name, address = %door.address, "DHCP answers");
        Link { address: door.address, site: Arc::new(site), sockets: Arc::new(door.sockets), overflow: [0; 2] }
    };
    let links = doors.into_iter().map(link).collect();
    let (progress, went_on) = sync_channel(WENT_ON);
    let desk = Desk {
        gate,
        runtime,
        settings,
        enrolling: Arc::new(Semaphore::new(ENROLLING)),
        told: HashMap::new(),
        learned: Learned::default(),
        went_on,
    };
    let responder = Responder { links, desk };
    let thread = std::thread::Builder::new().name("dhcp".into()).spawn(move || responder.run(&stop))?;
    Ok(Service { thread, progress: Progress(progress) })
}

struct Responder {
    links: Vec<Link>,
    desk: Desk,
}

/// Is one interface as it is answered on.
struct Link {
    address: Ipv4Addr,
    /// Is the site as this interface's machines reach it.
    site: Arc<Site>,
    sockets: Arc<Sockets>,
    /// Is the kernel's count of dropped datagrams of each socket, as last read.
    overflow: [u32; 2],
}

impl Responder {
    fn run(mut self, stop: &OwnedFd) {
        let mut batch = Batch::new();
        let sockets: Vec<_> = self.links.iter().map(|link| link.sockets.clone()).collect();
        let watched = std::iter::once(stop.as_fd()).chain(sockets.iter().flat_map(|sockets| sockets.watched()));
        let mut ready: Vec<_> = watched.map(|watched| PollFd::new(watched, PollFlags::POLLIN)).collect();
        loop {
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return tracing::error!(%error, "DHCP cannot wait for packets"),
            }
            if ready[0].any() == Some(true) {
                return;
            }
            self.desk.heed_progress();
            for (link, ready) in self.links.iter_mut().zip(ready[1..].chunks(2)) {
                for (ready, port) in ready.iter().zip([Port::Server, Port::Proxy]) {
                    if ready.any() == Some(true) {
                        link.drain(port, &mut batch, &mut self.desk);
                    }
                }
            }
        }
    }
}

impl Link {
    /// Answers all that waits on one socket.
    fn drain(&mut self, port: Port, batch: &mut Batch, desk: &mut Desk) {
        let sockets = self.sockets.clone();
        let mut replies = Vec::with_capacity(BATCH);
        loop {
            let received = batch.receive(sockets.of(port).as_fd(), |bytes, from, dropped| {
                self.count_overflow(port, dropped, desk);
                replies.extend(desk.answer(self, bytes, Arrival { port, from }));
            });
            match received {
                Ok(count) => {
                    sockets.send(port, &replies);
                    replies.clear();
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

    fn count_overflow(&mut self, port: Port, dropped: Option<u32>, desk: &Desk) {
        let Some(dropped) = dropped else { return };
        let last = &mut self.overflow[port as usize];
        let new = dropped.wrapping_sub(*last);
        if new > 0 {
            *last = dropped;
            desk.gate.counters.overflowed.fetch_add(u64::from(new), std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Is what all interfaces share.
struct Desk {
    gate: Arc<Gate>,
    runtime: tokio::runtime::Handle,
    settings: Settings,
    enrolling: Arc<Semaphore>,
    told: HashMap<Mac, (Instant, String)>,
    learned: Learned,
    went_on: Receiver<Mac>,
}

impl Desk {
    fn heed_progress(&mut self) {
        for mac in self.went_on.try_iter() {
            self.learned.went_on(mac);
        }
    }

    fn answer(&mut self, link: &Link, bytes: &[u8], arrival: Arrival) -> Option<Reply> {
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(why) => return self.discard(why, arrival),
        };
        if arrival.port == Port::Server
            && let Some(address) = answer::claimed_address(&request)
        {
            self.sight(&request, address);
        }
        let facts = match answer::facts(&request, arrival, link.address) {
            Ok(facts) => facts,
            Err(why) => return self.discard(why, arrival),
        };
        let verdict = self.gate.look(&facts).verdict;
        match verdict {
            Verdict::Enrol(_) => {
                self.enrol(link, bytes, facts, arrival);
                None
            }
            Verdict::Ignore(why) => {
                self.gate.counters.refuse(Protocol::Dhcp, why, facts.address);
                None
            }
            verdict => {
                let form = self.form(&facts, arrival.port, Instant::now());
                let boot = Boot::of(&facts, &verdict, &link.site, form)?;
                self.gate.counters.answer(Protocol::Dhcp);
                note_booting(&self.gate, &facts);
                let reply = answer::reply(&request, &boot, arrival);
                self.tell(&facts, boot.file);
                Some(reply)
            }
        }
    }

    /// Picks the form to tell a machine in: the site's choice, or what was learned of it.
    fn form(&mut self, facts: &Facts, port: Port, now: Instant) -> Form {
        if port == Port::Proxy || !answer::has_forms(facts) {
            self.learned.went_on(facts.mac);
            return Form::Offer;
        }
        let chosen = self.settings.forms.iter().find(|(who, _)| who.means(facts.mac, facts.uuid));
        chosen.map_or_else(|| self.learned.form(facts.mac, now), |(_, form)| *form)
    }

    fn discard(&self, why: Drop, arrival: Arrival) -> Option<Reply> {
        self.gate.counters.discard(Protocol::Dhcp, why, Some((*arrival.from.ip()).into()));
        None
    }

    /// Notes the address that a known machine is about to have, and its UUID, where they are news.
    fn sight(&self, request: &Request<'_>, address: Ipv4Addr) {
        let (mac, uuid) = (request.mac, request.uuid());
        let address = Some(IpAddr::from(address));
        let news = self
            .gate
            .store
            .glance()
            .host_by_mac(mac)
            .is_some_and(|host| host.status.address != address || (uuid.is_some() && host.status.uuid != uuid));
        if !news {
            return;
        }
        let store = self.gate.store.clone();
        let Ok(permit) = self.enrolling.clone().try_acquire_owned() else { return };
        self.runtime.spawn(async move {
            let sighting = Sighting { firmware: None, address, uuid };
            if let Err(error) = store.commit(Change::Sight { mac, sighting }).await {
                tracing::debug!(%mac, %error, "an address was not noted");
            }
            std::mem::drop(permit);
        });
    }

    /// Remembers a machine never seen before, and answers it once that is on disk.
    fn enrol(&mut self, link: &Link, bytes: &[u8], facts: Facts, arrival: Arrival) {
        let Ok(permit) = self.enrolling.clone().try_acquire_owned() else {
            self.discard(Drop::Overload, arrival);
            return;
        };
        let form = self.form(&facts, arrival.port, Instant::now());
        let (gate, site, sockets, bytes) = (self.gate.clone(), link.site.clone(), link.sockets.clone(), bytes.to_vec());
        self.runtime.spawn(async move {
            let verdict = gate.ask(&facts).await.verdict;
            let Ok(request) = Request::parse(&bytes) else { return };
            if let Verdict::Ignore(why) = verdict {
                gate.counters.refuse(Protocol::Dhcp, why, facts.address);
            }
            if let Some(boot) = Boot::of(&facts, &verdict, &site, form) {
                gate.counters.answer(Protocol::Dhcp);
                note_booting(&gate, &facts);
                gate.store.note(Some(facts.mac), offer(&facts, &boot.file));
                sockets.send(arrival.port, &[answer::reply(&request, &boot, arrival)]);
            }
            std::mem::drop(permit);
        });
    }

    /// Puts an offer into the machine's timeline, once for all the retries of one boot.
    fn tell(&mut self, facts: &Facts, file: String) {
        let now = Instant::now();
        let told = self.told.get(&facts.mac);
        if told.is_some_and(|(at, last)| now - *at < SAME_OFFER && *last == file) {
            return;
        }
        if self.told.len() >= TOLD {
            self.told.retain(|_, (at, _)| now - *at < SAME_OFFER);
        }
        if self.told.len() < TOLD {
            self.gate.store.note(Some(facts.mac), offer(facts, &file));
            self.told.insert(facts.mac, (now, file));
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
