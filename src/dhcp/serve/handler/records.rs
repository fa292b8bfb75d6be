//! What the handler records of messages and replies: counters, the timeline, and the steps of boots.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcproto::v4::MessageType;
use nix::errno::Errno;

use crate::boot::diagnosis::Step;
use crate::boot::{DropReason, Facts};
use crate::dhcp::answer::{BootOffer, Destination, DhcpPort, DhcpReply};
use crate::dhcp::frame::IcmpError;
use crate::dhcp::packet::DhcpPacket;
use crate::dhcp::rogue_servers;
use crate::dhcp::serve::boot_steps;
use crate::dhcp::serve::interface::{InterfaceMode, InterfaceState};
use crate::dhcp::serve::received_message::ReceivedMessage;
use crate::dhcp::server::Effect;
use crate::event::{Event, Protocol};
use crate::fleet::Mac;
use crate::gate::Gate;
use crate::gate::boot_traces::{MessageOrigin, OfferedFile};

use super::{BootAnswer, MIN_DELAY, RequestHandler};

/// Longest wait of the event loop for packets, so that it sees how long it did not run.
pub const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Time after the thread runs again in which the messages that waited are read.
const SOON: Duration = Duration::from_millis(200);

/// Returns the time at which a message is handled: of one that has just arrived the time of its arrival, which saves reading
/// the clock for each.
pub fn handled_at(message: &ReceivedMessage<'_>) -> Instant {
    if message.is_repeated { Instant::now() } else { message.received }
}

/// Records a reply that could not be sent.
fn record_unsent(gate: &Gate, client: Option<Mac>, to: &Destination, error: Errno) {
    let to = match to {
        Destination::Address(to) => *to.ip(),
        Destination::LinkLayer { address, .. } => *address,
        Destination::Broadcast => Ipv4Addr::BROADCAST,
    };
    gate.counters.count_dropped(Protocol::Dhcp, DropReason::SendFailed, Some(to.into()));
    if let Some(mac) = client {
        gate.trace(mac, Step::ReplyNotSent { to, error: error.desc().into() });
    }
}

/// Records the acknowledgements that have left after their leases were written, by client and address, and those that
/// could not be sent. Of a running system that renews its lease nothing is recorded.
pub fn record_acknowledged(gate: &Gate, clients: &[(Mac, Ipv4Addr)], replies: &[DhcpReply], unsent: &[(usize, Errno)]) {
    for (index, ((mac, address), reply)) in clients.iter().zip(replies).enumerate() {
        let client = Some(*mac).filter(|mac| gate.traces.is_known(*mac));
        if let Some((_, error)) = unsent.iter().find(|(at, _)| *at == index) {
            record_unsent(gate, client, &reply.to, *error);
            continue;
        }
        gate.counters.count_answered(Protocol::Dhcp);
        if let Some(mac) = client {
            gate.trace(mac, Step::Acknowledged { address: *address });
        }
    }
}

/// Records the clients that are not answered since their lease could not be written.
pub fn record_unwritten(gate: &Gate, clients: &[(Mac, Ipv4Addr)]) {
    for (mac, _) in clients {
        gate.counters.count_dropped(Protocol::Dhcp, DropReason::LeaseNotWritten, None);
        if gate.traces.is_known(*mac) {
            gate.trace(*mac, Step::NoAddress { reason: DropReason::LeaseNotWritten });
        }
    }
}

/// What the DHCP server makes of a message.
type AnswerEffects<'a> = Result<&'a [Effect], &'a DropReason>;

impl RequestHandler {
    /// Records what a message and its answer show of a boot.
    pub(super) fn trace_answer(
        &self,
        interface: &InterfaceState,
        message: &ReceivedMessage<'_>,
        request: &DhcpPacket<'_>,
        (facts, answer): (&Facts, &BootAnswer),
    ) {
        let offer = match answer {
            BootAnswer::Boot(boot) => {
                // Firmware may not have waited for an offer that is late.
                let waited = handled_at(message).saturating_duration_since(message.received);
                let delay = waited + self.time_in_queue(message.received);
                let delay = Some(delay).filter(|delay| *delay >= MIN_DELAY);
                // With an address it is an offer only once there is one.
                let is_alone = interface.mode == InterfaceMode::Proxy || message.arrival.port == DhcpPort::Proxy;
                is_alone.then_some(OfferedFile { file: &boot.file, has_address: false, delay })
            }
            BootAnswer::Wait | BootAnswer::Nothing | BootAnswer::Refused(_) => None,
        };
        self.trace_request(interface, message, request, (Some(facts), offer.as_ref()));
        if let BootAnswer::Refused(reason) = *answer {
            self.gate.trace(
                facts.mac,
                Step::Refused { protocol: Protocol::Dhcp, reason, message: reason.sentence().into(), is_tied: true },
            );
        }
    }

