//! Server mode: what a client's message comes to. Pure: effects come back as values, in their order.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::MessageType;
use jiff::Timestamp;

use crate::boot::DropReason;
use crate::fleet::{Lease, LeaseTimes, Subnet};

use super::answer::{Boot, EVERYBODY, Reply, SERVER, To};
use super::leases::{Ask, Client, How, Leases, Outcome};
use super::message::{Addresses, Writer};
use super::options;
use super::packet::Request;

const BROADCAST: u16 = 0x8000;

/// Is one thing to do. They are done in order, and the first that fails ends them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Makes a lease durable.
    Record(Lease),
    Send(Reply),
    /// Finds out whether somebody uses an address, on our own link or behind a router; then the message is
    /// answered anew.
    Probe {
        address: Ipv4Addr,
        is_near: bool,
    },
}

/// Is a subnet with its leases, and its options as they are sent.
#[derive(Debug)]
pub struct Scope {
    pub leases: Leases,
    options: Vec<(u8, Vec<u8>)>,
}

/// Is our own DHCP server: every subnet that it gives addresses in.
#[derive(Debug)]
pub struct Server {
    scopes: Vec<Scope>,
    /// Says that no other server gives addresses here: who asks for one that it cannot have is told so.
    authoritative: bool,
    /// Says whether an address is asked for on the wire before it is offered.
    probes: bool,
}

/// Is where a message was received, and what is known of its machine.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Is our address on the interface.
    pub ours: Ipv4Addr,
    pub boot: Option<&'a Boot>,
    /// Is the address that the site gives this machine by name.
    pub own: Option<Ipv4Addr>,
    /// Says which addresses the site gives to other machines by name.
    pub taken: &'a dyn Fn(Ipv4Addr) -> bool,
    pub now: Timestamp,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Context").field("ours", &self.ours).field("boot", &self.boot).finish_non_exhaustive()
    }
}

impl Server {
    pub fn new(subnets: Vec<Subnet>, authoritative: bool, probes: bool) -> Self {
        let scope = |subnet| Scope { options: options::of(&subnet), leases: Leases::new(subnet) };
        Self { scopes: subnets.into_iter().map(scope).collect(), authoritative, probes }
    }

