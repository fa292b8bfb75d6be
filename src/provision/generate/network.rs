//! The network of a cloud-init request, as network config version 2.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::FieldError;
use super::body::{display_value, field_error, parse_domain};
use crate::fleet;

/// Maximum length of an interface name, in octets (IFNAMSIZ without the terminator).
const MAX_INTERFACE_NAME_LENGTH: usize = 15;

/// Network configuration of a machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The machine's network interfaces.
    #[schemars(length(min = 1))]
    interfaces: Vec<Interface>,
}

/// A network interface.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Interface {
    /// Name of the interface, as in eth0.
    name: String,
    /// IP addresses with prefix length, as in 10.1.107.11/24; DHCP without any.
    #[serde(default)]
    addresses: Vec<String>,
    /// Router of the default route.
    gateway: Option<String>,
    /// IP addresses of name servers.
    #[serde(default)]
    nameservers: Vec<String>,
    /// Domains that names without a dot are looked up in.
    #[serde(default)]
    search: Vec<String>,
}

/// The names, addresses and default routes of the preceding interfaces. None may occur twice.
#[derive(Default)]
struct AssignedValues {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// Whether there is a default route, for IPv4 and for IPv6.
    routes: [bool; 2],
}

/// Returns cloud-init's network config, version 2 (netplan). An interface without addresses uses DHCP.
///
/// # Errors
/// Returns the first invalid field.
pub fn network(network: &Network) -> Result<Value, FieldError> {
    if network.interfaces.is_empty() {
        return Err(field_error("network.interfaces", "no interfaces: add one, or remove network"));
    }
    let mut assigned = AssignedValues::default();
    let mut ethernets = Map::new();
    for (index, interface) in network.interfaces.iter().enumerate() {
        let field = format!("network.interfaces[{index}]");
        ethernets.insert(interface.name.clone(), interface.to_config(&field, &mut assigned)?);
    }
    Ok(json!({"version": 2, "ethernets": ethernets}))
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
        Self { interfaces: vec![Interface { name: name.to_owned(), addresses, gateway, nameservers, search }] }
    }
}

impl Interface {
    fn to_config(&self, field: &str, assigned: &mut AssignedValues) -> Result<Value, FieldError> {
        check_name(&format!("{field}.name"), &self.name)?;
        if !assigned.names.insert(self.name.clone()) {
            return Err(field_error(format!("{field}.name"), format!("duplicate interface {}", self.name)));
        }
        let mut nets = Vec::new();
        for (index, text) in self.addresses.iter().enumerate() {
            let field = format!("{field}.addresses[{index}]");
            let net = parse_address(&field, text)?;
            if !assigned.addresses.insert(net.addr()) {
                return Err(field_error(field, format!("duplicate address {}", net.addr())));
            }
            nets.push(net);
        }
        let mut config = Map::new();
        match nets.is_empty() {
            true => drop(config.insert("dhcp4".into(), true.into())),
            false => {
                let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
                config.insert("addresses".into(), json!(nets));
            }
        }
        if let Some(text) = &self.gateway {
            let field = format!("{field}.gateway");
            let gateway = parse_gateway(&field, text, &nets)?;
            if std::mem::replace(&mut assigned.routes[usize::from(gateway.is_ipv6())], true) {
                return Err(field_error(
                    field,
                    "duplicate default route: another interface has a gateway of the same address family",
                ));
            }
            // cloud-init 22.4 (Debian 12) does not support `to: default`, and treats `::/0` as a /64.
            let via = gateway.to_string();
            match gateway {
                IpAddr::V4(_) => config.insert("routes".into(), json!([{"to": "0.0.0.0/0", "via": via}])),
                IpAddr::V6(_) => config.insert("gateway6".into(), via.into()),
            };
        }
        if let Some(nameservers) = self.nameservers(field)? {
            config.insert("nameservers".into(), nameservers);
        }
        Ok(Value::Object(config))
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
}
