//! The DHCP adapter of the gate: from a received message to replies, lease records, counters and the timeline.

pub mod records;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhcproto::v4::MessageType;
use jiff::SignedDuration;
use nix::errno::Errno;
use tokio::sync::mpsc::Receiver;

use crate::boot::identity::{AddressChange, AddressEvidence};
use crate::boot::{DropReason, Facts, Reason, Stage, Verdict};
use crate::bounds::{Rate, TokenBuckets};
use crate::dhcp::answer::{self, Arrival, BootOffer, DhcpPort, DhcpReply};
use crate::dhcp::conflict_probe::ConflictProbes;
use crate::dhcp::packet::DhcpPacket;
use crate::dhcp::quirks::{BootFileLocation, LearnedLocations};
use crate::dhcp::rogue_servers::{self, ObservedServer, ServerRole};
use crate::dhcp::serve::entry_point::entry_point;
use crate::dhcp::serve::exchanges::ExchangeVerifier;
use crate::dhcp::serve::host_changes::{DeferredQueue, HostChanges, PendingChanges};
use crate::dhcp::serve::interface::{InterfaceMode, InterfaceState};
use crate::dhcp::serve::leasing::Leasing;
use crate::dhcp::serve::received_message::{DeferredMessage, ReceivedMessage};
use crate::dhcp::serve::recent_offers::RecentOffers;
use crate::dhcp::serve::settings::DhcpSettings;
use crate::dhcp::server::{DhcpServer, Effect};
use crate::event::{Event, OtherServerRole, Protocol, architecture_text};
use crate::fleet::{EntryPoint, Host, Lease, LeaseState, Mac};
use crate::gate::{Gate, clock};
use crate::store::{StoreError, now};

/// Maximum number of entry points with a rate of their own.
const MAX_ENTRY_POINTS: usize = 4096;
/// Number of messages that an unknown client may send for each enrolment that `limits.unknown_hosts_per_minute` allows:
/// its firmware, its boot program and its system each ask twice, and repeat a message that is lost.
const MAX_MESSAGES_PER_CLIENT: u32 = 8;
/// Time after which a held host that still asks is recorded as seen again.
const SEEN_INTERVAL: SignedDuration = SignedDuration::from_secs(60);
/// Delay of an offer from which on it is recorded: firmware waits for 3 to 4 s.
const MIN_DELAY: Duration = Duration::from_secs(1);

/// The replies, lease records and probes that a batch of messages led to.
#[derive(Debug, Default)]
pub struct PendingReplies {
    /// Replies that may leave at once.
    pub replies: Vec<DhcpReply>,
    /// Leases that must be durable before their reply leaves.
    pub after_commit: Vec<(Lease, Option<DhcpReply>)>,
    /// Addresses to probe, and whether they are on the interface's own link.
    pub probes: Vec<(Ipv4Addr, bool)>,
    /// Changes of hosts. The messages of unknown ones wait for them.
    pub changes: PendingChanges,
    /// Offers to record once their reply has left, by the index of the reply.
    pub offers: Vec<(usize, Mac, Event)>,
}

/// The queues between the handler, the event loop and the other protocols.
pub struct HandlerQueues {
    /// MAC addresses of hosts that continued their boot after an offer.
    pub progressed: Receiver<Mac>,
    /// Messages that the event loop passes to the handler again.
    pub deferred: DeferredQueue,
}

/// Handler of DHCP messages, which all interfaces share: it collects facts, asks for decisions, and carries them out.
pub struct RequestHandler {
    pub(super) gate: Arc<Gate>,
    settings: DhcpSettings,
    pub(super) server: DhcpServer,
    pub(super) exchanges: ExchangeVerifier,
    /// This machine's own addresses: it does not answer its own ARP probes, so they are never offered.
    pub(super) own_addresses: HashSet<Ipv4Addr>,
    changes: HostChanges,
    recent_offers: RecentOffers,
    /// Rates of the messages of clients that nobody declared, in server mode.
    unknown_clients: TokenBuckets<EntryPoint>,
    learned: LearnedLocations,
    probes: ConflictProbes<DeferredMessage>,
    progressed: Receiver<Mac>,
    /// The last time that the thread did not run, by its end and its length.
    stopped: Option<(Instant, Duration)>,
}

