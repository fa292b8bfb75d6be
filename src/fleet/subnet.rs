use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::Mac;

/// Is a network whose machines our DHCP server gives addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub net: Ipv4Net,
    /// Holds the addresses for whoever asks: within the net, and neither its first nor its last.
    pub pools: Vec<RangeInclusive<Ipv4Addr>>,
    pub reservations: Vec<Reservation>,
    pub routers: Vec<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub ntp: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    /// Is the list of domains that short names are looked up in (RFC 3397).
    pub search: Vec<String>,
    /// Holds networks with the router to each (RFC 3442).
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    pub times: LeaseTimes,
}

/// Says how long a lease lasts, and when its client asks again: its own server first, then any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    pub lease: Duration,
    pub renew: Duration,
    pub rebind: Duration,
}

impl LeaseTimes {
    /// Takes RFC 2131 4.4.5's times for a lease: half of it, and seven eighths.
    pub fn of(lease: Duration) -> Self {
        Self { lease, renew: lease / 2, rebind: lease * 7 / 8 }
    }

    /// Gives the same for a shorter lease, which a client asked for.
    pub fn at_most(self, seconds: u32) -> Self {
        let wanted = Duration::from_secs(seconds.into());
        if wanted < self.lease { Self::of(wanted.max(Self::LEAST).min(self.lease)) } else { self }
    }

    /// Is the shortest lease, whatever a client asks for.
    const LEAST: Duration = Duration::from_secs(60);
}

/// Is an address that is kept for one client, within its subnet; it may lie outside the pools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub who: Reserved,
    pub address: Ipv4Addr,
    pub hostname: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    Mac(Mac),
    /// Is option 61 as the client sends it, its type octet first.
    Client(Box<[u8]>),
}
