use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::fleet;

use super::super::Fault;
use super::body::{fault, said};

/// Bounds an interface's name (IFNAMSIZ, without its end).
const INTERFACE_NAME: usize = 15;

/// Is the `network` of a body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    interfaces: Vec<Interface>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interface {
    name: String,
    #[serde(default)]
    addresses: Vec<String>,
    gateway: Option<String>,
    #[serde(default)]
    nameservers: Vec<String>,
}

/// Is what the interfaces before one have: each address, name and default route is there once.
#[derive(Default)]
struct Taken {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// Says whether there is a default route, of IPv4 and of IPv6.
    routes: [bool; 2],
}

/// Writes cloud-init's network config, version 2 (netplan's form). An interface without an address asks DHCP.
pub fn network(network: &Network) -> Result<Value, Fault> {
    if network.interfaces.is_empty() {
        return Err(fault("network.interfaces", "no interface: name one, or leave network out"));
    }
    let mut taken = Taken::default();
    let mut ethernets = Map::new();
    for (index, interface) in network.interfaces.iter().enumerate() {
        let field = format!("network.interfaces[{index}]");
        ethernets.insert(interface.name.clone(), interface.write(&field, &mut taken)?);
    }
    Ok(json!({"version": 2, "ethernets": ethernets}))
}

impl Interface {
    fn write(&self, field: &str, taken: &mut Taken) -> Result<Value, Fault> {
        check_name(&format!("{field}.name"), &self.name)?;
        if !taken.names.insert(self.name.clone()) {
            return Err(fault(format!("{field}.name"), format!("{} is named twice", self.name)));
        }
        let mut nets = Vec::new();
        for (index, text) in self.addresses.iter().enumerate() {
            let field = format!("{field}.addresses[{index}]");
            let net = address(&field, text)?;
            if !taken.addresses.insert(net.addr()) {
                return Err(fault(field, format!("{} is given twice", net.addr())));
            }
            nets.push(net);
        }
        let mut written = Map::new();
        match nets.is_empty() {
            true => drop(written.insert("dhcp4".into(), true.into())),
            false => {
                let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
                written.insert("addresses".into(), json!(nets));
            }
        }
        if let Some(text) = &self.gateway {
            let field = format!("{field}.gateway");
            let gateway = gateway(&field, text, &nets)?;
            if std::mem::replace(&mut taken.routes[usize::from(gateway.is_ipv6())], true) {
                return Err(fault(field, "another interface has the default route already"));
            }
            // cloud-init 22.4 (Debian 12's) reads no `to: default`, and takes `::/0` for a network of 64 bits.
            let via = gateway.to_string();
            match gateway {
                IpAddr::V4(_) => written.insert("routes".into(), json!([{"to": "0.0.0.0/0", "via": via}])),
                IpAddr::V6(_) => written.insert("gateway6".into(), via.into()),
            };
        }
        if !self.nameservers.is_empty() {
            let servers = self.nameservers.iter().enumerate().map(|(index, text)| {
                let field = format!("{field}.nameservers[{index}]");
                let server = host(&field, text)?;
                match server.is_unspecified() || server.is_multicast() {
                    true => Err(fault(field, format!("{server} is no machine's address"))),
                    false => Ok(server.to_string()),
                }
            });
            let servers = servers.collect::<Result<Vec<String>, Fault>>()?;
            written.insert("nameservers".into(), json!({"addresses": servers}));
        }
        Ok(Value::Object(written))
    }
}

fn check_name(field: &str, name: &str) -> Result<(), Fault> {
    let fits = (1..=INTERFACE_NAME).contains(&name.len())
        && name.starts_with(|sign: char| sign.is_ascii_alphanumeric())
        && name.chars().all(|sign| sign.is_ascii_alphanumeric() || "._-".contains(sign));
    match fits && name != "lo" {
        true => Ok(()),
        false => Err(fault(field, format!("{} is no network interface's name, as in eth0", said(name)))),
    }
}

fn address(field: &str, text: &str) -> Result<IpNet, Fault> {
    let form =
        || fault(field, format!("{} is no address with its network: ADDRESS/LENGTH, as in 10.1.107.11/24", said(text)));
    let net: IpNet = text.parse().map_err(|_| form())?;
    let address = net.addr();
    if let Some(why) = fleet::rejection_reason(address) {
        return Err(fault(field, format!("{address} {why}")));
    }
    // Networks of one or two addresses have no address of their own, nor one for all (RFC 3021).
    let is_wide = net.prefix_len() + 1 < net.max_prefix_len();
    let is_none = match net {
        IpNet::V4(net) => is_wide && (net.network() == net.addr() || net.broadcast() == net.addr()),
        // The lowest is the routers' (RFC 4291, section 2.6.1).
        IpNet::V6(net) => is_wide && net.network() == net.addr(),
    };
    match is_none {
        true => Err(fault(field, format!("{address} is the network's own, or the one for all in it: {net}"))),
        false => Ok(net),
    }
}

fn host(field: &str, text: &str) -> Result<IpAddr, Fault> {
    fleet::address(text).map_err(|_| fault(field, format!("{} is no IP address", said(text))))
}

fn gateway(field: &str, text: &str, nets: &[IpNet]) -> Result<IpAddr, Fault> {
    let gateway = host(field, text)?;
    if nets.is_empty() {
        return Err(fault(field, "an interface without addresses is told its gateway by DHCP"));
    }
    let is_link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
    if !is_link_local && !nets.iter().any(|net| net.contains(&gateway)) {
        return Err(fault(field, format!("{gateway} is in none of the interface's networks")));
    }
    match nets.iter().any(|net| net.addr() == gateway) {
        true => Err(fault(field, format!("{gateway} is the interface's own address"))),
        false => Ok(gateway),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(interfaces: Value) -> Result<Value, Fault> {
        network(&serde_json::from_value(json!({"interfaces": interfaces})).unwrap())
    }

    #[test]
    fn an_interface_has_what_it_is_given_or_asks() {
        let found = written(json!([
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
    fn what_no_network_can_have_is_refused() {
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
            assert_eq!(written(interfaces.clone()).unwrap_err().field, field, "{interfaces}");
        }
    }
}
