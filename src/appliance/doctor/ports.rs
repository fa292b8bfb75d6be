//! Who has the ports of the configuration.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::config::{Config, DhcpMode, DhcpSocket};
use crate::dhcp;
use crate::doctor::Looked;
use crate::doctor::checks::ports::{PortHolder, PortState};
use crate::tftp::serve::{Listener, PortUse};

use super::super::listeners::bind_tcp;
use super::{NEEDS_ROOT, UsableInterface, is_root};

/// State of a listening TCP socket in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";
/// Number of a socket without a process, as of one that is closing.
const NO_INODE: u64 = 0;

/// A port of the configuration.
struct WantedPort {
    text: String,
    is_udp: bool,
    /// The address; unspecified for DHCP, which is bound to the interface.
    address: Ipv4Addr,
    port: u16,
    /// The interface of a UDP port.
    interface: String,
    is_dhcp: bool,
    /// Whether the server can do without it: it then reads a copy of the packets of the program that has the port.
    is_shared: bool,
}

/// Observes the ports. While no server runs each is bound as the server does, and given back.
pub fn observe(config: &Config, usable: &[UsableInterface], is_running: bool) -> Looked<Vec<PortState>> {
    if !is_root() {
        return Err(NEEDS_ROOT.to_owned());
    }
    let sockets = Sockets::read();
    let state = |wanted: WantedPort| {
        let (holders, bound) = (sockets.holders(&wanted), (!is_running).then(|| bind(&wanted, config)));
        let is_free = matches!(bound, Some(Ok(()))) || holders.is_empty();
        (is_free || !wanted.is_shared).then_some(PortState { holders, bound, port: wanted.text })
    };
    Ok(wanted(config, usable).into_iter().filter_map(state).collect())
}

/// Returns the ports that the server binds.
fn wanted(config: &Config, usable: &[UsableInterface]) -> Vec<WantedPort> {
    let mut all = Vec::new();
    for one in usable {
        let port = |is_udp: bool, address: Ipv4Addr, port: u16, key: &str| {
            let protocol = if is_udp { "UDP" } else { "TCP" };
            let at = if address.is_unspecified() { one.name.clone() } else { address.to_string() };
            let text = format!("{protocol} {port} at {at} ({key})");
            let (interface, is_dhcp) = (one.name.clone(), address.is_unspecified());
            let is_shared = is_dhcp && one.mode == DhcpMode::Proxy && config.dhcp.socket != DhcpSocket::Udp;
            WantedPort { text, is_udp, address, port, interface, is_dhcp, is_shared }
        };
        let has_port = one.mode == DhcpMode::Server || config.dhcp.socket != DhcpSocket::Packet;
        if one.mode != DhcpMode::Off && has_port {
            let dhcp = [(config.dhcp.port, "dhcp.port"), (config.dhcp.proxy_port, "dhcp.proxy_port")];
            all.extend(dhcp.map(|(number, key)| port(true, Ipv4Addr::UNSPECIFIED, number, key)));
        }
        all.push(port(true, one.address, config.tftp.port, "tftp.port"));
        all.push(port(false, one.address, config.http_port, "http_port"));
        all.push(port(false, one.address, config.iscsi.port, "iscsi.port"));
    }
    if let Some(SocketAddr::V4(listen)) = config.api.listen {
        let text = format!("TCP {} at {} (api.listen)", listen.port(), listen.ip());
        let (address, port) = (*listen.ip(), listen.port());
        all.push(WantedPort {
            text,
            is_udp: false,
            address,
            port,
            interface: String::new(),
            is_dhcp: false,
            is_shared: false,
        });
    }
    all
}

/// Binds a port as the server does, and gives it back.
fn bind(wanted: &WantedPort, config: &Config) -> Result<(), String> {
    let at = SocketAddr::from((wanted.address, wanted.port));
    match (wanted.is_udp, wanted.is_dhcp) {
        (true, true) => dhcp::serve::try_port(&wanted.interface, wanted.port).map_err(|error| error.to_string()),
        (true, false) => {
            let bound = Listener::bind(at, Some(&wanted.interface), PortUse::Single);
            bound.map(drop).map_err(|error| error.to_string())
        }
        (false, _) => bind_tcp(at, "", config).map(drop).map_err(|error| error.root_cause().to_string()),
    }
}

