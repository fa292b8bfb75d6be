//! The effects of a message in server mode: the leases, with what the gate knows of the machines.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::boot::DropReason;
use crate::boot::identity::ExchangeRefusal;
use crate::dhcp::answer::{Arrival, BootOffer};
use crate::dhcp::packet::DhcpPacket;
use crate::dhcp::serve::exchanges::ExchangeVerifier;
use crate::dhcp::serve::interface::InterfaceState;
use crate::dhcp::server::{DhcpServer, Effect, RequestContext};
use crate::fleet::Host;
use crate::gate::{Gate, clock};

/// What a decision about a lease depends on, besides the leases.
pub struct Leasing<'a> {
    /// The gate.
    pub gate: &'a Gate,
    /// The verifier of messages as evidence.
    pub exchanges: &'a ExchangeVerifier,
    /// This machine's own addresses, which are never offered.
    pub own_addresses: &'a HashSet<Ipv4Addr>,
    /// The interface that received the message.
    pub interface: &'a InterfaceState,
}

/// An address that a client may not take, and why.
pub type RefusedAddress = (Ipv4Addr, ExchangeRefusal);

impl Leasing<'_> {
    /// Returns the effects of a client's message on a server's leases, and the address that it may not take.
    pub fn answer(
        &self,
        server: &mut DhcpServer,
        request: &DhcpPacket<'_>,
        arrival: Arrival,
        boot: Option<&BootOffer>,
    ) -> (Result<Vec<Effect>, DropReason>, Option<RefusedAddress>) {
        let Self { gate, exchanges, own_addresses, interface } = self;
        let state = gate.store.load();
        let of = |host: Arc<Host>| match host.spec.ip {
            Some(IpAddr::V4(address)) => Some(address),
            Some(IpAddr::V6(_)) | None => None,
        };
        let taken = |address: Ipv4Addr| {
            own_addresses.contains(&address)
                || state.host_by_ip(address.into()).is_some_and(|host| host.spec.boot_mac_address != request.mac)
        };
        let refused = Cell::new(None);
        let may_take = |address: Ipv4Addr| {
            exchanges.verify(gate, interface, request, arrival, address).map(drop).map_err(|refusal| {
                refused.set(Some((address, refusal)));
                refusal.drop_reason()
            })
        };
        let is_present = |address: Ipv4Addr| gate.neighbours.look_up(address.into()) == Some(request.mac);
        let context = RequestContext {
            ours: interface.address,
            from: *arrival.from.ip(),
            relay: exchanges.relay(gate, interface, request, arrival),
            boot,
            own: state.host_by_mac(request.mac).and_then(of),
            is_known: state.is_declared(request.mac),
            declared: state.declared_hosts(),
            taken: &taken,
            may_take: &may_take,
            is_present: &is_present,
            now: clock::steady_now(),
        };
        let effects = server.answer(request, &context);
        (effects, refused.take())
    }
}
