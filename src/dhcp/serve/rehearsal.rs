//! Rehearsals of a client's DHCP messages: what the handler would answer, by the functions by which it answers. Nothing is
//! sent, recorded or counted.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use crate::boot::rehearsal::{DhcpExchange, InterfaceSummary, RehearsedClient, Step, StepDecision, StepKind};
use crate::boot::{BootProtocol, Decision, DropReason, Facts, Reason, Verdict};
use crate::dhcp::answer::{self, Arrival, BootOffer, Destination, DhcpPort, DhcpReply};
use crate::dhcp::clients::{self, Sender};
use crate::dhcp::decode;
use crate::dhcp::packet::DhcpPacket;
use crate::dhcp::serve::handler::RequestHandler;
use crate::dhcp::serve::interface::{InterfaceMode, InterfaceState};
use crate::dhcp::serve::leasing::Leasing;
use crate::dhcp::server::{DhcpServer, Effect};
use crate::fleet::Host;
use crate::gate::clock;
use crate::gate::rehearsal::{DhcpRehearsal, DhcpRehearsalError};

/// UDP port of DHCP servers, as clients know it.
const SERVER_PORT: u16 = 67;
/// UDP port of clients.
const CLIENT_PORT: u16 = 68;
/// UDP port of ProxyDHCP servers.
const PROXY_PORT: u16 = 4011;

/// Returns the interface that a client's messages reach: the named one, else the one of its address or relay, else the
/// first.
pub(super) fn choose<'a>(
    name: Option<&str>,
    client: &RehearsedClient,
    mut interfaces: impl Iterator<Item = &'a InterfaceState> + Clone,
) -> Result<&'a InterfaceState, DhcpRehearsalError> {
    if let Some(name) = name {
        let known = || interfaces.clone().map(|interface| interface.name.clone()).collect();
        let found = interfaces.clone().find(|interface| interface.name == name);
        return found.ok_or_else(|| DhcpRehearsalError::NoSuchInterface { name: name.to_owned(), known: known() });
    }
    let near = client.relay.or(client.address);
    let of_address = interfaces.clone().find(|interface| near.is_some_and(|near| interface.is_on_link(near)));
    of_address.or_else(|| interfaces.next()).ok_or(DhcpRehearsalError::Off)
}

/// The client's state between two messages.
struct ClientState<'a> {
    client: &'a RehearsedClient,
    /// The host, as it is after the messages so far.
    host: Option<Arc<Host>>,
    /// A copy of the leases of its link, once server mode has been asked.
    server: Option<DhcpServer>,
    /// The address that server mode gave it.
    leased: Option<Ipv4Addr>,
}

/// The answer to one message.
struct MessageAnswer {
    decision: StepDecision,
    reply: Option<DhcpReply>,
    lease: Option<Ipv4Addr>,
    probe: Option<Ipv4Addr>,
}

impl MessageAnswer {
    fn none(decision: StepDecision) -> Self {
        Self { decision, reply: None, lease: None, probe: None }
    }
}

impl RequestHandler {
    /// Rehearses the messages of a client: those of its firmware, then those of iPXE.
    pub(super) fn rehearse(&self, interface: &InterfaceState, client: &RehearsedClient) -> DhcpRehearsal {
        let host = self.gate.store.load().host_by_mac(client.mac);
        let mut state = ClientState { client, host, server: None, leased: None };
        let mut steps = self.rehearse_leasing(interface, &mut state, Sender::Firmware, true);
        let is_offered = steps.first().is_some_and(Step::is_answered);
        let is_pxe = firmware_facts(client, interface).is_some_and(|facts| answer::supports_port_4011(&facts));
        if is_pxe {
            let address = client.address.or(state.leased);
            let bytes = clients::proxy_request(client, address.unwrap_or(Ipv4Addr::UNSPECIFIED));
            let from = SocketAddrV4::new(address.unwrap_or(Ipv4Addr::UNSPECIFIED), PROXY_PORT);
            let arrival = Arrival { port: DhcpPort::Proxy, from };
            steps.push(self.rehearse_step(interface, &mut state, StepKind::ProxyRequest, &bytes, arrival, is_offered));
        }
        steps.extend(self.rehearse_leasing(interface, &mut state, Sender::Ipxe, is_offered));
        let mode = interface.mode.code();
        DhcpRehearsal {
            interface: InterfaceSummary { name: interface.name.clone(), address: interface.address, mode },
            networks: interface.networks.clone(),
            steps,
            host: state.host,
            leased: state.leased,
        }
    }

    /// Rehearses a DISCOVER, and in server mode the REQUEST that takes the offer.
    fn rehearse_leasing(
        &self,
        interface: &InterfaceState,
        state: &mut ClientState<'_>,
        sender: Sender,
        is_reached: bool,
    ) -> Vec<Step> {
        let (discover, request) = match sender {
            Sender::Firmware => (StepKind::Discover, StepKind::Request),
            Sender::Ipxe => (StepKind::IpxeDiscover, StepKind::IpxeRequest),
        };
        let from = match state.client.relay {
            Some(relay) => SocketAddrV4::new(relay, SERVER_PORT),
            None => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
        };
        let arrival = Arrival { port: DhcpPort::Server, from };
        let bytes = clients::discover(state.client, sender);
        let mut steps = vec![self.rehearse_step(interface, state, discover, &bytes, arrival, is_reached)];
        let offered = state.leased.filter(|_| interface.mode == InterfaceMode::Server && steps[0].is_answered());
        if let Some(address) = offered {
            let bytes = clients::select(state.client, sender, interface.address, address);
            steps.push(self.rehearse_step(interface, state, request, &bytes, arrival, is_reached));
        }
        steps
    }