impl RequestHandler {
    /// Creates the handler with the leases that the store holds.
    pub fn new(
        gate: Arc<Gate>,
        settings: DhcpSettings,
        own_addresses: HashSet<Ipv4Addr>,
        queues: HandlerQueues,
    ) -> Self {
        let mut server = DhcpServer::new(settings.subnets.clone(), settings.authoritative, settings.conflict_check);
        let state = gate.store.snapshot();
        server.load(state.leases().map(|lease| lease.as_ref().clone()), |mac| state.is_declared(mac));
        let limits = gate.enrolment.limits;
        let exchanges = ExchangeVerifier::new(&settings);
        Self {
            gate,
            settings,
            server,
            exchanges,
            own_addresses,
            changes: HostChanges::new(queues.deferred),
            recent_offers: RecentOffers::default(),
            unknown_clients: TokenBuckets::new(
                Rate {
                    tokens: limits.per_minute.saturating_mul(MAX_MESSAGES_PER_CLIENT),
                    per: Duration::from_secs(60),
                    burst: limits.per_minute.saturating_mul(MAX_MESSAGES_PER_CLIENT),
                },
                MAX_ENTRY_POINTS,
            ),
            learned: LearnedLocations::default(),
            probes: ConflictProbes::default(),
            progressed: queues.progressed,
            stopped: None,
        }
    }

    /// Marks the hosts that continued their boot since the last call.
    pub fn drain_progress(&mut self) {
        while let Ok(mac) = self.progressed.try_recv() {
            self.learned.mark_progress(mac);
        }
    }

    /// Handles a message that has just arrived, or that was deferred.
    pub fn answer(&mut self, interface: &InterfaceState, message: &ReceivedMessage<'_>, out: &mut PendingReplies) {
        let arrival = message.arrival;
        let request = match DhcpPacket::parse(&message.bytes) {
            Ok(request) => request,
            Err(why) => return self.count_drop(why, arrival),
        };
        self.exchanges.hear_relay(&self.gate, interface, &request, message);
        if rogue_servers::is_server_probe(&request) {
            let relay = self.exchanges.relay(&self.gate, interface, &request, arrival);
            return out.replies.push(answer::presence_reply(&request, interface.address, arrival, relay));
        }
        if self.stands_down(interface) {
            return self.count_drop(DropReason::StoodDown, arrival);
        }
        let done = match (interface.mode, arrival.port) {
            (InterfaceMode::Proxy, _) | (InterfaceMode::Server, DhcpPort::Proxy) => {
                self.answer_as_proxy(interface, message, &request, out)
            }
            (InterfaceMode::Server, DhcpPort::Server) => self.answer_as_server(interface, message, &request, out),
        };
        if let Err(why) = done {
            self.count_drop(why, arrival);
        }
    }

    /// Answers as a ProxyDHCP server: a boot offer without an address.
    fn answer_as_proxy(
        &mut self,
        interface: &InterfaceState,
        message: &ReceivedMessage<'_>,
        request: &DhcpPacket<'_>,
        out: &mut PendingReplies,
    ) -> Result<(), DropReason> {
        let arrival = message.arrival;
        let facts = answer::facts(request, arrival, interface.address);
        if facts.is_err() {
            let claims = answer::claims(request, interface.address);
            self.trace_request(interface, message, request, (claims.as_ref(), None));
        }
        if arrival.port == DhcpPort::Server
            && let Some(address) = answer::claimed_address(request)
        {
            self.hear(interface, request, arrival, address, out)?;
        }
        let facts = facts?;
        let answer = self.boot_answer(interface, message, &facts, out);
        self.trace_answer(interface, message, request, (&facts, &answer));
        let BootAnswer::Boot(boot) = answer else { return Ok(()) };
        let relay = self.exchanges.relay(&self.gate, interface, request, arrival);
        out.offers.extend(
            self.offer_event(&facts, &boot.file, records::handled_at(message))
                .map(|event| (out.replies.len(), facts.mac, event)),
        );
        out.replies.push(answer::reply(request, &boot, arrival, relay));
        Ok(())
    }

