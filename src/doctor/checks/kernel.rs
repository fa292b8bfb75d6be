//! The kernel: neighbour table, receive buffers, reverse path filter, routes, clock.

use ipnet::Ipv4Net;

use crate::doctor::Finding;

/// The kernel's neighbour table, and the machines that it must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourTable {
    /// Maximum number of entries (gc_thresh3).
    pub limit: u64,
    /// Number of machines: hosts, or addresses to lease.
    pub machines: u64,
}

/// Judges the size of the neighbour table.
pub fn check_neighbours(table: &NeighbourTable) -> Vec<Finding> {
    let NeighbourTable { limit, machines } = *table;
    if machines <= limit {
        return Vec::new();
    }
    let seen = format!(
        "the kernel keeps {limit} neighbours, and there are {machines} machines: it silently drops packets of the rest"
    );
    let remedy = format!("sysctl -w net.ipv4.neigh.default.gc_thresh3={}, and keep it in /etc/sysctl.d", 2 * machines);
    vec![Finding::warning("neighbour_table_small", "net.ipv4.neigh.default.gc_thresh3", seen, &remedy)]
}

/// The receive buffers of the server's sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveBuffers {
    /// The size that the kernel grants, in bytes.
    pub granted: u64,
    /// The size that the server asks for, in bytes.
    pub wanted: u64,
    /// Number of packets that the running server lost for want of space.
    pub lost: Option<u64>,
}

/// Judges the receive buffers.
pub fn check_buffers(buffers: &ReceiveBuffers) -> Vec<Finding> {
    let ReceiveBuffers { granted, wanted, lost } = *buffers;
    let mut found = Vec::new();
    if granted < wanted {
        let seen =
            format!("the kernel grants a receive buffer of {granted} bytes: after a power cut requests are lost");
        let remedy = format!("sysctl -w net.core.rmem_max={wanted}, or give the server CAP_NET_ADMIN");
        found.push(Finding::warning("receive_buffer_small", "net.core.rmem_max", seen, &remedy));
    }
    if let Some(lost) = lost.filter(|lost| *lost > 0) {
        let seen = format!("{lost} packets were lost since the start, because a receive buffer was full");
        let remedy = "look for what floods the interface (`bootlatch timeline`, metrics), or give the server more CPU";
        found.push(Finding::warning("requests_lost", "the running server", seen, remedy));
    }
    found
}

/// The way of packets on an interface of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilteredInterface {
    /// Name of the interface.
    pub name: String,
    /// Whether the reverse path filter is strict (rp_filter = 1).
    pub is_strict: bool,
    /// Networks of the interface's addresses.
    pub networks: Vec<Ipv4Net>,
}

/// A network behind a router that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteNetwork {
    /// The network.
    pub net: Ipv4Net,
    /// The key that names it.
    pub key: &'static str,
    /// The interface of the route to it; `None` without one.
    pub route: Option<String>,
}

/// The interfaces, and the networks behind routers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The server's interfaces.
    pub ours: Vec<FilteredInterface>,
    /// Other interfaces of this machine, with their networks.
    pub others: Vec<(String, Vec<Ipv4Net>)>,
    /// Networks behind routers.
    pub remote: Vec<RemoteNetwork>,
}

/// Judges reverse path filters and routes.
pub fn check_paths(paths: &Paths) -> Vec<Finding> {
    let unrouted = paths.remote.iter().filter(|remote| remote.route.is_none()).map(|remote| {
        let seen = format!("there is no route to {}: replies to its machines and relays cannot leave", remote.net);
        Finding::error("no_route", remote.key, seen, "add a route, or correct the key")
    });
    let strict = paths.ours.iter().filter(|one| one.is_strict);
    unrouted.chain(strict.filter_map(|one| check_filter(one, paths))).collect()
}

/// Judges the strict filter of an interface: it drops packets whose source is routed through another interface.
fn check_filter(one: &FilteredInterface, paths: &Paths) -> Option<Finding> {
    let ours = paths.ours.iter().filter(|other| other.name != one.name).map(|other| (&other.name, &other.networks));
    let mut others = ours.chain(paths.others.iter().map(|(name, networks)| (name, networks)));
    let overlaps = |net: &Ipv4Net, other: &Ipv4Net| net.contains(&other.network()) || other.contains(&net.network());
    let twin = others.find_map(|(name, networks)| {
        let net = networks.iter().find(|net| one.networks.iter().any(|own| overlaps(own, net)))?;
        Some(format!("{name} has an address in the same network {net}"))
    });
    let is_ours = |name: &str| paths.ours.iter().any(|other| other.name == name);
    let astray = paths.remote.iter().find_map(|remote| {
        let through = remote.route.as_deref().filter(|route| !is_ours(route))?;
        Some(format!("the route to {} ({}) goes through {through}", remote.net, remote.key))
    });
    let why = twin.or(astray)?;
    let seen = format!("the reverse path filter is strict, and {why}: the kernel drops machines' packets silently");
    let remedy = format!(
        "sysctl -w net.ipv4.conf.{0}.rp_filter=2 (and conf.all, if that is 1), or correct the addresses and routes",
        one.name
    );
    Some(Finding::warning("reverse_path_filter", &one.name, seen, &remedy))
}

