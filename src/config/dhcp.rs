//! The part of the configuration that is about DHCP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::Deserialize;
use toml::Spanned;

use crate::boot::ProgramOverride;
use crate::fleet::{HostMatch, LeaseTimes, Mac, Reservation, Reserved, Subnet};

use super::{ConfigError, Flags, Raw, Validator};

/// Bounds the addresses of all pools together: a lease is about 200 octets of memory.
const ADDRESSES: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// Is the address that its machines reach us at; the interface's first when not given.
    pub address: Option<IpAddr>,
    pub mode: DhcpMode,
}

/// Says how PXE firmware is told its boot file: `[[overrides]]` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootFileIn {
    /// In the offer itself.
    Offer,
    /// On port 4011, where the firmware asks a second time.
    #[serde(rename = "4011")]
    Port4011,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp {
    pub port: u16,
    pub proxy_port: u16,
    /// Holds the networks that server mode gives addresses in.
    pub subnets: Vec<Subnet>,
    /// Says that server mode is the only server on its networks, and may refuse.
    pub authoritative: bool,
    /// Asks on the wire whether somebody has an address before it is offered.
    pub conflict_check: bool,
    /// Says what becomes of an interface where another boot server answers.
    pub other_server: OtherServer,
    /// Is how often another boot server is looked for.
    pub look_every: Duration,
    /// Answers a booting iPXE's router solicitation, so that it does not wait for a router that is not there.
    pub shorten_router_wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpMode {
    /// Says beside somebody else's DHCP server what to boot.
    Proxy,
    /// Gives addresses as well: there is no other DHCP server on the network.
    Server,
    /// Says nothing: another DHCP server points machines at us.
    Off,
}

/// Says what becomes of an interface where another boot server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherServer {
    /// It is told of, and machines are answered all the same.
    Tell,
    /// Machines are left to the other, for as long as it is there.
    Yield,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawInterface {
    pub name: Spanned<String>,
    pub address: Option<Spanned<String>>,
    pub mode: Option<DhcpMode>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOverride {
    pub mac: Option<Spanned<String>>,
    pub uuid: Option<Spanned<String>>,
    pub program: Option<Spanned<String>>,
    #[serde(default)]
    pub for_ipxe: bool,
    pub boot_file: Option<BootFileIn>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDhcp {
    pub mode: Option<DhcpMode>,
    pub port: Option<u16>,
    pub proxy_port: Option<u16>,
    pub shorten_router_wait: Option<bool>,
    pub authoritative: Option<bool>,
    pub conflict_check: Option<bool>,
    pub other_server: Option<OtherServer>,
    pub look_every: Option<Spanned<String>>,
    pub subnets: Vec<RawSubnet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSubnet {
    net: Spanned<Ipv4Net>,
    #[serde(default)]
    pools: Vec<Spanned<String>>,
    #[serde(default)]
    routers: Vec<Ipv4Addr>,
    #[serde(default)]
    dns: Vec<Ipv4Addr>,
    #[serde(default)]
    ntp: Vec<Ipv4Addr>,
    domain: Option<Spanned<String>>,
    #[serde(default)]
    search: Vec<Spanned<String>>,
    #[serde(default)]
    routes: Vec<RawRoute>,
    lease: Option<Spanned<String>>,
    renew: Option<Spanned<String>>,
    rebind: Option<Spanned<String>>,
    #[serde(default)]
    reservations: Vec<RawReservation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    to: Ipv4Net,
    via: Ipv4Addr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReservation {
    mac: Option<Spanned<String>>,
    client_id: Option<Spanned<String>>,
    address: Spanned<Ipv4Addr>,
    hostname: Option<String>,
}

impl Validator<'_> {
    /// Takes the one interface of the simple way, or the list of the full way.
    pub(super) fn interfaces(&self, flags: &Flags, raw: &Raw) -> Result<Vec<Interface>, ConfigError> {
        let usual = raw.dhcp.mode.unwrap_or(DhcpMode::Proxy);
        let one = self.choose("interface", flags.interface.as_deref(), raw.interface.as_ref())?;
        let address = self.choose("address", flags.address.as_deref(), raw.address.as_ref())?;
        let span = raw.address.as_ref().map(Spanned::span);
        let mut found = Vec::new();
        if let Some(name) = one {
            found.push(Interface { name, address: self.ipv4("address", span, address)?, mode: usual });
        } else if address.is_some() {
            return Err(self.error("address", span, "whose? name the interface beside it"));
        }
        // A flag names the one interface of this run, whatever the file lists.
        let listed = if flags.interface.is_some() { &[][..] } else { &raw.interfaces };
        for listed in listed {
            let span = listed.address.as_ref().map(Spanned::span);
            let address = listed.address.as_ref().map(|text| self.read("interfaces.address", text)).transpose()?;
            let address = self.ipv4("interfaces.address", span, address)?;
            let name = listed.name.get_ref().clone();
            if found.iter().any(|found: &Interface| found.name == name) {
                return Err(self.error("interfaces.name", Some(listed.name.span()), &format!("{name} is named twice")));
            }
            found.push(Interface { name, address, mode: listed.mode.unwrap_or(usual) });
        }
        if found.is_empty() {
            return Err(self.error("interface", None, "name the interface to answer on, here or with --interface"));
        }
        Ok(found)
    }

    fn ipv4(
        &self,
        key: &str,
        span: Option<std::ops::Range<usize>>,
        address: Option<IpAddr>,
    ) -> Result<Option<IpAddr>, ConfigError> {
        match address {
            Some(IpAddr::V6(address)) => {
                Err(self.error(key, span, &format!("{address} is no IPv4 address: DHCP needs one")))
            }
            address => Ok(address),
        }
    }

    #[expect(clippy::type_complexity, reason = "two lists out of one, named where they go")]
    pub(super) fn overrides(
        &self,
        raw: &[RawOverride],
    ) -> Result<(Vec<ProgramOverride>, Vec<(HostMatch, BootFileIn)>), ConfigError> {
        let (mut programs, mut forms) = (Vec::new(), Vec::new());
        for raw in raw {
            let who = match (&raw.mac, &raw.uuid) {
                (Some(mac), None) => HostMatch::MacPrefix(self.mac_prefix("overrides.mac", mac)?),
                (None, Some(uuid)) => HostMatch::Uuid(self.read("overrides.uuid", uuid)?),
                (Some(both), Some(_)) => {
                    return Err(self.error("overrides", Some(both.span()), "name a mac or a uuid, not both"));
                }
                (None, None) => return Err(self.error("overrides", None, "name the machines by mac or uuid")),
            };
            if let Some(program) = &raw.program {
                let program = self.program("overrides.program", program.span(), program.get_ref())?;
                programs.push(ProgramOverride { who: who.clone(), program, for_ipxe: raw.for_ipxe });
            }
            forms.extend(raw.boot_file.map(|form| (who, form)));
        }
        Ok((programs, forms))
    }

    pub(super) fn dhcp(&self, raw: &RawDhcp) -> Result<Dhcp, ConfigError> {
        let subnets = raw.subnets.iter().map(|raw| self.subnet(raw)).collect::<Result<Vec<_>, _>>()?;
        for (place, subnet) in subnets.iter().enumerate() {
            let span = Some(raw.subnets[place].net.span());
            let same = |other: &&Subnet| other.net.contains(&subnet.net) || subnet.net.contains(&other.net);
            if let Some(other) = subnets[..place].iter().find(same) {
                let message = format!("{} lies in {}: one of them decides", subnet.net, other.net);
                return Err(self.error("dhcp.subnets.net", span, &message));
            }
        }
        let size = |pool: &RangeInclusive<Ipv4Addr>| u64::from(u32::from(*pool.end()) - u32::from(*pool.start())) + 1;
        let addresses: u64 = subnets.iter().flat_map(|subnet| &subnet.pools).map(size).sum();
        if addresses > ADDRESSES {
            let message =
                format!("{addresses} addresses are more than the {ADDRESSES} that all pools may have together");
            return Err(self.error("dhcp.subnets.pools", None, &message));
        }
        let look_every = self.duration("dhcp.look_every", raw.look_every.as_ref())?;
        Ok(Dhcp {
            port: raw.port.unwrap_or(67),
            proxy_port: raw.proxy_port.unwrap_or(4011),
            subnets,
            authoritative: raw.authoritative.unwrap_or(true),
            conflict_check: raw.conflict_check.unwrap_or(true),
            other_server: raw.other_server.unwrap_or(OtherServer::Tell),
            look_every: look_every.unwrap_or(Duration::from_secs(300)),
            shorten_router_wait: raw.shorten_router_wait.unwrap_or(true),
        })
    }

    fn subnet(&self, raw: &RawSubnet) -> Result<Subnet, ConfigError> {
        let net = raw.net.get_ref().trunc();
        let pools = raw.pools.iter().map(|pool| self.pool(net, pool)).collect::<Result<Vec<_>, _>>()?;
        let lease = self.duration("dhcp.subnets.lease", raw.lease.as_ref())?.unwrap_or(Duration::from_secs(3600));
        let usual = LeaseTimes::of(lease);
        let times = LeaseTimes {
            lease,
            renew: self.duration("dhcp.subnets.renew", raw.renew.as_ref())?.unwrap_or(usual.renew),
            rebind: self.duration("dhcp.subnets.rebind", raw.rebind.as_ref())?.unwrap_or(usual.rebind),
        };
        if times.renew >= times.rebind || times.rebind >= times.lease {
            let span = [&raw.renew, &raw.rebind, &raw.lease].into_iter().flatten().next().map(Spanned::span);
            let message = "a client renews before it rebinds, and rebinds before its lease ends (RFC 2131 4.4.5)";
            return Err(self.error("dhcp.subnets", span, message));
        }
        let reservations = self.reservations(net, &raw.reservations)?;
        let domain = |name: &Spanned<String>| self.domain(name);
        Ok(Subnet {
            net,
            pools,
            reservations,
            routers: raw.routers.clone(),
            dns: raw.dns.clone(),
            ntp: raw.ntp.clone(),
            domain: raw.domain.as_ref().map(domain).transpose()?,
            search: raw.search.iter().map(domain).collect::<Result<_, _>>()?,
            routes: raw.routes.iter().map(|route| (route.to.trunc(), route.via)).collect(),
            times,
        })
    }

    fn pool(&self, net: Ipv4Net, text: &Spanned<String>) -> Result<RangeInclusive<Ipv4Addr>, ConfigError> {
        let wrong = |message: &str| self.error("dhcp.subnets.pools", Some(text.span()), message);
        let ends = text.get_ref().split_once('-').map(|(first, last)| (first.trim().parse(), last.trim().parse()));
        let Some((Ok(first), Ok(last))) = ends else {
            return Err(wrong(&format!("{:?} is no range, as 10.0.0.100-10.0.0.199 is", text.get_ref())));
        };
        let is_for_hosts = |address: &Ipv4Addr| {
            net.contains(address)
                && (net.prefix_len() > 30 || (*address != net.network() && *address != net.broadcast()))
        };
        match first <= last && is_for_hosts(&first) && is_for_hosts(&last) {
            true => Ok(first..=last),
            false => Err(wrong(&format!("{:?} is no range of addresses for hosts in {net}", text.get_ref()))),
        }
    }

    fn reservations(&self, net: Ipv4Net, raw: &[RawReservation]) -> Result<Vec<Reservation>, ConfigError> {
        let mut found = HashMap::new();
        let read = |raw: &RawReservation| {
            let (address, span) = (*raw.address.get_ref(), Some(raw.address.span()));
            let who = match (&raw.mac, &raw.client_id) {
                (Some(mac), None) => Reserved::Mac(self.read::<Mac>("dhcp.subnets.reservations.mac", mac)?),
                (None, Some(id)) => Reserved::Client(self.client_id(id)?),
                _ => {
                    let message = "name the client by mac or by client_id, one of them";
                    return Err(self.error("dhcp.subnets.reservations", span, message));
                }
            };
            if !net.contains(&address) {
                let message = format!("{address} is not in {net}");
                return Err(self.error("dhcp.subnets.reservations.address", span, &message));
            }
            if found.insert(address, ()).is_some() {
                let message = format!("{address} is kept for two clients");
                return Err(self.error("dhcp.subnets.reservations.address", span, &message));
            }
            Ok(Reservation { who, address, hostname: raw.hostname.clone() })
        };
        raw.iter().map(read).collect()
    }

    /// Reads option 61 as tools show it: octets in hexadecimal, the type first.
    fn client_id(&self, text: &Spanned<String>) -> Result<Box<[u8]>, ConfigError> {
        let digits: String = text.get_ref().chars().filter(|digit| !matches!(digit, ':' | '-' | ' ')).collect();
        let octet = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let octets: Option<Box<[u8]>> = digits.as_bytes().chunks(2).map(octet).collect();
        octets.filter(|octets| digits.len().is_multiple_of(2) && (2..=255).contains(&octets.len())).ok_or_else(|| {
            let message = format!("{:?} is no client identifier: octets in hexadecimal, 2 to 255", text.get_ref());
            self.error("dhcp.subnets.reservations.client_id", Some(text.span()), &message)
        })
    }

    fn domain(&self, text: &Spanned<String>) -> Result<String, ConfigError> {
        let name = text.get_ref().trim_end_matches('.');
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
        };
        match name.len() <= 253 && name.split('.').all(is_label) {
            true => Ok(name.to_owned()),
            false => Err(self.error("dhcp.subnets", Some(text.span()), &format!("{name:?} is no domain name"))),
        }
    }
}

#[cfg(test)]
#[path = "tests/dhcp.rs"]
mod tests;
