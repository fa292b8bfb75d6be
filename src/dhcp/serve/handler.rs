//! What becomes of a message: asked of the gate and of the server's leases, and told to who wants to know.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use dhcproto::v4::MessageType;
use jiff::Timestamp;
use nix::sys::eventfd::EventFd;
use tokio::sync::Semaphore;

use crate::boot::{DropReason, Facts, Reason, Stage, Verdict};
use crate::dhcp::answer::{self, Arrival, Boot, Port, Reply};
use crate::dhcp::conflict_probe::Probing;
use crate::dhcp::packet::Request;
use crate::dhcp::quirks::{Form, Learned};
use crate::dhcp::rogue_servers::{self, Deed, Heard};
use crate::dhcp::server::{Context, Effect, Server};
use crate::event::{Event, OtherServerRole, Protocol, architecture_text};
use crate::fleet::{Lease, LeaseState, Mac};
use crate::gate::Gate;
use crate::store::{Change, Observation};

use crate::dhcp::serve::{Link, Mode, Settings};

/// Is how long an offer to the same machine is not told again in its timeline.
const SAME_OFFER: Duration = Duration::from_secs(5);
/// Bounds the machines whose last offer is remembered for that.
const TOLD: usize = 8192;

/// Is a message that is answered anew, once what it waited for has come.
pub type Again = Message<'static>;

/// Is a message as it arrived.
#[derive(Debug)]
pub struct Message<'a> {
    pub link: usize,
    pub bytes: Cow<'a, [u8]>,
    pub arrival: Arrival,
    /// Says that the machine was to be remembered, and why it could not be where it was not.
    pub enrolled: Option<Result<(), Reason>>,
}

impl Message<'_> {
    fn keep(&self) -> Again {
        Message { bytes: self.bytes.to_vec().into(), ..*self }
    }
}

/// Is what answering came to, gathered over a batch.
#[derive(Debug, Default)]
pub struct Outbox {
    pub replies: Vec<Reply>,
    /// Holds what must be on disk before its reply leaves.
    pub promises: Vec<(Lease, Option<Reply>)>,
    pub probes: Vec<(Ipv4Addr, bool)>,
}

/// Is what all interfaces share.
pub struct Desk {
    pub gate: Arc<Gate>,
    pub runtime: tokio::runtime::Handle,
    pub settings: Settings,
    pub server: Server,
    /// Holds this host's own addresses, which it does not answer for when it asks on the wire whether they are used.
    pub here: HashSet<Ipv4Addr>,
    pub enrolling: Arc<Semaphore>,
    pub told: HashMap<Mac, (Instant, String)>,
    pub learned: Learned,
    pub went_on: Receiver<Mac>,
    pub probing: Probing<Again>,
    pub again: SyncSender<Again>,
    pub wake: Arc<EventFd>,
}

impl Desk {
    pub fn heed_progress(&mut self) {
        for mac in self.went_on.try_iter() {
            self.learned.went_on(mac);
        }
    }

    /// Answers a message that has just arrived, or that has waited.
    pub fn answer(&mut self, link: &Link, message: &Message<'_>, out: &mut Outbox) {
        let arrival = message.arrival;
        let request = match Request::parse(&message.bytes) {
            Ok(request) => request,
            Err(why) => return self.discard(why, arrival),
        };
        if rogue_servers::is_question(&request) {
            return out.replies.push(answer::here(&request, link.address, arrival));
        }
        if self.settings.yields && link.rivals.is_yielded() {
            return self.discard(DropReason::StoodDown, arrival);
        }
        let done = match (link.mode, arrival.port) {
            (Mode::Proxy, _) | (Mode::Server, Port::Proxy) => self.answer_as_proxy(link, message, &request, out),
            (Mode::Server, Port::Server) => self.answer_as_server(link, message, &request, out),
        };
        if let Err(why) = done {
            self.discard(why, arrival);
        }
    }

    fn answer_as_proxy(
        &mut self,
        link: &Link,
        message: &Message<'_>,
        request: &Request<'_>,
        out: &mut Outbox,
    ) -> Result<(), DropReason> {
        let arrival = message.arrival;
        if arrival.port == Port::Server
            && let Some(address) = answer::claimed_address(request)
            && self.is_ours_to_believe(request, arrival, address)
        {
            self.sight(request, address);
        }
        let facts = answer::facts(request, arrival, link.address)?;
        let Asked::Boot(boot) = self.ask(link, message, &facts) else { return Ok(()) };
        self.gate.counters.count_answered(Protocol::Dhcp);
        out.replies.push(answer::reply(request, &boot, arrival));
        self.tell(&facts, boot.file);
        Ok(())
    }

