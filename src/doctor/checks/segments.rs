//! The segments: other boot servers, and whether anybody gives addresses.

use std::net::Ipv4Addr;

use crate::doctor::Finding;

/// The DHCP role of the server on a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentMode {
    /// Next to another DHCP server.
    Proxy,
    /// The DHCP server.
    Server,
}

/// Another server on a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenServer {
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it announces boot files.
    pub is_boot_server: bool,
    /// Whether it gives addresses.
    pub gives_addresses: bool,
}

/// A segment, as the running server hears it or as a probe found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentState {
    /// Name of the interface.
    pub interface: String,
    /// The role of the server there.
    pub mode: SegmentMode,
    /// Whether the running server leaves machines to another boot server, or will once it runs.
    pub stands_down: bool,
    /// The other servers.
    pub servers: Vec<SeenServer>,
}

/// Judges the segments.
pub fn check_segments(segments: &[SegmentState]) -> Vec<Finding> {
    segments.iter().flat_map(check_segment).collect()
}

fn check_segment(segment: &SegmentState) -> Vec<Finding> {
    let interface = &segment.interface;
    let mut found = Vec::new();
    for server in &segment.servers {
        let address = server.address;
        if server.is_boot_server && segment.stands_down {
            let seen = format!(
                "{address} also tells machines what to boot, and this server leaves them to it (on_other_server)"
            );
            let remedy = "switch the other server off, or set dhcp.on_other_server = \"warn\"";
            found.push(Finding::error("other_boot_server", interface, seen, remedy));
        } else if server.is_boot_server {
            let seen = format!("{address} also tells machines what to boot: some of them go there");
            let remedy =
                "switch its boot service off (WDS, FOG, dnsmasq's pxe-service, option 60 or 67 of the DHCP server)";
            found.push(Finding::warning("other_boot_server", interface, seen, remedy));
        }
        if segment.mode == SegmentMode::Server && server.gives_addresses {
            let seen = format!("{address} gives addresses too, and dhcp.mode is \"server\": machines take either's");
            let remedy = "switch one of the two off, or set dhcp.mode = \"proxy\"";
            found.push(Finding::error("other_dhcp_server", interface, seen, remedy));
        } else if segment.mode == SegmentMode::Server && !server.is_boot_server {
            let seen = format!(
                "{address} is a DHCP server too, without an address for unknown machines: it may have some for those that \
                 it knows"
            );
            let remedy = "switch one of the two off, or let the other one answer nobody";
            found.push(Finding::warning("other_dhcp_server", interface, seen, remedy));
        }
    }
    if segment.mode == SegmentMode::Proxy && !segment.servers.iter().any(|server| server.gives_addresses) {
        let silent: Vec<String> =
            segment.servers.iter().filter(|one| !one.is_boot_server).map(|one| one.address.to_string()).collect();
        let (seen, remedy) = match silent.as_slice() {
            [] => (
                "nobody offers addresses, and in proxy mode this server gives none (a DHCP server that answers known \
                 machines only is not seen)"
                    .to_owned(),
                "start the DHCP server of this network, or set dhcp.mode = \"server\" with [[dhcp.subnets]]",
            ),
            silent => (
                format!(
                    "{} is a DHCP server and offered no address to an unknown machine, and in proxy mode this server gives \
                     none: only machines that it knows boot",
                    silent.join(", ")
                ),
                "let the DHCP server give addresses to the machines, or look at whether its pool is used up",
            ),
        };
        found.push(Finding::warning("no_address_server", interface, seen, remedy));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_boot_server_and_one_that_gives_addresses() {
        use SegmentMode::{Proxy, Server};
        let server = |is_boot_server, gives_addresses| SeenServer {
            address: [10, 0, 0, 1].into(),
            is_boot_server,
            gives_addresses,
        };
        let (plain, proxy, full) = (server(false, true), server(true, false), server(true, true));
        let silent = server(false, false);
        let rows: [(SegmentMode, bool, Vec<SeenServer>, &[&str]); 11] = [
            (Proxy, false, vec![silent.clone()], &["no_address_server"]),
            (Proxy, false, vec![silent.clone(), plain.clone()], &[]),
            (Server, false, vec![silent], &["other_dhcp_server"]),
            (Proxy, false, vec![plain.clone()], &[]),
            (Proxy, false, vec![], &["no_address_server"]),
            (Server, false, vec![], &[]),
            (Server, false, vec![plain.clone()], &["other_dhcp_server"]),
            (Proxy, false, vec![plain.clone(), proxy.clone()], &["other_boot_server"]),
            (Proxy, true, vec![plain, proxy.clone()], &["other_boot_server"]),
            (Proxy, false, vec![proxy], &["other_boot_server", "no_address_server"]),
            (Server, false, vec![full], &["other_boot_server", "other_dhcp_server"]),
        ];
        for (mode, stands_down, servers, expected) in rows {
            let segment = SegmentState { interface: "eth1".to_owned(), mode, stands_down, servers };
            let found = check_segments(std::slice::from_ref(&segment));
            assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), expected, "{segment:?}");
        }
    }
}
