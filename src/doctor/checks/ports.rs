//! Interfaces and ports: whether the server can listen, or does.

use crate::doctor::Finding;

/// A program that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// Name of the program; `None` if only root may know it.
    pub program: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
}

/// A port of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortState {
    /// The port, with its interface or address and its key: `UDP 69 at 10.0.0.2 (tftp.port)`.
    pub port: String,
    /// The programs that have it.
    pub holders: Vec<PortHolder>,
    /// The result of binding it as the server does; `None` while the server runs.
    pub bound: Option<Result<(), String>>,
}

/// Judges the ports. `server` is the process of the running server.
pub fn check_ports(ports: &[PortState], server: Option<u32>) -> Vec<Finding> {
    ports.iter().filter_map(|port| check_port(port, server)).collect()
}

fn check_port(state: &PortState, server: Option<u32>) -> Option<Finding> {
    const STOP: &str = "stop that program, or give one of the two another port or interface";
    let others: Vec<_> = state.holders.iter().filter(|holder| server.is_none() || holder.pid != server).collect();
    match (&state.bound, server) {
        (Some(Ok(())), _) | (None, None) => None,
        (Some(Err(error)), _) if others.is_empty() => {
            let remedy = "start the server as root, and see the error of its start";
            Some(Finding::error("port_refused", &state.port, format!("the port cannot be bound: {error}"), remedy))
        }
        (Some(Err(_)), _) => {
            let seen = format!("the port is taken by {}: the server cannot start", names(&others));
            Some(Finding::error("port_taken", &state.port, seen, STOP))
        }
        (None, Some(pid)) if state.holders.iter().any(|holder| holder.pid == Some(pid)) => None,
        (None, Some(_)) if others.iter().any(|holder| holder.pid.is_none()) => None,
        (None, Some(_)) if others.is_empty() => {
            let seen = "the server runs and does not listen there: its configuration has changed since its start";
            Some(Finding::error("port_not_listening", &state.port, seen, "restart the server"))
        }
        (None, Some(_)) => {
            let seen = format!("the server runs and does not listen there: the port is taken by {}", names(&others));
            Some(Finding::error("port_taken", &state.port, seen, STOP))
        }
    }
}

fn names(holders: &[&PortHolder]) -> String {
    let name = |holder: &&PortHolder| match (&holder.program, holder.pid) {
        (Some(program), Some(pid)) => format!("{program} (process {pid})"),
        (Some(program), None) => program.clone(),
        (None, _) => "a program that only root may know".to_owned(),
    };
    let mut names: Vec<String> = holders.iter().map(name).collect();
    names.dedup();
    names.join(", ")
}

/// An interface of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceState {
    /// Name of the interface.
    pub name: String,
    /// Whether it exists.
    pub exists: bool,
    /// Whether it is up, and has a carrier.
    pub is_up: bool,
    /// Whether it has the configured address, or any.
    pub has_address: bool,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
}

/// Judges the interfaces.
pub fn check_interfaces(interfaces: &[InterfaceState]) -> Vec<Finding> {
    let check = |one: &InterfaceState| {
        if let Some(bridge) = &one.bridge {
            let seen = format!("it is a port of the bridge {bridge}, which gets the machines' packets in its place");
            let remedy = format!("set `interface` to {bridge}, and give that the address");
            return Some(Finding::error("interface_in_bridge", &one.name, seen, &remedy));
        }
        let (code, seen, remedy) = match (one.exists, one.has_address, one.is_up) {
            (false, ..) => {
                ("interface_missing", "there is no such interface", "correct `interface`, or add the interface")
            }
            (true, false, _) => (
                "interface_without_address",
                "the interface does not have the configured address, or no IPv4 address at all",
                "give it an address, or correct `address`",
            ),
            (true, true, false) => {
                ("interface_down", "the interface is down, or has no carrier", "set it up, and look at its cable")
            }
            (true, true, true) => return None,
        };
        Some(Finding::error(code, &one.name, seen, remedy))
    };
    interfaces.iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(program: &str, pid: u32) -> PortHolder {
        PortHolder { program: Some(program.to_owned()), pid: Some(pid) }
    }

    #[test]
    fn a_port_is_free_ours_or_somebody_elses() {
        let hidden = PortHolder { program: None, pid: None };
        let taken = || Some(Err("Address already in use".to_owned()));
        let rows = [
            (vec![], Some(Ok(())), None, None),
            // dnsmasq on another interface: the port can be bound all the same.
            (vec![holder("dnsmasq", 7)], Some(Ok(())), None, None),
            (vec![holder("dnsmasq", 7)], taken(), None, Some(("port_taken", "dnsmasq (process 7)"))),
            (vec![hidden.clone()], taken(), None, Some(("port_taken", "only root"))),
            (vec![], Some(Err("Permission denied".to_owned())), None, Some(("port_refused", "Permission denied"))),
            (vec![holder("bootlatch", 5)], None, Some(5), None),
            (vec![hidden], None, Some(5), None),
            (vec![], None, Some(5), Some(("port_not_listening", "does not listen"))),
            (vec![holder("nginx", 9)], None, Some(5), Some(("port_taken", "nginx (process 9)"))),
        ];
        for (holders, bound, server, expected) in rows {
            let port = PortState { port: "TCP 80 (http_port)".to_owned(), holders, bound };
            let found = check_ports(std::slice::from_ref(&port), server);
            let got = found.first().map(|finding| (finding.code, finding.seen.as_str()));
            match expected {
                None => assert_eq!(got, None, "{port:?}"),
                Some((code, words)) => {
                    assert!(
                        got.is_some_and(|(found, seen)| found == code && seen.contains(words)),
                        "{port:?}: {got:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_interface_needs_an_address_and_a_carrier() {
        let rows = [
            (true, true, true, None, None),
            (false, false, false, None, Some("interface_missing")),
            (true, true, false, None, Some("interface_without_address")),
            (true, false, true, None, Some("interface_down")),
            (true, true, true, Some("br0"), Some("interface_in_bridge")),
        ];
        for (exists, is_up, has_address, bridge, expected) in rows {
            let bridge = bridge.map(str::to_owned);
            let interface = InterfaceState { name: "eth1".to_owned(), exists, is_up, has_address, bridge };
            let found = check_interfaces(&[interface]);
            assert_eq!(found.first().map(|finding| finding.code), expected);
        }
    }
}
