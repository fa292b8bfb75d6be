//! The leases of one subnet in server mode. Pure: the time is an argument.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::dhcp::lease_shares::LeaseShares;
use crate::fleet::{Lease, LeaseState, LeaseTimes, Mac, Reserved, Subnet};

/// Time for which an offered address is reserved for its client.
const OFFER_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for which an address that was offered to an unknown client is reserved for it.
const UNKNOWN_OFFER_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of addresses that count for one known machine: its firmware, its boot program and its system may send
/// different client identifiers.
const MAX_ADDRESSES_OF_KNOWN: usize = 4;
/// Time for which an address is not offered after a conflict was found (RFC 2131 4.3.3).
const DECLINE_TIMEOUT: Duration = Duration::from_secs(600);

/// The identity that a lease belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// The MAC address.
    Mac(Mac),
    /// Option 61, unless it repeats the MAC address (RFC 2131 4.2).
    Id(Box<[u8]>),
}

/// A client's request for an address.
#[derive(Debug, Clone)]
pub struct LeaseRequest<'a> {
    /// The identity that the lease belongs to.
    pub client: ClientId,
    /// The MAC address of the client.
    pub mac: Mac,
    /// The address that the client asks for, or claims to have.
    pub wanted: Option<Ipv4Addr>,
    /// The hostname that the client sends.
    pub hostname: Option<&'a str>,
    /// The address of the host in `spec.ip`.
    pub own: Option<Ipv4Addr>,
    /// Whether an operator declared the client's host, so that the reserve is for it.
    pub is_known: bool,
}

/// The state of a client that requests an address (RFC 2131 4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// SELECTING: it accepts our offer.
    Selecting,
    /// INIT-REBOOT, RENEWING or REBINDING: it claims to have the address.
    Holding,
}

/// An address to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressOffer {
    /// The address.
    pub address: Ipv4Addr,
    /// Whether no other user of the address is known: its client had it before, or a probe was not answered.
    pub verified_free: bool,
}

/// The result of a request for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The client has this lease.
    Granted(Lease),
    /// The client must not use the address.
    Refused,
    /// No record of the lease exists; another server may know it.
    Unknown,
}

/// The leases of one subnet, at most one entry an address.
#[derive(Debug, Clone)]
pub struct Leases {
    subnet: Subnet,
    reserved_for: HashMap<ClientId, usize>,
    reserved: HashMap<Ipv4Addr, usize>,
    entries: HashMap<Ipv4Addr, LeaseEntry>,
    by_client: HashMap<ClientId, Ipv4Addr>,
    /// The entries by time of expiry; the first is reused first.
    ends: BTreeSet<(Timestamp, Ipv4Addr)>,
    next_unused: PoolCursor,
    shares: LeaseShares,
}

#[derive(Debug, Clone)]
struct LeaseEntry {
    client: ClientId,
    mac: Mac,
    hostname: Option<Box<str>>,
    stage: LeaseStage,
    until: Timestamp,
    /// Whether the entry counts for a known machine.
    is_known: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseStage {
    Offered { verified_free: bool },
    Bound,
    Released,
    Declined,
}

/// The position in the pools after the last address that was ever offered.
#[derive(Debug, Clone, Default)]
struct PoolCursor {
    pool: usize,
    next: u32,
}

impl Leases {
    /// Creates an empty set of leases.
    pub fn new(subnet: Subnet) -> Self {
        let client = |reserved: &Reserved| match reserved {
            Reserved::Mac(mac) => ClientId::Mac(*mac),
            Reserved::Client(id) => ClientId::Id(id.clone()),
        };
        let places = || subnet.reservations.iter().enumerate();
        Self {
            reserved_for: places().map(|(place, reservation)| (client(&reservation.who), place)).collect(),
            reserved: places().map(|(place, reservation)| (reservation.address, place)).collect(),
            entries: HashMap::new(),
            by_client: HashMap::new(),
            ends: BTreeSet::new(),
            next_unused: PoolCursor::default(),
            shares: LeaseShares::new(&subnet.pools),
            subnet,
        }
    }

    /// Returns the subnet.
    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// Returns the identity that a lease for this client belongs to. A client with a reservation by MAC address shares
    /// it between its firmware and its systems, whatever client identifiers they send.
    pub fn lease_owner(&self, client: ClientId, mac: Mac, own: Option<Ipv4Addr>) -> ClientId {
        let by_mac = ClientId::Mac(mac);
        let is_kept = self.reserved_for.contains_key(&by_mac) || own.is_some_and(|own| self.subnet.net.contains(&own));
        if is_kept && !self.reserved_for.contains_key(&client) { by_mac } else { client }
    }