/// The clock of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockState {
    /// Whether the kernel's clock is synchronized (adjtimex(2)).
    pub is_synchronized: bool,
    /// A file that was written in the future: the clock is behind.
    pub future_file: Option<String>,
    /// Whether clients check the dates of a certificate of the server.
    pub has_tls: bool,
}

/// Judges the clock. A clock that nobody synchronizes matters where certificates are checked; the server itself follows
/// steps of the clock.
pub fn check_clock(clock: &ClockState) -> Vec<Finding> {
    const NTP: &str = "run a time service (chrony, systemd-timesyncd), and look at `timedatectl`";
    if let Some(file) = &clock.future_file {
        let seen = format!("the clock is behind: {file} was written in its future");
        return vec![Finding::error("clock_wrong", "clock", seen, NTP)];
    }
    if !clock.is_synchronized && clock.has_tls {
        let seen = "nobody synchronizes the clock: certificates will be judged by a wrong time";
        return vec![Finding::warning("clock_unsynchronized", "clock", seen, NTP)];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.code).collect()
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_table_must_hold_every_machine() {
        for (limit, machines, is_found) in [(1024, 1024, false), (1024, 1025, true), (8192, 0, false)] {
            assert_eq!(check_neighbours(&NeighbourTable { limit, machines }).len(), usize::from(is_found));
        }
    }

    #[test]
    fn buffers_are_granted_and_enough() {
        let rows: [(u64, Option<u64>, &[&str]); 4] = [
            (16, None, &[]),
            (16, Some(0), &[]),
            (15, None, &["receive_buffer_small"]),
            (4, Some(7), &["receive_buffer_small", "requests_lost"]),
        ];
        for (granted, lost, expected) in rows {
            assert_eq!(codes(&check_buffers(&ReceiveBuffers { granted, wanted: 16, lost })), expected);
        }
    }

    #[test]
    fn a_strict_filter_matters_where_packets_come_another_way() {
        let paths = |is_strict, other: &str, route: Option<&str>| Paths {
            ours: vec![FilteredInterface { name: "eth1".to_owned(), is_strict, networks: vec![net("10.88.0.0/24")] }],
            others: vec![("eth0".to_owned(), vec![net(other)])],
            remote: vec![RemoteNetwork {
                net: net("10.99.0.0/16"),
                key: "dhcp.subnets",
                route: route.map(str::to_owned),
            }],
        };
        let rows: [(bool, &str, Option<&str>, &[&str]); 6] = [
            (true, "192.0.2.0/24", Some("eth1"), &[]),
            (true, "192.0.2.0/24", Some("eth0"), &["reverse_path_filter"]),
            (true, "10.88.0.0/16", Some("eth1"), &["reverse_path_filter"]),
            (false, "10.88.0.0/16", Some("eth0"), &[]),
            (false, "192.0.2.0/24", None, &["no_route"]),
            (true, "10.88.0.0/24", None, &["no_route", "reverse_path_filter"]),
        ];
        for (is_strict, other, route, expected) in rows {
            assert_eq!(codes(&check_paths(&paths(is_strict, other, route))), expected, "{is_strict} {other} {route:?}");
        }
    }

    #[test]
    fn a_clock_matters_where_it_is_behind_or_certificates_are_checked() {
        let rows: [(bool, bool, bool, &[&str]); 5] = [
            (true, false, true, &[]),
            (false, false, false, &[]),
            (false, false, true, &["clock_unsynchronized"]),
            (true, true, false, &["clock_wrong"]),
            (false, true, true, &["clock_wrong"]),
        ];
        for (is_synchronized, is_behind, has_tls, expected) in rows {
            let future_file = is_behind.then(|| "bootlatch.db".to_owned());
            assert_eq!(codes(&check_clock(&ClockState { is_synchronized, future_file, has_tls })), expected);
        }
    }
}