    /// Answers as a DHCP server: an address, and the boot file if the client boots from the network.
    fn answer_as_server(
        &mut self,
        interface: &InterfaceState,
        message: &ReceivedMessage<'_>,
        request: &DhcpPacket<'_>,
        out: &mut PendingReplies,
    ) -> Result<(), DropReason> {
        let boots = asks_to_boot(request);
        let Some(boot) = self.own_boot_offer(interface, message, request, out) else { return Ok(()) };
        let arrival = message.arrival;
        let is_known = self.gate.store.load().is_declared(request.mac);
        let entry = || self.entry_point(interface, request.giaddr(), arrival);
        if !is_known && boots && !self.unknown_clients.take(entry(), Instant::now()) {
            return Err(DropReason::RateLimit);
        }
        let leasing =
            Leasing { gate: &self.gate, exchanges: &self.exchanges, own_addresses: &self.own_addresses, interface };
        let (effects, refused) = leasing.answer(&mut self.server, request, arrival, boot.as_ref());
        if let Some((address, refusal)) = refused {
            self.exchanges.refuse(&self.gate, request, arrival, address, refusal);
        }
        self.trace_own_answer(request, boot.as_ref(), &effects.as_deref());
        let effects = effects?;
        self.observe_grant(interface, request, arrival, &effects, out);
        self.apply(effects, message, request.mac, out);
        Ok(())
    }

    /// Returns the boot file for a client that is given an address, or none if it boots nothing from here; `None` if its
    /// message waits.
    fn own_boot_offer(
        &mut self,
        interface: &InterfaceState,
        message: &ReceivedMessage<'_>,
        request: &DhcpPacket<'_>,
        out: &mut PendingReplies,
    ) -> Option<Option<BootOffer>> {
        let Some(facts) = answer::claims(request, interface.address).filter(|_| asks_to_boot(request)) else {
            self.trace_request(interface, message, request, (None, None));
            return Some(None);
        };
        let answer = self.boot_answer(interface, message, &facts, out);
        self.trace_answer(interface, message, request, (&facts, &answer));
        match answer {
            BootAnswer::Wait => None,
            BootAnswer::Nothing | BootAnswer::Refused(_) => Some(None),
            BootAnswer::Boot(boot) => {
                if let Some(event) = self.offer_event(&facts, &boot.file, records::handled_at(message)) {
                    self.gate.store.record_event(Some(facts.mac), event);
                }
                Some(Some(boot))
            }
        }
    }

    /// Takes a granted lease as evidence of the host's address.
    fn observe_grant(
        &mut self,
        interface: &InterfaceState,
        request: &DhcpPacket<'_>,
        arrival: Arrival,
        effects: &[Effect],
        out: &mut PendingReplies,
    ) {
        let granted = effects.iter().find_map(|effect| match effect {
            Effect::Record(lease) if lease.held == LeaseState::Bound => Some(lease.address),
            Effect::Record(_) | Effect::Send(_) | Effect::Probe { .. } => None,
        });
        if let Some(address) = granted {
            // A renewal is answered whichever way it came. Unless the way is believed, the host keeps its address.
            let change = self.exchanges.verify(&self.gate, interface, request, arrival, address);
            let evidence = (change.unwrap_or(AddressChange::Keep), AddressEvidence::Lease);
            self.observe(request, address, evidence, out);
        }
    }

    /// Takes a REQUEST to another DHCP server as evidence of the host's address.
    fn hear(
        &mut self,
        interface: &InterfaceState,
        request: &DhcpPacket<'_>,
        arrival: Arrival,
        address: Ipv4Addr,
        out: &mut PendingReplies,
    ) -> Result<(), DropReason> {
        if !self.gate.store.load().has_host(request.mac) {
            return Ok(());
        }
        match self.exchanges.verify(&self.gate, interface, request, arrival, address) {
            Ok(change) => {
                self.observe(request, address, (change, AddressEvidence::DhcpExchange), out);
                Ok(())
            }
            Err(refusal) => Err(self.exchanges.refuse(&self.gate, request, arrival, address, refusal)),
        }
    }

    /// Queues the effects in order: a reply that follows a record waits until the record is durable.
    fn apply(&mut self, effects: Vec<Effect>, message: &ReceivedMessage<'_>, mac: Mac, out: &mut PendingReplies) {
        for effect in effects {
            match effect {
                Effect::Record(mut lease) => {
                    // Leases in memory end by a clock without its steps; those in the store by the clock as it is.
                    lease.until = lease.until.saturating_add(clock::followed_steps()).unwrap_or(lease.until);
                    out.after_commit.push((lease, None));
                }
                Effect::Send(reply) => match out.after_commit.last_mut() {
                    Some((lease, promised @ None)) if lease.mac == mac => *promised = Some(reply),
                    _ => out.replies.push(reply),
                },
                Effect::Probe { address, is_on_link } => {
                    match self.probes.start(address, mac, message.to_deferred(), Instant::now()) {
                        Ok(true) => out.probes.push((address, is_on_link)),
                        Ok(false) => {}
                        Err(message) => {
                            self.server.on_probe_result(address, false, clock::steady_now());
                            self.defer(message);
                        }
                    }
                }
            }
        }
    }

