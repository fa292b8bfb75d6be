//! The interfaces, and the settings of DHCP and ProxyDHCP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use toml::Spanned;

use crate::boot::ProgramOverride;
use crate::fleet::{HostMatch, LeaseTimes, Mac, Reservation, Reserved, Subnet};

use super::{ConfigError, Flags, Raw, Validator};

/// Maximum number of addresses in all pools together. A lease takes about 200 octets of memory.
const MAX_ADDRESSES: u64 = 1 << 20;

/// A network interface that machines are answered on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpInterface {
    /// Name of the interface, as in `eth1`.
    pub name: String,
    /// Address at which its machines reach this server. Default: the first of the interface.
    pub address: Option<IpAddr>,
    /// Address that its machines are told instead, as that of a NAT in front of this machine.
    pub advertise: Option<Ipv4Addr>,
    /// The DHCP role of this server there.
    pub mode: DhcpMode,
}

/// The message that tells PXE firmware its boot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootFileIn {
    /// In the DHCPOFFER.
    Offer,
    /// In the reply on port 4011, where the firmware asks a second time.
    #[serde(rename = "4011")]
    Port4011,
}

/// Settings of DHCP and ProxyDHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp {
    /// UDP port of DHCP.
    pub port: u16,
    /// UDP port on which PXE firmware asks for its boot file.
    pub proxy_port: u16,
    /// Subnets in which server mode leases addresses.
    pub subnets: Vec<Subnet>,
    /// Relays that are believed whatever giaddr they write. Any other relay is believed if it sends from its giaddr.
    pub relays: Vec<IpNet>,
    /// Whether server mode refuses requests (DHCPNAK). False if another DHCP server is on the network.
    pub authoritative: bool,
    /// Whether server mode probes for conflicts before it offers an address.
    pub conflict_check: bool,
    /// The action when another boot server answers.
    pub on_other_server: OnOtherServer,
    /// Interval between checks for another boot server.
    pub other_server_check_interval: Duration,
    /// Whether to answer the IPv6 router solicitation of a booting iPXE, so that it does not wait for a router.
    pub shorten_router_wait: bool,
    /// How the DHCP ports are read in proxy mode.
    pub socket: DhcpSocket,
    /// The role of this server on an interface that does not name another one.
    pub mode: DhcpMode,
}

/// How the DHCP ports are read in proxy mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpSocket {
    /// By a UDP socket, or by a packet socket if another program has the port.
    Auto,
    /// By a UDP socket, which has the port to itself.
    Udp,
    /// By a packet socket, which leaves the port to another program.
    Packet,
}

/// The DHCP role of this server on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpMode {
    /// ProxyDHCP: names the boot file alongside another DHCP server.
    Proxy,
    /// DHCP server: leases addresses too. No other DHCP server may be on the network.
    Server,
    /// No DHCP: another DHCP server names the boot file.
    Off,
}

/// The action on an interface on which another boot server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOtherServer {
    /// Report it (event, metric, log) and keep answering.
    Warn,
    /// Stop answering for as long as the other server is there.
    StandDown,
}

/// `[[interfaces]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInterface {
    pub name: Spanned<String>,
    pub address: Option<Spanned<String>>,
    pub advertise: Option<Spanned<String>>,
    pub mode: Option<DhcpMode>,
}

/// `[[overrides]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOverride {
    pub mac: Option<Spanned<String>>,
    pub uuid: Option<Spanned<String>>,
    pub program: Option<Spanned<String>>,
    #[serde(default)]
    pub also_for_ipxe: bool,
    pub boot_file_in: Option<BootFileIn>,
}

/// `[dhcp]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDhcp {
    pub mode: Option<DhcpMode>,
    pub port: Option<u16>,
    pub proxy_port: Option<u16>,
    pub shorten_router_wait: Option<bool>,
    pub socket: Option<DhcpSocket>,
    pub relays: Vec<Spanned<String>>,
    pub authoritative: Option<bool>,
    pub conflict_check: Option<bool>,
    pub on_other_server: Option<OnOtherServer>,
    pub other_server_check_interval: Option<Spanned<String>>,
    pub subnets: Vec<RawSubnet>,
}

