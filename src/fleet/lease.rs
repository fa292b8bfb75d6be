use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::Mac;

/// Is an address of our own DHCP server's, and what is known of who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub mac: Mac,
    /// Is what the client calls itself (option 61); none where its MAC address is all there is.
    pub client: Option<Box<[u8]>>,
    pub hostname: Option<Box<str>>,
    pub held: LeaseState,
    /// Is when the address is free again.
    pub until: Timestamp,
}

/// Says how an address is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// By a client that was told so.
    Bound,
    /// By nobody; its last client may have it again.
    Released,
    /// By somebody whom we do not know: a client found it in use.
    Declined,
}

impl LeaseState {
    pub const ALL: [Self; 3] = [Self::Bound, Self::Released, Self::Declined];
}

impl Lease {
    /// Says whether the client has the address at this moment.
    pub fn is_bound_at(&self, now: Timestamp) -> bool {
        self.held == LeaseState::Bound && self.until > now
    }
}
