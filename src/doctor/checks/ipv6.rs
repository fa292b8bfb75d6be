//! IPv6 of a segment: routers that send machines to DHCPv6, and DHCPv6 servers.

use std::net::Ipv6Addr;

use crate::doctor::Finding;

/// A router that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRouter {
    /// Its address.
    pub address: Ipv6Addr,
    /// Whether addresses come by DHCPv6 (M flag, RFC 4861 4.2).
    pub is_managed: bool,
    /// Whether other settings come by DHCPv6 (O flag).
    pub has_other_settings: bool,
}

/// A DHCPv6 server that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDhcpv6Server {
    /// Its address.
    pub address: Ipv6Addr,
    /// The boot file that it names (option 59, RFC 5970).
    pub boot_file: Option<String>,
}

/// What answered over IPv6 on a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6State {
    /// Name of the interface.
    pub interface: String,
    /// The routers.
    pub routers: Vec<SeenRouter>,
    /// The DHCPv6 servers.
    pub servers: Vec<SeenDhcpv6Server>,
}

/// Judges the segments.
pub fn check_ipv6(segments: &[Ipv6State]) -> Vec<Finding> {
    segments.iter().flat_map(check_segment).collect()
}

fn check_segment(segment: &Ipv6State) -> Vec<Finding> {
    let interface = &segment.interface;
    let boots = segment.servers.iter().filter_map(|server| Some((server.address, server.boot_file.as_ref()?)));
    let mut found: Vec<Finding> = boots
        .map(|(address, file)| {
            let seen = format!(
                "{address} tells machines over DHCPv6 to boot {file}: firmware that tries IPv6 before IPv4 goes there"
            );
            let remedy = "switch its boot file off (option 59), or IPv4 first in the firmware's boot order";
            Finding::warning("ipv6_boot_server", interface, seen, remedy)
        })
        .collect();
    if segment.servers.is_empty()
        && let Some(router) = segment.routers.iter().find(|router| router.is_managed || router.has_other_settings)
    {
        let flag = if router.is_managed { "M" } else { "O" };
        let seen = format!(
            "the router {} sends machines to DHCPv6 ({flag} flag), and no DHCPv6 server answers: firmware and installers \
             wait for one, up to a minute",
            router.address
        );
        let remedy = "start the DHCPv6 server, or clear the flag on the router";
        found.push(Finding::warning("dhcpv6_unanswered", interface, seen, remedy));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_needs_the_dhcpv6_server_that_it_names() {
        let router = |is_managed, has_other_settings| SeenRouter {
            address: "fe80::1".parse().unwrap(),
            is_managed,
            has_other_settings,
        };
        let server = |file: Option<&str>| SeenDhcpv6Server {
            address: "fe80::2".parse().unwrap(),
            boot_file: file.map(str::to_owned),
        };
        let rows: [(Vec<SeenRouter>, Vec<SeenDhcpv6Server>, &[&str]); 7] = [
            (vec![], vec![], &[]),
            (vec![router(false, false)], vec![], &[]),
            (vec![router(false, false), router(true, false)], vec![], &["dhcpv6_unanswered"]),
            (vec![router(false, true)], vec![], &["dhcpv6_unanswered"]),
            (vec![router(true, true)], vec![server(None)], &[]),
            (vec![], vec![server(None)], &[]),
            (vec![router(true, true)], vec![server(Some("tftp://[2001:db8::1]/x"))], &["ipv6_boot_server"]),
        ];
        for (routers, servers, expected) in rows {
            let segment = Ipv6State { interface: "eth1".to_owned(), routers, servers };
            let found = check_ipv6(std::slice::from_ref(&segment));
            assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), expected, "{segment:?}");
        }
    }
}