/// `[[dhcp.subnets]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSubnet {
    subnet: Spanned<Ipv4Net>,
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
    lease_time: Option<Spanned<String>>,
    renew_time: Option<Spanned<String>>,
    rebind_time: Option<Spanned<String>>,
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
    /// Returns the interfaces of `interface` and of `[[interfaces]]`.
    pub(super) fn interfaces(&self, flags: &Flags, raw: &Raw) -> Result<Vec<DhcpInterface>, ConfigError> {
        let usual = raw.dhcp.mode.unwrap_or(DhcpMode::Proxy);
        let one = self.choose("interface", flags.interface.as_deref(), raw.interface.as_ref())?;
        let address = self.choose("address", flags.address.as_deref(), raw.address.as_ref())?;
        let span = raw.address.as_ref().map(Spanned::span);
        let mut found = Vec::new();
        let advertise = raw.advertise.as_ref().map(|text| self.advertised("advertise", text)).transpose()?;
        if let Some(name) = one {
            let address = self.ipv4("address", span, address)?;
            found.push(DhcpInterface { name, address, advertise, mode: usual });
        } else if address.is_some() {
            return Err(self.error("address", span, "an address needs its interface: set `interface` too"));
        }
        // `--interface` replaces the list of the file.
        let listed = if flags.interface.is_some() { &[][..] } else { &raw.interfaces };
        for listed in listed {
            let span = listed.address.as_ref().map(Spanned::span);
            let address = listed.address.as_ref().map(|text| self.read("interfaces.address", text)).transpose()?;
            let address = self.ipv4("interfaces.address", span, address)?;
            let name = listed.name.get_ref().clone();
            if found.iter().any(|found: &DhcpInterface| found.name == name) {
                return Err(self.error(
                    "interfaces.name",
                    Some(listed.name.span()),
                    &format!("{name} is listed twice"),
                ));
            }
            let own =
                listed.advertise.as_ref().map(|text| self.advertised("interfaces.advertise", text)).transpose()?;
            let (advertise, mode) = (own.or(advertise), listed.mode.unwrap_or(usual));
            found.push(DhcpInterface { name, address, advertise, mode });
        }
        if let (true, Some(text)) = (found.is_empty(), &raw.advertise) {
            let message = "an advertised address needs its interface: set `interface` too";
            return Err(self.error("advertise", Some(text.span()), message));
        }
        Ok(found)
    }

    /// Refuses server mode without a subnet: such a server would give no machine an address.
    pub(super) fn leased_subnets(&self, raw: &Raw, interfaces: &[DhcpInterface]) -> Result<(), ConfigError> {
        let served = interfaces.iter().find(|interface| interface.mode == DhcpMode::Server);
        let Some(served) = served.filter(|_| raw.dhcp.subnets.is_empty()) else { return Ok(()) };
        let message = format!(
            "mode = \"server\" of {} has no addresses to give: add [[dhcp.subnets]] with subnet and pools (or              reservations), or set mode = \"proxy\"",
            served.name
        );
        Err(self.error("dhcp.subnets", None, &message))
    }

    /// Parses an address that machines are told.
    fn advertised(&self, key: &str, text: &Spanned<String>) -> Result<Ipv4Addr, ConfigError> {
        let address: Ipv4Addr = self.read(key, text)?;
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast() {
            let message = format!("{address} is not an address that machines reach");
            return Err(self.error(key, Some(text.span()), &message));
        }
        Ok(address)
    }

    fn ipv4(
        &self,
        key: &str,
        span: Option<std::ops::Range<usize>>,
        address: Option<IpAddr>,
    ) -> Result<Option<IpAddr>, ConfigError> {
        match address {
            Some(IpAddr::V6(address)) => {
                Err(self.error(key, span, &format!("{address} is not an IPv4 address, which DHCP needs")))
            }
            address => Ok(address),
        }
    }

    #[expect(clippy::type_complexity, reason = "two lists from one; the caller names them")]
    pub(super) fn overrides(
        &self,
        raw: &[RawOverride],
    ) -> Result<(Vec<ProgramOverride>, Vec<(HostMatch, BootFileIn)>), ConfigError> {
        let (mut programs, mut boot_file_in) = (Vec::new(), Vec::new());
        for raw in raw {
            let who = match (&raw.mac, &raw.uuid) {
                (Some(mac), None) => HostMatch::MacPrefix(self.mac_prefix("overrides.mac", mac)?),
                (None, Some(uuid)) => HostMatch::Uuid(self.read("overrides.uuid", uuid)?),
                (Some(both), Some(_)) => {
                    return Err(self.error("overrides", Some(both.span()), "set mac or uuid, not both"));
                }
                (None, None) => return Err(self.error("overrides", None, "set mac or uuid, to name the machines")),
            };
            if let Some(program) = &raw.program {
                let program = self.program("overrides.program", program.span(), program.get_ref())?;
                programs.push(ProgramOverride { who: who.clone(), program, also_for_ipxe: raw.also_for_ipxe });
            }
            boot_file_in.extend(raw.boot_file_in.map(|place| (who, place)));
        }
        Ok((programs, boot_file_in))
    }

    pub(super) fn dhcp(&self, raw: &RawDhcp) -> Result<Dhcp, ConfigError> {
        let subnets = raw.subnets.iter().map(|raw| self.subnet(raw)).collect::<Result<Vec<_>, _>>()?;
        for (place, subnet) in subnets.iter().enumerate() {
            let span = Some(raw.subnets[place].subnet.span());
            let same = |other: &&Subnet| other.net.contains(&subnet.net) || subnet.net.contains(&other.net);
            if let Some(other) = subnets[..place].iter().find(same) {
                let message = format!("{} overlaps {}: subnets must not overlap", subnet.net, other.net);
                return Err(self.error("dhcp.subnets.subnet", span, &message));
            }
        }
        let size = |pool: &RangeInclusive<Ipv4Addr>| u64::from(u32::from(*pool.end()) - u32::from(*pool.start())) + 1;
        let addresses: u64 = subnets.iter().flat_map(|subnet| &subnet.pools).map(size).sum();
        if addresses > MAX_ADDRESSES {
            let message =
                format!("{addresses} addresses in all pools together, more than the maximum of {MAX_ADDRESSES}");
            return Err(self.error("dhcp.subnets.pools", None, &message));
        }
        let interval = self.duration("dhcp.other_server_check_interval", raw.other_server_check_interval.as_ref())?;
        Ok(Dhcp {
            port: raw.port.unwrap_or(67),
            proxy_port: raw.proxy_port.unwrap_or(4011),
            subnets,
            relays: raw
                .relays
                .iter()
                .map(|relay| self.subnet_or_address("dhcp.relays", relay))
                .collect::<Result<_, _>>()?,
            authoritative: raw.authoritative.unwrap_or(true),
            conflict_check: raw.conflict_check.unwrap_or(true),
            on_other_server: raw.on_other_server.unwrap_or(OnOtherServer::Warn),
            other_server_check_interval: interval.unwrap_or(Duration::from_secs(300)),
            shorten_router_wait: raw.shorten_router_wait.unwrap_or(true),
            socket: raw.socket.unwrap_or(DhcpSocket::Auto),
            mode: raw.mode.unwrap_or(DhcpMode::Proxy),
        })
    }

    fn subnet(&self, raw: &RawSubnet) -> Result<Subnet, ConfigError> {
        let net = raw.subnet.get_ref().trunc();
        let pools = raw.pools.iter().map(|pool| self.pool(net, pool)).collect::<Result<Vec<_>, _>>()?;
        let lease =
            self.duration("dhcp.subnets.lease_time", raw.lease_time.as_ref())?.unwrap_or(Duration::from_secs(3600));
        let usual = LeaseTimes::of(lease);
        let times = LeaseTimes {
            lease,
            renew: self.duration("dhcp.subnets.renew_time", raw.renew_time.as_ref())?.unwrap_or(usual.renew),
            rebind: self.duration("dhcp.subnets.rebind_time", raw.rebind_time.as_ref())?.unwrap_or(usual.rebind),
        };
        if times.renew >= times.rebind || times.rebind >= times.lease {
            let span =
                [&raw.renew_time, &raw.rebind_time, &raw.lease_time].into_iter().flatten().next().map(Spanned::span);
            let message = "renew_time must be less than rebind_time, and rebind_time less than lease_time (RFC 2131, section 4.4.5)";
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
            return Err(wrong(&format!(
                "{:?} is not a range: expected two addresses, as in 10.0.0.100-10.0.0.199",
                text.get_ref()
            )));
        };
        let is_for_hosts = |address: &Ipv4Addr| {
            net.contains(address)
                && (net.prefix_len() > 30 || (*address != net.network() && *address != net.broadcast()))
        };
        match (first <= last, is_for_hosts(&first) && is_for_hosts(&last)) {
            (true, true) => Ok(first..=last),
            (false, _) => Err(wrong(&format!("{first}-{last}: the first address is after the last"))),
            (true, false) => Err(wrong(&format!("{first}-{last}: not all of these are host addresses of {net}"))),
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
                    let message = "set mac or client_id, not both, to name the client";
                    return Err(self.error("dhcp.subnets.reservations", span, message));
                }
            };
            if !net.contains(&address) {
                let message = format!("{address} is not in {net}");
                return Err(self.error("dhcp.subnets.reservations.address", span, &message));
            }
            if found.insert(address, ()).is_some() {
                let message = format!("{address} is reserved for two clients");
                return Err(self.error("dhcp.subnets.reservations.address", span, &message));
            }
            Ok(Reservation { who, address, hostname: raw.hostname.clone() })
        };
        raw.iter().map(read).collect()
    }

    /// Parses option 61 as tools show it: octets in hexadecimal, the type first.
    fn client_id(&self, text: &Spanned<String>) -> Result<Box<[u8]>, ConfigError> {
        let digits: String = text.get_ref().chars().filter(|digit| !matches!(digit, ':' | '-' | ' ')).collect();
        let octet = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let octets: Option<Box<[u8]>> = digits.as_bytes().chunks(2).map(octet).collect();
        octets.filter(|octets| digits.len().is_multiple_of(2) && (2..=255).contains(&octets.len())).ok_or_else(|| {
            let message =
                format!("{:?} is not a client identifier: expected 2 to 255 octets in hexadecimal", text.get_ref());
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
            false => Err(self.error("dhcp.subnets", Some(text.span()), &format!("{name:?} is not a domain name"))),
        }
    }
}

#[cfg(test)]
#[path = "tests/dhcp.rs"]
mod tests;
