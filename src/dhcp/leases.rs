//! The leases of server mode: who has which address, with the time as an argument.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::fleet::{Lease, LeaseState, LeaseTimes, Mac, Reserved, Subnet};

/// Is how long an address is kept for a client that was offered it.
const OFFER_HELD: Duration = Duration::from_secs(60);
/// Is how long an address is left alone that somebody was found to use (RFC 2131 4.3.3).
const DECLINED_FOR: Duration = Duration::from_secs(600);

/// Is whom a lease belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Client {
    Mac(Mac),
    /// Is option 61, where it is more than the MAC address again (RFC 2131 4.2).
    Id(Box<[u8]>),
}

/// Is what a client asks for.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    pub client: Client,
    pub mac: Mac,
    /// Is the address that it would like, or says that it has.
    pub wanted: Option<Ipv4Addr>,
    pub hostname: Option<&'a str>,
    /// Is the address that the site gives this machine by name, as a host.
    pub own: Option<Ipv4Addr>,
}

/// Says how a client asks for an address (RFC 2131 4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It takes our offer.
    Selecting,
    /// It says that it has the address: it just started, or its time is running out.
    Holding,
}

/// Is an address to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    pub address: Ipv4Addr,
    /// Says that nobody is known to use it: its client had it before, or it was asked for and nobody answered.
    pub proven: bool,
}

/// Is what comes of asking for a certain address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Granted(Lease),
    /// The client must not use it.
    Refused,
    /// Nothing is known of it: another server may know better.
    Unknown,
}

/// Holds the leases of one subnet. At most one entry an address, so as many as the subnet has.
#[derive(Debug)]
pub struct Leases {
    subnet: Subnet,
    reserved_for: HashMap<Client, usize>,
    reserved: HashMap<Ipv4Addr, usize>,
    entries: HashMap<Ipv4Addr, Entry>,
    by_client: HashMap<Client, Ipv4Addr>,
    /// Holds the entries by when they end: the one to take again first comes first.
    ends: BTreeSet<(Timestamp, Ipv4Addr)>,
    untouched: Untouched,
}

#[derive(Debug)]
struct Entry {
    client: Client,
    mac: Mac,
    hostname: Option<Box<str>>,
    stage: Stage,
    until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Offered { proven: bool },
    Bound,
    Released,
    Declined,
}

/// Is where in the pools no address was given yet.
#[derive(Debug, Default)]
struct Untouched {
    pool: usize,
    next: u32,
}

impl Leases {
    pub fn new(subnet: Subnet) -> Self {
        let client = |reserved: &Reserved| match reserved {
            Reserved::Mac(mac) => Client::Mac(*mac),
            Reserved::Client(id) => Client::Id(id.clone()),
        };
        let places = || subnet.reservations.iter().enumerate();
        Self {
            reserved_for: places().map(|(place, reservation)| (client(&reservation.who), place)).collect(),
            reserved: places().map(|(place, reservation)| (reservation.address, place)).collect(),
            entries: HashMap::new(),
            by_client: HashMap::new(),
            ends: BTreeSet::new(),
            untouched: Untouched::default(),
            subnet,
        }
    }

    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// Says whom a lease for this client belongs to: where the site keeps an address for its card, to the
    /// card, so that its firmware and its systems share it however they call themselves.
    pub fn holder(&self, client: Client, mac: Mac, own: Option<Ipv4Addr>) -> Client {
        let by_mac = Client::Mac(mac);
        let is_kept = self.reserved_for.contains_key(&by_mac) || own.is_some_and(|own| self.subnet.net.contains(&own));
        if is_kept && !self.reserved_for.contains_key(&client) { by_mac } else { client }
    }

    /// Takes up a lease that was made before a restart.
    pub fn load(&mut self, lease: Lease) {
        let client = lease.client.map_or(Client::Mac(lease.mac), Client::Id);
        let stage = match lease.held {
            LeaseState::Bound => Stage::Bound,
            LeaseState::Released => Stage::Released,
            LeaseState::Declined => Stage::Declined,
        };
        let entry = Entry { client, mac: lease.mac, hostname: lease.hostname, stage, until: lease.until };
        self.put(lease.address, entry);
    }