    fn rehearse_step(
        &self,
        interface: &InterfaceState,
        state: &mut ClientState<'_>,
        kind: StepKind,
        bytes: &[u8],
        arrival: Arrival,
        is_reached: bool,
    ) -> Step {
        let answered = self.rehearse_message(interface, state, bytes, arrival);
        let MessageAnswer { decision, reply, lease, probe } =
            answered.unwrap_or_else(|reason| MessageAnswer::none(StepDecision::dropped(reason)));
        let port = match arrival.port {
            DhcpPort::Server => SERVER_PORT,
            DhcpPort::Proxy => PROXY_PORT,
        };
        let to = reply.as_ref().map(|reply| destination(reply.to));
        let reply = reply.and_then(|reply| decode::reply(&reply.message).ok());
        let request = decode::request(bytes).ok();
        let dhcp = request.map(|request| DhcpExchange { port, request, reply, to, lease, probe });
        Step { dhcp, ..Step::new(kind, is_reached, decision) }
    }

    /// Returns the answer to a message.
    fn rehearse_message(
        &self,
        interface: &InterfaceState,
        state: &mut ClientState<'_>,
        bytes: &[u8],
        arrival: Arrival,
    ) -> Result<MessageAnswer, DropReason> {
        let request = DhcpPacket::parse(bytes)?;
        if self.stands_down(interface) {
            return Err(DropReason::StoodDown);
        }
        match (interface.mode, arrival.port) {
            (InterfaceMode::Proxy, _) | (InterfaceMode::Server, DhcpPort::Proxy) => {
                let facts = answer::facts(&request, arrival, interface.address)?;
                let (decision, boot) = self.rehearse_offer(interface, state, &facts, &request, arrival);
                let relay = self.exchanges.relay(&self.gate, interface, &request, arrival);
                let reply = boot.map(|boot| answer::reply(&request, &boot, arrival, relay));
                Ok(MessageAnswer { reply, ..MessageAnswer::none(decision) })
            }
            (InterfaceMode::Server, DhcpPort::Server) => {
                let facts = answer::claims(&request, interface.address).ok_or(DropReason::NotABootRequest)?;
                let (decision, boot) = self.rehearse_offer(interface, state, &facts, &request, arrival);
                self.rehearse_lease(interface, state, &request, arrival, (decision, boot.as_ref()))
            }
        }
    }

    /// Returns the boot decision for a client, and its boot offer.
    fn rehearse_offer(
        &self,
        interface: &InterfaceState,
        state: &mut ClientState<'_>,
        facts: &Facts,
        request: &DhcpPacket<'_>,
        arrival: Arrival,
    ) -> (StepDecision, Option<BootOffer>) {
        let entry = self.entry_point(interface, request.giaddr(), arrival);
        let decided = self.gate.rehearse_decision(facts, state.host.clone(), entry);
        state.host = decided.host.or_else(|| state.host.take());
        let decision = match decided.decision.verdict {
            Verdict::Enrol(_) => Verdict::Ignore(Reason::UnknownHost).into(),
            // A DHCP reply only points to what the machine loads next, and records nothing.
            verdict => Decision { record: None, ..verdict.into() },
        };
        let location = self.next_location(facts, arrival.port, Instant::now());
        let boot = BootOffer::new(facts, &decision.verdict, &interface.site, location);
        (StepDecision::of(&decision), boot)
    }

    /// Returns the answer of server mode, from a copy of the leases.
    fn rehearse_lease(
        &self,
        interface: &InterfaceState,
        state: &mut ClientState<'_>,
        request: &DhcpPacket<'_>,
        arrival: Arrival,
        (decision, boot): (StepDecision, Option<&BootOffer>),
    ) -> Result<MessageAnswer, DropReason> {
        let mut server = state.server.take().unwrap_or_else(|| self.server.copy_for(request, interface.address));
        let leasing =
            Leasing { gate: &self.gate, exchanges: &self.exchanges, own_addresses: &self.own_addresses, interface };
        let mut effects = leasing.answer(&mut server, request, arrival, boot).0?;
        let probe = effects.iter().find_map(|effect| match effect {
            Effect::Probe { address, .. } => Some(*address),
            Effect::Record(_) | Effect::Send(_) => None,
        });
        if let Some(address) = probe {
            // Nobody answers the probe, so the message is handled again.
            server.on_probe_result(address, false, clock::steady_now());
            effects = leasing.answer(&mut server, request, arrival, boot).0?;
        }
        state.server = Some(server);
        let mut answer = MessageAnswer { probe, ..MessageAnswer::none(decision) };
        for effect in effects {
            match effect {
                Effect::Record(lease) => answer.lease = Some(lease.address),
                Effect::Send(reply) => answer.reply = Some(reply),
                Effect::Probe { .. } => {}
            }
        }
        let given = answer.reply.as_ref().and_then(|reply| {
            let address = DhcpPacket::parse_reply(&reply.message).ok()?.yiaddr();
            Some(address).filter(|address| !address.is_unspecified())
        });
        state.leased = given.or(state.leased);
        Ok(answer)
    }
}

/// Returns the facts of a client's firmware.
fn firmware_facts(client: &RehearsedClient, interface: &InterfaceState) -> Option<Facts> {
    let bytes = clients::discover(client, Sender::Firmware);
    let request = DhcpPacket::parse(&bytes).ok()?;
    let facts = answer::claims(&request, interface.address)?;
    facts.firmware.filter(|firmware| firmware.loading == BootProtocol::Pxe).map(|_| facts)
}

fn destination(to: Destination) -> String {
    match to {
        Destination::Address(address) => address.to_string(),
        Destination::LinkLayer { mac, address } => format!("{address}:{CLIENT_PORT} at {mac}"),
        Destination::Broadcast => "broadcast".to_owned(),
    }
}
