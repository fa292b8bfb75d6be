//! The network of a cloud-init request, as network config version 2.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::FieldError;
use super::body::{display_value, field_error, parse_domain};
use super::link::{Bond, Vlan};
use crate::fleet;

/// Maximum length of an interface name, in octets (IFNAMSIZ without the terminator).
const MAX_INTERFACE_NAME_LENGTH: usize = 15;
/// Minimum MTU, in octets: of IPv4 (RFC 791), and of an interface with an IPv6 address (RFC 8200).
const MIN_MTU: [u16; 2] = [68, 1280];

/// MTU of an interface without one, in octets.
const DEFAULT_MTU: u16 = 1500;

/// Network configuration of a machine: interfaces, or nothing that cloud-init configures.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// disabled: cloud-init leaves the network as it is, for a root file system that is on the network.
    #[schemars(extend("enum" = ["disabled", null]))]
    config: Option<String>,
    /// The machine's network interfaces, with its bonds and VLANs.
    #[serde(default)]
    interfaces: Vec<Interface>,
}

/// A network interface.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Interface {
    /// Name of the interface, as in eth0.
    name: String,
    /// What it consists of, if it is a bond.
    bond: Option<Bond>,
    /// What it belongs to, if it is a VLAN.
    vlan: Option<Vlan>,
    /// IP addresses with prefix length, as in 10.1.107.11/24.
    #[serde(default)]
    addresses: Vec<String>,
    /// Whether it gets an IPv4 address by DHCP. By default it does if it has no addresses, and is not in a bond.
    dhcp: Option<bool>,
    /// Router of the default route.
    gateway: Option<String>,
    /// More routes.
    #[serde(default)]
    routes: Vec<Route>,
    /// IP addresses of name servers.
    #[serde(default)]
    nameservers: Vec<String>,
    /// Domains that names without a dot are looked up in.
    #[serde(default)]
    search: Vec<String>,
    /// Largest packet, in octets.
    #[schemars(range(min = 68, max = 65535))]
    mtu: Option<u16>,
}

/// A route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Route {
    /// The network that it leads to, as in 10.2.0.0/16.
    to: String,
    /// The router.
    via: String,
    /// Priority: the route with the lowest one is taken.
    metric: Option<u32>,
}

/// The names, addresses and default routes of the preceding interfaces. None may occur twice.
#[derive(Default)]
struct AssignedValues {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// Whether there is a default route, for IPv4 and for IPv6.
    routes: [bool; 2],
}

/// Returns cloud-init's network config: version 2 (netplan), or none. An interface without addresses uses DHCP.
///
/// # Errors
/// Returns the first invalid field.
pub fn network(network: &Network) -> Result<Value, FieldError> {
    if let Some(config) = &network.config {
        return match (config.as_str(), network.interfaces.is_empty()) {
            ("disabled", true) => Ok(json!({"network": {"config": "disabled"}})),
            ("disabled", false) => Err(field_error("network.config", "disabled, but there are interfaces: remove one")),
            _ => Err(field_error("network.config", format!("{}: expected disabled", display_value(config)))),
        };
    }
    if network.interfaces.is_empty() {
        return Err(field_error("network.interfaces", "no interfaces: add one, or remove network"));
    }
    let members = check_links(&network.interfaces)?;
    let mut assigned = AssignedValues::default();
    let mut groups: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (index, interface) in network.interfaces.iter().enumerate() {
        let field = format!("network.interfaces[{index}]");
        let config = interface.to_config(&field, members.contains_key(interface.name.as_str()), &mut assigned)?;
        groups.entry(interface.group()).or_default().insert(interface.name.clone(), config);
    }
    let mut config = Map::from_iter([("version".to_owned(), json!(2))]);
    config.extend(groups.into_iter().map(|(group, interfaces)| (group.to_owned(), interfaces.into())));
    Ok(config.into())
}