    /// Records another server that was observed, if it competes with this one.
    pub fn record_other_server(&self, interface: &mut InterfaceState, observed: ObservedServer) {
        if !interface.detector.record(observed, Instant::now()) {
            return;
        }
        let role = match (observed.role, interface.mode) {
            (ServerRole::BootServer, _) => OtherServerRole::BootServer,
            (ServerRole::AddressServer, InterfaceMode::Server) => OtherServerRole::AddressServer,
            (ServerRole::AddressServer, InterfaceMode::Proxy) => return,
        };
        self.gate.counters.rogue_dhcp_servers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (name, address) = (interface.name.clone(), observed.server.into());
        let event = Event::OtherDhcpServer { interface: name, address, role };
        self.gate.store.record_event(None, event);
    }

    /// Requests a host's boot decision from the gate. An unknown host is enrolled first, and its message is deferred.
    fn boot_answer(
        &mut self,
        interface: &InterfaceState,
        message: &ReceivedMessage<'_>,
        facts: &Facts,
        out: &mut PendingReplies,
    ) -> BootAnswer {
        self.gate.note_boot(facts);
        let decided = self.gate.decide_now(facts);
        let why = match (decided.decision.verdict, &message.enrolled) {
            (Verdict::Enrol(draft), None) => match self.enrol(interface, message, facts, draft, out) {
                Ok(()) => return BootAnswer::Wait,
                Err(why) => why,
            },
            (Verdict::Enrol(_), Some(Ok(()))) => Reason::UnknownHost,
            (Verdict::Enrol(_), Some(Err(error))) => self.gate.enrolment_refusal(facts, error),
            (Verdict::Ignore(why), _) => {
                if why == Reason::Held && decided.host.is_some_and(|host| is_long_unseen(&host)) {
                    self.record_observation(facts, None, out);
                }
                why
            }
            (verdict, _) => {
                let location = self.boot_file_location(facts, message.arrival.port, records::handled_at(message));
                note_ipxe_boot(&self.gate, facts);
                // The first UUID that the firmware of a known host claims.
                if facts.uuid.is_some() && decided.host.is_some_and(|host| host.status.uuid.is_none()) {
                    self.record_observation(&Facts { firmware: None, ..*facts }, None, out);
                }
                let boot = BootOffer::new(facts, &verdict, &interface.site, location);
                return boot.map_or(BootAnswer::Nothing, BootAnswer::Boot);
            }
        };
        self.gate.counters.count_refused(Protocol::Dhcp, why, facts.address);
        BootAnswer::Refused(why)
    }

    /// Returns the message that announces the boot file to a host: as configured, or as learned from its last boots.
    fn boot_file_location(&mut self, facts: &Facts, port: DhcpPort, now: Instant) -> BootFileLocation {
        if port == DhcpPort::Proxy || !answer::supports_port_4011(facts) {
            self.learned.mark_progress(facts.mac);
            return BootFileLocation::Offer;
        }
        self.configured_location(facts).unwrap_or_else(|| self.learned.choose(facts.mac, now))
    }

    /// Returns the message that would announce the boot file to a host, and records nothing.
    pub(super) fn next_location(&self, facts: &Facts, port: DhcpPort, now: Instant) -> BootFileLocation {
        match port == DhcpPort::Proxy || !answer::supports_port_4011(facts) {
            true => BootFileLocation::Offer,
            false => self.configured_location(facts).unwrap_or_else(|| self.learned.next(facts.mac, now)),
        }
    }

    fn configured_location(&self, facts: &Facts) -> Option<BootFileLocation> {
        let chosen = self.settings.boot_file_locations.iter().find(|(who, _)| who.matches(facts.mac, facts.uuid));
        chosen.map(|(_, location)| *location)
    }

    /// Returns whether hosts on an interface are left to another boot server.
    pub(super) fn stands_down(&self, interface: &InterfaceState) -> bool {
        self.settings.stand_down && interface.detector.must_stand_down()
    }