    /// Picks the address to offer a client, and keeps it for a minute: its own, the one it had, the one it
    /// would like, one that nobody had, the one that nobody has had for longest.
    ///
    /// `taken` says which addresses the site gives to other machines by name.
    pub fn offer(&mut self, ask: &Ask<'_>, now: Timestamp, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Offer> {
        let address = self.pick(ask, now, &taken)?;
        let held = self.entries.get(&address).filter(|entry| entry.client == ask.client && entry.until > now);
        let proven = match held.map(|entry| entry.stage) {
            Some(Stage::Bound) => return Some(Offer { address, proven: true }),
            Some(Stage::Offered { proven }) => proven,
            Some(Stage::Released | Stage::Declined) | None => false,
        };
        self.enter(address, ask, Stage::Offered { proven }, now, OFFER_HELD);
        Some(Offer { address, proven })
    }

    /// Notes that nobody answered for an address that is about to be offered.
    pub fn mark_free(&mut self, address: Ipv4Addr) {
        if let Some(Entry { stage: Stage::Offered { proven }, .. }) = self.entries.get_mut(&address) {
            *proven = true;
        }
    }

    /// Notes that somebody uses an address that is about to be offered: it is left alone for a while.
    pub fn mark_in_use(&mut self, address: Ipv4Addr, now: Timestamp) {
        if let Some(Entry { stage: Stage::Offered { .. }, .. }) = self.entries.get(&address) {
            self.decline_entry(address, now);
        }
    }

    /// Gives a client the address that it asks for, where it may have it.
    pub fn request(
        &mut self,
        ask: &Ask<'_>,
        address: Ipv4Addr,
        how: How,
        times: LeaseTimes,
        now: Timestamp,
        taken: impl Fn(Ipv4Addr) -> bool,
    ) -> Outcome {
        let known = self.entries.get(&address);
        let is_ours = known.is_some_and(|entry| entry.client == ask.client && entry.stage != Stage::Declined);
        let is_free = known.is_none_or(|entry| entry.until <= now);
        let own = self.reservation(ask);
        let belongs = match own {
            // A client with a place of its own is sent there, unless somebody sits in it.
            Some(own) if own != address && self.is_free_for(own, &ask.client, now) => false,
            Some(own) if own == address => true,
            _ => self.is_in_pools(address) && !self.reserved.contains_key(&address) && !taken(address),
        };
        if !belongs || !(is_ours || is_free) {
            return Outcome::Refused;
        }
        if !is_ours && own != Some(address) && how == How::Holding {
            return Outcome::Unknown;
        }
        Outcome::Granted(self.grant(ask, address, times, now))
    }

    /// Gives a client an address that it says it has, and that nobody else has: for a server that is the
    /// only one, and may have lost its records.
    pub fn adopt(&mut self, ask: &Ask<'_>, address: Ipv4Addr, times: LeaseTimes, now: Timestamp) -> Lease {
        self.grant(ask, address, times, now)
    }

    fn grant(&mut self, ask: &Ask<'_>, address: Ipv4Addr, times: LeaseTimes, now: Timestamp) -> Lease {
        self.enter(address, ask, Stage::Bound, now, times.lease);
        self.lease(address).expect("it was just entered")
    }

    /// Forgets an offer whose client took another server's.
    pub fn not_taken(&mut self, client: &Client, now: Timestamp) {
        let Some(address) = self.by_client.get(client).copied() else { return };
        if let Some(Entry { stage: Stage::Offered { .. }, .. }) = self.entries.get(&address) {
            self.end(address, Stage::Released, now);
        }
    }

    /// Leaves an address alone that its client found in use; says what is to be kept of it.
    pub fn decline(&mut self, client: &Client, address: Ipv4Addr, now: Timestamp) -> Option<Lease> {
        self.entries.get(&address).filter(|entry| entry.client == *client && entry.stage != Stage::Declined)?;
        self.decline_entry(address, now);
        self.lease(address)
    }

    /// Takes an address back from its client; says what is to be kept of it.
    pub fn release(&mut self, client: &Client, address: Ipv4Addr, now: Timestamp) -> Option<Lease> {
        self.entries.get(&address).filter(|entry| entry.client == *client && entry.stage == Stage::Bound)?;
        self.end(address, Stage::Released, now);
        self.lease(address)
    }