    /// Takes up the leases that were made before a restart; those of subnets that are gone are left out.
    pub fn load(&mut self, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            if let Some(scope) = self.scope_of(lease.address) {
                scope.leases.load(lease);
            }
        }
    }

    /// Notes what came of a probe.
    pub fn probed(&mut self, address: Ipv4Addr, is_used: bool, now: Timestamp) {
        let Some(scope) = self.scope_of(address) else { return };
        match is_used {
            true => scope.leases.mark_in_use(address, now),
            false => scope.leases.mark_free(address),
        }
    }

    fn scope_of(&mut self, address: Ipv4Addr) -> Option<&mut Scope> {
        self.place_of(address).map(|place| &mut self.scopes[place])
    }

    fn place_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.scopes.iter().position(|scope| scope.leases.subnet().net.contains(&address))
    }

    /// Finds the subnet of the link that a client is on: a relay's word, the address that it renews through
    /// a router, or our own interface.
    fn place(&self, request: &Request<'_>, ours: Ipv4Addr) -> Option<usize> {
        if let Some(link) = request.link() {
            return self.place_of(link);
        }
        let own = Some(request.ciaddr()).filter(|address| !address.is_unspecified());
        own.and_then(|own| self.place_of(own)).or_else(|| self.place_of(ours))
    }

    /// Says what a client's message comes to.
    ///
    /// # Errors
    /// Why nothing is done.
    pub fn answer(&mut self, request: &Request<'_>, context: &Context<'_>) -> Result<Vec<Effect>, DropReason> {
        let (authoritative, probes) = (self.authoritative, self.probes);
        let place = self.place(request, context.ours).ok_or(DropReason::NoSubnet)?;
        let scope = &mut self.scopes[place];
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
        request: &Request<'_>,
        context: &Context<'_>,
        probes: bool,
    ) -> Result<Vec<Effect>, DropReason> {
        let ask = self.ask(request, context);
        let offer = self.leases.offer(&ask, context.now, context.taken).ok_or(DropReason::NoFreeAddress)?;
        if probes && !offer.proven {
            return Ok(vec![Effect::Probe { address: offer.address, is_near: self.is_near(context) }]);
        }
        let times = self.times(request);
        Ok(vec![Effect::Send(self.give(request, context, MessageType::Offer, offer.address, times))])
    }

    fn request(
        &mut self,
        request: &Request<'_>,
        context: &Context<'_>,
        authoritative: bool,
    ) -> Result<Vec<Effect>, DropReason> {
        let ask = self.ask(request, context);
        let server = request.address(54);
        if server.is_some_and(|server| server != context.ours) {
            self.leases.not_taken(&ask.client, context.now);
            return Err(DropReason::OtherServer);
        }
        let how = if server.is_some() { How::Selecting } else { How::Holding };
        let own = Some(request.ciaddr()).filter(|address| !address.is_unspecified());
        let address = ask.wanted.or(own).ok_or(DropReason::BadOption)?;
        let times = self.times(request);
        let outcome = match self.leases.subnet().net.contains(&address) {
            true => self.leases.request(&ask, address, how, times, context.now, context.taken),
            false => Outcome::Refused,
        };
        let lease = match outcome {
            Outcome::Granted(lease) => lease,
            Outcome::Unknown if authoritative => self.leases.adopt(&ask, address, times, context.now),
            Outcome::Refused if authoritative || how == How::Selecting => {
                return Ok(vec![Effect::Send(refuse(request, context))]);
            }
            Outcome::Unknown | Outcome::Refused => return Err(DropReason::OtherServer),
        };
        let reply = self.give(request, context, MessageType::Ack, address, times);
        Ok(vec![Effect::Record(lease), Effect::Send(reply)])
    }

    fn decline(&mut self, request: &Request<'_>, context: &Context<'_>) -> Result<Vec<Effect>, DropReason> {
        let ask = self.addressed(request, context)?;
        let address = ask.wanted.ok_or(DropReason::BadOption)?;
        let lease = self.leases.decline(&ask.client, address, context.now).ok_or(DropReason::ContradictedClaim)?;
        Ok(vec![Effect::Record(lease)])
    }

    fn release(&mut self, request: &Request<'_>, context: &Context<'_>) -> Result<Vec<Effect>, DropReason> {
        let ask = self.addressed(request, context)?;
        let lease =
            self.leases.release(&ask.client, request.ciaddr(), context.now).ok_or(DropReason::ContradictedClaim)?;
        Ok(vec![Effect::Record(lease)])
    }

    /// Tells a client that has its address from elsewhere what else there is to know (RFC 2131 4.3.5).
    fn inform(&self, request: &Request<'_>, context: &Context<'_>) -> Vec<Effect> {
        let addresses = Addresses {
            ciaddr: request.ciaddr(),
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: context.boot.map_or(Ipv4Addr::UNSPECIFIED, |_| context.ours),
        };
        let mut writer = Writer::reply(request, MessageType::Ack, addresses);
        writer.address(54, context.ours);
        self.write(request, context, &mut writer);
        let to = self.destination(request, context, request.ciaddr());
        vec![Effect::Send(Reply { message: writer.finish(request), to })]
    }

    fn addressed<'a>(&self, request: &'a Request<'_>, context: &Context<'_>) -> Result<Ask<'a>, DropReason> {
        match request.address(54) {
            Some(server) if server != context.ours => Err(DropReason::OtherServer),
            _ => Ok(self.ask(request, context)),
        }
    }

    fn ask<'a>(&self, request: &'a Request<'_>, context: &Context<'_>) -> Ask<'a> {
        let client = self.leases.holder(client(request), request.mac, context.own);
        Ask {
            client,
            mac: request.mac,
            wanted: request.address(50),
            hostname: options::hostname(request),
            own: context.own,
        }
    }

    fn times(&self, request: &Request<'_>) -> LeaseTimes {
        let times = self.leases.subnet().times;
        let wanted = request.option(51).and_then(|time| <[u8; 4]>::try_from(time.as_ref()).ok());
        wanted.map_or(times, |wanted| times.at_most(u32::from_be_bytes(wanted)))
    }

    /// Writes an OFFER or an ACK: an address, its times, what to boot where the client boots, and the site's options.
    fn give(
        &self,
        request: &Request<'_>,
        context: &Context<'_>,
        kind: MessageType,
        address: Ipv4Addr,
        times: LeaseTimes,
    ) -> Reply {
        let siaddr = context.boot.map_or(Ipv4Addr::UNSPECIFIED, |_| context.ours);
        let ciaddr = if kind == MessageType::Ack { request.ciaddr() } else { Ipv4Addr::UNSPECIFIED };
        let mut writer = Writer::reply(request, kind, Addresses { ciaddr, yiaddr: address, siaddr });
        writer.address(54, context.ours);
        for (code, time) in [(51, times.lease), (58, times.renew), (59, times.rebind)] {
            writer.option(code, &u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
        }
        self.write(request, context, &mut writer);
        let to = self.destination(request, context, address);
        Reply { message: writer.finish(request), to }
    }

    /// Writes the boot file before the site's options: a client that has room for little needs it most.
    fn write(&self, request: &Request<'_>, context: &Context<'_>, writer: &mut Writer) {
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

    fn is_near(&self, context: &Context<'_>) -> bool {
        self.leases.subnet().net.contains(&context.ours)
    }

    /// Finds the way to a client (RFC 2131 4.1). One that renews on our own link is reached by its card, so
    /// that the kernel's table of neighbours stays out of it.
    fn destination(&self, request: &Request<'_>, context: &Context<'_>, address: Ipv4Addr) -> To {
        if !request.giaddr().is_unspecified() {
            return To::Address(SocketAddrV4::new(request.giaddr(), SERVER));
        }
        match (request.ciaddr().is_unspecified(), self.is_near(context)) {
            // An INFORM without an address to answer to (RFC 2131 4.3.5 wants one) is heard by its card at least.
            (true, _) if request.flags() & BROADCAST != 0 || address.is_unspecified() => To::Everybody,
            (true, _) | (false, true) => To::Card { mac: request.mac, address },
            (false, false) => To::Address(SocketAddrV4::new(request.ciaddr(), EVERYBODY.port())),
        }
    }
}

/// Knows a client by option 61, or by its card where that says the same (RFC 2132 9.14).
fn client(request: &Request<'_>) -> Client {
    const ETHERNET: u8 = 1;
    match request.option(61).as_deref() {
        None | Some([] | [_]) => Client::Mac(request.mac),
        Some([ETHERNET, mac @ ..]) if mac == request.mac.0 => Client::Mac(request.mac),
        Some(id) => Client::Id(id.into()),
    }
}

/// Gives a client its identifier back, by which it may know its own answers (RFC 6842 3).
fn echo_client(request: &Request<'_>, writer: &mut Writer) {
    if let Some(id) = request.option(61) {
        writer.option(61, &id);
    }
}

/// Writes a NAK. A relay is told to broadcast it, since the client's address is not its own (RFC 2131 4.3.2).
fn refuse(request: &Request<'_>, context: &Context<'_>) -> Reply {
    let nobody = Addresses::of_server(Ipv4Addr::UNSPECIFIED);
    let mut writer = Writer::reply(request, MessageType::Nak, nobody);
    writer.address(54, context.ours);
    if let Some(uuid) = request.option(97) {
        writer.option(97, &uuid);
    }
    echo_client(request, &mut writer);
    if request.giaddr().is_unspecified() {
        return Reply { message: writer.finish(request), to: To::Everybody };
    }
    writer.set_flags(request.flags() | BROADCAST);
    Reply { message: writer.finish(request), to: To::Address(SocketAddrV4::new(request.giaddr(), SERVER)) }
}

#[cfg(test)]
#[path = "tests/server.rs"]
mod tests;