    /// Loads a lease that was recorded before a restart.
    pub fn load(&mut self, lease: Lease, is_known: bool) {
        let client = lease.client.map_or(ClientId::Mac(lease.mac), ClientId::Id);
        let stage = match lease.held {
            LeaseState::Bound => LeaseStage::Bound,
            LeaseState::Released => LeaseStage::Released,
            LeaseState::Declined => LeaseStage::Declined,
        };
        let entry =
            LeaseEntry { client, mac: lease.mac, hostname: lease.hostname, stage, until: lease.until, is_known };
        self.put(lease.address, entry);
    }

    /// Returns the address to offer a client, and reserves it for a minute. Preference: its reservation, its last
    /// address, the requested one, an address never offered, the address that expired first.
    ///
    /// `taken` returns whether an address belongs to another host or to this machine.
    pub fn offer(
        &mut self,
        request: &LeaseRequest<'_>,
        now: Timestamp,
        taken: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<AddressOffer> {
        let address = self.pick(request, now, &taken)?;
        let held = self.entries.get(&address).filter(|entry| entry.client == request.client && entry.until > now);
        let verified_free = match held.map(|entry| entry.stage) {
            Some(LeaseStage::Bound) => return Some(AddressOffer { address, verified_free: true }),
            Some(LeaseStage::Offered { verified_free }) => verified_free,
            Some(LeaseStage::Released | LeaseStage::Declined) | None => false,
        };
        let held = if request.is_known { OFFER_TIMEOUT } else { UNKNOWN_OFFER_TIMEOUT };
        self.enter(address, request, LeaseStage::Offered { verified_free }, now, held);
        Some(AddressOffer { address, verified_free })
    }

    /// Returns whether a client may get an address: it has one, it is known, or the addresses that the declared hosts
    /// need stay free. `declared` is the number of these hosts.
    pub fn has_room(&mut self, request: &LeaseRequest<'_>, declared: usize, now: Timestamp) -> bool {
        let had = self.by_client.get(&request.client).and_then(|address| self.entries.get(address));
        let has_one = had.is_some_and(|entry| entry.client == request.client && entry.until > now);
        has_one
            || self.reservation(request).is_some()
            || self.counts_as_known(request, now)
            || self.shares.has_room(declared, now)
    }

    /// Returns whether an address of a request counts for a known machine: somebody may invent any number of client
    /// identifiers in its name.
    fn counts_as_known(&mut self, request: &LeaseRequest<'_>, now: Timestamp) -> bool {
        request.is_known && (self.shares.known_addresses(request.mac, now) < MAX_ADDRESSES_OF_KNOWN)
    }

    /// Marks an offered address as free: no host answered the probe.
    pub fn mark_free(&mut self, address: Ipv4Addr) {
        if let Some(LeaseEntry { stage: LeaseStage::Offered { verified_free }, .. }) = self.entries.get_mut(&address) {
            *verified_free = true;
        }
    }

    /// Marks an offered address as used by another host: it is not offered for a while.
    pub fn mark_in_use(&mut self, address: Ipv4Addr, now: Timestamp) {
        if let Some(LeaseEntry { stage: LeaseStage::Offered { .. }, .. }) = self.entries.get(&address) {
            self.decline_entry(address, now);
        }
    }

    /// Grants the requested address to a client, if the client may have it.
    pub fn request(
        &mut self,
        request: &LeaseRequest<'_>,
        address: Ipv4Addr,
        state: RequestState,
        times: LeaseTimes,
        now: Timestamp,
        taken: impl Fn(Ipv4Addr) -> bool,
    ) -> RequestOutcome {
        let own = self.reservation(request);
        let known = self.entries.get(&address);
        // A bound lease does not pass to another MAC address by a client identifier that anybody can copy; only a
        // reservation names a client by its identifier alone.
        let is_ours = known.is_some_and(|entry| entry.client == request.client && entry.stage != LeaseStage::Declined)
            && (own == Some(address) || self.is_free_for_mac(address, request.mac, now));
        let is_free = known.is_none_or(|entry| entry.until <= now);
        let belongs = match own {
            // A client with a reservation must use that address, unless another client has it now.
            Some(own) if own != address && self.is_free_for(own, &request.client, now) => false,
            Some(own) if own == address => true,
            _ => self.is_in_pools(address) && !self.reserved.contains_key(&address) && !taken(address),
        };
        // SELECTING follows an offer of ours (RFC 2131 4.3.2).
        if !belongs || !(is_ours || is_free && state == RequestState::Holding) {
            return RequestOutcome::Refused;
        }
        if !is_ours && own != Some(address) && state == RequestState::Holding {
            return RequestOutcome::Unknown;
        }
        RequestOutcome::Granted(self.grant(request, address, times, now))
    }

    /// Returns whether a client holds a bound lease of an address, under the MAC address that it has now.
    pub fn holds(&self, request: &LeaseRequest<'_>, address: Ipv4Addr, now: Timestamp) -> bool {
        self.entries.get(&address).is_some_and(|entry| {
            entry.client == request.client
                && entry.mac == request.mac
                && entry.stage == LeaseStage::Bound
                && entry.until > now
        })
    }

    /// Grants an address without a record that its client claims, if no other client has it: for the only server of the
    /// subnet, which may have lost its records.
    pub fn adopt(&mut self, request: &LeaseRequest<'_>, address: Ipv4Addr, times: LeaseTimes, now: Timestamp) -> Lease {
        self.grant(request, address, times, now)
    }

    fn grant(&mut self, request: &LeaseRequest<'_>, address: Ipv4Addr, times: LeaseTimes, now: Timestamp) -> Lease {
        self.enter(address, request, LeaseStage::Bound, now, times.lease);
        self.lease(address).expect("it was just entered")
    }

    /// Removes the offer of a client that accepted another server's offer.
    pub fn withdraw_offer(&mut self, client: &ClientId, now: Timestamp) {
        let Some(address) = self.by_client.get(client).copied() else { return };
        if let Some(LeaseEntry { stage: LeaseStage::Offered { .. }, .. }) = self.entries.get(&address) {
            self.end(address, LeaseStage::Released, now);
        }
    }

    /// Marks an address whose client found it in use. Returns the lease to record.
    pub fn decline(&mut self, client: &ClientId, address: Ipv4Addr, now: Timestamp) -> Option<Lease> {
        self.entries.get(&address).filter(|entry| entry.client == *client && entry.stage != LeaseStage::Declined)?;
        self.decline_entry(address, now);
        self.lease(address)
    }

    /// Ends the lease of a client that releases it. Returns the lease to record.
    pub fn release(&mut self, client: &ClientId, address: Ipv4Addr, now: Timestamp) -> Option<Lease> {
        self.entries.get(&address).filter(|entry| entry.client == *client && entry.stage == LeaseStage::Bound)?;
        self.end(address, LeaseStage::Released, now);
        self.lease(address)
    }

    /// Ends the lease of an address, or its time out of use after a conflict, as an operator asks. Returns the lease to
    /// record; `None` if nobody has the address.
    pub fn end_lease(&mut self, address: Ipv4Addr, now: Timestamp) -> Option<Lease> {
        self.entries.get(&address).filter(|entry| entry.until > now)?;
        self.end(address, LeaseStage::Released, now);
        self.lease(address)
    }

    fn decline_entry(&mut self, address: Ipv4Addr, now: Timestamp) {
        self.end(address, LeaseStage::Declined, later(now, DECLINE_TIMEOUT));
        let client = self.entries.get(&address).map(|entry| entry.client.clone());
        if let Some(client) = client.filter(|client| self.by_client.get(client) == Some(&address)) {
            self.by_client.remove(&client);
        }
    }

    fn pick(
        &mut self,
        request: &LeaseRequest<'_>,
        now: Timestamp,
        taken: &impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let own = self.reservation(request).filter(|own| self.is_free_for(*own, &request.client, now));
        let had = self.by_client.get(&request.client).copied();
        let may = |address: &Ipv4Addr| {
            self.is_in_pools(*address)
                && !self.reserved.contains_key(address)
                && !taken(*address)
                && self.is_free_for(*address, &request.client, now)
                && self.is_free_for_mac(*address, request.mac, now)
        };
        own.or_else(|| had.filter(may))
            .or_else(|| request.wanted.filter(may))
            .or_else(|| self.next_unused(taken))
            .or_else(|| self.longest_free(now, taken))
    }

    /// Returns the address that is reserved for a client.
    fn reservation(&self, request: &LeaseRequest<'_>) -> Option<Ipv4Addr> {
        let place = self.reserved_for.get(&request.client);
        let listed = place.map(|place| self.subnet.reservations[*place].address);
        listed.or(request.own.filter(|own| self.subnet.net.contains(own)))
    }

    fn is_free_for(&self, address: Ipv4Addr, client: &ClientId, now: Timestamp) -> bool {
        self.entries
            .get(&address)
            .is_none_or(|entry| entry.until <= now || (entry.client == *client && entry.stage != LeaseStage::Declined))
    }

    /// Returns whether no bound lease gives an address to another MAC address.
    fn is_free_for_mac(&self, address: Ipv4Addr, mac: Mac, now: Timestamp) -> bool {
        self.entries
            .get(&address)
            .is_none_or(|entry| entry.mac == mac || entry.stage != LeaseStage::Bound || entry.until <= now)
    }

    fn is_in_pools(&self, address: Ipv4Addr) -> bool {
        self.subnet.pools.iter().any(|pool| pool.contains(&address))
    }

    /// Returns the next address that was never offered. Each pool is walked once; `longest_free` finds the rest.
    fn next_unused(&mut self, taken: &impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        while let Some(pool) = self.subnet.pools.get(self.next_unused.pool) {
            let (first, last) = (u32::from(*pool.start()), u32::from(*pool.end()));
            let mut next = self.next_unused.next.max(first);
            while next <= last {
                let address = Ipv4Addr::from(next);
                next += 1;
                if !self.entries.contains_key(&address) && !self.reserved.contains_key(&address) && !taken(address) {
                    self.next_unused.next = next;
                    return Some(address);
                }
            }
            self.next_unused = PoolCursor { pool: self.next_unused.pool + 1, next: 0 };
        }
        None
    }

    fn longest_free(&self, now: Timestamp, taken: &impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let ended = self.ends.iter().take_while(|(until, _)| *until <= now).map(|(_, address)| *address);
        let mut free = ended
            .filter(|address| self.is_in_pools(*address) && !self.reserved.contains_key(address) && !taken(*address));
        free.next()
    }

    fn enter(
        &mut self,
        address: Ipv4Addr,
        request: &LeaseRequest<'_>,
        stage: LeaseStage,
        now: Timestamp,
        time: Duration,
    ) {
        let place = self.reserved.get(&address).map(|place| &self.subnet.reservations[*place]);
        let named = place.and_then(|reservation| reservation.hostname.as_deref()).or(request.hostname);
        let hostname = named.map(Into::into);
        let has_known = self.entries.get(&address).is_some_and(|entry| entry.is_known && entry.mac == request.mac);
        let is_known = (has_known && request.is_known) || self.counts_as_known(request, now);
        let (client, mac, until) = (request.client.clone(), request.mac, later(now, time));
        self.put(address, LeaseEntry { client, mac, hostname, stage, until, is_known });
    }

    fn put(&mut self, address: Ipv4Addr, entry: LeaseEntry) {
        self.ends.insert((entry.until, address));
        self.shares.put(address, entry.mac, entry.is_known, entry.until);
        if entry.stage != LeaseStage::Declined {
            self.by_client.insert(entry.client.clone(), address);
        }
        let client = entry.client.clone();
        let Some(before) = self.entries.insert(address, entry) else { return };
        let until = self.entries[&address].until;
        if before.until != until {
            self.ends.remove(&(before.until, address));
        }
        if before.client != client && self.by_client.get(&before.client) == Some(&address) {
            self.by_client.remove(&before.client);
        }
    }

    fn end(&mut self, address: Ipv4Addr, stage: LeaseStage, until: Timestamp) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        self.ends.remove(&(entry.until, address));
        self.ends.insert((until, address));
        self.shares.put(address, entry.mac, entry.is_known, until);
        (entry.stage, entry.until) = (stage, until);
    }

    fn lease(&self, address: Ipv4Addr) -> Option<Lease> {
        let entry = self.entries.get(&address)?;
        let held = match entry.stage {
            LeaseStage::Bound => LeaseState::Bound,
            LeaseStage::Declined => LeaseState::Declined,
            LeaseStage::Offered { .. } | LeaseStage::Released => LeaseState::Released,
        };
        let client = match &entry.client {
            ClientId::Mac(_) => None,
            ClientId::Id(id) => Some(id.clone()),
        };
        Some(Lease { address, mac: entry.mac, client, hostname: entry.hostname.clone(), held, until: entry.until })
    }
}

fn later(now: Timestamp, time: Duration) -> Timestamp {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    now.saturating_add(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "tests/leases.rs"]
mod tests;