    /// Counts a message that is not answered.
    pub fn count_drop(&self, why: DropReason, arrival: Arrival) {
        self.gate.counters.count_dropped(Protocol::Dhcp, why, Some((*arrival.from.ip()).into()));
    }

    /// Records the firmware and UUID of a known host if they are new, and the address that it takes.
    fn observe(
        &mut self,
        request: &DhcpPacket<'_>,
        address: Ipv4Addr,
        (change, evidence): (AddressChange, AddressEvidence),
        out: &mut PendingReplies,
    ) {
        let (mac, uuid) = (request.mac, request.uuid());
        let claims = answer::claims(request, address);
        let firmware = claims.and_then(|facts| facts.firmware);
        let architecture = firmware.map(|firmware| firmware.architecture);
        let evidence = Some(evidence).filter(|_| change == AddressChange::Take);
        let is_new = self.gate.store.load().host_by_mac(mac).is_some_and(|host| {
            evidence.is_some()
                || (uuid.is_some() && host.status.uuid.is_none())
                || (architecture.is_some() && host.status.firmware != architecture)
        });
        if !is_new {
            return;
        }
        if evidence.is_some() {
            self.exchanges.remember(request);
        }
        let address = Some(IpAddr::from(address));
        self.record_observation(&Facts { mac, firmware, stage: Stage::Rom, address, uuid }, evidence, out);
    }

    fn record_observation(&self, facts: &Facts, evidence: Option<AddressEvidence>, out: &mut PendingReplies) {
        if let Some(place) = self.changes.reserve() {
            let change = self.gate.observation_of(facts, evidence);
            HostChanges::add(&mut out.changes, facts, change, None, place);
        }
    }

    pub(super) fn entry_point(&self, interface: &InterfaceState, relay: Ipv4Addr, arrival: Arrival) -> EntryPoint {
        let is_believed = self.exchanges.is_believed_sender(interface, relay, *arrival.from.ip());
        entry_point(&interface.name, relay, arrival, is_believed)
    }

    /// Queues the enrolment of an unknown host. Its message waits until the host is durable; too many are dropped.
    ///
    /// # Errors
    /// The entry point of the message is beyond its bounds.
    fn enrol(
        &self,
        interface: &InterfaceState,
        message: &ReceivedMessage<'_>,
        facts: &Facts,
        draft: Box<Host>,
        out: &mut PendingReplies,
    ) -> Result<(), Reason> {
        let Some(place) = self.changes.reserve() else {
            self.count_drop(DropReason::Overload, message.arrival);
            return Ok(());
        };
        let relay = DhcpPacket::parse(&message.bytes).map_or(Ipv4Addr::UNSPECIFIED, |request| request.giaddr());
        let change = self.gate.enrolment_of(facts, draft, self.entry_point(interface, relay, message.arrival))?;
        HostChanges::add(&mut out.changes, facts, change, Some(message.to_deferred()), place);
        Ok(())
    }

    /// Passes changes of hosts to the store. The messages that wait for them come back as deferred ones.
    pub fn commit_changes(&self, changes: &mut PendingChanges) {
        if !changes.is_empty() {
            self.changes.commit(&self.gate, changes);
        }
    }

    /// Queues a message for the next turn of the event loop.
    fn defer(&self, message: DeferredMessage) {
        self.changes.deferred.send([message]);
    }

    /// Returns the event of an offer, once for all retries of one boot.
    fn offer_event(&mut self, facts: &Facts, file: &str, now: Instant) -> Option<Event> {
        self.recent_offers.admit(facts.mac, file, now).then(|| offer(facts, file))
    }

    /// Returns the time of the next deadline of a conflict probe.
    pub fn next_probe_deadline(&self) -> Option<Instant> {
        self.probes.next_deadline()
    }

    /// Handles an answer to a conflict probe: the address is in use by another host.
    pub fn on_probe_answer(&mut self, address: Ipv4Addr, by: Option<Mac>) {
        if let Some(message) = self.probes.take_conflict(address, by) {
            tracing::warn!(%address, by = by.map(tracing::field::display), "address conflict: lease address in use by another host");
            self.server.on_probe_result(address, true, clock::steady_now());
            self.defer(message);
        }
    }

    /// Returns the next message whose probed address no host claimed in time.
    pub fn take_unclaimed(&mut self, now: Instant) -> Option<DeferredMessage> {
        let (address, message) = self.probes.take_unclaimed(now)?;
        self.server.on_probe_result(address, false, clock::steady_now());
        Some(message)
    }