    fn answer_as_server(
        &mut self,
        link: &Link,
        message: &Message<'_>,
        request: &Request<'_>,
        out: &mut Outbox,
    ) -> Result<(), DropReason> {
        let boots = matches!(request.kind, MessageType::Discover | MessageType::Request | MessageType::Inform);
        let boot = match answer::claims(request, link.address).filter(|_| boots) {
            None => None,
            Some(facts) => match self.ask(link, message, &facts) {
                Asked::Wait => return Ok(()),
                Asked::Nothing => None,
                Asked::Boot(boot) => {
                    self.tell(&facts, boot.file.clone());
                    Some(boot)
                }
            },
        };
        let state = self.gate.store.load();
        let of = |host: &Arc<crate::fleet::Host>| match host.spec.ip {
            Some(IpAddr::V4(address)) => Some(address),
            Some(IpAddr::V6(_)) | None => None,
        };
        let here = &self.here;
        let taken = |address: Ipv4Addr| {
            here.contains(&address)
                || state.host_by_ip(address.into()).is_some_and(|host| host.spec.boot_mac_address != request.mac)
        };
        let own = state.host_by_mac(request.mac).and_then(of);
        let context = Context { ours: link.address, boot: boot.as_ref(), own, taken: &taken, now: Timestamp::now() };
        let effects = self.server.answer(request, &context)?;
        let granted = effects.iter().find_map(|effect| match effect {
            Effect::Record(lease) if lease.held == LeaseState::Bound => Some(lease.address),
            Effect::Record(_) | Effect::Send(_) | Effect::Probe { .. } => None,
        });
        if let Some(address) = granted {
            self.sight(request, address);
        }
        self.obey(effects, message, request.mac, out);
        Ok(())
    }

    /// Gathers what is to be done: a reply after a record waits for it.
    fn obey(&mut self, effects: Vec<Effect>, message: &Message<'_>, mac: Mac, out: &mut Outbox) {
        for effect in effects {
            match effect {
                Effect::Record(lease) => out.promises.push((lease, None)),
                Effect::Send(reply) => match out.promises.last_mut() {
                    Some((lease, promised @ None)) if lease.mac == mac => *promised = Some(reply),
                    _ => {
                        self.gate.counters.count_answered(Protocol::Dhcp);
                        out.replies.push(reply);
                    }
                },
                Effect::Probe { address, is_near } => {
                    match self.probing.begin(address, mac, message.keep(), Instant::now()) {
                        Ok(true) => out.probes.push((address, is_near)),
                        Ok(false) => {}
                        Err(message) => {
                            self.server.probed(address, false, Timestamp::now());
                            self.later(message);
                        }
                    }
                }
            }
        }
    }

    /// Tells of a server that was heard beside us, where it does what we do.
    pub fn note_other(&self, link: &mut Link, heard: Heard) {
        if !link.rivals.note(heard, Instant::now()) {
            return;
        }
        let role = match (heard.deed, link.mode) {
            (Deed::Boots, _) => OtherServerRole::BootServer,
            (Deed::GivesAddresses, Mode::Server) => OtherServerRole::AddressServer,
            (Deed::GivesAddresses, Mode::Proxy) => return,
        };
        self.gate.counters.rogue_dhcp_servers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (interface, address) = (link.name.clone(), heard.server.into());
        self.gate.store.record_event(None, Event::OtherDhcpServer { interface, address, role });
    }

    /// Asks the gate what a machine is to boot; one never seen before is remembered first.
    fn ask(&mut self, link: &Link, message: &Message<'_>, facts: &Facts) -> Asked {
        let why = match (self.gate.decide_now(facts).decision.verdict, message.enrolled) {
            (Verdict::Enrol(_), None) => {
                self.enrol(message, *facts);
                return Asked::Wait;
            }
            (Verdict::Enrol(_), Some(Ok(()))) => Reason::UnknownHost,
            (Verdict::Enrol(_), Some(Err(why))) => why,
            (Verdict::Ignore(why), _) => why,
            (verdict, _) => {
                let form = self.form(facts, message.arrival.port, Instant::now());
                note_booting(&self.gate, facts);
                let boot = Boot::of(facts, &verdict, &link.site, form);
                return boot.map_or(Asked::Nothing, Asked::Boot);
            }
        };
        self.gate.counters.count_refused(Protocol::Dhcp, why, facts.address);
        Asked::Nothing
    }

