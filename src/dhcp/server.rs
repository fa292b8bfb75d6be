//! Server mode: the effects of a client's message. Pure: effects are returned as values, in their order.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::MessageType;
use jiff::Timestamp;

use crate::boot::DropReason;
use crate::fleet::{Lease, LeaseTimes, Mac, Subnet};

use super::answer::{BROADCAST_CLIENTS, BootOffer, Destination, DhcpReply};
use super::leases::{ClientId, LeaseRequest, Leases, RequestOutcome, RequestState};
use super::message::{HeaderAddresses, ReplyWriter};
use super::options;
use super::packet::DhcpPacket;
use super::relay::{Relay, RelayTrust};

const BROADCAST: u16 = 0x8000;

/// One action of the caller. Effects are applied in order; after a failure the rest is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make a lease durable.
    Record(Lease),
    /// Send a reply.
    Send(DhcpReply),
    /// Probe whether another host uses an address, on our own link or behind a router, and handle the message again
    /// afterwards.
    Probe {
        /// The address.
        address: Ipv4Addr,
        /// Whether the address is on the interface's own link.
        is_on_link: bool,
    },
}

/// A subnet with its leases and its encoded options.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The leases.
    pub leases: Leases,
    options: Vec<(u8, Vec<u8>)>,
}

/// A DHCP server with all its subnets.
#[derive(Debug, Clone)]
pub struct DhcpServer {
    scopes: Vec<Scope>,
    /// Whether no other server leases these addresses, so that an impossible request is answered with a NAK.
    authoritative: bool,
    /// Whether an address is probed on the wire before it is offered.
    probes: bool,
}

/// The interface that received a message, and what is known about its host.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    /// The server's address on the interface.
    pub ours: Ipv4Addr,
    /// The sender's address; unspecified for a client without one.
    pub from: Ipv4Addr,
    /// The relay that forwarded the message.
    pub relay: Option<Relay>,
    /// The boot offer, for a client that boots from the network.
    pub boot: Option<&'a BootOffer>,
    /// The address of the host in `spec.ip`.
    pub own: Option<Ipv4Addr>,
    /// Whether an operator declared the client's host.
    pub is_known: bool,
    /// Number of declared hosts, for each of which an address is kept free.
    pub declared: usize,
    /// Returns whether an address belongs to another host or to this machine.
    pub taken: &'a dyn Fn(Ipv4Addr) -> bool,
    /// Returns why the client may not take an address that it does not hold yet: the message is not believed, or
    /// contradicts what is known of the client.
    pub may_take: &'a dyn Fn(Ipv4Addr) -> Result<(), DropReason>,
    /// Returns whether the client is a neighbour of ours at an address.
    pub is_present: &'a dyn Fn(Ipv4Addr) -> bool,
    /// The current time.
    pub now: Timestamp,
}

impl std::fmt::Debug for RequestContext<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RequestContext").field("ours", &self.ours).field("boot", &self.boot).finish_non_exhaustive()
    }
}

impl RequestContext<'_> {
    /// Returns the server identifier for the client: ours, or the one that its relay put in its place (RFC 5107).
    fn server_id(&self) -> Ipv4Addr {
        self.relay.and_then(|relay| relay.server_id).unwrap_or(self.ours)
    }

    /// Returns whether a server identifier names this server.
    fn is_ours(&self, server: Ipv4Addr) -> bool {
        server == self.ours || server == self.server_id()
    }
}

impl DhcpServer {
    /// Creates a server without leases.
    pub fn new(subnets: Vec<Subnet>, authoritative: bool, probes: bool) -> Self {
        let scope = |subnet| Scope { options: options::encode(&subnet), leases: Leases::new(subnet) };
        Self { scopes: subnets.into_iter().map(scope).collect(), authoritative, probes }
    }

    /// Loads the leases that were recorded before a restart. Leases of removed subnets are skipped.
    ///
    /// `is_known` returns whether somebody declared the host with a MAC address.
    pub fn load(&mut self, leases: impl IntoIterator<Item = Lease>, is_known: impl Fn(Mac) -> bool) {
        for lease in leases {
            if let Some(scope) = self.scope_of(lease.address) {
                let is_known = is_known(lease.mac);
                scope.leases.load(lease, is_known);
            }
        }
    }

    /// Returns a copy with only the subnet of a client's link, on which the effects of a message can be tried out.
    pub fn copy_for(&self, request: &DhcpPacket<'_>, ours: Ipv4Addr) -> Self {
        let scopes = self.client_scope(request, ours).map(|index| self.scopes[index].clone());
        Self { scopes: scopes.into_iter().collect(), ..*self }
    }