    /// Makes leases durable, and passes their replies to `send` afterwards, which returns those that could not be sent.
    /// Without the record no reply leaves.
    pub fn commit(
        &self,
        leases: &mut Vec<(Lease, Option<DhcpReply>)>,
        send: impl FnOnce(&[DhcpReply]) -> Vec<(usize, Errno)> + Send + 'static,
    ) {
        let promised = |(lease, reply): &mut (Lease, Option<DhcpReply>)| {
            reply.take().map(|reply| ((lease.mac, lease.address), reply))
        };
        let (clients, replies): (Vec<_>, Vec<_>) = leases.iter_mut().filter_map(promised).unzip();
        let leases: Vec<_> = leases.drain(..).map(|(lease, _)| lease).collect();
        let gate = self.gate.clone();
        let then = move |written: Result<(), StoreError>| match written {
            Ok(()) => records::record_acknowledged(&gate, &clients, &replies, &send(&replies)),
            // The store logs the error. Nothing was promised: the client asks again.
            Err(_) => records::record_unwritten(&gate, &clients),
        };
        if let Err(error) = self.gate.store.record(leases, then) {
            tracing::warn!(%error, "failed to record leases");
            self.gate.counters.count_dropped(Protocol::Dhcp, DropReason::Overload, None);
        }
    }

    /// Ends the lease of an address, as an operator asks. `then` gets the lease once its end is durable; `None` if nobody
    /// has the address. `Err` if it could not be written.
    pub fn end_lease(
        &mut self,
        address: Ipv4Addr,
        then: impl FnOnce(Result<Option<Lease>, StoreError>) + Send + 'static,
    ) {
        let Some(mut lease) = self.server.end_lease(address, clock::steady_now()) else { return then(Ok(None)) };
        lease.until = lease.until.saturating_add(clock::followed_steps()).unwrap_or(lease.until);
        let recorded = lease.clone();
        // Where the queue is full, `then` is dropped and the question stays without an answer.
        if let Err(error) = self.gate.store.record(vec![lease], move |done| then(done.map(|()| Some(recorded)))) {
            tracing::warn!(%error, "failed to record the end of a lease");
        }
    }

    /// Counts datagrams that the kernel dropped because a receive buffer of an interface was full.
    pub fn count_overflow(&self, interface: usize, count: u32) {
        self.gate.traces.record_lost_requests(interface, count);
        self.gate.counters.socket_receive_drops.fetch_add(u64::from(count), std::sync::atomic::Ordering::Relaxed);
    }
}

/// Returns whether a host that asks was last seen so long ago that it is recorded again.
fn is_long_unseen(host: &Host) -> bool {
    let seen = host.status.last_seen_time;
    seen.is_none_or(|seen| now().duration_since(seen) >= SEEN_INTERVAL)
}

/// Returns whether a message is one in which a client may ask for a boot file.
fn asks_to_boot(request: &DhcpPacket<'_>) -> bool {
    matches!(request.kind, MessageType::Discover | MessageType::Request | MessageType::Inform)
}

/// The gate's answer for a client that boots from the network.
enum BootAnswer {
    /// The message is deferred until its host is enrolled.
    Wait,
    /// The client gets no boot offer.
    Nothing,
    /// The client is refused a boot offer.
    Refused(Reason),
    /// The client gets this boot offer.
    Boot(BootOffer),
}

/// Marks a host whose iPXE was answered, so that its router solicitation is answered too.
fn note_ipxe_boot(gate: &Gate, facts: &Facts) {
    match facts.stage {
        Stage::Ipxe | Stage::LimitedIpxe => gate.ipxe_clients.record(facts.mac),
        Stage::Rom | Stage::IscsiLogin | Stage::IscsiReturn | Stage::Installer => {}
    }
}

/// Returns the timeline event of an offer.
fn offer(facts: &Facts, file: &str) -> Event {
    let claimed = facts.firmware.map(|firmware| firmware.architecture);
    let client = match facts.stage {
        Stage::Ipxe | Stage::LimitedIpxe => "ipxe on ",
        Stage::Rom | Stage::IscsiLogin | Stage::IscsiReturn | Stage::Installer => "",
    };
    Event::Offer { architecture: format!("{client}{}", architecture_text(claimed)), file: file.to_owned() }
}

#[cfg(test)]
#[path = "../tests/handler.rs"]
mod tests;