    fn decline_entry(&mut self, address: Ipv4Addr, now: Timestamp) {
        self.end(address, Stage::Declined, later(now, DECLINED_FOR));
        let client = self.entries.get(&address).map(|entry| entry.client.clone());
        if let Some(client) = client.filter(|client| self.by_client.get(client) == Some(&address)) {
            self.by_client.remove(&client);
        }
    }

    fn pick(&mut self, ask: &Ask<'_>, now: Timestamp, taken: &impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let own = self.reservation(ask).filter(|own| self.is_free_for(*own, &ask.client, now));
        let had = self.by_client.get(&ask.client).copied();
        let may = |address: &Ipv4Addr| {
            self.is_in_pools(*address)
                && !self.reserved.contains_key(address)
                && !taken(*address)
                && self.is_free_for(*address, &ask.client, now)
        };
        own.or_else(|| had.filter(may))
            .or_else(|| ask.wanted.filter(may))
            .or_else(|| self.untouched(taken))
            .or_else(|| self.longest_free(now, taken))
    }

    /// Finds the address that is kept for a client.
    fn reservation(&self, ask: &Ask<'_>) -> Option<Ipv4Addr> {
        let place = self.reserved_for.get(&ask.client);
        let listed = place.map(|place| self.subnet.reservations[*place].address);
        listed.or(ask.own.filter(|own| self.subnet.net.contains(own)))
    }

    fn is_free_for(&self, address: Ipv4Addr, client: &Client, now: Timestamp) -> bool {
        self.entries
            .get(&address)
            .is_none_or(|entry| entry.until <= now || (entry.client == *client && entry.stage != Stage::Declined))
    }

    fn is_in_pools(&self, address: Ipv4Addr) -> bool {
        self.subnet.pools.iter().any(|pool| pool.contains(&address))
    }

    /// Walks the pools once in the life of the process: what it passes is found by `longest_free` later.
    fn untouched(&mut self, taken: &impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        while let Some(pool) = self.subnet.pools.get(self.untouched.pool) {
            let (first, last) = (u32::from(*pool.start()), u32::from(*pool.end()));
            let mut next = self.untouched.next.max(first);
            while next <= last {
                let address = Ipv4Addr::from(next);
                next += 1;
                if !self.entries.contains_key(&address) && !self.reserved.contains_key(&address) && !taken(address) {
                    self.untouched.next = next;
                    return Some(address);
                }
            }
            self.untouched = Untouched { pool: self.untouched.pool + 1, next: 0 };
        }
        None
    }

    fn longest_free(&self, now: Timestamp, taken: &impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let ended = self.ends.iter().take_while(|(until, _)| *until <= now).map(|(_, address)| *address);
        let mut free = ended
            .filter(|address| self.is_in_pools(*address) && !self.reserved.contains_key(address) && !taken(*address));
        free.next()
    }

    fn enter(&mut self, address: Ipv4Addr, ask: &Ask<'_>, stage: Stage, now: Timestamp, time: Duration) {
        let place = self.reserved.get(&address).map(|place| &self.subnet.reservations[*place]);
        let named = place.and_then(|reservation| reservation.hostname.as_deref()).or(ask.hostname);
        let entry = Entry {
            client: ask.client.clone(),
            mac: ask.mac,
            hostname: named.map(Into::into),
            stage,
            until: later(now, time),
        };
        self.put(address, entry);
    }

    fn put(&mut self, address: Ipv4Addr, entry: Entry) {
        self.ends.insert((entry.until, address));
        if entry.stage != Stage::Declined {
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

    fn end(&mut self, address: Ipv4Addr, stage: Stage, until: Timestamp) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        self.ends.remove(&(entry.until, address));
        self.ends.insert((until, address));
        (entry.stage, entry.until) = (stage, until);
    }

    fn lease(&self, address: Ipv4Addr) -> Option<Lease> {
        let entry = self.entries.get(&address)?;
        let held = match entry.stage {
            Stage::Bound => LeaseState::Bound,
            Stage::Declined => LeaseState::Declined,
            Stage::Offered { .. } | Stage::Released => LeaseState::Released,
        };
        let client = match &entry.client {
            Client::Mac(_) => None,
            Client::Id(id) => Some(id.clone()),
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