    /// Records the result of a probe.
    pub fn on_probe_result(&mut self, address: Ipv4Addr, is_used: bool, now: Timestamp) {
        let Some(scope) = self.scope_of(address) else { return };
        match is_used {
            true => scope.leases.mark_in_use(address, now),
            false => scope.leases.mark_free(address),
        }
    }

    /// Ends the lease of an address, as an operator asks. Returns the lease to record; `None` if nobody has the address.
    pub fn end_lease(&mut self, address: Ipv4Addr, now: Timestamp) -> Option<Lease> {
        self.scope_of(address)?.leases.end_lease(address, now)
    }

    fn scope_of(&mut self, address: Ipv4Addr) -> Option<&mut Scope> {
        self.scope_index(address).map(|index| &mut self.scopes[index])
    }

    fn scope_index(&self, address: Ipv4Addr) -> Option<usize> {
        self.scopes.iter().position(|scope| scope.leases.subnet().net.contains(&address))
    }

    /// Returns the subnet of a client's link: by its relay, by the address that it renews through a router, or by the
    /// receiving interface.
    fn client_scope(&self, request: &DhcpPacket<'_>, ours: Ipv4Addr) -> Option<usize> {
        if let Some(link) = request.link() {
            return self.scope_index(link);
        }
        let own = Some(request.ciaddr()).filter(|address| !address.is_unspecified());
        own.and_then(|own| self.scope_index(own)).or_else(|| self.scope_index(ours))
    }

    /// Returns the effects of a client's message.
    ///
    /// # Errors
    /// The reason the message has no effect.
    pub fn answer(
        &mut self,
        request: &DhcpPacket<'_>,
        context: &RequestContext<'_>,
    ) -> Result<Vec<Effect>, DropReason> {
        let (authoritative, probes) = (self.authoritative, self.probes);
        let index = self.client_scope(request, context.ours).ok_or(DropReason::NoSubnet)?;
        let scope = &mut self.scopes[index];
        match request.kind {
            MessageType::Discover => scope.discover(request, context, probes),
            MessageType::Request => scope.request(request, context, authoritative),
            MessageType::Decline => scope.decline(request, context),
            MessageType::Release => scope.release(request, context),
            MessageType::Inform => Ok(scope.inform(request, context)),
            _ => Err(DropReason::NotARequest),
        }
    }
}

impl Scope {
    fn discover(
        &mut self,
        request: &DhcpPacket<'_>,
        context: &RequestContext<'_>,
        probes: bool,
    ) -> Result<Vec<Effect>, DropReason> {
        let lease_request = self.lease_request(request, context);
        if !self.leases.has_room(&lease_request, context.declared, context.now) {
            return Err(DropReason::SourceLimit);
        }
        // Before an address is reserved: any one of the network stands for it.
        (context.may_take)(self.leases.subnet().net.network())?;
        let offer = self.leases.offer(&lease_request, context.now, context.taken).ok_or(DropReason::NoFreeAddress)?;
        if probes && !offer.verified_free {
            return Ok(vec![Effect::Probe { address: offer.address, is_on_link: self.is_on_link(context) }]);
        }
        let times = self.times(request);
        Ok(vec![Effect::Send(self.lease_reply(request, context, MessageType::Offer, offer.address, times))])
    }

    fn request(
        &mut self,
        request: &DhcpPacket<'_>,
        context: &RequestContext<'_>,
        authoritative: bool,
    ) -> Result<Vec<Effect>, DropReason> {
        let lease_request = self.lease_request(request, context);
        let server = request.address(54);
        if server.is_some_and(|server| !context.is_ours(server)) {
            self.leases.withdraw_offer(&lease_request.client, context.now);
            return Err(DropReason::OtherServer);
        }
        let state = if server.is_some() { RequestState::Selecting } else { RequestState::Holding };
        let own = Some(request.ciaddr()).filter(|address| !address.is_unspecified());
        let address = lease_request.wanted.or(own).ok_or(DropReason::BadOption)?;
        if !self.leases.has_room(&lease_request, context.declared, context.now) {
            return Err(DropReason::SourceLimit);
        }
        let times = self.times(request);
        let outcome = match self.leases.subnet().net.contains(&address) {
            true => {
                // A renewal changes nothing.
                if !self.leases.holds(&lease_request, address, context.now) {
                    (context.may_take)(address)?;
                }
                self.leases.request(&lease_request, address, state, times, context.now, context.taken)
            }
            false => RequestOutcome::Refused,
        };
        let lease = match outcome {
            RequestOutcome::Granted(lease) => lease,
            RequestOutcome::Unknown if authoritative => self.leases.adopt(&lease_request, address, times, context.now),
            RequestOutcome::Refused if authoritative || state == RequestState::Selecting => {
                return Ok(vec![Effect::Send(nak(request, context))]);
            }
            RequestOutcome::Unknown | RequestOutcome::Refused => return Err(DropReason::OtherServer),
        };
        let reply = self.lease_reply(request, context, MessageType::Ack, address, times);
        Ok(vec![Effect::Record(lease), Effect::Send(reply)])
    }