/// Checks what bonds and VLANs refer to. Returns the bond of each interface that is in one.
fn check_links(interfaces: &[Interface]) -> Result<BTreeMap<&str, &str>, FieldError> {
    let by_name: BTreeMap<&str, &Interface> = interfaces.iter().map(|one| (one.name.as_str(), one)).collect();
    let mut members = BTreeMap::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let field = format!("network.interfaces[{index}]");
        let unknown = |field: String, name: &str| {
            field_error(field, format!("no interface {} in network.interfaces", display_value(name)))
        };
        if let (Some(_), Some(_)) = (&interface.bond, &interface.vlan) {
            return Err(field_error(
                format!("{field}.vlan"),
                "not allowed with bond: a VLAN is an interface of its own",
            ));
        }
        if let Some(bond) = &interface.bond {
            if bond.interfaces.is_empty() {
                return Err(field_error(format!("{field}.bond.interfaces"), "no interfaces: add one"));
            }
            for (index, name) in bond.interfaces.iter().enumerate() {
                let field = format!("{field}.bond.interfaces[{index}]");
                match by_name.get(name.as_str()) {
                    None => return Err(unknown(field, name)),
                    Some(member) if member.bond.is_some() || member.vlan.is_some() => {
                        return Err(field_error(field, format!("{name} is a bond or a VLAN: expected an interface")));
                    }
                    Some(_) if members.insert(name.as_str(), interface.name.as_str()).is_some() => {
                        return Err(field_error(field, format!("{name} is in a bond already")));
                    }
                    Some(_) => {}
                }
            }
        }
        if let Some(vlan) = &interface.vlan {
            let field = format!("{field}.vlan.link");
            match by_name.get(vlan.link.as_str()) {
                None => return Err(unknown(field, &vlan.link)),
                Some(link) if link.vlan.is_some() => {
                    return Err(field_error(
                        field,
                        format!("{} is a VLAN: expected an interface or a bond", vlan.link),
                    ));
                }
                Some(link) => {
                    let below = link.mtu.unwrap_or(DEFAULT_MTU);
                    // The kernel refuses it.
                    if let Some(above) = interface.mtu.filter(|above| *above > below) {
                        let name = &vlan.link;
                        return Err(field_error(
                            field,
                            format!("the MTU of {name} is {below}: expected at least {above}"),
                        ));
                    }
                }
            }
        }
    }
    Ok(members)
}

impl Network {
    /// Returns the network of one interface, with an address or with DHCP. The domain goes along with name servers.
    pub fn single(
        name: &str,
        address: Option<String>,
        gateway: Option<String>,
        nameservers: Vec<String>,
        domain: Option<String>,
    ) -> Self {
        let search = domain.into_iter().filter(|_| !nameservers.is_empty()).collect();
        let addresses = address.into_iter().collect();
        let interface =
            Interface { name: name.to_owned(), addresses, gateway, nameservers, search, ..Interface::default() };
        Self { config: None, interfaces: vec![interface] }
    }
}

