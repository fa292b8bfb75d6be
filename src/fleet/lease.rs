use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::Mac;

/// A lease of our DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The client's hardware address.
    pub mac: Mac,
    /// The client identifier (option 61); `None` if the client sends none.
    pub client: Option<Box<[u8]>>,
    /// The client's host name (option 12).
    pub hostname: Option<Box<str>>,
    /// The state of the lease.
    pub held: LeaseState,
    /// Time at which the address is free again.
    pub until: Timestamp,
}

/// The state of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Acknowledged to its client.
    Bound,
    /// Released by its client, which may get it again.
    Released,
    /// Declined by a client that found the address in use by an unknown host.
    Declined,
}

impl LeaseState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Bound, Self::Released, Self::Declined];
}

impl Lease {
    /// Returns whether the lease is bound at this time.
    pub fn is_bound_at(&self, now: Timestamp) -> bool {
        self.held == LeaseState::Bound && self.until > now
    }
}