    fn decline(&mut self, request: &DhcpPacket<'_>, context: &RequestContext<'_>) -> Result<Vec<Effect>, DropReason> {
        let lease_request = self.addressed(request, context)?;
        let address = lease_request.wanted.ok_or(DropReason::BadOption)?;
        (context.may_take)(address)?;
        // A client that declines an address does not use it.
        if (context.is_present)(address) {
            return Err(DropReason::ContradictedClaim);
        }
        let lease =
            self.leases.decline(&lease_request.client, address, context.now).ok_or(DropReason::ContradictedClaim)?;
        Ok(vec![Effect::Record(lease)])
    }

    fn release(&mut self, request: &DhcpPacket<'_>, context: &RequestContext<'_>) -> Result<Vec<Effect>, DropReason> {
        let lease_request = self.addressed(request, context)?;
        // A client releases its address from that address (RFC 2131 4.4.6), or through the relay that poses as its
        // server.
        if context.from != request.ciaddr() && !Self::is_released_through(context.relay) {
            return Err(DropReason::ContradictedClaim);
        }
        let lease = self
            .leases
            .release(&lease_request.client, request.ciaddr(), context.now)
            .ok_or(DropReason::ContradictedClaim)?;
        Ok(vec![Effect::Record(lease)])
    }

    /// Returns whether clients release their addresses through a relay: it replaces the server identifier, and the
    /// configuration names it. Anybody with an own address could pose as another.
    fn is_released_through(relay: Option<Relay>) -> bool {
        relay.is_some_and(|relay| relay.server_id.is_some() && relay.trust == RelayTrust::Named)
    }

    /// Answers a client that has its address from elsewhere with the subnet's other options (RFC 2131 4.3.5).
    fn inform(&self, request: &DhcpPacket<'_>, context: &RequestContext<'_>) -> Vec<Effect> {
        let addresses = HeaderAddresses {
            ciaddr: request.ciaddr(),
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: context.boot.map_or(Ipv4Addr::UNSPECIFIED, |_| context.ours),
        };
        let mut writer = ReplyWriter::reply(request, MessageType::Ack, addresses);
        writer.address(54, context.server_id());
        self.write_options(request, context, &mut writer);
        let to = self.destination(request, context, request.ciaddr());
        vec![Effect::Send(DhcpReply { message: writer.finish(request), to })]
    }