/// The bound sockets of this network namespace, and the processes that have them.
struct Sockets {
    udp: Vec<BoundSocket>,
    tcp: Vec<BoundSocket>,
    holders: HashMap<u64, PortHolder>,
}

/// A bound socket: address, port and inode. An IPv6 socket on any address takes the port of IPv4, too.
struct BoundSocket {
    address: Option<Ipv4Addr>,
    port: u16,
    inode: u64,
}

impl Sockets {
    fn read() -> Self {
        let table = |names: [&str; 2]| {
            let texts = names.map(|name| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
            texts.iter().flat_map(|text| sockets(text)).collect()
        };
        Self { udp: table(["udp", "udp6"]), tcp: table(["tcp", "tcp6"]), holders: holders() }
    }

    /// Returns the programs that have a port.
    fn holders(&self, wanted: &WantedPort) -> Vec<PortHolder> {
        let all = if wanted.is_udp { &self.udp } else { &self.tcp };
        let is_here = |socket: &&BoundSocket| {
            let is_address = wanted.address.is_unspecified()
                || socket.address.is_some_and(|address| address.is_unspecified() || address == wanted.address);
            socket.port == wanted.port && is_address
        };
        let unknown = PortHolder { program: None, pid: None };
        let holder = |socket: &BoundSocket| self.holders.get(&socket.inode).cloned().unwrap_or_else(|| unknown.clone());
        let mut found: Vec<PortHolder> = all.iter().filter(is_here).map(holder).collect();
        found.sort_by_key(|holder| holder.pid);
        found.dedup();
        found
    }
}

/// Returns the bound sockets of a table in `/proc/net`; of TCP the listening ones.
fn sockets(table: &str) -> Vec<BoundSocket> {
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, port) = columns.get(1)?.split_once(':')?;
        let (state, remote) = (*columns.get(3)?, *columns.get(2)?);
        // Of UDP only what has no peer; of TCP only what listens. Both have no remote port.
        let is_open = remote.ends_with(":0000") && [TCP_LISTEN, "07"].contains(&state);
        let inode = columns.get(9)?.parse().ok().filter(|inode| *inode != NO_INODE)?;
        let (address, port) = (parse_address(address), u16::from_str_radix(port, 16).ok()?);
        is_open.then_some(BoundSocket { address, port, inode })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Parses an address of `/proc/net`: words in the order of this machine. `None` for an address of IPv6 alone.
fn parse_address(text: &str) -> Option<Ipv4Addr> {
    let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(text)?)),
        32 if text.bytes().all(|digit| digit == b'0') => Some(Ipv4Addr::UNSPECIFIED),
        32 => {
            let [a, b, c, d] = [0, 8, 16, 24].map(|at| text.get(at..at + 8).and_then(word));
            let octets: Vec<u8> = [a?, b?, c?, d?].concat();
            std::net::Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_ipv4_mapped()
        }
        _ => None,
    }
}

/// Returns the process that has each socket.
fn holders() -> HashMap<u64, PortHolder> {
    let mut found = HashMap::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let program = std::fs::read_to_string(process.path().join("comm")).ok().map(|name| name.trim().to_owned());
        for inode in inodes(&process.path()) {
            found.entry(inode).or_insert_with(|| PortHolder { program: program.clone(), pid: Some(pid) });
        }
    }
    found
}

/// Returns the sockets of a process.
fn inodes(process: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let inode = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_found_in_the_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0200580A:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0\n\
             1: 0200580A:0050 6500580A:C350 01 00000000:00000000 00:00000000 00000000     0        0 4343 1 0\n\
             2: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4444 2 0\n\
             3: 00000000:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0\n\
             4: 00000000000000000000000000000000:0045 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 4545 2 0\n";
        let found: Vec<_> = sockets(table).into_iter().map(|one| (one.address.unwrap(), one.port, one.inode)).collect();
        if cfg!(target_endian = "little") {
            let expected = [([10, 88, 0, 2], 80, 4242), ([0, 0, 0, 0], 67, 4444), ([0, 0, 0, 0], 69, 4545)];
            assert_eq!(found, expected.map(|(address, port, inode)| (Ipv4Addr::from(address), port, inode)));
        }
        assert_eq!(parse_address("x"), None);
    }
}