    /// Records what a DISCOVER was answered with as a DHCP server: an address and a boot file, or nothing.
    pub(super) fn trace_own_answer(
        &self,
        request: &DhcpPacket<'_>,
        boot: Option<&BootOffer>,
        effects: &AnswerEffects<'_>,
    ) {
        let (MessageType::Discover, Some(boot)) = (request.kind, boot) else { return };
        match effects {
            Ok(effects) => {
                let sends = |effect: &Effect| matches!(effect, Effect::Send(_) | Effect::Record(_));
                if effects.iter().any(sends) {
                    let offer = OfferedFile { file: &boot.file, has_address: true, delay: None };
                    self.gate.traces.record_offer(request.mac, &offer);
                }
            }
            Err(reason) => self.gate.trace(request.mac, Step::NoAddress { reason: **reason }),
        }
    }

    /// Records the step of a boot that a message shows, once, and its offer.
    pub(super) fn trace_request(
        &self,
        interface: &InterfaceState,
        message: &ReceivedMessage<'_>,
        request: &DhcpPacket<'_>,
        (claims, offer): (Option<&Facts>, Option<&OfferedFile<'_>>),
    ) {
        match offer {
            Some(offer) if message.is_repeated => self.gate.traces.record_offer(request.mac, offer),
            None if message.is_repeated => {}
            // A request on port 4011 that is not answered says nothing about the way to the machine.
            None if message.arrival.port == DhcpPort::Proxy => {}
            offer => boot_steps::record_request(
                &self.gate,
                interface,
                (request, message.arrival, handled_at(message)),
                claims,
                offer,
            ),
        }
    }

    /// Notes a wait of the event loop for packets that was to end after `LONGEST_WAIT`. If it took longer, the thread did
    /// not run.
    pub fn note_wait(&mut self, wait: Duration) {
        let stopped = wait.saturating_sub(LONGEST_WAIT);
        if stopped >= MIN_DELAY {
            self.stopped = Some((Instant::now(), stopped));
        }
    }

    /// Returns the time that a message may have waited for the thread to run.
    fn time_in_queue(&self, received: Instant) -> Duration {
        let is_after = |end: Instant| received.saturating_duration_since(end) < SOON;
        self.stopped.filter(|(end, _)| is_after(*end)).map_or(Duration::ZERO, |(_, stopped)| stopped)
    }

    /// Counts the replies that have left, and records the offers among them and the replies that could not be sent.
    pub fn record_sent(&self, replies: &[DhcpReply], unsent: &[(usize, Errno)], offers: &mut Vec<(usize, Mac, Event)>) {
        let failed = |index: usize| unsent.iter().find(|(at, _)| *at == index);
        (unsent.len()..replies.len()).for_each(|_| self.gate.counters.count_answered(Protocol::Dhcp));
        for (_, mac, event) in offers.drain(..).filter(|(index, ..)| failed(*index).is_none()) {
            self.gate.store.record_event(Some(mac), event);
        }
        for (index, error) in unsent {
            let Some(reply) = replies.get(*index) else { continue };
            record_unsent(&self.gate, boot_steps::client_of(&reply.message), &reply.to, *error);
        }
    }

    /// Records another server's reply to a client, and the server.
    pub fn observe_reply(&self, interface: &mut InterfaceState, reply: &[u8], from: Option<Mac>) {
        boot_steps::record_other_offer(&self.gate, interface, reply, from);
        if let Some(observed) = rogue_servers::observe_reply(reply, interface.address) {
            self.record_other_server(interface, observed);
        }
    }

    /// Records an ICMP error with the machine whose packet it is about.
    pub fn record_icmp_error(&self, interface: &InterfaceState, error: IcmpError<'_>) {
        let IcmpError { by, code, from, to, from_port, payload } = error;
        // Anybody can send an error about a packet that never left.
        if from != interface.address {
            return;
        }
        let step = Step::Unreachable { by, code, from_port };
        // A reply over DHCP names its client; other packets are known by their destination.
        match boot_steps::client_of(payload) {
            Some(mac) if self.gate.traces.is_known(mac) => {
                self.gate.trace_from(mac, step, MessageOrigin { interface: interface.index, uuid: None, at: None });
            }
            _ => self.gate.trace_at_address(to.into(), step),
        }
    }
}
