use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::Mac;

/// A subnet in which our DHCP server assigns addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The network.
    pub net: Ipv4Net,
    /// The address pools, without the first and the last address of the network.
    pub pools: Vec<RangeInclusive<Ipv4Addr>>,
    /// The reserved addresses.
    pub reservations: Vec<Reservation>,
    /// The default routers (option 3).
    pub routers: Vec<Ipv4Addr>,
    /// The name servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// The NTP servers (option 42).
    pub ntp: Vec<Ipv4Addr>,
    /// The domain name (option 15).
    pub domain: Option<String>,
    /// The domain search list (option 119, RFC 3397).
    pub search: Vec<String>,
    /// The classless static routes: network and router (option 121, RFC 3442).
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// The lease times.
    pub times: LeaseTimes,
}

/// The duration of a lease, and when its client renews and rebinds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// The duration (option 51).
    pub lease: Duration,
    /// Time until the client renews the lease at its server (T1, option 58).
    pub renew: Duration,
    /// Time until the client renews the lease at any server (T2, option 59).
    pub rebind: Duration,
}

impl LeaseTimes {
    /// Returns the default times of RFC 2131 4.4.5: renewal after half of the lease, rebinding after seven eighths.
    pub fn of(lease: Duration) -> Self {
        Self { lease, renew: lease / 2, rebind: lease * 7 / 8 }
    }

    /// Returns the times for a shorter lease that a client requested.
    pub fn at_most(self, seconds: u32) -> Self {
        let wanted = Duration::from_secs(seconds.into());
        if wanted < self.lease { Self::of(wanted.max(Self::MIN_LEASE).min(self.lease)) } else { self }
    }

    /// The minimum lease time that a client can request.
    const MIN_LEASE: Duration = Duration::from_secs(60);
}

/// An address of the subnet that is reserved for one client. It may lie outside the pools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The client.
    pub who: Reserved,
    /// The address.
    pub address: Ipv4Addr,
    /// The host name that the client is sent.
    pub hostname: Option<String>,
}

/// The client of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// The client's hardware address.
    Mac(Mac),
    /// The client identifier (option 61), with its type octet.
    Client(Box<[u8]>),
}