    /// Picks the form to tell a machine in: the site's choice, or what was learned of it.
    fn form(&mut self, facts: &Facts, port: Port, now: Instant) -> Form {
        if port == Port::Proxy || !answer::has_forms(facts) {
            self.learned.went_on(facts.mac);
            return Form::Offer;
        }
        let chosen = self.settings.forms.iter().find(|(who, _)| who.matches(facts.mac, facts.uuid));
        chosen.map_or_else(|| self.learned.form(facts.mac, now), |(_, form)| *form)
    }

    pub fn discard(&self, why: DropReason, arrival: Arrival) {
        self.gate.counters.count_dropped(Protocol::Dhcp, why, Some((*arrival.from.ip()).into()));
    }

    /// Says whether an exchange with another DHCP server that we hear of is one: it was broadcast on our own wire, or
    /// a relay on it passes it on. Anybody can send us anything from afar.
    fn is_ours_to_believe(&self, request: &Request<'_>, arrival: Arrival, address: Ipv4Addr) -> bool {
        let from = *arrival.from.ip();
        let is_new = || {
            let state = self.gate.store.load();
            state.host_by_mac(request.mac).is_some_and(|host| host.status.address != Some(address.into()))
        };
        from.is_unspecified() || is_new() && from != address && self.gate.neighbours.is_near(from.into())
    }

    /// Notes the address that a known machine is about to have, its firmware and its UUID, where they are news.
    fn sight(&self, request: &Request<'_>, address: Ipv4Addr) {
        let (mac, uuid) = (request.mac, request.uuid());
        if self.gate.store.load().host_by_mac(mac).is_none() {
            return;
        }
        let claims = answer::claims(request, address);
        let firmware = claims.and_then(|facts| facts.firmware).map(|firmware| firmware.architecture);
        let address = Some(IpAddr::from(address));
        let news = self.gate.store.load().host_by_mac(mac).is_some_and(|host| {
            host.status.address != address
                || (uuid.is_some() && host.status.uuid != uuid)
                || (firmware.is_some() && host.status.firmware != firmware)
        });
        if !news {
            return;
        }
        let store = self.gate.store.clone();
        let Ok(permit) = self.enrolling.clone().try_acquire_owned() else { return };
        self.runtime.spawn(async move {
            let sighting = Observation { firmware, address, uuid };
            if let Err(error) = store.commit(Change::Observe { mac, sighting }).await {
                tracing::debug!(%mac, %error, "an address was not noted");
            }
            std::mem::drop(permit);
        });
    }

    /// Remembers a machine never seen before, and answers it once that is on disk.
    fn enrol(&self, message: &Message<'_>, facts: Facts) {
        let Ok(permit) = self.enrolling.clone().try_acquire_owned() else {
            return self.discard(DropReason::Overload, message.arrival);
        };
        let (gate, again, wake, mut message) =
            (self.gate.clone(), self.again.clone(), self.wake.clone(), message.keep());
        self.runtime.spawn(async move {
            message.enrolled = Some(match gate.decide_and_enrol(&facts).await.decision.verdict {
                Verdict::Ignore(why) => Err(why),
                _ => Ok(()),
            });
            send_again(&again, &wake, message);
            std::mem::drop(permit);
        });
    }

    /// Answers a message anew in a later turn.
    pub fn later(&self, message: Again) {
        send_again(&self.again, &self.wake, message);
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
            self.gate.store.record_event(Some(facts.mac), offer(facts, &file));
            self.told.insert(facts.mac, (now, file));
        }
    }
}

/// Is what the gate came to.
enum Asked {
    /// The message is answered once its machine is remembered.
    Wait,
    Nothing,
    Boot(Boot),
}

fn send_again(again: &SyncSender<Again>, wake: &EventFd, message: Again) {
    // As many places as may be under way: it is never full. A message that is lost is asked again.
    if again.try_send(message).is_ok() {
        let _ = wake.write(1);
    }
}

/// Lets a machine whose iPXE was answered be told that there is no router to wait for.
fn note_booting(gate: &Gate, facts: &Facts) {
    match facts.stage {
        Stage::Ipxe | Stage::LimitedIpxe => gate.ipxe_clients.record(facts.mac),
        Stage::Rom | Stage::IscsiLogin | Stage::Installer => {}
    }
}

fn offer(facts: &Facts, file: &str) -> Event {
    let claimed = facts.firmware.map(|firmware| firmware.architecture);
    let client = match facts.stage {
        Stage::Ipxe | Stage::LimitedIpxe => "ipxe on ",
        Stage::Rom | Stage::IscsiLogin | Stage::Installer => "",
    };
    Event::Offer { architecture: format!("{client}{}", architecture_text(claimed)), file: file.to_owned() }
}