    fn addressed<'a>(
        &self,
        request: &'a DhcpPacket<'_>,
        context: &RequestContext<'_>,
    ) -> Result<LeaseRequest<'a>, DropReason> {
        match request.address(54) {
            Some(server) if !context.is_ours(server) => Err(DropReason::OtherServer),
            _ => Ok(self.lease_request(request, context)),
        }
    }

    fn lease_request<'a>(&self, request: &'a DhcpPacket<'_>, context: &RequestContext<'_>) -> LeaseRequest<'a> {
        let client = self.leases.lease_owner(client(request), request.mac, context.own);
        LeaseRequest {
            client,
            mac: request.mac,
            wanted: request.address(50),
            hostname: options::hostname(request),
            own: context.own,
            is_known: context.is_known,
        }
    }

    fn times(&self, request: &DhcpPacket<'_>) -> LeaseTimes {
        let times = self.leases.subnet().times;
        let wanted = request.option(51).and_then(|time| <[u8; 4]>::try_from(time.as_ref()).ok());
        wanted.map_or(times, |wanted| times.at_most(u32::from_be_bytes(wanted)))
    }

    /// Encodes an OFFER or an ACK: the address, its times, the boot file, and the subnet's options.
    fn lease_reply(
        &self,
        request: &DhcpPacket<'_>,
        context: &RequestContext<'_>,
        kind: MessageType,
        address: Ipv4Addr,
        times: LeaseTimes,
    ) -> DhcpReply {
        let siaddr = context.boot.map_or(Ipv4Addr::UNSPECIFIED, |_| context.ours);
        let ciaddr = if kind == MessageType::Ack { request.ciaddr() } else { Ipv4Addr::UNSPECIFIED };
        let mut writer = ReplyWriter::reply(request, kind, HeaderAddresses { ciaddr, yiaddr: address, siaddr });
        writer.address(54, context.server_id());
        for (code, time) in [(51, times.lease), (58, times.renew), (59, times.rebind)] {
            writer.option(code, &u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
        }
        self.write_options(request, context, &mut writer);
        let to = self.destination(request, context, address);
        DhcpReply { message: writer.finish(request), to }
    }

    /// Writes the boot file before the subnet's options: a client with a small maximum size needs it most.
    fn write_options(&self, request: &DhcpPacket<'_>, context: &RequestContext<'_>, writer: &mut ReplyWriter) {
        let wanted = request.option(55);
        let is_first = |code: u8| options::is_always_sent(code);
        let is_wanted = |code: u8| !is_first(code) && wanted.as_ref().is_none_or(|list| list.contains(&code));
        for (code, value) in self.options.iter().filter(|(code, _)| is_first(*code)) {
            writer.option(*code, value);
        }
        if let Some(boot) = context.boot {
            boot.write(request, writer);
        } else if let Some(uuid) = request.option(97) {
            writer.option(97, &uuid);
        }
        echo_client(request, writer);
        for (code, value) in self.options.iter().filter(|(code, _)| is_wanted(*code)) {
            writer.option(*code, value);
        }
    }

    fn is_on_link(&self, context: &RequestContext<'_>) -> bool {
        self.leases.subnet().net.contains(&context.ours)
    }

    /// Returns the destination of a reply (RFC 2131 4.1). A client that renews on our own link is reached by its MAC
    /// address, without the kernel's neighbour table.
    fn destination(&self, request: &DhcpPacket<'_>, context: &RequestContext<'_>, address: Ipv4Addr) -> Destination {
        if let Some(relay) = context.relay {
            return Destination::Address(relay.address);
        }
        let is_framed = request.hardware.is_reached_by_mac();
        let must_broadcast = request.flags() & BROADCAST != 0 || !is_framed;
        match (request.ciaddr().is_unspecified(), self.is_on_link(context) && is_framed) {
            // An INFORM without an address (RFC 2131 4.3.5 requires one) can only be answered by broadcast.
            (true, _) if must_broadcast || address.is_unspecified() => Destination::Broadcast,
            (true, _) | (false, true) => Destination::LinkLayer { mac: request.mac, address },
            (false, false) => Destination::Address(SocketAddrV4::new(request.ciaddr(), BROADCAST_CLIENTS.port())),
        }
    }
}

/// Returns the identity of a client: option 61, or its MAC address if the option repeats that (RFC 2132 9.14).
fn client(request: &DhcpPacket<'_>) -> ClientId {
    const ETHERNET: u8 = 1;
    match request.option(61).as_deref() {
        None | Some([] | [_]) => ClientId::Mac(request.mac),
        Some([ETHERNET, mac @ ..]) if mac == request.mac.0 => ClientId::Mac(request.mac),
        Some(id) => ClientId::Id(id.into()),
    }
}

/// Echoes the client identifier, by which a client may recognize its replies (RFC 6842 3).
fn echo_client(request: &DhcpPacket<'_>, writer: &mut ReplyWriter) {
    if let Some(id) = request.option(61) {
        writer.option(61, &id);
    }
}

/// Encodes a NAK. A relay is asked to broadcast it, because the client's address is not valid (RFC 2131 4.3.2).
fn nak(request: &DhcpPacket<'_>, context: &RequestContext<'_>) -> DhcpReply {
    let nobody = HeaderAddresses::of_server(Ipv4Addr::UNSPECIFIED);
    let mut writer = ReplyWriter::reply(request, MessageType::Nak, nobody);
    writer.address(54, context.server_id());
    if let Some(uuid) = request.option(97) {
        writer.option(97, &uuid);
    }
    echo_client(request, &mut writer);
    let Some(relay) = context.relay else {
        return DhcpReply { message: writer.finish(request), to: Destination::Broadcast };
    };
    writer.set_flags(request.flags() | BROADCAST);
    DhcpReply { message: writer.finish(request), to: Destination::Address(relay.address) }
}

#[cfg(test)]
#[path = "tests/server.rs"]
mod tests;
