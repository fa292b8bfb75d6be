//! The other servers on the wire: as the running server hears them, or as a probe finds them.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::config::{Config, DhcpMode, OnOtherServer};
use crate::dhcp::rogue_servers::{ObservedServer, ServerRole};
use crate::dhcp::serve::ServerSearch;
use crate::doctor::Looked;
use crate::doctor::checks::segments::{SeenServer, SegmentMode, SegmentState};

use super::server::RunningServer;
use super::{NEEDS_ROOT, UsableInterface, failed, is_root};

/// Time for answers to a probe. DHCP servers probe an address for up to 3 s before they offer it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval in which answers are looked for, and time after which a probe is sent again.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const REPEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Observes the segments with DHCP.
pub fn segments(
    config: &Config,
    usable: &[UsableInterface],
    server: Result<Option<&RunningServer>, &String>,
    probe: bool,
) -> Looked<Vec<SegmentState>> {
    let mut found = Vec::new();
    for one in usable {
        let mode = match one.mode {
            DhcpMode::Off => continue,
            DhcpMode::Proxy => SegmentMode::Proxy,
            DhcpMode::Server => SegmentMode::Server,
        };
        let would_stand_down = config.dhcp.on_other_server == OnOtherServer::StandDown;
        let (mut servers, stands_down) = match (server, probe) {
            (Ok(Some(server)), _) => heard(server, &one.name)?,
            (_, true) => (Vec::new(), would_stand_down),
            (Err(reason), false) => return Err(reason.clone()),
            (Ok(None), false) => {
                return Err("the server does not run; --probe asks with a DHCPDISCOVER".to_owned());
            }
        };
        if probe {
            servers.extend(search(one, config.dhcp.port)?);
        }
        found.push(SegmentState { interface: one.name.clone(), mode, stands_down, servers: merged(servers) });
    }
    Ok(found)
}

/// Returns what the running server has heard on an interface, and whether it stands down there.
fn heard(server: &RunningServer, interface: &str) -> Looked<(Vec<SeenServer>, bool)> {
    let list = server.interfaces.as_ref().map_err(Clone::clone)?;
    let all = list["items"].as_array().into_iter().flatten();
    let own: Vec<&Value> = all.filter(|item| item["name"] == interface).collect();
    let stands_down = own.iter().any(|item| item["standsDown"] == true);
    let servers = own.into_iter().filter_map(|item| item["servers"].as_array()).flatten();
    let seen = |one: &Value| {
        let address: Ipv4Addr = one["address"].as_str()?.parse().ok()?;
        let (is_boot_server, gives_addresses) = (one["role"] == "boot_server", one["givesAddresses"] == true);
        Some(SeenServer { address, is_boot_server, gives_addresses })
    };
    Ok((servers.filter_map(seen).collect(), stands_down))
}

/// Asks for servers on the wire, and waits for their answers.
fn search(interface: &UsableInterface, port: u16) -> Looked<Vec<SeenServer>> {
    if !is_root() {
        return Err(format!("--probe {NEEDS_ROOT}"));
    }
    let wrong = |error: std::io::Error| failed(&interface.name, &error);
    let search = ServerSearch::open(&interface.name, interface.address, port).map_err(wrong)?;
    let begin = Instant::now();
    let (mut found, mut asked) = (Vec::new(), None::<Instant>);
    while begin.elapsed() < ANSWER_TIMEOUT {
        if asked.is_none_or(|at| at.elapsed() >= REPEAT_INTERVAL) {
            search.ask(uuid::Uuid::new_v4().as_fields().0).map_err(wrong)?;
            asked = Some(Instant::now());
        }
        found.extend(search.answered().iter().map(seen));
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(found)
}

fn seen(server: &ObservedServer) -> SeenServer {
    let is_boot_server = server.role == ServerRole::BootServer;
    SeenServer { address: server.server, is_boot_server, gives_addresses: server.gives_addresses }
}

/// Joins what was seen of each server.
fn merged(mut servers: Vec<SeenServer>) -> Vec<SeenServer> {
    servers.sort_by_key(|server| server.address);
    servers.dedup_by(|one, kept| {
        let is_same = one.address == kept.address;
        kept.is_boot_server |= is_same && one.is_boot_server;
        kept.gives_addresses |= is_same && one.gives_addresses;
        is_same
    });
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_of_a_server_is_joined() {
        let server = |last, is_boot_server, gives_addresses| SeenServer {
            address: [10, 0, 0, last].into(),
            is_boot_server,
            gives_addresses,
        };
        let joined = merged(vec![server(2, true, false), server(1, false, true), server(2, false, true)]);
        assert_eq!(joined, [server(1, false, true), server(2, true, true)]);
    }
}