impl Interface {
    /// Returns the key of the network config that has interfaces of this type.
    fn group(&self) -> &'static str {
        match (&self.bond, &self.vlan) {
            (Some(_), _) => "bonds",
            (None, Some(_)) => "vlans",
            (None, None) => "ethernets",
        }
    }

    fn to_config(&self, field: &str, is_member: bool, assigned: &mut AssignedValues) -> Result<Value, FieldError> {
        check_name(&format!("{field}.name"), &self.name)?;
        if !assigned.names.insert(self.name.clone()) {
            return Err(field_error(format!("{field}.name"), format!("duplicate interface {}", self.name)));
        }
        let mut config = Map::new();
        if let Some(bond) = &self.bond {
            config.insert("interfaces".into(), json!(bond.interfaces));
            config.insert("parameters".into(), bond.parameters(&format!("{field}.bond"))?);
        }
        if let Some(vlan) = &self.vlan {
            config.insert("id".into(), vlan.id(&format!("{field}.vlan"))?.into());
            config.insert("link".into(), vlan.link.as_str().into());
        }
        let nets = self.addresses(field, assigned)?;
        self.check_mtu(field, &nets)?;
        config.extend(self.mtu.map(|mtu| ("mtu".to_owned(), mtu.into())));
        if is_member {
            self.check_member(field)?;
            return Ok(config.into());
        }
        let uses_dhcp = self.dhcp.unwrap_or(nets.is_empty());
        if uses_dhcp {
            config.insert("dhcp4".into(), true.into());
        }
        if !nets.is_empty() {
            let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
            config.insert("addresses".into(), json!(nets));
        }
        self.add_routes(field, &nets, uses_dhcp, assigned, &mut config)?;
        if let Some(nameservers) = self.nameservers(field)? {
            config.insert("nameservers".into(), nameservers);
        }
        Ok(config.into())
    }

    /// Checks that an interface in a bond has no settings that belong to the bond.
    fn check_member(&self, field: &str) -> Result<(), FieldError> {
        let settings = [
            ("addresses", !self.addresses.is_empty()),
            ("dhcp", self.dhcp == Some(true)),
            ("gateway", self.gateway.is_some()),
            ("routes", !self.routes.is_empty()),
            ("nameservers", !self.nameservers.is_empty()),
            ("search", !self.search.is_empty()),
        ];
        match settings.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(field_error(format!("{field}.{name}"), "not allowed: the interface is in a bond")),
            None => Ok(()),
        }
    }

    /// Returns the addresses of the interface.
    fn addresses(&self, field: &str, assigned: &mut AssignedValues) -> Result<Vec<IpNet>, FieldError> {
        let mut nets = Vec::new();
        for (index, text) in self.addresses.iter().enumerate() {
            let field = format!("{field}.addresses[{index}]");
            let net = parse_address(&field, text)?;
            if !assigned.addresses.insert(net.addr()) {
                return Err(field_error(field, format!("duplicate address {}", net.addr())));
            }
            nets.push(net);
        }
        Ok(nets)
    }

    fn check_mtu(&self, field: &str, nets: &[IpNet]) -> Result<(), FieldError> {
        let has_ipv6 = nets.iter().any(|net| matches!(net, IpNet::V6(_)));
        let least = MIN_MTU[usize::from(has_ipv6)];
        match self.mtu {
            Some(mtu) if mtu < least => {
                Err(field_error(format!("{field}.mtu"), format!("{mtu}: expected at least {least}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Adds the default route and the other routes.
    fn add_routes(
        &self,
        field: &str,
        nets: &[IpNet],
        uses_dhcp: bool,
        assigned: &mut AssignedValues,
        config: &mut Map<String, Value>,
    ) -> Result<(), FieldError> {
        let mut routes: Vec<Value> = Vec::new();
        if let Some(text) = &self.gateway {
            let field = format!("{field}.gateway");
            let gateway = parse_gateway(&field, text, nets)?;
            if std::mem::replace(&mut assigned.routes[usize::from(gateway.is_ipv6())], true) {
                return Err(field_error(
                    field,
                    "duplicate default route: another interface has a gateway of the same address family",
                ));
            }
            // cloud-init 22.4 (Debian 12) does not support `to: default`, and treats `::/0` as a /64.
            let via = gateway.to_string();
            match gateway {
                IpAddr::V4(_) => routes.push(json!({"to": "0.0.0.0/0", "via": via})),
                IpAddr::V6(_) => drop(config.insert("gateway6".into(), via.into())),
            }
        }
        for (index, route) in self.routes.iter().enumerate() {
            let field = format!("{field}.routes[{index}]");
            // The networks that DHCP brings are not known here.
            let known = Some(nets).filter(|_| !uses_dhcp);
            routes.push(route.to_config(&field, known)?);
        }
        if !routes.is_empty() {
            config.insert("routes".into(), routes.into());
        }
        Ok(())
    }

    /// Returns the name servers and search domains of the interface, if there are any.
    fn nameservers(&self, field: &str) -> Result<Option<Value>, FieldError> {
        let mut config = Map::new();
        if !self.nameservers.is_empty() {
            let servers = self.nameservers.iter().enumerate().map(|(index, text)| {
                let field = format!("{field}.nameservers[{index}]");
                let server = parse_host(&field, text)?;
                match server.is_unspecified() || server.is_multicast() {
                    true => Err(field_error(field, format!("{server}: expected a unicast address"))),
                    false => Ok(server.to_string()),
                }
            });
            let servers = servers.collect::<Result<Vec<String>, FieldError>>()?;
            config.insert("addresses".into(), json!(servers));
        }
        if !self.search.is_empty() {
            let domains = self.search.iter().enumerate();
            let domains = domains.map(|(index, text)| parse_domain(&format!("{field}.search[{index}]"), text));
            config.insert("search".into(), json!(domains.collect::<Result<Vec<fleet::Name>, FieldError>>()?));
        }
        Ok((!config.is_empty()).then_some(Value::Object(config)))
    }
}

impl Route {
    /// Returns the route in an interface with these networks, if they are known.
    fn to_config(&self, field: &str, nets: Option<&[IpNet]>) -> Result<Value, FieldError> {
        let to = format!("{field}.to");
        let invalid = || {
            let found = display_value(&self.to);
            field_error(
                to.as_str(),
                format!("invalid network {found}: expected ADDRESS/LENGTH, for example 10.2.0.0/16"),
            )
        };
        let net: IpNet = self.to.parse().map_err(|_| invalid())?;
        if net.trunc() != net {
            return Err(field_error(to, format!("{net} has an address of a host: expected {}", net.trunc())));
        }
        if net.prefix_len() == 0 {
            return Err(field_error(to, "the default route: expected it as gateway"));
        }
        let field = format!("{field}.via");
        let via = parse_host(&field, &self.via)?;
        if via.is_ipv4() != net.addr().is_ipv4() {
            return Err(field_error(field, format!("{via} is of another address family than {net}")));
        }
        let is_link_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
        if !is_link_local && nets.is_some_and(|nets| !nets.iter().any(|net| net.contains(&via))) {
            return Err(field_error(field, format!("{via} is outside of the networks of the interface")));
        }
        let mut config = json!({"to": net.to_string(), "via": via.to_string()});
        if let Some(metric) = self.metric {
            config["metric"] = metric.into();
        }
        Ok(config)
    }
}

/// Checks the name of an interface.
fn check_name(field: &str, name: &str) -> Result<(), FieldError> {
    let fits = (1..=MAX_INTERFACE_NAME_LENGTH).contains(&name.len())
        && name.starts_with(|sign: char| sign.is_ascii_alphanumeric())
        && name.chars().all(|sign| sign.is_ascii_alphanumeric() || "._-".contains(sign));
    match fits && name != "lo" {
        true => Ok(()),
        false => Err(field_error(
            field,
            format!(
                "invalid interface name {}: expected 1 to 15 letters, digits and . _ -, for example eth0",
                display_value(name)
            ),
        )),
    }
}

/// Parses an address with its prefix length.
fn parse_address(field: &str, text: &str) -> Result<IpNet, FieldError> {
    let invalid = || {
        field_error(
            field,
            format!("invalid address {}: expected ADDRESS/LENGTH, for example 10.1.107.11/24", display_value(text)),
        )
    };
    let net: IpNet = text.parse().map_err(|_| invalid())?;
    let address = net.addr();
    if let Some(why) = fleet::rejection_reason(address) {
        return Err(field_error(field, format!("{address} {why}")));
    }
    // Networks of one or two addresses have neither a network nor a broadcast address (RFC 3021).
    let is_wide = net.prefix_len() + 1 < net.max_prefix_len();
    let is_reserved = match net {
        IpNet::V4(net) => is_wide && (net.network() == net.addr() || net.broadcast() == net.addr()),
        // The lowest address is the subnet-router anycast address (RFC 4291, section 2.6.1).
        IpNet::V6(net) => is_wide && net.network() == net.addr(),
    };
    match is_reserved {
        true => Err(field_error(field, format!("{address} is the network or broadcast address of {}", net.trunc()))),
        false => Ok(net),
    }
}

/// Parses an IP address.
///
/// # Errors
/// Returns the error of the field.
pub fn parse_host(field: &str, text: &str) -> Result<IpAddr, FieldError> {
    fleet::address(text).map_err(|_| field_error(field, format!("invalid IP address {}", display_value(text))))
}

/// Parses the gateway of an interface with these addresses.
fn parse_gateway(field: &str, text: &str, nets: &[IpNet]) -> Result<IpAddr, FieldError> {
    let gateway = parse_host(field, text)?;
    if nets.is_empty() {
        return Err(field_error(field, "not allowed without addresses: the interface gets its gateway by DHCP"));
    }
    let is_link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
    if !is_link_local && !nets.iter().any(|net| net.contains(&gateway)) {
        return Err(field_error(field, format!("{gateway} is outside of the networks of the interface")));
    }
    match nets.iter().any(|net| net.addr() == gateway) {
        true => Err(field_error(field, format!("{gateway} is an address of the interface itself"))),
        false => Ok(gateway),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(interfaces: Value) -> Result<Value, FieldError> {
        network(&serde_json::from_value(json!({"interfaces": interfaces})).unwrap())
    }

    #[test]
    fn an_interface_is_static_or_uses_dhcp() {
        let found = config_of(json!([
            {"name": "eth0", "addresses": ["10.1.107.11/24", "2001:db8::11/64"], "gateway": "10.1.107.1", "nameservers": ["10.1.107.1"]},
            {"name": "eth1", "addresses": ["2001:db8:1::11/64"], "gateway": "fe80::1"},
            {"name": "eth2", "addresses": ["10.2.0.0/31"]},
            {"name": "eth3"},
        ]));
        let expected = json!({"version": 2, "ethernets": {
            "eth0": {"addresses": ["10.1.107.11/24", "2001:db8::11/64"], "routes": [{"to": "0.0.0.0/0", "via": "10.1.107.1"}],
                     "nameservers": {"addresses": ["10.1.107.1"]}},
            "eth1": {"addresses": ["2001:db8:1::11/64"], "gateway6": "fe80::1"},
            "eth2": {"addresses": ["10.2.0.0/31"]},
            "eth3": {"dhcp4": true},
        }});
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn an_invalid_network_is_refused_by_its_field() {
        let one = |addresses: &str, gateway: Option<&str>| json!([{"name": "eth0", "addresses": [addresses], "gateway": gateway}]);
        let rows = [
            (json!([]), "network.interfaces"),
            (json!([{"name": ""}]), "network.interfaces[0].name"),
            (json!([{"name": "../eth0"}]), "network.interfaces[0].name"),
            (json!([{"name": "a-very-long-name"}]), "network.interfaces[0].name"),
            (json!([{"name": "lo"}]), "network.interfaces[0].name"),
            (json!([{"name": "a"}, {"name": "a"}]), "network.interfaces[1].name"),
            (one("10.1.107.11", None), "network.interfaces[0].addresses[0]"),
            (one("10.1.107.11/33", None), "network.interfaces[0].addresses[0]"),
            (one("10.1.107.0/24", None), "network.interfaces[0].addresses[0]"),
            (one("10.1.107.255/24", None), "network.interfaces[0].addresses[0]"),
            (one("127.0.0.1/8", None), "network.interfaces[0].addresses[0]"),
            (one("ff02::1/64", None), "network.interfaces[0].addresses[0]"),
            (one("10.1.107.11/24", Some("10.1.108.1")), "network.interfaces[0].gateway"),
            (one("10.1.107.11/24", Some("10.1.107.11")), "network.interfaces[0].gateway"),
            (one("10.1.107.11/24", Some("2001:db8::1")), "network.interfaces[0].gateway"),
            (one("10.1.107.11/24", Some("x")), "network.interfaces[0].gateway"),
            (json!([{"name": "a", "gateway": "10.0.0.1"}]), "network.interfaces[0].gateway"),
            (json!([{"name": "a", "nameservers": ["x"]}]), "network.interfaces[0].nameservers[0]"),
            (json!([{"name": "a", "search": ["example.org", "a b"]}]), "network.interfaces[0].search[1]"),
            (
                json!([{"name": "a", "addresses": ["10.0.0.2/24"]}, {"name": "b", "addresses": ["10.0.0.2/24"]}]),
                "network.interfaces[1].addresses[0]",
            ),
            (
                json!([{"name": "a", "addresses": ["10.0.0.2/24"], "gateway": "10.0.0.1"},
                       {"name": "b", "addresses": ["10.0.1.2/24"], "gateway": "10.0.1.1"}]),
                "network.interfaces[1].gateway",
            ),
        ];
        for (interfaces, field) in rows {
            assert_eq!(config_of(interfaces.clone()).unwrap_err().field, field, "{interfaces}");
        }
    }

    #[test]
    fn bonds_vlans_and_routes_are_interfaces_of_their_own() {
        let found = config_of(json!([
            {"name": "eno1"}, {"name": "eno2", "mtu": 9000},
            {"name": "bond0", "bond": {"interfaces": ["eno1", "eno2"], "mode": "802.3ad"}, "mtu": 9000, "dhcp": false},
            {"name": "bond0.10", "vlan": {"id": 10, "link": "bond0"}, "mtu": 1500, "addresses": ["10.0.0.5/24"],
             "routes": [{"to": "10.2.0.0/16", "via": "10.0.0.254", "metric": 50}], "gateway": "10.0.0.1"},
            {"name": "eno3", "addresses": ["10.9.0.5/24"], "dhcp": true, "routes": [{"to": "10.8.0.0/16", "via": "10.7.0.1"}]},
        ]));
        let expected = json!({"version": 2,
            "ethernets": {"eno1": {}, "eno2": {"mtu": 9000},
                          "eno3": {"dhcp4": true, "addresses": ["10.9.0.5/24"], "routes": [{"to": "10.8.0.0/16", "via": "10.7.0.1"}]}},
            "bonds": {"bond0": {"interfaces": ["eno1", "eno2"], "mtu": 9000,
                                "parameters": {"mode": "802.3ad", "mii-monitor-interval": 100}}},
            "vlans": {"bond0.10": {"id": 10, "link": "bond0", "mtu": 1500, "addresses": ["10.0.0.5/24"],
                                   "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"},
                                              {"to": "10.2.0.0/16", "via": "10.0.0.254", "metric": 50}]}},
        });
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn an_invalid_bond_vlan_or_route_is_refused_by_its_field() {
        let bond = |member: Value, bond: Value| json!([member, {"name": "bond0", "bond": bond}]);
        let vlan = |vlan: Value| json!([{"name": "a", "mtu": 1500}, {"name": "v", "vlan": vlan, "mtu": 1500}]);
        let route = |to: &str, via: &str| json!([{"name": "a", "addresses": ["10.0.0.5/24"], "mtu": 1500, "routes": [{"to": to, "via": via}]}]);
        let rows = [
            (bond(json!({"name": "a"}), json!({"interfaces": []})), "network.interfaces[1].bond.interfaces"),
            (bond(json!({"name": "a"}), json!({"interfaces": ["b"]})), "network.interfaces[1].bond.interfaces[0]"),
            (bond(json!({"name": "a"}), json!({"interfaces": ["a", "a"]})), "network.interfaces[1].bond.interfaces[1]"),
            (bond(json!({"name": "a"}), json!({"interfaces": ["bond0"]})), "network.interfaces[1].bond.interfaces[0]"),
            (bond(json!({"name": "a"}), json!({"interfaces": ["a"], "mode": "x"})), "network.interfaces[1].bond.mode"),
            (bond(json!({"name": "a", "dhcp": true}), json!({"interfaces": ["a"]})), "network.interfaces[0].dhcp"),
            (
                bond(json!({"name": "a", "addresses": ["10.0.0.5/24"]}), json!({"interfaces": ["a"]})),
                "network.interfaces[0].addresses",
            ),
            (vlan(json!({"id": 0, "link": "a"})), "network.interfaces[1].vlan.id"),
            (vlan(json!({"id": 4095, "link": "a"})), "network.interfaces[1].vlan.id"),
            (vlan(json!({"id": 1, "link": "b"})), "network.interfaces[1].vlan.link"),
            (vlan(json!({"id": 1, "link": "v"})), "network.interfaces[1].vlan.link"),
            (
                json!([{"name": "a", "mtu": 1400}, {"name": "v", "vlan": {"id": 1, "link": "a"}, "mtu": 1500}]),
                "network.interfaces[1].vlan.link",
            ),
            (
                json!([{"name": "a"}, {"name": "v", "vlan": {"id": 1, "link": "a"}, "mtu": 1501}]),
                "network.interfaces[1].vlan.link",
            ),
            (json!([{"name": "a", "mtu": 67}]), "network.interfaces[0].mtu"),
            (json!([{"name": "a", "addresses": ["2001:db8::5/64"], "mtu": 1279}]), "network.interfaces[0].mtu"),
            (route("10.2.0.1/16", "10.0.0.1"), "network.interfaces[0].routes[0].to"),
            (route("0.0.0.0/0", "10.0.0.1"), "network.interfaces[0].routes[0].to"),
            (route("x", "10.0.0.1"), "network.interfaces[0].routes[0].to"),
            (route("10.2.0.0/16", "10.1.0.1"), "network.interfaces[0].routes[0].via"),
            (route("10.2.0.0/16", "fe80::1"), "network.interfaces[0].routes[0].via"),
        ];
        for (interfaces, field) in rows {
            assert_eq!(config_of(interfaces.clone()).unwrap_err().field, field, "{interfaces}");
        }
    }

    #[test]
    fn cloud_init_leaves_a_disabled_network_as_it_is() {
        let of = |body: Value| network(&serde_json::from_value(body).unwrap()).map_err(|error| error.field);
        assert_eq!(of(json!({"config": "disabled"})), Ok(json!({"network": {"config": "disabled"}})));
        assert_eq!(of(json!({"config": "off"})), Err("network.config".into()));
        assert_eq!(of(json!({"config": "disabled", "interfaces": [{"name": "a"}]})), Err("network.config".into()));
    }
}
